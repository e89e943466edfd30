"""Every feed keeps the same promises: it resumes, repeats harm nothing, late is not lost, a crash loses nothing."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import pytest
from tests.builders import make_key_id
from tests.trails import ACCOUNT, ARN, Record, record, role, trail, trail_key, user

from firedamp.canaries import awsfeeds, watch
from firedamp.canaries.awsfeeds import BucketFeed, QueueFeed, _Reach, _tag
from firedamp.canaries.buckets import Bucket, name_at
from firedamp.canaries.feeds import Feed, FolderFeed, Page, World
from firedamp.canaries.lookup import LookupFeed
from firedamp.canaries.notices import TrailObject
from firedamp.canaries.opening import open_feed
from firedamp.canaries.trailfiles import Document
from firedamp.canaries.watch import Polled
from firedamp.service.loopback import Loopback
from firedamp.storage.records import AlertKind, Canary, Outcome, Owner, PageRead, Severity, Skipped, Watermark
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


@pytest.fixture(name="aws")
def aws_(aws: Loopback) -> Loopback:
    """Return an AWS in which it is as late as in these tests: its event history goes back 90 days from there."""
    aws.clock = lambda: NOW
    return aws


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
    mark = store.watermark(rig.feed().name)
    assert mark is not None
    assert mark.newest is not None
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

    def crash(page: Page) -> None:
        if page.documents:
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


def test_a_poll_by_a_clock_that_was_ahead_proves_nothing_once_it_is_right_again(
    rig: Rig, store: Store, key_id: str
) -> None:
    for now in (NOW + timedelta(days=400), NOW):
        watch.poll(rig.feed(), store, now)
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


# The queue.


@pytest.fixture
def queue(aws: Loopback, store: Store, key_id: str) -> QueueRig:
    return QueueRig(aws, store)


def test_messages_are_deleted_after_what_they_showed_is_kept(queue: QueueRig, store: Store, key_id: str) -> None:
    queue.deliver(record(user(key_id)))
    queue.send({"Event": "s3:TestEvent"})
    queue.send("junk")
    polled = watch.poll(queue.feed(), store, NOW)
    assert queue.left() == 0
    assert [each.why for each in polled.rejected] == ["a message that is no JSON"]
    assert {each.outcome for each in store.troubles()} == {"rejected", "left out"}
    assert counts(store) == [(1, 1, 0)]


@pytest.mark.parametrize("body", ["{{broken: {}", '{{"detail-type": "AWS Health Event", "detail": "{}"}}'])
def test_a_message_that_cannot_be_read_and_holds_a_watched_key_is_an_alarm_and_stays(
    queue: QueueRig, store: Store, key_id: str, body: str
) -> None:
    queue.send(body.format(key_id))
    polled = watch.poll(queue.feed(), store, NOW)
    assert [key_id in each.why for each in polled.failed] == [True]
    assert [alert.key_id for _, alert in store.alerts()] == [key_id]
    assert queue.left() == 1


def test_a_long_queue_is_emptied_by_several_calls_at_once(queue: QueueRig, store: Store, key_id: str) -> None:
    for number in range(12):
        queue.deliver(record(user(key_id), number))
    for number in range(25):
        queue.send({"detail-type": "AWS API Call via CloudTrail", "detail": record(user(key_id), number)})
    url = urlsplit(f"sqs://us-east-1/{ACCOUNT}/{QUEUE}")
    polled = watch.poll(QueueFeed(url, make_world(store, queue.aws), wait=0), store, NOW)
    assert (polled.records, polled.failed, queue.left()) == (37, (), 0)
    assert counts(store) == [(1, 37, 0)]


def test_a_message_whose_file_cannot_be_read_stays_in_the_queue(queue: QueueRig, store: Store, key_id: str) -> None:
    queue.spoil()
    queue.deliver(record(user(key_id)))
    assert watch.poll(queue.feed(), store, NOW).failed
    assert queue.left() == 1
    queue.aws.refuse_next("s3:GetObject", "AccessDenied", times=1)
    queue.deliver(record(user(key_id), 1))
    assert len(watch.poll(queue.feed(), store, NOW).failed) >= 1
    assert counts(store)[0][1] >= 1


def test_a_file_that_was_deleted_before_it_was_read_is_an_alarm_told_once(queue: QueueRig, store: Store) -> None:
    for _ in range(2):  # a queue may bring a notice twice, and a trail and its bucket may both announce a file
        queue.announce(trail_key(98))
        queue.announce(trail_key(99))
        polled = watch.poll(queue.feed(), store, NOW)
        assert queue.left() == 0
    assert polled.failed == ()
    ((_, alert),) = store.alerts()
    assert (alert.kind, alert.severity) == (AlertKind.TAMPER, Severity.HIGH)
    assert all(trail_key(number) in dict(alert.facts)["deleted"] for number in (98, 99))


def test_a_poll_that_met_a_deleted_file_did_not_end_well(queue: QueueRig, store: Store) -> None:
    queue.announce(trail_key(99))
    assert [each.why for each in watch.poll(queue.feed(), store, NOW).failed] == ["deleted before it was read"]


def test_a_file_that_a_lifecycle_rule_may_have_deleted_is_told_without_an_alarm(aws: Loopback, store: Store) -> None:
    queue = QueueRig(aws, store)
    queue.announce(trail_key(99))
    world = make_world(store, aws, clock=lambda: NOW + timedelta(days=2))
    feed = QueueFeed(urlsplit(f"sqs://us-east-1/{ACCOUNT}/{QUEUE}"), world, wait=0, invisible=0)
    polled = watch.poll(feed, store, NOW + timedelta(days=2))
    assert [each.outcome for each in polled.skipped] == [Outcome.GONE]
    assert (queue.left(), polled.failed, store.alerts()) == (0, (), [])


def test_a_file_that_was_announced_again_and_moved_away_after_it_was_read_is_no_alarm(
    queue: QueueRig, store: Store, key_id: str
) -> None:
    queue.deliver(record(user(key_id)))
    watch.poll(queue.feed(), store, NOW)
    queue.aws.client("s3").delete_object(Bucket=BUCKET, Key=trail_key(1))
    queue.announce(trail_key(1))
    polled = watch.poll(queue.feed(), store, NOW)
    assert ([each.outcome for each in polled.skipped], queue.left()) == ([Outcome.GONE], 0)
    assert [alert.kind for _, alert in store.alerts()] == [AlertKind.CANARY_USED]


def test_a_file_that_is_announced_a_little_before_it_can_be_read_is_read(
    queue: QueueRig, store: Store, key_id: str
) -> None:
    def arrive(_: float) -> None:
        body = trail(record(user(key_id)))
        queue.aws.client("s3").put_object(Bucket=BUCKET, Key=trail_key(1), Body=body)

    queue.announce(trail_key(1))
    world = replace(make_world(store, queue.aws), sleep=arrive)
    feed = QueueFeed(urlsplit(f"sqs://us-east-1/{ACCOUNT}/{QUEUE}"), world, wait=0, invisible=0)
    assert watch.poll(feed, store, NOW).failed == ()
    assert counts(store) == [(1, 1, 0)]


def test_messages_stay_hidden_while_large_files_are_fetched(queue: QueueRig, store: Store, key_id: str) -> None:
    for minute in range(3):
        queue.deliver(record(user(key_id), minute))
    ticks = iter(range(0, 10_000, 200))
    world = make_world(store, queue.aws, clock=lambda: NOW + timedelta(seconds=next(ticks)))
    feed = QueueFeed(urlsplit(f"sqs://us-east-1/{ACCOUNT}/{QUEUE}"), world, wait=0)
    watch.poll(feed, store, NOW)
    assert counts(store) == [(1, 3, 0)]
    assert queue.left() == 0


def test_a_queue_that_is_none_has_failed_with_aws_words(aws: Loopback, store: Store) -> None:
    feed = open_feed(f"sqs://us-east-1/{ACCOUNT}/missing", make_world(store, aws))
    (failed,) = watch.poll(feed, store, NOW).failed
    assert "the queue missing cannot be read" in failed.why


# The bucket.


@pytest.fixture
def bucket(aws: Loopback, store: Store, key_id: str) -> BucketRig:
    return BucketRig(aws, store)


def test_a_file_that_was_listed_and_deleted_before_it_was_read_is_an_alarm_told_once(
    bucket: BucketRig, store: Store
) -> None:
    bucket.deliver(record(role()))
    bucket.aws.refuse_next("s3:GetObject", "NoSuchKey", times=2)
    assert watch.poll(bucket.feed(), store, NOW).failed
    assert not watch.poll(bucket.feed(), store, NOW).failed
    assert [alert.kind for _, alert in store.alerts()] == [AlertKind.TAMPER]


def test_an_organisation_trail_is_read_account_by_account(bucket: BucketRig, store: Store, key_id: str) -> None:
    for number, account in enumerate((ACCOUNT, "210987654321")):
        key = trail_key(number, account).replace("AWSLogs/", "audit/AWSLogs/o-abc123/")
        data = trail(record(user(key_id), number))
        bucket.aws.client("s3").put_object(Bucket=BUCKET, Key=key, Body=data)
    digest = trail_key().replace("AWSLogs/", "audit/AWSLogs/o-abc123/").replace("/CloudTrail/", "/CloudTrail-Digest/")
    bucket.aws.client("s3").put_object(Bucket=BUCKET, Key=digest, Body=b"no record")
    feed = open_feed(f"s3://{BUCKET}/audit?region=us-east-1", make_world(store, bucket.aws))
    polled = watch.poll(feed, store, NOW)
    assert (polled.failed, polled.records) == ((), 2)
    mark = store.watermark(feed.name)
    assert mark is not None
    assert sorted(json.loads(mark.position)["folders"]) == [
        f"audit/AWSLogs/o-abc123/{account}/CloudTrail/us-east-1/" for account in (ACCOUNT, "210987654321")
    ]


def test_a_file_that_comes_late_sorts_before_the_last_and_is_read(bucket: BucketRig, store: Store, key_id: str) -> None:
    bucket.count = 5
    bucket.deliver(record(user(key_id), 1))
    watch.poll(bucket.feed(), store, NOW)
    bucket.count = 2
    bucket.deliver(record(user(key_id), 2))
    polled = watch.poll(bucket.feed(), store, NOW)
    assert (polled.records, counts(store)) == (1, [(1, 2, 0)])


@pytest.fixture
def listed_again(monkeypatch: pytest.MonkeyPatch) -> int:
    """Let few names be listed again, and return how many: to fill a bucket beyond them is most of a test's time."""
    monkeypatch.setattr(awsfeeds, "_OVERLAP", 20)
    return 20


def test_a_file_that_comes_behind_all_that_is_listed_again_is_read_within_the_hour(
    bucket: BucketRig, store: Store, key_id: str, listed_again: int
) -> None:
    now = datetime.now(UTC)  # S3 says itself when a file was written

    def put(number: int, hours: float, *records: Record) -> None:
        made = now - timedelta(hours=hours)
        name = f"{ACCOUNT}_CloudTrail_us-east-1_{made:%Y%m%dT%H%M}Z_{number:016}.json.gz"
        key = f"AWSLogs/{ACCOUNT}/CloudTrail/us-east-1/{made:%Y/%m/%d}/{name}"
        bucket.aws.client("s3").put_object(Bucket=BUCKET, Key=key, Body=trail(*records))

    def poll(minutes: int) -> Polled:
        later = now + timedelta(minutes=minutes)
        world = make_world(store, bucket.aws, lambda: later)
        return watch.poll(BucketFeed(urlsplit(f"s3://{BUCKET}?region=us-east-1"), world), store, later)

    for number in range(listed_again + 10):
        put(number, 2)
    poll(0)
    put(0, 6, record(user(key_id)))
    assert [bool(poll(minutes).opened) for minutes in (1, 30)] == [False, False]
    bucket.aws.refuse_next("s3:GetObject", "SlowDown")
    assert poll(61).failed
    assert poll(62).opened, "what could not be read is tried again"
    assert [poll(minutes).records for minutes in (63, 125)] == [0, 0], "and not again"


@pytest.mark.parametrize("prefix", ["AWSLogs/123456789012", "AWSLogs/123456789012/CloudTrail/", "export"])
def test_no_file_is_passed_by_whose_name_sorts_before_those_that_were_read(
    bucket: BucketRig, store: Store, key_id: str, prefix: str, listed_again: int
) -> None:
    now = datetime.now(UTC)

    def put(number: int, region: str, *records: Record) -> None:
        key = f"export/{region}/{number}.json.gz" if prefix == "export" else trail_key(number, region=region)
        bucket.aws.client("s3").put_object(Bucket=BUCKET, Key=key, Body=trail(*records))

    def poll(minutes: int) -> Polled:
        later = now + timedelta(minutes=minutes)
        feed = BucketFeed(urlsplit(f"s3://{BUCKET}/{prefix}"), make_world(store, bucket.aws, lambda: later))
        return watch.poll(feed, store, later)

    for number in range(listed_again + 10):
        put(number, "us-east-1")
    put(1, "eu-west-1")
    assert poll(0).failed == ()
    put(2, "eu-west-1", record(user(key_id)))
    assert poll(1).opened
    assert [poll(minutes).records for minutes in (2, 30)] == [0, 0]


@pytest.mark.parametrize(
    ("folder", "dated"), [("us-gov-east-1/", True), ("us-east-1", True), ("us-east", False), ("us-east-1/2026", False)]
)
def test_names_tell_their_time_in_the_folder_of_one_whole_region(folder: str, dated: bool) -> None:
    region, above = folder.rstrip("/"), f"AWSLogs/{ACCOUNT}/CloudTrail/"
    made = f"{above}{region}/{NOW:%Y/%m/%d}/{ACCOUNT}_CloudTrail_{region}_{NOW:%Y%m%dT%H%M}"
    assert name_at(f"{above}{folder}", NOW) == (made if dated else "")


def test_a_file_behind_all_that_is_read_that_can_never_be_read_is_given_up(
    bucket: BucketRig, store: Store, listed_again: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, get = datetime.now(UTC), Bucket.get

    def refuse(self: Bucket, found: TrailObject) -> Document | Skipped:
        bad = Skipped(outcome=Outcome.FAILED, what=found.where, why="S3 does not give it: AccessDenied")
        return bad if found.key == "export/bad.json.gz" else get(self, found)

    def put(name: str) -> None:
        bucket.aws.client("s3").put_object(Bucket=BUCKET, Key=f"export/{name}.json.gz", Body=trail(record({})))

    def poll(day: int) -> tuple[int, int]:
        later = now + timedelta(days=day)
        feed = BucketFeed(urlsplit(f"s3://{BUCKET}/export"), make_world(store, bucket.aws, lambda: later))
        failed = len(watch.poll(feed, store, later).failed)
        mark = store.watermark(feed.name)
        assert mark is not None
        return failed, len(mark.position)

    monkeypatch.setattr(Bucket, "get", refuse)
    for number in range(listed_again + 10):
        put(f"m{number}")
    _, size = poll(0)
    put("bad")
    put("first")
    assert [poll(day)[0] for day in (1, 2, 8, 9)] == [1, 1, 1, 0]
    assert poll(10) == (0, size), "and nothing is remembered for its sake"


def test_a_file_that_cannot_be_read_is_tried_again(bucket: BucketRig, store: Store, key_id: str) -> None:
    bucket.aws.refuse_next("s3:GetObject", "SlowDown", times=1)
    bucket.deliver(record(user(key_id)))
    assert watch.poll(bucket.feed(), store, NOW).failed
    assert counts(store) == []
    assert watch.poll(bucket.feed(), store, NOW).failed == ()
    assert counts(store) == [(1, 1, 0)]


def test_any_folder_of_a_bucket_can_be_read(bucket: BucketRig, store: Store, key_id: str) -> None:
    s3 = bucket.aws.client("s3")
    s3.put_object(Bucket=BUCKET, Key="export/x.json", Body=gzip.decompress(trail(record(user(key_id)))))
    s3.put_object(Bucket=BUCKET, Key="export/readme.html", Body=b"hello")
    feed = open_feed(f"s3://{BUCKET}/export/?region=us-east-1", make_world(store, bucket.aws))
    assert watch.poll(feed, store, NOW).opened
    assert watch.poll(feed, store, NOW).records == 0


def test_the_start_of_a_listing_moves_but_not_beyond_what_is_unread() -> None:
    names = [f"{number:05}" for number in range(1000)]
    reach = _Reach(read={_tag(name) for name in names})
    reach.advance(names)
    assert (reach.start, len(reach.read)) == ("00699", 300)
    unread = _Reach(read={_tag(name) for name in names if name != "00100"})
    unread.advance(names)
    assert unread.start == "00099"
    lost = _Reach(read=set())
    lost.advance([f"{number:05}" for number in range(5000)])
    assert lost.start == "01999", "given up behind ten times the overlap"


def test_a_bucket_that_is_none_has_failed(aws: Loopback, store: Store) -> None:
    feed = open_feed("s3://no-such-bucket", make_world(store, aws))
    assert "cannot be listed" in watch.poll(feed, store, NOW).failed[0].why


# Keys that are new: what was read before is read again for them.


def adopt(store: Store, rng: random.Random, **more: Any) -> str:
    """Watch one more key, of another owner."""
    made = make_key_id(rng, ACCOUNT)
    store.watch(Canary(key_id=made, name=made, **({"since": NOW, "adopted": True} | more)))
    return made


def uses(store: Store) -> dict[str | None, int]:
    return {each.key_id: each.use for each in store.incidents()}


@pytest.fixture(params=["file", "s3", "sqs", "lookup"])
def history(request: pytest.FixtureRequest, tmp_path: Path, store: Store) -> Rig:
    """Every feed that can be read again."""
    if request.param == "file":
        return FolderRig(tmp_path, store)
    aws: Loopback = request.getfixturevalue("aws")
    made: dict[str, type[Any]] = {"s3": BucketRig, "sqs": QueueRig, "lookup": LookupRig}
    rig: Rig = made[request.param](aws, store)
    return rig


def test_a_key_adopted_later_is_found_in_what_was_read_before(
    history: Rig, store: Store, key_id: str, rng: random.Random
) -> None:
    later = make_key_id(rng, ACCOUNT)
    stranger = user(later, "other") | {"principalId": "AIDAEXAMPLEEXAMPLE777"}
    history.deliver(record(stranger), record(user(key_id), 1))
    watch.poll(history.feed(), store, NOW)
    assert uses(store) == {key_id: 1}
    store.watch(Canary(key_id=later, name="later", since=NOW, adopted=True))
    polled = watch.poll(history.feed(), store, NOW)
    assert (polled.failed, uses(store)) == ((), {key_id: 1, later: 1})
    assert watch.poll(history.feed(), store, NOW).grown == ()


def test_an_owner_learned_later_joins_what_was_read_before(history: Rig, store: Store, rng: random.Random) -> None:
    made = adopt(store, rng)
    session = user("ASIAEXAMPLEEXAMPLE55", "other") | {"principalId": "AIDAEXAMPLEEXAMPLE777"}
    history.deliver(record(session), record(role(), 1))
    watch.poll(history.feed(), store, NOW)
    assert store.incidents() == []
    adopted = Owner(arn=session["arn"], user_name="other", account_id=ACCOUNT)
    store.watch(Canary(key_id=made, name="later", since=NOW, adopted=True, owner=adopted))
    watch.poll(history.feed(), store, NOW)
    assert [each.derived for each in store.incidents()] == [1]


def told(polled: Polled) -> list[str]:
    return [each.why for each in polled.skipped if "new" in each.why]


def test_a_queue_of_records_says_from_when_on_a_new_key_is_looked_for(
    aws: Loopback, store: Store, key_id: str, rng: random.Random
) -> None:
    rig = EventBridgeRig(aws, store)
    rig.deliver(record(role()))
    assert told(watch.poll(rig.feed(), store, NOW)) == []
    new = adopt(store, rng)
    (why,) = told(watch.poll(rig.feed(), store, NOW))
    assert why.startswith(f"of {new}, new: what came before 2026-11-20T11:00:00Z")
    assert told(watch.poll(rig.feed(), store, NOW)) == []


def test_for_a_key_of_ours_only_what_was_read_after_it_was_made_is_read_again(
    bucket: BucketRig, store: Store, key_id: str, rng: random.Random
) -> None:
    for _ in range(3):
        bucket.deliver(record(role()))
    watch.poll(bucket.feed(), store, NOW)
    adopt(store, rng, since=NOW + timedelta(seconds=1), adopted=False)
    polled = watch.poll(bucket.feed(), store, NOW)
    assert (polled.records, told(polled)) == (0, []), "it was made when that poll had ended"
    bucket.aws.client("s3").put_object(
        Bucket=BUCKET, Key=trail_key(9, minute=50), Body=trail(record(role()))
    )  # fmt: skip
    watch.poll(bucket.feed(), store, NOW)
    new = adopt(store, rng, since=NOW - timedelta(minutes=1), adopted=False)
    polled = watch.poll(bucket.feed(), store, NOW)
    assert polled.records == 1, "the files of its own time only, which that poll may have read without it"
    assert [new in why for why in told(polled)] == [True]


def test_a_poll_that_was_cut_off_owes_its_files_to_the_keys_that_came_meanwhile(
    bucket: BucketRig, store: Store, key_id: str, rng: random.Random
) -> None:
    watch.poll(bucket.feed(), store, NOW)
    later = make_key_id(rng, ACCOUNT)
    bucket.count = 50
    bucket.deliver(record(user(later, "other") | {"principalId": "AIDAX"}))
    feed = bucket.feed()
    mark = store.watermark(feed.name)
    pages = feed.pages(mark)
    begun = next(pages).position
    pages.close()
    assert begun is not None
    store.record_page(PageRead(feed=feed.name, watermark=Watermark(feed=feed.name, position=begun)), lambda *_: [], NOW)
    store.watch(Canary(key_id=later, name="later", since=NOW + timedelta(minutes=1)))
    assert told(watch.poll(bucket.feed(), store, NOW)) != []


def test_reading_again_stops_after_a_minute_and_goes_on_with_the_next_poll(
    aws: Loopback, store: Store, key_id: str, rng: random.Random
) -> None:
    rig = QueueRig(aws, store)
    rig.deliver(record(role()))
    for number in range(2, 61):
        aws.client("s3").put_object(Bucket=BUCKET, Key=trail_key(number), Body=trail(record(role())))
    watch.poll(rig.feed(), store, NOW)
    adopt(store, rng)
    ticks = iter(range(10_000))

    def poll() -> Polled:
        world = make_world(store, aws, lambda: NOW + timedelta(seconds=70 * next(ticks)))
        feed = QueueFeed(urlsplit(f"sqs://us-east-1/{ACCOUNT}/{QUEUE}"), world, wait=0, invisible=0)
        return watch.poll(feed, store, NOW)

    polls = [poll() for _ in range(4)]
    assert [each.records for each in polls] == [50, 10, 0, 0]
    assert ["the next poll reads on there" in " ".join(told(each)) for each in polls] == [True, True, True, False]


def test_what_cannot_be_read_again_is_said_and_ends_nothing(
    aws: Loopback, store: Store, key_id: str, rng: random.Random
) -> None:
    rig = QueueRig(aws, store)
    rig.deliver(record(role()))
    rig.deliver(record(role()))
    watch.poll(rig.feed(), store, NOW)
    adopt(store, rng)
    aws.refuse_next("s3:GetObject", "InvalidObjectState", times=1)
    polled = watch.poll(rig.feed(), store, NOW)
    assert (polled.records, polled.failed) == (1, ())
    assert any("InvalidObjectState" in why for why in told(polled))
    adopt(store, rng)
    aws.refuse_next("s3:GetObject", "KMS.DisabledException", times=1)
    assert watch.poll(rig.feed(), store, NOW).failed
    assert watch.poll(rig.feed(), store, NOW).records == 2, "tried again"
    adopt(store, rng)
    aws.refuse_next("s3:ListObjectsV2", "AccessDenied", times=1)
    polled = watch.poll(rig.feed(), store, NOW)
    assert any("cannot be listed" in why for why in told(polled))
    assert told(watch.poll(rig.feed(), store, NOW)) == [], "given up, and said"


def test_any_folder_is_read_again_by_when_its_files_were_written(
    bucket: BucketRig, store: Store, key_id: str, rng: random.Random
) -> None:
    later = make_key_id(rng, ACCOUNT)
    s3 = bucket.aws.client("s3")
    stranger = user(later, "other") | {"principalId": "AIDAEXAMPLEEXAMPLE777"}
    s3.put_object(Bucket=BUCKET, Key="export/x.json", Body=gzip.decompress(trail(record(stranger))))
    feed = open_feed(f"s3://{BUCKET}/export/?region=us-east-1", make_world(store, bucket.aws))
    watch.poll(feed, store, NOW)
    store.watch(Canary(key_id=later, name="later", since=NOW, adopted=True))
    assert watch.poll(feed, store, NOW).opened


# The event history.


def many(store: Store, rng: random.Random, count: int) -> list[str]:
    made = [make_key_id(rng, ACCOUNT) for _ in range(count)]
    for each in made:
        store.watch(Canary(key_id=each, name=each, since=NOW))
    return made


def test_above_two_hundred_keys_the_history_is_swept_as_a_whole(
    aws: Loopback, store: Store, rng: random.Random
) -> None:
    keys = many(store, rng, 201)
    slept: list[float] = []
    world = World(clients=make_world(store, aws).clients, watched=store.watched, clock=lambda: NOW, sleep=slept.append)
    for minute in range(120):
        aws.trail.add(record(user(keys[0]), minute / 2))
    polled = watch.poll(LookupFeed(urlsplit("lookup://us-east-1"), world), store, NOW)
    assert counts(store) == [(1, 120, 0)]
    assert polled.failed == ()
    assert slept == [0.5, 0.5], "50 records a page, two calls a second"
    new = adopt(store, rng)
    aws.trail.add(record(user(new, "other") | {"principalId": "AIDAX"}, -60 * 24 * 40))
    watch.poll(LookupFeed(urlsplit("lookup://us-east-1"), world), store, NOW)
    assert uses(store)[new] == 1, "a new key is looked up on its own"
    for _ in range(201):
        adopt(store, rng)
    (why,) = told(watch.poll(LookupFeed(urlsplit("lookup://us-east-1"), world), store, NOW))
    assert why.startswith("of 201 new keys")


def test_a_look_up_that_takes_too_long_says_that_it_cannot_alarm_in_minutes(
    aws: Loopback, store: Store, rng: random.Random
) -> None:
    world = make_world(store, aws)
    for number, each in enumerate(many(store, rng, 200)):
        owner = Owner(arn=f"{ARN}{number}", user_name=f"svc-backup{number}", account_id=ACCOUNT)
        store.watch(Canary(key_id=each, name=each, owner=owner, since=NOW))
    polled = watch.poll(LookupFeed(urlsplit("lookup://us-east-1"), world), store, NOW)
    assert [each.why for each in polled.skipped] == [
        "800 calls take over 5 minutes: this feed cannot alarm in minutes, use a trail"
    ]


def test_mentions_and_sign_ins_are_looked_up_too(aws: Loopback, store: Store, key_id: str) -> None:
    aws.trail.add(record(user(""), 1, name="ConsoleLogin", eventSource="signin.amazonaws.com"))
    named = {"userName": "svc-backup", "accessKeyId": key_id}
    aws.trail.add(record(role(), 2, name="UpdateAccessKey", eventSource="iam.amazonaws.com", requestParameters=named))
    watch.poll(LookupFeed(urlsplit("lookup://us-east-1"), make_world(store, aws)), store, NOW)
    (incident,) = store.incidents()
    assert incident.derived == 1


def test_a_use_whose_record_comes_hours_late_is_an_alarm_within_the_hour(
    aws: Loopback, store: Store, key_id: str
) -> None:
    def look(minutes: int) -> Polled:
        now = NOW + timedelta(minutes=minutes)
        aws.clock = lambda: now
        feed = LookupFeed(urlsplit("lookup://us-east-1"), make_world(store, aws, lambda: now))
        return watch.poll(feed, store, now)

    name = "lookup://us-east-1"
    before = Watermark(feed=name, position='{"us-east-1": ["2026-11-20T10:59:00Z", []]}')  # of an older firedamp
    store.record_page(PageRead(feed=name, watermark=before), lambda *_: [], NOW)
    look(0)
    aws.trail.add(record(user(key_id), -12 * 60))
    looks = [bool(look(minutes).opened) for minutes in range(10, 130, 10)]
    assert looks.count(True) == 1
    assert looks.index(True) == 5, "after an hour"


def test_a_history_whose_next_page_is_not_given_any_more_is_read_on_below_its_last_record(
    aws: Loopback, store: Store, key_id: str
) -> None:
    for minute in range(120):
        aws.trail.add(record(user(key_id), minute / 2))
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) in {1, 3}:
            aws.refuse_next("cloudtrail:LookupEvents", "InvalidNextTokenException")

    world = World(clients=make_world(store, aws).clients, watched=store.watched, clock=lambda: NOW, sleep=sleep)
    assert watch.poll(LookupFeed(urlsplit("lookup://us-east-1"), world), store, NOW).failed == ()
    assert counts(store) == [(1, 120, 0)]
    aws.refuse_next("cloudtrail:LookupEvents", "InvalidNextTokenException")
    assert watch.poll(LookupFeed(urlsplit("lookup://us-east-1"), world), store, NOW).failed, (
        "without a token it is told"
    )


@pytest.mark.slow  # moto takes seconds to load EC2
def test_every_enabled_region_is_looked_up_when_none_is_named(aws: Loopback, store: Store, key_id: str) -> None:
    aws.trail.add(record(user(key_id), 1, awsRegion="eu-west-1"))
    watch.poll(open_feed("lookup://", make_world(store, aws)), store, NOW)
    assert store.incidents()[0].regions == ("eu-west-1",)
    mark = store.watermark("lookup://")
    assert mark is not None
    assert len(json.loads(mark.position)) > 10


def test_a_region_that_fails_is_told_and_looked_up_again_from_where_it_was(
    aws: Loopback, store: Store, key_id: str
) -> None:
    feed = LookupFeed(urlsplit("lookup://us-east-1,eu-west-1"), make_world(store, aws))
    aws.refuse_next("cloudtrail:LookupEvents", "AccessDeniedException", times=1)
    assert len(watch.poll(feed, store, NOW).failed) == 1
    mark = store.watermark(feed.name)
    assert mark is not None
    assert len(json.loads(mark.position)) == 1
    assert watch.poll(feed, store, NOW).failed == ()


def test_a_look_up_by_a_clock_that_was_a_day_ahead_loses_nothing_when_it_is_right_again(
    aws: Loopback, store: Store, key_id: str
) -> None:
    def look(at: datetime) -> watch.Polled:
        feed = LookupFeed(urlsplit("lookup://us-east-1"), make_world(store, aws, lambda: at))
        return watch.poll(feed, store, at)

    look(NOW + timedelta(days=1))
    aws.trail.add(record(user(key_id), 55))
    assert look(NOW).failed == ()
    assert counts(store) == [(1, 1, 0)]


def test_a_key_that_is_new_is_looked_up_from_the_beginning_of_the_history(
    aws: Loopback, store: Store, key_id: str, rng: random.Random
) -> None:
    later = make_key_id(rng, ACCOUNT)
    aws.trail.add(record(user(later, "other") | {"principalId": "AIDAX"}, -60 * 24))
    feed = LookupFeed(urlsplit("lookup://us-east-1"), make_world(store, aws))
    watch.poll(feed, store, NOW)
    store.watch(Canary(key_id=later, name="later", since=NOW))
    assert watch.poll(feed, store, NOW).opened


# The folder.


def test_a_file_that_did_not_change_is_not_opened_again(tmp_path: Path, store: Store, key_id: str) -> None:
    rig = FolderRig(tmp_path, store)
    rig.deliver(record(user(key_id)), record(role()))
    assert watch.poll(rig.feed(), store, NOW).records == 2
    assert watch.poll(rig.feed(), store, NOW).records == 0
    (tmp_path / "1.json.gz").write_bytes(trail(record(role(), 5)))
    assert watch.poll(rig.feed(), store, NOW).records == 1


def test_a_file_above_the_limit_has_failed(tmp_path: Path, store: Store) -> None:
    (tmp_path / "large.json").write_bytes(b" " * 100)
    feed = FolderFeed(urlsplit(tmp_path.as_uri()), make_world(store), largest=99)
    assert [each.why for each in watch.poll(feed, store, NOW).failed] == ["more than 99 bytes"]


def test_a_feed_can_be_one_file(tmp_path: Path, store: Store, key_id: str) -> None:
    (tmp_path / "a b.json").write_bytes(json.dumps(record(user(key_id))).encode())
    assert watch.poll(open_feed((tmp_path / "a b.json").as_uri(), make_world(store)), store, NOW).opened


def test_many_files_are_many_pages_and_the_position_moves_with_the_last(tmp_path: Path, store: Store) -> None:
    for number in range(300):
        (tmp_path / f"{number}.json").write_bytes(b"{}")
    pages = list(FolderFeed(urlsplit(tmp_path.as_uri()), make_world(store)).pages(None))
    assert [len(page.documents) for page in pages] == [256, 44, 0]
    assert [page.position is None for page in pages] == [True, True, False]


# Through a whole trail.


def test_records_travel_from_call_to_bucket_to_queue_to_incident(aws: Loopback, store: Store) -> None:
    rig = QueueRig(aws, store)
    intruder = aws.add_user("svc-ledger")
    arn = f"arn:aws:iam::{aws.account}:user/svc-ledger"
    owner = Owner(arn=arn, user_name="svc-ledger", account_id=aws.account)
    store.watch(Canary(key_id=intruder.id, name="ledger", owner=owner, since=NOW))
    notices = {
        "QueueConfigurations": [
            {"QueueArn": f"arn:aws:sqs:us-east-1:{ACCOUNT}:{QUEUE}", "Events": ["s3:ObjectCreated:*"]}
        ]
    }
    aws.client("s3").put_bucket_notification_configuration(Bucket=BUCKET, NotificationConfiguration=notices)
    trails = aws.client("cloudtrail")
    trails.create_trail(Name="main", S3BucketName=BUCKET, IsMultiRegionTrail=True)
    trails.start_logging(Name="main")
    aws.client("sts", intruder, source_ip="198.51.100.9").get_caller_identity()
    aws.client("sts", intruder).get_session_token()
    aws.trail.flush()
    world = World(
        clients=make_world(store, aws).clients,
        watched=store.watched,
        clock=lambda: datetime.now(UTC),
        sleep=lambda _: None,
    )
    feed = QueueFeed(urlsplit(f"sqs://us-east-1/{ACCOUNT}/{QUEUE}"), world, wait=0)
    polled = watch.poll(feed, store, datetime.now(UTC))
    assert polled.failed == ()
    (incident,) = [each for each in store.incidents() if each.key_id == intruder.id]
    assert incident.use == 2
    assert "198.51.100.9" in incident.addresses
    assert "sts:GetSessionToken" in incident.calls
    assert rig.left() == 0
