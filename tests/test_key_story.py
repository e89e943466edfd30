"""The story of a key: found in a repository, alive, shown as administrator, disabled with its sessions, and refused."""

from __future__ import annotations

import json
import random
import subprocess
from collections.abc import Callable
from pathlib import Path

import boto3
import pytest
from botocore.exceptions import ClientError
from tests.builders import make_key_id, make_secret
from tests.scenes import allow

from firedamp.service import cli
from firedamp.service.loopback import Loopback, LoopbackKey
from firedamp.storage.records import Severity
from firedamp.storage.store import Store


def configure(aws: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the administrator's key be this user's own access."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", aws.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", aws.admin.id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", aws.admin.secret.reveal())


def leak(path: Path, key: LoopbackKey, profile: str = "default") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f"# my keys\n[{profile}]\naws_access_key_id = {key.id}  \naws_secret_access_key = {key.secret.reveal()}\n"
        "region = eu-west-1\n"
    )
    path.chmod(0o600)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, object], str]:
    status = cli.main([*arguments, "--format", "jsonl"])
    told = capsys.readouterr()
    return status, json.loads(told.out.splitlines()[0]) if told.out else {}, told.err


def test_a_leaked_administrator_key_from_the_find_to_the_proof_that_it_is_dead(
    aws: Loopback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # A deploy key of an administrator is committed, and removed again: the history keeps it.
    key = aws.add_user("deploy", inline={"rights": allow("*")})
    repository = tmp_path / "app"
    leak(repository / "aws.ini", key)
    for arguments in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "x"], ["rm", "-q", "aws.ini"],
                      ["commit", "-q", "-m", "y"]):  # fmt: skip
        subprocess.run(
            ["git", "-c", "user.name=A", "-c", "user.email=a@b.c", "-C", str(repository), *arguments], check=True
        )
    # The scan finds it, and AWS says that it lives.
    configure(aws, monkeypatch)
    status, found, _ = run(capsys, "scan", str(repository))
    assert status == 1
    assert found["verification"]["status"] == "ACTIVE"  # type: ignore[index]
    # Its story says what it can do; the list of findings is sorted by it.
    _, story, _ = run(capsys, "key", "show", key.id)
    assert (story["user"], story["administrator"], story["severity"]) == ("deploy", True, "critical")
    assert run(capsys, "verify", key.id)[0] == 1, "it still lives, and is no smaller for it"
    repository.rename(tmp_path / "moved")
    assert run(capsys, "verify", key.id)[0] == 1, "nor when it cannot be asked about any more"
    (tmp_path / "moved").rename(repository)
    with Store(Path.home() / "firedamp.db") as store:
        assert store.findings()[0].severity is Severity.CRITICAL
    # A thief has made a session of it.
    thief = aws.client("sts", key).get_session_token()["Credentials"]
    session = boto3.Session(thief["AccessKeyId"], thief["SecretAccessKey"], thief["SessionToken"])
    session.client("s3", endpoint_url=aws.url).list_buckets()
    # Without --yes nothing changes.
    assert run(capsys, "key", "disable", key.id)[0] == 0
    session.client("s3", endpoint_url=aws.url).list_buckets()
    # With it, the key and the session are dead, and both are proved.
    status, _, told = run(capsys, "key", "disable", key.id, "--yes")
    assert status == 0
    assert "STS refuses the key" in told
    with pytest.raises(ClientError, match="AccessDenied"):
        session.client("s3", endpoint_url=aws.url).list_buckets()
    with Store(Path.home() / "firedamp.db") as store:
        assert {finding.verification.status.value for finding in store.findings()} == {"REJECTED"}
        assert [(action.step, action.outcome) for action in store.key_actions(key.id)] == [
            ("iam:PutUserPolicy", "done"), ("iam:GetUserPolicy", "done"), ("iam:UpdateAccessKey", "done"),
        ]  # fmt: skip
    assert key.secret.reveal().encode() not in (Path.home() / "firedamp.db").read_bytes()


def test_the_leaked_key_itself_is_used_only_when_asked_and_says_what_it_calls(
    aws: Loopback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", aws.url)
    key = aws.add_user("self", inline={"rights": allow("iam:*")})
    leak(tmp_path / "keys", key)
    run(capsys, "scan", str(tmp_path), "--offline")
    _, story, _ = run(capsys, "key", "show", key.id)
    assert story["user"] is None
    assert story["unknown"], "our own access cannot be used, and it says so"
    _, story, told = run(capsys, "key", "show", key.id, "--with-leaked-key")
    assert story["user"] == "self"
    assert story["escalation"] == ["iam:CreatePolicyVersion"]
    assert "with the leaked key itself, read-only: iam:GetAccessKeyLastUsed" in told
    status, _, told = run(capsys, "key", "disable", key.id, "--with-leaked-key", "--yes")
    assert status == 0
    assert "STS refuses the key" in told


def test_what_can_be_known_offline_is_told_offline(
    tmp_path: Path, rng: random.Random, capsys: pytest.CaptureFixture[str]
) -> None:
    key_id = make_key_id(rng, "123456789012")
    (tmp_path / "file").write_text(f"{key_id} {make_secret(rng)}")
    run(capsys, "scan", str(tmp_path), "--offline")
    assert cli.main(["key", "show", key_id, "--offline"]) == 0
    told = capsys.readouterr().out
    assert "account 123456789012" in told
    assert str(tmp_path / "file") in told
    assert "--offline" in told


def test_canaries_are_never_touched(rng: random.Random, capsys: pytest.CaptureFixture[str]) -> None:
    own = make_key_id(rng)
    cli.main(["canary", "adopt", own])
    for key_id in (own, make_key_id(rng, "052310077262")):
        for action in ("disable", "rotate", "revoke-sessions"):
            assert cli.main(["key", action, key_id, "--yes"]) == 2
    assert cli.main(["key", "disable", make_key_id(rng), "--offline"]) == 2
    assert "contacts nobody" in capsys.readouterr().err


@pytest.fixture
def at_home(
    aws: Loopback, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., LoopbackKey]:
    def make() -> LoopbackKey:
        key = aws.add_user("dev", inline={"rights": allow("s3:*")})
        leak(Path.home() / ".aws" / "credentials", key, "work")
        (Path.home() / "project").mkdir(exist_ok=True)
        dotenv = Path.home() / "project" / ".env"
        dotenv.write_text(f"AWS_ACCESS_KEY_ID={key.id}\nAWS_SECRET_ACCESS_KEY={key.secret.reveal()}\nOTHER=1\n")
        dotenv.chmod(0o600)
        (Path.home() / ".aws" / "config").write_text(
            "[profile admin]\nregion = us-east-1\n[profile work]\nregion = us-east-1\n"
        )
        with (Path.home() / ".aws" / "credentials").open("a") as file:
            file.write(
                f"[admin]\naws_access_key_id = {aws.admin.id}\naws_secret_access_key = {aws.admin.secret.reveal()}\n"
            )
        monkeypatch.setenv("AWS_ENDPOINT_URL", aws.url)
        run(capsys, "scan", str(Path.home()), "--offline")
        return key

    return make


def test_a_rotation_rewrites_known_places_proves_them_and_retires_the_old_key(
    aws: Loopback, at_home: Callable[..., LoopbackKey], capsys: pytest.CaptureFixture[str]
) -> None:
    key = at_home()
    status, _, told = run(capsys, "key", "rotate", key.id, "--profile", "admin")
    assert status == 0
    assert "gets the new key" in told
    assert key.id in (Path.home() / ".aws" / "credentials").read_text(), "without --yes nothing changes"
    status, _, told = run(capsys, "key", "rotate", key.id, "--profile", "admin", "--yes")
    assert status == 0, told
    credentials = (Path.home() / ".aws" / "credentials").read_text()
    assert credentials.startswith("# my keys\n[work]\naws_access_key_id = AKIA")
    assert key.id not in credentials
    assert "OTHER=1" in (Path.home() / "project" / ".env").read_text()
    assert key.secret.reveal() not in (Path.home() / "project" / ".env").read_text()
    assert boto3.Session(profile_name="work").client("sts").get_caller_identity()["Arn"].endswith("user/dev")
    keys = aws.client("iam").list_access_keys(UserName="dev")["AccessKeyMetadata"]
    assert {each["AccessKeyId"]: each["Status"] for each in keys}[key.id] == "Inactive"
    backups = list(Path.home().rglob("backups/*"))
    assert backups == [], "proven, so the backup is gone"


def test_a_copy_that_cannot_be_rewritten_blocks_until_it_is_left(
    aws: Loopback, at_home: Callable[..., LoopbackKey], capsys: pytest.CaptureFixture[str]
) -> None:
    key = at_home()
    history = Path.home() / ".bash_history"
    history.write_text(f"export AWS_ACCESS_KEY_ID={key.id} AWS_SECRET_ACCESS_KEY={key.secret.reveal()}\n")
    run(capsys, "scan", str(Path.home()), "--offline")
    status, _, told = run(capsys, "key", "rotate", key.id, "--profile", "admin", "--yes")
    assert status == 2
    assert ".bash_history" in told
    assert len(aws.client("iam").list_access_keys(UserName="dev")["AccessKeyMetadata"]) == 1
    status, _, told = run(capsys, "key", "rotate", key.id, "--profile", "admin", "--yes", "--leave", str(history))
    assert status == 0, told
    assert key.id in history.read_text()


def test_a_rotation_that_fails_puts_everything_back(
    aws: Loopback, at_home: Callable[..., LoopbackKey], capsys: pytest.CaptureFixture[str]
) -> None:
    key = at_home()
    files = [path for path in Path.home().rglob("*") if path.is_file() and "firedamp" not in str(path)]
    before = {path: path.read_bytes() for path in files}
    aws.refuse_next("iam:UpdateAccessKey", "ServiceFailure", "out of order", times=10)
    status, _, told = run(capsys, "key", "rotate", key.id, "--profile", "admin", "--yes")
    assert status == 2
    assert "as they were" in told
    assert {path: path.read_bytes() for path in files} == before
    keys = aws.client("iam").list_access_keys(UserName="dev")["AccessKeyMetadata"]
    assert [each["AccessKeyId"] for each in keys] == [key.id]


def test_sessions_can_be_revoked_alone(
    aws: Loopback, at_home: Callable[..., LoopbackKey], capsys: pytest.CaptureFixture[str]
) -> None:
    key = at_home()
    status, _, told = run(capsys, "key", "revoke-sessions", key.id, "--profile", "admin", "--yes")
    assert status == 0
    assert "are denied" in told
    aws.client("s3", key).list_buckets()
