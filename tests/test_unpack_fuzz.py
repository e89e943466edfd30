"""No input raises, none runs past its limits, and none hides what stands beside it."""

from __future__ import annotations

import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.builders import make_key_id, make_secret
from tests.containers import every, gzip, tarred, zipped

from firedamp.scanner.budget import Budget, Limits, in_memory
from firedamp.scanner.containers import WINDOW, Member, opened, walk
from firedamp.scanner.formats import FORMATS, HEAD, container_of
from firedamp.storage.records import Outcome, Skipped

RNG = random.Random(7)
ID, SECRET = make_key_id(RNG), make_secret(RNG)
TEXT = f"aws_access_key_id = {ID}\naws_secret_access_key = {SECRET}\n".encode()
SAMPLES = every(TEXT)
LIMITS = Limits(depth=4, members=50, size=8 << 20, seconds=5)


def walked(data: bytes) -> list[Member | Skipped]:
    kind = container_of(data[:HEAD], data[-66000:])
    if kind is None:
        return []
    budget = Budget(LIMITS, len(data), time.process_time)
    return list(walk(kind, opened(kind, in_memory(data), budget), budget, lambda _: True))


def check(data: bytes) -> None:
    began = time.process_time()
    for item in walked(data):
        if isinstance(item, Member):
            assert 0 < len(item.data) <= WINDOW
            item.container.encode()
        else:
            assert item.outcome is Outcome.FAILED
            assert item.why
    assert time.process_time() - began < LIMITS.seconds + 5


def test_there_is_a_sample_of_every_format() -> None:
    assert {format_.name for format_ in FORMATS} == {*SAMPLES, "git"}, "git's packs are told, and not opened"
    assert {name: container_of(data[:HEAD]) for name, data in SAMPLES.items()} == {name: name for name in SAMPLES}


@pytest.mark.parametrize("name", SAMPLES)
def test_what_is_in_a_container_comes_out_of_it(name: str) -> None:
    items = walked(SAMPLES[name])
    assert not [item for item in items if isinstance(item, Skipped)]
    found = b"\n".join(item.data for item in items if isinstance(item, Member))
    assert ID.encode() in found
    assert SECRET.encode() in found


@pytest.mark.parametrize("outer", ["zip", "tar", "gzip", "mail", "sqlite", "7z"])
@pytest.mark.parametrize("name", SAMPLES)
def test_what_is_in_a_container_in_a_container_comes_out_of_it(name: str, outer: str) -> None:
    from tests import containers

    wrap = {
        "zip": lambda data: zipped({"inner": data}),
        "tar": lambda data: tarred({"inner": data}),
        "gzip": gzip.compress,
        "mail": containers.mail,
        "sqlite": lambda data: containers.database([("inner", data)]),
        "7z": lambda data: containers.seven({"inner": data}),
    }[outer]
    items = walked(wrap(SAMPLES[name]))
    assert not [item for item in items if isinstance(item, Skipped)]
    assert any(ID.encode() in item.data for item in items if isinstance(item, Member))


def bent(draw: st.DrawFn) -> bytes:
    """Draw a sample with some bytes changed, a piece cut out, doubled or put in, or its end cut off."""
    data = bytearray(SAMPLES[draw(st.sampled_from(sorted(SAMPLES)))])
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, len(data)))
        size = draw(st.sampled_from([1, 1, 1, 2, 4, 8, 100, 1000]))
        match draw(st.sampled_from(["change", "extreme", "cut", "double", "end", "insert"])):
            case "change":
                data[at : at + size] = draw(st.binary(min_size=size, max_size=size))
            case "extreme":
                data[at : at + size] = draw(st.sampled_from([b"\xff", b"\x00", b"\x7f", b"\x80", b"9"])) * size
            case "cut":
                del data[at : at + size]
            case "double":
                data[at:at] = data[at : at + size]
            case "end":
                del data[at:]
            case _:
                data[at:at] = draw(st.binary(max_size=20))
    return bytes(data)


@settings(deadline=None, max_examples=400)
@given(st.composite(bent)())
def test_no_bent_container_raises_or_runs_on(data: bytes) -> None:
    check(data)
    check(gzip.compress(data, 1))


@settings(deadline=None, max_examples=200)
@given(st.sampled_from(sorted(SAMPLES)), st.integers(1, 40), st.binary(max_size=600))
def test_no_beginning_with_noise_behind_raises_or_runs_on(name: str, kept: int, noise: bytes) -> None:
    check(SAMPLES[name][:kept] + noise)


@pytest.mark.slow
@settings(deadline=None, max_examples=8_000)
@given(st.composite(bent)())
def test_no_bent_container_raises_or_runs_on_for_long(data: bytes) -> None:
    check(data)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.text(min_size=1, max_size=20), st.binary(max_size=300)), max_size=8), st.integers(0, 8))
def test_members_around_a_key_never_hide_it(others: list[tuple[str, bytes]], at: int) -> None:
    files = {name: data for name, data in others if "\0" not in name and name < "\ud800"}
    names = list(files)
    names.insert(min(at, len(names)), "the key")
    files["the key"] = TEXT
    ordered = {name: files[name] for name in names}
    for data in (tarred(ordered), zipped(ordered)):
        assert any(item.data == TEXT for item in walked(data) if isinstance(item, Member))
