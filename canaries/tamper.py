"""The rule pack of the watch itself: its trail stopped, deleted, narrowed, redirected; its bucket, rule, queue touched.

Switched on by account. What widens the watch again is a repair and no alarm; what AWS refused is an attempt, a note.
Parameters are named as CloudTrail records them (CloudTrail, S3, EventBridge, SQS and SNS API references).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from firedamp.storage.records import Event

Parameters = Mapping[str, Any]

WORDS: Final = ("trail", "firedamp", "canary")
"""Where nobody said what the watch's bucket, rule, queue, topic, role or alarm is called, these stand in its name."""
_CALLS: Final = "AWS API Call via CloudTrail"
_WHO: Final = frozenset({"$or", "userIdentity"})
"""What the detail of our rules' patterns asks for."""
_MAILED: Final = frozenset(
    {("aws.cloudtrail", name) for name in ("StopLogging", "DeleteTrail", "UpdateTrail", "PutEventSelectors")}
    | {("aws.iam", name) for name in ("UpdateAccessKey", "AttachUserPolicy")}
)
"""What the last resort's rule `Silenced` takes, which asks for no caller (deploy/cloudformation/last-resort.yaml)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Guarded:
    """What of the watch itself is watched: nothing unless an account is named.

    buckets, queues, rules and topics are names; empty means those that sound like a trail's. keys are the ids of KMS
    keys. words, in small letters, tell by its name what is the watch's, where names are not known. file is where the
    record stands that is judged.
    """

    accounts: frozenset[str] = frozenset()
    buckets: frozenset[str] = frozenset()
    queues: frozenset[str] = frozenset()
    rules: frozenset[str] = frozenset()
    topics: frozenset[str] = frozenset()
    keys: frozenset[str] = frozenset()
    words: tuple[str, ...] = WORDS
    file: str = ""

    @property
    def calls(self) -> Collection[str]:
        """The operations worth a look, for the search in bytes."""
        return {name for _, name in _RULES} if self.accounts else ()


Rule = Callable[[Parameters, Guarded], str | None]
"""Says in words what a call with these parameters does to the watch, None when nothing."""


@dataclass(frozen=True, slots=True)
class Touch:
    """What was done to the watch, or tried."""

    what: str
    failed: bool


def touched(event: Event, parameters: Parameters, guarded: Guarded, where: str = "") -> Touch | None:
    """Return what this call does to the watch of a guarded account, or None. where is the file of the record."""
    if (event.recipient_account_id or event.account_id) not in guarded.accounts:
        return None
    rule = _RULES.get((event.service, event.name))
    what = None if rule is None else rule(parameters, replace(guarded, file=where))
    return None if what is None else Touch(what, event.failed)


def _always(what: str, *names: str) -> Rule:
    return lambda parameters, _: f"{what} {_name(parameters, *(names or ('name', 'trailName')))}".rstrip()


def _about_account(what: str) -> Rule:
    return _always(what, "accountId")


def _of_bucket(what: str) -> Rule:
    def judge(parameters: Parameters, guarded: Guarded) -> str | None:
        bucket = _name(parameters, "bucketName")
        return f"{what} {bucket}" if _is_ours(bucket, guarded.buckets, guarded) else None

    return judge


def _of_queue(what: str) -> Rule:
    def judge(parameters: Parameters, guarded: Guarded) -> str | None:
        queue = _name(parameters, "queueUrl").rpartition("/")[2]
        return f"{what} {queue}" if _is_ours(queue, guarded.queues, guarded) else None

    return judge


def _of_topic(what: str) -> Rule:
    def judge(parameters: Parameters, guarded: Guarded) -> str | None:
        topic = _topic(_name(parameters, "topicArn", "subscriptionArn", "resourceArn"))
        return f"{what} {topic}" if _is_ours(topic, guarded.topics, guarded) else None

    return judge


def _of_rule(what: str) -> Rule:
    def judge(parameters: Parameters, guarded: Guarded) -> str | None:
        rule = _name(parameters, "name", "rule")
        return f"{what} {rule}" if _is_ours(rule, guarded.rules, guarded) else None

    return judge


def _of_role(what: str) -> Rule:
    def judge(parameters: Parameters, guarded: Guarded) -> str | None:
        role = _name(parameters, "roleName")
        return f"{what} {role}" if _is_ours(role, (), guarded) else None

    return judge


def _rule_put(parameters: Parameters, guarded: Guarded) -> str | None:
    """PutRule makes a rule or changes one: ENABLED is no attack, though it hides read-only calls.

    What is left out is gone: a schedule alone takes the place of a pattern (EventBridge API reference, PutRule).
    """
    if parameters.get("state") == "DISABLED":
        return _of_rule("the rule was disabled:")(parameters, guarded)
    asked = _name(parameters, "eventPattern") or _name(parameters, "scheduleExpression")
    if asked and not _takes_enough(asked, "Silenced" in _name(parameters, "name")):
        return _of_rule("the rule was narrowed:")(parameters, guarded)
    return None


def _takes_enough(pattern: str, silenced: bool) -> bool:
    """Whether a pattern takes every call of whoever it names: it asks for nothing but who called.

    That of the rule `Silenced` takes what it did.
    """
    try:
        asked = json.loads(pattern)
    except (ValueError, RecursionError):
        return False
    if not isinstance(asked, dict):
        return False
    if silenced and asked.keys() == {"$or"}:
        return _taken(asked["$or"]) >= _MAILED
    kinds, detail = asked.get("detail-type", [_CALLS]), asked.get("detail", {})
    whole = asked.keys() <= {"detail-type", "detail"} and isinstance(detail, dict) and detail.keys() <= _WHO
    return whole and isinstance(kinds, list) and _CALLS in kinds


def _taken(alternatives: object) -> set[tuple[str, str]]:
    """Return the calls that alternatives take, as source and name."""
    taken = set[tuple[str, str]]()
    for each in alternatives if isinstance(alternatives, list) else ():
        match each:
            case {"source": [str(source)], "detail": {"eventName": [*names]}} if len(each) == 2:
                taken.update((source, name) for name in names if isinstance(name, str))
            case _:
                pass
    return taken


def _targets_put(parameters: Parameters, guarded: Guarded) -> str | None:
    """Return whether our target was replaced: one that is put takes the place of the one of its id.

    One in a guarded account is ours that gives the record, or its detail, to our queue or to a bus, or words to our
    topic.
    """
    targets = _listed(parameters, "targets")
    if not targets or any(_is_target(each, guarded) for each in targets):
        return None
    return _of_rule("the rule's targets were replaced:")(parameters, guarded)


def _is_target(target: Parameters, guarded: Guarded) -> bool:
    arn = _name(target, "arn")
    service, _, account, name = (arn.split(":") + [""] * 6)[2:6]
    if account not in guarded.accounts:
        return False
    if service == "sns":
        return _is_ours(name, guarded.topics, guarded)
    if target.get("input") or target.get("inputTransformer") or _name(target, "inputPath") not in {"", "$", "$.detail"}:
        return False
    return (service == "sqs" and _is_ours(name, guarded.queues, guarded)) or (
        service == "events" and name.startswith("event-bus/")
    )


def _trail_updated(parameters: Parameters, guarded: Guarded) -> str | None:
    trail = _name(parameters, "name")
    for name, what in (
        ("isMultiRegionTrail", "the trail was narrowed to one region:"),
        ("includeGlobalServiceEvents", "the trail was narrowed, without IAM and STS:"),
        ("isOrganizationTrail", "the trail was narrowed to one account:"),
        ("enableLogFileValidation", "the trail's digests were switched off:"),
    ):
        if parameters.get(name) is False:
            return f"{what} {trail}"
    moved = _moved(parameters, guarded)
    return f"the trail was redirected ({moved}): {trail}" if moved else None


def _moved(parameters: Parameters, guarded: Guarded) -> str:
    """Return the parameter that sends a trail's files or notices elsewhere.

    Some clients send every parameter, changed or not: null leaves things as they are, and so does the place of the
    trail file that brought the record.
    """
    bucket, prefix = _name(parameters, "s3BucketName"), parameters.get("s3KeyPrefix")
    folder = "" if prefix is None else f"{prefix}/AWSLogs/".lstrip("/")
    same = guarded.file.startswith(f"s3://{bucket}/{folder}")
    if bucket and not same and bucket not in guarded.buckets:
        return "s3BucketName"
    if prefix is not None and not same:
        return "s3KeyPrefix"
    topic = parameters.get("snsTopicName")
    if topic is not None and not _is_ours(_topic(str(topic)), guarded.topics, guarded):
        return "snsTopicName"
    key = _name(parameters, "kmsKeyId")
    return "kmsKeyId" if key and key.rpartition("/")[2] not in guarded.keys else ""


def _versions_put(parameters: Parameters, guarded: Guarded) -> str | None:
    """Without versions a file may be written over, and nobody can tell."""
    wanted = parameters.get("VersioningConfiguration")
    if isinstance(wanted, dict) and wanted.get("Status") == "Suspended":
        return _of_bucket("the versions of the trail's bucket were switched off:")(parameters, guarded)
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


def _topic(arn: str) -> str:
    """Return the name in a topic's ARN, or in that of one of its subscriptions."""
    return arn.split(":")[5] if arn.count(":") >= 5 else arn


def _is_ours(name: str, known: Collection[str], guarded: Guarded) -> bool:
    return name in known if known else any(word in name.lower() for word in guarded.words)


def _about_key(what: str, *, named: bool = False) -> Rule:
    """Judge a call about a KMS key. An id sounds like nothing: where no keys are known, each counts, unless named."""

    def judge(parameters: Parameters, guarded: Guarded) -> str | None:
        key = _name(parameters, "keyId")
        ours = key.rpartition("/")[2] in guarded.keys if guarded.keys else not named
        return f"{what} {key}" if ours else None

    return judge


def _about_alarm(what: str) -> Rule:
    def judge(parameters: Parameters, guarded: Guarded) -> str | None:
        names = parameters.get("alarmNames")
        told = names if isinstance(names, list) else []
        ours = [name for name in told if isinstance(name, str) and _is_ours(name, (), guarded)]
        return f"{what} {', '.join(ours)}" if ours else None

    return judge


def _alarm_put(parameters: Parameters, guarded: Guarded) -> str | None:
    """PutMetricAlarm replaces an alarm whole: one without an action tells nobody (CloudWatch API reference)."""
    alarm = _name(parameters, "alarmName")
    muted = parameters.get("actionsEnabled") is False or not parameters.get("alarmActions")
    return f"the alarm tells nobody any more: {alarm}" if muted and _is_ours(alarm, (), guarded) else None


def _trail_service(what: str) -> Rule:
    def judge(parameters: Parameters, _: Guarded) -> str | None:
        return what if _name(parameters, "servicePrincipal") == "cloudtrail.amazonaws.com" else None

    return judge


# Who sends records may be stopped, who carries them cut off, who reads them locked out. Not here: calls of Lambda and
# of CloudTrail Lake, which no feed goes through; grants of KMS, as CloudTrail, S3, SNS and SQS write by key policies
# (CloudTrail guide, "Configure AWS KMS key policies"); ReceiveMessage and DeleteMessage, which are the watch's own.
_RULES: Final[dict[tuple[str, str], Rule]] = {
    ("cloudtrail", "StopLogging"): _always("the trail was stopped:"),
    ("cloudtrail", "DeleteTrail"): _always("the trail was deleted:"),
    ("cloudtrail", "UpdateTrail"): _trail_updated,
    ("cloudtrail", "PutEventSelectors"): _selectors_put,
    # An organization's trail ends for an account that leaves, and for all without CloudTrail's access (CloudTrail
    # guide, "Creating a trail for an organization"; Organizations guide, "AWS CloudTrail and AWS Organizations").
    ("cloudtrail", "DeregisterOrganizationDelegatedAdmin"): _always("the trails' delegated administrator was removed"),
    ("organizations", "DeregisterDelegatedAdministrator"): _trail_service(
        "the trails' delegated administrator was removed"),
    ("organizations", "DisableAWSServiceAccess"): _trail_service("CloudTrail may not see the organization any more"),
    ("organizations", "RemoveAccountFromOrganization"): _about_account("an account left the organization:"),
    ("organizations", "LeaveOrganization"): _about_account("an account left the organization"),
    ("organizations", "CloseAccount"): _about_account("an account was closed:"),
    # The bucket: who may write, what is announced, how long it stays (S3 user guide, "Amazon S3 CloudTrail events").
    ("s3", "DeleteBucket"): _of_bucket("the trail's bucket was deleted:"),
    ("s3", "PutBucketPolicy"): _of_bucket("the policy of the trail's bucket was changed:"),
    ("s3", "DeleteBucketPolicy"): _of_bucket("the policy of the trail's bucket was deleted:"),
    ("s3", "PutBucketLifecycle"): _of_bucket("the lifecycle of the trail's bucket was changed:"),
    ("s3", "PutBucketLifecycleConfiguration"): _of_bucket("the lifecycle of the trail's bucket was changed:"),
    ("s3", "PutBucketNotification"): _of_bucket("the notices of the trail's bucket were changed:"),
    ("s3", "PutBucketNotificationConfiguration"): _of_bucket("the notices of the trail's bucket were changed:"),
    ("s3", "PutBucketEncryption"): _of_bucket("the encryption of the trail's bucket was changed:"),
    ("s3", "PutBucketVersioning"): _versions_put,
    ("s3", "PutBucketObjectLockConfiguration"): _of_bucket("the lock of the trail's bucket was changed:"),
    # What a rule was is replaced whole by PutRule, and a target by one of its id (EventBridge API reference).
    ("events", "DisableRule"): _of_rule("the rule was disabled:"),
    ("events", "DeleteRule"): _of_rule("the rule was deleted:"),
    ("events", "RemoveTargets"): _of_rule("the rule's targets were removed:"),
    ("events", "PutRule"): _rule_put,
    ("events", "PutTargets"): _targets_put,
    ("events", "RemovePermission"): _always("other accounts may not send to the bus any more:", "eventBusName"),
    # AddPermission lets others take messages away before we read them.
    ("sqs", "DeleteQueue"): _of_queue("the queue was deleted:"),
    ("sqs", "PurgeQueue"): _of_queue("the queue was emptied:"),
    ("sqs", "SetQueueAttributes"): _of_queue("the queue was changed:"),
    ("sqs", "AddPermission"): _of_queue("the queue was opened to others:"),
    ("sqs", "RemovePermission"): _of_queue("a right to the queue was taken away:"),
    # A filter lets nothing pass that it does not name; a data protection policy refuses messages (SNS API reference).
    ("sns", "DeleteTopic"): _of_topic("the topic was deleted:"),
    ("sns", "Unsubscribe"): _of_topic("the topic's subscription was ended:"),
    ("sns", "SetTopicAttributes"): _of_topic("the topic was changed:"),
    ("sns", "SetSubscriptionAttributes"): _of_topic("the topic's subscription was changed:"),
    ("sns", "RemovePermission"): _of_topic("a right to the topic was taken away:"),
    ("sns", "PutDataProtectionPolicy"): _of_topic("what the topic lets pass was changed:"),
    # Nothing is written or read that is encrypted with a key that is off, or whose policy does not allow it.
    ("kms", "DisableKey"): _about_key("a key was disabled, what is encrypted with it is written no more:"),
    ("kms", "ScheduleKeyDeletion"): _about_key("a key will be deleted, what is encrypted with it is written no more:"),
    ("kms", "PutKeyPolicy"): _about_key("the policy of the watch's key was changed:", named=True),
    # The role that firedamp reads with, and the one that regions send with.
    ("iam", "DeleteRole"): _of_role("a role of the watch was deleted:"),
    ("iam", "PutRolePolicy"): _of_role("the rights of a role of the watch were changed:"),
    ("iam", "DeleteRolePolicy"): _of_role("the rights of a role of the watch were changed:"),
    ("iam", "AttachRolePolicy"): _of_role("the rights of a role of the watch were changed:"),
    ("iam", "DetachRolePolicy"): _of_role("the rights of a role of the watch were changed:"),
    ("iam", "PutRolePermissionsBoundary"): _of_role("the rights of a role of the watch were changed:"),
    ("iam", "UpdateAssumeRolePolicy"): _of_role("who may be a role of the watch was changed:"),
    # The alarms that tell when firedamp itself is silent.
    ("monitoring", "DeleteAlarms"): _about_alarm("the alarm was deleted:"),
    ("monitoring", "PutMetricAlarm"): _alarm_put,
    ("monitoring", "DisableAlarmActions"): _about_alarm("the alarm tells nobody any more:"),
}  # fmt: skip
