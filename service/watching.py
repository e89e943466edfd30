"""`watch` and `incidents`: reads the feeds, shows the incidents."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from contextlib import closing, nullcontext
from datetime import UTC, datetime

from firedamp.canaries import watch as watcher
from firedamp.canaries.feeds import open_feed
from firedamp.service import show
from firedamp.service.options import Common, Format, IncidentsOptions, WatchOptions
from firedamp.storage.errors import UsageFailure
from firedamp.storage.records import Incident, IncidentState, Outcome
from firedamp.storage.store import Store


def watch(options: WatchOptions, common: Common) -> int:
    """Poll every feed, once or for ever; return 1 when an incident was opened, 2 when something could not be read."""
    if not options.feeds:
        raise UsageFailure("watch needs a feed", "firedamp watch --feed file:///FOLDER")
    with common.open_store() as store:
        feeds = [open_feed(url, datetime.now(UTC)) for url in options.feeds]
        while True:
            polled = [watcher.poll(feed, store, datetime.now(UTC)) for feed in feeds]
            opened = [incident for each in polled for incident in each.opened]
            _show(opened, common, store)
            failed = [s for each in polled for s in each.skipped if s.outcome is Outcome.FAILED]
            for each in failed:
                print(f"firedamp: {show.safe(each.what)}: {show.safe(each.why)}", file=sys.stderr)
            if options.once:
                return 2 if failed else int(bool(opened))
            time.sleep(options.interval)


def incidents(options: IncidentsOptions, common: Common) -> int:
    """List, show or close incidents."""
    with common.open_store() as store:
        numbers = [int(each) for each in options.ids if each.isdecimal()]
        if len(numbers) < len(options.ids):
            raise UsageFailure("an incident is known by its number", "see firedamp incidents list")
        if options.action == "close":
            for number in numbers:
                store.close_incident(number, options.reason)
            return 0
        state = None if options.all or numbers else IncidentState.OPEN
        _show([i for i in store.incidents(state=state) if not numbers or i.id in numbers], common, store)
    return 0


def _show(incidents: Sequence[Incident], common: Common, store: Store) -> None:
    placements = store.placements()
    lines = [
        show.incident_line(incident, store.sightings(incident.id), placements.get(incident.key_id or ""))
        for incident in incidents
    ]
    out = common.out()
    with closing(out) if common.output is not None else nullcontext():
        if common.format is not Format.TABLE:
            show.json_lines(lines, out.write)
            return
        for incident in incidents:
            out.write(
                f"#{incident.id}  {incident.key_id or '-'}  {show.safe(incident.title)}  {incident.state}  "
                f"{incident.use} use, {incident.derived} derived, {incident.mention} mention  last {incident.last}\n"
            )
