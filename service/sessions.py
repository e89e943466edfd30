"""Temporary keys: whose session one is, as STS said when it was verified. IAM knows no such key, and can end none.

What a session may do can be taken from whoever it is of (IAM guide, "Revoke IAM role temporary credentials").
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Holder:
    """Whom a session is of: IAM's calls name the kind (`PutUserPolicy`, `RoleName`)."""

    kind: Literal["User", "Role"]
    name: str


def is_temporary(key_id: str) -> bool:
    """Whether a key is of a session."""
    return key_id.startswith("ASIA")


def holder(arn: str | None) -> Holder | None:
    """Return whom a session with this ARN is of. None for root's and federated users': no policy here is over them.

    `arn:aws:iam::123456789012:user/path/NAME`, `arn:aws:sts::123456789012:assumed-role/NAME/SESSION`.
    """
    kind, _, name = (arn or "").split(":")[-1].partition("/")
    match kind:
        case "user":
            return Holder("User", name.rpartition("/")[2])
        case "assumed-role":
            return Holder("Role", name.partition("/")[0])
        case _:
            return None
