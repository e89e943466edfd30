"""One CloudTrail record -> Event or Rejected. Pure.

Fields as in the CloudTrail user guide, "CloudTrail record contents". Missing fields are values, odd types are text:
one odd record never costs the file it stands in.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final

from firedamp.storage import nonce
from firedamp.storage.records import Event, Rejected
from firedamp.storage.times import parse_time

_TOKENS: Final = frozenset({"sessiontoken", "secretaccesskey", "x-amz-security-token", "password", "token"})
"""Fields whose value is a credential: taken out before the record is kept."""

_DEEPEST: Final = 64
"""Nothing that AWS writes is nested so deep; what is deeper is not looked into."""


def parse(record: object, where: str, met: datetime) -> Event | Rejected:
    """Read one record. where names its place for a Rejected: no object, no eventID, or no eventTime.

    met, when it was read, stands for an eventTime that is no time (`odd_time`): a use is told, whenever it was.
    """
    refused = refusal(record)
    if refused or not isinstance(record, dict):
        return Rejected(where=where, why=refused)
    time = parse_time(_text(record, "eventTime")) or met
    identity = _object(record, "userIdentity")
    issuer = _object(_object(identity, "sessionContext"), "sessionIssuer")
    addendum = _object(record, "addendum")
    agent = _text(record, "userAgent")
    return Event(
        id=_text(record, "eventID"), time=time, name=_text(record, "eventName"), source=_text(record, "eventSource"),
        region=_text(record, "awsRegion"), address=_text(record, "sourceIPAddress"), user_agent=agent,
        error=_text(record, "errorCode"), error_message=_text(record, "errorMessage"),
        read_only=_truth(record.get("readOnly")), identity_type=_text(identity, "type"),
        access_key_id=_text(identity, "accessKeyId"), arn=_text(identity, "arn"),
        principal_id=_text(identity, "principalId"), user_name=_text(identity, "userName"),
        account_id=_text(identity, "accountId"), issuer_type=_text(issuer, "type"), issuer_arn=_text(issuer, "arn"),
        issuer_principal_id=_text(issuer, "principalId"), issuer_user_name=_text(issuer, "userName"),
        issuer_account_id=_text(issuer, "accountId"), recipient_account_id=_text(record, "recipientAccountId"),
        shared_event_id=_text(record, "sharedEventID"), category=_text(record, "eventCategory"),
        type=_text(record, "eventType"), addendum=_text(addendum, "reason"),
        original_event_id=_text(addendum, "originalEventID"), nonces=nonce.found(agent),
        raw=zlib.compress(_kept(record)),
    )  # fmt: skip


def refusal(record: object) -> str:
    """Return why something is no CloudTrail record, or nothing when it is one."""
    if not isinstance(record, dict):
        return "no JSON object"
    if not _text(record, "eventID"):
        return "no eventID"
    return "" if _text(record, "eventTime") else "no eventTime"


def odd_time(record: object) -> str:
    """Return a record's eventTime as it is written when it is no time, else nothing."""
    written = _text(record, "eventTime") if isinstance(record, dict) else ""
    return written if parse_time(written) is None else ""


def is_insight(record: object) -> bool:
    """Whether a record tells of a pattern in others (CloudTrail Insights): it is about no call of its own."""
    return isinstance(record, dict) and (
        record.get("eventCategory") == "Insight" or record.get("eventType") == "AwsCloudTrailInsight"
    )


def texts(value: object, deep: int = 0) -> Iterator[str]:
    """Yield every piece of text in a record: keys, values, at any depth that AWS writes."""
    if isinstance(value, str):
        yield value
    elif deep < _DEEPEST and isinstance(value, dict):
        for name, each in value.items():
            yield name
            yield from texts(each, deep + 1)
    elif deep < _DEEPEST and isinstance(value, list):
        for each in value:
            yield from texts(each, deep + 1)


def parameters(record: object) -> dict[str, Any]:
    """Return a record's requestParameters, empty when there are none."""
    return _object(record, "requestParameters") if isinstance(record, dict) else {}


def minted(record: object) -> str:
    """Return the access key id of the session that this call made (`credentials` in responseElements), or nothing."""
    answer = _object(record, "responseElements") if isinstance(record, dict) else {}
    return _text(_object(answer, "credentials"), "accessKeyId")


def content(event: Event) -> dict[str, Any]:
    """Return the record that an event was read from, as it is kept."""
    record = json.loads(zlib.decompress(event.raw)) if event.raw else {}
    return record if isinstance(record, dict) else {}


def _text(record: dict[str, Any], name: str) -> str:
    value = record.get(name)
    if value is None:
        return ""
    return _utf8(value) if isinstance(value, str) else json.dumps(_cleaned(value))


def _utf8(text: str) -> str:
    """Return text that can be kept. JSON may write half of a surrogate pair (RFC 8259, 8.2): a cut user agent does."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def _truth(value: object) -> bool | None:
    if isinstance(value, str):
        return {"true": True, "false": False}.get(value.lower())
    return value if isinstance(value, bool) else None


def _object(record: dict[str, Any], name: str) -> dict[str, Any]:
    value = record.get(name)
    return value if isinstance(value, dict) else {}


def _kept(record: dict[str, Any]) -> bytes:
    """Return the record as JSON without the session tokens and secrets that some responses carry."""
    return json.dumps(_cleaned(record), separators=(",", ":")).encode()


def _cleaned(value: object, deep: int = 0) -> object:
    if isinstance(value, dict | list) and deep == _DEEPEST:
        return "(nested too deep)"
    if isinstance(value, dict):
        return {
            _utf8(name): "(removed)" if name.lower() in _TOKENS else _cleaned(each, deep + 1)
            for name, each in value.items()
        }
    if isinstance(value, list):
        return [_cleaned(each, deep + 1) for each in value]
    return _utf8(value) if isinstance(value, str) else value
