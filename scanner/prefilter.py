"""The prefilter: bytes to the places worth a look, at gigabytes a second.

One hyperscan database holds every form of `forms`. It only says where to look; `keys` and `decode` judge.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hyperscan

from firedamp.scanner.version import VERSION

if TYPE_CHECKING:
    from firedamp.scanner.forms import Form


@dataclass(frozen=True, slots=True)
class Hit:
    """A form seen in a text: end is the offset behind its last byte."""

    end: int
    form: Form


class Prefilter:
    """The compiled forms. Safe to share between threads: each has its own scratch space.

    folder holds a copy of the compiled database (made 0700 if it is missing); None compiles every time, which takes a
    second.
    """

    def __init__(self, folder: Path | None = None) -> None:
        # A copy goes by the version of the sources that the forms are made from: making them takes longer than loading.
        self._database = _kept(("forms", VERSION), _all_forms, folder)
        self._local = threading.local()

    def find(self, window: bytes | memoryview) -> list[Hit]:
        """Return every hit in window, sorted by end."""
        found: list[tuple[int, int]] = []

        def note(number: int, _start: int, end: int, _flags: int, _context: object) -> None:
            found.append((end, number))

        self._scan(window, note)
        found.sort()
        from firedamp.scanner.forms import forms

        known = forms()
        return [Hit(end, known[number]) for end, number in found]

    def hits(self, window: bytes | memoryview) -> list[int]:
        """Return the end offsets of everything worth a look, sorted, each once."""
        found: set[int] = set()

        def note(_number: int, _start: int, end: int, _flags: int, _context: object) -> None:
            found.add(end)

        self._scan(window, note)
        return sorted(found)

    def any(self, window: bytes | memoryview) -> bool:
        """Whether anything in window is worth a look; stops at the first."""
        found = False

        def note(_number: int, _start: int, _end: int, _flags: int, _context: object) -> bool:
            nonlocal found
            found = True
            return True

        with contextlib.suppress(hyperscan.ScanTerminated):
            self._scan(window, note)
        return found

    def _scan(self, window: bytes | memoryview, note: Callable[[int, int, int, int, object], bool | None]) -> None:
        if not hasattr(self._local, "scratch"):
            self._local.scratch = hyperscan.Scratch(self._database)
        self._database.scan(window, match_event_handler=note, scratch=self._local.scratch)


def load(expressions: Sequence[bytes], ids: Sequence[int], folder: Path | None) -> Any:  # hyperscan has no types
    """Return the database of expressions: the folder's copy if it is ours and fits, else compiled and copied there.

    A folder that cannot be read or written is worked without: it only saves the second that compiling takes.
    """
    return _kept((list(expressions), list(ids)), lambda: _compiled(expressions, ids), folder)


def _all_forms() -> Any:
    from firedamp.scanner.forms import forms

    return _compiled([form.expression for form in forms()], range(len(forms())))


def _kept(content: object, compiled: Callable[[], Any], folder: Path | None) -> Any:
    """Return the folder's copy of a database, or the compiled one, copied there. content tells it from all others."""
    if folder is None:
        return compiled()
    known = repr((hyperscan.__version__, content)).encode()  # type: ignore[attr-defined]
    path = folder / f"hyperscan-{hashlib.blake2b(known, digest_size=12).hexdigest()}"
    with contextlib.suppress(OSError, hyperscan.HyperscanError), path.open("rb") as file:
        # hyperscan trusts what it loads: a copy that another user could have written is not loaded.
        status = os.fstat(file.fileno())
        if not hasattr(os, "getuid") or (status.st_uid == os.getuid() and not status.st_mode & 0o022):
            return hyperscan.loadb(file.read(), hyperscan.HS_MODE_BLOCK)
    database = compiled()
    with contextlib.suppress(OSError):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, delete=False) as copy:
            copy.write(hyperscan.dumpb(database))
        Path(copy.name).replace(path)
    return database


def _compiled(expressions: Sequence[bytes], ids: Sequence[int]) -> Any:
    database = hyperscan.Database()
    count = len(expressions)
    database.compile(expressions=list(expressions), ids=list(ids), elements=count, flags=[0] * count)
    return database
