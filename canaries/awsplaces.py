"""Places in AWS where a canary can stand: an object, a secret, a parameter, a function's variables, user data.

Clients are arguments. What AWS refuses is botocore's ClientError; that something is not there is no error. Conditions
of the call itself (`IfNoneMatch`, no `Overwrite`, a revision) keep what somebody else wrote meanwhile, where the
service has one.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from firedamp.canaries.plant import Held
from firedamp.storage.errors import Failure, UsageFailure, aws_code

if TYPE_CHECKING:
    from types_boto3_ec2 import EC2Client
    from types_boto3_lambda import LambdaClient
    from types_boto3_s3 import S3Client
    from types_boto3_secretsmanager import SecretsManagerClient
    from types_boto3_ssm import SSMClient

_LARGEST: Final = 1 << 20
"""Bytes of the largest object that is read: a planted one is small."""
_ABSENT: Final = frozenset({"NoSuchKey", "404", "ResourceNotFoundException", "ParameterNotFound"})


@dataclass(frozen=True, slots=True)
class ObjectPlace:
    """An object of S3 that is not there yet. A bucket with versions keeps what was taken back as an old version."""

    client: S3Client
    bucket: str
    key: str
    name: str
    kind: str = "s3"
    grows: bool = False

    def read(self) -> Held | None:
        """Read the object; of a large one only the beginning, which is never what was planted."""
        got = _unless_absent(lambda: self.client.get_object(Bucket=self.bucket, Key=self.key))
        return None if got is None else Held(got["Body"].read(_LARGEST), str(got["ETag"]))

    def write(self, data: bytes, before: Held | None) -> None:
        """Put the object where none is."""
        _nothing_was(before)
        self.client.put_object(Bucket=self.bucket, Key=self.key, Body=data, IfNoneMatch="*")

    def remove(self, held: Held) -> None:
        """Delete the object that was read."""
        _still(self, held)
        self.client.delete_object(Bucket=self.bucket, Key=self.key)


@dataclass(frozen=True, slots=True)
class SecretPlace:
    """A secret of Secrets Manager that is not there yet."""

    client: SecretsManagerClient
    secret: str
    name: str
    kind: str = "secretsmanager"
    grows: bool = False

    def read(self) -> Held | None:
        """Read the secret's current text."""
        got = _unless_absent(lambda: self.client.get_secret_value(SecretId=self.secret))
        return None if got is None else Held(str(got.get("SecretString", "")).encode(), str(got["VersionId"]))

    def write(self, data: bytes, before: Held | None) -> None:
        """Create the secret."""
        _nothing_was(before)
        self.client.create_secret(Name=self.secret, SecretString=data.decode())

    def remove(self, held: Held) -> None:
        """Delete the secret at once: a waiting time would leave it readable for whoever restores it."""
        _still(self, held)
        self.client.delete_secret(SecretId=self.secret, ForceDeleteWithoutRecovery=True)


@dataclass(frozen=True, slots=True)
class ParameterPlace:
    """An encrypted parameter of Systems Manager that is not there yet."""

    client: SSMClient
    parameter: str
    name: str
    kind: str = "ssm"
    grows: bool = False

    def read(self) -> Held | None:
        """Read the parameter, decrypted."""
        got = _unless_absent(lambda: self.client.get_parameter(Name=self.parameter, WithDecryption=True))
        return None if got is None else Held(got["Parameter"]["Value"].encode(), str(got["Parameter"]["Version"]))

    def write(self, data: bytes, before: Held | None) -> None:
        """Create the parameter."""
        _nothing_was(before)
        self.client.put_parameter(Name=self.parameter, Value=data.decode(), Type="SecureString", Overwrite=False)

    def remove(self, held: Held) -> None:
        """Delete the parameter that was read."""
        _still(self, held)
        self.client.delete_parameter(Name=self.parameter)


@dataclass(frozen=True, slots=True)
class FunctionPlace:
    """The variables of a Lambda function whose names begin with a prefix; no other is read or changed."""

    client: LambdaClient
    function: str
    prefix: str
    """With its underscore, as in `BACKUP_`. Lambda itself has `AWS_ACCESS_KEY_ID`, so ours never has that name."""
    name: str
    kind: str = "lambda"
    grows: bool = False

    def read(self) -> Held | None:
        """Read the variables as lines, in the order of their names. Raises ClientError when there is no function."""
        told = self.client.get_function_configuration(FunctionName=self.function)
        ours = sorted(self._ours(told))
        if not ours:
            return None
        lines = (f"{name}={' '.join(value.splitlines())}\n" for name, value in ours)
        return Held("".join(lines).encode(), str(told.get("RevisionId", "")))

    def write(self, data: bytes, before: Held | None) -> None:
        """Add variables."""
        _nothing_was(before)
        lines = (line.partition("=") for line in data.decode().splitlines())
        self._update({name: value for name, _, value in lines})

    def remove(self, held: Held) -> None:
        """Take the variables out."""
        _still(self, held)
        self._update({})

    def _update(self, wanted: dict[str, str]) -> None:
        told = self.client.get_function_configuration(FunctionName=self.function)
        ours = {name for name, _ in self._ours(told)}
        if ours and wanted:
            raise Failure(f"{self.name} changed while it was being written", "look at it, then try again")
        others = {k: v for k, v in told.get("Environment", {}).get("Variables", {}).items() if k not in ours}
        revision: Any = {"RevisionId": told["RevisionId"]} if told.get("RevisionId") else {}
        self.client.update_function_configuration(
            FunctionName=self.function, Environment={"Variables": others | wanted}, **revision
        )

    def _ours(self, told: Any) -> list[tuple[str, str]]:
        variables = told.get("Environment", {}).get("Variables", {})
        return [(name, value) for name, value in variables.items() if name.startswith(f"{self.prefix}AWS_")]


@dataclass(frozen=True, slots=True)
class UserDataPlace:
    """The user data of an EC2 instance, which AWS lets change only while the instance is stopped."""

    client: EC2Client
    instance: str
    name: str
    kind: str = "ec2"
    grows: bool = True

    def read(self) -> Held | None:
        """Read the user data. Raises ClientError when there is no such instance."""
        told = self.client.describe_instance_attribute(InstanceId=self.instance, Attribute="userData")
        value = told.get("UserData", {}).get("Value", "")
        if not value:
            return None
        try:
            return Held(base64.b64decode(value), value)
        except ValueError as error:
            raise Failure(f"the user data of {self.instance} is no base64", "it is left alone") from error

    def write(self, data: bytes, before: Held | None) -> None:
        """Replace the user data, unless it is not what was read."""
        now = self.read()
        if (None if now is None else now.stamp) != (None if before is None else before.stamp):
            raise Failure(f"{self.name} changed while it was being written", "look at it, then try again")
        self.client.modify_instance_attribute(
            InstanceId=self.instance, Attribute="userData", Value=base64.b64encode(data).decode()
        )

    def remove(self, held: Held) -> None:
        """Empty the user data."""
        self.write(b"", held)


AwsPlace = ObjectPlace | SecretPlace | ParameterPlace | FunctionPlace | UserDataPlace


@dataclass(frozen=True, slots=True)
class Spot:
    """A place in AWS as it is written: `s3://BUCKET/KEY`, `ssm:/NAME`, each with `?region=R&profile=P`."""

    kind: str
    rest: str
    region: str | None
    profile: str | None

    @property
    def service(self) -> str:
        """The name of the client it needs."""
        return self.kind

    def open(self, client: Any, prefix: str) -> AwsPlace:
        """Make the place. prefix is what a function's variables begin with, where the place does not say it.

        Raises UsageFailure for one that names nothing.
        """
        head, _, tail = self.rest.partition("/")
        if not head and not tail:
            raise UsageFailure(f"{self.kind} needs a name", "s3://BUCKET/KEY, ssm:/NAME, lambda:FUNCTION, ec2:INSTANCE")
        match self.kind:
            case "s3":
                if not head or not tail:
                    raise UsageFailure(f"s3://{self.rest} names no object", "s3://BUCKET/KEY")
                return ObjectPlace(client, head, tail, self._named(f"s3://{self.rest}"))
            case "secretsmanager":
                return SecretPlace(client, self.rest, self._named(f"secretsmanager:{self.rest}"))
            case "ssm":
                return ParameterPlace(client, self.rest, self._named(f"ssm:{self.rest}"))
            case "lambda":
                start = tail or prefix.removesuffix("_")
                return FunctionPlace(client, head, f"{start}_", self._named(f"lambda:{head}/{start}"))
            case _:
                return UserDataPlace(client, self.rest, self._named(f"ec2:{self.rest}"))

    def _named(self, name: str) -> str:
        """Write the place so that it is found again from anywhere: with its region and the profile that reads it."""
        more = [f"{key}={value}" for key, value in (("region", self.region), ("profile", self.profile)) if value]
        return f"{name}?{'&'.join(more)}" if more else name


def spot(place: str) -> Spot | None:
    """Read a place in AWS; None for one that is elsewhere. Raises UsageFailure for an option that is not known."""
    kind, sign, rest = place.partition(":")
    if not sign or kind not in {"s3", "secretsmanager", "ssm", "lambda", "ec2"}:
        return None
    rest, _, query = rest.removeprefix("//").partition("?")
    options = dict(each.partition("=")[::2] for each in query.split("&") if each)
    if options.keys() - {"region", "profile"}:
        raise UsageFailure(f"{place} has options that are not known", "?region=R&profile=P")
    return Spot(kind, rest, options.get("region"), options.get("profile"))


def _unless_absent(ask: Any) -> Any:
    from botocore.exceptions import ClientError

    try:
        return ask()
    except ClientError as error:
        if aws_code(error) in _ABSENT:
            return None
        raise


def _nothing_was(before: Held | None) -> None:
    if before is not None:
        raise UsageFailure("what is there is never overwritten")


def _still(place: AwsPlace, held: Held) -> None:
    """Raise Failure when a place holds something else by now."""
    now = place.read()
    if now is None or now.data != held.data:
        raise Failure(f"{place.name} changed meanwhile", "look at it, then try again")
