"""The service: real processes, real signals, real SQLite. It comes back by itself and says what it missed."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.builders import make_key_id

from firedamp.service import cli, health, liveness, schedule, serving
from firedamp.service.arguments import parser
from firedamp.service.config import ChannelConfig, Config, JobConfig, Reference, ServeConfig, VerifyConfig, WatchConfig
from firedamp.service.schedule import DEFAULT_JOBS, Ended, Runner, Schedule, command, first_run, jobs_of, niceness
from firedamp.storage.errors import Failure
from firedamp.storage.records import (
    Alert,
    AlertKind,
    Batch,
    Finding,
    JobRun,
    KeyKind,
    Match,
    Outcome,
    PageRead,
    ScanRun,
    Severity,
    Skipped,
    Tally,
    Watermark,
)
from firedamp.storage.secret import Fingerprint
from firedamp.storage.store import Store

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
HOURLY = JobConfig(name="x", kind="scan", every=timedelta(hours=1))


def until(true: Callable[[], bool], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


def test_an_overdue_job_runs_at_once_and_one_that_ran_waits_its_time() -> None:
    assert first_run(HOURLY, None, NOW) == NOW
    assert first_run(HOURLY, NOW - timedelta(days=3), NOW) == NOW, "missed while we slept: once, now"
    assert first_run(HOURLY, NOW - timedelta(minutes=20), NOW) == NOW + timedelta(minutes=40)
    nightly = JobConfig(name="n", kind="scan", cron="0 3 * * *")
    assert first_run(nightly, NOW - timedelta(days=2), NOW) == NOW
    assert first_run(nightly, NOW - timedelta(hours=1), NOW) == NOW + timedelta(hours=15)
    assert first_run(nightly, None, NOW) == NOW + timedelta(hours=15)
    ahead = NOW + timedelta(days=300)
    assert first_run(HOURLY, ahead, NOW) == NOW, "the clock was wrong when it ran last"
    assert first_run(nightly, ahead, NOW) == NOW + timedelta(hours=15)


def test_an_instance_whose_clock_was_ahead_does_not_hold_its_place_for_a_year() -> None:
    with Store(None) as store:
        assert store.claim("one", NOW + timedelta(days=365), health.STALE) is None
        assert not health.snapshot(store, NOW).alive
        assert store.claim("two", NOW, health.STALE) is None
        assert store.claim("three", NOW, health.STALE) is not None


def test_what_is_not_configured_has_a_default_and_what_cannot_run_has_none() -> None:
    assert {job.kind for job in jobs_of(Config())} == {"check", "verify", "prune"}
    config = Config(watch=WatchConfig(feeds=("file:///x",)), job=(HOURLY,))
    assert {job.kind for job in jobs_of(config)} >= {"scan", "watch", "nets"}
    quiet = replace(config, verify=VerifyConfig(enabled=False))
    assert {job.kind for job in jobs_of(quiet)} == {job.kind for job in jobs_of(config)} - {"verify"}
    assert {job.kind for job in jobs_of(config, offline=True)} == {"scan", "watch", "check", "prune"}


def test_every_kind_of_job_is_a_command_of_ours() -> None:
    config = Config(watch=WatchConfig(feeds=("file:///x",)))
    for kind in ("scan", "verify", "watch", "deliver", "nets", "check", "drill", "prune"):
        for each in command(JobConfig(name="x", kind=kind, every=timedelta(hours=1)), config):
            parser().parse_args(each)
    watch = JobConfig(name="x", kind="watch", every=timedelta(minutes=1))
    assert "table" in command(watch, config)[0], "nobody reads it: as JSON it is every call of an incident, each minute"
    assert len(command(watch, config)) == 1, "without a channel there is nothing to deliver by, and that is no failure"
    chat = ChannelConfig(name="chat", url=Reference("env:CHAT"))
    assert command(watch, replace(config, channel=(chat,)))[1] == ["alert", "deliver"]
    assert len(command(watch, replace(config, channel=(chat,)), offline=True)) == 1


def test_what_serve_is_told_holds_for_its_jobs(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    minute = timedelta(minutes=1)
    ended = Runner(tmp_path / "x.db", None, offline=True).run([["verify"]], minute)
    assert "--offline contacts nobody" in ended.detail
    ended = Runner(tmp_path / "x.db", None, processes=65).run([["verify", "--log"]], minute)
    assert "65 is more than 64" in ended.detail
    (tmp_path / "c.toml").write_text("[[job]]\nname = 'ask'\nkind = 'verify'\nevery = '1h'\n")
    service = serving.Service(tmp_path / "c.toml", Config(), tmp_path / "x.db", offline=True)
    service._reload(Schedule(lambda _: Ended("ok", ""), lambda: Store(tmp_path / "x.db"), 1))
    assert "job ask is left out" in caplog.text


def test_a_configuration_that_forbids_asking_holds_for_verify(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "c.toml").write_text("[verify]\nenabled = false\n")
    assert cli.main(["verify", "--config", str(tmp_path / "c.toml")]) == 2
    assert "the configuration forbids it\n  enabled under [verify]" in capsys.readouterr().err
    assert cli.main(["verify", "--log", "--config", str(tmp_path / "c.toml")]) == 0
    (tmp_path / "c.toml").write_text("verify.enabled = false\n[[job]]\nname = 'ask'\nkind = 'verify'\nevery = '1h'\n")
    capsys.readouterr()
    assert cli.main(["config", "check", "--config", str(tmp_path / "c.toml")]) == 2
    assert "job[0].kind: enabled under [verify] forbids it" in capsys.readouterr().err


def test_a_runner_tells_how_a_process_ended(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("clean")
    runner = Runner(tmp_path / "x.db", None)
    minute = timedelta(minutes=1)
    assert runner.run([["scan", str(tmp_path / "file"), "--offline"]], minute).outcome == "ok"
    ended = runner.run([["scan", str(tmp_path / "missing"), "--offline"]], minute)
    assert ended.outcome == "incomplete"
    os.mkfifo(tmp_path / "fifo")
    slow = [["watch", "--feed", tmp_path.as_uri(), "--interval", "60"]]
    assert runner.run(slow, timedelta(seconds=3)).outcome == "timeout"
    runner.stop()
    assert runner.run([["status"]], minute).outcome == "stopped"


@pytest.mark.parametrize(
    ("code", "outcome"),
    [
        ("raise SystemExit(2)", "failed"),
        ("import nonsense_of_a_broken_installation", "failed"),
        ("from firedamp.service import cli; cli.parsed = None; raise SystemExit(cli.main([]))", "failed"),
        ("from firedamp.service import cli; raise SystemExit(cli.main(['scan', '--no-such-option']))", "failed"),
        ("from firedamp.service import cli; raise SystemExit(cli.main(['alert', 'test']))", "failed"),
        (
            "from firedamp.service.cli import main; exit(main('findings --format=json --output=/dev/full'.split()))",
            "failed",
        ),
        ("from firedamp.service import cli; raise SystemExit(cli.main(['status', '--db', 'x.db']))", "incomplete"),
        ("from firedamp.service import cli; raise SystemExit(cli.main(['findings', '--db', 'x.db']))", "ok"),
    ],
)
def test_a_job_that_broke_is_told_from_one_that_was_incomplete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, outcome: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(schedule, "COMMAND", (sys.executable, "-c", code))
    assert Runner(tmp_path / "x.db", None).run([[]], timedelta(minutes=1)).outcome == outcome


def test_a_job_that_left_a_process_behind_is_given_up_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = tmp_path / "left"
    code = (
        "import subprocess, time, os\n"
        "left = subprocess.Popen(['sleep', '300'], start_new_session=True)\n"
        f"open({str(left)!r}, 'w').write(f'{{left.pid}} ')\n"
        "time.sleep(300)"
    )

    class UntilItIsLeft(timedelta):
        def total_seconds(self) -> float:
            until(lambda: left.exists() and left.read_text().endswith(" "))
            return 0.1

    monkeypatch.setattr(schedule, "COMMAND", (sys.executable, "-c", code))
    monkeypatch.setattr(schedule, "GRACE", 0.5)
    assert Runner(tmp_path / "x.db", None).run([[]], UntilItIsLeft()).outcome == "timeout"
    process = int(left.read_text())
    assert liveness.lives(liveness.name(process)), "its standard error is still open, and nobody writes to it"
    os.kill(process, signal.SIGKILL)


def test_the_channel_of_standard_output_is_that_of_the_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    config, database = tmp_path / "c.toml", tmp_path / "x.db"
    config.write_text('[[channel]]\nname = "out"\nurl = "env:OUT"\n')
    monkeypatch.setenv("OUT", "stdout://")
    with Store(database) as store:
        store.add_alert(Alert(key="x", kind=AlertKind.TEST, severity=Severity.HIGH, at=NOW))
    runner = Runner(database, config)
    assert runner.run([["alert", "deliver"], ["canary", "list"]], timedelta(minutes=1)).outcome == "ok"
    assert "This is a test of firedamp's alerts" in capfd.readouterr().out
    assert runner.run([["status", "--prune"]], timedelta(minutes=1)).outcome == "ok"
    assert capfd.readouterr().out == "", "what other commands print is in the database"


def test_the_worst_of_several_commands_counts(tmp_path: Path) -> None:
    runner, minute = Runner(tmp_path / "x.db", None), timedelta(minutes=1)
    broken, incomplete = ["alert", "deliver"], ["status"]
    assert runner.run([broken, incomplete, ["findings"]], minute).outcome == "failed"
    assert runner.run([incomplete, broken], minute).outcome == "failed"
    assert runner.run([incomplete, ["findings"]], minute).outcome == "incomplete"


def test_a_job_runs_no_code_of_the_folder_it_is_started_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("argparse", "platformdirs"):
        (tmp_path / f"{name}.py").write_text("import os; os._exit(0)\n")
    monkeypatch.chdir(tmp_path)
    ended = Runner(tmp_path / "x.db", None).run([["scan", "missing", "--offline"]], timedelta(minutes=1))
    assert ended.outcome == "incomplete", "our own command ran"


def test_jobs_stand_back_but_for_those_that_an_alarm_waits_for(tmp_path: Path) -> None:
    kinds = {kind: niceness(JobConfig(name="x", kind=kind, every=timedelta(hours=1))) for kind in ("verify", "watch")}
    assert kinds == {"verify": 10, "watch": 0}
    runner = Runner(tmp_path / "x.db", None)
    waiting = [["watch", "--feed", tmp_path.as_uri(), "--interval", "60"]]
    thread = threading.Thread(target=runner.run, args=(waiting, timedelta(minutes=1), kinds["verify"]))
    thread.start()
    try:
        until(lambda: 10 in [os.getpriority(os.PRIO_PROCESS, process) for process in [*runner._running]])
    finally:
        runner.stop()
        thread.join()


def test_a_job_has_a_history_and_its_failing_is_told_once(tmp_path: Path) -> None:
    database = tmp_path / "x.db"
    outcomes = iter([Ended("ok", ""), *[Ended("failed", "why")] * 5, Ended("ok", "")])

    def run(job: JobConfig) -> Ended:
        if job.name == "broken":
            raise ValueError("a bug")
        return next(outcomes)

    plan = Schedule(run, lambda: Store(database), 2)
    for _ in range(7):
        plan._once(HOURLY)
    plan._once(JobConfig(name="broken", kind="scan", every=timedelta(hours=1)))
    with Store(database) as store:
        assert [each.outcome for each in store.job_runs("x")] == ["ok", *["failed"] * 5, "ok"]
        assert store.job_runs("broken")[0].detail == "ValueError: a bug"
        told = [alert for _, alert in store.alerts()]
        assert {alert.kind for alert in told} == {AlertKind.JOB}


def test_what_an_alarm_waits_for_runs_though_scans_take_every_place(tmp_path: Path) -> None:
    ran, over = set[str](), threading.Event()

    def run(job: JobConfig) -> Ended:
        ran.add(job.kind)
        if job.kind == "scan":
            over.wait(60)
        return Ended("ok", "")

    plan = Schedule(run, lambda: Store(tmp_path / "x.db"), 1)
    scans = [JobConfig(name=f"scan{number}", kind="scan", every=timedelta(hours=1)) for number in range(5)]
    alarms = [replace(job, jitter=timedelta()) for job in DEFAULT_JOBS]
    plan.set([*scans, *alarms], {job.name: datetime.now(UTC) - timedelta(days=2) for job in alarms})
    plan.start()
    try:
        until(lambda: ran == {"scan", "watch", "deliver", "nets"})
    finally:
        over.set()
        plan.stop()


def test_a_job_never_overlaps_itself_and_a_change_of_plan_loses_none(tmp_path: Path) -> None:
    running: list[str] = []
    most = [0]

    def run(job: JobConfig) -> Ended:
        running.append(job.name)
        most[0] = max(most[0], running.count("fast"))
        time.sleep(0.4)
        running.remove(job.name)
        return Ended("ok", "")

    plan = Schedule(run, lambda: Store(tmp_path / "x.db"), 4)
    fast = JobConfig(name="fast", kind="scan", every=timedelta(seconds=1))
    other = JobConfig(name="other", kind="scan", every=timedelta(hours=1))
    plan.set([fast], {})
    plan.start()
    plan.set([fast, other], {})
    with Store(tmp_path / "x.db") as store:
        until(lambda: len(store.job_runs("fast")) >= 2 and len(store.job_runs("other")) == 1)
        plan.set([other], {})
        plan.stop()
    assert most[0] == 1


@pytest.mark.parametrize("plan", [{"every": timedelta(hours=1)}, {"cron": "0 0 1 1 *"}], ids=["every", "cron"])
def test_a_clock_that_is_set_back_puts_no_job_off(tmp_path: Path, plan: dict[str, Any]) -> None:
    ran, back = list[str](), [timedelta(0)]

    def run(job: JobConfig) -> Ended:
        ran.append(job.name)
        return Ended("ok", "")

    schedule = Schedule(run, lambda: Store(tmp_path / "x.db"), 1, lambda: datetime.now(UTC) - back[0])
    never = JobConfig(name="never", kind="nets", cron="0 0 30 2 *")
    schedule.set([JobConfig(name="x", kind="watch", **plan), never], {"x": datetime.now(UTC) - timedelta(days=400)})
    schedule.start()
    try:
        until(lambda: sorted(ran) == ["never", "x"])
        until(lambda: [each.outcome for each in Store(tmp_path / "x.db").job_runs("x")] == ["ok"])
        schedule.keep_time()
        time.sleep(0.2)
        assert sorted(ran) == ["never", "x"], "where the clock is right, nothing is brought forward"
        back[0] = timedelta(days=400)
        schedule.keep_time()
        until(lambda: sorted(ran) == ["never", "x", "x"])
    finally:
        schedule.stop()


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start `firedamp serve` as a process on a database of its own."""
    started: list[subprocess.Popen[bytes]] = []

    def start(text: str) -> subprocess.Popen[bytes]:
        config = tmp_path / "firedamp.toml"
        config.write_text(f'[serve]\nlisten = "127.0.0.1:0"\n{text}')
        process = subprocess.Popen(
            [sys.executable, "-m", "firedamp.service.cli", "serve", "--config", str(config), "--db",
             str(tmp_path / "x.db")],
            stderr=subprocess.PIPE,
        )  # fmt: skip
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        assert process.stderr is not None
        process.stderr.close()


def test_it_watches_is_killed_comes_back_and_ends_in_time(
    tmp_path: Path, service: Callable[..., subprocess.Popen[bytes]], rng: random.Random
) -> None:
    key_id, trail, database = make_key_id(rng), tmp_path / "trail", tmp_path / "x.db"
    trail.mkdir()
    assert cli.main(["canary", "adopt", key_id, "--db", str(database)]) == 0
    jobs = (
        f'log = "json"\n[watch]\nfeeds = ["{trail.as_uri()}"]\n'
        '[[job]]\nname = "look"\nkind = "watch"\nevery = "1s"\n'
        '[[job]]\nname = "tidy"\nkind = "prune"\nevery = "1d"\n'
    )
    first = service(jobs)
    with Store(database) as store:
        until(lambda: any(run.outcome != "running" for run in store.job_runs("look")))
        holder = store.instance()
        assert holder is not None
        assert str(first.pid) in holder.owner
        second = service(jobs)
        assert second.wait(120) == 2, "one instance a database"
        assert second.stderr is not None
        assert holder.owner.encode() in second.stderr.read()
        first.kill()
        first.wait()
        record = {
            "eventID": "e1", "eventTime": "2026-11-20T10:00:00Z", "eventName": "GetCallerIdentity",
            "eventSource": "sts.amazonaws.com", "userIdentity": {"accessKeyId": key_id},
        }  # fmt: skip
        (trail / "one.json").write_text(json.dumps({"Records": [record]}))
        third = service(jobs)
        until(lambda: f":{third.pid}:" in getattr(store.instance(), "owner", ""))
        until(lambda: len(store.incidents()) == 1)
        third.send_signal(signal.SIGHUP)
        third.send_signal(signal.SIGTERM)
        assert third.wait(60) == 0
        assert store.instance() is None
        assert third.stderr is not None
        told = third.stderr.read().decode()
        assert f"{holder.owner} is gone" in told
        assert "for its next heartbeat" not in told, "it is known to be dead, whatever the age of its heartbeat"


def waiting(tmp_path: Path, clock: Callable[[], datetime]) -> tuple[serving.Service, list[str], threading.Thread]:
    """Start an instance in a thread; return it, the words of its failure, and the thread."""
    instance = serving.Service(
        tmp_path / "c.toml", Config(serve=ServeConfig(listen="127.0.0.1:0")), tmp_path / "x.db", clock
    )
    failed: list[str] = []

    def run() -> None:
        try:
            instance.run()
        except Failure as failure:
            failed.append(str(failure))

    thread = threading.Thread(target=run)
    thread.start()
    return instance, failed, thread


def test_a_holder_of_whom_nothing_is_known_is_waited_for_and_that_is_said_at_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    time_now = [NOW + timedelta(seconds=20)]
    with Store(tmp_path / "x.db") as store:
        store.claim("elsewhere:7:start", NOW, health.STALE)
        instance, failed, thread = waiting(tmp_path, lambda: time_now[0])
        until(lambda: "elsewhere:7:start" in caplog.text)
        assert "waiting 40 s" in caplog.text
        time_now[0] += timedelta(seconds=41)
        until(lambda: instance.port > 0)
        instance.stop()
        thread.join()
        assert failed == []
        # One that beats meanwhile lives.
        store.claim("elsewhere:8:start", time_now[0], health.STALE)
        instance, failed, thread = waiting(tmp_path, lambda: time_now[0])
        until(lambda: "elsewhere:8:start" in caplog.text)
        store.beat("elsewhere:8:start", time_now[0] + timedelta(seconds=1))
        thread.join()
        assert "is served by elsewhere:8:start" in failed[0]
        # One that is told to stop while it waits does.
        instance, failed, thread = waiting(tmp_path, lambda: time_now[0])
        until(lambda: caplog.text.count("elsewhere:8:start") == 2)
        instance.stop()
        thread.join()
        assert failed == []
        assert getattr(store.instance(), "owner", "") == "elsewhere:8:start"


def test_a_process_is_known_to_live_or_to_be_gone_on_its_own_machine_since_its_boot_only() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        name = liveness.name(process.pid)
        assert liveness.lives(name) is True
        boot, space, _, began = name.split("/")
        assert liveness.lives(f"{boot}/{space}/{process.pid}/{began}0") is False, "another has its number now"
        for other in ("", "nonsense", f"x/{space}/{process.pid}/{began}", f"{boot}/x/{process.pid}/{began}"):
            assert liveness.lives(other) is None
        process.kill()
        until(lambda: liveness.lives(name) is False)  # a zombie, before anybody has waited for it
    assert liveness.lives(name) is False


def test_a_bad_reload_keeps_the_old_plan(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "c.toml"
    path.write_text("[[job]]\nname = 'x'\nkind = 'scan'\nevery = '1h'\n")
    config = Config(job=(HOURLY,))
    service = serving.Service(path, config, tmp_path / "x.db")
    plan = Schedule(lambda _: Ended("ok", ""), lambda: Store(tmp_path / "x.db"), 1)
    path.write_text("nonsense = 1")
    service._reload(plan)
    assert service._config is config
    assert "the old one stays" in caplog.text
    path.write_text("")
    service._reload(plan)
    assert service._config == Config()


def fill(store: Store) -> None:
    store.claim("host:1:start", NOW, health.STALE)
    store.add_job_run(JobRun(job="scan", started=NOW, ended=NOW + timedelta(seconds=3), outcome="failed", detail="why"))
    store.add_alert(Alert(key="x", kind=AlertKind.TEST, severity=Severity.LOW, at=NOW - timedelta(minutes=5)))
    store.route(["chat"], NOW)
    mark = Watermark(feed="file:///x", position="", newest=NOW - timedelta(hours=1), polled=NOW)
    store.record_page(PageRead(feed="file:///x", watermark=mark), lambda *_: (), NOW)
    store.add_scan_run(
        ScanRun(target="/r", detector="1", started=NOW, ended=NOW + timedelta(seconds=2), tally=Tally(bytes=4))
    )
    store.record(Batch(at=NOW, detector="1", found=tuple(leaked(n, worst) for n, worst in enumerate(SEVERITIES))))


SEVERITIES = (Severity.CRITICAL, None, Severity.CRITICAL)


def leaked(number: int, severity: Severity | None) -> tuple[Finding, Match]:
    finding = Finding(
        fingerprint=Fingerprint(f"{number:032x}"), kind=KeyKind.ACCESS_KEY, access_key_id="AKIAEXAMPLEEXAMPLE33",
        account_id=None, has_secret=True, severity=severity, first_seen=NOW, last_seen=NOW,
    )  # fmt: skip
    return finding, Match(blob="0" * 40, kind=KeyKind.ACCESS_KEY)


def test_the_health_page_tells_the_truth(tmp_path: Path) -> None:
    with Store(tmp_path / "x.db") as store:
        fill(store)
        times = [NOW]
        page = health.Health("127.0.0.1:0", lambda: health.snapshot(Store(tmp_path / "x.db"), times[0]))
        page.start()

        def get(path: str) -> tuple[int, str]:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{page.port}{path}", timeout=60) as answer:
                    return answer.status, answer.read().decode()
            except urllib.error.HTTPError as error:
                with error:
                    return error.code, error.read().decode()

        assert get("/healthz") == (200, "alive\n")
        assert get("/readyz")[0] == 200
        status, text = get("/metrics")
        assert status == 200
        for line in (
            'firedamp_feed_newest_record_age_seconds{feed="file:///x"} 3600.0',
            'firedamp_job_last_run{job="scan",outcome="failed"} 1.0',
            "firedamp_delivery_lag_seconds 300.0",
            'firedamp_scan_bytes_per_second{target="/r"} 2.0',
            'firedamp_findings{severity="critical",state="open",verification="UNCHECKED"} 2.0',
            'firedamp_findings{severity="unknown",state="open",verification="UNCHECKED"} 1.0',
        ):
            assert line in text
        times[0] = NOW + timedelta(minutes=5)
        assert get("/readyz")[0] == 503
        assert get("/other")[0] == 404
        page.stop()


def has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize(
    "listen", ["127.0.0.1:0", pytest.param("[::1]:0", marks=pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here"))]
)
def test_the_health_page_answers_no_page_of_the_web_and_says_what_it_cannot_listen_on(
    tmp_path: Path, listen: str
) -> None:
    page = health.Health(listen, lambda: health.snapshot(Store(tmp_path / "x.db"), NOW))
    page.start()
    place = listen.replace(":0", f":{page.port}")

    def get(host: str) -> int:
        request = urllib.request.Request(f"http://{place}/healthz", headers={"Host": host})
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code

    assert [get(host) for host in (place, "localhost", "[::1]:9187", "127.0.0.1")] == [200] * 4
    assert [get(host) for host in ("rebound.example", "rebound.example:9187", "127.0.0.1.example")] == [403] * 3
    with pytest.raises(Failure, match="cannot be listened on: Address already in use"):
        health.Health(place, lambda: health.snapshot(Store(tmp_path / "x.db"), NOW))
    page.stop()


def test_status_is_one_screen_and_exits_2_when_something_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    database = tmp_path / "x.db"
    assert cli.main(["status", "--db", str(database)]) == 2
    assert "nobody serves" in capsys.readouterr().out
    with Store(database) as store:
        fill(store)
    assert cli.main(["status", "--db", str(database)]) == 2
    shown = capsys.readouterr().out
    assert "scan: failed in 3 s" in shown
    assert "     3  findings open, UNCHECKED" in shown
    assert len(shown.splitlines()) < 24
    assert cli.main(["status", "--db", str(database), "--format", "jsonl"]) == 2
    assert json.loads(capsys.readouterr().out)["waiting"] == 1
    assert cli.main(["status", "--db", str(database), "--prune"]) == 0


def test_a_time_ahead_of_this_clock_is_said_to_be_so(tmp_path: Path) -> None:
    with Store(tmp_path / "x.db") as store:
        fill(store)
        shown = "\n".join(serving.status_lines(health.snapshot(store, NOW - timedelta(hours=5))))
    assert "host:1:start served this database; its last heartbeat is 5 h ahead of this clock" in shown
    assert "polled 5 h ahead of this clock, newest record 4 h ahead of this clock" in shown
    assert "scan: failed in 3 s, 5 h ahead of this clock: why" in shown
    assert serving.age(NOW, NOW, "ago") == "0 s ago"


def test_one_instance_holds_a_database_and_a_dead_one_loses_it() -> None:
    with Store(None) as store:
        assert store.claim("a", NOW, health.STALE) is None
        holder = store.claim("b", NOW + timedelta(seconds=30), health.STALE)
        assert holder is not None
        assert holder.owner == "a"
        assert store.claim("b", NOW + timedelta(minutes=2), health.STALE) is None
        assert not store.beat("a", NOW), "the one that was replaced learns it"
        assert store.beat("b", NOW)


def test_what_a_crash_cut_off_is_lost_and_old_history_is_pruned() -> None:
    with Store(None) as store:
        store.add_job_run(JobRun(job="a", started=NOW - timedelta(days=100), ended=NOW, outcome="ok"))
        store.add_job_run(JobRun(job="a", started=NOW))
        assert store.lose_running_jobs() == ["a"]
        assert store.prune_job_runs(NOW - timedelta(days=90)) == 1
        assert [run.outcome for run in store.job_runs()] == ["lost"]


def test_what_was_not_read_long_ago_is_forgotten(tmp_path: Path) -> None:
    database, now = tmp_path / "x.db", datetime.now(UTC)
    with Store(database) as store:
        for days in (1, 100):
            told = Skipped(outcome=Outcome.FAILED, what="x", why=f"refused {days} days ago, request 0123")
            store.record_page(PageRead(feed="f", skipped=(told,)), lambda *_: [], now - timedelta(days=days))
        cli.main(["status", "--prune", "--db", str(database)])
        assert [each.why for each in store.troubles()] == ["refused 1 days ago, request 0123"]


def test_systemd_is_told_when_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    serving._notify("READY=1")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        serving._notify("READY=1")
        assert listener.recv(100) == b"READY=1"
    serving._notify("WATCHDOG=1")


def test_serve_needs_a_configuration_and_alerts_need_channels(tmp_path: Path) -> None:
    assert cli.main(["serve"]) == 2
    assert cli.main(["alert", "test"]) == 2
    config = tmp_path / "c.toml"
    config.write_text('[[channel]]\nname = "out"\nurl = "env:OUT"\n[[channel]]\nname = "bad"\nurl = "env:NOT_SET"\n')
    assert cli.main(["alert", "test", "--config", str(config), "--offline"]) == 2


def test_alert_test_tries_every_channel_and_deliver_empties_the_outbox(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "c.toml"
    config.write_text('[[channel]]\nname = "out"\nurl = "env:OUT"\n')
    monkeypatch.setenv("OUT", "stdout://")
    assert cli.main(["alert", "test", "--config", str(config)]) == 0
    assert "This is a test" in capsys.readouterr().out
    with Store(Path.home() / "firedamp.db") as store:
        store.add_alert(Alert(key="x", kind=AlertKind.BLIND, severity=Severity.HIGH, at=NOW))
    assert cli.main(["alert", "deliver", "--config", str(config)]) == 0
    assert "The watch is blind" in capsys.readouterr().out
    assert cli.main(["alert", "deliver", "--config", str(config)]) == 0
    assert capsys.readouterr().out == ""
    config.write_text('[[channel]]\nname = "bad"\nurl = "env:NOT_SET"\n')
    assert cli.main(["alert", "test", "--config", str(config)]) == 2
    assert "NOT_SET" in capsys.readouterr().err


def test_the_defaults_serve_on_loopback() -> None:
    assert ServeConfig().listen.startswith("127.0.0.1:")
    assert schedule.GRACE < 10
