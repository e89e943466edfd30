"""What the parts of the store share: the connection and how a transaction begins."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TypeVar

from firedamp.storage.errors import StoreFailure
from firedamp.storage.times import parse_time

Value = str | int | float | bytes | None
Row = tuple[Value, ...]
Parameters = Sequence[Value] | Mapping[str, Value]
"""What stands for `?` in a statement, one after the other, or for `:name`. Not for `?1`: Python 3.12.0 to 3.12.3 warn
of that with a sequence (CPython's issue 117995)."""

_T = TypeVar("_T")


class Rows:
    """One connection to the database."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Hold the write lock from the first line on.

        A deferred BEGIN that reads and then writes fails at once when another process wrote in between; IMMEDIATE
        waits for its turn instead.
        """
        with _failures():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                # A full disk may fail here, and would leave the transaction open for whoever writes next.
                self._db.execute("COMMIT")
            except BaseException:
                self._db.rollback()
                raise

    def _all(self, sql: str, parameters: Parameters = ()) -> list[Row]:
        with _failures():
            return list(self._db.execute(sql, parameters).fetchall())

    def _one(self, sql: str, parameters: Parameters = ()) -> Row | None:
        with _failures():
            row: Row | None = self._db.execute(sql, parameters).fetchone()
        return row


@contextmanager
def _failures() -> Iterator[None]:
    """Turn what a full disk, a locked or a damaged file raises into a Failure; a bug of ours stays a bug."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise StoreFailure(f"the database cannot be used: {error}", "is the disk full, or the file locked?") from error
    except sqlite3.DatabaseError as error:
        # SQLITE_CORRUPT and SQLITE_NOTADB come as the plain class; its other children are mistakes of ours.
        if type(error) is not sqlite3.DatabaseError:
            raise
        raise StoreFailure(
            f"the database is damaged: {error}", "move it away: the next scan makes a new one"
        ) from error


def placeholders(count: int) -> str:
    """Return `?, ?, …` for an IN list."""
    return ", ".join("?" * count)


def chunks(values: Iterable[_T], size: int = 500) -> Iterator[list[_T]]:
    """Cut values into lists that fit into one statement's parameters."""
    chunk: list[_T] = []
    for value in values:
        chunk.append(value)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def text(value: Value) -> str:
    """Return a column that is declared NOT NULL TEXT."""
    if not isinstance(value, str):
        raise TypeError(f"text expected, {type(value).__name__} found")
    return value


def maybe_text(value: Value) -> str | None:
    """Return a column that is declared TEXT."""
    return None if value is None else text(value)


def time(value: Value) -> datetime:
    """Return a column that holds a time and is NOT NULL."""
    read = parse_time(text(value))
    if read is None:
        raise TypeError(f"time expected, {value!r} found")
    return read


def maybe_time(value: Value) -> datetime | None:
    """Return a column that holds a time or NULL."""
    return None if value is None else time(value)


def number(value: Value) -> int:
    """Return a column that is declared NOT NULL INTEGER."""
    if not isinstance(value, int):
        raise TypeError(f"integer expected, {type(value).__name__} found")
    return value


def listed(value: Value) -> tuple[str, ...]:
    """Return a column that holds a JSON list of text."""
    return tuple(json.loads(text(value)))


def pairs(value: Value) -> tuple[tuple[str, str], ...]:
    """Return a column that holds a JSON list of pairs of text."""
    return tuple((str(name), str(content)) for name, content in json.loads(text(value)))
