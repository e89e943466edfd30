"""Repositories that are not a folder here: a git URL cloned and fetched, a bundle unpacked, into a cache of ours."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import IO, Final
from urllib.parse import unquote_to_bytes, urlsplit, urlunsplit

from firedamp.scanner.objects import environment
from firedamp.storage.errors import SourceFailure

PROTOCOLS: Final = "https:ssh:git:file"
"""What clone and fetch may use; plain http only to this machine."""
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_SCP: Final = re.compile(r"[\w.-]+@[\w.-]+:[^/\\].*", re.ASCII)
_SIGNATURES: Final = (b"# v2 git bundle\n", b"# v3 git bundle\n")
_LONGEST_LINE: Final = 8192


def is_url(target: str) -> bool:
    """Whether target is a git URL (`scheme://…`, or ssh's `user@host:path`) and no path."""
    return "://" in target or (_SCP.fullmatch(target) is not None and not os.path.lexists(target))


def without_user(url: str) -> str:
    """Return url as it may be shown and stored: user names and passwords taken out."""
    parts = urlsplit(url)
    if not parts.scheme or "@" not in parts.netloc:
        return url
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def is_mirrored(url: str, folder: Path) -> bool:
    """Whether a clone of url stands below folder."""
    return clone_of(url, folder).is_dir()


def clone_of(url: str, folder: Path) -> Path:
    """Return where the clone of url stands below folder: named without user-info, a new token finds the old clone."""
    return folder / (hashlib.blake2b(without_user(url).encode(), digest_size=12).hexdigest() + ".git")


def mirror(url: str, folder: Path, *, offline: bool = False) -> Path:
    """Clone url below folder, or fetch what is new into the clone that stands there; return its path.

    Everything the server shows is fetched, pull-request refs too, and what it no longer shows is kept. offline takes
    the clone as it is. Raises SourceFailure with git's own words, user-info taken out.
    """
    import git

    clone = clone_of(url, folder)
    if offline:
        return clone
    _own(folder)
    # GitPython hands down our environment: what a hook or a shell set there is not for this repository.
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        del os.environ[name]
    allowed = PROTOCOLS + (":http" if urlsplit(url).hostname in _LOOPBACK else "")
    address, credentials = _apart(url)
    settings = environment(GIT_ALLOW_PROTOCOL=allowed, GIT_SSH_COMMAND="ssh -oBatchMode=yes", **credentials)
    try:
        if clone.is_dir():
            with git.Repo(clone) as repository, repository.git.custom_environment(**settings):
                repository.git.fetch("--quiet", "--no-auto-maintenance", "--", address, "+refs/*:refs/*")
        else:
            with tempfile.TemporaryDirectory(dir=folder, prefix="clone-") as beside:
                inside = Path(beside, "clone")
                git.Repo.clone_from(
                    address, inside, env=settings, allow_unsafe_options=True, mirror=True, template="", quiet=True
                ).close()
                inside.rename(clone)  # a clone appears whole, or not at all
    except git.GitError as error:
        said = str(getattr(error, "stderr", "") or error).replace(url, without_user(url)).strip()
        raise SourceFailure(f"{without_user(url)} cannot be fetched: {said}", "may you read it?") from None
    return clone


def _apart(url: str) -> tuple[str, dict[str, str]]:
    """Return a URL without its password, and the settings that hand the password to git.

    As a header from the environment, so that it stands in no configuration and no list of processes. ssh needs its
    user, and has no password.
    """
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or "@" not in parts.netloc:
        return url, {}
    user = unquote_to_bytes(parts.netloc.rpartition("@")[0])
    basic = base64.b64encode(user if b":" in user else user + b":").decode()
    return without_user(url), {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"http.{without_user(url)}.extraHeader",
        "GIT_CONFIG_VALUE_0": f"Authorization: Basic {basic}",
    }


def is_bundle(path: Path) -> bool:
    """Whether path is a git bundle, by its first line (gitformat-bundle(5))."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.readline(_LONGEST_LINE) in _SIGNATURES


def unbundled(path: Path, folder: Path) -> Path:
    """Return where the repository of a bundle stands below folder, once it was unpacked."""
    return folder / (hashlib.blake2b(os.fsencode(path.absolute()), digest_size=12).hexdigest() + ".bundle.git")


def unbundle(path: Path, folder: Path) -> Path:
    """Put the pack of a bundle into a repository of ours below folder and return its path.

    Nothing of it is run or checked out, and what no ref names is kept. Raises SourceFailure for a bundle that is
    damaged, or needs objects that it does not have.
    """
    _own(folder)
    unpacked = unbundled(path, folder)
    with tempfile.TemporaryDirectory(dir=folder, prefix="bundle-") as beside:
        inside = Path(beside, "bundle")
        with path.open("rb") as file:
            refs, options = _header(file, path)
            settings = environment(GIT_DIR=str(inside))
            for command in (["init", "--quiet", "--bare", "--template=", *options], ["index-pack", "--stdin"]):
                done = subprocess.run(
                    ["git", *command], stdin=file.fileno(), capture_output=True, env=settings, check=False
                )
                if done.returncode:
                    said = done.stderr.decode("utf-8", "replace").strip()
                    raise SourceFailure(f"the bundle {path} cannot be read: {said}", "is it whole?")
        for name, value in refs.items():
            if name == "HEAD":
                (inside / "HEAD").write_text(value + "\n")
        shutil.rmtree(unpacked, ignore_errors=True)
        inside.rename(unpacked)
    return unpacked


def _header(file: IO[bytes], path: Path) -> tuple[dict[str, str], list[str]]:
    """Read a bundle's header and leave the descriptor where the pack begins: refs, and what `git init` must be told."""
    refs, options = dict[str, str](), list[str]()
    end = len(file.readline(_LONGEST_LINE))
    while (line := file.readline(_LONGEST_LINE)) not in {b"\n", b""}:
        end += len(line)
        text = line.decode("utf-8", "replace").strip()
        if text == "@object-format=sha256":
            options.append("--object-format=sha256")
        elif text.startswith("-"):
            raise SourceFailure(f"the bundle {path} needs objects that it does not have", "scan a full bundle")
        elif not text.startswith("@"):
            value, _, name = text.partition(" ")
            refs[name] = value
    os.lseek(file.fileno(), end + 1, os.SEEK_SET)
    return refs, options


def _own(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
