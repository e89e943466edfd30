"""The feeds that live in AWS: a queue that announces trail files or carries records, and a bucket that is listed."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import SplitResult, parse_qs, unquote

from firedamp.canaries import notices
from firedamp.canaries.again import Again, Root
from firedamp.canaries.buckets import Bucket, name_at, root_of, too_young
from firedamp.canaries.feeds import PAGE_BYTES, Page, World, hashed
from firedamp.canaries.notices import TrailObject
from firedamp.canaries.trailfiles import Document
from firedamp.canaries.watchlist import compiled
from firedamp.storage.errors import SourceFailure, UsageFailure
from firedamp.storage.records import Outcome, Rejected, Skipped, WatchedKey, Watermark
from firedamp.storage.refusals import failures
from firedamp.storage.times import parse_time, rfc3339

if TYPE_CHECKING:
    from types_boto3_sqs import SQSClient

_INVISIBLE: Final = 300
"""Seconds for which a message that was received is hidden from other readers; renewed while it is worked on."""


_BATCH: Final = 10
"""Messages that one call of SQS takes at most."""
_AT_ONCE: Final = 8
"""Calls that are made at the same time: each waits for the network most of its time."""


@dataclass(slots=True)
class _Message:
    """One message of a queue and what is still owed for it: it is deleted when every part of it was read."""

    handle: str
    body: str
    wheres: list[str] = field(default_factory=list)
    failed: bool = False


_MOMENT: Final = 2.0
"""Seconds after which a file that is not there is asked for once more: it may have been announced a little early."""
_REMEMBERED: Final = 1000
"""Files that were read last: a queue may announce a file twice, and it may be moved away in between."""


class QueueFeed:
    """A queue: `sqs://REGION/ACCOUNT/QUEUE?profile=P`. Messages are deleted after what they showed is committed.

    A message of which something could not be read is left in the queue: it comes again when its time is over, and goes
    where the queue's redrive policy says when it came too often.
    """

    def __init__(self, url: SplitResult, world: World, wait: int = 1, invisible: int = _INVISIBLE) -> None:
        parts = unquote(url.path).strip("/").split("/")
        if not url.netloc or len(parts) != 2 or not all(parts):
            raise UsageFailure(f"{url.geturl()} names no queue", "as in sqs://eu-west-1/123456789012/trail-notices")
        self.name = url.geturl()
        self._profile, self._region = option(url, "profile"), url.netloc
        self._account, self._queue = parts
        self._world, self._wait, self._invisible = world, wait, invisible
        self._buckets: dict[str, Bucket] = {}
        self._url = ""
        self._open: dict[str, _Message] = {}
        self._roots: dict[Root, None] = {}
        self._done: dict[str, None] = {}
        """Tags of the trail files that were read last, or told as gone."""
        self._watched: tuple[WatchedKey, ...] = ()

    def pages(self, since: Watermark | None) -> Iterator[Page]:
        """Yield a page for each batch of messages until the queue is empty, then what is read again for new keys."""
        kept = json.loads(since.position) if since is not None and since.position else {}
        again = Again.of(kept.get("again"))
        self._roots = {tuple(each): None for each in kept.get("roots", [])}
        self._done = dict.fromkeys(_tags(kept.get("done", "")))
        self._buckets = {}  # whose credentials may have been renewed
        watched = self._world.watched()
        self._watched = tuple(watched)
        again.begin(watched)
        yield Page(position=self._position(again))
        yield from self._messages()
        again.meet(self.name, watched, self._roots, self._world.clock())
        roots = list(self._roots)
        for documents, skipped in again.pages(self.name, roots, self._bucket, self._world.clock):
            yield Page(documents=documents, skipped=skipped, position=self._position(again))
        yield Page(skipped=again.told, position=self._position(again, self._world.clock()))

    def _position(self, again: Again, ended: datetime | None = None) -> str:
        return json.dumps({"roots": list(self._roots), "done": "".join(self._done), "again": again.kept(ended)})

    def _messages(self) -> Iterator[Page]:
        with failures(f"the queue {self._queue} cannot be read", SourceFailure):
            client: SQSClient = self._world.clients("sqs", self._region, self._profile)
            self._url = client.get_queue_url(QueueName=self._queue, QueueOwnerAWSAccountId=self._account)["QueueUrl"]
            met: set[str] = set()
            with ThreadPoolExecutor(2 * _AT_ONCE) as callers:
                asked = [callers.submit(self._receive, client)]
                while True:
                    messages = [message for each in asked for message in each.result()]
                    ids = {each.get("MessageId", "") for each in messages}
                    if ids <= met:  # nothing, or what could not be read a moment ago
                        return
                    met |= ids
                    # A call takes ten messages and some milliseconds: a queue that has more is asked several times,
                    # while what came is read.
                    long = 2 * len(messages) >= _BATCH * len(asked)
                    asked = [callers.submit(self._receive, client) for _ in range(_AT_ONCE if long else 0)]
                    yield self._page(client, messages, callers)
                    asked = asked or [callers.submit(self._receive, client)]

    def _receive(self, client: SQSClient) -> list[Any]:
        answer = client.receive_message(
            QueueUrl=self._url, MaxNumberOfMessages=_BATCH, WaitTimeSeconds=self._wait,
            VisibilityTimeout=self._invisible,
        )  # fmt: skip
        return list(answer.get("Messages", []))

    def _page(self, client: SQSClient, messages: Sequence[Any], callers: ThreadPoolExecutor) -> Page:
        renew = _Renewal(client, self._url, [each["ReceiptHandle"] for each in messages], self._world.clock)
        documents: list[Document] = []
        rejected: list[Rejected] = []
        skipped: list[Skipped] = []
        gone: list[str] = []
        self._open = {}
        taking: list[tuple[_Message, Future[notices.Taken]]] = []
        for message in messages:
            owed = _Message(message["ReceiptHandle"], message.get("Body", ""))
            self._open[owed.handle] = owed
            told = notices.read(owed.body, f"{self._queue}/{message.get('MessageId', '')}")
            taking += [(owed, self._take(notice, callers)) for notice in told]
        for owed, future in taking:
            renew.when_due()
            match future.result():
                case Document() as document:
                    documents.append(document)
                    owed.wheres.append(document.where)
                case Skipped(outcome=Outcome.GONE, what=where) as left if self._stolen(where):
                    skipped.append(replace(left, outcome=Outcome.FAILED))  # and no second notice can help
                    gone.append(where)
                case Skipped() as left:
                    skipped.append(left)
                    owed.failed = owed.failed or left.outcome is Outcome.FAILED
                case Rejected() as refused:
                    found = compiled(self._watched).mentioned([owed.body])
                    rejected.append(replace(refused, keys=tuple(dict.fromkeys((*found.ids, *found.owners)))))
                    owed.failed = owed.failed or bool(rejected[-1].keys)
        return Page(documents=documents, rejected=rejected, skipped=skipped, gone=gone, receipt=tuple(self._open))

    def _stolen(self, where: str) -> bool:
        """Whether a file that is gone was never read, and no rule can have deleted it."""
        return _tag(where) not in self._done and too_young(where, self._world.clock())

    def _take(self, notice: notices.Notice, callers: ThreadPoolExecutor) -> Future[notices.Taken]:
        """Fetch the file that a notice announces; what it carries itself is there already."""
        if isinstance(notice, TrailObject):
            if len(self._roots) < _ROOTS:
                self._roots[notice.bucket, root_of(notice.key)] = None
            return callers.submit(_got, self._bucket(notice.bucket), notice, self._world)
        there = Future[notices.Taken]()
        there.set_result(notice)
        return there

    def _bucket(self, name: str) -> Bucket:
        if name not in self._buckets:
            self._buckets[name] = Bucket(self._world.clients("s3", self._region, self._profile), name)
        return self._buckets[name]

    def acknowledge(self, page: Page) -> None:
        """Delete the messages of a page that were read in full."""
        for where in (*page.gone, *(each.where for each in page.documents if each.where not in page.unread)):
            if where.startswith("s3://"):
                self._done[_tag(where)] = None
        self._done = dict.fromkeys(list(self._done)[-_REMEMBERED:])
        done = [
            handle
            for handle in page.receipt
            if not self._open[handle].failed and page.unread.isdisjoint(self._open[handle].wheres)
        ]
        if not done:
            return
        with (
            failures(f"messages of the queue {self._queue} cannot be deleted", SourceFailure),
            ThreadPoolExecutor(_AT_ONCE) as pool,
        ):
            client: SQSClient = self._world.clients("sqs", self._region, self._profile)
            list(pool.map(lambda some: self._delete(client, some), _batches(done)))

    def _delete(self, client: SQSClient, handles: Sequence[str]) -> None:
        entries: Any = [{"Id": str(n), "ReceiptHandle": handle} for n, handle in enumerate(handles)]
        client.delete_message_batch(QueueUrl=self._url, Entries=entries)


def _got(bucket: Bucket, found: TrailObject, world: World) -> Document | Skipped:
    """Read a trail file that was announced or listed, once more where it is not there and should be."""
    taken = bucket.get(found)
    if isinstance(taken, Skipped) and taken.outcome is Outcome.GONE and too_young(found.key, world.clock()):
        world.sleep(_MOMENT)
        taken = bucket.get(found)
    return taken


def _batches(handles: Sequence[str]) -> Iterator[Sequence[str]]:
    """Yield so many at a time as one call of SQS takes."""
    for at in range(0, len(handles), _BATCH):
        yield handles[at : at + _BATCH]


class _Renewal:
    """Keeps a batch of messages hidden from other readers while large files are fetched for it."""

    def __init__(self, client: SQSClient, url: str, handles: Sequence[str], clock: Callable[[], datetime]) -> None:
        self._client, self._url, self._handles, self._clock = client, url, handles, clock
        self._since = clock()

    def when_due(self) -> None:
        if (self._clock() - self._since).total_seconds() < _INVISIBLE / 3:
            return
        for some in _batches(self._handles):
            entries: Any = [
                {"Id": str(n), "ReceiptHandle": handle, "VisibilityTimeout": _INVISIBLE}
                for n, handle in enumerate(some)
            ]
            self._client.change_message_visibility_batch(QueueUrl=self._url, Entries=entries)
        self._since = self._clock()


_ROOTS: Final = 50
"""Trails whose files a queue announces and that can be read again."""
_PAGE_OBJECTS: Final = 100
_OVERLAP: Final = 300
"""Names of a folder that are listed again, for files that come late: a day of one account and region."""
_PATIENCE: Final = 10 * _OVERLAP
"""Names behind which a file that cannot be read is given up, and told so no more."""
_LATE: Final = timedelta(days=1)
_LATE_EVERY: Final = timedelta(hours=1)
"""How far back, by their names, and how often files are looked for that were written behind all that is read."""
_MARGIN: Final = timedelta(minutes=15)
_TRIED: Final = timedelta(days=7)
"""Age of a file behind all that is read from which on it is not tried again: what is remembered would only grow."""
_SAVE: Final = 1000
"""Files after which the position is saved in the middle of a long run."""


@dataclass(slots=True)
class _Reach:
    """How far one folder of a bucket is read: every name up to start, and behind it those whose tag is in read."""

    start: str = ""
    read: set[str] = field(default_factory=set)
    late: datetime | None = None
    """When it was last looked for files that came late."""
    behind: set[str] = field(default_factory=set)
    """Tags of names up to start that this poll met: what it reads of them is remembered until the next one."""

    def advance(self, listed: Sequence[str]) -> None:
        """Move start, given every name behind it in order: not beyond what is unread, and keep the overlap."""
        unread = next((n for n, key in enumerate(listed) if _tag(key) not in self.read), len(listed))
        at = max(min(unread, len(listed) - _OVERLAP), len(listed) - _PATIENCE)
        if at > 0:
            self.start = listed[at - 1]
        self.read &= {_tag(key) for key in listed[max(at, 0) :]} | self.behind


class BucketFeed:
    """Trail files in a bucket, listed: `s3://BUCKET/PREFIX?region=R&profile=P`. Its first run reads everything.

    Names of trail files carry their time, so each folder (an account and a region) is listed from its last names on. A
    file that is delivered late sorts before the last: that is why the last 300 names are listed again every time, and
    once an hour those of a whole day, for what was written since the hour before (a replica may be hours behind). Where
    names tell no time all of them are listed every time.
    """

    def __init__(self, url: SplitResult, world: World) -> None:
        if not url.netloc:
            raise UsageFailure(f"{url.geturl()} names no bucket", "as in s3://my-trail-bucket/prefix?region=eu-west-1")
        self.name = url.geturl()
        self._bucket, self._prefix = url.netloc, unquote(url.path).lstrip("/")
        self._region, self._profile = option(url, "region"), option(url, "profile")
        self._world = world

    def pages(self, since: Watermark | None) -> Iterator[Page]:
        """Yield pages of files, folder by folder, each in order of time; then those read again for new keys."""
        with failures(f"the bucket {self._bucket} cannot be listed", SourceFailure):
            bucket = Bucket(self._world.clients("s3", self._region, self._profile), self._bucket)
            kept = json.loads(since.position) if since is not None and since.position else {}
            reached, again = _reached(kept.get("folders", {})), Again.of(kept.get("again"))
            watched = self._world.watched()
            again.begin(watched)
            yield Page(position=_position(reached, again))
            unsaved = 0
            for folder in bucket.folders(self._prefix):
                reach = reached.setdefault(folder, _Reach())
                listed: list[str] = []
                for page in self._new(bucket, folder, reach, listed):
                    yield page
                    # What could not be read is not remembered, and tried again as long as it is among the last names.
                    tags = {_tag(document.where.partition(f"{self._bucket}/")[2]) for document in page.documents}
                    reach.read |= tags - {_tag(each.partition(f"{self._bucket}/")[2]) for each in page.unread}
                    unsaved += len(tags)
                reach.advance(listed)
                if unsaved >= _SAVE:
                    yield Page(position=_position(reached, again))
                    unsaved = 0
            roots = [(self._bucket, self._prefix)]
            again.meet(self.name, watched, roots, self._world.clock())
            for documents, skipped in again.pages(self.name, roots, lambda _: bucket, self._world.clock):
                yield Page(documents=documents, skipped=skipped, position=_position(reached, again))
            yield Page(skipped=again.told, position=_position(reached, again, self._world.clock()))

    def _new(self, bucket: Bucket, folder: str, reach: _Reach, listed: list[str]) -> Iterator[Page]:
        """Yield pages of what is new in a folder; listed gets every name behind the start."""
        documents: list[Document] = []
        skipped: list[Skipped] = []
        gone: list[str] = []
        now = self._world.clock()
        begin, since = self._late(folder, reach, now)
        for key, modified in bucket.keys(folder, begin):
            if key > reach.start:
                listed.append(key)
            elif modified < since:
                continue
            else:
                reach.behind.add(_tag(key))
            if _tag(key) in reach.read:
                continue
            taken = self._taken(bucket, key)
            if isinstance(taken, Document):
                documents.append(taken)
            elif taken.outcome is Outcome.GONE and too_young(key, self._world.clock()):
                reach.read.add(_tag(key))  # told once
                skipped.append(replace(taken, outcome=Outcome.FAILED))
                gone.append(taken.what)
            else:
                skipped.append(taken)
                if taken.outcome is not Outcome.FAILED:
                    reach.read.add(_tag(key))
                elif key <= reach.start and now - modified < _TRIED:
                    reach.late = since + _MARGIN  # the next poll looks for it again
            if len(documents) >= _PAGE_OBJECTS or sum(len(each.data) for each in documents) >= PAGE_BYTES:
                yield Page(documents=documents, skipped=skipped, gone=gone)
                documents, skipped, gone = [], [], []
        if documents or skipped:
            yield Page(documents=documents, skipped=skipped, gone=gone)

    def _late(self, folder: str, reach: _Reach, now: datetime) -> tuple[str, datetime]:
        """Return behind which name a folder is listed, and since when a file that is late has been written."""
        reach.behind = set()
        back = name_at(folder, now - _LATE)
        if reach.late is None or now < reach.late:  # nothing was read before, or by a clock that was ahead
            reach.late = now
        if back and now - reach.late < _LATE_EVERY:
            return reach.start, now
        since, reach.late = reach.late - _MARGIN, now
        return min(back, reach.start), since

    def _taken(self, bucket: Bucket, key: str) -> Document | Skipped:
        found = TrailObject(self._bucket, key)
        if not notices.holds_records(key):
            return Skipped(outcome=Outcome.LEFT_OUT, what=found.where, why="no trail file")
        return _got(bucket, found, self._world)

    def acknowledge(self, page: Page) -> None:
        """Nothing: a bucket keeps its files."""


def _tag(key: str) -> str:
    return base64.b64encode(hashed(key)[:6]).decode()


def _tags(text: str) -> list[str]:
    """Take apart the tags that stand together in a position."""
    return [text[at : at + 8] for at in range(0, len(text), 8)]


def _position(reached: dict[str, _Reach], again: Again, ended: datetime | None = None) -> str:
    folders = {
        folder: [each.start, "".join(sorted(each.read)), "" if each.late is None else rfc3339(each.late)]
        for folder, each in reached.items()
    }
    return json.dumps({"folders": folders, "again": again.kept(ended)})


def _reached(folders: dict[str, Any]) -> dict[str, _Reach]:
    return {  # an older position has no late
        folder: _Reach(start, set(_tags(tags)), parse_time(late[0]) if late else None)
        for folder, (start, tags, *late) in folders.items()
    }


def option(url: SplitResult, name: str) -> str | None:
    """Return one option of a feed's URL, as `profile` in `?profile=P`."""
    values = parse_qs(url.query).get(name)
    return values[0] if values else None
