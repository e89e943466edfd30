"""AWS on the wire: which operation a request names, whether its signature is good, and answers in its protocol. Pure.

Operations come from botocore's own service models. Signatures are computed here from the specification ("Signature
Version 4 signing process", IAM guide), so that a client's signer is checked by a second implementation.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import parse_qsl, quote, unquote
from xml.sax.saxutils import escape

import botocore.parsers
import botocore.session
from botocore.exceptions import UnknownServiceError
from botocore.model import ServiceModel

from firedamp.storage.secret import Secret

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

_CREDENTIAL: Final = re.compile(
    r"AWS4-HMAC-SHA256 Credential=([^/,]+)/(\d{8})/([^/]+)/([^/]+)/aws4_request, *"
    r"SignedHeaders=([^,]+), *Signature=([0-9a-f]{64})"
)
_PAST: Final = timedelta(minutes=15)
_FUTURE: Final = timedelta(minutes=5)
_MODEL_NAMES: Final = {"monitoring": "cloudwatch", "access-analyzer": "accessanalyzer", "states": "stepfunctions"}
"""Signing names that botocore knows by another name."""

UNKNOWN: Final = "Unknown"
"""The operation of a request that is no call of AWS."""

Headers = list[tuple[str, str]]
Parameters = dict[str, Any]
"""A call's input as it stands in the request: text from forms and paths, JSON values from JSON bodies."""


class Refusal(Exception):
    """An error answer, as the STS family words it; `refuse` translates it for the other protocols."""

    def __init__(self, code: str, message: str, status: int = 403) -> None:
        super().__init__(message)
        self.code, self.message, self.status = code, message, status


@dataclass(frozen=True, slots=True)
class Request:
    """An HTTP request. target is path and query as they were sent; headers have lower-case names."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    address: str

    @property
    def path(self) -> str:
        """The path, decoded."""
        return unquote(self.target.partition("?")[0])

    @property
    def query(self) -> dict[str, str]:
        """The query, decoded; the last of a repeated name wins."""
        return dict(parse_qsl(self.target.partition("?")[2], keep_blank_values=True))


@dataclass(frozen=True, slots=True)
class Scope:
    """The claim in a signature: whose key, which day, region and service, and the signature itself."""

    key_id: str
    day: str
    region: str
    signing: str
    signed: tuple[str, ...]
    signature: str = field(repr=False)
    presigned: bool


@dataclass(frozen=True, slots=True)
class Call:
    """A request whose operation is known. service is botocore's name of it."""

    request: Request
    scope: Scope
    service: str
    operation: str
    protocol: str
    parameters: Parameters = field(repr=False)
    id: str

    @property
    def region(self) -> str:
        """The region that the signature names; the global endpoint's calls are made in us-east-1."""
        return "us-east-1" if self.scope.region == "aws-global" else self.scope.region

    @property
    def token(self) -> str | None:
        """The session token that came with the request."""
        return self.request.headers.get("x-amz-security-token") or self.request.query.get("X-Amz-Security-Token")

    @property
    def source(self) -> str:
        """The service's short name in CloudTrail's event sources, as in `monitoring`."""
        return {"cloudwatch": "monitoring"}.get(self.prefix, self.prefix)

    @property
    def prefix(self) -> str:
        """The service's short name in policies, as in `cloudwatch`."""
        names = {"email": "ses", "sesv2": "ses", "stepfunctions": "states", "accessanalyzer": "access-analyzer"}
        return names.get(self.service, self.service)

    def text(self, name: str) -> str:
        """Return a parameter as text, empty when it is not there."""
        value = self.parameters.get(name)
        return "" if value is None else str(value)


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP answer."""

    status: int
    headers: Headers
    body: bytes = field(repr=False)


def read_request(environ: WSGIEnvironment) -> Request:
    """Take a request from its WSGI environment. The header X-Sim-Source-Ip, unsigned, stands in for the address."""
    stream = environ["wsgi.input"]
    length = environ.get("CONTENT_LENGTH")
    chunked = "HTTP_TRANSFER_ENCODING" in environ
    body = stream.read() if chunked else stream.read(int(length)) if length else b""
    headers = {name[5:].replace("_", "-").lower(): value for name, value in environ.items() if name[:5] == "HTTP_"}
    for name in ("CONTENT_TYPE", "CONTENT_LENGTH"):
        if environ.get(name):
            headers[name.replace("_", "-").lower()] = environ[name]
    return Request(
        environ["REQUEST_METHOD"],
        environ.get("REQUEST_URI") or environ["PATH_INFO"],
        headers,
        body,
        headers.get("x-sim-source-ip") or environ.get("REMOTE_ADDR", ""),
    )


# Which operation it is.


def identify(request: Request, call_id: str) -> Call:
    """Name the operation of a request. Raises Refusal for one without a signature."""
    scope = _scope(request)
    service = "sesv2" if scope.signing == "ses" and request.path.startswith("/v2/") else scope.signing
    service = _MODEL_NAMES.get(service, service)
    model = _model(service)
    protocol = "json" if model is None else str(model.metadata.get("protocol"))
    operation, parameters = UNKNOWN, cast("Parameters", {})
    target = request.headers.get("x-amz-target")
    if target:
        operation, protocol = target.rsplit(".", 1)[-1], "json"
        parameters = json.loads(request.body or b"{}")
    elif protocol in ("query", "ec2"):
        form = request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded")
        parameters = dict(parse_qsl(request.body.decode(), keep_blank_values=True)) if form else request.query
        operation = str(parameters.get("Action", operation))
    elif model is not None:
        operation, parameters = _route(model, request)
    if model is None or operation not in model.operation_names:
        operation = UNKNOWN
    return Call(request, scope, service, operation, protocol, parameters, call_id)


def _scope(request: Request) -> Scope:
    found = _CREDENTIAL.match(request.headers.get("authorization", ""))
    if found:
        key_id, day, region, signing, signed, signature = found.groups()
        return Scope(key_id, day, region, signing, tuple(signed.split(";")), signature, presigned=False)
    query = request.query
    parts = query.get("X-Amz-Credential", "").split("/")
    if len(parts) == 5:
        signed = query.get("X-Amz-SignedHeaders", "")
        signature = query.get("X-Amz-Signature", "")
        key_id, day, region, signing, _ = parts
        return Scope(key_id, day, region, signing, tuple(signed.split(";")), signature, presigned=True)
    raise Refusal("MissingAuthenticationToken", "Request is missing Authentication Token")


@cache
def _session() -> botocore.session.Session:
    return botocore.session.get_session()


@cache
def _model(service: str) -> ServiceModel | None:
    try:
        return _session().get_service_model(service)
    except UnknownServiceError:
        return None


@dataclass(frozen=True, slots=True)
class _Route:
    """How a REST operation is told: method, path, and what must stand in query and headers."""

    weight: tuple[int, int, int]
    name: str
    method: str
    path: re.Pattern[str]
    fixed: tuple[tuple[str, str], ...]
    needed: tuple[str, ...]
    copies: bool

    def fits(self, request: Request) -> re.Match[str] | None:
        query = request.query
        if self.method != request.method or any(name not in query for name in self.needed):
            return None
        if any(name not in query or (value and query[name] != value) for name, value in self.fixed):
            return None
        if self.copies and "x-amz-copy-source" not in request.headers:
            return None
        return self.path.fullmatch(request.path)


@cache
def _routes(service: str) -> tuple[_Route, ...]:
    """Return a REST service's operations, the most specific first."""
    model = _model(service)
    routes: list[_Route] = []
    for name in () if model is None else model.operation_names:
        operation = cast("ServiceModel", model).operation_model(name)
        path, _, query = operation.http["requestUri"].partition("?")
        pattern = re.sub(r"\\\{(\w+)\\\+\\\}", r"(?P<\1>.+)", re.escape(path))
        pattern = re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^/]+)", pattern)
        shape: Any = operation.input_shape
        places = [shape.members[member].serialization for member in shape.required_members] if shape else []
        fixed = tuple(parse_qsl(query, keep_blank_values=True))
        needed = tuple(place["name"] for place in places if place.get("location") == "querystring")
        copies = any(str(place.get("name")).lower() == "x-amz-copy-source" for place in places)
        weight = (len(fixed) + len(needed) + copies, len(re.sub(r"\{.*?\}", "", path)), -path.count("{"))
        routes.append(_Route(weight, name, operation.http["method"], re.compile(pattern + "/?"), fixed, needed, copies))
    return tuple(sorted(routes, key=lambda route: route.weight, reverse=True))


def _route(model: ServiceModel, request: Request) -> tuple[str, Parameters]:
    for route in _routes(model.service_name):
        found = route.fits(request)
        if found:
            query = {name: value for name, value in request.query.items() if not name.startswith("X-Amz-")}
            return route.name, {**found.groupdict(), **query}
    return UNKNOWN, {}


# Whether the signature is good.


def check_signature(call: Call, secret: Secret, wall: datetime) -> None:
    """Raise Refusal unless the request was signed with secret, within 15 minutes before or 5 after wall."""
    _check_time(call, wall)
    claimed = call.request.headers.get("x-amz-content-sha256", "")
    altered = re.fullmatch("[0-9a-f]{64}", claimed) and claimed != hashlib.sha256(call.request.body).hexdigest()
    if altered or not hmac.compare_digest(_signature(call, secret), call.scope.signature):
        raise Refusal(
            "SignatureDoesNotMatch",
            "The request signature we calculated does not match the signature you provided. Check your AWS Secret "
            "Access Key and signing method. Consult the service documentation for details.",
        )


def _stamp(call: Call) -> str:
    sent = call.request.query if call.scope.presigned else call.request.headers
    return sent.get("X-Amz-Date" if call.scope.presigned else "x-amz-date", "")


def _check_time(call: Call, wall: datetime) -> None:
    def plain(moment: datetime) -> str:
        return f"{moment:%Y%m%dT%H%M%SZ}"

    try:
        signed = datetime.strptime(_stamp(call), "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        raise Refusal("IncompleteSignature", "Date must be in ISO-8601 'basic format'.", 400) from None
    lasts = timedelta(seconds=int(call.request.query.get("X-Amz-Expires", 900))) if call.scope.presigned else _PAST
    if call.service == "s3" and not call.scope.presigned and not -_PAST < wall - signed < _PAST:
        message = "The difference between the request time and the current time is too large."
        raise Refusal("RequestTimeTooSkewed", message)
    if wall - signed > lasts:
        message = (
            f"Signature expired: {plain(signed)} is now earlier than {plain(wall - lasts)} ({plain(wall)} - 15 min.)"
        )
        raise Refusal("SignatureDoesNotMatch", message)
    if signed - wall > _FUTURE:
        limit = plain(wall + _FUTURE)
        message = f"Signature not yet current: {plain(signed)} is still later than {limit} ({plain(wall)} + 5 min.)"
        raise Refusal("SignatureDoesNotMatch", message)


def _signature(call: Call, secret: Secret) -> str:
    scope = call.scope
    area = f"{scope.day}/{scope.region}/{scope.signing}/aws4_request"
    digest = hashlib.sha256(_canonical(call).encode()).hexdigest()
    key = b"AWS4" + secret.reveal().encode()
    for part in area.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.digest(key, f"AWS4-HMAC-SHA256\n{_stamp(call)}\n{area}\n{digest}".encode(), "sha256").hex()


def _canonical(call: Call) -> str:
    request, scope = call.request, call.scope
    path, _, query = request.target.partition("?")
    # S3 signs the path as it is sent; every other service signs it encoded once more.
    path = path if scope.signing == "s3" else quote(path, safe="/~")
    pairs = sorted(
        (quote(unquote(name), safe="~"), quote(unquote(value), safe="~"))
        for name, _, value in (part.partition("=") for part in query.split("&") if part)
        if name != "X-Amz-Signature"
    )
    headers = "".join(f"{name}:{' '.join(request.headers.get(name, '').split())}\n" for name in scope.signed)
    payload = request.headers.get("x-amz-content-sha256") or hashlib.sha256(request.body).hexdigest()
    if scope.presigned and scope.signing == "s3":
        payload = "UNSIGNED-PAYLOAD"
    query = "&".join(f"{name}={value}" for name, value in pairs)
    return "\n".join([request.method, path, query, headers, ";".join(scope.signed), payload])


# Answers.

_QUERY_JSON: Final = "sqs"
"""The service that speaks JSON with the error codes of the query protocol it grew up with."""
_JSON_CODES: Final = {
    "InvalidClientTokenId": "UnrecognizedClientException",
    "SignatureDoesNotMatch": "InvalidSignatureException",
    "AccessDenied": "AccessDeniedException",
    "ExpiredToken": "ExpiredTokenException",
    "MissingAuthenticationToken": "MissingAuthenticationTokenException",
    "Throttling": "ThrottlingException",
}
_EC2_CODES: Final = {
    "InvalidClientTokenId": "AuthFailure",
    "SignatureDoesNotMatch": "AuthFailure",
    "AccessDenied": "UnauthorizedOperation",
    "ExpiredToken": "RequestExpired",
    "Throttling": "RequestLimitExceeded",
}
_S3_CODES: Final = {"InvalidClientTokenId": "InvalidAccessKeyId", "Throttling": "SlowDown"}


def answer(call: Call, fields: Mapping[str, Any]) -> Reply:
    """Return a success of a call that is answered here: query-protocol XML or JSON."""
    if call.protocol == "json":
        headers = [("Content-Type", "application/x-amz-json-1.1"), ("x-amzn-RequestId", call.id)]
        return Reply(200, headers, json.dumps(fields).encode())
    name = call.operation
    body = (
        f"<{name}Response><{name}Result>{_xml(fields)}</{name}Result>"
        f"<ResponseMetadata><RequestId>{call.id}</RequestId></ResponseMetadata></{name}Response>"
    )
    return Reply(200, [("Content-Type", "text/xml"), ("x-amzn-RequestId", call.id)], body.encode())


def error_code(call: Call, code: str) -> str:
    """Return what a call's own service says in the place of an STS error code."""
    if call.service == "s3":
        return _S3_CODES.get(code, code)
    if call.protocol == "ec2":
        return _EC2_CODES.get(code, code)
    if call.service == "sns" and code == "AccessDenied":
        return "AuthorizationError"
    if call.protocol in ("query", "rest-xml") or call.service == _QUERY_JSON:
        return code
    return _JSON_CODES.get(code, code)


def refuse(call: Call, refusal: Refusal) -> Reply:
    """Return an error in the call's protocol."""
    code, message, status = error_code(call, refusal.code), refusal.message, refusal.status
    if code == "InvalidAccessKeyId":
        message = "The AWS Access Key Id you provided does not exist in our records."
    identified = ("x-amzn-RequestId", call.id)
    if call.protocol in ("query", "rest-xml", "ec2"):
        error = f"<Error><Code>{code}</Code><Message>{escape(message)}</Message>"
        if call.service == "s3":
            body = f'<?xml version="1.0" encoding="UTF-8"?>\n{error}<RequestId>{call.id}</RequestId></Error>'
            return Reply(status, [("Content-Type", "application/xml"), ("x-amz-request-id", call.id)], body.encode())
        if call.protocol == "ec2":
            status = 401 if code == "AuthFailure" else status
            body = f"<Response><Errors>{error}</Error></Errors><RequestID>{call.id}</RequestID></Response>"
        else:
            error = error.replace("<Error>", "<Error><Type>Sender</Type>")
            body = f"<ErrorResponse>{error}</Error><RequestId>{call.id}</RequestId></ErrorResponse>"
        return Reply(status, [("Content-Type", "text/xml"), identified], body.encode())
    # JSON services answer 400 whatever is wrong; REST services use the status that fits.
    status = 400 if call.protocol == "json" and status == 403 else status
    headers = [("Content-Type", "application/x-amz-json-1.1"), ("x-amzn-ErrorType", code), identified]
    if call.service == _QUERY_JSON:
        headers.append(("x-amzn-query-error", f"{code};Sender"))
    return Reply(status, headers, json.dumps({"__type": code, "message": message}).encode())


def parse_reply(call: Call, reply: Reply) -> tuple[Parameters, tuple[str, str] | None]:
    """Read an answer with botocore's parser: its fields, and (code, message) when it is an error."""
    model = cast("ServiceModel", _model(call.service))
    shape: Any = model.operation_model(call.operation).output_shape
    answer_parts = {
        "status_code": reply.status,
        "headers": {name.lower(): value for name, value in reply.headers},
        "body": reply.body,
    }
    parser = botocore.parsers.create_parser(call.protocol)
    try:
        fields: Parameters = parser.parse(answer_parts, shape)
    except botocore.parsers.ResponseParserError:
        return {}, ("InternalFailure", "") if reply.status >= 400 else None
    fields.pop("ResponseMetadata", None)
    error = fields.pop("Error", None)
    if reply.status < 400:
        return fields, None
    return {}, (str((error or {}).get("Code", "InternalFailure")), str((error or {}).get("Message", "")))


def _xml(value: Any) -> str:
    match value:
        case Mapping():
            return "".join(f"<{name}>{_xml(item)}</{name}>" for name, item in value.items())
        case list() | tuple():
            return "".join(f"<member>{_xml(item)}</member>" for item in value)
        case datetime():
            return f"{value:%Y-%m-%dT%H:%M:%SZ}"
        case _:
            return escape(str(value))
