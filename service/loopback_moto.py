"""The one door to moto: its web application and the state that it keeps, read and changed in process, typed.

moto holds users, buckets, queues, topics, rules and trails in module globals: one loopback AWS a process.
"""

from __future__ import annotations

import base64
import io
import json
import os
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from functools import cache, wraps
from threading import RLock
from typing import TYPE_CHECKING, Any, Final, cast
from uuid import uuid4

from firedamp.service.loopback_policy import Policy, Rights, parse
from firedamp.storage.errors import Failure
from firedamp.storage.secret import Secret

# Any region name is a region here, as new ones appear more often than releases of moto.
os.environ.setdefault("MOTO_ALLOW_NONEXISTENT_REGION", "true")
try:
    import moto.iam.models as iam
    from moto.cloudtrail.models import Trail, cloudtrail_backends
    from moto.core.base_backend import BackendDict
    from moto.events.models import events_backends
    from moto.iam.access_control import PermissionResult
    from moto.iam.aws_managed_policies import aws_managed_policies_data
    from moto.iam.utils import generate_access_key_id_from_account_id
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
    from moto.organizations.models import organizations_backends
    from moto.s3 import notifications
    from moto.s3.models import FakeBucket, s3_backends
    from moto.ses.models import ses_backends
    from moto.sns.models import sns_backends
    from moto.sqs.models import SQSBackend, sqs_backends
    from werkzeug.serving import BaseWSGIServer, make_server
except ImportError as error:
    raise Failure("the loopback AWS needs moto, which is not installed", "in a clone: make demo") from error

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

__all__ = ["BaseWSGIServer", "MotoRequestHandler", "Trail", "make_server"]

ALLOW_ALL: Final = '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}'
_AWS_POLICY: Final = "arn:aws:iam::aws:policy"
_LOOK_AGAIN: Final = 0.01
"""Seconds between two looks into an empty queue."""
_BOUNDARIES: dict[str, str] = {}
"""User ARN to boundary ARN: moto has boundaries for roles only."""

Record = dict[str, Any]
"""A CloudTrail record or event as JSON: built here and sent, never read again."""


@dataclass(frozen=True, slots=True)
class UserKey:
    """A long-term access key as IAM holds it, with its user."""

    account: str
    user: str
    arn: str
    user_id: str
    secret: Secret
    active: bool


@dataclass(frozen=True, slots=True)
class RoleFacts:
    """What AssumeRole and its sessions need of a role."""

    account: str
    name: str
    arn: str
    role_id: str
    trust: Policy


@dataclass(frozen=True, slots=True)
class ReportRow:
    """A user as the credential report tells of it: two places for keys, each None or what is known."""

    name: str
    arn: str
    created: datetime
    password: bool
    mfa: bool
    keys: tuple[ReportKey, ...]


@dataclass(frozen=True, slots=True)
class ReportKey:
    """A key in the credential report; used is (when, region, service)."""

    active: bool
    created: datetime
    used: tuple[datetime, str, str] | None


def reset(account: str) -> None:
    """Forget everything, in every account. account is where unknown keys would belong."""
    BackendDict.reset()
    _BOUNDARIES.clear()
    _backend(account)


def install() -> None:
    """Give new users ids of AWS's shape (`AIDA…`), once a process: a watched owner is matched by it.

    And leave bucket policies out: moto's reading of them knows no conditions, so a Deny without TLS denies everybody.
    """
    user, bucket = cast("Any", iam.User), cast("Any", FakeBucket)
    if getattr(user, "firedamp_ids", False):
        return
    make = user.__init__

    def with_aws_id(made: iam.User, *args: Any, **kwargs: Any) -> None:
        make(made, *args, **kwargs)
        made.id = generate_access_key_id_from_account_id(made.account_id, prefix="AIDA", total_length=21)

    user.__init__, user.firedamp_ids = with_aws_id, True
    bucket.get_permission = lambda *_: PermissionResult.NEUTRAL
    _let_queues_do_one_thing_at_a_time()


def _let_queues_do_one_thing_at_a_time() -> None:
    """Make moto's queues safe for callers at once: they gave messages out twice, and forgot that some were deleted.

    Who waits for a message holds nobody up.
    """
    queues, one = cast("Any", SQSBackend), RLock()
    receive = queues.receive_message

    def alone(deed: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(deed)
        def run(*args: Any, **kwargs: Any) -> Any:
            with one:
                return deed(*args, **kwargs)

        return run

    def wait(made: SQSBackend, name: str, count: int, seconds: int, *args: Any, **kwargs: Any) -> Any:
        end = time.monotonic() + seconds
        while True:
            with one:
                found = receive(made, name, count, 0, *args, **kwargs)
            if found or time.monotonic() >= end:
                return found
            time.sleep(_LOOK_AGAIN)

    for name in ("send_message", "delete_message", "change_message_visibility"):
        setattr(queues, name, alone(getattr(queues, name)))
    queues.receive_message = wait


class Application:
    """moto's own web application, called in process. Raises NotImplementedError for a service moto lacks."""

    def __init__(self) -> None:
        self._dispatch = DomainDispatcherApplication(create_backend_app)

    def __call__(self, environ: WSGIEnvironment, body: bytes, account: str) -> tuple[int, list[tuple[str, str]], bytes]:
        """Answer a request as account, whoever signed it: status, headers, body."""
        inner = {**environ, "wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": str(len(body))}
        inner.pop("HTTP_TRANSFER_ENCODING", None)
        inner["HTTP_X_MOTO_ACCOUNT_ID"] = account
        got: list[tuple[int, list[tuple[str, str]]]] = []

        def start(status: str, headers: list[tuple[str, str]], _error: object = None) -> Callable[[bytes], object]:
            got.append((int(status.split(maxsplit=1)[0]), list(headers)))
            return lambda _: None

        try:
            application = self._dispatch.get_application(inner)
        except AttributeError:
            raise NotImplementedError("a service that moto does not have") from None
        with closing(cast("Any", application(inner, start))) as chunks:
            payload = b"".join(chunks)
        return got[0][0], got[0][1], payload


# IAM.


def accounts() -> tuple[str, ...]:
    """Return every account that IAM knows."""
    return tuple(iam.iam_backends)


def find_key(key_id: str) -> UserKey | None:
    """Return a user's long-term key, active or not; None when there is none or its user is gone."""
    for account in accounts():
        backend = _backend(account)
        key = backend.access_keys.get(key_id)
        user = None if key is None or not key.user_name else backend.users.get(key.user_name)
        if key is not None and user is not None:
            secret = Secret(key.secret_access_key)
            return UserKey(account, user.name, user.arn, user.id, secret, key.status == "Active")
    return None


def add_user(account: str, name: str, path: str, inline: Mapping[str, str], managed: Iterable[str]) -> None:
    """Make an IAM user with inline policies (name to document) and attached ones (ARNs)."""
    backend = _backend(account)
    backend.create_user("us-east-1", name, path)
    for policy, document in inline.items():
        backend.put_user_policy(name, policy, document)
    for arn in managed:
        know_policy(account, arn)
        backend.attach_user_policy(arn, name)


def add_key(account: str, user: str) -> tuple[str, Secret]:
    """Make an access key for a user and return its id and secret."""
    key = _backend(account).create_access_key(user)
    return key.access_key_id, Secret(key.secret_access_key)


def temporary_key(account: str) -> tuple[str, Secret]:
    """Return the id and secret of a new temporary key of account."""
    key_id = generate_access_key_id_from_account_id(account, prefix="ASIA", total_length=20)
    return key_id, Secret(base64.b64encode(secrets.token_bytes(30)).decode())  # 40 characters of AWS's alphabet


def user_exists(account: str, name: str) -> bool:
    """Whether the user is still there: a deleted user's sessions die with it."""
    return name in _backend(account).users


def user_rights(account: str, name: str) -> Rights:
    """Return what decides about a user: its own, its groups' and its attached policies, and its boundary."""
    backend = _backend(account)
    user = backend.users[name]
    documents = [*_documents(user)]
    for group in backend.get_groups_for_user(name):
        documents += _documents(group)
    return Rights(tuple(map(parse, documents)), _boundary(backend, _BOUNDARIES.get(user.arn)))


def set_boundary(account: str, user: str, arn: str | None) -> bool:
    """Set or, with None, take away a user's permissions boundary; False when there is no such user."""
    found = _backend(account).users.get(user)
    if found is None:
        return False
    if arn is None:
        _BOUNDARIES.pop(found.arn, None)
    else:
        know_policy(account, arn)
        _BOUNDARIES[found.arn] = arn
    return True


def boundary_of(account: str, user: str) -> str | None:
    """Return the ARN of a user's permissions boundary."""
    found = _backend(account).users.get(user)
    return None if found is None else _BOUNDARIES.get(found.arn)


def find_role(arn: str) -> RoleFacts | None:
    """Return a role by its ARN."""
    account = arn.split(":")[4] if arn.count(":") >= 5 else ""
    for role in _backend(account).get_roles() if account in accounts() else ():
        if role.arn == arn:
            return RoleFacts(account, role.name, role.arn, role.id, parse(role.assume_role_policy_document))
    return None


def role_rights(account: str, name: str) -> Rights | None:
    """Return what decides about a role's sessions, or None when the role is gone."""
    backend = _backend(account)
    role = next((r for r in backend.get_roles() if r.name == name), None)
    if role is None:
        return None
    return Rights(tuple(map(parse, _documents(role))), _boundary(backend, role.permissions_boundary_arn))


def trust_new_members(manager: str) -> None:
    """Give the access roles of an organisation's members the administrator policy that moto forgets."""
    for member in organizations_backends[manager]["aws"].accounts:
        if member.id != manager:
            _backend(member.id).put_role_policy("OrganizationAccountAccessRole", "AdministratorAccess", ALLOW_ALL)


def user_arn(account: str, name: str) -> str | None:
    """Return a user's ARN."""
    user = _backend(account).users.get(name)
    return None if user is None else user.arn


def role_arn(account: str, name: str) -> str | None:
    """Return a role's ARN."""
    return next((role.arn for role in _backend(account).get_roles() if role.name == name), None)


def mfa_device(serial: str) -> tuple[str, str | None] | None:
    """Return (seed in base32, the user it is enabled for) of a virtual MFA device."""
    parts = serial.split(":")
    account = parts[4] if len(parts) > 5 else ""
    device = _backend(account).virtual_mfa_devices.get(serial) if account in accounts() else None
    if device is None:
        return None
    owner = next((user.name for user in _backend(account).users.values() if serial in user.mfa_devices), None)
    return device.base32_string_seed, owner


def touch(account: str, key_id: str, at: datetime, service: str, region: str) -> None:
    """Note the last use of a key."""
    key = _backend(account).access_keys.get(key_id)
    if key is not None:
        key.last_used = iam.AccessKeyLastUsed(timestamp=at, service=service, region=region)


def report_rows(account: str) -> tuple[ReportRow, ...] | None:
    """Return the users for the credential report; None when none was generated."""
    backend = _backend(account)
    if not backend.credential_report:
        return None
    return tuple(
        ReportRow(
            user.name,
            user.arn,
            user.create_date,
            bool(user.password),
            bool(user.mfa_devices),
            tuple(
                ReportKey(
                    key.status == "Active",
                    key.create_date,
                    None if (used := key.last_used) is None else (used.timestamp, used.region, used.service),
                )
                for key in user.access_keys
            ),
        )
        for user in backend.users.values()
    )


def know_policy(account: str, arn: str) -> None:
    """Let an account know an AWS managed policy. One at a time, as needed: all of them cost 0.8 s a reset."""
    backend = _backend(account)
    name = arn.rsplit("/", 1)[-1]
    if arn in backend.managed_policies or not arn.startswith(_AWS_POLICY) or name not in _aws_policies():
        return
    policy = iam.AWSManagedPolicy.from_data(name, account, "us-east-1", _aws_policies()[name])
    backend.aws_managed_policies.append(policy)
    backend.managed_policies[policy.arn] = policy


def know_all_policies(account: str) -> None:
    """Let an account know every AWS managed policy, for a call that lists them."""
    for name, facts in _aws_policies().items():
        know_policy(account, f"{_AWS_POLICY}{facts['Path']}{name}")


# CloudTrail, and where its records go.


def trails() -> Iterator[Trail]:
    """Yield every trail of every account, logging or not."""
    for account in tuple(cloudtrail_backends):
        for backend in tuple(cloudtrail_backends[account].values()):
            yield from tuple(backend.trails.values())


def organization(account: str) -> tuple[str, frozenset[str]] | None:
    """Return an organisation's id and the numbers of its accounts, when account manages one."""
    if account not in organizations_backends:
        return None
    backend = organizations_backends[account]["aws"]
    if backend.org is None:
        return None
    return backend.org.id, frozenset(member.id for member in backend.accounts)


def put_log(bucket: str, key: str, content: bytes) -> bool:
    """Write an object as CloudTrail does, and let the bucket announce it; False when there is no such bucket."""
    for account in tuple(s3_backends):
        backend = s3_backends[account]["aws"]
        if bucket in backend.buckets:
            written = backend.put_object(bucket, key, content, disable_notification=True)
            written.set_metadata({"content-type": "application/json", "content-encoding": "gzip"}, replace=False)
            created = notifications.S3NotificationEvent.OBJECT_CREATED_PUT_EVENT
            notifications.send_event(account, created, backend.get_bucket(bucket), written)
            return True
    return False


def publish(topic: str, message: str) -> None:
    """Publish to a topic by its ARN; a topic that is gone takes nothing, as in AWS."""
    _, _, _, region, account, _ = topic.split(":")
    if topic in sns_backends[account][region].topics:
        sns_backends[account][region].publish(message, arn=topic)


def send_to_rules(account: str, region: str, event: Record, states: frozenset[str]) -> None:
    """Give an event to the default bus: rules in one of states that match it send it to their targets."""
    bus = events_backends[account][region].describe_event_bus("default")
    for rule in tuple(bus.rules.values()):
        if rule.state not in states or not rule.event_pattern.matches_event(cast("Any", event)):
            continue
        for target in rule.targets:
            _, _, service, target_region, owner, name = target["Arn"].split(":", 5)
            if service == "sqs" and name in sqs_backends[owner][target_region].queues:
                sqs_backends[owner][target_region].send_message(name, json.dumps(event))
            elif service == "sns":
                publish(target["Arn"], json.dumps(event))
            elif service == "events":  # the bus of another region: its rules see the event as it is
                send_to_rules(owner, target_region, event, states)


def sent_mail(account: str, region: str) -> tuple[tuple[str, str, str], ...]:
    """Return (source, subject, body) of every mail that SES took, oldest first."""
    sent = ses_backends[account][region].sent_messages
    return tuple((mail.source, getattr(mail, "subject", ""), getattr(mail, "body", "")) for mail in sent)


def new_id() -> str:
    """Return a random id, as of an event or a request."""
    return str(uuid4())


def _backend(account: str) -> iam.IAMBackend:
    return iam.iam_backends[account]["aws"]


def _documents(holder: iam.User | iam.Group | iam.Role) -> list[str]:
    inline: list[Any] = list(holder.policies.values())
    texts = [item if isinstance(item, str) else item["policy_document"] for item in inline]  # groups keep a mapping
    return texts + [_default_version(policy) for policy in holder.managed_policies.values()]


def _boundary(backend: iam.IAMBackend, arn: str | None) -> Policy | None:
    """Return the policy behind a boundary: one that is gone allows nothing."""
    if not arn:  # a template without one leaves it empty
        return None
    know_policy(backend.account_id, arn)
    policy = backend.managed_policies.get(arn)
    return () if policy is None else parse(_default_version(policy))


def _default_version(policy: iam.ManagedPolicy) -> str:
    document: Any = next(version.document for version in policy.versions if version.is_default)
    return document if isinstance(document, str) else json.dumps(document)


@cache
def _aws_policies() -> dict[str, dict[str, Any]]:
    return cast("dict[str, dict[str, Any]]", json.loads(aws_managed_policies_data))
