"""What firedamp is on this machine: its version, how it starts itself, and how that says that it came to its end."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Final

COMMAND: Final = (sys.executable, "-P", "-m", "firedamp.service.cli")
"""-P: nothing is imported from the folder that it runs in. That may be a repository, whose modules are not ours."""
MARK: Final = "FIREDAMP_MARK"
"""Names, in the environment, the descriptor that a process of ours writes to when it came to its end, complete or not.

Its exit status does not tell: 2 is also what argparse ends with, and 1 what Python does for a module that is missing.
"""


def take_mark() -> int | None:
    """Return the descriptor to write to, None where nobody waits for it. It is not for our own children."""
    named = os.environ.pop(MARK, "")
    return int(named) if named.isdecimal() else None


def leave_mark(mark: int | None) -> None:
    """Say that this process came to its end."""
    if mark is not None:
        with contextlib.suppress(OSError):
            os.write(mark, b".")


def version() -> str | None:
    """Return the version that is installed, None for a checkout that is not."""
    from importlib import metadata

    try:
        return metadata.version("firedamp")
    except metadata.PackageNotFoundError:
        return None
