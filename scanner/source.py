"""Where blobs come from: the Source protocol and what a source yields."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from firedamp.storage.records import GitProvenance, Met, Provenance, SeenObjects, Skipped, SourceState, Tally


@dataclass(frozen=True, slots=True)
class Blob:
    """Bytes worth a look: the prefilter saw something in them, or they are a container.

    id is git's hash of the whole content, for files too. data is the content, or one window of it when the content is
    too large to hold; then first_line and first_column (in code points) say where the window begins, and window is set:
    no container begins in it. Of a container too large to hold, data is the beginning and tail the end, no more. path
    is the file with the content, where there is one: a container is opened from there.
    spooled: it was put there to be opened, and nobody knows it by that path. lines is False for a file's name, which
    is looked at as it is and has none.
    """

    id: str
    data: bytes
    first_line: int = 1
    first_column: int = 1
    window: bool = False
    tail: bytes = b""
    path: str | None = None
    spooled: bool = False
    lines: bool = True


@dataclass(frozen=True, slots=True)
class Known:
    """A blob that an earlier scan with the same detectors read: only its provenance may be new."""

    id: str


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Everything yielded before this was read to the end: what may now be remembered, and what was read since the last.

    The scan commits the findings so far together with seen, states, and the ways blobs were met and are met no longer,
    as far as the source knows them by now: a crash costs a second read only, and leaves no finding without a place.
    """

    tally: Tally = Tally()
    seen: tuple[SeenObjects, ...] = ()
    states: tuple[SourceState, ...] = ()
    met: tuple[Met, ...] = ()
    gone: tuple[Met, ...] = ()


@dataclass(frozen=True, slots=True)
class Nested:
    """A repository met inside a folder: the folder does not read it, the scan opens it as a source of its own."""

    path: str


@dataclass(frozen=True, slots=True)
class Borrowed:
    """An object folder elsewhere that a repository borrows from: read with it, and named."""

    path: str


Item = Blob | Known | Nested | Borrowed | Skipped | Checkpoint
"""What a source yields. A Skipped is shown and counted, never only logged."""


def condensed(met: Iterable[Met]) -> str:
    """Condense ways in which blobs are met in one repository.

    What a source remembers counts while the store holds what it held then: another scan may have taken a repository
    that was moved away for gone, and it may have been moved back since.
    """
    places = {(each.blob, each.provenance) for each in met}
    told = sorted(
        repr((blob, place.commit, place.path, place.in_head))
        for blob, place in places
        if isinstance(place, GitProvenance)
    )
    return hashlib.blake2b("\n".join(told).encode(), digest_size=16).hexdigest()


class Source(Protocol):
    """A repository, a folder or a stream. It is made with the store, and asks it what was read before.

    `blobs` yields every blob worth a look, what was known and what could not be read. `provenance` is asked once, at
    the end, for the blobs that hold a credential, and yields every way each of them is met.
    """

    @property
    def name(self) -> str:
        """Said in every match: `git`, `folder` or `stdin`."""
        ...

    @property
    def target(self) -> str:
        """The absolute path or URL that the user knows it by; holds no user-info."""
        ...

    def blobs(self) -> Iterator[Item]:
        """Yield what is new, what is known, what was skipped and the counts."""
        ...

    def unread(self, blob: str, failed: Skipped) -> None:
        """Do not remember this blob as read: a part of it could not be looked through. Called before the next item."""
        ...

    def gone(self, met: Iterable[Met]) -> Iterator[Met]:
        """Yield those of met, recorded by earlier scans of this target, that hold no longer. Asked after `blobs`."""
        ...

    def unsure(self, met: Iterable[Met]) -> Iterator[Met]:
        """Yield those of met of which this scan could not find out whether they hold. Asked after `blobs`."""
        ...

    def provenance(self, ids: Collection[str]) -> Iterator[tuple[str, Provenance]]:
        """Yield (blob id, one way it is met) for each of ids, at least one for each."""
        ...
