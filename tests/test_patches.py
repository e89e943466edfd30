"""Binary patches, as git itself writes them: what they hold is read."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from tests.containers import zipped
from tests.repositories import Repository, leak
from tests.scans import Scan, scanner


@pytest.fixture
def scan(capsys: pytest.CaptureFixture[str]) -> Scan:
    return scanner(capsys)


def patched(path: Path, before: bytes, after: bytes) -> str:
    """Return what git writes for a binary file that becomes another."""
    repository = Repository(path)
    (path / "file").write_bytes(before)
    repository.commit("before")
    (path / "file").write_bytes(after)
    repository.commit("after")
    return repository.git("format-patch", "--stdout", "--binary", "HEAD~1") + "\n"


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_a_key_in_a_binary_patch_is_found_in_a_file_and_in_a_message(
    tmp_path: Path, scan: Scan, rng: random.Random, ends: str
) -> None:
    noise = rng.randbytes(3000)
    (new, text), (old, gone), (inserted, more), (member, packed) = (leak(rng) for _ in range(4))
    whole = patched(tmp_path / "1", b"\0", b"\0" + text.encode())
    reverse = patched(tmp_path / "4", b"\0" + gone.encode(), b"\0")
    delta = patched(tmp_path / "2", noise, noise[:1500] + more.encode() + noise[1500:])
    archive = patched(tmp_path / "3", b"\0", zipped({"a": packed.encode()}))
    assert "\ndelta " in delta
    delta = delta[delta.index("diff --git") :]  # no mail
    folder, repository = tmp_path / "folder", Repository(tmp_path / "r")
    folder.mkdir()
    for name, patch in (("1.patch", whole), ("2.patch", delta), ("3.patch", archive), ("4.patch", reverse)):
        (folder / name).write_bytes(patch.replace("\n", ends).encode())
        repository.commit(f"message\n\n{patch}")
    found = scan(folder)
    assert found.findings.keys() == {new, old, inserted, member}
    assert all(each["has_secret"] for each in found.findings.values())
    match = found.match(inserted)
    assert match["decoder"] == "git patch"
    lines = (folder / "2.patch").read_text().splitlines()
    assert lines[match["line"] - 2].startswith(("delta ", "literal "))
    assert scan(repository.path / ".git").findings.keys() == {new, old, inserted, member}


def test_a_damaged_line_of_a_binary_patch_costs_what_follows_it(tmp_path: Path, scan: Scan, rng: random.Random) -> None:
    key, text = leak(rng)
    patch = patched(tmp_path / "1", b"\0", b"\0" + text.encode() + rng.randbytes(500))
    lines = patch.splitlines()
    at = max(number for number, line in enumerate(lines) if line.startswith("z"))
    lines[at] = "z" + "~" * 65
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.patch").write_text("\n".join(lines))
    assert scan(tmp_path / "folder").findings.keys() == {key}
