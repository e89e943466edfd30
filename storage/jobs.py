"""The rows of the service: the instance that serves, job history, and what was done to keys."""

from __future__ import annotations

from datetime import datetime, timedelta

from firedamp.storage.records import Counts, Instance, JobRun, KeyAction, Severity
from firedamp.storage.rows import Row, Rows, maybe_time, number, text, time
from firedamp.storage.times import maybe_rfc3339, rfc3339


class JobRows(Rows):
    """What the service did, and when."""

    def add_job_run(self, run: JobRun) -> int:
        """Remember one run of a job; return its number."""
        with self._writing():
            cursor = self._db.execute(
                "INSERT INTO job_run (job, started, ended, outcome, detail) VALUES (?, ?, ?, ?, ?)",
                (run.job, rfc3339(run.started), maybe_rfc3339(run.ended), run.outcome,
                 run.detail),
            )  # fmt: skip
            return int(cursor.lastrowid or 0)

    def end_job_run(self, run: int, ended: datetime, outcome: str, detail: str) -> None:
        """Remember how a run ended."""
        with self._writing():
            self._db.execute(
                "UPDATE job_run SET ended = ?, outcome = ?, detail = ? WHERE id = ?",
                (rfc3339(ended), outcome, detail, run),
            )

    def lose_running_jobs(self) -> list[str]:
        """Mark the runs that a crash cut off as lost; return their jobs. For the one instance, when it starts."""
        with self._writing():
            rows = self._all("SELECT job FROM job_run WHERE outcome = 'running' ORDER BY id")
            self._db.execute("UPDATE job_run SET outcome = 'lost' WHERE outcome = 'running'")
        return [text(row[0]) for row in rows]

    def last_runs(self) -> list[JobRun]:
        """Return the newest run of each job."""
        rows = self._all(
            """SELECT job, started, ended, outcome, detail FROM job_run
            WHERE id IN (SELECT max(id) FROM job_run GROUP BY job) ORDER BY job"""
        )
        return [_run(row) for row in rows]

    def prune_job_runs(self, before: datetime) -> int:
        """Forget runs that started before a time, but never the newest of a job; return how many."""
        with self._writing():
            cursor = self._db.execute(
                "DELETE FROM job_run WHERE started < ? AND id NOT IN (SELECT max(id) FROM job_run GROUP BY job)",
                (rfc3339(before),),
            )
        return cursor.rowcount

    def claim(
        self, owner: str, now: datetime, stale: timedelta, *, process: str = "", gone: str = ""
    ) -> Instance | None:
        """Become the one instance that serves this database, or return who is.

        An owner whose heartbeat is older than stale is gone: its place is taken. So is one from the future: its clock
        was wrong when it wrote that, and it would have written again by now. gone is an owner that is known to be dead.
        """
        with self._writing():
            holder = self.instance()
            if holder is not None and holder.owner not in {owner, gone} and abs(now - holder.heartbeat) < stale:
                return holder
            self._db.execute(
                "INSERT OR REPLACE INTO instance VALUES (1, ?, ?, ?, ?)", (owner, rfc3339(now), rfc3339(now), process)
            )
        return None

    def beat(self, owner: str, now: datetime) -> bool:
        """Renew the heartbeat; False when another instance has taken the place."""
        with self._writing():
            cursor = self._db.execute("UPDATE instance SET heartbeat = ? WHERE owner = ?", (rfc3339(now), owner))
        return cursor.rowcount == 1

    def release(self, owner: str) -> None:
        """Leave the place to the next instance."""
        with self._writing():
            self._db.execute("DELETE FROM instance WHERE owner = ?", (owner,))

    def instance(self) -> Instance | None:
        """Return who serves this database, or served it last without leaving."""
        row = self._one("SELECT owner, started, heartbeat, process FROM instance")
        if row is None:
            return None
        return Instance(owner=text(row[0]), started=time(row[1]), heartbeat=time(row[2]), process=text(row[3]))

    def counts(self, now: datetime) -> Counts:
        """Return the numbers that status and metrics show."""
        findings = self._all(
            """SELECT state, status, severity, count(*) FROM finding WHERE example = 0
            GROUP BY 1, 2, 3 ORDER BY 1, 2, 3 DESC"""
        )
        incidents = self._all("SELECT state, count(*) FROM incident GROUP BY 1 ORDER BY 1")
        watched = self._all(
            "SELECT CASE canary WHEN 1 THEN state ELSE 'real' END, count(*) FROM watched_key GROUP BY 1"
        )
        waiting = self._one("SELECT count(*), min(at) FROM delivery JOIN alert ON id = alert WHERE state = 'waiting'")
        count, oldest = waiting or (0, None)
        return Counts(
            findings=tuple(
                (
                    text(r[0]),
                    text(r[1]),
                    "unknown" if r[2] is None else Severity(number(r[2])).name.lower(),
                    number(r[3]),
                )
                for r in findings
            ),
            incidents=tuple((text(r[0]), number(r[1])) for r in incidents),
            watched=tuple((text(r[0]), number(r[1])) for r in watched),
            waiting=number(count),
            lag=timedelta(0) if oldest is None else max(timedelta(0), now - time(oldest)),
        )

    def job_runs(self, job: str | None = None, limit: int = 100) -> list[JobRun]:
        """Return the last runs, of one job when given, newest first."""
        rows = self._all(
            """SELECT job, started, ended, outcome, detail FROM job_run
            WHERE :job IS NULL OR job = :job ORDER BY id DESC LIMIT :most""",
            {"job": job, "most": limit},
        )
        return [_run(row) for row in rows]

    def add_key_action(self, action: KeyAction) -> None:
        """Remember one step of what was done to a key."""
        with self._writing():
            self._db.execute(
                "INSERT INTO key_action (key_id, action, step, at, outcome, detail) VALUES (?, ?, ?, ?, ?, ?)",
                (action.key_id, action.action, action.step, rfc3339(action.at), action.outcome, action.detail),
            )

    def key_actions(self, key_id: str) -> list[KeyAction]:
        """Return what was done to a key, oldest first."""
        rows = self._all(
            "SELECT key_id, action, step, at, outcome, detail FROM key_action WHERE key_id = ? ORDER BY id", (key_id,)
        )
        return [
            KeyAction(
                key_id=text(r[0]),
                action=text(r[1]),
                step=text(r[2]),
                at=time(r[3]),
                outcome=text(r[4]),
                detail=text(r[5]),
            )
            for r in rows
        ]


def _run(row: Row) -> JobRun:
    return JobRun(
        job=text(row[0]), started=time(row[1]), ended=maybe_time(row[2]), outcome=text(row[3]), detail=text(row[4])
    )
