"""The schema, one step a function. Steps only go forward and keep data; a step that shipped is never edited.

Times are RFC 3339 text in UTC, lists are JSON text. STRICT tables: SQLite itself refuses a wrong type.
"""

from __future__ import annotations

import functools
import json
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from firedamp.storage.masking import masked


class Database(Protocol):
    """What the steps so far use of sqlite-utils' Database."""

    @property
    def conn(self) -> sqlite3.Connection:
        """The connection beneath it."""

    def execute(self, sql: str, /) -> sqlite3.Cursor:
        """Execute one statement."""


@dataclass(frozen=True, slots=True)
class New:
    """A database with nothing in it yet, for which sqlite-utils need not be loaded."""

    conn: sqlite3.Connection

    def execute(self, sql: str, /) -> sqlite3.Cursor:
        """Execute one statement."""
        return self.conn.execute(sql)


def _first(db: Database) -> None:
    for statement in _FIRST.split(";\n\n"):
        db.execute(statement)


_FIRST: Final = """
-- One leaked credential, however often seen. Its secret is nowhere in this file: the fingerprint stands for it.
CREATE TABLE finding (
    fingerprint   TEXT PRIMARY KEY CHECK (length(fingerprint) = 32),
    kind          TEXT NOT NULL,
    access_key_id TEXT,
    account_id    TEXT,
    has_secret    INTEGER NOT NULL CHECK (has_secret IN (0, 1)),
    has_token     INTEGER NOT NULL CHECK (has_token IN (0, 1)),
    rank          INTEGER NOT NULL CHECK (rank >= 0),
    example       INTEGER NOT NULL CHECK (example IN (0, 1)),
    canary        INTEGER NOT NULL CHECK (canary IN (0, 1)),
    expires       TEXT,
    notes         TEXT NOT NULL,
    -- What AWS said last; every answer is kept in verification.
    status        TEXT NOT NULL CHECK (status IN
        ('UNCHECKED', 'ACTIVE', 'REJECTED', 'WRONG_SECRET', 'EXPIRED', 'CANARY', 'UNKNOWN')),
    verified_at   TEXT,
    arn           TEXT,
    verified_account TEXT,
    user_id       TEXT,
    detail        TEXT NOT NULL,
    partitions    TEXT NOT NULL,
    -- What a person decided.
    state         TEXT NOT NULL CHECK (state IN ('open', 'accepted', 'false-positive', 'revoked')),
    state_reason  TEXT NOT NULL,
    severity      INTEGER CHECK (severity BETWEEN 0 AND 4),
    first_seen    TEXT NOT NULL,
    last_seen     TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX finding_by_key ON finding (access_key_id);

-- Where in a blob a finding stands. line and col are 0 where there are no lines. new_since_triage: a match of an
-- accepted finding that came after the decision.
CREATE TABLE match (
    fingerprint TEXT NOT NULL REFERENCES finding ON DELETE CASCADE,
    blob        TEXT NOT NULL,
    line        INTEGER NOT NULL,
    col         INTEGER NOT NULL,
    decoder     TEXT NOT NULL,
    container   TEXT NOT NULL,
    kind        TEXT NOT NULL,
    secret_here INTEGER NOT NULL CHECK (secret_here IN (0, 1)),
    first_seen  TEXT NOT NULL,
    PRIMARY KEY (fingerprint, blob, line, col, decoder, container)
) STRICT, WITHOUT ROWID;

CREATE INDEX match_by_blob ON match (blob);

-- Every way a blob that holds a finding was met. repository is empty for a file; commit_id and path are empty, not
-- null, for what has none, so that the key is whole.
CREATE TABLE provenance (
    blob       TEXT NOT NULL,
    source     TEXT NOT NULL,
    repository TEXT NOT NULL,
    path       TEXT NOT NULL,
    commit_id  TEXT NOT NULL,
    author     TEXT,
    date       TEXT,
    in_head    INTEGER CHECK (in_head IN (0, 1)),
    mode       INTEGER,
    first_seen TEXT NOT NULL,
    PRIMARY KEY (blob, source, repository, path, commit_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX provenance_by_place ON provenance (repository, path);

-- Objects that a detector version has read to the end, in whichever repository: raw ids, width bytes each, a
-- segment a transaction. Ids say nothing of the content that git's own hash would not.
CREATE TABLE seen (
    id       INTEGER PRIMARY KEY,
    detector TEXT NOT NULL,
    width    INTEGER NOT NULL CHECK (width IN (20, 32)),
    ids      BLOB NOT NULL
) STRICT;

CREATE INDEX seen_by_detector ON seen (detector, width);

-- What a source remembers of its last scan, in its own form.
CREATE TABLE source_state (
    target   TEXT PRIMARY KEY,
    detector TEXT NOT NULL,
    value    BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE scan_run (
    id       INTEGER PRIMARY KEY,
    target   TEXT NOT NULL,
    detector TEXT NOT NULL,
    started  TEXT NOT NULL,
    ended    TEXT,
    complete INTEGER NOT NULL CHECK (complete IN (0, 1)),
    tally    TEXT NOT NULL,
    skipped  TEXT NOT NULL
) STRICT;

-- Every answer AWS gave about a finding.
CREATE TABLE verification (
    id          INTEGER PRIMARY KEY,
    fingerprint TEXT NOT NULL REFERENCES finding ON DELETE CASCADE,
    at          TEXT NOT NULL,
    status      TEXT NOT NULL,
    detail      TEXT NOT NULL
) STRICT;

-- Keys whose use is an alarm: canaries, and leaked real keys watched like them.
CREATE TABLE watched_key (
    key_id       TEXT PRIMARY KEY,
    canary       INTEGER NOT NULL CHECK (canary IN (0, 1)),
    name         TEXT NOT NULL,
    arn          TEXT,
    principal_id TEXT,
    user_name    TEXT,
    account_id   TEXT,
    note         TEXT NOT NULL,
    tags         TEXT NOT NULL,
    state        TEXT NOT NULL CHECK (state IN ('minting', 'live', 'retired')),
    adopted      INTEGER NOT NULL CHECK (adopted IN (0, 1)),
    profile      TEXT,
    since        TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- One key, one placement.
CREATE TABLE placement (
    key_id  TEXT PRIMARY KEY REFERENCES watched_key,
    kind    TEXT NOT NULL,
    place   TEXT NOT NULL,
    format  TEXT NOT NULL,
    content TEXT NOT NULL,
    planted TEXT NOT NULL,
    checked TEXT,
    state   TEXT NOT NULL,
    detail  TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Calls we are about to make ourselves, written before they are sent. event_id: the one record recognised as it.
CREATE TABLE own_call (
    nonce     TEXT PRIMARY KEY,
    key_id    TEXT,
    principal TEXT NOT NULL,
    call      TEXT NOT NULL,
    host      TEXT NOT NULL,
    purpose   TEXT NOT NULL,
    at        TEXT NOT NULL,
    event_id  TEXT
) STRICT, WITHOUT ROWID;

-- CloudTrail records about watched keys. A record is known by these three together: copies for two accounts differ.
CREATE TABLE event (
    id           INTEGER PRIMARY KEY,
    event_id     TEXT NOT NULL,
    recipient    TEXT NOT NULL,
    access_key   TEXT NOT NULL,
    time         TEXT NOT NULL,
    name         TEXT NOT NULL,
    source       TEXT NOT NULL,
    region       TEXT NOT NULL,
    address      TEXT NOT NULL,
    user_agent   TEXT NOT NULL,
    error        TEXT NOT NULL,
    original     TEXT NOT NULL, -- the record that this one corrects (addendum UPDATED_DATA), or empty
    fields       TEXT NOT NULL, -- the rest of the parsed fields, JSON
    raw          BLOB NOT NULL, -- the record, compressed, session tokens removed
    feed         TEXT NOT NULL,
    met          TEXT NOT NULL,
    UNIQUE (event_id, recipient, access_key)
) STRICT;

CREATE INDEX event_by_original ON event (original) WHERE original != '';

-- One alarm: the sightings of one watched key that belong together. key_id null: the watch itself.
CREATE TABLE incident (
    id     INTEGER PRIMARY KEY,
    key_id TEXT,
    canary INTEGER NOT NULL CHECK (canary IN (0, 1)),
    title  TEXT NOT NULL,
    state  TEXT NOT NULL CHECK (state IN ('open', 'closed')),
    reason TEXT NOT NULL,
    opened TEXT NOT NULL,
    first  TEXT NOT NULL,
    last   TEXT NOT NULL
) STRICT;

CREATE INDEX incident_by_key ON incident (key_id, last);

-- How an event is about a watched key. key_id is empty for tamper. incident null: our own call, or a failed attempt
-- on the watch. corrected: another record says it better, so it does not count.
CREATE TABLE sighting (
    id        INTEGER PRIMARY KEY,
    event     INTEGER NOT NULL REFERENCES event,
    key_id    TEXT NOT NULL,
    kind      TEXT NOT NULL CHECK (kind IN ('use', 'derived', 'mention', 'tamper')),
    own       INTEGER NOT NULL CHECK (own IN (0, 1)),
    note      TEXT NOT NULL,
    corrected INTEGER NOT NULL CHECK (corrected IN (0, 1)),
    incident  INTEGER REFERENCES incident,
    UNIQUE (event, key_id)
) STRICT;

CREATE INDEX sighting_by_incident ON sighting (incident);

-- Running counts of an incident, so that the millionth sighting costs no more than the first. what: kind, own, change,
-- denied, write, address, service, region or call; the id keeps the order in which values were first met.
CREATE TABLE tally (
    id       INTEGER PRIMARY KEY,
    incident INTEGER NOT NULL REFERENCES incident,
    what     TEXT NOT NULL,
    value    TEXT NOT NULL,
    count    INTEGER NOT NULL,
    UNIQUE (incident, what, value)
) STRICT;

CREATE TABLE watermark (
    feed     TEXT PRIMARY KEY,
    position TEXT NOT NULL,
    newest   TEXT,
    polled   TEXT NOT NULL -- empty until a poll ended well
) STRICT, WITHOUT ROWID;

-- What feeds brought that was not read, counted by reason: a message is acknowledged only when it stands here.
CREATE TABLE feed_trouble (
    feed    TEXT NOT NULL,
    outcome TEXT NOT NULL CHECK (outcome IN ('rejected', 'left out', 'gone', 'failed')),
    why     TEXT NOT NULL,
    count   INTEGER NOT NULL,
    what    TEXT NOT NULL, -- the last of the kind
    last    TEXT NOT NULL,
    PRIMARY KEY (feed, outcome, why)
) STRICT, WITHOUT ROWID;

-- The outbox: facts a person must be told. name makes a repeat harmless.
CREATE TABLE alert (
    id          INTEGER PRIMARY KEY,
    name        TEXT NOT NULL UNIQUE,
    kind        TEXT NOT NULL,
    severity    INTEGER NOT NULL CHECK (severity BETWEEN 0 AND 4),
    at          TEXT NOT NULL,
    key_id      TEXT,
    incident    INTEGER REFERENCES incident,
    fingerprint TEXT,
    facts       TEXT NOT NULL
) STRICT;

CREATE TABLE delivery (
    alert     INTEGER NOT NULL REFERENCES alert,
    channel   TEXT NOT NULL,
    state     TEXT NOT NULL CHECK (state IN ('waiting', 'delivered')),
    attempts  INTEGER NOT NULL,
    next_try  TEXT NOT NULL,
    delivered TEXT,
    error     TEXT NOT NULL,
    PRIMARY KEY (alert, channel)
) STRICT, WITHOUT ROWID;

CREATE INDEX delivery_due ON delivery (state, next_try);

CREATE TABLE job_run (
    id      INTEGER PRIMARY KEY,
    job     TEXT NOT NULL,
    started TEXT NOT NULL,
    ended   TEXT,
    outcome TEXT NOT NULL,
    detail  TEXT NOT NULL
) STRICT;

CREATE INDEX job_run_by_job ON job_run (job, started);

CREATE TABLE drill (
    nonce     TEXT PRIMARY KEY,
    key_id    TEXT NOT NULL,
    path_only INTEGER NOT NULL CHECK (path_only IN (0, 1)),
    called    TEXT NOT NULL,
    recorded  TEXT,
    sighted   TEXT,
    alerted   TEXT,
    delivered TEXT
) STRICT, WITHOUT ROWID;

-- What was done to a key at a person's order.
CREATE TABLE key_action (
    id      INTEGER PRIMARY KEY,
    key_id  TEXT NOT NULL,
    action  TEXT NOT NULL,
    step    TEXT NOT NULL,
    at      TEXT NOT NULL,
    outcome TEXT NOT NULL,
    detail  TEXT NOT NULL
) STRICT;

-- Who serves this database: one instance, with a heartbeat.
CREATE TABLE instance (
    one       INTEGER PRIMARY KEY CHECK (one = 1),
    owner     TEXT NOT NULL,
    started   TEXT NOT NULL,
    heartbeat TEXT NOT NULL
) STRICT
"""


def _marks(db: Database) -> None:
    """Remember the inline mark in a match's line (`firedamp:allow` and other tools' words), empty without one."""
    db.execute("ALTER TABLE match ADD COLUMN allowed TEXT NOT NULL DEFAULT ''")


def _baiting(db: Database) -> None:
    """Remember users that were asked of IAM, what IAM said of last use, and how each part of the watch stands."""
    for statement in _BAITING.split(";\n\n"):
        db.execute(statement)


_BAITING: Final = """
-- Users asked of IAM and not handed over yet: written before the first call, so that a crash leaves nothing behind.
CREATE TABLE minting (
    account_id TEXT NOT NULL,
    name       TEXT NOT NULL COLLATE NOCASE, -- IAM knows no two users whose names differ in case only
    profile    TEXT,
    purpose    TEXT NOT NULL CHECK (purpose IN ('canary', 'drill')),
    note       TEXT NOT NULL,
    tags       TEXT NOT NULL,
    asked      TEXT NOT NULL,
    user_id    TEXT,
    key_id     TEXT,
    PRIMARY KEY (account_id, name)
) STRICT, WITHOUT ROWID;

-- What GetAccessKeyLastUsed and ListAccessKeys said of a canary.
CREATE TABLE last_use (
    key_id  TEXT PRIMARY KEY,
    asked   TEXT NOT NULL,
    used    TEXT,
    service TEXT NOT NULL,
    region  TEXT NOT NULL,
    active  INTEGER CHECK (active IN (0, 1)),
    listed  TEXT
) STRICT, WITHOUT ROWID;

-- How each part of the watch stands. alarm: since when it is blind and a person was told; not knowing does not end it.
CREATE TABLE standing (
    condition TEXT PRIMARY KEY,
    state     TEXT NOT NULL CHECK (state IN ('sound', 'blind', 'unsure')),
    why       TEXT NOT NULL,
    since     TEXT NOT NULL,
    at        TEXT NOT NULL,
    proven    TEXT,
    alarm     TEXT
) STRICT, WITHOUT ROWID
"""


def _net_indices(db: Database) -> None:
    """Find the calls made with a key, and what was seen of it, without reading all: the nets ask every few minutes."""
    db.execute("CREATE INDEX own_call_by_principal ON own_call (principal, at)")
    db.execute("CREATE INDEX sighting_by_key ON sighting (key_id, kind)")


def _claims(db: Database) -> None:
    """Keep ids whose content nobody hashed apart by the object folder that claims them.

    Which of the ids so far are such is not known: what was read is read once more.
    """
    db.execute("DROP TABLE seen")
    for statement in _CLAIMS.split(";\n\n"):
        db.execute(statement)


_CLAIMS: Final = """
-- Objects that a detector version has read to the end: raw ids, width bytes each. folder is empty for ids whose content
-- was hashed: they count in every repository. Else they count in that object folder only, for a repository may lie;
-- made tells it from another that stood at the same path. Ids say nothing of the content that git's hash would not.
CREATE TABLE seen (
    id       INTEGER PRIMARY KEY,
    detector TEXT NOT NULL,
    width    INTEGER NOT NULL CHECK (width IN (20, 32)),
    folder   TEXT NOT NULL,
    made     TEXT NOT NULL,
    at       TEXT NOT NULL,
    ids      BLOB NOT NULL
) STRICT;

CREATE INDEX seen_by_folder ON seen (folder, detector, width)
"""


def _heard(db: Database) -> None:
    """Remember what each feed brought of each region: one that falls silent is blind there."""
    db.execute(
        """CREATE TABLE heard (
            feed    TEXT NOT NULL,
            region  TEXT NOT NULL,
            first   TEXT NOT NULL,    -- event times
            newest  TEXT NOT NULL,
            longest REAL NOT NULL,    -- seconds of the longest silence between them
            PRIMARY KEY (feed, region)
        ) STRICT, WITHOUT ROWID"""
    )


def _ages(db: Database) -> None:
    """Tell how old it is what a source remembers of a target: of one that is scanned no more it is dropped one day."""
    db.execute("ALTER TABLE source_state ADD COLUMN at TEXT NOT NULL DEFAULT ''")
    db.execute("UPDATE source_state SET at = strftime('%Y-%m-%dT%H:%M:%SZ', 'now')")


def _rights(db: Database) -> None:
    """Keep the grade of a key's rights apart: no answer of AWS changes it.

    So far it stood in the severity alone: it is what no answer by itself had graded so.
    """
    db.execute("ALTER TABLE finding ADD COLUMN rights INTEGER CHECK (rights BETWEEN 0 AND 4)")
    db.execute(
        """UPDATE finding SET rights = severity
        WHERE canary = 0 AND example = 0 AND coalesce(arn, '') NOT LIKE '%:root' AND severity <> CASE
            WHEN status = 'ACTIVE' OR (status = 'UNKNOWN' AND arn IS NOT NULL) THEN 3
            WHEN status IN ('UNCHECKED', 'UNKNOWN') THEN 1 + has_secret END"""
    )


def _processes(db: Database) -> None:
    """Know the process that serves: one that was killed need not be waited for."""
    db.execute("ALTER TABLE instance ADD COLUMN process TEXT NOT NULL DEFAULT ''")


def _empty_places(db: Database) -> None:
    """Know the places that were there and empty; of those so far it is not known, and they go as they did."""
    db.execute("ALTER TABLE placement ADD COLUMN was_empty INTEGER NOT NULL DEFAULT 0 CHECK (was_empty IN (0, 1))")


def _masks(db: Database) -> None:
    """Mask the secrets that stand in paths, and in what was told of them. Of rows that are alike then one stays.

    What sources remember goes by paths and reasons as well: what was listed is listed once more.
    """
    # What is overwritten must not stay in pages that are free now.
    db.execute("PRAGMA secure_delete = ON")
    for name, mask in (("masked", masked), ("across", functools.partial(masked, across=True)), ("json", _masked_json)):
        db.conn.create_function(f"fd_{name}", 1, mask, deterministic=True)
    for table, column, mask_of in _TOLD:
        db.execute(f"UPDATE OR REPLACE {table} SET {column} = {mask_of} WHERE {column} <> {mask_of}")
    db.execute("DELETE FROM source_state WHERE target LIKE 'git:%' OR target LIKE 'refs:%'")


def _reports(db: Database) -> None:
    """Know when scans first and last told of a finding: one that is killed tells of none. Those so far were told."""
    for column in ("first_told", "last_told"):
        db.execute(f"ALTER TABLE finding ADD COLUMN {column} TEXT")
        db.execute(f"UPDATE finding SET {column} = strftime('%Y-%m-%dT%H:%M:%SZ', 'now')")


def _masked_json(text: str) -> str:
    """Mask each text in a list, of lists or of objects, that is kept as JSON."""
    told = json.loads(text)
    clean = [
        {name: masked(value) if isinstance(value, str) else value for name, value in each.items()}
        if isinstance(each, dict)
        else [masked(value) for value in each]
        for each in told
    ]
    return text if clean == told else json.dumps(clean)


_TOLD: Final = (
    ("provenance", "path", "CASE repository WHEN '' THEN fd_masked(path) ELSE fd_across(path) END"),
    ("provenance", "repository", "fd_masked(repository)"), ("match", "container", "fd_across(container)"),
    ("seen", "folder", "fd_masked(folder)"), ("source_state", "target", "fd_masked(target)"),
    ("scan_run", "target", "fd_masked(target)"), ("scan_run", "skipped", "fd_json(skipped)"),
    ("alert", "facts", "fd_json(facts)"), ("job_run", "detail", "fd_masked(detail)"),
)  # fmt: skip
"""Columns in which paths are told, and each as it may be kept."""


def _old_scans(db: Database) -> None:
    """Find the scans that are to be forgotten without reading all: an organisation's are hundreds of thousands."""
    db.execute("CREATE INDEX scan_run_by_end ON scan_run (coalesce(ended, started))")


def _versions(db: Database) -> None:
    """Know which version found a match in a blob that it read to its end; empty for one that it could not, or before.

    What the next version does not find there again is no match any more.
    """
    db.execute("ALTER TABLE match ADD COLUMN version TEXT NOT NULL DEFAULT ''")


STEPS: Final[tuple[Callable[[Database], None], ...]] = (
    _first, _marks, _baiting, _net_indices, _claims, _heard, _ages, _rights, _processes,
    _empty_places, _masks, _old_scans, _reports, _versions,
)  # fmt: skip
"""The n-th step takes a database from version n to n + 1; `PRAGMA user_version` counts them."""
