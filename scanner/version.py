"""The version of the detectors. Apart from them, so that a scan in which nothing is new need not load them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

SOURCES: Final = (
    *("candidates", "columns", "decode", "dense", "detect", "forms", "inflate", "keys", "labels", "marks"),
    *("matching", "names", "numbered", "packed", "pairing", "patches", "prefilter", "runs"),
    *("shape", "spelling", "structure", "surroundings", "survey", "textruns"),
    # What the delta filter rules out is not read again either.
    *("gaps", "kernels", "packindex", "packs"),
    # Nor is what could not be opened, but was looked through as it is.
    *("archives", "containers", "documents", "formats", "mail", "sevenzip", "streams", "stub", "unpack"),
    # Nor what was taken for media, or for read to its end.
    *("files", "holes", "look", "reading", "rules", "walk"),
    # Nor what a limit cut off, what stands in a repository and was passed by, or what was found and not recorded;
    # what was searched for one's own keys is remembered apart, by the same version.
    *("budget", "bundle", "crew", "git", "gitfiles", "idset", "listing", "loose"),
    *("objects", "ownkeys", "same", "scan", "worker"),
)
"""Modules of this folder that decide what is found: a change there, and only there, rescans."""


def _version() -> str:
    digest = hashlib.blake2b(digest_size=8)
    here = Path(__file__).parent
    beside = (here.parent / "storage" / name for name in ("keyid.py", "masking.py"))
    for path in (*(here / f"{name}.py" for name in SOURCES), *beside):
        digest.update(path.read_bytes())
    return digest.hexdigest()


VERSION: Final = _version()
"""The detectors' version: objects read by another one are read again."""
