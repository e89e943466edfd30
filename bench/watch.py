"""Measure the watch on real-shaped trail files: against zcat to /dev/null, and against parsing every record."""

from __future__ import annotations

import gzip
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from tests.builders import make_key_id

from firedamp.canaries import watch
from firedamp.canaries.feeds import FolderFeed, Page, World
from firedamp.canaries.trailfiles import Document
from firedamp.storage.records import Canary, Owner, Watermark
from firedamp.storage.store import Store

ACCOUNT: Final = "123456789012"
FILES, RECORDS = 24, 5000
QUEUED: Final = 5000
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


class _Queue:
    """Records one after the other, ten a page, as a queue of EventBridge brings them."""

    name = "sqs://bench"

    def __init__(self, records: Sequence[bytes]) -> None:
        self._records = records
        self.taken: dict[int, float] = {}

    def pages(self, since: Watermark | None) -> Any:  # noqa: ARG002 - nothing was read before
        """Yield pages of ten."""
        for at in range(0, len(self._records), 10):
            self.taken[at] = time.perf_counter()
            yield Page(documents=[Document(str(at), data) for data in self._records[at : at + 10]], receipt=(str(at),))

    def acknowledge(self, page: Page) -> None:
        """Note how long the page took from message to committed alert."""
        at = int(page.receipt[0])
        self.taken[at] = time.perf_counter() - self.taken[at]


def queue(keys: Sequence[Canary], rng: random.Random) -> None:
    """Print records a second on a queue, and how long a message takes until its alert is committed."""
    rows = [json.dumps(record(rng, rng.choice(keys).key_id if n % 100 == 0 else None)).encode() for n in range(QUEUED)]
    feed = _Queue(rows)
    with tempfile.TemporaryDirectory() as folder, Store(Path(folder, "queue.db")) as store:
        for key in keys:
            store.watch(key)
        began = time.perf_counter()
        watch.poll(feed, store, NOW)
        took = time.perf_counter() - began
    slowest = sorted(feed.taken.values())[int(len(feed.taken) * 0.99)]
    print(f"queue, {len(keys)} canaries: {QUEUED / took:,.0f} records/s, message to alert p99 {slowest * 1000:.0f} ms")


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
