"""Files with holes: what was never written is not read. A terabyte of holes takes no disk, and must not take hours."""

from __future__ import annotations

import errno
import os
from io import FileIO
from typing import Final

_LEAST: Final = 64 << 20
"""Bytes of holes from which a file is read around them."""
_CHUNK: Final = 1 << 20
_BEFORE: Final = 4096
"""Bytes of a hole that are read before the data behind it: so much parts it from the data before."""


def has_holes(status: os.stat_result) -> bool:
    """Whether so little of a file is on disk that it pays to ask where."""
    blocks: int | None = getattr(status, "st_blocks", None)  # of 512 bytes, whatever the file system's own are
    return blocks is not None and status.st_size - blocks * 512 > _LEAST


def pass_hole(handle: int) -> None:
    """Go on to where data begins, or to the end, if handle stands in a hole. Does nothing where holes are not told."""
    at = os.lseek(handle, 0, os.SEEK_CUR)
    try:
        data = os.lseek(handle, at, os.SEEK_DATA)
    except OSError as error:
        os.lseek(handle, *((0, os.SEEK_END) if error.errno == errno.ENXIO else (at, os.SEEK_SET)))
    else:
        os.lseek(handle, max(at, data - _BEFORE) if data > at else at, os.SEEK_SET)


def left(handle: int) -> int:
    """Return how many bytes stand behind the place where handle is, without holes where they are passed. It moves."""
    status, at, found = os.fstat(handle), os.lseek(handle, 0, os.SEEK_CUR), 0
    size = status.st_size
    if not has_holes(status):
        return max(0, size - at)
    while at < size:
        pass_hole(handle)
        begin = os.lseek(handle, 0, os.SEEK_CUR)
        try:
            at = os.lseek(handle, begin + _BEFORE, os.SEEK_HOLE)
        except OSError:  # beyond the end, or where holes are not told
            at = size
        found += max(0, at - begin)
        os.lseek(handle, at, os.SEEK_SET)
    return found


class Dense(FileIO):
    """A file that is read without its holes. It takes over the descriptor."""

    def __init__(self, handle: int) -> None:
        super().__init__(handle, "rb")
        self.holes = has_holes(os.fstat(handle))

    def read(self, size: int | None = -1, /) -> bytes:
        """Return the next bytes, size of them unless the file ends; positions are those of the file as it is."""
        if not self.holes or size is None or size < 0:
            return super().read(-1 if size is None else size) or b""
        parts = list[bytes]()
        while size > 0:
            pass_hole(self.fileno())
            part = super().read(min(size, _CHUNK))
            if not part:
                break
            parts.append(part)
            size -= len(part)
        return b"".join(parts)
