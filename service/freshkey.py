"""Makes the key that is planted: a fresh one on the canary's IAM user, for the secret of the first is not kept.

    own call written down -> CreateAccessKey -> watched as `minting` -> planted -> live

A crash anywhere leaves a key that the next run knows: it is watched as `minting`, or it was made within moments of a
call that was written down. Such a key was handed to nobody and is deleted. No other key is ever touched.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from firedamp.canaries.formats import Pair
from firedamp.service import clock
from firedamp.service.aws import Aws
from firedamp.storage.errors import AwsFailure, Failure, UsageFailure, aws_code
from firedamp.storage.records import Canary, CanaryState
from firedamp.storage.refusals import failures
from firedamp.storage.secret import Secret
from firedamp.storage.store import Store

if TYPE_CHECKING:
    from types_boto3_iam import IAMClient

_MOST: Final = 2
"""Keys that a user may have (IAM guide, "IAM and AWS STS quotas")."""
_SKEW: Final = timedelta(minutes=6)
"""How far AWS's clock and ours may be apart, and how long a call may take: signatures are taken for 5 minutes (IAM
guide, "AWS Signature Version 4 for API requests")."""
_PURPOSE: Final = "plant"


@dataclass(frozen=True, slots=True)
class KeyMaker:
    """Makes and deletes keys of one canary's user, with the access of a profile."""

    aws: Aws
    store: Store
    canary: Canary
    profile: str | None

    def make(self) -> tuple[Canary, Pair]:
        """Make a key and watch it. Raises AwsFailure, and UsageFailure where the user has two keys that must stay."""
        user = self._user()
        keys = self.tidy(())
        if len(keys) >= _MOST:
            raise UsageFailure(
                f"{user} has two keys already: {', '.join(keys)}", "none is touched: plant another canary"
            )
        with self.aws.about(self.canary.key_id), failures(f"{user} gets no key"):
            answer = self._iam().create_access_key(UserName=user)
        made = answer["AccessKey"]
        fresh = replace(
            self.canary, key_id=made["AccessKeyId"], state=CanaryState.MINTING, since=clock.now(), profile=self.profile
        )
        try:
            self.store.watch(fresh)
            if answer["ResponseMetadata"].get("RetryAttempts"):
                self.tidy((fresh.key_id,))  # an answer that was lost on its way left one more key behind
        except BaseException:
            self.delete(fresh.key_id)
            raise
        return fresh, Pair(fresh.key_id, Secret(made["SecretAccessKey"]))

    def delete(self, key_id: str) -> None:
        """Delete a key that was handed to nobody, and forget it. One that is gone already is fine."""
        from botocore.exceptions import ClientError

        with self.aws.about(key_id), failures(f"{key_id} cannot be deleted"):
            try:
                self._iam().delete_access_key(UserName=self._name(), AccessKeyId=key_id)
            except ClientError as error:
                if aws_code(error) != "NoSuchEntity":
                    raise
        self.store.unplace(key_id)

    def tidy(self, keep: Iterable[str]) -> list[str]:
        """Delete what an earlier run left behind; return the keys that the user has then."""
        with self.aws.about(self.canary.key_id), failures(f"the keys of {self._name()} cannot be listed"):
            listed = self._iam().list_access_keys(UserName=self._name())["AccessKeyMetadata"]
        watched = {key.key_id: key for key in self.store.watched()}
        kept = []
        for each in listed:
            key_id = each["AccessKeyId"]
            key = watched.get(key_id)
            minting = isinstance(key, Canary) and key.state is CanaryState.MINTING
            if key_id not in keep and (minting or (key is None and self._ours(each["CreateDate"]))):
                self.delete(key_id)
            else:
                kept.append(key_id)
        return kept

    def _ours(self, created: datetime) -> bool:
        """Whether we asked for a key of this user when this one was made."""
        return any(
            call.call == "iam:CreateAccessKey"
            and call.purpose == _PURPOSE
            and call.key_id == self.canary.key_id
            and abs(created - call.at) <= _SKEW
            for call in self.store.own_calls()
        )

    def _user(self) -> str:
        """Return the user's name, once IAM has shown that it is the canary's and no namesake's."""
        name, owner = self._name(), self.canary.owner
        with self.aws.about(self.canary.key_id), failures(f"user {name} cannot be looked at"):
            user: Any = self._iam().get_user(UserName=name)["User"]
        if owner.principal_id not in {None, user["UserId"]} or owner.arn not in {None, user["Arn"]}:
            raise Failure(
                f"the user {name} that this profile sees is not the canary's", "--profile names one of its account"
            )
        return name

    def _name(self) -> str:
        name = self.canary.owner.user_name
        if self.canary.adopted or name is None:
            raise UsageFailure(
                f"{self.canary.name} was made elsewhere, and its secret is not known here",
                "--secret-from env:NAME, file:PATH or - hands it over",
            )
        return name

    def _iam(self) -> IAMClient:
        return self.aws.iam(self.profile, _PURPOSE)


def left_over(failure: AwsFailure, key_id: str) -> str:
    """Say that a key could not be deleted, and what becomes of it."""
    return f"{key_id} is still there, and nobody has it: the next planting deletes it ({failure})"
