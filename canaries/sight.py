"""Records x watched keys = sightings. Pure.

For each watched key the first of these that fits (DESIGN, section 2): *use*, the call was signed with it; *derived*,
its owner made the call some other way; *mention*, it or its owner stands elsewhere in the record; and for no key,
*tamper*, the watch itself is touched. A refused call is a use like any other. Where an owner has several watched
keys, what only the owner tells is told of one: a second alarm would tell nothing new.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Final

from firedamp.canaries import cloudtrail
from firedamp.canaries.tamper import Guarded, touched
from firedamp.canaries.watchlist import Watchlist
from firedamp.storage.records import Event, Rejected, Sighting, SightingKind

QUARANTINE: Final = "AWSCompromisedKeyQuarantine"
"""The policies that AWS puts on a key it found in public: V1 to V4 so far, by prefix (IAM guide, AWS policies)."""


EXPOSED: Final = "AWS found this key in public and quarantined it"
RELEASED: Final = "the quarantine that AWS put on this key was taken off or changed"
PROPOSED: Final = "its owner is not known here, the record says "
ATTEMPT: Final = "a failed attempt: "
MINTED: Final = "a session was made: "
UNDATED: Final = "when it was is not known, the time is that of reading; its eventTime is "
_TOLD: Final = 40


def sightings(
    record: object, where: str, watchlist: Watchlist, guarded: Guarded, met: datetime
) -> Iterator[Sighting | Rejected]:
    """Yield what one record tells of the watched keys and of the watch, at most one sighting a key.

    met is when it was read: the time of a record whose own cannot be read.
    """
    event = cloudtrail.parse(record, where, met)
    if isinstance(event, Rejected):
        yield event
        return
    found = _found(event, record, watchlist)
    touch = touched(event, cloudtrail.parameters(record), guarded, where)
    what = "" if touch is None else f"{ATTEMPT if touch.failed else ''}{_foreign(touch.what)}"
    for key_id, kind in found.items():
        unowned = kind is SightingKind.USE and watchlist.keys[key_id].owner.arn is None
        yield Sighting(key_id=key_id, kind=kind, event=event, note="; ".join(_notes(event, record, unowned, what)))
    if touch is not None and not found:
        yield Sighting(key_id=None, kind=SightingKind.TAMPER, event=event, note=what)


def _found(event: Event, record: object, watchlist: Watchlist) -> dict[str, SightingKind]:
    found: dict[str, SightingKind] = {}

    def of_owner(key_id: str | None, kind: SightingKind) -> None:
        if key_id is not None and not any(watchlist.kin(key_id, other) for other in found):
            found[key_id] = kind

    if event.access_key_id in watchlist.keys:
        found[event.access_key_id] = SightingKind.USE
    of_owner(watchlist.owned(event), SightingKind.DERIVED)
    mentioned = watchlist.mentioned(cloudtrail.texts(record))
    for key_id in mentioned.ids:
        found.setdefault(key_id, SightingKind.MENTION)
    for key_id in mentioned.owners:
        of_owner(key_id, SightingKind.MENTION)
    of_owner(_named(event, record, watchlist), SightingKind.MENTION)
    return found


def _named(event: Event, record: object, watchlist: Watchlist) -> str | None:
    """Return the watched key whose owner a request names: `userName` as a parameter, in the owner's own account."""
    for name, value in cloudtrail.parameters(record).items():
        if name.lower() in {"username", "newusername"} and isinstance(value, str):
            found = watchlist.named(value, event.recipient_account_id or event.account_id)
            if found is not None:
                return found
    return None


def _notes(event: Event, record: object, unowned: bool, what: str) -> Iterator[str]:
    if event.wrote and any(QUARANTINE in text for text in cloudtrail.texts(cloudtrail.parameters(record))):
        yield EXPOSED if event.name.startswith(("Attach", "Put")) else RELEASED
    odd = cloudtrail.odd_time(record)
    if odd:
        yield f"{UNDATED}{_foreign(odd[:_TOLD])}"
    if unowned and event.arn:
        yield f"{PROPOSED}{_foreign(event.arn)}"
    session = cloudtrail.minted(record)
    if session:
        yield f"{MINTED}{_foreign(session)}"
    if what:
        yield what


def _foreign(text: str) -> str:
    """Return what a record says so that it is one part of a note, and never looks like another of ours."""
    return text.replace(";", ",")
