"""`python -m bench [REPOSITORY…]`: measure reading repositories (a generated one if none is named) and containers."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from bench import git, unpack


def main(arguments: list[str]) -> None:
    """Measure each repository and print its figures; then those of containers."""
    with tempfile.TemporaryDirectory() as folder:
        for repository in [Path(each) for each in arguments] or [git.generated(Path(folder, "generated"))]:
            git.show(repository, list(git.measure(repository)))
    unpack.show()


if __name__ == "__main__":
    main(sys.argv[1:])
