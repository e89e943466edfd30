"""Incidents for a person: a line each, or the whole story. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from firedamp.canaries import facts
from firedamp.service.show import safe
from firedamp.storage.records import ADDRESSES, Incident, Placement, Sighting
from firedamp.storage.times import rfc3339

_LISTED = 8


def line(incident: Incident, placement: Placement | None) -> str:
    """Return an incident in two lines: whose, since when, how much, and where the key had been put."""
    counts = ", ".join(
        f"{count} {what}"
        for count, what in (
            (incident.use, "use"), (incident.derived, "derived"), (incident.mention, "mention"),
            (incident.tamper, "tamper"), (incident.own, "own"),
        ) if count
    )  # fmt: skip
    key = incident.key_id or "the watch itself"
    span = f"{rfc3339(incident.first)} to {rfc3339(incident.last)}"
    where = "" if placement is None else f"  planted: {safe(placement.place)}"
    return (
        f"#{incident.id}  {incident.state}  {safe(key)}  {safe(incident.title)}\n"
        f"    {span}  {counts}  {incident.denied} denied, {incident.writes} writes"
        f"  from {_some(incident.addresses)}{where}\n"
    )


def story(
    incident: Incident, placement: Placement | None, first: Iterable[Sighting], between: int, last: Iterable[Sighting]
) -> Iterator[str]:
    """Yield an incident and its records in order of time: the first, how many are not shown, the last."""
    yield line(incident, placement)
    if incident.reason:
        yield f"    closed: {safe(incident.reason)}\n"
    yield from _records(first)
    if between:
        yield f"    … and {between:,} more: incidents show {incident.id} --all, or --format json\n"
    yield from _records(last)


def _records(sightings: Iterable[Sighting]) -> Iterator[str]:
    for each in sightings:
        event = each.event
        kind = "own" if each.own else "corrected" if each.corrected else each.kind.value
        agent = facts.read_agent(event.user_agent)
        yield (
            f"    {rfc3339(event.time)}  {kind:9}  {safe(event.call)}  {safe(event.region) or '-'}  "
            f"{safe(event.address) or '-'} ({facts.address_kind(event.address)})  "
            f"{safe(event.error) or 'done'}  {safe(agent) or '-'}\n"
        )
        if each.note:
            yield f"        {safe(each.note)}\n"


def _some(values: Sequence[str]) -> str:
    least = "at least " if len(values) == ADDRESSES else ""
    more = f" and {least}{len(values) - _LISTED} more" if len(values) > _LISTED else ""
    return safe(", ".join(values[:_LISTED])) + more if values else "no address"
