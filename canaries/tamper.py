"""The rule pack of the watch itself: its trail stopped, deleted, narrowed, redirected; its bucket, rule, queue touched.

Switched on by account. What widens the watch again is a repair and no alarm; what AWS refused is an attempt, a note.
Parameters are named as CloudTrail records them (CloudTrail, S3, EventBridge, SQS and SNS API references).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

from firedamp.storage.records import Event

Parameters = Mapping[str, Any]

_HINTS: Final = ("trail", "firedamp", "canary")
"""Where nobody said what the watch's bucket, rule, queue or topic is called, these stand in its name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Guarded:
    """What of the watch itself is watched: nothing unless an account is named.

    buckets, queues, rules and topics are names; empty means those that sound like a trail's.
    """

    accounts: frozenset[str] = frozenset()
    buckets: frozenset[str] = frozenset()
    queues: frozenset[str] = frozenset()
    rules: frozenset[str] = frozenset()
    topics: frozenset[str] = frozenset()

    @property
    def calls(self) -> Collection[str]:
        """The operations worth a look, for the search in bytes."""
        return {name for _, name in _RULES} if self.accounts else ()


@dataclass(frozen=True, slots=True)
class Touch:
    """What was done to the watch, or tried."""

    what: str
    failed: bool


def touched(event: Event, parameters: Parameters, guarded: Guarded) -> Touch | None:
    """Return what this call does to the watch of a guarded account, or None."""
    if (event.recipient_account_id or event.account_id) not in guarded.accounts:
        return None
    rule = _RULES.get((event.service, event.name))
    what = None if rule is None else rule(parameters, guarded)
    return None if what is None else Touch(what, event.failed)


def _always(what: str) -> Callable[[Parameters, Guarded], str | None]:
    return lambda parameters, _: f"{what} {_name(parameters, 'name', 'trailName')}".rstrip()


def _of_bucket(what: str) -> Callable[[Parameters, Guarded], str | None]:
    def judge(parameters: Parameters, guarded: Guarded) -> str | None:
        bucket = _name(parameters, "bucketName")
        return f"{what} {bucket}" if _is_ours(bucket, guarded.buckets) else None

    return judge


def _of_queue(what: str) -> Callable[[Parameters, Guarded], str | None]:
    def judge(parameters: Parameters, guarded: Guarded) -> str | None:
        queue = _name(parameters, "queueUrl").rpartition("/")[2]
        return f"{what} {queue}" if _is_ours(queue, guarded.queues) else None

    return judge


def _of_topic(what: str) -> Callable[[Parameters, Guarded], str | None]:
    def judge(parameters: Parameters, guarded: Guarded) -> str | None:
        arn = _name(parameters, "topicArn", "subscriptionArn")
        topic = arn.split(":")[5] if arn.count(":") >= 5 else arn
        return f"{what} {topic}" if _is_ours(topic, guarded.topics) else None

    return judge


def _of_rule(what: str) -> Callable[[Parameters, Guarded], str | None]:
    def judge(parameters: Parameters, guarded: Guarded) -> str | None:
        rule = _name(parameters, "name", "rule")
        return f"{what} {rule}" if _is_ours(rule, guarded.rules) else None

    return judge


def _rule_put(parameters: Parameters, guarded: Guarded) -> str | None:
    """PutRule makes a rule or changes one: ENABLED is no attack, though it hides read-only calls."""
    disabled = parameters.get("state") == "DISABLED"
    return _of_rule("the rule was disabled:")(parameters, guarded) if disabled else None


def _trail_updated(parameters: Parameters, _: Guarded) -> str | None:
    trail = _name(parameters, "name")
    for name, what in (
        ("isMultiRegionTrail", "the trail was narrowed to one region:"),
        ("includeGlobalServiceEvents", "the trail was narrowed, without IAM and STS:"),
        ("isOrganizationTrail", "the trail was narrowed to one account:"),
        ("enableLogFileValidation", "the trail's digests were switched off:"),
    ):
        if parameters.get(name) is False:
            return f"{what} {trail}"
    for name in ("s3BucketName", "s3KeyPrefix", "snsTopicName", "kmsKeyId"):
        if name in parameters:
            return f"the trail was redirected ({name}): {trail}"
    return None


def _selectors_put(parameters: Parameters, _: Guarded) -> str | None:
    """Return how management events were cut; selectors that take all of them are a repair."""
    simple, advanced = _listed(parameters, "eventSelectors"), _listed(parameters, "advancedEventSelectors")
    whole = any(
        each.get("includeManagementEvents") is not False
        and each.get("readWriteType", "All") == "All"
        and not each.get("excludeManagementEventSources")
        for each in simple
    ) or any(_takes_all_management(each) for each in advanced)
    return None if whole else f"the trail was narrowed: not all management events: {_name(parameters, 'trailName')}"


def _takes_all_management(selector: Parameters) -> bool:
    fields = _listed(selector, "fieldSelectors")
    return len(fields) == 1 and fields[0].get("field") == "eventCategory" and "Management" in _items(fields[0])


def _items(selector: Parameters) -> Collection[object]:
    equals = selector.get("equals")
    return equals if isinstance(equals, list) else ()


def _listed(parameters: Parameters, name: str) -> list[Parameters]:
    value = parameters.get(name)
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _name(parameters: Parameters, *names: str) -> str:
    for name in names:
        value = parameters.get(name)
        if isinstance(value, str):
            return value
    return ""


def _is_ours(name: str, known: Collection[str]) -> bool:
    return name in known if known else any(hint in name.lower() for hint in _HINTS)


_RULES: Final[dict[tuple[str, str], Callable[[Parameters, Guarded], str | None]]] = {
    ("cloudtrail", "StopLogging"): _always("the trail was stopped:"),
    ("cloudtrail", "DeleteTrail"): _always("the trail was deleted:"),
    ("cloudtrail", "UpdateTrail"): _trail_updated,
    ("cloudtrail", "PutEventSelectors"): _selectors_put,
    ("s3", "DeleteBucket"): _of_bucket("the trail's bucket was deleted:"),
    ("s3", "PutBucketPolicy"): _of_bucket("the policy of the trail's bucket was changed:"),
    ("s3", "DeleteBucketPolicy"): _of_bucket("the policy of the trail's bucket was deleted:"),
    ("s3", "PutBucketLifecycle"): _of_bucket("the lifecycle of the trail's bucket was changed:"),
    ("s3", "PutBucketLifecycleConfiguration"): _of_bucket("the lifecycle of the trail's bucket was changed:"),
    ("s3", "PutBucketNotification"): _of_bucket("the notices of the trail's bucket were changed:"),
    ("s3", "PutBucketEncryption"): _of_bucket("the encryption of the trail's bucket was changed:"),
    ("events", "DisableRule"): _of_rule("the rule was disabled:"),
    ("events", "DeleteRule"): _of_rule("the rule was deleted:"),
    ("events", "RemoveTargets"): _of_rule("the rule's targets were removed:"),
    ("events", "PutRule"): _rule_put,
    ("sqs", "DeleteQueue"): _of_queue("the queue was deleted:"),
    ("sqs", "PurgeQueue"): _of_queue("the queue was emptied:"),
    ("sqs", "SetQueueAttributes"): _of_queue("the queue was changed:"),
    ("sns", "DeleteTopic"): _of_topic("the topic was deleted:"),
    ("sns", "Unsubscribe"): _of_topic("the topic's subscription was ended:"),
    ("sns", "SetTopicAttributes"): _of_topic("the topic was changed:"),
}
