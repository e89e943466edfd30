"""7z archives, as py7zr writes them: every method, solid and not, and what is done about those that are not read."""

from __future__ import annotations

import io
import time
import zlib

import py7zr
import pytest
from tests.builders import noise

from firedamp.scanner.budget import Budget, Limits, in_memory
from firedamp.scanner.containers import Member, opened, walk
from firedamp.scanner.formats import container_of
from firedamp.storage.records import Skipped

FILES = {"a/key.env": b"the key", "large": noise(1000) * 2500, "last": b"the last"}
CHAINS = {
    "lzma2": [{"id": py7zr.FILTER_LZMA2, "preset": 5}],
    "lzma": [{"id": py7zr.FILTER_LZMA}],
    "deflate": [{"id": py7zr.FILTER_DEFLATE}],
    "bzip2": [{"id": py7zr.FILTER_BZIP2}],
    "zstd": [{"id": py7zr.FILTER_ZSTD}],
    "copy": [{"id": py7zr.FILTER_COPY}],
    "bcj": [{"id": py7zr.FILTER_X86}, {"id": py7zr.FILTER_LZMA2, "preset": 5}],
    "delta": [{"id": py7zr.FILTER_DELTA}, {"id": py7zr.FILTER_LZMA2, "preset": 5}],
}


def packed(files: dict[str, bytes], password: str | None = None, **options: object) -> bytes:
    out = io.BytesIO()
    with py7zr.SevenZipFile(out, "w", password=password, **options) as archive:
        for name, data in files.items():
            archive.writestr(data, name)
    return out.getvalue()


def walked(data: bytes, limits: Limits | None = None) -> list[Member | Skipped]:
    assert container_of(data) == "7z"
    budget = Budget(limits or Limits(), len(data), time.monotonic)
    return list(walk("7z", opened("7z", in_memory(data), budget), budget, lambda _: True))


def failures(data: bytes, limits: Limits | None = None) -> dict[str, str]:
    return {item.what: item.why for item in walked(data, limits) if isinstance(item, Skipped)}


@pytest.mark.parametrize("chain", CHAINS)
def test_members_come_out_whole_whatever_packs_them(chain: str) -> None:
    found = walked(packed(FILES | {"empty": b""}, filters=CHAINS[chain]))
    assert {item.container: item.data for item in found if isinstance(item, Member)} == FILES
    assert not [item for item in found if isinstance(item, Skipped)]


def test_a_method_that_is_not_read_is_told_for_every_member() -> None:
    data = packed(FILES, filters=[{"id": py7zr.FILTER_PPMD, "order": 6, "mem": 24}])
    assert failures(data) == dict.fromkeys(FILES, "is packed by a method that is not read (PPMd)")


@pytest.mark.parametrize(
    ("chain", "method", "other", "name"),
    [
        ("deflate", b"\x04\x01\x08", b"\x04\x01\x09", " (Deflate64)"),
        ("bcj", b"\x03\x03\x01\x03", b"\x03\x03\x01\x1b", " (BCJ2)"),
        ("deflate", b"\x04\x01\x08", b"\x04\x01\x7f", ""),
    ],
)
def test_methods_that_py7zr_does_not_write_are_told_too(chain: str, method: bytes, other: bytes, name: str) -> None:
    out = io.BytesIO()
    with py7zr.SevenZipFile(out, "w", filters=CHAINS[chain]) as archive:
        archive.set_encoded_header_mode(False)
        archive.writestr(b"x" * 100, "a")
    data = bytearray(out.getvalue())
    at, size = (int.from_bytes(data[place : place + 8], "little") for place in (12, 20))
    directory = bytes(data[32 + at : 32 + at + size]).replace(method, other)
    data[32 + at : 32 + at + size] = directory
    data[28:32] = zlib.crc32(directory).to_bytes(4, "little")
    data[8:12] = zlib.crc32(bytes(data[12:32])).to_bytes(4, "little")
    assert failures(bytes(data)) == {"a": f"is packed by a method that is not read{name}"}


def test_encryption_is_told() -> None:
    assert failures(packed(FILES, password="x")) == dict.fromkeys(FILES, "is encrypted")
    hidden = packed(FILES, password="x", header_encryption=True)
    assert failures(hidden) == {"": "7z has a directory that is encrypted"}


def test_an_empty_archive_is_empty() -> None:
    assert walked(packed({})) == []


def test_a_damaged_archive_gives_what_came_before() -> None:
    data = packed(FILES, filters=CHAINS["copy"])
    assert failures(data[:20]) == {"": "7z ends early"}
    assert failures(data[:-10]) == {"": "7z ends early"}
    whole = bytearray(packed({"first": noise(5000), "second": noise(3_000_000)}, filters=CHAINS["lzma"]))
    whole[2_000_000] ^= 0xFF
    items = walked(bytes(whole))
    assert isinstance(items[0], Member)
    assert items[0].container == "first"


@pytest.mark.parametrize("chain", ["copy", "bcj", "lzma"])
def test_every_wrong_byte_in_the_directory_is_survived(chain: str) -> None:
    data = packed({"a": b"x" * 100, "b": b"y" * 100, "empty": b""}, filters=CHAINS[chain], header_encryption=False)
    plain = io.BytesIO()
    with py7zr.SevenZipFile(plain, "w", filters=CHAINS[chain]) as archive:
        archive.set_encoded_header_mode(False)
        archive.writestr(b"x" * 100, "a")
        archive.writestr(b"y" * 100, "b")
    for sound in (data, plain.getvalue()):
        for at in range(12, len(sound)):
            for value in (0, 1, 2, 0x10, 0x7F, 0xFF):
                items = walked(sound[:at] + bytes([value]) + sound[at + 1 :])
                assert sum(len(item.data) for item in items if isinstance(item, Member)) <= 1000


def test_a_directory_of_absurd_size_is_refused() -> None:
    data = bytearray(packed(FILES))
    data[20:28] = (1 << 40).to_bytes(8, "little")
    assert failures(bytes(data)) == {"": "7z has a directory of absurd size"}


def test_an_absurd_dictionary_is_refused() -> None:
    data = packed(FILES, filters=[{"id": py7zr.FILTER_LZMA2, "dict_size": 1 << 27}])
    assert failures(data) == dict.fromkeys(FILES, "needs more memory than allowed")
