"""Objects through `git cat-file --batch`: whole windows of its stream go through the prefilter, hits become objects.

The stream is `ID TYPE SIZE LF content LF` an object. Git dies at the first corrupt packed object, so a reader that ends
early is started again behind it, once an object. An object larger than a window is read in pieces that overlap.
"""

from __future__ import annotations

import binascii
import bisect
import hashlib
import io
import queue
import shutil
import tempfile
import threading
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

from firedamp.scanner.loose import LooseObjects
from firedamp.scanner.names import names_with_key_id
from firedamp.scanner.objects import ObjectAccess
from firedamp.scanner.source import Blob
from firedamp.scanner.stub import TAIL, is_stub, tail_of
from firedamp.storage.records import Tally

# numpy is loaded where it is needed: `scan --staged` reads a few objects in the time that it takes.
if TYPE_CHECKING:
    from firedamp.scanner.idset import Ids, Memory

Hits = Callable[[memoryview], Sequence[int]]
"""Where the prefilter sees something in these bytes: offsets behind each hit's last byte, ascending."""

Container = Callable[[bytes, bytes], bool]
"""Whether an object must be looked into though the prefilter sees nothing: by its first bytes, and its last where
`stub.tail_of` gives them."""

WINDOW: Final = 4 << 20
OVERLAP: Final = 64 << 10
"""Bytes of a piece that the next one has too: more than a key, its encoded forms and its secret span together."""
_ABSENT: Final = "absent"
_NO_ROOM: Final = "a container, and the disk has no room to open it"
_OTHER: Final = "its content is another than its id says"
_BEHIND: Final = "bytes stand behind its end, which git passes by"
_TOO_LARGE: Final = "a tree of more than 64 MiB, whose names were not looked at"
_LARGEST_TREE: Final = 64 << 20
_LONGEST_HEADER: Final = 128
_MAGIC: Final = 512
"""Bytes from the start of an object by which a container is known."""
_BLOB, _TREE, _LINE_END = b"lr\n"
"""The second letters of `blob` and `tree`; a commit has an o, a tag an a."""
_WAITING: Final = 4
"""Results that readers hold ready at most: more would only fill memory."""
_RESTARTS: Final = 20_000
"""How often one share of the objects is begun again behind a corrupt one: each costs a few milliseconds."""


FILTER_FROM: Final = 8 << 20
"""Bytes of the smallest pack that the delta filter is used for: below, reading everything takes no longer."""


@dataclass(frozen=True, slots=True)
class DeltaFilter:
    """How packs are read without git. cache keeps what is compiled.

    whole: look at all of every object, not only at what is new in it: for the doubtful, the outcome is the same.
    """

    cache: Path
    whole: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How repositories are read.

    jobs processes of ours filter packs, and gits of git's read what is not filtered, at the same time. delta_filter is
    used for packs of filter_from bytes and more; without it, git reads everything. means tell other means to open
    containers: what failed is tried again with these.
    """

    hits: Hits
    container: Container
    jobs: int = 2
    gits: int = 2
    delta_filter: DeltaFilter | None = None
    filter_from: int = FILTER_FROM
    means: str = ""


@dataclass(frozen=True, slots=True)
class Unread:
    """An object that was not read, and why. Of one that is absent git knows nothing, though it was listed."""

    id: str
    why: str = "corrupt object"

    @property
    def absent(self) -> bool:
        """Whether git knows of no such object."""
        return self.why == _ABSENT

    @property
    def passing(self) -> bool:
        """Whether it may be read another time, though the repository does not change."""
        return self.why == _NO_ROOM


@dataclass(frozen=True, slots=True)
class Named:
    """The names in a tree that may hold a key id. Such a tree is not remembered: it is read each time."""

    id: str
    names: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Some of the objects to be read.

    seen is where they are remembered, if anywhere: it is handed back with what was read. check: hash each object, which
    git does not do when it reads. One whose content is another counts as not read, and is looked at all the same.
    loose: they are loose objects but for a few. behind are ids in hexadecimal digits: what stands behind the end of one
    is told as of a loose one.
    """

    ids: Ids
    seen: Memory | None = None
    check: bool = False
    loose: bool = False
    behind: frozenset[bytes] = frozenset()

    def divided(self) -> Iterator[Part]:
        """Yield it in pieces of a size that is worth a git of its own."""
        if len(self.ids):
            for ids in _split(self.ids, max(1, min(len(self.ids) // 2000, 16))):
                yield replace(self, ids=ids)


@dataclass(frozen=True, slots=True)
class Share:
    """A part was read to its end: ids of all that were read, or ruled out, whatever stands in them."""

    ids: Ids
    tally: Tally
    seen: Memory | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Texts:
    """Objects whose texts are at hand, for the delta filter saw something in them: to be hashed, and handed on.

    kinds are git's words for what they are. seen and check are as a part's.
    """

    ids: Ids
    texts: Sequence[bytes]
    kinds: Sequence[str]
    seen: Memory | None = None
    check: bool = False

    def read(self) -> Iterator[Read]:
        """Yield all of them, and those that are not what their id says as not read too; of trees, the names."""
        unread, named, trees, size = dict[int, Unread](), set[int](), 0, 0
        for number, (name, text, kind) in enumerate(zip(self.ids, self.texts, self.kinds, strict=True)):
            raw = name.tobytes()
            if self.check:
                head = b"%s %d" % (kind.encode(), len(text))
                if begun(len(raw), head, text).digest() != raw:
                    unread[number] = Unread(raw.hex(), _OTHER)
            if kind == "tree":
                trees += number not in unread
                if names := names_with_key_id(text, len(raw)):
                    named.add(number)
                    yield Named(raw.hex(), names)
            else:
                size += len(text)
                yield Blob(raw.hex(), text)
        yield from unread.values()
        tally = Tally(objects=len(self.ids) - len(unread) - trees, bytes=size)
        yield Share(_without(self.ids, named.union(unread)), tally, self.seen)


Read = Blob | Named | Unread | Share
Portion = Part | Texts | Share
"""What a reader is given: what it is to read, and what was read or ruled out already, which it hands on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """Reads objects in parts, several at a time. window and overlap are settings for tests and measurements."""

    git: ObjectAccess
    hits: Hits
    container: Container
    jobs: int = 2
    window: int = WINDOW
    overlap: int = OVERLAP

    def read(self, parts: Iterable[Portion]) -> Iterator[Read]:
        """Yield the objects worth a look, those that could not be read, and each share when it is done.

        parts are asked for as they can be read: to find them may take its time.
        """
        if self.jobs == 1:
            for part in parts:
                yield from self._one(part)
            return
        yield from self._together(iter(parts))

    def _one(self, part: Portion) -> Iterator[Read]:
        match part:
            case Share():
                yield part
            case Texts():
                yield from part.read()
            case Part():
                if len(part.ids):
                    yield from _Pass(self, part).read()

    def _together(self, parts: Iterator[Portion]) -> Iterator[Read]:
        """Read in threads: git, the pipe and the prefilter all work without Python's lock."""
        done, asking = queue.Queue[Read | BaseException | None](_WAITING), threading.Lock()
        stopped = threading.Event()

        def put(item: Read | BaseException | None) -> None:
            while not stopped.is_set():
                try:
                    done.put(item, timeout=0.2)
                except queue.Full:
                    continue
                return

        def work() -> None:
            try:
                while not stopped.is_set():
                    with asking:
                        part = next(parts, None)
                    if part is None:
                        break
                    for item in self._one(part):
                        put(item)
                        if stopped.is_set():
                            return
                put(None)
            except BaseException as error:  # noqa: BLE001 - raised again where the results are taken
                put(error)

        threads = [threading.Thread(target=work, daemon=True) for _ in range(self.jobs)]
        for thread in threads:
            thread.start()
        try:
            working = len(threads)
            while working:
                match done.get():
                    case None:
                        working -= 1
                    case BaseException() as error:
                        raise error
                    case item:
                        yield item
        finally:
            stopped.set()
            for thread in threads:
                thread.join()


class _LostStepError(Exception):
    """An object was not as long as git said: what follows it in the stream cannot be told apart."""


@dataclass(slots=True)
class _Pass:
    """One part on its way through one window."""

    reader: Reader
    part: Part
    names: bytes = b""
    """The ids in hexadecimal digits, one after the other."""
    at: int = 0
    """How many of ids were answered."""
    unread: dict[int, Unread] = field(default_factory=dict)
    """Which of ids were not read, by their place."""
    read_bytes: int = 0
    trees: int = 0
    named: set[int] = field(default_factory=set)
    """Which of ids are trees with a key id in a name."""
    behind: set[bytes] = field(default_factory=set)
    """The ids of objects with bytes behind their end."""

    def __post_init__(self) -> None:
        self.names = binascii.hexlify(self.part.ids.tobytes())
        self.behind.update(self.part.behind)

    def read(self) -> Iterator[Read]:
        try:
            yield from self._through()
        except _LostStepError:
            # Git hands out a loose object that lies about its size as it is. The liar is found by halves, so that it
            # hides nothing: alone it is corrupt.
            if len(self.part.ids) == 1:
                yield Unread(self._name(0).decode())
                return
            for half in _split(self.part.ids, 2):
                yield from _Pass(self.reader, replace(self.part, ids=half)).read()

    def _through(self) -> Iterator[Read]:
        for _ in range(_RESTARTS):
            yield from self._once()
            if self.at >= len(self.part.ids):
                break
            self._not_read(self.at)
            self.at += 1
        for number in range(self.at, len(self.part.ids)):
            self._not_read(number)
        left = {number for number, each in self.unread.items() if self.part.loose and each.absent}
        if left:  # packed, or damaged: git tells which
            yield from _Pass(self.reader, replace(self.part, ids=self.part.ids[sorted(left)], loose=False)).read()
        for number in range(len(self.part.ids) if self.behind else 0):
            if self._name(number) in self.behind:
                self._not_read(number, _BEHIND)
        yield from (each for number, each in self.unread.items() if number not in left)
        tally = Tally(objects=len(self.part.ids) - len(self.unread) - self.trees, bytes=self.read_bytes)
        yield Share(_without(self.part.ids, self.named.union(self.unread)), tally, self.part.seen)

    def _not_read(self, number: int, why: str = "corrupt object") -> None:
        self.unread[number] = Unread(self._name(number).decode(), why)

    def _name(self, number: int) -> bytes:
        width = self.part.ids.shape[1] * 2
        return self.names[number * width : (number + 1) * width]

    def _once(self) -> Iterator[Read]:
        """Start git for what is left of the share and read until it ends, well or early."""
        if self.at >= len(self.part.ids):
            return
        with self._source() as source:
            stream = _Stream(source, bytearray(self.reader.window))
            while stream.fill():
                if not stream.buffer.startswith(self._name(self.at) + b" "):
                    raise _LostStepError
                whole = yield from self._whole(stream)
                if whole:
                    stream.drop(whole)
                elif stream.ended:
                    return
                else:
                    yield from self._large(stream)

    @contextmanager
    def _source(self) -> Iterator[io.RawIOBase]:
        names = (self._name(number) for number in range(self.at, len(self.part.ids)))
        if self.part.loose:
            with LooseObjects(self.reader.git.layout.stores, names, self.behind) as objects:
                yield objects
            return
        lines = (name + b"\n" for name in names)
        with self.reader.git.start("cat-file", "--batch", "--buffer", lines=lines) as running:
            yield running.stdout

    def _whole(self, stream: _Stream) -> Generator[Read, None, int]:
        """Take every object that is whole in the window; return how many bytes they are."""
        buffer, held = stream.buffer, stream.held
        view = memoryview(buffer)
        width = self.part.ids.shape[1] * 2
        kind = width + 2  # where the second letter of the type stands, by which all four differ
        at = 0
        starts, ends, numbers = list[int](), list[int](), list[int]()
        beginnings = list[int]()
        while (begin := buffer.find(b"\n", at, min(at + _LONGEST_HEADER, held)) + 1) > 0:
            if buffer[at : at + width] != self._name(self.at):
                raise _LostStepError
            size = buffer[buffer.rfind(b" ", at, begin) + 1 : begin - 1]
            if not size.isdigit():
                self._not_read(self.at, _ABSENT)
                at = begin
                self.at += 1
                continue
            end = begin + int(size)
            if end >= held:
                break
            if buffer[end] != _LINE_END:
                raise _LostStepError
            if self.part.check:
                self._check(self._hash(bytes(buffer[at + width + 1 : begin - 1]), view[begin:end]))
            if buffer[at + kind] == _TREE:
                yield from self._tree(view[begin:end])
            else:
                starts.append(begin)
                ends.append(end)
                numbers.append(self.at)
                if buffer[at + kind] == _BLOB and self.reader.container(
                    bytes(buffer[begin : min(end, begin + _MAGIC)]), tail_of(view[begin:end])
                ):
                    beginnings.append(len(starts) - 1)
                self.read_bytes += end - begin
            at = end + 1
            self.at += 1
        if starts:
            chosen = {bisect.bisect_left(ends, hit) for hit in self.reader.hits(view[: ends[-1]])}
            for number in sorted(chosen.union(beginnings)):
                yield Blob(self._name(numbers[number]).decode(), bytes(view[starts[number] : ends[number]]))
        return at

    def _tree(self, content: memoryview) -> Iterator[Named]:
        self.trees += 1
        if names := names_with_key_id(content, self.part.ids.shape[1]):
            self.named.add(self.at)
            yield Named(self._name(self.at).decode(), names)

    def _hash(self, head: bytes, content: memoryview) -> hashlib._Hash:
        return begun(self.part.ids.shape[1], head, content)

    def _check(self, digest: hashlib._Hash) -> None:
        if digest.digest() != self.part.ids[self.at].tobytes():
            self._not_read(self.at, _OTHER)

    def _large(self, stream: _Stream) -> Iterator[Read]:
        """Take an object that is larger than the window, in pieces; each begins with the end of the one before."""
        name, kind = self._name(self.at).decode(), stream.buffer[self.part.ids.shape[1] * 2 + 2]
        start = stream.buffer.index(b"\n") + 1
        left = size = int(stream.buffer[:start].rsplit(b" ", 1)[1])
        head = bytes(stream.buffer[start : start + _MAGIC])
        digest = self._hash(bytes(stream.buffer[self.part.ids.shape[1] * 2 + 1 : start - 1]), memoryview(b""))
        line, column = 1, 1
        late = list[tuple[int, int, int, int]]()
        whole, tail, tree = True, b"", bytearray()
        may_open = kind == _BLOB and (is_stub(head) or self.reader.container(head, b""))
        with self._spool(may_open, size) as spool:
            while True:
                piece = memoryview(stream.buffer)[start : min(stream.held, start + left)]
                last = len(piece) == left
                step = len(piece) if last else len(piece) - self.reader.overlap
                if kind != _TREE and self.reader.hits(piece):
                    if spool is None:
                        yield Blob(name, bytes(piece), line, column, window=True)
                    else:
                        late.append((size - left, len(piece), line, column))
                if spool is not None:
                    spool.write(piece[:step])
                if kind == _TREE and size <= _LARGEST_TREE:
                    tree += piece[:step]
                if self.part.check:
                    digest.update(piece[:step])
                if last:
                    tail = bytes(piece[-TAIL:]) if is_stub(head) else b""
                    break
                line, column = after(piece[:step], line, column)
                stream.drop(start + step)
                left, start = left - step, 0
                stream.fill()
                whole = stream.held > self.reader.overlap
                if not whole:
                    if spool is not None:
                        spool.write(memoryview(stream.buffer)[: min(stream.held, left)])
                    break
        opened = whole and may_open and self.reader.container(head, tail)
        if spool is not None:
            yield from _spooled(Blob(name, head, tail=tail, path=spool.name, spooled=True), late, opened=opened)
        elif opened:
            self._not_read(self.at, _NO_ROOM)
        if not whole:
            return
        stream.drop(min(start + left + 1, stream.held))
        if self.part.check:
            self._check(digest)
        if kind != _TREE:
            self.read_bytes += size
        elif size <= _LARGEST_TREE:
            yield from self._tree(memoryview(tree))
        else:
            self._not_read(self.at, _TOO_LARGE)
        self.at += 1

    @contextmanager
    def _spool(self, wanted: bool, size: int) -> Iterator[IO[bytes] | None]:
        """Open a file for a container that is too large to hold: it is opened from there, and removed by who gets it.

        There is none where the disk has no room for it.
        """
        if not wanted or size > shutil.disk_usage(self.reader.git.folder).free // 2:
            yield None
            return
        with tempfile.NamedTemporaryFile(dir=self.reader.git.folder, delete=False) as file:
            yield file


def _spooled(blob: Blob, late: Sequence[tuple[int, int, int, int]], *, opened: bool) -> Iterator[Blob]:
    """Yield a container that stands in a file, then its windows: what it gave is not told again as raw bytes.

    late: the windows worth a look, by offset, length, line and column. opened: whether it is a container after all.
    """
    path = Path(blob.path or "")
    with path.open("rb") as file:
        if opened:
            yield blob
        else:
            path.unlink()
        for offset, length, line, column in late:
            file.seek(offset)
            yield Blob(blob.id, file.read(length), line, column, window=True)


def begun(width: int, head: bytes, content: bytes | memoryview) -> hashlib._Hash:
    """Begin to hash an object as git does, of whose id width is the length: its type and size, then its content."""
    digest = (hashlib.sha256 if width == 32 else hashlib.sha1)(head + b"\0", usedforsecurity=False)
    digest.update(content)
    return digest


def _split(ids: Ids, parts: int) -> Sequence[Ids]:
    if parts == 1:
        return [ids]
    import numpy as np

    return np.array_split(np.asarray(ids), parts)


def _without(ids: Ids, numbers: Collection[int]) -> Ids:
    """Return ids without those that have these places."""
    if not numbers:
        return ids
    import numpy as np

    return np.delete(np.asarray(ids), list(numbers), axis=0)


@dataclass(slots=True)
class _Stream:
    """What git prints, through one window."""

    source: io.RawIOBase
    buffer: bytearray
    held: int = 0
    ended: bool = False

    def fill(self) -> bool:
        """Read until the window is full or git has ended; return whether anything is held."""
        view = memoryview(self.buffer)
        while self.held < len(view) and not self.ended:
            more = self.source.readinto(view[self.held :])
            self.held += more or 0
            self.ended = not more
        return self.held > 0

    def drop(self, count: int) -> None:
        """Forget the first bytes and move the rest to the front."""
        rest = self.held - count
        view = memoryview(self.buffer)
        view[:rest] = view[count : self.held]
        self.held = rest


def after(piece: memoryview, line: int, column: int) -> tuple[int, int]:
    """Return line and column (in code points) of what follows piece, which begins at line and column."""
    import numpy as np

    text = np.frombuffer(piece, np.uint8)
    ends = np.flatnonzero(text == ord("\n"))
    last = text[ends[-1] + 1 :] if len(ends) else text
    points = int(np.count_nonzero((last & 0xC0) != 0x80))
    return line + len(ends), points + (1 if len(ends) else column)
