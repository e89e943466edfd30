"""The rows of bait: users asked of IAM, what IAM said of last use, how the watch stands, drills."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Final

from firedamp.storage.outbox import insert_alert
from firedamp.storage.records import (
    Alert,
    Blind,
    Canary,
    ChannelStanding,
    Check,
    Drill,
    LastUse,
    Minting,
    MintPurpose,
    Placement,
    Sound,
    Standing,
    Unsure,
)
from firedamp.storage.rows import Row, Rows, maybe_text, maybe_time, pairs, placeholders, text, time
from firedamp.storage.times import maybe_rfc3339, rfc3339

_STATES: Final = {Sound: "sound", Blind: "blind", Unsure: "unsure"}


class BaitRows(Rows):
    """What was asked of IAM, and what proves that a use would be seen."""

    def ask(self, mintings: Iterable[Minting]) -> None:
        """Write down users before IAM is asked to make them, or what IAM has answered since."""
        with self._writing():
            for each in mintings:
                self._db.execute(f"INSERT OR REPLACE INTO minting VALUES ({placeholders(9)})", _minting_row(each))

    def mintings(self) -> list[Minting]:
        """Return the users that were asked for and are neither handed over nor taken back, in the order asked."""
        rows = self._all(
            """SELECT account_id, name, profile, purpose, note, tags, asked, user_id, key_id FROM minting
            ORDER BY asked, name"""
        )
        return [
            Minting(
                account_id=text(r[0]), name=text(r[1]), profile=maybe_text(r[2]), purpose=MintPurpose(text(r[3])),
                note=text(r[4]), tags=pairs(r[5]), asked=time(r[6]), user_id=maybe_text(r[7]), key_id=maybe_text(r[8]),
            )
            for r in rows
        ]  # fmt: skip

    def key_made(self, minting: Minting, canary: Canary) -> None:
        """Watch a key from the moment IAM has named it: before its secret is handed over."""
        owner = canary.owner
        with self._writing():
            self._db.execute(f"INSERT OR REPLACE INTO minting VALUES ({placeholders(9)})", _minting_row(minting))
            self._db.execute(
                f"""INSERT INTO watched_key (key_id, canary, name, arn, principal_id, user_name, account_id, note,
                since, tags, state, adopted, profile) VALUES ({placeholders(13)})""",
                (canary.key_id, True, canary.name, owner.arn, owner.principal_id, owner.user_name, owner.account_id,
                 canary.note, rfc3339(canary.since), json.dumps(canary.tags), canary.state, False, canary.profile),
            )  # fmt: skip

    def handed_over(self, minting: Minting) -> None:
        """Remember that a secret was handed over: the canary lives."""
        with self._writing():
            self._db.execute("UPDATE watched_key SET state = 'live' WHERE key_id = ?", (minting.key_id,))
            self._forget(minting)

    def taken_back(self, minting: Minting) -> None:
        """Forget a user that IAM no longer has, and its key, whose secret nobody was given.

        The key of a drill whose record has not come yet stays watched: it may come late.
        """
        with self._writing():
            self._db.execute(
                """DELETE FROM watched_key WHERE key_id = ? AND state = 'minting' AND NOT EXISTS
                (SELECT 1 FROM drill WHERE drill.key_id = watched_key.key_id AND sighted IS NULL)""",
                (minting.key_id,),
            )
            self._forget(minting)

    def key_deleted(self, minting: Minting) -> None:
        """Forget the key of a user that gets another: its secret was handed over to nobody."""
        with self._writing():
            self._db.execute("DELETE FROM watched_key WHERE key_id = ? AND state = 'minting'", (minting.key_id,))
            self._db.execute(
                "UPDATE minting SET key_id = NULL WHERE account_id = ? AND name = ?", (minting.account_id, minting.name)
            )

    def _forget(self, minting: Minting) -> None:
        self._db.execute("DELETE FROM minting WHERE account_id = ? AND name = ?", (minting.account_id, minting.name))

    # Placements.

    def set_checked(self, placement: Placement, alert: Alert | None) -> None:
        """Remember what a look at a placement showed, together with the alert that it is."""
        with self._writing():
            self._db.execute(
                "UPDATE placement SET checked = ?, state = ?, detail = ? WHERE key_id = ?",
                (maybe_rfc3339(placement.checked), placement.state, placement.detail, placement.key_id),
            )
            if alert is not None:
                insert_alert(self._db, alert)

    def unplace(self, key_id: str) -> None:
        """Forget a placement that came to nothing, and its key, too, if that was handed over to nobody."""
        with self._writing():
            self._db.execute("DELETE FROM placement WHERE key_id = ?", (key_id,))
            self._db.execute("DELETE FROM watched_key WHERE key_id = ? AND state = 'minting'", (key_id,))

    # The second net.

    def last_uses(self) -> dict[str, LastUse]:
        """Return what IAM said of each key, by key id."""
        rows = self._all("SELECT key_id, asked, used, service, region, active, listed FROM last_use")
        return {
            text(r[0]): LastUse(
                key_id=text(r[0]), asked=time(r[1]), used=maybe_time(r[2]), service=text(r[3]), region=text(r[4]),
                active=None if r[5] is None else bool(r[5]), listed=maybe_time(r[6]),
            )
            for r in rows
        }  # fmt: skip

    def set_last_use(self, use: LastUse) -> None:
        """Remember what IAM said of a key."""
        with self._writing():
            self._db.execute(
                f"INSERT OR REPLACE INTO last_use VALUES ({placeholders(7)})",
                (use.key_id, rfc3339(use.asked), maybe_rfc3339(use.used), use.service, use.region, use.active,
                 maybe_rfc3339(use.listed)),
            )  # fmt: skip

    def uses_between(self, key_id: str, first: datetime, last: datetime) -> list[tuple[str, str]]:
        """Return (service, region) of every recorded use of a key within a span, our own calls too."""
        rows = self._all(
            """SELECT e.source, e.region, e.time FROM sighting s JOIN event e ON e.id = s.event
            WHERE s.key_id = ? AND s.kind = 'use'""",
            (key_id,),
        )
        return [(text(r[0]).partition(".")[0], text(r[1])) for r in rows if first <= time(r[2]) <= last]

    def own_uses_between(self, key_id: str, first: datetime, last: datetime) -> list[str]:
        """Return `service:Operation` of every call that we made with a key ourselves within a span."""
        rows = self._all("SELECT call, at FROM own_call WHERE principal = ?", (key_id,))
        return [text(r[0]) for r in rows if first <= time(r[1]) <= last]

    def forget_net_calls(self, calls: datetime, records: datetime) -> int:
        """Forget the nets' own calls made before calls, and their records met before records; return how many records.

        A hundred canaries make 29,000 such calls a day, each with a record that says nothing. A record that stands in
        an incident is kept, and so is one that is anything but our own.
        """
        with self._writing():
            self._db.execute("DELETE FROM own_call WHERE purpose = 'net' AND at < ?", (rfc3339(calls),))
            old = self._all(
                """SELECT e.id FROM event e WHERE e.met < ? AND e.name IN ('GetAccessKeyLastUsed', 'ListAccessKeys')
                AND NOT EXISTS (SELECT 1 FROM sighting s
                WHERE s.event = e.id AND NOT (s.own AND s.incident IS NULL))""",
                (rfc3339(records),),
            )
            self._db.executemany("DELETE FROM sighting WHERE event = ?", old)
            self._db.executemany("DELETE FROM event WHERE id = ?", old)
        return len(old)

    # How the watch stands.

    def record_checks(self, checks: Iterable[Check], at: datetime, alarm: Callable[[Blind, datetime], Alert]) -> None:
        """Keep what checks found; one that is newly blind is an alert, committed with it, once until it is sound."""
        with self._writing():
            for check in checks:
                self._record(check, at, alarm)

    def _record(self, check: Check, at: datetime, alarm: Callable[[Blind, datetime], Alert]) -> None:
        state = _STATES[type(check)]
        row = self._one("SELECT state, since, proven, alarm FROM standing WHERE condition = ?", (check.condition,))
        was, since, proven, alarmed = row or (None, None, None, None)
        began = since if was == state else rfc3339(at)
        match check:
            case Sound(told=why):
                proven, alarmed = rfc3339(at), None
            case Blind(why=why):
                began = rfc3339(check.since) if check.since is not None and was != state else began
                if alarmed is None:
                    alarmed = rfc3339(at)
                    insert_alert(self._db, alarm(check, time(began)))
            case Unsure(why=why):
                pass
        self._db.execute(
            f"INSERT OR REPLACE INTO standing VALUES ({placeholders(7)})",
            (check.condition, state, why, began, rfc3339(at), proven, alarmed),
        )

    def standings(self) -> list[Standing]:
        """Return how each part of the watch stands."""
        rows = self._all("SELECT condition, state, why, since, at, proven FROM standing ORDER BY condition")
        return [
            Standing(check=_check(r), since=time(r[3]), at=time(r[4]), proven=maybe_time(r[5])) for r in rows
        ]  # fmt: skip

    def forget_checks(self, before: datetime) -> None:
        """Forget conditions that no check has spoken of for long: a trail or feed that is no longer ours to watch."""
        with self._writing():
            for row in self._all("SELECT condition, at FROM standing"):
                if time(row[1]) < before:
                    self._db.execute("DELETE FROM standing WHERE condition = ?", (row[0],))

    def channel_standings(self) -> list[ChannelStanding]:
        """Return how each channel does that ever had an alert to deliver."""
        rows = self._all(
            """SELECT channel, max(delivered),
            min(CASE WHEN state = 'waiting' AND attempts > 0 THEN alert.at END),
            coalesce(max(CASE WHEN state = 'waiting' THEN error END), '')
            FROM delivery JOIN alert ON alert.id = delivery.alert GROUP BY channel ORDER BY channel"""
        )
        return [
            ChannelStanding(channel=text(r[0]), delivered=maybe_time(r[1]), waiting=maybe_time(r[2]), error=text(r[3]))
            for r in rows
        ]

    # Drills.

    def forget_drill_keys(self, before: datetime) -> None:
        """Forget keys made for a drill and taken back, when its record has come, or it began before a time."""
        with self._writing():
            self._db.execute(
                """DELETE FROM watched_key WHERE state = 'minting'
                AND NOT EXISTS (SELECT 1 FROM minting WHERE minting.key_id = watched_key.key_id)
                AND EXISTS (SELECT 1 FROM drill WHERE drill.key_id = watched_key.key_id AND path_only = 1
                AND (sighted IS NOT NULL OR called < ?))""",
                (rfc3339(before),),
            )

    def set_drill(self, drill: Drill) -> None:
        """Remember a drill, or the stations it has reached."""
        with self._writing():
            self._db.execute(
                f"INSERT OR REPLACE INTO drill VALUES ({placeholders(8)})",
                (drill.nonce, drill.key_id, drill.path_only, rfc3339(drill.called), maybe_rfc3339(drill.recorded),
                 maybe_rfc3339(drill.sighted), maybe_rfc3339(drill.alerted), maybe_rfc3339(drill.delivered)),
            )  # fmt: skip

    def drills(self) -> list[Drill]:
        """Return every drill, the newest first."""
        rows = self._all(
            """SELECT nonce, key_id, path_only, called, recorded, sighted, alerted, delivered FROM drill
            ORDER BY called DESC, nonce"""
        )
        return [
            Drill(
                nonce=text(r[0]), key_id=text(r[1]), path_only=bool(r[2]), called=time(r[3]),
                recorded=maybe_time(r[4]), sighted=maybe_time(r[5]), alerted=maybe_time(r[6]),
                delivered=maybe_time(r[7]),
            )
            for r in rows
        ]  # fmt: skip

    def drill_record(self, nonce: str) -> tuple[datetime, datetime] | None:
        """Return the time of the record recognised as a drill's call, and when the watch met it; None before that."""
        row = self._one(
            """SELECT e.time, e.met FROM own_call o JOIN event e ON e.event_id = o.event_id
            WHERE o.nonce = ? ORDER BY e.id LIMIT 1""",
            (nonce,),
        )
        return None if row is None else (time(row[0]), time(row[1]))

    def alert_told(self, name: str) -> tuple[datetime | None, datetime | None]:
        """Return when an alert was written down, and when the first channel had it."""
        row = self._one(
            """SELECT alert.at, min(delivered) FROM alert LEFT JOIN delivery ON delivery.alert = alert.id
            WHERE name = ?""",
            (name,),
        )
        return (None, None) if row is None else (maybe_time(row[0]), maybe_time(row[1]))


def _minting_row(each: Minting) -> Row:
    return (
        each.account_id, each.name, each.profile, each.purpose, each.note, json.dumps(each.tags), rfc3339(each.asked),
        each.user_id, each.key_id,
    )  # fmt: skip


def _check(row: Row) -> Check:
    condition, why = text(row[0]), text(row[2])
    match row[1]:
        case "sound":
            return Sound(condition=condition, told=why)
        case "blind":
            return Blind(condition=condition, why=why, since=time(row[3]))
        case _:
            return Unsure(condition=condition, why=why)
