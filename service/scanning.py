"""`scan` and `findings`: makes the sources and the detectors, runs the scan, shows the report."""

from __future__ import annotations

import fnmatch
import functools
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import platformdirs

from firedamp.scanner import scan as scanner
from firedamp.scanner.candidates import Located
from firedamp.scanner.containers import PLAIN, container_of
from firedamp.scanner.detect import VERSION
from firedamp.scanner.files import FolderSource, StreamSource, Walk
from firedamp.scanner.files import read_again as read_file_again
from firedamp.scanner.git import GitSource, Settings
from firedamp.scanner.git import read_again as read_object_again
from firedamp.scanner.idset import Seen
from firedamp.scanner.look import Look, Sense, prefilter
from firedamp.scanner.mirror import is_bundle, is_mirrored, is_url, mirror, unbundle, without_user
from firedamp.scanner.objects import is_git_dir
from firedamp.scanner.scan import Report, Reported
from firedamp.scanner.source import Blob, Source
from firedamp.scanner.unpack import Unpacker
from firedamp.service import show
from firedamp.service.options import Common, FindingsOptions, Format, ScanOptions, default_db
from firedamp.storage.errors import NotBuilt, UsageFailure
from firedamp.storage.records import FileProvenance, GitProvenance, Provenance, Skipped, TriageState
from firedamp.storage.store import Store

_READERS: Final = 2
"""Processes that read files beside this one: more would help a fast disk, and take more memory than is promised."""

_REPOSITORIES: Final = "repositories"
"""The folder in our cache where clones and unpacked bundles are kept."""


def scan(options: ScanOptions, common: Common) -> int:
    """Scan the targets and print what stands in them; return the exit status."""
    with common.open_store() as store, _unpacker() as unpacker:
        opener = _Opener(store, options, common)
        report = scanner.scan(
            [opener.source(target) for target in options.targets or (str(Path.home()),)], store,
            Look(prefilter(_cache()), unpacker), detector=opener.seen.detector, now=_now,
            open_repository=opener.repository,
        )  # fmt: skip
        report = scanner.accepted(report, options.accept_incomplete, fnmatch.fnmatch)
        settings = common.settings()
        if settings.verify.enabled and not common.offline:
            from firedamp.service import judging

            judging.judge(store, [each.finding for each in report.findings], settings.verify)
            said = {finding.fingerprint: finding for finding in store.findings()}
            report = scanner.updated(report, said)
        _show(report, options, common)
    if report.failed or report.tally.nothing:
        return 2
    return int(any(each.finding.state is TriageState.OPEN for each in _chosen(report, options)))


def _now() -> datetime:
    return datetime.now(UTC)


def _cache() -> Path:
    return Path(platformdirs.user_cache_dir("firedamp"))


def _unpacker() -> Unpacker:
    return Unpacker(interesting=("firedamp.scanner.worker:prefilter", str(_cache())))


def read_again(place: Provenance, blob: str) -> Iterator[Blob]:
    """Yield a blob again from where it was met, in windows if it is large; nothing when it is not there any more."""
    match place:
        case FileProvenance(path=path):
            yield from read_file_again(path, blob)
        case GitProvenance():
            yield from read_object_again(place, blob, _cache() / _REPOSITORIES)


def detect_blob(blob: Blob) -> Iterator[Located | Skipped]:
    """Find every credential in a blob and in its containers."""
    with _unpacker() as unpacker:  # its process starts with the first container
        yield from Look(prefilter(_cache()), unpacker)(blob)


def _own(common: Common) -> frozenset[str]:
    """Return the files that this program writes itself: its database, and the output of this very run."""
    database = str((common.db or default_db()).absolute())
    files = {database, database + "-wal", database + "-shm"}
    return frozenset(files if common.output is None else files | {str(common.output.absolute())})


class _Opener:
    """Makes the source of each target. Repositories share what was seen, and the settings of one scan."""

    def __init__(self, store: Store, options: ScanOptions, common: Common) -> None:
        # What the delta filter ruled out was not read in full: a thorough scan remembers apart.
        self.seen = Seen(store, VERSION + ("+thorough" if options.thorough else ""))
        self._store = store
        self._offline = common.offline
        jobs = common.jobs or _READERS
        self._walk = Walk(
            everything=options.all_places, same_file_system=options.same_file_system, own=_own(common), jobs=jobs
        )
        self._settings = Settings(
            hits=prefilter(_cache()).hits, container=lambda head: container_of(head) not in {None, *PLAIN}, jobs=jobs
        )

    def source(self, target: str) -> Source:
        """Tell targets apart: a stream, a URL, a git folder without a work tree, a bundle, else a folder."""
        if target == "-":
            return StreamSource(sys.stdin.buffer, Sense(_cache()), container_of)
        folder = _cache() / _REPOSITORIES
        if is_url(target):
            if self._offline and not is_mirrored(target, folder):
                raise UsageFailure(f"{without_user(target)} is elsewhere, and --offline contacts nobody")
            place = functools.partial(mirror, target, folder, offline=self._offline)
            return self._git(place, without_user(target))
        if is_git_dir(Path(target)):
            return self.repository(target)
        if is_bundle(Path(target)):
            return self._git(functools.partial(unbundle, Path(target), folder), os.path.realpath(target))
        return FolderSource(
            target, self._store, detector=self.seen.detector, interesting=Sense(_cache()), container_of=container_of,
            walk=self._walk,
        )  # fmt: skip

    def repository(self, path: str) -> Source:
        """Make the source of a repository met in a folder."""
        return self._git(functools.partial(Path, path), os.path.realpath(path))

    def _git(self, place: Callable[[], Path], target: str) -> Source:
        return GitSource(place, self._store, self.seen, self._settings, target=target)


def _chosen(report: Report, options: ScanOptions) -> Iterator[Reported]:
    """Yield the findings to print: examples on request only, decided ones when some match of theirs is new."""
    for each in report.findings:
        if each.finding.example and not options.examples:
            continue
        if each.finding.state is not TriageState.OPEN and not (
            each.finding.state is TriageState.ACCEPTED and each.fresh
        ):
            continue
        if options.new and not each.new:
            continue
        yield each


def _show(report: Report, options: ScanOptions, common: Common) -> None:
    chosen = list(_chosen(report, options))
    out = common.out()
    with closing(out) if common.output is not None else nullcontext():
        if common.format is Format.TABLE:
            show.finding_rows(chosen, out.write)
            return
        if common.format is not Format.JSONL:
            raise NotBuilt(f"--format {common.format} is not built yet")
        show.json_lines([*(show.finding_line(each) for each in chosen), show.summary(report)], out.write)


def findings(options: FindingsOptions, common: Common) -> int:
    """List, show or judge findings."""
    with common.open_store() as store:
        if options.action == "set":
            if options.state is None:
                raise UsageFailure("findings set needs --state", "open, accepted, false-positive or revoked")
            for prefix in options.ids:
                for finding in store.finding(prefix):
                    store.set_state(finding.fingerprint, TriageState(options.state), options.reason)
            return 0
        state = None if options.state is None else TriageState(options.state)
        found = store.findings(state=state)
        if options.ids:
            wanted = {finding.fingerprint for prefix in options.ids for finding in store.finding(prefix)}
            found = [finding for finding in found if finding.fingerprint in wanted]
        sights = store.sights([finding.fingerprint for finding in found])
        listed = [
            Reported(finding=finding, sights=tuple(sights[finding.fingerprint]), new=False, fresh=False)
            for finding in found
        ]
        out = common.out()
        with closing(out) if common.output is not None else nullcontext():
            if common.format is Format.TABLE:
                show.finding_rows(listed, out.write)
            else:
                show.json_lines([show.finding_line(each) for each in listed], out.write)
    return 0
