"""The rows of the service: job history, drills, and what was done to keys."""

from __future__ import annotations

from firedamp.storage.records import JobRun, KeyAction
from firedamp.storage.rows import Rows, maybe_time, text, time
from firedamp.storage.times import rfc3339


class JobRows(Rows):
    """What the service did, and when."""

    def add_job_run(self, run: JobRun) -> None:
        """Remember one run of a job."""
        with self._writing():
            self._db.execute(
                "INSERT INTO job_run (job, started, ended, outcome, detail) VALUES (?, ?, ?, ?, ?)",
                (run.job, rfc3339(run.started), None if run.ended is None else rfc3339(run.ended), run.outcome,
                 run.detail),
            )  # fmt: skip

    def job_runs(self, job: str | None = None, limit: int = 100) -> list[JobRun]:
        """Return the last runs, of one job when given, newest first."""
        rows = self._all(
            """SELECT job, started, ended, outcome, detail FROM job_run
            WHERE ?1 IS NULL OR job = ?1 ORDER BY id DESC LIMIT ?2""",
            (job, limit),
        )
        return [
            JobRun(job=text(r[0]), started=time(r[1]), ended=maybe_time(r[2]), outcome=text(r[3]), detail=text(r[4]))
            for r in rows
        ]

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
