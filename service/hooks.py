"""`hook run` and `scan --staged`: the moment before a commit, a push, or a receive.

Only what is new is read, nothing is remembered, and nobody is asked: a hook must be fast and work on a train.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Final

from firedamp.scanner.chosen import pushed, staged
from firedamp.scanner.objects import find, is_id, unquote
from firedamp.scanner.reading import Settings
from firedamp.scanner.source import Source
from firedamp.scanner.walk import shown
from firedamp.service import scanning
from firedamp.service.options import Common, HookOptions, ScanOptions
from firedamp.storage.errors import SourceFailure, UsageFailure

_SCISSORS: Final = re.compile(rb"^(\S+) -{24} >8 -{24}\n(?=(?:\1.*\n)*(?:diff --|\Z))", re.MULTILINE)
"""The line below which git leaves a message out, with what `commit --verbose` shows there: notes of git's own, a diff.

Source: wt-status.c, `cut_line`. In a message that was not edited such a line cuts nothing.
"""

_STOPPED: Final = {
    "pre-commit": "be committed. Take it out",
    "commit-msg": "be committed. Take it out of the message",
    "pre-push": "leave this machine. Take it out of the commits, or the name, that hold it",
    "pre-receive": "come in. Take it out of the commits, or the name, that hold it",
}
"""What a key would do, and where it is to be taken out, for each hook."""

_DECIDE: Final = (
    "   or decide once, for hooks remember nothing of a key:\n"
    "  firedamp scan . --offline   then firedamp findings set ID --state accepted --reason …"
)
"""For what a scan of the repository finds: it knows no message that is not committed, and no push that is refused."""


def scan_staged(options: ScanOptions, common: Common, *, everything: bool = False) -> int:
    """Scan what is about to be committed in the repository we stand in, or in the one target.

    everything: all that is tracked, though nothing of it is about to be committed.
    """
    if len(options.targets) > 1:
        raise UsageFailure("scan --staged takes one repository", "the one it is run in, without a target")
    for given, word in ((options.org, "--org"), (options.show_secrets, "--show-secrets"), (options.nice, "--nice")):
        if given:
            raise UsageFailure(
                f"scan --staged does not take {word}", "it reads what one commit brings, and keeps nothing"
            )
    path = top(Path(options.targets[0]) if options.targets else None)
    index = os.environ.get("GIT_INDEX_FILE")
    stores = () if options.targets else _stores()

    def sources(settings: Settings) -> list[Source]:
        return [staged(path, settings, index, everything=everything, stores=stores)]

    return scanning.scan_once(sources, options, common)


def hook(options: HookOptions, common: Common) -> int:
    """Install a hook or take it away, or do what an installed one does."""
    if options.action != "run":
        from firedamp.service import hookfiles

        where = None if options.for_all else top()
        if options.action == "uninstall":
            return hookfiles.uninstall(options.hook, where, common.say)
        return hookfiles.install(options.hook, where, _kept_options(common), common.say)
    status = _run(options.hook, options.arguments, replace(common, offline=True))
    if status == 1:
        print(
            f"firedamp: a key would {_STOPPED[options.hook]}; if it is meant to be there, end its line with\n"
            f"  firedamp:allow{_DECIDE if options.hook in {'pre-commit', 'pre-push'} else ''}",
            file=sys.stderr,
        )
    if status == 2:
        print(
            "firedamp: what could not be read may hold a key. If it may pass, name it in a configuration file as\n"
            "  [scan] accept_incomplete   and give that to the hook: firedamp hook install NAME --config FILE",
            file=sys.stderr,
        )
    return status


def _kept_options(common: Common) -> list[str]:
    """Return what an installed hook is to know each time: where decisions and settings stand."""
    given = {"--config": common.config, "--db": common.db}
    return [each for word, path in given.items() if path is not None for each in (word, str(path.absolute()))]


def _run(name: str, arguments: Sequence[str], common: Common) -> int:
    match name:
        case "pre-commit":
            return _before_commit(common)
        case "commit-msg":
            if len(arguments) != 1:
                raise UsageFailure("hook run commit-msg takes the file that holds the message", "git passes it")
            source: Source = scanning.stream(BytesIO(_message(Path(arguments[0]))), "commit message")
            return scanning.scan_once(lambda _: [source], ScanOptions(), common)
        case "pre-push":
            return _before_push(arguments, common)
        case _:
            # "<old id> SP <new id> SP <ref>" (githooks(5))
            updates = [_update(old, new, ref) for old, new, ref in _lines(3)]
            return _scan_pushed(updates, common, known="refs/")


def _message(path: Path) -> bytes:
    """Return what git keeps of a message. It sets GIT_EDITOR=: for a hook where nobody edits one, as with -m and -F."""
    text = path.read_bytes()
    return text if os.environ.get("GIT_EDITOR") == ":" else _SCISSORS.split(text, maxsplit=1)[0]


def _before_commit(common: Common) -> int:
    """Scan what is staged; when a person or CI runs pre-commit, the commits it was given, else all that is tracked.

    git names the index to the hooks it runs; pre-commit alone sets PRE_COMMIT, and does not say what it was asked for.
    """
    by_hand = "PRE_COMMIT" in os.environ and "GIT_INDEX_FILE" not in os.environ
    if by_hand and "PRE_COMMIT_TO_REF" in os.environ:
        return _scan_pushed(_told_by_pre_commit(), common, known=None)
    return scan_staged(ScanOptions(), common, everything=by_hand)


def _before_push(arguments: Sequence[str], common: Common) -> int:
    """Scan what the remote does not have: what another one has is not known where this push goes.

    git passes the remote's name and its URL, the URL twice where it has no name, and writes
    "<local ref> SP <local id> SP <remote ref> SP <remote id>" (githooks(5)).
    """
    if not arguments and any(f"PRE_COMMIT{word}" in os.environ for word in ("", "_TO_REF", "_LOCAL_BRANCH")):
        name, url = (os.environ.get(f"PRE_COMMIT_REMOTE_{word}", "") for word in ("NAME", "URL"))
        updates = _told_by_pre_commit()
    else:
        name, url = (*arguments, "", "")[:2]
        updates = [_update(old, new, ref) for _, new, ref, old in _lines(4)]
        if not arguments and not updates:
            raise UsageFailure("hook run pre-push is told of no push", "give it git's arguments and standard input")
    named = name not in {"", url} and ".." not in name
    return _scan_pushed(updates, common, known=f"refs/remotes/{name}/" if named else None)


def _told_by_pre_commit() -> list[tuple[str, str, str]]:
    """Return the one update that pre-commit tells of: it reads git's lines itself (its `commands/hook_impl.py`).

    Without a range all of a branch is new, and a run by hand may not even name that.
    """
    new = os.environ.get("PRE_COMMIT_TO_REF") or os.environ.get("PRE_COMMIT_LOCAL_BRANCH") or "HEAD"
    old = os.environ.get("PRE_COMMIT_FROM_REF")
    return [("" if old is None else _id(old), _id(new), os.environ.get("PRE_COMMIT_REMOTE_BRANCH", ""))]


def _id(name: str) -> str:
    """Return the object id of what a user calls a commit."""
    from firedamp.service.hookfiles import git

    found = git(top(), "rev-parse", "--verify", "--quiet", name)
    if not found:
        raise UsageFailure(f"{name} names no commit here")
    return found


def _lines(fields: int) -> list[list[str]]:
    """Return the fields of each line. Git parts them by single spaces, and ends lines by LF alone.

    A name may hold any other character that parts words or lines elsewhere; only what a user calls the object that is
    pushed (`:/a message`) may hold a space, and that stands first.
    """
    text = sys.stdin.buffer.read().decode("utf-8", "backslashreplace")
    lines = [line.rsplit(" ", fields - 1) for line in text.split("\n") if line]
    for line in lines:
        if len(line) < fields:
            raise UsageFailure(f"a line of {fields} fields is expected on standard input, as git gives it to this hook")
    return lines


def _update(old: str, new: str, ref: str) -> tuple[str, str, str]:
    if not (is_id(old) and is_id(new)):
        raise UsageFailure(f"no object ids are given for {shown(ref)}", "git gives them to this hook")
    return old, new, ref


def _scan_pushed(updates: Sequence[tuple[str, str, str]], common: Common, *, known: str | None) -> int:
    path = top()
    if not any(new.strip("0") for _, new, _ in updates):
        return 0  # only deletions: nothing comes in

    def sources(settings: Settings) -> list[Source]:
        return [pushed(path, updates, settings, known=known, stores=_stores())]

    return scanning.scan_once(sources, ScanOptions(), common)


def _stores() -> tuple[Path, ...]:
    """Return the object folders that git uses here besides the repository's own: a push's, or the user's (git(1)).

    Those of a push nobody else sees (git-receive-pack(1), "Quarantine environment").
    """
    own, lenders = os.environ.get("GIT_OBJECT_DIRECTORY", ""), os.environ.get("GIT_ALTERNATE_OBJECT_DIRECTORIES", "")
    named = (os.environ.get("GIT_QUARANTINE_PATH") or own, *map(unquote, lenders.split(os.pathsep)))
    return tuple(Path(os.path.realpath(name)) for name in named if os.path.isdir(name))  # noqa: PTH112 - it may be ""


def top(path: Path | None = None) -> Path:
    """Return the repository that path stands in: its work tree, or its git folder when it is bare.

    Without a path it is the one that git means here: GIT_DIR goes before the folder we stand in (git(1)).
    """
    given = os.environ.get("GIT_DIR") if path is None else None
    start = Path.cwd() if path is None else path.absolute()
    for folder in (start, *start.parents):
        try:
            layout = find(folder)
        except SourceFailure:
            continue
        if given is None or layout.git_dir == Path(os.path.realpath(given)):
            return folder
    if given is not None:
        return Path(given).absolute()
    raise UsageFailure(f"{start} is in no git repository", "git init makes one; firedamp scan reads any folder")
