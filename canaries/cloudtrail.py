"""One CloudTrail record -> Event or Rejected. Pure.

Fields as in the CloudTrail user guide, "CloudTrail record contents". Missing fields are values, odd types are text:
one odd record never costs the file it stands in.
"""

from __future__ import annotations

import json
import zlib
from typing import Any, Final

from firedamp.storage.records import Event, Rejected
from firedamp.storage.times import parse_time

_TOKENS: Final = frozenset({"sessiontoken", "secretaccesskey", "x-amz-security-token", "password", "token"})
"""Fields whose value is a credential: taken out before the record is kept."""


def parse(record: object, where: str) -> Event | Rejected:
    """Read one record. where names its place for a Rejected: no object, no eventID, or no eventTime."""
    if not isinstance(record, dict):
        return Rejected(where=where, why="no JSON object")
    event_id, time = _text(record, "eventID"), parse_time(_text(record, "eventTime"))
    if not event_id:
        return Rejected(where=where, why="no eventID")
    if time is None:
        return Rejected(where=where, why="no eventTime")
    identity = _object(record, "userIdentity")
    issuer = _object(_object(identity, "sessionContext"), "sessionIssuer")
    addendum = _object(record, "addendum")
    read_only = record.get("readOnly")
    return Event(
        id=event_id, time=time, name=_text(record, "eventName"), source=_text(record, "eventSource"),
        region=_text(record, "awsRegion"), address=_text(record, "sourceIPAddress"),
        user_agent=_text(record, "userAgent"), error=_text(record, "errorCode"),
        error_message=_text(record, "errorMessage"), read_only=read_only if isinstance(read_only, bool) else None,
        identity_type=_text(identity, "type"), access_key_id=_text(identity, "accessKeyId"),
        arn=_text(identity, "arn"), principal_id=_text(identity, "principalId"), user_name=_text(identity, "userName"),
        account_id=_text(identity, "accountId"), invoked_by=_text(identity, "invokedBy"),
        issuer_arn=_text(issuer, "arn"), issuer_principal_id=_text(issuer, "principalId"),
        issuer_user_name=_text(issuer, "userName"), recipient_account_id=_text(record, "recipientAccountId"),
        shared_event_id=_text(record, "sharedEventID"), category=_text(record, "eventCategory"),
        type=_text(record, "eventType"), addendum=_text(addendum, "reason"),
        original_event_id=_text(addendum, "originalEventID"), raw=zlib.compress(_kept(record)),
    )  # fmt: skip


def _text(record: dict[str, Any], name: str) -> str:
    value = record.get(name)
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value)


def _object(record: dict[str, Any], name: str) -> dict[str, Any]:
    value = record.get(name)
    return value if isinstance(value, dict) else {}


def _kept(record: dict[str, Any]) -> bytes:
    """Return the record as JSON without the session tokens and secrets that some responses carry."""

    def clean(value: object) -> object:
        if isinstance(value, dict):
            return {name: "(removed)" if name.lower() in _TOKENS else clean(each) for name, each in value.items()}
        if isinstance(value, list):
            return [clean(each) for each in value]
        return value

    return json.dumps(clean(record), separators=(",", ":")).encode()
