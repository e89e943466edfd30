"""The outbox: takes the alerts that scanner and watch wrote down, words them, and delivers them.

Every channel is tried on its own, with back-off, for as long as it takes: one that fails never silences another and
is never switched off. An attempt is written down before it is made, so that a repeat after a crash says that it is one.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import logging
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final, Protocol, TextIO
from urllib.parse import unquote, urlsplit

from firedamp.service import wording
from firedamp.service.config import ChannelConfig, Reference
from firedamp.storage.deadline import within
from firedamp.storage.errors import Failure, UsageFailure
from firedamp.storage.records import Alert, AlertKind, Delivery, DeliveryState, Severity
from firedamp.storage.refusals import failures
from firedamp.storage.secret import Secret
from firedamp.storage.store import Store
from firedamp.storage.times import retry_after, rfc3339

if TYPE_CHECKING:
    from types_boto3_sns import SNSClient
    from types_boto3_sqs import SQSClient

_FIRST_WAIT: Final = timedelta(seconds=15)
_LONGEST_WAIT: Final = timedelta(hours=1)
"""Whatever a channel asks for, too: it must not be silent for days."""
_PATIENCE: Final = 4
"""Attempts after which a channel's failing is itself an alarm on the others."""
_SHORT: Final = timedelta(minutes=2)
"""About as long as these attempts take. The others are told at once of a channel that asks for more."""
_TIMEOUT: Final = 20
LIMIT: Final = 30.0
"""Seconds of a whole try. _TIMEOUT is for each word of the other side: one that says a letter at a time has no end."""
_LEASE: Final = timedelta(minutes=1)
"""How long a try may take: then it is taken for cut off by a crash, and made again as a possible repeat."""
_REFUSALS: Final = 3
"""Failures after which a channel is left alone until the next round: the others must not wait for its time-outs, and
one alert that it does not take must not hold up the rest."""
_TURN: Final = timedelta(minutes=1)
"""How long a channel is given alerts in one round: one that takes each slowly must not make the others late."""
_SYSLOG: Final = 8_000
"""Characters of a line of syslog: more than 64 KB are no datagram, and receivers may cut earlier (RFC 5424, 6.1)."""

Send = Callable[[Alert, bool], None]
"""Delivers one alert, or raises Failure. The flag says that it may be a repeat."""


class Busy(Failure):
    """A channel that says when it will take more."""

    def __init__(self, what: str, after: timedelta) -> None:
        super().__init__(what)
        self.after = after


class _Hangs(Failure):
    """A channel that has not answered: its thread may still be at it."""


class Clients(Protocol):
    """Our own access to AWS, as far as alerts need it."""

    def sns(self, region: str) -> SNSClient:
        """Return a client of the notification service."""
        ...

    def sqs(self, region: str) -> SQSClient:
        """Return a client of the queue service."""
        ...


@dataclass(frozen=True, slots=True)
class Channel:
    """One way to reach a person."""

    name: str
    minimum: Severity
    send: Send


@dataclass(frozen=True, slots=True)
class Delivered:
    """How a round of deliveries went, channel by channel."""

    sent: tuple[str, ...]
    failed: tuple[tuple[str, str], ...]
    """(channel, why)"""


def deliver(store: Store, channels: Sequence[Channel], now: Callable[[], datetime], limit: float = LIMIT) -> Delivered:
    """Try every delivery that is due, once. Several processes may do so at the same time.

    What belongs to a channel that is no longer configured waits, and status shows it.
    """
    sent: list[str] = []
    failed: list[tuple[str, str]] = []
    store.route([channel.name for channel in channels], now())
    # Those that fail come last: the others hear of an alarm before their time-outs.
    for channel in sorted(channels, key=lambda each: store.tries(each.name)):
        refused, began = 0, now()
        for delivery, alert in store.due(channel.name, now(), now() + 2 * _LONGEST_WAIT):
            if alert.severity < channel.minimum:
                error = "below the channel's minimum"
                store.set_delivery(replace(delivery, state=DeliveryState.DELIVERED, error=error))
                continue
            if now() - began >= _TURN:
                break
            tried = replace(delivery, attempts=delivery.attempts + 1, next_try=now() + _LEASE)
            if not store.begin_delivery(tried):
                continue
            failure = send(channel, alert, repeat=delivery.attempts > 0, limit=limit)
            if failure is None:
                sent.append(channel.name)
                store.set_delivery(replace(tried, state=DeliveryState.DELIVERED, delivered=now(), error=""))
                continue
            failed.append((channel.name, str(failure)))
            _put_off(store, tried, alert, failure, now())
            refused += 1
            if refused == _REFUSALS or isinstance(failure, _Hangs | Busy):
                break
    return Delivered(tuple(sent), tuple(failed))


def _put_off(store: Store, tried: Delivery, alert: Alert, failure: Failure, now: datetime) -> None:
    """Try again later: as a channel asks that is busy, else with back-off; tell the others of one that fails long."""
    wait = min(_LONGEST_WAIT, _FIRST_WAIT * (1 << min(tried.attempts - 1, 16)))
    # Each round tries few alerts, those that were tried least: only all their tries together tell how long it is.
    tries = store.tries(tried.channel)
    long = tried.attempts >= _PATIENCE or (tried.attempts > 1 and tries >= _PATIENCE * _REFUSALS)
    if isinstance(failure, _Hangs | Busy):
        if isinstance(failure, Busy):
            wait = min(_LONGEST_WAIT, max(_FIRST_WAIT, failure.after))
            store.put_off(tried.channel, now + wait)
        long |= tries >= _PATIENCE or tries * wait > _SHORT
    store.set_delivery(replace(tried, next_try=now + wait, error=str(failure)))
    # Not only at the very attempt: a crash may have come between it and this line. Told twice, it is one.
    if long and alert.kind is not AlertKind.CHANNEL:
        store.add_alert(_channel_alert(tried.channel, str(failure), alert, now))


def send(channel: Channel, alert: Alert, *, repeat: bool, limit: float = LIMIT) -> Failure | None:
    """Send an alert by one channel; return why it does not take it, None when it does.

    Whatever it raises, and however long it takes (limit is in seconds): a plugin of somebody else's that breaks or
    hangs must not end the round for the other channels.
    """
    try:
        return within(limit, lambda: _tried(channel, alert, repeat))
    except TimeoutError:
        return _Hangs("no answer in time; it may have arrived all the same")


def _tried(channel: Channel, alert: Alert, repeat: bool) -> Failure | None:
    try:
        channel.send(alert, repeat)
    except Failure as failure:
        return failure
    except Exception as error:  # noqa: BLE001 - its words are not told: they may hold the URL, and that a token
        return Failure(f"the channel broke: {type(error).__name__}")
    return None


def _channel_alert(name: str, why: str, alert: Alert, now: datetime) -> Alert:
    # Named by the alert that could not be told: another one on the same day is another loss.
    return Alert(
        key=f"channel/{name}/{alert.key}", kind=AlertKind.CHANNEL, severity=Severity.HIGH, at=now,
        facts=(("channel", name), ("why", why), ("undelivered", alert.key)),
    )  # fmt: skip


def test_alert(now: datetime) -> Alert:
    """Return an alert that only says that alerts arrive."""
    return Alert(key=f"test/{rfc3339(now)}", kind=AlertKind.TEST, severity=Severity.CRITICAL, at=now)


@dataclass(frozen=True, slots=True)
class World:
    """What channels reach the outside with: AWS clients, standard output, the clock, and where secrets are kept."""

    clients: Clients
    out: TextIO
    now: Callable[[], datetime]
    resolve: Callable[[Reference], Secret]


def make_channel(config: ChannelConfig, world: World) -> Channel:
    """Make a channel from its configuration. A URL of no known kind raises UsageFailure."""
    url = world.resolve(config.url).reveal()
    key = None if config.signing_key is None else world.resolve(config.signing_key)
    return Channel(config.name, Severity[config.minimum.upper()], _send(config.name, url, key, world))


def broken_channel(config: ChannelConfig, why: Failure) -> Channel:
    """Stand in for a channel that cannot be made: it takes nothing, and says why."""

    def refuse(_alert: Alert, _repeat: bool) -> None:
        raise Failure(why.what, why.hint)

    return Channel(config.name, Severity[config.minimum.upper()], refuse)


def _send(name: str, url: str, key: Secret | None, world: World) -> Send:
    try:
        rest = urlsplit(url)
    except ValueError:
        # Python's words may hold the URL, and the URL a token.
        raise UsageFailure(f"channel {name}: its URL is none", "see firedamp config example") from None
    match rest.scheme:
        case "stdout":
            return lambda alert, repeat: _print(world.out, alert, repeat)
        case "syslog":
            return lambda alert, repeat: _syslog(rest.hostname, rest.port, alert, repeat)
        case "webhook+http" | "webhook+https":
            target = url.removeprefix("webhook+")
            return lambda alert, repeat: _webhook(target, key, alert, repeat, world.now())
        case "sns":
            topic = unquote(rest.netloc + rest.path)  # sns://arn:aws:sns:REGION:ACCOUNT:NAME
            return lambda alert, repeat: _sns(world.clients, topic, alert, repeat)
        case "sqs":
            return lambda alert, repeat: _sqs(world.clients, rest.netloc, rest.path, alert, repeat)
        case _:
            return _apprise(name, url)


def _print(out: TextIO, alert: Alert, repeat: bool) -> None:
    worded = wording.word(alert, repeat)
    print(f"{worded.title}\n{worded.body}\n", file=out, flush=True)


def _syslog(host: str | None, port: int | None, alert: Alert, repeat: bool) -> None:
    from logging.handlers import SysLogHandler

    worded = wording.word(alert, repeat)
    line = f"firedamp: {worded.title}: " + " ".join(f"{name}={json.dumps(value)}" for name, value in alert.facts)
    line = line[:_SYSLOG]
    try:
        handler = SysLogHandler("/dev/log" if host is None else (host, port or 514))
        handler.handleError = _raise  # type: ignore[method-assign]
        try:
            handler.emit(logging.LogRecord("firedamp", logging.CRITICAL, "", 0, line, None, None))
        finally:
            handler.close()
    except OSError as error:
        raise Failure(f"syslog does not take the alert: {error}") from error


def _raise(record: logging.LogRecord) -> None:  # noqa: ARG001 - logging's own signature
    raise  # noqa: PLE0704 - called inside logging's except block: the handler must not swallow it


def payload(alert: Alert, repeat: bool) -> bytes:
    """Return an alert as the JSON body that webhooks and queues get."""
    worded = wording.word(alert, repeat)
    body: Mapping[str, object] = {
        "alert": alert.key, "kind": alert.kind.value, "severity": alert.severity.name.lower(),
        "at": rfc3339(alert.at), "key": alert.key_id, "incident": alert.incident, "fingerprint": alert.fingerprint,
        "title": worded.title, "text": worded.body, "facts": [list(pair) for pair in alert.facts], "repeat": repeat,
    }  # fmt: skip
    return json.dumps(body).encode()


def _webhook(url: str, key: Secret | None, alert: Alert, repeat: bool, now: datetime) -> None:
    body, time = payload(alert, repeat), str(int(now.timestamp()))
    headers = {"Content-Type": "application/json", "User-Agent": "firedamp", "X-Firedamp-Timestamp": time}
    if key is not None:
        # The time is signed with the body, so that an old message cannot be sent again as a new one.
        mac = hmac.new(key.reveal().encode(), time.encode() + b"." + body, hashlib.sha256)
        headers["X-Firedamp-Signature"] = f"sha256={mac.hexdigest()}"
    request = urllib.request.Request(url, body, headers, method="POST")  # noqa: S310 - the scheme is http or https
    try:
        with _OPENER.open(request, timeout=_TIMEOUT) as answer:
            answer.read(1)
    except urllib.error.HTTPError as error:
        error.close()
        after = retry_after(error.headers.get("Retry-After", ""), now) if error.code in {429, 503} else None
        if after is not None:
            raise Busy(f"the webhook answers {error.code} and asks to wait {after}", after) from error
        raise Failure(f"the webhook answers {error.code}") from error
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise Failure(f"the webhook cannot be reached: {_reason(error)}") from error


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """An alert goes where it was told, and nowhere else."""

    def redirect_request(self, *_: object) -> None:
        return None


_OPENER: Final = urllib.request.build_opener(_NoRedirect)


def _reason(error: Exception) -> str:
    """Return why a connection failed, without the URL: it may hold a token."""
    reason = getattr(error, "reason", None)
    return str(reason) if isinstance(reason, OSError) else type(error).__name__


def _sns(clients: Clients, topic: str, alert: Alert, repeat: bool) -> None:
    worded = wording.mail(alert, repeat)
    parts = topic.split(":")
    if len(parts) < 6:
        raise UsageFailure(f"{topic} is no topic", "sns://arn:aws:sns:REGION:ACCOUNT:NAME")
    with failures("the topic does not take the alert"):
        # SNS allows 100 printable ASCII characters in a subject.
        subject = worded.title.encode("ascii", "replace").decode()[:100]
        clients.sns(parts[3]).publish(TopicArn=topic, Subject=subject, Message=worded.body)


def _sqs(clients: Clients, region: str, path: str, alert: Alert, repeat: bool) -> None:
    account, _, queue = path.strip("/").partition("/")
    with failures("the queue does not take the alert"):
        client = clients.sqs(region)
        url = client.get_queue_url(QueueName=queue, QueueOwnerAWSAccountId=account)["QueueUrl"]
        client.send_message(QueueUrl=url, MessageBody=payload(alert, repeat).decode())


def _apprise(name: str, url: str) -> Send:
    import apprise

    # Its log would hold the URL, and the URL holds the token.
    logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)
    service = apprise.Apprise.instantiate(url)
    if service is None:
        raise UsageFailure(f"channel {name}: its URL is of no known kind", "see the list of apprise services")
    if "overflow_mode" not in vars(service):  # the URL does not say: `?overflow=truncate`
        # A message that is longer than a service takes (Pushover 1,024 characters, Discord 2,000) is refused for ever.
        service.overflow_mode = apprise.OverflowMode.SPLIT

    def send(alert: Alert, repeat: bool) -> None:
        worded = wording.mail(alert, repeat) if url.startswith("mail") else wording.chat(alert, repeat)
        if not service.notify(title=worded.title, body=worded.body, body_format=apprise.NotifyFormat.TEXT):
            raise Failure(f"channel {name}: the service did not take the alert")

    return send
