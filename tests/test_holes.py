"""Files with holes: their data is found, and a terabyte that was never written costs nothing."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.repositories import Repository, leak
from tests.scans import Scan, scanner

from firedamp.scanner.holes import Dense, has_holes

TERABYTE = 1 << 40


@pytest.fixture(name="scan")
def scan_(capsys: pytest.CaptureFixture[str]) -> Scan:
    return scanner(capsys)


@pytest.fixture(name="folder")
def folder_(tmp_path: Path) -> Iterator[Path]:
    """Return a folder that does not outlive its test: others read what stands beside theirs."""
    folder = tmp_path / "d"
    folder.mkdir()
    yield folder
    shutil.rmtree(folder)


def holed(path: Path, *texts: str, size: int = TERABYTE) -> Path:
    """Write texts far apart from each other into a file of size bytes."""
    with path.open("wb") as file:
        for number, text in enumerate(texts, 1):
            file.seek(size // (len(texts) + 1) * number)
            file.write(text.encode())
        try:
            file.truncate(size)
        except OSError:
            pytest.skip("this file system has no files of that size")
    if not has_holes(path.stat()):
        pytest.skip("this file system writes holes out")
    return path


def test_keys_in_a_terabyte_of_holes_are_found(folder: Path, rng: random.Random, scan: Scan) -> None:
    keys = [leak(rng) for _ in range(3)]
    holed(folder / "disk.img", "line\n" + keys[0][1], keys[1][1], keys[2][1])
    holed(folder / "empty.img")
    scanned = scan(folder, options=("--offline", "--show-secrets"))
    assert {key_id: finding["secret"] for key_id, finding in scanned.findings.items()} == {
        key_id: text.split()[-1] for key_id, text in keys
    }
    assert scanned.summary["read"]["bytes"] < 1 << 30


def test_a_git_folder_may_hold_a_terabyte_of_holes(folder: Path, rng: random.Random, scan: Scan) -> None:
    Repository(folder / "r", bare=True)
    key_id, text = leak(rng)
    holed(folder / "r" / "notes.txt", text)
    scanned = scan(folder / "r", options=("--offline", "--show-secrets"))
    assert scanned.match(key_id)["path"] == "notes.txt"
    assert scanned.findings[key_id]["secret"] == text.split()[-1]


@given(st.lists(st.tuples(st.integers(0, 40), st.binary(min_size=1, max_size=40)), max_size=5), st.integers(1, 3 << 20))
@settings(max_examples=15, deadline=None)
def test_what_is_read_without_holes_is_all_that_was_written(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[tuple[int, bytes]], step: int
) -> None:
    path = tmp_path_factory.mktemp("holes") / "file"
    written = dict[int, bytes]()
    with path.open("wb") as file:
        for at, data in pieces:
            file.seek(at * (4 << 20))
            file.write(data)
            written[at] = data + written.get(at, b"")[len(data) :]
        file.truncate(170 << 20)
    expected = b"".join(written[at] for at in sorted(written)).replace(b"\0", b"")
    with Dense(os.open(path, os.O_RDONLY)) as dense:
        read = b"".join(iter(lambda: dense.read(step), b""))
    assert read.replace(b"\0", b"") == expected
    assert len(read) < 60 << 20 or not has_holes(path.stat())
