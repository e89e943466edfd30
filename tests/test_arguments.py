"""Whatever is typed: a sentence and status 2, never a traceback, and never hours of work before it."""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.builders import make_key_id, make_secret
from tests.trails import record, trail, user

from firedamp.service import cli, clock
from firedamp.service.arguments import common_of, parsed, parser
from firedamp.storage.keyid import account_of
from firedamp.storage.records import Canary, CanaryState
from firedamp.storage.store import Store


def status(*arguments: str) -> int:
    return cli.main(list(arguments))


WRONG = (
    (), ("nonsense",), ("scan", "--nonsense"), ("scan", ".", "--state", "bogus"), ("scan", ".", "--jobs", "0"),
    ("scan", ".", "--jobs", "65"),
    ("scan", ".", "--jobs", "x"), ("scan", ".", "--output", "/nonexistent/x"), ("scan", ".", "--output", "/"),
    ("scan", ".", "--write-baseline", "/nonexistent/x"), ("scan", ".", "--baseline", "/nonexistent/x"),
    ("scan", ".", "--db", "/"), ("scan", ".", "--config", "/nonexistent"), ("scan", ".", "--honour-allow", "nope"),
    ("scan", "/nonexistent"), ("scan", "/dev/null"), ("scan", "https://[x/y", "--offline"), ("scan", "--staged", "/"),
    ("scan", "https://x.example/y", "--offline"), ("findings", "show"), ("findings", "show", "x"), ("findings", "set"),
    ("findings", "--output", "/nonexistent/x"), ("verify", "x"), ("verify", "--all", "--offline"), ("key",),
    ("key", "show"), ("key", "disable", "x", "--offline"), ("key", "rotate", "x"), ("usage",),
    ("usage", "x", "--feed", "y"),
    ("usage", "x", "--format", "sarif"), ("canary",), ("canary", "adopt"), ("canary", "adopt", " x"),
    ("canary", "plant"),
    ("canary", "mint", "-n", "x"), ("canary", "retire"), ("canary", "retire", "x"), ("watch", "--once"),
    ("watch", "--once", "--feed", "x"), ("watch", "--once", "--feed", "file:///nonexistent"),
    ("watch", "--interval", "0"),
    ("watch", "--once", "--feed", "s3://"), ("watch", "--once", "--feed", "sqs://x"), ("incidents", "show"),
    ("watch", "--once", "--feed", "s3://[x"), ("watch", "--once", "--feed", "lookup://", "--offline"),
    ("incidents", "close", "x"), ("incidents", "show", "9"), ("alert",), ("alert", "test"), ("config",),
    ("config", "check"),
    ("config", "check", "--config", "/nonexistent"), ("hook",), ("hook", "run"), ("hook", "run", "nope"),
    ("hook", "install", "pre-push"), ("hook", "run", "pre-commit"),
    *((*command, "--format", "sarif") for command in (
        ("status",), ("doctor", "--offline"), ("verify", "--log"), ("incidents",), ("findings", "--by", "team"),
        ("watch", "--once", "--feed", "file:///"), ("key", "show", "x", "--offline"), ("canary", "list"),
        ("canary", "check"), ("canary", "lint", "--offline"), ("canary", "nets"), ("canary", "drill"),
    )),
)  # fmt: skip


@pytest.mark.parametrize("arguments", WRONG, ids=" ".join)
def test_what_cannot_be_is_a_sentence_and_status_2(
    arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert status(*arguments) == 2
    out, told = capsys.readouterr()
    assert (told or out).strip()
    assert "usage:" not in told, "a sentence, and not every option before it"


def parsers(above: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """Yield a parser and those of its commands and actions."""
    yield above
    for tree in (each for each in above._actions if isinstance(each, argparse._SubParsersAction)):
        for each in tree.choices.values():
            yield from parsers(each)


def test_help_explains_every_command_action_and_option() -> None:
    every = list(parsers(parser()))
    assert len(every) > 40
    for each in every:
        assert each.description
        for option in each._actions:
            assert option.help or isinstance(option, argparse._SubParsersAction), f"{each.prog} {option.dest}"
        text = each.format_help()  # a lone % would raise
        assert "--output FILE" in text, "the common options are taken everywhere"


def test_an_action_takes_what_it_uses_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    for words, told in (
        ("canary list --arn x", "canary list takes no --arn"),
        ("canary --real check", "canary check takes no --real"),
        ("canary mint NAME", "canary mint takes no NAME"),
        ("canary nets --budget=3", "canary nets takes no --budget"),
        ("findings --reason x", "findings list takes no --reason"),
        ("findings export --by team", "findings export takes no --by"),
        ("key show AKIA --leave x", "key show takes no --leave"),
        ("incidents close 1 --all", "incidents close takes no --all"),
        ("hook run pre-commit --global", "hook run takes no --global"),
        ("status --all", "status takes no --all"),
        ("key --prof x show K", "key show takes no --prof"),
        ("scan . --offlin", "scan takes no --offlin"),
    ):
        assert status(*words.split()) == 2
        assert capsys.readouterr().err.startswith(f"firedamp: {told}\n")
    assert "--name" not in " ".join(each.format_help() for each in parsers(parser()) if each.prog.endswith("t list"))


def test_options_stand_before_an_action_as_well_as_behind_it() -> None:
    for words, action in (
        ("findings", "list"), ("findings --state open --jobs 1", "list"), ("findings --state open list", "list"),
        ("incidents --all --format json", "list"), ("key --yes --db x disable AKIA", "disable"),
        ("hook --quiet run pre-push", "run"), ("--quiet canary --offline list --format csv", "list"),
        ("canary --name list mint", "mint"), ("key --profile disable --yes show K", "show"),
        ("findings --state open --db show", "list"),
        ("--db findings canary list", "list"), ("findings -- list", "list"), ("--db=findings canary list", "list"),
        ("canary adopt --real AKIA --note x", "adopt"), ("canary adopt AKIA --note x AKIB", "adopt"),
    ):  # fmt: skip
        assert parsed(words.split()).action == action, words
    given = parsed("hook --db /x run commit-msg --offline .git/COMMIT_EDITMSG --config /y".split())
    assert (given.arguments, given.offline) == ([".git/COMMIT_EDITMSG"], True)
    assert (common_of(given).db, common_of(given).config) == (Path("/x"), Path("/y"))
    assert parsed("canary adopt AKIA --note x AKIB".split()).names == ["AKIA", "AKIB"]


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        status("--version")
    assert ended.value.code == 0
    assert re.fullmatch(r"firedamp (\d+\.\S+|from a checkout)\n", capsys.readouterr().out)


def test_results_in_a_file_are_their_owners(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("nothing")
    assert status("scan", str(tmp_path / "a"), "--offline", "--output", str(tmp_path / "out")) == 0
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("command", ["status", "doctor", "findings", "incidents", "config example"])
def test_results_go_where_output_says_and_nowhere_else(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a").write_text(f"key = {make_key_id(random.Random(1))}\n")
    status("scan", str(tmp_path / "a"), "--offline", "--quiet")
    capsys.readouterr()
    status(*command.split(), "--offline", "--output", str(tmp_path / "out"))
    assert capsys.readouterr().out == ""
    assert (tmp_path / "out").exists()
    assert (tmp_path / "out").read_text() or command == "incidents"


_COMMAND = """
import atexit, sys, threading
from firedamp.service import cli

def main():
    print("said", end="")
    atexit.register(print, "done", end="", file=sys.stderr)
    {before}
    return 2

cli.main = main
cli.run()
"""


def test_a_command_ends_at_once_but_says_all_and_does_what_is_to_be_done_at_its_end() -> None:
    # What stays undone is to be taken down by Python alone.
    unseen = "cli.kept = type('Kept', (), {'__del__': lambda self: print('taken down')})()"
    ended = subprocess.run([sys.executable, "-c", _COMMAND.format(before=unseen)], capture_output=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (2, b"said", b"done")


def test_a_command_waits_for_its_threads() -> None:
    thread = "threading.Thread(target=lambda: (threading.main_thread().join(), print(' all'))).start()"
    ended = subprocess.run([sys.executable, "-c", _COMMAND.format(before=thread)], capture_output=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (2, b"said all\n", b"done")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_results_that_cannot_be_written_are_a_sentence_and_status_2(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("nothing")
    command = [sys.executable, "-m", "firedamp.service.cli", "scan", str(tmp_path / "a"), "--offline"]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 2
    assert b"No space left" in done.stderr
    assert b"Traceback" not in done.stderr
    assert b"Exception" not in done.stderr
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (2, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_results_that_cannot_be_written_are_a_sentence_where_there_is_no_null_device_either() -> None:
    code = (
        "import os, sys; os.devnull = '/no/null'; from firedamp.service.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    with Path("/dev/full").open("wb") as full:
        command = [sys.executable, "-c", code, "config", "example"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [b"firedamp: No space left on device", b"  what was read before is kept"]


def closed(number: int, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    """Run a command with one of its standard streams closed."""
    command = [sys.executable, "-m", "firedamp.service.cli", *arguments]
    return subprocess.run(["sh", "-c", f'exec "$@" {number}>&-', "sh", *command], capture_output=True, check=False)


def test_a_closed_standard_stream_is_no_traceback_and_takes_nothing_else_in(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("nothing")
    scan = ("scan", str(tmp_path / "a"), "--offline", "--format", "jsonl")
    done = closed(1, *scan)
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.splitlines() == [b"firedamp: Bad file descriptor", b"  what was read before is kept"]
    done = closed(1, *scan, "--output", str(tmp_path / "out"))
    assert (done.returncode, done.stderr) == (0, b""), "nothing was to be written there"
    assert closed(2, *scan).returncode == 0
    done = closed(2, "incidents", "list", "--format", "jsonl")
    assert (done.returncode, done.stdout) == (0, b""), "a remark is no result"
    done = closed(0, "scan", "-", "--offline")
    assert done.returncode == 2
    assert b"Traceback" not in done.stderr


def test_names_are_utf8_whatever_the_locale_says(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "m\xf6hre\u202e").write_text(f"key = {make_key_id(random.Random(1))}\n")
    command = [sys.executable, "-m", "firedamp.service.cli", "scan", str(folder), "--offline", "--format", "jsonl"]
    command += ["--db", str(tmp_path / "x.db")]
    ascii_only = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    for environ in (os.environ, ascii_only, os.environ):
        done = subprocess.run(command, env=environ, capture_output=True, check=False)
        assert (done.returncode, done.stderr) == (1, b"")
        (match,) = json.loads(done.stdout.splitlines()[0])["matches"]
        assert match["path"] == str(folder / "m\xf6hre\u202e")


def test_a_database_whose_folder_cannot_be_looked_at_is_a_sentence_and_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # The tests may run as root, who may look at every folder: at one whose name is too long nobody may.
    assert cli.main(["findings", "list", "--db", str(tmp_path / ("x" * 300) / "x.db")]) == 2
    errors = capsys.readouterr().err
    assert "cannot be opened" in errors
    assert "Traceback" not in errors


def test_a_command_that_breaks_is_2_and_not_1(tmp_path: Path) -> None:
    (tmp_path / "prometheus_client.py").write_text("raise RuntimeError('a broken installation')")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "firedamp.service.cli", "status", "--db", str(tmp_path / "x.db")]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": path}, capture_output=True, check=False)
    assert done.returncode == 2
    assert b"a broken installation" in done.stderr


def test_a_terminal_that_knows_few_letters_is_shown_the_rest_in_numbers(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "firedamp.service.cli", "canary"]
    name, database = "b\xe4ckup", ["--db", str(tmp_path / "x.db")]
    subprocess.run([*command, "adopt", "AKIAEXAMPLEEXAMPLE33", "--name", name, *database], check=True)
    ascii_only = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run([*command, "list", *database], env=ascii_only, stdout=subprocess.PIPE, check=False)
    assert (done.returncode, rb"b\xe4ckup" in done.stdout) == (0, True)


def test_a_scan_reads_nothing_that_firedamp_wrote_itself_whatever_links_lead_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = tmp_path / "real"
    real.mkdir()
    (real / "a").write_text("nothing")
    link = tmp_path / "link"
    link.symlink_to(real)
    monkeypatch.setenv("XDG_CACHE_HOME", str(link / "cache"))
    for _ in range(2):  # the first compiles the prefilter, the second meets it
        arguments = ("scan", str(real), "--all", "--offline", "--format", "json", "--db", str(link / "x.db"))
        assert status(*arguments) == 0
        told = json.loads(capsys.readouterr().out)
    assert told["findings"] == []
    left_out = {each["why"]: each["count"] for each in told["summary"]["left_out"]["items"]}
    assert left_out["firedamp's own files"] >= 2


def test_a_scan_into_another_database_does_not_read_the_one_that_is_used_as_a_rule(
    tmp_path: Path, rng: random.Random, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "leak").write_text(f"{make_key_id(rng)}\n")
    monkeypatch.setenv("FIREDAMP_DB", str(tmp_path / "usual.db"))
    assert status("scan", str(tmp_path), "--offline") == 1
    capsys.readouterr()
    assert status("scan", str(tmp_path), "--offline", "--format", "jsonl", "--db", str(tmp_path / "other.db")) == 1
    [finding, _] = map(json.loads, capsys.readouterr().out.splitlines())
    assert [match["path"] for match in finding["matches"]] == [str(tmp_path / "leak")]


def test_an_accepted_finding_is_shown_again_when_the_same_content_turns_up_elsewhere(
    tmp_path: Path, rng: random.Random, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "scanned"
    folder.mkdir()
    key_id = make_key_id(rng)
    text = f"aws_access_key_id={key_id}\naws_secret_access_key={make_secret(rng)}\n"
    (folder / "one").write_text(text)
    assert status("scan", str(folder), "--offline") == 1
    assert status("findings", "set", key_id, "--state", "accepted") == 0
    capsys.readouterr()
    assert status("scan", str(folder), "--offline") == 0
    assert key_id not in capsys.readouterr().out
    (folder / "two").write_text(text)
    assert status("scan", str(folder), "--offline") == 0
    assert key_id in capsys.readouterr().out


def test_what_is_adopted_is_told_and_an_id_is_doubted_that_aws_or_that_account_cannot_have_issued(
    rng: random.Random, capsys: pytest.CaptureFixture[str]
) -> None:
    issued = make_key_id(rng)
    before = "AKIAIOSFODNN7" + "EXAMPLE"  # of the generation that carries no account
    theirs, other = (f"arn:aws:iam::{account}:user/x" for account in (account_of(issued), "123456789012"))
    for key_id, arn, told in (
        (issued, (), "is watched\n"),
        (issued, ("--arn", theirs), "is watched\n"),
        (issued, ("--arn", other), f"though account {account_of(issued)} issued it: is the ARN mistyped?\n"),
        (before, ("--arn", other), "is watched\n"),
        (issued[:-1], (), "is it mistyped?\n"),
    ):
        assert status("canary", "adopt", key_id, *arn) == 0
        out, remark = capsys.readouterr()
        assert (out, remark.startswith(f"firedamp: {key_id} is watched"), remark.endswith(told)) == ("", True, True)


def test_no_success_is_silent_and_nothing_but_results_is_on_standard_output(
    tmp_path: Path, rng: random.Random, capsys: pytest.CaptureFixture[str]
) -> None:
    feed = tmp_path / "feed"
    feed.mkdir()
    empty = (
        ("findings", "no finding is like that"), ("findings export", "no finding is like that"),
        ("findings --by team", "nobody has to act"), ("incidents", "no incident is open"),
        ("incidents list --all", "there is no incident"), ("canary list", "no key is watched"),
        ("canary check", "none of the canaries is planted"), ("canary lint --offline", "there is no canary"),
        ("verify --log", "no request was made yet"), (f"watch --once --feed {feed.as_uri()}", "none has grown"),
    )  # fmt: skip
    for words, told in empty:
        for form in ("table", "jsonl"):
            assert status(*words.split(), "--format", form) == 0
            out, remark = capsys.readouterr()
            assert (out, told in remark) == ("", True), words
        assert (status(*words.split(), "--quiet"), *capsys.readouterr()) == (0, "", "")
    key_id = make_key_id(rng)
    (tmp_path / "leak").write_text(f"{key_id}\n")
    (feed / "x.json.gz").write_bytes(trail(record(user(key_id))))
    status("scan", str(tmp_path / "leak"), "--offline")
    status("canary", "adopt", "--real", key_id)
    assert status("watch", "--once", "--feed", feed.as_uri()) == 1
    capsys.readouterr()
    with Store(Path(os.environ["FIREDAMP_DB"])) as store:
        for name, state in (("svc-1", CanaryState.LIVE), ("svc-2", CanaryState.MINTING)):
            store.watch(Canary(key_id=f"key of {name}", name=name, state=state, since=clock.now()))
    for words, told in (
        (f"findings set {key_id} --state accepted", "1 finding set to accepted"),
        ("incidents close 1", "incident 1 is closed"),
        ("canary retire svc-1", "svc-1 (key of svc-1) is retired; its key stays alive and watched"),
        ("canary retire svc-2", "svc-2 (key of svc-2) is not handed over yet, and is left as it is"),
    ):  # fmt: skip
        assert status(*words.split()) == 0
        out, remark = capsys.readouterr()
        assert (out, remark) == ("", f"firedamp: {told}\n")


def test_an_id_that_aws_cannot_have_issued_is_asked_about_nowhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in (("key", "show"), ("key", "disable"), ("usage", "--feed", tmp_path.as_uri())):
        assert status(*words, "FOO", "--db", str(tmp_path / "x.db")) == 2
        out, told = capsys.readouterr()
        assert (out, told.startswith("firedamp: AWS issues no key id like FOO: is it mistyped?")) == ("", True)
    status("canary", "adopt", "FOO")
    assert status("key", "show", "FOO", "--offline") == 0, "we met it in a log"
    assert status("usage", "FOO", "--feed", tmp_path.as_uri(), "--offline") == 0
