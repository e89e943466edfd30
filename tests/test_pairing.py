from __future__ import annotations

import random
import re

from tests.builders import make_key_id, make_secret

from firedamp.scanner.candidates import Candidate, Credential, Role
from firedamp.scanner.pairing import pair
from firedamp.storage.records import KeyKind
from firedamp.storage.secret import Secret

_IDS = re.compile(r"A(?:KIA|SIA|BIA|CCA)[A-Z2-7]{16}")


def candidates(text: str) -> list[Candidate]:
    """Find the ids as detection does, less its decoding."""
    return [
        Candidate(
            Role.KEY_ID,
            KeyKind.TEMPORARY_KEY if found[0].startswith("ASIA") else KeyKind.ACCESS_KEY,
            found.start(),
            found.end(),
            Secret(found[0]),
        )
        for found in _IDS.finditer(text)
    ]


def paired(text: str) -> list[Credential]:
    return pair(text, candidates(text))


def best(text: str) -> dict[str | None, str | None]:
    """Return the top secret of each id."""
    return {c.key_id: c.secret.reveal() if c.secret else None for c in paired(text) if c.rank == 0}


def test_two_ini_sections_give_each_id_its_own_secret_in_either_order() -> None:
    rng = random.Random(1)
    one, two = make_key_id(rng), make_key_id(rng)
    first, second = make_secret(rng), make_secret(rng)
    text = (
        f"[a]\naws_access_key_id = {one}\naws_secret_access_key = {first}\n\n"
        f"[b]\naws_secret_access_key = {second}\naws_access_key_id = {two}\n"
    )
    assert best(text) == {one: first, two: second}


def test_a_lone_secret_with_aws_in_its_label_is_a_credential() -> None:
    secret = make_secret(random.Random(2))
    assert best(f"aws_secret_access_key={secret}\n") == {None: secret}
