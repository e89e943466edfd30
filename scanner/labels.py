"""What a value is called: its label, and what the label says of it. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from firedamp.scanner.shape import COLOUR
from firedamp.scanner.structure import GUTTER, NEWLINE

LONGEST_ROW: Final = 4096
"""Characters of a table's row or header."""
LOOK_BACK: Final = 240
"""Characters before a value in which its label may stand."""


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
    " false s".split()
)
_WORD: Final = re.compile(r"[A-Za-z_$@][\w$]*(?:[.-][A-Za-z_][\w$]*|[.]\d+)*", re.ASCII)
_CLOSING: Final = re.compile(r"<[ ]*/[ ]*[A-Za-z][\w:.-]{0,80}[ ]*>|(?<=[ \xa0])\[[^\[\]\n\"']{0,40}\](?=[ ]*:)")
"""A closing tag repeats a name, and `[None]:` in a prompt is an old value: neither is a label."""
_TAG: Final = re.compile(r"<[ ]*/?[ ]*[A-Za-z][^<>]{0,80}>")
_ENCODED: Final = re.compile(
    r"(?=[\\%&=#^\x1b\r\n])"  # what any of it begins with: a ninth of the time
    rf"(?:(?P<line>{NEWLINE}|%(?:25)*0[aA])(?:{GUTTER})?|(?P<space>%(?:25)*(?:20|09)|\\{{1,8}}t|&nbsp;)"
    r"|(?P<slash>%(?:25)*2[fF]|\\{1,8}/|&#47;)"
    r"|(?P<lt>&lt;|\\{1,8}u003[cC]|%(?:25)*3[cC])|(?P<gt>&gt;|\\{1,8}u003[eE]|%(?:25)*3[eE])"
    rf"|{COLOUR}"
    r"|\\{1,8}(?:u[0-9a-fA-F]{4}|x[0-9a-fA-F]{2}|[rbfv])|%(?:25)*[0-9a-fA-F]{2}|&(?:[a-z]{2,6}|#\w{1,5});"
    r"|=3[dD]$)"
)
_NUMBERED: Final = re.compile(rf"(?P<line>\n)(?:{GUTTER})")
_SIGNS: Final = re.compile(r"[\\%&\x1b\r]|#033|\^\[|=3[dD]$")
_CAMEL: Final = re.compile(r"[sS]3[aAnN]?(?![a-z])|[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_STRONG: Final = re.compile(
    r"secret(?:access)?key|secretaccess|access(?:key)?secret|awssecret|s3secret|secretaws|amazonsecret|iamsecret|awssk$"
)
_FOREIGN: Final = re.compile(r"^gs(?:secret|access)|gcs|google|aliyun|alicloud|tencent|cosn")
"""Other clouds' secrets that have the same form and stand in the same files, as in `.boto`."""
_OTHER: Final = re.compile(
    r"sha\d|sha$|digest|checksum|commit|hash|etag|integrity|signature|nonce|uuid|guid|fingerprint|csrf|xsrf|token"
    r"|revision|cert|md5|cookie|salt$|requestid|version|thumbprint|publickey|challenge|verifier|id2$|amzid|hostid$"
    r"|hmac|session|clientsecret|webhook|azure|github"
)
_OF_SECRET: Final = re.compile(r"(?:sha|digest|checksum|hash|md5|fingerprint|version|revision|etag|hmac)(?:id)?\d*$")
"""What a secret's name may end with that is no secret: `AWS_SECRET_HASH`, `aws_secret_version`."""
_MEDIUM: Final = re.compile(r"secret|pass|pwd|pw$|sk$|key$|credential|private")
# Words that say what a value is, not whose it is.
_ROLE_WORDS: Final = frozenset(
    "aws s3 s3a fs iam amazon access secret key keys id ids accesskey secretkey accesskeyid secretaccesskey keyid token"
    " user username name login password pass passwd pwd value env export set setx const var let string credentials"
    " credential default public private with".split()
)
_STYLELESS: Final = frozenset(
    "id ids key keys secret secrets access user username login password passwd pass pwd pw".split()
)
_UNFILLED: Final = re.compile(
    r"(?:secret[_. -]?(?:access[_. -]?)?key|(?:aws|s3)[_. -]?secret)\w{0,12}[\"']?"
    r"[ \t]{0,4}(?:=>|[:=])[ \t]{0,4}[\"'`]?"
    r"(?:\$[\w({]|\{\{|<%|<[a-z][\w -]{1,40}>|[*x.]{4}|%\(|![a-z]"
    r"|(?:os|process|env|var|local|data|secrets?|vault)[.\[(]|getenv\("
    r"|(?:none|null|nil|changeme|redacted|hidden|your\w*)\b)[^\n]{0,160}",
    re.IGNORECASE,
)
_ALNUM: Final = re.compile(r"[A-Za-z0-9]")
_LINE_GUTTER: Final = re.compile(rf"^{GUTTER}")
_NO_HEADER: Final = re.compile(r"[={}]|\":")
_LONGEST_NAME: Final = 6
_BLANK_LINE: Final = re.compile(rf"{NEWLINE}[ \t]*{NEWLINE}")
_QUOTE: Final = r"\\{0,8}[\"']?"
_OPENING_VALUE: Final = re.compile(rf"\{{\s*{_QUOTE}\w{{0,20}}value{_QUOTE}\s*[:=]\s*{_QUOTE}\Z", re.IGNORECASE)
_LONGEST_OPENING: Final = 80
_NAME_BEHIND: Final = re.compile(
    rf"{_QUOTE}\s*,\s*{_QUOTE}\w{{0,20}}(?:name|key){_QUOTE}\s*[:=]\s*{_QUOTE}([\w.:/-]{{1,80}})", re.IGNORECASE
)
_MEMBER: Final = re.compile(r"[\"\xb7][ ]?[:=][ ]?[\\\xb7]{0,16}[\"\xb7]|=[ ]?[bBrRuU]{0,2}[\"'`]|[}\]]")
_ROW_END: Final = re.compile(NEWLINE)


@dataclass(frozen=True, slots=True)
class Named:
    """A value's label: its words in lower case, and where it begins; an empty label has no words."""

    words: tuple[str, ...]
    start: int
    column: bool = False
    """Whether a table's header gives it."""

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
    before = _CLOSING.sub(lambda found: " " * len(found[0]), plain(text[low:start]))
    words = list(_WORD.finditer(before))
    while words and _is_filler(words[-1][0]):
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


def name_behind(text: str, start: int, end: int) -> Named | None:
    """Find the label behind a value that opens its object, as in `{"value": "V", "name": "NAME"}`."""
    if _OPENING_VALUE.search(text, max(0, start - _LONGEST_OPENING), start) is None:
        return None
    found = _NAME_BEHIND.match(text, end)
    return None if found is None else Named(tuple(part.lower() for part in _CAMEL.findall(found[1])), found.start(1))


def _is_filler(word: str) -> bool:
    """Whether a word only says that a value follows: `value`, `OutputValue`, `ParameterValue`, DynamoDB's `S`."""
    parts = _CAMEL.findall(word)
    return word.lower().rstrip("_.-") in _FILLER or (bool(parts) and parts[-1].lower() == "value")


def plain(text: str) -> str:
    """Undo escapes without moving anything: what has no plain form of interest becomes middle dots."""
    if _SIGNS.search(text) is None:
        return text if "\n" not in text else _NUMBERED.sub(_plain_form, text)
    return _ENCODED.sub(_plain_form, text)


def _plain_form(found: re.Match[str]) -> str:
    size = len(found[0])
    match found.lastgroup:
        case "line":
            return "\n".ljust(size)
        case "space":
            return " " * size
        case "lt":
            return "<".rjust(size)
        case "slash":
            return "/".rjust(size)
        case "gt":
            return ">".ljust(size)
        case _:
            return "\xb7" * size


def weigh(label: Named) -> Label:
    """Say how strongly a label means a secret access key."""
    name = label.joined
    if not name:
        return Label.NEUTRAL
    if _FOREIGN.search(name) is not None or _OF_SECRET.search(name) is not None:
        return Label.OTHER
    if _STRONG.search(name) is not None:
        return Label.STRONG
    if _OTHER.search(name) is not None:
        return Label.OTHER
    return Label.MEDIUM if _MEDIUM.search(name) is not None else Label.NEUTRAL


def weigh_beside(label: Named, of_id: Named) -> Label:
    """Weigh a label by the words that it does not share with an id's: shared ones say whose both are, not what.

    A role is shared, too, but for `token`: no id is called one.
    """
    shared = {*of_id.words} - (_ROLE_WORDS - {"token"})
    return weigh(Named(tuple(word for word in label.words if word not in shared), label.start))


def stem(label: Named) -> tuple[str, ...]:
    """Return the words beside the role: `PROD_AWS_ACCESS_KEY_ID` and `PROD_AWS_SECRET_ACCESS_KEY` share `prod`."""
    return tuple(word for word in label.words if word not in _ROLE_WORDS)


def unfilled(text: str, start: int, end: int) -> tuple[int, int] | None:
    """Return where in text[start:end] the name of a secret access key has a reference or placeholder for its value.

    The span reaches to the end of the line: `os.environ.get("NAME", "VALUE")` names a value, too.
    """
    found = _UNFILLED.search(text, start, end)
    return None if found is None else found.span()


def akin(one: Named, other: Named) -> bool:
    """Whether two labels are of one style.

    As are `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`, or `accessKey` and `secretKey`.
    """
    return {*one.words} - _STYLELESS == {*other.words} - _STYLELESS


def touching(text: str, left: int, right: int, lines: int = 1) -> bool:
    """Whether only punctuation, tags, escapes and at most so many line ends part two values."""
    if not 0 <= right - left <= 120:
        return False
    between = text[left:right]
    if _ALNUM.search(between) is not None:
        between = _TAG.sub("", plain(between))
    return _ALNUM.search(between) is None and between.count("\n") <= lines


@dataclass(frozen=True, slots=True)
class Header:
    """The first line of a table, a CSV's or a markdown table's. until is where the table ends, at a blank line."""

    start: int
    end: int
    until: int
    delimiter: str
    names: tuple[Named, ...]

    def of(self, text: str, at: int) -> Named:
        """Return the name of the column that offset at stands in."""
        line, end = row_start(text, at), row_end(text, at)
        if line is None or line < self.end or end is None:
            return NAMELESS
        row = text[line:end]
        # Rows of an INSERT end with a comma or a semicolon that parts no columns.
        if len(self.names) - 1 not in {row.count(self.delimiter), row.rstrip(" ,;").count(self.delimiter)}:
            return NAMELESS
        column = text.count(self.delimiter, line, at)
        return self.names[column] if column < len(self.names) else NAMELESS


def header_at(text: str, start: int, end: int) -> Header | None:
    """Read a line as a table's header, or None when no two of its columns name an id and a secret."""
    # A table begins behind the name of the JSON string or of the variable that holds it, or behind the object above.
    line = _MEMBER.split(plain(text[start:end]))[-1]
    delimiter = max(",;\t|", key=line.count)
    if delimiter not in line or "key" not in line.lower() or _NO_HEADER.search(line) is not None:
        return None
    fields = [field.rpartition("(")[2] for field in _LINE_GUTTER.sub("", line).split(delimiter)]
    names = tuple(column(field, start) for field in fields)
    secrets = secrets_of(names)
    ids = {name for name in names if "key" in name.words or "accesskey" in name.joined} - secrets
    if not secrets or not ids or max(len(name.words) for name in secrets | ids) > _LONGEST_NAME:
        return None
    return Header(start, end, len(text), delimiter, names)


def column(name: str, start: int) -> Named:
    """Return the label that a table's column gives what stands in it; start is where the table's names begin."""
    return Named(tuple(word.lower() for word in _CAMEL.findall(name)), start, column=True)


def secrets_of(names: Iterable[Named]) -> set[Named]:
    """Return the columns that hold secrets by their names."""
    return {name for name in names if "secret" in name.words or weigh(name) is Label.STRONG}


def table_end(text: str, start: int, end: int) -> int:
    """Return where the table that begins at start ends: at the first blank line before end, or at end."""
    found = _BLANK_LINE.search(text, start, end)
    return end if found is None else found.start()


def row_start(text: str, at: int) -> int | None:
    """Return where the line that at stands on begins, None when that is too far off for a table's row."""
    low = max(0, at - LONGEST_ROW)
    plainly, escaped = text.rfind("\n", low, at), text.rfind("\\n", low, at)
    if plainly < 0 and escaped < 0:
        return None if low else 0
    return max(plainly, escaped + 1) + 1


def row_end(text: str, at: int) -> int | None:
    """Return where the line that at stands on ends, None when that is too far off for a table's row."""
    found = _ROW_END.search(text, at, at + LONGEST_ROW)
    if found is not None:
        return found.start()
    return len(text) if len(text) <= at + LONGEST_ROW else None


def filled(text: str, start: int, end: int, values: Sequence[tuple[int, int]]) -> bool:
    """Whether values fill text[start:end]: only punctuation and tags stand beside them, as in `<a>V</a>` and `[V, V]`.

    values are spans in text order.
    """
    if end - start > sum(last - first for first, last in values) + 40 * len(values) + 120:
        return False
    rest = []
    for first, last in values:
        rest.append(text[start:first])
        start = last
    beside = "\n".join([*rest, text[start:end]])
    return _ALNUM.search(beside) is None or _ALNUM.search(_TAG.sub("", plain(beside))) is None
