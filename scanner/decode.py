"""The decoders: how a value looks in each encoding, and how the text around a hit is decoded in place. Pure.

A row of `DECODERS` is all that an encoding needs. `shapes` says how a beginning looks encoded, so that the prefilter
can look for that directly; `runs` undoes the encoding around the places where it was seen, within limits. A run knows
for every decoded byte where it came from, so that a match points at the file as stored.

Sources: RFC 4648 (base64, hex), RFC 2045 (quoted-printable), RFC 3986 (percent), RFC 1950 and 1952 (zlib, gzip), HTML
Living Standard section 13.5 (entities).
"""

from __future__ import annotations

import binascii
import bisect
import functools
import html
import itertools
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import regex

from firedamp.scanner.keys import Shape

RUN_LIMIT: Final = 4 << 20
"""Bytes of one encoded run that are decoded, half of them on each side of the hit."""
INFLATE_LIMIT: Final = 8 << 20
"""Bytes that one compressed run may grow to."""
REACH: Final = 4096
"""How far from a hit a notation is undone: further than a value and its neighbours ever are."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A place where an encoding was seen: the end of the hit, and its place in the encoding's own rhythm."""

    end: int
    phase: int = 0


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of decoded bytes: byte `at + i` came from `source + i * numerator // denominator`."""

    at: int
    source: int
    numerator: int = 1
    denominator: int = 1
    via: str = ""
    """The encodings undone here, outermost first, as in `base64>gzip`; empty where nothing was."""


@dataclass(frozen=True, slots=True)
class Run:
    """text[start:end] decoded. cut says that a limit ended it early."""

    start: int
    end: int
    out: bytes
    segments: tuple[Segment, ...]
    cut: bool = False


@dataclass(frozen=True, slots=True)
class Encoded:
    """A shape as it looks encoded, the phase at its end, and what follows there that tells little by itself."""

    shape: Shape
    phase: int = 0
    rest: Shape = ()


@dataclass(frozen=True, slots=True)
class Decoder:
    """One encoding.

    joint: what may cut a raw value in two (Hyperscan syntax); wrap: what may cut the encoded form. signs: how the
    notation shows near a value that it leaves readable (`=3D`, `&quot;`): asked for around an id without a secret.
    rhythm: after how many encoded bytes the phase is the same again.
    """

    name: str
    shapes: Callable[[Shape], Iterator[Encoded]]
    runs: Callable[[bytes, Sequence[Mark]], Iterator[Run]]
    joint: bytes = b""
    wrap: bytes = b""
    signs: re.Pattern[bytes] | None = None
    rhythm: int = 1


def _windows(marks: Iterable[Mark], size: int, reach: int = REACH) -> Iterator[tuple[int, int]]:
    """Yield the surroundings of the marks (sorted by end), joined where they meet."""
    start, end = -1, -1
    for mark in marks:
        if start >= 0 and mark.end - reach <= end:
            end = min(size, mark.end + reach)
            continue
        if start >= 0:
            yield start, end
        start, end = max(0, mark.end - reach), min(size, mark.end + reach)
    if start >= 0:
        yield start, end


_PRINTABLE: Final = bytes(range(0x20, 0x7F)) + b"\t\r\n"


def _printable(out: bytes) -> bool:
    return not out.translate(None, _PRINTABLE)


# Base64, and what is compressed inside it.

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


def _base64_shapes(inner: Shape) -> Iterator[Encoded]:
    for before in range(3):
        values = (*(b"",) * before, *inner, b"")
        first, last = before * 8 // 6, -(-(len(values) - 1) * 8 // 6)
        sextets = [_sextet(*values[6 * at // 8 : 6 * at // 8 + 2], 6 * at % 8) for at in range(first, last)]
        telling = [at for at, one in enumerate(sextets) if len(one) <= _WEAK]
        if telling:
            low, high = telling[0], telling[-1] + 1
            yield Encoded(tuple(sextets[low:high]), (first + high) % 4, tuple(sextets[high:]))


_RUN: Final = re.compile(rb"[A-Za-z0-9+/_-]*")
# The letter of an escape (`\n`) is no part of the run behind it.
_RUN_BACK: Final = regex.compile(rb"(?r)(?<!\\)[A-Za-z0-9+/_-]*")
_GAP: Final = rb"(?:\r?\n[ \t]{0,64}|(?:\\r)?\\n|\\\r?\n[ \t]{0,64}|[\"']\s{0,8}[+.]?\s{0,64}[\"'])"
_NEXT: Final = re.compile(_GAP + rb"([A-Za-z0-9+/_-]+)")
_PREVIOUS: Final = regex.compile(rb"(?r)(?<!\\)([A-Za-z0-9+/_-]+)" + _GAP)
_SHORTEST_LINE: Final = 20
_SIBLING: Final = re.compile(rb"(?<![A-Za-z0-9+/_=-])[A-Za-z0-9+/_-]{16,8192}={0,2}(?![A-Za-z0-9+/_-])")
_TO_STANDARD: Final = bytes.maketrans(b"-_", b"+/")


def _lines(text: bytes, at: int) -> list[tuple[int, int]]:
    """Return the stretches of base64 that make up the run around at: one, or the lines of a wrapped block.

    A block's lines are equally long but for the last. A line joined by mistake does no harm: it only adds noise.
    """
    low, high = max(0, at - RUN_LIMIT // 2), min(len(text), at + RUN_LIMIT // 2)
    back, forth = _RUN_BACK.match(text, low, at), _RUN.match(text, at, high)
    start, end = back.start() if back else at, forth.end() if forth else at
    lines, width = [(start, end)], 0
    while (found := _PREVIOUS.match(text, low, lines[0][0])) is not None:
        length = found.end(1) - found.start(1)
        if length < _SHORTEST_LINE or (length != width if width else length < end - start):
            break
        width = length
        lines.insert(0, found.span(1))
    width = width or end - start
    while lines[-1][1] - lines[-1][0] == width and (after := _NEXT.match(text, lines[-1][1], high)) is not None:
        if after.end(1) - after.start(1) > width or width < _SHORTEST_LINE:
            break
        lines.append(after.span(1))
    return lines


def _unbase64(clean: bytes) -> bytes:
    rest = len(clean) % 4
    if rest == 1:
        clean, rest = clean[:-1], 0
    return binascii.a2b_base64(clean.translate(_TO_STANDARD) + b"=" * (-rest % 4))


def _inflate(out: bytes) -> tuple[str, bytes, bool] | None:
    """Return what out holds compressed, or None.

    gzip is looked for near the beginning (a few bytes of a glued word may stand before it), zlib exactly there. A
    damaged stream gives what comes before the damage.
    """
    at, name = out.find(b"\x1f\x8b\x08", 0, 128), "gzip"
    if at < 0 and out[:1] == b"\x78" and out[1:2] in (b"\x01", b"\x5e", b"\x9c", b"\xda"):
        at, name = 0, "zlib"
    if at < 0:
        return None
    engine, parts, size, position = zlib.decompressobj(47), list[bytes](), 0, at
    try:
        while position < len(out) and size <= INFLATE_LIMIT:
            part = engine.decompress(out[position : position + 4096], INFLATE_LIMIT + 1 - size)
            parts.append(part)
            size += len(part)
            position += 4096
    except zlib.error:
        pass
    return (name, b"".join(parts)[:INFLATE_LIMIT], size > INFLATE_LIMIT) if size else None


def _base64_run(text: bytes, lines: Sequence[tuple[int, int]], shift: int) -> Run:
    """Decode lines, leaving out the first shift characters, which belong to the word before."""
    clean = b"".join(text[start:end] for start, end in lines)
    out = _unbase64(clean[shift:])
    end = lines[-1][1]
    while end < len(text) and text[end] == ord("=") and end < lines[-1][1] + 2:
        end += 1
    start = min(lines[0][0] + shift, end)
    if (inflated := _inflate(out)) is not None:
        name, inner, cut = inflated
        return Run(start, end, inner, (Segment(0, start, 0, 1, f"base64>{name}"),), cut)
    segments, at = [], -shift
    for line_start, line_end in lines:
        segments.append(Segment(max(0, at * 3 // 4), max(start, line_start), 4, 3, "base64"))
        at += line_end - line_start
    return Run(start, end, out, tuple(segments))


def _base64_runs(text: bytes, marks: Sequence[Mark]) -> Iterator[Run]:
    """Decode the runs that hold a mark, and around them every value that decodes to text.

    A Kubernetes Secret has id and secret as values of their own, and only the id has a head.
    """
    taken: list[tuple[int, int]] = []
    lines: list[tuple[int, int]] = []
    lengths: list[int] = []
    shifts: set[int] = set()
    for mark in marks:
        if mark.phase < 0:
            continue
        if not lines or mark.end > lines[-1][1]:
            lines, shifts = _lines(text, mark.end), set()
            lengths = list(itertools.accumulate((end - start for start, end in lines), initial=0))
            _take(taken, lines[0][0], lines[-1][1])
        line = max(0, bisect.bisect_left(lines, (mark.end, 0)) - 1)
        shift = (lengths[line] + mark.end - lines[line][0] - mark.phase) % 4
        # One run is read at most at its four alignments, however many marks it has.
        if shift not in shifts:
            shifts.add(shift)
            yield _base64_run(text, lines, shift)
    for low, high in _windows(marks, len(text)):
        for found in _SIBLING.finditer(text, low, high):
            if _overlaps(taken, *found.span()):
                continue
            run = _base64_run(text, [(found.start(), found.start() + len(found.group().rstrip(b"=")))], 0)
            if _printable(run.out):
                yield run


def _take(taken: list[tuple[int, int]], start: int, end: int) -> None:
    """Add a span to spans that are in order and apart."""
    while taken and start < taken[-1][1]:
        start, end = min(start, taken[-1][0]), max(end, taken[-1][1])
        taken.pop()
    taken.append((start, end))


def _overlaps(taken: list[tuple[int, int]], start: int, end: int) -> bool:
    at = bisect.bisect_left(taken, (end, 0)) - 1
    return at >= 0 and start < taken[at][1]


# UTF-16: every other byte is nought.


def _utf16_shapes(inner: Shape) -> Iterator[Encoded]:
    yield Encoded(tuple(itertools.chain.from_iterable((values, b"\x00") for values in inner)), 0)
    yield Encoded(tuple(itertools.chain.from_iterable((b"\x00", values) for values in inner)), 1)


def _utf16_runs(text: bytes, marks: Sequence[Mark]) -> Iterator[Run]:
    plain: set[int] = set()
    for phase, parity in itertools.product((0, 1), (0, 1)):
        # Plain ASCII reads the same as little and big endian: once is enough.
        chosen = [m for m in marks if m.phase == phase and m.end % 2 == parity and m.end + 1 not in plain]
        for start, high in _windows(chosen, len(text), 4 * REACH):
            low = start + (start + parity) % 2
            units = text[low : high - (high - low) % 2]
            ascii_bytes, high_bytes = (units[1::2], units[0::2]) if phase else (units[0::2], units[1::2])
            if high_bytes.strip(b"\x00"):
                # What is no Latin-1 character becomes a question mark: one byte a unit keeps the offsets simple.
                pairs = zip(ascii_bytes, high_bytes, strict=True)
                ascii_bytes = bytes(character if not high else ord("?") for character, high in pairs)
            elif not phase:
                plain.update(m.end for m in chosen if low <= m.end <= low + len(units))
            yield Run(low, low + len(units), ascii_bytes, (Segment(0, low + phase, 2, 1, "utf-16"),))


# Encodings that spell each character with digits.


def _styled(prefix: bytes, digits: str, suffix: bytes = b"") -> Callable[[Shape], Iterator[Encoded]]:
    """Return how a shape looks when each character is prefix, its number as `format` writes it, and suffix."""

    def spell(inner: Shape) -> Iterator[Encoded]:
        for spelling in (digits, digits.upper()) if digits[-1] == "x" else (digits,):
            positions: list[bytes] = []
            for values in inner:
                spelled = [format(value, spelling).encode() for value in values]
                if len({len(one) for one in spelled}) > 1:
                    break
                columns = [bytes(sorted(set(column))) for column in zip(*spelled, strict=True)]
                positions += [*_positions(prefix), *columns, *_positions(suffix)]
            yield Encoded(tuple(positions[: len(positions) - len(suffix)]))

    return spell


def _positions(text: bytes) -> Iterator[bytes]:
    return (text[i : i + 1] for i in range(len(text)))


def _spelled(*styles: Callable[[Shape], Iterator[Encoded]]) -> Callable[[Shape], Iterator[Encoded]]:
    def shapes(inner: Shape) -> Iterator[Encoded]:
        return itertools.chain.from_iterable(style(inner) for style in styles)

    return shapes


def _nothing(_inner: Shape) -> Iterator[Encoded]:
    return iter(())


def _replaced(
    name: str, pattern: re.Pattern[bytes], undo: Callable[[re.Match[bytes]], bytes]
) -> Callable[[bytes, Sequence[Mark]], Iterator[Run]]:
    """Return a decoder of a notation that stands in running text: each match of pattern becomes what undo says."""

    def runs(text: bytes, marks: Sequence[Mark]) -> Iterator[Run]:
        for low, high in _windows(marks, len(text)):
            parts: list[bytes] = []
            segments: list[Segment] = []
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
                if len(inner) != 1:
                    stride = 0
            if parts:
                parts.append(text[done:high])
                segments.append(Segment(at, done, via=name))
                yield Run(low, high, b"".join(parts), tuple(segments))

    return runs


def _character(code: int) -> bytes:
    return bytes([code]) if code < 256 else b"?"


def _by_number(bases: dict[str, int]) -> Callable[[re.Match[bytes]], bytes]:
    """Return an undo that reads the one named group of the match as a number in the base that goes with its name."""

    def undo(found: re.Match[bytes]) -> bytes:
        name = found.lastgroup or ""
        return _character(int(found[name], bases[name]))

    return undo


_PLAIN_ESCAPES: Final = {b"n": b"\n", b"r": b"\r", b"t": b"\t"}
_ESCAPE: Final = re.compile(
    rb"\\{1,2}(?:x(?P<a>[0-9A-Fa-f]{2})|u(?P<b>[0-9A-Fa-f]{4})|[ux]\{(?P<c>[0-9A-Fa-f]{1,8})\}|U(?P<d>[0-9A-Fa-f]{8})"
    rb"|(?P<o>[0-3][0-7]{2})|(?P<css>[0-9A-Fa-f]{2,6})[ ]|(?P<plain>[nrt\"'/\\]))"
    rb"|%u(?P<e>[0-9A-Fa-f]{4})|U\+(?P<f>[0-9A-Fa-f]{4,6})[ ]?"
)
_ESCAPE_BASES: Final = dict.fromkeys("abcdef", 16) | {"css": 16, "o": 8}


def _unescape(found: re.Match[bytes]) -> bytes:
    if found.lastgroup == "plain":
        return _PLAIN_ESCAPES.get(found["plain"], found["plain"])
    return _by_number(_ESCAPE_BASES)(found)


_PERCENT: Final = re.compile(rb"%(?P<a>[0-9A-Fa-f]{2})")
_ENTITY: Final = re.compile(rb"&(?:#(?P<d>[0-9]{1,7})|#[xX](?P<x>[0-9A-Fa-f]{1,6})|(?P<name>[A-Za-z]{2,8}));")


def _unentity(found: re.Match[bytes]) -> bytes:
    if found.lastgroup != "name":
        return _by_number({"d": 10, "x": 16})(found)
    text = html.unescape(found.group().decode())
    return text.encode("latin-1", "replace") if len(text) == 1 else found.group()


_QUOTED: Final = re.compile(rb"=(?:(?P<a>[0-9A-F]{2})|(?P<soft>\r?\n))")


def _unquote(found: re.Match[bytes]) -> bytes:
    return b"" if found.lastgroup == "soft" else _by_number({"a": 16})(found)


# A string cut into literals: by an operator, over lines, or side by side. A comma or a blank between two literals joins
# them only where a head was cut: elsewhere it separates an id from its secret.
_OPEN: Final = rb"[bBrRuUfFL@$]{0,2}[\"'`]"
_OPERATOR: Final = rb"(?:\+\+?|\.\.?|&|~|\^|\|\||<>|\\)"
_JOINED: Final = (
    rb"[\"'`]\s{0,64}" + _OPERATOR + rb"\s{0,64}" + _OPEN
    + rb"|[\"'`][ \t]{0,8}\r?\n\s{0,64}" + _OPEN
    + rb"|\\\r?\n[ \t]{0,64}"
)  # fmt: skip
_LOOSE: Final = rb"[\"'`][ \t]{0,8},?\s{0,64}" + _OPEN
_JOINS: Final = re.compile(rb"(?P<sure>" + _JOINED + rb")|" + _LOOSE)
_LOOSE_REACH: Final = 5
"""A hit on a cut value ends at most this far behind the cut: the rest of a head and one character."""


def _concatenated(text: bytes, marks: Sequence[Mark]) -> Iterator[Run]:
    ends = [mark.end for mark in marks if mark.phase >= 0]
    for low, high in _windows(marks, len(text)):
        parts: list[bytes] = []
        segments: list[Segment] = []
        at, done = 0, low
        for found in _JOINS.finditer(text, low, high):
            nearest = bisect.bisect_right(ends, found.end())
            cut_here = nearest < len(ends) and ends[nearest] <= found.end() + _LOOSE_REACH
            if found["sure"] is None and not cut_here:
                continue
            parts.append(text[done : found.start()])
            segments.append(Segment(at, done, via="concatenation"))
            at, done = at + found.start() - done, found.end()
        if parts:
            parts.append(text[done:high])
            segments.append(Segment(at, done, via="concatenation"))
            yield Run(low, high, b"".join(parts), tuple(segments))


# Bytes written one by one as numbers: hex (`41 4b`, `41:4b`, `0x41, 0x4b`, `414b`) and decimal (`[65, 75]`).

_HEX: Final = re.compile(rb"[0-9A-Fa-f]*")
_HEX_BACK: Final = regex.compile(rb"(?r)[0-9A-Fa-f]*")
_HEX_VALUE: Final = re.compile(rb"(?<![0-9A-Za-z])(?:[0-9A-Fa-f]{2}){16,4096}(?![0-9A-Za-z])")
_HEX_LIST: Final = re.compile(
    rb"(?:0[xX])?[0-9A-Fa-f]{2}(?:[ ,:;\t\r\n-]{1,40}(?:0[xX])?[0-9A-Fa-f]{2}){3,}(?![0-9A-Fa-f])"
)
_DECIMAL_LIST: Final = re.compile(rb"[0-9]{1,3}(?:[ ,;\t\r\n]{1,40}[0-9]{1,3}){3,}(?![0-9])")
_TOKEN: Final = {16: re.compile(rb"[0-9A-Fa-f]{2}(?![xX])"), 10: re.compile(rb"[0-9]{1,3}")}


def _hex_run(text: bytes, start: int, end: int) -> Run:
    return Run(start, end, binascii.a2b_hex(text[start:end]), (Segment(0, start, 2, 1, "hex"),))


def _plain_hex_runs(text: bytes, marks: Sequence[Mark]) -> Iterator[Run]:
    """Decode the digits around each mark, in pairs as the mark says, and whole values of hex around them."""
    taken: list[tuple[int, int]] = []
    done = [-1, -1]
    for mark in marks:
        odd = (mark.end - mark.phase) % 2
        if mark.phase < 0 or mark.end <= done[odd]:
            continue
        back = _HEX_BACK.match(text, max(0, mark.end - RUN_LIMIT // 2), mark.end)
        forth = _HEX.match(text, mark.end, min(len(text), mark.end + RUN_LIMIT // 2))
        start, end = back.start() if back else mark.end, forth.end() if forth else mark.end
        start, end = start + (start + odd) % 2, end - (end + odd) % 2
        if start >= end:
            continue
        done[odd] = end
        _take(taken, start, end)
        yield _hex_run(text, start, end)
    for low, high in _windows(marks, len(text)):
        for found in _HEX_VALUE.finditer(text, low, high):
            run = _hex_run(text, *found.span())
            if _printable(run.out) and not _overlaps(taken, *found.span()):
                yield run


def _listed(name: str, base: int, pattern: re.Pattern[bytes]) -> Callable[[bytes, Sequence[Mark]], Iterator[Run]]:
    """Return a decoder of lists of numbers, each one byte."""

    def runs(text: bytes, marks: Sequence[Mark]) -> Iterator[Run]:
        for low, high in _windows(marks, len(text), 4 * REACH):
            for found in pattern.finditer(text, low, high):
                tokens = list(_TOKEN[base].finditer(text, *found.span()))
                out = b"".join(_character(int(token.group(), base)) for token in tokens)
                if _printable(out) or any(found.start() < mark.end <= found.end() for mark in marks):
                    segments = tuple(Segment(at, token.start(), 0, 1, name) for at, token in enumerate(tokens))
                    yield Run(*found.span(), out, segments)

    return runs


DECODERS: Final[tuple[Decoder, ...]] = (
    Decoder(
        "base64",
        _base64_shapes,
        _base64_runs,
        wrap=rb"[\s\\nr\"'+.]{1,72}",
        rhythm=4,
        signs=re.compile(rb"[A-Za-z0-9+/]{54}(?:==|[A-Za-z0-9+/]=)"),
    ),
    Decoder("utf-16", _utf16_shapes, _utf16_runs, rhythm=2),
    Decoder("hex", _spelled(_styled(b"", "02x")), _plain_hex_runs, rhythm=2),
    Decoder(
        "hex list",
        _spelled(
            *(_styled(b"", "02x", separator) for separator in (b" ", b":", b"-", b",")),
            *(_styled(b"0x", "02x", separator) for separator in (b", ", b",", b" ", b":")),
        ),
        _listed("hex", 16, _HEX_LIST),
    ),
    Decoder(
        "decimal",
        _spelled(*(_styled(b"", "d", separator) for separator in (b", ", b",", b" "))),
        _listed("decimal", 10, _DECIMAL_LIST),
    ),
    Decoder(
        "percent",
        _spelled(_styled(b"%", "02x")),
        _replaced("percent", _PERCENT, _by_number({"a": 16})),
        signs=re.compile(rb"%(?:3[AaDd]|2[0BbFf]|22|0[AaDd])"),
    ),
    Decoder(
        "escape",
        _spelled(
            _styled(rb"\x", "02x"),
            _styled(rb"\u", "04x"),
            _styled(rb"\\u", "04x"),
            _styled(rb"\\x", "02x"),
            _styled(rb"\u{", "x", b"}"),
            _styled(rb"\u{", "04x", b"}"),
            _styled(rb"\x{", "x", b"}"),
            _styled(rb"\U", "08x"),
            _styled(b"\\", "03o"),
            _styled(b"\\", "x", b" "),
            _styled(b"%u", "04x"),
            _styled(b"U+", "04x"),
            _styled(b"U+", "04x", b" "),
        ),
        _replaced("escape", _ESCAPE, _unescape),
        signs=re.compile(rb"\\(?:u00[0-9a-fA-F]{2}|x[0-9a-fA-F]{2}|[\"nt/\\])"),
    ),
    Decoder(
        "entity",
        _spelled(
            _styled(b"&#", "d", b";"),
            _styled(b"&#", "03d", b";"),
            _styled(b"&#", "04d", b";"),
            _styled(b"&#x", "x", b";"),
            _styled(b"&#x", "04x", b";"),
        ),
        _replaced("entity", _ENTITY, _unentity),
        signs=re.compile(rb"&(?:#[xX]?[0-9A-Fa-f]{2,6}|quot|apos|amp|lt|gt|equals|plus|sol|colon);"),
    ),
    Decoder(
        "quoted-printable",
        _spelled(_styled(b"=", "02x")),
        _replaced("quoted-printable", _QUOTED, _unquote),
        joint=rb"=\r?\n",
        signs=re.compile(rb"=(?:3D|\r?\n)"),
    ),
    Decoder(
        "concatenation",
        _nothing,
        _concatenated,
        joint=rb"(?:" + _JOINED + rb"|" + _LOOSE + rb")",
        signs=re.compile(_JOINED),
    ),
)
"""Every encoding that is undone. The order is that of preference where two decoders read the same place."""
