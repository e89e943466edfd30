"""Who used this key since it leaked: findings x CloudTrail.

The records of one key, watched or not: those signed with it, what its owner did otherwise, and what was done in the
sessions that were made from it, followed from session to session. Cut at the moment it leaked first, counted on both
sides. What firedamp did itself is counted apart.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Final

from firedamp.canaries import cloudtrail, facts, trailfiles
from firedamp.canaries.feeds import Feed, World
from firedamp.canaries.sight import sightings
from firedamp.canaries.tamper import Guarded
from firedamp.canaries.watchlist import Watchlist
from firedamp.storage.errors import Failure
from firedamp.storage.records import (
    AddressKind,
    Event,
    Finding,
    GitProvenance,
    Outcome,
    OwnCall,
    RealKey,
    Sight,
    Sighting,
    SightingKind,
    Skipped,
    WatchedKey,
)
from firedamp.storage.secret import Fingerprint

_GENERATIONS: Final = 4
"""How often sessions made from sessions are followed: AWS chains roles no further than the hour lasts."""

Counts = tuple[tuple[str, int], ...]
"""Values with how often each was met, the most frequent first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Leak:
    """One place where the key was found, and since when it stood there as far as anybody knows."""

    place: str
    at: datetime
    by_commit: bool
    """Whether the time is of a commit; else it is when firedamp first saw the place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """What was done with a key in one span of time."""

    calls: int = 0
    reads: int = 0
    writes: int = 0
    denied: int = 0
    failed: int = 0
    """Refused for another reason than want of rights."""
    first: datetime | None = None
    last: datetime | None = None
    kinds: Counts = ()
    addresses: Counts = ()
    networks: Counts = ()
    agents: Counts = ()
    services: Counts = ()
    regions: Counts = ()
    names: Counts = ()
    """The calls, as `service:Operation`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """The story of one key. leaked None: nothing is known of a leak, and all of it stands in after."""

    key_id: str
    leaked: datetime | None
    leaks: tuple[Leak, ...]
    before: Period
    after: Period
    sessions: tuple[str, ...]
    own: int
    feeds: tuple[str, ...]
    skipped: tuple[Skipped, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered:
    """Every record of a key that some feeds hold, and the key ids of the sessions made from it."""

    sightings: tuple[Sighting, ...]
    sessions: tuple[str, ...]
    skipped: tuple[Skipped, ...]


def gather(
    key: WatchedKey, known: Iterable[Sighting], opened: Callable[[World], Iterable[Feed]], world: World
) -> Gathered:
    """Read feeds from their beginning for one key, and again for the sessions that are found, until there are no more.

    known are the sightings that the watch recorded. opened makes the feeds for a world that watches other keys; a feed
    whose reading takes records away (a queue) is none of them.
    """
    found = {_identity(each): each for each in known}
    sessions: dict[str, None] = {}
    skipped: list[Skipped] = []
    for _ in range(_GENERATIONS):
        keys: tuple[WatchedKey, ...] = (key, *(RealKey(key_id=each, name=each, since=key.since) for each in sessions))
        before = len(sessions)
        skipped = []
        for feed in opened(replace(world, watched=partial(tuple[WatchedKey, ...], keys))):
            for each in _read(feed, Watchlist(keys), skipped, world.clock()):
                mine = (
                    each if each.key_id == key.key_id else replace(each, key_id=key.key_id, kind=SightingKind.DERIVED)
                )
                found.setdefault(_identity(mine), mine)
        sessions |= dict.fromkeys(_sessions(found.values()))
        if len(sessions) == before:
            break
    return Gathered(sightings=tuple(found.values()), sessions=tuple(sessions), skipped=tuple(skipped))


def _identity(sighting: Sighting) -> tuple[str, str]:
    return sighting.event.id, sighting.event.recipient_account_id


def _read(feed: Feed, watchlist: Watchlist, skipped: list[Skipped], now: datetime) -> Iterator[Sighting]:
    try:
        for page in feed.pages(None):
            skipped.extend(page.skipped)
            for document in page.documents:
                contents = trailfiles.read(document, watchlist)
                skipped.extend(contents.skipped)
                skipped.extend(each.lost for each in contents.rejected if each.lost is not None)
                for where, record in contents.records():
                    for each in sightings(record, where, watchlist, Guarded(), now):
                        if isinstance(each, Sighting):
                            yield each
    except Failure as failure:
        skipped.append(Skipped(outcome=Outcome.FAILED, what=feed.name, why=str(failure)))


def _sessions(found: Iterable[Sighting]) -> Iterator[str]:
    for each in found:
        if each.kind is not SightingKind.MENTION:
            session = cloudtrail.minted(cloudtrail.content(each.event))
            if session:
                yield session


def leaks(findings: Sequence[Finding], sights: Mapping[Fingerprint, Sequence[Sight]]) -> tuple[Leak, ...]:
    """Return where a key was found, the earliest first: a commit dates its leak, else our first sight of it does."""
    found: dict[str, Leak] = {}
    for finding in findings:
        for sight in sights.get(finding.fingerprint, ()):
            place = sight.provenance
            match place:
                case GitProvenance(date=datetime() as date):
                    leak = Leak(place=f"{place.repository}: {place.path or place.commit}", at=date, by_commit=True)
                case GitProvenance():
                    where = f"{place.repository}: {place.path or sight.match.blob}"
                    leak = Leak(place=where, at=sight.first_seen, by_commit=False)
                case _:
                    leak = Leak(place=place.path or "where it is no longer", at=sight.first_seen, by_commit=False)
            if leak.place not in found or leak.at < found[leak.place].at:
                found[leak.place] = leak
    return tuple(sorted(found.values(), key=lambda each: (each.at, each.place)))


def story(
    key_id: str, gathered: Gathered, places: tuple[Leak, ...], own_calls: Iterable[OwnCall], feeds: tuple[str, ...]
) -> Usage:
    """Tell what was done with a key before and after it leaked. Pure."""
    calls = {call.nonce: call for call in own_calls}
    leaked = min((each.at for each in places), default=None)
    strange = [each for each in gathered.sightings if not each.own and not _is_ours(each.event, calls)]
    told = [each for each in strange if not each.corrected]
    before = [each for each in told if leaked is not None and each.event.time < leaked]
    after = [each for each in told if leaked is None or each.event.time >= leaked]
    return Usage(
        key_id=key_id, leaked=leaked, leaks=places, before=_period(before), after=_period(after),
        sessions=gathered.sessions, own=len(gathered.sightings) - len(strange), feeds=feeds, skipped=gathered.skipped,
    )  # fmt: skip


def _is_ours(event: Event, calls: Mapping[str, OwnCall]) -> bool:
    """Whether a record is of a call that firedamp wrote down before it made it, as when it verified the key."""
    return any(
        nonce in calls
        and calls[nonce].call == event.call
        and calls[nonce].principal in {event.access_key_id, event.arn} - {""}
        and calls[nonce].event_id in {None, event.id, event.shared_event_id}
        for nonce in event.nonces
    )


def _period(sightings: Sequence[Sighting]) -> Period:
    uses = [each.event for each in sightings if each.kind is not SightingKind.MENTION]
    times = [event.time for event in uses]
    done = [event for event in uses if not event.failed]
    return Period(
        calls=len(uses), writes=sum(event.wrote for event in done), reads=sum(not event.wrote for event in done),
        denied=sum(event.denied for event in uses), failed=sum(event.failed and not event.denied for event in uses),
        first=min(times, default=None), last=max(times, default=None),
        kinds=_counts(each.kind.value for each in sightings), addresses=_counts(event.address for event in uses),
        networks=_counts(network(event.address) for event in uses),
        agents=_counts(facts.read_agent(event.user_agent) for event in uses),
        services=_counts(event.service for event in uses), regions=_counts(event.region for event in uses),
        names=_counts(event.call for event in uses),
    )  # fmt: skip


def network(address: str) -> str:
    """Return the network around an address, a /24 or /48, and for what is no address its kind."""
    kind = facts.address_kind(address)
    if kind not in {AddressKind.PUBLIC, AddressKind.PRIVATE}:
        return kind.value
    number = ipaddress.ip_address(address.partition("%")[0])
    return str(ipaddress.ip_network((number, 24 if number.version == 4 else 48), strict=False))


def _counts(values: Iterable[str]) -> Counts:
    counts = Counter(value or "(none)" for value in values)
    return tuple(sorted(counts.items(), key=lambda each: (-each[1], each[0])))
