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
from dataclasses import replace
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final

from firedamp.scanner import verify as verifier
from firedamp.scanner.asking import Asker
from firedamp.scanner.candidates import Credential
from firedamp.scanner.reread import reread
from firedamp.scanner.verify import Question
from firedamp.service import clock, scanning, show
from firedamp.service.aws import Aws
from firedamp.service.config import Config
from firedamp.service.options import Common, Format, KeyOptions
from firedamp.service.sessions import Holder, holder, is_temporary
from firedamp.service.story import READ_CALLS, Story, arn_of, as_json, asked, lines
from firedamp.service.typed import refuse_impossible
from firedamp.storage.errors import AwsFailure, Failure, UsageFailure
from firedamp.storage.keyid import CANARY_ACCOUNTS, account_of
from firedamp.storage.records import Canary, KeyAction, Severity, Status, Verification
from firedamp.storage.refusals import failures
from firedamp.storage.store import Store
from firedamp.storage.times import rfc3339

if TYPE_CHECKING:
    from types_boto3_iam import IAMClient

SESSIONS_POLICY: Final = "RevokeOlderSessions"
_SETTLING: Final = timedelta(minutes=5)
"""A key that is being disabled can mint sessions until that has arrived everywhere: they are denied as well."""
_TRIES: Final = 8
"""How often AWS is asked whether a change has arrived: IAM says it is eventually consistent."""


def key(options: KeyOptions, common: Common) -> int:
    """Show a key, or plan or carry out what makes it harmless."""
    common.must_be(Format.TABLE, Format.JSON, Format.JSONL)
    config = common.settings()
    with common.open_store() as store:
        aws = Aws(now=clock.now, random=os.urandom, write_down=store.add_own_call)
        refuse_impossible(options.key_id, store)
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


class Desk:
    """One key, and what it takes to ask about it and act on it."""

    def __init__(self, store: Store, aws: Aws, config: Config, options: KeyOptions, common: Common) -> None:
        self.store, self.config, self.options, self.common = store, config, options, common
        self._aws = aws
        self._arn: str | None = None
        self.key_id = options.key_id
        self.findings = store.findings(key_id=self.key_id)
        sights = store.sights([finding.fingerprint for finding in self.findings])
        self.sights = tuple(sight for finding in self.findings for sight in sights[finding.fingerprint])

    @property
    def _is_watched(self) -> bool:
        return any(each.key_id == self.key_id for each in self.store.watched())

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
            credential.key_id or "", credential.secret, credential.token, self.partition(credential)
        )
        return leaked.iam(purpose=f"key {self.options.action}")

    def partition(self, credential: Credential) -> str:
        """Return the partition of the key: the one whose AWS knew it, for any other refuses it, alive or not."""
        known = self._arn or arn_of(self.findings)
        return known.split(":")[1] if known else verifier.partitions(credential, self.config.verify.partitions)[0]

    def story(self) -> Story:
        """Gather what is known. What may not be asked is said, not guessed."""
        account = account_of(self.key_id) or next((f.verification.account_id for f in self.findings), None)
        story = Story(
            key_id=self.key_id, account=account, findings=tuple(self.findings), sights=self.sights,
            watched=self._is_watched,
        )  # fmt: skip
        if self.common.offline:
            return replace(story, unknown=("AWS was not asked: --offline",))
        if self.options.with_leaked_key:
            print(f"with the leaked key itself, read-only: {', '.join(READ_CALLS)}", file=sys.stderr)
        try:
            self._must_be_of_our_account()
            with self._aws.about(self.key_id):
                return asked(self.iam(), story)
        except AwsFailure as failure:
            return replace(story, unknown=(str(failure),))

    def _must_be_of_our_account(self) -> None:
        """Raise AwsFailure for a session of another account: a user or role here may have its holder's name.

        A long-term key needs no such care: its own id is what IAM is asked about.
        """
        arn = arn_of(self.findings)
        if arn is None or self.options.with_leaked_key or not is_temporary(self.key_id):
            return
        ours, its = self._aws.identity(self._profile).split(":")[4], arn.split(":")[4]
        if ours != its:
            raise AwsFailure(f"its session is of account {its}, and the profile acts in account {ours}")

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
        of = holder(arn_of(self.findings)) if is_temporary(self.key_id) else None
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
        self._arn = story.arn
        if story.user is None and any(each.verification.is_root for each in self.findings):
            raise Failure(
                f"{self.key_id} is a root key of account {story.account or 'unknown'}: no policy and no other user "
                "has power over it",
                "sign in as root: Security credentials, Access keys",
            )
        if story.holder is None:
            hint = "use a profile of its account (--profile), or --with-leaked-key"
            if is_temporary(self.key_id) and arn_of(self.findings) is None:
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

        began = clock.now()
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
                known = replace(said, at=clock.now())
                self.store.set_verification(finding.fingerprint, known, verifier.grade(finding, known))
        return True

    def ask(self, credential: Credential) -> Verification:
        """Ask STS about one credential, once."""
        asker = Asker(
            user_agent=self.config.verify.user_agent, timeout=self.config.verify.timeout.total_seconds(),
            concurrency=1, now=clock.now, random=os.urandom,
        )  # fmt: skip
        question = Question(credential, self.partition(credential))
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
            KeyAction(key_id=self.key_id, action=action, step=call, at=clock.now(), outcome=outcome, detail=detail)
        )


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
    for each in story.findings:
        (finding,) = store.finding(each.fingerprint)  # again: AWS took its time, and others may have asked meanwhile
        rights = max((finding.rights if story.rights.unread else None) or Severity.INFO, story.rights.severity)
        graded = verifier.grade(replace(finding, rights=rights), finding.verification)
        store.set_rights(finding.fingerprint, rights, graded)


def _write(common: Common, story: Story) -> None:
    with common.out() as out:
        if common.format is Format.TABLE:
            out.write("\n".join(lines(story)) + "\n")
        else:
            show.json_lines([as_json(story)], out.write)
