"""What the decoders share: the records of a decoded run, and the rules of how far to look. Pure."""

from __future__ import annotations

import bisect
import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import regex

from firedamp.scanner.keys import Shape

RUN_LIMIT: Final = 4 << 20
"""Bytes of one encoded run that are decoded, half of them on each side of the hit."""
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


def source(segments: Sequence[Segment], offset: int) -> tuple[int, str]:
    """Return where a decoded byte comes from, and the encodings undone there."""
    here = segments[max(0, bisect.bisect_right(segments, offset, key=lambda one: one.at) - 1)]
    return here.source + (offset - here.at) * here.numerator // here.denominator, here.via


@dataclass(frozen=True, slots=True)
class Run:
    """text[start:end] decoded. cut says that a limit ended it early.

    changed: the parts of out that decoding changed, where it left most as it was; None where all of it is new. What
    stands elsewhere was seen before, and is not decoded once more from here. spent: bytes unpacked on the way.
    """

    start: int
    end: int
    out: bytes
    segments: tuple[Segment, ...]
    cut: bool = False
    changed: tuple[tuple[int, int], ...] | None = None
    spent: int = 0

    def source(self, offset: int) -> int:
        """Return where in the encoded text a byte of out comes from."""
        return source(self.segments, offset)[0]


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
    hides: how it writes what parts rows and columns: asked for around ids that seem to have one.
    rhythm: after how many encoded bytes the phase is the same again.
    """

    name: str
    shapes: Callable[[Shape], Iterator[Encoded]]
    runs: Callable[[bytes, Sequence[Mark]], Iterator[Run]]
    joint: bytes = b""
    wrap: bytes = b""
    signs: re.Pattern[bytes] | None = None
    hides: re.Pattern[bytes] | None = None
    rhythm: int = 1


def windows(marks: Iterable[Mark], size: int, reach: int = REACH) -> Iterator[tuple[int, int]]:
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


def printable(out: bytes) -> bool:
    """Whether decoded bytes are plain text, as a value is that was encoded by itself."""
    return not out.translate(None, _PRINTABLE)


_NEAR: Final = 64
"""A form is no longer than this: a hit that ends so far behind a change may be due to it."""


def changed(ends: Iterable[int]) -> tuple[tuple[int, int], ...]:
    """Return the stretches where a hit may be new, from the offsets (ascending) at which a change ends."""
    spans: list[tuple[int, int]] = []
    for end in ends:
        start = max(0, end - 1)
        if spans and start <= spans[-1][1]:
            spans[-1] = (spans[-1][0], end + _NEAR)
        else:
            spans.append((start, end + _NEAR))
    return tuple(spans)


def take(taken: list[tuple[int, int]], start: int, end: int) -> None:
    """Add a span to spans that are in order and apart."""
    while taken and start < taken[-1][1]:
        start, end = min(start, taken[-1][0]), max(end, taken[-1][1])
        taken.pop()
    taken.append((start, end))


def overlaps(taken: list[tuple[int, int]], start: int, end: int) -> bool:
    """Whether a span meets one of those taken."""
    at = bisect.bisect_left(taken, (end, 0)) - 1
    return at >= 0 and start < taken[at][1]


GAP: Final = (
    rb"(?:=?\r?\n(?:[ \t]{0,64}//[ \t]{1,8}|[ \t>#*]{0,64})"
    rb"|(?:%3[Dd])?(?:%0[Dd]|%5[Cc]r)?(?:%0[Aa]|%5[Cc]n)|=?(?:\\{1,4}r)?\\{1,4}n[ ]{0,64}|\\\r?\n[ \t]{0,64}"
    rb"|[\"']\s{0,8}[+.,]?\s{0,64}[\"'])"
)
"""What parts the lines of a wrapped block: line ends (in mail: soft ones) as such, escaped (JSON in JSON too, with
an indent as in YAML) or percent-encoded, quotes (of items of a list too), or line ends with a comment's or reply's
mark."""
_ESCAPED: Final = (
    rb"\\|%5[Cc]|%(?=[0-9A-Fa-f]{2})|%[0-9A-Fa-f](?=[0-9A-Fa-f])"
    rb"|\\u(?=00[23])|\\u0(?=0[23])|\\u00(?=[23])|\\u00[23](?=[0-9A-Fa-f])"
)
"""What stands before the letters and digits of an escape: of a line's end, a quote or a sign."""
_NO_NAME: Final = rb"(?![A-Za-z0-9_]|={1,2}(?!3D)[A-Za-z0-9_]|=[\"'$]|[ \t]{1,8}=|\\{0,8}[\"']?[ \t]{0,8}:)"
"""A line of a block is not the name of the next value, nor its beginning."""
_SHORTEST_LINE: Final = 20
_SOFT: Final = re.compile(rb"=\r?\n")
_SOFT_LINE: Final = 70
"""Columns of a line in quoted-printable that is broken because it is full."""
_WIDEST: Final = 512


def _begin(text: bytes, at: int) -> int:
    """Return where the line that at stands on begins; where that is too far off, at."""
    begin = text.rfind(b"\n", max(0, at - _WIDEST), at) + 1
    return begin or (0 if at <= _WIDEST else at)


def each_line(lines: Sequence[tuple[int, int]], decoded: Callable[[tuple[int, int]], Run]) -> Iterator[Run]:
    """Yield those of several lines that are text each by itself: items of a list, which only look like one block."""
    if len(lines) > 1:
        yield from (run for line in lines if printable((run := decoded(line)).out))


@dataclass(frozen=True, slots=True)
class Wrapped:
    """Runs of some alphabet, in one line or in a block of lines that are equally long but for the last."""

    back: regex.Pattern[bytes]
    forth: re.Pattern[bytes]
    previous: regex.Pattern[bytes]
    following: re.Pattern[bytes]

    @classmethod
    def of(cls, alphabet: bytes) -> Wrapped:
        """Return the runs of an alphabet, given as a set of characters. The rest of an escape begins no run."""
        border = rb"(?<!" + _ESCAPED + rb")"
        return cls(
            regex.compile(rb"(?r)" + border + alphabet + rb"*"),
            re.compile(alphabet + rb"*"),
            regex.compile(rb"(?r)" + border + rb"(" + alphabet + rb"+)" + GAP),
            re.compile(GAP + rb"(" + alphabet + rb"++)" + _NO_NAME),
        )

    def lines(self, text: bytes, at: int) -> list[tuple[int, int]]:
        """Return the lines of the run around at. One joined by mistake does no harm: it only adds noise."""
        low, high = max(0, at - RUN_LIMIT // 2), min(len(text), at + RUN_LIMIT // 2)
        back, forth = self.back.match(text, low, at), self.forth.match(text, at, high)
        start, end = back.start() if back else at, forth.end() if forth else at
        lines, width = [(start, end)], 0
        while (found := self.previous.match(text, low, lines[-1][0])) is not None:
            length = found.end(1) - found.start(1)
            wide = width or end - start
            if length < wide == found.end(1) - _begin(text, found.start(1)):
                width = wide
                lines.append(found.span(1))  # it begins with a name
                break
            if length < _SHORTEST_LINE or (length != width if width else length < end - start):
                break
            width = length
            lines.append(found.span(1))
        lines.reverse()
        width = width or end - start
        # A first line that begins with a name is as wide as the others with it.
        if len(lines) == 1 and (after := self.following.match(text, end, high)) is not None:
            columns = end - _begin(text, start)
            if after.end(1) - after.start(1) == columns or (_SOFT.match(text, end) and columns >= _SOFT_LINE):
                lines.append(after.span(1))
                width = columns
        while lines[-1][1] - lines[-1][0] == width and (after := self.following.match(text, lines[-1][1], high)):
            if after.end(1) - after.start(1) > width or width < _SHORTEST_LINE:
                break
            lines.append(after.span(1))
        return lines

    def marked(
        self, text: bytes, marks: Sequence[Mark], rhythm: int, taken: list[tuple[int, int]]
    ) -> Iterator[tuple[list[tuple[int, int]], int, bool]]:
        """Yield the lines of each run that holds a mark, and how many of its characters come before the rhythm begins.

        A run is read once in each rhythm, however many marks it has; at the end stands whether this is the first. taken
        receives where the runs stand.
        """
        lines: list[tuple[int, int]] = []
        lengths: list[int] = []
        shifts: set[int] = set()
        for mark in marks:
            if mark.phase < 0:
                continue
            if not lines or mark.end > lines[-1][1]:
                lines, shifts = self.lines(text, mark.end), set()
                lengths = list(itertools.accumulate((end - start for start, end in lines), initial=0))
                take(taken, lines[0][0], lines[-1][1])
            line = max(0, bisect.bisect_left(lines, (mark.end, 0)) - 1)
            shift = (lengths[line] + mark.end - lines[line][0] - mark.phase) % rhythm
            if shift not in shifts:
                first = not shifts
                shifts.add(shift)
                yield lines, shift, first
