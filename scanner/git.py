"""Every object of a git repository, reachable or not, and the text beside them in its git folder.

Trees are not read: they hold names, not content. What was read by this detector version, in whichever repository, is
not read again; and while packs, loose folders, refs and the other files are those of the last complete scan, nothing
is even listed.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from firedamp.scanner import gitfiles
from firedamp.scanner.history import kinds_of, trace
from firedamp.scanner.idset import Ids, Seen, empty, from_hex, keys
from firedamp.scanner.listing import Listing, list_objects
from firedamp.scanner.mirror import clone_of, is_url, unbundled
from firedamp.scanner.objects import Layout, ObjectAccess, find
from firedamp.scanner.reading import Hits, Reader, Share, Unread
from firedamp.scanner.source import Blob, Checkpoint, Item, Known, Nested
from firedamp.storage.errors import SourceFailure
from firedamp.storage.records import (
    GitProvenance,
    Met,
    Outcome,
    Provenance,
    SeenObjects,
    Skipped,
    SourceState,
    Tally,
)
from firedamp.storage.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How repositories are read. container says by its first bytes whether an object must be looked into."""

    hits: Hits
    container: Callable[[bytes], bool]
    jobs: int = 2


class GitSource:
    """A repository: a work tree, a git folder, or a clone of ours that stands for a URL."""

    name: Final = "git"

    def __init__(self, place: Callable[[], Path], store: Store, seen: Seen, settings: Settings, *, target: str) -> None:
        """Make the source of the repository that place returns: a work tree, a git folder, a clone of ours.

        place is called when the scan comes to it: it may clone or fetch first. target is what the user knows it by.
        """
        self.target = target
        # A folder source of the same work tree remembers under the plain path.
        self._state = f"git:{target}"
        self._place = place
        self._store = store
        self._seen = seen
        self._settings = settings
        self._listing: Listing | None = None
        self._layout: Layout | None = None
        self._loose_commits = empty(20)
        self._files: dict[str, list[str]] = {}
        self._placed: dict[str, set[tuple[str | None, str | None]]] = {}
        self._unread: set[str] = set()
        self._failed = 0

    def blobs(self) -> Iterator[Item]:
        """Yield the submodules' repositories, then text beside the objects, then objects worth a look."""
        layout = self._layout = find(self._place())
        yield from (Nested(str(path)) for path in gitfiles.modules(layout))
        for skipped in layout.skipped:
            yield self._told(skipped)
        stamp = gitfiles.stamp(layout)
        known = self._unchanged(stamp)
        if known is not None:
            yield Checkpoint(Tally(known=known))
            return
        yield from self._beside(layout)
        with ObjectAccess(layout) as git:
            listing = self._listing = list_objects(layout, git)
            for skipped in listing.skipped:
                yield self._told(skipped)
            holding = from_hex(sorted(self._store.blobs_with_findings()), layout.width)
            yield from (Known(row.tobytes().hex()) for row in holding[listing.has(holding)])
            counted = 0
            for item in self._objects(listing, git):
                match item:
                    case Checkpoint():
                        counted += item.tally.objects + item.tally.known + item.tally.ruled_out
                        yield item
                    case Skipped():
                        yield self._told(item)
                    case _:
                        yield item
            self._loose_commits = _commits(git, listing.rest)
        if not self._failed and stamp.settled:
            value = json.dumps({"stamp": stamp.digest, "known": counted}).encode()
            state = SourceState(target=self._state, detector=self._seen.detector, value=value)
            yield Checkpoint(states=(state,))

    def _told(self, skipped: Skipped) -> Skipped:
        self._failed += skipped.outcome is Outcome.FAILED
        return skipped

    def _unchanged(self, stamp: gitfiles.Stamp) -> int | None:
        """Return how many objects the repository had when it was last read whole, if nothing changed since."""
        state = self._store.source_state(self._state, self._seen.detector)
        if state is None:
            return None
        remembered = json.loads(state.value)
        return int(remembered["known"]) if remembered["stamp"] == stamp.digest else None

    def _objects(self, listing: Listing, git: ObjectAccess) -> Iterator[Item]:
        """Read what was never read, share by share."""
        layout = git.layout
        seen = self._seen.of(layout.width)
        parts = [pack.ids(positions) for pack, positions in listing.packs] + [listing.rest]
        every = np.concatenate(parts)
        old = seen.holds(every)
        yield Checkpoint(Tally(known=int(np.count_nonzero(old))))
        reader = Reader(git=git, hits=self._settings.hits, container=self._settings.container, jobs=self._settings.jobs)
        absent = 0
        for item in reader.read(every[~old]):
            match item:
                case Blob():
                    yield item
                case Unread(id=name, absent=False):
                    yield Skipped(outcome=Outcome.FAILED, what=f"{self.target} {name}", why="corrupt object")
                case Unread():
                    absent += 1
                case Share(ids=ids, tally=tally):
                    if self._unread:
                        ids = ids[~np.isin(keys(ids), keys(from_hex(sorted(self._unread), layout.width)))]
                    yield Checkpoint(tally, seen=(SeenObjects(width=layout.width, ids=ids.tobytes()),))
                    seen.add(ids)
        if absent:
            why = "listed, but git cannot give them: damaged, or removed meanwhile"
            yield Skipped(outcome=Outcome.FAILED, what=f"{self.target} objects", why=why, count=absent)

    def _beside(self, layout: Layout) -> Iterator[Item]:
        """Yield what the git folder holds besides objects: configuration, reflogs, hooks, LFS content."""
        settings, tally = self._settings, Tally()
        for path in itertools.chain(gitfiles.text_files(layout), gitfiles.lfs_files(layout)):
            content = gitfiles.read(path, settings.hits, layout.width)
            if isinstance(content, Skipped):
                yield self._told(content)
                continue
            tally += Tally(files=1, bytes=content.size)
            if content.interesting or settings.container(content.head):
                place = path.relative_to(layout.root) if path.is_relative_to(layout.root) else path
                self._files.setdefault(content.blob, []).append(str(place))
                yield from gitfiles.pieces(path, content.blob, settings.hits)
        yield Checkpoint(tally)

    def unread(self, blob: str) -> None:
        """Do not remember this blob as read; the repository is listed again next time."""
        self._unread.add(blob)
        self._failed += 1

    def provenance(self, ids: Collection[str]) -> Iterator[tuple[str, Provenance]]:
        """Yield every way these blobs are met: all of them in one walk over the history."""
        for blob, place in self._provenance(ids):
            self._placed.setdefault(blob, set()).add((place.commit, place.path))
            yield blob, place

    def _provenance(self, ids: Collection[str]) -> Iterator[tuple[str, GitProvenance]]:
        for blob in ids:
            for path in self._files.get(blob, []):
                yield blob, GitProvenance(repository=self.target, path=path)
        if self._layout is not None and self._listing is not None and ids:
            with ObjectAccess(self._layout) as git:
                yield from trace(git, self._listing.commits(self._loose_commits), ids, self.target)

    def gone(self, met: Iterable[Met]) -> Iterator[Met]:
        """Yield ways recorded before that no longer hold: pruned objects, rewritten history, edited configuration."""
        if self._listing is None or self._failed:
            return
        for each in met:
            match each.provenance:
                case GitProvenance(commit=commit, path=path):
                    if (commit, path) not in self._placed.get(each.blob, set()):
                        yield each
                case _:
                    continue


def _commits(git: ObjectAccess, rest: Ids) -> Ids:
    names = (row.tobytes().hex() for row in rest)
    return from_hex([name for name, kind in kinds_of(git, names) if kind == "commit"], rest.shape[1])


def read_again(place: GitProvenance, blob: str, cache: Path) -> Iterator[Blob]:
    """Yield an object, or a file beside the objects, if it is still what was found there: whole, or in windows.

    place's repository is a path, or the URL or bundle whose repository stands in cache.
    """
    path = Path(place.repository)
    if is_url(place.repository):
        path = clone_of(place.repository, cache)
    elif path.is_file():
        path = unbundled(path, cache)
    try:
        layout = find(path)
    except SourceFailure:
        return
    if place.commit is None and place.path is not None:
        content = gitfiles.read(layout.root / place.path, _everything, layout.width)
        if isinstance(content, gitfiles.Content) and content.blob == blob:
            yield from gitfiles.pieces(layout.root / place.path, blob, _everything)
        return
    with ObjectAccess(layout) as git:
        reader = Reader(git=git, hits=_everything, container=bool)
        for item in reader.read(from_hex([blob], layout.width)):
            if isinstance(item, Blob):
                yield item


def _everything(window: memoryview) -> list[int]:
    return [len(window)]
