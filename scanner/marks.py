"""Inline marks: a word in the line that says a key there is meant to be there. Pure."""

from __future__ import annotations

import bisect
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Final

from firedamp.scanner.candidates import Credential, Located
from firedamp.storage.records import MARK_BETWEEN, Skipped

_UTF_16: Final = "utf-16"
OWN: Final = "firedamp:allow"
MARKS: Final = (
    OWN,
    "gitleaks:allow",
    "betterleaks:allow",
    "trufflehog:ignore",
    "pragma: allowlist secret",
    "kingfisher:ignore",
    "ggignore",
)
"""Ours is always honoured; those of other tools where the user says so. All are noted with the match, so that this can
change without reading anything again."""

_PARTS: Final = (b":allow", b"ignore", b"allowlist")
"""Every mark holds one of these."""
_ANY: Final = re.compile(rb"(?<![\w:.-])(?:%b)(?![\w:-])" % b"|".join(re.escape(mark.encode()) for mark in MARKS))


def _lines(text: bytes) -> list[tuple[int, int, tuple[str, ...]]]:
    """Return where each line begins and ends that has marks, and its marks."""
    # Literals one after the other: an expression of all marks takes ten times as long.
    spans = sorted({span for part in _PARTS for span in _with(part, text)})
    there = ((start, end, tuple(mark.decode() for mark in _ANY.findall(text, start, end))) for start, end in spans)
    return [line for line in there if line[2]]


def _with(part: bytes, text: bytes) -> Iterator[tuple[int, int]]:
    """Yield where each line begins and ends that has part in it."""
    end = 0
    while (at := text.find(part, end)) >= 0:
        start, end = text.rfind(b"\n", end, at) + 1 or end, text.find(b"\n", at)
        end = end if end >= 0 else len(text)
        yield start, end


def beside(text: bytes, found: Iterable[tuple[int, Credential]]) -> Iterator[tuple[int, Credential]]:
    """Yield found, credentials at offsets of a decoded text, with the marks that stand in their lines."""
    lines: list[tuple[int, int, tuple[str, ...]]] | None = None
    for at, one in found:
        lines = _lines(text) if lines is None else lines
        line = bisect.bisect_right(lines, at, key=lambda each: each[0]) - 1
        yield at, replace(one, allowed=lines[line][2]) if line >= 0 and at < lines[line][1] else one


def marked(found: Sequence[Located | Skipped], data: bytes, first_line: int) -> Iterator[Located | Skipped]:
    """Yield found, with the marks that stand in a credential's line. data begins with line first_line."""
    if any(isinstance(each, Located) and _UTF_16 in each.credential.decoder for each in found):
        # A file in UTF-16 has its marks in UTF-16. What finds keys is loaded, for some were found.
        from firedamp.scanner.detect import encoding_of

        data = data.decode(encoding_of(data) or "latin-1", "replace").encode()
    numbered: dict[int | None, tuple[str, ...]] = {}
    line, at = first_line, 0
    for start, _, names in _lines(data) if found else ():
        line, at = line + data.count(b"\n", at, start), start
        numbered[line] = names
    for each in found:
        if isinstance(each, Located) and (there := (*each.credential.allowed, *numbered.get(each.line, ()))):
            yield replace(each, allowed=MARK_BETWEEN.join(dict.fromkeys(there)))
        else:
            yield each
