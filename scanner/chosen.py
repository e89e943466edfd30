"""A few objects of a repository: what is about to be committed, or what is being pushed. Nothing else is read."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from firedamp.scanner import gitfiles
from firedamp.scanner.names import parts_with_key_id
from firedamp.scanner.objects import Layout, ObjectAccess, find, resolve, tips
from firedamp.scanner.reading import Named, Part, Reader, Settings, Share, Unread
from firedamp.scanner.source import Blob, Checkpoint, Item
from firedamp.scanner.walk import shown
from firedamp.storage.errors import SourceFailure
from firedamp.storage.records import GitProvenance, Met, Outcome, Provenance, Skipped, Tally

_EMPTY_TREE: Final = {
    20: "4b825dc642cb6eb9a060e54bf8d69288fbee4904",
    32: "6ef19b41225c5369f1c104d45d8d85efa9b057b53b14b4b9b939dd74decc5321",
}
"""What an unborn HEAD is compared with: git's id of a tree without entries, for each hash."""
_GITLINK: Final = b"160000"

if TYPE_CHECKING:
    from firedamp.scanner.idset import Ids

Choose = Callable[[ObjectAccess], Iterator[tuple[str, str | None]]]
"""Yields (object id, path or None) of what is to be read."""


class ChosenSource:
    """Some objects of one repository, each read in full: no filter, no memory of earlier scans."""

    name: Final = "git"

    def __init__(
        self, layout: Layout, choose: Choose, settings: Settings, *, index: Path | None = None, committed: bool = False,
        names: Collection[str] = (),
    ) -> None:  # fmt: skip
        """Make the source. index is given to git that chooses; nobody else needs it. committed: commits are chosen.

        names are looked at as names of files are: those of refs.
        """
        self.target = shown(str(layout.root))
        self._layout, self._choose, self._settings = layout, choose, settings
        self._index, self._committed, self._names = index, committed, names
        self._paths: dict[str, list[str | None]] = {}
        self._entries: dict[str, list[str]] = {}
        """Names in paths that may hold a key id, and the paths up to them."""

    def blobs(self) -> Iterator[Item]:
        """Yield the chosen objects worth a look."""
        with ObjectAccess(self._layout, index=self._index) as git:
            for name, path in self._choose(git):
                self._paths.setdefault(name, []).append(path)
            paths = [path for paths in self._paths.values() for path in paths if path is not None]
            for path in (*paths, *self._names):
                yield from self._named(path)
            reader = Reader(git=git, hits=self._settings.hits, container=self._settings.container, jobs=1)
            for item in reader.read([Part(_ids(self._paths, self._layout.width))]):
                match item:
                    case Blob(path=spooled):
                        yield item
                        if spooled is not None:
                            Path(spooled).unlink()
                    case Named(id=name, names=names):
                        for folder in self._paths.get(name, []):
                            for entry in names:
                                path = entry.decode("utf-8", "backslashreplace")
                                yield from self._named(path if folder is None else f"{folder}/{path}")
                    case Unread(id=name):
                        yield Skipped(outcome=Outcome.FAILED, what=name, why="git cannot give it")
                    case Share(tally=tally):
                        yield Checkpoint(tally)
            # Nothing staged is no failure: the choice itself was read.
            yield Checkpoint(Tally(known=0 if self._paths else 1))

    def _named(self, path: str) -> Iterator[Blob]:
        """Yield the names in a path in which a key id may stand, each once."""
        for part in parts_with_key_id(path):
            name = part.rpartition("/")[2].encode()
            blob = gitfiles.named(name, self._layout.width)
            if blob not in self._entries:
                yield Blob(blob, name, lines=False)
            self._entries.setdefault(blob, []).append(part)

    def unread(self, _blob: str, _failed: Skipped) -> None:
        """Nothing is remembered here, so nothing has to be forgotten."""

    def gone(self, met: Iterable[Met]) -> Iterator[Met]:
        """Yield nothing: what was not chosen may well be there."""
        del met
        yield from ()

    def unsure(self, met: Iterable[Met]) -> Iterator[Met]:
        """Yield nothing: nothing was recorded before."""
        del met
        yield from ()

    def provenance(self, ids: Collection[str]) -> Iterator[tuple[str, Provenance]]:
        """Yield the paths that the chosen objects have, and of the chosen commits the one that brought each."""
        known = {blob for blob in ids if blob in self._paths or blob in self._entries}
        if self._committed and known:
            from firedamp.scanner.history import kinds_of, trace
            from firedamp.scanner.idset import from_hex

            nowhere = GitProvenance(repository=self.target, in_head=False)
            with ObjectAccess(self._layout) as git:
                bare = [name for name, paths in self._paths.items() if None in paths]
                commits = [name for name, kind in kinds_of(git, bare) if kind == "commit"]
                blobs = known & self._paths.keys()
                for blob, met in trace(git, from_hex(commits, self._layout.width), blobs, self.target):
                    if met != nowhere:
                        known.discard(blob)
                        yield blob, met
        for blob in known:
            for path in dict.fromkeys((*self._paths.get(blob, []), *self._entries.get(blob, []))):
                place = None if path is None else shown(path)
                yield blob, GitProvenance(repository=self.target, path=place, in_head=False)


def staged(
    path: Path, settings: Settings, index: str | None, *, everything: bool = False, stores: tuple[Path, ...] = ()
) -> ChosenSource:
    """Make the source of what differs between HEAD and the index, or of everything that is in the index.

    index is GIT_INDEX_FILE as git gives it to hooks: `git commit PATH` and `git commit --all` use an index of their
    own, and only the one git names is right.
    """
    layout = _with(find(path), stores)
    place = layout.git_dir / "index" if index is None else Path(index)
    if not place.is_absolute():
        # A hook runs at the top of the work tree; where the git folder stands for the repository, that is here.
        place = (Path.cwd() if layout.root == layout.git_dir else layout.root) / place

    def choose(git: ObjectAccess) -> Iterator[tuple[str, str | None]]:
        if not place.exists():
            return
        head = None if everything else resolve(layout)
        tree = head or _EMPTY_TREE[layout.width]
        wanted = ("diff-index", "--cached", "--raw", "-z", "--no-renames", "--no-abbrev", tree)
        fields = iter(_whole(git, wanted, f"{place} cannot be compared with HEAD").split(b"\0"))
        unmerged = False
        for entry in fields:
            if entry:
                _, mode, _, name, status = entry[1:].split(b" ")
                where = next(fields)
                unmerged |= status == b"U"
                if status not in {b"D", b"U"} and mode != _GITLINK:
                    yield name.decode("ascii"), where.decode("utf-8", "backslashreplace")
        if unmerged:
            yield from _theirs(git, f"{place} cannot be listed")

    return ChosenSource(layout, choose, settings, index=place)


def _with(layout: Layout, stores: tuple[Path, ...]) -> Layout:
    """Return a layout in which git sees these object folders, too, and first."""
    every = tuple(dict.fromkeys((*stores, *layout.stores)))
    return replace(layout, stores=every, fenced=True) if stores else layout


def _theirs(git: ObjectAccess, what: str) -> Iterator[tuple[str, str | None]]:
    """Yield what a merge in conflict brings: stage 3. Stage 1 and 2 are in the history already (git-ls-files(1))."""
    for entry in _whole(git, ("ls-files", "--unmerged", "-z"), what).split(b"\0"):
        head, _, where = entry.partition(b"\t")
        if head.endswith(b" 3") and not head.startswith(_GITLINK):
            yield head.split(b" ")[1].decode("ascii"), where.decode("utf-8", "backslashreplace")


def pushed(
    path: Path, updates: Collection[tuple[str, str, str]], settings: Settings, *, known: str | None = "refs/",
    stores: tuple[Path, ...] = (),
) -> ChosenSource:  # fmt: skip
    """Make the source of what a push brings. updates are (old id, new id, ref), an id of zeros for none.

    What the refs below known reach is there already; None says that nothing is. The name of a ref is new where it held
    nothing before. stores are object folders of this push.
    """
    layout = _with(find(path), stores)

    def choose(git: ObjectAccess) -> Iterator[tuple[str, str | None]]:
        from firedamp.scanner.history import kinds_of  # loads numpy, which nothing else here needs

        new = sorted({new for _, new, _ in updates if new.strip("0")})
        old = {old for old, _, _ in updates if old.strip("0")} | (set() if known is None else tips(layout, known))
        here = sorted(name for name, _ in kinds_of(git, old))
        lines = [f"{name}\n".encode() for name in new] + [f"^{name}\n".encode() for name in here]
        for line in _whole(git, ("rev-list", "--objects", "--stdin"), "what is pushed cannot be listed", lines).split(
            b"\n"
        ):
            name, _, where = line.partition(b" ")
            if name:
                yield name.decode("ascii"), where.decode("utf-8", "backslashreplace") or None

    names = [ref for old, new, ref in updates if new.strip("0") and not old.strip("0")]
    return ChosenSource(layout, choose, settings, committed=True, names=names)


def _ids(names: Iterable[str], width: int) -> Ids:
    """Return the raw ids of names, sorted; those of another width are left out.

    Not an array: loading numpy takes as long as all of `scan --staged`. Of a share of ids the reader asks no more than
    a memoryview of the same shape can tell, and makes an array of it where it has to cut it.
    """
    raw = sorted(bytes.fromhex(name) for name in names if len(name) == 2 * width)
    rows = memoryview(b"".join(raw))
    return cast("Ids", rows.cast("B", (len(raw), width)) if raw else rows)


def _whole(git: ObjectAccess, arguments: tuple[str, ...], what: str, lines: Iterable[bytes] = ()) -> bytes:
    """Return all that git prints, or raise SourceFailure when it fails: half a list would be a false silence."""
    with git.start(*arguments, lines=lines) as running:
        printed = running.stdout.readall()
        if running.process.wait() != 0:
            raise SourceFailure(what, "is the repository damaged? git fsck tells")
    return printed
