"""What CloudTrail cannot tell: uses without a record, and a watch that does not see."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from tests import faults
from tests.profiles import configure
from tests.scenes import allow, code, make_queue, start_trail

from firedamp.canaries import blind, nets, watch
from firedamp.canaries.blind import QueueClients, Reach, proof
from firedamp.canaries.feeds import FolderFeed, World
from firedamp.canaries.nets import Caught, Nets
from firedamp.canaries.pace import Pace
from firedamp.service import proving
from firedamp.service.cli import main
from firedamp.service.loopback import ACCOUNT, Loopback, LoopbackKey
from firedamp.storage.records import (
    Alert,
    AlertKind,
    Blind,
    Canary,
    CanaryState,
    ChannelStanding,
    Check,
    Delivery,
    DeliveryState,
    Event,
    Instance,
    Kept,
    Outcome,
    OwnCall,
    Owner,
    PageRead,
    Severity,
    Sighting,
    SightingKind,
    Skipped,
    Sound,
    Standing,
    Unsure,
    Watermark,
)
from firedamp.storage.store import Store

START = datetime(2026, 11, 20, 10, tzinfo=UTC)
HOUR = timedelta(hours=1)


class Scene:
    """A canary on the loopback AWS, watched since ten o'clock, and a clock."""

    def __init__(self, aws: Loopback) -> None:
        self.aws, self.store, self.time = aws, Store(None), START
        aws.clock = lambda: self.time
        self.key = aws.add_user("svc-backup")
        self.watch(self.key)

    def watch(self, key: LoopbackKey, name: str = "svc-backup", **more: Any) -> None:
        owner = Owner(arn=f"arn:aws:iam::{ACCOUNT}:user/{name}", user_name=name, account_id=ACCOUNT)
        self.store.watch(Canary(**({"key_id": key.id, "name": name, "owner": owner, "since": START} | more)))

    def cast(self, reader: LoopbackKey | None = None, until: timedelta = HOUR) -> Caught:
        client = self.aws.client("iam", reader)
        return nets.cast(
            Nets(
                iam=lambda account: client if account == ACCOUNT else f"no profile acts in {account}",
                store=self.store, pace=Pace(lambda _: None, os.urandom), now=lambda: self.time,
                until=self.time + until, about=lambda _: nullcontext(),
            )
        )  # fmt: skip

    def later(self, **by: float) -> None:
        self.time += timedelta(**by)


@pytest.fixture
def scene(aws: Loopback) -> Scene:
    return Scene(aws)


def states(checks: Any) -> dict[str, str]:
    return {each.condition: type(each).__name__ for each in checks}


def test_a_use_without_a_record_is_an_alarm_once_after_patience(scene: Scene) -> None:
    assert scene.cast().alerts == ()
    scene.aws.client("sts", scene.key).get_caller_identity()
    scene.later(minutes=10)
    assert scene.cast().alerts == ()  # the record may be on its way
    scene.later(minutes=15)
    [alert] = scene.cast().alerts
    facts = dict(alert.facts)
    assert (alert.kind, alert.severity, alert.key_id) == (AlertKind.UNLOGGED, Severity.CRITICAL, scene.key.id)
    assert (facts["service"], facts["region"], facts["name"]) == ("sts", "us-east-1", "svc-backup")
    scene.later(minutes=5)
    scene.cast()
    assert len(scene.store.alerts()) == 1


def test_a_use_with_its_record_or_of_our_own_is_no_alarm(scene: Scene, tmp_path: Path) -> None:
    events = scene.aws.client("cloudtrail")
    scene.aws.client("sts", scene.key).get_caller_identity()
    record = [json.loads(e["CloudTrailEvent"]) for e in events.lookup_events()["Events"]]
    (tmp_path / "t.json").write_text(json.dumps({"Records": record}))
    world = World(clients=lambda *_: None, watched=scene.store.watched, clock=lambda: scene.time, sleep=lambda _: None)
    watch.poll(FolderFeed(urlsplit(tmp_path.as_uri()), world), scene.store, scene.time)
    scene.later(minutes=30)
    assert scene.cast().alerts == ()
    scene.store.add_own_call(
        OwnCall(nonce="0" * 32, key_id=scene.key.id, principal=scene.key.id, call="sts:GetCallerIdentity", host="h",
                at=scene.time, purpose="drill")
    )  # fmt: skip
    scene.aws.client("sts", scene.key).get_caller_identity()
    scene.later(minutes=30)
    assert scene.cast().alerts == ()
    assert code(scene.aws.client("sns", scene.key).list_topics) == "AuthorizationError"
    scene.later(minutes=30)
    [alert] = scene.cast().alerts  # another service than the one we called
    assert dict(alert.facts)["service"] == "sns"


def test_a_use_before_the_key_was_watched_is_no_alarm(scene: Scene) -> None:
    scene.time = START - timedelta(days=3)
    scene.aws.client("sts", scene.key).get_caller_identity()
    scene.time = START + timedelta(days=1)
    assert scene.cast().alerts == ()


def test_a_key_that_cannot_be_used_any_more_is_blind(scene: Scene) -> None:
    condition = f"key {scene.key.id} of svc-backup"
    iam = scene.aws.client("iam")

    def look() -> Check:
        scene.later(hours=2)
        return {each.condition: each for each in scene.cast().checks}[condition]

    assert isinstance(look(), Sound)
    iam.update_access_key(UserName="svc-backup", AccessKeyId=scene.key.id, Status="Inactive")
    check = look()
    assert isinstance(check, Blind)
    assert "inactive" in check.why
    iam.delete_access_key(UserName="svc-backup", AccessKeyId=scene.key.id)
    check = look()
    assert isinstance(check, Blind)
    assert "deleted" in check.why
    iam.delete_user(UserName="svc-backup")
    check = look()
    assert isinstance(check, Blind)
    assert "gone" in check.why


def test_what_may_not_be_asked_is_unsure_and_never_fine(scene: Scene) -> None:
    nobody = scene.aws.add_user("nobody")
    checks = scene.cast(nobody).checks
    assert states(checks) == {f"key {scene.key.id} of svc-backup": "Unsure", nets.NET: "Unsure"}
    half = scene.aws.add_user("half", inline={"p": allow("iam:GetAccessKeyLastUsed")})
    assert "ListAccessKeys: AccessDenied" in str(scene.cast(half).checks)
    scene.aws.refuse_next("iam:GetAccessKeyLastUsed", "Throttling", times=99)
    assert "Throttling" in str(scene.cast().checks)
    scene.aws.refuse_next("iam:GetAccessKeyLastUsed", "Throttling", times=0)
    other = Owner(account_id="210987654321")
    scene.watch(LoopbackKey("AKIAEXAMPLEEXAMPLE33", scene.key.secret), "else", owner=other)
    scene.watch(LoopbackKey("odd", scene.key.secret), "odd", owner=Owner(account_id=ACCOUNT))
    scene.watch(LoopbackKey("half", scene.key.secret), "minting", state=CanaryState.MINTING)
    told = {each.condition: each for each in scene.cast().checks}
    assert "no profile acts in 210987654321" in str(told[nets.NET])
    assert isinstance(told["key odd of odd"], Unsure)


def test_a_net_that_has_no_time_goes_on_where_it_ended(scene: Scene) -> None:
    for number in range(3):
        scene.watch(scene.aws.add_user(f"svc-{number}"), f"svc-{number}")
    caught = scene.cast(until=timedelta())
    assert caught.asked == 0
    assert states(caught.checks) == {nets.NET: "Unsure"}
    assert scene.cast().asked == 4
    assert states(scene.cast().checks)[nets.NET] == "Sound"


def test_records_of_our_own_nets_are_forgotten_and_nothing_else() -> None:
    store = Store(None)

    def keep(number: int, name: str, *, own: bool) -> None:
        event = Event(id=f"e{number}", time=START, name=name)
        sighting = Sighting(key_id="K", kind=SightingKind.MENTION, event=event, own=own)
        store.record_page(PageRead(feed="f", sightings=(sighting,)), lambda _, new: [Kept(sightings=tuple(new))], START)

    keep(1, "GetAccessKeyLastUsed", own=True)
    keep(2, "GetAccessKeyLastUsed", own=False)
    keep(3, "CreateUser", own=True)
    for purpose in ("net", "mint"):
        call = OwnCall(nonce=purpose, key_id="K", principal="A", call="iam:X", host="h", at=START, purpose=purpose)
        store.add_own_call(call)
    assert store.forget_net_calls(START, START) == 0
    assert store.forget_net_calls(START + HOUR, START + HOUR) == 1
    assert {sighting.event.id for sighting in store.sightings_of("K")} == {"e2", "e3"}
    assert [call.purpose for call in store.own_calls()] == ["mint"]


# The blind alarm: what we know ourselves.


def test_a_feed_is_judged_by_its_last_poll_and_its_newest_record() -> None:
    def look(url: str, polled: timedelta | None, newest: timedelta | None) -> list[str]:
        ago = [None if each is None else START - each for each in (polled, newest)]
        mark = Watermark(feed=url, position="", newest=ago[1], polled=ago[0])
        return list(states(blind.feeds([url], Reach([mark]), 2 * HOUR, START)).values())

    minute = timedelta(minutes=1)
    assert list(states(blind.feeds(["s3://b"], Reach([]), HOUR, START)).values()) == ["Unsure"]
    assert look("s3://b", None, None) == ["Unsure"]
    assert look("s3://b", minute, None) == ["Sound", "Unsure"]
    assert look("s3://b", minute, HOUR) == ["Sound", "Sound"]
    assert look("s3://b", HOUR, 3 * HOUR) == ["Blind", "Blind"]
    assert look("lookup://", minute, 3 * HOUR) == ["Sound"]
    assert look("lookup://", -24 * HOUR, None) == ["Blind"], "the clock was ahead: it proves nothing"


def test_a_feed_that_is_not_read_says_why_and_one_that_never_was_is_an_alarm_too() -> None:
    poll, minute = "lookup://", timedelta(minutes=1)
    with Store(None) as store:

        def look(at: datetime, *failed: str) -> list[str]:
            skipped = tuple(Skipped(outcome=Outcome.FAILED, what=poll, why=why) for why in failed)
            mark = Watermark(feed=poll, position="", polled=None if failed else at)
            store.record_page(PageRead(feed=poll, skipped=skipped, watermark=mark), lambda *_: [], at)
            checks = list(blind.feeds([poll], proving.reach(store), HOUR, at))
            store.record_checks(checks, at, lambda check, since: blind.alarm(check, since, at))
            return [dict(alert.facts)["why"] for _, alert in store.alerts()]

        assert look(START, "there are no credentials") == []
        assert look(START + 10 * minute, "there are no credentials") == []
        never = "never, so far: there are no credentials"
        for late in (20, 30):
            assert look(START + late * minute, "there are no credentials") == [never]
        assert look(START + 2 * HOUR) == [never]
        for late in (3, 4):
            why = "not since 2026-11-20T12:00:00Z: the session that an MFA code began has ended (aws sts …)"
            assert look(START + late * HOUR, "the session that an MFA code began has ended (aws sts …)") == [why, never]


def test_a_channel_is_judged_by_what_it_delivered_and_what_waits_for_it() -> None:
    store = Store(None)
    for number in range(3):
        alert = Alert(key=f"a{number}", kind=AlertKind.TEST, severity=Severity.LOW, at=START, facts=())
        store.add_alert(alert)
    store.route(["mail", "chat"], START)
    store.set_delivery(
        Delivery(alert=1, channel="chat", state=DeliveryState.DELIVERED, attempts=1, next_try=START, delivered=START)
    )
    store.set_delivery(Delivery(alert=2, channel="mail", attempts=3, next_try=START, error="refused"))
    told = {each.condition: each for each in blind.channels(["mail", "chat", "new"], store.channel_standings(),
                                                            START + HOUR)}  # fmt: skip
    assert told["channel mail"] == Blind(condition="channel mail", why="refused", since=START)
    assert isinstance(told["channel chat"], Sound)
    assert isinstance(told["channel new"], Unsure)
    waiting = ChannelStanding(channel="x", delivered=START, waiting=START)
    assert [type(each) for each in blind.channels(["x"], [waiting], START)] == [Sound]


def test_the_service_is_judged_by_its_heartbeat() -> None:
    assert isinstance(blind.service(None, START), Unsure)
    beat = Instance(owner="h:1", started=START, heartbeat=START)
    assert isinstance(blind.service(beat, START), Sound)
    assert isinstance(blind.service(beat, START + HOUR), Blind)
    assert isinstance(blind.service(beat, START - HOUR), Blind), "its clock was ahead"


# The blind alarm: what AWS says.


def trail(aws: Loopback, now: datetime, key: LoopbackKey | None = None) -> dict[str, Check]:
    found = blind.trail(ACCOUNT, lambda region: aws.client("cloudtrail", key, region or "us-east-1"), 2 * HOUR, now)
    return {each.condition: each for each in found}


def why(check: Check) -> str:
    return "" if isinstance(check, Sound) else check.why


TRAIL, DIGEST = f"trail of account {ACCOUNT}", f"digest files of account {ACCOUNT}"


def test_a_trail_must_log_every_management_event_of_every_region_and_deliver(aws: Loopback) -> None:
    now = datetime.now(UTC)
    assert why(trail(aws, now)[TRAIL]) == "there is no trail"
    client = start_trail(aws)
    aws.trail.flush()
    assert isinstance(trail(aws, now)[TRAIL], Sound)
    assert "no file was delivered" in why(trail(aws, now + 3 * HOUR)[TRAIL])
    client.put_event_selectors(
        TrailName="main", EventSelectors=[{"ReadWriteType": "WriteOnly", "IncludeManagementEvents": True}]
    )
    assert "reads" in why(trail(aws, now)[TRAIL])
    client.update_trail(Name="main", IsMultiRegionTrail=False)
    client.stop_logging(Name="main")
    told = why(trail(aws, now)[TRAIL])
    assert "does not log" in told
    assert "one region only" in told
    assert why(trail(aws, now, aws.add_user("nobody"))[TRAIL]) == "AccessDeniedException"
    part = aws.add_user("part", inline={"p": allow("cloudtrail:DescribeTrails")})
    assert "main: AccessDenied" in why(trail(aws, now, part)[TRAIL])


def test_a_missing_hour_of_digests_is_blind(aws: Loopback) -> None:
    now = datetime.now(UTC)
    client = start_trail(aws)
    aws.trail.flush()
    assert isinstance(trail(aws, now)[DIGEST], Unsure)
    client.update_trail(Name="main", EnableLogFileValidation=True)
    aws.trail.digest()
    assert isinstance(trail(aws, now)[DIGEST], Sound)
    aws.clock = lambda: now + 3 * HOUR
    client.describe_trails()
    aws.trail.flush()
    assert "an hour is missing" in why(trail(aws, now + 3 * HOUR)[DIGEST])


@pytest.mark.parametrize(
    ("selectors", "lacking"),
    [
        ({"EventSelectors": [{}]}, ""),
        ({"EventSelectors": [{"IncludeManagementEvents": False}]}, "reads and writes"),
        ({"EventSelectors": [{"ExcludeManagementEventSources": ["kms.amazonaws.com"]}]}, ""),
        ({"EventSelectors": [{"ReadWriteType": "ReadOnly"}, {"ReadWriteType": "WriteOnly"}]}, ""),
        ({"AdvancedEventSelectors": [{"FieldSelectors": [{"Field": "eventCategory", "Equals": ["Management"]}]}]}, ""),
        ({"AdvancedEventSelectors": [{"FieldSelectors": [{"Field": "eventCategory", "Equals": ["Data"]}]}]}, "writes"),
        (
            {"AdvancedEventSelectors": [{"FieldSelectors": [
                {"Field": "eventCategory", "Equals": ["Management"]}, {"Field": "readOnly", "Equals": ["false"]}]}]},
            "reads",
        ),
        (
            {"AdvancedEventSelectors": [{"FieldSelectors": [
                {"Field": "eventCategory", "Equals": ["Management"]},
                {"Field": "eventSource", "NotEquals": ["sts.amazonaws.com"]}]}]},
            "reads and writes",
        ),
        ({}, "reads and writes"),
    ],
)  # fmt: skip
def test_narrow_selectors_are_told(selectors: dict[str, Any], lacking: str) -> None:
    assert blind.narrow(selectors).endswith(lacking)
    assert bool(blind.narrow(selectors)) == bool(lacking)


def queue(aws: Loopback, name: str = "notices", key: LoopbackKey | None = None) -> dict[str, Check]:
    clients = QueueClients(
        sqs=aws.client("sqs", key), cloudwatch=aws.client("cloudwatch", key), events=aws.client("events", key)
    )
    return {each.condition: each for each in blind.queue(ACCOUNT, name, clients, datetime.now(UTC))}


def test_a_queue_is_judged_by_its_oldest_message(aws: Loopback) -> None:
    assert why(queue(aws)["queue notices"]) == "the queue is gone"
    url, _ = make_queue(aws, "notices")
    assert isinstance(queue(aws)["queue notices"], Sound)
    aws.client("sqs").send_message(QueueUrl=url, MessageBody="x")
    assert "does not say how old" in why(queue(aws)["queue notices"])
    few = aws.add_user("few", inline={"p": allow("sqs:*")})
    assert "cannot be asked" in why(queue(aws, key=few)["queue notices"])
    assert isinstance(queue(aws, key=few)["rules of queue notices"], Unsure)
    metric = {
        "MetricName": "ApproximateAgeOfOldestMessage", "Dimensions": [{"Name": "QueueName", "Value": "notices"}],
        "Timestamp": datetime.now(UTC) - timedelta(minutes=5),
    }  # fmt: skip
    aws.client("cloudwatch").put_metric_data(Namespace="AWS/SQS", MetricData=[metric | {"Value": 60}])
    assert isinstance(queue(aws)["queue notices"], Sound)
    aws.client("cloudwatch").put_metric_data(Namespace="AWS/SQS", MetricData=[metric | {"Value": 7200}])
    assert isinstance(queue(aws)["queue notices"], Blind)


def test_a_rule_must_see_read_only_calls_too(aws: Loopback) -> None:
    _, arn = make_queue(aws, "notices")
    events = aws.client("events")

    def rule(state: str, kind: str = "AWS API Call via CloudTrail") -> Check:
        events.put_rule(Name="r", EventPattern=json.dumps({"detail-type": [kind]}), State=state)
        events.put_targets(Rule="r", Targets=[{"Id": "1", "Arn": arn}])
        return queue(aws)["rule r"]

    assert "read-only calls are dropped" in why(rule("ENABLED"))
    assert isinstance(rule("ENABLED_WITH_ALL_CLOUDTRAIL_MANAGEMENT_EVENTS"), Sound)
    assert isinstance(rule("ENABLED", "Object Created"), Sound)
    assert "DISABLED" in why(rule("DISABLED"))


# How it stands.


def alarm(check: Blind, since: datetime) -> Alert:
    return blind.alarm(check, since, since)


def test_a_blind_part_is_told_once_until_it_is_sound_again() -> None:
    store = Store(None)
    dark, fine, dunno = (
        Blind(condition="x", why="off"), Sound(condition="x"), Unsure(condition="x", why="denied"),
    )  # fmt: skip

    def told(check: Check, hour: int) -> int:
        now = START + hour * HOUR
        store.record_checks([check], now, lambda each, since: blind.alarm(each, since, now))
        return len(store.alerts())

    assert [told(dark, 0), told(dark, 1), told(dunno, 2), told(dark, 3), told(fine, 4), told(dark, 5)] == [
        1, 1, 1, 1, 1, 2,
    ]  # fmt: skip
    [standing] = store.standings()
    assert (standing.since, standing.proven) == (START + 5 * HOUR, START + 4 * HOUR)
    store.forget_checks(START + 6 * HOUR)
    assert store.standings() == []


def test_the_watch_is_proven_since_its_last_part_became_sound() -> None:
    def stand(check: Check, hours: int) -> Standing:
        return Standing(check=check, since=START + hours * HOUR, at=START + 9 * HOUR)

    now = START + 9 * HOUR
    sound = [stand(Sound(condition="a"), 1), stand(Sound(condition="b"), 3), stand(Sound(condition="key K of n"), 8)]
    assert proof([], now).words.startswith("the watch is not proven")
    watched = [stand(Sound(condition=each), 1) for each in (blind.HEARTBEAT, "feed file:///x: read to its end")]
    assert proof(watched, now).looked is None, "what a watch tells itself is no look at the whole"
    assert proof(sound, now).words == "the watch is proven since 2026-11-20T13:00:00Z"
    unsure = stand(Unsure(condition="q", why=""), 1)
    assert "except: q" in proof([*sound, unsure], now).words
    assert proof([unsure], now).words == "the watch is not proven: not known: q"
    assert proof([sound[-1]], now).words == "the watch is not proven: only single canaries are known"
    dark = proof([*sound, stand(Blind(condition="t", why="off"), 2)], now)
    assert (dark.since, dark.words) == (None, "the watch is blind since 2026-11-20T12:00:00Z: t (off)")
    assert "too long ago" in proof(sound, now + HOUR).words
    assert proof(sound, now - HOUR).since is None, "the clock was ahead"


# The commands.


@contextmanager
def pinged(status: int = 200) -> Iterator[tuple[str, list[str]]]:
    """Answer on loopback and remember which paths were called."""
    paths: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            paths.append(self.path)
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/ping/secret-part", paths
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def setting(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "firedamp.toml"
    path.write_text(text)
    return path


def test_nets_looks_at_everything_and_says_since_when_the_watch_is_proven(
    aws: Loopback, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    configure(aws, monkeypatch)
    start_trail(aws)
    make_queue(aws, "notices")
    feed = f"sqs://us-east-1/{ACCOUNT}/notices"
    config = str(setting(tmp_path, f'[watch]\nfeeds = ["{feed}"]\n'))
    assert main(["canary", "mint", "--quiet", "--name", "svc-{n}"]) == 0
    assert main(["watch", "--once", "--config", config, "--quiet"]) == 0
    capsys.readouterr()
    assert main(["canary", "nets", "--config", config, "--format", "jsonl"]) == 2
    told = {line["check"]: line["state"] for line in map(json.loads, capsys.readouterr().out.splitlines())}
    assert told[nets.NET] == told[TRAIL] == told["queue notices"] == told[f"feed {feed}: read to its end"] == "sound"
    assert told["the service"] == told[DIGEST] == "unknown"
    aws.client("cloudtrail").stop_logging(Name="main")
    assert main(["canary", "nets", "--config", config]) == 2
    assert "✗ " + TRAIL in capsys.readouterr().out
    assert main(["incidents", "list"]) == 0
    assert "the watch is blind since" in capsys.readouterr().err
    with Store(Path(os.environ["FIREDAMP_DB"])) as store:
        assert [alert.kind for _, alert in store.alerts()] == [AlertKind.BLIND]
        assert {call.call for call in store.own_calls() if call.purpose == "net"} == {
            "iam:GetAccessKeyLastUsed", "iam:ListAccessKeys",
        }  # fmt: skip
    assert main(["canary", "nets", "--offline"]) == 2
    assert main(["canary", "nets", "--format", "csv"]) == 2


def test_nets_without_a_feed_prove_nothing(
    aws: Loopback, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    configure(aws, monkeypatch)
    assert main(["canary", "nets"]) == 2
    out = capsys.readouterr().out
    assert "? the feeds: none is configured" in out
    assert "the watch is not proven: not known: the feeds; the service" in out


def test_nets_without_a_profile_says_so(
    aws: Loopback, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    feed = f"sqs://us-east-1/{ACCOUNT}/notices?profile=nobody"
    config = str(setting(tmp_path, f'[watch]\nfeeds = ["{feed}"]\n'))
    arn = f"arn:aws:iam::{ACCOUNT}:user/svc"
    assert main(["canary", "adopt", "AKIAEXAMPLEEXAMPLE33", "--arn", arn]) == 0
    monkeypatch.setenv("AWS_ENDPOINT_URL", aws.url)
    assert main(["canary", "nets", "--config", config]) == 2
    out = capsys.readouterr().out
    assert f"? {TRAIL}: no profile acts in account {ACCOUNT}; who the AWS profile default is cannot be asked: " in out
    assert "too long ago" not in out
    assert "? queue notices: the AWS profile nobody cannot be used" in out


def test_a_use_that_is_not_logged_ends_the_command_with_one(
    aws: Loopback, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    configure(aws, monkeypatch)
    key = aws.add_user("svc")
    aws.clock = lambda: datetime.now(UTC) - HOUR
    aws.client("sts", key).get_caller_identity()
    with Store(Path(os.environ["FIREDAMP_DB"])) as store:
        owner = Owner(account_id=ACCOUNT, user_name="svc")
        store.watch(Canary(key_id=key.id, name="svc", owner=owner, since=START))
        store.claim("h:1", datetime.now(UTC), HOUR)
    config = str(setting(tmp_path, '[watch]\nfeeds = ["lookup://eu-west-1"]\n'))
    assert main(["watch", "--once", "--config", config, "--quiet"]) == 0
    assert main(["canary", "nets", "--config", config]) == 1
    assert f"{key.id} was used but not logged: sts in us-east-1" in capsys.readouterr().out


def test_the_heartbeat_goes_out_after_a_round_that_ended_well_and_only_then(
    aws: Loopback, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()

    def poll(url: str, *more: str) -> int:
        monkeypatch.setenv("PING", url)
        config = setting(tmp_path, f'[watch]\nfeeds = ["{logs.as_uri()}"]\nheartbeat = "env:PING"\n')
        return main(["watch", "--once", "--config", str(config), *more])

    def standing() -> str:
        with Store(Path(os.environ["FIREDAMP_DB"])) as store:
            return str(store.standings()[0].check)

    with pinged() as (url, paths):
        assert poll(url) == 0
        assert poll(url, "--offline") == 0
        assert paths == ["/ping/secret-part"]
        assert standing().startswith("Sound")
        (logs / "bad.json.gz").write_bytes(b"\x1f\x8bnot gzip")
        assert poll(url) == 2
        assert len(paths) == 1
    (logs / "bad.json.gz").unlink()
    configure(aws, monkeypatch)
    assert poll("cloudwatch://us-east-1/acme/firedamp/beat") == 0
    assert aws.client("cloudwatch").list_metrics()["Metrics"][0]["Namespace"] == "acme/firedamp"
    aws.refuse_next("cloudwatch:PutMetricData", "AccessDenied", times=9)
    assert poll("cloudwatch://us-east-1/acme/firedamp/beat") == 0
    assert "CloudWatch does not take" in standing()
    with pinged(500) as (url, _):
        assert poll(url) == 0
        assert "answers 500" in standing()
    for broken, told in (("ftp://x/y", "no http"), ("http://127.0.0.1:1/secret-part", "URLError")):
        assert poll(broken) == 0
        assert told in standing()
        assert "secret-part" not in standing()
    for said, limit, told in (
        (b"this is no HTTP\r\n\r\n", 60, "BadStatusLine"), (b"HTTP/1.1 200 OK\r\nX-Slow: ", 0.5, "TimeoutError"),
    ):  # fmt: skip
        monkeypatch.setattr(proving, "_HEARTBEAT_LIMIT", limit)
        with faults.trickling(said) as url:
            assert poll(url) == 0, "and the watch goes on"
            assert told in standing()
    assert capsys.readouterr().err.count("secret-part") == 0
