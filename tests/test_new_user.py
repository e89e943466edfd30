"""What a new user does in an afternoon, against a loopback AWS and a loopback forge, with the service killed midway."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.scenes import code, drain, make_queue, start_trail
from tests.test_orgs import Acme
from tests.test_story import INTRUDER, Inbox

from firedamp.canaries.formats import FORMATS
from firedamp.service import cli
from firedamp.service.loopback import Loopback, LoopbackKey
from firedamp.storage.store import Store

CONFIG = """
[verify]
enabled = false
[serve]
listen = "127.0.0.1:0"
cache = "{folder}/cache"
[watch]
feeds = ["sqs://us-east-1/{account}/notices"]
[[channel]]
name = "webhook"
url = "env:WEBHOOK"
[[job]]
name = "organisation"
kind = "scan"
every = "1h"
orgs = ["{org}"]
[[job]]
name = "watch"
kind = "watch"
every = "3s"
"""
LATER = '[[job]]\nname = "{kind}"\nkind = "{kind}"\ncron = "0 0 1 1 *"\n'


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 240
    while not true():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.2)


@pytest.mark.slow  # a minute of real processes, one after the other
def test_an_organisation_is_scanned_a_canary_trips_and_a_killed_service_still_alarms(
    tmp_path: Path, aws: Loopback, rng: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    acme, inbox = Acme(tmp_path, rng), Inbox()
    for number in range(20):
        acme.add(f"repository-{number}")
    start_trail(aws)
    url, arn = make_queue(aws, "notices")
    notify: Any = {"QueueConfigurations": [{"QueueArn": arn, "Events": ["s3:ObjectCreated:*"]}]}
    aws.client("s3").put_bucket_notification_configuration(Bucket="logs", NotificationConfiguration=notify)
    drain(aws, url)
    own = {"AWS_ENDPOINT_URL": aws.url, "AWS_ACCESS_KEY_ID": aws.admin.id, "WEBHOOK": inbox.channels["webhook"]}
    for name, value in (own | {"AWS_SECRET_ACCESS_KEY": aws.admin.secret.reveal()}).items():
        monkeypatch.setenv(name, value)
    config, database = tmp_path / "firedamp.toml", tmp_path / "x.db"
    jobs = "".join(LATER.format(kind=kind) for kind in ("nets", "check", "prune"))
    config.write_text(CONFIG.format(folder=tmp_path, account=aws.account, org=acme.target) + jobs)
    common = ["--config", str(config), "--db", str(database)]

    def serve() -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "firedamp.service.cli", "serve", *common]
        return subprocess.Popen(command, stderr=subprocess.DEVNULL)

    assert cli.main(["config", "check", *common]) == 0
    assert cli.main(["alert", "test", *common]) == 0
    handed = tmp_path / "canary.jsonl"
    assert cli.main(["canary", "mint", *common, "--format", "jsonl", "--output", str(handed)]) == 0
    name = json.loads(handed.read_text())["name"]
    place = tmp_path / "srv" / ".env"
    place.parent.mkdir()
    assert cli.main(["canary", "plant", name, "--at", str(place), "--as", "env", *common]) == 0
    with Store(database) as store, acme.server.running():
        (planted,) = store.placements()
        first = serve()
        try:
            until(lambda: {each.access_key_id for each in store.findings()} >= set(acme.keys.values()))
        finally:
            first.kill()
            first.wait()
        holder = store.instance()
        assert holder is not None
        store.release(holder.owner)  # as a minute without a heartbeat would
        read = FORMATS["env"].find(place.read_text(), planted)
        assert read is not None
        key = LoopbackKey(planted, read.secret)
        assert code(aws.client("s3", key, source_ip=INTRUDER).list_buckets) == "AccessDenied"
        aws.trail.flush()
        second = serve()
        try:
            until(lambda: any(str(place) in text and INTRUDER in text for _, text in inbox.got))
            second.send_signal(signal.SIGTERM)
            assert second.wait(60) == 0
        finally:
            second.kill()
            second.wait()
        assert len(store.incidents()) == 1
    assert sum(str(place) in text for _, text in inbox.got) == 1
    inbox.close()
