"""A key's story: whose it is and what it can do, as far as IAM tells, and in words. What may not be asked is said."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from firedamp.service import rights, show
from firedamp.service.rights import Rights
from firedamp.service.sessions import Holder, holder, is_temporary
from firedamp.storage.errors import AwsFailure
from firedamp.storage.records import Finding, Sight
from firedamp.storage.refusals import failures
from firedamp.storage.times import maybe_rfc3339, rfc3339

if TYPE_CHECKING:
    from types_boto3_iam import IAMClient

READ_CALLS: Final = (
    "iam:GetAccessKeyLastUsed", "iam:GetUser", "iam:ListAccessKeys", "iam:ListGroupsForUser", "iam:ListUserPolicies",
    "iam:GetUserPolicy", "iam:ListAttachedUserPolicies", "iam:ListGroupPolicies", "iam:GetGroupPolicy",
    "iam:ListAttachedGroupPolicies", "iam:GetPolicy", "iam:GetPolicyVersion",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """What is known of a key: from what we found, and from the account it belongs to."""

    key_id: str
    account: str | None
    findings: tuple[Finding, ...]
    sights: tuple[Sight, ...]
    watched: bool
    user: str | None = None
    role: str | None = None
    """Of whose sessions the key is one."""
    arn: str | None = None
    status: str | None = None
    created: datetime | None = None
    last_used: datetime | None = None
    last_service: str | None = None
    last_region: str | None = None
    other_keys: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    rights: Rights | None = None
    unknown: tuple[str, ...] = ()
    """What could not be asked, and why."""

    @property
    def holder(self) -> Holder | None:
        """Whose policies decide what may be done with it."""
        return Holder("User", self.user) if self.user else Holder("Role", self.role) if self.role else None


def asked(iam: IAMClient, story: Story) -> Story:
    """Ask the account. The first call says whose key it is; every further one may be refused on its own."""
    if is_temporary(story.key_id):
        return _of_session(iam, story)
    with failures("its last use cannot be asked"):
        used: Any = iam.get_access_key_last_used(AccessKeyId=story.key_id)
    if used.get("UserName") is None:
        return replace(story, unknown=("AWS names no user for this key",))
    last: Any = used.get("AccessKeyLastUsed", {})
    story = replace(
        story, last_used=last.get("LastUsedDate"), last_service=last.get("ServiceName"),
        last_region=last.get("Region"),
    )  # fmt: skip
    return _of_user(iam, story, used["UserName"])


def _of_session(iam: IAMClient, story: Story) -> Story:
    """Tell whose session a temporary key is of, and what its user can do: IAM itself knows of long-term keys only."""
    arn = arn_of(story.findings)
    of = holder(arn)
    if of is None:
        why = "AWS was not asked whose session it is" if arn is None else "no policy of a user or role is over it alone"
        return replace(story, arn=arn, unknown=(why,))
    if of.kind == "User":
        return _of_user(iam, story, of.name)
    return replace(story, role=of.name, arn=arn, unknown=("what its role may do is not read",))


def arn_of(findings: Sequence[Finding]) -> str | None:
    """Return who a key is, as AWS said when it was verified."""
    return next((each.verification.arn for each in findings if each.verification.arn), None)


def _of_user(iam: IAMClient, story: Story, user: str) -> Story:
    unknown = list[str]()

    def ask(what: str, call: Callable[[], Any], otherwise: Any) -> Any:
        try:
            with failures(what):
                return call()
        except AwsFailure as failure:
            unknown.append(failure.what)
            return otherwise

    whole = ask("the user", lambda: iam.get_user(UserName=user)["User"], {})
    keys = ask("the user's keys", lambda: iam.list_access_keys(UserName=user)["AccessKeyMetadata"], [])
    mine: Any = next((each for each in keys if each["AccessKeyId"] == story.key_id), {})
    groups = ask(
        "the user's groups", lambda: [g["GroupName"] for g in iam.list_groups_for_user(UserName=user)["Groups"]], None
    )
    boundary = str(whole.get("PermissionsBoundary", {}).get("PermissionsBoundaryArn", ""))
    return replace(
        story, user=user, arn=whole.get("Arn"), status=mine.get("Status"), created=mine.get("CreateDate"),
        other_keys=tuple(f"{k['AccessKeyId']} ({k['Status']})" for k in keys if k["AccessKeyId"] != story.key_id),
        groups=tuple(groups or ()), rights=_rights(iam, user, groups, boundary, ask), unknown=tuple(unknown),
    )  # fmt: skip


def _rights(iam: IAMClient, user: str, groups: Sequence[str] | None, boundary: str, ask: Callable[..., Any]) -> Rights:
    documents: list[str] = []
    attached: dict[str, str] = {}
    unread: list[str] = ["policies of groups"] if groups is None else []

    def listed(what: str, call: Callable[..., Any]) -> Any:
        found = ask(what, call, None)
        if found is None:
            unread.append(what)
        return found or []

    for name in listed("inline policies", lambda: iam.list_user_policies(UserName=user)["PolicyNames"]):
        found = ask(f"policy {name}", lambda name=name: iam.get_user_policy(UserName=user, PolicyName=name), None)
        _add(found, name, documents, unread)
    for each in listed("attached policies", lambda: iam.list_attached_user_policies(UserName=user)["AttachedPolicies"]):
        attached[each["PolicyArn"]] = each["PolicyName"]
    for group in groups or ():
        named = listed(
            f"inline policies of group {group}", lambda g=group: iam.list_group_policies(GroupName=g)["PolicyNames"]
        )
        for name in named:
            found = ask(f"policy {name}", lambda g=group, n=name: iam.get_group_policy(GroupName=g, PolicyName=n), None)
            _add(found, name, documents, unread)
        more = listed(
            f"attached policies of group {group}",
            lambda g=group: iam.list_attached_group_policies(GroupName=g)["AttachedPolicies"],
        )
        for each in more:
            attached[each["PolicyArn"]] = each["PolicyName"]
    for arn, name in attached.items():
        version = ask(f"policy {name}", lambda a=arn: iam.get_policy(PolicyArn=a)["Policy"]["DefaultVersionId"], None)
        found = None
        if version is not None:
            found = ask(f"policy {name}", lambda a=arn, v=version: iam.get_policy_version(
                PolicyArn=a, VersionId=v)["PolicyVersion"], None)  # fmt: skip
        _add(found, name, documents, unread, "Document")
    return rights.read(documents, tuple(attached.values()), boundary, unread)


def _add(found: Any, name: str, documents: list[str], unread: list[str], field: str = "PolicyDocument") -> None:
    if found is None:
        unread.append(f"policy {name}")
    else:
        documents.append(found[field] if isinstance(found[field], str) else json.dumps(found[field]))


def lines(story: Story) -> list[str]:
    """Tell a key's story for a person."""
    said = [f"{story.key_id}   account {story.account or 'not in the id'}"]
    if story.watched:
        said.append("  watched: any use of it is an alarm")
    for finding in story.findings:
        answer = finding.verification
        at = "" if answer.at is None else f" on {rfc3339(answer.at)}"
        said.append(f"  found {rfc3339(finding.first_seen)}, {answer.status}{at} {answer.detail}".rstrip())
    places = dict.fromkeys(show.place_line(sight) for sight in story.sights)
    said += [f"  stands in {place}" for place in places]
    session = is_temporary(story.key_id)
    if story.role is not None:
        said.append(f"  session of role {story.role}: {story.arn}")
    if story.user is not None:
        whose = f"user {story.arn or story.user}"
        said.append(f"  session of {whose}" if session else f"  {whose}, key {story.status or 'of unknown status'}")
        if story.created is not None:
            said.append(f"  created {rfc3339(story.created)}")
        if story.last_used is not None:
            said.append(f"  last used {rfc3339(story.last_used)}: {story.last_service} in {story.last_region}")
        elif not session:
            said.append("  AWS knows of no use")
        said += [f"  the user's other key: {other}" for other in story.other_keys]
        said += [f"  in group {group}" for group in story.groups]
    if story.rights is not None:
        said += [f"  {word}" for word in story.rights.words]
        said.append(f"  severity {story.rights.severity.name.lower()}")
    said += [f"  not known: {each}" for each in story.unknown]
    return [show.safe(line) for line in said]


def as_json(story: Story) -> dict[str, show.Json]:
    """Tell a key's story for a machine."""
    able = story.rights
    places: list[show.Json] = [*dict.fromkeys(show.place_line(sight) for sight in story.sights)]
    return {
        "key": story.key_id, "account_id": story.account, "watched": story.watched,
        "verification": [finding.verification.status.value for finding in story.findings],
        "places": places, "user": story.user, "role": story.role, "arn": story.arn, "status": story.status,
        "created": maybe_rfc3339(story.created),
        "last_used": maybe_rfc3339(story.last_used),
        "last_service": story.last_service, "last_region": story.last_region,
        "other_keys": list(story.other_keys), "groups": list(story.groups),
        "severity": None if able is None else able.severity.name.lower(),
        "administrator": None if able is None else able.administrator,
        "escalation": None if able is None else list(able.escalation),
        "mfa_gated": None if able is None else able.mfa_gated,
        "address_locked": None if able is None else list(able.address_locked),
        "deny_all": None if able is None else able.deny_all,
        "quarantined": None if able is None else able.quarantined,
        "boundary": None if able is None else able.boundary,
        "roles": None if able is None else list(able.roles), "unknown": list(story.unknown),
    }  # fmt: skip
