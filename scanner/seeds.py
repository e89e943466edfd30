"""What the delta filter looks for, made from the table of key kinds and the decoders: nothing is listed twice. Pure.

A value in an object lies in one piece of the pack's delta data, or in two. Its *head* is chosen so that either the
first piece holds the whole head or the second the *tail*, from the head's last character on: whichever stands whole in
one piece is a seed. The heads are those of `forms`, in every encoding. A tail is a rule for all kinds: one for each
notation that spells a value character by character, and in the compiled kernel (`kernels.runs`) those for base64, for
hexadecimal digits and for what is marked by its length alone. A long head is its own tail, cut in half.

Not covered: in decimal lists and entities, a Bedrock or AppSync key that is cut inside its head of four characters.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

from firedamp.scanner.decode import DECODERS
from firedamp.scanner.forms import expression, whole_heads
from firedamp.scanner.keys import BASE32, BASE64, KINDS, Shape, shape
from firedamp.scanner.runs import Decoder


@dataclass(frozen=True, slots=True)
class Seeds:
    """What to look for in inserted bytes, as Hyperscan expressions (NUL written as an escape).

    heads: one alone makes a suspect. words: one makes a suspect together with a random-looking run anywhere in what the
    object was derived from. A border between two pieces is the byte 0xff, an object's end the byte NUL; a real one only
    makes more suspects.
    """

    heads: tuple[bytes, ...]
    words: tuple[bytes, ...] = ()


_VALUE: Final = rb"[^A-Za-z0-9+/]{1,12}(?:[a-z]{1,8}[^A-Za-z0-9+/]{1,12})?[A-Za-z0-9+/\\%]{40}"
WORDS: Final = (
    rb"(?i)secret[_. -]?access",
    rb"(?is)s[_. -]?key[a-z_. -]{0,12}" + _VALUE,
    rb"(?i)aws[a-z_. -]{0,16}sec",
    rb"(?is)cret[a-z_. -]{0,12}" + _VALUE,
    rb"(?i)(?:ses|smtp)[a-z_. -]{0,16}pas",
    rb"(?is)ss[a-z_. -]{0,8}[^A-Za-z0-9+/]{1,12}B[A-P][A-Za-z0-9+/\\%]{42}",
)
"""What tells a lone secret, as the expressions of `keys` do, cut in two: each name's larger part, wherever its value
stands, and beside it, for a name cut before that, its rest with the whole value behind it."""

CONTAINERS: Final = {
    "zip": rb"PK(?:\x03\x04|\x05\x06|00PK)|Cr24[\x02\x03]\x00",
    "gzip": rb"\x1f\x8b\x08",
    "bzip2": rb"BZh[1-9](?:1AY&SY|\x17rE8P\x90)",
    "xz": rb"\xfd7zXZ\x00|\x5d\x00\x00[\x00-\xff]{2}(?:\xff{8}|[\x00-\xff]{5}\x00{3})",
    "zstd": rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18",
    "lz4": rb"\x04\x22\x4d\x18",
    "7z": rb"7z\xbc\xaf\x27\x1c",
    "ar": rb"!<arch>\n",
    "cpio": rb"07070[127][0-9A-Fa-f]{6}|\x00(?:\xc7\x71|\x71\xc7)",
    "rpm": rb"\xed\xab\xee\xdb",
    "sqlite": rb"SQLite format 3\x00",
    "plist": rb"bplist00",
    "pdf": rb"%PDF-",
    "mbox": rb"[\x00\xff]From \S{1,200} [^\n]{0,40}\d\d:\d\d",
    "mail": rb"[\x00\xff](?i:Return-Path|Received|Delivered-To|X-[\w-]{1,60}|From|To|Subject|Date|MIME-Version"
    rb"|Message-ID|DKIM-Signature):",
    "tar": rb"ustar|(?:[ 0-7]{7}\x00){3}",
    "utf-16": rb"\x00(?:\xff\xfe|\xfe\xff)",
}
"""How what must be opened, and so read in full, begins: by format (`containers.FORMATS`), looked for anywhere.

So an object derived from a container is read in full too. Mail, which any text could resemble, must begin an object
or a piece.
"""

_APPSYNC: Final = (rb"(?:^|[^0-9a-z])da2-", rb"da2-[0-9a-z]{13}")
"""The bare head `da2-` stands in one of 2,000 UUIDs: only at a border, or with half a key. A copy that makes a key of a
UUID would bring at least 12 digits of it (git copies 16 bytes and more), which no random key shares."""

_UNITS: Final = 12
"""Characters of a value, spelled one by one, that make a tail: a value cut inside its head leaves more."""
_LONG_HEAD: Final = 8
"""A literal of so many characters is cut in two; the tail of a shorter head is what follows it."""
_DENSE: Final = ("base64", "utf-16", "hex")


@cache
def seeds() -> Seeds:
    """Return the seeds of every kind in every encoding, and of every container."""
    heads = dict.fromkeys((*whole_heads(), *_halves(), *_spelled_tails(), *CONTAINERS.values(), *_APPSYNC))
    del heads[expression(shape(b"da2-"))]
    return Seeds(tuple(heads), WORDS)


def _halves() -> Iterator[bytes]:
    """Yield the halves of every long literal: plain, and in the notations whose numbers differ in length."""
    for kind in KINDS:
        for inner in kind.shapes:
            literal = tuple(itertools.takewhile(lambda values: len(values) == 1, inner))
            if len(literal) >= _LONG_HEAD and literal[-7:] != shape(b"EXAMPLE"):
                named = max((len(head) for head in kind.heads if shape(head) == literal[: len(head)]), default=0)
                first = named if 0 < named < len(literal) else (len(literal) + 3) // 2
                yield expression(inner[:first])
                yield expression(inner[first - 1 :])
                yield from _numbered_halves(literal, first)
        for word in kind.words:
            yield from _numbered_halves(shape(word), len(word) // 2)


def _numbered_halves(literal: Shape, first: int) -> Iterator[bytes]:
    for decoder in DECODERS:
        if decoder.name in {"decimal", "entity"}:
            for part, whole in zip(decoder.shapes(literal[:first]), decoder.shapes(literal), strict=True):
                yield expression(part.shape)
                yield expression(whole.shape[len(part.shape) - 1 :])


def _spelled_tails() -> Iterator[bytes]:
    """Yield what remains of a value spelled character by character when its head is cut, in each notation."""
    for decoder in DECODERS:
        if decoder.name in {"base64", "hex"}:
            continue
        for long, short in zip(_units(decoder, BASE64), _units(decoder, BASE32), strict=True):
            yield expression(long or short)
    paired = (BASE64, b"\x00") * _UNITS
    for decoder in DECODERS:
        if decoder.name in _DENSE:
            yield from (expression(one.shape) for one in decoder.shapes(paired))


def _units(decoder: Decoder, alphabet: bytes) -> Sequence[Shape]:
    return [one.shape for one in decoder.shapes((alphabet,) * _UNITS)]
