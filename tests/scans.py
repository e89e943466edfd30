"""Runs `firedamp scan` as a user does, in this process, and takes its JSON lines apart."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from firedamp.service import cli

Scan = Callable[..., "Scanned"]


class Scanned:
    """What one scan printed."""

    def __init__(self, status: int, text: str) -> None:
        self.status = status
        lines = [json.loads(line) for line in text.splitlines()]
        self.summary: dict[str, Any] = lines[-1]["summary"] if lines else {}
        self.findings: dict[str, dict[str, Any]] = {line["access_key_id"]: line for line in lines[:-1]}

    def match(self, key_id: str) -> dict[str, Any]:
        """Return the only match of a key."""
        (only,) = self.findings[key_id]["matches"]
        return dict(only)


def scanner(capsys: pytest.CaptureFixture[str]) -> Scan:
    """Return a function that scans targets offline."""

    def run(*targets: Path | str, options: tuple[str, ...] = ("--offline",)) -> Scanned:
        capsys.readouterr()
        status = cli.main(["scan", *map(str, targets), "--format", "jsonl", *options])
        return Scanned(status, capsys.readouterr().out)

    return run
