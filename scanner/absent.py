"""What a repository should have and has not: in no listing, so git is asked to follow every ref and count."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Self

from firedamp.scanner.objects import ObjectAccess, lined, tips
from firedamp.storage.records import Outcome


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
        command = ("rev-list", "--objects", "--no-object-names", "--missing=print", "--ignore-missing", "--stdin")
        with self._git.start(*command, lines=lined(tips(self._git.layout))) as running:
            while not self._stopped and (block := running.stdout.read(1 << 20)):
                self._count += block.count(b"?")
