"""What this user may not read is failed and named, and the rest is found: run as a user who is not root."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.repositories import Repository, leak

Outcome = tuple[int, set[str], dict[str, str]]
Try = Callable[[Path], Outcome]

_OBEY = """
for entry in /*; do
    if [ -L "$entry" ]; then
        cp -P "$entry" "$0/"
    elif [ -d "$entry" ]; then
        mkdir "$0$entry"
        mount --rbind "$entry" "$0$entry"
    fi
done
exec chroot "$0" setpriv --bounding-set=-dac_override,-dac_read_search "$@"
"""


def obedient(*command: str) -> subprocess.CompletedProcess[str]:
    """Run a command that obeys file modes, though this user be root.

    It is root without the capabilities that pass modes by, and as it now needs the right to pass through `/`, which not
    every machine gives, it gets a `/` of its own that holds what ours does. All of it ends with the process.
    """
    if os.geteuid() != 0:
        return subprocess.run(command, capture_output=True, text=True, check=False)
    with tempfile.TemporaryDirectory(prefix="firedamp-root-") as root:
        Path(root).chmod(0o755)
        apart = ("unshare", "--mount", "--propagation", "private", "sh", "-e", "-c", _OBEY, root)
        return subprocess.run([*apart, *command], capture_output=True, text=True, check=False)


@pytest.fixture(name="scan")
def scan_(tmp_path: Path) -> Try:
    """Return a function that scans: exit status, the key ids found, and what failed with its reason."""
    closed = tmp_path / "closed"
    closed.write_text("")
    closed.chmod(0)
    if "Permission denied" not in obedient("cat", str(closed)).stderr:
        pytest.skip("here every process of this user may read everything")

    def scan(target: Path) -> Outcome:
        firedamp = (sys.executable, "-m", "firedamp.service.cli")
        done = obedient(*firedamp, "scan", str(target), "--offline", "--format", "jsonl")
        assert done.stdout, done.stderr
        *findings, last = [json.loads(line) for line in done.stdout.splitlines()]
        failed = {item["what"]: item["why"] for item in last["summary"]["failed"]["items"]}
        return done.returncode, {finding["access_key_id"] for finding in findings}, failed

    return scan


def test_unreadable_files_and_folders_are_failed_until_they_can_be_read(
    tmp_path: Path, rng: random.Random, scan: Try
) -> None:
    tree, closed = tmp_path / "tree", ("secret.env", "sub", "archive.zip", "other/deep")
    (tree / "sub").mkdir(parents=True)
    (tree / "other" / "deep").mkdir(parents=True)
    key_id, text = leak(rng)
    (tree / "open.env").write_text(text)
    for name in ("secret.env", "archive.zip", "sub/file", "other/deep/file"):
        (tree / name).write_text(leak(rng)[1])
    for name in closed:
        (tree / name).chmod(0)
    for _ in ("first", "again"):
        assert scan(tree) == (2, {key_id}, {str(tree / name): "Permission denied" for name in closed})
    for name in closed:
        (tree / name).chmod(0o755)
    status, found, failed = scan(tree)
    assert (status, len(found), failed) == (1, 5, {})


def test_a_key_in_a_folder_that_cannot_be_read_any_more_is_neither_there_nor_gone(
    tmp_path: Path, rng: random.Random, scan: Try
) -> None:
    tree = tmp_path / "tree"
    keys = {name: leak(rng) for name in ("a/closed", "b", "c")}
    (tree / "a").mkdir(parents=True)
    for name, (_, text) in keys.items():
        (tree / name).write_text(text)
    assert scan(tree)[1] == {key_id for key_id, _ in keys.values()}
    for name in ("a", "b"):
        (tree / name).chmod(0)
    for _ in ("first", "again"):
        assert scan(tree)[:2] == (2, {keys["c"][0]})
    for name in ("a", "b"):
        (tree / name).chmod(0o755)
    (tree / "b").write_text("clean")
    assert scan(tree)[:2] == (1, {keys["a/closed"][0], keys["c"][0]})


@pytest.mark.parametrize(
    "closed",
    [
        ("config", "logs", "hooks", "lfs/objects", "modules", "objects/ab", "refs/tags", "packed-refs"),
        ("objects/info", "objects/pack"),
    ],
)
def test_unreadable_parts_of_a_repository_are_failed(
    tmp_path: Path, rng: random.Random, scan: Try, closed: tuple[str, ...]
) -> None:
    repository = Repository(tmp_path / "r", bare=True)
    leaks = [leak(rng) for _ in range(20)]
    for _, text in leaks:
        repository.git("hash-object", "-w", "--stdin", given=text.encode())
    Repository(tmp_path / "r" / "modules" / "sub", bare=True)
    (tmp_path / "r" / "packed-refs").touch()
    for name in closed:
        part = tmp_path / "r" / name
        if not part.exists():
            part.mkdir(parents=True)
        part.chmod(0)
    status, found, failed = scan(tmp_path / "r")
    assert (status, found) == (2, {key_id for key_id, _ in leaks})
    for name in closed:
        assert [what for what in failed if str(tmp_path / "r" / name) in what], name


@pytest.mark.parametrize("what", ["pack", "idx", "loose"])
def test_unreadable_objects_are_failed_until_they_can_be_read(
    tmp_path: Path, rng: random.Random, scan: Try, what: str
) -> None:
    repository = Repository(tmp_path / "r")
    repository.commit("packed", {"packed": leak(rng)[1]})
    repository.git("repack", "-q", "-a", "-d")
    keys = [leak(rng) for _ in range(2)]
    names = [repository.git("hash-object", "-w", "--stdin", given=text.encode()) for _, text in keys]
    objects = tmp_path / "r" / ".git" / "objects"
    hidden = [objects / names[1][:2] / names[1][2:]] if what == "loose" else list(objects.glob(f"pack/*.{what}"))
    for path in hidden:
        path.chmod(0)
    time.sleep(0.2)
    for _ in ("first", "again"):
        status, found, failed = scan(tmp_path / "r" / ".git")
        assert status == 2
        assert keys[0][0] in found
        assert len(found) == 2
        assert failed
    for path in hidden:
        path.chmod(0o644)
    status, found, failed = scan(tmp_path / "r" / ".git")
    assert (status, len(found), failed) == (1, 3, {})
    assert hidden


@pytest.mark.parametrize("name", ["HEAD", "packed-refs"])
def test_unreadable_files_of_a_repository_are_failed_until_they_can_be_read(
    tmp_path: Path, rng: random.Random, scan: Try, name: str
) -> None:
    repository = Repository(tmp_path / "r")
    key_id, text = leak(rng)
    repository.commit("leak", {"leak": text})
    repository.git("pack-refs", "--all")
    hidden = tmp_path / "r" / ".git" / name
    hidden.chmod(0)
    time.sleep(0.2)
    for _ in ("first", "again"):
        assert scan(tmp_path / "r" / ".git") == (2, {key_id}, {str(hidden): "Permission denied"})
    hidden.chmod(0o644)
    assert scan(tmp_path / "r" / ".git") == (1, {key_id}, {})


def test_an_unreadable_repository_or_target_is_failed(tmp_path: Path, rng: random.Random, scan: Try) -> None:
    key_id, text = leak(rng)
    (tmp_path / "tree" / "r").mkdir(parents=True)
    (tmp_path / "tree" / "open.env").write_text(text)
    Repository(tmp_path / "tree" / "r").commit("leak", {"leak": leak(rng)[1]})
    (tmp_path / "tree" / "r" / ".git").chmod(0)
    status, found, failed = scan(tmp_path / "tree")
    assert (status, len(found)) == (2, 2), "the work tree is read, the repository is not"
    assert any("/r" in what for what in failed)
    assert key_id in found
    (tmp_path / "tree").chmod(0)
    assert scan(tmp_path / "tree")[0] == 2


@pytest.mark.usefixtures("scan")  # skipped where modes count for nothing
def test_a_database_that_cannot_be_written_says_what_to_do(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    firedamp = (sys.executable, "-m", "firedamp.service.cli", "findings", "--db", str(folder / "f.db"))
    assert obedient(*firedamp).returncode == 0
    folder.chmod(0o500)
    told = obedient(*firedamp)
    assert told.returncode == 2
    assert f"{folder} cannot be written, and SQLite keeps files beside a database" in told.stderr
