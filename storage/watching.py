"""The rows of what is watched: watched keys, placements, our own calls."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from firedamp.storage.records import (
    Canary,
    CanaryState,
    OwnCall,
    Owner,
    Placement,
    PlacementState,
    RealKey,
    WatchedKey,
)
from firedamp.storage.rows import (
    Row,
    Rows,
    Value,
    chunks,
    maybe_text,
    maybe_time,
    pairs,
    placeholders,
    text,
    time,
)
from firedamp.storage.times import maybe_rfc3339, rfc3339


class WatchRows(Rows):
    """What is watched, where it was put, and what we did with it ourselves."""

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
                f"""INSERT INTO watched_key (key_id, canary, name, arn, principal_id, user_name, account_id,
                note, since, tags, state, adopted, profile) VALUES ({placeholders(13)})
                ON CONFLICT DO UPDATE SET canary = excluded.canary, name = excluded.name, arn = excluded.arn,
                principal_id = excluded.principal_id, user_name = excluded.user_name,
                account_id = excluded.account_id, note = excluded.note, since = min(since, excluded.since),
                tags = excluded.tags, state = excluded.state, adopted = excluded.adopted,
                profile = excluded.profile""",
                (key.key_id, isinstance(key, Canary), key.name, owner.arn, owner.principal_id, owner.user_name,
                 owner.account_id, key.note, rfc3339(key.since), *rest),
            )  # fmt: skip
            # Findings made before we watched it: a canary's never go to AWS, a real key's do, though it was taken for
            # a canary meanwhile.
            match key:
                case Canary():
                    self._db.execute(
                        """UPDATE finding SET canary = 1, status = 'CANARY', detail = 'a canary of ours'
                        WHERE access_key_id = ?""",
                        (key.key_id,),
                    )
                case RealKey():
                    self._db.execute(
                        """UPDATE finding SET canary = 0, status = 'UNCHECKED', detail = ''
                        WHERE access_key_id = ? AND canary = 1 AND detail = 'a canary of ours'""",
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
                f"INSERT OR REPLACE INTO placement VALUES ({placeholders(10)})",
                (placement.key_id, placement.kind, placement.place, placement.format, placement.content,
                 rfc3339(placement.planted), maybe_rfc3339(placement.checked),
                 placement.state, placement.detail, placement.was_empty),
            )  # fmt: skip

    def placements(self) -> dict[str, Placement]:
        """Return every placement by key id."""
        rows = self._all(
            "SELECT key_id, kind, place, format, content, planted, checked, state, detail, was_empty FROM placement"
        )
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
                was_empty=bool(r[9]),
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

    def own_calls(self) -> list[OwnCall]:
        """Return the calls we made ourselves, newest first."""
        return [_own_call(row) for row in self._all(f"{_OWN_CALL} ORDER BY at DESC, nonce")]

    def own_calls_with(self, nonces: Iterable[str]) -> list[OwnCall]:
        """Return the calls that were marked with one of these nonces."""
        return [
            _own_call(row)
            for chunk in chunks(nonces)
            for row in self._all(f"{_OWN_CALL} WHERE nonce IN ({placeholders(len(chunk))})", chunk)
        ]


_OWN_CALL: Final = "SELECT nonce, key_id, principal, call, host, purpose, at, event_id FROM own_call"


def _own_call(r: Row) -> OwnCall:
    return OwnCall(
        nonce=text(r[0]), key_id=maybe_text(r[1]), principal=text(r[2]), call=text(r[3]), host=text(r[4]),
        purpose=text(r[5]), at=time(r[6]), event_id=maybe_text(r[7]),
    )  # fmt: skip


@lru_cache(maxsize=1 << 14)  # read at every poll, of every feed; records never change
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
