"""What a record is to a watched key, and what becomes of it: incidents, alarms, our own calls."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.builders import make_key_id, make_token
from tests.trails import ACCOUNT, ARN, START, Record, record, role, trail, user

from firedamp.canaries import incidents as deciding
from firedamp.canaries import sight, watch
from firedamp.canaries.feeds import FolderFeed, World
from firedamp.canaries.watch import Polled, Rules
from firedamp.canaries.watchlist import Watchlist, compiled
from firedamp.service.alerts import payload
from firedamp.storage import incidents as keeping
from firedamp.storage import nonce
from firedamp.storage.records import (
    Alert,
    AlertKind,
    Canary,
    Grown,
    Incident,
    IncidentState,
    OwnCall,
    Owner,
    PageRead,
    Placement,
    RealKey,
    Severity,
    WatchedKey,
)
from firedamp.storage.store import Store

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
KEY = "AKIAEXAMPLEEXAMPLE33"
OTHER = "AKIAEXAMPLEEXAMPLE44"
OWNER = Owner(arn=ARN, principal_id="AIDAEXAMPLEEXAMPLE234", user_name="svc-backup", account_id=ACCOUNT)
STRANGER = "AKIAEXAMPLEEXAMPLE77"


def canary(key_id: str = KEY, owner: Owner = OWNER, name: str = "backup") -> Canary:
    return Canary(key_id=key_id, name=name, owner=owner, note="for the finance share", since=START)


class Scene:
    """A store, a folder of trail files, and a watch over them."""

    def __init__(self, folder: Path) -> None:
        self.store = Store(None)
        self.folder = folder
        self.files = 0

    def watch(self, *keys: WatchedKey) -> None:
        for key in keys:
            self.store.watch(key)

    def see(self, *records: object, now: datetime = NOW, rules: Rules | None = None) -> Polled:
        self.files += 1
        (self.folder / f"{self.files:04}.json.gz").write_bytes(trail(*records))
        world = World(clients=lambda *_: None, watched=self.store.watched, clock=lambda: now, sleep=lambda _: None)
        return watch.poll(FolderFeed(urlsplit(self.folder.as_uri()), world), self.store, now, rules or Rules())

    def incidents(self) -> list[Incident]:
        return sorted(self.store.incidents(), key=lambda each: each.id)

    def only(self) -> Incident:
        (incident,) = self.store.incidents()
        return incident

    def alerts(self) -> list[Alert]:
        return [alert for _, alert in reversed(self.store.alerts())]

    def facts(self) -> dict[str, str]:
        return dict(self.alerts()[-1].facts)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path)
    yield made
    made.store.close()


def kinds(incident: Incident) -> dict[str, int]:
    counts = {"use": incident.use, "derived": incident.derived, "mention": incident.mention, "tamper": incident.tamper}
    return {kind: count for kind, count in counts.items() if count}


# Use, derived, mention.


def test_a_denied_call_is_a_use(scene: Scene) -> None:
    scene.watch(canary())
    polled = scene.see(
        record(user(KEY), errorCode="Client.UnauthorizedOperation", errorMessage=f"User: {ARN} is not authorized")
    )
    assert len(polled.opened) == 1
    assert kinds(scene.only()) == {"use": 1}
    assert scene.only().denied == 1


def federated(arn: str = ARN) -> Record:
    issuer = {"type": "IAMUser", "principalId": "AIDAEXAMPLEEXAMPLE234", "arn": arn, "accountId": ACCOUNT}
    return {
        "type": "FederatedUser",
        "principalId": f"{ACCOUNT}:anybody",
        "arn": f"arn:aws:sts::{ACCOUNT}:federated-user/anybody",
        "accountId": ACCOUNT,
        "accessKeyId": "ASIAEXAMPLEEXAMPLE55",
        "sessionContext": {"sessionIssuer": issuer | {"userName": "svc-backup"}},
    }


DERIVED: dict[str, Record] = {
    "a session of GetSessionToken": user("ASIAEXAMPLEEXAMPLE55"),
    "a session of GetFederationToken": federated(),
    "another key of the owner": user(STRANGER),
    "a principal id alone": {"type": "IAMUser", "principalId": OWNER.principal_id},
    "a principal id with a session": {"principalId": f"{OWNER.principal_id}:i-0123"},
    "a name and an account, nothing else": {"type": "IAMUser", "userName": "svc-backup", "accountId": ACCOUNT},
    "an issuer's name and account": {
        "type": "FederatedUser",
        "accountId": ACCOUNT,
        "sessionContext": {"sessionIssuer": {"type": "IAMUser", "userName": "svc-backup"}},
    },
}


@pytest.mark.parametrize("identity", DERIVED.values(), ids=DERIVED.keys())
def test_what_the_owner_does_otherwise_is_derived(scene: Scene, identity: Record) -> None:
    scene.watch(canary())
    assert scene.see(record(identity)).opened
    assert kinds(scene.only()) == {"derived": 1}


def test_a_console_sign_in_of_the_owner_is_derived(scene: Scene) -> None:
    scene.watch(canary())
    identity = user("") | {"accessKeyId": ""}
    signed_in = {"eventSource": "signin.amazonaws.com", "readOnly": False, "eventType": "AwsConsoleSignIn"}
    scene.see(record(identity, name="ConsoleLogin", responseElements={"ConsoleLogin": "Success"}, **signed_in))
    assert kinds(scene.only()) == {"derived": 1}


NOT_DERIVED: dict[str, Record] = {
    "a user whose name begins like the owner's": user(STRANGER, "svc-backup2") | {"principalId": "AIDAEXAMPLE"},
    "the same name in another account": {"type": "IAMUser", "userName": "svc-backup", "accountId": "210987654321"},
    "a role that bears the name": role() | {
        "sessionContext": {"sessionIssuer": {"type": "Role", "userName": "svc-backup", "accountId": ACCOUNT}}
    },
    "a hidden name": {"type": "IAMUser", "userName": "HIDDEN_DUE_TO_SECURITY_REASONS", "accountId": ACCOUNT},
    "a longer principal id": {"principalId": f"{OWNER.principal_id}X"},
    "nobody": {},
}  # fmt: skip


@pytest.mark.parametrize("identity", NOT_DERIVED.values(), ids=NOT_DERIVED.keys())
def test_what_others_do_is_nothing(scene: Scene, identity: Record) -> None:
    scene.watch(canary())
    polled = scene.see(record(identity))
    assert (polled.records, polled.sightings, polled.grown) == (1, 0, ())


def test_an_event_without_any_identity_harms_nothing(scene: Scene) -> None:
    scene.watch(canary())
    service = record({}, eventType="AwsServiceEvent", userIdentity=None, sourceIPAddress=None, userAgent=None)
    assert scene.see(service, record(user(KEY), userAgent=None, sourceIPAddress=None)).opened
    assert kinds(scene.only()) == {"use": 1}


IAM: dict[str, Any] = {"eventSource": "iam.amazonaws.com"}
MENTIONS: dict[str, tuple[Record, bool]] = {
    "CreateAccessKey for the owner": (
        record(role(), name="CreateAccessKey", requestParameters={"userName": "svc-backup"}, **IAM), True),
    "UpdateAccessKey": (
        record(role(), name="UpdateAccessKey", requestParameters={"accessKeyId": KEY}, **IAM), True),
    "DeleteUser": (record(role(), name="DeleteUser", requestParameters={"userName": "svc-backup"}, **IAM), True),
    "AttachUserPolicy": (
        record(role(), name="AttachUserPolicy", requestParameters={"userName": "svc-backup"}, **IAM), True),
    "GetAccessKeyLastUsed": (
        record(role(), name="GetAccessKeyLastUsed", requestParameters={"accessKeyId": KEY}, **IAM), False),
    "a denied DeleteAccessKey": (
        record(role(), name="DeleteAccessKey", requestParameters=None, errorCode="AccessDenied",
               errorMessage=f"not authorized on {KEY}", **IAM), False),
    "the owner's ARN in a bucket policy": (
        record(role(), name="PutBucketPolicy", eventSource="s3.amazonaws.com",
               requestParameters={"bucketPolicy": json.dumps({"Principal": {"AWS": ARN}})}), True),
    "the id in a presigned URL": (
        record(role(), name="GetObject", requestParameters={"url": f"?X-Amz-Credential%3D{KEY}%2F20261120"}), False),
    "the id as a field's name": (record(role(), requestParameters={KEY: 1}), False),
    "the id in a user agent": (record(role(), userAgent=f"tool {KEY}"), False),
}  # fmt: skip


@pytest.mark.parametrize(("mention", "changes"), MENTIONS.values(), ids=MENTIONS.keys())
def test_a_key_or_owner_that_stands_elsewhere_is_mentioned(scene: Scene, mention: Record, changes: bool) -> None:
    scene.watch(canary())
    polled = scene.see(mention)
    assert kinds(scene.only()) == {"mention": 1}
    assert bool(polled.opened) is changes, "only a mention that changes something is an alarm"
    assert len(polled.grown) == 1, "it is shown all the same"
    (alert,) = scene.alerts()
    assert alert.kind is AlertKind.MENTIONED
    assert alert.severity is (Severity.HIGH if changes else Severity.LOW)


@pytest.mark.parametrize(
    "text",
    [f"X{KEY}", f"{KEY}7", f"{KEY[:-1]}", KEY.lower(), f"{ARN}2", f"{ARN}-old", f"{ARN}.old", f"{ARN}/x"],
)
def test_an_id_inside_a_larger_one_is_not_the_id(scene: Scene, text: str) -> None:
    scene.watch(canary())
    assert scene.see(record(role(), requestParameters={"a": text, "tag": "svc-backup"})).sightings == 0


def test_a_user_name_in_another_account_or_field_is_no_mention(scene: Scene) -> None:
    scene.watch(canary())
    elsewhere = {"recipientAccountId": "210987654321", "userIdentity": role() | {"accountId": "210987654321"}}
    named = {"requestParameters": {"userName": "svc-backup"}}
    assert scene.see(record(role(), name="DeleteUser", **IAM, **named) | elsewhere).sightings == 0
    assert scene.see(record(role(), requestParameters={"bucketName": "svc-backup"})).sightings == 0


def test_the_first_kind_that_fits_is_the_one(scene: Scene) -> None:
    scene.watch(canary())
    scene.see(
        record(user(KEY), name="UpdateAccessKey", requestParameters={"accessKeyId": KEY, "userName": "svc-backup"})
    )
    assert kinds(scene.only()) == {"use": 1}


def test_one_record_can_be_a_use_of_one_key_and_a_mention_of_another(scene: Scene) -> None:
    scene.watch(canary(), canary(OTHER, Owner(), "other"))
    scene.see(record(user(KEY), name="DeleteAccessKey", requestParameters={"accessKeyId": OTHER}, **IAM))
    assert {each.key_id: kinds(each) for each in scene.incidents()} == {KEY: {"use": 1}, OTHER: {"mention": 1}}


def test_two_watched_keys_of_one_owner_give_one_alarm_for_what_only_the_owner_tells(scene: Scene) -> None:
    scene.watch(canary(), canary(OTHER))
    scene.see(record(user(OTHER)))
    assert [(each.key_id, kinds(each)) for each in scene.incidents()] == [(OTHER, {"use": 1})]
    scene.see(record(user("ASIAEXAMPLEEXAMPLE66"), 1))
    assert len(scene.store.alerts()) == 2


@pytest.mark.parametrize("shape", ["my-canary-key", "AKIA1", "key:with/odd=chars", "clé"])
def test_an_adopted_id_of_any_shape_is_watched(scene: Scene, shape: str) -> None:
    scene.watch(canary(shape, Owner()))
    assert scene.see(record(role(shape)), record(role(f"{shape}2")), record(role(f"x{shape}"))).sightings == 1
    longer = record(role(), requestParameters={"a": f"{shape}-2", "b": f"the {shape}, there"})
    assert scene.see(longer).sightings == 1


def test_an_owner_learned_from_a_record_is_proposed_and_not_joined(scene: Scene) -> None:
    scene.watch(canary(owner=Owner()))
    scene.see(record(user(KEY)), record(user("ASIAEXAMPLEEXAMPLE55"), 1))
    assert kinds(scene.only()) == {"use": 1}
    assert ARN in scene.facts()["owner"]
    assert "canary adopt" in scene.facts()["owner"]
    scene.watch(canary(owner=Owner(arn=ARN, account_id=ACCOUNT)))
    scene.see(record(role()))
    assert kinds(scene.only()) == {"use": 1, "derived": 1}, "what was read before is read again for the new owner"


# How JSON may hide an id.


def hidden(text: str, rng: random.Random) -> str:
    return "".join(rng.choice((c, f"\\u{ord(c):04x}", f"\\u{ord(c):04X}")) for c in text)


@settings(max_examples=60, deadline=None)
@given(st.randoms(use_true_random=False), st.booleans())
def test_an_escape_cannot_hide_an_id_or_an_owner(rng: random.Random, use: bool) -> None:
    watchlist = compiled((canary(),))
    plain = json.dumps(record(user(KEY) if use else {"arn": ARN, "type": "IAMUser"}))
    data = plain.replace(KEY, hidden(KEY, rng)).replace(ARN, hidden(ARN, rng)).encode()
    assert json.loads(data) == json.loads(plain)
    assert watchlist.hit(data)


def test_names_that_json_writers_escape_are_found(scene: Scene) -> None:
    owner = Owner(arn=f"{ARN}=a&b", user_name="svc-backup=a", account_id=ACCOUNT)
    watchlist = Watchlist([canary(owner=owner)])
    for form in ("\\u003d", "\\u003D", "="):
        assert watchlist.hit(f'{{"userName":"svc-backup{form}a"}}'.encode())
    assert watchlist.hit(rb'{"arn":"arn:aws:iam:\/x"}')
    assert not watchlist.hit(b'{"quoted":"\\"\\n\\u0026 \\u003c"}')


# Incidents.


def hours(count: float) -> float:
    return 60 * count


def test_a_day_of_quiet_ends_an_incident(scene: Scene) -> None:
    scene.watch(canary())
    scene.see(record(user(KEY), 0), record(user(KEY), hours(23)), record(user(KEY), hours(48)))
    assert [each.use for each in scene.incidents()] == [2, 1]
    assert len(scene.alerts()) == 2
    assert scene.see(record(user(KEY), hours(71))).opened == ()


def test_quiet_is_an_argument(scene: Scene) -> None:
    scene.watch(canary())
    scene.see(record(user(KEY), 0), record(user(KEY), 30), rules=Rules(quiet=timedelta(minutes=10)))
    assert len(scene.incidents()) == 2


def test_a_record_that_is_43_days_late_opens_or_joins_the_incident_of_its_time(scene: Scene) -> None:
    scene.watch(canary())
    scene.see(record(user(KEY), hours(43 * 24)))
    assert scene.see(record(user(KEY), 0)).opened, "nothing was known of that day"
    scene.see(record(user(KEY), 10))
    assert [(each.id, each.use) for each in scene.incidents()] == [(1, 1), (2, 2)]


def test_a_flood_of_uses_in_one_file_is_kept_batch_by_batch_and_a_crash_loses_and_doubles_nothing(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "_BATCH", 500)

    class Killed(Store):
        """A store whose process is killed after so many transactions."""

        left = 1

        def record_page(self, page: PageRead, decide: keeping.Decide, at: datetime) -> list[Grown]:
            if not self.left:
                raise KeyboardInterrupt
            self.left -= 1
            return super().record_page(page, decide, at)

    flood = [record(user(KEY), number / 1000) for number in range(1_200)]
    with Killed(None) as store:
        scene.store.close()
        scene.store = store
        scene.watch(canary())
        with pytest.raises(KeyboardInterrupt):
            scene.see(*flood)
        assert 0 < scene.only().use < len(flood) / 2
        store.left = 100
        assert scene.see().sightings == len(flood)
        assert scene.only().use == len(flood)
        assert [alert.kind for alert in scene.alerts()] == [AlertKind.CANARY_USED]


def test_a_late_record_that_bridges_two_incidents_joins_the_earlier(scene: Scene) -> None:
    scene.watch(canary())
    scene.see(record(user(KEY), hours(40)))
    scene.see(record(user(KEY), 0))
    assert len(scene.incidents()) == 2
    assert scene.see(record(user(KEY), hours(20))).opened == ()
    assert [(each.id, each.use) for each in scene.incidents()] == [(1, 1), (2, 2)]
    assert len(scene.alerts()) == 2


def test_records_read_together_make_one_incident_with_one_that_is_known(scene: Scene) -> None:
    scene.watch(canary())
    scene.see(record(user(KEY), hours(50)))
    assert scene.see(record(user(KEY), 0), record(user(KEY), hours(20)), record(user(KEY), hours(40))).opened == ()
    assert scene.only().use == 4


def test_a_closed_incident_takes_late_records_without_an_alarm_and_a_later_use_opens_a_new_one(scene: Scene) -> None:
    scene.watch(canary())
    scene.see(record(user(KEY), 0), record(user(KEY), 60))
    assert scene.store.close_incident(1, "it was us")
    late = record(user(KEY), 30, sourceIPAddress="198.51.100.9", name="RunInstances")
    polled = scene.see(late, record(user(KEY), -30))
    assert (polled.opened, len(polled.grown), len(scene.alerts())) == ((), 1, 1)
    assert scene.incidents()[0].use == 4
    assert scene.see(record(user(KEY), 61)).opened
    assert [(each.state, each.use) for each in scene.incidents()] == [
        (IncidentState.CLOSED, 4),
        (IncidentState.OPEN, 1),
    ]


def test_a_late_use_of_a_closed_incident_that_was_only_a_look_is_no_new_alarm(scene: Scene) -> None:
    scene.watch(canary())
    looked = {"name": "GetAccessKeyLastUsed", "requestParameters": {"accessKeyId": KEY}, **IAM}
    scene.see(record(role(), 0, **looked), record(role(), 60, **looked))
    scene.store.close_incident(1, "our audit")
    polled = scene.see(record(user(KEY), 30))
    assert (polled.opened, len(polled.grown), len(scene.alerts())) == ((), 1, 1)


def test_only_what_is_new_alerts_again(scene: Scene) -> None:
    scene.watch(canary())
    scene.see(record(user(KEY), 0))
    scene.see(record(user(KEY), 1), record(user(KEY), 2))
    assert len(scene.alerts()) == 1
    novelties = {
        "address": record(user(KEY), 3, sourceIPAddress="198.51.100.9"),
        "service": record(user(KEY), 4, eventSource="s3.amazonaws.com", name="ListBuckets"),
        "write": record(user(KEY), 5, eventSource="s3.amazonaws.com", name="DeleteBucket"),
        "sign-in": record(user(""), 6, name="ConsoleLogin", eventSource="signin.amazonaws.com"),
        "session": record(
            user(KEY), 7, name="GetSessionToken", responseElements={"credentials": {"accessKeyId": "ASIAX"}}
        ),
    }
    for count, (what, novelty) in enumerate(novelties.items(), 2):
        scene.see(novelty)
        assert len(scene.alerts()) == count, what
        assert scene.alerts()[-1].kind is AlertKind.ESCALATION
        assert what in scene.facts()["new"]
        again = json.loads(json.dumps(novelty)) | {"eventID": f"again-{what}"}
        scene.see(again)
        assert len(scene.alerts()) == count, f"{what} is not new any more"
    assert scene.only().use + scene.only().derived == 13


def test_an_intruder_from_ever_new_addresses_is_told_ever_less_often(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deciding, "ADDRESSES", 60)
    monkeypatch.setattr(keeping, "ADDRESSES", 60)
    scene.watch(canary())
    for number in range(100):
        scene.see(record(user(KEY), number, sourceIPAddress=f"198.51.100.{number}"))
    assert (scene.only().use, len(scene.only().addresses)) == (100, 60)
    told = [dict(alert.facts)["new"] for alert in scene.alerts()[1:]]
    assert told == [*(f"address 198.51.100.{number}" for number in range(1, 16)), "32 addresses, now 198.51.100.31"]
    assert len(scene.store.sightings(scene.only().id)) == 100, "every record is kept"


def test_a_use_after_somebody_only_looked_is_an_alarm(scene: Scene) -> None:
    scene.watch(canary())
    looked = record(role(), name="GetAccessKeyLastUsed", requestParameters={"accessKeyId": KEY}, **IAM)
    assert scene.see(looked).opened == ()
    assert scene.see(record(user(KEY), 1)).opened == (scene.only(),)
    assert [each.kind for each in scene.alerts()] == [AlertKind.MENTIONED, AlertKind.CANARY_USED]
    assert scene.alerts()[-1].severity is Severity.CRITICAL


def test_a_failed_write_is_no_escalation(scene: Scene) -> None:
    scene.watch(canary())
    scene.see(record(user(KEY), 0))
    scene.see(record(user(KEY), 1, name="CreateUser", errorCode="AccessDenied"))
    assert len(scene.alerts()) == 1
    assert scene.only().writes == 0


def test_no_other_key_consumes_an_alarm(scene: Scene) -> None:
    scene.watch(canary(), canary(OTHER, Owner(), "other"))
    scene.see(record(user(KEY)))
    assert scene.see(record(role(OTHER), 1)).opened
    assert [each.key_id for each in scene.alerts()] == [KEY, OTHER]


def test_a_real_key_is_watched_alike_and_told_apart(scene: Scene) -> None:
    scene.watch(RealKey(key_id=KEY, name="deploy", owner=OWNER, since=START))
    scene.see(record(user(KEY)))
    assert scene.only().canary is False
    assert scene.facts()["canary"].startswith("no")
    assert scene.alerts()[0].severity is Severity.HIGH


# Corrected, copied, oversized, odd.


def test_a_corrected_record_takes_the_place_of_the_first(scene: Scene) -> None:
    scene.watch(canary())
    first = record(user(KEY), 0, sourceIPAddress="192.0.2.1", errorCode="AccessDenied")
    better = record(user(KEY), 0, addendum={"reason": "UPDATED_DATA", "originalEventID": first["eventID"]})
    scene.see(first)
    assert scene.only().denied == 1
    assert scene.see(better).opened == ()
    assert (scene.only().use, scene.only().denied, scene.only().addresses) == (1, 0, ("203.0.113.7",))
    assert len(scene.store.sightings(1)) == 2, "every record is kept"


def test_a_correction_that_comes_before_the_record_it_corrects_counts_once(scene: Scene) -> None:
    scene.watch(canary())
    first = record(user(KEY), 0)
    scene.see(record(user(KEY), 0, addendum={"reason": "UPDATED_DATA", "originalEventID": first["eventID"]}))
    scene.see(first)
    assert scene.only().use == 1


def test_copies_for_two_accounts_are_two_records(scene: Scene) -> None:
    scene.watch(canary())
    one = record(user(KEY), sharedEventID="shared")
    scene.see(one, one | {"recipientAccountId": "210987654321"}, one)
    assert scene.only().use == 2


def test_a_record_whose_parameters_were_too_large_is_a_use(scene: Scene) -> None:
    scene.watch(canary())
    omitted = {"omitted": True, "originalSize": 102401, "reason": "requestParameters too large"}
    assert scene.see(record(user(KEY), requestParameters=omitted)).opened


def test_odd_types_cost_neither_the_record_nor_the_file(scene: Scene) -> None:
    scene.watch(canary())
    odd: dict[str, Any] = {"eventName": 5, "awsRegion": ["mars"], "readOnly": "true", "sourceIPAddress": {"a": 1},
                           "requestParameters": "text", "responseElements": []}  # fmt: skip
    uses = record(user(KEY)) | odd, record(user(KEY), 1)
    polled = scene.see(*uses, 5, None, {"eventID": "x"}, {"eventTime": "y"})
    assert kinds(scene.only()) == {"use": 2}
    assert [each.why for each in polled.rejected] == ["no JSON object", "no JSON object", "no eventTime", "no eventID"]
    assert polled.failed == ()


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("2026-11-20T10:00:00", "2026-11-20T10:00:00+00:00"),
        ("2026-11-20 10:00:00Z", "2026-11-20T10:00:00+00:00"),
        ("2026-11-20T12:00:00.5+02:00", "2026-11-20T10:00:00.500000+00:00"),
        ("2026-11-20 10:00:00 UTC", "2026-11-20T10:00:00+00:00"),
        ("1795168800", "2026-11-20T10:00:00+00:00"),
        ("1795168800500", "2026-11-20T10:00:00.500000+00:00"),
        (1795168800, "2026-11-20T10:00:00+00:00"),
    ],
)
def test_event_times_are_read_leniently(scene: Scene, written: object, read: str) -> None:
    scene.watch(canary())
    scene.see(record(user(KEY), eventTime=written))
    assert scene.only().first == datetime.fromisoformat(read)


def test_a_use_whose_time_cannot_be_read_is_an_alarm_with_the_time_it_was_read(scene: Scene) -> None:
    scene.watch(canary())
    use = record(user(KEY), eventTime="yesterday")
    polled = scene.see(use)
    assert (polled.rejected, polled.failed) == ((), ())
    assert (kinds(scene.only()), scene.only().first) == ({"use": 1}, NOW)
    assert "its eventTime is yesterday" in scene.facts()["remark"]
    scene.see(use, record(role(), 30), record(role(), eventTime="2999-01-01T00:00:00Z"), now=NOW + timedelta(hours=1))
    assert [each.newest for each in scene.store.watermarks()] == [START + timedelta(minutes=30)]
    assert (kinds(scene.only()), scene.only().last) == ({"use": 1}, NOW), "read twice it is one"


LACKING: list[tuple[object, str]] = [
    ({name: value for name, value in record(user(KEY)).items() if name != "eventID"}, "no eventID"),
    ({name: value for name, value in record(user(KEY)).items() if name != "eventTime"}, "no eventTime"),
    ({name: value for name, value in record(user(STRANGER), userName=ARN).items() if name != "eventID"}, "no eventID"),
    (f"the key {KEY}", "no JSON object"),
]


@pytest.mark.parametrize(("lacking", "why"), LACKING)
def test_what_is_no_record_and_holds_a_watched_key_is_a_failure_and_an_alarm(
    scene: Scene, lacking: object, why: str
) -> None:
    scene.watch(canary())
    polled = scene.see(record(role()), lacking)
    assert [(each.why, each.keys) for each in polled.rejected] == [(why, (KEY,))]
    assert [each.why for each in polled.failed] == [f"{KEY} stands in it, and it is no record: {why}"]
    assert scene.incidents() == []
    [alert] = scene.alerts()
    assert (alert.kind, alert.severity, alert.key_id) == (AlertKind.MENTIONED, Severity.HIGH, KEY)
    assert why in scene.facts()["remark"]
    assert scene.see(record(role())).failed == (), "told once: nothing that could be read is owed"


def test_a_record_alone_that_lacks_its_id_and_a_broken_line_are_told_and_other_json_is_not(scene: Scene) -> None:
    scene.watch(canary())
    lacking, broken = json.dumps(LACKING[0][0]), json.dumps(record(user(KEY)))[:-5]
    (scene.folder / "alone.json").write_text(lacking)
    (scene.folder / "lines.jsonl").write_text(f"{json.dumps(record(role()))}\n{broken}\n")
    (scene.folder / "notes.json").write_text(json.dumps({"key": KEY}))
    (scene.folder / "notes.txt").write_text(f"the key is {KEY}")
    polled = scene.see(record(role()))
    assert {Path(each.what.partition("#")[0]).name for each in polled.failed} == {"alone.json", "lines.jsonl"}
    assert len(scene.alerts()) == 2


def test_session_tokens_are_not_kept(scene: Scene, rng: random.Random) -> None:
    scene.watch(canary())
    token, credentials = make_token(rng), {"accessKeyId": make_key_id(rng, prefix="ASIA")}
    made = record(
        user(KEY), name="GetSessionToken", responseElements={"credentials": credentials | {"sessionToken": token}}
    )
    scene.see(made)
    (sighting,) = scene.store.sightings(1)
    assert token.encode() not in json.dumps(sighting.event.user_agent).encode() + sighting.event.raw
    assert credentials["accessKeyId"] in sighting.note
    assert all(token not in value for _, value in scene.alerts()[0].facts)


def test_a_late_alert_says_how_late_and_where_the_key_was(scene: Scene) -> None:
    scene.watch(canary())
    scene.store.place(
        Placement(key_id=KEY, kind="file", place="/home/x/.aws/credentials", format="aws-credentials", planted=START)
    )
    scene.see(record(user(KEY), 0), now=START + timedelta(minutes=3, seconds=20))
    facts = scene.facts()
    assert list(facts)[:4] == ["name", "canary", "placement", "note"]
    assert "/home/x/.aws/credentials" in facts["placement"]
    assert facts["delay"] == "3 min 20 s"
    assert facts["address"] == "203.0.113.7 (public)"
    assert facts["agent"] == "AWS CLI 2.15: aws sts get-caller-identity"
    assert facts["calls"] == "sts:GetCallerIdentity"
    assert facts["verdict"] == "an intruder uses it"


def test_a_time_that_is_yet_to_come_is_told_as_one(scene: Scene) -> None:
    scene.watch(canary())
    scene.see(record(user(KEY), 0), now=START - timedelta(days=30))
    assert (scene.facts()["first"], scene.facts()["delay"]) == (
        "2026-11-20T10:00:00Z, 30 d 0 h ahead of our clock", "not known"
    )  # fmt: skip


def test_whoever_repeats_himself_a_hundred_times_buries_no_other_alarm(scene: Scene) -> None:
    scene.watch(canary(), canary(OTHER, Owner(), "other"))
    made = nonce.make(bytes(nonce.BYTES))
    scene.store.add_own_call(own_call(made))
    stop = {"eventSource": "cloudtrail.amazonaws.com", "errorCode": "AccessDenied"}
    scene.see(
        *(marked(made, n / 10) for n in range(100)),
        *(record(role(), n / 10, name="StopLogging", requestParameters={"name": "t"}, **stop) for n in range(100)),
        record(user(OTHER), 10),
    )
    told = [(alert.kind, dict(alert.facts)["calls"]) for alert in scene.alerts()]
    assert (AlertKind.MASQUERADE, "sts:GetCallerIdentity (99)") in told
    assert (AlertKind.TAMPER, "cloudtrail:StopLogging (100)") in told
    assert len(told) == 4, "and one for each key that was used"


# AWS's own reaction to a public key.


@pytest.mark.parametrize("version", ["", "V2", "V3", "V4", "V9"])
def test_a_quarantine_policy_of_any_version_says_that_the_key_is_public(scene: Scene, version: str) -> None:
    scene.watch(canary())
    policy = {"userName": "svc-backup", "policyArn": f"arn:aws:iam::aws:policy/AWSCompromisedKeyQuarantine{version}"}
    scene.see(
        record(role(), name="AttachUserPolicy", requestParameters=policy, sourceIPAddress="AWS Internal",
               userAgent="AWS Internal", **IAM)
    )  # fmt: skip
    assert scene.facts()["verdict"].startswith("public")
    assert "AWS Internal (aws internal)" in scene.facts()["address"]


def test_a_quarantine_that_is_put_by_the_keys_own_identity_is_no_intruder_and_one_that_ends_is_told(
    scene: Scene,
) -> None:
    scene.watch(canary())
    put = {"userName": "svc-backup", "policyName": "AWSCompromisedKeyQuarantineV3"}
    scene.see(record(user(""), name="PutUserPolicy", requestParameters=put, userAgent="aws-internal/3", **IAM))
    assert scene.facts()["verdict"] == "public: AWS found this key and quarantined it"
    scene.see(record(role(), 5, name="DeleteUserPolicy", requestParameters=put, **IAM))
    assert scene.facts()["verdict"] == "the key or its owner was changed"
    assert "quarantine that AWS put on this key was taken off" in scene.facts()["remark"]


def test_calls_of_aws_itself_are_told_from_an_intruder_who_writes_its_name_into_the_user_agent(scene: Scene) -> None:
    scene.watch(canary())
    scene.see(record(user(KEY), sourceIPAddress="AWS Internal/3", userAgent="aws-internal/3 aws-sdk-java/1.12"))
    assert "AWS itself" in scene.facts()["verdict"]
    scene.see(record(user(KEY), 5, userAgent="AWS Internal"))
    assert scene.facts()["verdict"] == "an intruder uses it"


def test_a_known_scanner_is_named_and_still_alerts(scene: Scene) -> None:
    scene.watch(canary())
    scene.see(record(user(KEY), userAgent="TruffleHog"))
    assert scene.facts()["scanner"] == "TruffleHog, a secret scanner"
    assert scene.alerts()[0].severity is Severity.CRITICAL


# Our own calls.


def own_call(made: str, principal: str = KEY, call: str = "sts:GetCallerIdentity") -> OwnCall:
    return OwnCall(nonce=made, key_id=KEY, principal=principal, call=call, host="x", at=START, purpose="drill")


def marked(made: str, minutes: float = 0, **more: Any) -> Record:
    return record(user(KEY), minutes, **{"userAgent": f"Boto3/1 {nonce.mark(made)}", **more})


def test_a_call_of_ours_is_own_and_no_alarm(scene: Scene) -> None:
    scene.watch(canary())
    made = nonce.make(b"0" * 16)
    scene.store.add_own_call(own_call(made))
    polled = scene.see(marked(made))
    assert (polled.sightings, polled.grown, scene.incidents(), scene.alerts()) == (1, (), [], [])
    assert scene.store.own_calls()[0].event_id is not None
    assert [each.own for each in scene.store.sightings_of(KEY)] == [True], "it is kept"
    scene.see(record(user(KEY), 10))
    assert scene.only().own == 0


def test_a_call_of_ours_within_an_incident_is_counted_apart(scene: Scene) -> None:
    scene.watch(canary())
    made = nonce.make(b"1" * 16)
    scene.store.add_own_call(own_call(made))
    scene.see(record(user(KEY), 0), marked(made, 5))
    assert (scene.only().use, scene.only().own) == (1, 1)
    assert scene.only().last == START


REPLAYS: dict[str, dict[str, Any]] = {
    "another call": {"name": "ListBuckets"},
    "another principal": {"userIdentity": user(STRANGER)},
    "two marks": {"userAgent": f"{nonce.mark(nonce.make(b'2' * 16))} {nonce.mark(nonce.make(b'3' * 16))}"},
}


@pytest.mark.parametrize("replay", REPLAYS.values(), ids=REPLAYS.keys())
def test_a_mark_of_ours_on_another_call_is_an_intruder(scene: Scene, replay: dict[str, Any]) -> None:
    scene.watch(canary())
    made = nonce.make(b"2" * 16)
    scene.store.add_own_call(own_call(made))
    assert scene.see(marked(made, **replay)).opened
    assert {each.kind for each in scene.alerts()} == {AlertKind.MASQUERADE, AlertKind.CANARY_USED}


FORGED = f"trail; {sight.EXPOSED}; {deciding.MASQUERADE}"


@pytest.mark.parametrize(
    "more",
    [
        {"name": "DisableRule", "eventSource": "events.amazonaws.com", "requestParameters": {"name": FORGED}},
        {"userIdentity": user(KEY) | {"arn": FORGED}},
        {"responseElements": {"credentials": {"accessKeyId": FORGED}}},
        {"eventTime": f"; {deciding.MASQUERADE}"},
    ],
    ids=["a request", "an identity", "an answer", "a time"],
)
def test_what_a_stranger_writes_into_a_record_is_never_taken_for_a_remark_of_ours(
    scene: Scene, more: dict[str, Any]
) -> None:
    scene.watch(canary(owner=Owner(account_id=ACCOUNT)))
    scene.see(record(user(KEY), **more))
    assert [each.kind for each in scene.alerts()] == [AlertKind.CANARY_USED]
    assert scene.facts()["verdict"] == "an intruder uses it"


def test_a_record_of_any_size_makes_an_alert_that_channels_take(scene: Scene) -> None:
    scene.watch(canary())
    huge = "\U0001f600" * 50_000
    agent = f"aws-cli/{'1' * 50_000}.1 md/command#{'a' * 50_000}.b"
    scene.see(record(user(KEY), name=huge, userAgent=agent, sourceIPAddress=huge, awsRegion=huge, errorCode=huge))
    assert len(payload(scene.alerts()[0], repeat=True)) < 1 << 18, "the largest message of SQS"
    assert len(scene.store.sightings(1)[0].event.address) == 50_000, "what was seen is kept as it was"


def test_a_mark_met_twice_is_an_intruder(scene: Scene) -> None:
    scene.watch(canary())
    made = nonce.make(b"4" * 16)
    scene.store.add_own_call(own_call(made))
    scene.see(marked(made))
    assert scene.see(marked(made, 1)).opened
    assert AlertKind.MASQUERADE in {each.kind for each in scene.alerts()}


def test_two_records_of_one_marked_call_read_together_are_one_of_ours_and_one_intruder(scene: Scene) -> None:
    scene.watch(canary())
    made = nonce.make(b"5" * 16)
    scene.store.add_own_call(own_call(made))
    scene.see(marked(made), marked(made, 1))
    assert (scene.only().use, scene.only().own) == (1, 1)


def test_copies_of_one_call_of_ours_for_two_accounts_are_both_ours(scene: Scene) -> None:
    scene.watch(canary())
    made = nonce.make(b"6" * 16)
    scene.store.add_own_call(own_call(made))
    copy = marked(made, sharedEventID="same")
    scene.see(copy, copy | {"eventID": "copy", "recipientAccountId": "210987654321"})
    assert scene.incidents() == []


def test_a_mark_that_nobody_wrote_down_is_a_use(scene: Scene) -> None:
    scene.watch(canary())
    assert scene.see(marked(nonce.make(b"7" * 16))).opened
    assert [each.kind for each in scene.alerts()] == [AlertKind.CANARY_USED]


def test_a_call_written_down_without_a_principal_is_nobodys(scene: Scene) -> None:
    scene.watch(canary())
    made = nonce.make(b"8" * 16)
    scene.store.add_own_call(own_call(made, principal=""))
    nameless = {"principalId": OWNER.principal_id}
    assert scene.see(marked(made, userIdentity=nameless)).opened
