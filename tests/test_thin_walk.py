"""The thin walk: from a key in a folder, and from a record in a trail file, to a line that a machine reads."""

from __future__ import annotations

import gzip
import io
import json
import random
from pathlib import Path

import pytest
from tests.builders import make_key_id, make_secret

from firedamp.service import cli


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_key_in_a_folder_is_found_and_its_secret_is_nowhere(
    tmp_path: Path, rng: random.Random, capsys: pytest.CaptureFixture[str]
) -> None:
    key_id, secret = make_key_id(rng, "123456789012"), make_secret(rng)
    (tmp_path / "credentials").write_text(
        f"[default]\naws_access_key_id = {key_id}\naws_secret_access_key = {secret}\n"
    )
    assert cli.main(["scan", str(tmp_path), "--offline", "--format", "jsonl"]) == 1
    found, summary = lines(capsys)
    assert found["access_key_id"] == key_id
    assert found["account_id"] == "123456789012"
    assert found["secret"] is None
    assert found["has_secret"] is True
    match = found["matches"][0]  # type: ignore[index]
    assert (match["path"], match["line"], match["column"]) == (str(tmp_path / "credentials"), 2, 21)
    assert summary["summary"]["read"]["files"] == 1  # type: ignore[index]
    database = (Path.home() / "firedamp.db").read_bytes()
    assert key_id.encode() in database
    assert secret.encode() not in database


def test_a_clean_folder_is_0_and_a_scan_of_nothing_is_2(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    assert cli.main(["scan", str(empty), "--offline", "--quiet"]) == 2
    (empty / "file").write_text("nothing to see")
    assert cli.main(["scan", str(empty), "--offline", "--quiet"]) == 0
    assert cli.main(["scan", str(tmp_path / "missing"), "--offline", "--quiet"]) == 2


def test_a_finding_that_went_away_is_not_reported(tmp_path: Path, rng: random.Random) -> None:
    file = tmp_path / "file"
    file.write_text(f"{make_key_id(rng)} {make_secret(rng)}")
    assert cli.main(["scan", str(tmp_path), "--offline"]) == 1
    file.write_text("cleaned up")
    assert cli.main(["scan", str(tmp_path), "--offline"]) == 0


def test_the_database_is_private(tmp_path: Path) -> None:
    database = tmp_path / "state" / "x.db"
    (tmp_path / "file").write_text("clean")
    cli.main(["scan", str(tmp_path / "file"), "--offline", "--db", str(database)])
    assert database.stat().st_mode & 0o777 == 0o600


def record(event_id: str, key_id: str, time: str, **more: object) -> dict[str, object]:
    return {
        "eventVersion": "1.11",
        "eventID": event_id,
        "eventTime": time,
        "eventName": "GetCallerIdentity",
        "eventSource": "sts.amazonaws.com",
        "awsRegion": "us-east-1",
        "sourceIPAddress": "203.0.113.7",
        "userIdentity": {"type": "IAMUser", "accessKeyId": key_id, "arn": "arn:aws:iam::123456789012:user/backup"},
        **more,
    }


def test_a_use_of_an_adopted_canary_opens_one_incident(
    tmp_path: Path, rng: random.Random, capsys: pytest.CaptureFixture[str]
) -> None:
    key_id, other = make_key_id(rng), make_key_id(rng)
    assert cli.main(["canary", "adopt", key_id, "--arn", "arn:aws:iam::123456789012:user/backup"]) == 0
    records = [
        record("e1", key_id, "2026-11-20T10:00:00Z"),
        record("e2", other, "2026-11-20T10:01:00Z", userIdentity={"accessKeyId": other}),
        record("e3", other, "2026-11-20T10:02:00Z", errorCode="AccessDenied"),
    ]
    (tmp_path / "trail.json.gz").write_bytes(gzip.compress(json.dumps({"Records": records}).encode()))
    watch = ["watch", "--feed", tmp_path.as_uri(), "--once", "--format", "jsonl"]
    assert cli.main(watch) == 1
    (incident,) = lines(capsys)
    assert incident["key"] == key_id
    assert incident["sightings"] == {"use": 1, "derived": 1, "mention": 0, "tamper": 0}
    assert [event["id"] for event in incident["events"]] == ["e1", "e3"]  # type: ignore[attr-defined]
    assert incident["denied"] == 1
    assert cli.main(watch) == 0, "the same records again are nothing new"


def test_standard_input_is_a_source(
    rng: random.Random, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    key_id = make_key_id(rng)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(f"export X={key_id}\n".encode())))
    assert cli.main(["scan", "-", "--offline", "--format", "jsonl"]) == 1
    found, _ = lines(capsys)
    assert found["access_key_id"] == key_id
    assert found["matches"][0]["source"] == "stdin"  # type: ignore[index]


def test_targets_and_options_come_in_any_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("one", "two"):
        (tmp_path / name).write_text("clean")
    one, two = str(tmp_path / "one"), str(tmp_path / "two")
    assert cli.main(["scan", one, "--offline", two, "--format", "jsonl"]) == 0
    (summary,) = lines(capsys)
    assert summary["summary"]["read"]["files"] == 2  # type: ignore[index]
    assert cli.main(["scan", one, "--offline", two, "--no-such-option"]) == 2
    assert capsys.readouterr().err == "firedamp: scan takes no --no-such-option\n  see firedamp scan --help\n"


def test_an_empty_target_is_no_folder(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["scan", "", "--offline"]) == 2
    assert "names nothing" in capsys.readouterr().err


def test_what_was_decided_is_counted_and_not_called_nothing(
    tmp_path: Path, rng: random.Random, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text(f"aws_access_key_id={make_key_id(rng)}\naws_secret_access_key={make_secret(rng)}\n")
    assert cli.main(["scan", str(tmp_path), "--offline", "--format", "jsonl"]) == 1
    fingerprint = str(lines(capsys)[0]["fingerprint"])
    cli.main(["findings", "set", fingerprint, "--state", "accepted", "--reason", "a test"])
    capsys.readouterr()
    assert cli.main(["scan", str(tmp_path), "--offline"]) == 0
    told = capsys.readouterr().out
    assert "No key to show." in told
    assert "not shown: 1 finding" in told
