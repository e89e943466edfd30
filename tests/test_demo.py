"""The demo: told to its end, and nothing of it stays behind."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from firedamp.service import cli
from firedamp.service.loopback import Loopback


def test_the_whole_story_is_told_and_nothing_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    # The tests' own loopback AWS shares moto's state with the demo's: one simulated AWS a process.
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert cli.main(["demo"]) == 0
    told = capfd.readouterr().out
    for each in ("ACTIVE", "administrator", "STS refuses the key", "CANARY", "3 use", "What to do now:"):
        assert each in told
    assert list(tmp_path.iterdir()) == []
    assert not (Path.home() / "firedamp.db").exists()


@pytest.fixture(autouse=True)
def _fresh_aws_afterwards(aws: Loopback) -> None:
    """Leave the shared loopback AWS as every other test expects it: `aws` resets it before each use."""
    del aws
