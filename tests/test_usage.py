"""`firedamp usage`: who used a key before and since it leaked."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.builders import make_key_id, make_secret
from tests.trails import ACCOUNT, Record, at, record, role, trail, user

from firedamp.canaries.usage import network
from firedamp.service import cli
from firedamp.storage import nonce
from firedamp.storage.records import (
    Batch,
    Finding,
    GitProvenance,
    KeyKind,
    Match,
    Met,
    OwnCall,
    Status,
    Verification,
)
from firedamp.storage.secret import Fingerprint
from firedamp.storage.store import Store
from firedamp.storage.times import parse_time

LEAK = 30


def leaked_key(key_id: str, arn: str | None = None) -> None:
    """Remember a finding: key_id, committed half an hour after ten."""
    time = parse_time(at(LEAK))
    assert time is not None
    said = Verification(status=Status.ACTIVE, at=time, arn=arn, account_id=ACCOUNT)
    finding = Finding(
        fingerprint=Fingerprint("f" * 32), kind=KeyKind.ACCESS_KEY, access_key_id=key_id, account_id=ACCOUNT,
        has_secret=True, verification=said, first_seen=time, last_seen=time,
    )  # fmt: skip
    match = Match(blob="b" * 40, line=1, column=1, kind=KeyKind.ACCESS_KEY, secret_here=True)
    place = GitProvenance(repository="https://git.example/acme/app", commit="c" * 40, path="deploy.sh", date=time)
    with Store(Path.home() / "firedamp.db") as store:
        met = Met(source="git", blob="b" * 40, provenance=place)
        store.record(Batch(at=time, detector="1", found=((finding, match),), met=(met,)))


@pytest.fixture
def tell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Return `firedamp usage` over a folder with these records, as text or as its JSON."""

    def run(key_id: str, *records: Record, form: str = "json") -> Any:
        (tmp_path / "trail.json.gz").write_bytes(trail(*records))
        assert cli.main(["usage", key_id, "--feed", tmp_path.as_uri(), "--format", form]) == 0
        text = capsys.readouterr().out
        return text if form == "table" else json.loads(text)

    return run


def test_before_and_since_the_leak_are_told_apart(tell: Callable[..., Any], rng: random.Random) -> None:
    key_id = make_key_id(rng, ACCOUNT)
    leaked_key(key_id)
    thief = {"sourceIPAddress": "198.51.100.9", "userAgent": "[Boto3/1.34.1 md/Botocore#1.34]"}
    told = tell(
        key_id,
        record(user(key_id), 0, name="ListBuckets", eventSource="s3.amazonaws.com"),
        record(user(key_id), LEAK, **thief),
        record(user(key_id), 40, name="CreateUser", eventSource="iam.amazonaws.com", errorCode="AccessDenied", **thief),
        record(user(key_id), 41, name="PutObject", eventSource="s3.amazonaws.com", awsRegion="eu-west-1", **thief),
        record(role(), 42),
    )
    assert told["leaked"] == at(LEAK)
    assert told["leaks"] == [{"place": "https://git.example/acme/app: deploy.sh", "at": at(LEAK), "by_commit": True}]
    assert (told["before"]["calls"], told["before"]["addresses"]) == (1, {"203.0.113.7": 1})
    after = told["after"]
    assert (after["calls"], after["reads"], after["writes"], after["denied"]) == (3, 1, 1, 1)
    assert after["addresses"] == {"198.51.100.9": 3}
    assert after["networks"] == {"198.51.100.0/24": 3}
    assert after["agents"] == {"Python, Boto3 1.34": 3}
    assert after["services"] == {"iam": 1, "s3": 1, "sts": 1}
    assert after["regions"] == {"us-east-1": 2, "eu-west-1": 1}
    assert (after["first"], after["last"]) == (at(LEAK), at(41))


def test_sessions_made_from_a_key_are_followed(tell: Callable[..., Any], rng: random.Random) -> None:
    key_id, first, second = make_key_id(rng), make_key_id(rng, prefix="ASIA"), make_key_id(rng, prefix="ASIA")

    def made(session: str) -> Record:
        return {"responseElements": {"credentials": {"accessKeyId": session}}}

    told = tell(
        key_id,
        record(role(second), 3, name="RunInstances"),
        record(role(first), 2, name="AssumeRole", **made(second)),
        record(role(key_id), 1, name="AssumeRole", **made(first)),
        record(role(), 4),
    )
    assert told["sessions"] == [first, second]
    assert told["after"]["calls"] == 3
    assert told["after"]["kinds"] == {"derived": 2, "use": 1}
    assert told["leaked"] is None


def test_what_the_owner_did_is_told_when_aws_named_the_owner(tell: Callable[..., Any], rng: random.Random) -> None:
    key_id = make_key_id(rng, ACCOUNT)
    leaked_key(key_id, arn=f"arn:aws:iam::{ACCOUNT}:user/svc-backup")
    assert tell(key_id, record(user(""), 40, name="ConsoleLogin"))["after"]["kinds"] == {"derived": 1}


def test_our_own_calls_are_counted_apart(tell: Callable[..., Any], rng: random.Random) -> None:
    key_id, made = make_key_id(rng), nonce.make(rng.randbytes(16))
    time = parse_time(at(0))
    assert time is not None
    with Store(Path.home() / "firedamp.db") as store:
        call = "sts:GetCallerIdentity"
        store.add_own_call(
            OwnCall(nonce=made, key_id=key_id, principal=key_id, call=call, host="x", at=time, purpose="verify")
        )
    told = tell(key_id, record(user(key_id), userAgent=nonce.mark(made)), record(user(key_id), 1))
    assert (told["own"], told["after"]["calls"]) == (1, 1)


def test_the_story_fits_a_screen(tell: Callable[..., Any], rng: random.Random) -> None:
    key_id = make_key_id(rng, ACCOUNT)
    leaked_key(key_id)
    crowd = [record(user(key_id), 40 + n, sourceIPAddress=f"198.51.{n}.1") for n in range(40)]
    text = tell(key_id, record(user(key_id), 0, userAgent="evil\x1b[2J"), *crowd, form="table")
    assert "\x1b" not in text
    assert len(text.splitlines()) <= 24
    assert "SINCE IT LEAKED  40 calls: 40 reads" in text
    assert "never before" in text
    assert "and 34 more" in text


def test_silence_is_not_told_as_safety(tell: Callable[..., Any], rng: random.Random) -> None:
    text = tell(make_key_id(rng), form="table")
    assert "no record is no proof" in text
    assert "no finding holds this key" in text


def test_a_feed_that_cannot_be_read_makes_2(
    tmp_path: Path, rng: random.Random, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.json.gz").write_bytes(trail(record(role()))[:-9])
    assert cli.main(["usage", make_key_id(rng), "--feed", tmp_path.as_uri()]) == 2
    assert "failed" in capsys.readouterr().out
    assert cli.main(["usage", make_key_id(rng), "--feed", "sqs://us-east-1/1/q"]) == 2
    assert cli.main(["usage", make_key_id(rng), "--feed", tmp_path.as_uri(), "--format", "csv"]) == 2


@pytest.mark.parametrize(
    ("address", "around"),
    [("198.51.100.9", "198.51.100.0/24"), ("2001:db8:1:2::3", "2001:db8:1::/48"), ("10.1.2.3", "10.1.2.0/24"),
     ("AWS Internal", "aws internal"), ("ec2.amazonaws.com", "aws service"), ("", "missing"), ("x y", "other")],
)  # fmt: skip
def test_an_address_has_a_network_around_it(address: str, around: str) -> None:
    assert network(address) == around


def test_a_key_found_in_a_file_leaked_when_it_was_first_seen(
    tmp_path_factory: pytest.TempPathFactory, tell: Callable[..., Any], rng: random.Random,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    place = tmp_path_factory.mktemp("home")
    key_id = make_key_id(rng, ACCOUNT)
    (place / "credentials").write_text(
        f"[default]\naws_access_key_id = {key_id}\naws_secret_access_key = {make_secret(rng)}\n"
    )
    (place / "copy").write_text((place / "credentials").read_text())
    assert cli.main(["scan", str(place), "--offline", "--quiet"]) == 1
    capsys.readouterr()
    told = tell(key_id, record(user(key_id), 0))
    assert [(each["place"], each["by_commit"]) for each in told["leaks"]] == [
        (str(place / "copy"), False), (str(place / "credentials"), False)
    ]  # fmt: skip
    assert (told["before"]["calls"], told["after"]["calls"]) == (1, 0)
    text = tell(key_id, form="table")
    assert "first seen" in text
    assert "and in 1 other place" in text
    for name in ("copy", "credentials"):
        (place / name).write_text("clean")
    assert cli.main(["scan", str(place), "--offline", "--quiet"]) == 0
    capsys.readouterr()
    told = tell(key_id, record(user(key_id), 0))
    assert [each["place"] for each in told["leaks"]] == ["where it is no longer"]
    assert (told["before"]["calls"], told["after"]["calls"]) == (1, 0), "when it leaked is still known"


def test_what_the_watch_recorded_is_told_without_a_feed(
    tmp_path: Path, rng: random.Random, capsys: pytest.CaptureFixture[str]
) -> None:
    key_id = make_key_id(rng, ACCOUNT)
    cli.main(["canary", "adopt", key_id])
    (tmp_path / "trail.json.gz").write_bytes(trail(record(user(key_id), 0)))
    cli.main(["watch", "--once", "--feed", tmp_path.as_uri()])
    capsys.readouterr()
    assert cli.main(["usage", key_id]) == 0
    told = capsys.readouterr().out
    assert "1 call: 1 reads" in told
    assert "only what the watch recorded" in told


def test_a_feed_that_cannot_be_asked_at_all_makes_2(rng: random.Random, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["usage", make_key_id(rng), "--feed", "lookup://us-east-1", "--offline"]) == 2
    assert "offline contacts nobody" in capsys.readouterr().out
