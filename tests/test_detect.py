"""Detection: every kind in every encoding, each at its place in the file as stored."""

from __future__ import annotations

import base64
import gzip
import html
import json
import quopri
import random
import urllib.parse
import zlib
from collections.abc import Callable

import pytest
from tests.builders import make_key_id, make_secret

from firedamp.scanner.candidates import Located
from firedamp.scanner.detect import detect
from firedamp.scanner.prefilter import Prefilter
from firedamp.storage.records import Skipped


@pytest.fixture(scope="module")
def prefilter() -> Prefilter:
    return Prefilter()


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


ENCODINGS: dict[str, Callable[[str], bytes]] = {
    "": str.encode,
    "base64": lambda text: b"blob: " + base64.b64encode(text.encode()) + b"\n",
    "base64 url": lambda text: b"x." + base64.urlsafe_b64encode(text.encode()).rstrip(b"=") + b".sig",
    "base64 wrapped": lambda text: (
        b"data: |\n    " + b"\n    ".join(base64.encodebytes((text * 3).encode()).split()) + b"\n"
    ),
    "base64>gzip": lambda text: b"  release: " + base64.b64encode(gzip.compress(text.encode(), mtime=1)) + b"\n",
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
    "percent": lambda text: b"q=" + "".join(f"%{ord(c):02X}" for c in text).encode(),
    "percent, signs only": lambda text: urllib.parse.quote(text, safe="").encode(),
    r"\x": lambda text: b'"' + b"".join(b"\\x%02x" % c for c in text.encode()) + b'"',
    r"\u": lambda text: b'"' + b"".join(b"\\u%04x" % c for c in text.encode()) + b'"',
    r"\\u": lambda text: b'"' + b"".join(b"\\\\u%04x" % c for c in text.encode()) + b'"',
    r"\u{}": lambda text: b'"' + b"".join(b"\\u{%x}" % c for c in text.encode()) + b'"',
    r"\x{}": lambda text: b'"' + b"".join(b"\\x{%x}" % c for c in text.encode()) + b'"',
    r"\U": lambda text: b'"' + b"".join(b"\\U%08x" % c for c in text.encode()) + b'"',
    "octal": lambda text: b'"' + b"".join(b"\\%03o" % c for c in text.encode()) + b'"',
    "css": lambda text: b'"' + b"".join(b"\\%x " % c for c in text.encode()) + b'"',
    "%u": lambda text: b"".join(b"%%u%04x" % c for c in text.encode()),
    "U+": lambda text: b" ".join(b"U+%04X" % c for c in text.encode()),
    "entity": lambda text: b"<p>" + b"".join(b"&#%d;" % c for c in text.encode()) + b"</p>",
    "entity hex": lambda text: b"<p>" + b"".join(b"&#x%x;" % c for c in text.encode()) + b"</p>",
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
        data = ENCODINGS[encoding](ini(key, secret))
        assert (
            pairs(b"before\n" + data, prefilter) == {(key, secret)}
            if not data.startswith((b"\xff", b"\xfe"))
            else pairs(data, prefilter) == {(key, secret)}
        )
