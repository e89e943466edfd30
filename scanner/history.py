"""How objects came into a repository: one walk over every commit, for all hits together.

Every commit that the repository holds is walked, those that no ref reaches too. A commit introduces a blob at a path
when none of its parents has it there: so a merge introduces only what it adds itself (combined diff).
"""

from __future__ import annotations

import io
import os
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from firedamp.scanner import gitfiles
from firedamp.scanner.idset import Ids
from firedamp.scanner.names import key_ids, may_hold_key_id, paths_with
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


@dataclass(frozen=True, slots=True)
class _Sought:
    """What a walk looks for: blobs, and names in trees, with what each is called as a blob."""

    blobs: Collection[str]
    entries: Mapping[bytes, str]

    def all(self) -> set[str]:
        return {*self.blobs, *self.entries.values()}

    def met(self, blob: bytes, quoted: bytes) -> Iterator[tuple[str, str]]:
        """Yield what of it stands at a path, as git prints that, and up to where."""
        if (name := blob.decode("ascii", "replace")) in self.blobs:
            yield name, _path(quoted)
        if self.entries:
            for called, path in paths_with(self.entries, _raw(quoted)):
                yield called, shown(os.fsdecode(path))


def trace(  # noqa: PLR0917 - passed once
    git: ObjectAccess, commits: Ids, names: Collection[str], repository: str, walked: Walked | None = None,
    entries: Mapping[bytes, str] | None = None,
) -> Iterator[tuple[str, GitProvenance]]:  # fmt: skip
    """Yield (id, one way it is met) for each of names, at least one for each that the repository has.

    A blob: each path it ever had, with the first commit that put it there. A commit or tag: itself. entries are names
    in trees, and what each of them is called as a blob: they are met as blobs are. Where an earlier walk is known, and
    each blob that it did not look for came with newer commits, only these are walked.
    """
    kinds = _kinds(git, names)
    sought = _Sought({name for name, kind in kinds.items() if kind == "blob"}, entries or {})
    blobs = sought.all()
    places = _put(git, commits, sought, walked) if blobs else {}
    head = resolve(git.layout)
    in_head = set(_in_head(git, head, sought)) if head is not None and blobs else set[tuple[str, str]]()
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


def _put(git: ObjectAccess, commits: Ids, sought: _Sought, walked: Walked | None) -> dict[tuple[str, str], list[str]]:
    """Return, for each blob and path, the commits that put it there, of those walked before the first one only."""
    done = None if walked is None else walked.covers(commits)
    if walked is None or done is None:
        return _introduced(git, commits, sought)
    places, blobs = _introduced(git, commits[~done], sought), sought.all()
    if {blob for blob, _ in places}.union(walked.sought).issuperset(blobs):
        for (blob, path), commit in walked.places.items():
            if blob in blobs:
                places.setdefault((blob, path), []).append(commit)
        return places
    return _introduced(git, commits, sought)


def _introduced(git: ObjectAccess, commits: Ids, sought: _Sought) -> dict[tuple[str, str], list[str]]:
    """Return, for each blob and path, the commits that put it there. Shares of the walk run side by side."""
    command = ["diff-tree", "--stdin", "-r", "-c", "--root", "--no-renames", "--no-abbrev", "--always"]
    if len(sought.blobs) <= _FEW and not sought.entries:
        command += [f"--find-object={blob}" for blob in sought.blobs]
    shares = np.array_split(commits, max(min(2 * _JOBS, len(commits) // 1_000), -(-len(commits) // _SHARE), 1))
    places = defaultdict[tuple[str, str], list[str]](list)
    with ThreadPoolExecutor(_JOBS) as pool:
        for found in pool.map(lambda share: list(_changes(git, command, share, sought)), shares):
            for blob, path, commit in found:
                places[blob, path].append(commit)
    return places


def _changes(
    git: ObjectAccess, command: Sequence[str], commits: Ids, sought: _Sought
) -> Iterator[tuple[str, str, str]]:
    """Yield (blob, path, commit) where a commit puts something sought; commits that git cannot walk are passed by."""
    width = commits.shape[1] * 2
    wanted = {blob.encode() for blob in sought.blobs}
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
            # What is taken away is all zeros.
            if (blob := line[end - width : end]) in wanted or (sought.entries and blob.strip(b"0")):
                yield from ((name, path, commit) for name, path in sought.met(blob, line[tab + 1 :]))
        at += 1
        if at >= len(names):
            break


def _in_head(git: ObjectAccess, head: str, sought: _Sought) -> Iterator[tuple[str, str]]:
    """Yield (blob, path) for what stands in the tree of HEAD."""
    for line in git.output("ls-tree", "-r", "--full-tree", head):
        entry, _, path = line.partition(b"\t")
        yield from sought.met(entry[entry.rfind(b" ") + 1 :], path)


def staged(layout: Layout) -> Iterator[tuple[str, bytes]]:
    """Yield (blob, path) of all that is in an index: the repository's, and those of its linked work trees."""
    for index in gitfiles.indexes(layout):
        yield from _staged_in(layout, index)


def entry(git: ObjectAccess, commit: str | None, blob: str) -> bytes | None:
    """Return the name that is this blob: one in a commit's tree, or without a commit what stands in an index."""
    if commit is None:
        found = (text for _, text in staged_names(git.layout))
    else:
        paths = (_raw(line) for line in git.output("ls-tree", "-r", "--name-only", "--full-tree", commit))
        found = (name for path in paths if may_hold_key_id(path) for name in path.split(b"/"))
    return next((name for name in found if gitfiles.named(name, git.layout.width) == blob), None)


def staged_names(layout: Layout) -> Iterator[tuple[Path | None, bytes]]:
    """Yield the names that may hold a key id in the paths of an index, then what else of it may, with the index.

    One without any is not even listed. What else there is are extensions: untracked names, paths of a conflict.
    """
    for index in gitfiles.indexes(layout):
        named, around = gitfiles.may_name_key(index)
        if not named:
            continue
        listed = set[bytes]()
        for _, path in _staged_in(layout, index):
            for name in filter(may_hold_key_id, path.split(b"/")):
                listed.update(key_ids(name))
                yield None, name
        for text in around:
            if not listed.issuperset(key_ids(text)):
                listed.update(key_ids(text))
                yield index, text


def _staged_in(layout: Layout, index: Path) -> Iterator[tuple[str, bytes]]:
    """Yield (blob, path) of what is in an index: read by a git that sees nothing else of the work tree."""
    with ObjectAccess(layout, index=index) as git:
        for line in git.output("ls-files", "--stage"):
            entry, _, path = line.partition(b"\t")
            yield entry.split(b" ")[1].decode("ascii", "replace"), _raw(path)


def _path(quoted: bytes) -> str:
    """Return a path as git prints it as text that the database takes: a name need not be UTF-8."""
    return shown(os.fsdecode(_raw(quoted)))


def _raw(quoted: bytes) -> bytes:
    return os.fsencode(unquote(os.fsdecode(quoted)))


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
