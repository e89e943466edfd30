"""Parse and decode an AWS access key id. Pure; the known canary accounts stand here as data.

Sources: IAM guide, "Unique identifiers" (prefixes); the account number in ids issued since 2019 was described by
Aidan Steele and Tal Be'ery: base32 of characters 5 to 20, its first bit says that the next 40 are the account.
"""

from __future__ import annotations

import base64
import functools
import re
from dataclasses import dataclass
from typing import Final

KEY_PREFIXES: Final = ("AKIA", "ASIA", "ABIA", "ACCA")
_SHAPE: Final = re.compile(rf"(?:{'|'.join(KEY_PREFIXES)})[A-Z2-7]{{16}}")
_ACCOUNTS: Final = 10**12

CANARY_ACCOUNTS: Final[frozenset[str]] = frozenset(
    """
    052310077262 171436882533 534261010715 595918472158 717712589309 819147034852 992382622183 730335385048
    266735846894 893192397702 044858866125 251535659677 344043088457 351906852752 390477818340 426127672474
    427150556519 439872796651 445142720921 465867158099 637958123769 693412236332 732624840810 735421457923
    959235150393 982842642351 528757803018 538784191382 729780141977
    """.split()
)
"""Accounts that issue honeytokens to the public (Thinkst and its imitators): a key there is never verified."""


@dataclass(frozen=True, slots=True)
class KeyId:
    """An access key id taken apart. account is None where the id does not carry one."""

    text: str
    temporary: bool
    account: str | None


@functools.lru_cache(maxsize=1 << 15)  # a log names one id in every line
def parse(text: str) -> KeyId | None:
    """Read an access key id, or None when AWS cannot have issued it.

    Noise is told by shape (prefix and base32 body) and by a decoded account number of 10^12 or more. Ids of the
    generation before 2019 (fifth character A to P, the first bit clear) carry no account and get none.
    """
    if _SHAPE.fullmatch(text) is None:
        return None
    number = int.from_bytes(base64.b32decode(text[4:])[:6], "big")
    if not number >> 47:
        return KeyId(text, text.startswith("ASIA"), None)
    account = (number >> 7) & ((1 << 40) - 1)
    if account >= _ACCOUNTS:
        return None
    return KeyId(text, text.startswith("ASIA"), f"{account:012d}")


def account_of(text: str) -> str | None:
    """Return the account number inside a key id, or None when it has none or is no key id."""
    parsed = parse(text)
    return None if parsed is None else parsed.account
