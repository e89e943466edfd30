"""A file as a place for a canary: no links followed, replaced at once, mode and owner kept."""

from __future__ import annotations

import stat
from dataclasses import dataclass
from pathlib import Path

from firedamp.canaries.plant import Held
from firedamp.storage import careful
from firedamp.storage.careful import Contents
from firedamp.storage.errors import Failure


@dataclass(frozen=True, slots=True)
class FilePlace:
    """A file in a folder that exists. A new one is for its owner alone."""

    path: Path
    kind: str = "file"
    grows: bool = True

    @property
    def name(self) -> str:
        """The absolute path."""
        return str(self.path)

    def read(self) -> Held | None:
        """Read the file. Raises Failure for a link, a device, or one that may not be read."""
        contents = careful.read(self.path)
        if contents is None:
            return None
        return Held(contents.data, contents, bool(contents.mode & stat.S_IROTH))

    def write(self, data: bytes, before: Held | None) -> None:
        """Put data in the file's place."""
        careful.replace(self.path, data, None if before is None else _contents(before))

    def remove(self, held: Held) -> None:
        """Remove the file."""
        careful.remove(self.path, _contents(held))


def _contents(held: Held) -> Contents:
    if not isinstance(held.stamp, Contents):
        raise Failure("a file is only written as it was read")
    return held.stamp
