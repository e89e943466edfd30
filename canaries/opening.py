"""Feed URLs -> feeds. A new feed is a class with `name`, `pages` and `acknowledge`, and one line here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final
from urllib.parse import SplitResult, urlsplit

from firedamp.canaries.awsfeeds import BucketFeed, QueueFeed
from firedamp.canaries.feeds import Feed, FolderFeed, World
from firedamp.canaries.lookup import LookupFeed
from firedamp.storage.errors import UsageFailure

FEEDS: Final[dict[str, Callable[[SplitResult, World], Feed]]] = {
    "file": FolderFeed,
    "s3": BucketFeed,
    "sqs": QueueFeed,
    "lookup": LookupFeed,
}


def open_feed(url: str, world: World) -> Feed:
    """Make the feed that a URL names. Raises UsageFailure for a URL of no feed."""
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise UsageFailure(f"{url} is no URL: {error}") from error
    if parts.scheme not in FEEDS:
        raise UsageFailure(f"{url} names no feed", "file:///FOLDER, s3://BUCKET, sqs://REGION/ACCOUNT/QUEUE, lookup://")
    return FEEDS[parts.scheme](parts, world)
