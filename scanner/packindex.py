"""Which objects a pack holds, from its index and the headers of its entries alone: nothing is inflated.

Formats: gitformat-pack(5). Everything read here may be hostile: no offset is followed before it is checked, a chain of
deltas may be broken or a ring, and what cannot be told is a value (`Unfilterable`, `Kind.UNKNOWN`), never an exception.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

_HEADER: Final = 8 + 256 * 4
"""Bytes of an index before its ids: magic, version, fan-out."""
PACK_HEADER: Final = 12
"""Bytes of a pack before its first entry."""
_OFS_DELTA: Final = 6
_REF_DELTA: Final = 7
_STEP: Final = 1 << 16
"""Entries whose headers are read at a time: keeps the working arrays small beside the result."""
_SATURATED: Final = (1 << 32) - 1

NO_BASE: Final = -1
LOST_BASE: Final = -2
"""In `PackListing.bases`: a delta whose base is not in this pack, or whose header makes no sense."""


class Kind(IntEnum):
    """What an object is, by git's own numbers. A delta is what the root of its chain is."""

    UNKNOWN = 0
    """A delta whose chain leaves this pack or is damaged: only git can tell."""
    COMMIT = 1
    TREE = 2
    BLOB = 3
    TAG = 4


@dataclass(frozen=True, slots=True)
class Unfilterable:
    """Why a pack can be neither listed nor filtered here: the caller asks git for every object instead."""

    why: str


@dataclass(frozen=True, slots=True, eq=False)
class PackListing:
    """Every object of one pack, in pack order: the arrays have one element an object, by position in the pack.

    About 22 bytes an object; the ids stay in the mapped index.
    """

    pack: Path
    index_ids: NDArray[np.uint8]
    """Ids as the index has them, sorted: shape (objects, 20 or 32), mapped."""
    rows: NDArray[np.int32]
    """Which row of index_ids is this object's."""
    offsets: NDArray[np.int64]
    """Where the entry begins in the pack, ascending."""
    end: int
    """Where the last entry ends: the pack's own checksum begins there."""
    data: NDArray[np.uint8]
    """How many bytes after its offset the entry's compressed data begins."""
    lengths: NDArray[np.uint32]
    """Inflated length in bytes (of the delta, for a delta), as the header claims; 2^32 - 1 and more are one."""
    bases: NDArray[np.int32]
    """Position of a delta's base, NO_BASE for a whole object, LOST_BASE where it is not to be had."""
    kinds: NDArray[np.uint8]
    """What each object is: a `Kind`."""
    crc: NDArray[np.uint32]
    """CRC-32 of the entry as stored, header included, by row of the index; mapped, big-endian."""

    def __len__(self) -> int:
        return self.rows.size

    @property
    def begin(self) -> int:
        """Where in the pack the first entry begins; its end where there is none."""
        return int(self.offsets[0]) if len(self) else self.end

    def ids(self, positions: NDArray[np.int32]) -> NDArray[np.uint8]:
        """Return the raw ids of the objects at positions, one a row."""
        return self.index_ids[self.rows[positions]]

    def ends(self, positions: NDArray[np.int32]) -> NDArray[np.int64]:
        """Return where in the pack the entries of the objects at positions end."""
        after = np.minimum(positions + 1, len(self) - 1)
        return np.where(positions + 1 < len(self), self.offsets[after], self.end)

    def texts(self, positions: NDArray[np.int32]) -> int:
        """Return how many of the objects at positions are no trees."""
        return int(np.count_nonzero(self.kinds[positions] != Kind.TREE))

    def everything(self) -> NDArray[np.int32]:
        """Return the positions of all objects, in pack order."""
        return np.arange(len(self), dtype=np.int32)

    def trees(self) -> NDArray[np.int32]:
        """Return the positions of all trees, in pack order."""
        return np.flatnonzero(self.kinds == Kind.TREE).astype(np.int32)

    def besides_trees(self) -> NDArray[np.int32]:
        """Return the positions of all objects but trees, in pack order: what a reader of texts wants."""
        return np.flatnonzero(self.kinds != Kind.TREE).astype(np.int32)


def list_pack(pack: Path, index: Path, *, width: int) -> PackListing | Unfilterable:
    """List a pack from its index (version 2) and the headers of its entries.

    width is the length of an id in bytes: 20 for SHA-1, 32 for SHA-256. Costs a page fault or less an object.
    """
    try:
        table = np.asarray(np.memmap(index, np.uint8, "r"))
        stored = np.asarray(np.memmap(pack, np.uint8, "r"))
    except (OSError, ValueError) as error:
        return Unfilterable(f"cannot be opened: {error}")
    if table.size < _HEADER + 2 * width or table[:8].tobytes() != b"\xfftOc\0\0\0\2":
        return Unfilterable("its index is not of version 2")
    count = int(table[_HEADER - 4 : _HEADER].view(">u4")[0])
    near = _HEADER + count * (width + 4)
    far = near + count * 4
    if table.size < far + 2 * width:
        return Unfilterable("its index is cut short")
    end = stored.size - width
    head = stored[:PACK_HEADER].tobytes()
    if end < PACK_HEADER or head[:4] != b"PACK" or head[4:8] not in {b"\0\0\0\2", b"\0\0\0\3"}:
        return Unfilterable("it is not a pack of version 2 or 3")
    trailer = table.size - 2 * width
    if int.from_bytes(head[8:], "big") != count or (stored[end:] != table[trailer : trailer + width]).any():
        return Unfilterable("pack and index do not belong together")
    offsets = _offsets(table[near:far].view(">u4"), table[far:trailer])
    if offsets is None:
        return Unfilterable("its index points outside itself")
    rows = np.argsort(offsets, kind="stable").astype(np.int32)
    offsets = offsets[rows]
    if count and (offsets[0] < PACK_HEADER or offsets[-1] >= end or (np.diff(offsets) <= 0).any()):
        return Unfilterable("its index points outside the pack")
    data = np.zeros(count, np.uint8)
    lengths = np.zeros(count, np.uint32)
    bases = np.full(count, NO_BASE, np.int32)
    kinds = np.zeros(count, np.uint8)
    names = table[_HEADER : _HEADER + count * width].view(f"S{width}")
    ranks: NDArray[np.int32] | None = None
    for first in range(0, count, _STEP):
        part = slice(first, min(first + _STEP, count))
        begins = offsets[part]
        entries = _Entries.read(stored, begins, np.append(offsets[part.start + 1 : part.stop + 1], end)[: begins.size])
        by_offset = entries.offset_bases(offsets)
        by_name = np.flatnonzero(entries.types == _REF_DELTA)
        if by_name.size:
            if ranks is None:
                ranks = np.empty(count, np.int32)
                ranks[rows] = np.arange(count, dtype=np.int32)
            by_offset[by_name] = _named_bases(stored, entries.at[by_name], end, names, ranks)
            entries.at[by_name] += width
        bases[part] = by_offset
        kinds[part] = np.where((entries.types >= Kind.COMMIT) & (entries.types <= Kind.TAG), entries.types, 0)
        data[part] = np.minimum(entries.at - begins, 255)
        lengths[part] = entries.lengths
    return PackListing(
        pack=pack,
        index_ids=table[_HEADER : _HEADER + count * width].reshape(count, width),
        rows=rows,
        offsets=offsets,
        end=end,
        data=data,
        lengths=lengths,
        bases=bases,
        kinds=_rooted(kinds, bases),
        crc=table[_HEADER + count * width : near].view(">u4"),
    )


def _rooted(kinds: NDArray[np.uint8], bases: NDArray[np.int32]) -> NDArray[np.uint8]:
    """Give a delta the kind of its chain's root: Kind.UNKNOWN where the root is lost, or the chain a ring.

    Doubles the distance looked back at each round, so that a chain of any depth, or a ring, ends after log2 rounds.
    """
    jump = np.where(bases >= 0, bases, np.arange(bases.size, dtype=np.int32))
    for _ in range(int(jump.size).bit_length() + 1):
        further = jump[jump]
        if np.array_equal(further, jump):
            break
        jump = further
    return kinds[jump]


def _offsets(near: NDArray[np.uint32], far: NDArray[np.uint8]) -> NDArray[np.int64] | None:
    """Return the entries' offsets; one of 2^31 and more stands in the table of 64-bit offsets. None if it does not."""
    offsets = near.astype(np.int64)
    large = np.flatnonzero(offsets >= 1 << 31)
    if large.size:
        wide = far[: far.size // 8 * 8].view(">u8")
        where = offsets[large] & 0x7FFFFFFF
        if where.max() >= wide.size or wide[where].max() >= 1 << 62:
            return None
        offsets[large] = wide[where]
    return offsets


def _named_bases(
    stored: NDArray[np.uint8],
    at: NDArray[np.int64],
    end: int,
    names: NDArray[np.bytes_],
    ranks: NDArray[np.int32],
) -> NDArray[np.int32]:
    """Find the bases that reference deltas name: their positions, LOST_BASE for one that is not in this pack."""
    width = names.dtype.itemsize
    inside = at + width <= end
    wanted = stored[np.where(inside, at, 0)[:, None] + np.arange(width)].view(names.dtype)[:, 0]
    row = np.minimum(np.searchsorted(names, wanted), names.size - 1)
    return np.where(inside & (names[row] == wanted), ranks[row], LOST_BASE).astype(np.int32)


@dataclass(slots=True)
class _Entries:
    """The headers of some entries, read in step: one more byte of every one that goes on, a round."""

    begins: NDArray[np.int64]
    at: NDArray[np.int64]
    """Where the header read so far ends."""
    types: NDArray[np.uint8]
    lengths: NDArray[np.uint32]
    distances: NDArray[np.int64]
    """How far before its own offset an offset delta's base begins; 0 for others and for the impossible."""

    @classmethod
    def read(cls, stored: NDArray[np.uint8], begins: NDArray[np.int64], ends: NDArray[np.int64]) -> _Entries:
        """Read type, length and offset-delta distance of the entries that begin and end there.

        A header that runs out of its entry gets type 0, which is no type.
        """
        first = stored[begins]
        types = (first >> 4 & 7).astype(np.uint8)
        lengths = (first & 15).astype(np.int64)
        at = begins + 1
        going = np.flatnonzero(first & 0x80)
        for shift in range(4, 60, 7):
            going = going[at[going] < ends[going]]
            byte = stored[at[going]].astype(np.int64)
            lengths[going] |= (byte & 0x7F) << shift
            at[going] += 1
            going = going[byte >= 0x80]
        types[going] = 0
        distances = np.zeros(begins.size, np.int64)
        going = np.flatnonzero(types == _OFS_DELTA)
        for turn in range(9):
            going = going[at[going] < ends[going]]
            byte = stored[at[going]].astype(np.int64)
            distances[going] = (distances[going] + (turn > 0) << 7) | (byte & 0x7F)
            at[going] += 1
            going = going[byte >= 0x80]
        distances[going] = 0
        types[at >= ends] = 0
        return cls(begins, at, types, np.minimum(lengths, _SATURATED).astype(np.uint32), distances)

    def offset_bases(self, offsets: NDArray[np.int64]) -> NDArray[np.int32]:
        """Return the position of each entry's base where its offset names it, LOST_BASE where nothing begins there."""
        bases = np.full(self.begins.size, NO_BASE, np.int32)
        bases[(self.types == 0) | (self.types > Kind.TAG)] = LOST_BASE
        deltas = np.flatnonzero(self.types == _OFS_DELTA)
        wanted = self.begins[deltas] - self.distances[deltas]
        place = np.minimum(np.searchsorted(offsets, wanted), max(offsets.size - 1, 0))
        found = (offsets[place] == wanted) & (self.distances[deltas] > 0)
        bases[deltas] = np.where(found, place, LOST_BASE)
        return bases
