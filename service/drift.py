"""`canary check`: every placement is read again, and what changed is an alert, once."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from firedamp.canaries import formats
from firedamp.canaries import plant as planter
from firedamp.canaries.plant import Held
from firedamp.scanner.objects import ObjectAccess, find, is_git_dir
from firedamp.scanner.walk import real_path
from firedamp.service import clock, show, tables
from firedamp.service.options import CanaryOptions, Common, Format
from firedamp.service.spots import Places
from firedamp.storage import careful
from firedamp.storage.errors import Failure, UsageFailure
from firedamp.storage.records import (
    Alert,
    AlertKind,
    Canary,
    FileProvenance,
    GitProvenance,
    Placement,
    PlacementState,
    Severity,
    Sight,
)
from firedamp.storage.store import Store
from firedamp.storage.times import maybe_rfc3339, rfc3339

_NAMED: Final = 5
"""Copies that a detail names; the others are counted."""
_QUIET: Final = frozenset({PlacementState.PRESENT, PlacementState.TAKEN_BACK})
_GRAVE: Final = frozenset({PlacementState.COPIED, PlacementState.COMMITTED, PlacementState.MOVED})
"""Somebody took it, or it is about to travel."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A canary and its placement as it is now."""

    canary: Canary
    placement: Placement
    left_out: str = ""
    """Why it was not looked at, if it was not."""


def check(options: CanaryOptions, common: Common, store: Store) -> int:
    """Look at placements, all or those of the canaries that are named. Return 1 for drift, 2 for what is unreadable."""
    common.must_be(Format.TABLE, Format.JSON, Format.JSONL)
    places = Places(store, offline=common.offline, profile=options.profile)
    seen = [_check(canary, placement, places, store) for canary, placement in _chosen(options.names, store)]
    _write(seen, common)
    if not seen:
        common.say(f"none of {'these' if options.names else 'the canaries'} is planted: nothing was looked at")
    states = {each.placement.state for each in seen}
    if PlacementState.UNREADABLE in states:
        return 2
    return int(bool(states - _QUIET))


def _chosen(names: Sequence[str], store: Store) -> Iterator[tuple[Canary, Placement]]:
    placements = store.placements()
    canaries = [key for key in store.watched() if isinstance(key, Canary)]
    for name in names:
        if not any(name in {key.key_id, key.name} for key in canaries):
            raise UsageFailure(f"no canary is called {name}", "see firedamp canary list")
    for canary in canaries:
        placement = placements.get(canary.key_id)
        if placement is None or placement.state is PlacementState.TAKEN_BACK or placement.kind == "told":
            continue
        if not names or {canary.key_id, canary.name} & {*names}:
            yield canary, placement


def _check(canary: Canary, placement: Placement, places: Places, store: Store) -> Seen:
    if places.is_elsewhere(placement.place):
        return Seen(canary, placement, "it is in AWS, and --offline contacts nobody")
    if placement.state is PlacementState.UNPROVEN:
        # Being written at this moment, or cut off: it is neither there nor gone, and no drift.
        return Seen(canary, placement, "its planting has not ended; if it was cut off, canary plant settles it")
    state, detail = _look(placement, places, _sights(placement.key_id, store))
    after = replace(placement, state=state, detail=detail, checked=clock.now())
    changed = (state, detail) != (placement.state, placement.detail) and state not in _QUIET
    store.set_checked(after, _alert(canary, after) if changed else None)
    return Seen(canary, after)


def _look(placement: Placement, places: Places, sights: Sequence[Sight]) -> tuple[PlacementState, str]:
    """Say what became of a placement: the gravest first, and all of it in words."""
    try:
        with places.about(placement.key_id, f"{placement.place} cannot be read"):
            held = places.open(placement.place).read()
        form = formats.choose(placement.format)[0]
    except Failure as failure:
        return PlacementState.UNREADABLE, str(failure)
    found = list(_told(placement, planter.look(held, form, placement.key_id, placement.content), held, sights))
    if not found:
        return PlacementState.PRESENT, ""
    return found[0][0], "; ".join(detail for _, detail in found)


def _told(
    placement: Placement, state: PlacementState, held: Held | None, sights: Sequence[Sight]
) -> Iterator[tuple[PlacementState, str]]:
    committed, copies = _elsewhere(placement, sights)
    if state is PlacementState.GONE:
        moved = [copy for copy in copies if _holds(copy, placement.key_id)]
        if moved:
            yield PlacementState.MOVED, f"it stands in {moved[0]} now"
            copies = [copy for copy in copies if copy != moved[0]]
        else:
            yield state, "the place is empty" if held is None else "the key does not stand there any more"
    elif state is PlacementState.EDITED:
        yield state, "what stands there is not what was planted"
    if committed:
        yield PlacementState.COMMITTED, f"git has it: {committed}"
    if copies:
        more = f" and {len(copies) - _NAMED} more" if len(copies) > _NAMED else ""
        yield PlacementState.COPIED, f"it was met in {', '.join(copies[:_NAMED])}{more}"
    if held is not None and held.world_readable:
        yield PlacementState.WORLD_READABLE, "everybody on this machine may read it"


def _sights(key_id: str, store: Store) -> list[Sight]:
    """Return where the scanner met the id and it stands still, as far as it knows."""
    names = [finding.fingerprint for finding in store.findings(key_id=key_id)]
    return [sight for each in store.sights(names).values() for sight in each]


def _elsewhere(placement: Placement, sights: Sequence[Sight]) -> tuple[str, list[str]]:
    """Sort what the scanner met: how git has the planted file ("" if it has not), and the copies in other places."""
    committed = _tracked(Path(placement.place)) if placement.kind == "file" else ""
    copies: dict[str, None] = {}
    for sight in sights:
        match sight.provenance:
            case FileProvenance(path=path):
                real = real_path(path)
                if path != "-" and not _is_placed(real, placement) and os.path.lexists(real):
                    copies[path] = None
            case GitProvenance(repository=repository, path=path, commit=commit):
                whole = f"{repository}/{path}" if path else repository
                if placement.kind == "file" and _is_placed(whole, placement):
                    committed = committed or f"{repository}, commit {(commit or 'unknown')[:12]}"
                elif not _is_placed(whole, placement):
                    copies[whole] = None
    return committed, list(copies)


def _is_placed(path: str, placement: Placement) -> bool:
    """Whether a path is the placement itself; of a commit, the same path in the repository or its work tree."""
    if placement.kind != "git":
        return os.path.realpath(path) == os.path.realpath(placement.place)
    where, _, inside = placement.place.removeprefix("git:").rpartition(":")
    folder = where.rpartition("@")[0].removesuffix("/.git")
    return path.replace("/.git/", "/") == f"{folder}/{inside}"


def _holds(path: str, key_id: str) -> bool:
    try:
        contents = careful.read(Path(real_path(path)))
    except Failure:
        return False
    return contents is not None and key_id.encode() in contents.data


def _tracked(path: Path) -> str:
    """Say in which repository's index a file is, "" if in none. The repository's configuration is not loaded."""
    for folder in path.parents:
        if not (folder / ".git").exists() and not is_git_dir(folder):
            continue
        try:
            layout = find(folder)
            with ObjectAccess(layout, index=layout.git_dir / "index") as git:
                inside = os.fsencode(path.relative_to(folder))
                # All names are read: a pathspec would be taken for a pattern, and for a place in a work tree.
                listed = b"\n".join(git.output("ls-files", "-z", "--cached", "--full-name")).split(b"\0")
                return f"{folder} tracks it" if inside in listed else ""
        except Failure:
            return ""
    return ""


def _alert(canary: Canary, placement: Placement) -> Alert:
    at = placement.checked or placement.planted
    told = hashlib.blake2b(placement.detail.encode("utf-8", "surrogateescape"), digest_size=6).hexdigest()
    state = placement.state
    return Alert(
        key=f"drift/{placement.key_id}/{state.value}/{told}/{rfc3339(at)}", kind=AlertKind.DRIFT,
        severity=Severity.HIGH if state in _GRAVE else Severity.MEDIUM, at=at, key_id=placement.key_id,
        facts=(
            ("name", canary.name), ("planted in", placement.place), ("since", rfc3339(placement.planted)),
            ("now", state.value), ("what is there", placement.detail),
        ),
    )  # fmt: skip


def _write(seen: Sequence[Seen], common: Common) -> None:
    with common.out() as out:
        if common.format is not Format.TABLE:
            show.json_lines(map(_json, seen), out.write, whole=common.format is Format.JSON)
        else:
            tables.lines(("key", "name", "place", "state", "detail"), map(_cells, seen), out)


def _cells(seen: Seen) -> tuple[str, ...]:
    place = seen.placement
    state = "not looked at" if seen.left_out else place.state.value
    return place.key_id, seen.canary.name, place.place, state, seen.left_out or place.detail


def _json(seen: Seen) -> dict[str, show.Json]:
    place = seen.placement
    return {
        "key": place.key_id, "name": seen.canary.name, "kind": place.kind, "place": place.place,
        "format": place.format, "state": place.state.value, "detail": seen.left_out or place.detail,
        "planted": rfc3339(place.planted), "checked": maybe_rfc3339(place.checked),
    }  # fmt: skip
