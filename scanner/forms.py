"""What the prefilter looks for: every head of `keys.KINDS` in every encoding of `decode`. Pure.

Almost every form is a literal: hyperscan finds thousands of those at the speed of a few. Expressions are Hyperscan
syntax; bytes that are no letters or digits are written by number, NUL too (DESIGN, section 7).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Final

from firedamp.scanner import patches
from firedamp.scanner.candidates import Role
from firedamp.scanner.decode import DECODERS, EVENT
from firedamp.scanner.keys import KINDS, Shape, shape
from firedamp.scanner.runs import Encoded
from firedamp.scanner.spelling import CHARACTERS, DUMP, DUMP_ROW, DUMPED

BASE64_DEPTH: Final = 5
"""How often base64 within base64 is recognised from outside. Other encodings are recognised inside base64; base64,
UTF-16 and hex inside each other, three deep, and percent-encoded. What is deeper is a long run that decodes to text
(`textruns`)."""
_DEEP_HEADS: Final = (b"AKIA", b"ASIA")
"""The heads looked for beyond two levels of base64: each level has three alignments, so the forms triple."""
_TAIL: Final = 2
"""Characters after an id's head that base64 is asked to show: without them chance would find too much in it."""
_APART: Final = tuple(
    quote + sign + quote
    for quote in (b'"', b"'")
    for sign in (b"", b" ", b",", b", ", b"+", b" + ", b".", b" . ", b" & ")
)
"""Between the pieces of a head that is cut more than once, its end counted. Literals: sets of characters here would
cost a quarter of the prefilter's speed."""
_LINE_ENDS: Final = (b"\n", b"\r\n", b" \r", b"\x1b[K\r\n", b"\n> ", rb"\n", rb"\r\n", rb"\\n", rb"\\r\\n", rb" \r")
"""How a line ends in a head: as it is, for the same reason."""
_NOUGHTS: Final = (
    ("percent", b"%00"), ("quoted-printable", b"=00"), ("entity", b"&#0;"), ("entity", b"&#x0;"),
    *(("escape", style) for style in (rb"\x00", rb"\u0000", rb"\\u0000", rb"\000")),
)  # fmt: skip
"""How notations that leave letters readable write the nought between those of UTF-16."""
_SHORTEST: Final = 4
_SHORTEST_INSIDE: Final = 5
"""Bytes of the shortest literal worth looking for; one more inside another encoding, where there are more of them."""


@dataclass(frozen=True, slots=True)
class Form:
    """One thing to look for.

    kind and size: for a value as it stands, its row in KINDS and how many bytes before the end of the hit it begins;
    size 0 is a name beside a value. decoder and phase: for an encoded one, its outermost decoder's row in DECODERS and
    the place of the hit's end in that encoding's rhythm.
    """

    expression: bytes
    kind: int | None = None
    size: int = 0
    decoder: int | None = None
    phase: int = 0


def expression(positions: Shape) -> bytes:
    """Write a shape as an expression."""
    parts: list[bytes] = []
    for values, group in itertools.groupby(positions):
        count = len(list(group))
        one = _class(values)
        parts.append(one * count if count < 3 else one + b"{%d}" % count)
    return b"".join(parts)


@cache
def _class(values: bytes) -> bytes:
    escaped = [bytes([v]) if bytes([v]).isalnum() else b"\\x%02x" % v for v in values]
    return escaped[0] if len(escaped) == 1 else b"[" + b"".join(escaped) + b"]"


def _number(name: str) -> int:
    return next(number for number, decoder in enumerate(DECODERS) if decoder.name == name)


_BASE64: Final = _number("base64")
_DENSE: Final = (_BASE64, _number("utf-16"), _number("hex"))
_AROUND_DENSE: Final = (*_DENSE, _number("percent"))


def _literal(number: int, encoded: Encoded, shortest: int) -> Form | None:
    """Return the form for the longest literal part of what a decoder encodes to, if that is long enough."""
    low = high = at = 0
    for single, group in itertools.groupby(encoded.shape, key=lambda values: len(values) == 1):
        length = len(list(group))
        if single and length > high - low:
            low, high = at, at + length
        at += length
    if high - low < shortest:
        return None
    rhythm = DECODERS[number].rhythm
    return Form(
        expression(encoded.shape[low:high]), decoder=number, phase=(encoded.phase - len(encoded.shape) + high) % rhythm
    )


def _ids() -> Iterator[tuple[bytes, Shape]]:
    """Yield the head and the shape of every sort of key id."""
    for kind in KINDS:
        if kind.role is Role.KEY_ID:
            yield from zip(kind.heads, kind.shapes, strict=False)


def _raw() -> Iterator[Form]:
    for number, kind in enumerate(KINDS):
        yield from (Form(expression(one), kind=number, size=len(one)) for one in kind.shapes)
        yield from (Form(text, kind=number) for text in kind.expressions)


def _once() -> Iterator[Form]:
    """Yield every head and every name in one encoding."""
    ids = {head for head, _ in _ids()}
    for text in itertools.chain.from_iterable((*kind.heads, *kind.words) for kind in KINDS):
        for number, decoder in enumerate(DECODERS):
            if number != _BASE64 or text not in ids:
                for encoded in decoder.shapes(shape(text)):
                    if (form := _literal(number, encoded, _SHORTEST)) is not None:
                        yield form
    for head, one in _ids():
        for encoded in DECODERS[_BASE64].shapes(one[: len(head) + _TAIL]):
            yield Form(expression(encoded.shape), decoder=_BASE64, phase=encoded.phase)


def _pieces(head: bytes) -> Iterator[list[bytes]]:
    """Yield every way to cut a head into pieces."""
    for count in range(1, len(head)):
        for cuts in itertools.combinations(range(1, len(head)), count):
            yield [head[low:high] for low, high in itertools.pairwise((0, *cuts, len(head)))]


def _cut() -> Iterator[Form]:
    """Yield key ids cut in two: a raw one by what a decoder takes out, an encoded one by the end of a line."""
    for head, one in _ids():
        for pieces in _pieces(head):
            for joint in _APART:
                text = joint.join(pieces) + (joint if len(pieces) == 2 else b"")
                yield Form(expression(shape(text)), decoder=_number("concatenation"))
        for pieces in ([head], *_pieces(head)):
            text = EVENT.join(pieces) + (EVENT if len(pieces) < 3 else b"")
            yield Form(text, decoder=_number("concatenation"))
        # A head in two lines of a screen, or of a reply.
        for at, joint in itertools.product(range(1, len(head)), _LINE_ENDS):
            yield Form(expression(shape(head[:at] + joint + head[at:])), decoder=_number("concatenation"))
        # An id whose line ends too early. What goes on would cost a tenth of the speed.
        cut = head + _class(one[len(head)]) + rb"{0,15} ?[\r\n\x1b\x5c]"
        yield Form(cut, decoder=_number("concatenation"))
        for number, decoder in enumerate(DECODERS):
            if decoder.joint:
                tail = _class(one[len(head)])
                yield from (
                    Form(
                        expression(shape(head[:at])) + decoder.joint + expression(shape(head[at:])) + tail,
                        decoder=number,
                    )
                    for at in range(1, len(head))
                )
                longest = len(one) - len(head) - 1
                yield Form(head + tail + b"{0,%d}" % longest + decoder.joint + tail, decoder=number)
            if decoder.wrap:
                for encoded in decoder.shapes(one[: len(head) + _TAIL]):
                    for at in range(1, len(encoded.shape)):
                        text = expression(encoded.shape[:at]) + decoder.wrap + expression(encoded.shape[at:])
                        yield Form(text, decoder=number, phase=encoded.phase)


def _spelled() -> Iterator[Form]:
    """Yield the heads of key ids as lists of characters. Only as they stand: inside other encodings these are text."""
    for head, _ in _ids():
        for style in CHARACTERS:
            yield from (Form(expression(one.shape), decoder=_number("characters")) for one in style(shape(head)))


def _sparse() -> Iterator[Form]:
    """Yield key ids in UTF-16 of which only the noughts are encoded, as in a URL, in JSON or in mail."""
    for head, _ in _ids():
        letters = [head[at : at + 1] for at in range(len(head))]
        for name, nought in _NOUGHTS:
            yield Form(expression(shape(nought.join(letters))), decoder=_number(name))


def _dumped() -> Iterator[Form]:
    """Yield hex dumps, for what was encoded before, and key ids that a row ends in, in the text beside the bytes.

    Sixteen bytes hold no id whole. Where the row ends in the head, the next one tells the rest of it, as bytes.
    """
    yield from (Form(expression(shape(row)), decoder=_number("hex list"), phase=DUMP) for row in DUMPED)
    end = rb"\|?\r?\n" + DUMP_ROW
    for head, one in _ids():
        yield Form(head + _class(one[len(head)]) + rb"{0,12}" + end, decoder=_number("hex list"))
        for at in range(1, len(head)):
            rest = b" ?".join(b"%02x" % byte for byte in head[at:])
            yield Form(head[:at] + end + b"(?i:" + rest + b")", decoder=_number("hex list"))


def _twice() -> Iterator[Form]:
    """Yield key ids encoded twice: anything in base64; base64, UTF-16 and hex in each other and percent-encoded."""
    for head, one in _ids():
        for first_number, first_decoder in enumerate(DECODERS):
            for first in first_decoder.shapes(one[: len(head) + _TAIL]):
                for number in _AROUND_DENSE if first_number in _DENSE else (_BASE64,):
                    for second in DECODERS[number].shapes(first.shape):
                        form = _literal(number, second, _SHORTEST_INSIDE)
                        yield form or Form(expression(second.shape), decoder=number, phase=second.phase)


def _thrice() -> Iterator[Form]:
    """Yield key ids in three encodings: base64, UTF-16 and hex in each other, and all of that percent-encoded."""
    for head, one in _ids():
        if head in _DEEP_HEADS:
            level = [one[: len(head) + _TAIL]]
            for _ in range(2):
                level = [
                    encoded.shape for inner in level for each in _DENSE for encoded in DECODERS[each].shapes(inner)
                ]
            for inner, number in itertools.product(level, _AROUND_DENSE):
                for encoded in DECODERS[number].shapes(inner):
                    if (form := _literal(number, encoded, _SHORTEST_INSIDE)) is not None:
                        yield form


def _deep() -> Iterator[Form]:
    level = [shape(head) for head in _DEEP_HEADS]
    for depth in range(1, BASE64_DEPTH + 1):
        encoded = [one for inner in level for one in DECODERS[_BASE64].shapes(inner)]
        if depth > 2:
            yield from filter(None, (_literal(_BASE64, one, _SHORTEST_INSIDE) for one in encoded))
        level = [one.shape for one in encoded]


# Compressed data inside base64: gzip, bzip2, xz, zstd and zip by how they begin, which stands at the first alignment;
# zlib by its two bytes (default and best compression), at the start of a long run. The latter is written out as
# literals of four bytes: one expression with sets of characters would cost a third of the whole prefilter's speed.
_MAGICS: Final = (
    shape(b"\x1f\x8b\x08", bytes(range(32))),
    shape(b"BZh", b"123456789", *shape(b"1AY&SY")),
    shape(b"\xfd7zXZ\x00"),
    shape(b"\x28\xb5\x2f\xfd"),
    shape(b"PK\x03\x04", b"\x0a\x14\x2d\x2e\x3f", b"\x00"),
)
"""gzip with method and flags, bzip2 with its first block, xz, zstd, zip with the version that is needed."""
_ZLIB_BORDERS: Final = (b'"', b"'", b" ", b"=", b":", rb"\n", b">")
_ZLIB_QUOTED: Final = (b"%22", b"%3D", b"%3d", b"%3A", b"%3a", b"%20", b"&quot;", b"u0022", b"u003d", b"u003D")
"""Borders in a notation that may quote each sign of what follows, so that no long run tells it."""
_ZLIB_STARTS: Final = (b"eJw", b"eJx", b"eJy", b"eJz", b"eNo", b"eNp", b"eNq", b"eNr")


def _compressed() -> Iterator[Form]:
    for magic in _MAGICS:
        first = next(DECODERS[_BASE64].shapes(magic))
        yield Form(expression(first.shape), decoder=_BASE64, phase=first.phase)
        for number in _DENSE:
            for second in DECODERS[number].shapes(first.shape):
                if (form := _literal(number, second, _SHORTEST_INSIDE)) is not None:
                    yield form
    for border, start in itertools.product(_ZLIB_BORDERS, _ZLIB_STARTS):
        yield Form(border + start + b"[A-Za-z0-9+/_-]{61}", decoder=_BASE64)
    for border, start in itertools.product(_ZLIB_QUOTED, _ZLIB_STARTS):
        yield Form(border + start + b"[A-Za-z0-9]", decoder=_BASE64)


def _patched() -> Iterator[Form]:
    # The head alone stands in every version of programs that write or read patches.
    yield Form(patches.HEAD + rb"\r?\n[ \t]{0,16}(?:literal|delta) [0-9]", decoder=_number("git patch"))


def _distinct(*groups: Iterable[Form]) -> tuple[Form, ...]:
    made: dict[bytes, Form] = {}
    for form in itertools.chain(*groups):
        made.setdefault(form.expression, form)
    return tuple(made.values())


@cache
def forms() -> tuple[Form, ...]:
    """Return everything the prefilter looks for, each expression once, the least encoded first."""
    return _distinct(
        _raw(),
        _once(),
        _cut(),
        _spelled(),
        _sparse(),
        _dumped(),
        _twice(),
        _thrice(),
        _deep(),
        _compressed(),
        _patched(),
    )


def of_runs(decoders: Iterable[str]) -> Iterator[Form]:
    """Yield what stands for a run that is told by what it decodes to: it ends where the decoder's rhythm begins."""
    yield from (Form(b"", decoder=_number(name)) for name in decoders)
