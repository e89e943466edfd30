"""What CloudTrail cannot tell: whether a canary was used without a record, and whether its key can still be used.

IAM keeps the last use of every key, of calls that are logged nowhere too (IAM API reference, GetAccessKeyLastUsed). A
use with no record beside it, after all patience with late delivery, is an alarm. Whether the records arrive at all is
asked in `blind`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from firedamp.canaries import facts
from firedamp.canaries.blind import KEY
from firedamp.canaries.pace import THROTTLED, Pace
from firedamp.storage.errors import aws_code
from firedamp.storage.keyid import account_of
from firedamp.storage.records import (
    Alert,
    AlertKind,
    Blind,
    Canary,
    CanaryState,
    Check,
    LastUse,
    Severity,
    Sound,
    Unsure,
)
from firedamp.storage.store import Store
from firedamp.storage.times import rfc3339

if TYPE_CHECKING:
    from types_boto3_iam import IAMClient

PATIENCE: Final = timedelta(minutes=20)
"""How late a record may be: in published and measured sets 99 in 100 come within 15 minutes (LookupEvents' bound)."""
_BEFORE: Final = timedelta(minutes=2)
_AFTER: Final = timedelta(minutes=16)
"""Where a use's record is looked for. IAM keeps the first use of 15 minutes, and minutes only."""
_LIST_AGAIN: Final = timedelta(hours=1)
_STALE: Final = timedelta(hours=1)
_NAMES: Final = {"cloudwatch": "monitoring", "ses": "email", "elb": "elasticloadbalancing", "stepfunctions": "states"}
"""IAM's names of services that CloudTrail records under another."""

NET: Final = "the second net: last use of every canary"


@dataclass(frozen=True, slots=True, kw_only=True)
class Nets:
    """What the net needs of the world.

    iam returns a client of IAM in an account, or says (as text) why there is none. until is when to stop for this time:
    the canaries asked longest ago come first, so that the next run goes on where this one ended.
    """

    iam: Callable[[str], IAMClient | str]
    store: Store
    pace: Pace
    now: Callable[[], datetime]
    until: datetime
    about: Callable[[str], AbstractContextManager[None]]
    patience: timedelta = PATIENCE


@dataclass(frozen=True, slots=True)
class Caught:
    """What the net brought: checks of the keys and of itself, and uses without a record."""

    checks: tuple[Check, ...]
    alerts: tuple[Alert, ...]
    asked: int


def cast(nets: Nets) -> Caught:
    """Ask IAM about canaries until the time is over; keep what it says, and the alerts of uses without a record."""
    store = nets.store
    known = store.last_uses()
    canaries = [
        key for key in store.watched() if isinstance(key, Canary) and key.state is not CanaryState.MINTING
    ]  # fmt: skip
    canaries.sort(key=lambda key: (known[key.key_id].asked.timestamp() if key.key_id in known else 0, key.key_id))
    checks: list[Check] = []
    refused: dict[str, int] = {}
    asked = 0
    for canary in canaries:
        if nets.now() >= nets.until:
            break
        client = nets.iam(canary.owner.account_id or account_of(canary.key_id) or "unknown")
        if isinstance(client, str):
            refused[client] = refused.get(client, 0) + 1
            continue
        with nets.about(canary.key_id):
            said, check = _ask(canary, known.get(canary.key_id), client, nets)
        asked += 1
        checks += [] if check is None else [check]
        if said is None:
            why = check.why if isinstance(check, Unsure) else "IAM does not tell"
            refused[why] = refused.get(why, 0) + 1
        else:
            known[canary.key_id] = said
            store.set_last_use(said)
    checks.append(_itself(canaries, known, refused, nets.now()))
    alerts = tuple(_unlogged(canaries, known, nets))
    for alert in alerts:
        store.add_alert(alert)
    return Caught(tuple(checks), alerts, asked)


def _ask(canary: Canary, before: LastUse | None, iam: IAMClient, nets: Nets) -> tuple[LastUse | None, Check | None]:
    """Ask when a key was last used and, once an hour, whether it is active. None: IAM did not tell."""
    from botocore.exceptions import BotoCoreError, ClientError

    condition = f"{KEY}{canary.key_id} of {canary.name}"
    now = nets.now()
    said: LastUse | None = None
    user = canary.owner.user_name
    try:
        answer = nets.pace.call(lambda: iam.get_access_key_last_used(AccessKeyId=canary.key_id))
        said = _read(canary.key_id, answer, before, now)
        user = answer.get("UserName") or user
    except BotoCoreError as error:
        return None, Unsure(condition=condition, why=str(error))
    except ClientError as error:
        code = aws_code(error)
        if code in THROTTLED:
            return None, Unsure(condition=condition, why=code)
        # IAM answers AccessDenied for a key that is not there, just as for a caller who may not ask: its user tells.
        if user is None:
            return None, Unsure(condition=condition, why=f"GetAccessKeyLastUsed: {code}")
    if user is None or (said is not None and said.listed is not None and now - said.listed < _LIST_AGAIN):
        return said, None
    try:
        keys = nets.pace.call(lambda: iam.list_access_keys(UserName=user))["AccessKeyMetadata"]
    except BotoCoreError as error:
        return said, Unsure(condition=condition, why=str(error))
    except ClientError as error:
        if aws_code(error) == "NoSuchEntity":
            return said, Blind(condition=condition, why=f"its user {user} is gone: nothing it does can be seen")
        return said, Unsure(condition=condition, why=f"ListAccessKeys: {aws_code(error)}")
    status = next((key["Status"] for key in keys if key["AccessKeyId"] == canary.key_id), None)
    if said is not None:
        said = replace(said, active=status == "Active", listed=now)
    if status == "Active":
        return said, Sound(condition=condition, told="active")
    why = "the key is deleted" if status is None else f"the key is {status.lower()}"
    return said, Blind(condition=condition, why=f"{why}: who tries it now fails unseen")


def _read(key_id: str, answer: Any, before: LastUse | None, now: datetime) -> LastUse:
    """Read GetAccessKeyLastUsed: a key never used has no date, and N/A for service and region."""
    last = answer.get("AccessKeyLastUsed", {})
    return LastUse(
        key_id=key_id, asked=now, used=last.get("LastUsedDate"), service=str(last.get("ServiceName", "")),
        region=str(last.get("Region", "")), active=None if before is None else before.active,
        listed=None if before is None else before.listed,
    )  # fmt: skip


def _itself(canaries: Sequence[Canary], known: dict[str, LastUse], refused: dict[str, int], now: datetime) -> Check:
    """Say whether the net hangs: every canary was asked about within the hour."""
    if refused:
        why = "; ".join(f"{count} cannot be asked about: {reason}" for reason, count in sorted(refused.items()))
        return Unsure(condition=NET, why=why)
    late = [key for key in canaries if key.key_id not in known or now - known[key.key_id].asked > _STALE]
    if late:
        return Unsure(condition=NET, why=f"{len(late)} of {len(canaries)} were not asked about within the hour")
    return Sound(condition=NET, told=f"{len(canaries)} canaries")


def _unlogged(canaries: Sequence[Canary], known: dict[str, LastUse], nets: Nets) -> Iterator[Alert]:
    now, placements = nets.now(), nets.store.placements()
    for canary in canaries:
        use = known.get(canary.key_id)
        if use is None or use.used is None or use.used < canary.since - _BEFORE or now - use.used < nets.patience:
            continue
        span = use.used - _BEFORE, use.used + _AFTER
        # Our own calls with a key were written down before they were sent; that a record is late is a drill's to say.
        seen = [service for service, _ in nets.store.uses_between(canary.key_id, *span)]
        seen += [call.partition(":")[0] for call in nets.store.own_uses_between(canary.key_id, *span)]
        if any(_same(use.service, service) for service in seen):
            continue
        yield Alert(
            key=f"unlogged/{canary.key_id}/{rfc3339(use.used)}/{use.service}", kind=AlertKind.UNLOGGED,
            severity=Severity.CRITICAL, at=now, key_id=canary.key_id,
            facts=(
                *facts.of_key(canary, placements.get(canary.key_id)),
                ("used", rfc3339(use.used)), ("service", use.service), ("region", use.region),
                ("remark", f"no record of it after {int((now - use.used).total_seconds()) // 60} minutes"),
            ),
        )  # fmt: skip


def _same(service: str, recorded: str) -> bool:
    name = service.lower()
    return name in {"", "n/a", recorded.lower()} or _NAMES.get(name) == recorded.lower()
