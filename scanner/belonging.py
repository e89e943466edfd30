"""What of all that a clone can read is its repository's own, where it shares objects with other forks."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from firedamp.scanner.history import kinds_of
from firedamp.scanner.idset import Ids, from_hex
from firedamp.scanner.listing import list_objects
from firedamp.scanner.objects import ObjectAccess, lined, tips
from firedamp.storage.records import GitProvenance


@dataclass(frozen=True, slots=True)
class Belonging:
    """What of all that a clone can read is the repository's own: what its refs reach, and what itself has fetched."""

    commits: Ids
    _names: Collection[str]

    def has(self, name: str, place: GitProvenance) -> bool:
        """Whether an object that is met so is the repository's: a blob at a path, by the walk over its own commits.

        What has no path, a commit's own text, a tag, an object in no commit, if it was fetched or is reached.
        """
        return place.path is not None or name in self._names


def belonging(git: ObjectAccess, names: Collection[str]) -> Belonging:
    """Tell what belongs to a clone that borrows. names are the objects that will be asked for.

    A lender has commits that this repository never had: they are its own to answer for.
    """
    layout = git.layout
    tipped = tips(layout)
    reached = [line.decode() for line in git.output("rev-list", "--ignore-missing", "--stdin", lines=lined(tipped))]
    with ObjectAccess(replace(layout, stores=layout.stores[:1], fenced=True)) as alone:
        listing = list_objects(alone.layout, alone)
        loose = [row.tobytes().hex() for row in listing.rest]
        fetched = from_hex([name for name, kind in kinds_of(alone, loose) if kind == "commit"], layout.width)
        held = {name for name, _ in kinds_of(alone, names)}
    # In the order in which history is walked: sorted by name they would be read from all over the packs.
    every = dict.fromkeys((*reached, *(row.tobytes().hex() for row in listing.commits(fetched))))
    return Belonging(from_hex(list(every), layout.width), held | tipped | every.keys() & set(names))
