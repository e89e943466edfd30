"""The loopback AWS's CloudTrail: records of authenticated calls, and the ways they reach a reader.

Sources: CloudTrail guide, "record contents", "log file examples", "digest file structure"; EventBridge guide, "AWS
service events delivered via AWS CloudTrail". Records are kept for LookupEvents, sent to EventBridge at once, and wait
for `flush` to become files. Whether a trail wants a record is decided when the call is made, before it takes effect:
so StopLogging stands in the log that it stops.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import random
import secrets
import string
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from firedamp.service import loopback_moto as moto
from firedamp.service.loopback_identity import Identity
from firedamp.service.loopback_moto import Record, new_id
from firedamp.service.loopback_record import record_of, zulu
from firedamp.service.loopback_wire import Call, Refusal, Reply

_ALWAYS_SENT: Final = frozenset({"AssumeRole"})
"""Read-only calls that EventBridge passes to every enabled rule."""
_EVERY_STATE: Final = frozenset({"ENABLED", "ENABLED_WITH_ALL_CLOUDTRAIL_MANAGEMENT_EVENTS"})
_READ_STATE: Final = frozenset({"ENABLED_WITH_ALL_CLOUDTRAIL_MANAGEMENT_EVENTS"})
_ATTRIBUTES: Final = frozenset(
    "EventId EventName ReadOnly Username ResourceType ResourceName EventSource AccessKeyId".split()
)
_ALNUM: Final = string.ascii_letters + string.digits


@dataclass(frozen=True, slots=True)
class Entry:
    """A record and the fields by which it is chosen. text is the record as JSON."""

    text: str = field(repr=False)
    time: datetime
    account: str
    region: str
    management: bool
    read_only: bool
    facts: Mapping[str, str]
    """What LookupEvents and selectors ask for, by CloudTrail's names."""


@dataclass(frozen=True, slots=True)
class Listener:
    """A logging trail as it stood when a call came in."""

    arn: str
    account: str
    home: str
    bucket: str
    prefix: str
    topic: str | None
    multi_region: bool
    organization: tuple[str, frozenset[str]] | None
    selectors: tuple[Record, ...]
    advanced: tuple[Record, ...]
    digests: bool

    def wants(self, entry: Entry) -> bool:
        """Whether the trail logs this record."""
        members = self.organization[1] if self.organization else frozenset({self.account})
        if entry.account not in members or not (self.multi_region or entry.region == self.home):
            return False
        if self.selectors:
            return any(_basic(selector, entry) for selector in self.selectors)
        if self.advanced:
            return any(_advanced(selector, entry) for selector in self.advanced)
        return entry.management

    def folder(self, account: str, what: str, region: str, at: datetime) -> str:
        """Return where the trail's files of an account, a region and a day stand in its bucket."""
        prefix = f"{self.prefix}/" if self.prefix else ""
        organization = f"{self.organization[0]}/" if self.organization else ""
        return f"{prefix}AWSLogs/{organization}{account}/{what}/{region}/{at:%Y/%m/%d}"


@dataclass(slots=True)
class _Delivery:
    """What GetTrailStatus tells of a trail's deliveries, and the files that the next digest will name."""

    delivered: datetime | None = None
    notified: datetime | None = None
    error: str = ""
    digested: datetime | None = None
    files: dict[tuple[str, str], list[Record]] = field(default_factory=lambda: defaultdict(list))


class CloudTrail:
    """Every record of the loopback AWS. clock gives event times; lookup_rate is LookupEvents a second and region."""

    def __init__(
        self, clock: Callable[[], datetime], wall: Callable[[], datetime], lookup_rate: int | None = None
    ) -> None:
        self.entries: list[Entry] = []
        self._clock, self._wall, self._lookup_rate = clock, wall, lookup_rate
        self._lock = threading.RLock()
        self._waiting: list[tuple[Listener, Entry]] = []
        self._deliveries: dict[str, _Delivery] = defaultdict(_Delivery)
        self._lookups: dict[tuple[str, str], deque[datetime]] = defaultdict(deque)

    def listeners(self) -> tuple[Listener, ...]:
        """Return the trails that log now."""
        return tuple(
            Listener(
                arn=trail.arn,
                account=trail.account_id,
                home=trail.region_name,
                bucket=trail.bucket_name,
                prefix=trail.s3_key_prefix or "",
                topic=trail.topic_arn,
                multi_region=bool(trail.is_multi_region),
                organization=moto.organization(trail.account_id) if trail.is_org_trail else None,
                selectors=tuple(trail.event_selectors),
                advanced=tuple(trail.advanced_event_selectors),
                digests=bool(trail.log_validation),
            )
            for trail in moto.trails()
            if trail.status.is_logging
        )

    def record(
        self, call: Call, identity: Identity, reply: Reply, refused: tuple[str, str] | None, before: Sequence[Listener]
    ) -> None:
        """Record an authenticated call. refused is (code, message) of an error that was decided before moto."""
        listeners = list(before)
        if call.service == "cloudtrail":  # StartLogging stands in the log that it starts
            known = {listener.arn for listener in before}
            listeners += [listener for listener in self.listeners() if listener.arn not in known]
        record = record_of(call, identity, reply, refused, self._clock())
        owner = (
            call.text("RoleArn").split(":")[4] if call.operation == "AssumeRole" and "errorCode" not in record else ""
        )
        if owner not in ("", identity.account):  # the role's account gets a copy that names the caller's account only
            record["sharedEventID"] = new_id()
            caller = {"type": "AWSAccount", "principalId": identity.principal_id, "accountId": identity.account}
            copy = {"eventID": new_id(), "recipientAccountId": owner, "userIdentity": caller}
            self.add(record | copy, listeners)
        self.add(record, listeners)

    def add(self, record: Record, listeners: Sequence[Listener] | None = None) -> None:
        """Put a finished record in: for tests, any that AWS could write (a sign-in, a service's own call)."""
        entry = _entry(record)
        wanted = [each for each in (self.listeners() if listeners is None else listeners) if each.wants(entry)]
        with self._lock:
            self.entries.append(entry)
            self._waiting += [(listener, entry) for listener in wanted]
        if wanted:
            _send_to_eventbridge(entry)

    # Files.

    def flush(self, *, duplicate: bool = False, shuffle: random.Random | None = None) -> tuple[str, ...]:
        """Write what waits as log files, one a trail, account and region; return the keys of those written.

        duplicate writes each file twice under two names, shuffle puts the records in any order: both happen in AWS.
        """
        with self._lock:
            waiting, self._waiting = self._waiting, []
        groups: dict[tuple[str, str, str], list[tuple[Listener, Entry]]] = defaultdict(list)
        for listener, entry in waiting:
            groups[listener.arn, entry.account, entry.region].append((listener, entry))
        keys: list[str] = []
        for members in groups.values():
            if shuffle is not None:
                shuffle.shuffle(members)
            for _ in range(2 if duplicate else 1):
                keys += self._write(members[-1][0], [entry for _, entry in members])
        return tuple(keys)

    def _write(self, trail: Listener, entries: Sequence[Entry]) -> list[str]:
        at, account, region = self._clock(), entries[0].account, entries[0].region
        noise = "".join(secrets.choice(_ALNUM) for _ in range(16))
        name = f"{account}_CloudTrail_{region}_{at:%Y%m%dT%H%MZ}_{noise}.json.gz"
        key = f"{trail.folder(account, 'CloudTrail', region, at)}/{name}"
        content = ('{"Records":[' + ",".join(entry.text for entry in entries) + "]}").encode()
        delivery = self._deliveries[trail.arn]
        if not moto.put_log(trail.bucket, key, gzip.compress(content)):
            delivery.error = "NoSuchBucket"
            return []
        delivery.delivered, delivery.error = at, ""
        delivery.files[account, region].append(
            {
                "s3Bucket": trail.bucket,
                "s3Object": key,
                "hashValue": hashlib.sha256(content).hexdigest(),
                "hashAlgorithm": "SHA-256",
                "newestEventTime": zulu(max(entry.time for entry in entries)),
                "oldestEventTime": zulu(min(entry.time for entry in entries)),
            }
        )
        if trail.topic:
            moto.publish(trail.topic, json.dumps({"s3Bucket": trail.bucket, "s3ObjectKey": [key]}))
            delivery.notified = at
        return [key]

    def digest(self) -> tuple[str, ...]:
        """Write the digest files of the hour, for trails with log file validation; return their keys. Not signed."""
        at = self._clock()
        keys: list[str] = []
        for trail in self.listeners():
            delivery = self._deliveries[trail.arn]
            places = {(trail.account, trail.home), *delivery.files} if trail.digests else ()
            for account, region in sorted(places):
                name = trail.arn.rsplit("/", 1)[-1]
                file = f"{account}_CloudTrail-Digest_{region}_{name}_{trail.home}_{at:%Y%m%dT%H%M%SZ}.json.gz"
                key = f"{trail.folder(account, 'CloudTrail-Digest', region, at)}/{file}"
                body = {
                    "awsAccountId": account,
                    "digestStartTime": zulu(delivery.digested or at - timedelta(hours=1)),
                    "digestEndTime": zulu(at),
                    "digestS3Bucket": trail.bucket,
                    "digestS3Object": key,
                    "digestSignatureAlgorithm": "SHA256withRSA",
                    "previousDigestS3Object": None,
                    "logFiles": delivery.files.pop((account, region), []),
                }
                if moto.put_log(trail.bucket, key, gzip.compress(json.dumps(body).encode())):
                    keys.append(key)
            if trail.digests:
                delivery.digested = at
        return tuple(keys)

    # What CloudTrail itself is asked.

    def answer(self, call: Call, identity: Identity) -> dict[str, Any] | None:
        """Return the fields of an answer, or None for a call that moto answers."""
        match call.service, call.operation:
            case "cloudtrail", "LookupEvents":
                return self._lookup(call, identity)
            case "cloudtrail", "GetTrailStatus":
                return self._status(call, identity)
            case "cloudtrail", "GetEventSelectors":
                return _selectors(call, identity)
            case _:
                return None

    def _lookup(self, call: Call, identity: Identity) -> dict[str, Any]:
        asked = call.parameters.get("LookupAttributes") or []
        size = int(call.parameters.get("MaxResults", 50))
        if len(asked) > 1 or any(item["AttributeKey"] not in _ATTRIBUTES for item in asked):
            message = "You can specify only one valid lookup attribute"
            raise Refusal("InvalidLookupAttributesException", message, 400)
        if not 1 <= size <= 50:
            raise Refusal("InvalidMaxResultsException", "A value between 1 and 50 is required", 400)
        self._throttle(identity.account, call.region)
        now = self._clock()
        first = max(float(call.parameters.get("StartTime", 0)), (now - timedelta(days=90)).timestamp())
        last = float(call.parameters.get("EndTime", now.timestamp() + 1))
        with self._lock:
            entries = sorted(self.entries, key=lambda entry: entry.time)
        found = [
            entry
            for entry in reversed(entries)
            if entry.management
            and (entry.account, entry.region) == (identity.account, call.region)
            and first <= entry.time.timestamp() <= last
            and all(entry.facts.get(item["AttributeKey"]) == item["AttributeValue"] for item in asked)
        ]
        token = call.text("NextToken")
        start = int(base64.b64decode(token)) if token else 0
        page: dict[str, Any] = {"Events": [_looked_up(entry) for entry in found[start : start + size]]}
        if start + size < len(found):
            page["NextToken"] = base64.b64encode(str(start + size).encode()).decode()
        return page

    def _throttle(self, account: str, region: str) -> None:
        if self._lookup_rate is None:
            return
        now = self._wall()
        with self._lock:
            recent = self._lookups[account, region]
            while recent and now - recent[0] > timedelta(seconds=1):
                recent.popleft()
            if len(recent) >= self._lookup_rate:
                raise Refusal("ThrottlingException", "Rate exceeded", 400)
            recent.append(now)

    def _status(self, call: Call, identity: Identity) -> dict[str, Any] | None:
        trail = _find_trail(call.text("Name"), identity.account)
        if trail is None:
            return None
        status, delivery = trail.status, self._deliveries[trail.arn]
        times = {
            "LatestDeliveryTime": delivery.delivered,
            "LatestNotificationTime": delivery.notified,
            "LatestDigestDeliveryTime": delivery.digested,
            "StartLoggingTime": status.started and status.started.replace(tzinfo=UTC),
            "StopLoggingTime": status.stopped and status.stopped.replace(tzinfo=UTC),
        }
        answer: dict[str, Any] = {"IsLogging": status.is_logging}
        answer |= {name: int(time.timestamp()) for name, time in times.items() if time is not None}
        return answer | ({"LatestDeliveryError": delivery.error} if delivery.error else {})


def _find_trail(name: str, account: str) -> moto.Trail | None:
    mine = [trail for trail in moto.trails() if trail.account_id == account]
    return next((trail for trail in mine if name in (trail.trail_name, trail.arn)), None)


def _selectors(call: Call, identity: Identity) -> dict[str, Any] | None:
    """Return the selectors that a new trail has; moto knows only those that were set."""
    trail = _find_trail(call.text("TrailName"), identity.account)
    if trail is None or trail.event_selectors or trail.advanced_event_selectors:
        return None
    every = {
        "ReadWriteType": "All",
        "IncludeManagementEvents": True,
        "DataResources": [],
        "ExcludeManagementEventSources": [],
    }
    return {"TrailARN": trail.arn, "EventSelectors": [every]}


def _looked_up(entry: Entry) -> dict[str, Any]:
    shown = {name: value for name, value in entry.facts.items() if name in _ATTRIBUTES}
    return {**shown, "EventTime": entry.time.timestamp(), "Resources": [], "CloudTrailEvent": entry.text}


# Choosing.


def _basic(selector: Record, entry: Entry) -> bool:
    kind = selector.get("ReadWriteType", "All")
    if kind != "All" and (kind == "ReadOnly") != entry.read_only:
        return False
    if not entry.management:
        return bool(selector.get("DataResources"))
    excluded = selector.get("ExcludeManagementEventSources", [])
    return bool(selector.get("IncludeManagementEvents", True)) and entry.facts["EventSource"] not in excluded


def _advanced(selector: Record, entry: Entry) -> bool:
    facts = {
        "eventCategory": "Management" if entry.management else "Data",
        "readOnly": entry.facts["ReadOnly"],
        "eventSource": entry.facts["EventSource"],
        "eventName": entry.facts["EventName"],
        "resources.type": entry.facts.get("resources.type", ""),
        "userIdentity.arn": entry.facts.get("arn", ""),
    }
    return all(_field(rule, facts.get(rule["Field"], "")) for rule in selector["FieldSelectors"])


def _field(rule: Record, value: str) -> bool:
    return all(
        (
            not rule.get("Equals") or value in rule["Equals"],
            not rule.get("NotEquals") or value not in rule["NotEquals"],
            not rule.get("StartsWith") or value.startswith(tuple(rule["StartsWith"])),
            not rule.get("NotStartsWith") or not value.startswith(tuple(rule["NotStartsWith"])),
            not rule.get("EndsWith") or value.endswith(tuple(rule["EndsWith"])),
            not rule.get("NotEndsWith") or not value.endswith(tuple(rule["NotEndsWith"])),
        )
    )


def _send_to_eventbridge(entry: Entry) -> None:
    source = "aws." + entry.facts["EventSource"].partition(".")[0]
    event = {
        "version": "0",
        "id": new_id(),
        "detail-type": "AWS API Call via CloudTrail",
        "source": source,
        "account": entry.account,
        "time": zulu(entry.time),
        "region": entry.region,
        "resources": [],
        "detail": json.loads(entry.text),
    }
    hidden = entry.read_only and entry.facts["EventName"] not in _ALWAYS_SENT
    moto.send_to_rules(entry.account, entry.region, event, _READ_STATE if hidden else _EVERY_STATE)


def _entry(record: Record) -> Entry:
    identity = record.get("userIdentity") or {}
    read_only = bool(record.get("readOnly"))
    facts = {
        "EventId": record["eventID"],
        "EventName": record.get("eventName", ""),
        "ReadOnly": str(read_only).lower(),
        "Username": identity.get("userName") or str(identity.get("arn", "")).rsplit("/", 1)[-1],
        "EventSource": record.get("eventSource", ""),
        "AccessKeyId": identity.get("accessKeyId", ""),
        "arn": identity.get("arn", ""),
        "resources.type": next((item.get("type", "") for item in record.get("resources") or []), ""),
    }
    return Entry(
        text=json.dumps(record, separators=(",", ":"), default=str),
        time=datetime.fromisoformat(record["eventTime"]),
        account=record.get("recipientAccountId", ""),
        region=record.get("awsRegion", "us-east-1"),
        management=record.get("eventCategory", "Management") == "Management",
        read_only=read_only,
        facts=facts,
    )
