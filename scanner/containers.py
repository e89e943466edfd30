"""The walk through containers inside containers, and what opens each format.

To add a format: one row in `formats`, one function that yields its parts, one row in _OPEN.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from firedamp.scanner import archives, documents, mail, sevenzip, streams
from firedamp.scanner.budget import (
    NO_MEMORY,
    WINDOW,
    Broken,
    Budget,
    Chunks,
    File,
    Member,
    Part,
    Parts,
    Spent,
    again,
    buffered,
    in_memory,
    too_large,
    trouble_of,
)
from firedamp.scanner.formats import BY_NAME, HEAD, container_of, holds_zip_end
from firedamp.scanner.names import LONGEST_PATH, may_hold_secret, parts_with_key_id, with_key_id
from firedamp.scanner.stub import TAIL, is_stub, tail_of
from firedamp.storage.masking import masked
from firedamp.storage.records import Outcome, Skipped

OVERLAP: Final = 64 << 10
"""How much of a window is seen again in the next, so that what stands at its border is seen whole."""
_LONGEST_NAME: Final = 300


_OPEN: Final[Mapping[str, Callable[[File, Budget], Parts]]] = {
    "zip": archives.unzip,
    "gzip": streams.gunzip,
    "bzip2": streams.bunzip2,
    "xz": streams.unxz,
    "zstd": streams.unzstd,
    "lz4": streams.unlz4,
    "7z": sevenzip.un7z,
    "ar": archives.unar,
    "cpio": archives.uncpio,
    "rpm": archives.unrpm,
    "git": archives.ungit,
    "reftable": streams.unreftable,
    "sqlite": documents.unsqlite,
    "plist": documents.unplist,
    "pdf": documents.unpdf,
    "pyc": documents.unpyc,
    "notebook": documents.unnotebook,
    "office": documents.unoffice,
    "mbox": mail.unmbox,
    "mail": mail.unmail,
    "tar": archives.untar,
}
"""What yields the parts of each format."""


def walk(kind: str, parts: Parts, budget: Budget, interesting: Callable[[bytes], bool]) -> Iterator[Member | Skipped]:
    """Yield every member, however deep, in which `interesting` sees something, and what was cut off.

    parts come from the format named kind, opened on the top-level file. Never raises for what the bytes hold.
    """
    walker = _Walk(budget, interesting)
    try:
        yield from walker.parts(kind, parts, "", 1)
    except Spent as spent:
        yield _failed(walker.at, f"{spent.why}; nothing after this was read", passing=spent.passing)


def opened(kind: str, file: File, budget: Budget) -> Parts:
    """Open a file by the format named kind; `container_of` gives the name."""
    return _OPEN[kind](file, budget)


_TOLD: Final = 100
"""How many unreadable members of one container are named; the rest are counted."""


class _Walk:
    def __init__(self, budget: Budget, interesting: Callable[[bytes], bool]) -> None:
        self._budget = budget
        self._limits = budget.limits
        self._interesting = interesting
        self.at = ""

    def parts(
        self, kind: str, parts: Parts, chain: str, depth: int, file: File | None = None
    ) -> Iterator[Member | Skipped]:
        """Walk the parts of one container that stands at chain; file is what it is read from."""
        why, passing = None, False
        count = unread = 0
        named = set[str]()
        try:
            for part in parts:
                count += bool(part.name)  # what has none is the container's own text
                if count > self._limits.members:
                    why = f"holds more than {self._limits.members:,} members (unpack_members)"
                    break
                self.at = _joined(chain, part.name)
                yield from self._names(chain, part.name, named)
                if isinstance(part, Part):
                    yield from self._part(part, chain, depth)
                elif unread < _TOLD:
                    yield _failed(self.at, part.why, part.count)
                    unread += 1
                else:
                    unread += 1
        except Spent:
            raise
        except Broken as broken:
            why = broken.why
        except MemoryError:
            why = NO_MEMORY
        except Exception as error:  # noqa: BLE001  # whatever a library makes of hostile bytes is told, and the rest goes on
            why, passing = f"is damaged: {type(error).__name__}", isinstance(error, OSError | ImportError)
        if file is not None and (trouble := trouble_of(file)) is not None:
            if isinstance(trouble, Spent):
                raise trouble
            why = trouble.why
        if unread > _TOLD:
            yield _failed(chain, f"{unread - _TOLD:,} more members could not be read", unread - _TOLD)
        if why is not None:
            yield _failed(chain, f"{kind} {why}", passing=passing)

    def _names(self, chain: str, whole: str, named: set[str]) -> Iterator[Member]:
        """Look at the names in a member's path in which a key id may stand, unless they are among named.

        A path with room for a secret is told by the container, for a chain is stored; so is one that no system has, of
        which the names are looked at as lines.
        """
        if not with_key_id([whole]):
            return
        is_long = len(whole) > LONGEST_PATH
        if is_long or may_hold_secret(whole):
            text = (whole.replace("/", "\n") if is_long else whole).encode("utf-8", "replace")
            yield from self._window(chain, text, (None, None), office=False)
            return
        for name in parts_with_key_id(whole):
            if name not in named:
                named.add(name)
                last = name.rpartition("/")[2].encode("utf-8", "replace")
                yield from self._window(_joined(chain, name), last, (None, None), office=False)

    def _part(self, part: Part, chain: str, depth: int) -> Iterator[Member | Skipped]:
        body = part.body
        head = body[:HEAD] if isinstance(body, bytes) else body.peek(HEAD)[:HEAD]
        body, tail = self._with_tail(body) if is_stub(head) else (body, b"")
        kind = container_of(head, tail)
        if kind in {None, "office"}:
            if not part.shown:
                yield from self._leaf(_joined(chain, part.name), body, part.lines, office=kind == "office")
            return
        if not part.thin:
            chain = _joined(chain, part.name)
        if depth >= self._limits.depth:
            yield _failed(chain, f"{kind} is nested deeper than {self._limits.depth} (unpack_depth)")
            return
        known = BY_NAME[kind]
        if known.raw and not isinstance(body, bytes) and not body.seekable():
            first = body.read(self._limits.held)
            if body.peek(1):
                if not known.plain:
                    yield _failed(chain, _too_large(kind, len(first)).why)
                yield from self._leaf(chain, buffered(Chunks(again(first, body))), part.lines)
                return
            body = first
        if known.plain and isinstance(body, bytes) and not self._interesting(body):
            return
        file = in_memory(body) if isinstance(body, bytes) else body
        yield from self.parts(kind, _OPEN[kind](file, self._budget), chain, depth + 1, file)
        if known.raw and not part.shown:
            file.seek(0)
            yield from self._leaf(chain, body, part.lines)

    def _with_tail(self, body: bytes | File) -> tuple[bytes | File, bytes]:
        """Return a program and its last bytes. Out of another container it is held for that, as the zip in it must be.

        What is larger than that limit is handed back as it comes: a zip at its end is told when it is met.
        """
        if isinstance(body, bytes):
            return body, tail_of(body)
        if body.seekable():
            size = body.seek(0, io.SEEK_END)
            body.seek(max(0, size - TAIL))
            tail = body.read(TAIL)
            body.seek(0)
            return body, tail
        first = body.read(self._limits.held)
        if body.peek(1):
            return buffered(Chunks(_without_zip(again(first, body), len(first)))), b""
        if trouble_of(body) is not None:
            return buffered(Chunks(again(first, body))), b""
        return first, tail_of(first)

    def _leaf(self, chain: str, body: bytes | File, lines: bool, *, office: bool = False) -> Iterator[Member | Skipped]:
        """Look at a member that is no container, window by window; at the text of an office's document first."""
        if isinstance(body, bytes) and len(body) <= WINDOW:
            yield from self._window(chain, body, (1, 1) if lines else (None, None), office)
            return
        file = in_memory(body) if isinstance(body, bytes) else body
        line, column, tail = 1, 1, b""
        while True:
            self._budget.check()
            block = file.read(WINDOW - OVERLAP)
            if not block:
                break
            window = tail + block
            yield from self._window(chain, window, (line, column) if lines else (None, None), office)
            tail = window[-OVERLAP:]
            line, column = _advanced(line, column, window[: len(window) - len(tail)])
        if (trouble := trouble_of(file)) is not None:
            if isinstance(trouble, Spent):
                raise trouble
            yield _failed(chain, trouble.why)

    def _window(
        self, chain: str, data: bytes, place: tuple[int, int] | tuple[None, None], office: bool
    ) -> Iterator[Member]:
        if office and self._interesting(text := documents.untagged(data)):
            yield Member(chain, text, None, None)
        if data and self._interesting(data):
            yield Member(chain, data, *place)


def _without_zip(pieces: Iterator[bytes], held: int) -> Iterator[bytes]:
    """Yield pieces; raises Broken behind the last if a zip stands at their end, which would have had to be held."""
    tail = b""
    for piece in pieces:
        tail = (tail + piece)[-TAIL:]
        yield piece
    if holds_zip_end(tail):
        raise _too_large("zip", held)


def _too_large(kind: str, held: int) -> Broken:
    return Broken(f"{kind} {too_large(held)}")


_CONTINUATION: Final = bytes(range(0x80, 0xC0))


def _advanced(line: int, column: int, passed: bytes) -> tuple[int, int]:
    """Return the line and column behind some UTF-8 text: a code point is a byte that continues no other."""
    breaks = passed.count(b"\n")
    if breaks:
        passed, column = passed[passed.rindex(b"\n") + 1 :], 1
    return line + breaks, column + len(passed.translate(None, _CONTINUATION))


def _joined(chain: str, name: str) -> str:
    """Lengthen a chain by a member's name, bounded in length; bytes that are no UTF-8 are shown as hexadecimal.

    What has no name is the container's own text.
    """
    if not name.isascii():
        name = name.encode("utf-8", "surrogatepass" if _lone(name) else "surrogateescape").decode(
            "utf-8", "backslashreplace"
        )
    name = masked(name, across=True)
    if len(name) > _LONGEST_NAME:
        name = name[: _LONGEST_NAME - 1] + "…"
    return masked(f"{chain}!{name}", across=True) if chain and name else chain or name


def _lone(name: str) -> bool:
    """Whether a name holds a surrogate that stands for no byte."""
    return any("\ud800" <= letter <= "\udfff" and not "\udc80" <= letter <= "\udcff" for letter in name)


def _failed(chain: str, why: str, count: int = 1, *, passing: bool = False) -> Skipped:
    passing = passing or why.endswith(NO_MEMORY)
    return Skipped(outcome=Outcome.FAILED, what=chain, why=why, count=count, passing=passing)
