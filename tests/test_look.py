"""A look at one blob: its own text, its containers, and the marks in its lines."""

from __future__ import annotations

import base64
import functools
import gzip
import io
import itertools
import plistlib
import random
import sqlite3
import urllib.parse
import uuid
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.builders import make_key_id, make_secret
from tests.containers import tarred

from firedamp.scanner.candidates import Located
from firedamp.scanner.formats import container_of
from firedamp.scanner.look import Look, Sense, prefilter
from firedamp.scanner.marks import marked
from firedamp.scanner.ownkeys import OwnKey, OwnKeys
from firedamp.scanner.source import Blob
from firedamp.scanner.unpack import Unpacker
from firedamp.storage.records import Outcome, Skipped
from firedamp.storage.secret import Secret

OWN = OwnKeys((OwnKey("work", make_key_id(random.Random(5), prefix="ASIA"), Secret(make_secret(random.Random(6)))),))
"""One for all tests: to compile what looks for a key takes a second."""


@pytest.fixture(scope="module")
def folder(cache: Path) -> Path:
    return cache / "firedamp"


def looked(folder: Path, blob: Blob) -> list[Located | Skipped]:
    with Unpacker() as unpacker:
        return list(Look(functools.partial(prefilter, folder), unpacker)(blob))


def zipped(name: str, content: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(name, content)
    return out.getvalue()


def test_what_a_container_gives_is_not_told_again_as_raw_bytes(
    folder: Path, rng: random.Random, tmp_path: Path
) -> None:
    key_id, secret = make_key_id(rng), make_secret(rng)
    with sqlite3.connect(tmp_path / "x.db") as database:
        database.execute("CREATE TABLE t (a TEXT)")
        database.execute("INSERT INTO t VALUES (?)", (f"AWS_ACCESS_KEY_ID={key_id} AWS_SECRET_ACCESS_KEY={secret}",))
    database.close()
    path = tmp_path / "x.db"
    (found,) = looked(folder, Blob("b" * 40, path.read_bytes(), path=str(path)))
    assert isinstance(found, Located)
    assert found.container
    assert found.line is None, "cells have no lines of their own"


def test_a_pair_that_a_container_gives_is_not_given_another_secret_by_its_raw_bytes(
    folder: Path, rng: random.Random
) -> None:
    """A binary plist's strings stand apart from the dictionaries that name them."""
    truth = {make_key_id(rng): make_secret(rng) for _ in range(3)}
    accounts = [
        {"accessKey": key_id, "secretKey": secret, "uuid": str(uuid.UUID(bytes=rng.randbytes(16)))}
        for key_id, secret in truth.items()
    ]
    data = plistlib.dumps({"accounts": accounts}, fmt=plistlib.FMT_BINARY)
    found = [each.credential for each in looked(folder, Blob("b" * 40, data)) if isinstance(each, Located)]
    assert {(one.key_id, one.secret) for one in found} == {(key_id, Secret(one)) for key_id, one in truth.items()}


def test_a_broken_container_is_told_and_its_bytes_are_looked_at(folder: Path, rng: random.Random) -> None:
    key_id = make_key_id(rng)
    broken = zipped("member", b"x" * 100)[:60] + b"\n" + key_id.encode() + b"\n"
    found = looked(folder, Blob("b" * 40, broken))
    assert [each.credential.key_id for each in found if isinstance(each, Located)] == [key_id]
    failed = [each for each in found if isinstance(each, Skipped)]
    assert failed
    assert all(each.outcome is Outcome.FAILED and each.what.startswith("b" * 40) for each in failed)


def test_a_zip_behind_a_large_program_is_told_once(folder: Path, rng: random.Random, tmp_path: Path) -> None:
    inside, before = make_key_id(rng), make_key_id(rng)
    content = b"#!/bin/sh\n" + before.encode() + b"\n" + b"#" * 9000 + zipped("member", inside.encode())
    path = tmp_path / "x"
    path.write_bytes(content)
    first = Blob("b" * 40, content[:4096], tail=content[-100:], path=str(path))
    with Unpacker() as unpacker:
        look = Look(functools.partial(prefilter, folder), unpacker)
        found = [*look(first), *look(Blob("b" * 40, content, window=True, path=str(path)))]
    told = [(each.credential.key_id, each.container, each.line) for each in found if isinstance(each, Located)]
    assert told == [(before, "", 2), (inside, "member", 1)]


def test_what_the_parts_of_an_inner_container_give_is_not_told_again_as_its_bytes(
    folder: Path, rng: random.Random
) -> None:
    key_id, cut = make_key_id(rng), make_key_id(rng)
    notebook = f'{{"cells": [{{"source": "key = {key_id}"}}], "nbformat": 4}}'.encode()
    secret, other = make_secret(rng), make_secret(rng)
    document = (
        f"<w:document xmlns='{other}'><w:p><w:t>{cut[:9]}</w:t><w:t>{cut[9:]}</w:t></w:p><w:p>{key_id}</w:p>{secret}"
    )
    members = {"a": notebook, "word/document.xml": document.encode()}
    found = looked(folder, Blob("b" * 40, tarred(members)))
    told = [(each.credential.key_id, each.container, each.line) for each in found if isinstance(each, Located)]
    assert told == [(key_id, "a!cells", 1), (cut, "word/document.xml", None), (key_id, "word/document.xml", None)]


def test_no_container_begins_in_a_window(folder: Path, rng: random.Random) -> None:
    data = zipped("member", make_key_id(rng).encode())
    found = looked(folder, Blob("b" * 40, data, 7, 3, window=True))
    assert all(isinstance(each, Located) and not each.container for each in found)


def test_lines_of_a_window_count_from_where_it_begins(folder: Path, rng: random.Random) -> None:
    text = f"first\nkey {make_key_id(rng)}  # firedamp:allow\n"
    (found,) = looked(folder, Blob("b" * 40, text.encode(), 100, 1, window=True))
    assert isinstance(found, Located)
    assert (found.line, found.column, found.allowed) == (101, 5, "firedamp:allow")


def test_a_mark_needs_a_line() -> None:
    skipped = Skipped(outcome=Outcome.FAILED, what="x", why="y")
    assert list(marked([skipped], b"firedamp:allow", 1)) == [skipped]


def test_a_sense_sees_the_users_own_values_too(folder: Path) -> None:
    own, secret = OWN, OWN.keys[0].secret.reveal()
    data = f"nothing but {secret}".encode()
    assert not Sense(folder)(data)
    assert Sense(folder, own)(data)
    assert len(data) in Sense(folder, own).hits(data)
    assert Sense(folder).hits(data) == []
    assert own.keys[0].kind == "aws-temporary-key"
    assert secret not in repr(own)


ENCODERS: dict[str, Callable[[bytes], bytes]] = {
    "base64": base64.b64encode,
    "utf-16": lambda raw: raw.decode("latin-1").encode("utf-16-le"),
    "hex": lambda raw: raw.hex().encode(),
    "percent": lambda raw: b"".join(b"%%%02X" % byte for byte in raw),
    "escape": lambda raw: b"".join(rb"\x%02x" % byte for byte in raw),
    "entity": lambda raw: b"".join(b"&#%d;" % byte for byte in raw),
}


@pytest.mark.parametrize(
    "chain",
    [
        *itertools.permutations(ENCODERS, 2),
        *itertools.product(("base64", "utf-16", "hex", "percent"), repeat=3),
        *[("base64",) * depth for depth in (1, 4, 5)],
    ],
    ids=">".join,
)
def test_the_users_own_values_are_seen_through_encodings_of_encodings(
    rng: random.Random, chain: tuple[str, ...]
) -> None:
    own = OWN
    before, after = (bytes(rng.choices(b"abc :=", k=rng.randrange(9))) for _ in range(2))
    data = before + own.keys[0].secret.reveal().encode() + after
    for name in reversed(chain):
        data = ENCODERS[name](data)
    (found,) = own.find(data, 1, 1, [])
    assert found.credential.decoder == ">".join(chain)


QUOTERS: dict[str, Callable[[str], str]] = {
    "percent": lambda text: urllib.parse.quote(text, safe=""),
    "percent>percent": lambda text: urllib.parse.quote(urllib.parse.quote(text, safe=""), safe=""),
    "escape": lambda text: text.replace("/", r"\/").replace("+", r"\u002b"),
    "entity": lambda text: text.replace("+", "&#43;").replace("/", "&#x2F;"),
    "quoted-printable": lambda text: text[:17] + "=\r\n" + text[17:],
    "concatenation": lambda text: f'"{text[:10]}" + "{text[10:30]}" +\n  "{text[30:]}"',
    "base64>gzip": lambda text: base64.b64encode(gzip.compress(f"what is {text}?".encode())).decode(),
}


@functools.cache
def quotable(number: int) -> OwnKeys:
    """Return keys whose secrets hold two signs that are quoted; with more, no piece might be left that no cut is in."""
    rng, keys = random.Random(number), []
    for _ in range(number):
        secret = make_secret(rng).replace("/", "a").replace("+", "b")
        keys.append(OwnKey("work", make_key_id(rng), Secret(f"{secret[:12]}/{secret[13:26]}+{secret[27:]}")))
    return OwnKeys(tuple(keys))


@pytest.mark.parametrize("number", [3, pytest.param(20, marks=pytest.mark.slow)])
@pytest.mark.parametrize("chain", QUOTERS)
def test_the_users_own_values_are_seen_where_signs_are_quoted_and_strings_cut(
    chain: str, number: int, folder: Path
) -> None:
    own = quotable(number)
    for key in own.keys:
        data = f"some text\nand then x = {QUOTERS[chain](key.secret.reveal())} and more\n".encode()
        with Unpacker() as unpacker:
            look = Look(functools.partial(prefilter, folder), unpacker, own)
            (found,) = [one for one in look(Blob("b", data)) if isinstance(one, Located)]
        assert (found.credential.decoder, found.line) == (chain, 2)
        assert found.column == (15 if chain == "concatenation" else 14)
        assert found.credential.key_id == key.key_id


def test_many_copies_of_one_value_hide_no_other() -> None:
    own = quotable(3)
    one, other = (key.secret.reveal() for key in own.keys[:2])
    text = f"x%20 {one}\n" * 300 + f"y {other[:9]}%2F{other[10:]}\n{QUOTERS['percent'](other)}%20{one}"
    text = text.replace("%2F", other[9], 1) if other[9].isalnum() else text
    found = list(own.find(text.encode(), 1, 1, []))
    assert {each.credential.key_id for each in found} == {key.key_id for key in own.keys[:2]}
    assert {each.credential.decoder for each in found if each.credential.key_id == own.keys[0].key_id} == {""}


def test_a_piece_of_the_users_own_value_is_not_the_value() -> None:
    own, secret = OWN, OWN.keys[0].secret.reveal()
    text = f"%20 {secret[:39]} \\n {secret[1:]} &amp; {secret[:20]}-{secret[20:]}\n" * 500
    assert list(own.find(text.encode(), 1, 1, [])) == []


def test_a_program_that_knows_the_mark_of_a_zip_is_none(rng: random.Random) -> None:
    program = b"\x7fELF" + rng.randbytes(500)
    assert container_of(program, program + b"PK\x05\x06" + b"cannot find the end record" * 9) is None
    assert container_of(program, program + b"PK\x05\x06") is None
    assert container_of(program, program + zipped("member", b"content")) == "zip"


def test_several_threads_look_for_ones_own_keys_at_once(rng: random.Random) -> None:
    own = OWN
    text = rng.randbytes(1 << 20) + own.keys[0].secret.reveal().encode()
    with ThreadPoolExecutor(3) as pool:
        assert all(pool.map(own.any, [text] * 12))
