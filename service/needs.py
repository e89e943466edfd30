"""What each role of firedamp calls in AWS: the least it needs, on what, and why. Data.

`doctor` says which of it is missing, `deploy/policies` grants it, and a test runs the service on exactly this.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from typing import Final

_USERS: Final = "arn:aws:iam::*:user/*"
_GROUPS: Final = "arn:aws:iam::*:group/*"
_POLICIES: Final = "arn:aws:iam::*:policy/*"
_QUEUES: Final = "arn:aws:sqs:*:*:*"
_TRAILS: Final = "arn:aws:cloudtrail:*:*:trail/*"


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
    Need("iam:GetAccessKeyLastUsed", "whose key it is, and when it was last used", _USERS),
    Need("iam:GetUser", "the user's ARN and permission boundary", _USERS),
    Need("iam:ListAccessKeys", "the user's other key, and whether this one is active", _USERS),
    Need("iam:ListGroupsForUser", "the groups that give it rights", _USERS),
    Need("iam:ListUserPolicies", "the policies that give it rights", _USERS),
    Need("iam:GetUserPolicy", "what they allow", _USERS),
    Need("iam:ListAttachedUserPolicies", "the managed policies that give it rights", _USERS),
    Need("iam:ListGroupPolicies", "the groups' policies", _GROUPS),
    Need("iam:GetGroupPolicy", "what they allow", _GROUPS),
    Need("iam:ListAttachedGroupPolicies", "the groups' managed policies", _GROUPS),
    Need("iam:GetPolicy", "which version counts", _POLICIES),
    Need("iam:GetPolicyVersion", "what a managed policy allows", _POLICIES),
    Need("cloudtrail:LookupEvents", "who used the key since it leaked"),
)
"""Reads the story of a key: `key show`, `usage`. Changes nothing."""

RESPOND: Final = (
    Need("iam:UpdateAccessKey", "makes a leaked key inactive", _USERS),
    Need("iam:PutUserPolicy", "denies the sessions that were made from it", _USERS),
    Need("iam:GetUserPolicy", "proves that the denial stands", _USERS),
    Need("iam:ListAccessKeys", "proves that the key is inactive", _USERS),
    Need("iam:CreateAccessKey", "the new key of a rotation", _USERS),
    Need("iam:DeleteAccessKey", "takes the new key back when a rotation fails", _USERS),
)
"""Makes a key harmless: `key disable`, `key rotate`, `key revoke-sessions`, with `--yes` only."""

MINT: Final = (
    Need("iam:CreateUser", "the canary's user", _USERS),
    Need("iam:GetUser", "finds out what a crash left behind", _USERS),
    Need("iam:DeleteUser", "takes back what a crash left behind", _USERS),
    Need("iam:TagUser", "the tags that were asked for", _USERS),
    Need("iam:PutUserPolicy", "the explicit denial of everything", _USERS),
    Need("iam:DeleteUserPolicy", "takes back what a crash left behind", _USERS),
    Need("iam:ListUserPolicies", "finds out what a crash left behind", _USERS),
    Need("iam:ListAttachedUserPolicies", "never touches a user that somebody else gave rights", _USERS),
    Need("iam:ListGroupsForUser", "never touches a user that somebody else put in a group", _USERS),
    Need("iam:CreateAccessKey", "the bait itself", _USERS),
    Need("iam:ListAccessKeys", "finds keys whose secret was never handed over", _USERS),
    Need("iam:DeleteAccessKey", "takes those back", _USERS),
    Need("iam:ListUsers", "looks at the account as an attacker would"),
    Need("iam:GetAccountSummary", "how many more users the account may have"),
    Need("iam:ListAccountAliases", "whether the account's alias gives the canaries away"),
)
"""Makes canaries: `canary mint`, `canary lint`, `canary plant`, `canary drill`."""

WATCH: Final = (
    Need("sqs:ReceiveMessage", "reads what CloudTrail announces", _QUEUES),
    Need("sqs:DeleteMessage", "after it is committed", _QUEUES),
    Need("sqs:ChangeMessageVisibility", "while a large file is read", _QUEUES),
    Need("sqs:GetQueueUrl", "finds the queue by its name", _QUEUES),
    Need("sqs:GetQueueAttributes", "how deep and how old the queue is", _QUEUES),
    Need("s3:GetObject", "reads the trail's files", "arn:aws:s3:::*/*"),
    Need("s3:ListBucket", "lists them, for the backfill", "arn:aws:s3:::*"),
    Need("cloudtrail:LookupEvents", "reads the event history of every region"),
    Need("cloudtrail:DescribeTrails", "finds the trail"),
    Need("cloudtrail:GetTrailStatus", "whether it logs and delivers", _TRAILS),
    Need("cloudtrail:GetEventSelectors", "whether it logs what matters", _TRAILS),
    Need("cloudwatch:GetMetricStatistics", "how old the queue's oldest message is"),
    Need("events:ListRuleNamesByTarget", "which rules fill the queue"),
    Need("events:DescribeRule", "whether the rule sees read-only calls too", "arn:aws:events:*:*:rule/*"),
    Need("iam:GetAccessKeyLastUsed", "uses that CloudTrail does not log", _USERS),
    Need("iam:ListAccessKeys", "whether a canary's key is still active: a deactivated one is blind", _USERS),
    Need("cloudwatch:PutMetricData", "the outgoing heartbeat, where it is a metric"),
    Need("ec2:DescribeRegions", "which regions to ask"),
)
"""Reads the feeds and the nets: `watch`, `canary nets`."""

ROLES: Final = {"audit": AUDIT, "respond": RESPOND, "mint": MINT, "watch": WATCH}


_ABOUT: Final = {
    "*": "WithoutResource",
    _USERS: "Users",
    _GROUPS: "Groups",
    _POLICIES: "ManagedPolicies",
    _QUEUES: "Queues",
    _TRAILS: "Trails",
    "arn:aws:s3:::*/*": "TrailFiles",
    "arn:aws:s3:::*": "TrailBuckets",
    "arn:aws:events:*:*:rule/*": "Rules",
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
