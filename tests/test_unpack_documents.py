"""Documents: what is written in them is found, in whatever form they keep it."""

from __future__ import annotations

import datetime as dt
import gzip
import io
import json
import plistlib
import py_compile
import random
import sqlite3
import struct
import time
from collections.abc import Callable
from dataclasses import replace
from email.message import EmailMessage
from pathlib import Path

import pytest
from tests.builders import make_key_id, make_secret, noise
from tests.containers import pdf, tarred, zipped
from tests.opening import TEXT, failures, members, walked

from firedamp.scanner.budget import Budget, Limits, in_memory
from firedamp.scanner.containers import Member, opened, walk
from firedamp.scanner.documents import _rows
from firedamp.scanner.formats import container_of
from firedamp.scanner.unpack import Unpacker
from firedamp.storage.records import Outcome, Skipped

MIB = 1 << 20


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


def test_a_schema_that_calls_functions_costs_no_table() -> None:
    db = sqlite3.connect(":memory:")
    db.execute("CREATE TABLE keys (value TEXT)")
    db.execute("INSERT INTO keys VALUES (?)", (TEXT.decode(),))
    db.execute("CREATE TABLE checked (j TEXT CHECK (json_valid(j)))")
    db.execute("CREATE TABLE indexed (j TEXT)")
    db.execute("CREATE INDEX i ON indexed (json_extract(j, '$.a'))")
    db.execute("CREATE TABLE made (j TEXT, g TEXT AS (json_extract(j, '$.a')))")
    for table in ("checked", "indexed", "made"):
        db.execute(f"INSERT INTO {table} (j) VALUES ('{{}}')")  # noqa: S608
    db.commit()
    assert members(db.serialize()).keys() >= {"keys", "checked", "indexed", "made"}
    db.execute("PRAGMA writable_schema = ON")
    db.execute("UPDATE sqlite_schema SET sql = 'CREATE TABLE made (nonsense' WHERE name = 'made'")
    db.commit()
    assert failures(db.serialize()) == {"made": "has a schema that cannot be read"}


def test_a_cell_too_large_to_hold_costs_its_row_only() -> None:
    db = sqlite3.connect(":memory:")
    for table, more in (("a", ""), ("b", "WITHOUT ROWID")):
        db.execute(f"CREATE TABLE {table} (k INTEGER PRIMARY KEY, v) {more}")
        for key in range(6):
            value = "zeroblob(2100000)" if key in {2, 3} else f"'{key}'"
            db.execute(f"INSERT INTO {table} VALUES ({key}, {value})")  # noqa: S608
    db.commit()
    db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 1 << 20)
    assert [str(row) for row in _rows(db, "SELECT v FROM a")] == [str(row) for row in _rows(db, "SELECT v FROM b")]
    assert [row if isinstance(row, str) else row[0] for row in _rows(db, "SELECT v FROM a")] == [
        "0", "1", *["is larger than the 1 MiB that are held in memory"] * 2, "4", "5",
    ]  # fmt: skip


@pytest.mark.parametrize("cut", [1, 100, 4096, 9000])
def test_a_database_that_is_cut_off_is_told_and_what_is_left_of_it_read(tmp_path: Path, cut: int) -> None:
    db = sqlite3.connect(tmp_path / "a.db")
    db.execute("CREATE TABLE first (v)")
    db.execute("INSERT INTO first VALUES (?)", (TEXT.decode(),))
    db.execute("CREATE TABLE other (v)")
    db.executemany("INSERT INTO other VALUES (?)", (("x" * 500,) for _ in range(100)))
    db.commit()
    db.close()
    data = (tmp_path / "a.db").read_bytes()
    assert not failures(data)
    assert failures(data[:-cut])[""] == "sqlite ends early"
    assert any(isinstance(item, Member) and TEXT in item.data for item in walked(data[:-cut]))
    (tmp_path / "a.db").write_bytes(data[:-cut])
    with Unpacker(Limits(held=4096)) as unpacker:
        assert [*unpacker.members(tmp_path / "a.db")][-1] == Skipped(
            outcome=Outcome.FAILED, what="", why="sqlite ends early"
        )


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
    data[100:2000] = noise(1900)
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


@pytest.mark.parametrize("text", [b'{"cells": [', b'{"cells": [1]}\n{"cells": [2]}', b'{"cells": ' + b"[" * 100_000])
def test_what_only_begins_like_a_notebook_is_no_failure(text: bytes) -> None:
    assert members(text) == {}
    assert members(zipped({"a": text})) == {"a": text}
    large = text + b" " * 2 * MIB
    assert b"".join(m.data for m in walked(gzip.compress(large), Limits(held=MIB)) if isinstance(m, Member)) == large
    assert not failures(gzip.compress(large), Limits(held=MIB))


def test_bytecode_gives_its_strings_alone(rng: random.Random, tmp_path: Path) -> None:
    id_, secret = make_key_id(rng), make_secret(rng)
    (tmp_path / "a.py").write_text(f"AWS_ACCESS_KEY_ID = '{id_}'\nlonger = '{secret}'\ndef f(): return b'{secret}'\n")
    lines = members(Path(py_compile.compile(str(tmp_path / "a.py"))).read_bytes())["constants"].split(b"\n")
    assert id_.encode() in lines
    assert secret.encode() in lines


def test_a_property_list_gives_keys_and_values() -> None:
    values = {"user": {"key": "value", "list": ["one", {"deep": "two"}]}, "data": gzip.compress(TEXT), "n": 1}
    found = members(plistlib.dumps(values, fmt=plistlib.FMT_BINARY))
    assert found["data!content"] == TEXT
    assert set(found["values"].decode().split("\n")) == {"key = value", "list = one", "deep = two"}


def test_a_property_list_of_a_date_before_all_years_is_read() -> None:
    data = plistlib.dumps({"since": dt.datetime(2001, 1, 1), "key": TEXT.decode()}, fmt=plistlib.FMT_BINARY)  # noqa: DTZ001  # plists know no zones
    distant = data.replace(b"\x33" + bytes(8), b"\x33" + struct.pack(">d", -63114076800.0))
    assert distant != data
    assert members(distant) == {"values": b"key = " + TEXT}
    assert failures(b"bplist00" + bytes(9)) == {"": "plist is damaged"}


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


OFFICE = {
    "word/document.xml": "<w:document><w:p><w:r><w:t>{}</w:t></w:r><w:r w:b='1'><w:t>{}</w:t></w:r></w:p>{}",
    "ppt/slides/slide1.xml": "<?xml version='1.0'?>\n<p:sld a='b'><a:p><a:r><a:t>{}</a:t></a:r><a:r>{}</a:r></a:p>{}",
    "xl/sharedStrings.xml": "<?xml version='1.0'?><sst><si><r><t>{}</t></r><r><rPr/><t>{}</t></r></si><si>{}</si>",
    "xl/worksheets/sheet1.xml": (
        "<worksheet><c><v>7</v></c><c t='inlineStr'><is><r><t>{}</t></r><r><t>{}</t></r></is></c><c><is>{}</is></c>"
    ),
    "styles.xml": "<office:document-styles><text:p>{}<text:span>{}</text:span></text:p>{}",
    "flat.fodt": "<?xml version='1.0'?>\n<office:document a='b'><text:p>{}<text:span>{}</text:span></text:p>{}",
    "content.xml": "<office:document-content><text:p>{}<text:span>{}</text:span></text:p>{}",
}


@pytest.mark.parametrize("name", OFFICE)
def test_a_word_of_a_document_that_tags_cut_is_read_whole(name: str) -> None:
    items = walked(zipped({name: OFFICE[name].format("AK", "IA", "more").encode()}))
    texts = [item for item in items if isinstance(item, Member)]
    assert [(item.container, item.first_line) for item in texts] == [(name, None), (name, 1)]
    assert [line for line in texts[0].data.split(b"\n") if line.strip()][-2:] == [b"AKIA", b"more"]


@pytest.mark.parametrize("name", OFFICE)
def test_a_document_that_is_in_no_archive_is_read_as_one_that_is(name: str) -> None:
    data = OFFICE[name].format("AK", "IA", "more").encode()
    alone, inside = walked(data), walked(zipped({name: data}))
    assert [replace(item, container=name) for item in alone if isinstance(item, Member)] == inside


def test_documents_of_nothing_but_beginnings_of_tags_take_no_time() -> None:
    began = time.process_time()
    for hostile in (b"<", b"<a", b"<w:br ", b"</w:p"):
        assert walked(zipped({"word/document.xml": b"<w:document>" + hostile * MIB}))
    assert time.process_time() - began < 5


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


def test_a_pdf_gives_the_text_of_its_pages(rng: random.Random) -> None:
    id_ = make_key_id(rng).encode()
    assert id_ in members(pdf(id_))["page 1"]
    assert failures(b"%PDF-1.4\n1 0 obj nothing") == {"": "pdf is damaged"}


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_pdf_whose_objects_begin_behind_long_comments_is_read(pack: Callable[[bytes], bytes]) -> None:
    comment = b"%PDF-1.4\n" + b"%" + b"c" * 5000 + b"\n"
    found = members(pack(pdf(b"the key").replace(b"%PDF-1.4\n", comment)))
    assert [text for chain, text in found.items() if chain.endswith("page 1")] == [b"the key"]
    for text in (b"%PDF-1.4\n", b"%PDF-1.4\nis how a PDF begins\n" * 99_000):
        assert failures(pack(text)) == {}
    assert members(zipped({"a.txt": b"%PDF-1.4\n" + TEXT})) == {"a.txt": b"%PDF-1.4\n" + TEXT}
    cut = comment + b"%" * (MIB - len(comment) - 3) + b"\n1 0 obj"
    assert list(failures(pack(cut)).values()) == ["pdf is damaged"], "the object begins at the border of what is read"


def test_a_pdf_gives_the_text_that_its_page_cuts_off(rng: random.Random) -> None:
    id_ = make_key_id(rng).encode()
    narrow = pdf(b"key_of_all = " + id_).replace(b"[0 0 900 800]", b"[0 0 130 702]")
    assert members(narrow)["page 1"] == b"key_of_all = " + id_


def test_a_pdf_gives_its_properties_notes_and_scripts() -> None:
    note = b"/Annots[<</Type/Annot/Subtype/Text/Rect[0 0 9 9]/Contents(a note)>>]"
    script = b"/Names<</JavaScript<</Names[(j)<</S/JavaScript/JS(var key)>>]>>>>"
    data = (
        pdf(b"text").replace(b"/Type/Page/", note + b"/Type/Page/").replace(b"/Type/Catalog", b"/Type/Catalog" + script)
    )
    data = data.replace(b"xref\n", b"6 0 obj<</Subject(about)>>\nendobj\nxref\n", 1).replace(
        b"/Root", b"/Info 6 0 R/Root"
    )
    found = members(data)
    assert found["page 1"] == b"text\na note"
    assert found["properties"] == b"Subject = about"
    assert found["script 1"] == b"var key"


def test_a_large_document_in_a_stream_is_told_and_read_as_it_stands() -> None:
    data = pdf(b"a") + noise(2 * MIB) + TEXT
    items = walked(gzip.compress(data, 1), Limits(held=MIB))
    assert [item.why for item in items if isinstance(item, Skipped)] == [
        "pdf is larger than the 1 MiB that are held in memory"
    ]
    assert b"".join(item.data for item in items if isinstance(item, Member)).endswith(TEXT)


def test_a_large_document_in_an_archive_is_opened_where_it_lies(rng: random.Random) -> None:
    id_ = make_key_id(rng).encode()
    found = members(tarred({"a.pdf": pdf(id_) + b"%" * 2 * MIB}), Limits(held=MIB))
    assert id_ in found["a.pdf!page 1"]


def test_what_a_document_stores_is_looked_at_beside_what_it_means() -> None:
    found = members(zipped({"a.pdf": pdf(b"shown") + b"\n% hidden"}))
    assert b"shown" in found["a.pdf!page 1"]
    assert b"% hidden" in found["a.pdf"]


def test_bytecode_is_opened_only_if_its_bytes_tell(rng: random.Random, tmp_path: Path) -> None:
    source = tmp_path / "a.py"
    source.write_text(f"KEY = '{make_key_id(rng)}'")
    code = Path(py_compile.compile(str(source))).read_bytes()
    budget = Budget(Limits(), 1, time.monotonic)
    data = zipped({"a.pyc": code})
    assert list(walk("zip", opened("zip", in_memory(data), budget), budget, lambda _: False)) == []


def test_a_database_that_takes_too_long_is_cut_off() -> None:
    db = sqlite3.connect(":memory:")
    db.execute("CREATE TABLE t (a)")
    db.executemany("INSERT INTO t VALUES (?)", ((b"x",) for _ in range(200_000)))
    db.commit()
    ticks = iter(range(100_000))
    budget = Budget(Limits(seconds=3), 1, lambda: next(ticks))
    items = list(walk("sqlite", opened("sqlite", in_memory(db.serialize()), budget), budget, lambda _: True))
    assert isinstance(items[-1], Skipped)
    assert items[-1].why == "took longer than 3 s (unpack_time); nothing after this was read"


def test_tables_with_odd_names_and_columns_are_read(tmp_path: Path) -> None:
    db = sqlite3.connect(tmp_path / "a.db")
    db.execute('CREATE TABLE "a ""quoted"" name" ("select" TEXT, "b""c" TEXT, n INTEGER)')
    db.execute('INSERT INTO "a ""quoted"" name" VALUES (?, ?, 1)', ("one", TEXT.decode()))
    db.execute("CREATE TABLE without (k TEXT PRIMARY KEY, v TEXT) WITHOUT ROWID")
    db.execute("INSERT INTO without VALUES ('k', 'v')")
    db.commit()
    db.close()
    found = members((tmp_path / "a.db").read_bytes())
    assert TEXT in found['a "quoted" name']
    assert found["without"] == b"without.k = k\nwithout.v = v\n\n"


def test_large_tables_come_in_blocks(tmp_path: Path) -> None:
    db = sqlite3.connect(":memory:")
    db.execute("CREATE TABLE t (a)")
    db.executemany("INSERT INTO t VALUES (?)", (("x" * 1000,) for _ in range(9000)))
    db.execute("INSERT INTO t VALUES (?)", (TEXT.decode(),))
    db.commit()
    items = walked(db.serialize())
    assert all(isinstance(item, Member) and item.container == "t" for item in items)
    texts = [item.data for item in items if isinstance(item, Member)]
    assert len(texts) == 5
    assert b"".join(texts).count(b"t.a = ") == 9001


def test_a_damaged_page_costs_its_table_only() -> None:
    db = sqlite3.connect(":memory:")
    db.execute("PRAGMA page_size = 4096")
    for table in "ab":
        db.execute(f"CREATE TABLE {table} (v)")
        db.executemany(f"INSERT INTO {table} VALUES (?)", ((table * 500 + str(n),) for n in range(100)))  # noqa: S608
    db.commit()
    data = bytearray(db.serialize())
    (root,) = db.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'a'").fetchone()
    data[(root - 1) * 4096 : root * 4096] = b"\xff" * 4096
    items = walked(bytes(data))
    assert {item.what: item.why for item in items if isinstance(item, Skipped)} == {"a": "is damaged: DatabaseError"}
    assert any(isinstance(item, Member) and item.container == "b" for item in items)


def test_an_encrypted_pdf_is_told() -> None:
    encrypt = b"<</Filter/Standard/V 1/R 2/O<%s>/U<%s>/P -4>>" % (b"00" * 32, b"11" * 32)
    data = pdf(b"text").replace(b"/Root 1 0 R>>", b"/Root 1 0 R/ID[<00><00>]/Encrypt " + encrypt + b">>")
    assert failures(data) == {"": "pdf is encrypted"}


def test_a_pdf_gives_its_attachments() -> None:
    import pypdfium2

    document = pypdfium2.PdfDocument(pdf(b"text"))
    attachment = document.new_attachment("key.env")
    attachment.set_data(TEXT)
    out = io.BytesIO()
    document.save(out)
    assert members(out.getvalue())["key.env"] == TEXT


def test_a_plist_that_refers_to_itself_a_million_times_ends() -> None:
    nest: list[object] = ["laugh"]
    for _ in range(40):
        nest = [nest, nest]
    began = time.process_time()
    assert walked(plistlib.dumps(nest, fmt=plistlib.FMT_BINARY))
    assert time.process_time() - began < 5


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
