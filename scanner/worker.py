"""The process that unpacks: takes requests on one pipe, answers on the other, under limits it sets on itself."""

from __future__ import annotations

import importlib
import io
import json
import os
import signal
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from firedamp.scanner.budget import SMALL, Budget, Chunks, File, Limits, Member, Parts, buffered, hold, in_memory
from firedamp.scanner.containers import opened, walk
from firedamp.scanner.documents import rows, rows_on_disk
from firedamp.scanner.formats import HEAD, container_of
from firedamp.scanner.stub import TAIL, is_stub
from firedamp.scanner.unpack import LENGTH, encoded
from firedamp.storage.records import Outcome, Skipped


def main(settings: dict[str, object]) -> None:
    """Answer requests until the pipe closes. settings: the limits by name, and how to make the predicate."""
    limits = Limits(**settings["limits"])  # type: ignore[arg-type]  # our own parent wrote them, from a Limits
    interesting = _made(settings["interesting"])
    requests, answers = _private_pipes()
    with requests, answers:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when this ends
        _confine(limits)
        work = _Work(limits, interesting)
        while work.serve(requests, answers):
            pass


def prefilter(folder: str) -> Callable[[bytes], bool]:
    """Make the predicate of a scan: whether the prefilter sees anything. folder: its copy of the compiled forms."""
    from firedamp.scanner.prefilter import Prefilter

    made = Prefilter(Path(folder) if folder else None)
    made.ready()
    return made.any


def _made(interesting: object) -> Callable[[bytes], bool]:
    """Make the predicate from `module:factory` and the factory's argument; without it everything is interesting."""
    if not isinstance(interesting, list):
        return lambda _: True
    name, argument = interesting
    module, _, attribute = name.partition(":")
    predicate: Callable[[bytes], bool] = getattr(importlib.import_module(module), attribute)(argument)
    return predicate


def _private_pipes() -> tuple[IO[bytes], IO[bytes]]:
    """Move the two pipes away from standard input and output, so that no library can read or write them."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.close(null)
    return requests, answers


def _confine(limits: Limits) -> None:
    """Give up files, cores, children and memory, as far as the system knows such limits."""
    try:
        import resource
    except ImportError:  # Windows has none; the deadline and the parent remain
        return
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    _limit(resource.RLIMIT_FSIZE, 0)
    _limit(resource.RLIMIT_CORE, 0)
    try:
        start = int(Path("/proc/self/statm").read_bytes().split()[0]) * resource.getpagesize()
    except OSError:  # no Linux: address space is not limited there either
        return
    _limit(resource.RLIMIT_AS, start + limits.memory)


def _limit(which: int, value: int) -> None:
    import resource

    try:
        resource.setrlimit(which, (value, value))
    except (ValueError, OSError):
        return  # a stricter limit holds already, or the system has none


@dataclass(slots=True)
class _Work:
    """What a worker was told once: the limits, and what is interesting. waited is time spent on the parent."""

    limits: Limits
    interesting: Callable[[bytes], bool]
    waited: float = 0.0

    def clock(self) -> float:
        """Return seconds, less those in which the parent did not take what was written."""
        return time.monotonic() - self.waited

    def serve(self, requests: IO[bytes], answers: IO[bytes]) -> bool:
        """Answer one request; False when there is none any more."""
        head = _frame(requests)
        if head is None:
            return False
        wal = b"".join(_frames(requests))
        content = buffered(Chunks(_frames(requests)))
        _more_cpu(self.limits)
        for item in self._answer(json.loads(head), content, wal):
            began = time.monotonic()
            answers.write(encoded(item))
            answers.flush()
            self.waited += time.monotonic() - began
        while content.read(SMALL):
            pass
        answers.write(encoded(None))
        answers.flush()
        return True

    def _answer(self, request: dict[str, object], content: io.BufferedReader, wal: bytes) -> Iterator[Member | Skipped]:
        path, stored = request["path"], int(str(request["size"]))
        if not isinstance(path, str):
            yield from self._walked(in_memory(content.read()) if stored <= self.limits.held else content, stored, wal)
            return
        try:
            with _open(path.encode("latin-1")) as file:
                if container_of(file.peek(HEAD)) == "sqlite":
                    wal = _beside(path.encode("latin-1"), self.limits)
                yield from self._walked(file, os.fstat(file.fileno()).st_size, wal)
        except OSError as error:
            yield Skipped(outcome=Outcome.FAILED, what="", why=error.strerror or type(error).__name__, passing=True)

    def _walked(self, file: File, stored: int, wal: bytes) -> Iterator[Member | Skipped]:
        head, tail = file.peek(HEAD)[:HEAD], b""
        if file.seekable() and is_stub(head):
            file.seek(-min(stored, TAIL), io.SEEK_END)
            tail = file.read()
            file.seek(0)
        kind = container_of(head, tail)
        if kind is None and not file.seekable() and is_stub(head):
            kind = "zip"  # the parent, which sent it, has seen its end
        if kind is None:
            return
        budget = Budget(self.limits, stored, self.clock)
        yield from walk(kind, _parts(kind, file, stored, wal, budget), budget, self.interesting)


def _parts(kind: str, file: File, stored: int, wal: bytes, budget: Budget) -> Parts:
    """Open the top-level file: a database may have its log, and need not be held in memory if it is a file."""
    if kind == "sqlite" and file.seekable():
        if stored <= budget.limits.held:
            return rows(hold(file, budget), budget, wal)
        if isinstance(file.raw, io.FileIO):
            return rows_on_disk(os.fsdecode(file.raw.name), budget)
    return opened(kind, file, budget)


def _open(path: bytes) -> File:
    """Open a regular file without following a link or waiting for a pipe's other end."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    file = open(path, "rb", opener=lambda name, _: os.open(name, flags))  # noqa: SIM115  # the caller closes it
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(0, "is no regular file")
    return file


def _beside(path: bytes, limits: Limits) -> bytes:
    """Read the write-ahead log beside a database, if there is one. The file itself is not touched."""
    try:
        with _open(path + b"-wal") as log:
            return log.read(limits.held)
    except OSError:
        return b""


def _more_cpu(limits: Limits) -> None:
    """Allow this request as much processor time as it may take wall time, and a little more."""
    try:
        import resource
    except ImportError:
        return
    used = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (int(used + limits.seconds) + 5, hard))


def _frames(pipe: IO[bytes]) -> Iterator[bytes]:
    """Yield frames up to the empty one that ends a stream."""
    while frame := _frame(pipe):
        yield frame


def _frame(pipe: IO[bytes]) -> bytes | None:
    head = pipe.read(LENGTH.size)
    if len(head) < LENGTH.size:
        return None
    (length,) = LENGTH.unpack(head)
    return pipe.read(length)
