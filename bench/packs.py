"""Measure the delta filter on real repositories, and compare what it keeps with what a full read by git finds.

    python -m bench.packs REPOSITORY… [--quick]

Each line is one run on one machine: the ratios hold, the seconds do not. The floor is two `git cat-file --batch
--buffer` on two halves of the objects besides trees, in pack order, to /dev/null. --quick leaves the full read out.
"""

from __future__ import annotations

import argparse
import re
import resource
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from firedamp.scanner.look import must_open
from firedamp.scanner.packindex import PackListing, Unfilterable, list_pack
from firedamp.scanner.packs import Filtered, Judge, filtering
from firedamp.scanner.prefilter import Prefilter

_KEY = re.compile(rb"A(?:KI|SI|BI|CC)A[A-Z2-7]{16}")


def _names(listing: PackListing, positions: NDArray[np.int32]) -> bytes:
    return b"".join(row.tobytes().hex().encode() + b"\n" for row in listing.ids(positions))


def _cat_file(repository: Path, names: IO[bytes], output: int) -> subprocess.Popen[bytes]:
    command = ["git", "-C", str(repository), "cat-file", "--batch", "--buffer"]
    return subprocess.Popen(command, stdin=names, stdout=output, stderr=subprocess.DEVNULL)


@contextmanager
def _in_files(
    repository: Path, listing: PackListing, parts: int, output: int
) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Start readers of the objects besides trees, a part each; no pipe of names makes one wait for another."""
    with ExitStack() as files:
        named = []
        for positions in np.array_split(listing.besides_trees(), parts):
            named.append(files.enter_context(tempfile.TemporaryFile()))
            named[-1].write(_names(listing, positions))
            named[-1].seek(0)
        yield [files.enter_context(_cat_file(repository, each, output)) for each in named]


def _floor(repository: Path, listing: PackListing) -> float:
    """Return the seconds that two readers of two halves take, their output thrown away."""
    begun = time.perf_counter()
    with _in_files(repository, listing, 2, subprocess.DEVNULL) as readers:
        for reader in readers:
            reader.wait()
    return time.perf_counter() - begun


def _texts(repository: Path, listing: PackListing) -> Iterator[tuple[str, bytes]]:
    """Yield every object besides trees, read in full."""
    with _in_files(repository, listing, 1, subprocess.PIPE) as (reader,):
        while line := reader.stdout.readline():
            name, _, *size = line.decode().split()
            if size:
                yield name, reader.stdout.read(int(size[0]) + 1)[:-1]


def _filtered(listing: PackListing, cache: Path, prefilter: Prefilter, *, whole: bool) -> tuple[list[Filtered], float]:
    """Filter a pack; return what came out, and the seconds it took."""
    judge = Judge(prefilter.hits, lambda head, tail: must_open(head, tail) is not None, whole)
    begun = time.perf_counter()
    with filtering([(listing, listing.besides_trees())], judge, cache, processes=2) as pieces:
        return [*pieces], time.perf_counter() - begun


def measure(repository: Path, cache: Path, *, quick: bool) -> None:
    """Print one line of figures for a repository's largest pack, and one for what a full read finds beside it."""
    index = max(repository.glob("**/objects/pack/*.idx"), key=lambda path: path.stat().st_size)
    begun = time.perf_counter()
    listing = list_pack(index.with_suffix(".pack"), index, width=20)
    if isinstance(listing, Unfilterable):
        print(repository, listing.why)
        return
    listed = time.perf_counter() - begun
    prefilter = Prefilter(cache)
    for whole in (False, True):
        _filtered(listing, cache, prefilter, whole=whole)  # compiles, as the first scan ever does
        pieces, seconds = _filtered(listing, cache, prefilter, whole=whole)
        floor = _floor(repository, listing)
        out, left = sum(each.ruled_out.size for each in pieces), sum(each.unread.size for each in pieces)
        print(
            f"{repository.parent.name}{', whole' if whole else ''}: {listing.besides_trees().size:,} objects, {out:,} "
            f"ruled out, {left:,} left to git; listed {listed:.2f} s, filtered {seconds:.2f} s, two cat-file "
            f"{floor:.2f} s: ratio {(listed + seconds) / floor:.2f}",
            flush=True,
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss + resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    print(f"  {peak >> 10} MiB at most, mapped pack included", flush=True)
    if quick:
        return
    pieces, _ = _filtered(listing, cache, prefilter, whole=False)
    kept = {row.tobytes().hex() for each in pieces for row in (*listing.ids(each.hits), *listing.ids(each.unread))}
    ids: set[bytes] = set()
    kept_ids: set[bytes] = set()
    hits = lost = 0
    for name, text in _texts(repository, listing):
        found = set(_KEY.findall(text))
        ids |= found
        if name in kept:
            kept_ids |= found
        elif found:
            print(f"  LOST {name}: {found}")
        if prefilter.any(text):
            hits += 1
            lost += name not in kept
    print(
        f"  full read: {len(ids)} key ids, {len(kept_ids)} of them in what was not ruled out; "
        f"the prefilter sees something in {hits:,} objects, {lost} of them ruled out",
        flush=True,
    )


def main() -> None:
    """Measure each repository given."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("repositories", nargs="+", type=Path)
    parser.add_argument("--cache", type=Path, default=Path(".cache/bench"))
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    for repository in options.repositories:
        measure(repository, options.cache.absolute(), quick=options.quick)


if __name__ == "__main__":
    main()
