"""What a feed brought of each region: a region that falls silent is blind, and every region has silences of its own.

A region where somebody works by day is silent at night, and one that nobody uses has no record for months. So a
silence is judged by the longest that was usual there, and not before a week of records is known. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Final

from firedamp.storage.records import Blind, Check, Heard, Sound, Unsure
from firedamp.storage.times import parse_time, rfc3339

RHYTHM: Final = timedelta(days=7)
"""How much of a region must be known before its silence means something: nights and a weekend are in it."""
_USUAL: Final = 2
"""So many times the longest silence is unusual."""
_LEFT: Final = timedelta(days=30)
_SHORT: Final = timedelta(hours=1)
"""Records that lie closer together are not searched for silences: no limit is shorter."""
_AHEAD: Final = timedelta(hours=1)
_REGION: Final = re.compile(r"[a-z]{2,8}(-[a-z]{1,12}){1,3}-\d{1,2}", re.ASCII)
_MOST: Final = 64


def of(times: Iterable[Mapping[str, Sequence[str]]], now: datetime) -> tuple[Heard, ...]:
    """Join the eventTimes of documents, by region and as they are written, to what was heard of each region.

    What is no region, and a time that is yet to come, says nothing.
    """
    found: dict[str, list[Heard]] = {}
    for each in times:
        for region, written in each.items():
            heard = _one(region, written, now)
            if heard is not None and (region in found or len(found) < _MOST):
                found.setdefault(region, []).append(heard)
    return tuple(_together(each) for each in found.values())


def newest(times: Iterable[Mapping[str, Sequence[str]]], now: datetime) -> datetime | None:
    """Return the newest eventTime of documents, of whatever region. What is no time, or yet to come, is none."""
    several = (written for each in times for written in each.values())
    return max((found for written in several if (found := _newest(written, now)) is not None), default=None)


def _newest(written: Sequence[str], now: datetime) -> datetime | None:
    last = parse_time(max(written))
    if last is not None and last <= now + _AHEAD:
        return last
    return max((time for each in set(written) if (time := parse_time(each)) and time <= now + _AHEAD), default=None)


def _one(region: str, written: Sequence[str], now: datetime) -> Heard | None:
    if _REGION.fullmatch(region) is None:
        return None
    ends = parse_time(min(written)), parse_time(max(written))
    if ends[0] is not None and ends[1] is not None and ends[0] <= ends[1] <= min(now + _AHEAD, ends[0] + _SHORT):
        return Heard(region=region, first=ends[0], newest=ends[1])
    times = sorted(time for each in set(written) if (time := parse_time(each)) is not None and time <= now + _AHEAD)
    if not times:
        return None
    longest = max((later - time for time, later in pairwise(times)), default=timedelta(0))
    return Heard(region=region, first=times[0], newest=times[-1], longest=longest)


def _together(several: list[Heard]) -> Heard:
    several.sort(key=lambda each: each.first)
    whole = several[0]
    for each in several[1:]:
        whole = whole.joined(each)
    return whole


def judge(feed: str, heard: Iterable[Heard], limit: timedelta, now: datetime) -> Iterator[Check]:
    """Judge each region that a feed brings records of. limit: a silence up to it is always usual.

    A region of which less than a week is known is unsure while it is silent. After a week of silence such a one, and
    after 30 days any, is taken for one that is not used any more: nothing is said of it.
    """
    for each in heard:
        condition = f"feed {feed}: newest record of {each.region}"
        told, silence = rfc3339(each.newest), now - each.newest
        usual = max(limit, _USUAL * each.longest)
        if silence <= limit:
            yield Sound(condition=condition, told=told)
        elif silence > (RHYTHM if each.newest - each.first < RHYTHM else _LEFT):
            continue
        elif each.newest - each.first < RHYTHM:
            yield Unsure(condition=condition, why=f"of {told}; how long it may be silent is not known yet")
        elif silence <= usual:
            yield Sound(condition=condition, told=f"{told}; it is silent so long at times")
        else:
            yield Blind(condition=condition, why=f"of {told}; it was never silent so long", since=each.newest)
