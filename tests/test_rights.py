"""What a key can do, read from its policies: the paths of attackers and the controls of defenders."""

from __future__ import annotations

import json
from typing import Any

import pytest

from firedamp.service import rights
from firedamp.storage.records import Severity


def policy(effect: str, action: Any, resource: Any = "*", **condition: Any) -> str:
    statement = {"Effect": effect, "Action": action, "Resource": resource}
    if condition:
        statement["Condition"] = condition
    return json.dumps({"Version": "2012-10-17", "Statement": statement})


ADMIN = policy("Allow", "*")


def test_an_administrator_is_the_worst() -> None:
    read = rights.read([ADMIN])
    assert read.administrator
    assert read.severity is Severity.CRITICAL
    assert "administrator" in read.words[0]


@pytest.mark.parametrize(
    ("actions", "path"),
    [
        (["iam:CreateAccessKey"], ("iam:CreateAccessKey",)),
        (["iam:Put*"], ("iam:PutUserPolicy",)),
        (["iam:PassRole", "ec2:RunInstances"], ("iam:PassRole", "ec2:RunInstances")),
        (["iam:PassRole"], ()),
        (["s3:*"], ()),
    ],
)
def test_a_path_to_more_rights_is_named(actions: list[str], path: tuple[str, ...]) -> None:
    read = rights.read([policy("Allow", actions)])
    assert read.escalation == path
    assert read.severity is (Severity.CRITICAL if path else Severity.HIGH)


def test_a_deny_stops_what_it_covers() -> None:
    assert rights.read([policy("Allow", "iam:*"), policy("Deny", "iam:*")]).escalation == ()
    denied = rights.read([ADMIN, policy("Deny", "*")])
    assert (denied.deny_all, denied.administrator, denied.severity) == (True, False, Severity.LOW)


def test_mfa_gates_only_when_the_condition_is_the_right_one() -> None:
    gate = {"aws:MultiFactorAuthPresent": "false"}
    assert rights.read([ADMIN, policy("Deny", "*", BoolIfExists=gate)]).mfa_gated
    assert not rights.read([ADMIN, policy("Deny", "*", Bool=gate)]).mfa_gated, "a bare key lacks the field"
    assert rights.read([policy("Allow", "*", Bool={"aws:MultiFactorAuthPresent": "true"})]).mfa_gated
    assert rights.read([ADMIN, policy("Deny", "*", Null={"aws:MultiFactorAuthPresent": "true"})]).mfa_gated
    assert rights.read([policy("Allow", "*", Bool={"aws:MultiFactorAuthPresent": "true"})]).severity is Severity.HIGH


def test_an_address_lock_names_its_ranges() -> None:
    locked = rights.read([policy("Allow", "s3:*", IpAddress={"aws:SourceIp": ["203.0.113.0/24"]})])
    assert locked.address_locked == ("203.0.113.0/24",)
    assert locked.severity is Severity.MEDIUM
    assert rights.read([ADMIN, policy("Deny", "*", NotIpAddress={"aws:SourceIp": "198.51.100.1"})]).address_locked
    assert not rights.read([policy("Allow", "s3:*", IpAddress={"aws:SourceIp": "0.0.0.0/0"})]).address_locked


def test_quarantine_is_told_by_prefix_and_roles_and_boundaries_are_named() -> None:
    read = rights.read(
        [policy("Allow", "sts:AssumeRole", "arn:aws:iam::123456789012:role/ops")],
        ["AWSCompromisedKeyQuarantineV9"], "arn:aws:iam::123456789012:policy/edge", ["secret-policy"],
    )  # fmt: skip
    assert read.quarantined
    words = " ".join(read.words)
    for each in ("role/ops", "quarantined", "policy/edge", "secret-policy could not be read"):
        assert each in words


def test_not_action_and_nonsense_are_read_as_what_they_are() -> None:
    everything_but = json.dumps({"Statement": [{"Effect": "Allow", "NotAction": "iam:*", "Resource": "*"}]})
    assert rights.read([everything_but]).escalation == ("lambda:UpdateFunctionCode",)
    for nonsense in ("", "[]", '{"Statement": "x"}', '{"Statement": [3]}', "{}"):
        assert rights.parse(nonsense) == []
    assert rights.read([]).words == ("no right that matters was found",)
