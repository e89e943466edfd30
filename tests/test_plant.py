"""Planting a canary, checking it, and taking it back: in files, in AWS, in repositories."""

from __future__ import annotations

import io
import json
import os
import random
import resource
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from string import Template
from typing import Any

import pytest
from botocore.exceptions import ClientError
from tests.builders import make_key_id, make_secret
from tests.repositories import Repository
from tests.scans import scanner

from firedamp.canaries import plant as planter
from firedamp.canaries.fileplace import FilePlace
from firedamp.canaries.formats import FORMATS, Pair
from firedamp.canaries.gitplace import GitPlace
from firedamp.canaries.plant import Held
from firedamp.canaries.scenery import BYTES, surroundings
from firedamp.service import cli, planting
from firedamp.service.aws import Aws
from firedamp.service.freshkey import KeyMaker
from firedamp.service.loopback import Loopback
from firedamp.service.options import CanaryOptions, Common
from firedamp.service.planting import take_back
from firedamp.service.spots import Places
from firedamp.storage.errors import AwsFailure, Failure, UsageFailure
from firedamp.storage.records import (
    AlertKind,
    Canary,
    CanaryState,
    Owner,
    Placement,
    PlacementState,
    RealKey,
    Severity,
)
from firedamp.storage.secret import Secret
from firedamp.storage.store import Store

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
USER = "orders-backup-prd-k4xw"


def database() -> Store:
    return Store(Path.home() / "firedamp.db")


class Run:
    """Runs `firedamp canary …`, and takes its JSON lines apart."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self.status, self.lines, self.error = 0, list[dict[str, Any]](), ""

    def __call__(self, *arguments: str | Path) -> Run:
        self._capsys.readouterr()
        self.status = cli.main(["canary", *map(str, arguments), "--format", "jsonl"])
        told = self._capsys.readouterr()
        self.lines = [json.loads(line) for line in told.out.splitlines() if line.startswith("{")]
        self.error = told.err
        return self

    def check(self, *names: str) -> tuple[int, list[tuple[str, str]]]:
        self("check", *names)
        return self.status, [(line["state"], line["detail"]) for line in self.lines]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    return Run(capsys)


@pytest.fixture
def adopted(rng: random.Random, monkeypatch: pytest.MonkeyPatch) -> Pair:
    """Adopt a canary whose secret stands in $BAIT."""
    pair = Pair(make_key_id(rng), Secret(make_secret(rng)))
    with database() as store:
        store.watch(Canary(key_id=pair.key_id, name="orders", adopted=True, since=NOW))
    monkeypatch.setenv("BAIT", pair.secret.reveal())
    return pair


@pytest.fixture
def minted(aws: Loopback, monkeypatch: pytest.MonkeyPatch) -> str:
    """Mint a canary on the loopback AWS, as `canary mint` does; return its key id. Its secret was handed over."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", aws.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", aws.admin.id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", aws.admin.secret.reveal())
    iam = aws.client("iam")
    user = iam.create_user(UserName=USER)["User"]
    key_id = str(iam.create_access_key(UserName=USER)["AccessKey"]["AccessKeyId"])
    owner = Owner(
        arn=user["Arn"], principal_id=user["UserId"], user_name=USER, account_id=user["Arn"].split(":")[4]
    )  # fmt: skip
    with database() as store:
        store.watch(Canary(key_id=key_id, name=USER, owner=owner, since=NOW))
    return key_id


def keys_of(aws: Loopback) -> set[str]:
    listed = aws.client("iam").list_access_keys(UserName=USER)["AccessKeyMetadata"]
    return {each["AccessKeyId"] for each in listed}


def placement(key_id: str) -> Placement | None:
    with database() as store:
        return store.placements().get(key_id)


def backups() -> list[Path]:
    folder = Path.home() / ".local" / "state" / "firedamp" / "backups"
    return list(folder.iterdir()) if folder.exists() else []


def give(run: Run, place: Path | str, form: str, *more: str) -> Run:
    return run("plant", "orders", "--at", place, "--as", form, "--secret-from", "env:BAIT", *more)


# Files.


def test_a_profile_is_added_to_the_users_file_and_taken_out_again(adopted: Pair, run: Run, tmp_path: Path) -> None:
    path = tmp_path / "credentials"
    old = b"# mine\r\n[default]\r\naws_access_key_id=none   ; comment\r\n"
    path.write_bytes(old)
    path.chmod(0o640)
    assert give(run, path, "aws-profile:archive").status == 0
    assert run.lines == [
        {"key": adopted.key_id, "name": "orders", "kind": "file", "place": str(path), "format": "aws-profile",
         "state": "present"}
    ]  # fmt: skip
    new = path.read_bytes()
    assert new.startswith(old + b"\r\n[archive]\r\naws_access_key_id = ")
    assert path.stat().st_mode & 0o777 == 0o640
    assert backups() == []
    assert [each.name for each in tmp_path.iterdir()] == ["credentials"]
    kept = placement(adopted.key_id)
    assert kept is not None
    assert (kept.kind, kept.state, kept.checked is not None) == ("file", PlacementState.PRESENT, True)
    assert adopted.secret.reveal() not in (Path.home() / "firedamp.db").read_bytes().decode("latin-1")
    assert run.check() == (0, [("present", "")])
    # Others may go on using the file: what was planted is still there, and only that is taken out.
    path.write_bytes(new + b"[later]\r\nregion = eu-west-1\r\n")
    assert run.check("orders") == (0, [("present", "")])
    assert run("retire", "orders").status == 0
    assert "is taken out of its place" in run.error
    with database() as store:
        (canary,) = [key for key in store.watched() if isinstance(key, Canary)]
        assert canary.state is CanaryState.RETIRED
        assert not take_back(canary, CanaryOptions(action="retire"), Common(), store)
    assert path.read_bytes() == old + b"[later]\r\nregion = eu-west-1\r\n"
    assert placement(adopted.key_id).state is PlacementState.TAKEN_BACK  # type: ignore[union-attr]
    assert run.check() == (0, [])


def test_a_file_that_was_there_and_empty_stays_so_and_one_that_was_not_goes(
    adopted: Pair, run: Run, tmp_path: Path
) -> None:
    path = tmp_path / "empty.env"
    path.touch()
    path.chmod(0o640)
    assert give(run, path, "env").status == 0
    assert adopted.key_id in path.read_text()
    assert run("retire", "orders").status == 0
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"", 0o640)
    assert placement(adopted.key_id).state is PlacementState.TAKEN_BACK  # type: ignore[union-attr]


def test_a_profile_of_somebody_else_is_never_overwritten(adopted: Pair, run: Run, tmp_path: Path) -> None:
    path = tmp_path / "credentials"
    path.write_bytes(b"[prod]\nregion = eu-west-1\n")
    assert give(run, path, "aws-profile:prod").status == 2
    assert "never overwritten" in run.error
    assert path.read_bytes() == b"[prod]\nregion = eu-west-1\n"
    assert placement(adopted.key_id) is None
    assert give(run, path, "json").status == 2
    assert "only written where nothing is" in run.error
    # Without a name one is chosen that is free: variables of the usual names exist, so ours get a prefix.
    path = tmp_path / ".env"
    path.write_bytes(b"AWS_ACCESS_KEY_ID=\nAWS_SECRET_ACCESS_KEY=")
    assert give(run, path, "env").status == 0
    assert b"\n\n" in path.read_bytes()
    assert FORMATS["env"].find(path.read_text(), adopted.key_id) == adopted
    assert [each.key_id for each in FORMATS["env"].read(path.read_text())] == [adopted.key_id]


def test_one_key_has_one_placement(adopted: Pair, run: Run, tmp_path: Path) -> None:
    assert give(run, tmp_path / "a", "csv").status == 0
    assert give(run, tmp_path / "b", "csv").status == 2
    assert "one key, one placement" in run.error
    assert not (tmp_path / "b").exists()
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o600


def test_a_dry_run_shows_the_bytes_and_does_nothing(
    adopted: Pair, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "new.json"
    for place in (str(path), "s3://bucket/key", "ssm:/a"):
        assert cli.main(["canary", "plant", "orders", "--at", place, "--as", "json", "--dry-run"]) == 0
        told = capsys.readouterr()
        assert json.loads(told.out)["aws"]["secretAccessKey"] == "*" * 40
        assert place in told.err
    (tmp_path / "old").write_bytes(b"x\n")
    assert cli.main(["canary", "plant", "orders", "--at", str(tmp_path / "old"), "--as", "history", "--dry-run"]) == 0
    assert "added at the end" in capsys.readouterr().err
    assert not path.exists()
    assert placement(adopted.key_id) is None


def test_links_folders_and_foreign_bytes_are_left_alone(adopted: Pair, run: Run, tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"[a]\n")
    (tmp_path / "link").symlink_to("target")
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "odd").write_bytes(b"this = is no INI\n")
    (tmp_path / "folder").mkdir()
    for name in ("link", "dangling", "odd", "folder", "absent/file"):
        assert give(run, tmp_path / name, "aws-profile").status == 2, name
    assert (tmp_path / "target").read_bytes() == b"[a]\n"
    assert not (tmp_path / "nowhere").exists()
    assert placement(adopted.key_id) is None
    # A folder that is reached by a link is a folder.
    (tmp_path / "way").symlink_to("folder")
    assert give(run, tmp_path / "way" / "credentials", "aws-profile").status == 0
    assert (tmp_path / "folder" / "credentials").is_file()


def test_a_file_that_changes_meanwhile_is_not_overwritten(rng: random.Random, tmp_path: Path) -> None:
    path = tmp_path / "history"
    path.write_bytes(b"ls\n")
    place, pair = FilePlace(path), Pair(make_key_id(rng), Secret(make_secret(rng)))
    around = surroundings(rng.randbytes(BYTES), user="u", account="", at=NOW)
    plan = planter.plan(place, place.read(), FORMATS["history"], pair, [around])
    path.write_bytes(b"ls\ncd\n")
    with pytest.raises(Failure, match="changed while"):
        place.write(plan.after, plan.before)
    with pytest.raises(Failure, match="does not read back"):
        planter.prove(place, plan, FORMATS["history"], pair)
    planter.undo(place, plan)
    assert path.read_bytes() == b"ls\ncd\n"
    held = place.read()
    assert held is not None
    path.write_bytes(b"other")
    with pytest.raises(Failure, match="changed"):
        place.remove(held)
    with pytest.raises(Failure, match="as it was read"):
        place.write(b"", Held(b"other", "a stamp of something else"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_another_user_stays_theirs(adopted: Pair, run: Run, tmp_path: Path) -> None:
    path = tmp_path / ".zsh_history"
    path.write_bytes(b": 1:0;ls\n")
    os.chown(path, 4242, 4243)
    assert give(run, path, "zsh-history").status == 0
    assert (path.stat().st_uid, path.stat().st_gid) == (4242, 4243)
    assert path.read_bytes().startswith(b": 1:0;ls\n: ")


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_is_planted_checked_and_taken_back_without_a_trace(
    name: str, rng: random.Random, tmp_path: Path
) -> None:
    form, pair = FORMATS[name], Pair(make_key_id(rng), Secret(make_secret(rng)))
    path = tmp_path / "file"
    first = Pair(make_key_id(rng), Secret(make_secret(rng)))
    around = [surroundings(rng.randbytes(BYTES), user="u", account="1", at=NOW, label=label) for label in ("x", "y")]
    olds: list[bytes | None] = [None]
    if form.names is not None:
        text = form.start(first, around[0]).encode()
        olds += [text, text.rstrip(b"\n"), text.replace(b"\n", b"\r\n")]
    for old in olds:
        if old is not None:
            path.write_bytes(old)
        place = FilePlace(path)
        plan = planter.plan(place, place.read(), form, pair, around)
        content = planter.content_of(plan.block)
        place.write(plan.after, plan.before)
        held = planter.prove(place, plan, form, pair)
        assert planter.look(held, form, pair.key_id, content) is PlacementState.PRESENT
        assert planter.take_back(place, pair.key_id, content)
        assert (path.read_bytes() if path.exists() else None) == old
        assert not planter.take_back(place, pair.key_id, content)
        assert planter.look(place.read(), form, pair.key_id, content) is PlacementState.GONE


def test_when_writing_fails_everything_is_as_it_was(minted: str, aws: Loopback, run: Run, tmp_path: Path) -> None:
    path = tmp_path / "history"
    old = b"x\n" * (2 << 20)
    path.write_bytes(old)
    # No file may grow beyond this one: as a full disk, but for this test alone.
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(old), limits[1]))
    try:
        assert run("plant", USER, "--at", path, "--as", "history").status == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "cannot be written" in run.error
    assert path.read_bytes() == old
    assert [each.name for each in tmp_path.iterdir()] == ["history"]
    assert keys_of(aws) == {minted}
    assert backups() == []
    with database() as store:
        assert [key.key_id for key in store.watched()] == [minted]
        assert store.placements() == {}


class Stubborn:
    """A place that takes one write and no more."""

    kind, name, grows = "file", "stubborn", True

    def __init__(self, data: bytes) -> None:
        self._data, self._written = data, False

    def read(self) -> Held | None:
        return Held(self._data, "")

    def write(self, data: bytes, before: Held | None) -> None:
        if self._written:
            raise Failure("it will not")
        self._data, self._written = data, True

    def remove(self, held: Held) -> None:
        raise AssertionError("it was not empty")


def test_what_cannot_be_undone_keeps_its_backup_and_says_so(adopted: Pair, rng: random.Random) -> None:
    # An id without its secret in sight: our own scanner finds no pair, so the placement proves nothing.
    around = (surroundings(rng.randbytes(BYTES), user="u", account="", at=NOW),)
    form = replace(FORMATS["history"], template=Template("# ${id} and nothing else\n"), read=lambda _: [adopted])
    place = Stubborn(b"old\n")
    with database() as store:
        (canary,) = [key for key in store.watched() if isinstance(key, Canary)]
        plan = planter.plan(place, place.read(), form, adopted, around)
        job = planting._Job(canary, form, place, plan, around)
        with pytest.raises(Failure, match="could not be made what it was") as raised:
            planting._with_given(job, adopted, Places(store, offline=True), store)
        assert store.placements() == {}
    (backup,) = backups()
    assert str(backup) in raised.value.hint
    assert backup.read_bytes() == b"old\n"
    assert backup.stat().st_mode & 0o777 == 0o600


# Fresh keys.


def test_a_minted_canary_gets_a_fresh_key_that_is_watched_and_found(
    minted: str, aws: Loopback, run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / ".env"
    assert run("plant", USER, "--at", path, "--as", "env").status == 0
    (fresh,) = keys_of(aws) - {minted}
    assert run.lines[0]["key"] == fresh
    pair = FORMATS["env"].find(path.read_text(), fresh)
    assert pair is not None
    with database() as store:
        states = {key.key_id: key.state for key in store.watched() if isinstance(key, Canary)}
        assert states == {minted: CanaryState.LIVE, fresh: CanaryState.LIVE}
        calls = {call.call for call in store.own_calls() if call.purpose == "plant"}
        assert calls == {"iam:GetUser", "iam:ListAccessKeys", "iam:CreateAccessKey"}
        assert pair.secret.reveal() not in "\n".join(map(repr, [*store.watched(), store.placements()]))
    scanned = scanner(capsys)(tmp_path)
    assert scanned.findings[fresh]["canary"] is True
    # A second time: it is planted already.
    assert run("plant", minted, "--at", tmp_path / "other", "--as", "env").status == 2
    assert "stands in" in run.error
    assert keys_of(aws) == {minted, fresh}


def test_what_mint_made_is_planted_by_its_name_and_retired(
    minted: str, aws: Loopback, run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("mint", "--name", "svc-archive-{n}").status == 0, run.error
    path = tmp_path / ".env"
    path.write_bytes(b"DEBUG=0\n")
    path.chmod(0o644)
    assert run("plant", "svc-archive-1", "--at", path, "--as", "env").status == 0, run.error
    assert run.lines[0]["state"] == "world-readable"
    assert run.check("svc-archive-1") == (1, [("world-readable", "everybody on this machine may read it")])
    assert run("retire", "svc-archive-1").status == 0, run.error
    assert path.read_bytes() == b"DEBUG=0\n"
    listed = aws.client("iam").list_access_keys(UserName="svc-archive-1")["AccessKeyMetadata"]
    assert [each["Status"] for each in listed] == ["Active", "Active"]


def test_a_crash_before_the_write_leaves_no_key_that_nobody_knows(
    minted: str, aws: Loopback, run: Run, tmp_path: Path
) -> None:
    # Made and watched, then the process ended.
    with database() as store:
        (canary,) = [key for key in store.watched() if isinstance(key, Canary)]
        places = Places(store, offline=False)
        fresh, pair = KeyMaker(places.aws, store, canary, None).make()
        store.place(
            Placement(key_id=fresh.key_id, kind="file", place=str(tmp_path / "never"), format="csv", planted=NOW)
        )
    assert fresh.state is CanaryState.MINTING
    assert keys_of(aws) == {minted, pair.key_id}
    assert run("plant", USER, "--at", tmp_path / "file", "--as", "csv").status == 0
    assert pair.key_id not in keys_of(aws)
    assert len(keys_of(aws)) == 2
    with database() as store:
        assert pair.key_id not in {key.key_id for key in store.watched()}


@pytest.mark.parametrize("behind", [0, 5])
def test_a_crash_before_the_key_was_written_down_is_known_by_the_call_that_was(
    minted: str, aws: Loopback, run: Run, tmp_path: Path, behind: int
) -> None:
    with database() as store:
        (canary,) = [key for key in store.watched() if isinstance(key, Canary)]
        clock = datetime.now(UTC) - timedelta(minutes=behind)
        ours = Aws(now=lambda: clock, random=os.urandom, write_down=store.add_own_call)
        with ours.about(minted):
            lost = ours.iam(None, "plant").create_access_key(UserName=USER)["AccessKey"]["AccessKeyId"]
        assert canary.owner.user_name == USER
    assert run("plant", USER, "--at", tmp_path / "file", "--as", "csv").status == 0
    assert lost not in keys_of(aws)


def test_a_key_that_somebody_else_made_is_never_touched(minted: str, aws: Loopback, run: Run, tmp_path: Path) -> None:
    theirs = aws.client("iam").create_access_key(UserName=USER)["AccessKey"]["AccessKeyId"]
    assert run("plant", USER, "--at", tmp_path / "file", "--as", "csv").status == 2
    assert "two keys" in run.error
    assert keys_of(aws) == {minted, theirs}
    assert not (tmp_path / "file").exists()


def test_a_crash_after_the_write_is_finished(minted: str, run: Run, tmp_path: Path) -> None:
    path = tmp_path / "file"
    assert run("plant", USER, "--at", path, "--as", "csv").status == 0
    fresh = str(run.lines[0]["key"])
    with database() as store:
        store.place(replace(store.placements()[fresh], state=PlacementState.UNPROVEN))
    assert run("plant", USER, "--at", tmp_path / "second", "--as", "csv").status == 2
    assert f"stands in {path}" in run.error
    assert placement(fresh).state is PlacementState.PRESENT  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("at", "there"),
    [("os.link", None), ("os.remove", None), ("os.rename", b"DEBUG=0\n"), ("os.remove", b"DEBUG=0\n")],
)
def test_a_kill_while_a_file_is_written_leaves_nothing_beside_it_once_it_is_planted_again(
    minted: str, aws: Loopback, run: Run, at: str, there: bytes | None
) -> None:
    path = Path.home() / "app" / ".env"
    path.parent.mkdir()
    if there is not None:
        path.write_bytes(there)
        path.chmod(0o600)
    killed = _plant_and_be_killed(at, path)
    assert killed == -9
    (key_id,) = keys_of(aws) - {minted}
    proven = at == "os.remove" and there is not None
    # It is no drift: what was cut off is neither there nor gone until somebody finishes it.
    status, [(state, detail)] = run.check()
    assert (status, state) == ((0, "present") if proven else (1, "unproven"))
    assert proven or "canary plant" in detail
    with database() as store:
        assert [alert.kind for _, alert in store.alerts()] == []
    again = run("plant", USER, "--at", path, "--as", "env")
    stands = at == "os.remove"
    assert again.status == (2 if stands else 0), again.error
    assert (key_id in keys_of(aws)) is stands
    assert [*path.parent.iterdir()] == [path]
    assert path.stat().st_nlink == 1
    assert backups() == []
    assert run.check() == (0, [("present", "")])


def _plant_and_be_killed(at: str, path: Path) -> int:
    """Plant in another process, killed at its first `at` (an audit event of Python) about the file or its backup."""
    code = """if True:
        import os, signal, sys
        from firedamp.service import cli
        at, name = sys.argv.pop(1), sys.argv.pop(1)
        def die(event, arguments):
            if event == at and os.path.basename(str(arguments[0])).startswith((f".{name}.", "plant.")):
                os.kill(os.getpid(), signal.SIGKILL)
        sys.addaudithook(die)
        sys.exit(cli.main(sys.argv[1:]))
    """
    command = [sys.executable, "-c", code, at, path.name, "canary", "plant", USER, "--at", str(path), "--as", "env"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent / ".links")}
    return subprocess.run(command, env=environment, check=False, capture_output=True).returncode


def test_a_planting_that_was_cut_off_is_retired_too_and_its_key_is_asked_about(
    minted: str, run: Run, tmp_path: Path
) -> None:
    path = tmp_path / ".env"
    assert run("plant", USER, "--at", path, "--as", "env").status == 0
    fresh = str(run.lines[0]["key"])
    with database() as store:
        store.place(replace(store.placements()[fresh], state=PlacementState.UNPROVEN))
        (canary,) = [key for key in store.watched() if isinstance(key, Canary) and key.key_id == fresh]
        store.watch(replace(canary, state=CanaryState.MINTING))
    assert run("retire", USER).status == 0, run.error
    assert not path.exists()
    # Whoever read the file has the key: it is no key that nobody was given, of which the nets would not ask.
    with database() as store:
        states = {key.state for key in store.watched() if isinstance(key, Canary)}
    assert states == {CanaryState.RETIRED}


def test_what_was_edited_before_its_planting_was_finished_stays_watched(minted: str, run: Run, tmp_path: Path) -> None:
    path = tmp_path / ".env"
    assert run("plant", USER, "--at", path, "--as", "env").status == 0
    fresh = str(run.lines[0]["key"])
    with database() as store:
        store.place(replace(store.placements()[fresh], state=PlacementState.UNPROVEN))
    path.write_text(path.read_text().replace("_DEFAULT_REGION", "_REGION"))
    assert run("plant", USER, "--at", tmp_path / "second", "--as", "env").status == 2
    assert f"stands in {path}" in run.error
    assert run.check() == (1, [("edited", "what stands there is not what was planted")])


def test_a_namesake_in_another_account_gets_no_key(minted: str, aws: Loopback, run: Run, tmp_path: Path) -> None:
    iam = aws.client("iam")
    iam.delete_access_key(UserName=USER, AccessKeyId=minted)
    iam.delete_user(UserName=USER)
    iam.create_user(UserName=USER)
    assert run("plant", USER, "--at", tmp_path / "file", "--as", "csv").status == 2
    assert "not the canary's" in run.error
    assert keys_of(aws) == set()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["orders", "--as", "csv"], "needs a place and a format"),
        (["orders", "--at", "x"], "needs a place and a format"),
        (["--at", "x", "--as", "csv"], "one canary"),
        (["nobody", "--at", "x", "--as", "csv"], "no canary is called nobody"),
        (["real", "--at", "x", "--as", "csv"], "is a real key"),
        (["twins", "--at", "x", "--as", "csv"], "several keys"),
        (["old", "--at", "x", "--as", "csv"], "retired"),
        (["orders", "--at", "x", "--as", "csv", "--secret-from", "env:NONE"], "no secret can be taken"),
        (["orders", "--at", "x", "--as", "csv", "--secret-from", "file:none"], "no file none"),
        (["orders", "--at", "x", "--as", "csv", "--offline"], "contacts nobody"),
        (["orders", "--at", "x", "--as", "csv"], "was made elsewhere"),
        (["orders", "--at", "ssm:/x", "--as", "csv", "--secret-from", "env:BAIT", "--offline"], "in AWS"),
        (["orders", "--at", "ssm:/x?colour=red", "--as", "csv", "--secret-from", "env:BAIT"], "not known"),
        (["orders", "--at", "ssm:", "--as", "csv", "--secret-from", "env:BAIT"], "needs a name"),
        (["orders", "--at", "s3://bucket", "--as", "csv", "--secret-from", "env:BAIT"], "names no object"),
        (["orders", "--at", "git:somewhere", "--as", "csv", "--secret-from", "env:BAIT"], "names no file"),
        (["orders", "--at", "lambda:f", "--as", "csv", "--secret-from", "env:BAIT"], "--as env"),
    ],
)
def test_what_cannot_be_planted_is_refused_with_the_reason(
    adopted: Pair, rng: random.Random, run: Run, arguments: list[str], told: str
) -> None:
    with database() as store:
        store.watch(RealKey(key_id=make_key_id(rng), name="real", since=NOW))
        store.watch(Canary(key_id=make_key_id(rng), name="old", state=CanaryState.RETIRED, since=NOW))
        for number in "12":
            store.watch(
                Canary(key_id=make_key_id(rng), name="twins", owner=Owner(account_id=number * 12), since=NOW)
            )  # fmt: skip
    assert run("plant", *arguments).status == 2
    assert told in run.error
    assert placement(adopted.key_id) is None


def test_a_secret_is_taken_from_a_file_or_standard_input(
    adopted: Pair, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "secret"
    source.write_text(adopted.secret.reveal() + "\n")
    assert run("plant", "orders", "--at", tmp_path / "a", "--as", "csv", "--secret-from", f"file:{source}").status == 0
    with database() as store:
        store.unplace(adopted.key_id)
        assert adopted.key_id in {key.key_id for key in store.watched()}, "a key that lives is never forgotten"
    monkeypatch.setattr("sys.stdin", io.StringIO(adopted.secret.reveal()))
    assert run("plant", "orders", "--at", tmp_path / "b", "--as", "csv", "--secret-from", "-").status == 0
    monkeypatch.setenv("BAIT", "not 'a' secret")
    with database() as store:
        store.unplace(adopted.key_id)
    assert give(run, tmp_path / "c", "csv").status == 2


# Places in AWS.


def prepare(aws: Loopback, kind: str) -> str:
    """Make what a place needs; return the place."""
    match kind:
        case "s3":
            aws.client("s3").create_bucket(Bucket="orders-exports")
            return "s3://orders-exports/config/app.env"
        case "lambda":
            trust = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole",
                     "Principal": {"Service": "lambda.amazonaws.com"}}]}  # fmt: skip
            role = aws.client("iam").create_role(RoleName="worker", AssumeRolePolicyDocument=json.dumps(trust))
            code = io.BytesIO()
            with zipfile.ZipFile(code, "w") as archive:
                archive.writestr("f.py", "")
            aws.client("lambda").create_function(
                FunctionName="worker", Runtime="python3.11", Role=role["Role"]["Arn"], Handler="f.x",
                Code={"ZipFile": code.getvalue()}, Environment={"Variables": {"STAGE": "two\nlines"}},
            )  # fmt: skip
            return "lambda:worker/OFFSITE"
        case "ec2":
            ec2 = aws.client("ec2")
            made = ec2.run_instances(ImageId="ami-12345678", MinCount=1, MaxCount=1, UserData="#!/bin/sh\necho\n")
            instance = made["Instances"][0]["InstanceId"]
            ec2.stop_instances(InstanceIds=[instance])
            return f"ec2:{instance}"
        case _:
            return f"{kind}:/orders/prod/aws"


@pytest.mark.parametrize(
    ("kind", "form"),
    [("s3", "env"), ("secretsmanager", "json"), ("ssm", "aws-profile"), ("lambda", "env"), ("ec2", "shell")],
)
def test_a_canary_is_planted_in_aws_checked_and_taken_back(
    kind: str, form: str, minted: str, aws: Loopback, run: Run
) -> None:
    place = prepare(aws, kind)
    store = database()
    places = Places(store, offline=False)
    before = places.open(place).read()
    assert run("plant", USER, "--at", place, "--as", form).status == 0, run.error
    fresh = str(run.lines[0]["key"])
    assert run.lines[0]["place"] == f"{place}?region=us-east-1"
    assert fresh in keys_of(aws) - {minted}
    held = places.open(place).read()
    assert held is not None
    assert FORMATS[form].find(held.data.decode(), fresh) is not None
    assert kind in {call.call.partition(":")[0] for call in store.own_calls() if call.key_id == fresh}
    assert run.check() == (0, [("present", "")])
    # Nothing that is there is overwritten.
    if kind != "ec2":
        with pytest.raises(UsageFailure, match="never overwritten"):
            planter.plan(places.open(place), held, FORMATS[form], Pair(fresh, Secret("")), ())
        with pytest.raises(UsageFailure, match="never overwritten"):
            places.open(place).write(b"", held)
    with pytest.raises((Failure, ClientError)):
        places.open(place).write(held.data, None)
    with pytest.raises(Failure, match="changed"):
        places.open(place).remove(replace(held, data=b"other", stamp="other"))
    # Without the network it is left out, and said.
    assert run.check("--offline") == (0, [("present", "it is in AWS, and --offline contacts nobody")])
    kept = store.placements()[fresh]
    assert planter.take_back(places.open(kept.place), fresh, kept.content)
    after = places.open(place).read()
    assert (None if after is None else after.data) == (None if before is None else before.data)
    assert fresh in keys_of(aws), "taking back never touches the key"
    if kind == "lambda":
        variables = aws.client("lambda").get_function_configuration(FunctionName="worker")["Environment"]["Variables"]
        assert variables == {"STAGE": "two\nlines"}


def test_a_refusal_of_aws_leaves_no_key_behind(minted: str, aws: Loopback, run: Run) -> None:
    aws.refuse_next("ssm:PutParameter", "AccessDeniedException", times=1)
    assert run("plant", USER, "--at", "ssm:/orders/prod/aws", "--as", "env").status == 2
    assert "AccessDenied" in run.error
    assert keys_of(aws) == {minted}
    with database() as store:
        assert [key.key_id for key in store.watched()] == [minted]


def test_a_key_that_cannot_be_deleted_now_is_deleted_by_the_next_planting(
    minted: str, aws: Loopback, run: Run, tmp_path: Path
) -> None:
    aws.refuse_next("ssm:PutParameter", "AccessDeniedException")
    aws.refuse_next("iam:DeleteAccessKey", "AccessDenied")
    assert run("plant", USER, "--at", "ssm:/orders/prod/aws", "--as", "env").status == 2
    assert "the next planting deletes it" in run.error
    (left,) = keys_of(aws) - {minted}
    # IAM was busy when the next key was asked for; and an answer may have been lost.
    aws.refuse_next("iam:CreateAccessKey", "ServiceUnavailable", status=503)
    assert run("plant", USER, "--at", tmp_path / "file", "--as", "csv").status == 0
    assert keys_of(aws) == {minted, run.lines[0]["key"]}
    with database() as store:
        assert left not in {key.key_id for key in store.watched()}


def test_deleting_a_key_that_is_gone_is_fine(minted: str, aws: Loopback) -> None:
    with database() as store:
        (canary,) = [key for key in store.watched() if isinstance(key, Canary)]
        maker = KeyMaker(Places(store, offline=False).aws, store, canary, None)
        fresh, _ = maker.make()
        aws.client("iam").delete_access_key(UserName=USER, AccessKeyId=fresh.key_id)
        maker.delete(fresh.key_id)
        assert [key.key_id for key in store.watched()] == [minted]
        aws.refuse_next("iam:DeleteAccessKey", "AccessDenied")
        with pytest.raises(AwsFailure, match="cannot be deleted"):
            maker.delete(minted)


# Repositories.


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    made = Repository(tmp_path / "app")
    made.commit("begin", {"README": "hello\n", "config/settings.ini": "[a]\nx = 1\n"})
    made.git("branch", "feature")
    # Whatever of the repository's could run, would leave a trace.
    for name in ("reference-transaction", "post-commit", "pre-commit", "post-index-change"):
        hook = made.path / ".git" / "hooks" / name
        hook.parent.mkdir(exist_ok=True)
        hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
        hook.chmod(0o755)
    (made.path / ".gitattributes").write_text("* filter=evil\n")
    for name in ("filter.evil.clean", "filter.evil.smudge", "core.fsmonitor", "gpg.program"):
        made.git("config", name, f"touch {tmp_path}/ran")
    made.git("config", "commit.gpgSign", "true")
    return made


def test_a_commit_on_a_branch_plants_without_running_anything_of_the_repository(
    adopted: Pair, run: Run, repository: Repository, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def plain() -> str:
        return repository.git("-c", "core.fsmonitor=false", "status", "--porcelain", "--branch")

    (tmp_path / "ran").unlink(missing_ok=True)
    tree = sorted(path for path in repository.path.rglob("*") if ".git" not in path.parts)
    tip = repository.git("rev-parse", "feature")
    place = f"git:{repository.path}@feature:deploy/.env"
    assert give(run, place, "env").status == 0, run.error
    assert not (tmp_path / "ran").exists()
    assert sorted(path for path in repository.path.rglob("*") if ".git" not in path.parts) == tree
    assert repository.git("rev-parse", "feature~1") == tip
    assert repository.git("log", "-1", "--format=%an %ae %s", "feature") == "Ada ada@example.org Add deploy/.env"
    assert repository.git("diff", "--name-only", "feature~1", "feature") == "deploy/.env"
    assert "deploy" not in plain()
    # The scanner meets it in the repository, and as a canary; that is where it belongs.
    assert scanner(capsys)(repository.path).findings[adopted.key_id]["canary"] is True
    assert run.check() == (0, [("present", "")])
    with database() as store:
        (canary,) = [key for key in store.watched() if isinstance(key, Canary)]
        assert take_back(canary, CanaryOptions(action="retire"), Common(), store)
        assert "history" in store.placements()[adopted.key_id].detail
    assert repository.git("diff", "--name-only", tip, "feature") == ""


def test_a_branch_that_is_checked_out_is_moved_by_force_only(
    adopted: Pair, run: Run, repository: Repository, tmp_path: Path
) -> None:
    place = f"git:{repository.path}@main:config/settings.ini"
    assert give(run, place, "rclone").status == 2
    assert "checked out" in run.error
    assert give(run, place, "rclone", "--force").status == 0, run.error
    assert repository.git("show", "main:config/settings.ini").startswith("[a]\nx = 1\n\n[")
    assert (repository.path / "config" / "settings.ini").read_text() == "[a]\nx = 1\n"
    assert run.check() == (0, [("present", "")])


def test_a_bare_repository_gets_a_new_branch(adopted: Pair, run: Run, tmp_path: Path) -> None:
    work = Repository(tmp_path / "work", "--object-format=sha256")
    work.commit("begin", {"README": "hello\n"})
    work.git("clone", "--quiet", "--bare", str(work.path), str(tmp_path / "app.git"))
    bare = Repository.at(tmp_path / "app.git")
    assert give(run, f"git:{bare.path}@archive:a.csv", "csv").status == 0, run.error
    assert bare.git("ls-tree", "-r", "--name-only", "archive").split() == ["README", "a.csv"]


def test_a_commit_is_of_the_time_zone_of_the_one_before(adopted: Pair, run: Run, tmp_path: Path) -> None:
    repository = Repository(tmp_path / "app")
    repository.git("commit", "--quiet", "--allow-empty", "--message", "x", "--date", "2026-01-01T10:00:00+0530")
    assert give(run, f"git:{repository.path}@deploy:.env", "env").status == 0, run.error
    assert repository.git("log", "-1", "--date=format:%z", "--format=%ad %cd", "deploy") == "+0530 +0530"


def test_what_is_no_place_in_a_repository_is_refused(adopted: Pair, run: Run, tmp_path: Path) -> None:
    empty = Repository(tmp_path / "empty")
    assert give(run, f"git:{empty.path}@other:x", "csv").status == 2
    assert "no commit to go on from" in run.error
    assert give(run, f"git:{tmp_path}@main:x", "csv").status == 2
    assert "a repository of yours" in run.error
    full = Repository(tmp_path / "full")
    (full.path / "link").symlink_to("README")
    full.commit("begin", {"README": "hello\n", "folder/file": "x"})
    for path in ("link", "folder", "../out", ".git/config", "README/file"):
        assert give(run, f"git:{full.path}@other:{path}", "csv").status == 2, path
    assert placement(adopted.key_id) is None
    assert full.git("branch", "--format=%(refname:short)") == "main"


def test_a_commit_that_somebody_made_meanwhile_is_kept(rng: random.Random, tmp_path: Path) -> None:
    repository = Repository(tmp_path / "app")
    repository.commit("begin", {"file": "old\n"})
    repository.git("branch", "side")
    repository.git("checkout", "--quiet", "--detach")
    place = GitPlace(folder=repository.path, branch="side", path="file", at=NOW)
    held = place.read()
    assert held is not None
    place.write(b"new\n", held)
    with pytest.raises(Failure, match="changed while"):
        place.write(b"newer\n", held)
    with pytest.raises(Failure, match="changed while"):
        place.write(b"other\n", None)


# Drift.


@pytest.fixture
def planted(adopted: Pair, run: Run, tmp_path: Path) -> Path:
    path = tmp_path / "home" / ".env"
    path.parent.mkdir()
    assert give(run, path, "env").status == 0
    return path


def drifts() -> list[tuple[Severity, str]]:
    with database() as store:
        alerts = [alert for _, alert in store.alerts() if alert.kind is AlertKind.DRIFT]
        return [(alert.severity, dict(alert.facts)["now"]) for alert in alerts]


Change = Callable[[Path], object]


@pytest.mark.parametrize(
    ("change", "status", "state"),
    [
        (lambda path: path.unlink(), 1, "gone"),
        (lambda path: path.write_text("AWS_REGION=x\n"), 1, "gone"),
        (lambda path: path.write_text(path.read_text().replace("AWS_BUCKET=", "AWS_BUCKET=x")), 1, "edited"),
        (lambda path: path.chmod(0o644), 1, "world-readable"),
        (lambda path: (path.unlink(), path.symlink_to("x")), 2, "unreadable"),
        (lambda path: (path.unlink(), path.mkdir()), 2, "unreadable"),
    ],
)
def test_what_became_of_a_file_is_told_once(planted: Path, run: Run, change: Change, status: int, state: str) -> None:
    assert run.check() == (0, [("present", "")])
    assert drifts() == []
    change(planted)
    for _ in range(2):
        told, ((seen, detail),) = run.check()
        assert (told, seen) == (status, state)
        assert detail
    assert [each for _, each in drifts()] == [state]


def test_what_was_edited_is_not_taken_back(planted: Path, adopted: Pair, run: Run) -> None:
    text = planted.read_text().replace("AWS_BUCKET=", "AWS_BUCKET=x")
    planted.write_text(text)
    assert run("retire", "orders").status == 2
    assert "edited" in run.error
    assert planted.read_text() == text
    assert placement(adopted.key_id).state is PlacementState.PRESENT  # type: ignore[union-attr]


def test_a_copy_that_the_scanner_meets_is_told_and_so_is_a_move(
    planted: Path, run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], rng: random.Random
) -> None:
    copy = tmp_path / "elsewhere"
    copy.write_bytes(planted.read_bytes())
    scanner(capsys)(tmp_path)
    assert run.check() == (1, [("copied", f"it was met in {copy}")])
    planted.unlink()
    assert run.check() == (1, [("moved", f"it stands in {copy} now")])
    named = tmp_path / f"{make_key_id(rng)}:{make_secret(rng).replace('/', '+')}"
    copy.rename(named)
    scanner(capsys)(tmp_path)
    assert run.check() == (1, [("moved", f"it stands in {str(named)[:-40]}[secret] now")])
    named.unlink()
    assert run.check() == (1, [("gone", "the place is empty")])
    assert [state for _, state in drifts()] == ["gone", "moved", "moved", "copied"]
    assert drifts()[-1][0] is Severity.HIGH


def test_a_placement_that_git_tracks_or_has_in_its_history_is_told(
    planted: Path, run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    repository = Repository(planted.parent)
    assert run.check() == (0, [("present", "")])
    repository.git("add", "--force", ".env")
    assert run.check() == (1, [("committed", f"git has it: {planted.parent} tracks it")])
    repository.git("commit", "--quiet", "-m", "oops")
    repository.git("rm", "--quiet", "--cached", ".env")
    scanner(capsys)(planted.parent)
    status, ((state, detail),) = run.check()
    assert (status, state) == (1, "committed")
    assert "commit " in detail
    clone = tmp_path / "clone"
    repository.git("clone", "--quiet", ".", str(clone))
    scanner(capsys)(clone)
    status, ((state, detail),) = run.check()
    assert (state, f"{clone}/.env" in detail) == ("committed", True)


def test_the_table_and_the_names_of_a_check(
    planted: Path, adopted: Pair, rng: random.Random, capsys: pytest.CaptureFixture[str], run: Run
) -> None:
    with database() as store:
        other = make_key_id(rng)
        store.watch(Canary(key_id=other, name="by hand", since=NOW))
        store.place(Placement(key_id=other, kind="told", place="a USB stick", format="", planted=NOW))
        canary = next(key for key in store.watched() if key.key_id == other)
        assert isinstance(canary, Canary)
        with pytest.raises(Failure, match="by hand"):
            take_back(canary, CanaryOptions(action="retire"), Common(), store)
    capsys.readouterr()
    assert cli.main(["canary", "check", "orders"]) == 0
    told = capsys.readouterr().out
    assert adopted.key_id in told
    assert str(planted) in told
    assert cli.main(["canary", "check", "--format", "csv"]) == 2
    assert run.check("by hand") == (0, [])
    assert run("check", "nobody").status == 2
    with database() as store:
        store.place(
            Placement(
                key_id=adopted.key_id, kind="file", place=str(planted), format="papyrus", planted=NOW,
                state=PlacementState.PRESENT,
            )
        )  # fmt: skip
    assert run.check()[0] == 2


def test_a_place_in_aws_needs_a_sound_name() -> None:
    with database() as store, pytest.raises(UsageFailure, match="not known"):
        Places(store, offline=False).open("ssm:/x?colour=red")
