"""How fast repositories are read: each figure beside a floor measured in the same run, on the same machine.

The floor is git itself: `cat-file --batch --buffer` of every object but trees, two processes on two halves in pack
order, to /dev/null. A rival (Kingfisher, AWS rules, no validation) is measured where it is found.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bench.files import family, held

_ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Figure:
    """One measurement: seconds (the best of the rounds), and the most memory its processes held at once."""

    name: str
    seconds: float
    mib: float = 0.0


def measure(repository: Path, rounds: int = _ROUNDS) -> Iterator[Figure]:
    """Yield the figures of one repository: the floor first. Rounds go through all of them: a busy moment hits each."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        floor = _Floor(repository, folder)
        _scan(repository, folder / "warm.db", ())  # compiles and caches, as the first scan ever does
        figures: dict[str, list[Figure]] = {}
        for number in range(rounds):
            database, thorough = folder / f"{number}.db", folder / f"thorough {number}.db"
            figures.setdefault("two cat-file to /dev/null", []).append(floor.measure())
            figures.setdefault("first scan", []).append(_scan(repository, database, ()))
            figures.setdefault("re-scan, nothing new", []).append(_scan(repository, database, ()))
            figures.setdefault("first scan, --thorough", []).append(_scan(repository, thorough, ("--thorough",)))
        yield from (_best(name, each) for name, each in figures.items())
        rival = shutil.which("kingfisher") or shutil.which("kingfisher", path=str(Path(sys.executable).parent))
        if rival is not None:
            command = [rival, "scan", str(repository), "--rule", "kingfisher.aws", "--no-validate", "--no-update-check",
                       "--quiet", "--format", "jsonl", "--output", os.devnull]  # fmt: skip
            yield _best("Kingfisher", [_timed([command])])


def show(repository: Path, figures: Sequence[Figure]) -> None:
    """Print the figures of one repository and their ratios to the floor."""
    print(f"\n{repository}")
    floor = figures[0].seconds
    for each in figures:
        memory = f"{each.mib:7.0f} MiB" if each.mib else ""
        print(f"  {each.name:28} {each.seconds:8.2f} s {each.seconds / floor:8.2f} x {memory}")


class _Floor:
    """The ids of a repository's objects besides trees, in two files."""

    def __init__(self, repository: Path, folder: Path) -> None:
        self._git = ["git", "-C", str(repository)]
        command = [*self._git, "cat-file", "--batch-all-objects", "--unordered", "--buffer",
                   "--batch-check=%(objectname) %(objecttype)"]  # fmt: skip
        listed = subprocess.run(command, check=True, capture_output=True).stdout.splitlines()
        names = [line.split()[0] for line in listed if not line.endswith(b" tree")]
        half = len(names) // 2
        self._halves = [folder / "first half", folder / "second half"]
        for path, part in zip(self._halves, (names[:half], names[half:]), strict=True):
            path.write_bytes(b"\n".join(part) + b"\n")

    def measure(self) -> Figure:
        """Return how long two processes take for the two halves."""
        return _timed([[*self._git, "cat-file", "--batch", "--buffer"]] * 2, self._halves)


def _scan(repository: Path, database: Path, options: Sequence[str]) -> Figure:
    command = [sys.executable, "-m", "firedamp.service.cli", "scan", str(repository), "--offline", "--quiet",
               "--db", str(database), *options]  # fmt: skip
    return _timed([command])


def _best(name: str, figures: Sequence[Figure]) -> Figure:
    return Figure(name, min(each.seconds for each in figures), max(each.mib for each in figures))


def _timed(commands: Sequence[Sequence[str]], given: Sequence[Path] = ()) -> Figure:
    """Run commands side by side, output thrown away, and sample the memory of all their processes together."""
    peak, ended = 0.0, threading.Event()

    def sample(roots: Sequence[int]) -> None:
        nonlocal peak
        while not ended.wait(0.05):
            # Mapped packs aside: git's pages of them are the system's cache.
            together = (each for root in roots for each in family(root))
            peak = max(peak, sum(held(each, "Pss_Anon", "Pss_Shmem") for each in together))

    with ExitStack() as files:
        inputs = [files.enter_context(path.open("rb")) for path in given] or [None] * len(commands)
        begun = time.perf_counter()
        processes = [
            subprocess.Popen(command, stdin=one or subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                             stderr=subprocess.DEVNULL)
            for command, one in zip(commands, inputs, strict=True)
        ]  # fmt: skip
        sampler = threading.Thread(target=sample, args=([process.pid for process in processes],))
        sampler.start()
        for process in processes:
            process.wait()
        seconds = time.perf_counter() - begun
        ended.set()
        sampler.join()
    return Figure("", seconds, peak)


def generated(path: Path, files: int = 300, versions: int = 120, size: int = 24_000) -> Path:
    """Make a repository of files that change a little in every version: many bytes in a small pack, ever the same."""
    rng = random.Random(1)  # noqa: S311 - text to be read, no secret
    subprocess.run(["git", "init", "--quiet", "--bare", str(path)], check=True)
    words = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz_", k=rng.randint(3, 12))) for _ in range(5_000)]
    texts = [[" ".join(rng.choices(words, k=9)) for _ in range(size // 80)] for _ in range(files)]
    command = ["git", "-C", str(path), "fast-import", "--quiet"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        if process.stdin is None:
            raise AssertionError("started without a pipe")
        for version in range(versions):
            head = f"commit refs/heads/main\ncommitter A <a@example.org> {1767225600 + version} +0000\ndata 2\nx\n\n"
            process.stdin.write(head.encode())
            for number, lines in enumerate(texts):
                lines[rng.randrange(len(lines))] = " ".join(rng.choices(words, k=9))
                text = "\n".join(lines).encode()
                process.stdin.write(
                    b"M 100644 inline %d/%d.txt\ndata %d\n%s\n" % (number % 20, number, len(text), text)
                )
    subprocess.run(["git", "-C", str(path), "repack", "-q", "-a", "-d", "-f"], check=True)
    return path
