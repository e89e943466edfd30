"""One record: lenient where records are odd, strict where they are none; and what is read from it for a person."""

from __future__ import annotations

import json
import zlib
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.trails import START, record, role, user

from firedamp.canaries import cloudtrail, facts
from firedamp.storage.records import AddressKind, Event, Rejected

Json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
FIELDS = ("eventID", "eventTime", "userIdentity", "userAgent", "readOnly", "addendum", "sourceIPAddress", "errorCode")


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.sampled_from(FIELDS), Json) | Json)
def test_no_json_is_too_odd_to_be_read_or_rejected(value: object) -> None:
    assert isinstance(cloudtrail.parse(value, "here", START), Event | Rejected)


def test_a_record_is_kept_without_what_is_secret_in_it() -> None:
    hidden = {"sessionToken": "s1", "SecretAccessKey": "s2", "nested": [{"password": {"a": "s3"}}], "kept": "k"}
    event = cloudtrail.parse(record(role(), responseElements=hidden), "here", START)
    assert isinstance(event, Event)
    kept = zlib.decompress(event.raw).decode()
    assert all(each not in kept for each in ("s1", "s2", "s3"))
    assert cloudtrail.content(event)["responseElements"]["kept"] == "k"
    assert cloudtrail.content(Event(id="1", time=event.time)) == {}


@pytest.mark.parametrize(
    ("more", "wrote"),
    [
        ({"readOnly": False}, True),
        ({"readOnly": True}, False),
        ({"readOnly": "false"}, True),
        ({"readOnly": False, "errorCode": "AccessDenied"}, False),
        ({"readOnly": False, "errorMessage": "Failed authentication"}, False),
        ({"readOnly": None, "eventName": "PutObject"}, True),
        ({"readOnly": None, "eventName": "ListBuckets"}, False),
    ],
)
def test_a_write_is_what_changed_something(more: dict[str, Any], wrote: bool) -> None:
    event = cloudtrail.parse(record(user("AKIAX"), **more), "here", START)
    assert isinstance(event, Event)
    assert event.wrote is wrote


ADDRESSES: dict[str, AddressKind] = {
    "": AddressKind.MISSING,
    "203.0.113.7": AddressKind.PUBLIC,
    "2001:db8::1": AddressKind.PUBLIC,
    "10.1.2.3": AddressKind.PRIVATE,
    "172.16.9.9": AddressKind.PRIVATE,
    "172.32.0.1": AddressKind.PUBLIC,
    "100.64.1.1": AddressKind.PRIVATE,
    "fe80::1%eth0": AddressKind.PRIVATE,
    "::ffff:192.168.0.1": AddressKind.PRIVATE,
    "AWS Internal": AddressKind.AWS_INTERNAL,
    "AWS Internal/3": AddressKind.AWS_INTERNAL,
    "lambda.amazonaws.com": AddressKind.AWS_SERVICE,
    "ec2.amazonaws.com.cn": AddressKind.AWS_SERVICE,
    "amazonaws.com.evil.example": AddressKind.OTHER,
    "somewhere": AddressKind.OTHER,
}


@pytest.mark.parametrize(("address", "kind"), ADDRESSES.items())
def test_what_stands_in_place_of_an_address_is_told(address: str, kind: AddressKind) -> None:
    assert facts.address_kind(address) is kind


AGENTS: dict[str, str] = {
    "": "",
    "aws-cli/2.15.30 md/command#lambda.list-functions": "AWS CLI 2.15: aws lambda list-functions",
    "aws-cli/1.29.1 Python/3.9 Linux/5 botocore/1.31 command/ec2.run-instances": "AWS CLI 1.29: aws ec2 run-instances",
    "[Boto3/1.34.69 md/Botocore#1.34.69 ua/2.0]": "Python, Boto3 1.34",
    "aws-sdk-go-v2/1.26.0 os/linux": "Go SDK 1.26",
    "aws-sdk-java/2.20.1": "Java SDK 2.20",
    "aws-sdk-js/3.540.0 ua/2.0": "JavaScript SDK 3.540",
    "APN/1.0 HashiCorp/1.0 Terraform/1.5.7 (+https://www.terraform.io)": "Terraform 1.5",
    "rclone/v1.65.0": "rclone",
    "Mozilla/5.0 (X11; Linux x86_64)": "a web browser",
    "AWS Internal": "AWS itself",
    "cloudformation.amazonaws.com": "an AWS service",
    "S3 Browser/11.5.7 (https://s3browser.com)": "S3 Browser",
    "my own thing": "my own thing",
}


@pytest.mark.parametrize(("agent", "words"), AGENTS.items())
def test_user_agents_are_read_for_humans(agent: str, words: str) -> None:
    assert facts.read_agent(agent) == words


def test_scanners_and_attack_tools_are_named() -> None:
    assert facts.scanner("TruffleHog") == "TruffleHog, a secret scanner"
    assert facts.scanner("aws-cli/1.2 Linux/5.16.0-kali7-amd64") == "kali, an attacker's tool or system"
    assert facts.scanner("Boto3/1.34") == ""


@pytest.mark.parametrize(
    ("time", "words"),
    [
        (timedelta(seconds=5), "5 s"),
        (timedelta(minutes=3, seconds=20), "3 min 20 s"),
        (timedelta(hours=2, minutes=5), "2 h 5 min"),
        (timedelta(days=43, hours=21), "43 d 21 h"),
        (timedelta(seconds=-5), "0 s"),
    ],
)
def test_lengths_of_time_are_written_for_people(time: timedelta, words: str) -> None:
    assert facts.length(time) == words


def test_a_record_of_every_size_is_json_again() -> None:
    event = cloudtrail.parse(record(user("AKIAX")), "here", START)
    assert isinstance(event, Event)
    assert json.loads(zlib.decompress(event.raw))["eventID"] == event.id
