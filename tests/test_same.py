"""Compiled code tells of an unchanged folder what the walk itself tells, and leaves every other one to it."""

from __future__ import annotations

import ctypes
import os
import random
import socket
import sys
from array import array
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.builders import make_key_id

from firedamp.scanner import same, walk
from firedamp.scanner.jit import NoCompilerError
from firedamp.scanner.walk import Folder, Step, Task, Walker, World

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the system's lists of names look otherwise")

PICTURE = b"\x89PNG\r\n\x1a\n" + bytes(64)
LONG_AGO = 1_500_000_000


def world(root: Path, **more: object) -> World:
    made = World(interesting=lambda _: False, container_of=lambda *_: None, roots=(str(root),))
    return replace(made, **more)  # type: ignore[arg-type]


def walked(root: Path, world: World) -> list[Step]:
    walker, waiting, done = Walker(world), [Task(folders=(Folder(str(root)),))], list[Step]()
    while waiting:
        step = walker.step(waiting.pop())
        if step.left.folders or step.left.files:
            waiting.append(step.left)
        done.append(step)
    return done


def told(steps: list[Step]) -> object:
    """Return all that a walk tells, whichever way it went."""
    return (
        sorted(key for step in steps for key in step.keys), sum(step.files for step in steps),
        sum(step.known for step in steps), sum((step.left_out for step in steps), start=type(steps[0].left_out)()),
        sorted(name for step in steps for name in step.named), sorted(name for step in steps for name in step.nested),
        sorted(each.what for step in steps for each in step.skipped),
        sorted(file.path for step in steps for file in step.worth), any(step.opened for step in steps),
    )  # fmt: skip


def fill(root: Path, rng: random.Random) -> None:
    """Make folders of every sort that a walk meets."""
    for name in ("plain/deep/deeper", "media", "empty", "git/.git/refs", "bare/objects/pack", "bare/refs", "log",
                 "links", "node_modules/a", "caf\udce9"):  # fmt: skip
        (root / name).mkdir(parents=True)
    files = {
        "top.txt": b"top", "plain/a.txt": b"a", "plain/none": b"", "plain/deep/b": b"b", "plain/deep/deeper/c": b"c",
        "media/x.png": PICTURE, "media/y.txt": b"y", "git/.git/HEAD": b"ref: refs/heads/main\n", "git/code.py": b"1",
        "bare/HEAD": b"ref: refs/heads/main\n", "log/some.db": b"SQLite", "log/some.db-wal": b"log", "links/f": b"f",
        "node_modules/a/index.js": b"1", "node_modules/a/.env": b"A=1", "caf\udce9/n\udcff.txt": b"name",
        f"plain/deep/{make_key_id(rng)}.txt": b"named",
    }  # fmt: skip
    for name, content in files.items():
        (root / name).write_bytes(content)
    (root / "links" / "l").symlink_to(root / "top.txt")
    for path in root.rglob("*"):
        os.utime(path, (LONG_AGO, LONG_AGO), follow_symlinks=False)


def known_of(root: Path, monkeypatch: pytest.MonkeyPatch) -> array[int]:
    """Return the keys that a first walk remembers, though the files have just been made."""
    monkeypatch.setattr(walk, "settled", lambda *_: True)
    return array("q", sorted(key for step in walked(root, world(root)) for key in step.keys))


def used(monkeypatch: pytest.MonkeyPatch) -> list[same.Told | None]:
    """Have compiled code asked from the first file on, and collect what it answers."""
    answers = list[same.Told | None]()
    look = same.Same.look

    def noted(self: same.Same, handle: int, place: int) -> same.Told | None:
        answers.append(look(self, handle, place))
        return answers[-1]

    monkeypatch.setattr(walk, "MANY", 0)
    monkeypatch.setattr(same.Same, "look", noted)
    return answers


def test_an_unchanged_tree_is_told_alike_with_and_without_compiled_code(
    tmp_path: Path, cache: Path, rng: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path, rng)
    known = known_of(tmp_path, monkeypatch)
    answers = used(monkeypatch)
    without = told(walked(tmp_path, world(tmp_path, known=known)))
    assert not answers
    assert told(walked(tmp_path, world(tmp_path, known=known, compiled=cache / "firedamp"))) == without
    by_itself = [each for each in answers if each is not None]
    assert len(by_itself) < len(answers), "a folder with a link, a log or a repository is the walk's"
    assert sum(len(each.keys) for each in by_itself) >= 5
    assert sum(each.empty for each in by_itself) == 1
    assert sum(each.media for each in by_itself) == 1
    everything = replace(world(tmp_path, known=known), everything=True)
    assert told(walked(tmp_path, replace(everything, compiled=cache / "firedamp"))) == told(
        walked(tmp_path, everything)
    )


@pytest.mark.parametrize("change", ["new", "content", "touched", "renamed", "gone", "fifo", "socket"])
def test_what_changed_in_a_folder_is_seen(
    change: str, tmp_path: Path, cache: Path, rng: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path, rng)
    known = known_of(tmp_path, monkeypatch)
    file = tmp_path / "plain" / "a.txt"
    match change:
        case "new":
            (tmp_path / "plain" / "new.txt").write_bytes(b"n")
        case "content":
            file.write_bytes(b"b")
        case "touched":
            os.utime(file, (LONG_AGO, LONG_AGO))  # nobody can set the time at which it changed
        case "renamed":
            (tmp_path / "plain").rename(tmp_path / "plane")
        case "gone":
            file.unlink()
        case "fifo":
            os.mkfifo(tmp_path / "plain" / "pipe")
        case _:
            with socket.socket(socket.AF_UNIX) as opened:
                os.chdir(tmp_path / "plain")  # a socket's path is short
                opened.bind("s")
                os.chdir("/")
    without = walked(tmp_path, world(tmp_path, known=known))
    answers = used(monkeypatch)
    with_code = walked(tmp_path, world(tmp_path, known=known, compiled=cache / "firedamp"))
    assert answers
    assert told(with_code) == told(without)
    assert any(step.opened for step in with_code) == (change in {"new", "content", "touched", "renamed"})


def test_a_folder_of_more_names_than_there_is_room_for_is_left_to_the_walk(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(40):
        (tmp_path / f"{number}.txt").write_bytes(b"some")
    known = known_of(tmp_path, monkeypatch)
    looking = same.Same(known, walk.MEDIA_MARK, cache / "firedamp")
    for room, whole in ((8192, True), (512, False)):
        monkeypatch.setattr(same, "_ROOM", room)
        handle = os.open(tmp_path, os.O_RDONLY)
        answer = looking.look(handle, walk.place_of(str(tmp_path)))
        os.close(handle)
        assert (answer is not None) == whole


def test_a_file_from_before_1970_is_left_to_the_walk(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "old").write_bytes(b"old")
    os.utime(tmp_path / "old", ns=(-5_000_000_000, -5_000_000_000))
    known = known_of(tmp_path, monkeypatch)
    assert known
    answers = used(monkeypatch)
    [step] = walked(tmp_path, world(tmp_path, known=known, compiled=cache / "firedamp"))
    assert answers == [None]
    assert (step.known, step.opened) == (1, False)


def test_little_is_known_or_nothing_can_be_compiled(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").write_bytes(b"a")
    known = known_of(tmp_path, monkeypatch)
    for few, where in ((1, None), (2, cache / "firedamp")):
        monkeypatch.setattr(walk, "MANY", few)
        monkeypatch.setattr(same.Same, "look", None)
        [step] = walked(tmp_path, world(tmp_path, known=known, compiled=where))
        assert step.known == 1
    monkeypatch.setattr(walk, "MANY", 0)
    monkeypatch.setattr(sys, "byteorder", "big")
    with pytest.raises(NoCompilerError, match="look otherwise"):
        same.Same(known, -1, cache)
    [step] = walked(tmp_path, world(tmp_path, known=known, compiled=cache))
    assert step.known == 1


def test_the_plain_function_finds_the_same_keys(tmp_path: Path, rng: random.Random) -> None:
    """Numbers of a fixed width wrap around, as compiled ones do."""
    for number in range(20):
        path = tmp_path / str(number)
        path.write_bytes(PICTURE if number % 3 == 0 else bytes(number % 5))
        os.utime(path, ns=(0, rng.randrange(1 << 62)))
    (tmp_path / "folder").mkdir()
    place = walk.place_of(str(tmp_path))
    every = {path.name: walk.key_of(path.stat(), place) for path in tmp_path.iterdir() if path.is_file()}
    keys = [walk.media_key(key) if int(name) % 3 == 0 else key for name, key in every.items()]
    entries, room = bytearray(8192), 8192
    entries_at = ctypes.addressof(ctypes.c_char.from_buffer(entries))
    status, found, folders, counts = (np.zeros(size, np.int64) for size in (32, 30, 30, 4))
    numbers = np.array(same._NUMBERS)

    def look(known: list[int], mark: int) -> int:
        handle = os.open(tmp_path, os.O_RDONLY)
        with np.errstate(over="ignore"):
            count = same.same(
                handle, place, mark, np.array(sorted(known)), len(known), entries, entries_at, room, status,
                status.ctypes.data, numbers, found, folders, counts,
            )  # fmt: skip
        os.close(handle)
        return count

    assert look(keys, walk.MEDIA_MARK) == 20
    assert sorted(found[:20].tolist()) == sorted(keys)
    empty = sum(not (tmp_path / name).stat().st_size for name in every)
    assert (counts[0], counts[1], counts[3]) == (empty, 1, 7)
    assert bytes(entries[folders[0] :]).startswith(b"folder\0")
    assert look(keys, -1) == -1
    assert look(keys[1:], walk.MEDIA_MARK) == -1
