"""How text is built around a value: its label, and the containers that tie two values together. Pure.

No parser: brackets, tags, sections, indents, paragraphs and lines are found by one tolerant scan, which works alike in
broken files, in JSON inside a JSON string, and in source code of any language.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Final

MAX_DEPTH: Final = 64
"""Brackets, tags and indents nested deeper than this tie nothing: hostile nesting stays linear."""
LONGEST_ROW: Final = 4096
"""Characters of a table's row or header."""
LOOK_BACK: Final = 240
"""Characters before a value in which its label may stand."""


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


@dataclass(frozen=True, slots=True)
class Container:
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


# A line ends at a newline, or at an escaped one inside a string; an escaped one is `\n`, `\\n`, `\u000a`.
_NEWLINE: Final = r"\r?\n|\r(?!\n)|(?:\\+r)?\\+n|(?:\\+u000[dD])?\\+u000[aA]"
_TOKENS: Final = re.compile(
    rf"(?P<open>[{{\[(])|(?P<close>[}}\])])|<(?P<end>/?)(?P<tag>[A-Za-z][\w:.-]{{0,63}})(?:\s[^<>]{{0,400}})?(?<!/)>"
    rf"|(?P<line>{_NEWLINE})"
)
_SECTION: Final = re.compile(r"[ \t]*\[{1,2}[A-Za-z0-9_\"'][^\[\]\n{}=,]{0,120}\]{1,2}[ \t]*(?=\r?\n|\\|$)")
_INDENT: Final = re.compile(r"[ \t]*(?:- +)*")
_PAIRS: Final = {"}": "{", "]": "[", ")": "("}


class _Scan:
    """One pass over a window: open brackets, tags, indents, and where line, paragraph and section began."""

    def __init__(self, text: str, low: int, high: int) -> None:
        self.text = text
        self.low = low
        self.high = high
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
        for token in _TOKENS.finditer(self.text, self.low, self.high):
            if token["line"] is not None:
                self.end_line(token.start())
                self.begin_line(token.end(), real=token["line"][0] != "\\")
            elif token["open"] is not None:
                self.push(self.brackets, token["open"], token.start())
            elif token["close"] is not None:
                self.close(self.brackets, _PAIRS[token["close"]], token.end(), Shape.BRACKET)
            elif token["end"]:
                self.close(self.tags, token["tag"], token.end(), Shape.TAG)
            else:
                self.push(self.tags, token["tag"], token.start())
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

    def add(self, start: int, end: int, shape: Shape) -> None:
        if end > start:
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
        indent = _INDENT.match(text, start, self.high)
        first = start if indent is None else indent.end()
        self.line = start
        if real and self.section is not None and not self.section[1]:
            self.end_section(start)
        if first >= self.high or text[first] in "\r\n" or text.startswith(("\\n", "\\r"), first):
            self.add(self.paragraph, start, Shape.PARAGRAPH)
            self.paragraph = start
            return
        if _SECTION.match(text, start, self.high) is not None:
            self.end_section(start)
            self.section = (start, real)
        depth = _column(text, start, first)
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


def containers(text: str, low: int, high: int) -> list[Container]:
    """Return every container in text[low:high], in no order; the window itself is one of shape WHOLE."""
    return _Scan(text, low, high).run()


class Label(IntEnum):
    """How strongly a value's label says that it is a secret access key."""

    STRONG = 0
    """`aws_secret_access_key`, `SecretAccessKey`, `fs.s3a.secret.key`, a CSV column of that name."""
    MEDIUM = 1
    """`secret`, `password`, `key`."""
    NEUTRAL = 2
    DOUBTFUL = 3
    """Inside an URL-safe token, or made of words."""
    OTHER = 4
    """The label says that it is something else: a digest, a signature, a token."""


# Words that stand between a label and its value in XML, plists, Kubernetes, CloudFormation and HTML.
_FILLER: Final = frozenset(
    "value string val default defaultvalue none text td th tr b i strong code span p em pre tt nbsp quot amp lt gt"
    " apos x env new static final const var let str plaintext kbd br li dd dt entry type description sensitive true"
    " false".split()
)
_WORD: Final = re.compile(r"[A-Za-z_$@][\w$]*(?:[.-][A-Za-z_][\w$]*|[.]\d+)*")
_TAGS: Final = re.compile(r"</?[A-Za-z][\w:.-]*\s*/?>")
_ANY_TAG: Final = re.compile(r"</?[A-Za-z][^<>]{0,80}>")
_PROMPT: Final = re.compile(r"(?<= )\[[^\[\]\n\"']{0,40}\](?=\s*:)|</[A-Za-z][\w:.-]*\s*>")
_ESCAPES: Final = re.compile(
    r"\\+(?:u[0-9a-fA-F]{4}|x[0-9a-fA-F]{2}|[nrt])|%(?:25)*[0-9a-fA-F]{2}|&(?:[a-z]{2,6}|#\w{1,5});"
    r"|(?:\x1b|\\+u001[bB]|\\+033)\[[0-9;]*m"
)
_CAMEL: Final = re.compile(r"[sS]3[aAnN]?(?![a-z])|[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_STRONG: Final = re.compile(
    r"secret(?:access)?key|secretaccess|access(?:key)?secret|awssecret|s3secret|secretaws|amazonsecret|iamsecret|awssk$"
)
_OTHER: Final = re.compile(
    r"sha\d|sha$|digest|checksum|commit|hash|etag|integrity|signature|nonce|uuid|guid|fingerprint|csrf|xsrf|token"
    r"|revision|cert|md5|cookie|salt$|requestid|version|thumbprint|publickey|challenge|verifier|id2$|hmac|session"
    r"|clientsecret|webhook|azure|github|accountkey"
)
_MEDIUM: Final = re.compile(r"secret|pass|pwd|pw$|sk$|key$|credential|private")


@dataclass(frozen=True, slots=True)
class Named:
    """A value's label: its words in lower case, and where it begins; an empty label has no words."""

    words: tuple[str, ...]
    start: int

    @property
    def joined(self) -> str:
        """The words without anything between."""
        return "".join(self.words)


NAMELESS: Final = Named((), -1)


def name_of(text: str, start: int, floor: int) -> Named:
    """Find the label of the value at start; nothing before floor (the end of the value before it) is looked at.

    The nearest name before the value, fillers skipped: `name = `, `"name": "`, `<name>`, `name="NAME" value="`,
    `- name: NAME` above `value:`, `<key>NAME</key><string>`, `set NAME `, `setName("`. Words that only spaces part
    belong to one label (`Secret access key`). A label stands on the value's line, or on the one above when nothing
    but fillers and punctuation stands between.
    """
    low = max(floor, start - LOOK_BACK)
    before = _blank(_PROMPT, _blank(_ESCAPES, text[low:start]))
    words = list(_WORD.finditer(before))
    while words and words[-1][0].lower().rstrip("_.-") in _FILLER:
        words.pop()
    if not words or before.count("\n", words[-1].end()) > 2:
        return NAMELESS
    label = [words.pop()]
    while words and len(label) < 5:
        between = before[words[-1].end() : label[0].start()]
        if between.strip(" *_`") or not between:
            break
        label.insert(0, words.pop())
    spelled = tuple(part.lower() for word in label for part in _CAMEL.findall(word[0]))
    return Named(spelled, low + label[0].start())


def _blank(pattern: re.Pattern[str], text: str) -> str:
    """Blank out what matches, newlines kept as newlines, offsets as they were."""
    return pattern.sub(lambda found: ("\n" if _is_newline(found[0]) else " ").rjust(len(found[0])), text)


def _is_newline(escape: str) -> bool:
    return escape.startswith("\\") and escape.endswith(("n", "000a", "000A", "x0a"))


def weigh(label: Named) -> Label:
    """Say how strongly a label means a secret access key."""
    name = label.joined
    if not name:
        return Label.NEUTRAL
    if _STRONG.search(name) is not None:
        return Label.STRONG
    if _OTHER.search(name) is not None:
        return Label.OTHER
    return Label.MEDIUM if _MEDIUM.search(name) is not None else Label.NEUTRAL


# Words that say what a value is, not whose it is.
_ROLE_WORDS: Final = frozenset(
    "aws s3 s3a fs iam amazon access secret key keys id ids accesskey secretkey accesskeyid secretaccesskey keyid token"
    " user username name login password pass passwd pwd value env export set setx const var let string credentials"
    " credential default public private with".split()
)


def stem(label: Named) -> tuple[str, ...]:
    """Return the words beside the role: `PROD_AWS_ACCESS_KEY_ID` and `PROD_AWS_SECRET_ACCESS_KEY` share `prod`."""
    return tuple(word for word in label.words if word not in _ROLE_WORDS)


def touching(text: str, left: int, right: int) -> bool:
    """Whether only punctuation, tags, escapes and at most one line end part two values."""
    if not 0 <= right - left <= 120:
        return False
    between = _blank(_ESCAPES, _blank(_TAGS, text[left:right]))
    return not any(c.isalnum() for c in between) and between.count("\n") <= 1


_HEADER: Final = re.compile(r"[,;\t|]")


@dataclass(frozen=True, slots=True)
class Header:
    """The first line of a table, a CSV's or a markdown table's: where it ends, its delimiter, its column names."""

    start: int
    end: int
    delimiter: str
    names: tuple[Named, ...]

    def of(self, text: str, line: int, at: int) -> Named:
        """Return the name of the column that offset at stands in; line is where its row begins."""
        end = text.find("\n", at, line + LONGEST_ROW)
        end = end if end >= 0 else min(len(text), line + LONGEST_ROW)
        if text.count(self.delimiter, line, end) != len(self.names) - 1:
            return NAMELESS
        return self.names[text.count(self.delimiter, line, at)]


def header_at(text: str, start: int, end: int) -> Header | None:
    """Read a line as a table's header, or None when no two of its columns name an id and a secret."""
    line = text[start:end]
    first = _HEADER.search(line)
    if first is None:
        return None
    names = tuple(Named(tuple(w.lower() for w in _CAMEL.findall(field)), start) for field in line.split(first[0]))
    strong = [name for name in names if weigh(name) is Label.STRONG]
    ids = [name for name in names if {"key", "id"} <= set(name.words) or "accesskey" in "".join(name.words)]
    return Header(start, end, first[0], names) if strong and ids else None


def row_start(text: str, at: int) -> int | None:
    """Return where the line that at stands on begins, None when that is too far off for a table's row."""
    found = text.rfind("\n", max(0, at - LONGEST_ROW), at)
    return found + 1 if found >= 0 or at < LONGEST_ROW else None


def filled(text: str, span: Container, start: int, end: int) -> bool:
    """Whether a value fills a container: nothing but punctuation and tags stands beside it, as in `<a>VALUE</a>`."""
    if span.size - (end - start) > 160:
        return False
    rest = text[span.start : start] + " " + text[end : span.end]
    return not any(c.isalnum() for c in _blank(_ESCAPES, _blank(_ANY_TAG, rest)))
