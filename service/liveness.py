"""Whether another process lives, as far as that can be proven: on this machine, since it was started.

A process is named by the machine's boot, the space that process numbers are of (a container has its own), its number
and its start: numbers are given again. Linux tells these in /proc (proc(5)); elsewhere nothing is proven.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

_BOOT: Final = Path("/proc/sys/kernel/random/boot_id")
_DEAD: Final = frozenset("ZX")
"""States of a process that has ended, and that nobody has waited for."""


def name(process: int) -> str:
    """Name a process of ours, so that it is known later; empty where the system does not tell."""
    try:
        return "/".join((*_here(), str(process), _stat(process)[1]))
    except (OSError, ValueError):
        return ""


def lives(named: str) -> bool | None:
    """Say whether a process with this name lives; None where that is not known."""
    try:
        boot, space, number, began = named.split("/")
        if (boot, space) != _here():
            return None
    except (OSError, ValueError):
        return None
    try:
        state, start = _stat(int(number))
    except OSError:
        return _exists(int(number))
    return start == began and state not in _DEAD


def _here() -> tuple[str, str]:
    return _BOOT.read_text(encoding="ascii").strip(), str(Path("/proc/self/ns/pid").readlink())


def _stat(process: int) -> tuple[str, str]:
    """Return the state of a process and when it began, in ticks since boot."""
    # Its name comes before, in parentheses, and may hold anything.
    words = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    return words[0], words[19]


def _exists(process: int) -> bool | None:
    """Ask the system itself where /proc shows no such process: it may hide those of others."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return None
