"""Mail and mailboxes, read in one pass: attachments of any size never stand in memory whole.

The standard library reads the headers. Its parser of whole messages holds each several times over, as text.
"""

from __future__ import annotations

import binascii
import email.message
import email.parser
import re
from collections.abc import Iterator
from typing import Final

from firedamp.scanner.budget import SMALL, Budget, Chunks, File, Part, Parts, buffered

_STEP: Final = SMALL // 4
_LONGEST_MARK: Final = 512
"""No line that ends a part is longer: boundaries have 70 characters (RFC 2046, 5.1.1)."""
_LONGEST_HEADER: Final = SMALL
_DEPTH: Final = 16
_FROM: Final = rb"\nFrom [^\n]{0,200}\d\d:\d\d[^\n]{0,100}"
_NO_BASE64: Final = bytes(set(range(256)) - set(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="))


def unmail(file: File, budget: Budget) -> Parts:
    """One mail (RFC 5322, MIME): every leaf part with its transfer encoding undone."""
    yield from _Parts(_Cursor(file, budget), mailbox=False).message("")


def unmbox(file: File, budget: Budget) -> Parts:
    """Mbox: messages apart by `From ` lines; each is read as a mail, `message 3/part 2`."""
    cursor = _Cursor(file, budget)
    parts = _Parts(cursor, mailbox=True)
    number = 0
    cursor.skip(parts.marks())
    while cursor.mark is not None:
        number += 1
        yield from parts.message(f"message {number}/")


class _Cursor:
    """Walks a file by marks, which stand behind a line's end. What it has read starts with that line's end."""

    def __init__(self, file: File, budget: Budget) -> None:
        self.mark: re.Match[bytes] | None = None
        """The mark it stands behind; None at the end of the file."""
        self._file = file
        self._budget = budget
        self._text = b"\n"
        self._over = False

    def _fill(self) -> None:
        self._budget.check()
        block = self._file.read(_STEP)
        self._text += block
        self._over = not block

    def pieces(self, marks: re.Pattern[bytes]) -> Iterator[bytes]:
        """Yield the bytes up to the next mark, or to the end, without the line's end before them."""
        self.mark = None
        first = 1
        while True:
            found = marks.search(self._text)
            if found is not None and (self._over or len(self._text) - found.start() > _LONGEST_MARK):
                piece, self._text = self._text[: found.start()], self._text[found.end() :]
                self.mark = found
                yield piece[first:]
                return
            if self._over:
                piece, self._text = self._text, b""
                yield piece[first:]
                return
            keep = max(0, len(self._text) - _LONGEST_MARK if found is None else found.start())
            if keep > first:
                piece, self._text = self._text[:keep], self._text[keep:]
                yield piece[first:]
                first = 0
            self._fill()

    def skip(self, marks: re.Pattern[bytes]) -> None:
        """Go behind the next mark."""
        for _ in self.pieces(marks):
            pass

    def header(self, marks: re.Pattern[bytes]) -> bytes:
        """Return the header that begins here; the cursor stands at the empty line, or at a mark before it."""
        while (end := _EMPTY.search(self._text)) is None and not self._over and len(self._text) < _LONGEST_HEADER:
            self._fill()
        limit = len(self._text) if end is None else end.start()
        mark = marks.search(self._text, 0, limit)
        if mark is not None:
            limit = mark.start()
        header = self._text[:limit]
        self._text = self._text[limit if mark is not None or end is None else end.end() - 1 :]
        return header.lstrip(b"\r\n")


_EMPTY: Final = re.compile(rb"\n\r?\n")


class _Parts:
    """The parts of messages, in the order in which they stand."""

    def __init__(self, cursor: _Cursor, *, mailbox: bool) -> None:
        self._cursor = cursor
        self._mailbox = mailbox
        self._boundaries: list[bytes] = []
        self._number = 0
        self._prefix = ""

    def marks(self) -> re.Pattern[bytes]:
        """Return what ends a part here: a boundary of any multipart around it, the next message of a mailbox."""
        kinds = [_FROM] if self._mailbox else []
        if self._boundaries:
            boundaries = b"|".join(map(re.escape, self._boundaries))
            kinds.append(rb"\n--(?P<boundary>%b)(?P<last>--)?[ \t]*\r?(?=\n|\Z)" % boundaries)
        return re.compile(b"|".join(kinds) or rb"(?!)")

    def message(self, prefix: str) -> Parts:
        """Read one message; prefix goes before its parts' names."""
        self._prefix, self._number = prefix, 0
        yield from self._entity(0)

    def _entity(self, depth: int) -> Parts:
        """Read one part with its header; behind it the cursor has passed the mark that ends it."""
        marks = self.marks()
        header = email.parser.BytesHeaderParser().parsebytes(self._cursor.header(marks))
        boundary = _boundary(header)
        if boundary and depth < _DEPTH:
            yield from self._multipart(boundary, depth)
        elif header.get_content_type() == "message/rfc822" and depth < _DEPTH:
            yield from self._entity(depth + 1)
        else:
            self._number += 1
            pieces = self._cursor.pieces(marks)
            yield Part(self._prefix + _name(header, self._number), buffered(Chunks(_decoded(header, pieces))))
            for _ in pieces:  # what the reader left
                pass

    def _multipart(self, boundary: bytes, depth: int) -> Parts:
        outer = self.marks()
        self._boundaries.append(boundary)
        self._cursor.skip(self.marks())
        while self._at(boundary):
            yield from self._entity(depth + 1)
        self._boundaries.pop()
        mark = self._cursor.mark
        if mark is not None and mark.groupdict().get("boundary") == boundary:
            self._cursor.skip(outer)

    def _at(self, boundary: bytes) -> bool:
        """Whether the cursor stands behind the beginning of one more part of this multipart."""
        mark = self._cursor.mark
        return mark is not None and mark.groupdict().get("boundary") == boundary and not mark["last"]


def _boundary(header: email.message.Message) -> bytes | None:
    """Return a multipart's boundary, None for anything else."""
    if header.get_content_maintype() != "multipart":
        return None
    try:
        boundary = header.get_boundary()
    except (ValueError, LookupError, TypeError):
        return None
    return boundary.encode("utf-8", "surrogateescape")[: _LONGEST_MARK // 2] if boundary else None


def _name(header: email.message.Message, number: int) -> str:
    try:
        return header.get_filename() or f"part {number}"
    except (ValueError, LookupError, TypeError):
        return f"part {number}"


def _decoded(header: email.message.Message, pieces: Iterator[bytes]) -> Iterator[bytes]:
    match str(header.get("Content-Transfer-Encoding", "")).strip().lower():
        case "base64":
            return _from_base64(pieces)
        case "quoted-printable":
            return _from_quoted_printable(pieces)
        case _:
            return pieces


def _from_base64(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Decode what is whole. What follows the padding is no part of it: the footer of a mailing list, as a rule."""
    rest, padding = b"", b""
    for piece in pieces:
        data, padding, _ = (rest + piece.translate(None, _NO_BASE64)).partition(b"=")
        whole = len(data) // 4 * 4
        rest = data[whole:]
        yield binascii.a2b_base64(data[:whole])
        if padding:
            break
    if len(rest) > 1:
        yield binascii.a2b_base64(rest + b"==")


def _from_quoted_printable(pieces: Iterator[bytes]) -> Iterator[bytes]:
    rest = b""
    for piece in pieces:
        lines, newline, rest = (rest + piece).rpartition(b"\n")
        yield binascii.a2b_qp(lines + newline)
    yield binascii.a2b_qp(rest)
