"""The delta filter: which objects of a pack can hold a key, told from what is new in each of them (DESIGN, section 8).

A delta copies parts of its base and inserts bytes. So whatever stands in an object was inserted there, or was joined
from pieces, or stands in its base too. Every object is rebuilt once, from its base, while that is still at hand. What
is new in it goes through the prefilter, with as much around it as the longest form is long. Where something is seen,
and where something is seen in the base, the whole text is looked at. So the outcome is that of reading everything.

What could not be rebuilt, or makes no sense, is left to git, which reports it. Packs are hostile: each length is
checked before it is used, and what an entry may inflate to and an object may grow to is bounded.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from firedamp.scanner.kernels import BEHIND, FRESH, HEAD, LARGEST, SLACK, UNREAD, Kernels, compiled
from firedamp.scanner.objects import deepen
from firedamp.scanner.packindex import Kind, PackListing
from firedamp.scanner.reading import Container, Hits
from firedamp.scanner.stub import STUBS, tail_of

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

REACH: Final = 192
"""Bytes around what is new in an object that are looked at with it: more than any form is long."""
_BATCH: Final = 1 << 20
"""Inflated bytes handled at a time."""
_ARENA: Final = 12 << 20
"""Bytes of rebuilt objects held at a time: those that others are derived from, and the latest."""
_SHARE: Final = 4 << 20
"""Stored bytes of a share of the work."""
_PIECE: Final = 4 << 20
"""Bytes of texts that are handed on together at most, but for the last of them."""
_MANY: Final = 4096
"""Objects that are told together at most, but for the last of them: who waits for them may want to stop."""
_NUMBER: Final = 4
"""Bytes of the number of a share."""
_STEP: Final = 1 << 13
"""Entries whose places are Python integers at a time: those take ten times the room they have in an array."""
_SEEN: Final = 4
_OPENED: Final = 8
"""More flags of an object: the prefilter sees something in it; it is a container."""

Asked = tuple[PackListing, NDArray[np.int32]]
"""A pack, and the positions in it, ascending, that are asked for: as a rule all but trees that were never read."""


@dataclass(frozen=True, slots=True, eq=False)
class Filtered:
    """Some of the objects asked for, judged: what they are, by position in their pack."""

    pack: int
    """Which of the packs asked for."""
    hits: NDArray[np.int32]
    """Those that are worth a look."""
    texts: tuple[bytes, ...]
    """What stands in each of hits."""
    ruled_out: NDArray[np.int32]
    """Those that hold nothing."""
    trees: int
    """How many of these are trees."""
    size: int
    """Bytes of what was ruled out, but for trees."""
    unread: NDArray[np.int32]
    """Those that could not be rebuilt here: git must read them."""
    behind: NDArray[np.int32]
    """Those of unread behind whose end bytes stand in the pack, which git passes by."""


@dataclass(frozen=True, slots=True)
class Judge:
    """What is asked of every object.

    whole: look at all of every object, new or not.
    """

    hits: Hits
    container: Container
    whole: bool = False


@contextmanager
def filtering(
    asked: Sequence[Asked], judge: Judge, cache_folder: Path, *, processes: int = 1
) -> Iterator[Iterator[Filtered]]:
    """Filter packs while the block runs: what is yielded judges all that was asked for, piece by piece.

    processes work beside this one; with one, or where this one cannot fork, the work is done as it is asked for, and in
    the order of the packs. cache_folder takes what is compiled; it is made for this user alone. Raises NoCompilerError
    without numba.
    """
    kernels = compiled(cache_folder)
    judge.hits(memoryview(b""))  # what it compiles or loads is shared by processes that fork from here
    shares = [share for number, one in enumerate(asked) for share in _shares(number, one, kernels)]
    if processes == 1 or sys.platform != "linux":
        room = _Room()
        yield (piece for share in shares for piece in _judged(share, judge, kernels, room))
        return
    with _working(judge, kernels, shares, processes) as pieces:
        yield pieces


def too_large(pack: PackListing, positions: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return those of positions that are never inflated here."""
    return positions[pack.lengths[positions] > LARGEST]


# The work, in shares: which objects are rebuilt together, and who does it.


@dataclass(frozen=True, slots=True, eq=False)
class _Share:
    """Some families of objects, each behind its base: those asked for, and what they were derived from."""

    number: int
    """Which of the packs asked for, which is pack."""
    pack: PackListing
    positions: NDArray[np.int32]
    bases: NDArray[np.int32]
    """Each object's base, by its place in positions; -1 for none."""
    asked: NDArray[np.bool_]
    """Which of positions are asked for."""

    def unread(self, places: NDArray[np.bool_]) -> Filtered:
        """Return those asked for among places as left to git."""
        none = np.empty(0, np.int32)
        return Filtered(self.number, none, (), none, 0, 0, np.sort(self.positions[places & self.asked]), none)


def _shares(number: int, asked: Asked, kernels: Kernels) -> Iterator[_Share]:
    """Yield a pack's shares, of like stored size where families are smaller than that: in pack order."""
    pack, positions = asked
    wanted = np.zeros(len(pack), np.bool_)
    wanted[positions] = True
    known = pack.kinds != Kind.UNKNOWN
    needed = np.flatnonzero(_with_ancestors(positions, pack.bases) & known).astype(np.int32)
    places = np.full(len(pack) + 1, -1, np.int32)  # one more: what has no base asks for the last
    places[needed] = np.arange(needed.size, dtype=np.int32)
    ordered = np.empty(needed.size, np.int32)
    count = kernels.order(
        places[np.maximum(pack.bases[needed], -1)], needed.size, np.empty(4 * needed.size, np.int32), ordered
    )
    needed = needed[ordered[:count]]
    places[needed] = np.arange(count, dtype=np.int32)
    bases = places[np.maximum(pack.bases[needed], -1)]
    begins = np.flatnonzero(bases < 0)
    weight = np.concatenate(([0], np.cumsum(pack.ends(needed) - pack.offsets[needed])))
    cuts = np.unique(np.searchsorted(weight[begins], np.arange(0, weight[-1], _SHARE)))
    cuts = np.append(begins[cuts[cuts < begins.size]], count)
    for low, high in zip(cuts[:-1].tolist(), cuts[1:].tolist(), strict=True):
        part = slice(low, high)
        local = np.where(bases[part] < 0, np.int32(-1), bases[part] - np.int32(low))
        yield _Share(number, pack, needed[part], local, wanted[needed[part]])
    if (lost := positions[~known[positions]]).size:
        yield _Share(number, pack, lost, np.full(lost.size, -1, np.int32), np.ones(lost.size, np.bool_))


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


_Pipe: TypeAlias = "tuple[Connection, Connection]"
"""Where it is read, and where it is written."""


@contextmanager
def _working(judge: Judge, kernels: Kernels, shares: Sequence[_Share], processes: int) -> Iterator[Iterator[Filtered]]:
    """Have shares filtered by processes of ours while the block runs: who is done takes the next one."""
    context = multiprocessing.get_context("fork")
    count = min(processes, len(shares))
    pipes = [context.Pipe(duplex=False) for _ in range(count)]
    started = []
    with tempfile.TemporaryFile() as queue:
        # Processes that were forked share one position in a file: what one of them read, no other reads. A pack's end
        # comes first: blobs stand behind commits, and what they hold is looked at while the rest is filtered.
        queue.write(b"".join(number.to_bytes(_NUMBER) for number in reversed(range(len(shares)))))
        queue.seek(0)
        try:
            for number in range(count):
                arguments = (shares, queue.fileno(), judge, kernels, pipes, number)
                process = context.Process(target=_answer, args=arguments, daemon=True)
                process.start()
                started.append(process)
            for _, sending in pipes:
                sending.close()
            yield _answers(shares, [receiving for receiving, _ in pipes])
        finally:
            for process in started:
                process.terminate()
                process.join()
            for pipe in pipes:
                for end in pipe:
                    end.close()


def _answers(shares: Sequence[_Share], pipes: Sequence[Connection]) -> Iterator[Filtered]:
    """Yield what the processes answer, as it comes. What a lost process leaves is left to git.

    A process says which share it took, what becomes of that, and None at its end.
    """
    from multiprocessing.connection import Connection, wait

    open_pipes, left = [*pipes], set(range(len(shares)))
    under_way: dict[Connection, tuple[_Share, list[NDArray[np.int32]]]] = {}
    while open_pipes:
        for pipe in [each for each in wait(open_pipes) if isinstance(each, Connection)]:
            told: int | Filtered | None = None
            with suppress(EOFError, OSError):  # it may have ended in the middle of a message
                told = pipe.recv()
                if told is None:
                    del under_way[pipe]
                    continue
            match told:
                case int():
                    left.remove(told)
                    under_way[pipe] = shares[told], []
                case Filtered():
                    under_way[pipe][1].extend((told.hits, told.ruled_out, told.unread))
                    yield told
                case None:
                    open_pipes.remove(pipe)
                    if pipe in under_way:
                        share, judged = under_way.pop(pipe)
                        yield share.unread(~np.isin(share.positions, np.concatenate([share.positions[:0], *judged])))
    for number in sorted(left):
        yield shares[number].unread(shares[number].asked)


def _answer(  # noqa: PLR0917 - what a process is started with, passed once
    shares: Sequence[_Share], queue: int, judge: Judge, kernels: Kernels, pipes: Sequence[_Pipe], own: int
) -> None:
    """Filter shares, in a process of ours: it ends with the one that began it, and says nothing of its own."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # While anybody could read what is sent, a process that lost its parent would wait for that.
    for place, (receiving, other) in enumerate(pipes):
        receiving.close()
        if place != own:
            other.close()
    sending = pipes[own][1]
    deepen(sending.fileno())
    room = _Room()
    with suppress(OSError), sending:
        while number := os.read(queue, _NUMBER):
            share = int.from_bytes(number)
            sending.send(share)
            for piece in _judged(shares[share], judge, kernels, room):
                sending.send(piece)
            sending.send(None)


# One share, rebuilt from its roots on.


@dataclass(frozen=True, slots=True, eq=False)
class _Room:
    """The memory that one share after the other uses: to get it anew each time would take as long as the filling."""

    entries: NDArray[np.uint8] = field(default_factory=lambda: np.empty(_BATCH + LARGEST + SLACK, np.uint8))
    """A batch of inflated entries: whole ones, so that the last may be as large as any."""
    arena: NDArray[np.uint8] = field(default_factory=lambda: np.empty(_ARENA, np.uint8))
    """Rebuilt objects."""
    text: NDArray[np.uint8] = field(default_factory=lambda: np.empty(_ARENA, np.uint8))
    """What is new in the latest of them."""


def _judged(share: _Share, judge: Judge, kernels: Kernels, room: _Room) -> Iterator[Filtered]:
    """Judge the objects of one share. Where the pack is gone or cannot be read they are left to git, which tells it."""
    if (share.pack.kinds[share.positions] == Kind.UNKNOWN).any():
        yield share.unread(share.asked)
        return
    rebuilding = _Rebuilding(share, judge, kernels, room)
    try:
        yield from rebuilding.pieces()
    except (OSError, ValueError):  # an empty file cannot be mapped
        yield share.unread(np.arange(share.positions.size) >= rebuilding.done)


@dataclass(slots=True, eq=False)
class _Rebuilding:
    """A share on its way through the arena."""

    share: _Share
    judge: Judge
    kernels: Kernels
    room: _Room
    done: int = 0
    """How many objects were judged and handed on."""
    flags: NDArray[np.uint8] = field(init=False)
    where: NDArray[np.int64] = field(init=False)
    sizes: NDArray[np.int64] = field(init=False)
    left: NDArray[np.int32] = field(init=False)
    ends: NDArray[np.int64] = field(init=False)
    """How far arena and text are written."""
    held: NDArray[np.int64] = field(init=False)
    """Which objects in the arena others are still to be derived from."""

    def __post_init__(self) -> None:
        count = self.share.positions.size
        self.flags = np.zeros(count, np.uint8)
        self.where, self.sizes = np.zeros(count, np.int64), np.zeros(count, np.int64)
        bases = self.share.bases
        self.left = np.bincount(bases[bases >= 0], minlength=count).astype(np.int32)
        self.ends = np.zeros(2, np.int64)
        self.held = np.empty(0, np.int64)

    def pieces(self) -> Iterator[Filtered]:
        """Rebuild all objects, and hand on what they are: often enough that texts do not heap up."""
        texts, waiting = list[bytes](), 0
        for first, count in self._rebuilt():
            self._look(first, count)
            seen = np.flatnonzero(self.flags[first : first + count] & (_SEEN | _OPENED)) + first
            for place in seen[self.share.asked[seen]].tolist():
                texts.append(self._text(place).tobytes())
                waiting += len(texts[-1])
            if waiting >= _PIECE or first + count - self.done >= _MANY:
                yield self._piece(first + count, texts)
                texts, waiting = [], 0
        yield self._piece(self.flags.size, texts)

    def _piece(self, end: int, texts: Sequence[bytes]) -> Filtered:
        """Return what was found out since the last piece, up to the place end."""
        part = slice(self.done, end)
        self.done = end
        flags, positions, asked = self.flags[part], self.share.positions[part], self.share.asked[part]
        unread = (flags & UNREAD) > 0
        seen = (flags & (_SEEN | _OPENED)) > 0
        out = asked & ~unread & ~seen
        trees = out & (self.share.pack.kinds[positions] == Kind.TREE)
        return Filtered(
            pack=self.share.number, hits=positions[asked & seen], texts=tuple(texts), ruled_out=positions[out],
            trees=int(trees.sum()), size=int(self.sizes[part][out & ~trees].sum()),
            unread=np.sort(positions[asked & unread]), behind=positions[asked & ((flags & BEHIND) > 0)],
        )  # fmt: skip

    def _text(self, place: int) -> memoryview:
        at = int(self.where[place])
        return self.room.arena.data[at : at + int(self.sizes[place])]

    def _rebuilt(self) -> Iterator[tuple[int, int]]:
        """Rebuild the objects, some at a time: yields the first and how many, whose texts are in the arena now.

        In which of them something new is worth a look is flagged by then.
        """
        share, room, reach = self.share, self.room, -1 if self.judge.whole else REACH
        for begin, source, starts, stops in _inflated(share, self.flags, self.kernels, room.entries):
            done = 0
            while done < starts.size:
                first, count = begin + done, starts.size - done
                at = np.empty(count, np.int64)
                before = int(self.ends[0])
                made = self.kernels.rebuild(
                    source, starts[done:], stops[done:], first, count, share.bases, self.left, self.where,
                    self.sizes, room.arena, room.arena.size, reach, room.text, room.text.size, at, self.flags,
                    self.ends,
                )  # fmt: skip
                self._see(first, at[:made], before)
                yield first, made
                done += made
                freed = self._make_room(first, made)
                if not made and not freed:
                    # What the arena holds is needed, and leaves no room: git can read this one.
                    self.flags[first] |= UNREAD

    def _see(self, first: int, at: NDArray[np.int64], before: int) -> None:
        """Flag the objects from first on in whose new parts the prefilter sees something."""
        if self.judge.whole:
            # What could not be rebuilt stands nowhere: it gets the place of the next one.
            nowhere = (self.flags[first : first + at.size] & UNREAD) > 0
            at = np.where(nowhere, self.room.arena.size, self.where[first : first + at.size])[::-1]
            at, new = np.minimum.accumulate(at)[::-1] - before, self.room.arena.data[before : int(self.ends[0])]
        else:
            new = self.room.text.data[: int(self.ends[1])]
        if len(new) and (ends := self.judge.hits(new)):
            found = np.searchsorted(at, np.array(ends) - 1, side="right") - 1
            self.flags[first + found] |= _SEEN

    def _look(self, first: int, count: int) -> None:
        """Flag of count objects from first on those that must be looked at for what their base is, and containers."""
        flags, bases = self.flags[first : first + count], self.share.bases[first : first + count]
        blobs = self.share.pack.kinds[self.share.positions[first : first + count]] == Kind.BLOB
        fine = (flags & UNREAD) == 0
        begins = self.where[first : first + count]
        ends = begins + self.sizes[first : first + count]
        # Behind a program a zip may begin and end though the program be its base's.
        stubs = self._stubs(np.where(fine & (ends > begins), begins, 0))
        places = np.flatnonzero(fine & blobs & (((flags & FRESH) > 0) | stubs))
        arena = self.room.arena.data
        columns = (each[places].tolist() for each in (begins, ends, np.minimum(ends, begins + HEAD), stubs))
        for place, begin, end, head, stub in zip(places.tolist(), *columns, strict=True):
            if self.judge.container(bytes(arena[begin:head]), tail_of(arena[begin:end]) if stub else b""):
                flags[place] |= _OPENED
        if (fine & (bases >= 0) & ((self.flags[bases] & (_SEEN | _OPENED)) > 0)).any():
            self._inherit(first, np.flatnonzero(fine & (bases >= 0)))

    def _stubs(self, begins: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return of each text in the arena whether it begins as a program does."""
        arena = self.room.arena
        second = arena[np.minimum(begins + 1, arena.size - 1)]
        stubs: NDArray[np.bool_] = np.logical_or.reduce(
            [(arena[begins] == one) & (second == two) for one, two in STUBS]
        )
        return stubs

    def _inherit(self, first: int, places: NDArray[np.int64]) -> None:
        """Look at the whole of what derives from something seen, and open what derives from a container.

        places are counted from first on, in the order of the share: each stands behind its base.
        """
        bases = self.share.bases[first + places]
        for place, base in zip((first + places).tolist(), bases.tolist(), strict=True):
            inherited, own = int(self.flags[base]), int(self.flags[place])
            if inherited & _OPENED and not own & FRESH:
                own |= _OPENED
            # What is looked at whole anyway was.
            if inherited & (_SEEN | _OPENED) and not (own & _SEEN or self.judge.whole):
                own |= _SEEN if self.judge.hits(self._text(place)) else 0
            self.flags[place] = own

    def _make_room(self, first: int, count: int) -> bool:
        """Move what is still a base of something to the front of the arena, if half of it is written or nothing fits.

        Return whether there is more room than before.
        """
        new = np.arange(first, first + count)
        self.held = np.concatenate((self.held, new[(self.flags[first : first + count] & UNREAD) == 0]))
        self.held = self.held[self.left[self.held] > 0]
        before = int(self.ends[0])
        if count and before <= self.room.arena.size // 2:
            return False
        end = 0
        for place in self.held.tolist():
            begin, size = int(self.where[place]), int(self.sizes[place])
            self.room.arena[end : end + size] = self.room.arena[begin : begin + size]
            self.where[place] = end
            end += size
        self.ends[0] = end
        return end < before


_Batch = tuple[int, NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]


def _inflated(
    share: _Share, flags: NDArray[np.uint8], kernels: Kernels, entries: NDArray[np.uint8]
) -> Iterator[_Batch]:
    """Inflate entries, a batch at a time: its place among them, its bytes, where in these each begins and ends.

    One whose stored bytes do not have the index's checksum, that is damaged, or is too large, is flagged and empty. The
    bytes stand in entries until the next batch is asked for.
    """
    listing, used = share.pack, np.zeros(1, np.int64)
    stored = np.memmap(listing.pack, np.uint8, "r")
    for first, last in _batches(listing.lengths[share.positions]):
        part = share.positions[first:last]
        starts, stops = np.empty(part.size, np.int64), np.empty(part.size, np.int64)
        size = kernels.inflate(
            stored.ctypes.data, stored.size, listing.offsets[part], listing.ends(part), listing.data[part],
            listing.lengths[part].astype(np.int64), listing.crc[listing.rows[part]].astype(np.int64), part.size,
            entries.ctypes.data, starts, stops, flags[first:last], used, used.ctypes.data,
        )  # fmt: skip
        entries[size : size + SLACK] = 0
        yield first, entries, starts, stops


def _batches(lengths: NDArray[np.integer[Any]]) -> Iterator[tuple[int, int]]:
    """Yield the first and the end of each batch: as many entries as inflate to its size, and not too many of them."""
    totals = np.cumsum(np.where(lengths <= LARGEST, lengths, 0), dtype=np.int64)
    first = total = 0
    while first < lengths.size:
        last = min(int(np.searchsorted(totals, total + _BATCH)) + 1, first + _STEP, lengths.size)
        yield first, last
        first, total = last, int(totals[last - 1])
