"""The rule pack of the watch itself: attacks are alarms, repairs are not, failed attempts are notes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.test_watch import KEY, NOW, Scene, canary, kinds
from tests.trails import ACCOUNT, record, role, user

from firedamp.canaries import cloudtrail
from firedamp.canaries.sight import sightings
from firedamp.canaries.tamper import Guarded, touched
from firedamp.canaries.watch import Rules
from firedamp.canaries.watchlist import compiled
from firedamp.service.config import WatchConfig
from firedamp.service.watching import rules_of
from firedamp.storage.records import AlertKind, Event, Owner, Severity, Sighting

ELSEWHERE = "210987654321"


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path)
    made.watch(canary())
    yield made
    made.store.close()


def call(service: str, operation: str, /, **parameters: Any) -> dict[str, Any]:
    return record(role(), name=operation, eventSource=f"{service}.amazonaws.com", requestParameters=parameters)


def management(**more: Any) -> dict[str, Any]:
    return {"readWriteType": "All", "includeManagementEvents": True, "excludeManagementEventSources": []} | more


def advanced(*fields: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"fieldSelectors": [{"field": "eventCategory", "equals": ["Management"]}, *fields]}]


SILENCED = (
    '{"$or": [{"source": ["aws.cloudtrail"], "detail": {"eventName": '
    '["StopLogging", "DeleteTrail", "UpdateTrail", "PutEventSelectors"]}}, '
    '{"source": ["aws.iam"], "detail": {"eventName": ["UpdateAccessKey", "AttachUserPolicy"]}}]}'
)
"""The pattern of the rule of that name in `deploy/cloudformation/last-resort.yaml`, without its users."""


ATTACKS: dict[str, dict[str, Any]] = {
    "stopped": call("cloudtrail", "StopLogging", name="main"),
    "deleted": call("cloudtrail", "DeleteTrail", name="main"),
    "narrowed to a region": call("cloudtrail", "UpdateTrail", name="main", isMultiRegionTrail=False),
    "narrowed, without IAM": call("cloudtrail", "UpdateTrail", name="main", includeGlobalServiceEvents=False),
    "redirected": call("cloudtrail", "UpdateTrail", name="main", s3BucketName="mine"),
    "no management events": call(
        "cloudtrail", "PutEventSelectors", eventSelectors=[management(includeManagementEvents=False)]),
    "writes only": call("cloudtrail", "PutEventSelectors", eventSelectors=[management(readWriteType="WriteOnly")]),
    "without KMS": call(
        "cloudtrail", "PutEventSelectors",
        eventSelectors=[management(excludeManagementEventSources=["kms.amazonaws.com"])]),
    "advanced, writes only": call(
        "cloudtrail", "PutEventSelectors",
        advancedEventSelectors=advanced({"field": "readOnly", "equals": ["false"]})),
    "bucket policy": call("s3", "PutBucketPolicy", bucketName="acme-cloudtrail-logs"),
    "bucket policy deleted": call("s3", "DeleteBucketPolicy", bucketName="acme-cloudtrail-logs"),
    "bucket lifecycle": call("s3", "PutBucketLifecycle", bucketName="acme-cloudtrail-logs"),
    "bucket deleted": call("s3", "DeleteBucket", bucketName="acme-cloudtrail-logs"),
    "rule disabled": call("events", "DisableRule", name="firedamp-calls"),
    "rule put disabled": call("events", "PutRule", name="firedamp-calls", state="DISABLED"),
    "rule without targets": call("events", "RemoveTargets", rule="firedamp-calls", ids=["1"]),
    "queue deleted": call("sqs", "DeleteQueue", queueUrl=f"https://sqs/{ACCOUNT}/trail-notices"),
    "queue emptied": call("sqs", "PurgeQueue", queueUrl=f"https://sqs/{ACCOUNT}/trail-notices"),
    "topic deleted": call("sns", "DeleteTopic", topicArn=f"arn:aws:sns:us-east-1:{ACCOUNT}:trail-notices"),
    "log files not signed": call("cloudtrail", "UpdateTrail", name="main", enableLogFileValidation=False),
    "another prefix": call("cloudtrail", "UpdateTrail", name="main", s3KeyPrefix="elsewhere"),
    "no notices": call("cloudtrail", "UpdateTrail", name="main", snsTopicName=""),
    "a key of theirs": call("cloudtrail", "UpdateTrail", name="main", kmsKeyId="arn:aws:kms:us-east-1:1:key/x"),
    "bucket notices": call("s3", "PutBucketNotification", bucketName="acme-cloudtrail-logs"),
    "bucket versions": call(
        "s3", "PutBucketVersioning", bucketName="acme-cloudtrail-logs",
        VersioningConfiguration={"Status": "Suspended"}),
    "bucket lock": call("s3", "PutBucketObjectLockConfiguration", bucketName="acme-cloudtrail-logs"),
    "rule of another pattern": call(
        "events", "PutRule", name="firedamp-calls", state="ENABLED_WITH_ALL_CLOUDTRAIL_MANAGEMENT_EVENTS",
        eventPattern='{"detail-type": ["AWS API Call via CloudTrail"], "detail": {"eventName": ["Nothing"]}}'),
    "rule on a schedule": call(
        "events", "PutRule", name="firedamp-calls", state="ENABLED", scheduleExpression="rate(1 day)"),
    "rule of other alternatives": call(
        "events", "PutRule", name="firedamp-mail-Silenced-1X", eventPattern='{"$or": [{"source": ["aws.tag"]}]}'),
    "rule of fewer alternatives": call(
        "events", "PutRule", name="firedamp-mail-Silenced-1X",
        eventPattern=SILENCED.replace('"StopLogging", ', "")),
    "rule of alternatives in the place of calls": call(
        "events", "PutRule", name="firedamp-mail-Used-1X", eventPattern=SILENCED),
    "rule that gives to their bus": call(
        "events", "PutTargets", rule="firedamp-calls",
        targets=[{"id": "home", "arn": f"arn:aws:events:us-east-1:{ELSEWHERE}:event-bus/default"}]),
    "rule of no calls": call("events", "PutRule", name="firedamp-calls", eventPattern='{"source": ["aws.tag"]}'),
    "rule with another target": call(
        "events", "PutTargets", rule="firedamp-calls", targets=[{"id": "1", "arn": "arn:aws:sqs:us-east-1:1:theirs"}]),
    "rule that gives to a queue of theirs with our name": call(
        "events", "PutTargets", rule="firedamp-calls",
        targets=[{"id": "1", "arn": f"arn:aws:sqs:us-east-1:{ELSEWHERE}:trail-notices"}]),
    "rule that says something else": call(
        "events", "PutTargets", rule="firedamp-calls",
        targets=[{"id": "1", "arn": f"arn:aws:sqs:us-east-1:{ACCOUNT}:trail-notices", "input": "{}"}]),
    "bus closed": call("events", "RemovePermission", statementId="regions", eventBusName="default"),
    "queue closed": call("sqs", "RemovePermission", queueUrl=f"https://sqs/{ACCOUNT}/trail-notices", label="s3"),
    "queue opened": call("sqs", "AddPermission", queueUrl=f"https://sqs/{ACCOUNT}/trail-notices", label="s3"),
    "queue changed": call("sqs", "SetQueueAttributes", queueUrl=f"https://sqs/{ACCOUNT}/trail-notices"),
    "topic closed": call("sns", "RemovePermission", topicArn=f"arn:aws:sns:us-east-1:{ACCOUNT}:trail-notices"),
    "topic filtered": call(
        "sns", "SetSubscriptionAttributes", subscriptionArn=f"arn:aws:sns:us-east-1:{ACCOUNT}:trail-notices:0-1",
        attributeName="FilterPolicy"),
    "topic that refuses": call(
        "sns", "PutDataProtectionPolicy", resourceArn=f"arn:aws:sns:us-east-1:{ACCOUNT}:trail-notices"),
    "key disabled": call("kms", "DisableKey", keyId="1234abcd"),
    "key to be deleted": call("kms", "ScheduleKeyDeletion", keyId="1234abcd"),
    "role deleted": call("iam", "DeleteRole", roleName="firedamp-WatchRole-1X"),
    "role denied": call("iam", "PutRolePolicy", roleName="firedamp-WatchRole-1X", policyName="no"),
    "role for others": call("iam", "UpdateAssumeRolePolicy", roleName="firedamp-WatchRole-1X"),
    "alarm deleted": call("monitoring", "DeleteAlarms", alarmNames=["cpu", "firedamp-Silence"]),
    "alarm of no action": call("monitoring", "PutMetricAlarm", alarmName="firedamp-Silence", threshold=1.0),
    "alarm put muted": call(
        "monitoring", "PutMetricAlarm", alarmName="firedamp-Silence", actionsEnabled=False, alarmActions=["arn:x"]),
    "alarm muted": call("monitoring", "DisableAlarmActions", alarmNames=["firedamp-Silence"]),
    "no trail in the organization": call(
        "organizations", "DisableAWSServiceAccess", servicePrincipal="cloudtrail.amazonaws.com"),
    "no trail of the delegate": call("cloudtrail", "DeregisterOrganizationDelegatedAdmin"),
    "account out of the organization": call("organizations", "RemoveAccountFromOrganization", accountId=ELSEWHERE),
    "account leaves": call("organizations", "LeaveOrganization"),
    "account closed": call("organizations", "CloseAccount", accountId=ELSEWHERE),
    "subscription ended": call(
        "sns", "Unsubscribe", subscriptionArn=f"arn:aws:sns:us-east-1:{ACCOUNT}:trail-notices:0-1"),
}  # fmt: skip


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS.keys())
def test_an_attack_on_the_watch_is_an_alarm(scene: Scene, attack: dict[str, Any]) -> None:
    assert scene.see(attack).opened
    assert kinds(scene.only()) == {"tamper": 1}
    assert scene.only().key_id is None
    assert scene.only().canary is False
    (alert,) = scene.alerts()
    assert (alert.kind, alert.severity, alert.key_id) == (AlertKind.TAMPER, Severity.HIGH, None)
    assert scene.facts()["remark"]


REPAIRS: dict[str, dict[str, Any]] = {
    "started": call("cloudtrail", "StartLogging", name="main"),
    "made": call("cloudtrail", "CreateTrail", name="main", s3BucketName="acme-cloudtrail-logs"),
    "widened": call("cloudtrail", "UpdateTrail", name="main", isMultiRegionTrail=True),
    "all management events": call("cloudtrail", "PutEventSelectors", eventSelectors=[management()]),
    "advanced, all": call("cloudtrail", "PutEventSelectors", advancedEventSelectors=advanced()),
    "rule enabled": call("events", "EnableRule", name="firedamp-calls"),
    "rule put": call("events", "PutRule", name="firedamp-calls", state="ENABLED_WITH_ALL_CLOUDTRAIL_MANAGEMENT_EVENTS"),
    "trail as it was, by the console": call(
        "cloudtrail", "UpdateTrail", name="main", s3KeyPrefix=None, snsTopicName=None, kmsKeyId="",
        isMultiRegionTrail=True, includeGlobalServiceEvents=True, enableLogFileValidation=True),
    "trail with log groups": call("cloudtrail", "UpdateTrail", name="main", cloudWatchLogsLogGroupArn="arn:x"),
    "versions kept": call(
        "s3", "PutBucketVersioning", bucketName="acme-cloudtrail-logs", VersioningConfiguration={"Status": "Enabled"}),
    "rule put as our template has it": call(
        "events", "PutRule", name="firedamp-calls", state="ENABLED_WITH_ALL_CLOUDTRAIL_MANAGEMENT_EVENTS",
        eventPattern='{"detail-type": ["AWS API Call via CloudTrail", "AWS Console Sign In via CloudTrail"], '
        '"detail": {"$or": [{"userIdentity": {"arn": [{"prefix": "arn:aws:iam::1:user/"}]}}]}}'),
    "odd pattern": call("events", "PutRule", name="firedamp-calls", eventPattern=["x"]),
    "our targets": call(
        "events", "PutTargets", rule="firedamp-calls",
        targets=[{"id": "1", "arn": f"arn:aws:sqs:us-east-1:{ACCOUNT}:trail-notices", "inputPath": "$.detail"}]),
    "a bus of ours": call(
        "events", "PutTargets", rule="firedamp-calls",
        targets=[{"id": "home", "arn": f"arn:aws:events:us-east-1:{ACCOUNT}:event-bus/default"}]),
    "the rules of the last resort": call(
        "events", "PutRule", name="firedamp-mail-Silenced-1X", state="ENABLED", eventPattern=SILENCED),
    "the mails of the last resort": call(
        "events", "PutTargets", rule="firedamp-mail-Silenced-1X",
        targets=[{"id": "mail", "arn": f"arn:aws:sns:us-east-1:{ACCOUNT}:firedamp-mail-Topic-1X",
                  "inputTransformer": {"inputTemplate": "x"}}]),
    "targets that were not recorded": call("events", "PutTargets", rule="firedamp-calls"),
    "another role": call("iam", "DeleteRole", roleName="website"),
    "alarm put": call("monitoring", "PutMetricAlarm", alarmName="firedamp-Silence", alarmActions=["arn:x"]),
    "another alarm put": call("monitoring", "PutMetricAlarm", alarmName="cpu"),
    "another alarm": call("monitoring", "DeleteAlarms", alarmNames=["cpu", 7]),
    "another service of the organization": call(
        "organizations", "DisableAWSServiceAccess", servicePrincipal="config.amazonaws.com"),
    "another bucket": call("s3", "PutBucketPolicy", bucketName="website"),
    "another queue": call("sqs", "DeleteQueue", queueUrl=f"https://sqs/{ACCOUNT}/orders"),
    "odd parameters": call("s3", "DeleteBucket", bucketName=["trail"]),
    "another account": call("cloudtrail", "StopLogging", name="x") | {"recipientAccountId": ELSEWHERE},
}  # fmt: skip


@pytest.mark.parametrize("repair", REPAIRS.values(), ids=REPAIRS.keys())
def test_a_repair_is_no_alarm(scene: Scene, repair: dict[str, Any]) -> None:
    assert scene.see(repair).grown == ()
    assert scene.alerts() == []


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from(["", "arn:", "arn:x", "firedamp\x1b[2J", "{}", "[[[", "$"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["arn", "inputPath", "input", "Status", "field"]), inner)
    ),
    max_leaves=4,
)
NAMES = [
    "name", "bucketName", "queueUrl", "topicArn", "rule", "eventPattern", "targets", "s3BucketName", "s3KeyPrefix",
    "snsTopicName", "kmsKeyId", "keyId", "roleName", "alarmNames", "alarmName", "scheduleExpression",
    "servicePrincipal", "accountId", "VersioningConfiguration", "eventSelectors", "advancedEventSelectors",
]  # fmt: skip


@given(
    rule=st.sampled_from(sorted({(event["eventSource"], event["eventName"]) for event in ATTACKS.values()})),
    parameters=st.dictionaries(st.sampled_from(NAMES), JSON, max_size=6),
)
def test_no_parameter_of_a_stranger_ends_the_watch(rule: tuple[str, str], parameters: dict[str, Any]) -> None:
    source, name = rule
    written = record(role(), name=name, eventSource=source, requestParameters=parameters)
    found = list(sightings(written, "", compiled((), frozenset()), Guarded(accounts=frozenset({ACCOUNT})), NOW))
    assert all(isinstance(each, Sighting) for each in found)


def test_a_failed_attempt_is_a_note_and_opens_nothing(scene: Scene) -> None:
    failed = call("cloudtrail", "StopLogging", name="main") | {"errorCode": "AccessDenied"}
    polled = scene.see(failed)
    assert (polled.opened, polled.grown, scene.incidents()) == ((), (), [])
    (alert,) = scene.alerts()
    assert (alert.kind, alert.severity) == (AlertKind.TAMPER, Severity.INFO)
    assert "a failed attempt" in scene.facts()["remark"]


def test_a_failed_attempt_joins_the_incident_of_its_time(scene: Scene) -> None:
    failed = call("cloudtrail", "StopLogging", name="main") | {"errorCode": "AccessDenied"}
    scene.see(failed, call("cloudtrail", "DeleteTrail", name="main"))
    assert scene.only().tamper == 2
    scene.see(failed | {"eventID": "later"})
    assert scene.only().tamper == 3


def test_accounts_do_not_share_an_alarm(scene: Scene) -> None:
    rules = Rules(guarded=Guarded(accounts=frozenset({ACCOUNT, ELSEWHERE})))
    scene.see(ATTACKS["stopped"], rules=rules)
    assert scene.see(ATTACKS["stopped"] | {"eventID": "b", "recipientAccountId": ELSEWHERE}, rules=rules).opened
    assert sorted(each.title for each in scene.incidents()) == [
        f"the watch of account {ACCOUNT}", f"the watch of account {ELSEWHERE}"
    ]  # fmt: skip


def test_known_names_are_the_ones_that_count(scene: Scene) -> None:
    rules = Rules(guarded=Guarded(accounts=frozenset({ACCOUNT}), buckets=frozenset({"website"})))
    assert scene.see(REPAIRS["another bucket"], rules=rules).opened
    assert not scene.see(ATTACKS["bucket policy"], rules=rules).opened


def test_an_update_that_leaves_the_trail_where_its_files_are_is_no_alarm(scene: Scene) -> None:
    same = {"s3BucketName": "acme-logs", "s3KeyPrefix": "org"}
    where = "s3://acme-logs/org/AWSLogs/1/CloudTrail/us-east-1/x.json.gz#7"
    guarded = Guarded(accounts=frozenset({ACCOUNT}))

    def touch(where: str, **parameters: object) -> bool:
        event = cloudtrail.parse(call("cloudtrail", "UpdateTrail", name="main"), where, NOW)
        assert isinstance(event, Event)
        return touched(event, parameters, guarded, where) is not None

    assert not touch(where, **same)
    assert not touch("s3://acme-logs/AWSLogs/1/x.json.gz", s3BucketName="acme-logs", s3KeyPrefix="")
    assert not touch(where, s3BucketName="acme-logs", s3KeyPrefix=None)
    assert touch(where, **(same | {"s3BucketName": "acme"}))
    assert touch(where, **(same | {"s3KeyPrefix": ""})), "its files are announced under their prefix"
    assert touch(where, **(same | {"s3KeyPrefix": "or"}))
    assert touch("sqs://us-east-1/1/q message 1", **same), "nothing says where its files are"


def test_known_keys_and_topics_are_the_ones_that_count(scene: Scene) -> None:
    rules = Rules(guarded=Guarded(accounts=frozenset({ACCOUNT}), keys=frozenset({"ours"})))
    arn = "arn:aws:kms:us-east-1:1:key/ours"
    for number, (name, parameters, opened) in enumerate((
        ("DisableKey", {"keyId": "1234abcd"}, False), ("PutKeyPolicy", {"keyId": "theirs"}, False),
        ("PutKeyPolicy", {"keyId": arn}, True),
    )):  # fmt: skip
        seen = scene.see(call("kms", name, **parameters) | {"eventID": str(number)}, rules=rules)
        assert bool(seen.opened) is opened, (name, parameters)
    assert not scene.see(call("cloudtrail", "UpdateTrail", kmsKeyId=arn) | {"eventID": "u"}, rules=rules).grown
    assert scene.see(call("cloudtrail", "UpdateTrail", kmsKeyId="x") | {"eventID": "v"}, rules=rules).grown


def test_a_stack_whose_name_tells_nothing_is_known_by_it() -> None:
    queue, event = "sqs://us-east-1/1/ledger-FilesQueue-1X", cloudtrail.parse(ATTACKS["rule disabled"], "", NOW)
    assert isinstance(event, Event)
    config = WatchConfig(tamper_accounts=(ACCOUNT,), tamper_names=("Ledger",))
    for told, known in ((config, True), (replace(config, tamper_names=()), False)):
        guarded = rules_of(told, [queue]).guarded
        assert guarded.queues == {"ledger-FilesQueue-1X"}
        assert (touched(event, {"name": "ledger-Used-1X"}, guarded) is not None) is known
        assert touched(event, {"name": "firedamp-calls"}, guarded) is not None


def test_what_the_watch_is_made_of_is_known_where_no_account_is_named_but_those_of_canaries(scene: Scene) -> None:
    rules = rules_of(WatchConfig(tamper_names=("Ledger",)), [f"sqs://us-east-1/{ACCOUNT}/ledger-FilesQueue-1X"])
    assert scene.see(call("events", "DisableRule", name="ledger-Used-1X"), rules=rules).opened
    assert scene.see(call("sqs", "DeleteQueue", queueUrl="https://sqs/1/ledger-FilesQueue-1X"), rules=rules).grown


def test_the_pack_is_off_where_no_account_is_known(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    scene.watch(canary(owner=Owner()))
    assert scene.see(ATTACKS["stopped"]).sightings == 0
    scene.store.close()


def test_an_intruder_who_touches_the_watch_with_a_watched_key_is_a_use_that_says_so(scene: Scene) -> None:
    scene.see(ATTACKS["stopped"] | {"userIdentity": user(KEY)})
    assert kinds(scene.only()) == {"use": 1}
    assert "the trail was stopped" in scene.facts()["remark"]
