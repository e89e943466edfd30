"""A home directory: everything known about it, and everything found in it."""

from __future__ import annotations

import json
import os
import random
from collections import defaultdict
from pathlib import Path

import pytest
from tests.builders import make_key_id, make_secret
from tests.homes import Planted, build

from firedamp.scanner import home as homes
from firedamp.scanner.home import PLACES, place_of
from firedamp.service import cli


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.delenv(name)
    return Path.home()


def scanned(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[list[dict[str, object]], dict[str, object]]:
    cli.main(["scan", "--offline", "--format", "jsonl", *arguments])
    *found, last = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    return found, last["summary"]


def test_every_place_is_found_paired_and_named_with_its_fix_and_no_decoy_is(
    home: Path, rng: random.Random, capsys: pytest.CaptureFixture[str]
) -> None:
    planted = build(home, rng)
    assert len({each.place for each in planted}) >= 60
    found, summary = scanned(capsys, "--show-secrets")
    by_id = defaultdict(list)
    for each in found:
        by_id[each["access_key_id"]].append(each)
    wrong = [told for each in planted if (told := _wrong(each, by_id[each.key_id]))]
    assert not wrong, "\n".join(wrong)
    assert set(by_id) == {each.key_id for each in planted}
    assert summary["complete"] is True, summary["failed"]
    why = {item["why"] for item in summary["left_out"]["items"]}  # type: ignore[index]
    assert {"keychains, password stores and private keys", "installed packages", "caches"} <= why


def _wrong(each: Planted, found: list[dict[str, object]]) -> str:
    if not found:
        return f"{each.place}: not found"
    best = found[0]
    if best["secret"] != each.secret:
        return f"{each.place}: paired with {'nothing' if best['secret'] is None else 'another secret'}"
    matches = [match for match in best["matches"] if match["path"] == str(each.path)]  # type: ignore[attr-defined]
    if not matches:
        return f"{each.place}: no match at {each.path}"
    place = matches[0]["place"]
    if place is None or place["name"] != each.place or not place["fix"]:
        return f"{each.place}: named {place}"
    return ""


def test_the_summary_is_what_a_person_wants(home: Path, rng: random.Random, capsys: pytest.CaptureFixture[str]) -> None:
    planted = build(home, rng)
    cli.main(["scan", "--offline"])
    text = capsys.readouterr().out
    temporary = sum(each.key_id.startswith("ASIA") for each in planted)
    assert f"{len(planted)} keys in" in text
    assert f"; {len(planted) - temporary} long-term; oldest copy from 20" in text
    assert "do this first: " in text
    assert "temporary, expired 2020-01-02 03:04 UTC" in text


def test_a_place_that_the_environment_moved_is_known_where_it_is(
    home: Path, rng: random.Random, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    moved = tmp_path / "elsewhere" / "keys"
    moved.parent.mkdir()
    codex = tmp_path / "codex"
    codex.mkdir()
    planted = build(home, rng)
    moved.write_bytes((home / ".aws" / "credentials").read_bytes())
    (codex / "config.toml").write_bytes((home / ".codex" / "config.toml").read_bytes())
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(moved))
    monkeypatch.setenv("CODEX_HOME", str(codex))
    found, _ = scanned(capsys)
    for name, place in ((str(moved), "AWS shared credentials"), (str(codex / "config.toml"), "Codex configuration")):
        (match,) = [match for each in found for match in each["matches"] if match["path"] == name]  # type: ignore[attr-defined]
        assert match["place"]["name"] == place
    assert len({each["access_key_id"] for each in found}) == len(planted)


def test_places_are_told_apart() -> None:
    names = {
        "/home/u/.aws/credentials": "AWS shared credentials",
        "/home/u/.aws/credentials.bak": "AWS shared credentials",
        "/srv/.aws/credentials": None,
        "/srv/app/.env.production": "environment file",
        "/home/u/.claude/projects/a/b/subagents/c.jsonl": "Claude Code transcript",
        "/home/u/src/.claude/settings.local.json": "Claude Code settings",
        "/home/u/Library/Application Support/Code/User/globalStorage/state.vscdb.backup": "VS Code state",
        "/home/u/src/infra/.terraform/terraform.tfstate": "Terraform backend",
        "/home/u/src/main.py": None,
        "/home/u/.aws/config.bak": "AWS config",
        "/home/u/.aws/config.old": "AWS config",
        "/home/u/.aws/cli/history/history.db-wal": "AWS CLI history",
        "/home/u/.local/share/mcfly/history.db-wal": "mcfly history",
        "/home/u/.config/zsh/.zsh_history": "zsh history",
        "/home/u/.config/Code/Backups/170/untitled/-7f2": "VS Code backup",
        "/home/u/Library/Application Support/Code/Backups/1/file/a": "VS Code backup",
        "/home/u/AppData/Roaming/Code/User/settings.json": "VS Code settings",
        "/home/u/AppData/Roaming/Code/User/globalStorage/state.vscdb": "VS Code state",
        "/home/u/.terraform.d/credentials.tfrc.json": "Terraform CLI configuration",
        "/home/u/.terraform.d/checkpoint_signature": None,
        "/home/u/Library/Group Containers/G/Library/Application Support/duck/Bookmarks/a.duck": "Cyberduck bookmark",
        "/home/u/Library/Application Support/Cyberduck/Bookmarks/a.duck": "Cyberduck bookmark",
        "/home/u/Downloads/2019/work/rootkey.csv": "root user's access key",
        "/home/u/Downloads/2019/credentials (2).csv": "console download of an access key",
        "/srv/backup/jo/jo_accessKeys.csv": "console download of an access key",
        "/etc/boto.cfg": "boto configuration",
        "/home/user/.aws/credentials": None,
    }
    assert {path: place and place.name for path in names if ((place := place_of(path, "/home/u", {})), 1)} == names


def test_every_row_says_what_to_change() -> None:
    assert len(PLACES) >= 60
    assert len({place.name for place in PLACES}) == len(PLACES)
    for place in PLACES:
        assert place.fix, place
        assert place.format, place
        for pattern in place.patterns:
            example = homes.place_of(
                "/h/" + pattern.replace("**/", "a/").replace("**", "a/b").replace("*", "x").replace("?", "y")
                .replace("[0-9]", "1"), "/h", {},
            )  # fmt: skip
            assert example is not None, pattern


def known(home: Path, environment: dict[str, str] | None = None) -> dict[str, str]:
    return dict(homes.known_files(str(home.resolve()), environment or {}))


def test_links_in_known_places_are_followed_once_to_what_is_ones_own(home: Path, tmp_path: Path) -> None:
    (tmp_path / "dotfiles").mkdir()
    file = tmp_path / "dotfiles" / "credentials"
    file.write_text("x")
    (home / ".aws").symlink_to(tmp_path / "dotfiles")
    (home / ".boto").symlink_to(file)
    (home / ".s3cfg").write_text("x")
    (home / ".netrc").symlink_to("nowhere")
    (home / ".claude").symlink_to("/")
    root = home.resolve()
    assert known(home) == {
        str(tmp_path / "dotfiles"): str(root / ".aws"),
        str(file): str(root / ".aws" / "credentials"),
        str(root / ".s3cfg"): str(root / ".s3cfg"),
    }


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_link_to_another_users_file_is_not_followed(home: Path, tmp_path: Path) -> None:
    (tmp_path / "theirs").write_text("x")
    os.chown(tmp_path / "theirs", 12345, 12345)
    (home / ".s3cfg").symlink_to(tmp_path / "theirs")
    assert known(home) == {}


def test_a_linked_place_is_scanned_named_and_counted(
    home: Path, rng: random.Random, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pair = f"[x]\naws_access_key_id = {make_key_id(rng)}\naws_secret_access_key = {make_secret(rng)}\n"
    (tmp_path / "aws" / "own").mkdir(parents=True)
    (tmp_path / "aws" / "credentials").write_text(pair)
    (tmp_path / "aws" / "own" / "notes").write_text(pair)
    (tmp_path / "src").mkdir()
    (home / ".aws").symlink_to(tmp_path / "aws")
    (home / "src").symlink_to(tmp_path / "src")
    (home / "again").symlink_to(tmp_path / "aws" / "own")
    (found,), summary = scanned(capsys)
    places = {match["path"]: match["place"] and match["place"]["name"] for match in found["matches"]}  # type: ignore[attr-defined]
    aws = tmp_path / "aws"
    assert places == {str(aws / "credentials"): "AWS shared credentials", str(aws / "own" / "notes"): None}
    why = {item["why"]: item["count"] for item in summary["left_out"]["items"]}  # type: ignore[index]
    assert why.pop("firedamp's own files", 1)
    assert why == {"links to what is scanned": 2, f"a link to {tmp_path / 'src'}": 1}
    cli.main(["scan", "--offline"])
    told = capsys.readouterr().out
    assert "1 links to what is not scanned" in told
    assert f"{home / 'src'}: a link to {tmp_path / 'src'}" in told


@pytest.mark.parametrize("named", ["link/keys", "{}/link/keys", "real/keys", "~/keys"])
@pytest.mark.usefixtures("home")
def test_what_a_variable_names_is_scanned_through_links_and_relative_names(
    named: str, rng: random.Random, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    file = tmp_path / "real" / "keys"
    file.write_text(f"[x]\naws_access_key_id = {make_key_id(rng)}\naws_secret_access_key = {make_secret(rng)}\n")
    (Path.home() / "keys").symlink_to(file)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", named.format(tmp_path))
    (found,), _ = scanned(capsys)
    (match,) = found["matches"]  # type: ignore[misc]
    assert (match["path"], match["place"]["name"]) == (str(file), "AWS shared credentials")


def test_all_of_a_folder_that_a_variable_names_is_scanned(
    home: Path, rng: random.Random, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    transcript = tmp_path / "claude" / "projects" / "a" / "b.jsonl"
    transcript.parent.mkdir(parents=True)
    transcript.write_text(f"{make_key_id(rng)}:{make_secret(rng)}\n")
    monkeypatch.setenv("CLAUDE_CONFIG_DIR", str(tmp_path / "claude"))
    assert home.is_dir()
    (found,), _ = scanned(capsys)
    (match,) = found["matches"]  # type: ignore[misc]
    assert (match["path"], match["place"]["name"]) == (str(transcript), "Claude Code transcript")
