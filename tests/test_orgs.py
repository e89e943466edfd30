"""Organisations: `firedamp scan --org` as a user runs it, against forges on loopback with real git behind them."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import platformdirs
import pytest
from tests.builders import make_key_id, make_secret
from tests.forges import Reply, Request, Server, paged
from tests.repositories import Repository, leak
from tests.scans import Scanned

from firedamp.scanner.mirror import Mirrors
from firedamp.scanner.organisation import World
from firedamp.scanner.web import Web
from firedamp.service import cli, orgs
from firedamp.service.aws import Aws
from firedamp.service.config import ForgeConfig, Reference
from firedamp.storage.secret import Secret
from firedamp.storage.store import Store


class Acme:
    """A Gitea on loopback with repositories that each leak a key; its pages hold two."""

    def __init__(self, tmp_path: Path, rng: random.Random) -> None:
        self.folder, self.work, self.rng = tmp_path / "served", tmp_path / "work", rng
        self.server = Server(self.folder, self.api)
        self.repositories: list[dict[str, Any]] = []
        self.keys: dict[str, str] = {}
        config = tmp_path / "firedamp.toml"
        config.write_text(f'[verify]\nenabled = false\n[serve]\ncache = "{tmp_path}/cache"\n')
        self.config, self.cache = config, tmp_path / "cache"
        self.target = f"gitea:{self.server.url}/acme"

    def api(self, request: Request) -> Reply | None:
        if request.path == "/api/v1/orgs/acme":
            return Reply({"id": 1})
        if request.path == "/api/v1/orgs/acme/repos":
            return paged(request, self.server.url, self.repositories)
        return None

    def add(self, name: str, **more: object) -> Repository:
        """Make a repository with a key, serve it, and list it."""
        work = Repository(self.work / name)
        self.keys[name], text = leak(self.rng)
        work.commit("leak", {"settings.ini": text})
        (self.folder / "acme").mkdir(parents=True, exist_ok=True)
        served = self.folder / "acme" / f"{name}.git"
        work.git("clone", "--quiet", "--bare", ".", str(served))
        work.git("remote", "add", "origin", str(served))
        url = f"{self.server.url}/acme/{name}.git"
        self.repositories.append(
            {"id": len(self.repositories), "full_name": f"acme/{name}", "clone_url": url, "size": 1} | more
        )
        return work

    def clones(self) -> list[Path]:
        return sorted(self.cache.glob("*.git"))

    def fetched(self) -> int:
        """Return how often a git was started to clone or fetch."""
        asked = [each for each in self.server.asked if each.path.endswith("/info/refs")]
        return sum(each.headers["user-agent"].startswith("git/") for each in asked)


@pytest.fixture
def acme(tmp_path: Path, rng: random.Random) -> Iterator[Acme]:
    made = Acme(tmp_path, rng)
    with made.server.running():
        yield made


class Run:
    """Runs `scan --org` with the JSON lines of its result."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self.errors = ""

    def __call__(self, acme: Acme, *options: str, org: str | None = None) -> Scanned:
        self._capsys.readouterr()
        status = cli.main(
            ["scan", "--org", org or acme.target, "--config", str(acme.config), "--format", "jsonl", *options]
        )
        captured = self._capsys.readouterr()
        self.errors = captured.err
        return Scanned(status, captured.out)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    return Run(capsys)


def whys(scanned: Scanned, outcome: str) -> dict[str, str]:
    return {item["what"].rpartition("/")[2]: item["why"] for item in scanned.summary[outcome]["items"]}


def test_every_repository_of_an_organisation_is_scanned_and_the_next_scan_fetches_nothing(acme: Acme, run: Run) -> None:
    for name in ("one", "two", "three"):
        acme.add(name)
    scanned = run(acme)
    assert scanned.status == 1
    assert scanned.findings.keys() == set(acme.keys.values())
    assert scanned.match(acme.keys["two"])["repository"] == f"{acme.server.url}/acme/two.git"
    assert scanned.summary["targets"] == [acme.target]
    assert acme.fetched() == 3
    again = run(acme)
    assert again.findings.keys() == set(acme.keys.values())
    assert not any(line["new"] for line in again.findings.values())
    assert again.summary["read"]["objects"] == 0
    assert again.summary["read"]["known"] == scanned.summary["read"]["objects"] + scanned.summary["read"]["files"]
    assert acme.fetched() == 3, "one request for the refs tells that nothing is new"


def test_only_what_changed_is_fetched(acme: Acme, run: Run) -> None:
    acme.add("one")
    work = acme.add("two")
    run(acme)
    later, text = leak(acme.rng)
    commit = work.commit("later", {"later.ini": text})
    work.git("push", "--quiet", "origin", f"{commit}:refs/pull/1/head")
    before = acme.fetched()
    scanned = run(acme)
    assert scanned.match(later)["commit"] == commit
    assert scanned.findings[later]["new"]
    assert acme.fetched() == before + 1


def test_refs_that_are_known_do_not_tell_of_places_that_were_taken_for_gone(acme: Acme, run: Run) -> None:
    work = acme.add("one")
    run(acme)
    leaked, clean = work.git("rev-parse", "HEAD"), work.git("commit-tree", work.git("mktree"), "-m", "clean")
    served = acme.folder / "acme" / "one.git"
    work.git("push", "--quiet", "--force", "origin", f"{clean}:main")
    Repository.at(served).git("prune", "--expire=now")
    shutil.rmtree(*acme.clones())
    url = f"{acme.server.url}/acme/one.git"
    assert cli.main(["scan", url, "--config", str(acme.config), "--quiet"]) == 0
    work.git("push", "--quiet", "--force", "origin", f"{leaked}:main")
    assert run(acme).match(acme.keys["one"])["in_head"]


def test_another_default_branch_is_head_from_then_on(acme: Acme, run: Run) -> None:
    work = acme.add("one")
    assert run(acme).match(acme.keys["one"])["in_head"] is True
    work.git("checkout", "--quiet", "-b", "next")
    work.commit("clean", {"settings.ini": "clean"})
    served = acme.folder / "acme" / "one.git"
    work.git("push", "--quiet", str(served), "next")
    Repository.at(served).git("symbolic-ref", "HEAD", "refs/heads/next")
    run(acme)
    (clone,) = acme.clones()
    assert (clone / "HEAD").read_text() == "ref: refs/heads/next\n"


def test_one_failing_repository_stops_nothing_and_makes_the_scan_incomplete(acme: Acme, run: Run) -> None:
    acme.add("one")
    acme.repositories.insert(0, {"id": 8, "full_name": "acme/x", "clone_url": f"{acme.server.url}/acme/x.git"})
    acme.repositories.insert(1, {"id": 9, "full_name": "acme/y", "clone_url": "file:///etc"})
    scanned = run(acme)
    assert scanned.status == 2
    assert scanned.findings.keys() == {acme.keys["one"]}
    assert set(whys(scanned, "failed")) == {"x.git", "y"}
    assert "answered with 404" in whys(scanned, "failed")["x.git"]
    assert run(acme, "--accept-incomplete", "*/x.git", "--accept-incomplete", "acme/y").status == 1


def test_a_damaged_repository_is_a_failure_with_gits_own_words(acme: Acme, run: Run) -> None:
    acme.add("one")
    acme.add("two")
    for pack in (acme.folder / "acme" / "two.git" / "objects").rglob("*"):
        if pack.is_file():
            pack.chmod(0o600)
            pack.write_bytes(b"")
    scanned = run(acme)
    assert scanned.status == 2
    assert scanned.findings.keys() == {acme.keys["one"]}
    assert "cannot be fetched" in whys(scanned, "failed")["two.git"]
    assert not list(acme.cache.glob("clone-*")), "what a clone had so far is removed"


def test_an_organisation_that_cannot_be_listed_is_a_failed_entry(acme: Acme, run: Run) -> None:
    scanned = run(acme, org=f"gitea:{acme.server.url}/nobody")
    assert scanned.status == 2
    assert "answers 404" in whys(scanned, "failed")["nobody"]


def test_empty_repositories_and_wikis_that_nobody_wrote_are_left_out(acme: Acme, run: Run) -> None:
    acme.add("one", has_wiki=True)
    Repository(acme.folder / "acme" / "new.git", bare=True)
    acme.repositories.append({"id": 7, "full_name": "acme/new", "clone_url": f"{acme.server.url}/acme/new.git"})
    scanned = run(acme)
    assert scanned.status == 1
    assert whys(scanned, "left_out") == {
        "new.git": "no commit was ever pushed to it", "one.wiki.git": "a wiki that nobody has written yet"
    }  # fmt: skip
    assert len(acme.clones()) == 1


def test_renamed_and_deleted_repositories_are_said_and_their_findings_stay(
    acme: Acme, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    acme.add("one")
    acme.add("two")
    acme.add("three")
    run(acme)
    before, fetched = acme.clones(), acme.fetched()
    (acme.folder / "acme" / "one.git").rename(acme.folder / "acme" / "uno.git")
    acme.repositories[0]["clone_url"] = f"{acme.server.url}/acme/uno.git"
    del acme.repositories[1]
    scanned = run(acme)
    assert scanned.status == 1
    assert whys(scanned, "gone") == {
        "one.git": f"renamed to {acme.server.url}/acme/uno.git; what was found under the old name stays",
        "two.git": f"{acme.target} lists it no more: deleted, moved or hidden; what was found in it stays",
    }
    assert scanned.match(acme.keys["one"])["repository"].endswith("/uno.git")
    assert len(acme.clones()) == len(before), "the clone goes on under the new name"
    assert acme.fetched() <= fetched + 1
    assert not run(acme).summary["gone"]["items"], "said once"
    cli.main(["findings", "--format", "jsonl"])
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_repositories_that_swap_names_keep_their_clones(acme: Acme, run: Run) -> None:
    names = ("one", "two", "three")
    for name in names:
        acme.add(name)
    run(acme)
    before = len(acme.clones())
    urls = [each["clone_url"] for each in acme.repositories]
    for name in names:
        (acme.folder / "acme" / f"{name}.git").rename(acme.folder / "acme" / f"{name}.old")
    for at, name in enumerate(names):
        after = (at + 1) % 3
        (acme.folder / "acme" / f"{name}.old").rename(acme.folder / "acme" / f"{names[after]}.git")
        acme.repositories[at]["clone_url"] = urls[after]
    scanned = run(acme)
    told = {key: scanned.match(key)["repository"] for key in acme.keys.values()}
    assert told == {acme.keys[name]: urls[(at + 1) % 3] for at, name in enumerate(names)}
    assert whys(scanned, "gone")["one.git"].startswith(f"renamed to {urls[1]}")
    assert len(acme.clones()) == before
    assert not run(acme).summary["gone"]["items"], "said once"


def test_a_repository_made_anew_under_an_old_name_has_a_clone_of_its_own(acme: Acme, run: Run) -> None:
    acme.add("one")
    acme.add("two")
    run(acme)
    old = acme.keys["one"]
    shutil.rmtree(acme.folder / "acme" / "one.git")
    shutil.rmtree(acme.work / "one")
    del acme.repositories[0]
    acme.add("one", id=77)
    scanned = run(acme)
    assert whys(scanned, "gone") == {
        "one.git": "another repository has its name now: deleted, moved or hidden; what was found in it stays"
    }
    (clone,) = (each for each in acme.clones() if acme.keys["one"].encode() in contents(each))
    assert old.encode() not in contents(clone)


def contents(clone: Path) -> bytes:
    return subprocess.run(
        ["git", "--git-dir", clone, "cat-file", "--batch-all-objects", "--batch"], check=True, capture_output=True
    ).stdout


def test_a_filter_of_the_configuration_leaves_out_and_a_left_out_repository_is_not_gone(acme: Acme, run: Run) -> None:
    acme.add("one", archived=True)
    acme.add("two")
    run(acme)
    with acme.config.open("a") as file:
        file.write(f'[[forge]]\nname = "{acme.target}"\narchived = false\n')
    scanned = run(acme)
    assert scanned.findings.keys() == {acme.keys["two"]}
    assert whys(scanned, "left_out") == {"one.git": "archived"}
    assert not scanned.summary["gone"]["items"]


def test_offline_an_organisation_is_a_usage_error_unless_it_was_mirrored(acme: Acme, run: Run) -> None:
    acme.add("one")
    acme.add("two")
    assert run(acme, "--offline").status == 2
    assert "--offline contacts nobody" in run.errors
    run(acme)
    asked = len(acme.server.asked)
    assert run(acme, "--offline").findings.keys() == set(acme.keys.values())
    assert len(acme.server.asked) == asked


def test_an_organisation_of_more_repositories_than_files_may_be_open_is_read(
    acme: Acme, tmp_path: Path, rng: random.Random
) -> None:
    work = Repository(tmp_path / "work0")
    key_id, text = leak(rng)
    work.commit("leak", {"settings.ini": text})
    work.git("gc", "--quiet")
    names = [tmp_path / "many" / f"{number}.git" for number in range(40)]
    for name in names:
        shutil.copytree(work.path / ".git", name)
    organisation = tmp_path / "many" / "list"
    organisation.write_text("".join(f"file://{name}\n" for name in names))
    scan = (
        f"ulimit -n 48; exec {sys.executable} -m firedamp.service.cli scan --org {organisation}"
        f" --config {acme.config} --format jsonl --quiet"
    )
    done = subprocess.run(["sh", "-c", scan], capture_output=True, text=True, check=False)
    scanned = Scanned(done.returncode, done.stdout)
    assert (scanned.status, done.stderr) == (1, "")
    assert len({match["repository"] for match in scanned.findings[key_id]["matches"]}) == 40


def test_a_list_holds_urls_and_folders(acme: Acme, run: Run, tmp_path: Path) -> None:
    acme.add("one")
    acme.server.password = "pass/word"
    folder = Repository(tmp_path / "here")
    key, text = leak(acme.rng)
    folder.commit("leak", {"a": text})
    path = tmp_path / "list"
    url = acme.repositories[0]["clone_url"]
    path.write_text(f"here\n{url.replace('http://', 'http://user:pass%2Fword@')}\n{folder.path.as_uri()}\nmissing\n")
    scanned = run(acme, org=str(path))
    assert scanned.status == 2
    assert scanned.findings.keys() == {key, acme.keys["one"]}
    assert {match["source"] for match in scanned.findings[key]["matches"]} == {"git", "folder"}
    assert list(whys(scanned, "failed")) == ["missing"]
    path.write_text("nothing://at all")
    assert run(acme, org=str(path)).status == 2
    assert run(acme, org=str(tmp_path / "none")).status == 2


def test_fifty_repositories_with_nothing_new_take_little_of_our_own_time(acme: Acme, run: Run) -> None:
    acme.add("one")
    served = acme.folder / "acme" / "one.git"
    for number in range(49):
        copy = acme.folder / "acme" / f"r{number}.git"
        copy.symlink_to(served)
        url = f"{acme.server.url}/acme/r{number}.git"
        acme.repositories.append({"id": 100 + number, "full_name": f"acme/r{number}", "clone_url": url})
    run(acme)
    before = time.process_time()
    scanned = run(acme)
    own = (time.process_time() - before) / 50
    assert scanned.summary["read"]["objects"] == 0
    print(json.dumps({"ms": own * 1000}))
    assert own < 0.060, "seconds a repository, the loopback forge's own time among them"


def test_a_default_cache_is_the_users(acme: Acme, run: Run) -> None:
    acme.add("one")
    acme.config.write_text("[verify]\nenabled = false\n")
    assert run(acme, "--show-secrets").findings[acme.keys["one"]]["secret"]
    assert list((Path(platformdirs.user_cache_dir("firedamp")) / "repositories").glob("*.git"))


def test_commits_that_a_push_replaced_are_fetched_while_the_forge_gives_them(acme: Acme, run: Run) -> None:
    work = acme.add("one")
    acme.repositories[0]["full_name"] = "acme/one"
    lost, text = leak(acme.rng)
    commit = work.commit("pushed", {"lost.ini": text})
    work.git("push", "--quiet", "origin", "main")
    work.git("reset", "--quiet", "--hard", "HEAD~1")
    work.git("push", "--quiet", "--force", "origin", "main")
    befores = [commit, *(f"{number:040x}" for number in (1, 2))]

    def api(request: Request) -> Reply | None:
        return {
            "/api/v3/users/acme": Reply({"login": "acme", "type": "Organization"}),
            "/api/v3/orgs/acme/repos": Reply(acme.repositories),
            "/api/v3/repos/acme/one/events": Reply([{"type": "PushEvent", "payload": {"before": b}} for b in befores]),
        }.get(request.path)

    acme.server.api = api
    scanned = run(acme, org=f"github:{acme.server.url}/acme")
    assert scanned.findings.keys() == {acme.keys["one"], lost}
    assert scanned.match(lost)["commit"] == commit
    (gone,) = scanned.summary["gone"]["items"]
    assert (gone["count"], gone["why"]) == (2, "replaced by a push, and no more given by the forge")
    assert scanned.status == 1


def test_a_push_that_the_next_one_took_back_is_seen_though_all_refs_are_known(acme: Acme, run: Run) -> None:
    work = acme.add("one", pushed_at="2026-01-01T00:00:00Z")
    acme.repositories[0]["full_name"] = "acme/one"
    befores, status = list[str](), [404]

    def api(request: Request) -> Reply | None:
        if request.path == "/api/v3/repos/acme/one/events":
            events = [{"type": "PushEvent", "payload": {"before": each}} for each in befores]
            return Reply(events, status.pop() if status else 200)
        return {
            "/api/v3/users/acme": Reply({"login": "acme", "type": "Organization"}),
            "/api/v3/orgs/acme/repos": Reply(acme.repositories),
        }.get(request.path)

    def push_and_take_back() -> str:
        key_id, text = leak(acme.rng)
        befores.append(work.commit("pushed", {"lost.ini": text}))
        work.git("push", "--quiet", "origin", "main")
        work.git("reset", "--quiet", "--hard", "HEAD~1")
        work.git("push", "--quiet", "--force", "origin", "main")
        return key_id

    acme.server.api = api
    keys, target = {acme.keys["one"]}, f"github:{acme.server.url}/acme"
    first = push_and_take_back()
    assert run(acme, org=target).findings.keys() == keys, "the forge fails to tell of its pushes"
    assert run(acme, org=target).findings.keys() == keys | {first}, "and is asked again"
    before = acme.fetched()
    second = push_and_take_back()
    assert run(acme, org=target).findings.keys() == keys | {first}
    assert acme.fetched() == before, "nothing tells of a push"
    acme.repositories[0]["pushed_at"] = "2026-01-02T00:00:00Z"
    assert run(acme, org=target).findings.keys() == keys | {first, second}


def test_a_forge_that_tells_of_no_pushes_is_said_and_stops_nothing(acme: Acme, run: Run) -> None:
    acme.add("one")

    def api(request: Request) -> Reply | None:
        return {
            "/api/v3/users/acme": Reply({"login": "acme", "type": "Organization"}),
            "/api/v3/orgs/acme/repos": Reply(acme.repositories),
        }.get(request.path)

    acme.server.api = api
    scanned = run(acme, org=f"github:{acme.server.url}/acme")
    assert scanned.status == 1
    (left_out,) = scanned.summary["left_out"]["items"]
    assert "does not tell of its pushes" in left_out["why"]


def test_forks_share_objects_and_each_answers_for_what_it_has_itself(acme: Acme, run: Run) -> None:
    work = acme.add("one")
    shared = acme.keys["one"]
    work.commit("large", {"large": "".join(acme.rng.choices("abcdefghij", k=500_000))})
    fork = Repository(acme.work / "fork")
    fork.git("pull", "--quiet", str(work.path), "main")
    own, text = leak(acme.rng)
    fork.commit("own", {"own.ini": text})
    tagged, text = leak(acme.rng)
    fork.git("tag", "--annotate", "v1", "-m", text)
    # What the origin alone has: a later commit, a message, a tag, and an object in no commit.
    alone = dict[str, str]()
    for place in ("later", "message", "tag", "loose"):
        alone[place], text = leak(acme.rng)
        if place == "later":
            work.commit("later", {"later.ini": text})
        elif place == "message":
            work.commit(f"said\n\n{text}")
        elif place == "tag":
            work.git("tag", "--annotate", "v2", "-m", text)
        else:
            blob = work.git("hash-object", "-w", "--stdin", given=text.encode())
            work.git("update-ref", "refs/tags/blob", blob)
    work.git("push", "--quiet", "--mirror", "origin")
    served = acme.folder / "acme" / "fork.git"
    fork.git("clone", "--quiet", "--mirror", ".", str(served))
    url = f"{acme.server.url}/acme/fork.git"
    listed = {"id": 9, "full_name": "acme/fork", "clone_url": url, "fork": True, "parent": {"id": 0}}
    acme.repositories.insert(0, listed)

    scanned = run(acme)
    assert scanned.status == 1
    assert scanned.findings.keys() == {shared, own, tagged, *alone.values()}
    where = {
        key: {match["repository"].rpartition("/")[2] for match in line["matches"]}
        for key, line in scanned.findings.items()
    }
    assert where[shared] == {"one.git", "fork.git"}
    assert where[own] == where[tagged] == {"fork.git"}
    assert [where[key] for key in alone.values()] == [{"one.git"}] * 4
    links = {path.stat().st_ino for clone in acme.clones() for path in clone.rglob("*.pack")}
    assert len(links) == 2, "one pack that both have, and one of the fork's own"

    again = run(acme)
    assert again.findings.keys() == scanned.findings.keys()
    later, text = leak(acme.rng)
    fork.commit("later", {"own2.ini": text})
    fork.git("push", "--quiet", str(served), "main")
    assert run(acme).match(later)["repository"] == url


def test_a_fork_of_github_is_asked_for_its_network_once_and_one_that_is_refused_is_scanned_all_the_same(
    acme: Acme, run: Run
) -> None:
    acme.add("one")
    acme.add("two", fork=True)
    acme.add("three", fork=True)
    for each in acme.repositories:
        each["full_name"] = each["clone_url"].removeprefix(acme.server.url + "/").removesuffix(".git")

    def api(request: Request) -> Reply | None:
        if request.path.endswith("/events"):
            return Reply([])
        return {
            "/api/v3/users/acme": Reply({"login": "acme", "type": "Organization"}),
            "/api/v3/orgs/acme/repos": Reply(acme.repositories),
            "/api/v3/repos/acme/two": Reply({"id": 1, "source": {"id": 0}}),
        }.get(request.path)

    acme.server.api = api
    for _ in range(2):
        assert run(acme, org=f"github:{acme.server.url}/acme").findings.keys() == set(acme.keys.values())
    assert acme.server.paths("/api/v3/repos/acme/two") == ["/api/v3/repos/acme/two", "/api/v3/repos/acme/two/events"]
    notes = [note.read_text() for note in acme.cache.glob("*.network")]
    host = acme.server.url.removeprefix("http://")
    assert sorted(notes) == [f"{host} github:0", f"{host} github:0", f"{host} github:2"]


def test_a_scan_that_was_cut_off_goes_on_where_it_was(acme: Acme, run: Run) -> None:
    for name in ("one", "two", "three"):
        acme.add(name)
    serve = acme.server.answer

    def cut_off(handler: Any) -> None:
        if "/three.git/git-upload-pack" in handler.path:
            raise ConnectionAbortedError
        serve(handler)

    acme.server.answer = cut_off  # type: ignore[method-assign]
    assert run(acme).status == 2
    acme.server.answer = serve  # type: ignore[method-assign]
    before = acme.fetched()
    scanned = run(acme)
    assert scanned.findings.keys() == set(acme.keys.values())
    assert acme.fetched() == before + 1, "only what was not read yet is fetched"


def world(tmp_path: Path, store: Store) -> World:
    def no_source(*_: object) -> Any:
        raise AssertionError("nothing is opened here")

    return World(
        web=Web(lambda: 0.0, lambda _: None), mirrors=Mirrors(tmp_path, budget=1, jobs=1), store=store,
        detector="test", open_git=no_source, open_folder=no_source, jobs=1,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("target", "url", "login"),
    [
        ("github:acme", "https://github.com/acme/x.git", "x-access-token:t"),
        ("github:https://ghe.example/acme", "https://ghe.example/acme/x.git", None),
        ("gitlab:acme", "https://gitlab.com/acme/x.git", "oauth2:t"),
        ("gitea:https://g.example/acme", "https://g.example/acme/x.git", "oauth2:t"),
        ("bitbucket:acme", "https://bitbucket.org/acme/x.git", "x-token-auth:t"),
        ("bitbucket:https://b.example/P", "https://b.example/scm/p/x.git", None),
        ("azure:acme/p", "https://dev.azure.com/acme/p/_git/x", "firedamp:t"),
    ],
)
def test_the_environments_token_is_for_the_public_forge(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str, url: str, login: str | None
) -> None:
    for name in ("GITHUB_TOKEN", "GITLAB_TOKEN", "GITEA_TOKEN", "BITBUCKET_TOKEN", "AZURE_DEVOPS_EXT_PAT"):
        monkeypatch.setenv(name, "t\n")
    with Store(None) as store:
        made = orgs.organisation(target, world(tmp_path, store), [], own_aws(), lambda _: Secret("other"))
        assert made._forge.login(url) == (None if login is None else Secret(login))
        config = [ForgeConfig(name=target, token=Reference("env:X"))]
        made = orgs.organisation(target, world(tmp_path, store), config, own_aws(), lambda _: Secret("other"))
        found = made._forge.login(url)
        assert found is not None
        assert found.reveal().endswith(":other")


def test_codecommits_password_is_a_signature(
    tmp_path: Path, rng: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    key_id = make_key_id(rng)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key_id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", make_secret(rng))
    with Store(None) as store:
        made = orgs.organisation("codecommit:eu-west-1", world(tmp_path, store), [], own_aws(), lambda _: Secret(""))
        login = made._forge.login("https://git-codecommit.eu-west-1.amazonaws.com/v1/repos/x")
    assert login is not None
    assert re.fullmatch(key_id + r":\d{8}T\d{6}Z[0-9a-f]{64}", login.reveal())


def own_aws() -> Aws:
    return Aws(now=lambda: datetime.now(UTC), random=os.urandom, write_down=lambda _: None)
