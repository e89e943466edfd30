"""Keys in the names that a repository has: of files and folders in its trees and indexes, of branches and tags."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.builders import make_key_id
from tests.repositories import Repository, leak
from tests.scans import Scan, scanner

from firedamp.scanner.reading import Read, _Pass


@pytest.fixture
def scan(capsys: pytest.CaptureFixture[str]) -> Scan:
    return scanner(capsys)


def a_secret(rng: random.Random) -> str:
    return "a1B" + "".join(rng.choices("ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz23456789+", k=37))


def bare(repository: Repository, *options: str) -> Path:
    """Return a bare clone of a repository: there is no work tree beside it."""
    repository.git("clone", "--quiet", "--mirror", *options, str(repository.path), str(repository.path) + ".git")
    return Path(str(repository.path) + ".git")


def places(found: dict[str, object]) -> set[tuple[object, ...]]:
    matches = found["matches"]
    assert isinstance(matches, list)
    return {(m["path"], m["commit"], m["line"], m["in_head"]) for m in matches}


@pytest.mark.parametrize("packed", [False, True])
def test_a_key_in_a_name_in_history_is_told_by_its_path_and_the_commit_that_brought_it(
    tmp_path: Path, scan: Scan, rng: random.Random, packed: bool
) -> None:
    file, folder, deleted = (make_key_id(rng) for _ in range(3))
    repository = Repository(tmp_path / "r")
    first = repository.commit("first", {f"a/backup-{file}.csv": "1", "README": "hello"})
    second = repository.commit("second", {f"{folder}/deep/er.txt": "2", f"old/{deleted}": "3"})
    repository.git("rm", "-r", "--quiet", "old")
    repository.commit("third", {f"{folder}/deep/er.txt": "4", f"a/backup-{file}.csv": "5"})
    if packed:
        repository.git("gc", "--quiet")
    target = bare(repository)
    for _ in range(2):
        found = scan(target)
        assert (found.status, found.findings.keys()) == (1, {file, folder, deleted})
        assert places(found.findings[file]) == {(f"a/backup-{file}.csv", first, None, True)}
        assert places(found.findings[folder]) == {(folder, second, None, True)}
        assert places(found.findings[deleted]) == {(f"old/{deleted}", second, None, False)}


def test_names_stay_where_they_were_met_when_something_else_is_new(
    tmp_path: Path, scan: Scan, rng: random.Random
) -> None:
    file, later = make_key_id(rng), make_key_id(rng)
    repository = Repository(tmp_path / "r")
    first = repository.commit("first", {f"{file}.csv": "1"})
    git_folder = repository.path / ".git"
    assert places(scan(git_folder).findings[file]) == {(f"{file}.csv", first, None, True)}
    second = repository.commit("second", {"other": "2", f"b/{file}.csv": "1"})
    found = scan(git_folder)
    assert places(found.findings[file]) == {(f"{file}.csv", first, None, True), (f"b/{file}.csv", second, None, True)}
    repository.git("mv", f"{file}.csv", f"{later}.csv")
    third = repository.commit("third")
    found = scan(git_folder)
    assert places(found.findings[later]) == {(f"{later}.csv", third, None, True)}
    assert (f"{file}.csv", first, None, False) in places(found.findings[file])
    repository.git("checkout", "--quiet", "--orphan", "new")
    repository.git("rm", "-r", "--force", "--quiet", ".")
    repository.commit("nothing", {"new": "1"})
    repository.git("branch", "-D", "main")
    repository.git("reflog", "expire", "--expire=all", "--all")
    repository.git("gc", "--quiet", "--prune=now")
    assert not scan(git_folder).findings, "what was pruned is gone"


def test_a_name_that_is_only_staged_or_in_no_commit_is_told(tmp_path: Path, scan: Scan, rng: random.Random) -> None:
    staged, compressed, nowhere = (make_key_id(rng) for _ in range(3))
    repository = Repository(tmp_path / "r")
    repository.commit("first", {"README": "hello"})
    blob = repository.git("hash-object", "-w", "--stdin", given=b"1")
    repository.git("mktree", given=f"100644 blob {blob}\t{nowhere}.txt\n".encode())
    repository.write(f"sub/{staged}", "2")
    repository.git("add", "--all")
    found = scan(repository.path / ".git")
    assert places(found.findings[staged]) == {(f"sub/{staged}", None, None, False)}
    assert places(found.findings[nowhere]) == {(f"{nowhere}.txt", None, None, False)}
    repository.write(f"sub/{staged[:4]}{compressed[4:]}", "2")
    repository.git("add", "--all")
    repository.git("update-index", "--index-version", "4")
    found = scan(repository.path / ".git")
    assert staged[:4] + compressed[4:] in found.findings, "names share their beginnings there"


def test_an_extension_of_an_index_and_one_left_half_written_are_read(
    tmp_path: Path, scan: Scan, rng: random.Random
) -> None:
    untracked, staged, unknown, half = (make_key_id(rng) for _ in range(4))
    repository = Repository(tmp_path / "r")
    repository.commit("first", {"README": "hello"})
    index = repository.path / ".git" / "index"
    repository.write(half, "x")
    repository.git("add", "--all")
    index.rename(index.with_name("index.lock"))
    (repository.path / half).unlink()
    repository.git("read-tree", "HEAD", GIT_INDEX_FILE=str(index.with_name("new")))
    index.with_name("new").rename(index)
    index.with_name("index.lock").rename(index.with_name("next-index-1.lock"))
    repository.git("update-index", "--force-untracked-cache")
    repository.write(staged, "x")
    repository.git("add", "--all")
    repository.write(f"{untracked}.env", "x")
    repository.git("status")
    (repository.path / f"{untracked}.env").unlink()
    own = f"{unknown}:{a_secret(rng)}".encode()
    whole = index.read_bytes()[:-20] + b"ZZZZ" + (len(own) + 1).to_bytes(4) + own + b"\0"
    index.write_bytes(whole + hashlib.sha1(whole, usedforsecurity=False).digest())
    for shown in ((), ("--show-secrets",)):
        found = scan(repository.path / ".git", options=("--offline", *shown))
        assert found.status == 1
        assert {key: {place[0] for place in places(line)} for key, line in found.findings.items()} == {
            untracked: {"index"}, staged: {staged}, unknown: {"index"}, half: {"next-index-1.lock"},
        }  # fmt: skip
        assert found.findings[unknown]["has_secret"]
    assert found.findings[unknown]["secret"] == own.decode()[21:]


def test_what_begins_as_a_file_of_gits_own_does_is_read(tmp_path: Path, scan: Scan, rng: random.Random) -> None:
    repository = Repository(tmp_path / "r")
    repository.commit("one", {"a": "a"})
    names = {"info/commit-graph": b"CGPH", "pack/multi-pack-index": b"MIDX", "pack/pack-1.rev": b"RIDX",
             "pack/pack-1.bitmap": b"BITM", "pack/pack-1.mtimes": b"MTME"}  # fmt: skip
    keys = {name: leak(rng) for name in names}
    for name, magic in names.items():
        (tmp_path / "r" / ".git" / "objects" / name).write_bytes(magic + b"\0\0\0\1\n" + keys[name][1].encode())
    found = scan(tmp_path / "r")
    assert (found.status, found.findings.keys()) == (1, {key for key, _ in keys.values()})


def test_a_name_of_a_branch_tag_or_remote_branch_is_read(tmp_path: Path, scan: Scan, rng: random.Random) -> None:
    keys = [make_key_id(rng) for _ in range(3)]
    repository = Repository(tmp_path / "r")
    repository.commit("first", {"README": "hello"})
    for ref, key in zip(("refs/heads/leak-", "refs/tags/", "refs/remotes/origin/leak-"), keys, strict=True):
        repository.git("update-ref", ref + key, "HEAD")
    assert scan(repository.path / ".git").findings.keys() == {*keys}
    repository.git("pack-refs", "--all")
    assert scan(repository.path / ".git").findings.keys() == {*keys}


def test_a_pair_in_a_name_in_history_is_read_again_and_its_secret_kept_nowhere(
    tmp_path: Path, scan: Scan, rng: random.Random
) -> None:
    keys = [make_key_id(rng) for _ in range(2)]
    secrets = [a_secret(rng) for _ in keys]
    repository = Repository(tmp_path / "r")
    repository.commit("first", {f"sub/{keys[0]}:{secrets[0]}": "1"})
    repository.commit("second", {f"sub/{keys[0]}:{secrets[0]}": "2"})
    repository.write(f"{keys[1]}:{secrets[1]}", "1")
    repository.git("add", "--all")
    database = tmp_path / "db"
    options = ("--offline", "--db", str(database))
    for shown in ((), ("--show-secrets",)):
        found = scan(repository.path / ".git", options=(*options, *shown)).findings
        for key, secret in zip(keys, secrets, strict=True):
            assert found[key]["has_secret"]
            assert found[key]["secret"] == (secret if shown else None)
    written = [file.read_bytes() for file in tmp_path.glob("db*")]
    assert not any(secret.encode() in content for content in written for secret in secrets)


def test_of_a_large_pack_names_that_branches_hold_are_looked_at_and_all_in_a_thorough_scan(
    tmp_path: Path, scan: Scan, rng: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FIREDAMP_DELTA_MIN_BYTES", "1")
    head, side, deleted = (make_key_id(rng) for _ in range(3))
    repository = Repository(tmp_path / "r")
    files = {f"f{number}": str(number) for number in range(50)}
    repository.commit("first", {**files, f"old/{deleted}.csv": "1", f"new/{head}.csv": "2"})
    repository.git("rm", "-r", "--quiet", "old")
    repository.commit("second")
    repository.git("checkout", "--quiet", "-b", "side")
    repository.commit("aside", {f"{side}.csv": "3"})
    repository.git("checkout", "--quiet", "main")
    target = bare(repository, "--no-local")
    # A second pack, which holds most of them once more.
    repository.git("-C", str(target), "pack-objects", "--quiet", "--revs", "objects/pack/pack", given=b"main\n")
    found = scan(target)
    assert found.findings.keys() == {head, side}
    (told,) = found.summary["left_out"]["items"]
    assert (told["what"], told["count"]) == (f"{target} trees", 2), "those of the first commit: its root, and old"
    assert "--thorough" in told["why"]
    found = scan(target, options=("--offline", "--thorough"))
    assert (found.findings.keys(), found.summary["left_out"]["items"]) == ({head, side, deleted}, [])
    plain = scan(repository.path / ".git")
    assert plain.findings.keys() == {head, side, deleted}, "loose objects are read in any case"


def test_a_name_of_a_large_pack_stays_told_when_no_branch_has_it_any_more(
    tmp_path: Path, scan: Scan, rng: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FIREDAMP_DELTA_MIN_BYTES", "1")
    key, other = make_key_id(rng), make_key_id(rng)
    repository = Repository(tmp_path / "r")
    first = repository.commit("first", {f"a/{key}.csv": "1", f"b/{other}.csv": "2", "README": "hello"})
    repository.git("gc", "--quiet")
    assert scan(repository.path / ".git").findings.keys() == {key, other}
    repository.git("rm", "-r", "--quiet", "a")
    repository.commit("second")
    repository.git("gc", "--quiet")
    for _ in range(2):
        found = scan(repository.path / ".git").findings
        assert places(found[key]) == {(f"a/{key}.csv", first, None, False)}
        assert places(found[other]) == {(f"b/{other}.csv", first, None, True)}


def test_a_name_that_is_left_out_is_left_out_by_a_second_scan_too(
    tmp_path: Path, scan: Scan, rng: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FIREDAMP_DELTA_MIN_BYTES", "1")
    key, deleted = make_key_id(rng), make_key_id(rng)
    repository = Repository(tmp_path / "r")
    repository.commit("first", {f"a/{key}.csv": "1", f"b/{deleted}.csv": "2"})
    repository.git("rm", "-r", "--quiet", "b")
    repository.commit("second", {"README": "hello"})
    for number in range(2):
        repository.git("gc", "--quiet")
        for options in (("--offline",), ("--offline", "--db", str(tmp_path / f"{number}.db"))):
            found = scan(repository.path / ".git", options=options)
            assert (found.status, found.findings.keys()) == (1, {key})
            (told,) = found.summary["left_out"]["items"]
            assert told["count"] == 2, "those of the first commit: its root, and b"
        repository.git("commit", "--quiet", "--allow-empty", "-m", "third")


def test_no_object_is_asked_for_twice(
    tmp_path: Path, scan: Scan, rng: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FIREDAMP_DELTA_MIN_BYTES", "20000")
    repository = Repository(tmp_path / "r")
    repository.commit("first", {"a/large": rng.randbytes(40_000).hex(), "b/small": "1"})
    repository.git("repack", "--quiet", "-d")
    repository.commit("second", {"b/small": "2"})
    repository.git("repack", "--quiet", "-d")
    repository.commit("third", {"c/small": "3"})
    asked, once = list[str](), _Pass.read

    def read(one: _Pass) -> Iterator[Read]:
        asked.extend(row.tobytes().hex() for row in one.part.ids)
        return once(one)

    monkeypatch.setattr(_Pass, "read", read)
    assert scan(repository.path / ".git").status == 0
    trees = set(repository.git("log", "--format=%T").split())
    assert trees.difference(asked) == {repository.git("rev-parse", "HEAD~2^{tree}")}
    assert len(asked) == len(set(asked))


def test_a_malformed_tree_hides_no_name(tmp_path: Path, scan: Scan, rng: random.Random) -> None:
    before, after, cut = (make_key_id(rng) for _ in range(3))
    repository = Repository(tmp_path / "r")
    repository.commit("first", {"README": "hello"})
    tree = b"100644 %b\0%b%b %b\0" % (before.encode(), b"\1" * 20, b"100644", after.encode()) + cut.encode()
    repository.git("hash-object", "-t", "tree", "-w", "--literally", "--stdin", given=tree)
    assert {before, after} <= scan(repository.path / ".git").findings.keys()


def test_what_is_longer_than_any_path_is_told_and_shown_by_none(tmp_path: Path, scan: Scan, rng: random.Random) -> None:
    key = make_key_id(rng)
    repository = Repository(tmp_path / "r")
    repository.commit("first", {"README": "hello"})
    tree = b"100644 %b" % key.encode() + b" and more" * 5_000
    repository.git("hash-object", "-t", "tree", "-w", "--literally", "--stdin", given=tree)
    assert places(scan(repository.path / ".git").findings[key]) == {(None, None, None, False)}


def test_a_tree_larger_than_a_window_is_looked_at(tmp_path: Path, scan: Scan, rng: random.Random) -> None:
    key = make_key_id(rng)
    repository = Repository(tmp_path / "r")
    blob = repository.git("hash-object", "-w", "--stdin", given=b"1")
    names = sorted([*(f"{number:0200}" for number in range(20_000)), f"9-{key}"])
    tree = repository.git("mktree", given="".join(f"100644 blob {blob}\t{name}\n" for name in names).encode())
    commit = repository.git("commit-tree", tree, "-m", "large")
    repository.git("update-ref", "refs/heads/main", commit)
    assert places(scan(repository.path / ".git").findings[key]) == {(f"9-{key}", commit, None, True)}
