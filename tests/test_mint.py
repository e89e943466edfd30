"""Canaries are made in IAM so that no crash leaves anything behind, and their secrets are shown once."""

from __future__ import annotations

import json
import os
import random
import stat
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.builders import make_key_id
from tests.profiles import configure
from tests.scenes import allow, code

from firedamp.canaries import mint as minter
from firedamp.canaries.mint import Mint, Minted, Order, pending
from firedamp.canaries.naming import DEFAULT, like, names
from firedamp.canaries.pace import Pace
from firedamp.service.cli import main
from firedamp.service.loopback import ACCOUNT, Loopback, LoopbackKey
from firedamp.storage.errors import AwsFailure, Failure, UsageFailure
from firedamp.storage.records import Canary, CanaryState, Minting, MintPurpose, Placement, RealKey
from firedamp.storage.store import Store


class PowerCut(BaseException):
    """The process ends here."""


class Cut:
    """An IAM client whose n-th call cuts the power: before it is sent, or after it was answered."""

    def __init__(self, client: Any, at: int, *, after: bool) -> None:
        self._client, self._at, self._after = client, at, after
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._client, name)
        if not callable(found) or name in {"get_paginator", "can_paginate"}:
            return found

        def call(**arguments: Any) -> Any:
            self.calls += 1
            if self.calls == self._at and not self._after:
                raise PowerCut
            answer = found(**arguments)
            if self.calls == self._at:
                raise PowerCut
            return answer

        return call


def make(aws: Loopback, store: Store, iam: Any = None) -> Mint:
    return Mint(
        iam=iam or aws.client("iam"), store=store, pace=Pace(lambda _: None, os.urandom),
        now=lambda: datetime.now(UTC), random=os.urandom, about=lambda _: nullcontext(),
    )  # fmt: skip


def run(making: Mint, hand_over: Any, count: int = 2) -> None:
    """Do what the command does: finish what is unfinished, or make what is asked for."""
    todo = list(pending(making.store.mintings(), ACCOUNT, MintPurpose.CANARY))
    if not todo:
        todo = making.plan(Order(account_id=ACCOUNT, profile=None, count=count))
        making.store.ask(todo)
    for each in todo:
        making.make(each, hand_over)


def keys_of(aws: Loopback) -> dict[str, list[str]]:
    """Return the key ids of every user but the administrator."""
    iam = aws.client("iam")
    users = [user["UserName"] for user in iam.list_users()["Users"] if user["UserName"] != "admin"]
    return {
        user: [key["AccessKeyId"] for key in iam.list_access_keys(UserName=user)["AccessKeyMetadata"]]
        for user in users
    }  # fmt: skip


def test_a_canary_is_a_user_with_one_key_that_may_do_nothing(aws: Loopback) -> None:
    store, handed = Store(None), list[Minted]()
    run(make(aws, store), handed.append, count=1)
    [minted] = handed
    canary = minted.canary
    key = LoopbackKey(canary.key_id, minted.secret)
    identity = aws.client("sts", key).get_caller_identity()
    assert (identity["Arn"], identity["UserId"]) == (canary.owner.arn, canary.owner.principal_id)
    assert code(aws.client("s3", key).list_buckets) == "AccessDenied"
    with pytest.raises(ClientError, match="explicit deny"):
        aws.client("iam", key).list_users()
    user = aws.client("iam").get_user(UserName=canary.name)["User"]
    assert (user["Path"], user.get("Tags", [])) == ("/", [])
    assert [key.key_id for key in store.watched()] == [canary.key_id]
    assert store.mintings() == []


class Abroad:
    """An IAM client of another partition."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def create_user(self, **arguments: Any) -> Any:
        answer = self._client.create_user(**arguments)
        answer["User"]["Arn"] = answer["User"]["Arn"].replace("arn:aws:", "arn:aws-cn:")
        return answer


def test_a_canary_of_another_partition_is_known_by_the_arn_that_its_records_bear(aws: Loopback) -> None:
    store, handed = Store(None), list[Minted]()
    run(make(aws, store, Abroad(aws.client("iam"))), handed.append, count=1)
    [canary] = store.watched()
    assert canary.owner.arn == f"arn:aws-cn:iam::{ACCOUNT}:user/{canary.name}"


@pytest.mark.parametrize("after", [False, True])
def test_a_crash_at_any_call_leaves_nothing_orphaned_and_nothing_doubled(aws: Loopback, after: bool) -> None:
    cut_at = 1
    while True:
        aws.reset()
        store, handed = Store(None), list[Minted]()
        cut = Cut(aws.client("iam"), cut_at, after=after)
        try:
            run(make(aws, store, cut), handed.append)
        except PowerCut:
            run(make(aws, store), handed.append)
        else:
            break
        held = {minted.canary.name: minted.canary.key_id for minted in handed}
        assert keys_of(aws) == {name: [key_id] for name, key_id in held.items()}
        assert len(held) == 2
        assert {key.key_id for key in store.watched()} == set(held.values())
        assert all(isinstance(key, Canary) and key.state is CanaryState.LIVE for key in store.watched())
        assert store.mintings() == []
        cut_at += 1
    assert cut_at > 6  # it was cut at every call of the whole run


def test_a_crash_while_the_secret_is_handed_over_makes_another_key_and_says_which_is_void(aws: Loopback) -> None:
    store, handed = Store(None), list[Minted]()

    def cut(minted: Minted) -> None:
        handed.append(minted)
        raise PowerCut

    with pytest.raises(PowerCut):
        run(make(aws, store), cut, count=1)
    [lost] = handed
    assert [(key.key_id, isinstance(key, Canary) and key.state) for key in store.watched()] == [
        (lost.canary.key_id, CanaryState.MINTING)
    ]
    run(make(aws, store), handed.append)
    assert handed[1].replaces == lost.canary.key_id
    assert handed[1].canary.name == lost.canary.name
    assert keys_of(aws) == {lost.canary.name: [handed[1].canary.key_id]}


@pytest.mark.parametrize("at", range(1, 8))
def test_a_crash_while_something_is_taken_back_is_finished_by_the_next_try(aws: Loopback, at: int) -> None:
    store = Store(None)
    making = make(aws, store)
    [minting] = making.plan(Order(account_id=ACCOUNT, profile=None, purpose=MintPurpose.DRILL))
    store.ask([minting])
    making.make(minting, lambda _: None)
    [minting] = store.mintings()
    try:
        make(aws, store, Cut(aws.client("iam"), at, after=True)).take_back(minting)
    except PowerCut:
        making.take_back(minting)
    assert keys_of(aws) == {}
    assert store.mintings() == []
    assert store.watched() == []


class Busy:
    """An IAM client whose first CreateAccessKey is done, and answered as if IAM were busy."""

    def __init__(self, client: Any) -> None:
        self._client, self._left = client, 1

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def create_access_key(self, **arguments: Any) -> Any:
        answer = self._client.create_access_key(**arguments)
        if self._left:
            self._left = 0
            raise ClientError({"Error": {"Code": "ServiceFailure", "Message": "busy"}}, "CreateAccessKey")
        return answer


def test_a_key_that_was_made_though_iam_said_that_it_is_busy_does_not_stay(aws: Loopback) -> None:
    store, handed = Store(None), list[Minted]()
    run(make(aws, store, Busy(aws.client("iam"))), handed.append, count=1)
    [minted] = handed
    assert keys_of(aws) == {minted.canary.name: [minted.canary.key_id]}


def test_a_user_that_stood_there_before_is_never_touched(aws: Loopback) -> None:
    theirs = aws.add_user("svc-backup", inline={"rights": allow("s3:*")})
    store = Store(None)
    later = datetime.now(UTC) + timedelta(hours=1)
    minting = Minting(name="svc-backup", account_id=ACCOUNT, profile=None, asked=later)
    store.ask([minting])
    for act in (lambda: make(aws, store).make(minting, lambda _: None), lambda: make(aws, store).take_back(minting)):
        with pytest.raises(Failure, match="not provably"):
            act()
    strange = Minting(name="svc-backup", account_id=ACCOUNT, profile=None, asked=datetime.now(UTC))
    with pytest.raises(Failure, match="not provably"):  # as old as was asked for, and yet with rights of its own
        make(aws, store).make(strange, lambda _: None)
    assert code(aws.client("s3", theirs).list_buckets) == "OK"
    assert keys_of(aws) == {"svc-backup": [theirs.id]}


def test_an_account_without_room_is_told_before_anything_is_made(aws: Loopback) -> None:
    making = make(aws, Store(None))
    with pytest.raises(AwsFailure, match="room for"):
        making.plan(Order(account_id=ACCOUNT, profile=None, count=minter.MOST))
    with pytest.raises(UsageFailure, match="cannot be minted"):
        making.plan(Order(account_id=ACCOUNT, profile=None, count=minter.MOST + 1))


def test_throttling_slows_down_and_is_waited_for(aws: Loopback) -> None:
    waits: list[float] = []
    pace = Pace(waits.append, os.urandom)
    aws.refuse_next("iam:ListUsers", "Throttling", times=3)
    iam = aws.client("iam")
    assert pace.call(iam.list_users)["Users"]
    assert len(waits) == 3
    assert waits[2] > waits[0]
    slow = pace.gap
    for _ in range(40):
        pace.call(iam.list_users)
    assert slow > 0.3
    assert pace.gap < 0.02
    aws.refuse_next("iam:ListUsers", "Throttling", times=99)
    with pytest.raises(ClientError, match="Throttling"):
        pace.call(iam.list_users)


def test_what_iam_refuses_or_has_lost_meanwhile_is_met(aws: Loopback) -> None:
    store = Store(None)
    making = make(aws, store)
    aws.refuse_next("iam:GetAccountSummary", "AccessDenied", status=403)  # how much room there is, CreateUser will say
    [minting] = making.plan(Order(account_id=ACCOUNT, profile=None, tags=(("team", "hr"),)))
    store.ask([minting])
    aws.refuse_next("iam:CreateUser", "LimitExceeded", status=409)
    with pytest.raises(ClientError, match="LimitExceeded"):
        making.make(minting, lambda _: None)
    aws.refuse_next("iam:CreateUser", "EntityAlreadyExists", status=409)
    with pytest.raises(AwsFailure, match="does not show it"):
        making.make(minting, lambda _: None)
    aws.client("iam").create_user(UserName=minting.name)  # somebody else's, a moment later and without the tag
    with pytest.raises(Failure, match="not provably"):
        making.make(minting, lambda _: None)
    aws.refuse_next("iam:GetUser", "AccessDenied", status=403)
    with pytest.raises(ClientError, match="AccessDenied"):
        making.take_back(minting)
    aws.client("iam").delete_user(UserName=minting.name)
    with pytest.raises(PowerCut):
        make(aws, store, Cut(aws.client("iam"), 3, after=True)).make(minting, lambda _: None)
    aws.refuse_next("iam:DeleteAccessKey", "NoSuchEntity", status=404)
    aws.refuse_next("iam:CreateAccessKey", "LimitExceeded", status=409)
    with pytest.raises(ClientError, match="LimitExceeded"):
        making.make(minting, lambda _: None)
    aws.refuse_next("iam:DeleteAccessKey", "AccessDenied", status=403)
    with pytest.raises(ClientError, match="AccessDenied"):
        making.make(minting, lambda _: None)
    handed: list[Minted] = []
    making.make(minting, handed.append)
    assert keys_of(aws) == {minting.name: [handed[0].canary.key_id]}


def test_what_iam_does_not_show_yet_is_asked_for_again(aws: Loopback) -> None:
    store = Store(None)
    aws.refuse_next("iam:PutUserPolicy", "NoSuchEntity", status=404, times=2)
    handed: list[Minted] = []
    run(make(aws, store), handed.append, count=1)
    assert len(handed) == 1


def test_tags_are_known_in_whatever_order_iam_shows_them(aws: Loopback) -> None:
    store = Store(None)
    making = make(aws, store)
    [minting] = making.plan(Order(account_id=ACCOUNT, profile=None, tags=(("team", "hr"), ("cost", "7"))))
    store.ask([minting])
    # The process ended before it kept the answer, so there is no id to know the user by.
    tags: Any = [{"Key": "cost", "Value": "7"}, {"Key": "team", "Value": "hr"}]
    aws.client("iam").create_user(UserName=minting.name, Tags=tags)
    handed: list[Minted] = []
    run(making, handed.append)
    assert keys_of(aws) == {minting.name: [handed[0].canary.key_id]}


def test_a_user_that_iam_does_not_show_yet_is_taken_back_all_the_same(aws: Loopback) -> None:
    store = Store(None)
    aws.refuse_next("iam:PutUserPolicy", "AccessDenied", status=403)
    with pytest.raises(ClientError, match="AccessDenied"):
        run(make(aws, store), lambda _: None, count=1)
    [minting] = store.mintings()
    aws.refuse_next("iam:GetUser", "NoSuchEntity", status=404, times=2)
    make(aws, store).take_back(minting)
    assert keys_of(aws) == {}
    assert store.mintings() == []


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from([DEFAULT, "svc-{task}-{n:3}", "{service}.{env}-{digits:6}", "app_{hex:8}"]),
    st.integers(1, 300), st.integers(0, 2**32),
)  # fmt: skip
def test_names_are_all_different_and_as_iam_takes_them(pattern: str, count: int, seed: int) -> None:
    made = names(pattern, count, ["svc-backup-001"], random.Random(seed).randbytes)
    assert len({name.lower() for name in made}) == count
    assert all(1 <= len(name) <= 64 and "{" not in name for name in made)
    assert "svc-backup-001" not in made


def test_a_pattern_that_cannot_be_is_refused() -> None:
    rng = random.Random(3).randbytes
    with pytest.raises(UsageFailure, match="too few names"):
        names("backup", 2, [], rng)
    with pytest.raises(UsageFailure, match="no placeholder"):
        names("{uuid}", 1, [], rng)
    with pytest.raises(UsageFailure, match="no user called"):
        names("a b", 1, [], rng)


# The commands.


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_mint_prints_each_secret_once_and_keeps_none(
    aws: Loopback, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    configure(aws, monkeypatch)
    db = tmp_path / "f.db"
    assert main(["canary", "mint", "-n", "3", "--note", "hr share", "--format", "jsonl", "--db", str(db)]) == 0
    out, err = capsys.readouterr()
    minted = lines(out)
    assert len(minted) == 3
    assert "3 minted" in err
    for line in minted:
        key = LoopbackKey(line["access_key_id"], minter.Secret(line["secret_access_key"]))
        assert aws.client("sts", key).get_caller_identity()["Arn"] == line["arn"]
        assert line["secret_access_key"] not in err
        for file in tmp_path.iterdir():
            assert line["secret_access_key"].encode() not in file.read_bytes()
    with Store(db) as store:
        assert {key.note for key in store.watched()} == {"hr share"}
        purposes = {(call.purpose, call.call) for call in store.own_calls()}
        assert ("mint", "iam:CreateAccessKey") in purposes


def test_a_run_that_was_cut_off_is_finished_by_the_same_command_and_no_others_are_made(
    aws: Loopback, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    configure(aws, monkeypatch)
    kept = tmp_path / "keys.csv"
    command = ["canary", "mint", "-n", "3", "--format", "csv", "--output", str(kept)]
    aws.refuse_next("iam:PutUserPolicy", "AccessDenied", status=403)
    assert main(command) == 2
    err = capsys.readouterr().err
    assert "AccessDenied" in err
    assert "3 are not done: the same command goes on there" in err
    assert main(command) == 0
    assert "left 3 unfinished" in capsys.readouterr().err
    rows = kept.read_text().splitlines()
    assert rows[0].startswith("name,access_key_id,secret_access_key")
    assert len(rows) == 4
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert main([*command, "-n", "1"]) == 0  # it is added to, never written over
    assert len(kept.read_text().splitlines()) == 5
    assert len(keys_of(aws)) == 4
    assert main([*command[:-2], "-n", "2", "--quiet"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert (printed[0], len(printed)) == (rows[0], 3)
    # Nothing is asked for where no secret could be kept.
    assert main(["canary", "mint", "--output", str(tmp_path / "none" / "keys")]) == 2
    assert "cannot be written" in capsys.readouterr().err
    with Store(Path(os.environ["FIREDAMP_DB"])) as store:
        assert store.mintings() == []


def test_what_is_unfinished_is_taken_back_when_asked(
    aws: Loopback, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    configure(aws, monkeypatch)
    aws.refuse_next("iam:CreateAccessKey", "AccessDenied", status=403)
    assert main(["canary", "mint", "-n", "2", "--name", "svc-backup-{n}"]) == 2
    assert keys_of(aws) == {"svc-backup-1": []}
    assert main(["canary", "retire", "svc-backup-1"]) == 0
    assert keys_of(aws) == {}
    assert main(["canary", "mint", "-n", "0"]) == 0
    assert "1 taken back" in capsys.readouterr().err
    with Store(Path(os.environ["FIREDAMP_DB"])) as store:
        assert store.mintings() == []


def test_a_canary_that_an_attackers_test_would_know_is_refused_unless_forced(
    aws: Loopback, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    configure(aws, monkeypatch)
    assert main(["canary", "mint", "--name", "honey-{n}"]) == 2
    assert "would recognise" in capsys.readouterr().err
    assert keys_of(aws) == {}
    assert main(["canary", "mint", "--name", "honey-{n}", "--force", "--tag", "team=data"]) == 0
    out = capsys.readouterr().out.split()
    assert out[2] == "honey-1"
    assert aws.client("iam").list_user_tags(UserName="honey-1")["Tags"] == [{"Key": "team", "Value": "data"}]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--offline"], "offline"),
        (["svc-backup"], "mint takes no svc-backup"),
        (["--format", "sarif"], "no form"),
        (["--tag", "=x"], "no tag"),
        (["--name", "two words"], "no user called"),
        (["--output", "/no/such/folder/keys"], "cannot be written"),
        (["--profile", "nobody"], "nobody"),
    ],
)
def test_what_cannot_be_minted_is_said(
    aws: Loopback, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], why: str
) -> None:
    configure(aws, monkeypatch)
    assert main(["canary", "mint", *arguments]) == 2
    assert why in capsys.readouterr().err
    assert keys_of(aws) == {}


def test_what_keeps_no_secret_is_no_output_and_keeps_its_mode(
    aws: Loopback, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    configure(aws, monkeypatch)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe, 0o644)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    assert main(["canary", "mint", "--output", str(pipe)]) == 2
    os.close(reader)
    assert "no regular file" in capsys.readouterr().err
    assert stat.S_IMODE(pipe.stat().st_mode) == 0o644
    assert keys_of(aws) == {}


def test_two_runs_never_make_canaries_at_the_same_time(
    aws: Loopback, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from firedamp.service.minting import alone
    from firedamp.service.options import Common

    configure(aws, monkeypatch)
    with alone(Common()):
        assert main(["canary", "mint"]) == 2
    assert "another run" in capsys.readouterr().err


# The ledger.


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes files that others cannot open")
def test_the_lock_belongs_to_whom_the_database_does(
    aws: Loopback, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    configure(aws, monkeypatch)
    db = tmp_path / "f.db"
    Store(db).close()
    os.chown(db, 4242, 4243)
    assert main(["canary", "mint", "--quiet", "--db", str(db)]) == 0
    lock = (tmp_path / "f.db.mint").stat()
    assert (lock.st_uid, lock.st_gid) == (4242, 4243)


def test_a_retired_canary_is_watched_and_alive(
    aws: Loopback, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    configure(aws, monkeypatch)
    assert main(["canary", "mint", "--name", "svc-{n}", "--format", "jsonl"]) == 0
    key_id = lines(capsys.readouterr().out)[0]["access_key_id"]
    with Store(Path(os.environ["FIREDAMP_DB"])) as store:
        store.place(
            Placement(key_id=key_id, kind="file", place="/nowhere/.env", format="env", planted=datetime.now(UTC))
        )
    assert main(["canary", "retire", "svc-1"]) == 2
    assert "planted still" in capsys.readouterr().err
    assert main(["canary", "list", "--format", "jsonl"]) == 0
    [line] = lines(capsys.readouterr().out)
    assert (line["state"], line["placement"]["place"], line["proof"]) == ("retired", "/nowhere/.env", None)
    [key] = aws.client("iam").list_access_keys(UserName="svc-1")["AccessKeyMetadata"]
    assert key["Status"] == "Active"


def test_adopting_keeps_what_was_known_and_the_ledger_shows_it(capsys: pytest.CaptureFixture[str]) -> None:
    arn = f"arn:aws:iam::{ACCOUNT}:user/ops/svc-mail"
    assert main(["canary", "adopt", "odd/id-7", "--arn", arn, "--note", "wiki", "--tag", "team=hr"]) == 0
    assert main(["canary", "adopt", "odd/id-7", "--name", "mail"]) == 0
    with Store(Path(os.environ["FIREDAMP_DB"])) as store:
        [key] = store.watched()
    assert isinstance(key, Canary)
    assert (key.name, key.note, key.owner.arn, key.tags, key.adopted) == ("mail", "wiki", arn, (("team", "hr"),), True)
    assert main(["canary", "adopt", "odd/id-7", "--real"]) == 0
    with Store(Path(os.environ["FIREDAMP_DB"])) as store:
        assert isinstance(store.watched()[0], RealKey)
    assert main(["canary", "adopt", "odd/id-7", "--note", "leaked in May"]) == 0
    with Store(Path(os.environ["FIREDAMP_DB"])) as store:
        [key] = store.watched()
    assert isinstance(key, RealKey), "nobody said that it is a canary now, which is never verified and never disabled"
    assert key.note == "leaked in May"
    assert main(["canary", "list", "mail"]) == 0
    assert main(["canary", "list", "--format", "csv"]) == 0
    assert "odd/id-7,mail,real" in capsys.readouterr().out
    for wrong in (["adopt"], ["adopt", " "], ["adopt", "A", "B", "--name", "x"], ["adopt", "A", "--arn", "x"],
                  ["list", "nobody"], ["list", "--format", "sarif"], ["retire"], ["retire", "mail"]):  # fmt: skip
        assert main(["canary", *wrong]) == 2


def test_adopt_refuses_a_living_finding_unless_it_is_called_real(rng: random.Random) -> None:
    from firedamp.storage.records import Batch, Finding, KeyKind, Match, Status, Verification
    from firedamp.storage.secret import fingerprint

    key_id, at = make_key_id(rng), datetime.now(UTC)
    name = fingerprint("aws-access-key", key_id, None)
    finding = Finding(
        fingerprint=name, kind=KeyKind.ACCESS_KEY, access_key_id=key_id, account_id=None, has_secret=True,
        first_seen=at, last_seen=at,
    )  # fmt: skip
    with Store(Path(os.environ["FIREDAMP_DB"])) as store:
        match = Match(blob="0" * 40, line=1, column=1, kind=KeyKind.ACCESS_KEY)
        store.record(Batch(at=at, detector="t", found=((finding, match),)))
        store.set_verification(name, Verification(status=Status.ACTIVE, at=at), None)
    assert main(["canary", "adopt", key_id]) == 2
    assert main(["canary", "adopt", key_id, "--real"]) == 0
    with Store(Path(os.environ["FIREDAMP_DB"])) as store:
        assert store.findings(key_id=key_id)[0].verification.status is Status.ACTIVE
    assert main(["canary", "adopt", key_id, "--force"]) == 0


@pytest.mark.parametrize(
    ("others", "pattern"),
    [
        ([], DEFAULT),
        (["svc-mail-prod", "svc-hr-dev"], "svc-" + DEFAULT),
        (["mail-prod", "hr-dev"], DEFAULT),
        (["svc-mail-prod-x7q2"], "svc-mail-prod-x7q2-{alnum:4}"),
        (["x" * 64], "x" * 59 + "-{alnum:4}"),
        (["a-rather-long-beginning-of-names-1", "a-rather-long-beginning-of-names-2"],
         "a-rather-long-beginning-of-names--{alnum:4}"),
    ],
)  # fmt: skip
def test_a_name_like_others_begins_as_they_do(others: list[str], pattern: str) -> None:
    assert like(others) == pattern
    (name,) = names(pattern, 1, others, os.urandom)
    assert len(name) <= 64
