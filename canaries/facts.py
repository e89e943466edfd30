"""What an alert says of sightings: who, from where, with what, what they did. Pure.

The facts of an alert, in reading order (`service.wording` prints them as they are; absent when nothing is to be said):

name        the watched key's name                       canary     yes, or no for a leaked real key
placement   where it was planted: kind, place, format    note, tags what its maker wrote down
kind        use, derived, mention or tamper, counted     identity   who signed the call, as CloudTrail names them
address     each with its kind, place and network        agent      the user agent, read for humans
scanner     a known secret scanner or attack tool        calls      service:Operation, counted
services, regions                                        denied     how many of how many
writes      calls that changed something                 first, last event times
delay       from the first call to this alert            verdict    intruder, public exposure, or AWS itself
owner       an owner learned from the record, proposed   new        of an escalation: what was not seen before
remark      what the records say besides                 watch      of tamper: what was touched
"""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Final

from firedamp.canaries import sight
from firedamp.storage.records import AddressKind, Canary, Placement, Sighting, SightingKind, WatchedKey
from firedamp.storage.times import rfc3339

Locate = Callable[[str], str]
"""Names the place and network of a public address, or nothing."""

Facts = tuple[tuple[str, str], ...]

_PRIVATE: Final = tuple(
    ipaddress.ip_network(each)
    for each in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16",
                 "::1/128", "fc00::/7", "fe80::/10")
)  # fmt: skip
_SHOWN: Final = 12
"""How many values of a kind an alert lists; the incident has them all."""
LONGEST: Final = 1_000
"""Characters of one fact: much of a record is the attacker's to choose, and no channel takes a message of any size."""
_AHEAD: Final = timedelta(minutes=5)
"""A clock may be ahead of ours by so much and nothing is said of it."""


def nowhere(_: str) -> str:
    """Name no place: what `Locate` is without a database of addresses."""
    return ""


def address_kind(address: str) -> AddressKind:
    """Tell what stands in sourceIPAddress: an address, a service's host name, `AWS Internal` (or `AWS Internal/3`)."""
    if not address:
        return AddressKind.MISSING
    if address.lower().startswith("aws internal"):
        return AddressKind.AWS_INTERNAL
    try:
        number = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        host = address.lower()
        service = host.endswith((".amazonaws.com", ".amazonaws.com.cn", ".amazon.com", ".aws.dev", ".aws"))
        return AddressKind.AWS_SERVICE if service else AddressKind.OTHER
    mapped = number.ipv4_mapped if isinstance(number, ipaddress.IPv6Address) else None
    number = mapped or number
    return AddressKind.PRIVATE if any(number in each for each in _PRIVATE) else AddressKind.PUBLIC


_AGENTS: Final[tuple[tuple[re.Pattern[str], str], ...]] = tuple(
    (re.compile(pattern, re.IGNORECASE), words)
    for pattern, words in (
        (r"aws-cli/(\d+\.\d+)", "AWS CLI {}"),
        (r"Terraform/(\d+\.\d+)", "Terraform {}"),
        (r"Pulumi", "Pulumi"),
        (r"Boto3/(\d+\.\d+)", "Python, Boto3 {}"),
        (r"aiobotocore/(\d+\.\d+)", "Python, aiobotocore {}"),
        (r"Botocore/(\d+\.\d+)", "Python, Botocore {}"),
        (r"Boto/(\d+\.\d+)", "Python, Boto {}"),
        (r"aws-sdk-go(?:-v2)?/(\d+\.\d+)", "Go SDK {}"),
        (r"aws-sdk-java/(\d+\.\d+)", "Java SDK {}"),
        (r"aws-sdk-(?:js|nodejs)/(\d+\.\d+)", "JavaScript SDK {}"),
        (r"aws-sdk-rust/(\d+\.\d+)", "Rust SDK {}"),
        (r"aws-sdk-ruby\d?/(\d+\.\d+)", "Ruby SDK {}"),
        (r"aws-sdk-php\d?/(\d+\.\d+)", "PHP SDK {}"),
        (r"aws-sdk-cpp/(\d+\.\d+)", "C++ SDK {}"),
        (r"aws-sdk-(?:dotnet|net)\S*/(\d+\.\d+)", ".NET SDK {}"),
        (r"AWSPowerShell\S*/(\d+\.\d+)", "PowerShell {}"),
        (r"S3 Browser", "S3 Browser"),
        (r"(?:^|\W)(rclone|s3cmd|s5cmd|Cyberduck|WinSCP|MinIO|curl|Wget|python-requests|Go-http-client|Postman)", "{}"),
        (r"AWS Internal|aws-internal", "AWS itself"),
        (r"^[\w.-]+\.amazonaws\.com$", "an AWS service"),
        (r"Mozilla/", "a web browser"),
        (r"console\.amazonaws\.com|S3Console|signin\.amazonaws\.com", "the AWS console"),
    )
)  # fmt: skip
_COMMAND: Final = re.compile(r"(?:md/command#|\bcommand/)([a-z0-9-]+)\.([a-z0-9-]+)")
_SCANNERS: Final = re.compile(
    r"(trufflehog|gitguardian|ggshield|kingfisher|noseyparker|gitleaks|gitrob|semgrep|detect-secrets|"
    r"github-secret-scanning)",
    re.IGNORECASE,
)
_ATTACK: Final = re.compile(
    r"(pacu|scoutsuite|scout suite|cloudfox|prowler|weirdaal|enumerate-iam|s3scanner|cloudsploit|aws_consoler|"
    r"stratus-red-team|kali|parrot|pentoo|blackarch)",
    re.IGNORECASE,
)


def read_agent(agent: str) -> str:
    """Read a user agent for humans: the tool, and the command where the AWS CLI names it (`md/command#ec2.run`)."""
    agent = agent.strip().removeprefix("[").removesuffix("]")
    if not agent:
        return ""
    words = next(
        (words.format(*(found.groups() or ("",))) for pattern, words in _AGENTS if (found := pattern.search(agent))),
        agent[:120],
    )
    command = _COMMAND.search(agent)
    return f"{words}: aws {command[1]} {command[2]}" if command else words


def scanner(agent: str) -> str:
    """Name the secret scanner or attack tool that a user agent gives away, or nothing. It alerts all the same."""
    found = _SCANNERS.search(agent)
    if found:
        return f"{found[1]}, a secret scanner"
    found = _ATTACK.search(agent)
    return f"{found[1]}, an attacker's tool or system" if found else ""


def verdict(sightings: Sequence[Sighting]) -> str:
    """Tell what these sightings amount to: the key is public, AWS itself, somebody who looked, or an intruder."""
    kinds = {each.kind for each in sightings}
    exposed = any(sight.EXPOSED in each.notes for each in sightings)
    strangers = [each for each in sightings if not _by_aws(each) and each.kind is not SightingKind.MENTION]
    if exposed:
        return "public: AWS found this key and quarantined it" + (", and somebody uses it" if strangers else "")
    if kinds <= {SightingKind.USE, SightingKind.DERIVED} and not strangers:
        return "AWS itself uses it: the usual sign of a key found in public"
    if kinds <= {SightingKind.MENTION}:
        changed = any(each.event.wrote for each in sightings)
        return "the key or its owner was changed" if changed else "somebody looked at the key, nobody used it"
    return "an intruder uses it" if strangers and kinds != {SightingKind.TAMPER} else ""


def _by_aws(sighting: Sighting) -> bool:
    """Whether AWS made a call. A user agent proves nothing: whoever calls writes it."""
    kind = address_kind(sighting.event.address)
    return sight.EXPOSED in sighting.notes or kind in {AddressKind.AWS_INTERNAL, AddressKind.AWS_SERVICE}


def of_key(key: WatchedKey, placement: Placement | None) -> Facts:
    """Return what is known of a watched key before anybody used it."""
    canary = isinstance(key, Canary)
    tags = key.tags if isinstance(key, Canary) else ()
    where = "" if placement is None else f"{placement.kind} {placement.place} ({placement.format})"
    return _said(
        ("name", key.name),
        ("canary", "yes" if canary else "no: a leaked real key that is watched"),
        ("placement", where or "not known: nobody told firedamp where this key was put"),
        ("note", key.note),
        ("tags", ", ".join(f"{name}={value}" for name, value in tags)),
    )


def of_sightings(sightings: Sequence[Sighting], now: datetime, locate: Locate = nowhere) -> Facts:
    """Return what these sightings, at least one, tell together."""
    events = [each.event for each in sightings]
    first, last = min(event.time for event in events), max(event.time for event in events)
    denied = sum(event.denied for event in events)
    notes = list(dict.fromkeys(note for each in sightings for note in each.notes))
    owner = next((note for note in notes if note.startswith(sight.PROPOSED)), "")
    remarks = [note for note in notes if not note.startswith(sight.PROPOSED)]
    return _said(
        ("kind", _counted(each.kind.value for each in sightings)),
        ("identity", _listed(event.arn or event.principal_id or event.user_name or event.identity_type
                             for event in events)),
        ("address", _listed(_address(event.address, locate) for event in events)),
        ("agent", _listed(read_agent(event.user_agent) for event in events)),
        ("scanner", _listed(scanner(event.user_agent) for event in events)),
        ("calls", _counted(event.call for event in events)),
        ("services", _listed(event.service for event in events)),
        ("regions", _listed(event.region for event in events)),
        ("denied", f"{denied} of {len(events)}"),
        ("writes", _counted(event.call for event in events if event.wrote)),
        ("first", f"{rfc3339(first)}, {ago(now - first)}"),
        ("last", f"{rfc3339(last)}, {ago(now - last)}" if last != first else ""),
        ("delay", length(now - first) if now - first > -_AHEAD else "not known"),
        ("verdict", verdict(sightings)),
        ("owner", f"{owner}: firedamp canary adopt KEYID --arn ARN joins its other records" if owner else ""),
        ("remark", "; ".join(remarks[:_SHOWN])),
    )  # fmt: skip


def length(time: timedelta) -> str:
    """Write a length of time for a person, in its two largest units."""
    seconds = max(0, int(time.total_seconds()))
    days, hours, minutes = seconds // 86400, seconds // 3600 % 24, seconds // 60 % 60
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {seconds % 60} s" if minutes else f"{seconds} s"


def ago(time: timedelta) -> str:
    """Write how long ago something was, or how far ahead of our clock it is."""
    return f"{length(time)} ago" if time > -_AHEAD else f"{length(-time)} ahead of our clock"


def _address(address: str, locate: Locate) -> str:
    kind = address_kind(address)
    if kind is AddressKind.MISSING:
        return "no address in the record"
    place = locate(address) if kind is AddressKind.PUBLIC else ""
    return f"{address} ({kind.value}{', ' if place else ''}{place})"


def _counted(values: Iterable[str]) -> str:
    counts = Counter(value for value in values if value)
    shown = [f"{value} ({count})" if count > 1 else value for value, count in counts.most_common(_SHOWN)]
    return ", ".join(shown) + (f" and {len(counts) - _SHOWN} more" if len(counts) > _SHOWN else "")


def _listed(values: Iterable[str]) -> str:
    different = list(dict.fromkeys(value for value in values if value))
    more = f" and {len(different) - _SHOWN} more" if len(different) > _SHOWN else ""
    return ", ".join(different[:_SHOWN]) + more


def _said(*facts: tuple[str, str]) -> Facts:
    return tuple((name, value if len(value) <= LONGEST else f"{value[:LONGEST]}…") for name, value in facts if value)
