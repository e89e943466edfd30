"""Opens containers in the test's own process, and asks the system's tools to make some."""

from __future__ import annotations

import random
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from tests.builders import make_key_id, make_secret

from firedamp.scanner.budget import Budget, Limits, in_memory
from firedamp.scanner.containers import Member, opened, walk
from firedamp.scanner.formats import container_of
from firedamp.storage.records import Skipped

_ID, _SECRET = make_key_id(random.Random(3)), make_secret(random.Random(3))
TEXT = f"aws_access_key_id = {_ID}\naws_secret_access_key = {_SECRET}\n".encode()
"""What is to be found."""


def walked(data: bytes, limits: Limits | None = None) -> list[Member | Skipped]:
    """Open a container in this process."""
    limits = limits or Limits()
    kind = container_of(data[:4096], data[-66000:])
    assert kind is not None
    budget = Budget(limits, len(data), time.monotonic)
    return list(walk(kind, opened(kind, in_memory(data), budget), budget, lambda _: True))


def members(data: bytes, limits: Limits | None = None) -> dict[str, bytes]:
    """Return what is in a container that nothing is wrong with."""
    items = walked(data, limits)
    assert not [item for item in items if isinstance(item, Skipped)]
    return {item.container: item.data for item in items if isinstance(item, Member)}


def failures(data: bytes, limits: Limits | None = None) -> dict[str, str]:
    """Return what of a container could not be read, and why."""
    return {item.what: item.why for item in walked(data, limits) if isinstance(item, Skipped)}


def tool(*command: str, data: bytes = b"", cwd: Path | None = None) -> bytes:
    """Run a tool of the system over data; the test is skipped where there is none."""
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    return subprocess.run(command, input=data, capture_output=True, check=True, cwd=cwd).stdout
