"""Repositories that are not a folder here: a git URL cloned and fetched, a bundle unpacked, into a cache of ours."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final
from urllib.parse import unquote_to_bytes, urlsplit, urlunsplit

from firedamp.scanner.objects import environment
from firedamp.storage.errors import Failure, SourceFailure, UsageFailure
from firedamp.storage.secret import Secret

if TYPE_CHECKING:
    from firedamp.scanner.web import Web

PROTOCOLS: Final = "https:ssh:git:file"
"""What clone and fetch may use; plain http only to this machine."""
if sys.platform != "win32":
    import fcntl

_SSH: Final = "ssh -oBatchMode=yes -oConnectTimeout=30 -oServerAliveInterval=15 -oServerAliveCountMax=4"
_FETCH: Final = ("fetch", "--quiet", "--no-auto-maintenance", "--no-write-fetch-head")
_CLONING: Final = "clone-"
_WORDS: Final = 1 << 16
_REFS: Final = 128 << 20
_CRASHED: Final = 86_400.0
"""Seconds after which a clone that never became whole is taken for what a crash left."""

Login = Callable[[], Secret | None]
"""Gives `user:password` for the fetch that begins now."""
_SCP: Final = re.compile(r"[\w.-]+@[\w.-]+:[^/\\].*", re.ASCII)
_SIGNATURES: Final = (b"# v2 git bundle\n", b"# v3 git bundle\n")
_LONGEST_LINE: Final = 8192


def is_url(target: str) -> bool:
    """Whether target is a git URL (`scheme://…`, or ssh's `user@host:path`) and no path."""
    return "://" in target or (_SCP.fullmatch(target) is not None and not os.path.lexists(target))


def without_user(url: str) -> str:
    """Return url as it may be shown and stored: user names and passwords taken out.

    Raises UsageFailure, which does not repeat it, for a URL in which it cannot be told where they end: a password with
    a slash in it, that is not percent-encoded, looks like a port and a path.
    """
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise UsageFailure(
            "a URL that was given cannot be read: its host or port is none",
            "is there a character in its password that must be percent-encoded?",
        ) from error
    if not parts.scheme or "@" not in parts.netloc:
        return url
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def is_mirrored(url: str, folder: Path) -> bool:
    """Whether a clone of url stands below folder."""
    return clone_of(url, folder).is_dir()


def clone_of(url: str, folder: Path) -> Path:
    """Return where the clone of url stands below folder: named without user-info, a new token finds the old clone."""
    return folder / (hashlib.blake2b(without_user(url).encode(), digest_size=12).hexdigest() + ".git")


def mirror(url: str, folder: Path, *, offline: bool = False) -> Path:
    """Clone url below folder, or fetch what is new into the clone that stands there; return its path.

    Everything the server shows is fetched, pull-request refs too, and what it no longer shows is kept. offline takes
    the clone as it is. Raises SourceFailure with git's own words, user-info taken out.
    """
    return clone_of(url, folder) if offline else Fetch(url, folder).finish()


class Fetch:
    """A clone or fetch under way, in a process of git's own: several run side by side without a thread of ours."""

    def __init__(
        self, url: str, folder: Path, login: Secret | None = None, what: Sequence[str] = ("+refs/*:refs/*",)
    ) -> None:
        """Start it. login is `user:password`, for an address that holds none. what: refs, or commits by their id."""
        import git

        self.url = without_user(url)
        self._clone = clone_of(url, folder)
        _own(folder)
        address, credentials = _apart(url, login)
        from firedamp.scanner.web import LOOPBACK

        allowed = PROTOCOLS + (":http" if urlsplit(url).hostname in LOOPBACK else "")
        settings = environment(GIT_ALLOW_PROTOCOL=allowed, GIT_SSH_COMMAND=_SSH, **credentials)
        # GitPython hands down our environment: what a hook or a shell set there is not for this repository.
        for name in [name for name in os.environ if name.startswith("GIT_")]:
            del os.environ[name]
        self._beside: tempfile.TemporaryDirectory[str] | None = None
        if self._clone.is_dir():
            command = ["git", "-C", str(self._clone), *_FETCH, "--", address, *what]
        else:
            # Where a clone that is cut off leaves what it has: removed with its folder, and begun anew.
            self._beside = tempfile.TemporaryDirectory(dir=folder, prefix=_CLONING, ignore_cleanup_errors=True)
            inside = str(Path(self._beside.name, "clone"))
            command = ["git", "clone", "--quiet", "--mirror", "--template=", "--", address, inside]
        try:
            self._process = git.Git(str(folder)).execute(command, as_process=True, env=settings)
        except git.GitCommandNotFound as error:
            self._remove()
            raise SourceFailure("git is not installed", "repositories are fetched with git: install it") from error

    def finish(self) -> Path:
        """Wait for its end and return the clone's path. Raises SourceFailure with git's own words."""
        try:
            # Of a server that talks without end only the beginning is kept.
            said = bytes(self._process.stderr.read(_WORDS))
            while self._process.stderr.read(_WORDS):
                pass
            process = self._process.proc
            if process is not None and process.wait():
                words = said.decode("utf-8", "replace").strip()
                raise SourceFailure(f"{self.url} cannot be fetched: {words}", "may you read it?")
            if self._beside is not None:
                Path(self._beside.name, "clone").rename(self._clone)  # a clone appears whole, or not at all
        finally:
            self.stop()
        return self._clone

    def stop(self) -> None:
        """End it, and remove what a clone has so far."""
        process = self._process.proc
        if process is not None:
            if process.poll() is None:
                process.terminate()
                process.wait()
            for pipe in (process.stdout, process.stderr):
                if pipe is not None:
                    pipe.close()
        self._remove()

    def _remove(self) -> None:
        if self._beside is not None:
            self._beside.cleanup()


def _apart(url: str, login: Secret | None = None) -> tuple[str, dict[str, str]]:
    """Return a URL without its password, and the settings that hand the password to git.

    As a header from the environment, so that it stands in no configuration and no list of processes. ssh needs its
    user, and has no password.
    """
    # A server that stops sending is given up: a kilobyte a second at least, over a minute.
    settings = [("http.lowSpeedLimit", "1000"), ("http.lowSpeedTime", "60"), ("gc.auto", "0")]
    parts = urlsplit(url)
    if parts.scheme in {"http", "https"}:
        user = unquote_to_bytes(parts.netloc.rpartition("@")[0])
        if login is not None and b":" not in user:
            user = login.reveal().encode()
        url = without_user(url)
        if user:
            settings.append((f"http.{url}.extraHeader", f"Authorization: {basic(user)}"))
    given = {"GIT_CONFIG_COUNT": str(len(settings))}
    for number, (name, value) in enumerate(settings):
        given |= {f"GIT_CONFIG_KEY_{number}": name, f"GIT_CONFIG_VALUE_{number}": value}
    return url, given


def basic(user: bytes) -> str:
    """Return the value of an Authorization header for `user:password` (RFC 7617)."""
    return "Basic " + base64.b64encode(user if b":" in user else user + b":").decode()


@dataclass(frozen=True, slots=True)
class Shown:
    """What a server shows of a repository: a digest of all its refs, and whether there are none."""

    digest: str
    empty: bool


@dataclass(frozen=True, slots=True)
class Withheld:
    """A server that does not show a repository: the status it answers with."""

    status: int


def shown_by(web: Web, url: str, login: Secret | None) -> Shown | Withheld | None:
    """Ask a server for its refs, without a process: smart HTTP, version 0 (gitprotocol-http(5)). None: git must ask."""
    if urlsplit(url).scheme not in {"http", "https"}:
        return None
    user = unquote_to_bytes(urlsplit(url).netloc.rpartition("@")[0]) or (
        b"" if login is None else login.reveal().encode()
    )
    headers = {"Authorization": basic(user)} if user else {}
    try:
        answer = web.ask(f"{without_user(url)}/info/refs?service=git-upload-pack", headers, largest=_REFS)
    except SourceFailure:
        return None  # git's own words say more
    if answer.status in {401, 403, 404, 410}:
        return Withheld(answer.status)
    if answer.headers.get("content-type") != "application/x-git-upload-pack-advertisement":
        return None
    digest, count = hashlib.blake2b(digest_size=16), 0
    for line in _pkt_lines(answer.body):
        ref = line.partition(b"\0")[0].rstrip(b"\n")  # behind NUL the server tells of itself
        if not ref.startswith((b"# service=", b"version ")) and not ref.endswith(b"capabilities^{}"):
            digest.update(ref + b"\n")
            count += 1
    return Shown(digest.hexdigest(), count == 0)


def _pkt_lines(body: bytes) -> Iterator[bytes]:
    """Yield the lines of a body in gitprotocol-common(5)'s form: four hexadecimal digits of length, then content."""
    at = 0
    while at + 4 <= len(body):
        try:
            size = int(body[at : at + 4], 16)
        except ValueError:
            return
        if size > 4:
            yield body[at + 4 : at + size]
        at += max(size, 4)


class Mirrors:
    """The clones below one folder, within a budget of bytes: some are fetched while others are read.

    Forks do not share their objects on disk: a borrowed object would go when its lender is removed. They share the
    reading: an object that was seen in one of them is not read in another.
    """

    def __init__(self, folder: Path, *, budget: int, jobs: int) -> None:
        self.folder, self._budget, self._jobs = folder, budget, jobs
        self._waiting: deque[tuple[str, Login]] = deque()
        self._under_way: dict[str, Fetch | SourceFailure] = {}
        self._sizes: dict[Path, int] | None = None

    def want(self, url: str, login: Login) -> None:
        """Have url fetched soon: whenever a place is free among the jobs."""
        self._waiting.append((url, login))

    def place(self, url: str, login: Login) -> Path:
        """Return the clone of url with everything new in it; the next ones go on meanwhile. Raises SourceFailure."""
        if url not in self._under_way:
            self._waiting = deque(each for each in self._waiting if each[0] != url)
            self._start(url, login)
        fetch = self._under_way.pop(url)
        self.fill()
        if isinstance(fetch, SourceFailure):
            raise fetch
        clone = fetch.finish()
        if self._sizes is not None:
            self._sizes[clone] = _size(clone)
        return clone

    def fill(self) -> None:
        """Start what waits, as far as places are free."""
        while self._waiting and len(self._under_way) < self._jobs:
            self._start(*self._waiting.popleft())

    def _start(self, url: str, login: Login) -> None:
        self._make_room()
        try:
            self._under_way[url] = Fetch(url, self.folder, login())
        except Failure as failure:  # no token, no credentials, no git
            self._under_way[url] = SourceFailure(failure.what, failure.hint)

    def close(self) -> None:
        """End what is under way; what is half cloned is removed."""
        for fetch in self._under_way.values():
            if isinstance(fetch, Fetch):
                fetch.stop()
        self._under_way.clear()

    @contextmanager
    def held(self, url: str) -> Iterator[None]:
        """Note that url is scanned now, and keep its clone from being removed meanwhile, by other processes too."""
        mark = _mark(clone_of(url, self.folder))
        _own(self.folder)
        with mark.open("ab") as file:
            os.utime(mark)
            _lock(file.fileno(), shared=True)
            yield

    def rename(self, old: str, new: str) -> bool:
        """Let the clone of old stand for new; whether there was one."""
        before, after = clone_of(old, self.folder), clone_of(new, self.folder)
        if not before.is_dir() or after.exists():
            return False
        before.rename(after)
        _mark(before).unlink(missing_ok=True)
        return True

    def _make_room(self) -> None:
        """Remove clones until the rest keeps within the budget: the one scanned longest ago first, none in use.

        What was read in them stays remembered: a repository that comes back is fetched anew, but not read anew.
        """
        _own(self.folder)
        if self._sizes is None:
            self._sizes = {path: _size(path) for path in self.folder.glob("*.git") if ".bundle" not in path.name}
            for left in self.folder.glob(f"{_CLONING}*"):  # a crash leaves what it had
                if time.time() - left.stat().st_mtime > _CRASHED:
                    shutil.rmtree(left, ignore_errors=True)
        busy = {clone_of(url, self.folder) for url in self._under_way}
        for clone in sorted(self._sizes.keys() - busy, key=_scanned):
            if sum(self._sizes.values()) <= self._budget:
                return
            with _mark(clone).open("ab") as file:
                if _lock(file.fileno(), shared=False):
                    # Renamed first: a clone stands whole, or not at all.
                    with tempfile.TemporaryDirectory(
                        dir=self.folder, prefix=_CLONING, ignore_cleanup_errors=True
                    ) as bin_:
                        clone.rename(Path(bin_, "gone"))
                    del self._sizes[clone]


def _mark(clone: Path) -> Path:
    """Return the file beside a clone whose time says when it was scanned last, and whose lock that it is now."""
    return clone.with_suffix(".scanned")


def _scanned(clone: Path) -> float:
    mark = _mark(clone)
    return (mark if mark.exists() else clone).stat().st_mtime


def _size(clone: Path) -> int:
    return sum(path.lstat().st_size for path in clone.rglob("*"))


def _lock(handle: int, *, shared: bool) -> bool:
    """Lock a file until it is closed, and say whether that was possible. Windows keeps files in use by itself."""
    if sys.platform == "win32":
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_SH if shared else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_bundle(path: Path) -> bool:
    """Whether path is a git bundle, by its first line (gitformat-bundle(5))."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.readline(_LONGEST_LINE) in _SIGNATURES


def unbundled(path: Path, folder: Path) -> Path:
    """Return where the repository of a bundle stands below folder, once it was unpacked."""
    return folder / (hashlib.blake2b(os.fsencode(path.absolute()), digest_size=12).hexdigest() + ".bundle.git")


def unbundle(path: Path, folder: Path) -> Path:
    """Put the pack of a bundle into a repository of ours below folder and return its path.

    Nothing of it is run or checked out, and what no ref names is kept. Raises SourceFailure for a bundle that is
    damaged, or needs objects that it does not have.
    """
    _own(folder)
    unpacked = unbundled(path, folder)
    with tempfile.TemporaryDirectory(dir=folder, prefix="bundle-") as beside:
        inside = Path(beside, "bundle")
        with path.open("rb") as file:
            refs, options = _header(file, path)
            settings = environment(GIT_DIR=str(inside))
            for command in (["init", "--quiet", "--bare", "--template=", *options], ["index-pack", "--stdin"]):
                done = subprocess.run(
                    ["git", *command], stdin=file.fileno(), capture_output=True, env=settings, check=False
                )
                if done.returncode:
                    said = done.stderr.decode("utf-8", "replace").strip()
                    raise SourceFailure(f"the bundle {path} cannot be read: {said}", "is it whole?")
        for name, value in refs.items():
            if name == "HEAD":
                (inside / "HEAD").write_text(value + "\n")
        shutil.rmtree(unpacked, ignore_errors=True)
        inside.rename(unpacked)
    return unpacked


def _header(file: IO[bytes], path: Path) -> tuple[dict[str, str], list[str]]:
    """Read a bundle's header and leave the descriptor where the pack begins: refs, and what `git init` must be told."""
    refs, options = dict[str, str](), list[str]()
    end = len(file.readline(_LONGEST_LINE))
    while (line := file.readline(_LONGEST_LINE)) not in {b"\n", b""}:
        end += len(line)
        text = line.decode("utf-8", "replace").strip()
        if text == "@object-format=sha256":
            options.append("--object-format=sha256")
        elif text.startswith("-"):
            raise SourceFailure(f"the bundle {path} needs objects that it does not have", "scan a full bundle")
        elif not text.startswith("@"):
            value, _, name = text.partition(" ")
            refs[name] = value
    os.lseek(file.fileno(), end + 1, os.SEEK_SET)
    return refs, options


def _own(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
