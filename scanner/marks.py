"""Inline marks: a word in the line that says a key there is meant to be there. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from firedamp.scanner.candidates import Located
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


def marked(found: Sequence[Located | Skipped], data: bytes, first_line: int) -> Iterator[Located | Skipped]:
    """Yield found, with the marks that stand in a credential's line. data begins with line first_line."""
    if any(isinstance(each, Located) and _UTF_16 in each.credential.decoder for each in found):
        # A file in UTF-16 has its marks in UTF-16. What finds keys is loaded, for some were found.
        from firedamp.scanner.detect import encoding_of

        data = data.decode(encoding_of(data) or "latin-1", "replace").encode()
    # Literals one after the other: an expression of all marks takes ten times as long.
    if not found or not any(part in data for part in _PARTS):
        yield from found
        return
    lines: list[bytes] | None = None
    for each in found:
        if isinstance(each, Skipped) or each.line is None:
            yield each
            continue
        lines = data.split(b"\n") if lines is None else lines
        there = _ANY.findall(lines[each.line - first_line]) if each.line - first_line < len(lines) else ()
        names = MARK_BETWEEN.join(dict.fromkeys(mark.decode() for mark in there))
        yield replace(each, allowed=names) if names else each
