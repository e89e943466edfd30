"""The baseline: findings that were there before, by their stable fingerprints, in a file that is kept with the code."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from firedamp.scanner.scan import Reported
from firedamp.storage.errors import UsageFailure
from firedamp.storage.secret import Fingerprint

_VERSION: Final = 1


def read(path: Path) -> frozenset[Fingerprint]:
    """Return the fingerprints in a baseline file; raises UsageFailure when it is none."""
    try:
        told = json.loads(path.read_bytes())
        if told["firedamp_baseline"] != _VERSION:
            raise UsageFailure(f"{path} is a baseline of another version", "write it anew with --write-baseline")
        return frozenset(Fingerprint(str(each["fingerprint"])) for each in told["findings"])
    except OSError as error:
        raise UsageFailure(f"{path} cannot be read: {error.strerror}", "write it with --write-baseline") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UsageFailure(f"{path} is no baseline", "write one with --write-baseline") from error


def write(path: Path, findings: Iterable[Reported]) -> None:
    """Write what stands now, a line a finding and sorted, so that versions of the file merge and compare well."""
    lines = sorted(
        json.dumps({"fingerprint": each.finding.fingerprint, "key": each.finding.access_key_id}) for each in findings
    )
    body = ",\n    ".join(lines)
    text = f'{{\n  "firedamp_baseline": {_VERSION},\n  "findings": [\n    {body}\n  ]\n}}\n'
    path.write_text(
        text if lines else f'{{\n  "firedamp_baseline": {_VERSION},\n  "findings": []\n}}\n', encoding="utf-8"
    )
