"""How far a container is opened: the limits, what is spent of them, and the readers that keep to them.

A reader of hostile bytes never raises in the middle of a read: it ends early, and its `trouble` says why. So
whatever came before the trouble is still looked at.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Protocol

from firedamp.scanner.names import with_key_id

MIB: Final = 1 << 20
SMALL: Final = MIB
"""Members up to this size are handled as one bytes object; it is also the step in which larger ones are read."""
WINDOW: Final = 4 * MIB
"""The largest piece of a member that is looked at at once."""
NO_MEMORY: Final = "needs more memory than allowed"
"""Why something was not read that may be read when there is more."""
_FLOOR: Final = 16 * MIB
"""A ratio is no bomb below this: a page of zeros shrinks a thousand times and harms nobody."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How far one top-level file is unpacked. What lies beyond has failed, and says which setting cut it off.

    depth counts containers inside containers, members is for each container, size is the sum of bytes unpacked from
    one top-level file, ratio the same sum over the file's size (from 64 MiB on; each member's own from 16 MiB on),
    seconds is wall time. memory is what the worker may take above its start; held the largest container that is kept
    in memory because its format needs random access and its bytes come out of another container.
    """

    depth: int = 8
    members: int = 10_000
    size: int = 1 << 30
    ratio: int = 200
    seconds: float = 60.0
    memory: int = 128 * MIB
    held: int = 40 * MIB


class Trouble(Exception):
    """Why a container could not be read, or not to its end."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class Broken(Trouble):
    """One container or member is cut off; its neighbours go on."""


class Spent(Trouble):
    """A limit of the whole top-level file is reached; nothing after it is read. passing: another attempt may go on."""

    def __init__(self, why: str, *, passing: bool = False) -> None:
        super().__init__(why)
        self.passing = passing


class Budget:
    """What one top-level file of `stored` bytes may still take. clock is monotonic seconds."""

    def __init__(self, limits: Limits, stored: int, clock: Callable[[], float]) -> None:
        self.limits = limits
        self.used = 0
        self._clock = clock
        self._deadline = clock() + limits.seconds
        # More than a member's, so that a bomb which is cut off has not used up what its neighbours need.
        self._by_ratio = 4 * _FLOOR + self.limits.ratio * stored

    def allowance(self, stored: int) -> int:
        """Return how many bytes may come out of stored ones."""
        return max(_FLOOR, self.limits.ratio * stored)

    def spend(self, count: int) -> None:
        """Take count unpacked bytes from the budget; raises Spent when it is used up or the time is over."""
        self.used += count
        if self.used > self.limits.size:
            raise Spent(f"unpacks to more than {self.limits.size / MIB:,.0f} MiB (unpack_bytes)")
        if self.used > self._by_ratio:
            raise Spent(f"unpacks to more than {self.limits.ratio} times its size (unpack_ratio)")
        self.check()

    def check(self) -> None:
        """Raise Spent when the time is over."""
        if self._clock() > self._deadline:
            raise Spent(f"took longer than {self.limits.seconds:g} s (unpack_time)", passing=True)


File = io.BufferedReader
"""What a container is read from: seekable, or bytes that come once and in order."""


@dataclass(frozen=True, slots=True)
class Part:
    """A member of a container. thin: the one content of a compressed stream, which a container inside stands for.

    lines is False where the text was put together from values. shown: its text is in another part already, so that
    it is only looked into if it is a container itself.
    """

    name: str
    body: bytes | File
    lines: bool = True
    thin: bool = False
    shown: bool = False


@dataclass(frozen=True, slots=True)
class Member:
    """A member, or one window of a large one. container is the chain inside the file, `inner.tar!file`.

    first_line and first_column (code points, from 1) say where the window begins; both are None where the text was
    put together from values and has no lines of its own.
    """

    container: str
    data: bytes
    first_line: int | None = 1
    first_column: int | None = 1


@dataclass(frozen=True, slots=True)
class Unread:
    """A member, or a number of them, that its container could not hand out."""

    name: str
    why: str
    count: int = 1


Parts = Iterator[Part | Unread]


def without_content(name: str) -> Parts:
    """Yield a folder or an empty file if a key id may stand in its name: there is nothing else in it to look at."""
    if with_key_id([name]):
        yield Part(name, b"")


class Inflater(Protocol):
    """The decompressor objects of bz2, lzma, isal, zstd and lz4 alike."""

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        """Return at most max_length bytes more."""
        ...

    @property
    def eof(self) -> bool:
        """Whether the compressed stream has ended."""
        ...

    @property
    def needs_input(self) -> bool:
        """Whether nothing more comes without more input."""
        ...

    @property
    def unused_data(self) -> bytes | None:
        """What stood behind the end of the stream."""
        ...


class Reader(io.RawIOBase):
    """A raw reader that fills every buffer as far as it can, and keeps the reason when it ends early.

    A kind of reader says in `_more` where its next bytes come from.
    """

    def __init__(self) -> None:
        super().__init__()
        self.trouble: Trouble | None = None
        self._over = False

    def readable(self) -> bool:
        """Say yes."""
        return True

    def readinto(self, buffer: object, /) -> int:
        """Fill buffer; fewer bytes mean the end."""
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]  # io calls it with a buffer; typeshed has no name
        done = 0
        while done < len(view) and not self._over:
            try:
                piece = self._more(len(view) - done)
            except Trouble as trouble:
                self.trouble = trouble
                self._over = True
            except MemoryError:
                self.trouble = Broken(NO_MEMORY)
                self._over = True
            else:
                view[done : done + len(piece)] = piece
                done += len(piece)
        return done

    def _more(self, count: int) -> bytes:
        raise NotImplementedError


class Inflated(Reader):
    """The unpacked bytes of a compressed file. Its size, or what was read of it if it has none, bounds the ratio.

    magic is how a further stream behind the first begins (gzip, xz, bzip2, zstd and lz4 files may be joined);
    None where only one is meant.
    """

    def __init__(
        self,
        source: io.BufferedIOBase,
        start: Callable[[], Inflater],
        budget: Budget,
        *,
        magic: tuple[bytes, ...] | None = None,
    ) -> None:
        super().__init__()
        self._source = source
        self._start = start
        self._budget = budget
        self._magic = magic
        self._sized = source.seekable()
        self._stored = source.seek(0, io.SEEK_END) if self._sized else 0
        if self._sized:
            source.seek(0)
        self._unpacked = 0
        self._inflater = start()
        self._input = b""

    def _more(self, count: int) -> bytes:
        inflater = self._inflater
        if inflater.eof:
            self._next_stream(inflater.unused_data or b"")
            return b""
        if inflater.needs_input and not self._input:
            self._input = self._source.read(SMALL // 4)
            if not self._input:
                raise Broken("ends early")
            self._stored += 0 if self._sized else len(self._input)
        data, self._input = self._input, b""
        try:
            piece = inflater.decompress(data, count)
        except (MemoryError, Trouble):
            raise
        except Exception as error:  # each library has its own: zlib.error, LZMAError, OSError, RuntimeError
            raise Broken(_words(error)) from error
        self._budget.spend(len(piece))
        self._unpacked += len(piece)
        if self._unpacked > self._budget.allowance(self._stored):
            raise Broken(f"unpacks to more than {self._budget.limits.ratio} times its size (unpack_ratio)")
        return piece

    def _next_stream(self, rest: bytes) -> None:
        """Begin the stream that follows the one that ended, or end."""
        if self._magic is None:
            self._over = True
            return
        rest = rest.lstrip(b"\0") + self._source.read(SMALL // 4)
        while rest and not rest.strip(b"\0"):  # padding, as tapes and xz have it
            self._budget.check()
            rest = self._source.read(SMALL // 4)
        rest = rest.lstrip(b"\0")
        if not rest:
            self._over = True
        elif rest.startswith(self._magic):
            self._inflater = self._start()
            self._input = rest
        else:
            raise Broken("is followed by other bytes")


def at_once(data: bytes, start: Callable[[], Inflater], budget: Budget) -> bytes | None:
    """Unpack a small member in one step; None when it is not small or not whole, and must be read by Inflated."""
    inflater = start()
    try:
        whole = inflater.decompress(data, SMALL)
    except Exception:  # noqa: BLE001  # the slow way meets it again and gives what comes before it
        return None
    if not inflater.eof:
        return None
    budget.spend(len(whole))
    return whole


class Chunks(Reader):
    """Bytes that come in pieces, as a file."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        super().__init__()
        self._pieces = pieces
        self._left = b""

    def _more(self, count: int) -> bytes:
        if not self._left:
            piece = next(self._pieces, None)
            self._over = piece is None
            self._left = piece or b""
        piece, self._left = self._left[:count], self._left[count:]
        return piece


class Slice(Reader):
    """Bytes start to start + size of a seekable file, as a seekable file."""

    def __init__(self, source: File, start: int, size: int) -> None:
        super().__init__()
        self._source = source
        self._start = start
        self._size = size
        self._at = 0

    def seekable(self) -> bool:
        """Say yes."""
        return True

    def tell(self) -> int:
        """Return the offset from the slice's start."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Move within the slice."""
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        if origin + offset < 0:
            raise ValueError("seek before the start")  # what io's own files do
        self._at = origin + offset
        self._over = False
        return self._at

    def _more(self, count: int) -> bytes:
        count = min(count, self._size - self._at)
        if count <= 0:
            self._over = True
            return b""
        self._source.seek(self._start + self._at)
        piece = self._source.read(count)
        self._at += len(piece)
        if not piece:
            raise Broken("ends early")
        return piece


class Sequence:
    """Walks a file front to back and hands out its members, whether it is seekable or not."""

    def __init__(self, file: File, budget: Budget) -> None:
        self.at = 0
        self._file = file
        self._budget = budget
        self._seekable = file.seekable()
        self._end = file.seek(0, io.SEEK_END) if self._seekable else None

    def read(self, count: int) -> bytes:
        """Return the next count bytes, fewer at the end of the file."""
        if self._seekable:
            self._file.seek(self.at)
        data = self._file.read(count)
        self.at += len(data)
        return data

    def need(self, count: int) -> bytes:
        """Return exactly the next count bytes; raises Broken at the end of the file."""
        data = self.read(count)
        if len(data) < count:
            raise Broken("ends early")
        return data

    def padding(self) -> bytes:
        """Pass over zeros; return some of what follows them, which is still to be read, or nothing at the end."""
        while True:
            self._budget.check()
            if self._seekable:
                self._file.seek(self.at)
            ahead = self._file.peek(1)
            following = ahead.lstrip(b"\0")
            self.read(len(ahead) - len(following))
            if following or not ahead:
                return following

    def member(self, size: int) -> bytes | io.BufferedReader:
        """Hand out the next size bytes; `go` must be called before the next read."""
        if size <= SMALL:
            return self.read(size)
        if self._seekable:
            return buffered(Slice(self._file, self.at, size))
        return buffered(_Front(self, size))

    def rest(self) -> io.BufferedReader:
        """Hand out everything that is left; nothing may be read after it."""
        if self._end is not None:
            return buffered(Slice(self._file, self.at, self._end - self.at))
        return buffered(_Front(self, None))

    def go(self, offset: int) -> None:
        """Move forward to offset; raises Broken when the file ends before it."""
        if self._end is not None:
            self.at = offset
            if offset > self._end:
                raise Broken("ends early")
            return
        while self.at < offset:
            self._budget.check()
            if not self.read(min(SMALL, offset - self.at)):
                raise Broken("ends early")


class _Front(Reader):
    """The next size bytes, or all, of a sequence that cannot seek."""

    def __init__(self, source: Sequence, size: int | None) -> None:
        super().__init__()
        self._source = source
        self._end = None if size is None else source.at + size

    def _more(self, count: int) -> bytes:
        if self._end is not None:
            count = min(count, self._end - self._source.at)
        piece = self._source.read(count)
        if not piece:
            self._over = True
            if count and self._end is not None:
                raise Broken("ends early")
        return piece


def hold(file: File, budget: Budget) -> bytes:
    """Return the whole of a container whose format needs it in memory; raises Broken when it is larger than `held`."""
    limit = budget.limits.held
    if isinstance(file.raw, io.BytesIO) and len(file.raw.getbuffer()) <= limit:
        return file.raw.getvalue()  # the bytes themselves: a copy would cost their size once more
    if file.seekable():
        file.seek(0)
    data = file.read(limit + 1)
    if len(data) > limit:
        raise Broken(too_large(limit))
    return data


def random_access(file: File, budget: Budget) -> File:
    """Return a seekable form of file, held in memory if it must be."""
    return file if file.seekable() else in_memory(hold(file, budget))


def in_memory(data: bytes) -> File:
    """Return bytes as a file."""
    return io.BufferedReader(io.BytesIO(data), 1 << 12)


def buffered(raw: io.RawIOBase) -> File:
    """Return a file over a raw reader, read in steps of a quarter of a mebibyte."""
    return io.BufferedReader(raw, SMALL // 4)


def trouble_of(body: File) -> Trouble | None:
    """Return why a reader ended early, or None."""
    raw = body.raw
    return raw.trouble if isinstance(raw, Reader) else None


def again(first: bytes, rest: File) -> Iterator[bytes]:
    """Yield what was read of a file already, then the rest of it."""
    for at in range(0, len(first), MIB):
        yield first[at : at + MIB]
    while block := rest.read(MIB):
        yield block
    if (trouble := trouble_of(rest)) is not None:
        raise trouble


def too_large(held: int) -> str:
    """Say that something has more bytes than so many, which are held in memory."""
    return f"is larger than the {held / MIB:,.0f} MiB that are held in memory"


def _words(error: Exception) -> str:
    """Say what a library's error means, without quoting content."""
    if "memory" in str(error).lower():  # liblzma's and zstd's own words for a window that is too large
        return "has a window larger than what is held in memory"
    return f"is damaged: {type(error).__name__}"
