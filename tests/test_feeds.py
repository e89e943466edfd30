"""Every feed keeps the same promises: it resumes, repeats harm nothing, late is not lost, a crash loses nothing."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import pytest
from tests.builders import make_key_id
from tests.trails import ACCOUNT, ARN, Record, record, role, trail, trail_key, user

from firedamp.canaries import watch
from firedamp.canaries.awsfeeds import BucketFeed, QueueFeed
from firedamp.canaries.feeds import Feed, FolderFeed, Page, World
from firedamp.canaries.lookup import LookupFeed
from firedamp.service.loopback import Loopback
from firedamp.storage.records import Canary, Owner
from firedamp.storage.store import Store

NOW = datetime(2026, 11, 20, 11, tzinfo=UTC)
BUCKET = "trail-logs"
QUEUE = "trail-notices"


def make_world(store: Store, aws: Loopback | None = None, clock: Any = None) -> World:
    def clients(service: str, region: str | None, _: str | None) -> Any:
        assert aws is not None
        return aws.client(service, region=region or "us-east-1")

    return World(clients=clients, watched=store.watched, clock=clock or (lambda: NOW), sleep=lambda _: None)


class Rig(Protocol):
    """A feed, and the other end of it."""

    def deliver(self, *records: Record) -> None: ...

    def spoil(self) -> None:
        """Deliver something that cannot be read."""
        ...

    def feed(self) -> Feed: ...


class FolderRig:
    def __init__(self, folder: Path, store: Store) -> None:
        self.folder, self.store, self.count = folder, store, 0

    def put(self, data: bytes) -> None:
        self.count += 1
        (self.folder / f"{self.count}.json.gz").write_bytes(data)

    def deliver(self, *records: Record) -> None:
        self.put(trail(*records))

    def spoil(self) -> None:
        self.put(trail(record(role()))[:-9])

    def feed(self) -> Feed:
        return FolderFeed(urlsplit(self.folder.as_uri()), make_world(self.store))


class BucketRig(FolderRig):
    def __init__(self, aws: Loopback, store: Store) -> None:
        self.aws, self.store, self.count = aws, store, 0
        self.aws.client("s3").create_bucket(Bucket=BUCKET)

    def put(self, data: bytes) -> None:
        self.count += 1
        self.aws.client("s3").put_object(Bucket=BUCKET, Key=trail_key(self.count), Body=data)
        self.announce(trail_key(self.count))

    def announce(self, key: str) -> None:
        pass

    def feed(self) -> Feed:
        return BucketFeed(urlsplit(f"s3://{BUCKET}?region=us-east-1"), make_world(self.store, self.aws))


class QueueRig(BucketRig):
    def __init__(self, aws: Loopback, store: Store) -> None:
        super().__init__(aws, store)
        self.url = aws.client("sqs").create_queue(QueueName=QUEUE)["QueueUrl"]

    def send(self, message: object) -> None:
        body = message if isinstance(message, str) else json.dumps(message)
        self.aws.client("sqs").send_message(QueueUrl=self.url, MessageBody=body)

    def announce(self, key: str) -> None:
        self.send(
            {
                "Records": [
                    {"eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": BUCKET}, "object": {"key": key}}}
                ]
            }
        )

    def feed(self) -> QueueFeed:
        world = make_world(self.store, self.aws)
        return QueueFeed(urlsplit(f"sqs://us-east-1/{ACCOUNT}/{QUEUE}"), world, wait=0, invisible=0)

    def left(self) -> int:
        attributes = self.aws.client("sqs").get_queue_attributes(QueueUrl=self.url, AttributeNames=["All"])[
            "Attributes"
        ]
        return int(attributes["ApproximateNumberOfMessages"]) + int(attributes["ApproximateNumberOfMessagesNotVisible"])


class EventBridgeRig(QueueRig):
    def deliver(self, *records: Record) -> None:
        for each in records:
            self.send({"detail-type": "AWS API Call via CloudTrail", "source": "aws.sts", "detail": each})


class LookupRig:
    def __init__(self, aws: Loopback, store: Store) -> None:
        self.aws, self.store = aws, store
        self.broken = False

    def deliver(self, *records: Record) -> None:
        for each in records:
            self.aws.trail.add(dict(each))

    def spoil(self) -> None:
        self.aws.refuse_next("cloudtrail:LookupEvents", "ThrottlingException", times=1)

    def feed(self) -> Feed:
        return LookupFeed(urlsplit("lookup://us-east-1"), make_world(self.store, self.aws))


@pytest.fixture
def store() -> Iterator[Store]:
    with Store(None) as made:
        yield made


@pytest.fixture
def key_id(store: Store, rng: random.Random) -> str:
    made = make_key_id(rng, ACCOUNT)
    owner = Owner(arn=ARN, user_name="svc-backup", account_id=ACCOUNT)
    store.watch(Canary(key_id=made, name="backup", owner=owner, since=NOW - timedelta(days=30)))
    return made


@pytest.fixture(params=["file", "s3", "sqs", "eventbridge", "lookup"])
def rig(request: pytest.FixtureRequest, tmp_path: Path, store: Store) -> Rig:
    if request.param == "file":
        return FolderRig(tmp_path, store)
    aws: Loopback = request.getfixturevalue("aws")
    made: dict[str, type[Any]] = {
        "s3": BucketRig, "sqs": QueueRig, "eventbridge": EventBridgeRig, "lookup": LookupRig
    }  # fmt: skip
    rig: Rig = made[request.param](aws, store)
    return rig


def counts(store: Store) -> list[tuple[int, int, int]]:
    return [(each.id, each.use, each.derived) for each in sorted(store.incidents(), key=lambda each: each.id)]


# The contract.


def test_a_feed_goes_on_where_it_was_left(rig: Rig, store: Store, key_id: str) -> None:
    rig.deliver(record(user(key_id), 0), record(role(), 1))
    assert watch.poll(rig.feed(), store, NOW).opened
    rig.deliver(record(user(key_id), 2))
    second = watch.poll(rig.feed(), store, NOW)
    assert not second.opened
    assert second.failed == ()
    assert counts(store) == [(1, 2, 0)]
    assert watch.poll(rig.feed(), store, NOW).grown == ()
    assert len(store.alerts()) == 1


def test_records_that_come_twice_count_once(rig: Rig, store: Store, key_id: str) -> None:
    once = record(user(key_id))
    rig.deliver(once, once)
    watch.poll(rig.feed(), store, NOW)
    rig.deliver(once)
    watch.poll(rig.feed(), store, NOW)
    assert counts(store) == [(1, 1, 0)]


def test_late_and_unordered_records_join_the_incident_of_their_time(rig: Rig, store: Store, key_id: str) -> None:
    rig.deliver(record(user(key_id), 30), record(user(key_id), 10))
    watch.poll(rig.feed(), store, NOW)
    rig.deliver(record(user(key_id), -50))
    assert not watch.poll(rig.feed(), store, NOW).opened
    (incident,) = store.incidents()
    assert incident.use == 3
    assert incident.first == datetime(2026, 11, 20, 9, 10, tzinfo=UTC)


def test_a_crash_between_commit_and_acknowledge_loses_and_doubles_nothing(rig: Rig, store: Store, key_id: str) -> None:
    rig.deliver(record(user(key_id)))
    feed = rig.feed()

    def crash(_: Page) -> None:
        raise KeyboardInterrupt

    feed.acknowledge = crash  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        watch.poll(feed, store, NOW)
    assert counts(store) == [(1, 1, 0)], "it was committed before"
    rig.deliver(record(user(key_id), 1))
    watch.poll(rig.feed(), store, NOW)
    assert counts(store) == [(1, 2, 0)]
    assert len(store.alerts()) == 1


def test_what_cannot_be_read_is_failed_and_the_poll_did_not_end_well(rig: Rig, store: Store, key_id: str) -> None:
    rig.spoil()
    assert watch.poll(rig.feed(), store, NOW).failed
    mark = store.watermark(rig.feed().name)
    assert mark is None or mark.polled is None
    assert any(each.outcome == "failed" for each in store.troubles())


def test_a_poll_that_ends_well_says_so_even_when_nothing_came(rig: Rig, store: Store, key_id: str) -> None:
    watch.poll(rig.feed(), store, NOW)
    mark = store.watermark(rig.feed().name)
    assert mark is not None
    assert mark.polled == NOW


def test_several_feeds_together_give_one_incident(tmp_path: Path, store: Store, key_id: str, aws: Loopback) -> None:
    rigs: list[Rig] = [FolderRig(tmp_path, store), QueueRig(aws, store), LookupRig(aws, store)]
    same = record(user(key_id))
    for number, rig in enumerate(rigs):
        rig.deliver(same, record(user(key_id), number + 1))
    for rig in rigs:
        watch.poll(rig.feed(), store, NOW)
    assert counts(store) == [(1, 4, 0)]
    assert len([a for _, a in store.alerts()]) == 1
