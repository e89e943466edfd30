"""`python -m bench.detect [FOLDER]`: what it costs to look for encoded forms, in all and decoder by decoder.

The goal is a scan of plain content that encoded forms slow by less than 10 %. Plain content is a generated tree of
source text, or a folder: its files are walked, read and prefiltered as a scan does it, in one process, and detection
looks through what the prefilter sees something in. All is measured in turns, in seconds of processor time, and the
best of the rounds counts.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import hyperscan
from bench import files

from firedamp.scanner.crew import steps
from firedamp.scanner.decode import DECODERS
from firedamp.scanner.detect import Limits, detect
from firedamp.scanner.formats import must_open
from firedamp.scanner.forms import forms
from firedamp.scanner.prefilter import Prefilter
from firedamp.scanner.textruns import TextRuns
from firedamp.scanner.walk import Folder, Task, World

_ROUNDS: Final = 5
_FILES: Final = 5_000
_BYTES: Final = 200_000_000


@dataclass
class Swept:
    """The best times of a walk with some forms, and of detection in what it saw something in."""

    walk: float = float("inf")
    detection: float = float("inf")
    files: int = 0
    bytes: int = 0
    worth: frozenset[str] = frozenset()


def predicate(decoders: Collection[int], runs: TextRuns | None = None) -> Callable[[bytes | memoryview], bool]:
    """Return a prefilter of values as they stand, of the forms of these decoders, and of runs that decode to text."""
    chosen = [form.expression for form in forms() if form.decoder is None or form.decoder in decoders]
    made = hyperscan.Database()
    made.compile(expressions=chosen, ids=list(range(len(chosen))), elements=len(chosen), flags=[0] * len(chosen))
    scratch = hyperscan.Scratch(made)

    def interesting(window: bytes | memoryview) -> bool:
        seen = list[int]()

        def note(_number: int, _start: int, end: int, _flags: int, _context: object) -> bool:
            seen.append(end)
            return True

        try:
            made.scan(window, match_event_handler=note, scratch=scratch)
        except hyperscan.ScanTerminated:
            return True
        return bool(seen) or (runs is not None and bool(runs.find(window)))

    return interesting


def sweep(root: Path, interesting: Callable[[bytes | memoryview], bool], limits: Limits, best: Swept) -> None:
    """Walk root once, look through what is worth it, and keep the better times."""
    began = time.process_time()
    walked = list(steps(World(interesting=interesting, container_of=must_open, everything=True),
                        Task(folders=(Folder(str(root)),)), jobs=1))  # fmt: skip
    best.walk = min(best.walk, time.process_time() - began)
    best.files, best.bytes = sum(step.files for step in walked), sum(step.bytes for step in walked)
    paths = [Path(each.path) for step in walked for each in step.worth]
    texts = [path.read_bytes() for path in paths if must_open(path.read_bytes()[:4096]) is None]
    best.worth = frozenset(map(str, paths))
    began = time.process_time()
    for text in texts:
        detect(text, _PREFILTER, limits=limits)
    best.detection = min(best.detection, time.process_time() - began)


_PREFILTER: Final = Prefilter()


def show(root: Path | None = None) -> None:
    """Print the figures of root, or of a generated tree."""
    with tempfile.TemporaryDirectory() as folder:
        if root is None:
            root = Path(folder, "tree")
            files.generate(root, random.Random(7), _FILES, _BYTES)  # noqa: S311
        _show(root, Path(folder))


def _show(root: Path, folder: Path) -> None:
    """Print the ratio of a scan with all decoders to one with none, then what is saved when one of them is left out.

    Hyperscan reads a few forms with another engine than thousands, and not a faster one: what a decoder would add to
    none tells nothing of what it costs beside the others.
    """
    numbers = range(len(DECODERS))
    runs = TextRuns(folder)
    runs.load()
    none, every = predicate([]), predicate(numbers, runs)
    without = [predicate([number for number in numbers if number != left_out], runs) for left_out in numbers]
    without.append(predicate(numbers))
    names = [*(decoder.name for decoder in DECODERS), "runs of any text"]
    plain, whole, others = Swept(), Swept(), [Swept() for _ in names]
    for _ in range(_ROUNDS):
        sweep(root, none, Limits(depth=0), plain)
        sweep(root, every, Limits(), whole)
        for interesting, best in zip(without, others, strict=True):
            sweep(root, interesting, Limits(), best)
    print(f"{plain.files:,} files, {plain.bytes >> 20:,} MiB below {root}")
    floor, all_of_it = plain.walk + plain.detection, whole.walk + whole.detection
    for name, best in (("without decoders", plain), ("with all of them", whole)):
        print(f"  {name}: walk, read, prefilter {best.walk:.2f} s, detection {best.detection:.2f} s")
    print(f"  encoded forms and decoding: {all_of_it / floor:.3f} x the time (goal 1.10)")
    print("  of that time is saved, and so many files fewer are worth a look, without")
    for name, best in zip(names, others, strict=True):
        less, worth = all_of_it - best.walk - best.detection, len(whole.worth - best.worth)
        print(f"  {name:17} {less / all_of_it:6.1%}, {worth:3} files")


if __name__ == "__main__":
    show(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
