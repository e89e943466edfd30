"""The ground floor: key ids, secrets and their fingerprints, times, errors, rows."""

from __future__ import annotations

import base64
import pickle
import random
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.builders import make_key_id, make_secret

from firedamp.storage import keyid, rows
from firedamp.storage.errors import Failure
from firedamp.storage.records import Status, Tally, Verification
from firedamp.storage.secret import Secret, fingerprint
from firedamp.storage.times import parse_time, retry_after, rfc3339


def test_an_id_of_the_new_generation_carries_its_account(rng: random.Random) -> None:
    for account in ("000000000000", "123456789012", "999999999999"):
        parsed = keyid.parse(make_key_id(rng, account))
        assert parsed == keyid.KeyId(parsed.text if parsed else "", temporary=False, account=account)


def test_an_id_of_the_old_generation_has_no_account_and_gets_none() -> None:
    old = keyid.parse("AKIA" + "IOSFODNN7EXAMPLE")
    assert old is not None
    assert old.account is None


def test_an_account_number_beyond_twelve_digits_is_noise() -> None:
    body = base64.b32encode(((1 << 79) | (10**12 << 39)).to_bytes(10, "big")).decode()
    assert keyid.parse("AKIA" + body) is None
    assert keyid.account_of("AKIA" + body) is None


@pytest.mark.parametrize("text", ["", "AKIA", "AROA" + "Q" * 16, "AKIA" + "Q" * 15 + "1", "AKIA" + "q" * 16])
def test_what_is_no_key_id_is_none(text: str) -> None:
    assert keyid.parse(text) is None


def test_a_temporary_id_says_so(rng: random.Random) -> None:
    parsed = keyid.parse(make_key_id(rng, prefix="ASIA"))
    assert parsed is not None
    assert parsed.temporary


def test_there_are_29_known_canary_accounts() -> None:
    assert len(keyid.CANARY_ACCOUNTS) == 29
    assert all(len(account) == 12 and account.isdecimal() for account in keyid.CANARY_ACCOUNTS)


def test_a_secret_shows_itself_only_when_asked(rng: random.Random) -> None:
    text = make_secret(rng)
    secret = Secret(text)
    assert text not in f"{secret} {secret!r} {[secret]} {secret!s:>10}"
    assert secret.reveal() == text
    assert pickle.loads(pickle.dumps(secret)) == secret  # noqa: S301


def test_a_fingerprint_depends_on_every_part_and_on_nothing_else() -> None:
    one = fingerprint("kind", "id", Secret("secret"))
    assert one == fingerprint("kind", "id", Secret("secret"))
    others = {
        fingerprint("kin", "did", Secret("secret")),
        fingerprint("kind", "ids", Secret("ecret")),
        fingerprint("kind", None, Secret("secret")),
        fingerprint("kind", "id", None),
    }
    assert len(others | {one}) == 5
    assert len(one) == 32


def test_a_fingerprint_is_the_same_on_every_machine() -> None:
    # Baselines and SARIF of other machines hold this value: it never changes.
    assert fingerprint("aws-access-key", "EXAMPLE", Secret("EXAMPLE")) == "911c0373794ad000d9c065466f8d17d1"


@given(st.datetimes(datetime(1000, 1, 1), datetime(8999, 12, 31), timezones=st.just(UTC)))  # noqa: DTZ001 - its own
def test_a_time_written_is_the_time_read(time: datetime) -> None:
    assert parse_time(rfc3339(time)) == time


def test_times_are_read_leniently() -> None:
    assert parse_time("2026-11-21T10:00:00") == datetime(2026, 11, 21, 10, tzinfo=UTC)
    assert parse_time("2026-11-21T12:00:00+02:00") == datetime(2026, 11, 21, 10, tzinfo=UTC)
    assert parse_time("yesterday") is None
    assert parse_time("0001-01-01T00:00:00+14:00") is None
    assert parse_time("9999-12-31T23:59:59Z") is None, "a day could not be added to it"
    assert rfc3339(datetime(2026, 1, 1, 1, tzinfo=timezone(timedelta(hours=1)))) == "2026-01-01T00:00:00Z"


def test_a_failure_says_what_and_what_next() -> None:
    assert str(Failure("the file is gone", "put it back")) == "the file is gone (put it back)"
    assert str(Failure("the file is gone")) == "the file is gone"


def test_tallies_add_up_and_know_nothing() -> None:
    assert Tally(objects=1, bytes=2) + Tally(objects=3, known=4) == Tally(objects=4, bytes=2, known=4)
    assert Tally().nothing
    assert not Tally(known=1).nothing


def test_a_root_key_is_told() -> None:
    assert Verification(status=Status.ACTIVE, arn="arn:aws:iam::123456789012:root").is_root
    assert not Verification(status=Status.ACTIVE, arn="arn:aws:iam::123456789012:user/root").is_root


def test_a_column_of_another_type_is_a_bug_and_says_so() -> None:
    with pytest.raises(TypeError, match="text"):
        rows.text(1)
    with pytest.raises(TypeError, match="integer"):
        rows.number("1")
    with pytest.raises(TypeError, match="time"):
        rows.time("never")
    assert rows.maybe_text(None) is None
    assert rows.maybe_time(None) is None
    assert list(rows.chunks(["a", "b", "c"], 2)) == [["a", "b"], ["c"]]


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("120", 120),
        (" 0 ", 0),
        ("9" * 5000, 999_999_999),
        ("Sat, 21 Nov 2026 22:59:43 GMT", 120),
        ("Saturday, 21-Nov-26 22:59:43 GMT", 120),
        ("Sat, 21 Nov 2026 22:59:43 -0000", 120),
        ("Sat, 21 Nov 2026 22:00:00 GMT", 0),
        ("Sat, 01 Jan 0001 00:00:00 +2359", 0),
        ("", None),
        ("-5", None),
        ("1.5", None),
        ("Sat, 99 Nov 2026", None),
        ("Sat, 21 Nov 2026 22:59:43 +99999999999999", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(said: str, seconds: int | None) -> None:
    after = retry_after(said, datetime(2026, 11, 21, 22, 57, 43, tzinfo=UTC))
    assert after == (None if seconds is None else timedelta(seconds=seconds))
