"""The main path: feed page -> events -> sightings -> incidents -> store.

Everything between the page and the transaction is a pure join. The watermark moves in the transaction that keeps what
the page showed, and only then is the page acknowledged: a crash means a second read, never a lost record.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from firedamp.canaries import cloudtrail
from firedamp.canaries.feeds import Feed, Page
from firedamp.storage.records import (
    Alert,
    AlertKind,
    Canary,
    Event,
    Gathering,
    Incident,
    IncidentState,
    Rejected,
    Severity,
    Sighting,
    SightingKind,
    Skipped,
    WatchedKey,
    Watermark,
)
from firedamp.storage.store import Store

QUIET: Final = timedelta(hours=24)
"""An incident ends when its key was not seen for so long, by event time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Polled:
    """What one poll of a feed brought."""

    feed: str
    records: int
    sightings: int
    opened: tuple[Incident, ...]
    rejected: tuple[Rejected, ...]
    skipped: tuple[Skipped, ...]


def poll(feed: Feed, store: Store, now: datetime, quiet: timedelta = QUIET) -> Polled:
    """Read what is new in a feed and commit it page by page."""
    keys = {key.key_id: key for key in store.watched()}
    opened: list[Incident] = []
    rejected: list[Rejected] = []
    skipped: list[Skipped] = []
    records = seen = 0
    for page in feed.pages(store.watermark(feed.name)):
        events, bad = _events(page)
        sightings = list(join(events, keys))
        newest = max((event.time for event in events), default=None)
        mark = Watermark(feed=feed.name, position=page.position, newest=newest, polled=now)
        opened += store.record_page(
            feed.name, sightings, mark, lambda old, new: gather(old, new, keys, quiet, now), now
        )
        feed.acknowledge(page)
        records += len(page.records)
        seen += len(sightings)
        rejected += [*page.rejected, *bad]
        skipped += page.skipped
    return Polled(
        feed=feed.name, records=records, sightings=seen, opened=tuple(opened), rejected=tuple(rejected),
        skipped=tuple(skipped),
    )  # fmt: skip


def _events(page: Page) -> tuple[list[Event], list[Rejected]]:
    events: list[Event] = []
    rejected: list[Rejected] = []
    for where, record in page.records:
        match cloudtrail.parse(record, where):
            case Event() as event:
                events.append(event)
            case Rejected() as why:
                rejected.append(why)
    return events, rejected


def join(events: Iterable[Event], keys: dict[str, WatchedKey]) -> Iterator[Sighting]:
    """Yield what these events are to the watched keys: use, then derived; the first that fits."""
    owners = {key.owner.arn: key for key in keys.values() if key.owner.arn is not None}
    for event in events:
        if event.access_key_id in keys:
            yield Sighting(key_id=event.access_key_id, kind=SightingKind.USE, event=event)
            continue
        owner = owners.get(event.arn) or owners.get(event.issuer_arn)
        if owner is not None:
            yield Sighting(key_id=owner.key_id, kind=SightingKind.DERIVED, event=event)


def gather(
    old: Sequence[Incident], new: Sequence[Sighting], keys: dict[str, WatchedKey], quiet: timedelta, now: datetime
) -> Iterator[Gathering]:
    """Yield which incident each new sighting joins: one of its key and time, else a new one with its alert."""
    by_key = dict[str, list[Sighting]]()
    for sighting in new:
        if sighting.key_id is not None:
            by_key.setdefault(sighting.key_id, []).append(sighting)
    for key_id, sightings in by_key.items():
        sightings.sort(key=lambda sighting: (sighting.event.time, sighting.event.id))
        canary = isinstance(keys[key_id], Canary)
        mine = [incident for incident in old if incident.key_id == key_id]
        run: list[Sighting] = []
        for sighting in sightings:
            home = next((i for i in mine if _belongs(sighting.event.time, i, quiet)), None)
            if home is not None:
                yield Gathering(incident=home.id, key_id=key_id, canary=canary, title=home.title, sightings=(sighting,))
                continue
            if run and sighting.event.time - run[-1].event.time > quiet:
                yield _opening(keys[key_id], run, now)
                run = []
            run.append(sighting)
        if run:
            yield _opening(keys[key_id], run, now)


def _belongs(time: datetime, incident: Incident, quiet: timedelta) -> bool:
    late = quiet if incident.state is IncidentState.OPEN else timedelta(0)
    return incident.first - quiet <= time <= incident.last + late


def _opening(key: WatchedKey, sightings: Sequence[Sighting], now: datetime) -> Gathering:
    first = sightings[0]
    alert = Alert(
        key=f"use/{key.key_id}/{first.event.id}", kind=AlertKind.CANARY_USED, severity=Severity.CRITICAL, at=now,
        key_id=key.key_id,
        facts=(
            ("key", key.key_id), ("name", key.name), ("call", first.event.name), ("address", first.event.address),
            ("time", first.event.time.isoformat()),
        ),
    )  # fmt: skip
    return Gathering(
        incident=None, key_id=key.key_id, canary=isinstance(key, Canary), title=key.name, sightings=tuple(sightings),
        alerts=(alert,),
    )  # fmt: skip
