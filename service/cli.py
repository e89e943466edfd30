"""Arguments -> frozen options -> one call -> exit status.

0 clean, 1 an open finding stands (or an incident was opened), 2 incomplete, failed or a usage error; 2 wins.
Commands are imported when they are called: `scan --staged` runs before every commit and must start at once.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import gc
import inspect
import io
import os
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Final, NoReturn, TypeVar

from firedamp.service import beginning, ourselves
from firedamp.service.arguments import common_of, parsed
from firedamp.service.options import (
    CanaryOptions,
    Common,
    FindingsOptions,
    Format,
    HookOptions,
    IncidentsOptions,
    KeyOptions,
    ScanOptions,
    UsageOptions,
    VerifyOptions,
    WatchOptions,
)
from firedamp.storage.errors import Failure, UsageFailure
from firedamp.storage.masking import masked

CLEAN: Final = 0
INCOMPLETE: Final = 2

Command = Callable[[argparse.Namespace, Common], int]
T = TypeVar("T")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status. The one place where a Failure becomes words."""
    beginning.fill_closed_streams()
    if argv is None:
        beginning.insist_on_utf8()
    # What a command makes it keeps, or drops without rings: to look for rings after each 700 objects finds nothing, and
    # takes a twentieth of a scan.
    gc.set_threshold(100_000, 50, 100)
    # numpy's algebra, which nothing here needs, would start threads that wait by turning.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    if isinstance(sys.stdout, io.TextIOWrapper):  # what a terminal cannot show is written as \xNN and ends no command
        sys.stdout.reconfigure(errors="backslashreplace")
    mark, broke = ourselves.take_mark(), False
    try:
        arguments = parsed(argv)
        status = _COMMANDS[arguments.command](arguments, common_of(arguments))
        sys.stdout.flush()  # here, where a full disk or a reader that has gone is still told
    except Failure as failure:
        _complain(failure)
        status, broke = INCOMPLETE, isinstance(failure, UsageFailure)
    except BrokenPipeError:
        _let_go()  # the reader of our output has gone
        status = INCOMPLETE
    except OSError as error:
        where = "" if error.filename is None else f"{error.filename}: "
        _complain(Failure(f"{where}{error.strerror or error}", "what was read before is kept"))
        _let_go()
        status, broke = INCOMPLETE, True
    except KeyboardInterrupt:
        print("firedamp: interrupted; what was read is kept", file=sys.stderr)
        status = INCOMPLETE
    except Exception as error:  # noqa: BLE001 - Python would end with 1: all was read, and something stands there
        sys.excepthook(type(error), error, error.__traceback__)
        status, broke = INCOMPLETE, True
    if not broke:
        ourselves.leave_mark(mark)
    return status


def _let_go() -> None:
    """Let go of standard output, which takes no more: Python would try again at exit, and complain."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError:  # a container without devices, or no descriptor left
        with contextlib.suppress(OSError):
            sys.stdout.close()


def _complain(failure: Failure) -> None:
    """Say what went wrong. A name in it may be a stranger's: what follows a line end in one never looks like a line."""
    from firedamp.service.show import safe

    told = [*failure.what.split("\n"), *failure.hint.split("\n")]
    for start, line in zip(("firedamp: ", *["  "] * len(told)), filter(None, told), strict=False):
        print(start + safe(line.strip()), file=sys.stderr)


def _options(kind: Callable[..., T], given: argparse.Namespace) -> T:
    """Make the options of a command out of what was given; what its action does not take stays as it is usual."""
    known = inspect.signature(kind).parameters
    values = {name: value for name, value in vars(given).items() if name in known}
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})


def _scan(given: argparse.Namespace, common: Common) -> int:
    options = _options(ScanOptions, given)
    if options.staged:
        from firedamp.service import hooks

        return hooks.scan_staged(options, common)
    from firedamp.service import scanning

    return scanning.scan(options, common)


def _findings(given: argparse.Namespace, common: Common) -> int:
    from firedamp.service import triage

    return triage.findings(_options(FindingsOptions, given), common)


def _verify(given: argparse.Namespace, common: Common) -> int:
    from firedamp.service import judging

    return judging.verify(_options(VerifyOptions, given), common)


def _key(given: argparse.Namespace, common: Common) -> int:
    from firedamp.service import keys

    return keys.key(_options(KeyOptions, given), common)


def _usage(given: argparse.Namespace, common: Common) -> int:
    from firedamp.service import watching

    return watching.usage(_options(UsageOptions, given), common)


def _canary(given: argparse.Namespace, common: Common) -> int:
    from firedamp.service import baiting

    return baiting.canary(_options(CanaryOptions, given), common)


def _watch(given: argparse.Namespace, common: Common) -> int:
    from firedamp.service import watching

    return watching.watch(_options(WatchOptions, given), common)


def _incidents(given: argparse.Namespace, common: Common) -> int:
    from firedamp.service import watching

    return watching.incidents(_options(IncidentsOptions, given), common)


def _alert(given: argparse.Namespace, common: Common) -> int:
    from firedamp.service import alerting

    return alerting.alert(given.action, common)


def _status(given: argparse.Namespace, common: Common) -> int:
    from firedamp.service import serving

    return serving.status(common, given.prune)


def _serve(given: argparse.Namespace, common: Common) -> int:
    if given.command == "serve":
        from firedamp.service import serving

        return serving.serve(common)
    if given.command == "doctor":
        from firedamp.service import doctor

        return doctor.doctor(common)
    from firedamp.service import demo

    return demo.demo()


def _config(given: argparse.Namespace, common: Common) -> int:
    from firedamp.service import config

    common.must_be(Format.TABLE)
    if given.action == "example":
        told = config.example()
    elif common.config is None:
        raise UsageFailure("config check needs --config FILE", "firedamp config example prints one")
    else:
        config.load(common.config, whole=True)
        told = masked(f"{common.config} is sound\n")
    with common.out() as out:
        out.write(told)
    return CLEAN


def _hook(given: argparse.Namespace, common: Common) -> int:
    from firedamp.service import hooks

    return hooks.hook(_options(HookOptions, given), common)


_COMMANDS: Final[dict[str, Command]] = {
    "scan": _scan, "findings": _findings, "verify": _verify, "key": _key, "usage": _usage, "canary": _canary,
    "watch": _watch, "incidents": _incidents, "alert": _alert, "serve": _serve, "doctor": _serve, "demo": _serve,
    "status": _status, "config": _config, "hook": _hook,
}  # fmt: skip


def run() -> NoReturn:
    """Be the command. It ends at once: Python would take down all it made piece by piece, a tenth of a scan's time."""
    status = main()
    if any(not each.daemon for each in threading.enumerate() if each is not threading.main_thread()):
        sys.exit(status)
    atexit._run_exitfuncs()  # noqa: SLF001 - as Python does first
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # closed, or its reader has gone: that was told
            stream.flush()
    os._exit(status)


if __name__ == "__main__":
    run()
