"""The image without a container engine: its build steps are run here, and its service with what a container leaves.

What only an engine can show is not shown here: that the base image exists and holds what we take from it, Debian's
packages, and the image's own layers.
"""

from __future__ import annotations

import json
import os
import random
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from tests.repositories import Repository, leak

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "deploy" / "container"
TEXT = (FOLDER / "Dockerfile").read_text()
USER = "10001"
DEVICES = {"null": 3, "zero": 5, "full": 7, "random": 8, "urandom": 9}
CHROOT = shutil.which("chroot", path="/usr/sbin:/sbin:/usr/bin") or "chroot"
PYTHONS = [
    shutil.which("python3.12"),
    *map(str, Path("~/.pyenv/versions").expanduser().glob("3.12*/bin/python3.12")),
]  # looked for before the tests' own home is made


def steps(word: str, text: str = TEXT) -> list[str]:
    """Return what follows a word of the Dockerfile, continued lines joined and comments left out."""
    whole = re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ")
    return [line.split(None, 1)[1] for line in whole.splitlines() if line.startswith(word + " ")]


def pinned(name: str) -> dict[str, str]:
    """Return the versions that a list of requirements names."""
    return dict(re.findall(r"^([\w.-]+)==(\S+) \\$", (FOLDER / name).read_text(), re.MULTILINE))


def test_every_library_of_the_image_is_pinned_with_hashes_and_fits_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["forges"]]
    held = pinned("requirements.txt")
    environment = {"python_version": "3.12", "sys_platform": "linux", "platform_machine": "x86_64"}
    for each in map(Requirement, wanted):
        if each.marker is None or each.marker.evaluate(environment):
            assert each.specifier.contains(held[canonicalize_name(each.name)]), each
    assert "hatchling" in pinned("build.txt")
    for name in ("requirements.txt", "build.txt"):
        blocks = re.split(r"^(?=[\w.-]+==)", (FOLDER / name).read_text(), flags=re.MULTILINE)[1:]
        assert all("--hash=sha256:" in block for block in blocks), name
    (install,) = [each for each in steps("RUN") if "requirements.txt" in each]
    assert install.count("--require-hashes") == 2


def test_hadolint_finds_nothing() -> None:
    hadolint = shutil.which("hadolint", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if hadolint is None:
        pytest.skip("no hadolint for this machine")
    done = subprocess.run([hadolint, str(FOLDER / "Dockerfile")], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def runs(python: str) -> bool:
    """Whether a Python is one: a shim of pyenv's may only say that it is not chosen."""
    return subprocess.run([python, "-V"], capture_output=True, check=False).returncode == 0


def able() -> str | None:
    """Return why the service cannot be run as in a container, None when it can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "only root of Linux can take away what a container takes away"
    if shutil.which("unshare") is None or shutil.which("setpriv") is None:
        return "no unshare or setpriv"
    working = [python for python in PYTHONS if python and runs(python)]
    return None if working else "no Python 3.12, which the image has"


@pytest.fixture
def place() -> Iterator[Path]:
    """Make a folder that another user may look into, outside of /tmp, which the service sees empty."""
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="image-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def base(place: Path) -> str:
    """Return a Python 3.12 that everybody may run; one that stands in a home is copied to where they may."""
    python = next(p for p in PYTHONS if p and runs(p))
    asked = subprocess.run(
        [python, "-c", "import sys; print(sys.base_prefix)"], capture_output=True, text=True, check=True
    )
    prefix = Path(asked.stdout.strip())
    if all(folder.stat().st_mode & 0o001 for folder in (prefix, *prefix.parents)):
        return python
    shutil.copytree(
        prefix, place / "base", symlinks=True, ignore=shutil.ignore_patterns("test", "tests", "share", "*.a")
    )
    return str(place / "base" / "bin" / "python3.12")


def built(place: Path) -> Path:
    """Run the build stage's steps as the Dockerfile has them, with its folders below place; return the environment."""
    python = base(place)
    stage = TEXT.split("\nFROM ")[1]
    source, bin_ = place / "src", place / "bin"
    subprocess.run(
        [python, "-m", "venv", str(place / "python")], check=True
    )  # as the base image has a Python of its own
    bin_.mkdir()
    let_in = {line[1:] for line in (FOLDER / "Dockerfile.dockerignore").read_text().splitlines() if line[0] == "!"}
    source.mkdir()
    for line in stage.splitlines():
        if line.startswith("COPY "):
            *names, target = line.split()[1:]
            for name in names:
                assert name in let_in, name
                goal = source / (name.rpartition("/")[2] if target == "./" else target)
                if (ROOT / name).is_dir():
                    shutil.copytree(ROOT / name, goal, ignore=shutil.ignore_patterns("__pycache__"))
                else:
                    shutil.copy(ROOT / name, goal)
    clean = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "VIRTUAL_ENV"}}
    clean |= {"PATH": f"{place}/python/bin:{os.environ['PATH']}", "LD_LIBRARY_PATH": f"{place}/base/lib"}
    for command in steps("RUN", stage):
        moved = command.replace("/opt/firedamp", f"{place}/opt").replace("/dist", f"{place}/dist")
        done = subprocess.run(["sh", "-ec", moved], cwd=source, env=clean, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    return place / "opt"


def contained(place: Path, environment: Path, *words: str) -> subprocess.Popen[str]:
    """Start the image's program as a container does: nobody, no rights, a root of its own that is read-only.

    What may be written to is its state and an empty /tmp. Of this machine it sees the system's programs, read-only.
    """
    state, config, root = place / "state", place / "firedamp.toml", place / "root"
    root.mkdir(exist_ok=True)
    mounts = [f"mount -t tmpfs -o mode=755 tmpfs {root}"]
    for name in ("usr", "bin", "sbin", "lib", "lib64", "etc", "proc"):
        here, there = Path("/", name), root / name
        if here.is_symlink():
            mounts.append(f"cp -P {here} {there}")
        elif here.is_dir():
            mounts += [f"mkdir {there}", f"mount --rbind {here} {there}"]
            mounts += [f"mount -o remount,ro,bind {there}"] if name != "proc" else []
    # An engine makes devices of its own: this machine's may be closed to others.
    mounts += [f"mkdir {root}/dev", f"mount -t tmpfs -o mode=755 tmpfs {root}/dev"]
    mounts += [f"mknod -m 666 {root}/dev/{name} c 1 {number}" for name, number in DEVICES.items()]
    mounts += [f"mkdir -m 1777 {root}/dev/shm"]
    mounts += [
        f"mkdir -p {root}/tmp {root}{place}", f"mount -t tmpfs -o mode=1777 tmpfs {root}/tmp",
        f"mount --bind {place} {root}{place}", f"mount -o remount,ro,bind {root}{place}",
        f"mount --bind {state} {root}{state}", f"mount -o remount,ro {root}",
    ]  # fmt: skip
    drop = f"setpriv --reuid={USER} --regid={USER} --clear-groups --no-new-privs --inh-caps=-all --bounding-set=-all"
    given = {"HOME": str(state), "LD_LIBRARY_PATH": f"{place}/base/lib"}
    for pair in shlex.split(" ".join(steps("ENV"))):
        name, _, value = pair.partition("=")
        value = value.replace("/opt/firedamp", str(environment)).replace("/var/lib/firedamp", str(state))
        given[name] = value.replace("$PATH", "/usr/local/bin:/usr/bin:/bin")
    (entry,) = map(json.loads, steps("ENTRYPOINT"))
    arguments = list(words) or [
        word.replace("/etc/firedamp/firedamp.toml", str(config)) for word in json.loads(steps("CMD")[-1])
    ]
    program = shlex.join([CHROOT, str(root), *drop.split(), *entry, *arguments])
    return subprocess.Popen(
        ["unshare", "--mount", "sh", "-ec", "; ".join([*mounts, f"exec {program}"])], env=given, cwd="/",
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.mark.slow
def test_the_service_runs_as_in_its_container(place: Path, rng: random.Random) -> None:
    if (why := able()) is not None:
        pytest.skip(why)
    environment = built(place)
    state = place / "state"
    state.mkdir()
    os.chown(state, int(USER), int(USER))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (place / "firedamp.toml").write_text(f'[serve]\nlisten = "127.0.0.1:{port}"\n')

    repository = Repository(place / "r")
    key_id, text = leak(rng)
    repository.commit("leak", {"a": text})
    scan = contained(place, environment, "scan", str(place / "r"), "--offline", "--format", "jsonl")
    out, errors = scan.communicate(timeout=120)
    assert scan.returncode == 1, errors + out
    assert key_id in out

    serving = contained(place, environment)
    try:
        program, flag, code = json.loads(
            re.findall(r"HEALTHCHECK.*?CMD (\[.*?\])$", TEXT.replace("\\\n", " "), re.MULTILINE)[0]
        )
        assert program == "python"
        library = f"LD_LIBRARY_PATH={place}/base/lib"
        asked = ["env", library, str(environment / "bin" / program), flag, code.replace("9187", str(port))]
        until = time.monotonic() + 60
        while subprocess.run(asked, capture_output=True, check=False).returncode and time.monotonic() < until:
            assert serving.poll() is None, serving.communicate()[1]
            time.sleep(0.5)
        assert subprocess.run(asked, capture_output=True, check=False).returncode == 0, "healthy"
        begun = time.monotonic()
        serving.send_signal(getattr(signal, steps("STOPSIGNAL")[0]))
        _, errors = serving.communicate(timeout=20)
        assert (serving.returncode, "Traceback" in errors) == (0, False), errors
        assert time.monotonic() - begun < 10
    finally:
        serving.kill()
        serving.communicate()
    assert (state / "firedamp.db").exists()
    assert subprocess.run(asked, capture_output=True, check=False).returncode != 0, (
        "a service that is gone is not healthy"
    )
