"""What the decoders share: the records of a decoded run, and the rules of how far to look. Pure."""

from __future__ import annotations

import bisect
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

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
