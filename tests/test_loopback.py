"""The loopback AWS says no where AWS says no: signatures, key status, sessions, policies, MFA, in every protocol."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
import urllib.error
import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError, HTTPClientError
from tests.builders import make_key_id, make_secret
from tests.scenes import DENY_ALL, allow, code, make_role, session_key

from firedamp.service.loopback import Loopback, LoopbackKey, main
from firedamp.service.loopback_identity import one_time_code
from firedamp.storage.keyid import account_of
from firedamp.storage.secret import Secret

ONE_CALL_A_PROTOCOL = (
    ("sts", "get_caller_identity"),
    ("iam", "list_users"),
    ("s3", "list_buckets"),
    ("ec2", "describe_instances"),
    ("dynamodb", "list_tables"),
    ("secretsmanager", "list_secrets"),
    ("sqs", "list_queues"),
    ("sns", "list_topics"),
    ("lambda", "list_functions"),
    ("cloudwatch", "list_metrics"),
    ("ses", "list_identities"),
    ("sesv2", "list_email_identities"),
    ("events", "list_rules"),
)


@pytest.fixture
def canary(aws: Loopback) -> LoopbackKey:
    return aws.add_user("svc-backup", inline={"p": DENY_ALL})


def outcomes(aws: Loopback, key: LoopbackKey) -> dict[str, str]:
    return {service: code(getattr(aws.client(service, key), call)) for service, call in ONE_CALL_A_PROTOCOL}


def test_a_good_key_is_told_who_it_is(aws: Loopback) -> None:
    key = aws.add_user("deploy", path="/ci/")
    said = aws.client("sts", key).get_caller_identity()
    assert said["Arn"] == f"arn:aws:iam::{aws.account}:user/ci/deploy"
    assert said["UserId"].startswith("AIDA")
    assert said["Account"] == aws.account == account_of(key.id)


def test_an_administrator_may_call_every_protocol(aws: Loopback) -> None:
    # Not EC2: moto takes five seconds to load it, and no denied call of another test gets that far.
    said = {
        service: code(getattr(aws.client(service), call)) for service, call in ONE_CALL_A_PROTOCOL if service != "ec2"
    }
    assert set(said.values()) == {"OK"}


def test_an_unknown_key_is_refused_in_the_words_of_each_service(aws: Loopback, rng: random.Random) -> None:
    assert outcomes(aws, LoopbackKey(make_key_id(rng), Secret(make_secret(rng)))) == {
        "sts": "InvalidClientTokenId",
        "iam": "InvalidClientTokenId",
        "s3": "InvalidAccessKeyId",
        "ec2": "AuthFailure",
        "dynamodb": "UnrecognizedClientException",
        "secretsmanager": "UnrecognizedClientException",
        "sqs": "InvalidClientTokenId",
        "sns": "InvalidClientTokenId",
        "lambda": "UnrecognizedClientException",
        "cloudwatch": "UnrecognizedClientException",
        "ses": "InvalidClientTokenId",
        "sesv2": "UnrecognizedClientException",
        "events": "UnrecognizedClientException",
    }


def test_a_wrong_secret_is_told_from_an_unknown_key(aws: Loopback, rng: random.Random) -> None:
    said = outcomes(aws, LoopbackKey(aws.admin.id, Secret(make_secret(rng))))
    assert said["sts"] == said["iam"] == said["s3"] == said["sqs"] == "SignatureDoesNotMatch"
    assert said["dynamodb"] == said["lambda"] == "InvalidSignatureException"
    assert said["ec2"] == "AuthFailure"


def test_a_refused_right_is_worded_as_each_service_does(aws: Loopback, canary: LoopbackKey) -> None:
    said = outcomes(aws, canary)
    assert said.pop("sts") == "OK", "no policy can deny GetCallerIdentity"
    assert said["iam"] == said["s3"] == said["sqs"] == "AccessDenied"
    assert said["sns"] == "AuthorizationError"
    assert said["ec2"] == "UnauthorizedOperation"
    assert said["dynamodb"] == said["lambda"] == said["secretsmanager"] == "AccessDeniedException"


def test_an_explicit_deny_and_a_missing_right_read_as_in_aws(aws: Loopback, canary: LoopbackKey) -> None:
    with pytest.raises(ClientError, match="with an explicit deny in an identity-based policy") as denied:
        aws.client("iam", canary).create_user(UserName="x")
    assert f"User: arn:aws:iam::{aws.account}:user/svc-backup is not authorized to perform: iam:CreateUser" in str(
        denied.value
    )
    with pytest.raises(ClientError, match="because no identity-based policy allows the iam:ListUsers action"):
        aws.client("iam", aws.add_user("nobody")).list_users()


def test_an_inactive_key_is_refused_and_an_active_one_again_accepted(aws: Loopback, canary: LoopbackKey) -> None:
    iam = aws.client("iam")
    for status, expected in (("Inactive", "InvalidClientTokenId"), ("Active", "OK")):
        iam.update_access_key(UserName="svc-backup", AccessKeyId=canary.id, Status=status)
        assert code(aws.client("sts", canary).get_caller_identity) == expected


def test_a_deleted_key_and_a_deleted_users_session_are_refused(aws: Loopback) -> None:
    key = aws.add_user("temp")
    session = session_key(aws.client("sts", key).get_session_token()["Credentials"])
    aws.client("iam").delete_access_key(UserName="temp", AccessKeyId=key.id)
    assert code(aws.client("sts", key).get_caller_identity) == "InvalidClientTokenId"
    assert code(aws.client("sts", session).get_caller_identity) == "OK", "sessions outlive their key"
    aws.client("iam").delete_user(UserName="temp")
    assert code(aws.client("sts", session).get_caller_identity) == "InvalidClientTokenId"


def test_root_keys_are_root(aws: Loopback) -> None:
    root = aws.add_root_key()
    assert aws.client("sts", root).get_caller_identity()["Arn"] == f"arn:aws:iam::{aws.account}:root"
    assert code(aws.client("iam", root).list_users) == "OK"


def test_a_request_without_a_signature_is_refused(aws: Loopback) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(aws.url + "/?Action=GetCallerIdentity")
    with refused.value:
        assert refused.value.code == 403


def test_a_presigned_call_is_checked_too(aws: Loopback) -> None:
    url = aws.client("sts").generate_presigned_url("get_caller_identity", HttpMethod="GET")
    with urllib.request.urlopen(url) as answer:
        assert b"user/admin" in answer.read()
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(url[:-4] + "0000")
    with refused.value:
        assert refused.value.code == 403


# Clocks.


@pytest.mark.parametrize(("hours", "words"), [(1, "Signature expired"), (-1, "Signature not yet current")])
def test_a_wrong_clock_is_told_by_its_message_and_date(aws: Loopback, hours: int, words: str) -> None:
    aws.wall = lambda: datetime.now(UTC) + timedelta(hours=hours)
    with pytest.raises(ClientError, match=words) as refused:
        aws.client("sts").get_caller_identity()
    assert refused.value.response["Error"]["Code"] == "SignatureDoesNotMatch"
    date = refused.value.response["ResponseMetadata"]["HTTPHeaders"]["date"]
    off = datetime.strptime(date, "%a, %d %b %Y %H:%M:%S GMT").replace(tzinfo=UTC) - datetime.now(UTC)
    assert abs(off - timedelta(hours=hours)) < timedelta(minutes=1)
    assert code(aws.client("s3").list_buckets) == "RequestTimeTooSkewed"
    assert code(aws.client("dynamodb").list_tables) == "InvalidSignatureException"


# Sessions.


def test_session_tokens_must_come_along_and_must_fit(aws: Loopback) -> None:
    session = session_key(aws.client("sts", aws.add_user("u")).get_session_token()["Credentials"])
    assert aws.client("sts", session).get_caller_identity()["Arn"].endswith(":user/u")
    bare = LoopbackKey(session.id, session.secret)
    wrong = LoopbackKey(session.id, session.secret, Secret("IQoJb3JpZ2luX2VjEXAMPLE"))
    for key in (bare, wrong):
        assert code(aws.client("sts", key).get_caller_identity) == "InvalidClientTokenId"
    assert code(aws.client("s3", wrong).list_buckets) == "InvalidToken"


def test_a_session_expires(aws: Loopback) -> None:
    session = session_key(aws.client("sts").get_session_token(DurationSeconds=900)["Credentials"])
    aws.clock = lambda: datetime.now(UTC) + timedelta(minutes=16)
    assert code(aws.client("sts", session).get_caller_identity) == "ExpiredToken"
    assert code(aws.client("dynamodb", session).list_tables) == "ExpiredTokenException"


def test_a_session_cannot_be_shorter_than_aws_allows(aws: Loopback) -> None:
    role = make_role(aws, "app", {"AWS": f"arn:aws:iam::{aws.account}:root"})
    assert code(aws.client("sts").assume_role, RoleArn=role, RoleSessionName="aa", DurationSeconds=900) == "OK"
    raw = aws.client("sts")
    raw.meta.events.register("before-call", shorten)
    assert code(raw.assume_role, RoleArn=role, RoleSessionName="aa", DurationSeconds=900) == "ValidationError"


def shorten(params: dict[str, Any], **_: object) -> None:
    """Ask for less than botocore's own check lets through."""
    params["body"]["DurationSeconds"] = 899


def test_a_canary_can_mint_a_session_but_not_federate(aws: Loopback, canary: LoopbackKey) -> None:
    assert code(aws.client("sts", canary).get_session_token) == "OK"
    assert code(aws.client("sts", canary).get_federation_token, Name="x1") == "AccessDenied"


def test_a_session_of_a_user_cannot_call_iam_or_mint_more(aws: Loopback) -> None:
    session = session_key(aws.client("sts").get_session_token()["Credentials"])
    assert code(aws.client("iam", session).list_users) == "InvalidClientTokenId"
    assert code(aws.client("sts", session).get_session_token) == "AccessDenied"
    assert code(aws.client("s3", session).list_buckets) == "OK"


def test_a_federated_user_may_what_user_and_policy_both_allow(aws: Loopback) -> None:
    policy = allow("s3:*", "sqs:*")
    user = aws.add_user("broker", inline={"p": allow("sts:GetFederationToken", "s3:*", "sns:*")})
    granted = aws.client("sts", user).get_federation_token(Name="alice", Policy=policy)
    session = session_key(granted["Credentials"])
    said = aws.client("sts", session).get_caller_identity()
    assert said["Arn"] == granted["FederatedUser"]["Arn"] == f"arn:aws:sts::{aws.account}:federated-user/alice"
    assert said["UserId"] == f"{aws.account}:alice"
    assert code(aws.client("s3", session).list_buckets) == "OK"
    assert code(aws.client("sqs", session).list_queues) == "AccessDenied"
    with pytest.raises(ClientError, match="because no session policy allows the sns:ListTopics action"):
        aws.client("sns", session).list_topics()
    assert code(aws.client("iam", session).list_users) == "InvalidClientTokenId"


def test_sessions_issued_before_a_moment_can_be_revoked(aws: Loopback) -> None:
    role = make_role(aws, "app", {"AWS": f"arn:aws:iam::{aws.account}:root"}, rights=allow("*"))
    sts = aws.client("sts")
    old = session_key(sts.assume_role(RoleArn=role, RoleSessionName="old")["Credentials"])
    now = datetime.now(UTC)
    revoke = {
        "Effect": "Deny",
        "Action": "*",
        "Resource": "*",
        "Condition": {"DateLessThan": {"aws:TokenIssueTime": (now + timedelta(seconds=30)).isoformat()}},
    }
    document = json.dumps({"Version": "2012-10-17", "Statement": [revoke]})
    aws.client("iam").put_role_policy(RoleName="app", PolicyName="AWSRevokeOlderSessions", PolicyDocument=document)
    assert code(aws.client("s3", old).list_buckets) == "AccessDenied"
    aws.clock = lambda: now + timedelta(minutes=1)
    young = session_key(sts.assume_role(RoleArn=role, RoleSessionName="new")["Credentials"])
    assert code(aws.client("s3", young).list_buckets) == "OK"


# Roles.


def test_a_role_is_assumed_by_those_it_trusts_only(aws: Loopback) -> None:
    named = aws.add_user("named")
    stranger = aws.add_user("stranger", inline={"p": allow("*")})
    powerless = aws.add_user("powerless")
    mine = make_role(aws, "mine", {"AWS": f"arn:aws:iam::{aws.account}:user/named"}, rights=allow("iam:List*"))
    ours = make_role(aws, "ours", {"AWS": f"arn:aws:iam::{aws.account}:root"})

    def assume(key: LoopbackKey, arn: str) -> str:
        return code(aws.client("sts", key).assume_role, RoleArn=arn, RoleSessionName="test")

    assert assume(named, mine) == "OK", "named in the trust policy, no policy of its own is needed"
    assert assume(stranger, mine) == "AccessDenied"
    assert assume(stranger, ours) == "OK"
    assert assume(powerless, ours) == "AccessDenied"
    assert assume(stranger, mine + "x") == "AccessDenied", "a role that does not exist"
    assert assume(stranger, "garbage-that-is-no-arn-at-all") == "AccessDenied"
    assert assume(aws.add_root_key(), ours) == "AccessDenied"

    session = session_key(aws.client("sts", named).assume_role(RoleArn=mine, RoleSessionName="s1")["Credentials"])
    assert aws.client("sts", session).get_caller_identity()["Arn"].endswith(":assumed-role/mine/s1")
    assert code(aws.client("iam", session).list_users) == "OK"
    assert code(aws.client("iam", session).create_user, UserName="x") == "AccessDenied"
    aws.client("iam").delete_role_policy(RoleName="mine", PolicyName="p")
    aws.client("iam").delete_role(RoleName="mine")
    assert code(aws.client("sts", session).get_caller_identity) == "InvalidClientTokenId"


def test_another_account_needs_both_sides_to_allow(aws: Loopback) -> None:
    admin = aws.add_account("210987654321")
    able, unable = admin, aws.add_user("unable", account="210987654321")
    role = make_role(aws, "audit", {"AWS": ["210987654321"]})
    assert code(aws.client("sts", able).assume_role, RoleArn=role, RoleSessionName="aa") == "OK"
    assert code(aws.client("sts", unable).assume_role, RoleArn=role, RoleSessionName="aa") == "AccessDenied"
    assert aws.client("iam", admin).list_users()["Users"] != aws.client("iam").list_users()["Users"]


def test_an_external_id_must_fit(aws: Loopback) -> None:
    condition = {"StringEquals": {"sts:ExternalId": "e1"}}
    role = make_role(aws, "ext", {"AWS": f"arn:aws:iam::{aws.account}:root"}, condition=condition)
    sts = aws.client("sts")
    assert code(sts.assume_role, RoleArn=role, RoleSessionName="aa") == "AccessDenied"
    assert code(sts.assume_role, RoleArn=role, RoleSessionName="aa", ExternalId="no") == "AccessDenied"
    assert code(sts.assume_role, RoleArn=role, RoleSessionName="aa", ExternalId="e1") == "OK"


def test_mfa_codes_are_checked_and_work_once(aws: Loopback) -> None:
    iam = aws.client("iam")
    ops = aws.add_user("ops", inline={"p": allow("*")})
    device = iam.create_virtual_mfa_device(VirtualMFADeviceName="ops")["VirtualMFADevice"]
    serial, seed = device["SerialNumber"], device["Base32StringSeed"].decode()
    now = datetime.now(UTC)
    aws.wall = lambda: now

    def digits(offset: int) -> str:
        return one_time_code(seed, now + timedelta(seconds=offset))

    def enable(first: str, second: str) -> str:
        return code(
            iam.enable_mfa_device,
            UserName="ops",
            SerialNumber=serial,
            AuthenticationCode1=first,
            AuthenticationCode2=second,
        )

    assert enable("000000", "111111") == "InvalidAuthenticationCode"
    assert enable(digits(-30), digits(0)) == "OK"
    role = make_role(
        aws,
        "mfa",
        {"AWS": f"arn:aws:iam::{aws.account}:root"},
        condition={"Bool": {"aws:MultiFactorAuthPresent": "true"}},
    )
    sts = aws.client("sts", ops)
    assert code(sts.assume_role, RoleArn=role, RoleSessionName="aa") == "AccessDenied"
    wrong = "000000" if digits(0) != "000000" else "000001"
    assert code(sts.get_session_token, SerialNumber=serial, TokenCode=wrong) == "AccessDenied"
    assert code(sts.get_session_token, SerialNumber=serial + "x", TokenCode=digits(0)) == "AccessDenied"
    session = session_key(sts.get_session_token(SerialNumber=serial, TokenCode=digits(0))["Credentials"])
    assert code(sts.get_session_token, SerialNumber=serial, TokenCode=digits(0)) == "AccessDenied"
    assert code(aws.client("iam", session).list_users) == "OK", "with MFA a session may call IAM"
    assert code(aws.client("sts", session).assume_role, RoleArn=role, RoleSessionName="aa") == "OK"
    assert code(sts.assume_role, RoleArn=role, RoleSessionName="aa", SerialNumber=serial, TokenCode=digits(30)) == "OK"


def test_the_account_of_a_key_is_told(aws: Loopback, rng: random.Random) -> None:
    sts = aws.client("sts")
    foreign = make_key_id(rng, account="210987654321")
    assert sts.get_access_key_info(AccessKeyId=foreign)["Account"] == "210987654321"
    assert sts.get_access_key_info(AccessKeyId=aws.admin.id)["Account"] == aws.account
    assert code(sts.get_access_key_info, AccessKeyId="AKIAIOSFODNN7EXAMPLE") == "ValidationError"
    assert code(sts.get_access_key_info, AccessKeyId="not-a-key-id-at-all-") == "ValidationError"


def test_an_address_can_be_required(aws: Loopback) -> None:
    locked = aws.add_user(
        "locked", inline={"p": allow("*", Condition={"IpAddress": {"aws:SourceIp": "203.0.113.0/24"}})}
    )
    assert code(aws.client("s3", locked, source_ip="203.0.113.9").list_buckets) == "OK"
    assert code(aws.client("s3", locked, source_ip="198.51.100.1").list_buckets) == "AccessDenied"


def test_an_unknown_condition_is_loud(aws: Loopback) -> None:
    odd = aws.add_user("odd", inline={"p": allow("*", Condition={"NumericEquals": {"aws:SourceIp": "1"}})})
    with pytest.raises(ClientError, match="NumericEquals"):
        aws.client("s3", odd).list_buckets()


def test_rights_are_judged_by_resource(aws: Loopback) -> None:
    def on(arn: str, *actions: str) -> str:
        return json.dumps(
            {"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": list(actions), "Resource": arn}}
        )

    admin = aws.client("s3")
    for bucket in ("logs-a", "logs-b"):
        admin.create_bucket(Bucket=bucket)
        admin.put_object(Bucket=bucket, Key="x/y z", Body=b"1")
    reader = aws.add_user("reader", inline={"p": on("arn:aws:s3:::logs-a/*", "s3:GetObject")})
    s3 = aws.client("s3", reader)
    assert code(s3.get_object, Bucket="logs-a", Key="x/y z") == "OK"
    assert code(s3.get_object, Bucket="logs-b", Key="x/y z") == "AccessDenied"
    assert code(s3.put_object, Bucket="logs-a", Key="x/y z", Body=b"2") == "AccessDenied"
    own = aws.add_user("own", inline={"p": on("arn:aws:iam::*:user/${aws:username}", "iam:*AccessKey*")})
    iam = aws.client("iam", own)
    assert code(iam.update_access_key, UserName="own", AccessKeyId=own.id, Status="Active") == "OK"
    assert code(iam.update_access_key, UserName="admin", AccessKeyId=aws.admin.id, Status="Inactive") == "AccessDenied"


def test_a_planned_refusal_is_met_as_often_as_planned(aws: Loopback) -> None:
    aws.refuse_next("iam:CreateUser", "Throttling", "Rate exceeded", times=2)
    iam = aws.client("iam")
    assert [code(iam.create_user, UserName="a") for _ in range(3)] == ["Throttling", "Throttling", "OK"]


def test_a_call_that_moto_lacks_is_said_to_be_missing(aws: Loopback) -> None:
    assert code(aws.client("health").describe_events) == "NotImplemented"


def test_a_stopped_server_answers_nobody_on_old_connections_either() -> None:
    with Loopback() as server:
        sts = server.client("sts")
        assert code(sts.get_caller_identity) == "OK"
    server.stop()
    with pytest.raises(HTTPClientError):
        sts.get_caller_identity()


def test_trails_can_be_flushed_by_time() -> None:
    with Loopback(flush_every=0.05) as server:
        server.client("s3").create_bucket(Bucket="logs")
        cloudtrail = server.client("cloudtrail")
        cloudtrail.create_trail(Name="main", S3BucketName="logs")
        cloudtrail.start_logging(Name="main")
        end = time.monotonic() + 60
        while "LatestDeliveryTime" not in cloudtrail.get_trail_status(Name="main") and time.monotonic() < end:
            time.sleep(0.05)
        assert server.client("s3").list_objects_v2(Bucket="logs")["KeyCount"] > 0


def fetch(url: str) -> Any:
    with urllib.request.urlopen(url) as answer:
        return json.load(answer)


def test_the_command_prints_where_it_is_and_a_key(capsys: pytest.CaptureFixture[str]) -> None:
    def use() -> None:
        said = json.loads(capsys.readouterr().out)
        assert fetch(f"{said['url']}/_loopback/flush") == fetch(f"{said['url']}/_loopback/digest") == []
        with pytest.raises(urllib.error.HTTPError) as unknown:
            fetch(f"{said['url']}/_loopback/other")
        unknown.value.close()
        raise KeyboardInterrupt

    assert main(["--port", "0"], use) == 0


def test_another_process_can_have_one_by_command(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "firedamp.service.loopback", "--flush-every", "60"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=tmp_path) as process:
        try:
            assert process.stdout is not None
            said = json.loads(process.stdout.readline())
            sts = boto3.client(
                "sts",
                endpoint_url=said["url"],
                aws_access_key_id=said["access_key_id"],
                aws_secret_access_key=said["secret_access_key"],
            )
            assert sts.get_caller_identity()["Account"] == said["account"]
        finally:
            process.terminate()


@pytest.mark.parametrize("absent", ["moto", "werkzeug"])
def test_without_its_extra_the_demo_says_what_to_do(absent: str) -> None:
    program = (
        f"import sys; sys.modules[{absent!r}] = None; from firedamp.service import cli; sys.exit(cli.main(['demo']))"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert said.returncode == 2
    assert said.stderr == "firedamp: the loopback AWS needs moto, which is not installed\n  in a clone: make demo\n"


# What moto does behind the door.


def test_mail_is_taken_from_verified_senders_and_can_be_read(aws: Loopback) -> None:
    ses, to = aws.client("ses"), {"ToAddresses": ["b@example.com"]}
    message = {"Subject": {"Data": "S1"}, "Body": {"Text": {"Data": "one"}}}
    assert code(ses.send_email, Source="a@example.com", Destination=to, Message=message) == "MessageRejected"
    ses.verify_email_identity(EmailAddress="a@example.com")
    ses.send_email(Source="a@example.com", Destination=to, Message=message)
    second = {"Simple": {"Subject": {"Data": "S2"}, "Body": {"Text": {"Data": "two"}}}}
    aws.client("sesv2").send_email(FromEmailAddress="a@example.com", Destination=to, Content=second)
    assert aws.sent_mail() == (("a@example.com", "S1", "one"), ("a@example.com", "S2", "two"))


def test_a_reset_forgets_everything(aws: Loopback) -> None:
    old = aws.admin
    aws.client("s3").create_bucket(Bucket="photos")
    aws.clock = lambda: datetime(2020, 1, 1, tzinfo=UTC)
    aws.reset()
    assert code(aws.client("sts", old).get_caller_identity) == "InvalidClientTokenId"
    assert aws.client("s3").list_buckets()["Buckets"] == []
    assert aws.clock().year > 2020
    assert len(aws.trail.entries) == 1, "the listing just made"


RESOURCES = [
    ("secretsmanager", "get_secret_value", {"SecretId": "db"}, "arn:aws:secretsmanager:us-east-1:{}:secret:db"),
    ("ssm", "get_parameter", {"Name": "/app/db"}, "arn:aws:ssm:us-east-1:{}:parameter/app/db"),
    ("lambda", "get_function", {"FunctionName": "f"}, "arn:aws:lambda:us-east-1:{}:function:f"),
    ("events", "describe_rule", {"Name": "r"}, "arn:aws:events:us-east-1:{}:rule/r"),
    ("cloudtrail", "get_trail_status", {"Name": "main"}, "arn:aws:cloudtrail:us-east-1:{}:trail/main"),
    ("sqs", "create_queue", {"QueueName": "q"}, "arn:aws:sqs:us-east-1:{}:q"),
    ("sns", "get_topic_attributes", {"TopicArn": "arn:aws:sns:us-east-1:{}:t"}, "arn:aws:sns:us-east-1:{}:t"),
    ("iam", "get_role", {"RoleName": "r"}, "arn:aws:iam::{}:role/r"),
    ("iam", "get_group", {"GroupName": "g"}, "arn:aws:iam::{}:group/g"),
    ("iam", "get_policy", {"PolicyArn": "arn:aws:iam::{}:policy/pp"}, "arn:aws:iam::{}:policy/pp"),
    ("iam", "get_access_key_last_used", {"AccessKeyId": "AKIAIOSFODNN7EXAMPLE"}, "*"),
    ("sts", "get_federation_token", {"Name": "bob"}, "arn:aws:sts::{}:federated-user/bob"),
]


@pytest.mark.parametrize(("service", "call", "arguments", "resource"), RESOURCES)
def test_a_refusal_names_the_resource(
    aws: Loopback, service: str, call: str, arguments: dict[str, str], resource: str
) -> None:
    nobody = aws.add_user("nobody")
    arguments = {name: value.format(aws.account) for name, value in arguments.items()}
    with pytest.raises(ClientError) as refused:
        getattr(aws.client(service, nobody), call)(**arguments)
    assert f" on resource: {resource.format(aws.account)} because no identity-based policy" in str(refused.value)


# What a client can get wrong.


def post(aws: Loopback, service: str, path: str, body: str) -> tuple[int, bytes]:
    """Send a correctly signed request that no client library would make; return status and body."""
    request = AWSRequest(
        "POST", aws.url + path, {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}, body.encode()
    )
    SigV4Auth(Credentials(aws.admin.id, aws.admin.secret.reveal()), service, "us-east-1").add_auth(request)
    prepared = request.prepare()
    try:
        with urllib.request.urlopen(
            urllib.request.Request(prepared.url, prepared.body, dict(prepared.headers))
        ) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


@pytest.mark.parametrize(
    ("service", "path", "body"),
    [
        ("nosuch", "/", "x"),
        ("sts", "/", "Action=Nonsense"),
        ("lambda", "/nonsense", "x"),
        ("iam", "/", "Action=NoSuch"),
    ],
)
def test_what_is_no_call_of_aws_is_refused(aws: Loopback, service: str, path: str, body: str) -> None:
    status, said = post(aws, service, path, body)
    assert status == 400
    assert b"InvalidAction" in said
    assert aws.trail.entries == []


def signed(aws: Loopback, **headers: str) -> urllib.request.Request:
    """Return a request of GetCallerIdentity whose signature covers other headers than it has."""
    scope = f"{aws.admin.id}/20260101/us-east-1/sts/aws4_request"
    authorization = f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature={'0' * 64}"
    body = b"Action=GetCallerIdentity&Version=2011-06-15"
    return urllib.request.Request(aws.url, body, {"Authorization": authorization, **headers})


def test_a_request_without_a_date_is_incomplete(aws: Loopback) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(signed(aws))
    with refused.value as answer:
        assert b"IncompleteSignature" in answer.read()


def test_a_body_that_is_not_what_was_signed_is_refused(aws: Loopback) -> None:
    sts = aws.client("sts")

    def alter(request: Any, **_: object) -> None:
        request.body = request.body.replace("GetCallerIdentity", "GetSessionTokenAB")

    sts.meta.events.register("before-send", alter)
    assert code(sts.get_caller_identity) == "SignatureDoesNotMatch"


def test_a_body_must_have_the_hash_that_was_signed(aws: Loopback) -> None:
    s3 = signing_client(aws)
    s3.create_bucket(Bucket="photos")

    def alter(request: Any, **_: object) -> None:
        assert len(request.headers["X-Amz-Content-SHA256"]) == 64
        request.body = b"another"

    s3.meta.events.register("before-send.s3.PutObject", alter)
    assert code(s3.put_object, Bucket="photos", Key="k", Body=b"the one") == "SignatureDoesNotMatch"


def signing_client(aws: Loopback) -> Any:
    """Return an S3 client that signs the payload's hash and presigns with version 4, which is not boto3's default."""
    return boto3.client(
        "s3",
        endpoint_url=aws.url,
        aws_access_key_id=aws.admin.id,
        aws_secret_access_key=aws.admin.secret.reveal(),
        config=Config(signature_version="s3v4", request_checksum_calculation="when_required"),
    )


def test_a_presigned_object_is_only_the_one_that_was_signed(aws: Loopback) -> None:
    s3 = signing_client(aws)
    s3.create_bucket(Bucket="photos")
    link = s3.generate_presigned_url("list_objects_v2", Params={"Bucket": "photos"})
    with urllib.request.urlopen(link) as answer:
        assert b"<Name>photos</Name>" in answer.read()
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(link.replace("photos", "videos"))
    refused.value.close()


def test_a_copy_and_an_upload_in_parts_are_told_apart(aws: Loopback) -> None:
    s3 = aws.client("s3")
    s3.create_bucket(Bucket="photos")
    s3.put_object(Bucket="photos", Key="a", Body=b"x" * 10)
    s3.copy_object(Bucket="photos", Key="b", CopySource="photos/a")
    upload = s3.create_multipart_upload(Bucket="photos", Key="c")["UploadId"]
    part = s3.upload_part(Bucket="photos", Key="c", UploadId=upload, PartNumber=1, Body=b"y")
    done = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    s3.complete_multipart_upload(Bucket="photos", Key="c", UploadId=upload, MultipartUpload=done)
    assert s3.head_object(Bucket="photos", Key="b")["ContentLength"] == 10
    assert [entry.facts["EventName"] for entry in aws.trail.entries] == [
        "CreateBucket",
        "PutObject",
        "CopyObject",
        "CreateMultipartUpload",
        "UploadPart",
        "CompleteMultipartUpload",
        "HeadObject",
    ]
