"""Where a file's old bytes are kept while it is rewritten: in a state folder of ours, for this user alone."""

from __future__ import annotations

import secrets
from pathlib import Path

import platformdirs

from firedamp.storage import careful


def backups() -> Path:
    """Return the folder, which need not exist."""
    return Path(platformdirs.user_state_dir("firedamp")) / "backups"


def back_up(name: str, data: bytes) -> Path:
    """Keep data in a file of its own whose name begins with name, and return where. Raises Failure."""
    folder = backups()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = folder / f"{name}.{secrets.token_hex(8)}"
    careful.replace(path, data, None, 0o600)
    return path
