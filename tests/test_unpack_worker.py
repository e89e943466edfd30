"""The worker's half of the conversation, over pipes in memory."""

from __future__ import annotations

import dataclasses
import io
import os
import signal
import sqlite3
import struct
import sys
from pathlib import Path

import pytest
from tests.builders import noise
from tests.containers import database, gzip, tarred, zipped

from firedamp.scanner import unpack, worker
from firedamp.scanner.budget import Limits
from firedamp.scanner.containers import Member
from firedamp.storage.records import Outcome, Skipped

TEXT = b"a text to be found\n"


@pytest.fixture(autouse=True)
def _unlimited(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks here is the tests' own process: a limit of processor time would end the tests behind these."""
    if sys.platform != "win32":
        monkeypatch.setattr("resource.setrlimit", lambda *_: None)


def asked(data: bytes | Path, limits: Limits | None = None, *, wal: bytes = b"") -> list[Member | Skipped]:
    """Ask a worker one question and return its whole answer."""
    requests, answers = io.BytesIO(), io.BytesIO()
    unpack._send(requests, data, wal)
    requests.seek(0)
    work = worker._Work(limits or Limits(), lambda data: bool(data.strip()))
    assert work.serve(requests, answers)
    assert not work.serve(requests, answers)
    answers.seek(0)
    items: list[Member | Skipped] = []
    while isinstance(item := unpack._received(answers), Member | Skipped):
        items.append(item)
    assert item is unpack._END
    return items


def test_bytes_and_files_are_answered_alike(tmp_path: Path) -> None:
    for data in (zipped({"key": TEXT, "b": b"  "}), gzip.compress(TEXT), b"#!/bin/sh\n" + zipped({"key": TEXT})):
        (tmp_path / "file").write_bytes(data)
        assert asked(data) == asked(tmp_path / "file")
        assert [item.data for item in asked(data) if isinstance(item, Member)][-1] == TEXT


def test_what_is_no_container_gives_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(TEXT)
    assert asked(TEXT) == asked(b"") == asked(tmp_path / "file") == []


def test_a_stream_too_large_to_hold_is_read_as_it_comes() -> None:
    files = {str(number): noise(300_000, number) for number in range(5)}
    for data in (tarred(files), gzip.compress(tarred(files), 1)):
        assert {i.container: i.data for i in asked(data, Limits(held=1 << 20)) if isinstance(i, Member)} == files


def test_what_stays_unread_of_a_stream_is_passed_over() -> None:
    data = gzip.compress(noise(5 << 20), 0)
    (*_, last) = asked(data, Limits(held=1 << 20, size=2 << 20))
    assert isinstance(last, Skipped)
    assert last.why == "unpacks to more than 2 MiB (unpack_bytes); nothing after this was read"


def test_files_that_are_none_are_told(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(zipped({"key": TEXT}))
    (tmp_path / "link").symlink_to(tmp_path / "a.zip")
    for name in ("link", "missing", "."):
        (item,) = asked(tmp_path / name)
        assert isinstance(item, Skipped)
        assert (item.outcome, item.what) == (Outcome.FAILED, "")


def test_a_file_that_vanished_is_gone(tmp_path: Path) -> None:
    (item,) = asked(tmp_path / "missing")
    assert isinstance(item, Skipped)
    assert item.why == "No such file or directory"


def test_a_database_too_large_to_hold_is_read_where_it_lies(tmp_path: Path) -> None:
    path = tmp_path / "a name?with#marks%.db"
    path.write_bytes(database([("key", TEXT * 1000)]))
    for limits in (Limits(), Limits(held=20_000)):
        found = b"".join(item.data for item in asked(path, limits) if isinstance(item, Member))
        assert TEXT * 1000 in found
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_the_log_of_a_database_is_read_with_it(tmp_path: Path) -> None:
    db = sqlite3.connect(tmp_path / "a.db")
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("CREATE TABLE keys (value)")
    db.execute("INSERT INTO keys VALUES (?)", (TEXT.decode(),))
    db.commit()
    data, log = (tmp_path / "a.db").read_bytes(), (tmp_path / "a.db-wal").read_bytes()
    beside = asked(tmp_path / "a.db")
    db.close()
    assert beside == asked(data, wal=log) == [Member("keys", b"keys.value = " + TEXT + b"\n\n", None, None)]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limits")
def test_the_process_takes_its_pipes_away_and_confines_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import resource

    limits: dict[int, tuple[int, int]] = {}
    monkeypatch.setattr(resource, "setrlimit", limits.__setitem__)
    with (tmp_path / "requests").open("wb") as requests:
        unpack._send(requests, zipped({"key": TEXT}), b"")
    saved, interrupt = (os.dup(0), os.dup(1)), signal.getsignal(signal.SIGINT)
    try:
        os.dup2(os.open(tmp_path / "requests", os.O_RDONLY), 0)
        os.dup2(os.open(tmp_path / "answers", os.O_WRONLY | os.O_CREAT), 1)
        worker.main({"limits": dataclasses.asdict(Limits()), "interesting": None})
        os.write(1, b"this goes nowhere")
    finally:
        os.dup2(saved[0], 0)
        os.dup2(saved[1], 1)
        signal.signal(signal.SIGINT, interrupt)
    with (tmp_path / "answers").open("rb") as answers:
        assert unpack._received(answers) == Member("key", TEXT)
        assert unpack._received(answers) is unpack._END
        assert not answers.read()
    assert limits[resource.RLIMIT_FSIZE] == limits[resource.RLIMIT_CORE] == (0, 0)
    assert resource.RLIMIT_CPU in limits


def test_the_predicate_is_made_by_name(cache: Path) -> None:
    assert worker._made(None)(b"")
    assert worker._made(["operator:methodcaller", "isspace"])(b" ")
    assert not worker.prefilter(str(cache / "firedamp"))(b"nothing here")


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"M",
        b"M" + struct.pack(">I", 1 << 30),
        b"M" + struct.pack(">I", 10) + b"short",
        b"M" + struct.pack(">I", 3) + b"abc",
        b"M" + struct.pack(">I", 21) + struct.pack(">QQI", 1, 1, 1) + b"\xff",
        b"S" + struct.pack(">I", 2) + b"{}",
        b"S" + struct.pack(">I", 2) + b"xx",
        b"S" + struct.pack(">I", 13) + b'["a","b",[1]]',
        b"?" + struct.pack(">I", 0),
    ],
)
def test_nonsense_from_a_worker_is_no_answer(answer: bytes) -> None:
    assert unpack._received(io.BytesIO(answer)) is None


def test_items_survive_the_way() -> None:
    for item in (
        Member("a!b", b"data", 3, 4),
        Member("ü\n", b"", None, None),
        Skipped(outcome=Outcome.FAILED, what="a", why="b", count=3),
    ):
        assert unpack._received(io.BytesIO(unpack.encoded(item))) == item
