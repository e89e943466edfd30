"""Would an attacker's own test recognise a canary? Their published tests, run against ours, scored.

Sources: pacu `iam__detect_honeytokens` (canarytokens in the name, the path /SpaceCrab/, any UUID in the ARN),
TruffleHog (accounts that issue honeytokens, decoded from the key id), and the names that other makers give users.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from firedamp.storage.keyid import CANARY_ACCOUNTS, account_of

if TYPE_CHECKING:
    from types_boto3_iam import IAMClient

REFUSED: Final = 50
"""From this score on a canary is fingerprintable: it is not minted unless forced."""

_YOUNG: Final = timedelta(days=30)
_UUID: Final = re.compile(r"[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}", re.IGNORECASE)
_PATTERNS: Final = tuple(
    (re.compile(pattern, re.IGNORECASE), whose)
    for pattern, whose in (
        (r"canarytokens?\.(?:com|org|net)|@@", "Thinkst Canarytokens"),
        (r"space-?crab", "SpaceCrab"),
        (r"space-?siren", "SpaceSiren"),
        (r"gg-?canary", "ggcanary"),
        (r"\binf_ht_", "Infisical honey tokens"),
        (r"thumper-canary-", "thumper"),
        (r"thinkst|gitguardian|tracebit|firedamp", "a maker of canaries"),
        (r"canar(?:y|ies)|honey|decoy|tripwire|(?<![a-z])(?:trap|bait|lure)(?![a-z])|intru[ds]", "a telling word"),
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What can be known of a canary by whoever holds its key, guesses, or may read IAM. Empty: not known."""

    name: str
    path: str = "/"
    key_id: str | None = None
    account_id: str | None = None
    tags: tuple[tuple[str, str], ...] = ()
    policies: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What the account around a canary holds: an account of nothing but canaries is one itself. None: not known."""

    users: int | None = None
    roles: int | None = None
    oldest: datetime | None = None
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Tell:
    """One test that recognises a canary. score: 100 is certainty, 0 a remark."""

    test: str
    why: str
    score: int


@dataclass(frozen=True, slots=True)
class Read:
    """What IAM said, and what it would not."""

    subject: Subject
    account: Account
    unread: tuple[str, ...] = ()


def score(tells: Sequence[Tell]) -> int:
    """Return how sure an attacker can be, 0 to 100."""
    return min(100, sum(tell.score for tell in tells))


def tells(subject: Subject, account: Account, canaries: int, now: datetime) -> Iterator[Tell]:
    """Yield every test that recognises this canary. canaries: how many of ours the account holds."""
    number = subject.account_id or account_of(subject.key_id or "")
    if number in CANARY_ACCOUNTS:
        yield Tell("known account", f"{number}, which the key id itself tells, is known to issue honeytokens", 100)
    yield from _named("user name", subject.name)
    if subject.path != "/":
        known = list(_named("path", subject.path))
        yield from known or [Tell("path", f"{subject.path}: service users mostly stand in /, and errors show it", 20)]
    for key, value in subject.tags:
        yield from _named("tag", f"{key}={value}")
    # Names of policies and groups are read by whoever may list them, and by all in some error texts.
    for policy in subject.policies:
        yield from _named("policy name", policy)
    for group in subject.groups:
        yield from _named("group name", group)
    for alias in account.aliases:
        yield from _named("account alias", alias)
    yield from _surroundings(account, canaries, now)


def _named(test: str, text: str) -> Iterator[Tell]:
    found = next(((pattern[0], whose) for each, whose in _PATTERNS if (pattern := each.search(text))), None)
    if found is not None:
        yield Tell(test, f"{text}: {found[0]!r} names {found[1]}", 100)
    elif _UUID.search(text):
        yield Tell(test, f"{text}: a UUID in it is taken for SpaceSiren's", 100)


def _surroundings(account: Account, canaries: int, now: datetime) -> Iterator[Tell]:
    if account.oldest is not None and now - account.oldest < _YOUNG:
        yield Tell("account age", f"its oldest user is {(now - account.oldest).days} days old", 10)
    if account.users is not None and canaries >= 3 and account.users <= canaries + 1:
        why = f"{canaries} of its {account.users} users are canaries: two keys found tell the account"
        yield Tell("account contents", why, 10)


def error_text(arn: str) -> str:
    """Return what AWS tells a caller whom a deny-all policy stops (IAM guide, "access denied error messages")."""
    return f"User: {arn} is not authorized to perform: iam:ListUsers with an explicit deny in an identity-based policy"


def read(iam: IAMClient, subject: Subject) -> Read:
    """Ask IAM about a canary's user and its account. What it refuses is told, never assumed to be fine."""
    unread: list[str] = []
    name = subject.name
    user = _asked(lambda: iam.get_user(UserName=name)["User"], "the user", unread)
    inline = _asked(lambda: iam.list_user_policies(UserName=name)["PolicyNames"], "its inline policies", unread)
    managed = _asked(
        lambda: [each["PolicyName"] for each in iam.list_attached_user_policies(UserName=name)["AttachedPolicies"]],
        "its attached policies", unread,
    )  # fmt: skip
    groups = _asked(
        lambda: [each["GroupName"] for each in iam.list_groups_for_user(UserName=name)["Groups"]], "its groups", unread
    )
    found = Subject(
        name=name, key_id=subject.key_id, account_id=subject.account_id,
        path=subject.path if user is None else user["Path"],
        tags=subject.tags if user is None else tuple((tag["Key"], tag["Value"]) for tag in user.get("Tags", [])),
        policies=subject.policies if inline is None and managed is None else (*(inline or ()), *(managed or ())),
        groups=tuple(groups or ()),
    )  # fmt: skip
    return Read(found, read_account(iam, unread), tuple(unread))


def read_account(iam: IAMClient, unread: list[str]) -> Account:
    """Ask IAM what an account holds; what it refuses is added to unread."""
    summary: dict[str, int] = _asked(lambda: iam.get_account_summary()["SummaryMap"], "the account", unread) or {}
    aliases = _asked(lambda: iam.list_account_aliases()["AccountAliases"], "the account's alias", unread)
    users = _asked(
        lambda: [user["CreateDate"] for page in iam.get_paginator("list_users").paginate() for user in page["Users"]],
        "the account's users", unread,
    )  # fmt: skip
    return Account(
        users=summary.get("Users"), roles=summary.get("Roles"), aliases=tuple(aliases or ()),
        oldest=min(users) if users else None,
    )  # fmt: skip


def _asked(ask: Any, what: str, unread: list[str]) -> Any:
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        return ask()
    except ClientError as error:
        unread.append(f"{what}: {error.response.get('Error', {}).get('Code', 'no code')}")
    except BotoCoreError as error:
        unread.append(f"{what}: {error}")
    return None
