"""A message of a queue -> the trail files it announces, or the records it carries. Pure.

All the shapes in which AWS tells of trail files: S3 event notifications (S3 guide, "Event message structure"), the
same through SNS, CloudTrail's own SNS notice, EventBridge's "Object Created", S3's and CloudTrail's test messages; and
EventBridge's "… via CloudTrail", which carries the record itself, or the record alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote_plus

from firedamp.canaries.trailfiles import Document
from firedamp.storage.records import Outcome, Rejected, Skipped

_ENVELOPES: Final = 4
_RECORDS: Final = (" via CloudTrail", "AWS Insight via CloudTrail")
_TEST: Final = "CloudTrail validation message"


@dataclass(frozen=True, slots=True)
class TrailObject:
    """An object of S3 that holds, or may hold, records."""

    bucket: str
    key: str

    @property
    def where(self) -> str:
        """Its address, for a person."""
        return f"s3://{self.bucket}/{self.key}"


Taken = Document | Skipped | Rejected
Notice = TrailObject | Taken


def read(body: str, where: str) -> list[Notice]:
    """Read one message. Everything that it holds is told: nothing that is announced is passed over."""
    return list(_read(body, where, 0))


def _read(body: str, where: str, depth: int) -> Iterator[Notice]:
    if _TEST in body[:200] and not body.lstrip().startswith("{"):  # in a record a stranger may write it
        yield Skipped(outcome=Outcome.LEFT_OUT, what=where, why="a test message of CloudTrail")
        return
    try:
        message = json.loads(body)
    except (ValueError, RecursionError):
        yield Rejected(where=where, why="a message that is no JSON")
        return
    if not isinstance(message, dict):
        yield Rejected(where=where, why="a message of unknown shape")
        return
    inner = message.get("Message")
    if message.get("Type") in {"SubscriptionConfirmation", "UnsubscribeConfirmation"}:
        yield Skipped(outcome=Outcome.LEFT_OUT, what=where, why="an SNS subscription is not confirmed")
    elif isinstance(inner, str) and depth < _ENVELOPES:
        yield from _read(inner, where, depth + 1)
    elif message.get("Event") == "s3:TestEvent":
        yield Skipped(outcome=Outcome.LEFT_OUT, what=where, why="a test message of S3")
    elif isinstance(message.get("s3ObjectKey"), list | str):
        yield from _by_cloudtrail(message, where)
    elif "detail-type" in message:
        yield from _by_eventbridge(message, body, where)
    elif isinstance(message.get("Records"), list):
        yield from _by_s3(message["Records"], where)
    elif "eventID" in message:  # what an EventBridge rule sends with the input path $.detail
        yield Document(where, body.encode("utf-8", "replace"))
    else:
        yield Rejected(where=where, why="a message of unknown shape")


def _by_s3(records: list[Any], where: str) -> Iterator[Notice]:
    for record in records:
        about = record.get("s3") if isinstance(record, dict) else None
        bucket, key = _text(about, "bucket", "name"), _text(about, "object", "key")
        if not bucket or not key:
            yield Rejected(where=where, why="a notice that names no object")
            continue
        # Keys are URL-encoded as in a form: a space is `+` (S3 guide, same page).
        yield from _object(bucket, unquote_plus(key), str(record.get("eventName")))


def _by_cloudtrail(message: dict[str, Any], where: str) -> Iterator[Notice]:
    bucket, keys = message.get("s3Bucket"), message["s3ObjectKey"]
    for key in [keys] if isinstance(keys, str) else keys:
        if isinstance(bucket, str) and isinstance(key, str):
            yield from _object(bucket, key, "")
        else:
            yield Rejected(where=where, why="a notice that names no object")


def _by_eventbridge(message: dict[str, Any], body: str, where: str) -> Iterator[Notice]:
    kind, detail = str(message["detail-type"]), message.get("detail")
    if kind.endswith(_RECORDS) and isinstance(detail, dict):
        yield Document(where, body.encode("utf-8", "replace"))  # opened where all envelopes are
    elif kind.startswith("Object "):
        bucket, key = _text(detail, "bucket", "name"), _text(detail, "object", "key")
        if not bucket or not key:
            yield Rejected(where=where, why="a notice that names no object")
        elif kind == "Object Created":
            yield from _object(bucket, key, "")
        else:
            yield _left_out(TrailObject(bucket, key), "a notice of an object that was not made")
    else:
        yield Rejected(where=where, why="an event of another kind")


def _object(bucket: str, key: str, event: str) -> Iterator[Notice]:
    # EventBridge and CloudTrail do not encode keys; some imitations do, and no trail's key lacks a slash.
    found = TrailObject(bucket, unquote_plus(key) if "%2F" in key and "/" not in key else key)
    if "ObjectRemoved" in event or "LifecycleExpiration" in event:
        yield _left_out(found, "a notice of an object that was deleted")
    elif not holds_records(found.key):
        yield _left_out(found, "digest, Insight and other files are no records")
    else:
        yield found


def holds_records(key: str) -> bool:
    """Whether an object's name is one of a trail file: JSON, packed or not, and no digest or Insight file."""
    if "/CloudTrail-Digest/" in f"/{key}" or "/CloudTrail-Insight/" in f"/{key}":
        return False
    return key.endswith((".json.gz", ".json", ".gz", ".jsonl", ".log"))


def _left_out(found: TrailObject, why: str) -> Skipped:
    return Skipped(outcome=Outcome.LEFT_OUT, what=found.where, why=why)


def _text(about: object, *path: str) -> str:
    for name in path:
        about = about.get(name) if isinstance(about, dict) else None
    return about if isinstance(about, str) else ""
