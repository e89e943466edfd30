"""`hook install` and `hook run`, and `scan --staged`: the moment before a commit, a push, or a receive.

Only what is new is read, nothing is remembered, and nobody is asked: a hook must be fast and work on a train.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from firedamp.scanner.chosen import ChosenSource, pushed, staged
from firedamp.scanner.objects import environment, find
from firedamp.scanner.reading import Settings
from firedamp.scanner.source import Source
from firedamp.service import scanning
from firedamp.service.options import Common, HookOptions, ScanOptions
from firedamp.storage.errors import Failure, SourceFailure, UsageFailure

_MARK: Final = "# Installed by firedamp; `firedamp hook install` writes it anew."
_BEFORE: Final = "before-firedamp"
"""What an existing hook is called from then on: ours runs it first."""
_WITH_INPUT: Final = frozenset({"pre-push", "pre-receive"})


def scan_staged(options: ScanOptions, common: Common) -> int:
    """Scan what is about to be committed in the repository we stand in, or in the one target."""
    if len(options.targets) > 1:
        raise UsageFailure("scan --staged takes one repository", "the one it is run in, without a target")
    path = top(Path(options.targets[0]) if options.targets else Path.cwd())
    return scanning.scan_once(
        lambda settings: [staged(path, settings, os.environ.get("GIT_INDEX_FILE"))], options, common
    )


def hook(options: HookOptions, common: Common) -> int:
    """Install a hook, or do what an installed one does."""
    if options.action == "install":
        return _install(options.hook, for_all=options.for_all)
    status = _run(options.hook, options.arguments, replace(common, offline=True))
    if status == 1:
        print(
            "firedamp: a key would leave this machine. Take it out; if it is meant to be there, end its line with\n"
            "  firedamp:allow   or decide once: firedamp findings set ID --state accepted --reason …",
            file=sys.stderr,
        )
    return status


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


def _install(name: str, *, for_all: bool) -> int:
    """Write the hook; one that stands there already is kept and runs first."""
    folder, shadow = _folder_for_all() if for_all else _folder_here()
    folder.mkdir(parents=True, exist_ok=True)
    path, before = folder / name, folder / f"{name}.{_BEFORE}"
    if path.exists() and _MARK not in path.read_text(encoding="utf-8", errors="replace"):
        if before.exists():
            raise Failure(f"{path} and {before} are both somebody's", "join them, then install again")
        path.rename(before)
    script = _script(name, for_all=for_all)
    path.write_text(script, encoding="utf-8")
    path.chmod(0o755)
    print(f"{path} is installed" + (f"; {before.name} runs before it" if before.exists() else ""))
    if shadow:
        print(f"firedamp: core.hooksPath is {shadow}: git looks there, not in {folder}", file=sys.stderr)
        return 2
    return 0


def _folder_here() -> tuple[Path, str]:
    """Return the hooks folder of the repository we stand in, and what shadows it."""
    layout = find(top(Path.cwd()))
    folder = layout.common / "hooks"
    configured = _git_config(layout.common)
    if configured and (layout.root / configured).resolve() != folder.resolve():
        return folder, configured
    return folder, ""


def _folder_for_all() -> tuple[Path, str]:
    """Return the hooks folder of all of this user's repositories: the configured one, or a new one of ours."""
    configured = _git_config(None)
    if configured:
        return Path(configured).expanduser(), ""
    folder = Path("~/.config/git/hooks").expanduser()
    _git("config", "--global", "core.hooksPath", str(folder))
    return folder, ""


def _git_config(git_dir: Path | None) -> str:
    """Return core.hooksPath. This is the user's own git asking its own configuration: no object is read."""
    where = ["--global"] if git_dir is None else [f"--file={git_dir / 'config'}"]
    return _git("config", *where, "--get", "core.hooksPath") or ("" if git_dir is None else _git_config(None))


def _git(*arguments: str) -> str:
    # The user's own configuration is what is asked for, so it is not shut out here.
    kept = {name: value for name, value in environment().items() if not name.startswith("GIT_CONFIG")}
    if "GIT_CONFIG_GLOBAL" in os.environ:
        kept["GIT_CONFIG_GLOBAL"] = os.environ["GIT_CONFIG_GLOBAL"]
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, env=kept, check=False)
    return done.stdout.strip()


def _script(name: str, *, for_all: bool) -> str:
    """Return the hook: what was there before, then ours. Input that git gives once is given to both."""
    run = shlex.join([sys.executable, "-P", "-m", "firedamp.service.cli", "hook", "--quiet", "run", name])
    before = f'before="$(dirname "$0")/{name}.{_BEFORE}"'
    own = f'own="$(git rev-parse --git-common-dir)/hooks/{name}"' if for_all else 'own=""'
    if name in _WITH_INPUT:
        calls = (
            'input="$(cat)"\n'
            'for other in "$before" "$own"; do\n'
            '    [ -x "$other" ] && { printf \'%s\\n\' "$input" | "$other" "$@" || exit $?; }\n'
            "done\n"
            f'printf \'%s\\n\' "$input" | {run} "$@"\n'
        )
    else:
        calls = (
            'for other in "$before" "$own"; do\n'
            '    [ -x "$other" ] && { "$other" "$@" || exit $?; }\n'
            "done\n"
            f'exec {run} "$@"\n'
        )
    return f"#!/bin/sh\n{_MARK}\n{before}\n{own}\n{calls}"
