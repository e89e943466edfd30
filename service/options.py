"""What was asked for: frozen options, made by `cli` from arguments and read by the commands."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from firedamp.storage.errors import UsageFailure
from firedamp.storage.store import Store

if TYPE_CHECKING:
    from firedamp.service.config import Config


class Format(StrEnum):
    """The forms a result takes."""

    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"
    SARIF = "sarif"
    CSV = "csv"


@dataclass(frozen=True, slots=True, kw_only=True)
class Common:
    """Options that every command takes."""

    db: Path | None = None
    config: Path | None = None
    format: Format = Format.TABLE
    output: Path | None = None
    jobs: int | None = None
    offline: bool = False
    quiet: bool = False

    def database(self) -> Path:
        """Return the database's path: `--db`, else what the configuration names, FIREDAMP_DB, the user data folder."""
        if self.db is not None:
            return self.db
        # Without a file nothing is named, and what reads one need not be loaded.
        named = None if self.config is None else self.settings().db
        return named or default_db()

    def open_store(self) -> Store:
        """Open the database."""
        return Store(self.database())

    def settings(self) -> Config:
        """Read the configuration file, or take the defaults where none is named."""
        from firedamp.service import config

        return config.Config() if self.config is None else config.load(self.config)

    @contextmanager
    def out(self) -> Iterator[TextIO]:
        """Open where results go: the file of `--output`, for its owner alone, or standard output, which stays open."""
        if self.output is None:
            yield sys.stdout
            return
        with ExitStack() as ends:
            try:
                file = ends.enter_context(open(self.output, "w", encoding="utf-8", opener=_private))
            except OSError as error:
                raise UsageFailure(f"{self.output} cannot be written: {error.strerror}", "see --output FILE") from error
            yield file

    def must_be(self, *forms: Format) -> None:
        """Raise UsageFailure for a form that the command cannot write: before its work, and not after it."""
        if self.format not in forms:
            *others, last = forms
            named = f"{', '.join(others)} or {last}" if others else last
            raise UsageFailure(f"this has no form {self.format}", f"--format {named}")

    def say(self, text: str) -> None:
        """Tell a person what goes on, beside the results. text is safe for a terminal."""
        if not self.quiet:
            print(f"firedamp: {text}", file=sys.stderr)


def _private(path: str, flags: int) -> int:
    """Create a file that its owner alone may read: results say where keys lie, and may hold secrets."""
    return os.open(path, flags, 0o600)


def must_be_writable(path: Path | None) -> None:
    """Raise UsageFailure where no file can be written: before hours of work, and not after them."""
    if path is not None and (path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK)):
        raise UsageFailure(f"{path} cannot be written", "is it a folder, or is its folder missing?")


def default_db() -> Path:
    """Return FIREDAMP_DB, or firedamp.db in the user data folder of this system."""
    named = os.environ.get("FIREDAMP_DB")
    return Path(named) if named else usual_db()


def usual_db() -> Path:
    """Return the database of whoever names none: firedamp.db in the user data folder of this system."""
    import platformdirs

    return Path(platformdirs.user_data_dir("firedamp")) / "firedamp.db"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanOptions:
    """Options of `scan`."""

    targets: tuple[str, ...] = ()
    org: tuple[str, ...] = ()
    staged: bool = False
    all_places: bool = False
    examples: bool = False
    thorough: bool = False
    new: bool = False
    states: tuple[str, ...] = ()
    baseline: Path | None = None
    write_baseline: Path | None = None
    own_keys: bool = False
    honour_marks: tuple[str, ...] = ()
    show_secrets: bool = False
    accept_incomplete: tuple[str, ...] = ()
    nice: bool = False
    same_file_system: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class FindingsOptions:
    """Options of `findings`."""

    action: str = "list"
    ids: tuple[str, ...] = ()
    state: str | None = None
    reason: str = ""
    allowed: bool = False
    examples: bool = False
    by: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyOptions:
    """Options of `verify`."""

    ids: tuple[str, ...] = ()
    all: bool = False
    log: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyOptions:
    """Options of `key`."""

    action: str
    key_id: str
    with_leaked_key: bool = False
    yes: bool = False
    profile: str | None = None
    leave: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageOptions:
    """Options of `usage`."""

    key_id: str
    feeds: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryOptions:
    """Options of `canary`."""

    action: str
    names: tuple[str, ...] = ()
    count: int = 1
    name: str | None = None
    note: str = ""
    tags: tuple[str, ...] = ()
    arn: str | None = None
    real: bool = False
    force: bool = False
    place: str | None = None
    form: str | None = None
    dry_run: bool = False
    secret_from: str | None = None
    profile: str | None = None
    budget: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchOptions:
    """Options of `watch`."""

    feeds: tuple[str, ...] = ()
    once: bool = False
    interval: int = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class IncidentsOptions:
    """Options of `incidents`."""

    action: str = "list"
    ids: tuple[str, ...] = ()
    reason: str = ""
    all: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class HookOptions:
    """Options of `hook`."""

    action: str
    hook: str
    for_all: bool = False
    arguments: tuple[str, ...] = ()
