"""Policies -> what matters of them: what a leaked key can do, and what stands in its way. Pure.

This reads policies for a person who decides in minutes; it does not evaluate a request. Where a condition or a boundary
makes it uncertain, it says so instead of guessing.
"""

from __future__ import annotations

import fnmatch
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from firedamp.storage.records import Severity

QUARANTINE: Final = "AWSCompromisedKeyQuarantine"
"""AWS attaches it to users whose key it finds in public; matched by prefix, versions come and go (V2, V3, V4)."""

_ESCALATIONS: Final[tuple[tuple[str, ...], ...]] = (
    ("iam:CreatePolicyVersion",),
    ("iam:SetDefaultPolicyVersion",),
    ("iam:CreateAccessKey",),
    ("iam:CreateLoginProfile",),
    ("iam:UpdateLoginProfile",),
    ("iam:AttachUserPolicy",),
    ("iam:AttachGroupPolicy",),
    ("iam:AttachRolePolicy", "sts:AssumeRole"),
    ("iam:PutUserPolicy",),
    ("iam:PutGroupPolicy",),
    ("iam:PutRolePolicy", "sts:AssumeRole"),
    ("iam:AddUserToGroup",),
    ("iam:UpdateAssumeRolePolicy", "sts:AssumeRole"),
    ("iam:PassRole", "ec2:RunInstances"),
    ("iam:PassRole", "lambda:CreateFunction", "lambda:InvokeFunction"),
    ("iam:PassRole", "glue:CreateDevEndpoint"),
    ("iam:PassRole", "cloudformation:CreateStack"),
    ("iam:PassRole", "datapipeline:CreatePipeline", "datapipeline:PutPipelineDefinition"),
    ("lambda:UpdateFunctionCode",),
    ("ssm:SendCommand",),
    ("cloudformation:UpdateStack",),
)
"""Sets of actions with which a key makes itself an administrator (Rhino Security Labs, "AWS privilege escalation")."""


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement of a policy, as far as it is read here."""

    allow: bool
    actions: tuple[str, ...]
    not_actions: tuple[str, ...]
    resources: tuple[str, ...]
    conditions: tuple[tuple[str, str, tuple[str, ...]], ...]
    """(operator, key, values), operator and key in lower case."""

    def covers(self, action: str) -> bool:
        """Whether an action is among the statement's."""
        if self.not_actions:
            return not any(_fits(action, pattern) for pattern in self.not_actions)
        return any(_fits(action, pattern) for pattern in self.actions)

    @property
    def everything(self) -> bool:
        """Whether it is about all actions on all resources."""
        return "*" in self.resources and any(pattern in {"*", "*:*"} for pattern in self.actions)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rights:
    """What a key can do, reduced to what matters."""

    administrator: bool = False
    escalation: tuple[str, ...] = ()
    """The first path to more rights, empty when there is none."""
    mfa_gated: bool = False
    address_locked: tuple[str, ...] = ()
    deny_all: bool = False
    quarantined: bool = False
    boundary: str = ""
    roles: tuple[str, ...] = ()
    """Roles it may assume, as patterns."""
    unread: tuple[str, ...] = ()
    """Policies that could not be read: what they allow is not known, with or without a gate."""

    @property
    def severity(self) -> Severity:
        """How bad it is that this key leaked."""
        if self.deny_all:
            return Severity.LOW
        gated = self.mfa_gated or bool(self.address_locked)
        if self.administrator or self.escalation:
            return Severity.HIGH if gated or self.quarantined else Severity.CRITICAL
        return Severity.MEDIUM if gated or self.quarantined else Severity.HIGH

    @property
    def words(self) -> tuple[str, ...]:
        """What is said of it, the worst first."""
        said = []
        if self.administrator:
            said.append("administrator: every action on every resource")
        if self.escalation:
            said.append(f"can make itself an administrator: {' + '.join(self.escalation)}")
        if self.roles:
            said.append(f"may assume {', '.join(self.roles)}")
        if self.mfa_gated:
            said.append("needs MFA: the bare key can do little")
        if self.address_locked:
            said.append(f"works from {', '.join(self.address_locked)} only")
        if self.deny_all:
            said.append("denied everything")
        if self.quarantined:
            said.append("quarantined by AWS: it knows of the leak, and denies the calls that thieves like most")
        if self.boundary:
            said.append(f"bounded by {self.boundary}: the actual rights may be fewer")
        said += [f"{each} could not be read: what is allowed there is not known" for each in self.unread]
        return tuple(said) or ("no right that matters was found",)


def read(
    documents: Iterable[str], attached: Sequence[str] = (), boundary: str = "", unread: Sequence[str] = ()
) -> Rights:
    """Reduce policies. documents are their JSON; attached are the ARNs or names of managed ones."""
    statements = [each for document in documents for each in parse(document)]
    allows = [each for each in statements if each.allow]
    denies = [each for each in statements if not each.allow]
    hard = [each for each in denies if not each.conditions]
    gate = any(each.everything and _wants_mfa(each, allow=False) for each in denies)
    locked = [each for each in denies if each.everything and _addresses(each, allow=False)]
    ranges = [each for one in locked for each in _addresses(one, allow=False)]
    known = allows if not unread else []  # what cannot be read may allow it all, from everywhere
    if known and all(_addresses(each, allow=True) for each in known):
        ranges += [each for one in known for each in _addresses(one, allow=True)]

    def can(action: str) -> bool:
        return any(each.covers(action) for each in allows) and not any(
            each.covers(action) and "*" in each.resources for each in hard
        )

    escalation = next((path for path in _ESCALATIONS if all(can(action) for action in path)), ())
    roles = [
        role for each in allows if each.covers("sts:AssumeRole") and can("sts:AssumeRole") for role in each.resources
    ]
    deny_all = any(each.everything for each in hard)
    administrator = any(each.everything for each in allows) and not deny_all
    return Rights(
        administrator=administrator, escalation=() if administrator or deny_all else escalation,
        mfa_gated=gate or (bool(known) and all(_wants_mfa(each, allow=True) for each in known)),
        address_locked=tuple(dict.fromkeys(ranges)), deny_all=deny_all,
        quarantined=any(QUARANTINE in name for name in attached), boundary=boundary,
        roles=() if administrator or deny_all else tuple(dict.fromkeys(roles)), unread=tuple(unread),
    )  # fmt: skip


def parse(document: str) -> list[Statement]:
    """Read a policy document (IAM guide, "Grammar of the IAM JSON policy language"); no policy has no statements."""
    try:
        policy = json.loads(document)
    except ValueError:
        return []
    found = policy.get("Statement", []) if isinstance(policy, dict) else []
    return [_statement(each) for each in (found if isinstance(found, list) else [found]) if isinstance(each, dict)]


def _statement(raw: Mapping[str, Any]) -> Statement:
    conditions = [
        (str(operator).lower(), str(key).lower(), _listed(values))
        for operator, keys in _object(raw.get("Condition")).items()
        for key, values in _object(keys).items()
    ]
    return Statement(
        allow=raw.get("Effect") == "Allow", actions=_listed(raw.get("Action")),
        not_actions=_listed(raw.get("NotAction")), resources=_listed(raw.get("Resource")) or ("*",),
        conditions=tuple(conditions),
    )  # fmt: skip


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _listed(value: object) -> tuple[str, ...]:
    if value is None:
        return ()
    return tuple(str(each) for each in value) if isinstance(value, list) else (str(value),)


def _fits(action: str, pattern: str) -> bool:
    return re.match(fnmatch.translate(pattern.lower()), action.lower()) is not None


def _wants_mfa(statement: Statement, *, allow: bool) -> bool:
    """Whether MFA decides. A Deny with `Bool` does not: a key without MFA lacks the field, so nothing is denied."""
    operators = {"bool", "boolifexists"} if allow else {"boolifexists"}
    wanted = "true" if allow else "false"
    for operator, key, values in statement.conditions:
        if key == "aws:multifactorauthpresent":
            if operator in operators and wanted in {value.lower() for value in values}:
                return True
            if not allow and operator == "null" and "true" in {value.lower() for value in values}:
                return True
    return False


def _addresses(statement: Statement, *, allow: bool) -> tuple[str, ...]:
    wanted = "ipaddress" if allow else "notipaddress"
    return tuple(
        value
        for operator, key, values in statement.conditions
        if operator == wanted and key == "aws:sourceip"
        for value in values
        if value not in {"0.0.0.0/0", "::/0"}
    )
