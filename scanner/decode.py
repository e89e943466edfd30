"""The decoders: how a value looks in each encoding, and how the text around a hit is decoded in place. Pure.

A row of `DECODERS` is all that an encoding needs. `shapes` says how a beginning looks encoded, so that the prefilter
can look for that directly; `runs` undoes the encoding around the places where it was seen, within limits. A run knows
for every decoded byte where it came from, so that a match points at the file as stored.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from typing import Final

import regex

from firedamp.scanner import packed, patches, spelling
from firedamp.scanner.candidates import Role
from firedamp.scanner.keys import KINDS, Shape
from firedamp.scanner.runs import REACH, Decoder, Encoded, Mark, Run, Segment, changed, windows
from firedamp.scanner.shape import COLOUR, plausible
from firedamp.scanner.spelling import by_number, listed, replaced, spelled, styled

# UTF-16: every other byte is nought.


def _utf16_shapes(inner: Shape) -> Iterator[Encoded]:
    yield Encoded(tuple(itertools.chain.from_iterable((values, b"\x00") for values in inner)), 0)
    yield Encoded(tuple(itertools.chain.from_iterable((b"\x00", values) for values in inner)), 1)


def _utf16_runs(text: bytes, marks: Sequence[Mark]) -> Iterator[Run]:
    plain: set[int] = set()
    for phase, parity in itertools.product((0, 1), (0, 1)):
        # Plain ASCII reads the same as little and big endian: once is enough.
        chosen = [m for m in marks if m.phase == phase and m.end % 2 == parity and m.end + 1 not in plain]
        for start, high in windows(chosen, len(text), 4 * REACH):
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


# EBCDIC: letters and digits stand in the same places in every Latin code page of it, and lines end with 0x15 or 0x25.

_FROM_EBCDIC: Final = bytes(range(256)).decode("cp037").translate({0x85: "\n"}).encode("latin-1")
_TO_EBCDIC: Final = bytes(map(bytes(range(256)).decode("cp037").encode("latin-1").index, range(256)))


def _ebcdic_shapes(inner: Shape) -> Iterator[Encoded]:
    yield Encoded(tuple(values.translate(_TO_EBCDIC) for values in inner))


def _ebcdic_runs(text: bytes, marks: Sequence[Mark]) -> Iterator[Run]:
    for low, high in windows(marks, len(text), 2 * REACH):
        yield Run(low, high, text[low:high].translate(_FROM_EBCDIC), (Segment(0, low, 1, 1, "ebcdic"),))


# A string cut into literals: by an operator, over lines, or side by side.
_OPEN: Final = rb"[bBrRuUfFL@$]{0,2}[\"'`]"
_OPERATOR: Final = rb"(?:\+\+?|\.\.?|&|~|\^|\|\||<>|\\)"
_REMARK: Final = rb"(?:_[ \t]{0,8}\r?\n|//[^\n]{0,40}\n|/\*[^*\n]{0,40}\*/)"
"""What may follow an operator: a comment, or how Visual Basic goes on in the next line."""
_INVISIBLE: Final = rb"(?:\xe2\x80[\x8b-\x8d]|\xc2\xad|<wbr ?/?>|&(?:shy|#8203|#173);)"
"""Where a browser may break a long word: zero-width spaces and soft hyphens."""
_COLOURS: Final = b"(?:" + COLOUR.encode() + b"){1,4}"
"""Between the pieces of a value: what was searched for, or words and signs of a language, in colours of their own."""
_NEXT_LINE: Final = rb"[\"'`][ \t]{0,8}\r?\n\s{0,64}" + _OPEN
EVENT: Final = rb'"\]\r?\n(?:\[[0-9.]{1,12}, ?"i", ?"[^"\n]{0,12}"\]\r?\n)?\[[0-9.]{1,12}, ?"o", ?"'
"""Between what a recording of asciinema shows one moment and the next: a few letters, perhaps kept as typed."""
_JOINED: Final = (
    rb"[\"'`]\s{0,40}" + _OPERATOR + rb"[ \t]{0,8}" + _REMARK + rb"?\s{0,64}" + _OPEN
    + rb"|" + _NEXT_LINE
    + rb"|\\\r?\n[ \t]{0,64}"
    + rb"|" + _INVISIBLE
    + rb"|" + EVENT
)  # fmt: skip
_SURE: Final = _JOINED + rb"|(?<=[A-Za-z0-9+/])" + _COLOURS + rb"(?=[A-Za-z0-9+/])"
"""Joints as they stand in text. A log is full of colours: those between a word and a blank join nothing."""
_WRAP: Final = (
    rb"(?:" + COLOUR.encode() + rb"){0,2}"
    rb"(?: ?\r?\n[ \t>#*]{0,16}|(?:\\{1,8}r)?\\{1,8}n[ >]{0,16}| \r| \\{1,8}r)"
)
"""Where a terminal goes on in its next line: copied from its screen, or as a shell that edits a line writes it."""
_FIRST: Final = rb"[\"'`\\\x1b#^\xe2\xc2<&\r\n]"
"""What a joint begins with, but for a blank: asked first, for that takes a quarter to a third of the time."""
_SIGNS: Final = re.compile(
    rb"(?=" + _FIRST + rb")"
    rb"(?:" + _SURE + rb"|(?<=[A-Za-z0-9+/]{20})[\r\n\\\x1b]|(?<=[A-Za-z0-9+/]{20} )[\r\n\\]"
    rb"|(?:\r?\n[ \t>#*]{0,16}|\\{1,8}[nr][ >]{0,16}|\r)[A-Za-z0-9+/]{20,39}(?![A-Za-z0-9+/]))"
)
"""Joints, and lines that end or begin with a secret's larger part: most words there are passed by."""
_LINE_END: Final = re.compile(rb"[\r\n]|\\[rn]")
_FULL_LINE: Final = re.compile(rb"(?=([A-Za-z0-9+/]{20,39})" + _WRAP + rb"([A-Za-z0-9+/]{1,20})(?![A-Za-z0-9+/]))")
"""What is left of a secret that takes a whole line and goes on in the next."""
_NARROW, _NARROWEST, _WIDEST = 40, 20, 512
"""Columns of a terminal: below the first, of half a screen or a telephone."""
_LOOSE: Final = rb"[\"'`][ \t]{0,8},?\s{0,64}" + _OPEN
_JOINS: Final = re.compile(
    rb"(?=" + _FIRST + rb"| [\r\n\\])"
    rb"(?:(?P<line>" + _NEXT_LINE + rb")|(?P<sure>" + _SURE + rb")"
    rb"|(?<=[A-Za-z0-9+/])(?P<wrap>" + _WRAP + rb")(?=[A-Za-z0-9+/])"
    rb"|[\"'`][ \t]{0,8}(?P<comma>,?)\s{0,64}" + _OPEN + rb")"
)  # fmt: skip
_LITERAL_END: Final = regex.compile(rb"(?r)[A-Za-z0-9+/]{0,41}")
_LITERAL_START: Final = re.compile(rb"[A-Za-z0-9+/]{0,41}")
_ID: Final = re.compile(b"|".join(kind.exact.pattern for kind in KINDS if kind.exact and kind.role is Role.KEY_ID))
_SECRET_SIZE: Final = 40
_ID_SIZE: Final = 20
_ITEM: Final = re.compile(
    rb"[\"'`](?P<between>[ \t]{0,8},?\s{0,64})" + _OPEN + rb"(?P<value>[A-Za-z0-9+/]{1,39})(?=[\"'`])"
)
_JOINER: Final = re.compile(
    rb"(?i)(?:join|concat|implode|paste|strcat|sprint)[^;]{0,32}[\[({,]\s{0,40}" + _OPEN + rb"\Z"
)
_JOINER_BEHIND: Final = re.compile(rb"[\"'`],?\s{0,40}\]\s{0,40}\.(?:join|inject|reduce)\b")
"""What makes one value of the literals that follow, or that stand before."""
_JOINER_REACH: Final = 96
_MOST_PIECES: Final = 8
"""Literals that make one value: to look further from each item of a long list takes seconds a megabyte."""
_SECRET: Final = re.compile(rb"[A-Za-z0-9+/]{%d}" % _SECRET_SIZE)


def _concatenated(text: bytes, marks: Sequence[Mark]) -> Iterator[Run]:
    for low, high in windows(marks, len(text)):
        parts: list[bytes] = []
        segments: list[Segment] = []
        joined: list[int] = []
        wrapped = listed_to = -1
        at, done, start = 0, low, low
        while (found := _JOINS.search(text, start, high)) is not None:
            behind = done if joined else -1
            if found["line"]:
                joins = _goes_on(text, found, behind)
            elif found["wrap"]:
                wrapped = max(wrapped, _wrapped_to(text, found))
                joins = found.start() < wrapped
            else:
                joins = bool(found["sure"]) or found.start() < listed_to or _is_one_value(text, found)
                if not joins:
                    listed_to = _listed_to(text, found)
                    joins = found.start() < listed_to
            if not joins:
                start = found.start() + 1
                continue
            parts.append(text[done : found.start()])
            segments.append(Segment(at, done, via="concatenation"))
            at, done, start = at + found.start() - done, found.end(), found.end()
            joined.append(at)
        if parts:
            parts.append(text[done:high])
            segments.append(Segment(at, done, via="concatenation"))
            yield Run(low, high, b"".join(parts), tuple(segments), changed=changed(joined))


def _beside(text: bytes, joint: re.Match[bytes]) -> tuple[bytes, bytes]:
    """Return what of a value ends the literal before a joint, and what begins the one behind it."""
    after = _LITERAL_START.match(text, joint.end())
    return _before(text, joint), b"" if after is None else after[0]


def _before(text: bytes, joint: re.Match[bytes]) -> bytes:
    """Return what of a value ends the literal before a joint."""
    before = _LITERAL_END.match(text, 0, joint.start())
    return b"" if before is None else before[0]


def _is_one_value(text: bytes, joint: re.Match[bytes]) -> bool:
    """Whether two literals that a comma or a blank parts are an id cut in two, or a secret that a blank cuts.

    Elsewhere they are items: words of a list, an id and its secret.
    """
    value = b"".join(_beside(text, joint))
    return _ID.fullmatch(value) is not None or (not joint["comma"] and _SECRET.fullmatch(value) is not None)


def _listed_to(text: bytes, joint: re.Match[bytes]) -> int:
    """Return where the literals end that make one value with the one before a joint; -1 if they are items of a list.

    Three and more that are an id; some that are a secret, where a function joins them or no comma parts them. Where
    anything parts them only a function makes an id without digits: a list of words may hold one. Characters one by one
    are another decoder's.
    """
    value, end, count, between = _before(text, joint), joint.start(), 1, b""
    start = end - len(value)
    while (
        value
        and len(value) < _SECRET_SIZE
        and count < _MOST_PIECES
        and (count < 3 or len(value) > count)
        and (item := _ITEM.match(text, end)) is not None
    ):
        value, end, count, between = value + item["value"], item.end(), count + 1, between + item["between"]
        if 2 < count < len(value) == _ID_SIZE and _ID.fullmatch(value) is not None:
            return end if not between or not value.isalpha() or _are_joined(text, start, end) else -1
    if len(value) != _SECRET_SIZE:
        return -1
    return end if (_are_joined(text, start, end) if b"," in between else plausible(value.decode())) else -1


def _are_joined(text: bytes, start: int, end: int) -> bool:
    """Whether a function makes one value of the literals from start to end."""
    before = _JOINER.search(text, max(0, start - _JOINER_REACH), start)
    return before is not None or _JOINER_BEHIND.match(text, end) is not None


def _goes_on(text: bytes, joint: re.Match[bytes], behind: int) -> bool:
    """Whether the literal that ends a line goes on in the one that begins the next. behind: the end of the last joint.

    Not where one is a value by itself, or empty: they are rows of a table, or items. Lines of one length are a long
    value.
    """
    before, after = _beside(text, joint)
    if joint.start() - len(before) == behind:
        return True
    if text[joint.start() - 1 : joint.start()] == joint[0][:1] or text[joint.end() : joint.end() + 1] == joint[0][-1:]:
        return False
    values = (before, after)
    if len(before) != len(after) and any(_SECRET.fullmatch(value) for value in values):
        return False
    return not any(_ID.fullmatch(value) for value in values)


def _wrapped_to(text: bytes, joint: re.Match[bytes]) -> int:
    """Return where a value ends that goes on in the next lines because its own was full; -1 if none does.

    The last line is no longer. A secret may fill a line of a narrow terminal, and go on in one more; there the first of
    its lines begins with something else: items on lines of their own are no value.
    """
    before, after = _beside(text, joint)
    if _ID.fullmatch(before) or _ID.fullmatch(after):
        return -1
    value, last = before + after, joint
    full = _FULL_LINE.match(text, joint.end()) if len(value) < _SECRET_SIZE else None
    if full is not None and (further := _JOINS.match(text, full.end(1))) is not None:
        value, last = value + full[2], further
    is_secret = _SECRET.fullmatch(value) is not None and plausible(value.decode())
    if not is_secret and not _ID.fullmatch(value):
        return -1
    low = max(0, joint.start() - _WIDEST)
    begin = max((end.end() for end in _LINE_END.finditer(text, low, joint.start())), default=0)
    width = joint.start() - begin
    is_item = not text[begin : joint.start() - len(before)].strip(b" \t>#*")
    if not _NARROWEST <= width < _WIDEST or (width < _NARROW and is_item):
        return -1
    if full is not None:
        begin = max(end.end() for end in _LINE_END.finditer(text, joint.start(), joint.end()))
        if full.end(1) - begin != width:
            return -1
    below = _LINE_END.search(text, last.end(), last.end() + _WIDEST)
    # The next line may end as its own does, in a colour or with backslashes.
    rest = (len(text) if below is None else below.start()) - last.end() - len(last[0])
    return last.end() if rest <= width else -1


def _nothing(_inner: Shape) -> Iterator[Encoded]:
    return iter(())


DECODERS: Final[tuple[Decoder, ...]] = (
    Decoder(
        "base64",
        packed.shapes,
        packed.runs,
        wrap=rb"[\s\\nr\"'+.,>#*/]{1,72}",
        rhythm=4,
        signs=re.compile(rb"[A-Za-z0-9+/]{54}(?:==|[A-Za-z0-9+/]=|(?<![A-Za-z0-9+/]{55})(?![A-Za-z0-9+/=]))"),
    ),
    Decoder("utf-16", _utf16_shapes, _utf16_runs, rhythm=2),
    Decoder("hex", spelled(styled(b"", "02x")), spelling.hex_runs, rhythm=2, signs=spelling.HEX_SECRET),
    Decoder(
        "hex list",
        spelled(
            *(styled(b"", "02x", separator) for separator in (b" ", b":", b"-", b",")),
            *(styled(b"0x", "02x", separator) for separator in (b", ", b",", b" ", b":")),
        ),
        spelling.hex_lists,
        signs=spelling.HEX_SECRET_LIST,
    ),
    Decoder(
        "decimal",
        spelled(*(styled(b"", "d", separator) for separator in (b", ", b",", b" "))),
        listed("decimal", 10, spelling.DECIMAL_LIST),
    ),
    Decoder(
        "characters",
        _nothing,
        replaced("characters", spelling.CHARACTER, spelling.uncharacter),
        signs=spelling.CHARACTER_SECRET,
    ),
    Decoder(
        "percent",
        spelled(styled(b"%", "02x")),
        replaced("percent", spelling.PERCENT, by_number({"a": 16})),
        signs=re.compile(rb"%(?:3[AaDd]|2[05BbFf]|22|0[AaDd])"),
        hides=re.compile(rb"%(?:0[9AaDd]|2[Cc])"),
    ),
    Decoder(
        "escape",
        spelled(
            styled(rb"\x", "02x"),
            styled(rb"\u", "04x"),
            styled(rb"\\u", "04x"),
            styled(rb"\\x", "02x"),
            styled(rb"\\\\u", "04x"),
            styled(rb"\u{", "x", b"}"),
            styled(rb"\u{", "04x", b"}"),
            styled(rb"\x{", "x", b"}"),
            styled(rb"\U", "08x"),
            styled(b"\\", "03o"),
            styled(b"\\", "x", b" "),
            styled(b"%u", "04x"),
            styled(b"U+", "04x"),
            styled(b"U+", "04x", b" "),
        ),
        replaced("escape", spelling.ESCAPE, spelling.unescape),
        signs=re.compile(rb"\\(?:u00[0-9a-fA-F]{2}|x[0-9a-fA-F]{2}|[\"nt/\\])"),
    ),
    Decoder(
        "entity",
        spelled(
            styled(b"&#", "d", b";"),
            styled(b"&#", "03d", b";"),
            styled(b"&#", "04d", b";"),
            styled(b"&#x", "x", b";"),
            styled(b"&#X", "x", b";"),
            styled(b"&#x", "04x", b";"),
            styled(b"&amp;#", "d", b";"),
            styled(b"&amp;#x", "x", b";"),
        ),
        replaced("entity", spelling.ENTITY, spelling.unentity),
        signs=re.compile(rb"&(?:#[xX]?[0-9A-Fa-f]{2,6}|quot|apos|amp|lt|gt|equals|plus|sol|colon);"),
    ),
    Decoder(
        "quoted-printable",
        spelled(styled(b"=", "02X")),
        replaced("quoted-printable", spelling.QUOTED, spelling.unquote),
        joint=rb"=\r?\n",
        signs=re.compile(rb"=(?:3D|\r?\n)"),
        hides=re.compile(rb"=(?:0D=0A|\r?\n)"),
    ),
    Decoder(
        "concatenation",
        _nothing,
        _concatenated,
        joint=rb"(?:" + _JOINED + rb"|" + _COLOURS + rb"|" + _LOOSE + rb")",
        signs=_SIGNS,
    ),
    Decoder("git patch", _nothing, patches.runs),
    Decoder("ebcdic", _ebcdic_shapes, _ebcdic_runs),
)
"""Every encoding that is undone. The order is that of preference where two decoders read the same place."""
