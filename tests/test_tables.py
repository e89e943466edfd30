"""Tables of plain cells: letters of any width stand in columns, and nothing in a cell reaches the terminal raw."""

from __future__ import annotations

import io
import re

import pytest

from firedamp.service import tables

ROWS = [
    ("one", "1\x1b[31m"),
    ("鍵は東京", "wide"),
    ("e\u0301t\u00e9", "two letters, one of them in two characters"),
    ("", ""),
]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def written(out: io.StringIO) -> list[str]:
    tables.lines(("name", "what"), ROWS, out)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", out.getvalue())
    return [line.rstrip() for line in plain.splitlines() if line.strip()]


def test_a_table_looks_the_same_on_a_terminal_and_in_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    plain = written(io.StringIO())
    assert plain == written(Terminal())
    assert plain[0] == "name       what"
    assert plain[3] == "鍵は東京   wide"
    assert "\x1b" not in "".join(plain)
