"""Every JSON line and document that a command prints keeps to its schema in `deploy/schemas/`."""

from __future__ import annotations

import argparse
import json
import os
import random
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.builders import make_key_id, make_secret
from tests.profiles import look_up_at_once
from tests.repositories import Repository
from tests.scenes import allow
from tests.trails import trail

from firedamp.service import cli, clock
from firedamp.service.arguments import parsed, parser
from firedamp.service.loopback import Loopback, LoopbackKey
from firedamp.storage.records import JobRun
from firedamp.storage.secret import Secret
from firedamp.storage.store import Store

SCHEMAS = Path(__file__).parent.parent / "deploy" / "schemas"
OF_THEIR_OWN = {"finding", "summary", "incident"}
PRINTS_NO_LINES = {
    "serve", "demo", "alert test", "alert deliver", "config check", "config example", "hook install", "hook uninstall",
    "findings set", "incidents close", "key disable", "key rotate", "key revoke-sessions", "canary adopt",
    "canary retire",
}  # fmt: skip


class Schemas:
    """The schemas, which refer to each other by file name; and which of them were used."""

    def __init__(self) -> None:
        from jsonschema import Draft202012Validator as Validator  # seconds of every process that imports it
        from referencing import Registry, Resource

        files = {path.name: json.loads(path.read_text()) for path in SCHEMAS.iterdir()}
        for each in files.values():
            Validator.check_schema(each)
        self.commands: dict[str, Any] = files["commands.schema.json"]["$defs"]
        self._make, self.used = Validator, set[str]()
        resources = [(name, Resource.from_contents(each)) for name, each in files.items()]
        self._registry: Any = Registry().with_resources(resources)

    def check(self, line: object, name: str) -> None:
        self.used.add(name)
        where = f"{name}.schema.json" if name in OF_THEIR_OWN else f"commands.schema.json#/$defs/{name}"
        validator = self._make({"$ref": where}, registry=self._registry, format_checker=self._make.FORMAT_CHECKER)
        validator.validate(line)


class House:
    """Runs commands, and holds all that they print on standard output to the schema of its name."""

    def __init__(self, capsys: pytest.CaptureFixture[str], config: Path) -> None:
        self.schemas, self.ran, self._capsys, self._config = Schemas(), set[str](), capsys, config

    def __call__(self, words: str, name: str, *, form: str = "jsonl", many: bool = True) -> list[Any]:
        """Return what was printed. many: the command may print several lines, and prints one array as JSON."""
        self._capsys.readouterr()
        cli.main([*words.split(), "--config", str(self._config), "--format", form])
        told = self._capsys.readouterr()
        assert told.out, told.err
        given = parsed(words.split())
        self.ran.add(" ".join(filter(None, (given.command, getattr(given, "action", None)))))
        lines = [json.loads(told.out)] if form == "json" else list(map(json.loads, told.out.splitlines()))
        if form == "json" and many:
            (lines,) = lines
        for each in lines:
            self.schemas.check(each, "summary" if "summary" in each and name == "finding" else name)
        return lines

    def both(self, words: str, name: str, *, many: bool = True) -> list[Any]:
        """Run a command for JSON lines and for JSON: the same things are told."""
        lines = self(words, name)
        assert len(self(words, name, form="json", many=many)) == len(lines)
        return lines


def commands(above: argparse.ArgumentParser) -> Iterator[str]:
    trees = [each for each in above._actions if isinstance(each, argparse._SubParsersAction)]
    if not trees:
        yield above.prog.removeprefix("firedamp ")
    for tree in trees:
        for each in tree.choices.values():
            yield from commands(each)


COMMANDS = set(commands(parser()))


def test_every_line_of_every_command_keeps_to_its_schema(
    aws: Loopback, tmp_path: Path, rng: random.Random, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    look_up_at_once(monkeypatch)
    own = {"AWS_ENDPOINT_URL": aws.url, "AWS_ACCESS_KEY_ID": aws.admin.id}
    for name, value in (own | {"AWS_SECRET_ACCESS_KEY": aws.admin.secret.reveal()}).items():
        monkeypatch.setenv(name, value)
    config = tmp_path / "firedamp.toml"
    config.write_text('[watch]\nfeeds = ["lookup://us-east-1"]\n')
    run = House(capsys, config)

    # A key leaks into a repository, and another into a file.
    key = aws.add_user("deploy", inline={"rights": allow("*")})
    repository = Repository(tmp_path / "app")
    repository.write("a.ini", f"aws_access_key_id = {key.id}\naws_secret_access_key = {key.secret.reveal()}\n")
    repository.git("add", ".")
    monkeypatch.chdir(repository.path)
    run("hook run pre-commit", "finding")
    run("hook run pre-commit", "findings-document", form="json", many=False)
    repository.git("commit", "-q", "-m", "x")
    (tmp_path / "app" / "b.txt").write_text(f"{make_key_id(rng)} {make_secret(rng)}\n")
    for words in ("scan .", "scan --staged", "findings list", f"findings show {key.id}", "findings export", "verify"):
        run(words, "finding")
        run(words, "findings-document", form="json", many=False)
    for by in ("repository", "team", "author"):
        run.both(f"findings --by {by}", "findings-by")
    assert len(run.both("verify --log", "verify-log")) > 1
    for more in ("", " --offline"):
        run.both(f"key show {key.id}{more}", "key-show", many=False)

    # Canaries are minted and planted; one is used, and so is the leaked key.
    run("canary mint --name svc-{n} --note x --tag team=a", "canary-mint")
    (minted,) = run("canary mint --name other-{n}", "canary-mint")
    assert minted["key"] == minted["access_key_id"], "one thing has one name in all lines"
    run(f"canary plant svc-1 --at {tmp_path}/.env --as env", "canary-plant", form="json", many=False)
    cli.main(["canary", "adopt", "--real", key.id])
    thief = LoopbackKey(minted["access_key_id"], Secret(minted["secret_access_key"]))
    for each in (thief, key):
        aws.client("sts", each, source_ip="203.0.113.77").get_caller_identity()
    aws.trail.flush()
    run("watch --once", "incident")
    run.both("incidents list", "incident")
    run.both("incidents show 1", "incident")
    run.both(f"usage {key.id}", "usage", many=False)
    assert minted["account_id"] in {each["account_id"] for each in run.both("canary list", "canary-list")}
    run.both("canary check", "canary-check")
    run.both("canary lint", "canary-lint")
    run("canary drill svc-1", "canary-drill")
    elsewhere = make_key_id(rng, "210987654321")
    cli.main(["canary", "adopt", elsewhere])
    assert [each["drill"] for each in run.both(f"canary drill {elsewhere}", "canary-drill")] == [None]
    run("canary drill svc-1", "canary-drill", form="json")
    for form in ("json", "jsonl"):
        run("canary nets", "canary-nets", form=form)

    # A service has run; a feed brought something that cannot be read.
    with Store(Path(os.environ["FIREDAMP_DB"])) as store:
        now = clock.now()
        store.claim("a service", now, timedelta(minutes=1))
        store.end_job_run(store.add_job_run(JobRun(job="scan", started=now)), now, "failed", "x")
    broken = tmp_path / "feed"
    broken.mkdir()
    (broken / "x.json.gz").write_bytes(trail({"eventID": "x"}, 7, {"userIdentity": {"accessKeyId": thief.id}})[:-9])
    cli.main(["watch", "--once", "--feed", broken.as_uri()])
    (status,) = run.both("status", "status", many=False)
    assert status["jobs"]
    assert status["not_read"]
    run.both("doctor", "doctor")

    assert run.ran == COMMANDS - PRINTS_NO_LINES
    named = {name for name in run.schemas.commands if name.partition("-")[0] in {each.split()[0] for each in COMMANDS}}
    assert run.schemas.used == named | OF_THEIR_OWN
