"""Runs firedamp's commands in forked processes, and kills one at the n-th boundary of what it does.

A boundary is where the world outside changes: a transaction begins or is committed, bytes go to AWS, to a webhook or
to a mail server. Python itself tells of them (audit events, SQLite's trace): nothing of firedamp is patched. The kill
is SIGKILL.

Started as `python -m tests.crasher`; each line of standard input is a task as JSON, each line of the answer tells how
it ended and how many boundaries it met. It has imported everything once: a command costs a fork, not a start.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

_HEAVY = (
    "apprise", "boto3", "firedamp.canaries.awsfeeds", "firedamp.canaries.opening", "firedamp.scanner.detect",
    "firedamp.scanner.survey", "firedamp.service.alerting", "firedamp.service.baiting", "firedamp.service.cli",
    "firedamp.service.minting", "firedamp.service.planting", "firedamp.service.scanning", "firedamp.service.watching",
    "hyperscan", "sqlite_utils",
)  # fmt: skip
_CONNECT = sqlite3.connect
_ROOT = Path(__file__).parent.parent


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended: its exit status (-9 when it was killed), and the boundaries it met before."""

    status: int
    boundaries: int
    output: str
    errors: str


class Crasher:
    """The process that forks the commands. A context manager. A command has the environment of its caller."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.crasher"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            cwd=_ROOT, env={**os.environ, "PYTHONPATH": str(_ROOT / ".links")},
        )  # fmt: skip
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def run(self, *arguments: str, die_at: int | None = None, die_after: float | None = None) -> Ended:
        """Run a command; kill it at its n-th boundary (from 1), or so many seconds after its start."""
        task = {
            "arguments": arguments, "folder": str(self._folder), "environment": dict(os.environ),
            "die_at": die_at, "die_after": die_after,
        }  # fmt: skip
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(task) + "\n")
        self._process.stdin.flush()
        status = json.loads(self._process.stdout.readline())
        count = self._folder / "count"
        return Ended(
            status, count.stat().st_size if count.exists() else 0, (self._folder / "out").read_text(),
            (self._folder / "err").read_text(),
        )  # fmt: skip


class _Boundaries:
    def __init__(self, folder: Path, die_at: int | None) -> None:
        self._count = os.open(folder / "count", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        self._met, self._die_at = 0, die_at
        self._process = os.getpid()

    def audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in {"http.client.send", "smtplib.send"}:
            self._meet()

    def connect(self, *arguments: Any, **options: Any) -> sqlite3.Connection:
        """Stand in for `sqlite3.connect`: its audit event comes before the connection can be traced."""
        made = _CONNECT(*arguments, **options)
        made.set_trace_callback(self._statement)
        return made

    def _statement(self, text: str) -> None:
        if text.startswith(("BEGIN", "COMMIT")):
            self._meet()

    def _meet(self) -> None:
        if os.getpid() != self._process:
            return
        self._met += 1
        if self._met == self._die_at:
            os.kill(os.getpid(), signal.SIGKILL)
        os.write(self._count, b".")


def _child(task: dict[str, Any]) -> None:
    from firedamp.service import cli

    folder = Path(task["folder"])
    os.environ.clear()
    os.environ.update(task["environment"])
    for name, number in (("out", 1), ("err", 2)):
        handle = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(handle, number)
    boundaries = _Boundaries(folder, task["die_at"])
    sys.addaudithook(boundaries.audit)
    sqlite3.connect = boundaries.connect
    arguments: Sequence[str] = task["arguments"]
    status = 2
    try:
        status = cli.main(arguments)
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 2
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _ended(child: int, die_after: float | None) -> int:
    """Wait for a child, or kill it so many seconds from now; return its wait status."""
    until = time.monotonic() + (die_after or 0)
    while die_after is not None and time.monotonic() < until:
        process, status = os.waitpid(child, os.WNOHANG)
        if process:
            return status
        time.sleep(0.001)
    if die_after is not None:
        os.kill(child, signal.SIGKILL)
    return os.waitpid(child, 0)[1]


def _main() -> None:
    for name in _HEAVY:
        importlib.import_module(name)
    # Apprise imports its hundred services when it is first asked for one: half a second of each command that delivers.
    importlib.import_module("apprise").Apprise.instantiate("json://localhost")
    gc.freeze()
    for line in sys.stdin:
        task = json.loads(line)
        child = os.fork()
        if child == 0:
            _child(task)
        print(os.waitstatus_to_exitcode(_ended(child, task["die_after"])), flush=True)


if __name__ == "__main__":
    _main()
