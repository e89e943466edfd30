"""A file on a branch of a repository as a place for a canary: one commit, made without the work tree or its index.

Objects are written through a private, empty git folder of ours with the object folder of theirs, so no configuration,
hook or filter of the repository runs. Only the branch itself is moved in their folder, from exactly the commit that was
read, with hooks switched off.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from firedamp.canaries.plant import Held
from firedamp.storage.errors import Failure, UsageFailure

_LARGEST: Final = 64 << 20
_TIME: Final = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class GitPlace:
    """`path` on `branch` of the repository at `folder`, a work tree or a git folder.

    A branch that does not exist begins at HEAD's commit. The commit bears the name and the time zone of the last one's
    author. moves_checkout says whether a branch that is checked out may be moved: its work tree then looks as if the
    file had been deleted.
    """

    folder: Path
    branch: str
    path: str
    at: datetime
    moves_checkout: bool = False
    kind: str = "git"
    grows: bool = True

    @property
    def name(self) -> str:
        """The repository, the branch and the path, as `git:/srv/app@main:.env`."""
        return f"git:{self.folder}@{self.branch}:{self.path}"

    def read(self) -> Held | None:
        """Read the file on the branch. Raises Failure when it is no regular file, or there is no repository."""
        tip = self._tip()
        return None if tip is None else self._at(tip)

    def write(self, data: bytes, before: Held | None) -> None:
        """Commit data as the file's content."""
        tip = self._expected(before)
        with self._private() as git:
            blob = git("hash-object", "-w", "--no-filters", "--stdin", given=data)
            mode = "100644"
            if before is not None:
                mode = git("ls-tree", tip, "--", self.path).split()[0]
            change = ("--add", "--cacheinfo", f"{mode},{blob},{self.path}")
            self._commit(git, tip, change, f"{'Add' if before is None else 'Update'} {self.path}")

    def remove(self, held: Held) -> None:
        """Commit that the file is not there any more. The history keeps it."""
        tip = self._expected(held)
        with self._private() as git:
            self._commit(git, tip, ("--index-info",), f"Remove {self.path}", f"0 {'0' * len(tip)}\t{self.path}\n")

    def _commit(self, git: _Git, tip: str, change: tuple[str, ...], message: str, lines: str = "") -> None:
        git("read-tree", tip)
        git("update-index", *change, given=lines.encode())
        tree = git("write-tree")
        form = ("--format=%an%n%ae%n%ad", "--date=format:%z")
        author, mail, zone = git("show", "-s", "--no-show-signature", *form, tip).split("\n")[:3]
        when = f"{int(self.at.timestamp())} {zone}"
        names = {
            "GIT_AUTHOR_NAME": author, "GIT_AUTHOR_EMAIL": mail, "GIT_AUTHOR_DATE": when,
            "GIT_COMMITTER_NAME": author, "GIT_COMMITTER_EMAIL": mail, "GIT_COMMITTER_DATE": when,
        }  # fmt: skip
        commit = git("commit-tree", tree, "-p", tip, given=f"{message}\n".encode(), more=names)
        here = self._ref() or "0" * len(commit)
        self._theirs("update-ref", "--create-reflog", f"refs/heads/{self.branch}", commit, here, more=names)

    def _expected(self, before: Held | None) -> str:
        """Return the commit to go on from. Raises Failure when the branch or the file is not as it was read."""
        if not self.moves_checkout and f"branch refs/heads/{self.branch}" in self._theirs(
            "worktree", "list", "--porcelain"
        ).split("\n"):
            raise UsageFailure(
                f"{self.branch} is checked out in {self.folder}", "name another branch; --force moves it all the same"
            )
        tip = self._tip()
        if tip is None:
            raise UsageFailure(f"{self.folder} has no commit to go on from", "commit something first")
        now = self._at(tip)
        if (None if now is None else now.data) != (None if before is None else before.data):
            raise Failure(f"{self.name} changed while it was being written", "look at it, then try again")
        return tip

    def _at(self, tip: str) -> Held | None:
        with self._private() as git:
            entry = git("ls-tree", "--long", tip, "--", self.path)
            if not entry:
                return None
            mode, kind, blob, size = entry.split("\t")[0].split()
            if kind != "blob" or mode == "120000":
                raise Failure(f"{self.name} is no regular file", "name another path")
            if int(size) > _LARGEST:
                raise Failure(f"{self.name} is larger than {_LARGEST >> 20} MiB", "this is no file to plant in")
            return Held(git.bytes("cat-file", "blob", blob), tip)

    def _tip(self) -> str | None:
        """Return the branch's commit, or HEAD's while there is no such branch."""
        return self._ref() or self._theirs("rev-parse", "--verify", "--quiet", "HEAD^{commit}", may_fail=True) or None

    def _ref(self) -> str | None:
        ref = f"refs/heads/{self.branch}^{{commit}}"
        return self._theirs("rev-parse", "--verify", "--quiet", ref, may_fail=True) or None

    def _theirs(self, *arguments: str, may_fail: bool = False, more: dict[str, str] | None = None) -> str:
        """Run git in their folder: for refs only. None of these commands reads an object's filter or runs a program."""
        command = ["-C", str(self.folder), "-c", f"core.hooksPath={os.devnull}", "-c", "core.fsmonitor=false"]
        done = _run([*command, *arguments], _environment(**(more or {})))
        if done.returncode and not (may_fail and done.returncode == 1):
            raise Failure(f"git cannot work in {self.folder}: {_words(done.stderr)}", "is it a repository of yours?")
        return done.stdout.decode("utf-8", "surrogateescape").rstrip("\n")

    @contextmanager
    def _private(self) -> Iterator[_Git]:
        common = Path(self.folder, self._theirs("rev-parse", "--git-common-dir"))
        wide = self._theirs("rev-parse", "--show-object-format") == "sha256"
        with tempfile.TemporaryDirectory(prefix="firedamp-plant-") as name:
            private = Path(name)
            (private / "refs").mkdir()
            (private / "objects").mkdir()
            (private / "HEAD").write_text("ref: refs/heads/none\n")
            extension = "[extensions]\nobjectFormat = sha256\n" if wide else ""
            (private / "config").write_text(
                f"[core]\nrepositoryformatversion = 1\nbare = true\nquotePath = false\n{extension}"
            )
            objects = str((common / "objects").resolve())
            yield _Git(
                _environment(
                    GIT_DIR=name, GIT_OBJECT_DIRECTORY=objects, GIT_INDEX_FILE=str(private / "index")
                )
            )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Git:
    """A git that has the objects of one repository and nothing else of it."""

    environment: dict[str, str]

    def __call__(self, *arguments: str, given: bytes = b"", more: dict[str, str] | None = None) -> str:
        return self.bytes(*arguments, given=given, more=more).decode("utf-8", "surrogateescape").rstrip("\n")

    def bytes(self, *arguments: str, given: bytes = b"", more: dict[str, str] | None = None) -> bytes:
        done = _run(arguments, {**self.environment, **(more or {})}, given)
        if done.returncode:
            raise Failure(f"git {arguments[0]} failed: {_words(done.stderr)}", "nothing was changed")
        return done.stdout


def _run(
    arguments: list[str] | tuple[str, ...], environment: dict[str, str], given: bytes = b""
) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(
            ["git", "--no-pager", *arguments], input=given, capture_output=True, env=environment, check=False,
            timeout=_TIME,
        )  # fmt: skip
    except FileNotFoundError as error:
        raise Failure("git is not installed", "a commit is made with git: install it") from error
    except subprocess.TimeoutExpired as error:
        raise Failure(f"git {arguments[0]} took longer than {_TIME} seconds") from error


def _environment(**more: str) -> dict[str, str]:
    """Return what git is given: nothing inherited, no system or user configuration, nothing fetched (DESIGN, 6.12)."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    return kept | {
        "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull, "GIT_ATTR_NOSYSTEM": "1",
        "GIT_ALLOW_PROTOCOL": "", "GIT_NO_LAZY_FETCH": "1", "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C",
    } | more  # fmt: skip


def _words(stderr: bytes) -> str:
    return stderr.decode("utf-8", "replace").strip().partition("\n")[0] or "it gave no reason"
