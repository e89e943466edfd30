"""`key show|disable|revoke-sessions`: a key's story, and making it harmless.

Nothing changes without `--yes`; with it, every step is written down, and what was done is proved by asking AWS again.
Rotation, which writes files too, is in `rotate`.
"""

from __future__ import annotations

import functools
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final

from firedamp.scanner import verify as verifier
from firedamp.scanner.asking import Asker
from firedamp.scanner.candidates import Credential
from firedamp.scanner.reread import reread
from firedamp.scanner.verify import Question
from firedamp.service import rights, scanning, show
from firedamp.service.aws import Aws, failures
from firedamp.service.config import Config
from firedamp.service.options import Common, Format, KeyOptions
from firedamp.service.rights import Rights
from firedamp.service.sessions import Holder, holder, is_temporary
from firedamp.storage.errors import AwsFailure, Failure, UsageFailure
from firedamp.storage.keyid import CANARY_ACCOUNTS, account_of
from firedamp.storage.records import Canary, Finding, KeyAction, Severity, Sight, Status, Verification
from firedamp.storage.store import Store
from firedamp.storage.times import rfc3339

if TYPE_CHECKING:
    from types_boto3_iam import IAMClient

SESSIONS_POLICY: Final = "RevokeOlderSessions"
_SETTLING: Final = timedelta(minutes=5)
"""A key that is being disabled can mint sessions until that has arrived everywhere: they are denied as well."""
_TRIES: Final = 8
"""How often AWS is asked whether a change has arrived: IAM says it is eventually consistent."""


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


def key(options: KeyOptions, common: Common) -> int:
    """Show a key, or plan or carry out what makes it harmless."""
    common.must_be(Format.TABLE, Format.JSON, Format.JSONL)
    config = common.settings()
    with common.open_store() as store:
        aws = Aws(now=_now, random=os.urandom, write_down=store.add_own_call)
        desk = Desk(store, aws, config, options, common)
        if options.action == "show":
            story = desk.story()
            _keep_grade(store, story)
            _write(common, story)
            return 0
        desk.refuse_canaries()
        if options.action != "revoke-sessions" and is_temporary(options.key_id):
            raise UsageFailure(
                f"{options.key_id} is a temporary key: it ends by itself, and nobody can {options.action} it",
                f"firedamp key revoke-sessions {options.key_id} denies it everything until then",
            )
        match options.action:
            case "disable":
                return desk.disable()
            case "revoke-sessions":
                return desk.revoke()
            case _:
                from firedamp.service import rotate

                return rotate.rotate(desk)


def _now() -> datetime:
    return datetime.now(UTC)


class Desk:
    """One key, and what it takes to ask about it and act on it."""

    def __init__(self, store: Store, aws: Aws, config: Config, options: KeyOptions, common: Common) -> None:
        self.store, self.config, self.options, self.common = store, config, options, common
        self._aws = aws
        self.key_id = options.key_id
        self.findings = store.findings(key_id=self.key_id)
        sights = store.sights([finding.fingerprint for finding in self.findings])
        self.sights = tuple(sight for finding in self.findings for sight in sights[finding.fingerprint])

    def refuse_canaries(self) -> None:
        """Stop before a canary is touched: a deactivated one is blind. A watched real key is judged like any other."""
        if any(isinstance(each, Canary) and each.key_id == self.key_id for each in self.store.watched()):
            raise UsageFailure(f"{self.key_id} is a canary of ours", "firedamp canary retire takes it back")
        if account_of(self.key_id) in CANARY_ACCOUNTS.union(self.config.scan.canary_accounts):
            raise UsageFailure(f"{self.key_id} is a honeytoken of somebody's", "any call with it is an alarm there")
        if self.common.offline:
            raise UsageFailure(f"key {self.options.action} asks AWS, and --offline contacts nobody")

    def credential(self) -> Credential | None:
        """Read the leaked key back from where it was found: the secret that AWS accepted, else the likeliest."""
        likely = sorted(self.findings, key=lambda each: (each.verification.status is not Status.ACTIVE, each.rank))
        for finding in likely:
            if finding.has_secret:
                found = reread(
                    finding, self.store.sights([finding.fingerprint])[finding.fingerprint],
                    functools.partial(scanning.read_again, clones=self.config.serve.cache), scanning.detect_blob,
                )  # fmt: skip
                if found is not None:
                    return found
        return None

    @property
    def _profile(self) -> str | None:
        return self.options.profile or self.config.aws.audit_profile or self.config.aws.profile

    def _is_own(self) -> bool:
        """Whether our own access is this very key."""
        credentials = self._aws.session(self._profile).get_credentials()
        return credentials is not None and credentials.get_frozen_credentials().access_key == self.key_id

    def iam(self) -> IAMClient:
        """Return the IAM to act with: our own access, or the leaked key's when that was asked for."""
        if not self.options.with_leaked_key:
            return self._aws.iam(self._profile, purpose=f"key {self.options.action}")
        credential = self.credential()
        if credential is None or credential.secret is None:
            raise Failure(f"the secret of {self.key_id} cannot be read back", "is the place it was found in gone?")
        leaked = self._aws.leaked(
            credential.key_id or "", credential.secret, credential.token, self._partition(credential)
        )
        return leaked.iam(purpose=f"key {self.options.action}")

    def _partition(self, credential: Credential) -> str:
        """Return the partition of the key: the one whose AWS knew it, for any other refuses it, alive or not."""
        known = next((each.verification.arn for each in self.findings if each.verification.arn), None)
        return known.split(":")[1] if known else verifier.partitions(credential, self.config.verify.partitions)[0]

    def story(self) -> Story:
        """Gather what is known. What may not be asked is said, not guessed."""
        account = account_of(self.key_id) or next((f.verification.account_id for f in self.findings), None)
        story = Story(
            key_id=self.key_id, account=account, findings=tuple(self.findings), sights=self.sights,
            watched=any(each.key_id == self.key_id for each in self.store.watched()),
        )  # fmt: skip
        if self.common.offline:
            return replace(story, unknown=("AWS was not asked: --offline",))
        if self.options.with_leaked_key:
            print(f"with the leaked key itself, read-only: {', '.join(READ_CALLS)}", file=sys.stderr)
        try:
            with self._aws.about(self.key_id):
                return _asked(self.iam(), story)
        except AwsFailure as failure:
            return replace(story, unknown=(str(failure),))

    def disable(self) -> int:
        """Make the key inactive, deny the sessions made from it, and prove both."""
        story = self.plan(("iam:UpdateAccessKey (Inactive)", f"iam:PutUserPolicy ({SESSIONS_POLICY})"))
        by_itself = self.options.with_leaked_key or self._is_own()
        if by_itself and not self.options.with_leaked_key:
            print("you work with this very key: once it is inactive, it cannot undo that", file=sys.stderr)
        _tell_roles(story)
        if not self.go() or story.user is None:
            return 0
        iam, undenied = self.iam(), None
        with self._aws.about(self.key_id):
            # The sessions first: with the key itself, nothing can be done after it is inactive.
            try:
                self._deny_sessions(iam, Holder("User", story.user), _SETTLING)
            except Failure as failure:  # no reason to let the key live
                undenied = failure
            self.step("disable", "iam:UpdateAccessKey", lambda: iam.update_access_key(
                UserName=story.user or "", AccessKeyId=self.key_id, Status="Inactive"))  # fmt: skip
            unlisted = None if by_itself else self._prove_inactive(iam, story.user)
        if not self._prove_rejected() and unlisted is not None:
            raise Failure(f"{self.key_id} was made inactive, but that is not proved: {unlisted.what}", unlisted.hint)
        if undenied is not None:
            raise Failure(
                f"{self.key_id} is inactive, but sessions made from it are not proved to be denied: {undenied.what}",
                f"firedamp key revoke-sessions {self.key_id}, with a profile that may",
            )
        return 0

    def revoke(self) -> int:
        """Deny every session that was made from the key until now, and prove that the denial stands.

        Of a temporary key: every session of its user or role, for IAM cannot tell one from another.
        """
        of = holder(_arn(self.findings)) if is_temporary(self.key_id) else None
        story = self.plan((f"iam:Put{'User' if of is None else of.kind}Policy ({SESSIONS_POLICY})",))
        _tell_roles(story)
        if self.go() and story.holder is not None:
            with self._aws.about(self.key_id):
                self._deny_sessions(self.iam(), story.holder)
        return 0

    def go(self, obstacle: Failure | None = None) -> bool:
        """Return whether to act. Raises the obstacle then; without `--yes`, only says what it would do."""
        if self.options.yes:
            if obstacle is not None:
                raise obstacle
            return True
        would = "--yes does it" if obstacle is None else f"--yes is refused: {obstacle}"
        print(f"nothing was changed; {would}", file=sys.stderr)
        return False

    def plan(self, calls: Sequence[str]) -> Story:
        """Show the plan: whose key, what will break, which calls."""
        story = self.story()
        if story.user is None and any(each.verification.is_root for each in self.findings):
            raise Failure(
                f"{self.key_id} is a root key of account {story.account or 'unknown'}: no policy and no other user "
                "has power over it",
                "sign in as root: Security credentials, Access keys",
            )
        if story.holder is None:
            hint = "use a profile of its account (--profile), or --with-leaked-key"
            if is_temporary(self.key_id):
                hint = f"firedamp verify {self.key_id} asks, while it lives"
            raise Failure(f"{self.key_id} cannot be acted on: {'; '.join(story.unknown)}", hint)
        out = sys.stderr
        print(f"{self.key_id} of {story.arn or story.holder.name} in account {story.account or 'unknown'}", file=out)
        if is_temporary(self.key_id):
            print(f"it is denied with every other session of {story.holder.name} that was made until now", file=out)
        elif story.last_used is not None:
            used = f"{rfc3339(story.last_used)} at {story.last_service} in {story.last_region}"
            print(f"what uses it will break; last use: {used}", file=out)
        else:
            print("AWS knows of no use of it", file=out)
        for call in calls:
            print(f"{'calling' if self.options.yes else 'would call'} {call}", file=out)
        return story

    def _deny_sessions(self, iam: IAMClient, of: Holder, longer: timedelta = timedelta()) -> None:
        """Deny what sessions minted until now, or so much longer, may do: AWS cannot end them.

        (IAM guide, "Revoke IAM role temporary credentials".) Sessions bear the time of AWS's clock, and IAM compares
        whole seconds: where our clock is behind, it is denied once more, and the second that has begun is denied too.
        """
        api: Any = iam
        named = {f"{of.kind}Name": of.name, "PolicyName": SESSIONS_POLICY}
        put, get = (getattr(api, f"{verb}_{of.kind.lower()}_policy") for verb in ("put", "get"))

        def deny(until: datetime) -> tuple[str, dict[str, Any], Any]:
            border = rfc3339(until.replace(microsecond=0) + longer + timedelta(seconds=1))
            condition = {"DateLessThan": {"aws:TokenIssueTime": border}}
            statement = {"Effect": "Deny", "Action": "*", "Resource": "*", "Condition": condition}
            policy = {"Version": "2012-10-17", "Statement": [statement]}
            document = json.dumps(policy)
            call = f"iam:Put{of.kind}Policy"
            return border, policy, self.step("revoke-sessions", call, lambda: put(**named, PolicyDocument=document))

        began = _now()
        border, policy, answer = deny(began)
        date = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
        if date is not None and parsedate_to_datetime(date) > began + timedelta(seconds=1):
            border, policy, _ = deny(parsedate_to_datetime(date))
        try:
            kept = self.step("revoke-sessions", f"iam:Get{of.kind}Policy", lambda: get(**named)["PolicyDocument"])
        except AwsFailure as failure:
            raise Failure(
                f"{SESSIONS_POLICY} was put, but cannot be read back for proof: {failure.what}", failure.hint
            ) from failure
        if kept not in (policy, json.dumps(policy)):
            raise Failure(f"the policy {SESSIONS_POLICY} of {of.name} is not what was put there", "look at it in IAM")
        print(f"sessions made before {border} are denied ({SESSIONS_POLICY})", file=sys.stderr)

    def _prove_inactive(self, iam: IAMClient, user: str) -> AwsFailure | None:
        """See that IAM lists the key as inactive. Return why that cannot be seen; raises Failure when it is not so."""
        try:
            with failures("the keys of the user cannot be listed"):
                listed = iam.list_access_keys(UserName=user)["AccessKeyMetadata"]
        except AwsFailure as failure:
            return failure
        keys = {each["AccessKeyId"]: each["Status"] for each in listed}
        if keys.get(self.key_id) != "Inactive":
            raise Failure(f"{self.key_id} is still {keys.get(self.key_id)} after it was made inactive", "try again")
        print(f"{self.key_id} is inactive", file=sys.stderr)
        return None

    def _prove_rejected(self) -> bool:
        """Ask STS with the leaked key until it is refused; changes take seconds to arrive everywhere.

        Return False when there is no secret to ask with. Raises Failure when STS does not refuse it.
        """
        credential = self.credential()
        if credential is None:
            print("the secret cannot be read back, so STS was not asked for proof", file=sys.stderr)
            return False
        for attempt in range(_TRIES):
            said = self.ask(credential)
            if said.status is Status.REJECTED:
                print("STS refuses the key", file=sys.stderr)
                break
            time.sleep(min(0.25 * 2**attempt, 5))
        else:
            raise Failure(f"STS does not refuse {self.key_id} yet: {said.status}", "ask again: firedamp verify")
        for finding in self.findings:
            if finding.has_secret:
                known = replace(said, at=_now())
                self.store.set_verification(finding.fingerprint, known, verifier.grade(finding, known))
        return True

    def ask(self, credential: Credential) -> Verification:
        """Ask STS about one credential, once."""
        asker = Asker(
            user_agent=self.config.verify.user_agent, timeout=self.config.verify.timeout.total_seconds(),
            concurrency=1, now=_now, random=os.urandom,
        )  # fmt: skip
        question = Question(credential, self._partition(credential))
        try:
            self.store.add_own_call(asker.announce(question))
            return verifier.read(asker(question))
        finally:
            asker.close()

    def step(self, action: str, call: str, do: Callable[[], Any]) -> Any:
        """Do one step and write down how it went."""
        try:
            with failures(f"{call} for {self.key_id} failed"):
                done = do()
        except AwsFailure as failure:
            self.wrote(action, call, "failed", failure.what)
            raise
        self.wrote(action, call, "done", "")
        return done

    def wrote(self, action: str, call: str, outcome: str, detail: str) -> None:
        """Write down what was done about the key."""
        self.store.add_key_action(
            KeyAction(key_id=self.key_id, action=action, step=call, at=_now(), outcome=outcome, detail=detail)
        )


READ_CALLS: Final = (
    "iam:GetAccessKeyLastUsed", "iam:GetUser", "iam:ListAccessKeys", "iam:ListGroupsForUser", "iam:ListUserPolicies",
    "iam:GetUserPolicy", "iam:ListAttachedUserPolicies", "iam:ListGroupPolicies", "iam:GetGroupPolicy",
    "iam:ListAttachedGroupPolicies", "iam:GetPolicy", "iam:GetPolicyVersion",
)  # fmt: skip


def _asked(iam: IAMClient, story: Story) -> Story:
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
    arn = _arn(story.findings)
    of = holder(arn)
    if of is None:
        why = "AWS was not asked whose session it is" if arn is None else "no policy of a user or role is over it alone"
        return replace(story, arn=arn, unknown=(why,))
    if of.kind == "User":
        return _of_user(iam, story, of.name)
    return replace(story, role=of.name, arn=arn, unknown=("what its role may do is not read",))


def _arn(findings: Sequence[Finding]) -> str | None:
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


def _tell_roles(story: Story) -> None:
    """Say which sessions a policy of the user does not reach: those of roles are under the roles' policies."""
    able = story.rights
    roles = ("any role",) if able is None or able.administrator else able.roles
    for each in story.unknown:
        print(f"not known: {show.safe(each)}", file=sys.stderr)
    if roles or story.unknown:
        roles = roles or ("which is not known",)
        print(
            f"sessions of roles that it assumed ({', '.join(map(show.safe, roles))}) are not ended by this: "
            "revoke them at each role",
            file=sys.stderr,
        )


def _keep_grade(store: Store, story: Story) -> None:
    """Remember how bad the key is, now that its rights are known: the list of findings is sorted by it.

    Who may not read every policy does not make it less bad than somebody knew it to be.
    """
    if story.rights is None:
        return
    for finding in story.findings:
        if finding.verification.status in {Status.ACTIVE, Status.UNCHECKED, Status.UNKNOWN} and not finding.canary:
            known = (finding.severity if story.rights.unread else None) or Severity.INFO
            store.set_verification(finding.fingerprint, finding.verification, max(known, story.rights.severity))


def _write(common: Common, story: Story) -> None:
    with common.out() as out:
        if common.format is Format.TABLE:
            out.write("\n".join(lines(story)) + "\n")
        else:
            show.json_lines([as_json(story)], out.write)


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
        "created": None if story.created is None else rfc3339(story.created),
        "last_used": None if story.last_used is None else rfc3339(story.last_used),
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
