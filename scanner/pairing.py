"""Tie key ids to their secrets and session tokens: structure first, then distance. Pure.

The walk: `survey` finds the secrets near ids and context words and names every value -> `structure` says what holds
them -> `matching` binds ids to secrets, the firmest ties first -> here they become credentials, ranked.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Final

from firedamp.scanner import matching, structure
from firedamp.scanner.candidates import Candidate, Credential, Role
from firedamp.scanner.matching import CLOSE, FAR, FIRM, WIDEST, Tie
from firedamp.scanner.shape import is_placeholder
from firedamp.scanner.structure import Container, Label, Shape
from firedamp.scanner.surroundings import Surroundings, around
from firedamp.scanner.survey import Survey, Value, survey
from firedamp.storage.records import KeyKind

MAX_RANKS: Final = 8
"""Plausible secrets kept of one id: STS slows down who tries many."""
_ROOM: Final = 1024
"""Characters beside a pair in which its region, endpoint and expiry are read."""
_ALTERNATES: Final = 16


def pair(text: str, found: Sequence[Candidate]) -> list[Credential]:
    """Make credentials of the candidates in a text, in text order.

    text is bytes decoded as Latin-1, so that offsets are byte offsets; found holds every key id, token and whole
    credential in it. Secrets are found here. An id with n plausible secrets gives n credentials, ranked from 0; an id
    without any gives itself; a secret or token without an id is a credential where the context says that it is AWS's.
    The time is linear in the text: every id looks at a bounded number of secrets in bounded windows.
    """
    whole = [
        Credential(c.kind, None, c.value, anchor=c.start, example=is_placeholder(c.value.reveal()))
        for c in found
        if c.role is Role.WHOLE and c.kind is not KeyKind.SES_SMTP
    ]
    return sorted([*whole, *_Pairing(text, survey(text, found)).credentials()], key=lambda c: (c.anchor, c.rank))


class _Pairing:
    def __init__(self, text: str, seen: Survey) -> None:
        self.text = text
        self.seen = seen
        self.places: dict[int, Container] = {}
        self.sections: dict[int, Container] = {}
        self.secret_starts = [v.start for v in seen.secrets]
        self.ties: dict[int, Tie] = {}
        self.owner: dict[int, Tie] = {}
        self.token_of: dict[int, int] = {}
        self.marks: list[int] = []
        self.mark_ends: list[int] = []

    def credentials(self) -> Iterator[Credential]:
        """Bind, then word: pairs and lone ids, lone secrets, lone tokens."""
        self.bind()
        marks = sorted((v.start, v.end) for v in [*self.seen.ids, *(self.seen.secrets[s] for s in self.owner)])
        self.marks, self.mark_ends = [start for start, _ in marks], [end for _, end in marks]
        offered = set(self.owner)
        by_id: defaultdict[str, list[int]] = defaultdict(list)
        for at, value in enumerate(self.seen.ids):
            by_id[value.secret.reveal()].append(at)
        for key_id, places in by_id.items():
            yield from self.of_id(key_id, places, offered)
        for at, value in enumerate(self.seen.secrets):
            if at not in offered and self.is_aws(value):
                yield self.lone(value)
        joined = set(self.token_of.values())
        for at, value in enumerate(self.seen.tokens):
            if at not in joined:
                yield self.lone(value)

    def bind(self) -> None:
        """Match windows of ids with the values near them; examples match after everything real has."""
        seen = self.seen
        for real in (True, False):
            ids = [i for i, v in enumerate(seen.ids) if v.example is not real]
            secrets = [
                s for s, v in enumerate(seen.secrets) if (v.example is not real or not real) and s not in self.owner
            ]
            self.match(ids, secrets, FAR)
        left = [i for i in range(len(seen.ids)) if i not in self.ties]
        strong = [s for s, v in enumerate(seen.secrets) if s not in self.owner and v.weight is Label.STRONG]
        self.match(left, strong, WIDEST)
        temporary = [i for i, v in enumerate(seen.ids) if v.kind is KeyKind.TEMPORARY_KEY]
        for low, high, ids, tokens in _groups(seen.ids, temporary, seen.tokens, range(len(seen.tokens)), FAR):
            spans = structure.containers(self.text, max(0, low), min(len(self.text), high))
            for tie in matching.match(self.text, [seen.ids[i] for i in ids], [seen.tokens[t] for t in tokens], spans):
                self.token_of[ids[tie.id]] = tokens[tie.secret]

    def match(self, ids: Sequence[int], secrets: Sequence[int], reach: int) -> None:
        seen = self.seen
        for low, high, near_ids, near in _groups(seen.ids, ids, seen.secrets, secrets, reach):
            spans = structure.containers(self.text, max(0, low), min(len(self.text), high))
            some_ids, some = [seen.ids[i] for i in near_ids], [seen.secrets[s] for s in near]
            for i, place in zip(near_ids, matching.homes(self.text, some_ids, spans), strict=True):
                self.places[i] = place or Container(max(0, low), min(len(self.text), high), Shape.WHOLE)
            for i, place in zip(near_ids, matching.homes(self.text, some_ids, spans, {Shape.SECTION}), strict=True):
                if place is not None:
                    self.sections[i] = place
            for tie in matching.match(self.text, some_ids, some, spans):
                i, s = near_ids[tie.id], near[tie.secret]
                self.ties[i] = self.owner[s] = Tie(i, s, tie.firmness, tie.within)

    def of_id(self, key_id: str, places: Sequence[int], offered: set[int]) -> Iterator[Credential]:
        """Yield an id's credentials: each place with its own secret, places without one with the best of the text."""
        ties = sorted(
            (self.ties[i] for i in places if i in self.ties),
            key=lambda tie: (tie.firmness, matching.gap(self.seen.ids[tie.id], self.seen.secrets[tie.secret])),
        )
        example = is_placeholder(key_id)
        ties = [tie for tie in ties if example or not self.seen.secrets[tie.secret].example]
        ranked: dict[str, tuple[int, list[int]]] = {}
        for tie in ties:
            ranked.setdefault(self.revealed(tie.secret), (tie.secret, []))[1].append(tie.id)
        for i, s in self.alternates(places, ties):
            offered.add(s)
            ranked.setdefault(self.revealed(s), (s, []))[1].append(i)
        tied = {tie.id for tie in ties}
        if not ties:
            yield from (self.word(i, None, 0) for i in places)
        for rank, (s, at) in enumerate(list(ranked.values())[:MAX_RANKS]):
            shown = {*at, *(i for i in places if i not in tied)} if ties and rank == 0 else set(at)
            # Without a tie the id alone comes first, then what was bound elsewhere or fits badly.
            yield from (self.word(i, s, rank if ties else rank + 1) for i in sorted(shown))
            if example and not self.seen.secrets[s].example and self.is_aws(self.seen.secrets[s]):
                yield self.lone(self.seen.secrets[s])

    def revealed(self, s: int) -> str:
        return self.seen.secrets[s].secret.reveal()

    def alternates(self, places: Sequence[int], ties: Sequence[Tie]) -> list[tuple[int, int]]:
        """Return (id, secret) of what else may be an id's secret, best first.

        Beside a firm tie only other labelled secrets that nobody owns; else everything plausible within 1 KiB, and an
        owned one only when the id stands in the same container as the pair and may as well be its id.
        """
        firm = bool(ties) and ties[0].firmness in FIRM
        found: list[tuple[int, int, int, int]] = []
        # An id in a thousand places has no more candidates than one in a few.
        for i in places[:_ALTERNATES]:
            value = self.seen.ids[i]
            at = bisect_left(self.secret_starts, value.start)
            for s in range(max(0, at - _ALTERNATES), min(len(self.secret_starts), at + _ALTERNATES)):
                other = self.seen.secrets[s]
                distance = matching.gap(value, other)
                if distance > CLOSE or (other.example and not value.example):
                    continue
                owner = self.owner.get(s)
                if owner is not None and (owner.id in places or firm or not _holds(owner.within, value)):
                    continue
                if not firm or other.weight is Label.STRONG:
                    found.append((int(other.weight), distance, i, s))
        return [(i, s) for _, _, i, s in sorted(found)]

    def word(self, i: int, s: int | None, rank: int) -> Credential:
        value = self.seen.ids[i]
        secret = None if s is None else self.seen.secrets[s]
        token = self.seen.tokens[self.token_of[i]] if i in self.token_of else None
        kind = value.kind if secret is None or secret.kind is not KeyKind.SES_SMTP else KeyKind.SES_SMTP
        beside = self.beside(i, s, token)
        return Credential(
            kind,
            value.secret.reveal(),
            None if secret is None else secret.secret,
            token=None if token is None else token.secret,
            rank=rank,
            example=value.example or (secret is not None and secret.example),
            anchor=value.start,
            expires=beside.expires if value.kind is KeyKind.TEMPORARY_KEY else None,
            hint=beside.hint,
            notes=beside.notes,
        )

    def beside(self, i: int, s: int | None, token: Value | None) -> Surroundings:
        """Read the region, endpoint and expiry in the structure that holds the pair, up to the next pair's values."""
        value = self.seen.ids[i]
        members = [value, *([] if s is None else [self.seen.secrets[s]]), *([] if token is None else [token])]
        start, end = min(m.start for m in members), max(m.end for m in members)
        place = self.places.get(i)
        tie = self.ties.get(i)
        section = self.sections.get(i)
        if section is not None and (place is None or place.shape is Shape.BLOCK):
            place = section
        if tie is not None and place is not None and tie.secret == s and tie.within.size > place.size:
            place = tie.within
        low, high = start - _ROOM, end + _ROOM
        if place is not None:
            low, high = max(low, place.start), min(high, place.end)
        else:
            low, high = max(low, self.text.rfind("\n\n", max(0, low), start)), self.text.find("\n\n", end, high)
            high = high if high >= 0 else end + _ROOM
        before = bisect_left(self.marks, start) - 1
        after = bisect_left(self.marks, end)
        if before >= 0:
            low = max(low, self.mark_ends[before])
        if after < len(self.marks):
            high = min(high, self.marks[after])
        low, high = max(0, min(low, start)), max(end, high)
        return around(self.text, (low, start, end, high), None if section is None else section.start)

    def lone(self, value: Value) -> Credential:
        """Word a secret or token that stands without an id."""
        return Credential(value.kind, None, value.secret, anchor=value.start, example=value.example)

    def is_aws(self, value: Value) -> bool:
        """Whether a secret without an id is AWS's by its label, or by its label and the words around it."""
        joined = value.label.joined
        if value.kind is KeyKind.SES_SMTP:
            return value.weight is not Label.NEUTRAL
        named = any(word in joined for word in ("aws", "amazon", "s3", "iam", "secretaccesskey"))
        if value.weight is Label.MEDIUM:
            return named
        near = self.text[max(0, value.start - 256) : value.end + 256].lower()
        return value.weight is Label.STRONG and (named or any(word in near for word in ("aws", "amazon", "s3")))


def _holds(span: Container, value: Value) -> bool:
    return span.start <= value.start < span.end


def _groups(
    ids: Sequence[Value], some_ids: Sequence[int], others: Sequence[Value], some: Sequence[int], reach: int
) -> Iterator[tuple[int, int, list[int], list[int]]]:
    """Yield windows of ids that stand within twice reach of each other, where any of the others stands.

    Each is (low, high, places of its ids, places of the others in it); some_ids and some are in text order.
    """
    starts = [others[s].start for s in some]
    group: list[int] = []
    for at, i in enumerate(some_ids):
        group.append(i)
        last = at + 1 == len(some_ids)
        if last or ids[some_ids[at + 1]].start - reach > ids[i].end + reach:
            low, high = ids[group[0]].start - reach, ids[i].end + reach
            near = list(some[bisect_left(starts, low) : bisect_right(starts, high)])
            if near:
                yield low, high, group, near
            group = []
