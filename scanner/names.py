"""Names of files, folders and members of containers in which a key id stands, as it is. Pure.

A name is looked at whole and by itself: what stands in it goes with no other name and no content.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from firedamp.storage.masking import KEY_ID

# A slash parts folders more often than it stands in a secret: with one, only what is as long as a secret is.
_LONG: Final = re.compile(r"[A-Za-z0-9+=_%-]{40}|(?<![A-Za-z0-9+/])[A-Za-z0-9+/]{40}(?![A-Za-z0-9+/])")


def with_key_id(names: Sequence[str]) -> list[str]:
    """Return the names that may hold a key id. They are looked at together first: few folders have one."""
    return [name for name in names if KEY_ID.search(name)] if KEY_ID.search("\n".join(names)) else []


def parts_with_key_id(path: str) -> Iterator[str]:
    """Yield a path up to each name in it that may hold a key id."""
    for found in KEY_ID.finditer(path):
        yield path[: found.end()] + path[found.end() :].partition("/")[0]


def may_hold_secret(name: str) -> bool:
    """Whether a name has room for a secret or a token: it must not be kept or shown as a path is."""
    return _LONG.search(name) is not None
