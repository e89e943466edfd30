"""`verify`, and the verification that ends a scan: reads secrets back, asks AWS, keeps the answers."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Final

from firedamp.scanner import verify as verifier
from firedamp.scanner.asking import Asker, configured_endpoint
from firedamp.scanner.reread import Rereader
from firedamp.scanner.scan import Canaries, Reported
from firedamp.scanner.verify import Suspect
from firedamp.service import clock, scanning, show, triage
from firedamp.service.config import VerifyConfig
from firedamp.service.options import Common, Format, VerifyOptions
from firedamp.storage.errors import UsageFailure
from firedamp.storage.records import (
    Alert,
    AlertKind,
    Finding,
    Severity,
    Sight,
    Status,
    TriageState,
    Verification,
)
from firedamp.storage.secret import Fingerprint
from firedamp.storage.store import Store
from firedamp.storage.times import rfc3339

_PLACES: Final = 5
"""Places of a leak that an alert names; the finding has them all."""


def verify(options: VerifyOptions, common: Common) -> int:
    """Ask AWS about findings: those named, all, or those whose answer has grown old. Print what is known then."""
    with common.open_store() as store:
        if options.log:
            common.must_be(Format.TABLE, Format.JSON, Format.JSONL)
            _show_log(store, common)
            return 0
        if common.offline:
            raise UsageFailure("verify asks AWS, and --offline contacts nobody")
        settings = common.settings()
        if not settings.verify.enabled:
            raise UsageFailure("verify asks AWS, and the configuration forbids it", "enabled under [verify]")
        findings = store.findings_of(triage.named(store, options.ids)) if options.ids else store.findings()
        every = bool(options.ids) or options.all
        asked = judge(
            store, findings, settings.verify, every=every, clones=settings.serve.cache,
            canary_accounts=settings.scan.canary_accounts,
        )  # fmt: skip
        said = {each.fingerprint: each for each in store.findings_of(each.fingerprint for each in findings)}
        sights = store.sights([finding.fingerprint for finding in findings])
        now = [
            Reported(finding=said[each.fingerprint], sights=tuple(sights[each.fingerprint]), new=False, fresh=False)
            for each in findings
        ]
        triage.show(now, common)
        common.say(f"{asked} of {len(findings)} findings were asked about")
    unknown = any(each.finding.verification.status is Status.UNKNOWN for each in now)
    return 2 if unknown else int(any(each.finding.verification.status is Status.ACTIVE for each in now))


def judge(
    store: Store,
    findings: Sequence[Finding],
    config: VerifyConfig,
    *,
    every: bool = False,
    clones: Path | None = None,
    canary_accounts: Collection[str] = (),
) -> int:
    """Ask AWS about those findings whose answer is due (or every one that may be asked), and keep what it says.

    clones is where mirrors live, None for the user's cache. All plausible secrets of an id are judged together. No key
    of canary_accounts is asked about, though it may have been found before its account was among them.
    Returns how many findings were judged.
    """
    now = clock.now()
    findings = [*Canaries(store, canary_accounts).revised(findings)]
    again = {
        Status.ACTIVE: config.active_again,
        Status.REJECTED: config.rejected_again,
        Status.WRONG_SECRET: config.rejected_again,
        Status.UNKNOWN: config.unknown_again,
    }
    askable = [f for f in findings if not f.canary and not f.example]
    due = {
        finding.access_key_id or finding.fingerprint
        for finding in askable
        if every
        or (_said_revoked(finding) and finding.verification.alive)
        or verifier.due(finding.verification, now, again, has_secret=finding.has_secret)
    }
    chosen = [finding for finding in askable if (finding.access_key_id or finding.fingerprint) in due]
    groups = _suspects(store, chosen, clones)
    asker = Asker(
        user_agent=config.user_agent, timeout=config.timeout.total_seconds(), concurrency=config.concurrency,
        now=clock.now, random=os.urandom,
    )  # fmt: skip
    # An endpoint the user named is one server: no other partition exists behind it.
    partitions = config.partitions[:1] if configured_endpoint("sts", os.environ) else config.partitions
    try:
        for judgement in verifier.verify(
            groups, asker, configured=partitions, concurrency=config.concurrency, rate=config.rate,
            clock=time.monotonic, sleep=time.sleep, announce=lambda question: store.add_own_call(
                asker.announce(question)
            ),
        ):  # fmt: skip
            for name, said in judgement.items():
                _keep(store, name, said)
    finally:
        asker.close()
    return len(chosen)


def _suspects(store: Store, findings: Sequence[Finding], clones: Path | None) -> list[list[Suspect]]:
    """Read the secrets back and group them by id; a finding whose source is gone is said to be so."""
    sights = store.sights([finding.fingerprint for finding in findings])
    groups = dict[str, list[Suspect]]()
    rereader = Rereader(functools.partial(scanning.read_again, clones=clones), scanning.detect_blob)
    for finding in findings:
        if not finding.has_secret and not finding.has_token:
            store.set_verification(
                finding.fingerprint, Verification(status=Status.UNCHECKED, detail="no secret found"),
                verifier.grade(finding, Verification(status=Status.UNCHECKED)),
            )  # fmt: skip
            continue
        credential = rereader(finding, sights[finding.fingerprint])
        if credential is None:
            _keep_old(store, finding, "the source is gone: the secret can no longer be read back")
            continue
        groups.setdefault(finding.access_key_id or finding.fingerprint, []).append(
            Suspect(finding.fingerprint, credential)
        )
    return list(groups.values())


def _keep_old(store: Store, finding: Finding, why: str) -> None:
    """Say why AWS is not asked; what it said of the key before stays said."""
    said = replace(finding.verification, detail=why)
    if said != finding.verification:  # it was said before, and nothing new is known
        store.set_verification(finding.fingerprint, said)


def _keep(store: Store, name: Fingerprint, said: Verification) -> None:
    """Keep an answer; a key that AWS calls alive for the first time is an alert, committed with it.

    So is one that lives though a person said that it is revoked: it is open again.
    An answer that decides nothing takes nothing back: whose the key is, as AWS said last, stays known. The finding is
    read again: another process may have asked, or graded it, while AWS answered.
    """
    (finding,) = store.finding(name)
    now, before = clock.now(), finding.verification
    decided = before.alive or before.status not in {Status.UNCHECKED, Status.UNKNOWN}
    if decided and said.status is Status.UNCHECKED:
        _keep_old(store, finding, said.detail)
        return
    if said.status is not Status.UNCHECKED:
        said = replace(said, at=now)
    if said.status is Status.UNKNOWN:
        said = replace(said, arn=before.arn, account_id=before.account_id, user_id=before.user_id)
    alerts: list[Alert] = []
    lives = said.status is Status.ACTIVE
    if lives and (not before.alive or _said_revoked(finding)):
        alerts.append(_leak(finding, said, store.sights([finding.fingerprint])[finding.fingerprint], now))
    store.set_verification(name, said, verifier.grade(finding, said), alerts)
    if lives and _said_revoked(finding):
        why = f"said to be revoked, and AWS calls it alive at {rfc3339(now)}: {finding.state_reason}".removesuffix(": ")
        store.set_state(name, TriageState.OPEN, why)


def _said_revoked(finding: Finding) -> bool:
    return finding.state is TriageState.REVOKED


def _leak(finding: Finding, said: Verification, sights: Sequence[Sight], now: datetime) -> Alert:
    places = dict.fromkeys(show.place_line(sight) for sight in sights)
    facts = [
        ("key", finding.access_key_id or finding.kind.value), ("identity", said.arn or "unknown"),
        ("account", said.account_id or finding.account_id or "unknown"), ("first seen", rfc3339(finding.first_seen)),
        *(("place", place) for place in list(places)[:_PLACES]),
    ]  # fmt: skip
    if said.is_root:
        facts.append(("rights", "everything: this is the account's root user"))
    elif finding.rights is not None:
        facts.append(("rights", f"{finding.rights.name.lower()}, as firedamp key show read them"))
    if len(places) > _PLACES:
        facts.append(("more places", str(len(places) - _PLACES)))
    # Named by the answer before it: two processes that meet the same change tell it once.
    since = "first" if finding.verification.at is None else rfc3339(finding.verification.at)
    return Alert(
        key=f"leak/{finding.fingerprint}/{since}", kind=AlertKind.LEAK,
        severity=max(verifier.grade(finding, said), Severity.HIGH), at=now,
        key_id=finding.access_key_id, fingerprint=finding.fingerprint, facts=tuple(facts),
    )  # fmt: skip


def _show_log(store: Store, common: Common) -> None:
    """Print every request made about keys: when, which id, which host, what for."""
    calls = store.own_calls()
    if not calls:
        common.say("no request was made yet")
    with common.out() as out:
        if common.format is Format.TABLE:
            for call in calls:
                out.write(f"{rfc3339(call.at)}  {call.key_id or '-'}  {call.call}  {call.host}  {call.purpose}\n")
            return
        lines: list[dict[str, show.Json]] = [
            {
                "at": rfc3339(call.at), "key": call.key_id, "call": call.call, "host": call.host,
                "purpose": call.purpose, "nonce": call.nonce,
            }
            for call in calls
        ]  # fmt: skip
        show.json_lines(lines, out.write, whole=common.format is Format.JSON)
