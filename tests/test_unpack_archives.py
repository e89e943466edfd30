"""Archives and compressed streams: what is in them is found, as every tool writes them and as none should."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from backports import zstd
from tests.builders import noise
from tests.containers import ar, cpio, tarred, zipped
from tests.opening import TEXT, failures, members, tool, walked

from firedamp.scanner.budget import Limits
from firedamp.scanner.containers import Member
from firedamp.scanner.formats import container_of
from firedamp.storage.records import Skipped

MIB = 1 << 20


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_zip_gives_its_members_by_every_method(method: int) -> None:
    large = noise(1000) * 3000
    assert members(zipped({"a/key.env": TEXT, "large": large}, method)) == {"a/key.env": TEXT, "large": large}


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_a_tar_gives_its_members_in_every_form(form: int) -> None:
    long = "d" * 60 + "/" + "e" * 90
    larger = {"key.env": TEXT, long: TEXT + b"2", "large": noise(1000) * 3000}
    assert members(tarred(larger, form)) == larger


def test_joined_tars_and_the_leading_zeros_of_tapes_are_read_on() -> None:
    assert members(tarred({"one": TEXT}) + bytes(1024) + tarred({"two": TEXT})) == {"one": TEXT, "two": TEXT}


def test_git_archive_and_the_zip_tool_are_read(tmp_path: Path) -> None:
    (tmp_path / "key.env").write_bytes(TEXT)
    tool("git", "init", "-q", cwd=tmp_path)
    tool("git", "add", ".", cwd=tmp_path)
    tool("git", "-c", "user.name=A", "-c", "user.email=a@example.com", "commit", "-qm", "keys", cwd=tmp_path)
    for form in ("tar", "zip", "tar.gz"):
        found = members(tool("git", "archive", f"--format={form}", "HEAD", cwd=tmp_path))
        assert len(found.pop("", b"")) == (40 if form == "zip" else 0), "the zip's comment is the commit"
        assert found == {"key.env": TEXT}
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
def test_a_zip_behind_a_program_is_read_and_so_is_the_program(front: bytes) -> None:
    data = front + TEXT + zipped({"key.env": TEXT})
    found = {"": front + TEXT, "key.env": TEXT}
    assert members(data) == found
    inside = {f"app!{name}".removesuffix("!"): content for name, content in found.items()}
    assert members(tarred({"app": data})) == inside
    assert members(zipped({"app": data})) == inside
    assert members(gzip.compress(tarred({"app": data + bytes(2 * MIB)}))).keys() == {"app"}, "its end is no zip's"


def test_a_large_zip_behind_a_program_is_read_out_of_a_stream_or_told() -> None:
    program = b"\x7fELF" + noise(2 * MIB) + zipped({"key.env": TEXT})
    stream = gzip.compress(tarred({"app": program, "other": TEXT}), 1)
    assert members(stream)["app!key.env"] == TEXT
    assert failures(stream, Limits(held=MIB)) == {"app": "zip is larger than the 1 MiB that are held in memory"}
    assert walked(stream, Limits(held=MIB))[-1] == Member("other", TEXT)
    assert not failures(gzip.compress(tarred({"app": program[: 2 * MIB]}), 1), Limits(held=MIB))
    assert "app" in failures(gzip.compress(tarred({"app": program}), 1)[:MIB])


def test_the_comments_of_a_zip_are_read() -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        member = zipfile.ZipInfo("empty")
        member.comment = b"of a member"
        archive.writestr(member, b"")
        archive.comment = TEXT
    assert members(out.getvalue()) == {"": TEXT + b"\nof a member"}


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
    assert members(b"!<arch>\n" + header + name + TEXT + b"\n" * 60) == {name.decode(): TEXT}, "it is padded"


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
    for archive in (cpio(files), cpio_old(files), cpio_binary(files, "<"), cpio_binary(files, ">")):
        assert members(archive) == files


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress, bz2.compress])
def test_an_rpm_is_read_down_to_its_files(pack: object) -> None:
    def header(data: bytes) -> bytes:
        return b"\x8e\xad\xe8\x01" + bytes(4) + struct.pack(">II", 1, len(data)) + bytes(16) + data

    signature = header(b"s" * 5)
    rpm = b"\xed\xab\xee\xdb".ljust(96, b"\0") + signature + bytes(-len(signature) % 8) + header(b"postinstall " + TEXT)
    assert callable(pack)
    found = members(rpm + pack(cpio({"./etc/key": TEXT})))
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
    large = noise(1000) * 1500
    assert members(tool(*command, data=TEXT)) == {"content": TEXT}
    assert members(tool(*command, data=large) * 2) == {"content": large * 2}
    assert members(tool(*command, data=tarred({"x/key": TEXT}))) == {"x/key": TEXT}


def test_a_gzip_names_its_content_as_its_header_does() -> None:
    out = io.BytesIO()
    with gzip.GzipFile("secrets.env", "wb", fileobj=out) as file:
        file.write(TEXT)
    assert members(out.getvalue()) == {"secrets.env": TEXT}


def test_what_is_noted_in_the_headers_of_archives_and_streams_is_looked_at() -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        header = tarfile.TarInfo("key")
        header.pax_headers = {"SCHILY.xattr.user.note": TEXT.decode(), "comment": "a comment"}
        header.size = 1
        archive.addfile(header, io.BytesIO(b"x"))
    found = members(out.getvalue())
    assert found.pop("").split(b"\n") == [
        *b"SCHILY.xattr.user.note = ".join((b"", TEXT)).split(b"\n"),
        b"comment = a comment",
    ]
    assert found == {"key": b"x"}
    plain = gzip.compress(b"x", mtime=0)
    for flags, words, name in ((16, b"", "content"), (24, b"name\0", "name"), (28, b"\x02\0exname\0", "name")):
        commented = plain[:3] + bytes([flags]) + plain[4:10] + words + TEXT + b"\0" + plain[10:]
        assert members(commented) == {"": TEXT, name: b"x"}


def skippable(data: bytes, number: int = 0) -> bytes:
    return bytes([0x50 + number]) + b"\x2a\x4d\x18" + struct.pack("<I", len(data)) + data


def test_what_stands_in_skippable_frames_is_looked_at() -> None:
    x = zstd.compress(b"x")
    assert members(skippable(TEXT) + x) == {"": TEXT, "content": b"x"}
    pzstd = skippable(b"size") + x + skippable(TEXT, 15) + x + skippable(b"end")
    assert members(pzstd) == {"": b"size\n" + TEXT + b"\nend", "content": b"xx"}
    large = bytes(500_000) + TEXT
    assert members(skippable(large) + x)[""] == large
    assert members(x + skippable(large))[""] == large
    assert failures(skippable(bytes(MIB)) + x) == {}
    assert failures(skippable(bytes(MIB)) + x + skippable(b"x")) == {"": "holds more than 1 MiB in skippable frames"}
    assert failures(x + skippable(TEXT)[:-1]) == {"content": "ends early"}


def test_skippable_frames_behind_an_archive_are_looked_at() -> None:
    packed = zstd.compress(tarred({"key": b"the key"}) + bytes(MIB)) + skippable(TEXT)
    assert members(packed) == {"key": b"the key", "": TEXT}


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


def test_a_zip_by_a_method_that_is_not_read_is_told() -> None:
    data = bytearray(zipped({"key": TEXT}, zipfile.ZIP_STORED))
    data[data.rindex(b"PK\x01\x02") + 10] = 9
    assert failures(bytes(data)) == {"key": "is packed by method 9, which is not read"}


def test_a_zip_whose_directory_points_elsewhere_is_told() -> None:
    data = bytearray(zipped({"key": TEXT}))
    data[data.rindex(b"PK\x01\x02") + 42] = 9
    assert failures(bytes(data)) == {"key": "is not where the directory says"}


def test_folders_in_a_zip_are_no_members() -> None:
    data = zipped({"folder/": b"", "folder/key": TEXT})
    assert members(data) == {"folder/key": TEXT}
    assert [m.container for m in walked(data[:-40]) if isinstance(m, Member)] == ["folder/key"]


def test_large_members_of_a_zip_are_streamed_and_cut_where_they_are_damaged() -> None:
    large = noise(3 * MIB)
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA):
        assert members(zipped({"large": large, "key": TEXT}, method)) == {"large": large, "key": TEXT}
    data = bytearray(zipped({"large": bytes(2 * MIB) + large, "key": TEXT}))
    data[2 * MIB : 2 * MIB + 100] = b"\xff" * 100
    items = walked(bytes(data))
    assert items[-1] == Member("key", TEXT)


def test_a_zip_member_of_lzma_with_an_absurd_dictionary_is_refused() -> None:
    data = bytearray(zipped({"key": TEXT}, zipfile.ZIP_LZMA))
    at = data.index(b"\x05\x00\x5d")
    data[at + 3 : at + 7] = b"\xff\xff\xff\x7f"
    assert failures(bytes(data)) == {"key": "needs more memory than allowed"}


def test_a_lone_header_of_a_zip_gives_nothing() -> None:
    assert failures(b"PK\x03\x04" + bytes(10)) == {"": "zip has no readable directory"}


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"!<arch>\nnonsense", None),
        (ar({"a": b"a"}) + b"nonsense", "ar has a damaged header"),
        (ar({"a": b"a"}) + b"\n" * 60 + ar({"b": b"b"})[8:], "ar has a damaged header"),
        (b"!<arch>\n" + b"a".ljust(48) + b"x".ljust(10) + b"`\n", "ar has a damaged header"),
        (b"!<ar", None),
        (b"070701" + b"0" * 103, None),
        (cpio({"a": b"a"})[:-100], "cpio ends early"),
        (b"070701" + b"0" * 104, "cpio has a damaged header"),
        (b"070707" + b"0" * 70 + b"nonsense", "cpio has a damaged header"),
        (b"070701" + b"g" * 104, None),
        (b"070701123456 12.5\n070701123457 12.6\n" * 9, None),
        (b"PK\x03\x04 is how a zip begins\n", None),
        (b"PK\x03\x04", None),
        (b"BZh91AY&SY is how bzip2 begins\n", None),
        (b"!<arch>\nis how an archive of objects begins: " * 9, None),
        (b"SQLite format 3\x00", None),
        (b"\xed\xab\xee\xdb" + bytes(200), "rpm has a damaged header"),
        (b"\xed\xab\xee\xdb" + bytes(20), "rpm ends early"),
        (b"SQLite format 3\x00" + bytes(84), "sqlite is damaged: DatabaseError"),
        (b"bplist00" + b"\xff" * 100, "plist is damaged"),
    ],
)
def test_damaged_headers_are_told(data: bytes, why: str | None) -> None:
    assert (failures(data) if container_of(data) else {"": None}) == {"": why}


def test_a_cpio_without_its_last_entry_is_read() -> None:
    whole = cpio({"key": TEXT})
    assert members(whole[: whole.index(b"TRAILER") - 110])["key"] == TEXT
    assert members(whole[: whole.index(b"TRAILER") - 110] + bytes(512))["key"] == TEXT


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_an_initial_ramdisk_is_read_to_its_last_archive(pack: Callable[[bytes], bytes]) -> None:
    early, late = cpio({"microcode": b"code"}), cpio({"etc/key": TEXT})
    for padding in (bytes(2), bytes(700_000)):
        found = {"microcode": b"code", "etc/key": TEXT}
        assert members(early + padding + pack(late)) == found
        assert members(gzip.compress(early + padding + pack(late))) == found
    assert members(early + bytes(512) + TEXT) == {"microcode": b"code", "": TEXT}


def test_what_stands_behind_the_end_of_an_archive_is_looked_at() -> None:
    for behind in (TEXT, noise(3000) + TEXT):
        found = members(tarred({"key": b"inside"}) + behind)
        assert found == {"key": b"inside", "": behind}
    assert failures(tarred({"key": TEXT})[:1024] + bytes(512) + TEXT) == {"": "tar ends early"}
    assert members(ar({"key": TEXT}) + b"\n") == {"key": TEXT}


def test_older_frames_of_lz4_are_read_and_their_bombs_cut_off() -> None:
    large = noise(1000) * 12_000
    data = tool("lz4", "-l", "-qc", data=large)
    assert sum(item.data.count(large[:1000]) for item in walked(data) if isinstance(item, Member)) >= 12_000
    assert TEXT in members(tool("lz4", "-l", "-qc", data=TEXT * 9))["content"]
    assert members(tool("lz4", "-l", "-qc", data=tarred({"x/key": TEXT})) * 2)["x/key"] == TEXT
    bomb = tool("lz4", "-l", "-qc", data=bytes(64 * MIB))
    assert failures(bomb)["content"] == "unpacks to more than 200 times its size (unpack_ratio)"
    assert failures(data[:-9])["content"] == "ends early"
    assert failures(data + b"\xff" * 9)["content"] == "is followed by other bytes"
    assert failures(data[:8] + b"\xff" * (len(data) - 8))["content"] == "is damaged: LZ4BlockError"


def test_a_large_member_of_a_stream_that_is_left_is_passed_over() -> None:
    files = {"large.zip": zipped({"a": noise(2 * MIB)}, zipfile.ZIP_STORED), "key": TEXT}
    data = gzip.compress(tarred(files), 1)
    items = walked(data, Limits(held=MIB))
    assert [item.what for item in items if isinstance(item, Skipped)] == ["large.zip"]
    assert items[-1] == Member("key", TEXT)


def test_unreadable_members_are_counted_after_the_first_hundred() -> None:
    data = bytearray(zipped({f"{number}": b"x" for number in range(130)}, zipfile.ZIP_STORED))
    at = data.index(b"PK\x01\x02")
    while at >= 0:
        data[at + 8] |= 1
        at = data.find(b"PK\x01\x02", at + 1)
    skipped = [item for item in walked(bytes(data)) if isinstance(item, Skipped)]
    assert len(skipped) == 101
    assert skipped[-1].count == 30
