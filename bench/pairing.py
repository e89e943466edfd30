"""Measure how often the top-ranked secret of an id is the right one, layout by layout."""

from __future__ import annotations

import random
import re
import sys
import time
from collections.abc import Callable, Sequence
from typing import Final

from tests.layouts import DISGUISES, LAYOUTS, Layout, Plant

from firedamp.scanner.candidates import Candidate, Role
from firedamp.scanner.pairing import pair
from firedamp.storage.records import KeyKind
from firedamp.storage.secret import Secret

FILES: Final = 400
_IDS: Final = re.compile(r"A(?:KIA|SIA|BIA|CCA)[A-Z2-7]{16}")


def candidates(text: str) -> list[Candidate]:
    """Find the ids in plain text, as detection would."""
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


def _right(text: str, plant: Plant) -> int:
    found = pair(text, candidates(text))
    best = {c.key_id: c.secret for c in found if c.rank == 0 and c.kind is not KeyKind.SES_SMTP}
    return sum(best.get(key_id) == Secret(secret) for key_id, secret in plant.truth.items())


def rate(layouts: Sequence[Layout], files: int, disguise: Callable[[str], str] = str) -> tuple[int, int]:
    """Return (pairs right, pairs planted) over so many files of each layout.

    A pair is right when the top-ranked secret of its id is its secret.
    """
    right = planted = 0
    for layout in layouts:
        for at in range(files):
            plant = Plant(random.Random(f"{layout.__name__} {at}"))  # noqa: S311
            text = disguise(layout(plant))
            right += _right(text, plant)
            planted += len(plant.truth)
    return right, planted


def rate_of_mixed(files: int) -> tuple[int, int]:
    """Return (pairs right, pairs planted) over files that hold three layouts each, one below the other."""
    right = planted = 0
    for at in range(files):
        rng = random.Random(f"mixed {at}")  # noqa: S311
        plant = Plant(rng)
        text = "\n\n".join(layout(plant) for layout in rng.choices(LAYOUTS, k=3))
        right += _right(text, plant)
        planted += len(plant.truth)
    return right, planted


def main(files: int = FILES) -> None:
    """Print the rate of every layout, the mean and the worst; then of layouts in disguise and of several in a file."""
    began = time.perf_counter()
    rates = {}
    for layout in LAYOUTS:
        right, planted = rate([layout], files)
        rates[layout.__name__] = right / planted
        print(f"{layout.__name__:<28} {100 * right / planted:7.2f} %  of {planted} pairs")
    print(f"mean of {len(rates)} layouts, {files} files each: {100 * sum(rates.values()) / len(rates):.3f} %")
    print(f"worst: {min(rates, key=rates.__getitem__)} {100 * min(rates.values()):.2f} %")
    for name, disguise in DISGUISES.items():
        right, planted = rate(LAYOUTS, max(1, files // 20), disguise)
        print(f"all layouts {name:<20} {100 * right / planted:7.2f} %  of {planted} pairs")
    right, planted = rate_of_mixed(files * 5)
    print(f"three layouts in one file       {100 * right / planted:7.2f} %  of {planted} pairs")
    print(f"{time.perf_counter() - began:.1f} s")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else FILES)
