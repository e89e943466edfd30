"""Keys in names: of files, of folders, of what archives hold. No secret in a name is kept as a path is."""

from __future__ import annotations

import os
import random
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.builders import make_key_id
from tests.containers import cpio, seven, tarred, zipped
from tests.scans import Scan, scanner


@pytest.fixture
def scan(capsys: pytest.CaptureFixture[str]) -> Scan:
    return scanner(capsys)


def a_secret(rng: random.Random) -> str:
    """Return a secret that a file's name can hold."""
    return "a1B" + "".join(rng.choices("ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz23456789+", k=37))


def places(scanned: dict[str, object]) -> set[tuple[object, ...]]:
    matches = scanned["matches"]
    assert isinstance(matches, list)
    return {(m["path"], m["container"], m["line"], m["column"]) for m in matches}


def test_a_key_in_the_name_of_a_file_or_folder_is_told_by_its_path(
    tmp_path: Path, scan: Scan, rng: random.Random
) -> None:
    file, folder, empty = (make_key_id(rng) for _ in range(3))
    root = tmp_path / "root"
    (root / folder / "below").mkdir(parents=True)
    (root / folder / "below" / "notes.txt").write_text("nothing")
    (root / f"{empty}_accessKeys.csv").touch()
    (root / f"{file}.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    for _ in range(2):  # the second scan opens nothing, and tells the same
        found = scan(root)
        assert found.status == 1
        assert places(found.findings[file]) == {(str(root / f"{file}.png"), "", None, None)}
        assert places(found.findings[folder]) == {(str(root / folder), "", None, None)}
        assert places(found.findings[empty]) == {(str(root / f"{empty}_accessKeys.csv"), "", None, None)}


def test_a_renamed_file_or_folder_holds_its_key_no_longer(tmp_path: Path, scan: Scan, rng: random.Random) -> None:
    file, folder, root = make_key_id(rng), make_key_id(rng), tmp_path / "root"
    (root / folder).mkdir(parents=True)
    (root / folder / "notes.txt").write_text("nothing")
    (root / f"{file}.csv").write_text("nothing")
    assert scan(root).findings.keys() == {file, folder}
    (root / f"{file}.csv").rename(root / "new.csv")
    (root / folder).rename(root / "new")
    found = scan(root)
    assert (found.status, found.findings) == (0, {})


def test_what_is_written_into_a_file_does_not_hide_the_key_in_its_name(
    tmp_path: Path, scan: Scan, rng: random.Random
) -> None:
    name, inside = make_key_id(rng), make_key_id(rng)
    file = tmp_path / "root" / f"{name}.csv"
    file.parent.mkdir()
    for content in (f"key = {inside}", "nothing", name):
        file.write_text(content)
        found = scan(file.parent).findings
        assert (str(file), "", None, None) in places(found[name])
        assert (inside in found) is (inside in content)
    assert (str(file), "", 1, 1) in places(found[name])


def test_a_pair_in_a_name_is_told_by_its_folder_and_its_secret_is_kept_nowhere(
    tmp_path: Path, scan: Scan, rng: random.Random
) -> None:
    key, secret, root = make_key_id(rng), a_secret(rng), tmp_path / "root"
    (root / "keys").mkdir(parents=True)
    (root / "keys" / f"{key}:{secret}").touch()
    (root / "keys" / "other").touch()
    database = tmp_path / "db"
    for _ in range(2):
        found = scan(root, options=("--offline", "--db", str(database)))
        assert found.findings[key]["has_secret"]
        assert places(found.findings[key]) == {(str(root / "keys"), "", None, None)}
    shown = scan(root, options=("--offline", "--db", str(database), "--show-secrets"))
    assert shown.findings[key]["secret"] == secret, "it is read again from the name"
    assert not any(secret.encode() in file.read_bytes() for file in tmp_path.glob("db*"))
    (root / "keys" / f"{key}:{secret}").unlink()
    assert not scan(root, options=("--offline", "--db", str(database))).findings


def test_names_in_places_that_are_left_out_are_not_looked_at(tmp_path: Path, scan: Scan, rng: random.Random) -> None:
    (tmp_path / "root" / "node_modules" / make_key_id(rng)).mkdir(parents=True)
    (tmp_path / "root" / "file").write_text("nothing")
    assert not scan(tmp_path / "root").findings


def test_a_key_in_a_members_name_is_told_once_by_what_it_names(tmp_path: Path, scan: Scan, rng: random.Random) -> None:
    file, folder, pair, secret = make_key_id(rng), make_key_id(rng), make_key_id(rng), a_secret(rng)
    inner = tarred({f"{pair}:{secret}": b"nothing"})
    deep = f"src/main/java/com/example/resources/{folder}/{file}.csv"
    outer = {
        f"a/{file}.csv": b"nothing",
        deep: b"nothing",
        f"{folder}/one": b"1",
        f"{folder}/two": b"2",
        "inner.tar": inner,
    }
    archive = tmp_path / "root" / "outer.zip"
    archive.parent.mkdir()
    archive.write_bytes(zipped(outer))
    found = scan(archive.parent, options=("--offline", "--show-secrets")).findings
    assert places(found[file]) == {(str(archive), name, None, None) for name in (f"a/{file}.csv", deep)}
    assert {each[1] for each in places(found[folder])} == {folder, deep.rpartition("/")[0]}
    assert places(found[pair]) == {(str(archive), "inner.tar", None, None)}
    assert found[pair]["secret"] == secret


@pytest.mark.parametrize("pack", [tarred, zipped, seven, cpio])
def test_a_key_in_the_name_of_an_empty_member_is_told(
    tmp_path: Path, scan: Scan, rng: random.Random, pack: Callable[[dict[str, bytes]], bytes]
) -> None:
    key, archive = make_key_id(rng), tmp_path / "root" / "archive"
    archive.parent.mkdir()
    archive.write_bytes(pack({"x": b"nothing", f"{key}.csv": b"", "y": b"nothing"}))
    assert places(scan(archive.parent).findings[key]) == {(str(archive), f"{key}.csv", None, None)}


def test_a_key_in_the_name_of_an_empty_folder_of_an_archive_is_told(
    tmp_path: Path, scan: Scan, rng: random.Random
) -> None:
    in_tar, in_zip, root = make_key_id(rng), make_key_id(rng), tmp_path / "root"
    root.mkdir()
    with tarfile.open(root / "a.tar", "w") as archive:
        folder = tarfile.TarInfo(f"./{in_tar}")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
    (root / "a.zip").write_bytes(zipped({f"a/{in_zip}/": b""}))
    assert scan(root).findings.keys() == {in_tar, in_zip}


def test_paths_that_no_system_has_are_told_by_their_archive(tmp_path: Path, scan: Scan, rng: random.Random) -> None:
    keys = [make_key_id(rng) for _ in range(300)]
    archive = tmp_path / "root" / "a.tar"
    archive.parent.mkdir()
    archive.write_bytes(tarred({f"{number}/" + "/".join(keys): b"nothing" for number in range(100)}))
    found = scan(archive.parent)
    assert found.findings.keys() == {*keys}
    assert {place for key in keys for place in places(found.findings[key])} == {(str(archive), "", None, None)}
    assert found.summary["complete"], "each part of each path told by itself takes 200 MB"


def test_the_name_of_a_target_itself_is_looked_at(tmp_path: Path, scan: Scan, rng: random.Random) -> None:
    file, folder, pair = (make_key_id(rng) for _ in range(3))
    paired = f"{pair}:{a_secret(rng)}"
    (tmp_path / f"{file}.csv").write_text("nothing")
    (tmp_path / paired).write_text("nothing")
    (tmp_path / folder).mkdir()
    (tmp_path / folder / "notes.txt").write_text("nothing")
    for name, key, told in (
        (f"{file}.csv", file, f"{file}.csv"), (folder, folder, folder), (paired, pair, f"{pair}:[secret]"),
    ):  # fmt: skip
        for _ in range(2):
            assert places(scan(tmp_path / name).findings[key]) == {(str(tmp_path / told), "", None, None)}


def test_many_pairs_in_the_names_of_one_folder_do_not_hold_the_scan(
    tmp_path: Path, scan: Scan, rng: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, listed = tmp_path / "root", list[object]()
    root.mkdir()
    for _ in range(30):
        (root / f"{make_key_id(rng)}:{a_secret(rng)}").touch()
    real = os.listdir

    def listdir(path: bytes) -> list[bytes]:
        listed.append(path)
        return real(path)

    assert len(scan(root).findings) == 30
    monkeypatch.setattr(os, "listdir", listdir)
    assert len(scan(root).findings) == 30
    assert listed.count(os.fsencode(root)) <= 2
