"""What stands compressed inside an encoded run, within limits. Pure.

Sources: RFC 1950 and 1952 (zlib, gzip), the bzip2 and .xz formats, APPNOTE 6.3 (zip).
"""

from __future__ import annotations

import bz2
import io
import lzma
import zipfile
import zlib
from collections.abc import Callable
from typing import Final, Protocol

LIMIT: Final = 8 << 20
"""Bytes that one compressed run may grow to."""
_MEMBERS: Final = 1_000
_LAYERS: Final = 4
"""How often what came out is unpacked again, as a gzip in a gzip."""
_LZMA_MEMORY: Final = 80 << 20
"""xz -9 needs 65 MiB. More is made to hurt."""
_STEP: Final = 4096


class _Engine(Protocol):
    """What unpacks one stream, as the standard library's do."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


_ENGINES: Final[dict[str, tuple[bytes, Callable[[], _Engine]]]] = {
    "gzip": (b"\x1f\x8b\x08", lambda: zlib.decompressobj(31)),
    "bzip2": (b"BZh", bz2.BZ2Decompressor),
    "xz": (b"\xfd7zXZ\x00", lambda: lzma.LZMADecompressor(memlimit=_LZMA_MEMORY)),
    "zlib": (b"\x78", lambda: zlib.decompressobj(15)),
}
_ZLIB: Final = (b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")
_ZIP: Final = b"PK\x03\x04"
_READABLE: Final = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2})
_BROKEN: Final = (zlib.error, lzma.LZMAError, OSError, EOFError)


def packed_at(out: bytes) -> tuple[str, int] | None:
    """Say what compressed begins where in out, or None.

    gzip is looked for near the beginning (a few bytes of a glued word may stand before it), others exactly there.
    """
    if (at := out.find(b"\x1f\x8b\x08", 0, 128)) >= 0:
        return "gzip", at
    for name, (magic, _) in _ENGINES.items():
        if out.startswith(_ZLIB if name == "zlib" else magic):
            return name, 0
    return ("zip", 0) if out.startswith(_ZIP) else None


def unpacked(out: bytes, *, short: bool = False) -> tuple[str, bytes, bool] | None:
    """Return (the formats undone, outermost first; what comes out; whether a limit cut it off), or None.

    A damaged stream gives what comes before the damage. short: a limit cut out off, and maybe the stream with it.
    """
    names: list[str] = []
    cut = False
    while len(names) < _LAYERS and (packed := packed_at(out)) is not None:
        name, at = packed
        inner, cut_here = _unzipped(out) if name == "zip" else _streams(name, out, at, short=short)
        if not inner:
            break
        names.append(name)
        out, cut, short = inner, cut or cut_here, False
    return (">".join(names), out, cut) if names else None


def _streams(name: str, out: bytes, position: int, *, short: bool) -> tuple[bytes, bool]:
    """Unpack a stream, and those of its format that follow it."""
    magic, begin = _ENGINES[name]
    parts, size, whole = list[bytes](), 0, False
    try:
        for _ in range(_MEMBERS):
            engine, whole = begin(), False
            while position < len(out) and size <= LIMIT and not engine.eof:
                parts.append(engine.decompress(out[position : position + _STEP], LIMIT + 1 - size))
                size += len(parts[-1])
                position += _STEP
            position, whole = min(position, len(out)) - len(engine.unused_data), engine.eof
            if size > LIMIT or not out.startswith(magic, position):
                break
    except _BROKEN:
        pass
    return b"".join(parts)[:LIMIT], size > LIMIT or (short and not whole)


def _unzipped(out: bytes) -> tuple[bytes, bool]:
    """Return the members of a zip, one behind the other, each on lines of its own."""
    parts, size = list[bytes](), 0
    try:
        with zipfile.ZipFile(io.BytesIO(out)) as directory:
            for member in directory.infolist()[:_MEMBERS]:
                if member.compress_type in _READABLE and not member.flag_bits & 1 and size <= LIMIT:
                    with directory.open(member) as file:
                        parts.append(file.read(LIMIT + 1 - size))
                    size += len(parts[-1])
    except (*_BROKEN, zipfile.BadZipFile, NotImplementedError, ValueError):
        pass
    return b"\n".join(parts)[:LIMIT], size > LIMIT
