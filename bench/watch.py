"""Measure the watch on real-shaped trail files: against zcat to /dev/null, and against parsing every record."""

from __future__ import annotations

import gzip
import hashlib
import json
import random
import resource
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing import Pipe, Process
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import boto3
from tests.builders import make_key_id

from firedamp.canaries import watch
from firedamp.canaries.awsfeeds import QueueFeed
from firedamp.canaries.feeds import FolderFeed, World
from firedamp.storage.records import Canary, Owner
from firedamp.storage.store import Store

ACCOUNT: Final = "123456789012"
FILES, RECORDS = 24, 5000
QUEUED: Final = 10_000
TRIPS: Final = 100
AWAY: Final = 0.01
"""Seconds that a call to AWS takes within a region, at least."""
ROUNDS: Final = 3
NOW: Final = datetime(2026, 11, 20, 12, tzinfo=UTC)

_CALLS: Final = (
    ("ec2", "DescribeInstances"), ("sts", "AssumeRole"), ("s3", "GetBucketAcl"), ("kms", "Decrypt"),
    ("logs", "CreateLogStream"), ("ssm", "GetParameters"), ("iam", "GetRole"), ("ec2", "RunInstances"),
)  # fmt: skip
_AGENTS: Final = (
    "aws-cli/2.15.30 Python/3.11.8 Linux/6.1.79 exe/x86_64 prompt/off command/ec2.describe-instances",
    "Boto3/1.34.69 md/Botocore#1.34.69 ua/2.0 os/linux#5.10 md/arch#x86_64 lang/python#3.11 cfg/retry-mode#legacy",
    "aws-sdk-go-v2/1.26.0 os/linux lang/go#1.22.1 md/GOOS#linux md/GOARCH#amd64 api/kms#1.30.0",
)


def record(rng: random.Random, key_id: str | None = None) -> dict[str, Any]:
    """Return one record of a role's session, of the size and fields that CloudTrail writes."""
    service, name = rng.choice(_CALLS)
    role, session = f"role-{rng.randrange(40)}", f"i-{rng.getrandbits(68):017x}"
    principal = f"AROA{rng.getrandbits(80):020X}"
    issuer = {"type": "Role", "principalId": principal, "arn": f"arn:aws:iam::{ACCOUNT}:role/{role}",
              "accountId": ACCOUNT, "userName": role}  # fmt: skip
    identity = {
        "type": "AssumedRole", "principalId": f"{principal}:{session}",
        "arn": f"arn:aws:sts::{ACCOUNT}:assumed-role/{role}/{session}", "accountId": ACCOUNT,
        "accessKeyId": key_id or make_key_id(rng, ACCOUNT, "ASIA"),
        "sessionContext": {"sessionIssuer": issuer, "attributes": {"creationDate": "2026-11-20T09:12:44Z"}},
    }  # fmt: skip
    reads = not name.startswith(("Create", "Run"))
    return {
        "eventVersion": "1.11", "userIdentity": identity, "eventTime": f"2026-11-20T10:{rng.randrange(60):02}:00Z",
        "eventSource": f"{service}.amazonaws.com", "eventName": name, "awsRegion": "eu-west-1",
        "sourceIPAddress": f"10.{rng.randrange(256)}.{rng.randrange(256)}.{rng.randrange(256)}",
        "userAgent": rng.choice(_AGENTS),
        "requestParameters": {
            "encryptionContext": {"aws:lambda:FunctionArn": f"arn:aws:lambda:eu-west-1:{ACCOUNT}:function:orders"},
            "filterSet": {"items": [{"name": "tag:Name", "valueSet": {"items": [{"value": f"web-{rng.random()}"}]}}]},
        },
        "responseElements": None if reads else {"instancesSet": {"items": [{"instanceId": session}]}},
        "requestID": str(uuid.UUID(int=rng.getrandbits(128))), "eventID": str(uuid.UUID(int=rng.getrandbits(128))),
        "readOnly": reads, "eventType": "AwsApiCall", "managementEvent": True, "recipientAccountId": ACCOUNT,
        "eventCategory": "Management",
        "tlsDetails": {"tlsVersion": "TLSv1.3", "cipherSuite": "TLS_AES_128_GCM_SHA256",
                       "clientProvidedHostHeader": f"{service}.eu-west-1.amazonaws.com"},
    }  # fmt: skip


def canaries(rng: random.Random, count: int) -> list[Canary]:
    """Return canaries with owners, as minting makes them: id, ARN, principal id and name are all looked for."""
    made = []
    for number in range(count):
        name = f"svc-{rng.getrandbits(32):08x}-{number}"
        arn, principal = f"arn:aws:iam::{ACCOUNT}:user/{name}", f"AIDA{rng.getrandbits(80):020X}"
        owner = Owner(arn=arn, principal_id=principal, user_name=name, account_id=ACCOUNT)
        made.append(Canary(key_id=make_key_id(rng, ACCOUNT), name=name, owner=owner, since=NOW))
    return made


def fill(folder: Path, rng: random.Random, files: int, records: int, used: Sequence[str]) -> int:
    """Write trail files in which each of used is used once; return their bytes, inflated."""
    total = 0
    for number in range(files):
        made = [record(rng) for _ in range(records)]
        if number < len(used):
            made[rng.randrange(records)] = record(rng, used[number])
        data = json.dumps({"Records": made}, separators=(",", ":")).encode()
        (folder / f"{number:04}.json.gz").write_bytes(gzip.compress(data, 6))
        total += len(data)
    return total


class Took(NamedTuple):
    """What a run took: by the clock, and of processors, which a busy machine does not distort."""

    wall: float
    cpu: float


def timed(run: Callable[[], object]) -> Took:
    """Return the fastest of a few runs, child processes included."""
    times = []
    for _ in range(ROUNDS):
        wall, cpu = time.perf_counter(), _cpu()
        run()
        times.append(Took(time.perf_counter() - wall, _cpu() - cpu))
    return Took(min(each.wall for each in times), min(each.cpu for each in times))


def _cpu() -> float:
    of = [resource.getrusage(each) for each in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in of)


def poll(folder: Path, keys: Sequence[Canary], expected: int) -> Took:
    """Poll a folder as the watch does, from nothing: files, search, records, database."""
    times = []
    for _ in range(ROUNDS):
        with Store(folder.parent / f"{uuid.uuid4()}.db") as store:
            for key in keys:
                store.watch(key)
            feed = FolderFeed(urlsplit(folder.as_uri()), _world(store))
            wall, cpu = time.perf_counter(), _cpu()
            told = watch.poll(feed, store, NOW)
            times.append(Took(time.perf_counter() - wall, _cpu() - cpu))
        if (told.sightings, told.records) != (3, expected):
            sys.exit(f"wrong: {told.sightings} sightings in {told.records} records")
    return Took(min(each.wall for each in times), min(each.cpu for each in times))


def _world(store: Store) -> World:
    return World(clients=lambda *_: None, watched=store.watched, clock=lambda: NOW, sleep=time.sleep)


class _Sqs:
    """A queue behind its own wire protocol (AWS JSON 1.0), each call as far away as AWS is: it only stores.

    moto takes 10 ms of processor time a message, which would be all that is measured.
    """

    def __init__(self, bodies: Sequence[str], every: float) -> None:
        """Make one message of bodies available every so many seconds, or all at once (0)."""
        self._bodies, self._every = bodies, every
        self._taken, self.deleted, self._lock = 0, 0, threading.Lock()
        self.began = time.time()
        queue = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                time.sleep(AWAY)
                body = json.dumps(queue.answer(self.headers["X-Amz-Target"].partition(".")[2], asked)).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/x-amz-json-1.0")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Say nothing: calls are no news."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def answer(self, operation: str, asked: dict[str, Any]) -> dict[str, Any]:
        """Answer the three calls of a feed."""
        if operation == "GetQueueUrl":
            return {"QueueUrl": f"{self.url}/{ACCOUNT}/bench"}
        with self._lock:
            if operation == "DeleteMessageBatch":
                self.deleted += len(asked["Entries"])
                return {"Successful": [{"Id": each["Id"]} for each in asked["Entries"]], "Failed": []}
            there = len(self._bodies)
            if self._every:
                there = min(there, int((time.time() - self.began) / self._every))
            some = range(self._taken, min(self._taken + asked["MaxNumberOfMessages"], there))
            self._taken = max(self._taken, some.stop)
        return {"Messages": [self._message(number) for number in some]} if some else {}

    def _message(self, number: int) -> dict[str, str]:
        body = self._bodies[number]
        digest = hashlib.md5(body.encode(), usedforsecurity=False).hexdigest()
        return {"MessageId": str(number), "ReceiptHandle": str(number), "Body": body, "MD5OfBody": digest}


def _serve(bodies: Path, every: float, out: Connection) -> None:
    """Run a queue in a process of its own; tell where it is and when it began."""
    queue = _Sqs(bodies.read_text().splitlines(), every)
    out.send((queue.url, queue.began))
    queue.server.serve_forever()


def _message(rng: random.Random, key_id: str | None) -> str:
    return json.dumps({"detail-type": "AWS API Call via CloudTrail", "detail": record(rng, key_id)})


def queue(keys: Sequence[Canary], rng: random.Random) -> None:
    """Print records a second on a queue of one record a message, over HTTP; and how long an alarm takes at 1,000/s.

    Each call waits 10 ms on its way, as in a region of AWS.
    """
    trips = [key.key_id for key in rng.sample(list(keys), TRIPS)]
    rows = [_message(rng, trips.pop() if n % (QUEUED // TRIPS) == 0 and trips else None) for n in range(QUEUED)]
    for every, what in ((0.0, "all at once"), (0.001, "1,000 a second")):
        with tempfile.TemporaryDirectory() as folder, Store(Path(folder, "queue.db")) as store:
            bodies = Path(folder, "bodies")
            bodies.write_text("\n".join(rows))
            for key in keys:
                store.watch(key)
            here, there = Pipe()
            server = Process(target=_serve, args=(bodies, every, there), daemon=True)
            server.start()
            url, began = here.recv()
            feed = QueueFeed(urlsplit(f"sqs://us-east-1/{ACCOUNT}/bench"), _calling(url, store), wait=1)
            start, records = time.perf_counter(), 0
            while records < QUEUED:
                records += watch.poll(feed, store, datetime.now(UTC), clock=lambda: datetime.now(UTC)).records
            took = time.perf_counter() - start
            late = []
            for _, alert in store.alerts(TRIPS):
                number = next(n for n, row in enumerate(rows) if str(alert.key_id) in row)
                late.append(alert.at.timestamp() - began - number * every)
            server.terminate()
            slowest = sorted(late)[int(len(late) * 0.99)]
            print(
                f"queue over HTTP, {what}, {len(keys)} canaries: {QUEUED / took:,.0f} records/s, {len(late)} alarms, "
                f"p99 {slowest:.2f} s after the message was there"
            )


def _calling(url: str, store: Store) -> World:
    session = boto3.Session(aws_access_key_id="AKIAEXAMPLEEXAMPLE22", aws_secret_access_key="x")  # noqa: S106
    clients = {"sqs": session.client("sqs", region_name="us-east-1", endpoint_url=url)}
    return World(
        clients=lambda service, *_: clients[service], watched=store.watched, clock=lambda: datetime.now(UTC),
        sleep=time.sleep,
    )  # fmt: skip


def main(files: int = FILES, records: int = RECORDS) -> None:
    """Print throughput with 1,000 and 5,000 watched keys, as ratios to zcat and to json.loads in the same run."""
    rng = random.Random(7)  # noqa: S311
    keys = canaries(rng, 5000)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, "trail")
        folder.mkdir()
        size = fill(folder, rng, files, records, [key.key_id for key in keys[:3]])
        packed = sorted(map(str, folder.iterdir()))
        zcat = timed(lambda: subprocess.run(["zcat", *packed], stdout=subprocess.DEVNULL, check=True))
        some = packed[: files // 4 or 1]
        loads = timed(lambda: [json.loads(gzip.decompress(Path(each).read_bytes())) for each in some])
        loads = Took(loads.wall * files / len(some), loads.cpu * files / len(some))
        print(f"{files} files, {files * records:,} records, {size / 1e6:.0f} MB inflated")
        print(f"zcat > /dev/null      {zcat.wall:6.2f} s  {size / zcat.wall / 1e6:6.0f} MB/s")
        print(f"json.loads of all     {loads.wall:6.2f} s  {size / loads.wall / 1e6:6.0f} MB/s")
        for count in (1000, 5000):
            took = poll(folder, keys[:count], files * records)
            print(
                f"watch, {count} canaries {took.wall:6.2f} s  {size / took.wall / 1e6:6.0f} MB/s  "
                f"{files * records / took.wall:,.0f} records/s  {zcat.wall / took.wall:.2f} x zcat  "
                f"{loads.wall / took.wall:.1f} x json.loads  (of processor time: {zcat.cpu / took.cpu:.2f}, "
                f"{loads.cpu / took.cpu:.1f})"
            )
    queue(keys[:1000], rng)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
