"""What each role of firedamp calls in AWS: the least it needs, and why. Data.

`doctor` says which of it is missing, `deploy/policies` grants it, and a test runs the service on exactly this.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Need:
    """An action that a role calls, and what for."""

    action: str
    why: str


AUDIT: Final = (
    Need("iam:GetAccessKeyLastUsed", "whose key it is, and when it was last used"),
    Need("iam:GetUser", "the user's ARN and permission boundary"),
    Need("iam:ListAccessKeys", "the user's other key, and whether this one is active"),
    Need("iam:ListGroupsForUser", "the groups that give it rights"),
    Need("iam:ListUserPolicies", "the policies that give it rights"),
    Need("iam:GetUserPolicy", "what they allow"),
    Need("iam:ListAttachedUserPolicies", "the managed policies that give it rights"),
    Need("iam:ListGroupPolicies", "the groups' policies"),
    Need("iam:GetGroupPolicy", "what they allow"),
    Need("iam:ListAttachedGroupPolicies", "the groups' managed policies"),
    Need("iam:GetPolicy", "which version counts"),
    Need("iam:GetPolicyVersion", "what a managed policy allows"),
    Need("cloudtrail:LookupEvents", "who used the key since it leaked"),
)
"""Reads the story of a key: `key show`, `usage`. Changes nothing."""

RESPOND: Final = (
    Need("iam:UpdateAccessKey", "makes a leaked key inactive"),
    Need("iam:PutUserPolicy", "denies the sessions that were made from it"),
    Need("iam:GetUserPolicy", "proves that the denial stands"),
    Need("iam:ListAccessKeys", "proves that the key is inactive"),
    Need("iam:CreateAccessKey", "the new key of a rotation"),
    Need("iam:DeleteAccessKey", "takes the new key back when a rotation fails"),
)
"""Makes a key harmless: `key disable`, `key rotate`, `key revoke-sessions`, with `--yes` only."""

MINT: Final = (
    Need("iam:CreateUser", "the canary's user"),
    Need("iam:GetUser", "finds out what a crash left behind"),
    Need("iam:DeleteUser", "takes back what a crash left behind"),
    Need("iam:TagUser", "the tags that were asked for"),
    Need("iam:PutUserPolicy", "the explicit denial of everything"),
    Need("iam:DeleteUserPolicy", "takes back what a crash left behind"),
    Need("iam:ListUserPolicies", "finds out what a crash left behind"),
    Need("iam:CreateAccessKey", "the bait itself"),
    Need("iam:ListAccessKeys", "finds keys whose secret was never handed over"),
    Need("iam:DeleteAccessKey", "takes those back"),
    Need("iam:ListUsers", "looks at the account as an attacker would"),
)
"""Makes canaries: `canary mint`, `canary plant`."""

WATCH: Final = (
    Need("sqs:ReceiveMessage", "reads what CloudTrail announces"),
    Need("sqs:DeleteMessage", "after it is committed"),
    Need("sqs:ChangeMessageVisibility", "while a large file is read"),
    Need("sqs:GetQueueUrl", "finds the queue by its name"),
    Need("sqs:GetQueueAttributes", "how deep and how old the queue is"),
    Need("s3:GetObject", "reads the trail's files"),
    Need("s3:ListBucket", "lists them, for the backfill"),
    Need("cloudtrail:LookupEvents", "reads the event history of every region"),
    Need("cloudtrail:DescribeTrails", "finds the trail"),
    Need("cloudtrail:GetTrailStatus", "whether it logs and delivers"),
    Need("cloudtrail:GetEventSelectors", "whether it logs what matters"),
    Need("events:DescribeRule", "whether the rule sees read-only calls too"),
    Need("iam:GetAccessKeyLastUsed", "uses that CloudTrail does not log"),
    Need("iam:ListAccessKeys", "whether a canary's key is still active: a deactivated one is blind"),
    Need("ec2:DescribeRegions", "which regions to ask"),
)
"""Reads the feeds and the nets: `watch`, `canary nets`."""

ROLES: Final = {"audit": AUDIT, "respond": RESPOND, "mint": MINT, "watch": WATCH}
