"""Bundles, and packs by themselves: put into a repository of ours, in the cache beside the clones."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import IO, Final

from firedamp.scanner.fetch import own
from firedamp.scanner.objects import environment, small
from firedamp.storage.errors import SourceFailure

_SIGNATURES: Final = (b"# v2 git bundle\n", b"# v3 git bundle\n")
_PACKS: Final = (b"PACK\0\0\0\x02", b"PACK\0\0\0\x03")
_LONGEST_LINE: Final = 8192
_CAME_FROM: Final = "came-from"
"""Says of which state of which file this is the content: while that stays, it is not unpacked again."""


def is_bundle(path: Path) -> bool:
    """Whether path is a git bundle or a pack, by its first bytes."""
    return begins_bundle(small(path))


def begins_bundle(head: bytes) -> bool:
    """Whether a bundle or a pack begins so (gitformat-bundle(5), gitformat-pack(5))."""
    return head.startswith((*_SIGNATURES, *_PACKS))


def unbundled(path: Path, folder: Path) -> Path:
    """Return where the repository of a bundle stands below folder, once it was unpacked."""
    return folder / (hashlib.blake2b(os.fsencode(path.absolute()), digest_size=12).hexdigest() + ".bundle.git")


def unbundle(path: Path, folder: Path, largest: int | None = None) -> Path:
    """Put the pack of a bundle into a repository of ours below folder and return its path.

    Nothing of it is run or checked out, and what no ref names is kept. Raises SourceFailure for a bundle that is
    damaged, has more than largest bytes, or needs objects that it does not have.
    """
    status = path.stat()
    if largest is not None and status.st_size > largest:
        raise SourceFailure(f"the bundle {path} has more than {largest >> 20} MiB", "name it as a target of its own")
    own(folder)
    unpacked = unbundled(path, folder)
    came_from = f"{status.st_dev} {status.st_ino} {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}".encode()
    if small(unpacked / _CAME_FROM) == came_from:
        return unpacked
    with tempfile.TemporaryDirectory(dir=folder, prefix="bundle-") as beside:
        inside = Path(beside, "bundle")
        with path.open("rb") as file:
            refs, options = _header(file, path)
            settings = environment(GIT_DIR=str(inside))
            for command in (["init", "--quiet", "--bare", "--template=", *options], ["index-pack", "--stdin"]):
                done = subprocess.run(
                    ["git", *command], stdin=file.fileno(), capture_output=True, env=settings, check=False
                )
                if done.returncode:
                    said = done.stderr.decode("utf-8", "replace").strip()
                    raise SourceFailure(f"the bundle {path} cannot be read: {said}", "is it whole?")
        for name, value in refs.items():
            if name == "HEAD":
                (inside / "HEAD").write_text(value + "\n")
        (inside / _CAME_FROM).write_bytes(came_from)
        shutil.rmtree(unpacked, ignore_errors=True)
        inside.rename(unpacked)
    return unpacked


def _header(file: IO[bytes], path: Path) -> tuple[dict[str, str], list[str]]:
    """Read a bundle's header and leave the descriptor where the pack begins: refs, and what `git init` must be told."""
    refs, options = dict[str, str](), list[str]()
    if file.read(len(_PACKS[0])) in _PACKS:
        os.lseek(file.fileno(), 0, os.SEEK_SET)
        return refs, options
    file.seek(0)
    end = len(file.readline(_LONGEST_LINE))
    while (line := file.readline(_LONGEST_LINE)) not in {b"\n", b""}:
        end += len(line)
        text = line.decode("utf-8", "replace").strip()
        if text == "@object-format=sha256":
            options.append("--object-format=sha256")
        elif text.startswith("-"):
            raise SourceFailure(f"the bundle {path} needs objects that it does not have", "scan a full bundle")
        elif not text.startswith("@"):
            value, _, name = text.partition(" ")
            refs[name] = value
    os.lseek(file.fileno(), end + 1, os.SEEK_SET)
    return refs, options
