"""What botocore raises, in words: what was tried, AWS's own reason, and what to do next."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Final

from firedamp.storage.errors import AwsFailure, Failure

_DENIED_IN: Final = re.compile(r"with an explicit deny in (an? [a-zA-Z -]+(?:policy|boundary))")
_NOT_ALLOWED_BY: Final = re.compile(r"because no ([a-zA-Z -]+(?:policy|boundary)) allows")
"""How a refusal names the policy that decided (IAM guide, "Troubleshoot access denied error messages")."""
_SKEWED: Final = re.compile(r"Signature (?:expired|not yet current)")


@contextlib.contextmanager
def failures(what: str, kind: type[Failure] = AwsFailure) -> Iterator[None]:
    """Turn what botocore raises into a Failure of a kind that says what was tried, and AWS's own reason."""
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, RefreshWithMFAUnsupportedError

    try:
        yield
    except ClientError as error:
        told = error.response.get("Error", {})
        code, message = told.get("Code", "no code"), told.get("Message", "no message")
        raise kind(f"{what}: {code}: {message}", hint(code, message)) from error
    except NoCredentialsError as error:
        raise kind(f"{what}: there are no credentials", "aws configure sso, or aws configure") from error
    except RefreshWithMFAUnsupportedError as error:
        raise kind(f"{what}: the session that an MFA code began has ended", "start the command again") from error
    except BotoCoreError as error:
        raise kind(f"{what}: {error}", "firedamp doctor says what is set up") from error


def hint(code: str, message: str) -> str:
    """Return what to do about what AWS answered, as far as its code and words tell."""
    if code == "RequestTimeTooSkewed" or _SKEWED.search(message):
        return "set the clock of this machine: it is not AWS's (timedatectl, or the clock of the host it runs on)"
    if "AccessDenied" in code or "Unauthorized" in code:
        if denied := _DENIED_IN.search(message):
            return f"{denied[1]} denies it: no other policy can allow that, only a change there, or another profile"
        if (bound := _NOT_ALLOWED_BY.search(message)) and bound[1] != "identity-based policy":
            return f"its {bound[1]} must allow it, too"
        return "the policies that firedamp needs stand in deploy/policies; firedamp doctor names what is missing"
    if code in {"InvalidClientTokenId", "UnrecognizedClientException", "InvalidAccessKeyId"}:
        # A session of GetSessionToken without MFA is known, and IAM says so of it all the same.
        return (
            "use another profile: this one's key is unknown to AWS or inactive, or its session (of GetSessionToken "
            "without MFA, or of GetFederationToken) is none that IAM takes"
        )
    if "Throttl" in code or code in {"RequestLimitExceeded", "TooManyRequestsException", "SlowDown"}:
        return "the same again in a minute: AWS answers this account more slowly than it is asked"
    if "ExpiredToken" in code:
        return (
            "its session has ended: log in again (aws sso login, aws login), or put a new token where this one stands, "
            "in the environment or in ~/.aws/credentials; a leaked one is of no more use to anybody"
        )
    return ""
