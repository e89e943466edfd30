"""Every file under a folder, or one file, or a stream.

The walk itself is in `walk`, its readers in `crew`; here what they found worth a look is read in full, named, and told
with the places where it stands.
"""

from __future__ import annotations

import functools
import hashlib
import os
import stat
from array import array
from collections import Counter
from collections.abc import Callable, Collection, Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from io import FileIO
from pathlib import Path, PurePath
from typing import BinaryIO, Final

from firedamp.scanner.bundle import begins_bundle, holds_pack, is_bundle
from firedamp.scanner.crew import steps
from firedamp.scanner.holes import Dense
from firedamp.scanner.names import may_hold_secret, with_key_id
from firedamp.scanner.source import Blob, Checkpoint, Item, Known, Nested
from firedamp.scanner.stub import is_stub, tail_in, tail_of
from firedamp.scanner.walk import (
    LOG,
    OVERLAP,
    WINDOW,
    ContainerOf,
    Folder,
    Interesting,
    Listed,
    Task,
    World,
    contains,
    elsewhere,
    finder,
    held_key,
    key_of,
    lasting,
    logged_key,
    open_file,
    place_of,
    shown,
    trouble,
)
from firedamp.storage.errors import SourceFailure
from firedamp.storage.masking import MARK
from firedamp.storage.records import (
    FileProvenance,
    GitProvenance,
    Met,
    Outcome,
    Provenance,
    Skipped,
    SourceState,
    Tally,
)
from firedamp.storage.store import Store

_HEAD: Final = 4096
_DATABASE: Final = b"SQLite format 3\0"
_STEP_FILES: Final = 20_000
_STEP_BYTES: Final = 2 << 30
_CONTINUATION: Final = bytes(range(0x80, 0xC0))
_CHUNK: Final = 1 << 20
_FEW: Final = 100_000
"""Keys that are sorted before numpy could be loaded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Walk:
    """How a folder is walked.

    everything reads what the rules leave out; first are files read before the walk; own are files of firedamp itself;
    jobs is how many processes read; pause is called between steps, and may take its time. roots are all that this scan
    walks, by every name that it was given: a link to something else is told. compiled is where compiled code is kept.
    """

    everything: bool = False
    same_file_system: bool = True
    first: tuple[str, ...] = ()
    own: frozenset[str] = frozenset()
    jobs: int = 2
    pause: Callable[[], None] | None = None
    roots: tuple[str, ...] = ()
    compiled: Path | None = None


def blob_id(data: bytes) -> str:
    """Name content as git does: SHA-1 over `blob SIZE NUL` and the bytes, so that file and object are one."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


class FolderSource:
    """Every regular file under a folder. Links are not followed, repositories are handed on.

    A file is remembered by its device, inode, size and times, eight bytes each, and not opened again while they stay;
    one in which something was found, while the store has its place as well.
    """

    name: Final = "folder"

    def __init__(
        self,
        root: str,
        store: Store,
        *,
        detector: str,
        interesting: Interesting,
        container_of: ContainerOf,
        walk: Walk = Walk(),
    ) -> None:
        self.target = shown(os.path.realpath(root))
        self._root = os.path.realpath(root)
        self._store = store
        self._detector = detector
        self._interesting = interesting
        self._container_of = container_of
        self._walk = walk
        self._met: dict[str, list[FileProvenance]] = {}
        self._fresh: list[Met] = []
        self._unread: set[str] = set()
        self._read_now: dict[int, str] = {}
        """The keys of files that were looked at since the last checkpoint, and what they are."""
        self._holding: dict[int, int] = {}
        """The keys of those in which something is found, and what they are remembered by."""
        self._held: dict[str, list[Met]] = {}
        self._gone: list[Met] = []
        self._left_out = Counter[str]()
        self._opened = False
        self._told: set[str] = set()
        """What was not read, and was told."""
        self._failed: set[str] = set()
        """What of that could not be read: what stood at or below it may be there."""

    def blobs(self) -> Iterator[Item]:
        """Yield the files worth a look, the repositories, and what was not read."""
        held = tuple(self._store.held(roots=[self.target]))
        there = _There(held)
        for met in held:
            if isinstance(met.provenance, FileProvenance) and there.name(met.provenance.path, met.blob) is None:
                self._held.setdefault(there.file(met.provenance.path, met.blob), []).append(met)
        known, early = self._remembered(), array("q")
        if self._walk.first:
            first = tuple(_listed(path) for path in self._walk.first)
            found = [each for each in first if isinstance(each, Listed)]
            yield from (each for each in first if isinstance(each, Skipped) and each.outcome is Outcome.FAILED)
            fresh = [each for each in found if not contains(known, self._as_known(each))]
            early = yield from self._read(self._world(known, array("q")), Task(files=tuple(fresh)), known, early=True)
        task = self._start()
        if isinstance(task, Skipped):
            yield task
            return
        if with_key_id([os.path.basename(self._root)]):  # noqa: PTH119
            yield from self._named(self._root)
        keys = yield from self._read(self._world(known, _sorted(early)), task, known)
        keys.extend((yield from self._passed_by(keys, known)))
        yield from self._left_out_by_rule()
        same = not self._opened and len(keys) == len(known)
        yield from self._checkpoint(Tally(), None if same else keys)

    def _passed_by(self, keys: array[int], known: array[int]) -> Generator[Item, None, array[int]]:
        """Read again what an earlier scan met where this walk did not come: other places may be left out by now.

        Return the keys of all that is there; what is unchanged is not opened.
        """
        there = [each for each in map(_listed, self._held) if isinstance(each, Listed)]
        passed = set(map(self._as_known, there)).difference(keys)
        there = [each for each in there if self._as_known(each) in passed and shown(each.path) not in self._told]
        if not there:
            return array("q")
        for each in there:
            if os.path.realpath(each.path) != each.path:  # a link on the way to it leads elsewhere
                self._gone += self._held.pop(each.path)
        there = [each for each in there if each.path in self._held]
        unchanged = {key for key in map(self._as_known, there) if contains(known, key)}
        again = tuple(each for each in there if self._as_known(each) not in unchanged)
        world = replace(self._world(known, array("q")), everything=True)
        read = yield from self._read(world, Task(files=again), known)
        return read + array("q", unchanged)

    def _as_known(self, file: Listed) -> int:
        """Return the key that a file is known by if it is unchanged."""
        held = self._held.get(file.path)
        return file.key if held is None else held_key(file.key, _only_blob(held))

    def _start(self) -> Task | Skipped:
        try:
            top = os.lstat(self._root)
        except OSError as error:
            raise SourceFailure(
                f"{self.target} cannot be read: {error.strerror}", "does it exist, and may you read it?"
            ) from error
        if stat.S_ISDIR(top.st_mode):
            return Task(folders=(Folder(self._root),))
        if stat.S_ISREG(top.st_mode):
            return Task(files=(Listed(self._root, _key(self._root, top), top.st_size),))
        return Skipped(outcome=Outcome.LEFT_OUT, what=self.target, why="neither a folder nor a regular file")

    def _world(self, known: array[int], early: array[int]) -> World:
        device = os.lstat(self._root).st_dev if self._walk.same_file_system and os.path.lexists(self._root) else None
        held = {path: _only_blob(met) for path, met in self._held.items()}
        return World(
            interesting=self._interesting, container_of=self._container_of, known=known, early=early,
            own=self._walk.own, held=held, everything=self._walk.everything, device=device,
            roots=(self._root, *self._walk.roots), compiled=self._walk.compiled,
        )  # fmt: skip

    def _read(
        self, world: World, task: Task, known: array[int], *, early: bool = False
    ) -> Generator[Item, None, array[int]]:
        """Do the steps of a walk, and commit now and then; return the keys of everything that was read or is known."""
        keys = array("q")
        new = size = 0
        for step in steps(world, task, self._walk.jobs):
            new += step.files
            size += step.bytes
            self._opened |= step.opened
            self._told.update(each.what for each in step.skipped)
            self._failed.update(each.what for each in step.skipped if each.outcome is Outcome.FAILED)
            yield from step.skipped
            yield from (Nested(path) for path in step.nested)
            for path in step.named:
                yield from self._named(path)
            self._left_out.update(step.left_out)
            keys.extend(step.keys)
            for each in step.worth:
                if (yield from self._looked(each)) and each.key:
                    keys.append(each.key)
            tally = Tally(files=step.files, bytes=step.bytes, known=step.known)
            if new >= max(_STEP_FILES, len(keys) // 4) or size >= _STEP_BYTES:
                yield from self._checkpoint(tally, keys + known)
                new = size = 0
            else:
                yield Checkpoint(tally)
            if self._walk.pause is not None:
                self._walk.pause()
        if early:
            yield from self._checkpoint(Tally(), keys + known)
        return keys

    def _named(self, path: str) -> Iterator[Item]:
        """Yield a name in which a key id may stand; one with room for a secret is told by its folder.

        Not the target's own: its folder is no part of the target, by which all here is known.
        """
        folder, name = os.path.split(path)
        blob = blob_id(os.fsencode(name))
        place = FileProvenance(path=shown(folder if may_hold_secret(name) and path != self._root else path))
        self._fresh.append(Met(source=self.name, blob=blob, provenance=place))
        if blob in self._met:
            yield Known(blob)
        else:
            yield Blob(blob, os.fsencode(name), lines=False)
        self._met.setdefault(blob, []).append(place)

    def _looked(self, file: Listed) -> Generator[Item, None, bool]:
        """Yield what a file worth a look holds; return whether it is read to its end and need not be met again."""
        try:
            handle = open_file(file.path)
        except OSError as error:
            told = trouble(file.path, error)
            if told.outcome is Outcome.FAILED:
                self._failed.add(told.what)
            yield told
            return False
        with Dense(handle) as stream:
            status = os.fstat(handle)
            data = stream.read(WINDOW + 1)
            bundle = begins_bundle(data)
            if bundle:
                yield Nested(file.path)
            if holds_pack(data):
                self._gone += self._held.pop(file.path, [])
                return False
            while 0 < len(data) <= WINDOW and (more := stream.read(WINDOW + 1 - len(data))):
                data += more
            whole = len(data) <= WINDOW and not stream.holes and not bundle
            blob = _with_log(blob_id(data) if whole else _hashed(stream), data, file.path)
            place = FileProvenance(path=shown(file.path), mode=stat.S_IMODE(status.st_mode))
            self._read_now[file.key] = blob
            known = blob in self._met
            self._met.setdefault(blob, []).append(place)
            self._fresh.append(Met(source=self.name, blob=blob, provenance=place))
            self._gone += [met for met in self._held.pop(file.path, []) if met.blob != blob]
            if known:
                yield Known(blob)
                return not bundle and blob not in self._unread
            if whole:
                yield Blob(blob, data, path=file.path)
            else:
                tail, silent = tail_in(handle, data), True
                if not bundle and self._container_of(data[:_HEAD], tail) is not None:
                    yield Blob(blob, data[:_HEAD], tail=tail, path=file.path)
                    silent = False
                for window, line, column in windows(stream):
                    if self._interesting(window):
                        yield Blob(blob, window, line, column, window=True, path=file.path)
                        silent = False
                if silent:  # all of it was looked at: what another version found is there no more
                    yield Blob(blob, b"", window=True, path=file.path)
        return not bundle and blob not in self._unread

    def unread(self, blob: str, _failed: Skipped) -> None:
        """Do not remember this blob's files: part of it could not be looked through."""
        self._unread.add(blob)

    def _checkpoint(self, tally: Tally, keys: array[int] | None) -> Iterator[Checkpoint]:
        """Commit what was met. keys is what shall be remembered from now on, None where that is what is already."""
        met, self._fresh = tuple(self._fresh), []
        gone, self._gone = tuple(self._gone), []
        yield Checkpoint(tally, met=met, gone=gone)
        if keys is None:
            return
        # What was found is in the store now.
        holding = self._store.holding(self._read_now.values())
        self._holding |= {key: held_key(key, blob) for key, blob in self._read_now.items() if blob in holding}
        self._read_now.clear()
        value = _sorted(array("q", (self._holding.get(key, key) for key in keys))).tobytes()
        yield Checkpoint(states=(SourceState(target=self.target, detector=self._detector, value=value),))

    def _remembered(self) -> array[int]:
        state = self._store.source_state(self.target, self._detector)
        known = array("q")
        if state is not None and len(state.value) % known.itemsize == 0:
            known.frombytes(state.value)
        return known

    def _left_out_by_rule(self) -> Iterator[Skipped]:
        for why, count in sorted((+self._left_out).items()):
            yield Skipped(outcome=Outcome.LEFT_OUT, what=self.target, why=why, count=count)

    def provenance(self, ids: Collection[str]) -> Iterator[tuple[str, Provenance]]:
        """Yield every path at which these blobs were met now; a file that was not opened again keeps its old ones."""
        for blob in ids:
            for place in self._met.get(blob, []):
                yield blob, place

    def gone(self, met: Iterable[Met]) -> Iterator[Met]:
        """Yield places whose file or repository is no longer there.

        What holds other content now was told with what was read.
        """
        there, shown_alike = _There(), list[Met]()
        for each in met:  # there may be a million
            if isinstance(each.provenance, FileProvenance) and MARK in each.provenance.path:
                shown_alike.append(each)
            elif not there.holds(each) and not self._is_unsure(each):
                yield each
        there = _There(shown_alike)
        yield from (each for each in shown_alike if not there.holds(each) and not self._is_unsure(each))

    def unsure(self, met: Iterable[Met]) -> Iterator[Met]:
        """Yield places that could not be read, or that stand in a folder that could not be listed."""
        if self._failed:  # to ask what was met takes time
            yield from filter(self._is_unsure, met)

    def _is_unsure(self, met: Met) -> bool:
        place = met.provenance
        path = place.path if isinstance(place, FileProvenance) else place.repository
        return not self._failed.isdisjoint((path, *map(str, PurePath(path).parents)))


class StreamSource:
    """Standard input, read to its end. A stream too large to hold is looked at in windows, each a blob of its own.

    largest is the size in bytes up to which a container is held in memory. target is what the user knows it by.
    """

    name: Final = "stdin"

    def __init__(
        self, stream: BinaryIO, interesting: Interesting, container_of: ContainerOf, largest: int = 128 << 20,
        *, target: str = "-",
    ) -> None:  # fmt: skip
        self.target: Final = target
        self._stream = stream
        self._largest = largest
        self._interesting = interesting
        self._container_of = container_of
        self._blobs: set[str] = set()

    def blobs(self) -> Iterator[Item]:
        """Yield the stream, as one blob or in windows."""
        first = self._stream.read(WINDOW)
        if is_stub(first):  # its end tells what it is
            first += self._stream.read(self._largest + 1 - len(first))
        if self._container_of(first[:_HEAD], tail_of(first)) is not None:
            yield from self._container(first)
            return
        size = 0
        for data, line, column in windows(self._stream, first):
            size += len(data)
            blob = blob_id(data)
            self._blobs.add(blob)
            if self._interesting(data):
                yield Blob(blob, data, line, column)
        yield Checkpoint(Tally(files=1, bytes=size) if size else Tally())

    def _container(self, first: bytes) -> Iterator[Item]:
        data = first + self._stream.read(self._largest + 1 - len(first))
        if len(data) > self._largest:
            why = f"a container of more than {self._largest >> 20} MiB can only be opened as a file"
            yield Skipped(outcome=Outcome.FAILED, what=self.target, why=why)
        blob = blob_id(data)
        self._blobs.add(blob)
        yield Blob(blob, data)
        yield Checkpoint(Tally(files=1, bytes=len(data)))

    def unread(self, _blob: str, _failed: Skipped) -> None:
        """Do nothing: a stream is never remembered."""

    def provenance(self, ids: Collection[str]) -> Iterator[tuple[str, Provenance]]:
        """Yield the one place there is."""
        for blob in ids:
            yield blob, FileProvenance(path=self.target)

    def gone(self, met: Iterable[Met]) -> Iterator[Met]:
        """Yield what an earlier stream held."""
        return (each for each in met if each.blob not in self._blobs)

    def unsure(self, met: Iterable[Met]) -> Iterator[Met]:
        """Yield nothing: what was read of a stream is all there is."""
        del met
        yield from ()


def windows(stream: BinaryIO | FileIO, first: bytes = b"") -> Iterator[tuple[bytes, int, int]]:
    """Yield a stream in windows that overlap, each with the line and column (from 1, in code points) where it begins.

    first is what was read of it already. Windows begin and end at line ends where lines are short enough, so that no
    value is cut in two and taken for a whole one.
    """
    line, column, carried = 1, 1, b""
    while True:
        block, first = first[:WINDOW], first[WINDOW:]
        while len(block) < WINDOW and (more := stream.read(WINDOW - len(block))):
            block += more
        data = carried + block
        if len(block) < WINDOW:
            if data:
                yield data, line, column
            return
        end = data.rfind(b"\n", len(data) - OVERLAP // 2) + 1 or len(data)
        yield data[:end], line, column
        start = data.find(b"\n", len(data) - OVERLAP, len(data) - OVERLAP // 2) + 1 or len(data) - OVERLAP
        passed, carried = data[:start], data[start:]
        breaks = passed.count(b"\n")
        if breaks:
            line, column, passed = line + breaks, 1, passed[passed.rindex(b"\n") + 1 :]
        column += len(passed.translate(None, _CONTINUATION))


def read_again(path: str, blob: str) -> Iterator[Blob]:
    """Yield a file's content if it is still the blob that was found there: whole, or in windows if it is large.

    A blob may also be the name of a file or folder.
    """
    there = _There()
    name = there.name(path, blob)
    if name is not None:
        yield Blob(blob, name, lines=False)
        return
    for file in there.find(path):
        with _opened(file, blob) as stream:
            if stream is None:
                continue
            head = stream.read(_HEAD)
            stream.seek(0)
            large = os.fstat(stream.fileno()).st_size > WINDOW
            if large:
                yield Blob(blob, head, tail=tail_in(stream.fileno(), head), path=file)
            for window, line, column in windows(stream):
                yield Blob(blob, window, line, column, window=large, path=file)
            return


@contextmanager
def _opened(path: str, blob: str) -> Iterator[Dense | None]:
    """Open a file if it is still a blob."""
    try:
        handle = open_file(path)
    except OSError:
        yield None
        return
    with Dense(handle) as stream:
        name = _with_log(_hashed(stream), stream.read(len(_DATABASE)), path)
        stream.seek(0)
        yield stream if name == blob else None


class _There:
    """Finds what stands where blobs were met: files and names. It looks at each folder once: not for long.

    Where a secret in a path is masked, another file may be shown alike. met are all ways that are asked for: where
    they tell of one content and one file is there, it need not be read.
    """

    def __init__(self, met: Iterable[Met] = ()) -> None:
        self.find: Final = finder()
        self._names = functools.cache(_names_in)
        self._may_hold = functools.cache(_may_hold)
        places = {(each.provenance.path, each.blob) for each in met}
        self._contents = Counter(path for path, _ in places if path is not None and MARK in path)

    def holds(self, met: Met) -> bool:
        """Whether there is a file, a name or a repository where a blob was met."""
        match met.provenance:
            case FileProvenance(path=path):
                return _is_file(self.file(path, met.blob)) or self.name(path, met.blob) is not None
            case GitProvenance(repository=repository):
                return any(map(self._may_hold, self.find(repository)))

    def file(self, path: str, blob: str) -> str:
        """Return the file at path, or one by that name that does not exist."""
        files = self.find(path)
        if self._contents[path] > 1 or len(files) > 1:
            files = [each for each in files if _is_blob(each, blob)]
        return next(iter(files), path)

    def name(self, path: str, blob: str) -> bytes | None:
        """Return the name that is a blob: of what stands at path, or one in the folder there."""
        for real in map(os.fsencode, self.find(path)):
            own = os.path.basename(real)  # noqa: PTH119
            found = own if blob_id(own) == blob and os.path.lexists(real) else self._names(real).get(blob)
            if found is not None:
                return found
        return None


def _is_blob(path: str, blob: str) -> bool:
    with _opened(path, blob) as stream:
        return stream is not None


def _hashed(stream: Dense) -> str:
    """Return git's hash of a file, and leave it at its beginning. With large holes: one over where its data is."""
    size = stream.seek(0, os.SEEK_END)
    digest = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    stream.seek(0)
    for chunk in iter(functools.partial(stream.read, _CHUNK), b""):
        if stream.holes:
            digest.update(b"%d\0" % stream.tell())
        digest.update(chunk)
    stream.seek(0)
    return digest.hexdigest()


def _with_log(blob: str, head: bytes, path: str) -> str:
    """Name a database by its log as well, if one with content stands beside it: what it holds is both."""
    if head.startswith(_DATABASE):
        with suppress(OSError), Dense(open_file(path + LOG)) as log:
            if os.fstat(log.fileno()).st_size:
                return blob_id(f"{blob} {_hashed(log)}".encode())
    return blob


def _only_blob(met: Collection[Met]) -> str:
    """Return what was met at one path, nothing if it was several."""
    blobs = {each.blob for each in met}
    return blobs.pop() if len(blobs) == 1 else ""


def _listed(path: str) -> Listed | Skipped:
    try:
        status = os.lstat(path)
    except OSError as error:
        return trouble(path, error)
    if not stat.S_ISREG(status.st_mode):
        return Skipped(outcome=Outcome.LEFT_OUT, what=shown(path), why="not a regular file")
    if elsewhere(status):
        return Skipped(outcome=Outcome.LEFT_OUT, what=shown(path), why="not downloaded from the cloud")
    return Listed(path, lasting(_key(path, status), status), status.st_size)


def _key(path: str, status: os.stat_result) -> int:
    key = key_of(status, place_of(os.path.dirname(path)))  # noqa: PTH120
    log = path + LOG
    return logged_key(key, functools.partial(os.lstat, log)) if os.path.lexists(log) else key


def _names_in(folder: bytes) -> dict[str, bytes]:
    """Return the names in a folder, by what they are as blobs; none where there is no folder."""
    try:
        return {blob_id(name): name for name in os.listdir(folder)}  # noqa: PTH208
    except OSError:
        return {}


def _is_file(path: str) -> bool:
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True


def _may_hold(path: str) -> bool:
    """Whether a repository or a bundle may stand at path: what cannot be looked at may."""
    try:
        status = os.lstat(path)
        if stat.S_ISREG(status.st_mode):
            return is_bundle(Path(path))
        names = os.listdir(path) if stat.S_ISDIR(status.st_mode) else []  # noqa: PTH208 - names alone
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return ".git" in names or "objects" in names


def _sorted(keys: array[int]) -> array[int]:
    """Return keys sorted. Many through numpy: a list of Python integers would take five times the memory."""
    if len(keys) <= _FEW:
        return array("q", sorted(keys))
    import numpy as np

    return array("q", np.sort(np.frombuffer(keys, dtype=np.int64)).tobytes())
