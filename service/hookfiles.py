"""`hook install` and `hook uninstall`: the files that git runs, and what stood in their place before."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from firedamp.scanner.objects import environment, find
from firedamp.service.ourselves import COMMAND
from firedamp.service.show import safe
from firedamp.storage.errors import Failure
from firedamp.storage.masking import masked

_MARK: Final = "# Installed by firedamp; `firedamp hook install` writes it anew."
_PASSES: Final = "# Made by `firedamp hook install --global`: git looks here now, and no longer into repositories."
_BEFORE: Final = "before-firedamp"
"""The folder that an existing hook is moved to, under its own name: some do what they are called. Ours runs it first.

Older versions kept it beside ours, as NAME.before-firedamp.
"""
_WITH_INPUT: Final = frozenset({"pre-push", "pre-receive"})
_KINDS: Final = (
    "applypatch-msg", "pre-applypatch", "post-applypatch", "pre-commit", "pre-merge-commit", "prepare-commit-msg",
    "commit-msg", "post-commit", "pre-rebase", "post-checkout", "post-merge", "pre-push", "pre-receive", "update",
    "proc-receive", "post-receive", "post-update", "reference-transaction", "pre-auto-gc", "post-rewrite",
    "sendemail-validate", "p4-changelist", "p4-prepare-changelist", "p4-post-changelist", "p4-pre-submit",
    "post-index-change",
)  # fmt: skip
"""The hooks that git looks for in its folder of hooks (githooks(5)).

But push-to-checkout: that one replaces what git does itself, so that none is not the same as one that does nothing.
"""
# Most hooks run where `.git` is the git folder; to ask git takes longer than all the rest, in each change of a ref.
_OWN: Final = """\
common="${GIT_DIR:-.git}"
[ -d "$common/objects" ] || common="$(git rev-parse --git-common-dir)"
"""


def install(name: str, top: Path | None, options: Sequence[str], say: Callable[[str], None]) -> int:
    """Write a hook for the repository at top, or for all of this user's; one that stands there is kept and runs first.

    options are what the hook gives firedamp each time it runs. say tells a person what was done.
    """
    folder, shadow = _folder_for_all() if top is None else _folder_of(top)
    path, before = folder / name, folder / _BEFORE / name
    to_keep = {folder / f"{name}.{_BEFORE}": before}
    if not _says(path, _MARK, _PASSES):
        # pre-commit's hook looks for the second beside itself.
        to_keep |= {path: before, folder / f"{name}.legacy": before.with_name(f"{name}.legacy")}
    _move_all(to_keep)
    _write(path, _script(name, options, for_all=top is None))
    if top is None and folder == _folder_of_ours():
        for each in _KINDS:
            if not os.path.lexists(folder / each):
                _write(folder / each, _pass_on(each))
        git(None, "config", "--global", "core.hooksPath", str(folder))
    say(safe(masked(f"{path} is installed{_fate(before)}")))
    if shadow:
        print(safe(masked(f"firedamp: core.hooksPath is {shadow}: git looks there, not in {folder}")), file=sys.stderr)
        return 2
    return 0


def uninstall(name: str, top: Path | None, say: Callable[[str], None]) -> int:
    """Remove a hook of ours, and put back what stood there before."""
    folder, _ = _folder_for_all() if top is None else _folder_of(top)
    path, before = folder / name, folder / _BEFORE / name
    if not _says(path, _MARK):
        raise Failure(f"{path} is no hook of ours", "is it installed, for this repository or --global?")
    kept = before.with_name(f"{name}.legacy")
    _move_all({folder / f"{name}.{_BEFORE}": path, before: path, kept: folder / f"{name}.legacy"}, instead_of=path)
    if before.parent.is_dir() and not any(before.parent.iterdir()):
        before.parent.rmdir()
    say(safe(masked(f"{path} is removed" + ("; what stood there before is back" if os.path.lexists(path) else ""))))
    if top is None and folder == _folder_of_ours():
        _leave(folder, name)
    return 0


def _leave(folder: Path, name: str) -> None:
    """Pass one more hook on; with the last of ours go all that pass on, and git looks into repositories again."""
    if any(_says(folder / each, _MARK) for each in _KINDS):
        if not os.path.lexists(folder / name):
            _write(folder / name, _pass_on(name))
        return
    for each in _KINDS:
        if _says(folder / each, _PASSES):
            (folder / each).unlink()
    if not any(folder.iterdir()):
        git(None, "config", "--global", "--unset", "core.hooksPath")


def _fate(before: Path) -> str:
    """Say what becomes of the hook that stood there before."""
    kept = f"{before.parent.name}/{before.name}"
    if not os.path.lexists(before):
        return ""
    if os.access(before, os.X_OK):
        return f"; {kept} runs before it"
    return f"; {kept} is kept and does not run, as it did not before: it is not executable"


def _says(path: Path, *marks: str) -> bool:
    """Return whether a file is ours. A link is not: what it leads to is somebody's."""
    if path.is_symlink() or not path.is_file():
        return False
    text = path.read_text(encoding="utf-8", errors="replace")
    return any(mark in text for mark in marks)


def _move_all(places: Mapping[Path, Path], instead_of: Path | None = None) -> None:
    """Move hooks, as far as they exist, each to its place; instead_of is the one that goes before.

    Raises Failure before anything is changed where two would stand in one place, or there is no place.
    """
    taken = {to: to for to in places.values() if to != instead_of and os.path.lexists(to)}
    moving = {path: to for path, to in places.items() if os.path.lexists(path)}
    for path, to in moving.items():
        if to in taken:
            raise Failure(f"{path} and {taken[to]} are both somebody's", "join them, then try again")
        if os.path.lexists(to.parent) and not to.parent.is_dir():
            raise Failure(f"{to.parent} is no folder", f"{path} would be kept there: move it, then try again")
        taken[to] = path
    if instead_of is not None:
        instead_of.unlink()
    for path, to in moving.items():
        _move(path, to)


def _move(path: Path, to: Path) -> None:
    """Move a hook. A relative link still leads to where it led."""
    to.parent.mkdir(exist_ok=True)
    if path.is_symlink():
        target = os.path.join(os.path.realpath(path.parent), path.readlink())  # noqa: PTH118 - not to be resolved
        to.symlink_to(target if path.readlink().is_absolute() else os.path.relpath(target, os.path.realpath(to.parent)))
        path.unlink()
    else:
        path.rename(to)


def _write(path: Path, script: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.write_text(script, encoding="utf-8")
    path.chmod(0o755)


def _folder_of(top: Path) -> tuple[Path, str]:
    """Return the hooks folder of a repository, and the one where git looks instead, if there is one.

    That may be said in its configuration, in what this includes, for a work tree, a user or a system: git knows.
    """
    folder = find(top).common / "hooks"
    asked = git(top, "rev-parse", "--git-path", "hooks")
    return folder, "" if os.path.realpath(top / asked) == os.path.realpath(folder) else asked


def _folder_for_all() -> tuple[Path, str]:
    """Return the hooks folder of all of this user's repositories: the configured one, or ours."""
    configured = git(None, "config", "--type=path", "--get", "core.hooksPath")
    if not configured:
        return _folder_of_ours(), ""
    if not os.path.isabs(configured):  # noqa: PTH117 - it may be empty, and no Path is
        raise Failure(f"core.hooksPath is {configured}: another folder in each repository", "install in each")
    return Path(configured), ""


def _folder_of_ours() -> Path:
    return Path("~/.config/git/hooks").expanduser()


def git(top: Path | None, *arguments: str) -> str:
    """Ask the user's own git about a repository, or about none, with the user's configuration. It runs no hook of any.

    Returns what it prints, nothing where there is nothing of that name. Raises Failure with what it says.
    """
    kept = {name: value for name, value in environment().items() if not name.startswith("GIT_CONFIG")}
    kept |= {name: value for name, value in os.environ.items() if name.startswith("GIT_CONFIG")}
    if top is None:
        kept["GIT_DIR"] = os.devnull
    done = subprocess.run(
        ["git", "--no-pager", *arguments], capture_output=True, text=True, env=kept, cwd=top, check=False
    )
    if done.returncode > 1:
        raise Failure(f"git {arguments[0]}: {done.stderr.strip()}")
    return done.stdout.strip()


def _script(name: str, options: Sequence[str], *, for_all: bool) -> str:
    """Return the hook: what was there before, then ours. Input that git gives once is given to each."""
    run = shlex.join([*COMMAND, "hook", "--quiet", *options, "run", name])
    given = "given | " if name in _WITH_INPUT else ""
    lines = ["#!/bin/sh", _MARK, f'before="$(dirname "$0")/{_BEFORE}/{name}"', "own="]
    if for_all:
        lines += [*_OWN.splitlines(), f'own="$common/hooks/{name}"']
    if given:
        # What no line was given to gets none: an empty one would be a malformed one.
        lines += ['input="$(cat)"', """given() { [ -z "$input" ] || printf '%s\\n' "$input"; }"""]
    lines += [
        'for other in "$before" "$own"; do',
        f'    if [ -x "$other" ] && ! [ "$other" -ef "$0" ]; then {given}"$other" "$@" || exit $?; fi',
        "done",
        f'{given or "exec "}{run} "$@"',
    ]
    return "\n".join(lines) + "\n"


def _pass_on(name: str) -> str:
    """Return a hook that only runs the repository's own of the same name."""
    lines = ["#!/bin/sh", _PASSES, *_OWN.splitlines(), f'own="$common/hooks/{name}"']
    lines += ['if [ -x "$own" ] && ! [ "$own" -ef "$0" ]; then exec "$own" "$@"; fi']
    return "\n".join(lines) + "\n"
