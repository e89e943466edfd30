from __future__ import annotations

import random

import hyperscan
import numpy as np
import pytest
from tests.builders import make_key_id, make_secret

from firedamp.scanner.kernels import HEAD, runs, tables
from firedamp.scanner.seeds import WORDS, seeds


def marks(expressions: tuple[bytes, ...], text: bytes) -> bool:
    """Whether any of the expressions is found in text."""
    database, found = hyperscan.Database(), list[int]()
    count = len(expressions)
    database.compile(expressions=list(expressions), ids=list(range(count)), elements=count, flags=[0] * count)
    database.scan(text, match_event_handler=lambda number, *_: found.append(number))
    return bool(found)


def is_head(text: bytes) -> bool:
    flags = np.zeros(1, np.uint8)
    runs(np.frombuffer(text + b"\0", np.uint8), len(text) + 1, np.zeros(1, np.int64), 1, *tables(), flags)
    return bool(flags[0] & HEAD)


@pytest.mark.parametrize(
    "name", ["secret_access_key", "SecretAccessKey", "aws_secret", "AWS_SECRET", "secret access key"]
)
def test_a_name_cut_anywhere_before_its_secret_marks_one_of_the_pieces(name: str, rng: random.Random) -> None:
    whole = f"{name} = '{make_secret(rng)}'".encode()
    for at in range(len(name) + 1):
        assert marks(WORDS, whole[:at]) or marks(WORDS, whole[at:]), whole[:at]


@pytest.mark.parametrize("name", ["smtp_password", "SES_PASS"])
def test_a_name_cut_anywhere_before_its_smtp_password_marks_one_of_the_pieces(name: str, rng: random.Random) -> None:
    whole = f"{name}=BK{make_secret(rng)}ab".encode()
    for at in range(len(name) + 1):
        assert marks(WORDS, whole[:at]) or marks(WORDS, whole[at:]), whole[:at]


def test_a_key_without_its_head_marks_and_the_id_of_a_user_does_not(rng: random.Random) -> None:
    body = make_key_id(rng)[3:]
    assert is_head(b"x-" + body.encode())
    assert not any(is_head(head + body.encode()) for head in (b"AID", b"ARO", b"ASC"))
    assert not is_head(b"A" + b"AAAADAQABAAABAQDV")


def test_what_an_appsync_key_leaves_marks_and_a_long_name_does_not(rng: random.Random) -> None:
    body = "".join(rng.choices("abcdefghijklmnopqrstuvwxyz234567", k=26)).encode()
    assert is_head(b"x-" + body)
    assert not is_head(b"resource-ec2-subnetroutetableassociation.html")
    heads = seeds().heads
    assert all(marks(heads, text) for text in (b"da2-", b"'da2-", b"xda2-" + body))
    assert not marks(heads, b"7b1fdda2-4c1e-4b7e")
