"""An organisation as a source: it lists its repositories, and each is a source of its own, cloned or fetched first.

A repository whose refs are those of its last complete scan is neither fetched nor opened: one request says so. That is
also what makes a scan that was cut off go on where it was.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec

from firedamp.scanner.fetch import Fetch, Shown, Withheld, clone_of, point_head, shown_by, without_user
from firedamp.scanner.forge import Forge, Repository
from firedamp.scanner.history import kinds_of
from firedamp.scanner.mirror import Mirrors
from firedamp.scanner.objects import ObjectAccess, find
from firedamp.scanner.source import Blob, Borrowed, Checkpoint, Item, Known, Nested, Source, condensed
from firedamp.scanner.web import Web
from firedamp.storage import careful
from firedamp.storage.errors import Failure, SourceFailure
from firedamp.storage.masking import masked
from firedamp.storage.records import Met, Outcome, Provenance, Skipped, SourceState, Tally
from firedamp.storage.secret import Secret
from firedamp.storage.store import Store

_LOST_AT_MOST: Final = 100
"""Commits taken out by force that one scan asks for, in one repository."""

OpenGit = Callable[[Callable[[], Path], str], Source]
"""Makes the source of a clone: where it is, once asked, and what the user knows it by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What every repository of a scan needs of the world outside. offline: nothing is asked, clones are as they are."""

    web: Web
    mirrors: Mirrors
    store: Store
    detector: str
    open_git: OpenGit
    open_folder: Callable[[str], Source]
    jobs: int
    offline: bool = False


class Organisation:
    """The repositories of one organisation, or of one list. Yields each as `Nested`; `source` then makes it."""

    name: Final = "git"

    def __init__(
        self, target: str, world: World, forge: Forge, listing: Callable[[], Iterable[Repository | Skipped | Nested]]
    ) -> None:
        """Make it. listing yields what is wanted of forge, and folders of a list."""
        self.target = target
        self._world, self._forge, self._listing = world, forge, listing
        self._sources: dict[str, Source] = {}

    def source(self, path: str) -> Source | None:
        """Hand over the source of a repository that was listed here, None for another's.

        Once: a work tree that was listed as a folder names itself again, as the repository inside it.
        """
        return self._sources.pop(path, None)

    def blobs(self) -> Iterator[Item]:
        """List the repositories, say which are left out, renamed or gone, ask for their refs, and yield each."""
        found, left_out, whole = list[Repository](), set[str](), True
        try:
            for each in self._listing():
                match each:
                    case Repository():
                        found.append(each)
                    case Skipped():
                        left_out.add(each.what)
                        whole = whole and each.outcome is not Outcome.FAILED
                        yield each
                    case Nested(path=path):
                        self._sources[path] = self._world.open_folder(path)
                        yield each
        except Failure as failure:
            whole = False
            yield Skipped(outcome=Outcome.FAILED, what=self.target, why=str(failure))
        if not self._world.offline:
            before = [each for each in self.remembered() if each.url not in left_out]
            yield from self._moved(before, found, whole)
            self._remember(found if whole else [*found, *_missing(before, found)])
        asked = self._asked(found)
        # What is no fork first: forks borrow from it.
        found.sort(key=lambda each: each.fork)
        mirrored = [MirrorSource(each, self._world, self._forge, asked.get(each.url)) for each in found]
        self._sources |= {source.target: source for source in mirrored}
        to_fetch = {source.target: source for source in mirrored if source.must_be_fetched}
        networks = self._networks(found, to_fetch)
        for target, source in to_fetch.items():
            source.announce(networks.get(target, ""))
        self._world.mirrors.fill()
        for source in mirrored:
            yield Nested(source.target)

    def _asked(self, found: Iterable[Repository]) -> Mapping[str, Shown | Withheld | None]:
        """Ask for the refs of all repositories, several at a time. No thread is left then: readers fork."""
        if self._world.offline:
            return {}
        logins = dict[str, Secret | None]()
        for each in found:
            try:
                logins[each.url] = self._forge.login(each.url)
            except Failure:
                logins[each.url] = None  # the fetch asks again, and says why it cannot
        with ThreadPoolExecutor(self._world.jobs) as pool:
            asked = pool.map(lambda item: shown_by(self._world.web, *item), logins.items())
            return dict(zip(logins, asked, strict=True))

    def _networks(self, found: Iterable[Repository], to_fetch: Collection[str]) -> Mapping[str, str]:
        """Return for each target the network of forks that it belongs to: a name that holds on its host only."""
        by_id = {each.id: each for each in found if not each.part}
        origins = dict[str, str]()
        for each in by_id.values():
            if each.fork:
                origins[each.id] = self._origin(each) if without_user(each.url) in to_fetch else each.origin
        networks = dict[str, str]()
        for each in by_id.values():
            root = each.id
            for _ in by_id:  # a forge that names forks in a circle ends nothing
                if not (origin := origins.get(root)):
                    break
                root = origin
            networks[without_user(each.url)] = f"{urlsplit(each.url).netloc} {root}"
        return networks

    def _origin(self, fork: Repository) -> str:
        """Ask what a repository is a fork of, if it is to be cloned; without an answer it borrows from nobody."""
        if clone_of(fork.url, self._world.mirrors.folder).is_dir():
            return fork.origin
        try:
            return self._forge.origin(fork)
        except Failure:
            return ""

    def _moved(self, before: Iterable[Repository], found: Iterable[Repository], whole: bool) -> Iterator[Skipped]:
        """Yield what an earlier scan listed and this one does not: renamed, or gone. Their findings stay."""
        now, ids = {each.id: each for each in found}, {each.url: each.id for each in found}
        moved = dict[str, str | None]()
        for old in before:
            if ids.get(old.url) == old.id:
                continue
            if (new := now.get(old.id)) is not None:
                moved[old.url] = new.url
                why = f"renamed to {new.url}; what was found under the old name stays"
            elif old.url in ids:
                moved[old.url] = None
                why = "another repository has its name now: deleted, moved or hidden; what was found in it stays"
            elif whole:
                why = f"{self.target} lists it no more: deleted, moved or hidden; what was found in it stays"
            else:
                continue
            yield Skipped(outcome=Outcome.GONE, what=old.url, why=why)
        self._world.mirrors.rename(moved)

    def _memory(self) -> Path:
        name = hashlib.blake2b(self.target.encode("utf-8", "surrogateescape"), digest_size=12).hexdigest()
        return self._world.mirrors.folder / f"{name}.repositories"

    def remembered(self) -> list[Repository]:
        """Return what the last scan listed; nothing when there was none, or its memory is damaged."""
        try:
            contents = careful.read(self._memory())
            return [] if contents is None else msgspec.json.decode(contents.data, type=list[Repository])
        except (Failure, msgspec.MsgspecError):
            return []

    def _remember(self, found: Iterable[Repository]) -> None:
        self._world.mirrors.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        careful.replace(self._memory(), msgspec.json.encode(list(found)), careful.read(self._memory()))

    def unread(self, _blob: str, _failed: Skipped) -> None:
        """Do nothing: a list of repositories holds no blob."""

    def gone(self, _met: Iterable[Met]) -> Iterator[Met]:
        """Yield nothing: a list of repositories holds no blob."""
        yield from ()

    def unsure(self, _met: Iterable[Met]) -> Iterator[Met]:
        """Yield nothing: a list of repositories holds no blob."""
        yield from ()

    def provenance(self, _ids: Collection[str]) -> Iterator[tuple[str, Provenance]]:
        """Yield nothing: a list of repositories holds no blob."""
        yield from ()


def _missing(before: Iterable[Repository], found: Iterable[Repository]) -> list[Repository]:
    urls = {each.url for each in found}
    return [each for each in before if each.url not in urls]


class MirrorSource:
    """One repository of an organisation: nothing where its refs are known, else the source of its clone."""

    name: Final = "git"

    def __init__(
        self, repository: Repository, world: World, forge: Forge, refs: Shown | Withheld | None
    ) -> None:  # fmt: skip
        """Make it. refs is what the server shows."""
        self.target = masked(without_user(repository.url))
        self._network = ""
        self._repository, self._world, self._forge, self._refs = repository, world, forge, refs
        self._told: list[Skipped] = []
        self._whole = True
        self._inner = world.open_git(self._place, self.target)

    @property
    def must_be_fetched(self) -> bool:
        """Whether there may be something new, as far as the refs tell."""
        return not self._world.offline and not isinstance(self._refs, Withheld) and not self._settled()

    def announce(self, network: str) -> None:
        """Have it fetched soon. network names those that it shares its history with."""
        self._network = network
        self._world.mirrors.want(self._repository.url, self._login, self._network)

    def _login(self) -> Secret | None:
        return self._forge.login(self._repository.url)

    def _settled(self) -> bool:
        """Whether nothing needs to be fetched: the refs are known, or there are none."""
        return self._before() is not None or (isinstance(self._refs, Shown) and self._refs.empty and not self._cloned())

    def _cloned(self) -> bool:
        return clone_of(self._repository.url, self._world.mirrors.folder).is_dir()

    def _before(self) -> _Before | None:
        """Return what the last complete scan by these detectors left, if the refs are still those it read.

        And nobody has pushed since: what a push brought, the next one may have taken out of the refs. And the store
        holds what it held then: a scan of the address alone may have taken some of it for gone.
        """
        state = self._world.store.source_state(f"refs:{self.target}", self._world.detector)
        before = None if state is None else _Before.decoded(state.value)
        if before is not None and before.places != condensed(self._held()):
            before = None
        if before is None or self._world.offline:
            return before if not self._cloned() else None
        now = (self._refs.digest, self._repository.pushed) if isinstance(self._refs, Shown) else None
        return before if now == (before.refs, before.pushed) else None

    def blobs(self) -> Iterator[Item]:
        """Yield nothing but counts where nothing is new; else what the clone holds, once it was fetched."""
        if isinstance(self._refs, Withheld):
            yield self._withheld(self._refs)
            return
        if (before := self._before()) is not None:
            with self._world.mirrors.held(self._repository.url):
                yield from before.skipped
                yield Checkpoint(Tally(known=before.known))
            return
        if self._settled():
            yield Skipped(outcome=Outcome.LEFT_OUT, what=self.target, why="no commit was ever pushed to it")
            return
        if self._world.offline and not self._cloned():
            raise SourceFailure(f"{self.target} is not mirrored, and --offline contacts nobody")
        with self._world.mirrors.held(self._repository.url):
            yield from self._read()

    def _read(self) -> Iterator[Item]:
        known, skipped = 0, list[Skipped]()
        for item in self._inner.blobs():
            match item:
                case Checkpoint(tally=tally):
                    known += tally.objects + tally.known + tally.ruled_out + tally.files
                case Skipped():
                    skipped.append(item)
                case Blob() | Known() | Nested() | Borrowed():
                    pass
            yield item
        yield from self._told
        self._whole = self._whole and all(each.outcome is not Outcome.FAILED for each in skipped)
        if self._whole and isinstance(self._refs, Shown):
            held = set(self._held())
            places = condensed(held.difference(self._inner.gone(held)))
            value = _Before(self._refs.digest, known, tuple(skipped), places, self._repository.pushed).encoded()
            state = SourceState(target=f"refs:{self.target}", detector=self._world.detector, value=value)
            yield Checkpoint(states=(state,))

    def _held(self) -> Iterator[Met]:
        return self._world.store.held(repositories=[self.target])

    def _withheld(self, refs: Withheld) -> Skipped:
        if self._repository.part and refs.status in {404, 410}:
            return Skipped(
                outcome=Outcome.LEFT_OUT, what=self.target, why=f"a {self._repository.part} that nobody has written yet"
            )
        why = f"listed, but its refs are answered with {refs.status}: may the token read its content?"
        return Skipped(outcome=Outcome.FAILED, what=self.target, why=why)

    def _place(self) -> Path:
        """Return the clone, fetched, with what pushes took out of it as far as the forge still gives it."""
        if self._world.offline:
            return clone_of(self._repository.url, self._world.mirrors.folder)
        clone = self._world.mirrors.place(self._repository.url, self._login, self._network)
        if isinstance(self._refs, Shown) and self._refs.head:
            point_head(clone, self._refs.head)
        try:
            lost = [name for name, _ in zip(self._forge.lost(self._repository), range(_LOST_AT_MOST), strict=False)]
        except SourceFailure as failure:
            why = f"the forge does not tell of its pushes: {failure}"
            self._told.append(Skipped(outcome=Outcome.LEFT_OUT, what=f"{self.target} replaced commits", why=why))
            self._whole = False  # it is asked again
            return clone
        refused = self._fetch_lost(lost, clone) if lost else 0
        if refused:
            why = "replaced by a push, and no more given by the forge"
            self._told.append(
                Skipped(outcome=Outcome.GONE, what=f"{self.target} replaced commits", why=why, count=refused)
            )
        return clone

    def _fetch_lost(self, lost: Collection[str], clone: Path) -> int:
        """Fetch commits by id, together and where that is refused one by one; return how many are given no more."""
        with ObjectAccess(find(clone)) as git:
            absent = sorted(set(lost).difference(name for name, _ in kinds_of(git, lost)))
        refused, waiting = 0, [absent] if absent else []
        while waiting:
            names = waiting.pop()
            try:
                Fetch(self._repository.url, self._world.mirrors.folder, self._login(), names).finish()
            except SourceFailure:
                # One that is gone spoils the whole question: halve it.
                half = len(names) // 2
                waiting += [part for part in (names[:half], names[half:]) if part] if half else []
                refused += not half
        return refused

    def unread(self, blob: str, failed: Skipped) -> None:
        """Do not take the repository for read whole, nor this blob."""
        self._whole = False
        self._inner.unread(blob, failed)

    def gone(self, met: Iterable[Met]) -> Iterator[Met]:
        """Yield what holds no longer, as the clone's source sees it."""
        return self._inner.gone(met)

    def unsure(self, met: Iterable[Met]) -> Iterator[Met]:
        """Yield what may hold, as the clone's source sees it: all of it where the forge shows no refs."""
        return iter(met) if isinstance(self._refs, Withheld) else self._inner.unsure(met)

    def provenance(self, ids: Collection[str]) -> Iterator[tuple[str, Provenance]]:
        """Yield every way these blobs are met."""
        return self._inner.provenance(ids)


@dataclass(frozen=True, slots=True)
class _Before:
    """What is remembered of a complete scan: the refs it read, how many objects there were, what was left out.

    places are condensed all ways in which blobs were met; an older one does not tell. pushed is what the forge said.
    """

    refs: str
    known: int
    skipped: tuple[Skipped, ...]
    places: str = ""
    pushed: str = ""

    def encoded(self) -> bytes:
        return msgspec.json.encode(self)

    @classmethod
    def decoded(cls, value: bytes) -> _Before:
        return msgspec.json.decode(value, type=cls)
