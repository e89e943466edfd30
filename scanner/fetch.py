"""Asking a git server: what it shows of a repository, and clone and fetch, within limits of time and disk."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import selectors
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote_to_bytes, urlsplit, urlunsplit

from firedamp.scanner.lending import borrow, lent_in, settle
from firedamp.scanner.objects import environment
from firedamp.storage.errors import SourceFailure, UsageFailure
from firedamp.storage.masking import masked
from firedamp.storage.secret import Secret

if TYPE_CHECKING:
    from types import FrameType

    import git

    from firedamp.scanner.web import Answer, Web

PROTOCOLS: Final = "https:ssh:git:file"
"""What clone and fetch may use; plain http only to this machine."""
if sys.platform != "win32":
    import fcntl

_SSH: Final = "ssh -oBatchMode=yes -oConnectTimeout=30 -oServerAliveInterval=15 -oServerAliveCountMax=4"
_FETCH: Final = ("fetch", "--quiet", "--no-auto-maintenance", "--no-write-fetch-head")
CLONING: Final = "clone-"
_WORDS: Final = 1 << 16
_REFS: Final = 128 << 20
LONGEST: Final = 7200.0
"""Seconds that one clone or fetch may take, where the configuration says nothing else."""
_PAUSE: Final = 0.5
"""Seconds between two looks whether another process is done with a clone."""
_GRACE: Final = 5.0
_ENDINGS: Final = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
_REDIRECTED: Final = re.compile(rb"error: 30[1278]\b")
"""How git says that it was sent on, and did not go (curl's words: they are not translated)."""
_ADVERTISED: Final = "/info/refs?service=git-upload-pack"

_HEAD: Final = re.compile(rb"symref=HEAD:refs/heads/(?!.*\.\.)[\w./@+-]{1,200}", re.ASCII)
"""How a server tells its default branch, if the name is safe as a path (gitprotocol-capabilities(5), symref)."""

Login = Callable[[], Secret | None]
"""Gives `user:password` for the fetch that begins now."""
_SCP: Final = re.compile(r"[\w.-]+@[\w.-]+:[^/\\].*", re.ASCII)


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
    if "::" in url.partition("://")[0]:  # gitremote-helpers(7): what follows may be any URL
        raise UsageFailure("a URL that was given is for one of git's helpers, and none is run", "give a plain URL")
    if not parts.scheme or "@" not in parts.netloc:
        return url
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def clone_of(url: str, folder: Path) -> Path:
    """Return where the clone of url stands below folder: named without user-info, a new token finds the old clone.

    url may also be as it is shown, with a secret in its path masked.
    """
    return folder / (hashlib.blake2b(masked(without_user(url)).encode(), digest_size=12).hexdigest() + ".git")


class Fetch:
    """A clone or fetch under way, in a process of git's own: several run side by side without a thread of ours."""

    def __init__(
        self, url: str, folder: Path, login: Secret | None = None, what: Sequence[str] = ("+refs/*:refs/*",), *,
        lender: Path | None = None, seconds: float = LONGEST,
    ) -> None:  # fmt: skip
        """Start it, or if another process fetches the same just now, leave it to `finish` to wait and start.

        login is `user:password`, for an address that holds none. what: refs, or commits by their id. lender is the
        clone of a fork, or of what this is a fork of. After seconds it is given up, the time for which it waits
        included.
        """
        self.url = without_user(url)
        self._clone, self._lender, self._what = clone_of(url, folder), lender, what
        self._whole, self._login = url, login
        self._address, self._credentials = _apart(url, login)
        own(folder)
        self._deadline, self._seconds = time.monotonic() + seconds, seconds
        self._process: git.Git.AutoInterrupt | None = None
        self._beside: tempfile.TemporaryDirectory[str] | None = None
        self._ended: Path | SourceFailure | None = None
        try:
            with unbroken():
                self._began()
        except BaseException:  # who was to own it is never told of it
            self.stop()
            raise

    def _began(self) -> bool:
        """Start git, unless another process has one at it: two in one clone take each other's locks.

        The lock is git's own as soon as it runs, and given back by its end, whatever we do meanwhile.
        """
        if self._process is None:
            with self._clone.with_suffix(".lock").open("ab") as turn:
                if lock(turn.fileno(), shared=False):
                    self._begin(turn.fileno())
        return self._process is not None

    def _begin(self, turn: int) -> None:
        """Start git: a clone beside where it will stand, or a fetch into what stands there."""
        import git

        from firedamp.scanner.web import LOOPBACK

        allowed = PROTOCOLS + (":http" if urlsplit(self._address).hostname in LOOPBACK else "")
        settings = environment(GIT_ALLOW_PROTOCOL=allowed, GIT_SSH_COMMAND=_SSH, **self._credentials)
        # GitPython hands down our environment: what a hook or a shell set there is not for this repository.
        for name in [name for name in os.environ if name.startswith("GIT_")]:
            del os.environ[name]
        if self._clone.is_dir():
            self._borrow(lent_in(self._clone), refresh=True)
            command = ["git", "-C", str(self._clone), *_FETCH, "--", self._address, *self._what]
        else:
            # Where a clone that is cut off leaves what it has: removed with its folder, and begun anew.
            self._beside = tempfile.TemporaryDirectory(
                dir=self._clone.parent, prefix=CLONING, ignore_cleanup_errors=True
            )
            lent = Path(self._beside.name, "lent")
            borrowed = ["--reference", str(lent)] if self._borrow(lent, refresh=False) else []
            inside = str(Path(self._beside.name, "clone"))
            command = ["git", "clone", "--quiet", "--mirror", "--template=", *borrowed, "--", self._address, inside]
        try:
            self._process = git.Git(str(self._clone.parent)).execute(
                command, as_process=True, env=settings, **_handed(turn)
            )
        except git.GitCommandNotFound as error:
            self.stop()
            raise SourceFailure("git is not installed", "repositories are fetched with git: install it") from error

    def _borrow(self, lent: Path, *, refresh: bool) -> bool:
        """Link what the lender has; whether that was possible. Without it, everything is fetched: no more than that."""
        if self._lender is None or (refresh and not lent.is_dir()):
            return False
        try:
            borrow(self._lender, lent)
        except (OSError, SourceFailure):  # a file system without links; a lender that is removed just now, or damaged
            return False
        return True

    def finish(self) -> Path:
        """Wait for its end and return the clone's path. Raises SourceFailure with git's own words, each time."""
        if self._ended is None:
            try:
                self._ended = self._finished()
            except SourceFailure as failure:
                self._ended = failure
            finally:
                self.stop()
        if isinstance(self._ended, SourceFailure):
            raise self._ended
        return self._ended

    def _finished(self) -> Path:
        said, status = self._said()
        if status and self._beside is not None and Path(self._beside.name, "lent").is_dir():
            # What was borrowed may be damaged, which is no reason to have no clone.
            self.stop()
            self._process = self._beside = self._lender = None
            said, status = self._said()
        if status and _REDIRECTED.search(said) and self._moved():
            self.stop()
            self._process = self._beside = None
            said, status = self._said()
        if status:
            words = said.decode("utf-8", "replace").strip()
            hint = "has it moved to another host? a password is not taken there" if _REDIRECTED.search(said) else ""
            raise SourceFailure(f"{self.url} cannot be fetched: {words}", hint or "may you read it?")
        if self._beside is not None:
            clone, lent = Path(self._beside.name, "clone"), Path(self._beside.name, "lent")
            if lent.is_dir():
                settle(lent, clone)
            try:
                clone.rename(self._clone)  # a clone appears whole, or not at all
            except OSError:
                if not self._clone.is_dir():  # else another process has made it meanwhile
                    raise
        return self._clone

    def _moved(self) -> bool:
        """Take the address that the repository has now on its own host, if its server names one."""
        from firedamp.scanner.web import Web

        asked = shown_at(Web(time.time, time.sleep), self._whole, self._login)
        if asked is None or asked == self._address:
            return False
        user = urlsplit(self._whole).netloc.rpartition("@")[0]
        parts = urlsplit(asked)
        self._whole = urlunsplit(parts._replace(netloc=f"{user}@{parts.netloc}")) if user else asked
        self._address, self._credentials = _apart(self._whole, self._login)
        return True

    def _said(self) -> tuple[bytes, int]:
        """Wait for git and return its words and status. Of a server that talks without end the beginning is kept."""
        while True:
            with unbroken():
                if self._began():
                    break
            self._in_time()
            time.sleep(_PAUSE)
        said, process = b"", None if self._process is None else self._process.proc
        assert process is not None  # noqa: S101 - it was started just before
        assert process.stderr is not None  # noqa: S101 - as GitPython makes it
        with selectors.DefaultSelector() as waiting:
            if sys.platform != "win32":  # where only sockets can be waited for
                waiting.register(process.stderr, selectors.EVENT_READ)
            while True:
                if sys.platform != "win32" and not waiting.select(self._in_time()):
                    continue
                piece = os.read(process.stderr.fileno(), _WORDS)
                if not piece:
                    break
                said = (said + piece)[:_WORDS]
        while process.poll() is None:
            with suppress(subprocess.TimeoutExpired):
                process.wait(self._in_time())
        return said, process.returncode

    def _in_time(self) -> float:
        """Return how many seconds are left. Raises SourceFailure when there are none."""
        left = self._deadline - time.monotonic()
        if left <= 0:
            why = f"{self.url} cannot be fetched in {self._seconds:,.0f} s: given up"
            raise SourceFailure(why, "is it very large, or the network slow? see clone_time under [serve]")
        return left

    def stop(self) -> None:
        """End it, and remove what a clone has so far."""
        self._end_process()
        if self._beside is not None:
            self._beside.cleanup()

    def _end_process(self) -> None:
        process = None if self._process is None else self._process.proc
        if process is not None:
            if process.poll() is None:
                # git does not end whom it has started, and one of them may wait for the server.
                for number in (*_started_by(process.pid), process.pid):
                    with suppress(ProcessLookupError):
                        os.kill(number, signal.SIGTERM)
                try:
                    process.wait(_GRACE)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
            for pipe in (process.stdout, process.stderr):
                if pipe is not None:
                    pipe.close()


@contextmanager
def unbroken() -> Iterator[None]:
    """Hear of a signal at the end of this only: git that was started a moment ago is not yet known to anybody.

    It would go on by itself, and make the folder anew that was removed. Any thread but the main one hears of none.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _ENDINGS}
    heard: list[tuple[int, FrameType | None]] = []
    held = [number for number, handler in before.items() if callable(handler)]
    for number in held:
        signal.signal(number, lambda which, frame: heard.append((which, frame)))
    try:
        yield
    finally:
        for number in held:
            signal.signal(number, before[number])
        for which, frame in heard:
            if callable(handler := before[signal.Signals(which)]):
                handler(which, frame)


def _apart(url: str, login: Secret | None = None) -> tuple[str, dict[str, str]]:
    """Return a URL without its password, and the settings that hand the password to git.

    As a header from the environment, so that it stands in no configuration and no list of processes. ssh needs its
    user, and takes no password from a URL: it would repeat it in its errors, as git does for its own protocol.
    """
    # A server that stops sending is given up: a kilobyte a second at least, over a minute.
    settings = [("http.lowSpeedLimit", "1000"), ("http.lowSpeedTime", "60"), ("gc.auto", "0")]
    parts = urlsplit(url)
    if parts.scheme in {"http", "https"}:
        given_user = unquote_to_bytes(parts.netloc.rpartition("@")[0])
        if login is not None and b":" not in given_user:
            given_user = login.reveal().encode()
        url = without_user(url)
        if given_user:
            # git sends the header wherever it is redirected, to other hosts too.
            settings += [
                (f"http.{url}.extraHeader", f"Authorization: {basic(given_user)}"), ("http.followRedirects", "false"),
            ]  # fmt: skip
    elif parts.scheme in {"ssh", "git+ssh", "ssh+git"}:
        user, at, host = parts.netloc.rpartition("@")
        url = urlunsplit(parts._replace(netloc=f"{user.partition(':')[0]}{at}{host}"))
    else:
        url = without_user(url)
    given = {"GIT_CONFIG_COUNT": str(len(settings))}
    for number, (name, value) in enumerate(settings):
        given |= {f"GIT_CONFIG_KEY_{number}": name, f"GIT_CONFIG_VALUE_{number}": value}
    return url, given


def basic(user: bytes) -> str:
    """Return the value of an Authorization header for `user:password` (RFC 7617)."""
    return "Basic " + base64.b64encode(user if b":" in user else user + b":").decode()


@dataclass(frozen=True, slots=True)
class Shown:
    """What a server shows of a repository: a digest of all its refs, whether there are none, and what HEAD names."""

    digest: str
    empty: bool
    head: str = ""


@dataclass(frozen=True, slots=True)
class Withheld:
    """A server that does not show a repository: the status it answers with."""

    status: int


def shown_by(web: Web, url: str, login: Secret | None) -> Shown | Withheld | None:
    """Ask a server for its refs, without a process: smart HTTP, version 0 (gitprotocol-http(5)). None: git must ask."""
    if urlsplit(url).scheme not in {"http", "https"}:
        return None
    try:
        answer = _advertised(web, url, login)
    except SourceFailure:
        return None  # git's own words say more
    if answer.status in {401, 403, 404, 410}:
        return Withheld(answer.status)
    if answer.headers.get("content-type") != "application/x-git-upload-pack-advertisement":
        return None
    digest, count, head = hashlib.blake2b(digest_size=16), 0, ""
    for line in _pkt_lines(answer.body):
        ref, _, abilities = line.partition(b"\0")  # behind NUL the server tells of itself
        ref = ref.rstrip(b"\n")
        head = head or next((word.decode()[12:] for word in abilities.split() if _HEAD.fullmatch(word)), "")
        if not ref.startswith((b"# service=", b"version ")) and not ref.endswith(b"capabilities^{}"):
            digest.update(ref + b"\n")
            count += 1
    return Shown(digest.hexdigest(), count == 0, head)


def shown_at(web: Web, url: str, login: Secret | None) -> str | None:
    """Return the address that a repository is shown at, after redirects on its own host; None where it is not."""
    try:
        answer = _advertised(web, url, login)
    except SourceFailure:
        return None
    return answer.url.removesuffix(_ADVERTISED) if answer.url.endswith(_ADVERTISED) else None


def _advertised(web: Web, url: str, login: Secret | None) -> Answer:
    user = unquote_to_bytes(urlsplit(url).netloc.rpartition("@")[0]) or (
        b"" if login is None else login.reveal().encode()
    )
    headers = {"Authorization": basic(user)} if user else {}
    return web.ask(without_user(url) + _ADVERTISED, headers, largest=_REFS)


def point_head(clone: Path, ref: str) -> None:
    """Let HEAD of a clone name the branch that is the server's default now: a fetch does not bring that."""
    text, head = f"ref: {ref}\n", clone / "HEAD"
    if head.read_text() != text:
        written = head.with_name("HEAD.new")
        written.write_text(text)
        written.replace(head)


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


def lock(handle: int, *, shared: bool) -> bool:
    """Lock a file until it is closed, and say whether that was possible. Windows keeps files in use by itself."""
    if sys.platform == "win32":
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_SH if shared else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _started_by(number: int) -> Iterator[int]:
    """Yield the processes that a process has started, and those that they have (proc(5)); none where none is told."""
    for told in Path(f"/proc/{number}/task").glob("*/children"):
        with suppress(OSError):
            for child in map(int, told.read_text().split()):
                yield from _started_by(child)
                yield child


def _handed(handle: int) -> dict[str, Any]:
    """Return how a process is started that holds a locked file open (flock(2): the lock goes with the last holder)."""
    return {} if sys.platform == "win32" else {"pass_fds": (handle,)}


def own(folder: Path) -> None:
    """Make a folder of ours, for nobody else to look into."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
