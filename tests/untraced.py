"""Lets libraries run without the trace function by which coverage sees lines: it makes them twice as slow, for nothing.

Coverage passes over the lines of libraries, but up to Python 3.13 the interpreter stops at each instruction while a
trace function is set. What is named here calls none of firedamp's lines back, but for the few by which
`service/loopback_moto.py` mends moto's queues: those run as ever, and are not counted.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any


def untrace(owner: Any, *names: str) -> None:
    """Let functions of a class or module run untraced."""
    for name in names:
        setattr(owner, name, _untraced(vars(owner)[name]))


def _untraced(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        trace = sys.gettrace()
        if trace is None:
            return function(*args, **kwargs)
        sys.settrace(None)
        try:
            return function(*args, **kwargs)
        finally:
            sys.settrace(trace)

    return run


@functools.cache
def untrace_aws() -> None:
    """Let moto and the dear parts of botocore run untraced, once a process."""
    from botocore import loaders, parsers
    from flask import Flask
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication

    untrace(DomainDispatcherApplication, "get_application")
    untrace(Flask, "__call__")
    untrace(loaders.JSONFileLoader, "load_file")
    untrace(parsers.ResponseParser, "parse")
