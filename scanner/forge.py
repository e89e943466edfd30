"""Which repositories an organisation has: one protocol, and what of it is wanted.

A forge is asked by the class of its kind (`scanner.forges`); what comes back is the same for all of them. Everything a
forge says is a stranger's word: an address it names is fetched over https only, and gets our token on its own host.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import urlsplit

from firedamp.scanner.fetch import is_url, without_user
from firedamp.scanner.objects import is_id
from firedamp.scanner.web import LOOPBACK
from firedamp.storage.errors import SourceFailure, UsageFailure
from firedamp.storage.records import Outcome, Skipped
from firedamp.storage.secret import Secret

KINDS: Final = ("github", "gitlab", "gitea", "forgejo", "bitbucket", "azure", "codecommit")
_LONGEST_LIST: Final = 16 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Repository:
    """A repository as a forge lists it. id is the forge's own and stays when the repository is renamed.

    size is in bytes, None where the forge does not say. part says what it is of another one: `wiki`, `snippet`, `gist`,
    or nothing. ref is how the forge knows it in further questions. origin is the id of what it is a fork of, where the
    forge says so in its list; pushed is when it was last pushed to, or later, in the forge's own words.
    """

    name: str
    url: str
    id: str
    size: int | None = None
    archived: bool = False
    fork: bool = False
    topics: tuple[str, ...] = ()
    part: str = ""
    ref: str = ""
    origin: str = ""
    pushed: str = ""


class Forge(Protocol):
    """One organisation on one forge."""

    def repositories(self) -> Iterator[Repository | Skipped]:
        """Yield its repositories, page by page. Raises SourceFailure when they cannot be listed."""
        ...

    def login(self, url: str) -> Secret | None:
        """Return `user:password` for git at url, made anew where it would soon expire; None for an open one."""
        ...

    def origin(self, fork: Repository) -> str:
        """Return the id of what a repository is a fork of, empty where the forge does not tell. May ask it."""
        ...

    def lost(self, repository: Repository) -> Iterator[str]:
        """Yield ids of commits that a push took out of the repository, as far as the forge tells."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which of an organisation's repositories are scanned. include and exclude are globs of names."""

    archived: bool = True
    forks: bool = True
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    topics: tuple[str, ...] = ()
    max_bytes: int | None = None
    parts: bool = True

    def why_not(self, repository: Repository) -> str | None:
        """Return the rule that leaves a repository out, None when it is wanted."""
        if repository.part and not self.parts:
            return f"a {repository.part}, and wikis is off"
        if repository.archived and not self.archived:
            return "archived"
        if repository.fork and not self.forks:
            return "a fork"
        if self.include and not _fits(repository.name, self.include):
            return "its name fits no include pattern"
        if _fits(repository.name, self.exclude):
            return "its name fits an exclude pattern"
        if self.topics and not set(self.topics) & set(repository.topics):
            return "it has none of the topics"
        if self.max_bytes is not None and repository.size is not None and repository.size > self.max_bytes:
            return "larger than max_bytes"
        return None


def _fits(name: str, patterns: Iterable[str]) -> bool:
    """Whether a pattern fits the whole name or its last part, without regard to case: forges do not tell case apart."""
    names = {name.lower(), name.lower().rpartition("/")[2]}
    return any(fnmatch.fnmatchcase(each, pattern.lower()) for each in names for pattern in patterns)


def chosen(forge: Forge, wanted: Wanted) -> Iterator[Repository | Skipped]:
    """Yield the repositories that are wanted, each once, and say of the others why they are left out."""
    met = set[str]()
    for each in forge.repositories():
        if isinstance(each, Skipped):
            yield each
        elif each.url in met:
            continue
        elif (why := _unsafe(each.url)) is not None:
            yield Skipped(outcome=Outcome.FAILED, what=each.name, why=why)
        elif (why := wanted.why_not(each)) is not None:
            met.add(each.url)
            yield Skipped(outcome=Outcome.LEFT_OUT, what=each.url, why=why)
        else:
            met.add(each.url)
            yield each


def _unsafe(url: str) -> str | None:
    """Return why an address that a forge named is not fetched: it could be a file, or a command, of this machine."""
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises where it is no number
        known = parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK)
    except ValueError:
        known = False
    return None if known else "the forge names an address that is not https"


def commits(names: Iterable[str | None]) -> Iterator[str]:
    """Yield those of names that are ids of commits, each once; all zeros stand for a branch that was made anew."""
    met = set[str]()
    for name in names:
        if name is not None and name not in met and is_id(name) and name.strip("0"):
            met.add(name)
            yield name


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """A target of `--org`, taken apart. host is the address of a forge of one's own, name what stands behind it."""

    kind: str
    name: str
    host: str | None = None


def where(target: str) -> Where | Path:
    """Take a target apart: `github:acme`, `gitea:https://host/org`, or the path of a list. Raises UsageFailure."""
    kind, colon, rest = target.partition(":")
    if kind not in KINDS or not colon:
        path = Path(target)
        if path.is_file():
            return path
        raise UsageFailure(
            f"{target} is no organisation, and no file that lists repositories",
            "github:acme, gitlab:group, gitea:https://host/org, bitbucket:workspace, azure:org/project, "
            "codecommit:region, or a file with one URL or folder a line",
        )
    if "://" in rest:
        parts = urlsplit(rest)
        head, _, name = parts.path.strip("/").rpartition("/") if kind != "gitlab" else ("", "", parts.path.strip("/"))
        host = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}" + (f"/{head}" if head else "")
        if not name and kind != "bitbucket":
            raise UsageFailure(f"{target} names no organisation", f"as in {kind}:{host}/acme")
        return Where(kind=kind, name=name, host=host)
    if not rest:
        raise UsageFailure(f"{target} names no organisation", f"as in {kind}:acme")
    if kind in {"gitea", "forgejo"}:
        raise UsageFailure(f"{target} names no host", f"as in {kind}:https://git.example.org/{rest}")
    return Where(kind=kind, name=rest.strip("/"))


def listed(path: Path) -> Iterator[str | Skipped]:
    """Yield the URLs and folders that a file lists, one a line; `#` begins a comment. A folder is relative to the file.

    Raises SourceFailure for a file that cannot be read.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_LONGEST_LIST + 1)
    except OSError as error:
        raise SourceFailure(f"{path} cannot be read: {error.strerror}") from None
    if len(data) > _LONGEST_LIST:
        raise SourceFailure(f"{path} is larger than {_LONGEST_LIST:,} bytes", "is it a list of repositories?")
    met = set[str]()
    for number, raw in enumerate(data.decode("utf-8", "surrogateescape").splitlines(), 1):
        line = raw.partition(" #")[0].strip()
        if not line or line.startswith("#"):
            continue
        entry = line if is_url(line) else str(path.parent.absolute() / Path(line).expanduser())
        try:
            shown = without_user(entry)
        except UsageFailure:
            yield Skipped(outcome=Outcome.FAILED, what=f"line {number} of {path}", why="no address")
            continue
        if shown in met:
            continue
        met.add(shown)
        if not is_url(line) and not Path(entry).exists():
            yield Skipped(outcome=Outcome.FAILED, what=entry, why=f"no such folder (line {number} of {path})")
        else:
            yield entry


def own_host(url: str, api: str) -> bool:
    """Whether url is on the host of a forge's API, or on one below it: `api.` in front is left away."""
    ours = (urlsplit(api).netloc).removeprefix("api.")
    theirs = urlsplit(url).netloc.rpartition("@")[2]
    return theirs == ours or theirs.endswith("." + ours)


def first_https(links: Sequence[tuple[str, str]]) -> str:
    """Return the address for https of a list of (name, address), empty without one."""
    return next((without_user(address) for name, address in links if name in {"http", "https"}), "")
