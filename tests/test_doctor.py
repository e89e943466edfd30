"""The doctor names every gap with the next command, and asks AWS nothing but who we are and what we may."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.scenes import allow

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
    statement = json.loads(audit["next"].partition(": ")[2])
    assert statement["Action"] == ["iam:GetPolicyVersion"]


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
    database.write_text("no database at all, but some text")
    _, checks = run(capsys, "--offline", "--db", str(database))
    assert checks["database"]["state"] == "failed"


def test_a_session_of_a_role_is_asked_about_as_its_role() -> None:
    from firedamp.service.doctor import _source

    role = "arn:aws:sts::123456789012:assumed-role/audit/session"
    assert _source(role) == "arn:aws:iam::123456789012:role/audit"
    assert _source("arn:aws:iam::123456789012:user/a") == "arn:aws:iam::123456789012:user/a"
