"""Makes CloudTrail records and trail files as AWS writes them, and feeds that tests can deliver to."""

from __future__ import annotations

import gzip
import json
import uuid
from datetime import UTC, datetime
from typing import Any

ACCOUNT = "123456789012"
ARN = f"arn:aws:iam::{ACCOUNT}:user/svc-backup"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/deployer"
START = datetime(2026, 11, 20, 10, tzinfo=UTC)

Record = dict[str, Any]


def at(minutes: float) -> str:
    """Return the eventTime so many minutes after ten o'clock."""
    return datetime.fromtimestamp(START.timestamp() + 60 * minutes, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def user(key_id: str, name: str = "svc-backup") -> Record:
    """Return the userIdentity of a call signed with a user's key."""
    return {
        "type": "IAMUser",
        "principalId": "AIDAEXAMPLEEXAMPLE234",
        "arn": f"arn:aws:iam::{ACCOUNT}:user/{name}",
        "accountId": ACCOUNT,
        "accessKeyId": key_id,
        "userName": name,
    }


def role(key_id: str = "ASIAEXAMPLEEXAMPLE22") -> Record:
    """Return the userIdentity of somebody else: a session of a role."""
    issuer = {"type": "Role", "principalId": "AROAEXAMPLEEXAMPLE234", "arn": ROLE, "accountId": ACCOUNT}
    return {
        "type": "AssumedRole",
        "principalId": "AROAEXAMPLEEXAMPLE234:session",
        "arn": f"arn:aws:sts::{ACCOUNT}:assumed-role/deployer/session",
        "accountId": ACCOUNT,
        "accessKeyId": key_id,
        "sessionContext": {"sessionIssuer": issuer | {"userName": "deployer"}},
    }


def record(identity: Record, minutes: float = 0, name: str = "GetCallerIdentity", **more: Any) -> Record:
    """Return one record. more overrides fields; a value of None removes one."""
    read = name.startswith(("Get", "List", "Describe"))
    made: Record = {
        "eventVersion": "1.11",
        "userIdentity": identity,
        "eventTime": at(minutes),
        "eventSource": "sts.amazonaws.com",
        "eventName": name,
        "awsRegion": "us-east-1",
        "sourceIPAddress": "203.0.113.7",
        "userAgent": "aws-cli/2.15.30 md/command#sts.get-caller-identity",
        "requestParameters": {},
        "responseElements": None,
        "requestID": str(uuid.uuid4()),
        "eventID": str(uuid.uuid4()),
        "readOnly": read,
        "eventType": "AwsApiCall",
        "managementEvent": True,
        "recipientAccountId": ACCOUNT,
        "eventCategory": "Management",
    } | more
    return {field: value for field, value in made.items() if value is not None or field == "responseElements"}


def trail(*records: object) -> bytes:
    """Return a trail file as CloudTrail writes it."""
    return gzip.compress(json.dumps({"Records": list(records)}, separators=(",", ":")).encode(), 1)


def trail_key(number: int = 1, account: str = ACCOUNT, region: str = "us-east-1", minute: int = 0) -> str:
    """Return the name of a trail file in its bucket."""
    name = f"{account}_CloudTrail_{region}_20261120T10{minute:02}Z_{number:016}.json.gz"
    return f"AWSLogs/{account}/CloudTrail/{region}/2026/11/20/{name}"
