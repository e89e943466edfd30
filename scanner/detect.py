"""Bytes -> credentials. Pure."""

from __future__ import annotations

import bisect
import re
from functools import partial
from typing import Final

from firedamp.scanner.candidates import Credential, Located
from firedamp.storage import keyid
from firedamp.storage.records import KeyKind
from firedamp.storage.secret import Secret

VERSION: Final = "0"
"""Changes whenever the same bytes would give other credentials: what an older version read is then read again."""

_ID: Final = re.compile(r"A(?:KIA|SIA|BIA|CCA)[A-Z2-7]{16}")
_SECRET: Final = re.compile(r"[A-Za-z0-9/+]{40,}")
_NEAR: Final = 1024


def interesting(data: bytes) -> bool:
    """Whether anything in data is worth a look."""
    return re.search(rb"A(?:KIA|SIA|BIA|CCA)[A-Z2-7]{16}", data) is not None


def detect(data: bytes) -> list[Located]:
    """Return every access key in data with the nearest secret within 1 KiB."""
    text = data.decode("latin-1")
    starts = [0, *(m.end() for m in re.finditer("\n", text))]
    found: list[Located] = []
    for match in _ID.finditer(text):
        parsed = keyid.parse(match[0])
        beside = text[match.start() - 1 : match.start()] + text[match.end() : match.end() + 1]
        if parsed is None or any(c.isalnum() for c in beside):
            continue
        low = max(0, match.start() - _NEAR)
        near = [m for m in _SECRET.finditer(text, low, match.end() + _NEAR) if len(m[0]) == 40]
        near.sort(key=partial(_distance, match.start()))
        row = bisect.bisect_right(starts, match.start()) - 1
        credential = Credential(
            kind=KeyKind.TEMPORARY_KEY if parsed.temporary else KeyKind.ACCESS_KEY,
            key_id=match[0],
            secret=Secret(near[0][0]) if near else None,
            example="EXAMPLE" in match[0],
            anchor=match.start(),
        )
        column = len(data[starts[row] : match.start()].decode("utf-8", "replace")) + 1
        found.append(Located(credential, row + 1, column))
    return found


def _distance(at: int, match: re.Match[str]) -> int:
    return abs(match.start() - at)
