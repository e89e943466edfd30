"""A call as CloudTrail writes it down. Pure.

Source: CloudTrail guide, "record contents", and the log file examples there. A call that was denied has null request
parameters, except in S3; reads have null response elements; no secret is ever written, session tokens are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from firedamp.service.loopback_identity import Identity, Kind
from firedamp.service.loopback_moto import Record, new_id
from firedamp.service.loopback_wire import Call, Reply, parse_reply

_READS: Final = re.compile(
    r"(Get|List|Describe|Head|Lookup|BatchGet|Search|Select|Simulate|Validate|Check|Preview|Query|Scan|AssumeRole$)"
)
_WRITES: Final = frozenset({"GetSessionToken", "GetFederationToken"})
_S3_DATA: Final = re.compile(
    r"(Get|Put|Head|Delete|Copy|Restore|Select|Upload|List|Create|Complete|Abort)"
    r"(Objects?|Part|Object(Acl|Tagging|Attributes|Retention|LegalHold|Torrent|Versions)|Parts|PartCopy|ObjectsV2|"
    r"Multipart\w*)$"
)
_DATA: Final = {
    "sns": frozenset({"Publish", "PublishBatch"}),
    "sqs": frozenset(
        {
            "SendMessage",
            "SendMessageBatch",
            "ReceiveMessage",
            "DeleteMessage",
            "DeleteMessageBatch",
            "ChangeMessageVisibility",
        }
    ),
    "lambda": frozenset({"Invoke"}),
    "events": frozenset({"PutEvents"}),
    "dynamodb": frozenset(
        {"GetItem", "PutItem", "UpdateItem", "DeleteItem", "Query", "Scan", "BatchGetItem", "BatchWriteItem"}
    ),
}
"""Data events: outside LookupEvents, and in a trail only when it selects them."""
_GLOBAL: Final = frozenset({"iam", "organizations", "route53", "cloudfront"})
"""Services whose calls are recorded in us-east-1, wherever they were made."""
_DENIED: Final = frozenset(
    {"AccessDenied", "AccessDeniedException", "Client.UnauthorizedOperation", "AuthorizationError"}
)
_HIDDEN: Final = frozenset(
    {"TokenCode", "SecretString", "SecretBinary", "Password", "NewPassword", "OldPassword", "Value"}
    | {"AuthenticationCode1", "AuthenticationCode2"}
)
_NEVER_SHOWN: Final = frozenset({"SecretAccessKey", "Base32StringSeed", "QRCodePNG", "SecretString", "Password"})


def record_of(call: Call, identity: Identity, reply: Reply, refused: tuple[str, str] | None, now: datetime) -> Record:
    """Return the record of an authenticated call. refused is (code, message) of an error decided before moto."""
    data = _is_data_event(call)
    name = call.operation
    reads = bool(_READS.match(name)) and name not in _WRITES
    fields: Record = {}
    error = refused
    if refused is None and (reply.status >= 400 or not reads or name == "AssumeRole"):
        fields, error = parse_reply(call, reply)
    if error is not None and call.protocol == "ec2":
        error = (f"Client.{error[0]}", error[1])
    agent = call.request.headers.get("user-agent", "")
    record: Record = {
        "eventVersion": "1.11",
        "userIdentity": _user_identity(identity),
        "eventTime": zulu(now),
        "eventSource": f"{call.source}.amazonaws.com",
        "eventName": name,
        "awsRegion": "us-east-1" if call.source in _GLOBAL else call.region,
        "sourceIPAddress": call.request.address,
        "userAgent": f"[{agent}]" if call.service == "s3" else agent,
    }
    if error is not None:
        record |= {"errorCode": error[0], "errorMessage": error[1][:1024]}
    hide = error is not None and error[0] in _DENIED and call.service != "s3"
    return record | {
        "requestParameters": None if hide else _request_parameters(call),
        "responseElements": None if error is not None else _lowered(_shown(fields)) or None,
        "requestID": call.id,
        "eventID": new_id(),
        "readOnly": reads,
        "eventType": "AwsApiCall",
        "managementEvent": not data,
        "recipientAccountId": identity.account,
        "eventCategory": "Data" if data else "Management",
        "tlsDetails": {
            "tlsVersion": "TLSv1.3",
            "cipherSuite": "TLS_AES_128_GCM_SHA256",
            "clientProvidedHostHeader": f"{call.source}.{call.region}.amazonaws.com",
        },
        **({"resources": [{"type": _RESOURCE_TYPES.get(call.service, "")}]} if data else {}),
    }


_RESOURCE_TYPES: Final = {
    "s3": "AWS::S3::Object",
    "sqs": "AWS::SQS::Queue",
    "sns": "AWS::SNS::Topic",
    "lambda": "AWS::Lambda::Function",
    "dynamodb": "AWS::DynamoDB::Table",
}


def _is_data_event(call: Call) -> bool:
    """Whether a call is a data event: one about the contents of a resource."""
    if call.service == "s3":
        return _S3_DATA.match(call.operation) is not None
    return call.operation in _DATA.get(call.service, ())


def _user_identity(identity: Identity) -> Record:
    """Return CloudTrail's `userIdentity` of a caller."""
    said: Record = {
        "type": str(identity.kind),
        "principalId": identity.principal_id,
        "arn": identity.arn,
        "accountId": identity.account,
        "accessKeyId": identity.key_id,
    }
    if identity.kind is Kind.USER:
        said["userName"] = identity.name
    session = identity.session
    if session is not None:
        context: Record = {}
        if session.issuer is not None:
            context["sessionIssuer"] = {
                "type": session.issuer.kind,
                "principalId": session.issuer.principal_id,
                "arn": session.issuer.arn,
                "accountId": session.issuer.account,
                "userName": session.issuer.name,
            }
        mfa = str(session.mfa).lower()
        said["sessionContext"] = context | {
            "attributes": {"creationDate": zulu(session.issued), "mfaAuthenticated": mfa}
        }
    return said


def _request_parameters(call: Call) -> Record | None:
    asked = {name: value for name, value in call.parameters.items() if name not in ("Action", "Version")}
    if call.service == "s3":
        bucket, key = asked.pop("Bucket", None), asked.pop("Key", None)
        named = {"bucketName": bucket, "Host": "s3.amazonaws.com", "key": key}
        return {name: value for name, value in named.items() if value is not None} | asked
    if call.protocol in ("query", "ec2"):
        asked = _unflattened(asked)
    return _lowered(_hidden(asked)) or None


def _unflattened(flat: Mapping[str, Any]) -> Record:
    """Turn `Tags.member.1.Key=a` into {"Tags": [{"Key": "a"}]}."""
    tree: Record = {}
    for name, value in flat.items():
        *path, last = [part for part in name.split(".") if part != "member"]
        place = tree
        for part in path:
            inner = place.setdefault(part, {})
            place = inner if isinstance(inner, dict) else place
        place[last] = value
    return {name: _as_list(value) for name, value in tree.items()}


def _as_list(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    if all(name.isdigit() for name in value):
        return [_as_list(value[name]) for name in sorted(value, key=int)]
    return {name: _as_list(item) for name, item in value.items()}


def _hidden(asked: Record) -> Record:
    return {name: "HIDDEN_DUE_TO_SECURITY_REASONS" if name in _HIDDEN else value for name, value in asked.items()}


def _shown(value: Any) -> Any:
    match value:
        case dict():
            return {name: _shown(item) for name, item in value.items() if name not in _NEVER_SHOWN}
        case list():
            return [_shown(item) for item in value]
        case _:
            return value


def _lowered(value: Any) -> Any:
    """Write names and times as CloudTrail does: `userName`, `Nov 21, 2026, 11:08:00 PM`."""
    match value:
        case dict():
            return {_lower_first(name): _lowered(item) for name, item in value.items()}
        case list() | tuple():
            return [_lowered(item) for item in value]
        case datetime():
            return f"{value:%b} {value.day}, {value.year}, {value.hour % 12 or 12}:{value:%M:%S %p}"
        case bytes():
            return value.decode("utf-8", "replace")
        case _:
            return value


def _lower_first(name: str) -> str:
    return name if name[:2].isupper() else name[:1].lower() + name[1:]


def zulu(moment: datetime) -> str:
    """Write a time as records do, to the second."""
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"
