"""Messages of a queue: every shape in which AWS announces trail files or carries records, and every other."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.trails import record, role, trail_key

from firedamp.canaries.notices import TrailObject, read
from firedamp.canaries.trailfiles import Document
from firedamp.storage.records import Outcome, Rejected, Skipped

KEY = trail_key()
BUCKET = "trail-logs"


def s3_event(*keys: str, event: str = "ObjectCreated:Put") -> dict[str, Any]:
    made = [{"eventName": event, "s3": {"bucket": {"name": BUCKET}, "object": {"key": key}}} for key in keys]
    return {"Records": made}


def sns(inner: object) -> dict[str, Any]:
    message = inner if isinstance(inner, str) else json.dumps(inner)
    return {"Type": "Notification", "MessageId": "1", "TopicArn": "arn:aws:sns:x", "Message": message}


def eventbridge(kind: str, detail: object) -> dict[str, Any]:
    return {"version": "0", "detail-type": kind, "source": "aws.s3", "detail": detail}


OBJECT = {"bucket": {"name": BUCKET}, "object": {"key": KEY, "size": 1}}
ANNOUNCED: dict[str, object] = {
    "an S3 event": s3_event(KEY),
    "an S3 event, its key encoded": s3_event(KEY.replace("/", "%2F")),
    "an S3 event through SNS": sns(s3_event(KEY)),
    "CloudTrail's own notice": {"s3Bucket": BUCKET, "s3ObjectKey": [KEY]},
    "CloudTrail's own notice, one key": {"s3Bucket": BUCKET, "s3ObjectKey": KEY},
    "CloudTrail's own notice through SNS": sns({"s3Bucket": BUCKET, "s3ObjectKey": [KEY]}),
    "EventBridge": eventbridge("Object Created", OBJECT),
    "EventBridge through SNS": sns(eventbridge("Object Created", OBJECT)),
}


@pytest.mark.parametrize("message", ANNOUNCED.values(), ids=ANNOUNCED.keys())
def test_every_announcement_names_its_object(message: object) -> None:
    assert read(json.dumps(message), "q") == [TrailObject(BUCKET, KEY)]


def test_every_object_of_a_notice_is_told() -> None:
    several = [trail_key(number) for number in range(3)]
    assert read(json.dumps(s3_event(*several)), "q") == [TrailObject(BUCKET, key) for key in several]
    assert len(read(json.dumps({"s3Bucket": BUCKET, "s3ObjectKey": several}), "q")) == 3


def test_keys_of_s3_events_are_decoded_as_forms_are_and_others_stand_as_they_are() -> None:
    (found,) = read(json.dumps(s3_event("my+logs/a%2Bb/x.json.gz")), "q")
    assert found == TrailObject(BUCKET, "my logs/a+b/x.json.gz")
    (found,) = read(json.dumps({"s3Bucket": BUCKET, "s3ObjectKey": ["my+logs/a%2Bb/x.json.gz"]}), "q")
    assert found == TrailObject(BUCKET, "my+logs/a%2Bb/x.json.gz")


@pytest.mark.parametrize("kind", ["AWS API Call via CloudTrail", "AWS Console Sign In via CloudTrail"])
def test_a_record_that_a_message_carries_is_a_document(kind: str) -> None:
    carried = record(role())
    (found,) = read(json.dumps(eventbridge(kind, carried)), "q")
    assert isinstance(found, Document)
    assert json.loads(found.data)["detail"] == carried


def test_a_record_that_is_the_whole_message_is_a_document() -> None:
    carried = record(role())
    for body in (carried, sns(carried)):
        (found,) = read(json.dumps(body), "q")
        assert isinstance(found, Document)
        assert json.loads(found.data) == carried


def test_a_record_in_which_a_stranger_wrote_a_test_message_is_none() -> None:
    carried = {"userIdentity": {"userName": "CloudTrail validation message."}, "eventID": "x"}
    for body in (carried, sns(carried)):
        assert isinstance(read(json.dumps(body), "q")[0], Document)


LEFT_OUT: dict[str, object] = {
    "a test message of S3": {"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": BUCKET},
    "the same through SNS": sns({"Event": "s3:TestEvent"}),
    "a test message of CloudTrail": sns("CloudTrail validation message."),
    "a subscription": {"Type": "SubscriptionConfirmation", "Message": "You have chosen", "SubscribeURL": "x"},
    "a deleted object": s3_event(KEY, event="ObjectRemoved:Delete"),
    "an expired object": s3_event(KEY, event="LifecycleExpiration:Delete"),
    "a deleted object, EventBridge": eventbridge("Object Deleted", OBJECT),
    "a digest": s3_event(KEY.replace("/CloudTrail/", "/CloudTrail-Digest/")),
    "an Insight file": s3_event(KEY.replace("/CloudTrail/", "/CloudTrail-Insight/")),
    "another file": s3_event("website/index.html"),
}


@pytest.mark.parametrize("message", LEFT_OUT.values(), ids=LEFT_OUT.keys())
def test_what_announces_no_records_is_left_out_and_told(message: object) -> None:
    (found,) = read(json.dumps(message), "q")
    assert isinstance(found, Skipped)
    assert found.outcome is Outcome.LEFT_OUT


REJECTED: dict[str, str] = {
    "no JSON": "hello",
    "too deep": "[" * 100_000,
    "a list": "[1]",
    "another object": '{"a": 1}',
    "an empty notice": json.dumps({"Records": [{}, {"s3": {"bucket": 5}}, 7]}),
    "an odd notice of CloudTrail": json.dumps({"s3Bucket": 5, "s3ObjectKey": [KEY, 7]}),
    "an event of another kind": json.dumps(eventbridge("EC2 Instance State-change Notification", {})),
    "an event without an object": json.dumps(eventbridge("Object Created", {"bucket": BUCKET})),
    "envelopes without end": json.dumps(sns(sns(sns(sns(sns(sns("{}"))))))),
}


@pytest.mark.parametrize("body", REJECTED.values(), ids=REJECTED.keys())
def test_what_is_no_notice_is_rejected(body: str) -> None:
    found = read(body, "queue/1")
    assert found
    assert all(isinstance(each, Rejected) and each.where == "queue/1" for each in found)
