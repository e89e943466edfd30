"""Containers: what is in them is found, whatever they are made of, and no limit is passed."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import plistlib
import py_compile
import random
import shutil
import sqlite3
import struct
import subprocess
import sys
import tarfile
import time
import zipfile
import zlib
from email.message import EmailMessage
from pathlib import Path

import pytest
from tests.builders import make_key_id, make_secret

from firedamp.scanner.budget import Budget, Limits, in_memory
from firedamp.scanner.containers import Member, container_of, opened, walk
from firedamp.scanner.unpack import Unpacker, prefiltered
from firedamp.storage.records import Outcome, Skipped

MIB = 1 << 20
RNG = random.Random(3)
TEXT = f"aws_access_key_id = {make_key_id(RNG)}\naws_secret_access_key = {make_secret(RNG)}\n".encode()


NOTHING = ("operator:methodcaller", "isspace")
"""A predicate that holds for nothing the tests pack."""


def walked(data: bytes, limits: Limits | None = None) -> list[Member | Skipped]:
    """Open a container in this process."""
    limits = limits or Limits()
    kind = container_of(data[:4096], data[-66000:])
    assert kind is not None
    budget = Budget(limits, len(data), time.monotonic)
    return list(walk(kind, opened(kind, in_memory(data), budget), budget, lambda _: True))


def members(data: bytes, limits: Limits | None = None) -> dict[str, bytes]:
    """Return what is in a container that nothing is wrong with."""
    items = walked(data, limits)
    assert not [item for item in items if isinstance(item, Skipped)]
    return {item.container: item.data for item in items if isinstance(item, Member)}


def failures(data: bytes, limits: Limits | None = None) -> dict[str, str]:
    return {item.what: item.why for item in walked(data, limits) if isinstance(item, Skipped)}


def zipped(files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


def tarred(files: dict[str, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for name, data in files.items():
            header = tarfile.TarInfo(name)
            header.size = len(data)
            archive.addfile(header, io.BytesIO(data))
    return out.getvalue()


def tool(*command: str, data: bytes = b"", cwd: Path | None = None) -> bytes:
    """Run a tool of the system over data; the test is skipped where there is none."""
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    return subprocess.run(command, input=data, capture_output=True, check=True, cwd=cwd).stdout


# Archives.


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_zip_gives_its_members_by_every_method(method: int) -> None:
    large = os.urandom(1000) * 3000
    assert members(zipped({"a/key.env": TEXT, "large": large}, method)) == {"a/key.env": TEXT, "large": large}


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_a_tar_gives_its_members_in_every_form(form: int) -> None:
    long = "d" * 60 + "/" + "e" * 90
    larger = {"key.env": TEXT, long: TEXT + b"2", "large": os.urandom(1000) * 3000}
    assert members(tarred(larger, form)) == larger


def test_joined_tars_and_the_leading_zeros_of_tapes_are_read_on() -> None:
    assert members(tarred({"one": TEXT}) + bytes(1024) + tarred({"two": TEXT})) == {"one": TEXT, "two": TEXT}


def test_git_archive_and_the_zip_tool_are_read(tmp_path: Path) -> None:
    (tmp_path / "key.env").write_bytes(TEXT)
    tool("git", "init", "-q", cwd=tmp_path)
    tool("git", "add", ".", cwd=tmp_path)
    tool("git", "-c", "user.name=A", "-c", "user.email=a@example.com", "commit", "-qm", "keys", cwd=tmp_path)
    for form in ("tar", "zip", "tar.gz"):
        assert members(tool("git", "archive", f"--format={form}", "HEAD", cwd=tmp_path)) == {"key.env": TEXT}
    assert members(tool("zip", "-q", "-", "key.env", cwd=tmp_path)) == {"key.env": TEXT}


def test_a_stream_zip_without_sizes_in_its_headers_is_read() -> None:
    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

    out = Pipe()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("key.env", "w") as member:
        member.write(TEXT)
    assert members(out.getvalue()) == {"key.env": TEXT}
    cut = out.getvalue()[:-60]
    assert [m.data for m in walked(cut) if isinstance(m, Member)] == [TEXT]
    assert failures(cut) == {"": "zip has no readable directory"}


def test_a_zip64_is_read() -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive, archive.open("key.env", "w", force_zip64=True) as member:
        member.write(TEXT)
    assert members(out.getvalue()) == {"key.env": TEXT}


def test_a_zip_with_zstd_members_is_read() -> None:
    from backports.zstd import zipfile as newer

    out = io.BytesIO()
    with newer.ZipFile(out, "w", newer.ZIP_ZSTANDARD) as archive:
        archive.writestr("key.env", TEXT)
    assert members(out.getvalue()) == {"key.env": TEXT}


@pytest.mark.parametrize("front", [b"MZ" + bytes(3000), b"#!/usr/bin/env python3\n", b"\x7fELF" + bytes(3000)])
def test_a_zip_behind_a_program_is_read(front: bytes) -> None:
    assert members(front + zipped({"key.env": TEXT})) == {"key.env": TEXT}


def test_a_browser_extension_is_read() -> None:
    version3 = b"Cr24" + struct.pack("<II", 3, 20) + bytes(20)
    assert members(version3 + zipped({"manifest.json": TEXT})) == {"manifest.json": TEXT}


def test_a_deb_is_read_down_to_its_files() -> None:
    def entry(name: bytes, data: bytes) -> bytes:
        return (
            name.ljust(16)
            + b"0".ljust(12)
            + b"0".ljust(12)
            + b"100644".ljust(8)
            + b"%-10d`\n" % len(data)
            + (data + b"\n" * (len(data) % 2))
        )

    deb = b"!<arch>\n" + entry(b"debian-binary", b"2.0\n")
    deb += entry(b"control.tar.gz", gzip.compress(tarred({"./postinst": TEXT})))
    deb += entry(b"data.tar.xz/", lzma.compress(tarred({"./etc/key": TEXT})))
    assert members(deb) == {
        "debian-binary": b"2.0\n",
        "control.tar.gz!./postinst": TEXT,
        "data.tar.xz!./etc/key": TEXT,
    }


def test_what_ar_and_dpkg_write_is_read(tmp_path: Path) -> None:
    long = "a-name-longer-than-sixteen-characters.env"
    (tmp_path / long).write_bytes(TEXT)
    (tmp_path / "odd").write_bytes(b"odd")
    tool("ar", "rc", "library.a", long, "odd", cwd=tmp_path)
    assert members((tmp_path / "library.a").read_bytes()) == {long: TEXT, "odd": b"odd"}
    package = tmp_path / "package"
    (package / "DEBIAN").mkdir(parents=True)
    (package / "DEBIAN" / "control").write_text(
        "Package: a\nVersion: 1\nArchitecture: all\nMaintainer: a\nDescription: a\n"
    )
    (package / "key").write_bytes(TEXT)
    tool("dpkg-deb", "--build", str(package), str(tmp_path / "a.deb"), cwd=tmp_path)
    found = members((tmp_path / "a.deb").read_bytes())
    assert [chain for chain, data in found.items() if data == TEXT] == [next(c for c in found if c.endswith("!./key"))]


def test_an_archive_with_bsd_names_is_read() -> None:
    name = b"a long name with spaces"
    header = b"#1/23".ljust(16) + b"0".ljust(12) * 2 + b"100644".ljust(8) + b"%-10d`\n" % (23 + len(TEXT))
    header = (
        b"#1/23".ljust(16)
        + b"0".ljust(12)
        + b"0".ljust(6)
        + b"0".ljust(6)
        + b"100644".ljust(8)
        + (b"%-10d`\n" % (23 + len(TEXT)))
    )
    assert members(b"!<arch>\n" + header + name + TEXT) == {name.decode(): TEXT}


def cpio_new(files: dict[str, bytes]) -> bytes:
    out = b""
    for name, data in [*files.items(), ("TRAILER!!!", b"")]:
        mode = 0o100644 if data else 0
        fields = [1, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0]
        entry = b"070701" + b"".join(b"%08X" % field for field in fields) + name.encode() + b"\0"
        entry += bytes(-len(entry) % 4) + data
        out += entry + bytes(-len(entry) % 4)
    return out


def cpio_old(files: dict[str, bytes]) -> bytes:
    out = b""
    for name, data in [*files.items(), ("TRAILER!!!", b"")]:
        out += b"070707" + b"%06o" % 1 + b"%06o" % 1 + b"%06o" % 0o100644 + b"%06o" % 0 * 4 + b"%011o" % 0
        out += b"%06o%011o" % (len(name) + 1, len(data)) + name.encode() + b"\0" + data
    return out


def cpio_binary(files: dict[str, bytes], order: str) -> bytes:
    out = b""
    for name, data in [*files.items(), ("TRAILER!!!", b"")]:
        words = [0o070707, 1, 1, 0o100644, 0, 0, 1, 0, 0, 0, len(name) + 1, len(data) >> 16, len(data) & 0xFFFF]
        out += struct.pack(f"{order}13H", *words) + name.encode() + b"\0"
        out += bytes(len(out) % 2) + data + bytes(len(data) % 2)
    return out


def test_every_form_of_cpio_is_read() -> None:
    files = {"etc/key": TEXT, "odd": b"odd"}
    for archive in (cpio_new(files), cpio_old(files), cpio_binary(files, "<"), cpio_binary(files, ">")):
        assert members(archive) == files


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress, bz2.compress])
def test_an_rpm_is_read_down_to_its_files(pack: object) -> None:
    def header(data: bytes) -> bytes:
        return b"\x8e\xad\xe8\x01" + bytes(4) + struct.pack(">II", 1, len(data)) + bytes(16) + data

    signature = header(b"s" * 5)
    rpm = b"\xed\xab\xee\xdb".ljust(96, b"\0") + signature + bytes(-len(signature) % 8) + header(b"postinstall " + TEXT)
    assert callable(pack)
    found = members(rpm + pack(cpio_new({"./etc/key": TEXT})))
    assert found["./etc/key"] == TEXT
    assert [chain for chain, data in found.items() if TEXT in data] == ["header", "./etc/key"]


def test_a_docker_image_names_layer_and_file() -> None:
    layer = tarred({"root/.aws/credentials": TEXT})
    config = json.dumps({"config": {"Env": ["A=b"]}, "history": [{"created_by": TEXT.decode()}]}).encode()
    saved = tarred({"aa11/layer.tar": layer, "cc22.json": config, "manifest.json": b"[]"})
    assert members(saved)["aa11/layer.tar!root/.aws/credentials"] == TEXT
    assert members(saved)["cc22.json"] == config
    index = tarred({"oci-layout": b"{}", "blobs/sha256/ab12": gzip.compress(layer), "blobs/sha256/cd34": config})
    assert members(index)["blobs/sha256/ab12!root/.aws/credentials"] == TEXT


# Compressed streams.


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_a_compressed_stream_is_read_joined_or_not(pack: object) -> None:
    assert callable(pack)
    assert members(pack(TEXT)) == {"content": TEXT}
    assert members(pack(TEXT) + pack(TEXT)) == {"content": TEXT + TEXT}
    assert members(pack(TEXT) + bytes(512)) == {"content": TEXT}
    assert members(pack(tarred({"x/key": TEXT}))) == {"x/key": TEXT}


@pytest.mark.parametrize("command", [["gzip", "-c"], ["bzip2", "-c"], ["xz", "-c"], ["xz", "-c", "--format=lzma"]])
def test_what_the_tools_write_is_read(command: list[str]) -> None:
    assert members(tool(*command, data=TEXT)) == {"content": TEXT}


@pytest.mark.parametrize(
    "command", [["zstd", "-qc"], ["zstd", "-qc", "-19", "--no-check"], ["lz4", "-qc"], ["lz4", "-qc", "-BD"]]
)
def test_what_the_newer_tools_write_is_read(command: list[str]) -> None:
    large = os.urandom(1000) * 1500
    assert members(tool(*command, data=TEXT)) == {"content": TEXT}
    assert members(tool(*command, data=large) * 2) == {"content": large * 2}
    assert members(tool(*command, data=tarred({"x/key": TEXT}))) == {"x/key": TEXT}


def test_a_gzip_names_its_content_as_its_header_does() -> None:
    out = io.BytesIO()
    with gzip.GzipFile("secrets.env", "wb", fileobj=out) as file:
        file.write(TEXT)
    assert members(out.getvalue()) == {"secrets.env": TEXT}


def test_a_member_larger_than_a_window_keeps_its_lines() -> None:
    line = b"\xc3\xa4 line of text\n"
    front = line * (9 * MIB // len(line))
    found = [m for m in walked(gzip.compress(front + TEXT, 1)) if isinstance(m, Member) and TEXT in m.data]
    assert found
    member = found[-1]
    assert member.first_line is not None
    before = member.data[: member.data.index(TEXT)]
    assert member.first_line + before.count(b"\n") == front.count(b"\n") + 1


def test_a_line_longer_than_a_window_is_counted_in_code_points() -> None:
    front = "ä".encode() * (5 * MIB // 2)
    member = [m for m in walked(gzip.compress(front + TEXT, 1)) if isinstance(m, Member)][-1]
    assert (member.first_line, TEXT in member.data) == (1, True)
    assert member.first_column is not None
    assert member.first_column + len(member.data[: member.data.index(TEXT)].decode()) == 5 * MIB // 2 + 1


# Documents.


def database(path: Path, wal: bool = False) -> sqlite3.Connection:
    db = sqlite3.connect(path)
    if wal:
        db.execute("PRAGMA journal_mode=WAL")
    db.execute("CREATE TABLE keys (id INTEGER PRIMARY KEY, name TEXT, value BLOB, upper TEXT AS (upper(name)))")
    db.execute("CREATE VIRTUAL TABLE words USING fts5(text)")
    db.execute("CREATE VIEW all_keys AS SELECT * FROM keys")
    db.execute("INSERT INTO keys (name, value) VALUES (?, ?)", ("first", TEXT.decode()))
    db.execute("INSERT INTO keys (name, value) VALUES (?, ?)", ("zipped", zipped({"inner": TEXT})))
    db.execute("INSERT INTO words VALUES (?)", ("found by words " + TEXT.decode(),))
    db.commit()
    return db


def test_a_database_gives_its_rows_with_column_names(tmp_path: Path) -> None:
    database(tmp_path / "a.db").close()
    found = members((tmp_path / "a.db").read_bytes())
    assert b"keys.name = first\nkeys.value = " + TEXT in found["keys"]
    assert found["keys.value[2]!inner"] == TEXT
    assert TEXT in found["words_content"]


def test_a_database_is_read_with_the_log_beside_it_and_left_as_it_was(tmp_path: Path) -> None:
    db = database(tmp_path / "a.db", wal=True)
    log = (tmp_path / "a.db-wal").read_bytes()
    assert log
    before = sorted((p.name, p.read_bytes()) for p in tmp_path.iterdir())
    with Unpacker() as unpacker:
        beside = list(unpacker.members(tmp_path / "a.db"))
        sent = list(unpacker.members((tmp_path / "a.db").read_bytes(), wal=log))
    assert beside == sent
    assert any(isinstance(m, Member) and TEXT in m.data for m in beside)
    assert sorted((p.name, p.read_bytes()) for p in tmp_path.iterdir()) == before
    db.close()


def test_only_committed_pages_of_a_log_count(tmp_path: Path) -> None:
    from firedamp.scanner.documents import with_log

    db = database(tmp_path / "a.db", wal=True)
    image, log = (tmp_path / "a.db").read_bytes(), (tmp_path / "a.db-wal").read_bytes()
    db.close()
    whole = bytes(with_log(image, log))
    assert TEXT in whole
    damaged = bytearray(log)
    damaged[32 + 24 + 100] ^= 1
    for other in (b"", b"nonsense" * 10, log[:32], bytes(damaged), log[:8] + b"\xff" * 4 + log[12:]):
        assert bytes(with_log(image, other)) == image
    assert bytes(with_log(image, log[:-1])) != whole


def test_a_damaged_database_is_told(tmp_path: Path) -> None:
    database(tmp_path / "a.db").close()
    data = bytearray((tmp_path / "a.db").read_bytes())
    data[100:2000] = os.urandom(1900)
    assert failures(bytes(data)) == {"": "sqlite is damaged: DatabaseError"}


def test_a_notebook_gives_sources_and_outputs() -> None:
    cells = [
        {"cell_type": "code", "source": ["import boto3\n", "print(1)"], "outputs": [{"text": ["out ", "put"]}]},
        {"cell_type": "markdown", "source": "# words"},
        {"cell_type": "code", "source": [], "outputs": [{"data": {"text/plain": "shown", "image/png": "AAAA"}}]},
    ]
    for notebook in ({"cells": cells, "nbformat": 4}, {"nbformat": 4, "cells": cells}):
        text = members(json.dumps(notebook).encode())["cells"]
        assert text == b"import boto3\nprint(1)\n\nout put\n\n# words\n\nshown"
    assert failures(b'{"cells": [') == {"": "notebook is damaged"}


def test_bytecode_gives_its_strings_alone(tmp_path: Path) -> None:
    id_, secret = make_key_id(RNG), make_secret(RNG)
    (tmp_path / "a.py").write_text(f"AWS_ACCESS_KEY_ID = '{id_}'\nlonger = '{secret}'\ndef f(): return b'{secret}'\n")
    lines = members(Path(py_compile.compile(str(tmp_path / "a.py"))).read_bytes())["constants"].split(b"\n")
    assert id_.encode() in lines
    assert secret.encode() in lines


def test_a_property_list_gives_keys_and_values() -> None:
    values = {"user": {"key": "value", "list": ["one", {"deep": "two"}]}, "data": gzip.compress(TEXT), "n": 1}
    found = members(plistlib.dumps(values, fmt=plistlib.FMT_BINARY))
    assert found["data!content"] == TEXT
    assert set(found["values"].decode().split("\n")) == {"key = value", "list = one", "deep = two"}


def mail() -> EmailMessage:
    message = EmailMessage()
    message["From"] = "a@example.com"
    message["To"] = "b@example.com"
    message["Subject"] = "the keys"
    message["Message-ID"] = "<1@example.com>"
    message.set_content("see the attachment, äöü", cte="base64")
    message.add_attachment(TEXT, maintype="application", subtype="octet-stream", filename="key.env")
    message.add_attachment(zipped({"inner": TEXT}), maintype="application", subtype="zip", filename="a.zip")
    return message


def test_a_mail_gives_its_parts_and_attachments() -> None:
    found = members(mail().as_bytes())
    assert found["key.env"] == TEXT
    assert found["a.zip!inner"] == TEXT
    assert "see the attachment, äöü" in found["part 1"].decode()


def test_a_mailbox_gives_the_parts_of_every_message() -> None:
    one = b"From a@example.com Sat Nov 21 10:00:00 2026\n" + mail().as_bytes() + b"\n\n"
    found = members(one * 3)
    assert found["message 1/key.env"] == found["message 3/key.env"] == TEXT
    assert found["message 2/a.zip!inner"] == TEXT


def pdf(text: bytes, packed: bool = True) -> bytes:
    stream = b"BT /F1 12 Tf 72 700 Td (" + text + b") Tj ET"
    stream = zlib.compress(stream) if packed else stream
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 900 800]/Resources<</Font<</F1 5 0 R>>>>/Contents 4 0 R>>",
        b"<</Length %d%s>>stream\n%s\nendstream" % (len(stream), b"/Filter/FlateDecode" if packed else b"", stream),
        b"<</Type/Font/Subtype/Type1/BaseFont/Courier>>",
    ]
    out = b"%PDF-1.4\n"
    places = []
    for number, body in enumerate(objects, start=1):
        places.append(len(out))
        out += b"%d 0 obj%s\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    return (
        out
        + b"xref\n0 6\n0000000000 65535 f \n"
        + table
        + b"trailer<</Size 6/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF" % len(out)
    )


def test_a_pdf_gives_the_text_of_its_pages() -> None:
    id_ = make_key_id(RNG).encode()
    assert id_ in members(pdf(id_))["page 1"]
    assert failures(b"%PDF-1.4\nnothing") == {"": "pdf is damaged"}


# What is no container.


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"import os\n",
        b"{}",
        b'{"metadata": {"name": "a"}}',
        b"From here on\nall is well: yes\n",
        b"To: everyone\nhello\n",
        b"Date: 2026\nkey: value\n",
        b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x04\x00" + bytes(600),
        bytes(4096),
        b"0" * 4096,
        b"PK",
        b"07070",
        b"%!PS-Adobe",
        b"MZ" + bytes(4000),
        b"\x1f\x8b\x00",
        b"\x97\x00\x00\x00\x0c\x01" + TEXT,
    ],
)
def test_ordinary_files_core_dumps_and_logs_are_no_containers(head: bytes) -> None:
    assert container_of(head) is None


# What is hostile, damaged or too much.


def test_encrypted_members_are_told_and_the_others_read() -> None:
    archive = bytearray(zipped({"open": TEXT, "closed": TEXT}, zipfile.ZIP_STORED))
    at = archive.index(b"closed") - 30
    archive[at + 6] |= 1
    archive[archive.rindex(b"closed") - 46 + 8] |= 1
    assert failures(bytes(archive)) == {"closed": "is encrypted"}
    assert [m.container for m in walked(bytes(archive)) if isinstance(m, Member)] == ["open"]
    assert failures(bytes(archive[:-30]))["closed"] == "is encrypted"


def test_the_zip_tool_encrypts_and_we_say_so(tmp_path: Path) -> None:
    (tmp_path / "key.env").write_bytes(TEXT)
    data = tool("zip", "-q", "-P", "password", "-", "key.env", cwd=tmp_path)
    assert failures(data) == {"key.env": "is encrypted"}


def test_a_gzip_of_gigabytes_stops_at_the_ratio() -> None:
    bomb = zlib.compressobj(1, zlib.DEFLATED, 31)
    zeros = bytes(16 * MIB)
    data = b"".join(bomb.compress(zeros) for _ in range(20)) + bomb.flush()
    assert failures(data) == {"content": "unpacks to more than 200 times its size; nothing after this was read"}


def test_a_file_unpacks_to_its_size_limit_at_most() -> None:
    data = gzip.compress(os.urandom(3 * MIB) + TEXT, 0)
    assert failures(data, Limits(size=2 * MIB)) == {
        "content": "unpacks to more than 2 MiB; nothing after this was read"
    }


def test_a_bomb_in_an_archive_is_cut_off_and_the_next_member_read() -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("noise", os.urandom(MIB))
        archive.writestr("bomb", bytes(40 * MIB))
        archive.writestr("key.env", TEXT)
    items = walked(out.getvalue())
    assert {i.what: i.why for i in items if isinstance(i, Skipped)} == {
        "bomb": "unpacks to more than 200 times its size"
    }
    assert items[-1] == Member("key.env", TEXT)


def test_members_that_overlap_stop_at_the_ratio() -> None:
    """As in Fifield's better zip bomb: one kernel of data that every directory entry names."""
    kernel = zipped({"0": bytes(20 * MIB)})
    end = kernel.rindex(b"PK\x05\x06")
    start = struct.unpack_from("<I", kernel, end + 16)[0]
    entry = kernel[start:end]
    count = 2000
    data = (
        kernel[:start]
        + entry * count
        + b"PK\x05\x06"
        + struct.pack("<4H2IH", 0, 0, count, count, len(entry) * count, start, 0)
    )
    items = walked(data)
    assert [i.why for i in items if isinstance(i, Skipped)][-1].startswith("unpacks to more than 200 times its size")
    stored = zipped({"0": os.urandom(MIB)}, zipfile.ZIP_STORED)
    end = stored.rindex(b"PK\x05\x06")
    start = struct.unpack_from("<I", stored, end + 16)[0]
    entry = stored[start:end]
    data = (
        stored[:start]
        + entry * count
        + b"PK\x05\x06"
        + struct.pack("<4H2IH", 0, 0, count, count, len(entry) * count, start, 0)
    )
    assert "unpacks to more than" in list(failures(data).values())[-1]


def test_nests_end_at_the_depth_limit() -> None:
    nest = TEXT
    for number in range(8):
        nest = zipped({f"{number}": nest})
    assert members(nest) == {"7!6!5!4!3!2!1!0": TEXT}
    assert failures(zipped({"8": nest})) == {"8!7!6!5!4!3!2!1": "zip is nested deeper than 8"}


def test_a_file_that_holds_itself_ends_at_the_depth_limit() -> None:
    """The gzip quine of Russ Cox, https://research.swtch.com/zip, made anew: stored blocks that print themselves."""
    nest = gzip.compress(TEXT)
    for _ in range(20):
        nest = gzip.compress(nest)
    assert failures(nest) == {"": "gzip is nested deeper than 8"}


def test_no_container_gives_more_than_its_members() -> None:
    data = tarred({str(number): TEXT for number in range(30)})
    items = walked(data, Limits(members=20))
    assert len([i for i in items if isinstance(i, Member)]) == 20
    assert items[-1] == Skipped(outcome=Outcome.FAILED, what="", why="tar holds more than 20 members")


def test_a_cut_tar_gives_what_came_before() -> None:
    data = tarred({"one": TEXT, "two": os.urandom(3 * MIB)})
    for cut in (data[: 2 * MIB], gzip.compress(data[: 2 * MIB]), gzip.compress(data)[: 2 * MIB]):
        items = walked(cut)
        assert items[0] == Member("one", TEXT)
        assert any(isinstance(i, Skipped) and i.why.endswith("ends early") for i in items)
        assert sum(len(i.data) for i in items if isinstance(i, Member)) > MIB
    assert failures(data[: 512 + 1024 + 100]) == {"two": "ends early", "": "tar ends early"}


def test_a_cut_or_damaged_stream_gives_what_came_before() -> None:
    whole = gzip.compress(os.urandom(MIB), 1)
    assert failures(whole[:-2000]) == {"content": "ends early"}
    damaged = bytearray(whole)
    damaged[-6] ^= 1
    assert failures(bytes(damaged)) == {"content": "is damaged: IsalError"}
    assert failures(whole + b"nonsense") == {"content": "is followed by other bytes"}


def test_a_tar_with_absurd_sizes_ends() -> None:
    header = tarfile.TarInfo("huge")
    header.size = 1 << 60
    block = header.tobuf(tarfile.GNU_FORMAT)
    assert failures(block + TEXT) == {"huge": "ends early", "": "tar ends early"}
    assert [m.data for m in walked(block + TEXT) if isinstance(m, Member)] == [TEXT]
    header.size = -512
    assert failures(header.tobuf(tarfile.GNU_FORMAT) + TEXT) == {"": "tar has a damaged header"}
    header.size, header.type = 1 << 40, tarfile.XHDTYPE
    assert failures(header.tobuf(tarfile.GNU_FORMAT) + TEXT) == {"": "tar has an extended header of absurd size"}


def test_a_sparse_tar_gives_the_stored_bytes(tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as file:
        for hole in range(30):
            file.seek(hole * 10 * MIB)
            file.write(TEXT)
    for form in ("gnu", "posix"):
        data = tool("tar", f"--format={form}", "-Scf", "-", "sparse", cwd=tmp_path)
        found = members(data)
        assert sum(text.count(TEXT) for text in found.values()) == 30


def test_links_devices_and_folders_give_nothing_and_are_not_followed() -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE):
            header = tarfile.TarInfo("name")
            header.type, header.linkname = kind, "/etc/passwd"
            archive.addfile(header)
    assert members(out.getvalue()) == {}


def test_names_are_only_names() -> None:
    files = {"../../up": TEXT, "/etc/key": TEXT, "C:\\key": TEXT, "a\x1b[31m\nb": TEXT, "x" * 2000: TEXT}
    found = members(tarred(files))
    assert "../../up" in found
    assert "/etc/key" in found
    assert "a\x1b[31m\nb" in found
    assert max(map(len, found)) == 300


def test_names_that_are_no_utf8_are_shown() -> None:
    data = tarred({"caf\udce9": TEXT}, tarfile.GNU_FORMAT)
    assert list(members(data)) == ["caf\\xe9"]


def test_members_of_one_name_are_each_read() -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("key", TEXT)
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("key", TEXT * 2)
    assert [m.data for m in walked(out.getvalue()) if isinstance(m, Member)] == [TEXT, TEXT * 2]


def test_sizes_that_lie_change_nothing() -> None:
    data = bytearray(zipped({"key": TEXT}))
    for place in (22, data.rindex(b"PK\x01\x02") + 24):
        data[place : place + 4] = b"\x01\x00\x00\x00"
    assert members(bytes(data)) == {"key": TEXT}


def test_time_is_limited() -> None:
    ticks = iter(range(1000))
    budget = Budget(Limits(seconds=5), 1, lambda: next(ticks))
    data = tarred({str(number): TEXT for number in range(30)})
    items = list(walk("tar", opened("tar", in_memory(data), budget), budget, lambda _: True))
    assert isinstance(items[-1], Skipped)
    assert items[-1].why == "took longer than 5 s; nothing after this was read"


def test_what_needs_memory_is_refused() -> None:
    inner = zipped({"a": os.urandom(3 * MIB)}, zipfile.ZIP_STORED)
    assert failures(gzip.compress(inner, 1), Limits(held=MIB)) == {
        "": "zip is larger than the 1 MiB that are held in memory"
    }


# The worker.


def test_a_worker_sends_back_what_is_interesting() -> None:
    data = zipped({"key": TEXT, "empty": b""})
    with Unpacker() as all_of_it, Unpacker(interesting=NOTHING) as nothing:
        assert list(all_of_it.members(data)) == [Member("key", TEXT)]
        assert list(nothing.members(data)) == []


def test_the_prefilter_decides_in_the_worker(tmp_path: Path) -> None:
    data = tarred(
        {"plain": b"nothing of interest\n" * 1000, "key": TEXT, "inner.zip": zipped({"key": TEXT, "b": b"c"})}
    )
    with Unpacker(interesting=prefiltered(tmp_path)) as unpacker:
        found = list(unpacker.members(data))
    assert found == [Member("key", TEXT), Member("inner.zip!key", TEXT)]


def test_files_are_read_where_they_lie_and_links_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(zipped({"key": TEXT}))
    (tmp_path / "link").symlink_to(tmp_path / "a.zip")
    os.mkfifo(tmp_path / "pipe")
    with Unpacker() as unpacker:
        assert list(unpacker.members(tmp_path / "a.zip")) == [Member("key", TEXT)]
        for name in ("link", "pipe", "missing"):
            (item,) = unpacker.members(tmp_path / name)
            assert isinstance(item, Skipped)
            assert item.outcome is Outcome.FAILED


def test_a_blob_too_large_to_hold_is_streamed() -> None:
    files = {str(number): os.urandom(MIB) for number in range(6)} | {"key": TEXT}
    with Unpacker(Limits(held=MIB)) as unpacker:
        found = {
            m.container: m.data for m in unpacker.members(gzip.compress(tarred(files), 1)) if isinstance(m, Member)
        }
    assert found == files


@pytest.fixture
def hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the worker a prefilter that does what hostile bytes might make a library do."""
    (tmp_path / "hostile.py").write_text(
        "import os, time\n"
        "def die(data): os._exit(9)\n"
        "def hang(data): time.sleep(100)\n"
        "def talk(data): print('x' * 9); os.write(1, b'y' * 99); return True\n"
        "def write(data): os.write(os.open('/tmp/firedamp-should-not-be', os.O_CREAT | os.O_WRONLY), b'x' * 9)\n"
        "def make(name): return globals()[name]\n"
        "def hog(data): return bytearray(300 << 20)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))


def test_a_lost_worker_is_told_and_the_next_container_read(hostile: None) -> None:
    with Unpacker(interesting=("hostile:make", "die")) as unpacker:
        for _ in range(2):
            assert list(unpacker.members(zipped({"key": TEXT}))) == [
                Skipped(outcome=Outcome.FAILED, what="", why="ended the process that unpacks it (9)")
            ]


def test_a_worker_that_hangs_is_stopped(hostile: None) -> None:
    with Unpacker(Limits(seconds=0.2), interesting=("hostile:make", "hang")) as unpacker:
        (item,) = unpacker.members(zipped({"key": TEXT}))
    assert item == Skipped(outcome=Outcome.FAILED, what="", why="took longer than 0.2 s and was stopped")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limits")
def test_a_worker_may_not_write_a_file_nor_speak_out_of_turn(hostile: None) -> None:
    data = zipped({"key": TEXT})
    with Unpacker(interesting=("hostile:make", "talk")) as unpacker:
        assert list(unpacker.members(data)) == [Member("key", TEXT)]
    with Unpacker(interesting=("hostile:make", "write")) as unpacker:
        (item,) = unpacker.members(data)
    assert isinstance(item, Skipped)
    written = Path("/tmp/firedamp-should-not-be")
    assert not written.exists() or not written.stat().st_size
    written.unlink(missing_ok=True)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="address space is limited on Linux alone")
def test_a_worker_has_little_memory(hostile: None) -> None:
    with Unpacker(interesting=("hostile:make", "hog")) as unpacker:
        (item,) = unpacker.members(zipped({"key": TEXT}))
    assert item == Skipped(outcome=Outcome.FAILED, what="", why="zip needs more memory than allowed")


def test_a_caller_may_stop_early_and_go_on_with_another() -> None:
    data = tarred({str(number): os.urandom(MIB) for number in range(10)})
    with Unpacker() as unpacker:
        items = unpacker.members(data)
        next(items)
        items.close()  # type: ignore[attr-defined]
        assert list(unpacker.members(zipped({"key": TEXT}))) == [Member("key", TEXT)]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="address space is limited on Linux alone")
def test_a_bomb_takes_bounded_memory_and_writes_nothing(tmp_path: Path) -> None:
    bomb = zlib.compressobj(1, zlib.DEFLATED, 31)
    zeros = bytes(16 * MIB)
    inner = b"".join(bomb.compress(zeros) for _ in range(20)) + bomb.flush()
    members_ = {"noise": os.urandom(3 * MIB), "a.gz": inner, "b": zipped({"c.gz": inner})}
    (tmp_path / "bomb.zip").write_bytes(zipped(members_))
    with Unpacker(interesting=NOTHING) as unpacker:
        items = list(unpacker.members(tmp_path / "bomb.zip"))
        assert unpacker._worker is not None
        status = Path(f"/proc/{unpacker._worker[0].pid}/status").read_text()
    assert items
    assert all(isinstance(item, Skipped) for item in items)
    assert int(status.split("VmHWM:")[1].split()[0]) < 120 * 1024
    assert [p.name for p in tmp_path.iterdir()] == ["bomb.zip"]
