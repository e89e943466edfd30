"""The mark of our own calls."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firedamp.storage import nonce


@given(st.binary(min_size=16, max_size=16), st.sampled_from(["", "Boto3/1.44 md/Botocore#1.44 "]))
def test_a_mark_is_found_in_a_user_agent(random: bytes, before: str) -> None:
    made = nonce.make(random)
    assert nonce.found(f"[{before}{nonce.mark(made)}]") == (made,)


@pytest.mark.parametrize("digits", ["", "a" * 31, "a" * 33, "A" * 32])
def test_what_only_looks_like_a_mark_is_none(digits: str) -> None:
    assert nonce.found(f"firedamp-nonce/{digits}") == ()
    assert nonce.found("x-firedamp-nonce/" + "a" * 32) == ()


def test_a_nonce_is_made_of_exactly_16_bytes() -> None:
    with pytest.raises(ValueError, match="16 random bytes"):
        nonce.make(b"short")
