"""Trail files in every shape, whole, broken and hostile."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from tests.trails import ACCOUNT, record, role, trail, user

from firedamp.canaries.trailfiles import Contents, Document, read
from firedamp.canaries.watchlist import Watchlist
from firedamp.storage.records import Canary, Outcome

KEY = "AKIAEXAMPLEEXAMPLE33"
WATCHED = Watchlist([Canary(key_id=KEY, name="x", since=datetime(2026, 1, 1, tzinfo=UTC))])
OURS, THEIRS = record(user(KEY), 5), record(role(), 1)
BOTH = [THEIRS, OURS]


def packed(value: object) -> str:
    return base64.b64encode(gzip.compress(json.dumps(value).encode())).decode()


def logs(*records: object) -> dict[str, Any]:
    events = [{"id": str(n), "timestamp": n, "message": json.dumps(each)} for n, each in enumerate(records)]
    return {"messageType": "DATA_MESSAGE", "owner": ACCOUNT, "logGroup": "trail", "logEvents": events}


def envelope(detail: object) -> dict[str, Any]:
    return {"version": "0", "detail-type": "AWS API Call via CloudTrail", "source": "aws.sts", "detail": detail}


def looked_up(*records: object) -> dict[str, Any]:
    return {"Events": [{"EventId": "1", "EventName": "x", "CloudTrailEvent": json.dumps(each)} for each in records]}


def lines(*values: object) -> bytes:
    return "\n".join(json.dumps(each) for each in values).encode() + b"\n"


def whole(value: object) -> bytes:
    return json.dumps(value).encode()


SHAPES: dict[str, bytes] = {
    "as CloudTrail writes it": trail(*BOTH),
    "not packed": gzip.decompress(trail(*BOTH)),
    "pretty": json.dumps({"Records": BOTH}, indent=4).encode(),
    "with a byte order mark": b"\xef\xbb\xbf" + whole({"Records": BOTH}),
    "UTF-16": json.dumps({"Records": BOTH}).encode("utf-16"),
    "other fields before": whole({"version": 1, "Records": BOTH}),
    "a list": whole(BOTH),
    "a record a line": lines(*BOTH),
    "a record a line, packed": gzip.compress(lines(*BOTH)),
    "values one after the other": b"".join(map(whole, BOTH)),
    "files one after the other": trail(THEIRS) + trail(OURS),
    "EventBridge": lines(*map(envelope, BOTH)),
    "a list of EventBridge": whole([*map(envelope, BOTH)]),
    "CloudWatch Logs": whole(logs(*BOTH)),
    "CloudWatch Logs, as a subscription sends it": packed(logs(*BOTH)).encode(),
    "CloudWatch Logs, as Lambda gets it": whole({"awslogs": {"data": packed(logs(*BOTH))}}),
    "CloudWatch Logs through Kinesis": whole({"Records": [{"kinesis": {"data": packed(logs(*BOTH))}}]}),
    "LookupEvents": whole(looked_up(*BOTH)),
    "LookupEvents of the CLI, page by page": lines(looked_up(THEIRS), looked_up(OURS)),
    "a queue's messages": whole({"Messages": [{"Body": json.dumps(envelope(each))} for each in BOTH]}),
}


@pytest.mark.parametrize("data", SHAPES.values(), ids=SHAPES.keys())
def test_every_shape_is_read(data: bytes) -> None:
    contents = read(Document("file", data), WATCHED)
    assert [record for _, record in contents.records()] == [OURS], "only what may concern a watched key"
    assert contents.total == 2
    assert max(max(written) for written in contents.times.values()) == OURS["eventTime"]
    assert (contents.rejected, contents.skipped) == ([], [])


def test_a_single_record_is_a_file_too() -> None:
    assert read(Document("file", whole(OURS)), WATCHED).total == 1


LEFT_OUT: dict[str, tuple[bytes, str]] = {
    "text": (b"hello\nworld\n", "no JSON"),
    "binary": (bytes(range(256)) * 8, "no JSON"),
    "other JSON": (whole({"name": "x", "dependencies": {"a": [1]}}), "without records"),
    "a list of numbers": (whole([1, 2, 3]), "without records"),
    "a digest": (whole({"awsAccountId": ACCOUNT, "digestStartTime": "2026", "logFiles": []}), "digest"),
    "a control message": (whole({"messageType": "CONTROL_MESSAGE", "data": 1}), "control message"),
}


@pytest.mark.parametrize(("data", "why"), LEFT_OUT.values(), ids=LEFT_OUT.keys())
def test_what_is_no_cloudtrail_is_left_out_and_counted(data: bytes, why: str) -> None:
    contents = read(Document("file", data), WATCHED)
    assert (contents.total, contents.rejected) == (0, [])
    (skipped,) = contents.skipped
    assert skipped.outcome is Outcome.LEFT_OUT
    assert why in skipped.why


def test_an_empty_file_is_nothing() -> None:
    assert read(Document("file", b""), WATCHED) == Contents()
    assert read(Document("file", trail()), WATCHED) == Contents()


FAILED: dict[str, bytes] = {
    "a packed file that ends early": trail(*BOTH)[:-20],
    "a packed file that is spoilt": trail(*BOTH)[:40] + b"\0" * 40 + trail(*BOTH)[80:],
    "a packed file with something behind it": trail(*BOTH) + b"rest",
    "a plain file that ends early": whole({"Records": BOTH})[:-200],
}


@pytest.mark.parametrize("data", FAILED.values(), ids=FAILED.keys())
def test_a_trail_file_that_cannot_be_read_has_failed(data: bytes) -> None:
    contents = read(Document("file", data), WATCHED)
    assert [each.outcome for each in contents.skipped] == [Outcome.FAILED]


def test_what_stands_before_a_break_is_read() -> None:
    contents = read(Document("file", whole({"Records": [OURS, THEIRS]})[:-200]), WATCHED)
    assert [record for _, record in contents.records()] == [OURS]


@pytest.mark.parametrize("spoil", ["cut", "spoilt", "followed"])
def test_what_stands_before_the_break_of_a_packed_file_is_read(spoil: str) -> None:
    data = trail(OURS, *(record(role(), n) for n in range(1000)))
    middle = 3 * len(data) // 4
    broken = {
        "cut": data[:middle],
        "spoilt": data[:middle] + bytes(64) + data[middle + 64 :],
        "followed": data + b"rest",
    }
    contents = read(Document("file", broken[spoil]), WATCHED)
    assert [record for _, record in contents.records()] == [OURS]
    assert [(each.outcome, each.why.partition(":")[0]) for each in contents.skipped] == [
        (Outcome.FAILED, "gzip cannot be read")
    ]


def test_a_key_that_stands_behind_a_break_is_told() -> None:
    data = whole({"Records": [THEIRS, OURS]})
    (refused,) = read(Document("file", data[: data.index(KEY.encode()) + 100]), WATCHED).rejected
    assert refused.keys == (KEY,)


@pytest.mark.parametrize("wrap", [trail, lines], ids=["trail", "lines"])
def test_a_number_of_thousands_of_digits_hides_no_use(wrap: Callable[..., bytes]) -> None:
    data = wrap(OURS | {"requestParameters": {"n": "HERE"}}, THEIRS)
    data = gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data
    contents = read(Document("file", data.replace(b'"HERE"', b"7" * 5000)), WATCHED)
    assert (len(contents.kept), contents.total, contents.skipped) == (1, 2, [])


def test_a_bomb_stops_at_the_limit() -> None:
    contents = read(Document("file", gzip.compress(b"0" * 10_000_000)), WATCHED, limit=1_000_000)
    (skipped,) = contents.skipped
    assert skipped.outcome is Outcome.FAILED
    assert "more than 1000000 bytes" in skipped.why


def test_a_line_that_is_no_json_is_rejected_and_the_rest_is_read() -> None:
    contents = read(Document("file", lines(THEIRS) + b"oops {\n" + lines(OURS)), WATCHED)
    assert contents.total == 2
    assert [each.why for each in contents.rejected] == ["no JSON"]


def test_an_insight_record_is_no_record_of_a_call() -> None:
    insight = OURS | {"eventCategory": "Insight", "userIdentity": None}
    insight["insightDetails"] = {"attributions": KEY}
    contents = read(Document("file", trail(insight, THEIRS)), WATCHED)
    assert list(contents.records()) == []
    assert [each.why for each in contents.skipped] == ["an Insight record"]


@pytest.mark.parametrize("wrap", [trail, lines], ids=["trail", "lines"])
def test_deep_nesting_hides_no_use(wrap: Callable[..., bytes]) -> None:
    data = wrap(OURS | {"requestParameters": "HERE"})
    data = gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data
    # Somewhere below a thousand levels a value can just be read by Python and not be written again.
    for levels in (*range(850, 1000), 50_000):
        deep = data.replace(b'"HERE"', b'{"a":' * levels + b'["}"]' + b"}" * levels)
        (found,) = [record for _, record in read(Document("file", deep), WATCHED).records()]
        assert isinstance(found, dict)
        assert found["userIdentity"]["accessKeyId"] == KEY


def test_a_record_that_only_looks_like_one_inside_another_is_not_taken_for_one() -> None:
    forged = [{"eventVersion": "1"}, OURS | {"eventID": "forged"}, {"eventVersion": "2"}]
    contents = read(Document("file", trail(record(role(), requestParameters={"items": forged}))), WATCHED)
    assert contents.total == 1
    assert "forged" not in [each["eventID"] for _, each in contents.records() if isinstance(each, dict)]


def test_bytes_that_are_no_utf8_cost_nothing() -> None:
    data = whole({"Records": [OURS, THEIRS]}).replace(b"203.0.113.7", b"\xff\xfe", 1)
    assert read(Document("file", data), WATCHED).total == 2
    assert len(read(Document("file", data), WATCHED).kept) == 1


def test_a_large_file_with_nothing_watched_in_it_is_counted_without_being_taken_apart() -> None:
    many = [record(role(), minutes) for minutes in range(400)]
    contents = read(Document("file", trail(*many)), WATCHED)
    assert (contents.total, contents.times["us-east-1"][-1], contents.rejected) == (400, many[-1]["eventTime"], [])
    assert list(read(Document("file", trail(*many, OURS)), WATCHED).records()) == [("file#400", OURS)]


def test_a_large_file_of_several_regions_is_taken_apart_for_the_newest_record_of_each() -> None:
    many = [record(role(), minutes, awsRegion="eu-west-1" if minutes < 300 else "us-east-1") for minutes in range(400)]
    times = read(Document("file", trail(*many)), WATCHED).times
    assert {region: max(written) for region, written in times.items()} == {
        "eu-west-1": many[299]["eventTime"], "us-east-1": many[399]["eventTime"]
    }  # fmt: skip


@pytest.mark.parametrize("indent", [None, 1])
def test_a_use_is_found_wherever_it_stands(indent: int | None) -> None:
    for place in range(5):
        many = [record(role(), minutes) for minutes in range(4)]
        many.insert(place, OURS)
        contents = read(Document("file", json.dumps({"Records": many}, indent=indent).encode()), WATCHED)
        assert list(contents.records()) == [(f"file#{place}", OURS)]
