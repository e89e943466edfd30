"""What policies allow, layer by layer and condition by condition."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firedamp.service.loopback_policy import Question, Rights, Trust, UnknownConditionError, parse, refusal, trust

ALLOW = {"Effect": "Allow", "Action": "*", "Resource": "*"}
DENY = {"Effect": "Deny", "Action": "*", "Resource": "*"}
NOTHING = parse('{"Statement": []}')


def policy(*statements: dict[str, Any]) -> Any:
    return parse(json.dumps({"Version": "2012-10-17", "Statement": list(statements)}))


def ask(action: str = "s3:GetObject", resource: str | None = "arn:aws:s3:::b/k", **context: str) -> Question:
    return Question(action, resource, context)


def allowed(statement: dict[str, Any], question: Question) -> bool:
    return refusal(Rights((policy(statement),)), question) is None


def test_without_a_policy_nothing_is_allowed() -> None:
    assert refusal(Rights(()), ask()) == "because no identity-based policy allows the s3:GetObject action"


def test_a_deny_wins_over_any_number_of_allows() -> None:
    rights = Rights((policy(ALLOW), policy(DENY), policy(ALLOW)))
    assert refusal(rights, ask()) == "with an explicit deny in an identity-based policy"


@pytest.mark.parametrize(("layer", "words"), [("boundary", "a permissions boundary"), ("session", "a session policy")])
def test_every_layer_must_allow(layer: str, words: str) -> None:
    own = (policy(ALLOW),)
    assert refusal(Rights(own, **{layer: policy(ALLOW)}), ask()) is None
    assert refusal(Rights(own, **{layer: policy(DENY)}), ask()) == f"with an explicit deny in {words}"
    bare = words.split(" ", 1)[1]
    assert refusal(Rights(own, **{layer: NOTHING}), ask()) == f"because no {bare} allows the s3:GetObject action"


def test_a_deny_in_any_layer_is_named_before_what_is_missing() -> None:
    rights = Rights((), boundary=policy(DENY))
    assert refusal(rights, ask()) == "with an explicit deny in a permissions boundary"


def test_actions_match_without_case_and_resources_with_it() -> None:
    get = {"Effect": "Allow", "Action": "S3:get*", "Resource": "arn:aws:s3:::B/*"}
    assert allowed(get, ask(resource="arn:aws:s3:::B/k"))
    assert not allowed(get, ask(resource="arn:aws:s3:::b/k"))
    assert not allowed(get, ask("s3:PutObject", "arn:aws:s3:::B/k"))


def test_lists_can_be_turned_round() -> None:
    others = {"Effect": "Allow", "NotAction": "iam:*", "NotResource": "arn:aws:s3:::secret/*"}
    assert allowed(others, ask())
    assert not allowed(others, ask("iam:ListUsers", "*"))
    assert not allowed(others, ask(resource="arn:aws:s3:::secret/k"))


def test_a_call_without_a_resource_fits_any_pattern() -> None:
    assert allowed({"Effect": "Allow", "Action": "*", "Resource": "arn:aws:x:::y"}, ask(resource=None))


def test_variables_stand_for_what_the_request_says() -> None:
    own = {"Effect": "Allow", "Action": "iam:*", "Resource": "arn:aws:iam::*:user/${aws:username}"}
    mine = ask("iam:GetUser", "arn:aws:iam::1:user/bob", **{"aws:username": "bob"})
    assert allowed(own, mine)
    assert not allowed(own, ask("iam:GetUser", "arn:aws:iam::1:user/eve", **{"aws:username": "bob"}))
    assert not allowed(own, ask("iam:GetUser", "arn:aws:iam::1:user/bob")), "a role has no user name"


CONDITIONS = [
    ("StringEquals", "a", {"k": "a"}, True),
    ("StringEquals", "a", {"k": "A"}, False),
    ("StringEquals", ["a", "b"], {"k": "b"}, True),
    ("StringEquals", "a", {}, False),
    ("StringEqualsIfExists", "a", {}, True),
    ("StringEqualsIgnoreCase", "a", {"k": "A"}, True),
    ("StringNotEquals", "a", {"k": "b"}, True),
    ("StringNotEquals", "a", {"k": "a"}, False),
    ("StringNotEquals", "a", {}, True),
    ("StringLike", "a*c", {"k": "abbc"}, True),
    ("StringLike", "a?c", {"k": "abbc"}, False),
    ("StringNotLike", "a*", {"k": "b"}, True),
    ("ArnEquals", "arn:aws:iam::1:*", {"k": "arn:aws:iam::1:root"}, True),
    ("ArnLike", "arn:aws:iam::1:*", {"k": "arn:aws:iam::2:root"}, False),
    ("ArnNotEquals", "arn:x", {"k": "arn:x"}, False),
    ("ArnNotLike", "arn:x*", {"k": "arn:y"}, True),
    ("Bool", "true", {"k": "true"}, True),
    ("Bool", True, {"k": "true"}, True),
    ("Bool", "true", {"k": "false"}, False),
    ("Bool", "false", {}, False),
    ("BoolIfExists", "false", {}, True),
    ("BoolIfExists", "false", {"k": "true"}, False),
    ("Null", "true", {}, True),
    ("Null", "false", {}, False),
    ("Null", "false", {"k": ""}, True),
    ("IpAddress", "203.0.113.0/24", {"k": "203.0.113.9"}, True),
    ("IpAddress", "203.0.113.0/24", {"k": "cloudformation.amazonaws.com"}, False),
    ("IpAddress", ["10.0.0.0/8", "2001:db8::/32"], {"k": "2001:db8::1"}, True),
    ("NotIpAddress", "203.0.113.0/24", {"k": "203.0.113.9"}, False),
    ("NotIpAddress", "203.0.113.0/24", {"k": "198.51.100.1"}, True),
    ("NotIpAddress", "203.0.113.0/24", {}, True),
    ("DateLessThan", "2026-01-02T00:00:00Z", {"k": "2026-01-01T00:00:00+00:00"}, True),
    ("DateLessThan", "2026-01-02T00:00:00Z", {"k": "2026-01-02T00:00:00Z"}, False),
    ("DateLessThan", "2026-01-02T00:00:00Z", {}, False),
    ("DateLessThanEquals", "2026-01-02T00:00:00Z", {"k": "2026-01-02T00:00:00Z"}, True),
    ("DateGreaterThan", "2026-01-02", {"k": "2026-01-03T00:00:00Z"}, True),
    ("DateGreaterThanEquals", "2026-01-02", {"k": "2026-01-01T00:00:00Z"}, False),
]


@pytest.mark.parametrize(("operator", "value", "context", "holds"), CONDITIONS)
def test_conditions(operator: str, value: Any, context: dict[str, str], holds: bool) -> None:
    assert allowed(ALLOW | {"Condition": {operator: {"K": value}}}, ask(**context)) is holds


@pytest.mark.parametrize("context", [{}, {"k": "1"}])
def test_an_operator_that_is_not_known_raises_whether_the_key_is_there_or_not(context: dict[str, str]) -> None:
    for operator in ("NumericEquals", "ForAnyValue:StringEquals", "NumericEqualsIfExists"):
        with pytest.raises(UnknownConditionError, match=operator):
            allowed(ALLOW | {"Condition": {operator: {"k": "1"}}}, ask(**context))


def test_every_condition_of_a_statement_must_hold() -> None:
    both = ALLOW | {"Condition": {"StringEquals": {"k": "a", "j": "b"}, "Bool": {"m": "true"}}}
    assert allowed(both, ask(k="a", j="b", m="true"))
    assert not allowed(both, ask(k="a", j="b", m="false"))
    assert not allowed(both, ask(k="a", j="x", m="true"))


def trusted(principal: Any, effect: str = "Allow", action: str = "sts:AssumeRole") -> Trust:
    document = policy({"Effect": effect, "Principal": principal, "Action": action})
    return trust(document, ["arn:aws:iam::1:user/u"], "1", ask("sts:AssumeRole", "arn:r"))


def test_trust_names_a_caller_or_its_account_or_neither() -> None:
    assert trusted({"AWS": "arn:aws:iam::1:user/u"}) is Trust.NAMED
    assert trusted("*") is Trust.NAMED
    assert trusted({"AWS": ["2", "1"]}) is Trust.DELEGATED
    assert trusted({"AWS": "arn:aws:iam::1:root"}) is Trust.DELEGATED
    assert trusted({"AWS": "arn:aws:iam::2:root"}) is Trust.NO
    assert trusted({"Service": "ec2.amazonaws.com"}) is Trust.NO
    assert trusted({"AWS": "1"}, action="sts:TagSession") is Trust.NO
    assert trusted({"AWS": "1"}, effect="Deny") is Trust.NO
    several = [
        {"Effect": "Allow", "Principal": {"AWS": who}, "Action": "sts:*"} for who in ("arn:aws:iam::1:user/u", "1")
    ]
    assert trust(policy(*several), ["arn:aws:iam::1:user/u"], "1", ask("sts:AssumeRole", "arn:r")) is Trust.NAMED


STATEMENTS = st.builds(
    lambda deny, action, resource: {
        "Effect": "Deny" if deny else "Allow",
        "Action": action,
        "Resource": resource,
    },
    st.booleans(),
    st.sampled_from(["*", "s3:*", "s3:Get*", "iam:*"]),
    st.sampled_from(["*", "arn:aws:s3:::b/*", "arn:aws:s3:::c/*"]),
)
LAYERS = st.lists(STATEMENTS, max_size=4)


@settings(max_examples=100, deadline=None)
@given(LAYERS, LAYERS, STATEMENTS)
def test_order_never_matters_and_a_deny_never_widens(own: Any, boundary: Any, more: Any) -> None:
    before = refusal(Rights((policy(*own),), policy(*boundary)), ask())
    assert refusal(Rights(tuple(policy(one) for one in reversed(own)), policy(*boundary)), ask()) == before
    after = refusal(Rights((policy(*own, more | {"Effect": "Deny"}),), policy(*boundary)), ask())
    assert before is None or after is not None
