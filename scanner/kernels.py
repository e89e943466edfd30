"""The delta filter's kernels: plain Python that numba compiles. They trust nothing in what they read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from firedamp.scanner import jit, textruns
from firedamp.scanner.jit import Foreign

UNREAD: Final = 1
FRESH: Final = 2
BEHIND: Final = 16
"""Flags of an object: only git can read it; its first bytes are not those of what it was derived from; bytes stand
behind its end in the pack, which git passes by."""

HEAD: Final = 512
"""Bytes from the start of an object by which a container is known."""
LARGEST: Final = 4 << 20
"""Bytes of the largest object that is rebuilt here; git reads a larger one, and what is derived from it."""
SLACK: Final = 16
"""Bytes that follow the last entry of a batch: an instruction that is cut short is read past its end, then refused."""

_Array = Any
"""An array of one dimension: plain Python gets one of numpy, compiled code a pointer."""
_wide: Final[Any] = np.int64
"""Makes room for arithmetic on a byte."""
_LIBDEFLATE: Final = "deflate._deflate"
"""The module in which libdeflate stands: its own calls would make a Python object of each entry."""
_begin: Final = Foreign(_LIBDEFLATE, "libdeflate_alloc_decompressor", "", "l")
_inflate: Final = Foreign(_LIBDEFLATE, "libdeflate_zlib_decompress_ex", "lllllll", "i")
_end: Final = Foreign(_LIBDEFLATE, "libdeflate_free_decompressor", "l", "i")
_crc32: Final = Foreign(_LIBDEFLATE, "libdeflate_crc32", "ill", "i")
_FAR: Final = 1 << 60
_ONES: Final = 0x4332322132212110
"""How many bits are set in each number from 0 to 15: a digit for each, from the right."""


def order(bases: _Array, count: int, scratch: _Array, ordered: _Array) -> int:
    """Write the places of count objects so that each stands behind its base, and return how many have a chain's root.

    bases: each object's base, by place, -1 for none. What is derived from one object stands together, the largest
    family last: then no more texts at a time are still bases of something than the number of objects has binary
    digits, whatever the depth of the chains. scratch has room for four numbers an object.
    """
    first = 0
    following = count
    sizes = 2 * count
    for i in range(count):
        scratch[first + i] = -1
        scratch[following + i] = -1
        scratch[sizes + i] = 1
    for n in range(count):
        i = count - 1 - n
        b = _wide(bases[i])
        if b >= 0:
            scratch[following + i] = scratch[first + b]
            scratch[first + b] = i
    written = _families(bases, count, scratch, ordered)
    for n in range(written):
        i = _wide(ordered[written - 1 - n])
        if bases[i] >= 0:
            scratch[sizes + bases[i]] += scratch[sizes + i]
    for i in range(count):
        # The largest family goes to the end of its list.
        before = -1
        largest = -1
        before_largest = -1
        x = _wide(scratch[first + i])
        while x >= 0:
            if largest < 0 or scratch[sizes + x] > scratch[sizes + largest]:
                largest = x
                before_largest = before
            before = x
            x = _wide(scratch[following + x])
        if largest != before:
            if before_largest < 0:
                scratch[first + i] = scratch[following + largest]
            else:
                scratch[following + before_largest] = scratch[following + largest]
            scratch[following + before] = largest
            scratch[following + largest] = -1
    return _families(bases, count, scratch, ordered)


def _families(bases: _Array, count: int, scratch: _Array, ordered: _Array) -> int:
    """Write the places from the roots on, each family in the order of its lists; return how many there are."""
    stack = 3 * count
    written = 0
    for root in range(count):
        if bases[root] >= 0:
            continue
        waiting = 1
        scratch[stack] = root
        while waiting > 0:
            waiting -= 1
            x = _wide(scratch[stack + waiting])
            ordered[written] = x
            written += 1
            if scratch[count + x] >= 0:
                scratch[stack + waiting] = scratch[count + x]
                waiting += 1
            if scratch[x] >= 0:
                scratch[stack + waiting] = scratch[x]
                waiting += 1
    return written


def inflate(  # noqa: PLR0917 -- a kernel is called by position
    stored: int,
    held: int,
    begins: _Array,
    ends: _Array,
    skips: _Array,
    lengths: _Array,
    checks: _Array,
    count: int,
    into: int,
    starts: _Array,
    stops: _Array,
    flags: _Array,
    used: _Array,
    used_at: int,
) -> int:
    """Inflate count entries of a pack one behind the other, and return how many bytes they are.

    stored and into are the addresses of the pack, which has held bytes, and of room for what the entries claim to
    inflate to. begins and ends say where in the pack each stands, skips how long its header is, lengths what it claims,
    checks the CRC-32 of its stored bytes. starts and stops say where each is now. One that has another checksum, is
    damaged or too large is empty, and flagged UNREAD; so is one with bytes behind its end, which is flagged BEHIND too.
    used has room for a number, and used_at is its address.
    """
    decompressor = _begin()
    at = 0
    for i in range(count):
        begin = stored + begins[i]
        size = ends[i] - begins[i]
        length = _wide(lengths[i])
        skip = _wide(skips[i])
        starts[i] = at
        sound = decompressor != 0 and length <= LARGEST and skip <= size and ends[i] <= held
        # It writes as much as was claimed, or says that it would be less or more.
        sound = sound and _inflate(decompressor, begin + skip, size - skip, into + at, length, used_at, 0) == 0
        if sound and used[0] != size - skip:
            flags[i] |= BEHIND
            sound = False
        if sound and _crc32(0, begin, size) & 0xFFFFFFFF == checks[i]:
            at += length
        else:
            flags[i] |= UNREAD
        stops[i] = at
    if decompressor != 0:
        _end(decompressor)
    return at


def _copy(to: _Array, at: int, from_: _Array, begin: int, size: int) -> None:
    """Copy size bytes in steps of 16: what lies behind them is read and written too, up to SLACK bytes.

    Most copies are short. All of a step is read before it is written, so that it becomes one instruction each.
    """
    x = 0
    while x < size:
        b0 = from_[begin + x]
        b1 = from_[begin + x + 1]
        b2 = from_[begin + x + 2]
        b3 = from_[begin + x + 3]
        b4 = from_[begin + x + 4]
        b5 = from_[begin + x + 5]
        b6 = from_[begin + x + 6]
        b7 = from_[begin + x + 7]
        b8 = from_[begin + x + 8]
        b9 = from_[begin + x + 9]
        b10 = from_[begin + x + 10]
        b11 = from_[begin + x + 11]
        b12 = from_[begin + x + 12]
        b13 = from_[begin + x + 13]
        b14 = from_[begin + x + 14]
        b15 = from_[begin + x + 15]
        to[at + x] = b0
        to[at + x + 1] = b1
        to[at + x + 2] = b2
        to[at + x + 3] = b3
        to[at + x + 4] = b4
        to[at + x + 5] = b5
        to[at + x + 6] = b6
        to[at + x + 7] = b7
        to[at + x + 8] = b8
        to[at + x + 9] = b9
        to[at + x + 10] = b10
        to[at + x + 11] = b11
        to[at + x + 12] = b12
        to[at + x + 13] = b13
        to[at + x + 14] = b14
        to[at + x + 15] = b15
        x += 16


def rebuild(  # noqa: PLR0917 -- a kernel is called by position
    source: _Array,
    starts: _Array,
    ends: _Array,
    first: int,
    count: int,
    bases: _Array,
    left: _Array,
    where: _Array,
    sizes: _Array,
    arena: _Array,
    room: int,
    reach: int,
    text: _Array,
    capacity: int,
    at: _Array,
    flags: _Array,
    ends_at: _Array,
) -> int:
    """Rebuild count objects in arena, and write what is new in each, with its surroundings, into text.

    The objects are those from place first on, in the order of `order`; starts and ends say where in source the inflated
    entry of each stands. bases, left (how many are still to be derived from it), where and sizes (its place in arena)
    and flags are by place. Behind each object stands a NUL.

    New is what was inserted, and each border between pieces that did not stand side by side in the base. With reach
    bytes around it, it is written to text, in stretches with a NUL behind each: whatever is no longer than that and
    stands nowhere in the base stands whole in one of them. at says where the first stretch of an object begins. With a
    reach of -1, nothing is written.

    Return how many objects were done: arena or text may have no room for more of them. ends_at says how far arena and
    text are written; where arena is written already is read from it. A delta that makes no sense, an object too large
    and what is derived from one is flagged UNREAD.
    """
    t = ends_at[0]
    o = 0
    for j in range(count):
        k = first + j
        b = _wide(bases[k])
        q = starts[j]
        e = ends[j]
        base_size = 0
        full = e - q
        sound = not flags[k] & UNREAD
        if b >= 0 and sound:
            sound = not flags[b] & UNREAD
            sizes_read = 0
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
                    full = value
                sizes_read += 1
            sound = sound and base_size == sizes[b]
        sound = sound and full <= LARGEST
        at[j] = o
        if sound:
            if t + full + 17 > room or (reach >= 0 and o + 2 * full + 18 > capacity):
                ends_at[0] = t
                ends_at[1] = o
                return j
            z = t
            end = t + full
            opened = -1
            reached = -1
            goes_on = 0
            low = _wide(0)
            high = _wide(0)
            copied = _wide(0)
            if b >= 0:
                copied = where[b]
            else:
                flags[k] |= FRESH
            while low < _FAR:
                border = True
                if b < 0:
                    # A whole object is one insert.
                    _copy(arena, z, source, q, full)
                    low = z
                    z += full
                    high = z
                    q = e
                    b = k
                    base_size = goes_on
                elif q < e:
                    c = _wide(source[q])
                    q += 1
                    if c >= 0x80:
                        bits = c & 15
                        more_bits = c >> 4 & 7
                        if bits & (bits + 1) == 0 and more_bits & (more_bits + 1) == 0:
                            # The bytes that are there are the lowest ones, as in nearly every copy.
                            first_bits = (_ONES >> (bits << 2) & 15) << 3
                            then_bits = (_ONES >> (more_bits << 2) & 15) << 3
                            word = (
                                _wide(source[q])
                                | _wide(source[q + 1]) << 8
                                | _wide(source[q + 2]) << 16
                                | _wide(source[q + 3]) << 24
                                | _wide(source[q + 4]) << 32
                                | _wide(source[q + 5]) << 40
                                | _wide(source[q + 6]) << 48
                            )
                            offset = word & ((1 << first_bits) - 1)
                            size = word >> first_bits & ((1 << then_bits) - 1)
                            q += (first_bits + then_bits) >> 3
                        else:
                            offset = _wide(0)
                            for n in range(4):
                                present = c >> n & 1
                                offset |= _wide(source[q]) * present << (8 * n)
                                q += present
                            size = _wide(0)
                            for n in range(3):
                                present = c >> (4 + n) & 1
                                size |= _wide(source[q]) * present << (8 * n)
                                q += present
                        if size == 0:
                            size = _wide(65536)
                        if q > e or offset + size > base_size or z + size > end:
                            sound = False
                            break
                        _copy(arena, z, arena, copied + offset, size)
                        low = z
                        high = z
                        border = offset != goes_on
                        goes_on = offset + size
                        z += size
                    elif c == 0 or q + c > e or z + c > end:
                        sound = False
                        break
                    else:
                        _copy(arena, z, source, q, c)
                        low = z
                        z += c
                        high = z
                        q += c
                        goes_on = -1
                elif goes_on != base_size:
                    # What ends before its base does, or behind it.
                    low = z
                    high = z
                    goes_on = base_size
                else:
                    low = _wide(_FAR)
                if border:
                    if low - t < HEAD:
                        flags[k] |= FRESH
                    if reach >= 0:
                        low_reach = low - reach
                        low_reach = max(low_reach, t)
                        if low_reach <= reached:
                            reached = max(reached, high + reach)
                        else:
                            if opened >= 0:
                                reached = min(reached, z)
                                _copy(text, o, arena, opened, reached - opened)
                                o += reached - opened
                                text[o] = 0
                                o += 1
                            opened = low_reach
                            reached = high + reach
            sound = sound and z == end
            if sound:
                arena[z] = 0
                where[k] = t
                sizes[k] = full
                t = z + 1
        if not sound:
            flags[k] |= UNREAD
            o = at[j]
        if bases[k] >= 0:
            left[bases[k]] -= 1
    ends_at[0] = t
    ends_at[1] = o
    return count


@dataclass(frozen=True, slots=True)
class Kernels:
    """The kernels as machine code. The arrays that they are given lie in one piece."""

    order: Callable[..., int]
    inflate: Callable[..., int]
    rebuild: Callable[..., int]


def compiled(folder: Path) -> Kernels:
    """Compile the kernels, or load them from folder: some seconds once, then milliseconds. Raises NoCompilerError."""
    own = (order, "IlII"), (inflate, "llLLBLLllLLBLl"), (rebuild, "BLLllIILLBllBlLBL")
    # Whoever filters looks for runs too.
    jit.prepare([*own, *textruns.kernels()], folder)
    return Kernels(*(jit.compiled(*one, folder) for one in own))
