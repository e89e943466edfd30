"""A deadline for something whole: HTTP clients know time-outs only for each word of the other side.

One that says a letter at a time, in its headers too, would be listened to for ever.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


def within(seconds: float, do: Callable[[], T]) -> T:
    """Do something in a thread of its own and return or raise what it does; TimeoutError when it takes longer.

    What hangs is left alone, and ends with the process.
    """
    ended = Future[T]()

    def attempt() -> None:
        try:
            ended.set_result(do())
        except BaseException as error:  # noqa: BLE001 - raised where the answer is waited for
            ended.set_exception(error)

    threading.Thread(target=attempt, daemon=True).start()
    return ended.result(seconds)
