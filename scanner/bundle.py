"""Bundles, and packs by themselves: put into a repository of ours, in the cache beside the clones."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import IO, Final

from firedamp.scanner.fetch import LONGEST, own
from firedamp.scanner.objects import environment, small
from firedamp.storage.errors import SourceFailure

_SIGNATURES: Final = (b"# v2 git bundle\n", b"# v3 git bundle\n")
_PACKS: Final = (b"PACK\0\0\0\x02", b"PACK\0\0\0\x03")
_LONGEST_LINE: Final = 8192
_CAME_FROM: Final = "came-from"
"""Says of which state of which file this is the content: while that stays, it is not unpacked again.

The state is a line; the rest is the path.
"""
_LARGEST_HEADER: Final = 64 << 20


def is_bundle(path: Path) -> bool:
    """Whether path is a git bundle or a pack, by its first bytes."""
    return begins_bundle(small(path))


def holds_pack(head: bytes) -> bool:
    """Whether what begins so is a pack, or a bundle in which one follows the header: what is packed is no text."""
    return begins_bundle(head) and (head.startswith(_PACKS) or head.partition(b"\n\n")[2].startswith(_PACKS))


def begins_bundle(head: bytes) -> bool:
    """Whether a bundle or a pack begins so (gitformat-bundle(5), gitformat-pack(5))."""
    return head.startswith((*_SIGNATURES, *_PACKS))


def unbundled(path: Path, folder: Path) -> Path:
    """Return where the repository of a bundle stands below folder, once it was unpacked."""
    return folder / (hashlib.blake2b(os.fsencode(path.absolute()), digest_size=12).hexdigest() + ".bundle.git")


def forget_gone(folder: Path) -> None:
    """Remove the repositories below folder whose bundle is no more."""
    for unpacked in folder.glob("*.bundle.git"):
        came_from = small(unpacked / _CAME_FROM).partition(b"\n")[2]
        if not came_from or not os.path.lexists(came_from):
            # Renamed first: it stands whole, or not at all.
            with (
                tempfile.TemporaryDirectory(dir=folder, prefix="bundle-", ignore_cleanup_errors=True) as bin_,
                suppress(FileNotFoundError),  # another process was first
            ):
                unpacked.rename(Path(bin_, "gone"))


def unbundle(path: Path, folder: Path, largest: int | None = None, seconds: float = LONGEST) -> Path:
    """Put the pack of a bundle into a repository of ours below folder and return its path.

    Nothing of it is run or checked out, and what no ref names is kept. Raises SourceFailure for a bundle that is
    damaged, has more than largest bytes, needs objects that it does not have, or takes longer than seconds.
    """
    status = path.stat()
    if largest is not None and status.st_size > largest:
        raise SourceFailure(f"the bundle {path} has more than {largest >> 20} MiB", "name it as a target of its own")
    own(folder)
    unpacked = unbundled(path, folder)
    state = f"{status.st_dev} {status.st_ino} {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}\n"
    came_from = state.encode() + os.fsencode(path.absolute())
    if small(unpacked / _CAME_FROM) == came_from:
        return unpacked
    with tempfile.TemporaryDirectory(dir=folder, prefix="bundle-") as beside:
        inside = Path(beside, "bundle")
        with path.open("rb") as file:
            header, head, options = _header(file, path)
            settings = environment(GIT_DIR=str(inside))
            for command in (["init", "--quiet", "--bare", "--template=", *options], ["index-pack", "--stdin"]):
                try:
                    done = subprocess.run(
                        ["git", *command], stdin=file.fileno(), capture_output=True, env=settings, check=False,
                        timeout=seconds,
                    )  # fmt: skip
                except subprocess.TimeoutExpired as error:
                    why = f"the bundle {path} cannot be unpacked in {seconds:,.0f} s: given up"
                    raise SourceFailure(why, "is it very large? see clone_time under [serve]") from error
                if done.returncode:
                    said = done.stderr.decode("utf-8", "replace").strip()
                    raise SourceFailure(f"the bundle {path} cannot be read: {said}", "is it whole?")
        if head is not None:
            (inside / "HEAD").write_bytes(head + b"\n")
        # Its lines are those of packed refs; what else stands there is text that is looked at too.
        (inside / "packed-refs").write_bytes(header)
        (inside / _CAME_FROM).write_bytes(came_from)
        shutil.rmtree(unpacked, ignore_errors=True)
        inside.rename(unpacked)
    return unpacked


def _header(file: IO[bytes], path: Path) -> tuple[bytes, bytes | None, list[str]]:
    """Read a bundle's header and leave the descriptor where the pack begins.

    Return the lines behind the first, what HEAD holds, and what `git init` must be told.
    """
    head, options = None, list[str]()
    if file.read(len(_PACKS[0])) in _PACKS:
        os.lseek(file.fileno(), 0, os.SEEK_SET)
        return b"", head, options
    file.seek(0)
    begin = end = len(file.readline(_LONGEST_LINE))
    while (line := file.readline(_LONGEST_LINE)) not in {b"\n", b""}:
        end += len(line)
        if end > _LARGEST_HEADER:
            raise SourceFailure(f"the bundle {path} names refs without end", "is it one?")
        text = line.strip()
        if text == b"@object-format=sha256":
            options.append("--object-format=sha256")
        elif text.startswith(b"-"):
            raise SourceFailure(f"the bundle {path} needs objects that it does not have", "scan a full bundle")
        elif text.endswith(b" HEAD"):
            head = text.removesuffix(b" HEAD")
    file.seek(begin)
    header = file.read(end - begin)
    os.lseek(file.fileno(), end + 1, os.SEEK_SET)
    return header, head, options
