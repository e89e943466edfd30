"""Every object of a git repository, reachable or not, and the text beside them in its git folder.

Of trees the names are looked at: of all that are loose or in small packs, and of those that HEAD and branches hold now;
in large packs of all others only where everything is looked at. What was read by this detector version, in whichever
repository, is not read again; and while packs, loose folders, refs and the other files are those of the last complete
scan, nothing is even listed. What could not be read is not remembered: it is tried again each time.
"""

from __future__ import annotations

import binascii
import itertools
import json
import math
import os
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from firedamp.scanner import gitfiles
from firedamp.scanner.absent import Absent, lost
from firedamp.scanner.bundle import unbundled
from firedamp.scanner.fetch import clone_of, is_url
from firedamp.scanner.idset import Ids, Memory, Seen, from_hex, keys
from firedamp.scanner.jit import NoCompilerError
from firedamp.scanner.names import LONGEST_PATH, paths_with
from firedamp.scanner.objects import Layout, ObjectAccess, find, lined, resolve, small, tips
from firedamp.scanner.reading import DeltaFilter, Named, Part, Portion, Reader, Settings, Share, Texts, Unread
from firedamp.scanner.source import Blob, Borrowed, Checkpoint, Item, Known, Nested, condensed
from firedamp.scanner.walk import finder, shown, trouble
from firedamp.storage.errors import SourceFailure
from firedamp.storage.records import (
    GitProvenance,
    Met,
    Outcome,
    Provenance,
    Skipped,
    SourceState,
    Tally,
)
from firedamp.storage.store import Store

# numpy, and what needs it, is loaded where something is new: a scan in which nothing is takes as long as that.
if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from firedamp.scanner.history import Walked
    from firedamp.scanner.listing import Listing
    from firedamp.scanner.packindex import PackListing


_FEW: Final = 20_000
"""Objects of a repository that are looked up in the database: of more, it is asked for all that it knows."""
_Where = tuple[str, str | None, str | None]
"""A blob, and the commit and path by which it is met."""


@dataclass(frozen=True, slots=True, eq=False)
class _Asked:
    """What the delta filter is asked of a pack."""

    pack: PackListing
    positions: NDArray[np.int32]
    seen: Memory
    """Takes what is not hashed."""


class GitSource:
    """A repository: a work tree, a git folder, or a clone of ours that stands for a URL."""

    name: Final = "git"

    def __init__(
        self, place: Callable[[], Path], store: Store, seen: Seen, settings: Settings, *, target: str,
        borrows: bool = False,
    ) -> None:  # fmt: skip
        """Make the source of the repository that place returns: a work tree, a git folder, a clone of ours.

        place is called when the scan comes to it: it may clone or fetch first. target is what the user knows it by.
        borrows: an alternate is another repository's, and what only that one has is no finding of this one.
        """
        self.target = shown(target)
        # A folder source of the same work tree remembers under the plain path.
        self._state = f"git:{self.target}"
        self._place = place
        self._store = store
        self._seen = seen
        self._settings = settings
        self._borrows = borrows
        self._listing: Listing | None = None
        """While `blobs` runs: it maps packs and indexes, and holds their files open."""
        self._listed = False
        self._files: dict[str, list[str]] = {}
        self._pointers: dict[str, str] = {}
        """The blobs that stand for LFS objects in history, and the content of each."""
        self._placed: dict[str, list[GitProvenance]] = {}
        self._names: dict[bytes, str] = {}
        """Names in trees and indexes that may hold a key id, and what they are as blobs."""
        self._older: set[str] = set()
        """Trees in which nothing is looked for but self._before: names that earlier scans told, as blobs."""
        self._before: set[str] = set()
        self._hits: set[str] = set()
        self._unread: dict[str, list[Skipped]] = {}
        """Why blobs, or parts of them, could not be read."""
        self._again: set[str] = set()
        """Those that were handed on in this scan already, for they could not be read to their end in the last one."""
        self._unsure: set[_Where] = set()
        """Of which the last scan could not find out whether they hold, where nothing changed since."""
        self._walked = b""
        self._skipped: list[Skipped] = []
        self._lasting: set[Skipped] = set()
        """Failures that stay until something changes, or are tried by themselves: nothing is listed again for them."""

    def blobs(self) -> Iterator[Item]:
        """Yield the submodules' repositories, then text beside the objects, then objects worth a look."""
        try:
            yield from self._all()
        except OSError as error:
            raise SourceFailure(
                f"{self.target} cannot be read: {error}", "may you read it, and is the disk full?"
            ) from error
        finally:
            self._listing = None

    def _all(self) -> Iterator[Item]:
        layout = find(self._place())
        if not self._borrows:
            outside = (layout.root / ".git").is_symlink() and not layout.common.is_relative_to(layout.root)
            yield from (Borrowed(shown(str(store))) for store in layout.stores[0 if outside else 1 :])
        errors = list[OSError]()
        yield from (Nested(str(path)) for path in gitfiles.modules(layout, errors.append))
        yield from _unlisted(errors)
        stamp = gitfiles.stamp(layout)
        before = self._unchanged(stamp)
        if before is not None and (yield from self._fails_again(layout, before.unread)):
            self._unsure.update(before.unsure)
            yield from (*layout.skipped, *before.skipped)
            yield Checkpoint(Tally(known=before.known - len(before.unread)))
            return
        self._lasting.update(layout.skipped)
        with ObjectAccess(layout) as git, Absent(git) as absent:
            counted = 0
            for item in itertools.chain(layout.skipped, _beyond(layout), self._beside(layout), self._objects(git)):
                match item:
                    case Blob(id=name):
                        self._hits.add(name)
                    case Skipped():
                        self._told(item)
                    case Checkpoint(tally=tally):
                        counted += tally.objects + tally.known + tally.ruled_out
                    case Known() | Nested() | Borrowed():
                        pass
                yield item
            if lacking := self._lacking(git, absent):
                self._lasting.add(lacking)
                yield self._told(lacking)
            yield Checkpoint()  # what was found is in the store now
            holding = self._store.holding(self._hits)
            self._place_all(git, holding)
        # State and places are committed together: a scan that ends before this looks again.
        met = tuple(Met(source=self.name, blob=blob, provenance=p) for blob in holding for p in self._placed[blob])
        doubtful = tuple(self.unsure(self._store.held(repositories=[self.target])))
        places, states = condensed((*met, *doubtful)), list[SourceState]()
        if self._walked and not self._unread and self._nothing_failed():
            target = f"walk:{self.target}"
            value = bytes.fromhex(places) + self._walked
            states.append(SourceState(target=target, detector=self._seen.detector, value=value))
        if stamp.settled and self._nothing_failed(besides=self._lasting):
            told = [each for each in self._skipped if each not in layout.skipped]
            # What fails whoever reads it is told again without that.
            lasting = {blob: why for blob, why in self._unread.items() if not any(each.passing for each in why)}
            told += itertools.chain.from_iterable(lasting.values())
            again, unsure = tuple(sorted(self._unread.keys() - lasting)), tuple(map(_where, doubtful))
            value = _Before(self._looks(stamp), counted, tuple(told), again, unsure, places).encoded()
            states.append(SourceState(target=self._state, detector=self._seen.detector, value=value))
        yield Checkpoint(met=met, states=tuple(states))

    def _fails_again(self, layout: Layout, unread: Sequence[str]) -> Generator[Item, None, bool]:
        """Read again what could not be read to its end last time; return whether nothing comes of it."""
        if not unread:
            return True
        tally = Tally()
        with ObjectAccess(layout) as git:
            reader = Reader(git=git, hits=self._settings.hits, container=self._settings.container, jobs=1)
            for item in reader.read([Part(from_hex([*unread], layout.width))]):
                match item:
                    case Blob():
                        self._hits.add(item.id)
                        self._again.add(item.id)
                        yield from _handed_on(item)
                    case Share():
                        tally += item.tally
                    case Unread(passing=True):
                        self.unread(item.id, self._cannot(item))
                    case Unread() | Named():  # it is listed again, and told then
                        pass
        yield Checkpoint()  # what was found is in the store now
        found = self._store.holding(self._again)
        placed = {met.blob for met in self._store.held(repositories=[self.target])} if found else set[str]()
        if not self._unread.keys() >= {*unread} or not placed.issuperset(found):
            return False
        yield Checkpoint(tally)
        return True

    def _cannot(self, item: Unread) -> Skipped:
        what = f"{self.target} {item.id}"
        return Skipped(outcome=Outcome.FAILED, what=what, why=item.why, passing=item.passing)

    def _lacking(self, git: ObjectAccess, absent: Absent) -> Skipped | None:
        """Tell how many objects are absent, where nothing else that failed says so."""
        why, count = "absent from a partial clone or a broken alternate, and never fetched", absent.count()
        if self._listing is not None and not git.layout.fenced and self._nothing_failed() and not count:
            why = "absent or damaged, though refs or history need them: `git fsck` names each"
            count = lost(git, self._listing)
        what = f"{self.target} objects"
        return Skipped(outcome=Outcome.FAILED, what=what, why=why, count=count) if count else None

    def _told(self, skipped: Skipped) -> Skipped:
        self._skipped.append(skipped)
        return skipped

    def _nothing_failed(self, besides: Collection[Skipped] = ()) -> bool:
        return all(each.outcome is not Outcome.FAILED or each in besides for each in self._skipped)

    def _unchanged(self, stamp: gitfiles.Stamp) -> _Before | None:
        """Return what the last scan remembered, if nothing changed since, neither here nor in what the store holds."""
        state = self._store.source_state(self._state, self._seen.detector)
        before = None if state is None else _Before.decoded(state.value)
        same = before is not None and (before.stamp, before.places) == (self._looks(stamp), self._places())
        return before if same else None

    def _looks(self, stamp: gitfiles.Stamp) -> str:
        """Return what tells a repository that changed, or that is read with other means."""
        return f"{stamp.digest} {self._settings.means}"

    def _places(self) -> str:
        return condensed(self._store.held(repositories=[self.target]))

    def _objects(self, git: ObjectAccess) -> Iterator[Item]:
        """Read what was never read and cannot be ruled out, share by share."""
        from firedamp.scanner.gaps import with_gap
        from firedamp.scanner.listing import list_objects

        layout, settings = git.layout, self._settings
        filtered_from = math.inf if settings.delta_filter is None else settings.filter_from
        whole = settings.delta_filter is not None and settings.delta_filter.whole
        listing = self._listing = list_objects(layout, git, trees_below=math.inf if whole else filtered_from)
        self._listed = True
        yield from listing.skipped
        for name in self._known_hits(listing, layout.width):
            self._hits.add(name)
            yield Known(name)
        hashed = self._seen.hashed(layout.width)
        folders = {folder: self._seen.claimed(folder, layout.width) for folder in layout.stores}
        own = folders[layout.stores[0]]
        ours = all(memory is hashed for memory in folders.values())
        asked, others = list[_Asked](), list[Part]()
        for pack, positions in listing.packs:
            seen = folders[pack.pack.parents[1]]
            held = seen.holds(pack.ids(positions))
            fresh = positions[~held]
            yield Checkpoint(Tally(known=pack.texts(positions[held])))
            if pack.end >= filtered_from and len(fresh):
                asked.append(_Asked(pack, fresh, seen))
            else:
                behind = _behind(pack, [*with_gap(pack, fresh, settings.hits)])
                others.append(Part(pack.ids(fresh), hashed, check=not ours, behind=behind))
        fresh_rest = listing.rest[~own.holds(listing.rest)]
        yield Checkpoint(Tally(known=len(listing.rest) - len(fresh_rest)))
        others.append(Part(fresh_rest, hashed, check=not ours, loose=True))
        # Their ids are known as soon as the packed ones are read: there are few, and they are read each time.
        others.append(Part(listing.twice, check=True, loose=True))
        large = [pack for pack, _ in listing.packs if pack.end >= filtered_from]
        if not whole and large:
            trees, older_trees = self._trees(git, listing, large)
            others.extend(Part(each[~own.holds(each)], hashed, check=not ours) for each in (trees, older_trees))
            if (older := _count_trees(large) - len(trees)) > 0:
                yield self._passed_by(older)
        yield from self._contents(git, self._parts(asked, others, Part(from_hex([], layout.width), hashed, not ours)))

    def _passed_by(self, trees: int) -> Skipped:
        what = f"{self.target} trees"
        why = "trees of older commits, in large packs: --thorough looks at the names in them too"
        return Skipped(outcome=Outcome.LEFT_OUT, what=what, why=why, count=trees)

    def _trees(self, git: ObjectAccess, listing: Listing, large: Collection[PackListing]) -> tuple[Ids, Ids]:
        """Return the trees in large packs that HEAD and branches hold now, then those with names that were told before.

        Of these no other name is told: it would depend on earlier scans.
        """
        import numpy as np

        layout, named = git.layout, self._naming(listing, git.layout.width)
        branches = tips(layout, "refs/heads/", "refs/remotes/")
        trees = _trees_of(git, listing, {*branches, resolve(layout) or ""})
        older = _trees_of(git, listing, set[str]().union(*named.values()))
        older = older[~np.isin(keys(older), keys(trees))]
        self._before, self._older = set(named), {row.tobytes().hex() for row in older}
        others = _with_trees(listing, large)
        return trees[~others.has(trees)], older[~others.has(older)]

    def _naming(self, listing: Listing, width: int) -> dict[str, set[str]]:
        """Return names with a key in them that earlier scans told, and the commits that put them there.

        No branch may have them now.
        """
        commits = dict[str, set[str]]()
        for met in self._store.held(repositories=[self.target]):
            match met.provenance:
                case GitProvenance(commit=str(commit), path=str()) if len(met.blob) == 2 * width:
                    commits.setdefault(met.blob, set()).add(commit)
                case _:
                    pass
        held = listing.has(from_hex([*commits], width)).tolist()
        return {name: of for (name, of), is_object in zip(commits.items(), held, strict=True) if not is_object}

    def _known_hits(self, listing: Listing, width: int) -> Iterator[str]:
        """Yield which objects hold a match that was found before, here or in another repository."""
        parts = (listing.rest, *(pack.index_ids for pack, _ in listing.packs))
        if sum(map(len, parts)) <= _FEW:
            yield from sorted(self._store.holding(row.tobytes().hex() for ids in parts for row in ids))
            return
        holding = from_hex(sorted(self._store.blobs_with_findings()), width)
        yield from (row.tobytes().hex() for row in holding[listing.has(holding)])

    def _parts(self, asked: Sequence[_Asked], others: Sequence[Part], hashed: Part) -> Iterator[Portion]:
        """Yield what the delta filter finds out, as it does, and what git is to read: the others last.

        hashed says what is done with objects of packs that are not ruled out.
        """
        if asked and self._settings.delta_filter is not None:
            try:
                yield from self._filtered(asked, self._settings.delta_filter, hashed)
            except NoCompilerError:
                for one in asked:
                    yield from replace(hashed, ids=one.pack.ids(one.positions)).divided()
        for each in others:
            yield from each.divided()

    def _filtered(self, asked: Sequence[_Asked], delta_filter: DeltaFilter, hashed: Part) -> Iterator[Portion]:
        from firedamp.scanner.gaps import with_gap
        from firedamp.scanner.packindex import Kind
        from firedamp.scanner.packs import Judge, filtering, too_large

        settings = self._settings
        judge = Judge(settings.hits, settings.container, delta_filter.whole)
        packs = [(one.pack, one.positions) for one in asked]
        with filtering(packs, judge, delta_filter.cache, processes=settings.jobs) as pieces:
            for piece in pieces:
                one = asked[piece.pack]
                pack = one.pack
                kinds = [Kind(kind).name.lower() for kind in pack.kinds[piece.hits].tolist()]
                yield Texts(pack.ids(piece.hits), piece.texts, kinds, hashed.seen, hashed.check)
                out = len(piece.ruled_out) - piece.trees
                tally = Tally(objects=out, bytes=piece.size) if delta_filter.whole else Tally(ruled_out=out)
                yield Share(pack.ids(piece.ruled_out), tally, one.seen)
                behind = _behind(pack, [*piece.behind, *with_gap(pack, too_large(pack, piece.unread), settings.hits)])
                yield from replace(hashed, ids=pack.ids(piece.unread), behind=behind).divided()

    def _contents(self, git: ObjectAccess, parts: Iterator[Portion]) -> Iterator[Item]:
        """Read objects, and remember those that were read to their end or need not be."""
        import numpy as np

        settings, width, missing = self._settings, git.layout.width, 0
        reader = Reader(git=git, hits=settings.hits, container=settings.container, jobs=settings.gits)
        for item in reader.read(parts):
            match item:
                case Blob() if item.id in self._again:
                    _forget(item)
                case Blob():
                    yield from _handed_on(item)
                case Named(id=tree, names=names):
                    yield from self._named(names, width, older=tree in self._older)
                case Unread(absent=True):
                    missing += 1
                case Unread():
                    failed = self._cannot(item)
                    if item.passing:
                        self.unread(item.id, failed)
                        self._lasting.add(failed)
                    yield failed
                case Share(ids=read, tally=tally, seen=seen):
                    if self._unread:
                        read = read[~np.isin(keys(read), keys(from_hex(sorted(self._unread), width)))]
                    yield Checkpoint(tally, seen=() if seen is None else (seen.add(read),))
        if missing:
            why = "listed, but git cannot give them: damaged, or removed meanwhile"
            yield Skipped(outcome=Outcome.FAILED, what=f"{self.target} objects", why=why, count=missing)

    def _named(self, names: Iterable[bytes], width: int, *, older: bool = False) -> Iterator[Blob]:
        """Yield names that may hold a key id, each once; of an older tree those that were told before."""
        for name in names:
            if name not in self._names and (not older or gitfiles.named(name, width) in self._before):
                self._names[name] = gitfiles.named(name, width)
                yield Blob(self._names[name], name, lines=False)

    def _beside(self, layout: Layout) -> Iterator[Item]:
        """Yield what the git folder holds besides objects: configuration, reflogs, hooks, refs' names, LFS content."""
        settings, tally, errors, others = self._settings, Tally(), list[OSError](), list[Path]()
        unread = errors.append
        refs = gitfiles.refs(layout, unread, others)
        texts = gitfiles.text_files(layout, unread)
        for path in itertools.chain(others, texts, gitfiles.lfs_files(layout, unread)):
            if isinstance(path, Skipped):
                yield path
                continue
            content = gitfiles.read(path, settings.hits, layout.width)
            if isinstance(content, Skipped):
                yield content
                continue
            tally += Tally(files=1, bytes=content.size)
            if content.interesting or settings.container(content.head, content.tail):
                self._files.setdefault(content.blob, []).append(_place(layout, path))
                if (pointer := gitfiles.pointer(path, content.size, layout.width)) is not None:
                    self._pointers[pointer] = content.blob
                yield from gitfiles.pieces(path, content.blob, settings.hits)
        if settings.hits(memoryview(refs.data)):
            self._files.setdefault(refs.id, []).append(_place(layout, layout.common / "refs"))
            yield refs
        from firedamp.scanner.history import staged_names

        for index, text in staged_names(layout):
            if index is None:
                yield from self._named([text], layout.width)
            else:
                named = gitfiles.named(text, layout.width)
                self._files.setdefault(named, []).append(_place(layout, index))
                yield Blob(named, text, lines=False)
        yield from _unlisted(errors)
        yield Checkpoint(tally)

    def unread(self, blob: str, failed: Skipped) -> None:
        """Do not remember this blob as read: next time it is again or, where nothing changed and it must fail, told."""
        self._unread.setdefault(blob, []).append(failed)

    def provenance(self, ids: Collection[str]) -> Iterator[tuple[str, Provenance]]:
        """Yield every way these blobs are met, as the one walk at the end of `blobs` found them."""
        for blob in ids:
            for place in self._placed.get(blob, []):
                yield blob, place

    def _place_all(self, git: ObjectAccess, blobs: Collection[str]) -> None:
        """Find every way these blobs are met: all of them in one walk over the history."""
        self._placed = {
            blob: [GitProvenance(repository=self.target, path=path) for path in self._files.get(blob, [])]
            for blob in blobs
        }
        if self._listing is not None and blobs:
            from firedamp.scanner.belonging import belonging
            from firedamp.scanner.history import brief, trace

            pointers = {pointer: blob for pointer, blob in self._pointers.items() if blob in blobs}
            names = {*blobs, *pointers}
            mine = belonging(git, names) if self._borrows and len(git.layout.stores) > 1 else None
            commits = self._listing.commits(_commits(git, self._listing.rest)) if mine is None else mine.commits
            walked = None if pointers else self._walked_before(names)
            entries = {name: blob for name, blob in self._names.items() if blob in blobs}
            for name, place in trace(git, commits, names, self.target, walked, entries):
                if mine is not None and not mine.has(name, place):
                    continue
                for blob in {name, pointers.get(name, name)}.intersection(blobs):
                    self._placed[blob].append(place)
            self._walked = brief(commits).tobytes()
            self._place_staged(git.layout)

    def _place_staged(self, layout: Layout) -> None:
        """Name the paths under which blobs in no commit are staged."""
        nowhere = GitProvenance(repository=self.target, in_head=False)
        loose = {blob for blob, places in self._placed.items() if nowhere in places}
        if not loose:
            return
        from firedamp.scanner.history import staged

        every = (each for blob, raw in staged(layout) for each in ((blob, raw), *paths_with(self._names, raw)))
        paths = [(blob, shown(os.fsdecode(path))) for blob, path in every if blob in loose]
        loose.difference_update([blob for blob, _ in paths])
        # Of a tree that no commit has only the name is known; one longer than any path is the rest of a damaged tree.
        names = ((name, blob) for name, blob in self._names.items() if blob in loose and len(name) <= LONGEST_PATH)
        paths += [(blob, shown(os.fsdecode(name))) for name, blob in names]
        for blob in {blob for blob, _ in paths}:
            self._placed[blob].remove(nowhere)
        for blob, path in dict.fromkeys(paths):
            self._placed[blob].append(GitProvenance(repository=self.target, path=path, in_head=False))

    def _walked_before(self, names: Collection[str]) -> Walked | None:
        """Return what the last whole walk over this repository found out."""
        import numpy as np

        from firedamp.scanner.history import Walked

        state = self._store.source_state(f"walk:{self.target}", self._seen.detector)
        if state is None or state.value[:16].hex() != self._places():
            return None
        places, sought = dict[tuple[str, str], str](), set[str]()
        for met in self._store.held(repositories=[self.target]):
            match met.provenance:
                case GitProvenance(commit=str(commit), path=str(path)) if met.blob in names:
                    places[met.blob, path] = commit
                    sought.add(met.blob)
                case GitProvenance(commit=None):  # staged, or nowhere; a file beside the objects was sought as well
                    sought.add(met.blob)
                case _:  # a commit's own text
                    pass
        return Walked(np.frombuffer(state.value, np.int64, offset=16), places, sought)

    def gone(self, met: Iterable[Met]) -> Iterator[Met]:
        """Yield ways recorded before that no longer hold: pruned objects, rewritten history, edited configuration."""
        if self._listed and self._tells_what_is_gone():
            yield from self._not_met(met)

    def unsure(self, met: Iterable[Met]) -> Iterator[Met]:
        """Yield ways recorded before that were not met again, where something could not be read."""
        if self._listed and not self._tells_what_is_gone():
            yield from self._not_met(met)
        elif self._unsure:
            yield from (each for each in met if _where(each) in self._unsure)

    def _tells_what_is_gone(self) -> bool:
        """Whether what was not met is gone: all was read, and no other repository's name is shown as this one's is."""
        return self._nothing_failed() and len(finder()(self.target)) < 2

    def _not_met(self, met: Iterable[Met]) -> Iterator[Met]:
        for each in met:
            places = {_key(place) for place in self._placed.get(each.blob, [])}
            if isinstance(each.provenance, GitProvenance) and _key(each.provenance) not in places:
                yield each


def _beyond(layout: Layout) -> Iterator[Skipped]:
    """Tell that history is cut off: commits at the boundary say that they have parents, and those are elsewhere."""
    if layout.shallow is not None and small(layout.shallow).strip():
        why = "older history lies beyond a shallow boundary; git fetch --unshallow brings it"
        yield Skipped(outcome=Outcome.LEFT_OUT, what=shown(str(layout.shallow)), why=why)


def _place(layout: Layout, path: Path) -> str:
    """Name a path beside the objects as a provenance does: from the repository's folder, if it stands below that."""
    return shown(str(path.relative_to(layout.root) if path.is_relative_to(layout.root) else path))


def _handed_on(blob: Blob) -> Iterator[Item]:
    """Yield a blob, and remove the file it was put in."""
    yield blob
    _forget(blob)


def _forget(blob: Blob) -> None:
    if blob.path is not None:
        Path(blob.path).unlink()


@dataclass(frozen=True, slots=True)
class _Before:
    """What is remembered of a scan: what the repository looked like, its objects' number, and what was not read.

    unread are blobs of which some part could not be looked through; unsure are ways recorded before that were not met;
    places are condensed all ways that the store held then.
    """

    stamp: str
    known: int
    skipped: tuple[Skipped, ...]
    unread: tuple[str, ...]
    unsure: tuple[_Where, ...]
    places: str

    def encoded(self) -> bytes:
        skipped = [(each.outcome, each.what, each.why, each.count) for each in self.skipped]
        return json.dumps((self.stamp, self.known, skipped, self.unread, self.unsure, self.places)).encode()

    @classmethod
    def decoded(cls, value: bytes) -> _Before | None:
        values = json.loads(value)
        if len(values) < 6:  # an older one
            return None
        stamp, known, skipped, unread, unsure, places = values
        return cls(
            stamp, known,
            tuple(Skipped(outcome=Outcome(o), what=what, why=why, count=count) for o, what, why, count in skipped),
            tuple(unread), tuple((blob, commit, path) for blob, commit, path in unsure), places,
        )  # fmt: skip


def _unlisted(errors: Iterable[OSError]) -> Iterator[Skipped]:
    """Tell folders that could not be listed. A repository need not have every folder that is looked for."""
    return (trouble(str(e.filename), e) for e in errors if not isinstance(e, FileNotFoundError))


def _where(met: Met) -> _Where:
    place = met.provenance
    return met.blob, place.commit if isinstance(place, GitProvenance) else None, place.path


def _key(place: GitProvenance) -> tuple[str | None, str | None]:
    return place.commit, place.path


def _trees_of(git: ObjectAccess, listing: Listing, commits: Collection[str]) -> Ids:
    """Return the trees of commits that are there."""
    layout, command = git.layout, ("rev-list", "--objects", "--no-object-names", "--no-walk", "--filter=blob:none")
    ids = from_hex(sorted(commits), layout.width)
    held = {row.tobytes().hex() for row in ids[listing.has(ids)]}
    if not held:
        return ids[:0]
    lines = git.output(*command, "--missing=allow-any", "--stdin", lines=lined(held))
    return from_hex([name for name in (line.decode() for line in lines) if name not in held], layout.width)


def _count_trees(packs: Sequence[PackListing]) -> int:
    """Return how many trees packs hold: several may hold the same."""
    ids = [pack.ids(pack.trees()) for pack in packs]
    return len(ids[0]) if len(ids) == 1 else len({row.tobytes() for each in ids for row in each})


def _with_trees(listing: Listing, large: Collection[PackListing]) -> Listing:
    """Return a listing without these packs: their trees are in none."""
    return replace(listing, packs=tuple(each for each in listing.packs if each[0] not in large))


def _behind(pack: PackListing, positions: Sequence[int]) -> frozenset[bytes]:
    """Return the ids, in hexadecimal digits, of objects behind whose end bytes stand in a pack."""
    return frozenset(binascii.hexlify(pack.index_ids[pack.rows[position]]) for position in positions)


def _commits(git: ObjectAccess, rest: Ids) -> Ids:
    from firedamp.scanner.history import kinds_of

    names = (row.tobytes().hex() for row in rest)
    return from_hex([name for name, kind in kinds_of(git, names) if kind == "commit"], rest.shape[1])


def stand_at(repository: str, cache: Path) -> list[Path]:
    """Return the folders of the repositories that a provenance names so, as a rule one.

    That is a path, or a URL or bundle that is kept in cache.
    """
    if is_url(repository):
        return [clone_of(repository, cache)]
    return [unbundled(path, cache) if path.is_file() else path for path in map(Path, finder()(repository))]


def read_again(place: GitProvenance, blob: str, cache: Path) -> Iterator[Blob]:
    """Yield an object, or a file beside the objects, if it is still what was found there: whole, or in windows.

    place's repository is a path, or the URL or bundle whose repository stands in cache.
    """
    for path in stand_at(place.repository, cache):
        read = 0
        for read, piece in enumerate(_pieces(path, place, blob), 1):  # noqa: B007 - how many there were is asked
            yield piece
        if read:
            return


def _pieces(path: Path, place: GitProvenance, blob: str) -> Iterator[Blob]:
    try:
        layout = find(path)
    except SourceFailure:
        return
    if place.commit is None and place.path is not None:
        for file in map(Path, finder()(str(layout.root / place.path))):
            if os.path.isdir(file) and (refs := gitfiles.refs(layout)).id == blob:  # noqa: PTH112 - too long for Path
                yield refs
                return
            content = gitfiles.read(file, _everything, layout.width)
            if isinstance(content, gitfiles.Content) and content.blob == blob:
                yield from gitfiles.pieces(file, blob, _everything)
                return
        # What was staged may stand at its path no more, but is an object.
    with ObjectAccess(layout) as git:
        reader = Reader(git=git, hits=_everything, container=lambda head, _: bool(head))
        found = False
        for item in reader.read([Part(from_hex([blob], layout.width))]):
            if isinstance(item, Blob):
                found = True
                yield item
        from firedamp.scanner.history import entry

        if not found and place.path is not None and (name := entry(git, place.commit, blob)) is not None:
            yield Blob(blob, name, lines=False)


def _everything(window: memoryview) -> list[int]:
    return [len(window)]
