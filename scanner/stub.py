"""Programs that a zip may stand behind: then its directory, at the file's end, alone shows it."""

from __future__ import annotations

import os
from typing import Final

TAIL: Final = (64 << 10) + 22
"""A zip's end record stands within so many last bytes: it has 22, and a comment of up to 64 KiB (APPNOTE 4.3.16)."""
STUBS: Final = frozenset({b"MZ", b"#!", b"\x7fE"})


def is_stub(head: bytes | bytearray | memoryview) -> bool:
    """Whether a file that begins so is a program or a script: zipapps, pex, executable jars, self-extractors."""
    return bytes(head[:2]) in STUBS


def tail_of(data: bytes | bytearray | memoryview) -> bytes:
    """Return the last bytes of data, if by its beginning a zip may stand at its end; else nothing, which costs less."""
    return bytes(data[-TAIL:]) if is_stub(data) else b""


def tail_in(handle: int, head: bytes | bytearray | memoryview) -> bytes:
    """Do as `tail_of` for an open file that begins with head. Its position stays."""
    if not is_stub(head):
        return b""
    at = os.lseek(handle, 0, os.SEEK_CUR)
    os.lseek(handle, max(0, os.fstat(handle).st_size - TAIL), os.SEEK_SET)
    tail = os.read(handle, TAIL)
    os.lseek(handle, at, os.SEEK_SET)
    return tail
