"""Key ids as people type them."""

from __future__ import annotations

from firedamp.storage.errors import UsageFailure
from firedamp.storage.keyid import parse
from firedamp.storage.store import Store


def refuse_impossible(key_id: str, store: Store) -> None:
    """Stop before anybody is asked about what AWS cannot have issued, unless we met it somewhere."""
    met = parse(key_id) is not None or store.findings(key_id=key_id) or store.sightings_of(key_id)
    if not met and all(each.key_id != key_id for each in store.watched()):
        raise UsageFailure(f"AWS issues no key id like {key_id}: is it mistyped?", "see firedamp findings list")
