"""What takes seconds to compile is kept in a cache folder of ours, for this user alone."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path


def kept(folder: Path | None, name: str, content: object, make: Callable[[], bytes]) -> bytes:
    """Return the folder's copy of something that was made before, or make it and keep a copy there.

    content tells it, by its repr, from all else of that name. A copy is trusted as code is: one that another user could
    have written, or that is damaged, is made again. A folder that cannot be read or written is worked without; it is
    made 0700 if it is missing. Raises what make raises.
    """
    if folder is None:
        return make()
    path = place(folder, name, content)
    with contextlib.suppress(OSError), path.open("rb") as file:
        status = os.fstat(file.fileno())
        if not hasattr(os, "getuid") or (status.st_uid == os.getuid() and not status.st_mode & 0o022):
            check, copied = file.read(4), file.read()
            if check == _check(copied):
                return copied
    made = make()
    with contextlib.suppress(OSError):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, delete=False) as temporary:
            temporary.write(_check(made) + made)
        Path(temporary.name).replace(path)
    return made


def place(folder: Path, name: str, content: object) -> Path:
    """Return where the copy of something is kept, if there is one."""
    return folder / f"{name}-{hashlib.blake2b(repr(content).encode(), digest_size=12).hexdigest()}"


def _check(content: bytes) -> bytes:
    return zlib.crc32(content).to_bytes(4)
