"""The configuration file: read whole, all errors at once, and the example is never out of date."""

from __future__ import annotations

import random
import re
from datetime import timedelta
from pathlib import Path

import pytest
from tests.builders import make_key_id

from firedamp.service import cli, config
from firedamp.storage.errors import Failure, UsageFailure


def load(tmp_path: Path, text: str) -> config.Config:
    path = tmp_path / "firedamp.toml"
    path.write_text(text)
    return config.load(path)


def test_an_empty_file_is_all_defaults(tmp_path: Path) -> None:
    assert load(tmp_path, "") == config.Config()


def test_every_option_is_read(tmp_path: Path) -> None:
    read = load(
        tmp_path,
        """
        db = "~/x.db"
        [verify]
        rate = 5
        active_again = "2d"
        [watch]
        feeds = ["file:///x"]
        heartbeat = "env:BEAT"
        [[channel]]
        name = "chat"
        url = "env:CHAT"
        [[job]]
        name = "nightly"
        kind = "scan"
        cron = "0 3 * * *"
        """,
    )
    assert read.db == Path.home() / "x.db"
    assert read.verify.rate == 5.0
    assert read.verify.active_again == timedelta(days=2)
    assert read.watch.heartbeat == config.Reference("env:BEAT")
    assert read.channel == (config.ChannelConfig(name="chat", url=config.Reference("env:CHAT")),)
    assert read.job[0].cron == "0 3 * * *"


def test_all_errors_are_told_at_once_with_their_path(tmp_path: Path) -> None:
    with pytest.raises(UsageFailure) as caught:
        load(
            tmp_path,
            """
            scan = 3
            [verify]
            enabld = true
            rate = "fast"
            timeout = "soon"
            partitions = "aws"
            [watch]
            heartbeat = "https://token@example.com"
            city_database = 7
            [[job]]
            kind = "scan"
            """,
        )
    told = caught.value.what
    for each in (
        "scan: a table is expected",
        "verify.enabld: no such option; enabled is meant?",
        "verify.rate: float is expected",
        "verify.timeout: a time is expected",
        "verify.partitions: a list is expected",
        "watch.heartbeat: a secret is given by reference",
        "watch.city_database: text is expected",
        "job[0].name: is missing",
    ):
        assert each in told
    assert "token@" not in told, "what may be a secret is not repeated"


def test_what_is_well_formed_must_still_make_sense(tmp_path: Path) -> None:
    with pytest.raises(UsageFailure) as caught:
        load(
            tmp_path,
            """
            [serve]
            listen = "nowhere"
            log = "xml"
            [[channel]]
            name = "a"
            url = "env:A"
            minimum = "loud"
            [[channel]]
            name = "a"
            url = "env:A"
            [[job]]
            name = "x"
            kind = "dance"
            cron = "3 4"
            [[job]]
            name = "y"
            kind = "scan"
            every = "0s"
            [[job]]
            name = "z"
            kind = "scan"
            """,
        )
    told = caught.value.what
    for each in ("serve.listen", "serve.log", "channel[0].minimum", "'a' stands twice", "job[0].kind", "job[0].cron",
                 "job[1].every: at least", "job[2]: either every or cron"):  # fmt: skip
        assert each in told


def test_what_would_break_the_service_is_told_before_it_starts(tmp_path: Path) -> None:
    with pytest.raises(UsageFailure, match=r"scan\.unpack_depth: -1 is less than 0"):
        load(tmp_path, "[scan]\nunpack_depth = -1")
    with pytest.raises(UsageFailure) as caught:
        load(
            tmp_path,
            """
            [serve]
            workers = 0
            [verify]
            concurrency = 0
            rate = 0
            partitions = ["aws-iso"]
            [[job]]
            name = "verify"
            kind = "scan"
            every = "1h"
            timeout = "0s"
            [[job]]
            name = "see"
            kind = "watch"
            every = "1m"
            """,
        )
    told = caught.value.what
    for each in ("serve.workers: more", "verify.concurrency: more", "verify.rate: more", "verify.partitions[0]",
                 "job[0].name: 'verify' is", "job[0].timeout: more", "job[1].feeds: none"):  # fmt: skip
        assert each in told


def test_the_service_checks_its_times_and_feeds_before_it_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "odd.toml"
    file.write_text(
        '[watch]\nfeeds = ["file:///x", "ftp://x"]\n[[job]]\nname = "late"\nkind = "scan"\ncron = "61 * * * *"\n'
        '[[job]]\nname = "see"\nkind = "watch"\nevery = "1m"\nfeeds = ["sqs://eu-west-1"]\n'
    )
    for command in (["config", "check"], ["serve"]):
        assert cli.main([*command, "--config", str(file)]) == 2
        told = capsys.readouterr().err
        for each in ("watch.feeds[1]: ftp://x names no feed", "job[0].cron: Error validating expression '61'",
                     "job[1].feeds[0]: sqs://eu-west-1 names no queue"):  # fmt: skip
            assert each in told


def test_what_is_no_toml_or_no_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageFailure, match="not TOML"):
        load(tmp_path, "= 3")
    with pytest.raises(UsageFailure, match="cannot be read"):
        config.load(tmp_path / "missing")


def test_the_example_reads_back_as_the_defaults(tmp_path: Path) -> None:
    text = config.example()
    assert load(tmp_path, text) == config.Config()
    # With the defaults uncommented it still means the same, where a default can be written.
    live = "\n".join(
        line[1:] if re.match(r"#\w+ = (?!\"\")", line) else line
        for line in text.partition("# [[channel]]")[0].split("\n")
    )
    assert load(tmp_path, live) == config.Config()


def test_a_secret_is_read_where_it_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "from the environment")
    kept = tmp_path / "token"
    kept.write_text("from a file\n")
    assert config.Reference("env:TOKEN").resolve().reveal() == "from the environment"
    assert config.Reference(f"file:{kept}").resolve().reveal() == "from a file"
    assert config.Reference("aws:prod/token").resolve(lambda name: f"kept as {name}").reveal() == "kept as prod/token"
    for missing in ("env:NOT_SET", "file:/nowhere", "aws:x", "keyring:service/user"):
        with pytest.raises(Failure):
            config.Reference(missing).resolve()


def test_the_database_that_the_file_names_is_that_of_every_command(
    tmp_path: Path, rng: random.Random, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    key_id, named, other = make_key_id(rng), tmp_path / "named.db", tmp_path / "other.db"
    (tmp_path / "firedamp.toml").write_text(f'db = "{named}"\n')
    monkeypatch.setenv("FIREDAMP_DB", str(other))
    configured = ["--config", str(tmp_path / "firedamp.toml")]
    assert cli.main(["canary", "adopt", key_id, *configured]) == 0
    assert named.exists()
    assert not other.exists()
    capsys.readouterr()
    for chosen, told in ((configured, True), (["--db", str(named)], True), ([*configured, "--db", str(other)], False)):
        assert cli.main(["canary", "list", *chosen]) == 0
        assert (key_id in capsys.readouterr().out) is told
    assert cli.main(["doctor", "--offline", *configured]) == 1
    assert f"database: {named}\n" in capsys.readouterr().out


def test_the_command_checks_a_file_and_prints_the_example(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "firedamp.toml"
    assert cli.main(["config", "example", "--format", "sarif"]) == 2
    assert capsys.readouterr().err == "firedamp: this has no form sarif\n  --format table\n"
    assert cli.main(["config", "example"]) == 0
    path.write_text(capsys.readouterr().out)
    assert cli.main(["config", "check", "--config", str(path)]) == 0
    assert "is sound" in capsys.readouterr().out
    assert cli.main(["config", "check"]) == 2
