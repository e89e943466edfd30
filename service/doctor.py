"""`doctor`: what is set up, reachable, permitted and recent, and for each gap the next command to run."""

from __future__ import annotations

import json
import os
import platform
import sqlite3
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from importlib import metadata
from pathlib import Path
from typing import Final

from firedamp.canaries import blind
from firedamp.service import clock, health, permitted, show
from firedamp.service.aws import Aws
from firedamp.service.config import Config
from firedamp.service.options import Common, Format
from firedamp.service.ourselves import version
from firedamp.service.serving import age, regions
from firedamp.storage.errors import AwsFailure, Failure
from firedamp.storage.records import Canary, CanaryState
from firedamp.storage.store import Store


class State(StrEnum):
    """How a check ended."""

    FINE = "fine"
    MISSING = "missing"
    FAILED = "failed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at. next is the command or the change that closes the gap."""

    name: str
    state: State
    detail: str
    next: str = ""


_MARKS: Final = {State.FINE: "✓", State.MISSING: "-", State.FAILED: "✗", State.UNKNOWN: "?"}


def doctor(common: Common) -> int:
    """Look at everything and print it; return 0 when all is well, 1 with gaps, 2 with failures."""
    common.must_be(Format.TABLE, Format.JSON, Format.JSONL)
    checks = list(examine(common, clock.now()))
    with common.out() as out:
        if common.format is Format.TABLE:
            for each in checks:
                detail = "\n    ".join(map(show.safe, each.detail.split("\n")))
                out.write(f"{_MARKS[each.state]} {each.name}: {detail}\n")
                if each.next:
                    out.write("    " + each.next.replace("\n", "\n    ") + "\n")
        else:
            lines: list[dict[str, show.Json]] = [
                {"check": each.name, "state": each.state.value, "detail": each.detail, "next": each.next or None}
                for each in checks
            ]
            show.json_lines(lines, out.write, whole=common.format is Format.JSON)
    states = {each.state for each in checks}
    return 2 if State.FAILED in states else int(bool(states - {State.FINE}))


def examine(common: Common, now: datetime) -> Iterator[Check]:
    """Yield every check, each on its own: one that fails does not hide the others."""
    yield _versions()
    yield _git()
    try:
        config = common.settings()
    except Failure as failure:
        yield Check("configuration", State.FAILED, failure.what, failure.hint)
        common, config = replace(common, config=None), Config()
    else:
        yield _configured(common.config)
    try:
        store = common.open_store()
    except Failure as failure:
        yield Check("database", State.FAILED, failure.what, failure.hint)
        return
    with store:
        yield Check("database", State.FINE, str(common.database()))
        yield _scanned(store, now)
        yield from _access(common, config, store)
        yield from _watched(store, config, now)
        yield _channels(store, config, now)
        yield _proven(store, now)
        yield _served(store, now)


def _versions() -> Check:
    names = [f"firedamp {version() or 'from a checkout'}"]
    names += [f"Python {platform.python_version()}", f"SQLite {sqlite3.sqlite_version}"]
    names += [f"{name} {metadata.version(name)}" for name in ("hyperscan", "boto3", "GitPython")]
    return Check("versions", State.FINE, ", ".join(names))


def _git() -> Check:
    try:
        done = subprocess.run(["git", "version"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return Check("git", State.FAILED, "git cannot be run", "install git 2.30 or newer")
    return Check("git", State.FINE, done.stdout.strip())


def _configured(path: Path | None) -> Check:
    if path is None:
        return Check(
            "configuration", State.MISSING, "no file; every single command works without one",
            "firedamp config example > firedamp.toml   then --config firedamp.toml",
        )  # fmt: skip
    return Check("configuration", State.FINE, str(path))


def _scanned(store: Store, now: datetime) -> Check:
    runs = store.scan_runs(limit=1)
    if not runs:
        return Check("scans", State.MISSING, "nothing was scanned yet", "firedamp scan")
    run = runs[0]
    state = State.FINE if run.complete else State.FAILED
    told = "complete" if run.complete else "incomplete: something could not be read"
    return Check("scans", state, f"{run.target}, {age(now, run.started, 'ago')}, {told}")


def _access(common: Common, config: Config, store: Store) -> Iterator[Check]:
    """Yield which identity is used for what, and what it may not do."""
    if common.offline:
        yield Check("AWS", State.UNKNOWN, "not asked: --offline")
        return
    aws = Aws(now=clock.now, random=os.urandom, write_down=store.add_own_call)
    named = {
        "audit": config.aws.audit_profile, "mint": config.aws.canary_profile, "watch": config.aws.watch_profile,
    }  # fmt: skip
    for role, profile in named.items():
        yield _role(aws, role, profile or config.aws.profile, config, store)


def _role(aws: Aws, role: str, profile: str | None, config: Config, store: Store) -> Check:
    name, who = f"access for {role}", f"profile {profile}" if profile else "the SDK's own choice"
    try:
        arn = aws.identity(profile)
    except AwsFailure as failure:
        hint = failure.hint or "aws configure sso"
        return Check(name, State.MISSING, f"{who}: {failure.what}", f"{hint}\nor set a profile under [aws]")
    known = permitted.named(config, store.watched(), arn)
    if role == "watch":
        known = permitted.with_trails(known, aws, profile)
    try:
        lacks = permitted.lacking(aws, profile, role, known, _source(arn))
    except AwsFailure as failure:
        ask = "allow it iam:SimulatePrincipalPolicy, then the rest is asked"
        hint = ask if "AccessDenied" in failure.what else failure.hint
        return Check(name, State.UNKNOWN, f"{arn}; what it may do cannot be asked: {failure.what}", hint)
    if not lacks:
        return Check(name, State.FINE, f"{arn} ({who})")
    needed = [each for each in lacks if each.sure]
    reasons = "; ".join({f"{each.need.action}: {each.need.why}": None for each in needed or lacks})
    add = f"add to its policy: {_statements(needed or lacks)}"
    if needed:
        return Check(name, State.MISSING, f"{arn} may not do {reasons}", add)
    kinds = ", ".join({each.resource: None for each in lacks})
    why = f"nothing here names what it is for, and on {kinds} it may not do {reasons}"
    return Check(name, State.UNKNOWN, f"{arn}: {why}", f"if it is not narrowed to others on purpose, {add}")


def _statements(lacks: Sequence[permitted.Lack]) -> str:
    """Return what is missing as statements of a policy: those that are needed by name, the others as far as needed."""
    actions: dict[str, list[str]] = {}
    for each in lacks:
        actions.setdefault(each.resource if each.sure else each.need.on, []).append(each.need.action)
    return json.dumps(
        [{"Effect": "Allow", "Action": names, "Resource": resource} for resource, names in actions.items()]
    )


def _source(arn: str) -> str:
    """Return the user or role that a caller's ARN stands for: sessions have no policies of their own to ask about."""
    head, _, rest = arn.partition(":assumed-role/")
    if not rest:
        return arn
    return f"{head.replace(':sts:', ':iam:')}:role/{rest.partition('/')[0]}"


def _watched(store: Store, config: Config, now: datetime) -> Iterator[Check]:
    canaries = [key for key in store.watched() if isinstance(key, Canary) and key.state is CanaryState.LIVE]
    if not canaries:
        yield Check(
            "canaries", State.MISSING, "none is planted", "firedamp canary mint --name …   or canary adopt KEYID"
        )
    else:
        placed = store.placements()
        bare = [key.name for key in canaries if key.key_id not in placed]
        detail = f"{len(canaries)} live, {len(canaries) - len(bare)} with a known placement"
        yield Check("canaries", State.FINE, detail)
    marks, heard = {mark.feed: mark for mark in store.watermarks()}, store.heard()
    if not config.watch.feeds and not marks:
        yield Check("feeds", State.MISSING, "no feed is configured", 'feeds = ["sqs://…"] under [watch]')
    for feed in dict.fromkeys((*config.watch.feeds, *marks)):
        mark = marks.get(feed)
        if mark is None or mark.polled is None:
            yield Check(
                f"feed {feed}", State.MISSING, "never read to its end", f"firedamp watch --once --feed '{feed}'"
            )
            continue
        newest = "no record yet" if mark.newest is None else f"newest record {age(now, mark.newest, 'old')}"
        newest += regions(heard, feed, now)
        fresh = abs(now - mark.polled) < config.watch.blind_after
        yield Check(
            f"feed {feed}", State.FINE if fresh else State.FAILED, f"read {age(now, mark.polled, 'ago')}, {newest}",
            "" if fresh else "firedamp serve --config firedamp.toml reads it on a schedule",
        )  # fmt: skip


def _proven(store: Store, now: datetime) -> Check:
    proof = blind.proof(store.standings(), now)
    if proof.blind:
        return Check("proof", State.FAILED, proof.words, "firedamp canary nets looks again")
    if proof.since is None:
        return Check("proof", State.UNKNOWN, proof.words, "firedamp canary nets, or firedamp serve")
    return Check("proof", State.UNKNOWN if proof.unsure else State.FINE, proof.words)


def _channels(store: Store, config: Config, now: datetime) -> Check:
    counts = store.counts(now)
    if not config.channel:
        return Check("alerts", State.MISSING, "no channel is configured", "a [[channel]], then firedamp alert test")
    names = ", ".join(each.name for each in config.channel)
    if counts.waiting:
        return Check(
            "alerts", State.FAILED, f"{names}: {counts.waiting} deliveries wait", "firedamp alert deliver says why"
        )
    return Check("alerts", State.FINE, names)


def _served(store: Store, now: datetime) -> Check:
    state = health.snapshot(store, now)
    if state.instance is None or not state.alive:
        return Check("service", State.MISSING, "nobody serves this database", "firedamp serve --config firedamp.toml")
    return Check("service", State.FINE, state.instance.owner)
