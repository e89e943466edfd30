"""The clones of repositories that are not a folder here: a cache of ours, within a budget."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from firedamp.scanner.fetch import CLONING, LONGEST, Fetch, Login, clone_of, lock, own, unbroken
from firedamp.scanner.lending import lent_in
from firedamp.storage.errors import Failure, SourceFailure

_CRASHED: Final = 86_400.0
"""Seconds after which a clone that never became whole is taken for what a crash left."""


def is_mirrored(url: str, folder: Path) -> bool:
    """Whether a clone of url stands below folder."""
    return clone_of(url, folder).is_dir()


def mirror(url: str, folder: Path, *, offline: bool = False, seconds: float = LONGEST) -> Path:
    """Clone url below folder, or fetch what is new into the clone that stands there; return its path.

    Everything the server shows is fetched, pull-request refs too, and what it no longer shows is kept. offline takes
    the clone as it is; seconds is how long it may take. Raises SourceFailure with git's own words, user-info taken out.
    """
    return clone_of(url, folder) if offline else Fetch(url, folder, seconds=seconds).finish()


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A repository to be fetched. network names those that share their history: forks, and what they are forks of."""

    url: str
    login: Login
    network: str


class Mirrors:
    """The clones below one folder, within a budget of bytes: some are fetched while others are read.

    The clones of a network share their objects on disk (`scanner.lending`), and all share the reading: an object that
    was seen in one of them is not read in another.
    """

    def __init__(self, folder: Path, *, budget: int, jobs: int, seconds: float = LONGEST) -> None:
        """Make it. budget in bytes of disk; jobs fetch at a time, each for seconds at most."""
        self.folder, self._budget, self._jobs, self._seconds = folder, budget, jobs, seconds
        self._waiting: deque[_Wanted] = deque()
        self._under_way: dict[str, tuple[Fetch | SourceFailure, _Wanted]] = {}
        self._sizes: dict[Path, _Taken] | None = None
        self._networks: dict[Path, str] | None = None

    def want(self, url: str, login: Login, network: str = "") -> None:
        """Have url fetched soon: whenever a place is free among the jobs."""
        if url not in self._under_way and all(each.url != url for each in self._waiting):
            self._waiting.append(_Wanted(url, login, self._noted(url) or network))

    def place(self, url: str, login: Login, network: str = "") -> Path:
        """Return the clone of url with everything new in it; the next ones go on meanwhile. Raises SourceFailure."""
        wanted = _Wanted(url, login, self._noted(url) or network)
        if url not in self._under_way:
            self._waiting = deque(each for each in self._waiting if each.url != url)
            for mate in self._awaited(wanted):
                with suppress(SourceFailure):  # told when it is its turn
                    mate.finish()
            self._start(wanted)
        fetch, wanted = self._under_way[url]  # and there it stays until its end: `close` ends it when a signal comes
        if not isinstance(fetch, Fetch):
            self._over(url)
            raise fetch
        try:
            clone = fetch.finish()
            self._note(clone, wanted)
        except Exception:
            self._over(url)
            raise
        self._over(url)
        return clone

    def _over(self, url: str) -> None:
        """Give the place of url to the next one."""
        del self._under_way[url]
        self.fill()

    def fill(self) -> None:
        """Start what waits, as far as places are free."""
        for wanted in tuple(self._waiting):
            if len(self._under_way) >= self._jobs:
                return
            if not self._awaited(wanted):
                self._waiting.remove(wanted)
                self._start(wanted)

    def _awaited(self, wanted: _Wanted) -> list[Fetch]:
        """Return the clones under way that wanted could borrow from: it is not begun before the first of them ends."""
        if not wanted.network or clone_of(wanted.url, self.folder).is_dir() or self._lender(wanted) is not None:
            return []
        return [
            fetch
            for fetch, other in self._under_way.values()
            if other.network == wanted.network and isinstance(fetch, Fetch)
        ]

    def _start(self, wanted: _Wanted) -> None:
        self._make_room()
        try:
            login, lender = wanted.login(), self._lender(wanted)
            with unbroken():
                fetch = Fetch(wanted.url, self.folder, login, lender=lender, seconds=self._seconds)
                self._under_way[wanted.url] = fetch, wanted
        except Failure as failure:  # no token, no credentials, no git
            self._under_way[wanted.url] = SourceFailure(failure.what, failure.hint), wanted

    def _lender(self, wanted: _Wanted) -> Path | None:
        """Return a clone of the same network, one that does not borrow itself if there is one."""
        clone = clone_of(wanted.url, self.folder)
        known = [each for each in self._mates(wanted.network) if each != clone] if wanted.network else []
        return min(known, key=lambda each: (lent_in(each).is_dir(), each), default=None)

    def _mates(self, network: str) -> list[Path]:
        """Return the clones of a network."""
        return [clone for clone, noted in self._notes().items() if noted == network and clone.is_dir()]

    def _noted(self, url: str) -> str:
        """Return the network that was noted when url was cloned: a forge is asked only then."""
        return self._notes().get(clone_of(url, self.folder), "")

    def _notes(self) -> dict[Path, str]:
        if self._networks is None:
            self._networks = {note.with_suffix(".git"): note.read_text() for note in self.folder.glob("*.network")}
        return self._networks

    def _note(self, clone: Path, wanted: _Wanted) -> None:
        """Remember whose relative a clone is, and how much disk it and the one it borrows from take now."""
        changed = {clone}
        if wanted.network:
            clone.with_suffix(".network").write_text(wanted.network)
            self._notes()[clone] = wanted.network
            changed |= {self._lender(wanted) or clone}
        if self._sizes is not None:
            self._sizes |= {each: _Taken.by(each) for each in changed}

    def close(self) -> None:
        """End what is under way; what is half cloned is removed."""
        for fetch, _ in self._under_way.values():
            if isinstance(fetch, Fetch):
                fetch.stop()
        self._under_way.clear()

    @contextmanager
    def held(self, url: str) -> Iterator[None]:
        """Note that url is scanned now, and keep its clone from being removed meanwhile, by other processes too."""
        mark = _mark(clone_of(url, self.folder))
        own(self.folder)
        with mark.open("ab") as file:
            os.utime(mark)
            lock(file.fileno(), shared=True)
            yield

    def rename(self, moved: Mapping[str, str | None]) -> None:
        """Let the clones of addresses stand for others, all at once, as names may be swapped; for None they go."""
        if not moved:
            return
        own(self.folder)
        with tempfile.TemporaryDirectory(dir=self.folder, prefix=CLONING, ignore_cleanup_errors=True) as aside:
            for old in moved:
                clone = clone_of(old, self.folder)
                _mark(clone).unlink(missing_ok=True)
                _move(clone, Path(aside, clone.name))
            for old, new in moved.items():
                if new is not None and not clone_of(new, self.folder).exists():
                    _move(Path(aside, clone_of(old, self.folder).name), clone_of(new, self.folder))
        self._networks = self._sizes = None

    def _make_room(self) -> None:
        """Remove clones until the rest keeps within the budget: the one scanned longest ago first, none in use.

        What was read in them stays remembered: a repository that comes back is fetched anew, but not read anew.
        """
        own(self.folder)
        if self._sizes is None:
            clones = (path for path in self.folder.glob("*.git") if ".bundle" not in path.name)
            self._sizes = {path: _Taken.by(path) for path in clones}
            for left in self.folder.glob(f"{CLONING}*"):  # a crash leaves what it had
                with suppress(FileNotFoundError):  # another process has just ended its own
                    if time.time() - left.stat().st_mtime > _CRASHED:
                        shutil.rmtree(left, ignore_errors=True)
        if _taken(self._sizes.values()) <= self._budget:
            return  # as a rule: each clone is asked when it was scanned, and this is asked before each fetch
        busy = {clone_of(url, self.folder) for url in self._under_way}
        for clone in sorted(self._sizes.keys() - busy, key=_scanned):
            if _taken(self._sizes.values()) <= self._budget:
                return
            with _mark(clone).open("ab") as scanned, clone.with_suffix(".lock").open("ab") as fetched:
                if lock(scanned.fileno(), shared=False) and lock(fetched.fileno(), shared=False):
                    # Renamed first: a clone stands whole, or not at all.
                    with (
                        tempfile.TemporaryDirectory(
                            dir=self.folder, prefix=CLONING, ignore_cleanup_errors=True
                        ) as bin_,
                        suppress(FileNotFoundError),  # another process has made room of it
                    ):
                        clone.rename(Path(bin_, "gone"))
                    clone.with_suffix(".network").unlink(missing_ok=True)
                    self._networks = None
                    del self._sizes[clone]


@dataclass(frozen=True, slots=True)
class _Taken:
    """The bytes of disk that a clone takes: alone, and by inode those that other clones may have links to."""

    alone: int
    linked: Mapping[int, int]

    @classmethod
    def by(cls, clone: Path) -> _Taken:
        found = list[os.stat_result]()
        for folder, _, files in os.walk(clone):
            for path in (Path(folder), *(Path(folder, name) for name in files)):
                with suppress(FileNotFoundError):  # a fetch of another process makes files and removes them
                    found.append(path.lstat())
        linked = {each.st_ino: each.st_size for each in found if each.st_nlink > 1 and stat.S_ISREG(each.st_mode)}
        return cls(sum(each.st_size for each in found if each.st_ino not in linked), linked)


def _taken(parts: Iterable[_Taken]) -> int:
    alone, linked = 0, dict[int, int]()
    for part in parts:
        alone += part.alone
        linked |= part.linked
    return alone + sum(linked.values())


def _move(clone: Path, to: Path) -> None:
    """Move a clone, if there is one, with the note of its network."""
    for suffix in (".git", ".network"):
        with suppress(FileNotFoundError):
            clone.with_suffix(suffix).rename(to.with_suffix(suffix))


def _mark(clone: Path) -> Path:
    """Return the file beside a clone whose time says when it was scanned last, and whose lock that it is now."""
    return clone.with_suffix(".scanned")


def _scanned(clone: Path) -> float:
    for path in (_mark(clone), clone):
        with suppress(FileNotFoundError):
            return path.stat().st_mtime
    return 0  # another process has removed it
