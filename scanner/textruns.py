"""Long runs that decode to text, in whatever notation: what `dense` and `numbered` find, from compiled code."""

from __future__ import annotations

import string
import sys
import threading
from array import array
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

from firedamp.scanner import dense, jit, numbered

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
        self._kernels: Sequence[_Search] = _searches()
        self._arrays: Sequence[Any] = ()
        """What lies at the addresses that compiled kernels take for tables; empty while they are not compiled."""
        self._local = threading.local()

    def load(self) -> None:
        """Load what is compiled, if there can be anything. Otherwise it is loaded when it is worth that."""
        self._small = sys.maxsize
        if self._folder is None:
            return
        jit.prepare(kernels(), self._folder)
        try:
            compiled = [jit.compiled(*one, self._folder) for one in kernels()]
        except jit.NoCompilerError:
            self._given_up = True
            return
        import numpy as np

        arrays = [[np.frombuffer(table, np.uint8) for table in one.tables] for one in _searches()]
        self._kernels = [
            _Search(kernel, tuple(table.ctypes.data for table in tables), one.first)
            for kernel, tables, one in zip(compiled, arrays, _searches(), strict=True)
        ]
        self._arrays = arrays

    def find(self, window: bytes | memoryview) -> list[TextRun]:
        """Return the runs in window that decode to text: those of each kernel in order."""
        size = len(window)
        if size < numbered.LEAST:
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
        if self._arrays:
            import numpy as np

            text, into = np.frombuffer(window, np.uint8).ctypes.data, found.buffer_info()[0]
        runs: list[TextRun] = []
        for kernel, tables, first in self._kernels:
            start = 0
            while start < size:
                count = kernel(text, start, size, *tables, into, _MOST)
                for at in range(0, 4 * count, 4):
                    told, decoder, begin, end = found[at : at + 4]
                    runs.append(TextRun(told, first + decoder, begin, end))
                start = found[4 * _MOST]
        return runs
