"""Names of files, folders, members of containers and entries of git trees in which a key id stands, as it is. Pure.

A name is looked at whole and by itself: what stands in it goes with no other name and no content.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from firedamp.storage.masking import KEY_ID

LONGEST_PATH: Final = 4096
"""Characters of a path: Linux takes no longer one (PATH_MAX)."""
# A slash parts folders more often than it stands in a secret: with one, only what is as long as a secret is.
_LONG: Final = re.compile(r"[A-Za-z0-9+=_%-]{40}|(?<![A-Za-z0-9+/])[A-Za-z0-9+/]{40}(?![A-Za-z0-9+/])")

_KEY_ID: Final = re.compile(KEY_ID.pattern.encode())
_AROUND: Final = re.compile(rb"[^\0\n]+")


def with_key_id(names: Sequence[str]) -> list[str]:
    """Return the names that may hold a key id. They are looked at together first: few folders have one."""
    return [name for name in names if KEY_ID.search(name)] if KEY_ID.search("\n".join(names)) else []


def parts_with_key_id(path: str) -> Iterator[str]:
    """Yield a path up to each name in it that may hold a key id."""
    for found in KEY_ID.finditer(path):
        yield path[: found.end()] + path[found.end() :].partition("/")[0]


def may_hold_key_id(text: bytes) -> bool:
    """Whether a key id may stand in some bytes."""
    return _KEY_ID.search(text) is not None


def around_key_ids(text: bytes) -> Iterator[bytes]:
    """Yield each key id that may stand in some bytes, with what is around it up to a NUL or a line's end."""
    for found in _KEY_ID.finditer(text):
        begin = max(text.rfind(b"\0", 0, found.start()), text.rfind(b"\n", 0, found.start())) + 1
        begin = max(begin, found.start() - LONGEST_PATH)
        yield from _AROUND.findall(text, begin, found.end() + LONGEST_PATH)[:1]


def key_ids(text: bytes) -> list[bytes]:
    """Return the key ids that may stand in some bytes."""
    return _KEY_ID.findall(text)


def names_with_key_id(tree: bytes | memoryview, width: int) -> tuple[bytes, ...]:
    """Return the names in a git tree that may hold a key id. width: bytes of an object id.

    An entry is `MODE NAME NUL ID` (decode_tree_entry of git's tree-walk.c). From where that is not so, all is one name.
    """
    if not _KEY_ID.search(tree):
        return ()
    text, at, names = bytes(tree), 0, list[bytes]()
    while at < len(text):
        begin, end = text.find(b" ", at) + 1, text.find(b"\0", at)
        if not at < begin < end:
            begin, end = at, len(text)
        if _KEY_ID.search(text, begin, end):
            names.append(text[begin:end])
        at = end + 1 + width
    return tuple(names)


def paths_with(names: Mapping[bytes, str], path: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield what names calls each part of a path that it has, and the path up to there."""
    at = 0
    while at <= len(path):
        end = path.find(b"/", at)
        end = len(path) if end < 0 else end
        if (called := names.get(path[at:end])) is not None:
            yield called, path[:end]
        at = end + 1


def may_hold_secret(name: str) -> bool:
    """Whether a name has room for a secret or a token: it must not be kept or shown as a path is."""
    return _LONG.search(name) is not None
