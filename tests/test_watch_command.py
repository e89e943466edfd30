"""`firedamp watch`, `incidents`: exit statuses, JSON lines, tables."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.trails import ACCOUNT, ARN, at, record, role, trail, user

from firedamp.service import cli, clock
from firedamp.storage.records import PageRead, Watermark
from firedamp.storage.store import Store

KEY = "AKIAEXAMPLEEXAMPLE33"


def run(*arguments: str) -> int:
    return cli.main(list(arguments))


class Feed:
    """A folder of trail files, watched by the command."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self._capsys, self.count = folder, capsys, 0

    def put(self, *records: object) -> None:
        self.count += 1
        (self.folder / f"{self.count}.json.gz").write_bytes(trail(*records))

    def watch(self, *more: str) -> tuple[int, list[dict[str, Any]]]:
        self._capsys.readouterr()
        status = run("watch", "--feed", self.folder.as_uri(), "--once", "--format", "jsonl", *more)
        out, self.told = self._capsys.readouterr()
        return status, [json.loads(line) for line in out.splitlines()]


@pytest.fixture
def feed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Feed:
    assert run("canary", "adopt", KEY, "--arn", ARN) == 0
    return Feed(tmp_path, capsys)


def test_a_watch_over_no_key_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("watch", "--feed", tmp_path.as_uri(), "--once") == 0
    assert "no key is watched: firedamp canary mint" in capsys.readouterr().err


def test_an_incident_is_one_line_with_every_field(feed: Feed) -> None:
    denied = {"errorCode": "AccessDenied", "eventSource": "s3.amazonaws.com", "awsRegion": "eu-west-1"}
    feed.put(
        record(user(KEY), 0, eventID="one"),
        record(user("ASIAEXAMPLEEXAMPLE55"), 1, eventID="two", name="ListBuckets", **denied),
        record(role(), 2, eventID="three", name="DeleteUser", requestParameters={"userName": "svc-backup"}),
    )
    status, (line,) = feed.watch()
    assert status == 1
    assert line == {
        "incident": 1,
        "key": KEY,
        "canary": True,
        "placement": None,
        "state": "open",
        "first": at(0),
        "last": at(2),
        "sightings": {"use": 1, "derived": 1, "mention": 1, "tamper": 0},
        "own": 0,
        "addresses": ["203.0.113.7"],
        "services": ["sts", "s3"],
        "regions": ["us-east-1", "eu-west-1"],
        "denied": 1,
        "writes": 1,
        "events": [
            {"id": "one", "time": at(0), "name": "GetCallerIdentity", "kind": "use", "address": "203.0.113.7",
             "region": "us-east-1", "error": None},
            {"id": "two", "time": at(1), "name": "ListBuckets", "kind": "derived", "address": "203.0.113.7",
             "region": "eu-west-1", "error": "AccessDenied"},
            {"id": "three", "time": at(2), "name": "DeleteUser", "kind": "mention", "address": "203.0.113.7",
             "region": "us-east-1", "error": None},
        ],
    }  # fmt: skip


def test_what_was_told_is_not_told_again_and_what_goes_on_is_shown_with_0(feed: Feed) -> None:
    feed.put(record(user(KEY), 0))
    assert feed.watch()[0] == 1
    assert feed.watch() == (0, [])
    feed.put(record(user(KEY), 5))
    status, (line,) = feed.watch()
    assert (status, line["sightings"]["use"]) == (0, 2)


def test_somebody_who_only_looks_is_shown_with_0(feed: Feed) -> None:
    feed.put(record(role(), name="GetAccessKeyLastUsed", requestParameters={"accessKeyId": KEY}))
    status, (line,) = feed.watch()
    assert (status, line["sightings"]["mention"]) == (0, 1)


def test_a_touch_of_the_watch_is_a_line_without_a_key(feed: Feed) -> None:
    feed.put(
        record(role(), name="StopLogging", eventSource="cloudtrail.amazonaws.com", requestParameters={"name": "t"})
    )
    status, (line,) = feed.watch()
    assert (status, line["key"], line["canary"], line["sightings"]["tamper"]) == (1, None, False, 1)


def test_a_real_key_is_no_canary(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("canary", "adopt", "--real", KEY) == 0
    feed = Feed(tmp_path, capsys)
    feed.put(record(user(KEY)))
    assert feed.watch()[1][0]["canary"] is False


def test_what_cannot_be_read_is_2_again_and_again_and_the_rest_is_told(feed: Feed) -> None:
    feed.put(record(user(KEY)))
    (feed.folder / "broken.json.gz").write_bytes(trail(record(role()))[:-9])
    status, lines = feed.watch()
    assert (status, len(lines)) == (2, 1)
    assert "broken.json.gz: gzip cannot be read" in feed.told
    assert feed.watch() == (2, [])
    (feed.folder / "broken.json.gz").write_bytes(trail(record(role())))
    assert feed.watch() == (0, [])


def test_files_that_are_no_cloudtrail_are_counted_and_harm_nothing(feed: Feed) -> None:
    (feed.folder / "README.md").write_text("hello")
    (feed.folder / "package.json").write_text('{"name": "x"}')
    (feed.folder / "empty").touch()
    (feed.folder / "link").symlink_to("/etc/passwd")
    os.mkfifo(feed.folder / "pipe")
    digest = feed.folder / "CloudTrail-Digest" / "us-east-1"
    digest.mkdir(parents=True)
    (digest / "x.json.gz").write_bytes(trail(record(user(KEY))))
    feed.put(record(role()), 5)
    assert feed.watch() == (0, [])
    for told in (
        "1 left out: no CloudTrail: no JSON",
        "1 left out: no CloudTrail: JSON without records",
        "2 left out: a link or no regular file",
        "1 left out: digest",
        "1 rejected: no JSON object",
    ):
        assert told in feed.told
    assert feed.watch("--quiet") == (0, [])
    assert feed.told == ""


def test_trail_files_below_the_folder_are_read_links_are_not_followed(
    feed: Feed, tmp_path_factory: pytest.TempPathFactory
) -> None:
    outside = tmp_path_factory.mktemp("outside")
    (outside / "1.json.gz").write_bytes(trail(record(user(KEY), 1)))
    (feed.folder / "link").symlink_to(outside)
    below = feed.folder / "AWSLogs" / "o-abc123" / ACCOUNT / "CloudTrail" / "us-east-1" / "2026"
    below.mkdir(parents=True)
    (below / "1.json.gz").write_bytes(trail(record(user(KEY), 0)))
    status, (line,) = feed.watch()
    assert (status, line["sightings"]["use"]) == (1, 1)


def test_an_owner_adopted_later_joins_what_was_read_before(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("canary", "adopt", KEY)
    feed = Feed(tmp_path, capsys)
    feed.put(record(user(KEY), 0), record(user("ASIAEXAMPLEEXAMPLE55"), 1))
    assert feed.watch()[1][0]["sightings"] == {"use": 1, "derived": 0, "mention": 0, "tamper": 0}
    run("canary", "adopt", KEY, "--arn", ARN)
    assert feed.watch()[1][0]["sightings"] == {"use": 1, "derived": 1, "mention": 0, "tamper": 0}


def test_a_watch_without_a_feed_or_with_an_unknown_one_is_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("watch", "--once") == 2
    urls = ["ftp://x", (tmp_path / "missing").as_uri(), "sqs://us-east-1/queue", "s3:///x", "file://[", "nonsense"]
    urls += ["file://logs", "file:logs", "file://"]  # two slashes name a machine, and none the folder we stand in
    for url in urls:
        assert run("watch", "--once", "--feed", url) == 2
    assert run("watch", "--once", "--feed", "lookup://us-east-1", "--offline") == 2
    assert "offline" in capsys.readouterr().err


def test_incidents_are_listed_shown_and_closed(feed: Feed, capsys: pytest.CaptureFixture[str]) -> None:
    feed.put(record(user(KEY), 0, userAgent="evil\x1b[2J"), record(user(KEY), 48 * 60))
    feed.watch()
    assert run("incidents") == 0
    listed = capsys.readouterr().out
    assert "#1  open" in listed
    assert "#2  open" in listed
    assert run("incidents", "show", "1") == 0
    shown = capsys.readouterr().out
    assert "sts:GetCallerIdentity" in shown
    assert "\x1b" not in shown
    assert run("incidents", "close", "1", "--reason", "it was us") == 0
    assert run("incidents", "list", "--format", "json") == 0
    assert [each["incident"] for each in json.loads(capsys.readouterr().out)] == [2]
    assert run("incidents", "list", "--all", "--format", "jsonl") == 0
    assert [json.loads(line)["state"] for line in capsys.readouterr().out.splitlines()] == ["open", "closed"]
    assert run("incidents", "show", "1") == 0
    assert "closed: it was us" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments", [("show",), ("close",), ("show", "x"), ("show", "9"), ("close", "9"), ("show", "²")]
)
def test_an_incident_that_is_none_is_a_usage_error(arguments: tuple[str, ...]) -> None:
    assert run("incidents", *arguments) == 2


def test_incidents_have_no_form_of_findings(feed: Feed) -> None:
    feed.put(record(user(KEY)))
    feed.watch()
    assert run("incidents", "--format", "sarif") == 2


def test_output_goes_to_the_file_that_is_named(feed: Feed, tmp_path_factory: pytest.TempPathFactory) -> None:
    file = tmp_path_factory.mktemp("out") / "incidents.jsonl"
    feed.put(record(user(KEY)))
    assert feed.watch("--output", str(file)) == (1, [])
    assert json.loads(file.read_text())["key"] == KEY


def test_an_adopted_key_is_named_by_its_owner_or_its_id_and_not_by_the_command(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run("canary", "adopt", "--arn", ARN, KEY, "--note", "x") == 0
    run("canary", "adopt", "AKIAEXAMPLEEXAMPLE44")
    run("canary", "list")
    listed = capsys.readouterr().out
    assert "svc-backup" in listed
    assert "canary" not in listed
    assert run("canary", "list", "--no-such-option", "x") == 2


def test_feeds_quiet_and_guarded_accounts_come_from_the_configuration(
    feed: Feed, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path_factory.mktemp("config") / "firedamp.toml"
    config.write_text(
        f'[watch]\nfeeds = ["{feed.folder.as_uri()}"]\nquiet = "10m"\ntamper_accounts = ["210987654321"]\n'
    )
    stopped = record(role(), name="StopLogging", eventSource="cloudtrail.amazonaws.com")
    feed.put(record(user(KEY), 0), record(user(KEY), 30), stopped, stopped | {"recipientAccountId": "210987654321"})
    assert run("watch", "--once", "--config", str(config), "--format", "jsonl") == 1
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert sorted((str(each["key"]), each["sightings"]["tamper"]) for each in lines) == [
        (KEY, 0), (KEY, 0), ("None", 1)
    ]  # fmt: skip


def test_a_folder_that_is_gone_is_blind_and_keeps_no_other_feed_from_being_read(feed: Feed) -> None:
    feed.put(record(user(KEY)))
    missing = feed.folder / "not-mounted"
    status, lines = feed.watch("--feed", missing.as_uri())
    assert (status, len(lines)) == (2, 1)
    assert f"{missing} cannot be read: No such file or directory" in feed.told
    missing.mkdir()
    assert feed.watch("--feed", missing.as_uri()) == (0, [])


def test_of_a_flood_of_calls_the_first_and_the_last_are_shown_and_all_where_asked(
    feed: Feed, capsys: pytest.CaptureFixture[str]
) -> None:
    feed.put(*(record(user(KEY), number, eventID=f"{number:04}", userAgent=f"tool-{number}") for number in range(450)))
    feed.watch()
    run("incidents", "show", "1")
    shown = capsys.readouterr().out.splitlines()
    assert len(shown) == 2 + 100 + 1 + 100
    assert shown[102].strip() == "… and 250 more: incidents show 1 --all, or --format json"
    assert ("tool-99 " in shown[101] + " ", "tool-350 " in shown[103] + " ") == (True, True)
    run("incidents", "show", "1", "--all")
    assert len(capsys.readouterr().out.splitlines()) == 2 + 450
    run("incidents", "show", "1", "--format", "json")
    assert len(json.loads(capsys.readouterr().out)[0]["events"]) == 450


def test_a_watch_that_cannot_read_its_feed_any_more_alarms_by_the_channels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed = (tmp_path / "gone").as_uri()
    with Store(tmp_path / "firedamp.db") as store:
        mark = Watermark(feed=feed, position="", polled=clock.now() - timedelta(hours=1))
        store.record_page(PageRead(feed=feed, watermark=mark), lambda *_: [], clock.now())
    config = tmp_path / "firedamp.toml"
    config.write_text('[[channel]]\nname = "out"\nurl = "env:OUT"\n')
    monkeypatch.setenv("OUT", "stdout://")
    command = [sys.executable, "-m", "firedamp.service.cli", "watch", "--feed", feed, "--config", str(config)]
    with subprocess.Popen(
        [*command, "--db", str(tmp_path / "firedamp.db")], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        told = "".join(process.stdout.readline() for _ in range(4))
        process.kill()
    assert "The watch is blind" in told
    assert f"feed {feed}: read to its end" in told
    assert "cannot be read: No such file or directory (file:///FOLDER takes an absolute path)" in told, "what to do"
