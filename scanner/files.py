"""Every file under a folder, or one file, or a stream."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import BinaryIO, Final

from firedamp.scanner.source import Blob, Checkpoint, Item, Nested
from firedamp.storage.errors import SourceFailure
from firedamp.storage.records import FileProvenance, Met, Outcome, Provenance, Skipped, Tally

Interesting = Callable[[bytes], bool]
"""Whether the prefilter sees anything in these bytes."""

_LARGEST: Final = 256 << 20


def blob_id(data: bytes) -> str:
    """Name content as git does: SHA-1 over `blob SIZE NUL` and the bytes, so that file and object are one."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


class FolderSource:
    """Every regular file under a folder. Links are not followed, repositories are handed on."""

    name: Final = "folder"

    def __init__(self, root: str, interesting: Interesting) -> None:
        self.target = os.path.realpath(root)
        self._interesting = interesting
        self._met: dict[str, list[FileProvenance]] = {}
        self._read: set[str] = set()

    def blobs(self) -> Iterator[Item]:
        """Yield the files worth a look, the repositories, and what was not read."""
        tally = Tally()
        for path in _walk(self.target):
            if isinstance(path, Skipped | Nested):
                yield path
                continue
            data = _read_file(path)
            if isinstance(data, Skipped):
                yield data
                continue
            self._read.add(path)
            content, mode = data
            tally += Tally(files=1, bytes=len(content))
            if self._interesting(content):
                blob = Blob(blob_id(content), content)
                self._met.setdefault(blob.id, []).append(FileProvenance(path=path, mode=mode))
                yield blob
        yield Checkpoint(tally)

    def provenance(self, ids: Collection[str]) -> Iterator[tuple[str, Provenance]]:
        """Yield every path at which these blobs were met."""
        for blob in ids:
            for place in self._met.get(blob, []):
                yield blob, place

    def gone(self, met: Iterable[Met]) -> Iterator[Met]:
        """Yield places whose file is no longer there, or holds other content now."""
        for each in met:
            match each.provenance:
                case FileProvenance(path=path):
                    here = {place.path for place in self._met.get(each.blob, [])}
                    if not os.path.lexists(path) or (path in self._read and path not in here):
                        yield each
                case _:
                    continue


class StreamSource:
    """Standard input, read to its end."""

    name: Final = "stdin"
    target: Final = "-"

    def __init__(self, stream: BinaryIO, interesting: Interesting) -> None:
        self._stream = stream
        self._interesting = interesting
        self._blob = ""

    def blobs(self) -> Iterator[Item]:
        """Yield the stream as one blob."""
        data = self._stream.read()
        self._blob = blob_id(data)
        if self._interesting(data):
            yield Blob(self._blob, data)
        yield Checkpoint(Tally(files=1, bytes=len(data)) if data else Tally())

    def provenance(self, ids: Collection[str]) -> Iterator[tuple[str, Provenance]]:
        """Yield the one place there is."""
        for blob in ids:
            yield blob, FileProvenance(path=self.target)

    def gone(self, met: Iterable[Met]) -> Iterator[Met]:
        """Yield what an earlier stream held."""
        return (each for each in met if each.blob != self._blob)


def _walk(root: str) -> Iterator[str | Nested | Skipped]:
    """Yield regular files in a stable order, repositories, and what cannot be listed."""
    try:
        top = os.lstat(root)
    except OSError as error:
        raise SourceFailure(
            f"{root} cannot be read: {error.strerror}", "does it exist, and may you read it?"
        ) from error
    if stat.S_ISREG(top.st_mode):
        yield root
        return
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except FileNotFoundError:
            yield Skipped(outcome=Outcome.GONE, what=folder, why="vanished")
            continue
        except OSError as error:
            yield Skipped(outcome=Outcome.FAILED, what=folder, why=error.strerror or "cannot be listed")
            continue
        for entry in entries:
            if entry.name == ".git":
                yield Nested(folder)
            elif entry.is_dir(follow_symlinks=False):
                waiting.append(entry.path)
            elif entry.is_file(follow_symlinks=False):
                yield entry.path


def _read_file(path: str) -> tuple[bytes, int] | Skipped:
    """Return a regular file's bytes and permission bits. A link, FIFO or device put there meanwhile cannot hang it."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        with open(os.open(path, flags), "rb") as file:  # noqa: PTH123
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                return Skipped(outcome=Outcome.LEFT_OUT, what=path, why="not a regular file")
            if status.st_size > _LARGEST:
                return Skipped(outcome=Outcome.FAILED, what=path, why=f"larger than {_LARGEST >> 20} MiB")
            return file.read(), stat.S_IMODE(status.st_mode)
    except FileNotFoundError:
        return Skipped(outcome=Outcome.GONE, what=path, why="vanished")
    except OSError as error:
        return Skipped(outcome=Outcome.FAILED, what=path, why=error.strerror or "cannot be read")


def read_blob(path: str, blob: str) -> bytes | None:
    """Return a file's bytes if they are still the blob that was found there."""
    match _read_file(path):
        case Skipped():
            return None
        case (data, _):
            return data if blob_id(data) == blob else None
