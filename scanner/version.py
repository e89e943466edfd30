"""The version of the detectors. Apart from them, so that a scan in which nothing is new need not load them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

SOURCES: Final = (
    *("candidates.py", "decode.py", "detect.py", "forms.py", "keys.py", "labels.py", "matching.py", "packed.py"),
    *(
        "pairing.py",
        "prefilter.py",
        "runs.py",
        "shape.py",
        "spelling.py",
        "structure.py",
        "surroundings.py",
        "survey.py",
    ),
    "../storage/keyid.py",
)


def _version() -> str:
    """Hash the source of everything that decides what is found: a change there, and only there, rescans."""
    digest = hashlib.blake2b(digest_size=8)
    here = Path(__file__).parent
    for name in SOURCES:
        digest.update((here / name).read_bytes())
    return digest.hexdigest()


VERSION: Final = _version()
"""The detectors' version: objects read by another one are read again."""
