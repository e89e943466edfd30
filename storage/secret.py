"""The one type a secret has in flight, and the fingerprint that is kept in its place."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import NewType

Fingerprint = NewType("Fingerprint", str)
"""32 hexadecimal digits that name a credential on every machine alike."""

_PERSON = b"firedamp.finding"


@dataclass(frozen=True, slots=True, repr=False, eq=True)
class Secret:
    """A secret in flight. Its repr and str are empty; `reveal` is the only way out. Never stored."""

    _value: str

    def reveal(self) -> str:
        """Return the secret itself. Every caller of this is a place to review."""
        return self._value

    def __repr__(self) -> str:
        return "Secret()"

    def __str__(self) -> str:
        return ""


def fingerprint(kind: str, key_id: str | None, secret: Secret | None) -> Fingerprint:
    """Name a credential: BLAKE2b-128 over kind, key id and secret, each length-prefixed.

    The same on every machine, so that baselines and SARIF work. A secret access key is 240 random bits, so it
    cannot be computed back; without a secret the fingerprint covers kind and id only.
    """
    digest = hashlib.blake2b(digest_size=16, person=_PERSON)
    parts = [kind, key_id or "", secret.reveal() if secret is not None else ""]
    for part in parts:
        raw = part.encode("utf-8", "surrogateescape")
        digest.update(len(raw).to_bytes(8, "big"))
        digest.update(raw)
    return Fingerprint(digest.hexdigest())
