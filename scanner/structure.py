"""How text is built around a value: the containers that tie two values together. Pure.

No parser: brackets, tags, sections, indents, paragraphs and lines are found by one tolerant scan, which works alike in
broken files, in JSON inside a JSON string, and in source code of any language.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence
from enum import StrEnum
from typing import Final, NamedTuple

MAX_DEPTH: Final = 64
"""Brackets, tags and indents nested deeper than this tie nothing: hostile nesting stays linear."""


class Shape(StrEnum):
    """What sort of container a span is."""

    BRACKET = "bracket"
    TAG = "tag"
    SECTION = "section"
    BLOCK = "block"
    """A line and the deeper indented lines below it."""
    PARAGRAPH = "paragraph"
    LINE = "line"
    WHOLE = "whole"


class Container(NamedTuple):
    """A span of text that belongs together."""

    start: int
    end: int
    shape: Shape

    @property
    def size(self) -> int:
        """Length in characters."""
        return self.end - self.start

    def holds(self, at: int) -> bool:
        """Whether an offset stands inside."""
        return self.start <= at < self.end


# Backslashes double with every string inside a string; more than eight are no text but an attack on time.
# What it begins with is asked first: it is searched for in long texts, in a fifth of the time.
NEWLINE: Final = r"(?=[\\\r\n])(?:\r?\n|\r(?!\n)|(?:\\{1,8}r)?\\{1,8}n|(?:\\{1,8}u000[dD])?\\{1,8}u000[aA])"
"""A line's end, also as it stands inside a string, or inside a string inside a string."""
GUTTER: Final = (
    r"(?:[ ]*\d{1,6}(?:\t|\\{1,8}t|\\{1,8}u2192|\xe2\x86\x92|[|:]|[ ]{2,4}(?=\S))"
    r"|\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d{1,9})?Z?[ ](?:[A-Z]{4,5}[ ])?)"
)
"""What stands before a line's text: its number (`cat -n`, editors, AI transcripts) or its time (logs)."""
OPEN_TAG: Final = r"<|&lt;|\\{1,8}u003[cC]"
CLOSE_TAG: Final = r">|&gt;|\\{1,8}u003[eE]"
_TAG: Final = rf"(?P<end>\\{{0,8}}/?)(?P<tag>[A-Za-z][\w:.-]{{0,63}})(?:\s[^<>]{{0,400}}?)?(?<!/)(?:{CLOSE_TAG})"
# A set of single characters is found four times as fast as all that may begin there: most is brackets and line ends.
_BORDER: Final = re.compile(r"[\n{\[(}\])\r<&\\]")
_TOKEN: Final = re.compile(rf"(?:{OPEN_TAG}){_TAG}|(?P<line>{NEWLINE})")
_SECTION: Final = re.compile(r"[ \t]*\[{1,2}[A-Za-z0-9_\"'][^\[\]\n{}=,]{0,120}\]{1,2}[ \t]*(?=\r?\n|\\|$)")
_MARGIN: Final = re.compile(rf"(?:{GUTTER})?([+>]?[ \t]*(?:- +)*)")
"""What stands before a line's text, and its indent. It matches everywhere."""
_PAIRS: Final = {"}": "{", "]": "[", ")": "("}


class _Scan:
    """One pass over a window: open brackets, tags, indents, and where line, paragraph and section began."""

    def __init__(self, text: str, low: int, high: int, values: Sequence[int]) -> None:
        self.text = text
        self.low = low
        self.high = high
        self.values = values
        self.found: list[Container] = [Container(low, high, Shape.WHOLE)]
        self.brackets: list[tuple[str, int]] = []
        self.tags: list[tuple[str, int]] = []
        self.indents: list[tuple[int, int]] = []
        self.line = low
        self.paragraph = low
        self.section: tuple[int, bool] | None = None
        self.latest = -1

    def run(self) -> list[Container]:
        self.begin_line(self.low, real=True)
        done = self.low
        for border in _BORDER.finditer(self.text, self.low, self.high):
            start, sign = border.start(), border[0]
            if start < done:
                continue
            if sign == "\n":
                self.end_line(start)
                self.begin_line(start + 1, real=True)
            elif sign in "{[(":
                self.push(self.brackets, sign, start)
            elif sign in "}])":
                self.close(self.brackets, _PAIRS[sign], start + 1, Shape.BRACKET)
            elif (token := _TOKEN.match(self.text, start, self.high)) is not None:
                done = token.end()
                self.take(token)
        self.end_line(self.high)
        self.add(self.paragraph, self.high, Shape.PARAGRAPH)
        self.end_section(self.high)
        for _, start in self.indents:
            if start != self.latest:
                self.add(start, self.high, Shape.BLOCK)
        # What the window's end cuts is closed there: a bracket far up may well be closed beyond it.
        for _, start in self.brackets:
            self.add(start, self.high, Shape.BRACKET)
        return self.found

    def take(self, token: re.Match[str]) -> None:
        """Take a tag, or a line end that is no single character."""
        if token["line"] is not None:
            self.end_line(token.start())
            self.begin_line(token.end(), real=token["line"][0] != "\\")
        elif token["end"]:
            self.close(self.tags, token["tag"], token.end(), Shape.TAG)
        else:
            self.push(self.tags, token["tag"], token.start())

    def add(self, start: int, end: int, shape: Shape) -> None:
        at = bisect_left(self.values, start)
        if at < len(self.values) and self.values[at] < end:
            self.found.append(Container(start, end, shape))

    def push(self, stack: list[tuple[str, int]], name: str, start: int) -> None:
        if len(stack) == MAX_DEPTH:
            del stack[0]
        stack.append((name, start))

    def close(self, stack: list[tuple[str, int]], name: str, end: int, shape: Shape) -> None:
        """Close back to the newest opener of that name; what was left open inside it never was a container."""
        for at in range(len(stack) - 1, -1, -1):
            if stack[at][0] == name:
                self.add(stack[at][1], end, shape)
                del stack[at:]
                return

    def end_line(self, end: int) -> None:
        self.add(self.line, end, Shape.LINE)

    def begin_line(self, start: int, *, real: bool) -> None:
        text = self.text
        margin = _MARGIN.match(text, start, self.high)
        content, first = (start, start) if margin is None else margin.span(1)
        self.line = start
        if real and self.section is not None and not self.section[1]:
            self.end_section(start)
        sign = text[first] if first < self.high else "\n"
        if sign in "\r\n" or (sign == "\\" and text.startswith(("\\n", "\\r"), first)):
            self.add(self.paragraph, start, Shape.PARAGRAPH)
            self.paragraph = start
            return
        if sign == "[" and _SECTION.match(text, content, self.high) is not None:
            self.end_section(start)
            self.section = (start, real)
        depth = _column(text, content, first)
        while self.indents and self.indents[-1][0] >= depth:
            _, begun = self.indents.pop()
            if begun != self.latest:
                self.add(begun, start, Shape.BLOCK)
        self.latest = start
        if len(self.indents) < MAX_DEPTH:
            self.indents.append((depth, start))

    def end_section(self, end: int) -> None:
        if self.section is not None:
            self.add(self.section[0], end, Shape.SECTION)
            self.section = None


def _column(text: str, start: int, first: int) -> int:
    """Indent of a line; a list item's dash counts as the indent, so that its other keys stand deeper."""
    dash = text.find("-", start, first)
    return (first if dash < 0 else dash) - start


def containers(text: str, low: int, high: int, values: Sequence[int]) -> list[Container]:
    """Return the containers in text[low:high] that hold a value, in no order; the window is one, of shape WHOLE.

    values are the offsets at which they begin, sorted: most lines hold none, and nobody asks for those.
    """
    return _Scan(text, low, high, values).run()
