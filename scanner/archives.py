"""Archives: zip and its family, tar, ar (deb), cpio, rpm, 7z. Nothing is ever written: a name is only a name."""

from __future__ import annotations

import io
import lzma
import tarfile
import zipfile
from bz2 import BZ2Decompressor
from collections.abc import Callable, Iterator
from typing import Final

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
    Sequence,
    Slice,
    Unread,
    again,
    at_once,
    buffered,
    random_access,
    without_content,
)
from firedamp.scanner.streams import deflate, zstd
from firedamp.scanner.stub import is_stub

_LOCAL: Final = b"PK\x03\x04"
_ENCRYPTED: Final = 1


def unzip(file: File, budget: Budget) -> Parts:
    """Zip by its central directory (APPNOTE 6.3), zip64 and leading bytes included; by local headers if that is broken.

    Sizes told in headers are not believed: a member ends where its compressed stream ends. What has no name is the
    program that the zip stands behind, and the comments.
    """
    file = random_access(file, budget)
    try:
        with zipfile.ZipFile(file) as directory:
            members = directory.infolist()
            front = min((member.header_offset for member in members), default=directory.start_dir)
            comments = [directory.comment, *(member.comment for member in members)]
    except (zipfile.BadZipFile, NotImplementedError, ValueError, UnicodeDecodeError):
        yield from _salvage(file, budget)
        raise Broken("has no readable directory") from None
    file.seek(0)
    if is_stub(file.read(2)):
        yield Part("", buffered(Slice(file, 0, front)))
    if any(comments):
        yield Part("", b"\n".join(filter(None, comments)), lines=False)
    for member in members:
        if member.is_dir():
            yield from without_content(member.filename)
            continue
        if member.flag_bits & _ENCRYPTED:
            yield Unread(member.filename, "is encrypted")
            continue
        file.seek(member.header_offset)
        header = file.read(30)
        if not header.startswith(_LOCAL) or len(header) < 30:
            yield Unread(member.filename, "is not where the directory says")
            continue
        start = member.header_offset + 30 + _u16(header, 26) + _u16(header, 28)
        yield _zip_member(
            Slice(file, start, member.compress_size),
            member.filename,
            member.compress_type,
            member.compress_size,
            budget,
        )


def _salvage(file: File, budget: Budget) -> Parts:
    """Walk the local headers of a zip without a directory. A member's bytes reach to the next header."""
    starts = list(_find(file, _LOCAL, budget))
    ends = [*starts[1:], file.seek(0, io.SEEK_END)]
    for at, end in zip(starts, ends, strict=True):
        file.seek(at)
        header = file.read(30)
        if len(header) < 30:
            return
        name = file.read(_u16(header, 26)).decode("utf-8", "replace")
        start = at + 30 + _u16(header, 26) + _u16(header, 28)
        size = int.from_bytes(header[18:22], "little")
        if not 0 < size <= end - start:
            size = end - start
        if name.endswith("/") or size <= 0:
            continue
        if _u16(header, 6) & _ENCRYPTED:
            yield Unread(name, "is encrypted")
            continue
        yield _zip_member(Slice(file, start, size), name, _u16(header, 8), size, budget)


def _find(file: File, mark: bytes, budget: Budget) -> Iterator[int]:
    """Yield every offset of mark, up to one more than a container may have members."""
    at, tail, found = 0, b"", 0
    file.seek(0)
    while block := file.read(SMALL):
        budget.check()
        text = tail + block
        here = text.find(mark)
        while here >= 0:
            yield at - len(tail) + here
            found += 1
            if found > budget.limits.members:
                return
            here = text.find(mark, here + 1)
        at += len(block)
        tail = text[-len(mark) + 1 :]


def _zip_member(stored: Slice, name: str, method: int, size: int, budget: Budget) -> Part | Unread:
    if method == zipfile.ZIP_STORED:
        budget.spend(size)  # a directory may name the same bytes many times
        return Part(name, stored.read(size) if size <= SMALL else buffered(stored))
    begin = _METHODS.get(method)
    if begin is None:
        return Unread(name, f"is packed by method {method}, which is not read")
    source: io.BufferedIOBase = buffered(stored)
    if size <= SMALL:
        data = stored.read(size)
        whole = at_once(data, begin, budget)
        if whole is not None:
            return Part(name, whole)
        source = io.BytesIO(data)
    body = buffered(Inflated(source, begin, budget))
    return Part(name, body)


class _ZipLzma:
    """Zip's lzma (APPNOTE 5.8.8): a version, the length of the properties, the properties, then raw LZMA1."""

    def __init__(self) -> None:
        self._head = b""
        self._inner: lzma.LZMADecompressor | None = None

    @property
    def eof(self) -> bool:
        return self._inner is not None and self._inner.eof

    @property
    def needs_input(self) -> bool:
        return self._inner is None or self._inner.needs_input

    @property
    def unused_data(self) -> bytes:
        return b"" if self._inner is None else self._inner.unused_data

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        if self._inner is None:
            self._head += data
            if len(self._head) < 9:
                return b""
            properties = self._head[4:9]
            byte, dictionary = properties[0], int.from_bytes(properties[1:], "little")
            if dictionary > 1 << 26:
                raise Broken("needs more memory than allowed")
            # A property byte is (pb * 5 + lp) * 9 + lc.
            spec = {
                "id": lzma.FILTER_LZMA1,
                "dict_size": dictionary,
                "lc": byte % 9,
                "lp": byte // 9 % 5,
                "pb": byte // 45,
            }
            self._inner = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=[spec])
            data = self._head[9:]
        return self._inner.decompress(data, max_length)


def zip_lzma() -> Inflater:
    """Begin a zip's member of LZMA. Its decompress raises Broken for a dictionary of more than 64 MiB."""
    return _ZipLzma()


_METHODS: Final[dict[int, Callable[[], Inflater]]] = {
    zipfile.ZIP_DEFLATED: deflate,
    zipfile.ZIP_BZIP2: BZ2Decompressor,
    zipfile.ZIP_LZMA: zip_lzma,
    93: zstd,
}


_BLOCK: Final = tarfile.BLOCKSIZE
_END: Final = 2
"""Blocks of zeros that end a tar. What follows them is another, or anything."""
_NAMES: Final = frozenset((tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK))
_PAX: Final = frozenset((tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE))
_NO_BYTES: Final = frozenset(
    (tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.DIRTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE)
)
_LONGEST_HEADER: Final = SMALL
"""Extended headers hold a path and some numbers."""


def untar(file: File, budget: Budget) -> Parts:
    """Tar: v7, ustar, pax, GNU, star; joined ones too. Sparse members give the bytes that are stored.

    The standard library reads the headers; the walk is our own, because tarfile seeks where a header tells it to
    and holds extended headers of any size (CVE-2025-8194 and its like).
    """
    archive = Sequence(file, budget)
    name = ""
    size: int | None = None
    zeros = 0
    while True:
        budget.check()
        block = archive.read(_BLOCK)
        if not block.strip(b"\0"):
            if not block:
                return
            zeros += 1
            continue
        try:
            header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except tarfile.HeaderError:
            if zeros >= _END:
                yield Part("", buffered(Chunks(again(block, archive.rest()))))
                return
            raise Broken("ends early" if len(block) < _BLOCK else "has a damaged header") from None
        zeros = 0
        length = header.size if size is None else size
        if header.type in _NO_BYTES:
            length = 0
        if length < 0:
            raise Broken("has a damaged header")
        data = archive.at
        after = data + -(-length // _BLOCK) * _BLOCK
        if header.type == tarfile.GNUTYPE_SPARSE and block[482]:
            while archive.need(_BLOCK)[504]:  # further maps of holes: byte 504 says whether one more follows
                budget.check()
            after += archive.at - data
        if header.type in _NAMES or header.type in _PAX or header.type == tarfile.XGLTYPE:
            if length > _LONGEST_HEADER:
                raise Broken("has an extended header of absurd size")
            text = archive.need(length)
            if header.type == tarfile.GNUTYPE_LONGNAME:
                name = text.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")
            elif header.type in _PAX:
                path, told, notes = _pax(text)
                name, size = path or name, told if told is not None else size
                if notes:
                    yield Part("", notes, lines=False)
        else:
            if length:
                yield Part(name or header.name, archive.member(length))
            else:
                yield from without_content(name or header.name)
            name, size = "", None
        archive.go(after)


def _pax(text: bytes) -> tuple[str, int | None, bytes]:
    """Read an extended header: records of `length key=value newline` (POSIX pax).

    Return path, size, and the comments and extended attributes, one a line.
    """
    path, size, at = "", None, 0
    notes = []
    while at < len(text):
        length, space, _ = text[at : at + 24].partition(b" ")
        if not space or not length.isdigit() or not 0 < int(length) <= len(text) - at:
            break
        key, _, value = text[at + len(length) + 1 : at + int(length) - 1].partition(b"=")
        if key in (b"path", b"GNU.sparse.name"):
            path = value.decode("utf-8", "surrogateescape")
        elif key == b"size" and value.isdigit() and len(value) < 20:
            size = int(value)
        elif key == b"comment" or b".xattr." in key:
            notes.append(key + b" = " + value)
        at += int(length)
    return path, size, b"\n".join(notes)


def unar(file: File, budget: Budget) -> Parts:
    """Ar, as in .deb and .a: headers of 60 bytes; long names in GNU's `//` table or before the data (BSD)."""
    archive = Sequence(file, budget)
    archive.need(8)
    table = b""
    while header := archive.read(60):
        budget.check()
        if not header.strip(b"\n"):
            if archive.read(1):
                raise Broken("has a damaged header")
            return
        if len(header) < 60 or header[58:] != b"`\n" or not header[48:58].strip().isdigit():
            raise Broken("has a damaged header")
        size = int(header[48:58])
        data = archive.at
        name = header[:16].rstrip(b" ")
        if name == b"//":
            table = archive.need(min(size, _LONGEST_HEADER))
        elif name not in (b"/", b"/SYM64/"):
            left = size
            if name.startswith(b"#1/") and name[3:].isdigit():
                length = min(int(name[3:]), size, _LONGEST_HEADER)
                name, left = archive.need(length).rstrip(b"\0"), size - length
            elif name[:1] == b"/" and name[1:].isdigit():
                name = table[int(name[1:]) :].split(b"\n", 1)[0]
            member = _text(name.removesuffix(b"/"))
            if left:
                yield Part(member, archive.member(left))
            else:
                yield from without_content(member)
        archive.go(data + size)
        if size % 2:
            archive.read(1)


def uncpio(file: File, budget: Budget) -> Parts:
    """Cpio: the new form (070701, 070702), the old portable one (070707), and old binary of either order.

    Linux's initial ramdisks are several of them, padded with zeros, the last one compressed as a rule.
    """
    archive = Sequence(file, budget)
    while magic := archive.read(6):
        budget.check()
        begin = archive.at - 6
        if magic in (b"070701", b"070702"):
            header = archive.need(104)
            mode, size, length, step = int(header[8:16], 16), int(header[48:56], 16), int(header[88:96], 16), 4
        elif magic == b"070707":
            header = archive.need(70)
            mode, size, length, step = int(header[12:18], 8), int(header[59:70], 8), int(header[53:59], 8), 1
        elif magic[:2] in (b"\xc7\x71", b"\x71\xc7"):
            header = magic + archive.need(20)
            order = "little" if magic[0] == 0xC7 else "big"
            words = [int.from_bytes(header[at : at + 2], order) for at in range(0, 26, 2)]  # type: ignore[arg-type]
            mode, size, length, step = words[3], words[11] << 16 | words[12], words[10], 2
        elif not magic.strip(b"\0"):
            return
        else:
            raise Broken("has a damaged header")
        if not 0 < length <= SMALL or size < 0:
            raise Broken("has a damaged header")
        name = archive.need(length).rstrip(b"\0")
        if name == b"TRAILER!!!":
            following = archive.padding()
            if following and following[0] not in b"0\xc7\x71":
                yield Part("", archive.rest(), thin=True)
                return
            continue
        archive.go(_up(archive.at - begin, step) + begin)
        data = archive.at
        if size and mode & 0o170000 == 0o100000:
            yield Part(_text(name), archive.member(size))
        else:
            yield from without_content(_text(name))
        archive.go(data + _up(size, step))


def unrpm(file: File, budget: Budget) -> Parts:
    """RPM 3 and 4: a lead of 96 bytes, the signature's header, the package's header, then a compressed cpio."""
    archive = Sequence(file, budget)
    archive.need(96)
    for step in (8, 1):
        intro = archive.need(16)
        if intro[:3] != b"\x8e\xad\xe8":
            raise Broken("has a damaged header")
        entries, size = int.from_bytes(intro[8:12], "big"), int.from_bytes(intro[12:16], "big")
        start = archive.at
        text = archive.member(16 * entries + size)
        yield Part("header", text)
        archive.go(start + _up(16 * entries + size, step))
    yield Part("payload", archive.rest(), thin=True)


def ungit(file: File, budget: Budget) -> Parts:
    """Refuse git's bundles and packs: only git resolves their deltas, and it reads them from files of their own."""
    del file, budget
    yield from ()  # what opens a container expects trouble when it takes the parts
    raise Broken("holds a repository's objects, which are read only where it is a file by itself")


def _up(count: int, step: int) -> int:
    """Round up to a multiple of step."""
    return -(-count // step) * step


def _u16(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 2], "little")


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")
