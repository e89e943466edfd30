"""Writes a canary where it is told, finds it again, and takes it back.

A place holds a text, or nothing. Planting makes a new text, or adds a block at the end of the one that is there; what
stands there is never changed. What was planted is known by its hash (BLAKE2b-128): it is found again wherever it moved
to in the text, and is taken out only as long as it is, byte for byte, what was written.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Protocol

from firedamp.canaries.formats import Format, NameTaken, Pair
from firedamp.canaries.scenery import Surroundings
from firedamp.storage.careful import Contents
from firedamp.storage.errors import Failure, UsageFailure
from firedamp.storage.records import PlacementState

_LINES: Final = 60
"""The most lines that a planted block has."""


@dataclass(frozen=True, slots=True)
class Held:
    """What a place holds. stamp tells the place whether it is still the same when it is written."""

    data: bytes
    stamp: Contents | str
    world_readable: bool = False


class Place(Protocol):
    """Somewhere a canary can stand. What AWS refuses is botocore's ClientError; everything else is a Failure."""

    @property
    def kind(self) -> str:
        """The kind of a placement, as in `file`."""
        ...

    @property
    def name(self) -> str:
        """The place as it is told and remembered; the same text makes the same place again."""
        ...

    @property
    def grows(self) -> bool:
        """Whether something may be added to what is there."""
        ...

    def read(self) -> Held | None:
        """Read what is there, None when nothing is."""
        ...

    def write(self, data: bytes, before: Held | None) -> None:
        """Put data there, unless something else than before is there by now."""
        ...

    def remove(self, held: Held) -> None:
        """Leave nothing there, unless something else than held is there by now."""
        ...


@dataclass(frozen=True, slots=True)
class Plan:
    """What planting writes: the block, behind what is there."""

    before: Held | None
    block: bytes

    @property
    def after(self) -> bytes:
        """The whole text once it is planted."""
        return (b"" if self.before is None else self.before.data) + self.block


def plan(place: Place, before: Held | None, form: Format, pair: Pair, choices: Iterable[Surroundings]) -> Plan:
    """Work out what is written: with the first surroundings whose names are free there.

    Raises UsageFailure where nothing can be planted without touching what is there.
    """
    if before is not None and not place.grows:
        raise UsageFailure(f"{place.name} is there already, and is never overwritten", "choose a name that is free")
    taken: NameTaken | None = None
    for around in choices:
        if before is None or not before.data:
            return Plan(before, form.start(pair, around).encode())
        try:
            block = form.add(_text(before.data), pair, around)
        except NameTaken as failure:
            taken = failure
        except Failure as failure:
            raise UsageFailure(f"{place.name}: {failure.what}", failure.hint) from failure
        else:
            return Plan(before, block.encode())
    raise UsageFailure(f"{place.name}: {'' if taken is None else taken.what}", "" if taken is None else taken.hint)


def prove(place: Place, plan: Plan, form: Format, pair: Pair) -> Held:
    """Read a place again and return what it holds. Raises Failure unless it is the plan, with the pair in it."""
    held = place.read()
    if held is None or held.data != plan.after:
        raise Failure(f"{place.name} does not read back as it was written", "something else writes there, too")
    if form.find(_text(held.data), pair.key_id) != pair:
        raise Failure(f"{place.name} does not read back as a key in {form.name}")
    return held


def undo(place: Place, plan: Plan) -> None:
    """Make a place what it was before the plan, as far as it is exactly what the plan wrote."""
    held = place.read()
    if held is None or held.data != plan.after:
        return
    if plan.before is None:
        place.remove(held)
    else:
        place.write(plan.before.data, held)


def content_of(block: bytes) -> str:
    """Return what a placement remembers of a block: BLAKE2b-128 in hexadecimal digits."""
    return _digest(block).hexdigest()


def look(held: Held | None, form: Format, key_id: str, content: str) -> PlacementState:
    """Say whether what was planted is there, changed, or gone."""
    if held is None:
        return PlacementState.GONE
    if span(held.data, key_id, content) is not None:
        return PlacementState.PRESENT
    known = form.find(_text(held.data), key_id) is not None or any(each in held.data for each in _needles(key_id))
    return PlacementState.EDITED if known else PlacementState.GONE


def take_back(place: Place, key_id: str, content: str, *, was_empty: bool = False) -> bool:
    """Take out exactly what was planted, and return whether there was anything. Raises Failure if it was edited.

    A place with nothing else in it goes, unless it was there before, and empty.
    """
    held = place.read()
    if held is None:
        return False
    found = span(held.data, key_id, content)
    if found is None:
        if not any(each in held.data for each in _needles(key_id)):
            return False
        raise Failure(
            f"{place.name} was edited since the canary was planted there", "take it out by hand: nothing was changed"
        )
    rest = held.data[: found[0]] + held.data[found[1] :]
    if rest or was_empty:
        place.write(rest, held)
    else:
        place.remove(held)
    return True


def span(data: bytes, key_id: str, content: str) -> tuple[int, int] | None:
    """Find the block with a hash: where it begins and ends, None when it is not there as it was written.

    A block is at most 60 lines around the id. It begins with a line, or with the line end before it, where the text
    had none at its end when the block was added.
    """
    lines = data.splitlines(keepends=True)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))
    for at, line in enumerate(lines):
        if any(each in line for each in _needles(key_id)):
            for first, offset in _begins(lines, starts, at):
                digest = _digest(data[offset : starts[first]])
                for last in range(first, min(len(lines), first + _LINES)):
                    digest.update(lines[last])
                    if last >= at and digest.hexdigest() == content:
                        return offset, starts[last + 1]
    return None


def _begins(lines: list[bytes], starts: list[int], at: int) -> Iterator[tuple[int, int]]:
    """Yield (first line, offset) of every block that may hold line at."""
    for first in range(max(0, at - _LINES), at + 1):
        yield first, starts[first]
        if first and lines[first - 1].endswith((b"\n", b"\r")):
            yield first, starts[first] - (2 if lines[first - 1].endswith(b"\r\n") else 1)


def _needles(key_id: str) -> tuple[bytes, bytes]:
    """Return how an id stands in a text: as it is, and in base64 as Kubernetes has it."""
    return key_id.encode(), base64.b64encode(key_id.encode())


def _digest(data: bytes) -> hashlib.blake2b:
    return hashlib.blake2b(data, digest_size=16)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")
