"""The main path: feed page -> records -> sightings -> incidents -> store.

Bytes are searched before JSON is parsed (`watchlist`, `trailfiles`); everything between there and the transaction is
a pure join (`sight`, `incidents`). The watermark moves in the transaction that keeps what the page showed, and only
then is the page acknowledged: a crash means a second read, never a lost record.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
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
                several = readers.map(partial(_read, watchlist=watchlist, limit=rules.inflated), page.documents)
                read, records, time = _joined(feed.name, page, several, _Judge(watchlist, guarded, known))
                newest += [] if time is None else [time]
                mark = None
                if page.position is not None:
                    mark = Watermark(feed=feed.name, position=page.position, newest=max(newest, default=None))
                counted.grow(store.record_page(replace(read, watermark=mark), partial(decide, known=known), at))
                # Only now: a page that could not be committed must not be passed over by what is written below.
                position = position if page.position is None else page.position
                counted.add(read, records)
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


def _read(document: trailfiles.Document, watchlist: Watchlist, limit: int) -> trailfiles.Contents:
    return trailfiles.read(document, watchlist, limit)


def _accounts(keys: Sequence[WatchedKey]) -> frozenset[str]:
    return frozenset(key.owner.account_id for key in keys if isinstance(key, Canary) and key.owner.account_id)


class _Counted:
    """What a poll brought so far."""

    def __init__(self) -> None:
        self.records = self.sightings = 0
        self.rejected: list[Rejected] = []
        self.skipped: list[Skipped] = []
        self._grown: dict[int, Grown] = {}

    def add(self, read: PageRead, records: int) -> None:
        self.records += records
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


def _joined(
    feed: str, page: Page, several: Iterator[trailfiles.Contents], judge: _Judge
) -> tuple[PageRead, int, datetime | None]:
    """Join what a page's documents hold to the watched keys; return it, the records counted, the newest eventTime."""
    found: list[Sighting] = []
    rejected, skipped = list(page.rejected), list(page.skipped)
    records, times = 0, list[Mapping[str, Sequence[str]]]()
    for document, contents in zip(page.documents, several, strict=True):
        records += contents.total
        times.append(contents.times)
        rejected += contents.rejected
        skipped += contents.skipped
        if any(each.outcome is Outcome.FAILED for each in contents.skipped):
            page.unread.add(document.where)
        for where, record in contents.records:
            for each in sightings(record, where, judge.watchlist, judge.guarded, judge.known.now):
                if isinstance(each, Rejected):
                    rejected.append(each)
                else:
                    found.append(each)
    skipped += [each.lost for each in rejected if each.lost is not None]
    read = PageRead(
        feed=feed, sightings=tuple(found), heard=heard.of(times, judge.known.now), rejected=tuple(rejected),
        skipped=tuple(skipped),
        alerts=(*(alert for each in rejected for alert in lost(each, judge.known)),
                *stolen(feed, page.gone, judge.known.now)),
    )  # fmt: skip
    return read, records, heard.newest(times, judge.known.now)


def _nothing(now: datetime) -> Known:
    keys: Mapping[str, WatchedKey] = {}
    return Known(keys=keys, now=now)
