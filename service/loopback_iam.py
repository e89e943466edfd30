"""What IAM answers and moto does not: boundaries of users, last use, the credential report, policy simulation."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

from firedamp.service import loopback_moto as moto
from firedamp.service.loopback_identity import ABOUT_CALLER, Identity, Kind
from firedamp.service.loopback_policy import Question, Rights, refusal
from firedamp.service.loopback_trail import Entry
from firedamp.service.loopback_wire import Call, Refusal, Reply

_STATUSES: Final = ("Active", "Inactive", "Expired")
_USER_COLUMNS: Final = (
    "user,arn,user_creation_time,password_enabled,password_last_used,password_last_changed,password_next_rotation,"
    "mfa_active"
)
_KEY_COLUMNS: Final = "active,last_rotated,last_used_date,last_used_region,last_used_service"
_ROOT_SINCE: Final = datetime(2019, 1, 1, tzinfo=UTC)
_NO_KEY: Final = ("false", "N/A", "N/A", "N/A", "N/A")
_NO_CERTIFICATES: Final = ("false", "N/A", "false", "N/A")


class Iam:
    """The IAM answers given here. entries is what CloudTrail has recorded: last use by service comes from it."""

    def __init__(self, entries: list[Entry], clock: Callable[[], datetime]) -> None:
        self._entries, self._clock = entries, clock
        self._jobs: dict[str, tuple[str, datetime]] = {}

    def prepare(self, call: Call, identity: Identity) -> None:
        """Let moto know what a call may speak of, before it is forwarded: AWS's policies, kinds in a template."""
        if call.service == "cloudformation":
            from firedamp.service.loopback_templates import install

            install()
        elif (call.service, call.operation) == ("iam", "ListPolicies"):
            moto.know_all_policies(identity.account)
        elif call.service == "iam" and call.text("PolicyArn"):
            moto.know_policy(identity.account, call.text("PolicyArn"))

    def body(self, call: Call, identity: Identity) -> bytes:
        """Return the request's body for moto, which finds the caller's own user by a long-term key only."""
        own = call.operation in ABOUT_CALLER and not call.text("UserName") and identity.kind is Kind.USER
        return call.request.body + (f"&UserName={identity.name}".encode() if call.service == "iam" and own else b"")

    def answer(self, call: Call, identity: Identity) -> dict[str, Any] | None:
        """Return the fields of an answer, or None for a call that moto answers."""
        if call.service != "iam":
            return None
        match call.operation:
            case "GetUser" if identity.kind is Kind.ROOT and not call.text("UserName"):
                return {"User": {"UserId": identity.account, "Arn": identity.arn, "CreateDate": _ROOT_SINCE}}
            case "ListAccessKeys" if identity.kind is Kind.ROOT and not call.text("UserName"):
                key = {"AccessKeyId": identity.key_id, "Status": "Active", "CreateDate": _ROOT_SINCE}
                return {"AccessKeyMetadata": [key], "IsTruncated": "false"}
            case "UpdateAccessKey" if call.text("Status") not in _STATUSES:
                message = "1 validation error detected: Value at 'status' failed to satisfy constraint: "
                allowed = f"Member must satisfy enum value set: [{', '.join(_STATUSES)}]"
                raise Refusal("ValidationError", message + allowed, 400)
            case "GetAccessKeyLastUsed":
                _check_own(call, identity)
            case "PutUserPermissionsBoundary" | "DeleteUserPermissionsBoundary":
                user, boundary = call.text("UserName"), call.text("PermissionsBoundary")
                if not moto.set_boundary(identity.account, user, boundary or None):
                    raise Refusal("NoSuchEntity", f"The user with name {user} cannot be found.", 404)
                return {}
            case "GetCredentialReport":
                return self._credential_report(identity)
            case "GenerateServiceLastAccessedDetails":
                job = moto.new_id()
                self._jobs[job] = (call.text("Arn"), self._clock())
                return {"JobId": job}
            case "GetServiceLastAccessedDetails":
                return self._last_accessed(call)
            case "SimulatePrincipalPolicy":
                return _simulate(call)
            case _:
                pass
        return None

    def finish(self, call: Call, identity: Identity, reply: Reply) -> Reply:
        """Add to moto's answer what it forgets: permissions boundaries of users."""
        user = call.text("UserName") or identity.name or ""
        if call.service != "iam" or call.operation not in ("CreateUser", "GetUser") or reply.status != 200:
            return reply
        if call.operation == "CreateUser" and call.text("PermissionsBoundary"):
            moto.set_boundary(identity.account, user, call.text("PermissionsBoundary"))
        arn = moto.boundary_of(identity.account, user)
        if arn is None:
            return reply
        said = f"<PermissionsBoundaryType>Policy</PermissionsBoundaryType><PermissionsBoundaryArn>{arn}"
        boundary = f"<PermissionsBoundary>{said}</PermissionsBoundaryArn></PermissionsBoundary></User>"
        return replace(reply, body=reply.body.replace(b"</User>", boundary.encode()))

    def _credential_report(self, identity: Identity) -> dict[str, Any]:
        rows = moto.report_rows(identity.account)
        if rows is None:
            raise Refusal("ReportNotPresent", "No report exists. You must generate a report first", 410)
        keys = [f"access_key_{number}_{column}" for number in "12" for column in _KEY_COLUMNS.split(",")]
        certificates = ["cert_1_active", "cert_1_last_rotated", "cert_2_active", "cert_2_last_rotated"]
        root = ["<root_account>", f"arn:aws:iam::{identity.account}:root", _iso(_ROOT_SINCE)]
        root += ["not_supported", "no_information", "not_supported", "not_supported", "true"]
        lines = [[_USER_COLUMNS, *keys, *certificates], [*root, *_NO_KEY, *_NO_KEY, *_NO_CERTIFICATES]]
        lines += [_report_line(row) for row in rows]
        content = "\n".join(",".join(line) for line in lines)
        return {
            "Content": base64.b64encode(content.encode()).decode(),
            "ReportFormat": "text/csv",
            "GeneratedTime": self._clock(),
        }

    def _last_accessed(self, call: Call) -> dict[str, Any]:
        if call.text("JobId") not in self._jobs:
            raise Refusal("NoSuchEntity", "The requested job does not exist.", 404)
        arn, started = self._jobs[call.text("JobId")]
        last = {entry.facts["EventSource"]: entry for entry in self._entries if entry.facts["arn"] == arn}
        services = [
            {
                "ServiceName": source.partition(".")[0],
                "ServiceNamespace": source.partition(".")[0],
                "LastAuthenticated": entry.time,
                "LastAuthenticatedEntity": arn,
                "LastAuthenticatedRegion": entry.region,
                "TotalAuthenticatedEntities": 1,
            }
            for source, entry in sorted(last.items())
        ]
        return {
            "JobStatus": "COMPLETED",
            "JobType": "SERVICE_LEVEL",
            "JobCreationDate": started,
            "JobCompletionDate": started,
            "IsTruncated": "false",
            "ServicesLastAccessed": services,
        }


def _check_own(call: Call, identity: Identity) -> None:
    """Refuse as AWS does for a key of another account or of nobody: AccessDenied, not NoSuchEntity."""
    key_id = call.text("AccessKeyId")
    key = moto.find_key(key_id)
    if key is None or key.account != identity.account:
        action = "iam:GetAccessKeyLastUsed on resource: access key"
        raise Refusal("AccessDenied", f"User: {identity.arn} is not authorized to perform: {action} {key_id}")


def _report_line(row: moto.ReportRow) -> list[str]:
    used = "no_information" if row.password else "N/A"
    line = [row.name, row.arn, _iso(row.created), str(row.password).lower(), used, "N/A", "N/A", str(row.mfa).lower()]
    for place in (0, 1):
        if place >= len(row.keys):
            line += _NO_KEY
            continue
        key = row.keys[place]
        last = ("N/A", "N/A", "N/A") if key.used is None else (_iso(key.used[0]), key.used[1], key.used[2])
        line += [str(key.active).lower(), _iso(key.created), *last]
    return [*line, *_NO_CERTIFICATES]


def _iso(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%S+00:00}"


def _simulate(call: Call) -> dict[str, Any]:
    """Decide each asked action for a user or role by the same evaluation that decides real calls."""
    arn = call.text("PolicySourceArn")
    rights = _rights_of(arn)
    if rights is None:
        raise Refusal("NoSuchEntity", f"{arn} does not exist.", 404)
    actions = _members(call, "ActionNames")
    resources = _members(call, "ResourceArns") or ["*"]
    context = {"aws:principalarn": arn}
    for number, key in enumerate(_members(call, "ContextEntries", ".ContextKeyName"), 1):
        context[key.lower()] = call.text(f"ContextEntries.member.{number}.ContextKeyValues.member.1")
    results = []
    for action in actions:
        for resource in resources:
            reason = refusal(rights, Question(action, resource, context))
            denied = "explicitDeny" if reason and reason.startswith("with") else "implicitDeny"
            decision = "allowed" if reason is None else denied
            results.append({"EvalActionName": action, "EvalResourceName": resource, "EvalDecision": decision})
    return {"EvaluationResults": results, "IsTruncated": "false"}


def _rights_of(arn: str) -> Rights | None:
    account, kind, name = arn.split(":")[4], arn.split(":")[5].partition("/")[0], arn.rsplit("/", 1)[-1]
    if kind == "role":
        return moto.role_rights(account, name)
    return moto.user_rights(account, name) if moto.user_exists(account, name) else None


def _members(call: Call, name: str, end: str = "") -> list[str]:
    prefix = f"{name}.member."
    return [str(value) for key, value in call.parameters.items() if key.startswith(prefix) and key.endswith(end)]
