"""Whether an identity may do what a role of firedamp needs, asked of IAM about what is configured here.

A policy that is narrowed to the queue, the bucket and the users that there are is right, though it says no about
everything else: so each action is asked about those. Where nothing here names them, a denial proves nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

from firedamp.canaries.awsfeeds import option
from firedamp.service.aws import Aws
from firedamp.service.config import Config
from firedamp.service.needs import BUCKETS, GROUPS, OBJECTS, POLICIES, QUEUES, ROLES, RULES, TRAILS, USERS, Need
from firedamp.storage.errors import AwsFailure, Failure
from firedamp.storage.records import Canary, CanaryState, WatchedKey
from firedamp.storage.refusals import failures

if TYPE_CHECKING:
    from types_boto3_iam import IAMClient

_ASKED: Final = 3
"""Resources of one kind that are asked about at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """What the configuration, the store and the trails name, as ARNs. partition and account are the identity's own."""

    partition: str
    account: str
    users: tuple[str, ...] = ()
    queues: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()
    buckets: tuple[str, ...] = ()
    objects: tuple[str, ...] = ()
    trails: tuple[str, ...] = ()
    logs: tuple[str, ...] = ()
    """Names of the buckets that the trails write to: as far as is known, a queue announces their files."""
    feeds: bool = False
    namespace: str | None = None
    """Of the heartbeat, where it is a metric."""


@dataclass(frozen=True, slots=True)
class Lack:
    """An action that IAM denies on a resource. sure: that one is needed, it is no mere example."""

    need: Need
    resource: str
    sure: bool


def named(config: Config, watched: Iterable[WatchedKey], arn: str) -> Named:
    """Gather what is named here, for an identity that is called arn."""
    _, partition, _, _, account, *_ = arn.split(":")
    users = {
        key.owner.arn: None
        for key in watched
        if isinstance(key, Canary) and key.state is CanaryState.LIVE and key.owner.arn
    }
    # A feed with a profile of its own is read by somebody else.
    feeds = [url for url in map(urlsplit, config.watch.feeds) if option(url, "profile") is None]
    queues = [(url.netloc, unquote(url.path).strip("/")) for url in feeds if url.scheme == "sqs"]
    stores = [(url.netloc, unquote(url.path).strip("/")) for url in feeds if url.scheme == "s3"]
    return Named(
        partition=partition, account=account,
        users=tuple(user for user in users if user.split(":")[4] == account),
        queues=tuple(f"arn:{partition}:sqs:{region}:{rest.replace('/', ':', 1)}" for region, rest in queues),
        regions=tuple(dict.fromkeys(region for region, _ in queues)),
        buckets=tuple(f"arn:{partition}:s3:::{bucket}" for bucket, _ in stores),
        objects=tuple(
            f"arn:{partition}:s3:::{bucket}/" + "/".join(part for part in (prefix, "some") if part)
            for bucket, prefix in stores
        ),
        feeds=bool(config.watch.feeds), namespace=_namespace(config),
    )  # fmt: skip


def _namespace(config: Config) -> str | None:
    try:
        url = urlsplit("" if config.watch.heartbeat is None else config.watch.heartbeat.resolve().reveal())
    except (Failure, ValueError):  # said by the beat itself
        return None
    return (unquote(url.path).strip("/").rpartition("/")[0] or "firedamp") if url.scheme == "cloudwatch" else None


def with_trails(known: Named, aws: Aws, profile: str | None) -> Named:
    """Add the account's trails that an identity sees and the buckets they write to; none where it may not look."""
    try:
        with failures("cloudtrail:DescribeTrails"):
            told = aws.cloudtrail(next(iter(known.regions), None), profile).describe_trails()["trailList"]
    except AwsFailure:
        return known
    trails = {
        each["TrailARN"]: each["S3BucketName"] for each in told if each["TrailARN"].split(":")[4] == known.account
    }
    return replace(known, trails=tuple(trails), logs=tuple(dict.fromkeys(trails.values())))


def lacking(aws: Aws, profile: str | None, role: str, known: Named, source: str) -> list[Lack]:
    """Ask IAM what a user or role may not do (SimulatePrincipalPolicy): nothing is called for a trial.

    source is its ARN. Raises AwsFailure when that may not be asked.
    """
    asked: dict[tuple[tuple[str, ...], bool], list[Need]] = {}
    for need in ROLES[role]:
        asked.setdefault(_about(need, role, known), []).append(need)
    found = []
    for (resources, sure), wanted in asked.items():
        for resource in resources[:_ASKED]:
            denied = _denied(aws.iam(profile), source, wanted, resource, known.namespace or "")
            found += [Lack(each, resource, sure) for each in denied]
    return found


def _denied(client: IAMClient, source: str, wanted: Sequence[Need], resource: str, namespace: str) -> list[Need]:
    with failures("iam:SimulatePrincipalPolicy"):
        answer = client.simulate_principal_policy(
            PolicySourceArn=source, ActionNames=[each.action for each in wanted], ResourceArns=[resource],
            ContextEntries=[
                {"ContextKeyName": "cloudwatch:namespace", "ContextKeyValues": [namespace], "ContextKeyType": "string"}
            ],
        )  # fmt: skip
    allowed = {each["EvalActionName"] for each in answer["EvaluationResults"] if each["EvalDecision"] == "allowed"}
    return [each for each in wanted if each.action not in allowed]


def _about(need: Need, role: str, known: Named) -> tuple[tuple[str, ...], bool]:
    """Return the resources to ask about, and whether they are what is needed, no mere example of it.

    No resource: what is configured does not need the action.
    """
    if need.action == "cloudwatch:PutMetricData" and known.namespace is None:
        return (), True
    head, iam = f"arn:{known.partition}", f"arn:{known.partition}:iam::{known.account}"
    # Only event history is read: no queue and no bucket takes part.
    bare = known.feeds and not known.queues and not known.buckets
    some = {
        USERS: f"{iam}:user/some", QUEUES: f"{head}:sqs:us-east-1:{known.account}:some", BUCKETS: f"{head}:s3:::some",
        OBJECTS: f"{head}:s3:::some/object", TRAILS: f"{head}:cloudtrail:us-east-1:{known.account}:trail/some",
    }  # fmt: skip
    sure = {
        "*": ("*",), GROUPS: (f"{iam}:group/some",), POLICIES: (f"{iam}:policy/some",),
        # Any user's key may leak; only canaries are made and watched.
        USERS: (some[USERS],) if role == "audit" else known.users,
        QUEUES: known.queues, BUCKETS: known.buckets, OBJECTS: known.objects, TRAILS: known.trails,
        RULES: tuple(f"{head}:events:{region}:{known.account}:rule/some" for region in known.regions),
    }[need.on]  # fmt: skip
    if sure:
        return sure, True
    if need.on == RULES or (need.on == QUEUES and known.feeds) or (bare and need.on in {BUCKETS, OBJECTS, TRAILS}):
        return (), True
    logs = {BUCKETS: "", OBJECTS: "/AWSLogs/some"}.get(need.on)
    seen = () if logs is None else tuple(f"{head}:s3:::{bucket}{logs}" for bucket in known.logs)
    return seen or (some[need.on],), False
