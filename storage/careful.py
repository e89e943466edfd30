"""Read and replace a file that somebody else may be touching: no-follow, atomic, owner, mode and attributes kept."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from firedamp.storage.errors import Failure

LARGEST = 64 << 20
"""Bytes of the largest file that is edited: configuration is small, and what is larger is something else."""

_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)


@dataclass(frozen=True, slots=True)
class Contents:
    """A file as it was read: its bytes, and what tells whether it is still the same when it is replaced."""

    data: bytes
    mode: int
    owner: int
    group: int
    stamp: tuple[int, int, int, int]
    """Device, inode, size and mtime in nanoseconds."""
    attributes: tuple[tuple[str, bytes], ...] = ()
    """Extended attributes: access lists stand there, and without theirs the mode gives the group more than it had."""


def read(path: Path) -> Contents | None:
    """Read a regular file, or return None when there is none.

    Neither the file nor its folder may be a link.
    Raises Failure for a link, a FIFO, a device, a file that is too large or may not be read.
    """
    with _folder(path.parent) as folder:
        try:
            handle = os.open(path.name, os.O_RDONLY | _NO_FOLLOW | getattr(os, "O_NONBLOCK", 0), dir_fd=folder)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise Failure(f"{path} cannot be read: {error.strerror}", "is it a link, or somebody else's?") from error
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            os.close(handle)
            raise Failure(f"{path} is no regular file", "name the file itself")
        with open(handle, "rb") as file:  # noqa: PTH123 - it is a descriptor
            if status.st_size > LARGEST:
                raise Failure(f"{path} is larger than {LARGEST >> 20} MiB", "this is no file to plant or rotate in")
            return Contents(
                file.read(), stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid, _stamp(status),
                _attributes(file.fileno()),
            )  # fmt: skip


def replace(path: Path, data: bytes, before: Contents | None, mode: int = 0o600) -> None:
    """Put data in path's place at once: a reader sees the old bytes or the new ones, never a part.

    before is what `read` returned: its mode, owner and attributes are kept. A file that changed since is not
    overwritten, nor one that has several names: the others would keep what it was.
    None says that there was no file; mode is for that case. Raises Failure and leaves everything as it was.
    """
    with _folder(path.parent) as folder:
        name = f".{path.name}.{secrets.token_hex(8)}"
        handle = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_FOLLOW, 0o600, dir_fd=folder)
        try:
            with open(handle, "wb") as file:  # noqa: PTH123 - it is a descriptor
                file.write(data)
                if before is not None:
                    _keep_owner(file.fileno(), before, path)
                os.fchmod(file.fileno(), mode if before is None else before.mode)
                _keep_attributes(file.fileno(), before)
                file.flush()
                os.fsync(file.fileno())
            _unchanged(path, folder, before)
            if before is None:
                os.link(name, path.name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
            else:
                os.replace(name, path.name, src_dir_fd=folder, dst_dir_fd=folder)
                name = ""
            os.fsync(folder)
        except FileExistsError as error:
            raise Failure(f"{path} appeared while it was being written", "look at it, then try again") from error
        except OSError as error:
            raise Failure(f"{path} cannot be written: {error.strerror}") from error
        finally:
            if name:
                with contextlib.suppress(OSError):
                    os.unlink(name, dir_fd=folder)


def sweep(path: Path) -> None:
    """Remove what a `replace` of path that was killed on its way left beside it."""
    ours = re.compile(re.escape(f".{path.name}.") + "[0-9a-f]{16}")
    with _folder(path.parent) as folder:
        for name in filter(ours.fullmatch, os.listdir(folder)):  # noqa: PTH208 - it is a descriptor
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=folder)


def remove(path: Path, before: Contents) -> None:
    """Remove the file that `read` returned. Raises Failure, and leaves it, when it changed since."""
    with _folder(path.parent) as folder:
        _unchanged(path, folder, before, going=True)
        try:
            os.unlink(path.name, dir_fd=folder)
        except OSError as error:
            raise Failure(f"{path} cannot be removed: {error.strerror}") from error
        os.fsync(folder)


@contextlib.contextmanager
def _folder(path: Path) -> Iterator[int]:
    """Hold a folder open, so that everything done in it is done in that folder whatever happens to its name."""
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | _NO_FOLLOW)
    except OSError as error:
        raise Failure(f"the folder {path} cannot be opened: {error.strerror}", "does it exist, or is it a link?") from (
            error
        )
    try:
        yield handle
    finally:
        os.close(handle)


def _keep_owner(handle: int, before: Contents, path: Path) -> None:
    status = os.fstat(handle)
    if (status.st_uid, status.st_gid) == (before.owner, before.group):
        return
    try:
        os.fchown(handle, before.owner, before.group)
    except PermissionError as error:
        raise Failure(f"{path} belongs to user {before.owner}, whom a new file cannot be given to") from error


def _attributes(handle: int) -> tuple[tuple[str, bytes], ...]:
    if not hasattr(os, "listxattr"):
        return ()
    try:
        return tuple((name, os.getxattr(handle, name)) for name in os.listxattr(handle))
    except OSError:  # a file system without them
        return ()


def _keep_attributes(handle: int, before: Contents | None) -> None:
    for name, value in () if before is None else before.attributes:
        # A label of the system is given by the system, as a rule to root alone.
        with contextlib.suppress(*([OSError] if name.startswith("security.") else [])):
            os.setxattr(handle, name, value)


def _unchanged(path: Path, folder: int, before: Contents | None, *, going: bool = False) -> None:
    try:
        status = os.stat(path.name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        if before is not None:
            raise Failure(f"{path} vanished while it was being edited") from None
        return
    if before is None:
        raise Failure(f"{path} exists already", "nothing is overwritten")
    if status.st_nlink > 1 and not going:
        raise Failure(f"{path} has {status.st_nlink} names (hard links)", "the others would keep what it was")
    if _stamp(status) != before.stamp:
        raise Failure(f"{path} changed while it was being edited", "look at it, then try again")


def _stamp(status: os.stat_result) -> tuple[int, int, int, int]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
