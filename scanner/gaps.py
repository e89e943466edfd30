"""Bytes in a pack that are no part of any object, where the delta filter does not inflate: git passes them by."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from firedamp.scanner.packindex import PackListing
from firedamp.scanner.reading import OVERLAP, WINDOW, Hits

_STEP: Final = 1 << 16
"""Bytes of an entry that are inflated at a time."""


def with_gap(pack: PackListing, positions: NDArray[np.int32], hits: Hits) -> Iterator[int]:
    """Yield which of positions, ascending, have bytes behind their end in which something seems worth a look.

    To inflate every entry would take as long as git does. So the pack is looked at as it is stored, and only what holds
    a hit is inflated. A pack that is gone or cut short is left to git, which tells it.
    """
    if not positions.size:
        return
    try:
        stored = np.memmap(pack.pack, np.uint8, "r")
    except (OSError, ValueError):
        return
    begins, ends = pack.offsets[positions], pack.ends(positions)
    for low, high in _ranges(begins, ends):
        found = dict.fromkeys(
            min(at + end, high) - 1
            for at in range(low, high, WINDOW)
            for end in hits(stored[at : min(at + WINDOW + OVERLAP, high)].data)
        )
        places = np.searchsorted(begins, np.array([*found], np.int64), side="right") - 1
        for place in np.unique(places).tolist():
            position = int(positions[place])
            if _has_gap(stored, int(begins[place]) + int(pack.data[position]), int(ends[place])):
                yield position


def _ranges(begins: NDArray[np.int64], ends: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Yield where entries that stand side by side begin and end. There is one at least."""
    apart = np.flatnonzero(begins[1:] != ends[:-1])
    yield from zip(begins[[0, *(apart + 1)]].tolist(), ends[[*apart, -1]].tolist(), strict=True)


def _has_gap(stored: NDArray[np.uint8], begin: int, end: int) -> bool:
    """Whether a stream that begins there ends before the place end. A damaged one is git's to tell."""
    engine, at = zlib.decompressobj(), begin
    try:
        while at < end and not engine.eof:
            data = stored[at : min(at + _STEP, end)].tobytes()
            engine.decompress(data, WINDOW)
            at += len(data) - len(engine.unconsumed_tail)
    except zlib.error:
        return False
    return engine.eof and at - len(engine.unused_data) < end
