"""A drill proves that a use would be seen: the canary is used by ourselves, and every station is timed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.profiles import configure, look_up_at_once
from tests.repositories import Repository
from tests.test_plant import prepare
from tests.trails import record, trail, user

from firedamp.canaries import drill as drills
from firedamp.canaries.drill import World
from firedamp.canaries.mint import Order
from firedamp.service.aws import Aws
from firedamp.service.cli import main
from firedamp.service.loopback import ACCOUNT, Loopback
from firedamp.service.minting import make_mint
from firedamp.storage import nonce
from firedamp.storage.records import (
    AlertKind,
    Canary,
    CanaryState,
    Claim,
    Delivery,
    DeliveryState,
    Drill,
    Event,
    Kept,
    MintPurpose,
    OwnCall,
    PageRead,
    Placement,
    Severity,
    Sighting,
    SightingKind,
)
from firedamp.storage.store import Store

START = datetime(2026, 11, 20, 10, tzinfo=UTC)
KEY = "AKIAEXAMPLEEXAMPLE33"
NONCE = "0123456789abcdef" * 2
MINUTE = timedelta(minutes=1)


class Scene:
    """A drill that was called at ten, and a clock that moves when somebody waits."""

    def __init__(self) -> None:
        self.store, self.time = Store(None), START
        self.store.watch(Canary(key_id=KEY, name="svc", since=START))
        self.store.add_own_call(
            OwnCall(nonce=NONCE, key_id=KEY, principal=KEY, call="sts:GetCallerIdentity", host="h", at=START,
                    purpose="drill")
        )  # fmt: skip
        self.drill = Drill(nonce=NONCE, key_id=KEY, path_only=False, called=START)
        self.store.set_drill(self.drill)
        self.polls: list[datetime] = []

    def record(self) -> None:
        event = Event(id="e1", time=START + timedelta(seconds=1), name="GetCallerIdentity", access_key_id=KEY)
        sighting = Sighting(key_id=KEY, kind=SightingKind.USE, event=event, own=True)
        self.store.record_page(
            PageRead(feed="f", sightings=(sighting,)),
            lambda past, new: [Claim(nonce=NONCE, event_id="e1"), Kept(sightings=tuple(new))], self.time,
        )  # fmt: skip

    def send(self) -> None:
        self.store.route(["mail"], self.time)
        for delivery, _ in self.store.due("mail", self.time, self.time + timedelta(days=1)):
            self.store.set_delivery(
                Delivery(alert=delivery.alert, channel="mail", state=DeliveryState.DELIVERED, next_try=self.time,
                         delivered=self.time)
            )  # fmt: skip

    def world(self, at: Callable[[], None] | None = None, *, channels: bool = True, budget: timedelta = 5 * MINUTE,
              deliver: Callable[[], None] | None = None) -> World:  # fmt: skip
        def sleep(seconds: float) -> None:
            self.time += timedelta(seconds=seconds)

        def poll() -> None:
            self.polls.append(self.time)
            if at is not None and self.time >= START + MINUTE:
                at()

        return World(
            store=self.store, now=lambda: self.time, sleep=sleep, poll=poll, deliver=deliver or self.send,
            channels=channels, budget=budget,
        )  # fmt: skip


@pytest.fixture(autouse=True)
def _no_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    look_up_at_once(monkeypatch)


def test_every_station_is_timed_and_no_alarm_is_raised() -> None:
    scene = Scene()
    world = scene.world(scene.record)
    ended = drills.wait(scene.drill, "svc", world)
    later = START + MINUTE
    assert ended == Drill(
        nonce=NONCE, key_id=KEY, path_only=False, called=START, recorded=START + timedelta(seconds=1), sighted=later,
        alerted=later, delivered=later,
    )  # fmt: skip
    assert scene.store.drills() == [ended]
    assert (drills.took(ended, world), drills.over(ended, world)) == (MINUTE, False)
    [(_, alert)] = scene.store.alerts()
    assert (alert.kind, alert.severity, alert.key_id) == (AlertKind.TEST, Severity.LOW, None)


def test_a_drill_over_its_budget_is_an_alarm_that_says_where_it_hangs() -> None:
    scene = Scene()
    ended = drills.wait(scene.drill, "svc", scene.world())
    scene.time += MINUTE
    assert drills.settle(ended, "svc", scene.world()).sighted is None
    [(_, alert)] = scene.store.alerts()
    assert (alert.kind, alert.key_id) == (AlertKind.OVERDUE, KEY)
    assert dict(alert.facts)["not reached"] == "recorded"


def test_a_channel_that_hangs_is_over_budget_too_and_none_at_all_ends_with_the_alert() -> None:
    scene = Scene()
    hung = drills.wait(scene.drill, "svc", scene.world(scene.record, deliver=lambda: None))
    scene.time += MINUTE
    world = scene.world(deliver=lambda: None)
    drills.settle(hung, "svc", world)
    assert drills.over(hung, world)
    assert [alert.kind for _, alert in scene.store.alerts()] == [AlertKind.OVERDUE, AlertKind.TEST]
    assert drills.done(hung, scene.world(channels=False))


def test_a_drill_that_was_cut_off_is_finished_by_the_next_run_for_a_day() -> None:
    scene = Scene()
    scene.record()
    scene.store.set_drill(Drill(nonce="f" * 32, key_id=KEY, path_only=True, called=START - timedelta(days=2)))
    world = scene.world(channels=False)
    [old] = drills.unfinished(scene.store.drills(), world)
    assert drills.done(drills.settle(old, "svc", world), world)
    assert list(drills.unfinished(scene.store.drills(), world)) == []


def test_the_canary_whose_drill_is_longest_ago_comes_first() -> None:
    canaries = [
        Canary(key_id=key_id, name=key_id, since=START, state=state)
        for key_id, state in (("a", CanaryState.LIVE), ("b", CanaryState.LIVE), ("c", CanaryState.RETIRED),
                              ("d", CanaryState.LIVE))
    ]  # fmt: skip
    past = [
        Drill(nonce="1", key_id="a", path_only=False, called=START),
        Drill(nonce="2", key_id="b", path_only=False, called=START - MINUTE),
        Drill(nonce="3", key_id="d", path_only=True, called=START),
    ]
    assert [each.key_id for each in drills.order(canaries, past)] == ["d", "b", "a"]


# The command.


class Stage:
    """A canary in a file of the home directory, a feed from the event history, and a channel that prints."""

    def __init__(self, aws: Loopback, monkeypatch: pytest.MonkeyPatch, folder: Path, capsys: Any) -> None:
        configure(aws, monkeypatch)
        self.aws, self.capsys = aws, capsys
        self.config = folder / "firedamp.toml"
        monkeypatch.setenv("CHANNEL", "stdout://")
        self.config.write_text(
            '[watch]\nfeeds = ["lookup://us-east-1"]\n[[channel]]\nname = "out"\nurl = "env:CHANNEL"\n'
        )
        assert main(["canary", "mint", "--name", "svc-{n}", "--format", "jsonl", "--quiet"]) == 0
        self.canary = json.loads(capsys.readouterr().out)
        self.file = folder / "planted" / ".env"
        self.file.parent.mkdir()
        self.file.write_text(
            f"AWS_ACCESS_KEY_ID={self.canary['access_key_id']}\n"
            f"AWS_SECRET_ACCESS_KEY={self.canary['secret_access_key']}\n"
        )

    def run(self, *arguments: str) -> tuple[int, list[dict[str, Any]]]:
        status = main(["canary", "drill", *arguments, "--config", str(self.config), "--format", "jsonl"])
        lines = self.capsys.readouterr().out.splitlines()
        return status, [json.loads(line) for line in lines if line.startswith("{")]

    def place(self, kind: str = "file", place: str | None = None) -> None:
        with Store(Path(os.environ["FIREDAMP_DB"])) as store:
            store.place(
                Placement(key_id=self.canary["access_key_id"], kind=kind, place=place or str(self.file), format="env",
                          planted=datetime.now(UTC))
            )  # fmt: skip

    def users(self) -> set[str]:
        return {user["UserName"] for user in self.aws.client("iam").list_users()["Users"]}


@pytest.fixture
def stage(aws: Loopback, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Stage:
    return Stage(aws, monkeypatch, tmp_path, capsys)


@pytest.mark.parametrize("how", ["placement", "finding"])
def test_a_canary_that_can_be_read_back_is_drilled_itself_and_opens_no_incident(stage: Stage, how: str) -> None:
    if how == "placement":
        stage.place()
    else:
        main(["scan", str(stage.file.parent), "--offline", "--quiet"])
        stage.capsys.readouterr()
    status, [line] = stage.run("svc-1")
    assert (status, line["path_only"], line["over"], line["key"]) == (0, False, False, stage.canary["access_key_id"])
    assert all(line[station] for station in ("called", "recorded", "sighted", "alerted", "delivered"))
    with Store(Path(os.environ["FIREDAMP_DB"])) as store:
        assert store.incidents() == []
        [call] = [call for call in store.own_calls() if call.purpose == "drill"]
        assert (call.principal, call.nonce) == (stage.canary["access_key_id"], line["drill"])
        assert stage.canary["secret_access_key"].encode() not in Path(os.environ["FIREDAMP_DB"]).read_bytes()
    assert main(["canary", "list", "--format", "jsonl"]) == 0
    assert json.loads(stage.capsys.readouterr().out)["proof"] == "itself"


def test_a_drill_that_reads_the_feeds_itself_says_that_it_proves_no_watch(stage: Stage) -> None:
    stage.place()
    command = ["canary", "drill", "svc-1", "--config", str(stage.config)]
    assert main(command) == 0
    assert "nobody serves this database" in stage.capsys.readouterr().err
    with Store(Path(os.environ["FIREDAMP_DB"])) as store:
        # A service that lives and does not poll: nothing else may do its work, or a dead watch would pass for one.
        store.claim("a service", datetime.now(UTC), MINUTE)
    assert main([*command, "--budget", "1"]) == 1
    told = stage.capsys.readouterr()
    assert "nobody serves" not in told.err
    assert "over budget" in told.out


def test_where_no_canary_can_be_read_back_the_path_is_drilled_and_nothing_stays_in_iam(stage: Stage) -> None:
    stage.file.unlink()
    stage.place()  # its file is gone
    status, [line] = stage.run()
    assert (status, line["path_only"]) == (0, True)
    assert line["delivered"] is not None
    assert stage.users() == {"admin", "svc-1"}
    with Store(Path(os.environ["FIREDAMP_DB"])) as store:
        assert [key.name for key in store.watched()] == ["svc-1"]
        assert store.mintings() == []
        assert store.incidents() == []
    assert main(["canary", "list", "--format", "jsonl"]) == 0
    assert json.loads(stage.capsys.readouterr().out)["proof"] == "path"


def test_the_path_is_drilled_in_every_region_that_the_feeds_watch(stage: Stage) -> None:
    stage.config.write_text(stage.config.read_text().replace("us-east-1", "us-east-1,eu-west-1"))
    status, lines = stage.run()
    assert status == 0
    assert [line["name"] for line in lines] == [
        f"the path of account {ACCOUNT} in {region}" for region in ("eu-west-1", "us-east-1")
    ]
    assert all(line["path_only"] and line["delivered"] for line in lines)
    assert stage.users() == {"admin", "svc-1"}
    with Store(Path(os.environ["FIREDAMP_DB"])) as store:
        assert store.incidents() == []
        assert [key.name for key in store.watched()] == ["svc-1"]


def test_a_drill_over_budget_ends_with_one_and_the_table_says_what_is_missing(stage: Stage, tmp_path: Path) -> None:
    stage.place()
    (tmp_path / "logs").mkdir()
    stage.config.write_text(f'[watch]\nfeeds = ["{(tmp_path / "logs").as_uri()}"]\n')
    assert main(["canary", "drill", "--budget", "0", "--config", str(stage.config)]) == 1
    out = stage.capsys.readouterr().out
    assert "over budget" in out
    assert "recorded: not yet" in out
    assert "no channel takes it" in out
    with Store(Path(os.environ["FIREDAMP_DB"])) as store:
        assert [alert.kind for _, alert in store.alerts()] == [AlertKind.OVERDUE]


def test_a_canary_planted_anywhere_is_read_back_there_and_drilled_itself(stage: Stage, tmp_path: Path) -> None:
    app = Repository(tmp_path / "app")
    app.commit("Begin", {"README": "hello"})
    app.git("branch", "deploy")
    forms = {"s3": "env", "secretsmanager": "json", "ssm": "aws-profile", "lambda": "env", "ec2": "shell"}
    wanted = [(prepare(stage.aws, kind), form) for kind, form in forms.items()]
    wanted.append((f"git:{app.path}@deploy:deploy/secret.yaml", "kubernetes-secret"))
    more = ["canary", "mint", "--name", "svc-{n}", "-n", str(len(wanted)), "--quiet", "--format", "jsonl"]
    assert main(more) == 0
    names = [json.loads(line)["name"] for line in stage.capsys.readouterr().out.splitlines()]
    for name, (place, form) in zip(names, wanted, strict=True):
        assert main(["canary", "plant", name, "--at", place, "--as", form, "--quiet"]) == 0, place
    stage.capsys.readouterr()
    with Store(Path(os.environ["FIREDAMP_DB"])) as store:
        planted = store.placements()
    (tmp_path / "logs").mkdir()
    stage.config.write_text(f'[watch]\nfeeds = ["{(tmp_path / "logs").as_uri()}"]\n')
    status, lines = stage.run(*names, "--budget", "0")  # that AWS took the secret is enough: its record is not awaited
    assert (status, [line["path_only"] for line in lines]) == (1, [False] * len(wanted))
    assert {planted[line["key"]].kind for line in lines} == {*forms, "git"}
    assert not [line for line in lines if "failed" in line]


def test_the_record_of_a_path_drill_that_comes_too_late_ends_the_drill_and_is_no_alarm_of_its_own(
    stage: Stage, tmp_path: Path
) -> None:
    stage.place("ssm", "ssm:/orders/prod/aws?region=us-east-1")
    stage.aws.refuse_next("ssm:GetParameter", "AccessDeniedException", times=1)
    logs = tmp_path / "logs"
    logs.mkdir()
    stage.config.write_text(f'[watch]\nfeeds = ["{logs.as_uri()}"]\n')
    status, [line] = stage.run("--budget", "0")
    assert (status, line["path_only"], line["recorded"]) == (1, True, None)
    assert stage.users() == {"admin", "svc-1"}
    arn = f"arn:aws:iam::{ACCOUNT}:user/gone"
    late = record(user(line["key"]) | {"arn": arn, "accountId": ACCOUNT}, eventTime=line["called"],
                  userAgent=f"firedamp {nonce.mark(line['drill'])}")  # fmt: skip
    (logs / "late.json.gz").write_bytes(trail(late))
    status, [second] = stage.run("--budget", "0")
    with Store(Path(os.environ["FIREDAMP_DB"])) as store:
        first = next(each for each in store.drills() if each.nonce == line["drill"])
        assert first.sighted is not None
        assert store.incidents() == []
        overdue = {alert.key for _, alert in store.alerts() if alert.kind is AlertKind.OVERDUE}
        assert overdue == {f"overdue/{line['drill']}", f"overdue/{second['drill']}"}
        watched = {key.key_id for key in store.watched()}
        assert watched == {stage.canary["access_key_id"], second["key"]}, "watched until its record has come"
        store.forget_drill_keys(datetime.now(UTC) + MINUTE)
        assert {key.key_id for key in store.watched()} == {stage.canary["access_key_id"]}


def test_a_canary_whose_key_is_dead_fails_the_drill_and_the_watch_is_blind_there(stage: Stage) -> None:
    stage.place()
    iam = stage.aws.client("iam")
    iam.update_access_key(UserName="svc-1", AccessKeyId=stage.canary["access_key_id"], Status="Inactive")
    status, [line] = stage.run()
    assert status == 2
    assert "InvalidClientTokenId" in line["failed"]
    with Store(Path(os.environ["FIREDAMP_DB"])) as store:
        assert [alert.kind for _, alert in store.alerts()] == [AlertKind.BLIND]
    assert main(["canary", "drill", "--config", str(stage.config)]) == 2
    assert "✗ svc-1" in stage.capsys.readouterr().out


def test_what_a_drill_left_in_iam_is_taken_back_by_the_next(stage: Stage) -> None:
    stage.place()
    with Store(Path(os.environ["FIREDAMP_DB"])) as store:
        mint = make_mint(
            Aws(now=lambda: datetime.now(UTC), random=os.urandom, write_down=store.add_own_call), store, None
        )
        [left] = mint.plan(Order(account_id=ACCOUNT, profile=None, purpose=MintPurpose.DRILL))
        store.ask([left])
        mint.make(left, lambda _: None)
    assert len(stage.users()) == 3
    status, [line] = stage.run()
    assert (status, line["path_only"]) == (0, False)
    assert stage.users() == {"admin", "svc-1"}


def test_what_cannot_be_drilled_is_said(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    stage.file.unlink()
    configure(stage.aws, monkeypatch, stage.aws.add_user("nobody"))
    status, [line] = stage.run()
    assert status == 2
    assert "AccessDenied" in line["failed"]
    configure(stage.aws, monkeypatch, stage.aws.add_account("210987654321"))
    status, [line] = stage.run()
    assert "no profile acts in account" in line["failed"]
    assert main(["canary", "drill"]) == 2
    assert "needs a feed" in stage.capsys.readouterr().err
    assert stage.run("nobody")[0] == 2
    assert main(["canary", "drill", "--config", str(stage.config), "--format", "csv"]) == 2
    assert main(["canary", "drill", "--config", str(stage.config), "--offline"]) == 2
