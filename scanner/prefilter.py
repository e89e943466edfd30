"""The prefilter: bytes to the places worth a look, at gigabytes a second.

One hyperscan database holds every form of `forms`; beside them, long runs that decode to text are worth a look
(`textruns`). It only says where to look; `keys` and `decode` judge.
"""

from __future__ import annotations

import contextlib
import pickle
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hyperscan

from firedamp.scanner.kept import kept
from firedamp.scanner.textruns import DECODERS, LONGEST, TextRuns
from firedamp.scanner.version import VERSION

if TYPE_CHECKING:
    from firedamp.scanner.forms import Form


@dataclass(frozen=True, slots=True)
class Hit:
    """A form seen in a text: end is the offset behind its last byte, start where what tells something new begins.

    That is its last byte, but for a run that is told by what it decodes to: a change anywhere in it makes it another.
    """

    end: int
    form: Form
    start: int


class Prefilter:
    """The compiled forms. Safe to share between threads: each has its own scratch space.

    folder holds a copy of the compiled database (made 0700 if it is missing); None compiles every time, which takes a
    second.
    """

    def __init__(self, folder: Path | None = None) -> None:
        # A copy goes by the version of the sources that the forms are made from: making them takes longer than loading.
        self._database = load(("forms", VERSION), _all_forms, folder)
        self._folder = folder
        self._forms: Sequence[tuple[Any, ...]] = ()
        """What makes each form: few of them are seen, and to make them all takes longer than loading this."""
        self._runs = TextRuns(folder)
        self._local = threading.local()

    def ready(self) -> None:
        """Load what would be loaded later: for a process that gives up its files and its memory."""
        self.any(b"")
        self._runs.load()

    def find(self, window: bytes | memoryview) -> list[Hit]:
        """Return every hit in window, sorted by end."""
        found: list[tuple[int, int]] = []

        def note(number: int, _start: int, end: int, _flags: int, _context: object) -> None:
            found.append((end, number))

        self._scan(window, note)
        runs = [run for run in self._runs.find(window) if run.end - run.start <= LONGEST]
        if not found and not runs:
            return []
        from firedamp.scanner.forms import Form

        if not self._forms:
            # As trusted as the database beside it; to make them again takes an eighth of a second.
            self._forms = pickle.loads(kept(self._folder, "table", VERSION, _pickled_forms))  # noqa: S301
        # The last forms stand for runs that have none.
        first = len(self._forms) - len(DECODERS)
        hits = [(end, number, end - 1) for end, number in found]
        hits += [(run.told, first + run.decoder, run.start) for run in runs]
        hits.sort()
        made = {number: Form(*self._forms[number]) for number in {number for _, number, _ in hits}}
        return [Hit(end, made[number], start) for end, number, start in hits]

    def hits(self, window: bytes | memoryview) -> list[int]:
        """Return the end offsets of everything worth a look, sorted, each once."""
        found: set[int] = set()

        def note(_number: int, _start: int, end: int, _flags: int, _context: object) -> None:
            found.add(end)

        self._scan(window, note)
        found.update(run.told for run in self._runs.find(window))
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
        return found or bool(self._runs.find(window))

    def _scan(self, window: bytes | memoryview, note: Callable[[int, int, int, int, object], bool | None]) -> None:
        if not hasattr(self._local, "scratch"):
            self._local.scratch = hyperscan.Scratch(self._database)
        self._database.scan(window, match_event_handler=note, scratch=self._local.scratch)


def load(
    content: object, expressions: Callable[[], tuple[Sequence[bytes], Sequence[int]]], folder: Path | None
) -> Any:  # hyperscan has no types
    """Return the database of expressions and their ids: the folder's copy if it fits, else compiled and copied there.

    content tells the expressions from others by its repr: they are made only where there is no copy.
    """

    def compiled() -> bytes:
        return bytes(hyperscan.dumpb(_compiled(*expressions())))

    known = (hyperscan.__version__, content)  # type: ignore[attr-defined]
    return hyperscan.loadb(kept(folder, "hyperscan", known, compiled), hyperscan.HS_MODE_BLOCK)


def _pickled_forms() -> bytes:
    from firedamp.scanner.forms import forms, of_runs

    return pickle.dumps(
        [(form.expression, form.kind, form.size, form.decoder, form.phase) for form in (*forms(), *of_runs(DECODERS))]
    )


def _all_forms() -> tuple[Sequence[bytes], Sequence[int]]:
    from firedamp.scanner.forms import forms

    return [form.expression for form in forms()], range(len(forms()))


def _compiled(expressions: Sequence[bytes], ids: Sequence[int]) -> Any:
    database = hyperscan.Database()
    count = len(expressions)
    database.compile(expressions=list(expressions), ids=list(ids), elements=count, flags=[0] * count)
    return database
