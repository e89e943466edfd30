"""What a feed brought of each region, and what a silence there means."""

from __future__ import annotations

import json
import os
import random
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.trails import START, record, role, trail

from firedamp.canaries import blind, heard, watch
from firedamp.canaries.blind import Reach
from firedamp.canaries.feeds import FolderFeed, World
from firedamp.service import health
from firedamp.service.cli import main
from firedamp.storage.records import AlertKind, Heard, Watermark
from firedamp.storage.store import Store
from firedamp.storage.times import rfc3339

HOUR, DAY, WEEK = timedelta(hours=1), timedelta(days=1), timedelta(days=7)
EU, US = "eu-west-1", "us-east-1"


def judged(first: timedelta, silence: timedelta, longest: timedelta) -> list[str]:
    """Judge a region of which so much is known, that is silent now for so long."""
    known = Heard(region=EU, first=START - silence - first, newest=START - silence, longest=longest)
    return [type(each).__name__ for each in heard.judge("s3://b", [known], 2 * HOUR, START)]


@pytest.mark.parametrize(
    ("first", "silence", "longest", "state"),
    [
        (WEEK, HOUR, HOUR, ["Sound"]),
        (WEEK, 3 * HOUR, HOUR, ["Blind"]),
        (WEEK, 30 * HOUR, 16 * HOUR, ["Sound"]),
        (WEEK, 33 * HOUR, 16 * HOUR, ["Blind"]),
        (DAY, HOUR, HOUR, ["Sound"]),
        (DAY, 3 * HOUR, HOUR, ["Unsure"]),
        (DAY, 8 * DAY, HOUR, []),
        (timedelta(0), 3 * HOUR, timedelta(0), ["Unsure"]),
        (WEEK, 29 * DAY, HOUR, ["Blind"]),
        (WEEK, 31 * DAY, HOUR, []),
        (90 * DAY, 31 * DAY, 20 * DAY, []),
    ],
)
def test_a_silence_is_judged_by_what_is_usual_in_the_region(
    first: timedelta, silence: timedelta, longest: timedelta, state: list[str]
) -> None:
    assert judged(first, silence, longest) == state


TIMES = st.lists(st.integers(0, 40 * 24 * 60), min_size=1, max_size=12)


@settings(max_examples=60, deadline=None)
@given(TIMES, st.randoms(use_true_random=False))
def test_records_in_order_of_time_give_their_longest_silence_however_they_are_cut(
    minutes: list[int], rng: random.Random
) -> None:
    times = [START + timedelta(minutes=each) for each in sorted(minutes)]
    cuts = sorted(rng.sample(range(len(times) + 1), rng.randint(0, min(3, len(times)))))
    parts = [times[a:b] for a, b in zip([0, *cuts], [*cuts, len(times)], strict=True) if times[a:b]]
    whole: Heard | None = None
    for part in parts:
        (one,) = heard.of([{EU: [rfc3339(each) for each in part]}], START + 50 * DAY)
        whole = one if whole is None else whole.joined(one)
    assert whole is not None
    assert (whole.first, whole.newest) == (times[0], times[-1])
    longest = max((later - time for time, later in pairwise(times)), default=timedelta(0))
    assert whole.longest == longest or longest <= HOUR


def test_what_is_no_region_or_no_time_says_nothing() -> None:
    told = [{"": ["2026-11-20T10:00:00Z"], "mars": ["2026-11-20T10:00:00Z"], EU: ["yesterday"]},
            {US: ["2999-01-01T00:00:00Z", "2026-11-20T09:00:00Z"]}]  # fmt: skip
    assert heard.of(told, START) == (Heard(region=US, first=START - HOUR, newest=START - HOUR),)
    many: list[dict[str, list[str]]] = [{f"xx-west-{number}": ["2026-11-20T09:00:00Z"]} for number in range(99)]
    assert len(heard.of(many, START)) == 64


def test_a_late_record_of_long_ago_does_not_make_a_region_known() -> None:
    now = Heard(region=EU, first=START, newest=START)
    late = Heard(region=EU, first=START - 43 * DAY, newest=START - 43 * DAY)
    assert now.joined(late) == late.joined(now)
    assert now.joined(late).longest == 43 * DAY


def test_a_region_that_falls_silent_is_blind_and_every_screen_says_how_old_its_newest_record_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    now, folder = datetime.now(UTC), tmp_path / "trail"
    folder.mkdir()
    feed = folder.as_uri()
    (tmp_path / "firedamp.toml").write_text(f'[watch]\nfeeds = ["{feed}"]\n')

    def put(name: str, region: str, hours: list[int]) -> None:
        made = [record(role(), eventTime=rfc3339(now - each * HOUR), awsRegion=region) for each in hours]
        (folder / name).write_bytes(trail(*made))

    put("eu.json.gz", EU, list(range(5, 200)))
    put("us.json.gz", US, list(range(200)))
    (folder / "large.json.gz").write_bytes(trail(*[record(role(), eventTime=rfc3339(now))] * 800))
    with Store(Path(os.environ["FIREDAMP_DB"])) as store:
        world: Any = World(clients=lambda *_: None, watched=store.watched, clock=lambda: now, sleep=lambda _: None)
        assert watch.poll(FolderFeed(urlsplit(feed), world), store, now).records == 195 + 200 + 800
        told = {each.region: now - each.newest for each in store.heard()}
        assert [round(told[region] / HOUR) for region in (EU, US)] == [5, 0]
        samples = [each for family in health.metrics(health.snapshot(store, now)) for each in family.samples
                   if family.name == "firedamp_feed_region_newest_record_age_seconds"]  # fmt: skip
        assert {each.labels["region"]: round(each.value / 3600) for each in samples} == {EU: 5, US: 0}
    main(["canary", "nets", "--config", str(tmp_path / "firedamp.toml")])
    out = capsys.readouterr().out
    assert f"✗ feed {feed}: newest record of {EU}: of " in out
    assert f"✓ feed {feed}: newest record of {US}: " in out
    main(["incidents", "list"])
    assert f"newest record of {EU}" in capsys.readouterr().err
    for command in (["doctor", "--offline"], ["status"]):
        main([*command, "--config", str(tmp_path / "firedamp.toml")])
        assert f"({EU} 5 h, {US} " in capsys.readouterr().out
    with Store(Path(os.environ["FIREDAMP_DB"])) as store:
        told = [dict(alert.facts)["condition"] for _, alert in store.alerts() if alert.kind is AlertKind.BLIND]
    assert told == [f"feed {feed}: newest record of {EU}"]


def test_where_nothing_comes_of_any_region_one_alarm_says_so() -> None:
    known = [Heard(feed="s3://b", region=each, first=START - WEEK, newest=START) for each in (EU, US)]
    for silence, told in ((HOUR, ["Sound"] * 4), (3 * HOUR, ["Sound", "Blind"])):
        now = START + silence
        mark = Watermark(feed="s3://b", position="", newest=START, polled=now)
        checks = blind.feeds(["s3://b"], Reach([mark], known), 2 * HOUR, now)
        assert [type(each).__name__ for each in checks] == told


def test_what_a_feed_brought_and_was_not_read_stands_in_the_status_and_the_metrics(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "trail"
    folder.mkdir()
    texts = ("hello", "{}", '{"digestStartTime": 1, "logFiles": []}', '{"messageType": "CONTROL_MESSAGE"}')
    for number, text in enumerate(texts):
        (folder / f"{number}.json").write_text(text)
    (folder / "link").symlink_to("/etc/passwd")
    (folder / "broken.json.gz").write_bytes(trail(record(role()))[:-9])
    assert main(["watch", "--once", "--feed", folder.as_uri(), "--quiet"]) == 2
    assert main(["watch", "--once", "--feed", folder.as_uri(), "--quiet"]) == 2
    capsys.readouterr()
    main(["status"])
    out = capsys.readouterr().out
    assert "2 failed, last " in out
    assert f"({folder}/broken.json.gz)" in out
    assert "and 1 other reasons" in out
    main(["status", "--format", "jsonl"])
    told = json.loads(capsys.readouterr().out)["not_read"]
    assert {each["outcome"] for each in told} == {"failed", "left out"}
    assert len(told) == 6
    with Store(Path(os.environ["FIREDAMP_DB"])) as store:
        families = health.metrics(health.snapshot(store, datetime.now(UTC)))
        samples = {each.labels["outcome"]: each.value for family in families for each in family.samples
                   if family.name == "firedamp_feed_not_read"}  # fmt: skip
    assert samples == {"failed": 2, "left out": 6}
