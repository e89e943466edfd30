"""What stands around a planted key: names, a region, a bucket, that a house like any other would have. Pure.

Everything comes from random bytes and a few words, so that no two placements look alike, and none says what it is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from firedamp.storage.errors import UsageFailure

BYTES: Final = 16
"""Random bytes that one set of surroundings is made of."""

_REGIONS: Final = {
    "aws": ("us-east-1", "us-west-2", "eu-west-1", "eu-central-1", "ap-southeast-2", "us-east-2"),
    "aws-cn": ("cn-north-1", "cn-northwest-1"),
    "aws-us-gov": ("us-gov-west-1", "us-gov-east-1"),
}
"""By partition: who tries a key where it is not known gets no answer that anybody records."""
_CONSOLES: Final = {"aws-cn": "signin.amazonaws.cn", "aws-us-gov": "signin.amazonaws-us-gov.com"}
_LABELS: Final = (
    "backup", "prod", "deploy", "archive", "reports", "media", "uploads", "terraform", "legacy", "etl", "offsite",
    "billing", "ci", "ops", "assets", "mailer",
)  # fmt: skip
_PROJECTS: Final = (
    "orders", "catalog", "ledger", "shipping", "checkout", "inventory", "payroll", "portal", "intranet", "newsletter",
    "warehouse", "booking", "invoices", "storefront", "crm", "analytics",
)  # fmt: skip
_CONTENTS: Final = ("backups", "exports", "uploads", "assets", "logs", "snapshots", "documents", "media")
_STAGES: Final = ("prod", "production", "live", "staging")
_LABEL: Final = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,31}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a template fills in beside the key."""

    label: str
    """What the key is called where it stands: a profile, a remote, a prefix of variables."""
    prefixed: bool
    """Whether variables carry the label; otherwise they have the names that every SDK reads."""
    region: str
    bucket: str
    project: str
    stage: str
    serial: str
    """32 hexadecimal digits, where a file has an identifier of its own."""
    user: str
    account: str
    partition: str
    at: datetime

    @property
    def domain(self) -> str:
        """What the names of AWS's hosts end with."""
        return "amazonaws.com.cn" if self.partition == "aws-cn" else "amazonaws.com"

    @property
    def s3(self) -> str:
        """The host of S3: the one without a region is the first partition's."""
        return f"s3.{self.domain}" if self.partition == "aws" else f"s3.{self.region}.{self.domain}"

    @property
    def console(self) -> str:
        """The host where an account's users sign in."""
        return f"{self.account}.{_CONSOLES.get(self.partition, 'signin.aws.amazon.com')}"

    @property
    def prefix(self) -> str:
        """What stands before the names of variables."""
        return f"{self.label.upper().replace('-', '_')}_" if self.prefixed else ""

    @property
    def dotted(self) -> str:
        """What stands before the names of properties."""
        return f"{self.label.lower()}." if self.prefixed else ""


def surroundings(
    random: bytes,
    *,
    user: str,
    account: str,
    at: datetime,
    label: str | None = None,
    prefixed: bool = False,
    partition: str = "aws",
) -> Surroundings:
    """Make surroundings from 16 random bytes; label None chooses one. Raises UsageFailure for one no file takes."""
    if label is not None and _LABEL.fullmatch(label) is None:
        raise UsageFailure(f"{label!r} is no name for a key in a file", "letters, digits and dashes, as in prod-backup")
    project, stage = _PROJECTS[random[0] % len(_PROJECTS)], _STAGES[random[1] % len(_STAGES)]
    regions = _REGIONS.get(partition, _REGIONS["aws"])
    return Surroundings(
        label=label or _LABELS[random[2] % len(_LABELS)],
        prefixed=prefixed or label is not None,
        region=regions[random[3] % len(regions)],
        bucket=f"{project}-{_CONTENTS[random[4] % len(_CONTENTS)]}-{stage}-{random[5:8].hex()}",
        project=project, stage=stage, serial=random.hex(), user=user, account=account,
        partition=partition, at=at,
    )  # fmt: skip
