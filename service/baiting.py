"""`canary`: makes, adopts, plants, checks, drills and retires canaries."""

from __future__ import annotations

from datetime import UTC, datetime

from firedamp.service.options import CanaryOptions, Common
from firedamp.storage.errors import NotBuilt, UsageFailure
from firedamp.storage.keyid import account_of
from firedamp.storage.records import Canary, CanaryState, Owner, RealKey, Status
from firedamp.storage.store import Store


def canary(options: CanaryOptions, common: Common) -> int:
    """Carry out one action on canaries; return the exit status."""
    with common.open_store() as store:
        match options.action:
            case "adopt":
                return _adopt(options, store)
            case "list":
                for key in store.watched():
                    print(f"{key.key_id}  {key.name}  {key.owner.arn or '-'}")
                return 0
            case _:
                raise NotBuilt(f"canary {options.action} is not built yet")


def _adopt(options: CanaryOptions, store: Store) -> int:
    """Watch keys that were made elsewhere. Any id is taken as it stands in a log, strict shape or not."""
    if not options.names:
        raise UsageFailure("canary adopt needs a key id", "firedamp canary adopt KEYID [--arn ARN]")
    for key_id in options.names:
        live = [f for f in store.findings(key_id=key_id) if f.verification.status is Status.ACTIVE]
        if live and not (options.real or options.force):
            raise UsageFailure(
                f"{key_id} is a finding that AWS says is alive: it is no canary",
                "--real watches it and keeps it a finding; --force adopts it as a canary all the same",
            )
        owner = _owner(options.arn, key_id)
        name = options.name or owner.user_name or key_id
        now = datetime.now(UTC)
        if options.real:
            store.watch(RealKey(key_id=key_id, name=name, owner=owner, note=options.note, since=now))
            continue
        tags = tuple((tag.partition("=")[0], tag.partition("=")[2]) for tag in options.tags)
        store.watch(
            Canary(
                key_id=key_id, name=name, owner=owner, note=options.note, tags=tags, state=CanaryState.LIVE,
                adopted=True, since=now,
            )
        )  # fmt: skip
    return 0


def _owner(arn: str | None, key_id: str) -> Owner:
    """Return what `--arn` says of a key's owner; without one, only the account that the id itself carries."""
    if arn is None:
        return Owner(account_id=account_of(key_id))
    parts = arn.split(":", 5)
    if len(parts) < 6 or parts[0] != "arn":
        raise UsageFailure(f"{arn} is no ARN", "as in arn:aws:iam::123456789012:user/name")
    user = parts[5].rpartition("/")[2] if parts[5].startswith("user/") else None
    return Owner(arn=arn, user_name=user, account_id=parts[4] or account_of(key_id))
