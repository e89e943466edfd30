"""Secrets in names: whatever is read, told or remembered of a path, a chain or a message, no secret in it is."""

from __future__ import annotations

import json
import os
import random
import time
from pathlib import Path

import pytest
from tests.builders import make_key_id, make_token
from tests.containers import tarred, zipped
from tests.repositories import Repository, leak
from tests.scans import Scan, scanner

from firedamp.service import cli


class Names:
    """Makes names with a pair in them, and knows every secret that it gave away."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.secrets: list[str] = []

    def secret(self) -> str:
        letters = "ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz23456789+"
        self.secrets.append("a1B" + "".join(self.rng.choices(letters, k=37)))
        return self.secrets[-1]

    def pair(self) -> str:
        return f"{make_key_id(self.rng)}:{self.secret()}"

    def told_in(self, written: bytes) -> list[int]:
        return [number for number, secret in enumerate(self.secrets) if secret.encode() in written]


@pytest.fixture
def scan(capsys: pytest.CaptureFixture[str]) -> Scan:
    return scanner(capsys)


def secret_in(text: str) -> str:
    return text.rpartition(" = ")[2].strip()


@pytest.fixture
def names(rng: random.Random) -> Names:
    return Names(rng)


def everything_of(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_no_secret_in_a_path_is_written_anywhere(
    tmp_path: Path, names: Names, rng: random.Random, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, kept = tmp_path / "root", tmp_path / "kept"
    kept.mkdir()
    found = list[str]()

    def a_leak() -> str:
        key, text = leak(rng)
        found.append(key)
        return text

    root.mkdir()
    (root / f"{names.pair()}.txt").write_text(a_leak())
    (root / names.pair() / "below").mkdir(parents=True)
    (root / names.pair()).mkdir()
    folder = root / names.pair()
    folder.mkdir()
    (folder / "config").write_text(a_leak())
    (root / f"aws_secret_access_key={names.secret()}").write_text(a_leak())
    names.secrets.append(make_token(rng, 180).replace("/", "_"))
    (root / names.secrets[-1]).write_text(a_leak())
    login = root / "https:" / f"deploy:{names.secret()}@git.example.org"
    login.mkdir(parents=True)
    (login / "config").write_text(a_leak())
    (root / names.pair()).symlink_to(tmp_path / names.pair())
    os.mkfifo(root / names.pair())
    (root / "a.zip").write_bytes(zipped({
        f"{names.pair()}.txt": a_leak().encode(), f"{names.pair()}/b.tar": tarred({names.pair(): a_leak().encode()}),
        f"{names.pair()}.zip": b"PK\x03\x04 damaged",
    }))  # fmt: skip
    (root / f"{names.pair()}.zip").write_bytes(b"PK\x03\x04" + bytes(100))
    (root / f"{names.pair()}.tar").write_bytes(tarred({"x": a_leak().encode()}))
    repository = Repository(root / f"{names.pair()}")
    repository.commit("first", {f"{names.pair()}.txt": a_leak(), f"{names.pair()}/x": a_leak()})
    repository.commit("second", {f"{make_key_id(rng)}/{names.secret()}": a_leak()})
    repository.write(f"staged {names.pair()}", a_leak())
    repository.git("add", "--all")
    repository.git("branch", f"{names.pair()}".replace(":", "_"), "HEAD")
    (repository.path / ".git" / names.pair()).write_text(a_leak())
    (repository.path / ".git" / "modules" / names.pair()).mkdir(parents=True)
    with (repository.path / ".git" / "objects" / "info" / "alternates").open("w") as file:
        file.write(f"/nowhere/{names.pair()}\n")
    broken = Repository(root / "broken" / names.pair())
    (broken.path / ".git" / "HEAD").unlink()
    closed = Repository(root / "closed")
    closed.commit("x", {"x": a_leak()})
    bundle = root / f"{names.pair()}.bundle"
    closed.git("bundle", "create", "--quiet", str(bundle), "--all")
    cut = root / f"{names.pair()}.bundle"
    cut.write_bytes(bundle.read_bytes()[:-30])
    database = ("--db", str(kept / "db"))
    for more in (("table",), ("table", "--all"), ("jsonl",), ("sarif",), ("csv",)):
        cli.main(["scan", str(root), "--offline", *database, "--format", *more])
    for target in (folder, repository.path, cut, bundle, root / names.pair(), "/nowhere/" + names.pair()):
        cli.main(["scan", str(target), "--offline", *database])
    monkeypatch.chdir(repository.path)
    config = ("--config", str(folder / "x.toml"))
    (folder / "x.toml").touch()
    for command in (
        ["scan", "--staged", str(repository.path), "--offline"], ["findings", "list", "--format", "json"],
        ["findings", "list"], ["findings", "export"], ["findings", "show", found[0]], ["key", "show", found[0]],
        ["scan", str(root), "--offline", "--write-baseline", str(kept / "baseline")],
        ["scan", str(root), "--offline", "--output", str(kept / "out")],
        ["scan", f"https://127.0.0.1:9/{names.pair()}.git", "--offline"],
        ["scan", f"https://127.0.0.1:9/{names.pair()}.git"],
        ["scan", str(root), "--baseline", str(tmp_path / names.pair())],
        ["scan", f"--config={tmp_path / names.pair()}", "x"], ["scan", f"--{names.pair()}"],
        ["findings", "list", "--by", "owner"],
        ["hook", "install", "pre-commit"], ["hook", "uninstall", "pre-commit"], ["config", "check"],
    ):  # fmt: skip
        cli.main([*command, *database, *config])
    printed = capfd.readouterr()
    written = (printed.out + printed.err).encode() + everything_of(kept)
    lines = [
        line.decode(errors="replace")[:300]
        for line in written.splitlines()
        if any(secret.encode() in line for secret in names.secrets)
    ]
    assert names.told_in(written) == [], "\n".join(lines[:40])


def test_a_file_below_a_masked_name_is_found_again_and_its_finding_kept(
    tmp_path: Path, scan: Scan, names: Names, rng: random.Random
) -> None:
    root, pair = tmp_path / "root", names.pair()
    (root / pair / "deep").mkdir(parents=True)
    (key, text), (other, more) = leak(rng), leak(rng)
    (root / pair / "deep" / f"é{names.secret()}.txt").write_text(text)
    archive = root / pair / "deep" / "a.zip"
    archive.write_bytes(zipped({f"{names.pair()}.txt": more.encode()}))
    time.sleep(0.2)  # what changed in this very moment is read once more
    told = f"{root}/{pair[:21]}[secret]/deep"
    first = scan(root)
    assert first.match(key)["path"] == f"{told}/é[secret].txt"
    assert first.match(other)["path"] == f"{told}/a.zip"
    assert first.match(other)["container"].endswith(":[secret].txt")
    assert cli.main(["findings", "set", key, "--state", "accepted", "--reason", "a test"]) == 0
    again = scan(root, options=("--offline", "--show-secrets", "--state", "open", "--state", "accepted"))
    assert again.summary["read"]["files"] == 0, "nothing changed, so nothing was opened"
    assert again.findings[key]["secret"] == secret_in(text)
    assert again.findings[other]["secret"] == secret_in(more)
    assert (again.findings[key]["state"], again.findings[key]["new"]) == ("accepted", False)
    assert again.findings[key]["matches"] == first.findings[key]["matches"]
    archive.unlink()
    assert other not in scan(root).findings


def test_files_that_are_shown_alike_are_told_apart_by_what_they_hold(
    tmp_path: Path, scan: Scan, names: Names, rng: random.Random
) -> None:
    root, key = tmp_path / "root", make_key_id(rng)
    root.mkdir()
    files = [root / f"{key}:{names.secret()}" for _ in range(3)]
    keys, texts = zip(*(leak(rng) for _ in files), strict=True)
    for file, text in zip(files, texts, strict=True):
        file.write_text(text)
    time.sleep(0.2)  # as above
    for _ in range(2):
        found = scan(root, options=("--offline", "--show-secrets"))
        assert {found.match(each)["path"] for each in keys} == {f"{root}/{key}:[secret]"}
        assert [found.findings[each]["secret"] for each in keys] == [*map(secret_in, texts)]
    assert found.summary["read"]["files"] == 0
    files[0].unlink()
    assert {*keys} & scan(root).findings.keys() == {*keys[1:]}
    files[1].write_text("nothing")
    assert {*keys} & scan(root).findings.keys() == {keys[2]}
    files[1].write_text(texts[2])
    files[2].unlink()
    assert {*keys} & scan(root).findings.keys() == {keys[2]}
    files[1].rename(root / f"{key}:{names.secret()}")
    assert {*keys} & scan(root).findings.keys() == {keys[2]}


def test_repositories_that_are_shown_alike_do_not_lose_each_others_findings(
    tmp_path: Path, scan: Scan, names: Names, rng: random.Random
) -> None:
    root, key = tmp_path / "root", make_key_id(rng)
    keys, texts = zip(*(leak(rng) for _ in range(2)), strict=True)
    made = [Repository(root / f"{key}:{names.secret()}") for _ in range(2)]
    for repository, text in zip(made, texts, strict=True):
        repository.commit("leak", {"k": text})
        repository.commit("gone", {"k": "nothing"})
    for _ in range(3):
        found = scan(root, options=("--offline", "--show-secrets"))
        assert {found.match(each)["repository"] for each in keys} == {f"{root}/{key}:[secret]"}
        assert [found.findings[each]["secret"] for each in keys] == [*map(secret_in, texts)]
    made[0].path.rename(tmp_path / "elsewhere")
    assert {*keys} & scan(root).findings.keys() == {keys[1]}


def test_a_repository_below_a_masked_name_is_read_again_and_its_files_beside_the_objects_too(
    tmp_path: Path, scan: Scan, names: Names, rng: random.Random
) -> None:
    keys, texts = zip(*(leak(rng) for _ in range(3)), strict=True)
    repository = Repository(tmp_path / "root" / names.pair())
    repository.commit("leak", {f"{make_key_id(rng)}/{names.secret()}": texts[0]})
    (repository.path / ".git" / names.pair()).write_text(texts[1])
    repository.write(f"staged {names.pair()}", texts[2])
    repository.git("add", "--all")
    for _ in range(2):
        found = scan(repository.path / ".git", options=("--offline", "--show-secrets"))
        assert [found.findings[each]["secret"] for each in keys] == [*map(secret_in, texts)]
        for each in keys:
            match = found.match(each)
            assert "[secret]" in match["path"]
            assert "[secret]" in match["repository"]


def test_a_repository_by_a_url_with_a_secret_in_it_is_cloned_and_read_again(
    tmp_path: Path, scan: Scan, names: Names, rng: random.Random
) -> None:
    key, text = leak(rng)
    repository = Repository(tmp_path / names.pair())
    repository.commit("leak", {"k": text})
    found = scan(repository.path.as_uri(), options=())
    again = scan(repository.path.as_uri(), options=("--offline", "--show-secrets"))
    assert names.told_in(json.dumps(found.findings).encode() + json.dumps(found.summary).encode()) == []
    for each in (found, again):
        assert each.match(key)["repository"].endswith("[secret]")
    assert again.findings[key]["secret"] == secret_in(text)


def test_a_member_named_by_the_secret_of_its_archives_key_is_masked(
    tmp_path: Path, scan: Scan, names: Names, rng: random.Random
) -> None:
    (key, text), (other, more) = leak(rng), leak(rng)
    secret = f"{names.secret()[:20]}/{names.secret()[:19]}"
    outer = {
        f"{make_key_id(rng)}.zip": zipped({names.secret(): text.encode()}),
        f"x/{make_key_id(rng)}:{secret}": more.encode(),
    }
    archive = tmp_path / "root" / "a.zip"
    archive.parent.mkdir()
    archive.write_bytes(zipped(outer))
    found = scan(archive.parent)
    assert found.match(key)["container"].endswith(".zip![secret]")
    assert found.match(other)["container"].endswith(":[secret]/[secret]")


def test_a_path_with_bytes_that_are_no_text_is_found_again_below_a_masked_name(
    tmp_path: Path, scan: Scan, names: Names, rng: random.Random
) -> None:
    root = tmp_path / "root"
    folder = root / os.fsdecode(b"\xff") / os.fsdecode(names.pair().encode() + b"\xfe")
    folder.mkdir(parents=True)
    key, text = leak(rng)
    (folder / os.fsdecode(b"k\xfd")).write_text(text)
    for _ in range(2):
        found = scan(root, options=("--offline", "--show-secrets"))
        assert found.match(key)["path"].endswith("[secret]\\xfe/k\\xfd")
        assert found.findings[key]["secret"] == secret_in(text)


def test_a_file_that_is_called_by_marks_holds_nobody_up(tmp_path: Path, scan: Scan, rng: random.Random) -> None:
    root, deep = tmp_path / "root", tmp_path / "root" / "[secret]"
    for _ in range(200):
        deep /= "[secret]"
    deep.mkdir(parents=True)
    for folder in (root, deep):
        (folder / ("a" * 250)).touch()
    keys, texts = zip(*(leak(rng) for _ in range(2)), strict=True)
    (root / ("[secret]" * 30 + "x")).write_text(texts[0])
    (deep / "[secret]").write_text(texts[1])
    began = sum(os.times()[:4])
    for _ in range(2):
        found = scan(root, options=("--offline", "--show-secrets"))
        assert [found.findings[each]["secret"] for each in keys] == [*map(secret_in, texts)]
    assert sum(os.times()[:4]) - began < 20, "of this process and of those that it began"
