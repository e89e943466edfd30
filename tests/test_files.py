"""The walk of a folder: what is read, what is not, and that it is told."""

from __future__ import annotations

import io
import multiprocessing
import os
import random
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from array import array
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
from tests.builders import make_key_id, make_secret
from tests.containers import zipped

from firedamp.scanner import files, walk
from firedamp.scanner.crew import shared_out, steps
from firedamp.scanner.files import FolderSource, StreamSource, Walk, blob_id, windows
from firedamp.scanner.formats import container_of
from firedamp.scanner.rules import always, is_media
from firedamp.scanner.source import Blob, Checkpoint, Known, Nested
from firedamp.scanner.walk import Folder, Listed, Task, Walker, World, elsewhere, real_path, shown, trouble
from firedamp.storage.errors import SourceFailure
from firedamp.storage.records import Batch, FileProvenance, Finding, KeyKind, Match, Met, Outcome, Skipped, Tally
from firedamp.storage.secret import Fingerprint
from firedamp.storage.store import Store


def holds_key(data: bytes | memoryview) -> bool:
    return b"AKIA" in bytes(data)


@dataclass
class Seen:
    """What a source yielded."""

    blobs: list[Blob] = field(default_factory=list)
    known: list[Known] = field(default_factory=list)
    nested: list[str] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    checkpoints: list[Checkpoint] = field(default_factory=list)

    @property
    def tally(self) -> Tally:
        return sum((each.tally for each in self.checkpoints), Tally())

    @property
    def paths(self) -> set[str]:
        return {each.provenance.path or "" for point in self.checkpoints for each in point.met}

    def left_out(self) -> dict[str, int]:
        return {each.why: each.count for each in self.skipped if each.outcome is Outcome.LEFT_OUT}


def run(source: FolderSource | StreamSource, store: Store | None = None) -> Seen:
    """Read a source to its end, and let the store remember what it says."""
    seen = Seen()
    for item in source.blobs():
        match item:
            case Blob():
                seen.blobs.append(item)
            case Known():
                seen.known.append(item)
            case Nested(path=path):
                seen.nested.append(path)
            case Skipped():
                seen.skipped.append(item)
            case Checkpoint():
                seen.checkpoints.append(item)
                if store is not None:
                    holding = store.holding({each.blob for each in item.met})
                    met = tuple(each for each in item.met if each.blob in holding)
                    store.record(
                        Batch(at=WHEN, detector="1", met=met, gone=item.gone, states=item.states, seen=item.seen)
                    )
    return seen


WHEN = datetime(2026, 11, 20, tzinfo=UTC)
UNREAD = Skipped(outcome=Outcome.FAILED, what="b", why="ends early")


def folder(root: Path, store: Store | None = None, **options: object) -> FolderSource:
    return FolderSource(
        str(root), store or Store(None), detector="1", interesting=holds_key, container_of=container_of,
        walk=Walk(**options),  # type: ignore[arg-type]
    )  # fmt: skip


def settle() -> None:
    """Wait until what was just written is old enough to be remembered."""
    time.sleep(0.15)


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_links_are_not_followed_and_special_files_cannot_hang_the_walk(tmp_path: Path, rng: random.Random) -> None:
    outside = write(tmp_path / "outside" / "key", make_key_id(rng))
    root = tmp_path / "root"
    write(root / "plain", "nothing")
    (root / "link").symlink_to(outside)
    (root / "linked").symlink_to(outside.parent)
    (root / "loop").symlink_to(root)
    os.mkfifo(root / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(root / "socket"))
        seen = run(folder(root))
    assert seen.tally.files == 1
    assert not seen.blobs


def test_what_is_no_file_is_counted_and_a_link_elsewhere_told(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "node_modules").mkdir(parents=True)
    (root / "node_modules" / "bin").symlink_to("/bin")
    (root / "a").write_text("x")
    for name, target in {"b": "a", "loop": ".", "gone": "gone too", "out": tmp_path, "broken": "../no"}.items():
        (root / name).symlink_to(target)
    os.mkfifo(root / "pipe")
    told = {each.why: (each.what, each.count) for each in run(folder(root)).skipped}
    assert told == {
        "links to what is scanned": (str(root), 3),
        "installed packages": (str(root), 1),
        "pipes, sockets and devices": (str(root), 1),
        f"a link to {tmp_path}": (str(root / "out"), 1),
        f"a link to {tmp_path / 'no'}": (str(root / "broken"), 1),
    }


def test_a_link_that_went_away_while_it_was_listed_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(path: str) -> str:
        raise FileNotFoundError(path)

    (tmp_path / "link").symlink_to("/")
    monkeypatch.setattr(os, "readlink", gone)
    step = Walker(World(interesting=holds_key, container_of=container_of)).step(Task(folders=(Folder(str(tmp_path)),)))
    assert [(each.outcome, each.why) for each in step.skipped] == [(Outcome.GONE, "vanished")]


def test_what_became_a_link_a_fifo_or_nothing_since_it_was_listed_is_told(tmp_path: Path) -> None:
    write(tmp_path / "file", "x")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    os.mkfifo(tmp_path / "fifo")
    names = ("link", "fifo", "vanished")
    task = Task(
        folders=(Folder(str(tmp_path / "no folder")), Folder(str(tmp_path / "file"))),
        files=tuple(Listed(str(tmp_path / name), 1, 1) for name in names),
    )
    step = Walker(World(interesting=holds_key, container_of=container_of)).step(task)
    told = {Path(each.what).name: (each.outcome, each.why) for each in step.skipped}
    assert told == {
        "link": (Outcome.LEFT_OUT, "not a regular file"),
        "fifo": (Outcome.LEFT_OUT, "not a regular file"),
        "vanished": (Outcome.GONE, "vanished"),
        "no folder": (Outcome.GONE, "vanished"),
        "file": (Outcome.GONE, "vanished"),
    }
    assert step.files == 0


def test_what_may_not_be_read_has_failed() -> None:
    assert trouble("/x", PermissionError(13, "Permission denied")) == Skipped(
        outcome=Outcome.FAILED, what="/x", why="Permission denied"
    )


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file_and_an_unreadable_folder_have_failed(tmp_path: Path) -> None:
    write(tmp_path / "secret" / "file", "x").parent.chmod(0)
    write(tmp_path / "file", "x").chmod(0)
    seen = run(folder(tmp_path))
    assert {each.outcome for each in seen.skipped} == {Outcome.FAILED}
    (tmp_path / "secret").chmod(0o700)


def test_the_walk_stays_on_its_file_system(tmp_path: Path) -> None:
    write(tmp_path / "file", "x")
    world = World(interesting=holds_key, container_of=container_of, device=-1)
    walker = Walker(world)
    step = walker.step(Task(folders=(Folder(str(tmp_path)),)))
    assert [each.why for each in step.skipped] == ["on another file system; --cross-file-systems goes there"]
    assert step.files == 0
    assert run(folder(tmp_path, same_file_system=False)).tally.files == 1


def test_a_file_with_two_names_is_read_once_and_told_twice(tmp_path: Path, rng: random.Random) -> None:
    first = write(tmp_path / "a" / "first", make_key_id(rng))
    os.link(first, tmp_path / "second")
    other = write(tmp_path / "b" / "other", "nothing here")
    os.link(other, tmp_path / "another")
    settle()
    seen = run(folder(tmp_path))
    assert seen.paths == {str(first), str(tmp_path / "second")}
    assert len(seen.blobs) == 1
    assert len(seen.known) == 1
    assert seen.tally.bytes == 20 + len("nothing here")


def test_a_repository_is_handed_on_and_its_work_tree_is_read(tmp_path: Path, rng: random.Random) -> None:
    write(tmp_path / "project" / ".git" / "config", make_key_id(rng))
    write(tmp_path / "project" / ".git" / "HEAD", "ref: refs/heads/main")
    write(tmp_path / "project" / "file", make_key_id(rng))
    write(tmp_path / "worktree" / ".git", "gitdir: ../project/.git\n")
    for name in ("HEAD", "objects/pack/p", "refs/heads/main", "description"):
        write(tmp_path / "bare.git" / name, make_key_id(rng))
    seen = run(folder(tmp_path))
    assert sorted(seen.nested) == [str(tmp_path / name) for name in ("bare.git", "project", "worktree")]
    assert seen.paths == {
        str(tmp_path / "project" / "file"),
        str(tmp_path / "bare.git" / "HEAD"),
        str(tmp_path / "bare.git" / "description"),
    }


def test_what_only_looks_like_a_repository_is_a_folder_like_others(tmp_path: Path, rng: random.Random) -> None:
    key = write(tmp_path / "empty" / ".git" / "notes", make_key_id(rng))
    write(tmp_path / "removed" / ".git", "gitdir: ../gone/.git/worktrees/removed\n")
    write(tmp_path / "uv" / "sdists-v9" / ".git", "")  # uv keeps one in its cache, in every home that it works in
    seen = run(folder(tmp_path))
    assert seen.nested == []
    assert seen.paths == {str(key)}
    assert seen.left_out() == {"a .git file that points to no folder": 2}


def test_default_skips_are_counted_by_rule_and_credentials_in_them_are_read(tmp_path: Path, rng: random.Random) -> None:
    write(tmp_path / "node_modules" / "left-pad" / "index.js", make_key_id(rng))
    write(tmp_path / "node_modules" / "left-pad" / "deep" / "er.js", make_key_id(rng))
    write(tmp_path / "node_modules" / "left-pad" / ".env.local", make_key_id(rng))
    write(tmp_path / "node_modules" / "x" / ".claude" / "settings.local.json", make_key_id(rng))
    write(tmp_path / "venv" / "lib" / "site-packages" / "botocore" / "x.py", make_key_id(rng))
    write(tmp_path / "go" / "pkg" / "mod" / "terraform.tfstate", make_key_id(rng))
    write(tmp_path / "pkg" / "mine.go", make_key_id(rng))
    write(tmp_path / "vm" / "disk.qcow2", make_key_id(rng))
    write(tmp_path / "picture.txt", b"\x89PNG\r\n" + make_key_id(rng).encode())
    seen = run(folder(tmp_path))
    names = {Path(path).name for path in seen.paths}
    assert names == {".env.local", "settings.local.json", "terraform.tfstate", "mine.go"}
    assert seen.left_out() == {
        "installed packages": 3,
        "virtual disks, models and games": 1,
        "pictures, sound, video and fonts": 1,
    }
    everything = run(folder(tmp_path, everything=True))
    assert everything.tally.files == 9
    assert everything.left_out() == {}


def test_password_stores_and_private_keys_are_never_read(tmp_path: Path, rng: random.Random) -> None:
    for name in (".ssh/id_ed25519", ".gnupg/private-keys-v1.d/x", ".password-store/aws.gpg", "a.kdbx"):
        write(tmp_path / name, make_key_id(rng))
    write(tmp_path / ".ssh" / "environment", make_key_id(rng))
    seen = run(folder(tmp_path, everything=True))
    assert {Path(path).name for path in seen.paths} == {"environment"}
    assert seen.left_out() == {"keychains, password stores and private keys": 4}


def test_our_own_files_are_not_read(tmp_path: Path, rng: random.Random) -> None:
    write(tmp_path / "firedamp.db", make_key_id(rng))
    seen = run(folder(tmp_path, own=frozenset({str(tmp_path / "firedamp.db")})))
    assert seen.left_out() == {"firedamp's own files": 1}


def test_a_file_in_a_cloud_is_not_fetched() -> None:
    here = SimpleNamespace(st_flags=0x40, st_file_attributes=0x20)
    assert not elsewhere(here)  # type: ignore[arg-type]
    assert elsewhere(SimpleNamespace(st_flags=0x40000040))  # type: ignore[arg-type]
    assert elsewhere(SimpleNamespace(st_file_attributes=0x400020))  # type: ignore[arg-type]


def test_an_unchanged_file_is_not_opened_again(tmp_path: Path, rng: random.Random) -> None:
    root, store = tmp_path / "root", Store(None)
    write(root / "holds", make_key_id(rng))
    write(root / "clean", "nothing")
    write(root / "sound", b"OggS\0")
    settle()
    first = run(folder(root, store), store)
    assert (first.tally.files, first.tally.known) == (2, 0)
    again = run(folder(root, store), store)
    assert (again.tally.files, again.tally.known) == (0, 2)
    assert again.left_out() == first.left_out(), "what a rule left out by its content is counted every time"
    status = (root / "clean").stat()
    (root / "clean").write_text("changed")
    os.utime(root / "clean", ns=(status.st_atime_ns, status.st_mtime_ns))
    settle()
    third = run(folder(root, store), store)
    assert (third.tally.files, third.tally.known) == (1, 1), "the change time tells, whatever the others say"
    assert run(folder(root, store, everything=True), store).tally.files == 1, "media is read with --all"


def test_a_file_written_a_moment_ago_is_not_yet_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, hot = Store(None), write(tmp_path / "hot" / "hot", "x")
    for first in ((), (str(hot),)):
        with monkeypatch.context() as patched:
            patched.setattr(walk, "_TICK_NS", 3600 * 10**9)  # a moment that no busy machine outlasts
            for _ in range(2):
                assert run(folder(hot.parent, store, first=first), store).tally.files == 1 + len(first)
        settle()
        assert run(folder(hot.parent, store, first=first), store).tally.files == 1
        assert run(folder(hot.parent, store, first=first), store).tally.files == 0
        store = Store(None)


def test_a_file_on_a_file_system_that_counts_seconds_is_remembered_when_they_have_passed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, file = Store(None), write(tmp_path / "hot", "x")
    second = int(time.time()) + 60  # later than any other time of the file
    os.utime(file, (second, second))
    for passed, read in ((0.3, [1, 1]), (2.1, [1, 0])):
        now = int((second + passed) * 1_000_000_000)
        patched = SimpleNamespace(monotonic_ns=time.monotonic_ns, time_ns=lambda now=now: now)
        monkeypatch.setattr(walk, "time", patched)
        assert [run(folder(tmp_path, store), store).tally.files for _ in range(2)] == read


def test_a_blob_that_could_not_be_looked_through_is_read_again(tmp_path: Path, rng: random.Random) -> None:
    store = Store(None)
    write(tmp_path / "holds", make_key_id(rng))
    settle()
    source = folder(tmp_path, store)
    for item in source.blobs():
        if isinstance(item, Blob):
            source.unread(item.id, UNREAD)
        if isinstance(item, Checkpoint):
            store.record(Batch(at=WHEN, detector="1", states=item.states))
    assert run(folder(tmp_path, store), store).tally.files == 1


def remember(store: Store, blob: str, path: Path) -> None:
    finding = Finding(
        fingerprint=Fingerprint("0" * 32), kind=KeyKind.ACCESS_KEY, access_key_id="AKIAEXAMPLE", account_id=None,
        has_secret=False, first_seen=WHEN, last_seen=WHEN,
    )  # fmt: skip
    met = Met(source="folder", blob=blob, provenance=FileProvenance(path=shown(str(path))))
    match = Match(blob=blob, kind=KeyKind.ACCESS_KEY)
    store.record(Batch(at=WHEN, detector="1", found=((finding, match),), met=(met,)))


def test_a_key_below_a_folder_that_is_renamed_is_met_where_it_stands_now(tmp_path: Path, rng: random.Random) -> None:
    root, store = tmp_path / "root", Store(None)
    write(root / "project" / "deep" / "holds", make_key_id(rng))
    write(root / "project" / "deep" / "clean", "nothing")
    settle()
    run(folder(root, store), store)
    (root / "project").rename(root / "renamed")
    moved = run(folder(root, store), store)
    assert moved.paths == {str(root / "renamed" / "deep" / "holds")}
    assert (moved.tally.files, moved.tally.known) == (2, 0), "nothing of the files themselves has changed"
    assert run(folder(root, store), store).tally.known == 2


def test_a_place_that_holds_something_else_now_is_gone(tmp_path: Path, rng: random.Random) -> None:
    store, old = Store(None), blob_id(b"old")
    cleared, replaced, deleted, kept = (tmp_path / name for name in ("cleared", "replaced", "deleted", "kept"))
    content = make_key_id(rng).encode()
    write(cleared, "nothing")
    write(replaced, make_key_id(rng))
    write(kept, content)
    for path in (cleared, replaced, deleted):
        remember(store, old, path)
    remember(store, blob_id(content), kept)
    source = folder(tmp_path, store)
    seen = run(source, store)
    told = {met.provenance.path for point in seen.checkpoints for met in point.gone}
    assert told == {str(cleared), str(replaced)}
    assert {met.provenance.path for met in source.gone(store.held(roots=[str(tmp_path)]))} == {str(deleted)}


def test_a_name_that_is_no_utf8_keeps_its_findings(tmp_path: Path, rng: random.Random) -> None:
    store = Store(None)
    content = make_key_id(rng).encode()
    path = os.fsencode(tmp_path) + b"/caf\xe9"
    with open(path, "wb") as file:  # noqa: PTH123
        file.write(content)
    seen = run(folder(tmp_path, store), store)
    assert seen.paths == {str(tmp_path / "caf\\xe9")}
    assert os.fsencode(real_path(str(tmp_path / "caf\\xe9"))) == path
    write(tmp_path / "a\\xe9", "x")
    assert real_path(str(tmp_path / "a\\xe9")) == str(tmp_path / "a\\xe9"), "a backslash may be in a name"
    source = folder(tmp_path, store)
    run(source, store)
    assert not list(source.gone(store.held(roots=[str(tmp_path)])))


def test_a_large_file_is_read_in_windows_and_a_key_across_the_border_is_seen(
    tmp_path: Path, rng: random.Random
) -> None:
    key_id = make_key_id(rng).encode()
    line = b"a line of some length, again and again\n"
    before = line * (files.WINDOW // len(line)) + b"here: "
    content = before + key_id + b"\n" + line * (2 * files.WINDOW // len(line))
    path = write(tmp_path / "log", content)
    (blob, *more) = run(folder(tmp_path)).blobs
    assert {each.id for each in (blob, *more)} == {blob_id(content)}
    lines = content[: content.index(key_id)].count(b"\n") + 1
    for each in (blob, *more):
        assert each.window
        at = each.first_line + each.data[: each.data.index(key_id)].count(b"\n")
        assert (at, each.first_column) == (lines, 1)
    assert path.stat().st_size > 2 * files.WINDOW
    assert not run(folder(write(tmp_path / "clean" / "log", line * (2 * files.WINDOW // len(line))).parent)).blobs


def test_windows_of_one_endless_line_know_their_column() -> None:
    text = "é" * files.WINDOW
    pieces = list(windows(io.BytesIO(text.encode())))
    assert len(pieces) == 3
    assert [line for _, line, _ in pieces] == [1, 1, 1]
    step = files.WINDOW - files.OVERLAP
    assert pieces[1][2] == step // 2 + 1
    rebuilt = pieces[0][0][:step] + pieces[1][0][: files.WINDOW] + pieces[2][0]
    assert rebuilt.decode() == text


def test_a_file_is_read_again_only_while_it_is_what_was_found(tmp_path: Path) -> None:
    small, large = write(tmp_path / "small", "content"), write(tmp_path / "large", b"x\n" * files.WINDOW)
    (blob,) = files.read_again(str(small), blob_id(b"content"))
    assert (blob.data, blob.window) == (b"content", False)
    head, *rest = files.read_again(str(large), blob_id(large.read_bytes()))
    assert (len(head.data), head.window) == (4096, False)
    assert len(rest) > 1
    assert all(each.window for each in rest)
    assert not list(files.read_again(str(small), blob_id(b"other")))
    assert not list(files.read_again(str(tmp_path / "missing"), blob_id(b"content")))


def test_a_large_container_is_given_by_its_path(tmp_path: Path, rng: random.Random) -> None:
    path = write(tmp_path / "big.gz", b"\x1f\x8b\x08" + rng.randbytes(files.WINDOW + 1))
    blobs = run(folder(tmp_path)).blobs
    assert blobs[0].path == str(path)
    assert len(blobs[0].data) == 4096
    assert not blobs[0].window


@pytest.mark.parametrize("at", [0, files.WINDOW + 5, 2 * files.WINDOW + 5, None])
def test_a_large_file_counts_whole_wherever_its_key_stands(at: int | None, tmp_path: Path, rng: random.Random) -> None:
    size = 3 * files.WINDOW
    text = bytearray(b"nothing here\n" * (size // 13 + 1))[:size]
    if at is not None:
        text[at : at + 20] = make_key_id(rng).encode()
    write(tmp_path / "large.txt", bytes(text))
    seen = run(folder(tmp_path))
    assert bool(seen.blobs) == (at is not None)
    assert seen.tally.bytes == size


@pytest.mark.skipif(not hasattr(os, "SEEK_HOLE"), reason="the system does not tell holes")
def test_holes_behind_a_key_are_not_counted(tmp_path: Path, rng: random.Random) -> None:
    with (tmp_path / "sparse").open("wb") as file:
        file.write(make_key_id(rng).encode() * 1_000)
        file.seek(1 << 30)
        file.write(b"behind a gigabyte of nothing" * 1_000)
        file.seek(2 << 30)
        file.write(b"\n")
    seen = run(folder(tmp_path))
    assert len(seen.blobs) == 1
    assert 48_000 < seen.tally.bytes < 48_000 + files.WINDOW + (64 << 10)


def test_small_files_are_looked_at_together_and_none_hides_behind_another(tmp_path: Path, rng: random.Random) -> None:
    looks: list[int] = []

    def interesting(data: bytes | memoryview) -> bool:
        looks.append(len(data))
        return holds_key(data)

    planted = []
    for number in range(300):
        text = b"x" * rng.choice((0, 1, 100, 1_000, 10_000, 70_000) if number % 10 else (40_000,))
        path = write(tmp_path / f"{number:03}", text)
        if number % 100 in {0, 7}:
            key = make_key_id(rng).encode()
            path.write_bytes((key + text, text + key, key)[number % 3])
            planted.append(path.name)
    write(tmp_path / "head", "AK")
    write(tmp_path / "tail", "IA")
    grown = Listed(str(write(tmp_path / "grown", b"x" * 70_000 + b"AKIA")), 1, 5)
    world = World(interesting=interesting, container_of=container_of)
    files = (*(Listed(str(path), 1, path.stat().st_size) for path in sorted(tmp_path.iterdir())), grown)
    step = Walker(world).step(Task(files=files))
    assert sorted(Path(each.path).name for each in step.worth) == [*planted, "grown", "grown"]
    assert (step.files, len(step.keys)) == (len(files), len(files) - len(planted) - 2)
    assert step.bytes == sum(Path(each.path).stat().st_size for each in files)
    assert len(looks) < 200, "far fewer than files"


@pytest.mark.parametrize("slow", [True, False])
def test_a_slow_disk_is_asked_for_the_files_that_come_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slow: bool
) -> None:
    asked: list[str] = []
    advise, clock = os.posix_fadvise, iter(range(0, 1 << 60, 1_000_000_000 if slow else 1))

    def recorded(handle: int, *what: int) -> None:
        asked.append(Path(f"/proc/self/fd/{handle}").readlink().name)
        advise(handle, *what)

    monkeypatch.setattr(os, "posix_fadvise", recorded)
    monkeypatch.setattr(walk, "time", SimpleNamespace(monotonic_ns=lambda: next(clock), time_ns=time.time_ns))
    names = [f"{number:03}" for number in range(300)]
    files = [Listed(str(write(tmp_path / name, "x" * 1_000)), 1, 1_000) for name in names]
    step = Walker(World(interesting=holds_key, container_of=container_of)).step(
        Task(files=(*files, Listed(str(tmp_path / "vanished"), 1, 1)))
    )
    assert asked == (names[1:] if slow else []), "each once, and while there is time"
    assert (step.files, [each.what for each in step.skipped]) == (300, [str(tmp_path / "vanished")])


def test_readers_fork_before_anything_is_done_with_what_was_read(tmp_path: Path) -> None:
    for number in range(4_000):
        write(tmp_path / str(number % 80) / str(number), "x")
    world = World(interesting=holds_key, container_of=container_of)
    walked = steps(world, Task(folders=(Folder(str(tmp_path)),)), 2)
    next(walked)
    assert len(multiprocessing.active_children()) == 2
    walked.close()
    assert not multiprocessing.active_children()


KILLED = """
import os, signal, sys
from firedamp.scanner.crew import steps
from firedamp.scanner.formats import container_of
from firedamp.scanner.walk import Folder, Task, World
world = World(interesting=bool, container_of=container_of)
walked = steps(world, Task(folders=(Folder(sys.argv[1]),)), 2)
next(walked)
print("at work", flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_readers_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    for number in range(4_000):
        write(tmp_path / str(number % 80) / str(number), "x")
    # The output is theirs too: it ends with the last of them.
    done = subprocess.run(
        [sys.executable, "-c", KILLED, tmp_path], stdout=subprocess.PIPE, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, "at work\n")


def test_what_is_left_of_a_step_is_shared_out_among_all_readers() -> None:
    folders = tuple(Folder(f"/{number}") for number in range(5))
    files = tuple(Listed(f"/{number}", number, 1) for number in range(1200))
    tasks = list(shared_out(Task(folders, files), 2))
    assert [len(task.folders) for task in tasks] == [3, 2, 0, 0, 0]
    assert [len(task.files) for task in tasks] == [0, 0, 500, 500, 200]
    assert sum((task.folders for task in tasks), ()) == folders
    assert sum((task.files for task in tasks), ()) == files
    assert not list(shared_out(Task(), 2))


def test_many_folders_are_read_by_several_processes(tmp_path: Path, rng: random.Random) -> None:
    planted = set()
    for number in range(60):
        for name in range(50):
            path = write(tmp_path / f"d{number}" / f"f{name}", f"file {number} {name}")
        path.write_text(make_key_id(rng))
        planted.add(str(path))
    settle()
    store = Store(None)
    seen = run(folder(tmp_path, store), store)
    assert seen.tally.files == 3000
    assert seen.paths == planted
    assert run(folder(tmp_path, store), store).tally == Tally(known=3000)
    alone = run(folder(tmp_path, jobs=1))
    assert (alone.tally, alone.paths) == (seen.tally, planted)


def _dies(data: bytes | memoryview) -> bool:
    if bytes(data).startswith(b"die"):
        os._exit(1)
    return False


def test_a_lost_reader_fails_the_source(tmp_path: Path) -> None:
    for number in range(2100):
        write(tmp_path / str(number), "x")
    for number in range(100):
        write(tmp_path / "z" / str(number), "die")
    world = World(interesting=_dies, container_of=container_of)
    with pytest.raises(SourceFailure, match="was lost"):
        list(steps(world, Task(folders=(Folder(str(tmp_path)),)), 2))


def test_readers_that_cannot_fork_import_nothing_from_the_folder_we_stand_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(4_000):
        write(tmp_path / "tree" / str(number % 80) / str(number), "x")
    proof = tmp_path / "it-ran"
    write(tmp_path / "multiprocessing.py", f"open({str(proof)!r}, 'w'); import os; os._exit(1)")
    monkeypatch.chdir(tmp_path)
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()  # a process of two threads may not fork
    try:
        world = World(interesting=bool, container_of=container_of)
        list(steps(world, Task(folders=(Folder(str(tmp_path / "tree")),)), 2))
    finally:
        done.set()
        thread.join()
    assert not proof.exists()
    assert "PYTHONSAFEPATH" not in os.environ


def test_early_files_are_read_first_and_only_once(tmp_path: Path, rng: random.Random) -> None:
    early = write(tmp_path / "z" / "credentials", make_key_id(rng))
    write(tmp_path / "a", make_key_id(rng))
    settle()
    store = Store(None)
    first = (str(early), str(tmp_path / "missing"), str(tmp_path))
    seen = run(folder(tmp_path, store, first=first), store)
    assert [blob.path for blob in seen.blobs] == [str(early), str(tmp_path / "a")]
    assert seen.tally.files == 2
    assert run(folder(tmp_path, store, first=first), store).tally == Tally(known=2)


def test_a_target_may_be_a_file_and_must_be_there(tmp_path: Path, rng: random.Random) -> None:
    assert run(folder(write(tmp_path / "file", make_key_id(rng)))).tally.files == 1
    with pytest.raises(SourceFailure, match="cannot be read"):
        run(folder(tmp_path / "missing"))
    os.mkfifo(tmp_path / "fifo")
    assert [each.why for each in run(folder(tmp_path / "fifo")).skipped] == ["neither a folder nor a regular file"]


def test_a_large_program_is_handed_on_with_its_end_if_that_is_a_zips(tmp_path: Path) -> None:
    program = b"MZ" + bytes(files.WINDOW)
    write(tmp_path / "plain", program)
    path = write(tmp_path / "zipapp", program + zipped({"member": b"text"}))
    (blob,) = run(folder(tmp_path)).blobs
    assert (blob.path, len(blob.data), blob.window) == (str(path), 4096, False)
    assert container_of(blob.data, blob.tail) == "zip"


def test_a_stream_is_one_blob_or_windows_or_a_container(rng: random.Random) -> None:
    key_id, secret = make_key_id(rng).encode(), make_secret(rng).encode()
    source = StreamSource(io.BytesIO(key_id + b" " + secret), holds_key, container_of)
    (blob,) = run(source).blobs
    assert list(source.provenance([blob.id])) == [(blob.id, FileProvenance(path="-"))]
    other = Met(source="stdin", blob="another", provenance=FileProvenance(path="-"))
    assert list(source.gone([other])) == [other]
    source.unread(blob.id, UNREAD)
    line = b"x" * 99 + b"\n"
    long = StreamSource(io.BytesIO(line * (files.WINDOW // 60) + key_id), holds_key, container_of)
    (blob,) = run(long).blobs
    assert blob.first_line > 1
    program = b"#!/bin/sh\n" + bytes(files.WINDOW)
    for end in (b"", key_id):
        assert len(run(StreamSource(io.BytesIO(program + end), holds_key, container_of)).blobs) == bool(end)
    whole = program + zipped({"member": b"text"})
    assert [blob.data for blob in run(StreamSource(io.BytesIO(whole), holds_key, container_of)).blobs] == [whole]
    packed = StreamSource(io.BytesIO(b"\x1f\x8b\x08rest"), holds_key, container_of)
    assert [each.data for each in run(packed).blobs] == [b"\x1f\x8b\x08rest"]
    assert run(StreamSource(io.BytesIO(b""), holds_key, container_of)).tally == Tally()


def test_a_streamed_container_has_a_size_limit() -> None:
    seen = run(StreamSource(io.BytesIO(b"\x1f\x8b\x08" + b"x" * 20), holds_key, container_of, 10))
    assert [each.outcome for each in seen.skipped] == [Outcome.FAILED]


def test_names_that_count_everywhere() -> None:
    for name in (".env", ".env.production", "prod.env", ".envrc", "credentials", "Credentials.csv", "x.tfstate.backup"):
        assert always(name), name
    for name in ("environment", "index.js", "credential", "tfstate.js"):
        assert not always(name), name


def test_media_is_told_by_its_first_bytes() -> None:
    for head in (
        b"\xff\xd8\xff\xe0",
        b"GIF89a",
        b"RIFF1234WEBP",
        b"\0\0\0\x20ftypisom",
        b"ID3\x03",
        b"wOF2\0",
        b"OTTO\0",
    ):
        assert is_media(head), head
    for head in (
        b"",
        b"GIF",
        b"RIFF1234junk",
        b"#!/bin/sh",
        b"PK\x03\x04",
        b"SQLite format 3\0",
        b"<svg>",
        b"BMW = fast",
    ):
        assert not is_media(head), head


def test_keys_are_found_in_a_sorted_array() -> None:
    keys = array("q", [-5, 1, 7])
    assert [walk.contains(keys, key) for key in (-5, 1, 7, -6, 0, 8)] == [True, True, True, False, False, False]
    status = os.stat_result((stat.S_IFREG, 1, 2, 1, 0, 0, 3, 0, 0, 0))
    assert walk.key_of(status, 1) != walk.media_key(walk.key_of(status, 1))
