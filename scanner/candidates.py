"""What is in flight between bytes and findings: candidates and credentials. Neither is ever stored."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from firedamp.storage.records import KeyKind
    from firedamp.storage.secret import Secret


class Role(StrEnum):
    """What a candidate would be in a credential."""

    KEY_ID = "id"
    SECRET = "secret"  # noqa: S105
    TOKEN = "token"  # noqa: S105
    WHOLE = "whole"
    """A credential by itself: Bedrock, MWS, AppSync."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A span that looks like a key id, secret or token. start and end are offsets in the text it was found in.

    That text is bytes decoded as Latin-1, so that offsets are byte offsets. value is the text after undoing the
    notation it stood in (percent-encoding, escapes): usually text[start:end].
    """

    role: Role
    kind: KeyKind
    start: int
    end: int
    value: Secret


@dataclass(frozen=True, slots=True)
class Credential:
    """A key id with its secret and session token, as far as they stand together.

    anchor is the offset of the id, or of the secret or whole credential where there is no id. rank orders the
    plausible secrets of one id, best first from 0. hint is a region, ARN or endpoint nearby that names the
    partition or shows that the credential is not AWS's.
    """

    kind: KeyKind
    key_id: str | None
    secret: Secret | None
    token: Secret | None = None
    rank: int = 0
    example: bool = False
    anchor: int = 0
    decoder: str = ""
    expires: datetime | None = None
    hint: str = ""
    notes: tuple[str, ...] = ()
    allowed: tuple[str, ...] = ()
    """The inline marks beside the anchor in the decoded text that it was found in."""


@dataclass(frozen=True, slots=True)
class Located:
    """A credential with its place in the blob as stored. line and column from 1, columns in code points, or None."""

    credential: Credential
    line: int | None
    column: int | None
    container: str = ""
    allowed: str = ""
    """The inline marks in its line, as stored and as decoded, of whichever tools."""
