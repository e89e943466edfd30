"""The house rules: who may import whom, and that the guards of the test suite hold."""

from __future__ import annotations

import ast
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

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
    for path in (ROOT / folder).rglob("*.py"):
        for name in imports(path):
            parts = name.split(".")
            if parts[0] == "firedamp" and len(parts) > 1:
                assert parts[1] in MAY_IMPORT[folder], f"{path.relative_to(ROOT)} imports {name}"


def test_records_use_the_standard_library_only() -> None:
    for name in imports(ROOT / "storage" / "records.py"):
        top = name.split(".")[0]
        assert top in sys.stdlib_module_names or name.startswith("firedamp.storage.secret"), name


def test_only_schedule_imports_apscheduler() -> None:
    users = {
        path.relative_to(ROOT).as_posix()
        for folder in MAY_IMPORT
        for path in (ROOT / folder).rglob("*.py")
        if any(name.split(".")[0] == "apscheduler" for name in imports(path))
    }
    assert users <= {"service/schedule.py"}


def test_sql_stands_in_storage_only() -> None:
    for folder in ("scanner", "canaries", "service"):
        for path in (ROOT / folder).rglob("*.py"):
            assert "sqlite_utils" not in {name.split(".")[0] for name in imports(path)}, path


def test_a_staged_scan_imports_nothing_heavy() -> None:
    code = (
        "import sys, firedamp.service.cli, firedamp.service.scanning\n"
        "print(*sorted({'numba', 'boto3', 'botocore', 'apprise', 'apscheduler', 'git'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_no_scanner_trips_on_this_checkout(tmp_path: Path) -> None:
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-co", "--exclude-standard", "-z"], capture_output=True, check=True
    )
    files = [ROOT / name for name in filter(None, listed.stdout.decode().split("\0"))]
    prefilter = Prefilter(tmp_path)
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
