"""The tests by which attackers tell a canary, tried on ours."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.profiles import configure
from tests.scenes import allow

from firedamp.canaries.stealth import REFUSED, Account, Subject, error_text, score, tells
from firedamp.service.cli import main
from firedamp.service.loopback import ACCOUNT, Loopback
from firedamp.storage.keyid import CANARY_ACCOUNTS
from firedamp.storage.store import Store

NOW = datetime(2026, 11, 20, tzinfo=UTC)
OLD = Account(users=60, roles=20, oldest=NOW - timedelta(days=900), aliases=("acme-prod",))


def told_by(subject: Subject, account: Account = OLD, canaries: int = 1) -> list[str]:
    return [tell.test for tell in tells(subject, account, canaries, NOW)]


@pytest.mark.parametrize(
    "name",
    [
        "canarytokens.com@@x8f2", "server01@@kd82", "SpaceCrab", "gg-canary-7", "inf_ht_8f3c2a", "thumper-canary-hr",
        "svc-honeypot", "decoy-user", "6f1c0c8e-2f59-4d0e-9d1f-3c1b2a4d5e6f", "u-6f1c0c8e2f594d0e9d1f3c1b2a4d5e6f",
        "firedamp-1", "hr-trap",
    ],
)  # fmt: skip
def test_a_name_that_the_field_knows_is_fingerprintable(name: str) -> None:
    assert score(list(tells(Subject(name=name), OLD, 1, NOW))) >= REFUSED


@pytest.mark.parametrize("name", ["billing-export-prod-x7k2", "jenkins", "trapezoid-sync"])
def test_a_name_of_a_service_user_tells_nothing(name: str) -> None:
    assert told_by(Subject(name=name)) == []


def test_every_place_that_shows_a_word_is_looked_at() -> None:
    known = min(CANARY_ACCOUNTS)
    assert told_by(Subject(name="x", account_id=known)) == ["known account"]
    assert told_by(Subject(name="x", path="/SpaceCrab/")) == ["path"]
    assert told_by(Subject(name="x", path="/ops/")) == ["path"]
    assert told_by(Subject(name="x", tags=(("purpose", "honeytoken"),))) == ["tag"]
    assert told_by(Subject(name="x", policies=("canary-deny",))) == ["policy name"]
    assert told_by(Subject(name="x", groups=("SpaceSirenGroup",))) == ["group name"]
    assert told_by(Subject(name="x"), Account(aliases=("acme-canaries",))) == ["account alias"]
    assert told_by(Subject(name="x"), Account(oldest=NOW - timedelta(days=2))) == ["account age"]
    assert told_by(Subject(name="x"), Account(users=9), canaries=9) == ["account contents"]
    assert "explicit deny" in error_text("arn:aws:iam::123456789012:user/x")


def lint(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, list[dict[str, object]]]:
    status = main(["canary", "lint", *arguments, "--format", "jsonl"])
    return status, [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_lint_asks_iam_and_says_what_it_may_not_read(
    aws: Loopback, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    configure(aws, monkeypatch)
    assert main(["canary", "mint", "--name", "svc-{n}", "--quiet"]) == 0
    capsys.readouterr()
    status, [line] = lint(capsys)
    assert (status, line["score"], line["unknown"]) == (1, 10, [])  # the account was made a moment ago
    assert str(line["denied_call_says"]).startswith(f"User: arn:aws:iam::{ACCOUNT}:user/svc-1 is not authorized")
    aws.client("iam").put_user_policy(UserName="svc-1", PolicyName="honeytoken", PolicyDocument=allow("sts:*"))
    status, [line] = lint(capsys, "svc-1")
    assert line["refused"] is True
    with Store(Path(os.environ["FIREDAMP_DB"])) as store:
        calls = [call for call in store.own_calls() if call.purpose == "lint"]
        assert {call.key_id for call in calls} == {store.watched()[0].key_id}
    configure(aws, monkeypatch, aws.add_user("nobody"))
    status, [line] = lint(capsys)
    assert (status, len(line["unknown"])) == (2, 7)  # type: ignore[arg-type]
    assert main(["canary", "lint"]) == 2
    assert "AccessDenied" in capsys.readouterr().out


def test_lint_without_anybody_to_ask_judges_what_is_known(
    aws: Loopback, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arn = f"arn:aws:iam::{ACCOUNT}:user/SpaceCrab/svc"
    assert main(["canary", "adopt", "AKIAEXAMPLEEXAMPLE33", "--arn", arn]) == 0
    status, [line] = lint(capsys, "--offline")
    assert (status, line["score"]) == (1, 100)
    status, [line] = lint(capsys)  # no credentials at all
    assert (status, line["score"]) == (2, 100)
    configure(aws, monkeypatch, aws.add_account("210987654321"))
    status, [line] = lint(capsys)
    assert "account 210987654321" in str(line["unknown"])
    assert main(["canary", "adopt", "AKIAEXAMPLEEXAMPLE44"]) == 0
    status, [line] = lint(capsys, "AKIAEXAMPLEEXAMPLE44")
    assert "nobody said whose" in str(line["unknown"])
    assert main(["canary", "lint", "nobody"]) == 2


def test_a_planted_canary_is_one_user_though_it_has_two_keys(
    aws: Loopback, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    configure(aws, monkeypatch)
    assert main(["canary", "mint", "-n", "2", "--name", "svc-{n}", "--quiet"]) == 0
    assert main(["canary", "plant", "svc-1", "--at", str(tmp_path / ".env"), "--as", "env"]) == 0
    aws.add_user("somebody")
    capsys.readouterr()
    # Four users, of whom two are canaries, with three keys.
    assert main(["canary", "lint"]) == 1
    assert "account contents" not in capsys.readouterr().out
