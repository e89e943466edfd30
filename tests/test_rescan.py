"""What a scan remembers never changes what the next one tells: beside it, one with a fresh database tells the same."""

from __future__ import annotations

import itertools
import os
import random
import shutil
import sqlite3
import time
import zipfile
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.repositories import Repository, leak
from tests.scans import Scanned, scanner

from firedamp.scanner import scan as scanning
from firedamp.scanner.candidates import Located
from firedamp.scanner.detect import detect
from firedamp.scanner.prefilter import Prefilter
from firedamp.scanner.source import Blob, Checkpoint, Item
from firedamp.storage.keyid import account_of
from firedamp.storage.records import Batch, FileProvenance, GitProvenance, Met, Provenance, SeenObjects, Skipped
from firedamp.storage.store import Store

Place = tuple[object, ...]


class Tree:
    """A folder with files and repositories, and what people do to them. What leaves it may come back as it was."""

    def __init__(self, folder: Path, rng: random.Random) -> None:
        self.root, self._attic, self._rng = folder / "root", folder / "attic", rng
        self._names = map(str, itertools.count())
        self._away: list[tuple[Path, Path]] = []
        self._open: list[sqlite3.Connection] = []
        self.keys = [leak(rng)[1] for _ in range(6)]
        self._attic.mkdir(parents=True)
        for name in ("a", "a/b", "c"):
            (self.root / name).mkdir(parents=True)
            (self.root / name / "file").write_text(self._text())
        for name in ("a/one", "two"):
            Repository(self.root / name).commit("begin", {"file": self._text()})
            Repository.at(self.root / name).commit("go on", {"file": self._text()})

    def _text(self) -> str:
        secret = self._rng.choice(self.keys).split()[-1]
        others = ("clean\n", "clean\n", f"only {secret}\n")
        return self._rng.choice(("", "# more\n")) + self._rng.choice((*self.keys, *others, *others))

    def folders(self) -> list[Path]:
        return sorted(
            path for path in self.root.rglob("*") if path.is_dir() and {".git", "node_modules"}.isdisjoint(path.parts)
        )

    def _files(self) -> list[Path]:
        return sorted(path for path in self.root.rglob("file") if path.is_file() and ".git" not in path.parts)

    def _repository(self) -> Repository:
        return Repository.at(self._rng.choice(sorted(path.parent for path in self.root.rglob(".git"))))

    def _swap(self, paths: Sequence[Path]) -> None:
        one, other = self._rng.sample(paths, 2)
        if not (one.is_relative_to(other) or other.is_relative_to(one)):
            one.rename(self._attic / "between")
            other.rename(one)
            (self._attic / "between").rename(other)

    def write(self) -> None:
        (self._rng.choice(self.folders()) / "file").write_text(self._text())

    def edit_and_keep_its_time(self) -> None:
        file = self._rng.choice(self._files())
        status = file.stat()
        file.write_text(self._text())
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))

    def swap_files(self) -> None:
        self._swap(self._files())

    def swap_folders(self) -> None:
        self._swap(self.folders())

    def rename(self) -> None:
        folder = self._rng.choice(self.folders())
        folder.rename(folder.with_name(next(self._names)))

    def copy(self) -> None:
        shutil.copytree(self._rng.choice(self.folders()), self.root / next(self._names))

    def take_away(self) -> None:
        if len(self.folders()) > 4:
            folder = self._rng.choice(self.folders())
            self._away.append((self._attic / next(self._names), folder))
            folder.rename(self._away[-1][0])

    def bring_back(self) -> None:
        if self._away:
            kept, folder = self._away.pop()
            if folder.parent.is_dir() and not folder.exists():
                kept.rename(folder)

    def commit(self) -> None:
        self._repository().commit("more", {self._rng.choice(("file", "other")): self._text()})

    def take_a_commit_back(self) -> None:
        self._repository().git("reset", "--quiet", "--hard", "HEAD~1", check=False)

    def collect(self) -> None:
        repository = self._repository()
        repository.git("reflog", "expire", "--expire=now", "--all", check=False)
        repository.git("gc", "--quiet", "--prune=now", check=False)

    def clone(self) -> None:
        more = self._rng.choice(((), ("--shared",), ("--bare",)))
        self._repository().git("clone", "--quiet", *more, ".", str(self.root / next(self._names)), check=False)

    def edit_at_another_time(self) -> None:
        file = self._rng.choice(self._files())
        file.write_text(self._text())
        when = self._rng.choice((-86_400, 0, 1_000_000_000, 4_000_000_000))  # before 1970, and long from now
        os.utime(file, (when, when))

    def replace_by_its_like(self) -> None:
        """As `rsync -a`, `cp -p` and the extraction of an archive do: same size, same time, another file."""
        file = self._rng.choice(self._files())
        status, text = file.stat(), self._text()
        (self._attic / "like").write_text(text[: status.st_size].ljust(status.st_size, "\n"))
        os.utime(self._attic / "like", ns=(status.st_atime_ns, status.st_mtime_ns))
        (self._attic / "like").rename(file)

    def link(self) -> None:
        name = self._rng.choice(self.folders()) / next(self._names)
        os.link(self._rng.choice(self._files()), name)

    def empty(self) -> None:
        self._rng.choice(self._files()).write_text("")

    def pack(self) -> None:
        """Put texts in an archive of which sometimes the end is missing."""
        whole = self._attic / "whole"
        with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in range(self._rng.randrange(3)):
                archive.writestr(str(name), self._text())
        end = self._rng.choice((None, None, -5))
        (self._rng.choice(self.folders()) / "file").write_bytes(whole.read_bytes()[:end])

    def hide(self) -> None:
        """Write where a scan looks with `--all` alone, or with `--examples` alone."""
        folder = self._rng.choice(self.folders())
        (folder / "node_modules").mkdir(exist_ok=True)
        (folder / "node_modules" / "file").write_text(self._text())
        (folder / "file").write_bytes(b"\x89PNG\r\n\x1a\n" + self._text().encode())
        (folder / "example").write_text("aws_access_key_id = AKIAIOSFODNN7EXAMPLE\n")

    def insert_a_row(self) -> None:
        """Write to a database of which the log stays: who writes is still there."""
        path = self._rng.choice(self.folders()) / "rows.db"
        self._open.append(sqlite3.connect(path))
        self._open[-1].executescript("PRAGMA journal_mode = WAL; CREATE TABLE IF NOT EXISTS t (x TEXT)")
        self._open[-1].execute("INSERT INTO t VALUES (?)", (self._text(),))
        self._open[-1].commit()

    def close(self) -> None:
        for each in self._open:
            each.close()

    def change(self, *more: str) -> str:
        """Do one of all these things, or of more, and return its name."""
        ways: tuple[Callable[[], None], ...] = (
            self.write, self.edit_and_keep_its_time, self.swap_files, self.swap_folders, self.rename, self.copy,
            self.take_away, self.bring_back, self.bring_back, self.commit, self.take_a_commit_back, self.collect,
            self.clone, self.edit_at_another_time, self.replace_by_its_like, self.link, self.empty, self.pack,
            self.insert_a_row, *(getattr(self, name) for name in more),
        )  # fmt: skip
        way = self._rng.choice(ways)
        way()
        return way.__name__


def places(scanned: Scanned) -> set[Place]:
    return {
        (key_id, *(match[name] for name in ("source", "repository", "path", "line", "commit", "in_head")))
        for key_id, found in scanned.findings.items()
        for match in found["matches"]
    }


SEEDS = [7, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (*range(7), *range(8, 30)))]


@pytest.fixture
def tree(tmp_path: Path, seed: int) -> Iterator[Tree]:
    made = Tree(tmp_path, random.Random(seed))
    yield made
    made.close()


@pytest.mark.parametrize("seed", SEEDS)
def test_whatever_happened_since_a_scan_tells_what_one_without_memory_tells(
    seed: int, tree: Tree, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng, scan, done = random.Random(seed), scanner(capsys), list[str]()
    for step in range(12):
        done += [tree.change() for _ in range(rng.randrange(4))]
        time.sleep(0.12)  # what is older is remembered
        targets = rng.choice(([tree.root], [rng.choice(tree.folders())], [rng.choice(tree.folders()), tree.root]))
        done.append(f"scan {' '.join(str(each.relative_to(tmp_path)) for each in targets)}")
        told, fresh = (
            scan(*targets, options=("--offline", "--db", str(tmp_path / name))) for name in ("db", f"fresh{step}")
        )
        assert (places(told) - places(fresh), places(fresh) - places(told)) == (set(), set()), done
        assert told.status == fresh.status, done


@pytest.mark.parametrize("seed", SEEDS)
def test_however_a_scan_is_asked_it_tells_no_less_than_one_without_memory(
    seed: int, tree: Tree, tmp_path: Path, rng: random.Random, capsys: pytest.CaptureFixture[str]
) -> None:
    """What one with more options or wider limits found, the next one may tell as well."""
    scan, done, tight = scanner(capsys), list[str](), tmp_path / "tight.toml"
    tight.write_text("[scan]\nunpack_members = 1\n")
    profile = Path.home() / ".aws" / "credentials"
    profile.parent.mkdir()
    ways = ((), (), ("--all",), ("--thorough",), ("--examples",), ("--own-keys",), ("--config", str(tight)))
    for step in range(12):
        done += [tree.change("hide") for _ in range(rng.randrange(4))]
        profile.write_text(f"[default]\n{rng.choice(tree.keys)}")
        time.sleep(0.12)
        options = ("--offline", *rng.choice(ways), "--db")
        done.append(" ".join(options))
        told, fresh = (scan(tree.root, options=(*options, str(tmp_path / name))) for name in ("db", f"fresh{step}"))
        assert places(fresh) - places(told) == set(), done
        assert told.status >= bool(fresh.status), done
        if "--config" not in options:
            assert told.status >= fresh.status, done


def told_of(scanned: Scanned) -> dict[str, Place]:
    """Return what a scan says of each key, besides its places."""
    names = ("verification", "canary", "example", "account_id", "rank", "notes", "expires")
    return {key_id: tuple(found[name] for name in names) for key_id, found in scanned.findings.items()}


def test_a_key_is_a_honeytoken_while_the_configuration_says_so(
    tmp_path: Path, rng: random.Random, capsys: pytest.CaptureFixture[str]
) -> None:
    scan, (key_id, text) = scanner(capsys), leak(rng)
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "file").write_text(text)
    time.sleep(0.15)
    config = tmp_path / "firedamp.toml"
    for step, accounts in enumerate(([], [account_of(key_id)], [account_of(key_id)], [], [account_of(key_id)])):
        config.write_text(f"[scan]\ncanary_accounts = {accounts}\n")
        if step == 2:  # read again
            (tmp_path / "tree" / "file").write_text(text + "# more\n")
        options = ("--offline", "--config", str(config), "--db")
        told, fresh = (
            scan(tmp_path / "tree", options=(*options, str(tmp_path / name))) for name in ("db", f"db{step}")
        )
        assert told_of(told) == told_of(fresh)
        assert fresh.findings[key_id]["canary"] == bool(accounts)


def test_what_an_older_version_took_for_an_example_is_a_key(
    tmp_path: Path, rng: random.Random, capsys: pytest.CaptureFixture[str]
) -> None:
    scan, (key_id, text) = scanner(capsys), leak(rng)
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "file").write_text(text)
    options = ("--offline", "--db", str(tmp_path / "db"))
    scan(tmp_path / "tree", options=options)
    with closing(sqlite3.connect(tmp_path / "db")) as db, db:
        db.execute("UPDATE finding SET example = 1, account_id = NULL")
        db.execute("UPDATE source_state SET detector = 'older'")
    told = scan(tmp_path / "tree", options=options)
    assert (told.status, told.findings[key_id]["account_id"]) == (1, account_of(key_id))


def test_what_an_older_version_found_and_this_one_does_not_is_reported_no_more(
    tmp_path: Path, rng: random.Random, capsys: pytest.CaptureFixture[str]
) -> None:
    scan, (key_id, text), (of_a_clean_object, _) = scanner(capsys), leak(rng), leak(rng)
    repository = Repository(tmp_path / "tree" / "one")
    repository.commit("begin", {"file": text, "clean": "clean\n"})
    clean = repository.git("rev-parse", "HEAD:clean")
    options = ("--offline", "--db", str(tmp_path / "db"))
    time.sleep(0.15)
    first = scan(tmp_path / "tree", options=options)
    with closing(sqlite3.connect(tmp_path / "db")) as db, db:
        db.execute("CREATE TABLE more AS SELECT * FROM finding")
        db.execute("UPDATE more SET fingerprint = ?, access_key_id = ?", ("f" * 32, of_a_clean_object))
        db.execute("INSERT INTO finding SELECT * FROM more")
        db.execute("INSERT INTO match SELECT fingerprint, blob, 9, 9, '', '', kind, 1, first_seen, '', '' FROM match")
        db.execute("INSERT INTO match SELECT ?, ?, 9, 9, '', '', kind, 1, first_seen, '', '' FROM match LIMIT 1",
                   ("f" * 32, clean))  # fmt: skip
        db.execute("UPDATE match SET version = 'older'")
        db.execute("UPDATE seen SET detector = 'older'")
        db.execute("UPDATE source_state SET detector = 'older'")
    for _ in ("first", "again"):
        told = scan(tmp_path / "tree", options=options)
        assert (told.status, set(told.findings), places(told)) == (1, {key_id}, places(first))


class InWindows:
    """A large object, and what of others was read beside it: their shares end between its windows."""

    name, target = "git", "/repository"

    def __init__(self, *windows: bytes) -> None:
        self._windows = windows

    def blobs(self) -> Iterator[Item]:
        for line, window in enumerate(self._windows, 1):
            yield Blob("b" * 40, window, line, window=True)
            yield Checkpoint(seen=(SeenObjects(width=20, ids=b"x" * 20),))

    def unread(self, blob: str, failed: Skipped) -> None: ...

    def gone(self, met: Iterable[Met]) -> Iterator[Met]:
        yield from ()

    unsure = gone

    def provenance(self, ids: Collection[str]) -> Iterator[tuple[str, Provenance]]:
        yield from ((blob, GitProvenance(repository=self.target)) for blob in ids)


def test_what_an_older_version_found_is_dropped_when_an_object_was_read_to_its_end(
    rng: random.Random, cache: Path
) -> None:
    """Before that a place in a folder that is away would be forgotten with it."""
    prefilter, keys = Prefilter(cache / "firedamp"), [leak(rng)[1].encode() for _ in range(2)]
    away = Met(source="folder", blob="b" * 40, provenance=FileProvenance(path="/away/file"))

    def look(blob: Blob) -> list[Located | Skipped]:
        return detect(blob.data, prefilter, first_line=blob.first_line)

    def read(store: Store, detector: str, *windows: bytes) -> scanning.Report:
        return scanning.scan(
            [InWindows(*windows)], store, look, detector=detector, now=lambda: datetime.now(UTC),
            open_repository=lambda _: InWindows(),
        )  # fmt: skip

    with Store(None) as store:
        read(store, "older", b"clean", *keys)
        store.record(Batch(at=datetime.now(UTC), detector="older", met=(away,)))
        assert len(read(store, "1", b"clean", keys[0]).findings) == 1
        assert [*store.held(roots=["/away"])] == [away]
        assert not read(store, "2", b"clean").findings
        assert [*store.held(roots=["/away"])] == []


@pytest.mark.parametrize("limit", ["unpack_bytes = 1", "unpack_members = 0"])
def test_an_archive_that_can_be_opened_after_all_tells_its_key_once(
    limit: str, tmp_path: Path, rng: random.Random, capsys: pytest.CaptureFixture[str]
) -> None:
    scan, (key_id, text), tight = scanner(capsys), leak(rng), tmp_path / "tight.toml"
    (tmp_path / "tree").mkdir()
    with zipfile.ZipFile(tmp_path / "tree" / "a.zip", "w") as archive:  # stored as it is
        archive.writestr("inside", text)
    tight.write_text(f"[scan]\n{limit}\n")
    time.sleep(0.15)
    remembered = ("--offline", "--db", str(tmp_path / "db"))
    assert scan(tmp_path / "tree", options=(*remembered, "--config", str(tight))).status == 2
    for name in ("db", "db", "fresh"):
        told = scan(tmp_path / "tree", options=("--offline", "--db", str(tmp_path / name)))
        (match,) = told.findings[key_id]["matches"]
        assert match["container"] == "inside", name


def test_keys_in_the_logs_beside_two_databases_that_are_alike_are_told_in_their_rows(
    tmp_path: Path, rng: random.Random, capsys: pytest.CaptureFixture[str]
) -> None:
    scan, told_in = scanner(capsys), dict[str, set[str]]()
    with ExitStack() as ends:
        rows = dict[str, sqlite3.Connection]()
        for name in ("a", "b"):
            path = tmp_path / "tree" / name / "app.db"
            path.parent.mkdir(parents=True)
            rows[str(path)] = ends.enter_context(closing(sqlite3.connect(path)))
            rows[str(path)].executescript(
                "PRAGMA journal_mode = WAL; CREATE TABLE t (x TEXT); PRAGMA wal_checkpoint(TRUNCATE)"
            )
            told_in[str(path)] = set()
        for step in range(4):
            time.sleep(0.15)
            told, again, fresh = (
                scan(tmp_path / "tree", options=("--offline", "--db", str(tmp_path / name)))
                for name in ("remembers", "remembers", f"fresh{step}")
            )
            assert places(told) == places(again) == places(fresh)
            for path, keys in told_in.items():
                assert {str(each[0]) for each in places(fresh) if each[3] == path} == keys
            path = sorted(rows)[step % 2]
            key_id, text = leak(rng)
            rows[path].execute("INSERT INTO t VALUES (?)", (text,))
            rows[path].commit()
            told_in[path].add(key_id)
