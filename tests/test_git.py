"""Keys in every place of a repository, on every sort of repository, each found with where it came from."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from tests.repositories import hiding_places

from firedamp.service import cli


class Scanned:
    """What one scan printed."""

    def __init__(self, status: int, text: str) -> None:
        self.status = status
        lines = [json.loads(line) for line in text.splitlines()]
        self.summary: dict[str, Any] = lines[-1]["summary"]
        self.findings: dict[str, dict[str, Any]] = {line["access_key_id"]: line for line in lines[:-1]}

    def match(self, key_id: str) -> dict[str, Any]:
        (only,) = self.findings[key_id]["matches"]
        return dict(only)


@pytest.fixture(name="scan")
def scan_(capsys: pytest.CaptureFixture[str]) -> Any:
    def run(*targets: Path | str, options: tuple[str, ...] = ()) -> Scanned:
        capsys.readouterr()
        arguments = ["scan", *map(str, targets), "--offline", "--format", "jsonl", *options]
        return Scanned(cli.main(arguments), capsys.readouterr().out)

    return run


def test_a_key_is_found_in_every_hiding_place(tmp_path: Path, rng: random.Random, scan: Any) -> None:
    keys = hiding_places(tmp_path / "repository", rng)
    scanned = scan(tmp_path / "repository")
    assert {place for place, key_id in keys.items() if key_id not in scanned.findings} == set()
    assert scanned.status == 1
    assert len(keys) >= 28
