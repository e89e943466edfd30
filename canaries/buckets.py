"""Trail files in buckets of S3: found by listing, read whole within a limit."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from firedamp.canaries.feeds import LARGEST
from firedamp.canaries.notices import TrailObject
from firedamp.canaries.trailfiles import Document
from firedamp.storage.errors import aws_code
from firedamp.storage.records import Outcome, Skipped

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

TOO_LARGE: Final = "it is larger than what is read"

_MISSING: Final = frozenset({"NoSuchKey", "404", "NotFound"})
_EXPIRING: Final = timedelta(days=1)
"""Age below which no lifecycle rule deletes an object (S3 guide, "Lifecycle configuration elements")."""
_MADE: Final = re.compile(r"_(\d{8}T\d{4})Z_[^/]*\Z", re.ASCII)
_LOGS: Final = re.compile(r"(?:[^/]+/)*?AWSLogs/(?:o-[^/]+/)?")
_FOLDER: Final = re.compile(
    r"(?:[^/]+/)*AWSLogs/(?:o-[^/]+/)?([^/]+)/CloudTrail/([^/]+(?=/)|[a-z]+(?:-[a-z]+)+-\d)/?\Z"
)
"""A region's folder; its slash may be left out, but of a prefix that names no whole region, which may be of many."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket with trail files. What cannot be listed raises botocore's own errors."""

    client: S3Client
    name: str
    largest: int = LARGEST

    def get(self, found: TrailObject) -> Document | Skipped:
        """Read one object: gone when it is not there any more, failed when it cannot be read."""
        from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

        try:
            answer = self.client.get_object(Bucket=found.bucket, Key=found.key)
            if answer["ContentLength"] > self.largest:
                return Skipped(outcome=Outcome.FAILED, what=found.where, why=TOO_LARGE)
            return Document(found.where, answer["Body"].read())
        except ClientError as error:
            code = aws_code(error)
            gone = code in _MISSING
            why = "deleted before it was read" if gone else f"S3 does not give it: {code}"
            return Skipped(outcome=Outcome.GONE if gone else Outcome.FAILED, what=found.where, why=why)
        except (BotoCoreError, HTTPClientError) as error:
            return Skipped(outcome=Outcome.FAILED, what=found.where, why=f"S3 cannot be reached: {error}")

    def keys(self, folder: str, start: str) -> Iterator[tuple[str, datetime]]:
        """Yield (key, last modified) of every object below a folder behind start, in order of key."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=folder, StartAfter=start)
        for answer in pages:
            for each in answer.get("Contents", []):
                if not each["Key"].endswith("/"):
                    yield each["Key"], each["LastModified"]

    def folders(self, prefix: str) -> list[str]:
        """Return the folders of records: `…AWSLogs/[o-ORG/]ACCOUNT/CloudTrail/REGION/`, or the prefix as it is."""
        whole = prefix if not prefix or prefix.endswith("/") else f"{prefix}/"
        logs = whole if "AWSLogs/" in whole else f"{whole}AWSLogs/"
        within = "/CloudTrail/" in logs.removesuffix("/CloudTrail/")  # a region, or a day of it
        return [prefix] if within else self._regions(logs) or [prefix]

    def _regions(self, folder: str) -> list[str]:
        """Return the folders of regions below that of trails, an organisation, an account or its trails."""
        name = _last(folder)
        if name == "CloudTrail":
            return self._below(folder)
        if name == "AWSLogs" or name.startswith("o-"):
            return [region for each in self._below(folder) for region in self._regions(each)]
        return self._below(f"{folder}CloudTrail/")

    def _below(self, prefix: str) -> list[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=prefix, Delimiter="/")
        return [each["Prefix"] for page in pages for each in page.get("CommonPrefixes", [])]


def name_at(folder: str, time: datetime) -> str:
    """Return what the name of a trail file begins with that was made at a time; nothing where names do not tell.

    `…/CloudTrail/REGION/2026/11/20/ACCOUNT_CloudTrail_REGION_20261120T1005Z_….json.gz` (CloudTrail guide, "log file
    names").
    """
    found = _FOLDER.match(folder)
    if found is None:
        return ""
    account, region = found.groups()
    return f"{folder.removesuffix('/')}/{time:%Y/%m/%d}/{account}_CloudTrail_{region}_{time:%Y%m%dT%H%M}"


def too_young(key: str, now: datetime) -> bool:
    """Whether a trail file that is gone was deleted by somebody: by its name it is too young for a lifecycle rule.

    Where the name does not tell its time, it is taken for young.
    """
    found = _MADE.search(key)
    try:
        made = None if found is None else datetime.strptime(found[1], "%Y%m%dT%H%M").replace(tzinfo=UTC)
    except ValueError:
        made = None
    return made is None or now - made < _EXPIRING


def root_of(key: str) -> str:
    """Return the folder that holds all that a trail file's trail wrote, or the file's own folder."""
    found = _LOGS.match(key)
    return key.rpartition("/")[0] + "/" if found is None else found[0]


def _last(prefix: str) -> str:
    return prefix.rstrip("/").rpartition("/")[2]
