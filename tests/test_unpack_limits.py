"""Hostile, damaged and endless containers: no limit is passed, and what is cut off is told."""

from __future__ import annotations

import gzip
import io
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path

import pytest
from tests.builders import noise
from tests.containers import reftable_block, tarred, zipped
from tests.opening import TEXT, failures, members, tool, walked

from firedamp.scanner.budget import Budget, Limits, in_memory
from firedamp.scanner.containers import Member, opened, walk
from firedamp.storage.records import Outcome, Skipped

MIB = 1 << 20


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
    assert failures(data) == {"content": "unpacks to more than 200 times its size (unpack_ratio)"}


def test_a_file_unpacks_to_its_size_limit_at_most() -> None:
    data = gzip.compress(noise(3 * MIB) + TEXT, 0)
    assert failures(data, Limits(size=2 * MIB)) == {
        "content": "unpacks to more than 2 MiB (unpack_bytes); nothing after this was read"
    }


def test_a_bomb_in_an_archive_is_cut_off_and_the_next_member_read() -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("noise", noise(MIB))
        archive.writestr("bomb", bytes(40 * MIB))
        archive.writestr("key.env", TEXT)
    items = walked(out.getvalue())
    assert {i.what: i.why for i in items if isinstance(i, Skipped)} == {
        "bomb": "unpacks to more than 200 times its size (unpack_ratio)"
    }
    assert items[-1] == Member("key.env", TEXT)


def reflog(text: bytes, level: int = -1) -> bytes:
    """Return a block of a reftable that holds text."""
    return b"g" + (4 + len(text)).to_bytes(3) + zlib.compress(text, level)


def test_a_reftable_is_read_past_what_only_looks_like_a_block_and_past_what_does_not_shrink() -> None:
    head, large = b"REFT\1".ljust(24, b"\0"), noise(2 * MIB)
    lies = b"g\0\0\1" + zlib.compress(b"longer than it says")
    table = head + b"g\0\0\1x\x9c" + lies + reflog(large, 1) + reflog(TEXT)
    assert [large, TEXT] == [each for each in members(table).values() if each in {large, TEXT}]


@pytest.mark.parametrize(
    "damage",
    [
        b"r\0\0\x40" + b"\0\x28names" + b"\xff" * 20,
        b"r\0\0\x40",
        b"r\0\0\x24" + b"\7\x08a" + bytes(5),
        b"r\xff\xff\xff" + b"\0\x08a" + bytes(40),
    ],
)
def test_names_of_a_damaged_reftable_are_told(damage: bytes) -> None:
    table = b"REFT\1".ljust(24, b"\0") + damage + reflog(TEXT)
    assert failures(table) == {"": "has a damaged block of refs, whose names were not all put together"}
    assert [item.data for item in walked(table) if isinstance(item, Member)] == [TEXT]


def whole_reftable(logs: bytes, refs: bytes = b"", index: bytes = b"", *, version: int = 1) -> bytes:
    """Return a reftable with a footer, as git writes it: of refs alone and of reflogs alone no place is told."""
    head = b"REFT" + bytes([version]) + bytes(19) + b"sha1" * (version - 1)
    places = [0, 0, 0, len(head + refs) if refs and logs else 0, len(head + refs + logs) if index else 0]
    footer = head + struct.pack(">5Q", *places)
    return head + refs + logs + index + footer + zlib.crc32(footer).to_bytes(4)


@pytest.mark.parametrize("version", [1, 2])
def test_reflogs_of_a_damaged_reftable_are_told(version: int) -> None:
    head, others = 24 + 4 * (version - 1), (b"other " * 50, b"more " * 50)
    first = b"g" + (4 + head + len(TEXT)).to_bytes(3) + zlib.compress(TEXT)
    logs, refs = b"".join(map(reflog, (TEXT, *others))), reftable_block(b"r", head, (b"refs/x", 0, b"\0"))
    last = reflog(others[1])
    for whole in (
        whole_reftable(b"", refs, version=version),
        whole_reftable(logs, refs, version=version),
        whole_reftable(logs, refs, b"i\0\0\4", version=version),
        whole_reftable(first + last, version=version),
    ):
        assert failures(whole) == {}
    for logs_now in (logs[:-20] + b"\xff" + logs[-19:], logs[:-1], logs[: -len(last)] + b"G" + last[1:], logs + b"\0"):
        for damaged in (whole_reftable(logs_now, refs, version=version), whole_reftable(logs_now, refs, b"i\0\0\4")):
            assert failures(damaged) == {"": "has a damaged block of reflogs, of which not all was read"}
            assert TEXT in [item.data for item in walked(damaged) if isinstance(item, Member)]


def test_names_of_a_reftable_that_share_all_they_can_stop_at_the_ratio() -> None:
    block = reftable_block(b"r", 24, (b"r" * 16_511, 0, b"\0"))
    records, restarts = block[4:-5] + b"\xff\x7f\x08r\0" * 6_000, block[-5:]
    size = 24 + 4 + len(records) + len(restarts)
    table = b"REFT\1".ljust(24, b"\0") + b"r" + size.to_bytes(3) + records + restarts
    assert failures(table) == {
        "": "unpacks to more than 200 times its size (unpack_ratio); nothing after this was read"
    }


def test_blocks_of_a_reftable_that_share_a_bomb_stop_at_the_ratio() -> None:
    """Each holds, stored, how the next one begins; the last one is damaged at its end."""
    engine = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = engine.compress(bytes(15 * MIB)) + engine.flush(zlib.Z_SYNC_FLUSH) + b"\7"
    begin = b"g\xff\xff\xff\x78\x9c"
    stored = b"\0" + struct.pack("<HH", len(begin), len(begin) ^ 0xFFFF)
    table = b"REFT\1".ljust(24, b"\0") + 200 * (begin + stored) + begin + bomb
    assert failures(table) == {
        "log 4": "unpacks to more than 200 times its size (unpack_ratio); nothing after this was read"
    }


def test_a_bomb_deep_inside_is_cut_off_and_its_neighbours_read() -> None:
    bomb = zlib.compressobj(9, zlib.DEFLATED, 31)
    zeros = bytes(16 * MIB)
    inner = b"".join(bomb.compress(zeros) for _ in range(6)) + bomb.flush()
    for wrap in (zipped, tarred, lambda files: gzip.compress(tarred(files), 9)):
        items = walked(wrap({"a.zip": zipped({"bomb.gz": inner, "key": TEXT}), "key": TEXT}))
        found = {item.container for item in items if isinstance(item, Member) and item.data == TEXT}
        assert found == {"a.zip!key", "key"}
        (skipped,) = (item for item in items if isinstance(item, Skipped))
        assert skipped.what == "a.zip!bomb.gz!content"
        assert skipped.why == "unpacks to more than 200 times its size (unpack_ratio)"


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
    assert [i.why for i in items if isinstance(i, Skipped)][-1].startswith(
        "unpacks to more than 200 times its size (unpack_ratio)"
    )
    stored = zipped({"0": noise(MIB)}, zipfile.ZIP_STORED)
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
    assert failures(zipped({"8": nest})) == {"8!7!6!5!4!3!2!1": "zip is nested deeper than 8 (unpack_depth)"}


def test_a_file_that_holds_itself_ends_at_the_depth_limit() -> None:
    """The gzip quine of Russ Cox, https://research.swtch.com/zip, made anew: stored blocks that print themselves."""
    nest = gzip.compress(TEXT)
    for _ in range(20):
        nest = gzip.compress(nest)
    assert failures(nest) == {"": "gzip is nested deeper than 8 (unpack_depth)"}


def test_no_container_gives_more_than_its_members() -> None:
    data = tarred({str(number): TEXT for number in range(30)})
    items = walked(data, Limits(members=20))
    assert len([i for i in items if isinstance(i, Member)]) == 20
    assert items[-1] == Skipped(outcome=Outcome.FAILED, what="", why="tar holds more than 20 members (unpack_members)")


def test_a_cut_tar_gives_what_came_before() -> None:
    data = tarred({"one": TEXT, "two": noise(3 * MIB)})
    for cut in (data[: 2 * MIB], gzip.compress(data[: 2 * MIB]), gzip.compress(data)[: 2 * MIB]):
        items = walked(cut)
        assert items[0] == Member("one", TEXT)
        assert any(isinstance(i, Skipped) and i.why.endswith("ends early") for i in items)
        assert sum(len(i.data) for i in items if isinstance(i, Member)) > MIB
    assert failures(data[: 512 + 1024 + 100]) == {"two": "ends early", "": "tar ends early"}


def test_a_cut_or_damaged_stream_gives_what_came_before() -> None:
    whole = gzip.compress(noise(MIB), 1)
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
    assert items[-1].why == "took longer than 5 s (unpack_time); nothing after this was read"


def test_what_needs_memory_is_refused() -> None:
    inner = zipped({"a": noise(3 * MIB)}, zipfile.ZIP_STORED)
    assert failures(gzip.compress(inner, 1), Limits(held=MIB)) == {
        "": "zip is larger than the 1 MiB that are held in memory"
    }


def test_a_window_larger_than_memory_is_named() -> None:
    large = tool("zstd", "-q", "--long=27", "-c", data=noise(3 * MIB))
    assert failures(large) == {"content": "has a window larger than what is held in memory"}
