"""`demo`: the whole story against a loopback AWS, told as it happens, leaving nothing behind.

A repository with a leaked key is made, scanned, judged and made harmless; a canary is minted and planted; an intruder
uses it; CloudTrail writes, the watch reads, and the alarm arrives. Every step is a command that a user could type.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from firedamp.service.ourselves import COMMAND
from firedamp.storage.errors import Failure

if TYPE_CHECKING:
    from firedamp.service.loopback import Loopback, LoopbackKey

_ALLOW_ALL = '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}'
_INTRUDER = "203.0.113.77"


def demo() -> int:
    """Tell the story. Raises Failure when the demo's extra is not installed, or a step does not do what it should."""
    from firedamp.service.loopback import Loopback

    with tempfile.TemporaryDirectory(prefix="firedamp-demo-") as folder, Loopback() as aws, _Chat() as chat:
        _Story(Path(folder), aws, chat).tell()
    return 0


class _Chat:
    """The team's chat, on loopback: shows what arrives."""

    def __init__(self) -> None:
        self.got: list[str] = []
        chat = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                chat.got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["text"])
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                """Say nothing: the story is told elsewhere."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"webhook+http://127.0.0.1:{self._server.server_port}/"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Story:
    def __init__(self, folder: Path, aws: Loopback, chat: _Chat) -> None:
        self._folder, self._aws, self._chat = folder, aws, chat
        self._home = folder / "home"
        self._home.mkdir()
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "FIREDAMP_", "GIT_"))}
        self._environ: Mapping[str, str] = kept | {
            "HOME": str(self._home), "XDG_DATA_HOME": str(folder / "data"), "XDG_STATE_HOME": str(folder / "state"),
            "FIREDAMP_DB": str(folder / "firedamp.db"), "AWS_ENDPOINT_URL": aws.url, "AWS_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true", "CHAT": chat.url, "COLUMNS": "110",
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        }  # fmt: skip

    def tell(self) -> None:
        """Tell all of it."""
        deploy = self._leak()
        self._say("An administrator's key was committed, and removed again. The history keeps it. Find and judge it:")
        self._run("scan", str(self._folder / "app"), expect=(1,))
        self._say("It lives. What can it do?")
        self._run("key", "show", deploy.id, expect=(0,))
        self._say("Make it harmless, with the sessions made from it, and prove it:")
        self._run("key", "disable", deploy.id, "--yes", expect=(0,))
        self._say("Now lay bait: a key that nobody should ever use, where the real one was.")
        name = self._mint()
        place = self._folder / "app" / "config" / "backup.env"
        place.parent.mkdir(parents=True, exist_ok=True)
        self._run("canary", "plant", name, "--at", str(place), "--as", "env", expect=(0,))
        self._say("The scanner knows its own canaries, and never asks AWS about them:")
        self._run("scan", str(place.parent), expect=(0, 1))
        feed = self._start_trail()
        self._intrude(place)
        self._aws.trail.flush()
        self._say("CloudTrail has written. Watch:")
        self._run("watch", "--once", "--feed", feed, expect=(1,))
        config = self._folder / "firedamp.toml"
        config.write_text('[[channel]]\nname = "chat"\nurl = "env:CHAT"\n', encoding="utf-8")
        self._run("alert", "deliver", "--config", str(config), expect=(0,))
        told = [text for text in self._chat.got if _INTRUDER in text]
        if not told:
            raise Failure("the alarm did not arrive", "this is a bug: please report it")
        self._say("And this is what the team's chat shows:")
        print("\n".join("    " + line for line in told[-1].splitlines()))
        self._say("Everything the demo made is gone now. On your own machine:  firedamp scan    then  firedamp doctor")

    def _say(self, text: str) -> None:
        print(f"\n{text}\n", flush=True)

    def _run(self, *arguments: str, expect: Sequence[int]) -> str:
        """Run one command as a user would; show it and what it prints."""
        print(f"  $ firedamp {shlex.join(arguments)}", flush=True)
        done = subprocess.run(
            [*COMMAND, *arguments], capture_output=True, text=True,
            env=dict(self._environ), check=False,
        )  # fmt: skip
        for line in (done.stdout + done.stderr).splitlines():
            print(f"    {line.replace(str(self._folder), '…')}", flush=True)
        if done.returncode not in expect:
            raise Failure(f"firedamp {arguments[0]} ended with {done.returncode}", "this is a bug: please report it")
        return done.stdout

    def _leak(self) -> LoopbackKey:
        """Give this user an administrator's access, and leak another one's key into a repository."""
        own = self._aws.admin
        (self._home / ".aws").mkdir()
        # Our own access lies here as on every laptop; it is read by AWS's SDK, not scanned.
        (self._home / ".aws" / "credentials").write_text(
            f"[default]\naws_access_key_id = {own.id}\naws_secret_access_key = {own.secret.reveal()}\n",
            encoding="utf-8",
        )
        deploy = self._aws.add_user("deploy-bot", inline={"everything": _ALLOW_ALL})
        app = self._folder / "app"
        app.mkdir()
        text = f'AWS_ACCESS_KEY_ID = "{deploy.id}"\nAWS_SECRET_ACCESS_KEY = "{deploy.secret.reveal()}"\n'
        (app / "settings.py").write_text(text, encoding="utf-8")
        git = ["git", "-c", "user.name=Dana Developer", "-c", "user.email=dana@example.com", "-C", str(app)]
        for arguments in (
            ["init", "-q"], ["add", "."], ["commit", "-q", "-m", "Deploy from CI"], ["rm", "-q", "settings.py"],
            ["commit", "-q", "-m", "Remove the key, nobody saw it"],
        ):  # fmt: skip
            subprocess.run([*git, *arguments], check=True, env=dict(self._environ))
        return deploy

    def _mint(self) -> str:
        """Mint a canary and return its name."""
        print("  $ firedamp canary mint --format jsonl", flush=True)
        done = subprocess.run(
            [*COMMAND, "canary", "mint", "--format", "jsonl"],
            capture_output=True, text=True, env=dict(self._environ), check=False,
        )  # fmt: skip
        if done.returncode != 0:
            raise Failure(f"firedamp canary mint ended with {done.returncode}: {done.stderr}")
        name: str = json.loads(done.stdout.splitlines()[0])["name"]
        print(f"    a user named {name}, with a key and an explicit denial of everything", flush=True)
        return name

    def _start_trail(self) -> str:
        """Start a trail whose files are announced on a queue; return the feed's URL."""
        s3, sqs, trail = (self._aws.client(service) for service in ("s3", "sqs", "cloudtrail"))
        s3.create_bucket(Bucket="demo-trail")
        url = sqs.create_queue(QueueName="demo-trail")["QueueUrl"]
        arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        notify = {"QueueConfigurations": [{"QueueArn": arn, "Events": ["s3:ObjectCreated:*"]}]}
        s3.put_bucket_notification_configuration(Bucket="demo-trail", NotificationConfiguration=notify)
        trail.create_trail(Name="demo", S3BucketName="demo-trail", IsMultiRegionTrail=True)
        trail.start_logging(Name="demo")
        return f"sqs://us-east-1/{self._aws.account}/demo-trail"

    def _intrude(self, place: Path) -> None:
        """Use the canary as a thief does: who am I, what is here, and let me in some other way."""
        from botocore.exceptions import ClientError

        from firedamp.service.loopback import LoopbackKey
        from firedamp.storage.secret import Secret

        self._say(f"An intruder reads {place.name} and tries the key from {_INTRUDER}.")
        lines = place.read_text(encoding="utf-8").splitlines()
        values = dict(line.removeprefix("export ").split("=", 1) for line in lines if "=" in line)
        key = LoopbackKey(
            values["AWS_ACCESS_KEY_ID"].strip("\"'"), Secret(values["AWS_SECRET_ACCESS_KEY"].strip("\"'"))
        )
        for service, call in (("sts", "get_caller_identity"), ("s3", "list_buckets"), ("iam", "list_users")):
            client = self._aws.client(service, key, source_ip=_INTRUDER)
            try:
                getattr(client, call)()
                print(f"    {service} {call}: answered")
            except ClientError as error:
                print(f"    {service} {call}: {error.response['Error']['Code']}")
