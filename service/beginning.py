"""What a command begins with, whoever started it: three standard streams, and names of files in UTF-8."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Final

_STREAMS: Final = (("stdin", os.O_WRONLY, "r"), ("stdout", os.O_RDONLY, "w"), ("stderr", os.O_WRONLY, "w"))
"""What stands in for a stream that is closed. To read the first and to write the second fails, as it should."""


def fill_closed_streams() -> None:
    """Let nothing else take the number of a stream that is closed (`2>&-`), nor remarks go among the results.

    The next file that is opened has the lowest free number (open(2)), and `print` to no stream prints to the output.
    """
    for name, way, mode in _STREAMS:
        if getattr(sys, name) is None:
            with contextlib.suppress(OSError):  # a container without devices
                setattr(sys, name, os.fdopen(os.open(os.devnull, way), mode, encoding="utf-8"))


def insist_on_utf8() -> None:
    """Begin this process again in UTF-8 where the locale is of another encoding (`LANG=en_US`; PEP 540).

    In that one, names that git and the database give, and that are no text of it, cannot be opened.
    """
    if sys.getfilesystemencoding() == "utf-8" or os.environ.get("PYTHONUTF8") == "1":
        return
    os.environ["PYTHONUTF8"] = "1"  # for processes of our own, and so that this is done once
    os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])  # noqa: S606 - it is this very command
