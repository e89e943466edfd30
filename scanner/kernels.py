"""The delta filter's kernels: plain Python that numba compiles. They trust nothing in what they read.

They work on some inflated entries of a pack at a time (`packs`), laid end to end, and flag each.
"""

from __future__ import annotations

import itertools
import string
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from firedamp.scanner import jit

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


_IDENTITIES: Final = tuple(int.from_bytes(one) for one in (b"ID", b"RO", b"GP", b"IP", b"NP", b"NV", b"PK", b"SC"))
"""The second and third letter of ids of users, roles and the like (`AIDA`, `AROA`): no key has their random body."""

_Array = Any
"""An array of one dimension: plain Python gets one of numpy, compiled code a pointer. A table of two is laid flat."""
_wide: Final[Any] = np.int64
"""Makes room for arithmetic on a byte."""
_EACH: Final = int.from_bytes(bytes([1] * 8), "little")
_LONG_ENOUGH: Final = int.from_bytes(bytes([128 - 21] * 4 + [128 - 40] * 4), "little")
_TOP: Final = int.from_bytes(bytes([128] * 8), "little", signed=True)
"""Eight counters in one integer: what each grows by, what lifts it to 128 when it is long enough, the bits of 128."""
_UPPER_OR_DIGIT: Final = 1 << 2 | 1 << 3
_UPPER_AND_LOWER: Final = 1 << 2 | 1 << 1
_ONES: Final = 0x4332322132212110
"""How many bits are set in each number from 0 to 15: a digit for each, from the right."""


def inserted(  # noqa: PLR0917 -- a kernel is called by position
    source: _Array,
    starts: _Array,
    ends: _Array,
    deltas: _Array,
    count: int,
    text: _Array,
    at: _Array,
    common: _Array,
    flags: _Array,
) -> int:
    """Write what each of count entries inserts into text, NUL after each; at says where it begins there.

    Return what was written. A copy writes the marker 0xff, unless it goes on in the base where the copy before it
    ended. An insert of 8 to 19 characters of key ids between two copies is flagged HEAD, the middle of a key whose ends
    were copied, unless half of its pairs are common in words. A delta that makes no sense is flagged DAMAGED. text has
    room for the source and two bytes an entry: no instruction writes more than it takes. Eight bytes behind the last
    entry may be read.
    """
    o = 0
    for k in range(count):
        at[k] = o
        q = starts[k]
        e = ends[k]
        if not deltas[k]:
            for x in range(e - q):
                text[o + x] = source[q + x]
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
                low = c & 15
                high = c >> 4 & 7
                if low & (low + 1) == 0 and high & (high + 1) == 0:
                    # The bytes that are there are the lowest ones, as in nearly every copy.
                    first = (_ONES >> (low << 2) & 15) << 3
                    second = (_ONES >> (high << 2) & 15) << 3
                    word = (
                        _wide(source[q])
                        | _wide(source[q + 1]) << 8
                        | _wide(source[q + 2]) << 16
                        | _wide(source[q + 3]) << 24
                        | _wide(source[q + 4]) << 32
                        | _wide(source[q + 5]) << 40
                        | _wide(source[q + 6]) << 48
                    )
                    where = word & ((1 << first) - 1)
                    size = word >> first & ((1 << second) - 1)
                    q += (first + second) >> 3
                else:
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
                            d = _wide(text[x])
                            if not (65 <= d <= 90 or 50 <= d <= 55):
                                key = False
                                break
                            if x > piece:
                                words += common[_wide(text[x - 1]) << 8 | d]
                        if key and 2 * words <= o - piece:
                            flags[k] |= HEAD
                    text[o] = 255
                    o += 1
                goes_on = where + size
                piece = o
            elif c == 0 or q + c > e:
                sound = False
            else:
                for x in range(c):
                    text[o + x] = source[q + x]
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
    size: int,
    at: _Array,
    count: int,
    classes: _Array,
    common: _Array,
    places: _Array,
    flags: _Array,
) -> int:
    """Flag the entries whose text holds a long run of base64 characters that can be a value, or most of one.

    There are count entries, and size bytes of text. Return how many runs told something.

    HEAD: `A` and 16 key characters, fewer than 7 of them `A` (odds of more: 3 * 10^-7), unless the id of a user or
    role; `-` and 26 of an AppSync key, not all hexadecimal, and half of its pairs not common in words (odds below
    10^-6); 16 characters as hexadecimal digits; 21 characters of base64 that decode to letters and digits, 40 that
    decode to printable ASCII; 100 that look random, as only a long key without other marks has. RUN: 20 that look
    random, in a run no longer than a secret in some notation.

    places (4 x 256) tells whether a byte can stand at an offset, modulo 4: a byte for each alignment, twice. Random is:
    upper and lower case, often changing between upper, lower, digit and sign (classes), and few pairs of letters that
    are common in words and names (common, 256 x 256).
    """
    flagged = 0
    k = 0
    p = _TAIL - 1
    while p < size:
        if classes[text[p]] == 0:
            p += _TAIL
            continue
        if p + 8 < size:
            # A run that is long enough and holds p goes on for eight characters to one side of it. Asked of every other
            # one, and without a branch for each.
            before = (classes[text[p - 2]] != 0) & (classes[text[p - 4]] != 0)
            before &= (classes[text[p - 6]] != 0) & (classes[text[p - 8]] != 0)
            behind = (classes[text[p + 2]] != 0) & (classes[text[p + 4]] != 0)
            behind &= (classes[text[p + 6]] != 0) & (classes[text[p + 8]] != 0)
            if not before | behind:
                p += _TAIL
                continue
        a = p
        met = 1 << classes[text[p]]
        while a > 0 and p - a < _TAIL and classes[text[a - 1]] != 0:
            a -= 1
            met |= 1 << classes[text[a]]
        b = p + 1
        while b < size and classes[text[b]] != 0:
            met |= 1 << classes[text[b]]
            b += 1
        if b - a < _TAIL:
            p = b + _TAIL
            continue
        found = 0
        keys = 0
        even = 0
        odd = 0
        streaks = 0
        for q in range(a, b):
            d = _wide(text[q])
            # The streaks of base64 that go on, each in a byte of its own: one for each alignment and each sort of text
            # that it decodes to. None grows beyond 40.
            streaks = (streaks + _EACH) & int(places[(q & 3) << 8 | d])
            if (streaks + _LONG_ENOUGH) & _TOP:
                found |= HEAD
            if met & _UPPER_OR_DIGIT:
                if 65 <= d <= 90 or 50 <= d <= 55:
                    keys += 1
                    if keys >= 17 and text[q - 16] == 65:
                        # Many A stand in the head of an SSH key. Of a whole `AIDA…` the first A is met before the
                        # second, with three more key characters behind.
                        named = 0
                        if q - 19 >= a and text[q - 19] == 65:
                            named = _wide(text[q - 18]) << 8 | _wide(text[q - 17])
                        elif q + 3 < b and text[q - 13] == 65:
                            named = _wide(text[q - 15]) << 8 | _wide(text[q - 14])
                            for x in range(q + 1, q + 4):
                                if not (65 <= text[x] <= 90 or 50 <= text[x] <= 55):
                                    named = 0
                        same = 0
                        for x in range(q - 15, q + 1):
                            same += text[x] == 65
                        if same < 7 and named not in _IDENTITIES:
                            found |= HEAD
                else:
                    keys = 0
                if q + 1 < b and 50 <= d <= 55 and (48 <= text[q + 1] <= 57 or 65 <= text[q + 1] & 0xDF <= 70):
                    odd, even = even + 1, odd
                    if odd >= 16:
                        found |= HEAD
                else:
                    odd, even = 0, odd
            if found:
                break
        if not found and b - a >= 26 and a > 0 and text[a - 1] == 45:
            small = True
            beyond_hex = False
            same = 0
            for q in range(a, a + 26):
                small &= classes[text[q]] == 1 or classes[text[q]] == 3
                beyond_hex |= text[q] > 102
                if q > a:
                    same += common[_wide(text[q - 1]) << 8 | text[q]]
            if small and beyond_hex and same <= 13:
                found |= HEAD
        window = 0
        if b - a >= _SHORT and b - a < _SHORTEST_LINE:
            window = _SHORT
        elif b - a >= _LONG:
            window = _LONG
        if not found and window > 0 and met & _UPPER_AND_LOWER == _UPPER_AND_LOWER:
            upper = 0
            lower = 0
            changes = 0
            words = 0
            for q in range(a, b):
                c = classes[text[q]]
                upper += c == 2
                lower += c == 1
                if q > a:
                    changes += c != classes[text[q - 1]]
                    words += common[_wide(text[q - 1]) << 8 | text[q]]
                if q - a >= window:
                    c = classes[text[q - window]]
                    upper -= c == 2
                    lower -= c == 1
                    changes -= c != classes[text[q - window + 1]]
                    words -= common[_wide(text[q - window]) << 8 | text[q - window + 1]]
                if q - a >= window - 1 and upper > 0 and lower > 0:
                    short = window == _SHORT
                    if changes >= (6 if short else 32) and words <= (8 if short else 40):
                        found |= RUN if short else HEAD
                        break
        if found:
            while k + 1 < count and at[k + 1] <= a:
                k += 1
            flags[k] |= found
            flagged += 1
        p = b + _TAIL
    return flagged


_COMMON_PAIRS: Final = """
    re er in th te on st it co or an io en he es at ma om nt am ti se ar al ed de si me ec ne ha tr le to ge pa ce no et
    po un mi gi is ng nd li ac ve ea ch ou as ut ra ta el ts ef ca ni ro im na il rs ri ee ff ct pe us ag ur ig fi ue ob
    ns of ad be ic so lo bo va ll nc ho fo ke hi ck id rt tt au mm lu ot em di la da fa ju ba up ab ul ox su by ss ai gn
    we eb pr ap mo do ex pl oc fe ly sc if ep cr rn dd ru od op tu sh wi pt mp bl ty rg os ol az lt rc vi
"""
"""The commonest pairs of letters in names and prose of public source code, in either case: 0.8 of all pairs there."""

_Tables = tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.int64]]


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
    bits = np.zeros((4, 256), np.uint8)
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
                bits[(place + alignment) % 4, ord(alphabet64[sextet])] |= 1 << (shift + alignment)
    # A bit becomes a byte of ones.
    places = np.unpackbits(bits.ravel()[:, None], axis=1, bitorder="little") * np.uint8(255)
    return classes, common.ravel(), places.view(np.int64)[:, 0]


@dataclass(frozen=True, slots=True)
class Kernels:
    """The kernels as machine code. The arrays that they are given lie in one piece."""

    inserted: Callable[..., int]
    runs: Callable[..., int]


def compiled(folder: Path) -> Kernels:
    """Compile the kernels, or load them from folder: some seconds once, then milliseconds. Raises NoCompilerError."""
    return Kernels(jit.compiled(inserted, "BLLBlBLBB", folder), jit.compiled(runs, "BlLlBBLB", folder))
