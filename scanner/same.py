"""Folders in which every file is known, told by compiled code: to ask for each file is what an unchanged tree costs.

Python takes five microseconds for a file that need not be opened, the system two. What holds anything but folders and
plain files that are known is not judged here: `walk` lists such a folder itself.
"""

from __future__ import annotations

import os
import sys
from array import array
from pathlib import Path
from typing import Any, Final, NamedTuple

from firedamp.scanner import jit
from firedamp.scanner.jit import Foreign
from firedamp.scanner.names import may_hold_key_id

MANY: Final = 10_000
"""Known files that are worth loading the compiled code: that takes as long as asking for some thousands."""
_ROOM: Final = 256 << 10
"""Bytes of a folder's list of names: one with more than some thousands is listed by Python."""
_LEAST: Final = 24
"""Bytes of the shortest entry in it."""
_OWN: Final = (b"\x04.git\0", b"\x08.git\0", b"\x04objects\0", b"-wal\0")
"""Names that make a folder more than a place of files (`walk`), with the type that stands before them."""

_Array = Any
"""An array of one dimension; compiled code gets a pointer."""
_entries: Final = Foreign("", "getdents64", "lll", "l")
_status: Final = Foreign("", "statx", "lllll", "i")

# How Python hashes a tuple (Objects/tupleobject.c, after xxHash), as signed numbers, and the modulus of its integers.
_NUMBERS: Final = array(
    "q",
    [
        0x27D4EB2F165667C5,
        0x9E3779B185EBCA87 - (1 << 64),
        0xC2B2AE3D27D4EB4F - (1 << 64),
        0x27D4EB2F165667C5 ^ 3527539,
        (1 << 61) - 1,
    ],
)


def _hashed(numbers: _Array, value: int, state: int) -> int:
    """Take one more integer into the hash of a tuple."""
    value = value % numbers[4] if value >= 0 else -(-value % numbers[4])
    if value == -1:
        value = -2
    state = state + value * numbers[2]
    state = state << 31 | (state >> 33 & 0x7FFFFFFF)
    hashed: int = state * numbers[1]
    return hashed


def _ended(numbers: _Array, length: int, state: int) -> int:
    """Return the hash of a tuple of so many integers."""
    state += length ^ numbers[3]
    return 1546275796 if state == -1 else state


def _holds(known: _Array, count: int, key: int) -> int:
    """Whether sorted numbers hold one."""
    low = 0
    high = count
    while low < high:
        middle = (low + high) >> 1
        if known[middle] < key:
            low = middle + 1
        else:
            high = middle
    return 1 if low < count and known[low] == key else 0


def same(  # noqa: PLR0917 -- a kernel is called by position
    handle: int,
    place: int,
    mark: int,
    known: _Array,
    count: int,
    entries: _Array,
    entries_at: int,
    room: int,
    status: _Array,
    status_at: int,
    numbers: _Array,
    keys: _Array,
    folders: _Array,
    told: _Array,
) -> int:
    """List an open folder, and return how many plain files it holds if all are known, else -1.

    Their keys (`walk.key_of`, with the place of the folder) are written to keys, to folders where in entries the name
    of each folder begins, to told how many files are empty, how many folders there are, how long entries is, and how
    many files are known as media (`walk.media_key`, with mark; a negative one knows none). entries, of room bytes,
    takes what getdents64 tells, status what statx does; both are given with their addresses.
    """
    size = 0
    more = _entries(handle, entries_at, room)
    while more > 0:
        size += more
        more = _entries(handle, entries_at + size, room - size)
    told[0] = 0
    told[1] = 0
    told[2] = size
    told[3] = 0
    files = 0
    fine: int = more == 0
    p = 0
    while fine and p < size:
        kind = entries[p + 18]
        if kind == 4:
            name = p + 19
            if entries[name] != 46 or (entries[name + 1] != 0 and (entries[name + 1] != 46 or entries[name + 2] != 0)):
                folders[told[1]] = name
                told[1] += 1
        elif kind == 8 and _status(handle, entries_at + p + 19, 0x100, 0x3C1, status_at) == 0:
            major = status[17] & 0xFFFFFFFF
            minor = status[17] >> 32 & 0xFFFFFFFF
            device = (major & 0xFFF) << 8 | (major >> 12) << 44 | minor & 0xFF | (minor >> 8) << 20
            modified = status[14] * 1_000_000_000 + (status[15] & 0xFFFFFFFF)
            changed = status[12] * 1_000_000_000 + (status[13] & 0xFFFFFFFF)
            # Python has other numbers for these: they are not signed, or times before 1970.
            fine = device >= 0 and status[4] >= 0 and status[5] >= 0 and status[14] >= 0 and status[12] >= 0
            key = _hashed(numbers, device, numbers[0])
            key = _hashed(numbers, status[4], key)
            key = _hashed(numbers, status[5], key)
            key = _hashed(numbers, modified, key)
            key = _hashed(numbers, changed, key)
            key = _ended(numbers, 5, key) ^ place
            if key == 0:
                key = 1
            if _holds(known, count, key):
                told[0] += status[5] == 0
            else:
                key = _ended(numbers, 2, _hashed(numbers, mark, _hashed(numbers, key, numbers[0])))
                fine = fine and mark >= 0 and _holds(known, count, key)
                told[3] += 1
            keys[files] = key
            files += 1
        else:
            fine = False
        p += entries[p + 16] | entries[p + 17] << 8
    return files if fine else -1


class Told(NamedTuple):
    """What a folder holds in which every file is known: their keys, how many are empty or media, names of folders."""

    keys: array[int]
    empty: int
    media: int
    folders: list[str]


def wanted() -> jit.Wanted:
    """Return the function that is compiled, with what it takes."""
    return same, "lllLlBllLlLLLL"


class Same:
    """Knows keys of files, sorted. mark is that of media, negative where none are left out.

    folder keeps what is compiled. Raises NoCompilerError where nothing can be, or the system is another.
    """

    def __init__(self, known: array[int], mark: int, folder: Path) -> None:
        if sys.platform != "linux" or sys.byteorder != "little":
            raise jit.NoCompilerError("the system's lists of names look otherwise")
        self._same = jit.compiled(*wanted(), folder)
        most = _ROOM // _LEAST
        self._entries, self._status = array("B", bytes(_ROOM)), array("q", bytes(256))
        self._keys, self._folders = array("q", bytes(8 * most)), array("q", bytes(8 * most))
        self._told = array("q", bytes(32))
        self._known, self._mark = known, mark
        self._view = memoryview(self._entries)

    def look(self, handle: int, place: int) -> Told | None:
        """Return what an open folder holds; None where not all of its files are known, or they are not all there is.

        place is its `walk.place_of`. Its list of names is read then: another reader begins at its end.
        """
        at, status = _at(self._entries), _at(self._status)
        count = self._same(
            handle, place, self._mark, _at(self._known), len(self._known), at, at, _ROOM, status, status,
            _at(_NUMBERS), _at(self._keys), _at(self._folders), _at(self._told),
        )  # fmt: skip
        empty, below, size, media = self._told
        names = self._view[:size].tobytes()
        if count < 0 or any(map(names.__contains__, _OWN)) or may_hold_key_id(names):
            return None
        folders = [os.fsdecode(names[begin : names.index(0, begin)]) for begin in self._folders[:below]]
        return Told(self._keys[:count], empty, media, folders)


def _at(numbers: array[int]) -> int:
    return numbers.buffer_info()[0]
