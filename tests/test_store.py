"""The store on real SQLite: what is written is read back, repeats are harmless, and nobody else may read the file."""

from __future__ import annotations

import itertools
import json
import os
import random
import sqlite3
import subprocess
import sys
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlite_utils
from tests.builders import make_key_id, make_secret

from firedamp.storage.errors import StoreFailure
from firedamp.storage.migrations import STEPS
from firedamp.storage.records import (
    Alert,
    AlertKind,
    Batch,
    Canary,
    DeliveryState,
    FileProvenance,
    Finding,
    GitProvenance,
    JobRun,
    KeyAction,
    KeyKind,
    Match,
    Met,
    Outcome,
    OwnCall,
    Owner,
    Placement,
    PlacementState,
    RealKey,
    ScanRun,
    SeenObjects,
    Severity,
    Skipped,
    SourceState,
    Status,
    Tally,
    TriageState,
    Verification,
)
from firedamp.storage.rows import Row
from firedamp.storage.secret import Secret, fingerprint
from firedamp.storage.store import Store

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
KEY = "AKIAEXAMPLEEXAMPLE22"


def finding(secret: str = "one", **more: object) -> Finding:  # noqa: S107
    values: dict[str, object] = {
        "fingerprint": fingerprint("aws-access-key", KEY, Secret(secret)),
        "kind": KeyKind.ACCESS_KEY,
        "access_key_id": KEY,
        "account_id": None,
        "has_secret": True,
        "first_seen": NOW,
        "last_seen": NOW,
        **more,
    }
    return Finding(**values)  # type: ignore[arg-type]


def match(blob: str = "b1", line: int | None = 3) -> Match:
    return Match(blob=blob, line=line, column=line, kind=KeyKind.ACCESS_KEY, secret_here=True)


def batch(**more: object) -> Batch:
    return Batch(**({"at": NOW, "detector": "1"} | more))  # type: ignore[arg-type]


def test_a_new_file_and_its_companions_are_private(tmp_path: Path) -> None:
    path = tmp_path / "state" / "firedamp.db"
    with Store(path) as store:
        store.add_job_run(JobRun(job="scan", started=NOW))
        modes = {each.name: each.stat().st_mode & 0o777 for each in path.parent.iterdir()}
    assert modes == {"firedamp.db": 0o600, "firedamp.db-wal": 0o600, "firedamp.db-shm": 0o600}


def test_what_is_no_database_of_ours_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    path.write_bytes(b"this is a text file, and a rather long one" * 100)
    with pytest.raises(StoreFailure, match="cannot be opened"):
        Store(path)
    other = tmp_path / "other.db"
    with sqlite3.connect(other) as db:
        db.execute("CREATE TABLE theirs (x)")
    db.close()
    with pytest.raises(StoreFailure, match="not firedamp's"):
        Store(other)
    newer = tmp_path / "newer.db"
    with sqlite3.connect(newer) as db:
        db.execute(f"PRAGMA user_version = {len(STEPS) + 1}")
    db.close()
    with pytest.raises(StoreFailure, match="newer firedamp"):
        Store(newer)


def test_a_second_store_in_one_process_leaves_the_first_its_locks(tmp_path: Path) -> None:
    # Without its lock the first store is not there for another process, which takes itself for the last user of the
    # database and removes the log that the first still writes to.
    path = tmp_path / "x.db"
    code = (
        "import sys; from pathlib import Path; from datetime import datetime, UTC\n"
        "from firedamp.storage.store import Store; from firedamp.storage.records import JobRun\n"
        "with Store(Path(sys.argv[1])) as store: store.add_job_run(JobRun(job='other', started=datetime.now(UTC)))\n"
    )
    with Store(path) as first:
        first.add_job_run(JobRun(job="first", started=NOW))
        Store(path).close()
        subprocess.run([sys.executable, "-c", code, str(path)], check=True)
        first.add_job_run(JobRun(job="again", started=NOW))
        with Store(path) as reader:
            assert {run.job for run in reader.job_runs()} == {"first", "other", "again"}


def test_a_database_that_is_a_link_is_refused_and_an_open_one_is_closed_to_others(tmp_path: Path) -> None:
    (tmp_path / "link.db").symlink_to(tmp_path / "x.db")
    with pytest.raises(StoreFailure, match="link"):
        Store(tmp_path / "link.db")
    (tmp_path / "open.db").touch(0o644)
    Store(tmp_path / "open.db").close()
    assert (tmp_path / "open.db").stat().st_mode & 0o777 == 0o600


def test_what_is_no_regular_file_is_no_database_and_keeps_its_mode(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o644)
    with pytest.raises(StoreFailure, match="no regular file"):
        Store(tmp_path / "pipe")
    assert (tmp_path / "pipe").stat().st_mode & 0o777 == 0o644


def test_a_blank_store_has_the_same_tables_and_none_of_the_rows(tmp_path: Path) -> None:
    with Store(tmp_path / "x.db") as store:
        store.record(batch(found=((finding(), match()),)))
        with store.blank() as blank:
            assert blank.findings() == []
            blank.record(batch(found=((finding(), match()),)))
            assert blank.findings() == store.findings()
            with blank.blank() as again:
                assert again.findings() == []


def test_a_finding_is_read_back_as_it_was_written() -> None:
    whole = finding(
        has_token=True, rank=2, example=True, expires=NOW, notes=("a", "b"), severity=Severity.HIGH,
        verification=Verification(status=Status.ACTIVE, at=NOW, arn="arn", account_id="1", user_id="u",
                                  detail="d", partitions=("aws",)),
    )  # fmt: skip
    with Store(None) as store:
        store.record(batch(found=((whole, match()),)))
        store.record(batch(found=((whole, match()),)))
        assert store.findings() == [whole]
        assert store.finding(whole.fingerprint[:8]) == [whole]
        assert store.finding(KEY) == [whole]
        assert store.findings(key_id="other") == []


def test_a_finding_keeps_what_a_person_decided() -> None:
    with Store(None) as store:
        store.record(batch(found=((finding(), match()),)))
        store.set_state(finding().fingerprint, TriageState.ACCEPTED, "a test key")
        store.record(batch(found=((finding(last_seen=NOW + timedelta(days=1)), match("b2")),)))
        (kept,) = store.findings(state=TriageState.ACCEPTED)
        assert kept.state_reason == "a test key"
        assert kept.last_seen == NOW + timedelta(days=1)


def test_some_findings_come_in_the_order_of_all() -> None:
    many = [
        finding(str(number), severity=severity, rank=rank, first_seen=NOW + timedelta(days=day), access_key_id=key_id)
        for number, (severity, rank, day, key_id) in enumerate(
            itertools.product((None, Severity.LOW, Severity.CRITICAL), (0, 1), (0, 1), (None, KEY))
        )
    ]
    with Store(None) as store:
        store.record(batch(found=tuple((each, match()) for each in many)))
        names = {each.fingerprint for each in many}
        assert {each.fingerprint for each in store.findings()} == names
        assert store.findings_of(names) == store.findings()
        assert store.findings_of(sorted(names)[:5]) == [
            each for each in store.findings() if each.fingerprint in sorted(names)[:5]
        ]


def test_a_finding_is_told_from_one_of_which_no_scan_has_told_yet() -> None:
    one, other = finding(), finding("other")
    later = NOW + timedelta(days=1)
    with Store(None) as store:
        store.record(batch(found=((one, match()), (other, match()))))
        assert store.told([one.fingerprint]) == {}
        store.tell([one.fingerprint], NOW)
        store.tell([one.fingerprint], later)
        store.record(batch(found=((one, match()),)))
        assert store.told([one.fingerprint, other.fingerprint]) == {one.fingerprint: (NOW, later)}


def test_what_an_older_database_holds_was_told(tmp_path: Path) -> None:
    statement = """INSERT INTO finding (fingerprint, kind, has_secret, has_token, rank, example, canary, notes, status,
        detail, partitions, state, state_reason, first_seen, last_seen)
        VALUES (?, 'aws-access-key', 1, 0, 0, 0, 0, '[]', 'UNCHECKED', '', '[]', 'open', '', ?, ?)"""
    name, at = finding().fingerprint, NOW.isoformat()
    with Store(of_version(11, tmp_path, statement, (name, at, at))) as store:
        assert store.told([name]).keys() == {name}


def test_matches_meet_every_way_their_blob_was_met() -> None:
    file = FileProvenance(path="/home/a/file", mode=0o644)
    commit = GitProvenance(repository="/r", commit="c", path="f", author="A", date=NOW, in_head=True)
    nowhere = GitProvenance(repository="/r")
    met = tuple(
        Met(source=source, blob="b1", provenance=place)
        for source, place in (("folder", file), ("git", commit), ("git", nowhere))
    )
    with Store(None) as store:
        store.record(batch(found=((finding(), match()),), met=met))
        sights = store.sights([finding().fingerprint])[finding().fingerprint]
        assert {sight.provenance for sight in sights} == {file, commit, nowhere}
        assert {sight.match for sight in sights} == {match()}
        assert set(store.held(roots=["/home/a"])) == {met[0]}
        assert set(store.held(roots=["/home/a/file"])) == {met[0]}
        assert set(store.held(roots=["/home/a/fil"])) == set()
        assert set(store.held(repositories=["/r"])) == set(met[1:])
        store.record(batch(gone=met))
        assert store.sights([finding().fingerprint])[finding().fingerprint] == []
        (left,) = store.sights([finding().fingerprint], gone=True)[finding().fingerprint]
        assert left.source == ""
        assert store.blobs_with_findings() == {"b1"}
        assert store.fingerprints_in(["b1", "b2"]) == {finding().fingerprint}


def test_what_was_read_belongs_to_a_detector_version() -> None:
    state = SourceState(target="/r", detector="1", value=b"state")
    with Store(None) as store:
        store.record(batch(seen=(SeenObjects(width=20, ids=b"x" * 40),), states=(state,)))
        assert store.seen("1", 20) == [b"x" * 40]
        assert store.seen("2", 20) == store.seen("1", 32) == []
        assert store.source_state("/r", "1") == state
        assert store.source_state("/r", "2") is None
        store.tidy("1+thorough", NOW)
        assert store.seen("1", 20) == [b"x" * 40], "detectors of one version"
        store.tidy("11", NOW)
        assert store.seen("1", 20) == []
        assert store.source_state("/r", "1") is None


def test_many_small_segments_of_what_was_read_become_one() -> None:
    def ids(number: int, count: int = 1) -> bytes:
        return number.to_bytes(20) * count

    with Store(None) as store:
        store.record(batch(seen=(SeenObjects(width=20, ids=ids(99, 100_000)),)))
        for number in range(512):  # as many as are left alone
            claimed = SeenObjects(width=20, ids=ids(number), folder="/r/objects", made="1")
            store.record(batch(seen=(SeenObjects(width=20, ids=ids(number)), claimed)))
        store.tidy("1", NOW)
        assert len(store.seen("1", 20)) == 513, "few segments stay as they are"
        for number in range(512, 700):
            store.record(batch(seen=(SeenObjects(width=20, ids=ids(number)),)))
        store.tidy("1", NOW)
        first, *rest = store.seen("1", 20)
        assert first == ids(99, 100_000)
        assert len(rest) <= 512
        joined = b"".join(rest)
        assert {joined[at : at + 20] for at in range(0, len(joined), 20)} == {ids(number) for number in range(700)}
        assert len(joined) == 700 * 20
        assert len(store.seen("1", 20, "/r/objects", "1")) == 512


def test_what_an_object_folder_claims_is_remembered_for_it_alone_and_not_for_ever() -> None:
    def claimed(made: str, at: datetime = NOW) -> Batch:
        return batch(at=at, seen=(SeenObjects(width=20, ids=b"x" * 20, folder="/r/objects", made=made),))

    with Store(None) as store:
        store.record(claimed("1"))
        assert store.seen("1", 20, "/r/objects", "1") == [b"x" * 20]
        assert store.seen("1", 20) == store.seen("1", 20, "/s/objects", "1") == []
        store.record(claimed("2"))
        assert store.seen("1", 20, "/r/objects", "1") == [], "another folder stands there now"
        store.tidy("1", NOW + timedelta(days=179))
        assert store.seen("1", 20, "/r/objects", "2") == [b"x" * 20]
        store.tidy("1", NOW + timedelta(days=181))
        assert store.seen("1", 20, "/r/objects", "2") == []


def test_what_is_remembered_of_a_target_that_is_scanned_no_more_goes_after_half_a_year() -> None:
    state = SourceState(target="/r", detector="1", value=b"state")
    run = ScanRun(target="/r", detector="1", started=NOW, ended=NOW, complete=True)
    with Store(None) as store:
        store.record(batch(states=(state,)))
        store.add_scan_run(run)
        store.tidy("1", NOW + timedelta(days=179))
        assert store.source_state("/r", "1") == state
        assert store.scan_runs() == [run]
        store.tidy("1", NOW + timedelta(days=181))
        assert store.source_state("/r", "1") is None
        assert store.scan_runs() == []


def test_old_scans_are_found_without_reading_all_of_them() -> None:
    with Store(None) as store:
        wanted = "SELECT 1 FROM scan_run WHERE coalesce(ended, started) < '2026'"
        ((*_, plan),) = store._db.execute(f"EXPLAIN QUERY PLAN {wanted}")
        assert "scan_run_by_end" in plan


def of_version(version: int, folder: Path, statement: str, *rows: Row) -> Path:
    """Make a database as an older firedamp left it, and run a statement in it, for each row when there are any."""
    path = folder / "x.db"
    with sqlite3.connect(path) as db:
        tables = sqlite_utils.Database(db, execute_plugins=False)
        for step in STEPS[:version]:
            step(tables)
        db.executemany(statement, rows or [()])
        db.execute(f"PRAGMA user_version = {version}")
    db.close()
    return path


def test_a_database_that_knew_no_ages_remembers_what_it_did(tmp_path: Path) -> None:
    path = of_version(6, tmp_path, "INSERT INTO source_state (target, detector, value) VALUES ('/r', '1', x'00')")
    with Store(path) as store:
        store.tidy("1", datetime.now(UTC))
        assert store.source_state("/r", "1") == SourceState(target="/r", detector="1", value=b"\0")


def test_a_database_from_before_claims_were_kept_apart_reads_once_more(tmp_path: Path) -> None:
    path = of_version(4, tmp_path, "INSERT INTO seen (detector, width, ids) VALUES ('1', 20, x'00')")
    with Store(path) as store:
        assert store.seen("1", 20) == []
        store.record(batch(seen=(SeenObjects(width=20, ids=b"x" * 20),)))
        assert store.seen("1", 20) == [b"x" * 20]


def test_a_placement_from_before_empty_places_were_known_is_kept(tmp_path: Path) -> None:
    statement = "INSERT INTO placement VALUES ('K', 'file', '/x', 'env', 'h', ?, ?, 'present', '')"
    path = of_version(9, tmp_path, statement, (NOW.isoformat(), NOW.isoformat()))
    with Store(path) as store:
        (kept,) = store.placements().values()
    assert (kept.place, kept.state, kept.was_empty) == ("/x", PlacementState.PRESENT, False)


def test_secrets_in_the_paths_of_an_older_database_are_masked_and_no_byte_of_them_stays(
    tmp_path: Path, rng: random.Random
) -> None:
    key, secret = make_key_id(rng), make_secret(rng).replace("/", "+")
    pair, told = f"/r/{key}:{secret}", f"/r/{key}:[secret]"
    places = "INSERT INTO provenance (blob, source, repository, path, commit_id, first_seen) VALUES (?, ?, ?, ?, '', ?)"
    rows = [
        ("1", "folder", "", f"{pair}/x", NOW), ("1", "folder", "", f"{told}/x", NOW), ("2", "git", pair, "x", NOW),
        ("3", "git", "/r", f"{secret}/{key}", NOW),
    ]  # fmt: skip
    path = of_version(10, tmp_path, places, *((*row[:4], NOW.isoformat()) for row in rows))
    skipped, at = json.dumps([{"outcome": "failed", "what": pair, "why": "no", "count": 2}]), NOW.isoformat()
    with sqlite3.connect(path) as db:
        db.execute("INSERT INTO scan_run VALUES (1, ?, '1', ?, ?, 0, '{}', ?)", (pair, at, at, skipped))
        db.execute("INSERT INTO seen VALUES (1, '1', 20, ?, 'm', '', x'00')", (pair,))
        db.execute("INSERT INTO source_state VALUES (?, '1', x'00', '')", (pair,))
        db.execute("INSERT INTO source_state VALUES ('git:/r', '1', ?, '')", (pair.encode(),))
        facts = json.dumps([["place", pair]])
        db.execute("INSERT INTO alert VALUES (1, 'n', 'leak', 1, ?, NULL, NULL, NULL, ?)", (NOW.isoformat(), facts))
    db.close()
    with Store(path) as store:
        assert [each.provenance.path for each in store.held(roots=[told])] == [f"{told}/x"]
        assert [each.blob for each in store.held(repositories=[told])] == ["2"]
        assert [each.provenance.path for each in store.held(repositories=["/r"])] == [f"[secret]/{key}"]
        (run,) = store.scan_runs()
        assert (run.target, run.skipped[0].what, run.skipped[0].count) == (told, told, 2)
        assert store.source_state(told, "1") == SourceState(target=told, detector="1", value=b"\0")
        assert store.source_state("git:/r", "1") is None
    assert secret.encode() not in b"".join(each.read_bytes() for each in tmp_path.iterdir())


def test_a_database_that_kept_the_grade_of_rights_in_the_severity_alone_tells_it_from_that_of_an_answer(
    tmp_path: Path,
) -> None:
    rows = [("ACTIVE", None, 4), ("ACTIVE", "arn:aws:iam::1:root", 4), ("ACTIVE", None, 3), ("UNCHECKED", None, 1),
            ("UNKNOWN", "arn:aws:iam::1:user/a", 3), ("UNKNOWN", None, 3), ("REJECTED", None, 0)]  # fmt: skip
    path = of_version(
        7, tmp_path,
        """INSERT INTO finding (fingerprint, status, arn, severity, kind, has_secret, has_token, rank, example, canary,
        notes, partitions, state, state_reason, detail, first_seen, last_seen)
        VALUES (?, ?, ?, ?, 'aws-access-key', 1, 0, 0, 0, 0, '[]', '[]', 'open', '', '', ?, ?)""",
        *((f"{number:032}", *row, NOW.isoformat(), NOW.isoformat()) for number, row in enumerate(rows)),
    )  # fmt: skip
    with Store(path) as store:
        kept = {int(each.fingerprint): each.rights for each in store.findings()}
    assert kept == {0: Severity.CRITICAL, 1: None, 2: None, 3: Severity.LOW, 4: None, 5: Severity.HIGH, 6: None}


def test_every_answer_of_aws_is_kept_and_the_last_one_counts() -> None:
    said = Verification(status=Status.REJECTED, at=NOW, detail="InvalidClientTokenId", partitions=("aws",))
    with Store(None) as store:
        store.record(batch(found=((finding(), match()),)))
        store.set_verification(finding().fingerprint, said)
        store.set_verification(finding().fingerprint, Verification(status=Status.UNCHECKED, detail="no source"))
        (kept,) = store.findings()
        assert kept.verification == Verification(status=Status.UNCHECKED, detail="no source")


def test_scan_runs_are_remembered() -> None:
    run = ScanRun(
        target="/r", started=NOW, ended=NOW, complete=True, detector="1", tally=Tally(objects=3),
        skipped=(Skipped(outcome=Outcome.FAILED, what="x", why="y"),),
    )  # fmt: skip
    with Store(None) as store:
        store.add_scan_run(run)
        assert store.scan_runs() == [run]


def test_a_canary_marks_the_findings_it_was_before() -> None:
    canary = Canary(key_id=KEY, name="backup", owner=Owner(arn="arn"), tags=(("k", "v"),), since=NOW)
    with Store(None) as store:
        store.record(batch(found=((finding(), match()),)))
        store.watch(canary)
        assert store.watched() == [canary]
        (marked,) = store.findings()
        assert marked.canary
        assert marked.verification.status is Status.CANARY


def test_a_real_key_stays_a_finding() -> None:
    key = RealKey(key_id=KEY, name="deploy", since=NOW)
    with Store(None) as store:
        store.record(batch(found=((finding(), match()),)))
        store.watch(key)
        assert store.watched() == [key]
        assert not store.findings()[0].canary


def test_a_real_key_that_was_taken_for_a_canary_is_a_finding_again_and_one_of_a_known_service_is_not() -> None:
    with Store(None) as store:
        store.record(batch(found=((finding(), match()),)))
        store.watch(Canary(key_id=KEY, name="deploy", since=NOW))
        store.watch(RealKey(key_id=KEY, name="deploy", since=NOW))
        (real,) = store.findings()
        assert (real.canary, real.verification.status) == (False, Status.UNCHECKED)
    said = Verification(status=Status.CANARY, detail="account 1 issues honeytokens to the public")
    with Store(None) as store:
        store.record(batch(found=((replace(finding(), canary=True, verification=said), match()),)))
        store.watch(RealKey(key_id=KEY, name="deploy", since=NOW))
        (known,) = store.findings()
        assert (known.canary, known.verification) == (True, said)


def test_placements_and_own_calls_are_kept() -> None:
    placement = Placement(
        key_id=KEY, kind="file", place="/x", format="env", content="c", planted=NOW, checked=NOW,
        state=PlacementState.PRESENT, detail="d",
    )  # fmt: skip
    call = OwnCall(nonce="n", key_id=KEY, principal="p", call="sts:X", host="h", at=NOW, purpose="verify")
    with Store(None) as store:
        store.watch(Canary(key_id=KEY, name="backup", since=NOW))
        store.place(placement)
        store.add_own_call(call)
        assert store.placements() == {KEY: placement}
        assert store.own_calls() == [call]


def test_an_alert_is_one_however_often_it_is_added_and_goes_to_every_channel() -> None:
    alert = Alert(key="use/1", kind=AlertKind.CANARY_USED, severity=Severity.CRITICAL, at=NOW, facts=(("a", "b"),))
    with Store(None) as store:
        store.add_alert(alert)
        store.add_alert(alert)
        assert [each for _, each in store.alerts()] == [alert]
        assert store.route(["mail", "chat"], NOW) == 2
        assert store.route(["mail", "chat"], NOW) == 0
        far = NOW + timedelta(days=1)
        due = [*store.due("mail", NOW, far), *store.due("chat", NOW, far)]
        assert {(delivery.channel, each.key) for delivery, each in due} == {("mail", "use/1"), ("chat", "use/1")}
        store.set_delivery(replace(due[0][0], state=DeliveryState.DELIVERED, attempts=1, delivered=NOW))
        store.set_delivery(replace(due[1][0], attempts=1, next_try=NOW + timedelta(minutes=1), error="refused"))
        assert store.due("mail", NOW, far) == store.due("chat", NOW, far) == []
        later = NOW + timedelta(minutes=1)
        assert [d.attempts for d, _ in store.due("chat", later, far)] == [1]
        assert [d.attempts for d, _ in store.due("chat", NOW, NOW)] == [1], "put off by a clock that was ahead"


def test_a_new_channel_hears_what_is_news_or_what_nobody_was_told() -> None:
    def alert(key: str) -> Alert:
        return Alert(key=key, kind=AlertKind.CANARY_USED, severity=Severity.CRITICAL, at=NOW, facts=())

    now, told = NOW + timedelta(days=30), {"old": NOW, "silenced": None, "today": NOW + timedelta(days=29, hours=1)}
    with Store(None) as store:
        for key in ("old", "silenced", "waits"):
            store.add_alert(alert(key))
        store.route(["chat"], NOW)
        store.add_alert(alert("today"))
        store.route(["chat"], now)
        for delivery, each in store.due("chat", now, now):
            if each.key in told:
                store.set_delivery(replace(delivery, state=DeliveryState.DELIVERED, delivered=told[each.key]))
        store.add_alert(alert("new"))
        store.route(["chat", "renamed"], now)
        assert sorted(each.key for _, each in store.due("renamed", now, now)) == ["new", "today", "waits"]
        store.route(["chat", "renamed"], now + timedelta(days=40))
        assert len(store.due("renamed", now, now)) == 3


def test_jobs_and_key_actions_are_remembered() -> None:
    run = JobRun(job="scan", started=NOW, ended=NOW, outcome="ok", detail="3 repositories")
    action = KeyAction(key_id=KEY, action="disable", step="UpdateAccessKey", at=NOW, outcome="done")
    with Store(None) as store:
        store.add_job_run(run)
        store.add_key_action(action)
        assert store.job_runs() == store.job_runs("scan") == [run]
        assert store.job_runs("other") == []
        assert store.key_actions(KEY) == [action]


def test_two_processes_make_one_database(tmp_path: Path) -> None:
    path = tmp_path / "shared.db"
    code = (
        "import sys; from pathlib import Path; from datetime import datetime, UTC\n"
        "from firedamp.storage.store import Store; from firedamp.storage.records import JobRun\n"
        "with Store(Path(sys.argv[1])) as store:\n"
        "    for n in range(50): store.add_job_run(JobRun(job=sys.argv[2], started=datetime.now(UTC)))\n"
    )
    running = [subprocess.Popen([sys.executable, "-c", code, str(path), name]) for name in ("a", "b", "c")]
    assert [each.wait(300) for each in running] == [0, 0, 0]
    with Store(path) as store:
        assert len(store.job_runs(limit=1000)) == 150


def test_who_makes_a_database_in_the_same_moment_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "new.db"
    # SQLite tells a second one at once that the database is locked, whatever its timeout.
    first = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    first.execute("BEGIN IMMEDIATE")
    ending = threading.Timer(0.3, first.rollback)
    ending.start()
    with Store(path) as store:
        assert store.findings() == []
    ending.join()
    first.close()


def test_a_failed_transaction_leaves_nothing_behind() -> None:
    with Store(None) as store:
        wrong = Match(blob="b", kind=KeyKind.ACCESS_KEY, line=object())  # type: ignore[arg-type]
        with pytest.raises(sqlite3.Error):
            store.record(batch(found=((finding(), match()), (finding("two"), wrong))))
        assert store.findings() == []


def test_a_damaged_database_is_a_failure_with_words(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    with Store(path) as store:
        store.record(batch(found=tuple((finding(str(number)), match(str(number))) for number in range(2_000))))
    data = bytearray(path.read_bytes())
    data[len(data) // 2 :] = b"\xa5" * len(data[len(data) // 2 :])
    path.write_bytes(data)
    with Store(path) as store, pytest.raises(StoreFailure, match=r"damaged|cannot be used"):
        store.findings()


def test_a_disk_that_fills_up_is_a_failure_and_the_next_write_goes_on(tmp_path: Path) -> None:
    with Store(tmp_path / "x.db") as store:
        limit = store._db.execute("PRAGMA page_count").fetchone()[0] + 2
        store._db.execute(f"PRAGMA max_page_count = {limit}")
        with pytest.raises(StoreFailure, match="full"):
            store.record(batch(seen=(SeenObjects(width=20, ids=bytes(20 * 10_000)),)))
        store.record(batch(found=((finding(), match()),)))
        assert len(store.findings()) == 1
