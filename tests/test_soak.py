"""A week of simulated time with everything going wrong at random: every use of a canary is alerted exactly once.

The real watch, the real database on disk and the real outbox run against a feed that fails, repeats, delays and
shuffles, channels that are down for hours, a database that is locked, a clock that jumps, and a process that dies: in
the feed, inside the transaction, between commit and acknowledgement, and on either side of a delivery.
"""

from __future__ import annotations

import json
import random
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from tests.builders import make_key_id
from tests.trails import START, Record, record, role, trail, user

from firedamp.canaries import watch
from firedamp.canaries.feeds import Page
from firedamp.canaries.trailfiles import Document
from firedamp.service import alerts
from firedamp.service.alerts import Channel
from firedamp.storage import nonce
from firedamp.storage.errors import Failure, SourceFailure
from firedamp.storage.records import Alert, AlertKind, Canary, OwnCall, Severity, Watermark
from firedamp.storage.store import Store

WEEK = timedelta(days=7)
LATEST = timedelta(hours=5)
"""How late a record comes at most, and how long its feeds and channels are down at most."""
CHANNELS = ("webhook", "mail", "chat")


class Killed(BaseException):
    """As kill -9: nothing catches it but the one who starts the process again."""


@dataclass
class World:
    """What outlives the process: the time, the feeds' files, what the channels received, and who is down until when."""

    rng: random.Random
    database: Path
    rate: float
    time: datetime = START
    jump: timedelta = timedelta(0)
    calm: bool = False
    kills: Counter[str] = field(default_factory=Counter)
    down: dict[str, datetime] = field(default_factory=dict)
    received: dict[tuple[str, str], list[bool]] = field(default_factory=lambda: defaultdict(list))
    """Whether each copy was marked as a possible repeat, by channel and alert."""
    unsure: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Deliveries after which the process died before it could write down that they were made."""
    alerts: dict[str, Alert] = field(default_factory=dict)
    blockers: list[sqlite3.Connection] = field(default_factory=list)
    """Other processes that hold the lock."""

    def unlock(self) -> None:
        """Let the others go: Python may keep what a failure went through, and the feed with it, for a while."""
        while self.blockers:
            self.blockers.pop().close()

    def now(self) -> datetime:
        """Return what the clock shows: the process may die whenever it looks at it."""
        self.die("at the clock", self.rate / 4)
        return self.time + self.jump

    def chance(self, rate: float) -> bool:
        return not self.calm and self.rng.random() < rate

    def die(self, where: str, rate: float) -> None:
        if self.chance(rate):
            self.kills[where] += 1
            raise Killed(where)

    def locate(self, address: str) -> str:
        """Return where an address is. It is asked inside the transaction that keeps a sighting."""
        self.die("in the transaction", self.rate)
        return "Atlantis"

    def is_down(self, what: str) -> bool:
        if self.chance(self.rate / 4):
            self.down[what] = self.time + self.rng.random() * LATEST
        return not self.calm and self.down.get(what, START) > self.time

    def channel(self, name: str) -> Channel:
        def send(alert: Alert, repeat: bool) -> None:
            self.die("before a delivery", self.rate)
            if self.is_down(name):
                raise Failure(f"{name} is down")
            self.alerts[alert.key] = alert
            self.received[name, alert.key].append(repeat)
            if self.chance(self.rate):
                self.unsure[name, alert.key] += 1
                self.kills["after a delivery"] += 1
                raise Killed("after a delivery")

        return Channel(name, Severity.INFO, send)


@dataclass
class Queue:
    """A feed of which each file stays until it is acknowledged, and may come twice. It outlives the process."""

    name: str
    world: World
    positioned: bool
    waiting: list[tuple[datetime, str, bytes]] = field(default_factory=list)
    history: list[tuple[datetime, str, bytes]] = field(default_factory=list)

    def add(self, due: datetime, where: str, data: bytes) -> None:
        (self.history if self.positioned else self.waiting).append((due, where, data))

    def pages(self, since: Watermark | None) -> Iterator[Page]:
        world = self.world
        read = set(json.loads(since.position)) if since is not None and since.position else set()
        todo = [each for each in [*self.waiting, *self.history] if each[0] <= world.time and each[1] not in read]
        world.rng.shuffle(todo)
        while todo or world.chance(0.05):
            world.die("in the feed", world.rate)
            if world.is_down(self.name):
                raise SourceFailure(f"{self.name} cannot be reached")
            several, todo = todo[:3], todo[3:]
            read |= {where for _, where, _ in several}
            page = Page(
                documents=[Document(where, data) for _, where, data in several],
                receipt=[where for _, where, _ in several],
                position=json.dumps(sorted(read)) if self.positioned else None,
            )
            if world.chance(world.rate):
                # Another process holds the lock for longer than anybody waits, and lets go right behind.
                blocker = sqlite3.connect(world.database)
                blocker.execute("BEGIN IMMEDIATE")
                world.blockers.append(blocker)
                try:
                    yield page
                finally:
                    world.unlock()
            else:
                yield page

    def acknowledge(self, page: Page) -> None:
        self.world.die("before the acknowledgement", self.world.rate)
        if self.world.chance(self.world.rate):
            raise SourceFailure(f"{self.name} does not take the acknowledgement")
        self.waiting = [each for each in self.waiting if each[1] not in page.receipt]
        self.world.die("after the acknowledgement", self.world.rate)


@dataclass
class Burst:
    """What an intruder does with one key within a day: the oracle's whole knowledge of incidents."""

    key_id: str
    events: list[Record]


def bursts(rng: random.Random, keys: list[str]) -> list[Burst]:
    """Return bursts of use. Each lasts less than 19 hours; two of the same key stand 30 hours or more apart.

    So whatever comes late, twice or in whatever order, each burst is one incident.
    """
    made: list[Burst] = []
    for key_id in keys:
        begin = rng.uniform(0, 40 * 60)
        while begin < WEEK.total_seconds() / 60 - 20 * 60:
            length = rng.uniform(0, 18 * 60)
            times = sorted(rng.uniform(begin, begin + length) for _ in range(rng.randint(1, 8)))
            events = []
            for minutes in times:
                denied = {"errorCode": "AccessDenied", "errorMessage": "no"} if rng.random() < 0.5 else {}
                source, name = rng.choice(
                    [("sts", "GetCallerIdentity"), ("s3", "ListBuckets"), ("iam", "ListUsers"), ("iam", "CreateUser")]
                )
                address = f"203.0.113.{rng.randint(1, 3)}"
                events.append(
                    record(user(key_id, f"svc-{key_id[-6:].lower()}"), minutes, name,
                           eventSource=f"{source}.amazonaws.com", sourceIPAddress=address, **denied)
                )  # fmt: skip
            made.append(Burst(key_id, events))
            begin = times[-1] + rng.uniform(30 * 60, 60 * 60)
    return made


def publish(world: World, feeds: list[Queue], events: list[Record]) -> None:
    """Give each record to one feed or to both, some of them twice, late and among others that nobody watches."""
    rng = world.rng
    for number, event in enumerate(events):
        happened = datetime.fromisoformat(event["eventTime"])
        for feed in rng.sample(feeds, rng.randint(1, len(feeds))):
            for copy in range(rng.choice([1, 1, 1, 2])):
                others = [record(role(), 0, "ListBuckets") for _ in range(rng.randint(0, 3))]
                together = [event, *others, *([event] if rng.random() < 0.1 else [])]
                rng.shuffle(together)
                due = happened + rng.choice([timedelta(minutes=5), rng.random() * LATEST])
                feed.add(due, f"{number}-{copy}.json.gz", trail(*together))


def open_store(world: World) -> Store:
    store = Store(world.database)
    store._db.execute("PRAGMA busy_timeout = 1")  # nobody waits 30 seconds for a lock in a simulated week
    return store


def one_process(world: World, feeds: list[Queue], until: datetime, step: timedelta) -> None:
    """Poll and deliver until the time is up or the process dies."""
    store = open_store(world)
    rules = watch.Rules(locate=world.locate)
    channels = [world.channel(name) for name in CHANNELS]
    try:
        while world.time < until:
            world.time += step
            if world.chance(world.rate / 10):
                world.jump = world.rng.choice([timedelta(0), timedelta(hours=-3), timedelta(days=30)])
            try:
                for feed in feeds:
                    watch.poll(feed, store, world.now(), rules, world.now)
                alerts.deliver(store, channels, world.now)
            except Failure:
                world.unlock()
                continue  # the command ends with 2, and runs again in a minute
    finally:
        world.unlock()
        store.close()


def live(world: World, feeds: list[Queue], until: datetime, step: timedelta) -> None:
    """Start the process again whenever it died."""
    while world.time < until:
        try:
            one_process(world, feeds, until, step)
        except Killed:
            continue


def own_call(store: Store, rng: random.Random, key_id: str) -> Record:
    """Write down a call of ours, and return its record: no use of the key by anybody else."""
    made = nonce.make(rng.randbytes(nonce.BYTES))
    minutes = rng.uniform(0, WEEK.total_seconds() / 60 - 1)
    store.add_own_call(
        OwnCall(nonce=made, key_id=key_id, principal=key_id, call="sts:GetCallerIdentity", host="us-east-1", at=START,
                purpose="drill")
    )  # fmt: skip
    return record(user(key_id, f"svc-{key_id[-6:].lower()}"), minutes, userAgent=f"Boto3/1.35 {nonce.mark(made)}")


def simulate(folder: Path, rng: random.Random, *, keys: int, rate: float, step: timedelta) -> tuple[World, list[Burst]]:
    world = World(rng, folder / "soak.db", rate)
    feeds = [Queue("sqs://us-east-1/x/q", world, positioned=False), Queue("s3://logs", world, positioned=True)]
    key_ids = [make_key_id(rng) for _ in range(keys)]
    with open_store(world) as store:
        for key_id in key_ids:
            store.watch(Canary(key_id=key_id, name=f"canary {key_id[-6:]}", since=START))
        ours = [own_call(store, rng, key_id) for key_id in key_ids]
    happened = bursts(rng, key_ids)
    publish(world, feeds, [*(event for burst in happened for event in burst.events), *ours])
    live(world, feeds, START + WEEK, step)
    # The trouble is over, and the time that late records and waiting deliveries need passes.
    world.calm, world.jump = True, timedelta(0)
    live(world, feeds, START + WEEK + 2 * LATEST, timedelta(minutes=20))
    return world, happened


def check(world: World, happened: list[Burst]) -> None:
    """Hold what was kept and what was received against what happened, by other means than the program's own."""
    with Store(world.database) as store:
        incidents = store.incidents()
        seen = {each.id: {sight.event.id for sight in store.sightings(each.id) if not sight.own} for each in incidents}
        told = {alert.key: alert for _, alert in store.alerts(limit=1_000_000)}
    expected = sorted(sorted(event["eventID"] for event in burst.events) for burst in happened)
    assert sorted(sorted(ids) for ids in seen.values() if ids) == expected, "each burst is one incident, nothing lost"
    for burst in happened:
        ids = {event["eventID"] for event in burst.events}
        number = next(number for number, found in seen.items() if found == ids)
        mine = [alert for alert in told.values() if alert.incident == number]
        assert [alert.kind for alert in mine].count(AlertKind.CANARY_USED) == 1, "the first sighting alerts, once"
        assert {alert.key_id for alert in mine} == {burst.key_id}
        # Every address is told exactly once as new: by the first alert, or by one escalation.
        first = next(dict(alert.facts) for alert in mine if alert.kind is AlertKind.CANARY_USED)
        escalations = [dict(alert.facts)["new"] for alert in mine if alert.kind is AlertKind.ESCALATION]
        for what, name in (("address", "sourceIPAddress"), ("service", "eventSource")):
            for value in {event[name].removesuffix(".amazonaws.com") for event in burst.events}:
                facts = first[{"address": "address", "service": "services"}[what]]
                count = (value in facts) + sum(f"{what} {value}" in new for new in escalations)
                assert count == 1, f"{what} {value} of {burst.key_id} was told {count} times"
        assert len(mine) == 1 + len(escalations)
    strange = [alert for alert in told.values() if alert.incident is None and alert.kind is not AlertKind.CHANNEL]
    assert strange == [], "no alert of our own calls, of others' or of nothing"
    for key in told:
        for name in CHANNELS:
            copies = world.received[name, key]
            assert copies, f"{key} never arrived by {name}"
            assert copies.count(False) <= 1
            assert all(copies[1:]), "a repeat says that it is one"
            assert len(copies) <= 1 + world.unsure[name, key] + world.kills["at the clock"]
    assert set(world.alerts) == set(told)


def test_a_week_of_trouble_alerts_every_use_exactly_once(tmp_path: Path, rng: random.Random) -> None:
    world, happened = simulate(tmp_path, rng, keys=12, rate=0.05, step=timedelta(minutes=12))
    check(world, happened)
    assert len(happened) > 20
    assert set(world.kills) == {
        "at the clock", "in the feed", "in the transaction", "before the acknowledgement",
        "after the acknowledgement", "before a delivery", "after a delivery",
    }  # fmt: skip


def test_a_week_without_trouble_sends_nothing_twice(tmp_path: Path, rng: random.Random) -> None:
    world, happened = simulate(tmp_path, rng, keys=4, rate=0, step=timedelta(minutes=30))
    check(world, happened)
    assert all(copies == [False] for copies in world.received.values())


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_many_weeks_of_trouble_alert_every_use_exactly_once(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    world, happened = simulate(
        tmp_path, rng, keys=20, rate=rng.choice([0.02, 0.05, 0.1, 0.2]), step=timedelta(minutes=5)
    )
    check(world, happened)
