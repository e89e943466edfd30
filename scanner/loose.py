"""Loose objects, read without git: it passes by what stands behind an object's end, and takes half as long again."""

from __future__ import annotations

import io
import os
import re
import stat
import zlib
from collections.abc import Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

_HEADER: Final = re.compile(rb"(blob|tree|commit|tag) (0|[1-9][0-9]{0,17})\0")
_STEP: Final = 1 << 20
_WHOLE: Final = 4 << 20
"""Bytes that an object is held with; a larger one is handed on as it comes."""
_OPEN: Final = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


class LooseObjects(io.RawIOBase):
    """What `git cat-file --batch` prints of loose objects. It ends where a large one is damaged.

    Of what is not loose, or cannot be what its header says, it prints `missing`: git is to be asked.
    """

    def __init__(self, stores: Sequence[Path], names: Iterable[bytes], behind: set[bytes]) -> None:
        """Begin to read. The first of stores that has an object counts; behind takes who has bytes behind its end."""
        self._stores = [os.fsencode(store) for store in stores]
        self._behind = behind
        self._pieces = self._all(names)
        self._left = memoryview(b"")

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override] # nobody gives it another buffer
        """Put what comes next into buffer; return how many bytes, 0 at the end."""
        if not self._left:
            self._left = memoryview(next(self._pieces, b""))
        count = min(len(buffer), len(self._left))
        buffer[:count] = self._left[:count]
        self._left = self._left[count:]
        return count

    def _all(self, names: Iterable[bytes]) -> Iterator[bytes]:
        for name in names:
            handle, size = self._opened(name)
            try:
                if not (yield from self._one(name, handle, size)):
                    return
            finally:
                if handle >= 0:
                    os.close(handle)

    def _opened(self, name: bytes) -> tuple[int, int]:
        """Return a descriptor of an object's file, and its size; a negative one where there is none."""
        for store in self._stores:
            try:
                handle = os.open(b"%b/%b/%b" % (store, name[:2], name[2:]), _OPEN)
            except OSError:
                continue
            status = os.fstat(handle)
            if stat.S_ISREG(status.st_mode):
                return handle, status.st_size
            os.close(handle)
        return -1, 0

    def _one(self, name: bytes, handle: int, size: int) -> Generator[bytes, None, bool]:
        """Yield one object as git prints it; return whether it was whole, or git is to be asked."""
        engine, content = zlib.decompressobj(), b""
        try:
            if size:
                content = engine.decompress(os.read(handle, _STEP), _WHOLE)
        except (OSError, zlib.error):
            content = b""
        header = _HEADER.match(content)
        if header is None or not (engine.eof or size > _STEP or len(content) == _WHOLE):
            yield b"%b missing\n" % name
            return True
        length, content = int(header[2]), content[header.end() :]
        if engine.eof:
            if len(content) != length:
                yield b"%b missing\n" % name
                return True
            yield b"%b %b %b\n%b\n" % (name, header[1], header[2], content)
        else:
            yield b"%b %b %b\n" % (name, header[1], header[2])
            left = yield from self._long(handle, engine, content, length)
            if left:
                return False
            yield b"\n"
        if not engine.eof or engine.unused_data or os.lseek(handle, 0, os.SEEK_CUR) < size:
            self._behind.add(name)
        return True

    @staticmethod
    def _long(handle: int, engine: zlib._Decompress, content: bytes, left: int) -> Generator[bytes, None, int]:
        """Yield what follows of an object's bytes, content first; return how many it lacks."""
        try:
            while True:
                if piece := content[:left]:
                    yield piece
                    left -= len(piece)
                if engine.eof or len(content) > len(piece):
                    return left
                data = engine.unconsumed_tail or os.read(handle, _STEP)
                if not (data or content):
                    return left
                content = engine.decompress(data, _WHOLE)
        except (OSError, zlib.error):
            return left
