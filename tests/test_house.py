"""The house rules: who may import whom, and that the guards of the test suite hold."""

from __future__ import annotations

import ast
import functools
import os
import random
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.builders import make_key_id, make_secret

from firedamp.scanner.candidates import Located
from firedamp.scanner.detect import detect
from firedamp.scanner.prefilter import Prefilter

ROOT = Path(__file__).parent.parent
MAY_IMPORT = {
    "storage": {"storage"},
    "scanner": {"scanner", "storage"},
    "canaries": {"canaries", "storage"},
    "service": {"service", "scanner", "canaries", "storage"},
}


def modules(folder: str) -> list[Path]:
    found = sorted((ROOT / folder).rglob("*.py"))
    assert len(found) > 10, f"{folder} is not where it was"
    return found


def users(*libraries: str) -> set[str]:
    """Name the modules that import one of these libraries."""
    return {
        path.relative_to(ROOT).as_posix()
        for folder in MAY_IMPORT
        for path in modules(folder)
        if {name.split(".")[0] for name in imports(path)} & {*libraries}
    }


@functools.cache
def imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            names.add(node.module or "")
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


@pytest.mark.parametrize("folder", MAY_IMPORT)
def test_imports_go_down_the_house_only(folder: str) -> None:
    for path in modules(folder):
        for name in imports(path):
            parts = name.split(".")
            if parts[0] == "firedamp" and len(parts) > 1:
                assert parts[1] in MAY_IMPORT[folder], f"{path.relative_to(ROOT)} imports {name}"


def test_records_use_the_standard_library_and_what_masks_secrets_only() -> None:
    for name in imports(ROOT / "storage" / "records.py"):
        top = name.split(".")[0]
        assert top in sys.stdlib_module_names or name.startswith(
            ("firedamp.storage.secret", "firedamp.storage.masking")
        ), name


def test_only_schedule_imports_apscheduler() -> None:
    assert users("apscheduler") == {"service/schedule.py"}


def test_sql_stands_in_storage_only() -> None:
    others = {"scanner/documents.py", "service/doctor.py"}  # the databases of others, and the version of SQLite
    assert {name for name in users("sqlite_utils", "sqlite3") if not name.startswith("storage/")} == others


def test_what_the_documents_name_is_there() -> None:
    named = 0
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *(ROOT / "deploy").rglob("*.md")):
        folder = ""
        for name in re.findall(r"`([\w./]+\.py)\b", page.read_text(encoding="utf-8")):
            folder = name.rpartition("/")[0] or folder  # a name alone stands beside the one before
            assert (ROOT / folder / name.rpartition("/")[2]).is_file(), f"{page.name} names {folder}/{name}"
            named += 1
    assert named > 40


def test_make_scan_without_a_target_leaves_the_choice_to_the_program() -> None:
    asked = {name: value for name, value in os.environ.items() if name != "TARGET"}
    for given, said in (((), "scan"), (("TARGET=/a b",), 'scan "/a b"'), (("TARGET=",), 'scan ""')):
        told = subprocess.run(
            ["make", "-n", "-C", str(ROOT), "scan", *given], capture_output=True, text=True, check=True, env=asked
        )
        assert f".venv/bin/firedamp {said} || test $? -eq 1" in " ".join(told.stdout.split())


HEAVY = {"numba", "boto3", "botocore", "apprise", "apscheduler", "git", "rich"}
"""Libraries that neither a scan of a folder nor one of what is staged may load before there is something to show."""
DETECTION = {"numpy", "hyperscan", "sqlite_utils", "regex", *(f"firedamp.scanner.{name}" for name in (
    "detect", "pairing", "decode", "forms", "containers", "archives", "git", "packs", "idset", "ownkeys",
))} | {"firedamp.service.config", "firedamp.service.render", "firedamp.service.sarif"}  # fmt: skip
"""What is loaded only when bytes are read, or a repository is met, or findings are shown."""

OPENERS = {"tarfile", "plistlib", *(f"firedamp.scanner.{name}" for name in ("containers", "archives", "mail"))}
"""What opens containers: only the worker does."""


def loaded(code: str, *, cwd: Path | None = None) -> set[str]:
    code += "\nimport sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=cwd)
    return set(done.stdout.split())


def test_a_scan_starts_without_what_it_may_never_need() -> None:
    start = loaded("import firedamp.service.cli, firedamp.service.scanning")
    assert start & (HEAVY | DETECTION) == set()


def test_before_a_commit_nothing_is_loaded_that_takes_longer_than_reading_it(
    tmp_path: Path, rng: random.Random
) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    (tmp_path / "a.txt").write_text("nothing\n", encoding="utf-8")
    subprocess.run(["git", "-C", str(tmp_path), "add", "a.txt"], check=True)
    run = "from firedamp.service import cli; assert cli.main(['scan', '--staged', '--offline', '--db', 'x.db']) == 0"
    # What is looked for is compiled once; the tables are made without sqlite-utils.
    assert "sqlite_utils" not in loaded(run, cwd=tmp_path)
    modules = loaded(run, cwd=tmp_path)
    assert "hyperscan" in modules, "something was read"
    detection = {"firedamp.scanner.detect", "firedamp.scanner.forms", "firedamp.scanner.git"}
    assert modules & (HEAVY | detection | {"numpy", "multiprocessing"}) == set()
    (tmp_path / "b.ini").write_text(f"id = {make_key_id(rng)}\nsecret = {make_secret(rng)}\n", encoding="utf-8")
    subprocess.run(["git", "-C", str(tmp_path), "add", "b.ini"], check=True)
    modules = loaded(run.replace("== 0", "== 1"), cwd=tmp_path)
    assert "firedamp.scanner.detect" in modules
    assert modules & (HEAVY | {"numpy", "multiprocessing"}) == set(), "what finds a key need not load slowly either"


def test_a_scan_of_an_unchanged_folder_loads_no_detection(tmp_path: Path) -> None:
    tree, database = tmp_path / "tree", tmp_path / "x.db"
    tree.mkdir()
    (tree / "plain.txt").write_text("nothing\n", encoding="utf-8")
    time.sleep(0.2)  # a file that just changed is not remembered
    run = f"from firedamp.service import cli; cli.main(['scan', {str(tree)!r}, '--offline', '--db', {str(database)!r}])"
    assert "sqlite_utils" not in loaded(run), "what is looked for was compiled, the tables were made"
    database.unlink()
    first = loaded(run)
    assert "hyperscan" in first
    assert first & (HEAVY | OPENERS | {"numpy", "email.utils", "firedamp.scanner.detect"}) == set()
    wanted = DETECTION - {"firedamp.service.config", "firedamp.service.render"}
    assert loaded(run) & wanted == set()


def test_the_worker_starts_without_numpy(cache: Path) -> None:
    folder = str(cache / "firedamp")  # where a run of all tests has compiled it already
    ready = f"import firedamp.scanner.worker as worker; assert not worker.prefilter({folder!r})(b'x' * 300_000)"
    loaded(ready)  # what is looked for is compiled once, with numba
    assert "numpy" not in loaded(ready)


def test_no_scanner_trips_on_this_checkout(cache: Path) -> None:
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-co", "--exclude-standard", "-z"], capture_output=True, check=True
    )
    files = [ROOT / name for name in filter(None, listed.stdout.decode().split("\0"))]
    assert len(files) > 200
    prefilter = Prefilter(cache / "firedamp")
    for path in files:
        if path.is_file() and not path.is_symlink():
            for each in detect(path.read_bytes(), prefilter):
                assert not isinstance(each, Located) or each.credential.example, f"{path}:{each.line}"


def test_the_suite_cannot_reach_the_network() -> None:
    with socket.socket() as outside, pytest.raises(AssertionError, match=r"192\.0\.2\.1"):
        outside.connect(("192.0.2.1", 80))
    with pytest.raises(socket.gaierror):
        socket.getaddrinfo("sts.amazonaws.com", 443)


def test_the_suite_has_no_home_and_no_aws_credentials() -> None:
    assert Path.home() != Path(os.path.expanduser("~root"))  # noqa: PTH111
    assert not (Path.home() / ".aws").exists()
    assert "AWS_ACCESS_KEY_ID" not in os.environ
