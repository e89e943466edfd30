"""The main path: source -> candidates -> credentials -> findings -> store.

A source yields the blobs worth a look; containers are opened, credentials are detected in every text that comes out,
and each step is committed with the memory of what was read. What the store then holds for the targets is the report.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from firedamp.scanner.candidates import Located
from firedamp.scanner.marks import OWN
from firedamp.scanner.reread import Detect, fingerprint_of
from firedamp.scanner.source import Blob, Borrowed, Checkpoint, Known, Nested, Source
from firedamp.storage.errors import SourceFailure
from firedamp.storage.keyid import CANARY_ACCOUNTS, account_of
from firedamp.storage.records import (
    UNCHECKED,
    Batch,
    Canary,
    FileProvenance,
    Finding,
    KeyKind,
    Match,
    Met,
    Outcome,
    ScanRun,
    Sight,
    Skipped,
    Status,
    Tally,
    Verification,
)
from firedamp.storage.secret import Fingerprint, fingerprint
from firedamp.storage.store import Store

Progress = Callable[[Tally, int], None]
"""Is told what was read so far and how many credentials were found."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What stands in the targets now, and what a reader must know to trust it."""

    findings: tuple[Reported, ...]
    allowed: tuple[Reported, ...] = ()
    """What an honoured mark in its line allows, with the places where it does."""
    tally: Tally
    skipped: tuple[Skipped, ...]
    unsure: int = 0
    """Findings with a place in the targets that could not be read now: whether they stand there is not known."""
    targets: tuple[str, ...]
    borrowed: tuple[str, ...] = ()
    """Object folders outside the targets that were read, for a repository there borrows from them."""

    @property
    def failed(self) -> tuple[Skipped, ...]:
        """What could not be read: with any of it, silence proves nothing."""
        return tuple(each for each in self.skipped if each.outcome is Outcome.FAILED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reported:
    """A finding with every place in the targets where it stands. new: no earlier scan told of it."""

    finding: Finding
    sights: tuple[Sight, ...]
    new: bool
    fresh: bool
    """Some match of it was told by no earlier scan, though the finding may be known and triaged."""


_Part = tuple[str, str, Fingerprint, tuple[int | None, int | None] | None]
"""A blob, a container in it, what a part of a pair would be told as alone, and where: None for anywhere there."""


@dataclass(slots=True)
class _Run:
    """What one target's scan gathered since the last commit, and in all."""

    found: list[tuple[Finding, Match]] = field(default_factory=list)
    parts: set[_Part] = field(default_factory=set)
    blobs: dict[str, None] = field(default_factory=dict)
    read: set[str] = field(default_factory=set)
    """Those that were looked at since a checkpoint that remembers all before it."""
    known: set[str] = field(default_factory=set)
    """Those with matches that were met, and may be read anew: another version may have found them."""
    unread: set[str] = field(default_factory=set)
    tally: Tally = field(default_factory=Tally)
    skipped: list[Skipped] = field(default_factory=list)
    borrowed: list[str] = field(default_factory=list)
    hits: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class _World:
    """What the sources of one scan are read with."""

    store: Store
    detect: Detect
    detector: str
    now: Callable[[], datetime]
    known: Canaries
    progress: Progress | None


_STEP: Final = 2_000
"""Findings that are held back at most before a commit without a checkpoint."""


def scan(
    sources: Sequence[Source],
    store: Store,
    detect: Detect,
    *,
    detector: str,
    now: Callable[[], datetime],
    open_repository: Callable[[str], Source],
    canary_accounts: Collection[str] = (),
    honoured: Collection[str] = (OWN,),
    progress: Progress | None = None,
) -> Report:
    """Read every source, commit what was found, and report what stands in the targets now.

    open_repository makes the source of a repository met inside a folder. A source that cannot be read at all is a
    failed entry of the report; the others go on. honoured are the inline marks that allow a match.
    """
    started = now()
    world = _World(
        store=store, detect=detect, detector=detector, now=now, known=Canaries(store, canary_accounts),
        progress=progress,
    )  # fmt: skip
    tally, skipped, held, unsure, borrowed = Tally(), list[Skipped](), set[Met](), set[Met](), dict[str, None]()
    waiting = deque(sources)
    while waiting:
        source = waiting.popleft()
        begun, run, failed = now(), _Run(), False
        try:
            for nested in _read(source, run, world):
                waiting.append(open_repository(nested.path))
        except SourceFailure as failure:
            failed = True
            run.skipped.append(Skipped(outcome=Outcome.FAILED, what=source.target, why=str(failure)))
        store.add_scan_run(
            ScanRun(
                target=source.target, detector=detector, started=begun, ended=now(), tally=run.tally,
                skipped=tuple(run.skipped), complete=all(s.outcome is not Outcome.FAILED for s in run.skipped),
            )
        )  # fmt: skip
        tally, skipped = tally + run.tally, skipped + run.skipped
        borrowed |= dict.fromkeys(run.borrowed)
        before_here = _met_before(store, source)
        doubtful = set(before_here if failed else source.unsure(before_here))
        unsure |= doubtful
        held |= set(_held(store, source)) - doubtful
    store.tidy(detector, now())
    findings = list(standing(store, held, started))
    # Asked anew: a canary may have been adopted, or its key taken for a real one, while this scan read.
    now_known = Canaries(store, canary_accounts).revised(each.finding for each in findings)
    findings = [replace(each, finding=finding) for each, finding in zip(findings, now_known, strict=True)]
    allowed = tuple(_only(findings, lambda sight: sight.match.honours(honoured)))
    stands = tuple(_only(findings, lambda sight: not sight.match.honours(honoured)))
    tally = replace(
        tally, allowed=sum(len(each.sights) for each in allowed), examples=sum(each.finding.example for each in stands)
    )
    return Report(
        findings=stands, allowed=allowed, tally=tally, skipped=tuple(skipped), borrowed=tuple(borrowed),
        unsure=len(store.fingerprints_in({met.blob for met in unsure - held})),
        targets=tuple(s.target for s in sources),
    )  # fmt: skip


def _only(findings: Iterable[Reported], wanted: Callable[[Sight], bool]) -> Iterator[Reported]:
    """Yield the findings that have wanted places, with these only."""
    for each in findings:
        sights = tuple(sight for sight in each.sights if wanted(sight))
        if sights:
            yield replace(each, sights=sights)


def _read(source: Source, run: _Run, world: _World) -> Iterator[Nested]:
    """Read one source to its end and commit it in steps; yield the repositories inside it."""
    store, detector, now = world.store, world.detector, world.now
    for item in source.blobs():
        match item:
            case Blob():
                for each in world.detect(item):
                    match each:
                        case Located():
                            run.found.append(_found(each, item.id, now(), world.known))
                            run.parts.update(_parts(each, item.id))
                            run.hits += 1
                        case Skipped():
                            run.skipped.append(each)
                            if each.outcome is Outcome.FAILED:
                                source.unread(item.id, each)
                                run.unread.add(item.id)
                run.blobs.setdefault(item.id)
                run.read.add(item.id)
                if len(run.found) >= _STEP:
                    store.record(Batch(at=now(), detector=detector, found=_taken(run), unread=frozenset(run.unread)))
            case Known():
                run.blobs.setdefault(item.id)
                run.known.add(item.id)
            case Nested():
                yield item
            case Borrowed(path=path):
                run.borrowed.append(path)
            case Skipped():
                run.skipped.append(item)
            case Checkpoint():
                run.tally += item.tally
                holding = store.holding({each.blob for each in item.met}).union(match.blob for _, match in run.found)
                met = tuple(each for each in item.met if each.blob in holding)
                store.record(
                    Batch(
                        at=now(), detector=detector, found=_taken(run), met=met, gone=item.gone, seen=item.seen,
                        states=item.states, read=_read_whole(run, item), unread=frozenset(run.unread),
                    )
                )  # fmt: skip
                if world.progress is not None:
                    world.progress(run.tally, run.hits)
    store.record(
        Batch(
            at=now(), detector=detector, found=_taken(run), read=tuple(run.read - run.unread),
            unread=frozenset(run.unread),
        )
    )  # fmt: skip
    # Provenance is asked for once, for all hits together; blobs without a finding need none.
    hits = store.holding(run.blobs)
    met = tuple(Met(source=source.name, blob=blob, provenance=p) for blob, p in source.provenance(hits))
    gone = tuple(source.gone(_met_before(store, source)))
    store.record(Batch(at=now(), detector=detector, met=met, gone=gone))


def _read_whole(run: _Run, done: Checkpoint) -> tuple[str, ...]:
    """Return the blobs that were read to their end by a checkpoint, as far as they may hold a match.

    Of a repository only what is remembered by name: windows of a large object may stand on both sides of it.
    """
    read = set[str]()
    if done.states:
        read, run.read = run.read - run.unread, set()
    for each in done.seen if run.known else ():
        names = {each.ids[at : at + each.width] for at in range(0, len(each.ids), each.width)}
        read |= {name for name in run.known - run.unread if bytes.fromhex(name) in names}
    return tuple(read)


def _taken(run: _Run) -> tuple[tuple[Finding, Match], ...]:
    found, run.found = run.found, []
    return tuple((finding, match) for finding, match in found if not _is_part(run, finding, match))


def _parts(located: Located, blob: str) -> Iterator[_Part]:
    """Yield what the parts of a pair are told as by a window of the blob whose border cuts the pair in two."""
    one = located.credential
    if one.key_id is not None and one.secret is not None:
        # An SMTP user is one of IAM: its name alone is a long-term key's id.
        id_kind, secret_kind = (
            (KeyKind.ACCESS_KEY, one.kind) if one.kind is KeyKind.SES_SMTP else (one.kind, KeyKind.SECRET_KEY)
        )
        # Where no secret is surely its own, an id stands alone as well, and first.
        if one.rank == 0:
            yield blob, located.container, fingerprint(id_kind, one.key_id, None), (located.line, located.column)
        if not one.example:
            yield blob, located.container, fingerprint(secret_kind, None, one.secret), None


def _is_part(run: _Run, finding: Finding, match: Match) -> bool:
    where = match.blob, match.container, finding.fingerprint
    return (*where, None) in run.parts or (*where, (match.line, match.column)) in run.parts


def _held(store: Store, source: Source) -> Iterator[Met]:
    if source.name == "git":
        return store.held(repositories=[source.target])
    return store.held(roots=[source.target])


def _met_before(store: Store, source: Source) -> Iterator[Met]:
    """Yield what earlier scans met in a source's target: in repositories below a folder, too, which may be no more."""
    yield from _held(store, source)
    if source.name == "folder":
        yield from store.held(below=[source.target])


class Canaries:
    """Whose keys are never sent to AWS: our own canaries, and accounts that issue honeytokens to the public."""

    def __init__(self, store: Store, accounts: Collection[str]) -> None:
        """Make it. accounts are those that the user named beside the known ones."""
        self._store = store
        self._own = frozenset(key.key_id for key in store.watched() if isinstance(key, Canary))
        self._accounts = CANARY_ACCOUNTS.union(accounts)

    def verification(self, key_id: str | None, account: str | None) -> Verification:
        """Return what is known of a key without asking AWS."""
        if key_id in self._own:
            return Verification(status=Status.CANARY, detail="a canary of ours")
        if account in self._accounts:
            detail = f"account {account} issues honeytokens to the public"
            return Verification(status=Status.CANARY, detail=detail)
        return UNCHECKED

    def revised(self, findings: Iterable[Finding]) -> Iterator[Finding]:
        """Yield findings as canaries or none by what is known now, and keep that: accounts come, and are taken back."""
        for each in findings:
            said = self.verification(each.access_key_id, each.account_id)
            canary = said.status is Status.CANARY
            if (canary, canary) == (each.canary, each.verification.status is Status.CANARY):
                yield each
            else:
                self._store.set_verification(each.fingerprint, said, canary=canary)
                yield replace(each, canary=canary, verification=said)


def _found(located: Located, blob: str, at: datetime, known: Canaries) -> tuple[Finding, Match]:
    """Turn a credential in flight into what is kept: a finding that holds no secret, and its match."""
    credential = located.credential
    account = None if credential.key_id is None else account_of(credential.key_id)
    verification = known.verification(credential.key_id, account)
    finding = Finding(
        fingerprint=fingerprint_of(credential), kind=credential.kind, access_key_id=credential.key_id,
        account_id=account, has_secret=credential.secret is not None, has_token=credential.token is not None,
        rank=credential.rank, example=credential.example, canary=verification.status is Status.CANARY,
        expires=credential.expires, notes=credential.notes, verification=verification, first_seen=at, last_seen=at,
    )  # fmt: skip
    match = Match(
        blob=blob, line=located.line, column=located.column, kind=credential.kind, decoder=credential.decoder,
        container=located.container, secret_here=credential.secret is not None, allowed=located.allowed,
    )  # fmt: skip
    return finding, match


def standing(store: Store, held: Collection[Met], started: datetime) -> Iterator[Reported]:
    """Yield what stands now where held was met, the worst first; an id alone joins the pairs of the same id.

    A scan that was killed may have recorded what it never told: that is new still.
    """
    places = {met.provenance for met in held}
    findings = store.findings_of(store.fingerprints_in({met.blob for met in held}))
    told = store.told(each.fingerprint for each in findings)
    sights = {
        name: [sight for sight in each if sight.provenance in places]
        for name, each in store.sights([finding.fingerprint for finding in findings]).items()
    }
    paired = defaultdict[str, list[Finding]](list)
    for finding in findings:
        if finding.access_key_id is not None and finding.has_secret:
            paired[finding.access_key_id].append(finding)
    for finding in findings:
        if not finding.has_secret:
            for pair in paired.get(finding.access_key_id or "", []):
                sights[pair.fingerprint] += sights[finding.fingerprint]
    for finding in findings:
        if finding.access_key_id in paired and not finding.has_secret:
            continue
        where = tuple(sorted(sights[finding.fingerprint], key=_order))
        first, last = told.get(finding.fingerprint, (None, None))
        yield Reported(
            finding=finding, sights=where, new=first is None or first >= started,
            fresh=any(last is None or sight.first_seen >= started or sight.first_seen > last for sight in where),
        )  # fmt: skip


def _order(sight: Sight) -> tuple[str, str, str, int, int, str]:
    place = sight.provenance
    path = place.path or ""
    if isinstance(place, FileProvenance):
        return "", path, "", sight.match.line or 0, sight.match.column or 0, sight.match.container
    when = "" if place.date is None else place.date.isoformat()
    return place.repository, when, path, sight.match.line or 0, sight.match.column or 0, sight.match.container


def accepted(report: Report, patterns: Sequence[str], matches: Callable[[str, str], bool]) -> Report:
    """Return the report with failures that the user accepts moved to left out: matches(what, pattern) decides."""
    skipped = tuple(
        replace(each, outcome=Outcome.LEFT_OUT, why=f"accepted: {each.why}")
        if each.outcome is Outcome.FAILED and any(matches(each.what, pattern) for pattern in patterns)
        else each
        for each in report.skipped
    )
    return replace(report, skipped=skipped)


def updated(report: Report, findings: Mapping[Fingerprint, Finding]) -> Report:
    """Return the report with findings as they are known now: after AWS was asked."""
    fresh = tuple(replace(each, finding=findings[each.finding.fingerprint]) for each in report.findings)
    return replace(report, findings=fresh)
