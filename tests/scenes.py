"""Scenes on the loopback AWS that several tests set: keys, roles, trails and queues, and what a call ends with."""

from __future__ import annotations

import json
from typing import Any

from botocore.exceptions import ClientError

from firedamp.service.loopback import Loopback, LoopbackKey
from firedamp.storage.secret import Secret

DENY_ALL = '{"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Action": "*", "Resource": "*"}]}'


def code(call: Any, **arguments: Any) -> str:
    """Return what a call ends with: `OK`, or AWS's error code."""
    try:
        call(**arguments)
    except ClientError as error:
        return error.response["Error"]["Code"]
    return "OK"


def session_key(credentials: dict[str, Any]) -> LoopbackKey:
    """Return the key in an STS answer's `Credentials`."""
    token = Secret(credentials["SessionToken"])
    return LoopbackKey(credentials["AccessKeyId"], Secret(credentials["SecretAccessKey"]), token)


def allow(*actions: str, **more: Any) -> str:
    """Return a policy that allows actions on everything, with more elements of its statement (`Condition=…`)."""
    statement: dict[str, Any] = {"Effect": "Allow", "Action": list(actions), "Resource": "*"}
    return json.dumps({"Version": "2012-10-17", "Statement": statement | more})


def make_role(
    aws: Loopback, name: str, principal: Any, *, rights: str = DENY_ALL, condition: dict[str, Any] | None = None
) -> str:
    """Make a role that principal may assume, with rights as its inline policy; return its ARN."""
    statement = {"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole", "Condition": condition or {}}
    iam = aws.client("iam")
    trust = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    arn: str = iam.create_role(RoleName=name, AssumeRolePolicyDocument=trust)["Role"]["Arn"]
    iam.put_role_policy(RoleName=name, PolicyName="p", PolicyDocument=rights)
    return arn


def start_trail(aws: Loopback, name: str = "main", **options: Any) -> Any:
    """Start a trail of every region into the bucket `logs`; return a client of CloudTrail."""
    aws.client("s3").create_bucket(Bucket="logs")
    cloudtrail = aws.client("cloudtrail")
    cloudtrail.create_trail(Name=name, S3BucketName="logs", **({"IsMultiRegionTrail": True} | options))
    cloudtrail.start_logging(Name=name)
    return cloudtrail


def make_queue(aws: Loopback, name: str) -> tuple[str, str]:
    """Make a queue; return its URL and ARN."""
    sqs = aws.client("sqs")
    url = sqs.create_queue(QueueName=name)["QueueUrl"]
    return url, sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]


def drain(aws: Loopback, url: str) -> list[dict[str, Any]]:
    """Take every message off a queue and return their bodies, parsed."""
    sqs, bodies = aws.client("sqs"), []
    while messages := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
        for message in messages:
            bodies.append(json.loads(message["Body"]))
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    return bodies
