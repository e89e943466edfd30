"""A home directory: everything known about it, and everything found in it."""

from __future__ import annotations

import json
import random
from collections import defaultdict
from pathlib import Path

import pytest
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


def test_links_into_a_known_place_are_not_followed(home: Path, tmp_path: Path) -> None:
    (tmp_path / "dotfiles").mkdir()
    (tmp_path / "dotfiles" / "credentials").write_text("x")
    (home / ".aws").symlink_to(tmp_path / "dotfiles")
    (home / ".boto").symlink_to(tmp_path / "dotfiles" / "credentials")
    (home / ".s3cfg").write_text("x")
    assert list(homes.known_files(str(home.resolve()), {})) == [str(home.resolve() / ".s3cfg")]
