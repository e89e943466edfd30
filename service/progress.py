"""The progress line of a scan: on a terminal's standard error, and nowhere else."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, Self, TextIO

from firedamp.storage.records import Tally

if TYPE_CHECKING:
    from rich.live import Live

_EVERY: Final = 0.1


class Bar:
    """A line that says what was read so far. A context manager; silent where nobody looks.

    It is drawn when it is told something, by no thread of its own: readers are forked from a process of one thread.
    """

    def __init__(self, stream: TextIO, *, quiet: bool) -> None:
        self._live: Live | None = None
        if not quiet and stream.isatty():
            from rich.console import Console
            from rich.live import Live

            self._live = Live(console=Console(file=stream), auto_refresh=False, transient=True)
        self._started = self._drawn = time.monotonic()

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def __call__(self, tally: Tally, hits: int) -> None:
        """Draw what was read so far, ten times a second at most."""
        now = time.monotonic()
        if self._live is None or now - self._drawn < _EVERY:
            return
        from rich.text import Text

        self._drawn = now
        self._live.update(Text(line(tally, hits, now - self._started)), refresh=True)


def line(tally: Tally, hits: int, seconds: float) -> str:
    """Word what was read so far: objects, bytes, rate, findings."""
    read = tally.files + tally.objects + tally.known
    rate = tally.bytes / 1e6 / max(seconds, 1e-3)
    return f"{read:,} read, {tally.bytes / 1e6:,.0f} MB, {rate:,.0f} MB/s, {hits:,} found"
