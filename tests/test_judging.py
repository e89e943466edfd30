"""A leaked key is found, asked about, and the answer kept: over the loopback AWS, from the command line."""

from __future__ import annotations

import json
import random
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.builders import make_key_id, make_secret

from firedamp.service import cli, judging
from firedamp.service.config import VerifyConfig
from firedamp.service.loopback import Loopback, LoopbackKey
from firedamp.storage.keyid import account_of
from firedamp.storage.records import AlertKind, Status
from firedamp.storage.store import Store


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, list[dict[str, object]]]:
    status = cli.main([*arguments, "--format", "jsonl"])
    return status, [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def database() -> Path:
    return Path.home() / "firedamp.db"


@pytest.fixture
def key(aws: Loopback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LoopbackKey:
    """Leak the key of a user in a file, `one`."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", aws.url)
    made = aws.add_user("deploy")
    (tmp_path / "one").write_text(f"aws_access_key_id = {made.id}\naws_secret_access_key = {made.secret.reveal()}\n")
    return made


def test_a_scan_asks_aws_once_and_an_alert_goes_into_the_outbox(
    aws: Loopback, key: LoopbackKey, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "two").write_bytes((tmp_path / "one").read_bytes())
    status, (found, _) = run(capsys, "scan", str(tmp_path))
    assert status == 1
    assert found["verification"]["status"] == "ACTIVE"  # type: ignore[index]
    assert found["verification"]["arn"].endswith(":user/deploy")  # type: ignore[index]
    with Store(database()) as store:
        assert [alert.kind for _, alert in store.alerts()] == [AlertKind.LEAK]
        assert len(store.own_calls()) == 1, "one call a credential, however often it was found"
    run(capsys, "scan", str(tmp_path))
    _, log = run(capsys, "verify", "--log")
    assert [(line["key"], line["call"]) for line in log] == [(key.id, "sts:GetCallerIdentity")]
    aws.client("iam").update_access_key(UserName="deploy", AccessKeyId=key.id, Status="Inactive")
    status, (again,) = run(capsys, "verify", key.id)
    assert status == 0
    assert again["verification"]["status"] == "REJECTED"  # type: ignore[index]
    assert key.secret.reveal().encode() not in database().read_bytes()


@pytest.mark.parametrize("command", ["scan", "verify"])
def test_a_key_whose_account_is_known_for_honeytokens_since_it_was_found_is_not_asked_about(
    aws: Loopback, key: LoopbackKey, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    config = tmp_path / "firedamp.toml"
    time.sleep(0.15)
    run(capsys, "scan", str(tmp_path), "--offline")
    config.write_text(f'[scan]\ncanary_accounts = ["{account_of(key.id)}"]\n')
    run(capsys, command, str(tmp_path) if command == "scan" else key.id, "--config", str(config))
    with Store(database()) as store:
        assert store.own_calls() == []
        (finding,) = store.findings()
    assert (finding.canary, finding.verification.status) == (True, Status.CANARY)


@pytest.mark.parametrize("command", ["scan", "verify"])
def test_a_key_whose_account_is_known_for_honeytokens_no_more_is_asked_about(
    aws: Loopback, key: LoopbackKey, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    config = tmp_path / "firedamp.toml"
    config.write_text(f'[scan]\ncanary_accounts = ["{account_of(key.id)}"]\n')
    time.sleep(0.15)
    run(capsys, "scan", str(tmp_path), "--config", str(config))
    run(capsys, command, str(tmp_path) if command == "scan" else key.id)
    with Store(database()) as store:
        (finding,) = store.findings()
    assert (finding.canary, finding.verification.status) == (False, Status.ACTIVE)


def test_a_key_that_is_said_to_be_revoked_and_lives_is_open_again_and_an_alarm(
    aws: Loopback, key: LoopbackKey, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def revoked(*, active: bool) -> int:
        run(capsys, "findings", "set", key.id, "--state", "revoked", "--reason", "in the console")
        aws.client("iam").update_access_key(
            UserName="deploy", AccessKeyId=key.id, Status="Active" if active else "Inactive"
        )
        return run(capsys, "scan", str(tmp_path))[0]

    assert run(capsys, "scan", str(tmp_path))[0] == 1
    assert revoked(active=True) == 1
    _, (found,) = run(capsys, "findings", "list")
    assert found["state"] == "open"
    with Store(database()) as store:
        assert store.findings()[0].state_reason.endswith("in the console")
        assert [alert.kind for _, alert in store.alerts()] == [AlertKind.LEAK, AlertKind.LEAK]
    assert revoked(active=False) == 0
    assert run(capsys, "scan", str(tmp_path))[0] == 0


def test_an_answer_that_decides_nothing_takes_nothing_back_and_is_no_second_alarm(
    aws: Loopback, key: LoopbackKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _, (found, _) = run(capsys, "scan", str(tmp_path))
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    for _ in range(2):
        status, (unknown,) = run(capsys, "verify", key.id)
        assert (status, unknown["verification"]["status"]) == (2, "UNKNOWN")  # type: ignore[index]
        assert unknown["verification"]["arn"] == found["verification"]["arn"]  # type: ignore[index]
        assert unknown["severity"] == found["severity"] == "HIGH"
    monkeypatch.setenv("AWS_ENDPOINT_URL", aws.url)
    assert run(capsys, "verify", key.id)[0] == 1
    with Store(database()) as store:
        assert [alert.kind for _, alert in store.alerts()] == [AlertKind.LEAK]


def test_a_key_that_may_not_be_asked_about_any_more_stays_what_aws_called_it_and_is_told_again_when_it_lives_again(
    aws: Loopback, key: LoopbackKey, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pair = (tmp_path / "one").read_text()

    def verify(more: str = "", *, active: bool = True) -> tuple[object, object]:
        aws.client("iam").update_access_key(
            UserName="deploy", AccessKeyId=key.id, Status="Active" if active else "Inactive"
        )
        (tmp_path / "one").write_text(f"[default]\n{pair}{more}")
        run(capsys, "scan", str(tmp_path), "--offline")
        _, (found,) = run(capsys, "verify", key.id)
        return found["verification"]["status"], found["severity"]  # type: ignore[index]

    minio = "endpoint_url = https://minio.example.com:9000\n"
    assert verify() == verify(minio) == ("ACTIVE", "HIGH"), "nobody asked, so nothing is known that was not"
    assert verify(active=False) == verify(minio, active=False) == ("REJECTED", "INFO")
    assert verify() == ("ACTIVE", "HIGH")
    with Store(database()) as store:
        assert [alert.kind for _, alert in store.alerts()] == [AlertKind.LEAK, AlertKind.LEAK]


@pytest.mark.usefixtures("key")
def test_the_table_says_why_an_answer_decides_nothing(
    aws: Loopback, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    aws.wall = lambda: datetime.now(UTC) + timedelta(hours=1)
    for arguments in (["scan", str(tmp_path)], ["verify", "--all"], ["findings"]):
        cli.main(arguments)
        assert "UNKNOWN (1): clock: AWS says that our time is wrong" in capsys.readouterr().out


@pytest.mark.usefixtures("key")
def test_a_key_that_two_processes_ask_about_at_once_is_one_alarm_and_keeps_what_the_other_learned(
    aws: Loopback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(capsys, "scan", str(tmp_path), "--offline")
    with Store(database()) as store:
        findings = store.findings()
        judging.judge(store, findings, VerifyConfig(), every=True)
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
        judging.judge(store, findings, VerifyConfig(), every=True)
        monkeypatch.setenv("AWS_ENDPOINT_URL", aws.url)
        judging.judge(store, findings, VerifyConfig(), every=True)
        assert [alert.kind for _, alert in store.alerts()] == [AlertKind.LEAK]


def test_offline_contacts_nobody_and_canaries_are_never_sent(
    aws: Loopback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rng: random.Random,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("AWS_ENDPOINT_URL", aws.url)
    own, known = make_key_id(rng), make_key_id(rng, "052310077262")
    for name, key_id in (("own", own), ("known", known), ("other", make_key_id(rng))):
        (tmp_path / name).write_text(f"aws_access_key_id={key_id}\naws_secret_access_key={make_secret(rng)}\n")
    assert cli.main(["canary", "adopt", own]) == 0
    status, lines = run(capsys, "scan", str(tmp_path), "--offline")
    assert status == 1
    by_id = {line["access_key_id"]: line for line in lines[:-1]}
    assert by_id[own]["canary"] is by_id[known]["canary"] is True
    with Store(database()) as store:
        assert store.own_calls() == []
    assert run(capsys, "verify", "--all")[0] == 0
    with Store(database()) as store:
        assert {call.key_id for call in store.own_calls()}.isdisjoint({own, known})
        assert len(store.own_calls()) == 1


def test_a_secret_whose_source_is_gone_says_so(
    aws: Loopback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rng: random.Random,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("AWS_ENDPOINT_URL", aws.url)
    file = tmp_path / "file"
    key_id = make_key_id(rng)
    file.write_text(f"aws_access_key_id={key_id}\naws_secret_access_key={make_secret(rng)}\n")
    run(capsys, "scan", str(tmp_path), "--offline")
    file.unlink()
    _, (found,) = run(capsys, "verify", "--all")
    assert "the source is gone" in found["verification"]["detail"]  # type: ignore[index]
    assert cli.main(["verify", "no-such-id"]) == 2
    assert cli.main(["verify", "--all", "--offline"]) == 2
    assert cli.main(["verify", "--log"]) == 0
    assert cli.main(["verify", key_id, "--quiet"]) == 0
