"""Names for canaries that look like a house's service users: a pattern -> names. Pure.

A pattern is text with placeholders: `{service}`, `{task}`, `{env}` (words that service users bear), `{n}` or `{n:3}`
(a number that counts up, with so many digits), `{digits:4}`, `{alnum:4}`, `{hex:4}` (random). IAM's rule for user
names: 1 to 64 of letters, digits and `+=,.@_-`, no two that differ in case only (IAM guide, "IAM and STS quotas").
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Collection
from typing import Final

from firedamp.storage.errors import UsageFailure

DEFAULT: Final = "{service}-{task}-{env}-{alnum:4}"

_PLACE: Final = re.compile(r"\{(\w+)(?::(\d{1,2}))?\}")
_ALLOWED: Final = re.compile(r"[\w+=,.@-]{1,64}", re.ASCII)
_WORDS: Final = {
    "service": "billing orders catalog search payments reports media crm etl jenkins gitlab grafana airflow superset "
               "magento wordpress zabbix vault nexus odoo sap hr mail ledger inventory shipping archive".split(),
    "task": "backup export sync upload deploy reader writer loader import ses s3 assets logs metrics snapshots "
            "replication ingest transfer cron worker".split(),
    "env": "prod prd stg staging dev test qa uat dr".split(),
}  # fmt: skip
_LETTERS: Final = {
    "digits": "0123456789",
    "hex": "0123456789abcdef",
    "alnum": "abcdefghijkmnpqrstuvwxyz23456789",
}
_TRIES: Final = 200
_ROOM: Final = 24
"""So long may a beginning be that the longest default name still fits behind it."""
_ROOM_AT_MOST: Final = 59


def names(pattern: str, count: int, taken: Collection[str], random: Callable[[int], bytes]) -> list[str]:
    """Return count different names that are not taken. random returns so many random bytes.

    Raises UsageFailure for a placeholder that is not known, a name that IAM refuses, or a pattern with too few names.
    """
    used = {name.lower() for name in taken}
    made: list[str] = []
    number, missed = 1, 0
    while len(made) < count:
        name = _name(pattern, number, random)
        number += 1
        if name.lower() in used:
            missed += 1
            counts = "{n" in pattern
            if missed > (len(used) + _TRIES if counts else _TRIES):
                raise UsageFailure(
                    f"the pattern {pattern} gives too few names: {count} are wanted, {len(made)} were free",
                    "add {alnum:4} or {n:3} to it",
                )
            continue
        missed = 0
        used.add(name.lower())
        made.append(name)
    return made


def like(others: Collection[str]) -> str:
    """Return a pattern of names that begin as all of these do: rights and rules may go by how names begin."""
    letters = zip(*others, strict=False)
    begin = "".join(each[0] for each in itertools.takewhile(lambda each: len(set(each)) == 1, letters))
    if begin in others or len(begin) > _ROOM:
        return begin[:_ROOM_AT_MOST] + "-{alnum:4}"
    return begin + DEFAULT


def _name(pattern: str, number: int, random: Callable[[int], bytes]) -> str:
    def fill(found: re.Match[str]) -> str:
        kind, width = found[1], int(found[2] or 0)
        if kind == "n":
            return f"{number:0{max(1, width)}d}"
        if kind in _WORDS:
            return _pick(_WORDS[kind], random)
        if kind in _LETTERS:
            return "".join(_pick(_LETTERS[kind], random) for _ in range(width or 4))
        known = ", ".join(f"{{{each}}}" for each in (*_WORDS, "n", *_LETTERS))
        raise UsageFailure(f"{found[0]} is no placeholder of a name", f"one of {known}")

    name = _PLACE.sub(fill, pattern)
    if _ALLOWED.fullmatch(name) is None:
        raise UsageFailure(f"IAM takes no user called {name!r}", "1 to 64 letters, digits and +=,.@_-")
    return name


def _pick(values: str | list[str], random: Callable[[int], bytes]) -> str:
    return values[int.from_bytes(random(4), "big") % len(values)]
