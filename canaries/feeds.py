"""The ways CloudTrail records reach us: each a Feed, made from its URL. A feed brings bytes; it reads no record."""

from __future__ import annotations

import base64
import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import SplitResult, unquote

from firedamp.canaries.trailfiles import Document
from firedamp.canaries.watchlist import digest
from firedamp.storage.errors import SourceFailure, UsageFailure
from firedamp.storage.records import Outcome, Rejected, Skipped, WatchedKey, Watermark

LARGEST: Final = 1 << 28
"""Bytes of one file as it is stored: more is not read. CloudTrail's own hold a few megabytes."""

_PAGE_FILES: Final = 256
PAGE_BYTES: Final = 1 << 25
"""Bytes of documents, as they are stored, from which on a page holds no more."""
_SIBLINGS: Final = ("CloudTrail-Digest", "CloudTrail-Insight")
"""Folders beside a trail's own that hold no records (CloudTrail guide, "Finding your CloudTrail log files")."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What one read of a feed returned: documents, what is none, what could not be read.

    gone are those of skipped that somebody deleted before they were read, by address: they are alarmed for.
    position is how far the feed is read once this page is committed, None when that has not changed. receipt is what
    the feed needs to acknowledge it; nobody else looks inside. unread is filled by whoever reads the page: where those
    documents stand that could not be read, and are to be sent again.
    """

    documents: Sequence[Document] = ()
    rejected: Sequence[Rejected] = ()
    skipped: Sequence[Skipped] = ()
    gone: Sequence[str] = ()
    position: str | None = None
    receipt: Sequence[str] = ()
    unread: set[str] = field(default_factory=set)


class Feed(Protocol):
    """A source of CloudTrail records that can be read again from where it was left."""

    @property
    def name(self) -> str:
        """The URL it was made from."""
        ...

    def pages(self, since: Watermark | None) -> Iterator[Page]:
        """Yield what is new since the watermark, oldest first as far as the feed can tell. Raises SourceFailure."""
        ...

    def acknowledge(self, page: Page) -> None:
        """Tell the feed that page is committed and need not be sent again."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What feeds need of the world: all of it arguments.

    clients makes an AWS client of (service, region, profile). watched returns the keys that are watched now.
    """

    clients: Callable[[str, str | None, str | None], Any]
    watched: Callable[[], Sequence[WatchedKey]]
    clock: Callable[[], datetime]
    sleep: Callable[[float], None]


class FolderFeed:
    """Every file below a folder, links not followed. A file that did not change is not opened again.

    When other keys are watched than at the last poll, everything is read again: they may stand in files already read.
    """

    def __init__(self, url: SplitResult, world: World, largest: int = LARGEST) -> None:
        self.name = url.geturl()
        if url.netloc not in {"", "localhost"} or not url.path.startswith("/"):  # `file://logs` would be this folder
            raise UsageFailure(f"{self.name} names no folder of this machine", "file:///FOLDER takes an absolute path")
        self._root = Path(unquote(url.path))
        self._watched = world.watched
        self._largest = largest

    def pages(self, since: Watermark | None) -> Iterator[Page]:
        """Yield pages of many files, in path order; the position moves with the last."""
        try:
            self._root.stat()
        except OSError as error:  # gone as a whole, it is no folder without files
            what = f"{self._root} cannot be read: {error.strerror}"
            raise SourceFailure(what, "file:///FOLDER takes an absolute path") from error
        memory = _Memory.of(since, digest(self._watched()))
        documents: list[Document] = []
        skipped: list[Skipped] = []
        size = 0
        for path in self._files(skipped):
            taken = self._taken(path, memory)
            if isinstance(taken, Skipped):
                skipped.append(taken)
            elif taken is not None:
                documents.append(taken)
                size += len(taken.data)
            if size >= PAGE_BYTES or len(documents) >= _PAGE_FILES:
                yield from _page(documents, skipped, memory)
                documents, skipped, size = [], [], 0
        yield from _page(documents, skipped, memory)
        yield Page(position=memory.position())

    def acknowledge(self, page: Page) -> None:
        """Nothing: a folder keeps its files."""

    def _files(self, skipped: list[Skipped]) -> Iterator[Path]:
        if not self._root.is_dir():
            yield self._root
            return

        def failed(error: OSError) -> None:
            skipped.append(_unread(str(error.filename), error))

        for folder, folders, names in os.walk(self._root, onerror=failed):
            for name in [name for name in folders if name in _SIBLINGS]:
                why = "digest and Insight files are no records"
                skipped.append(Skipped(outcome=Outcome.LEFT_OUT, what=str(Path(folder, name)), why=why))
                folders.remove(name)
            folders.sort()
            yield from (Path(folder, name) for name in sorted(names))

    def _taken(self, path: Path, memory: _Memory) -> Document | Skipped | None:
        """Read a file that is new or changed."""
        try:
            about = path.lstat()
            if not stat.S_ISREG(about.st_mode):
                return Skipped(outcome=Outcome.LEFT_OUT, what=str(path), why="a link or no regular file")
            seen = hashed(f"{path}\0{about.st_size}\0{about.st_mtime_ns}\0{about.st_ino}")
            if memory.knows(seen):
                return None
            if about.st_size > self._largest:
                return Skipped(outcome=Outcome.FAILED, what=str(path), why=f"more than {self._largest} bytes")
            handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
            with os.fdopen(handle, "rb") as file:
                data = file.read(self._largest + 1)
        except OSError as error:
            return _unread(str(path), error)
        memory.add(str(path), seen)
        return Document(str(path), data)


def _page(documents: list[Document], skipped: list[Skipped], memory: _Memory) -> Iterator[Page]:
    page = Page(documents=documents, skipped=skipped)
    yield page
    memory.forget(page.unread)


@dataclass(slots=True)
class _Memory:
    """What a feed read before: 8 bytes a file, valid for one set of watched keys."""

    digest: str
    before: frozenset[bytes]
    still: set[bytes] = field(default_factory=set)
    read_now: dict[str, bytes] = field(default_factory=dict)

    @classmethod
    def of(cls, since: Watermark | None, digest: str) -> _Memory:
        digest_then, _, text = ("" if since is None else since.position).partition(":")
        if digest_then != digest:
            return cls(digest, frozenset())
        packed = base64.b64decode(text)
        return cls(digest, frozenset(packed[at : at + 8] for at in range(0, len(packed), 8)))

    def knows(self, seen: bytes) -> bool:
        if seen not in self.before:
            return False
        self.still.add(seen)
        return True

    def add(self, what: str, seen: bytes) -> None:
        self.read_now[what] = seen

    def forget(self, unread: Iterable[str]) -> None:
        for what in unread:
            self.read_now.pop(what, None)

    def position(self) -> str:
        kept = sorted(self.still.union(self.read_now.values()))
        return f"{self.digest}:{base64.b64encode(b''.join(kept)).decode()}"


def hashed(text: str) -> bytes:
    """Return 8 bytes that stand for a name among millions."""
    return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).digest()


def _unread(what: str, error: OSError) -> Skipped:
    if isinstance(error, FileNotFoundError):
        return Skipped(outcome=Outcome.GONE, what=what, why="vanished while it was read")
    return Skipped(outcome=Outcome.FAILED, what=what, why=error.strerror or str(error))
