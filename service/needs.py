"""What each role of firedamp calls in AWS: the least it needs, on what, and why. Data.

`doctor` says which of it is missing, `deploy/policies` grants it, and a test runs the service on exactly this.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from typing import Final

USERS: Final = "arn:aws:iam::*:user/*"
ROLES_OF_IAM: Final = "arn:aws:iam::*:role/*"
GROUPS: Final = "arn:aws:iam::*:group/*"
POLICIES: Final = "arn:aws:iam::*:policy/*"
QUEUES: Final = "arn:aws:sqs:*:*:*"
TRAILS: Final = "arn:aws:cloudtrail:*:*:trail/*"
OBJECTS: Final = "arn:aws:s3:::*/*"
BUCKETS: Final = "arn:aws:s3:::*"
RULES: Final = "arn:aws:events:*:*:rule/*"
SECRETS: Final = "arn:aws:secretsmanager:*:*:secret:*"
PARAMETERS: Final = "arn:aws:ssm:*:*:parameter/*"
FUNCTIONS: Final = "arn:aws:lambda:*:*:function:*"
INSTANCES: Final = "arn:aws:ec2:*:*:instance/*"


@dataclass(frozen=True, slots=True)
class Need:
    """An action that a role calls, what for, and the narrowest pattern of ARNs that fits every user of firedamp.

    on is `*` for actions that IAM ties to no resource (Service authorization reference). Whoever knows the names of
    their queue, bucket or users narrows it: the templates in `deploy/cloudformation` do.
    """

    action: str
    why: str
    on: str = "*"


AUDIT: Final = (
    Need("iam:GetAccessKeyLastUsed", "whose key it is, and when it was last used", USERS),
    Need("iam:GetUser", "the user's ARN and permission boundary", USERS),
    Need("iam:ListAccessKeys", "the user's other key, and whether this one is active", USERS),
    Need("iam:ListGroupsForUser", "the groups that give it rights", USERS),
    Need("iam:ListUserPolicies", "the policies that give it rights", USERS),
    Need("iam:GetUserPolicy", "what they allow", USERS),
    Need("iam:ListAttachedUserPolicies", "the managed policies that give it rights", USERS),
    Need("iam:ListGroupPolicies", "the groups' policies", GROUPS),
    Need("iam:GetGroupPolicy", "what they allow", GROUPS),
    Need("iam:ListAttachedGroupPolicies", "the groups' managed policies", GROUPS),
    Need("iam:GetPolicy", "which version counts", POLICIES),
    Need("iam:GetPolicyVersion", "what a managed policy allows", POLICIES),
    Need("cloudtrail:LookupEvents", "who used the key since it leaked"),
)
"""Reads the story of a key: `key show`, `usage`. Changes nothing."""

RESPOND: Final = (
    Need("iam:UpdateAccessKey", "makes a leaked key inactive", USERS),
    Need("iam:PutUserPolicy", "denies the sessions that were made from it", USERS),
    Need("iam:GetUserPolicy", "proves that the denial stands", USERS),
    Need("iam:PutRolePolicy", "denies the sessions of a role when one of them leaked", ROLES_OF_IAM),
    Need("iam:GetRolePolicy", "proves that the denial stands", ROLES_OF_IAM),
    Need("iam:ListAccessKeys", "proves that the key is inactive", USERS),
    Need("iam:CreateAccessKey", "the new key of a rotation", USERS),
    Need("iam:DeleteAccessKey", "takes the new key back when a rotation fails", USERS),
)
"""Makes a key harmless: `key disable`, `key rotate`, `key revoke-sessions`, with `--yes` only."""

MINT: Final = (
    Need("iam:CreateUser", "the canary's user", USERS),
    Need("iam:GetUser", "finds out what a crash left behind", USERS),
    Need("iam:DeleteUser", "takes back what a crash left behind", USERS),
    Need("iam:TagUser", "the tags that were asked for", USERS),
    Need("iam:PutUserPolicy", "the explicit denial of everything", USERS),
    Need("iam:DeleteUserPolicy", "takes back what a crash left behind", USERS),
    Need("iam:ListUserPolicies", "finds out what a crash left behind", USERS),
    Need("iam:ListAttachedUserPolicies", "never touches a user that somebody else gave rights", USERS),
    Need("iam:ListGroupsForUser", "never touches a user that somebody else put in a group", USERS),
    Need("iam:CreateAccessKey", "the bait itself", USERS),
    Need("iam:ListAccessKeys", "finds keys whose secret was never handed over", USERS),
    Need("iam:DeleteAccessKey", "takes those back", USERS),
    Need("iam:ListUsers", "looks at the account as an attacker would"),
    Need("iam:GetAccountSummary", "how many more users the account may have"),
    Need("iam:ListAccountAliases", "whether the account's alias gives the canaries away"),
)
"""Makes canaries: `canary mint`, `canary lint`, `canary plant`, `canary drill`."""

WATCH: Final = (
    Need("sqs:ReceiveMessage", "reads what CloudTrail announces", QUEUES),
    Need("sqs:DeleteMessage", "after it is committed", QUEUES),
    Need("sqs:ChangeMessageVisibility", "while a large file is read", QUEUES),
    Need("sqs:GetQueueUrl", "finds the queue by its name", QUEUES),
    Need("sqs:GetQueueAttributes", "how deep and how old the queue is", QUEUES),
    Need("s3:GetObject", "reads the trail's files", OBJECTS),
    Need("s3:ListBucket", "lists them, for the backfill", BUCKETS),
    Need("cloudtrail:LookupEvents", "reads the event history of every region"),
    Need("cloudtrail:DescribeTrails", "finds the trail"),
    Need("cloudtrail:GetTrailStatus", "whether it logs and delivers", TRAILS),
    Need("cloudtrail:GetEventSelectors", "whether it logs what matters", TRAILS),
    Need("cloudwatch:GetMetricStatistics", "how old the queue's oldest message is"),
    Need("events:ListRuleNamesByTarget", "which rules fill the queue"),
    Need("events:DescribeRule", "whether the rule sees read-only calls too", RULES),
    Need("iam:GetAccessKeyLastUsed", "uses that CloudTrail does not log", USERS),
    Need("iam:ListAccessKeys", "whether a canary's key is still active: a deactivated one is blind", USERS),
    Need("cloudwatch:PutMetricData", "the outgoing heartbeat, where it is a metric"),
    Need("ec2:DescribeRegions", "which regions to ask"),
)
"""Reads the feeds and the nets: `watch`, `canary nets`."""

CHECK: Final = (
    Need("s3:GetObject", "whether the object is as it was planted", OBJECTS),
    Need("s3:ListBucket", "without it S3 answers 403, not 404, for an object that is gone", BUCKETS),
    Need("secretsmanager:GetSecretValue", "whether the secret is as it was planted", SECRETS),
    Need("ssm:GetParameter", "whether the parameter is as it was planted", PARAMETERS),
    Need("lambda:GetFunctionConfiguration", "whether the function's variables are as planted", FUNCTIONS),
    Need("ec2:DescribeInstanceAttribute", "whether the instance's user data is as planted", INSTANCES),
)
"""Reads what was planted in AWS: `canary check`, and `canary drill` for a key that stands there. Changes nothing."""

PLANT: Final = (
    *CHECK,
    Need("s3:PutObject", "plants an object where none is", OBJECTS),
    Need("s3:DeleteObject", "takes it back", OBJECTS),
    Need("secretsmanager:CreateSecret", "plants a secret where none is", SECRETS),
    Need("secretsmanager:DeleteSecret", "takes it back", SECRETS),
    Need("ssm:PutParameter", "plants a parameter where none is", PARAMETERS),
    Need("ssm:DeleteParameter", "takes it back", PARAMETERS),
    Need("lambda:UpdateFunctionConfiguration", "adds variables to a function, and takes them out", FUNCTIONS),
    Need("ec2:ModifyInstanceAttribute", "writes a stopped instance's user data, and makes it what it was", INSTANCES),
)
"""Puts canaries into places in AWS and takes them back: `canary plant`, `canary retire`."""

ROLES: Final = {
    "audit": AUDIT, "respond": RESPOND, "mint": MINT, "watch": WATCH, "check": CHECK, "plant": PLANT,
}  # fmt: skip


_ABOUT: Final = {
    "*": "WithoutResource",
    USERS: "Users",
    ROLES_OF_IAM: "Roles",
    GROUPS: "Groups",
    POLICIES: "ManagedPolicies",
    QUEUES: "Queues",
    TRAILS: "Trails",
    OBJECTS: "Objects",
    BUCKETS: "Buckets",
    RULES: "Rules",
    SECRETS: "Secrets",
    PARAMETERS: "Parameters",
    FUNCTIONS: "Functions",
    INSTANCES: "Instances",
}
"""What each pattern is about, for the names of statements: letters and digits only (IAM guide, "Sid")."""


def policy(role: str) -> str:
    """Return the IAM policy that grants a role what it calls, as JSON: a statement for each pattern of ARNs."""
    actions: dict[str, list[str]] = defaultdict(list)
    for need in ROLES[role]:
        actions[need.on].append(need.action)
    statements = [
        {"Sid": role.capitalize() + _ABOUT[pattern], "Effect": "Allow", "Action": sorted(names), "Resource": pattern}
        for pattern, names in sorted(actions.items())
    ]
    return json.dumps({"Version": "2012-10-17", "Statement": statements}, indent=2) + "\n"


def table() -> str:
    """Return every action of every role with its reason, as the Markdown that stands in `deploy/policies/README.md`."""
    lines: list[str] = []
    for role, wanted in ROLES.items():
        lines += [f"## {role}.json", "", "| action | on | why |", "|---|---|---|"]
        lines += [f"| `{need.action}` | `{need.on}` | {need.why} |" for need in wanted]
        lines.append("")
    return "\n".join(lines)
