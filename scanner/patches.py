"""Binary patches (`git diff --binary`): base85 of deflated content, or of a delta's. Pure.

Format: git's diff.c, emit_binary_diff_body. A hunk is `literal SIZE` or `delta SIZE`, then lines of a letter that says
how many bytes they are (A to Z 1 to 26, a to z 27 to 52) and their base85, then an empty line.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Sequence
from typing import Final

from firedamp.scanner.inflate import unpacked
from firedamp.scanner.runs import RUN_LIMIT, Mark, Run, Segment

HEAD: Final = b"GIT binary patch"
_NEAR: Final = 64
_NAME: Final = "git patch"
_HUNK: Final = re.compile(
    rb"\s{0,80}(literal|delta) \d{1,12}\r?\n"
    rb"((?:[ \t]{0,80}[A-Za-z][0-9A-Za-z!#$%&()*+;<=>?@^_`{|}~-]{5,65}\r?(?:\n|$))+)"
)


def runs(text: bytes, marks: Sequence[Mark]) -> Iterator[Run]:
    """Decode the hunks behind each head, which stands right before a mark."""
    at = 0
    for mark in marks:
        head = text.rfind(HEAD, max(at, mark.end - _NEAR), mark.end)
        if head < 0:
            continue
        at = head + len(HEAD)
        while found := _HUNK.match(text, at, at + RUN_LIMIT):
            start, at = found.span(2)
            cut = found.end() == found.endpos < len(text)
            if (run := _hunk(found[2], start, at, delta=found[1] == b"delta", cut=cut)) is not None:
                yield run


def _hunk(lines: bytes, start: int, end: int, *, delta: bool, cut: bool) -> Run | None:
    packed = b"".join(_unlined(line) for line in lines.split())
    inflated = unpacked(packed, short=cut)
    if not inflated.pieces[0][0]:
        return None
    names, out = inflated.pieces[0]
    pieces = [(names, _inserted(out) if delta and names == ("zlib",) else out), *inflated.pieces[1:]]
    segments, at = list[Segment](), 0
    for names, piece in pieces:
        # What git packs is known by its name alone; all comes from where the hunk begins.
        segments.append(Segment(at, start, 0, 1, ">".join((_NAME, *names[1:]))))
        at += len(piece) + 1
    out = b"\n".join(piece for _, piece in pieces)
    return Run(start, end, out, tuple(segments), inflated.cut or cut, spent=inflated.spent)


def _unlined(line: bytes) -> bytes:
    """Return the bytes of a line, none where it is damaged."""
    size = line[0] - ord("A") + 1 if line[0] <= ord("Z") else line[0] - ord("a") + 27
    try:
        return base64.b85decode(line[1:])[:size]
    except ValueError:
        return b""


def _inserted(delta: bytes) -> bytes:
    """Return what a delta inserts (gitformat-pack(5)): what it copies stands in another file, a line's end for it."""
    at = 0
    for _ in range(2):  # the sizes before and after
        while at < len(delta) and delta[at] & 0x80:
            at += 1
        at += 1
    parts = list[bytes]()
    while at < len(delta):
        what = delta[at]
        at += 1
        if what & 0x80:
            at += (what & 0x7F).bit_count()
            parts.append(b"\n")
        else:
            parts.append(delta[at : at + what])
            at += what
    return b"".join(parts)
