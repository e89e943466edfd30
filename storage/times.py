"""Times as text: RFC 3339 in UTC out, anything reasonable in."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

_SINCE_1970: Final = re.compile(r"\d{9,13}(\.\d{1,9})?", re.ASCII)
"""Of 9 to 13 digits: an ISO date without dashes has 8, and one with a time has a letter or a space in it."""

_YEARS: Final = range(1000, 9000)


def rfc3339(time: datetime) -> str:
    """Write an aware time as `2026-11-21T22:57:43Z`, with a fraction only when it has one."""
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z")


def maybe_rfc3339(time: datetime | None) -> str | None:
    """Write an aware time, or None where there is none."""
    return None if time is None else rfc3339(time)


def parse_time(text: str) -> datetime | None:
    """Read a time leniently: RFC 3339 and ISO 8601 forms, seconds or milliseconds since 1970, naive is UTC.

    None when it is no time, or so near to an end of the calendar that nothing could be added to it.
    """
    text = text.strip().removesuffix(" UTC")
    try:
        if _SINCE_1970.fullmatch(text):
            return datetime.fromtimestamp(float(text) / (1 if len(text.partition(".")[0]) <= 10 else 1000), UTC)
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    try:
        time = time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except OverflowError:  # the year 1 or 9999 in a far-off zone
        return None
    return time if time.year in _YEARS else None


def retry_after(text: str, now: datetime) -> timedelta | None:
    """Read a Retry-After header: seconds or a date (RFC 9110, 10.2.3). None when it is neither."""
    text = text.strip()
    if text.isdecimal():
        return timedelta(seconds=int(text[:9]))
    # Loaded where a server says so: with all that it brings along it takes longer than the rest of a short command.
    from email.utils import parsedate_to_datetime

    try:
        time = parsedate_to_datetime(text)
    except (ValueError, OverflowError):  # the second: a zone of any number of digits
        return None
    return max(timedelta(0), (time.replace(tzinfo=UTC) if time.tzinfo is None else time) - now)
