"""Mirrors: clones that appear whole, keep within a budget, and never show a token."""

from __future__ import annotations

import os
import random
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.builders import make_secret
from tests.forges import Reply, Request, Server
from tests.repositories import Repository

from firedamp.scanner import mirror
from firedamp.scanner.mirror import Fetch, Mirrors, Shown, Withheld, clone_of, shown_by
from firedamp.scanner.web import Web
from firedamp.storage.errors import Failure, SourceFailure
from firedamp.storage.secret import Secret


def nothing(_: Request) -> Reply | None:
    return None


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path / "served", nothing).running() as running:
        yield running


@pytest.fixture
def web() -> Web:
    return Web(lambda: 0.0, lambda _: None)


def nobody() -> Secret | None:
    return None


def served(server: Server, name: str, size: int = 0) -> str:
    """Serve a repository with one file of size random bytes and return its address."""
    repository = Repository(server.folder / name)
    text = "".join(random.Random(name).choices("abcdefghij", k=size))
    repository.commit("begin", {"file": text or "hello"})
    return f"{server.url}/{name}"


def test_a_token_is_in_no_file_and_in_no_list_of_processes(
    tmp_path: Path, server: Server, rng: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = served(server, "r")
    server.password = token = make_secret(rng).replace("/", "_").replace("+", "_")
    seen = tmp_path / "seen"
    tools = tmp_path / "bin"
    tools.mkdir()
    wrapper = tools / "git"
    # Stands before the real git and writes down what a `ps` would have shown of it and of everything it starts.
    real = next(Path(folder, "git") for folder in os.environ["PATH"].split(":") if Path(folder, "git").exists())
    wrapper.write_text(
        f"#!{sys.executable}\nimport glob, subprocess, sys, time\n"
        f"child = subprocess.Popen([{str(real)!r}, *sys.argv[1:]])\n"
        "while child.poll() is None:\n"
        "    for path in glob.glob('/proc/[0-9]*/cmdline'):\n"
        "        try:\n"
        f"            open({str(seen)!r}, 'ab').write(open(path, 'rb').read() + b'\\n')\n"
        "        except OSError:\n"
        "            pass\n"
        "sys.exit(child.returncode)\n"
    )
    wrapper.chmod(wrapper.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    folder = tmp_path / "cache"
    for _ in range(2):
        clone = Fetch(url, folder, Secret(f"user:{token}")).finish()
    assert (clone / "HEAD").is_file()
    assert b"git" in seen.read_bytes()
    assert b"clone" in seen.read_bytes()
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert token.encode() not in path.read_bytes(), path
    with pytest.raises(SourceFailure) as failure:
        Fetch(url, folder, Secret("user:wrong-token")).finish()
    assert "wrong-token" not in str(failure.value)


def test_pull_requests_are_fetched_and_what_the_server_forgets_is_kept(tmp_path: Path, server: Server) -> None:
    url = served(server, "r")
    repository = Repository.at(server.folder / "r")
    lost = repository.commit("will be replaced", {"file": "old"})
    repository.git("update-ref", "refs/pull/1/head", "HEAD")
    clone = Fetch(url, tmp_path / "cache").finish()
    assert Repository.at(clone).git("rev-parse", "refs/pull/1/head") == lost
    repository.git("reset", "--quiet", "--hard", "HEAD~1")
    repository.git("update-ref", "-d", "refs/pull/1/head")
    new = repository.commit("instead", {"file": "new"})
    assert Fetch(url, tmp_path / "cache").finish() == clone
    assert Repository.at(clone).git("rev-parse", "refs/heads/main") == new
    assert Repository.at(clone).git("cat-file", "-t", lost) == "commit"
    assert not (clone / "FETCH_HEAD").exists(), "a fetch that brings nothing leaves the clone as it was"


def test_a_commit_is_fetched_by_its_id(tmp_path: Path, server: Server) -> None:
    url = served(server, "r")
    clone = Fetch(url, tmp_path / "cache").finish()
    repository = Repository.at(server.folder / "r")
    lost = repository.commit("lost", {"file": "old"})
    repository.git("reset", "--quiet", "--hard", "HEAD~1")
    Fetch(url, tmp_path / "cache", None, [lost]).finish()
    assert Repository.at(clone).git("cat-file", "-t", lost) == "commit"
    with pytest.raises(SourceFailure, match="cannot be fetched"):
        Fetch(url, tmp_path / "cache", None, ["1" * 40]).finish()


def test_a_clone_that_is_cut_off_leaves_nothing_and_is_begun_anew(tmp_path: Path, server: Server) -> None:
    url = served(server, "r", 3_000_000)
    folder = tmp_path / "cache"
    fetch = Fetch(url, folder)
    fetch.stop()
    assert not clone_of(url, folder).exists()
    assert not list(folder.glob("clone-*"))
    (folder / "clone-of-a-crash").mkdir()
    (folder / "clone-just-now").mkdir()
    os.utime(folder / "clone-of-a-crash", (0, 0))
    mirrors = Mirrors(folder, budget=1 << 30, jobs=1)
    assert mirrors.place(url, nobody).is_dir()
    assert [path.name for path in folder.glob("clone-*")] == ["clone-just-now"]


def test_several_are_fetched_at_a_time_and_no_more_than_that(tmp_path: Path, server: Server) -> None:
    urls = [served(server, f"r{number}") for number in range(5)]
    mirrors = Mirrors(tmp_path / "cache", budget=1 << 30, jobs=2)
    for url in urls:
        mirrors.want(url, nobody)
    mirrors.fill()
    assert len(mirrors._under_way) == 2
    for url in reversed(urls):
        assert mirrors.place(url, nobody).is_dir()
        assert len(mirrors._under_way) <= 2
    for url in urls:
        mirrors.want(url, nobody)
    mirrors.fill()
    mirrors.close()
    assert not mirrors._under_way


def test_a_login_that_fails_is_a_failure_of_its_repository(tmp_path: Path, server: Server) -> None:
    def broken() -> Secret | None:
        raise Failure("no credentials", "set them up")

    mirrors = Mirrors(tmp_path / "cache", budget=1 << 30, jobs=2)
    mirrors.want("https://h.example/x", broken)
    mirrors.fill()
    with pytest.raises(SourceFailure, match=r"no credentials .set them up"):
        mirrors.place("https://h.example/x", broken)
    mirrors.want("https://h.example/x", broken)
    mirrors.fill()
    mirrors.close()


@contextmanager
def scanned(mirrors: Mirrors, url: str, at: int) -> Iterator[None]:
    """Scan a mirror at a time of the test's choice."""
    with mirrors.held(url):
        os.utime(clone_of(url, mirrors.folder).with_suffix(".scanned"), (at, at))
        yield


def test_the_budget_removes_what_was_scanned_longest_ago_and_nothing_in_use(tmp_path: Path, server: Server) -> None:
    folder = tmp_path / "cache"
    urls = [served(server, name, 300_000) for name in ("a", "b", "c", "d")]
    mirrors = Mirrors(folder, budget=1 << 30, jobs=1)
    for at, url in zip((3, 1, 2), urls, strict=False):
        mirrors.place(url, nobody)
        with scanned(mirrors, url, at):
            pass
    size = mirror._size(clone_of(urls[0], folder))
    small = Mirrors(folder, budget=size * 2, jobs=1)
    with mirrors.held(urls[1]):
        os.utime(clone_of(urls[1], folder).with_suffix(".scanned"), (1, 1))
        small.place(urls[3], nobody)
    held = [clone_of(url, folder).is_dir() for url in urls]
    assert held == [True, True, False, True], "b is older, but in use; c goes"
    assert small.place(urls[2], nobody).is_dir(), "it is cloned anew when it is needed"


def test_a_renamed_repository_keeps_its_clone(tmp_path: Path, server: Server) -> None:
    mirrors = Mirrors(tmp_path / "cache", budget=1 << 30, jobs=1)
    url = served(server, "r")
    with mirrors.held(url):
        mirrors.place(url, nobody)
    assert mirrors.rename(url, f"{server.url}/new")
    assert clone_of(f"{server.url}/new", mirrors.folder).is_dir()
    assert not mirrors.rename(url, f"{server.url}/other")


# What a server shows.


def test_the_refs_of_a_server_are_told_in_one_request(server: Server, web: Web) -> None:
    url = served(server, "r")
    Repository(server.folder / "empty")
    first = shown_by(web, url, None)
    assert isinstance(first, Shown)
    assert not first.empty
    assert shown_by(web, url, None) == first
    Repository.at(server.folder / "r").git("update-ref", "refs/pull/1/head", "HEAD")
    second = shown_by(web, url, None)
    assert isinstance(second, Shown)
    assert second.digest != first.digest
    empty = shown_by(web, f"{server.url}/empty", None)
    assert isinstance(empty, Shown)
    assert empty.empty
    assert shown_by(web, f"{server.url}/none", None) == Withheld(404)
    server.password = "secret"
    assert shown_by(web, url, Secret("user:secret")) == second
    assert shown_by(web, url.replace("//", "//user:secret@"), None) == second
    assert shown_by(web, url, Secret("user:other")) == Withheld(401)


def test_what_is_no_smart_server_is_left_to_git(web: Web, tmp_path: Path) -> None:
    assert shown_by(web, "ssh://git@h.example/x", None) is None
    assert shown_by(web, "http://127.0.0.1:1/x", None) is None
    assert shown_by(web, (tmp_path / "x").as_uri(), None) is None


def test_what_stands_behind_a_damaged_line_is_not_believed() -> None:
    assert list(mirror._pkt_lines(b"0006ab00000001xyz")) == [b"ab"]
    assert list(mirror._pkt_lines(b"0006abzzzz")) == [b"ab"]
