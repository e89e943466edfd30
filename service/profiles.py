"""The literal keys in this user's AWS files: read into memory, for `--own-keys`, and never kept."""

from __future__ import annotations

import configparser
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from firedamp.scanner.ownkeys import OwnKey, OwnKeys
from firedamp.storage.errors import UsageFailure
from firedamp.storage.secret import Secret

_FILES: Final = (("AWS_SHARED_CREDENTIALS_FILE", "credentials"), ("AWS_CONFIG_FILE", "config"))


def own_keys(environment: Mapping[str, str]) -> OwnKeys:
    """Return the keys that stand in the AWS credentials and config files; raises UsageFailure when there is none.

    The format is the SDK's: INI, `[NAME]` in the credentials file, `[profile NAME]` in the config file.
    """
    found: dict[tuple[str, Secret], OwnKey] = {}
    for variable, name in _FILES:
        path = Path(environment.get(variable) or Path.home() / ".aws" / name)
        for key in _in_file(path):
            found.setdefault((key.key_id, key.secret), key)
    if not found:
        raise UsageFailure(
            "no AWS profile holds a key of its own", "--own-keys looks for the secrets of local profiles"
        )
    return OwnKeys(tuple(found.values()))


def _in_file(path: Path) -> Iterator[OwnKey]:
    # strict=False: the SDK takes the last of two sections or names, too.
    parser = configparser.RawConfigParser(strict=False, default_section="firedamp has none")
    try:
        parser.read_string(path.read_text(encoding="utf-8", errors="surrogateescape"))
    except FileNotFoundError:
        return
    except (OSError, configparser.Error) as error:
        raise UsageFailure(f"{path} cannot be read: {type(error).__name__}") from error
    for section in parser.sections():
        key_id = parser.get(section, "aws_access_key_id", fallback="").strip()
        secret = parser.get(section, "aws_secret_access_key", fallback="").strip()
        if key_id and len(secret) >= 16:
            yield OwnKey(section.removeprefix("profile "), key_id, Secret(secret))
