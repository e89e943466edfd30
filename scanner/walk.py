"""One step of a walk: list some folders, and read what is new there as far as the prefilter needs.

Steps run in this process or in readers beside it (`crew`); a step is bounded, and hands back what it did not come to.
Only what the prefilter finds worth a look leaves a step, so that little goes through the pipes.
"""

from __future__ import annotations

import errno
import fnmatch
import functools
import glob
import hashlib
import operator
import os
import re
import stat
import time
from array import array
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from firedamp.scanner import rules
from firedamp.scanner.holes import has_holes, left, pass_hole
from firedamp.scanner.jit import NoCompilerError
from firedamp.scanner.names import with_key_id
from firedamp.scanner.same import MANY, Same
from firedamp.scanner.stub import tail_in, tail_of
from firedamp.storage.masking import MARK, masked
from firedamp.storage.records import Outcome, Skipped

Interesting = Callable[[bytes | memoryview], bool]
"""Whether the prefilter sees anything in these bytes. Picklable, so that a reader process can have its own."""


class ContainerOf(Protocol):
    """Names the format of a container from its first and last bytes, or None."""

    def __call__(self, head: bytes, tail: bytes = b"") -> str | None:
        """Return the format's name."""
        ...


WINDOW: Final = 8 << 20
"""Bytes of a file that are looked at together."""
OVERLAP: Final = 128 << 10
"""Bytes of a window that the next one repeats: a pair that crosses the border stands whole in one of them."""
_HEAD: Final = 4096
_SMALL: Final = 64 << 10
_TOGETHER: Final = 192 << 10
"""Bytes of small files that are looked at at once: a call costs as much as some kilobytes do. They are still in the
processor's cache."""
_BETWEEN: Final = ord("\n")
_AHEAD_FILES: Final = 128
_AHEAD_BYTES: Final = 1 << 20
"""Files that a disk is asked for beforehand, and how much of each: with one request at a time it does a third of what
it can. The system reads ahead in a large file by itself."""
_SLOW_NS: Final = 60_000
"""A file that takes longer, and two nanoseconds a byte, comes from a disk."""
_FEW: Final = 300_000
"""Keys of known files that are held as a set, 80 bytes each, which answers in a quarter of the time."""
_STEP_FILES: Final = 2_000
_STEP_BYTES: Final = 48 << 20
MEDIA_MARK: Final = 5
_TICK_NS: Final = 100_000_000
_COARSE_NS: Final = 2_000_000_000
"""A tick of FAT; those of ext3, HFS+ and many servers take a second."""
_DATALESS: Final = 0x40000000
"""macOS SF_DATALESS: the content is in a cloud, and opening the file would fetch it."""
_ELSEWHERE: Final = 0x1000 | 0x40000 | 0x400000
"""Windows OFFLINE, RECALL_ON_OPEN and RECALL_ON_DATA_ACCESS."""
_NO_LINK: Final = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
_READV: Final = hasattr(os, "readv")
_ADVISES: Final = hasattr(os, "posix_fadvise")
_FOLDER: Final = _NO_LINK | getattr(os, "O_DIRECTORY", 0)
_ESCAPED: Final = re.compile(rb"\\x([89a-f][0-9a-f])")
LOG: Final = "-wal"
"""What the name of a database's log ends with (sqlite.org, "Write-Ahead Logging")."""
LINK: Final = "a link to "
"""How the reason begins why a link was left out."""
_GIT_OWN: Final = frozenset({"objects", "refs", "logs", "worktrees", "modules", "lfs"})


class Folder(NamedTuple):
    """A folder still to be listed. rule: why only the names that always count are read below it, or empty."""

    path: str
    rule: str = ""


class Listed(NamedTuple):
    """A file still to be read. key is `key_of` its status when it was listed, 0 when it must not be remembered."""

    path: str
    key: int
    size: int
    linked: bool = False


class Task(NamedTuple):
    """What one step is to do. Tuples all the way down: they are what goes through the pipes."""

    folders: tuple[Folder, ...] = ()
    files: tuple[Listed, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What every step of one walk knows.

    known and early are sorted keys: of what an earlier scan read, and of what this one read before the walk. own are
    files and folders that are never read, held the paths at which earlier scans met something, and what: one blob.
    """

    interesting: Interesting
    container_of: ContainerOf
    known: array[int] = field(default_factory=lambda: array("q"))
    early: array[int] = field(default_factory=lambda: array("q"))
    own: frozenset[str] = frozenset()
    held: Mapping[str, str] = field(default_factory=dict)
    everything: bool = False
    """Read what `rules.LEFT_OUT` leaves out, too."""
    device: int | None = None
    """Stay on this file system; None goes everywhere."""
    compiled: Path | None = None
    """Where compiled code is kept; None does without."""
    roots: tuple[str, ...] = ()
    """The folders and files that this scan walks, by every name that they were given."""


@dataclass(slots=True)
class Step:
    """What one step did. left_out counts by rule; keys are of everything that need not be read again."""

    worth: list[Listed] = field(default_factory=list)
    nested: list[str] = field(default_factory=list)
    named: list[str] = field(default_factory=list)
    """Files and folders in whose own name a key id may stand."""
    skipped: list[Skipped] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    keys: array[int] = field(default_factory=lambda: array("q"))
    left: Task = field(default_factory=Task)
    files: int = 0
    bytes: int = 0
    known: int = 0
    opened: bool = False
    """Whether any file was opened: without, every one of keys was known before."""


_telling: Final = operator.attrgetter("st_dev", "st_ino", "st_size", "st_mtime_ns", "st_ctime_ns")


def key_of(status: os.stat_result, place: int) -> int:
    """Condense what tells a changed file: device, inode, size, modification and change time, and its place. Never 0.

    The hash of a tuple of integers is the same in every process; were it another in another Python, files would only
    be read again.
    """
    return hash(_telling(status)) ^ place or 1


def place_of(folder: str) -> int:
    """Condense where a file stands: a folder that is renamed changes nothing of the files below it."""
    return int.from_bytes(hashlib.blake2b(os.fsencode(folder), digest_size=8).digest(), signed=True)


def logged_key(key: int, log: Callable[[], os.stat_result]) -> int:
    """Return the key of a database by its own and the status of its log: what is new may be in that alone.

    0 where the log may still change and keep its time, or has just gone.
    """
    try:
        status = log()
    except OSError:
        return 0
    return lasting(hash((key, _telling(status))), status)


def lasting(key: int, status: os.stat_result) -> int:
    """Return key, or 0 while what it tells of may still change and keep its time."""
    return key if settled(max(status.st_ctime_ns, status.st_mtime_ns), time.time_ns()) else 0


def settled(changed: int, now: int) -> bool:
    """Whether what changed then can change no more and keep its time. Both in nanoseconds since 1970.

    A clock of files stands still for a tick; whole seconds tell that it counts no less.
    """
    return changed <= now - (_TICK_NS if changed % 1_000_000_000 else _COARSE_NS)


def media_key(key: int) -> int:
    """Return the key that remembers a file as media: with `--all` it is read after all."""
    return hash((key, MEDIA_MARK))


def held_key(key: int, blob: str) -> int:
    """Return the key that remembers a file in which something was found: only where the store has that, it is known.

    A folder that was moved away and back, or a disk that was plugged in again, changes nothing of its files; another
    scan may have taken their places for gone meanwhile. An empty blob gives the key of no file.
    """
    return hash((key, int(blob, 16))) if blob else 0


def contains(keys: array[int], key: int) -> bool:
    """Whether a sorted array holds key."""
    at = bisect_left(keys, key)
    return at < len(keys) and keys[at] == key


class _Sorted:
    """A sorted array as a set that takes no memory of its own."""

    def __init__(self, keys: array[int]) -> None:
        self._keys = keys

    def __contains__(self, key: int) -> bool:
        return contains(self._keys, key)


@dataclass(slots=True)
class _Together:
    """Files that were read one behind the other, each with where it begins and ends, and where the next one begins."""

    files: list[tuple[Listed, int, int]] = field(default_factory=list)
    end: int = 0


class Walker:
    """Does steps. names are the rules of this walk; verdicts remembers hard links, so that content is read once."""

    def __init__(self, world: World) -> None:
        self._world = world
        everything = (*rules.NEVER,) if world.everything else (*rules.NEVER, *rules.LEFT_OUT)
        self._names = rules.Names(everything)
        self._never = frozenset(rule.name for rule in rules.NEVER)
        self._held = defaultdict[str, dict[str, str]](dict)
        for path, blob in world.held.items():
            folder, _, name = path.rpartition("/")
            self._held[folder + "/"][name] = blob
        self._verdicts: dict[int, bool | None] = {}
        self._buffer = memoryview(bytearray(0))
        self._together = memoryview(bytearray(_TOGETHER + _SMALL + 2))

    def __reduce__(self) -> tuple[type[Walker], tuple[World]]:
        """Let a process that is not forked make its own: what is remembered here need not go along."""
        return Walker, (self._world,)

    @functools.cached_property
    def _known(self) -> frozenset[int] | _Sorted:
        many = self._same is not None or len(self._world.known) > _FEW
        return _Sorted(self._world.known) if many else frozenset(self._world.known)

    @functools.cached_property
    def _same(self) -> Same | None:
        """Return what tells a folder of which all is known, where so much is that it is worth its loading."""
        if self._world.compiled is None or len(self._world.known) < MANY:
            return None
        with suppress(NoCompilerError):
            return Same(self._world.known, -1 if self._world.everything else MEDIA_MARK, self._world.compiled)
        return None

    def step(self, task: Task) -> Step:
        """List and read until the step is full; what is left over comes back in it."""
        done = Step()
        folders, files = list(reversed(task.folders)), list(task.files)
        while folders or files:
            if len(files) >= _STEP_FILES or not folders:
                self._read_files(files, done)
                if files or done.bytes >= _STEP_BYTES or done.files + done.known >= _STEP_FILES:
                    break
                continue
            self._list(folders.pop(), folders, files, done)
            if done.files + done.known >= _STEP_FILES:
                self._read_files(files, done)
                break
        done.left = Task(folders=tuple(folders), files=tuple(files))
        return done

    def _list(self, folder: Folder, folders: list[Folder], files: list[Listed], done: Step) -> None:
        """List one folder: its folders and files that are new go to the lists, the rest is counted."""
        world, path = self._world, folder.path
        try:
            handle = os.open(path, _FOLDER) if os.scandir in os.supports_fd else None
            try:
                if handle is not None and world.device is not None and os.fstat(handle).st_dev != world.device:
                    done.skipped.append(_left_out(path, "on another file system; --cross-file-systems goes there"))
                    return
                if handle is not None and self._all_known(folder, handle, folders, done):
                    return
                with os.scandir(path if handle is None else handle) as entries:
                    self._sort(folder, entries, folders, files, done)
            finally:
                if handle is not None:
                    os.close(handle)
        except OSError as error:
            done.skipped.append(trouble(path, error))

    def _all_known(self, folder: Folder, handle: int, folders: list[Folder], done: Step) -> bool:
        """Whether all is known that an open folder holds: then its folders are listed, and the rest is counted."""
        path = _inside(folder.path)
        if folder.rule or path in self._held or self._same is None:
            return False
        told = self._same.look(handle, place_of(folder.path))
        if told is None:
            os.lseek(handle, 0, os.SEEK_SET)
            return False
        done.keys.extend(told.keys)
        done.files += told.empty
        done.known += len(told.keys) - told.empty - told.media
        done.left_out[rules.MEDIA.name] += told.media
        self._below(path, [Folder(path + name) for name in told.folders], folders, done)
        return True

    def _sort(
        self,
        folder: Folder,
        entries: Iterator[os.DirEntry[str]],
        folders: list[Folder],
        files: list[Listed],
        done: Step,
    ) -> None:
        path = _inside(folder.path)
        below: list[Folder] = []
        plain: list[os.DirEntry[str]] = []
        for entry in entries:
            if entry.is_file(follow_symlinks=False):
                plain.append(entry)
            elif entry.is_dir(follow_symlinks=False):
                below.append(Folder(path + entry.name, folder.rule))
            elif folder.rule:
                done.left_out[folder.rule] += 1
            elif entry.name == ".git" and os.path.lexists(f"{path}.git/HEAD"):  # a link, which git follows too
                done.nested.append(path.rstrip("/") or "/")
            elif entry.is_symlink():
                self._link(path, entry.name, done)
            else:
                done.left_out["pipes, sockets and devices"] += 1
        below = self._repository(path, below, plain, done)
        self._below(path, below, folders, done)
        if folder.rule:
            chosen = [entry for entry in plain if rules.always(entry.name)]
            done.left_out[folder.rule] += len(plain) - len(chosen)
            plain, below = chosen, []
        names = [entry.name for entry in plain] + [each.path[len(path) :] for each in below]
        done.named += [path + name for name in with_key_id(names)]
        self._new(path, place_of(folder.path), plain, files, done)

    def _below(self, path: str, below: Iterable[Folder], folders: list[Folder], done: Step) -> None:
        """List the folders in one (path ends with `/`) that are walked, and count the others."""
        for each in below:
            if each.path in self._world.own:
                done.left_out["firedamp's own files"] += 1
                continue
            name = each.path[len(path) :]
            rule = rules.SYSTEM.name if each.path in rules.SYSTEM_FOLDERS else self._names.of_folder(name, each.path)
            if rule in self._never:
                done.left_out[rule] += 1
            else:
                folders.append(each if rule is None or each.rule else Folder(each.path, rule))

    def _link(self, path: str, name: str, done: Step) -> None:
        """Count a link to what is walked anyway, and tell of one that leads to something else.

        By its name alone: to look at what it names could wait for a server that is gone.
        """
        try:
            target = os.path.normpath(os.path.join(path, os.readlink(path + name)))  # noqa: PTH115, PTH118
        except OSError as error:
            done.skipped.append(trouble(path + name, error))
            return
        if any(is_below(target, root) for root in self._world.roots):
            done.left_out["links to what is scanned"] += 1
        else:
            done.skipped.append(_left_out(path + name, f"{LINK}{shown(target)}"))

    def _repository(self, path: str, below: list[Folder], plain: list[os.DirEntry[str]], done: Step) -> list[Folder]:
        """Hand a repository here to the git source, and return the folders that are not git's own."""
        names = {each.path[len(path) :] for each in below}
        files = {entry.name for entry in plain}
        if ".git" in names and any(os.path.lexists(f"{path}.git/{part}") for part in ("HEAD", "objects", "refs")):
            done.nested.append(path.rstrip("/") or "/")
            return [each for each in below if each.path[len(path) :] != ".git"]
        if ".git" in files:
            if _points_somewhere(path):
                done.nested.append(path.rstrip("/") or "/")
            else:
                done.left_out["a .git file that points to no folder"] += 1
        if "objects" in names and ("HEAD" in files) + ("refs" in names) + keeps_objects(path) > 1:  # one may be lost
            done.nested.append(path.rstrip("/") or "/")
            return [each for each in below if each.path[len(path) :] not in _GIT_OWN]
        return below

    def _new(self, path: str, place: int, plain: Sequence[os.DirEntry[str]], files: list[Listed], done: Step) -> None:
        """Count the files that are known, and list the others: this loop is the cost of an unchanged tree."""
        known, telling = self._known, _telling
        held = self._held.get(path, {})
        seen: list[int] = []
        logs = {entry.name.removesuffix(LOG): entry for entry in plain if entry.name.endswith(LOG)}
        empty = 0
        for entry in plain:
            try:
                status = entry.stat(follow_symlinks=False)
                key = hash(telling(status)) ^ place or 1
            except OSError as error:
                done.skipped.append(trouble(path + entry.name, error))
                continue
            if logs and entry.name in logs:
                key = logged_key(key, functools.partial(logs[entry.name].stat, follow_symlinks=False))
            as_known = held_key(key, held[entry.name]) if held and entry.name in held else key
            if as_known in known:
                seen.append(as_known)
                empty += not status.st_size
            else:
                self._candidate(path + entry.name, status, key, files, done)
        done.keys.extend(seen)
        # To know that a file is empty is to have read it: where no other is, nothing was read.
        done.files += empty
        done.known += len(seen) - empty

    def _candidate(self, path: str, status: os.stat_result, key: int, files: list[Listed], done: Step) -> None:
        world = self._world
        if world.early and contains(world.early, key):
            done.keys.append(key)
            return
        if world.known and not world.everything and contains(world.known, media_key(key)):
            done.left_out[rules.MEDIA.name] += 1
            done.keys.append(media_key(key))
            return
        name = path.rpartition("/")[2]
        rule = self._names.of_file(name)
        if rule is not None and (rule in self._never or not rules.always(name)):
            done.left_out[rule] += 1
        elif path in world.own:
            done.left_out["firedamp's own files"] += 1
        elif world.device is not None and status.st_dev != world.device:
            done.skipped.append(_left_out(path, "on another file system; --cross-file-systems goes there"))
        elif elsewhere(status):
            done.left_out["not downloaded from the cloud"] += 1
        else:
            files.append(Listed(path, lasting(key, status), status.st_size, status.st_nlink > 1))

    def _read_files(self, files: list[Listed], done: Step) -> None:
        """Read from the front of files until the step is full. Small ones are looked at several at a time."""
        count = asked = 0
        done.opened |= bool(files)
        together = _Together()
        before = time.monotonic_ns()
        while count < len(files) and done.bytes < _STEP_BYTES:
            file = files[count]
            count += 1
            try:
                if file.linked or file.size > _SMALL or not self._beside(file, together, done):
                    self._settle(file, self._linked(file, done), done)
            except OSError as error:
                done.skipped.append(trouble(file.path, error))
            if together.end > _TOGETHER:
                self._look(together, done)
                now = time.monotonic_ns()
            elif (now := time.monotonic_ns()) - before > _SLOW_NS + 2 * file.size:
                start, asked = max(count, asked), min(count + _AHEAD_FILES, len(files))
                _ask_for(files[start:asked])
            before = now
        self._look(together, done)
        del files[:count]

    def _beside(self, file: Listed, together: _Together, done: Step) -> bool:
        """Read a small file behind those that wait for the same look; return whether it was one. Raises OSError."""
        handle = os.open(file.path, _NO_LINK)
        try:
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode):
                raise NotAFile
            size, start = status.st_size, together.end
            if size > _SMALL:
                return False
            # One byte more, which shows that it grew meanwhile, or is one of /proc's that have no size.
            buffer = self._together[start : start + size + 1]
            length = os.readv(handle, [buffer]) if _READV else _filled(handle, buffer)
        finally:
            os.close(handle)
        if length != size:
            return False
        match self._head(buffer[:length], tail_of(buffer[:length])):
            case None:
                self._settle(file, None, done)
            case True:
                self._settle(file, True, done)
                done.bytes += length
            case False:
                together.files.append((file, start, start + length))
                together.end = start + length + 1
                self._together[together.end - 1] = _BETWEEN
                done.bytes += length
        return True

    def _look(self, together: _Together, done: Step) -> None:
        """Look at the files that were read together; at each by itself only where something is seen."""
        seen = bool(together.files) and self._world.interesting(self._together[: together.end])
        for file, start, end in together.files:
            self._settle(file, seen and self._world.interesting(self._together[start:end]), done)
        together.files.clear()
        together.end = 0

    def _settle(self, file: Listed, verdict: bool | None, done: Step) -> None:
        """Take a file as worth a look (True), as read (False), or as media (None)."""
        if verdict is None:
            done.left_out[rules.MEDIA.name] += 1
            _remember(done, media_key(file.key) if file.key else 0)
            return
        done.files += 1
        # What an earlier scan met may be there still, though this prefilter sees nothing: with --own-keys more is seen.
        if verdict or file.path in self._world.held:
            done.worth.append(file)
        else:
            _remember(done, file.key)

    def _linked(self, file: Listed, done: Step) -> bool | None:
        """Read a file, or know from another of its names what is in it."""
        if not file.linked or not file.key:
            return self._verdict(file.path, done)
        anywhere = file.key ^ place_of(os.path.dirname(file.path))  # noqa: PTH120
        if anywhere not in self._verdicts:
            self._verdicts[anywhere] = self._verdict(file.path, done)
        return self._verdicts[anywhere]

    def _verdict(self, path: str, done: Step) -> bool | None:
        """Say whether a file is worth a look; None is media. Raises OSError for what cannot be read."""
        handle = os.open(path, _NO_LINK)
        try:
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode):
                raise NotAFile
            return self._content(handle, min(status.st_size, WINDOW), done, has_holes(status))
        finally:
            os.close(handle)

    def _content(self, handle: int, size: int, done: Step, holes: bool) -> bool | None:
        world = self._world
        buffer = self._room(size + 1)
        length = os.readv(handle, [buffer]) if _READV else _filled(handle, buffer)
        whole = length <= size
        verdict = self._head(buffer[:length], tail_of(buffer[:length]) if whole else tail_in(handle, buffer))
        if verdict is None:
            return None
        done.bytes += length
        if verdict or world.interesting(buffer[:length]):
            done.bytes += 0 if whole else left(handle)
            return True
        while not whole:
            carried = buffer[max(0, length - OVERLAP) : length].tobytes()
            buffer = self._room(WINDOW + OVERLAP)
            buffer[: len(carried)] = carried
            more = _filled(handle, buffer[len(carried) : len(carried) + WINDOW], holes)
            done.bytes += more
            length = len(carried) + more
            if more and world.interesting(buffer[:length]):
                done.bytes += left(handle)
                return True
            whole = more < WINDOW
        return False

    def _head(self, data: memoryview, tail: bytes) -> bool | None:
        """Tell by a file's beginning and end: a container is worth a look (True), media is not (None)."""
        head = bytes(data[:_HEAD])
        first = head[:1]
        if not self._world.everything and first in rules.MEDIA_BEGINS and rules.is_media(head):
            return None
        return self._world.container_of(head, tail) is not None

    def _room(self, size: int) -> memoryview:
        """Return a buffer of at least size bytes, the same for every file: fresh memory costs more than reading it."""
        if len(self._buffer) < size:
            self._buffer = memoryview(bytearray(max(size, 1 << 20)))
        return self._buffer[:size]


class NotAFile(OSError):
    """What stood in the listing as a regular file is something else now."""


def _inside(folder: str) -> str:
    """Return what the paths of all that is in a folder begin with."""
    return folder if folder.endswith("/") else folder + "/"


def is_below(path: str, folder: str) -> bool:
    """Whether a path is a folder's own or leads below it, by its name."""
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def open_file(path: str) -> int:
    """Open a regular file and return its descriptor. A link, FIFO or device put there meanwhile is an OSError."""
    handle = os.open(path, _NO_LINK)
    if stat.S_ISREG(os.fstat(handle).st_mode):
        return handle
    os.close(handle)
    raise NotAFile


def _points_somewhere(path: str) -> bool:
    """Whether the .git file in a folder (path ends with `/`) names a folder: a work tree's repository may be gone."""
    try:
        handle = open_file(path + ".git")
        try:
            told = os.read(handle, _HEAD)
        finally:
            os.close(handle)
    except OSError:
        return True  # the git source will say what is wrong
    pointed = git_folder(told)
    return pointed != "" and "\0" not in pointed and os.path.isdir(os.path.join(path, pointed))  # noqa: PTH112, PTH118


def keeps_objects(path: str) -> bool:
    """Whether the folder `objects` in a folder (path ends with `/`) is git's: other stores have some of that name."""
    return any(os.path.isdir(f"{path}objects/{part}") for part in ("pack", "info"))  # noqa: PTH112


def git_folder(told: bytes) -> str:
    """Return the path in a `.git` file, as git takes it: all between `gitdir: ` and the line's end (setup.c)."""
    return os.fsdecode(told.removeprefix(b"gitdir:").removeprefix(b" ").rstrip(b"\r\n"))


def elsewhere(status: os.stat_result) -> bool:
    """Whether a file's content is not on this machine, so that reading it would fetch it."""
    flags: int = getattr(status, "st_flags", 0)
    attributes: int = getattr(status, "st_file_attributes", 0)
    return bool(flags & _DATALESS or attributes & _ELSEWHERE)


def trouble(path: str, error: OSError) -> Skipped:
    """Say why a file or folder was not read: it is gone, is no file any more, or failed."""
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return Skipped(outcome=Outcome.GONE, what=shown(path), why="vanished")
    if isinstance(error, NotAFile) or error.errno in {errno.ELOOP, errno.ENXIO}:
        return _left_out(path, "not a regular file")
    return Skipped(outcome=Outcome.FAILED, what=shown(path), why=error.strerror or "cannot be read")


def shown(path: str) -> str:
    r"""Return a path as text that every file and database takes: bytes that are no UTF-8 become `\xNN`.

    A secret in it is masked, so that several paths may be shown alike.
    """
    return masked(_escaped(path))


Find = Callable[[str], Sequence[str]]
"""Returns the paths that `shown` made a text of."""


def finder() -> Find:
    """Return what finds the paths that a text may stand for: each that exists, or the only one there can be.

    It looks at each folder once: not for long.
    """
    fitting = functools.cache(_fitting)

    def find(text: str) -> Sequence[str]:
        if MARK not in text:
            return [_unescaped(text)]
        first, *names = text.split("/")
        paths = [first]
        for name in names:
            paths = [f"{path}/{each}" for path in paths for each in (fitting(path, name) if MARK in name else [name])]
        told = masked(text, across=True)
        there = filter(os.path.lexists, map(_unescaped, paths))
        return [path for path in there if masked(shown(path), across=True) == told]

    return find


def real_path(text: str) -> str:
    """Return the path that `shown` made text of, the first one if there are several."""
    return next(iter(finder()(text)), text)


def _fitting(folder: str, name: str) -> list[str]:
    """Return the names in a folder that may be shown as name."""
    # A stranger may have called a file by a hundred marks: what `fnmatch` makes of stars takes no time for that.
    fits = re.compile(fnmatch.translate("*".join(map(glob.escape, name.split(MARK))))).match
    try:
        return sorted(each for each in os.listdir(_unescaped(folder) or "/") if fits(_escaped(each)))  # noqa: PTH208
    except OSError:
        return []


def _escaped(path: str) -> str:
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _unescaped(text: str) -> str:
    r"""Return the path that text was: the one that exists, for a name may hold `\xNN` by itself."""
    if "\\x" not in text or os.path.lexists(text):
        return text
    return os.fsdecode(_ESCAPED.sub(lambda match: bytes([int(match[1], 16)]), os.fsencode(text)))


def _left_out(path: str, why: str) -> Skipped:
    return Skipped(outcome=Outcome.LEFT_OUT, what=shown(path), why=why)


def _remember(done: Step, key: int) -> None:
    if key:
        done.keys.append(key)


def _ask_for(files: Iterable[Listed]) -> None:
    """Ask the system to read files while others are looked at, where it can be asked (posix_fadvise(2)).

    What cannot be opened is told when its turn comes.
    """
    for file in files if _ADVISES else ():
        with suppress(OSError):
            handle = os.open(file.path, _NO_LINK)
            try:
                os.posix_fadvise(handle, 0, min(file.size, _AHEAD_BYTES), os.POSIX_FADV_WILLNEED)
            finally:
                os.close(handle)


def _filled(handle: int, buffer: memoryview, holes: bool = False) -> int:
    """Read until buffer is full or the file ends, without its holes; return how many bytes there are."""
    done = 0
    while done < len(buffer):
        if holes:
            pass_hole(handle)
        data = os.read(handle, min(len(buffer) - done, 1 << 20))
        if not data:
            break
        buffer[done : done + len(data)] = data
        done += len(data)
    return done
