"""Proves that a use would be seen: a canary is used by ourselves, and the way of its record is timed.

    the call -> its record -> the sighting -> the alert -> the first channel

The call carries a nonce that was written down before, so its record is known as ours and raises no alarm; the drill
puts an alert of its own into the outbox when the sighting is there. Every station is found in the database, so a drill
that was cut off is finished by the next run. One that takes longer than its budget is an alarm.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from firedamp.storage.records import Alert, AlertKind, Canary, CanaryState, Drill, Severity
from firedamp.storage.store import Store
from firedamp.storage.times import rfc3339

_PAUSE: Final = 5.0
GIVE_UP: Final = timedelta(days=1)
"""A drill that is older is not looked for any more: its alarm was raised long ago."""


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What waiting needs. poll reads the feeds, deliver empties the outbox: nothing where a service does both.

    channels: whether there is a channel that takes the drill's alert; without one, a drill ends with the alert.
    """

    store: Store
    now: Callable[[], datetime]
    sleep: Callable[[float], None]
    poll: Callable[[], None]
    deliver: Callable[[], None]
    channels: bool
    budget: timedelta


def wait(drill: Drill, name: str, world: World) -> Drill:
    """Follow a drill to its last station, or until its budget is over: then an alarm is raised. Return how it went."""
    while True:
        world.poll()
        settle(drill, name, world)
        world.deliver()
        drill = settle(drill, name, world)
        left = (drill.called + world.budget - world.now()).total_seconds()
        if done(drill, world) or left <= 0:
            return drill
        world.sleep(min(_PAUSE, left))


def settle(drill: Drill, name: str, world: World) -> Drill:
    """Write down which stations a drill has reached by now; raise the alarm when it is over its budget."""
    store, known = world.store, drill
    if drill.sighted is None and (found := store.drill_record(drill.nonce)) is not None:
        drill = replace(drill, recorded=found[0], sighted=found[1])
    if drill.sighted is not None:
        store.add_alert(_seen(drill, name, world.now()))
        alerted, delivered = store.alert_told(_name(drill))
        drill = replace(drill, alerted=alerted, delivered=delivered)
    if drill != known:
        store.set_drill(drill)
    if over(drill, world):
        store.add_alert(_overdue(drill, name, world))
    return drill


def done(drill: Drill, world: World) -> bool:
    """Whether a drill has reached its last station."""
    return (drill.delivered if world.channels else drill.alerted) is not None


def over(drill: Drill, world: World) -> bool:
    """Whether a drill takes, or took, longer than its budget."""
    return took(drill, world) > world.budget


def took(drill: Drill, world: World) -> timedelta:
    """Return how long it took from the call to the last station, or has taken so far."""
    last = drill.delivered if world.channels else drill.alerted
    return (world.now() if last is None else last) - drill.called


def unfinished(drills: Sequence[Drill], world: World) -> Iterator[Drill]:
    """Yield the drills of earlier runs whose end nobody saw."""
    return (each for each in drills if not done(each, world) and world.now() - each.called < GIVE_UP)


def order(canaries: Sequence[Canary], drills: Sequence[Drill]) -> list[Canary]:
    """Return the living canaries, the one whose own drill is longest ago (or never was) first."""
    last: dict[str, float] = {}
    for drill in drills:
        if not drill.path_only:
            last[drill.key_id] = max(last.get(drill.key_id, 0.0), drill.called.timestamp())
    living = [each for each in canaries if each.state is CanaryState.LIVE]
    return sorted(living, key=lambda each: (last.get(each.key_id, 0.0), each.key_id))


def _name(drill: Drill) -> str:
    return f"drill/{drill.nonce}"


def _seen(drill: Drill, name: str, now: datetime) -> Alert:
    """Return what goes to the channels: no canary's alarm, and plainly a drill's."""
    what = "the path, by a key made for it" if drill.path_only else f"the canary {name}, used by firedamp itself"
    facts = [("drill", what), ("called", rfc3339(drill.called))]
    facts += [("recorded", rfc3339(drill.recorded))] if drill.recorded else []
    facts += [("seen", rfc3339(drill.sighted))] if drill.sighted else []
    return Alert(key=_name(drill), kind=AlertKind.TEST, severity=Severity.LOW, at=now, facts=tuple(facts))


def _overdue(drill: Drill, name: str, world: World) -> Alert:
    stations = (
        ("recorded", drill.recorded), ("seen", drill.sighted), ("alerted", drill.alerted),
        ("delivered", drill.delivered),
    )  # fmt: skip
    reached = [(station, rfc3339(at)) for station, at in stations if at is not None]
    missing = next((station for station, at in stations if at is None), None)
    facts = (
        ("name", name), ("called", rfc3339(drill.called)), ("budget", str(world.budget)), *reached,
        *([] if missing is None else [("not reached", missing)]),
    )  # fmt: skip
    return Alert(
        key=f"overdue/{drill.nonce}", kind=AlertKind.OVERDUE, severity=Severity.HIGH, at=world.now(),
        key_id=drill.key_id, facts=facts,
    )  # fmt: skip
