"""Builds real git repositories: a worker with a clock, and a repository with a different key in every hiding place."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.builders import make_key_id, make_secret


class Repository:
    """A repository on disk and the means to make history in it. Every commit is a minute after the one before."""

    def __init__(self, path: Path, *options: str, bare: bool = False) -> None:
        self.path = path
        self.minute = 0
        path.mkdir(parents=True, exist_ok=True)
        self.git("init", "--quiet", "--initial-branch=main", "--template=", *options, *(["--bare"] if bare else []))

    @classmethod
    def at(cls, path: Path) -> Repository:
        """Return the means to go on with a repository that is there."""
        repository = cls.__new__(cls)
        repository.path, repository.minute = path, 1000
        return repository

    def git(self, *arguments: str, given: bytes = b"", check: bool = True, **more: str) -> str:
        """Run git in the repository and return what it printed, without the last line end."""
        self.minute += 1
        date = f"2026-01-01T{self.minute // 60 % 24:02}:{self.minute % 60:02}:00+00:00"
        environment = {
            **os.environ, "GIT_AUTHOR_NAME": "Ada", "GIT_AUTHOR_EMAIL": "ada@example.org", "GIT_AUTHOR_DATE": date,
            "GIT_COMMITTER_NAME": "Ada", "GIT_COMMITTER_EMAIL": "ada@example.org", "GIT_COMMITTER_DATE": date, **more,
        }  # fmt: skip
        done = subprocess.run(
            ["git", "-c", "protocol.file.allow=always", "-c", "gc.auto=0", *arguments],
            cwd=self.path, input=given, capture_output=True, env=environment, check=False,
        )  # fmt: skip
        assert not check or done.returncode == 0, done.stderr.decode()
        return done.stdout.decode().removesuffix("\n")

    def write(self, name: str, text: str) -> Path:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def commit(self, message: str = "change", files: Mapping[str, str] | None = None, **more: str) -> str:
        """Write files, commit everything, and return the commit's id."""
        for name, text in (files or {}).items():
            self.write(name, text)
        self.git("add", "--all", "--force")
        self.git("commit", "--quiet", "--allow-empty", "--no-verify", "-m", message, **more)
        return self.git("rev-parse", "HEAD")


def leak(rng: random.Random) -> tuple[str, str]:
    """Return a new key id, and a text that holds it with its secret."""
    key_id = make_key_id(rng)
    return key_id, f"aws_access_key_id = {key_id}\naws_secret_access_key = {make_secret(rng)}\n"


def hiding_places(path: Path, rng: random.Random) -> dict[str, str]:
    """Build a repository at path with a different key in each place that can hold one; return place -> key id."""
    repository = Repository(path)
    keys: dict[str, str] = {}

    def key(place: str) -> str:
        keys[place], text = leak(rng)
        return text

    git, commit = repository.git, repository.commit
    commit("begin", {"README": "hello\n", ".gitattributes": "*.bin -diff\n", "moved": "line\n" * 30})
    commit("a normal commit", {"config/settings.ini": key("normal commit")})
    commit("removed again", {"config/settings.ini": "clean\n"})
    commit(f"the message\n\n{key('commit message')}")
    commit("author", GIT_AUTHOR_NAME=f"Ada {key('author name').split()[2]}")
    commit("committer", GIT_COMMITTER_NAME=f"Ada {key('committer name').split()[2]}")
    commit("binary by attribute", {"data.bin": key("-diff attribute")})

    git("mv", "moved", "renamed")
    commit("rename and edit", {"renamed": "line\n" * 30 + key("rename and edit")})

    (path / "link").symlink_to("README")
    commit("a link")
    (path / "link").unlink()
    commit("a file now", {"link": key("type change")})

    git("checkout", "--quiet", "-b", "side")
    commit("side", {"side": key("branch")})
    git("checkout", "--quiet", "main")
    commit("main", {"main": "x\n"})
    git("merge", "--quiet", "--no-commit", "side")
    commit("merge", {"merge": key("merge only")})

    git("tag", "--annotate", "v1", "-m", key("annotated tag"))
    blob = git("hash-object", "-w", "--stdin", given=key("tag at a blob").encode())
    git("tag", "blob", blob)
    git("tag", f"keys/{key('name of a tag').split()[2]}")
    git("notes", "add", "-m", key("note"))

    commit("amended away", {"amended": key("amended away")})
    repository.write("amended", "clean\n")
    git("add", "--all")
    git("commit", "--quiet", "--amend", "-m", "amended")

    repository.write("staged", key("staged then dropped"))
    git("add", "staged")
    git("reset", "--quiet", "--hard")

    commit("reflog only", {"reflog": key("reflog only")})
    git("reset", "--quiet", "--hard", "HEAD~1")

    for number in (1, 2, 3):
        repository.write("README", f"hello\n{key(f'stash {number}')}")
        repository.write(f"untracked{number}", key(f"untracked in stash {number}"))
        git("stash", "push", "--quiet", "--include-untracked", "-m", f"stash {number}")

    git("checkout", "--quiet", "-b", "pull")
    commit("pull request", {"pull": key("pull-request ref")})
    git("update-ref", "refs/pull/7/head", "HEAD")
    git("checkout", "--quiet", "main")
    git("branch", "--quiet", "-D", "pull")

    tree = git("write-tree")
    git("commit-tree", tree, "-m", f"dangling\n\n{key('dangling commit message')}")

    name, secret = key("url in the configuration").split()[2::3]
    git("config", "remote.origin.url", f"https://{name}:{secret}@example.org/x.git")
    git("update-ref", "--create-reflog", "-m", key("reflog message").replace("\n", " "), "refs/heads/logged", "HEAD")
    (path / ".git" / "hooks").mkdir(exist_ok=True)
    (path / ".git" / "hooks" / "pre-commit").write_text("#!/bin/sh\n" + key("hook"))

    content = key("LFS object").encode()
    name = hashlib.sha256(content).hexdigest()
    stored = path / ".git" / "lfs" / "objects" / name[:2] / name[2:4] / name
    stored.parent.mkdir(parents=True)
    stored.write_bytes(content)
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{name}\nsize {len(content)}\n"
    commit("a large file", {"large.dat": pointer})
    (path / ".git" / "COMMIT_EDITMSG").write_text(key("message half written"))
    objects = path / ".git" / "objects"
    (objects / "pack" / "pack-kept.keep").write_text(key("why a pack is kept"))
    name, secret = key("url of a lender").split()[2::3]
    (objects / "info" / "http-alternates").write_text(f"https://{name}:{secret}@example.org/objects\n")
    (path / ".git" / "FETCH_HEAD.lock").write_text(key("left by a git that was killed"))
    return keys
