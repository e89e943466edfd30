"""How firedamp marks the calls it makes about a watched key or with one, so that their records are known as its own.

The mark stands in the user agent as `firedamp-nonce/` and 32 lower-case hexadecimal digits: one product token of
RFC 9110, which AWS copies into `userAgent` of the CloudTrail record. A mark is for one request, not for one call: a
retry or a next page takes a fresh one, because a mark met twice is an intruder who read our logs.
"""

from __future__ import annotations

import re
from typing import Final

PRODUCT: Final = "firedamp-nonce"
BYTES: Final = 16
"""How many random bytes a nonce is made of."""

_MARK: Final = re.compile(rf"(?<![\w-]){PRODUCT}/([0-9a-f]{{{2 * BYTES}}})(?![\w-])")


def make(random: bytes) -> str:
    """Return the nonce of 16 fresh random bytes: 32 hexadecimal digits. Raises ValueError for another number."""
    if len(random) != BYTES:
        raise ValueError(f"a nonce is made of {BYTES} random bytes")
    return random.hex()


def mark(nonce: str) -> str:
    """Return what is added to a user agent (botocore's `user_agent_extra`) to carry a nonce."""
    return f"{PRODUCT}/{nonce}"


def found(user_agent: str) -> tuple[str, ...]:
    """Return the nonces in a user agent, in order. More than one was never sent by firedamp."""
    return tuple(_MARK.findall(user_agent))
