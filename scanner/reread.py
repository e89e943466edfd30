"""A finding's secret, read again from where it was found: the only way back to it.

No secret is stored, so whoever needs one (verification, rotation, `--show-secrets`) reads the blob again and finds the
credential in it anew. It is used only if its fingerprint is the finding's: what changed meanwhile is not sent anywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from firedamp.scanner.candidates import Credential, Located
from firedamp.scanner.source import Blob
from firedamp.storage.records import Finding, Provenance, Sight, Skipped
from firedamp.storage.secret import fingerprint

Open = Callable[[Provenance, str], Iterable[Blob]]
"""Reads a blob (by where it was met, and its id) again, perhaps in windows; nothing when it is gone or changed."""

Detect = Callable[[Blob], Iterable[Located | Skipped]]
"""Finds every credential in a blob, in the containers inside it too: as the scan does."""


def reread(finding: Finding, sights: Iterable[Sight], read: Open, detect: Detect) -> Credential | None:
    """Return the finding's credential, secret included, or None when every place it stood in is gone.

    Places are tried in order and each blob once; one where the secret itself stands comes first.
    """
    tried: set[str] = set()
    for sight in sorted(sights, key=lambda each: not each.match.secret_here):
        if sight.match.blob in tried:
            continue
        for blob in read(sight.provenance, sight.match.blob):
            tried.add(blob.id)
            for located in detect(blob):
                match located:
                    case Located(credential=found) if is_of(found, finding):
                        return found
                    case _:
                        continue
    return None


def is_of(credential: Credential, finding: Finding) -> bool:
    """Whether a credential is the one that a finding is about."""
    secret = credential.secret or credential.token
    return fingerprint(credential.kind, credential.key_id, secret) == finding.fingerprint
