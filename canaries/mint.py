"""Makes canaries: an IAM user each, with one key and an explicit deny of everything. Survives a crash at any step.

    written down -> CreateUser -> PutUserPolicy -> CreateAccessKey -> watched -> secret handed over -> live

What is written down before the first call is found again by the next run, which finishes it or takes it back. A key
whose secret was not handed over is deleted and made again: nobody has it. A user is only ever touched when it is
provably the one that was asked for: none of its name existed when it was written down, by AWS's own clock.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from firedamp.canaries import naming
from firedamp.canaries.pace import Pace
from firedamp.storage.errors import AwsFailure, Failure, UsageFailure, aws_code
from firedamp.storage.records import Canary, CanaryState, Minting, MintPurpose, Owner
from firedamp.storage.secret import Secret
from firedamp.storage.store import Store

if TYPE_CHECKING:
    from types_boto3_iam import IAMClient

MOST: Final = 5_000
"""Users an account may have (IAM guide, "IAM and STS quotas")."""
DENY_ALL: Final = json.dumps(
    {"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Action": "*", "Resource": "*"}]}
)
_SKEW: Final = timedelta(minutes=1)
_UNSEEN: Final = ("NoSuchEntity",)
"""IAM answers so for a moment about what it has just made (IAM guide, "eventual consistency")."""
_PATIENCE: Final = 6
"""Times a user is looked for: six seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is asked for: so many canaries, named by a pattern (`naming`), in the account of a profile."""

    account_id: str
    profile: str | None
    pattern: str = naming.DEFAULT
    count: int = 1
    note: str = ""
    tags: tuple[tuple[str, str], ...] = ()
    purpose: MintPurpose = MintPurpose.CANARY


@dataclass(frozen=True, slots=True)
class Minted:
    """A canary with its secret, to be handed over once. replaces: a key of an earlier run that is void."""

    canary: Canary
    secret: Secret
    replaces: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Mint:
    """What minting needs of the world. about says which key the calls inside are about."""

    iam: IAMClient
    store: Store
    pace: Pace
    now: Callable[[], datetime]
    random: Callable[[int], bytes]
    about: Callable[[str], AbstractContextManager[None]]

    def plan(self, order: Order) -> list[Minting]:
        """Choose names that no user has, as they would be asked for. Raises UsageFailure, AwsFailure, ClientError."""
        if not 1 <= order.count <= MOST:
            raise UsageFailure(f"{order.count} canaries cannot be minted", f"an account has at most {MOST} users")
        taken, asked = self._users()
        room = self._room()
        if room is not None and room < order.count:
            raise AwsFailure(
                f"account {order.account_id} has room for {room} more users, {order.count} are asked for",
                "ask AWS for a higher quota, or use another account",
            )
        taken |= {each.name for each in self.store.mintings()}
        return [
            Minting(name=name, account_id=order.account_id, profile=order.profile, purpose=order.purpose,
                    note=order.note, tags=order.tags, asked=asked)
            for name in naming.names(order.pattern, order.count, taken, self.random)
        ]  # fmt: skip

    def make(self, minting: Minting, hand_over: Callable[[Minted], None]) -> Canary:
        """Bring one canary from wherever it is to its end; hand_over gets the secret, and must not return before it
        is kept. Raises what AWS raises, and Failure for a user that may be somebody else's: it is left alone.
        """  # noqa: D205
        minting, arn, fresh = self._user(minting)
        user, policy = minting.name, f"{minting.name}-policy"
        self.pace.call(
            lambda: self.iam.put_user_policy(UserName=user, PolicyName=policy, PolicyDocument=DENY_ALL), _UNSEEN
        )
        void = minting.key_id
        if not fresh:
            void = self._delete_keys(minting) or void
            self.store.key_deleted(minting)
        key, doubled = self._new_key(user)
        minting = replace(minting, key_id=key["AccessKeyId"])
        canary = self._canary(minting, arn)
        self.store.key_made(minting, canary)
        if doubled or not fresh:
            # An answer that was lost on its way, or a key that IAM did not list a moment ago, left one more behind.
            self._delete_keys(minting, keep=key["AccessKeyId"])
        hand_over(Minted(canary, Secret(key["SecretAccessKey"]), void))
        if minting.purpose is MintPurpose.CANARY:
            self.store.handed_over(minting)
        return replace(canary, state=CanaryState.LIVE)

    def take_back(self, minting: Minting) -> None:
        """Remove what was made of a user that was asked for, and forget it. Nothing there is fine, too."""
        user = self._existing(minting)
        if user is not None:
            self._delete_keys(minting)
            name = minting.name
            for policy in self._pages("list_user_policies", "PolicyNames", UserName=name):
                self._gone(partial(self.iam.delete_user_policy, UserName=name, PolicyName=policy))
            self._gone(lambda: self.iam.delete_user(UserName=name))
        self.store.taken_back(minting)

    def _user(self, minting: Minting) -> tuple[Minting, str, bool]:
        """Make the user, or find the one that an earlier run made; tell its ARN and whether it is new."""
        from botocore.exceptions import ClientError

        tags: Any = [{"Key": key, "Value": value} for key, value in minting.tags]
        try:
            user = self.pace.call(lambda: self.iam.create_user(UserName=minting.name, Tags=tags))["User"]
            fresh = True
        except ClientError as error:
            if aws_code(error) != "EntityAlreadyExists":
                raise
            found, fresh = self._existing(minting), False
            if found is None:
                raise AwsFailure(f"IAM has a user {minting.name} and does not show it", "try again") from error
            user = found
        minting = replace(minting, user_id=user["UserId"])
        self.store.ask([minting])
        return minting, user["Arn"], fresh

    def _new_key(self, user: str) -> tuple[Any, bool]:
        """Make a key; say whether IAM was asked more than once, and may have made another one each time."""
        asked = 0

        def ask() -> Any:
            nonlocal asked
            asked += 1
            return self.iam.create_access_key(UserName=user)

        made = self.pace.call(ask, _UNSEEN)
        return made["AccessKey"], asked > 1 or bool(made["ResponseMetadata"].get("RetryAttempts"))

    def _existing(self, minting: Minting) -> Any:
        """Return the user if there is one and it is ours, None if there is none. Raises Failure for a stranger's."""
        from botocore.exceptions import ClientError

        # One that IAM has told the id of may not be shown yet: it is not gone at the first answer that says so.
        patience: Any = {} if minting.user_id is None else {"again": _UNSEEN, "tries": _PATIENCE}
        try:
            user = self.pace.call(lambda: self.iam.get_user(UserName=minting.name), **patience)["User"]
        except ClientError as error:
            if aws_code(error) == "NoSuchEntity":
                return None
            raise
        if not self._is_ours(minting, user):
            raise Failure(
                f"user {minting.name} of account {minting.account_id} is not provably the one that was asked for",
                "it is left alone; firedamp canary retire NAME --force forgets that it was asked for",
            )
        return user

    def _is_ours(self, minting: Minting, user: Any) -> bool:
        """Whether a user is the one that was asked for: by its id, else by its age and by having nothing of others."""
        if minting.user_id is not None:
            return bool(user["UserId"] == minting.user_id)
        name = minting.name
        if user["CreateDate"] < minting.asked - _SKEW or user["Path"] != "/":
            return False
        if {(tag["Key"], tag["Value"]) for tag in user.get("Tags", [])} != {*minting.tags}:
            return False
        policies = self._pages("list_user_policies", "PolicyNames", UserName=name)
        others = [each for each in policies if each != f"{name}-policy"]
        others += self._pages("list_attached_user_policies", "AttachedPolicies", UserName=name)
        others += self._pages("list_groups_for_user", "Groups", UserName=name)
        return not others

    def _delete_keys(self, minting: Minting, keep: str | None = None) -> str | None:
        """Delete a user's keys; return the one that was deleted last. IAM lists two at most."""
        last = None
        for key in self._pages("list_access_keys", "AccessKeyMetadata", UserName=minting.name):
            key_id = key["AccessKeyId"]
            if key_id != keep:
                with self.about(key_id):
                    self._gone(partial(self.iam.delete_access_key, UserName=minting.name, AccessKeyId=key_id))
                last = key_id
        return last

    def _canary(self, minting: Minting, arn: str) -> Canary:
        user = minting.name
        owner = Owner(arn=arn, principal_id=minting.user_id, user_name=user, account_id=minting.account_id)
        note = minting.note if minting.purpose is MintPurpose.CANARY else "proves the path of a drill; taken back"
        return Canary(
            key_id=minting.key_id or "", name=user, owner=owner, note=note, tags=minting.tags,
            state=CanaryState.MINTING, since=self.now(), profile=minting.profile,
        )  # fmt: skip

    def _users(self) -> tuple[set[str], datetime]:
        """Return the names of the account's users, and when AWS said so, by its own clock."""
        names: set[str] = set()
        asked = self.now()
        for number, page in enumerate(self.iam.get_paginator("list_users").paginate()):
            date = page["ResponseMetadata"]["HTTPHeaders"].get("date")
            if number == 0 and date:
                asked = parsedate_to_datetime(date)
            names |= {user["UserName"] for user in page["Users"]}
        return names, asked

    def _room(self) -> int | None:
        """Return how many users the account may still have, None where that may not be asked."""
        from botocore.exceptions import ClientError

        try:
            summary: Any = self.pace.call(self.iam.get_account_summary)["SummaryMap"]
        except ClientError:
            return None  # CreateUser itself will say it
        return int(summary["UsersQuota"]) - int(summary["Users"])

    def _pages(self, operation: Any, field: str, **arguments: str) -> list[Any]:
        pages: Callable[[], Any] = lambda: list(self.iam.get_paginator(operation).paginate(**arguments))  # noqa: E731
        return [each for page in self._gone(pages) or () for each in page[field]]

    def _gone(self, ask: Callable[[], Any]) -> Any:
        """Ask something that is as well when its object has gone meanwhile."""
        from botocore.exceptions import ClientError

        try:
            return self.pace.call(ask)
        except ClientError as error:
            if aws_code(error) != "NoSuchEntity":
                raise
            return None


def pending(mintings: Sequence[Minting], account_id: str, purpose: MintPurpose) -> Iterator[Minting]:
    """Yield what an earlier run left unfinished in an account."""
    return (each for each in mintings if each.account_id == account_id and each.purpose is purpose)
