"""The feeds that live in AWS: a queue that announces trail files or carries records, and a bucket that is listed."""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import SplitResult, parse_qs, unquote

from firedamp.canaries import notices
from firedamp.canaries.feeds import LARGEST, Page, World, hashed
from firedamp.canaries.notices import TrailObject
from firedamp.canaries.trailfiles import Document
from firedamp.storage.errors import SourceFailure, UsageFailure
from firedamp.storage.records import Outcome, Rejected, Skipped, Watermark

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client
    from types_boto3_sqs import SQSClient

_INVISIBLE: Final = 300
"""Seconds for which a message that was received is hidden from other readers; renewed while it is worked on."""

_MISSING: Final = frozenset({"NoSuchKey", "404", "NotFound"})


@contextlib.contextmanager
def failures(what: str) -> Iterator[None]:
    """Turn what botocore raises into a SourceFailure that says what was tried, and AWS's own reason."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        told = error.response.get("Error", {})
        raise SourceFailure(f"{what}: {told.get('Code', 'no code')}: {told.get('Message', 'no message')}") from error
    except BotoCoreError as error:
        raise SourceFailure(f"{what}: {error}", "firedamp doctor says what is set up") from error


class Bucket:
    """Objects of S3, read whole within a limit."""

    def __init__(self, client: S3Client, largest: int = LARGEST) -> None:
        self._client, self._largest = client, largest

    def get(self, found: TrailObject) -> Document | Skipped:
        """Read one object: gone when it is not there any more, failed when it cannot be read."""
        from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

        try:
            answer = self._client.get_object(Bucket=found.bucket, Key=found.key)
            if answer["ContentLength"] > self._largest:
                return Skipped(outcome=Outcome.FAILED, what=found.where, why=f"more than {self._largest} bytes")
            return Document(found.where, answer["Body"].read())
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "")
            gone = code in _MISSING
            why = "deleted before it was read" if gone else f"S3 does not give it: {code}"
            return Skipped(outcome=Outcome.GONE if gone else Outcome.FAILED, what=found.where, why=why)
        except (BotoCoreError, HTTPClientError) as error:
            return Skipped(outcome=Outcome.FAILED, what=found.where, why=f"S3 cannot be reached: {error}")


@dataclass(slots=True)
class _Message:
    """One message of a queue and what is still owed for it: it is deleted when every part of it was read."""

    handle: str
    wheres: list[str] = field(default_factory=list)
    failed: bool = False


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

    def pages(self, since: Watermark | None) -> Iterator[Page]:  # noqa: ARG002 - a queue knows itself what is new
        """Yield a page for each batch of messages until the queue is empty."""
        with failures(f"the queue {self._queue} cannot be read"):
            client: SQSClient = self._world.clients("sqs", self._region, self._profile)
            self._url = client.get_queue_url(QueueName=self._queue, QueueOwnerAWSAccountId=self._account)["QueueUrl"]
            met: set[str] = set()
            while True:
                answer = client.receive_message(
                    QueueUrl=self._url, MaxNumberOfMessages=10, WaitTimeSeconds=self._wait,
                    VisibilityTimeout=self._invisible,
                )  # fmt: skip
                messages = answer.get("Messages", [])
                ids = {each.get("MessageId", "") for each in messages}
                if ids <= met:  # nothing, or what could not be read a moment ago
                    return
                met |= ids
                yield self._page(client, messages)

    def _page(self, client: SQSClient, messages: Sequence[Any]) -> Page:
        renew = _Renewal(client, self._url, [each["ReceiptHandle"] for each in messages], self._world.clock)
        documents: list[Document] = []
        rejected: list[Rejected] = []
        skipped: list[Skipped] = []
        self._open = {}
        for message in messages:
            owed = _Message(message["ReceiptHandle"])
            self._open[owed.handle] = owed
            for notice in notices.read(message.get("Body", ""), f"{self._queue}/{message.get('MessageId', '')}"):
                taken: notices.Notice = notice
                if isinstance(notice, TrailObject):
                    renew.when_due()
                    taken = self._bucket(notice).get(notice)
                match taken:
                    case Document():
                        documents.append(taken)
                        owed.wheres.append(taken.where)
                    case Skipped():
                        skipped.append(taken)
                        owed.failed = owed.failed or taken.outcome is Outcome.FAILED
                    case Rejected():
                        rejected.append(taken)
                    case TrailObject():
                        raise AssertionError("it was read just now")
        return Page(documents=documents, rejected=rejected, skipped=skipped, receipt=tuple(self._open))

    def _bucket(self, found: TrailObject) -> Bucket:
        if found.bucket not in self._buckets:
            self._buckets[found.bucket] = Bucket(self._world.clients("s3", self._region, self._profile))
        return self._buckets[found.bucket]

    def acknowledge(self, page: Page) -> None:
        """Delete the messages of a page that were read in full."""
        done = [
            handle
            for handle in page.receipt
            if not self._open[handle].failed and page.unread.isdisjoint(self._open[handle].wheres)
        ]
        if not done:
            return
        with failures(f"messages of the queue {self._queue} cannot be deleted"):
            client: SQSClient = self._world.clients("sqs", self._region, self._profile)
            entries: Any = [{"Id": str(n), "ReceiptHandle": handle} for n, handle in enumerate(done)]
            client.delete_message_batch(QueueUrl=self._url, Entries=entries)


class _Renewal:
    """Keeps a batch of messages hidden from other readers while large files are fetched for it."""

    def __init__(self, client: SQSClient, url: str, handles: Sequence[str], clock: Callable[[], datetime]) -> None:
        self._client, self._url, self._handles, self._clock = client, url, handles, clock
        self._since = clock()

    def when_due(self) -> None:
        if (self._clock() - self._since).total_seconds() < _INVISIBLE / 3:
            return
        entries: Any = [
            {"Id": str(n), "ReceiptHandle": handle, "VisibilityTimeout": _INVISIBLE}
            for n, handle in enumerate(self._handles)
        ]
        self._client.change_message_visibility_batch(QueueUrl=self._url, Entries=entries)
        self._since = self._clock()


_PAGE_BYTES: Final = 1 << 25
_PAGE_OBJECTS: Final = 100
_OVERLAP: Final = 300
"""Names of a folder that are listed again, for files that come late: a day of one account and region."""
_PATIENCE: Final = 10 * _OVERLAP
"""Names behind which a file that cannot be read is given up, and told so no more."""
_SAVE: Final = 1000
"""Files after which the position is saved in the middle of a long run."""


@dataclass(slots=True)
class _Reach:
    """How far one folder of a bucket is read: every name up to start, and behind it those whose tag is in read."""

    start: str = ""
    read: set[str] = field(default_factory=set)

    def advance(self, listed: Sequence[str]) -> None:
        """Move start, given every name behind it in order: not beyond what is unread, and keep the overlap."""
        unread = next((n for n, key in enumerate(listed) if _tag(key) not in self.read), len(listed))
        at = max(min(unread, len(listed) - _OVERLAP), len(listed) - _PATIENCE)
        if at > 0:
            self.start = listed[at - 1]
        self.read &= {_tag(key) for key in listed[max(at, 0) :]}


class BucketFeed:
    """Trail files in a bucket, listed: `s3://BUCKET/PREFIX?region=R&profile=P`. Its first run reads everything.

    Names of trail files carry their time, so each folder (an account and a region) is listed from its last names on. A
    file that is delivered late sorts before the last: that is why the last 300 names are listed again every time.
    """

    def __init__(self, url: SplitResult, world: World) -> None:
        if not url.netloc:
            raise UsageFailure(f"{url.geturl()} names no bucket", "as in s3://my-trail-bucket/prefix?region=eu-west-1")
        self.name = url.geturl()
        self._bucket, self._prefix = url.netloc, unquote(url.path).lstrip("/")
        self._region, self._profile = option(url, "region"), option(url, "profile")
        self._world = world

    def pages(self, since: Watermark | None) -> Iterator[Page]:
        """Yield pages of files, folder by folder, each in order of time."""
        with failures(f"the bucket {self._bucket} cannot be listed"):
            client: S3Client = self._world.clients("s3", self._region, self._profile)
            reached = _reached(since)
            unsaved = 0
            for folder in self._folders(client):
                reach = reached.setdefault(folder, _Reach())
                listed: list[str] = []
                for page in self._new(client, folder, reach, listed):
                    yield page
                    # What could not be read is not remembered, and tried again as long as it is among the last names.
                    tags = {_tag(document.where.partition(f"{self._bucket}/")[2]) for document in page.documents}
                    reach.read |= tags - {_tag(each.partition(f"{self._bucket}/")[2]) for each in page.unread}
                    unsaved += len(tags)
                reach.advance(listed)
                if unsaved >= _SAVE:
                    yield Page(position=_position(reached))
                    unsaved = 0
            yield Page(position=_position(reached))

    def _new(self, client: S3Client, folder: str, reach: _Reach, listed: list[str]) -> Iterator[Page]:
        """Yield pages of what is new in a folder; listed gets every name behind the start."""
        bucket = Bucket(client)
        documents: list[Document] = []
        skipped: list[Skipped] = []
        for key in self._keys(client, folder, reach.start):
            listed.append(key)
            if _tag(key) in reach.read:
                continue
            taken = self._taken(bucket, key)
            if isinstance(taken, Document):
                documents.append(taken)
            else:
                skipped.append(taken)
                if taken.outcome is not Outcome.FAILED:
                    reach.read.add(_tag(key))
            if len(documents) >= _PAGE_OBJECTS or sum(len(each.data) for each in documents) >= _PAGE_BYTES:
                yield Page(documents=documents, skipped=skipped)
                documents, skipped = [], []
        if documents or skipped:
            yield Page(documents=documents, skipped=skipped)

    def _taken(self, bucket: Bucket, key: str) -> Document | Skipped:
        found = TrailObject(self._bucket, key)
        if not notices.holds_records(key):
            return Skipped(outcome=Outcome.LEFT_OUT, what=found.where, why="no trail file")
        return bucket.get(found)

    def _keys(self, client: S3Client, folder: str, start: str) -> Iterator[str]:
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=folder, StartAfter=start)
        for answer in pages:
            yield from (each["Key"] for each in answer.get("Contents", []) if not each["Key"].endswith("/"))

    def _folders(self, client: S3Client) -> list[str]:
        """Return the folders of records: `…AWSLogs/[o-ORG/]ACCOUNT/CloudTrail/REGION/`, or the prefix as it is."""
        prefix = self._prefix if not self._prefix or self._prefix.endswith("/") else f"{self._prefix}/"
        logs = prefix if "AWSLogs/" in prefix else f"{prefix}AWSLogs/"
        below = [] if "/CloudTrail/" in logs else self._below(client, logs)
        accounts = [
            account
            for each in below
            for account in (self._below(client, each) if _last(each).startswith("o-") else [each])
        ]
        return [region for each in accounts for region in self._below(client, f"{each}CloudTrail/")] or [self._prefix]

    def _below(self, client: S3Client, prefix: str) -> list[str]:
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix, Delimiter="/")
        return [each["Prefix"] for page in pages for each in page.get("CommonPrefixes", [])]

    def acknowledge(self, page: Page) -> None:
        """Nothing: a bucket keeps its files."""


def _tag(key: str) -> str:
    return base64.b64encode(hashed(key)[:6]).decode()


def _last(prefix: str) -> str:
    return prefix.rstrip("/").rpartition("/")[2]


def _position(reached: dict[str, _Reach]) -> str:
    return json.dumps({folder: [each.start, "".join(sorted(each.read))] for folder, each in reached.items()})


def _reached(since: Watermark | None) -> dict[str, _Reach]:
    told = json.loads(since.position) if since is not None and since.position else {}
    return {
        folder: _Reach(start, {tags[at : at + 8] for at in range(0, len(tags), 8)})
        for folder, (start, tags) in told.items()
    }


def option(url: SplitResult, name: str) -> str | None:
    """Return one option of a feed's URL, as `profile` in `?profile=P`."""
    values = parse_qs(url.query).get(name)
    return values[0] if values else None
