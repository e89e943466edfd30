"""`findings`: list, show, judge and export what was found. Contacts nobody."""

from __future__ import annotations

import functools
import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from firedamp.scanner.marks import OWN
from firedamp.scanner.scan import Reported
from firedamp.service import clock, render, who
from firedamp.service.options import Common, FindingsOptions, Format
from firedamp.service.render import Listing
from firedamp.service.show import json_lines, many, safe
from firedamp.service.surroundings import changed, place_of
from firedamp.storage.errors import SourceFailure, UsageFailure
from firedamp.storage.records import Finding, TriageState
from firedamp.storage.secret import Fingerprint
from firedamp.storage.store import Store

_TOGETHER: Final = 200
"""Findings whose places are read, and held in memory, at a time."""


def findings(options: FindingsOptions, common: Common) -> int:
    """Do what was asked with the findings named, or with all."""
    with common.open_store() as store:
        chosen = _named(store, options)
        if options.action == "set":
            _judge(store, chosen, options, common)
            return 0
        found = listed(store, chosen) if options.ids or options.allowed else _joined(store, chosen)
        if options.allowed:
            found = _allowed(found)
        elif options.action == "list" and not options.ids:
            found = _standing(found)
        if options.by is not None:
            _share_out(found, options.by, common)
            return 0
        if options.action == "export" and common.format is Format.TABLE:
            common = replace(common, format=Format.JSONL)  # a table is for eyes; what is exported is read by programs
        first = [*itertools.islice(found, 1)]
        show(itertools.chain(first, found), common, whole=options.action == "show")
    if not first:
        common.say("no finding is like that: firedamp scan looks for keys")
    return 0


def _named(store: Store, options: FindingsOptions) -> list[Finding]:
    """Return the findings that the ids name, by fingerprint or key id; without ids all but examples.

    A state, where it is given, narrows them.
    """
    if options.action in {"show", "set"} and not options.ids:
        raise UsageFailure(f"findings {options.action} needs an ID", "see firedamp findings list")
    state = None if options.state is None or options.action == "set" else TriageState(options.state)
    if options.ids:
        return [each for each in store.findings_of(named(store, options.ids)) if state in {None, each.state}]
    return [each for each in store.findings(state=state) if options.examples or not each.example]


def named(store: Store, ids: Iterable[str]) -> set[Fingerprint]:
    """Return the findings that ids name: each by its key id, or alone by the beginning of its fingerprint."""
    fingerprints = set[Fingerprint]()
    for name in ids:
        if not name:
            raise UsageFailure("an empty ID names no finding", "is a shell variable unset?")
        found = store.finding(name)
        if not found:
            raise UsageFailure(f"no finding is named {name}", "see firedamp findings list")
        if len(found) > 1 and any(each.access_key_id != name for each in found):
            raise UsageFailure(f"{name} may be any of {len(found)} findings", "give more of the fingerprint")
        fingerprints.update(each.fingerprint for each in found)
    return fingerprints


def _judge(store: Store, chosen: list[Finding], options: FindingsOptions, common: Common) -> None:
    if options.state is None:
        raise UsageFailure("findings set needs --state", "open, accepted, false-positive or revoked")
    for finding in chosen:
        store.set_state(finding.fingerprint, TriageState(options.state), options.reason)
    common.say(f"{many(len(chosen), 'finding')} set to {options.state}")


def listed(store: Store, findings: Sequence[Finding]) -> Iterator[Reported]:
    """Yield findings with every place they were met in. Some at a time: a key may have thousands of places."""
    for at in range(0, len(findings), _TOGETHER):
        some = findings[at : at + _TOGETHER]
        sights = store.sights([finding.fingerprint for finding in some])
        for finding in some:
            yield Reported(finding=finding, sights=tuple(sights[finding.fingerprint]), new=False, fresh=False)


def _joined(store: Store, findings: Sequence[Finding]) -> Iterator[Reported]:
    """Yield findings as a scan tells them: an id alone stands with the pairs of the same id that were judged alike."""
    paired = {(each.access_key_id, each.state) for each in findings if each.has_secret and each.access_key_id}
    alone = defaultdict[tuple[str | None, TriageState], list[Fingerprint]](list)
    for each in findings:
        if not each.has_secret and (each.access_key_id, each.state) in paired:
            alone[each.access_key_id, each.state].append(each.fingerprint)
    joined = {name for names in alone.values() for name in names}
    for told in listed(store, [each for each in findings if each.fingerprint not in joined]):
        names = alone.get((told.finding.access_key_id, told.finding.state), ())
        more = itertools.chain.from_iterable(store.sights(names).values()) if names else ()
        yield replace(told, sights=(*told.sights, *more))


def _allowed(found: Iterable[Reported]) -> Iterator[Reported]:
    """Yield what a mark allows somewhere, with these places only."""
    for each in found:
        if sights := tuple(sight for sight in each.sights if sight.match.allowed):
            yield replace(each, sights=sights)


def _standing(found: Iterable[Reported]) -> Iterator[Reported]:
    """Leave out what our own mark allows, as a scan does, and what it allows everywhere altogether."""
    for each in found:
        sights = tuple(sight for sight in each.sights if not sight.match.honours({OWN}))
        if sights or not each.sights:
            yield replace(each, sights=sights)


def show(found: Iterable[Reported], common: Common, *, whole: bool = False) -> None:
    """Write findings out of the database, in the form that was asked for. whole: with all that a table leaves out."""
    with common.out() as out:
        render.write(
            Listing(findings=found, now=clock.now(), place_of=place_of, changed=changed, whole=whole),
            common.format, out,
        )  # fmt: skip


def _code_owners(cache: Path | None) -> who.Owned:
    """Return who answers whose a path is, by the CODEOWNERS file of each repository that is still to be had."""
    from firedamp.scanner import owners
    from firedamp.scanner.git import stand_at
    from firedamp.scanner.objects import find
    from firedamp.service.scanning import clones_in

    @functools.cache
    def of(repository: str) -> owners.Owners | None:
        try:
            return next((owners.of(find(path)) for path in stand_at(repository, clones_in(cache))), None)
        except SourceFailure:  # moved, or a clone that made room: nobody is named
            return None

    @functools.cache
    def owned(repository: str, path: str) -> tuple[str, ...]:
        known = of(repository)
        return () if known is None else known.of(path)

    return owned


def _share_out(found: Iterable[Reported], by: str, common: Common) -> None:
    """Write who should act, and on how much."""
    common.must_be(Format.TABLE, Format.JSON, Format.JSONL)
    open_ones = (each for each in found if each.finding.state is TriageState.OPEN and not each.finding.example)
    settings = common.settings()
    made = who.shares(open_ones, by, settings.team, _code_owners(settings.serve.cache))
    if not made:
        common.say("nobody has to act: no finding is open")
    with common.out() as out:
        if common.format is Format.TABLE:
            for each in made:
                worst = "" if each.worst is None else f", worst {each.worst.name.lower()}"
                held = f"{many(each.keys, 'key')} in {many(each.places, 'place')}"
                out.write(f"{safe(each.name)}: {held}, {each.active} active{worst}\n")
            return
        json_lines(
            [
                {
                    by: each.name, "keys": each.keys, "places": each.places, "active": each.active,
                    "worst": None if each.worst is None else each.worst.name.lower(),
                }
                for each in made
            ],
            out.write,
            whole=common.format is Format.JSON,
        )  # fmt: skip
