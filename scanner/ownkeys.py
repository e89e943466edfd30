"""The user's own keys, searched by value: a secret that stands alone, without a name or an id that would give it away.

The values live in memory only. Each is looked for as it stands, in every encoding of `decode`, in any two of them, in
any three of the dense ones, in base64 five deep, and in all that detection decodes for another reason. Notations that
leave most characters alone, and cuts, leave pieces of it: what stands around one is undone.
"""

from __future__ import annotations

import functools
import re
import threading
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import hyperscan

from firedamp.scanner.candidates import Credential, Located
from firedamp.scanner.decode import DECODERS
from firedamp.scanner.forms import expression
from firedamp.scanner.keys import Shape, shape
from firedamp.scanner.runs import Mark, Run
from firedamp.storage.records import KeyKind, Skipped
from firedamp.storage.secret import Fingerprint, Secret, fingerprint

_SHORTEST: Final = 16
"""A value shorter than this is no secret of AWS's, and would be found by chance."""
_BEGINNING: Final = 8192
TELLING: Final = 40
_ANY: Final = 2
_DENSE_DEPTH: Final = 3
_DENSE: Final = frozenset({"base64", "utf-16", "hex", "percent"})
_DEEP: Final = frozenset({"base64"})
_DEPTH: Final = 5
"""Encodings in each other: any two, any three that encode all there is, and base64 as deep as the decoders go."""
_PIECE: Final = 8
"""Characters of a piece of a value: none of them is quoted anywhere, and chance does not write them."""
_AROUND: Final = 400
"""Bytes around a piece that are undone: a value has 40 characters, each quoted as six or cut off by a line's end."""
_PIECES: Final = 200
"""Pieces of one key around which something is undone, in one text: a minified file could repeat one without end."""
_QUOTED_DEPTH: Final = 3
_CONTINUATION: Final = bytes(range(0x80, 0xC0))


@dataclass(frozen=True, slots=True)
class OwnKey:
    """A key of a local AWS profile."""

    profile: str
    key_id: str
    secret: Secret

    @property
    def kind(self) -> KeyKind:
        """What sort of key it is."""
        return KeyKind.TEMPORARY_KEY if self.key_id.startswith("ASIA") else KeyKind.ACCESS_KEY

    @property
    def fingerprint(self) -> Fingerprint:
        """The fingerprint of a finding of it."""
        return fingerprint(self.kind, self.key_id, self.secret)


@dataclass(frozen=True, slots=True)
class OwnKeys:
    """A matcher for some keys. Can be sent to another process, which then compiles its own."""

    keys: tuple[OwnKey, ...]

    def hits(self, data: bytes | memoryview) -> list[tuple[int, int]]:
        """Return (end offset, number of the form) of each place where a key stands, or a piece of it, in order."""
        found: list[tuple[int, int]] = []

        def note(number: int, _start: int, end: int, _flags: int, _context: object) -> None:
            found.append((end, number))

        _database(self.keys).scan(data, match_event_handler=note, scratch=_scratch(self.keys))
        return sorted(found)

    def any(self, data: bytes | memoryview) -> bool:
        """Whether one of the keys, or a piece of it, stands in data."""
        return bool(self.hits(data))

    def find(self, data: bytes, line: int, column: int, known: Sequence[Located | Skipped]) -> Iterator[Located]:
        """Yield where the keys stand in data, which begins at line and column; not those that known tells already."""
        told = {each.credential.secret for each in known if isinstance(each, Located)}
        for start, credential in self.within(data):
            if credential.secret in told:
                continue
            if b"\0" in data[:_BEGINNING]:  # no text: there are no lines
                yield Located(credential, None, None)
                continue
            breaks = data.count(b"\n", 0, start)
            last = data.rfind(b"\n", 0, start) + 1
            width_before = len(data[last:start].translate(None, _CONTINUATION))
            yield Located(credential, line + breaks, width_before + (1 if breaks else column))

    def within(self, text: bytes) -> Iterator[tuple[int, Credential]]:
        """Yield where the keys stand in text: the offset at which one begins, or one of its pieces, and the key."""
        forms, ends, pieces = _forms(self.keys), dict[OwnKey, int](), Counter[OwnKey]()
        for end, number in self.hits(text):
            form = forms[number]
            key, start, chain = form.key, end - form.width, form.decoder
            # Two forms may fit one place: what begins like UTF-16 in one order goes on like it in the other.
            if start < ends.get(key, 0):
                continue
            if form.piece:
                value = key.secret.reveal().encode()
                if pieces[key] == _PIECES or text.find(value, max(0, end - len(value)), start + len(value)) >= 0:
                    continue  # a piece ends before the value that it is a part of
                pieces[key] += 1
                low = max(0, start - _AROUND)
                undone = _undone(text[low : end + _AROUND], start - low, key, _QUOTED_DEPTH)
                if undone is None:
                    continue
                at, chain = undone
                start = low + at
            ends[key] = end + (_AROUND if form.piece else 0)
            yield start, Credential(
                kind=key.kind, key_id=key.key_id, secret=key.secret, anchor=start, decoder=chain,
                notes=(f"the secret of the AWS profile {key.profile}, found by its value",),
            )  # fmt: skip


def _undone(text: bytes, at: int, key: OwnKey, depth: int) -> tuple[int, str] | None:
    """Return where key begins in text and the notations that hide it there. None if it does not stand there.

    A piece of it stands at at.
    """
    value, piece = key.secret.reveal().encode(), text[at : at + _PIECE]
    inside = list[tuple[Run, int, str]]()
    for decoder in DECODERS:
        if decoder.signs is not None and decoder.name != "base64":
            for run in decoder.runs(text, [Mark(at, -1)]):
                if (start := run.out.find(value)) >= 0:
                    return run.source(start), decoder.name
                if (start := run.out.find(piece)) >= 0:
                    inside.append((run, start, decoder.name))
    for run, start, name in inside if depth > 1 else ():
        if (found := _undone(run.out, start, key, depth - 1)) is not None:
            return run.source(found[0]), f"{name}>{found[1]}"
    return None


class _Form(NamedTuple):
    """How a key, or a piece of one, may stand: the encodings undone to see it, and how many bytes it takes."""

    key: OwnKey
    decoder: str
    shape: Shape
    piece: bool = False

    @property
    def width(self) -> int:
        return len(self.shape)


@functools.cache
def _forms(keys: tuple[OwnKey, ...]) -> list[_Form]:
    return [*_whole(keys), *_pieces(keys)]


@functools.cache
def _database(keys: tuple[OwnKey, ...]) -> Any:
    # The end of a long form tells as much as all of it, and compiles in a third of the time.
    expressions = [expression(form.shape[-TELLING:]) for form in _forms(keys)]
    database = hyperscan.Database()
    database.compile(
        expressions=expressions, ids=list(range(len(expressions))), elements=len(expressions),
        flags=[0] * len(expressions),
    )  # fmt: skip
    return database


_LOCAL: Final = threading.local()


def _scratch(keys: tuple[OwnKey, ...]) -> Any:
    """Return the space in which this thread scans: no two may use one at a time."""
    made: dict[tuple[OwnKey, ...], Any] = _LOCAL.__dict__.setdefault("made", {})
    if keys not in made:
        made[keys] = hyperscan.Scratch(_database(keys))
    return made[keys]


def _pieces(keys: Collection[OwnKey]) -> Iterator[_Form]:
    """Yield what of each key no notation changes and no cut but one in it takes apart."""
    for key in keys:
        for found in re.finditer(rf"[A-Za-z0-9]{{{_PIECE}}}", key.secret.reveal()[:TELLING]):
            yield _Form(key, "", shape(found.group().encode()), piece=True)


def _whole(keys: Collection[OwnKey]) -> Iterator[_Form]:
    """Yield each key as it stands and in encodings of encodings: outermost first, as matches name them."""
    for key in keys:
        plain = shape(key.secret.reveal().encode())
        seen = {plain}
        yield _Form(key, "", plain)
        layer = [("", plain)]
        for depth in range(1, _DEPTH + 1):
            layer = [
                (f"{decoder.name}>{inside}".rstrip(">"), encoded.shape)
                for inside, inner in layer
                for decoder in DECODERS
                if _tried(depth, f"{decoder.name}>{inside}".rstrip(">"))
                for encoded in decoder.shapes(_sure(inner))
            ]
            for chain, positions in layer:
                if len(positions) >= _SHORTEST and positions not in seen:
                    seen.add(positions)
                    yield _Form(key, chain, positions)


def _sure(positions: Shape) -> Shape:
    """Return a shape without the bytes at its ends that are not known for certain: not every encoding writes those."""
    known = [at for at, values in enumerate(positions) if len(values) == 1]
    return positions[known[0] : known[-1] + 1] if known else ()


def _tried(depth: int, chain: str) -> bool:
    """Whether a key is looked for in this chain: all would be a million forms a key."""
    names = set(chain.split(">"))
    return depth <= _ANY or (depth <= _DENSE_DEPTH and names <= _DENSE) or names <= _DEEP
