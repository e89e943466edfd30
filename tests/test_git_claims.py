"""What counts as read: an object folder only claims that content has an id, and a lie there hides nothing elsewhere."""

from __future__ import annotations

import random
import zlib
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.packwriter import Whole, write_pack
from tests.repositories import Repository, leak
from tests.scans import Scan, scanner

from firedamp.scanner.version import VERSION
from firedamp.storage.records import Batch, SeenObjects
from firedamp.storage.store import Store


@pytest.fixture(name="scan")
def scan_(capsys: pytest.CaptureFixture[str]) -> Scan:
    return scanner(capsys)


HARMLESS = b"nothing is here\n"
OFFLINE = ("--offline",)
THOROUGH = ("--offline", "--thorough")


def liar(path: Path, blob: str, *, packed: bool) -> Path:
    """Make a repository that holds something harmless, and says that its id is blob."""
    repository = Repository(path, bare=True)
    objects = repository.path / "objects"
    if packed:
        write_pack(objects / "pack", [Whole(HARMLESS), Whole(b"honest\n")], claims={0: bytes.fromhex(blob)})
    else:
        (objects / blob[:2]).mkdir()
        (objects / blob[:2] / blob[2:]).write_bytes(zlib.compress(b"blob %d\0" % len(HARMLESS) + HARMLESS))
    return path


@pytest.mark.parametrize(
    ("packed", "filtered_from", "options"),
    [
        (False, None, OFFLINE),
        (True, None, OFFLINE),
        (True, "0", OFFLINE),
        (True, "0", THOROUGH),
    ],
    ids=["loose", "packed", "ruled out by the delta filter", "a large pack read thoroughly"],
)
def test_a_repository_that_lies_about_an_id_hides_nothing_in_another(  # noqa: PLR0917
    tmp_path: Path, rng: random.Random, scan: Scan, monkeypatch: pytest.MonkeyPatch,
    packed: bool, filtered_from: str | None, options: tuple[str, ...],
) -> None:  # fmt: skip
    if filtered_from is not None:
        monkeypatch.setenv("FIREDAMP_DELTA_MIN_BYTES", filtered_from)
    victim = Repository(tmp_path / "victim")
    key_id, text = leak(rng)
    victim.commit("leak", {"leak": text})
    if packed:
        victim.git("repack", "-q", "-a", "-d")
    blob = victim.git("rev-parse", "HEAD:leak")
    hostile = liar(tmp_path / "hostile", blob, packed=packed)
    assert scan(hostile, options=options).findings == {}
    assert key_id in scan(tmp_path / "victim" / ".git", options=options).findings


@pytest.mark.parametrize("packed", [False, True])
def test_content_that_does_not_have_its_id_is_told(
    tmp_path: Path, rng: random.Random, scan: Scan, packed: bool
) -> None:
    blob = "c0ffee" + rng.randbytes(17).hex()
    hostile = liar(tmp_path / "hostile", blob, packed=packed)
    for _ in ("first", "again"):
        scanned = scan(hostile)
        assert scanned.status == 2
        assert [item["what"] for item in scanned.summary["failed"]["items"]] == [f"{hostile} {blob}"]
        assert "its content is another" in scanned.summary["failed"]["items"][0]["why"]


def test_a_large_object_that_does_not_have_its_id_is_told(tmp_path: Path, rng: random.Random, scan: Scan) -> None:
    repository = Repository(tmp_path / "r", bare=True)
    key_id, text = leak(rng)
    blob, content = "c0ffee" + rng.randbytes(17).hex(), b"\n" * (9 << 20) + text.encode()
    folder = repository.path / "objects" / blob[:2]
    folder.mkdir()
    (folder / blob[2:]).write_bytes(zlib.compress(b"blob %d\0" % len(content) + content, 1))
    repository.git("hash-object", "-w", "--stdin", given=content + b"honest")
    scanned = scan(tmp_path / "r")
    assert key_id in scanned.findings, "what stands there is looked at all the same"
    assert [item["what"] for item in scanned.summary["failed"]["items"]] == [f"{tmp_path / 'r'} {blob}"]
    assert scan(tmp_path / "r").summary["read"]["objects"] == 0


@pytest.mark.parametrize("filtered_from", ["0", str(1 << 30)])
def test_a_loose_copy_of_a_packed_object_that_holds_something_else_is_read_and_told(
    tmp_path: Path, rng: random.Random, scan: Scan, monkeypatch: pytest.MonkeyPatch, filtered_from: str
) -> None:
    monkeypatch.setenv("FIREDAMP_DELTA_MIN_BYTES", filtered_from)
    repository, (key_id, text) = Repository(tmp_path / "r", bare=True), leak(rng)
    objects = repository.path / "objects"
    other, true = (write_pack(objects / "pack", [Whole(HARMLESS), Whole(b"honest\n")]).ids[at].hex() for at in (0, 1))
    for name, content in ((other, text.encode()), (true, b"honest\n")):
        (objects / name[:2]).mkdir(exist_ok=True)
        (objects / name[:2] / name[2:]).write_bytes(zlib.compress(b"blob %d\0" % len(content) + content))
    for _ in range(2):
        found = scan(repository.path)
        assert (found.status, found.findings.keys()) == (2, {key_id})
        (told,) = found.summary["failed"]["items"]
        assert told["what"].endswith(other)
        assert told["why"] == "its content is another than its id says"


@pytest.mark.parametrize("kind", ["sha1", "sha256"])
def test_what_was_ruled_out_counts_in_its_folder_only(
    tmp_path: Path, scan: Scan, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setenv("FIREDAMP_DELTA_MIN_BYTES", "0")
    origin = Repository(tmp_path / "origin", f"--object-format={kind}")
    origin.commit("one", {"one": "1\n"})
    origin.git("repack", "-q", "-a", "-d")
    origin.git("clone", "--quiet", "--bare", ".", str(tmp_path / "fork"))
    first = scan(tmp_path / "origin" / ".git")
    assert first.summary["read"]["ruled_out"] == 2
    origin.git("repack", "-q", "-a", "-d", "-F", "--window=0", "--no-write-bitmap-index")
    origin.git("update-ref", "refs/heads/other", "HEAD")
    again = scan(tmp_path / "origin" / ".git")
    assert (again.summary["read"]["ruled_out"], again.summary["read"]["known"]) == (0, 2), "a repack does not forget"
    fork = scan(tmp_path / "fork")
    assert fork.summary["read"]["ruled_out"] == 2, "another folder's claims do not count"


def test_clones_of_ours_share_what_was_ruled_out_too(
    tmp_path: Path, scan: Scan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FIREDAMP_DELTA_MIN_BYTES", "0")
    (tmp_path / "firedamp.toml").write_text("[verify]\nenabled = false\n")
    online = ("--config", str(tmp_path / "firedamp.toml"))
    origin = Repository(tmp_path / "origin")
    for number in range(200):  # enough objects for the server's pack to be kept as one
        origin.git("hash-object", "-w", "--stdin", given=b"%d" % number)
        origin.write(f"file{number}", str(number))
    origin.commit("one")
    origin.git("clone", "--quiet", "--bare", ".", str(tmp_path / "fork"))
    first = scan((tmp_path / "origin").as_uri(), options=online)
    assert first.summary["read"]["ruled_out"] > 200
    fork = scan((tmp_path / "fork").as_uri(), options=online)
    assert (fork.summary["read"]["ruled_out"], fork.summary["read"]["objects"]) == (0, 0)
    for thorough in (True, False):
        options = (*online, "--thorough")
        scanned = scan((tmp_path / ("origin" if thorough else "fork")).as_uri(), options=options)
        assert (scanned.summary["read"]["objects"] > 200) == thorough


def test_repositories_that_borrow_from_one_folder_share_what_was_ruled_out_there(
    tmp_path: Path, scan: Scan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FIREDAMP_DELTA_MIN_BYTES", "0")
    common = Repository(tmp_path / "common")
    common.commit("one", {"one": "1\n"})
    common.git("repack", "-q", "-a", "-d")
    for name in ("a", "b"):
        common.git("clone", "--quiet", "--bare", "--shared", ".", str(tmp_path / name))
    assert scan(tmp_path / "a").summary["read"]["ruled_out"] == 2
    borrowing = scan(tmp_path / "b")
    assert (borrowing.summary["read"]["ruled_out"], borrowing.summary["read"]["known"]) == (0, 2)
    thorough = scan(tmp_path / "a", options=THOROUGH)
    assert thorough.summary["read"]["objects"] == 2
    assert scan(tmp_path / "b", options=THOROUGH).summary["read"]["objects"] == 0


def test_a_repository_made_anew_at_the_same_place_is_another(
    tmp_path: Path, rng: random.Random, scan: Scan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FIREDAMP_DELTA_MIN_BYTES", "0")
    victim = Repository(tmp_path / "victim")
    key_id, text = leak(rng)
    victim.commit("leak", {"leak": text})
    victim.git("repack", "-q", "-a", "-d")
    place = tmp_path / "place"
    liar(place, victim.git("rev-parse", "HEAD:leak"), packed=True)
    (place / "description").write_text("one")
    assert scan(place).findings == {}
    place.rename(tmp_path / "away")
    victim.git("clone", "--quiet", "--bare", ".", str(place))
    assert key_id in scan(place).findings


def test_what_an_older_version_read_is_forgotten_when_a_scan_by_this_one_ended(tmp_path: Path, scan: Scan) -> None:
    database = Path.home() / "firedamp.db"
    now = datetime(2026, 11, 22, tzinfo=UTC)
    with Store(database) as store:
        old = SeenObjects(width=20, ids=b"x" * 20)
        store.record(Batch(at=now, detector="older", seen=(old,)))
        store.record(Batch(at=now, detector=VERSION + "+thorough", seen=(old,)))
    Repository(tmp_path / "r").commit("one", {"one": "1"})
    scan(tmp_path / "r")
    with Store(database) as store:
        assert store.seen("older", 20) == []
        assert store.seen(VERSION + "+thorough", 20) == [b"x" * 20]
        assert len(store.seen(VERSION, 20)) == 1
