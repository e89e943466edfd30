"""Mirrors: clones that appear whole, keep within a budget, and never show a token."""

from __future__ import annotations

import os
import random
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from tests.builders import make_secret
from tests.forges import Reply, Request, Server
from tests.repositories import Repository

from firedamp.scanner import fetch, mirror
from firedamp.scanner.fetch import Fetch, Shown, Withheld, clone_of, shown_by
from firedamp.scanner.mirror import Mirrors
from firedamp.scanner.web import Web
from firedamp.service.ending import ending_in_order
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


def test_clones_within_the_budget_are_not_asked_when_they_were_scanned(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(clone: Path) -> float:
        raise AssertionError(f"{clone} is asked: of n clones, n times n are")

    monkeypatch.setattr(mirror, "_scanned", asked)
    mirrors = Mirrors(tmp_path / "cache", budget=1 << 30, jobs=1)
    for name in ("one", "two", "three"):
        mirrors.place(served(server, name), nobody)
    assert len(list((tmp_path / "cache").glob("*.git"))) == 3


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
        "ended = False\n"
        "while not ended:\n"
        "    ended = child.poll() is not None\n"
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
    size = mirror._taken([mirror._Taken.by(clone_of(urls[0], folder))])
    small = Mirrors(folder, budget=size * 5 // 2, jobs=1)
    with mirrors.held(urls[1]):
        os.utime(clone_of(urls[1], folder).with_suffix(".scanned"), (1, 1))
        small.place(urls[3], nobody)
    held = [clone_of(url, folder).is_dir() for url in urls]
    assert held == [True, True, False, True], "b is older, but in use; c goes"
    assert small.place(urls[2], nobody).is_dir(), "it is cloned anew when it is needed"


def test_room_that_another_process_made_meanwhile_ends_no_scan(tmp_path: Path, server: Server) -> None:
    folder = tmp_path / "cache"
    urls = [served(server, name, 300_000) for name in ("a", "b", "c")]
    mirrors = Mirrors(folder, budget=1 << 30, jobs=1)
    for url in urls[:2]:
        mirrors.place(url, nobody)
    small = Mirrors(folder, budget=1, jobs=1)
    with mirrors.held(urls[0]), mirrors.held(urls[1]):
        small._make_room()
    shutil.rmtree(clone_of(urls[0], folder))
    shutil.rmtree(clone_of(urls[1], folder))
    clone_of(urls[1], folder).with_suffix(".scanned").unlink()
    assert small.place(urls[2], nobody).is_dir()


def test_a_renamed_repository_keeps_its_clone(tmp_path: Path, server: Server) -> None:
    mirrors = Mirrors(tmp_path / "cache", budget=1 << 30, jobs=1)
    url = served(server, "r")
    with mirrors.held(url):
        mirrors.place(url, nobody)
    mirrors.rename({url: f"{server.url}/new"})
    assert clone_of(f"{server.url}/new", mirrors.folder).is_dir()
    mirrors.rename({url: f"{server.url}/other"})
    assert not clone_of(f"{server.url}/other", mirrors.folder).exists()


# Forks.


def forked(server: Server, name: str, of: str) -> str:
    """Serve a fork with one commit of its own."""
    fork = Repository(server.folder / name)
    fork.git("pull", "--quiet", str(server.folder / of), "main")
    fork.commit("own", {f"own-{name}": name})
    return f"{server.url}/{name}"


def disk(folder: Path) -> int:
    """Return the bytes of all files below a folder, one with several links once."""
    return sum(
        {s.st_ino: s.st_size for path in folder.rglob("*") if not stat.S_ISDIR((s := path.lstat()).st_mode)}.values()
    )


def whole(clone: Path) -> str:
    """Return what git itself says of a clone, all objects read."""
    return Repository.at(clone).git("fsck", "--full", "--strict", "--no-dangling")


def test_forks_share_their_objects_on_disk_and_on_the_way(tmp_path: Path, server: Server) -> None:
    url = served(server, "r", 2_000_000)
    forks = [forked(server, name, "r") for name in ("f", "g")]
    folder = tmp_path / "cache"
    mirrors = Mirrors(folder, budget=1 << 30, jobs=4)
    for each in (url, *forks):
        mirrors.want(each, nobody, "net")
    mirrors.fill()
    assert set(mirrors._under_way) == {url}, "a fork waits for whom it borrows from"
    clones = [mirrors.place(each, nobody, "net") for each in (url, *forks)]
    alone = disk(clones[0])
    assert disk(folder) < 1.1 * alone
    assert all(whole(clone) == "" for clone in clones)
    received = max(path.stat().st_size for path in (clones[1] / "objects" / "pack").glob("*"))
    assert received < 10_000, "only what is the fork's own was sent"
    assert Mirrors(folder, budget=1, jobs=1)._lender(mirror._Wanted(forks[1], nobody, "net")) == clones[0]


def test_a_fork_goes_on_when_its_lender_is_gone_and_borrows_what_is_new_while_it_is_there(
    tmp_path: Path, server: Server
) -> None:
    url = served(server, "r", 2_000_000)
    fork = forked(server, "f", "r")
    folder = tmp_path / "cache"
    mirrors = Mirrors(folder, budget=1 << 30, jobs=1)
    mirrors.place(url, nobody, "net")
    borrower = mirrors.place(fork, nobody, "net")
    origin, copy = Repository.at(server.folder / "r"), Repository.at(server.folder / "f")
    origin.commit("more", {"more": "".join(random.Random(5).choices("abcdefghij", k=2_000_000))})
    copy.git("pull", "--quiet", "--no-rebase", "--no-edit", str(origin.path), "main")
    mirrors.place(url, nobody, "net")
    before = disk(folder)
    mirrors.place(fork, nobody, "net")
    assert disk(folder) < before + 100_000
    with scanned(mirrors, url, 1), scanned(mirrors, fork, 2):
        pass
    Mirrors(folder, budget=disk(borrower) + 100_000, jobs=1).place(served(server, "x"), nobody)
    assert not clone_of(url, folder).exists()
    assert whole(borrower) == ""
    copy.commit("after", {"after": "x"})
    assert whole(mirrors.place(fork, nobody, "net")) == ""
    back = mirrors.place(url, nobody, "net")
    assert whole(back) == ""
    assert disk(folder) < 1.1 * disk(back), "it borrows from its fork now"


def test_a_renamed_clone_takes_along_what_it_borrows(tmp_path: Path, server: Server) -> None:
    url = served(server, "r", 100_000)
    fork = forked(server, "f", "r")
    mirrors = Mirrors(tmp_path / "cache", budget=1 << 30, jobs=1)
    for each in (url, fork):
        mirrors.place(each, nobody, "net")
    (server.folder / "f").rename(server.folder / "new")
    mirrors.rename({fork: f"{server.url}/new"})
    assert whole(clone_of(f"{server.url}/new", mirrors.folder)) == ""
    assert mirrors._noted(f"{server.url}/new") == "net"


def test_a_damaged_lender_costs_no_fork_its_clone(tmp_path: Path, server: Server) -> None:
    url = served(server, "r", 100_000)
    fork = forked(server, "f", "r")
    Repository.at(server.folder / "f").commit("a line more", {"file": (server.folder / "r" / "file").read_text() + "x"})
    mirrors = Mirrors(tmp_path / "cache", budget=1 << 30, jobs=1)
    clone = mirrors.place(url, nobody, "net")
    (index,) = (clone / "objects" / "pack").glob("*.idx")
    lines = Repository.at(clone).git("verify-pack", "-v", str(index)).splitlines()
    size, offset = next((int(line.split()[3]), int(line.split()[4])) for line in lines if " blob " in line)
    index.with_suffix(".pack").chmod(0o600)
    with index.with_suffix(".pack").open("r+b") as pack:
        pack.seek(offset + size // 2)
        pack.write(bytes(100))
    assert whole(mirrors.place(fork, nobody, "net")) == "", "git refuses what is borrowed: it is cloned alone"
    shutil.rmtree(clone_of(fork, mirrors.folder))
    (clone / "HEAD").unlink()
    assert whole(mirrors.place(forked(server, "g", "r"), nobody, "net")) == "", "git takes it for no repository"


def test_a_served_repository_has_no_say_in_where_objects_come_from(tmp_path: Path, server: Server) -> None:
    private = Repository(tmp_path / "private")
    private.commit("private", {"a": "private"})
    url = served(server, "r")
    names = server.folder / "r" / ".git" / "objects" / "info" / "alternates"
    names.parent.mkdir(exist_ok=True)
    names.write_text(f"{private.path}/.git/objects\n")
    clone = Fetch(url, tmp_path / "cache").finish()
    assert not list(clone.rglob("alternates"))
    local = Fetch((server.folder / "r").as_uri(), tmp_path / "cache").finish()
    assert not list(local.rglob("alternates"))


# Limits and locks.


def test_a_clone_that_another_process_makes_is_waited_for(tmp_path: Path, server: Server) -> None:
    url, folder = served(server, "r", 100_000), tmp_path / "cache"
    folder.mkdir()
    with clone_of(url, folder).with_suffix(".lock").open("ab") as turn:
        assert fetch.lock(turn.fileno(), shared=False)
        waiting, impatient = Fetch(url, folder), Fetch(url, folder, seconds=0.1)
        assert waiting._process is None
        with pytest.raises(SourceFailure, match="cannot be fetched in 0 s"):
            impatient.finish()
    clone = waiting.finish()
    assert clone == waiting.finish() == Fetch(url, folder).finish()
    assert whole(clone) == ""


def test_a_git_that_has_ended_holds_nobody_up_though_nobody_has_looked_at_it_yet(
    tmp_path: Path, server: Server
) -> None:
    url, folder = served(server, "r", 100_000), tmp_path / "cache"
    first = Fetch(url, folder)
    assert first._process is not None
    assert first._process.proc is not None
    first._process.proc.wait()
    second = Fetch(url, folder)
    assert second._process is not None
    clone = second.finish()
    assert first.finish() == clone, "made twice, kept once"
    assert whole(clone) == ""
    assert not list(folder.glob("clone-*"))


def test_many_processes_fetch_one_repository_at_once(tmp_path: Path, server: Server) -> None:
    url, folder = served(server, "r", 300_000), tmp_path / "cache"
    code = (
        "import sys; from pathlib import Path; from firedamp.scanner.mirror import mirror;"
        "print(mirror(sys.argv[1], Path(sys.argv[2])))"
    )
    many = [
        subprocess.Popen([sys.executable, "-c", code, url, str(folder)], stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    said = {each.communicate()[0].strip() for each in many}
    assert said == {str(clone_of(url, folder))}
    assert not list(folder.glob("clone-*"))


@contextmanager
def trickling(server: Server) -> Iterator[None]:
    """Let a server tell git of ever more refs, slowly."""
    serve, done = server.answer, threading.Event()

    def trickle(handler: Any) -> None:
        if not handler.headers["User-Agent"].startswith("git/"):
            serve(handler)
            return
        handler.send_response(200)
        handler.send_header("Content-Type", "application/x-git-upload-pack-advertisement")
        handler.end_headers()
        with suppress(OSError):
            handler.wfile.write(b"001e# service=git-upload-pack\n0000")
            while not done.wait(0.05):
                handler.wfile.write(b"004d" + b"1" * 40 + b" refs/heads/%020d\n" % time.monotonic_ns())

    server.answer = trickle  # type: ignore[method-assign]
    try:
        yield
    finally:
        done.set()
        server.answer = serve  # type: ignore[method-assign]


def test_a_server_that_trickles_is_given_up(tmp_path: Path, server: Server) -> None:
    url = served(server, "r")
    with trickling(server):
        begun = time.monotonic()
        fetch = Fetch(url, tmp_path / "cache", seconds=1.0)
        with pytest.raises(SourceFailure, match=r"cannot be fetched in 1 s.*clone_time"):
            fetch.finish()
        assert time.monotonic() - begun < 60, "it would go on for ever"
        assert not list((tmp_path / "cache").glob("clone-*"))
    begun = time.monotonic()
    assert Fetch(url, tmp_path / "cache").finish().is_dir()
    assert time.monotonic() - begun < 30, "the next one is not held up by what git had started"


@pytest.mark.parametrize("organisation", [False, True])
def test_a_scan_that_is_asked_to_end_removes_what_its_clones_have_so_far(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch, organisation: bool
) -> None:
    url = served(server, "r")
    (tmp_path / "urls").write_text(f"{url}\n")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    command = [sys.executable, "-m", "firedamp.service.cli", "scan", "--db", str(tmp_path / "x.db")]
    with trickling(server):
        process = subprocess.Popen([*command, *(("--org", str(tmp_path / "urls")) if organisation else (url,))])
        while not list(tmp_path.glob("cache/**/clone-*")):
            assert process.poll() is None
            time.sleep(0.05)
        for _ in range(2):  # as `serve` does to what it stops
            process.send_signal(signal.SIGTERM)
        assert process.wait(120) == 128 + signal.SIGTERM
    assert not list(tmp_path.glob("cache/**/clone-*"))


def test_a_signal_in_the_middle_of_a_start_leaves_no_git_and_no_folder(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[subprocess.Popen[bytes]] = []
    start: Any = subprocess.Popen._execute_child  # type: ignore[attr-defined]

    def asked_to_end(process: subprocess.Popen[bytes], *args: Any) -> None:
        start(process, *args)
        if "clone" in args[0]:  # GitPython asks for git's version too
            started.append(process)
            for _ in range(2):
                os.kill(os.getpid(), signal.SIGTERM)

    url = served(server, "r")
    monkeypatch.setattr(subprocess.Popen, "_execute_child", asked_to_end)
    with trickling(server), ending_in_order(), pytest.raises(SystemExit):
        Fetch(url, tmp_path / "cache")
    assert [process.poll() is None for process in started] == [False]
    assert not list((tmp_path / "cache").glob("clone-*"))


@pytest.mark.parametrize("when", ["right behind the start", "before the wait for the end"])
def test_a_fetch_is_ended_wherever_a_signal_comes(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    started: list[Fetch] = []

    class Told(Fetch):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            started.append(self)
            if when == "right behind the start":
                os.kill(os.getpid(), signal.SIGTERM)

        def finish(self) -> Path:
            os.kill(os.getpid(), signal.SIGTERM)
            return super().finish()

    url, mirrors = served(server, "r"), Mirrors(tmp_path / "cache", budget=1 << 30, jobs=1)
    monkeypatch.setattr(mirror, "Fetch", Told)
    with trickling(server), ending_in_order():
        with pytest.raises(SystemExit):
            mirrors.place(url, nobody)
        mirrors.close()
        (fetch,) = started
        assert fetch._process is not None
        assert fetch._process.proc is not None
        assert fetch._process.proc.poll() is not None
        assert not list((tmp_path / "cache").glob("clone-*"))


def test_a_repository_that_is_listed_twice_is_fetched_once(tmp_path: Path, server: Server) -> None:
    url = served(server, "r")
    mirrors = Mirrors(tmp_path / "cache", budget=1 << 30, jobs=3)
    for _ in range(2):
        mirrors.want(url, nobody)
    mirrors.fill()
    mirrors.want(url, nobody)
    assert (len(mirrors._under_way), len(mirrors._waiting)) == (1, 0)
    mirrors.place(url, nobody)


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
    assert list(fetch._pkt_lines(b"0006ab00000001xyz")) == [b"ab"]
    assert list(fetch._pkt_lines(b"0006abzzzz")) == [b"ab"]


def redirecting(server: Server, onto: str, status: int = 301) -> None:
    """Let a server send on whoever asks for a repository, as one does that was renamed."""
    serve = server.answer

    def redirect(handler: Any) -> None:
        if handler.path.startswith("/old"):
            handler.send_response(status)
            handler.send_header("Location", onto + handler.path.removeprefix("/old"))
            handler.send_header("Content-Length", "0")
            handler.end_headers()
        else:
            serve(handler)

    server.answer = redirect  # type: ignore[method-assign]


def test_a_token_does_not_follow_a_repository_to_another_host(tmp_path: Path, server: Server) -> None:
    with Server(tmp_path / "elsewhere", nothing).running() as thief:
        onto = served(thief, "r").replace("127.0.0.1", "localhost")
        redirecting(server, onto)
        with suppress(SourceFailure):
            Fetch(f"{server.url}/old", tmp_path / "cache", Secret("user:token-of-the-test")).finish()
        assert not [each for each in thief.asked if "authorization" in each.headers], "the token went along"


def test_a_renamed_repository_is_followed_on_its_own_host_with_the_token(tmp_path: Path, server: Server) -> None:
    url = served(server, "r")
    redirecting(server, url)
    server.password = "token-of-the-test"
    clone = Fetch(f"{server.url}/old", tmp_path / "cache", Secret("user:token-of-the-test")).finish()
    assert clone.is_dir()


def test_an_open_repository_is_followed_anywhere(tmp_path: Path, server: Server) -> None:
    with Server(tmp_path / "elsewhere", nothing).running() as other:
        redirecting(server, served(other, "r").replace("127.0.0.1", "localhost"))
        assert Fetch(f"{server.url}/old", tmp_path / "cache").finish().is_dir()


def test_files_that_vanish_while_clones_are_weighed_end_no_scan(tmp_path: Path, server: Server) -> None:
    url = served(server, "r")
    folder, done = tmp_path / "cache", threading.Event()
    clone = Fetch(url, folder).finish()

    def work() -> None:
        # As another process does: a fetch in the clone, and a clone that appears whole.
        while not done.is_set():
            for path in (clone / "objects" / "pack" / "tmp_pack", folder / "clone-other" / "x" / "y"):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(b"x")
                path.unlink()
            (folder / "clone-other" / "x").rmdir()
            (folder / "clone-other").rmdir()

    other = threading.Thread(target=work)
    other.start()
    try:
        for _ in range(300):
            Mirrors(folder, budget=1 << 30, jobs=1)._make_room()
    finally:
        done.set()
        other.join()
