"""What a scan remembers never changes what the next one tells: beside it, one with a fresh database tells the same."""

from __future__ import annotations

import itertools
import os
import random
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from tests.repositories import Repository, leak
from tests.scans import Scanned, scanner

Place = tuple[object, ...]


class Tree:
    """A folder with files and repositories, and what people do to them. What leaves it may come back as it was."""

    def __init__(self, folder: Path, rng: random.Random) -> None:
        self.root, self._attic, self._rng = folder / "root", folder / "attic", rng
        self._names = map(str, itertools.count())
        self._away: list[tuple[Path, Path]] = []
        self._keys = [leak(rng)[1] for _ in range(6)]
        self._attic.mkdir(parents=True)
        for name in ("a", "a/b", "c"):
            (self.root / name).mkdir(parents=True)
            (self.root / name / "file").write_text(self._text())
        for name in ("a/one", "two"):
            Repository(self.root / name).commit("begin", {"file": self._text()})
            Repository.at(self.root / name).commit("go on", {"file": self._text()})

    def _text(self) -> str:
        return self._rng.choice(("", "# more\n")) + self._rng.choice((*self._keys, *(["clean\n"] * len(self._keys))))

    def folders(self) -> list[Path]:
        return sorted(path for path in self.root.rglob("*") if path.is_dir() and ".git" not in path.parts)

    def _files(self) -> list[Path]:
        return sorted(path for path in self.root.rglob("file") if path.is_file() and ".git" not in path.parts)

    def _repository(self) -> Repository:
        return Repository.at(self._rng.choice(sorted(path.parent for path in self.root.rglob(".git"))))

    def _swap(self, paths: Sequence[Path]) -> None:
        one, other = self._rng.sample(paths, 2)
        if not (one.is_relative_to(other) or other.is_relative_to(one)):
            one.rename(self._attic / "between")
            other.rename(one)
            (self._attic / "between").rename(other)

    def write(self) -> None:
        (self._rng.choice(self.folders()) / "file").write_text(self._text())

    def edit_and_keep_its_time(self) -> None:
        file = self._rng.choice(self._files())
        status = file.stat()
        file.write_text(self._text())
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))

    def swap_files(self) -> None:
        self._swap(self._files())

    def swap_folders(self) -> None:
        self._swap(self.folders())

    def rename(self) -> None:
        folder = self._rng.choice(self.folders())
        folder.rename(folder.with_name(next(self._names)))

    def copy(self) -> None:
        shutil.copytree(self._rng.choice(self.folders()), self.root / next(self._names))

    def take_away(self) -> None:
        if len(self.folders()) > 4:
            folder = self._rng.choice(self.folders())
            self._away.append((self._attic / next(self._names), folder))
            folder.rename(self._away[-1][0])

    def bring_back(self) -> None:
        if self._away:
            kept, folder = self._away.pop()
            if folder.parent.is_dir() and not folder.exists():
                kept.rename(folder)

    def commit(self) -> None:
        self._repository().commit("more", {self._rng.choice(("file", "other")): self._text()})

    def take_a_commit_back(self) -> None:
        self._repository().git("reset", "--quiet", "--hard", "HEAD~1", check=False)

    def collect(self) -> None:
        repository = self._repository()
        repository.git("reflog", "expire", "--expire=now", "--all", check=False)
        repository.git("gc", "--quiet", "--prune=now", check=False)

    def clone(self) -> None:
        more = self._rng.choice(((), ("--shared",), ("--bare",)))
        self._repository().git("clone", "--quiet", *more, ".", str(self.root / next(self._names)), check=False)

    def change(self) -> str:
        """Do one of all these things and return its name."""
        ways: tuple[Callable[[], None], ...] = (
            self.write, self.edit_and_keep_its_time, self.swap_files, self.swap_folders, self.rename, self.copy,
            self.take_away, self.bring_back, self.bring_back, self.commit, self.take_a_commit_back, self.collect,
            self.clone,
        )  # fmt: skip
        way = self._rng.choice(ways)
        way()
        return way.__name__


def places(scanned: Scanned) -> set[Place]:
    return {
        (key_id, *(match[name] for name in ("source", "repository", "path", "line", "commit", "in_head")))
        for key_id, found in scanned.findings.items()
        for match in found["matches"]
    }


@pytest.mark.parametrize(
    "seed", [7, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (*range(7), *range(8, 30)))]
)
def test_whatever_happened_since_a_scan_tells_what_one_without_memory_tells(
    seed: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng, scan = random.Random(seed), scanner(capsys)
    tree, done = Tree(tmp_path, rng), list[str]()
    for step in range(12):
        done += [tree.change() for _ in range(rng.randrange(4))]
        time.sleep(0.12)  # what is older is remembered
        targets = rng.choice(([tree.root], [rng.choice(tree.folders())], [rng.choice(tree.folders()), tree.root]))
        done.append(f"scan {' '.join(str(each.relative_to(tmp_path)) for each in targets)}")
        told, fresh = (
            scan(*targets, options=("--offline", "--db", str(tmp_path / name))) for name in ("db", f"fresh{step}")
        )
        assert (told.status, places(told)) == (fresh.status, places(fresh)), done
