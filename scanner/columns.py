"""Tables whose columns are named in brackets: rows of SQL, and JSON arrays behind an array of names. Pure."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from firedamp.scanner import labels
from firedamp.scanner.labels import NAMELESS, Header, Named
from firedamp.scanner.structure import MAX_DEPTH

_SPACE: Final = r"(?:\s|\\{1,8}[nrt]){0,80}+"
_NAME: Final = r"\\{0,8}[\"'][\w .:/-]{1,80}+\\{0,8}[\"']"
# The brackets of SQL Server stand around a name.
_LIST: Final = rf"\((?P<names>(?:[^()\[\]{{}};]|\[[\w ]{{1,128}}\]){{1,{labels.LONGEST_ROW}}}+)\)"
_INSERT: Final = re.compile(rf"{_LIST}[^()\[\]{{}};]{{0,80}}?\bVALUES?\b", re.IGNORECASE)
_COPY: Final = re.compile(rf"{_LIST}{_SPACE}FROM\s{{1,80}}stdin\b(?P<options>[^;\n]{{0,200}})", re.IGNORECASE)
_ARRAY: Final = re.compile(rf"\[{_SPACE}(?P<names>{_NAME}(?:{_SPACE},{_SPACE}{_NAME}){{1,256}}+){_SPACE}\]{_SPACE},")
_BESIDE_ROWS: Final = re.compile(r"[()\[\]{};]")
_LONGEST_STRING: Final = f"{{0,{labels.LONGEST_ROW}}}+"
"""Strings are skipped for the signs in them; one that does not end is none."""
_IN_ROWS: Final = re.compile(
    rf"\\{{1,8}}\"[^\"]{_LONGEST_STRING}\"|\\.|'(?:[^'\\]|\\.){_LONGEST_STRING}'"
    rf"|\"(?:[^\"\\]|\\.){_LONGEST_STRING}\"|[()\[\]{{}},]",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Rows:
    """A table of bracketed rows. start and end are of its names; each row is where it opens, its commas, its end."""

    start: int
    end: int
    until: int
    names: tuple[Named, ...]
    rows: Sequence[tuple[int, ...]]

    def of(self, _text: str, at: int) -> Named:
        """Return the name of the column that offset at stands in."""
        row = bisect_right(self.rows, at, key=lambda borders: borders[0]) - 1
        column = bisect_right(self.rows[row], at) - 1 if row >= 0 else len(self.names)
        return self.names[column] if column < len(self.names) else NAMELESS


def tables(text: str, words: Iterable[int]) -> Iterator[Rows | Header]:
    """Yield the tables whose names stand in brackets that hold a context word, in text order. Time is linear."""
    found = [*_named(text, words)]
    nexts = [*(match.start() for match, _ in found), len(text)][1:]
    for (match, names), high in zip(found, nexts, strict=True):
        if match.re is _COPY:
            end = labels.row_end(text, match.end()) or match.end()
            yield Header(match.start(), end, high, "," if "csv" in match["options"].lower() else "\t", names)
        else:
            rows, until = _rows(text, match.end(), high, text[match.start()], len(names))
            yield Rows(match.start(), match.end(), until, names, rows)


def _named(text: str, words: Iterable[int]) -> Iterator[tuple[re.Match[str], tuple[Named, ...]]]:
    """Yield the brackets that name an id and a secret."""
    for before, at in pairwise([0, *words]):
        # A bracket that opens before the last word was tried with that.
        for sign, forms in (("(", (_INSERT, _COPY)), ("[", (_ARRAY,))):
            opening = text.rfind(sign, max(before, at - labels.LONGEST_ROW), at)
            found = next(filter(None, (form.match(text, opening) for form in forms)), None) if opening >= 0 else None
            if found is None:
                continue
            names = tuple(labels.column(name, opening) for name in labels.plain(found["names"]).split(","))
            secrets = labels.secrets_of(names)
            if secrets and any({"id", "key", "access", "accesskey"} & {*name.words} for name in {*names} - secrets):
                yield found, names


def _rows(text: str, at: int, high: int, kind: str, count: int) -> tuple[list[tuple[int, ...]], int]:
    """Return the rows of a table with count columns, each in brackets of a kind, and where the table ends."""
    rows: list[tuple[int, ...]] = []
    opened: list[list[int]] = []
    while (sign := (_IN_ROWS if opened else _BESIDE_ROWS).search(text, at, high)) is not None:
        at = sign.end()
        match sign[0]:
            case "(" | "[" | "{" if len(opened) < MAX_DEPTH:
                opened.append([sign.start()])
            case ",":
                opened[-1].append(sign.start())
            case ")" | "]" | "}" if opened:
                borders = (*opened.pop(), sign.start())
                of_rows = bool(rows) and rows[-1][0] > borders[0]
                if text[borders[0]] == kind and len(borders) == count + 1 and not of_rows:
                    rows.append(borders)
            case "(" | "[" | "{" | ")" | "]" | "}" | ";":
                return rows, sign.start()
            case _:
                pass  # a string
    return rows, high
