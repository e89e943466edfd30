"""Sets of object ids as sorted arrays: 20 or 32 bytes an object, and no Python object for any of them."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from firedamp.scanner.walk import shown
from firedamp.storage.records import SeenObjects
from firedamp.storage.store import Store

# numpy is loaded where it is needed: a scan in which nothing is new takes as long as that.
if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Ids: TypeAlias = "NDArray[np.uint8]"
"""Raw object ids, one a row: shape (objects, 20 or 32)."""


def empty(width: int) -> Ids:
    """Return no ids."""
    import numpy as np

    return np.empty((0, width), np.uint8)


def from_hex(names: list[str], width: int) -> Ids:
    """Return the raw ids of names; those of another width are left out."""
    import numpy as np

    raw = bytes.fromhex("".join(name for name in names if len(name) == 2 * width))
    return np.frombuffer(raw, np.uint8).reshape(-1, width)


def keys(ids: Ids) -> NDArray[np.bytes_]:
    """Return ids as one value each, which sort and compare as they do."""
    import numpy as np

    # numpy drops trailing NULs when it compares; ids of one width stay different without them.
    return np.ascontiguousarray(ids).view(f"S{ids.shape[1]}")[:, 0]


class IdSet:
    """A set that only grows: sorted runs, merged when they are of like size, so that there are few of them.

    What was added is sorted when it is asked for: what a first scan reads is only ever added.
    """

    def __init__(self) -> None:
        self._runs: list[NDArray[np.bytes_]] = []
        self._added: list[NDArray[np.bytes_]] = []

    def __len__(self) -> int:
        return sum(run.size for run in (*self._runs, *self._added))

    def add(self, ids: Ids) -> None:
        """Add ids; one that is in it already does no harm."""
        if len(ids):
            self._added.append(keys(ids).copy())

    def holds(self, ids: Ids) -> NDArray[np.bool_]:
        """Return for each of ids whether it is in the set. Fastest for sorted ids."""
        import numpy as np

        held = np.zeros(len(ids), np.bool_)
        if not len(ids):
            return held
        self._sort()
        wanted = keys(ids)
        for run in self._runs:
            held |= run[np.minimum(np.searchsorted(run, wanted), run.size - 1)] == wanted
        return held

    def _sort(self) -> None:
        import numpy as np

        if not self._added:
            return
        run = np.sort(np.concatenate(self._added))
        self._added.clear()
        while self._runs and self._runs[-1].size <= 2 * run.size:
            run = np.sort(np.concatenate((self._runs.pop(), run)), kind="stable")
        self._runs.append(run)


@dataclass(frozen=True, slots=True)
class Memory:
    """What counts as read in one place. folder and made are empty where it counts everywhere."""

    sets: tuple[IdSet, ...]
    """The last is the one that grows."""
    folder: str = ""
    made: str = ""

    def holds(self, ids: Ids) -> NDArray[np.bool_]:
        """Return for each of ids whether it was read."""
        import numpy as np

        held = np.zeros(len(ids), np.bool_)
        for one in self.sets:
            held |= one.holds(ids)
        return held

    def add(self, ids: Ids) -> SeenObjects:
        """Add ids that were read to the end; return what is to be committed, in one step with what they hold."""
        self.sets[-1].add(ids)
        return SeenObjects(width=ids.shape[1], ids=ids.tobytes(), folder=self.folder, made=self.made)


class Seen:
    """What this detector version has read: loaded once, shared by the sources of a scan.

    No git checks a hash when it reads, so an object folder may give any content any id. What was hashed counts in every
    repository, and so does all of our own clones, below ours: git hashed it when it fetched it. Other ids count in the
    folder that claims them, or a repository could lie and hide an object in another one.
    """

    def __init__(self, store: Store, detector: str, ours: Path) -> None:
        self._store = store
        self.detector = detector
        self._ours = Path(os.path.realpath(ours))
        self._hashed: dict[int, Memory] = {}

    def hashed(self, width: int) -> Memory:
        """Return what counts everywhere, of ids of width bytes."""
        if width not in self._hashed:
            self._hashed[width] = Memory((self._stored(width),))
        return self._hashed[width]

    def claimed(self, folder: Path, width: int) -> Memory:
        """Return what counts in an object folder, a real path."""
        hashed = self.hashed(width)
        if folder.is_relative_to(self._ours):
            return hashed
        name, made = shown(str(folder)), _made(folder)
        return Memory((*hashed.sets, self._stored(width, name, made)), name, made)

    def _stored(self, width: int, folder: str = "", made: str = "") -> IdSet:
        import numpy as np

        ids = IdSet()
        raw = b"".join(self._store.seen(self.detector, width, folder, made))
        ids.add(np.frombuffer(raw, np.uint8).reshape(-1, width))
        return ids


def _made(folder: Path) -> str:
    """Tell an object folder from another that stood, or will stand, at its path.

    The file `description` is written when a repository is made, and as a rule never again.
    """
    written = 0
    with contextlib.suppress(OSError):
        written = (folder.parent / "description").stat().st_mtime_ns
    return f"{folder.stat().st_ino} {written}"
