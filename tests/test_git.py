"""Keys in every place of a repository, on every sort of repository, each found with where it came from."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import random
import shutil
import sys
import threading
import time
import zipfile
import zlib
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import NoReturn

import platformdirs
import pytest
from tests.builders import make_key_id, make_secret, make_token
from tests.containers import reftable_block
from tests.repositories import Repository, hiding_places, leak
from tests.scans import Scan, Scanned, scanner

from firedamp.scanner import git, gitfiles, listing, unpack
from firedamp.scanner.git import read_again
from firedamp.scanner.objects import find
from firedamp.scanner.version import VERSION
from firedamp.service import cli
from firedamp.storage.records import Batch, GitProvenance, Met
from firedamp.storage.store import Store


@pytest.fixture(name="scan")
def scan_(capsys: pytest.CaptureFixture[str]) -> Scan:
    return scanner(capsys)


def test_a_key_is_found_in_every_hiding_place(tmp_path: Path, rng: random.Random, scan: Scan) -> None:
    keys = hiding_places(tmp_path / "repository", rng)
    scanned = scan(tmp_path / "repository")
    assert {place for place, key_id in keys.items() if key_id not in scanned.findings} == set()
    assert scanned.status == 1
    assert len(keys) >= 28
    again = scan(tmp_path / "repository")
    assert again.findings.keys() == scanned.findings.keys()
    assert again.summary["read"]["objects"] == 0
    packed = Repository.at(tmp_path / "repository")
    packed.git("repack", "-q", "-a", "-d", "--keep-unreachable")
    repacked = scan(tmp_path / "repository")
    assert repacked.summary["read"]["objects"] == 0, "a repack does not forget"
    assert repacked.findings.keys() == scanned.findings.keys()


def test_a_match_names_the_first_commit_every_path_and_whether_head_has_it(
    tmp_path: Path, rng: random.Random, scan: Scan
) -> None:
    repository = Repository(tmp_path / "r")
    key_id, text = leak(rng)
    repository.commit("empty")
    first = repository.commit("leak", {"a b/é\n.env": "# comment\n" + text})
    repository.commit("copy", {"copy": "# comment\n" + text})
    repository.git("rm", "--quiet", "copy")
    repository.commit("remove the copy")
    matches = {match["path"]: match for match in scan(tmp_path / "r").findings[key_id]["matches"] if match["commit"]}
    assert matches.keys() == {"a b/é\n.env", "copy"}
    match = matches["a b/é\n.env"]
    assert (match["commit"], match["line"], match["column"]) == (first, 2, 21)
    assert match["author"] == "Ada <ada@example.org>"
    assert match["date"].startswith("2026-01-01T00:")
    assert match["in_head"] is True
    assert matches["copy"]["in_head"] is False
    assert match["repository"] == str(tmp_path / "r")


def test_a_merge_introduces_what_only_it_adds(tmp_path: Path, rng: random.Random, scan: Scan) -> None:
    repository = Repository(tmp_path / "r")
    (side, side_text), (merged, merged_text) = leak(rng), leak(rng)
    repository.commit("begin", {"a": "a"})
    repository.git("checkout", "--quiet", "-b", "side")
    on_side = repository.commit("side", {"side": side_text})
    repository.git("checkout", "--quiet", "main")
    repository.commit("main", {"b": "b"})
    repository.git("merge", "--quiet", "--no-commit", "side")
    merge = repository.commit("merge", {"merged": merged_text})
    repository.git("rm", "--quiet", "-f", "side", "merged")
    repository.commit("clean")
    scanned = scan(tmp_path / "r")
    assert scanned.match(side)["commit"] == on_side
    assert scanned.match(merged)["commit"] == merge


def test_commits_of_the_same_second_are_ordered_by_ancestry(tmp_path: Path, rng: random.Random, scan: Scan) -> None:
    repository = Repository(tmp_path / "r", bare=True)
    key_id, text = leak(rng)
    blob = repository.git("hash-object", "-w", "--stdin", given=text.encode())
    tree = repository.git("mktree", given=f"100644 blob {blob}\tfile\n".encode())
    empty = repository.git("mktree", given=b"")
    same = {"GIT_COMMITTER_DATE": "2026-01-01T00:00:00+00:00"}
    first = tip = repository.git("commit-tree", tree, "-m", "0", **same)
    for number in range(1, 10):
        tip = repository.git("commit-tree", empty if number % 2 else tree, "-p", tip, "-m", str(number), **same)
    repository.git("update-ref", "refs/heads/main", tip)
    assert scan(tmp_path / "r").match(key_id)["commit"] == first


def places(scanned: Scanned) -> dict[str, list[tuple[object, ...]]]:
    fields = ("commit", "path", "author", "date", "in_head")
    return {key: [tuple(match[name] for name in fields) for match in one["matches"]]
            for key, one in scanned.findings.items()}  # fmt: skip


def test_only_new_commits_are_walked_and_the_places_are_those_of_a_whole_walk(
    tmp_path: Path, rng: random.Random, scan: Scan, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = Repository(tmp_path / "r")
    (_, old), (_, new), (_, lost) = leak(rng), leak(rng), leak(rng)
    real, walked = shutil.which("git"), tmp_path / "walked"
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "git").write_text(
        f'#!/bin/sh\ncase "$*" in *diff-tree*) tee -a {walked} | {real} "$@" ;; *) exec {real} "$@" ;; esac\n'
    )
    (tmp_path / "bin" / "git").chmod(0o755)

    def commits_walked() -> int:
        return len(walked.read_text().split())

    def both() -> tuple[int, bool]:
        """Scan with the memory of earlier scans and without any: commits that the first walked, whether they agree."""
        walked.write_text("")
        with monkeypatch.context() as patched:
            patched.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
            remembering = scan(tmp_path / "r")
        count = commits_walked()
        fresh = scan(tmp_path / "r", options=("--offline", "--db", str(tmp_path / f"{rng.random()}.db")))
        return count, places(remembering) == places(fresh)

    for number in range(5):
        repository.commit(f"{number}", {"a": f"{number}\n"})
    repository.commit("leak", {"leaked": old})
    repository.git("hash-object", "-w", "--stdin", given=lost.encode())
    assert both() == (6, True)
    repository.commit("copy", {"b/copy": old})
    assert both() == (1, True)
    repository.git("rm", "-q", "leaked")
    repository.commit("another", {"c": new})
    assert both() == (1, True)
    early = {"GIT_COMMITTER_DATE": "2020-01-01T00:00:00+00:00", "GIT_AUTHOR_DATE": "2020-01-01T00:00:00+00:00"}
    repository.commit("earlier, by its clock", {"b/copy": "x", "leaked": old}, **early)
    assert both() == (1, True)
    repository.git("checkout", "-q", "--orphan", "other")
    repository.commit("other", {"only": lost})
    assert both() == (1, True)
    # A commit is gone: what it put there is so too.
    repository.git("checkout", "-q", "-f", "main")
    repository.git("branch", "-q", "-D", "other")
    repository.git("reflog", "expire", "--expire=now", "--all")
    repository.git("prune", "--expire=now")
    assert both() == (9, True)


def test_what_is_in_no_commit_says_so_until_it_is(tmp_path: Path, rng: random.Random, scan: Scan) -> None:
    repository = Repository(tmp_path / "r", bare=True)
    key_id, text = leak(rng)
    blob = repository.git("hash-object", "-w", "--stdin", given=text.encode())
    match = scan(tmp_path / "r").match(key_id)
    assert (match["commit"], match["path"], match["in_head"]) == (None, None, False)
    tree = repository.git("mktree", given=f"100644 blob {blob}\tfile\n".encode())
    commit = repository.git("commit-tree", tree, "-m", "now")
    repository.git("update-ref", "refs/heads/main", commit)
    match = scan(tmp_path / "r").match(key_id)
    assert (match["commit"], match["path"], match["in_head"]) == (commit, "file", True)


@pytest.mark.parametrize("kind", ["sha1", "sha256"])
def test_an_lfs_object_names_the_commit_and_path_of_its_pointer(
    tmp_path: Path, rng: random.Random, scan: Scan, kind: str
) -> None:
    repository = Repository(tmp_path / "r", f"--object-format={kind}")
    key_id, text = leak(rng)
    pointer, name = lfs(text)
    stored = tmp_path / "r" / ".git" / "lfs" / "objects" / name
    stored.parent.mkdir(parents=True)
    stored.write_text(text)
    commit = repository.commit("large", {"data/large.dat": pointer})
    for _ in range(2):
        scanned = scan(tmp_path / "r" / ".git", options=("--offline", "--show-secrets"))
        places = {(match["commit"], match["path"]) for match in scanned.findings[key_id]["matches"]}
        assert places == {(commit, "data/large.dat"), (None, str(stored.relative_to(tmp_path / "r" / ".git")))}
        assert scanned.findings[key_id]["secret"] == text.split()[-1]
        repository.commit("later", {"other": "1"})


@pytest.mark.parametrize("before", [(), ("lfs.url", "http://[::1]/lfs")])
@pytest.mark.parametrize("storage", ["kept", "../../kept", "{}/kept"])
def test_lfs_content_is_read_wherever_the_configuration_keeps_it(
    tmp_path: Path, rng: random.Random, scan: Scan, storage: str, before: tuple[str, ...]
) -> None:
    repository = Repository(tmp_path / "r")
    key_id, text = leak(rng)
    pointer, stored = lfs(text)
    commit = repository.commit("large", {"large.dat": pointer})
    if before:
        repository.git("config", *before)
    repository.git("config", "lfs.storage", storage.format(tmp_path))
    assert key_id not in scan(tmp_path / "r").findings
    place = tmp_path / "r" / ".git" / storage.format(tmp_path) / "objects" / stored
    place.parent.mkdir(parents=True)
    place.write_text(text)
    found = scan(tmp_path / "r", options=("--offline", "--show-secrets")).findings[key_id]
    assert found["secret"] == text.split()[-1]
    assert (commit, "large.dat") in {(match["commit"], match["path"]) for match in found["matches"]}


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="only root can give files away")
def test_lfs_content_of_another_user_is_left_out(tmp_path: Path, rng: random.Random, scan: Scan) -> None:
    repository = Repository(tmp_path / "r")
    repository.commit("one", {"a": "a"})
    repository.git("config", "lfs.storage", str(tmp_path / "theirs"))
    place = tmp_path / "theirs" / "objects" / lfs("")[1]
    place.parent.mkdir(parents=True)
    key_id, text = leak(rng)
    place.write_text(text)
    os.chown(tmp_path / "theirs" / "objects", 12345, 12345)
    time.sleep(0.15)
    for _ in ("first", "again"):
        scanned = scan(tmp_path / "r")
        assert (scanned.status, scanned.findings) == (0, {})
        assert scanned.summary["left_out"]["items"][0]["why"] == "LFS content that belongs to another user"
    os.chown(tmp_path / "theirs" / "objects", os.getuid(), os.getgid())
    assert scan(tmp_path / "r").findings.keys() == {key_id}


def test_what_was_put_by_hand_into_any_folder_of_git_is_read_and_noticed(
    tmp_path: Path, rng: random.Random, scan: Scan
) -> None:
    repository = Repository(tmp_path / "r")
    repository.commit("one", {"a": "a"})
    (repository.path / ".git" / "modules" / "sub").mkdir(parents=True)
    repository.git("clone", "--quiet", "--bare", ".", ".git/modules/sub/deep")
    names = (
        "objects/notes.txt", "objects/ab/notes.orig", "objects/info/notes", "objects/pack/pack-1.txt", "objects/mine/x",
        "objects/ab/notes.pack", "objects/mine/incoming-x/y",
        "refs/heads/main.bak", "refs/.swp", "modules/notes", "modules/sub/notes", "modules/sub/deep/objects/x",
        "hooks/index", "hooks/gitdir", "lfs/commondir", "index.bak", "rebase-merge/done", "sequencer/todo",
        "FETCH_HEAD",
        "packed-refs.lock", "COMMIT_EDITMSG", "info/exclude", "rr-cache/1/preimage", "worktrees/w/notes", "x/objects/y",
    )  # fmt: skip
    for content in (0, 1):  # written again in place: no folder changes
        keys = {name: leak(rng) for name in names}
        for name, (_, text) in keys.items():
            path = repository.path / ".git" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        found = scan(repository.path)
        assert {name for name, (key, _) in keys.items() if key not in found.findings} == set(), content
        assert len(found.findings) == len(names)
        assert found.match(keys["objects/notes.txt"][0])["path"] == ".git/objects/notes.txt"


def test_refs_and_reflogs_in_a_reftable_are_read(tmp_path: Path, rng: random.Random, scan: Scan) -> None:
    (blob, text), name, old = leak(rng), make_key_id(rng), make_key_id(rng)
    shared, third, logged = make_key_id(rng), make_key_id(rng), make_key_id(rng)
    repository = Repository(tmp_path / "r")
    repository.commit("one", {"a": text})
    folder = repository.path / ".git"
    shutil.rmtree(folder / "refs")
    shutil.rmtree(folder / "logs")
    for path in ("refs", "reftable"):
        (folder / path).mkdir()
    (folder / "refs" / "heads").write_text("this repository uses the reftable format\n")
    (folder / "HEAD").write_text("ref: refs/heads/.invalid\n")
    log = f"refs/heads/main\0AdaAda@example.org pull https://{old}:x@example.org/".encode()
    # A name leaves out what it shares with the one before.
    refs = reftable_block(
        b"r", 24, (b"refs/heads/leak-%b" % name.encode(), 1, bytes(21)),
        (f"refs/heads/{shared[:9]}-old".encode(), 0, b"\0"), (f"refs/heads/{shared}".encode(), 3, b"\0\4main"),
    ).ljust(512 - 24, b"\0")  # fmt: skip
    more = reftable_block(
        b"r", 0, (f"refs/tags/{third[:18]}".encode(), 2, bytes(41)), (f"refs/tags/{third}".encode(), 1, bytes(21))
    )
    entry, time = bytes(40) + b"\3Ada\1@" + b"\x80\0\0\0\3one", b"\0" * 8
    gone = reftable_block(
        b"g", 0, (b"refs/heads/x\0" + time, 0, b""), (f"refs/tags/{logged[:6]}\0".encode() + time, 1, entry),
        (f"refs/tags/{logged}\0".encode() + time, 1, entry),
    )[4:]  # fmt: skip
    head = b"REFT\1\0\2\0" + (1).to_bytes(8) + (2).to_bytes(8)
    logs = b"".join(b"g" + (4 + len(each)).to_bytes(3) + zlib.compress(each) for each in (b"HEAD\0one", log, gone))
    (folder / "reftable" / "0x1-0x2-a.ref").write_bytes(head + refs + more + logs + head)
    (folder / "reftable" / "tables.list").write_text("0x1-0x2-a.ref\n")
    found = scan(repository.path)
    assert (found.status, found.findings.keys()) == (1, {blob, name, old, shared, third, logged})
    assert {key: (found.match(key)["path"], found.match(key)["container"]) for key in (old, shared, third, logged)} == {
        key: (".git/reftable/0x1-0x2-a.ref", container)
        for key, container in ((old, "log 2"), (shared, "names 1"), (third, "names 2"), (logged, "names in log 3"))
    }


def test_lfs_downloads_that_broke_off_are_read(tmp_path: Path, rng: random.Random, scan: Scan) -> None:
    repository = Repository(tmp_path / "r")
    repository.commit("one", {"a": "a"})
    keys = []
    for name in (b"incomplete/half.part", b"tmp/no\xffname", b"objects/no\xffname"):
        key_id, text = leak(rng)
        keys.append(key_id)
        path = Path(os.fsdecode(os.fsencode(tmp_path / "r" / ".git" / "lfs") + b"/" + name))
        path.parent.mkdir(parents=True)
        path.write_text(text)
    assert scan(tmp_path / "r").findings.keys() == {*keys}


def lfs(text: str) -> tuple[str, str]:
    """Return the pointer that stands for a text in history, and where LFS keeps the text."""
    name = hashlib.sha256(text.encode()).hexdigest()
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{name}\nsize {len(text)}\n"
    return pointer, f"{name[:2]}/{name[2:4]}/{name}"


def test_what_was_pruned_is_reported_no_more(tmp_path: Path, rng: random.Random, scan: Scan) -> None:
    repository = Repository(tmp_path / "r")
    key_id, text = leak(rng)
    repository.commit("stays", {"a": "a"})
    repository.commit("goes", {"leak": text})
    assert key_id in scan(tmp_path / "r").findings
    repository.git("reset", "--quiet", "--hard", "HEAD~1")
    repository.git("reflog", "expire", "--expire=now", "--all")
    repository.git("gc", "--quiet", "--prune=now")
    scanned = scan(tmp_path / "r")
    assert (scanned.findings, scanned.status) == ({}, 0)


@pytest.mark.parametrize("few", [0, 20_000], ids=["of many objects", "of few"])
def test_a_fork_is_not_read_again_but_named(
    tmp_path: Path, rng: random.Random, scan: Scan, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(git, "_FEW", few)
    origin = Repository(tmp_path / "origin")
    key_id, text = leak(rng)
    origin.commit("leak", {"leak": text})
    scan(tmp_path / "origin" / ".git")
    origin.git("clone", "--quiet", "--bare", ".", str(tmp_path / "fork"))
    scanned = scan(tmp_path / "fork")
    assert scanned.summary["read"]["objects"] == 0
    assert scanned.match(key_id)["repository"] == str(tmp_path / "fork")
    both = scan(tmp_path / "fork", tmp_path / "origin" / ".git")
    assert {match["repository"] for match in both.findings[key_id]["matches"]} == {
        str(tmp_path / "fork"), str(tmp_path / "origin" / ".git"),
    }  # fmt: skip


def test_an_author_whose_name_is_a_secret_is_found_and_not_stored(
    tmp_path: Path, rng: random.Random, scan: Scan
) -> None:
    repository = Repository(tmp_path / "r")
    key_id, secret = make_key_id(rng), make_secret(rng)
    repository.commit("author", GIT_AUTHOR_NAME=f"{key_id} {secret}")
    assert key_id in scan(tmp_path / "r").findings
    assert secret.encode() not in (Path.home() / "firedamp.db").read_bytes()


# Sorts of repositories.


def test_an_empty_and_an_unborn_repository_are_read(tmp_path: Path, rng: random.Random, scan: Scan) -> None:
    Repository(tmp_path / "bare", bare=True)
    assert scan(tmp_path / "bare").status == 0
    unborn = Repository(tmp_path / "unborn")
    key_id, text = leak(rng)
    unborn.write("staged", text)
    unborn.git("add", "staged")
    (tmp_path / "unborn" / "staged").unlink()
    assert key_id in scan(tmp_path / "unborn").findings


def test_a_blob_that_is_only_staged_is_told_by_its_path_in_the_index(
    tmp_path: Path, rng: random.Random, scan: Scan
) -> None:
    repository = Repository(tmp_path / "r")
    (staged, staged_text), (linked, linked_text), (lost, lost_text) = leak(rng), leak(rng), leak(rng)
    repository.commit("first", {"a": "a"})
    repository.git("worktree", "add", "-q", str(tmp_path / "linked"))
    for name, text in (("é/x\ny", staged_text), ("copy", staged_text), ("lost", lost_text)):
        repository.write(name, text)
        repository.git("add", name)
    Repository.at(tmp_path / "linked").write("b", linked_text)
    Repository.at(tmp_path / "linked").git("add", "b")
    repository.git("rm", "-q", "--cached", "lost")
    for name in ("é/x\ny", "copy", "lost"):
        (tmp_path / "r" / name).unlink()
    found = scan(tmp_path / "r", options=("--offline", "--show-secrets")).findings
    assert {(each["path"], each["commit"]) for each in found[staged]["matches"]} == {("é/x\ny", None), ("copy", None)}
    assert [each["path"] for each in found[linked]["matches"] if each["repository"]] == ["b"]
    assert [each["path"] for each in found[lost]["matches"]] == [None]
    assert all(each["secret"] for each in found.values()), "it is read again from the object"
    again = scan(tmp_path / "r")
    assert {each["path"] for each in again.findings[staged]["matches"]} == {"é/x\ny", "copy"}
    repository.git("commit", "-q", "-m", "second")
    places = {(each["path"], each["commit"] is None) for each in scan(tmp_path / "r").findings[staged]["matches"]}
    assert places == {("é/x\ny", False), ("copy", False)}


@pytest.mark.parametrize("path", ["folder", "x" * 300])
def test_a_staged_key_is_read_again_though_its_path_cannot_be(
    tmp_path: Path, rng: random.Random, scan: Scan, path: str
) -> None:
    repository = Repository(tmp_path / "r")
    key_id, text = leak(rng)
    repository.write("staged", text)
    blob = repository.git("hash-object", "-w", "staged").strip()
    (tmp_path / "r" / "staged").unlink()
    (tmp_path / "r" / "folder").mkdir()
    repository.git("update-index", "--add", "--cacheinfo", f"100644,{blob},{path}")
    found = scan(tmp_path / "r", options=("--offline", "--show-secrets")).findings[key_id]
    assert found["secret"] is not None
    assert [each["path"] for each in found["matches"]] == [path]


def test_an_index_that_cannot_be_read_leaves_a_staged_key_without_a_path(
    tmp_path: Path, rng: random.Random, scan: Scan
) -> None:
    repository = Repository(tmp_path / "r")
    key_id, text = leak(rng)
    repository.write("staged", text)
    repository.git("add", "staged")
    (tmp_path / "r" / "staged").unlink()
    index = tmp_path / "r" / ".git" / "index"
    index.write_bytes(b"DIRC" + bytes(100))
    assert scan(tmp_path / "r").match(key_id)["path"] is None
    index.unlink()
    os.mkfifo(index)
    assert scan(tmp_path / "r").match(key_id)["path"] is None


def test_a_sha256_repository_is_read(tmp_path: Path, rng: random.Random, scan: Scan) -> None:
    repository = Repository(tmp_path / "r", "--object-format=sha256")
    (packed, packed_text), (loose, loose_text) = leak(rng), leak(rng)
    first = repository.commit("packed", {"packed": packed_text})
    repository.git("gc", "--quiet")
    repository.git("rm", "--quiet", "packed")
    second = repository.commit("loose", {"loose": loose_text})
    (tmp_path / "r" / "loose").unlink()
    scanned = scan(tmp_path / "r")
    assert (scanned.match(packed)["commit"], scanned.match(loose)["commit"]) == (first, second)
    assert len(first) == 64


def test_a_linked_work_tree_and_a_submodule_lead_to_their_objects(
    tmp_path: Path, rng: random.Random, scan: Scan
) -> None:
    inner, outer = Repository(tmp_path / "inner"), Repository(tmp_path / "outer")
    (linked, linked_text), (sub, sub_text) = leak(rng), leak(rng)
    inner.commit("leak", {"leak": sub_text})
    inner.commit("clean", {"leak": "clean"})
    outer.commit("leak", {"leak": linked_text})
    outer.commit("clean", {"leak": "clean"})
    outer.git("submodule", "--quiet", "add", str(tmp_path / "inner"), "nested/module")
    outer.commit("a submodule")
    outer.git("worktree", "add", "--quiet", "-b", "linked", str(tmp_path / "linked"))
    assert linked in scan(tmp_path / "linked").findings
    outer.git("submodule", "--quiet", "deinit", "--force", "nested/module")
    found = scan(tmp_path / "outer").findings
    assert found.keys() == {linked, sub}
    assert found[sub]["matches"][0]["repository"].endswith("outer/.git/modules/nested/module")


def test_a_submodule_of_a_linked_work_tree_is_read_with_the_repository(
    tmp_path: Path, rng: random.Random, scan: Scan
) -> None:
    inner, outer = Repository(tmp_path / "inner"), Repository(tmp_path / "outer")
    key_id, text = leak(rng)
    inner.commit("leak", {"leak": text})
    outer.commit("one", {"a": "a"})
    outer.git("worktree", "add", "--quiet", "-b", "linked", str(tmp_path / "linked"))
    outer.git("-C", str(tmp_path / "linked"), "submodule", "--quiet", "add", str(tmp_path / "inner"), "module")
    match = scan(tmp_path / "outer").match(key_id)
    assert match["repository"].endswith("outer/.git/worktrees/linked/modules/module")


def test_what_lies_beyond_a_shallow_boundary_is_left_out_and_told(
    tmp_path: Path, rng: random.Random, scan: Scan
) -> None:
    origin = Repository(tmp_path / "origin")
    (_, old_text), (new, new_text) = leak(rng), leak(rng)
    origin.commit("old", {"leak": old_text})
    tip = origin.commit("new", {"leak": new_text})
    origin.git("clone", "--quiet", "--bare", "--depth=1", origin.path.as_uri(), str(tmp_path / "shallow"))
    scanned = scan(tmp_path / "shallow")
    assert (scanned.status, scanned.findings.keys()) == (1, {new})
    assert scanned.match(new)["commit"] == tip
    for told in (scanned, scan(tmp_path / "shallow")):  # the second time nothing is even listed
        (left,) = told.summary["left_out"]["items"]
        assert left["what"] == str(tmp_path / "shallow" / "shallow")
        assert "shallow boundary" in left["why"]
        assert told.summary["complete"], "left out is not failed"
    origin.git("-C", str(tmp_path / "shallow"), "fetch", "--quiet", "--unshallow")
    assert scan(tmp_path / "shallow").summary["left_out"]["items"] == []


def test_what_a_partial_clone_lacks_is_counted_and_never_fetched(
    tmp_path: Path, rng: random.Random, scan: Scan
) -> None:
    origin = Repository(tmp_path / "origin")
    origin.git("config", "uploadpack.allowFilter", "true")
    (_, old_text), (new, new_text) = leak(rng), leak(rng)
    origin.commit("old", {"one": old_text, "two": "x"})
    origin.commit("new", {"one": new_text, "two": "y"})
    origin.git("clone", "--quiet", "--filter=blob:none", origin.path.as_uri(), str(tmp_path / "partial"))
    before = sorted((tmp_path / "partial" / ".git" / "objects" / "pack").iterdir())
    scanned = scan(tmp_path / "partial")
    assert (scanned.status, scanned.findings.keys()) == (2, {new})
    assert sum(item["count"] for item in scanned.summary["failed"]["items"]) == 2
    assert sorted((tmp_path / "partial" / ".git" / "objects" / "pack").iterdir()) == before


def test_alternates_are_followed_and_a_broken_one_is_a_failure(tmp_path: Path, rng: random.Random, scan: Scan) -> None:
    origin = Repository(tmp_path / "origin")
    key_id, text = leak(rng)
    origin.commit("leak", {"leak": text})
    for name, source in (("borrower", "origin"), ("second", "borrower")):
        origin.git("clone", "--quiet", "--bare", "--shared", str(tmp_path / source), str(tmp_path / name))
    for _ in ("first", "again"):
        scanned = scan(tmp_path / "second")
        assert key_id in scanned.findings
        folders = [str(tmp_path / "borrower" / "objects"), str(tmp_path / "origin" / ".git" / "objects")]
        assert scanned.summary["borrowed"] == folders, "whatever is read is named"
    (tmp_path / "origin").rename(tmp_path / "moved")
    scanned = scan(tmp_path / "second", options=("--offline", "--db", str(tmp_path / "other.db")))
    assert scanned.status == 2
    assert str(tmp_path / "origin") in scanned.summary["failed"]["items"][0]["what"]


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="only root can give files away")
def test_an_alternate_of_another_user_is_left_out_and_others_repositories_are_read(
    tmp_path: Path, rng: random.Random, scan: Scan
) -> None:
    victim, borrower = Repository(tmp_path / "victim"), Repository(tmp_path / "borrower")
    (_, private_text), (own, own_text) = leak(rng), leak(rng)
    victim.commit("private", {"leak": private_text})
    borrower.commit("own", {"leak": own_text})
    borrower.git("gc", "--quiet")
    alternates = tmp_path / "borrower" / ".git" / "objects" / "info" / "alternates"
    alternates.write_text(str(tmp_path / "victim" / ".git" / "objects") + "\n")
    for path in (tmp_path / "borrower", *(tmp_path / "borrower").rglob("*")):
        os.chown(path, 12345, 12345)
    scanned = scan(tmp_path / "borrower" / ".git")
    assert (scanned.status, scanned.findings.keys()) == (1, {own})
    assert "another user" in scanned.summary["left_out"]["items"][0]["why"]


def test_a_bundle_is_read(tmp_path: Path, rng: random.Random, scan: Scan) -> None:
    repository = Repository(tmp_path / "r")
    key_id, text = leak(rng)
    first = repository.commit("leak", {"leak": text})
    repository.commit("clean", {"leak": "clean"})
    repository.git("bundle", "create", "--quiet", "../all.bundle", "--all")
    match = scan(tmp_path / "all.bundle").match(key_id)
    assert (match["commit"], match["repository"]) == (first, str(tmp_path / "all.bundle"))
    repository.git("bundle", "create", "--quiet", "../thin.bundle", "HEAD~1..main")
    assert scan(tmp_path / "thin.bundle").status == 2
    (tmp_path / "cut.bundle").write_bytes((tmp_path / "all.bundle").read_bytes()[:-30])
    assert scan(tmp_path / "cut.bundle").status == 2


@pytest.mark.parametrize(
    "url",
    [
        "ssh://key:EXAMPLEPASSWORD@127.0.0.1:1/x", "git+ssh://key:EXAMPLEPASSWORD@127.0.0.1:1/x",
        "git://key:EXAMPLEPASSWORD@127.0.0.1:1/x", "http::http://key:EXAMPLEPASSWORD@127.0.0.1:1/x",
        "key:EXAMPLEPASSWORD@127.0.0.1:x", "https:/key:EXAMPLEPASSWORD@127.0.0.1/x",
    ],
)  # fmt: skip
def test_a_password_that_git_takes_nowhere_is_neither_repeated_nor_kept(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    (tmp_path / "ssh").write_text('#!/bin/sh\necho "$@" >&2\nexit 255\n')
    (tmp_path / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    config, database = tmp_path / "c.toml", tmp_path / "f.db"
    config.write_text("[verify]\nenabled = false\n")
    assert cli.main(["scan", url, "--config", str(config), "--db", str(database)]) == 2
    out, err = capfd.readouterr()
    assert "PASSWORD" not in out + err
    assert not database.exists() or b"PASSWORD" not in database.read_bytes()


def test_bundles_and_packs_in_a_folder_are_read_as_long_as_they_are_there(
    tmp_path: Path, rng: random.Random, scan: Scan
) -> None:
    keys = []
    folder = tmp_path / "backups"
    folder.mkdir()
    for name in ("a.bundle", "b.pack"):
        repository = Repository(tmp_path / name)
        key_id, text = leak(rng)
        keys.append(key_id)
        repository.commit("leak", {"leak": text})
        if name == "a.bundle":
            repository.git("bundle", "create", "--quiet", str(folder / name), "--all")
        else:
            repository.git("gc", "--quiet")
            (pack,) = (tmp_path / name / ".git" / "objects" / "pack").glob("*.pack")
            pack.rename(folder / name)
    for _ in range(2):
        scanned = scan(folder, options=("--offline", "--show-secrets"))
        assert (scanned.status, scanned.findings.keys()) == (1, {*keys})
        assert scanned.match(keys[0])["repository"] == str(folder / "a.bundle")
        assert all(found["secret"] for found in scanned.findings.values())
    assert scanned.summary["read"]["objects"] == 0, "the second time nothing is read again"
    config = tmp_path / "c.toml"
    config.write_text("[scan]\nunpack_bytes = 100\n")
    scanned = scan(folder, options=("--offline", "--config", str(config)))
    assert (scanned.status, scanned.summary["failed"]["count"]) == (2, 2)
    (folder / "a.bundle").unlink()
    (folder / "b.pack").unlink()
    key_id, text = leak(rng)
    (folder / "c").write_text(f"# v2 git bundle\n{text}")
    scanned = scan(folder)
    assert (scanned.status, scanned.findings.keys()) == (2, {key_id}), "a text that begins so is read as one, too"


def test_a_bundle_that_is_not_unpacked_in_time_is_given_up_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scan: Scan
) -> None:
    repository = Repository(tmp_path / "r")
    repository.commit("one", {"a": "a"})
    repository.git("bundle", "create", "--quiet", "../all.bundle", "--all")
    (tmp_path / "git").write_text(
        f'#!/bin/sh\n[ "$1" = index-pack ] && exec sleep 60\nexec {shutil.which("git")} "$@"\n'
    )
    (tmp_path / "git").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    config = tmp_path / "c.toml"
    config.write_text('[serve]\nclone_time = "1s"\n')
    scanned = scan(tmp_path / "all.bundle", options=("--offline", "--config", str(config)))
    assert scanned.status == 2
    (failed,) = scanned.summary["failed"]["items"]
    assert failed["what"] == str(tmp_path / "all.bundle")
    assert "1 s: given up" in failed["why"]


def test_what_a_bundle_was_unpacked_to_is_removed_when_it_is_gone(tmp_path: Path, scan: Scan) -> None:
    cache, folder = tmp_path / "cache", tmp_path / "folder"
    config = tmp_path / "c.toml"
    config.write_text(f'[serve]\ncache = "{cache}"\n')
    repository = Repository(tmp_path / "r")
    repository.commit("one", {"a": "a"})
    folder.mkdir()
    for name in ("one", "two"):
        repository.git("bundle", "create", "--quiet", f"../folder/{name}.bundle", "--all")
    options = ("--offline", "--config", str(config))
    scan(folder, options=options)
    assert len([*cache.rglob("*.bundle.git")]) == 2
    (folder / "one.bundle").unlink()
    scan(folder, options=options)
    (left,) = cache.rglob("*.bundle.git")
    assert str(folder / "two.bundle").encode() in (left / "came-from").read_bytes()


def test_a_key_in_the_name_of_a_branch_in_a_bundle_is_found(tmp_path: Path, rng: random.Random, scan: Scan) -> None:
    key = make_key_id(rng)
    repository = Repository(tmp_path / "r")
    repository.commit("one", {"a": "a"})
    repository.git("branch", f"leak-{key}")
    (tmp_path / "folder").mkdir()
    repository.git("bundle", "create", "--quiet", "../folder/all.bundle", "--all")
    for target in (tmp_path / "folder" / "all.bundle", tmp_path / "folder"):
        assert scan(target).findings.keys() == {key}


@pytest.mark.parametrize(
    "line",
    ["@of-later={}", "@filter=sparse:oid={}", "no id {}", "{} refs/heads/main", f"{'0' * 40} refs/{'a' * 8135}/{{}}"],
)
def test_a_key_in_any_line_of_a_bundles_header_is_found(
    tmp_path: Path, rng: random.Random, scan: Scan, line: str
) -> None:
    key, repository = make_key_id(rng), Repository(tmp_path / "r")
    repository.commit("one", {"a": "a"})
    bundle = tmp_path / "all.bundle"
    repository.git("bundle", "create", "--quiet", "--version=3", str(bundle), "--all")
    head, _, rest = bundle.read_bytes().partition(b"object-format=sha1\n")
    bundle.write_bytes(head + b"object-format=sha1\n" + line.format(key).encode() + b"\n" + rest)
    for _ in range(2):
        assert scan(bundle).findings.keys() == {key}


def test_a_bundle_in_an_archive_or_in_history_is_told(tmp_path: Path, scan: Scan) -> None:
    repository = Repository(tmp_path / "r")
    repository.commit("one", {"a": "a"})
    repository.git("bundle", "create", "--quiet", "../all.bundle", "--all")
    (tmp_path / "all.bundle").rename(tmp_path / "r" / "all.bundle")
    repository.commit("a bundle")
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        archive.write(tmp_path / "r" / "all.bundle", "all.bundle")
    for target in (tmp_path / "r" / ".git", tmp_path / "z.zip"):
        scanned = scan(target)
        assert scanned.status == 2
        assert "file by itself" in scanned.summary["failed"]["items"][0]["why"]


def test_the_delta_filter_loses_no_hiding_place_and_a_thorough_scan_reads_what_it_ruled_out(
    tmp_path: Path, rng: random.Random, scan: Scan, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = hiding_places(tmp_path / "r", rng)
    repository = Repository.at(tmp_path / "r")
    del keys["message half written"]  # the commits below write another one
    text = "\n".join(f"line {number} {rng.random()}" for number in range(200))
    for number in range(20):
        repository.commit("plain", {"plain": text.replace("line 7 ", f"line {number} ")})
    repository.git("repack", "-q", "-a", "-d", "-f", "--keep-unreachable")
    monkeypatch.setenv("FIREDAMP_DELTA_MIN_BYTES", "0")
    scanned = scan(tmp_path / "r")
    assert {place for place, key_id in keys.items() if key_id not in scanned.findings} == set()
    read = scanned.summary["read"]
    assert read["ruled_out"] > 20
    thorough = scan(tmp_path / "r", options=("--offline", "--thorough"))
    assert thorough.summary["read"]["ruled_out"] == 0
    assert thorough.summary["read"]["objects"] == read["objects"] + read["ruled_out"]
    assert thorough.findings.keys() == scanned.findings.keys()
    monkeypatch.setenv("FIREDAMP_DELTA_MIN_BYTES", "many")
    assert scan(tmp_path / "r").status == 2


def test_a_pair_in_the_name_of_a_ref_is_found_and_read_again(tmp_path: Path, rng: random.Random, scan: Scan) -> None:
    repository = Repository(tmp_path / "r")
    repository.commit("empty")
    key_id, secret = make_key_id(rng), make_secret(rng).replace("/", "x")
    repository.git("tag", f"id={key_id}-secret={secret}")
    for path in (".git/refs", ".git/packed-refs"):
        scanned = scan(tmp_path / "r", options=("--offline", "--show-secrets"))
        assert scanned.findings[key_id]["secret"] == secret
        (match,) = scanned.findings[key_id]["matches"]
        assert (match["path"], match["commit"]) == (path, None)
        repository.git("pack-refs", "--all")


def test_a_key_in_the_name_of_a_linked_work_trees_ref_is_found(tmp_path: Path, rng: random.Random, scan: Scan) -> None:
    repository, key = Repository(tmp_path / "r"), make_key_id(rng)
    repository.commit("one", {"a": "a"})
    repository.git("worktree", "add", "--quiet", "-b", "linked", str(tmp_path / "linked"))
    repository.git("-C", str(tmp_path / "linked"), "update-ref", f"refs/worktree/{key}", "HEAD")
    for target in ("r", "linked"):
        (match,) = scan(tmp_path / target).findings[key]["matches"]
        assert match["path"] == (".git/refs" if target == "r" else str(tmp_path / "r" / ".git" / "refs"))


@pytest.mark.parametrize("encoding", ["cp037", "cp273", "cp500", "cp1140", "latin-1", "shift_jis", "utf-16"])
@pytest.mark.parametrize("filtered_from", ["1", str(1 << 30)])
def test_a_pair_in_a_message_of_another_encoding_is_found(  # noqa: PLR0917
    tmp_path: Path, rng: random.Random, scan: Scan, monkeypatch: pytest.MonkeyPatch, encoding: str, filtered_from: str
) -> None:
    monkeypatch.setenv("FIREDAMP_DELTA_MIN_BYTES", filtered_from)
    repository, (key_id, text) = Repository(tmp_path / "r", bare=True), leak(rng)
    tree = repository.git("mktree", given=b"")
    head = f"tree {tree}\nauthor A <a@b> 1 +0000\ncommitter A <a@b> 1 +0000\nencoding {encoding}\n\n"
    commit = ("commit", "--literally", "-w", "--stdin")
    tip = repository.git("hash-object", "-t", *commit, given=head.encode() + f"a message\n\n{text}".encode(encoding))
    repository.git("update-ref", "refs/heads/main", tip)
    repository.git("repack", "-q", "-a", "-d")
    found = scan(repository.path, options=("--offline", "--show-secrets")).findings
    assert {key: each["secret"] for key, each in found.items()} == {key_id: text.split()[-1]}


def test_a_secret_is_read_again_from_its_object_or_file(tmp_path: Path, rng: random.Random, scan: Scan) -> None:
    repository = Repository(tmp_path / "r")
    key_id, text = leak(rng)
    repository.commit("leak", {"leak": text})
    repository.commit("clean", {"leak": "clean"})
    shown = scan(tmp_path / "r", options=("--offline", "--show-secrets"))
    assert shown.findings[key_id]["secret"] == text.split()[-1]
    (message, message_text) = leak(rng)
    (tmp_path / "r" / ".git" / "COMMIT_EDITMSG").write_text(message_text)
    shown = scan(tmp_path / "r", options=("--offline", "--show-secrets"))
    assert shown.findings[message]["secret"] == message_text.split()[-1]
    assert shown.match(message)["path"] == ".git/COMMIT_EDITMSG"


def test_a_session_token_is_not_shown_as_the_secret_of_an_id_without_one(
    tmp_path: Path, rng: random.Random, scan: Scan
) -> None:
    key_id, token = make_key_id(rng, prefix="ASIA"), make_token(rng)
    (tmp_path / "log").write_text(f"https://b.test/?X-Amz-Credential={key_id}&X-Amz-Security-Token={token}")
    shown = scan(tmp_path, options=("--offline", "--show-secrets")).findings[key_id]
    assert (shown["secret"], shown["has_secret"]) == (None, False)
    (tmp_path / "log").write_text(f"X-Amz-Security-Token={token}")
    shown = scan(tmp_path, options=("--offline", "--show-secrets")).findings[None]
    assert (shown["secret"], shown["has_secret"]) == (token, True)


# Elsewhere: git URLs.


def test_a_git_url_is_cloned_once_and_fetched_then(tmp_path: Path, rng: random.Random, scan: Scan) -> None:
    repository = Repository(tmp_path / "r")
    (first, first_text), (pull, pull_text), (later, later_text) = leak(rng), leak(rng), leak(rng)
    repository.commit("leak", {"leak": first_text})
    repository.git("checkout", "--quiet", "--detach")
    repository.commit("pull", {"leak": pull_text})
    repository.git("update-ref", "refs/pull/1/head", "HEAD")
    repository.git("checkout", "--quiet", "main")
    url = (tmp_path / "r").as_uri()
    online = ("--config", str(_no_verification(tmp_path)))
    scanned = scan(url, options=online)
    assert scanned.findings.keys() == {first, pull}
    assert scanned.match(first)["repository"] == url
    commit = repository.commit("later", {"leak": later_text})
    scanned = scan(url, options=online)
    assert scanned.findings.keys() == {first, pull, later}
    assert scanned.match(later)["commit"] == commit
    repository.commit("not fetched", {"leak": leak(rng)[1]})
    assert scan(url).findings.keys() == {first, pull, later}, "--offline takes the clone as it is"
    assert scan((tmp_path / "elsewhere").as_uri()).status == 2
    assert scan((tmp_path / "missing").as_uri(), options=online).status == 2


def test_a_url_over_http_on_this_machine_is_cloned_and_its_password_is_nowhere(
    tmp_path: Path, cache: Path, rng: random.Random, scan: Scan
) -> None:
    repository = Repository(tmp_path / "r")
    key_id, text = leak(rng)
    repository.commit("leak", {"leak": text})
    bare = tmp_path / "served" / "r.git"
    repository.git("clone", "--quiet", "--bare", ".", str(bare))
    Repository.at(bare).git("update-server-info")
    asked = list[str]()

    class Handler(SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.headers["Authorization"])
            super().do_GET()

    handler = partial(Handler, directory=str(tmp_path / "served"))
    password = make_secret(rng).replace("/", "_").replace("+", "_")
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        place = f"127.0.0.1:{server.server_port}/r.git"
        scanned = scan(f"http://user:{password}@{place}", options=("--config", str(_no_verification(tmp_path))))
        server.shutdown()
    assert scanned.match(key_id)["repository"] == f"http://{place}"
    assert set(asked) == {"Basic " + base64.b64encode(f"user:{password}".encode()).decode()}
    # Other tests, in other processes, make and remove clones in the same cache meanwhile.
    for folder, _, names in (each for place in (tmp_path, Path.home(), cache) for each in os.walk(place)):
        for path in (Path(folder, name) for name in names):
            with suppress(FileNotFoundError):
                assert password.encode() not in path.read_bytes(), path


def test_a_key_in_a_place_that_cannot_be_read_any_more_is_neither_there_nor_gone(
    tmp_path: Path, rng: random.Random, scan: Scan, capsys: pytest.CaptureFixture[str]
) -> None:
    repository, bare, config = Repository(tmp_path / "r"), Repository(tmp_path / "b", bare=True), make_key_id(rng)
    key_id, text = leak(rng)
    repository.commit("leak", {"leak": text})
    repository.git("bundle", "create", "--quiet", "../all.bundle", "--all")
    bare.git("config", "user.name", config)
    bare.git("hash-object", "-w", "--stdin", given=b"to be damaged")
    targets = (tmp_path / "all.bundle", bare.path)
    assert scan(*targets).findings.keys() == {key_id, config}
    whole = targets[0].read_bytes()
    targets[0].write_bytes(whole[:-50])
    bare.git("config", "user.name", "nobody")
    (loose,) = bare.path.glob("objects/??/*")
    loose.rename(loose.with_name("0" * 38))
    time.sleep(0.2)
    for _ in ("first", "again"):
        scanned = scan(*targets)
        assert (scanned.status, scanned.findings.keys(), scanned.summary["unsure"]) == (2, set(), 2)
    assert cli.main(["scan", *map(str, targets), "--offline"]) == 2
    assert "2 findings of earlier scans" in capsys.readouterr().out
    loose.with_name("0" * 38).rename(loose)
    targets[0].write_bytes(whole)
    scanned = scan(*targets)
    assert (scanned.status, scanned.findings.keys(), scanned.summary["unsure"]) == (1, {key_id}, 0)


def test_a_repository_that_was_removed_or_replaced_holds_nothing_any_more(
    tmp_path: Path, rng: random.Random, scan: Scan, capsys: pytest.CaptureFixture[str]
) -> None:
    tree, keys = tmp_path / "tree", dict[str, str]()
    for name in ("removed", "stripped", "kept"):
        repository = Repository(tree / name)
        keys[name], text = leak(rng)
        repository.commit("leak", {"leak": text})
        repository.commit("clean", {"leak": "clean"})
    bundled = Repository(tmp_path / "bundled")
    keys["all.bundle"], text = leak(rng)
    bundled.commit("leak", {"leak": text})
    bundled.git("bundle", "create", "--quiet", str(tree / "all.bundle"), "--all")
    assert scan(tree).findings.keys() == set(keys.values())
    shutil.rmtree(tree / "removed")
    shutil.rmtree(tree / "stripped" / ".git")
    (tree / "all.bundle").write_text("text")

    def stands(name: str) -> bool:
        capsys.readouterr()
        assert cli.main(["findings", "show", keys[name], "--format", "jsonl"]) == 0
        return bool(json.loads(capsys.readouterr().out.splitlines()[0])["matches"])

    assert [name for name in keys if stands(name)] == [*keys]
    tree.rename(tmp_path / "away")
    scanned = scan(tree)
    assert (scanned.status, scanned.summary["unsure"]) == (2, len(keys))
    assert [name for name in keys if stands(name)] == [*keys]
    (tmp_path / "away").rename(tree)
    scanned = scan(tree)
    assert (scanned.status, scanned.findings.keys(), scanned.summary["unsure"]) == (1, {keys["kept"]}, 0)
    assert [name for name in keys if stands(name)] == ["kept"]


def test_a_repository_that_was_taken_for_gone_is_placed_again_when_it_is_back(
    tmp_path: Path, rng: random.Random, scan: Scan
) -> None:
    repository, (key_id, text) = Repository(tmp_path / "in" / "r"), leak(rng)
    repository.commit("leak", {"leak": text})
    repository.commit("clean", {"leak": "clean"})
    time.sleep(0.1)
    place = scan(tmp_path / "in").match(key_id)
    repository.path.rename(tmp_path / "away")
    assert scan(tmp_path / "in").findings == {}
    (tmp_path / "away").rename(repository.path)
    back = scan(tmp_path / "in")
    assert (back.status, back.match(key_id)) == (1, place), "nothing of the repository has changed"
    assert back.summary["read"]["objects"] == 0


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="proc(5) tells what is open")
def test_a_scan_of_many_repositories_leaves_none_of_their_folders_open(tmp_path: Path, scan: Scan) -> None:
    for number in range(3):
        Repository(tmp_path / str(number)).commit("one", {"a": "a"})
    (tmp_path / "0" / ".git" / "packed-refs").mkdir()
    assert scan(tmp_path, tmp_path / "1").status == 0
    still = list[str]()
    for each in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):
            still.append(str(each.readlink()))
    assert not [place for place in still if place.startswith(str(tmp_path))]


def test_places_of_another_repository_that_stood_there_are_not_taken_over(
    tmp_path: Path, rng: random.Random, scan: Scan
) -> None:
    repository, (key_id, text) = Repository(tmp_path / "r"), leak(rng)
    first = repository.commit("leak", {"leak": text})
    (repository.path / "leak").unlink()
    match = scan(repository.path).match(key_id)
    # What is left where a scan is killed after its walk and before it says what is gone.
    place = GitProvenance(repository=str(repository.path), commit=first[::-1], path="stale", in_head=True)
    with Store(Path(os.environ["FIREDAMP_DB"])) as store:
        stale = Met(source="git", blob=match["blob"], provenance=place)
        store.record(Batch(at=datetime.now(UTC), detector=VERSION, met=(stale,)))
    repository.commit("more", {"README": "hello"})
    assert scan(repository.path).match(key_id)["path"] == "leak"


def test_a_pack_that_is_a_link_is_news(tmp_path: Path, rng: random.Random, scan: Scan) -> None:
    repository, other = Repository(tmp_path / "r"), Repository(tmp_path / "other")
    key_id, text = leak(rng)
    repository.commit("clean", {"a": "a"})
    other.commit("leak", {"leak": text})
    other.git("repack", "--quiet", "-a", "-d")
    time.sleep(0.1)
    assert scan(repository.path).findings == {}
    assert scan(repository.path).summary["read"]["objects"] == 0
    for path in (other.path / ".git" / "objects" / "pack").iterdir():
        (repository.path / ".git" / "objects" / "pack" / path.name).symlink_to(path)
    assert scan(repository.path).match(key_id)["path"] == "leak"


def test_a_repository_is_not_taken_for_unchanged_before_its_clock_has_ticked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = Repository(tmp_path / "r")
    second = int(time.time()) + 60  # later than any other time in it
    os.utime(repository.path / ".git" / "config", (second, second))
    monkeypatch.setattr(gitfiles, "time", SimpleNamespace(time_ns=lambda: int((second + 0.3) * 1_000_000_000)))
    assert not gitfiles.stamp(find(repository.path)).settled, "it counts whole seconds"
    monkeypatch.setattr(gitfiles, "time", SimpleNamespace(time_ns=lambda: int((second + 2.1) * 1_000_000_000)))
    assert gitfiles.stamp(find(repository.path)).settled


def test_one_scan_of_a_folder_with_every_kind_of_repository_tells_each_key_once_with_all_its_places(
    tmp_path: Path, rng: random.Random, scan: Scan
) -> None:
    tree, keys = tmp_path / "tree", {name: leak(rng) for name in ("main", "linked", "module", "borrower", "inner")}
    main, module = Repository(tree / "main"), Repository(tmp_path / "module")
    main.commit("leak", {"leak": keys["main"][1]})
    main.commit("clean", {"leak": "clean"})
    module.commit("leak", {"leak": keys["module"][1]})
    main.git("submodule", "--quiet", "add", str(module.path), "module")
    main.git("worktree", "add", "--quiet", "-b", "linked", str(tree / "linked"))
    Repository.at(tree / "linked").commit("leak", {"new": keys["linked"][1]})
    url = f"file://{main.path}"
    main.git("config", "uploadpack.allowFilter", "true")
    for name, option in (("mirror.git", "--mirror"), ("borrower", "--shared"), ("shallow", "--depth=1")):
        main.git("clone", "--quiet", option, str(main.path) if name == "borrower" else url, str(tree / name))
    main.git("clone", "--quiet", "--filter=blob:none", "--no-checkout", url, str(tree / "partial"))
    Repository.at(tree / "borrower").commit("leak", {"own": keys["borrower"][1]})
    Repository(tree / "main" / "inner").commit("leak", {"leak": keys["inner"][1]})
    time.sleep(0.2)

    def stands(*targets: Path) -> dict[str, set[str]]:
        scanned = scan(*targets)
        assert (scanned.status, scanned.summary["failed"]["items"][0]["what"]) == (2, f"{tree / 'partial'} objects")
        places = dict[str, set[str]]()
        for name, (key_id, _) in keys.items():
            met = [(each["repository"], each["path"], each["commit"]) for each in scanned.findings[key_id]["matches"]]
            assert len(set(met)) == len(met), "no place is told twice"
            places[name] = {str(Path(each[0]).relative_to(tree)) for each in met if each[0] is not None}
        return places

    first = stands(tree)
    assert first == {
        "main": {"main", "linked", "mirror.git", "borrower"},
        "linked": {"main", "linked", "mirror.git", "borrower"},
        "module": {"main/module", "main/.git/modules/module"},
        "borrower": {"borrower"},
        "inner": {"main/inner"},
    }
    assert stands(tree) == first
    assert stands(tree, tree / "main", tree / "main" / "inner", tree / "mirror.git", tree / "linked") == first
    assert not any(found["new"] for found in scan(tree).findings.values())
    shutil.rmtree(tree / "mirror.git")
    assert stands(tree) == {name: places - {"mirror.git"} for name, places in first.items()}


def test_names_of_refs_beside_a_pack_that_was_fetched_in_part_are_read(
    tmp_path: Path, rng: random.Random, scan: Scan
) -> None:
    repository, key_id = Repository(tmp_path / "r", bare=True), make_key_id(rng)
    noted = repository.path / "objects" / "pack" / "pack-x.promisor"
    noted.write_text(f"{'a' * 40} refs/heads/{key_id}\n")
    assert scan(repository.path).match(key_id)["path"] == "objects/pack/pack-x.promisor"


def _no_verification(folder: Path) -> Path:
    path = folder / "firedamp.toml"
    path.write_text("[verify]\nenabled = false\n")
    return path


def test_a_secret_in_a_bundle_or_a_clone_is_read_again_from_the_cache(
    tmp_path: Path, cache: Path, rng: random.Random, scan: Scan
) -> None:
    repository = Repository(tmp_path / "r")
    key_id, text = leak(rng)
    repository.commit("leak", {"leak": text})
    repository.git("bundle", "create", "--quiet", "../all.bundle", "--all")
    shown = scan(tmp_path / "all.bundle", options=("--offline", "--show-secrets"))
    assert shown.findings[key_id]["secret"] == text.split()[-1]
    url, online = (tmp_path / "r").as_uri(), ("--config", str(_no_verification(tmp_path)))
    shown = scan(url, options=(*online, "--show-secrets"))
    assert shown.findings[key_id]["secret"] == text.split()[-1]
    clones = (cache / "firedamp" / "repositories").glob("*.git")
    (ours,) = (each for each in clones if url in (each / "config").read_text())
    shutil.rmtree(ours)
    assert list(read_again(GitProvenance(repository=url, commit="0"), "0" * 40, tmp_path)) == []


def unasked(*_: object) -> NoReturn:
    raise AssertionError("listed again")


def archive(members: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in members.items():
            made.writestr(name, content)
    return packed.getvalue()


def damaged(tmp_path: Path, rng: random.Random) -> Path:
    """Make a repository that holds a container which is cut off, and another object."""
    repository = Repository(tmp_path / "r", bare=True)
    packed = archive({"a": rng.randbytes(9000), "b": leak(rng)[1].encode()})
    repository.git("hash-object", "-w", "--stdin", given=packed[:5000])
    repository.git("hash-object", "-w", "--stdin", given=b"nothing")
    time.sleep(0.2)  # what changed just now may change again within the same tick
    return repository.path


def unopened(*_: object) -> NoReturn:
    raise AssertionError("opened again")


def test_a_container_that_is_damaged_is_told_each_time_and_opened_once(
    tmp_path: Path, rng: random.Random, scan: Scan, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = damaged(tmp_path, rng)
    first = scan(repository)
    assert first.status == 2
    with monkeypatch.context() as patched:
        patched.setattr(unpack, "_started", unopened)
        patched.setattr(listing, "list_objects", unasked)
        for _ in range(2):
            again = scan(repository)
            read = again.summary["read"]
            assert (again.status, read["objects"], read["known"]) == (2, 0, 2)
            assert again.summary["failed"] == first.summary["failed"]


def test_a_damaged_container_is_opened_again_with_other_means(
    tmp_path: Path, rng: random.Random, scan: Scan, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = damaged(tmp_path, rng)
    packages = tmp_path / "packages"
    packages.mkdir()
    monkeypatch.setattr(platformdirs, "__file__", str(packages / "platformdirs" / "__init__.py"))
    assert scan(repository).status == 2
    (packages / "another").mkdir()
    again = scan(repository)
    assert (again.status, again.summary["read"]["objects"]) == (2, 1)


def test_a_container_whose_process_was_lost_is_opened_each_time(
    tmp_path: Path, rng: random.Random, scan: Scan, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = Repository(tmp_path / "r", bare=True)
    key_id, text = leak(rng)
    repository.git("hash-object", "-w", "--stdin", given=archive({"b": text.encode()}))
    repository.git("hash-object", "-w", "--stdin", given=b"nothing")
    time.sleep(0.2)
    with monkeypatch.context() as patched:
        patched.setattr(unpack, "_BOOT", "")
        assert scan(repository.path).status == 2
        patched.setattr(listing, "list_objects", unasked)
        again = scan(repository.path)
        read = again.summary["read"]
        assert (again.status, read["objects"], read["known"]) == (2, 1, 1), "nothing else is even listed"
    assert key_id in scan(repository.path).findings


def test_a_container_that_can_be_opened_after_all_is_read_and_its_keys_have_a_place(
    tmp_path: Path, rng: random.Random, scan: Scan
) -> None:
    repository = Repository(tmp_path / "r")
    key_id, text = leak(rng)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", "nothing")
        archive.writestr("b", text)
    (repository.path / "a.zip").write_bytes(packed.getvalue())
    repository.git("add", "a.zip")
    repository.commit("archive")
    tight = tmp_path / "tight.toml"
    tight.write_text("[scan]\nunpack_members = 1\n")
    options = ("--offline", "--config", str(tight))
    time.sleep(0.2)
    for _ in range(2):
        assert scan(tmp_path / "r" / ".git", options=options).status == 2
    found = scan(tmp_path / "r" / ".git")
    assert found.status == 1
    (match,) = found.findings[key_id]["matches"]
    assert (match["path"], match["container"]) == ("a.zip", "b")
    assert match["commit"] == repository.git("rev-parse", "HEAD")


def test_what_can_be_read_of_a_container_that_still_fails_has_a_place(
    tmp_path: Path, rng: random.Random, scan: Scan
) -> None:
    repository = Repository(tmp_path / "r")
    key_id, text = leak(rng)
    never = archive({"x": rng.randbytes(9000)})[:5000]
    (repository.path / "a.zip").write_bytes(archive({"broken.zip": never, "b": text.encode()}))
    (repository.path / "other.zip").write_bytes(never)
    repository.git("add", ".")
    repository.commit("archives")
    tight = tmp_path / "tight.toml"
    tight.write_text("[scan]\nunpack_members = 1\n")
    time.sleep(0.2)
    assert scan(tmp_path / "r" / ".git", options=("--offline", "--config", str(tight))).findings == {}
    for _ in range(2):
        found = scan(tmp_path / "r" / ".git")
        assert [match["path"] for match in found.findings[key_id]["matches"]] == ["a.zip"]
        told = [item["what"] for item in found.summary["failed"]["items"]]
        assert len(told) == len({*told}), "what fails is told once"


def test_what_failed_for_a_passing_reason_is_tried_again(
    tmp_path: Path, rng: random.Random, scan: Scan, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = Repository(tmp_path / "r")
    key_id, text = leak(rng)
    (repository.path / "a.zip").write_bytes(archive({"noise": rng.randbytes(6 << 20), "b": text.encode()}))
    repository.git("add", ".")
    repository.commit("archive")
    time.sleep(0.2)
    with monkeypatch.context() as full:
        full.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=0))
        for _ in range(2):
            scanned = scan(tmp_path / "r" / ".git")
            assert [item["why"] for item in scanned.summary["failed"]["items"]] == [
                "a container, and the disk has no room to open it"
            ]
    assert key_id in scan(tmp_path / "r" / ".git").findings


def test_alternates_nested_deeper_than_git_follows_are_left_out(tmp_path: Path, rng: random.Random, scan: Scan) -> None:
    chain = [Repository(tmp_path / str(number), bare=True) for number in range(8)]
    keys = list[str]()
    for repository, following in zip(chain, [*chain[1:], chain[0]], strict=True):
        key_id, text = leak(rng)
        keys.append(key_id)
        repository.git("hash-object", "-w", "--stdin", given=text.encode())
        alternates = repository.path / "objects" / "info" / "alternates"
        alternates.parent.mkdir(exist_ok=True)
        alternates.write_text(f"# a comment\n\n../../{following.path.name}/objects\n")
    scanned = scan(chain[0].path)
    assert scanned.findings.keys() == set(keys[:6])
    assert [item["what"] for item in scanned.summary["left_out"]["items"]] == [str(chain[6].path / "objects")]


def test_a_repository_without_objects_is_a_failure(tmp_path: Path, scan: Scan) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "git").mkdir()
    (tmp_path / "git" / "HEAD").write_text("ref: refs/heads/main\n")
    (tmp_path / "git" / "commondir").write_text("../nowhere\n")
    (tmp_path / "tree" / ".git").write_text(f"gitdir: {tmp_path / 'git'}\n")
    scanned = scan(tmp_path / "tree")
    assert scanned.status == 2
    assert "no object folder" in scanned.summary["failed"]["items"][0]["why"]
