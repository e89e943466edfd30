"""Documents that hold text in a form of their own: SQLite, notebooks, .pyc, property lists, PDF, mail."""

from __future__ import annotations

import ctypes
import functools
import io
import json
import plistlib
import re
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from firedamp.scanner.budget import (
    MIB,
    NO_MEMORY,
    Broken,
    Budget,
    File,
    Part,
    Parts,
    Unread,
    hold,
    random_access,
    too_large,
)

_TEXT: Final = 2 * MIB
"""How much text of rows goes into one part, so that with one more row it still fits a window."""
_BINARY_CELL, _TEXT_CELL = 20, 100
"""Cells of up to this size hold no container: the smallest gzip has 20 bytes, a mail or notebook more."""


def unsqlite(file: File, budget: Budget) -> Parts:
    """SQLite: every cell of every ordinary table as a line `table.column = value`, rows apart by an empty line.

    The database is a copy in memory, opened without extensions, triggers, views or virtual tables.
    """
    yield from rows(hold(file, budget), budget)


def rows(image: bytes, budget: Budget, wal: bytes = b"") -> Parts:
    """Read a database image; wal is the write-ahead log found beside it, whose committed pages are laid over it."""
    pages: bytes | bytearray = image
    if wal or image[18:20] != _NO_LOG:
        pages = with_log(image, wal)
        pages[18:20] = _NO_LOG
    del image  # memory is short: SQLite makes its own copy
    db = sqlite3.connect(":memory:", isolation_level=None)
    try:
        db.deserialize(pages)
        short = _is_short(pages[:100], len(pages))
        del pages
        yield from _tables(db, budget)
    finally:
        db.close()
    if short:
        raise Broken("ends early")


def _is_short(header: bytes | bytearray, size: int) -> bool:
    """Whether a database has more pages than its file has room for, which SQLite passes over.

    The header's count of pages holds if it was written with the last change (file format, 1.3.7).
    """
    page = int.from_bytes(header[16:18], "big")
    count = int.from_bytes(header[28:32], "big") if header[24:28] == header[92:96] else 0
    return count * (65536 if page == 1 else page) > size


_NO_LOG: Final = b"\x01\x01"
"""What a database in memory must have as read and write version, since it has no log (file format, 1.3.3)."""


def rows_on_disk(path: str, budget: Budget) -> Parts:
    """Read a database too large for memory where it lies. immutable: no lock, no log, no file made beside it."""
    db = sqlite3.connect(f"file:{quote(path)}?mode=ro&immutable=1", uri=True, isolation_level=None)
    try:
        yield from _tables(db, budget)
    finally:
        db.close()
    with Path(path).open("rb") as file:
        if _is_short(file.read(100), file.seek(0, io.SEEK_END)):
            raise Broken("ends early")


_SAFE: Final = (
    "trusted_schema=OFF",
    "writable_schema=ON",  # a part of the schema that cannot be read, or calls a function, costs itself alone
    "cell_size_check=ON",
    "query_only=ON",
    "temp_store=MEMORY",
    "mmap_size=0",
)
_READS: Final = frozenset((sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ))


def _tables(db: sqlite3.Connection, budget: Budget) -> Parts:
    db.text_factory = bytes
    for pragma in _SAFE:
        db.execute(f"PRAGMA {pragma}")
    db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, budget.limits.held)
    db.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
    db.set_progress_handler(lambda: _late(budget), 100_000)
    try:
        tables = [
            (name, db.execute(f"PRAGMA table_info({_quoted(name)})").fetchall())
            for name, sql in db.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'table'").fetchall()
            if isinstance(name, bytes) and isinstance(sql, bytes) and not sql[:16].upper().startswith(b"CREATE VIRTUAL")
        ]
        # From here on nothing but reading columns is allowed: a generated column or a default may call a function.
        db.set_authorizer(lambda action, *_: sqlite3.SQLITE_OK if action in _READS else sqlite3.SQLITE_DENY)
        for name, info in tables:
            yield from _table(db, name, [row[1] for row in info], budget)
    except sqlite3.Error as error:
        budget.check()
        raise Broken(f"is damaged: {type(error).__name__}") from None


def _late(budget: Budget) -> bool:
    """Stop a statement when the time is over: SQLite ends it with an error."""
    try:
        budget.check()
    except Exception:  # noqa: BLE001  # nothing may be raised through SQLite
        return True
    return False


def _table(db: sqlite3.Connection, table: bytes, columns: list[bytes], budget: Budget) -> Parts:
    name = table.decode("utf-8", "replace")
    block: list[bytes] = []
    size = 0
    if not columns:
        yield Unread(name, "has a schema that cannot be read")
        return
    try:
        query = f"SELECT {', '.join(map(_quoted, columns))} FROM {_quoted(table)}"  # noqa: S608  # names are quoted
        for number, row in enumerate(_rows(db, query), start=1):
            if isinstance(row, str):
                yield Unread(f"{name}[{number}]", row)
                continue
            for column, value in zip(columns, row, strict=True):
                if not isinstance(value, bytes):
                    continue
                budget.spend(len(value))
                size += len(value)
                block += (table, b".", column, b" = ", value, b"\n")
                if len(value) > (_TEXT_CELL if value.isascii() else _BINARY_CELL):
                    place = f"{name}.{column.decode('utf-8', 'replace')}[{number}]"
                    yield Part(place, value, lines=False, shown=True)
            block.append(b"\n")
            if size > _TEXT:
                yield Part(name, b"".join(block), lines=False)
                block, size = [], 0
    except sqlite3.Error as error:
        budget.check()
        yield Unread(name, f"is damaged: {type(error).__name__}")
    if block:
        yield Part(name, b"".join(block), lines=False)


def _rows(db: sqlite3.Connection, query: str) -> Iterator[tuple[object, ...] | str]:
    """Yield rows, or why one cannot be read: SQLite ends the whole query at a cell that is too large.

    Python's module reads one row ahead, so a row whose successor cannot be read is asked for once more, alone.
    """
    number = 0
    while True:
        try:
            for row in db.execute(f"{query} LIMIT -1 OFFSET {number}"):
                number += 1
                yield row
        except (sqlite3.Error, MemoryError):
            pass
        else:
            return
        try:
            yield from db.execute(f"{query} LIMIT 1 OFFSET {number}")
        except sqlite3.DataError:
            yield too_large(db.getlimit(sqlite3.SQLITE_LIMIT_LENGTH))
        except MemoryError:
            yield NO_MEMORY
        number += 1


def _quoted(name: bytes) -> str:
    return '"' + name.decode("utf-8", "surrogateescape").replace('"', '""') + '"'


def with_log(image: bytes, wal: bytes) -> bytearray:
    """Lay the committed frames of a write-ahead log over a database image (SQLite file format, section 4).

    A frame counts when its salt and running checksum fit and a commit frame follows it.
    """
    pages = bytearray(image)
    magic = int.from_bytes(wal[:4], "big")
    if magic not in (0x377F0682, 0x377F0683) or len(wal) < 32:
        return pages
    order = "big" if magic & 1 else "little"
    size = int.from_bytes(wal[8:12], "big")
    if size < 512 or size > 65536 or size & (size - 1):
        return pages
    sums = _checksum(wal[:24], (0, 0), order)
    waiting: dict[int, int] = {}
    for at in range(32, len(wal) - size - 23, size + 24):
        if wal[at + 8 : at + 16] != wal[16:24]:
            break
        sums = _checksum(wal[at : at + 8], sums, order)
        sums = _checksum(wal[at + 24 : at + 24 + size], sums, order)
        if sums != (int.from_bytes(wal[at + 16 : at + 20], "big"), int.from_bytes(wal[at + 20 : at + 24], "big")):
            break
        waiting[int.from_bytes(wal[at : at + 4], "big")] = at + 24
        if count := int.from_bytes(wal[at + 4 : at + 8], "big"):
            if count * size > len(pages) + len(wal):
                break
            pages.extend(bytes(max(0, count * size - len(pages))))
            for page, start in waiting.items():
                pages[(page - 1) * size : page * size] = wal[start : start + size]
            del pages[count * size :]
            waiting.clear()
    return pages


def _checksum(data: bytes, sums: tuple[int, int], order: str) -> tuple[int, int]:
    """SQLite's WAL checksum: a Fibonacci-weighted sum of 32-bit words (file format, 4.2)."""
    first, second = sums
    words = memoryview(data).cast("I")
    if order != "little":
        words = memoryview(b"".join(data[at : at + 4][::-1] for at in range(0, len(data), 4))).cast("I")
    for at in range(0, len(words), 2):
        first = (first + words[at] + second) & 0xFFFFFFFF
        second = (second + words[at + 1] + first) & 0xFFFFFFFF
    return first, second


def unnotebook(file: File, budget: Budget) -> Parts:
    """Jupyter notebooks (nbformat 2 to 4): sources and textual outputs of all cells, joined as text in their order.

    What is none after all, is cut off or is too large is no failure: its text stands in its bytes, which are looked at.
    """
    try:
        notebook = json.loads(hold(file, budget))
    except (ValueError, Broken, MemoryError, RecursionError):
        return
    lines = [text for text in _cells(notebook) if text]
    if lines:
        yield Part("cells", "\n\n".join(lines).encode("utf-8", "surrogatepass"))


_CELL_TEXT: Final = frozenset(
    ("source", "input", "text", "traceback", "evalue", "text/plain", "text/html", "text/markdown")
)


def _cells(notebook: object) -> Iterator[str]:
    """Yield the text of the fields that hold code, prose or output, front to back. Images are left to the raw scan."""
    waiting = [notebook]
    while waiting:
        node = waiting.pop()
        if isinstance(node, list):
            waiting.extend(reversed(node))
        elif isinstance(node, dict):
            for key, value in node.items():
                if key in _CELL_TEXT and isinstance(value, str):
                    yield value
                elif key in _CELL_TEXT and isinstance(value, list) and all(isinstance(line, str) for line in value):
                    yield "".join(value)
            waiting.extend(value for value in reversed(node.values()) if isinstance(value, dict | list))


_BREAK: Final = re.compile(
    rb"</(?:[wa]:p|text:[ph]|si|is|v|comment)>|<(?:[wa]:(?:br|tab|cr)|text:(?:line-break|tab|s))\b[^<>]*>"
)
_TAG: Final = re.compile(rb"<[^<>]*>")


def unoffice(file: File, _budget: Budget) -> Parts:
    """Flat OpenDocument and parts of unpacked documents: one part as it stands, whose tags the walk takes out."""
    yield Part("", file)


def untagged(xml: bytes) -> bytes:
    """Return the text of a document, a paragraph a line: a word whose letters differ in form is cut by tags."""
    return _TAG.sub(b"", _BREAK.sub(b"\n", xml))


_STRING: Final = re.compile(
    rb"(?:[zZ\xfa\xda]([\x0c-\xff])|[aAuts\xe1\xc1\xf5\xf4\xf3]([\x00-\xff]{2})\x00\x00)(?=[\t\n\r -~]{12})"
)


def unpyc(file: File, budget: Budget) -> Parts:
    """Python bytecode: its strings of 12 ASCII characters or more, one a line, in their order. Nothing is unmarshalled.

    Every place that reads as a string object of CPython's marshal (short and long ASCII, Unicode, bytes, interned;
    with or without the reference flag) is one, whatever stands around it: a few too many do no harm. Strings are
    stored plainly, so this only frees them from the bytes around them; shorter ones the look at the raw bytes finds.
    """
    data = hold(file, budget)
    found = []
    for match in _STRING.finditer(data):
        length = int.from_bytes(match[1] or match[2], "little")
        text = data[match.end() : match.end() + length]
        if len(text) == length and text.isascii():
            found.append(text)
    budget.spend(sum(map(len, found)))
    if found:
        yield Part("constants", b"\n".join(found), lines=False)


def unplist(file: File, budget: Budget) -> Parts:
    """Binary property lists: `key = value` a line, each object once however often it is referred to."""
    try:
        root = plistlib.loads(_without_dates(hold(file, budget)), fmt=plistlib.FMT_BINARY)
    except plistlib.InvalidFileException:
        raise Broken("is damaged") from None
    lines: list[str] = []
    seen: set[int] = set()
    waiting: list[tuple[str, object]] = [("", root)]
    while waiting:
        key, node = waiting.pop()
        if isinstance(node, str):
            lines.append(f"{key} = {node}" if key else node)
        elif isinstance(node, bytes):
            yield Part(key or "data", node, lines=False)
        elif isinstance(node, dict | list) and id(node) not in seen:
            seen.add(id(node))
            items = [(str(k), v) for k, v in node.items()] if isinstance(node, dict) else [(key, v) for v in node]
            waiting.extend(reversed(items))
    text = "\n".join(lines).encode("utf-8", "surrogatepass")
    budget.spend(len(text))
    if text:
        yield Part("values", text, lines=False)


def _without_dates(data: bytes) -> bytes:
    """Set the dates of a binary property list to one: Python knows no year 0, and `NSDate.distantPast` is in it.

    CFBinaryPList.c: the last 32 bytes tell where the offsets of all objects stand; a date begins with 0x33.
    """
    if len(data) < 32:
        return data
    width, count, table = data[-26], int.from_bytes(data[-24:-16], "big"), int.from_bytes(data[-8:], "big")
    made = bytearray(data)
    for at in range(table, min(table + count * width, len(data)), width or 1):
        date = int.from_bytes(data[at : at + width], "big")
        if data[date : date + 1] == b"\x33":
            made[date + 1 : date + 9] = bytes(8)
    return bytes(made[: len(data)])


_OBJECT: Final = re.compile(rb"\d\s{1,16}obj\b")
_OBJECT_HEAD: Final = 24
"""How long that is at most, and some."""


def unpdf(file: File, budget: Budget) -> Parts:
    """PDF: the text of each page, cut off or not, its notes, properties, scripts and attachments, as pdfium reads them.

    What holds no object is a text that begins as a PDF does, and no failure.
    """
    import pypdfium2

    source = random_access(file, budget)
    try:
        document = pypdfium2.PdfDocument(source)
    except pypdfium2.PdfiumError as error:
        if not _holds_object(source, budget):
            return
        raise Broken("is encrypted" if "password" in str(error).lower() else "is damaged") from None
    try:
        for number in range(len(document)):
            budget.check()
            try:
                page = document[number]
                text = "\n".join((page.get_textpage().get_text_range(), *_notes(page, budget))).rstrip("\n")
            except pypdfium2.PdfiumError:
                yield Unread(f"page {number + 1}", "is damaged")
                continue
            budget.spend(len(text))
            if text:
                yield Part(f"page {number + 1}", text.encode("utf-8", "replace"))
        properties = "\n".join(f"{key} = {value}" for key, value in document.get_metadata_dict(skip_empty=True).items())
        for name, text in (("properties", properties), *_scripts(document)):
            budget.spend(len(text))
            if text:
                yield Part(name, text.encode("utf-8", "replace"), lines=name != "properties")
        for number in range(document.count_attachments()):
            attachment = document.get_attachment(number)
            content = bytes(attachment.get_data())
            budget.spend(len(content))
            yield Part(attachment.get_name() or f"attachment {number + 1}", content)
    finally:
        document.close()


def _holds_object(file: File, budget: Budget) -> bool:
    """Whether an indirect object begins anywhere (ISO 32000-1, 7.3.10)."""
    file.seek(0)
    tail = b""
    while block := file.read(MIB):
        budget.check()
        if _OBJECT.search(tail + block):
            return True
        tail = block[-_OBJECT_HEAD:]
    return False


def _notes(page: Any, budget: Budget) -> Iterator[str]:
    """Yield what the annotations of a page say: their contents, and the values of form fields."""
    import pypdfium2.raw as pdfium

    for number in range(pdfium.FPDFPage_GetAnnotCount(page)):
        budget.check()
        annotation = pdfium.FPDFPage_GetAnnot(page, number)
        if annotation:
            for key in (b"Contents", b"V"):
                yield _wide(functools.partial(pdfium.FPDFAnnot_GetStringValue, annotation, key))
            pdfium.FPDFPage_CloseAnnot(annotation)


def _scripts(document: Any) -> Iterator[tuple[str, str]]:
    """Yield the name and the text of each script that the document runs when it is opened."""
    import pypdfium2.raw as pdfium

    for number in range(pdfium.FPDFDoc_GetJavaScriptActionCount(document)):
        action = pdfium.FPDFDoc_GetJavaScriptAction(document, number)
        if action:
            yield f"script {number + 1}", _wide(functools.partial(pdfium.FPDFJavaScriptAction_GetScript, action))
            pdfium.FPDFDoc_CloseJavaScriptAction(action)


def _wide(ask: Callable[[Any, int], int]) -> str:
    """Ask pdfium for a text: first how many bytes it has, then for them, in UTF-16 with a zero behind."""
    room = (ctypes.c_ushort * (ask(None, 0) // 2))()
    ask(room, ctypes.sizeof(room))
    return bytes(room).decode("utf-16-le", "replace").rstrip("\0")
