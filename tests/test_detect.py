"""Detection: every kind in every encoding, each at its place in the file as stored."""

from __future__ import annotations

import base64
import bz2
import gzip
import html
import io
import itertools
import json
import lzma
import quopri
import random
import subprocess
import sys
import textwrap
import time
import urllib.parse
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.builders import make_key_id, make_secret, make_token

from firedamp.scanner.candidates import Located
from firedamp.scanner.detect import Limits, detect
from firedamp.scanner.keys import KINDS, Kind
from firedamp.scanner.prefilter import Hit, Prefilter
from firedamp.scanner.version import SOURCES, VERSION
from firedamp.storage.records import Outcome, Skipped
from firedamp.storage.secret import Secret


@pytest.fixture(scope="module")
def prefilter(cache: Path) -> Prefilter:
    return Prefilter(cache / "firedamp")


def located(data: bytes, prefilter: Prefilter) -> list[Located]:
    found = detect(data, prefilter)
    assert not [each for each in found if isinstance(each, Skipped)]
    return [each for each in found if isinstance(each, Located)]


def pairs(data: bytes, prefilter: Prefilter) -> set[tuple[str | None, str | None]]:
    return {
        (each.credential.key_id, each.credential.secret.reveal() if each.credential.secret else None)
        for each in located(data, prefilter)
    }


def ini(key: str, secret: str) -> str:
    return f"[default]\naws_access_key_id = {key}\naws_secret_access_key = {secret}\n"


def zipped(text: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("index.js", text)
    return file.getvalue()


_DOTS: Final = dict.fromkeys((*range(32), *range(127, 256)), ".")


def _rows(numbers: list[str], separator: str, width: int, end: str = "") -> bytes:
    """Return numbers in rows of width, as programs list them: an id's head may stand in two of them."""
    rows = (separator.join(numbers[at : at + width]) for at in range(0, len(numbers), width))
    return f"{separator.rstrip()}{end}\n  ".join(rows).encode()


ENCODINGS: dict[str, Callable[[str], bytes]] = {
    "": str.encode,
    "base64": lambda text: b"blob: " + base64.b64encode(text.encode()) + b"\n",
    "base64 in a comment": lambda text: b"// " + b"\n// ".join(base64.encodebytes((text * 3).encode()).split()) + b"\n",
    "base64 in a list": lambda text: json.dumps(base64.encodebytes((text * 3).encode()).decode().split()).encode(),
    "base64 url": lambda text: b"x." + base64.urlsafe_b64encode(text.encode()).rstrip(b"=") + b".sig",
    "base64 wrapped": lambda text: (
        b"data: |\n    " + b"\n    ".join(base64.encodebytes((text * 3).encode()).split()) + b"\n"
    ),
    "base64>gzip": lambda text: b"  release: " + base64.b64encode(gzip.compress(text.encode(), mtime=1)) + b"\n",
    "base64>bzip2": lambda text: b"  data: " + base64.b64encode(bz2.compress(text.encode())) + b"\n",
    "base64>xz": lambda text: b"  data: " + base64.b64encode(lzma.compress(text.encode())) + b"\n",
    "base64>zip": lambda text: b"  ZipFile: " + base64.b64encode(zipped(text)) + b"\n",
    "base64>gzip>gzip": lambda text: base64.b64encode(gzip.compress(gzip.compress(text.encode()))),
    "base64>zlib": lambda text: b"  z: " + base64.b64encode(zlib.compress(text.encode())) + b"\n",
    "base64>base64>gzip": lambda text: base64.b64encode(base64.b64encode(gzip.compress(text.encode()))),
    "utf-16 le": lambda text: b"\xff\xfe" + text.encode("utf-16-le"),
    "utf-16 be": lambda text: b"\xfe\xff" + text.encode("utf-16-be"),
    "utf-16 le without bom": lambda text: text.encode("utf-16-le"),
    "hex": lambda text: text.encode().hex().encode(),
    "HEX": lambda text: b"X'" + text.encode().hex().upper().encode() + b"'",
    "hex with spaces": lambda text: text.encode().hex(" ").encode(),
    "hex with colons": lambda text: text.encode().hex(":").encode(),
    "hex as C": lambda text: b"{ " + b", ".join(b"0x%02x" % c for c in text.encode()) + b" };",
    "decimal": lambda text: json.dumps({"type": "Buffer", "data": list(text.encode())}).encode(),
    "hex in rows": lambda text: _rows([f"0X{ord(c):02X}" for c in text], ", ", 12),
    "hex as od writes it": lambda text: _rows([f"{ord(c):02x}" for c in text], " ", 16),
    "hex as a registry exports it": lambda text: b'"v"=hex:' + _rows([f"{ord(c):02x}" for c in text], ",", 23, "\\"),
    "decimal in rows": lambda text: _rows([str(ord(c)) for c in text], ", ", 10),
    "decimal, one a line": lambda text: json.dumps({"type": "Buffer", "data": list(text.encode())}, indent=2).encode(),
    "percent": lambda text: b"q=" + "".join(f"%{ord(c):02X}" for c in text).encode(),
    "percent, signs only": lambda text: urllib.parse.quote(text, safe="").encode(),
    r"\x": lambda text: b'"' + b"".join(b"\\x%02x" % c for c in text.encode()) + b'"',
    r"\u": lambda text: b'"' + b"".join(b"\\u%04x" % c for c in text.encode()) + b'"',
    r"\\u": lambda text: b'"' + b"".join(b"\\\\u%04x" % c for c in text.encode()) + b'"',
    r"\\\\u": lambda text: b'"' + b"".join(b"\\\\\\\\u%04x" % c for c in text.encode()) + b'"',
    r"\u{}": lambda text: b'"' + b"".join(b"\\u{%x}" % c for c in text.encode()) + b'"',
    r"\x{}": lambda text: b'"' + b"".join(b"\\x{%x}" % c for c in text.encode()) + b'"',
    r"\U": lambda text: b'"' + b"".join(b"\\U%08x" % c for c in text.encode()) + b'"',
    "octal": lambda text: b'"' + b"".join(b"\\%03o" % c for c in text.encode()) + b'"',
    "css": lambda text: b'"' + b"".join(b"\\%x " % c for c in text.encode()) + b'"',
    "%u": lambda text: b"".join(b"%%u%04x" % c for c in text.encode()),
    "U+": lambda text: b" ".join(b"U+%04X" % c for c in text.encode()),
    "entity": lambda text: b"<p>" + b"".join(b"&#%d;" % c for c in text.encode()) + b"</p>",
    "entity hex": lambda text: b"<p>" + b"".join(b"&#x%x;" % c for c in text.encode()) + b"</p>",
    "entity HEX": lambda text: b"<p>" + b"".join(b"&#X%X;" % c for c in text.encode()) + b"</p>",
    "entity, signs only": lambda text: html.escape(json.dumps({"a": text})).encode(),
    "quoted-printable": lambda text: quopri.encodestring(text.encode()),
    "json in json": lambda text: json.dumps({"a": json.dumps({"b": text})}).encode(),
    "base64 of utf-16": lambda text: b"powershell -enc " + base64.b64encode(text.encode("utf-16-le")),
    "utf-16 of base64": lambda text: base64.b64encode(text.encode()).decode().encode("utf-16-le"),
    "hex of base64": lambda text: base64.b64encode(text.encode()).hex().encode(),
    "base64 of hex": lambda text: base64.b64encode(text.encode().hex().encode()),
}


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_pair_is_found_in_every_encoding(encoding: str, prefilter: Prefilter, rng: random.Random) -> None:
    for _ in range(10):
        key, secret = make_key_id(rng), make_secret(rng)
        assert pairs(ENCODINGS[encoding](ini(key, secret)), prefilter) == {(key, secret)}


@pytest.mark.parametrize("depth", range(1, 6))
def test_base64_is_undone_to_its_depth(depth: int, prefilter: Prefilter, rng: random.Random) -> None:
    key, secret = make_key_id(rng), make_secret(rng)
    data = ini(key, secret).encode()
    for _ in range(depth):
        data = base64.b64encode(data)
    [found] = located(b"data: " + data, prefilter)
    assert found.credential.key_id == key
    assert found.credential.decoder == ">".join(["base64"] * depth)


CHAINS = {
    "base64": base64.b64encode,
    "base64>base64>gzip": lambda text: base64.b64encode(base64.b64encode(gzip.compress(text, mtime=0))),
    "base64>utf-16": lambda text: base64.b64encode(text.decode().encode("utf-16-le")),
    "percent>base64": lambda text: b"".join(b"%%%02X" % c for c in base64.b64encode(b"   " + text)),
    "base64>escape": lambda text: base64.b64encode(b"".join(b"\\u%04x" % c for c in text)),
    "hex": lambda text: text.hex().encode(),
    "base64>hex": lambda text: base64.b64encode(text.hex().encode()),
    "base64>gzip>base64>zlib": lambda text: base64.b64encode(
        gzip.compress(b"{'x': '" + base64.b64encode(zlib.compress(text)) + b"'}", mtime=0)
    ),
}


@pytest.mark.parametrize("chain", CHAINS)
def test_a_match_names_its_decoders_and_the_line_as_stored(
    chain: str, prefilter: Prefilter, rng: random.Random
) -> None:
    key, secret = make_key_id(rng), make_secret(rng)
    data = "été\nsecond: ".encode() + CHAINS[chain](ini(key, secret).encode()) + b"\nthird\n"
    [found] = located(data, prefilter)
    assert (found.credential.decoder, found.line) == (chain, 2)
    assert found.column is not None
    assert found.column >= 9


USUAL = {
    "base64": base64.b64encode,
    "lines of base64": base64.encodebytes,
    "utf-16": lambda raw: raw.decode("latin-1").encode("utf-16-le"),
    "hex": lambda raw: raw.hex().encode(),
    "URL": lambda raw: urllib.parse.quote(raw).encode(),
    "JSON": lambda raw: json.dumps(raw.decode("latin-1")).encode(),
    "HTML": lambda raw: html.escape(raw.decode("latin-1")).encode("latin-1"),
    "gzip": lambda raw: base64.b64encode(gzip.compress(raw, mtime=0)),
    "mail": quopri.encodestring,
}
"""Encoders as they are used: they leave letters and digits alone."""


@pytest.mark.parametrize(
    "chain",
    [
        *itertools.product(USUAL, repeat=2),
        *itertools.product(("base64", "utf-16", "hex"), repeat=3),
        ("URL", "URL", "URL"), ("URL", "base64", "base64"), ("JSON", "JSON", "JSON"), ("HTML", "URL", "base64"),
    ],
    ids=" > ".join,
)  # fmt: skip
def test_an_id_is_found_in_what_people_wrap_in_each_other(
    prefilter: Prefilter, rng: random.Random, chain: tuple[str, ...]
) -> None:
    key, secret = make_key_id(rng), make_secret(rng)
    text = f"aws_access_key_id = {key}\naws_secret_access_key = {secret}\n".encode()
    for name in reversed(chain):
        text = USUAL[name](text)
    found = {each.credential.key_id: each.credential for each in located(b"data: " + text + b"\n", prefilter)}
    assert key in found
    assert found[key].secret == Secret(secret)


QUOTERS: dict[str, Callable[[str], bytes]] = {
    "percent": lambda text: b"q=" + urllib.parse.quote(text, safe="").encode(),
    "escape": lambda text: b'{"a":"' + text.replace("/", r"\/").encode() + b'"}',
    "escape ": lambda text: json.dumps({"a": text}).replace("+", r"\u002b").replace("/", r"\u002F").encode(),
    "entity": lambda text: b'<a v="' + text.replace("+", "&#43;").replace("/", "&#x2F;").replace("=", "&#61;").encode(),
}


@pytest.mark.parametrize("quoter", QUOTERS)
@pytest.mark.parametrize("pack", ["gzip", "zlib"])
def test_compressed_base64_is_read_on_behind_each_quoted_sign(
    prefilter: Prefilter, rng: random.Random, quoter: str, pack: str
) -> None:
    for _ in range(30):
        key, secret = make_key_id(rng), make_secret(rng)
        text = f"{rng.randbytes(20).hex()}\naws_access_key_id = {key}\naws_secret_access_key = {secret}\n" * 2
        packed = gzip.compress(text.encode(), mtime=0xFEFEFEFE) if pack == "gzip" else zlib.compress(text.encode())
        encoded = base64.b64encode(packed).decode()
        if pack == "zlib" and not encoded[:64].isalnum():
            continue  # that it is compressed is told by its first digits: zlib has no mark that is long enough
        data = b"first\n" + QUOTERS[quoter](encoded) + b" end"
        found = located(data, prefilter)
        assert {(each.credential.key_id, each.credential.secret) for each in found} == {(key, Secret(secret))}
        assert {(each.credential.decoder.split(">")[-1], each.line) for each in found} == {(pack, 2)}


@pytest.mark.parametrize("wrap", [False, True])
@pytest.mark.parametrize("megabytes", [1, 3])
def test_what_is_compressed_in_a_large_file_is_read_to_its_end_or_said_to_be_cut(
    prefilter: Prefilter, rng: random.Random, wrap: bool, megabytes: int
) -> None:
    """As in a dump of Helm releases: the key stands far behind the only thing that tells of it."""
    key, secret = make_key_id(rng), make_secret(rng)
    text = base64.b64encode(rng.randbytes(megabytes * 650_000)) + f"\n{ini(key, secret)}".encode()
    encode = base64.encodebytes if wrap else base64.b64encode
    data = (
        b"name: value\n" * 150_000 + b"release: " + encode(gzip.compress(text, mtime=0)) + b"\nother: value\n" * 9_000
    )
    found = detect(data, prefilter)
    if megabytes == 1:
        assert [(one.credential.key_id, one.credential.secret) for one in found] == [(key, Secret(secret))]
    else:
        assert [(one.what, one.outcome) for one in found] == [("decoded text", Outcome.FAILED)]


@pytest.mark.parametrize("prefix", ["0x", "0X", r"\x", r"\\x"])
@pytest.mark.parametrize("id_too", [True, False])
def test_what_marks_digits_as_hex_is_no_part_of_a_value(
    prefix: str, id_too: bool, prefilter: Prefilter, rng: random.Random
) -> None:
    """As `mysqldump --hex-blob`, SQL Server and PostgreSQL write bytes."""
    for _ in range(10):
        key, secret = make_key_id(rng), make_secret(rng)
        told = f"{prefix}{key.encode().hex().upper()}" if id_too else f"'{key}'"
        data = f"VALUES (1,\n {told},{prefix}{secret.encode().hex().upper()});\n".encode()
        [found] = located(data, prefilter)
        assert (found.credential.key_id, found.credential.secret, found.line) == (key, Secret(secret), 2)


def registry(name: str, value: str, kind: str = "hex(2)") -> str:
    """Return a value as regedit exports it: UTF-16 in hex, in lines of 80 characters at most."""
    digits = ",".join(f"{byte:02x}" for byte in f"{value}\0".encode("utf-16-le"))
    first = 77 - len(name) - len(kind)
    rows = [digits[: first // 3 * 3], *textwrap.wrap(digits[first // 3 * 3 :], 75)]
    return f'"{name}"={kind}:' + "\\\r\n  ".join(rows) + "\r\n"


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
@pytest.mark.parametrize("names", [("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), ("id", "secret")])
@pytest.mark.parametrize("kinds", [("hex(2)", "hex(2)"), ("", "hex(2)"), ("hex(2)", ""), ("hex(7)",)])
def test_what_a_registry_exports_in_hex_is_read_and_paired(
    kinds: tuple[str, ...], names: tuple[str, str], encoding: str, prefilter: Prefilter, rng: random.Random
) -> None:
    for _ in range(10):
        key, secret = make_key_id(rng), make_secret(rng)
        told = zip(names, (key, secret), strict=True)
        if len(kinds) == 1:
            text = registry("Environment", "\0".join(f"{name}={value}" for name, value in told), *kinds)
        else:
            text = "".join(
                registry(name, value, kind) if kind else f'"{name}"="{value}"\r\n'
                for (name, value), kind in zip(told, kinds, strict=True)
            )
        data = f"[HKEY_CURRENT_USER\\Environment]\r\n{text}".encode(encoding)
        assert pairs(data, prefilter) == {(key, secret)}
        assert located(data, prefilter)[0].line in {2, 3}


@pytest.mark.parametrize("encode", [base64.b64encode, lambda raw: raw.hex().encode()], ids=["base64", "hex"])
@pytest.mark.parametrize("between", ['", "', '","', "\n", '",\n  "'])
def test_items_of_a_list_are_values_of_their_own(
    encode: Callable[[bytes], bytes], between: str, prefilter: Prefilter, rng: random.Random
) -> None:
    for lead in ("", "a:", "key:"):
        keys = [make_key_id(rng) for _ in range(4)]
        items = (encode(f"{lead}{key}".encode()).decode() for key in keys)
        found = located(f'["{between.join(items)}"]'.encode(), prefilter)
        assert {each.credential.key_id for each in found} == set(keys)


@pytest.mark.parametrize("behind", ["export B=1", "else", "fi", "FOO=bar", "# comment", "// comment", "dead"])
def test_a_line_that_begins_like_hex_hides_no_key_before_it(
    behind: str, prefilter: Prefilter, rng: random.Random
) -> None:
    key = make_key_id(rng)
    [found] = located(f"export A={key.encode().hex()}\n{behind}\n".encode(), prefilter)
    assert found.credential.key_id == key


def test_lines_and_columns_count_code_points_of_the_file_as_stored(prefilter: Prefilter, rng: random.Random) -> None:
    key = make_key_id(rng)
    cases = [
        (f"{key}", 1, 1),
        (f"\n\n  {key}", 3, 3),
        (f"中文 é {key}", 1, 6),
        (f"a\r\n'{key}'", 2, 2),
    ]
    for text, line, column in cases:
        [found] = located(text.encode(), prefilter)
        assert (found.line, found.column) == (line, column)
        assert located(b"\xef\xbb\xbf" + text.encode(), prefilter)[0].column == column
        for codec, mark in (("utf-16-le", b"\xff\xfe"), ("utf-16-be", b"\xfe\xff")):
            [found] = located(mark + text.encode(codec), prefilter)
            assert (found.line, found.column) == (line, column)
            assert found.credential.decoder == "utf-16"
    [found] = located(f"a\n {key}".encode("utf-16-le"), prefilter)
    assert (found.line, found.column) == (2, 2)
    [found] = located(f"a\n {key}".encode("utf-16-be"), prefilter)
    assert (found.line, found.column) == (2, 2)


def test_a_window_begins_where_it_is_told(prefilter: Prefilter, rng: random.Random) -> None:
    first, second = make_key_id(rng), make_key_id(rng)
    found = detect(f"x {first}\n {second}".encode(), prefilter, first_line=10, first_column=7)
    assert [(each.line, each.column) for each in found if isinstance(each, Located)] == [(10, 9), (11, 2)]


def test_what_has_no_lines_gets_none(prefilter: Prefilter, rng: random.Random) -> None:
    [found] = located(b"\x7fELF\x00\x01\n" + make_key_id(rng).encode() + b"\x00", prefilter)
    assert (found.line, found.column) == (None, None)


def test_a_wrapped_block_of_base64_points_at_the_line_of_the_key(prefilter: Prefilter, rng: random.Random) -> None:
    key, secret = make_key_id(rng), make_secret(rng)
    for padding in range(0, 400, 19):
        text = b"#" * padding + b"\n" + ini(key, secret).encode() + b"#" * 300
        data = b"key: |\n  " + b"\n  ".join(base64.encodebytes(text).split()) + b"\n"
        [found] = located(data, prefilter)
        assert found.credential.secret == Secret(secret)
        assert found.line == 2 + text.index(key.encode()) // 57


def secret_manifest(key: str, secret: str, *, newline: str = "") -> str:
    one, other = (base64.b64encode((text + newline).encode()).decode() for text in (key, secret))
    return f"kind: Secret\ndata:\n  AWS_ACCESS_KEY_ID: {one}\n  AWS_SECRET_ACCESS_KEY: {other}\n"


REAL_PLACES: dict[str, Callable[[str, str], str]] = {
    "kubernetes secret": secret_manifest,
    "kubernetes secret with line ends": lambda key, secret: secret_manifest(key, secret, newline="\n"),
    "kubernetes secret, secret first": lambda key, secret: "\n".join(
        reversed(secret_manifest(key, secret).split("\n"))
    ),
    "id readable, secret not": lambda key, secret: (
        f"aws_access_key_id: {key}\naws_secret_access_key: {base64.b64encode(secret.encode()).decode()}\n"
    ),
    "secret readable, id not": lambda key, secret: (
        f"aws_access_key_id: {base64.b64encode(key.encode()).decode()}\naws_secret_access_key: {secret}\n"
    ),
    "helm release": lambda key, secret: "data:\n  release: " + base64.b64encode(base64.b64encode(
        gzip.compress(json.dumps({"config": {"accessKeyId": key, "secretAccessKey": secret}}).encode())
    )).decode(),
    "user data": lambda key, secret: json.dumps({"UserData": base64.b64encode(gzip.compress(
        f"#!/bin/sh\nexport AWS_ACCESS_KEY_ID={key}\nexport AWS_SECRET_ACCESS_KEY={secret}\n".encode()
    )).decode()}),
    "basic authentication": lambda key, secret: "Authorization: Basic " + base64.b64encode(
        f"{key}:{secret}".encode()
    ).decode(),
    "docker auths": lambda key, secret: json.dumps(
        {"auths": {"r": {"auth": base64.b64encode(f"{key}:{secret}".encode()).decode()}}}
    ),
    "token payload": lambda key, secret: "eyJhbGciOiJub25lIn0." + base64.urlsafe_b64encode(
        json.dumps({"sub": "é", "accessKeyId": key, "secretAccessKey": secret}).encode()
    ).decode().rstrip("=") + ".c2ln",
    "powershell": lambda key, secret: "powershell -EncodedCommand " + base64.b64encode(
        f"$env:AWS_ACCESS_KEY_ID='{key}'; $env:AWS_SECRET_ACCESS_KEY='{secret}'".encode("utf-16-le")
    ).decode(),
    "url in a query": lambda key, secret: "next=" + urllib.parse.quote(
        f"s3://{key}:{urllib.parse.quote(secret, safe='')}@bucket/", safe=""
    ),
    "json in json in json": lambda key, secret: json.dumps(json.dumps(json.dumps({"id": key, "secretKey": secret}))),
    "xml in xml": lambda key, secret: html.escape(
        f"<Key><AccessKeyId>{key}</AccessKeyId><SecretAccessKey>{secret}</SecretAccessKey></Key>"
    ),
    "concatenated": lambda key, secret: (
        f'id = "{key[:4]}" + "{key[4:]}"\naws_secret = "{secret[:20]}" +\n    "{secret[20:]}"\n'
    ),
    "id whole, secret concatenated": lambda key, secret: (
        f'aws_id = "{key}"\naws_secret = "{secret[:20]}" + "{secret[20:]}"\n'
    ),
    "character by character": lambda key, secret: (
        "id = " + " + ".join(f"'{c}'" for c in key) + f"\naws_secret = '{secret}'"
    ),
    "hex dump in lines": lambda key, secret: "\n".join(
        textwrap.wrap(f"aws_access_key_id={key}\naws_secret_access_key={secret}\n".encode().hex(), 60)
    ),
    "base64 in a reply": lambda key, secret: "> " + "\n> ".join(
        textwrap.wrap(base64.b64encode((ini(key, secret) * 2).encode()).decode(), 76)
    ),
    "base64 in lines in JSON in JSON": lambda key, secret: json.dumps(json.dumps(
        base64.encodebytes(ini(key, secret).encode()).decode()
    )),
    "base64 in a mail in JSON": lambda key, secret: json.dumps(
        quopri.encodestring(base64.b64encode(ini(key, secret).encode())).decode()
    ),
    "hex in a mail in a form": lambda key, secret: urllib.parse.quote(
        quopri.encodestring(ini(key, secret).encode().hex().encode()).replace(b"\n", b"\r\n")
    ),
    "adjacent literals": lambda key, secret: f"id = ('{key[:9]}'\n      '{key[9:]}')\naws_secret = '{secret}'\n",
    "adjacent literals on one line": lambda key, secret: (
        f'AWS_ID = "{key[:4]}" "{key[4:]}"\nAWS_SECRET = "{secret[:20]}" "{secret[20:]}"\n'
    ),
    "head cut twice": lambda key, secret: f'id = "{key[:2]}" + "{key[2:4]}" + "{key[4:]}"\naws_secret = "{secret}"\n',
    "head cut thrice": lambda key, secret: f"id = '{key[0]}'.'{key[1]}'.'{key[2:]}';\n$aws_secret = '{secret}';\n",
    "continued as in Visual Basic": lambda key, secret: (
        f'id = "AKIA" & _\r\n  "{key[4:]}"\r\naws_secret = "{secret}"\r\n'
    ),
    "a comment between": lambda key, secret: f'id = "AKIA" + // split\n  "{key[4:]}";\naws_secret = "{secret}";\n',
    "bencode": lambda key, secret: f"d13:access_key_id20:{key}17:secret_access_key40:{secret}6:region2:eue",
    "word breaks": lambda key, secret: (
        f"<td>{key[:9]}<wbr>{key[9:]}</td><td>aws_secret: {secret[:20]}<wbr>{secret[20:]}</td>"
    ),
    "a zero-width space in a head": lambda key, secret: f"id: {key[:3]}\u200b{key[3:]}\naws_secret: {secret}\n",
    "continued line": lambda key, secret: f"id={key[:9]}\\\n{key[9:]}\naws_secret={secret}\n",
    "mail": lambda key, secret: quopri.encodestring(
        f"aws_access_key_id={key} aws_secret_access_key={secret} and a line that is long".encode()
    ).decode(),
}  # fmt: skip


TERMINALS = ["\x1b", r"\u001b", r"\\u001b", r"\x1b", r"\u{1b}", r"\u{1B}", r"\033", r"\e", "#033", "^["]
"""How the beginning of a terminal's sequence is written."""


@pytest.mark.parametrize("escape", TERMINALS)
@pytest.mark.parametrize("colour", ["[33m", "[38;2;255;200;30m", "[01;31m{}[K", "[4C", "[?2004h"])
def test_a_colour_before_a_value_is_no_part_of_it(
    escape: str, colour: str, prefilter: Prefilter, rng: random.Random
) -> None:
    on, off = escape + colour.replace("{}", escape), f"{escape}[0m"
    for _ in range(10):
        key, secret = make_key_id(rng), make_secret(rng)
        text = f"{on}AccessKeyId{off}: {on}{key}{off}\n{on}SecretAccessKey{off}: {on}{secret}{off}\n"
        found = [each.credential for each in detect(text.encode(), prefilter) if isinstance(each, Located)]
        assert [(one.key_id, one.secret) for one in found] == [(key, Secret(secret))]


@pytest.mark.parametrize("escape", TERMINALS)
@pytest.mark.parametrize("colour", ["{}[m{}[K", "{}[0m{}[33m", "{}[39m"])
def test_a_colour_inside_a_value_is_taken_out(
    escape: str, colour: str, prefilter: Prefilter, rng: random.Random
) -> None:
    """As `grep --color AKIA` shows a key, and what colours words and signs of a language."""
    joint = colour.replace("{}", escape)
    for cut in (4, 2, 12, 19):
        key, secret = make_key_id(rng), make_secret(rng)
        for pieces in ([secret[: cut * 2], secret[cut * 2 :]], [secret[:9], secret[9:20], secret[20:]]):
            text = f"first\nid = {key[:cut]}{joint}{key[cut:]}\nsecret = {joint.join(pieces)}\n"
            [found] = located(text.encode(), prefilter)
            assert (found.credential.key_id, found.credential.secret, found.line) == (key, Secret(secret), 2)


CHARACTERS: dict[str, Callable[[str], str]] = {
    "Python": lambda value: repr([*value]),
    "JavaScript": lambda value: json.dumps([*value], separators=(",", ":")),
    "JSON": lambda value: json.dumps([*value], indent=4),
    "C": lambda value: "{" + ",".join(f"'{c}'" for c in value) + ",'\\0'}",
    "Rust": lambda value: "[" + ", ".join(f"b'{c}'" for c in value) + "]",
    "chr": lambda value: "+".join(f"chr({ord(c)})" for c in value),
    "chr of hex": lambda value: " + ".join(f"chr({ord(c):#x})" for c in value),
    "PHP": lambda value: " . ".join(f"chr({ord(c)})" for c in value),
    "Oracle": lambda value: "||".join(f"CHR({ord(c)})" for c in value),
    "Visual Basic": lambda value: " & ".join(f"Chr$({ord(c)})" for c in value),
    "PowerShell": lambda value: "+".join(f"[char]{ord(c)}" for c in value),
    "Java": lambda value: "{" + ", ".join(f"(char){ord(c)}" for c in value) + "}",
}


@pytest.mark.parametrize("language", CHARACTERS)
def test_characters_in_a_list_are_put_together(language: str, prefilter: Prefilter, rng: random.Random) -> None:
    spell = CHARACTERS[language]
    for _ in range(10):
        key, secret = make_key_id(rng), make_secret(rng)
        [found] = located(f"first\nid = {spell(key)};\nsecret = {spell(secret)};\n".encode(), prefilter)
        assert (found.credential.key_id, found.credential.secret) == (key, Secret(secret))
        assert (found.line, found.credential.decoder) == (3 if language == "JSON" else 2, "characters")
        assert pairs(f"id = '{key}'\naws_secret = {spell(secret)}\n".encode(), prefilter) == {(key, secret)}


@pytest.mark.parametrize("size", [1, 2, 3, 7])
@pytest.mark.parametrize("typed", [False, True])
def test_what_a_recording_shows_letter_by_letter_is_put_together(
    size: int, typed: bool, prefilter: Prefilter, rng: random.Random
) -> None:
    """As asciinema writes it (asciicast v2)."""
    for shift in range(3):
        key, secret = make_key_id(rng), make_secret(rng)
        text = f"{'$' * shift} export AWS_ACCESS_KEY_ID={key} AWS_SECRET_ACCESS_KEY={secret}\r\n$ "
        events = [
            json.dumps([round(at * 0.13, 6), kind, text[at : at + size]])
            for at in range(0, len(text), size)
            for kind in ("io" if typed else "o")
        ]
        lines = ['{"version": 2, "width": 80, "height": 24}', *events]
        [found] = located("\n".join(lines).encode(), prefilter)
        assert (found.credential.key_id, found.credential.secret) == (key, Secret(secret))
        first = text.index(key) // size * (1 + typed) + typed
        assert (found.line, found.credential.decoder) == (first + 2, "concatenation")


@pytest.mark.parametrize("around", [bytes, base64.b64encode], ids=["as it is", "base64"])
@pytest.mark.parametrize(
    "encode",
    [
        lambda text: urllib.parse.quote(text, safe=""),
        urllib.parse.quote_plus,
        lambda text: quopri.encodestring(text.encode()).decode(),
    ],
    ids=["percent", "form", "quoted-printable"],
)
def test_rows_whose_ends_a_notation_hides_keep_their_secrets_that_come_first(
    encode: Callable[[str], str], around: Callable[[bytes], bytes], prefilter: Prefilter, rng: random.Random
) -> None:
    truth = {(make_key_id(rng), make_secret(rng)) for _ in range(3)}
    rows = "".join(f"{secret},{rng.choice(['web', 'mail'])},{rng.randbytes(20).hex()},{key}\n" for key, secret in truth)
    text = encode(f"secret,owner,sha,key\n{rows}")
    assert pairs(b"q: " + around(text.encode()) + b"\n", prefilter) == truth


def test_values_that_only_look_quoted_keep_their_ids(prefilter: Prefilter, rng: random.Random) -> None:
    """The first secret begins as a quoted sign would, behind its equals sign."""
    secrets = [f"5B{make_secret(rng)[2:]}", make_secret(rng), make_secret(rng)]
    truth = {make_key_id(rng): secret for secret in secrets}
    text = "".join(
        f"{'about the user ' * 12}\nAWS_SECRET_ACCESS_KEY={secret}\nAWS_ACCESS_KEY_ID={key}\nTOKEN=\n"
        for key, secret in truth.items()
    )
    assert pairs(text.encode(), prefilter) == {*truth.items()}


@pytest.mark.parametrize("quote", [json.dumps, lambda text: json.dumps(json.dumps(text))])
def test_indented_base64_is_put_together_inside_a_string(
    quote: Callable[[str], str], prefilter: Prefilter, rng: random.Random
) -> None:
    """As YAML holds it."""
    truth = {make_key_id(rng): make_secret(rng) for _ in range(3)}
    packed = base64.encodebytes("".join(ini(*pair) for pair in truth.items()).encode()).decode()
    text = "data:\n  file: |\n" + textwrap.indent(packed, "    ")
    assert pairs(quote(text).encode(), prefilter) == {*truth.items()}


def test_a_blank_that_a_form_writes_as_a_plus_is_no_part_of_a_secret(prefilter: Prefilter, rng: random.Random) -> None:
    truth = {(make_key_id(rng), make_secret(rng)) for _ in range(3)}
    text = "".join(f"access_key: {key}\nsecret_key: {secret}\netag = {make_secret(rng)}\n" for key, secret in truth)
    assert pairs(b"body=" + urllib.parse.quote_plus(text).encode(), prefilter) == truth


def test_an_id_whose_secret_a_notation_cuts_does_not_keep_its_neighbours(
    prefilter: Prefilter, rng: random.Random
) -> None:
    for shift in range(0, 76, 2):
        keys = {make_key_id(rng): make_secret(rng) for _ in range(2)}
        text = "x" * shift + "".join(f" Signing with AccessKey={key} SecretKey={keys[key]} ok\n" for key in keys)
        found = detect(quopri.encodestring(text.encode()), prefilter)
        best = {
            each.credential.key_id: each.credential.secret
            for each in found
            if isinstance(each, Located) and each.credential.rank == 0
        }
        assert best == {key: Secret(secret) for key, secret in keys.items()}


def test_both_sides_of_a_word_diff_are_paired(prefilter: Prefilter, rng: random.Random) -> None:
    for _ in range(10):
        (old, old_secret), (new, new_secret) = ((make_key_id(rng), make_secret(rng)) for _ in range(2))
        text = f"id = [-{old}-]{{+{new}+}}\nsecret = [-{old_secret}-]{{+{new_secret}+}}\n"
        assert pairs(text.encode(), prefilter) == {(old, old_secret), (new, new_secret)}
        assert pairs(f"id = {{+{new}+}}\nsecret = {{+{new_secret}+}}\n".encode(), prefilter) == {(new, new_secret)}


COMMANDS = (
    "$ docker run --rm -e AWS_ACCESS_KEY_ID={} -e AWS_SECRET_ACCESS_KEY={} image with some arguments",
    "curl -u {}:{} https://example.com/some/path",
    "our keys are {} and {}, thanks a lot for the help with them",
)


@pytest.mark.parametrize("end", ["\n", "\r\n", " \r", "\x1b[K\r\n", "\n> ", "\n    ", r"\n", r"\r\n", r"\\n", r" \r"])
def test_a_value_that_a_terminal_wraps_is_put_together(end: str, prefilter: Prefilter, rng: random.Random) -> None:
    """As it is copied from a screen, or written by `script` and asciinema."""
    for width, shift in itertools.product((24, 31, 39, 50, 64, 80), range(0, 60, 3)):
        key, secret = make_key_id(rng), make_secret(rng)
        text = "-" * shift + rng.choice(COMMANDS).format(key, secret)
        data = f"first{end}{end.join(text[at : at + width] for at in range(0, len(text), width))}{end}x"
        # On a narrow screen a line that begins with a value may be an item of a list.
        is_item = width < 40 and any(text.index(value) % width == 0 for value in (key, secret))
        if not is_item and (key[:4] in data or end != "\n    "):
            assert pairs(data.encode(), prefilter) == {(key, secret)}


@pytest.mark.parametrize("end", ["\n", "\r\n", " \r", "\x1b[K\r\n", "\n> ", r"\n", r"\r\n", r"\\n", r"\\r\\n"])
def test_an_id_that_a_terminal_wraps_in_its_head_is_put_together(
    end: str, prefilter: Prefilter, rng: random.Random
) -> None:
    for cut in range(1, 6):
        key, secret = make_key_id(rng), make_secret(rng)
        command = f"$ docker run --rm -e AWS_SECRET_ACCESS_KEY={secret} -e AWS_ACCESS_KEY_ID="
        data = f"first{end}{command}{key[:cut]}{end}{key[cut:]} image{end}"
        assert pairs(data.encode(), prefilter) == {(key, secret)}


def test_items_on_lines_of_their_own_are_not_put_together(prefilter: Prefilter, rng: random.Random) -> None:
    for size in (4, 12, 16, 20):
        key = make_key_id(rng)
        value = make_secret(rng)
        for lead in ("", "x" * 60 + " "):
            rest = (
                "" if not lead else " and more of a line that is longer than the one above it is, as text of one may be"
            )
            text = f"id: {key}\n{lead}{value[:size]}\n{value[size:]}{rest}\n"
            assert pairs(text.encode(), prefilter) == {(key, None)}
        # Two ids, or a head and a word, are no value.
        other = make_key_id(rng)
        assert pairs(f"{'x' * 60} {key}\n{other}\n".encode(), prefilter) == {(key, None), (other, None)}


@pytest.mark.parametrize("tab", ["^I", "\x1b]8;;http://a\x1b\\", r"\u001b]8;;http://a\u001b\\"])
def test_what_a_terminal_shows_before_a_value_is_no_part_of_it(
    tab: str, prefilter: Prefilter, rng: random.Random
) -> None:
    """A tab as `cat -A` shows it, and a link."""
    for letter in "Anrtbx":
        key, secret = make_key_id(rng), letter + make_secret(rng)[1:]
        [found] = located(f"id:{tab}{key}^M$\nsecret:{tab}{secret}^M$\n".encode(), prefilter)
        assert (found.credential.key_id, found.credential.secret) == (key, Secret(secret))


@pytest.mark.parametrize("between", [",", " ", ":", " = "])
@pytest.mark.parametrize("columns", [*itertools.permutations(("name", "id", "secret"))])
def test_an_id_without_a_secret_gets_none_from_another_row(
    columns: Sequence[str], between: str, prefilter: Prefilter, rng: random.Random
) -> None:
    rows = [{"name": f"user{at}", "id": make_key_id(rng), "secret": make_secret(rng)} for at in range(4)]
    rows[-1]["secret"] = ""
    text = "".join(between.join(f'"{row[column]}"' for column in columns) + "\n" for row in rows)
    found = [each.credential for each in detect(text.encode(), prefilter) if isinstance(each, Located)]
    assert {(one.key_id, one.secret and one.secret.reveal()) for one in found} == {
        (row["id"], row["secret"] or None) for row in rows
    }


@pytest.mark.parametrize("place", REAL_PLACES)
def test_pairs_are_found_as_they_stand_in_real_places(place: str, prefilter: Prefilter, rng: random.Random) -> None:
    for _ in range(20):
        key, secret = make_key_id(rng), make_secret(rng)
        found = pairs(REAL_PLACES[place](key, secret).encode(), prefilter)
        assert found == {(key, secret)}


def test_a_literal_of_one_letter_is_joined_too(prefilter: Prefilter, rng: random.Random) -> None:
    key, secret = make_key_id(rng), make_secret(rng)
    for letter in "bUx7":
        text = f'id = "{key}"\naws_secret = "{letter}" + "{secret[1:]}"\n'
        assert pairs(text.encode(), prefilter) == {(key, letter + secret[1:])}


def dumped(text: bytes, tool: str) -> bytes:
    """Write text as a tool does that shows it beside its bytes."""
    rows = []
    for at in range(0, len(text), 16):
        row = text[at : at + 16]
        shown = "".join(chr(c) if 32 <= c < 127 else "." for c in row)
        if tool == "hexdump -C":
            numbers = row[:8].hex(" ") + "  " + row[8:].hex(" ")
            rows.append(f"{at:08x}  {numbers:<48}  |{shown}|\n")
        elif tool == "od -A x -t x1z":
            rows.append(f"{at:06x} {row.hex(' '):<47}  >{shown}<\n")
        else:
            digits = row.hex(" ", -2) if tool == "xxd" else row.hex(" ", -2).upper()
            rows.append(f"{at:08x}: {digits:<39}  {shown}\n")
    return "".join(rows).encode()


@pytest.mark.parametrize("tool", ["hexdump -C", "od -A x -t x1z", "xxd", "xxd -u"])
def test_a_pair_in_a_hex_dump_is_found_wherever_a_row_ends(tool: str, prefilter: Prefilter, rng: random.Random) -> None:
    key, secret = make_key_id(rng), make_secret(rng)
    for shift in range(16):
        text = b"-" * shift + ini(key, secret).encode()
        [found] = located(b"a dump\n" + dumped(text, tool), prefilter)
        assert (found.credential.key_id, found.credential.secret) == (key, Secret(secret))
        assert found.line == 2 + text.index(key.encode()) // 16


def test_a_lone_secret_is_found_by_its_name_in_and_out_of_base64(prefilter: Prefilter, rng: random.Random) -> None:
    secret = make_secret(rng)
    line = f"aws_secret_access_key = {secret}\n".encode()
    value = base64.b64encode(secret.encode())
    for data in (line, base64.b64encode(line), b"AWS_SECRET_ACCESS_KEY: " + value + b"\n"):
        assert pairs(data, prefilter) == {(None, secret)}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind.value)
def test_examples_are_found_and_near_misses_are_not(kind: Kind, prefilter: Prefilter) -> None:
    for example in kind.examples:
        kinds = {each.credential.kind for each in located(b"x = '" + example.encode() + b"'\n", prefilter)}
        assert kinds == {kind.kind}
    for near in kind.near_misses:
        assert not located(near.encode(), prefilter)


def test_temporary_keys_bring_their_token_in_every_notation(prefilter: Prefilter, rng: random.Random) -> None:
    key, secret, token = make_key_id(rng, prefix="ASIA"), make_secret(rng), make_token(rng)
    text = json.dumps({"AccessKeyId": key, "SecretAccessKey": secret, "SessionToken": token})
    for data in (text.encode(), base64.b64encode(text.encode()), urllib.parse.quote(text).encode()):
        [found] = located(data, prefilter)
        assert (found.credential.key_id, found.credential.secret) == (key, Secret(secret))
        assert found.credential.token == Secret(token)


def test_documentation_keys_are_marked_and_real_ones_are_not(prefilter: Prefilter, rng: random.Random) -> None:
    key = make_key_id(rng)
    text = f"{key} AKIA" + "IOSFODNN7EXAMPLE AKIA" + "XXXXXXXXXXXXXXXX\n"
    assert [each.credential.example for each in located(text.encode(), prefilter)] == [False, True, True]


@pytest.mark.parametrize("masked", ["AKIA" + "X" * 16, "AKIA" + "IOSFODNN7EXAMPLE"])
def test_a_real_secret_beside_a_masked_id_is_told_alone(masked: str, prefilter: Prefilter, rng: random.Random) -> None:
    secret = make_secret(rng)
    found = located(ini(masked, secret).encode(), prefilter)
    real = [each.credential for each in found if not each.credential.example]
    assert [(each.key_id, each.secret) for each in real] == [(None, Secret(secret))]


def test_a_real_secret_and_token_beside_a_masked_id_are_told_alone(prefilter: Prefilter, rng: random.Random) -> None:
    secret, token = make_secret(rng), make_token(rng)
    text = ini("ASIA" + "IOSFODNN7EXAMPLE", secret) + f"aws_session_token = {token}\n"
    real = [each.credential for each in located(text.encode(), prefilter) if not each.credential.example]
    assert {each.secret for each in real} == {Secret(secret), Secret(token)}
    assert {each.key_id for each in real} == {None}


def test_an_examples_own_secret_is_not_told_twice(prefilter: Prefilter) -> None:
    text = ini("AKIA" + "IOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCY" + "EXAMPLEKEY")
    [found] = located(text.encode(), prefilter)
    assert found.credential.example


def test_an_id_its_secret_and_its_token_between_slashes_are_one(prefilter: Prefilter, rng: random.Random) -> None:
    key, secret, token = make_key_id(rng, prefix="ASIA"), make_secret(rng), make_token(rng)
    [found] = located(f"{key}/{secret}/{token}\n".encode(), prefilter)
    assert (found.credential.key_id, found.credential.secret) == (key, Secret(secret))
    assert found.credential.token == Secret(token)


def test_a_key_found_raw_and_decoded_in_one_place_is_one_credential(prefilter: Prefilter, rng: random.Random) -> None:
    key, secret = make_key_id(rng), make_secret(rng)
    text = f"id: {key}\naws_secret: {secret}\nnote: \\u0041\\u004b\\u0049\\u0041 &quot; %3D 'a' + 'b'\n"
    [found] = located(text.encode(), prefilter)
    assert (found.credential.decoder, found.line) == ("", 1)
    copy = base64.b64encode(ini(key, secret).encode()).decode()
    assert [each.line for each in located(f"{text}{copy}\n".encode(), prefilter)] == [1, 4]


def test_far_apart_pairs_of_a_large_file_are_each_found(prefilter: Prefilter, rng: random.Random) -> None:
    filler = "".join(f"line {n} of a file\n" for n in range(60_000))
    keys = [(make_key_id(rng), make_secret(rng)) for _ in range(3)]
    text = filler.join(ini(*pair) for pair in keys)
    assert len(text) > 2_000_000
    found = located(text.encode(), prefilter)
    assert {(each.credential.key_id, each.credential.secret) for each in found} == {(k, Secret(s)) for k, s in keys}
    assert [each.line for each in found] == [2, 60_005, 120_008]


# Properties.

WHENEVER = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
"""The fixtures do not change; how long an example takes to be made is the machine's affair."""
_JUNK = st.lists(
    st.one_of(
        st.binary(max_size=20),
        st.sampled_from([b"AKIA", b"QUtJQ", b"H4sIAAAA", b"%41%4B%49%41", b"\\x41\\x4b", b"&#65;&#75;", b"414b4941",
                         b"'+'", b"=\n", b"A\x00K\x00I\x00A\x00", b"secret_access_key = ", b"IQoJb3JpZ2lu", b"\n",
                         b'"', b"{", b"}", b"\\"]),
    ),
    max_size=12,
).map(b"".join)  # fmt: skip
_BORDER = st.sampled_from([b" ", b"\n", b'"', b"'", b"=", b":", b"\\n", b"%3D", b"/", b"\xff", b"(", b"\x00"])


@settings(max_examples=150, deadline=None, suppress_health_check=WHENEVER)
@given(st.tuples(_JUNK, _BORDER), st.tuples(_BORDER, _JUNK), st.integers(0, 2**32))
def test_text_around_a_key_never_hides_it(
    prefilter: Prefilter, before: tuple[bytes, bytes], after: tuple[bytes, bytes], seed: int
) -> None:
    key = make_key_id(random.Random(seed))
    data = b"".join((*before, key.encode(), *after))
    assert key in {each.credential.key_id for each in detect(data, prefilter) if isinstance(each, Located)}


@settings(max_examples=40, deadline=None, suppress_health_check=WHENEVER)
@given(_JUNK, st.sampled_from(sorted(CHAINS)), _JUNK, st.integers(0, 2**32))
def test_text_around_an_encoded_key_never_hides_it(
    prefilter: Prefilter, before: bytes, chain: str, after: bytes, seed: int
) -> None:
    key = make_key_id(random.Random(seed))
    data = before + b"\n\n: " + CHAINS[chain](ini(key, make_secret(random.Random(seed))).encode()) + b" \n\n" + after
    assert key in {each.credential.key_id for each in detect(data, prefilter) if isinstance(each, Located)}


@settings(max_examples=200, deadline=None, suppress_health_check=WHENEVER)
@given(st.lists(_JUNK, max_size=8).map(b"".join))
def test_no_input_raises_or_leaves_the_text(prefilter: Prefilter, data: bytes) -> None:
    fuzzed(prefilter, data)


def fuzzed(prefilter: Prefilter, data: bytes) -> None:
    lines, began = data.count(b"\n") + 1, time.process_time()
    for each in detect(data, prefilter):
        match each:
            case Located(line=line):
                assert line is None or 1 <= line <= lines
            case Skipped(what=what):
                assert what == "encodings nested too deep"
    assert time.process_time() - began < 10, "no input of a few kilobytes works for long"


_ENCODED = st.recursive(
    _JUNK | st.builds(lambda seed: ini(make_key_id(random.Random(seed)), "x" * 40).encode(), st.integers(0, 99)),
    lambda inner: st.builds(
        lambda parts, chain: CHAINS[chain](b"".join(parts)[:3000].decode(errors="replace").encode()),
        st.lists(inner, min_size=1, max_size=4), st.sampled_from(sorted(CHAINS)),
    ),
    max_leaves=8,
)  # fmt: skip


@pytest.mark.slow
@settings(max_examples=1_000, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(_ENCODED, max_size=6).map(b"".join))
def test_no_input_raises_or_leaves_the_text_for_long(prefilter: Prefilter, data: bytes) -> None:
    fuzzed(prefilter, data)


# Hostile text: what is counted is work, not time.


class Counting(Prefilter):
    """A prefilter that counts what it is asked to read."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.read = 0
        self.calls = 0

    def find(self, window: bytes | memoryview) -> list[Hit]:
        self.read += len(window)
        self.calls += 1
        return super().find(window)


@pytest.fixture(scope="module")
def counting(cache: Path) -> Counting:
    return Counting(cache / "firedamp")


HOSTILE: dict[str, bytes] = {
    "cut heads": b'"AKIA" + ',
    "base64 heads": b"QUtJQVVV ",
    "one run of base64 heads": b"QUtJQVVV",
    "base64 heads at every alignment": b"QUtJQVVVA",
    "gzip heads": b"H4sIAAAA ",
    "utf-16": "AKIAQAAAAAAAAAAAAAAA ".encode("utf-16-le"),
    "hex": b"AKIAQAAAAAAAAAAAAAAA ".hex().encode(),
    "percent": b"%41%4B%49%41",
    "escapes": b"\\x41\\x4b\\x49\\x41",
    "entities": b"&#65;&#75;&#73;&#65;",
    "tokens": b"IQoJb3JpZ2lu",
    "quotes": b"'AKIA'+" + b"''+" * 200,
    "ids": b"AKIAQAAAAAAAAAAAAAAA ",
    "signs": make_key_id(random.Random(1)).encode() + b" \\n \\u0041 &quot; %3D =3D 'a' + 'b' \n" + b" " * 2000,
}


@pytest.mark.parametrize("what", HOSTILE)
def test_work_grows_no_faster_than_the_text(what: str, counting: Counting) -> None:
    read: list[int] = []
    for size in (20_000, 80_000):
        counting.read = counting.calls = 0
        detect((HOSTILE[what] * (size // len(HOSTILE[what]) + 1))[:size], counting)
        read.append(counting.read)
    assert read[1] <= 6 * read[0]
    assert read[1] <= 40 * 80_000


def test_a_bomb_in_each_of_a_thousand_runs_stops_at_the_limit(counting: Counting) -> None:
    bomb = base64.b64encode(gzip.compress(b"\n" * 4_000_000))
    limits = Limits(decoded=10_000_000)
    counting.read = 0
    found = detect(b"\n\n".join(b"bomb: %s" % bomb for _ in range(1000)), counting, limits=limits)
    assert [(each.outcome, each.what) for each in found if isinstance(each, Skipped)] == [
        (Outcome.FAILED, "decoded text")
    ]
    assert counting.read < 30_000_000


def layered_bomb() -> bytes:
    return bz2.compress(gzip.compress(b"x") + bytes((8 << 20) - 100))


def wrong_checksum_bomb() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("x", bytes((8 << 20) - 100))
    packed = bytearray(file.getvalue())
    at = packed.index(b"PK\x01\x02") + 16
    packed[at : at + 4] = b"none"
    return bytes(packed)


@pytest.mark.parametrize("bomb", [layered_bomb, wrong_checksum_bomb])
def test_what_is_unpacked_counts_though_little_comes_of_it(bomb: Callable[[], bytes], prefilter: Prefilter) -> None:
    one = b'k = "' + base64.b64encode(bomb()) + b'"\n\n'
    found = detect(one * (200_000 // len(one)), prefilter)
    assert [(each.outcome, each.what) for each in found if isinstance(each, Skipped)] == [
        (Outcome.FAILED, "decoded text")
    ]


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_key_behind_others_in_a_zip_is_found(method: int, prefilter: Prefilter, rng: random.Random) -> None:
    """Whatever a zip says that its first member needs: 4.6 for bzip2, 6.3 for LZMA."""
    key, secret = make_key_id(rng), make_secret(rng)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        archive.writestr("data.gz", gzip.compress(b"x"))
        archive.writestr("config", ini(key, secret))
    found = detect(b'x: "' + base64.b64encode(file.getvalue()) + b'"', prefilter)
    assert [one.credential.secret for one in found if isinstance(one, Located)] == [Secret(secret)]
    assert len(found) == 1


def test_nesting_stops_at_the_limit_and_says_so(prefilter: Prefilter, rng: random.Random) -> None:
    data = ini(make_key_id(rng), make_secret(rng)).encode()
    for _ in range(4):
        data = base64.b64encode(gzip.compress(data))
    assert located(data, prefilter)
    [told] = detect(data, prefilter, limits=Limits(depth=2))
    assert isinstance(told, Skipped)
    assert (told.outcome, told.what) == (Outcome.LEFT_OUT, "encodings nested too deep")


def test_joints_without_end_are_no_nesting(prefilter: Prefilter) -> None:
    assert not detect(b"['AK" + b"IA', 'ASIA', 'ABIA', 'ACCA', 'AK" * 20 + b"IA']", prefilter)


def test_more_hits_or_credentials_than_the_limit_are_told(prefilter: Prefilter, rng: random.Random) -> None:
    ids = " ".join(make_key_id(rng) for _ in range(50))
    ranked = "\n".join([*(make_secret(rng) for _ in range(12)), make_key_id(rng)])
    for text, limits, what, found, left in (
        (ids, Limits(hits=20), "places worth a look", 20, 30),
        (ids, Limits(credentials=20), "places worth a look", 20, 30),
        (ids + " " + ids, Limits(credentials=50, same=1), "matches", 50, 50),
        (ranked, Limits(credentials=3), "credentials", 3, 5),
    ):
        told = detect(text.encode(), prefilter, limits=limits)
        assert sum(isinstance(each, Located) for each in told) == found
        [over] = [each for each in told if isinstance(each, Skipped)]
        assert (over.what, over.count) == (what, left)
        assert (over.outcome is Outcome.FAILED) is (what != "matches")


def test_a_bomb_of_ids_costs_little_more_than_those_that_are_told(prefilter: Prefilter, rng: random.Random) -> None:
    def calls(count: int) -> int:
        """Count what is called: the same on a busy machine, where a time is not."""
        bomb = base64.b64encode(gzip.compress("\n".join(make_key_id(rng) for _ in range(count)).encode()))
        detect(bomb, prefilter, limits=Limits(credentials=500))  # the first one of a process loads what others need
        made = 0

        def call(_frame: object, event: str, _what: object) -> None:
            nonlocal made
            made += event in {"call", "c_call"}

        before = sys.getprofile()
        sys.setprofile(call)
        try:
            detect(bomb, prefilter, limits=Limits(credentials=500))
        finally:
            sys.setprofile(before)
        return made

    assert calls(5_000) < 5 * calls(500), "ten times as many, if each were looked at as those are that are told"


def test_a_log_that_names_one_key_in_every_line_gives_its_first_places(
    prefilter: Prefilter, rng: random.Random
) -> None:
    found = detect(f"{make_key_id(rng)}\n".encode() * 30, prefilter, limits=Limits(same=10))
    assert sum(isinstance(each, Located) for each in found) == 10
    [told] = [each for each in found if isinstance(each, Skipped)]
    assert (told.outcome, told.count) == (Outcome.LEFT_OUT, 20)


def test_a_text_read_in_too_many_ways_is_told(prefilter: Prefilter) -> None:
    found = detect(b"QUtJQVVVA" * 100, prefilter, limits=Limits(tracks=1))
    assert {each.what for each in found if isinstance(each, Skipped)} == {"readings of one text"}


def test_the_version_covers_every_module_that_detection_uses() -> None:
    script = (
        "import sys\n"
        "import firedamp.scanner.detect, firedamp.scanner.forms, firedamp.scanner.files, firedamp.scanner.look\n"
        "import firedamp.scanner.ownkeys, firedamp.scanner.packs, firedamp.scanner.worker\n"
        "import firedamp.scanner.git, firedamp.scanner.listing, firedamp.scanner.scan\n"
        "print(*(m for m in sys.modules if 'firedamp.scanner.' in m))"
    )
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    names = {name.rpartition(".")[2] for name in loaded}
    # None of these decides what is found.
    names -= {"version", "kept", "jit", "source", "absent", "fetch", "web", "lending", "reread"}
    assert names <= set(SOURCES), "what they passed by is not read again"
    assert len(VERSION) == 16


@pytest.mark.parametrize(
    "held",
    [
        lambda table: f"ROWS = {table!r}\n",
        lambda table: f"rows={table.encode()!r}\n",
        lambda table: html.escape(json.dumps({"rows": table})),
        lambda table: urllib.parse.quote(f"rows={table!r}"),
    ],
    ids=["variable", "bytes", "page", "form"],
)
def test_a_table_in_a_string_keeps_its_header(
    held: Callable[[str], str], prefilter: Prefilter, rng: random.Random
) -> None:
    keys = [(make_key_id(rng), make_secret(rng)) for _ in range(3)]
    table = "secret,owner,key\n" + "".join(f"{secret},someone,{key_id}\n" for key_id, secret in keys)
    best = {
        (one.key_id, one.secret)
        for one in (e.credential for e in located(held(table).encode(), prefilter))
        if not one.rank
    }
    assert best == {(key_id, Secret(secret)) for key_id, secret in keys}


@pytest.mark.parametrize(("before", "codec"), [(0, "ascii"), (5_000, "ascii"), (0, "utf-16-le")])
@pytest.mark.parametrize(
    ("row", "group"),
    [
        ("{:08x}: {:<40} {}", 2),  # xxd
        ("{:08x}  {:<49} |{}|", 1),  # hexdump -C
        ("{:06x} {:<48} >{}<", 1),  # od -A x -t x1z
        ("{:04x}: {:<48} {}", 1),  # curl --trace
        ("{:04x}  {:<48}  {}", 1),  # Wireshark
        ("\t0x{:04x}:  {:<40} {}", 2),  # tcpdump -X
    ],
)
def test_what_was_encoded_before_is_found_in_a_dump(  # noqa: PLR0917 -- what pytest gives
    row: str, group: int, codec: str, before: int, prefilter: Prefilter, rng: random.Random
) -> None:
    key_id, secret = make_key_id(rng), make_secret(rng)
    held = rng.randbytes(before) + base64.b64encode(ini(key_id, secret).encode()).decode().encode(codec)
    lines = [
        row.format(
            at, held[at : at + 16].hex(" ", -group), held[at : at + 16].decode("latin-1", "replace").translate(_DOTS)
        )
        for at in range(0, len(held), 16)
    ]
    assert pairs(("a dump:\n" + "\n".join(lines) + "\n").encode(), prefilter) == {(key_id, secret)}


def test_dumps_that_hold_no_text_cost_little(prefilter: Prefilter, rng: random.Random) -> None:
    held = rng.randbytes(40_000)
    lines = [f"{at:08x}: {held[at : at + 16].hex(' ', -2)}  {'.' * 16}" for at in range(0, len(held), 16)]
    dump = "\n".join(lines).encode()
    assert prefilter.find(dump)
    assert detect(dump, prefilter, limits=Limits(decoded=0)) == []


@pytest.mark.parametrize("spell", ["&#{};", "&#x{:x};", "&#x{:X};"])
def test_entities_that_were_escaped_once_more_are_undone(spell: str, prefilter: Prefilter, rng: random.Random) -> None:
    key_id, secret = make_key_id(rng), make_secret(rng)
    text = "".join(spell.format(ord(character)) for character in ini(key_id, secret))
    assert pairs(html.escape(text).encode(), prefilter) == {(key_id, secret)}


@pytest.mark.parametrize(
    "quoted",
    [
        lambda text: urllib.parse.quote(text, safe=""),
        urllib.parse.quote_plus,
        html.escape,
        lambda text: json.dumps(text).replace('\\"', "\\u0022").replace("+", "\\u002b"),
    ],
    ids=["url", "form", "page", "json"],
)
def test_zlib_in_base64_that_a_notation_quotes_is_undone(
    quoted: Callable[[str], str], prefilter: Prefilter, rng: random.Random
) -> None:
    key_id, secret = make_key_id(rng), make_secret(rng)
    packed = base64.b64encode(zlib.compress(ini(key_id, secret).encode())).decode()
    assert pairs(quoted(f'{{"state": "{packed}"}}').encode(), prefilter) == {(key_id, secret)}


@pytest.mark.parametrize("count", [2, 3, 5])
@pytest.mark.parametrize(
    "joined",
    [
        lambda parts: '"".join([' + ", ".join(f'"{part}"' for part in parts) + "])",
        lambda parts: "''.join((\n    " + ",\n    ".join(f"'{part}'" for part in parts) + ",\n))",
        lambda parts: "[" + ",".join(f"'{part}'" for part in parts) + "].join('')",
        lambda parts: "CONCAT(" + ", ".join(f"'{part}'" for part in parts) + ")",
        lambda parts: '{"Fn::Join": ["", [' + ", ".join(f'"{part}"' for part in parts) + "]]}",
        lambda parts: 'String.join("", ' + ", ".join(f'"{part}"' for part in parts) + ")",
        lambda parts: " ".join(f'"{part}"' for part in parts),
        lambda parts: "".join(f"'{part}'" for part in parts),
    ],
    ids=["python", "lines", "javascript", "sql", "cloudformation", "java", "adjacent", "shell"],
)
def test_a_pair_in_pieces_that_are_joined_is_found(
    count: int, joined: Callable[[list[str]], str], prefilter: Prefilter, rng: random.Random
) -> None:
    def cut(value: str) -> list[str]:
        places = [0, *sorted(rng.sample(range(4, len(value)), count - 1)), len(value)]
        return [value[low:high] for low, high in itertools.pairwise(places)]

    for _ in range(5):
        # Words of a list make an id without digits.
        key_id = next(one for one in iter(lambda: make_key_id(rng), "") if not one.isalpha())
        secret = make_secret(rng)
        text = f"access_key = {joined(cut(key_id))}\nsecret_key = {joined(cut(secret))}\n"
        assert (key_id, secret) in pairs(text.encode(), prefilter)


def test_items_of_a_list_that_nothing_joins_make_no_secret(prefilter: Prefilter, rng: random.Random) -> None:
    key_id, secret = make_key_id(rng), make_secret(rng)
    text = f'access_key = "{key_id}"\nsecret_parts = ["{secret[:12]}", "{secret[12:30]}", "{secret[30:]}"]\n'
    words = b'words = ["ARMY", "ASIA", "ASKS", "ATOM", "AUNT", "AURA", "AWAY"]'
    assert pairs(text.encode() + words, prefilter) == {(key_id, None)}


@pytest.mark.parametrize("quote", ["", '"'])
@pytest.mark.parametrize("id_too", [True, False])
@pytest.mark.parametrize("padded", [True, False])
def test_a_secret_in_base64_behind_a_sign_of_equality_is_paired(
    padded: bool, id_too: bool, quote: str, prefilter: Prefilter, rng: random.Random
) -> None:
    keys = [(make_key_id(rng), make_secret(rng)) for _ in range(3)]
    text = ""
    for number, (key_id, secret) in enumerate(keys):
        first = base64.b64encode(key_id.encode()).decode() if id_too else key_id
        second = base64.b64encode(secret.encode()).decode()
        if not padded:
            first, second = first.rstrip("="), second.rstrip("=")
        text += f"//r{number}/:username={quote}{first}{quote}\n//r{number}/:_password={quote}{second}{quote}\n"
    assert pairs(text.encode(), prefilter) == set(keys)


@pytest.mark.parametrize(
    "layout",
    [
        "AWS_ACCESS_KEY_ID={}\nAWS_SECRET_ACCESS_KEY={}\n",
        "access_key: {}\nsecret_key: {}\n",
        "  access_key: {}\n  region: eu\n  secret_key: {}\n",
        '{{"accessKeyId": "{}", "a": 1, "secretAccessKey": "{}"}}\n',
        "access = {}\nbucket = b\nsecret = {}\n",
    ],
    ids=["env", "yaml", "indented", "json", "ini"],
)
@pytest.mark.parametrize("id_too", [True, False])
@pytest.mark.parametrize(
    "encoded",
    [
        lambda value: value.encode().hex(),
        lambda value: value.encode().hex().upper(),
        lambda value: base64.b64encode(value.encode()).decode(),
    ],
    ids=["hex", "upper", "base64"],
)
def test_the_name_below_an_encoded_value_is_no_part_of_it(
    encoded: Callable[[str], str], id_too: bool, layout: str, prefilter: Prefilter, rng: random.Random
) -> None:
    keys = [(make_key_id(rng), make_secret(rng)) for _ in range(3)]
    text = "".join(layout.format(encoded(one) if id_too else one, encoded(other)) for one, other in keys)
    best = {
        (each.credential.key_id, each.credential.secret)
        for each in located(text.encode(), prefilter)
        if not each.credential.rank
    }
    assert best == {(key_id, Secret(secret)) for key_id, secret in keys}
