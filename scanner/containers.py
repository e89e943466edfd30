"""Which bytes are a container, and the walk through containers inside containers.

To add a format: one function that yields its parts, one row in FORMATS.
"""

from __future__ import annotations

import io
import re
import struct
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from firedamp.scanner import archives, documents, mail, sevenzip, streams
from firedamp.scanner.budget import (
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
from firedamp.scanner.names import may_hold_secret, parts_with_key_id, with_key_id
from firedamp.scanner.stub import TAIL, is_stub, tail_of
from firedamp.storage.masking import masked
from firedamp.storage.records import Outcome, Skipped

HEAD: Final = 4096
"""How many first bytes `container_of` wants. Fewer do for everything but mail, notebooks and tar (512)."""
OVERLAP: Final = 64 << 10
"""How much of a window is seen again in the next, so that what stands at its border is seen whole."""
_LONGEST_NAME: Final = 300


@dataclass(frozen=True, slots=True)
class Format:
    """A kind of container: how it begins (a regular expression on bytes), and the function that opens it."""

    name: str
    start: bytes
    open: Callable[[File, Budget], Parts]
    raw: bool = False
    """Whether a look at its bytes as stored may show what its parts do not: remains, free pages, comments."""
    plain: bool = False
    """Whether its text stands in it as it is: then it is opened only when a look at its bytes showed something."""


_BINARY: Final = rb"(?=[\t\n\r -~]{0,16}[^\t\n\r -~])"
"""What no text about a format has behind the marks that it begins with."""
_LINE: Final = rb"[^\n]*+\n(?:[ \t][^\n]*+\n)*+"
_HEADERS: Final = rb"(?:[!-9;-~]{1,200}+:%b)*?" % _LINE
"""Lines of a mail's header, as few as do: names are printable (RFC 5322, 3.6.8), longer lines are folded."""
_OF_MAIL: Final = (
    rb"(?=[AaDdFfMmRr])(?i:From:[^\n]*@"
    rb"|(?:Message-ID|MIME-Version|Received|Return-Path|Delivered-To|DKIM-Signature|ARC-Seal):)"
)
_OFTEN_IN_MAIL: Final = rb"(?i:From|To|Cc|Subject|Date|Content-Type|Content-Transfer-Encoding):"
"""What other texts have too: HTTP, forms, lists of settings."""
_FIELD: Final = _HEADERS + rb"(?:%b|%b)" % (_OF_MAIL, _OFTEN_IN_MAIL)
_MAIL: Final = rb"(?=%b%b)" % (_HEADERS, _OF_MAIL) + _FIELD + _LINE + _FIELD
"""A header of which one field is a mail's only, and one more is at home there. Any other may stand first."""
_DRAFT: Final = rb"(?=(?:%b){0,2}(?i:Subject):)(?=(?:%b){0,2}(?i:To|Cc):)%b" % (
    _LINE,
    _LINE,
    _LINE.join((_OFTEN_IN_MAIL,) * 3),
)
"""What was not sent yet has no field that is a mail's only: the first three are at home there, with Subject and To."""

FORMATS: Final[tuple[Format, ...]] = (
    Format(
        "zip",
        rb"PK(?:\x03\x04%b|\x05\x06%b|\x07\x08PK\x03\x04|00PK\x03\x04)|Cr24[\x02\x03]\x00\x00\x00" % (_BINARY, _BINARY),
        archives.unzip,
    ),
    Format("gzip", rb"\x1f\x8b\x08", streams.gunzip),
    Format("bzip2", rb"BZh[1-9](?:\x31\x41\x59\x26\x53\x59%b|\x17\x72\x45\x38\x50\x90)" % _BINARY, streams.bunzip2),
    Format("xz", rb"\xfd7zXZ\x00|\x5d\x00\x00[\x00-\xff]{2}(?:\xff{8}|[\x00-\xff]{5}\x00{3})", streams.unxz),
    Format("zstd", rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18", streams.unzstd),
    Format("lz4", rb"\x04\x22\x4d\x18|\x02\x21\x4c\x18", streams.unlz4),
    Format("7z", rb"7z\xbc\xaf\x27\x1c", sevenzip.un7z),
    Format("ar", rb"!<arch>\n(?s:.{58}`\n)", archives.unar),
    Format(
        "cpio",
        rb"07070[12][0-9A-Fa-f]{104}|070707[0-7]{70}"
        rb"|(?:\xc7\x71[\x00-\xff]{5}|\x71\xc7[\x00-\xff]{4})[\x11\x21\x41\x61\x81\xa1]",
        archives.uncpio,
    ),
    Format("rpm", rb"\xed\xab\xee\xdb", archives.unrpm),
    Format("git", rb"# v[23] git bundle\n|PACK\x00{3}[\x02\x03]", archives.ungit, raw=True),
    Format("sqlite", rb"SQLite format 3\x00(?s:.{84})", documents.unsqlite, raw=True),
    Format("plist", rb"bplist00", documents.unplist, raw=True),
    Format("pdf", rb"%PDF-(?:\d\.\d[\r\n]|(?s:.*?)\d\s+obj\b)", documents.unpdf, raw=True),
    Format(
        "pyc", rb"[\x00-\xff][\x0b-\x0e]\r\n|[\x00-\xff]\xf2\r\n|\x03\xf3\r\n", documents.unpyc, raw=True, plain=True
    ),
    Format(
        "notebook",
        rb'\s{0,8}\{\s{0,20}(?:"cells"\s*:\s*\[|"nbformat"\s*:|"metadata"\s*:\s*\{(?s:.{0,3000}?)"(?:kernelspec|language_info|colab)")',
        documents.unnotebook,
        raw=True,
        plain=True,
    ),
    Format("office", documents.OFFICE, documents.unoffice),
    Format("mbox", rb"From \S+ [^\n]{0,40}\d\d:\d\d[^\n]{0,60}\r?\n[!-9;-~]{1,200}:", mail.unmbox, raw=True),
    Format("mail", rb"%b|%b" % (_MAIL, _DRAFT), mail.unmail, raw=True),
    # Last: anything may stand at the first 148 bytes of a tar, and the checksum has the last word.
    Format("tar", rb"(?s:.{148})[0-7 \x00]{8}(?s:.{101})(?:ustar|(?s:.{5}))", archives.untar),
)

PLAIN: Final = frozenset(f.name for f in FORMATS if f.plain)
"""Formats that a source opens only when the prefilter saw something in their bytes."""

_BY_NAME: Final = {f.name: f for f in FORMATS}
_STARTS: Final = re.compile(b"|".join(b"(?P<is_%b>%b)" % (f.name.encode(), f.start) for f in FORMATS))


def container_of(head: bytes, tail: bytes = b"") -> str | None:
    """Name the format of a file from its first bytes (HEAD of them, or all), or None when it is no container.

    tail, its last bytes (64 KiB), shows a zip behind an executable or a script.
    """
    match = _STARTS.match(head)
    name = None if match is None or match.lastgroup is None else match.lastgroup.removeprefix("is_")
    if name == "tar" and not _tar_header(head[:512]):
        name = None
    if tail and name is None and is_stub(head) and _holds_zip_end(tail):
        return "zip"
    return name


def must_open(head: bytes, tail: bytes = b"") -> str | None:
    """Do as `container_of`, but pass over formats whose bytes tell by themselves whether to open them (`PLAIN`)."""
    name = container_of(head, tail)
    return None if name in PLAIN else name


_ZIP_END: Final = struct.Struct("<4sHHHHI")


def _holds_zip_end(tail: bytes) -> bool:
    """Whether a zip's end record stands in tail (APPNOTE 4.3.16), not only its mark: unzip programs hold that too.

    One disk, as many entries here as in all, at least one, and a directory with room for them.
    """
    # One byte is found twenty times as fast as four, and a script has no such byte.
    at = tail.rfind(b"PK\x05\x06") if b"\x05" in tail else -1
    while at >= 0:
        if at + _ZIP_END.size <= len(tail):
            _, disk, first, here, all_of_them, size = _ZIP_END.unpack_from(tail, at)
            if disk == first == 0 and here == all_of_them > 0 and size >= 46 * here:
                return True
        at = tail.rfind(b"PK\x05\x06", 0, at)
    return False


def _tar_header(block: bytes) -> bool:
    """Whether the checksum of a tar header holds. All zeros is none."""
    try:
        tarfile.TarInfo.frombuf(block, "latin-1", "replace")
    except (tarfile.HeaderError, ValueError):
        return False
    return True


def walk(kind: str, parts: Parts, budget: Budget, interesting: Callable[[bytes], bool]) -> Iterator[Member | Skipped]:
    """Yield every member, however deep, in which `interesting` sees something, and what was cut off.

    parts come from the format named kind, opened on the top-level file. Never raises for what the bytes hold.
    """
    walker = _Walk(budget, interesting)
    try:
        yield from walker.parts(kind, parts, "", 1)
    except Spent as spent:
        yield _failed(walker.at, f"{spent.why}; nothing after this was read")


def opened(kind: str, file: File, budget: Budget) -> Parts:
    """Open a file by the format named kind; `container_of` gives the name."""
    return _BY_NAME[kind].open(file, budget)


_TOLD: Final = 100
"""How many unreadable members of one container are named; the rest are counted."""
_LONGEST_PATH: Final = 4096
"""Characters of a path: Linux takes no longer one (PATH_MAX)."""


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
        why = None
        count = unread = 0
        named = set[str]()
        try:
            for part in parts:
                count += bool(part.name)  # what has none is the container's own text
                if count > self._limits.members:
                    why = f"holds more than {self._limits.members:,} members"
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
            why = "needs more memory than allowed"
        except Exception as error:  # noqa: BLE001  # whatever a library makes of hostile bytes is told, and the rest goes on
            why = f"is damaged: {type(error).__name__}"
        if file is not None and (trouble := trouble_of(file)) is not None:
            if isinstance(trouble, Spent):
                raise trouble
            why = trouble.why
        if unread > _TOLD:
            yield _failed(chain, f"{unread - _TOLD:,} more members could not be read", unread - _TOLD)
        if why is not None:
            yield _failed(chain, f"{kind} {why}")

    def _names(self, chain: str, whole: str, named: set[str]) -> Iterator[Member]:
        """Look at the names in a member's path in which a key id may stand, unless they are among named.

        A path with room for a secret is told by the container, for a chain is stored; so is one that no system has, of
        which the names are looked at as lines.
        """
        if not with_key_id([whole]):
            return
        is_long = len(whole) > _LONGEST_PATH
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
            yield _failed(chain, f"{kind} is nested deeper than {self._limits.depth}")
            return
        known = _BY_NAME[kind]
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
        yield from self.parts(kind, known.open(file, self._budget), chain, depth + 1, file)
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
    if _holds_zip_end(tail):
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


def _failed(chain: str, why: str, count: int = 1) -> Skipped:
    return Skipped(outcome=Outcome.FAILED, what=chain, why=why, count=count)
