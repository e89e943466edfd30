"""Long runs of characters that are written as numbers and make a text, and long runs of UTF-16 that hold digits.

The forms of the prefilter tell an id that is spelled so (`%41%4b`, `0x41, 0x4b`, `&#65;`), and some of what was encoded
before. As with `dense`, what was encoded more often is told by being text once more; it is looked at when it is undone.
"""

from __future__ import annotations

from typing import Any, Final

from firedamp.scanner.dense import seven

DECODERS: Final = ("hex list", "decimal", "percent", "escape", "entity", "quoted-printable", "utf-16")
"""What a run may be written in, by the decoders' names."""
LEAST: Final = 77
"""Bytes of the shortest run, so that it is told wherever the search began: an id in base64 has 27 characters, of three
bytes or more. None needs 192 to be told: so far the delta filter looks around what is new."""
BETWEEN: Final = b" \t\r\n,:;-%\\xXuU{}+&#="
"""What stands between the digits of numbers in one notation or other."""

# What a byte may be: the value of a hexadecimal digit, and these.
HEX: Final = 16
NOTATION: Final = 32
"""A digit, or what stands between the digits of numbers in some notation."""
BASE64: Final = 64
SIGN: Final = 128
"""What begins a character that is quoted where others are left as they are."""
SIGNS: Final = b"%=\\"

_NOUGHTS: Final = int.from_bytes(b"0" * 7)
_BEYOND_NINE: Final = int.from_bytes([0x7F - 9] * 7)
_LOW: Final = int.from_bytes([0x7F] * 7)
_TOP: Final = int.from_bytes([0x80] * 7)
_EVEN: Final = int.from_bytes([0xFF, 0] * 3 + [0xFF])
_ODD: Final = int.from_bytes([0, 0xFF] * 3 + [0])
_Array = Any
"""What has an item for each index: an array, in compiled code a pointer."""


def numbered(  # noqa: PLR0917 -- a kernel is called by position
    text: _Array, start: int, size: int, kinds: _Array, found: _Array, most: int
) -> int:
    """Look for such runs in the bytes from start to size, and return how many places in them are told.

    found takes four numbers of each: the offset behind what told it, which decoder (by its place in DECODERS), where
    the run begins and where it ends. Only so much around a place is undone, so that a run is told every 4,096 bytes, up
    to 16 times. It stops near most of them: behind the last of most is told where to go on. kinds has an item for each
    byte: what it may be.
    """
    count = 0
    low = start
    p = start
    while p + 18 <= size and count + 128 <= most:
        # The shortest run has 18 bytes from one of these places on, with a digit, or with every other byte nought.
        w = seven(text, p)
        wide = ((w & _EVEN) == 0) != ((w & _ODD) == 0)
        if not wide and not ~(((w ^ _NOUGHTS) & _LOW) + _BEYOND_NINE | w) & _TOP:
            p += 60
            continue
        step = 1
        a = p
        wanted = NOTATION if _all_notation(text, p, kinds) else 0
        if wide:
            while text[a] == 0:
                a += 1
            while step < 4 and a + step < size and text[a + step] == 0:
                step += 1
            wanted = NOTATION | BASE64 if step in (2, 4) else 0
        b = a
        while a - step >= low and _fits(text, a - step, step, kinds, wanted):
            a -= step
        while b + step <= size and _fits(text, b, step, kinds, wanted):
            b += step
        behind = b
        if b - a < LEAST and not wide and _quotes(text, p, kinds):
            a = max(low, p - 60)
            b = min(size, p + 600)
            behind = p + 7
        if b - a >= LEAST:
            stop = min(b, a + 65536)
            # The bases of numbers, 64 for digits in UTF-16, and the signs %, = and \\ of quoted characters.
            for way in (16, 10, 8, 64, 37, 61, 92):
                # Where not all is numbers only quoted characters tell something.
                at = stop if (way < 37 and behind < b) or (way == 64 and not wide) else a
                while at < stop:
                    if way < 37:
                        told = _numbers_end(text, at, b, step, way, kinds)
                    elif way == 64:
                        told = _digits_end(text, at, b, step, kinds)
                    else:
                        told = _quotes_end(text, at, b, step, way, behind, kinds)
                    at = stop
                    if told > 0:
                        found[4 * count] = told >> 3
                        found[4 * count + 1] = 6 if wide else told & 7
                        found[4 * count + 2] = a
                        found[4 * count + 3] = b
                        count += 1
                        at = (told >> 3) + 4096
                        if behind < b:
                            behind = b = told >> 3
        if behind == b:
            low = max(low, b)
        p = max(p + 60, low)
    found[4 * most] = p if p + 18 <= size else size
    return count


def _all_notation(text: _Array, p: int, kinds: _Array) -> int:
    """Return nought if some of 18 bytes are nothing that a list of numbers has. Not all are asked."""
    some: int = (
        kinds[text[p]]
        & kinds[text[p + 3]]
        & kinds[text[p + 6]]
        & kinds[text[p + 9]]
        & kinds[text[p + 12]]
        & kinds[text[p + 14]]
        & kinds[text[p + 17]]
        & NOTATION
    )
    return some


def _quotes(text: _Array, p: int, kinds: _Array) -> int:
    """Return nought if none of seven bytes begins a quoted character."""
    some = 0
    for i in range(p, p + 7):
        if kinds[text[i]] & SIGN:
            quoted: int = kinds[text[i + 1]] & kinds[text[i + 2]] & HEX or (text[i] == 92 and text[i + 1] == 117)
            some |= quoted
    return some


def _fits(text: _Array, i: int, step: int, kinds: _Array, wanted: int) -> int:
    """Whether a character is one of those that are wanted, and the rest of its step is nought."""
    fits: int = kinds[text[i]] & wanted > 0
    j = i + 1
    while fits and j < i + step:
        fits = text[j] == 0
        j += 1
    return fits


def _digits_end(text: _Array, begin: int, end: int, step: int, kinds: _Array) -> int:
    """Return eight times the offset behind the first 40 digits of base64 in a row; nought if there are none."""
    told = 0
    run = 0
    i = begin
    while told == 0 and i < end:
        run = run + 1 if kinds[text[i]] & BASE64 else 0
        i += step
        if run == 40:
            told = i << 3
    return told


def _quotes_end(  # noqa: PLR0917 -- a part of a kernel
    text: _Array, begin: int, end: int, step: int, sign: int, behind: int, kinds: _Array
) -> int:
    """Return eight times the offset behind 16 characters that are quoted by sign, and their notation; or nought.

    No more than four characters stand between two of them: separators of a list, or the noughts of UTF-16. Only those
    are looked for that begin before behind; where that is the end, a line that is broken softly tells enough.
    """
    told = 0
    run = 0
    first = begin
    last = begin
    i = begin
    while told == 0 and i < end and (i < behind or i - last <= 11 * step):
        j = i + step
        if text[i] == sign:
            if (
                sign == 61
                and j < end == behind
                and text[j] in (10, 13)
                and i >= begin + 50 * step
                and text[i - step] != 61
            ):
                told = j << 3 | 5  # a soft end of line, in mail
            if sign == 92 and j + 2 * step < end and text[j] == 117 and text[j + step] == 48 == text[j + 2 * step]:
                j += 3 * step
            if j + step < end and kinds[text[j]] & HEX and kinds[text[j + step]] & HEX and kinds[text[j]] & 15 < 8:
                if run == 0 or i - last > 4 * step:
                    run = 0
                    first = i
                run += 1
                j += 2 * step
                last = j
                if run >= 16 and j - first >= LEAST:
                    told = j << 3 | (2 if sign == 37 else 5 if sign == 61 else 3)
        i = j
    return told


def _numbers_end(  # noqa: PLR0917 -- a part of a kernel
    text: _Array, begin: int, end: int, step: int, base: int, kinds: _Array
) -> int:
    """Return eight times the offset behind the first numbers that may be encoded text, and their notation; or nought.

    They are all in one notation, at least 20 (an id's), or 8 that take 160 bytes. Noughts between others are UTF-16. In
    a list one in five is no more than the last but one: tables count up.
    """
    told = 0
    run = 0
    down = 0
    before = -1
    last = 0
    last_but_one = 0
    first = begin
    i = begin
    while told == 0 and i < end:
        if not kinds[text[i]] & HEX:
            i += step
            continue
        j = i
        value = 0
        while j < end and kinds[text[j]] & HEX and value < 65536:
            digit = kinds[text[j]] & 15
            value = value * base + digit if digit < base else 65536
            j += step
        length = (j - i) // step
        if length == 1 and value == 0 and j < end and (text[j] | 32) == 120:  # the nought of 0x
            i = j + step
            continue
        notation = _notation(text, i, begin, step, base, length)
        plain = value < 128 and (kinds[value] & (NOTATION | BASE64) or (value == 0 and last != 0))
        if not plain or notation < 0:
            run = 0
            notation = -1
        elif notation != before or run == 0:
            run = 1
            down = 0
            first = i
        else:
            run += 1
            down += value <= last_but_one
        before = notation
        last_but_one = last
        last = value
        if (run >= 20 or (run >= 8 and j - first >= 160)) and (notation > 1 or 5 * down >= run):
            told = j << 3 | notation
        i = max(j, i + step)
    return told


def _notation(  # noqa: PLR0917 -- a part of a kernel
    text: _Array, i: int, begin: int, step: int, base: int, length: int
) -> int:
    """Return in which notation a number of length digits at i is written, by what stands before it; -1 for none."""
    c = text[i - step] if i - step >= begin else 32
    d = text[i - 2 * step] if i - 2 * step >= begin else 32
    notation = -1
    if base == 16:
        if c == 37 and length == 2:  # %
            notation = 2
        elif c == 61 and length == 2:  # =
            notation = 5
        elif (c | 32) == 120:  # x
            if d == 48 and length == 2:
                notation = 0
            elif d == 92:
                notation = 3
            elif d == 35:
                notation = 4
        elif (c | 32) == 117 or c in (92, 123) or (c == 43 and d == 85):  # u, {, \ or U+
            notation = 3
        elif (c <= 32 or c in (44, 45, 58, 59)) and length == 2:
            notation = 0
    elif base == 10:
        if c == 35:  # &#
            notation = 4
        elif (c <= 32 or c in (44, 59)) and length <= 3:
            notation = 1
    elif c == 92 and length == 3:  # \101
        notation = 3
    return notation
