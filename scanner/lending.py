"""Forks share their objects on disk: what one clone of a network has is linked into the next, as its alternate.

A clone that borrows holds, inside its own object folder, a small repository of hard links to the packs and loose
objects of a relative. So nobody depends on anybody: a file is gone when its last link is, and a clone may be renamed or
removed whatever else borrows the same bytes. No path leads out of a clone.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from firedamp.scanner.objects import find, is_loose_name, tips
from firedamp.storage.errors import SourceFailure
from firedamp.storage.records import Outcome

_LENT: Final = "lent"
"""The repository of links, below the object folder of a clone."""


def lent_in(clone: Path) -> Path:
    """Return where a clone keeps what it borrows: a folder that is there only if it borrows."""
    return clone / "objects" / _LENT


def borrow(lender: Path, into: Path) -> None:
    """Link all objects of the clone at lender into the repository of links at into, which is made if it is not there.

    git takes the tips that it names for what is there already, and asks a server for the rest only (git-clone(1),
    `--reference`). Raises OSError where there are no hard links, or lender is removed meanwhile; what was linked by
    then does no harm. Raises SourceFailure for a lender that is no repository, or one that lost a part.
    """
    layout = find(lender)
    if any(each.outcome is Outcome.FAILED for each in layout.skipped):
        raise SourceFailure(f"{lender} is damaged", "it lends nothing")
    # Before the objects: whatever a tip needs is there when they are linked.
    names = sorted(tips(layout))
    for folder in ("refs", "objects/pack", "objects/info"):
        (into / folder).mkdir(parents=True, exist_ok=True)
    for store in layout.stores:
        for path in _objects(store):
            link = into / "objects" / path.relative_to(store)
            link.parent.mkdir(exist_ok=True)
            with suppress(FileExistsError):
                os.link(path, link, follow_symlinks=False)
    form = "[extensions]\nobjectFormat = sha256\n" if layout.width == 32 else ""
    (into / "config").write_text(f"[core]\nrepositoryformatversion = {int(bool(form))}\nbare = true\n{form}")
    (into / "HEAD").write_text("ref: refs/heads/none\n")
    (into / "packed-refs").write_text("".join(f"{name} refs/lent/{at:08}\n" for at, name in enumerate(names)))


def settle(lent: Path, clone: Path) -> None:
    """Move the repository of links into the clone that was made with it, and name it there by a path that stays."""
    lent.rename(lent_in(clone))
    (clone / "objects" / "info" / "alternates").write_text(f"{_LENT}/objects\n")


def _objects(store: Path) -> Iterator[Path]:
    """Yield the packs, each before its index, and the loose objects of an object folder."""
    for index in (store / "pack").glob("pack-*.idx"):
        yield index.with_suffix(".pack")
        yield index
    for path in store.glob("[0-9a-f][0-9a-f]/*"):
        if is_loose_name(path.name):
            yield path
