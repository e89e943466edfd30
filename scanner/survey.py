"""Find the secrets near ids and context words, and name every value. Pure."""

from __future__ import annotations

import base64
import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from firedamp.scanner import columns, keys, labels, shape
from firedamp.scanner.candidates import Candidate, Role
from firedamp.scanner.columns import Rows
from firedamp.scanner.labels import NAMELESS, Header, Label, Named
from firedamp.scanner.structure import NEWLINE
from firedamp.storage.records import KeyKind
from firedamp.storage.secret import Secret

NEAR: Final = 10 * 1024
"""Characters around an id in which its secret is looked for. The same bound as Veles'; see research, d.1."""
_WORD_BEFORE: Final = 128
_WORD_AFTER: Final = 512
_LONGEST_RUN: Final = 2 * shape.TOKEN_LENGTHS.stop
"""Characters of a run that goes on behind what is read: more than a token has, some of its signs escaped."""
_CONTEXT: Final = re.compile(r"secret|smtp|se(?:ssion|curity)[ _.-]?token|aws[a-z_.-]{0,12}(?:key|pass)")
_CONTEXT_PARTS: Final = ("secret", "smtp", "aws", "token")
"""A literal of each context word: its beginning, but for the last, which ends it up to nine characters behind `se`."""
_SMTP: Final = re.compile(r"smtp|(?<![a-z0-9])ses(?![a-z0-9])")
_SMTP_PASSWORD: Final = re.compile(r"B[A-P][A-Za-z0-9+/]{42}")
"""Its first byte is the version 4 (SES guide, "Obtaining SMTP credentials"), so are these two characters."""
_ID_KINDS: Final = frozenset({KeyKind.ACCESS_KEY, KeyKind.TEMPORARY_KEY})
_GLUED: Final = re.compile(r"[A-Za-z0-9][-_.]$")
_NO_TOKEN: Final = re.compile(r"[^\w.-]", re.ASCII)
_WIDTHS: Final = (64, 70, 76)
"""Characters of a whole line of base64, as PEM, OpenSSH and mail wrap it."""
_LINE: Final = "(" + "|".join(rf"[A-Za-z0-9+/]{{{width}}}" for width in _WIDTHS) + ")"
_LINES_ABOVE: Final = re.compile(rf"(?:(?:\A|{NEWLINE})[ \t]*{_LINE})?(?:\A|{NEWLINE})[ \t]*{_LINE}{NEWLINE}[ \t]*\Z")
_LINE_BELOW: Final = re.compile(rf"{NEWLINE}[ \t]*{_LINE}(?![A-Za-z0-9+/])")
_IDS_BESIDE: Final = 8
"""Ids on either side of a secret whose labels are compared with its own."""
_PADDING: Final = re.compile(r"(?:=|%3[dD]|\\{1,8}u003[dD]){0,2}")


@dataclass(frozen=True, slots=True)
class Value:
    """An id, secret or token in the text: its span, its label, and how strongly the label fits its role."""

    start: int
    end: int
    kind: KeyKind
    secret: Secret
    label: Named = NAMELESS
    weight: Label = Label.STRONG
    example: bool = False
    """Whether it is documentation or a placeholder."""
    named_at: int | None = None
    """Before which offset its label stands, where that is not its start: a piece of a blob goes by the blob's."""


@dataclass(frozen=True, slots=True)
class Survey:
    """Every value of a text that may be part of a credential, each list in text order. passwords are of SES."""

    ids: list[Value]
    secrets: list[Value]
    passwords: list[Value]
    tokens: list[Value]


def survey(text: str, found: Sequence[Candidate]) -> Survey:
    """Collect ids, secrets and tokens with their labels.

    found: the candidates of detection. Time is linear in the text that stands near them and near context words.
    """
    lowered = text.lower()
    ids = sorted((c for c in found if c.role is Role.KEY_ID), key=lambda c: c.start)
    given = sorted((c for c in found if c.role is not Role.KEY_ID), key=lambda c: c.start)
    words = [*_context_words(lowered)]
    taken = _Spans([*ids, *given])
    parts = [c for c in given if c.role in {Role.SECRET, Role.TOKEN} or c.kind is KeyKind.SES_SMTP]
    values = [Value(c.start, c.end, c.kind, c.value) for c in [*ids, *parts]]
    for low, high in _windows(len(text), ids, words):
        for run in shape.runs(text, low, high):
            whole = run
            if run.end == high and high < len(text):
                whole = next(shape.runs(text, run.start, min(len(text), run.start + _LONGEST_RUN)), run)
            if run.start > low or low == 0:
                pieces = taken.beside(whole)
                values += (v for piece in pieces for v in _read(text, lowered, piece))
    values.sort(key=lambda v: (v.start, v.end))
    starts = [v.start for v in values]
    # A line that holds a value is a row, never a header.
    headers = [h for h in _headers(text, words) if bisect_left(starts, h.start) == bisect_left(starts, h.end)]
    nexts = [*(h.start for h in headers), len(text)][1:]
    headers = [_up_to(text, h, n) for h, n in zip(headers, nexts, strict=True)]
    named = [v for v in _named_alike([*_name(text, values, headers)]) if v.weight is not Label.OTHER]
    return Survey(
        ids=[v for v in named if v.kind in _ID_KINDS],
        secrets=[v for v in named if v.kind is KeyKind.SECRET_KEY],
        passwords=[v for v in named if v.kind is KeyKind.SES_SMTP],
        tokens=[v for v in named if v.kind is KeyKind.SESSION_TOKEN],
    )


def _context_words(lowered: str) -> Iterator[int]:
    """Yield where context words begin, in order. Literals first: the expression itself reads 0.1 GB a second."""
    places = list[int]()
    for literal in _CONTEXT_PARTS:
        at = lowered.find(literal)
        while at >= 0:
            places.append(lowered.rfind("se", max(0, at - 9), at) if literal == "token" else at)
            at = lowered.find(literal, at + 1)
    end = 0
    for place in sorted(places):
        if place >= end and (word := _CONTEXT.match(lowered, place)) is not None:
            end = word.end()
            yield place


class _Spans:
    """The spans that detection has claimed, for one question: whether a span meets any."""

    def __init__(self, candidates: Iterable[Candidate]) -> None:
        spans = sorted((c.start, c.end) for c in candidates)
        self._starts = [start for start, _ in spans]
        self._ends: list[int] = []
        for _, end in spans:
            self._ends.append(max(end, self._ends[-1] if self._ends else 0))

    def beside(self, run: shape.Run) -> Iterator[shape.Run]:
        """Yield what is left of a run beside the claimed spans in it, each parted from the rest by one character.

        Nothing is left where escapes stand in the run: its offsets are not those of its characters.
        """
        first, last = bisect_right(self._ends, run.start), bisect_left(self._starts, run.end)
        if first >= last:
            yield run
        elif run.end - run.start == len(run.value):
            lefts = [run.start, *(end + 1 for end in self._ends[first:last])]
            rights = [*(start - 1 for start in self._starts[first:last]), run.end]
            for left, right in zip(lefts, rights, strict=True):
                if right - left >= shape.SECRET_LENGTH:
                    yield shape.Run(left, right, run.value[left - run.start : right - run.start])


def _windows(size: int, ids: Iterable[Candidate], words: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Yield the stretches to read, disjoint and in order: wide around ids, narrow around context words."""
    wanted = [(c.start - NEAR, c.end + NEAR) for c in ids]
    wanted += [(at - _WORD_BEFORE, at + _WORD_AFTER) for at in words]
    wanted.sort()
    low = high = 0
    for start, end in wanted:
        if start > high:
            if high > low:
                yield low, high
            low = start
        high = max(high, min(end, size))
    if high > low:
        yield low, high


def _read(text: str, lowered: str, run: shape.Run) -> Iterator[Value]:
    """Say what a run may be: a secret, an SMTP password, a token, or a secret with a path or an id before it."""
    size = len(run.value)
    before = text[max(0, run.start - 1) : run.start]
    # A diff marks an added line with a plus, a form writes a blank as one; quoted-printable mail writes `=` as `=3D`.
    prefix = "3D" if before == "=" and run.value.startswith("3D") else "+"
    if size == shape.SECRET_LENGTH + len(prefix) and run.value.startswith(prefix):
        run = shape.Run(run.start + len(prefix), run.end, run.value[len(prefix) :])
        size = shape.SECRET_LENGTH
    # A word diff marks an added word with a plus on each side.
    if size == shape.SECRET_LENGTH + 2 and before == "{" and run.value[0] == run.value[-1] == "+":
        run = shape.Run(run.start + 1, run.end - 1, run.value[1:-1])
        size = shape.SECRET_LENGTH
    # In bencode the next length or the end of the list follows a value at once.
    if run.end - run.start == size > shape.SECRET_LENGTH and text[max(0, run.start - 3) : run.start] == "40:":
        run = shape.Run(run.start, run.start + shape.SECRET_LENGTH, run.value[: shape.SECRET_LENGTH])
        size = shape.SECRET_LENGTH
    if size == shape.SECRET_LENGTH:
        if shape.plausible(run.value) and not _is_of_blob(text, run):
            yield Value(run.start, run.end, KeyKind.SECRET_KEY, Secret(run.value))
    elif size == shape.SMTP_LENGTH and _SMTP_PASSWORD.fullmatch(run.value) is not None:
        if _SMTP.search(lowered, max(0, run.start - 400), run.end + 400) is not None:
            yield Value(run.start, run.end, KeyKind.SES_SMTP, Secret(run.value))
    elif size in shape.TOKEN_LENGTHS:
        end = next(_PADDING.finditer(text, run.end)).end()
        token = Secret(run.value + "=" * len(re.findall(r"=|3[dD]", text[run.end : end])))
        # A long run is no token until its head or its label says so; one that detection found is.
        yield Value(run.start, end, KeyKind.SESSION_TOKEN, token, weight=Label.OTHER)
    elif size < shape.TOKEN_LENGTHS.start and run.end - run.start == size and not _is_of_blob(text, run):
        yield from _between_slashes(run)


def _is_of_blob(text: str, run: shape.Run) -> bool:
    """Whether a run is a part of a JSON web token, or a line of a certificate, key or attachment: also the last."""
    before = text[max(0, run.start - _WORD_AFTER) : run.start]
    if before.endswith("."):
        return _NO_TOKEN.split(before)[-1].startswith("eyJ")
    size = len(run.value)
    if size != shape.SECRET_LENGTH and size not in _WIDTHS:
        return False
    # Most values stand behind a name, and not at the beginning of a line, as it is or escaped.
    begins = not before or before.rstrip(" \t").endswith(("\n", "\r", "n", "a", "A"))
    above, below = _LINES_ABOVE.search(before) if begins else None, _LINE_BELOW.match(text, run.end)
    widths = [] if above is None else [len(line) for line in above.groups() if line is not None]
    if size == shape.SECRET_LENGTH:
        return len(widths) > 1 and len({*widths}) == 1
    return size in widths or (below is not None and size == len(below[1]))


def _between_slashes(run: shape.Run) -> Iterator[Value]:
    """Yield what may be a secret in a longer run: a slash is in the alphabet, and also parts an id or a folder."""
    borders = [0, *(slash.end() for slash in re.finditer("/", run.value))]
    for first in borders:
        last = first + shape.SECRET_LENGTH
        value = run.value[first:last]
        if (last == len(run.value) or run.value[last : last + 1] == "/") and shape.plausible(value):
            start, end = run.start + first, run.start + last
            yield Value(start, end, KeyKind.SECRET_KEY, Secret(value), weight=Label.DOUBTFUL, named_at=run.start)


def _headers(text: str, words: Sequence[int]) -> list[Header | Rows]:
    """Read the table headers among the lines and brackets that hold a context word, in text order."""
    headers: list[Header | Rows] = [*columns.tables(text, words)]
    bracketed = [h.start for h in headers]
    done = -1
    for at in words:
        if at < done:
            continue
        start, end = labels.row_start(text, at), labels.row_end(text, at)
        done = at + labels.LONGEST_ROW if end is None else end
        if start is None or end is None or (header := labels.header_at(text, start, end)) is None:
            continue
        # What names columns in brackets is no header of lines.
        beside = bisect_left(bracketed, end) - 1
        if beside < 0 or headers[beside].end <= start:
            headers.append(header)
    return sorted(headers, key=lambda h: h.start)


def _up_to(text: str, header: Header | Rows, end: int) -> Header | Rows:
    """Return a header whose table ends before the next one, which begins at end."""
    until = labels.table_end(text, header.end, end) if isinstance(header, Header) else min(header.until, end)
    return replace(header, until=until)


def _name(text: str, values: Iterable[Value], headers: Sequence[Header | Rows]) -> Iterator[Value]:
    """Give every value its label and weight; a value without a label of its own shares that of the one it touches."""
    ends = [header.end for header in headers]
    floor = 0
    previous: Value | None = None
    for value in values:
        label = _column(text, value, headers, ends)
        if label is NAMELESS:
            label = _name_before(text, value, previous, floor)
        # In a list, as in `secrets = S1, S2`, the first value carries the label for all of its kind.
        if label is NAMELESS and previous is not None and previous.kind is value.kind:
            label = previous.label if labels.touching(text, previous.end, value.start) else label
        floor = max(floor, value.end)
        weight = value.weight
        if value.kind is KeyKind.SESSION_TOKEN:
            weight = Label.STRONG if _is_token(value, label) else value.weight
        elif value.kind in {KeyKind.SECRET_KEY, KeyKind.SES_SMTP}:
            weight = max(value.weight, labels.weigh(label))
            if Label.STRONG < weight < Label.DOUBTFUL and "secret" not in label.joined and _doubtful(text, value):
                weight = Label.DOUBTFUL
            elif weight is Label.MEDIUM and value.kind is KeyKind.SES_SMTP:
                weight = Label.STRONG
        previous = replace(value, label=label, weight=weight, example=_is_example(value))
        yield previous


def _named_alike(values: Sequence[Value]) -> Iterator[Value]:
    """Weigh the labels of secrets again without the words that the labels of ids near them have, too.

    `client_secret` is another vendor's, but not beside a `client_id` that is an id of AWS's.
    """
    ids = [v for v in values if v.kind in _ID_KINDS]
    starts = [v.start for v in ids]
    for value in values:
        weight = value.weight
        if value.kind is KeyKind.SECRET_KEY and weight is Label.OTHER:
            at = bisect_left(starts, value.start)
            near = ids[max(0, at - _IDS_BESIDE) : at + _IDS_BESIDE]
            weight = min((labels.weigh_beside(value.label, v.label) for v in near), default=weight)
        yield value if weight is value.weight else replace(value, weight=weight)


def _is_example(value: Value) -> bool:
    revealed = value.secret.reveal()
    if value.kind in _ID_KINDS:
        return keys.is_example(revealed)
    # A real token repeats itself: the protocol writes ten bytes of ones as `//////////`.
    return (keys.is_example_value if value.kind is KeyKind.SESSION_TOKEN else shape.is_placeholder)(revealed)


def _name_before(text: str, value: Value, previous: Value | None, floor: int) -> Named:
    """Return the name that stands before a value, or before the blob that it is a piece of."""
    if value.named_at is None:
        return labels.name_behind(text, value.start, value.end) or labels.name_of(text, value.start, floor)
    if previous is not None and previous.named_at == value.named_at:
        return previous.label
    return labels.name_of(text, value.named_at, floor)


def _column(text: str, value: Value, headers: Sequence[Header | Rows], ends: Sequence[int]) -> Named:
    """Return the name of the table column a value stands in, NAMELESS where it stands in no table."""
    at = bisect_right(ends, value.start) - 1
    if at < 0 or value.start >= headers[at].until:
        return NAMELESS
    return headers[at].of(text, value.start)


def _is_token(value: Value, label: Named) -> bool:
    """Whether a long run is a session token: by its head, which STS changes now and then, or by its label."""
    head = value.secret.reveal()[:12]
    prefixes = ("IQoJb3JpZ2lu", "FwoGZXIvYXdz", "FQoGZXIvYXdz", "FQoDYXdz", "AQoDYXdz", "AgoJb3JpZ2lu")
    if head.startswith(prefixes):
        return True
    # A token is bytes; what decodes to letters is encoded once more, and told as what it is decoded.
    named = any(w in label.joined for w in ("sessiontoken", "securitytoken"))
    return named and not base64.urlsafe_b64decode(head).isalnum()


def _doubtful(text: str, value: Value) -> bool:
    """Whether a run is cut out of an URL-safe token or reads like words: it ranks behind every other."""
    before = text[value.start - 2 : value.start] if value.start >= 2 else ""
    after = text[value.end : value.end + 2]
    return (
        _GLUED.search(before) is not None
        or _GLUED.search(after[::-1]) is not None
        or shape.wordlike(value.secret.reveal())
    )
