"""`canary adopt`, `canary retire` and `canary list`: which keys are watched, where they are, what proves them."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from firedamp.service import clock, show, tables
from firedamp.service.options import CanaryOptions, Common, Format
from firedamp.storage.errors import UsageFailure
from firedamp.storage.keyid import account_of, parse
from firedamp.storage.records import (
    Canary,
    CanaryState,
    Drill,
    Owner,
    Placement,
    PlacementState,
    RealKey,
    Status,
    WatchedKey,
)
from firedamp.storage.store import Store
from firedamp.storage.times import maybe_rfc3339, rfc3339


def adopt(options: CanaryOptions, common: Common, store: Store) -> int:
    """Watch keys that were made elsewhere. Any id is taken as it stands in a log, strict shape or not."""
    if not options.names:
        raise UsageFailure("canary adopt needs a key id", "firedamp canary adopt KEYID [--arn ARN]")
    if options.name is not None and len(options.names) > 1:
        raise UsageFailure("one name is no name for several keys", "adopt them one by one")
    known = {key.key_id: key for key in store.watched()}
    for key_id in options.names:
        if not key_id.strip() or key_id != key_id.strip() or any(ord(c) < 32 for c in key_id):
            raise UsageFailure(f"{key_id!r} is no key id", "as it stands in a log, without blanks around it")
        live = [f for f in store.findings(key_id=key_id) if f.verification.status is Status.ACTIVE]
        if live and not (options.real or options.force):
            raise UsageFailure(
                f"{key_id} is a finding that AWS says is alive: it is no canary",
                "--real watches it and keeps it a finding; --force adopts it as a canary all the same",
            )
        key = _adopted(key_id, known.get(key_id), options)
        store.watch(key)
        common.say(f"{show.safe(key_id)} is watched{_doubt(key)}")
    return 0


def _doubt(key: WatchedKey) -> str:
    """Return what speaks against a key as it was told, or nothing. Who is mistyped here is watched in vain."""
    parsed = parse(key.key_id)
    if parsed is None:
        return ", though AWS issues no such id: is it mistyped?"
    if parsed.account is not None and key.owner.account_id not in {None, parsed.account}:
        return f", though account {parsed.account} issued it: is the ARN mistyped?"
    return ""


def _adopted(key_id: str, known: WatchedKey | None, options: CanaryOptions) -> WatchedKey:
    """Return a key as it is watched from now on; what was known of it stays, where nothing else is said."""
    owner = owner_of(options.arn, key_id) if options.arn is not None or known is None else known.owner
    name = options.name or (known.name if known is not None else None) or owner.user_name or key_id
    note = options.note or ("" if known is None else known.note)
    since = clock.now() if known is None else known.since
    if options.real or (isinstance(known, RealKey) and not options.force):
        return RealKey(key_id=key_id, name=name, owner=owner, note=note, since=since)
    tags = parse_tags(options.tags) or (known.tags if isinstance(known, Canary) else ())
    if isinstance(known, Canary) and not options.force:  # minted by us: its state and profile are not adopt's to change
        return replace(known, name=name, owner=owner, note=note, tags=tags)
    return Canary(key_id=key_id, name=name, owner=owner, note=note, tags=tags, adopted=True, since=since)


def owner_of(arn: str | None, key_id: str) -> Owner:
    """Return what `--arn` says of a key's owner; without one, only the account that the id itself carries."""
    if arn is None:
        return Owner(account_id=account_of(key_id))
    parts = arn.split(":", 5)
    if len(parts) < 6 or parts[0] != "arn":
        raise UsageFailure(f"{arn} is no ARN", "as in arn:aws:iam::123456789012:user/name")
    user = parts[5].rpartition("/")[2] if parts[5].startswith("user/") else None
    return Owner(arn=arn, user_name=user, account_id=parts[4] or account_of(key_id))


def parse_tags(tags: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Read `--tag K=V`. Raises UsageFailure for one without a name (IAM: name 1 to 128, value up to 256)."""
    parsed = [(key, value) for key, _, value in (tag.partition("=") for tag in tags)]
    for key, value in parsed:
        if not 1 <= len(key) <= 128 or len(value) > 256:
            raise UsageFailure(f"{key}={value} is no tag", "--tag NAME=VALUE, up to 128 and 256 characters")
    return tuple(parsed)


def chosen(names: Sequence[str], store: Store) -> list[Canary]:
    """Return the canaries that names or key ids mean. Raises UsageFailure for one that is none of ours."""
    found: list[Canary] = []
    for name in names:
        meant = [key for key in store.watched() if name in {key.key_id, key.name}]
        if not meant:
            raise UsageFailure(f"no canary is called {name}", "see firedamp canary list")
        for key in meant:
            if not isinstance(key, Canary):
                raise UsageFailure(f"{name} is a real key, watched like a canary", "see firedamp key show")
            found.append(key)
    return found


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the ledger: a watched key, where it is, and what is known of it."""

    key: WatchedKey
    placement: Placement | None
    tripped: datetime | None
    proof: str
    """`itself` by a drill of its own, `path` by one of its account, `-` by none."""
    proven: datetime | None


def ledger(store: Store) -> list[Line]:
    """Return what is watched, with its placement, its incidents and its drills."""
    placements = store.placements()
    tripped: dict[str, datetime] = {}
    for incident in store.incidents():
        if incident.key_id is not None and incident.use + incident.derived:
            tripped[incident.key_id] = max(incident.last, tripped.get(incident.key_id, incident.last))
    seen = [drill for drill in store.drills() if drill.sighted is not None]
    lines: list[Line] = []
    for key in store.watched():
        proof, proven = _proof(key, seen)
        lines.append(Line(key, placements.get(key.key_id), tripped.get(key.key_id), proof, proven))
    return lines


def _proof(key: WatchedKey, seen: Sequence[Drill]) -> tuple[str, datetime | None]:
    own = next((drill.sighted for drill in seen if not drill.path_only and drill.key_id == key.key_id), None)
    if own is not None:
        return "itself", own
    account = key.owner.account_id or account_of(key.key_id)
    path = [drill.sighted for drill in seen if account is not None and account_of(drill.key_id) == account]
    return ("path", path[0]) if path else ("-", None)


def listing(options: CanaryOptions, common: Common, store: Store) -> int:
    """Print the ledger, or the lines of the keys that are named."""
    common.must_be(Format.TABLE, Format.JSON, Format.JSONL, Format.CSV)
    lines = [line for line in ledger(store) if not options.names or {line.key.key_id, line.key.name} & {*options.names}]
    if options.names and not lines:
        raise UsageFailure(f"no canary is called {options.names[0]}", "see firedamp canary list")
    if not lines:
        common.say("no key is watched: firedamp canary mint or canary adopt KEYID")
    with common.out() as out:
        match common.format:
            case Format.JSON | Format.JSONL:
                show.json_lines(map(_json, lines), out.write, whole=common.format is Format.JSON)
            case Format.CSV:
                writer = csv.writer(out)
                writer.writerow(
                    ["key", "name", "state", "account", "placement", "since", "checked", "tripped", "proof"]
                )
                writer.writerows(_cells(line) for line in lines)
            case _:
                columns = ("key", "name", "state", "account", "where", "since", "checked", "tripped", "proven")
                tables.lines(columns, map(_cells, lines), out)
    return 0


def _state(key: WatchedKey) -> str:
    return key.state.value if isinstance(key, Canary) else "real"


def _cells(line: Line) -> list[str]:
    key, place = line.key, line.placement
    where = "-" if place is None else f"{place.place} ({place.format or place.kind}, {place.state.value})"
    proof = "-" if line.proven is None else f"{line.proof} {_day(line.proven)}"
    return [
        key.key_id, key.name, _state(key), key.owner.account_id or "-", where, _day(key.since),
        _day(None if place is None else place.checked), _day(line.tripped), proof,
    ]  # fmt: skip


def _day(time: datetime | None) -> str:
    return "-" if time is None else rfc3339(time.replace(microsecond=0))


def _json(line: Line) -> dict[str, show.Json]:
    key, place = line.key, line.placement
    where: show.Json = None
    if place is not None:
        where = {
            "kind": place.kind, "place": place.place, "format": place.format, "state": place.state.value,
            "planted": rfc3339(place.planted), "checked": maybe_rfc3339(place.checked),
        }  # fmt: skip
    canary = isinstance(key, Canary)
    return {
        "key": key.key_id, "name": key.name, "canary": canary, "state": _state(key), "arn": key.owner.arn,
        # account_id is what every other line calls it; account was told first, and is kept.
        "account_id": key.owner.account_id, "account": key.owner.account_id, "note": key.note,
        "since": rfc3339(key.since), "placement": where,
        "tags": dict(key.tags) if isinstance(key, Canary) else {},
        "adopted": key.adopted if isinstance(key, Canary) else False,
        "tripped": maybe_rfc3339(line.tripped),
        "proof": None if line.proof == "-" else line.proof,
        "proven": maybe_rfc3339(line.proven),
    }  # fmt: skip


def retire(names: Sequence[str], common: Common, store: Store) -> list[Canary]:
    """Retire canaries: they stay watched and alive, for a deactivated key is blind. Return those still planted."""
    planted: list[Canary] = []
    placements = store.placements()
    for canary in chosen(names, store):
        place, named = placements.get(canary.key_id), f"{show.safe(canary.name)} ({show.safe(canary.key_id)})"
        # One that is still being minted is handed to nobody, but a planting that was cut off may have written it.
        if canary.state is not CanaryState.MINTING or place is not None:
            store.watch(replace(canary, state=CanaryState.RETIRED))
            common.say(f"{named} is retired; its key stays alive and watched")
        else:
            common.say(f"{named} is not handed over yet, and is left as it is")
        if place is not None and place.state is not PlacementState.TAKEN_BACK:
            planted.append(canary)
    return planted
