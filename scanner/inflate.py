"""What stands compressed inside an encoded run, within limits. Pure.

Sources: RFC 1950, 1952 and 8878 (zlib, gzip, zstd), the bzip2 and .xz formats, APPNOTE 6.3 (zip).
"""

from __future__ import annotations

import bz2
import io
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Protocol

LIMIT: Final = 8 << 20
"""Bytes that each layer of one compressed run may grow to."""
_MEMBERS: Final = 1_000
_LAYERS: Final = 4
"""How often what came out is unpacked again, as a gzip in a gzip."""
_STEP: Final = 4096
_BEGINNING: Final = 1024
"""Bytes that each further stream takes from its layer: to begin it takes about as long as to look at so many."""


class _Engine(Protocol):
    """What unpacks one stream, as the standard library's do."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes | None: ...

    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


def _xz() -> _Engine:
    from firedamp.scanner.streams import xz

    return xz()


def _zstd() -> _Engine:
    from firedamp.scanner.streams import zstd

    return zstd()


def _zip_lzma() -> _Engine:
    from firedamp.scanner.archives import zip_lzma

    return zip_lzma()


_ENGINES: Final[dict[str, tuple[bytes, Callable[[], _Engine]]]] = {
    "gzip": (b"\x1f\x8b\x08", lambda: zlib.decompressobj(31)),
    "bzip2": (b"BZh", bz2.BZ2Decompressor),
    "xz": (b"\xfd7zXZ\x00", _xz),
    "zstd": (b"\x28\xb5\x2f\xfd", _zstd),
    "zlib": (b"\x78", lambda: zlib.decompressobj(15)),
}
_ZLIB: Final = (b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")
_ZIP: Final = b"PK\x03\x04"
_ZIP_END: Final = b"PK\x05\x06"
_ZIP_END_SIZE: Final = 22


class _Stored:
    """A zip's member that is not compressed."""

    eof: Final = False
    unused_data: Final = b""

    def decompress(self, data: bytes, max_length: int, /) -> bytes:
        return data[:max_length]


_METHODS: Final[dict[int, Callable[[], _Engine]]] = {
    zipfile.ZIP_STORED: _Stored,
    zipfile.ZIP_DEFLATED: lambda: zlib.decompressobj(-15),
    zipfile.ZIP_BZIP2: bz2.BZ2Decompressor,
    zipfile.ZIP_LZMA: _zip_lzma,
    93: _zstd,
}
"""zipfile's own readers do not bound what a few bytes of bzip2 give, and drop what they gave before damage."""


@dataclass(frozen=True, slots=True)
class Unpacked:
    """What came out: pieces with the formats undone, outermost first; none undone in what stood beside a stream.

    cut: a limit, a password or a method of packing hides some. spent: bytes unpacked in all layers, kept or not,
    and what each stream but the first cost to begin.
    """

    pieces: tuple[tuple[tuple[str, ...], bytes], ...]
    cut: bool
    spent: int


def packed_at(out: bytes) -> tuple[str, int] | None:
    """Say what compressed begins where in out, or None.

    gzip is looked for near the beginning (a few bytes of a glued word may stand before it), others exactly there.
    """
    for name, (magic, _) in _ENGINES.items():
        if name != "zlib" and out.startswith(magic):
            return name, 0
    if out.startswith(_ZIP):
        return "zip", 0
    if (at := out.find(_ENGINES["gzip"][0], 0, 128)) >= 0:
        return "gzip", at
    return ("zlib", 0) if out.startswith(_ZLIB) else None


def unpacked(out: bytes, *, short: bool = False) -> Unpacked:
    """Return what comes out, and out itself where nothing does.

    A damaged stream gives what comes before the damage. short: a limit cut out off, and maybe the stream with it.
    """
    work = _Unpacking()
    pieces = tuple(work.pieces(out, (), short=short))
    return Unpacked(pieces, work.cut, _LAYERS * LIMIT - sum(work.room))


class _Unpacking:
    """What is left of the limits for one run: bytes for each layer, however many streams are in it."""

    def __init__(self) -> None:
        self.room = [LIMIT] * _LAYERS
        self.cut = False
        self.begun = False

    def pieces(
        self, out: bytes, names: tuple[str, ...], *, short: bool = False
    ) -> Iterator[tuple[tuple[str, ...], bytes]]:
        """Yield what is packed in out, then what stands before and behind it, each with the formats undone."""
        packed = packed_at(out)
        if packed is None or len(names) == _LAYERS or not self.room[len(names)]:
            self.cut |= packed is not None
            yield names, out
            return
        name, at = packed
        inner, rest = self._unzipped(out, names) if name == "zip" else self._streams(name, out, at, names, short=short)
        if not any(inner):
            yield names, out
            return
        for one in filter(None, inner):
            yield from self.pieces(one, (*names, name))
        yield from ((names, beside) for beside in (out[:at], rest) if beside)

    def _streams(
        self, name: str, out: bytes, at: int, names: tuple[str, ...], *, short: bool
    ) -> tuple[list[bytes], bytes]:
        """Unpack a stream and those of its format that follow it; return with it what stands behind."""
        magic, begin = _ENGINES[name]
        parts = list[bytes]()
        for _ in range(_MEMBERS):
            engine, start = begin(), at
            part, at = self._stream(engine, out, start, len(out), len(names))
            parts.append(part)
            if at == start or not out.startswith(magic, at):
                self.cut |= short and not engine.eof
                break
        else:
            self.cut = True
        return [b"".join(parts)], out[at:]

    def _unzipped(self, out: bytes, names: tuple[str, ...]) -> tuple[list[bytes], bytes]:
        """Return the members of a zip, and its comments with what stands behind it."""
        try:
            with zipfile.ZipFile(io.BytesIO(out)) as directory:
                members = sorted(directory.infolist(), key=lambda member: member.header_offset)
        except (zipfile.BadZipFile, NotImplementedError, OSError, ValueError) as error:
            self.cut |= isinstance(error, NotImplementedError)
            return [], b""
        parts, done = list[bytes](), 0
        for member in members[:_MEMBERS]:
            lengths = out[member.header_offset + 26 :][:4]
            at = member.header_offset + 30 + sum(int.from_bytes(lengths[i : i + 2], "little") for i in (0, 2))
            # Members that overlap are a bomb's.
            if member.compress_type not in _METHODS or member.flag_bits & 1 or at < done:
                self.cut = True
                continue
            done = min(len(out), at + member.compress_size)
            parts.append(self._stream(_METHODS[member.compress_type](), out, at, done, len(names))[0])
        self.cut |= len(members) > _MEMBERS
        comments = [*(member.comment for member in members), out[out.rfind(_ZIP_END) + _ZIP_END_SIZE :]]
        return parts, b"\n".join(filter(None, comments))

    def _stream(self, engine: _Engine, out: bytes, start: int, end: int, layer: int) -> tuple[bytes, int]:
        """Return what a stream gives, and where what stands behind it begins: at start where it is damaged."""
        parts, at, most, broken = list[bytes](), start, self.room[layer], False
        left = most
        try:
            while at < end and left >= 0 and not engine.eof:
                parts.append(engine.decompress(out[at : min(end, at + _STEP)], left + 1))
                left -= len(parts[-1])
                at += _STEP
        except Exception as error:  # noqa: BLE001  # each library has its own
            broken = True
            self.cut |= "memory" in str(error).lower()  # liblzma's and zstd's own words for more than is given
        self.room[layer] = max(0, left - _BEGINNING * self.begun)
        self.begun = True
        self.cut |= left < 0
        behind = start if broken else min(at, end) - len(engine.unused_data or b"") if engine.eof else end
        return b"".join(parts)[:most], behind
