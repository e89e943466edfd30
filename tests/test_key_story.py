"""The story of a key: found in a repository, alive, shown as administrator, disabled with its sessions, and refused."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
import pytest
from botocore.exceptions import ClientError
from tests.builders import make_key_id, make_secret
from tests.scenes import DENY_ALL, allow, code, make_role, session_key

from firedamp.service import cli
from firedamp.service.aws import Aws
from firedamp.service.keys import Desk
from firedamp.service.loopback import Loopback, LoopbackKey
from firedamp.service.loopback_identity import Identity
from firedamp.service.loopback_wire import Call, Refusal, Reply
from firedamp.service.options import Common, KeyOptions
from firedamp.service.story import Story, asked
from firedamp.storage.records import Severity, Status, Verification
from firedamp.storage.store import Store

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment
    from types_boto3_iam import IAMClient


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


@pytest.mark.parametrize(
    ("rights", "graded"),
    [
        (allow("*"), Severity.CRITICAL),
        (allow("s3:*"), Severity.HIGH),
        (allow("s3:*", Condition={"IpAddress": {"aws:SourceIp": "192.0.2.1"}}), Severity.MEDIUM),
        (DENY_ALL, Severity.LOW),
    ],
)
def test_a_key_whose_rights_were_known_first_keeps_their_grade_and_is_told_once_when_aws_says_that_it_lives(
    aws: Loopback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *,
    rights: str, graded: Severity,
) -> None:  # fmt: skip
    key = aws.add_user("deploy", inline={"rights": rights})
    leak(tmp_path / "keys", key)
    configure(aws, monkeypatch)
    run(capsys, "scan", str(tmp_path), "--offline")
    run(capsys, "key", "show", key.id)

    def verify(*, url: str = aws.url) -> tuple[Status, Severity | None]:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        run(capsys, "verify", key.id)
        with Store(Path.home() / "firedamp.db") as store:
            (finding,) = store.findings()
        return finding.verification.status, finding.severity

    assert verify(url="http://127.0.0.1:1") == (Status.UNKNOWN, graded), "no answer is no other grade"
    assert verify() == verify() == (Status.ACTIVE, graded)
    with Store(Path.home() / "firedamp.db") as store:
        ((_, alert),) = store.alerts()
    assert (alert.severity, alert.key_id) == (max(graded, Severity.HIGH), key.id), "loud once, however little it may do"
    assert ("rights", f"{graded.name.lower()}, as firedamp key show read them") in alert.facts
    iam = aws.client("iam")
    iam.update_access_key(UserName="deploy", AccessKeyId=key.id, Status="Inactive")
    assert verify() == (Status.REJECTED, Severity.INFO)
    iam.update_access_key(UserName="deploy", AccessKeyId=key.id, Status="Active")
    assert verify() == (Status.ACTIVE, graded)
    with Store(Path.home() / "firedamp.db") as store:
        assert len(store.alerts()) == 2, "it came back to life"


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
    status, _, told = run(capsys, "key", "rotate", key.id, "--profile", "admin")
    assert status == 2
    assert "cut off" not in told


def test_a_rotation_rewrites_a_copy_in_a_folder_whose_name_is_masked(
    aws: Loopback, at_home: Callable[..., LoopbackKey], capsys: pytest.CaptureFixture[str], rng: random.Random
) -> None:
    key = at_home()
    folder = Path.home() / f"{make_key_id(rng)}:{make_secret(rng).replace('/', '+')}"
    folder.mkdir()
    (Path.home() / "project" / ".env").rename(folder / ".env")
    run(capsys, "scan", str(Path.home()), "--offline")
    status, out, told = run(capsys, "key", "rotate", key.id, "--profile", "admin", "--yes")
    assert status == 0, told
    assert key.secret.reveal() not in (folder / ".env").read_text()
    assert f"{folder.name[:20]}:[secret]/.env" in told
    assert folder.name not in f"{out}{told}"


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


def test_a_session_of_just_now_is_denied_though_our_clock_is_behind(
    aws: Loopback, at_home: Callable[..., LoopbackKey], capsys: pytest.CaptureFixture[str]
) -> None:
    key = at_home()
    aws.wall = aws.clock = lambda: datetime.now(UTC) + timedelta(minutes=4)
    minted = session_key(aws.client("sts", key).get_session_token()["Credentials"])
    assert code(aws.client("s3", minted).list_buckets) == "OK"
    assert run(capsys, "key", "revoke-sessions", key.id, "--profile", "admin", "--yes")[0] == 0
    assert code(aws.client("s3", minted).list_buckets) == "AccessDenied"


def test_a_leaked_session_is_told_by_its_holder_and_denied(
    aws: Loopback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    key = aws.add_user("dev", inline={"rights": allow("s3:*")})
    role = make_role(aws, "deploy", {"AWS": aws.account}, rights=allow("*"))
    sts = aws.client("sts")
    of_user = session_key(aws.client("sts", key).get_session_token()["Credentials"])
    of_role = session_key(sts.assume_role(RoleArn=role, RoleSessionName="ci")["Credentials"])
    federated = session_key(sts.get_federation_token(Name="guest", Policy=allow("*"))["Credentials"])
    for each in (of_user, of_role, federated):
        token = "" if each.token is None else each.token.reveal()
        (tmp_path / f"{each.id}.env").write_text(
            f"AWS_ACCESS_KEY_ID={each.id}\nAWS_SECRET_ACCESS_KEY={each.secret.reveal()}\nAWS_SESSION_TOKEN={token}\n"
        )
    configure(aws, monkeypatch)
    run(capsys, "scan", str(tmp_path), "--offline")
    status, _, told = run(capsys, "key", "revoke-sessions", of_role.id)
    assert (status, f"firedamp verify {of_role.id} asks, while it lives" in told) == (2, True)
    run(capsys, "verify", "--all")
    _, story, _ = run(capsys, "key", "show", of_user.id)
    assert (story["user"], story["role"], story["severity"]) == ("dev", None, "high")
    _, story, _ = run(capsys, "key", "show", of_role.id)
    assert (story["user"], story["role"], story["unknown"]) == (None, "deploy", ["what its role may do is not read"])
    for action in ("disable", "rotate"):
        status, _, told = run(capsys, "key", action, of_user.id, "--yes")
        assert (status, f"firedamp key revoke-sessions {of_user.id} denies it" in told) == (2, True)
    for each, holder in ((of_user, "dev"), (of_role, "deploy")):
        assert code(aws.client("s3", each).list_buckets) == "OK"
        status, _, told = run(capsys, "key", "revoke-sessions", each.id, "--yes")
        assert (status, f"denied with every other session of {holder}" in told) == (0, True)
        assert code(aws.client("s3", each).list_buckets) == "AccessDenied"
        assert cli.main(["key", "show", each.id]) == 0
        assert f"session of {'user' if each is of_user else 'role'}" in capsys.readouterr().out
    status, _, told = run(capsys, "key", "revoke-sessions", federated.id, "--yes")
    assert (status, "no policy of a user or role is over it alone" in told) == (2, True)


def test_a_session_of_another_account_is_not_taken_for_one_of_a_namesakes(
    aws: Loopback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    aws.add_user("dev")
    aws.add_account("210987654321")
    theirs = aws.add_user("dev", account="210987654321")
    minted = session_key(aws.client("sts", theirs).get_session_token()["Credentials"])
    assert minted.token is not None
    (tmp_path / ".env").write_text(
        f"AWS_ACCESS_KEY_ID={minted.id}\nAWS_SECRET_ACCESS_KEY={minted.secret.reveal()}\n"
        f"AWS_SESSION_TOKEN={minted.token.reveal()}\n"
    )
    configure(aws, monkeypatch)
    assert run(capsys, "scan", str(tmp_path))[0] == 1
    status, _, told = run(capsys, "key", "revoke-sessions", minted.id, "--yes")
    assert status == 2
    assert "its session is of account 210987654321, and the profile acts in account 123456789012" in told
    assert "use a profile of its account" in told
    assert aws.client("iam").list_user_policies(UserName="dev")["PolicyNames"] == []


def rotated(capsys: pytest.CaptureFixture[str], key: LoopbackKey, *more: str) -> tuple[int, str]:
    status, _, told = run(capsys, "key", "rotate", key.id, "--profile", "admin", "--yes", *more)
    return status, told


def test_a_place_that_cannot_be_rewritten_is_known_before_a_key_is_made(
    aws: Loopback, at_home: Callable[..., LoopbackKey], capsys: pytest.CaptureFixture[str]
) -> None:
    key = at_home()
    half, linked, shared = (Path.home() / name for name in ("half/.env", "linked/.env", "shared/.env"))
    for path in (half, linked, shared):
        leak(path, key)
    (Path.home() / "real").mkdir()
    run(capsys, "scan", str(Path.home()), "--offline")
    half.write_text(f"AWS_ACCESS_KEY_ID={key.id}\n")
    linked.rename(Path.home() / "real" / "env")
    linked.symlink_to(Path.home() / "real" / "env")
    (Path.home() / "real" / "other").hardlink_to(shared)
    status, _, told = run(capsys, "key", "rotate", key.id, "--profile", "admin")
    assert status == 0
    for path, why in ((half, "does not hold the old key"), (linked, "is it a link"), (shared, "other names")):
        assert any(str(path) in line and "stays" in line and why in line for line in told.splitlines()), told
    assert rotated(capsys, key)[0] == 2
    assert len(aws.client("iam").list_access_keys(UserName="dev")["AccessKeyMetadata"]) == 1
    status, told = rotated(capsys, key, *(part for path in (half, linked, shared) for part in ("--leave", str(path))))
    assert status == 0, told


def test_a_user_with_two_keys_is_told_so_before_anything_is_done(
    aws: Loopback, at_home: Callable[..., LoopbackKey], capsys: pytest.CaptureFixture[str]
) -> None:
    key = at_home()
    other = aws.add_key("dev")
    status, _, told = run(capsys, "key", "rotate", key.id, "--profile", "admin")
    assert status == 0
    assert f"--yes is refused: dev has two keys already: {other.id} (Active)" in told
    assert rotated(capsys, key)[0] == 2


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGKILL])
def test_a_rotation_that_is_ended_is_taken_back_and_one_that_is_killed_says_what_it_left(
    aws: Loopback, at_home: Callable[..., LoopbackKey], capsys: pytest.CaptureFixture[str], ending: signal.Signals,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    key, answer, reached, ended = at_home(), Loopback._answer, threading.Event(), threading.Event()

    def wait(self: Loopback, call: Call, identity: Identity, environ: WSGIEnvironment) -> Reply:
        if call.operation == "GetCallerIdentity" and identity.key_id != aws.admin.id:
            reached.set()  # the files are written, and the new key is about to be proved
            ended.wait(60)
        return answer(self, call, identity, environ)

    monkeypatch.setattr(Loopback, "_answer", wait)
    command = [sys.executable, "-m", "firedamp.service.cli", "key", "rotate", key.id, "--profile", "admin", "--yes"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert reached.wait(120)
        process.send_signal(ending)
        told = process.communicate(timeout=120)[1]
    ended.set()
    monkeypatch.setattr(Loopback, "_answer", answer)
    keys = {each["AccessKeyId"] for each in aws.client("iam").list_access_keys(UserName="dev")["AccessKeyMetadata"]}
    if ending == signal.SIGTERM:
        assert "the files are as they were" in told
        assert keys == {key.id}
        assert key.id in (Path.home() / ".aws" / "credentials").read_text()
    else:
        assert boto3.Session(profile_name="work").client("sts").get_caller_identity()["Arn"].endswith("user/dev")
        (new,) = keys - {key.id}
        status, told = rotated(capsys, key)
        assert status == 2
        assert f"a rotation that was cut off made {new}" in told
        run(capsys, "scan", str(Path.home()), "--offline")
        _, _, told = run(capsys, "key", "rotate", key.id, "--profile", "admin", "--leave", "*")
        assert f"{new} (Active) is of a rotation that was cut off" in told, told


def test_a_rotation_whose_last_answer_is_lost_leaves_the_key_that_works(
    aws: Loopback, at_home: Callable[..., LoopbackKey], capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    key = at_home()
    # AWS made the old key inactive, and the answer did not arrive; each try again is refused.
    answer = Loopback._answer

    def lose(self: Loopback, call: Call, identity: Identity, environ: WSGIEnvironment) -> Reply:
        reply = answer(self, call, identity, environ)
        if call.operation == "UpdateAccessKey":
            raise Refusal("ServiceFailure", "lost", 500)
        return reply

    monkeypatch.setattr(Loopback, "_answer", lose)
    status, told = rotated(capsys, key)
    assert status == 2
    assert "is Inactive" in told
    assert boto3.Session(profile_name="work").client("sts").get_caller_identity()["Arn"].endswith("user/dev")
    assert key.id not in (Path.home() / "project" / ".env").read_text()


def test_the_new_key_is_proved_in_the_partition_of_its_user_alone(
    aws: Loopback, at_home: Callable[..., LoopbackKey], capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    key, answer, regions = at_home(), Loopback._answer, set[str]()
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    config = Path.home() / ".aws" / "config"
    config.write_text(config.read_text().replace("[profile work]\nregion = us-east-1", "[profile work]"))
    credentials = Path.home() / ".aws" / "credentials"
    credentials.write_text(credentials.read_text().replace("region = eu-west-1\n", ""))

    def abroad(iam: IAMClient, story: Story) -> Story:
        told = asked(iam, story)
        return replace(told, arn=(told.arn or "").replace("arn:aws:", "arn:aws-cn:"))

    def note(self: Loopback, call: Call, identity: Identity, environ: WSGIEnvironment) -> Reply:
        if call.operation == "GetCallerIdentity" and identity.key_id not in {aws.admin.id, key.id}:
            regions.add(call.region)
        return answer(self, call, identity, environ)

    monkeypatch.setattr("firedamp.service.keys.asked", abroad)
    monkeypatch.setattr(Loopback, "_answer", note)
    status, told = rotated(capsys, key)
    assert status == 0, told
    assert regions == {"cn-north-1"}


def test_a_new_key_is_kept_while_a_file_holds_it(
    aws: Loopback, at_home: Callable[..., LoopbackKey], capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    key = at_home()
    dotenv, answer = Path.home() / "project" / ".env", Loopback._answer

    def move(self: Loopback, call: Call, identity: Identity, environ: WSGIEnvironment) -> Reply:
        # While the old key is made inactive, somebody puts a link in a file's place, so that it cannot be put back.
        if call.operation == "UpdateAccessKey":
            if not dotenv.is_symlink():
                dotenv.rename(dotenv.with_name("moved"))
                dotenv.symlink_to("moved")
            raise Refusal("AccessDenied", "no", 403)
        return answer(self, call, identity, environ)

    monkeypatch.setattr(Loopback, "_answer", move)
    status, told = rotated(capsys, key)
    assert status == 2
    new = dotenv.read_text().partition("AWS_ACCESS_KEY_ID=")[2][:20]
    assert new in {each["AccessKeyId"] for each in aws.client("iam").list_access_keys(UserName="dev")[
        "AccessKeyMetadata"]}  # fmt: skip
    assert f"{new} is kept" in told
    assert "old content is kept in" in told


def test_what_somebody_else_wrote_meanwhile_stays_when_a_rotation_is_taken_back(
    aws: Loopback, at_home: Callable[..., LoopbackKey], capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    key = at_home()
    credentials, answer = Path.home() / ".aws" / "credentials", Loopback._answer
    before = credentials.read_text()

    def add(self: Loopback, call: Call, identity: Identity, environ: WSGIEnvironment) -> Reply:
        if call.operation == "UpdateAccessKey":
            with credentials.open("a") as file:
                file.write("[added]\nregion = eu-west-1\n")
            raise Refusal("AccessDenied", "no", 403)
        return answer(self, call, identity, environ)

    monkeypatch.setattr(Loopback, "_answer", add)
    status, told = rotated(capsys, key)
    assert status == 2
    assert credentials.read_text() == f"{before}[added]\nregion = eu-west-1\n", told
    assert [
        each["AccessKeyId"] for each in aws.client("iam").list_access_keys(UserName="dev")["AccessKeyMetadata"]
    ] == [key.id]


@pytest.mark.parametrize("ended", [OSError(5, "Input/output error"), SystemExit(143)])
def test_a_rotation_that_ends_just_behind_the_writing_of_a_file_leaves_a_key_that_works_in_it(
    aws: Loopback, at_home: Callable[..., LoopbackKey], capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch, ended: BaseException,
) -> None:  # fmt: skip
    key = at_home()
    credentials, sync, left = Path.home() / ".aws" / "credentials", os.fsync, [ended]
    before = credentials.read_text()

    def fail(handle: int) -> None:
        if os.fstat(handle).st_ino == credentials.parent.stat().st_ino and left:
            raise left.pop()
        sync(handle)

    monkeypatch.setattr(os, "fsync", fail)
    with contextlib.suppress(SystemExit):
        rotated(capsys, key)
    assert not left
    assert credentials.read_text() == before
    assert [
        each["AccessKeyId"] for each in aws.client("iam").list_access_keys(UserName="dev")["AccessKeyMetadata"]
    ] == [key.id]


def test_a_key_that_was_made_though_its_answer_was_lost_is_named(
    aws: Loopback, at_home: Callable[..., LoopbackKey], capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    key, answer = at_home(), Loopback._answer

    def lose(self: Loopback, call: Call, identity: Identity, environ: WSGIEnvironment) -> Reply:
        reply = answer(self, call, identity, environ)
        if call.operation == "CreateAccessKey":
            raise Refusal("ServiceFailure", "lost", 500)
        return reply

    with monkeypatch.context() as patched:
        patched.setattr(Loopback, "_answer", lose)
        status, told = rotated(capsys, key)
    keys = {each["AccessKeyId"] for each in aws.client("iam").list_access_keys(UserName="dev")["AccessKeyMetadata"]}
    (lost,) = keys - {key.id}
    assert status == 2
    assert f"{lost} (Active) was made meanwhile, and nobody has its secret" in told
    status, told = rotated(capsys, key)
    assert status == 2
    assert f"{lost} (Active) is of a rotation that was cut off" in told


@pytest.mark.parametrize("ending", ["[work]\nregion = x\n", "[other\n", "region x\n"])
def test_a_credentials_file_that_no_program_can_read_ends_in_words_and_as_it_was(
    aws: Loopback, at_home: Callable[..., LoopbackKey], capsys: pytest.CaptureFixture[str], ending: str
) -> None:
    # Our own access is the leaked key: a profile of that file could not be used at all.
    key = at_home()
    credentials = Path.home() / ".aws" / "credentials"
    before = credentials.read_text() + ending
    credentials.write_text(before)
    aws.client("iam").put_user_policy(UserName="dev", PolicyName="more", PolicyDocument=allow("iam:*"))
    status, _, told = run(capsys, "key", "rotate", key.id, "--with-leaked-key", "--yes")
    assert status == 2
    assert f"{credentials}:9 cannot be read by any AWS program" in told
    assert "Traceback" not in told
    assert credentials.read_text() == before


def test_a_profile_of_the_configuration_file_is_proved_as_well(
    aws: Loopback, at_home: Callable[..., LoopbackKey], capsys: pytest.CaptureFixture[str]
) -> None:
    key = at_home()
    config = Path.home() / ".aws" / "config"
    keys = f"aws_access_key_id = {key.id}\naws_secret_access_key = {key.secret.reveal()}\n"
    before = f"{config.read_text()}[profile other]\n{keys}"
    config.write_text(f"{before}credential_process = false\n")
    config.chmod(0o600)
    run(capsys, "scan", str(Path.home()), "--offline")
    status, told = rotated(capsys, key)
    assert status == 2, "programs that use the profile would not get the new key"
    assert "profile other does not work with the new key" in told
    config.write_text(before)
    status, told = rotated(capsys, key)
    assert status == 0, told
    assert "firedamp key revoke-sessions" in told


@pytest.mark.parametrize("section", ['profile "my other"', "profile\tother", "other", "profile a b", "profile 'a"])
def test_a_section_of_the_configuration_file_is_the_profile_that_programs_take_it_for(
    aws: Loopback, at_home: Callable[..., LoopbackKey], capsys: pytest.CaptureFixture[str], section: str
) -> None:
    key = at_home()
    config = Path.home() / ".aws" / "config"
    with config.open("a") as file:
        file.write(f"[{section}]\naws_access_key_id = {key.id}\naws_secret_access_key = {key.secret.reveal()}\n")
    config.chmod(0o600)
    run(capsys, "scan", str(Path.home()), "--offline")
    status, told = rotated(capsys, key)
    assert status == 0, told
    assert key.id not in config.read_text()


def test_a_key_is_made_inactive_though_its_sessions_may_not_be_denied(
    aws: Loopback, at_home: Callable[..., LoopbackKey], capsys: pytest.CaptureFixture[str]
) -> None:
    key = at_home()
    role = "arn:aws:iam::123456789012:role/deploy"
    assume = json.loads(allow("sts:AssumeRole"))
    assume["Statement"]["Resource"] = role
    aws.client("iam").put_user_policy(UserName="dev", PolicyName="more", PolicyDocument=json.dumps(assume))
    aws.refuse_next("iam:PutUserPolicy", "AccessDenied", "not allowed", times=10)
    status, _, told = run(capsys, "key", "disable", key.id, "--profile", "admin", "--yes")
    assert status == 2
    assert "STS refuses the key" in told
    assert "sessions made from it are not proved to be denied: iam:PutUserPolicy" in told
    assert f"sessions of roles that it assumed ({role}) are not ended by this" in told
    assert aws.client("iam").list_access_keys(UserName="dev")["AccessKeyMetadata"][0]["Status"] == "Inactive"


def test_what_may_not_be_read_back_is_told_as_done_and_not_proved(
    aws: Loopback, at_home: Callable[..., LoopbackKey], capsys: pytest.CaptureFixture[str]
) -> None:
    key = at_home()
    aws.refuse_next("iam:GetUserPolicy", "AccessDenied", "not allowed", times=10)
    status, _, told = run(capsys, "key", "revoke-sessions", key.id, "--profile", "admin", "--yes")
    assert status == 2
    assert "RevokeOlderSessions was put, but cannot be read back for proof: iam:GetUserPolicy" in told
    assert "firedamp: RevokeOlderSessions" in told
    aws.refuse_next("iam:GetUserPolicy", "AccessDenied", times=0)
    aws.refuse_next("iam:ListAccessKeys", "AccessDenied", "not allowed", times=10)
    status, _, told = run(capsys, "key", "disable", key.id, "--profile", "admin", "--yes")
    assert (status, "STS refuses the key" in told) == (0, True), told


def test_a_key_whose_end_nobody_can_be_asked_about_is_not_called_dead(
    aws: Loopback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    key = aws.add_user("dev")
    leak(tmp_path / "gone" / "credentials", key)
    run(capsys, "scan", str(tmp_path), "--offline")
    (tmp_path / "gone" / "credentials").unlink()
    configure(aws, monkeypatch)
    aws.refuse_next("iam:ListAccessKeys", "AccessDenied", "not allowed", times=10)
    status, _, told = run(capsys, "key", "disable", key.id, "--yes")
    assert status == 2
    assert f"{key.id} was made inactive, but that is not proved: the keys of the user cannot be listed" in told


def test_a_grade_of_rights_goes_by_what_aws_said_of_the_key_meanwhile(
    aws: Loopback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    key = aws.add_user("dev", inline={"admin": allow("*")})
    leak(tmp_path / "credentials", key)
    configure(aws, monkeypatch)
    run(capsys, "scan", str(tmp_path))

    def slowly(iam: IAMClient, story: Story) -> Story:
        told = asked(iam, story)
        aws.client("iam").update_access_key(UserName="dev", AccessKeyId=key.id, Status="Inactive")
        run(capsys, "verify", key.id)
        return told

    monkeypatch.setattr("firedamp.service.keys.asked", slowly)
    run(capsys, "key", "show", key.id)
    with Store(Path.home() / "firedamp.db") as store:
        (finding,) = store.findings()
    assert (finding.verification.status, finding.severity) == (Status.REJECTED, Severity.INFO)
    assert finding.rights is Severity.CRITICAL


@pytest.mark.parametrize("refused", ["ListUserPolicies", "ListAttachedUserPolicies", "ListGroupsForUser"])
def test_rights_that_may_not_be_read_are_not_taken_for_none(
    refused: str, aws: Loopback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gated = allow("s3:*", Condition={"Bool": {"aws:MultiFactorAuthPresent": "true"}})
    key = aws.add_user("dev", inline={"admin": allow("*"), "gated": gated})
    leak(tmp_path / "credentials", key)
    run(capsys, "scan", str(tmp_path), "--offline")
    configure(aws, monkeypatch)
    assert run(capsys, "key", "show", key.id)[1]["severity"] == "critical"
    aws.client("iam").delete_user_policy(UserName="dev", PolicyName="admin")
    aws.refuse_next(f"iam:{refused}", "AccessDenied", "not allowed", times=10)
    _, story, _ = run(capsys, "key", "show", key.id)
    assert story["severity"] == "high", "what cannot be read may need no MFA"
    assert "not allowed" in str(story["unknown"])
    assert run(capsys, "findings", "list")[1]["severity"] == "CRITICAL", "somebody who saw more knew it"
    status, _, told = run(capsys, "key", "revoke-sessions", key.id)
    assert (status, "sessions of roles that it assumed (which is not known)" in told) == (0, True)


def test_the_key_that_one_works_with_is_disabled_without_a_false_alarm(
    aws: Loopback, at_home: Callable[..., LoopbackKey], capsys: pytest.CaptureFixture[str]
) -> None:
    key = at_home()
    aws.client("iam").put_user_policy(UserName="dev", PolicyName="more", PolicyDocument=allow("iam:*"))
    status, _, told = run(capsys, "key", "disable", key.id, "--profile", "work")
    assert status == 0
    assert "you work with this very key" in told
    status, _, told = run(capsys, "key", "disable", key.id, "--profile", "work", "--yes")
    assert status == 0, told
    assert "STS refuses the key" in told


def test_a_root_key_is_said_to_be_one(
    aws: Loopback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    configure(aws, monkeypatch)
    key = aws.add_root_key()
    leak(tmp_path / "keys", key)
    run(capsys, "scan", str(tmp_path))
    status, _, told = run(capsys, "key", "disable", key.id, "--yes")
    assert status == 2
    assert "is a root key" in told
    assert "sign in as root" in told


def test_a_key_is_proved_where_aws_knew_it(
    aws: Loopback, tmp_path: Path, rng: random.Random, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    configure(aws, monkeypatch)
    key_id = make_key_id(rng, aws.account)
    (tmp_path / "file").write_text(f"{key_id} {make_secret(rng)}")
    run(capsys, "scan", str(tmp_path), "--offline")
    with Store(Path.home() / "firedamp.db") as store:
        (finding,) = store.findings(key_id=key_id)
        arn = f"arn:aws-cn:iam::{aws.account}:user/dev"
        said = Verification(status=Status.ACTIVE, at=datetime.now(UTC), arn=arn)
        store.set_verification(finding.fingerprint, said)
        common = Common()
        ours = Aws(now=lambda: datetime.now(UTC), random=os.urandom, write_down=store.add_own_call)
        desk = Desk(store, ours, common.settings(), KeyOptions(action="disable", key_id=key_id), common)
        credential = desk.credential()
        assert credential is not None
        assert desk.partition(credential) == "aws-cn"
