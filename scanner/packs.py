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
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from firedamp.scanner import prefilter
from firedamp.scanner.jit import NoCompilerError
from firedamp.scanner.kernels import DAMAGED, HEAD, RUN, WORD, Kernels, compiled, tables
from firedamp.scanner.objects import deepen
from firedamp.scanner.packindex import Kind, PackListing, Unfilterable, inherit
from firedamp.scanner.seeds import Seeds
from firedamp.scanner.version import VERSION

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

LARGEST: Final = 16 << 20
"""Bytes an entry may inflate to here; a larger one is read in full, and what is derived from it."""
_BATCH: Final = 4 << 20
"""Inflated bytes handled at a time: small enough to stay in the processor's cache."""
_SHARE: Final = 12 << 20
"""Stored bytes of a share of the work: what is found in one is read while the next ones are filtered."""
_STEP: Final = 1 << 13
"""Entries whose places are Python integers at a time: those take ten times the room they have in an array."""
_SLACK: Final = 8
"""Bytes that follow the last entry of a batch: an instruction that is cut short is read past its end, then refused."""
_SAFE: Final = (64 << 20) // 1032
"""Stored bytes that cannot inflate to more than 64 MiB, whatever they claim: deflate's best is 1032 to 1."""

Asked = tuple[PackListing, NDArray[np.int32]]
"""A pack, and the positions in it, ascending, that are asked for: as a rule all but trees that were never read."""


@dataclass(frozen=True, slots=True, eq=False)
class Filtered:
    """Which of the objects asked for can hold a key: of a whole pack, or of a share of it."""

    pack: int
    """Which of the packs asked for."""
    suspects: NDArray[np.int32]
    """Their positions in the pack, ascending: what must be read in full, in pack order."""
    ruled_out: NDArray[np.int32]
    """Positions of those asked for that cannot hold a key."""
    inflated: int
    """Bytes that the filter inflated."""
    damaged: int
    """Suspects that are so because they, or what they derive from, could not be read here."""


@contextmanager
def filtering(
    asked: Sequence[Asked], cache_folder: Path, *, processes: int = 1, seeds: Seeds | None = None
) -> Iterator[Iterator[Filtered]]:
    """Filter packs while the block runs: what is yielded says, share after share in pack order, what can hold a key.

    processes work beside this one; with one, or where this one cannot fork, the work is done as it is asked for. What
    comes out does not depend on it. cache_folder takes what is compiled; it is made for this user alone. seeds replace
    the ordinary ones. Raises NoCompilerError without numba.
    """
    # The kernels first: without numba, nothing is compiled in vain.
    work = _Work(asked, kernels=compiled(cache_folder), database=_database(cache_folder, seeds))
    shares = [share for number, (pack, positions) in enumerate(asked) for share in _shares(number, pack, positions)]
    with _working(work, shares, processes) as parts:
        yield parts


def suspects(
    listing: PackListing,
    *,
    cache_folder: Path,
    processes: int = 1,
    wanted: NDArray[np.bool_] | None = None,
    seeds: Seeds | None = None,
) -> Filtered | Unfilterable:
    """Filter one pack to its end. wanted has one element an object and says which are asked for: else all but trees."""
    positions = listing.besides_trees()
    if wanted is not None:
        positions = positions[wanted[positions]]
    try:
        with filtering([(listing, positions)], cache_folder, processes=processes, seeds=seeds) as parts:
            every = [*parts]
    except NoCompilerError as error:
        return Unfilterable(str(error))
    none = np.empty(0, np.int32)
    return Filtered(
        pack=0,
        suspects=np.concatenate([none, *(each.suspects for each in every)]),
        ruled_out=np.concatenate([none, *(each.ruled_out for each in every)]),
        inflated=sum(each.inflated for each in every),
        damaged=sum(each.damaged for each in every),
    )


# The work, in shares: which objects are filtered, who does it, and what comes of it.


@dataclass(frozen=True, slots=True)
class _Work:
    """What every process needs: it is inherited where processes fork."""

    asked: Sequence[Asked]
    database: Any
    kernels: Kernels


@dataclass(frozen=True, slots=True, eq=False)
class _Share:
    """Some objects of a pack that are filtered together: those asked for, and what they were derived from."""

    pack: int
    positions: NDArray[np.int32]
    end: int
    """Behind the last object of the pack that this share decides on."""


@contextmanager
def _working(work: _Work, shares: Sequence[_Share], processes: int) -> Iterator[Iterator[Filtered]]:
    """Have shares filtered by processes of ours while the block runs, or by this one."""
    if processes == 1 or sys.platform != "linux":
        yield _joined(work, shares, (_flagged(work, share) for share in shares))
        return
    context = multiprocessing.get_context("fork")
    started = []
    try:
        for first in range(min(processes, len(shares))):
            receiving, sending = context.Pipe(duplex=False)
            deepen(sending.fileno())
            process = context.Process(target=_answer, args=(work, shares[first::processes], sending), daemon=True)
            process.start()
            sending.close()
            started.append((process, receiving))
        yield _joined(work, shares, _answers(shares, [receiving for _, receiving in started]))
    finally:
        for process, receiving in started:
            process.terminate()
            process.join()
            receiving.close()


_Answer = tuple[NDArray[np.uint8], int]
"""A share's flags, and how many bytes were inflated."""


def _shares(number: int, pack: PackListing, positions: NDArray[np.int32]) -> Iterator[_Share]:
    """Yield a pack's shares: in pack order, and of like stored size."""
    needed = np.flatnonzero(_with_ancestors(positions, pack.bases) & (pack.kinds != Kind.UNKNOWN)).astype(np.int32)
    after = np.minimum(needed + 1, len(pack) - 1)
    weight = np.cumsum(np.where(needed + 1 < len(pack), pack.offsets[after], pack.end) - pack.offsets[needed])
    count = 1 + int(weight[-1] if weight.size else 0) // _SHARE
    cuts = [int(np.searchsorted(weight, weight[-1] * k // count)) for k in range(1, count)]
    for first, last in zip([0, *cuts], [*cuts, needed.size], strict=True):
        end = len(pack) if last == needed.size else int(needed[last])
        yield _Share(number, needed[first:last], end)


def _with_ancestors(positions: NDArray[np.int32], bases: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Return for each object whether it is at positions, or something there was derived from it."""
    needed = np.zeros(bases.size, np.bool_)
    needed[positions] = True
    front = positions
    while front.size:
        parents = bases[front]
        parents = np.unique(parents[parents >= 0])
        front = parents[~needed[parents]]
        needed[front] = True
    return needed


def _joined(work: _Work, shares: Sequence[_Share], answers: Iterator[_Answer]) -> Iterator[Filtered]:
    """Put the answers to the shares together: an object is a suspect with all that it was derived from.

    As a rule a base stands before what is derived from it, and a share can be decided on as soon as it is answered.
    """
    flags, low, inflated, ordered = np.empty(0, np.uint8), 0, 0, False
    for share, (found, count) in zip(shares, answers, strict=True):
        pack, positions = work.asked[share.pack]
        if not flags.size:
            flags, low, inflated = np.where(pack.kinds == Kind.UNKNOWN, DAMAGED, 0).astype(np.uint8), 0, 0
            ordered = bool((pack.bases < np.arange(len(pack), dtype=np.int32)).all())
        flags[share.positions] |= found
        inflated += count
        if ordered or share.end == len(pack):
            inherit(flags, pack.bases, low, share.end)
            here = positions[np.searchsorted(positions, low) : np.searchsorted(positions, share.end)]
            yield _decided(share.pack, here, flags[here], inflated)
            low, inflated = share.end, 0
        if share.end == len(pack):
            flags = np.empty(0, np.uint8)


def _decided(pack: int, positions: NDArray[np.int32], flags: NDArray[np.uint8], inflated: int) -> Filtered:
    both = WORD | RUN
    guilty = ((flags & (HEAD | DAMAGED)) > 0) | ((flags & both) == both)
    return Filtered(
        pack=pack, suspects=positions[guilty], ruled_out=positions[~guilty], inflated=inflated,
        damaged=int(((flags & DAMAGED) > 0).sum()),
    )  # fmt: skip


def _answers(shares: Sequence[_Share], pipes: Sequence[Connection]) -> Iterator[_Answer]:
    """Yield what the processes answer, in the order of the shares. What a lost process leaves is read in full."""
    lost = set[int]()
    for number, share in enumerate(shares):
        which = number % len(pipes)
        if which not in lost:
            try:
                yield pipes[which].recv()
                continue
            except EOFError:
                lost.add(which)
        yield _unanswered(share)


def _unanswered(share: _Share) -> _Answer:
    """Return the answer to a share of which nothing is known: git reads all of it, and tells what is wrong."""
    return np.full(share.positions.size, DAMAGED, np.uint8), 0


def _answer(work: _Work, shares: Sequence[_Share], sending: Connection) -> None:
    """Filter some shares, in a process of ours: it ends with the one that began it, and says nothing of its own."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(OSError), sending:
        for share in shares:
            sending.send(_flagged(work, share))


def _flagged(work: _Work, share: _Share) -> _Answer:
    """Flag the objects of one share, and say how many bytes they inflate to. Where the pack is gone, git tells it."""
    try:
        return _sought(work, share)
    except OSError:
        return _unanswered(share)


def _sought(work: _Work, share: _Share) -> _Answer:
    import hyperscan

    pack, _ = work.asked[share.pack]
    flags = np.zeros(share.positions.size, np.uint8)
    inflated = 0
    found: tuple[list[int], list[int]] = ([], [])

    def note(which: int, _start: int, end: int, _flags: int, _context: object) -> None:
        found[which].append(end)

    scratch = hyperscan.Scratch(work.database)
    classes, common, places = tables()
    text = np.empty(0, np.uint8)
    for first, source, starts, ends in _inflated(pack, share.positions, flags):
        count = starts.size
        part = flags[first : first + count]
        if text.size < ends[-1] + 2 * count:
            text = np.empty(ends[-1] + 2 * count + _BATCH, np.uint8)
        at = np.empty(count, np.int64)
        deltas = (pack.bases[share.positions[first : first + count]] >= 0).view(np.uint8)
        size = work.kernels.inserted(source, starts, ends, deltas, count, text, at, common, part)
        work.kernels.runs(text, size, at, count, classes, common, places, part)
        work.database.scan(text[:size], match_event_handler=note, scratch=scratch)
        for flag, ended in zip((HEAD, WORD), found, strict=True):
            if ended:
                part[np.searchsorted(at, np.array(ended) - 1, side="right") - 1] |= flag
                ended.clear()
        inflated += int(ends[-1])
    return flags, inflated


_Batch = tuple[int, NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]


def _inflated(listing: PackListing, positions: NDArray[np.int32], flags: NDArray[np.uint8]) -> Iterator[_Batch]:
    """Inflate entries, a batch at a time: its place among them, its bytes, where each begins and ends.

    One whose stored bytes do not have the index's checksum, that is damaged, or is too large, is flagged and empty. The
    bytes are overwritten by the next batch.
    """
    from isal import isal_zlib

    broken: Any = isal_zlib.IsalError
    source = np.empty(_BATCH + LARGEST + _SLACK, np.uint8)  # takes memory as far as it is written
    room = memoryview(source.data)
    with (
        listing.pack.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
        memoryview(mapped) as stored,
    ):
        stops = list[int]()
        first, total = 0, 0
        for i, (begin, end, skip, length, check) in enumerate(_entries(listing, positions)):
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
            room[total : total + len(part)] = part
            total += len(part)
            stops.append(total)
            if total >= _BATCH or i + 1 == positions.size:
                room[total : total + _SLACK] = bytes(_SLACK)
                ends = np.array(stops, np.int64)
                yield first, source, np.append(0, ends[:-1]), ends
                stops, first, total = [], i + 1, 0


def _entries(listing: PackListing, positions: NDArray[np.int32]) -> Iterator[tuple[int, int, int, int, int]]:
    """Yield of each entry: begin, end, bytes of its header, inflated length, checksum. Few at a time are Python's."""
    for first in range(0, positions.size, _STEP):
        part = positions[first : first + _STEP]
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


def _database(folder: Path, seeds: Seeds | None) -> Any:  # hyperscan has no types
    """Return the compiled seeds, with an id of 0 for a head, 1 for a context word; from folder if they are there."""

    def expressions() -> tuple[list[bytes], list[int]]:
        from firedamp.scanner.seeds import seeds as ordinary

        sought = seeds or ordinary()
        return [*sought.heads, *sought.words], [0] * len(sought.heads) + [1] * len(sought.words)

    # A copy goes by the version of the sources that the seeds are made from: making them takes longer than loading.
    return prefilter.load(("seeds", VERSION, seeds), expressions, folder)
