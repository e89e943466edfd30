"""`python -m bench.files [FOLDER]`: a folder of 100,000 files, 4 GB, against ripgrep and find, in one run.

The goals are for such a folder: in a small one the start of Python counts for more than reading. Without a FOLDER a
tree is generated: the standard library's own text, cut to the sizes that files have (log-normal), with a pair of keys
in one file of five hundred. Each round runs all, and the best of the rounds counts: other work on the machine only
slows down.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PATTERN: Final = "A(KIA|SIA|BIA|CCA)[A-Z2-7]{16}"
_FILES: Final = 100_000
_BYTES: Final = 4_200_000_000
_TICK: Final = 0.01
"""Seconds: what the system counts the processor's time in."""
_ROUNDS: Final = 3
_FOLDER: Final = 25
_CACHES: Final = Path("/proc/sys/vm/drop_caches")
"""What is read for the first time comes from the disk, as most of a home directory does (Linux, proc(5))."""


@dataclass(frozen=True)
class Timed:
    """One run: wall and processor seconds, and the most memory its processes held together, in MiB (0: not asked)."""

    wall: float
    cpu: float
    memory: float = 0.0


def generate(root: Path, rng: random.Random, files: int = _FILES, size: int = _BYTES) -> None:
    """Fill root with files of size bytes in all."""
    pool = b"".join(path.read_bytes() for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("**/*.py"))[:2500])
    letters, digits = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", b"ABCDEFGHIJKLMNOPabcdefghijklmnop0123456789+/"
    mean = size / files / 2.054  # the mean of exp(1.2 N) is 2.054
    for number in range(files):
        folder = root / f"{number // 2000:03}" / f"{number // _FOLDER % 80:02}"
        if number % _FOLDER == 0:
            folder.mkdir(parents=True)
        length = min(int(rng.lognormvariate(0, 1.2) * mean), len(pool) // 2)
        start = rng.randrange(len(pool) - length)
        text = pool[start : start + length]
        if number % 500 == 0:
            key_id, secret = b"AKIAQ" + bytes(rng.choices(letters, k=15)), bytes(rng.choices(digits, k=40))
            text += b"\naws_access_key_id = %b\naws_secret_access_key = %b\n" % (key_id, secret)
        (folder / f"{number}.py").write_bytes(text)


def timed(command: list[str], *, memory: bool = False, cold: bool = False) -> Timed:
    """Run a command to its end; with memory, sample what its processes hold together (shared pages by halves).

    cold empties the system's caches before, which root may do.
    """
    if cold:
        os.sync()
        _CACHES.write_text("3")
    before, began = os.times(), time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    peak = [0.0]
    if memory:
        watcher = threading.Thread(target=_watch, args=(process, peak), daemon=True)
        watcher.start()
    process.wait()
    wall, after = time.monotonic() - began, os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return Timed(wall, cpu, peak[0])


def _watch(process: subprocess.Popen[bytes], peak: list[float]) -> None:
    while process.poll() is None:
        peak[0] = max(peak[0], sum(held(each, "Pss") for each in family(process.pid)))
        time.sleep(0.05)


def family(parent: int) -> Iterator[int]:
    """Yield a process and all below it (Linux)."""
    yield parent
    try:
        text = Path(f"/proc/{parent}/task/{parent}/children").read_text(encoding="ascii")
    except OSError:
        return
    for child in text.split():
        yield from family(int(child))


def held(process: int, *kinds: str) -> float:
    """Return MiB of memory of these kinds (`Pss`, `Pss_Anon`, …): of pages that several hold, a process's share."""
    try:
        text = Path(f"/proc/{process}/smaps_rollup").read_text(encoding="ascii")
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) / 1024 for line in text.splitlines() if line.partition(":")[0] in kinds)


def measure(tree: Path, state: Path, rounds: int = _ROUNDS) -> dict[str, list[Timed]]:
    """Run everything rounds times, in turn, and return the times by name."""
    scan = [sys.executable, "-m", "firedamp.service.cli", "scan", str(tree), "--offline", "--quiet", "--db", str(state)]
    runs: dict[str, list[Timed]] = {"rg": [], "first": [], "find": [], "again": []}
    if _CACHES.is_file() and os.access(_CACHES, os.W_OK):
        runs |= {"rg cold": [], "cold": []}
    for _ in range(rounds):
        for path in state.parent.glob(state.name + "*"):
            path.unlink()
        if shutil.which("rg") is not None:
            runs["rg"].append(timed(["rg", "-uuu", "-a", PATTERN, str(tree)]))
        runs["first"].append(timed(scan, memory=True))
        runs["find"].append(timed(["find", str(tree), "-type", "f", "-size", "+0"]))
        runs["again"].append(timed(scan))
        if "cold" in runs:
            state.unlink()
            runs["cold"].append(timed(scan, cold=True))
            if runs["rg"]:
                runs["rg cold"].append(timed(["rg", "-uuu", "-a", PATTERN, str(tree)], cold=True))
    return runs


def show(runs: dict[str, list[Timed]]) -> None:
    """Print the best of each, and the ratios that count."""
    best = {name: Timed(min(t.wall for t in some), min(t.cpu for t in some)) for name, some in runs.items() if some}
    for name, one in best.items():
        print(f"{name:7} {one.wall:7.2f} s wall {one.cpu:7.2f} s cpu")
    for name, floor, goal in (("first", "rg", 0.9), ("cold", "rg cold", 0.9), ("again", "find", 2.0)):
        if floor in best:
            one, other = best[name], best[floor]
            # A small folder is found in less than a tick: there the processor's time says nothing.
            cpu = f", {one.cpu / other.cpu:.2f} cpu" if other.cpu >= _TICK else ""
            print(f"{name} / {floor}: {one.wall / other.wall:.2f} wall{cpu} (goal {goal})")
    print(f"memory of all processes: {max(one.memory for one in runs['first']):.0f} MiB (goal 350)")


def main(arguments: list[str]) -> None:
    """Measure the folder that is named, or a generated one."""
    with tempfile.TemporaryDirectory() as place:
        tree = Path(arguments[0]) if arguments else Path(place, "tree")
        if not arguments:
            generate(tree, random.Random(7))  # noqa: S311
        show(measure(tree, Path(place, "state.db")))


if __name__ == "__main__":
    main(sys.argv[1:])
