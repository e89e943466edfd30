"""Measure the delta filter on real repositories, and compare what it keeps with what a full read finds.

    python -m bench.packs REPOSITORY… [--quick]

Each line is one run on one machine: the ratios hold, the seconds do not. The floor is two `git cat-file --batch
--buffer` on two halves of the objects besides trees, in pack order, to /dev/null. --quick leaves the full read out.
"""

from __future__ import annotations

import argparse
import re
import resource
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from firedamp.scanner.packindex import PackListing, Unfilterable, list_pack
from firedamp.scanner.packs import Filtered, suspects
from firedamp.scanner.prefilter import Prefilter

_KEY = re.compile(rb"A(?:KI|SI|BI|CC)A[A-Z2-7]{16}")


def _names(listing: PackListing, positions: NDArray[np.int32]) -> bytes:
    return b"".join(row.tobytes().hex().encode() + b"\n" for row in listing.ids(positions))


def _cat_file(repository: Path, output: int) -> subprocess.Popen[bytes]:
    command = ["git", "-C", str(repository), "cat-file", "--batch", "--buffer"]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=output, stderr=subprocess.DEVNULL)


def _floor(repository: Path, listing: PackListing) -> float:
    """Return the seconds that two readers of two halves take, their output thrown away."""
    halves = [_names(listing, half) for half in np.array_split(listing.besides_trees(), 2)]
    begun = time.perf_counter()
    readers = [_cat_file(repository, subprocess.DEVNULL) for _ in halves]
    for reader, names in zip(readers, halves, strict=True):
        reader.stdin.write(names)
        reader.stdin.close()
    for reader in readers:
        reader.wait()
    return time.perf_counter() - begun


def _texts(repository: Path, listing: PackListing) -> Iterator[tuple[str, bytes]]:
    """Yield every object besides trees, read in full."""
    names = _names(listing, listing.besides_trees())
    with _cat_file(repository, subprocess.PIPE) as reader:
        feeder = threading.Thread(target=_feed, args=(reader.stdin, names), daemon=True)
        feeder.start()
        while line := reader.stdout.readline():
            name, _, *size = line.decode().split()
            if size:
                yield name, reader.stdout.read(int(size[0]) + 1)[:-1]


def _feed(pipe: IO[bytes], names: bytes) -> None:
    with pipe:
        pipe.write(names)


def measure(repository: Path, cache: Path, *, quick: bool) -> None:
    """Print one line of figures for a repository's largest pack, and one for what a full read finds beside it."""
    index = max(repository.glob("**/objects/pack/*.idx"), key=lambda path: path.stat().st_size)
    begun = time.perf_counter()
    listing = list_pack(index.with_suffix(".pack"), index, width=20)
    if isinstance(listing, Unfilterable):
        print(repository, listing.why)
        return
    listed = time.perf_counter() - begun
    suspects(listing, cache_folder=cache, wanted=np.zeros(len(listing), np.bool_))
    begun = time.perf_counter()
    result = suspects(listing, cache_folder=cache, processes=2)
    filtered = time.perf_counter() - begun
    if not isinstance(result, Filtered):
        print(repository, result.why)
        return
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss + resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    floor = _floor(repository, listing)
    share = result.suspects.size / max(1, listing.besides_trees().size)
    print(
        f"{repository.parent.name}: {listing.besides_trees().size:,} objects, {result.inflated / 1e6:,.0f} MB inflated"
        f", {share:.2%} suspects; listed {listed:.2f} s, filtered {filtered:.2f} s, two cat-file {floor:.2f} s: ratio "
        f"{(listed + filtered) / floor:.2f}; {peak >> 10} MiB at most, mapped pack included",
        flush=True,
    )
    if quick:
        return
    kept = {row.tobytes().hex() for row in listing.ids(result.suspects)}
    prefilter = Prefilter(cache)
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
        f"  full read: {len(ids)} key ids, {len(kept_ids)} of them in suspects; "
        f"the prefilter sees something in {hits:,} objects, {lost} of them no suspects",
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
