"""Readers beside this process: each does steps of a walk, one at a time.

A reader that loses its parent ends by itself: its pipe closes. Little goes through the pipes, names out and verdicts
back, and one task a reader is under way, so that neither side can wait for the other to read.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final, TypeVar

from firedamp.scanner.walk import Step, Task, Walker, World
from firedamp.storage.errors import SourceFailure

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.context import BaseContext
    from multiprocessing.process import BaseProcess

_FOLDERS: Final = 32
_FILES: Final = 500

_Item = TypeVar("_Item")


def steps(world: World, tasks: Task, jobs: int) -> Iterator[Step]:
    """Yield every step of a walk that begins with tasks. Readers are started only when one step was not enough."""
    walker = Walker(world)
    step = walker.step(tasks)
    if jobs > 1 and (step.left.folders or step.left.files):
        yield from _beside(walker, step, jobs)
        return
    yield step
    while step.left.folders or step.left.files:
        step = walker.step(step.left)
        yield step


def _beside(walker: Walker, first: Step, jobs: int) -> Iterator[Step]:
    # The first step is handed on when the readers are at work: what is done with it may start threads, and then
    # nothing may fork any more.
    context = _context()
    readers: dict[Connection, BaseProcess] = {}
    try:
        for _ in range(jobs):
            ours, theirs = context.Pipe()
            arguments = (theirs, walker, (*readers, ours))
            process = context.Process(target=_read, args=arguments, daemon=True)  # type: ignore[attr-defined]
            with _not_from_here():
                process.start()
            theirs.close()
            readers[ours] = process
        yield from _deal(first, list(readers))
    finally:
        for connection, process in readers.items():
            connection.close()
            process.terminate()
        for process in readers.values():
            process.join()


def _context() -> BaseContext:
    """Return how readers start: a fork shares the compiled prefilter, but only a process of one thread may fork."""
    # Loaded for a walk that is worth several processes only: it takes as long as reading hundreds of files.
    import multiprocessing

    forks = sys.platform == "linux" and threading.active_count() == 1
    return multiprocessing.get_context("fork" if forks else "spawn")


@contextlib.contextmanager
def _not_from_here() -> Iterator[None]:
    """Let a Python that starts now import nothing from the folder we stand in: what is scanned may lie there."""
    given = "PYTHONSAFEPATH" in os.environ
    os.environ.setdefault("PYTHONSAFEPATH", "1")
    try:
        yield
    finally:
        if not given:
            del os.environ["PYTHONSAFEPATH"]


def _deal(first: Step, idle: list[Connection]) -> Iterator[Step]:
    """Deal out what is left of the first step until nothing is, and hand steps on while the readers work."""
    from multiprocessing.connection import Connection, wait

    done: list[Step] = [first]
    busy: list[Connection] = []
    count = len(idle)
    waiting = list(shared_out(first.left, count))
    while True:
        while waiting and idle:
            reader = idle.pop()
            reader.send(waiting.pop())
            busy.append(reader)
        yield from done
        if not busy:
            return
        done = []
        for reader in [each for each in wait(busy) if isinstance(each, Connection)]:
            try:
                step: Step = reader.recv()
            except EOFError as error:
                raise SourceFailure("a process that reads files was lost", "is there memory left?") from error
            busy.remove(reader)
            idle.append(reader)
            waiting.extend(shared_out(step.left, count))
            done.append(step)


def shared_out(task: Task, readers: int) -> Iterator[Task]:
    """Cut a task into pieces so small that most are done in one step, and nothing goes through a pipe often.

    There is one for each reader at least: what is left at the end of a walk would be left to one of them.
    """
    yield from (Task(folders=part) for part in _parts(task.folders, _FOLDERS, readers))
    yield from (Task(files=part) for part in _parts(task.files, _FILES, readers))


def _parts(items: tuple[_Item, ...], most: int, readers: int) -> Iterator[tuple[_Item, ...]]:
    size = max(1, min(most, -(-len(items) // readers)))
    return (items[at : at + size] for at in range(0, len(items), size))


def _read(connection: Connection, walker: Walker, parents: Sequence[Connection]) -> None:
    """Do steps until the pipe closes: the whole life of a reader. A fork brings along what the walker knows."""
    # And the parent's ends of the pipes: no pipe closes while a reader holds one, its own included.
    for end in parents:
        end.close()
    while True:
        try:
            connection.send(walker.step(connection.recv()))
        except (EOFError, BrokenPipeError, KeyboardInterrupt):
            return
