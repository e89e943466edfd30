"""`alert test` and `alert deliver`: makes the channels of the configuration and empties the outbox into them."""

from __future__ import annotations

import functools
import os
import sys

from firedamp.service import alerts, clock, show
from firedamp.service.alerts import Channel, World
from firedamp.service.aws import Aws
from firedamp.service.config import Config, Reference
from firedamp.service.options import Common
from firedamp.storage.errors import Failure, UsageFailure
from firedamp.storage.records import Alert
from firedamp.storage.refusals import failures
from firedamp.storage.secret import Secret
from firedamp.storage.store import Store


def alert(action: str, common: Common) -> int:
    """Try every channel now, or deliver what is due; return 2 when a channel failed."""
    config = common.settings()
    if not config.channel:
        raise UsageFailure("no channel is configured", "a [[channel]] in the file of --config; see config example")
    if common.offline:
        raise UsageFailure("alerts go out to channels, and --offline contacts nobody")
    with common.open_store() as store:
        sent, failed = _test(config, store) if action == "test" else deliver(config, store)
    common.say(f"{sent} sent, {failed} failed")
    return 2 if failed else 0


def deliver(config: Config, store: Store, *, asking: bool = True) -> tuple[int, int]:
    """Deliver what is due by the configured channels; return how many were sent, and how many failed, each told.

    asking: somebody may be asked for the code of an MFA device. In the middle of a watch that would stop it.
    """
    channels, broken = make_channels(config, store, asking=asking)
    done = alerts.deliver(store, channels, clock.now)
    # One that cannot be made has failed, even where nothing is due for it.
    return len(done.sent), _tell(list(dict.fromkeys([*broken, *done.failed])))


def _test(config: Config, store: Store) -> tuple[int, int]:
    channels, _ = make_channels(config, store)
    failed = _tell(_try(channels, alerts.test_alert(clock.now())))
    return len(channels) - failed, failed


def _tell(failed: list[tuple[str, str]]) -> int:
    for name, why in failed:
        print(f"firedamp: channel {show.safe(name)}: {show.safe(why)}", file=sys.stderr)
    return len(failed)


def make_channels(config: Config, store: Store, *, asking: bool = True) -> tuple[list[Channel], list[tuple[str, str]]]:
    """Make every channel, and say which cannot be made: in their place stands one that fails whatever it is given.

    So what belongs to it waits, is tried again, and its failing is an alarm on the others.
    """
    aws = Aws(now=clock.now, random=os.urandom, write_down=store.add_own_call, asking=asking)
    world = World(aws, sys.stdout, clock.now, functools.partial(resolve, aws))
    channels: list[Channel] = []
    broken: list[tuple[str, str]] = []
    for each in config.channel:
        try:
            channels.append(alerts.make_channel(each, world))
        except Failure as failure:
            broken.append((each.name, str(failure)))
            channels.append(alerts.broken_channel(each, failure))
    return channels, broken


def resolve(aws: Aws, reference: Reference) -> Secret:
    """Read a secret from where the configuration says it is kept; AWS is asked only for `aws:` ones."""
    return reference.resolve(lambda name: _from_secrets_manager(aws, name))


def _from_secrets_manager(aws: Aws, name: str) -> str:
    with failures(f"the secret {name} cannot be read"):
        value: str = aws.client("secretsmanager").get_secret_value(SecretId=name)["SecretString"]
    return value


def _try(channels: list[Channel], test: Alert) -> list[tuple[str, str]]:
    tried = [(channel.name, alerts.send(channel, test, repeat=False)) for channel in channels]
    return [(name, str(why)) for name, why in tried if why is not None]
