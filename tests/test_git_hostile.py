"""Repositories that would run something, and damaged ones: nothing runs, nothing is lost but what is damaged."""

from __future__ import annotations

import os
import random
import signal
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.builders import make_key_id
from tests.packwriter import Copy, Delta, Whole, write_pack
from tests.repositories import Repository, leak
from tests.scans import Scan, scanner

from firedamp.scanner import absent
from firedamp.scanner.objects import find
from firedamp.scanner.packindex import PackListing, list_pack
from firedamp.storage.errors import SourceFailure


@pytest.fixture(name="scan")
def scan_(capsys: pytest.CaptureFixture[str]) -> Scan:
    return scanner(capsys)


def test_nothing_in_a_repository_runs(
    tmp_path: Path, rng: random.Random, scan: Scan, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = Repository(tmp_path / "r")
    key_id, text = leak(rng)
    repository.commit("leak", {"leak.x": text, ".gitattributes": "*.x diff=evil filter=evil merge=evil\n"})
    repository.commit("clean", {"leak.x": "clean"})
    proof = tmp_path / "ran"
    evil = tmp_path / "evil"
    evil.write_text(f"#!/bin/sh\necho $0 $@ >> {proof}\n")
    evil.chmod(0o755)
    for name in (
        "core.fsmonitor", "core.pager", "core.sshCommand", "core.gitProxy", "core.editor", "core.askPass",
        "diff.external", "diff.evil.textconv", "diff.evil.command", "filter.evil.clean", "filter.evil.smudge",
        "filter.evil.process", "merge.evil.driver", "credential.helper", "uploadpack.packObjectsHook",
        "pager.log", "pager.cat-file", "pager.diff-tree", "gpg.program", "core.alternateRefsCommand",
        "alias.cat-file", "alias.rev-list",
    ):  # fmt: skip
        repository.git("config", name, f"!{evil}" if name.startswith("alias") else str(evil))
    repository.git("config", "core.hooksPath", str(tmp_path / "hooks"))
    (tmp_path / "hooks").mkdir()
    for hook in ("post-checkout", "reference-transaction", "pre-auto-gc", "post-index-change", "fsmonitor-watchman"):
        (tmp_path / "hooks" / hook).symlink_to(evil)
    (tmp_path / "included").write_text(f"[core]\n\tfsmonitor = {evil}\n")
    repository.git("config", "include.path", str(tmp_path / "included"))
    repository.git("config", "extensions.partialClone", "origin", check=False)
    repository.git("config", "remote.origin.promisor", "true", check=False)
    repository.git("config", "remote.origin.url", f"ext::{evil} %S", check=False)
    repository.git("config", "core.repositoryFormatVersion", "1", check=False)
    lost = repository.git("hash-object", "-w", "--stdin", given=b"to be lost", check=False)
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("GIT_EXTERNAL_DIFF", str(evil))
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "core.fsmonitor")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", str(evil))
    proof.unlink(missing_ok=True)
    assert key_id in scan(tmp_path / "r").findings
    assert not proof.exists(), proof.read_text()
    assert isinstance(lost, str)


def test_an_absent_object_is_not_fetched_through_a_command(tmp_path: Path, rng: random.Random, scan: Scan) -> None:
    repository = Repository(tmp_path / "r")
    key_id, text = leak(rng)
    repository.commit("leak", {"leak": text})
    repository.commit("later", {"absent": "x", "leak": "clean"})
    absent = repository.git("rev-parse", "HEAD:absent")
    for name, value in (
        ("extensions.partialClone", "origin"), ("remote.origin.promisor", "true"),
        ("remote.origin.url", f"ext::sh -c 'touch {tmp_path / 'ran'}' %S"), ("protocol.ext.allow", "always"),
    ):  # fmt: skip
        repository.git("config", name, value)
    (tmp_path / "r" / ".git" / "objects" / absent[:2] / absent[2:]).unlink()
    scanned = scan(tmp_path / "r" / ".git")
    assert (scanned.status, scanned.findings.keys()) == (2, {key_id})
    assert [item["count"] for item in scanned.summary["failed"]["items"]] == [1]
    assert not (tmp_path / "ran").exists()


def test_replaced_and_grafted_history_is_read_as_it_is(tmp_path: Path, rng: random.Random, scan: Scan) -> None:
    repository = Repository(tmp_path / "r")
    key_id, text = leak(rng)
    leaked = repository.commit("leak", {"leak": text})
    clean = repository.commit("clean", {"leak": "clean"})
    blob = repository.git("rev-parse", "HEAD~1:leak")
    harmless = repository.git("rev-parse", "HEAD:leak")
    repository.git("replace", "-f", blob, harmless)
    (tmp_path / "r" / ".git" / "info").mkdir(exist_ok=True)
    (tmp_path / "r" / ".git" / "info" / "grafts").write_text(f"{clean}\n")
    match = scan(tmp_path / "r").match(key_id)
    assert (match["blob"], match["commit"]) == (blob, leaked)


def test_a_git_file_may_point_outside_and_must_point_to_a_repository(
    tmp_path: Path, rng: random.Random, scan: Scan
) -> None:
    outside = Repository(tmp_path / "outside")
    key_id, text = leak(rng)
    outside.commit("leak", {"leak": text})
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / ".git").write_text("gitdir: ../outside/.git\n")
    assert key_id in scan(tmp_path / "tree").findings
    (tmp_path / "tree" / ".git").write_text("gitdir: /etc\n")
    assert scan(tmp_path / "tree").status == 2
    (tmp_path / "tree" / ".git").write_text("nonsense\n")
    with pytest.raises(SourceFailure, match="is no repository"):
        find(tmp_path / "tree")
    (tmp_path / "tree" / ".git").unlink()
    (tmp_path / "tree" / ".git").mkdir()
    with pytest.raises(SourceFailure, match="HEAD, objects or refs"):
        find(tmp_path / "tree")


def test_a_ref_that_leads_out_of_the_repository_or_in_a_ring_is_no_head(
    tmp_path: Path, rng: random.Random, scan: Scan
) -> None:
    repository = Repository(tmp_path / "r")
    key_id, text = leak(rng)
    repository.commit("leak", {"leak": text})
    for head in ("ref: refs/../../../secret\n", "ref: refs/heads/ring\n", "nonsense\n"):
        (tmp_path / "r" / ".git" / "HEAD").write_text(head)
        (tmp_path / "r" / ".git" / "refs" / "heads" / "ring").write_text("ref: refs/heads/ring\n")
        matches = scan(tmp_path / "r").findings[key_id]["matches"]
        assert {match["in_head"] for match in matches if match["commit"]} == {None}


def test_a_bundle_whose_head_is_no_text_is_read(tmp_path: Path, rng: random.Random, scan: Scan) -> None:
    repository = Repository(tmp_path / "r")
    key_id, text = leak(rng)
    repository.commit("leak", {"leak": text})
    repository.git("bundle", "create", "--quiet", "../all.bundle", "--all")
    bundle = tmp_path / "all.bundle"
    bundle.write_bytes(bundle.read_bytes().replace(b"\n\n", b"\n\xff HEAD\n\n", 1))
    assert key_id in scan(bundle).findings


# Damage.


def packed(path: Path, files: int, rng: random.Random) -> tuple[dict[str, str], PackListing]:
    """Make a repository with one pack of so many blobs, a key in each tenth; return blob -> key id, and the pack."""
    repository = Repository(path, bare=True)
    keys, feed = dict[str, str](), []
    for number in range(files):
        key_id, text = leak(rng) if number % 10 == 0 else ("", f"{number} {rng.random()}\n" * 8)
        feed.append(f"blob\nmark :{number + 1}\ndata {len(text)}\n{text}\n")
        if key_id:
            keys[key_id] = text
    message = "commit refs/heads/main\ncommitter Ada <ada@example.org> 1767225600 +0000\ndata 4\nmany\n"
    tree = "".join(f"M 100644 :{number + 1} {number % 100}/{number}\n" for number in range(files))
    repository.git("fast-import", "--quiet", "--depth=0", given=("".join(feed) + message + tree).encode())
    repository.git("config", "pack.depth", "0")
    repository.git("repack", "-q", "-a", "-d", "-F", "--depth=0")
    (index,) = (path / "objects" / "pack").glob("*.idx")
    listing = list_pack(index.with_suffix(".pack"), index, width=20)
    assert isinstance(listing, PackListing)
    return keys, listing


def damage(listing: PackListing, position: int) -> str:
    """Overwrite the middle of an object's compressed data in its pack, and return its id."""
    ends = np.append(listing.offsets[1:], listing.end)
    listing.pack.chmod(0o644)
    with listing.pack.open("r+b") as file:
        file.seek((int(listing.offsets[position]) + int(ends[position])) // 2)
        file.write(b"\xff" * 4)
    return listing.ids(np.array([position], np.int32)).tobytes().hex()


def test_damage_in_the_middle_of_a_large_pack_costs_the_damaged_objects_only(
    tmp_path: Path, rng: random.Random, scan: Scan
) -> None:
    keys, listing = packed(tmp_path / "r", 10_000, rng)
    blobs = listing.besides_trees()
    good = scan(tmp_path / "r", options=("--offline", "--db", str(tmp_path / "good.db")))
    assert (good.status, good.findings.keys()) == (1, keys.keys())
    damaged = {damage(listing, int(blobs[at])) for at in (5_000, 5_001, 7_000)}
    lost = {key for key, line in good.findings.items() if line["matches"][0]["blob"] in damaged}
    scanned = scan(tmp_path / "r")
    assert scanned.status == 2
    assert scanned.findings.keys() == keys.keys() - lost
    assert {item["what"].split()[-1] for item in scanned.summary["failed"]["items"]} == damaged
    assert scanned.summary["read"]["objects"] == good.summary["read"]["objects"] - 3
    again = scan(tmp_path / "r")
    assert again.status == 2, "damage is told each time"
    assert again.summary["read"]["objects"] == 0


@pytest.mark.parametrize(
    ("name", "text", "status"),
    [
        ("objects/info/alternates", b"/nowhere\0x\n", 2),
        ("objects/info/alternates", b'"/nowhere\\000x"\n', 2),
        ("objects/info/alternates", b'"\\8"\n', 2),
        ("objects/info/alternates", b"/" + b"x" * 5000, 2),
        ("HEAD", b"ref: refs/heads/\0main\n", 1),
        ("HEAD", b"ref: refs/heads/" + b"x" * 5000, 1),
        ("config", b"[lfs]\n\tstorage = /a\0b\n", 1),
        ("config", b'[lfs]\n\tstorage = "/a\\000b"\n', 1),
        ("config", b"[lfs]\n\tstorage = /" + b"x" * 5000, 1),
    ],
)
def test_a_name_that_no_file_can_have_ends_no_scan(  # noqa: PLR0917 - what is parametrised, and three fixtures
    tmp_path: Path, rng: random.Random, scan: Scan, name: str, text: bytes, status: int
) -> None:
    repository = Repository(tmp_path / "r")
    key_id, leaked = leak(rng)
    repository.commit("leak", {"leak": leaked})
    (tmp_path / "r" / ".git" / name).write_bytes(text)
    scanned = scan(tmp_path / "r" / ".git")
    assert (scanned.status, scanned.findings.keys()) == (status, {key_id})


@pytest.mark.parametrize("real", ["sha1", "sha256"])
@pytest.mark.parametrize("packed", [False, True])
def test_objects_of_another_hash_than_the_configuration_says_are_told(
    tmp_path: Path, rng: random.Random, scan: Scan, real: str, packed: bool
) -> None:
    repository = Repository(tmp_path / "r", f"--object-format={real}")
    repository.commit("leak", {"leak": leak(rng)[1]})
    if packed:
        repository.git("gc", "--quiet")
    said = "[extensions]\n\tobjectformat = sha256\n" if real == "sha1" else ""
    (tmp_path / "r" / ".git" / "config").write_text(f"[core]\n\tbare = false\n{said}")
    assert scan(tmp_path / "r" / ".git").status == 2


@pytest.mark.parametrize("how", ["a link", "a path that ends in spaces"])
@pytest.mark.parametrize("below", [False, True])
def test_a_git_folder_elsewhere_is_found_as_git_finds_it(
    tmp_path: Path, rng: random.Random, scan: Scan, how: str, below: bool
) -> None:
    tree, kept = tmp_path / "tree", tmp_path / "kept  "
    repository = Repository(tree / "r")
    key_id, text = leak(rng)
    repository.commit("leak", {"leak": text})
    repository.commit("clean", {"leak": "clean"})
    (tree / "r" / ".git").rename(kept)
    if how == "a link":
        (tree / "r" / ".git").symlink_to(kept)
    else:
        (tree / "r" / ".git").write_text(f"gitdir: {kept}\n")
    assert repository.git("rev-parse", "HEAD")
    for _ in ("first", "again"):
        scanned = scan(tree if below else tree / "r")
        assert (scanned.status, scanned.match(key_id)["repository"]) == (1, str(tree / "r"))
        assert scanned.summary["borrowed"] == ([f"{kept}/objects"] if how == "a link" else [])
        assert scanned.summary["left_out"]["count"] == 0


@pytest.mark.parametrize("lost", ["HEAD", "refs"])
@pytest.mark.parametrize("name", ["r.git", "r/.git"])
def test_objects_of_a_git_folder_that_git_opens_no_more_are_read(
    tmp_path: Path, rng: random.Random, scan: Scan, lost: str, name: str
) -> None:
    repository = Repository(tmp_path / "tree" / name, bare=True)
    key_id, text = leak(rng)
    repository.git("hash-object", "-w", "--stdin", given=text.encode())
    (repository.path / lost).rename(tmp_path / "lost")
    for target in (repository.path, tmp_path / "tree"):
        scanned = scan(target)
        assert (scanned.status, scanned.findings.keys()) == (2, {key_id})
        (told,) = scanned.summary["failed"]["items"]
        assert (told["what"], "missing" in told["why"]) == (str(repository.path / lost), True)


def test_a_store_of_another_program_that_looks_like_a_git_folder_is_none(tmp_path: Path, scan: Scan) -> None:
    for name in ("ostree/objects/ab", "ostree/refs/heads"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "ostree" / "config").write_text("[core]\nmode=bare-user-only\n")
    assert scan(tmp_path).status == 0


@pytest.mark.parametrize("to", ["/", "nowhere", "folder", ".git"])
def test_a_link_that_leads_to_no_repository_is_left_out(tmp_path: Path, scan: Scan, to: str) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "file").write_text("clean")
    (tmp_path / "folder").mkdir()
    (tree / ".git").symlink_to("../folder" if to == "folder" else to)
    scanned = scan(tree)
    assert (scanned.status, scanned.summary["left_out"]["count"]) == (0, 1)


def test_only_an_extension_names_the_hash(tmp_path: Path, rng: random.Random, scan: Scan) -> None:
    repository = Repository(tmp_path / "r")
    key_id, text = leak(rng)
    repository.commit("leak", {"leak": text})
    repository.git("config", "hidden.objectFormat", "sha256")
    assert scan(tmp_path / "r" / ".git").findings.keys() == {key_id}


def test_the_hash_is_read_behind_another_extension(tmp_path: Path, rng: random.Random, scan: Scan) -> None:
    repository = Repository(tmp_path / "r", "--object-format=sha256")
    key_id, text = leak(rng)
    repository.commit("leak", {"leak": text})
    said = "[extensions]\n\tnoop = [x]\n\tobjectFormat = sha256\n"
    (tmp_path / "r" / ".git" / "config").write_text(f"[core]\n\trepositoryformatversion = 1\n{said}")
    assert scan(tmp_path / "r" / ".git").findings.keys() == {key_id}


def test_a_linked_work_tree_whose_commondir_holds_a_nul_is_read(tmp_path: Path, rng: random.Random, scan: Scan) -> None:
    repository = Repository(tmp_path / "r")
    key_id, text = leak(rng)
    repository.commit("leak", {"leak": text})
    repository.git("worktree", "add", "--quiet", "-b", "linked", str(tmp_path / "linked"))
    (tmp_path / "r" / ".git" / "worktrees" / "linked" / "commondir").write_bytes(b"../..\0x\n")
    assert scan(tmp_path / "linked").findings.keys() == {key_id}


def test_damaged_loose_objects_are_failures(tmp_path: Path, rng: random.Random, scan: Scan) -> None:
    repository = Repository(tmp_path / "r", bare=True)
    key_id, text = leak(rng)
    repository.git("hash-object", "-w", "--stdin", given=text.encode())
    objects = tmp_path / "r" / "objects"
    for number, content in enumerate(
        (b"no zlib", zlib.compress(b"blob 100\0short"), b"", zlib.compress(b"blob " + b"9" * 40 + b"\0x"),
         zlib.compress(rng.randbytes(5000))[:3000]),
    ):  # fmt: skip
        name = f"{number:040x}"
        (objects / name[:2]).mkdir(exist_ok=True)
        (objects / name[:2] / name[2:]).write_bytes(content)
    scanned = scan(tmp_path / "r")
    assert (scanned.status, scanned.findings.keys()) == (2, {key_id})
    assert sum(item["count"] for item in scanned.summary["failed"]["items"]) == 5


@pytest.mark.parametrize("packed", [False, True])
def test_an_object_whose_damage_was_mended_in_place_is_read(
    tmp_path: Path, rng: random.Random, scan: Scan, packed: bool
) -> None:
    repository = Repository(tmp_path / "r", bare=True)
    key_id, text = leak(rng)
    name = repository.git("hash-object", "-w", "--stdin", given=text.encode())
    objects = repository.path / "objects"
    damaged = objects / name[:2] / name[2:]
    if packed:
        damaged = (
            objects / f"pack/pack-{repository.git('pack-objects', '-q', 'objects/pack/pack', given=name.encode())}.pack"
        )
        (objects / name[:2] / name[2:]).unlink()
    good = damaged.read_bytes()
    damaged.chmod(0o644)
    damaged.write_bytes(good[:20] + bytes(10) + good[30:])
    time.sleep(0.2)  # what changed just now may change again within the same tick
    for _ in ("first", "again"):
        scanned = scan(repository.path)
        assert (scanned.status, scanned.findings.keys(), scanned.summary["read"]["known"]) == (2, set(), 0)
        time.sleep(0.2)
    damaged.write_bytes(good)
    scanned = scan(repository.path)
    assert (scanned.status, scanned.findings.keys()) == (1, {key_id})


def test_a_configuration_edited_in_place_is_read_though_its_size_and_time_are_as_before(
    tmp_path: Path, rng: random.Random, scan: Scan
) -> None:
    repository = Repository(tmp_path / "r", bare=True)
    config, key_id = repository.path / "config", make_key_id(rng)
    repository.git("config", "user.name", "x" * len(key_id))
    time.sleep(0.2)
    status = config.stat()
    assert scan(repository.path).status == 0
    config.write_text(config.read_text().replace("x" * len(key_id), key_id))
    os.utime(config, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert config.stat().st_size == status.st_size
    assert scan(repository.path).findings.keys() == {key_id}


def test_a_pack_that_cannot_be_listed_is_a_failure(tmp_path: Path, rng: random.Random, scan: Scan) -> None:
    _, listing = packed(tmp_path / "r", 10, rng)
    index = listing.pack.with_suffix(".idx")
    index.chmod(0o644)
    index.write_bytes(index.read_bytes()[:500])
    scanned = scan(tmp_path / "r")
    assert scanned.status == 2
    assert scanned.summary["failed"]["items"][0]["what"] == str(listing.pack)


def test_a_pack_without_its_index_is_a_failure(tmp_path: Path, rng: random.Random, scan: Scan) -> None:
    _, listing = packed(tmp_path / "r", 10, rng)
    listing.pack.with_suffix(".idx").unlink()
    time.sleep(0.2)
    for _ in ("first", "again"):
        scanned = scan(tmp_path / "r")
        assert scanned.status == 2
        told = {item["what"]: item["why"] for item in scanned.summary["failed"]["items"]}
        assert "git index-pack" in told[str(listing.pack)]


def test_what_a_push_left_behind_is_told_while_it_is_there(tmp_path: Path, scan: Scan) -> None:
    repository = Repository(tmp_path / "r", bare=True)
    objects = repository.path / "objects"
    time.sleep(0.2)
    assert scan(repository.path).summary["left_out"]["count"] == 0
    left = [objects / "tmp_objdir-incoming-a1b2c3" / "ab", objects / "incoming-a1b2c3"]
    for folder in left:
        folder.mkdir(parents=True)
    (objects / "pack" / "tmp_pack_a1b2c3").write_bytes(b"PACK")
    time.sleep(0.2)
    for _ in ("first", "again"):
        told = {item["what"] for item in scan(repository.path).summary["left_out"]["items"]}
        assert told == {str(left[0].parent), str(left[1]), str(objects / "pack" / "tmp_pack_a1b2c3")}
    for path in (*left, left[0].parent):
        path.rmdir()
    (objects / "pack" / "tmp_pack_a1b2c3").unlink()
    assert scan(repository.path).summary["left_out"]["count"] == 0


@pytest.fixture
def impatient() -> Iterator[None]:
    """Let a test fail that takes a minute: who opens a named pipe waits for a writer for ever."""

    def fail(_number: int, _frame: object) -> None:
        pytest.fail("it hangs")

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("what", ["loose", "idx", "pack", "idx without a pack", "info/alternates", "packed-refs"])
@pytest.mark.parametrize("borrowed", [False, True])
def test_what_is_no_regular_file_is_a_failure_and_hangs_nobody(
    tmp_path: Path, rng: random.Random, scan: Scan, what: str, borrowed: bool
) -> None:
    repository = Repository(tmp_path / "r", bare=True)
    kept, kept_text = leak(rng)
    name = repository.git("hash-object", "-w", "--stdin", given=leak(rng)[1].encode())
    repository.git("hash-object", "-w", "--stdin", given=kept_text.encode())
    objects = repository.path / "objects"
    if what in {"idx", "pack"}:
        repository.git("pack-objects", "-q", "objects/pack/pack", given=name.encode())
        (objects / name[:2] / name[2:]).unlink()
    places = {
        "loose": objects / name[:2] / name[2:],
        "info/alternates": objects / what,
        "packed-refs": repository.path / what,
        "idx without a pack": objects / "pack" / f"pack-{rng.randbytes(20).hex()}.idx",
    }  # fmt: skip
    place = places[what] if what in places else next(objects.glob(f"pack/*.{what}"))
    place.unlink(missing_ok=True)
    os.mkfifo(place)
    target = repository.path
    if borrowed:
        target = Repository(tmp_path / "borrower", bare=True).path
        (target / "objects" / "info" / "alternates").write_text(f"{objects}\n")
    for _ in ("first", "again"):
        scanned = scan(target)
        told = {item["what"]: item["why"] for item in scanned.summary["failed"]["items"]}
        if what == "packed-refs":
            assert scanned.status == 1
        else:
            assert (scanned.status, told) == (2, {str(place): "not a regular file"})
        assert kept in scanned.findings


def test_packs_and_objects_that_are_links_to_files_are_read(tmp_path: Path, rng: random.Random, scan: Scan) -> None:
    repository = Repository(tmp_path / "r", bare=True)
    keys = [leak(rng) for _ in range(2)]
    packed, loose = (repository.git("hash-object", "-w", "--stdin", given=text.encode()) for _, text in keys)
    objects = repository.path / "objects"
    repository.git("pack-objects", "-q", "objects/pack/pack", given=packed.encode())
    (objects / packed[:2] / packed[2:]).unlink()
    for path in (objects / loose[:2] / loose[2:], *(objects / "pack").iterdir()):
        path.rename(tmp_path / path.name)
        path.symlink_to(tmp_path / path.name)
    scanned = scan(repository.path)
    assert (scanned.status, scanned.findings.keys()) == (1, {key_id for key_id, _ in keys})


@pytest.mark.parametrize("rev", ["HEAD:lost", "HEAD~1", "HEAD"])
def test_what_a_repository_has_lost_is_a_failure(tmp_path: Path, rng: random.Random, scan: Scan, rev: str) -> None:
    repository = Repository(tmp_path / "r")
    key_id, text = leak(rng)
    repository.commit("first", {"leak": text})
    repository.commit("second", {"lost": "x"})
    assert scan(repository.path / ".git").status == 1
    name = repository.git("rev-parse", rev)
    (repository.path / ".git" / "objects" / name[:2] / name[2:]).unlink()
    time.sleep(0.2)
    for _ in ("first", "again"):
        scanned = scan(repository.path / ".git")
        assert (scanned.status, scanned.findings.keys()) == (2, {key_id})
        (told,) = scanned.summary["failed"]["items"]
        assert ("absent" in told["why"], told["count"]) == (True, 1)
    repository.git("update-ref", "-d", "HEAD")
    assert scan(repository.path / ".git").status == 1


def test_in_a_large_repository_what_refs_name_is_looked_for(
    tmp_path: Path, rng: random.Random, scan: Scan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(absent, "_FEW", 0)
    repository = Repository(tmp_path / "r")
    repository.commit("first", {"lost": "x"})
    assert scan(repository.path / ".git").status == 0
    name = repository.git("rev-parse", "HEAD")
    (repository.path / ".git" / "objects" / name[:2] / name[2:]).unlink()
    assert scan(repository.path / ".git").status == 2


def test_an_index_of_version_1_is_read_through_git(tmp_path: Path, rng: random.Random, scan: Scan) -> None:
    keys, listing = packed(tmp_path / "r", 50, rng)
    listing.pack.with_suffix(".idx").unlink()
    Repository.at(tmp_path / "r").git("index-pack", "--index-version=1", str(listing.pack))
    scanned = scan(tmp_path / "r")
    assert (scanned.status, scanned.findings.keys()) == (1, keys.keys())


def test_an_object_larger_than_a_window_is_read_in_pieces(tmp_path: Path, rng: random.Random, scan: Scan) -> None:
    repository = Repository(tmp_path / "r", bare=True)
    line = "é" * 49 + "\n"
    border = 16 << 20
    parts, keys, size = list[str](), dict[str, int](), 0
    for at in (0, border - 150, 2 * border - 10, 45 << 20):
        filling = (at - size) // 99
        parts.append(line * filling)
        key_id, text = leak(rng)
        parts.append(text)
        size += filling * 99 + len(text)
        keys[key_id] = "".join(parts).count("\n") - 1 if at < border else -1
    parts.append("end\n" + "x" * 99)
    whole = "".join(parts)
    repository.git("hash-object", "-w", "--stdin", given=whole.encode())
    repository.git("hash-object", "-w", "--stdin", given=b"after")
    scanned = scan(tmp_path / "r")
    assert scanned.status == 1
    assert scanned.findings.keys() == keys.keys()
    for key_id, found in scanned.findings.items():
        assert found["has_secret"]
        assert {match["line"] for match in found["matches"]} == {whole[: whole.index(key_id)].count("\n") + 1}
        assert {match["column"] for match in found["matches"]} == {21}
    assert scanned.summary["read"]["objects"] == 2
    assert scanned.summary["read"]["bytes"] >= len(whole.encode())


def test_a_folder_that_cannot_be_listed_is_a_failure_and_the_rest_is_read(
    tmp_path: Path, rng: random.Random, scan: Scan
) -> None:
    repository = Repository(tmp_path / "r", bare=True)
    key_id, text = leak(rng)
    repository.git("hash-object", "-w", "--stdin", given=text.encode())
    (tmp_path / "r" / "objects" / "pack").rmdir()
    (tmp_path / "r" / "objects" / "pack").write_text("no folder")
    scanned = scan(tmp_path / "r")
    assert (scanned.status, scanned.findings.keys()) == (2, {key_id})
    assert scanned.summary["failed"]["items"][0]["what"] == str(tmp_path / "r" / "objects" / "pack")


def test_a_cache_that_cannot_be_written_fails_one_target_only(
    tmp_path: Path, rng: random.Random, scan: Scan, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = Repository(tmp_path / "r")
    key_id, text = leak(rng)
    repository.commit("leak", {"leak": text})
    repository.git("bundle", "create", "--quiet", "../all.bundle", "--all")
    (tmp_path / "cache").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    scanned = scan(tmp_path / "all.bundle", tmp_path / "r")
    assert (scanned.status, scanned.findings.keys()) == (2, {key_id})


def test_a_folder_of_a_repository_that_cannot_be_listed_has_failed(
    tmp_path: Path, rng: random.Random, scan: Scan, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = Repository(tmp_path / "r")
    key_id, text = leak(rng)
    repository.commit("leak", {"leak": text})
    (tmp_path / "r" / ".git" / "logs").mkdir(exist_ok=True)
    monkeypatch.chdir(tmp_path / "r" / ".git" / "logs")
    for _ in range(20):  # deeper than a path may be long: nobody can list it by its name, root neither
        Path("d" * 250).mkdir()
        os.chdir("d" * 250)
    monkeypatch.chdir(tmp_path)
    done = scan(tmp_path / "r")
    assert key_id in done.findings
    assert done.status == 2
    assert done.summary["failed"]["count"] >= 1
    assert "too long" in done.summary["failed"]["items"][0]["why"]


@pytest.mark.parametrize("size", [10, 6 << 20])
def test_bytes_behind_the_end_of_a_loose_object_are_told_and_the_object_is_read(
    tmp_path: Path, rng: random.Random, scan: Scan, size: int
) -> None:
    repository = Repository(tmp_path / "r")
    key_id, text = leak(rng)
    _, more = leak(rng)
    repository.commit("leak", {"leak": text + rng.randbytes(size).hex()})
    name = repository.git("rev-parse", "HEAD:leak")
    path = repository.path / ".git" / "objects" / name[:2] / name[2:]
    path.chmod(0o644)
    path.write_bytes(path.read_bytes() + zlib.compress(f"blob {len(more)}\0{more}".encode()))
    for _ in range(2):
        found = scan(repository.path / ".git")
        assert (found.status, found.findings.keys()) == (2, {key_id})
        (told,) = found.summary["failed"]["items"]
        assert told["what"].endswith(name)
        assert told["why"] == "bytes stand behind its end, which git passes by"


@pytest.mark.parametrize("filtered_from", ["1", str(1 << 30)])
@pytest.mark.parametrize("size", [10, 6 << 20])
def test_bytes_between_the_objects_of_a_pack_are_told_and_the_objects_are_read(  # noqa: PLR0917
    tmp_path: Path, rng: random.Random, scan: Scan, monkeypatch: pytest.MonkeyPatch, filtered_from: str, size: int
) -> None:
    monkeypatch.setenv("FIREDAMP_DELTA_MIN_BYTES", filtered_from)
    repository = Repository(tmp_path / "r", bare=True)
    (key_id, text), (_, hidden) = leak(rng), leak(rng)
    (other, more), base = leak(rng), rng.randbytes(size).hex().encode()
    entries = [Whole(b"harmless"), Whole(text.encode() + base), Delta(1, (Copy(0, 10), more.encode())), Whole(b"end")]
    folder = repository.path / "objects" / "pack"
    for number, sound in ((0, False), (1, False), (3, False), (3, True)):
        behind = {} if sound else {number: hidden.encode()}
        written = write_pack(folder, entries, behind=behind, name=str(number))
        options = ("--offline", "--db", str(tmp_path / f"{number}{sound}.db"))
        for _ in range(2):
            found = scan(repository.path, options=options)
            told = [(item["what"].split()[-1], item["why"]) for item in found.summary["failed"]["items"]]
            why = "bytes stand behind its end, which git passes by"
            assert told == ([] if sound else [(written.ids[number].hex(), why)])
            assert (found.status, found.findings.keys()) == (1 if sound else 2, {key_id, other})
        written.pack.unlink()
        written.index.unlink()


@pytest.mark.parametrize("filtered_from", ["1", str(1 << 30)])
def test_bytes_behind_an_object_that_grows_a_thousandfold_are_told(
    tmp_path: Path, rng: random.Random, scan: Scan, monkeypatch: pytest.MonkeyPatch, filtered_from: str
) -> None:
    monkeypatch.setenv("FIREDAMP_DELTA_MIN_BYTES", filtered_from)
    repository, (_, hidden) = Repository(tmp_path / "r", bare=True), leak(rng)
    write_pack(repository.path / "objects" / "pack", [Whole(b"x" * (9 << 20))], behind={0: hidden.encode()})
    found = scan(repository.path)
    (told,) = found.summary["failed"]["items"]
    assert (found.status, told["why"]) == (2, "bytes stand behind its end, which git passes by")


@pytest.mark.parametrize("entries", [[Whole(b"harmless")], []])
def test_bytes_before_the_first_object_of_a_pack_are_told(
    tmp_path: Path, rng: random.Random, scan: Scan, entries: list[Whole]
) -> None:
    repository = Repository(tmp_path / "r", bare=True)
    _, hidden = leak(rng)
    written = write_pack(repository.path / "objects" / "pack", entries, behind={-1: hidden.encode()})
    for _ in range(2):
        found = scan(repository.path)
        (told,) = found.summary["failed"]["items"]
        assert (told["what"], found.status) == (str(written.pack), 2)
        assert told["why"] == "bytes stand before its first object, which git passes by"
