"""Where a repository keeps its objects, and the private place from which git reads them.

A scanned repository is hostile: its configuration, hooks, refs and replacements are never loaded by a git that reads
objects. Git gets an empty GIT_DIR of ours, with only the object folder and the shallow boundary of theirs. What else
is worth knowing of the repository (HEAD, refs, configuration) is read here, as text.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import re
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self

from firedamp.scanner.walk import git_folder, keeps_objects
from firedamp.storage.errors import SourceFailure
from firedamp.storage.records import Outcome, Skipped

if sys.platform == "linux":
    import fcntl

_SMALL: Final = 1 << 20
"""No file that says where something is has more bytes than this."""
_DEEPEST: Final = 5
"""How deep git itself follows alternates."""
_PIPE: Final = 1 << 20
OTHER_NAMES: Final = rb"(?:[^\n]*\n(?![ \t]*\[))*?"
"""The lines of a section of git's configuration before a name: a value may hold brackets, as a URL does."""
_SHA256: Final = re.compile(
    rb"^[ \t]*\[extensions\]" + OTHER_NAMES + rb"[ \t]*objectformat[ \t]*=[ \t]*\"?sha256\b",
    re.IGNORECASE | re.MULTILINE,
)
_PROMISOR: Final = re.compile(rb"^\s*(?:promisor\s*=\s*\"?true|partialclone\s*=)", re.IGNORECASE | re.MULTILINE)
_ESCAPES: Final = {"a": 7, "b": 8, "t": 9, "n": 10, "v": 11, "f": 12, "r": 13, '"': 34, "\\": 92}
_FOLDER: Final = re.compile("[0-9a-f]{2}")
_ID: Final = re.compile("[0-9a-f]{40}|[0-9a-f]{64}")
_LOOSE: Final = re.compile("[0-9a-f]{38}|[0-9a-f]{62}")
_PACK: Final = re.compile(r".*\.(?:idx|pack)", re.DOTALL)
_QUOTED: Final = re.compile(r"\\([0-7]{3}|.)", re.DOTALL)
_QUOTED_PATH: Final = re.compile(r"\"(?:[^\\\"]|\\(?:[0-3][0-7]{2}|[abtnvfr\"\\]))*\"", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the parts of a repository are."""

    root: Path
    """The work tree, or the folder of a bare repository."""
    git_dir: Path
    """HEAD, index and logs of this work tree."""
    common: Path
    """Objects, refs and configuration: shared by linked work trees, else the same as git_dir."""
    stores: tuple[Path, ...]
    """Object folders: the repository's own, then its alternates that may be read, nested ones too."""
    fenced: bool
    """Some alternate must not be followed, so git may not see the list of them."""
    width: int
    """Bytes of an object id: 20 for SHA-1, 32 for SHA-256."""
    promisor: bool
    """A partial clone: objects may be absent, and are never fetched."""
    shallow: Path | None
    skipped: tuple[Skipped, ...]


def is_git_dir(path: Path) -> bool:
    """Whether path looks like a git folder, as `is_git_directory` of git's setup.c sees it."""
    if not os.path.lexists(path / "HEAD"):
        return False
    return (path / "commondir").is_file() or ((path / "objects").is_dir() and (path / "refs").is_dir())


def _is_damaged(path: Path) -> bool:
    """Whether path holds git's objects, but lacks HEAD or refs: git opens it no more, and what it holds is there."""
    return (os.path.lexists(path / "HEAD") or (path / "refs").is_dir()) and keeps_objects(f"{path}/")


def find(path: Path) -> Layout:
    """Find the parts of the repository at path, a work tree or a git folder. Raises SourceFailure if there is none."""
    root = Path(os.path.realpath(path))
    git_dir = root if is_git_dir(root) else _git_dir(root)
    common = git_dir
    if (git_dir / "commondir").is_file():
        common = Path(os.path.realpath(git_dir / os.fsdecode(_string(git_dir / "commondir").rstrip(b"\r\n"))))
    objects = common / "objects"
    if not objects.is_dir():
        raise SourceFailure(f"{root} has no object folder", "is the repository damaged?")
    config = small(common / "config")
    stores, skipped = _stores(objects)
    if not is_git_dir(git_dir):
        lost = git_dir / ("refs" if os.path.lexists(git_dir / "HEAD") else "HEAD")
        why = "missing: git takes this for no repository, and its objects are read all the same"
        skipped = (Skipped(outcome=Outcome.FAILED, what=str(lost), why=why), *skipped)
    shallow = common / "shallow"
    promisor = _PROMISOR.search(config) is not None or any((objects / "pack").glob("*.promisor"))
    return Layout(
        root=root, git_dir=git_dir, common=common, stores=stores, width=32 if _SHA256.search(config) else 20,
        fenced=any(each.outcome is Outcome.LEFT_OUT for each in skipped), promisor=promisor,
        shallow=shallow if shallow.is_file() else None, skipped=skipped,
    )  # fmt: skip


def _git_dir(root: Path) -> Path:
    """Return the git folder of a work tree. A `.git` file may point anywhere: nothing there is run, so it may."""
    inside = root / ".git"
    if inside.is_dir():
        if is_git_dir(inside) or _is_damaged(inside):
            return Path(os.path.realpath(inside))
        raise SourceFailure(f"{inside} is no repository", "HEAD, objects or refs are missing")
    text = _string(inside)
    if not text.startswith(b"gitdir:"):
        if _is_damaged(root):
            return root
        raise SourceFailure(f"{root} is no repository")
    pointed = root / git_folder(text)
    if not is_git_dir(pointed):
        raise SourceFailure(f"{inside} points to {pointed}, which is no repository", "was it moved or removed?")
    return Path(os.path.realpath(pointed))


def small(path: Path, unread: Callable[[OSError], object] | None = None) -> bytes:
    """Return the content of a small regular file, empty when there is none. unread is told why one cannot be read."""
    try:
        with open(path, "rb", opener=_at_once) as file:
            return file.read(_SMALL) if stat.S_ISREG(os.fstat(file.fileno()).st_mode) else b""
    except OSError as error:
        if unread is not None and not isinstance(error, FileNotFoundError):
            unread(error)
        return b""


def _at_once(path: str, flags: int) -> int:
    """Open a file so that a FIFO cannot hang it, as an opener: a folder that is opened by its descriptor stays open."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _string(path: Path, unread: Callable[[OSError], object] | None = None) -> bytes:
    """Return what `small` does as far as git reads it: to the first NUL, which no path may hold."""
    return small(path, unread).partition(b"\0")[0]


def _stores(own: Path) -> tuple[tuple[Path, ...], tuple[Skipped, ...]]:
    """Follow alternates as git does, but not to another user's: that would read what the scanned one only names."""
    stores, skipped, owner = [own], list[Skipped](), own.stat().st_uid
    waiting = [(own, 0)]
    for store, depth in waiting:
        errors = list[OSError]()
        alternates = list(_alternates(store, errors.append))
        for error in errors:
            why = error.strerror or "cannot be read"
            skipped.append(Skipped(outcome=Outcome.FAILED, what=str(store / "info" / "alternates"), why=why))
        for path in alternates:
            if path in stores:
                continue
            if not os.path.isdir(path):  # noqa: PTH112 - of a name that is too long Path raises an error
                why = f"alternate of {store} that is not there"
                skipped.append(Skipped(outcome=Outcome.FAILED, what=str(path), why=why))
            elif path.stat().st_uid != owner:
                why = f"alternate of {store} that belongs to another user"
                skipped.append(Skipped(outcome=Outcome.LEFT_OUT, what=str(path), why=why))
            elif depth == _DEEPEST:
                why = f"alternate of {store}, nested deeper than git follows"
                skipped.append(Skipped(outcome=Outcome.LEFT_OUT, what=str(path), why=why))
            else:
                stores.append(path)
                waiting.append((path, depth + 1))
    return tuple(stores), tuple(skipped)


def _alternates(store: Path, unread: Callable[[OSError], object]) -> Iterator[Path]:
    """Yield what `info/alternates` names (gitrepository-layout(5)): a path a line, relative to the object folder."""
    for line in os.fsdecode(_string(store / "info" / "alternates", unread)).split("\n"):
        if line and not line.startswith("#"):
            yield Path(os.path.realpath(store / unquote(line).partition("\0")[0]))


def unquote(text: str) -> str:
    """Undo git's C-style quoting of a path; text that is not quoted, or quoted wrongly, stays as it is."""
    if _QUOTED_PATH.fullmatch(text) is None:
        return text
    raw = _QUOTED.sub(lambda m: chr(_ESCAPES[m[1]] if m[1] in _ESCAPES else int(m[1], 8) & 255), _narrow(text[1:-1]))
    return os.fsdecode(raw.encode("latin-1"))


def _narrow(text: str) -> str:
    return os.fsencode(text).decode("latin-1")


def resolve(layout: Layout, name: str = "HEAD", depth: int = 0) -> str | None:
    """Return the object id that a ref holds, None for an unborn one. Read as files: a ref backend is not asked."""
    text = _string((layout.git_dir if name == "HEAD" else layout.common) / name).decode("utf-8", "replace").strip()
    if text.startswith("ref: ") and depth < _DEEPEST:
        target = text[5:].strip()
        safe = target.startswith("refs/") and ".." not in target.split("/")
        return resolve(layout, target, depth + 1) if safe else None
    if is_id(text):
        return text
    for line in _packed(layout.common / "packed-refs"):
        if line[layout.width * 2 + 1 :].rstrip(b"\n").decode("utf-8", "replace") == name:
            return line[: layout.width * 2].decode("ascii", "replace")
    return None


def tips(layout: Layout, *below: str) -> set[str]:
    """Return what the refs hold: loose, packed, and HEAD. below: only refs whose name begins so, and no HEAD."""
    found = set[bytes]()
    # Some repositories have a ref for each pull request: they are told apart as bytes.
    wanted = tuple(map(os.fsencode, below or ("refs/",)))
    for line in _packed(layout.common / "packed-refs"):
        name, _, ref = line.partition(b" ")
        # A line that begins with ^ holds what an annotated tag points at.
        if ref.startswith(wanted) or (not below and name.startswith(b"^")):
            found.add(name.lstrip(b"^").strip())
    for folder, _, files in itertools.chain.from_iterable(os.walk(layout.common / each) for each in below or ("refs",)):
        found.update(small(Path(folder, name)).strip() for name in files)
    if not below:
        found.add((resolve(layout) or "").encode())
    return set(filter(is_id, (name.decode("ascii", "replace") for name in found)))


def _packed(path: Path) -> Iterator[bytes]:
    try:
        with open(path, "rb", opener=_at_once) as lines:
            yield from lines if stat.S_ISREG(os.fstat(lines.fileno()).st_mode) else ()
    except OSError:
        return


def environment(**more: str) -> dict[str, str]:
    """Return the environment of every git that reads: no settings of the user, the system or the scanned repository.

    Nothing is fetched, no replacement is looked up, nobody is asked for a password (git(1), "Environment variables").
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    return kept | {
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_ALLOW_PROTOCOL": "",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_TERMINAL_PROMPT": "0",
        "LC_ALL": "C",
        # glibc gives memory back after each large object, and gets it again: a fifth of git's system time.
        "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
        "MALLOC_TRIM_THRESHOLD_": str(64 << 20),
    } | more  # fmt: skip


def loose_folders(store: Path) -> Iterator[Path]:
    """Yield the folders that hold loose objects."""
    with os.scandir(store) as entries:
        for entry in entries:
            if is_loose_folder(entry.name) and entry.is_dir():
                yield store / entry.name


def is_id(name: str) -> bool:
    """Whether an object's id is written so."""
    return _ID.fullmatch(name) is not None


def is_loose_folder(name: str) -> bool:
    """Whether a folder of loose objects is called so."""
    return _FOLDER.fullmatch(name) is not None


def is_loose_name(name: str) -> bool:
    """Whether a loose object is called so, in its folder."""
    return _LOOSE.fullmatch(name) is not None


def irregular(store: Path) -> Iterator[Path]:
    """Yield what stands in an object folder where git opens a file, and is none: to open a FIFO hangs."""
    alternates = store / "info" / "alternates"
    if os.path.lexists(alternates) and not alternates.is_file():
        yield alternates
    for folder in (store / "pack", *_listable(loose_folders(store))):
        wanted = _PACK if folder.name == "pack" else _LOOSE
        with contextlib.suppress(OSError), os.scandir(folder) as entries:  # who lists the objects tells it
            for entry in entries:
                # Of almost every entry the listing itself has told that it is a file.
                if not entry.is_file(follow_symlinks=False) and wanted.fullmatch(entry.name) and not _regular(entry):
                    yield folder / entry.name


def _listable(folders: Iterator[Path]) -> Iterator[Path]:
    with contextlib.suppress(OSError):
        yield from folders


def _regular(entry: os.DirEntry[str]) -> bool:
    """Whether an entry, or what a link leads to, is a regular file."""
    try:
        return entry.is_file()
    except OSError:
        return False


class ObjectAccess:
    """A git that sees the objects of one repository and nothing else of it. A context manager: it has a folder."""

    def __init__(self, layout: Layout, index: Path | None = None) -> None:
        """Make the private place. index is the index file, for a git that compares it; read, never written."""
        self.layout = layout
        self._folder = tempfile.TemporaryDirectory(prefix="firedamp-git-", ignore_cleanup_errors=True)
        self.folder = private = Path(self._folder.name)
        (private / "refs").mkdir()
        (private / "objects").mkdir()
        (private / "HEAD").write_text("ref: refs/heads/none\n")
        # Index files that only save time are not believed: a wrong one would hide objects or parents.
        lines = ["[core]", "repositoryformatversion = 1", "bare = true", "commitGraph = false",
                 "multiPackIndex = false", "quotePath = false", "deltaBaseCacheLimit = 64m"]  # fmt: skip
        if layout.width == 32:
            lines += ["[extensions]", "objectFormat = sha256"]
        (private / "config").write_text("\n".join(lines) + "\n")
        stores = layout.stores
        more = {"GIT_DIR": str(private)}
        self.irregular = frozenset(path for store in stores for path in irregular(store))
        """What is no regular file where git would open one. Git is not shown it, and nobody else may open it."""
        if layout.fenced or self.irregular:
            stores = tuple(_linked(store, private / f"store{n}", self.irregular) for n, store in enumerate(stores))
            more["GIT_ALTERNATE_OBJECT_DIRECTORIES"] = os.pathsep.join(str(store) for store in stores[1:])
        more["GIT_OBJECT_DIRECTORY"] = str(stores[0])
        if index is not None:
            more["GIT_INDEX_FILE"] = str(index)
            for shared in index.parent.glob("sharedindex.*"):  # a split index names its other half by the git folder
                (private / shared.name).symlink_to(shared)
        if layout.shallow is not None:
            more["GIT_SHALLOW_FILE"] = str(layout.shallow)
        self._environment = environment(**more)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Remove the private folder."""
        self._folder.cleanup()

    def start(self, *arguments: str, lines: Iterable[bytes] = (), given: IO[bytes] | None = None) -> Running:
        """Start git with these arguments. lines, or a file, are its standard input: no pipe can block on it.

        Raises SourceFailure when there is no git.
        """
        with tempfile.TemporaryFile(dir=self._folder.name) as file:
            file.writelines(lines)
            file.seek(0)
            reading, writing = os.pipe()
            try:
                process = subprocess.Popen(
                    ["git", "--no-pager", *arguments], stdin=given or file, stdout=writing, stderr=subprocess.DEVNULL,
                    env=self._environment, cwd=self._folder.name,
                )  # fmt: skip
            except FileNotFoundError as error:
                os.close(reading)
                raise SourceFailure("git is not installed", "repositories are read with git: install it") from error
            finally:
                os.close(writing)
        deepen(reading)
        return Running(process, io.FileIO(reading))

    def output(self, *arguments: str, lines: Iterable[bytes] = (), given: IO[bytes] | None = None) -> Iterator[bytes]:
        """Yield the lines that git prints, without their ends; ends early where git does."""
        with (
            self.start(*arguments, lines=lines, given=given) as running,
            io.BufferedReader(running.stdout, _PIPE) as stdout,
        ):
            for line in stdout:
                yield line.rstrip(b"\n")


def deepen(pipe: int) -> None:
    """Give a pipe more room where the system lets us: its writer then waits less often for its reader."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # it only saves time
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE)


@dataclass(frozen=True, slots=True)
class Running:
    """A git that was started, and what it prints. A context manager: at its end the process is ended too."""

    process: subprocess.Popen[bytes]
    stdout: io.FileIO

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stdout.close()
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait()


def _linked(store: Path, private: Path, hidden: Collection[Path]) -> Path:
    """Make a folder that shows the packs and loose objects of store, but not hidden, nor whom it borrows from."""
    private.mkdir()
    parted = {path.parent for path in hidden}
    with os.scandir(store) as entries:
        for entry in entries:
            if entry.name == "pack" or _FOLDER.fullmatch(entry.name):
                shown = private / entry.name
                if store / entry.name in parted:
                    shown.mkdir()
                    for path in (store / entry.name).iterdir():
                        if path not in hidden:
                            (shown / path.name).symlink_to(path)
                else:
                    shown.symlink_to(entry.path)
    return private


def lined(names: Iterable[str]) -> Iterator[bytes]:
    """Yield names as lines, as git reads them."""
    return (name.encode() + b"\n" for name in names)
