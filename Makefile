# make scan [TARGET=…]   find AWS keys, by default in your home directory
# make test              format, lint, types, tests with coverage     make test-all   the slow ones too
# make bench [REPOS=… TREE=…]   measure                                      make demo       the whole story, no account needed
PYTHON ?= python3
BIN := .venv/bin
WORKERS := --numprocesses=logical --dist=worksteal

.PHONY: scan test test-all bench demo clean

.venv/ready: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "firedamp needs Python 3.11 or newer")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

.venv/ready-dev: .venv/ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --group dev
	touch $@

# 0 is clean, 1 says that keys were found: both are a scan that worked. Without a target the known places come first.
scan: .venv/ready
	@$(BIN)/firedamp scan $(if $(filter undefined,$(origin TARGET)),,"$(TARGET)") $(ARGS) || test $$? -eq 1

test: .venv/ready-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest $(WORKERS) -m "not slow" --cov --cov-report=term:skip-covered

.venv-second/ready: pyproject.toml
	$(PYTHON) -m venv .venv-second
	.venv-second/bin/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	.venv-second/bin/python -m pip install --quiet --disable-pip-version-check --group second-opinion
	touch $@

test-all: .venv/ready-dev .venv-second/ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest $(WORKERS) --cov --cov-report=term:skip-covered

bench: .venv/ready-dev
	$(BIN)/python -m bench $(REPOS) $(TREE)
	$(BIN)/python -m bench.pairing
	$(BIN)/python -m bench.verify

demo: .venv/ready-dev
	$(BIN)/firedamp demo

clean:
	rm -rf .venv .venv-second .coverage* .mypy_cache .pytest_cache .ruff_cache .hypothesis dist
