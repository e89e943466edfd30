"""Long runs that decode to text, in whatever notation: what `dense` and `numbered` find, from compiled code."""

from __future__ import annotations

import ctypes
import string
import sys
import threading
from array import array
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

from firedamp.scanner import dense, jit, numbered, same

LONGEST: Final = 64 << 10
"""Bytes of the longest run that is undone for being a text: nobody nests a longer one, and it would take its time."""
DECODERS: Final = (*dense.DECODERS, *numbered.DECODERS)
"""What a run may be written in, by the decoders' names."""

_MOST: Final = 512
"""Runs that are told at a time."""
_SMALL: Final = 256 << 10
"""Bytes that are looked at before compiled code is worth its loading."""
_NONE: Final = 255


class TextRun(NamedTuple):
    """The offset behind what told a run, its decoder's place in DECODERS, where it begins and ends."""

    told: int
    decoder: int
    start: int
    end: int


class _Search(NamedTuple):
    """A kernel, the tables that it takes behind the text's size, its decoders' first place in DECODERS.

    Tables are bytes; a compiled kernel takes addresses.
    """

    kernel: Callable[..., int]
    tables: tuple[Any, ...]
    first: int


@cache
def _searches() -> tuple[_Search, ...]:
    values, digits, kinds = bytearray([_NONE] * 256), bytearray([_NONE] * 256), bytearray(256)
    alphabet = string.ascii_uppercase + string.ascii_lowercase + string.digits
    for value, characters in enumerate([*alphabet, "+-", "/_"]):
        for character in characters:
            values[ord(character)] = value
            kinds[ord(character)] |= numbered.BASE64
    for character in string.hexdigits:
        digits[ord(character)] = int(character, 16)
        kinds[ord(character)] |= int(character, 16) | numbered.HEX | numbered.NOTATION
    for character in numbered.BETWEEN:
        kinds[character] |= numbered.NOTATION
    for character in numbered.SIGNS:
        kinds[character] |= numbered.SIGN
    plain = bytearray([_NONE] * 256)
    for code in (*range(0x20, 0x7F), *b"\t\r\n"):
        plain[code] = 0
    plain[0] = 1
    return (
        _Search(dense.dense, (bytes(values), bytes(digits), bytes(plain)), 0),
        _Search(numbered.numbered, (bytes(kinds),), len(dense.DECODERS)),
    )


def kernels() -> list[jit.Wanted]:
    """Return the functions that are compiled, each with what it takes."""
    return [(one.kernel, f"Bll{'B' * len(one.tables)}Ll") for one in _searches()]


class TextRuns:
    """Finds the runs. folder keeps what is compiled; without one nothing is, for that takes a second.

    Where nothing can be compiled, only the first quarter of a megabyte is searched: the rest would take hours.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._small = _SMALL
        self._given_up = False
        self._compiled: Sequence[_Search] = ()
        self._local = threading.local()

    def load(self) -> None:
        """Load what is compiled, if there can be anything. Otherwise it is loaded when it is worth that."""
        self._small = sys.maxsize
        if self._folder is None:
            return
        # Where so much is read for the first time, as much will be asked for the next time.
        jit.prepare([*kernels(), same.wanted()], self._folder)
        try:
            compiled = [jit.compiled(*one, self._folder) for one in kernels()]
        except jit.NoCompilerError:
            self._given_up = True
            return
        # The tables stay where they are: `_searches` keeps them.
        self._compiled = [
            _Search(kernel, tuple(map(_address, one.tables)), one.first)
            for kernel, one in zip(compiled, _searches(), strict=True)
        ]

    def find(self, window: bytes | memoryview) -> list[TextRun]:
        """Return the runs in window that decode to text: those of each kernel in order."""
        size = len(window)
        if size < dense.LINE:
            return []
        self._small -= size
        if self._small < 0:
            self.load()
        if self._given_up:
            return []
        if not hasattr(self._local, "found"):
            self._local.found = array("q", bytes(8 * (4 * _MOST + 1)))
        found: array[int] = self._local.found
        text: Any = window
        into: Any = found
        compiled = self._compiled  # asked once: another thread may load it meanwhile
        if compiled:
            if isinstance(window, memoryview) and window.readonly:
                window = window.tobytes()
            text, into = _address(window), found.buffer_info()[0]
        runs: list[TextRun] = []
        for kernel, tables, first in compiled or _searches():
            start = 0
            while start < size:
                count = kernel(text, start, size, *tables, into, _MOST)
                for at in range(0, 4 * count, 4):
                    told, decoder, begin, end = found[at : at + 4]
                    runs.append(TextRun(told, first + decoder, begin, end))
                start = found[4 * _MOST]
        return runs


def _address(data: bytes | memoryview) -> int:
    """Return where bytes stand while data lives. memoryviews can be written to.

    Without numpy: to load it takes as long as to start Python thrice.
    """
    if isinstance(data, bytes):
        return ctypes.cast(ctypes.c_char_p(data), ctypes.c_void_p).value or 0
    return ctypes.addressof(ctypes.c_char.from_buffer(data))
