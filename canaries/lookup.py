"""The feed of an account's event history: LookupEvents, in every region at once, within its limits.

2 calls a second for each account and region, 50 records a page, 90 days back, one attribute a call, management events
only (CloudTrail API reference, LookupEvents). Up to 200 watched keys are looked up by id and by the name of their
owner; above that the history is swept as a whole, and only new keys made elsewhere are looked up on their own. Records
come up to 15 minutes late, so every window begins 20 minutes before the last one ended; of one key two hours before,
and of a canary once an hour a day before: a record that is later than AWS promises is an alarm all the same.
"""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import SplitResult

from firedamp.canaries.again import ours
from firedamp.canaries.awsfeeds import option
from firedamp.canaries.feeds import Page, World
from firedamp.canaries.trailfiles import Document
from firedamp.canaries.watchlist import tag
from firedamp.storage.errors import Failure, SourceFailure, aws_code
from firedamp.storage.records import Canary, Outcome, Skipped, WatchedKey, Watermark
from firedamp.storage.refusals import failures
from firedamp.storage.times import parse_time, rfc3339

if TYPE_CHECKING:
    from types_boto3_cloudtrail import CloudTrailClient

OVERLAP: Final = timedelta(minutes=20)
KEY_OVERLAP: Final = timedelta(hours=2)
"""Looking up one key costs the same for hours as for minutes, so later records are caught too."""
LATE: Final = timedelta(days=1)
_LATE_EVERY: Final = timedelta(hours=1)
HISTORY: Final = timedelta(days=90)
SWEEP_BACK: Final = timedelta(hours=2)
"""How far back a first sweep of everything goes: at 100 records a second, more would never end."""
MOST_KEYS: Final = 200
_INTERVAL: Final = 0.5
_SLOW: Final = timedelta(minutes=5)
_HOME: Final = "us-east-1"
_PAGE: Final = 1000
_WAITING: Final = 4
"""Pages of each region that may wait to be kept: what is read ahead is bounded."""


@dataclass(slots=True)
class _Reach:
    """How far a region is looked up, and the tags of the keys that were among those looked for."""

    until: datetime
    keys: frozenset[str]
    late: datetime
    """When it was last looked for records that come late."""


@dataclass(frozen=True, slots=True)
class _Found:
    region: str
    documents: tuple[Document, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    ended: bool = False


class LookupFeed:
    """`lookup://R1,R2?profile=P`, or `lookup://` for every region that is enabled."""

    def __init__(self, url: SplitResult, world: World) -> None:
        # Without regions there is nothing behind the slashes, and `geturl` would drop them.
        self.name = f"lookup://{url.netloc}{'?' if url.query else ''}{url.query}"
        self._regions = tuple(each for each in url.netloc.split(",") if each)
        self._profile = option(url, "profile")
        self._world = world

    def pages(self, since: Watermark | None) -> Iterator[Page]:
        """Yield a page for every thousand records, and one that moves the position for each region that ended well."""
        now = self._world.clock()
        keys = self._world.watched()
        reached = _reached(since)
        found: queue.Queue[_Found] = queue.Queue(maxsize=_WAITING)
        stop = threading.Event()
        regions = self._regions or self._enabled()
        # Clients are made here: botocore's sessions are not safe to share while one is being made.
        tasks = {region: _Task(region, keys, reached.get(region), now, stop) for region in regions}
        threads = [
            threading.Thread(target=_look, args=(client, task, self._world.sleep, found), daemon=True)
            for task in tasks.values()
            for client in (self._world.clients("cloudtrail", task.region, self._profile),)
        ]
        for thread in threads:
            thread.start()
        try:
            running = len(threads)
            while running:
                each = found.get()
                position = None
                if each.ended:
                    running -= 1
                    if not any(skipped.outcome is Outcome.FAILED for skipped in each.skipped):
                        reached[each.region] = tasks[each.region].reached()
                        position = _position(reached)
                yield Page(documents=each.documents, skipped=each.skipped, position=position)
        finally:
            stop.set()
            while any(thread.is_alive() for thread in threads):
                _drain(found)

    def acknowledge(self, page: Page) -> None:
        """Nothing: a history keeps its records for 90 days."""

    def _enabled(self) -> tuple[str, ...]:
        """Return the regions that this account has enabled."""
        with failures("the enabled regions cannot be listed (name them: lookup://R1,R2)", SourceFailure):
            client = self._world.clients("ec2", _HOME, self._profile)
            return tuple(sorted(each["RegionName"] for each in client.describe_regions()["Regions"]))


@dataclass(frozen=True, slots=True)
class _Task:
    """One region's part of a poll."""

    region: str
    keys: Sequence[WatchedKey]
    reach: _Reach | None
    now: datetime
    stop: threading.Event

    def _until(self, reach: _Reach) -> datetime:
        """Return how far the region is looked up: not beyond now, where a clock that was ahead has put it."""
        return min(reach.until, self.now)

    def _searching(self) -> bool:
        """Whether it is time to look for records that come late."""
        return self.reach is None or abs(self.now - self.reach.late) >= _LATE_EVERY

    def reached(self) -> _Reach:
        """Return how far the region is looked up when this task has ended well."""
        late = self.now if self.reach is None or self._searching() else self.reach.late
        return _Reach(self.now, frozenset(tag(key) for key in self.keys), late)

    def requests(self) -> Iterator[dict[str, Any]]:
        """Yield the look-ups: for each key its id, its owner, and in the region of IAM both as resources."""
        if len(self.keys) > MOST_KEYS:
            start = self.now - SWEEP_BACK if self.reach is None else self._until(self.reach) - OVERLAP
            yield {"StartTime": start, "EndTime": self.now}
            yield from self._by_key(() if self.left_out() else self._new())
        else:
            yield from self._by_key(self.keys)

    def left_out(self) -> str:
        """Say what no request looks for, or nothing."""
        new = len(self._new())
        if len(self.keys) <= MOST_KEYS or new <= MOST_KEYS:
            return ""
        return f"of {new} new keys: what came before this sweep (firedamp usage KEYID looks it up)"

    def _new(self) -> list[WatchedKey]:
        """Return the keys that were not looked for before and that may be older than our watching."""
        known = frozenset[str]() if self.reach is None else self.reach.keys
        return [key for key in self.keys if tag(key) not in known and not ours(key)]

    def _by_key(self, keys: Iterable[WatchedKey]) -> Iterator[dict[str, Any]]:
        asked = dict[tuple[str, str], None]()
        for key in keys:
            start = self.now - HISTORY
            if self.reach is not None and tag(key) in self.reach.keys:
                # A real key may be used a thousand times an hour: it would be read all day.
                late = isinstance(key, Canary) and self._searching()
                start = self._until(self.reach) - (LATE if late else KEY_OVERLAP)
            names = [("AccessKeyId", key.key_id)]
            if key.owner.user_name:
                names.append(("Username", key.owner.user_name))
            if self.region == _HOME:
                names += [("ResourceName", value) for value in (key.key_id, key.owner.user_name) if value]
            for name, value in names:
                if (name, value) not in asked:
                    asked[name, value] = None
                    attribute = {"AttributeKey": name, "AttributeValue": value}
                    yield {"LookupAttributes": [attribute], "StartTime": start, "EndTime": self.now}


@dataclass(slots=True)
class _Rate:
    """At most two calls a second."""

    sleep: Callable[[float], None]
    calls: int = 0
    took: timedelta = field(default_factory=timedelta)

    def wait(self) -> None:
        if self.calls:
            self.sleep(_INTERVAL)
        self.calls += 1
        self.took += timedelta(seconds=_INTERVAL)


def _look(client: CloudTrailClient, task: _Task, sleep: Callable[[float], None], found: queue.Queue[_Found]) -> None:
    """Look up one region; whatever happens, it ends with one `ended`."""
    skipped: tuple[Skipped, ...] = ()
    what = f"lookup://{task.region}"
    try:
        rate = _Rate(sleep)
        batch: list[Document] = []
        with failures(f"the history of {task.region} cannot be looked up", SourceFailure):
            for document in (each for request in task.requests() for each in _answers(client, request, rate, task)):
                batch.append(document)
                if len(batch) >= _PAGE:
                    found.put(_Found(task.region, tuple(batch)))
                    batch = []
        found.put(_Found(task.region, tuple(batch)))
        if task.left_out():
            skipped = (Skipped(outcome=Outcome.LEFT_OUT, what=what, why=task.left_out()),)
        if rate.took > _SLOW:
            why = f"{rate.calls} calls take over 5 minutes: this feed cannot alarm in minutes, use a trail"
            skipped = (*skipped, Skipped(outcome=Outcome.LEFT_OUT, what=what, why=why))
    except Failure as failure:
        skipped = (Skipped(outcome=Outcome.FAILED, what=what, why=str(failure)),)
    except Exception as error:  # noqa: BLE001 - a thread that dies in silence would leave the poll waiting for ever
        skipped = (Skipped(outcome=Outcome.FAILED, what=what, why=f"{type(error).__name__}: {error}"),)
    found.put(_Found(task.region, skipped=skipped, ended=True))


def _answers(client: CloudTrailClient, request: dict[str, Any], rate: _Rate, task: _Task) -> Iterator[Document]:
    from botocore.exceptions import ClientError

    last: datetime | None = None
    while not task.stop.is_set():
        rate.wait()
        try:
            answer = client.lookup_events(**request)
        except ClientError as error:
            # A token ends some time, and records come newest first: those below the last one are still to be read.
            if aws_code(error) != "InvalidNextTokenException" or last is None or last >= request["EndTime"]:
                raise
            request = {name: value for name, value in request.items() if name != "NextToken"} | {"EndTime": last}
            continue
        for event in answer.get("Events", []):
            last = event.get("EventTime", last)
            where = f"lookup://{task.region}/{event.get('EventId', '')}"
            yield Document(where, event.get("CloudTrailEvent", "").encode("utf-8", "replace"))
        token = answer.get("NextToken")
        if not token:
            return
        request = {**request, "NextToken": token}


def _drain(found: queue.Queue[_Found]) -> None:
    try:
        found.get(timeout=0.05)
    except queue.Empty:
        return


def _reached(since: Watermark | None) -> dict[str, _Reach]:
    reached: dict[str, _Reach] = {}
    told = json.loads(since.position) if since is not None and since.position else {}
    for region, (until, keys, *late) in told.items():  # an older position has no late
        time = parse_time(until)
        if time is not None:
            reached[region] = _Reach(time, frozenset(keys), (parse_time(late[0]) if late else None) or time - LATE)
    return reached


def _position(reached: dict[str, _Reach]) -> str:
    return json.dumps(
        {region: [rfc3339(each.until), sorted(each.keys), rfc3339(each.late)] for region, each in reached.items()}
    )
