"""How a question reaches AWS: one signed request over HTTPS, and what comes back taken apart with suspicion.

A request is signed with botocore's own signer and sent over a pool of connections of our own: leaked credentials never
meet a session, a profile or a cache of the user's, and a thousand of them cost a thousand requests and nothing more.
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from html import unescape
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies

from firedamp.scanner.candidates import Credential
from firedamp.scanner.verify import Answer, Identity, Question, Refused, Trouble, in_time
from firedamp.storage import nonce
from firedamp.storage.deadline import within
from firedamp.storage.records import KeyKind, OwnCall

if TYPE_CHECKING:
    from botocore.awsrequest import AWSPreparedRequest
    from botocore.httpsession import URLLib3Session

_LARGEST: Final = 64 << 10
"""Bytes of an answer that are read: STS's are below 2 KiB."""

_LATE: Final = "no answer in time"

_BODY: Final = b"Action=GetCallerIdentity&Version=2011-06-15"
_STS: Final = {
    "aws": ("sts.us-east-1.amazonaws.com", "us-east-1"),
    "aws-us-gov": ("sts.us-gov-west-1.amazonaws.com", "us-gov-west-1"),
    "aws-cn": ("sts.cn-north-1.amazonaws.com.cn", "cn-north-1"),
}
_REGIONS: Final = {
    "aws": frozenset({
        "us-east-1", "us-east-2", "us-west-1", "us-west-2", "ca-central-1", "sa-east-1", "eu-west-1", "eu-west-2",
        "eu-west-3", "eu-central-1", "eu-north-1", "ap-south-1", "ap-southeast-1", "ap-southeast-2", "ap-northeast-1",
        "ap-northeast-2", "ap-northeast-3",
    }),
    "aws-us-gov": frozenset({"us-gov-west-1", "us-gov-east-1"}),
    "aws-cn": frozenset({"cn-north-1", "cn-northwest-1"}),
}  # fmt: skip
"""Where every key of a partition is known. A region that an account must enable first says InvalidClientTokenId of the
living keys of those that did not, and of session tokens of the global endpoint (IAM guide, "Manage AWS STS in an AWS
Region"): it is not asked, nor is one that does not exist."""
_REGION_NAME: Final = r"[a-z]{2}(?:-[a-z]{3,12}){1,2}-\d"
_REGION: Final = re.compile(rf"\b{_REGION_NAME}\b")
_SCOPE: Final = re.compile(rf"X-Amz-Credential=[^&/]+/\d{{8}}/({_REGION_NAME})/bedrock/")

# An answer of STS is XML of one of two forms; anything else, a proxy's HTML with status 403 above all, is a stranger's.
_IDENTITY: Final = re.compile(rb'\s*(?:<\?xml[^>]*>\s*)?<GetCallerIdentityResponse(?:\s+xmlns="[^"]*")?\s*>')
_ERROR: Final = re.compile(rb'\s*(?:<\?xml[^>]*>\s*)?<ErrorResponse(?:\s+xmlns="[^"]*")?\s*>')
_ARN: Final = re.compile(r"\barn:aws[a-z-]*:[a-z0-9-]*:[a-z0-9-]*:(\d{12}):[^\s\"'<>]{1,600}")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a question goes. pinned: the user named it, so no other partition exists."""

    url: str
    region: str


def endpoint(credential: Credential, partition: str, service: str, environ: Mapping[str, str]) -> Endpoint:
    """Return where to ask: the endpoint the user configured, else the regional one the surroundings name."""
    named = configured_endpoint(service, environ)
    host, region = _STS[partition]
    found = next((each for each in _REGION.findall(credential.hint) if each in _REGIONS[partition]), region)
    host, region = host.replace(region, found), found
    if service != "sts":
        region = _signed_for(credential) or "us-east-1"
        host = f"{service}.{region}.amazonaws.com"
    return Endpoint(named or f"https://{host}/", region)


def configured_endpoint(service: str, environ: Mapping[str, str]) -> str | None:
    """Return AWS_ENDPOINT_URL_<SERVICE> or AWS_ENDPOINT_URL, unless the user has them ignored."""
    if environ.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "").lower() == "true":
        return None
    return environ.get(f"AWS_ENDPOINT_URL_{service.upper()}") or environ.get("AWS_ENDPOINT_URL") or None


def _signed_for(credential: Credential) -> str:
    """Return the region that a short-term Bedrock key was signed for: every other one refuses it. Nothing if unknown.

    It is a presigned URL in base64 (Bedrock guide, "Generate a short-term Amazon Bedrock API key").
    """
    if credential.kind is not KeyKind.BEDROCK_SHORT or credential.secret is None:
        return ""
    packed = credential.secret.reveal().removeprefix("bedrock-api-key-").rstrip("=")
    try:
        url = unquote(base64.b64decode(packed + "=" * (-len(packed) % 4)).decode("ascii", "replace"))
    except ValueError:
        return ""
    found = _SCOPE.search(url)
    return "" if found is None else found[1]


class Asker:
    """Asks AWS over HTTPS. Each request carries a fresh nonce that was written down before.

    `announce` is called for a question before it is asked; the record it returns goes into the store.
    """

    def __init__(
        self,
        *,
        user_agent: str,
        timeout: float,
        concurrency: int,
        now: Callable[[], datetime],
        random: Callable[[int], bytes],
        environ: Mapping[str, str] | None = None,
    ) -> None:
        from botocore.httpsession import URLLib3Session

        self._environ = os.environ if environ is None else environ
        self._user_agent = user_agent
        self._now, self._random, self._timeout = now, random, timeout
        self._nonces: dict[int, str] = {}
        self._http: URLLib3Session = URLLib3Session(
            verify=self._environ.get("AWS_CA_BUNDLE") or True,  # type: ignore[arg-type] # a path too, says botocore
            proxies=getproxies(),
            timeout=timeout,  # type: ignore[arg-type] # fractions too
            max_pool_connections=concurrency,
        )  # fmt: skip

    def announce(self, question: Question) -> OwnCall:
        """Return the call that is about to be made, to be written down before it is."""
        mark = nonce.make(self._random(nonce.BYTES))
        self._nonces[id(question)] = mark
        bedrock = _is_bedrock(question.credential)
        where = endpoint(question.credential, question.partition, _service(question.credential), self._environ)
        return OwnCall(
            nonce=mark, key_id=question.credential.key_id, principal=question.credential.key_id or "",
            call="bedrock:ListFoundationModels" if bedrock else "sts:GetCallerIdentity",
            host=urlsplit(where.url).netloc.rpartition("@")[2], at=self._now(), purpose="verify",
        )  # fmt: skip

    def __call__(self, question: Question) -> Answer:
        """Ask AWS. Whatever goes wrong on the way is Trouble with its reason, never a refusal."""
        from botocore.exceptions import HTTPClientError

        mark = self._nonces.pop(id(question), None)
        if mark is None:
            return Trouble("the call was not written down before it was made")
        agent = f"{self._user_agent} {nonce.mark(mark)}"
        try:
            request = _request(question, agent, self._environ)
            status, headers, body = within(self._timeout, lambda: self._exchange(request))
        except TimeoutError:
            return Trouble(_LATE)
        except (HTTPClientError, OSError, ValueError) as error:
            return Trouble(_why(error))
        except Exception as error:  # noqa: BLE001 - urllib3 raises its own kinds while a body is read
            return Trouble(f"the answer broke off: {type(error).__name__}")
        if len(body) > _LARGEST:
            return Trouble("the answer is too long to be AWS's")
        length = headers.get("content-length", "")
        if length.isdecimal() and int(length) != len(body):
            return Trouble("the answer broke off")
        if _is_bedrock(question.credential):
            return read_bedrock(status, headers, body)
        return in_time(read_sts(status, headers, body), self._now())

    def _exchange(self, request: AWSPreparedRequest) -> tuple[int, dict[str, str], bytes]:
        reply = self._http.send(request)
        body = reply.raw.read(_LARGEST + 1)
        reply.raw.release_conn()
        return reply.status_code, {name.lower(): value for name, value in reply.headers.items()}, body

    def close(self) -> None:
        """Close the connections."""
        self._http.close()


def _service(credential: Credential) -> str:
    return "bedrock" if _is_bedrock(credential) else "sts"


def _is_bedrock(credential: Credential) -> bool:
    return credential.kind in {KeyKind.BEDROCK_LONG, KeyKind.BEDROCK_SHORT}


def _request(question: Question, agent: str, environ: Mapping[str, str]) -> AWSPreparedRequest:
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    credential = question.credential
    where = endpoint(credential, question.partition, _service(credential), environ)
    secret = credential.secret
    assert secret is not None  # noqa: S101 - judge asks about whole credentials only
    if _is_bedrock(credential):
        url = where.url.rstrip("/") + "/foundation-models?byOutputModality=TEXT"
        headers = {"Authorization": f"Bearer {secret.reveal()}", "User-Agent": agent, "Accept": "application/json"}
        request = AWSRequest("GET", url, headers)
    else:
        headers = {
            "Content-Type": "application/x-www-form-urlencoded; charset=utf-8", "User-Agent": agent,
            "Accept": "text/xml",
        }  # fmt: skip
        request = AWSRequest("POST", where.url, headers, _BODY)
        token = None if credential.token is None else credential.token.reveal()
        keys = Credentials(credential.key_id or "", secret.reveal(), token)
        SigV4Auth(keys, "sts", where.region).add_auth(request)
    prepared = request.prepare()
    prepared.stream_output = True
    return prepared


def read_sts(status: int, headers: Mapping[str, str], body: bytes) -> Answer:
    """Read an answer of STS. A page that is not its XML is somebody else's, whatever its status."""
    text = body.decode("utf-8", "replace")
    if _IDENTITY.match(body) and status == 200:
        arn, account, user = (_element(text, name) for name in ("Arn", "Account", "UserId"))
        if arn and account:
            return Identity(arn, account, user)
    if _ERROR.match(body):
        code, message = _element(text, "Code"), _element(text, "Message")
        found = _ARN.search(message)
        if code in {"AccessDenied", "AccessDeniedException"} and found is not None:
            # Refused by a policy on the way (a VPC endpoint's): whom it names, it has recognised.
            return Identity(found[0], found[1], "")
        if code:
            return Refused(code, message, _date(headers))
    return Trouble(f"an answer that is not AWS's: HTTP {status} ({headers.get('server', 'unknown server')})")


def read_bedrock(status: int, headers: Mapping[str, str], body: bytes) -> Answer:
    """Read an answer of Bedrock's ListFoundationModels, asked with a bearer token."""
    kind = headers.get("x-amzn-errortype", "").split(":")[0]
    text = body.decode("utf-8", "replace")
    if status == 200 and '"modelSummaries"' in text:
        return Identity("", "", "")
    found = _ARN.search(text)
    if kind == "AccessDeniedException" and "is not authorized to perform" in text and found is not None:
        return Identity(found[0], found[1], "")
    if kind in {"UnrecognizedClientException", "ExpiredTokenException"}:
        return Refused(kind, "", _date(headers))
    if kind == "AccessDeniedException" and "Authentication failed" in text:
        return Refused("UnrecognizedClientException", "", _date(headers))
    return Trouble(f"an answer that decides nothing: HTTP {status} {kind}".strip())


def _element(text: str, name: str) -> str:
    found = re.search(rf"<{name}>([^<]*)</{name}>", text)
    return "" if found is None else unescape(found[1])


def _date(headers: Mapping[str, str]) -> datetime | None:
    try:
        date = parsedate_to_datetime(headers.get("date", ""))
    except ValueError:
        return None
    return date.replace(tzinfo=UTC) if date.tzinfo is None else date


def _why(error: Exception) -> str:
    """Return why a request failed, in words that name the cause and hold nothing of the request."""
    from botocore import exceptions

    match error:
        case exceptions.SSLError():
            return "TLS: the certificate is not trusted (is the connection intercepted?)"
        case exceptions.ProxyConnectionError():
            return "the proxy cannot be reached"
        case exceptions.ConnectTimeoutError() | exceptions.ReadTimeoutError():
            return _LATE
        case exceptions.EndpointConnectionError():
            return "the endpoint cannot be reached, or its name not resolved"
        case exceptions.ConnectionClosedError():
            return "the connection was closed before an answer came"
        case _:
            return f"the request failed: {type(error).__name__}"
