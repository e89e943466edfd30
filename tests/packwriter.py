"""Writes packs by hand: deltas with the instructions a test chooses, which git's own packer would not choose."""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

_KINDS = {1: b"commit", 2: b"tree", 3: b"blob", 4: b"tag"}


@dataclass(frozen=True)
class Whole:
    """An object stored as it is; kind is git's number, 3 a blob."""

    content: bytes
    kind: int = 3


@dataclass(frozen=True)
class Copy:
    """Copy size bytes of the base from offset."""

    offset: int
    size: int


@dataclass(frozen=True)
class Delta:
    """An object derived from the base-th entry. by_name makes a reference delta; bytes are inserted."""

    base: int
    steps: tuple[Copy | bytes, ...]
    by_name: bool = False


@dataclass(frozen=True)
class Written:
    """A pack and its index on disk, with what is in it in pack order."""

    pack: Path
    index: Path
    ids: tuple[bytes, ...]
    contents: tuple[bytes, ...]
    offsets: tuple[int, ...]


def _little_varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _header(kind: int, length: int) -> bytes:
    rest = length >> 4
    first = kind << 4 | length & 15
    return bytes([first]) if not rest else bytes([first | 0x80]) + _little_varint(rest)


def distance(value: int) -> bytes:
    """Write a number as packs write how far off a base is, and reftables every number."""
    out = [value & 0x7F]
    while value >> 7:
        value = (value >> 7) - 1
        out.insert(0, value & 0x7F | 0x80)
    return bytes(out)


def instructions(steps: Sequence[Copy | bytes], base: bytes) -> tuple[bytes, bytes]:
    """Return a delta against base and what it makes."""
    made, out = b"", b""
    for step in steps:
        match step:
            case Copy(offset, size):
                made += base[offset : offset + size]
                op, operands = 0x80, b""
                for bit, byte in enumerate(struct.pack("<I", offset)):
                    if byte:
                        op, operands = op | 1 << bit, operands + bytes([byte])
                for bit, byte in enumerate(struct.pack("<I", size % 65536)[:3]):
                    if byte:
                        op, operands = op | 16 << bit, operands + bytes([byte])
                out += bytes([op]) + operands
            case _:
                made += step
                for at in range(0, len(step), 127):
                    piece = step[at : at + 127]
                    out += bytes([len(piece)]) + piece
    return _little_varint(len(base)) + _little_varint(len(made)) + out, made


def write_pack(
    folder: Path,
    entries: Sequence[Whole | Delta],
    *,
    width: int = 20,
    name: str = "made",
    claims: Mapping[int, bytes] | None = None,
    behind: Mapping[int, bytes] | None = None,
) -> Written:
    """Write entries as pack-NAME.pack and .idx into folder; width 32 makes a SHA-256 pack.

    claims are ids that the index shall give to entries, by their number, though they are not those of their content;
    behind is what shall stand behind entries, by their number: -1 is the pack's header.
    """
    new = hashlib.sha256 if width == 32 else hashlib.sha1
    body = bytearray(b"PACK" + struct.pack(">II", 2, len(entries)))
    body += (behind or {}).get(-1, b"")
    ids: list[bytes] = []
    contents: list[bytes] = []
    kinds: list[int] = []
    offsets: list[int] = []
    sums: list[int] = []
    for entry in entries:
        begin = len(body)
        match entry:
            case Whole(content, kind):
                packed, head = content, _header(kind, len(content))
            case Delta(base, steps, by_name):
                packed, content = instructions(steps, contents[base])
                kind = kinds[base]
                head = _header(7 if by_name else 6, len(packed))
                head += ids[base] if by_name else distance(begin - offsets[base])
        body += head + zlib.compress(packed, 1) + (behind or {}).get(len(ids), b"")
        honest = new(_KINDS[kind] + b" %d\0" % len(content) + content).digest()
        ids.append((claims or {}).get(len(ids), honest))
        contents.append(content)
        kinds.append(kind)
        offsets.append(begin)
        sums.append(zlib.crc32(bytes(body[begin:])))
    body += new(bytes(body)).digest()
    order = sorted(range(len(ids)), key=lambda i: ids[i])
    begun = Counter(one[0] for one in ids)
    fan = list(accumulate(begun[first] for first in range(256)))
    table = b"\xfftOc" + struct.pack(">I256I", 2, *fan) + b"".join(ids[i] for i in order)
    table += b"".join(struct.pack(">I", sums[i]) for i in order)
    table += b"".join(struct.pack(">I", offsets[i]) for i in order) + bytes(body[-width:])
    table += new(table).digest()
    pack, index = folder / f"pack-{name}.pack", folder / f"pack-{name}.idx"
    pack.write_bytes(body)
    index.write_bytes(table)
    return Written(pack, index, tuple(ids), tuple(contents), tuple(offsets))
