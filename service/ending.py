"""How a command ends that is asked to: SIGTERM and a closed terminal undo what was begun, as Ctrl-C does."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import threading
from collections.abc import Iterator
from typing import Final

_NUMBERS: Final = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))


@contextlib.contextmanager
def ending_in_order() -> Iterator[None]:
    """Let SIGTERM and a closed terminal end the work as Ctrl-C does, so that what was begun is taken back.

    What is ignored (`nohup`) stays so. Only a main thread can hear them: for any other nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _spare_children()
    before = {number: signal.getsignal(number) for number in _NUMBERS}
    heard = [number for number, handler in before.items() if handler not in {signal.SIG_IGN, None}]
    for number in heard:
        signal.signal(number, _end)
    try:
        yield
    finally:
        for number in heard:
            signal.signal(number, before[number])


def _end(number: int, _frame: object) -> None:
    for each in _NUMBERS:  # whoever asks twice must not cut off what is being taken back
        signal.signal(each, signal.SIG_IGN)
    raise SystemExit(128 + number)


@functools.cache
def _spare_children() -> None:
    """Let a process that is forked inside end at once: what was begun is its parent's to take back."""

    def plain() -> None:
        for number in _NUMBERS:
            if signal.getsignal(number) is _end:
                signal.signal(number, signal.SIG_DFL)

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=plain)
