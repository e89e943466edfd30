"""What this machine knows beside the database: its home directory's places, when files changed, its power supply."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from firedamp.scanner import home
from firedamp.scanner.home import Place
from firedamp.scanner.walk import real_path
from firedamp.storage.records import FileProvenance, Sight

_SUPPLIES: Final = Path("/sys/class/power_supply")
_WAIT: Final = 30.0
_LOWEST: Final = 19


def home_folder() -> str:
    """Return this user's home directory, links resolved, as the walk sees it."""
    return os.path.realpath(Path.home())


def place_of(path: str) -> Place | None:
    """Return the known place that a path is, or that a link puts it in."""
    root = home_folder()
    found = home.place_of(path, root, os.environ)
    if found is not None:
        return found
    for real, known in _linked(root, tuple(os.environ.get(name, "") for name in home.VARIABLES)):
        if path == real or path.startswith(real + "/"):
            return home.place_of(known + path[len(real) :], root, os.environ)
    return None


@functools.cache
def _linked(root: str, _environment: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """Return (where a link of a known place leads, the known place)."""
    return tuple((real, known) for real, known in home.known_files(root, os.environ) if real != known)


def known_files() -> list[str]:
    """Return what stands in the known places of this home directory: files, and folders that links put there."""
    paths = [path for path, _ in home.known_files(home_folder(), os.environ)]
    folders = tuple(path + os.sep for path in paths if Path(path).is_dir())
    return [path for path in paths if not path.startswith(folders)]


def changed(sight: Sight) -> datetime | None:
    """Return when the copy was made as far as is known: the commit's date, or the file's last change."""
    place = sight.provenance
    if not isinstance(place, FileProvenance):
        return place.date
    try:
        return datetime.fromtimestamp(os.lstat(real_path(place.path)).st_mtime, UTC)
    except (OSError, ValueError, OverflowError):
        return None


def be_nice() -> None:
    """Take the lowest priority for processor and, where the system has one, for the disk. Readers inherit it."""
    if hasattr(os, "nice"):
        os.nice(_LOWEST)
    ionice = shutil.which("ionice")
    if ionice is not None:
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            subprocess.run([ionice, "-c", "3", "-p", str(os.getpid())], capture_output=True, check=False, timeout=5)


def wait_for_power(on_battery: Callable[[], bool], sleep: Callable[[float], object]) -> None:
    """Wait while the machine runs on its battery. sleep takes seconds."""
    while on_battery():
        sleep(_WAIT)


def on_battery(supplies: Path = _SUPPLIES) -> bool:
    """Say whether a battery is all the power there is. supplies is Linux's folder; macOS is asked by `pmset`."""
    if sys.platform == "darwin":
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            told = subprocess.run(["pmset", "-g", "batt"], capture_output=True, text=True, check=False, timeout=5)
            return "'Battery Power'" in told.stdout
        return False  # it is not known, and a scan that waits for ever finds nothing
    mains, discharging = list[bool](), False
    for supply in supplies.glob("*"):
        kind = _told(supply / "type")
        if kind in {"Mains", "USB"} and _told(supply / "online"):
            mains.append(_told(supply / "online") == "1")
        discharging |= kind == "Battery" and _told(supply / "status") == "Discharging"
    return discharging and not any(mains)


def _told(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""
