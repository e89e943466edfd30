"""What IAM policies allow. Pure: documents and a question go in, AWS's reason for refusing comes out.

Source: IAM guide, "Policy evaluation logic" (an explicit deny wins; then each layer that is present must allow) and
"IAM JSON policy elements". A condition operator that is not known here raises: a test must not pass by accident.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from functools import lru_cache
from typing import Any, Final

_VARIABLE: Final = re.compile(r"\$\{([^}]+)\}")


class UnknownConditionError(NotImplementedError):
    """A policy uses a condition operator that the loopback AWS does not evaluate."""


@dataclass(frozen=True, slots=True)
class Condition:
    """One operator on one context key, with the values of which any may fit."""

    operator: str
    key: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement of a policy. The flags say that the list is `NotAction` or `NotResource`."""

    deny: bool
    actions: tuple[str, ...]
    except_actions: bool
    resources: tuple[str, ...]
    except_resources: bool
    principals: tuple[str, ...]
    conditions: tuple[Condition, ...]


Policy = tuple[Statement, ...]


@dataclass(frozen=True, slots=True)
class Question:
    """May the caller do this? resource None fits every pattern: a call whose ARN is not worked out here.

    context holds the condition keys in lower case; a key that the request lacks is absent.
    """

    action: str
    resource: str | None
    context: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Rights:
    """The layers that decide about a caller. A boundary or session policy that is None is not there."""

    identity: tuple[Policy, ...]
    boundary: Policy | None = None
    session: Policy | None = None


class _Verdict(Enum):
    ALLOW = 1
    NOTHING = 2
    DENY = 3


@lru_cache(maxsize=4096)
def parse(text: str) -> Policy:
    """Read a policy document. Raises ValueError when it is no JSON, KeyError when a statement lacks its effect."""
    document: dict[str, Any] = json.loads(text)
    return tuple(_statement(item) for item in _listed(document["Statement"]))


def refusal(rights: Rights, question: Question) -> str | None:
    """Return None when the call is allowed, else the end of AWS's sentence that says why it is not."""
    layers = [(rights.identity, "an identity-based policy", "identity-based policy")]
    if rights.boundary is not None:
        layers.append(((rights.boundary,), "a permissions boundary", "permissions boundary"))
    if rights.session is not None:
        layers.append(((rights.session,), "a session policy", "session policy"))
    verdicts = [(_verdict(policies, question), named, bare) for policies, named, bare in layers]
    for verdict, named, _ in verdicts:
        if verdict is _Verdict.DENY:
            return f"with an explicit deny in {named}"
    for verdict, _, bare in verdicts:
        if verdict is _Verdict.NOTHING:
            return f"because no {bare} allows the {question.action} action"
    return None


class Trust(Enum):
    """What a role's trust policy says to a caller."""

    NO = 0
    DELEGATED = 1
    """The caller's account is trusted: the caller's own policies decide."""
    NAMED = 2
    """The caller itself is trusted: within the account no policy of its own is needed."""


def trust(policy: Policy, arns: Iterable[str], account: str, question: Question) -> Trust:
    """Judge a trust policy. arns are the names that the caller goes by: its own, and its role's if it is a session."""
    names = set(arns)
    whole_account = {account, f"arn:aws:iam::{account}:root"}
    best = Trust.NO
    for statement in policy:
        named = any(p == "*" or p in names for p in statement.principals)
        if not (named or whole_account.intersection(statement.principals)):
            continue
        if not (_acts(statement, question) and _conditions_hold(statement, question)):
            continue
        if statement.deny:
            return Trust.NO
        if best is not Trust.NAMED:
            best = Trust.NAMED if named else Trust.DELEGATED
    return best


def _verdict(policies: Iterable[Policy], question: Question) -> _Verdict:
    found = _Verdict.NOTHING
    for policy in policies:
        for statement in policy:
            if not (_acts(statement, question) and _concerns(statement, question)):
                continue
            if not _conditions_hold(statement, question):
                continue
            if statement.deny:
                return _Verdict.DENY
            found = _Verdict.ALLOW
    return found


def _acts(statement: Statement, question: Question) -> bool:
    action = question.action.lower()
    return any(_wild(pattern.lower(), action) for pattern in statement.actions) != statement.except_actions


def _concerns(statement: Statement, question: Question) -> bool:
    if question.resource is None:
        return True
    patterns = (_filled(pattern, question.context) for pattern in statement.resources)
    return any(_wild(pattern, question.resource) for pattern in patterns) != statement.except_resources


def _conditions_hold(statement: Statement, question: Question) -> bool:
    return all(_holds(condition, question.context) for condition in statement.conditions)


def _holds(condition: Condition, context: Mapping[str, str]) -> bool:
    """Whether a condition holds. One whose key is absent fails, unless it is negated or says IfExists."""
    operator = condition.operator.removesuffix("IfExists")
    have = context.get(condition.key.lower())
    wanted = [_filled(value, context) for value in condition.values]
    if operator == "Null":
        return (have is None) == (wanted[0].lower() == "true")
    fits = _FITS.get(_NEGATED.get(operator, operator))
    if fits is None:
        raise UnknownConditionError(f"condition operator {condition.operator}")
    if have is None:
        return operator != condition.operator or operator in _NEGATED
    return any(fits(have, value) for value in wanted) != (operator in _NEGATED)


def _wild(pattern: str, text: str) -> bool:
    return pattern == "*" or _pattern(pattern).fullmatch(text) is not None


@lru_cache(maxsize=4096)
def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(re.escape(text).replace(r"\*", ".*").replace(r"\?", "."), re.DOTALL)


def _inside(address: str, network: str) -> bool:
    try:
        return ipaddress.ip_address(address) in ipaddress.ip_network(network, strict=False)
    except ValueError:  # a service's DNS name stands where an address would
        return False


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


_FITS: Final[Mapping[str, Callable[[str, str], bool]]] = {
    "StringEquals": lambda have, want: have == want,
    "StringEqualsIgnoreCase": lambda have, want: have.lower() == want.lower(),
    "StringLike": lambda have, want: _wild(want, have),
    "ArnEquals": lambda have, want: _wild(want, have),
    "ArnLike": lambda have, want: _wild(want, have),
    "Bool": lambda have, want: have.lower() == want.lower(),
    "IpAddress": _inside,
    "DateLessThan": lambda have, want: _moment(have) < _moment(want),
    "DateLessThanEquals": lambda have, want: _moment(have) <= _moment(want),
    "DateGreaterThan": lambda have, want: _moment(have) > _moment(want),
    "DateGreaterThanEquals": lambda have, want: _moment(have) >= _moment(want),
}
"""Whether what the request has fits one value of a condition."""
_NEGATED: Final[Mapping[str, str]] = {
    "StringNotEquals": "StringEquals",
    "StringNotEqualsIgnoreCase": "StringEqualsIgnoreCase",
    "StringNotLike": "StringLike",
    "ArnNotEquals": "ArnEquals",
    "ArnNotLike": "ArnLike",
    "NotIpAddress": "IpAddress",
}
"""Operators that hold where another holds for none of the values."""


def _statement(item: dict[str, Any]) -> Statement:
    principal = item.get("Principal", ())
    if isinstance(principal, dict):
        principal = [name for kind in ("AWS", "Service", "Federated") for name in _listed(principal.get(kind))]
    return Statement(
        deny=item["Effect"] == "Deny",
        actions=_texts(item.get("Action", item.get("NotAction"))),
        except_actions="NotAction" in item,
        resources=_texts(item.get("Resource", item.get("NotResource", "*"))),
        except_resources="NotResource" in item,
        principals=_texts(principal),
        conditions=tuple(
            Condition(operator, key, _texts(values))
            for operator, keys in item.get("Condition", {}).items()
            for key, values in keys.items()
        ),
    )


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(str(item).lower() if isinstance(item, bool) else str(item) for item in _listed(value))


def _filled(pattern: str, context: Mapping[str, str]) -> str:
    """Put policy variables in, as in `${aws:username}`; one that the request lacks makes a pattern nothing fits."""
    return _VARIABLE.sub(lambda found: context.get(found[1].lower(), "\0"), pattern)
