"""What the loopback AWS's IAM answers where moto does not, or not as AWS does."""

from __future__ import annotations

import csv
import json
import random
from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.exceptions import ClientError
from tests.builders import make_key_id
from tests.scenes import DENY_ALL, allow, code, make_role, session_key

from firedamp.service.loopback import Loopback

QUARANTINE = "arn:aws:iam::aws:policy/AWSCompromisedKeyQuarantineV3"


def test_last_use_is_told_by_service_and_region(aws: Loopback, rng: random.Random) -> None:
    key = aws.add_user("u")
    iam = aws.client("iam")
    assert "LastUsedDate" not in iam.get_access_key_last_used(AccessKeyId=key.id)["AccessKeyLastUsed"]
    at = datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC)
    aws.clock = lambda: at
    code(aws.client("sqs", key, "eu-west-1").list_queues)
    used = iam.get_access_key_last_used(AccessKeyId=key.id)["AccessKeyLastUsed"]
    assert (used["LastUsedDate"], used["ServiceName"], used["Region"]) == (at, "sqs", "eu-west-1")
    assert code(iam.get_access_key_last_used, AccessKeyId=make_key_id(rng)) == "AccessDenied"
    other = aws.add_account("210987654321")
    assert code(iam.get_access_key_last_used, AccessKeyId=other.id) == "AccessDenied"


def test_a_key_has_two_states_and_a_user_two_keys(aws: Loopback) -> None:
    key = aws.add_user("u")
    iam = aws.client("iam")
    assert code(iam.update_access_key, UserName="u", AccessKeyId=key.id, Status="Paused") == "ValidationError"
    assert code(iam.create_access_key, UserName="u") == "OK"
    assert code(iam.create_access_key, UserName="u") == "LimitExceeded"


def test_a_call_that_names_no_user_is_about_the_caller(aws: Loopback) -> None:
    own = json.dumps(
        {
            "Version": "2012-10-17",
            "Statement": {"Effect": "Allow", "Action": "iam:*", "Resource": f"arn:aws:iam::{aws.account}:user/me"},
        }
    )
    key = aws.add_user("me", inline={"p": own})
    iam = aws.client("iam", key)
    assert iam.get_user()["User"]["UserName"] == "me"
    assert [one["AccessKeyId"] for one in iam.list_access_keys()["AccessKeyMetadata"]] == [key.id]
    assert iam.list_mfa_devices()["MFADevices"] == []
    other = iam.create_access_key()["AccessKey"]["AccessKeyId"]
    iam.update_access_key(AccessKeyId=other, Status="Inactive")
    iam.delete_access_key(AccessKeyId=other)
    assert code(iam.list_access_keys, UserName="admin") == "AccessDenied"
    root = aws.add_root_key()
    as_root = aws.client("iam", root)
    assert as_root.get_user()["User"]["Arn"].endswith(":root")
    assert as_root.list_access_keys()["AccessKeyMetadata"][0]["AccessKeyId"] == root.id


def test_aws_policies_are_known_when_they_are_asked_for(aws: Loopback) -> None:
    reader = aws.add_user("reader", managed=["arn:aws:iam::aws:policy/ReadOnlyAccess"])
    assert code(aws.client("events", reader).list_rules) == "OK"
    key = aws.add_user("u", inline={"p": allow("*")})
    iam = aws.client("iam")
    iam.attach_user_policy(UserName="u", PolicyArn=QUARANTINE)
    (attached,) = iam.list_attached_user_policies(UserName="u")["AttachedPolicies"]
    assert attached["PolicyName"] == "AWSCompromisedKeyQuarantineV3"
    assert code(aws.client("iam", key).create_user, UserName="x") == "AccessDenied"
    assert code(aws.client("events", key).list_rules) == "OK"
    assert code(iam.attach_user_policy, UserName="u", PolicyArn=QUARANTINE + "x") == "NoSuchEntity"
    assert len(iam.list_policies(Scope="AWS", MaxItems=1000)["Policies"]) == 1000
    aws.reset()
    assert aws.client("iam").get_policy(PolicyArn=QUARANTINE)["Policy"]["AttachmentCount"] == 0


def test_groups_give_rights(aws: Loopback) -> None:
    key = aws.add_user("u")
    iam = aws.client("iam")
    iam.create_group(GroupName="g")
    iam.put_group_policy(GroupName="g", PolicyName="p", PolicyDocument=allow("s3:ListAllMyBuckets"))
    assert code(aws.client("s3", key).list_buckets) == "AccessDenied"
    iam.add_user_to_group(GroupName="g", UserName="u")
    assert code(aws.client("s3", key).list_buckets) == "OK"


def test_customer_policies_count_in_their_default_version(aws: Loopback) -> None:
    key = aws.add_user("u")
    iam = aws.client("iam")
    arn = iam.create_policy(PolicyName="mine", PolicyDocument=allow("s3:*"))["Policy"]["Arn"]
    iam.attach_user_policy(UserName="u", PolicyArn=arn)
    assert code(aws.client("s3", key).list_buckets) == "OK"
    iam.create_policy_version(PolicyArn=arn, PolicyDocument=DENY_ALL, SetAsDefault=True)
    assert code(aws.client("s3", key).list_buckets) == "AccessDenied"


def test_a_boundary_bounds_a_user(aws: Loopback) -> None:
    key = aws.add_user("u", inline={"p": allow("*")})
    iam = aws.client("iam")
    arn = iam.create_policy(PolicyName="bound", PolicyDocument=allow("iam:List*"))["Policy"]["Arn"]
    iam.put_user_permissions_boundary(UserName="u", PermissionsBoundary=arn)
    assert iam.get_user(UserName="u")["User"]["PermissionsBoundary"]["PermissionsBoundaryArn"] == arn
    assert code(aws.client("iam", key).list_users) == "OK"
    with pytest.raises(ClientError, match="because no permissions boundary allows the s3:ListAllMyBuckets action"):
        aws.client("s3", key).list_buckets()
    iam.delete_user_permissions_boundary(UserName="u")
    assert code(aws.client("s3", key).list_buckets) == "OK"
    assert "PermissionsBoundary" not in iam.get_user(UserName="u")["User"]
    assert code(iam.put_user_permissions_boundary, UserName="none", PermissionsBoundary=arn) == "NoSuchEntity"
    made = iam.create_user(UserName="v", PermissionsBoundary=arn)["User"]
    assert made["PermissionsBoundary"]["PermissionsBoundaryArn"] == arn


def test_a_boundary_bounds_a_role_and_a_lost_one_stops_everything(aws: Loopback) -> None:
    role = make_role(aws, "app", {"AWS": f"arn:aws:iam::{aws.account}:root"}, rights=allow("*"))
    credentials = aws.client("sts").assume_role(RoleArn=role, RoleSessionName="ss")["Credentials"]
    s3 = aws.client("s3", session_key(credentials))
    iam = aws.client("iam")
    assert code(s3.list_buckets) == "OK"
    iam.put_role_permissions_boundary(
        RoleName="app", PermissionsBoundary="arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess"
    )
    assert code(s3.list_buckets) == "OK"
    assert code(s3.create_bucket, Bucket="made") == "AccessDenied"
    gone = f"arn:aws:iam::{aws.account}:policy/gone"
    iam.put_role_permissions_boundary(RoleName="app", PermissionsBoundary=gone)
    assert code(s3.list_buckets) == "AccessDenied"


def test_the_credential_report_has_root_and_last_use(aws: Loopback) -> None:
    key = aws.add_user("u", path="/x/")
    aws.add_user("keyless")
    aws.client("sts", key, "eu-west-1").get_caller_identity()
    iam = aws.client("iam")
    assert code(iam.get_credential_report) == "ReportNotPresent"
    iam.generate_credential_report()
    rows = {row["user"]: row for row in csv.DictReader(iam.get_credential_report()["Content"].decode().splitlines())}
    assert rows["<root_account>"]["arn"].endswith(":root")
    assert rows["u"]["access_key_1_active"] == "true"
    assert (rows["u"]["access_key_1_last_used_service"], rows["u"]["access_key_1_last_used_region"]) == (
        "sts",
        "eu-west-1",
    )
    assert rows["u"]["access_key_2_active"] == "false"
    assert rows["keyless"]["access_key_1_last_used_date"] == "N/A"


def test_services_last_accessed_come_from_what_was_called(aws: Loopback) -> None:
    key = aws.add_user("u")
    aws.client("sts", key).get_caller_identity()
    code(aws.client("s3", key, "eu-west-1").list_buckets)
    iam = aws.client("iam")
    job = iam.generate_service_last_accessed_details(Arn=f"arn:aws:iam::{aws.account}:user/u")["JobId"]
    told = iam.get_service_last_accessed_details(JobId=job)
    services = {one["ServiceNamespace"]: one["LastAuthenticatedRegion"] for one in told["ServicesLastAccessed"]}
    assert services == {"sts": "us-east-1", "s3": "eu-west-1"}
    nobody = "00000000-0000-4000-8000-000000000000"
    assert code(iam.get_service_last_accessed_details, JobId=nobody) == "NoSuchEntity"


def test_simulation_decides_as_the_real_call_does(aws: Loopback) -> None:
    aws.add_user("u", inline={"p": allow("s3:Get*"), "d": allow("iam:*").replace("Allow", "Deny")})
    iam = aws.client("iam")

    def decide(arn: str, **more: Any) -> list[str]:
        asked = ["s3:GetObject", "s3:PutObject", "iam:ListUsers"]
        told = iam.simulate_principal_policy(PolicySourceArn=arn, ActionNames=asked, **more)
        return [one["EvalDecision"] for one in told["EvaluationResults"]]

    user = f"arn:aws:iam::{aws.account}:user/u"
    assert decide(user) == ["allowed", "implicitDeny", "explicitDeny"]
    assert len(decide(user, ResourceArns=["arn:aws:s3:::a", "arn:aws:s3:::b"])) == 6
    role = make_role(aws, "app", {"AWS": aws.account}, rights=allow("*"))
    assert decide(role) == ["allowed"] * 3
    assert code(iam.simulate_principal_policy, PolicySourceArn=user + "x", ActionNames=["a:b"]) == "NoSuchEntity"
