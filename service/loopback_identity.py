"""Who is calling the loopback AWS, what they may do, and the STS and MFA answers that make new callers."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from firedamp.service import loopback_moto as moto
from firedamp.service.loopback_policy import Question, Rights, Trust, parse, refusal, trust
from firedamp.service.loopback_wire import Call, Refusal, check_signature
from firedamp.storage.keyid import account_of
from firedamp.storage.secret import Secret

_ADMINISTRATOR: Final = Rights((parse(moto.ALLOW_ALL),))
_ALWAYS_ALLOWED: Final = frozenset({("sts", "GetCallerIdentity"), ("sts", "GetSessionToken"), ("sts", "AssumeRole")})
"""Calls that no policy decides; AssumeRole is judged with the role's trust policy."""
_S3_ACTIONS: Final = {
    "ListBuckets": "ListAllMyBuckets",
    "HeadBucket": "ListBucket",
    "ListObjects": "ListBucket",
    "ListObjectsV2": "ListBucket",
    "ListObjectVersions": "ListBucketVersions",
    "HeadObject": "GetObject",
    "CopyObject": "PutObject",
    "DeleteObjects": "DeleteObject",
    "CreateMultipartUpload": "PutObject",
    "UploadPart": "PutObject",
    "CompleteMultipartUpload": "PutObject",
    "GetBucketNotificationConfiguration": "GetBucketNotification",
    "PutBucketNotificationConfiguration": "PutBucketNotification",
    "GetBucketLifecycleConfiguration": "GetLifecycleConfiguration",
    "PutBucketLifecycleConfiguration": "PutLifecycleConfiguration",
    "GetPublicAccessBlock": "GetBucketPublicAccessBlock",
    "PutPublicAccessBlock": "PutBucketPublicAccessBlock",
}
"""S3 operations whose permission has another name (S3 guide, "Required permissions for API operations")."""
_SQS_ACTIONS: Final = {
    "ChangeMessageVisibilityBatch": "ChangeMessageVisibility",
    "DeleteMessageBatch": "DeleteMessage",
    "SendMessageBatch": "SendMessage",
}
"""SQS operations whose permission has another name (SQS guide, "Amazon SQS API permissions")."""
_ACTIONS: Final = {"s3": _S3_ACTIONS, "sqs": _SQS_ACTIONS}
ABOUT_CALLER: Final = frozenset(
    "GetUser ListAccessKeys CreateAccessKey UpdateAccessKey DeleteAccessKey ListMFADevices "
    "ListSigningCertificates ListSSHPublicKeys".split()
)
"""IAM calls that are about the caller's own user when they name none."""


class Kind(StrEnum):
    """A caller's type, in CloudTrail's words."""

    ROOT = "Root"
    USER = "IAMUser"
    ROLE = "AssumedRole"
    FEDERATED = "FederatedUser"


@dataclass(frozen=True, slots=True)
class Issuer:
    """Whose session it is: `sessionContext.sessionIssuer`."""

    kind: str
    principal_id: str
    arn: str
    account: str
    name: str


@dataclass(frozen=True, slots=True)
class Session:
    """What temporary credentials add to a caller. policy is a session policy's document, None for none."""

    token: Secret
    issued: datetime
    expires: datetime
    mfa: bool
    issuer: Issuer | None = None
    policy: str | None = None


@dataclass(frozen=True, slots=True)
class Identity:
    """An authenticated caller: what GetCallerIdentity and CloudTrail say of it."""

    kind: Kind
    account: str
    arn: str
    principal_id: str
    key_id: str
    secret: Secret
    name: str | None = None
    """The IAM user's name; for a role's session the role's, for a federated user the issuing user's."""
    session: Session | None = None


class Directory:
    """The keys that moto does not hold (root's, and every temporary one), and what is decided about callers.

    clock is the time of sessions, wall the time of signatures and one-time codes.
    """

    def __init__(self, clock: Callable[[], datetime], wall: Callable[[], datetime]) -> None:
        self._clock, self._wall = clock, wall
        self._held: dict[str, Identity] = {}
        self._codes_used: set[tuple[str, str]] = set()

    def add_root_key(self, account: str) -> Identity:
        """Make an access key of an account's root user."""
        key_id, secret = moto.temporary_key(account)
        key_id = "AKIA" + key_id[4:]
        root = Identity(Kind.ROOT, account, f"arn:aws:iam::{account}:root", account, key_id, secret)
        self._held[key_id] = root
        return root

    def authenticate(self, call: Call) -> Identity:
        """Return who signed the call. Raises Refusal, never to be recorded, when nobody provably did."""
        identity = self._find(call.scope.key_id)
        invalid = Refusal("InvalidClientTokenId", "The security token included in the request is invalid.")
        if identity is None:
            raise invalid
        session = identity.session
        if (session.token.reveal() if session else None) != (call.token or None):
            if call.service == "s3" and call.token:
                message = "The provided token is malformed or otherwise invalid."
                raise Refusal("InvalidToken", message, 400)
            raise invalid
        check_signature(call, identity.secret, self._wall())
        if session and session.expires <= self._clock():
            message = "The security token included in the request is expired"
            raise Refusal("ExpiredToken", message)
        # IAM guide, "Compare AWS STS credentials": a user's sessions cannot call IAM unless GetSessionToken saw MFA.
        if session and call.service == "iam" and (identity.kind is Kind.FEDERATED or self._without_mfa(identity)):
            raise invalid
        return identity

    @staticmethod
    def _without_mfa(identity: Identity) -> bool:
        session = identity.session
        return identity.kind is Kind.USER and session is not None and not session.mfa

    def _find(self, key_id: str) -> Identity | None:
        held = self._held.get(key_id)
        if held is not None:
            return held if _rights(held) is not None else None
        key = moto.find_key(key_id)
        if key is None or not key.active:
            return None
        return Identity(Kind.USER, key.account, key.arn, key.user_id, key_id, key.secret, key.user)

    def authorise(self, call: Call, identity: Identity) -> None:
        """Raise Refusal, in AWS's words, unless the caller's policies allow the call."""
        if (call.service, call.operation) in _ALWAYS_ALLOWED:
            return
        operation = _ACTIONS.get(call.service, {}).get(call.operation, call.operation)
        self._require(call, identity, f"{call.prefix}:{operation}", resource_of(call, identity))

    def _require(self, call: Call, identity: Identity, action: str, resource: str | None) -> None:
        reason = self.reason_against(identity, Question(action, resource, self._context(call, identity)))
        if reason is not None:
            where = f" on resource: {resource}" if resource else ""
            raise _denied(identity, action, f"{where} {reason}")

    def reason_against(self, identity: Identity, question: Question) -> str | None:
        """Return why the caller may not, or None when it may."""
        rights = _rights(identity)
        return "because its owner is gone" if rights is None else refusal(rights, question)

    def _context(self, call: Call, identity: Identity, **more: str) -> dict[str, str]:
        context = {
            "aws:sourceip": call.request.address,
            "aws:requestedregion": call.region,
            "aws:principalarn": identity.session.issuer.arn
            if identity.session and identity.session.issuer
            else identity.arn,
            "aws:principalaccount": identity.account,
            "aws:userid": identity.principal_id,
            "aws:useragent": call.request.headers.get("user-agent", ""),
            "aws:currenttime": self._clock().isoformat(),
            "aws:securetransport": "true",
            **more,
        }
        if identity.kind is Kind.USER and identity.name:
            context["aws:username"] = identity.name
        if call.prefix == "cloudwatch" and call.text("Namespace"):
            context["cloudwatch:namespace"] = call.text("Namespace")
        if identity.session:
            context["aws:multifactorauthpresent"] = str(identity.session.mfa).lower()
            context["aws:tokenissuetime"] = identity.session.issued.isoformat()
        return context

    # STS.

    def answer(self, call: Call, identity: Identity) -> dict[str, Any] | None:
        """Return the fields of an answer to an STS call, or None for a call that is not answered here."""
        match call.service, call.operation:
            case "sts", "GetCallerIdentity":
                return {"UserId": identity.principal_id, "Account": identity.account, "Arn": identity.arn}
            case "sts", "GetAccessKeyInfo":
                return {"Account": _account_of_key(call.text("AccessKeyId"))}
            case "sts", "GetSessionToken":
                return self._get_session_token(call, identity)
            case "sts", "GetFederationToken":
                return self._get_federation_token(call, identity)
            case "sts", "AssumeRole":
                return self._assume_role(call, identity)
            case "iam", "EnableMFADevice":
                self._check_two_codes(call)
            case _:
                pass
        return None

    def _get_session_token(self, call: Call, identity: Identity) -> dict[str, Any]:
        _no_session(call, identity)
        mfa = self._check_code(call, identity)
        session = self._session(call, "FwoGZXIvYXdzE", 43200, mfa=mfa)
        return {"Credentials": self._hold(replace(identity, session=session))}

    def _get_federation_token(self, call: Call, identity: Identity) -> dict[str, Any]:
        _no_session(call, identity)
        name = call.text("Name")
        issuer = Issuer(
            str(identity.kind), identity.principal_id, identity.arn, identity.account, identity.name or "root"
        )
        policy = call.text("Policy") or '{"Version": "2012-10-17", "Statement": []}'
        session = replace(self._session(call, "IQoJb3JpZ2luX2Vj", 43200), issuer=issuer, policy=policy)
        arn = f"arn:aws:sts::{identity.account}:federated-user/{name}"
        principal = f"{identity.account}:{name}"
        federated = Identity(
            Kind.FEDERATED, identity.account, arn, principal, "", identity.secret, identity.name, session
        )
        user = {"FederatedUserId": principal, "Arn": arn}
        return {"Credentials": self._hold(federated), "FederatedUser": user, "PackedPolicySize": 1}

    def _assume_role(self, call: Call, identity: Identity) -> dict[str, Any]:
        arn = call.text("RoleArn")
        denied = _denied(identity, "sts:AssumeRole", f" on resource: {arn}")
        if identity.kind is Kind.ROOT:
            raise Refusal("AccessDenied", "Roles may not be assumed by root accounts.")
        mfa = self._check_code(call, identity)
        role = moto.find_role(arn)
        if role is None:
            raise denied
        more = {"sts:externalid": call.text("ExternalId")} if "ExternalId" in call.parameters else {}
        context = self._context(call, identity, **more)
        if mfa:
            context["aws:multifactorauthpresent"] = "true"
        question = Question("sts:AssumeRole", arn, context)
        names = [identity.arn, context["aws:principalarn"]]
        trusted = trust(role.trust, names, identity.account, question)
        reason = self.reason_against(identity, question)
        named_here = trusted is Trust.NAMED and role.account == identity.account
        if trusted is Trust.NO or (reason is not None and not (named_here and reason.startswith("because"))):
            raise denied
        issuer = Issuer("Role", role.role_id, role.arn, role.account, role.name)
        policy = call.text("Policy") or None
        session = replace(self._session(call, "IQoJb3JpZ2luX2Vj", 3600, mfa=mfa), issuer=issuer, policy=policy)
        session_arn = f"arn:aws:sts::{role.account}:assumed-role/{role.name}/{call.text('RoleSessionName')}"
        principal = f"{role.role_id}:{call.text('RoleSessionName')}"
        assumed = Identity(Kind.ROLE, role.account, session_arn, principal, "", identity.secret, role.name, session)
        user = {"AssumedRoleId": principal, "Arn": session_arn}
        return {"Credentials": self._hold(assumed), "AssumedRoleUser": user}

    def _session(self, call: Call, prefix: str, lasts: int, *, mfa: bool = False) -> Session:
        seconds = int(call.text("DurationSeconds") or lasts)
        if seconds < 900:
            message = (
                f"1 validation error detected: Value '{seconds}' at 'durationSeconds' failed to satisfy constraint"
            )
            raise Refusal("ValidationError", f"{message}: Member must have value greater than or equal to 900", 400)
        now = self._clock()
        return Session(Secret(prefix + secrets.token_urlsafe(150)), now, now + timedelta(seconds=seconds), mfa)

    def _hold(self, identity: Identity) -> dict[str, Any]:
        """Give a session its own key, remember it, and return it as STS does."""
        key_id, secret = moto.temporary_key(identity.account)
        self._held[key_id] = replace(identity, key_id=key_id, secret=secret)
        session = identity.session
        return {
            "AccessKeyId": key_id,
            "SecretAccessKey": secret.reveal(),
            "SessionToken": session.token.reveal() if session else "",
            "Expiration": session.expires if session else "",
        }

    # MFA.

    def _check_code(self, call: Call, identity: Identity) -> bool:
        """Whether the call came with MFA. A code that is wrong or was used raises; a session passes on what it has."""
        serial, code = call.text("SerialNumber"), call.text("TokenCode")
        if not serial and not code:
            return identity.session is not None and identity.session.mfa
        device = moto.mfa_device(serial)
        if device is None or device[1] != identity.name:
            raise Refusal(
                "AccessDenied",
                "MultiFactorAuthentication failed, unable to validate MFA code.  "
                "Please verify your MFA serial number is valid and associated with this user.",
            )
        now = self._wall()
        current = {one_time_code(device[0], now + timedelta(seconds=offset)) for offset in (-30, 0, 30)}
        if code not in current or (serial, code) in self._codes_used:
            raise Refusal("AccessDenied", "MultiFactorAuthentication failed with invalid MFA one time pass code. ")
        self._codes_used.add((serial, code))
        return True

    def _check_two_codes(self, call: Call) -> None:
        device = moto.mfa_device(call.text("SerialNumber"))
        now = self._wall()
        if device is not None and {call.text("AuthenticationCode1"), call.text("AuthenticationCode2")} - {
            one_time_code(device[0], now + timedelta(seconds=offset)) for offset in (-60, -30, 0, 30)
        }:
            raise Refusal("InvalidAuthenticationCode", "Authentication code for device is not valid")


def one_time_code(seed: str, at: datetime) -> str:
    """Return the six digits that an MFA device with this base32 seed shows (RFC 6238, SHA-1, 30 s)."""
    counter = struct.pack(">Q", int(at.timestamp()) // 30)
    digest = hmac.digest(base64.b32decode(seed), counter, hashlib.sha1)
    offset = digest[-1] & 15
    return f"{(int.from_bytes(digest[offset : offset + 4], 'big') & 0x7FFFFFFF) % 10**6:06d}"


def resource_of(call: Call, identity: Identity) -> str | None:
    """Return the ARN that a call is about; None, which fits every pattern, for services not worked out here."""
    account, region, text = identity.account, call.region, call.text
    match call.service:
        case "s3":
            bucket, key = text("Bucket"), text("Key")
            return f"arn:aws:s3:::{bucket}" + (f"/{key}" if key else "") if bucket else "*"
        case "sqs" if text("QueueUrl"):
            owner, name = text("QueueUrl").rsplit("/", 2)[-2:]
            return f"arn:aws:sqs:{region}:{owner}:{name}"
        case "sqs" if text("QueueName"):
            return f"arn:aws:sqs:{region}:{account}:{text('QueueName')}"
        case "sns" if text("TopicArn"):
            return text("TopicArn")
        case "iam":
            return _iam_resource(call, identity)
        case "sts":
            return text("RoleArn") or (
                f"arn:aws:sts::{account}:federated-user/{text('Name')}" if text("Name") else None
            )
        case "events" if text("Name") or text("Rule"):
            return f"arn:aws:events:{region}:{account}:rule/{text('Name') or text('Rule')}"
        case "cloudtrail" if text("Name") or text("TrailName"):
            name = text("Name") or text("TrailName")
            return name if name.startswith("arn:") else f"arn:aws:cloudtrail:{region}:{account}:trail/{name}"
        case "secretsmanager" if text("SecretId") or text("Name"):
            name = text("SecretId") or text("Name")
            return name if name.startswith("arn:") else f"arn:aws:secretsmanager:{region}:{account}:secret:{name}"
        case "ssm" if text("Name"):
            return f"arn:aws:ssm:{region}:{account}:parameter/{text('Name').removeprefix('/')}"
        case "lambda" if text("FunctionName"):
            return f"arn:aws:lambda:{region}:{account}:function:{text('FunctionName')}"
        case "ec2" if text("InstanceId"):
            return f"arn:aws:ec2:{region}:{account}:instance/{text('InstanceId')}"
        case _:
            return None


def _iam_resource(call: Call, identity: Identity) -> str | None:
    text, account = call.text, identity.account
    if text("UserName"):
        path = text("Path") or "/"
        return moto.user_arn(account, text("UserName")) or f"arn:aws:iam::{account}:user{path}{text('UserName')}"
    if text("RoleName"):
        path = text("Path") or "/"
        return moto.role_arn(account, text("RoleName")) or f"arn:aws:iam::{account}:role{path}{text('RoleName')}"
    if text("GroupName"):
        return f"arn:aws:iam::{account}:group/{text('GroupName')}"
    if text("PolicyArn"):
        return text("PolicyArn")
    if text("AccessKeyId"):
        key = moto.find_key(text("AccessKeyId"))
        return "*" if key is None or key.account != account else key.arn
    if call.operation in ABOUT_CALLER and identity.kind is Kind.USER:
        return identity.arn
    return text("SerialNumber") or "*"


def _rights(identity: Identity) -> Rights | None:
    """Return what decides about a caller now, or None when the user or role behind it is gone."""
    name, session = identity.name, identity.session
    if identity.kind is Kind.ROLE:
        rights = moto.role_rights(identity.account, name or "")
    elif name is None:
        rights = _ADMINISTRATOR
    else:
        rights = moto.user_rights(identity.account, name) if moto.user_exists(identity.account, name) else None
    if rights is None or session is None or session.policy is None:
        return rights
    return replace(rights, session=parse(session.policy))


def _denied(identity: Identity, action: str, rest: str) -> Refusal:
    subject = "User" if identity.kind is not Kind.ROOT else "Root"
    return Refusal("AccessDenied", f"{subject}: {identity.arn} is not authorized to perform: {action}{rest}")


def _no_session(call: Call, identity: Identity) -> None:
    if identity.session is not None:
        raise Refusal("AccessDenied", f"Cannot call {call.operation} with session credentials")


def _account_of_key(key_id: str) -> str:
    if not (20 <= len(key_id) <= 128 and key_id.isalnum()):
        raise Refusal("ValidationError", "Invalid Access Key ID format.", 400)
    known = moto.find_key(key_id)
    account = account_of(key_id) if known is None else known.account
    if account is None:
        raise Refusal("ValidationError", "Access key ID is not valid.", 400)
    return account
