"""`canary drill`: reads a canary's secret back from where it was planted, uses it, and times the alarm's way."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from firedamp.canaries import drill as drills
from firedamp.canaries import naming, watch
from firedamp.canaries.blind import KEY
from firedamp.canaries.drill import World
from firedamp.canaries.heard import RHYTHM
from firedamp.canaries.mint import Minted, Order, pending
from firedamp.canaries.opening import open_feed
from firedamp.scanner.candidates import Located
from firedamp.scanner.reread import reread
from firedamp.scanner.source import Blob
from firedamp.service import alerting, alerts, clock, health, ledger, minting, proving, scanning, show, watching
from firedamp.service.aws import PRODUCT, Aws, share_models
from firedamp.service.config import Config
from firedamp.service.options import CanaryOptions, Common, Format
from firedamp.service.spots import Places
from firedamp.storage import nonce
from firedamp.storage.errors import AwsFailure, Failure, UsageFailure, aws_code
from firedamp.storage.keyid import account_of
from firedamp.storage.records import Blind, Canary, Drill, MintPurpose, OwnCall, Severity
from firedamp.storage.refusals import failures
from firedamp.storage.secret import Secret
from firedamp.storage.store import Store
from firedamp.storage.times import maybe_rfc3339, rfc3339

if TYPE_CHECKING:
    from botocore.awsrequest import AWSPreparedRequest

_TRIES: Final = 50
"""Canaries of one account that are tried for a secret that can be read back, before the path alone is drilled."""
_NEW_KEY: Final = 12
"""Times a new key is tried: IAM needs some seconds to make it known everywhere (IAM guide, "eventual consistency")."""
_KNOWN_KEY: Final = 3
"""The same in a region that is not the first."""
_PAUSE: Final = 3.0
_REGIONS: Final = 30
"""Regions that a path is drilled in at most."""


def drill(options: CanaryOptions, common: Common, store: Store) -> int:
    """Drill the canaries that are named, or one of every account; return 1 over budget, 2 when it could not be done."""
    common.must_be(Format.TABLE, Format.JSON, Format.JSONL)
    aws, config = minting.our_aws(store, common), common.settings()
    if not config.watch.feeds:
        raise UsageFailure("a drill needs a feed to see its record in", "feeds = [...] under [watch] of --config FILE")
    budget = timedelta(seconds=options.budget) if options.budget is not None else config.watch.drill_budget
    world = _world(store, common, config, budget)
    driller = Driller(aws, store, config, options, world)
    with minting.alone(common, "drill"):
        _settle(world)
        driller.clear()
        # A name may mean several keys of one user: the one that can be read back is drilled.
        chosen = [ledger.chosen([name], store) for name in options.names]
        several = [driller.one(each) for each in chosen] if chosen else driller.every_account()
        ended = [each for one in several for each in one]
    with common.out() as out:
        if common.format is Format.TABLE:
            for each in ended:
                _show(each, world, out.write)
        else:
            lines = [_line(each, world) for each in ended]
            show.json_lines(lines, out.write, whole=common.format is Format.JSON)
    if not ended or any(each.failed for each in ended):
        return 2
    return int(any(each.drill is not None and drills.over(each.drill, world) for each in ended))


def _settle(world: World) -> None:
    """Finish the drills of earlier runs as far as their records have come meanwhile."""
    store = world.store
    names = {key.key_id: key.name for key in store.watched()}
    old = list(drills.unfinished(store.drills(), world))
    if old:
        world.poll()
    for each in old:
        drills.settle(each, names.get(each.key_id, each.key_id), world)
    store.forget_drill_keys(world.now() - drills.GIVE_UP)


@dataclass(frozen=True, slots=True)
class Ended:
    """How one drill went; failed says why it could not be made."""

    name: str
    drill: Drill | None
    failed: str = ""


def _world(store: Store, common: Common, config: Config, budget: timedelta) -> World:
    """Return what waiting needs: where a service polls and delivers, it is only waited for."""
    instance = store.instance()
    served = instance is not None and abs(clock.now() - instance.heartbeat) < health.STALE
    if not served:
        told = "nobody serves this database: this run reads the feeds and delivers by itself"
        common.say(f"{told}, so it proves the way of a record, and no watch")
    feeds = [] if served else [open_feed(url, watching.world(store, common, config)) for url in config.watch.feeds]
    channels = [] if served else alerting.make_channels(config, store)[0]
    rules = watching.rules_of(config.watch, config.watch.feeds)

    def poll() -> None:
        for feed in feeds:
            watch.poll(feed, store, clock.now(), rules, clock.now)

    def deliver() -> None:
        alerts.deliver(store, channels, clock.now)

    takes = any(Severity[each.minimum.upper()] <= Severity.LOW for each in config.channel)
    return World(
        store=store, now=clock.now, sleep=time.sleep, poll=poll, deliver=deliver, channels=takes, budget=budget
    )  # fmt: skip


class Driller:
    """Makes drills: of a canary itself where its secret can be read back, else of its account's path."""

    def __init__(self, aws: Aws, store: Store, config: Config, options: CanaryOptions, world: World) -> None:
        self._aws, self._store, self._world = aws, store, world
        self._profile = minting.profile_of(options, config)
        self._accounts = proving.Accounts(aws, store, config, self._profile)
        self._feeds = config.watch.feeds
        self._places = Places(store, offline=False, profile=self._profile)

    def clear(self) -> None:
        """Take back what drills that were cut off left in IAM."""
        for account in {each.account_id for each in self._store.mintings() if each.purpose is MintPurpose.DRILL}:
            found, profile = self._accounts.profile(account)
            if found:
                mint = minting.make_mint(self._aws, self._store, profile, "drill")
                for each in list(pending(self._store.mintings(), account, MintPurpose.DRILL)):
                    with failures(f"{each.name}, left by a drill, cannot be taken back"):
                        mint.take_back(each)

    def every_account(self) -> list[list[Ended]]:
        """Drill once in every account that has canaries."""
        by_account: dict[str, list[Canary]] = {}
        canaries = [key for key in self._store.watched() if isinstance(key, Canary)]
        for canary in drills.order(canaries, self._store.drills()):
            account = canary.owner.account_id or account_of(canary.key_id) or ""
            by_account.setdefault(account, []).append(canary)
        return [self.one(each) for each in by_account.values()]

    def one(self, canaries: Sequence[Canary]) -> list[Ended]:
        """Drill the first of these canaries that can be read back, or the path of the account they share."""
        name = canaries[0].name
        try:
            for canary in canaries[:_TRIES]:
                secret = self._read_back(canary)
                if secret is not None:
                    name = canary.name
                    return [Ended(name, self._itself(canary, secret))]
            return self._path(canaries[0].owner.account_id or account_of(canaries[0].key_id) or "")
        except Failure as failure:
            return [Ended(name, None, str(failure))]

    def _read_back(self, canary: Canary) -> Secret | None:
        """Read a canary's secret from where it was planted, or where the scanner met it."""
        for finding in self._store.findings(key_id=canary.key_id):
            sights = self._store.sights([finding.fingerprint])[finding.fingerprint]
            met = reread(finding, sights, scanning.read_again, scanning.detect_blob)
            if met is not None and met.secret is not None and met.key_id == canary.key_id:
                return met.secret
        place = self._store.placements().get(canary.key_id)
        if place is None or place.kind == "told":
            return None
        try:
            with self._places.about(canary.key_id, f"{place.place} cannot be read"):
                held = self._places.open(place.place).read()
        except Failure:  # not ours to read: the path is drilled
            return None
        if held is not None:
            for located in scanning.detect_blob(Blob("", held.data, path=place.place)):
                match located:
                    case Located(credential=found) if found.key_id == canary.key_id and found.rank == 0:
                        return found.secret
                    case _:
                        continue
        return None

    def _itself(self, canary: Canary, secret: Secret) -> Drill:
        try:
            used = self._use(canary.key_id, secret, tries=1)
        except AwsFailure as failure:
            condition = f"{KEY}{canary.key_id} of {canary.name}"
            proving.record(self._store, [Blind(condition=condition, why=f"a drill: {failure.what}")])
            raise
        return drills.wait(self._started(used, canary.key_id, path_only=False), canary.name, self._world)

    def _path(self, account: str) -> list[Ended]:
        """Drill in every region with a user of its own, made for it and taken back whatever happens."""
        found, profile = self._accounts.profile(account)
        if not found:
            raise UsageFailure(f"no canary of account {account} can be read back, and {self._accounts.nobody(account)}")
        mint = minting.make_mint(self._aws, self._store, profile, "drill")
        handed: list[Minted] = []
        with failures("a key for the drill cannot be made"):
            pattern = naming.like(self._names(account))
            [asked] = mint.plan(Order(account_id=account, profile=profile, pattern=pattern, purpose=MintPurpose.DRILL))
            self._store.ask([asked])
            try:
                mint.make(asked, handed.append)
                return self._by_region(account, handed[0])
            finally:
                for each in [each for each in self._store.mintings() if each.name == asked.name]:
                    mint.take_back(each)

    def _by_region(self, account: str, made: Minted) -> list[Ended]:
        """Call in each region first, then wait: the records come at the same time."""
        called: list[tuple[str, Drill | Failure]] = []
        for number, region in enumerate(self._regions()):
            name = f"the path of account {account} in {region}"
            try:
                used = self._use(
                    made.canary.key_id, made.secret, tries=_KNOWN_KEY if number else _NEW_KEY, region=region
                )
                called.append((name, self._started(used, made.canary.key_id, path_only=True)))
            except Failure as failure:  # a region that is not enabled
                called.append((name, failure))
        return [
            Ended(name, None, str(each)) if isinstance(each, Failure)
            else Ended(name, drills.wait(each, name, self._world))
            for name, each in called
        ]  # fmt: skip

    def _regions(self) -> list[str]:
        """Return the regions that the feeds watch: those they name, and those that records came of within a week."""
        feeds = [urlsplit(url) for url in self._feeds]
        named = [region for url in feeds if url.scheme == "lookup" for region in url.netloc.split(",") if region]
        since = self._world.now() - RHYTHM
        heard = [each.region for each in self._store.heard() if each.feed in self._feeds and each.newest > since]
        return sorted({*named, *heard})[:_REGIONS] or [self._region()]

    def _region(self) -> str:
        return self._aws.session(self._profile).region_name or "us-east-1"

    def _names(self, account: str) -> set[str]:
        """Return what the users of an account's canaries are called, of those that were minted here if there are any.

        The rights to make users, the rule and the trail may know canaries by how their names begin.
        """
        canaries = [key for key in self._store.watched() if isinstance(key, Canary) and key.owner.user_name]
        ours = [each for each in canaries if (each.owner.account_id or account_of(each.key_id)) == account]
        minted = [each for each in ours if not each.adopted]
        return {each.owner.user_name for each in minted or ours if each.owner.user_name}

    def _started(self, used: OwnCall, key_id: str, *, path_only: bool) -> Drill:
        drill = Drill(nonce=used.nonce, key_id=key_id, path_only=path_only, called=used.at)
        self._store.set_drill(drill)
        return drill

    def _use(self, key_id: str, secret: Secret, tries: int, region: str | None = None) -> OwnCall:
        """Call GetCallerIdentity with a canary, written down before it is sent. Return what was written down."""
        import boto3
        from botocore.config import Config as Settings
        from botocore.exceptions import ClientError

        region = region or self._region()
        given = boto3.Session(aws_access_key_id=key_id, aws_secret_access_key=secret.reveal(), region_name=region)
        session = share_models(given)
        # One attempt a call: a retry of botocore's own would carry the same nonce, and a nonce met twice is an alarm.
        client = session.client("sts", config=Settings(retries={"total_max_attempts": 1}))
        made: list[OwnCall] = []

        def mark(request: AWSPreparedRequest, **_: object) -> None:
            call = OwnCall(
                nonce=nonce.make(os.urandom(nonce.BYTES)), key_id=key_id, principal=key_id,
                call="sts:GetCallerIdentity", host=urlsplit(request.url).netloc, at=clock.now(), purpose="drill",
            )  # fmt: skip
            self._store.add_own_call(call)
            made.append(call)
            request.headers["User-Agent"] = f"{PRODUCT} {nonce.mark(call.nonce)}"

        client.meta.events.register_last("before-send.sts.GetCallerIdentity", mark)
        with failures("AWS does not take the canary's key"):
            for left in reversed(range(tries)):
                try:
                    client.get_caller_identity()
                    break
                except ClientError as error:
                    if aws_code(error) != "InvalidClientTokenId" or not left:
                        raise
                    time.sleep(_PAUSE)
        return made[-1]


def _stations(drill: Drill) -> dict[str, datetime | None]:
    return {
        "called": drill.called, "recorded": drill.recorded, "sighted": drill.sighted, "alerted": drill.alerted,
        "delivered": drill.delivered,
    }  # fmt: skip


def _line(ended: Ended, world: World) -> dict[str, show.Json]:
    drill = ended.drill
    if drill is None:
        return {"drill": None, "name": ended.name, "failed": ended.failed}
    line: dict[str, show.Json] = {
        "drill": drill.nonce, "name": ended.name, "key": drill.key_id, "path_only": drill.path_only,
        "seconds": round(drills.took(drill, world).total_seconds()),
        "budget": round(world.budget.total_seconds()), "over": drills.over(drill, world),
    }  # fmt: skip
    return line | {station: maybe_rfc3339(at) for station, at in _stations(drill).items()}


def _show(ended: Ended, world: World, write: Callable[[str], object]) -> None:
    drill = ended.drill
    if drill is None:
        write(f"✗ {show.safe(ended.name)}: {show.safe(ended.failed)}\n")
        return
    seconds, late = drills.took(drill, world).total_seconds(), drills.over(drill, world)
    how = "by its path" if drill.path_only else "itself"
    verdict = "over budget" if late else "within budget"
    write(f"{'✗' if late else '✓'} {show.safe(ended.name)}, proven {how}: {seconds:.1f} s, {verdict}\n")
    for station, at in _stations(drill).items():
        if at is None and station == "delivered" and not world.channels:
            write("    delivered: no channel takes it\n")
        else:
            write(f"    {station}: {'not yet' if at is None else rfc3339(at)}\n")
