"""Long runs that decode to text: seen at any alignment, in compiled and in plain code, and nothing else is."""

from __future__ import annotations

import base64
import hashlib
import itertools
import random
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.builders import make_key_id, make_secret

from firedamp.scanner import jit
from firedamp.scanner.candidates import Located
from firedamp.scanner.dense import LEAST, LONGEST, DenseRuns
from firedamp.scanner.detect import detect
from firedamp.scanner.prefilter import Prefilter

ENCODERS: Final[dict[str, Callable[[bytes], bytes]]] = {
    "base64": base64.b64encode,
    "hex": lambda text: text.hex().encode(),
    "percent": lambda text: urllib.parse.quote_from_bytes(text).encode(),
}


@pytest.fixture(scope="module")
def folder(cache: Path) -> Path:
    return cache / "firedamp"


@pytest.fixture(scope="module")
def compiled(folder: Path) -> DenseRuns:
    made = DenseRuns(folder)
    made.load()
    return made


@pytest.mark.parametrize("depth", [3, 4, 5])
def test_base64_hex_and_percent_in_each_other_are_undone(depth: int, folder: Path, rng: random.Random) -> None:
    prefilter = Prefilter(folder)
    lost = []
    for chain in itertools.product(ENCODERS, repeat=depth):
        key_id, secret = make_key_id(rng), make_secret(rng)
        text = f"aws_access_key_id = {key_id}\naws_secret_access_key = {secret}\n".encode()
        for name in chain:
            text = ENCODERS[name](text)
        found = [each.credential for each in detect(b"x = '%b'\n" % text, prefilter) if isinstance(each, Located)]
        if not any(one.key_id == key_id and one.secret and one.secret.reveal() == secret for one in found):
            lost.append(">".join(reversed(chain)))
    assert not lost


@pytest.mark.parametrize("encoder", ["base64", "hex"])
def test_a_text_is_seen_at_every_alignment_and_told_where_its_rhythm_begins(encoder: str, compiled: DenseRuns) -> None:
    text = ENCODERS[encoder](
        b"It is a truth universally acknowledged, that a single man in possession of a good fortune,"
    )
    rhythm = 4 if encoder == "base64" else 2
    for before, lead in itertools.product(range(9), (b" ", b"%" * 200, b"")):
        glued = lead + b"Zz09aB/+_"[:before] + text[: -(len(text) % rhythm) or None] + b"."
        (run,) = [one for one in compiled.find(glued) if one[1] == ("base64", "hex").index(encoder)]
        end, _, start, stop = run
        assert (start, stop) == (len(lead), len(glued) - 1)
        assert (end - len(lead) - before) % rhythm == 0


def test_what_is_no_text_is_not_told(compiled: DenseRuns, rng: random.Random) -> None:
    noise = [
        base64.b64encode(rng.randbytes(300)),
        rng.randbytes(300).hex().encode(),
        b"-" * 300,
        b"=" * 300,
        b"/" * 300,
    ]
    noise += [hashlib.sha512(b"%d" % n).hexdigest().encode() for n in range(50)]
    noise += [b"usr/share/doc/packages/and/so/on/" * 9, b"CamelCaseNameOfSomethingLong" * 9, b"\0" * 300, b"\xff" * 300]
    assert compiled.find(b"\n".join(noise)) == []
    assert compiled.find(base64.b64encode(b"short text")) == []


def test_many_runs_are_all_told(compiled: DenseRuns) -> None:
    line = base64.b64encode(b"a line of plain text that is encoded all by itself, and long enough to be told") + b"\n"
    assert len(compiled.find(line * 3_000)) == 3_000


def test_a_very_long_run_is_worth_a_look_but_not_undone(folder: Path) -> None:
    text = base64.b64encode(b"plain text " * LONGEST)
    prefilter = Prefilter(folder)
    assert prefilter.any(text)
    assert prefilter.find(text) == []


_PART = st.one_of(
    st.binary(max_size=40),
    st.text("ABCDabcd0189+/-_", max_size=250).map(str.encode),
    st.text("0123456789abcdef", max_size=250).map(str.encode),
    st.text(max_size=90).map(lambda text: base64.b64encode(text.encode())),
    st.text(max_size=90).map(lambda text: text.encode().hex().encode()),
)


@given(parts=st.lists(_PART, max_size=6))
def test_compiled_and_plain_code_agree(parts: list[bytes], compiled: DenseRuns) -> None:
    text = b" ".join(parts)
    assert compiled.find(text) == DenseRuns(None).find(text)
    assert all(stop - start >= LEAST for _, _, start, stop in compiled.find(text))


def test_without_a_compiler_only_little_is_searched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def none(*_: object) -> None:
        raise jit.NoCompilerError("numba is missing")

    monkeypatch.setattr(jit, "compiled", none)
    runs, text = DenseRuns(tmp_path), base64.b64encode(b"a text that is as long as it has to be " * 4)
    assert runs.find(text)
    runs.find(b" " * (300 << 10))
    assert runs.find(text) == []
