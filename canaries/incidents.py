"""Sightings -> incidents and their alerts. Pure.

An incident is the sightings of one watched key by event time, until there was none for `quiet`, or until a person
closed it. A late record joins the incident of its time; one that bridges two joins the earlier. A closed incident
takes late records of its own time without an alarm, and a later use opens a new one. What concerns the watch itself
(tamper) is gathered by account, so that no key and no account can consume another's alarm.

The first sighting alerts at once; after that only what is new does: an address, a service, a write that succeeded, a
console sign-in, a session made, a use after somebody only looked. Of many addresses the first few are told each, then
only that they have doubled.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from firedamp.canaries import facts, sight
from firedamp.storage.records import (
    ADDRESSES,
    Alert,
    AlertKind,
    Canary,
    Claim,
    Decision,
    Event,
    Gathering,
    Incident,
    IncidentState,
    Kept,
    OwnCall,
    Past,
    Placement,
    Rejected,
    Severity,
    Sighting,
    SightingKind,
    WatchedKey,
)

QUIET: Final = timedelta(hours=24)
"""An incident ends when its key was not seen for so long, by event time."""

MASQUERADE: Final = "a mark of ours stands in it that we did not make this call with"
_SESSIONS: Final = frozenset({"sts:GetSessionToken", "sts:GetFederationToken", "sts:AssumeRole"})
_FEW: Final = 16
"""Addresses of one incident that are told each."""
_NAMED: Final = 3
"""Files that an alarm names."""
_STOLEN: Final = (
    "trail files were there and deleted before they were read: no use that they record was seen. "
    "A bucket that keeps versions still has them"
)
_SIGN_IN: Final = "signin:ConsoleLogin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is known besides the sightings: the watched keys, their placements, the time, and how long quiet is."""

    keys: Mapping[str, WatchedKey]
    placements: Mapping[str, Placement] = field(default_factory=dict)
    now: datetime
    quiet: timedelta = QUIET
    locate: facts.Locate = facts.nowhere


def decide(past: Past, sightings: Sequence[Sighting], known: Known) -> Iterator[Decision]:
    """Yield what becomes of new sightings: which are our own calls, what they join or open, what is only kept."""
    calls = {call.nonce: call for call in past.own_calls}
    groups: dict[tuple[str | None, str], list[Sighting]] = {}
    for sighting in sorted(sightings, key=lambda each: (each.event.time, each.event.id)):
        judged, claim = _judged(sighting, calls)
        if claim is not None:
            yield claim
        account = "" if judged.key_id is not None else judged.event.recipient_account_id or judged.event.account_id
        groups.setdefault((judged.key_id, account), []).append(judged)
    for (key_id, account), group in groups.items():
        title = f"the watch of account {account}" if key_id is None else known.keys[key_id].name
        incidents = [each for each in past.incidents if each.key_id == key_id and (key_id or each.title == title)]
        yield from _gathered(key_id, title, group, incidents, known)


def _judged(sighting: Sighting, calls: dict[str, OwnCall]) -> tuple[Sighting, Claim | None]:
    """Tell whether a sighting is a call of ours: by nonce and principal and call as written down, and only once."""
    event = sighting.event
    marks = [calls[nonce] for nonce in event.nonces if nonce in calls]
    if not marks:
        return sighting, None
    call, event_id = marks[0], event.shared_event_id or event.id
    ours = (
        len(event.nonces) == 1
        and call.principal in {event.access_key_id, event.arn} - {""}
        and call.call == event.call
        and call.event_id in {None, event_id}
    )
    if not ours:
        return replace(sighting, note="; ".join(filter(None, (sighting.note, MASQUERADE)))), None
    claim = None if call.event_id is not None else Claim(nonce=call.nonce, event_id=event_id)
    calls[call.nonce] = replace(call, event_id=event_id)
    return replace(sighting, own=True), claim


def _gathered(
    key_id: str | None, title: str, group: Sequence[Sighting], incidents: Sequence[Incident], known: Known
) -> Iterator[Decision]:
    quiet = known.quiet
    canary = isinstance(known.keys.get(key_id or ""), Canary)
    oldest_first = sorted(incidents, key=lambda each: (each.first, each.id))
    joined: dict[int, list[Sighting]] = {}
    loose: list[Sighting] = []
    for sighting in group:
        home = next((each for each in oldest_first if _closed_over(each, sighting.event.time, quiet)), None)
        if home is None:
            loose.append(sighting)
        else:
            joined.setdefault(home.id, []).append(sighting)
    opening: list[list[Sighting]] = []
    for cluster in _clusters([each for each in loose if _opens(each)], quiet):
        home = next((each for each in oldest_first if _is_near(each, cluster, quiet)), None)
        if home is None:
            opening.append(cluster)
        else:
            joined.setdefault(home.id, []).extend(cluster)
    kept: list[Sighting] = []
    for sighting in (each for each in loose if not _opens(each)):
        time = sighting.event.time
        home = next((each for each in oldest_first if _is_near(each, [sighting], quiet)), None)
        near = next(
            (each for each in opening if each[0].event.time - quiet <= time <= each[-1].event.time + quiet), None
        )
        if home is not None:
            joined.setdefault(home.id, []).append(sighting)
        elif near is not None:
            near.append(sighting)
        else:
            kept.append(sighting)
    for incident in oldest_first:
        if incident.id in joined:
            alerts = _alerts(key_id, joined[incident.id], incident, known)
            yield Gathering(incident=incident.id, key_id=key_id, canary=canary, title=incident.title,
                            sightings=tuple(joined[incident.id]), alerts=tuple(alerts))  # fmt: skip
    for cluster in opening:
        alerts = _alerts(key_id, cluster, None, known)
        yield Gathering(incident=None, key_id=key_id, canary=canary, title=title, sightings=tuple(cluster),
                        alerts=tuple(alerts))  # fmt: skip
    if kept:
        yield Kept(sightings=tuple(kept), alerts=tuple(_attempts(kept, known)))


def _opens(sighting: Sighting) -> bool:
    """Whether a sighting makes an incident where there is none: neither our own call nor a failed try at the watch."""
    return not sighting.own and not (sighting.kind is SightingKind.TAMPER and sighting.event.failed)


def _clusters(sightings: Sequence[Sighting], quiet: timedelta) -> Iterator[list[Sighting]]:
    """Yield the sightings, in order of time, cut where nothing was seen for longer than quiet."""
    cluster: list[Sighting] = []
    for sighting in sightings:
        if cluster and sighting.event.time - cluster[-1].event.time > quiet:
            yield cluster
            cluster = []
        cluster.append(sighting)
    if cluster:
        yield cluster


def _closed_over(incident: Incident, time: datetime, quiet: timedelta) -> bool:
    """Whether a time is of a closed incident: up to its last sighting, not after."""
    return incident.state is IncidentState.CLOSED and incident.first - quiet <= time <= incident.last


def _is_near(incident: Incident, cluster: Sequence[Sighting], quiet: timedelta) -> bool:
    return incident.state is IncidentState.OPEN and any(
        incident.first - quiet <= each.event.time <= incident.last + quiet for each in cluster
    )


def _alerts(
    key_id: str | None, sightings: Sequence[Sighting], incident: Incident | None, known: Known
) -> Iterator[Alert]:
    """Yield what a person must be told of new sightings of one incident: the first of them, or what is new."""
    told = [each for each in sightings if not each.own and not each.corrected]
    # All of them in one: whoever replays a mark a thousand times must not bury another alarm.
    replayed = [each for each in told if MASQUERADE in each.notes]
    if replayed:
        rank = AlertKind.MASQUERADE, Severity.CRITICAL
        yield _alert(f"masquerade/{replayed[0].event.id}", rank, replayed, key_id, known)
    if not told or (incident is not None and incident.state is IncidentState.CLOSED):
        return
    first = told[0].event
    name = f"{key_id or 'watch'}/{first.id}/{first.recipient_account_id}"
    if incident is None:
        yield _alert(f"opened/{name}", _rank(told, key_id, known), told, key_id, known)
        return
    new = tuple(dict.fromkeys(_news(told, incident)))
    if new:
        kind, severity = _rank(told, key_id, known)
        if incident.use + incident.derived and kind is not AlertKind.TAMPER:
            kind = AlertKind.ESCALATION
        yield _alert(f"escalation/{name}", (kind, severity), told, key_id, known, ("new", ", ".join(new[:8])))


def _rank(sightings: Sequence[Sighting], key_id: str | None, known: Known) -> tuple[AlertKind, Severity]:
    kinds = {each.kind for each in sightings}
    if kinds & {SightingKind.USE, SightingKind.DERIVED}:
        critical = isinstance(known.keys.get(key_id or ""), Canary)
        return AlertKind.CANARY_USED, Severity.CRITICAL if critical else Severity.HIGH
    if SightingKind.TAMPER in kinds:
        failed = all(each.event.failed for each in sightings)
        return AlertKind.TAMPER, Severity.INFO if failed else Severity.HIGH
    changed = any(each.event.wrote for each in sightings)
    return AlertKind.MENTIONED, Severity.HIGH if changed else Severity.LOW


def _news(sightings: Sequence[Sighting], incident: Incident) -> Iterator[str]:
    """Yield what these sightings show that the incident did not."""
    addresses = set(incident.addresses)
    for each in sightings:
        event, kind = each.event, each.kind
        if kind in {SightingKind.USE, SightingKind.DERIVED} and not incident.use + incident.derived:
            yield "the first use"
        if kind is SightingKind.MENTION and not event.wrote:
            continue  # whoever only looks, or fails to touch, is no intruder who goes on
        if kind is SightingKind.TAMPER and not event.failed:
            yield each.note
        if event.address and event.address not in addresses:
            addresses.add(event.address)
            yield from _another(event.address, len(addresses))
        if event.service and event.service not in incident.services:
            yield f"service {event.service}"
        yield from _first_success(event, incident)
        if sight.EXPOSED in each.notes:
            yield sight.EXPOSED


def _another(address: str, count: int) -> Iterator[str]:
    """Tell each address of the first few, then only that they have doubled: a thousand alerts would bury the next."""
    if count <= _FEW:
        yield f"address {address}"
    elif count <= ADDRESSES and count.bit_count() == 1:
        yield f"{count} addresses, now {address}"


def _first_success(event: Event, incident: Incident) -> Iterator[str]:
    if event.failed or event.call in incident.calls:
        return
    if event.call == _SIGN_IN:
        yield "a console sign-in"
    elif event.call in _SESSIONS:
        yield f"a session made by {event.call}"
    elif event.wrote:
        yield f"a write that succeeded: {event.call}"


def lost(rejected: Rejected, known: Known) -> Iterator[Alert]:
    """Yield an alarm for each watched key that stands in something which is no record: a use may be lost with it."""
    for key_id in (each for each in rejected.keys if each in known.keys):
        yield Alert(
            key=f"lost/{key_id}/{rejected.where}", kind=AlertKind.MENTIONED, severity=Severity.HIGH, at=known.now,
            key_id=key_id,
            facts=(*facts.of_key(known.keys[key_id], known.placements.get(key_id)), ("where", rejected.where),
                   ("remark", f"the key stands in it, and it cannot be read as a record: {rejected.why}")),
        )  # fmt: skip


def stolen(feed: str, gone: Sequence[str], now: datetime) -> Iterator[Alert]:
    """Yield one alarm for trail files that somebody deleted before they were read: what they held is not known."""
    if gone:
        named = ", ".join(gone[:_NAMED]) + (f" and {len(gone) - _NAMED} more" if len(gone) > _NAMED else "")
        yield Alert(
            key=f"gone/{gone[0]}", kind=AlertKind.TAMPER, severity=Severity.HIGH, at=now,
            facts=(("feed", feed), ("deleted", named), ("remark", _STOLEN)),
        )  # fmt: skip


def _attempts(sightings: Sequence[Sighting], known: Known) -> Iterator[Alert]:
    """Yield one note of the failed tries at the watch; of our own calls nothing is told."""
    tries = [each for each in sightings if not each.own]
    if tries:
        yield _alert(f"attempt/{tries[0].event.id}", (AlertKind.TAMPER, Severity.INFO), tries, None, known)


def _alert(
    name: str, rank: tuple[AlertKind, Severity], sightings: Sequence[Sighting], key_id: str | None, known: Known,
    *more: tuple[str, str],
) -> Alert:  # fmt: skip
    key = known.keys.get(key_id or "")
    whose = () if key is None else facts.of_key(key, known.placements.get(key.key_id))
    said = facts.of_sightings(sightings, known.now, known.locate)
    return Alert(key=name, kind=rank[0], severity=rank[1], at=known.now, key_id=key_id, facts=(*whose, *more, *said))
