"""The table of key kinds: what is a key, what only resembles one, and what is an example."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.builders import make_key_id, make_secret, make_token

from firedamp.scanner import keys
from firedamp.scanner.candidates import Candidate, Role
from firedamp.scanner.keys import KINDS, Kind
from firedamp.storage.records import KeyKind

VALUES = [kind for kind in KINDS if kind.exact is not None]
EXAMPLES = [(kind, example) for kind in VALUES for example in kind.examples]
NEAR_MISSES = [(kind, near) for kind in KINDS for near in kind.near_misses]


def candidates(text: bytes) -> list[Candidate]:
    found = (keys.candidate(kind, text, at) for kind in VALUES for at in range(len(text)))
    return [one for one in found if one is not None]


def test_every_kind_of_credential_has_a_row() -> None:
    assert {kind.kind for kind in KINDS} == set(KeyKind)
    for kind in KINDS:
        assert kind.examples
        assert kind.near_misses


@pytest.mark.parametrize(("kind", "example"), EXAMPLES)
def test_an_example_is_a_candidate_of_its_kind(kind: Kind, example: str) -> None:
    [found] = candidates(b"x = '" + example.encode() + b"'")
    assert (found.role, found.kind, found.value.reveal()) == (kind.role, kind.kind, example)
    assert (found.start, found.end) == (5, 5 + len(example))


@pytest.mark.parametrize(("kind", "near"), NEAR_MISSES)
def test_a_near_miss_is_not(kind: Kind, near: str) -> None:
    assert not candidates(near.encode())


@pytest.mark.parametrize(
    "before",
    ["", " ", '"', "=", ":", "/", "_", "-", "\\n", "\\t", "\\r", "\\\\n", "%3D", "%3d", "%0A", "=3D", "\\x3d",
     "\\u003d", "u003d", "\\75", "\\075", "&#61;", "&quot;", "%u003D", "\x1b[0m", "\x1b[1;31m", "\\u001b[32m",
     "é", "\x00", "\xff"],
)  # fmt: skip
def test_an_escape_before_an_id_is_a_border(before: str, rng: random.Random) -> None:
    key = make_key_id(rng)
    [found] = candidates(before.encode() + key.encode() + b"\\n")
    assert found.value.reveal() == key


@pytest.mark.parametrize("before", ["x", "7", "Z", "n", "3D", "\\y", "m", "+" * 3 + "A"])
def test_a_letter_before_an_id_makes_it_part_of_a_run(before: str, rng: random.Random) -> None:
    assert not candidates(before.encode() + make_key_id(rng).encode())


@pytest.mark.parametrize("after", ["17:secret", "e", "d1:ai1ee", "i5e", "l1:ae"])
def test_an_id_whose_length_is_told_ends_there(after: str, rng: random.Random) -> None:
    key = make_key_id(rng)
    assert [one.value.reveal() for one in candidates(f"d2:id20:{key}{after}".encode())] == [key]
    assert not candidates(f"d2:id21:{key}{after}".encode())
    assert not candidates(f"d2:id20:{key}x".encode())


def test_an_id_between_signs_in_a_long_run_of_base64_is_chance(rng: random.Random) -> None:
    key = make_key_id(rng).encode()
    assert not candidates(b"aB3" * 40 + b"+" + key + b"/x")
    assert not candidates(b"x/" + key + b"/" + b"aB3" * 40)
    assert candidates(b"path/to/" + key + b"/" + b"aB3" * 8)


@pytest.mark.parametrize(
    "path",
    ["/var/lib/jenkins/workspace/project/module/src/main/resources/environments/production/credentials/backup/store/",
     "/data/customers2/europe/frankfurt1/Cluster01/Databases/Postgres/Credentials/Users/Jo/Archive/Keys/2024/11/22/x/"],
)  # fmt: skip
def test_an_id_in_a_long_path_is_no_chance(path: str, rng: random.Random) -> None:
    key = make_key_id(rng)
    for text in (path + key, key + path, path + key + path):
        assert [one.value.reveal() for one in candidates(text.encode())] == [key]


def test_an_id_before_its_secret_and_token_is_no_chance(rng: random.Random) -> None:
    key, token = make_key_id(rng, prefix="ASIA"), make_token(rng)
    found = candidates(f"{key}/{make_secret(rng)}/{token}\n".encode())
    assert [one.value.reveal() for one in found] == [key, token]


def test_a_token_is_read_in_the_notation_of_its_place() -> None:
    body = "aB3" * 40
    for written in ("%2B", "%2b", "\\u002b", "+"):
        [found] = candidates(b"FwoGZXIvYXdz" + body.encode() + written.encode() + b"/%2F\\/x%3D")
        assert found.value.reveal() == "FwoGZXIvYXdz" + body + "+///x="
        assert found.role is Role.TOKEN


@pytest.mark.parametrize(
    "text",
    ["IOSFODNN7EXAMPLE", "I44QH8DHBEXAMPLE", "X" * 16, "A" * 16, "234567ABCDEFGHIJ", "ABCDEFGHIJKLMNOP",
     "QWERTYUIOPASDFGH", "2345672345672345", "YOURACCESSKEYIDX", "ZYXWVUTSRQPONMLK", "ABABABABABABABAB",
     "DUMMYKEYQRST4567"],
)  # fmt: skip
def test_placeholders_are_examples(text: str) -> None:
    assert keys.is_example("AKIA" + text)
    assert keys.is_example("ASIA" + text)


def test_a_random_real_id_is_never_an_example() -> None:
    rng = random.Random(20)
    assert not any(keys.is_example(make_key_id(rng)) for _ in range(20_000))


def test_the_odds_against_a_real_id_are_below_one_in_ten_million() -> None:
    """Bound the probability that any rule is met by 16 characters drawn evenly from 32."""
    words = sum((17 - len(word)) * 32.0 ** -len(word) for word in keys._PLACEHOLDER_WORDS)
    few = 35960 * (4 / 32) ** 16
    runs = 9 * (32 + len(keys._SEQUENCES)) * 32.0**-8
    periods = sum(32.0 ** -(16 - period) for period in range(1, 7))
    assert words + few + runs + periods < 1e-7


def test_values_that_aws_publishes_are_examples() -> None:
    assert keys.is_example_value("wJalrXUtnFEMI/K7MDENG/bPxRfiCY" + "EXAMPLEKEY")
    assert keys.is_example_value("x" * 40)
    assert not keys.is_example_value("".join(itertools.islice(itertools.cycle("aB3/xYz7"), 40)))


@given(st.binary(max_size=60), st.binary(max_size=60), st.integers(0, 2**32))
def test_no_text_around_an_id_hides_it_but_letters_and_digits(before: bytes, after: bytes, seed: int) -> None:
    key = make_key_id(random.Random(seed)).encode()
    text = before + b" " + key + b"\x00" + after
    assert (len(before) + 1, len(before) + 21) in {(one.start, one.end) for one in candidates(text)}
