"""The wheel: built from this checkout, installed elsewhere, and it scans."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import venv
from pathlib import Path

import pytest
from tests.builders import make_key_id, make_secret

ROOT = Path(__file__).parent.parent


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    out = tmp_path / "dist"
    # The checkout is not built in: what git ignores there must not get into the wheel, and nothing is left behind.
    source = tmp_path / "source"
    names = subprocess.run(
        ["git", "-c", f"safe.directory={ROOT}", "-C", str(ROOT), "ls-files", "-co", "--exclude-standard", "-z"],
        capture_output=True, check=True,
        env={name: value for name, value in os.environ.items() if not name.startswith("GIT_")},
    ).stdout.decode()  # fmt: skip
    for name in filter(None, names.split("\0")):
        place = source / name
        place.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_symlink():
            place.symlink_to((ROOT / name).readlink())
        elif (ROOT / name).exists():
            place.write_bytes((ROOT / name).read_bytes())
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(source)],
        check=True, capture_output=True,
    )  # fmt: skip
    (built,) = out.iterdir()
    return built


def test_an_installed_wheel_scans(wheel: Path, tmp_path: Path, rng: random.Random) -> None:
    place = tmp_path / "site"
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", place, wheel],
        check=True,
    )  # fmt: skip
    leak = tmp_path / "leak"
    leak.write_text(f"aws_access_key_id={make_key_id(rng)}\naws_secret_access_key={make_secret(rng)}\n")
    code = (
        "import sys, firedamp.service.cli as cli\n"
        f"assert cli.__file__.startswith({str(place)!r}), cli.__file__\n"
        f"sys.exit(cli.main(['scan', {str(leak)!r}, '--offline', '--format', 'jsonl']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(place)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert (place / "bin" / "firedamp").exists()
    assert not (place / "tests").exists()


@pytest.mark.slow
def test_a_wheel_installs_with_its_dependencies_from_the_registry(
    wheel: Path, tmp_path: Path, rng: random.Random
) -> None:
    place = tmp_path / "venv"
    venv.create(place, with_pip=True)
    python = place / "bin" / "python"
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run([python, "-m", "pip", "install", "--quiet", str(wheel)], check=True, env=clean)
    leak = tmp_path / "leak"
    leak.write_text(f"aws_access_key_id={make_key_id(rng)}\naws_secret_access_key={make_secret(rng)}\n")
    done = subprocess.run(
        [place / "bin" / "firedamp", "scan", str(leak), "--offline"], cwd=tmp_path, env=clean, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "AKIA" in done.stdout
