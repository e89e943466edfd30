"""Compressed streams: gzip, bzip2, xz and lzma, zstd, lz4. One content each, unpacked while it is read."""

from __future__ import annotations

import bz2
import lzma
import re
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Final

from isal import igzip_lib

from firedamp.scanner.budget import (
    SMALL,
    Broken,
    Budget,
    Chunks,
    File,
    Inflated,
    Inflater,
    Part,
    Parts,
    Spent,
    Unread,
    buffered,
    hold,
    trouble_of,
)

CONTENT: Final = "content"
"""What the inside of a compressed stream without a name is called."""

_LZMA_MEMORY: Final = 80 << 20
"""xz -9 needs 65 MiB. More is a file made to hurt."""


_REFLOG: Final = re.compile(rb"g[\x00-\xff]{3}(?=\x78[\x01\x5e\x9c\xda])")
_REFS, _LOGS, _INDEX = b"rgi"
_STEP: Final = 64 << 10
"""Bytes of a block that are inflated before the budget is asked."""
_LZ4_LEGACY: Final = b"\x02\x21\x4c\x18"
_LZ4_BLOCK: Final = 8 << 20
_LZ4_LARGEST: Final = _LZ4_BLOCK + _LZ4_BLOCK // 255 + 16
"""What a block may grow to that does not shrink."""
_ZSTD_WINDOW: Final = 26
"""As a power of two: 64 MiB. `zstd --ultra --long` writes larger ones, which would fill the worker's memory."""


def gunzip(file: File, budget: Budget) -> Parts:
    """RFC 1952, members joined or single. The name is the one in the first header, as is the comment."""
    name, comment = _gzip_words(file.peek(SMALL // 4))
    if comment:
        yield Part("", comment, lines=False)
    yield _content(file, _gzip, budget, (b"\x1f\x8b\x08",), name)


def bunzip2(file: File, budget: Budget) -> Parts:
    """Bzip2 1.0; blocks of 900 kB at most, so that memory is bounded by the format."""
    yield _content(file, bz2.BZ2Decompressor, budget, (b"BZh",))


def unxz(file: File, budget: Budget) -> Parts:
    """.xz and the older .lzma (LZMA_alone)."""
    yield _content(file, xz, budget, (b"\xfd7zXZ\x00",))


def unzstd(file: File, budget: Budget) -> Parts:
    """Zstandard frames (RFC 8878), skippable ones too; windows of more than 64 MiB are refused.

    A skippable frame holds what its writer likes: of all of them up to 1 MiB is looked at, more is told.
    """
    frames = _Frames()
    body = buffered(Inflated(file, frames.begin, budget, magic=(b"\x28\xb5\x2f\xfd", *SKIPPABLE)))
    yield Part(CONTENT, body, thin=True)
    while body.read(SMALL):
        pass  # whoever had it may have stopped before its end
    if isinstance(trouble := trouble_of(body), Spent):
        raise trouble
    if frames.notes:
        yield Part("", bytes(frames.notes[:SMALL]), lines=False)
    if len(frames.notes) > SMALL:
        yield Unread("", "holds more than 1 MiB in skippable frames")


def unreftable(file: File, budget: Budget) -> Parts:
    """Git's reftable: its reflogs, the only blocks that are compressed, and names of refs that are put together.

    A block of reflogs is `g`, what it inflates to with these four bytes, and zlib (git's technical/reftable, "Log block
    format"). A name leaves out what it shares with the one before; all others stand in the file as they are.
    """
    data, at, number = memoryview(hold(file, budget)), 0, 0
    width = 32 if bytes(data[24:28]) == b"s256" else 20
    begin, whole = 24 + 4 * (data[4] - 1), dict[int, int]()
    yield from _ref_names(data, begin, width, budget)
    while (found := _REFLOG.search(data, at)) is not None:
        at, size = found.end(), int.from_bytes(found[0][1:], "big")
        text, end = _reflog(data, at, size, budget)
        if end > at and len(text) == size - (at if found.start() == begin else 4):
            whole[found.start()] = end
        if text:  # none in a name or an id that looks like a block
            at = end
            number += 1
            yield Part(f"log {number}", text, lines=False)
            names, _ = _shared(memoryview(text), 0, partial(_after_log, width=width), budget)
            if names:
                yield Part(f"names in log {number}", names, lines=False)
    if not _has_all_logs(data, begin, whole):
        yield Unread("", "has a damaged block of reflogs, of which not all was read")


def _has_all_logs(data: memoryview, begin: int, whole: Mapping[int, int]) -> bool:
    """Whether the blocks of reflogs are whole that the footer says there are, and stand side by side.

    begin is where the first block of all begins, whole where those that are begin and end. The footer is the header,
    five offsets (the fourth is that of the reflogs, or nought) and a checksum; an index may stand before it ("Footer").
    """
    footer = len(data) - begin - 44
    if footer < begin or data[footer : footer + begin] != data[:begin]:
        return True  # git takes it for no reftable
    at = int.from_bytes(data[footer + begin + 24 :][:8], "big") or (begin if data[begin] == _LOGS else footer)
    while at in whole:
        at = whole[at]
    return at == footer or (at < footer and data[at] == _INDEX)


def _ref_names(data: memoryview, at: int, width: int, budget: Budget) -> Parts:
    """Put together the names in the blocks of refs: they come first, with NULs between them ("Ref block format")."""
    begin, number = 0, 0  # the first block has the file's header in it
    while at < len(data) and data[at] == _REFS:
        end = begin + int.from_bytes(data[at + 1 : at + 4], "big")
        names, whole = _shared(data[:end], at + 4, partial(_after_ref, width=width), budget)
        number += 1
        if names:
            yield Part(f"names {number}", names, lines=False)
        if not whole or len(data) < end:
            yield Unread("", "has a damaged block of refs, whose names were not all put together")
            return
        begin = end
        while begin < len(data) and not data[begin]:
            begin += 1
        at = begin


def _shared(
    block: memoryview, at: int, after: Callable[[memoryview, int, int], int], budget: Budget
) -> tuple[bytes, bool]:
    """Return the names, a line each, that leave something out in the records of a block, from an offset to its end.

    after says where the value behind a name ends. Returned too is whether all the records make sense.
    """
    names, name = list[bytes](), b""
    end = len(block) - 2 - 3 * int.from_bytes(block[-2:], "big")
    try:
        while at < end:
            left, at = _varint(block, at)
            size, at = _varint(block, at)
            if left > len(name) or at + (size >> 3) > end:
                return b"\n".join(names), False
            name = name[:left] + bytes(block[at : at + (size >> 3)])
            if left:
                budget.spend(len(name))
                names.append(name)
            at = after(block, at + (size >> 3), size & 7)
    except IndexError:
        at = -1
    return b"\n".join(names), at == end


def _after_ref(block: memoryview, at: int, kind: int, width: int) -> int:
    """Return where the value of a ref ends that begins at an offset: none, one id or two, or another ref's name."""
    _, at = _varint(block, at)
    if kind == 3:
        size, at = _varint(block, at)
        return at + size
    return at + kind * width


def _after_log(block: memoryview, at: int, kind: int, width: int) -> int:
    """Return where an entry of a reflog ends that begins at an offset: one that was removed has nothing."""
    if kind:
        at += 2 * width
        for _ in range(2):
            size, at = _varint(block, at)
            at += size
        _, at = _varint(block, at)
        size, at = _varint(block, at + 2)
        at += size
    return at


def _varint(block: memoryview, at: int) -> tuple[int, int]:
    """Return a number as reftables and packs have it, and where it ends."""
    value = block[at] & 127
    while block[at] & 128 and value < 1 << 32:
        at += 1
        value = value + 1 << 7 | block[at] & 127
    return value, at + 1


def _reflog(data: memoryview, at: int, size: int, budget: Budget) -> tuple[bytes, int]:
    """Return what a block that begins at an offset inflates to, size bytes at most, and where it ends.

    Of a damaged one what comes before the damage, and where it began: an intact one may stand in it.
    """
    engine, text, begin = zlib.decompressobj(), bytearray(), at
    try:
        while len(text) < size and at < len(data) and not engine.eof:
            stored = data[at : at + _STEP]
            piece = engine.decompress(stored, min(_STEP, size - len(text)))
            budget.spend(len(piece))
            text += piece
            at += len(stored) - len(engine.unused_data) - len(engine.unconsumed_tail)
    except zlib.error:
        at = begin
    return bytes(text), at


def unlz4(file: File, budget: Budget) -> Parts:
    """LZ4 frames, as the lz4 tool writes them, and the older ones that Linux's kernels are packed with."""
    if file.peek(4).startswith(_LZ4_LEGACY):
        yield Part(CONTENT, buffered(Chunks(_lz4_legacy(file, budget))), thin=True)
        return
    yield _content(file, _lz4, budget, (b"\x04\x22\x4d\x18",))


def _lz4_legacy(file: File, budget: Budget) -> Iterator[bytes]:
    """Unpack legacy frames (lz4_Frame_format.md): blocks of up to 8 MiB, each behind its packed size."""
    import lz4.block

    stored = unpacked = 0
    while size := file.read(4):
        if size == _LZ4_LEGACY:
            continue
        length = int.from_bytes(size, "little")
        if length > _LZ4_LARGEST:
            raise Broken("is followed by other bytes")
        block = file.read(length)
        if len(size) < 4 or len(block) < length:
            raise Broken("ends early")
        try:
            piece: bytes = lz4.block.decompress(block, uncompressed_size=_LZ4_BLOCK)
        except lz4.block.LZ4BlockError:
            raise Broken("is damaged: LZ4BlockError") from None
        budget.spend(len(piece))
        stored, unpacked = stored + length, unpacked + len(piece)
        if unpacked > budget.allowance(stored):
            raise Broken(f"unpacks to more than {budget.limits.ratio} times its size (unpack_ratio)")
        yield piece


SKIPPABLE: Final = tuple(bytes([0x50 + n]) + b"\x2a\x4d\x18" for n in range(16))
"""The sixteen magics of a zstd frame that holds no data (RFC 8878, 3.1.2)."""


class _Frames:
    """Begins frames of zstd, and keeps what stands in the skippable ones, up to a little over SMALL bytes."""

    def __init__(self) -> None:
        self.notes = bytearray()

    def begin(self) -> Inflater:
        return _Frame(zstd(), self.notes)


class _Frame:
    """A frame of zstd. A skippable one gives no data; what it holds is added to notes."""

    def __init__(self, inflater: Inflater, notes: bytearray) -> None:
        self._inflater = inflater
        self._notes = notes
        self._left: int | None = None
        """How many bytes of a skippable frame are to come; None before the first, 0 in any other frame."""

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        first = self._left is None
        if self._left is None:
            self._left = int.from_bytes(data[4:8], "little") if data.startswith(SKIPPABLE) else 0
        held = (data[8:] if first else data)[: self._left]
        self._left -= len(held)
        if first and held and self._notes:
            held = b"\n" + held
        self._notes += held[: max(0, SMALL + 1 - len(self._notes))]
        return self._inflater.decompress(data, max_length)

    @property
    def eof(self) -> bool:
        return self._inflater.eof

    @property
    def needs_input(self) -> bool:
        return self._inflater.needs_input

    @property
    def unused_data(self) -> bytes | None:
        return self._inflater.unused_data


def deflate() -> Inflater:
    """Begin a raw deflate stream, as zip members are."""
    started: Inflater = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_DEFLATE)
    return started


def _gzip() -> Inflater:
    started: Inflater = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
    return started


def xz() -> Inflater:
    """Begin a stream of .xz or of the older .lzma. What needs more memory than is allowed is an LZMAError."""
    return lzma.LZMADecompressor(memlimit=_LZMA_MEMORY)


def zstd() -> Inflater:
    """Begin a zstd frame."""
    if sys.version_info >= (3, 14):
        from compression import zstd as library
    else:
        from backports import zstd as library

    return library.ZstdDecompressor(options={library.DecompressionParameter.window_log_max: _ZSTD_WINDOW})


def _lz4() -> Inflater:
    import lz4.frame

    started: Inflater = lz4.frame.LZ4FrameDecompressor()
    return started


def _content(
    file: File, start: Callable[[], Inflater], budget: Budget, magic: tuple[bytes, ...], name: str = ""
) -> Part:
    body = buffered(Inflated(file, start, budget, magic=magic))
    return Part(name or CONTENT, body, thin=True)


def _gzip_words(head: bytes) -> tuple[str, bytes]:
    """Read FNAME and FCOMMENT from a gzip header (RFC 1952, 2.3.1), each empty where there is none."""
    if len(head) < 12 or not head[3] & 24:
        return "", b""
    at = 10
    if head[3] & 4:
        at += 2 + int.from_bytes(head[10:12], "little")
    name, _, rest = head[at:].partition(b"\0") if head[3] & 8 else (b"", b"", head[at:])
    return name[:1024].decode("latin-1"), rest.partition(b"\0")[0] if head[3] & 16 else b""
