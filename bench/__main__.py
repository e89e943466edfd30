"""`python -m bench [REPOSITORY|FOLDER…]`: measure reading repositories and folders, generated ones if none is named.

Then what a start costs, decoders and containers, and the watch. The generated corpora are small: a few minutes in all.
Figures for the goals want large ones, named; `python -m bench.files` by itself makes a folder of 100,000 files, 4 GB.
"""

from __future__ import annotations

import random
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench import detect, files, git, start, unpack, watch

_FILES = 20_000
_BYTES = 800_000_000


def main(arguments: Sequence[str]) -> None:
    """Measure each repository and folder and print its figures; then those of detection, containers and the watch."""
    named = [Path(each) for each in arguments]
    repositories = [path for path in named if (path / ".git").exists() or (path / "objects").is_dir()]
    folders = [path for path in named if path not in repositories]
    with tempfile.TemporaryDirectory() as place:
        for repository in repositories or [git.generated(Path(place, "generated"))]:
            git.show(repository, list(git.measure(repository)))
        if not folders:
            folders = [Path(place, "tree")]
            files.generate(folders[0], random.Random(7), _FILES, _BYTES)  # noqa: S311
        for number, folder in enumerate(folders):
            print(f"\n{folder}")
            files.show(files.measure(folder, Path(place, f"{number}.db")))
    print()
    start.show()
    print()
    detect.show()
    print()
    unpack.show()
    print()
    watch.main()


if __name__ == "__main__":
    main(sys.argv[1:])
