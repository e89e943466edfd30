"""Makes what the tests scan: keys generated at run time, so that no scanner (ours included) trips on them."""

from __future__ import annotations

import base64
import random

_BASE32 = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_BASE64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


def make_key_id(rng: random.Random, account: str | None = None, prefix: str = "AKIA") -> str:
    """Return a key id that AWS could have issued in account (12 digits), by default a random one."""
    number = rng.randrange(10**11, 10**12) if account is None else int(account)
    value = (1 << 79) | (number << 39) | rng.getrandbits(39)
    return prefix + base64.b32encode(value.to_bytes(10, "big")).decode()


def make_secret(rng: random.Random) -> str:
    """Return 40 random characters of base64 that hold upper and lower case and a digit, as a secret access key does."""
    while True:
        text = "".join(rng.choices(_BASE64, k=40))
        if any(c.isupper() for c in text) and any(c.islower() for c in text) and any(c.isdigit() for c in text):
            return text


def make_token(rng: random.Random, length: int = 356) -> str:
    """Return a session token of length characters, with the prefix that STS uses today."""
    return "IQoJb3JpZ2luX2Vj" + "".join(rng.choices(_BASE64, k=length - 16))


def noise(size: int, seed: int = 0) -> bytes:
    """Return size bytes that cannot be packed smaller: the same in every run, so that none begins like a container."""
    return random.Random(seed).randbytes(size)
