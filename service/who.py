"""`findings list --by repository|team|author`: who should act, and on how much. Pure."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from firedamp.scanner.scan import Reported
from firedamp.service.config import TeamConfig
from firedamp.storage.records import FileProvenance, GitProvenance, Severity, Sight, Status

NOBODY = "(nobody named)"
"""Who stands for copies that no repository, team or author answers for."""


@dataclass(frozen=True, slots=True)
class Share:
    """What one repository, team or author has to deal with."""

    name: str
    keys: int
    places: int
    active: int
    worst: Severity | None


Owned = Callable[[str, str], tuple[str, ...]]
"""Says whose a path in a repository is, as the repository itself tells."""


def shares(found: Sequence[Reported], by: str, teams: Sequence[TeamConfig], owned: Owned) -> list[Share]:
    """Share findings out, the worst and the most first. A key with copies at several is counted at each."""
    parts = dict[str, dict[str, list[Sight]]]()
    by_name = {each.finding.fingerprint: each.finding for each in found}
    for each in found:
        if not each.sights:  # it stands nowhere any more, but may live
            parts.setdefault(NOBODY, {})[each.finding.fingerprint] = []
        for sight in each.sights:
            for name in _who(sight, by, teams, owned):
                parts.setdefault(name, {}).setdefault(each.finding.fingerprint, []).append(sight)
    made = []
    for name, held in parts.items():
        findings = [finding for key, finding in by_name.items() if key in held]
        severities = [finding.severity for finding in findings if finding.severity is not None]
        made.append(
            Share(
                name=name, keys=len(held), places=sum(len(sights) for sights in held.values()),
                active=sum(finding.verification.status is Status.ACTIVE for finding in findings),
                worst=max(severities, default=None),
            )
        )  # fmt: skip
    return sorted(made, key=lambda each: (-(each.worst or 0), -each.active, -each.keys, each.name))


def _who(sight: Sight, by: str, teams: Sequence[TeamConfig], owned: Owned) -> tuple[str, ...]:
    place = sight.provenance
    match by, place:
        case "author", GitProvenance(author=author):
            return (author or NOBODY,)
        case "author", FileProvenance():
            return (NOBODY,)
        case "repository", GitProvenance(repository=repository):
            return (repository,)
        case "repository", FileProvenance():
            return ("(files)",)
        case _, GitProvenance(repository=repository, path=path):
            team = _team(repository, path or "", teams)
            return (team,) if team else owned(repository, path or "") or (NOBODY,)
        case _:
            return (_team("", place.path or "", teams) or NOBODY,)


def _team(repository: str, path: str, teams: Sequence[TeamConfig]) -> str:
    """Return the last team of the configuration that owns a place, as the last matching line of a CODEOWNERS counts."""
    owner = ""
    for team in teams:
        in_repository = not team.repositories or _fits(repository, team.repositories)
        if in_repository and (not team.paths or _fits(path, team.paths)):
            owner = team.name
    return owner


def _fits(text: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(text, pattern) for pattern in patterns)
