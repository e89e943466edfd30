"""The database: the only SQL. One method a fact or a question, each one transaction.

The rows live in parts by what they remember; `Store` opens the file and puts the parts together.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from firedamp.storage.baiting import BaitRows
from firedamp.storage.errors import StoreFailure
from firedamp.storage.findings import FindingRows
from firedamp.storage.incidents import IncidentRows
from firedamp.storage.jobs import JobRows
from firedamp.storage.migrations import STEPS, Database, New
from firedamp.storage.outbox import OutboxRows
from firedamp.storage.rows import text

_BUSY_MS = 30_000
_OLDEST = (3, 37)  # STRICT tables


class Store(FindingRows, IncidentRows, OutboxRows, JobRows, BaitRows):
    """Everything firedamp remembers. A context manager; safe for several processes on one file.

    path None is a database in memory; tables are the statements that make its schema, else it is built step by step.
    Raises StoreFailure when the file is no firedamp database, is newer than this program, or cannot be opened.
    """

    def __init__(self, path: Path | None, tables: Sequence[str] = ()) -> None:
        if sqlite3.sqlite_version_info[:2] < _OLDEST:
            raise StoreFailure(f"SQLite {sqlite3.sqlite_version} is too old", "firedamp needs 3.37 or newer")
        self.path = path
        try:
            super().__init__(_open(path))
            for statement in tables:
                self._db.execute(statement)
            if tables:
                self._db.execute(f"PRAGMA user_version = {len(STEPS)}")
            self._migrate()
        except (sqlite3.Error, OSError) as error:
            raise StoreFailure(f"the database {path} cannot be opened: {error}", _remedy(path)) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def blank(self) -> Store:
        """Return an empty store in memory with this one's tables: copied, they are there sooner than built anew."""
        rows = self._all("SELECT sql FROM sqlite_master WHERE name NOT LIKE 'sqlite|_%' ESCAPE '|' ORDER BY rowid")
        return Store(None, [text(sql) for (sql,) in rows])

    def close(self) -> None:
        """Close the file. What was committed stays."""
        self._db.close()

    def _migrate(self) -> None:
        if self._version() == len(STEPS):
            return
        with self._writing():
            version = self._version()  # again, behind the lock: another process may have been first
            if version > len(STEPS):
                raise StoreFailure(f"the database {self.path} was made by a newer firedamp", "upgrade firedamp")
            if version == 0 and self._db.execute("SELECT 1 FROM sqlite_master").fetchone() is not None:
                raise StoreFailure(f"{self.path} is a database, but not firedamp's", "name another with --db FILE")
            tables: Database = New(self._db)
            if version:  # to load sqlite-utils takes ten times as long as to make all tables
                import sqlite_utils

                tables = sqlite_utils.Database(self._db, execute_plugins=False)
            for step in STEPS[version:]:
                step(tables)
            self._db.execute(f"PRAGMA user_version = {len(STEPS)}")

    def _version(self) -> int:
        return int(self._db.execute("PRAGMA user_version").fetchone()[0])


def _open(path: Path | None) -> sqlite3.Connection:
    if path is None:
        return _prepared(sqlite3.connect(":memory:", isolation_level=None))
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    # SQLite gives -wal and -shm the mode of the main file, so it must be private before it opens. An existing file
    # is never opened here: closing any descriptor of it drops the locks that this process's other connections hold
    # (sqlite.org, "How To Corrupt An SQLite Database File", 2.2).
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    if path.is_symlink():
        raise OSError(f"{path} is a link")
    if not path.is_file():  # root's chmod would take /dev/null from everybody
        raise OSError(f"{path} is no regular file")
    if path.stat().st_mode & 0o077:
        path.chmod(0o600)
    return _prepared(sqlite3.connect(path, timeout=_BUSY_MS / 1000, check_same_thread=False, isolation_level=None))


def _remedy(path: Path | None) -> str:
    """Return what may make a database open: SQLite's own words name no cause."""
    # Of os.path: where a folder may not be looked at, or its name is too long, Path raises.
    if path is not None and os.path.isdir(path.parent) and not os.access(path.parent, os.W_OK):  # noqa: PTH112
        return f"{path.parent} cannot be written, and SQLite keeps files beside a database; --db FILE names another"
    return "is the disk full, or the file another program's? --db FILE names another"


def _prepared(db: sqlite3.Connection) -> sqlite3.Connection:
    db.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")
    _write_ahead(db)
    for pragma in ("synchronous = NORMAL", "foreign_keys = ON", "trusted_schema = OFF"):
        db.execute(f"PRAGMA {pragma}")
    return db


def _write_ahead(db: sqlite3.Connection) -> None:
    """Switch to a write-ahead log.

    SQLite does not wait where two processes would wait for each other, and two that switch at once do: one is told that
    the database is locked, whatever the timeout (sqlite.org, "sqlite3_busy_handler").
    """
    until = time.monotonic() + _BUSY_MS / 1000
    while True:
        try:
            db.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
            time.sleep(0.02)
        else:
            return
