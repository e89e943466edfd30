"""What a git folder holds besides objects: text, LFS content, submodules, and what shows that something changed."""

from __future__ import annotations

import hashlib
import os
import re
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from firedamp.scanner.holes import Dense
from firedamp.scanner.names import around_key_ids
from firedamp.scanner.objects import OTHER_NAMES, Layout, is_loose_folder, is_loose_name, loose_folders, small, unquote
from firedamp.scanner.reading import OVERLAP, WINDOW, Hits, after, begun
from firedamp.scanner.source import Blob
from firedamp.scanner.stub import tail_in
from firedamp.scanner.walk import open_file, settled, shown
from firedamp.storage.records import Outcome, Skipped

_REPOSITORIES: Final = re.compile(r"objects|modules|worktrees[/\\][^/\\]+[/\\]modules")
_ELSEWHERE: Final = re.compile(rf"{_REPOSITORIES.pattern}|refs")
"""Parts of a git folder that are read in other ways, or hold ids only. Linked work trees have their own submodules."""
_NOTHING: Final = re.compile(r"(?!)")
_LFS_STORAGE: Final = re.compile(
    rb"^[ \t]*\[lfs\]" + OTHER_NAMES + rb"[ \t]*storage[ \t]*=[ \t]*([^\n\0]+)", re.IGNORECASE | re.MULTILINE
)
_ID: Final = re.compile(rb"(?:[0-9a-f]{40}|[0-9a-f]{64})?\s*")
_OID: Final = re.compile(r"[0-9a-f]{64}")
_INDEX: Final = b"DIRC"
"""How an index begins (gitformat-index(5)): its paths are listed, each by itself."""
_PACKED: Final = (".pack", ".idx")
_UNFINISHED: Final = ("tmp_objdir-", "incoming-", "tmp_pack_")
"""Objects, or what will be some: who lists them tells of those that nobody reads."""
_INDEX_4: Final = b"DIRC\0\0\0\x04"
_LENDERS: Final = ("alternates", "http-alternates")
"""Where an object folder borrows from: paths and URLs (gitrepository-layout(5))."""
_HEAD: Final = 4096


Unread = Callable[[OSError], object]
"""Is told why a folder could not be listed."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """What a repository looks like from outside. settled: nothing in it can change any more and keep its time."""

    digest: str
    settled: bool


def stamp(layout: Layout) -> Stamp:
    """Take names, sizes and times of packs, loose folders, alternates, refs and all other files. Reads no content."""
    now, still = time.time_ns(), True
    digest = hashlib.blake2b(digest_size=16)
    for path in _telling(layout):
        try:
            status = path.stat()
        except OSError:
            continue
        still = still and settled(max(status.st_mtime_ns, status.st_ctime_ns), now)
        size = 0 if stat.S_ISDIR(status.st_mode) else status.st_size
        telling = (status.st_ino, size, status.st_mtime_ns, status.st_ctime_ns)
        digest.update(b"%s\0%d %d %d %d\0" % (os.fsencode(path), *telling))
    return Stamp(digest.hexdigest(), still)


def _telling(layout: Layout) -> Iterator[Path]:
    """Yield everything whose name, size or time says that something was added or taken away."""
    for store in layout.stores:
        yield store
        yield from (store / "info" / name for name in _LENDERS)
        yield from sorted(loose_folders(store))
        yield store / "pack"  # git follows a link to a pack, and `_below` does not
        yield from sorted(_below(store / "pack"))
    yield from sorted(_below(layout.common, _REPOSITORIES), key=str)  # as paths they take ten times as long
    yield from _strays(layout)
    if (kept := _lfs_elsewhere(layout)) is not None:
        yield kept  # whose it is decides whether it is read
        yield from sorted(_below(kept))


def text_files(layout: Layout, unread: Unread | None = None) -> Iterator[Path]:
    """Yield configuration, packed refs, reflogs, hooks, LFS content, unfinished messages: of linked work trees too.

    And what stands among the objects and the submodules, and is none.
    """
    for path in sorted(_below(layout.common, _ELSEWHERE, unread)):
        if not (path.name == "index" or path.name.startswith("sharedindex.")) or not _is_index(path):
            yield path
    yield from _strays(layout, unread)


def _strays(layout: Layout, unread: Unread | None = None) -> Iterator[Path]:
    """Yield the files among the objects and the submodules' git folders that are no objects, and in no such folder."""
    yield from sorted(_among_objects(layout, unread))
    for folder, entries in _above_modules(layout, None):  # who lists the submodules tells which folders are closed
        if not _is_repository(entries):
            yield from sorted(folder / entry.name for entry in entries if entry.is_file(follow_symlinks=False))


def _among_objects(layout: Layout, unread: Unread | None) -> Iterator[Path]:
    store, lent = layout.common / "objects", set(map(str, layout.stores))

    def told(error: OSError) -> None:
        # Who lists the objects tells which of their own folders are closed.
        place = Path(error.filename)
        if unread is not None and place != store and not is_loose_folder(place.name) and place.name != "pack":
            unread(error)

    for folder, folders, files in os.walk(store, onerror=told):
        inside = folder[len(str(store)) + 1 :]
        folders[:] = [
            name
            for name in folders
            if (inside or not name.startswith(_UNFINISHED))
            and f"{folder}{os.sep}{name}" not in lent  # what is borrowed may lie here, and is listed by itself
        ]
        for name in files:
            if inside == "pack" and (name.endswith(_PACKED) or name.startswith(_UNFINISHED)):
                continue
            if is_loose_folder(inside) and is_loose_name(name):
                continue
            path = Path(folder, name)
            if not path.is_symlink() and path.is_file():
                yield path


def _is_index(path: Path) -> bool:
    """Whether a file is an index. One that cannot be read is not: it is told."""
    try:
        with Dense(open_file(str(path))) as file:
            return file.read(len(_INDEX)) == _INDEX
    except OSError:
        return False


def refs(layout: Layout, unread: Unread | None = None, others: list[Path] | None = None) -> Blob:
    """Return the names of loose refs as one text: those of packed ones stand in `packed-refs`.

    unread is told what keeps refs from being read: objects are read all the same, but which are absent is not known.
    others takes what stands among the refs, and holds more than an id.
    """
    names, start = list[bytes](), len(str(layout.common)) + 1
    for path in _below(layout.common / "refs", unread=unread):
        if others is not None and _ID.fullmatch(small(path, unread)) is None:
            others.append(path)
        names.append(os.fsencode(str(path)[start:]) + b"\n")
    # What stands in those of a linked work tree (git-worktree(1), "Refs") is read with its other files.
    for folder in layout.common.glob("worktrees/*/refs"):
        names += (os.fsencode(str(path)[start:]) + b"\n" for path in _below(folder))
    text = b"".join(sorted(names))
    return Blob(named(text, layout.width), text)


def indexes(layout: Layout) -> list[Path]:
    """Return the index of the repository, and those of its linked work trees."""
    every = {layout.git_dir / "index", layout.common / "index", *layout.common.glob("worktrees/*/index")}
    return sorted(index for index in every if index.is_file())


def may_name_key(index: Path) -> tuple[bool, tuple[bytes, ...]]:
    """Return whether a key id may stand in a path of an index, or of what it is split into, and what looks like one.

    Version 4 leaves out of a path what it shares with the one before (gitformat-index(5)), so there it may. What looks
    like one is told with what stands around it up to a NUL or a line's end: it may stand in an extension of the index.
    """
    shared, around = False, dict[bytes, None]()
    for path in (index, *index.parent.glob("sharedindex.*")):
        try:
            with Dense(open_file(str(path))) as file:
                head = kept = file.read(len(_INDEX_4))
                shared = shared or head == _INDEX_4
                for window in iter(lambda: file.read(WINDOW), b""):
                    around |= dict.fromkeys(around_key_ids(kept + window))
                    kept = window[-OVERLAP:]
        except OSError:  # it has no path to tell then, and its objects are read all the same
            continue
    return shared or bool(around), tuple(around)


def lfs_files(layout: Layout, unread: Unread | None = None) -> Iterator[Path | Skipped]:
    """Yield the LFS objects on disk that are kept outside the git folder, unless they are another user's."""
    kept = _lfs_elsewhere(layout)
    if kept is None or not os.path.isdir(kept):  # noqa: PTH112 - of a name that is too long Path raises an error
        return
    if kept.stat().st_uid != layout.common.stat().st_uid:
        yield Skipped(outcome=Outcome.LEFT_OUT, what=shown(str(kept)), why="LFS content that belongs to another user")
        return
    yield from (path for path in sorted(_below(kept, unread=unread)) if _OID.fullmatch(path.name))


def _lfs_elsewhere(layout: Layout) -> Path | None:
    """Return where `lfs.storage` says that LFS objects are, if that is outside the git folder (git-lfs-config(5))."""
    named = _LFS_STORAGE.search(small(layout.common / "config"))
    if named is None:
        return None
    name = unquote(os.fsdecode(named[1].strip())).partition("\0")[0]
    kept = Path(os.path.realpath(layout.common / name)) / "objects"
    return None if kept.is_relative_to(layout.common) else kept


def pointer(path: Path, size: int, width: int) -> str | None:
    """Return the id of the blob that stands for an LFS object in history: a pointer's text has one form only.

    None where path is none (git-lfs specification: `objects/OID[0:2]/OID[2:4]/OID`; "The Pointer": version first, then
    the other keys in order of the alphabet).
    """
    oid = path.name
    if not _OID.fullmatch(oid) or path.parts[-4:-1] != ("objects", oid[:2], oid[2:4]):
        return None
    return named(b"version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize %d\n" % (oid.encode(), size), width)


def named(text: bytes, width: int) -> str:
    """Return the id of a blob."""
    return begun(width, b"blob %d" % len(text), text).hexdigest()


def modules(layout: Layout, unread: Unread) -> Iterator[Path]:
    """Yield the git folders of submodules. unread is told of each folder that cannot be listed."""
    yield from (folder for folder, entries in _above_modules(layout, unread) if _is_repository(entries))


def _above_modules(layout: Layout, unread: Unread | None) -> Iterator[tuple[Path, list[os.DirEntry[str]]]]:
    """Yield the folders in which git folders of submodules may stand, and these, with what is in them.

    A submodule's name may hold slashes, so folders are walked to the first.
    """
    waiting = [layout.common / "modules", *sorted(layout.common.glob("worktrees/*/modules"))]
    while waiting:
        folder = waiting.pop()
        try:
            with os.scandir(folder) as entries:
                below = list(entries)
        except OSError as error:
            if unread is not None:
                unread(error)
            continue
        yield folder, below
        if not _is_repository(below):
            waiting += [Path(entry.path) for entry in below if entry.is_dir(follow_symlinks=False)]


def _is_repository(entries: Iterable[os.DirEntry[str]]) -> bool:
    return any(entry.name == "HEAD" for entry in entries)


def _below(top: Path, without: re.Pattern[str] = _NOTHING, unread: Unread | None = None) -> Iterator[Path]:
    """Yield every regular file below top; `without` matches the folders that are passed by, as they stand below top.

    unread is told of each folder that cannot be listed.
    """
    start, waiting = len(str(top)) + 1, [str(top)]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                found = [(entry.path, entry.is_dir(follow_symlinks=False)) for entry in entries if _is_real(entry)]
        except OSError as error:
            if unread is not None:
                unread(error)
            continue
        waiting += [path for path, is_folder in found if is_folder and not without.fullmatch(path, start)]
        yield from (Path(path) for path, is_folder in found if not is_folder)


def _is_real(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder or a regular file, and no link to one: as a rule the listing itself tells."""
    return entry.is_dir(follow_symlinks=False) or entry.is_file(follow_symlinks=False)


@dataclass(frozen=True, slots=True)
class Content:
    """A file that was read: its name as a blob, its bytes' number, and whether anything is worth a look."""

    blob: str
    size: int
    interesting: bool
    head: bytes
    tail: bytes


def read(path: Path, hits: Hits, width: int) -> Content | Skipped:
    """Read a file once through the prefilter, and name it as the repository's git would."""
    try:
        with Dense(open_file(str(path))) as file:
            size = os.fstat(file.fileno()).st_size
            digest = begun(width, b"blob %d" % size, b"")
            head, interesting, kept = b"", False, b""
            for window in iter(lambda: file.read(WINDOW), b""):
                if file.holes:  # too large for git's own hash: named by where its data is
                    digest.update(b"%d\0" % file.tell())
                digest.update(window)
                head = head or window[:_HEAD]
                interesting = interesting or bool(hits(memoryview(kept + window)))
                kept = window[-OVERLAP:]
            return Content(digest.hexdigest(), size, interesting, head, tail_in(file.fileno(), head))
    except FileNotFoundError:
        return Skipped(outcome=Outcome.GONE, what=str(path), why="vanished")
    except OSError as error:
        return Skipped(outcome=Outcome.FAILED, what=str(path), why=error.strerror or "cannot be read")


def pieces(path: Path, blob: str, hits: Hits) -> Iterator[Blob]:
    """Yield a file worth a look: whole, or if it is large its windows, each begun with the end of the one before."""
    line, column, kept = 1, 1, b""
    with Dense(open_file(str(path))) as file:
        large = os.fstat(file.fileno()).st_size > WINDOW
        if large:
            head = file.read(_HEAD)
            yield Blob(blob, head, tail=tail_in(file.fileno(), head), path=str(path))
            file.seek(0)
        for more in iter(lambda: file.read(WINDOW), b""):
            window = kept + more
            if not large or hits(memoryview(window)):
                yield Blob(blob, window, line, column, window=large, path=str(path))
            kept = window[-OVERLAP:]
            line, column = after(memoryview(window)[: len(window) - len(kept)], line, column)
