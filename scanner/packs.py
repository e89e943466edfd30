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

import itertools
import mmap
import multiprocessing
import os
import string
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from firedamp.scanner import prefilter
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

HEAD: Final = 1
WORD: Final = 2
RUN: Final = 4
DAMAGED: Final = 8
"""Flags of an object: a head stands in what it inserts; a context word; a random-looking run; it is not to be read."""

_TAIL: Final = 17
"""Characters in the shortest run that tells anything: `A` and the body of a key id."""
_SHORT: Final = 20
"""Half of a secret: the larger part of one cut in two has as many."""
_SHORTEST_LINE: Final = 64
"""A run of so many characters is a line of wrapped base64, not a secret, even with signs escaped."""
_LONG: Final = 100
"""Characters that are left of a Bedrock key when its head is cut."""


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
    kernels = _compiled(cache_folder)
    if isinstance(kernels, Unfilterable):
        return kernels
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
    kernels: _Kernels


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


# The kernels: plain Python that numba compiles. They trust nothing in what they read.

_Array = Any
"""A numpy array of one dimension: its items are machine integers once compiled, and numpy's own before."""
_wide: Final[Any] = np.int64
"""Makes room for arithmetic on a byte."""


def inserted(  # noqa: PLR0917 -- a kernel is called by position
    source: _Array,
    starts: _Array,
    ends: _Array,
    deltas: _Array,
    text: _Array,
    at: _Array,
    common: _Array,
    flags: _Array,
) -> int:
    """Write what each entry inserts into text, NUL after each; at says where it begins there. Return what was written.

    A copy writes the marker 0xff, unless it goes on in the base where the copy before it ended. An insert of 8 to 19
    characters of key ids between two copies is flagged HEAD, the middle of a key whose ends were copied, unless half of
    its pairs are common in words. A delta that makes no sense is flagged DAMAGED. text has room for the source and two
    bytes an entry: no instruction writes more than it takes.
    """
    o = 0
    for k in range(starts.size):
        at[k] = o
        q = starts[k]
        e = ends[k]
        if not deltas[k]:
            text[o : o + e - q] = source[q:e]
            o += e - q
            text[o] = 0
            o += 1
            continue
        sound = True
        sizes_read = 0
        base_size = 0
        full_size = 0
        while sizes_read < 2 and sound:
            value = 0
            shift = 0
            more = True
            while more:
                if q >= e or shift > 56:
                    sound = False
                    break
                c = _wide(source[q])
                q += 1
                value |= (c & 0x7F) << shift
                shift += 7
                more = c >= 0x80
            if sizes_read == 0:
                base_size = value
            else:
                full_size = value
            sizes_read += 1
        made = 0
        goes_on = -1
        piece = -1
        while sound and q < e:
            c = _wide(source[q])
            q += 1
            if c >= 0x80:
                where = 0
                for b in range(4):
                    present = c >> b & 1
                    where |= _wide(source[q]) * present << (8 * b)
                    q += present
                size = 0
                for b in range(3):
                    present = c >> (4 + b) & 1
                    size |= _wide(source[q]) * present << (8 * b)
                    q += present
                if size == 0:
                    size = 65536
                if q > e or where + size > base_size:
                    sound = False
                made += size
                if where != goes_on:
                    if piece >= 0 and 8 <= o - piece <= 19:
                        key = True
                        words = 0
                        for x in range(piece, o):
                            d = text[x]
                            if not (65 <= d <= 90 or 50 <= d <= 55):
                                key = False
                                break
                            if x > piece:
                                words += common[text[x - 1], d]
                        if key and 2 * words <= o - piece:
                            flags[k] |= HEAD
                    text[o] = 255
                    o += 1
                goes_on = where + size
                piece = o
            elif c == 0 or q + c > e:
                sound = False
            else:
                text[o : o + c] = source[q : q + c]
                o += c
                q += c
                made += c
                goes_on = -1
        if not sound or made != full_size:
            flags[k] |= DAMAGED
        text[o] = 0
        o += 1
    return o


def runs(  # noqa: PLR0917 -- a kernel is called by position
    text: _Array,
    at: _Array,
    classes: _Array,
    common: _Array,
    places: _Array,
    flags: _Array,
) -> None:
    """Flag the entries whose text holds a long run of base64 characters that can be a value, or most of one.

    HEAD: `A` and 16 key characters; `-` and 26 of an AppSync key, not all hexadecimal; 16 characters as hexadecimal
    digits; 21 characters of base64 that decode to letters and digits, 40 that decode to printable ASCII; 100 that look
    random, as only a long key without other marks has. RUN: 20 that look random, in a run no longer than a secret in
    some notation.

    places (4 x 256) tells whether a byte can stand at an offset, modulo 4: a bit for each alignment, twice. Random is:
    upper and lower case, often changing between upper, lower, digit and sign (classes), and few pairs of letters that
    are common in words and names (common, 256 x 256).
    """
    n = text.size
    k = 0
    p = _TAIL - 1
    while p < n:
        if classes[text[p]] == 0:
            p += _TAIL
            continue
        a = p
        while a > 0 and p - a < _TAIL and classes[text[a - 1]] != 0:
            a -= 1
        b = p + 1
        while b < n and classes[text[b]] != 0:
            b += 1
        if b - a < _TAIL:
            p = b + _TAIL
            continue
        window = 0
        if b - a >= _SHORT and b - a < _SHORTEST_LINE:
            window = _SHORT
        elif b - a >= _LONG:
            window = _LONG
        found = 0
        upper = 0
        lower = 0
        changes = 0
        words = 0
        keys = 0
        small = 0
        beyond_hex = False
        even = 0
        odd = 0
        plain_0 = plain_1 = plain_2 = plain_3 = text_0 = text_1 = text_2 = text_3 = a - 1
        for q in range(a, b):
            d = text[q]
            c = classes[d]
            # Streaks, counted to where they break.
            if 65 <= d <= 90 or 50 <= d <= 55:
                keys += 1
                if keys >= 17 and text[q - 16] == 65:
                    found |= HEAD
            else:
                keys = 0
            if small == q - a and c in (1, 3):
                small += 1
                beyond_hex |= d > 102
                if small == 26 and beyond_hex and a > 0 and text[a - 1] == 45:
                    found |= HEAD
            if q + 1 < b and 50 <= d <= 55 and (48 <= text[q + 1] <= 57 or 65 <= text[q + 1] & 0xDF <= 70):
                odd, even = even + 1, odd
                if odd >= 16:
                    found |= HEAD
            else:
                odd, even = 0, odd
            # Where each streak of base64 last broke: one for each alignment and each sort of text it decodes to.
            good = places[q & 3, d]
            if not good & 1:
                plain_0 = q
            if not good & 2:
                plain_1 = q
            if not good & 4:
                plain_2 = q
            if not good & 8:
                plain_3 = q
            if not good & 16:
                text_0 = q
            if not good & 32:
                text_1 = q
            if not good & 64:
                text_2 = q
            if not good & 128:
                text_3 = q
            if q - min(plain_0, plain_1, plain_2, plain_3) >= 21 or q - min(text_0, text_1, text_2, text_3) >= 40:
                found |= HEAD
            if window > 0:
                upper += c == 2
                lower += c == 1
                if q > a:
                    changes += c != classes[text[q - 1]]
                    words += common[text[q - 1], d]
                if q - a >= window:
                    c = classes[text[q - window]]
                    upper -= c == 2
                    lower -= c == 1
                    changes -= c != classes[text[q - window + 1]]
                    words -= common[text[q - window], text[q - window + 1]]
                if q - a >= window - 1 and upper > 0 and lower > 0:
                    short = window == _SHORT
                    if changes >= (6 if short else 32) and words <= (8 if short else 40):
                        found |= RUN if short else HEAD
            if found & HEAD:
                break
        if found:
            while k + 1 < at.size and at[k + 1] <= a:
                k += 1
            flags[k] |= found
        p = b + _TAIL


_COMMON_PAIRS: Final = """
    re er in th te on st it co or an io en he es at ma om nt am ti se ar al ed de si me ec ne ha tr le to ge pa ce no et
    po un mi gi is ng nd li ac ve ea ch ou as ut ra ta el ts ef ca ni ro im na il rs ri ee ff ct pe us ag ur ig fi ue ob
    ns of ad be ic so lo bo va ll nc ho fo ke hi ck id rt tt au mm lu ot em di la da fa ju ba up ab ul ox su by ss ai gn
    we eb pr ap mo do ex pl oc fe ly sc if ep cr rn dd ru od op tu sh wi pt mp bl ty rg os ol az lt rc vi
"""
"""The commonest pairs of letters in names and prose of public source code, in either case: 0.8 of all pairs there."""

_Tables = tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]


@cache
def tables() -> _Tables:
    """Return the character classes, the common pairs and the places in base64 that `runs` asks for."""
    classes = np.zeros(256, np.uint8)
    alphabet = (string.ascii_lowercase, string.ascii_uppercase, string.digits, "+/", "%\\&#;")
    for number, characters in enumerate(alphabet, start=1):
        for character in characters:
            classes[ord(character)] = number
    common = np.zeros((256, 256), np.uint8)
    for pair in _COMMON_PAIRS.split():
        for first in (pair[0], pair[0].upper()):
            for second in (pair[1], pair[1].upper()):
                common[ord(first), ord(second)] = 1
    places = np.zeros((4, 256), np.uint8)
    alphabet64 = string.ascii_uppercase + string.ascii_lowercase + string.digits + "+/"
    for shift, decoded in ((0, string.ascii_letters + string.digits), (4, string.printable)):
        codes = decoded.encode()
        sextets = (
            {code >> 2 for code in codes},
            {(high & 3) << 4 | low >> 4 for high in codes for low in codes},
            {(high & 15) << 2 | low >> 6 for high in codes for low in codes},
            {code & 63 for code in codes},
        )
        for place, alignment in itertools.product(range(4), repeat=2):
            for sextet in sextets[place]:
                places[(place + alignment) % 4, ord(alphabet64[sextet])] |= 1 << (shift + alignment)
    return classes, common, places


@dataclass(frozen=True, slots=True)
class _Kernels:
    inserted: Callable[..., int]
    runs: Callable[..., None]
    tables: _Tables


@cache
def _compiled(cache_folder: Path) -> _Kernels | Unfilterable:
    """Compile the kernels, or load them from cache_folder: some seconds once, then a tenth of one.

    numba reads where its cache is when it is first imported. A folder that cannot be made for us alone is not used.
    """
    private = _private(cache_folder)
    if private:
        os.environ["NUMBA_CACHE_DIR"] = str(cache_folder)
    try:
        import numba
    except ImportError:
        return Unfilterable("numba is missing")
    if private:
        numba.config.CACHE_DIR = str(cache_folder)  # type: ignore[attr-defined]
    compiled = numba.njit(cache=private, nogil=True)
    kernels = _Kernels(compiled(inserted), compiled(runs), tables())
    nothing, places = np.frombuffer(b"", np.uint8), np.empty(0, np.int64)
    text = np.empty(2, np.uint8)
    none = np.empty(0, np.uint8)
    kernels.inserted(nothing, places, places, np.empty(0, np.bool_), text, places, kernels.tables[1], none)
    kernels.runs(text, places, *kernels.tables, none)
    return kernels


def _private(folder: Path) -> bool:
    """Make folder if it is missing, and say whether it is ours alone: what is loaded from it is run."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
    except OSError:
        return False
    return not hasattr(os, "getuid") or (status.st_uid == os.getuid() and not status.st_mode & 0o077)
