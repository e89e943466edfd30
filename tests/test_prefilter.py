"""The compiled forms: they miss nothing, cost little, and are loaded from a cache that can be trusted."""

from __future__ import annotations

import base64
import bz2
import gzip
import lzma
import random
import stat
import threading
from pathlib import Path

import hyperscan
import pytest
from backports import zstd
from tests.builders import make_key_id

from firedamp.scanner import forms
from firedamp.scanner.decode import DECODERS
from firedamp.scanner.keys import KINDS, Kind, Shape, shape
from firedamp.scanner.prefilter import Prefilter, load


@pytest.fixture(scope="module")
def prefilter(cache: Path) -> Prefilter:
    return Prefilter(cache / "firedamp")


VALUES = [(kind, example) for kind in KINDS for example in kind.examples]


def seen(prefilter: Prefilter, text: bytes) -> set[str]:
    """Return what the prefilter sees in a text: names of decoders, `raw` for a value as it stands."""
    return {DECODERS[hit.form.decoder].name if hit.form.decoder is not None else "raw" for hit in prefilter.find(text)}


@pytest.mark.parametrize(("kind", "example"), VALUES)
def test_every_example_is_seen_as_it_stands(kind: Kind, example: str, prefilter: Prefilter) -> None:
    text = b"before\n" + example.encode() + b"\nafter"
    assert "raw" in seen(prefilter, text)
    assert prefilter.any(text)
    assert prefilter.hits(text) == sorted({hit.end for hit in prefilter.find(text)})


def encodings(text: bytes) -> dict[str, list[bytes]]:
    """Write text in every encoding that has a row, in every style and at every alignment."""
    spelled = {
        "hex": ["%02x", "%02X"],
        "hex list": ["%02x ", "%02X:", "%02x-", "0x%02x, ", "0x%02X,", "0x%02x "],
        "decimal": ["%d, ", "%d,", "%d "],
        "percent": ["%%%02X", "%%%02x"],
        "escape": [r"\x%02x", r"\x%02X", r"\u%04x", r"\\u%04X", r"\\x%02x", r"\u{%x}", r"\u{%04x}", r"\x{%X}",
                   r"\U%08x", r"\%03o", r"\%x ", "%%u%04X", "U+%04X ", "U+%04x"],
        "entity": ["&#%d;", "&#%03d;", "&#%04d;", "&#x%x;", "&#x%04X;"],
        "quoted-printable": ["=%02X"],
    }  # fmt: skip
    made = {name: ["".join(style % byte for byte in text).encode() for style in some] for name, some in spelled.items()}
    made["base64"] = [base64.b64encode(b"x" * n + text) for n in range(3)]
    made["base64"] += [base64.urlsafe_b64encode(b"x" * n + text) for n in range(3)]
    made["utf-16"] = [text.decode().encode("utf-16-le"), text.decode().encode("utf-16-be")]
    made["ebcdic"] = [text.decode().encode(codec) for codec in ("cp037", "cp1140")]
    return made


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind.value)
def test_every_example_is_seen_in_every_encoding(kind: Kind, prefilter: Prefilter) -> None:
    for example in kind.examples:
        if kind.words:
            example = example.replace("ses_smtp", "smtp")  # noqa: PLW2901 - the name itself is what is encoded
        elif example.startswith("AKIA") and example[4:].startswith("IOSF"):
            continue
        for name, texts in encodings(example.encode()).items():
            for text in texts:
                assert name in seen(prefilter, b"<" + text + b">"), (name, text[:60])


def test_a_key_id_is_seen_in_two_encodings(prefilter: Prefilter, rng: random.Random) -> None:
    key = make_key_id(rng).encode()
    for name, texts in encodings(key).items():
        for text in texts:
            for shift in range(3):
                assert "base64" in seen(prefilter, base64.b64encode(b"-" * shift + text)), name
            if name in {"base64", "utf-16", "hex"}:
                assert "hex" in seen(prefilter, text.hex().encode())
                assert "utf-16" in seen(prefilter, text.decode("latin-1").encode("utf-16-be"))


@pytest.mark.parametrize("depth", range(1, forms.BASE64_DEPTH + 1))
def test_base64_is_seen_to_its_depth_at_every_alignment(depth: int, prefilter: Prefilter, rng: random.Random) -> None:
    for _ in range(40):
        text = rng.randbytes(rng.randrange(9)) + make_key_id(rng).encode()
        for _ in range(depth):
            text = base64.b64encode(text)
        assert prefilter.any(text)


@pytest.mark.parametrize("head", ["AKIA", "ASIA", "ABIA", "ACCA"])
@pytest.mark.parametrize(
    "joint", ['" + "', "' . '", '"\n    "', '" & "', "\\\n", '", "', '" "', '" \\\n  "', '" || "', '"+b"', "' ~ '"]
)
def test_an_id_cut_anywhere_by_a_joint_is_seen(head: str, joint: str, prefilter: Prefilter, rng: random.Random) -> None:
    key = make_key_id(rng, prefix=head)
    for at in range(1, 20):
        assert "concatenation" in seen(prefilter, f'"{key[:at]}{joint}{key[at:]}"'.encode()), at


def test_an_id_cut_by_a_soft_line_break_or_a_wrapped_line_is_seen(prefilter: Prefilter, rng: random.Random) -> None:
    key = make_key_id(rng)
    for at in range(1, 20):
        assert "quoted-printable" in seen(prefilter, f"{key[:at]}=\r\n{key[at:]}".encode())
    for before in range(3):
        text = base64.b64encode(b"-" * before + key.encode()).decode()
        for at in range(1, len(text)):
            for gap in ("\n", "\r\n    ", "\\n", '" +\n  "'):
                assert "base64" in seen(prefilter, f"{text[:at]}{gap}{text[at:]}".encode()), (before, at)


def test_compressed_base64_is_seen_though_no_head_shows(prefilter: Prefilter, rng: random.Random) -> None:
    for pack in (gzip.compress, bz2.compress, lzma.compress, zstd.compress):
        packed = pack(rng.randbytes(100))
        assert "base64" in seen(prefilter, base64.b64encode(packed))
        assert "base64" in seen(prefilter, base64.b64encode(base64.b64encode(packed)))


def test_plain_text_and_identities_are_not_worth_a_look(prefilter: Prefilter) -> None:
    text = b"AROA and AIDA are identities; QUtJ is short; secret_access_key = ${VALUE}; ASIA PACIFIC\n" * 100
    assert not prefilter.any(text)
    assert prefilter.hits(text) == []


def test_a_window_may_be_a_memoryview(prefilter: Prefilter, rng: random.Random) -> None:
    key = make_key_id(rng).encode()
    assert prefilter.hits(memoryview(b".." + key + b"..")[1:]) == [21]


def test_threads_share_a_prefilter(prefilter: Prefilter, rng: random.Random) -> None:
    text = b"x" * 100_000 + b" " + make_key_id(rng).encode() + b" "
    ends: list[list[int]] = []

    def work() -> None:
        ends.extend(prefilter.hits(text) for _ in range(50))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ends == [[100_021]] * 200


def test_the_compiled_database_is_kept_private_and_reused(tmp_path: Path, rng: random.Random) -> None:
    folder = tmp_path / "cache" / "firedamp"
    Prefilter(folder)
    [copy] = folder.iterdir()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    before = copy.stat().st_mtime_ns
    text = make_key_id(rng).encode()
    assert Prefilter(folder).any(text)
    assert copy.stat().st_mtime_ns == before
    found = [Prefilter(folder).find(text) for _ in range(2)]
    plain = Prefilter()
    plain.ready()
    assert found == [plain.find(text)] * 2
    assert {stat.S_IMODE(each.stat().st_mode) for each in folder.iterdir()} == {0o600}


def one_head() -> tuple[list[bytes], list[int]]:
    return [b"AKIA"], [0]


def test_a_copy_that_is_damaged_or_writable_by_others_is_not_loaded(tmp_path: Path) -> None:
    load("one", one_head, tmp_path)
    [copy] = tmp_path.iterdir()
    copy.write_bytes(b"damaged")
    load("one", one_head, tmp_path)
    good = copy.read_bytes()
    assert good != b"damaged"
    inode = copy.stat().st_ino
    copy.chmod(0o666)
    load("one", one_head, tmp_path)
    assert copy.stat().st_ino != inode
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600


def test_a_cache_that_cannot_be_written_is_worked_without(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"")
    database = load("one", one_head, file / "folder")
    found: list[int] = []
    scratch = hyperscan.Scratch(database)
    database.scan(b"AKIA", match_event_handler=lambda *match: found.append(match[2]), scratch=scratch)
    assert found == [4]
    assert list(tmp_path.iterdir()) == [file]


def test_an_expression_writes_sets_repeats_and_nul_so_that_hyperscan_reads_them() -> None:
    positions: Shape = (*shape(b"A\x00-"), b"ab", b"ab", b"ab")
    assert forms.expression(positions) == rb"A\x00\x2d[ab]{3}"
