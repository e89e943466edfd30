"""Every record that firedamp keeps or counts: read this file first.

Frozen dataclasses, unions and enums; the standard library and `masking` only. Times are aware datetimes in UTC, ids
are text, and no record holds a secret: a credential's secret lives in `secret.Secret`, in flight only, and one that
stands in a path or a reason is masked when the record is made.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING, Final

from firedamp.storage.masking import masked

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from firedamp.storage.secret import Fingerprint


def _mask(record: object, field: str, *, across: bool = False) -> None:
    """Mask the secrets in a field of a record that is being made. There may be a million: most have none."""
    text: str | None = getattr(record, field)
    if text and (told := masked(text, across=across)) is not text:
        object.__setattr__(record, field, told)


# Finding: what leaked, where, and what is known of it.


class KeyKind(StrEnum):
    """What sort of credential a finding is. The table that recognises them is `scanner.keys.KINDS`."""

    ACCESS_KEY = "aws-access-key"
    """A long-term access key (AKIA, ABIA, ACCA), with its secret or alone."""
    TEMPORARY_KEY = "aws-temporary-key"
    """A temporary access key (ASIA), with secret and session token or without."""
    SECRET_KEY = "aws-secret-key"  # noqa: S105
    """A secret access key whose id stands nowhere near."""
    SESSION_TOKEN = "aws-session-token"  # noqa: S105
    """A session token whose id stands nowhere near."""
    BEDROCK_LONG = "aws-bedrock-key"
    BEDROCK_SHORT = "aws-bedrock-short-term-key"
    MWS_TOKEN = "aws-mws-token"  # noqa: S105
    SES_SMTP = "aws-ses-smtp"
    """An SES SMTP password; its user name, when it stands beside it, is the key id."""
    APPSYNC_KEY = "aws-appsync-key"


TEMPORARY: Final = frozenset({KeyKind.TEMPORARY_KEY, KeyKind.SESSION_TOKEN, KeyKind.BEDROCK_SHORT})
"""What ends by itself."""


class Status(StrEnum):
    """What AWS said of a credential."""

    UNCHECKED = "UNCHECKED"
    ACTIVE = "ACTIVE"
    REJECTED = "REJECTED"
    """Unknown, inactive or deleted: STS does not tell which."""
    WRONG_SECRET = "WRONG_SECRET"  # noqa: S105
    """The id lives; this is not its secret."""
    EXPIRED = "EXPIRED"
    CANARY = "CANARY"
    """A honeytoken, ours or a known one: never sent to AWS."""
    UNKNOWN = "UNKNOWN"
    """No answer that decides: time-out, throttling, proxy, clock. Asked again later."""


class TriageState(StrEnum):
    """What a person decided about a finding."""

    OPEN = "open"
    ACCEPTED = "accepted"
    FALSE_POSITIVE = "false-positive"
    REVOKED = "revoked"


class Severity(IntEnum):
    """How much harm a finding can do or an alert tells of; larger is worse."""

    INFO = 0
    LOW = 1
    MEDIUM = 2
    HIGH = 3
    CRITICAL = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What AWS said of a credential, when, and the evidence for it."""

    status: Status
    at: datetime | None = None
    arn: str | None = None
    account_id: str | None = None
    user_id: str | None = None
    detail: str = ""
    """The reason in words: AWS's error code, the partitions asked, why nothing was asked."""
    partitions: tuple[str, ...] = ()

    @property
    def alive(self) -> bool:
        """Whether the key lives, as far as AWS's last answer tells: an answer that decides nothing keeps the ARN."""
        return self.status is Status.ACTIVE or (self.status is Status.UNKNOWN and self.arn is not None)

    @property
    def is_root(self) -> bool:
        """Whether the key belongs to an account's root user: the worst case there is."""
        return self.arn is not None and self.arn.endswith(":root")


UNCHECKED = Verification(status=Status.UNCHECKED)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileProvenance:
    """A blob met as a file, or as a stream when path is `-`. mode is the file's permission bits."""

    path: str
    mode: int | None = None

    def __post_init__(self) -> None:
        _mask(self, "path")


@dataclass(frozen=True, slots=True, kw_only=True)
class GitProvenance:
    """A blob met in a repository.

    commit is the first that introduced it, None for one in no commit. path is relative to the root, None for
    text that is no file (a commit's or tag's own text, an object in no commit). in_head says whether HEAD has it.
    """

    repository: str
    commit: str | None = None
    path: str | None = None
    author: str | None = None
    date: datetime | None = None
    in_head: bool | None = None

    def __post_init__(self) -> None:
        _mask(self, "repository")
        _mask(self, "path", across=True)


Provenance = FileProvenance | GitProvenance


MARK_BETWEEN: Final = ", "
"""What stands between several marks of one line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """Where a credential stands in a blob. line and column count from 1, columns in code points.

    Both are None where there are no lines. container is the chain inside the blob (`inner.tar!file`), decoder the
    chain of encodings (`base64>gzip`). secret_here says whether the secret stands in this blob, or the id alone.
    """

    blob: str
    line: int | None = None
    column: int | None = None
    kind: KeyKind
    decoder: str = ""
    container: str = ""
    secret_here: bool = False
    allowed: str = ""
    """The inline marks in its line, of whichever tools; whether one is honoured is asked when findings are reported."""

    def __post_init__(self) -> None:
        _mask(self, "container", across=True)

    def honours(self, marks: Collection[str]) -> bool:
        """Whether one of these marks stands in its line."""
        return any(mark in marks for mark in self.allowed.split(MARK_BETWEEN))


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One leaked credential, however often it was seen. Known by its fingerprint; holds no secret.

    rank orders the plausible secrets of one id, 0 first. expires is what the place says of a temporary key.
    notes are remarks of the scanner for a person (a non-AWS endpoint beside it, a world-readable file).
    """

    fingerprint: Fingerprint
    kind: KeyKind
    access_key_id: str | None
    account_id: str | None
    has_secret: bool
    has_token: bool = False
    rank: int = 0
    example: bool = False
    canary: bool = False
    expires: datetime | None = None
    notes: tuple[str, ...] = ()
    verification: Verification = UNCHECKED
    state: TriageState = TriageState.OPEN
    state_reason: str = ""
    severity: Severity | None = None
    rights: Severity | None = None
    """How bad the key's rights make it while it lives, None until somebody read them (`key show`)."""
    first_seen: datetime
    last_seen: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """A match together with one way its blob was met: a line of a finding's `matches`."""

    source: str
    """`git`, `folder` or `stdin`; empty when every place it was met in is gone."""
    first_seen: datetime
    match: Match
    provenance: Provenance


# Scan: what was read, and what was not.


class Outcome(StrEnum):
    """Why something was not read. Only FAILED makes a run incomplete."""

    LEFT_OUT = "left out"
    GONE = "gone"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """Something that was not read: what it is, why, and how many of the kind this value stands for.

    passing: another attempt may succeed though nothing changed, as with what took too long.
    """

    outcome: Outcome
    what: str
    why: str
    count: int = 1
    passing: bool = False

    def __post_init__(self) -> None:
        _mask(self, "what")
        _mask(self, "why")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """What one source, or a whole scan, read. Bytes are of content as stored, not of packs."""

    objects: int = 0
    files: int = 0
    bytes: int = 0
    ruled_out: int = 0
    """Objects that the delta filter proved cannot hold a key."""
    known: int = 0
    """Objects and files read by an earlier scan with the same detectors."""
    allowed: int = 0
    """Credentials that an inline mark allows."""
    examples: int = 0
    """Documentation keys and placeholders left out of the result."""

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            objects=self.objects + other.objects,
            files=self.files + other.files,
            bytes=self.bytes + other.bytes,
            ruled_out=self.ruled_out + other.ruled_out,
            known=self.known + other.known,
            allowed=self.allowed + other.allowed,
            examples=self.examples + other.examples,
        )

    @property
    def nothing(self) -> bool:
        """Whether nothing at all was read or known, empty files apart: a scan of nothing proves nothing."""
        return self.objects + self.bytes + self.known + self.ruled_out == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanRun:
    """One scan of one target, as remembered: complete says that nothing failed."""

    target: str
    started: datetime
    ended: datetime | None = None
    complete: bool = False
    detector: str
    tally: Tally = Tally()
    skipped: tuple[Skipped, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenObjects:
    """Object ids that were read to the end: raw, width bytes each, one after the other.

    Without a folder their content was hashed, here or by the git that fetched it for us: they count everywhere. Else
    they are what an object folder claims, and count in that folder only; made tells it from another of the same path.
    """

    width: int
    ids: bytes
    folder: str = ""
    made: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceState:
    """What a source remembers of its last scan by this detector version; only the source reads value."""

    target: str
    detector: str
    value: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Met:
    """One way a blob was met: by which kind of source, and where."""

    source: str
    blob: str
    provenance: Provenance


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What a scan found and read since its last step: committed whole, in one transaction, or not at all."""

    at: datetime
    detector: str
    found: tuple[tuple[Finding, Match], ...] = ()
    met: tuple[Met, ...] = ()
    gone: tuple[Met, ...] = ()
    """Ways a blob was met before that hold no longer."""
    seen: tuple[SeenObjects, ...] = ()
    states: tuple[SourceState, ...] = ()
    alerts: tuple[Alert, ...] = ()
    read: tuple[str, ...] = ()
    """Blobs that were read to their end: what another version found in them, and this one does not, is no match."""
    unread: frozenset[str] = frozenset()
    """Blobs of which a part could not be looked through: what is found in them counts until they can be read."""


# Watched keys, their placements, and the calls we make ourselves.


class CanaryState(StrEnum):
    """The life of a canary. A retired one is still watched; only a deleted one is blind."""

    MINTING = "minting"
    """IAM may have it, its secret is not handed over yet: finished or taken back at the next run."""
    LIVE = "live"
    RETIRED = "retired"


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """Whose a watched key is, as far as mint or `--arn` said it."""

    arn: str | None = None
    principal_id: str | None = None
    user_name: str | None = None
    account_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Canary:
    """A honeytoken of ours: an IAM user with a key and no rights. adopted when it was made elsewhere."""

    key_id: str
    name: str
    owner: Owner = Owner()
    note: str = ""
    tags: tuple[tuple[str, str], ...] = ()
    state: CanaryState = CanaryState.LIVE
    adopted: bool = False
    since: datetime
    profile: str | None = None
    """The AWS profile it was minted with: whose access rotates and retires it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RealKey:
    """A leaked real key that is watched like a canary; it stays a finding, verified and disabled like any other."""

    key_id: str
    name: str
    owner: Owner = Owner()
    note: str = ""
    since: datetime


WatchedKey = Canary | RealKey


class PlacementState(StrEnum):
    """What `canary check` saw at a placement when it last looked."""

    UNPROVEN = "unproven"
    PRESENT = "present"
    MOVED = "moved"
    EDITED = "edited"
    GONE = "gone"
    WORLD_READABLE = "world-readable"
    COMMITTED = "committed"
    COPIED = "copied"
    TAKEN_BACK = "taken back"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where a canary was put. One key, one placement. content is BLAKE2b-128 of what was written there."""

    key_id: str
    kind: str
    """`file`, `s3`, `secretsmanager`, `ssm`, `lambda`, `ec2`, `git`, or `told` for one noted by hand."""
    place: str
    format: str
    content: str = ""
    planted: datetime
    checked: datetime | None = None
    state: PlacementState = PlacementState.UNPROVEN
    detail: str = ""
    was_empty: bool = False
    """Whether the place was there before, with nothing in it: then it stays when this is taken back."""


class MintPurpose(StrEnum):
    """What a user is made for: to be handed over, or to prove the path and be taken back."""

    CANARY = "canary"
    DRILL = "drill"


@dataclass(frozen=True, slots=True, kw_only=True)
class Minting:
    """An IAM user that was asked for: written down before the first call, gone once handed over or taken back.

    At `asked` no user of this name existed. user_id and key_id are there as far as AWS has answered.
    """

    name: str
    account_id: str
    profile: str | None
    purpose: MintPurpose = MintPurpose.CANARY
    note: str = ""
    tags: tuple[tuple[str, str], ...] = ()
    asked: datetime
    user_id: str | None = None
    key_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LastUse:
    """What IAM said of a canary's key when it was asked last. used None: never, as far as IAM knows.

    active None: not known. Times of use are the first in a span of 15 minutes (IAM guide, "last accessed").
    """

    key_id: str
    asked: datetime
    used: datetime | None = None
    service: str = ""
    region: str = ""
    active: bool | None = None
    listed: datetime | None = None
    """When the key's status was asked: that is another call, and made less often."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sound:
    """A part of the watch that was looked at and works."""

    condition: str
    told: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Blind:
    """A part of the watch that does not see. since: when it began, where that can be told."""

    condition: str
    why: str
    since: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsure:
    """A part of the watch that could not be looked at: never taken for working."""

    condition: str
    why: str


Check = Sound | Blind | Unsure


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A check with its history. since: when it began to be what it is; proven: when it last was sound."""

    check: Check
    since: datetime
    at: datetime
    proven: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelStanding:
    """How a channel does: its last delivery, and the oldest alert that was tried there in vain."""

    channel: str
    delivered: datetime | None = None
    waiting: datetime | None = None
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnCall:
    """A call firedamp is about to make about or with a key, written down before it is sent.

    A record that carries the nonce in its user agent and fits principal and call is *own*, once.
    """

    nonce: str
    key_id: str | None
    principal: str
    """The access key id or ARN that signs the call, as CloudTrail will name it."""
    call: str
    """`service:Operation`, as in `sts:GetCallerIdentity`."""
    host: str
    at: datetime
    purpose: str
    event_id: str | None = None
    """The one record recognised as this call; a second is an intruder who read our logs."""


# CloudTrail: feeds, events, sightings, incidents.


class AddressKind(StrEnum):
    """What stands in sourceIPAddress, which is not always an address."""

    PUBLIC = "public"
    PRIVATE = "private"
    """A VPC endpoint shows an address that the caller picks."""
    AWS_SERVICE = "aws service"
    AWS_INTERNAL = "aws internal"
    MISSING = "missing"
    OTHER = "other"


_READS = ("Get", "List", "Describe", "Head", "Lookup", "BatchGet", "Search", "Query", "Scan", "Simulate", "Assume")


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One CloudTrail record: the fields we read. A field that is missing there is None or empty here.

    Fields as in the CloudTrail guide, "record contents". raw is the record itself, zlib-compressed JSON, session
    tokens removed. time is lenient: naive is UTC.
    """

    id: str
    time: datetime
    name: str = ""
    source: str = ""
    """eventSource, as in `sts.amazonaws.com`."""
    region: str = ""
    address: str = ""
    user_agent: str = ""
    error: str = ""
    error_message: str = ""
    read_only: bool | None = None
    identity_type: str = ""
    access_key_id: str = ""
    arn: str = ""
    principal_id: str = ""
    user_name: str = ""
    account_id: str = ""
    issuer_type: str = ""
    issuer_arn: str = ""
    issuer_principal_id: str = ""
    issuer_user_name: str = ""
    issuer_account_id: str = ""
    recipient_account_id: str = ""
    shared_event_id: str = ""
    category: str = ""
    type: str = ""
    addendum: str = ""
    original_event_id: str = ""
    nonces: tuple[str, ...] = ()
    """The marks of our own calls in the user agent."""
    raw: bytes = b""

    @property
    def service(self) -> str:
        """The service's short name, as in `sts`."""
        return self.source.removesuffix(".amazonaws.com").removesuffix(".amazonaws.com.cn")

    @property
    def denied(self) -> bool:
        """Whether AWS refused for want of rights: `AccessDenied…`, `Client.UnauthorizedOperation` and their like."""
        return any(
            word in self.error
            for word in ("AccessDenied", "Unauthorized", "AuthorizationError", "Forbidden", "NotAuthorized")
        )

    @property
    def call(self) -> str:
        """The call as `service:Operation`, as in `sts:GetCallerIdentity`."""
        return f"{self.service}:{self.name}"

    @property
    def failed(self) -> bool:
        """Whether the call did not succeed. A failed console sign-in has a message and no code."""
        return bool(self.error or self.error_message)

    @property
    def wrote(self) -> bool:
        """Whether the call changed something: no read, and no failure. Records before 2020 lack readOnly."""
        read = self.name.startswith(_READS) if self.read_only is None else self.read_only
        return not read and not self.failed


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """Something in a feed that is no CloudTrail record: where it stood and why it was refused."""

    where: str
    why: str
    keys: tuple[str, ...] = ()
    """The watched keys that stand in it: what is said of them is lost, and that is a failure."""

    @property
    def lost(self) -> Skipped | None:
        """The failure that this is, None where no watched key stands in it."""
        if not self.keys:
            return None
        why = f"{', '.join(self.keys)} stands in it, and it is no record: {self.why}"
        return Skipped(outcome=Outcome.FAILED, what=self.where, why=why)


class SightingKind(StrEnum):
    """How a record is about a watched key. The first that fits, in this order."""

    USE = "use"
    DERIVED = "derived"
    MENTION = "mention"
    TAMPER = "tamper"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """An event about a watched key. key_id is None for tamper: the watch itself is touched."""

    key_id: str | None
    kind: SightingKind
    event: Event
    own: bool = False
    """Caused by firedamp itself: kept and counted, and no alarm."""
    note: str = ""
    """What makes this record more than a line: a rule's name, a replayed nonce, a proposed owner; see notes."""
    corrected: bool = False
    """A later record says it better (addendum UPDATED_DATA): kept, and not counted."""

    @property
    def notes(self) -> tuple[str, ...]:
        """The note's parts. What a stranger wrote in the record is never a whole one, nor makes another."""
        return tuple(part for part in self.note.split("; ") if part)


class IncidentState(StrEnum):
    """Whether an incident still gathers sightings."""

    OPEN = "open"
    CLOSED = "closed"


ADDRESSES: Final = 1000
"""Addresses that an incident lists: whoever has a network of machines comes from a new one with each call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """The sightings of one watched key that belong together: one alarm, running counts, every record kept.

    key_id None is an incident of the watch itself (tamper, blind). first and last are event times.
    """

    id: int
    key_id: str | None
    canary: bool
    title: str = ""
    state: IncidentState = IncidentState.OPEN
    reason: str = ""
    """Why it was closed."""
    opened: datetime
    first: datetime
    last: datetime
    use: int = 0
    derived: int = 0
    mention: int = 0
    tamper: int = 0
    own: int = 0
    addresses: tuple[str, ...] = ()
    """Those met first, `ADDRESSES` at most; the sightings have all."""
    services: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()
    calls: tuple[str, ...] = ()
    """What succeeded, as `service:Operation`."""
    denied: int = 0
    writes: int = 0
    changes: int = 0
    """Mentions that changed something: the owner or the key itself was touched."""

    @property
    def serious(self) -> bool:
        """Whether this is an alarm: more than somebody who looked at the key, or failed to touch it."""
        return self.use + self.derived + self.tamper + self.changes > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathering:
    """New sightings of one watched key that join one incident: an old one by number, or a new one (None).

    alerts tell of it; those of a new incident get its number when it is stored.
    """

    incident: int | None
    key_id: str | None
    canary: bool
    title: str
    sightings: tuple[Sighting, ...]
    alerts: tuple[Alert, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """New sightings that belong to no incident and open none: our own calls, failed attempts on the watch."""

    sightings: tuple[Sighting, ...]
    alerts: tuple[Alert, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One record recognised as one of our own calls: the next with this nonce is an intruder's."""

    nonce: str
    event_id: str


Decision = Gathering | Kept | Claim


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """What is known of the keys that new sightings are about, read in the transaction that keeps them."""

    incidents: tuple[Incident, ...] = ()
    own_calls: tuple[OwnCall, ...] = ()
    """Those whose nonce stands in a new sighting."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grown:
    """An incident that got new sightings: before (None when it is new), and after."""

    before: Incident | None
    after: Incident

    @property
    def alarming(self) -> bool:
        """Whether it became an alarm just now."""
        new = self.before is None or not self.before.serious
        return new and self.after.serious and self.after.state is IncidentState.OPEN


@dataclass(frozen=True, slots=True, kw_only=True)
class Watermark:
    """How far a feed was read. position is the feed's own (a file name, a time, a page); newest an event time."""

    feed: str
    position: str
    newest: datetime | None = None
    polled: datetime | None = None
    """When the last poll ended well: the proof that the watch sees. None until one did."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """What a feed brought of one region: event times of the first and the newest record, the longest silence between.

    feed is empty until it is kept.
    """

    feed: str = ""
    region: str
    first: datetime
    newest: datetime
    longest: timedelta = timedelta(0)

    def joined(self, other: Heard) -> Heard:
        """Return both as one. What lies between them, if they lie apart, was silence."""
        apart = max(self.first, other.first) - min(self.newest, other.newest)
        return replace(
            self, first=min(self.first, other.first), newest=max(self.newest, other.newest),
            longest=max(self.longest, other.longest, apart),
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class PageRead:
    """What one page of a feed showed: committed whole, with the watermark, or not at all."""

    feed: str
    sightings: tuple[Sighting, ...] = ()
    watermark: Watermark | None = None
    heard: tuple[Heard, ...] = ()
    """One for each region that a record came of."""
    rejected: tuple[Rejected, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    alerts: tuple[Alert, ...] = ()
    """Of what could not be kept as a sighting."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedTrouble:
    """What a feed brought that was not read, counted by outcome (`rejected`, `left out`, `gone`, `failed`) and reason.

    what is the last of the kind.
    """

    feed: str
    outcome: str
    why: str
    count: int
    what: str
    last: datetime


# Alerts and their delivery.


class AlertKind(StrEnum):
    """What a person must be told."""

    CANARY_USED = "canary used"
    ESCALATION = "escalation"
    MENTIONED = "key mentioned"
    """Somebody looked at a watched key or its owner, or touched it, without using it."""
    LEAK = "live key leaked"
    DRIFT = "placement changed"
    TAMPER = "watch touched"
    BLIND = "watch blind"
    UNLOGGED = "used but not logged"
    OVERDUE = "drill over budget"
    CHANNEL = "channel failing"
    MASQUERADE = "nonce replayed"
    JOB = "job failing"
    TEST = "test"


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """The facts a person must be told; `service.alerts` alone words them.

    key names the alert naturally: the same fact committed twice is one alert. facts are pairs in reading order.
    """

    key: str
    kind: AlertKind
    severity: Severity
    at: datetime
    key_id: str | None = None
    incident: int | None = None
    fingerprint: Fingerprint | None = None
    facts: tuple[tuple[str, str], ...] = ()


class DeliveryState(StrEnum):
    """How far an alert came on one channel."""

    WAITING = "waiting"
    DELIVERED = "delivered"


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """An alert on one channel. Tried with back-off, for days, until delivered: a channel is never switched off."""

    alert: int
    channel: str
    state: DeliveryState = DeliveryState.WAITING
    attempts: int = 0
    next_try: datetime
    delivered: datetime | None = None
    error: str = ""


# The service's own memory.


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRun:
    """One run of a scheduled job."""

    job: str
    started: datetime
    ended: datetime | None = None
    outcome: str = "running"
    """`ok`, `incomplete`, `failed`, `timeout`, `missed`, `running` or, after a crash, `lost`."""
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """Who serves a database: one process, known by host, process id and start, with a heartbeat."""

    owner: str
    started: datetime
    heartbeat: datetime
    process: str = ""
    """What tells on its own machine whether it lives; empty where nothing does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """The numbers that status and metrics show."""

    findings: tuple[tuple[str, str, str, int], ...]
    """(state, verification status, severity or `unknown`, how many), examples left out."""
    incidents: tuple[tuple[str, int], ...]
    watched: tuple[tuple[str, int], ...]
    """(a canary's state, or `real`, how many)."""
    waiting: int
    lag: timedelta
    """How old the oldest alert is that still waits for a channel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drill:
    """One proof that a use is seen: when the call was made, and when each station was reached."""

    nonce: str
    key_id: str
    path_only: bool
    """Proved by a drill key of the same account and regions, not by the canary itself."""
    called: datetime
    recorded: datetime | None = None
    sighted: datetime | None = None
    alerted: datetime | None = None
    delivered: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyAction:
    """Something done to a key at a person's order (disable, rotate, revoke), step by step."""

    key_id: str
    action: str
    step: str
    at: datetime
    outcome: str
    detail: str = ""
