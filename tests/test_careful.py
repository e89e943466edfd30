"""Reading and replacing a file that somebody else may be touching."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from firedamp.storage import careful
from firedamp.storage.errors import Failure


def test_a_new_file_gets_the_mode_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "new"
    careful.replace(path, b"content", None, 0o640)
    assert path.read_bytes() == b"content"
    assert path.stat().st_mode & 0o777 == 0o640
    assert [each.name for each in tmp_path.iterdir()] == ["new"]


def test_a_replaced_file_keeps_its_mode_and_owner(tmp_path: Path) -> None:
    path = tmp_path / "old"
    path.write_bytes(b"before")
    path.chmod(0o604)
    before = careful.read(path)
    assert before is not None
    careful.replace(path, b"after", before)
    assert path.read_bytes() == b"after"
    assert path.stat().st_mode & 0o777 == 0o604
    assert (path.stat().st_uid, path.stat().st_gid) == (before.owner, before.group)


@pytest.mark.skipif(not hasattr(os, "setxattr"), reason="this system has other calls for them")
def test_a_replaced_file_keeps_its_access_list_and_other_attributes(tmp_path: Path) -> None:
    path = tmp_path / "old"
    path.write_bytes(b"before")
    # Version 2; the owner rw, user 4242 r, the group nothing, the mask r, others nothing (linux/posix_acl_xattr.h).
    entries = ((1, 6, -1), (2, 4, 4242), (4, 0, -1), (16, 4, -1), (32, 0, -1))
    listed = struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *each) for each in entries)
    try:
        os.setxattr(path, "user.origin", b"here")
        os.setxattr(path, "system.posix_acl_access", listed)
    except OSError:
        pytest.skip("this file system has no attributes")
    careful.replace(path, b"after", careful.read(path))
    assert os.getxattr(path, "user.origin") == b"here"
    assert os.getxattr(path, "system.posix_acl_access") == listed


def test_a_file_with_several_names_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "one"
    path.write_bytes(b"before")
    path.with_name("two").hardlink_to(path)
    with pytest.raises(Failure, match="2 names"):
        careful.replace(path, b"after", careful.read(path))
    assert {each.read_bytes() for each in tmp_path.iterdir()} == {b"before"}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_another_user_stays_theirs(tmp_path: Path) -> None:
    path = tmp_path / "theirs"
    path.write_bytes(b"before")
    os.chown(path, 4242, 4243)
    careful.replace(path, b"after", careful.read(path))
    assert (path.stat().st_uid, path.stat().st_gid) == (4242, 4243)


def test_what_does_not_exist_is_none(tmp_path: Path) -> None:
    assert careful.read(tmp_path / "nothing") is None


@pytest.mark.parametrize("kind", ["link", "fifo", "folder"])
def test_what_is_no_file_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / kind
    if kind == "link":
        (tmp_path / "target").write_text("secret")
        path.symlink_to(tmp_path / "target")
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.mkdir()
    with pytest.raises(Failure, match=kind):
        careful.read(path)


def test_a_folder_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(Failure, match="folder"):
        careful.read(tmp_path / "link" / "file")


def test_a_large_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(careful.LARGEST + 1)
    with pytest.raises(Failure, match="larger"):
        careful.read(path)


def test_a_file_that_changed_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "busy"
    path.write_bytes(b"before")
    before = careful.read(path)
    path.write_bytes(b"somebody was faster")
    with pytest.raises(Failure, match="changed"):
        careful.replace(path, b"after", before)
    assert path.read_bytes() == b"somebody was faster"
    path.unlink()
    with pytest.raises(Failure, match="vanished"):
        careful.replace(path, b"after", before)
    path.write_bytes(b"new")
    with pytest.raises(Failure, match="exists"):
        careful.replace(path, b"after", None)
    assert [each.name for each in tmp_path.iterdir()] == ["busy"], "no temporary file stays behind"
