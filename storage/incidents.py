"""The rows of what was seen: events, sightings, incidents with their running counts, watermarks, feed trouble."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import fields, replace
from datetime import datetime, timedelta
from typing import Final

from firedamp.storage.outbox import insert_alert
from firedamp.storage.records import (
    ADDRESSES,
    Alert,
    Claim,
    Decision,
    Event,
    FeedTrouble,
    Gathering,
    Grown,
    Heard,
    Incident,
    IncidentState,
    Kept,
    PageRead,
    Past,
    Sighting,
    SightingKind,
    Watermark,
)
from firedamp.storage.rows import Row, Value, chunks, maybe_text, maybe_time, number, placeholders, text, time
from firedamp.storage.times import maybe_rfc3339, rfc3339
from firedamp.storage.watching import WatchRows

Decide = Callable[[Past, Sequence[Sighting]], Iterable[Decision]]
"""Decides, purely, what becomes of sightings that were never recorded before."""

Fresh = dict[tuple[str, str, str, str], int]
"""Row of the event by (event id, recipient, access key, watched key) of a sighting."""

_COLUMNS: Final = ("id", "time", "name", "source", "region", "address", "user_agent", "error", "raw")
"""Fields of an event that have a column; the rest of the parsed fields stand together as JSON."""
_FIELDS: Final = tuple(each.name for each in fields(Event) if each.name not in _COLUMNS)

_SIGHTING: Final = """SELECT s.key_id, s.kind, s.own, s.note, e.event_id, e.time, e.name, e.source, e.region, e.address,
    e.user_agent, e.error, e.raw, e.fields, s.corrected FROM sighting s JOIN event e ON e.id = s.event"""


class IncidentRows(WatchRows):
    """What was seen of watched keys, and how far each feed was read."""

    def record_page(self, page: PageRead, decide: Decide, at: datetime) -> list[Grown]:
        """Commit what one page of a feed showed, with the watermark, in one transaction; return what grew.

        Sightings whose event was recorded before are dropped, so a page read twice, or the same record from two
        feeds, changes nothing. decide runs inside the transaction: two watchers never open two incidents for one use,
        and one nonce is never claimed by two records.
        """
        met = rfc3339(at)
        grown: dict[int, Incident | None] = {}
        with self._writing():
            fresh, sightings = self._fresh(page, met)
            if sightings:
                calls = self.own_calls_with({nonce for s in sightings for nonce in s.event.nonces})
                past = Past(incidents=tuple(self._incidents_of({s.key_id for s in sightings})), own_calls=tuple(calls))
                before = {incident.id: incident for incident in past.incidents}
                for decision in decide(past, sightings):
                    match decision:
                        case Claim(nonce=nonce, event_id=event_id):
                            self._db.execute("UPDATE own_call SET event_id = ? WHERE nonce = ?", (event_id, nonce))
                        case Kept():
                            self._keep(decision.sightings, decision.alerts, None, fresh)
                        case Gathering():
                            incident = decision.incident or self._open_incident(decision, met)
                            self._keep(decision.sightings, decision.alerts, incident, fresh)
                            if not all(sighting.own for sighting in decision.sightings):
                                grown.setdefault(incident, before.get(incident))
            self._add_trouble(page, met)
            for alert in page.alerts:
                insert_alert(self._db, alert)
            for heard in page.heard:
                self._add_heard(replace(heard, feed=page.feed))
            if page.watermark is not None:
                self._set_watermark(page.watermark)
            return [Grown(before=was, after=self._read_incidents("i.id = ?", (i,))[0]) for i, was in grown.items()]

    def _fresh(self, page: PageRead, met: str) -> tuple[Fresh, list[Sighting]]:
        rows: Fresh = {}
        fresh: list[Sighting] = []
        for sighting in page.sightings:
            if _key(sighting) in rows:
                continue
            event = self._insert_event(sighting.event, page.feed, met)
            if self._one("SELECT 1 FROM sighting WHERE event = ? AND key_id = ?", (event, sighting.key_id or "")):
                continue
            rows[_key(sighting)] = event
            fresh.append(sighting)
        return rows, fresh

    def _insert_event(self, event: Event, feed: str, met: str) -> int:
        columns = [getattr(event, name) for name in _COLUMNS]
        key = (event.id, event.recipient_account_id, event.access_key_id)
        self._db.execute(
            f"INSERT OR IGNORE INTO event VALUES (NULL, {placeholders(15)})",
            (
                *key,
                rfc3339(event.time),
                *columns[2:8],
                event.original_event_id,
                json.dumps({name: getattr(event, name) for name in _FIELDS}),
                event.raw,
                feed,
                met,
            ),
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

    def _keep(self, sightings: Sequence[Sighting], alerts: Sequence[Alert], incident: int | None, fresh: Fresh) -> None:
        counts = Counter[tuple[str, str]]()
        recount = set[int]()
        for sighting in sightings:
            event = fresh[_key(sighting)]
            stale, touched = self._corrections(sighting)
            recount |= touched
            self._db.execute(
                """INSERT INTO sighting (event, key_id, kind, own, note, corrected, incident)
                VALUES (?, ?, ?, ?, ?, ?, ?)""",
                (event, sighting.key_id or "", sighting.kind, sighting.own, sighting.note, stale, incident),
            )
            counts.update(_marks(replace(sighting, corrected=stale)))
        for alert in alerts:
            insert_alert(self._db, replace(alert, incident=incident))
        if incident is not None:
            self._count(incident, counts)
            times = [rfc3339(sighting.event.time) for sighting in sightings if not sighting.own]
            if times:
                self._db.execute(
                    "UPDATE incident SET first = min(first, ?), last = max(last, ?) WHERE id = ?",
                    (min(times), max(times), incident),
                )
        for each in recount:
            self._db.execute("DELETE FROM tally WHERE incident = ?", (each,))
            self._count(each, Counter(mark for one in self.each_sighting(each) for mark in _marks(one)))

    def _corrections(self, sighting: Sighting) -> tuple[bool, set[int]]:
        """Return whether a known record corrects this one, and the incidents whose records this one corrects."""
        event, key = sighting.event, sighting.key_id or ""
        touched = set[int]()
        if event.original_event_id:
            old = self._all(
                """SELECT s.id, s.incident FROM sighting s JOIN event e ON e.id = s.event
                WHERE e.event_id = ? AND e.recipient = ? AND s.key_id = ?""",
                (event.original_event_id, event.recipient_account_id, key),
            )
            for row in old:
                self._db.execute("UPDATE sighting SET corrected = 1 WHERE id = ?", (row[0],))
                touched |= {number(row[1])} if row[1] is not None else set()
        stale = self._one(
            """SELECT 1 FROM event e JOIN sighting s ON s.event = e.id
            WHERE e.original = ? AND e.original != '' AND e.recipient = ? AND s.key_id = ?""",
            (event.id, event.recipient_account_id, key),
        )
        return stale is not None, touched

    def _count(self, incident: int, counts: Counter[tuple[str, str]]) -> None:
        listed = self._all("SELECT value FROM tally WHERE incident = ? AND what = 'address'", (incident,))
        addresses = {text(value) for (value,) in listed}
        for (what, value), count in counts.items():
            if what == "address":
                # All counts are read with each page, and a stranger must not make that dear.
                if value not in addresses and len(addresses) >= ADDRESSES:
                    continue
                addresses.add(value)
            self._db.execute(
                """INSERT INTO tally (incident, what, value, count) VALUES (?, ?, ?, ?)
                ON CONFLICT DO UPDATE SET count = count + excluded.count""",
                (incident, what, value, count),
            )

    def _incidents_of(self, keys: Iterable[str | None]) -> list[Incident]:
        found: list[Incident] = []
        wanted = set(keys)
        for chunk in chunks(key for key in wanted if key is not None):
            found += self._read_incidents(f"i.key_id IN ({placeholders(len(chunk))})", chunk)
        if None in wanted:
            found += self._read_incidents("i.key_id IS NULL", ())
        return found

    def incidents(self, *, state: IncidentState | None = None) -> list[Incident]:
        """Return incidents, of one state when it is given, the newest first."""
        return self._read_incidents("i.state = coalesce(?, i.state)", (state,))

    def _read_incidents(self, where: str, values: Sequence[Value]) -> list[Incident]:
        rows = self._all(
            f"""SELECT i.id, i.key_id, i.canary, i.title, i.state, i.reason, i.opened, i.first, i.last
            FROM incident i WHERE {where} ORDER BY i.last DESC, i.id DESC""",
            values,
        )
        counts: dict[int, dict[str, dict[str, int]]] = {}
        for row in self._all(
            f"""SELECT t.incident, t.what, t.value, t.count FROM tally t JOIN incident i ON i.id = t.incident
            WHERE {where} ORDER BY t.id""",
            values,
        ):
            counts.setdefault(number(row[0]), {}).setdefault(text(row[1]), {})[text(row[2])] = number(row[3])
        return [_incident(row, counts.get(number(row[0]), {})) for row in rows]

    def sightings(self, incident: int) -> list[Sighting]:
        """Return every sighting of an incident, by event time."""
        return list(self.each_sighting(incident))

    def each_sighting(self, incident: int) -> Iterator[Sighting]:
        """Yield every sighting of an incident, by event time: some hundred in memory, where there are 300,000."""
        order = "ORDER BY e.time, e.event_id, s.id"
        ids = self._all(
            f"SELECT s.id FROM sighting s JOIN event e ON e.id = s.event WHERE s.incident = ? {order}", (incident,)
        )
        for some in chunks(number(row[0]) for row in ids):
            for row in self._all(f"{_SIGHTING} WHERE s.id IN ({placeholders(len(some))}) {order}", some):
                yield _sighting(row)

    def ends(self, incident: int, most: int) -> tuple[list[Sighting], int, list[Sighting]]:
        """Return the first and the last sightings of an incident, so many of each, and how many stand between."""
        ((count,),) = self._all("SELECT count(*) FROM sighting WHERE incident = ?", (incident,))
        if number(count) <= 2 * most:
            return self.sightings(incident), 0, []

        def some(order: str) -> list[Sighting]:
            # Of all of them, only what puts them in order is read.
            rows = self._all(
                f"""{_SIGHTING} WHERE s.id IN (SELECT s.id FROM sighting s JOIN event e ON e.id = s.event
                WHERE s.incident = ? ORDER BY e.time {order}, e.event_id {order} LIMIT ?)
                ORDER BY e.time, e.event_id""",
                (incident, most),
            )
            return [_sighting(row) for row in rows]

        return some("ASC"), number(count) - 2 * most, some("DESC")

    def sightings_of(self, key_id: str) -> list[Sighting]:
        """Return every sighting of a watched key, our own calls too, by event time."""
        rows = self._all(f"{_SIGHTING} WHERE s.key_id = ? ORDER BY e.time, e.event_id", (key_id,))
        return [_sighting(row) for row in rows]

    def close_incident(self, incident: int, reason: str) -> bool:
        """Close an incident: later uses of its key open another. Return whether there is such an incident."""
        with self._writing():
            done = self._db.execute("UPDATE incident SET state = 'closed', reason = ? WHERE id = ?", (reason, incident))
        return bool(done.rowcount)

    def watermark(self, feed: str) -> Watermark | None:
        """Return how far a feed was read."""
        row = self._one("SELECT feed, position, newest, polled FROM watermark WHERE feed = ?", (feed,))
        return None if row is None else _watermark(row)

    def watermarks(self) -> list[Watermark]:
        """Return how far every feed was read."""
        return [_watermark(row) for row in self._all("SELECT feed, position, newest, polled FROM watermark")]

    def heard(self) -> list[Heard]:
        """Return what every feed brought of every region."""
        rows = self._all("SELECT feed, region, first, newest, longest FROM heard ORDER BY feed, region")
        return [_heard(row) for row in rows]

    def _add_heard(self, heard: Heard) -> None:
        row = self._one(
            "SELECT feed, region, first, newest, longest FROM heard WHERE feed = ? AND region = ?",
            (heard.feed, heard.region),
        )
        both = heard if row is None else _heard(row).joined(heard)
        self._db.execute(
            "INSERT OR REPLACE INTO heard VALUES (?, ?, ?, ?, ?)",
            (both.feed, both.region, rfc3339(both.first), rfc3339(both.newest), both.longest.total_seconds()),
        )

    def troubles(self) -> list[FeedTrouble]:
        """Return what feeds brought that was not read."""
        rows = self._all("SELECT feed, outcome, why, count, what, last FROM feed_trouble")
        return [
            FeedTrouble(
                feed=text(r[0]), outcome=text(r[1]), why=text(r[2]), count=number(r[3]), what=text(r[4]),
                last=time(r[5]),
            )
            for r in rows
        ]  # fmt: skip

    def forget_troubles(self, before: datetime) -> None:
        """Forget what was not read for a reason that was last met before a time: many a reason names a file or time."""
        with self._writing():
            self._db.execute("DELETE FROM feed_trouble WHERE last < ?", (rfc3339(before),))

    def _add_trouble(self, page: PageRead, met: str) -> None:
        told = [("rejected", each.why, 1, each.where) for each in page.rejected]
        told += [(str(each.outcome), each.why, each.count, each.what) for each in page.skipped]
        for outcome, why, count, what in told:
            self._db.execute(
                """INSERT INTO feed_trouble VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE
                SET count = count + excluded.count, what = excluded.what, last = excluded.last""",
                (page.feed, outcome, why, count, what, met),
            )

    def _set_watermark(self, mark: Watermark) -> None:
        self._db.execute(
            """INSERT INTO watermark VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET position = excluded.position,
            newest = max(coalesce(newest, ''), coalesce(excluded.newest, '')),
            polled = coalesce(nullif(excluded.polled, ''), polled)""",
            (mark.feed, mark.position, maybe_rfc3339(mark.newest),
             "" if mark.polled is None else rfc3339(mark.polled)),
        )  # fmt: skip


def _key(sighting: Sighting) -> tuple[str, str, str, str]:
    event = sighting.event
    return event.id, event.recipient_account_id, event.access_key_id, sighting.key_id or ""


def _marks(sighting: Sighting) -> Iterator[tuple[str, str]]:
    """Yield what a sighting adds to the running counts of its incident."""
    event = sighting.event
    if sighting.corrected:
        return
    if sighting.own:
        yield "own", ""
        return
    yield "kind", sighting.kind
    if sighting.kind is SightingKind.MENTION and event.wrote:
        yield "change", ""
    if event.denied:
        yield "denied", ""
    if event.wrote:
        yield "write", ""
    if not event.failed:
        yield "call", event.call
    for what, value in (("address", event.address), ("service", event.service), ("region", event.region)):
        if value:
            yield what, value


def _incident(row: Row, counts: dict[str, dict[str, int]]) -> Incident:
    kinds = counts.get("kind", {})

    def one(what: str) -> int:
        return counts.get(what, {}).get("", 0)

    return Incident(
        id=number(row[0]), key_id=maybe_text(row[1]), canary=bool(row[2]), title=text(row[3]),
        state=IncidentState(text(row[4])), reason=text(row[5]), opened=time(row[6]), first=time(row[7]),
        last=time(row[8]), use=kinds.get(SightingKind.USE, 0), derived=kinds.get(SightingKind.DERIVED, 0),
        mention=kinds.get(SightingKind.MENTION, 0), tamper=kinds.get(SightingKind.TAMPER, 0), own=one("own"),
        addresses=tuple(counts.get("address", ())), services=tuple(counts.get("service", ())),
        regions=tuple(counts.get("region", ())), calls=tuple(counts.get("call", ())), denied=one("denied"),
        writes=one("write"), changes=one("change"),
    )  # fmt: skip


def _sighting(row: Row) -> Sighting:
    raw, more = row[12], json.loads(text(row[13]))
    more["nonces"] = tuple(more["nonces"])
    event = Event(
        id=text(row[4]), time=time(row[5]), name=text(row[6]), source=text(row[7]), region=text(row[8]),
        address=text(row[9]), user_agent=text(row[10]), error=text(row[11]),
        raw=raw if isinstance(raw, bytes) else b"", **more,
    )  # fmt: skip
    return Sighting(
        key_id=text(row[0]) or None, kind=SightingKind(text(row[1])), own=bool(row[2]), note=text(row[3]),
        event=event, corrected=bool(row[14]),
    )  # fmt: skip


def _heard(row: Row) -> Heard:
    longest = row[4]
    assert isinstance(longest, float)  # noqa: S101 - the table is strict
    return Heard(
        feed=text(row[0]), region=text(row[1]), first=time(row[2]), newest=time(row[3]),
        longest=timedelta(seconds=longest),
    )  # fmt: skip


def _watermark(row: Row) -> Watermark:
    newest, polled = maybe_text(row[2]), maybe_text(row[3])
    return Watermark(
        feed=text(row[0]), position=text(row[1]), newest=maybe_time(newest or None), polled=maybe_time(polled or None)
    )
