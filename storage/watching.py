"""The rows of the watch: watched keys, placements, our own calls, events, sightings, incidents, watermarks."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, replace
from datetime import datetime
from typing import Final

from firedamp.storage.outbox import insert_alert
from firedamp.storage.records import (
    Canary,
    CanaryState,
    Event,
    Gathering,
    Incident,
    IncidentState,
    OwnCall,
    Owner,
    Placement,
    PlacementState,
    RealKey,
    Sighting,
    SightingKind,
    WatchedKey,
    Watermark,
)
from firedamp.storage.rows import (
    Row,
    Rows,
    Value,
    chunks,
    maybe_text,
    maybe_time,
    number,
    pairs,
    placeholders,
    text,
    time,
)
from firedamp.storage.times import rfc3339

Gather = Callable[[Sequence[Incident], Sequence[Sighting]], Iterable[Gathering]]
"""Decides, purely, which incident each new sighting joins, given all incidents of the keys concerned."""

_COLUMNS: Final = ("id", "time", "name", "source", "region", "address", "user_agent", "error", "raw")
"""Fields of an event that have a column; the rest of the parsed fields stand together as JSON."""


class WatchRows(Rows):
    """What is watched, and what was seen of it."""

    def watch(self, key: WatchedKey) -> None:
        """Watch a key, or change what is known about one that is watched."""
        owner = key.owner
        with self._writing():
            match key:
                case Canary():
                    rest: tuple[Value, ...] = (json.dumps(key.tags), key.state, key.adopted, key.profile)
                case RealKey():
                    rest = ("[]", CanaryState.LIVE, True, None)
            self._db.execute(
                f"""INSERT OR REPLACE INTO watched_key (key_id, canary, name, arn, principal_id, user_name, account_id,
                note, since, tags, state, adopted, profile) VALUES ({placeholders(13)})""",
                (key.key_id, isinstance(key, Canary), key.name, owner.arn, owner.principal_id, owner.user_name,
                 owner.account_id, key.note, rfc3339(key.since), *rest),
            )  # fmt: skip
            # Findings made before we watched it: a canary's never go to AWS, a real key's do.
            if isinstance(key, Canary):
                self._db.execute(
                    """UPDATE finding SET canary = 1, status = 'CANARY', detail = 'a canary of ours'
                    WHERE access_key_id = ?""",
                    (key.key_id,),
                )

    def watched(self) -> list[WatchedKey]:
        """Return every watched key, retired ones too: they are watched as long as they can be used."""
        rows = self._all(
            """SELECT key_id, canary, name, arn, principal_id, user_name, account_id, note, tags, state, adopted,
            profile, since FROM watched_key ORDER BY since, key_id"""
        )
        return [_watched(row) for row in rows]

    def place(self, placement: Placement) -> None:
        """Remember where a canary was put, or what was seen there last."""
        with self._writing():
            self._db.execute(
                f"INSERT OR REPLACE INTO placement VALUES ({placeholders(9)})",
                (placement.key_id, placement.kind, placement.place, placement.format, placement.content,
                 rfc3339(placement.planted), None if placement.checked is None else rfc3339(placement.checked),
                 placement.state, placement.detail),
            )  # fmt: skip

    def placements(self) -> dict[str, Placement]:
        """Return every placement by key id."""
        rows = self._all("SELECT key_id, kind, place, format, content, planted, checked, state, detail FROM placement")
        return {
            text(r[0]): Placement(
                key_id=text(r[0]),
                kind=text(r[1]),
                place=text(r[2]),
                format=text(r[3]),
                content=text(r[4]),
                planted=time(r[5]),
                checked=maybe_time(r[6]),
                state=PlacementState(text(r[7])),
                detail=text(r[8]),
            )
            for r in rows
        }

    def add_own_call(self, call: OwnCall) -> None:
        """Write down a call before it is sent, so that its record is known as ours."""
        with self._writing():
            self._db.execute(
                "INSERT INTO own_call (nonce, key_id, principal, call, host, purpose, at) VALUES (?, ?, ?, ?, ?, ?, ?)",
                (call.nonce, call.key_id, call.principal, call.call, call.host, call.purpose, rfc3339(call.at)),
            )

    def own_calls(self, limit: int | None = None) -> list[OwnCall]:
        """Return the calls we made ourselves, newest first."""
        rows = self._all(
            """SELECT nonce, key_id, principal, call, host, purpose, at, event_id FROM own_call
            ORDER BY at DESC, nonce LIMIT ?""",
            (-1 if limit is None else limit,),
        )
        return [
            OwnCall(
                nonce=text(r[0]),
                key_id=maybe_text(r[1]),
                principal=text(r[2]),
                call=text(r[3]),
                host=text(r[4]),
                purpose=text(r[5]),
                at=time(r[6]),
                event_id=maybe_text(r[7]),
            )
            for r in rows
        ]

    def record_page(
        self, feed: str, sightings: Sequence[Sighting], watermark: Watermark | None, gather: Gather, at: datetime
    ) -> list[Incident]:
        """Commit what one page of a feed showed, with the watermark, in one transaction; return the new incidents.

        Sightings whose event was recorded before are dropped, so a page read twice, or the same record from two
        feeds, changes nothing. gather runs inside the transaction: two watchers never open two incidents for one use.
        """
        met = rfc3339(at)
        opened: list[int] = []
        with self._writing():
            fresh: list[tuple[int, Sighting]] = []
            for sighting in sightings:
                event = self._insert_event(sighting.event, feed, met)
                known = self._one(
                    "SELECT 1 FROM sighting WHERE event = ? AND key_id = ?", (event, sighting.key_id or "")
                )
                if known is None and (event, sighting.key_id) not in {(e, s.key_id) for e, s in fresh}:
                    fresh.append((event, sighting))
            numbers = {(s.event.id, s.event.recipient_account_id, s.event.access_key_id): e for e, s in fresh}
            keys = {s.key_id for _, s in fresh}
            for gathering in gather(self._incidents_of(keys), [s for _, s in fresh]):
                incident = gathering.incident
                if incident is None:
                    incident = self._open_incident(gathering, met)
                    opened.append(incident)
                for sighting in gathering.sightings:
                    event = numbers[(sighting.event.id, sighting.event.recipient_account_id,
                                     sighting.event.access_key_id)]  # fmt: skip
                    self._db.execute(
                        "INSERT INTO sighting (event, key_id, kind, own, note, incident) VALUES (?, ?, ?, ?, ?, ?)",
                        (event, sighting.key_id or "", sighting.kind, sighting.own, sighting.note, incident),
                    )
                times = [rfc3339(s.event.time) for s in gathering.sightings]
                self._db.execute(
                    "UPDATE incident SET first = min(first, ?), last = max(last, ?) WHERE id = ?",
                    (min(times), max(times), incident),
                )
                for alert in gathering.alerts:
                    insert_alert(self._db, replace(alert, incident=incident))
            if watermark is not None:
                self._set_watermark(watermark)
        return [incident for incident in self.incidents() if incident.id in opened]

    def _insert_event(self, event: Event, feed: str, met: str) -> int:
        fields = asdict(event)
        columns = [fields.pop(name) for name in _COLUMNS]
        key = (event.id, event.recipient_account_id, event.access_key_id)
        self._db.execute(
            f"INSERT OR IGNORE INTO event VALUES (NULL, {placeholders(14)})",
            (*key, rfc3339(event.time), *columns[2:8], json.dumps(fields), event.raw, feed, met),
        )
        row = self._one("SELECT id FROM event WHERE event_id = ? AND recipient = ? AND access_key = ?", key)
        assert row is not None  # noqa: S101 - it was just inserted, or stood there
        return number(row[0])

    def _open_incident(self, gathering: Gathering, opened: str) -> int:
        first = rfc3339(min(s.event.time for s in gathering.sightings))
        cursor = self._db.execute(
            """INSERT INTO incident (key_id, canary, title, state, reason, opened, first, last)
            VALUES (?, ?, ?, 'open', '', ?, ?, ?)""",
            (gathering.key_id, gathering.canary, gathering.title, opened, first, first),
        )
        return int(cursor.lastrowid or 0)

    def _incidents_of(self, keys: Iterable[str | None]) -> list[Incident]:
        found: list[Incident] = []
        wanted = set(keys)
        for chunk in chunks(key for key in wanted if key is not None):
            found += self._read_incidents(f"i.key_id IN ({placeholders(len(chunk))})", chunk)
        if None in wanted:
            found += self._read_incidents("i.key_id IS NULL", ())
        return found

    def incidents(self, *, state: IncidentState | None = None, number: int | None = None) -> list[Incident]:
        """Return incidents, by state or number when given, the newest first."""
        where, values = ["1"], list[Value]()
        if state is not None:
            where.append("i.state = ?")
            values.append(state)
        if number is not None:
            where.append("i.id = ?")
            values.append(number)
        return self._read_incidents(" AND ".join(where), values)

    def _read_incidents(self, where: str, values: Sequence[Value]) -> list[Incident]:
        rows = self._all(
            f"""SELECT i.id, i.key_id, i.canary, i.title, i.state, i.reason, i.opened, i.first, i.last
            FROM incident i WHERE {where} ORDER BY i.last DESC, i.id DESC""",
            values,
        )
        return [self._counted(row) for row in rows]

    def _counted(self, row: Row) -> Incident:
        kinds = dict.fromkeys(SightingKind, 0)
        own = denied = writes = 0
        addresses, services, regions = dict[str, None](), dict[str, None](), dict[str, None]()
        for sighting in self.sightings(number(row[0])):
            if sighting.own:
                own += 1
                continue
            event = sighting.event
            kinds[sighting.kind] += 1
            denied += event.denied
            writes += event.read_only is False and not event.error
            addresses.update(dict.fromkeys([event.address] if event.address else []))
            services.update(dict.fromkeys([event.service] if event.service else []))
            regions.update(dict.fromkeys([event.region] if event.region else []))
        return Incident(
            id=number(row[0]), key_id=maybe_text(row[1]), canary=bool(row[2]), title=text(row[3]),
            state=IncidentState(text(row[4])), reason=text(row[5]), opened=time(row[6]), first=time(row[7]),
            last=time(row[8]), use=kinds[SightingKind.USE], derived=kinds[SightingKind.DERIVED],
            mention=kinds[SightingKind.MENTION], tamper=kinds[SightingKind.TAMPER], own=own,
            addresses=tuple(addresses), services=tuple(services), regions=tuple(regions), denied=denied, writes=writes,
        )  # fmt: skip

    def sightings(self, incident: int) -> list[Sighting]:
        """Return every sighting of an incident, by event time."""
        rows = self._all(
            """SELECT s.key_id, s.kind, s.own, s.note, e.event_id, e.time, e.name, e.source, e.region, e.address,
            e.user_agent, e.error, e.raw, e.fields FROM sighting s JOIN event e ON e.id = s.event
            WHERE s.incident = ? ORDER BY e.time, e.event_id""",
            (incident,),
        )
        return [_sighting(row) for row in rows]

    def close_incident(self, incident: int, reason: str) -> None:
        """Close an incident: later sightings of its key open another."""
        with self._writing():
            self._db.execute("UPDATE incident SET state = 'closed', reason = ? WHERE id = ?", (reason, incident))

    def watermark(self, feed: str) -> Watermark | None:
        """Return how far a feed was read."""
        row = self._one("SELECT feed, position, newest, polled FROM watermark WHERE feed = ?", (feed,))
        return None if row is None else _watermark(row)

    def watermarks(self) -> list[Watermark]:
        """Return how far every feed was read."""
        return [_watermark(row) for row in self._all("SELECT feed, position, newest, polled FROM watermark")]

    def _set_watermark(self, mark: Watermark) -> None:
        self._db.execute(
            """INSERT INTO watermark VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET position = excluded.position,
            newest = max(coalesce(newest, ''), coalesce(excluded.newest, '')), polled = excluded.polled""",
            (mark.feed, mark.position, None if mark.newest is None else rfc3339(mark.newest), rfc3339(mark.polled)),
        )


def _watched(row: Row) -> WatchedKey:
    owner = Owner(
        arn=maybe_text(row[3]), principal_id=maybe_text(row[4]), user_name=maybe_text(row[5]),
        account_id=maybe_text(row[6]),
    )  # fmt: skip
    key_id, name, note, since = text(row[0]), text(row[2]), text(row[7]), time(row[12])
    if not row[1]:
        return RealKey(key_id=key_id, name=name, owner=owner, note=note, since=since)
    return Canary(
        key_id=key_id, name=name, owner=owner, note=note, since=since, tags=pairs(row[8]),
        state=CanaryState(text(row[9])), adopted=bool(row[10]), profile=maybe_text(row[11]),
    )  # fmt: skip


def _sighting(row: Row) -> Sighting:
    raw = row[12]
    event = Event(
        id=text(row[4]), time=time(row[5]), name=text(row[6]), source=text(row[7]), region=text(row[8]),
        address=text(row[9]), user_agent=text(row[10]), error=text(row[11]),
        raw=raw if isinstance(raw, bytes) else b"", **json.loads(text(row[13])),
    )  # fmt: skip
    return Sighting(
        key_id=text(row[0]) or None, kind=SightingKind(text(row[1])), own=bool(row[2]), note=text(row[3]), event=event
    )


def _watermark(row: Row) -> Watermark:
    newest = maybe_text(row[2])
    return Watermark(feed=text(row[0]), position=text(row[1]), newest=maybe_time(newest or None), polled=time(row[3]))
