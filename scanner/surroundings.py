"""What stands beside a credential and says more of it: expiry, region, endpoint, profile. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

_MARKUP: Final = re.compile(r"</[^<>]{0,80}>|[<>]")
_EXPIRY: Final = re.compile(
    r"(?:expir(?:ation|es|y)|x_principal_expires)(?:_?(?:at|date|time|on))?\W{1,40}?"
    r"(?:(?P<iso>\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?)\s?(?P<zone>Z|UTC|GMT|[+-]\d\d:?\d\d)?"
    r"|(?P<epoch>\d{13}|\d{10})(?!\d)"
    r"|(?P<mail>[A-Z][a-z]{2},? \d{1,2} [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d (?:GMT|UTC|[+-]\d{4})))",
    re.IGNORECASE,
)
_AREA: Final = (
    r"(?<![A-Za-z0-9-])(?:us-gov|us-isob?|us-isof|eu-isoe|eusc-de|us|eu|ap|sa|ca|me|af|il|mx|cn)"
    r"-(?:north|south|east|west|central|northeast|northwest|southeast|southwest)-\d(?![A-Za-z0-9-])"
)
_REGION: Final = re.compile(_AREA)
_NAMED_REGION: Final = re.compile(rf"region[^\n]{{0,60}}?({_AREA})", re.IGNORECASE)
_ARN: Final = re.compile(r"arn:aws[a-z-]{0,16}:[a-z0-9-]{1,40}:[a-z0-9-]{0,24}:\d{0,12}:[\w/.*:@+=,-]{1,200}")
_ENDPOINT: Final = re.compile(
    r"(?<![\w.-])(?P<label>[\w.-]{0,40}(?:endpoint|host_?base|host_?bucket|service_?url|s3_?url|s3_?host|minio_?url"
    r"|minio_?host|storage_?url)[\w.-]{0,24})"
    r"[^\w\n/]{0,20}\n?[^\w\n/]{0,40}(?:value\W{1,8})?"
    r"(?P<url>(?:https?:(?:\\{0,4}/){2})?(?:%\(bucket\)s\.|[^/\s\"'@<>]{1,80}@)?"
    r"(?P<host>(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,62})\.){1,8}[A-Za-z0-9-]{2,24}|localhost|[a-z][a-z0-9-]{1,40}(?=:\d))(?::\d{1,5})?)",
    re.IGNORECASE,
)
_ENDPOINT_LABELS: Final = tuple(
    "endpoint hostbase host_base hostbucket host_bucket serviceurl service_url s3url s3_url s3host s3_host miniourl"
    " minio_url miniohost minio_host storageurl storage_url".split()
)
# `endpoint` alone names the key's own, and so does one with a word of storage; `SENTRY_ENDPOINT` does not.
_LABEL_WORD: Final = re.compile(r"[sS]3[aA]?|[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_STORE_WORDS: Final = frozenset("s3 s3a aws minio storage object bucket store spaces wasabi".split())
_ENDPOINT_WORDS: Final = frozenset(
    "endpoint url uri host base hostbase hostname address service custom override".split()
)
# A plain `url` or `host` names where a key belongs only when the host is a known store that speaks S3.
_STORE_DOMAINS: Final = tuple(
    "wasabisys.com cloudflarestorage.com backblazeb2.com digitaloceanspaces.com linodeobjects.com scw.cloud"
    " storage.googleapis.com aliyuncs.com myqcloud.com ovh.net vultrobjects.com dream.io idrivee2- min.io"
    " storjshare.io exo.io contabostorage.com upcloudobjects.com".split()
)
_STORES: Final = re.compile(
    r"(?P<url>(?:https?:(?:\\{0,4}/){2})?(?P<host>(?:[a-z0-9-]{1,63}\.){0,6}"
    r"(?:wasabisys\.com|r2\.cloudflarestorage\.com|backblazeb2\.com|digitaloceanspaces\.com|linodeobjects\.com"
    r"|scw\.cloud|storage\.googleapis\.com|aliyuncs\.com|myqcloud\.com|ovh\.net|vultrobjects\.com|dream\.io"
    r"|idrivee2-\d+\.com|min\.io|storjshare\.io|exo\.io|contabostorage\.com|upcloudobjects\.com))(?::\d{1,5})?)",
    re.IGNORECASE,
)
_LOOPBACK: Final = re.compile(
    r"(?:url|host|server)\W{1,12}(?P<url>https?:(?:\\{0,4}/){2}(?P<host>localhost|127\.0\.0\.1|minio)(?::\d{1,5})?)",
    re.IGNORECASE,
)
_AWS_HOST: Final = re.compile(
    r"(?:^|\.)(?:amazonaws\.com(?:\.cn)?|api\.aws|aws\.dev|c2s\.ic\.gov|sc2s\.sgov\.gov)$", re.IGNORECASE
)
_LONG_TERM: Final = re.compile(r"[ \t]*\[[^\]\n]{1,120}-long-term\]")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a place says of the credential in it. hint: a non-AWS endpoint, else region, ARN or AWS endpoint."""

    expires: datetime | None = None
    hint: str = ""
    notes: tuple[str, ...] = ()


def around(text: str, where: tuple[int, int, int, int], section: int | None) -> Surroundings:
    """Read what stands around a credential; where is (low, start, end, high): the place and, in it, the credential.

    section is the offset of its section's header line.

    What follows the credential counts before what precedes it: in a flat file the next one's lines come after it.
    """
    low, start, end, high = where
    place = _MARKUP.sub(" ", text[end:high]) + "\n\n" + _MARKUP.sub(" ", text[low:start]) + "\n\n" + text[start:end]
    lowered = place.lower()
    notes: list[str] = []
    hint = ""
    endpoint = _endpoint(place, lowered)
    if endpoint is not None and _AWS_HOST.search(endpoint["host"]) is None:
        notes.append(f"non-AWS endpoint: {endpoint['host']}")
        hint = endpoint["url"].replace("\\", "")
    elif (region := _region(place, lowered)) is not None:
        hint = region
    elif endpoint is not None:
        hint = endpoint["host"]
    if section is not None and _LONG_TERM.match(text, section) is not None:
        notes.append("long-term profile of aws-mfa")
    return Surroundings(_expiry(place) if "expir" in lowered else None, hint, tuple(notes))


def _endpoint(place: str, lowered: str) -> re.Match[str] | None:
    """Find where the credential is used; the expressions are slow, and most places hold none of their words."""
    if any(word in lowered for word in _ENDPOINT_LABELS):
        for found in _ENDPOINT.finditer(place):
            words = {word.lower() for word in _LABEL_WORD.findall(found["label"])}
            if words & _STORE_WORDS or words <= _ENDPOINT_WORDS:
                return found
    store = _STORES.search(place) if any(word in lowered for word in _STORE_DOMAINS) else None
    loops = store is None and any(word in lowered for word in ("localhost", "127.0.0.1", "minio"))
    return _LOOPBACK.search(place) if loops else store


def _region(place: str, lowered: str) -> str | None:
    """Find a region under its name, else the ARN of something, else any region."""
    named = _NAMED_REGION.search(place) if "region" in lowered else None
    if named is not None:
        return named[1]
    found = (_ARN.search(place) if "arn:aws" in lowered else None) or _REGION.search(place)
    return None if found is None else found[0]


def _expiry(place: str) -> datetime | None:
    found = _EXPIRY.search(place)
    if found is None:
        return None
    try:
        if found["epoch"] is not None:
            return datetime.fromtimestamp(int(found["epoch"][:10]), UTC)
        if found["mail"] is not None:
            return parsedate_to_datetime(found["mail"]).astimezone(UTC)
        moment = datetime.fromisoformat(found["iso"])
        zone = found["zone"]
        # aws-mfa and saml2aws write their times in UTC without saying so.
        if zone is None or zone.upper() in {"Z", "UTC", "GMT"}:
            return moment.replace(tzinfo=UTC)
        return datetime.fromisoformat(found["iso"] + zone).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
