"""Our own access to AWS: sessions as the user has set them up, and calls that our own watch recognises.

Every botocore provider works: profiles, environment, SSO, credential_process, chains of roles, MFA, containers and
instances, configured endpoints. Leaked credentials never come here: `scanner.asking` has a connection pool of its own.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Any, Final, NoReturn, cast
from urllib.parse import urlsplit

from firedamp.storage import nonce
from firedamp.storage.errors import AwsFailure, Failure
from firedamp.storage.records import OwnCall
from firedamp.storage.refusals import failures, hint
from firedamp.storage.secret import Secret

if TYPE_CHECKING:
    import boto3
    from botocore.awsrequest import AWSPreparedRequest
    from botocore.loaders import Loader
    from types_boto3_cloudtrail import CloudTrailClient
    from types_boto3_iam import IAMClient
    from types_boto3_sns import SNSClient
    from types_boto3_sqs import SQSClient
    from types_boto3_sts import STSClient

PRODUCT: Final = "firedamp"
_HOME_REGION: Final = "us-east-1"
"""Where IAM and the global services are recorded (CloudTrail guide, "global service events")."""
IAM_HOMES: Final = {"aws": _HOME_REGION, "aws-cn": "cn-north-1", "aws-us-gov": "us-gov-west-1"}
"""IAM's region in each partition (AWS General Reference, "IAM endpoints"); other partitions have one of their own."""
_CREDENTIALS: Final = frozenset({"AccessKeyId", "SecretAccessKey", "SessionToken", "Expiration"})
_DIGITS: Final = 6
"""Of an MFA code (STS API, AssumeRole: TokenCode)."""


class Aws:
    """Clients of AWS services for the profiles of this machine's user.

    write_down keeps an own call before it is sent. profile None is the SDK's own choice. A client is made once for
    each service, region, profile and purpose, and reused. asking: the code of an MFA device may be asked for.
    """

    def __init__(
        self,
        *,
        now: Callable[[], datetime],
        random: Callable[[int], bytes],
        write_down: Callable[[OwnCall], None],
        user_agent: str = PRODUCT,
        asking: bool = True,
    ) -> None:
        self._asking = asking
        self._now, self._random, self._write_down, self._user_agent = now, random, write_down, user_agent
        self._sessions: dict[str | None, boto3.Session] = {}
        self._entering = threading.Lock()
        self._clients: dict[tuple[str, str | None, str | None, str | None], Any] = {}
        self._about: ContextVar[str | None] = ContextVar("about", default=None)

    def session(self, profile: str | None = None) -> boto3.Session:
        """Return the session of a profile, whose credentials are at hand if it has any: a code is asked for here.

        One that a code began and that has ended is begun anew by what another process typed: nobody is asked in the
        middle of a watch, which would wait for an answer and see nothing. Raises AwsFailure when there is no such
        profile, or when its credentials cannot be had.
        """
        with self._entering:  # two threads would ask for two codes
            known = self._sessions.get(profile)
            if known is None or _ended(known):
                self._sessions[profile] = _entered(profile, asking=self._asking and known is None)
                self._clients = {key: client for key, client in self._clients.items() if key[2] != profile}
            return self._sessions[profile]

    def leaked(self, key_id: str, secret: Secret, token: Secret | None, partition: str = "aws") -> Aws:
        """Return access as a leaked key, with a session of its own: it never meets a profile or cache of the user's.

        partition is the one that the key is of: no other one is asked about it.
        """
        import boto3
        from botocore.session import Session

        core = Session()
        # No file and no variable of the user's takes part; an endpoint that was configured still does.
        core.set_config_variable("credentials_file", os.devnull)
        core.set_config_variable("config_file", os.devnull)
        if partition in IAM_HOMES:
            core.set_config_variable("region", IAM_HOMES[partition])
        core.set_credentials(key_id, secret.reveal(), None if token is None else token.reveal())
        other = Aws(now=self._now, random=self._random, write_down=self._write_down, user_agent=self._user_agent)
        other._sessions[None] = share_models(boto3.Session(botocore_session=core))
        other._about.set(key_id)
        return other

    @contextlib.contextmanager
    def about(self, key_id: str) -> Iterator[None]:
        """Say which key the calls made inside are about: it is written down with them."""
        token = self._about.set(key_id)
        try:
            yield
        finally:
            self._about.reset(token)

    def iam(self, profile: str | None = None, purpose: str | None = None) -> IAMClient:
        """Return a client of IAM, which lives in one region of the partition that the profile is of."""
        from botocore.exceptions import UnknownRegionError

        session = self.session(profile)
        try:
            partition = session.get_partition_for_region(session.region_name or _HOME_REGION)
        except UnknownRegionError:
            partition = "aws"
        client: IAMClient = self.client("iam", IAM_HOMES.get(partition, session.region_name), profile, purpose)
        return client

    def sts(self, region: str | None = None, profile: str | None = None) -> STSClient:
        """Return a client of the token service."""
        client: STSClient = self.client("sts", region, profile)
        return client

    def cloudtrail(self, region: str | None = None, profile: str | None = None) -> CloudTrailClient:
        """Return a client of CloudTrail."""
        client: CloudTrailClient = self.client("cloudtrail", region, profile)
        return client

    def sqs(self, region: str | None = None, profile: str | None = None) -> SQSClient:
        """Return a client of the queue service."""
        client: SQSClient = self.client("sqs", region, profile)
        return client

    def sns(self, region: str) -> SNSClient:
        """Return a client of the notification service."""
        client: SNSClient = self.client("sns", region)
        return client

    def client(
        self, service: str, region: str | None = None, profile: str | None = None, purpose: str | None = None
    ) -> Any:
        """Return a client of any service.

        With a purpose, every request carries a nonce and is written down before it is sent: for calls about a watched
        key or with one. Without, the user agent names us and no more.
        """
        key = (service, region, profile, purpose)
        session = self.session(profile)
        if key not in self._clients:
            from botocore.config import Config
            from botocore.exceptions import BotoCoreError

            config = Config(user_agent_extra=self._user_agent, retries={"mode": "standard", "total_max_attempts": 5})
            try:
                made: Any = session.client(
                    service, region_name=region or session.region_name or _HOME_REGION, config=config
                )  # type: ignore[call-overload]
            except (BotoCoreError, ValueError) as error:  # the second: an endpoint that is no URL
                raise AwsFailure(f"{service} cannot be called: {error}", "firedamp doctor says what is set up") from (
                    error
                )
            if purpose is not None:
                event = f"before-send.{made.meta.service_model.service_id.hyphenize()}"
                made.meta.events.register_last(event, self._marker(service, session, purpose))
            self._clients[key] = made
        return self._clients[key]

    def identity(self, profile: str | None = None) -> str:
        """Return the ARN that a profile acts as. Raises AwsFailure with the reason when it acts as nobody."""
        client, name = self.sts(profile=profile), self.session(profile).profile_name
        with failures(f"who the AWS profile {name} is cannot be asked"):
            return client.get_caller_identity()["Arn"]

    def _marker(self, service: str, session: boto3.Session, purpose: str) -> Callable[..., None]:
        def mark(request: AWSPreparedRequest, event_name: str, **_: object) -> None:
            # Called for every attempt: a retry is a request of its own, with a nonce of its own. The user agent is not
            # among the signed headers, and botocore writes it anew until just before this.
            made = nonce.make(self._random(nonce.BYTES))
            credentials = session.get_credentials()
            operation = event_name.rpartition(".")[2]
            self._write_down(
                OwnCall(
                    nonce=made, key_id=self._about.get(),
                    principal="" if credentials is None else credentials.get_frozen_credentials().access_key or "",
                    call=f"{service}:{operation}", host=urlsplit(request.url).netloc.rpartition("@")[2],
                    at=self._now(), purpose=purpose,
                )
            )  # fmt: skip
            agent = request.headers.get("User-Agent") or self._user_agent
            request.headers["User-Agent"] = f"{_text(agent)} {nonce.mark(made)}"

        return mark


def _text(header: object) -> str:
    """Return a header's value: a prepared request has them as bytes."""
    return header.decode() if isinstance(header, bytes) else str(header)


def share_models(session: boto3.Session) -> boto3.Session:
    """Return session, which now knows the services' models from the other sessions of this process.

    Each would parse two megabytes of JSON for its first client: 60 to 100 ms a profile, an account, a drilled canary.
    """
    core: Any = session._session  # noqa: SLF001 - boto3 has no public door to the loader
    core.register_component("data_loader", _models(core.get_config_variable("data_path")))
    return session


@cache
def _models(folders: str | None) -> Loader:
    from botocore.loaders import create_loader

    return create_loader(folders)


def _ended(session: boto3.Session) -> bool:
    """Whether the session that an MFA code began is over: botocore asks for none a second time."""
    from botocore.exceptions import RefreshWithMFAUnsupportedError

    try:
        credentials = session.get_credentials()
        if credentials is not None:
            credentials.get_frozen_credentials()
    except RefreshWithMFAUnsupportedError:
        return True
    except Exception:  # noqa: BLE001 - whatever else it is, the call that needs them says it
        return False
    return False


def _entered(profile: str | None, *, asking: bool) -> boto3.Session:
    """Return a new session, which has taken its credentials from the user's chain of providers."""
    import boto3
    from botocore.exceptions import BotoCoreError, ProfileNotFound

    try:
        session = share_models(boto3.Session(profile_name=profile))
        _prepare_roles(session, asking=asking)
    except BotoCoreError as error:
        name = profile or os.environ.get("AWS_PROFILE") or os.environ.get("AWS_DEFAULT_PROFILE") or "default"
        hint = "aws configure list-profiles" if isinstance(error, ProfileNotFound) else "mend that file"
        raise AwsFailure(f"the AWS profile {name} cannot be used: {error}", hint) from error
    try:
        credentials = session.get_credentials()
        if credentials is not None:
            credentials.get_frozen_credentials()
    except Failure:
        raise
    except Exception as error:  # a program's words that are no JSON, a file that is gone: each raises what it likes
        raise AwsFailure(
            f"the AWS profile {session.profile_name} cannot be used: {_told(error)}", _way_in(error, session)
        ) from error
    return session


def _told(error: Exception) -> str:
    """Return an error in its own words, with its kind where those alone say little."""
    from botocore.exceptions import BotoCoreError, ClientError

    if isinstance(error, ClientError):
        return f"{error.response['Error'].get('Code')}: {error.response['Error'].get('Message')}"
    return str(error) if isinstance(error, BotoCoreError | OSError) else f"{type(error).__name__}: {error}"


def _way_in(error: Exception, session: boto3.Session) -> str:
    """Return what makes a profile usable whose credentials cannot be had."""
    from botocore.exceptions import BotoCoreError, ClientError, LoginError, SSOError, TokenRetrievalError

    profile, core = session.profile_name, cast("Any", session)._session  # noqa: SLF001 - no public door to its settings
    # What is no error of botocore's is a cached token that cannot be read.
    broken = not isinstance(error, BotoCoreError | ClientError)
    if isinstance(error, SSOError | TokenRetrievalError) or (
        broken and any(each.startswith("sso_") for each in core.get_scoped_config())
    ):
        return f"aws sso login --profile {profile}"
    if isinstance(error, LoginError):
        return f"aws login --profile {profile}"
    if not isinstance(error, ClientError):
        return f"look at the profile {profile} in ~/.aws/config and ~/.aws/credentials"
    code, message = error.response["Error"].get("Code", ""), error.response["Error"].get("Message", "")
    if "MultiFactorAuthentication" in message:
        return f"again, with a new code (each works once) of the device that mfa_serial of {profile} names"
    if "AccessDenied" in code:
        return f"look at role_arn of the profile {profile}, the role's trust policy and what its source profile may"
    return hint(code, message)


def _prepare_roles(session: boto3.Session, *, asking: bool) -> None:
    """Share the AWS CLI's cache of assumed roles: MFA is asked for once an hour, not once a process."""
    from pathlib import Path

    from botocore.utils import JSONFileCache

    class Cache(JSONFileCache):
        """One that a file cut short, or a home that cannot be written, makes no obstacle: the role is asked again."""

        def __contains__(self, key: str) -> bool:
            try:
                return bool(self[key]["Credentials"].keys() >= _CREDENTIALS)
            except (KeyError, TypeError, AttributeError):
                return False

        def __setitem__(self, key: str, value: object) -> None:
            with contextlib.suppress(OSError):
                super().__setitem__(key, value)

    core: Any = session._session  # noqa: SLF001 - boto3 has no public door to the provider chain
    provider = core.get_component("credential_provider").get_provider("assume-role")
    provider.cache = Cache(str(Path("~/.aws/cli/cache").expanduser()))
    name = session.profile_name
    provider._prompter = lambda prompt: _code(prompt, name) if asking else _nobody(name)  # noqa: SLF001 - as above


def _nobody(profile: str) -> NoReturn:
    raise AwsFailure(f"the session that an MFA code began for the AWS profile {profile} has ended", _typed(profile))


def _typed(profile: str) -> str:
    return f"aws sts get-caller-identity --profile {profile}   in a terminal: what it caches is used here, too"


def _code(prompt: str, profile: str) -> str:
    """Return the code of an MFA device as it is typed, without the spaces that devices show in it."""
    import getpass
    import warnings

    nobody = AwsFailure(f"the AWS profile {profile} needs an MFA code, and nobody types one here", _typed(profile))
    if threading.current_thread().daemon:  # one that is left alone at a deadline: the terminal would stay without echo
        raise nobody
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", getpass.GetPassWarning)  # no terminal: it would read standard input
            code = "".join(getpass.getpass(prompt).split())
    except (EOFError, getpass.GetPassWarning) as error:
        raise nobody from error
    if len(code) != _DIGITS or not code.isdecimal():
        raise AwsFailure(f"the AWS profile {profile} needs an MFA code, and that was none", "again, with six digits")
    return code
