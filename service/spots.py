"""Opens the places that canaries stand in, from how they are written, with the clients they need."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from firedamp.canaries.awsplaces import FunctionPlace, Spot, spot
from firedamp.canaries.fileplace import FilePlace
from firedamp.canaries.gitplace import GitPlace
from firedamp.canaries.plant import Place
from firedamp.service import clock
from firedamp.service.aws import Aws
from firedamp.storage.errors import UsageFailure
from firedamp.storage.refusals import failures
from firedamp.storage.store import Store


class Places:
    """Makes places. Calls to AWS are about the key that stands there: each carries a nonce and is written down."""

    def __init__(self, store: Store, *, offline: bool, profile: str | None = None, force: bool = False) -> None:
        self._offline, self._profile, self._force = offline, profile, force
        self.aws = Aws(now=clock.now, random=os.urandom, write_down=store.add_own_call)

    def open(self, text: str, label: str = "backup") -> Place:
        """Make the place that a text names. label is what variables are called where the place does not say it.

        Raises UsageFailure for a text that names none, or one in AWS with `--offline`.
        """
        there = spot(text)
        if there is not None:
            return self._in_aws(there, label)
        if text.startswith("git:"):
            return self._in_git(text.removeprefix("git:"))
        # The folder may be reached by links, as /tmp is on a Mac; the file itself may not be one.
        path = Path(text).expanduser().absolute()
        return FilePlace(Path(os.path.realpath(path.parent)) / path.name)

    def is_elsewhere(self, text: str) -> bool:
        """Whether a place is in AWS and may not be asked now."""
        return self._offline and spot(text) is not None

    @contextlib.contextmanager
    def about(self, key_id: str, what: str) -> Iterator[None]:
        """Say which key the calls inside are about, and what cannot be done when AWS refuses one."""
        with self.aws.about(key_id), failures(what):
            yield

    def _in_aws(self, there: Spot, label: str) -> Place:
        if self._offline:
            raise UsageFailure("this place is in AWS, and --offline contacts nobody")
        client = self.aws.client(there.kind, there.region, there.profile or self._profile, "plant")
        if there.region is None or there.profile is None:
            # What is remembered names both, so that the place is found from another shell, too.
            there = Spot(there.kind, there.rest, client.meta.region_name, there.profile or self._profile)
        return there.open(client, f"{label.upper().replace('-', '_')}_")

    def _in_git(self, text: str) -> Place:
        where, _, path = text.rpartition(":")
        folder, _, branch = where.rpartition("@")
        if not (folder and branch and path):
            raise UsageFailure(f"git:{text} names no file on a branch", "git:REPOSITORY@BRANCH:PATH")
        return GitPlace(
            folder=Path(os.path.realpath(Path(folder).expanduser())), branch=branch, path=path, at=clock.now(),
            moves_checkout=self._force,
        )  # fmt: skip


def label_of(place: Place) -> str | None:
    """Return what a key must be called to stand in a place, None where it may be called anything."""
    return place.prefix.removesuffix("_") if isinstance(place, FunctionPlace) else None
