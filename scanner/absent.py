"""What a repository should have and has not: in no listing, so git is asked to follow every ref and count."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from firedamp.scanner.idset import from_hex
from firedamp.scanner.objects import ObjectAccess, lined, tips
from firedamp.storage.records import Outcome

if TYPE_CHECKING:
    from firedamp.scanner.listing import Listing

_FEW: Final = 10_000
"""Objects of a repository whose history is followed though nothing says that some are absent: 50 milliseconds."""


class Absent:
    """Counts absent objects while the others are read: only where some may be absent without damage being seen.

    That is a partial clone, or an alternate that is not there. What lies beyond a shallow boundary does not count.
    """

    def __init__(self, git: ObjectAccess) -> None:
        self._git = git
        broken = any(each.outcome is Outcome.FAILED for each in git.layout.skipped)
        self._thread = threading.Thread(target=self._walk) if git.layout.promisor or broken else None
        self._count = 0
        self._stopped = False

    def __enter__(self) -> Self:
        if self._thread is not None:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped = True
        if self._thread is not None:
            self._thread.join()

    def count(self) -> int:
        """Wait for the walk to end and return how many objects are absent."""
        if self._thread is not None:
            self._thread.join()
        return self._count

    def _walk(self) -> None:
        for count in _followed(self._git, tips(self._git.layout)):
            self._count += count
            if self._stopped:
                break


def lost(git: ObjectAccess, listing: Listing) -> int:
    """Count what a repository that should be whole has lost: what its refs name, and what these need.

    In a large one whose refs name nothing that is absent, history is not followed: it would take as long as a scan.
    Not every git counts commits that are absent: where it counts nothing and yet stops, that is one.
    """
    from firedamp.scanner.history import kinds_of

    layout = git.layout
    named = {name for name in tips(layout) if len(name) == 2 * layout.width}
    held = listing.has(from_hex(sorted(named), layout.width))
    absent = {name for name, has in zip(sorted(named), held.tolist(), strict=True) if not has}
    if absent:  # what came after the listing is not lost
        absent.difference_update([name for name, _ in kinds_of(git, absent)])
    few = sum(len(pack) for pack, _ in listing.packs) + len(listing.rest) <= _FEW
    if not absent and (not few or _whole(git, named)):
        return 0
    return max(1, len(absent) + sum(_followed(git, named)))


def _whole(git: ObjectAccess, names: Collection[str]) -> bool:
    """Whether all that these objects need is there: git asks itself so when it has fetched (its connected.c)."""
    with git.start("rev-list", "--objects", "--quiet", "--stdin", lines=lined(names)) as running:
        running.stdout.read()
        return running.process.wait() == 0


def _followed(git: ObjectAccess, names: Collection[str]) -> Iterator[int]:
    """Follow history from these objects, and yield counts of what is absent in it, but for names themselves."""
    command = ("rev-list", "--objects", "--no-object-names", "--missing=print", "--ignore-missing", "--stdin")
    with git.start(*command, lines=lined(names)) as running:
        while block := running.stdout.read(1 << 20):
            yield block.count(b"?")
