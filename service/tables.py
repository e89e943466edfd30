"""Findings for a person: a table in which all copies of one key stand together, and what to do first. Pure."""

from __future__ import annotations

import functools
import itertools
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Final, TextIO, TypeAlias

from firedamp.scanner.walk import LINK
from firedamp.service.show import failed, many, safe
from firedamp.storage.records import (
    TEMPORARY,
    FileProvenance,
    Finding,
    Outcome,
    Severity,
    Sight,
    Skipped,
    Status,
    TriageState,
)
from firedamp.storage.secret import Fingerprint, Secret

if TYPE_CHECKING:
    from firedamp.scanner.home import Place
    from firedamp.scanner.scan import Report, Reported

PlaceOf: TypeAlias = "Callable[[str], Place | None]"
Changed = Callable[[Sight], datetime | None]

_COPIES: Final = 20
"""Places of one key that the table names; the others are counted, and `findings show` names them."""
_TOLD: Final = 10
_LINKS: Final = "links to what is not scanned"
_STYLES: Final = {
    Status.ACTIVE: "bold red",
    Status.WRONG_SECRET: "red",
    Status.UNKNOWN: "yellow",
    Status.UNCHECKED: "yellow",
    Status.CANARY: "cyan",
    Status.REJECTED: "green",
    Status.EXPIRED: "green",
}


Line = tuple[str, str]
"""A line of a cell, and its style."""
Cell = Sequence[Line]


def lines(columns: Sequence[str], rows: Iterable[Sequence[str]], out: TextIO) -> None:
    """Write a table of plain cells."""
    _print(columns, [[[(safe(cell), "")] for cell in row] for row in rows], (), out)


def write(
    findings: Sequence[Reported],
    report: Report | None,
    out: TextIO,
    *,
    now: datetime,
    place_of: PlaceOf,
    changed: Changed,
    secrets: Mapping[Fingerprint, Secret],
    whole: bool = False,
) -> None:
    """Write the table and, for a scan, what was read and what to do first. Nothing wraps where nobody looks.

    whole names every place of a key, and what AWS said of it; otherwise why nothing is known stands below the table.
    """
    place_of = functools.cache(place_of)
    rows = [
        (_key(each.finding, now, secrets), [(each.finding.account_id or "-", "")], _status(each),
         [*_said(each.finding), *_places(each, place_of, None)] if whole else [*_places(each, place_of, _COPIES)])
        for each in findings
    ]  # fmt: skip
    below = () if report is None else _summary(findings, report, now, place_of, changed)
    _print(("key", "account", "status", "where"), rows, below if whole else (*_undecided(findings), *below), out)


def _print(columns: Sequence[str], rows: Sequence[Sequence[Cell]], below: Iterable[str], out: TextIO) -> None:
    """Write a table, if it has rows, and lines below it: with styles and as wide as the terminal where there is one."""
    if out.isatty():
        _rich(columns, rows, below, out)
        return
    out.writelines(line + "\n" for line in itertools.chain(_aligned(columns, rows) if rows else (), below))


def _rich(columns: Sequence[str], rows: Sequence[Sequence[Cell]], below: Iterable[str], out: TextIO) -> None:
    # Loaded for a terminal only: elsewhere there is nothing to style or to wrap, and it takes a millisecond a row.
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    class Screen(Console):
        """Leaves it to `cli.main` what a reader that has gone means: rich's own way out is status 1."""

        def on_broken_pipe(self) -> None:
            raise BrokenPipeError

    console = Screen(file=out, highlight=False, markup=False, emoji=False)
    if rows:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
        for column in columns:
            table.add_column(column, overflow="fold")
        for row in rows:
            table.add_row(*(Text("\n").join(Text(text, style) for text, style in cell) for cell in row))
        console.print(table)
    for line in below:
        console.print(line, soft_wrap=True)


def _aligned(columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> Iterator[str]:
    """Yield the lines of a table in which nothing wraps."""
    texts = [[column] for column in columns], *([[text for text, _ in cell] for cell in row] for row in rows)
    widths = [max(width(text) for row in texts for text in row[at]) for at in range(len(columns))]
    for number, row in enumerate(texts):
        for line in itertools.zip_longest(*row, fillvalue=""):
            padded = (text + " " * (wide - width(text)) for text, wide in zip(line, widths, strict=True))
            yield "   ".join(padded).rstrip()
        if number == 0:
            yield "─" * (sum(widths) + 3 * (len(widths) - 1))


def width(text: str) -> int:
    """Return how many columns of a terminal text takes (Unicode Standard Annex 11)."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(one) else 2 if unicodedata.east_asian_width(one) in {"W", "F"} else 1 for one in text
    )


def _key(finding: Finding, now: datetime, secrets: Mapping[Fingerprint, Secret]) -> list[Line]:
    told = [(finding.access_key_id or finding.kind.value, "")]
    secret = secrets.get(finding.fingerprint)
    if secret is not None:
        told.append((safe(secret.reveal()), ""))
    notes = [f"guess {finding.rank + 1} of its secret"] if finding.rank else []
    if not finding.has_secret and finding.access_key_id is not None:
        notes.append("id alone")
    notes.append(_lasting(finding, now))
    notes += [safe(note) for note in finding.notes]
    return [*told, *((f"  {note}", "dim") for note in [*notes, finding.fingerprint[:12]])]


def _lasting(finding: Finding, now: datetime) -> str:
    if finding.kind not in TEMPORARY:
        return "long-term"
    if finding.expires is None:
        return "temporary"
    verb = "expired" if finding.expires <= now else "expires"
    return f"temporary, {verb} {finding.expires:%Y-%m-%d %H:%M} UTC"


def _status(reported: Reported) -> list[Line]:
    finding = reported.finding
    told = [(finding.verification.status.value, _STYLES[finding.verification.status])]
    if finding.severity is not None:
        told.append((finding.severity.name, "bold" if finding.severity >= Severity.HIGH else ""))
    if finding.state is not TriageState.OPEN:
        told.append((finding.state.value, "dim"))
    if reported.new or reported.fresh:
        told.append(("new" if reported.new else "new place", "bold"))
    if finding.example:
        told.append(("example", "dim"))
    return told


def _said(finding: Finding) -> Iterator[Line]:
    """Yield what AWS said of a key, and when, or why it said nothing."""
    said = finding.verification
    when = [] if said.at is None else [f"asked {said.at:%Y-%m-%d %H:%M} UTC"]
    told = ": ".join(filter(None, (safe(said.arn or ""), safe(said.detail))))
    if when or told:
        yield "; ".join(filter(None, (*when, told))), ""


def _places(reported: Reported, place_of: PlaceOf, most: int | None) -> Iterator[Line]:
    """Yield the lines of the places of one key, each place's fix once. most: so many places, None for all."""
    told: set[str] = set()
    if not reported.sights:
        yield "no longer where it was found", "dim"
    for sight in reported.sights[:most]:
        yield where(sight), ""
        if sight.match.allowed:
            yield f"  marked {safe(sight.match.allowed)}", "dim"
        place = sight.provenance
        if not isinstance(place, FileProvenance):
            yield f"  {_commit(sight)}", "dim"
            continue
        if place.mode is not None and place.mode & 0o004:
            yield "  readable by every user of this machine", "yellow"
        known = place_of(place.path)
        if known is not None and known.name not in told:
            told.add(known.name)
            yield f"  {known.name}: {known.fix_of(sight.match.kind)}", "dim"
    if most is not None and len(reported.sights) > most:
        more = len(reported.sights) - most
        yield f"… and {more:,} more: findings show {reported.finding.fingerprint[:12]}", ""


def where(sight: Sight) -> str:
    """Return a place for a person: `path!container:line`, with nothing in it that a terminal would obey."""
    place, match = sight.provenance, sight.match
    path = place.path or (place.path if isinstance(place, FileProvenance) else place.repository) or "-"
    inside = f"!{match.container}" if match.container else ""
    line = "" if match.line is None else f":{match.line}"
    decoder = f" ({match.decoder})" if match.decoder else ""
    return safe(f"{path}{inside}{line}{decoder}")


def _commit(sight: Sight) -> str:
    place = sight.provenance
    if isinstance(place, FileProvenance):
        return ""
    parts = [place.repository, "in no commit" if place.commit is None else place.commit[:12]]
    parts += [place.author] if place.author else []
    parts += [f"{place.date:%Y-%m-%d}"] if place.date is not None else []
    if place.in_head is not None:
        parts.append("still in HEAD" if place.in_head else "not in HEAD")
    return safe(", ".join(parts))


def _undecided(findings: Sequence[Reported]) -> Iterator[str]:
    """Say why AWS's answer decides nothing: the clock, the network or a proxy can be mended here."""
    said = [each.finding.verification for each in findings]
    why = Counter(each.detail for each in said if each.status is Status.UNKNOWN and each.detail)
    for detail, count in why.items():
        yield f"UNKNOWN ({count:,}): {safe(detail)}"


def _summary(
    findings: Sequence[Reported], report: Report, now: datetime, place_of: PlaceOf, changed: Changed
) -> Iterator[str]:
    real = [each for each in findings if not each.finding.example]
    # One id may have several secrets, each a finding of its own.
    keys = {each.finding.access_key_id or each.finding.fingerprint: each.finding.kind for each in real}
    shown = {each.finding.fingerprint for each in findings}
    hidden = sum(not each.finding.example and each.finding.fingerprint not in shown for each in report.findings)
    places = {(sight.provenance, sight.match.container) for each in real for sight in each.sights}
    if keys:
        long_term = sum(kind not in TEMPORARY for kind in keys.values())
        dates = [when for each in real for sight in each.sights if (when := changed(sight)) is not None]
        oldest = f"; oldest copy from {min(dates):%Y}" if dates else ""
        yield f"{many(len(keys), 'key')} in {many(len(places), 'place')}; {long_term} long-term{oldest}"
        yield from _first(real, now, place_of)
    else:
        only = "Examples only." if findings else "No key to show." if hidden else "No key found."
        yield "Nothing was read." if report.tally.nothing else only
    if hidden:
        yield f"not shown: {many(hidden, 'finding')}: decided, in the baseline, not new, or not asked for"
    if report.unsure:
        told = many(report.unsure, "finding")
        yield f"not read again: {told} of earlier scans stood in what failed now, and may or may not stand there"
    tally = report.tally
    read = [many(count, name) for count, name in ((tally.files, "file"), (tally.objects, "object")) if count]
    read += [f"{tally.known:,} known and unchanged"] if tally.known else []
    read += [f"{tally.ruled_out:,} ruled out by the delta filter"] if tally.ruled_out else []
    yield f"read: {', '.join(read) or 'nothing'}; {_size(tally.bytes)}"
    if report.borrowed:
        yield f"read too, for a repository borrows from there: {safe(', '.join(report.borrowed))}"
    hidden = tally.examples - sum(each.finding.example for each in findings)
    also = [f"{tally.allowed:,} allowed by a mark in the line"] if tally.allowed else []
    also += [many(hidden, "example")] if hidden > 0 else []
    if also:
        yield f"not shown: {', '.join(also)}"
    for outcome in Outcome:
        yield from _not_read(outcome, [each for each in report.skipped if each.outcome is outcome])


def _first(found: Sequence[Reported], now: datetime, place_of: PlaceOf) -> Iterator[str]:
    """Yield the one thing to do first: about a live key before others, a long-term one before a temporary one."""
    worst = min(
        (
            each
            for each in found
            if each.sights and not each.finding.canary and each.finding.state is TriageState.OPEN
        ),
        key=lambda each: (
            -(each.finding.severity or 0), each.finding.verification.status is not Status.ACTIVE,
            _ended(each.finding, now), _elsewhere(each.finding), each.finding.kind in TEMPORARY,
            not _of_root(each, place_of), not each.finding.has_secret,
        ),
        default=None,
    )  # fmt: skip
    if worst is None:
        return
    finding = worst.finding
    # What says most of the key: its root user's file rather than a copy elsewhere.
    sight = next((each for each in worst.sights if _is_root(_place(each, place_of))), worst.sights[0])
    known = _place(sight, place_of)
    what = "disable it, then take it out of every place above" if known is None else known.fix_of(finding.kind)
    if finding.kind not in TEMPORARY and not _ended(finding, now) and not any(word in what for word in _ENDING):
        what = f"disable or rotate it; then: {what}"
    yield f"do this first: {finding.access_key_id or finding.kind} in {where(sight)}: {what}"


_ENDING: Final = ("rotate", "disable", "delete this key")
"""A fix that says one of these ends the key; others only take it away from where it stands."""


def _ended(finding: Finding, now: datetime) -> bool:
    if finding.verification.status is Status.ACTIVE:
        return False
    passed = finding.kind in TEMPORARY and finding.expires is not None and finding.expires <= now
    return passed or finding.verification.status in {Status.REJECTED, Status.EXPIRED}


def _elsewhere(finding: Finding) -> bool:
    return any(note.startswith("non-AWS ") for note in finding.notes)


def _of_root(reported: Reported, place_of: PlaceOf) -> bool:
    """Whether a key is a root user's: AWS said so, or it stands in the file that the console gives root users."""
    arn = reported.finding.verification.arn
    return (arn is not None and arn.endswith(":root")) or any(
        _is_root(_place(sight, place_of)) for sight in reported.sights[:_COPIES]
    )


def _is_root(place: Place | None) -> bool:
    return place is not None and place.name.startswith("root user")


def _place(sight: Sight, place_of: PlaceOf) -> Place | None:
    return place_of(sight.provenance.path) if isinstance(sight.provenance, FileProvenance) else None


def _size(count: int) -> str:
    """Word a number of bytes: `512 bytes`, `1.5 kB`, `1,234.5 MB`."""
    if count < 1000:
        return many(count, "byte")
    return f"{count / 1e3:,.1f} kB" if count < 1_000_000 else f"{count / 1e6:,.1f} MB"


def _not_read(outcome: Outcome, skipped: Sequence[Skipped]) -> Iterator[str]:
    if not skipped:
        return
    why = Counter[str]()
    for each in skipped:
        why[_LINKS if each.why.startswith(LINK) else each.why] += each.count
    named = outcome is Outcome.FAILED
    if len(why) == 1 and not named:
        yield f"{outcome}: {sum(why.values()):,}, {safe(next(iter(why)))}"
        why.clear()
    else:
        yield f"{outcome}: {sum(why.values()):,}"
    for each in skipped[: _TOLD if named else 0]:
        yield f"  {failed(each.what, each.why)}"
    if named and len(skipped) > _TOLD:
        yield f"  … and {len(skipped) - _TOLD:,} more; --format json names them all"
    for reason, count in why.most_common(0 if named else _TOLD):
        yield f"  {count:,} {safe(reason)}"
    links = [each for each in skipped if each.why.startswith(LINK)]
    for each in links[:_TOLD]:
        yield f"    {safe(each.what)}: {safe(each.why)}"
