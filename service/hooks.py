"""`hook run` and `scan --staged`: the moment before a commit, a push, or a receive.

Only what is new is read, nothing is remembered, and nobody is asked: a hook must be fast and work on a train.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from firedamp.scanner.chosen import ChosenSource, pushed, staged
from firedamp.scanner.objects import find
from firedamp.scanner.reading import Settings
from firedamp.scanner.source import Source
from firedamp.service import scanning
from firedamp.service.options import Common, HookOptions, ScanOptions
from firedamp.storage.errors import SourceFailure, UsageFailure


def scan_staged(options: ScanOptions, common: Common) -> int:
    """Scan what is about to be committed in the repository we stand in, or in the one target."""
    if len(options.targets) > 1:
        raise UsageFailure("scan --staged takes one repository", "the one it is run in, without a target")
    path = top(Path(options.targets[0]) if options.targets else Path.cwd())
    return scanning.scan_once(
        lambda settings: [staged(path, settings, os.environ.get("GIT_INDEX_FILE"))], options, common
    )


def hook(options: HookOptions, common: Common) -> int:
    """Install a hook or take it away, or do what an installed one does."""
    if options.action != "run":
        from firedamp.service import hookfiles

        where = None if options.for_all else top(Path.cwd())
        if options.action == "uninstall":
            return hookfiles.uninstall(options.hook, where)
        return hookfiles.install(options.hook, where, _kept_options(common))
    status = _run(options.hook, options.arguments, replace(common, offline=True))
    if status == 1:
        print(
            "firedamp: a key would leave this machine. Take it out; if it is meant to be there, end its line with\n"
            "  firedamp:allow   or decide once: firedamp findings set ID --state accepted --reason …",
            file=sys.stderr,
        )
    return status


def _kept_options(common: Common) -> list[str]:
    """Return what an installed hook is to know each time: where decisions and settings stand."""
    given = {"--config": common.config, "--db": common.db}
    return [each for word, path in given.items() if path is not None for each in (word, str(path.absolute()))]


def _run(name: str, arguments: Sequence[str], common: Common) -> int:
    path = top(Path.cwd())
    match name:
        case "pre-commit":
            return scan_staged(ScanOptions(), common)
        case "commit-msg":
            if len(arguments) != 1:
                raise UsageFailure("hook run commit-msg takes the file that holds the message", "git passes it")
            with Path(arguments[0]).open("rb") as message:
                sources: list[Source] = [scanning.stream(message)]
                return scanning.scan_once(lambda _: sources, ScanOptions(), common)
        case "pre-push":
            # "<local ref> SP <local id> SP <remote ref> SP <remote id>" (githooks(5))
            updates = [(fields[3], fields[1]) for fields in _lines(4)]
            return _scan_pushed(path, updates, common, known="refs/remotes/")
        case _:
            # "<old id> SP <new id> SP <ref>" (githooks(5))
            updates = [(fields[0], fields[1]) for fields in _lines(3)]
            return _scan_pushed(path, updates, common, known="refs/", quarantine=_quarantine())


def _lines(fields: int) -> list[list[str]]:
    lines = [line.split() for line in sys.stdin.read().splitlines() if line.strip()]
    for line in lines:
        if len(line) < fields:
            raise UsageFailure(f"a line of {fields} fields is expected on standard input, as git gives it to this hook")
    return lines


def _scan_pushed(
    path: Path, updates: Sequence[tuple[str, str]], common: Common, *, known: str, quarantine: tuple[Path, ...] = ()
) -> int:
    if not any(new.strip("0") for _, new in updates):
        return 0  # only deletions: nothing comes in

    def sources(settings: Settings) -> list[Source]:
        source: ChosenSource = pushed(path, updates, settings, known=known, quarantine=quarantine)
        return [source]

    return scanning.scan_once(sources, ScanOptions(), common)


def _quarantine() -> tuple[Path, ...]:
    """Return the object folders that only this push sees."""
    place = os.environ.get("GIT_QUARANTINE_PATH") or os.environ.get("GIT_OBJECT_DIRECTORY")
    return () if not place else (Path(place).absolute(),)


def top(path: Path) -> Path:
    """Return the repository that path stands in: its work tree, or its git folder when it is bare."""
    given = os.environ.get("GIT_DIR")
    if given and path == Path.cwd() and not (path / ".git").exists():
        return Path(given).absolute()
    for folder in (path.absolute(), *path.absolute().parents):
        try:
            find(folder)
        except SourceFailure:
            continue
        return folder
    raise UsageFailure(f"{path} is in no git repository")
