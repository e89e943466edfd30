"""`canary plant`: a fresh key into the place that is named, proven there, and forgotten.

    look at the place, choose what is written -> make the key -> note the place -> write -> read back -> scan -> live

If any step fails the place is made what it was and the key is deleted: nothing is half planted, and no key is left that
nobody watches. A crash leaves the placement `unproven`: the next planting finishes it or takes it back.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from firedamp.canaries import formats
from firedamp.canaries import plant as planter
from firedamp.canaries.formats import FORMATS, Format, Pair
from firedamp.canaries.plant import Held, Place, Plan
from firedamp.canaries.scenery import BYTES, Surroundings, surroundings
from firedamp.scanner.candidates import Located
from firedamp.scanner.source import Blob
from firedamp.service import clock, minting, scanning, show
from firedamp.service.backups import back_up, backups
from firedamp.service.freshkey import KeyMaker, left_over
from firedamp.service.options import CanaryOptions, Common
from firedamp.service.options import Format as Form
from firedamp.service.spots import Places, label_of
from firedamp.storage import careful
from firedamp.storage.errors import AwsFailure, Failure, UsageFailure
from firedamp.storage.keyid import account_of
from firedamp.storage.records import Canary, CanaryState, Placement, PlacementState
from firedamp.storage.refusals import failures
from firedamp.storage.secret import Secret
from firedamp.storage.store import Store

_MASK: Final = Pair("AKIA" + "*" * 16, Secret("*" * 40))
_CHOICES: Final = 12
"""How many surroundings are tried until one has names that are free."""
_LONGEST: Final = 4096
_TAKEN: Final = frozenset({PlacementState.TAKEN_BACK})


@dataclass(frozen=True, slots=True)
class _Job:
    """What is planted where, before there is a key."""

    canary: Canary
    form: Format
    place: Place
    plan: Plan
    choices: tuple[Surroundings, ...]

    def with_key(self, pair: Pair) -> Plan:
        """Return what is written with the real key: all else is as it was planned."""
        return planter.plan(self.place, self.plan.before, self.form, pair, self.choices)


def plant(options: CanaryOptions, common: Common, store: Store) -> int:
    """Plant one canary in one place; return 0. Raises Failure, and then nothing is left of it."""
    common.must_be(Form.TABLE, Form.JSON, Form.JSONL)
    if options.place is None or options.form is None:
        raise UsageFailure("canary plant needs a place and a format", "--at PLACE --as FORMAT: " + ", ".join(FORMATS))
    canary = _meant(options.names, store, exactly=options.secret_from is not None)
    form, label = formats.choose(options.form)
    places = Places(store, offline=common.offline, profile=options.profile, force=options.force)
    if options.dry_run:
        return _show(options.place, form, _choices(canary, label), places, common)
    given = None if options.secret_from is None else Pair(canary.key_id, _secret(options.secret_from))
    if given is not None:
        formats.check(given)
    profile = options.profile or canary.profile or minting.profile_of(options, common.settings())
    maker = KeyMaker(places.aws, store, canary, profile)
    with minting.alone(common):
        _settle(canary, maker, places, store)
        _refuse_placed(canary, store)
        if given is None and common.offline:
            raise UsageFailure("a fresh key is made in IAM, and --offline contacts nobody", "--secret-from gives one")
        job = _job(options.place, canary, form, label, places)
        planted = _with_given(job, given, places, store) if given else _with_fresh(job, maker, places, store)
    _tell(canary, planted, common)
    return 0


def _meant(names: Sequence[str], store: Store, *, exactly: bool) -> Canary:
    """Return the canary that is meant. exactly: a name that means several keys will not do."""
    if len(names) != 1:
        raise UsageFailure("canary plant takes one canary", "one key, one placement")
    (name,) = names
    found = [key for key in store.watched() if name in {key.key_id, key.name}]
    canaries = [key for key in found if isinstance(key, Canary)]
    if not canaries:
        what = f"{name} is a real key, and is not planted" if found else f"no canary is called {name}"
        raise UsageFailure(what, "see firedamp canary list")
    if (exactly and len(canaries) > 1) or len({key.owner for key in canaries}) > 1:
        raise UsageFailure(f"{name} means several keys", "name one by its id: see firedamp canary list")
    canary = next((key for key in canaries if key.state is CanaryState.LIVE), canaries[0])
    if canary.state is CanaryState.RETIRED:
        raise UsageFailure(f"{canary.name} is retired", "mint another")
    if any(each.name == canary.owner.user_name and each.key_id == canary.key_id for each in store.mintings()):
        raise UsageFailure(f"{canary.name} is not minted to the end", "firedamp canary mint finishes it")
    return canary


def _kin(canary: Canary, store: Store) -> Iterator[Canary]:
    """Yield the keys of the same user, and the canary itself."""
    for key in store.watched():
        if isinstance(key, Canary) and (
            key.key_id == canary.key_id or (key.owner.arn is not None and key.owner == canary.owner)
        ):
            yield key


def _settle(canary: Canary, maker: KeyMaker, places: Places, store: Store) -> None:
    """Finish or take back what an earlier run left between writing and proof, and beside a file."""
    placements = store.placements()
    for key in _kin(canary, store):
        placement = placements.get(key.key_id)
        if placement is None or placement.kind == "told":
            continue
        state, held = placement.state, None
        if state is PlacementState.UNPROVEN:
            with places.about(key.key_id, f"{placement.place} cannot be read"):
                held = places.open(placement.place).read()
            form = formats.choose(placement.format)[0]
            state = planter.look(held, form, key.key_id, placement.content)
            if state is not PlacementState.GONE:
                store.watch(replace(key, state=CanaryState.LIVE))
                store.place(replace(placement, state=state, checked=clock.now()))
            elif key.state is CanaryState.MINTING:
                maker.delete(key.key_id)
            else:
                store.unplace(key.key_id)
        _sweep(placement, held, proven=state is PlacementState.PRESENT)


def _sweep(placement: Placement, held: Held | None, *, proven: bool) -> None:
    """Remove what a run that was killed left of writing a file, and the backup that is of no more use."""
    if placement.kind == "file":
        with contextlib.suppress(Failure):  # its folder has gone
            careful.sweep(Path(placement.place))
    for backup in backups().glob(f"*plant.{placement.key_id}.*"):
        # A dot: it was killed while the backup itself was written, before anything was touched.
        if proven or backup.name.startswith(".") or (held is not None and held.data == backup.read_bytes()):
            backup.unlink(missing_ok=True)


def _refuse_placed(canary: Canary, store: Store) -> None:
    placements = store.placements()
    for key in _kin(canary, store):
        placement = placements.get(key.key_id)
        if placement is not None and placement.state not in _TAKEN:
            raise UsageFailure(
                f"{canary.name} stands in {placement.place} already: one key, one placement", "mint another canary"
            )


def _choices(canary: Canary, label: str | None) -> tuple[Surroundings, ...]:
    """Return the surroundings to choose from: first with the names that every SDK reads, then with others."""
    account = canary.owner.account_id or account_of(canary.key_id) or ""
    partition = (canary.owner.arn or "arn:aws").split(":")[1]
    return tuple(
        surroundings(
            os.urandom(BYTES), user=canary.owner.user_name or canary.name, account=account, at=clock.now(), label=label,
            prefixed=number > 0, partition=partition,
        )
        for number in range(1 if label else _CHOICES)
    )  # fmt: skip


def _job(text: str, canary: Canary, form: Format, label: str | None, places: Places) -> _Job:
    choices = _choices(canary, label)
    place = places.open(text, choices[0].label)
    needed = label_of(place)
    if needed is not None:
        if form is not FORMATS["env"]:
            raise UsageFailure("a function has variables, and no text", "--as env")
        choices = tuple(replace(each, label=needed, prefixed=True) for each in choices)
    with places.about(canary.key_id, f"{place.name} cannot be read"):
        before = place.read()
    return _Job(canary, form, place, planter.plan(place, before, form, _MASK, choices), choices)


def _with_fresh(job: _Job, maker: KeyMaker, places: Places, store: Store) -> Placement:
    canary, pair = maker.make()
    try:
        return _carry_out(job, canary, pair, places, store)
    except BaseException:
        try:
            maker.delete(canary.key_id)
        except AwsFailure as failure:
            print(f"firedamp: {left_over(failure, canary.key_id)}", file=sys.stderr)
        raise


def _with_given(job: _Job, pair: Pair, places: Places, store: Store) -> Placement:
    try:
        return _carry_out(job, job.canary, pair, places, store)
    except BaseException:
        store.unplace(pair.key_id)
        raise


def _carry_out(job: _Job, canary: Canary, pair: Pair, places: Places, store: Store) -> Placement:
    """Write, prove, remember. On failure the place is made what it was."""
    plan, place = job.with_key(pair), job.place
    placement = Placement(
        key_id=pair.key_id, kind=place.kind, place=place.name, format=job.form.name,
        content=planter.content_of(plan.block), planted=clock.now(),
        was_empty=plan.before is not None and not plan.before.data,
    )  # fmt: skip
    store.place(placement)
    with places.about(pair.key_id, f"{place.name} cannot be written"), _backup(plan, pair.key_id) as backup:
        try:
            place.write(plan.after, plan.before)
            held = planter.prove(place, plan, job.form, pair)
            _prove_found(held.data, pair, place.name)
            state = PlacementState.WORLD_READABLE if held.world_readable else PlacementState.PRESENT
            placement = replace(placement, state=state, checked=clock.now())
            store.watch(replace(canary, state=CanaryState.LIVE))
            store.place(placement)
        except BaseException:
            _undo(place, plan, backup)
            store.watch(canary)
            raise
    return placement


def _prove_found(data: bytes, pair: Pair, where: str) -> None:
    """Read the text as a scan does: a canary that our own scanner overlooks, an intruder's overlooks too."""
    for each in scanning.detect_blob(Blob(where, data)):
        if isinstance(each, Located) and (each.credential.key_id, each.credential.secret) == (pair.key_id, pair.secret):
            return
    raise Failure(f"our own scanner does not find the key in {where}", "choose another format")


@contextlib.contextmanager
def _backup(plan: Plan, key_id: str) -> Iterator[Path | None]:
    """Keep what was there in our own state folder until the placement is proven or undone."""
    if plan.before is None:
        yield None
        return
    path = back_up(f"plant.{key_id}", plan.before.data)
    keep = False
    try:
        yield path
    except _NotUndone:
        keep = True
        raise
    finally:
        if not keep:
            path.unlink(missing_ok=True)


class _NotUndone(Failure):
    """The place could not be made what it was."""


def _undo(place: Place, plan: Plan, backup: Path | None) -> None:
    try:
        with failures(f"{place.name} cannot be made what it was"):
            planter.undo(place, plan)
    except Failure as failure:
        kept = "" if backup is None else f"what was there before is kept in {backup}"
        raise _NotUndone(f"{place.name} could not be made what it was: {failure.what}", kept) from failure


def _secret(source: str) -> Secret:
    """Read a secret from where `--secret-from` says. It is not taken from the command line, where others see it."""
    kind, _, rest = source.partition(":")
    match kind:
        case "-":
            value = sys.stdin.readline(_LONGEST)
        case "env" if rest in os.environ:
            value = os.environ[rest]
        case "file" if rest:
            held = careful.read(Path(rest).expanduser().absolute())
            if held is None:
                raise UsageFailure(f"there is no file {rest} to take the secret from")
            value = held.data[:_LONGEST].decode("utf-8", "replace")
        case _:
            raise UsageFailure(f"no secret can be taken from {source}", "env:NAME, file:PATH or -")
    return Secret(value.strip())


def _show(text: str, form: Format, choices: tuple[Surroundings, ...], places: Places, common: Common) -> int:
    """Print what would be written, with the key masked. Nothing is called: a place in AWS is taken for empty."""
    from firedamp.canaries.awsplaces import spot

    if spot(text) is not None:
        block, added = form.start(_MASK, choices[0]), False
    else:
        place = places.open(text, choices[0].label)
        plan = planter.plan(place, place.read(), form, _MASK, choices)
        block, added = plan.block.decode("utf-8", "surrogateescape"), plan.before is not None
    common.say(f"would be {'added at the end of' if added else 'written to'} {show.safe(text)}:")
    with common.out() as out:
        out.write(block)
    return 0


def _tell(canary: Canary, placement: Placement, common: Common) -> None:
    with common.out() as out:
        if common.format is not Form.TABLE:
            line: dict[str, show.Json] = {
                "key": placement.key_id, "name": canary.name, "kind": placement.kind, "place": placement.place,
                "format": placement.format, "state": placement.state.value,
            }  # fmt: skip
            show.json_lines([line], out.write)
        else:
            out.write(f"{placement.key_id}  {show.safe(placement.place)}  {placement.state.value}\n")


def take_back(canary: Canary, options: CanaryOptions, common: Common, store: Store) -> bool:
    """Take a canary out of its place; its key stays alive and watched. Return whether anything was there.

    Raises Failure when what was planted was edited since: then nothing is changed. A commit stays in the history.
    """
    placement = store.placements().get(canary.key_id)
    if placement is None or placement.state in _TAKEN:
        return False
    if placement.kind == "told":
        raise Failure(f"{placement.place} was noted by hand", "take the key out by hand")
    places = Places(store, offline=common.offline, profile=options.profile, force=options.force)
    with places.about(canary.key_id, f"{placement.place} cannot be taken back"):
        if placement.kind == "file":
            careful.sweep(Path(placement.place))
        there = planter.take_back(
            places.open(placement.place), placement.key_id, placement.content, was_empty=placement.was_empty
        )
    detail = "" if there else "it was gone already"
    if there and placement.kind == "git":
        detail = "the history of the branch still holds it"
    store.place(replace(placement, state=PlacementState.TAKEN_BACK, checked=clock.now(), detail=detail))
    return there
