"""Makes the dangerous impossible: the real home directory, real AWS credentials, sockets beyond loopback."""

from __future__ import annotations

import fcntl
import ipaddress
import os
import random
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from firedamp.service.loopback import Loopback


def pytest_configure(config: pytest.Config) -> None:
    """Let `make test` try the same examples in every run, and `make test-all` or a file by itself new ones.

    No example has a deadline, and none is too slow to be made: other work on the machine would decide what passes.
    """
    whenever: dict[str, Any] = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
    settings.register_profile("same", derandomize=True, **whenever)
    settings.register_profile("new", print_blob=True, **whenever)
    settings.load_profile("same" if "not slow" in config.option.markexpr else "new")


class ForbiddenError(AssertionError):
    """A test reached for the world outside."""


_LINKS = Path(__file__).parent.parent / ".links"
_COMPILE = """
import pathlib, sys
from firedamp.scanner import kernels, prefilter
folder = pathlib.Path(sys.argv[1])
prefilter.Prefilter(folder).ready()
kernels.compiled(folder)
"""


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the user's cache folder of this run, for all its processes: what is compiled stays in it, 10 s of work.

    A run of many processes compiles once before it begins: else each does, at the same time.
    """
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return folder / "cache"
    made = folder.parent / "cache"
    with (folder.parent / "compiling").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            subprocess.run(
                [sys.executable, "-c", _COMPILE, str(made / "firedamp")], env={**os.environ, "PYTHONPATH": str(_LINKS)},
                check=True,
            )  # fmt: skip
    return made


@pytest.fixture(autouse=True)
def _no_real_home(tmp_path_factory: pytest.TempPathFactory, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give every test a home of its own, and an environment without the user's AWS, git or firedamp settings."""
    home = tmp_path_factory.mktemp("home")
    for name in list(os.environ):
        if name.startswith(("AWS_", "GIT_", "FIREDAMP_", "XDG_")) or name in {"BOTO_CONFIG", "SSH_AUTH_SOCK"}:
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    monkeypatch.setenv("FIREDAMP_DB", str(home / "firedamp.db"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(home / ".aws" / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(home / ".aws" / "config"))
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    # Child processes of a test import this checkout, as an editable install would, and keep what they compile of it:
    # else it is half of what a start costs.
    monkeypatch.setenv("PYTHONPATH", str(_LINKS))
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)


@pytest.fixture(autouse=True)
def _loopback_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse every connection and every name look-up beyond this machine."""
    connect, connect_ex, resolve = socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo

    def check(address: object) -> None:
        if isinstance(address, tuple) and not _is_loopback(str(address[0])):
            raise ForbiddenError(f"a test tried to connect to {address[0]}")

    def guarded(self: socket.socket, address: object) -> None:
        check(address)
        connect(self, address)  # type: ignore[arg-type]

    def guarded_ex(self: socket.socket, address: object) -> int:
        check(address)
        return connect_ex(self, address)  # type: ignore[arg-type]

    def resolved(host: object, *rest: object, **options: object) -> object:
        if host is not None and not _is_loopback(host.decode() if isinstance(host, bytes) else str(host)):
            raise socket.gaierror(f"a test tried to look up {host!r}")
        return resolve(host, *rest, **options)  # type: ignore[arg-type,call-overload]

    monkeypatch.setattr(socket.socket, "connect", guarded)
    monkeypatch.setattr(socket.socket, "connect_ex", guarded_ex)
    monkeypatch.setattr(socket, "getaddrinfo", resolved)


def _is_loopback(host: str) -> bool:
    if host in {"localhost", ""}:
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> random.Random:
    """Return random numbers that are the same in every run of a test, and different in every test."""
    return random.Random(request.node.nodeid)


@pytest.fixture(scope="session")
def _loopback_aws() -> Iterator[Loopback]:
    """Start the one loopback AWS of this process; moto is imported only by tests that ask for it."""
    from tests.untraced import untrace_aws

    from firedamp.service.loopback import Loopback

    untrace_aws()
    with Loopback() as server:
        yield server


@pytest.fixture
def aws(_loopback_aws: Loopback, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Loopback:
    """Return a fresh AWS on loopback, with `aws.admin` as its only key; its keys are the same in every run."""
    from moto.moto_api._internal import mock_random
    from moto.sqs.models import SQSBackend

    receive = SQSBackend.receive_message
    mock_random.seed(request.node.nodeid)
    # A queue that is empty says so at once: a long poll waits a second or more for what nobody sends.
    monkeypatch.setattr(
        SQSBackend, "receive_message",
        lambda self, queue_name, count, wait_seconds_timeout, *rest: receive(self, queue_name, count, 0, *rest),
    )  # fmt: skip
    _loopback_aws.reset()
    return _loopback_aws
