"""The worker process: lost without harm, confined, and told what is worth sending back."""

from __future__ import annotations

import gzip
import os
import sys
import zlib
from pathlib import Path

import pytest
from tests.builders import noise
from tests.containers import tarred, zipped
from tests.opening import TEXT

from firedamp.scanner.budget import Limits
from firedamp.scanner.containers import Member
from firedamp.scanner.unpack import Unpacker, prefiltered
from firedamp.storage.records import Outcome, Skipped

MIB = 1 << 20

NOTHING = ("operator:methodcaller", "isspace")
"""A predicate that holds for nothing the tests pack."""


def test_a_worker_sends_back_what_is_interesting() -> None:
    data = zipped({"key": TEXT, "empty": b""})
    with Unpacker() as all_of_it, Unpacker(interesting=NOTHING) as nothing:
        assert list(all_of_it.members(data)) == [Member("key", TEXT)]
        assert list(nothing.members(data)) == []


def test_the_prefilter_decides_in_the_worker(cache: Path) -> None:
    data = tarred(
        {"plain": b"nothing of interest\n" * 1000, "key": TEXT, "inner.zip": zipped({"key": TEXT, "b": b"c"})}
    )
    with Unpacker(interesting=prefiltered(cache / "firedamp")) as unpacker:
        found = list(unpacker.members(data))
    assert found == [Member("key", TEXT), Member("inner.zip!key", TEXT)]


def test_files_are_read_where_they_lie_and_links_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(zipped({"key": TEXT}))
    (tmp_path / "link").symlink_to(tmp_path / "a.zip")
    os.mkfifo(tmp_path / "pipe")
    with Unpacker() as unpacker:
        assert list(unpacker.members(tmp_path / "a.zip")) == [Member("key", TEXT)]
        for name in ("link", "pipe", "missing"):
            (item,) = unpacker.members(tmp_path / name)
            assert isinstance(item, Skipped)
            assert item.outcome is Outcome.FAILED


def test_a_blob_too_large_to_hold_is_streamed() -> None:
    files = {str(number): noise(MIB, number) for number in range(6)} | {"key": TEXT}
    with Unpacker(Limits(held=MIB)) as unpacker:
        found = {
            m.container: m.data for m in unpacker.members(gzip.compress(tarred(files), 1)) if isinstance(m, Member)
        }
    assert found == files


@pytest.fixture
def hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the worker a prefilter that does what hostile bytes might make a library do."""
    (tmp_path / "hostile.py").write_text(
        "import os, time\n"
        "def die(data): os._exit(9)\n"
        "def abort(data): os.abort()\n"
        "def hang(data): time.sleep(100)\n"
        "def talk(data): print('x' * 9); os.write(1, b'y' * 99); return True\n"
        f"def write(data): os.write(os.open({str(tmp_path / 'written')!r}, os.O_CREAT | os.O_WRONLY), b'x' * 9)\n"
        "def make(name): return globals()[name]\n"
        "def hog(data): return bytearray(300 << 20)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))


def test_a_lost_worker_is_told_and_the_next_container_read(hostile: None) -> None:
    with Unpacker(interesting=("hostile:make", "die")) as unpacker:
        for _ in range(2):
            assert list(unpacker.members(zipped({"key": TEXT}))) == [
                Skipped(outcome=Outcome.FAILED, what="", why="ended the process that unpacks it (9)", passing=True)
            ]


def test_a_worker_that_a_library_ends_is_told_in_words(hostile: None) -> None:
    with Unpacker(interesting=("hostile:make", "abort")) as unpacker:
        (item,) = unpacker.members(zipped({"key": TEXT}))
    assert isinstance(item, Skipped)
    assert item.why == "ended the process that unpacks it (a library gave up, for want of memory as a rule)"


def test_a_worker_that_hangs_is_stopped(hostile: None) -> None:
    with Unpacker(Limits(seconds=0.2), interesting=("hostile:make", "hang")) as unpacker:
        (item,) = unpacker.members(zipped({"key": TEXT}))
    why = "took longer than 0.2 s (unpack_time) and was stopped"
    assert item == Skipped(outcome=Outcome.FAILED, what="", why=why, passing=True)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limits")
def test_a_worker_may_not_write_a_file_nor_speak_out_of_turn(hostile: None, tmp_path: Path) -> None:
    data = zipped({"key": TEXT})
    with Unpacker(interesting=("hostile:make", "talk")) as unpacker:
        assert list(unpacker.members(data)) == [Member("key", TEXT)]
    with Unpacker(interesting=("hostile:make", "write")) as unpacker:
        (item,) = unpacker.members(data)
    assert isinstance(item, Skipped)
    written = tmp_path / "written"
    assert not written.exists() or not written.stat().st_size


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="address space is limited on Linux alone")
def test_a_worker_has_little_memory(hostile: None) -> None:
    with Unpacker(interesting=("hostile:make", "hog")) as unpacker:
        (item,) = unpacker.members(zipped({"key": TEXT}))
    assert item == Skipped(outcome=Outcome.FAILED, what="", why="zip needs more memory than allowed", passing=True)


def test_a_caller_may_stop_early_and_go_on_with_another() -> None:
    data = tarred({str(number): noise(MIB, number) for number in range(10)})
    with Unpacker() as unpacker:
        items = unpacker.members(data)
        next(items)
        items.close()  # type: ignore[attr-defined]
        assert list(unpacker.members(zipped({"key": TEXT}))) == [Member("key", TEXT)]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="address space is limited on Linux alone")
def test_a_bomb_takes_bounded_memory_and_writes_nothing(tmp_path: Path) -> None:
    bomb = zlib.compressobj(1, zlib.DEFLATED, 31)
    zeros = bytes(16 * MIB)
    inner = b"".join(bomb.compress(zeros) for _ in range(20)) + bomb.flush()
    members_ = {"noise": noise(3 * MIB), "a.gz": inner, "b": zipped({"c.gz": inner})}
    (tmp_path / "bomb.zip").write_bytes(zipped(members_))
    with Unpacker(interesting=NOTHING) as unpacker:
        items = list(unpacker.members(tmp_path / "bomb.zip"))
        assert unpacker._worker is not None
        status = Path(f"/proc/{unpacker._worker[0].pid}/status").read_text()
    assert items
    assert all(isinstance(item, Skipped) for item in items)
    assert int(status.split("VmHWM:")[1].split()[0]) < 120 * 1024
    assert [p.name for p in tmp_path.iterdir()] == ["bomb.zip"]
