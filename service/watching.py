"""`watch`, `incidents` and `usage`: reads the feeds, shows what came of it."""

from __future__ import annotations

import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import Final
from urllib.parse import unquote, urlsplit

from firedamp.canaries import blind
from firedamp.canaries import usage as stories
from firedamp.canaries import watch as watcher
from firedamp.canaries.feeds import World
from firedamp.canaries.opening import open_feed
from firedamp.canaries.tamper import WORDS, Guarded
from firedamp.service import alerting, clock, proving, show, show_incidents, show_usage
from firedamp.service.addresses import locator
from firedamp.service.aws import Aws
from firedamp.service.config import Config, WatchConfig, load
from firedamp.service.options import Common, Format, IncidentsOptions, UsageOptions, WatchOptions
from firedamp.service.typed import refuse_impossible
from firedamp.storage.errors import UsageFailure
from firedamp.storage.records import Finding, Incident, IncidentState, Outcome, Owner, RealKey, WatchedKey
from firedamp.storage.store import Store

_CALLS: Final = 100
"""Calls of an incident that are shown from its beginning, and from its end."""


def watch(options: WatchOptions, common: Common) -> int:
    """Poll every feed, once or for ever. A watch without end sends its alarms itself, where channels are configured.

    With `--once`, return 2 when something could not be read, else 1 when an incident became an alarm, else 0.
    """
    common.must_be(Format.TABLE, Format.JSON, Format.JSONL)
    config = load(common.config) if common.config is not None else Config()
    urls = options.feeds or config.watch.feeds
    if not urls:
        raise UsageFailure("watch needs a feed", "firedamp watch --feed file:///FOLDER")
    with common.open_store() as store:
        if not (store.watched() or config.watch.tamper_accounts):
            common.say("no key is watched: firedamp canary mint or canary adopt KEYID")
        feeds = [open_feed(url, world(store, common, config)) for url in urls]
        rules = rules_of(config.watch, urls)
        while True:
            polled = [watcher.poll(feed, store, clock.now(), rules, clock.now) for feed in feeds]
            grown = {each.after.id: each.after for one in polled for each in one.grown}
            _show(list(grown.values()), common, store)
            for each in polled:
                _tell(each, common)
            if not common.offline and not any(each.failed for each in polled):
                proving.beat(config, store)
            if options.once:
                failed = any(each.failed for each in polled)
                if not (grown or failed):
                    common.say("no incident was opened, and none has grown")
                return 2 if failed else int(any(each.opened for each in polled))
            _alarm(urls, config, store, common)
            time.sleep(options.interval)


def _alarm(urls: Sequence[str], config: Config, store: Store, common: Common) -> None:
    """Tell of a feed that is not read any more, as `serve` does, and send what waits for the channels."""
    proving.record(store, list(blind.feeds(urls, proving.reach(store), config.watch.blind_after, clock.now())))
    if config.channel and not common.offline:
        alerting.deliver(config, store, asking=False)


def world(store: Store, common: Common, config: Config) -> World:
    """Return the world as feeds see it: our own access to AWS, unless `--offline` forbids it."""
    aws = Aws(now=clock.now, random=random.SystemRandom().randbytes, write_down=store.add_own_call)

    def clients(service: str, region: str | None, profile: str | None) -> object:
        if common.offline:
            raise UsageFailure("--offline contacts nobody", "only file:// feeds work without AWS")
        return aws.client(service, region, profile or config.aws.watch_profile or config.aws.profile)

    return World(clients=clients, watched=store.watched, clock=clock.now, sleep=time.sleep)


def rules_of(config: WatchConfig, urls: Sequence[str]) -> watcher.Rules:
    """Return how a watch judges: as configured, and with the bucket and queue names that its feeds tell."""
    parts = [urlsplit(url) for url in urls]
    guarded = Guarded(
        accounts=frozenset(config.tamper_accounts),
        buckets=frozenset(each.netloc for each in parts if each.scheme == "s3"),
        queues=frozenset(unquote(each.path).rpartition("/")[2] for each in parts if each.scheme == "sqs"),
        words=(*WORDS, *(each.lower() for each in config.tamper_names)),
        keys=frozenset(each.rpartition("/")[2] for each in config.tamper_keys),
    )
    return watcher.Rules(quiet=config.quiet, guarded=guarded, locate=locator(config))


def _tell(polled: watcher.Polled, common: Common) -> None:
    """Say what could not be read, always, and what was left out, unless asked to be quiet."""
    for each in polled.failed:
        print(f"firedamp: {show.failed(each.what, each.why)}", file=sys.stderr)
    told = Counter[str]()
    for each in polled.skipped:
        if each.outcome is not Outcome.FAILED:
            told[f"{each.outcome.value}: {each.why}"] += each.count
    told.update(f"rejected: {each.why}" for each in polled.rejected)
    for words, count in told.items():
        common.say(f"{show.safe(polled.feed)}: {count} {show.safe(words)}")


def incidents(options: IncidentsOptions, common: Common) -> int:
    """List, show or close incidents."""
    common.must_be(Format.TABLE, Format.JSON, Format.JSONL)
    with common.open_store() as store:
        numbers = [int(each) for each in options.ids if each.isdecimal() and each.isascii()]
        if len(numbers) < len(options.ids):
            raise UsageFailure("an incident is known by its number", "see firedamp incidents list")
        if options.action in {"show", "close"} and not numbers:
            raise UsageFailure(f"incidents {options.action} needs a number", "see firedamp incidents list")
        if options.action == "close":
            for number in numbers:
                if not store.close_incident(number, options.reason):
                    raise UsageFailure(f"there is no incident {number}", "see firedamp incidents list --all")
                common.say(f"incident {number} is closed")
            return 0
        state = None if options.all or numbers else IncidentState.OPEN
        found = [each for each in store.incidents(state=state) if not numbers or each.id in numbers]
        missing = set(numbers) - {each.id for each in found}
        if missing:
            raise UsageFailure(f"there is no incident {min(missing)}", "see firedamp incidents list --all")
        if options.action == "show" and common.format is Format.TABLE:
            _tell_stories(found, common, store, None if options.all else _CALLS)
        else:
            _show(found, common, store)
        if not found:
            common.say("there is no incident" if options.all else "no incident is open")
        if options.action == "list" and common.format is Format.TABLE:
            common.say(show.safe(proving.words(store)))
    return 0


def usage(options: UsageOptions, common: Common) -> int:
    """Tell who used a key since it leaked; return 2 when a feed could not be read."""
    common.must_be(Format.TABLE, Format.JSON, Format.JSONL)
    config = load(common.config) if common.config is not None else Config()
    # A queue gives each message once: reading it here would take it away from the watch.
    urls = options.feeds or tuple(url for url in config.watch.feeds if urlsplit(url).scheme != "sqs")
    if any(urlsplit(url).scheme == "sqs" for url in urls):
        raise UsageFailure("a queue holds no history", "--feed s3://…, lookup:// or file:///FOLDER")
    with common.open_store() as store:
        refuse_impossible(options.key_id, store)
        findings = store.findings(key_id=options.key_id)
        sights = store.sights({each.fingerprint for each in findings}, gone=True)
        gathered = stories.gather(
            _as_watched(options.key_id, findings, store), store.sightings_of(options.key_id),
            lambda around: [open_feed(url, around) for url in urls], world(store, common, config),
        )  # fmt: skip
        told = stories.story(options.key_id, gathered, stories.leaks(findings, sights), store.own_calls(), urls)
        with common.out() as out:
            if common.format is Format.TABLE:
                out.write(show_usage.usage_text(told, clock.now()))
            else:
                show.json_lines([show_usage.usage_line(told)], out.write)
        return 2 if any(each.outcome is Outcome.FAILED for each in told.skipped) else 0


def _as_watched(key_id: str, findings: Sequence[Finding], store: Store) -> WatchedKey:
    """Return the key as it is watched, else with the owner that AWS named when the finding was verified."""
    watched = next((each for each in store.watched() if each.key_id == key_id), None)
    if watched is not None:
        return watched
    said = next((each.verification for each in findings if each.verification.arn is not None), None)
    owner = Owner() if said is None else Owner(arn=said.arn, account_id=said.account_id)
    return RealKey(key_id=key_id, name=key_id, owner=owner, since=clock.now())


def _show(incidents: Sequence[Incident], common: Common, store: Store) -> None:
    """Show incidents: a table has two lines of each."""
    placements = store.placements()
    with common.out() as out:
        if common.format is not Format.TABLE:
            told = ((each, store.each_sighting(each.id), placements.get(each.key_id or "")) for each in incidents)
            show.incident_lines(told, out.write, whole=common.format is Format.JSON)
            return
        for each in incidents:
            out.write(show_incidents.line(each, placements.get(each.key_id or "")))


def _tell_stories(incidents: Sequence[Incident], common: Common, store: Store, most: int | None) -> None:
    """Show the calls of incidents as a table. most: so many of the first and of the last, None for all."""
    placements = store.placements()
    with common.out() as out:
        for each in incidents:
            told = (store.each_sighting(each.id), 0, []) if most is None else store.ends(each.id, most)
            out.writelines(show_incidents.story(each, placements.get(each.key_id or ""), *told))
