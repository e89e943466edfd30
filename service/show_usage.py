"""The use of one key for a person, in one screen, and as JSON. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from firedamp.canaries.facts import length
from firedamp.canaries.usage import Counts, Period, Usage
from firedamp.service.show import Json, safe
from firedamp.storage.records import Outcome
from firedamp.storage.times import maybe_rfc3339, rfc3339

_SHOWN = 6


def usage_line(usage: Usage) -> dict[str, Json]:
    """Return the use of a key as its JSON object."""
    return {
        "key": usage.key_id,
        "leaked": maybe_rfc3339(usage.leaked),
        "leaks": [{"place": each.place, "at": rfc3339(each.at), "by_commit": each.by_commit} for each in usage.leaks],
        "before": _period(usage.before),
        "after": _period(usage.after),
        "sessions": list(usage.sessions),
        "own": usage.own,
        "feeds": list(usage.feeds),
        "failed": [
            {"what": each.what, "why": each.why} for each in usage.skipped if each.outcome is Outcome.FAILED
        ],
    }  # fmt: skip


def _period(period: Period) -> Json:
    counts: dict[str, Counts] = {
        "kinds": period.kinds, "addresses": period.addresses, "networks": period.networks, "agents": period.agents,
        "services": period.services, "regions": period.regions, "calls_by_name": period.names,
    }  # fmt: skip
    line: dict[str, Json] = {
        "calls": period.calls, "reads": period.reads, "writes": period.writes, "denied": period.denied,
        "failed": period.failed, "first": maybe_rfc3339(period.first), "last": maybe_rfc3339(period.last),
    }  # fmt: skip
    return line | {name: dict(values) for name, values in counts.items()}


def usage_text(usage: Usage, now: datetime) -> str:
    """Return the use of a key as one screen of text."""
    return "".join(f"{line}\n" for line in _lines(usage, now))


def _lines(usage: Usage, now: datetime) -> Iterator[str]:
    yield f"key      {safe(usage.key_id)}"
    if usage.leaked is None:
        yield "leaked   no finding holds this key: everything that is known of it stands below"
    else:
        first, *others = usage.leaks
        how = "committed" if first.by_commit else "first seen"
        yield f"leaked   {rfc3339(usage.leaked)}, {length(now - usage.leaked)} ago, {how}: {safe(first.place)}"
        if others:
            yield f"         and in {len(others)} other place{'s' if len(others) > 1 else ''}"
        yield ""
        yield f"BEFORE IT LEAKED  {_sum(usage.before)}"
        yield from _rows(usage.before)
    yield ""
    yield f"{'SINCE IT LEAKED' if usage.leaked else 'ALL OF IT'}  {_sum(usage.after)}"
    yield from _rows(usage.after)
    new = [value for value, _ in usage.after.addresses if value not in dict(usage.before.addresses)]
    if usage.before.calls and new:
        yield f"    never before    {_few([(value, 0) for value in new])}"
    if usage.sessions:
        yield f"    sessions        {len(usage.sessions)} made from it: {safe(', '.join(usage.sessions[:_SHOWN]))}"
    yield ""
    if usage.own:
        yield f"firedamp itself made {usage.own} of the calls; they are not counted above"
    yield f"asked    {safe(', '.join(usage.feeds)) or 'no feed: only what the watch recorded'}"
    if not usage.after.calls:
        yield "         no record is no proof: most reads of data are not logged, and a feed may lack regions or days"
    for each in usage.skipped:
        if each.outcome is Outcome.FAILED:
            yield f"failed   {safe(each.what)}: {safe(each.why)}"


def _sum(period: Period) -> str:
    if not period.calls:
        return "no call on record"
    calls = f"{period.calls} call{'s' if period.calls > 1 else ''}"
    return f"{calls}: {period.reads} reads, {period.writes} writes, {period.denied} denied, {period.failed} failed"


def _rows(period: Period) -> Iterator[str]:
    if period.first is None or period.last is None:
        return
    yield f"    first, last     {rfc3339(period.first)}, {rfc3339(period.last)} ({length(period.last - period.first)})"
    for name, counts in (
        ("addresses", period.addresses), ("networks", period.networks), ("agents", period.agents),
        ("services", period.services), ("regions", period.regions), ("calls", period.names),
    ):  # fmt: skip
        yield f"    {name:15} {_few(counts)}"


def _few(counts: Counts | list[tuple[str, int]]) -> str:
    shown = [f"{safe(value)} ({count})" if count > 1 else safe(value) for value, count in counts[:_SHOWN]]
    return ", ".join(shown) + (f" and {len(counts) - _SHOWN} more" if len(counts) > _SHOWN else "")
