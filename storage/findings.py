"""The rows of the scanner: findings, matches, provenance, what was read, scan runs, what AWS said."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Final

from firedamp.storage.outbox import insert_alert
from firedamp.storage.records import (
    Alert,
    Batch,
    FileProvenance,
    Finding,
    GitProvenance,
    KeyKind,
    Match,
    Met,
    Provenance,
    ScanRun,
    SeenObjects,
    Severity,
    Sight,
    Skipped,
    SourceState,
    Status,
    Tally,
    TriageState,
    Verification,
)
from firedamp.storage.rows import (
    Row,
    Rows,
    Value,
    chunks,
    listed,
    maybe_text,
    maybe_time,
    number,
    placeholders,
    text,
    time,
)
from firedamp.storage.secret import Fingerprint
from firedamp.storage.times import maybe_rfc3339, rfc3339

_FINDING = """fingerprint, kind, access_key_id, account_id, has_secret, has_token, rank, example, canary, expires,
    notes, status, verified_at, arn, verified_account, user_id, detail, partitions, state, state_reason, severity,
    rights, first_seen, last_seen"""

_KEPT: Final = timedelta(days=180)
"""How long it counts what an object folder claimed and what a source remembers, and how long scans are listed."""
_SMALL: Final = 1 << 20
"""Bytes. Smaller segments of seen ids are joined when there are more of them than the next figure."""
_SEGMENTS: Final = 512
_JOINED: Final = 64
"""Segments that are joined at a time."""


class FindingRows(Rows):
    """Findings and everything known about them."""

    def record(self, batch: Batch) -> None:
        """Commit one step of a scan: findings, matches, provenance, what was read, and alerts. Repeats are harmless."""
        at, version = rfc3339(batch.at), _version(batch.detector)
        with self._writing():
            for finding, match in batch.found:
                self._upsert_finding(finding)
                self._db.execute(
                    """INSERT INTO match (fingerprint, blob, line, col, decoder, container, kind, secret_here,
                        first_seen, allowed, version) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
                    ON CONFLICT DO UPDATE SET secret_here = max(secret_here, excluded.secret_here),
                        allowed = excluded.allowed, version = excluded.version""",
                    (
                        finding.fingerprint,
                        match.blob,
                        match.line or 0,
                        match.column or 0,
                        match.decoder,
                        match.container,
                        match.kind,
                        match.secret_here,
                        at,
                        match.allowed,
                        "" if match.blob in batch.unread else version,
                    ),
                )
            for met in batch.gone:
                source, blob, repository, path, commit = _place(met)
                self._db.execute(
                    """DELETE FROM provenance
                    WHERE blob = ? AND source = ? AND repository = ? AND path = ? AND commit_id = ?""",
                    (blob, source, repository, path, commit),
                )
            for met in batch.met:
                self._upsert_provenance(met, at)
            for seen in batch.seen:
                if seen.ids:
                    self._insert_seen(batch.detector, seen, at)
            for state in batch.states:
                self._db.execute(
                    "INSERT OR REPLACE INTO source_state (target, detector, value, at) VALUES (?, ?, ?, ?)",
                    (state.target, state.detector, state.value, at),
                )
            self._drop_matches(batch.read, version)
            for alert in batch.alerts:
                insert_alert(self._db, alert)

    def _drop_matches(self, blobs: Iterable[str], version: str) -> None:
        """Drop what only others found in these blobs, and where the blobs were met if nothing is left in them."""
        for chunk in chunks(blobs):
            dropped = self._all(
                f"DELETE FROM match WHERE blob IN ({placeholders(len(chunk))}) AND version <> ? RETURNING blob",
                (*chunk, version),
            )
            for blob in {row[0] for row in dropped}:
                self._db.execute(
                    "DELETE FROM provenance WHERE blob = :blob AND NOT EXISTS (SELECT 1 FROM match WHERE blob = :blob)",
                    {"blob": blob},
                )

    def _insert_seen(self, detector: str, seen: SeenObjects, at: str) -> None:
        if seen.folder:  # of a folder that is no more, another one of its path took the place
            self._db.execute("DELETE FROM seen WHERE folder = ? AND made <> ?", (seen.folder, seen.made))
        self._db.execute(
            "INSERT INTO seen (detector, width, folder, made, at, ids) VALUES (?, ?, ?, ?, ?, ?)",
            (detector, seen.width, seen.folder, seen.made, at, seen.ids),
        )

    def _upsert_finding(self, finding: Finding) -> None:
        said = finding.verification
        self._db.execute(
            f"""INSERT INTO finding ({_FINDING}) VALUES ({placeholders(24)})
            ON CONFLICT (fingerprint) DO UPDATE SET last_seen = max(last_seen, excluded.last_seen),
                rank = min(rank, excluded.rank), has_token = max(has_token, excluded.has_token),
                account_id = excluded.account_id, example = excluded.example,
                expires = coalesce(excluded.expires, expires),
                notes = CASE excluded.notes WHEN '[]' THEN notes ELSE excluded.notes END""",
            (
                finding.fingerprint, finding.kind, finding.access_key_id, finding.account_id, finding.has_secret,
                finding.has_token, finding.rank, finding.example, finding.canary,
                maybe_rfc3339(finding.expires), json.dumps(finding.notes),
                said.status, maybe_rfc3339(said.at), said.arn, said.account_id, said.user_id,
                said.detail, json.dumps(said.partitions), finding.state, finding.state_reason, finding.severity,
                finding.rights, rfc3339(finding.first_seen), rfc3339(finding.last_seen),
            ),
        )  # fmt: skip

    def _upsert_provenance(self, met: Met, at: str) -> None:
        author: str | None = None
        date: str | None = None
        in_head: bool | None = None
        mode: int | None = None
        match met.provenance:
            case FileProvenance():
                mode = met.provenance.mode
            case GitProvenance():
                author, in_head = met.provenance.author, met.provenance.in_head
                date = maybe_rfc3339(met.provenance.date)
        source, blob, repository, path, commit = _place(met)
        self._db.execute(
            """INSERT INTO provenance VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
            ON CONFLICT DO UPDATE SET author = excluded.author, date = excluded.date, in_head = excluded.in_head,
                mode = excluded.mode""",
            (blob, source, repository, path, commit, author, date, in_head, mode, at),
        )

    def told(self, fingerprints: Iterable[str]) -> dict[Fingerprint, tuple[datetime, datetime]]:
        """Return when scans first and last told of each of these findings, of those of which one did."""
        return {
            Fingerprint(text(row[0])): (time(row[1]), time(row[2]))
            for chunk in chunks(fingerprints)
            for row in self._all(
                f"""SELECT fingerprint, first_told, last_told FROM finding
                WHERE fingerprint IN ({placeholders(len(chunk))}) AND first_told IS NOT NULL""",
                chunk,
            )
        }

    def tell(self, fingerprints: Iterable[str], at: datetime) -> None:
        """Remember that a scan has told of these findings."""
        with self._writing():
            for chunk in chunks(fingerprints):
                self._db.execute(
                    f"""UPDATE finding SET first_told = coalesce(first_told, ?), last_told = ?
                    WHERE fingerprint IN ({placeholders(len(chunk))})""",
                    (rfc3339(at), rfc3339(at), *chunk),
                )

    def findings_of(self, fingerprints: Iterable[str]) -> list[Finding]:
        """Return these findings, the worst first: a scan of little need not read all there are."""
        rows = [
            row
            for chunk in chunks(fingerprints)
            for row in self._all(
                f"SELECT {_FINDING} FROM finding WHERE fingerprint IN ({placeholders(len(chunk))})", chunk
            )
        ]
        return sorted(map(_finding, rows), key=_worst_first)

    def findings(self, *, state: TriageState | None = None, key_id: str | None = None) -> list[Finding]:
        """Return findings, by state or key id when given, the worst first."""
        where, values = ["1"], list[Value]()
        if state is not None:
            where.append("state = ?")
            values.append(state)
        if key_id is not None:
            where.append("access_key_id = ?")
            values.append(key_id)
        rows = self._all(
            f"""SELECT {_FINDING} FROM finding WHERE {" AND ".join(where)}
            ORDER BY severity DESC NULLS LAST, first_seen, access_key_id, rank, fingerprint""",
            values,
        )
        return [_finding(row) for row in rows]

    def finding(self, prefix: str) -> list[Finding]:
        """Return the findings whose fingerprint begins with prefix, or whose key id is prefix."""
        rows = self._all(
            # A range, for which there is the index: hexadecimal digits come before g.
            f"""SELECT {_FINDING} FROM finding
            WHERE fingerprint BETWEEN :low AND :low || 'g' OR access_key_id = :id ORDER BY access_key_id, rank""",
            {"low": prefix.lower(), "id": prefix},
        )
        return [_finding(row) for row in rows]

    def sights(self, fingerprints: Collection[str], *, gone: bool = False) -> dict[Fingerprint, list[Sight]]:
        """Return every match of these findings with every way its blob is met, in a stable order.

        gone: those too whose blob is met nowhere any more, each once, with a source and a path that are empty.
        """
        sights: dict[Fingerprint, list[Sight]] = {Fingerprint(name): [] for name in fingerprints}
        for chunk in chunks(fingerprints):
            rows = self._all(
                f"""SELECT m.fingerprint, m.blob, line, col, decoder, container, kind, secret_here,
                    source, repository, path, commit_id, author, date, in_head, mode,
                    max(m.first_seen, coalesce(p.first_seen, '')), allowed
                FROM match m {"LEFT JOIN" if gone else "JOIN"} provenance p ON p.blob = m.blob
                WHERE m.fingerprint IN ({placeholders(len(chunk))})
                ORDER BY source, repository, path, date, commit_id, m.blob, line, col, decoder, container""",
                chunk,
            )
            for row in rows:
                sights[Fingerprint(text(row[0]))].append(
                    Sight(
                        source=maybe_text(row[8]) or "",
                        first_seen=time(row[16]),
                        match=Match(
                            blob=text(row[1]),
                            line=number(row[2]) or None,
                            column=number(row[3]) or None,
                            decoder=text(row[4]),
                            container=text(row[5]),
                            kind=KeyKind(text(row[6])),
                            secret_here=bool(row[7]),
                            allowed=text(row[17]),
                        ),
                        provenance=_provenance(row[9:16]),
                    )
                )
        return sights

    def held(
        self, *, roots: Collection[str] = (), repositories: Collection[str] = (), below: Collection[str] = ()
    ) -> Iterator[Met]:
        """Yield how blobs with findings were met below these folders (or at these files) and in these repositories.

        below: in all repositories at or below these folders.
        """
        columns = "repository, path, commit_id, author, date, in_head, mode, source, blob"
        rows: list[Row] = []
        for root in roots:
            inside = root.rstrip("/") + "/"
            rows += self._all(
                f"SELECT {columns} FROM provenance WHERE repository = '' AND (path = ? OR path BETWEEN ? AND ?)",
                (root, inside, inside[:-1] + "0"),
            )
        for root in below:
            inside = root.rstrip("/") + "/"
            rows += self._all(
                f"SELECT {columns} FROM provenance WHERE repository = ? OR repository BETWEEN ? AND ?",
                (root, inside, inside[:-1] + "0"),
            )
        for chunk in chunks(repositories):
            rows += self._all(
                f"SELECT {columns} FROM provenance WHERE repository IN ({placeholders(len(chunk))})",
                chunk,
            )
        for row in rows:
            yield Met(source=text(row[7]), blob=text(row[8]), provenance=_provenance(row[:7]))

    def blobs_with_findings(self) -> frozenset[str]:
        """Return the ids of all blobs that hold a match."""
        return frozenset(text(row[0]) for row in self._all("SELECT DISTINCT blob FROM match"))

    def holding(self, blobs: Iterable[str]) -> set[str]:
        """Return which of these blobs hold a match."""
        return {
            text(row[0])
            for chunk in chunks(blobs)
            for row in self._all(f"SELECT DISTINCT blob FROM match WHERE blob IN ({placeholders(len(chunk))})", chunk)
        }

    def fingerprints_in(self, blobs: Iterable[str]) -> set[Fingerprint]:
        """Return the findings that have a match in any of these blobs."""
        found: set[Fingerprint] = set()
        for chunk in chunks(blobs):
            rows = self._all(
                f"SELECT DISTINCT fingerprint FROM match WHERE blob IN ({placeholders(len(chunk))})",
                chunk,
            )
            found.update(Fingerprint(text(row[0])) for row in rows)
        return found

    def seen(self, detector: str, width: int, folder: str = "", made: str = "") -> list[bytes]:
        """Return the segments of object ids that this detector version has read, each raw and width bytes an id.

        Without a folder those that count everywhere, else those that count in this folder only.
        """
        rows = self._all(
            "SELECT ids FROM seen WHERE detector = ? AND width = ? AND folder = ? AND made = ? ORDER BY id",
            (detector, width, folder, made),
        )
        return [row[0] for row in rows if isinstance(row[0], bytes)]

    def source_state(self, target: str, detector: str) -> SourceState | None:
        """Return what a source remembered of target, or None when another detector version wrote it."""
        row = self._one("SELECT value FROM source_state WHERE target = ? AND detector = ?", (target, detector))
        if row is None or not isinstance(row[0], bytes):
            return None
        return SourceState(target=target, detector=detector, value=row[0])

    def tidy(self, detector: str, at: datetime) -> None:
        """Drop what is of no more use of what was read, and join small segments. Asked for when a scan ended.

        Other detector versions will read again what they read; one version's detectors differ behind a `+`. What an
        object folder claimed, what a source remembered and how scans ended is kept for half a year: passing checkouts
        would fill the file.
        """
        values = {"version": _version(detector), "kept": rfc3339(at - _KEPT)}
        other = "substr(detector || '+', 1, length(:version) + 1) <> :version || '+'"
        useless = {
            "seen": f"{other} OR (folder <> '' AND at < :kept)",
            "source_state": f"{other} OR at < :kept",
            "scan_run": "coalesce(ended, started) < :kept",
        }
        small = f"""SELECT detector, width, folder, made FROM seen WHERE length(ids) < {_SMALL}
            GROUP BY detector, width, folder, made HAVING count(*) > {_SEGMENTS}"""
        work = [f"EXISTS (SELECT 1 FROM {table} WHERE {where})" for table, where in useless.items()]
        ((any_work,),) = self._all(f"SELECT {' OR '.join(work)} OR EXISTS ({small})", values)
        if not any_work:
            return
        with self._writing():
            for table, where in useless.items():
                self._db.execute(f"DELETE FROM {table} WHERE {where}", values)
            while keys := self._all(small):
                for key in keys:
                    self._join(key)

    def _join(self, key: Row) -> None:
        """Make one segment of the small ones of one sort: a few tens of megabytes at most, as each is small."""
        where = "detector = ? AND width = ? AND folder = ? AND made = ? AND length(ids) < ?"
        rows = self._all(f"SELECT ids, at FROM seen WHERE {where} ORDER BY id LIMIT ?", (*key, _SMALL, _JOINED))
        self._db.execute(
            f"DELETE FROM seen WHERE id IN (SELECT id FROM seen WHERE {where} ORDER BY id LIMIT ?)",
            (*key, _SMALL, _JOINED),
        )
        ids = b"".join(row[0] for row in rows if isinstance(row[0], bytes))
        self._db.execute(
            "INSERT INTO seen (detector, width, folder, made, at, ids) VALUES (?, ?, ?, ?, ?, ?)",
            (*key, max(text(row[1]) for row in rows), ids),
        )

    def set_state(self, fingerprint: Fingerprint, state: TriageState, reason: str) -> None:
        """Remember what a person decided about a finding."""
        with self._writing():
            self._db.execute(
                "UPDATE finding SET state = ?, state_reason = ? WHERE fingerprint = ?", (state, reason, fingerprint)
            )

    def set_verification(
        self,
        fingerprint: Fingerprint,
        said: Verification,
        severity: Severity | None = None,
        alerts: Collection[Alert] = (),
        *,
        canary: bool | None = None,
    ) -> None:
        """Remember AWS's answer, as the latest and in the finding's history, with what a person must be told of it.

        Or that the key is a canary, which is not asked about, or is none: canary says so, None leaves it as it is.
        """
        at = maybe_rfc3339(said.at)
        with self._writing():
            self._db.execute(
                """UPDATE finding SET status = ?, verified_at = ?, arn = ?, verified_account = ?, user_id = ?,
                detail = ?, partitions = ?, severity = coalesce(?, severity), canary = coalesce(?, canary)
                WHERE fingerprint = ?""",
                (said.status, at, said.arn, said.account_id, said.user_id, said.detail, json.dumps(said.partitions),
                 severity, canary, fingerprint),
            )  # fmt: skip
            if at is not None:
                self._db.execute(
                    "INSERT INTO verification (fingerprint, at, status, detail) VALUES (?, ?, ?, ?)",
                    (fingerprint, at, said.status, said.detail),
                )
            for alert in alerts:
                insert_alert(self._db, alert)

    def set_rights(self, fingerprint: Fingerprint, rights: Severity, severity: Severity) -> None:
        """Remember how bad a key's rights make it, and how bad the finding is with them."""
        with self._writing():
            self._db.execute(
                "UPDATE finding SET rights = ?, severity = ? WHERE fingerprint = ?", (rights, severity, fingerprint)
            )

    def add_scan_run(self, run: ScanRun) -> None:
        """Remember how a scan of one target ended."""
        with self._writing():
            self._db.execute(
                """INSERT INTO scan_run (target, detector, started, ended, complete, tally, skipped)
                VALUES (?, ?, ?, ?, ?, ?, ?)""",
                (run.target, run.detector, rfc3339(run.started), maybe_rfc3339(run.ended),
                 run.complete, json.dumps(asdict(run.tally)), json.dumps([asdict(s) for s in run.skipped])),
            )  # fmt: skip

    def scan_runs(self, limit: int = 50) -> list[ScanRun]:
        """Return the last scans, newest first."""
        rows = self._all(
            "SELECT target, detector, started, ended, complete, tally, skipped FROM scan_run ORDER BY id DESC LIMIT ?",
            (limit,),
        )
        return [
            ScanRun(
                target=text(row[0]),
                detector=text(row[1]),
                started=time(row[2]),
                ended=maybe_time(row[3]),
                complete=bool(row[4]),
                tally=Tally(**json.loads(text(row[5]))),
                skipped=tuple(Skipped(**each) for each in json.loads(text(row[6]))),
            )
            for row in rows
        ]


def _version(detector: str) -> str:
    """Return the version of detectors that may differ in what they look for."""
    return detector.partition("+")[0]


def _place(met: Met) -> tuple[str, str, str, str, str]:
    match met.provenance:
        case FileProvenance(path=path):
            return met.source, met.blob, "", path, ""
        case GitProvenance(repository=repository, path=path, commit=commit):
            return met.source, met.blob, repository, path or "", commit or ""


def _provenance(row: Row) -> Provenance:
    repository, path, commit, author, date, in_head, mode = row
    if not repository:
        return FileProvenance(path=maybe_text(path) or "", mode=None if mode is None else number(mode))
    return GitProvenance(
        repository=text(repository), commit=text(commit) or None, path=text(path) or None, author=maybe_text(author),
        date=maybe_time(date), in_head=None if in_head is None else bool(in_head),
    )  # fmt: skip


def _worst_first(finding: Finding) -> tuple[int, datetime, str, int, str]:
    """Return what findings are put in order by, as `ORDER BY` in `findings` does."""
    severity = -1 if finding.severity is None else finding.severity
    return -severity, finding.first_seen, finding.access_key_id or "", finding.rank, finding.fingerprint


def _finding(row: Row) -> Finding:
    severity, rights = row[20:22]
    return Finding(
        fingerprint=Fingerprint(text(row[0])), kind=KeyKind(text(row[1])), access_key_id=maybe_text(row[2]),
        account_id=maybe_text(row[3]), has_secret=bool(row[4]), has_token=bool(row[5]), rank=number(row[6]),
        example=bool(row[7]), canary=bool(row[8]), expires=maybe_time(row[9]), notes=listed(row[10]),
        verification=Verification(
            status=Status(text(row[11])), at=maybe_time(row[12]), arn=maybe_text(row[13]),
            account_id=maybe_text(row[14]), user_id=maybe_text(row[15]), detail=text(row[16]),
            partitions=listed(row[17]),
        ),
        state=TriageState(text(row[18])), state_reason=text(row[19]),
        severity=None if severity is None else Severity(number(severity)),
        rights=None if rights is None else Severity(number(rights)),
        first_seen=time(row[22]), last_seen=time(row[23]),
    )  # fmt: skip
