"""Credential -> Verification: what AWS itself says of a key, asked with the fewest calls.

`judge` is the decision, pure: a generator that asks, hears and decides for all plausible secrets of one id. `verify`
carries the questions out, many ids at once, within a rate. Only AWS's own error codes decide, never an HTTP status.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, Protocol

from firedamp.scanner.candidates import Credential
from firedamp.storage.records import Finding, KeyKind, Severity, Status, Verification
from firedamp.storage.secret import Fingerprint

PAUSE: Final = timedelta(seconds=6)
"""After a wrong secret STS answers SignatureDoesNotMatch to the right one too, for about five seconds (measured)."""

UNKNOWN_ID: Final = frozenset(
    {"InvalidClientTokenId", "UnrecognizedClientException", "InvalidAccessKeyId", "AuthFailure"}
)
WRONG_SIGNATURE: Final = frozenset({"SignatureDoesNotMatch", "InvalidSignatureException"})
EXPIRED: Final = frozenset({"ExpiredToken", "ExpiredTokenException"})

_CLOCK: Final = timedelta(minutes=5)
_ABOUT_TIME: Final = ("signature expired", "not yet current", "too skewed")


@dataclass(frozen=True, slots=True)
class Identity:
    """AWS knows the credential: whose it is."""

    arn: str
    account: str
    user_id: str


@dataclass(frozen=True, slots=True)
class Refused:
    """AWS refused with an error code of its own. date is the answer's Date header, where it has one."""

    code: str
    message: str = ""
    date: datetime | None = None


@dataclass(frozen=True, slots=True)
class Trouble:
    """No answer of AWS's: time-out, proxy, TLS, truncation; or one that decides nothing. Asked again later."""

    why: str


Answer = Identity | Refused | Trouble


@dataclass(frozen=True, slots=True)
class Question:
    """One call to be made: this credential, in this partition."""

    credential: Credential
    partition: str


@dataclass(frozen=True, slots=True)
class Pause:
    """The next question about this id has to wait."""

    time: timedelta


Step = Question | Pause
Judgement = dict[Fingerprint, Verification]


class Ask(Protocol):
    """Carries one question to AWS. Called in several threads at once; never raises."""

    def __call__(self, question: Question) -> Answer:
        """Return AWS's answer, or why there is none."""
        ...


@dataclass(frozen=True, slots=True)
class Suspect:
    """A finding with the secret read back from its provenance."""

    fingerprint: Fingerprint
    credential: Credential


def partitions(credential: Credential, configured: Sequence[str]) -> tuple[str, ...]:
    """Return where to ask: the partition that the key's surroundings name, else the configured ones.

    Asking tells that partition's operator the id, so none is asked on a guess.
    """
    hint = credential.hint.lower()
    if "us-gov-" in hint or ":aws-us-gov:" in hint:
        return ("aws-us-gov",)
    if "cn-north-" in hint or "cn-northwest-" in hint or ":aws-cn:" in hint or ".amazonaws.com.cn" in hint:
        return ("aws-cn",)
    return tuple(configured)


def why_not(credential: Credential) -> str | None:
    """Return why a credential is not sent to AWS, or None when it may be."""
    match credential.kind:
        case KeyKind.MWS_TOKEN:
            return "Marketplace Web Service was shut down: no call proves a token's life"
        case KeyKind.APPSYNC_KEY:
            return "an AppSync key lives in one API, whose address is not known"
        case KeyKind.SES_SMTP:
            return "only a mail login would prove an SMTP password"
        case KeyKind.SECRET_KEY | KeyKind.SESSION_TOKEN:
            return "no key id found"
        case KeyKind.TEMPORARY_KEY if credential.secret is not None and credential.token is None:
            return "no session token found"
        case _:
            pass
    if credential.secret is None:
        return "no secret found"
    if credential.example:
        return "an example"
    foreign = next((note for note in credential.notes if note.startswith("non-AWS endpoint")), None)
    return None if foreign is None else f"{foreign}: not a key of AWS's"


def judge(suspects: Sequence[Suspect], configured: Sequence[str]) -> Generator[Step, Answer | None, Judgement]:
    """Decide all plausible secrets of one id, the best first, with the fewest calls.

    One ACTIVE makes the others wrong; one REJECTED ends a long-term id, and a temporary one when no other token is in
    reach; an answer that decides nothing ends the questions for now.
    """
    said: Judgement = {}
    waiting: list[Suspect] = []
    for suspect in sorted(suspects, key=lambda each: each.credential.rank):
        reason = why_not(suspect.credential)
        if reason is None:
            waiting.append(suspect)
        else:
            said[suspect.fingerprint] = Verification(status=Status.UNCHECKED, detail=reason)
    while waiting:
        suspect = waiting.pop(0)
        answer = yield from _ask_partitions(suspect.credential, configured)
        said[suspect.fingerprint] = answer
        match answer.status:
            case Status.ACTIVE:
                for other in waiting:
                    said[other.fingerprint] = Verification(
                        status=Status.WRONG_SECRET, detail="another secret of this id is the right one"
                    )
                return said
            case Status.REJECTED:
                same = suspect.credential.token
                ended = [each for each in waiting if same is None or each.credential.token == same]
                for other in ended:
                    said[other.fingerprint] = answer
                waiting = [each for each in waiting if each not in ended]
            case Status.UNKNOWN:
                for other in waiting:
                    said[other.fingerprint] = replace(answer, detail=f"not asked: {answer.detail}")
                return said
            case Status.WRONG_SECRET if waiting:
                yield Pause(PAUSE)
            case _:
                pass
    return said


def _ask_partitions(credential: Credential, configured: Sequence[str]) -> Generator[Step, Answer | None, Verification]:
    asked: list[str] = []
    last = Verification(status=Status.UNKNOWN, detail="no partition is configured")
    for partition in partitions(credential, configured):
        answer = yield Question(credential, partition)
        assert answer is not None  # noqa: S101 - a question is always answered
        asked.append(partition)
        last = replace(read(answer), partitions=tuple(asked))
        if last.status is not Status.REJECTED:
            return last
    return last


def read(answer: Answer) -> Verification:
    """Read one answer. A code that is not known decides nothing."""
    match answer:
        case Identity():
            detail = "the account's root user" if answer.arn.endswith(":root") else ""
            return Verification(
                status=Status.ACTIVE, arn=answer.arn, account_id=answer.account, user_id=answer.user_id, detail=detail
            )
        case Refused(code=code) if code in UNKNOWN_ID:
            return Verification(status=Status.REJECTED, detail=f"{code}: unknown, inactive or deleted")
        case Refused(code=code) if code in EXPIRED:
            return Verification(status=Status.EXPIRED, detail=code)
        case Refused(code=code) if code in WRONG_SIGNATURE:
            return Verification(status=Status.WRONG_SECRET, detail=f"{code}: the id lives")
        case Refused():
            return Verification(status=Status.UNKNOWN, detail=f"{answer.code}: {answer.message}"[:300])
        case Trouble():
            return Verification(status=Status.UNKNOWN, detail=answer.why[:300])


def in_time(answer: Answer, now: datetime) -> Answer:
    """Doubt a signature error when a clock may be wrong: a wrong secret and a wrong time have the same code."""
    match answer:
        case Refused(code=code, message=message, date=date) if code in WRONG_SIGNATURE:
            if any(words in message.lower() for words in _ABOUT_TIME):
                return Trouble("clock: AWS says that our time is wrong")
            if date is None or abs(date - now) > _CLOCK:
                return Trouble("clock: ours and the answer's differ by more than 5 minutes, or it has none")
        case _:
            pass
    return answer


@dataclass(order=True, slots=True)
class _Task:
    """The judgement of one id under way. ready is in seconds of the driver's clock."""

    ready: float
    number: int
    steps: Generator[Step, Answer | None, Judgement]
    answer: Answer | None = None


def verify(
    ids: Sequence[Sequence[Suspect]],
    ask: Ask,
    *,
    configured: Sequence[str] = ("aws",),
    concurrency: int = 8,
    rate: float = 20.0,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
    announce: Callable[[Question], None] = lambda _: None,
) -> Iterator[Judgement]:
    """Ask about every id and yield each judgement when it is made.

    ids are groups of suspects with one id. At most concurrency calls run at once and at most rate start a second,
    evenly: ten thousand ids make no burst. announce is called in this thread before each call, to write it down first.
    """
    counter = itertools.count()
    tasks = [_Task(0.0, next(counter), judge(group, configured)) for group in ids]
    heapq.heapify(tasks)
    running: dict[Future[Answer], _Task] = {}
    next_start = clock()
    with ThreadPoolExecutor(max_workers=concurrency) as pool:
        while tasks or running:
            now = clock()
            while tasks and tasks[0].ready <= now and len(running) < concurrency:
                task = heapq.heappop(tasks)
                try:
                    step = task.steps.send(task.answer)
                except StopIteration as end:
                    yield end.value
                    continue
                task.answer = None
                match step:
                    case Pause():
                        task.ready = now + step.time.total_seconds()
                        heapq.heappush(tasks, task)
                    case Question():
                        sleep(max(0.0, next_start - clock()))
                        next_start = max(next_start, clock()) + 1.0 / rate
                        announce(step)
                        running[pool.submit(ask, step)] = task
            done, _ = wait(running, timeout=0.05 if running and tasks else None, return_when=FIRST_COMPLETED)
            for future in done:
                task = running.pop(future)
                task.answer, task.ready = future.result(), 0.0
                heapq.heappush(tasks, task)
            if not running and tasks:
                sleep(max(0.0, tasks[0].ready - clock()))


def due(said: Verification, now: datetime, again: Mapping[Status, timedelta], *, has_secret: bool) -> bool:
    """Whether a finding is to be asked about now, given how old each answer may become. Canaries never are."""
    match said.status:
        case Status.CANARY | Status.EXPIRED:
            return False
        case Status.UNCHECKED:
            return has_secret
        case _:
            wait_for = again.get(said.status, timedelta(days=30))
            # One that was written by a clock that was ahead is due.
            return said.at is None or not timedelta(0) <= now - said.at < wait_for


def grade(finding: Finding, said: Verification) -> Severity:
    """Return how bad a finding is: by its rights, where they are known and it may live, else by AWS's answer."""
    if finding.canary or finding.example:
        return Severity.INFO
    match Status.ACTIVE if said.alive else said.status:
        case Status.ACTIVE:
            return Severity.CRITICAL if said.is_root else _rights(finding, Severity.HIGH)
        case Status.REJECTED | Status.EXPIRED | Status.CANARY:
            return Severity.INFO
        case Status.WRONG_SECRET:
            return Severity.LOW
        case Status.UNCHECKED | Status.UNKNOWN:
            return _rights(finding, Severity.MEDIUM if finding.has_secret else Severity.LOW)


def _rights(finding: Finding, otherwise: Severity) -> Severity:
    return otherwise if finding.rights is None else finding.rights
