"""Sets up this user's AWS profiles, so that commands reach the loopback AWS as they would reach the real one."""

from __future__ import annotations

from pathlib import Path

import pytest

from firedamp.canaries import lookup
from firedamp.service.loopback import Loopback, LoopbackKey


def configure(aws: Loopback, monkeypatch: pytest.MonkeyPatch, key: LoopbackKey | None = None) -> None:
    """Give the default profile a key of the loopback AWS, the administrator's unless another is named."""
    key = key or aws.admin
    folder = Path.home() / ".aws"
    folder.mkdir(exist_ok=True)
    (folder / "credentials").write_text(
        f"[default]\naws_access_key_id={key.id}\naws_secret_access_key={key.secret.reveal()}\n"
    )
    (folder / "config").write_text("[default]\nregion = us-east-1\n")
    monkeypatch.setenv("AWS_ENDPOINT_URL", aws.url)


def look_up_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let commands look up as fast as they can: the loopback AWS has no limit of two calls a second, as AWS has."""
    monkeypatch.setattr(lookup, "_INTERVAL", 0.001)
