"""A second, independent emulator agrees on who is let in: MiniStack with AUTH=true, in its own process.

It pins an older botocore, so it lives in an environment of its own (dependency group `second-opinion`, made by `make
test-all`): MINISTACK names the command, by default one on the PATH or beside the project's environment.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from tests.builders import make_key_id, make_secret
from tests.scenes import DENY_ALL, allow, code

from firedamp.service.loopback import ACCOUNT, Loopback

BESIDE = Path(sys.prefix).parent / ".venv-second" / "bin" / "ministack"
COMMAND = os.environ.get("MINISTACK") or shutil.which("ministack") or (str(BESIDE) if BESIDE.exists() else None)

Key = tuple[str, str] | tuple[str, str, str]
Client = Callable[..., Any]
"""(service, key or None for the administrator) -> a boto3 client."""


@pytest.fixture(scope="module")
def ministack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """Start MiniStack on a free port of loopback."""
    if COMMAND is None:
        pytest.skip("MiniStack is not installed: make test-all installs it")
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    folder = tmp_path_factory.mktemp("ministack")
    settings = {
        "AUTH": "true",
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port),
        "HOME": str(folder),
        "PATH": os.environ["PATH"],
        "TMPDIR": str(folder),
    }
    with subprocess.Popen(
        [COMMAND], env=settings, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT
    ) as it:
        try:
            url = f"http://127.0.0.1:{port}"
            wait_for(f"{url}/_ministack/health")
            yield lambda service, key=None: client(url, service, key or (ACCOUNT, "root"))
        finally:
            it.terminate()


def wait_for(url: str) -> None:
    for _ in range(200):
        try:
            urllib.request.urlopen(url).close()
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.1)
        else:
            return
    raise TimeoutError(url)


def client(url: str, service: str, key: Key) -> Any:
    return boto3.client(
        service,
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id=key[0],
        aws_secret_access_key=key[1],
        aws_session_token=key[2] if len(key) > 2 else None,
        config=Config(retries={"total_max_attempts": 1}),
    )


def new_user(admin: Client, name: str, policy: str | None) -> Key:
    iam = admin("iam")
    iam.create_user(UserName=name)
    if policy:
        iam.put_user_policy(UserName=name, PolicyName="p", PolicyDocument=policy)
    made = iam.create_access_key(UserName=name)["AccessKey"]
    return made["AccessKeyId"], made["SecretAccessKey"]


def temporary(credentials: dict[str, str]) -> Key:
    return credentials["AccessKeyId"], credentials["SecretAccessKey"], credentials["SessionToken"]


def identity_rows(admin: Client, rng: random.Random) -> dict[str, str]:
    """Try every way in, and say what became of each."""
    rows: dict[str, str] = {}
    able, denied = new_user(admin, "able", allow("*")), new_user(admin, "denied", DENY_ALL)
    unknown: Key = (make_key_id(rng), make_secret(rng))
    wrong: Key = (able[0], make_secret(rng))

    def who(key: Key) -> str:
        return code(admin("sts", key).get_caller_identity)

    rows["able"], rows["denied"], rows["unknown"], rows["wrong secret"] = map(who, (able, denied, unknown, wrong))
    rows["able, arn"] = admin("sts", able).get_caller_identity()["Arn"]
    calls = (("s3", "list_buckets"), ("iam", "list_users"), ("sqs", "list_queues"), ("dynamodb", "list_tables"))
    for service, call in calls:
        for name, key in (("able", able), ("denied", denied), ("unknown", unknown), ("wrong secret", wrong)):
            rows[f"{service}, {name}"] = code(getattr(admin(service, key), call))

    sts = admin("sts", able)
    minted = temporary(sts.get_session_token()["Credentials"])
    rows["session"], rows["session without token"] = who(minted), who(minted[:2])
    rows["session with a wrong token"] = who((*minted[:2], "IQoJb3JpZ2luX2VjEXAMPLE"))
    federated = temporary(sts.get_federation_token(Name="bob", Policy=allow("s3:*"))["Credentials"])
    rows["federated"] = admin("sts", federated).get_caller_identity()["Arn"]
    rows["federated, s3"] = code(admin("s3", federated).list_buckets)
    rows["federated, sqs"] = code(admin("sqs", federated).list_queues)
    rows["denied federates"] = code(admin("sts", denied).get_federation_token, Name="eve")

    trust = {
        "Effect": "Allow",
        "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:root"},
        "Action": "sts:AssumeRole",
        "Condition": {"StringEquals": {"sts:ExternalId": "e1"}},
    }
    document = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
    admin("iam").create_role(RoleName="ext", AssumeRolePolicyDocument=document)
    role = {"RoleArn": f"arn:aws:iam::{ACCOUNT}:role/ext", "RoleSessionName": "ss"}
    rows["role"] = code(sts.assume_role, **role, ExternalId="e1")
    rows["role, wrong id"] = code(sts.assume_role, **role, ExternalId="e2")
    rows["role, no id"] = code(sts.assume_role, **role)
    rows["role, denied"] = code(admin("sts", denied).assume_role, **role, ExternalId="e1")
    rows["no role"] = code(sts.assume_role, **role | {"RoleArn": role["RoleArn"] + "x"})

    for status in ("Inactive", "Active"):
        admin("iam").update_access_key(UserName="able", AccessKeyId=able[0], Status=status)
        rows[f"key {status}"] = who(able)
        rows[f"key {status}, s3"] = code(admin("s3", able).list_buckets)
    admin("iam").delete_access_key(UserName="able", AccessKeyId=able[0])
    rows["key deleted"] = who(able)
    return rows


@pytest.mark.slow
def test_two_emulators_agree_on_who_is_let_in(aws: Loopback, ministack: Client, rng: random.Random) -> None:
    root = aws.admin.id, aws.admin.secret.reveal()
    ours = identity_rows(lambda service, key=None: client(aws.url, service, key or root), rng)
    theirs = identity_rows(ministack, rng)
    differences = {name: (ours[name], theirs[name]) for name in ours if ours[name] != theirs[name]}
    assert len(ours) > 35
    assert differences == {}
