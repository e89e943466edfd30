"""The rows of the outbox: alerts, and their delivery on each channel."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Final

from firedamp.storage.records import Alert, AlertKind, Delivery, DeliveryState, Severity
from firedamp.storage.rows import Row, Rows, maybe_text, maybe_time, number, pairs, text, time
from firedamp.storage.secret import Fingerprint
from firedamp.storage.times import maybe_rfc3339, rfc3339


class OutboxRows(Rows):
    """Alerts and deliveries."""

    def add_alert(self, alert: Alert) -> None:
        """Put an alert into the outbox. The same alert twice is one."""
        with self._writing():
            insert_alert(self._db, alert)

    def alerts(self, limit: int = 100) -> list[tuple[int, Alert]]:
        """Return the last alerts with their numbers, newest first."""
        return [(number(row[0]), _alert(row)) for row in self._all(f"{_ALERT} ORDER BY id DESC LIMIT ?", (limit,))]

    def route(self, channels: Collection[str], at: datetime) -> int:
        """Give every alert a delivery on every channel that has none yet; return how many were added.

        What another channel took more than a day ago is no news to a channel that was configured since, or renamed.
        """
        added = 0
        with self._writing():
            for channel in channels:
                added += self._db.execute(
                    """INSERT OR IGNORE INTO delivery
                    SELECT id, ?, 'waiting', 0, ?, NULL, '' FROM alert
                    WHERE id NOT IN (SELECT alert FROM delivery WHERE channel = ?) AND NOT EXISTS (
                        SELECT 1 FROM delivery WHERE alert = alert.id AND state = 'delivered'
                        AND coalesce(delivered, next_try) < ?
                    )""",
                    (channel, rfc3339(at), channel, rfc3339(at - _NEWS)),
                ).rowcount
        return added

    def due(self, channel: str, at: datetime, latest: datetime, limit: int = 100) -> list[tuple[Delivery, Alert]]:
        """Return a channel's deliveries whose next try has come: what was tried least first, the worst, the oldest.

        So what it does not take never holds up what it would take, and a flood of notes no alarm. Of those that
        were tried the one that is due for longest is the third: new ones without end must not starve it. No try is ever
        put off beyond latest: one that is was written by a clock that was ahead, and is due.
        """
        due = f"""{_ALERT.replace("FROM alert", ", channel, state, attempts, next_try, delivered, error FROM alert")}
            JOIN delivery ON delivery.alert = alert.id
            WHERE state = 'waiting' AND channel = ? AND (next_try <= ? OR next_try > ?)"""
        which = channel, rfc3339(at), rfc3339(latest)
        rows = self._all(f"{due} ORDER BY attempts, severity DESC, alert.id LIMIT ?", (*which, limit))
        for longest in self._all(f"{due} AND attempts > 0 ORDER BY next_try, alert.id LIMIT 1", which):
            if longest not in rows[:3]:
                rows = [*rows[:2], longest, *(row for row in rows[2:] if row != longest)]
        return [(_delivery(row), _alert(row)) for row in rows]

    def begin_delivery(self, delivery: Delivery) -> bool:
        """Remember that a try begins, before it does; False when another process has begun this try, or ended it."""
        with self._writing():
            cursor = self._db.execute(
                """UPDATE delivery SET attempts = ?, next_try = ?
                WHERE alert = ? AND channel = ? AND state = 'waiting' AND attempts = ?""",
                (delivery.attempts, rfc3339(delivery.next_try), delivery.alert, delivery.channel,
                 delivery.attempts - 1),
            )  # fmt: skip
        return cursor.rowcount == 1

    def tries(self, channel: str) -> int:
        """Return how often a channel was tried in vain, for all that waits for it."""
        row = self._one(
            "SELECT coalesce(sum(attempts), 0) FROM delivery WHERE channel = ? AND state = 'waiting'", (channel,)
        )
        return 0 if row is None else number(row[0])

    def put_off(self, channel: str, until: datetime) -> None:
        """Let what waits for a channel now wait until a time: what comes later is tried when it comes."""
        with self._writing():
            self._db.execute(
                "UPDATE delivery SET next_try = max(next_try, ?) WHERE channel = ? AND state = 'waiting'",
                (rfc3339(until), channel),
            )

    def set_delivery(self, delivery: Delivery) -> None:
        """Remember how a try ended."""
        with self._writing():
            self._db.execute(
                """UPDATE delivery SET state = ?, attempts = ?, next_try = ?, delivered = ?, error = ?
                WHERE alert = ? AND channel = ?""",
                (delivery.state, delivery.attempts, rfc3339(delivery.next_try),
                 maybe_rfc3339(delivery.delivered), delivery.error,
                 delivery.alert, delivery.channel),
            )  # fmt: skip


_NEWS: Final = timedelta(days=1)
_ALERT: Final = "SELECT alert.id, name, kind, severity, at, key_id, incident, fingerprint, facts FROM alert"


def insert_alert(db: sqlite3.Connection, alert: Alert) -> None:
    """Insert an alert inside the caller's transaction: it is committed with the fact that it tells."""
    db.execute(
        """INSERT OR IGNORE INTO alert (name, kind, severity, at, key_id, incident, fingerprint, facts)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?)""",
        (alert.key, alert.kind, alert.severity, rfc3339(alert.at), alert.key_id, alert.incident, alert.fingerprint,
         json.dumps(alert.facts)),
    )  # fmt: skip


def _alert(row: Row) -> Alert:
    incident, fingerprint = row[6], maybe_text(row[7])
    return Alert(
        key=text(row[1]), kind=AlertKind(text(row[2])), severity=Severity(number(row[3])), at=time(row[4]),
        key_id=maybe_text(row[5]), incident=None if incident is None else number(incident),
        fingerprint=None if fingerprint is None else Fingerprint(fingerprint), facts=pairs(row[8]),
    )  # fmt: skip


def _delivery(row: Row) -> Delivery:
    return Delivery(
        alert=number(row[0]), channel=text(row[9]), state=DeliveryState(text(row[10])), attempts=number(row[11]),
        next_try=time(row[12]), delivered=maybe_time(row[13]), error=text(row[14]),
    )  # fmt: skip
