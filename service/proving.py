"""`canary nets`: looks at every part of the watch, and asks IAM what CloudTrail cannot tell."""

from __future__ import annotations

import http.client
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

from firedamp.canaries import blind
from firedamp.canaries import nets as second
from firedamp.canaries.awsfeeds import option
from firedamp.canaries.blind import Reach
from firedamp.canaries.nets import Nets
from firedamp.canaries.pace import Pace
from firedamp.service import clock, show
from firedamp.service.aws import Aws
from firedamp.service.config import Config
from firedamp.service.minting import account_of_profile, our_aws
from firedamp.service.options import CanaryOptions, Common, Format
from firedamp.storage.deadline import within
from firedamp.storage.errors import AwsFailure, Failure
from firedamp.storage.keyid import account_of
from firedamp.storage.records import Alert, Blind, Canary, Check, Sound, Unsure
from firedamp.storage.refusals import failures
from firedamp.storage.store import Store
from firedamp.storage.times import maybe_rfc3339

if TYPE_CHECKING:
    from types_boto3_cloudtrail import CloudTrailClient
    from types_boto3_iam import IAMClient

_TIME: Final = timedelta(minutes=4)
"""How long one run asks IAM: `serve` starts the next after five minutes, and it goes on where this one ended."""
_FORGET: Final = timedelta(days=2)
_HEARTBEAT_TIMEOUT: Final = 10
_HEARTBEAT_LIMIT: Final = 30.0
"""Seconds of the whole call, redirects too. The time-out is for each word of the other side."""


def nets(options: CanaryOptions, common: Common, store: Store) -> int:
    """Look at everything once; return 2 when something could not be looked at, else 1 when something is blind."""
    common.must_be(Format.TABLE, Format.JSON, Format.JSONL)
    aws, config = our_aws(store, common), common.settings()
    began = clock.now()
    accounts = Accounts(aws, store, config, options.profile)
    caught = second.cast(
        Nets(
            iam=accounts.iam, store=store, pace=Pace(time.sleep, os.urandom), now=clock.now, until=began + _TIME,
            about=aws.about,
        )
    )  # fmt: skip
    checks = [
        *caught.checks,
        blind.configured(config.watch.feeds),
        *blind.feeds(config.watch.feeds, reach(store), config.watch.blind_after, clock.now()),
        *blind.channels([each.name for each in config.channel], store.channel_standings(), clock.now()),
        blind.service(store.instance(), clock.now()),
        *_aws_checks(aws, accounts, store, config),
    ]
    record(store, checks)
    store.forget_checks(began - _FORGET)
    _show(checks, caught.alerts, common, store)
    if any(isinstance(each, Unsure) for each in checks):
        return 2
    return int(bool(caught.alerts) or any(isinstance(each, Blind) for each in checks))


def reach(store: Store) -> Reach:
    """Return how far feeds were read, as the store remembers it."""
    doubted = {each.check.condition: each.since for each in store.standings() if not isinstance(each.check, Sound)}
    return Reach(store.watermarks(), store.heard(), store.troubles(), doubted)


def record(store: Store, checks: Sequence[Check]) -> None:
    """Keep what checks found; what is newly blind is an alert."""
    now = clock.now()
    store.record_checks(checks, now, lambda check, since: blind.alarm(check, since, now))


def words(store: Store) -> str:
    """Return since when the watch is proven, in one line: for `incidents list` and `doctor`."""
    return blind.proof(store.standings(), clock.now()).words


class Accounts:
    """Which profile acts in which account: the one that was named, else those of configuration and canaries."""

    def __init__(self, aws: Aws, store: Store, config: Config, named: str | None) -> None:
        self._aws = aws
        ours = (config.aws.watch_profile, config.aws.profile, config.aws.canary_profile)
        minted = (key.profile for key in store.watched() if isinstance(key, Canary))
        self._profiles = list(dict.fromkeys([named] if named else [*ours, *minted]))
        self._account: dict[str | None, str] = {}
        self._broken: dict[str | None, str] = {}

    def profile(self, account: str) -> tuple[bool, str | None]:
        """Return whether a profile acts in an account, and which: None is the SDK's own choice."""
        for profile in self._profiles:
            if profile not in self._account and profile not in self._broken:
                try:
                    self._account[profile] = account_of_profile(self._aws, profile)
                except AwsFailure as failure:
                    self._broken[profile] = str(failure)
            if self._account.get(profile) == account:
                return True, profile
        return False, None

    def iam(self, account: str) -> IAMClient | str:
        """Return a client of IAM in an account, or why there is none."""
        found, profile = self.profile(account)
        return self._aws.iam(profile, "net") if found else self.nobody(account)

    def nobody(self, account: str) -> str:
        """Return why no profile acts in an account: the ones that should may be broken."""
        return "; ".join([f"no profile acts in account {account}", *self._broken.values()])


def _aws_checks(aws: Aws, accounts: Accounts, store: Store, config: Config) -> Iterator[Check]:
    """Yield what AWS says of trails, queues and rules: as far as the feeds depend on them."""
    urls = [urlsplit(url) for url in config.watch.feeds]
    if any(url.scheme in {"sqs", "s3"} for url in urls):
        keys = (key for key in store.watched() if isinstance(key, Canary))
        for account in sorted({key.owner.account_id or account_of(key.key_id) or "" for key in keys} - {""}):
            found, profile = accounts.profile(account)
            if found:
                client = _in_region(aws, profile)
                yield from blind.trail(account, client, config.watch.blind_after, clock.now())
            else:
                yield Unsure(condition=f"trail of account {account}", why=accounts.nobody(account))
    for url in urls:
        if url.scheme != "sqs":
            continue
        profile = option(url, "profile") or config.aws.watch_profile or config.aws.profile
        account, _, name = unquote(url.path).strip("/").partition("/")
        try:
            clients = blind.QueueClients(
                sqs=aws.sqs(url.netloc, profile), cloudwatch=aws.client("cloudwatch", url.netloc, profile),
                events=aws.client("events", url.netloc, profile),
            )  # fmt: skip
        except AwsFailure as failure:
            yield Unsure(condition=f"queue {name}", why=str(failure))
        else:
            yield from blind.queue(account, name, clients, clock.now())


def _in_region(aws: Aws, profile: str | None) -> Callable[[str | None], CloudTrailClient]:
    return lambda region: aws.cloudtrail(region, profile)


def _show(checks: Sequence[Check], alerts: Sequence[Alert], common: Common, store: Store) -> None:
    with common.out() as out:
        if common.format is not Format.TABLE:
            lines = [_line(each) for each in checks]
            lines += [{"unlogged": each.key_id, "facts": dict(each.facts)} for each in alerts]
            show.json_lines(lines, out.write, whole=common.format is Format.JSON)
            return
        for each in checks:
            match each:
                case Sound(told=told):
                    mark = "✓"
                case Blind(why=told):
                    mark = "✗"
                case Unsure(why=told):
                    mark = "?"
            out.write(f"{mark} {show.safe(each.condition)}: {show.safe(told)}\n")
        for alert in alerts:
            facts = dict(alert.facts)
            told = f"{facts['service']} in {facts['region']} at {facts['used']}"
            out.write(f"✗ {alert.key_id} was used but not logged: {show.safe(told)}\n")
        out.write(show.safe(words(store)) + "\n")


def _line(check: Check) -> dict[str, show.Json]:
    match check:
        case Sound(condition=condition, told=why):
            return {"check": condition, "state": "sound", "detail": why, "since": None}
        case Blind(condition=condition, why=why, since=since):
            return {
                "check": condition, "state": "blind", "detail": why, "since": maybe_rfc3339(since)
            }  # fmt: skip
        case Unsure(condition=condition, why=why):
            return {"check": condition, "state": "unknown", "detail": why, "since": None}


def _call(url: str, store: Store, profile: str | None) -> None:
    parts = urlsplit(url)
    if parts.scheme == "cloudwatch":
        aws = Aws(now=clock.now, random=os.urandom, write_down=store.add_own_call, asking=False)
        namespace, _, metric = unquote(parts.path).strip("/").rpartition("/")
        with failures("CloudWatch does not take the heartbeat"):
            aws.client("cloudwatch", parts.netloc, profile).put_metric_data(
                Namespace=namespace or "firedamp", MetricData=[{"MetricName": metric or "heartbeat", "Value": 1}]
            )
        return
    if parts.scheme not in {"http", "https"}:
        raise Failure("the heartbeat is no http, https or cloudwatch URL")
    request = urllib.request.Request(url, headers={"User-Agent": "firedamp"})  # noqa: S310 - looked at above
    within(_HEARTBEAT_LIMIT, lambda: urllib.request.urlopen(request, timeout=_HEARTBEAT_TIMEOUT).close())  # noqa: S310


def beat(config: Config, store: Store) -> None:
    """Call the heartbeat's URL, or count in a metric, where configured: somebody else alarms when it stops.

    For a round in which every feed was read to its end. That it fails is a part of the watch that is blind.
    """
    if config.watch.heartbeat is None:
        return
    try:
        url = config.watch.heartbeat.resolve().reveal()
        _call(url, store, config.aws.watch_profile or config.aws.profile)
    except urllib.error.HTTPError as error:
        error.close()
        check: Check = Blind(condition=blind.HEARTBEAT, why=f"its URL answers {error.code}")
    except (Failure, OSError, ValueError, http.client.HTTPException) as error:
        # The URL is not said: it may hold a token.
        why = str(error) if isinstance(error, Failure) else type(error).__name__
        check = Blind(condition=blind.HEARTBEAT, why=why)
    else:
        check = Sound(condition=blind.HEARTBEAT, told="called")
    record(store, [check])
