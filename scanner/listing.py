"""Which objects a repository has: packs from their indexes, loose ones from their names. Nothing is inflated."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from firedamp.scanner.idset import Ids, IdSet, empty, from_hex, keys
from firedamp.scanner.objects import Layout, ObjectAccess, is_id, loose_folders
from firedamp.scanner.packindex import PACK_HEADER, Kind, PackListing, Unfilterable, list_pack
from firedamp.scanner.walk import shown
from firedamp.storage.records import Outcome, Skipped

_T = TypeVar("_T")
_UNINDEXED: Final = "a pack without its index, which git passes by: `git index-pack` makes one"
_BEFORE: Final = "bytes stand before its first object, which git passes by"
_UNFINISHED: Final = ("tmp_objdir-*", "incoming-*", "pack/tmp_pack_*")
"""Where git collects what it is given until it is whole: its tmp-objdir.c (of older versions too) and index-pack."""


@dataclass(frozen=True, slots=True, eq=False)
class Listing:
    """Every object of a repository, each once; of large packs, as it was asked for, all but trees."""

    packs: tuple[tuple[PackListing, NDArray[np.int32]], ...]
    """Each pack, and which of its positions are to be read from it (those that no earlier pack has)."""
    rest: Ids
    """Loose objects, and those of packs that only git can list, trees among them."""
    twice: Ids
    """Loose objects that a pack has too, of which git reads that one."""
    skipped: tuple[Skipped, ...]

    def has(self, ids: Ids) -> NDArray[np.bool_]:
        """Return for each of ids whether the repository has it."""
        wanted, held = keys(ids), np.isin(keys(ids), keys(self.rest))
        for pack, _ in self.packs:
            if len(pack):
                names = keys(pack.index_ids)
                held |= names[np.minimum(np.searchsorted(names, wanted), names.size - 1)] == wanted
        return held

    def commits(self, loose: Ids) -> Ids:
        """Return every commit. loose: those among `rest`, whose types only git knows."""
        parts = [pack.ids(np.flatnonzero(pack.kinds == Kind.COMMIT).astype(np.int32)) for pack, _ in self.packs]
        return np.concatenate((*parts, loose))


def list_objects(layout: Layout, git: ObjectAccess, trees_below: float = 0) -> Listing:
    """List every object of the repository and of its alternates, in the order in which packs hold them.

    trees_below: bytes of the smallest pack whose trees are left out.
    """
    packs, rest = list[tuple[PackListing, NDArray[np.int32]]](), [empty(layout.width)]
    met, skipped = IdSet(), [*_passed_by(layout, git.irregular)]
    indexes = [*_told(_indexes(store, git.irregular) for store in layout.stores)]
    for _, path in sorted((each for each in indexes if not isinstance(each, Skipped)), reverse=True):
        index = Path(path)
        pack = index.with_suffix(".pack")
        listed = list_pack(pack, index, width=layout.width)
        if isinstance(listed, Unfilterable):
            ids = _shown(git, index, layout.width)
            if ids is None:
                skipped.append(Skipped(outcome=Outcome.FAILED, what=str(pack), why=listed.why))
            else:
                rest.append(ids)
            continue
        if listed.begin > PACK_HEADER:
            skipped.append(Skipped(outcome=Outcome.FAILED, what=shown(str(pack)), why=_BEFORE))
        positions = listed.everything() if listed.end < trees_below else listed.besides_trees()
        if len(positions):
            ids = listed.ids(positions)
            fresh = ~_held(met, ids)
            positions = positions[fresh]
            met.add(ids[fresh])
        packs.append((listed, positions))
    folders = [*_told(loose_folders(store) for store in layout.stores)]
    skipped += [each for each in folders if isinstance(each, Skipped)]
    readable = (folder for folder in folders if not isinstance(folder, Skipped))
    loose = [*_told(_loose(folder, layout.width, git.irregular) for folder in readable)]
    rest.append(from_hex([each for each in loose if isinstance(each, str)], layout.width))
    twice = rest[-1][met.holds(rest[-1])]
    skipped += [each for each in (*indexes, *loose) if isinstance(each, Skipped)]
    others = np.unique(np.concatenate(rest), axis=0) if len(rest) > 2 else np.concatenate(rest)
    return Listing(tuple(packs), others[~met.holds(others)], twice, tuple(skipped))


def _held(met: IdSet, ids: Ids) -> NDArray[np.bool_]:
    return met.holds(ids) if len(met) else np.zeros(len(ids), np.bool_)


def _told(parts: Iterable[Iterator[_T]]) -> Iterator[_T | Skipped]:
    """Yield what the parts yield; a folder that cannot be listed ends its part and is told."""
    for part in parts:
        try:
            yield from part
        except OSError as error:
            why = error.strerror or "cannot be listed"
            yield Skipped(outcome=Outcome.FAILED, what=os.fsdecode(error.filename or ""), why=why)


def _indexes(store: Path, hidden: frozenset[Path]) -> Iterator[tuple[int, str]]:
    """Yield size and path of pack indexes, but of those that are hidden themselves or whose pack is."""
    if os.path.lexists(store / "pack"):
        with os.scandir(store / "pack") as entries:
            for entry in entries:
                if entry.name.endswith(".idx") and hidden.isdisjoint(_both(store / "pack" / entry.name)):
                    yield entry.stat().st_size, entry.path


def _both(index: Path) -> tuple[Path, Path]:
    return index, index.with_suffix(".pack")


def _passed_by(layout: Layout, irregular: Collection[Path]) -> Iterator[Skipped]:
    """Yield what stands in the object folders and is read by nobody."""
    for path in sorted(irregular):
        yield Skipped(outcome=Outcome.FAILED, what=shown(str(path)), why="not a regular file")
    for store in layout.stores:
        for pack in sorted((store / "pack").glob("*.pack")):
            # Git makes an index right behind its pack, and removes it right before.
            if pack not in irregular and not os.path.lexists(pack.with_suffix(".idx")) and os.path.lexists(pack):
                yield Skipped(outcome=Outcome.FAILED, what=shown(str(pack)), why=_UNINDEXED)
        for path in sorted(path for pattern in _UNFINISHED for path in store.glob(pattern)):
            why = "a push or fetch that is under way or was broken off: git passes it by"
            yield Skipped(outcome=Outcome.LEFT_OUT, what=shown(str(path)), why=why)


def _shown(git: ObjectAccess, index: Path, width: int) -> Ids | None:
    """Return the ids that git reads from an index, None when it cannot."""
    try:
        with index.open("rb") as file:
            names = [line.split(b" ")[1].decode() for line in git.output("show-index", given=file)]
    except (OSError, IndexError):
        return None
    return from_hex(names, width) if names else None


def _loose(folder: Path, width: int, hidden: Collection[Path]) -> Iterator[str | Skipped]:
    """Yield the ids of the loose objects in one of their folders."""
    without, strangers = {path.name for path in hidden if path.parent == folder}, 0
    with os.scandir(folder) as entries:
        for entry in entries:
            name = folder.name + entry.name
            if is_id(name) and entry.name not in without:
                if len(name) == 2 * width:
                    yield name
                else:
                    strangers += 1
    if strangers:
        why = "objects named by another hash than the configuration says, which git passes by"
        yield Skipped(outcome=Outcome.FAILED, what=shown(str(folder)), why=why, count=strangers)
