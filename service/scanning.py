"""`scan`: makes the sources and the detectors, runs the scan, shows the report."""

from __future__ import annotations

import fnmatch
import functools
import hashlib
import os
import re
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

import platformdirs

from firedamp.scanner import scan as scanner
from firedamp.scanner.budget import Limits
from firedamp.scanner.bundle import forget_gone, is_bundle, unbundle
from firedamp.scanner.candidates import Located
from firedamp.scanner.fetch import is_url, without_user
from firedamp.scanner.files import FolderSource, StreamSource, Walk
from firedamp.scanner.files import read_again as read_file_again
from firedamp.scanner.look import Look, Sense, must_open, prefilter
from firedamp.scanner.marks import MARKS, OWN
from firedamp.scanner.mirror import is_mirrored, mirror
from firedamp.scanner.objects import is_git_dir
from firedamp.scanner.scan import Report, Reported
from firedamp.scanner.source import Blob, Source
from firedamp.scanner.unpack import Unpacker, prefiltered
from firedamp.scanner.version import VERSION
from firedamp.service import clock
from firedamp.service.ending import ending_in_order
from firedamp.service.options import Common, Format, ScanOptions, default_db, must_be_writable, usual_db
from firedamp.service.progress import Bar
from firedamp.service.surroundings import (
    be_nice,
    changed,
    home_folder,
    known_files,
    on_battery,
    place_of,
    wait_for_power,
)
from firedamp.storage.errors import SourceFailure, UsageFailure
from firedamp.storage.records import FileProvenance, GitProvenance, Provenance, Skipped, TriageState
from firedamp.storage.secret import Fingerprint, Secret
from firedamp.storage.store import Store

if TYPE_CHECKING:
    from firedamp.scanner.idset import Seen
    from firedamp.scanner.mirror import Mirrors
    from firedamp.scanner.organisation import Organisation
    from firedamp.scanner.ownkeys import OwnKeys
    from firedamp.scanner.reading import Settings
    from firedamp.service.config import Config, ScanConfig

_READERS: Final = 2, 8
"""Processes that read beside this one, at least and at most: each holds some twenty megabytes."""
_GITS: Final = 2
"""Processes of git that read at once: each may hold a hundred megabytes."""

_FETCHES: Final = 4
"""Repositories of an organisation that are fetched, or asked for their refs, at the same time."""

_LOGIN: Final = re.compile(r":[^/\\:@]+@")
"""A password before a host."""

_REPOSITORIES: Final = "repositories"
"""The folder in our cache where clones and unpacked bundles are kept."""


def scan(options: ScanOptions, common: Common) -> int:
    """Scan the targets and print what stands in them; return the exit status."""
    settings, known, own, honoured = _asked(options, common)
    if options.nice:
        be_nice()
    with (
        ending_in_order(),
        common.open_store() as store,
        _unpacker(_limits(settings.scan), own) as unpacker,
        Bar(sys.stderr, quiet=common.quiet) as bar,
        ExitStack() as ends,
    ):
        opener, look = _Opener(store, options, common, own), Look(functools.partial(prefilter, _cache()), unpacker, own)
        ends.callback(opener.close)
        report = scanner.scan(
            opener.sources(options.targets, options.org), store, look,
            detector=opener.detector, now=clock.now, open_repository=opener.repository,
            canary_accounts=settings.scan.canary_accounts, honoured=honoured, progress=bar,
        )  # fmt: skip
        report = _accepted(report, options, settings.scan)
        if settings.verify.enabled and not common.offline:
            from firedamp.service import judging

            found = [each.finding for each in report.findings]
            judging.judge(
                store, found, settings.verify, clones=settings.serve.cache,
                canary_accounts=settings.scan.canary_accounts,
            )  # fmt: skip
            said = {each.fingerprint: each for each in store.findings_of(each.fingerprint for each in found)}
            report = scanner.updated(report, said)
        chosen = list(_chosen(report, options, known))
        secrets = _secrets(chosen, look, settings.serve.cache) if options.show_secrets else {}
    _show(report, chosen, secrets, common)
    status = _end(report, options, known)
    if told := {each.finding.fingerprint for each in (*report.findings, *report.allowed)}:
        with common.open_store() as store:
            store.tell(told, clock.now())
    return 2 if report.tally.nothing else status


def scan_once(choose: Callable[[Settings], Sequence[Source]], options: ScanOptions, common: Common) -> int:
    """Scan sources and remember nothing of it: for hooks. What was decided about a finding before still counts."""
    from firedamp.scanner.reading import Settings

    settings, known, own, honoured = _asked(options, common)
    sense = Sense(_cache(), own)
    sources = choose(Settings(hits=sense.hits, container=lambda head, tail: must_open(head, tail) is not None, jobs=1))
    with common.open_store() as kept, kept.blank() as store, _unpacker(_limits(settings.scan), own) as unpacker:
        for key in kept.watched():
            store.watch(key)
        report = scanner.scan(
            sources, store, Look(functools.partial(prefilter, _cache()), unpacker, own),
            detector=VERSION, now=clock.now, open_repository=_no_repository,
            canary_accounts=settings.scan.canary_accounts, honoured=honoured,
        )  # fmt: skip
        report = replace(report, skipped=tuple(_by_path(report.skipped, sources)))
        report = _accepted(report, options, settings.scan)
        names = [each.finding.fingerprint for each in report.findings]
        decided = {finding.fingerprint: finding for finding in kept.findings_of(names)}
        report = replace(
            report,
            findings=tuple(
                replace(
                    each,
                    fresh=False,
                    new=each.finding.fingerprint not in decided,
                    finding=replace(each.finding, state=decided.get(each.finding.fingerprint, each.finding).state),
                )
                for each in report.findings
            ),
        )
        found = list(_chosen(report, options, known))
    if found or report.failed or common.format is not Format.TABLE:
        _show(report, found, {}, common)
    return _end(report, options, known)


def _asked(
    options: ScanOptions, common: Common
) -> tuple[Config, frozenset[Fingerprint], OwnKeys | None, frozenset[str]]:
    """Read what holds for a scan: settings, baseline, own keys, inline marks. Raises UsageFailure before any work."""
    for path in (common.output, options.write_baseline):
        must_be_writable(path)
    settings = common.settings()
    honoured = _honoured((*settings.scan.honour_marks, *options.honour_marks))
    return settings, _baseline(options), _own_keys() if options.own_keys else None, honoured


def _accepted(report: Report, options: ScanOptions, config: ScanConfig) -> Report:
    """Leave out the failures that were accepted beforehand."""
    return scanner.accepted(report, (*config.accept_incomplete, *options.accept_incomplete), fnmatch.fnmatch)


def _end(report: Report, options: ScanOptions, known: Collection[Fingerprint]) -> int:
    """Write the baseline, where one is asked for, and return the exit status: what is open counts, shown or not."""
    if options.write_baseline is not None:
        from firedamp.service import baseline

        baseline.write(options.write_baseline, report.findings)
    counted = _chosen(report, replace(options, states=()), known)
    return 2 if report.failed else int(any(each.finding.state is TriageState.OPEN for each in counted))


def _by_path(skipped: Sequence[Skipped], sources: Sequence[Source]) -> Iterator[Skipped]:
    """Name by its path what was not read: the id of a blob says nothing to who is about to commit it."""
    parts = [each.what.partition("!") for each in skipped]
    blobs, paths = {blob for blob, _, _ in parts}, dict[str, str]()
    for source in sources:
        for blob, place in source.provenance(blobs):
            if place.path is not None:
                paths.setdefault(blob, place.path)
    for each, (blob, inside, chain) in zip(skipped, parts, strict=True):
        yield replace(each, what=f"{paths[blob]}{inside}{chain}") if blob in paths else each


def _baseline(options: ScanOptions) -> frozenset[Fingerprint]:
    if options.baseline is None:
        return frozenset()
    from firedamp.service import baseline

    return baseline.read(options.baseline)


def _own_keys() -> OwnKeys:
    from firedamp.service.profiles import own_keys

    return own_keys(os.environ)


def _no_repository(path: str) -> Source:
    raise SourceFailure(f"{path} is a repository, which is not looked into here")


def stream(file: BinaryIO, name: str) -> Source:
    """Make the source of an open file, read to its end. name is what the user knows it by."""
    return StreamSource(file, Sense(_cache(), None), must_open, target=name)


def _cache() -> Path:
    return Path(platformdirs.user_cache_dir("firedamp"))


def clones_in(configured: Path | None) -> Path:
    """Return the folder where clones live: the configured one, or that of the user's cache."""
    return configured or _cache() / _REPOSITORIES


def _unpacker(limits: Limits | None = None, own: OwnKeys | None = None) -> Unpacker:
    # The worker's prefilter knows no values: for one's own keys every member comes back.
    return Unpacker(limits, prefiltered(_cache())) if own is None else Unpacker(limits)


def _means(scan: ScanConfig) -> str:
    """Return what tells other limits, another Python, and that packages were installed or removed."""
    packages = Path(platformdirs.__file__).parents[1].stat().st_mtime_ns
    return hashlib.blake2b(repr((_limits(scan), sys.version, packages)).encode(), digest_size=8).hexdigest()


def _limits(scan: ScanConfig) -> Limits:
    return Limits(
        depth=scan.unpack_depth, members=scan.unpack_members, size=scan.unpack_bytes, ratio=scan.unpack_ratio,
        seconds=scan.unpack_time.total_seconds(),
    )  # fmt: skip


def read_again(place: Provenance, blob: str, clones: Path | None = None) -> Iterator[Blob]:
    """Yield a blob again from where it was met, in windows if it is large; nothing when it is not there any more.

    clones is where mirrors live, None for the user's cache.
    """
    match place:
        case FileProvenance(path=path):
            yield from read_file_again(path, blob)
        case GitProvenance():
            from firedamp.scanner.git import read_again as read_object_again

            yield from read_object_again(place, blob, clones_in(clones))


def detect_blob(blob: Blob) -> Iterator[Located | Skipped]:
    """Find every credential in a blob and in its containers."""
    with _unpacker() as unpacker:  # its process starts with the first container
        yield from Look(functools.partial(prefilter, _cache()), unpacker)(blob)


def _own(common: Common) -> frozenset[str]:
    """Return what this program writes itself: its databases, the output of this very run, and its cache.

    The compiled prefilter there looks like keys. As a walk names them: without links.
    """
    databases = {os.path.realpath(database) for database in (common.database(), default_db(), usual_db())}
    own = {database + end for database in databases for end in ("", "-wal", "-shm")}
    own.update(os.path.realpath(path) for path in (_cache(), common.output) if path is not None)
    return frozenset(own)


def _names(targets: Sequence[str]) -> tuple[str, ...]:
    """Return the folders and files that targets are, as they are called and without links."""
    return tuple({name for target in targets for name in (os.path.abspath(target), os.path.realpath(target))})  # noqa: PTH100


def _honoured(marks: Sequence[str]) -> frozenset[str]:
    """Return the inline marks that allow a match: ours, and those of other tools that were named."""
    for mark in marks:
        if mark not in MARKS:
            raise UsageFailure(f"{mark} is no mark that firedamp knows", "one of " + ", ".join(MARKS))
    return frozenset((OWN, *marks))


def _named(own: OwnKeys | None) -> str:
    """Name the keys that are looked for by value, so that what was read without them is read again."""
    if own is None:
        return ""
    names = "".join(sorted(key.fingerprint for key in own.keys))
    return "+own-" + hashlib.blake2b(names.encode(), digest_size=8).hexdigest()


def _filter_from() -> int | None:
    """Return what FIREDAMP_DELTA_MIN_BYTES says: from which size of a pack on the delta filter is used, or None."""
    text = os.environ.get("FIREDAMP_DELTA_MIN_BYTES")
    if text is None:
        return None
    if not text.isdecimal():
        raise UsageFailure(f"FIREDAMP_DELTA_MIN_BYTES is {text!r}, and no number of bytes")
    return int(text)


def _readers() -> int:
    """Return how many processes read by default: one for each processor that we may use, within bounds."""
    ours = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    least, most = _READERS
    return min(max(ours, least), most)


class _Opener:
    """Makes the source of each target. Repositories share what was seen, and the settings of one scan.

    What reads them is loaded with the first repository: a scan of a folder starts sooner without it.
    """

    def __init__(self, store: Store, options: ScanOptions, common: Common, own: OwnKeys | None) -> None:
        # What the delta filter ruled out was not looked at in full: a thorough scan remembers apart. So does one that
        # looks for values.
        self.detector = VERSION + ("+thorough" if options.thorough else "") + _named(own)
        self._sense = Sense(_cache(), own)
        self._store = store
        self._common = common
        self._offline = common.offline
        self._clones = clones_in(common.settings().serve.cache)
        self._mirrors: Mirrors | None = None
        self._organisations: list[Organisation] = []
        self._jobs = common.jobs or _readers()
        self._walk = Walk(
            everything=options.all_places or common.settings().scan.all_places,
            same_file_system=options.same_file_system, own=_own(common), jobs=self._jobs,
            pause=functools.partial(wait_for_power, on_battery, time.sleep) if options.nice else None,
            compiled=_cache(),
        )  # fmt: skip
        self._whole = options.thorough
        self._filter_from = _filter_from()

    @functools.cached_property
    def _seen(self) -> Seen:
        from firedamp.scanner.idset import Seen

        return Seen(self._store, self.detector, self._clones)

    @functools.cached_property
    def _settings(self) -> Settings:
        from firedamp.scanner.reading import FILTER_FROM, DeltaFilter, Settings

        return Settings(
            hits=self._sense.hits, container=lambda head, tail: must_open(head, tail) is not None, jobs=self._jobs,
            gits=self._common.jobs or _GITS,
            delta_filter=DeltaFilter(_cache(), whole=self._whole),
            filter_from=FILTER_FROM if self._filter_from is None else self._filter_from,
            means=_means(self._common.settings().scan),
        )  # fmt: skip

    def sources(self, targets: Sequence[str], orgs: Sequence[str] = ()) -> list[Source]:
        """Make the sources of the targets and organisations; without any, of the home directory, known places first."""
        forget_gone(self._clones)
        if "" in targets:
            raise UsageFailure("an empty target names nothing", "is a shell variable unset? `.` is this folder")
        if orgs:
            return [*(self.source(target) for target in targets), *(self._organisation(target) for target in orgs)]
        if targets:
            self._walk = replace(self._walk, roots=_names(targets))
            return [self.source(target) for target in targets]
        root = home_folder()
        first = known_files()
        below = tuple(path for path in first if path.startswith(root + os.sep))
        elsewhere = [path for path in first if path not in below]
        self._walk = replace(self._walk, roots=_names([str(Path.home()), *elsewhere]))
        return [
            self._folder(root, replace(self._walk, first=below)),
            *(self._folder(path, self._walk) for path in elsewhere),
        ]

    def _folder(self, path: str, walk: Walk) -> Source:
        return FolderSource(
            path, self._store, detector=self.detector, interesting=self._sense, container_of=must_open,
            walk=walk,
        )  # fmt: skip

    def source(self, target: str) -> Source:
        """Tell targets apart: a stream, a URL, a git folder without a work tree, a bundle, else a folder."""
        if target == "-":
            return StreamSource(sys.stdin.buffer, self._sense, must_open)
        folder = self._clones
        if is_url(target):
            if self._offline and not is_mirrored(target, folder):
                raise UsageFailure(
                    f"{without_user(target)} is elsewhere, and --offline contacts nobody",
                    "scan it once without --offline",
                )
            place = functools.partial(
                mirror, target, folder, offline=self._offline,
                seconds=self._common.settings().serve.clone_time.total_seconds(),
            )  # fmt: skip
            return self._git(place, without_user(target))
        if is_git_dir(Path(target)):
            return self.repository(target)
        if is_bundle(Path(target)):
            return self._bundle(target)
        if _LOGIN.search(target) is not None and not os.path.lexists(target):
            raise UsageFailure(
                "a target that was given is no file, and looks like a URL with a password in it",
                "it is not repeated here; a URL begins as https://, ssh:// or git@host:",
            )
        return self._folder(target, self._walk)

    def repository(self, path: str) -> Source:
        """Make the source of a repository met in a folder, or listed by an organisation."""
        for organisation in self._organisations:
            if (listed := organisation.source(path)) is not None:
                return listed
        if is_bundle(Path(path)):
            return self._bundle(path, self._common.settings().scan.unpack_bytes)
        return self._git(functools.partial(Path, path), os.path.realpath(path))

    def _bundle(self, path: str, largest: int | None = None) -> Source:
        seconds = self._common.settings().serve.clone_time.total_seconds()
        place = functools.partial(unbundle, Path(path), self._clones, largest, seconds)
        return self._git(place, os.path.realpath(path))

    def _organisation(self, target: str) -> Source:
        """Make the source of an organisation. One folder of clones, and one crew of fetches, serves all of a scan's."""
        from firedamp.scanner.mirror import Mirrors
        from firedamp.scanner.organisation import World
        from firedamp.scanner.web import Web
        from firedamp.service import alerting, orgs
        from firedamp.service.aws import Aws

        serve = self._common.settings().serve
        if self._mirrors is None:
            jobs = self._common.jobs or _FETCHES
            self._mirrors = Mirrors(
                self._clones, budget=serve.cache_bytes, jobs=jobs, seconds=serve.clone_time.total_seconds()
            )
        world = World(
            web=Web(time.time, time.sleep), mirrors=self._mirrors, store=self._store, detector=self.detector,
            open_git=functools.partial(self._git, borrows=True), open_folder=self.source,
            jobs=self._common.jobs or _FETCHES, offline=self._common.offline,
        )  # fmt: skip
        aws = Aws(now=clock.now, random=os.urandom, write_down=self._store.add_own_call)
        resolve = functools.partial(alerting.resolve, aws)
        made = orgs.organisation(target, world, self._common.settings().forge, aws, resolve)
        self._organisations.append(made)
        return made

    def close(self) -> None:
        """End the fetches that are still under way."""
        if self._mirrors is not None:
            self._mirrors.close()

    def _git(self, place: Callable[[], Path], target: str, *, borrows: bool = False) -> Source:
        from firedamp.scanner.git import GitSource

        return GitSource(place, self._store, self._seen, self._settings, target=target, borrows=borrows)


def _chosen(report: Report, options: ScanOptions, known: Collection[Fingerprint]) -> Iterator[Reported]:
    """Yield the findings to print: examples on request, decided ones on request or when some match of theirs is new.

    known are those of the baseline.
    """
    states = {TriageState(state) for state in options.states}
    for each in report.findings:
        state = each.finding.state
        wanted = state in states if states else state is TriageState.OPEN
        if each.finding.example and not options.examples:
            continue
        if not wanted and not (not states and state is TriageState.ACCEPTED and each.fresh):
            continue
        if (options.new and not each.new) or each.finding.fingerprint in known:
            continue
        yield each


def _show(report: Report, chosen: Sequence[Reported], secrets: Mapping[Fingerprint, Secret], common: Common) -> None:
    from firedamp.service import render

    with common.out() as out:
        render.write(
            render.Listing(
                findings=chosen, report=report, now=clock.now(), place_of=place_of, changed=changed, secrets=secrets
            ),
            common.format, out,
        )  # fmt: skip


def _secrets(chosen: Sequence[Reported], look: Look, clones: Path | None) -> dict[Fingerprint, Secret]:
    """Read the secrets of findings again from where they stand: those that are still there."""
    from firedamp.scanner.reread import Rereader

    found: dict[Fingerprint, Secret] = {}
    rereader = Rereader(functools.partial(read_again, clones=clones), look)
    for each in chosen:
        credential = rereader(each.finding, each.sights)
        secret = None if credential is None else credential.secret
        if secret is not None:
            found[each.finding.fingerprint] = secret
    return found
