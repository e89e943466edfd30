"""Base64 (RFC 4648) as it stands in files, and what is compressed inside it. Pure."""

from __future__ import annotations

import binascii
import functools
import re
from collections.abc import Iterator, Sequence
from typing import Final

from firedamp.scanner import spelling
from firedamp.scanner.inflate import Unpacked, packed_at, unpacked
from firedamp.scanner.keys import Shape
from firedamp.scanner.runs import (
    RUN_LIMIT,
    Encoded,
    Mark,
    Run,
    Segment,
    Wrapped,
    each_line,
    overlaps,
    printable,
    windows,
)

_ALPHABET: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_SEXTETS: Final = tuple({62: b"+-", 63: b"/_"}.get(i, _ALPHABET[i : i + 1]) for i in range(64))
_WEAK: Final = 4
"""A position with more possible characters than this at the edge of a shape tells nothing: it is left off."""


@functools.cache
def _sextet(first: bytes, second: bytes, shift: int) -> bytes:
    """Return the base64 characters of the six bits from shift on of two bytes; an empty set is an unknown byte."""
    first, second = first or bytes(range(256)), second or bytes(range(256))
    if shift <= 2:
        sextets = {(byte >> (2 - shift)) & 63 for byte in first}
    else:
        high, low = {(byte << (shift - 2)) & 63 for byte in first}, {byte >> (10 - shift) for byte in second}
        sextets = {upper | lower for upper in high for lower in low}
    return bytes(sorted(b"".join(_SEXTETS[i] for i in sextets)))


def shapes(inner: Shape) -> Iterator[Encoded]:
    """Yield how a shape looks at each of the three alignments."""
    for before in range(3):
        values = (*(b"",) * before, *inner, b"")
        first, last = before * 8 // 6, -(-(len(values) - 1) * 8 // 6)
        sextets = [_sextet(*values[6 * at // 8 : 6 * at // 8 + 2], 6 * at % 8) for at in range(first, last)]
        telling = [at for at, one in enumerate(sextets) if len(one) <= _WEAK]
        if telling:
            low, high = telling[0], telling[-1] + 1
            yield Encoded(tuple(sextets[low:high]), (first + high) % 4, tuple(sextets[high:]))


_BLOCK: Final = Wrapped.of(rb"[A-Za-z0-9+/_-]")
_SIBLING: Final = re.compile(rb"(?<![A-Za-z0-9+/_-])[A-Za-z0-9+/_-]{16,8192}={0,2}(?![A-Za-z0-9+/_-])")
_TO_STANDARD: Final = bytes.maketrans(b"-_", b"+/")


_QUOTED: Final = re.compile(
    rb"%(?:2[BbFf]|3[Dd]|0[AaDd])|\\{1,2}(?:[/nr]|u00(?:2[BbFf]|3[Dd]))|&#(?:43|47|61|[xX](?:2[BbFf]|3[Dd]));"
)
"""A sign of base64, or a line's end, as a URL, JSON (PHP's with each slash) and HTML write it."""
_QUOTED_BLOCK: Final = re.compile(rb"(?:[A-Za-z0-9+/_-]++|" + _QUOTED.pattern + rb")*+")
_NOTATIONS: Final = {
    ord("%"): ("percent", spelling.PERCENT, spelling.by_number({"a": 16})),
    ord("\\"): ("escape", spelling.ESCAPE, spelling.unescape),
    ord("&"): ("entity", spelling.ENTITY, spelling.unentity),
}
_NO_DIGITS: Final = re.compile(rb"[^A-Za-z0-9+/_-]+")


def _unbase64(clean: bytes) -> bytes:
    rest = len(clean) % 4
    if rest == 1:
        clean, rest = clean[:-1], 0
    return binascii.a2b_base64(clean.translate(_TO_STANDARD) + b"=" * (-rest % 4))


def _base64_run(text: bytes, lines: Sequence[tuple[int, int]], shift: int, *, quotes: bool = False) -> Run:
    """Decode lines, leaving out the first shift characters, which belong to the word before.

    quotes: what is compressed goes on behind signs that a URL, JSON or HTML quotes; they end what stays readable.
    """
    clean = b"".join(text[start:end] for start, end in lines)
    out = _unbase64(clean[shift:])
    end = lines[-1][1]
    while end < len(text) and text[end] == ord("=") and end < lines[-1][1] + 2:
        end += 1
    start = min(lines[0][0] + shift, end)
    cut, spent = False, 0
    if packed_at(out) is not None:
        via = "base64"
        if quotes and _QUOTED.match(text, end) and (block := _QUOTED_BLOCK.match(text, start, start + RUN_LIMIT)):
            notation, pattern, undo = _NOTATIONS[text[end]]
            out, end = _unbase64(_NO_DIGITS.sub(b"", pattern.sub(undo, block.group()))), block.end()
            via = f"{notation}>base64"
        inflated = unpacked(out, short=end - start >= RUN_LIMIT // 2 - 4)
        cut, spent = inflated.cut, inflated.spent
        if inflated.pieces[0][0]:
            return _inflated_run(start, end, via, inflated)
    segments, at = [], -shift
    for line_start, line_end in lines:
        segments.append(Segment(max(0, at * 3 // 4), max(start, line_start), 4, 3, "base64"))
        at += line_end - line_start
    return Run(start, end, out, tuple(segments), cut, spent=spent)


def _inflated_run(start: int, end: int, via: str, inflated: Unpacked) -> Run:
    """Put the pieces on lines of their own. All of them come from where the run begins."""
    segments, at = [], 0
    for names, piece in inflated.pieces:
        segments.append(Segment(at, start, 0, 1, ">".join((via, *names))))
        at += len(piece) + 1
    out = b"\n".join(piece for _, piece in inflated.pieces)
    return Run(start, end, out, tuple(segments), inflated.cut, spent=inflated.spent)


def runs(text: bytes, marks: Sequence[Mark]) -> Iterator[Run]:
    """Decode the runs that hold a mark, and around them every value that decodes to text.

    A Kubernetes Secret has id and secret as values of their own, and only the id has a head.
    """
    taken: list[tuple[int, int]] = []
    read = 0
    for lines, shift, first in _BLOCK.marked(text, marks, 4, taken):
        # A run that quotes is read to its end once, however many compressed streams seem to begin in it.
        run = _base64_run(text, lines, shift, quotes=lines[0][0] >= read)
        read = max(read, run.end)
        yield run
        if first:
            yield from each_line(lines, lambda line: _base64_run(text, [line], 0))
    for low, high in windows(marks, len(text)):
        for found in _SIBLING.finditer(text, low, high):
            if overlaps(taken, *found.span()):
                continue
            run = _base64_run(text, [(found.start(), found.start() + len(found.group().rstrip(b"=")))], 0)
            # What was unpacked is yielded whatever it is, so that it counts.
            if printable(run.out) or run.spent:
                yield run
