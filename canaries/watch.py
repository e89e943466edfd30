"""The main path: feed page -> records -> sightings -> incidents -> store.

Bytes are searched before JSON is parsed (`watchlist`, `trailfiles`); everything between there and the transaction is
a pure join (`sight`, `incidents`). The watermark moves in the transaction that keeps what the page showed, and only
then is the page acknowledged: a crash means a second read, never a lost record.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from itertools import chain, islice
from typing import Final

from firedamp.canaries import facts, heard, trailfiles
from firedamp.canaries.feeds import Feed, Page
from firedamp.canaries.incidents import QUIET, Known, decide, lost, stolen
from firedamp.canaries.sight import sightings
from firedamp.canaries.tamper import Guarded
from firedamp.canaries.watchlist import Watchlist, compiled
from firedamp.storage.errors import Failure
from firedamp.storage.records import (
    Canary,
    Grown,
    Incident,
    Outcome,
    PageRead,
    Rejected,
    Sighting,
    Skipped,
    WatchedKey,
    Watermark,
)
from firedamp.storage.store import Store

_READERS: Final = 2
"""Files that are inflated and searched at the same time: both let go of Python's lock."""
_READ_AHEAD: Final = 4
_BATCH: Final = 5000
"""Sightings of one transaction: whoever uses a canary without end must not fill the memory, nor hold the database."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """How a watch judges. guarded without accounts: those of our canaries, as far as their owners are known."""

    quiet: timedelta = QUIET
    guarded: Guarded = Guarded()
    locate: facts.Locate = facts.nowhere
    inflated: int = trailfiles.INFLATED


@dataclass(frozen=True, slots=True, kw_only=True)
class Polled:
    """What one poll of a feed brought."""

    feed: str
    records: int
    sightings: int
    grown: tuple[Grown, ...]
    """Every incident that got new sightings, once."""
    rejected: tuple[Rejected, ...]
    skipped: tuple[Skipped, ...]

    @property
    def opened(self) -> tuple[Incident, ...]:
        """The incidents that became an alarm in this poll."""
        return tuple(each.after for each in self.grown if each.alarming)

    @property
    def failed(self) -> tuple[Skipped, ...]:
        """What could not be read: the watch was blind to it."""
        return tuple(each for each in self.skipped if each.outcome is Outcome.FAILED)


def poll(
    feed: Feed, store: Store, now: datetime, rules: Rules = Rules(), clock: Callable[[], datetime] | None = None
) -> Polled:
    """Read what is new in a feed and commit it page by page. A feed that cannot be read at all has failed, told so.

    now is when the poll began; clock, when given, dates each page's alerts by the time it is committed.
    """
    since = store.watermark(feed.name)
    position, newest = "" if since is None else since.position, list[datetime]()
    counted = _Counted()
    with ThreadPoolExecutor(_READERS) as readers:
        try:
            pages = feed.pages(since)
            first = list(islice(pages, 1))
            # Only now: the feed takes no key for known that is not looked for here.
            keys = store.watched()
            guarded = rules.guarded
            if not guarded.accounts:
                guarded = replace(guarded, accounts=_accounts(keys))
            watchlist = compiled(tuple(keys), frozenset(guarded.calls))
            placements = store.placements()
            for page in chain(first, pages):
                at = now if clock is None else clock()
                known = Known(
                    keys=watchlist.keys, placements=placements, now=at, quiet=rules.quiet, locate=rules.locate
                )
                read = partial(trailfiles.read, watchlist=watchlist, limit=rules.inflated)
                joined = _Joined(feed.name, page, _Judge(watchlist, guarded, known))
                for batch in joined.batches(_ahead(readers, read, page.documents)):
                    counted.grow(store.record_page(batch, partial(decide, known=known), at))
                    counted.add(batch)
                rest = joined.rest()
                counted.records += joined.records
                newest += joined.newest()
                mark = None
                if page.position is not None:
                    mark = Watermark(feed=feed.name, position=page.position, newest=max(newest, default=None))
                counted.grow(store.record_page(replace(rest, watermark=mark), partial(decide, known=known), at))
                # Only now: a page that could not be committed must not be passed over by what is written below.
                position = position if page.position is None else page.position
                counted.add(rest)
                feed.acknowledge(page)
        except Failure as failure:
            told = Skipped(outcome=Outcome.FAILED, what=feed.name, why=str(failure))
            counted.skipped.append(told)
            store.record_page(PageRead(feed=feed.name, skipped=(told,)), partial(decide, known=_nothing(now)), now)
    polled = counted.polled(feed.name)
    # The time of a poll is the proof that the watch sees: what could not be read leaves the old one.
    ended = Watermark(
        feed=feed.name, position=position, newest=max(newest, default=None), polled=None if polled.failed else now
    )
    store.record_page(PageRead(feed=feed.name, watermark=ended), partial(decide, known=_nothing(now)), now)
    return polled


def _ahead(
    readers: ThreadPoolExecutor,
    read: Callable[[trailfiles.Document], trailfiles.Contents],
    documents: Iterable[trailfiles.Document],
) -> Iterator[trailfiles.Contents]:
    """Yield what documents hold, in order, a few read ahead: what they hold takes ten times their own room."""
    reading: deque[Future[trailfiles.Contents]] = deque()
    for document in documents:
        reading.append(readers.submit(read, document))
        if len(reading) > _READ_AHEAD:
            yield reading.popleft().result()
    while reading:
        yield reading.popleft().result()


def _accounts(keys: Sequence[WatchedKey]) -> frozenset[str]:
    return frozenset(key.owner.account_id for key in keys if isinstance(key, Canary) and key.owner.account_id)


class _Counted:
    """What a poll brought so far."""

    def __init__(self) -> None:
        self.records = self.sightings = 0
        self.rejected: list[Rejected] = []
        self.skipped: list[Skipped] = []
        self._grown: dict[int, Grown] = {}

    def add(self, read: PageRead) -> None:
        self.sightings += len(read.sightings)
        self.rejected += read.rejected
        self.skipped += read.skipped

    def grow(self, grown: list[Grown]) -> None:
        for each in grown:
            earlier = self._grown.get(each.after.id, each)
            self._grown[each.after.id] = Grown(before=earlier.before, after=each.after)

    def polled(self, feed: str) -> Polled:
        return Polled(
            feed=feed, records=self.records, sightings=self.sightings, grown=tuple(self._grown.values()),
            rejected=tuple(self.rejected), skipped=tuple(self.skipped),
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Judge:
    """What records are joined with."""

    watchlist: Watchlist
    guarded: Guarded
    known: Known


class _Joined:
    """What a page's documents hold, joined to the watched keys: full batches of sightings first, then the rest.

    Only the rest is committed with the watermark: after a crash the page is read again, and no sighting counts twice.
    """

    def __init__(self, feed: str, page: Page, judge: _Judge) -> None:
        self.records = 0
        self._feed, self._page, self._judge = feed, page, judge
        self._found: list[Sighting] = []
        self._rejected, self._skipped = list(page.rejected), list(page.skipped)
        self._times: list[Mapping[str, Sequence[str]]] = []

    def batches(self, several: Iterable[trailfiles.Contents]) -> Iterator[PageRead]:
        """Join document by document, and yield whenever there are enough sightings for a transaction."""
        judge = self._judge
        for document, contents in zip(self._page.documents, several, strict=True):
            self.records += contents.total
            self._times.append(contents.times)
            self._rejected += contents.rejected
            self._skipped += contents.skipped
            if any(each.outcome is Outcome.FAILED for each in contents.skipped):
                self._page.unread.add(document.where)
            for where, record in contents.records():
                for each in sightings(record, where, judge.watchlist, judge.guarded, judge.known.now):
                    if isinstance(each, Rejected):
                        self._rejected.append(each)
                    else:
                        self._found.append(each)
                if len(self._found) >= _BATCH:
                    yield PageRead(feed=self._feed, sightings=tuple(self._found))
                    self._found.clear()

    def rest(self) -> PageRead:
        """Return what no batch held."""
        rejected, now = self._rejected, self._judge.known.now
        lost_keys = (alert for each in rejected for alert in lost(each, self._judge.known))
        return PageRead(
            feed=self._feed, sightings=tuple(self._found), heard=heard.of(self._times, now), rejected=tuple(rejected),
            skipped=(*self._skipped, *(each.lost for each in rejected if each.lost is not None)),
            alerts=(*lost_keys, *stolen(self._feed, self._page.gone, now)),
        )  # fmt: skip

    def newest(self) -> list[datetime]:
        """Return the newest eventTime, where there is one."""
        found = heard.newest(self._times, self._judge.known.now)
        return [] if found is None else [found]


def _nothing(now: datetime) -> Known:
    keys: Mapping[str, WatchedKey] = {}
    return Known(keys=keys, now=now)
