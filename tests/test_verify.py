"""What AWS says of a key: the decision pure, the questions over real HTTP."""

from __future__ import annotations

import base64
import itertools
import os
import random
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests import faults
from tests.builders import make_key_id, make_secret, make_token

from firedamp.scanner import verify as verifier
from firedamp.scanner.asking import Asker, endpoint, read_bedrock, read_sts
from firedamp.scanner.candidates import Credential, Located
from firedamp.scanner.reread import Rereader
from firedamp.scanner.source import Blob
from firedamp.scanner.verify import Answer, Identity, Pause, Question, Refused, Suspect, Trouble
from firedamp.service.loopback import Loopback
from firedamp.storage.records import (
    FileProvenance,
    Finding,
    KeyKind,
    Match,
    Provenance,
    Severity,
    Sight,
    Status,
    Verification,
)
from firedamp.storage.secret import Fingerprint, Secret, fingerprint

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
LIVE = Identity("arn:aws:iam::123456789012:user/u", "123456789012", "AIDAEXAMPLE")
UNKNOWN_ID = Refused("InvalidClientTokenId")
WRONG = Refused("SignatureDoesNotMatch", "", NOW)


def suspect(rank: int = 0, **more: object) -> Suspect:
    secret = more.pop("secret", Secret(f"secret {rank}"))
    values: dict[str, object] = {"kind": KeyKind.ACCESS_KEY, "key_id": "AKIAEXAMPLEEXAMPLE22", "rank": rank, **more}
    credential = Credential(secret=secret, **values)  # type: ignore[arg-type]
    return Suspect(Fingerprint(f"f{rank}"), credential)


def decide(
    suspects: Sequence[Suspect], answers: Sequence[Answer], configured: Sequence[str] = ("aws",)
) -> tuple[dict[str, Status], list[Question | Pause]]:
    steps, said, left = verifier.judge(suspects, configured), list[Question | Pause](), list(answers)
    answer: Answer | None = None
    try:
        while True:
            step = steps.send(answer)
            said.append(step)
            answer = left.pop(0) if isinstance(step, Question) else None
    except StopIteration as end:
        assert not left, "an answer nobody asked for"
        return {name: verification.status for name, verification in end.value.items()}, said


def test_the_right_secret_makes_the_others_wrong_without_asking() -> None:
    statuses, asked = decide([suspect(0), suspect(1), suspect(2)], [LIVE])
    assert statuses == {"f0": Status.ACTIVE, "f1": Status.WRONG_SECRET, "f2": Status.WRONG_SECRET}
    assert len(asked) == 1


def test_one_rejection_ends_all_pairs_of_an_id() -> None:
    statuses, asked = decide([suspect(0), suspect(1), suspect(2)], [UNKNOWN_ID])
    assert set(statuses.values()) == {Status.REJECTED}
    assert len(asked) == 1


def test_a_wrong_secret_is_followed_by_the_pause_that_sts_needs() -> None:
    statuses, asked = decide([suspect(1), suspect(0)], [WRONG, LIVE])
    assert statuses == {"f0": Status.WRONG_SECRET, "f1": Status.ACTIVE}
    assert [type(step) for step in asked] == [Question, Pause, Question]


def test_an_answer_that_decides_nothing_ends_the_questions_for_now() -> None:
    statuses, asked = decide([suspect(0), suspect(1)], [Trouble("no answer in time")])
    assert set(statuses.values()) == {Status.UNKNOWN}
    assert len(asked) == 1


def test_a_temporary_key_without_its_token_is_not_sent() -> None:
    statuses, asked = decide([suspect(0, kind=KeyKind.TEMPORARY_KEY)], [])
    assert statuses == {"f0": Status.UNCHECKED}
    assert asked == []


def test_a_refused_token_ends_the_id_only_when_no_other_token_is_in_reach() -> None:
    one, two = Secret("token one"), Secret("token two")
    kind = KeyKind.TEMPORARY_KEY
    pairs = [suspect(0, kind=kind, token=one), suspect(1, kind=kind, token=one), suspect(2, kind=kind, token=two)]
    statuses, asked = decide(pairs, [UNKNOWN_ID, LIVE])
    assert statuses == {"f0": Status.REJECTED, "f1": Status.REJECTED, "f2": Status.ACTIVE}
    assert len(asked) == 2


def test_an_expired_session_is_expired() -> None:
    statuses, _ = decide([suspect(0, kind=KeyKind.TEMPORARY_KEY, token=Secret("t"))], [Refused("ExpiredToken")])
    assert statuses == {"f0": Status.EXPIRED}


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"kind": KeyKind.MWS_TOKEN}, "shut down"),
        ({"kind": KeyKind.APPSYNC_KEY}, "address"),
        ({"kind": KeyKind.SES_SMTP}, "mail login"),
        ({"kind": KeyKind.SECRET_KEY}, "no key id"),
        ({"secret": None}, "no secret"),
        ({"example": True}, "an example"),
        ({"notes": ("non-AWS endpoint: minio.example.com",)}, "not a key of AWS's"),
    ],
)
def test_what_is_not_sent_says_why(more: dict[str, object], why: str) -> None:
    reason = verifier.why_not(suspect(0, **more).credential)
    assert reason is not None
    assert why in reason


@pytest.mark.parametrize(
    ("hint", "asked"),
    [
        ("", ("aws",)),
        ("eu-west-1", ("aws",)),
        ("us-gov-west-1", ("aws-us-gov",)),
        ("https://s3.cn-north-1.amazonaws.com.cn", ("aws-cn",)),
        ("arn:aws-cn:iam::123456789012:user/x", ("aws-cn",)),
    ],
)
def test_the_partition_is_the_one_that_the_surroundings_name(hint: str, asked: tuple[str, ...]) -> None:
    assert verifier.partitions(suspect(hint=hint).credential, ("aws",)) == asked


def test_a_rejection_names_the_partitions_asked() -> None:
    steps = verifier.judge([suspect()], ("aws", "aws-cn"))
    next(steps)
    steps.send(UNKNOWN_ID)
    with pytest.raises(StopIteration) as end:
        steps.send(UNKNOWN_ID)
    said = end.value.value["f0"]
    assert (said.status, said.partitions) == (Status.REJECTED, ("aws", "aws-cn"))


def test_a_signature_error_is_believed_only_when_the_clocks_agree() -> None:
    assert verifier.in_time(WRONG, NOW) == WRONG
    for doubtful in (
        Refused("SignatureDoesNotMatch", "", NOW + timedelta(minutes=6)),
        Refused("SignatureDoesNotMatch", "", None),
        Refused("SignatureDoesNotMatch", "Signature expired: it is later", NOW),
    ):
        assert isinstance(verifier.in_time(doubtful, NOW), Trouble)
    assert verifier.in_time(UNKNOWN_ID, NOW) == UNKNOWN_ID


def test_an_unknown_code_decides_nothing_and_root_is_said_loudly() -> None:
    assert verifier.read(Refused("RegionDisabledException", "x")).status is Status.UNKNOWN
    root = verifier.read(Identity("arn:aws:iam::123456789012:root", "123456789012", "123456789012"))
    assert root.is_root
    assert "root" in root.detail


def test_what_is_due_depends_on_the_answer_and_its_age() -> None:
    again = {Status.ACTIVE: timedelta(days=1), Status.REJECTED: timedelta(days=30)}

    def due(status: Status, days: float, secret: bool = True) -> bool:
        said = Verification(status=status, at=NOW - timedelta(days=days))
        return verifier.due(said, NOW, again, has_secret=secret)

    assert due(Status.ACTIVE, 1)
    assert not due(Status.ACTIVE, 0.5)
    assert not due(Status.REJECTED, 29)
    assert due(Status.WRONG_SECRET, 31)
    assert due(Status.REJECTED, -400), "asked when the clock was ahead"
    assert not due(Status.CANARY, 999)
    assert not due(Status.EXPIRED, 999)
    assert due(Status.UNCHECKED, 0)
    assert not due(Status.UNCHECKED, 0, secret=False)


def test_severity_follows_the_answer() -> None:
    found = Finding(
        fingerprint=Fingerprint("f"), kind=KeyKind.ACCESS_KEY, access_key_id="k", account_id=None, has_secret=True,
        first_seen=NOW, last_seen=NOW,
    )  # fmt: skip
    grades = {status: verifier.grade(found, Verification(status=status)) for status in Status}
    assert grades[Status.ACTIVE] > grades[Status.UNKNOWN] > grades[Status.WRONG_SECRET] > grades[Status.REJECTED]
    root = Verification(status=Status.ACTIVE, arn="arn:aws:iam::123456789012:root")
    assert verifier.grade(found, root) is Severity.CRITICAL


# Over real HTTP.


@pytest.fixture
def ask() -> Iterator[Callable[..., Verification]]:
    askers: list[Asker] = []

    def ask(url: str, credential: Credential | None = None, *, timeout: float = 60, **environ: str) -> Verification:
        asker = Asker(
            user_agent="firedamp", timeout=timeout, concurrency=2, now=lambda: datetime.now(UTC), random=os.urandom,
            environ={"AWS_ENDPOINT_URL_STS": url, **environ},
        )  # fmt: skip
        askers.append(asker)
        question = Question(credential or suspect().credential, "aws")
        asker.announce(question)
        return verifier.read(asker(question))

    yield ask
    for asker in askers:
        asker.close()


@pytest.mark.parametrize(
    ("fault", "status", "words"),
    [
        (faults.REJECTED, Status.REJECTED, "InvalidClientTokenId"),
        (faults.WRONG_SECRET, Status.WRONG_SECRET, "SignatureDoesNotMatch"),
        (faults.EXPIRED, Status.EXPIRED, "ExpiredToken"),
        (faults.THROTTLED, Status.UNKNOWN, "Throttling"),
        (faults.UNAVAILABLE, Status.UNKNOWN, "ServiceUnavailable"),
        (faults.INTERNAL_ERROR, Status.UNKNOWN, "InternalFailure"),
        (faults.BAD_GATEWAY, Status.UNKNOWN, "HTTP 502"),
        (faults.PROXY_403, Status.UNKNOWN, "not AWS's"),
        (faults.LOGIN_PAGE, Status.UNKNOWN, "not AWS's"),
        (faults.HANG, Status.UNKNOWN, "no answer in time"),
        (faults.RESET, Status.UNKNOWN, "closed"),
        (faults.TRUNCATED, Status.UNKNOWN, "broke off"),
        (faults.EMPTY, Status.UNKNOWN, "not AWS's"),
        (faults.CLOCK, Status.UNKNOWN, "clock"),
        (faults.skewed(faults.WRONG_SECRET, 1), Status.UNKNOWN, "clock"),
        (faults.skewed(faults.REJECTED, 1), Status.REJECTED, "InvalidClientTokenId"),
        (faults.Fault(body=b"x" * 100_000), Status.UNKNOWN, "too long"),
    ],
)
def test_each_answer_and_each_failure_over_http(
    ask: Callable[..., Verification], fault: faults.Fault, status: Status, words: str
) -> None:
    with faults.FaultServer(fault) as server:
        said = ask(server.url, timeout=0.5 if fault is faults.HANG else 60)
    assert said.status is status
    assert words in said.detail


@pytest.mark.parametrize("said", [b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", b"HTTP/1.1 200 OK\r\nX-Slow: "])
def test_an_answer_that_trickles_is_none_in_time(ask: Callable[..., Verification], said: bytes) -> None:
    with faults.trickling(said) as url:
        answer = ask(url, timeout=0.5)
    assert (answer.status, "no answer in time" in answer.detail) == (Status.UNKNOWN, True)


def test_a_dead_endpoint_and_intercepted_tls_decide_nothing(ask: Callable[..., Verification], tmp_path: Path) -> None:
    with faults.dead_port() as url:
        assert ask(url).status is Status.UNKNOWN
    with faults.FaultServer(faults.REJECTED, certificate=faults.untrusted_certificate(tmp_path)) as server:
        said = ask(server.url)
    assert said.status is Status.UNKNOWN
    assert "TLS" in said.detail


def test_the_request_names_us_carries_a_nonce_and_never_the_secret(
    ask: Callable[..., Verification], rng: random.Random
) -> None:
    secret, token = Secret(make_secret(rng)), Secret(make_token(rng))
    credential = Credential(
        kind=KeyKind.TEMPORARY_KEY, key_id=make_key_id(rng, prefix="ASIA"), secret=secret, token=token
    )
    with faults.FaultServer(faults.REJECTED) as server:
        ask(server.url, credential)
        (request,) = server.requests
    assert request.headers["user-agent"].startswith("firedamp firedamp-nonce/")
    assert request.headers["x-amz-security-token"] == token.reveal()
    assert secret.reveal() not in request.text


def test_a_live_key_an_inactive_one_and_a_wrong_secret_on_the_loopback_aws(
    ask: Callable[..., Verification], aws: Loopback
) -> None:
    aws.add_user("deploy")
    key = aws.add_key("deploy")
    credential = Credential(kind=KeyKind.ACCESS_KEY, key_id=key.id, secret=key.secret)
    said = ask(aws.url, credential)
    assert said.status is Status.ACTIVE
    assert said.arn is not None
    assert said.arn.endswith(":user/deploy")
    wrong = Credential(kind=KeyKind.ACCESS_KEY, key_id=key.id, secret=Secret("x" * 40))
    assert ask(aws.url, wrong).status is Status.WRONG_SECRET
    aws.client("iam").update_access_key(UserName="deploy", AccessKeyId=key.id, Status="Inactive")
    assert ask(aws.url, credential).status is Status.REJECTED


def test_what_is_written_down_of_a_call_names_its_host_and_no_password_of_an_endpoint() -> None:
    asker = Asker(
        user_agent="f", timeout=1, concurrency=1, now=lambda: NOW, random=os.urandom,
        environ={"AWS_ENDPOINT_URL": "http://user:EXAMPLEPASSWORD@127.0.0.1:1"},
    )  # fmt: skip
    assert asker.announce(Question(suspect().credential, "aws")).host == "127.0.0.1:1"
    asker.close()


def test_a_question_that_was_not_written_down_is_not_asked() -> None:
    with faults.FaultServer(faults.REJECTED) as server:
        asker = Asker(
            user_agent="f", timeout=1, concurrency=1, now=lambda: NOW, random=os.urandom,
            environ={"AWS_ENDPOINT_URL": server.url},
        )  # fmt: skip
        assert isinstance(asker(Question(suspect().credential, "aws")), Trouble)
        asker.close()
        assert server.requests == []


@pytest.mark.parametrize(
    ("hint", "partition", "host"),
    [
        ("", "aws", "sts.us-east-1.amazonaws.com"),
        ("region eu-west-1", "aws", "sts.eu-west-1.amazonaws.com"),
        ("cn-northwest-1", "aws-cn", "sts.cn-northwest-1.amazonaws.com.cn"),
        ("us-gov-east-1", "aws-us-gov", "sts.us-gov-east-1.amazonaws.com"),
        ("eu-west-1", "aws-cn", "sts.cn-north-1.amazonaws.com.cn"),
        # An account that did not enable it has living keys that it does not know.
        ("me-south-1", "aws", "sts.us-east-1.amazonaws.com"),
        ("https://s3.ap-east-1.amazonaws.com", "aws", "sts.us-east-1.amazonaws.com"),
        ("eu-west-9", "aws", "sts.us-east-1.amazonaws.com"),
    ],
)
def test_the_endpoint_is_regional_where_every_key_is_known(hint: str, partition: str, host: str) -> None:
    assert endpoint(suspect(hint=hint).credential, partition, "sts", {}).url == f"https://{host}/"


def test_endpoints_that_the_user_wants_ignored_are_ignored() -> None:
    environ = {"AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true"}
    assert "amazonaws" in endpoint(suspect().credential, "aws", "sts", environ).url


def test_a_policy_on_the_way_that_names_the_caller_has_recognised_it() -> None:
    body = (
        b"<ErrorResponse><Error><Code>AccessDenied</Code><Message>User: arn:aws:iam::123456789012:user/u is not "
        b"authorized to perform: sts:GetCallerIdentity</Message></Error></ErrorResponse>"
    )
    assert read_sts(403, {}, body) == Identity("arn:aws:iam::123456789012:user/u", "123456789012", "")
    assert isinstance(read_sts(200, {"date": "never"}, b"<GetCallerIdentityResponse>"), Trouble)


def test_bedrock_answers_are_read_with_the_same_care(ask: Callable[..., Verification]) -> None:
    denied = {"x-amzn-errortype": "AccessDeniedException:http://x"}
    named = b'{"message":"User: arn:aws:iam::123456789012:user/b is not authorized to perform: bedrock:List"}'
    assert read_bedrock(200, {}, b'{"modelSummaries":[]}') == Identity("", "", "")
    assert isinstance(read_bedrock(403, denied, named), Identity)
    assert isinstance(read_bedrock(403, denied, b'{"message":"Authentication failed"}'), Refused)
    assert isinstance(read_bedrock(403, {"x-amzn-errortype": "ExpiredTokenException"}, b"{}"), Refused)
    assert isinstance(read_bedrock(403, {}, b"<html>"), Trouble)
    credential = Credential(kind=KeyKind.BEDROCK_LONG, key_id=None, secret=Secret("ABSKEXAMPLE"))
    with faults.FaultServer(faults.Fault(body=b'{"modelSummaries":[]}')) as server:
        said = ask("", credential, AWS_ENDPOINT_URL_BEDROCK=server.url)
        assert server.requests[0].headers["authorization"] == "Bearer ABSKEXAMPLE"
    assert said.status is Status.ACTIVE


@pytest.mark.parametrize(
    ("url", "region"),
    [
        ("X-Amz-Credential=ASIAEXAMPLE%2F20261121%2Feu-west-1%2Fbedrock%2Faws4_request&X-Amz-Date=1", "eu-west-1"),
        ("X-Amz-Credential=ASIAEXAMPLE/20261121/ap-southeast-2/bedrock/aws4_request", "ap-southeast-2"),
        ("X-Amz-Credential=ASIAEXAMPLE%2F20261121%2Fx.example%23%2Fbedrock%2Faws4_request", "us-east-1"),
        ("nothing", "us-east-1"),
    ],
)
def test_a_short_term_bedrock_key_is_asked_about_in_the_region_that_it_was_signed_for(url: str, region: str) -> None:
    packed = base64.b64encode(f"bedrock.amazonaws.com/?Action=CallWithBearerToken&{url}".encode()).decode()
    for text in (packed, packed.rstrip("=")):
        secret = Secret(f"bedrock-api-key-{text}")
        credential = Credential(kind=KeyKind.BEDROCK_SHORT, key_id=None, secret=secret)
        assert endpoint(credential, "aws", "bedrock", {}).url == f"https://bedrock.{region}.amazonaws.com/"
    credential = Credential(kind=KeyKind.BEDROCK_SHORT, key_id=None, secret=Secret("bedrock-api-key-A"))
    assert endpoint(credential, "aws", "bedrock", {}).region == "us-east-1"


def test_many_ids_are_judged_within_the_rate_and_never_more_at_once_than_allowed() -> None:
    class Clock:
        time = 0.0

    starts: list[float] = []
    groups = [[suspect(0, key_id=f"id {n}")] for n in range(200)]
    judged = list(
        verifier.verify(
            groups, lambda _: UNKNOWN_ID, concurrency=4, rate=50, clock=lambda: Clock.time,
            sleep=lambda seconds: setattr(Clock, "time", Clock.time + seconds),
            announce=lambda _: starts.append(Clock.time),
        )
    )  # fmt: skip
    assert len(judged) == 200
    gaps = [after - before for before, after in itertools.pairwise(starts)]
    assert min(gaps) >= 1 / 50 - 1e-9, "no burst"


def test_other_ids_go_on_while_one_waits_after_a_wrong_secret() -> None:
    class Clock:
        time = 0.0

    order: list[str] = []

    def answer(question: Question) -> Answer:
        credential = question.credential
        order.append(f"{credential.key_id}/{credential.rank}")
        return WRONG if credential.rank == 0 and credential.key_id == "a" else LIVE

    groups = [[suspect(0, key_id="a"), suspect(1, key_id="a")], [suspect(0, key_id="b")]]
    list(
        verifier.verify(
            groups, answer, concurrency=1, rate=1000, clock=lambda: Clock.time,
            sleep=lambda seconds: setattr(Clock, "time", Clock.time + seconds),
        )
    )  # fmt: skip
    assert order == ["a/0", "b/0", "a/1"]


def test_a_blob_that_holds_many_keys_is_read_back_once_and_only_the_right_secret_is_used() -> None:
    many = [Credential(kind=KeyKind.ACCESS_KEY, key_id=f"id {n}", secret=Secret(f"s {n}")) for n in range(50)]
    read: list[str] = []

    def open_blob(place: Provenance, blob: str) -> list[Blob]:
        read.append(blob)
        return [] if place == FileProvenance(path="gone") else [Blob(blob, b"")]

    rereader = Rereader(open_blob, lambda _: [Located(each, 1, 1) for each in many])
    match = Match(blob="b", kind=KeyKind.ACCESS_KEY, secret_here=True)
    sights = [
        Sight(source="folder", first_seen=NOW, match=match, provenance=FileProvenance(path=path))
        for path in ("gone", "here")
    ]

    def finding(credential: Credential, secret: Secret | None) -> Finding:
        return Finding(
            fingerprint=fingerprint(credential.kind, credential.key_id, secret), kind=credential.kind,
            access_key_id=credential.key_id, account_id=None, has_secret=True, first_seen=NOW, last_seen=NOW,
        )  # fmt: skip

    assert [rereader(finding(each, each.secret), sights) for each in many] == many
    assert read == ["b", "b"], "once where it is gone, once where it is"
    assert rereader(finding(many[0], Secret("another")), sights) is None
