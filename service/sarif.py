"""Findings as SARIF 2.1.0 (OASIS), as code scanning services read it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final
from urllib.parse import quote

from firedamp.scanner.home import Place
from firedamp.scanner.marks import OWN
from firedamp.scanner.scan import Report, Reported
from firedamp.service.ourselves import version
from firedamp.service.show import Json, safe
from firedamp.storage.records import FileProvenance, Finding, KeyKind, Sight, Skipped, Status, TriageState

_SCHEMA: Final = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_PLACES: Final = 100
"""Places told of one finding: services refuse results without bound. The finding itself has them all."""

_TITLES: Final = {
    KeyKind.ACCESS_KEY: "AWS access key",
    KeyKind.TEMPORARY_KEY: "Temporary AWS access key",
    KeyKind.SECRET_KEY: "AWS secret access key",
    KeyKind.SESSION_TOKEN: "AWS session token",
    KeyKind.BEDROCK_LONG: "Amazon Bedrock API key",
    KeyKind.BEDROCK_SHORT: "Short-term Amazon Bedrock API key",
    KeyKind.MWS_TOKEN: "Amazon MWS token",
    KeyKind.SES_SMTP: "Amazon SES SMTP password",
    KeyKind.APPSYNC_KEY: "AWS AppSync API key",
}


def log(report: Report | None) -> dict[str, Json]:
    """Return a SARIF log of one run, without its results."""
    failed = [] if report is None else report.failed
    run: dict[str, Json] = {
        "tool": {
            "driver": {
                "name": "firedamp",
                "version": version() or "0",
                "informationUri": "https://pypi.org/project/firedamp/",
                "rules": [_rule(kind) for kind in KeyKind],
            }
        },
        "invocations": [
            {
                "executionSuccessful": not failed,
                "toolExecutionNotifications": [_notification(each) for each in failed],
            }
        ],
        "columnKind": "unicodeCodePoints",
        "results": [],
    }
    return {"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}


def results(findings: Iterable[Reported], place_of: Callable[[str], Place | None]) -> Iterator[Json]:
    """Yield the results of a log. Fingerprints are the finding's own: they survive moved lines and new commits.

    What stands nowhere any more is no result: code scanning services refuse one without a place, and close what a log
    does not hold.
    """
    kinds = list(KeyKind)
    for each in findings:
        if each.sights:
            yield _result(each, kinds, place_of)


def _rule(kind: KeyKind) -> Json:
    return {
        "id": kind.value,
        "name": kind.name.title().replace("_", ""),
        "shortDescription": {"text": f"{_TITLES[kind]} leaked"},
        "fullDescription": {"text": f"{_TITLES[kind]} stands where others can read it."},
        "help": {"text": "Disable the key, find out who used it, then take it out of every place where it stands."},
        "defaultConfiguration": {"level": "error"},
        "properties": {"tags": ["security", "secret"], "security-severity": "8.0"},
    }


def _notification(skipped: Skipped) -> Json:
    return {"level": "error", "message": {"text": f"{safe(skipped.what)}: {safe(skipped.why)}"}}


def _result(reported: Reported, kinds: list[KeyKind], place_of: Callable[[str], Place | None]) -> Json:
    finding = reported.finding
    first, *more = reported.sights[:_PLACES]
    result: dict[str, Json] = {
        "ruleId": finding.kind.value,
        "ruleIndex": kinds.index(finding.kind),
        "level": _level(finding),
        "message": {"text": _message(reported, place_of)},
        "partialFingerprints": _fingerprints(finding, first),
        "locations": [_location(first)],
        "relatedLocations": [_location(sight, number) for number, sight in enumerate(more, 1)],
        "properties": {
            "status": finding.verification.status.value,
            "accessKeyId": finding.access_key_id,
            "account": finding.account_id,
            "hasSecret": finding.has_secret,
            "places": len(reported.sights),
        },
    }
    if finding.state in {TriageState.ACCEPTED, TriageState.FALSE_POSITIVE}:
        result["suppressions"] = [{"kind": "external", "justification": finding.state_reason}]
    elif all(sight.match.honours({OWN}) for sight in reported.sights):
        result["suppressions"] = [{"kind": "inSource"}]
    return result


def _fingerprints(finding: Finding, first: Sight) -> Json:
    """Return what an alert is known again by. GitHub reads primaryLocationLineHash alone ("SARIF support").

    Its upload makes one out of the line that stands there now: of a key in history that is any line, and each edit of
    it closed the alert and opened another.
    """
    known: dict[str, Json] = {"firedamp/v1": finding.fingerprint}
    if _commit(first) is not None:
        known["primaryLocationLineHash"] = finding.fingerprint
    return known


def _commit(sight: Sight) -> str | None:
    place = sight.provenance
    return None if isinstance(place, FileProvenance) else place.commit


def _level(finding: Finding) -> str:
    if finding.canary or finding.example or finding.verification.status is Status.EXPIRED:
        return "note"
    return "warning" if finding.verification.status is Status.REJECTED else "error"


def _message(reported: Reported, place_of: Callable[[str], Place | None]) -> str:
    finding = reported.finding
    name = _TITLES[finding.kind] + (f" {finding.access_key_id}" if finding.access_key_id else "")
    with_secret = " with its secret" if finding.has_secret and finding.access_key_id else ""
    account = f" of account {finding.account_id}" if finding.account_id else ""
    place = reported.sights[0].provenance
    known = place_of(place.path) if isinstance(place, FileProvenance) else None
    fix = "" if known is None else f" {known.name}: {known.fix_of(finding.kind)}."
    commit = _commit(reported.sights[0])
    history = "" if commit is None else f" It stands in commit {commit}."
    return f"{name}{with_secret}{account}: {finding.verification.status.value}.{fix}{history}"


def _location(sight: Sight, number: int | None = None) -> Json:
    match, commit = sight.match, _commit(sight)
    artifact: dict[str, Json] = {"uri": _uri(sight)}
    physical: dict[str, Json] = {"artifactLocation": artifact}
    if match.line is not None and not match.container and match.column is not None:
        physical["region"] = {"startLine": match.line, "startColumn": match.column}
    location: dict[str, Json] = {"physicalLocation": physical}
    told = [f"in {match.container}"] if match.container else []
    if commit is not None:
        told.append(f"commit {commit}")
    if number is not None:
        location["id"] = number
    if told:
        location["message"] = {"text": safe(", ".join(told))}
    return location


def _uri(sight: Sight) -> str:
    """Return where a match is: relative to the root in a repository, as code scanning wants it; a file URL outside."""
    place = sight.provenance
    path = place.path or (None if isinstance(place, FileProvenance) else place.commit) or sight.match.blob
    if isinstance(place, FileProvenance) and path.startswith("/"):
        return "file://" + quote(path, errors="replace")
    return quote(path, errors="replace")
