"""The doctor names every gap with the next command, and asks AWS nothing but who we are and what we may."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.scenes import allow, start_trail

from firedamp.service import cli, needs
from firedamp.service.loopback import Loopback, LoopbackKey
from firedamp.storage.records import PageRead, Watermark
from firedamp.storage.store import Store


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, dict[str, str]]]:
    status = cli.main(["doctor", *arguments, "--format", "jsonl"])
    return status, {(line := json.loads(each))["check"]: line for each in capsys.readouterr().out.splitlines()}


def act_as(aws: Loopback, key: LoopbackKey, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", aws.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key.id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key.secret.reveal())


def test_a_fresh_machine_is_told_every_next_step(capsys: pytest.CaptureFixture[str]) -> None:
    status, checks = run(capsys, "--offline")
    assert status == 1
    assert checks["git"]["state"] == checks["database"]["state"] == "fine"
    for name in ("configuration", "scans", "canaries", "feeds", "alerts", "service"):
        assert checks[name]["state"] == "missing"
        assert checks[name]["next"], name
    assert checks["AWS"]["state"] == "unknown"
    assert cli.main(["doctor", "--offline"]) == 1
    assert "firedamp scan" in capsys.readouterr().out


def test_what_an_identity_may_not_do_comes_with_the_missing_statement(
    aws: Loopback, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    allowed = [each.action for each in needs.AUDIT if each.action != "iam:GetPolicyVersion"]
    act_as(aws, aws.add_user("auditor", inline={"a": allow(*allowed, "iam:SimulatePrincipalPolicy")}), monkeypatch)
    _, checks = run(capsys)
    audit = checks["access for audit"]
    assert audit["state"] == "missing"
    (statement,) = json.loads(audit["next"].partition(": ")[2])
    assert statement["Action"] == ["iam:GetPolicyVersion"]
    assert statement["Resource"].endswith(":policy/some")


def test_an_administrator_lacks_nothing_and_nobody_is_told_to_log_in(
    aws: Loopback, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    act_as(aws, aws.admin, monkeypatch)
    _, checks = run(capsys)
    assert {checks[f"access for {role}"]["state"] for role in ("audit", "mint", "watch")} == {"fine"}
    act_as(aws, aws.add_user("nobody"), monkeypatch)
    _, checks = run(capsys)
    assert checks["access for audit"]["state"] == "unknown", "it may not even ask"
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    _, checks = run(capsys)
    assert checks["access for audit"]["state"] == "missing"


def narrowed(aws: Loopback, *, without: str = "") -> str:
    """Return a policy of the watch role that names one queue, one bucket, one trail and one user."""
    on = {
        needs.QUEUES: f"arn:aws:sqs:us-east-1:{aws.account}:records", needs.BUCKETS: "arn:aws:s3:::logs",
        needs.OBJECTS: "arn:aws:s3:::logs/*", needs.USERS: f"arn:aws:iam::{aws.account}:user/svc-*",
        needs.TRAILS: f"arn:aws:cloudtrail:us-east-1:{aws.account}:trail/main",
        needs.RULES: f"arn:aws:events:*:{aws.account}:rule/*",
    }  # fmt: skip
    statements = [
        {"Effect": "Allow", "Action": each.action, "Resource": on.get(each.on, "*")}
        for each in needs.WATCH
        if each.action not in {without, "cloudwatch:PutMetricData"}
    ]
    beat = {"Effect": "Allow", "Action": "cloudwatch:PutMetricData", "Resource": "*",
            "Condition": {"StringEquals": {"cloudwatch:namespace": "firedamp"}}}  # fmt: skip
    ask = {"Effect": "Allow", "Action": "iam:SimulatePrincipalPolicy", "Resource": "*"}
    return json.dumps({"Version": "2012-10-17", "Statement": [*statements, beat, ask]})


def test_a_policy_that_is_narrowed_to_what_is_configured_lacks_nothing(
    aws: Loopback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    start_trail(aws)
    canary = aws.add_user("svc-backup")
    cli.main(["canary", "adopt", canary.id, "--arn", f"arn:aws:iam::{aws.account}:user/svc-backup"])
    monkeypatch.setenv("BEAT", "cloudwatch://us-east-1/firedamp/heartbeat")
    config = tmp_path / "c.toml"
    config.write_text(
        f'[watch]\nfeeds = ["sqs://us-east-1/{aws.account}/records", "s3://logs/AWSLogs/?region=us-east-1"]\n'
        'heartbeat = "env:BEAT"\n'
    )
    act_as(aws, aws.add_user("watcher", inline={"w": narrowed(aws)}), monkeypatch)
    _, checks = run(capsys, "--config", str(config))
    assert checks["access for watch"]["state"] == "fine", checks["access for watch"]

    act_as(aws, aws.add_user("worse", inline={"w": narrowed(aws, without="sqs:DeleteMessage")}), monkeypatch)
    _, checks = run(capsys, "--config", str(config))
    watch = checks["access for watch"]
    assert watch["state"] == "missing"
    (statement,) = json.loads(watch["next"].partition(": ")[2])
    assert statement["Action"] == ["sqs:DeleteMessage"]
    assert statement["Resource"] == f"arn:aws:sqs:us-east-1:{aws.account}:records"


def test_where_nothing_names_what_a_role_is_for_a_denial_proves_nothing(
    aws: Loopback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    minting = json.loads(needs.policy("mint"))
    for statement in minting["Statement"]:
        if statement["Resource"] == needs.USERS:
            statement["Resource"] = f"arn:aws:iam::{aws.account}:user/svc-*"
    ask = {"Effect": "Allow", "Action": "iam:SimulatePrincipalPolicy", "Resource": "*"}
    minting["Statement"].append(ask)
    act_as(aws, aws.add_user("minter", inline={"m": json.dumps(minting)}), monkeypatch)
    _, checks = run(capsys)
    mint = checks["access for mint"]
    assert mint["state"] == "unknown"
    assert "user/some" in mint["detail"]
    assert "not narrowed to others on purpose" in mint["next"]
    # Event history is read from no queue and no bucket, and no metric is sent.
    config = tmp_path / "c.toml"
    config.write_text('[watch]\nfeeds = ["lookup://us-east-1"]\nheartbeat = "env:NOT_SET"\n')
    actions = [each.action for each in needs.WATCH if each.action.split(":")[0] not in {"sqs", "s3"}]
    actions = [each for each in actions if each != "cloudwatch:PutMetricData"]
    act_as(aws, aws.add_user("reader", inline={"w": allow(*actions, ask["Action"])}), monkeypatch)
    _, checks = run(capsys, "--config", str(config))
    assert checks["access for watch"]["state"] == "fine", checks["access for watch"]


def test_a_feed_that_was_not_read_for_long_is_a_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    now = datetime.now(UTC)
    with Store(Path.home() / "firedamp.db") as store:
        for feed, hours in (("file:///old", 5), ("file:///new", 0)):
            mark = Watermark(feed=feed, position="", newest=now, polled=now - timedelta(hours=hours))
            store.record_page(PageRead(feed=feed, watermark=mark), lambda *_: (), now)
    status, checks = run(capsys, "--offline")
    assert status == 2
    assert checks["feed file:///old"]["state"] == "failed"
    assert checks["feed file:///new"]["state"] == "fine"
    config = tmp_path / "c.toml"
    config.write_text('[watch]\nfeeds = ["file:///never"]\n[[channel]]\nname = "out"\nurl = "env:OUT"\n')
    _, checks = run(capsys, "--offline", "--config", str(config))
    assert "watch --once" in checks["feed file:///never"]["next"]
    assert checks["alerts"]["state"] == "fine"


def test_a_broken_configuration_or_database_hides_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, database = tmp_path / "c.toml", tmp_path / "x.db"
    config.write_text("nonsense")
    status, checks = run(capsys, "--offline", "--config", str(config))
    assert status == 2
    assert checks["configuration"]["state"] == "failed"
    assert checks["database"]["state"] == "fine"
    config.write_text("nonsense = 1\n[scan]\nfoo = 2\n")
    assert cli.main(["doctor", "--offline", "--config", str(config)]) == 2
    assert "2 to mend\n      nonsense: no such option\n      scan.foo: no such option\n" in capsys.readouterr().out
    database.write_text("no database at all, but some text")
    _, checks = run(capsys, "--offline", "--db", str(database))
    assert checks["database"]["state"] == "failed"


def test_a_session_of_a_role_is_asked_about_as_its_role() -> None:
    from firedamp.service.doctor import _source

    role = "arn:aws:sts::123456789012:assumed-role/audit/session"
    assert _source(role) == "arn:aws:iam::123456789012:role/audit"
    assert _source("arn:aws:iam::123456789012:user/a") == "arn:aws:iam::123456789012:user/a"
