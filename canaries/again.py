"""Trail files that were read before a key was watched: they are read again for it, a minute's worth a poll.

A key that was made elsewhere, or whose owner was learned, may stand in files that were read long ago; so may one that
was minted while files were being read. What cannot be read again is said. New files always come first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final

from firedamp.canaries import notices
from firedamp.canaries.buckets import TOO_LARGE, Bucket, name_at
from firedamp.canaries.notices import TrailObject
from firedamp.canaries.trailfiles import Document
from firedamp.canaries.watchlist import tag
from firedamp.storage.errors import aws_code
from firedamp.storage.records import Canary, Outcome, Skipped, WatchedKey
from firedamp.storage.times import parse_time, rfc3339

BACK: Final = timedelta(days=90)
"""How far back files are read again, as far as CloudTrail's own history goes. `firedamp usage` reads everything."""
_MARGIN: Final = timedelta(minutes=15)
_SLICE: Final = timedelta(minutes=1)
_FILES: Final = 50
_NAMED: Final = 3
_REFUSED: Final = frozenset({"AccessDenied", "AllAccessDisabled", "NoSuchBucket"})
_HOPELESS: Final = frozenset(
    {TOO_LARGE, *(f"S3 does not give it: {code}" for code in ("AccessDenied", "InvalidObjectState"))}
)
"""Why a file that is read again is given up: it may have been moved to an archive since (S3 API, GetObject)."""

Root = tuple[str, str]
"""A bucket, and the folder in it below which all trail files stand."""


@dataclass(slots=True)
class Again:
    """What a feed knows of its keys: those it was read for, until when, and what is still to be read again."""

    keys: frozenset[str] | None = None
    """The tags of the keys, None before the first poll."""
    ended: datetime | None = None
    """When the last poll did, None where it was cut off."""
    since: datetime | None = None
    """From when on files are read again, None: there is nothing to read again."""
    until: datetime | None = None
    at: tuple[str, str, str] = ("", "", "")
    """Bucket, folder and key up to which that is done."""
    told: list[Skipped] = field(default_factory=list)

    @classmethod
    def of(cls, kept: Any) -> Again:
        """Read what `kept` wrote."""
        if not isinstance(kept, dict):
            return cls()
        tags = kept["keys"]
        bucket, folder, key = kept["at"]
        return cls(
            keys=frozenset(tags[n : n + 8] for n in range(0, len(tags), 8)), ended=parse_time(kept["ended"]),
            since=parse_time(kept["since"]), until=parse_time(kept["until"]), at=(bucket, folder, key),
        )  # fmt: skip

    def kept(self, ended: datetime | None = None) -> Any:
        """Return what is remembered until the next poll. ended: when this one did, None as long as it goes on."""
        ends, since, until = (("" if each is None else rfc3339(each)) for each in (ended, self.since, self.until))
        keys = "".join(sorted(self.keys or ()))
        return {"keys": keys, "ended": ends, "since": since, "until": until, "at": list(self.at)}

    def begin(self, watched: Sequence[WatchedKey]) -> None:
        """Take the keys of the first poll as known: there is nothing that was read before."""
        if self.keys is None:
            self.keys = frozenset(tag(key) for key in watched)

    def meet(self, feed: str, watched: Sequence[WatchedKey], roots: Iterable[Root], now: datetime) -> None:
        """Find the keys that are new, and note from when on files are to be read again for them.

        watched are the keys that were watched when this poll began.
        """
        known = self.keys or frozenset()
        self.keys = frozenset(tag(key) for key in watched)
        new = [key for key in watched if tag(key) not in known and self._missed(key)]
        if not new:
            return
        names = ", ".join(key.key_id for key in new[:_NAMED])
        names += f" and {len(new) - _NAMED} more" if len(new) > _NAMED else ""
        since = min(_begins(key, now) for key in new)
        if not list(roots):
            why = f"of {names}, new: what came before {rfc3339(now)} (firedamp usage KEYID --feed lookup:// reads it)"
            self._tell(feed, why)
            return
        self._tell(feed, f"of {names}, new: what is older than {rfc3339(since)} (firedamp usage KEYID reads it)")
        self.since = since if self.since is None else min(since, self.since)
        self.until, self.at = now, ("", "", "")

    def pages(
        self, feed: str, roots: Sequence[Root], bucket: Callable[[str], Bucket], clock: Callable[[], datetime]
    ) -> Iterator[tuple[list[Document], list[Skipped]]]:
        """Yield (documents, skipped) of the files to be read again, for about a minute; `kept` is then beyond them."""
        if self.since is None or self.until is None:
            return
        from botocore.exceptions import BotoCoreError, ClientError

        end = clock() + _SLICE
        try:
            for documents, skipped in self._all(roots, bucket):
                yield documents, skipped
                if any(each.outcome is Outcome.FAILED for each in skipped) or clock() >= end:
                    folder = self.at[1].rstrip("\0")
                    self._tell(feed, f"of new keys: files from {folder} on; the next poll reads on there")
                    return
        except (BotoCoreError, ClientError) as error:
            self._tell(feed, f"of new keys: files before {rfc3339(self.until)}, they cannot be listed: {error}")
            if aws_code(error) not in _REFUSED:
                return  # the next poll tries again
        self.since = self.until = None
        self.at = ("", "", "")

    def _all(
        self, roots: Iterable[Root], bucket: Callable[[str], Bucket]
    ) -> Iterator[tuple[list[Document], list[Skipped]]]:
        for name, root in sorted(set(roots)):
            for folder in sorted(bucket(name).folders(root)):
                if (name, folder) >= self.at[:2]:
                    yield from self._folder(bucket(name), folder)
                    self.at = (name, f"{folder}\0", "")  # behind this folder, before the next
                    yield [], []  # a moment to see how late it is: there may be thousands of folders

    def _folder(self, bucket: Bucket, folder: str) -> Iterator[tuple[list[Document], list[Skipped]]]:
        assert self.since is not None  # noqa: S101 - asked by pages
        assert self.until is not None  # noqa: S101
        start = self.at[2] if self.at[:2] == (bucket.name, folder) else name_at(folder, self.since - _MARGIN)
        self.at = (bucket.name, folder, start)
        last = name_at(folder, self.until + _MARGIN)
        documents: list[Document] = []
        skipped: list[Skipped] = []
        for key, modified in bucket.keys(folder, start):
            if last and key > last:
                break
            if not notices.holds_records(key) or (not last and modified < self.since - _MARGIN):
                continue
            taken = bucket.get(TrailObject(bucket.name, key))
            if isinstance(taken, Document):
                documents.append(taken)
            elif taken.outcome is Outcome.FAILED and taken.why not in _HOPELESS:
                skipped.append(taken)
                break  # the next poll tries it again
            else:
                skipped.append(replace(taken, outcome=Outcome.LEFT_OUT, why=f"for new keys: {taken.why}"))
            self.at = (bucket.name, folder, key)
            if len(documents) + len(skipped) >= _FILES:
                yield documents, skipped
                documents, skipped = [], []
        if documents or skipped:
            yield documents, skipped

    def _missed(self, key: WatchedKey) -> bool:
        """Whether files that were read already may hold a key: not one that we made after they were read."""
        return not ours(key) or self.ended is None or key.since <= self.ended

    def _tell(self, feed: str, why: str) -> None:
        self.told.append(Skipped(outcome=Outcome.LEFT_OUT, what=feed, why=why))


def ours(key: WatchedKey) -> bool:
    """Whether we made a key ourselves: then nothing older than it can hold it."""
    return isinstance(key, Canary) and not key.adopted


def _begins(key: WatchedKey, now: datetime) -> datetime:
    return key.since if ours(key) else now - BACK
