"""Archives and containers to blobs, in a worker process that can be lost without harm.

The worker reads hostile bytes: it has little memory, little time, may write no file, and is killed when it is late.
It sends back only members in which the prefilter sees something. Parent and worker speak in frames over two pipes;
nothing is pickled, and a frame that is too long is a worker to be killed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import os
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self

from firedamp.scanner.budget import SMALL, WINDOW, Limits, Member
from firedamp.storage.records import Outcome, Skipped

_KEPT: Final = ("PATH", "SYSTEMROOT", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "COVERAGE_PROCESS_START")
"""The only variables a worker inherits: it needs no credentials and no settings."""
LENGTH: Final = struct.Struct(">I")
PLACE: Final = struct.Struct(">QQI")
LONGEST_FRAME: Final = WINDOW + (64 << 10)
_GRACE: Final = 2.0
"""Seconds beyond its own deadline after which a worker is killed: it should have ended by itself and said where."""

_ENDS: Final = {
    6: "a library gave up, for want of memory as a rule",
    9: "killed",
    11: "a library crashed",
    24: "it took more processor time than allowed",
}
"""What a worker's death by a signal means."""

_BOOT: Final = (
    "import json, sys\n"
    "sys.path[:] = json.loads(sys.argv[1])\n"
    "from firedamp.scanner.worker import main\n"
    "main(json.loads(sys.argv[2]))\n"
)


def prefiltered(folder: Path | None) -> tuple[str, str]:
    """Name the prefilter as a worker's predicate. folder: where its compiled forms are kept, None to compile them."""
    return "firedamp.scanner.worker:prefilter", str(folder or "")


class Unpacker:
    """Opens containers in a worker, which is started when it is first needed and again after it was lost.

    interesting is a factory `module:name` and its argument, with which the worker makes a predicate of bytes: only the
    members, or windows of large ones, for which it is true come back; without it all do. `prefiltered` makes a scan's.
    """

    def __init__(self, limits: Limits | None = None, interesting: tuple[str, str] | None = None) -> None:
        self._limits = limits or Limits()
        self._interesting = interesting
        self._worker: tuple[subprocess.Popen[bytes], _Watch] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the worker, if there is one."""
        worker, self._worker = self._worker, None
        if worker is None:
            return
        process, watch = worker
        watch.end()
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()

    def members(self, data: bytes | Path, *, wal: bytes = b"") -> Iterator[Member | Skipped]:
        """Yield the members of a container worth a look, and what of it could not be read.

        data is the container's bytes, or the path of a file, which the worker opens itself, without following a link
        and together with the `-wal` beside it if it is an SQLite database. wal is that log's bytes for data that is
        bytes. A Skipped's `what` is the chain inside the container, empty for the container itself.
        """
        process, watch = self._running()
        left = self._limits.seconds + _GRACE
        size = len(data) if isinstance(data, bytes) else 0
        request = functools.partial(_send, process.stdin, data, wal)
        finished = False
        try:
            if size <= self._limits.held:
                request()  # the worker takes it whole before it answers
            else:
                threading.Thread(target=request, daemon=True).start()
            while not finished:
                began = time.monotonic()
                watch.arm(left)
                item = _received(process.stdout)
                watch.disarm()
                left -= time.monotonic() - began
                if item is None:
                    yield Skipped(outcome=Outcome.FAILED, what="", why=self._lost(process, watch), passing=True)
                    return
                finished = item is _END
                if not isinstance(item, _End):
                    yield item
        finally:
            if not finished:  # the worker's state is unknown, or the caller wants no more
                self.close()

    def _lost(self, process: subprocess.Popen[bytes], watch: _Watch) -> str:
        """Say why a worker is gone."""
        if watch.struck:
            return f"took longer than {self._limits.seconds:g} s (unpack_time) and was stopped"
        process.kill()
        status = process.wait()
        return f"ended the process that unpacks it ({_ENDS.get(-status, status)})"

    def _running(self) -> tuple[subprocess.Popen[bytes], _Watch]:
        if self._worker is None or self._worker[0].poll() is not None:
            self.close()
            process = _started(self._limits, self._interesting)
            self._worker = process, _Watch(process)
        return self._worker


class _Watch:
    """Kills a worker that does not answer in time. Its thread sleeps from deadline to deadline, not item to item."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.struck = False
        self._process = process
        self._change = threading.Condition()
        self._until: float | None = None
        self._wakes: float | None = None
        self._over = False
        threading.Thread(target=self._run, daemon=True).start()

    def arm(self, seconds: float) -> None:
        """Begin to wait for an answer."""
        with self._change:
            self._until = time.monotonic() + seconds
            if self._wakes is None or self._until < self._wakes:
                self._change.notify()

    def disarm(self) -> None:
        """Note that the answer came; the thread finds out when it wakes."""
        self._until = None

    def end(self) -> None:
        """End the watch and its thread."""
        with self._change:
            self._over = True
            self._change.notify()

    def _run(self) -> None:
        with self._change:
            while not self._over:
                until = self._until
                if until is not None and until <= time.monotonic():
                    self.struck = True
                    self._process.kill()
                    return
                self._wakes = until
                self._change.wait(None if until is None else max(0.0, until - time.monotonic()))


def _started(limits: Limits, interesting: tuple[str, str] | None) -> subprocess.Popen[bytes]:
    """Start a worker with the parent's import path, whatever that came from, and nothing else of its surroundings."""
    path = [str(Path(entry).absolute()) for entry in sys.path if entry]
    settings = {"limits": dataclasses.asdict(limits), "interesting": interesting}
    return subprocess.Popen(
        [sys.executable, "-I", "-c", _BOOT, json.dumps(path), json.dumps(settings)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={name: os.environ[name] for name in _KEPT if name in os.environ},
        cwd=Path(os.sep),
    )


def _send(pipe: IO[bytes] | None, data: bytes | Path, wal: bytes) -> None:
    """Send one request: its header, then the bytes in frames, then an empty frame. A dead worker is no error here."""
    if pipe is None:
        return
    path = None if isinstance(data, bytes) else os.fsencode(data.absolute()).decode("latin-1")
    content = data if isinstance(data, bytes) else b""
    header = json.dumps({"path": path, "size": len(content), "wal": len(wal)}).encode()
    try:
        pipe.write(LENGTH.pack(len(header)) + header)
        for stream in (wal, content):
            for at in range(0, len(stream), SMALL):
                piece = memoryview(stream)[at : at + SMALL]
                pipe.write(LENGTH.pack(len(piece)))
                pipe.write(piece)
            pipe.write(LENGTH.pack(0))
        pipe.flush()
    except (BrokenPipeError, ValueError):
        return


class _End:
    """What follows the last item of an answer."""


_END: Final = _End()


def _received(pipe: IO[bytes] | None) -> Member | Skipped | _End | None:
    """Read one item of an answer; None when the worker is gone or talks nonsense."""
    if pipe is None:
        return None
    head = pipe.read(5)
    if len(head) < 5:
        return None
    (length,) = LENGTH.unpack(head[1:])
    if length > LONGEST_FRAME:
        return None
    frame = pipe.read(length)
    if len(frame) < length:
        return None
    try:
        return _decoded(head[:1], frame)
    except (ValueError, struct.error, TypeError):
        return None


def _decoded(kind: bytes, frame: bytes) -> Member | Skipped | _End | None:
    match kind:
        case b"M":
            line, column, length = PLACE.unpack_from(frame)
            chain = frame[PLACE.size : PLACE.size + length].decode()
            return Member(chain, frame[PLACE.size + length :], line or None, column or None)
        case b"S":
            what, why, count, passing = json.loads(frame)
            return Skipped(
                outcome=Outcome.FAILED, what=str(what), why=str(why), count=int(count), passing=bool(passing)
            )
        case b"E":
            return _END
        case _:
            return None


def encoded(item: Member | Skipped | None) -> bytes:
    """Return the frame for one item of an answer, or for its end: the worker's side of `_received`."""
    match item:
        case Member(chain, data, line, column):
            name = chain.encode()
            place = PLACE.pack(line or 0, column or 0, len(name))
            return b"M" + LENGTH.pack(len(place) + len(name) + len(data)) + place + name + data
        case Skipped(what=what, why=why, count=count, passing=passing):
            text = json.dumps([what, why, count, passing]).encode()
            return b"S" + LENGTH.pack(len(text)) + text
        case None:
            return b"E" + LENGTH.pack(0)
