"""Long runs that decode to text: seen at any alignment, in compiled and in plain code, and nothing else is."""

from __future__ import annotations

import base64
import gzip
import hashlib
import itertools
import json
import quopri
import random
import urllib.parse
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.builders import make_key_id, make_secret

from firedamp.scanner import dense, jit, numbered
from firedamp.scanner.candidates import Located
from firedamp.scanner.detect import detect
from firedamp.scanner.prefilter import Prefilter
from firedamp.scanner.textruns import DECODERS, LONGEST, TextRuns
from firedamp.storage.secret import Secret

ENCODERS: Final[dict[str, Callable[[bytes], bytes]]] = {
    "base64": base64.b64encode,
    "hex": lambda text: text.hex().encode(),
    "percent": lambda text: urllib.parse.quote_from_bytes(text).encode(),
}
WIDE: Final = ENCODERS | {"utf-16": lambda text: text.decode("latin-1").encode("utf-16-le")}
SPELLERS: Final[dict[str, Callable[[bytes], bytes]]] = {
    "hex list": lambda text: text.hex(" ").encode(),
    "hex list, C": lambda text: b", ".join(b"0x%02x" % c for c in text),
    "decimal": lambda text: b", ".join(b"%d" % c for c in text),
    "percent": lambda text: b"".join(b"%%%02X" % c for c in text),
    r"\x": lambda text: b"".join(b"\\x%02x" % c for c in text),
    r"\u": lambda text: b"".join(b"\\u%04x" % c for c in text),
    r"\u{}": lambda text: b"".join(b"\\u{%x}" % c for c in text),
    "octal": lambda text: b"".join(b"\\%03o" % c for c in text),
    "entity": lambda text: b"".join(b"&#%d;" % c for c in text),
    "entity, hex": lambda text: b"".join(b"&#x%x;" % c for c in text),
    "quoted-printable": lambda text: b"".join(b"=%02X" % c for c in text),
}
"""Encoders that write every character as a number."""
USUAL: Final[dict[str, Callable[[bytes], bytes]]] = WIDE | {
    "hex list": SPELLERS["hex list"],
    "decimal": SPELLERS["decimal"],
    "entity": SPELLERS["entity"],
    "escape": lambda text: json.dumps(text.decode("latin-1")).encode(),
    "quoted-printable": quopri.encodestring,
}
PROSE: Final = b"It is a truth universally acknowledged, that a single man in possession of a good fortune,"


def lost(chains: Iterable[tuple[Callable[[bytes], bytes], ...]], prefilter: Prefilter, rng: random.Random) -> list[int]:
    """Return which of the chains of encoders, innermost first, hide a pair."""
    missed = []
    for number, chain in enumerate(chains):
        key_id, secret = make_key_id(rng), make_secret(rng)
        text = f"aws_access_key_id = {key_id}\naws_secret_access_key = {secret}\n".encode()
        for encode in chain:
            text = encode(text)
        found = [each.credential for each in detect(b"x = '%b'\n" % text, prefilter) if isinstance(each, Located)]
        if not any(one.key_id == key_id and one.secret == Secret(secret) for one in found):
            missed.append(number)
    return missed


@pytest.fixture(scope="module")
def folder(cache: Path) -> Path:
    return cache / "firedamp"


@pytest.fixture(scope="module")
def compiled(folder: Path) -> TextRuns:
    made = TextRuns(folder)
    made.load()
    return made


@pytest.mark.parametrize("depth", [3, 4, 5])
def test_base64_hex_and_percent_in_each_other_are_undone(depth: int, folder: Path, rng: random.Random) -> None:
    assert lost(itertools.product(ENCODERS.values(), repeat=depth), Prefilter(folder), rng) == []


@pytest.mark.parametrize("encoders", [USUAL, SPELLERS], ids=["usual", "spelled"])
def test_any_two_encodings_in_each_other_are_undone(
    encoders: dict[str, Callable[[bytes], bytes]], folder: Path, rng: random.Random
) -> None:
    assert lost(itertools.product(encoders.values(), repeat=2), Prefilter(folder), rng) == []


def test_utf_16_is_undone_five_deep(folder: Path, rng: random.Random) -> None:
    def twice(chain: Sequence[object]) -> bool:
        return any(one is other is WIDE["utf-16"] for one, other in itertools.pairwise(chain))

    chains = [one for one in itertools.product(WIDE.values(), repeat=5) if not twice(one)]
    assert lost(rng.sample(chains, 60), Prefilter(folder), rng) == []


def test_what_is_encoded_once_more_in_lines_is_undone(folder: Path, rng: random.Random) -> None:
    def headed(text: bytes) -> bytes:
        return b"[default]\nregion = eu-west-1\noutput = json\n" + text

    def as_plain_hex(text: bytes) -> bytes:
        return b"\n".join(text[at : at + 30].hex().encode() for at in range(0, len(text), 30))

    inner = [*USUAL.values(), base64.encodebytes, lambda text: base64.b64encode(gzip.compress(text))]
    chains = [(headed, one, other) for one in inner for other in (base64.encodebytes, as_plain_hex)]
    assert lost(chains, Prefilter(folder), rng) == []


@pytest.mark.parametrize("encoder", ["base64", "hex"])
def test_a_text_is_seen_at_every_alignment_and_told_where_its_rhythm_begins(encoder: str, compiled: TextRuns) -> None:
    text = ENCODERS[encoder](PROSE)
    rhythm = 4 if encoder == "base64" else 2
    for before, lead in itertools.product(range(9), (b" ", b"%" * 200, b"")):
        glued = lead + b"Zz09aB/+_"[:before] + text[: -(len(text) % rhythm) or None] + b"."
        (run,) = [one for one in compiled.find(glued) if one[1] == ("base64", "hex").index(encoder)]
        end, _, start, stop = run
        assert (start, stop) == (len(lead), len(glued) - 1)
        assert (end - len(lead) - before) % rhythm == 0


@pytest.mark.parametrize("width", [60, 64, 76])
@pytest.mark.parametrize("end", [b"\n", b"\r\n    ", rb"\n", b"=\n", b'",\n    "', b"%0D%0A"])
@pytest.mark.parametrize("encoder", ["base64", "hex"])
def test_a_block_in_lines_is_told_wherever_it_stands(
    encoder: str, end: bytes, width: int, compiled: TextRuns, rng: random.Random
) -> None:
    digits = ENCODERS[encoder](base64.b64encode(rng.randbytes(200)))
    block = end.join(digits[at : at + width] for at in range(0, len(digits), width))
    for before in range(100):
        told = compiled.find(b"." * before + b"\n" + block + b"\n")
        assert any(DECODERS[one.decoder] == encoder for one in told), before


def test_what_is_no_text_is_not_told(compiled: TextRuns, rng: random.Random) -> None:
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


@pytest.mark.parametrize("speller", SPELLERS)
def test_numbers_that_make_a_text_are_told_wherever_they_stand(speller: str, compiled: TextRuns) -> None:
    text = SPELLERS[speller](base64.b64encode(PROSE)[:27])
    for before in range(70):
        glued = b"'" + b"g" * before + b" '" + text + b"' and so on, in words, to the end of it"
        told = [one for one in compiled.find(glued) if DECODERS[one.decoder] in speller + " hex list decimal escape"]
        assert told, before
        assert all(one.start <= before + 3 and one.end >= before + 3 + len(text) for one in told)


@pytest.mark.parametrize("step", [2, 4])
@pytest.mark.parametrize("big_endian", [False, True])
def test_wide_digits_are_told_wherever_they_stand(step: int, big_endian: bool, compiled: TextRuns) -> None:
    unit = bytes(step - 1)
    text = b"".join(unit + bytes([c]) if big_endian else bytes([c]) + unit for c in base64.b64encode(PROSE)[:50])
    for before in range(70):
        glued = b"g" * before + b"\xff" * 4 + text + b"\xff\xff and so on, in words, to the end of it"
        assert {DECODERS[one.decoder] for one in compiled.find(glued)} == {"utf-16"}


def test_numbers_that_make_no_text_are_not_told(compiled: TextRuns, rng: random.Random) -> None:
    noise = [
        rng.randbytes(300).hex(" ").encode(),
        b", ".join(b"0x%02x" % byte for byte in rng.randbytes(300)),
        b", ".join(b"%d" % rng.randrange(1000) for _ in range(300)),
        b", ".join(b"0x00" for _ in range(300)),
        b", ".join(b"%d.%d" % (rng.randrange(99), rng.randrange(99)) for _ in range(300)),
        b"".join(b"%%%02X" % byte for byte in "Съешь ещё этих мягких французских булок".encode()),
        b"".join(rf"\u{ord(c):04x}".encode() for c in "Съешь ещё этих мягких французских булок"),
        b"https://example.com/?q=some+words&page=%2Fa%2Fb&x=10&y=20&name=value&other=1%2C2",
        b"2026-11-22 10:20:30, " * 20,
        b"a = b = 1; c = d == 2; e = f <= 3; " * 20,
        b", ".join(b"%d" % number for number in range(200)),
        b",\n".join(b"%d,\n%d" % (number, number + 40) for number in range(90)),
        b" ".join(b"%02x" % number for number in range(256)),
        PROSE.decode().encode("utf-16-le"),
        bytes(1000),
        b"".join(rng.randrange(1 << 16).to_bytes(4, "little") for _ in range(300)),
    ]
    assert compiled.find(b"\n\n".join(noise)) == []


def test_a_long_list_is_told_again_and_again_up_to_a_limit(compiled: TextRuns) -> None:
    def told(size: int) -> int:
        return len([one for one in compiled.find(b"6a 6b " * size) if DECODERS[one.decoder] == "hex list"])

    assert told(100) == 1
    assert told(3_000) == 5
    assert told(30_000) == 16


def test_many_runs_are_all_told(compiled: TextRuns) -> None:
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
    st.text(max_size=90).map(lambda text: text.encode("utf-16-be", "replace")),
    st.text("0123456789abcdef ,x%\\\\u{}=&#;\\n", max_size=250).map(str.encode),
    st.builds(
        lambda spell, text: spell(text.encode()),
        st.sampled_from(sorted(SPELLERS)).map(SPELLERS.get),
        st.text(max_size=60),
    ),
)


@given(parts=st.lists(_PART, max_size=6))
def test_compiled_and_plain_code_agree(parts: list[bytes], compiled: TextRuns) -> None:
    text = b" ".join(parts)
    assert compiled.find(text) == TextRuns(None).find(text)
    least = dict.fromkeys(dense.DECODERS, dense.LINE) | dict.fromkeys(numbered.DECODERS, numbered.LEAST)
    assert all(run.end - run.start >= least[DECODERS[run.decoder]] for run in compiled.find(text))


def test_without_a_compiler_only_little_is_searched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def none(*_: object) -> None:
        raise jit.NoCompilerError("numba is missing")

    monkeypatch.setattr(jit, "compiled", none)
    runs, text = TextRuns(tmp_path), base64.b64encode(b"a text that is as long as it has to be " * 4)
    assert runs.find(text)
    runs.find(b" " * (300 << 10))
    assert runs.find(text) == []
