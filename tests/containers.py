"""One small container of every kind, each made by the library or tool that others make it with."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import marshal
import plistlib
import sqlite3
import struct
import tarfile
import zipfile
import zlib
from email.message import EmailMessage
from importlib.util import MAGIC_NUMBER

import lz4.frame
import py7zr
from backports import zstd
from tests.packwriter import distance


def zipped(files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Return a zip of files."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


def tarred(files: dict[str, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    """Return a tar of files."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for name, data in files.items():
            header = tarfile.TarInfo(name)
            header.size = len(data)
            archive.addfile(header, io.BytesIO(data))
    return out.getvalue()


def seven(files: dict[str, bytes]) -> bytes:
    """Return a 7z of files."""
    out = io.BytesIO()
    with py7zr.SevenZipFile(out, "w") as archive:
        for name, data in files.items():
            archive.writestr(data, name)
    return out.getvalue()


def ar(files: dict[str, bytes]) -> bytes:
    """Return an ar archive of files with short names."""
    out = b"!<arch>\n"
    for name, data in files.items():
        fields = (name, 0, 0, 0, "100644", len(data))
        out += b"%-16s%-12d%-6d%-6d%-8s%-10d`\n" % tuple(f.encode() if isinstance(f, str) else f for f in fields)
        out += data + b"\n" * (len(data) % 2)
    return out


def cpio(files: dict[str, bytes]) -> bytes:
    """Return a cpio archive of files in the new form."""
    out = b""
    for name, data in [*files.items(), ("TRAILER!!!", b"")]:
        fields = [1, 0o100644, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0]
        entry = b"070701" + b"".join(b"%08X" % field for field in fields) + name.encode() + b"\0"
        entry += bytes(-len(entry) % 4) + data
        out += entry + bytes(-len(entry) % 4)
    return out


def rpm(files: dict[str, bytes]) -> bytes:
    """Return an rpm package of files, its scripts empty."""

    def header(data: bytes) -> bytes:
        return b"\x8e\xad\xe8\x01" + bytes(4) + struct.pack(">II", 1, len(data)) + bytes(16) + data

    signature = header(b"s" * 5)
    lead = b"\xed\xab\xee\xdb".ljust(96, b"\0")
    return lead + signature + bytes(-len(signature) % 8) + header(b"none") + gzip.compress(cpio(files))


def database(rows: list[tuple[str, bytes]]) -> bytes:
    """Return an SQLite database with one table of names and values."""
    db = sqlite3.connect(":memory:")
    db.execute("CREATE TABLE entries (name TEXT, value BLOB)")
    db.executemany("INSERT INTO entries VALUES (?, ?)", rows)
    db.commit()
    return db.serialize()


def notebook(text: str) -> bytes:
    """Return a Jupyter notebook of one cell."""
    return json.dumps(
        {"cells": [{"cell_type": "code", "source": text.splitlines(keepends=True)}], "nbformat": 4}
    ).encode()


def bytecode(source: str) -> bytes:
    """Return what Python would keep of a module."""
    return MAGIC_NUMBER + bytes(12) + marshal.dumps(compile(source, "a.py", "exec"))


def mail(attachment: bytes) -> bytes:
    """Return a mail with one attachment."""
    message = EmailMessage()
    message["From"] = "a@example.com"
    message["Message-ID"] = "<1@example.com>"
    message.set_content("see the attachment")
    message.add_attachment(attachment, maintype="application", subtype="octet-stream", filename="key.env")
    return message.as_bytes()


def pdf(text: bytes) -> bytes:
    """Return a PDF of one page with one line."""
    stream = zlib.compress(b"BT /F1 12 Tf 72 700 Td (" + text + b") Tj ET")
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 900 800]/Resources<</Font<</F1 5 0 R>>>>/Contents 4 0 R>>",
        b"<</Length %d/Filter/FlateDecode>>stream\n%s\nendstream" % (len(stream), stream),
        b"<</Type/Font/Subtype/Type1/BaseFont/Courier>>",
    ]
    out = b"%PDF-1.4\n"
    places = []
    for number, body in enumerate(objects, start=1):
        places.append(len(out))
        out += b"%d 0 obj%s\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    trailer = b"trailer<</Size 6/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF" % len(out)
    return out + b"xref\n0 6\n0000000000 65535 f \n" + table + trailer


def reftable(text: bytes) -> bytes:
    """Return a reftable with one block of reflogs (git's technical/reftable, version 1)."""
    head = b"REFT\1\0\0\0" + (1).to_bytes(8) + (2).to_bytes(8)
    return head + b"g" + (4 + len(text)).to_bytes(3) + zlib.compress(text)


def reftable_block(letter: bytes, before: int, *records: tuple[bytes, int, bytes]) -> bytes:
    """Return a block of a reftable behind before bytes: names in order, each with the sort of its value and that.

    What a name shares with the one before is left out, as git does. A block of reflogs is not compressed yet.
    """
    out, last = b"", b""
    for name, sort, value in records:
        differs = (at for at, pair in enumerate(zip(last, name, strict=False)) if pair[0] != pair[1])
        shared = next(differs, min(len(last), len(name)))
        out += distance(shared) + distance(len(name) - shared << 3 | sort) + name[shared:] + value
        last = name
    restarts = (before + 4).to_bytes(3) + (1).to_bytes(2)
    return letter + (before + 4 + len(out) + len(restarts)).to_bytes(3) + out + restarts


def every(text: bytes) -> dict[str, bytes]:
    """Return one container of each kind with text inside."""
    files = {"key.env": text, "other": b"other"}
    return {
        "zip": zipped(files),
        "tar": tarred(files),
        "7z": seven(files),
        "ar": ar(files),
        "cpio": cpio(files),
        "rpm": rpm(files),
        "gzip": gzip.compress(text),
        "bzip2": bz2.compress(text),
        "xz": lzma.compress(text),
        "zstd": zstd.compress(text),
        "lz4": lz4.frame.compress(text),
        "reftable": reftable(text),
        "sqlite": database([("key", text), ("zip", zipped(files))]),
        "notebook": notebook(text.decode()),
        "pyc": bytecode(f"KEY = {text.decode()!r}"),
        "plist": plistlib.dumps({"key": text.decode(), "data": gzip.compress(text)}, fmt=plistlib.FMT_BINARY),
        "pdf": pdf(b" ".join(text.split())),
        "office": b"<?xml version='1.0'?>\n<office:document><text:p>%b</text:p>" % text,
        "mail": mail(text),
        "mbox": b"From a@example.com Sat Nov 21 10:00:00 2026\n" + mail(text),
    }
