"""7z archives (7zFormat.txt of the LZMA SDK): the directory is parsed here, the streams are the standard library's.

Our own, because py7zr brings nine packages (among them a crypto library, brotli and psutil) into a process that should
hold little, and wants each member whole. What liblzma cannot undo (PPMd, BCJ2, Deflate64) is said to be unread: no
package undoes BCJ2, which 7-Zip itself chooses for programs; inflate64 does not bound what a piece of input unpacks to.
"""

from __future__ import annotations

import lzma
from bz2 import BZ2Decompressor
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from firedamp.scanner.budget import (
    MIB,
    Broken,
    Budget,
    File,
    Inflated,
    Inflater,
    Part,
    Parts,
    Sequence,
    Slice,
    Unread,
    buffered,
    random_access,
    trouble_of,
    without_content,
)
from firedamp.scanner.streams import deflate, zstd

_LARGEST_DICTIONARY: Final = 64 * MIB
_LARGEST_DIRECTORY: Final = 16 * MIB
_DIRECTORY, _ENCODED = 0x01, 0x17
_STREAMS, _FILES = 0x04, 0x05
_PACKED, _FOLDERS, _PARTS = 0x06, 0x07, 0x08
_SIZE, _DIGESTS, _FOLDER, _UNPACKED_SIZE, _COUNT, _EMPTY, _NAMES = 0x09, 0x0A, 0x0B, 0x0C, 0x0D, 0x0E, 0x11
_UNREAD: Final = {
    b"\x03\x04\x01": "PPMd",
    b"\x04\x01\x09": "Deflate64",
    b"\x03\x03\x01\x1b": "BCJ2",
    b"\x0a": "ARM64",
    b"\x0b": "RISC-V",
    b"\x04\xf7\x11\x02": "Brotli",
    b"\x04\xf7\x11\x04": "LZ4",
}
"""Names of methods that are not read (Methods.txt of 7-Zip)."""
_AES: Final = b"\x06\xf1\x07\x01"


@dataclass(frozen=True, slots=True)
class _Coder:
    method: bytes
    properties: bytes


@dataclass(slots=True)
class _Folder:
    """One packed stream: its coders in the order of packing, where it lies, and the sizes of the members inside."""

    coders: list[_Coder]
    whole: int
    """The size unpacked."""
    streams: int = 1
    """How many packed streams it is made of; more than one (BCJ2) is not read."""
    checked: bool = False
    start: int = 0
    stored: int = 0
    sizes: list[int] = field(default_factory=list)


class _Bytes:
    """A cursor over the directory; raises Broken at its end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, count: int) -> bytes:
        """Return the next count bytes."""
        piece = self._data[self._at : self._at + count]
        if len(piece) < count:
            raise Broken("has a damaged directory")
        self._at += count
        return piece

    def byte(self) -> int:
        """Return the next byte."""
        return self.take(1)[0]

    def number(self) -> int:
        """Return a number of one to nine bytes: the leading ones of the first say how many follow."""
        first, mask, value = self.byte(), 0x80, 0
        for index in range(8):
            if not first & mask:
                return value | (first & (mask - 1)) << (8 * index)
            value |= self.byte() << (8 * index)
            mask >>= 1
        return value

    def bits(self, count: int) -> list[bool]:
        """Return count bits, the highest of a byte first."""
        data = self.take(-(-count // 8))
        return [bool(data[at // 8] & (0x80 >> at % 8)) for at in range(count)]

    def digests(self, count: int) -> list[bool]:
        """Pass over the checksums of count streams; return which have one."""
        if self.byte():
            self.take(4 * count)
            return [True] * count
        known = self.bits(count)
        self.take(4 * sum(known))
        return known

    def rest(self) -> bytes:
        """Return all that is left."""
        return self._data[self._at :]

    def numbers(self, count: int) -> list[int]:
        """Return count numbers; each takes a byte at least, so a count that lies ends at the end of the data."""
        return [self.number() for _ in range(count)]


def un7z(file: File, budget: Budget) -> Parts:
    """7z: every folder (solid block) is unpacked once, front to back, and its members are handed out as they come."""
    file = random_access(file, budget)
    file.seek(0)
    head = file.read(32)
    if len(head) < 32:
        raise Broken("ends early")
    offset, size = int.from_bytes(head[12:20], "little"), int.from_bytes(head[20:28], "little")
    if not size:
        return
    directory = _Bytes(_read(file, 32 + offset, size))
    kind = directory.byte()
    for _ in range(4):  # a directory may be packed, and that one's too
        if kind != _ENCODED:
            break
        (folder, *_) = _streams(directory) or (None,)
        if folder is None:
            raise Broken("has a damaged directory")
        directory = _Bytes(_unpacked(file, folder, budget))
        kind = directory.byte()
    if kind != _DIRECTORY:
        raise Broken("has a damaged directory")
    folders, names, empty = _directory(directory)
    for folder in folders:
        yield from _members(file, folder, names, budget)
    for name in empty:
        yield from without_content(name)


def _read(file: File, start: int, size: int) -> bytes:
    if size > _LARGEST_DIRECTORY:
        raise Broken("has a directory of absurd size")
    file.seek(start)
    data = file.read(size)
    if len(data) < size:
        raise Broken("ends early")
    return data


def _unpacked(file: File, folder: _Folder, budget: Budget) -> bytes:
    """Unpack a packed directory."""
    if folder.whole > _LARGEST_DIRECTORY:
        raise Broken("has a directory of absurd size")
    body = _body(file, folder, budget)
    if isinstance(body, str):
        raise Broken(f"has a directory that {body}")
    data = body.read(folder.whole)
    if len(data) < folder.whole:
        raise Broken("has a damaged directory")
    return data


def _directory(directory: _Bytes) -> tuple[list[_Folder], list[str], list[str]]:
    """Read the folders, and the names of the members that have bytes, in their order; then of those that have none."""
    folders: list[_Folder] = []
    names: list[str] = []
    bare: list[str] = []
    while kind := directory.byte():
        if kind == _STREAMS:
            folders = _streams(directory)
        elif kind == _FILES:
            names, bare = _names(directory)
        else:
            raise Broken("has a damaged directory")
    return folders, names, bare


def _names(directory: _Bytes) -> tuple[list[str], list[str]]:
    count = directory.number()
    names: list[str] = []
    empty: list[bool] = []
    while kind := directory.number():
        record = _Bytes(directory.take(directory.number() if kind else 0))
        if kind == _EMPTY:
            empty = record.bits(count)
        elif kind == _NAMES:
            record.byte()
            names = record.rest().decode("utf-16-le", "replace").split("\0")[:-1]
    empty += [False] * (len(names) - len(empty))
    pairs = [*zip(names, empty, strict=False)]
    return [name for name, is_empty in pairs if not is_empty], [name for name, is_empty in pairs if is_empty]


def _streams(directory: _Bytes) -> list[_Folder]:
    """Read a StreamsInfo: where packed streams lie, how each is packed, and the sizes inside."""
    start, stored = 0, list[int]()
    folders: list[_Folder] = []
    while kind := directory.byte():
        if kind == _PACKED:
            start, count = 32 + directory.number(), directory.number()
            while kind := directory.byte():
                if kind == _SIZE:
                    stored = directory.numbers(count)
                else:
                    directory.digests(count)
        elif kind == _FOLDERS:
            folders = _folders(directory)
        elif kind == _PARTS:
            _parts(directory, folders)
        else:
            raise Broken("has a damaged directory")
    at = 0
    for folder in folders:
        mine = stored[at : at + folder.streams]
        if not mine:
            raise Broken("has a damaged directory")
        folder.start, folder.stored = start, mine[0]
        start, at = start + sum(mine), at + folder.streams
    return folders


def _folders(directory: _Bytes) -> list[_Folder]:
    if directory.byte() != _FOLDER:
        raise Broken("has a damaged directory")
    count = directory.number()
    if directory.byte():
        raise Broken("has a directory in several places")
    made = [_folder(directory) for _ in range(count)]
    if directory.byte() != _UNPACKED_SIZE:
        raise Broken("has a damaged directory")
    folders = []
    for coders, last, outputs, streams in made:
        whole = directory.numbers(outputs)[last]
        folders.append(_Folder(coders, whole, streams, sizes=[whole]))
    while kind := directory.byte():
        if kind != _DIGESTS:
            raise Broken("has a damaged directory")
        for folder, checked in zip(folders, directory.digests(count), strict=True):
            folder.checked = checked
    return folders


def _folder(directory: _Bytes) -> tuple[list[_Coder], int, int, int]:
    """Read one folder: coders in order of packing, which output is the content, of how many, and the packed streams."""
    coders: list[_Coder] = []
    tangled = False
    inputs = outputs = 0
    for _ in range(directory.number()):
        flags = directory.byte()
        method = directory.take(flags & 15)
        ins, outs = (directory.number(), directory.number()) if flags & 0x10 else (1, 1)
        tangled = tangled or (ins, outs) != (1, 1)
        inputs, outputs = inputs + ins, outputs + outs
        coders.append(_Coder(method, directory.take(directory.number()) if flags & 0x20 else b""))
        if outputs > 32 or inputs > 32:  # the format's own limit
            raise Broken("has a damaged directory")
    bound = {(pair := directory.numbers(2))[1]: pair[0] for _ in range(outputs - 1)}
    streams = inputs - len(bound)
    if streams > 1:
        directory.numbers(streams)
    free = [output for output in range(outputs) if output not in bound]
    if len(free) != 1 or streams < 1:
        raise Broken("has a damaged directory")
    if not tangled:
        # Follow from the coder whose output is the content to the one that reads the packed stream.
        feeds = {into: output for output, into in bound.items()}
        order = [free[0]]
        while order[-1] in feeds and len(order) <= len(coders):
            order.append(feeds[order[-1]])
        if len(order) != len(coders):
            raise Broken("has a damaged directory")
        coders = [coders[at] for at in order]
    return coders, free[0], outputs, streams


def _parts(directory: _Bytes, folders: list[_Folder]) -> None:
    """Read a SubStreamsInfo into the folders: all sizes but a folder's last are told."""
    counts = [1] * len(folders)
    kind = directory.byte()
    if kind == _COUNT:
        counts = directory.numbers(len(folders))
        kind = directory.byte()
    told = kind == _SIZE
    for folder, count in zip(folders, counts, strict=True):
        if count > 1 and not told:
            raise Broken("has a damaged directory")
        sizes = directory.numbers(count - 1) if count else []
        last = folder.whole - sum(sizes)
        if last < 0:
            raise Broken("has a damaged directory")
        folder.sizes = [*sizes, last] if count else []
    if told:
        kind = directory.byte()
    while kind:
        if kind != _DIGESTS:
            raise Broken("has a damaged directory")
        directory.digests(sum(len(f.sizes) for f in folders if not (len(f.sizes) == 1 and f.checked)))
        kind = directory.byte()


def _members(file: File, folder: _Folder, names: list[str], budget: Budget) -> Parts:
    """Hand out the members of a folder, whose names are the first of names, which are taken off."""
    mine = [names[at] if at < len(names) else f"member {at + 1}" for at in range(len(folder.sizes))]
    del names[: len(mine)]
    body = _body(file, folder, budget)
    if isinstance(body, str):
        for name in mine:
            yield Unread(name, body)
        return
    content = Sequence(body, budget)
    for name, size in zip(mine, folder.sizes, strict=True):
        end = content.at + size
        if size:
            yield Part(name, content.member(size))
        else:
            yield from without_content(name)
        try:
            content.go(end)
        except Broken as broken:
            raise trouble_of(body) or broken from None


_FILTERS: Final = {
    b"\x03": lzma.FILTER_DELTA,
    b"\x04": lzma.FILTER_X86,
    b"\x03\x03\x01\x03": lzma.FILTER_X86,
    b"\x05": lzma.FILTER_POWERPC,
    b"\x03\x03\x02\x05": lzma.FILTER_POWERPC,
    b"\x06": lzma.FILTER_IA64,
    b"\x03\x03\x04\x01": lzma.FILTER_IA64,
    b"\x07": lzma.FILTER_ARM,
    b"\x03\x03\x05\x01": lzma.FILTER_ARM,
    b"\x08": lzma.FILTER_ARMTHUMB,
    b"\x03\x03\x07\x01": lzma.FILTER_ARMTHUMB,
    b"\x09": lzma.FILTER_SPARC,
    b"\x03\x03\x08\x05": lzma.FILTER_SPARC,
}
_PLAIN: Final = b"\x00"
_LZMA1, _LZMA2 = b"\x03\x01\x01", b"\x21"
_OTHERS: Final[dict[bytes, Callable[[], Inflater]]] = {
    b"\x04\x01\x08": deflate,
    b"\x04\x02\x02": BZ2Decompressor,
    b"\x04\xf7\x11\x01": zstd,
}


def _body(file: File, folder: _Folder, budget: Budget) -> File | str:
    """Return the unpacked bytes of a folder, or why it is not read."""
    if any(coder.method == _AES for coder in folder.coders):
        return "is encrypted"
    if folder.streams > 1:
        return _unknown(folder.coders)
    packed = buffered(Slice(file, folder.start, folder.stored))
    last = folder.coders[-1]
    if last.method == _PLAIN and len(folder.coders) == 1:
        budget.spend(folder.stored)
        return packed
    start: Callable[[], Inflater] | None = _OTHERS.get(last.method)
    if start is None or len(folder.coders) > 1:
        filters = _filters(folder.coders)
        if isinstance(filters, str):
            return filters
        start = lambda: lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=filters)  # noqa: E731  # a def reads no better
    return buffered(Inflated(packed, start, budget))


def _unknown(coders: list[_Coder]) -> str:
    """Say which method is not read, by its name where that is known."""
    names = [name for coder in coders if (name := _UNREAD.get(coder.method)) is not None]
    return "is packed by a method that is not read" + (f" ({', '.join(names)})" if names else "")


def _filters(coders: list[_Coder]) -> list[dict[str, int]] | str:
    """Return liblzma's chain for a folder's coders, or why there is none."""
    chain: list[dict[str, int]] = []
    for coder in coders[:-1]:
        kind = _FILTERS.get(coder.method)
        if kind is None:
            return _unknown(coders)
        one = {"id": kind}
        if kind == lzma.FILTER_DELTA:
            one["dist"] = coder.properties[0] + 1 if coder.properties else 1
        chain.append(one)
    last = coders[-1]
    if last.method == _LZMA1 and len(last.properties) >= 5:
        byte, dictionary = last.properties[0], int.from_bytes(last.properties[1:5], "little")
        # A property byte is (pb * 5 + lp) * 9 + lc.
        chain.append(
            {"id": lzma.FILTER_LZMA1, "dict_size": dictionary, "lc": byte % 9, "lp": byte // 9 % 5, "pb": byte // 45}
        )
    elif last.method == _LZMA2 and last.properties:
        # A size of 2^n or 3 * 2^(n-1), as in .xz (specification, 5.3.1).
        bits = last.properties[0] & 63
        dictionary = (2 | bits & 1) << (bits // 2 + 11)
        chain.append({"id": lzma.FILTER_LZMA2, "dict_size": dictionary})
    else:
        return _unknown(coders)
    if dictionary > _LARGEST_DICTIONARY:
        return "needs more memory than allowed"
    return chain
