"""Records as the public JSON lines, and what every text for a person needs: nothing in it commands a terminal. Pure."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable, Iterable, Mapping

from firedamp.scanner.home import Place
from firedamp.scanner.scan import Report, Reported
from firedamp.storage.records import FileProvenance, Incident, Outcome, Placement, Sight, Sighting
from firedamp.storage.secret import Secret
from firedamp.storage.times import maybe_rfc3339, rfc3339

Json = str | int | bool | None | list["Json"] | dict[str, "Json"]


def many(count: int, name: str) -> str:
    """Return a number with its noun: `1 key`, `1,234 keys`."""
    return f"{count:,} {name}{'' if count == 1 else 's'}"


def safe(text: str) -> str:
    """Replace what could move a terminal's cursor or forge a line: control, format and lone surrogate characters."""
    return "".join(
        f"\\x{ord(c):02x}" if unicodedata.category(c) in {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"} else c for c in text
    )


def failed(what: str, why: str) -> str:
    """Say what could not be read and why, the name once: many a reason begins with it."""
    return safe(why if why.startswith(what) else f"{what}: {why}")


def nowhere(_path: str) -> Place | None:
    """Know no place."""
    return None


def finding_line(
    reported: Reported, secret: Secret | None = None, place_of: Callable[[str], Place | None] = nowhere
) -> dict[str, Json]:
    """Return one credential as its public JSON object (DESIGN, section 3). secret only when the user asked for it."""
    finding, said = reported.finding, reported.finding.verification
    return {
        "fingerprint": finding.fingerprint,
        "kind": finding.kind.value,
        "access_key_id": finding.access_key_id,
        "account_id": finding.account_id,
        "secret": None if secret is None else secret.reveal(),
        "has_secret": finding.has_secret,
        "rank": finding.rank,
        "example": finding.example,
        "verification": {
            "status": said.status.value,
            "at": maybe_rfc3339(said.at),
            "arn": said.arn,
            "detail": said.detail,
        },
        "severity": None if finding.severity is None else finding.severity.name,
        "canary": finding.canary,
        "expires": maybe_rfc3339(finding.expires),
        "notes": list(finding.notes),
        "state": finding.state.value,
        "new": reported.new,
        "first_seen": rfc3339(finding.first_seen),
        "last_seen": rfc3339(finding.last_seen),
        "matches": [_match(sight, place_of) for sight in reported.sights],
    }


def _match(sight: Sight, place_of: Callable[[str], Place | None]) -> Json:
    match, place = sight.match, sight.provenance
    line: dict[str, Json] = {"source": sight.source, "repository": None, "path": place.path}
    line |= {"line": match.line, "column": match.column, "blob": match.blob}
    line |= {"commit": None, "author": None, "date": None, "in_head": None, "mode": None, "place": None}
    if isinstance(place, FileProvenance):
        line["mode"] = None if place.mode is None else f"{place.mode:04o}"
        known = place_of(place.path)
        line["place"] = None if known is None else {"name": known.name, "fix": known.fix_of(match.kind)}
    if not isinstance(place, FileProvenance):
        line |= {
            "repository": place.repository,
            "commit": place.commit,
            "author": place.author,
            "date": maybe_rfc3339(place.date),
            "in_head": place.in_head,
        }
    return line | {
        "container": match.container,
        "decoder": match.decoder,
        "secret_here": match.secret_here,
        "allowed": match.allowed or None,
    }


def summary(report: Report) -> dict[str, Json]:
    """Return what a scan read and did not read, as the last line of its output."""
    tally = report.tally
    by_outcome: dict[str, Json] = {}
    for outcome, name in ((Outcome.LEFT_OUT, "left_out"), (Outcome.GONE, "gone"), (Outcome.FAILED, "failed")):
        each = [skipped for skipped in report.skipped if skipped.outcome is outcome]
        by_outcome[name] = {
            "count": sum(skipped.count for skipped in each),
            "items": [{"what": skipped.what, "why": skipped.why, "count": skipped.count} for skipped in each],
        }
    read: dict[str, Json] = {
        "objects": tally.objects,
        "files": tally.files,
        "bytes": tally.bytes,
        "known": tally.known,
        "ruled_out": tally.ruled_out,
    }
    counts: dict[str, Json] = {
        "findings": len(report.findings),
        "new": sum(each.new for each in report.findings),
        "examples": tally.examples,
        "allowed": tally.allowed,
        "unsure": report.unsure,
    }
    targets: list[Json] = list(report.targets)
    borrowed: list[Json] = list(report.borrowed)
    return {
        "summary": {
            "targets": targets,
            "borrowed": borrowed,
            "read": read,
            **counts,
            **by_outcome,
            "complete": not report.failed,
        }
    }


def _incident_line(incident: Incident, placement: Placement | None) -> dict[str, Json]:
    """Return one incident as its public JSON object (DESIGN, section 3), still without its events."""
    where: Json = None
    if placement is not None:
        where = {"kind": placement.kind, "place": placement.place, "format": placement.format}
    return {
        "incident": incident.id,
        "key": incident.key_id,
        "canary": incident.canary,
        "placement": where,
        "state": incident.state.value,
        "first": rfc3339(incident.first),
        "last": rfc3339(incident.last),
        "sightings": {
            "use": incident.use,
            "derived": incident.derived,
            "mention": incident.mention,
            "tamper": incident.tamper,
        },
        "own": incident.own,
        "addresses": list(incident.addresses),
        "services": list(incident.services),
        "regions": list(incident.regions),
        "denied": incident.denied,
        "writes": incident.writes,
        "events": [],
    }


def _event(sighting: Sighting) -> dict[str, Json]:
    return {
        "id": sighting.event.id,
        "time": rfc3339(sighting.event.time),
        "name": sighting.event.name,
        "kind": sighting.kind.value,
        "address": sighting.event.address,
        "region": sighting.event.region,
        "error": sighting.event.error or None,
    }


def incident_lines(
    told: Iterable[tuple[Incident, Iterable[Sighting], Placement | None]],
    write: Callable[[str], object],
    *,
    whole: bool = False,
) -> None:
    """Write incidents as `json_lines` does, event by event: one may have hundreds of thousands."""
    opened, between, closed = ("[\n", ",\n", "\n]\n") if whole else ("", "\n", "\n")
    first, more, last = ("\n    ", ",\n    ", "\n  ") if whole else ("", ", ", "")
    gap = opened
    for incident, sightings, placement in told:
        # The events come last: the last brackets are theirs.
        line = json.dumps(_incident_line(incident, placement), indent=2 if whole else None)
        before, _, after = line.rpartition("[]")
        write(f"{gap}{before}[")
        gap, mark = between, first
        for each in sightings:
            if not (each.own or each.corrected):
                write(mark + json.dumps(_event(each)))
                mark = more
        write(f"{last if mark == more else ''}]{after}")
    write(closed if gap == between else "[]\n" if whole else "")


def json_lines(lines: Iterable[Mapping[str, Json]], write: Callable[[str], object], *, whole: bool = False) -> None:
    """Write one JSON object a line, ASCII only: no path or author reaches a terminal raw. whole: one array of them."""
    if whole:
        write(json.dumps(list(lines), indent=2) + "\n")
        return
    for line in lines:
        write(json.dumps(line) + "\n")


def place_line(sight: Sight) -> str:
    """Say where a match stands in one line: `path!container:line`, or repository, path and commit."""
    place, line = sight.provenance, f":{sight.match.line}" if sight.match.line else ""
    inside = f"!{sight.match.container}" if sight.match.container else ""
    if isinstance(place, FileProvenance):
        return safe(f"{place.path}{inside}{line}")
    commit = "" if place.commit is None else f" in commit {place.commit[:12]}"
    return safe(f"{place.repository} {place.path or ''}{inside}{line}{commit}")
