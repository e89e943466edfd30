"""Where blobs come from: the Source protocol and what a source yields."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Protocol

from firedamp.storage.records import Provenance, Skipped, Tally


@dataclass(frozen=True, slots=True)
class Blob:
    """Bytes worth a look: the prefilter saw something in them, or they are a container.

    id is git's hash of the whole content, for files too. data is the content, or one window of it when the content is
    too large to hold; then first_line and first_column (in code points) say where the window begins.
    """

    id: str
    data: bytes
    first_line: int = 1
    first_column: int = 1


@dataclass(frozen=True, slots=True)
class Known:
    """A blob that an earlier scan with the same detectors read: only its provenance may be new."""

    id: str


Item = Blob | Known | Skipped | Tally
"""What a source yields. A Tally adds to the counts so far; a Skipped is shown and counted, never only logged."""


class Seen(Protocol):
    """Which objects and files the detectors of this version have read before."""

    def __contains__(self, blob_id: str) -> bool:
        """Whether a blob was read before."""
        ...


class Source(Protocol):
    """A repository, a folder or a stream.

    `blobs` yields every blob worth a look, what was known and what could not be read. `provenance` is asked once, at
    the end, for the blobs that hold a credential, and yields every way each of them is met.
    """

    name: str
    """Said in every match: `git`, `folder` or `stdin`."""
    target: str
    """The path or URL that the user knows it by; holds no user-info."""

    def blobs(self) -> Iterator[Item]:
        """Yield what is new, what is known, what was skipped and the counts."""
        ...

    def provenance(self, ids: Collection[str]) -> Iterator[tuple[str, Provenance]]:
        """Yield (blob id, one way it is met) for each of ids, at least one for each."""
        ...
