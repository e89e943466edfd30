"""Our own access to AWS on the loopback AWS: profiles work as users have them, and our calls know themselves."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from firedamp.service.aws import Aws, failures
from firedamp.service.loopback import Loopback, LoopbackKey
from firedamp.storage import nonce
from firedamp.storage.errors import AwsFailure
from firedamp.storage.records import OwnCall
from firedamp.storage.secret import Secret


def configure(aws: Loopback, key: LoopbackKey, monkeypatch: pytest.MonkeyPatch, more: str = "") -> None:
    folder = Path.home() / ".aws"
    folder.mkdir()
    (folder / "credentials").write_text(
        f"[default]\naws_access_key_id={key.id}\naws_secret_access_key={key.secret.reveal()}\n"
    )
    (folder / "config").write_text(f"[default]\nregion = eu-west-1\n{more}")
    monkeypatch.setenv("AWS_ENDPOINT_URL", aws.url)


def make(calls: list[OwnCall] | None = None) -> Aws:
    written = [] if calls is None else calls
    return Aws(now=lambda: datetime.now(UTC), random=os.urandom, write_down=written.append)


def test_the_identity_is_the_profiles(aws: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    configure(aws, aws.admin, monkeypatch)
    assert make().identity() == aws.client("sts").get_caller_identity()["Arn"]
    with pytest.raises(AwsFailure, match="no-such-profile"):
        make().identity("no-such-profile")


def test_a_call_with_a_purpose_is_written_down_before_it_is_sent_and_carries_its_nonce(
    aws: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(aws, aws.admin, monkeypatch)
    calls: list[OwnCall] = []
    ours = make(calls)
    with ours.about("AKIAEXAMPLEEXAMPLE22"):
        ours.iam(purpose="net").list_users()
    ours.iam(purpose="net").list_users()
    ours.sts().get_caller_identity()
    first, second = calls
    assert (first.key_id, first.principal, first.call) == ("AKIAEXAMPLEEXAMPLE22", aws.admin.id, "iam:ListUsers")
    assert second.key_id is None
    assert first.nonce != second.nonce
    events = aws.client("cloudtrail").lookup_events()["Events"]
    agents = {json.loads(event["CloudTrailEvent"])["userAgent"] for event in events}
    assert {mark for agent in agents for mark in nonce.found(agent)} == {first.nonce, second.nonce}
    assert all("firedamp" in agent for agent in agents if "list" in agent.lower())


def test_a_retry_is_a_request_of_its_own(aws: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    configure(aws, aws.admin, monkeypatch)
    calls: list[OwnCall] = []
    aws.refuse_next("iam:ListUsers", "Throttling", "Rate exceeded", times=1)
    make(calls).iam(purpose="net").list_users()
    assert len({call.nonce for call in calls}) == len(calls) == 2


def test_what_aws_refuses_says_what_was_tried_and_what_to_do(aws: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    aws.add_user("nobody")
    configure(aws, aws.add_key("nobody"), monkeypatch)
    ours = make()
    with (
        pytest.raises(AwsFailure, match="users cannot be listed: AccessDenied") as caught,
        failures("users cannot be listed"),
    ):
        ours.iam().list_users()
    assert "deploy/policies" in caught.value.hint
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    with pytest.raises(AwsFailure, match="cannot be asked"):
        make().identity()


def test_a_role_is_assumed_once_for_many_processes(aws: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    trust = {"Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"AWS": aws.account}}]}
    role = aws.client("iam").create_role(RoleName="audit", AssumeRolePolicyDocument=json.dumps(trust))["Role"]["Arn"]
    configure(aws, aws.admin, monkeypatch, f"[profile audit]\nrole_arn = {role}\nsource_profile = default\n")
    assert "assumed-role/audit/" in make().identity("audit")
    (cached,) = (Path.home() / ".aws" / "cli" / "cache").iterdir()
    assert cached.stat().st_mode & 0o777 == 0o600
    before = len(aws.client("cloudtrail").lookup_events(
        LookupAttributes=[{"AttributeKey": "EventName", "AttributeValue": "AssumeRole"}])["Events"])  # fmt: skip
    assert "assumed-role/audit/" in make().identity("audit")
    after = len(aws.client("cloudtrail").lookup_events(
        LookupAttributes=[{"AttributeKey": "EventName", "AttributeValue": "AssumeRole"}])["Events"])  # fmt: skip
    assert before == after == 1


@pytest.mark.parametrize(
    ("region", "host"),
    [
        ("eu-west-1", "iam.amazonaws.com"),
        ("cn-northwest-1", "iam.cn-north-1.amazonaws.com.cn"),
        ("us-gov-east-1", "iam.us-gov.amazonaws.com"),
        ("no-such-region", "iam.amazonaws.com"),
    ],
)
def test_iam_is_asked_in_the_partition_of_the_profile(region: str, host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    (Path.home() / ".aws").mkdir()
    (Path.home() / ".aws" / "config").write_text(f"[default]\nregion = {region}\n")
    assert make().iam().meta.endpoint_url == f"https://{host}"


def test_a_leaked_key_is_used_in_its_own_partition_whatever_our_region_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    leaked = make().leaked("AKIAIOSFODNN7EXAMPLE", Secret("x"), None, "aws-cn")
    assert leaked.iam().meta.endpoint_url == "https://iam.cn-north-1.amazonaws.com.cn"
