"""A finding's secret, read again from where it was found: the only way back to it.

No secret is stored, so whoever needs one (verification, rotation, `--show-secrets`) reads the blob again and finds the
credential in it anew. It is used only if its fingerprint is the finding's: what changed meanwhile is not sent anywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from firedamp.scanner.candidates import Credential, Located
from firedamp.scanner.source import Blob
from firedamp.storage.records import Finding, Provenance, Sight, Skipped
from firedamp.storage.secret import Fingerprint, fingerprint

Open = Callable[[Provenance, str], Iterable[Blob]]
"""Reads a blob (by where it was met, and its id) again, perhaps in windows; nothing when it is gone or changed."""

Detect = Callable[[Blob], Iterable[Located | Skipped]]
"""Finds every credential in a blob, in the containers inside it too; says what could not be opened."""

_KEPT: Final = 256
"""Blobs whose credentials are kept at hand: findings of one blob are asked for one after the other."""


class Rereader:
    """Reads the secrets of many findings back: a blob that holds a thousand is read and searched once.

    What it has read it holds in memory, for as long as it lives itself.
    """

    def __init__(self, read: Open, detect: Detect) -> None:
        self._read, self._detect = read, detect
        self._known: dict[str, dict[Fingerprint, Credential]] = {}

    def __call__(self, finding: Finding, sights: Iterable[Sight]) -> Credential | None:
        """Return the finding's credential, secret included, or None when every place it stood in is gone.

        Places are tried in order and each blob once; one where the secret itself stands comes first.
        """
        for sight in sorted(sights, key=lambda each: not each.match.secret_here):
            found = self._credentials(sight).get(finding.fingerprint)
            if found is not None:
                return found
        return None

    def _credentials(self, sight: Sight) -> dict[Fingerprint, Credential]:
        blob = sight.match.blob
        if blob not in self._known:
            windows, found = 0, dict[Fingerprint, Credential]()
            for window in self._read(sight.provenance, blob):
                windows += 1
                for located in self._detect(window):
                    if isinstance(located, Located):
                        found.setdefault(fingerprint_of(located.credential), located.credential)
            if not windows:
                return {}  # gone from this place; it may stand in another
            if len(self._known) >= _KEPT:
                self._known.clear()
            self._known[blob] = found
        return self._known[blob]


def reread(finding: Finding, sights: Iterable[Sight], read: Open, detect: Detect) -> Credential | None:
    """Read the secret of one finding back, as `Rereader` does for many."""
    return Rereader(read, detect)(finding, sights)


def fingerprint_of(credential: Credential) -> Fingerprint:
    """Return the fingerprint of a credential; a lone session token is the secret of its own kind."""
    return fingerprint(credential.kind, credential.key_id, credential.secret or credential.token)
