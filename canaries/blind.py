"""The blind alarm: is each part of the watch where it must be for a use to be seen? Silence is never taken for safety.

Every check is sound, blind (since when) or unsure (why it could not be looked at). What our profile may not read is
unsure, and said. A part that is blind is told once, until it is sound again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from firedamp.canaries import heard
from firedamp.storage.records import (
    Alert,
    AlertKind,
    Blind,
    ChannelStanding,
    Check,
    FeedTrouble,
    Heard,
    Instance,
    Outcome,
    Severity,
    Sound,
    Standing,
    Unsure,
    Watermark,
)
from firedamp.storage.times import rfc3339

if TYPE_CHECKING:
    from types_boto3_cloudtrail import CloudTrailClient
    from types_boto3_cloudwatch import CloudWatchClient
    from types_boto3_events import EventBridgeClient
    from types_boto3_sqs import SQSClient

_POLLED: Final = timedelta(minutes=15)
_OLDEST_MESSAGE: Final = timedelta(minutes=15)
_UNDELIVERED: Final = timedelta(minutes=15)
_HEARTBEAT: Final = timedelta(minutes=5)
HEARTBEAT: Final = "the outgoing heartbeat"
_FEED: Final = "feed "
_OF_WATCH: Final = (HEARTBEAT, _FEED)
"""How the conditions begin that a watch looks at itself after a round: they do not say that the nets were cast."""
KEY: Final = "key "
"""How the conditions of single canaries begin: a new canary does not make the whole watch new."""
_FEEDS: Final = "the feeds"
_DIGEST: Final = timedelta(hours=2, minutes=30)
"""Digest files are written every hour (CloudTrail guide, "digest file structure"), late ones included."""
_LOOKED: Final = timedelta(minutes=30)
_QUIET_SOURCES: Final = frozenset({"kms.amazonaws.com", "rdsdata.amazonaws.com"})
"""What a trail may exclude without being narrowed (CloudTrail guide, "high-volume events")."""
_WHOLE_FIELDS: Final = frozenset({"eventCategory", "eventSource", "readOnly"})
"""Fields that may stand in an advanced selector without our taking it for a narrow one."""
_ALL_EVENTS: Final = "ENABLED_WITH_ALL_CLOUDTRAIL_MANAGEMENT_EVENTS"


def alarm(check: Blind, since: datetime, now: datetime) -> Alert:
    """Return what a person is told of a part of the watch that is blind."""
    return Alert(
        key=f"blind/{check.condition}/{rfc3339(now)}", kind=AlertKind.BLIND, severity=Severity.HIGH, at=now,
        facts=(("condition", check.condition), ("why", check.why), ("since", rfc3339(since))),
    )  # fmt: skip


# What we know ourselves.


@dataclass(frozen=True, slots=True)
class Reach:
    """How far feeds were read, what they brought of each region, and what they did not bring.

    doubted says since when parts of the watch are not sound, by condition.
    """

    marks: Sequence[Watermark]
    heard: Sequence[Heard] = ()
    troubles: Sequence[FeedTrouble] = ()
    doubted: Mapping[str, datetime] = field(default_factory=dict)

    def failing(self, url: str, polled: datetime | None) -> str:
        """Return why a feed was last not read to its end, after it was for the last time; nothing where none failed."""
        failed = [each for each in self.troubles if each.feed == url and each.outcome == Outcome.FAILED]
        last = max(failed, key=lambda each: each.last, default=None)
        return "" if last is None or (polled is not None and last.last < polled) else f": {last.why}"


def configured(urls: Sequence[str]) -> Check:
    """Say whether anything is read at all: without a feed, every other part may be sound and no use is seen."""
    if not urls:
        return Unsure(condition=_FEEDS, why="none is configured ([watch] feeds), so no record of a use is read")
    return Sound(condition=_FEEDS, told=f"{len(urls)} configured")


def feeds(urls: Sequence[str], reach: Reach, limit: timedelta, now: datetime) -> Iterator[Check]:
    """Judge each feed by its last good poll and by its newest record, of all and of each region.

    limit: how old that may be.
    """
    for url in urls:
        mark = next((each for each in reach.marks if each.feed == url), None)
        condition = f"{_FEED}{url}: read to its end"
        if mark is None or mark.polled is None:
            why, since = reach.failing(url, None), reach.doubted.get(condition, now)
            if why and now - since > _POLLED:
                yield Blind(condition=condition, why=f"never, so far{why}", since=since)
            else:
                yield Unsure(condition=condition, why=f"never, so far{why}")
            continue
        if abs(now - mark.polled) > _POLLED:
            ahead = ", by a clock that was ahead" if mark.polled > now else ""
            why = f"not since {rfc3339(mark.polled)}{ahead}{reach.failing(url, mark.polled)}"
            yield Blind(condition=condition, why=why, since=min(mark.polled, now))
        else:
            yield Sound(condition=condition, told=rfc3339(mark.polled))
        if urlsplit(url).scheme == "lookup":
            continue  # the history is asked for our keys only: that it has nothing new of them is as it should be
        condition = f"{_FEED}{url}: newest record"
        if mark.newest is None:
            yield Unsure(condition=condition, why="no record so far")
        elif now - mark.newest > limit:
            yield Blind(condition=condition, why=f"of {rfc3339(mark.newest)}", since=mark.newest)
        else:
            yield Sound(condition=condition, told=rfc3339(mark.newest))
            # Where nothing comes at all, one alarm says so.
            yield from heard.judge(url, [each for each in reach.heard if each.feed == url], limit, now)


def channels(names: Sequence[str], standings: Sequence[ChannelStanding], now: datetime) -> Iterator[Check]:
    """Judge each channel by its last delivery, and by what waits for it in vain."""
    by_name = {each.channel: each for each in standings}
    for name in names:
        condition = f"channel {name}"
        found = by_name.get(name, ChannelStanding(channel=name))
        if found.waiting is not None and now - found.waiting > _UNDELIVERED:
            yield Blind(condition=condition, why=found.error or "alerts wait", since=found.waiting)
        elif found.delivered is None:
            yield Unsure(condition=condition, why="nothing was delivered yet: firedamp alert test")
        else:
            yield Sound(condition=condition, told=f"delivered {rfc3339(found.delivered)}")


def service(instance: Instance | None, now: datetime) -> Check:
    """Judge the service by its heartbeat."""
    condition = "the service"
    if instance is None:
        return Unsure(condition=condition, why="nobody serves this database")
    if abs(now - instance.heartbeat) > _HEARTBEAT:
        why = f"{instance.owner} has no heartbeat since {rfc3339(instance.heartbeat)}"
        return Blind(condition=condition, why=why, since=min(instance.heartbeat, now))
    return Sound(condition=condition, told=instance.owner)


# What AWS says.


def trail(
    account: str, client: Callable[[str | None], CloudTrailClient], limit: timedelta, now: datetime
) -> Iterator[Check]:
    """Judge the trails of an account: at least one must log every management event of every region, and deliver.

    client makes one of CloudTrail in a region (None: the profile's): selectors are told in a trail's home only.
    """
    condition = f"trail of account {account}"
    described = _asked(lambda: client(None).describe_trails()["trailList"], condition)
    if isinstance(described, Unsure):
        yield described
        return
    judged = [_trail(each, client(each.get("HomeRegion")), limit, now) for each in described]
    whole = [each for each in judged if not each.missing and not each.unread]
    if whole:
        yield Sound(condition=condition, told=", ".join(each.name for each in whole))
        yield _digests(account, whole, now)
    elif not judged:
        yield Blind(condition=condition, why="there is no trail")
    elif any(each.unread for each in judged):
        yield Unsure(
            condition=condition, why="; ".join(f"{each.name}: {each.unread}" for each in judged if each.unread)
        )
    else:
        told = "; ".join(f"{each.name}: {', '.join(each.missing)}" for each in judged)
        yield Blind(condition=condition, why=told)


@dataclass(frozen=True, slots=True)
class _Trail:
    """A trail: what it lacks, why it could not be read, and its digests."""

    name: str
    missing: tuple[str, ...]
    unread: str = ""
    digests: bool = False
    digested: datetime | None = None
    started: datetime | None = None


def _trail(described: Any, client: CloudTrailClient, limit: timedelta, now: datetime) -> _Trail:
    name = described["Name"]
    arn = described.get("TrailARN", name)
    status: Any = _asked(lambda: client.get_trail_status(Name=arn), name)
    selectors: Any = _asked(lambda: client.get_event_selectors(TrailName=arn), name)
    for each in (status, selectors):
        if isinstance(each, Unsure):
            return _Trail(name, (), each.why)
    missing: list[str] = []
    if not status["IsLogging"]:
        missing.append("it does not log")
    if not described.get("IsMultiRegionTrail"):
        missing.append("it logs one region only")
    if status.get("LatestDeliveryError"):
        missing.append(f"its files are not delivered: {status['LatestDeliveryError']}")
    delivered = status.get("LatestDeliveryTime") or status.get("StartLoggingTime")
    if delivered is not None and now - delivered > limit:
        missing.append(f"no file was delivered since {rfc3339(delivered)}")
    narrowed = narrow(selectors)
    if narrowed:
        missing.append(narrowed)
    return _Trail(
        name, tuple(missing), digests=bool(described.get("LogFileValidationEnabled")),
        digested=status.get("LatestDigestDeliveryTime"), started=status.get("StartLoggingTime"),
    )  # fmt: skip


def narrow(selectors: Any) -> str:
    """Say how event selectors keep management events out, or nothing. Basic and advanced ones (CloudTrail API)."""
    kinds: set[str] = set()
    for each in selectors.get("EventSelectors") or []:
        excluded = set(each.get("ExcludeManagementEventSources") or []) - _QUIET_SOURCES
        if each.get("IncludeManagementEvents", True) and not excluded:
            kind = each.get("ReadWriteType", "All")
            kinds |= {"ReadOnly", "WriteOnly"} if kind == "All" else {kind}
    for each in selectors.get("AdvancedEventSelectors") or []:
        fields = {rule["Field"]: rule for rule in each["FieldSelectors"]}
        if fields.get("eventCategory", {}).get("Equals") != ["Management"]:
            continue
        source = fields.get("eventSource", {"Field": "eventSource"})
        excluded = set(source.get("NotEquals", [])) - _QUIET_SOURCES
        if excluded or set(source) - {"Field", "NotEquals"} or set(fields) - _WHOLE_FIELDS:
            continue
        read = fields.get("readOnly", {}).get("Equals", ["true", "false"])
        kinds |= {{"true": "ReadOnly", "false": "WriteOnly"}[value] for value in read}
    missing = {"ReadOnly": "reads", "WriteOnly": "writes"}
    lacking = [words for kind, words in missing.items() if kind not in kinds]
    return f"its selectors leave out management events: {' and '.join(lacking)}" if lacking else ""


def _digests(account: str, trails: Sequence[_Trail], now: datetime) -> Check:
    condition = f"digest files of account {account}"
    proving = [each for each in trails if each.digests]
    if not proving:
        return Unsure(condition=condition, why="no trail writes them: a deleted file would not be noticed")
    newest = max((each.digested or each.started or now for each in proving), default=now)
    if now - newest > _DIGEST:
        return Blind(condition=condition, why=f"an hour is missing: none since {rfc3339(newest)}", since=newest)
    return Sound(condition=condition, told=rfc3339(newest))


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueClients:
    """Clients of a queue's region."""

    sqs: SQSClient
    cloudwatch: CloudWatchClient
    events: EventBridgeClient


def queue(account: str, name: str, clients: QueueClients, now: datetime) -> Iterator[Check]:
    """Judge a queue by the age of its oldest message, and the rules that fill it by their state."""
    condition = f"queue {name}"

    def look() -> Any:
        url = clients.sqs.get_queue_url(QueueName=name, QueueOwnerAWSAccountId=account)["QueueUrl"]
        wanted: Any = ["ApproximateNumberOfMessages", "QueueArn"]
        return clients.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=wanted)["Attributes"]

    attributes = _asked(look, condition, gone="the queue is gone")
    if isinstance(attributes, Unsure | Blind):
        yield attributes
        return
    yield _depth(condition, name, int(attributes["ApproximateNumberOfMessages"]), clients.cloudwatch, now)
    rules = _asked(
        lambda: clients.events.list_rule_names_by_target(TargetArn=attributes["QueueArn"])["RuleNames"],
        f"rules of queue {name}",
    )
    if isinstance(rules, Unsure):
        yield rules
        return
    for rule in rules:
        described = _asked(partial(clients.events.describe_rule, Name=rule), f"rule {rule}")
        yield described if isinstance(described, Unsure) else _rule(rule, described)


def _depth(condition: str, name: str, depth: int, cloudwatch: CloudWatchClient, now: datetime) -> Check:
    if not depth:
        return Sound(condition=condition, told="empty")
    points = _asked(
        lambda: cloudwatch.get_metric_statistics(
            Namespace="AWS/SQS", MetricName="ApproximateAgeOfOldestMessage", Period=300, Statistics=["Maximum"],
            Dimensions=[{"Name": "QueueName", "Value": name}], StartTime=now - timedelta(minutes=15), EndTime=now,
        )["Datapoints"], condition,
    )  # fmt: skip
    if isinstance(points, Unsure):
        return Unsure(condition=condition, why=f"{depth} messages; how old cannot be asked: {points.why}")
    if not points:
        return Unsure(condition=condition, why=f"{depth} messages; CloudWatch does not say how old")
    oldest = timedelta(seconds=max(point["Maximum"] for point in points))
    if oldest > _OLDEST_MESSAGE:
        return Blind(condition=condition, why=f"{depth} messages, the oldest {oldest} old", since=now - oldest)
    return Sound(condition=condition, told=f"{depth} messages, the oldest {oldest} old")


def _rule(name: str, described: Any) -> Check:
    """Judge a rule: ENABLED alone drops read-only calls, GetCallerIdentity too (EventBridge guide, "CloudTrail")."""
    condition, state = f"rule {name}", described.get("State", "")
    try:
        kinds = json.loads(described.get("EventPattern") or "{}").get("detail-type", [])
    except ValueError:
        kinds = []
    if not state.startswith("ENABLED"):
        return Blind(condition=condition, why=f"its state is {state}")
    if any("via CloudTrail" in str(kind) for kind in kinds) and state != _ALL_EVENTS:
        return Blind(
            condition=condition, why=f"its state is {state}: read-only calls are dropped; {_ALL_EVENTS} is needed"
        )
    return Sound(condition=condition, told=state)


def _asked(ask: Callable[[], Any], condition: str, gone: str = "") -> Any:
    """Return AWS's answer, or Unsure with its reason; Blind where the thing itself is gone and that is told by gone."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        return ask()
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", "no code"))
        if gone and ("NonExistent" in code or "NotFound" in code or "QueueDoesNotExist" in code):
            return Blind(condition=condition, why=gone)
        return Unsure(condition=condition, why=code)
    except BotoCoreError as error:
        return Unsure(condition=condition, why=str(error))


# What it comes to.


@dataclass(frozen=True, slots=True)
class Proof:
    """Since when the watch is proven. since None: it is not; looked None: nobody ever looked; late: not of late."""

    looked: datetime | None
    since: datetime | None
    late: bool = False
    blind: tuple[Standing, ...] = ()
    unsure: tuple[Standing, ...] = ()

    @property
    def words(self) -> str:
        """One line for a person."""
        if self.looked is None:
            return "the watch is not proven: firedamp canary nets looks at every part of it"
        gaps = [f"{each.check.condition} ({each.check.why})" for each in self.blind if isinstance(each.check, Blind)]
        if gaps:
            oldest = min(each.since for each in self.blind)
            return f"the watch is blind since {rfc3339(oldest)}: {'; '.join(gaps)}"
        if self.late:
            return f"the watch is not proven: it was looked at {rfc3339(self.looked)}, too long ago"
        unsure = "; ".join(each.check.condition for each in self.unsure)
        if self.since is None:
            return f"the watch is not proven: {f'not known: {unsure}' if unsure else 'only single canaries are known'}"
        known = f"the watch is proven since {rfc3339(self.since)}"
        return f"{known}, except: {unsure} (not known)" if unsure else known


def proof(standings: Sequence[Standing], now: datetime) -> Proof:
    """Judge all parts together: proven since the last of them became sound, if they were looked at of late."""
    looked = max((each.at for each in standings if not each.check.condition.startswith(_OF_WATCH)), default=None)
    if looked is None:
        return Proof(None, None)
    blind = tuple(each for each in standings if isinstance(each.check, Blind))
    unsure = tuple(each for each in standings if isinstance(each.check, Unsure))
    sound = [
        each.since for each in standings if isinstance(each.check, Sound) and not each.check.condition.startswith(KEY)
    ]
    late = abs(now - looked) >= _LOOKED
    fed = all(each.check.condition != _FEEDS for each in unsure)
    proven = max(sound) if sound and fed and not blind and not late else None
    return Proof(looked, proven, late, blind, unsure)
