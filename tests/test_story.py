"""The story: mint, plant, scan, intrude, watch, alarm; and the process is killed at every boundary on the way.

Everything is real but the cloud: the commands a user types, in processes that die by SIGKILL; git; SQLite on disk; a
webhook, a chat and a mail server on loopback. Records travel from the trail's bucket through a queue.
"""

from __future__ import annotations

import json
import random
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from moto.iam.models import iam_backends
from moto.sqs.models import sqs_backends
from tests.crasher import Crasher, Ended
from tests.mailbox import Mailbox
from tests.repositories import Repository
from tests.scenes import code, drain, make_queue, start_trail

from firedamp.canaries.formats import FORMATS
from firedamp.service.loopback import Loopback, LoopbackKey
from firedamp.storage.store import Store

INTRUDER = "203.0.113.77"
REPEAT = "may be a repeat"


class Inbox:
    """A webhook, a chat and a mail server: what they received, as text, by channel."""

    def __init__(self) -> None:
        self.got: list[tuple[str, str]] = []
        inbox = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                body = self.rfile.read(length).decode()
                if len(body.encode()) < length:  # the sender died in the middle of it
                    return
                inbox.got.append((self.path.strip("/"), body))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        class Box:
            async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
                parts = message_from_bytes(envelope.content).walk()
                texts = [part.get_payload(decode=True) for part in parts if not part.is_multipart()]
                inbox.got.append(("mail", b"\n".join(texts).decode()))
                return "250 OK"

        self.web = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        Thread(target=self.web.serve_forever, daemon=True).start()
        self.smtp = Mailbox(Box())
        self.smtp.start()
        mail, port = self.smtp.port, self.web.server_port
        self.channels = {
            "webhook": f"webhook+http://127.0.0.1:{port}/webhook",
            "chat": f"json://127.0.0.1:{port}/chat?rto=60",  # else apprise waits four seconds
            "mail": f"mailto://127.0.0.1:{mail}?from=firedamp@example.com&to=team@example.com&mode=insecure",
        }

    def close(self) -> None:
        self.smtp.stop()
        self.web.shutdown()
        self.web.server_close()


@pytest.fixture
def inbox() -> Iterator[Inbox]:
    made = Inbox()
    yield made
    made.close()


@dataclass
class Scene:
    """The house as it stands before the intruder comes, and the commands that are run in it."""

    folder: Path
    aws: Loopback
    inbox: Inbox
    crasher: Crasher
    queue: str
    feed: str

    @property
    def database(self) -> Path:
        return self.folder / "firedamp.db"

    @property
    def handed(self) -> Path:
        return self.folder / "minted.jsonl"

    def run(self, *arguments: str, die_at: int | None = None, die_after: float | None = None) -> Ended:
        return self.crasher.run(*arguments, "--db", str(self.database), die_at=die_at, die_after=die_after)

    def mint(self, **death: Any) -> Ended:
        return self.run("canary", "mint", "--format", "jsonl", "--output", str(self.handed), **death)

    def watch(self, **death: Any) -> Ended:
        return self.run("watch", "--once", "--feed", self.feed, "--format", "jsonl", **death)

    def deliver(self, **death: Any) -> Ended:
        return self.run("alert", "deliver", "--config", str(self.folder / "firedamp.toml"), **death)

    def minted(self) -> list[dict[str, Any]]:
        """Return the canaries that were handed over, without those that a later line replaces."""
        lines = [json.loads(line) for line in self.handed.read_text().splitlines()]
        replaced = {line["replaces"] for line in lines}
        return [line for line in lines if line["access_key_id"] not in replaced]

    def keys_in_aws(self) -> set[str]:
        users = iam_backends[self.aws.account]["aws"].users.values()
        return {key.access_key_id for user in users for key in user.access_keys}

    def show_messages(self) -> None:
        """Let the messages come back that are hidden for whoever received them: five minutes pass in the queue."""
        for queue in sqs_backends[self.aws.account]["us-east-1"].queues.values():
            for message in queue._messages:
                message.visible_at = 0

    def minutes_pass(self) -> None:
        """Let come back what a dead process held: hidden messages of the queue, deliveries that were begun."""
        self.show_messages()
        now = datetime.now(UTC)
        with Store(self.database) as store:
            for channel in self.inbox.channels:
                for delivery, _ in store.due(channel, now + timedelta(hours=1), now + timedelta(days=1)):
                    store.set_delivery(replace(delivery, next_try=now))


@pytest.fixture(scope="module")
def crasher(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crasher]:
    with Crasher(tmp_path_factory.mktemp("process")) as made:
        yield made


@pytest.fixture
def scene(tmp_path: Path, aws: Loopback, inbox: Inbox, crasher: Crasher, monkeypatch: pytest.MonkeyPatch) -> Scene:
    cloudtrail = start_trail(aws)
    assert cloudtrail is not None
    queue, arn = make_queue(aws, "notices")
    notify: Any = {"QueueConfigurations": [{"QueueArn": arn, "Events": ["s3:ObjectCreated:*"]}]}
    aws.client("s3").put_bucket_notification_configuration(Bucket="logs", NotificationConfiguration=notify)
    drain(aws, queue)  # S3's own test event
    config = [f'[[channel]]\nname = "{name}"\nurl = "env:{name.upper()}"\n' for name in inbox.channels]
    (tmp_path / "firedamp.toml").write_text("".join(config))
    for name, url in inbox.channels.items():
        monkeypatch.setenv(name.upper(), url)
    own = {"AWS_ENDPOINT_URL": aws.url, "AWS_ACCESS_KEY_ID": aws.admin.id, "AWS_REGION": "us-east-1"}
    for name, value in (own | {"AWS_SECRET_ACCESS_KEY": aws.admin.secret.reveal()}).items():
        monkeypatch.setenv(name, value)
    return Scene(tmp_path, aws, inbox, crasher, queue, f"sqs://us-east-1/{aws.account}/notices")


def plant(scene: Scene) -> tuple[Path, Path, LoopbackKey]:
    """Mint two canaries, and plant one in a file and one on a branch; return the places and the key in the file."""
    done = scene.run("canary", "mint", "-n", "2", "--format", "jsonl", "--output", str(scene.handed))
    assert done.status == 0, done.errors
    app = Repository(scene.folder / "app")
    app.commit("Begin", {"README.md": "# app\n"})
    app.git("branch", "deploy")
    place = scene.folder / "srv" / "backup.env"
    place.parent.mkdir()
    spots = str(place), f"git:{app.path}@deploy:deploy/settings.env"
    for made, spot in zip(scene.minted(), spots, strict=True):
        done = scene.run("canary", "plant", made["name"], "--at", spot, "--as", "env")
        assert done.status == 0, done.errors
    with Store(scene.database) as store:
        key_id = next(each.key_id for each in store.placements().values() if each.place == str(place))
    read = FORMATS["env"].find(place.read_text(), key_id)
    assert read is not None
    return place, app.path, LoopbackKey(key_id, read.secret)


def intrude(aws: Loopback, key: LoopbackKey) -> None:
    """Use the key as a thief does: allowed, denied, and to make a session."""
    sts, s3 = (aws.client(service, key, source_ip=INTRUDER) for service in ("sts", "s3"))
    assert code(sts.get_caller_identity) == "OK"
    assert code(s3.list_buckets) == "AccessDenied"
    assert code(sts.get_federation_token, Name="guest") == "AccessDenied"
    aws.trail.flush()


def check_alarm(scene: Scene, key: LoopbackKey, place: Path, *, crashed: bool = False) -> None:
    """One incident with every use in it; one alarm on each channel that names the placement; repeats say so."""
    with Store(scene.database) as store:
        (incident,) = store.incidents()
        names = [sighting.event.name for sighting in store.sightings(incident.id)]
    assert (incident.key_id, incident.addresses) == (key.id, (INTRUDER,))
    assert Counter(names) == Counter(["GetCallerIdentity", "ListBuckets", "GetFederationToken"])
    for channel in scene.inbox.channels:
        told = [text for name, text in scene.inbox.got if name == channel]
        assert told, f"nothing arrived by {channel}"
        for text in told:
            assert str(place) in text, channel
            assert INTRUDER in text, channel
        assert len(told) <= 1 + crashed
        assert [REPEAT in text or '"repeat": true' in text for text in told[1:]] == [True] * (len(told) - 1)


def test_the_story(scene: Scene) -> None:
    place, app, key = plant(scene)
    scanned = scene.run("scan", str(place.parent), str(app), "--format", "jsonl")
    lines = [json.loads(line) for line in scanned.output.splitlines()]
    found = {line["access_key_id"]: line for line in lines if "summary" not in line}
    with Store(scene.database) as store:
        planted = store.placements()
    assert {each.kind for each in planted.values()} == {"file", "git"}
    assert set(found) == set(planted)
    assert all(line["canary"] and line["verification"]["status"] == "CANARY" for line in found.values())
    scene.aws.trail.flush()
    assert not [entry for entry in scene.aws.trail.entries if entry.facts.get("AccessKeyId") in found], "nobody called"
    assert scene.watch().status == 0, "what we did ourselves is no alarm"
    intrude(scene.aws, key)
    watched = scene.watch()
    assert watched.status == 1, watched.errors
    (incident,) = [json.loads(line) for line in watched.output.splitlines()]
    assert incident["sightings"]["use"] == 3
    assert scene.deliver().status == 0
    check_alarm(scene, key, place)
    assert scene.watch().status == 0
    assert scene.deliver().status == 0
    check_alarm(scene, key, place)


def test_minting_is_killed_at_every_boundary_and_leaves_nothing_behind(scene: Scene) -> None:
    point = 0
    while True:
        point += 1
        died = scene.mint(die_at=point)
        if died.status != -9:
            assert died.status == 0, died.errors
            break
        again = scene.mint()
        assert again.status == 0, again.errors
        handed = {line["access_key_id"]: line["secret_access_key"] for line in scene.minted()}
        with Store(scene.database) as store:
            watched = {key.key_id for key in store.watched()}
            assert store.mintings() == []
        assert scene.keys_in_aws() - {scene.aws.admin.id} == watched, f"nothing orphaned at boundary {point}"
        assert watched <= set(handed), "no canary without its secret"
    assert point > 20


def deaths(scene: Scene) -> tuple[LoopbackKey, Path, Path, list[str]]:
    """Bring the story to the moment before the watch; return the key, its place, the database then, the notices."""
    place, _, key = plant(scene)
    scene.aws.trail.flush()
    assert scene.watch().status == 0
    intrude(scene.aws, key)
    notices = [json.dumps(body) for body in drain(scene.aws, scene.queue)]
    before = scene.folder / "before.db"
    shutil.copyfile(scene.database, before)
    return key, place, before, notices


def rewind(scene: Scene, before: Path, notices: list[str]) -> None:
    """Set the scene again as it was before the watch."""
    scene.show_messages()
    drain(scene.aws, scene.queue)
    for suffix in ("", "-wal", "-shm"):
        Path(f"{scene.database}{suffix}").unlink(missing_ok=True)
    shutil.copyfile(before, scene.database)
    sqs = scene.aws.client("sqs")
    for notice in notices:
        sqs.send_message(QueueUrl=scene.queue, MessageBody=notice)
    scene.inbox.got.clear()


def finish(scene: Scene) -> None:
    """Start again what died, when its time has come."""
    scene.minutes_pass()
    assert scene.watch().status in {0, 1}
    scene.minutes_pass()
    assert scene.deliver().status == 0


def test_the_watch_is_killed_at_every_boundary_and_every_use_is_one_incident(scene: Scene) -> None:
    key, place, before, notices = deaths(scene)
    point = 0
    while True:
        point += 1
        rewind(scene, before, notices)
        died = scene.watch(die_at=point)
        finish(scene)
        check_alarm(scene, key, place)
        if died.status != -9:
            assert died.status == 1, died.errors
            break
    assert point > 10


def test_the_delivery_is_killed_at_every_boundary_and_only_marked_repeats_come_twice(scene: Scene) -> None:
    key, place, before, notices = deaths(scene)
    rewind(scene, before, notices)
    assert scene.watch().status == 1
    shutil.copyfile(scene.database, before)
    point = repeats = 0
    while True:
        point += 1
        rewind(scene, before, [])
        died = scene.deliver(die_at=point)
        scene.minutes_pass()
        assert scene.deliver().status == 0
        check_alarm(scene, key, place, crashed=died.status == -9)
        repeats += len(scene.inbox.got) - len(scene.inbox.channels)
        if died.status != -9:
            assert died.status == 0, died.errors
            break
    assert point > 20
    assert repeats >= len(scene.inbox.channels), "a kill right behind each send is among them"


@pytest.mark.slow
def test_at_two_hundred_random_moments_nothing_is_lost_and_nothing_doubled_unmarked(
    scene: Scene, rng: random.Random
) -> None:
    key, place, before, notices = deaths(scene)
    for _ in range(200):
        rewind(scene, before, notices)
        scene.watch(die_after=rng.uniform(0, 1.5) if rng.random() < 0.5 else 5)
        scene.minutes_pass()
        scene.deliver(die_after=rng.uniform(0, 1.0))
        finish(scene)
        check_alarm(scene, key, place, crashed=True)
