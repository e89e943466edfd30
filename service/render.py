"""Findings in each form they take: table, JSON, JSON lines, SARIF, CSV. Pure but for the stream that is written to."""

from __future__ import annotations

import csv
import itertools
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, TextIO

from firedamp.scanner.home import Place
from firedamp.scanner.scan import Report, Reported
from firedamp.service import show
from firedamp.service.options import Format
from firedamp.storage.records import FileProvenance, Sight
from firedamp.storage.secret import Fingerprint, Secret
from firedamp.storage.times import maybe_rfc3339


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """Findings to be shown, and what is known beside them.

    report is the scan they come from, None for a list out of the database. changed says when a file was last changed,
    or when a commit was made. secrets holds those that the user asked to see.
    whole: a table names every place, and what AWS said.
    """

    findings: Iterable[Reported]
    now: datetime
    report: Report | None = None
    place_of: Callable[[str], Place | None] = show.nowhere
    changed: Callable[[Sight], datetime | None] = lambda _: None
    secrets: Mapping[Fingerprint, Secret] = field(default_factory=dict)
    whole: bool = False


def write(listing: Listing, form: Format, out: TextIO) -> None:
    """Write a listing to out in one of its forms."""
    match form:
        case Format.TABLE:
            from firedamp.service import tables  # rich takes a while to load

            tables.write(
                [*listing.findings], listing.report, out, now=listing.now, place_of=listing.place_of,
                changed=listing.changed, secrets=listing.secrets, whole=listing.whole,
            )  # fmt: skip
        case Format.JSON:
            whole: dict[str, show.Json] = {"findings": []}
            if listing.report is not None:
                whole |= show.summary(listing.report)
            _json(whole, "findings", _lines(listing), out)
        case Format.JSONL:
            last = [] if listing.report is None else [show.summary(listing.report)]
            show.json_lines(itertools.chain(_lines(listing), last), out.write)
        case Format.SARIF:
            from firedamp.service import sarif

            results = sarif.results(listing.findings, listing.place_of)
            _json(sarif.log(listing.report), "results", _counted(results), out)
        case Format.CSV:
            _csv(listing, out)


def _lines(listing: Listing) -> Iterator[dict[str, show.Json]]:
    for each in listing.findings:
        yield show.finding_line(each, listing.secrets.get(each.finding.fingerprint), listing.place_of)


def _counted(results: Iterable[show.Json]) -> Iterator[show.Json]:
    """Yield all results, and say at last if they are more than code scanning takes: it may go elsewhere."""
    count = 0
    for each in results:
        count += 1
        yield each
    if count > _CODE_SCANNING_TAKES:
        told = f"{count:,} results, and GitHub's code scanning refuses more than {_CODE_SCANNING_TAKES:,}"
        print(f"warning: this log has {told}; our action uploads the worst of them", file=sys.stderr)


def _json(whole: Mapping[str, show.Json], name: str, items: Iterable[show.Json], out: TextIO) -> None:
    """Write whole with items in the list that stands empty in it: one at a time, for there may be gigabytes of them."""
    before, after = json.dumps(whole, indent=2).split(f'"{name}": []')  # in a string the quotes would be escaped
    margin = "\n" + before.rpartition("\n")[2]
    out.write(f'{before}"{name}": [')
    mark = ""
    for item in items:
        out.write(f"{mark}{margin}  " + json.dumps(item, indent=2).replace("\n", f"{margin}  "))
        mark = ","
    out.write(f"{margin if mark else ''}]{after}\n")


_CODE_SCANNING_TAKES: Final = 25_000
"""Results of one run: docs.github.com, "SARIF results exceed one or more limits"."""
_COLUMNS: Final = (
    "fingerprint", "kind", "access_key_id", "account_id", "secret", "has_secret", "rank", "example", "status",
    "severity", "canary", "state", "new", "expires", "source", "repository", "path", "container",
    "line", "column", "commit", "author", "date", "in_head", "decoder", "place", "fix",
)  # fmt: skip


def _csv(listing: Listing, out: TextIO) -> None:
    """Write one row a place, and one for a finding that stands nowhere any more, for a spreadsheet. RFC 4180."""
    rows = csv.writer(out)
    rows.writerow(_COLUMNS)
    for each in listing.findings:
        finding, secret = each.finding, listing.secrets.get(each.finding.fingerprint)
        first = (
            finding.fingerprint, finding.kind.value, finding.access_key_id, finding.account_id,
            None if secret is None else secret.reveal(), finding.has_secret, finding.rank, finding.example,
            finding.verification.status.value, None if finding.severity is None else finding.severity.name,
            finding.canary, finding.state.value, each.new,
            maybe_rfc3339(finding.expires),
        )  # fmt: skip
        nowhere = (None,) * (len(_COLUMNS) - len(first))
        for where in [_where(sight, listing.place_of) for sight in each.sights] or [nowhere]:
            rows.writerow([_cell(value) for value in (*first, *where)])


def _where(sight: Sight, place_of: Callable[[str], Place | None]) -> tuple[str | int | bool | None, ...]:
    match, place = sight.match, sight.provenance
    if isinstance(place, FileProvenance):
        known = place_of(place.path)
        named = (None, None) if known is None else (known.name, known.fix_of(match.kind))
        return (
            sight.source, None, place.path, match.container, match.line, match.column, None, None, None, None,
            match.decoder, *named,
        )  # fmt: skip
    date = maybe_rfc3339(place.date)
    return (
        sight.source, place.repository, place.path, match.container, match.line, match.column, place.commit,
        place.author, date, place.in_head, match.decoder, None, None,
    )  # fmt: skip


_FORMULA: Final = re.compile(r"((?:^|;)\s*)(?=[=+@\uff1d\uff0b\uff0d\uff20-])")
"""What begins a formula, in full width too, and behind a semicolon, where spreadsheets of many countries part cells."""


def _cell(value: str | int | bool | None) -> str:
    """Return a cell that no spreadsheet takes for a formula (OWASP, "CSV injection") and no terminal for an order."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return _FORMULA.sub(r"\1'", show.safe(str(value)))
