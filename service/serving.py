"""`serve` and `status`: everything on a schedule, one instance a database, until told to stop."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import sys
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from firedamp.service import clock, health, liveness, show
from firedamp.service.config import Config, JobConfig, load
from firedamp.service.options import Common, Format
from firedamp.service.schedule import Runner, Schedule, command, jobs_of, niceness
from firedamp.storage.errors import Failure, StoreFailure, UsageFailure
from firedamp.storage.records import Heard, Instance, JobRun
from firedamp.storage.store import Store
from firedamp.storage.times import rfc3339

_log = logging.getLogger("firedamp.serve")
_NET_CALLS: Final = timedelta(days=90)
"""As long as CloudTrail's event history may show their records again."""
_NET_RECORDS: Final = timedelta(days=7)
_TROUBLES: Final = 5
"""Reasons of one feed that a screen shows."""
BEAT: Final = 10.0
"""Seconds between heartbeats."""
_LOOK: Final = 0.5
"""Seconds between looks at another instance's heartbeat."""


def serve(common: Common) -> int:
    """Run the jobs until SIGTERM or SIGINT; SIGHUP reads the configuration again."""
    if common.config is None:
        raise UsageFailure("serve needs --config FILE", "firedamp config example prints one")
    config = load(common.config, whole=True)
    _start_log(config.serve.log)
    service = Service(common.config, config, common.database(), offline=common.offline, processes=common.jobs)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: service.stop())
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, lambda *_: service.reload())
    return service.run()


class Service:
    """One instance: the lock, the schedule, the heartbeat and the health page."""

    def __init__(
        self, path: Path, config: Config, database: Path, now: Callable[[], datetime] = clock.now, *,
        offline: bool = False, processes: int | None = None,
    ) -> None:  # fmt: skip
        """Make an instance. offline: its jobs contact nobody. processes: those of one job that read at once."""
        self._path, self._config, self._database, self._now = path, config, database, now
        self._offline, self._processes = offline, processes
        self._owner = f"{socket.gethostname()}:{os.getpid()}:{rfc3339(now())}"
        self._wake = threading.Event()
        self._stopping = False
        self._reloading = False
        self.port = 0
        """Where the health page answers, once it does."""

    def stop(self) -> None:
        """Ask it to end. Safe in a signal handler."""
        self._stopping = True
        self._wake.set()

    def reload(self) -> None:
        """Ask it to read its configuration again. Safe in a signal handler."""
        self._reloading = True
        self._wake.set()

    def run(self) -> int:
        """Serve until stopped."""
        with Store(self._database) as store:
            if self._claim(store):
                try:
                    self._serve(store)
                finally:
                    store.release(self._owner)
        return 0

    def _claim(self, store: Store) -> bool:
        """Become the one instance; False when told to stop before. One that may be dead is waited for, no longer.

        Raises Failure when another one lives: its process does, or it renews its heartbeat.
        """
        process, gone = liveness.name(os.getpid()), ""
        first: Instance | None = None
        while not self._stopping:
            holder = store.claim(self._owner, self._now(), health.STALE, process=process, gone=gone)
            if holder is None:
                return True
            lives = liveness.lives(holder.process)
            if lives is False:
                _log.warning("%s is gone: its place is taken", holder.owner)
                gone = holder.owner
                continue
            if lives or (first is not None and (first.owner, first.heartbeat) != (holder.owner, holder.heartbeat)):
                raise Failure(
                    f"{self._database} is served by {holder.owner} since {rfc3339(holder.started)}",
                    f"its heartbeat is {age(self._now(), holder.heartbeat, 'old')}; "
                    "stop that one, or name another database with --db",
                )
            if first is None:
                left = max(0, int((holder.heartbeat + health.STALE - self._now()).total_seconds()))
                _log.warning(
                    "%s serves %s, or served it and was killed: waiting %d s for its next heartbeat", holder.owner,
                    self._database, left,
                )  # fmt: skip
                first = holder
            self._wake.wait(_LOOK)
            self._wake.clear()
        return False

    def _serve(self, store: Store) -> None:
        for job in store.lose_running_jobs():
            _log.warning("job %s was cut off when the service ended last; it runs again", job)
        runner = Runner(self._database, self._path, offline=self._offline, processes=self._processes)
        schedule = Schedule(
            lambda job: runner.run(
                command(job, self._config, offline=self._offline), job.timeout, niceness(job)
            ),
            lambda: Store(self._database), self._config.serve.workers,
        )  # fmt: skip
        last = {run.job: run.started for run in store.last_runs()}
        jobs = self._jobs()
        _say_missed(jobs, last, self._now())
        schedule.set(jobs, last)
        page = health.Health(self._config.serve.listen, self._snapshot)
        self.port = page.port
        page.start()
        schedule.start()
        _notify("READY=1")
        _log.info("serving %s with %d jobs", self._database, len(jobs))
        try:
            while not self._stopping:
                self._wake.wait(BEAT)
                self._wake.clear()
                if self._reloading:
                    self._reloading = False
                    self._reload(schedule)
                if not self._beat(store):
                    _log.error("another instance has taken this database; ending")
                    return
                schedule.keep_time()
        finally:
            _notify("STOPPING=1")
            runner.stop()
            schedule.stop()
            page.stop()

    def _jobs(self) -> tuple[JobConfig, ...]:
        """Return what runs, and say what is configured and does not."""
        jobs = jobs_of(self._config, offline=self._offline)
        for each in self._config.job:
            if each not in jobs:
                _log.warning("job %s is left out: it asks AWS or a channel, and --offline contacts nobody", each.name)
        return jobs

    def _beat(self, store: Store) -> bool:
        """Renew the heartbeat. A database that is locked or a disk that is full now may be free in a minute."""
        try:
            held = store.beat(self._owner, self._now())
        except StoreFailure as failure:
            _log.error("the heartbeat cannot be written and is tried again: %s", failure)
            return True
        _notify("WATCHDOG=1")
        return held

    def _reload(self, schedule: Schedule) -> None:
        try:
            config = load(self._path, whole=True)
        except Failure as failure:
            _log.error("the configuration is not read again, the old one stays: %s", failure)
            return
        self._config = config
        jobs = self._jobs()
        schedule.set(jobs, {})
        _log.info("the configuration was read again: %d jobs", len(jobs))

    def _snapshot(self) -> health.Snapshot:
        with Store(self._database) as store:
            return health.snapshot(store, self._now())


def _say_missed(jobs: Sequence[JobConfig], last: dict[str, datetime], now: datetime) -> None:
    for job in jobs:
        if job.every is not None and job.name in last and now - last[job.name] > 2 * job.every:
            _log.warning("job %s last ran at %s: it was missed meanwhile and runs now", job.name, last[job.name])


def _notify(state: str) -> None:
    """Tell systemd (sd_notify(3)): readiness, and that we live. Nothing where there is none."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notifier:
        try:
            notifier.connect("\0" + address[1:] if address.startswith("@") else address)
            notifier.send(state.encode())
        except OSError as error:
            _log.warning("systemd cannot be told %s: %s", state, error)


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {"at": rfc3339(datetime.fromtimestamp(record.created, UTC)), "level": record.levelname.lower()}
        line |= {"logger": record.name, "message": record.getMessage()}
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(line)


def _start_log(form: str) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        _JsonLines() if form == "json" else logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    )
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.getLogger("apscheduler").setLevel(logging.WARNING)


def status(common: Common, prune: bool) -> int:
    """Print what the service does, in one screen; return 2 when nobody serves or a job's last run failed."""
    common.must_be(Format.TABLE, Format.JSON, Format.JSONL)
    now = clock.now()
    with common.open_store() as store:
        if prune:
            old = now - common.settings().serve.keep
            removed = store.prune_job_runs(old)
            store.forget_troubles(old)
            store.forget_net_calls(now - _NET_CALLS, now - _NET_RECORDS)
            common.say(f"{removed} runs forgotten")
            return 0
        state = health.snapshot(store, now)
    bad = [run for run in state.runs if run.outcome in {"failed", "timeout", "incomplete"}]
    with common.out() as out:
        if common.format is Format.TABLE:
            out.write("\n".join(status_lines(state)) + "\n")
        else:
            show.json_lines([_line(state)], out.write)
    return 2 if bad or not state.alive else 0


def _line(state: health.Snapshot) -> dict[str, show.Json]:
    runs: list[show.Json] = [
        {"job": run.job, "started": rfc3339(run.started), "outcome": run.outcome, "detail": run.detail}
        for run in state.runs
    ]
    return {
        "serving": state.alive,
        "instance": None if state.instance is None else state.instance.owner,
        "jobs": runs,
        "findings": [[triage, verification, count] for (triage, verification), count in _found(state)],
        "incidents": dict(state.counts.incidents),
        "watched": dict(state.counts.watched),
        "waiting": state.counts.waiting,
        "not_read": [
            {
                "feed": each.feed,
                "outcome": each.outcome,
                "why": each.why,
                "count": each.count,
                "last": each.what,
                "at": rfc3339(each.last),
            }
            for each in state.troubles
        ],
    }


def status_lines(state: health.Snapshot) -> list[str]:
    """Return the state of the service for a person."""
    lines = [_who(state), ""]
    lines += [f"{count:6}  findings {triage}, {said}" for (triage, said), count in _found(state)]
    lines += [f"{count:6}  incidents {name}" for name, count in state.counts.incidents]
    lines += [f"{count:6}  watched keys {name}" for name, count in state.counts.watched]
    oldest = f", the oldest for {_short(state.counts.lag.seconds)}" if state.counts.waiting else ""
    lines.append(f"{state.counts.waiting:6}  deliveries waiting{oldest}")
    for mark in state.feeds:
        newest = "none yet" if mark.newest is None else age(state.at, mark.newest, "old")
        newest += regions(state.heard, mark.feed, state.at)
        polled = "never polled to its end" if mark.polled is None else f"polled {age(state.at, mark.polled, 'ago')}"
        lines.append(f"feed    {show.safe(mark.feed)}: {polled}, newest record {newest}")
        lines += _not_read(state, mark.feed)
    lines += [f"job     {_run(state.at, run)}" for run in state.runs]
    return lines


def _not_read(state: health.Snapshot, feed: str) -> list[str]:
    """Say what a feed brought that was not read, the latest first."""
    troubles = sorted((each for each in state.troubles if each.feed == feed), key=lambda each: each.last, reverse=True)
    lines = [
        f"        {each.count} {each.outcome}, last {age(state.at, each.last, 'ago')}: "
        f"{show.safe(each.why)} ({show.safe(each.what)})"
        for each in troubles[:_TROUBLES]
    ]
    more = len(troubles) - len(lines)
    return lines + ([f"        and {more} other reasons: status --format jsonl"] if more > 0 else [])


def _found(state: health.Snapshot) -> list[tuple[tuple[str, str], int]]:
    """Return how many findings there are of each state and verification, whatever their severity."""
    found = Counter[tuple[str, str]]()
    for triage, said, _, count in state.counts.findings:
        found[triage, said] += count
    return list(found.items())


def _who(state: health.Snapshot) -> str:
    if state.instance is None:
        return "nobody serves this database"
    if not state.alive:
        old = age(state.at, state.instance.heartbeat, "old")
        return f"{state.instance.owner} served this database; its last heartbeat is {old}"
    return f"{state.instance.owner} serves this database since {rfc3339(state.instance.started)}"


def _run(at: datetime, run: JobRun) -> str:
    took = "" if run.ended is None else f" in {_short(int((run.ended - run.started).total_seconds()))}"
    why = f": {show.safe(run.detail.partition(chr(10))[0])}" if run.detail and run.outcome != "ok" else ""
    return f"{run.job}: {run.outcome}{took}, {age(at, run.started, 'ago')}{why}"


def regions(heard: Sequence[Heard], feed: str, at: datetime) -> str:
    """Say how old the newest record of each region is, the oldest first, in parentheses; nothing of one region."""
    ages = [f"{each.region} {age(at, each.newest)}" for each in sorted(heard, key=lambda each: each.newest)
            if each.feed == feed]  # fmt: skip
    return f" ({', '.join(ages)})" if len(ages) > 1 else ""


def age(at: datetime, time: datetime, word: str = "") -> str:
    """Say how long ago a time was, in the largest unit that says something, with a word behind it (`ago`, `old`)."""
    seconds = int((at - time).total_seconds())
    return f"{_short(-seconds)} ahead of this clock" if seconds < 0 else f"{_short(seconds)} {word}".rstrip()


def _short(seconds: int) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
