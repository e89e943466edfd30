"""The delta filter: which objects of a pack can hold a key, found without applying a single delta (DESIGN, section 8).

A delta copies parts of its base and inserts bytes. So a value stands in an object only if its bytes were inserted
there, or stand in what the object was derived from, or were joined from two such pieces. Every entry is inflated once,
in pack order; a compiled kernel keeps the bytes it inserts, with one marker where a border between pieces was. In that
text *seeds* are looked for: the larger part of a value that must stand whole in one piece. Objects with a seed, and all
that is derived from them, are suspects and are read in full: the filter saves work and never judges.

What could not be inflated, or makes no sense, is a suspect too, so that git reports it. Packs are hostile: each length
is checked before it is used and what an entry may inflate to is bounded.
"""

from __future__ import annotations

import mmap
import multiprocessing
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from firedamp.scanner import prefilter
from firedamp.scanner.kernels import DAMAGED, HEAD, RUN, WORD, Kernels, compiled
from firedamp.scanner.packindex import Kind, PackListing, Unfilterable, inherited
from firedamp.scanner.seeds import Seeds

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

LARGEST: Final = 16 << 20
"""Bytes an entry may inflate to here; a larger one is read in full, and what is derived from it."""
_BATCH: Final = 4 << 20
"""Inflated bytes handled at a time: small enough to stay in the processor's cache."""
_STEP: Final = 1 << 13
"""Entries whose places are Python integers at a time: those take ten times the room they have in an array."""
_SLACK: Final = bytes(8)
"""Follows the last entry of a batch: a copy instruction that is cut short is read past its end, and then refused."""
_SAFE: Final = LARGEST // 1032
"""Compressed bytes that cannot inflate to more than LARGEST: deflate's best is 1032 to 1."""


@dataclass(frozen=True, slots=True, eq=False)
class Filtered:
    """Which of the objects asked for can hold a key."""

    suspects: NDArray[np.int32]
    """Their positions in the pack, ascending: what must be read in full, in pack order."""
    ruled_out: int
    """Objects asked for that cannot hold a key."""
    inflated: int
    """Bytes that the filter inflated."""
    damaged: int
    """Suspects that are so because they, or what they derive from, could not be read here."""


def suspects(
    listing: PackListing,
    seeds: Seeds,
    *,
    cache_folder: Path,
    processes: int = 1,
    wanted: NDArray[np.bool_] | None = None,
) -> Filtered | Unfilterable:
    """Say which objects of a pack can hold a key.

    wanted has one element an object and says which are asked for, as a rule those that were never read before; without
    it, all but trees. processes share the work, this one included. cache_folder takes the compiled kernels; it is made
    for this user alone. The result does not depend on processes.
    """
    kernels = compiled(cache_folder)
    if kernels is None:
        return Unfilterable("numba is missing")
    asked = listing.kinds != Kind.TREE if wanted is None else wanted & (listing.kinds != Kind.TREE)
    flags = np.zeros(len(listing), np.uint8)
    flags[listing.bases < 0] = np.where(listing.kinds[listing.bases < 0] == Kind.UNKNOWN, DAMAGED, 0)
    flags[listing.kinds == Kind.UNKNOWN] |= DAMAGED
    needed = _with_ancestors(asked, listing.bases) & (listing.kinds != Kind.UNKNOWN)
    chosen = np.flatnonzero(needed).astype(np.int32)
    work = _Work(listing, _database(seeds, cache_folder), kernels)
    try:
        inflated = _shared_out(work, chosen, flags, max(1, processes))
    except _ProcessLostError as error:
        return Unfilterable(str(error))
    flags = inherited(flags, listing.bases)
    both = WORD | RUN
    guilty = asked & (((flags & (HEAD | DAMAGED)) > 0) | ((flags & both) == both))
    return Filtered(
        suspects=np.flatnonzero(guilty).astype(np.int32),
        ruled_out=int(asked.sum()) - int(guilty.sum()),
        inflated=inflated,
        damaged=int((asked & ((flags & DAMAGED) > 0)).sum()),
    )


def _with_ancestors(asked: NDArray[np.bool_], bases: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Add everything that the objects asked for were derived from."""
    needed = asked.copy()
    front: NDArray[np.int64 | np.int32] = np.flatnonzero(asked)
    while front.size:
        parents = bases[front]
        parents = np.unique(parents[parents >= 0])
        front = parents[~needed[parents]]
        needed[front] = True
    return needed


# The work, shared out over processes.


class _ProcessLostError(Exception):
    """A process of ours ended without an answer."""


@dataclass(frozen=True, slots=True)
class _Work:
    """What every process needs: it is inherited where processes fork."""

    listing: PackListing
    database: Any
    kernels: Kernels


def _shared_out(work: _Work, chosen: NDArray[np.int32], flags: NDArray[np.uint8], processes: int) -> int:
    """Flag the chosen objects and return how many bytes were inflated.

    Shares are contiguous and of like compressed size. This process takes the first; where it cannot fork it takes all.
    """
    if sys.platform != "linux" or chosen.size < processes:
        processes = 1
    ends = np.append(work.listing.offsets[1:], work.listing.end)
    weight = np.cumsum(ends[chosen] - work.listing.offsets[chosen])
    cuts = [int(np.searchsorted(weight, weight[-1] * k // processes)) if k else 0 for k in range(processes)]
    shares = [chosen[a:b] for a, b in zip(cuts, [*cuts[1:], chosen.size], strict=True)]
    with _others(work, shares[1:]) as answers:
        mine, inflated = _flagged(work, shares[0])
        flags[shares[0]] |= mine
        for share, answer in zip(shares[1:], answers, strict=True):
            try:
                theirs, count = answer.recv()
            except EOFError:
                raise _ProcessLostError("a process that filtered it ended early") from None
            flags[share] |= theirs
            inflated += count
    return inflated


@contextmanager
def _others(work: _Work, shares: list[NDArray[np.int32]]) -> Iterator[list[Connection]]:
    """Run a process for each share, and end it when the block is left."""
    context = multiprocessing.get_context("fork")
    started = []
    try:
        for share in shares:
            receiving, sending = context.Pipe(duplex=False)
            process = context.Process(target=_answer, args=(work, share, sending), daemon=True)
            process.start()
            sending.close()
            started.append((process, receiving))
        yield [receiving for _, receiving in started]
    finally:
        for process, receiving in started:
            receiving.close()
            process.terminate()
            process.join()


def _answer(work: _Work, share: NDArray[np.int32], sending: Connection) -> None:
    sending.send(_flagged(work, share))
    sending.close()


def _flagged(work: _Work, share: NDArray[np.int32]) -> tuple[NDArray[np.uint8], int]:
    """Flag the objects of one share, and say how many bytes they inflate to."""
    import hyperscan

    flags = np.zeros(share.size, np.uint8)
    inflated = 0
    found: tuple[list[int], list[int]] = ([], [])

    def note(which: int, _start: int, end: int, _flags: int, _context: object) -> None:
        found[which].append(end)

    scratch = hyperscan.Scratch(work.database)
    text = np.empty(0, np.uint8)
    for first, source, starts, ends in _inflated(work.listing, share, flags):
        count = starts.size
        part = flags[first : first + count]
        if text.size < source.size + 2 * count:
            text = np.empty(source.size + 2 * count + _BATCH, np.uint8)
        at = np.empty(count, np.int64)
        deltas = work.listing.bases[share[first : first + count]] >= 0
        size = work.kernels.inserted(source, starts, ends, deltas, text, at, work.kernels.tables[1], part)
        work.kernels.runs(text[:size], at, *work.kernels.tables, part)
        work.database.scan(text[:size], match_event_handler=note, scratch=scratch)
        for flag, places in zip((HEAD, WORD), found, strict=True):
            if places:
                part[np.searchsorted(at, np.array(places) - 1, side="right") - 1] |= flag
                places.clear()
        inflated += int(ends[-1])
    return flags, inflated


_Batch = tuple[int, NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]


def _inflated(listing: PackListing, share: NDArray[np.int32], flags: NDArray[np.uint8]) -> Iterator[_Batch]:
    """Inflate the entries of a share, a batch at a time: its place in the share, its bytes, where each begins and ends.

    One whose stored bytes do not have the index's checksum, that is damaged, or is too large, is flagged and empty.
    """
    from isal import isal_zlib

    broken: Any = isal_zlib.IsalError
    with (
        listing.pack.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
        memoryview(mapped) as stored,
    ):
        parts: list[bytes] = []
        first, total = 0, 0
        for i, (begin, end, skip, length, check) in enumerate(_entries(listing, share)):
            part = b""
            if length > LARGEST or isal_zlib.crc32(stored[begin:end]) != check:
                flags[i] = DAMAGED
            else:
                try:
                    if end - begin <= _SAFE:
                        part = isal_zlib.decompress(stored[begin + skip : end], 15, length + 8)
                    else:
                        part = isal_zlib.decompressobj(15).decompress(stored[begin + skip : end], length + 1)
                except broken:
                    flags[i] = DAMAGED
                if len(part) != length:
                    flags[i] = DAMAGED
                    part = b""
            parts.append(part)
            total += len(part)
            if total >= _BATCH or i + 1 == share.size:
                sizes = np.array([len(one) for one in parts], np.int64)
                stops = np.cumsum(sizes)
                parts.append(_SLACK)
                yield first, np.frombuffer(b"".join(parts), np.uint8), stops - sizes, stops
                parts, first, total = [], i + 1, 0


def _entries(listing: PackListing, share: NDArray[np.int32]) -> Iterator[tuple[int, int, int, int, int]]:
    """Yield of each entry: begin, end, bytes of its header, inflated length, checksum. Few at a time are Python's."""
    for first in range(0, share.size, _STEP):
        part = share[first : first + _STEP]
        after = np.minimum(part + 1, len(listing) - 1)
        ends = np.where(part + 1 < len(listing), listing.offsets[after], listing.end)
        columns = (
            listing.offsets[part],
            ends,
            listing.data[part],
            listing.lengths[part],
            listing.crc[listing.rows[part]],
        )
        yield from zip(*(column.tolist() for column in columns), strict=True)


def _database(seeds: Seeds, folder: Path) -> Any:  # hyperscan has no types
    """Compile the seeds, or load them from folder: an id of 0 for a head, 1 for a context word."""
    ids = [0] * len(seeds.heads) + [1] * len(seeds.words)
    return prefilter.load((*seeds.heads, *seeds.words), ids, folder)
