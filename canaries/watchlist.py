r"""What is looked for in CloudTrail: the watched keys, their owners, and the bytes that give them away.

Nearly every record is about something else. So the bytes of a file are searched for every watched id and owner at
once (hyperscan, gigabytes a second), and only records with a hit are parsed. JSON can write any character as an
escape, and `\u0041KIA…` must not hide an id: an escape that stands for a character of an id or a name is a hit too.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from firedamp.storage.keyid import parse as parse_key_id
from firedamp.storage.records import Event, WatchedKey

if TYPE_CHECKING:
    import hyperscan

_NAME_CHARACTERS: Final = "+,-./:@_0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
"""What ids, names and ARNs are made of, but `=`: AWS's own writer escapes that, so names with it are sought both ways.
IAM guide, "IAM and AWS STS quotas": names hold letters, digits and `+=,.@_-`."""

_AFTER_ARN: Final = re.compile(r"(?![\w+=@/-]|[.,][\w+=@/-])", re.ASCII)
_PERCENT: Final = re.compile(r"%[0-9A-Fa-f]{2}\Z")


class _Role(Enum):
    ID = auto()
    PRINCIPAL = auto()
    ARN = auto()
    NAME = auto()
    OTHER = auto()


@dataclass(frozen=True, slots=True)
class _Needle:
    text: str
    role: _Role
    key_id: str = ""


@dataclass(frozen=True, slots=True)
class Mentioned:
    """The watched keys whose id stands somewhere, and those whose owner does."""

    ids: tuple[str, ...]
    owners: tuple[str, ...]


class Watchlist:
    """The watched keys, asked whether some bytes or a record concern one of them.

    calls are names of operations that are looked for besides (the rule pack of the watch itself).
    """

    def __init__(self, keys: Sequence[WatchedKey], calls: Iterable[str] = ()) -> None:
        self.keys = {key.key_id: key for key in keys}
        self._owners = _Owners(keys)
        self._needles = [*_needles(keys), *(_Needle(f'"{call}"', _Role.OTHER) for call in sorted(calls))]
        escapes = ["\\/", *(f"\\u00{ord(c):02{form}}" for c in _NAME_CHARACTERS for form in "xX")]
        literals = [needle.text for needle in self._needles] + list(dict.fromkeys(escapes))
        self._database = _compiled([literal.encode("utf-8", "replace") for literal in literals])
        self._local = threading.local()

    def hit(self, data: bytes) -> bool:
        """Whether these bytes of JSON may concern a watched key: never no when they do."""
        return bool(self._found(data, first=True))

    def ends(self, data: bytes) -> list[int]:
        """Return where in these bytes of JSON something ends that may concern a watched key."""
        return [end for _, end in self._found(data)]

    def owned(self, event: Event) -> str | None:
        """Return the watched key whose owner made this call, or None. Of an owner's several keys, the first watched."""
        return self._owners.of(event)

    def named(self, name: str, account: str) -> str | None:
        """Return the watched key of the user of this name in this account, or None."""
        return self._owners.by_name.get((account, name))

    def mentioned(self, texts: Iterable[str]) -> Mentioned:
        """Return the watched keys whose id, or whose owner's ARN or principal id, stands in these texts as a whole."""
        data = "\n".join(texts).encode("utf-8", "replace")
        text = data.decode("latin-1")  # a character a byte: hyperscan counts bytes
        ids, owners = dict[str, None](), dict[str, None]()
        for number, end in self._found(data):
            needle = self._needles[number] if number < len(self._needles) else None
            if needle is None or needle.role in {_Role.NAME, _Role.OTHER} or not _stands(needle, text, end):
                continue
            (ids if needle.role is _Role.ID else owners)[needle.key_id] = None
        return Mentioned(tuple(ids), tuple(owners))

    def kin(self, one: str, other: str) -> bool:
        """Whether two watched keys belong to the same owner."""
        return self._owners.whose[one] == self._owners.whose[other]

    def _found(self, data: bytes, *, first: bool = False) -> list[tuple[int, int]]:
        import hyperscan

        if not hasattr(self._local, "scratch"):
            self._local.scratch = hyperscan.Scratch(self._database)
        hits: list[tuple[int, int]] = []

        def met(number: int, _start: int, end: int, _flags: int, _context: object) -> bool | None:
            hits.append((number, end))
            return first or None

        with contextlib.suppress(hyperscan.ScanTerminated):  # the first hit was enough
            self._database.scan(data, match_event_handler=met, scratch=self._local.scratch)
        return hits


@lru_cache(maxsize=2)
def compiled(keys: tuple[WatchedKey, ...], calls: frozenset[str] = frozenset()) -> Watchlist:
    """Return the watchlist of these keys, compiled once as long as they stay the same (0.3 s for 5,000)."""
    return Watchlist(keys, calls)


def digest(keys: Iterable[WatchedKey]) -> str:
    """Return what is looked for, in 16 digits: what was read before is read again when this changes."""
    told = sorted(repr((key.key_id, key.owner)) for key in keys)
    return hashlib.blake2b("\n".join(told).encode("utf-8", "replace"), digest_size=8).hexdigest()


def tag(key: WatchedKey) -> str:
    """Return 8 characters that stand for a key and its owner: another owner is something new to look for."""
    told = repr((key.key_id, key.owner)).encode("utf-8", "replace")
    return base64.b64encode(hashlib.blake2b(told, digest_size=6).digest()).decode()


class _Owners:
    """The owners of watched keys by every way a record names them."""

    def __init__(self, keys: Sequence[WatchedKey]) -> None:
        self.by_arn: dict[str, str] = {}
        self.by_principal: dict[str, str] = {}
        self.by_name: dict[tuple[str, str], str] = {}
        self.whose: dict[str, tuple[str, ...]] = {}
        for key in keys:
            owner = key.owner
            self.whose[key.key_id] = (
                (owner.arn,) if owner.arn else (owner.principal_id,) if owner.principal_id
                else (owner.account_id, owner.user_name) if owner.account_id and owner.user_name
                else (key.key_id,)
            )  # fmt: skip
            if owner.arn:
                self.by_arn.setdefault(owner.arn, key.key_id)
            if owner.principal_id:
                self.by_principal.setdefault(owner.principal_id, key.key_id)
            if owner.user_name and owner.account_id:
                self.by_name.setdefault((owner.account_id, owner.user_name), key.key_id)

    def of(self, event: Event) -> str | None:
        for arn in (event.arn, event.issuer_arn):
            if arn in self.by_arn:
                return self.by_arn[arn]
        for principal in (event.principal_id, event.principal_id.partition(":")[0], event.issuer_principal_id):
            if principal in self.by_principal:
                return self.by_principal[principal]
        if event.identity_type in {"IAMUser", ""}:
            found = self.by_name.get((event.account_id, event.user_name))
            if found is not None:
                return found
        # A role may bear the name of a user.
        if event.issuer_type in {"IAMUser", "User", ""} and not event.issuer_arn:
            return self.by_name.get((event.issuer_account_id or event.account_id, event.issuer_user_name))
        return None


def _needles(keys: Sequence[WatchedKey]) -> list[_Needle]:
    found: dict[str, _Needle] = {}

    def add(text: str | None, role: _Role, key_id: str, quote: str = "") -> None:
        for form in _written(text) if text else ():
            # A form that only JSON has is a hit in bytes; in text it never stands.
            of = role if form == text else _Role.OTHER
            needle = f"{quote}{form}{quote}"
            found.setdefault(needle, _Needle(needle, of, key_id))

    for key in keys:
        owner = key.owner
        add(key.key_id, _Role.ID, key.key_id)
        add(owner.principal_id, _Role.PRINCIPAL, key.key_id)
        add(owner.arn, _Role.ARN, key.key_id)
        add(owner.user_name, _Role.NAME, key.key_id, '"')
    return list(found.values())


def _written(text: str) -> set[str]:
    """Return the ways a JSON writer may write this text, escapes of `_NAME_CHARACTERS` apart."""
    forms = {text, json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1]}
    for plain, code in (("=", "\\u003d"), ("&", "\\u0026"), ("<", "\\u003c"), (">", "\\u003e"), ("'", "\\u0027")):
        forms |= {form.replace(plain, code) for form in forms} | {form.replace(plain, code.upper()) for form in forms}
    return {form.replace("\\U00", "\\u00") for form in forms if "\0" not in form}


def _stands(needle: _Needle, text: str, end: int) -> bool:
    """Whether what was found ending here is the whole thing, and not a part of a longer id or name."""
    start = end - len(needle.text.encode("utf-8", "replace"))
    before, after = text[max(0, start - 3) : start], text[end : end + 1]
    if needle.role is _Role.ARN:
        return not _alnum(before[-1:]) and _AFTER_ARN.match(text, end) is not None
    # An id that AWS issued is letters and digits; one of any other shape may be part of a name with dashes.
    strict = needle.role is _Role.PRINCIPAL or parse_key_id(needle.key_id) is not None
    joiners = "" if strict else "_-"
    if _alnum(after) or (after and after in joiners):
        return False
    if _alnum(before[-1:]) or (before and before[-1] in joiners):
        return _PERCENT.search(before) is not None
    return True


def _alnum(character: str) -> bool:
    return character.isascii() and character.isalnum()


def _compiled(literals: Sequence[bytes]) -> hyperscan.Database:
    import hyperscan

    database = hyperscan.Database(mode=hyperscan.HS_MODE_BLOCK)
    database.compile(
        expressions=list(literals), ids=list(range(len(literals))), elements=len(literals), flags=[0] * len(literals),
        literal=True,
    )  # fmt: skip
    return database
