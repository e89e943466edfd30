"""Templates deploy into the loopback AWS for real: what they make works together, and goes away with the stack."""

from __future__ import annotations

import json
from typing import Any

from tests.scenes import allow, code, drain, session_key

from firedamp.service.loopback import Loopback


def policy(**more: Any) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(allow("sns:*", **more))
    return document


def deploy(aws: Loopback, resources: dict[str, Any], call: str = "create_stack") -> Any:
    outputs = {"Trail": {"Value": arn("Trail")}} if "Trail" in resources else {}
    template = {"Resources": resources, "Outputs": outputs}
    cloudformation = aws.client("cloudformation")
    getattr(cloudformation, call)(StackName="s", TemplateBody=json.dumps(template))
    return cloudformation


def arn(name: str) -> dict[str, list[str]]:
    return {"Fn::GetAtt": [name, "Arn"]}


def test_users_and_roles_have_the_policies_that_their_template_names(aws: Loopback) -> None:
    managed = ["arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess"]
    rights = {"Policies": [{"PolicyName": "p", "PolicyDocument": policy()}], "ManagedPolicyArns": managed}
    trust = {"Effect": "Allow", "Principal": {"AWS": aws.account}, "Action": "sts:AssumeRole"}
    document = {"Version": "2012-10-17", "Statement": [trust]}
    bound = "arn:aws:iam::aws:policy/AmazonS3FullAccess"
    role = {"RoleName": "watcher", "AssumeRolePolicyDocument": document, **rights}
    user = {"UserName": "minter", "PermissionsBoundary": bound, **rights}
    stack = deploy(
        aws,
        {
            "Watcher": {"Type": "AWS::IAM::Role", "Properties": role},
            "Minter": {"Type": "AWS::IAM::User", "Properties": user},
        },
    )
    there = f"arn:aws:iam::{aws.account}:role/watcher"
    assumed = aws.client("sts").assume_role(RoleArn=there, RoleSessionName="ss")["Credentials"]
    watcher, minter = session_key(assumed), aws.add_key("minter")
    for key in (watcher, minter):
        assert code(aws.client("s3", key).list_buckets) == "OK"
        assert code(aws.client("s3", key).create_bucket, Bucket="made") == "AccessDenied"
    assert code(aws.client("sns", watcher).list_topics) == "OK"
    assert code(aws.client("sns", minter).list_topics) == "AuthorizationError", "beyond its boundary"
    iam = aws.client("iam")
    iam.delete_access_key(UserName="minter", AccessKeyId=minter.id)
    stack.delete_stack(StackName="s")
    assert code(iam.get_role, RoleName="watcher") == code(iam.get_user, UserName="minter") == "NoSuchEntity"


def watch(**trail: Any) -> dict[str, Any]:
    """Return what a watch needs: a bucket that announces to a queue, a trail into it, a rule that tells a topic."""
    queue, topic, bucket = {"Ref": "Queue"}, {"Ref": "Topic"}, {"Ref": "Bucket"}
    rules = [{"Name": "suffix", "Value": ".json.gz"}]
    notices = {
        "QueueConfigurations": [
            {"Event": "s3:ObjectCreated:*", "Queue": arn("Queue"), "Filter": {"S3Key": {"Rules": rules}}}
        ],
        "TopicConfigurations": [{"Event": "s3:ObjectRemoved:*", "Topic": topic}],
        "EventBridgeConfiguration": {"EventBridgeEnabled": True},
    }
    every = {"ReadWriteType": "All", "IncludeManagementEvents": True}
    kinds = {
        "Queue": ("AWS::SQS::Queue", {"QueueName": "notices"}),
        "Mail": ("AWS::SQS::Queue", {"QueueName": "mail"}),
        "QueuePolicy": ("AWS::SQS::QueuePolicy", {"Queues": [queue], "PolicyDocument": policy()}),
        "Topic": ("AWS::SNS::Topic", {"TopicName": "alarm"}),
        "TopicPolicy": ("AWS::SNS::TopicPolicy", {"Topics": [topic], "PolicyDocument": policy()}),
        "Reader": ("AWS::SNS::Subscription", {"TopicArn": topic, "Protocol": "sqs", "Endpoint": arn("Mail")}),
        "Bucket": (
            "AWS::S3::Bucket",
            {
                "BucketName": "trail-logs",
                "VersioningConfiguration": {"Status": "Enabled"},
                "PublicAccessBlockConfiguration": {"BlockPublicAcls": "true"},
                "NotificationConfiguration": notices,
            },
        ),
        "BucketPolicy": ("AWS::S3::BucketPolicy", {"Bucket": bucket, "PolicyDocument": json.dumps(policy())}),
        "Trail": (
            "AWS::CloudTrail::Trail",
            {
                "TrailName": "canaries",
                "S3BucketName": bucket,
                "IsLogging": True,
                "IsMultiRegionTrail": True,
                "EnableLogFileValidation": True,
                "EventSelectors": [every],
                **trail,
            },
        ),
        "Rule": (
            "AWS::Events::Rule",
            {
                "Name": "canary",
                "State": "ENABLED_WITH_ALL_CLOUDTRAIL_MANAGEMENT_EVENTS",
                "EventPattern": {"detail": {"userIdentity": {"userName": [{"prefix": "svc-"}]}}},
                "Targets": [{"Id": "1", "Arn": topic}],
            },
        ),
        "Silence": (
            "AWS::CloudWatch::Alarm",
            {
                "AlarmName": "no heartbeat",
                "Namespace": "firedamp",
                "MetricName": "Heartbeat",
                "Statistic": "Sum",
                "Period": 300,
                "EvaluationPeriods": 1,
                "Threshold": 1,
                "ComparisonOperator": "LessThanThreshold",
                "TreatMissingData": "breaching",
                "AlarmActions": [topic],
            },
        ),
    }
    return {name: {"Type": kind, "Properties": properties} for name, (kind, properties) in kinds.items()}


def test_a_watch_from_a_template_sees_a_canarys_use(aws: Loopback) -> None:
    stack = deploy(aws, watch())
    sqs, s3 = aws.client("sqs"), aws.client("s3")
    notices, mail = (sqs.get_queue_url(QueueName=name)["QueueUrl"] for name in ("notices", "mail"))
    drain(aws, notices)
    aws.client("sts", aws.add_user("svc-backup")).get_caller_identity()
    (key,) = aws.trail.flush()
    (notice,) = drain(aws, notices)
    assert notice["Records"][0]["s3"]["bucket"]["name"] == "trail-logs"
    assert any("svc-backup" in message["Message"] for message in drain(aws, mail))

    assert s3.get_bucket_versioning(Bucket="trail-logs")["Status"] == "Enabled"
    assert s3.get_public_access_block(Bucket="trail-logs")["PublicAccessBlockConfiguration"]["BlockPublicAcls"]
    assert json.loads(s3.get_bucket_policy(Bucket="trail-logs")["Policy"]) == policy()
    told = sqs.get_queue_attributes(QueueUrl=notices, AttributeNames=["Policy"])["Attributes"]["Policy"]
    assert json.loads(told) == policy()
    outputs = stack.describe_stacks(StackName="s")["Stacks"][0]["Outputs"]
    assert [one["OutputValue"] for one in outputs] == [f"arn:aws:cloudtrail:us-east-1:{aws.account}:trail/canaries"]
    (alarm,) = aws.client("cloudwatch").describe_alarms()["MetricAlarms"]
    assert (alarm["TreatMissingData"], alarm["AlarmActions"]) == (
        "breaching",
        [f"arn:aws:sns:us-east-1:{aws.account}:alarm"],
    )

    versions = s3.list_object_versions(Bucket="trail-logs")["Versions"]
    s3.delete_object(Bucket="trail-logs", Key=key, VersionId=versions[0]["VersionId"])
    stack.delete_stack(StackName="s")
    assert aws.client("cloudtrail").describe_trails()["trailList"] == []
    assert aws.client("cloudwatch").describe_alarms()["MetricAlarms"] == []


def test_a_stack_can_be_changed(aws: Loopback) -> None:
    deploy(aws, watch())
    deploy(aws, watch(IsMultiRegionTrail=False, IsLogging=False), "update_stack")
    (trail,) = aws.client("cloudtrail").describe_trails()["trailList"]
    assert not trail["IsMultiRegionTrail"]
    assert not aws.client("cloudtrail").get_trail_status(Name="canaries")["IsLogging"]


def test_a_template_with_an_unknown_kind_makes_nothing_and_says_so(aws: Loopback) -> None:
    resources = {"Odd": {"Type": "AWS::Budgets::Budget", "Properties": {}}}
    cloudformation = aws.client("cloudformation")
    template = json.dumps({"Resources": resources})
    assert code(cloudformation.create_stack, StackName="s", TemplateBody=template) == "NotImplemented"
