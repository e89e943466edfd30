"""The jobs of `serve`: what runs when, one at a time each, with a history. The only import of apscheduler.

A job is a command of our own, run as a process: it has its own memory, can be stopped when its time is over, and a
crash of it is a line in the history. What every command reads is committed in steps, so a stopped one loses nothing.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Final

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.interval import IntervalTrigger

from firedamp.service import clock
from firedamp.service.config import Config, JobConfig
from firedamp.service.ourselves import COMMAND, MARK
from firedamp.storage.records import Alert, AlertKind, JobRun, Severity
from firedamp.storage.store import Store

_log = logging.getLogger("firedamp.serve")

GRACE: Final = 8.0
"""Seconds that a job has to end after SIGTERM, before it is killed: serve itself has 10."""
_ALARM_AFTER: Final = 3
"""Runs in a row that must fail before a person is told."""
_DETAIL: Final = 2_000
_TOLERANCE: Final = timedelta(seconds=1)
_BAD: Final = ("ok", "incomplete", "failed")
"""How a command may end, the worst last."""
_ALARMING: Final = frozenset({"watch", "deliver", "nets"})
"""Kinds of jobs that an alarm waits for: they have places of their own, as scans may take all others for hours."""
_URGENT: Final = "urgent"
_ASKING: Final = frozenset({"verify", "nets", "drill", "deliver"})
"""Kinds of jobs that do nothing but ask AWS, or tell a channel."""

DEFAULT_JOBS: Final = (
    JobConfig(name="watch", kind="watch", every=timedelta(minutes=1), timeout=timedelta(minutes=10)),
    JobConfig(name="deliver", kind="deliver", every=timedelta(seconds=30), timeout=timedelta(minutes=5)),
    JobConfig(name="nets", kind="nets", every=timedelta(minutes=5), jitter=timedelta(seconds=30)),
    JobConfig(name="check", kind="check", every=timedelta(hours=1), jitter=timedelta(minutes=5)),
    JobConfig(name="verify", kind="verify", every=timedelta(hours=1), jitter=timedelta(minutes=5)),
    JobConfig(name="prune", kind="prune", every=timedelta(days=1)),
)
"""What runs when the configuration names no job of that kind."""


def jobs_of(config: Config, *, offline: bool = False) -> tuple[JobConfig, ...]:
    """Return the configured jobs, and the default one of each kind that has none. offline: without those that ask."""
    kinds = {job.kind for job in config.job}
    defaults = [job for job in DEFAULT_JOBS if job.kind not in kinds]
    if not config.watch.feeds:
        defaults = [job for job in defaults if job.kind not in {"watch", "nets"}]
    if not config.channel:
        defaults = [job for job in defaults if job.kind != "deliver"]
    if not config.verify.enabled:
        defaults = [job for job in defaults if job.kind != "verify"]
    return tuple(job for job in (*config.job, *defaults) if not (offline and job.kind in _ASKING))


def command(job: JobConfig, config: Config, *, offline: bool = False) -> list[list[str]]:
    """Return the commands that a job runs, one after the other, less the common options. offline: no alert is sent."""
    match job.kind:
        case "scan":
            orgs = [each for org in job.orgs for each in ("--org", org)]
            return [["scan", *job.targets, *orgs, "--nice"]]
        case "verify":
            return [["verify"]]
        case "watch":
            feeds = job.feeds or config.watch.feeds
            # As a table an incident is two lines; as JSON it is every call of it, each minute, for nobody.
            watch = ["watch", "--once", "--format", "table", *(each for feed in feeds for each in ("--feed", feed))]
            return [watch, ["alert", "deliver"]] if config.channel and not offline else [watch]
        case "deliver":
            return [["alert", "deliver"]]
        case "nets":
            return [["canary", "nets"]]
        case "check":
            return [["canary", "check"]]
        case "drill":
            return [["canary", "drill"]]
        case _:
            return [["status", "--prune"]]


def niceness(job: JobConfig) -> int:
    """Return how far a job stands back for others: all do, but those that an alarm waits for. A scan goes further."""
    return 0 if job.kind in {"watch", "deliver"} else 10


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run of a job ended."""

    outcome: str
    detail: str


class Runner:
    """Runs a job's commands as processes, and can stop them."""

    def __init__(
        self, database: Path, config: Path | None, *, offline: bool = False, processes: int | None = None
    ) -> None:
        self._common = ["--db", str(database), "--quiet"]
        if config is not None:
            self._common += ["--config", str(config)]
        if offline:
            self._common.append("--offline")
        if processes is not None:
            self._common += ["--jobs", str(processes)]
        self._running: dict[int, subprocess.Popen[bytes]] = {}
        self._lock = threading.Lock()
        self._stopping = threading.Event()

    def run(self, commands: Sequence[Sequence[str]], timeout: timedelta, niceness: int = 0) -> Ended:
        """Run the commands one after the other; the worst of them counts.

        0 and 1 are a run that worked, 2 one that was incomplete: of a process that says that it came to its end.
        """
        worst = Ended("ok", "")
        for each in commands:
            with _mark() as ends:
                ended = self._one(each, timeout, niceness, ends)
            if ended.outcome in {"timeout", "stopped"}:
                return ended
            worst = max(worst, ended, key=lambda each: _BAD.index(each.outcome))
        return worst

    def _one(
        self, command: Sequence[str], timeout: timedelta, niceness: int, ends: tuple[IO[bytes], IO[bytes]]
    ) -> Ended:
        mark, pen = ends
        form = [] if "--format" in command else ["--format", "jsonl"]
        with self._lock:
            if self._stopping.is_set():
                return Ended("stopped", "")
            process = subprocess.Popen(
                [*COMMAND, *command, *self._common, *form], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE,
                # Alerts go to ours, where it is a channel (stdout://).
                stdout=None if command[:1] == ["alert"] else subprocess.DEVNULL, start_new_session=True,
                pass_fds=(pen.fileno(),), env={**os.environ, MARK: str(pen.fileno())},
            )  # fmt: skip
            self._running[process.pid] = process
        if niceness and hasattr(os, "setpriority"):
            with contextlib.suppress(OSError):  # it has ended
                os.setpriority(os.PRIO_PROCESS, process.pid, niceness)
        try:
            _, errors = process.communicate(timeout=timeout.total_seconds())
        except subprocess.TimeoutExpired:
            end(process, GRACE)
            with contextlib.suppress(subprocess.TimeoutExpired):  # what it left behind may hold its standard error
                process.communicate(timeout=GRACE)
            return Ended("timeout", f"stopped after {timeout}")
        finally:
            assert process.stderr is not None  # noqa: S101 - it is a pipe
            process.stderr.close()
            with self._lock:
                self._running.pop(process.pid, None)
        words = errors.decode("utf-8", "replace").strip()[-_DETAIL:]
        if self._stopping.is_set():
            return Ended("stopped", words)
        match process.returncode:
            case 0 | 1 | 2 as code if mark.read(1):
                return Ended("incomplete" if code == 2 else "ok", words)
            case code:
                return Ended("failed", words or f"ended with {code}")

    def stop(self) -> None:
        """Ask every running job to end, and kill what has not ended within the grace."""
        with self._lock:
            self._stopping.set()
            running = list(self._running.values())
        for process in running:
            _signal(process, signal.SIGTERM)
        for process in running:
            end(process, GRACE)


@contextlib.contextmanager
def _mark() -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    """Make a pipe for the mark of a process: read without waiting, for what it left behind may hold the other end."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    with open(reader, "rb", buffering=0) as mark, open(writer, "wb", buffering=0) as pen:  # noqa: PTH123 - descriptors
        yield mark, pen


def end(process: subprocess.Popen[bytes], grace: float) -> None:
    """End a process and its children: ask, wait, kill."""
    _signal(process, signal.SIGTERM)
    try:
        process.wait(grace)
    except subprocess.TimeoutExpired:
        _signal(process, signal.SIGKILL)
        process.wait()


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


class Schedule:
    """Jobs on their times. No job overlaps itself; one that was missed while we slept runs once when we wake."""

    def __init__(
        self,
        runner: Callable[[JobConfig], Ended],
        open_store: Callable[[], Store],
        workers: int,
        now: Callable[[], datetime] = clock.now,
    ) -> None:
        self._run, self._open, self._now = runner, open_store, now
        self._jobs: dict[str, JobConfig] = {}
        self._scheduler = BackgroundScheduler(
            timezone=UTC,
            executors={"default": ThreadPoolExecutor(workers), _URGENT: ThreadPoolExecutor(len(_ALARMING))},
            # Missed runs become one, however late: a laptop that was closed for a week does not scan seven times.
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
        )

    def start(self) -> None:
        """Start the clock."""
        self._scheduler.start()

    def stop(self) -> None:
        """Stop the clock; jobs that run are the runner's to end."""
        self._scheduler.shutdown(wait=True)

    def set(self, jobs: Sequence[JobConfig], last: Mapping[str, datetime]) -> None:
        """Replace the jobs. An unchanged one keeps its next time; last says when each ran, before we started."""
        wanted = {job.name: job for job in jobs}
        for name in set(self._jobs) - set(wanted):
            self._scheduler.remove_job(name)
        for name, job in wanted.items():
            if self._jobs.get(name) == job:
                continue
            self._scheduler.add_job(
                self._once, trigger(job), args=[job], id=name, name=name, replace_existing=True,
                executor=_URGENT if job.kind in _ALARMING else "default",
                next_run_time=first_run(job, last.get(name), self._now()),
            )  # fmt: skip
        self._jobs = wanted

    def keep_time(self) -> None:
        """Bring forward what a clock that has been set back since has put off: by its time each next run was planned.

        A machine whose clock was a day ahead when it started would not watch for a day.
        """
        now = self._now()
        for name, job in self._jobs.items():
            planned = self._scheduler.get_job(name)
            due = now if job.every is not None else trigger(job).get_next_fire_time(None, now)
            if planned is None or due is None:  # a day that no month has
                continue
            latest = due + (job.every or timedelta()) + 2 * job.jitter + _TOLERANCE
            if planned.next_run_time > latest:
                _log.warning("job %s was planned for %s by a clock that was ahead", name, planned.next_run_time)
                planned.modify(next_run_time=due)

    def _once(self, job: JobConfig) -> None:
        with self._open() as store:
            number = store.add_job_run(JobRun(job=job.name, started=self._now()))
            try:
                ended = self._run(job)
            except Exception as error:  # noqa: BLE001 - a job that breaks must not stop the others, and is told
                _log.exception("job %s broke", job.name)
                ended = Ended("failed", f"{type(error).__name__}: {error}")
            store.end_job_run(number, self._now(), ended.outcome, ended.detail)
            _log.info("job %s: %s %s", job.name, ended.outcome, ended.detail.partition("\n")[0])
            self._tell(store, job)

    def _tell(self, store: Store, job: JobConfig) -> None:
        """Alert when a job has failed several times in a row: once, until it works again."""
        runs = store.job_runs(job.name, limit=_ALARM_AFTER + 1)
        bad = [run for run in runs if run.outcome in {"failed", "timeout"}]
        if len(bad) < _ALARM_AFTER or bad != runs[:_ALARM_AFTER]:
            return
        first = bad[-1].started
        store.add_alert(
            Alert(
                key=f"job/{job.name}/{first.isoformat()}", kind=AlertKind.JOB, severity=Severity.HIGH, at=self._now(),
                facts=(("job", job.name), ("outcome", bad[0].outcome), ("why", bad[0].detail[:300])),
            )
        )  # fmt: skip


def trigger(job: JobConfig) -> BaseTrigger:
    """Return when a job runs."""
    jitter = int(job.jitter.total_seconds()) or None
    if job.cron is not None:
        made: BaseTrigger = CronTrigger.from_crontab(job.cron, timezone=UTC)
        made.jitter = jitter
        return made
    assert job.every is not None  # noqa: S101 - the configuration was checked: one of the two is given
    return IntervalTrigger(seconds=job.every.total_seconds(), timezone=UTC, jitter=jitter)


def first_run(job: JobConfig, last: datetime | None, now: datetime) -> datetime:
    """Return when a job runs first: at once if it is overdue or has never run by interval, else when it is next due."""
    if last is not None and last > now:  # written by a clock that was ahead: it may be overdue by now
        last = None if job.every is not None else now
    if job.cron is not None:
        planned = trigger(job).get_next_fire_time(None, now if last is None else last)
        return now if planned is None else max(now, planned)
    spread = timedelta(seconds=random.uniform(0, job.jitter.total_seconds()))  # noqa: S311 - it spreads load
    if last is None or job.every is None:
        return now + spread
    return max(now, last + job.every) + spread
