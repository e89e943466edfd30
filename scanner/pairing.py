"""Tie key ids to their secrets and session tokens: structure first, then distance. Pure.

The walk: `survey` finds the secrets near ids and context words and names every value -> `structure` says what holds
them -> `matching` binds ids to secrets, the firmest ties first -> here they become credentials, ranked.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from firedamp.scanner import labels, matching, structure
from firedamp.scanner.candidates import Candidate, Credential, Role
from firedamp.scanner.labels import LOOK_BACK, Label
from firedamp.scanner.matching import CLOSE, FAR, FIRM, WIDEST, Firmness, Tie
from firedamp.scanner.shape import is_placeholder
from firedamp.scanner.structure import Container, Shape
from firedamp.scanner.surroundings import Surroundings, around, foreign_id
from firedamp.scanner.survey import Survey, Value, survey
from firedamp.storage.records import KeyKind
from firedamp.storage.secret import Secret

MAX_RANKS: Final = 8
"""Plausible secrets kept of one id: each costs a call to verify, and STS slows down who tries many."""
_ROOM: Final = 1024
"""Characters beside a pair in which its region, endpoint and expiry are read."""
_ALTERNATES: Final = 16
"""Secrets on either side of an id, and places of one id, that are looked at for more candidates."""
# As words: three random characters of a secret may well spell one of them.
_AWS_NEAR: Final = re.compile(r"(?<![A-Za-z0-9+/])(?:aws|amazon|s3[an]?(?![a-z0-9]))", re.IGNORECASE)
_SIGNS: Final = re.compile(r"[\W_]+")


def pair(text: str, found: Sequence[Candidate]) -> list[Credential]:
    """Make credentials of the candidates in a text, in text order.

    text is bytes decoded as Latin-1, so that offsets are byte offsets; found holds every key id, token and whole
    credential in it. Secrets are found here. An id with n plausible secrets gives n credentials, ranked from 0; an id
    without any gives itself; a secret or token without an id is a credential where the context says that it is AWS's.
    A lone token or SMTP password stands in `secret`. Time is linear in the text: every id looks at a bounded number of
    secrets in bounded windows.
    """
    whole = [
        Credential(c.kind, None, c.value, anchor=c.start, example=is_placeholder(c.value.reveal()))
        for c in found
        if c.role is Role.WHOLE and c.kind is not KeyKind.SES_SMTP
    ]
    return sorted([*whole, *_Pairing(text, survey(text, found)).credentials()], key=lambda c: (c.anchor, c.rank))


class _Pairing:
    """One text's pairing. Ids, secrets, tokens and passwords are known by their places in the survey's lists."""

    def __init__(self, text: str, seen: Survey) -> None:
        self.text = text
        self.seen = seen
        self.secret_starts = [v.start for v in seen.secrets]
        self.ties: dict[int, Tie] = {}
        """The tie of each id that has one."""
        self.owners: dict[int, Tie] = {}
        """The same ties by secret."""
        self.places: dict[int, Container] = {}
        """The structure that each id stands in, where there was anything to match."""
        self.sections: dict[int, Container] = {}
        self.bind()
        self.tokens = self.join(KeyKind.TEMPORARY_KEY, seen.tokens)
        self.token_of = {seen.ids[i].secret: seen.tokens[t] for i, t in self.tokens.items()}
        self.passwords = self.join(KeyKind.ACCESS_KEY, seen.passwords)
        marks = sorted((v.start, v.end) for v in [*seen.ids, *(seen.secrets[s] for s in self.owners)])
        self.mark_starts, self.mark_ends = [start for start, _ in marks], [end for _, end in marks]

    def bind(self) -> None:
        """Match ids with the secrets near them: what is real first, then examples with what is left."""
        ids, secrets = self.seen.ids, self.seen.secrets
        for real in (True, False):
            some = [i for i, v in enumerate(ids) if v.example is not real]
            free = [s for s, v in enumerate(secrets) if s not in self.owners and not (real and v.example)]
            self.match(some, free, FAR)
        left = [i for i in range(len(ids)) if i not in self.ties]
        strong = [
            s for s, v in enumerate(secrets) if s not in self.owners and v.weight is Label.STRONG and not v.example
        ]
        self.match(left, strong, WIDEST)

    def match(self, some: Sequence[int], free: Sequence[int], reach: int) -> None:
        for low, high, ids, secrets in _groups(self.seen.ids, some, self.seen.secrets, free, reach):
            values, near = [self.seen.ids[i] for i in ids], [self.seen.secrets[s] for s in secrets]
            spans = self.containers(low, high, [*values, *near])
            ties, places = matching.match(self.text, values, near, spans)
            self.places |= _known(ids, places)
            self.sections |= _known(ids, matching.homes(self.text, values, spans, {Shape.SECTION}))
            for tie in ties:
                i, s = ids[tie.id], secrets[tie.secret]
                if self.is_elsewhere(i, s):
                    continue
                self.ties[i] = self.owners[s] = Tie(i, s, tie.firmness, tie.within)

    def containers(self, low: int, high: int, values: Sequence[Value]) -> list[Container]:
        """Return the containers between two offsets, cut to the text, that hold any of values."""
        starts = sorted(value.start for value in values)
        return structure.containers(self.text, max(0, low), min(len(self.text), high), starts)

    def is_elsewhere(self, i: int, s: int) -> bool:
        """Whether an id's own secret is a reference in the lines behind it, to something else than s."""
        value, other = self.seen.ids[i], self.seen.secrets[s]
        if other.weight is Label.STRONG or "secret" in other.label.joined:
            return False
        end = min(value.end + LOOK_BACK, *(v.start for v in self.seen.ids[i + 1 : i + 2]), len(self.text))
        line = labels.unfilled(self.text, value.end, end)
        if line is None or bisect_left(self.secret_starts, line[0]) != bisect_left(self.secret_starts, line[1]):
            return False
        return other.label.joined not in _SIGNS.sub("", self.text[slice(*line)]).lower()

    def join(self, kind: KeyKind, others: Sequence[Value]) -> dict[int, int]:
        """Bind the ids of a kind to tokens or SMTP passwords, which an id has beside its secret."""
        some = [i for i, v in enumerate(self.seen.ids) if v.kind is kind]
        bound: dict[int, int] = {}
        for low, high, ids, near in _groups(self.seen.ids, some, others, range(len(others)), FAR):
            values, beside = [self.seen.ids[i] for i in ids], [others[o] for o in near]
            spans = self.containers(low, high, [*values, *beside])
            for tie in matching.match(self.text, values, beside, spans)[0]:
                bound[ids[tie.id]] = near[tie.secret]
        return bound

    def credentials(self) -> Iterator[Credential]:
        """Word what was bound: pairs and lone ids, lone secrets, lone tokens and passwords."""
        by_id: defaultdict[Secret, list[int]] = defaultdict(list)
        for at, value in enumerate(self.seen.ids):
            by_id[value.secret].append(at)
        shown: set[Secret] = set()
        for places in by_id.values():
            ranked = self.ranked(places)
            shown.update(self.seen.secrets[s].secret for s, _ in ranked)
            yield from self.of_id(places, ranked)
        # A copy of a secret that stands beside its id elsewhere in the text is not alone.
        yield from (self.alone(v) for v in self.seen.secrets if v.secret not in shown and self.is_aws(v))
        for others, bound in ((self.seen.tokens, self.tokens), (self.seen.passwords, self.passwords)):
            # A second copy of a token is not alone either: aws-mfa and saml2aws write it as aws_security_token, too.
            # What is real is told alone beside a masked id.
            joined = {
                others[at].secret for i, at in bound.items() if others[at].example or not self.seen.ids[i].example
            }
            yield from (_lone(v) for v in others if v.secret not in joined)

    def ranked(self, places: Sequence[int]) -> list[tuple[int, list[int]]]:
        """Return an id's secrets, best first, each with the id's places that it goes with.

        What is bound comes first. A real id never takes an example's secret: the pair would pass for an example.
        """
        ids, secrets = self.seen.ids, self.seen.secrets
        ties = [self.ties[i] for i in places if i in self.ties]
        ties.sort(key=lambda tie: (tie.firmness, matching.gap(ids[tie.id], secrets[tie.secret])))
        options = [(tie.id, tie.secret) for tie in ties] + self.alternates(places, ties)
        by_value: dict[Secret, tuple[int, list[int]]] = {}
        for i, s in options:
            by_value.setdefault(secrets[s].secret, (s, []))[1].append(i)
        return list(by_value.values())[:MAX_RANKS]

    def alternates(self, places: Sequence[int], ties: Sequence[Tie]) -> list[tuple[int, int]]:
        """Return (id, secret) of what else may be an id's secret within 1 KiB, best first.

        Beside a firm tie only other labelled secrets that nobody owns, and those of the same list or row. Else
        everything plausible, and an owned one only where the id stands inside the very container of that pair.
        """
        firm = bool(ties) and ties[0].firmness in FIRM
        found: list[tuple[int, int, int, int]] = []
        own = set(places)
        for i in places[:_ALTERNATES]:
            value = self.seen.ids[i]
            at = bisect_left(self.secret_starts, value.start)
            for s in range(max(0, at - _ALTERNATES), min(len(self.secret_starts), at + _ALTERNATES)):
                other, owner = self.seen.secrets[s], self.owners.get(s)
                if owner is not None and (firm or owner.id in own or not owner.within.holds(value.start)):
                    continue
                beside = firm and ties[0].firmness is Firmness.TOUCHING and ties[0].within.holds(other.start)
                if (firm and not beside and other.weight is not Label.STRONG) or (other.example and not value.example):
                    continue
                distance = matching.gap(value, other)
                if distance <= CLOSE and not self.is_elsewhere(i, s):
                    found.append((int(other.weight), distance, i, s))
        return [(i, s) for _, _, i, s in sorted(found)]

    def of_id(self, places: Sequence[int], ranked: Sequence[tuple[int, list[int]]]) -> Iterator[Credential]:
        """Yield an id's credentials: each place with its own secret, places without one with the best of the text."""
        tied = {i for i in places if i in self.ties}
        if not tied:
            yield from (self.word(i, None, 0) for i in places if i not in self.passwords)
        for rank, (s, own) in enumerate(ranked):
            secret = self.seen.secrets[s]
            shown = {*own, *(i for i in places if i not in tied)} if tied and rank == 0 else set(own)
            # Where nothing is bound the id alone comes first: what follows fits badly or belongs to another.
            yield from (self.word(i, secret, rank if tied else rank + 1) for i in sorted(shown))
            if self.seen.ids[places[0]].example and not secret.example and self.is_aws(secret):
                # Someone masked the id and forgot the secret.
                yield _lone(secret)
        # The same user's SMTP password is another credential, not another candidate.
        yield from (self.word(i, self.seen.passwords[self.passwords[i]], 0) for i in places if i in self.passwords)

    def word(self, i: int, secret: Value | None, rank: int) -> Credential:
        value = self.seen.ids[i]
        token = self.token_of.get(value.secret)
        beside = self.beside(i, [v for v in (secret, token) if v is not None])
        return Credential(
            value.kind if secret is None or secret.kind is not KeyKind.SES_SMTP else KeyKind.SES_SMTP,
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

    def beside(self, i: int, others: Sequence[Value]) -> Surroundings:
        """Read region, endpoint and expiry in the structure that holds an id and its others, up to the next pair."""
        value = self.seen.ids[i]
        # A repeated id that stands far from its pair speaks for its own place only.
        members = [value, *(other for other in others if matching.gap(value, other) <= FAR)]
        start, end = min(v.start for v in members), max(v.end for v in members)
        tie, section = self.ties.get(i), self.sections.get(i)
        place = self.places.get(i)
        if section is not None and (place is None or place.shape is Shape.BLOCK):
            place = section
        if tie is not None and place is not None and tie.within.size > place.size:
            place = tie.within
        where = self.room(start, end, place)
        return around(self.text, where, None if section is None else section.start)

    def room(self, start: int, end: int, place: Container | None = None) -> tuple[int, int, int, int]:
        """Return what may be read around a credential: in the structure that holds it, up to the next one."""
        low, high = max(0, start - _ROOM), min(len(self.text), end + _ROOM)
        if place is not None:
            low, high = max(low, place.start), min(high, place.end)
        before = bisect_left(self.mark_starts, start) - 1
        after = bisect_left(self.mark_starts, end)
        if before >= 0:
            low = max(low, self.mark_ends[before])
        if after < len(self.mark_starts):
            high = min(high, self.mark_starts[after])
        return min(low, start), start, end, max(high, end)

    def alone(self, value: Value) -> Credential:
        """Word a secret without an id of AWS's, and say so where another store's endpoint or id stands beside it."""
        where = self.room(value.start, value.end)
        notes = around(self.text, where, None).notes
        if not notes and (other := foreign_id(self.text, where)) is not None:
            notes = (f"non-AWS key id: {other}",)
        return replace(_lone(value), notes=notes)

    def is_aws(self, value: Value) -> bool:
        """Whether a secret without an id is AWS's: by its label, or by its label and the words around it."""
        named = any(word in value.label.joined for word in ("aws", "amazon", "s3", "iam", "secretaccesskey"))
        if value.weight is not Label.STRONG:
            return named and value.weight is Label.MEDIUM
        return named or _AWS_NEAR.search(self.text, max(0, value.start - 256), value.end + 256) is not None


def _lone(value: Value) -> Credential:
    """Word a secret, token or password that stands without an id."""
    return Credential(value.kind, None, value.secret, anchor=value.start, example=value.example)


def _known(ids: Sequence[int], found: Sequence[Container | None]) -> dict[int, Container]:
    return {i: container for i, container in zip(ids, found, strict=True) if container is not None}


def _groups(
    ids: Sequence[Value], some: Sequence[int], others: Sequence[Value], free: Sequence[int], reach: int
) -> Iterator[tuple[int, int, list[int], list[int]]]:
    """Yield windows of ids that stand within twice reach of each other, where any of the others stands.

    Each is (low, high, places of its ids, places of the others in it); some and free are in text order, and say which
    of the ids and others take part.
    """
    starts = [others[s].start for s in free]
    group: list[int] = []
    for at, i in enumerate(some):
        group.append(i)
        if at + 1 == len(some) or ids[some[at + 1]].start - reach > ids[i].end + reach:
            low, high = ids[group[0]].start - reach, ids[i].end + reach
            near = list(free[bisect_left(starts, low) : bisect_right(starts, high)])
            if near:
                yield low, high, group, near
            group = []
