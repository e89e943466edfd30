"""The rule pack of the watch itself: attacks are alarms, repairs are not, failed attempts are notes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.test_watch import KEY, Scene, canary, kinds
from tests.trails import ACCOUNT, record, role, user

from firedamp.canaries.tamper import Guarded
from firedamp.canaries.watch import Rules
from firedamp.storage.records import AlertKind, Severity

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
    "another bucket": call("s3", "PutBucketPolicy", bucketName="website"),
    "another queue": call("sqs", "DeleteQueue", queueUrl=f"https://sqs/{ACCOUNT}/orders"),
    "odd parameters": call("s3", "DeleteBucket", bucketName=["trail"]),
    "another account": call("cloudtrail", "StopLogging", name="x") | {"recipientAccountId": ELSEWHERE},
}


@pytest.mark.parametrize("repair", REPAIRS.values(), ids=REPAIRS.keys())
def test_a_repair_is_no_alarm(scene: Scene, repair: dict[str, Any]) -> None:
    assert scene.see(repair).grown == ()
    assert scene.alerts() == []


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


def test_the_pack_is_off_where_no_account_is_named(scene: Scene) -> None:
    assert scene.see(ATTACKS["stopped"], rules=Rules(guarded=Guarded())).sightings == 0


def test_an_intruder_who_touches_the_watch_with_a_watched_key_is_a_use_that_says_so(scene: Scene) -> None:
    scene.see(ATTACKS["stopped"] | {"userIdentity": user(KEY)})
    assert kinds(scene.only()) == {"use": 1}
    assert "the trail was stopped" in scene.facts()["remark"]
