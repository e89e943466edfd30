"""`findings list --by repository|team|author`: who should act, and on how much. Pure."""

from __future__ import annotations

import fnmatch
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from firedamp.scanner.scan import Reported
from firedamp.service.config import TeamConfig
from firedamp.storage.records import FileProvenance, Finding, GitProvenance, Severity, Sight, Status

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


def shares(found: Iterable[Reported], by: str, teams: Sequence[TeamConfig], owned: Owned) -> list[Share]:
    """Share findings out, the worst and the most first. A key with copies at several is counted at each."""
    parts = dict[str, Share]()
    for each in found:
        # A key that stands nowhere any more may live.
        places = Counter(name for sight in each.sights for name in _who(sight, by, teams, owned)) or {NOBODY: 0}
        for name, count in places.items():
            parts[name] = _with(parts.get(name, Share(name, 0, 0, 0, None)), each.finding, count)
    return sorted(parts.values(), key=lambda each: (-(each.worst or 0), -each.active, -each.keys, each.name))


def _with(share: Share, finding: Finding, places: int) -> Share:
    severities = [each for each in (share.worst, finding.severity) if each is not None]
    return replace(
        share, keys=share.keys + 1, places=share.places + places,
        active=share.active + (finding.verification.status is Status.ACTIVE), worst=max(severities, default=None),
    )  # fmt: skip


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
