"""Sets of object ids as sorted arrays: 20 or 32 bytes an object, and no Python object for any of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from firedamp.storage.store import Store

Ids = NDArray[np.uint8]
"""Raw object ids, one a row: shape (objects, 20 or 32)."""


def empty(width: int) -> Ids:
    """Return no ids."""
    return np.empty((0, width), np.uint8)


def from_hex(names: list[str], width: int) -> Ids:
    """Return the raw ids of names; those of another width are left out."""
    raw = bytes.fromhex("".join(name for name in names if len(name) == 2 * width))
    return np.frombuffer(raw, np.uint8).reshape(-1, width)


def keys(ids: Ids) -> NDArray[np.bytes_]:
    """Return ids as one value each, which sort and compare as they do."""
    # numpy drops trailing NULs when it compares; ids of one width stay different without them.
    return np.ascontiguousarray(ids).view(f"S{ids.shape[1]}")[:, 0]


class IdSet:
    """A set that only grows: sorted runs, merged when they are of like size, so that there are few of them."""

    def __init__(self) -> None:
        self._runs: list[NDArray[np.bytes_]] = []

    def __len__(self) -> int:
        return sum(run.size for run in self._runs)

    def add(self, ids: Ids) -> None:
        """Add ids; one that is in it already does no harm."""
        if not len(ids):
            return
        run = np.sort(keys(ids))
        while self._runs and self._runs[-1].size <= 2 * run.size:
            run = np.sort(np.concatenate((self._runs.pop(), run)), kind="stable")
        self._runs.append(run)

    def holds(self, ids: Ids) -> NDArray[np.bool_]:
        """Return for each of ids whether it is in the set. Fastest for sorted ids."""
        wanted = keys(ids)
        held = np.zeros(len(ids), np.bool_)
        for run in self._runs:
            held |= run[np.minimum(np.searchsorted(run, wanted), run.size - 1)] == wanted
        return held


class Seen:
    """What this detector version has read, in whichever repository: loaded once, shared by the sources of a scan."""

    def __init__(self, store: Store, detector: str) -> None:
        self._store = store
        self.detector = detector
        self._sets: dict[int, IdSet] = {}

    def of(self, width: int) -> IdSet:
        """Return the set of ids of width bytes."""
        if width not in self._sets:
            raw = b"".join(self._store.seen(self.detector, width))
            self._sets[width] = IdSet()
            self._sets[width].add(np.frombuffer(raw, np.uint8).reshape(-1, width))
        return self._sets[width]
