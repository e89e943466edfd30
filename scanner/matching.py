"""Bind ids to secrets (or to tokens), the firmest ties first. Pure.

A tie is judged by the smallest container that holds both values, by the secret's label, and by the gap. Passes run
from the firmest rule to the loosest; a pass takes containers from the smallest up, and what it binds is bound. Inside
a container, equal numbers of ids and secrets pair in order, which is right for `id secret id secret`, for
`secret id secret id` and for `id id secret secret`; unequal numbers pair by nearness, none crossing another.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from firedamp.scanner import labels
from firedamp.scanner.labels import Label
from firedamp.scanner.structure import Container, Shape
from firedamp.scanner.survey import NEAR, Value

CLOSE: Final = 1024
"""Widest gap of a pair that no structure ties."""
FAR: Final = NEAR
"""Widest gap of a pair that a structure ties."""
WIDEST: Final = 64 * 1024
"""Widest gap of a labelled pair that are both members of the same bracket or tag."""
_NEIGHBOURS: Final = 6
"""Secrets on either side of an id that it is weighed against."""
_LONGEST_LIST: Final = 256
# What speaks against a pair, in characters of distance.
_AGAINST_THE_ORDER: Final = 400
_ANOTHER_LINE: Final = 40
_ANOTHER_STYLE: Final = 700
_NO_LABEL: Final = 200
_NO_SECRET_LABEL: Final = 600
_WEAK_LABEL: Final = 300
_COMMENT: Final = re.compile(r"[ \t](?:#|//|/\*|--)")
"""What begins a remark on the value before it: what stands there has no better claim than a label."""
_ROW_BORDER: Final = re.compile(r"\n|[)\]}]\s{0,8},?\s{0,8}[(\[{]")
_EXACT: Final = 1024
"""Ids times secrets up to which the cheapest pairs in order are found exactly."""

STRUCTURAL: Final = frozenset({Shape.BRACKET, Shape.TAG, Shape.SECTION, Shape.BLOCK})


class Firmness(IntEnum):
    """How a tie was made, firmest first. Also the order of the passes."""

    TOUCHING = 0
    LABELLED = 1
    """A strong label, and both are direct members of what holds both; or some label in a file without structure."""
    MEMBERS = 2
    """Some label, both direct members of one bracket, tag, section or block."""
    LABELLED_BELOW = 3
    """A strong label; one is a direct member, or the id's own structure holds nothing that could be its secret."""
    NAMELESS_MEMBERS = 4
    LABELLED_APART = 5
    NEAR = 6
    DOUBTFUL = 7


FIRM: Final = frozenset({Firmness.TOUCHING, Firmness.LABELLED, Firmness.LABELLED_BELOW, Firmness.LABELLED_APART})

_WORST: Final = {
    Firmness.LABELLED: Label.STRONG,
    Firmness.MEMBERS: Label.MEDIUM,
    Firmness.LABELLED_BELOW: Label.STRONG,
    Firmness.NAMELESS_MEMBERS: Label.NEUTRAL,
    Firmness.LABELLED_APART: Label.STRONG,
    Firmness.NEAR: Label.NEUTRAL,
    Firmness.DOUBTFUL: Label.DOUBTFUL,
}


@dataclass(frozen=True, slots=True)
class Tie:
    """The id and the secret (by their places in the lists given) that belong together, and why."""

    id: int
    secret: int
    firmness: Firmness
    within: Container


def match(
    text: str, ids: Sequence[Value], secrets: Sequence[Value], spans: Iterable[Container]
) -> tuple[list[Tie], list[Container | None]]:
    """Bind each id to at most one secret, each secret to at most one id. Both lists are in text order.

    Returns the ties and, for every id, the structure it stands in.
    """
    matcher = _Matcher(text, ids, secrets, spans)
    return matcher.run(), matcher.id_homes


def gap(one: Value, other: Value) -> int:
    """Characters between two values."""
    return max(other.start - one.end, one.start - other.end, 0)


def homes(
    text: str, values: Sequence[Value], spans: Iterable[Container], shapes: Collection[Shape] = STRUCTURAL
) -> list[Container | None]:
    """Return for each value the smallest structure that holds it and more than it. values are in text order."""
    starts = [value.start for value in values]
    found: list[Container | None] = [None] * len(values)
    for span in sorted((s for s in spans if s.shape in shapes), key=lambda s: s.size):
        low, high = _inside(starts, span)
        if 0 < high - low <= _LONGEST_LIST:
            members = [(value.start, value.end) for value in values[low:high]]
            if labels.filled(text, span.start, span.end, members):
                continue
        for at in range(low, high):
            found[at] = found[at] or span
    return found


class _Matcher:
    def __init__(self, text: str, ids: Sequence[Value], secrets: Sequence[Value], spans: Iterable[Container]) -> None:
        self.text = text
        self.ids = ids
        self.secrets = secrets
        self.id_starts = [v.start for v in ids]
        self.secret_starts = [v.start for v in secrets]
        self.ties: dict[int, Tie] = {}
        self.bound: set[int] = set()
        ordered = sorted(spans, key=lambda c: c.size)
        self.id_homes = homes(text, ids, ordered)
        self.secret_homes = homes(text, secrets, ordered)
        self.id_lists = _lists(text, ids)
        self.secret_lists = _lists(text, secrets)
        self.shared = [
            (span, low, high, first, last)
            for span in ordered
            for low, high in [_inside(self.id_starts, span)]
            for first, last in [_inside(self.secret_starts, span)]
            if low < high and first < last
        ]

    def run(self) -> list[Tie]:
        # What stands on one line belongs together before a list that goes on from line to line.
        self.chains(lines=0)
        self.chains(lines=1)
        for firmness in list(Firmness)[1:]:
            for span, low, high, first, last in self.shared:
                if len(self.ties) == len(self.ids) or len(self.bound) == len(self.secrets):
                    break
                wanted = [i for i in range(low, high) if i not in self.ties]
                # Where nothing but lines and blank lines gives structure, a weak label of the id's style may be better.
                flat = firmness is Firmness.LABELLED and span.shape not in STRUCTURAL
                worst = Label.MEDIUM if flat else _WORST[firmness]
                free = [s for s in range(first, last) if s not in self.bound and self.secrets[s].weight <= worst]
                if wanted and free:
                    self.settle(wanted, free, firmness, span)
        return sorted(self.ties.values(), key=lambda tie: tie.id)

    def chains(self, lines: int) -> None:
        """Bind values that only punctuation parts: positional arguments, `id:secret`, columns, lists."""
        merged = sorted(
            [(v.start, True, at) for at, v in enumerate(self.ids) if at not in self.ties]
            + [
                (v.start, False, at)
                for at, v in enumerate(self.secrets)
                if at not in self.bound
                # A folder of a path touches the id before it as a secret does.
                and (v.weight <= Label.MEDIUM or (v.label.start < 0 and v.weight is not Label.DOUBTFUL))
            ]
        )
        # The last column of a row touches the first of the next.
        merged = [item for item in merged if not self.of(item).label.column]
        chain: list[tuple[int, bool, int]] = []
        for item in merged:
            if chain and (
                not labels.touching(self.text, self.of(chain[-1]).end, self.of(item).start, lines)
                or self.are_rows(chain[-1], item)
                or _COMMENT.search(self.text, self.of(chain[-1]).end, self.of(item).start)
            ):
                self.settle_chain(chain)
                chain = []
            chain.append(item)
        self.settle_chain(chain)

    def are_rows(self, one: tuple[int, bool, int], other: tuple[int, bool, int]) -> bool:
        """Whether an id and a secret that touch over the border of two rows each have a partner in their own."""
        (start, is_id, _), (next_start, next_is_id, _) = one, other
        if is_id is next_is_id or not self.parts(start, next_start):
            return False
        befores, before_starts = (self.secrets, self.secret_starts) if is_id else (self.ids, self.id_starts)
        after_starts = self.id_starts if is_id else self.secret_starts
        before, after = bisect_left(before_starts, start) - 1, bisect_right(after_starts, next_start)
        return (
            before >= 0
            and not self.parts(befores[before].end, start)
            and after < len(after_starts)
            and not self.parts(next_start, after_starts[after])
        )

    def parts(self, start: int, end: int) -> bool:
        """Whether the border of two rows stands there: the end of a line, or of what brackets hold."""
        return _ROW_BORDER.search(self.text, start, end) is not None

    def of(self, item: tuple[int, bool, int]) -> Value:
        _, is_id, at = item
        return self.ids[at] if is_id else self.secrets[at]

    def settle_chain(self, chain: Sequence[tuple[int, bool, int]]) -> None:
        wanted = [at for _, is_id, at in chain if is_id]
        free = [at for _, is_id, at in chain if not is_id]
        if wanted and free:
            span = Container(self.of(chain[0]).start, self.of(chain[-1]).end, Shape.LINE)
            self.settle(wanted, free, Firmness.TOUCHING, span)

    def settle(self, wanted: list[int], free: list[int], firmness: Firmness, span: Container) -> None:
        """Bind what the rule allows inside one container: by the words both labels share, in order, by nearness."""
        if len(wanted) > 1 or len(free) > 1:
            by_stem: defaultdict[tuple[str, ...], tuple[list[int], list[int]]] = defaultdict(lambda: ([], []))
            for i in wanted:
                by_stem[labels.stem(self.ids[i].label)][0].append(i)
            for s in free:
                by_stem[labels.stem(self.secrets[s].label)][1].append(s)
            for words, (ids, secrets) in by_stem.items():
                if words and ids and secrets:
                    self.assign(ids, secrets, firmness, span)
            wanted = [i for i in wanted if i not in self.ties]
            free = [s for s in free if s not in self.bound]
        if wanted and free:
            self.assign(wanted, free, firmness, span)

    def assign(self, wanted: Sequence[int], free: Sequence[int], firmness: Firmness, span: Container) -> None:
        if len(wanted) == len(free):
            pairs = list(zip(wanted, free, strict=True))
            if all(self.allowed(i, s, firmness, span) for i, s in pairs):
                for i, s in pairs:
                    self.bind(i, s, firmness, span)
                return
        starts = [self.secret_starts[s] for s in free]
        first, last = self.ids[wanted[0]].start, self.ids[wanted[-1]].start
        secret_first = starts[0] < first and starts[-1] < last
        edges = {
            (i, s): self.cost(i, s, secret_first=secret_first)
            for i in wanted
            for at in [bisect_left(starts, self.ids[i].start)]
            for s in free[max(0, at - _NEIGHBOURS) : at + _NEIGHBOURS]
            if self.allowed(i, s, firmness, span)
        }
        if len(edges) > 1 and len(wanted) * len(free) <= _EXACT:
            for i, s in _in_order(wanted, free, edges):
                self.bind(i, s, firmness, span)
        else:
            for i, s in sorted(edges, key=edges.__getitem__):
                if i not in self.ties and s not in self.bound:
                    self.bind(i, s, firmness, span)

    def bind(self, i: int, s: int, firmness: Firmness, span: Container) -> None:
        self.ties[i] = Tie(i, s, firmness, span)
        self.bound.add(s)

    def cost(self, i: int, s: int, *, secret_first: bool) -> int:
        one, other = self.ids[i], self.secrets[s]
        cost = gap(one, other)
        if (other.start < one.start) is not secret_first:
            cost += _AGAINST_THE_ORDER
        low, high = min(one.end, other.end), max(one.start, other.start)
        if self.text.find("\n", low, high) >= 0:
            cost += _ANOTHER_LINE
        if not labels.akin(one.label, other.label):
            cost += _ANOTHER_STYLE
        if other.weight is not Label.STRONG:
            cost += _WEAK_LABEL
            # A password or some key of the same length may stand between an id and what is called its secret.
            cost += 0 if "secret" in other.label.joined else _NO_SECRET_LABEL
        if other.weight > Label.MEDIUM:
            cost += _NO_LABEL
        return cost

    def allowed(self, i: int, s: int, firmness: Firmness, span: Container) -> bool:
        """Whether a rule may tie two values that share a container, so far apart."""
        if firmness is Firmness.TOUCHING:
            return True
        id_home, secret_home = self.id_homes[i], self.secret_homes[s]
        id_direct = id_home is None or id_home.size >= span.size
        secret_direct = secret_home is None or secret_home.size >= span.size
        both = id_direct and secret_direct
        below = id_direct or secret_direct or not self.holds_secret(id_home)
        structural = span.shape in STRUCTURAL
        distance = self.distance(i, s)
        match firmness:
            case Firmness.LABELLED if not both:
                return False
            case Firmness.LABELLED_BELOW if not below or span.shape is Shape.PARAGRAPH:
                return False
            case Firmness.MEMBERS | Firmness.NAMELESS_MEMBERS if not (both and structural):
                return False
            case Firmness.LABELLED | Firmness.LABELLED_BELOW | Firmness.LABELLED_APART:
                if both and span.shape in {Shape.BRACKET, Shape.TAG}:
                    return distance <= WIDEST
                tied = structural or span.shape is Shape.LINE or _names_id(self.ids[i])
                return distance <= (FAR if tied else CLOSE)
            case Firmness.MEMBERS:
                return distance <= FAR
            case Firmness.DOUBTFUL if not (structural and both) and span.shape is not Shape.LINE:
                return False
            case _:
                return distance <= CLOSE

    def holds_secret(self, home: Container | None) -> bool:
        """Whether the structure that an id stands in holds anything that could be its secret."""
        first, last = (0, 0) if home is None else _inside(self.secret_starts, home)
        return first < last

    def distance(self, i: int, s: int) -> int:
        """Characters between two values, or between the lists that they are items of."""
        one, other = self.ids[i], self.secrets[s]
        if gap(one, other) > WIDEST:
            return gap(one, other)
        (low, high), (first, last) = self.id_lists[i], self.secret_lists[s]
        return max(first - high, low - last, 0)


def _in_order(
    wanted: Sequence[int], free: Sequence[int], edges: Mapping[tuple[int, int], int]
) -> list[tuple[int, int]]:
    """Return as many pairs as can be, none crossing another, at the least cost.

    The first ids go with the first secrets in all that people write; the nearest alone would tie the last id of a
    list to the first secret of the next.
    """
    best: list[tuple[int, int, tuple[tuple[int, int], ...]]] = [(0, 0, ())] * (len(free) + 1)
    for i in wanted:
        row = [best[0]]
        for at, s in enumerate(free):
            option = min(row[at], best[at + 1])
            if (i, s) in edges:
                count, cost, pairs = best[at]
                option = min(option, (count - 1, cost + edges[i, s], (*pairs, (i, s))))
            row.append(option)
        best = row
    return list(best[-1][2])


def _inside(starts: Sequence[int], span: Container) -> tuple[int, int]:
    """Return the places of the values that begin inside a container; no container cuts a value."""
    return bisect_left(starts, span.start), bisect_right(starts, span.end - 1)


def _lists(text: str, values: Sequence[Value]) -> list[tuple[int, int]]:
    """Return for each value the span of the list it is an item of: its own where it touches no other of its kind."""
    spans: list[tuple[int, int]] = []
    first = 0
    for at, value in enumerate(values):
        if at + 1 == len(values) or not labels.touching(text, value.end, values[at + 1].start):
            spans += [(values[first].start, value.end)] * (at + 1 - first)
            first = at + 1
    return spans


def _names_id(value: Value) -> bool:
    joined = value.label.joined
    return "access" in joined or "keyid" in joined
