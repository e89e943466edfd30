"""Measure how fast containers are opened, against the tools that only unpack and search."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path
from typing import Final

from tests.containers import every

from firedamp.scanner.budget import Limits
from firedamp.scanner.unpack import Unpacker, prefiltered

SIZE: Final = 150 << 20
ROUNDS: Final = 200
_TEXT: Final = b"nothing of interest stands here\n" * 40
_PACK: Final = {
    "tar": "tar -cf {to} -T {names}",
    "tar.gz": "tar -czf {to} -T {names}",
    "tar.xz": "tar -cf - -T {names} | xz -1 > {to}",
    "tar.zst": "tar -cf - -T {names} | zstd -q > {to}",
    "zip": "zip -q {to} -@ < {names}",
}
_UNPACK: Final = {
    "tar": "tar -xOf {of}",
    "tar.gz": "tar -xOzf {of}",
    "tar.xz": "xz -dc {of} | tar -xOf -",
    "tar.zst": "zstd -dcq {of} | tar -xOf -",
    "zip": "unzip -p {of}",
}


def listed(root: Path, size: int) -> list[Path]:
    """Return files under root, in order, that come to about size bytes."""
    files: list[Path] = []
    for path in sorted(root.rglob("*")):
        if path.is_file() and not path.is_symlink() and size > 0:
            files.append(path)
            size -= path.stat().st_size
    return files


def rates(root: Path) -> None:
    """Print, for each kind of archive of a tree, seconds of ours and of the tools, and their ratio."""
    search = "rg -c AKIA -a" if shutil.which("rg") else "LC_ALL=C grep -ac AKIA"
    bsdtar = shutil.which("bsdtar")
    with (
        tempfile.TemporaryDirectory() as folder,
        Unpacker(Limits(members=10**6), prefiltered(Path(folder) / "cache")) as unpacker,
    ):
        names = Path(folder) / "names"
        files = listed(root, SIZE)
        names.write_text("\n".join(map(str, files)))
        size = sum(file.stat().st_size for file in files)
        print(f"{len(files):,} files, {size >> 20:,} MiB from {root}; searched by {search}")
        list(unpacker.members(every(_TEXT)["zip"]))  # the worker is started
        for kind, command in _PACK.items():
            archive = Path(folder) / f"archive.{kind}"
            timed(command.format(to=archive, names=names))
            unpack = f"{bsdtar} -xOf {archive}" if bsdtar else _UNPACK[kind].format(of=archive)
            theirs = timed(f"{unpack} | {search}")
            began = time.perf_counter()
            items = list(unpacker.members(archive))
            ours = time.perf_counter() - began
            print(f"{kind:8} {ours:6.2f} s, tools {theirs:6.2f} s, ratio {ours / theirs:5.2f}; {len(items)} items back")


def timed(command: str) -> float:
    """Return the seconds a shell command takes."""
    began = time.perf_counter()
    quiet = subprocess.DEVNULL
    subprocess.run(command, shell=True, stdout=quiet, stderr=quiet, check=False)  # noqa: S602  # our own words
    return time.perf_counter() - began


def shares() -> None:
    """Print what one small container of each kind costs, the way to the worker and back included."""
    with tempfile.TemporaryDirectory() as folder, Unpacker(interesting=prefiltered(Path(folder))) as unpacker:
        began = time.perf_counter()
        list(unpacker.members(every(_TEXT)["zip"]))
        print(f"worker started in {time.perf_counter() - began:.2f} s, its forms compiled")
        for kind, data in every(_TEXT).items():
            list(unpacker.members(data))
            began = time.perf_counter()
            for _ in range(ROUNDS):
                list(unpacker.members(data))
            print(f"{kind:10} {(time.perf_counter() - began) / ROUNDS * 1e6:7.0f} µs")


def show(root: Path | None = None) -> None:
    """Print all figures. root: the tree that is packed and unpacked, this Python's libraries by default."""
    shares()
    rates(root or Path(sysconfig.get_paths()["purelib"]))


if __name__ == "__main__":
    show(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
