"""Times as text: RFC 3339 in UTC out, anything reasonable in."""

from __future__ import annotations

from datetime import UTC, datetime


def rfc3339(time: datetime) -> str:
    """Write an aware time as `2026-11-21T22:57:43Z`, with a fraction only when it has one."""
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z")


def parse_time(text: str) -> datetime | None:
    """Read a time leniently: RFC 3339 and ISO 8601 forms, naive is UTC. None when it is no time."""
    try:
        time = datetime.fromisoformat(text.strip())
    except ValueError:
        return None
    try:
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except OverflowError:  # the year 1 or 9999 in a far-off zone
        return None
