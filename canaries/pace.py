"""How fast IAM is asked: it publishes no rates, so its throttling sets ours. Slower at each throttle, then faster."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Final, TypeVar

from firedamp.storage.errors import aws_code

Answer = TypeVar("Answer")

THROTTLED: Final = frozenset(
    {"Throttling", "ThrottlingException", "RequestLimitExceeded", "TooManyRequestsException", "ServiceUnavailable",
     "ServiceFailure", "InternalFailure", "EntityTemporarilyUnmodifiable", "ConcurrentModification"}
)  # fmt: skip
"""Errors of IAM that pass by themselves (IAM API reference, "Common Errors", and those of single calls)."""

_SLOWEST: Final = 20.0
_TRIES: Final = 9


class Pace:
    """The time between two calls, in seconds: doubled when IAM throttles, a tenth less after each answer.

    sleep waits; random returns so many random bytes, for the jitter that keeps two of us from marching in step.
    """

    def __init__(self, sleep: Callable[[float], object], random: Callable[[int], bytes]) -> None:
        self._sleep, self._random = sleep, random
        self.gap = 0.0

    def call(self, ask: Callable[[], Answer], again: Collection[str] = (), tries: int = _TRIES) -> Answer:
        """Ask, and ask again while IAM is busy. again: more error codes that pass (what was made is not seen yet).

        Raises botocore's ClientError: any other at once, a throttle when it lasts for all tries, about two minutes.
        """
        from botocore.exceptions import ClientError

        passing = THROTTLED | set(again)
        wait = self.gap
        for left in reversed(range(tries)):
            if wait:
                self._sleep(wait * (1 + self._random(1)[0] / 512))
            try:
                answer = ask()
            except ClientError as error:
                code = aws_code(error)
                if code not in passing or not left:
                    raise
                if code in THROTTLED:
                    self.gap = min(_SLOWEST, max(0.1, self.gap * 2))
                wait = min(_SLOWEST, max(0.2, wait * 2))
                continue
            self.gap = self.gap * 0.9 if self.gap > 0.01 else 0.0
            return answer
        raise AssertionError("the last try returns or raises")
