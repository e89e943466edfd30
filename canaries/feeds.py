"""The ways CloudTrail records reach us: each a Feed, made from its URL."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from firedamp.storage.errors import NotBuilt, UsageFailure
from firedamp.storage.records import Outcome, Rejected, Skipped, Watermark


@dataclass(frozen=True, slots=True)
class Page:
    """What one read of a feed returned: parsed JSON records, what is no record, what could not be read."""

    records: Sequence[tuple[str, object]]
    """(where it stands, the record)"""
    rejected: Sequence[Rejected] = ()
    skipped: Sequence[Skipped] = ()
    position: str = ""
    """How far the feed is read once this page is committed."""


class Feed(Protocol):
    """A source of CloudTrail records that can be read again from where it was left."""

    name: str
    """The URL it was made from."""

    def pages(self, since: Watermark | None) -> Iterator[Page]:
        """Yield what is new since the watermark, oldest first as far as the feed can tell."""
        ...

    def acknowledge(self, page: Page) -> None:
        """Tell the feed that page is committed and need not be sent again."""
        ...


class FolderFeed:
    """Every trail file below a folder: gzip or plain, a JSON object with Records, a list, or a record a line."""

    def __init__(self, url: str) -> None:
        self.name = url
        self._root = Path(unquote(urlsplit(url).path))
        if not self._root.exists():
            raise UsageFailure(f"{self._root} does not exist", "file:///FOLDER takes an absolute path")

    def pages(self, since: Watermark | None) -> Iterator[Page]:  # noqa: ARG002 - the records' own ids tell old from new
        """Yield a page a file, in path order."""
        for path in sorted(p for p in self._root.rglob("*") if p.is_file() and not p.is_symlink()):
            yield _file_page(path)

    def acknowledge(self, page: Page) -> None:
        """Nothing: a folder keeps its files."""


def _file_page(path: Path) -> Page:
    try:
        data = path.read_bytes()
        if data.startswith(b"\x1f\x8b"):
            data = gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        return Page((), skipped=(Skipped(outcome=Outcome.FAILED, what=str(path), why=str(error)),))
    try:
        document = json.loads(data)
    except ValueError:
        return _lines_page(path, data)
    records = document.get("Records", [document]) if isinstance(document, dict) else document
    if not isinstance(records, list):
        return Page((), rejected=(Rejected(where=str(path), why="no list of records"),))
    return Page([(f"{path}#{n}", record) for n, record in enumerate(records)], position=str(path))


def _lines_page(path: Path, data: bytes) -> Page:
    records: list[tuple[str, object]] = []
    rejected: list[Rejected] = []
    for n, line in enumerate(data.splitlines(), 1):
        if not line.strip():
            continue
        try:
            records.append((f"{path}:{n}", json.loads(line)))
        except ValueError:
            rejected.append(Rejected(where=f"{path}:{n}", why="no JSON"))
    return Page(records, rejected, position=str(path))


def open_feed(url: str, now: datetime) -> Feed:  # noqa: ARG001 - the feeds of AWS need the clock
    """Make the feed that a URL names. Raises UsageFailure for a URL of no feed."""
    scheme = urlsplit(url).scheme
    if scheme == "file":
        return FolderFeed(url)
    if scheme in {"s3", "sqs", "lookup"}:
        raise NotBuilt(f"feeds of the kind {scheme}:// are not built yet")
    raise UsageFailure(f"{url} names no feed", "file:///FOLDER, s3://…, sqs://… or lookup://…")
