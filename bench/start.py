"""`python -m bench.start`: how long the commands take that have next to nothing to do, against bare Python.

A repository of 100,000 files with a handful staged is read as a hook does; one in which nothing is new is scanned
again; what is known is listed. Each round runs all, and the best of the rounds counts.
"""

from __future__ import annotations

import pathlib
import random
import string
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from bench.files import Timed, timed

_FILES: Final = 100_000
_ROUNDS: Final = 7
_GIT: Final = ("-c", "user.name=x", "-c", "user.email=x@example.com")


def generate(root: Path, *, key: bool) -> Path:
    """Make a repository whose HEAD and index have 100,000 files, and stage some more. Nothing is checked out.

    With key, one of those staged holds a pair.
    """

    def git(*arguments: str, given: str = "") -> str:
        return subprocess.run(
            ["git", *_GIT, "-C", str(root), *arguments], input=given, capture_output=True, text=True, check=True
        ).stdout.strip()

    root.mkdir()
    git("init", "--quiet")
    same = git("hash-object", "-w", "--stdin", given="one line\n")
    places = (f"src/{number // 1000}/{number // 50 % 20}/file_{number}.py" for number in range(_FILES))
    git("update-index", "--index-info", given="".join(f"100644 {same}\t{place}\n" for place in places))
    git("update-ref", "HEAD", git("commit-tree", "-m", "all", git("write-tree")))
    for module in (pathlib, random, string, subprocess, tempfile):
        blob = git("hash-object", "-w", str(module.__file__))
        git("update-index", "--add", "--cacheinfo", f"100644,{blob},new/{module.__name__}.py")
    if key:
        rng = random.Random(7)  # noqa: S311
        key_id = "AKIAQ" + "".join(rng.choices(string.ascii_uppercase + "234567", k=15))
        secret = "".join(rng.choices(string.ascii_letters + string.digits, k=40))
        text = f"aws_access_key_id = {key_id}\naws_secret_access_key = {secret}\n"
        blob = git("hash-object", "-w", "--stdin", given=text)
        git("update-index", "--add", "--cacheinfo", f"100644,{blob},new/settings.ini")
    return root


def measure(repository: Path, with_key: Path, state: Path) -> dict[str, list[Timed]]:
    """Run everything some times, in turn, and return the times by name."""

    def firedamp(*arguments: str) -> list[str]:
        return [sys.executable, "-m", "firedamp.service.cli", *arguments, "--offline", "--quiet", "--db", str(state)]

    commands = {
        "python": [sys.executable, "-c", "pass"],
        "scan --staged": firedamp("scan", "--staged", str(repository)),
        "the same, a key": firedamp("scan", "--staged", str(with_key)),
        "scan, nothing new": firedamp("scan", str(repository / ".git")),
        "findings list": firedamp("findings", "list"),
    }
    for command in commands.values():
        timed(command)
    runs: dict[str, list[Timed]] = {name: [] for name in commands}
    for _ in range(_ROUNDS):
        for name, command in commands.items():
            runs[name].append(timed(command))
    return runs


def show() -> None:
    """Print the best of each, and how much longer than bare Python it takes."""
    with tempfile.TemporaryDirectory() as place:
        repositories = (generate(Path(place, name), key=name == "key") for name in ("none", "key"))
        runs = measure(*repositories, Path(place, "state.db"))
    best = {name: Timed(min(t.wall for t in some), min(t.cpu for t in some)) for name, some in runs.items()}
    for name, one in best.items():
        ratio = one.wall / best["python"].wall
        print(f"{name:18} {one.wall:6.3f} s wall {one.cpu:6.3f} s cpu, {ratio:5.1f} x bare Python")
    print("goals: --staged 0.3 s, nothing new 0.35 s")


if __name__ == "__main__":
    show()
