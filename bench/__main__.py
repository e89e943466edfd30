"""`python -m bench [REPOSITORY…]`: measure reading repositories (a generated one if none is named) and all the rest."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from bench import git, unpack, watch


def main(arguments: list[str]) -> None:
    """Measure each repository and print its figures; then those of containers and of the watch."""
    with tempfile.TemporaryDirectory() as folder:
        for repository in [Path(each) for each in arguments] or [git.generated(Path(folder, "generated"))]:
            git.show(repository, list(git.measure(repository)))
    unpack.show()
    watch.main()


if __name__ == "__main__":
    main(sys.argv[1:])
