"""Long runs of base64 or hexadecimal digits that decode to text, whatever that text is.

The forms of the prefilter tell an id in a few encodings; what is encoded more often than that has no form that could be
listed. But a text stays a text: its outermost layer decodes to printable characters, which almost nothing else of that
length does (100 digits: 75 or 50 characters; hashes and images do not). What is undone is looked at again.
"""

from __future__ import annotations

from typing import Any, Final

LEAST: Final = 100
"""Digits of the shortest run: an id in four encodings has 104 and more, unless they all are base64 (`forms`)."""
LINE: Final = 60
"""Digits of the shortest line of a block that is told line by line: `base64` wraps at 76, PEM at 64, `xxd -p` at 60."""
DECODERS: Final = ("base64", "hex")
"""What a run may be written in, by the decoders' names."""

_PLUS: Final = int.from_bytes(b"+" * 7)
_BEYOND_Z: Final = int.from_bytes([0x7F - ord("z")] * 7)
_TOP: Final = int.from_bytes([0x80] * 7)
"""Seven bytes in one integer: the first of the alphabet, what lifts all beyond its last to 128, and the bits of 128."""
_Array = Any
"""What has an item for each index: an array, in compiled code a pointer."""


def dense(  # noqa: PLR0917 -- a kernel is called by position
    text: _Array,
    start: int,
    size: int,
    values: _Array,
    digits: _Array,
    plain: _Array,
    found: _Array,
    most: int,
) -> int:
    """Look for runs that decode to text in the bytes from start to size, and return how many there are.

    found takes four numbers of each: the offset behind the digits that told it, which decoder (by its place in
    DECODERS), where the run begins and where it ends. It stops at most of them: behind the last of most is told where
    to go on. values, digits and plain have an item for each byte: what it is in base64, what in hexadecimal (what it is
    not is above 63), and 0 if it is printable, 1 if it is the nought of UTF-16, more for anything else.
    """
    count = 0
    p = start
    while p + 7 <= size and count + 6 <= most:
        # A run has seven bytes in a row at one of these places, and more of them on one side of it at least. So has a
        # line of a block, but where its end is that place: no two such places follow each other.
        if _outside(text, p) or (
            (p + 34 > size or _outside(text, p + 14) or _outside(text, p + 27))
            and (p - 27 < start or _outside(text, p - 14) or _outside(text, p - 27))
        ):
            p += 94
            continue
        a = p
        while a > start and values[text[a - 1]] < 64:
            a -= 1
        b = p
        while b < size and values[text[b]] < 64:
            b += 1
        least = LEAST if b - a >= LEAST else LINE
        # Behind a line stands its end, or what begins one as a string, a URL or a mail has it. By itself it is none: it
        # would be told in one window and not in another.
        if b - a >= LEAST or (
            b - a >= LINE
            and b < size
            and (text[b] < 40 or text[b] in (61, 92))
            and (_follows(text, b, size, 1, values) or _follows(text, a - 1, start - 1, -1, values))
        ):
            for decoder in range(2):
                width = 4 - 2 * decoder
                for k in range(width):
                    end = _told(text, a + k, b, width, least, values, digits, plain)
                    if end > 0:
                        found[4 * count] = end
                        found[4 * count + 1] = decoder
                        found[4 * count + 2] = a
                        found[4 * count + 3] = b
                        count += 1
        p = b + 94
    found[4 * most] = p - 93 if p + 7 <= size else size
    return count


def _follows(text: _Array, begin: int, end: int, step: int, values: _Array) -> int:
    """Return whether another line of digits stands a few bytes off, from begin on in a direction, before end."""
    q = begin
    length = 0
    while q != end and length < 20 and (q - begin) * step < 64 and text[q] > 0:
        length = length + 1 if values[text[q]] < 64 else 0
        q += step
    return length >= 20


def _told(  # noqa: PLR0917 -- a part of a kernel
    text: _Array, begin: int, end: int, width: int, least: int, values: _Array, digits: _Array, plain: _Array
) -> int:
    """Return the offset behind the first digits in a row (so many at least) that are text; nought if there are none.

    They are read in groups from begin on: four digits of base64, or two hexadecimal ones.
    """
    groups = least // width
    i = groups - 1
    told = 0
    while told == 0 and begin + width * (i + 1) <= end:
        # From the last group back: one that is no text rules out all that hold it.
        m = i
        sound = True
        while sound and m > i - groups:
            q = begin + width * m
            if width == 4:
                first = values[text[q]] << 2 | values[text[q + 1]] >> 4
                second = (values[text[q + 1]] & 15) << 4 | values[text[q + 2]] >> 2
                third = (values[text[q + 2]] & 3) << 6 | values[text[q + 3]]
                # No two noughts side by side: that is no UTF-16.
                sound = plain[first] + plain[second] < 2 and plain[second] + plain[third] < 2
            else:
                high = digits[text[q]]
                low = digits[text[q + 1]]
                sound = high < 64 and low < 64
                if sound and q > begin:
                    previous = plain[(digits[text[q - 2]] & 15) << 4 | (digits[text[q - 1]] & 15)]
                    sound = plain[high << 4 | low] + (previous & 1) < 2
            if sound:
                m -= 1
        if sound:
            told = begin + width * (i + 1)
        i = m + groups
    return told


def _outside(text: _Array, p: int) -> int:
    """Return nought only if seven bytes from p on may all be digits: none is below `+` or above `z`."""
    w = seven(text, p)
    told: int = ((w - _PLUS) & ~w | w + _BEYOND_Z | w) & _TOP
    return told


def seven(text: _Array, p: int) -> int:
    """Return the seven bytes from p on as one integer."""
    # To add nought makes a byte a number that can be shifted.
    w: int = (
        (0 + text[p])
        | (0 + text[p + 1]) << 8
        | (0 + text[p + 2]) << 16
        | (0 + text[p + 3]) << 24
        | (0 + text[p + 4]) << 32
        | (0 + text[p + 5]) << 40
        | (0 + text[p + 6]) << 48
    )
    return w
