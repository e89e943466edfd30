"""The prefilter: bytes to the places worth a look, at gigabytes a second.

One hyperscan database holds every form of every head of `keys.KINDS`: as it stands, and in each encoding of
`decode.DECODERS`, alone and in another. It only says where to look; `keys` and `decode` judge.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import hyperscan

from firedamp.scanner.candidates import Role
from firedamp.scanner.decode import DECODERS, Encoded
from firedamp.scanner.keys import KINDS, Kind, Shape, shape

BASE64_DEPTH: Final = 5
"""How often base64 within base64 is recognised from outside; any other two encodings are recognised in each other."""
_DEEP_HEADS: Final = (b"AKIA", b"ASIA")
"""The heads looked for beyond two levels of base64: each level has three alignments, so the forms triple."""


_TELLING: Final = 30
"""Bits that a form must tell: fewer would be met by chance in ordinary files."""


@dataclass(frozen=True, slots=True)
class Form:
    """One thing the prefilter looks for, as a hyperscan expression.

    kind and size: for a value as it stands, its row in KINDS and how many bytes before the end of the hit it begins;
    size 0 is a name beside a value. decoder and phase: for an encoded one, the outermost decoder and the place of the
    hit's end in its rhythm.
    """

    expression: bytes
    kind: int | None = None
    size: int = 0
    decoder: int | None = None
    phase: int = 0


@dataclass(frozen=True, slots=True)
class Hit:
    """A form seen in a text: end is the offset behind its last byte."""

    end: int
    form: Form


def expression(positions: Shape) -> bytes:
    """Write a shape as a hyperscan expression: bytes that are no letters or digits by number, NUL too (DESIGN 7)."""
    parts: list[list[Any]] = []
    for values in positions:
        text = _class(values)
        if parts and parts[-1][0] == text:
            parts[-1][1] += 1
        else:
            parts.append([text, 1])
    return b"".join(text if count == 1 else b"%s{%d}" % (text, count) for text, count in parts)


def _class(values: bytes) -> bytes:
    escaped = [bytes([v]) if bytes([v]).isalnum() else b"\\x%02x" % v for v in values]
    return escaped[0] if len(escaped) == 1 else b"[" + b"".join(escaped) + b"]"


def _joined(positions: Shape, joint: bytes) -> Iterator[bytes]:
    """Yield the expressions of a shape with joint at each place inside it."""
    for at in range(1, len(positions)):
        yield expression(positions[:at]) + joint + expression(positions[at:])


def _cut(positions: Shape, head: int, joint: bytes) -> Iterator[bytes]:
    """Yield the expressions of a raw value that joint cuts: inside its head, everywhere in its head, or behind it."""
    if len(positions) <= head:
        return
    tail, longest = positions[head], len(positions) - head - 1
    yield from (expression(positions[:at]) + joint + expression(positions[at : head + 1]) for at in range(1, head))
    yield joint.join(expression((one,)) for one in positions[:head])
    yield expression(positions[:head]) + _class(tail) + b"{0,%d}" % longest + joint + _class(tail)


# Compressed data inside base64: gzip by its magic, method and flags, which stand at the first alignment; zlib by its
# two bytes, at the start of a long run.
_BASE64: Final = next(number for number, decoder in enumerate(DECODERS) if decoder.name == "base64")
_DENSE: Final = ("base64", "utf-16", "hex")
_DENSE_NUMBERS: Final = tuple(number for number, decoder in enumerate(DECODERS) if decoder.name in _DENSE)
_GZIP: Final = shape(b"\x1f\x8b\x08", bytes(range(32)))
_ZLIB: Final = rb"[^A-Za-z0-9+/_-]e(?:J[w-z]|N[o-r]|A[E-H]|F[4-7])[A-Za-z0-9+/_-]{61}"


def _once(inner: Shape) -> Iterator[tuple[int, Encoded]]:
    """Yield what each decoder's encoding makes of a shape."""
    for number, decoder in enumerate(DECODERS):
        for encoded in decoder.shapes(inner):
            if sum(8 - math.log2(len(values)) for values in encoded.shape) >= _TELLING:
                yield number, encoded


def _beginnings() -> Iterator[Shape]:
    """Yield what is looked for encoded: the beginnings of the values of each kind, and the names beside values."""
    for kind in KINDS:
        yield from (positions[: kind.enough] for positions in kind.shapes)
        yield from (shape(word) for word in kind.words)


def _all_forms() -> Iterator[Form]:
    for number, kind in enumerate(KINDS):
        yield from (Form(expression(one), kind=number, size=len(one)) for one in kind.shapes)
        yield from (Form(text, kind=number) for text in kind.expressions)
    for inner in dict.fromkeys(_beginnings()):
        for number, encoded in _once(inner):
            yield Form(expression(encoded.shape), decoder=number, phase=encoded.phase)
    yield from _cut_ids()
    yield from _twice()
    yield from _deep_base64()
    yield from _compressed()


def _ids() -> Iterator[tuple[Kind, Shape]]:
    """Yield the shapes of key ids, less the documentation's."""
    return ((kind, one) for kind in KINDS if kind.role is Role.KEY_ID for one in kind.shapes[: len(kind.heads)])


def _cut_ids() -> Iterator[Form]:
    """Yield key ids cut in two: a raw one by a decoder's joint, an encoded one by the end of a line."""
    for kind, one in _ids():
        for number, decoder in enumerate(DECODERS):
            if decoder.joint:
                yield from (Form(text, decoder=number) for text in _cut(one, len(kind.heads[0]), decoder.joint))
            if decoder.wrap:
                for encoded in decoder.shapes(one[: kind.enough]):
                    for text in _joined(encoded.shape, decoder.wrap):
                        yield Form(text, decoder=number, phase=encoded.phase)


def _twice() -> Iterator[Form]:
    """Yield key ids encoded twice: anything in base64; base64, UTF-16 and hex in UTF-16 and hex."""
    for kind, one in _ids():
        for first_number, first in _once(one[: kind.enough]):
            dense = DECODERS[first_number].name in _DENSE
            for number in _DENSE_NUMBERS if dense else (_BASE64,):
                for second in DECODERS[number].shapes(first.shape):
                    yield Form(expression(second.shape), decoder=number, phase=second.phase)


def _deep_base64() -> Iterator[Form]:
    level = [shape(head) for head in _DEEP_HEADS]
    for depth in range(1, BASE64_DEPTH + 1):
        encoded = [one for inner in level for one in DECODERS[_BASE64].shapes(inner)]
        if depth > 2:
            yield from (Form(expression(one.shape), decoder=_BASE64, phase=one.phase) for one in encoded)
        level = [one.shape for one in encoded]


def _compressed() -> Iterator[Form]:
    first = next(DECODERS[_BASE64].shapes(_GZIP))
    yield Form(expression(first.shape), decoder=_BASE64, phase=first.phase)
    for number, second in _once(first.shape):
        yield Form(expression(second.shape), decoder=number, phase=second.phase)
    yield Form(_ZLIB, decoder=_BASE64)


@cache
def forms() -> tuple[Form, ...]:
    """Return every form of every kind, each expression once, the least encoded first."""
    made: dict[bytes, Form] = {}
    for form in _all_forms():
        made.setdefault(form.expression, form)
    return tuple(made.values())


class Prefilter:
    """The compiled forms. Safe to share between threads: each has its own scratch space.

    folder holds a copy of the compiled database (made 0700 if it is missing); None compiles every time, which takes a
    second. A copy that cannot be read or written is compiled around: it only saves time.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._database = _load(folder)
        self._local = threading.local()

    def find(self, window: bytes | memoryview) -> list[Hit]:
        """Return every hit in window, sorted by end."""
        found: list[tuple[int, int]] = []

        def note(number: int, _start: int, end: int, _flags: int, _context: object) -> None:
            found.append((end, number))

        self._scan(window, note)
        found.sort()
        known = forms()
        return [Hit(end, known[number]) for end, number in found]

    def hits(self, window: bytes | memoryview) -> list[int]:
        """Return the end offsets of everything worth a look, sorted, each once."""
        found: set[int] = set()

        def note(_number: int, _start: int, end: int, _flags: int, _context: object) -> None:
            found.add(end)

        self._scan(window, note)
        return sorted(found)

    def any(self, window: bytes | memoryview) -> bool:
        """Whether anything in window is worth a look; stops at the first."""
        found = False

        def note(_number: int, _start: int, _end: int, _flags: int, _context: object) -> bool:
            nonlocal found
            found = True
            return True

        with contextlib.suppress(hyperscan.ScanTerminated):
            self._scan(window, note)
        return found

    def _scan(self, window: bytes | memoryview, note: Callable[[int, int, int, int, object], bool | None]) -> None:
        if not hasattr(self._local, "scratch"):
            self._local.scratch = hyperscan.Scratch(self._database)
        self._database.scan(window, match_event_handler=note, scratch=self._local.scratch)


def _compile() -> Any:
    database = hyperscan.Database()
    known = forms()
    database.compile(
        expressions=[form.expression for form in known],
        ids=list(range(len(known))),
        elements=len(known),
        flags=[0] * len(known),
    )
    return database


def _load(folder: Path | None) -> Any:
    """Return the compiled database, from the folder's copy if it is ours and fits, else compiled and copied there."""
    if folder is None:
        return _compile()
    name = hashlib.blake2b(repr((metadata.version("hyperscan"), forms())).encode(), digest_size=12).hexdigest()
    path = folder / f"prefilter-{name}.hs"
    try:
        with path.open("rb") as file:
            # hyperscan trusts what it loads: a copy that another user could have written is not loaded.
            status = os.fstat(file.fileno())
            if not hasattr(os, "getuid") or (status.st_uid == os.getuid() and not status.st_mode & 0o022):
                return hyperscan.loadb(file.read(), hyperscan.HS_MODE_BLOCK)
    except (OSError, hyperscan.HyperscanError):
        pass
    database = _compile()
    with contextlib.suppress(OSError):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, delete=False) as copy:
            copy.write(hyperscan.dumpb(database))
        Path(copy.name).replace(path)
    return database
