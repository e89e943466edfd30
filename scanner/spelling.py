"""Encodings that spell a text character by character: as escapes, as numbers, as pairs of digits. Pure.

Sources: RFC 4648 (hex), RFC 2045 (quoted-printable), RFC 3986 (percent), HTML Living Standard section 13.5 (entities).
"""

from __future__ import annotations

import binascii
import bisect
import functools
import html
import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import regex

from firedamp.scanner.keys import Shape
from firedamp.scanner.runs import (
    REACH,
    Encoded,
    Mark,
    Run,
    Segment,
    Wrapped,
    changed,
    each_line,
    overlaps,
    printable,
    windows,
)


def styled(prefix: bytes, digits: str, suffix: bytes = b"") -> Callable[[Shape], Iterator[Encoded]]:
    """Return how a shape looks when each character is prefix, its number as `format` writes it, and suffix."""

    def spell(inner: Shape) -> Iterator[Encoded]:
        for spelling in (digits, digits.upper()) if digits[-1] == "x" else (digits,):
            positions: list[bytes] = []
            for values in inner:
                digits_of = _digits(values, spelling)
                if not digits_of:
                    break
                positions += [*before, *digits_of, *after]
            yield Encoded(tuple(positions[: len(positions) - len(suffix)]))

    before, after = ([text[i : i + 1] for i in range(len(text))] for text in (prefix, suffix))
    return spell


@functools.cache
def _digits(values: bytes, spelling: str) -> tuple[bytes, ...]:
    """Return the digits that may stand at each place when a value is written so; nothing where lengths differ."""
    spelled = [format(value, spelling).encode() for value in values]
    if len({len(one) for one in spelled}) > 1:
        return ()
    return tuple(bytes(sorted(set(column))) for column in zip(*spelled, strict=True))


def spelled(*styles: Callable[[Shape], Iterator[Encoded]]) -> Callable[[Shape], Iterator[Encoded]]:
    """Return how a shape looks in each of the styles."""

    def shapes(inner: Shape) -> Iterator[Encoded]:
        return itertools.chain.from_iterable(style(inner) for style in styles)

    return shapes


def replaced(
    name: str, pattern: re.Pattern[bytes], undo: Callable[[re.Match[bytes]], bytes]
) -> Callable[[bytes, Sequence[Mark]], Iterator[Run]]:
    """Return a decoder of a notation that stands in running text: each match of pattern becomes what undo says."""

    def runs(text: bytes, marks: Sequence[Mark]) -> Iterator[Run]:
        for low, high in windows(marks, len(text)):
            parts: list[bytes] = []
            segments: list[Segment] = []
            ends: list[int] = []
            at, done = 0, low
            stride = 0
            for found in pattern.finditer(text, low, high):
                inner = undo(found)
                start, width = found.start(), found.end() - found.start()
                if start > done or not parts:
                    parts.append(text[done:start])
                    segments.append(Segment(at, done, via=name))
                    at, stride = at + start - done, 0
                # Characters that are all written equally long make one segment.
                if width != stride:
                    segments.append(Segment(at, start, width, 1, name))
                    stride = width
                parts.append(inner)
                at, done = at + len(inner), found.end()
                ends.append(at)
                if len(inner) != 1:
                    stride = 0
            if parts:
                parts.append(text[done:high])
                segments.append(Segment(at, done, via=name))
                yield Run(low, high, b"".join(parts), tuple(segments), changed=changed(ends))

    return runs


def _character(code: int) -> bytes:
    return bytes([code]) if code < 256 else b"?"


def by_number(bases: dict[str, int]) -> Callable[[re.Match[bytes]], bytes]:
    """Return an undo that reads the one named group of the match as a number in the base that goes with its name."""

    def undo(found: re.Match[bytes]) -> bytes:
        name = found.lastgroup or ""
        return _character(int(found[name], bases[name]))

    return undo


_PLAIN_ESCAPES: Final = {b"n": b"\n", b"r": b"\r", b"t": b"\t"}
ESCAPE: Final = re.compile(
    rb"\\{1,8}(?:x(?P<a>[0-9A-Fa-f]{2})|u(?P<b>[0-9A-Fa-f]{4})|[ux]\{(?P<c>[0-9A-Fa-f]{1,8})\}|U(?P<d>[0-9A-Fa-f]{8}))"
    rb"|\\{1,2}(?:(?P<o>[0-3][0-7]{2})|(?P<css>[0-9A-Fa-f]{2,6})[ ]|(?P<plain>[nrt\"'/\\]))"
    rb"|%u(?P<e>[0-9A-Fa-f]{4})|U\+(?P<f>[0-9A-Fa-f]{4,6})[ ]?"
)
_ESCAPE_BASES: Final = dict.fromkeys("abcdef", 16) | {"css": 16, "o": 8}


def unescape(found: re.Match[bytes]) -> bytes:
    """Undo one match of ESCAPE."""
    if found.lastgroup == "plain":
        return _PLAIN_ESCAPES.get(found["plain"], found["plain"])
    return by_number(_ESCAPE_BASES)(found)


PERCENT: Final = re.compile(rb"%(?P<a>[0-9A-Fa-f]{2})")
ENTITY: Final = re.compile(rb"&(?:#(?P<d>[0-9]{1,7})|#[xX](?P<x>[0-9A-Fa-f]{1,6})|(?P<name>[A-Za-z]{2,8}));")


def unentity(found: re.Match[bytes]) -> bytes:
    """Undo one match of ENTITY; a name that HTML does not know stays."""
    if found.lastgroup != "name":
        return by_number({"d": 10, "x": 16})(found)
    text = html.unescape(found.group().decode())
    return text.encode("latin-1", "replace") if len(text) == 1 else found.group()


QUOTED: Final = re.compile(rb"=(?:(?P<a>[0-9A-F]{2})|(?P<soft>\r?\n))")


def unquote(found: re.Match[bytes]) -> bytes:
    """Undo one match of QUOTED; a soft line break leaves nothing."""
    return b"" if found.lastgroup == "soft" else by_number({"a": 16})(found)


# Characters as items of a list, or each made of its number: `['A', 'K']`, `chr(65) + chr(75)`, `[char]65+[char]75`.

CHARACTERS: Final = (
    *(
        styled(mark, "c", mark[-1:] + separator)
        for mark in (b"'", b'"', b"b'")
        for separator in (b",", b", ", *(b",\n" + b" " * indent for indent in (2, 4, 6, 8)))
    ),
    *(
        styled(prefix, digits, suffix + operator)
        for prefix, suffix, operators in (
            (b"chr(", b")", (b"+", b" + ", b".", b" . ", b",", b", ")),
            (b"CHR(", b")", (b"||", b" || ")),
            (b"CHAR(", b")", (b"+", b" + ")),
            (b"Chr(", b")", (b"&", b" & ", b" + ")),
            (b"Chr$(", b")", (b" & ", b" + ")),
            (b"ChrW(", b")", (b"&", b" & ")),
            (b"[char]", b"", (b"+", b" + ", b",", b", ")),
            (b"(char)", b"", (b",", b", ")),
        )
        for operator in operators
        for digits in ("d", "#04x")
    ),
)
"""How they look where people write them so."""
CHARACTER: Final = re.compile(
    rb"(?:b?(?P<quote>[\"'])(?P<character>[ -~])(?P=quote)"
    rb"|(?i:chrw?\$?\(|char\(|[\[(]char[\])])\s?(?:(?:0[xX]|&[hH])(?P<x>[0-9A-Fa-f]{1,2})|(?P<d>[0-9]{1,3}))\)?)"
    rb"(?:\s{0,4}(?:[,+.&]|\|\|)\s{0,64}(?=b?[\"']|(?i:ch|[\[(]ch)))?"
)
CHARACTER_SECRET: Final = re.compile(rb"(?=[b\"'cC\[(])(?:" + CHARACTER.pattern + rb"){40}")
"""A secret's characters written so."""


def uncharacter(found: re.Match[bytes]) -> bytes:
    """Undo one match of CHARACTER."""
    return found["character"] or by_number({"d": 10, "x": 16})(found)


# Bytes written one by one as numbers: hex (`41 4b`, `41:4b`, `0x41, 0x4b`, `414b`) and decimal (`[65, 75]`).

_HEX_BLOCK: Final = Wrapped.of(rb"[0-9A-Fa-f]")
_HEX_PREFIX: Final = regex.compile(rb"(?r)(?:0|\\{1,8})[xX]")
"""What marks digits as hex in SQL, and in dumps of PostgreSQL. Left there, it would pass for a part of the value."""
_HEX_VALUE: Final = re.compile(rb"(?<![0-9A-Za-z])(?:[0\\][xX])?(?P<digits>(?:[0-9A-Fa-f]{2}){16,4096})(?![0-9A-Za-z])")
_KEY_DIGITS: Final = rb"(?:2[BbFf]|3[0-9]|[4-7][0-9A-Fa-f])"
_APART: Final = rb"[ ,:;\t\r\n\\-]{1,40}"
# A set of characters at the start is looked for three times as fast as anything else.
HEX_SECRET: Final = re.compile(rb"[2-7][0-9A-Fa-f]" + _KEY_DIGITS + rb"{39}(?![0-9A-Fa-f])")
"""A secret's 40 characters in hex: random digits are none with odds of 10^-20."""
HEX_SECRET_LIST: Final = re.compile(
    rb"[2-7][0-9A-Fa-f](?:" + _APART + rb"(?:00" + _APART + rb")?" + _KEY_DIGITS + rb"){39}"
)
"""The same as a list, also in UTF-16."""
# The first digit stands by itself for the same reason.
HEX_LIST: Final = re.compile(
    rb"[0-9A-Fa-f](?:[0-9A-Fa-f]|(?<=0)[xX][0-9A-Fa-f]{2})"
    rb"(?:[ ,:;\t\r\n\\-]{1,40}(?:0[xX])?[0-9A-Fa-f]{2}){3,}(?![0-9A-Fa-f])"
)
DECIMAL_LIST: Final = re.compile(rb"[0-9][0-9]{0,2}(?:[ ,;\t\r\n\\]{1,40}[0-9]{1,3}){3,}(?![0-9])")
_TOKEN: Final = {16: re.compile(rb"[0-9A-Fa-f]{2}(?![xX])"), 10: re.compile(rb"[0-9]{1,3}")}


def _numbers(tokens: Sequence[bytes], base: int) -> bytes:
    if base == 16:  # two digits each, which all can be read at once
        return binascii.a2b_hex(b"".join(tokens))
    return b"".join(_character(int(token, base)) for token in tokens)


def _hex_run(text: bytes, lines: Sequence[tuple[int, int]], shift: int) -> Run:
    """Decode lines of digits, leaving out the first shift of them."""
    digits = b"".join(text[start:end] for start, end in lines)[shift:]
    segments, at = [], -shift
    start = min(lines[0][0] + shift, lines[-1][1])
    prefix = _HEX_PREFIX.match(text, 0, start)
    for line_start, line_end in lines:
        segments.append(Segment(max(0, (at + 1) // 2), max(start, line_start), 2, 1, "hex"))
        at += line_end - line_start
    begin = start if prefix is None else prefix.start()
    return Run(begin, lines[-1][1], binascii.a2b_hex(digits[: len(digits) // 2 * 2]), tuple(segments))


def hex_runs(text: bytes, marks: Sequence[Mark]) -> Iterator[Run]:
    """Decode the digits around each mark, in pairs as the mark says, and whole values of hex around them."""
    taken: list[tuple[int, int]] = []
    for lines, shift, first in _HEX_BLOCK.marked(text, marks, 2, taken):
        yield _hex_run(text, lines, shift)
        if first:
            yield from each_line(lines, lambda line: _hex_run(text, [line], 0))
    for low, high in windows(marks, len(text)):
        for found in _HEX_VALUE.finditer(text, low, high):
            run = _hex_run(text, [found.span("digits")], 0)
            if printable(run.out) and not overlaps(taken, *found.span("digits")):
                yield run


def _is_wide(out: bytes) -> bool:
    """Whether bytes are a text in UTF-16, or several that end with a nought, as in an export of Windows' registry.

    Each list is undone by itself: its name before it is not in UTF-16.
    """
    return out[:1] > b"\0" and not any(out[1::2]) and printable(out[::2].replace(b"\0", b""))


def listed(name: str, base: int, pattern: re.Pattern[bytes]) -> Callable[[bytes, Sequence[Mark]], Iterator[Run]]:
    """Return a decoder of lists of numbers, each one byte."""

    def runs(text: bytes, marks: Sequence[Mark]) -> Iterator[Run]:
        ends = [mark.end for mark in marks]
        for low, high in windows(marks, len(text), 4 * REACH):
            for found in pattern.finditer(text, low, high):
                out, step, via = _numbers(_TOKEN[base].findall(text, *found.span()), base), 1, name
                if _is_wide(out):
                    out, step, via = out[::2], 2, f"{name}>utf-16"
                if step > 1 or printable(out) or bisect.bisect(ends, found.start()) < bisect.bisect(ends, found.end()):
                    tokens = itertools.islice(_TOKEN[base].finditer(text, *found.span()), 0, None, step)
                    segments = tuple(Segment(at, token.start(), 0, 1, via) for at, token in enumerate(tokens))
                    yield Run(*found.span(), out, segments)

    return runs


# Rows of a hex dump, as `hexdump -C`, `xxd`, `od -A x -t x1z`, `curl --trace`, `tcpdump -X` and Wireshark write them:
# offset, bytes, the text beside.

DUMP_ROW: Final = rb"[0-9A-Fa-f]{6,8}:?[ \t]{1,2}"
_DUMP: Final = re.compile(
    rb"(?m)^[ \t]*(?:0x)?(?P<offset>[0-9A-Fa-f]{4,8}):?[ \t]{1,3}"
    rb"(?P<bytes>(?:(?:[0-9A-Fa-f]{2}){1,8}[ \t]{1,2}){1,32})[^\n]*\n?"
)
DUMPED: Final = tuple(
    style % offset
    for style in (b"\n%08x: ", b"\n%08x  ", b"\n%06x ", b"\n%04x: ", b"\n%04x  ", b"0x%04x:  ")
    for offset in (0x10, *range(0x800, 0x10000, 0x800))
)
"""How the second row of a dump begins, and one in 128: so many are undone around each, whatever they hold."""
_PAIR: Final = re.compile(rb"[0-9A-Fa-f]{2}")
_WIDEST_ROW: Final = 32


DUMP: Final = 1
"""The phase of a mark that says no more than that a dump stands there."""
_READABLE: Final = re.compile(rb"(?:[ -~\t\r\n]\x00?){27}")
"""As much text as an id makes in base64, perhaps in UTF-16."""


def dump_runs(text: bytes, marks: Sequence[Mark]) -> Iterator[Run]:
    """Decode the hex dumps around the marks, from their first row to their last."""
    ends = [mark.end for mark in marks if mark.phase != DUMP]
    for low, high in windows(marks, len(text), 4 * REACH):
        rows: list[re.Match[bytes]] = []
        for found in (*_DUMP.finditer(text, low, high), None):
            if rows and (found is None or found.start() != rows[-1].end()):
                start, end = rows[0].start(), rows[-1].end()
                dumped = _dumped(rows)
                out = b"".join(dumped)
                if _READABLE.search(out) or printable(out) or bisect.bisect(ends, start) < bisect.bisect(ends, end):
                    yield Run(start, end, out, tuple(_dump_segments(rows, dumped)))
                rows = []
            rows += [] if found is None else [found]


def _dumped(rows: Sequence[re.Match[bytes]]) -> list[bytes]:
    """Decode rows that follow each other.

    The next one's offset tells how many bytes a row holds: its text may look like more of them.
    """
    dumped: list[bytes] = []
    offsets = [int(row["offset"], 16) for row in rows]
    width = _WIDEST_ROW
    for at, row in enumerate(rows):
        told = offsets[at + 1] - offsets[at] if at + 1 < len(rows) else width
        width = told if 0 < told < _WIDEST_ROW else width
        dumped.append(bytes.fromhex(row["bytes"].decode())[:width])
    return dumped


def _dump_segments(rows: Sequence[re.Match[bytes]], dumped: Sequence[bytes]) -> Iterator[Segment]:
    """Yield where each byte of the rows comes from."""
    at = 0
    for row, out in zip(rows, dumped, strict=True):
        for pair in itertools.islice(_PAIR.finditer(row.string, *row.span("bytes")), len(out)):
            yield Segment(at, pair.start(), 0, 1, "hex")
            at += 1


def hex_lists(text: bytes, marks: Sequence[Mark]) -> Iterator[Run]:
    """Decode bytes in hex that stand apart: dumps and other lists."""
    dumps = list(dump_runs(text, marks))
    yield from dumps
    taken = [(run.start, run.end) for run in dumps]
    listed_at = [mark for mark in marks if mark.phase != DUMP]
    yield from (run for run in _hex_list_runs(text, listed_at) if not overlaps(taken, run.start, run.end))


_hex_list_runs: Final = listed("hex", 16, HEX_LIST)
