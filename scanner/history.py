"""How objects came into a repository: one walk over every commit, for all hits together.

Every commit that the repository holds is walked, those that no ref reaches too. A commit introduces a blob at a path
when none of its parents has it there: so a merge introduces only what it adds itself (combined diff).
"""

from __future__ import annotations

import io
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import numpy as np
from numpy.typing import NDArray

from firedamp.scanner.idset import Ids
from firedamp.scanner.objects import Layout, ObjectAccess, lined, resolve, unquote
from firedamp.scanner.walk import shown
from firedamp.storage.records import GitProvenance

_FEW: Final = 500
"""Up to so many blobs git itself is told what to look for, which leaves less to read."""
_RESTARTS: Final = 100
"""How often the walk goes on behind a commit whose trees are damaged or absent."""
_SHARE: Final = 16_000
"""Commits that one git walks: it keeps a kilobyte of each."""
_JOBS: Final = 2
_PERSON: Final = re.compile(rb"^(?:author|tagger) (.*) (-?\d+) ([+-]\d{4})$", re.MULTILINE)
_WRITTEN: Final = re.compile(rb"^committer .* (-?\d+) [+-]\d{4}$", re.MULTILINE)
_SECRET_LIKE: Final = re.compile(r"[A-Za-z0-9/+]{32,}")


@dataclass(frozen=True, slots=True)
class _Signed:
    """Who wrote a commit or tag, and when."""

    author: str | None
    date: datetime | None
    committed: int


_NOBODY: Final = _Signed(None, None, 0)


@dataclass(frozen=True, slots=True, eq=False)
class Walked:
    """What an earlier walk over the same repository found out. A commit never changes, so none is walked twice."""

    commits: NDArray[np.int64]
    """The first eight bytes of the ids of the commits that were walked."""
    places: Mapping[tuple[str, str], str]
    """For each path that a blob had: the first commit that put it there."""
    sought: Collection[str]
    """The blobs that were looked for."""

    def covers(self, commits: Ids) -> NDArray[np.bool_] | None:
        """Return for each of commits whether it was walked. None if some that was is no longer there."""
        now = brief(commits)
        return np.isin(now, self.commits) if np.isin(self.commits, now).all() else None


def brief(ids: Ids) -> NDArray[np.int64]:
    """Return the first eight bytes of each id: as good as the id where nobody gains by a collision."""
    return np.ascontiguousarray(ids[:, :8]).view(np.int64)[:, 0]


def trace(
    git: ObjectAccess, commits: Ids, names: Collection[str], repository: str, walked: Walked | None = None
) -> Iterator[tuple[str, GitProvenance]]:
    """Yield (id, one way it is met) for each of names, at least one for each that the repository has.

    A blob: each path it ever had, with the first commit that put it there. A commit or tag: itself. Where an earlier
    walk is known, and each blob that it did not look for came with newer commits, only these are walked.
    """
    kinds = _kinds(git, names)
    blobs = {name for name, kind in kinds.items() if kind == "blob"}
    places = _put(git, commits, blobs, walked) if blobs else {}
    head = resolve(git.layout)
    in_head = set(_in_head(git, head, blobs)) if head is not None else set[tuple[str, str]]()
    texts = [name for name, kind in kinds.items() if kind in {"commit", "tag"}]
    reached = _reached(git, head, {name for name in texts if kinds[name] == "commit"})
    signed = _signed(git, {commit for each in places.values() for commit in each} | set(texts))
    order = _Order(git, commits, signed)
    for (blob, path), introducers in places.items():
        commit = order.first(introducers)
        who = signed.get(commit, _NOBODY)
        yield blob, GitProvenance(
            repository=repository, commit=commit, path=path, author=who.author, date=who.date,
            in_head=None if head is None else (blob, path) in in_head,
        )  # fmt: skip
    for name in texts:
        who, is_commit = signed.get(name, _NOBODY), kinds[name] == "commit"
        yield name, GitProvenance(
            repository=repository, commit=name if is_commit else None, author=who.author, date=who.date,
            in_head=name in reached if is_commit and head is not None else None,
        )  # fmt: skip
    for blob in blobs.difference(blob for blob, _ in places):
        yield blob, GitProvenance(repository=repository, in_head=False)


def kinds_of(git: ObjectAccess, ids: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield (id, type) of those objects that the repository has."""
    for line in git.output("cat-file", "--batch-check=%(objectname) %(objecttype)", "--buffer", lines=lined(ids)):
        name, _, kind = line.decode("ascii", "replace").partition(" ")
        if kind in {"blob", "commit", "tag", "tree"}:
            yield name, kind


def _kinds(git: ObjectAccess, names: Collection[str]) -> dict[str, str]:
    return dict(kinds_of(git, names))


def _put(
    git: ObjectAccess, commits: Ids, blobs: Collection[str], walked: Walked | None
) -> dict[tuple[str, str], list[str]]:
    """Return, for each blob and path, the commits that put it there, of those walked before the first one only."""
    done = None if walked is None else walked.covers(commits)
    if walked is None or done is None:
        return _introduced(git, commits, blobs)
    places = _introduced(git, commits[~done], blobs)
    if {blob for blob, _ in places}.union(walked.sought).issuperset(blobs):
        for (blob, path), commit in walked.places.items():
            if blob in blobs:
                places.setdefault((blob, path), []).append(commit)
        return places
    return _introduced(git, commits, blobs)


def _introduced(git: ObjectAccess, commits: Ids, blobs: Collection[str]) -> dict[tuple[str, str], list[str]]:
    """Return, for each blob and path, the commits that put it there. Shares of the walk run side by side."""
    command = ["diff-tree", "--stdin", "-r", "-c", "--root", "--no-renames", "--no-abbrev", "--always"]
    if len(blobs) <= _FEW:
        command += [f"--find-object={blob}" for blob in blobs]
    shares = np.array_split(commits, max(min(2 * _JOBS, len(commits) // 1_000), -(-len(commits) // _SHARE), 1))
    places = defaultdict[tuple[str, str], list[str]](list)
    with ThreadPoolExecutor(_JOBS) as pool:
        for found in pool.map(lambda share: list(_changes(git, command, share, blobs)), shares):
            for blob, path, commit in found:
                places[blob, path].append(commit)
    return places


def _changes(
    git: ObjectAccess, command: Sequence[str], commits: Ids, blobs: Collection[str]
) -> Iterator[tuple[str, str, str]]:
    """Yield (blob, path, commit) where a commit puts one of blobs; commits that git cannot walk are passed by."""
    width = commits.shape[1] * 2
    wanted = {blob.encode() for blob in blobs}
    names = [row.tobytes().hex() for row in commits]
    at = 0
    for _ in range(_RESTARTS):
        commit = ""
        for line in git.output(*command, lines=lined(names[at:])):
            if not line.startswith(b":"):
                commit = line[:width].decode()
                at += 1
                continue
            tab = line.find(b"\t")
            end = line.rfind(b" ", 0, tab)
            if (blob := line[end - width : end]) in wanted:
                yield blob.decode(), _path(line[tab + 1 :]), commit
        at += 1
        if at >= len(names):
            break


def _in_head(git: ObjectAccess, head: str, blobs: Collection[str]) -> Iterator[tuple[str, str]]:
    """Yield (blob, path) for those that stand in the tree of HEAD."""
    if not blobs:
        return
    for line in git.output("ls-tree", "-r", "--full-tree", head):
        entry, _, path = line.partition(b"\t")
        blob = entry[entry.rfind(b" ") + 1 :].decode("ascii", "replace")
        if blob in blobs:
            yield blob, _path(path)


def staged(layout: Layout) -> Iterator[tuple[str, str]]:
    """Yield (blob, path) of all that is in an index: the repository's, and those of its linked work trees.

    An index is read by a git that sees nothing else of the work tree, and written by none.
    """
    for index in {layout.git_dir / "index", layout.common / "index", *layout.common.glob("worktrees/*/index")}:
        if index.is_file():
            with ObjectAccess(layout, index=index) as git:
                for line in git.output("ls-files", "--stage"):
                    entry, _, path = line.partition(b"\t")
                    yield entry.split(b" ")[1].decode("ascii", "replace"), _path(path)


def _path(quoted: bytes) -> str:
    """Return a path as git prints it as text that the database takes: a name need not be UTF-8."""
    return shown(unquote(quoted.decode("utf-8", "surrogateescape")))


def _reached(git: ObjectAccess, head: str | None, commits: Collection[str]) -> set[str]:
    """Return those commits that HEAD is made of."""
    if head is None or not commits:
        return set()
    return {line.decode() for line in git.output("rev-list", head) if line.decode() in commits}


def _signed(git: ObjectAccess, names: Collection[str]) -> dict[str, _Signed]:
    """Return who wrote these commits and tags."""
    signed = dict[str, _Signed]()
    with (
        git.start("cat-file", "--batch", "--buffer", lines=lined(names)) as running,
        io.BufferedReader(running.stdout, 1 << 20) as stdout,
    ):
        while header := stdout.readline().split():
            if len(header) == 3:
                text = stdout.read(int(header[2]) + 1)
                signed[header[0].decode()] = _signature(text.partition(b"\n\n")[0])
    return signed


def _signature(head: bytes) -> _Signed:
    person, written = _PERSON.search(head), _WRITTEN.search(head)
    if person is None:
        return _NOBODY
    # A name may hold a key itself; no secret goes into what is kept.
    author = _SECRET_LIKE.sub("…", person[1].decode("utf-8", "replace"))
    committed = int((written or person)[1 if written else 2])
    try:
        date = datetime.fromtimestamp(int(person[2]), UTC)
    except (ValueError, OverflowError, OSError):
        date = None
    return _Signed(author, date, committed)


class _Order:
    """Which of several commits came first: by the committer's clock, and where that does not tell, by ancestry."""

    def __init__(self, git: ObjectAccess, commits: Ids, signed: dict[str, _Signed]) -> None:
        self._git = git
        self._commits = commits
        self._signed = signed
        self._ranks: dict[str, int] | None = None

    def first(self, commits: Collection[str]) -> str:
        """Return the first of commits."""
        earliest = min(self._signed.get(commit, _NOBODY).committed for commit in commits)
        tied = sorted({each for each in commits if self._signed.get(each, _NOBODY).committed == earliest})
        if len(tied) == 1:
            return tied[0]
        if self._ranks is None:
            every = lined(row.tobytes().hex() for row in self._commits)
            names = self._git.output("rev-list", "--topo-order", "--reverse", "--stdin", lines=every)
            self._ranks = {name.decode(): rank for rank, name in enumerate(names)}
        ranks = self._ranks
        return min(tied, key=lambda commit: ranks.get(commit, len(ranks)))
