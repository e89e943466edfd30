"""Objects through `git cat-file --batch`: whole windows of its stream go through the prefilter, hits become objects.

The stream is `ID TYPE SIZE LF content LF` an object. Git dies at the first corrupt packed object, so a reader that ends
early is started again behind it, once an object. An object larger than a window is read in pieces that overlap.
"""

from __future__ import annotations

import bisect
import io
import queue
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from firedamp.scanner.idset import Ids
from firedamp.scanner.objects import ObjectAccess
from firedamp.scanner.source import Blob
from firedamp.storage.records import Tally

Hits = Callable[[memoryview], Sequence[int]]
"""Where the prefilter sees something in these bytes: offsets behind each hit's last byte, ascending."""

WINDOW: Final = 16 << 20
OVERLAP: Final = 64 << 10
"""Bytes of a piece that the next one has too: more than a key, its encoded forms and its secret span together."""
_LONGEST_HEADER: Final = 128
_MAGIC: Final = 512
"""Bytes from the start of an object by which a container is known."""
_BLOB, _TREE = b"lr"
"""The second letters of `blob` and `tree`; a commit has an o, a tag an a."""
_WAITING: Final = 4
"""Results that readers hold ready at most: more would only fill memory."""
_RESTARTS: Final = 20_000
"""How often one share of the objects is begun again behind a corrupt one: each costs a few milliseconds."""


@dataclass(frozen=True, slots=True)
class Unread:
    """An object that git could not give: absent says that git knows of none, else it is corrupt."""

    id: str
    absent: bool


@dataclass(frozen=True, slots=True)
class Share:
    """A share of the objects was read to its end: ids of all that were read, whatever stands in them."""

    ids: Ids
    tally: Tally


Read = Blob | Unread | Share


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """Reads objects in shares, several at a time. window and overlap are settings for tests and measurements."""

    git: ObjectAccess
    hits: Hits
    container: Callable[[bytes], bool]
    """Whether an object that begins so must be looked into though the prefilter sees nothing."""
    jobs: int = 2
    window: int = WINDOW
    overlap: int = OVERLAP

    def read(self, ids: Ids) -> Iterator[Read]:
        """Yield the objects worth a look, those that could not be read, and each share when it is done."""
        if not len(ids):
            return
        shares = np.array_split(ids, max(1, min(len(ids) // 2000, 16)))
        if len(shares) == 1 or self.jobs == 1:
            for share in shares:
                yield from _Pass(self, share).read()
            return
        yield from self._together(shares)

    def _together(self, shares: Sequence[Ids]) -> Iterator[Read]:
        """Read shares in threads: git, the pipe and the prefilter all work without Python's lock."""
        todo, done = queue.SimpleQueue[Ids](), queue.Queue[Read | BaseException | None](_WAITING)
        for share in shares:
            todo.put(share)
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
                    for item in _Pass(self, todo.get_nowait()).read():
                        put(item)
                        if stopped.is_set():
                            return
            except queue.Empty:
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


@dataclass(slots=True)
class _Pass:
    """One share on its way through one window."""

    reader: Reader
    ids: Ids
    at: int = 0
    """How many of ids were answered."""
    unread: list[int] = field(default_factory=list)
    bytes: int = 0
    trees: int = 0

    def read(self) -> Iterator[Read]:
        for _ in range(_RESTARTS):
            yield from self._once()
            if self.at >= len(self.ids):
                break
            yield Unread(self._name(self.at), absent=False)
            self.unread.append(self.at)
            self.at += 1
        for number in range(self.at, len(self.ids)):
            yield Unread(self._name(number), absent=False)
            self.unread.append(number)
        read = np.delete(self.ids, self.unread, axis=0)
        yield Share(read, Tally(objects=len(read) - self.trees, bytes=self.bytes))

    def _name(self, number: int) -> str:
        return bytes(self.ids[number]).hex()

    def _once(self) -> Iterator[Read]:
        """Start git for what is left of the share and read until it ends, well or early."""
        width = self.ids.shape[1]
        raw = self.ids[self.at :].tobytes()
        lines = (raw[n : n + width].hex().encode() + b"\n" for n in range(0, len(raw), width))
        with self.reader.git.start("cat-file", "--batch", "--buffer", lines=lines) as running:
            stream = _Stream(running.stdout, bytearray(self.reader.window))
            while stream.fill():
                whole = yield from self._whole(stream)
                if whole:
                    stream.drop(whole)
                elif stream.ended:
                    return
                else:
                    yield from self._large(stream)

    def _whole(self, stream: _Stream) -> Generator[Read, None, int]:
        """Take every object that is whole in the window; return how many bytes they are."""
        buffer, held = stream.buffer, stream.held
        kind = self.ids.shape[1] * 2 + 2  # where the second letter of the type stands, by which all four differ
        at = 0
        starts, ends, numbers = list[int](), list[int](), list[int]()
        beginnings = list[int]()
        while (begin := buffer.find(b"\n", at, min(at + _LONGEST_HEADER, held)) + 1) > 0:
            size = buffer[buffer.rfind(b" ", at, begin) + 1 : begin - 1]
            if not size.isdigit():
                yield Unread(self._name(self.at), absent=True)
                self.unread.append(self.at)
                at = begin
                self.at += 1
                continue
            end = begin + int(size)
            if end >= held:
                break
            if buffer[at + kind] == _TREE:
                self.trees += 1
            else:
                starts.append(begin)
                ends.append(end)
                numbers.append(self.at)
                if buffer[at + kind] == _BLOB and self.reader.container(bytes(buffer[begin : begin + _MAGIC])):
                    beginnings.append(len(starts) - 1)
                self.bytes += end - begin
            at = end + 1
            self.at += 1
        if starts:
            view = memoryview(buffer)
            chosen = {bisect.bisect_left(ends, hit) for hit in self.reader.hits(view[: ends[-1]])}
            for number in sorted(chosen.union(beginnings)):
                yield Blob(self._name(numbers[number]), bytes(view[starts[number] : ends[number]]))
        return at

    def _large(self, stream: _Stream) -> Iterator[Read]:
        """Take an object that is larger than the window, in pieces; each begins with the end of the one before."""
        name, kind = self._name(self.at), self.ids.shape[1] * 2 + 2
        start = stream.buffer.index(b"\n") + 1
        left = size = int(stream.buffer[:start].rsplit(b" ", 1)[1])
        tree = stream.buffer[kind] == _TREE
        line, column = 1, 1
        while True:
            piece = memoryview(stream.buffer)[start : min(stream.held, start + left)]
            if not tree and self.reader.hits(piece):
                yield Blob(name, bytes(piece), line, column)
            if len(piece) == left:
                break
            step = len(piece) - self.reader.overlap
            line, column = after(piece[:step], line, column)
            stream.drop(start + step)
            left, start = left - step, 0
            stream.fill()
            if stream.held <= self.reader.overlap:
                return
        if tree:
            self.trees += 1
        else:
            self.bytes += size
        stream.drop(min(start + left + 1, stream.held))
        self.at += 1


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
    text = np.frombuffer(piece, np.uint8)
    ends = np.flatnonzero(text == ord("\n"))
    last = text[ends[-1] + 1 :] if len(ends) else text
    points = int(np.count_nonzero((last & 0xC0) != 0x80))
    return line + len(ends), points + (1 if len(ends) else column)
