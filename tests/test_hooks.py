"""Hooks in real repositories: a key does not leave, whatever index, push or quarantine it comes in."""

from __future__ import annotations

import io
import json
import os
import random
import re
import shlex
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml
from tests.builders import make_key_id, make_secret

from firedamp.service import cli
from firedamp.service.arguments import parser


def git(folder: Path, *arguments: str, status: int = 0, **environ: str) -> str:
    names = {"GIT_AUTHOR_NAME": "A", "GIT_AUTHOR_EMAIL": "a@example.com"}
    names |= {"GIT_COMMITTER_NAME": "A", "GIT_COMMITTER_EMAIL": "a@example.com"}
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments], capture_output=True, text=True, env=os.environ | names | environ,
        check=False,
    )  # fmt: skip
    assert done.returncode == status, done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    path = tmp_path / "work"
    path.mkdir()
    git(path, "init", "-q", "-b", "main")
    (path / "readme").write_text("hello\n")
    git(path, "add", ".")
    git(path, "commit", "-q", "-m", "first")
    return path


def origin(repository: Path) -> Path:
    """Give a repository a remote that is empty, and return its path."""
    path = repository.with_name("remote.git")
    git(repository, "init", "-q", "--bare", str(path))
    git(repository, "remote", "add", "origin", str(path))
    return path


def git_says(monkeypatch: pytest.MonkeyPatch, text: str = "") -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode("utf-8", "surrogateescape"))))


def key(rng: random.Random) -> str:
    return f"aws_access_key_id = {make_key_id(rng)}\naws_secret_access_key = {make_secret(rng)}\n"


def staged(path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, list[dict[str, object]]]:
    status = cli.main(["scan", "--staged", str(path), "--offline", "--format", "jsonl"])
    return status, [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_what_is_staged_is_read_from_the_index_and_not_from_the_work_tree(
    repository: Path, rng: random.Random, capsys: pytest.CaptureFixture[str]
) -> None:
    secret = repository / "conf" / "aws.ini"
    secret.parent.mkdir()
    secret.write_text(key(rng))
    assert staged(repository, capsys)[0] == 0, "it is not staged yet"
    git(repository, "add", ".")
    secret.write_text("taken out, but not of the index\n")
    status, (found, summary) = staged(repository, capsys)
    assert status == 1
    (match,) = found["matches"]  # type: ignore[misc]
    assert (match["path"], match["line"], match["commit"]) == ("conf/aws.ini", 1, None)
    assert summary["summary"]["read"]["objects"] == 1  # type: ignore[index]
    git(repository, "commit", "-q", "-m", "too late")
    assert staged(repository, capsys)[0] == 0, "what HEAD has is not new"


def test_a_key_in_a_name_is_found_before_the_commit_and_before_the_push(
    repository: Path, rng: random.Random, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    old, name = git(repository, "rev-parse", "HEAD").strip(), make_key_id(rng)
    (repository / f"backup-{name}").mkdir()
    git(repository, "mv", "readme", f"backup-{name}/readme")  # no content is new
    status, (found, _) = staged(repository, capsys)
    (match,) = found["matches"]  # type: ignore[misc]
    assert (status, found["access_key_id"], match["path"], match["line"]) == (1, name, f"backup-{name}", None)
    git(repository, "commit", "-q", "-m", "too late")
    assert staged(repository, capsys)[0] == 0
    new = git(repository, "rev-parse", "HEAD").strip()
    monkeypatch.chdir(repository)
    git_says(monkeypatch, f"refs/heads/main {new} refs/heads/main {old}\n")
    assert cli.main(["hook", "--quiet", "run", "pre-push", "origin", "url"]) == 1


def test_the_first_commit_a_deletion_and_a_submodule_are_read_too(
    tmp_path: Path, repository: Path, rng: random.Random, capsys: pytest.CaptureFixture[str]
) -> None:
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    git(fresh, "init", "-q")
    assert staged(fresh, capsys)[0] == 0
    (fresh / "file").write_text(key(rng))
    git(fresh, "add", ".")
    assert staged(fresh, capsys)[0] == 1
    git(repository, "rm", "-q", "readme")
    head = git(repository, "rev-parse", "HEAD").strip()
    git(repository, "update-index", "--add", "--cacheinfo", f"160000,{head},sub")
    assert staged(repository, capsys)[0] == 0


def test_an_accepted_finding_lets_the_commit_through_and_a_mark_does_too(
    repository: Path, rng: random.Random, capsys: pytest.CaptureFixture[str]
) -> None:
    text = key(rng)
    (repository / "file").write_text(text)
    git(repository, "add", ".")
    (_, (found, _)) = staged(repository, capsys)
    cli.main(["scan", str(repository), "--offline", "--quiet"])
    cli.main(["findings", "set", str(found["fingerprint"]), "--state", "accepted", "--reason", "a test"])
    capsys.readouterr()
    assert staged(repository, capsys)[0] == 0
    (repository / "file").write_text(key(rng).replace("\n", "  # firedamp:allow\n"))
    git(repository, "add", ".")
    assert staged(repository, capsys)[0] == 0


def test_what_a_hook_says_of_deciding_can_be_done(
    repository: Path, rng: random.Random, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(repository)
    (repository / "file").write_text(key(rng))
    git(repository, "add", ".")
    assert cli.main(["hook", "run", "pre-commit"]) == 1
    told = capsys.readouterr()
    name = next(line.split()[0] for line in told.out.splitlines() if re.match(r"  [0-9a-f]{12}\b", line))
    steps = re.search(r"firedamp (scan .*?)   then firedamp (findings set) ID (--state accepted --reason) …", told.err)
    assert steps is not None
    assert cli.main(steps[1].split()) == 1
    assert cli.main([*steps[2].split(), name, *steps[3].split(), "a test"]) == 0
    assert cli.main(["hook", "run", "pre-commit"]) == 0


def encrypted_zip() -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("a.txt", "hello" * 10)
    raw = bytearray(made.getvalue())
    raw[6] |= 1  # bit 0 of the general purpose flags, in the local header and in the directory (APPNOTE 4.4.4)
    raw[raw.find(b"PK\1\2") + 8] |= 1
    return bytes(raw)


def test_what_cannot_be_opened_is_named_by_its_path_and_can_be_accepted(
    tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (repository / "box.zip").write_bytes(encrypted_zip())
    git(repository, "add", ".")
    monkeypatch.chdir(repository)
    assert cli.main(["scan", "--staged"]) == 2
    assert "  box.zip!a.txt: " in capsys.readouterr().out
    assert cli.main(["scan", "--staged", "--accept-incomplete", "box.zip!*"]) == 0
    assert cli.main(["hook", "run", "pre-commit"]) == 2
    assert "accept_incomplete" in capsys.readouterr().err
    (tmp_path / "f.toml").write_text('[scan]\naccept_incomplete = ["*.zip!*"]\n')
    assert cli.main(["hook", "run", "pre-commit", "--config", str(tmp_path / "f.toml")]) == 0
    assert cli.main(["hook", "install", "pre-commit", "--config", "../f.toml"]) == 0
    git(repository, "commit", "-q", "-m", "a box")


def test_an_option_of_scan_is_honoured_before_a_commit_or_refused(
    tmp_path: Path, repository: Path, rng: random.Random, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(repository)
    secret, baseline = make_secret(rng), tmp_path / "baseline.json"
    (Path.home() / ".aws").mkdir()
    (Path.home() / ".aws" / "credentials").write_text(
        f"[default]\naws_access_key_id = {make_key_id(rng)}\naws_secret_access_key = {secret}\n"
    )
    (repository / "bare").write_text(f"x {secret}\n")
    git(repository, "add", ".")
    assert cli.main(["scan", "--staged"]) == 0
    assert cli.main(["scan", "--staged", "--own-keys"]) == 1
    (repository / "leak").write_text(key(rng))
    git(repository, "add", ".")
    assert cli.main(["scan", "--staged", "--write-baseline", str(baseline)]) == 1
    assert cli.main(["scan", "--staged", "--baseline", str(baseline)]) == 0
    assert cli.main(["scan", "--staged", "--write-baseline", str(tmp_path / "no" / "file")]) == 2
    for option in (["--org", "github:x"], ["--show-secrets"], ["--nice"]):
        capsys.readouterr()
        assert cli.main(["scan", "--staged", *option]) == 2
        assert f"does not take {option[0]}" in capsys.readouterr().err


def test_a_merge_in_conflict_is_read_as_it_would_come_in(
    repository: Path, rng: random.Random, capsys: pytest.CaptureFixture[str]
) -> None:
    git(repository, "checkout", "-q", "-b", "theirs")
    (repository / "readme").write_text(key(rng))
    git(repository, "commit", "-q", "-a", "-m", "leak")
    git(repository, "checkout", "-q", "main")
    (repository / "readme").write_text("ours\n")
    git(repository, "commit", "-q", "-a", "-m", "ours")
    git(repository, "merge", "-q", "theirs", status=1)
    status, (found, summary) = staged(repository, capsys)
    assert status == 1
    assert found["matches"][0]["path"] == "readme"  # type: ignore[index]
    assert summary["summary"]["failed"]["count"] == 0  # type: ignore[index]
    git(repository, "checkout", "-q", "--ours", "readme")
    git(repository, "add", ".")
    assert staged(repository, capsys)[0] == 0


def test_an_installed_hook_stops_a_commit_whichever_index_it_uses(
    repository: Path, rng: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(repository)
    assert cli.main(["hook", "install", "pre-commit"]) == 0
    (repository / "readme").write_text(key(rng))
    told = git(repository, "commit", "-q", "--all", "-m", "leak", status=1)
    assert "would be committed" in told
    assert "AKIA" in told
    git(repository, "commit", "-q", "-m", "leak", "readme", status=1)
    (repository / "readme").write_text("clean\n")
    git(repository, "commit", "-q", "--all", "-m", "clean")


HOSTILE = "import os; print('CODE OF THE REPOSITORY RUNS', flush=True); os._exit(0)\n"


def test_a_hook_runs_no_code_of_the_repository_it_stands_in(
    repository: Path, rng: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(repository)
    assert cli.main(["hook", "install", "pre-commit"]) == 0
    for name in ("argparse", "hyperscan", "platformdirs"):
        (repository / f"{name}.py").write_text(HOSTILE)
    (repository / "sqlite3").mkdir()
    (repository / "sqlite3" / "__init__.py").write_text(HOSTILE)
    (repository / "leak").write_text(key(rng))
    git(repository, "add", ".")
    told = git(repository, "commit", "-q", "-m", "leak", status=1)
    assert "would be committed" in told
    assert "CODE OF THE REPOSITORY" not in told


def test_an_existing_hook_runs_first_and_can_still_refuse(
    repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(repository)
    theirs = repository / ".git" / "hooks" / "pre-commit"
    theirs.parent.mkdir(exist_ok=True)
    theirs.write_text("#!/bin/sh\necho theirs ran >&2\nexit 3\n")
    theirs.chmod(0o755)
    assert cli.main(["hook", "install", "pre-commit"]) == 0
    assert cli.main(["hook", "install", "pre-commit"]) == 0, "twice is once"
    out, told = capsys.readouterr()
    assert (out, "runs before it" in told) == ("", True)
    assert "theirs ran" in git(repository, "commit", "-q", "--allow-empty", "-m", "x", status=1)
    theirs.write_text("#!/bin/sh\nexit 0\n")
    assert cli.main(["hook", "install", "pre-commit"]) == 2, "a third hook is nobody's to move"


def script(path: Path, text: str, mode: int = 0o755) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(mode)
    return path


def test_a_hook_that_asks_how_it_is_called_is_called_the_same(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(repository)
    hooks = repository / ".git" / "hooks"
    script(repository / "tools" / "hook", 'echo "called $(basename "$0")" >&2')
    hooks.mkdir(exist_ok=True)
    (hooks / "pre-commit").symlink_to("../../tools/hook")
    script(hooks / "commit-msg.before-firedamp", "echo an older firedamp kept me >&2")
    assert cli.main(["hook", "install", "pre-commit"]) == 0
    assert cli.main(["hook", "install", "commit-msg"]) == 0
    told = git(repository, "commit", "-q", "--allow-empty", "-m", "x")
    assert "called pre-commit" in told
    assert "an older firedamp kept me" in told


def test_a_hook_that_git_did_not_run_is_not_said_to_run(
    repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(repository)
    script(repository / ".git" / "hooks" / "pre-commit", "exit 1", 0o644)
    assert cli.main(["hook", "install", "pre-commit"]) == 0
    assert "not executable" in capsys.readouterr().err
    git(repository, "commit", "-q", "--allow-empty", "-m", "x")


def test_nothing_is_written_through_a_link(tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(repository)
    hook = repository / ".git" / "hooks" / "pre-commit"
    hook.parent.mkdir(exist_ok=True)
    hook.symlink_to(tmp_path / "nowhere")
    assert cli.main(["hook", "install", "pre-commit"]) == 0
    assert not (tmp_path / "nowhere").exists()
    assert hook.is_file()


def test_a_push_of_nothing_gives_a_chained_hook_no_line(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(repository)
    origin(repository)
    script(repository / ".git" / "hooks" / "pre-push", 'echo "lines: $(wc -l)"; echo "to $1"')
    assert cli.main(["hook", "install", "pre-push"]) == 0
    assert re.search(r"lines: +1\nto origin", git(repository, "push", "origin", "main"))
    assert re.search(r"lines: +0\nto origin", git(repository, "push", "origin", "main"))


def test_a_hook_that_is_taken_away_leaves_what_was_there_before(
    repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(repository)
    hooks = repository / ".git" / "hooks"
    script(repository / "tools" / "hook", "echo theirs ran >&2")
    hooks.mkdir(exist_ok=True)
    (hooks / "pre-commit").symlink_to("../../tools/hook")
    script(hooks / "pre-commit.legacy", "true")
    before = {path.name for path in hooks.iterdir()}
    assert cli.main(["hook", "uninstall", "pre-commit"]) == 2, "it is not ours"
    for name, told in (("pre-commit", "is back"), ("commit-msg", "commit-msg is removed\n")):
        assert cli.main(["hook", "install", name]) == 0
        assert cli.main(["hook", "uninstall", name]) == 0
        assert told in capsys.readouterr().err
    assert {path.name for path in hooks.iterdir()} == before
    assert (hooks / "pre-commit").readlink() == Path("../../tools/hook")
    assert "theirs ran" in git(repository, "commit", "-q", "--allow-empty", "-m", "x")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("before-firedamp/pre-commit", "pre-commit.before-firedamp"),
        ("before-firedamp/pre-commit.legacy", "pre-commit.legacy"),
    ],
)
def test_a_hook_that_cannot_be_taken_away_whole_is_left_as_it_is(
    repository: Path, monkeypatch: pytest.MonkeyPatch, one: str, other: str
) -> None:
    monkeypatch.chdir(repository)
    hooks = repository / ".git" / "hooks"
    assert cli.main(["hook", "install", "pre-commit"]) == 0
    for name in (one, other):
        script(hooks / name, f"echo {name}")
    before = {path: path.read_bytes() for path in hooks.rglob("*") if path.is_file()}
    assert cli.main(["hook", "uninstall", "pre-commit"]) == 2, "which of the two is to be put back?"
    assert {path: path.read_bytes() for path in hooks.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    "there",
    [
        ("pre-commit", "before-firedamp/pre-commit"),
        ("pre-commit", "pre-commit.before-firedamp"),
        ("before-firedamp/pre-commit", "pre-commit.before-firedamp"),
        ("pre-commit", "pre-commit.legacy", "before-firedamp/pre-commit.legacy"),
        ("pre-commit", "before-firedamp"),
    ],
)
def test_a_hook_that_cannot_be_kept_is_left_as_it_is(
    repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], there: tuple[str, ...]
) -> None:
    monkeypatch.chdir(repository)
    hooks = repository / ".git" / "hooks"
    for name in there:
        script(hooks / name, f"echo {name}")
    before = {path: path.read_bytes() for path in hooks.rglob("*") if path.is_file()}
    assert cli.main(["hook", "install", "pre-commit"]) == 2, "where would it be kept?"
    assert str(hooks / there[-1]) in capsys.readouterr().err
    assert {path: path.read_bytes() for path in hooks.rglob("*") if path.is_file()} == before


def test_an_installed_hook_keeps_the_settings_it_was_installed_with(
    tmp_path: Path, repository: Path, rng: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "f.toml").write_text('[scan]\nhonour_marks = ["nosecret"]\n')
    monkeypatch.chdir(repository)
    assert cli.main(["hook", "install", "pre-commit", "--config", "../f.toml"]) == 0
    told = git(repository, "commit", "-q", "--allow-empty", "-m", "x", status=1)
    assert "nosecret is no mark" in told


@pytest.mark.parametrize("where", ["repository", "include", "work tree", "system"])
def test_a_shadowed_hook_is_told(
    tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], where: str
) -> None:
    monkeypatch.chdir(repository)
    match where:
        case "repository":
            git(repository, "config", "core.hooksPath", ".husky")
        case "include":
            (repository / ".git" / "more").write_text("[core]\n\thooksPath = .husky\n")
            git(repository, "config", "include.path", "more")
        case "work tree":
            git(repository, "config", "extensions.worktreeConfig", "true")
            git(repository, "config", "--worktree", "core.hooksPath", ".husky")
        case _:
            (tmp_path / "system").write_text("[core]\n\thooksPath = .husky\n")
            monkeypatch.setenv("GIT_CONFIG_SYSTEM", str(tmp_path / "system"))
            monkeypatch.delenv("GIT_CONFIG_NOSYSTEM")
    assert cli.main(["hook", "install", "pre-commit"]) == 2
    assert ".husky" in capsys.readouterr().err


def test_a_hook_for_all_repositories_switches_no_other_hook_off(
    tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    monkeypatch.chdir(repository)
    assert cli.main(["hook", "install", "pre-commit", "--global"]) == 0
    for name in ("commit-msg", "post-commit", "reference-transaction"):
        script(repository / ".git" / "hooks" / name, f'echo "{name} ran $# $(wc -c)" >&2')
    told = git(repository, "commit", "-q", "--allow-empty", "-m", "x")
    assert "commit-msg ran 1" in told
    assert "post-commit ran 0" in told
    assert re.search("reference-transaction ran 1 +[1-9]", told), "it gets its input too"
    git(repository, "worktree", "add", "-q", str(tmp_path / "linked"))
    assert "commit-msg ran 1" in git(tmp_path / "linked", "commit", "-q", "--allow-empty", "-m", "x")
    script(repository / ".git" / "hooks" / "commit-msg", "exit 1")
    git(repository, "commit", "-q", "--allow-empty", "-m", "x", status=1)
    assert cli.main(["hook", "install", "commit-msg", "--global"]) == 0
    git(repository, "commit", "-q", "--allow-empty", "-m", "x", status=1)
    assert cli.main(["hook", "uninstall", "commit-msg", "--global"]) == 0
    git(repository, "commit", "-q", "--allow-empty", "-m", "x", status=1)
    assert cli.main(["hook", "uninstall", "pre-commit", "--global"]) == 0
    assert not git(repository, "config", "--global", "--get", "core.hooksPath", status=1)
    assert not any((Path.home() / ".config" / "git" / "hooks").iterdir())
    git(repository, "commit", "-q", "--allow-empty", "-m", "x", status=1)


def test_a_folder_of_hooks_that_the_user_chose_gets_ours_and_nothing_else(
    tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    monkeypatch.chdir(repository)
    git(repository, "config", "--global", "core.hooksPath", "~/mine")
    assert cli.main(["hook", "install", "pre-commit", "--global"]) == 0
    assert [path.name for path in (Path.home() / "mine").iterdir()] == ["pre-commit"]
    assert cli.main(["hook", "uninstall", "pre-commit", "--global"]) == 0
    git(repository, "config", "--global", "core.hooksPath", ".hooks")
    assert cli.main(["hook", "install", "pre-commit", "--global"]) == 2
    assert "another folder in each" in capsys.readouterr().err
    (tmp_path / "gitconfig").write_text("[nonsense")
    assert cli.main(["hook", "install", "pre-commit", "--global"]) == 2
    assert "bad config" in capsys.readouterr().err


def test_a_hook_for_all_repositories_runs_theirs_too(
    tmp_path: Path, repository: Path, rng: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    monkeypatch.chdir(repository)
    assert cli.main(["hook", "install", "pre-commit", "--global"]) == 0
    assert cli.main(["hook", "install", "commit-msg", "--global"]) == 0
    theirs = repository / ".git" / "hooks" / "pre-commit"
    theirs.parent.mkdir(exist_ok=True)
    theirs.write_text("#!/bin/sh\necho theirs ran >&2\n")
    theirs.chmod(0o755)
    git(repository, "commit", "-q", "--allow-empty", "-m", f"key {key(rng)}", status=1)
    assert "theirs ran" in git(repository, "commit", "-q", "--allow-empty", "-m", "clean")


def test_a_push_is_read_before_it_leaves_and_only_what_is_new_of_it(
    repository: Path, rng: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    origin(repository)
    monkeypatch.chdir(repository)
    assert cli.main(["hook", "install", "pre-push"]) == 0
    git(repository, "push", "-q", "origin", "main")
    (repository / "leak").write_text(key(rng))
    git(repository, "add", ".")
    git(repository, "commit", "-q", "-m", "leak")
    git(repository, "rm", "-q", "leak")
    git(repository, "commit", "-q", "-m", "removed, but still in the history")
    told = git(repository, "push", "-q", "origin", "main", status=1)
    assert "would leave" in told
    introduced = git(repository, "rev-parse", "--short=12", "HEAD~1").strip()
    assert f"{introduced}, A <a@example.com>, " in told, "the commit to mend is named"
    assert "not in HEAD" in told
    git(repository, "push", "-q", "--no-verify", "origin", "main")
    (repository / "readme").write_text("more\n")
    git(repository, "commit", "-q", "-a", "-m", "clean")
    git(repository, "push", "-q", "origin", "main")
    git(repository, "push", "-q", "origin", ":main")


def leaked_and_removed(path: Path, rng: random.Random) -> None:
    (path / "leak").write_text(key(rng))
    git(path, "add", ".")
    git(path, "commit", "-q", "-m", "leak", "--no-verify")
    git(path, "rm", "-q", "leak")
    git(path, "commit", "-q", "-m", "removed, but still in the history", "--no-verify")


def test_what_one_remote_has_is_not_known_to_another(
    tmp_path: Path, repository: Path, rng: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("private", "public"):
        git(tmp_path, "init", "-q", "--bare", f"{name}.git")
        git(repository, "remote", "add", name, str(tmp_path / f"{name}.git"))
    leaked_and_removed(repository, rng)
    git(repository, "push", "-q", "private", "main")
    monkeypatch.chdir(repository)
    assert cli.main(["hook", "install", "pre-push"]) == 0
    assert "would leave" in git(repository, "push", "-q", "public", "main", status=1)
    assert "would leave" in git(repository, "push", "-q", "../private.git", "main:again", status=1), "it has no name"
    git(repository, "push", "-q", "private", "main:again")


def under_pre_commit(monkeypatch: pytest.MonkeyPatch, **told: str) -> None:
    for name, value in told.items():
        monkeypatch.setenv(f"PRE_COMMIT{name}", value)
    git_says(monkeypatch)  # pre-commit reads git's lines itself


def test_a_push_is_read_as_pre_commit_tells_of_it(
    repository: Path, rng: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    origin(repository)
    git(repository, "push", "-q", "origin", "main")
    old = git(repository, "rev-parse", "HEAD").strip()
    leaked_and_removed(repository, rng)
    new = git(repository, "rev-parse", "HEAD").strip()
    monkeypatch.chdir(repository)
    push = ["hook", "--quiet", "run", "pre-push"]
    remote = {"_REMOTE_NAME": "origin", "_REMOTE_URL": "x", "_LOCAL_BRANCH": "refs/heads/main"}
    with monkeypatch.context() as patch:
        under_pre_commit(patch, **{"": "1"}, **remote, _FROM_REF=old, _TO_REF=new)
        assert cli.main(push) == 1
        under_pre_commit(patch, _FROM_REF="HEAD~1", _TO_REF="main")
        assert cli.main(push) == 0, "only the removal"
        under_pre_commit(patch, _TO_REF="nothing")
        assert cli.main(push) == 2
    git_says(monkeypatch)
    assert cli.main(push) == 2, "nobody tells what is pushed"
    with monkeypatch.context() as patch:
        under_pre_commit(patch, **{"": "1"}, **remote)
        assert cli.main(push) == 1, "a branch that the remote does not have has no range"
    with monkeypatch.context() as patch:
        under_pre_commit(patch, **{"": "1"})
        assert cli.main(push) == 1, "run by hand: all of HEAD"
    under_pre_commit(monkeypatch, **{"": "1"}, _TO_REF=old)
    git_says(monkeypatch, f"refs/heads/main {new} refs/heads/main {old}\n")
    assert cli.main([*push, "origin", "url"]) == 1, "git's own hook, in a hook of pre-commit's"


def test_pre_commit_run_by_hand_reads_what_is_tracked_or_the_range_it_is_given(
    repository: Path, rng: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    (repository / "leak").write_text(key(rng))
    git(repository, "add", ".")
    git(repository, "commit", "-q", "-m", "leak")
    monkeypatch.chdir(repository)
    commit = ["hook", "--quiet", "run", "pre-commit"]
    assert cli.main(commit) == 0, "nothing is staged"
    under_pre_commit(monkeypatch, **{"": "1"})
    assert cli.main(commit) == 1
    with monkeypatch.context() as patch:
        patch.setenv("GIT_INDEX_FILE", ".git/index")
        assert cli.main(commit) == 0, "git itself runs the hook: somebody commits, and none of this"
    git(repository, "rm", "-q", "leak")
    assert cli.main(commit) == 0
    under_pre_commit(monkeypatch, _FROM_REF="HEAD~1", _TO_REF="HEAD")
    assert cli.main(commit) == 1


def test_the_diff_that_git_shows_below_a_message_is_not_of_the_message(
    tmp_path: Path, repository: Path, rng: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    (repository / "leak").write_text(key(rng))
    git(repository, "add", ".")
    git(repository, "commit", "-q", "-m", "leak")
    git(repository, "rm", "-q", "leak")
    monkeypatch.chdir(repository)
    assert cli.main(["hook", "install", "commit-msg"]) == 0
    editor = tmp_path / "editor"
    editor.write_text('#!/bin/sh\nsed -i.old "1s/.*/Remove the key/" "$1"\n')
    editor.chmod(0o755)
    git(repository, "commit", "-q", "-v", GIT_EDITOR=str(editor))
    line = "# ------------------------ >8 ------------------------\n"
    told = git(repository, "commit", "-q", "--allow-empty", "-m", f"A line of ours:\n\n{line}{key(rng)}", status=1)
    assert "commit message" in told
    (tmp_path / "message").write_text(f"fix\n\n{line}diff --git a/x b/x\n+{key(rng)}")
    told = git(repository, "commit", "-q", "--allow-empty", "-F", str(tmp_path / "message"), status=1)
    assert "commit message" in told, "nobody edits it: git keeps all of it"


def test_git_dir_goes_before_the_folder_we_stand_in(
    tmp_path: Path, repository: Path, rng: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    git(other, "init", "-q")
    (repository / "leak").write_text(key(rng))
    git(repository, "add", ".")
    monkeypatch.chdir(other)
    assert cli.main(["scan", "--staged", "--offline"]) == 0
    monkeypatch.setenv("GIT_DIR", str(repository / ".git"))
    assert cli.main(["scan", "--staged", "--offline"]) == 1
    monkeypatch.chdir(repository)
    monkeypatch.setenv("GIT_DIR", ".git")
    monkeypatch.setenv("GIT_INDEX_FILE", ".git/index")
    assert cli.main(["scan", "--staged", "--offline"]) == 1


def test_a_server_refuses_a_push_with_a_key_in_quarantine(
    repository: Path, rng: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote = origin(repository)
    git(repository, "push", "-q", "origin", "main")
    monkeypatch.chdir(remote)
    assert cli.main(["hook", "install", "pre-receive"]) == 0
    git(repository, "commit", "-q", "--allow-empty", "-m", f"in a message: {key(rng)}")
    told = git(repository, "push", "-q", "origin", "main", status=1)
    assert "would come in" in told
    assert git(repository, "rev-parse", "--short=12", "HEAD").strip() in told
    assert "findings set" not in told, "nobody can decide about it here: a refused push is in no scan"
    git(repository, "reset", "-q", "--hard", "HEAD~1")
    git(repository, "tag", "-a", "v1", "-m", "clean")
    git(repository, "push", "-q", "origin", "v1")
    git(repository, "push", "-q", "origin", ":v1")


def test_a_key_in_the_name_of_a_new_branch_or_tag_does_not_leave_or_come_in(
    tmp_path: Path, repository: Path, rng: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    origin(repository)
    git(repository, "push", "-q", "origin", "main")
    names = [f"refs/{folder}/leak-{make_key_id(rng)}" for folder in ("heads", "tags")]
    monkeypatch.chdir(repository)
    assert cli.main(["hook", "install", "pre-push"]) == 0
    assert names[0] in git(repository, "push", "-q", "origin", f"main:{names[0]}", status=1)
    git(repository, "push", "-q", "--no-verify", "origin", f"main:{names[0]}")
    git(repository, "push", "-q", "origin", f":{names[0]}")
    monkeypatch.chdir(tmp_path / "remote.git")
    assert cli.main(["hook", "install", "pre-receive"]) == 0
    assert names[1] in git(repository, "push", "-q", "--no-verify", "origin", f"main:{names[1]}", status=1)
    git(repository, "push", "-q", "origin", f"main:refs/heads/plain-{names[1][-3:]}")
    monkeypatch.chdir(repository)
    head = git(repository, "rev-parse", "HEAD").strip()
    push = ["hook", "--quiet", "run", "pre-push", "origin", "url"]
    for old, status in (("0" * 40, 1), (head, 0)):
        git_says(monkeypatch, f":/a message {head} {names[0]} {old}\n")
        assert cli.main(push) == status, "a name that the remote has is not new"
    under_pre_commit(monkeypatch, **{"": "1"}, _TO_REF="HEAD", _REMOTE_BRANCH=names[0])
    assert cli.main(["hook", "--quiet", "run", "pre-push"]) == 1


def test_no_name_of_a_ref_is_taken_for_something_else(
    repository: Path, rng: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    leaked_and_removed(repository, rng)
    head, none = git(repository, "rev-parse", "HEAD").strip(), "0" * 40
    git(repository, "checkout", "-q", "--detach")
    git(repository, "branch", "-q", "-D", "main")
    git(repository, "update-ref", "HEAD", f"{head}~2")
    monkeypatch.chdir(repository)
    receive = ["hook", "--quiet", "run", "pre-receive"]
    for parting in ("\u2003", "\xa0", "\u2028", "\x85", "\udcff"):
        ref = f"refs/heads/a{parting}{none}{parting}--not{parting}b"
        git(repository, "check-ref-format", ref)
        git_says(monkeypatch, f"{none} {head} {ref}\n")
        assert cli.main(receive) == 1, "and no line or field of its own"
    git_says(monkeypatch, f"{none} --not refs/heads/a\n")
    assert cli.main(receive) == 2


@pytest.mark.parametrize("lent", [False, True])
def test_objects_that_a_user_keeps_elsewhere_are_read_before_a_commit_and_a_push(
    tmp_path: Path, repository: Path, rng: random.Random, monkeypatch: pytest.MonkeyPatch, lent: bool
) -> None:
    monkeypatch.chdir(repository)
    assert cli.main(["hook", "install", "pre-commit"]) == 0
    assert cli.main(["hook", "install", "pre-push"]) == 0
    (tmp_path / "objects").mkdir()
    elsewhere = {"GIT_OBJECT_DIRECTORY": str(tmp_path / "objects")}
    elsewhere |= {"GIT_ALTERNATE_OBJECT_DIRECTORIES": str(repository / ".git" / "objects")}
    (repository / "leak").write_text(key(rng))
    git(repository, "add", ".", **elsewhere)
    if lent:
        elsewhere = {"GIT_ALTERNATE_OBJECT_DIRECTORIES": str(tmp_path / "objects")}
    assert "would be committed" in git(repository, "commit", "-q", "-m", "leak", status=1, **elsewhere)
    git(repository, "commit", "-q", "--no-verify", "-m", "leak", **elsewhere)
    git(tmp_path, "init", "-q", "--bare", "remote.git")
    assert "would leave" in git(repository, "push", "-q", "../remote.git", "main", status=1, **elsewhere)
    (repository / "leak").write_text("clean")
    git(repository, "add", ".", **elsewhere)
    git(repository, "commit", "-q", "-m", "clean", **elsewhere)


def test_hooks_that_are_called_wrongly_say_so(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli.main(["scan", "--staged", "a", "b"]) == 2
    monkeypatch.chdir(repository)
    assert cli.main(["hook", "run", "commit-msg"]) == 2
    monkeypatch.chdir(tmp_path)
    assert cli.main(["hook", "run", "pre-commit"]) == 2


def test_a_damaged_index_is_no_silence(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (repository / ".git" / "index").write_bytes(b"DIRC nonsense")
    assert cli.main(["scan", "--staged", str(repository), "--offline"]) == 2
    assert "cannot be compared" in capsys.readouterr().out


def test_what_ci_runs_are_commands_that_we_have() -> None:
    root = Path(__file__).parent.parent
    hooks = yaml.safe_load((root / ".pre-commit-hooks.yaml").read_text())
    for entry, hook in zip(("pre-commit", "commit-msg", "pre-push"), hooks, strict=True):
        assert hook["entry"] == f"firedamp hook --quiet run {entry}"
        assert hook["always_run"], "an empty difference may hide commits"
        parser().parse_args(["hook", "--quiet", "run", entry])
    parser().parse_args(["scan", ".", "--offline", "--format", "sarif", "--output", "x"])
    job = yaml.safe_load((root / "deploy" / "gitlab" / "firedamp.gitlab-ci.yml").read_text())["firedamp"]
    assert job["script"] == ["firedamp scan . --offline --format sarif --output firedamp.sarif"]
    assert job["variables"]["GIT_DEPTH"] == "0"


ACTION = Path(__file__).parent.parent / "deploy" / "github-action" / "action.yml"


def test_what_the_action_runs_is_pinned() -> None:
    steps = yaml.safe_load(ACTION.read_text())["runs"]["steps"]
    assert all(re.search("@[0-9a-f]{40}$", step["uses"]) for step in steps if "uses" in step)
    (install,) = [step for step in steps if "pip install" in step.get("run", "")]
    assert "${FIREDAMP_VERSION:-$FIREDAMP_ACTION/../..}" in install["run"], "the firedamp that the action stands in"
    assert (ACTION.parent / ".." / ".." / "pyproject.toml").exists()


def act(folder: Path, target: Path, arguments: str, scan: str | None = None) -> tuple[str, str, str]:
    """Run the action's scan step as a runner does; return its output, its summary and what it hands on.

    scan: a line of shell in the place of firedamp.
    """
    (step,) = [step for step in yaml.safe_load(ACTION.read_text())["runs"]["steps"] if step.get("id") == "scan"]
    command = shlex.join([sys.executable, "-P", "-m", "firedamp.service.cli"])
    script(folder / "bin" / "firedamp", scan or f'exec {command} "$@"')
    for name in ("python", "python3"):
        script(folder / "bin" / name, f'exec {shlex.quote(sys.executable)} "$@"')
    told = {name: folder / name for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY", "FIREDAMP_SARIF")}
    environ = os.environ | {name: str(path) for name, path in told.items()}
    environ |= {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "FIREDAMP_DB": str(folder / "action.db")}
    environ |= {"FIREDAMP_TARGET": str(target), "FIREDAMP_ARGUMENTS": arguments}
    # The shell of a step that says `shell: bash` (GitHub, "Workflow syntax")
    command = ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", "-c", step["run"]]
    done = subprocess.run(command, cwd=target, env=environ, capture_output=True, text=True, check=False)
    written = [path.read_text() if path.exists() else "" for path in told.values()]
    return done.stdout + done.stderr, written[1], written[0]


def test_the_actions_summary_is_of_the_scan_itself(tmp_path: Path, repository: Path, rng: random.Random) -> None:
    (repository / "known").write_text(key(rng))
    git(repository, "add", ".")
    git(repository, "commit", "-q", "-m", "known")
    baseline = tmp_path / "baseline.json"
    cli.main(["scan", str(repository), "--offline", "--quiet", "--write-baseline", str(baseline)])
    (repository / "new").write_text(key(rng))
    git(repository, "add", ".")
    git(repository, "commit", "-q", "-m", "new")
    told, summary, output = act(tmp_path, repository, f"--offline\n--baseline {baseline}\n")
    assert output == f"root={repository}\nstatus=1\n", told
    assert "1 finding, 0 not read" in summary
    assert "new:1`" in summary
    assert "known" not in summary


def test_the_action_warns_of_a_shallow_checkout_and_hands_a_wrong_use_on(tmp_path: Path, repository: Path) -> None:
    git(repository, "commit", "-q", "--allow-empty", "-m", "second")
    git(tmp_path, "clone", "-q", "--depth=1", repository.as_uri(), "shallow")
    told, summary, output = act(tmp_path, tmp_path / "shallow", "--offline")
    assert "::warning::" in told
    assert (output, "0 findings" in summary) == (f"root={tmp_path / 'shallow'}\nstatus=0\n", True)
    told, again, output = act(tmp_path, repository, "--nonsense")
    assert "takes no --nonsense" in told
    assert (output.splitlines()[-1], again) == ("status=2", summary), (
        "nothing is told of an earlier use in the same job"
    )
    assert not (tmp_path / "FIREDAMP_SARIF").exists()


def test_the_action_uploads_paths_of_the_repository_wherever_it_was_checked_out(
    tmp_path: Path, repository: Path, rng: random.Random
) -> None:
    (repository / "below").mkdir()
    (repository / "below" / "new").write_text(key(rng))
    told, _, output = act(tmp_path, repository / "below", "--offline")
    root = output.splitlines()[0].removeprefix("root=")
    (result,) = json.loads((tmp_path / "FIREDAMP_SARIF").read_text())["runs"][0]["results"]
    uri = result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
    assert uri.removeprefix(Path(root).as_uri()) == "/below/new", told
    (upload,) = [
        step for step in yaml.safe_load(ACTION.read_text())["runs"]["steps"] if "upload" in step.get("uses", "")
    ]
    assert upload["with"]["checkout_path"] == "${{ steps.scan.outputs.root || github.workspace }}"


def test_the_actions_summary_is_one_that_is_shown_and_names_commits(
    tmp_path: Path, repository: Path, rng: random.Random
) -> None:
    names = [f"{number:03d}" + "`\N{FIRE}" * 40 for number in range(200)]
    for name in names:
        path = repository.joinpath(*[name] * 10)
        path.parent.mkdir(parents=True)
        path.write_text(key(rng))
    git(repository, "add", ".")
    git(repository, "commit", "-q", "-m", "many")
    git(repository, "rm", "-rq", ".")
    git(repository, "commit", "-q", "-m", "none")
    told, summary, _ = act(tmp_path, repository, "--offline")
    assert "200 findings, 0 not read" in summary, told
    assert 900_000 < len(summary.encode()) < 2**20, "GitHub shows none of a larger one"
    *lines, last = [line for line in summary.splitlines() if line.startswith("- ")]
    assert last == f"- and {200 - len(lines)} more"
    assert all(re.search(" commit [0-9a-f]{40}. `[^`]+:1`$", line) for line in lines)


def test_the_action_uploads_no_more_than_code_scanning_takes_and_says_so(tmp_path: Path, repository: Path) -> None:
    results = [
        {
            "level": level,
            "message": {"text": level},
            "locations": [{"physicalLocation": {"artifactLocation": {"uri": "a"}}}],
        }
        for level, count in (("note", 20_000), ("warning", 1), ("error", 20_000))
        for _ in range(count)
    ]
    log = {"version": "2.1.0", "runs": [{"results": results, "invocations": [{"toolExecutionNotifications": []}]}]}
    (tmp_path / "many").write_text(json.dumps(log))
    told, summary, _ = act(tmp_path, repository, "", f"cp {tmp_path / 'many'} {tmp_path / 'FIREDAMP_SARIF'}; exit 1")
    assert "::warning::firedamp: code scanning takes 25,000 findings" in told
    assert "40001 findings" in summary
    assert "and 15,001 are not" in summary
    uploaded = json.loads((tmp_path / "FIREDAMP_SARIF").read_text())
    levels = [each["level"] for each in uploaded["runs"][0]["results"]]
    assert levels == ["error"] * 20_000 + ["warning"] + ["note"] * 4_999
    assert uploaded["version"] == "2.1.0"


def test_two_uses_of_the_action_in_one_job_do_not_replace_each_others_alerts() -> None:
    action = yaml.safe_load(ACTION.read_text())
    (upload,) = [step for step in action["runs"]["steps"] if "upload" in step.get("uses", "")]
    assert upload["with"]["category"].startswith("${{ inputs.category || (inputs.target == '.' && 'firedamp' || ")
    assert "format('firedamp-{0}', inputs.target)" in upload["with"]["category"]
    assert action["inputs"]["category"]["default"] == ""
