"""DESIGN, rule 6: a secret has one door. Plant some everywhere, run everything, grep every byte written."""

from __future__ import annotations

import base64
import io
import json
import os
import random
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from urllib.parse import quote

from tests.builders import make_key_id, make_secret, make_token
from tests.repositories import Repository
from tests.trails import record, trail, user

from firedamp.service.loopback import Loopback


class House:
    """A home of its own for real processes, and everything that they wrote."""

    def __init__(self, top: Path, aws: Loopback, cache: Path) -> None:
        self.top = top
        self.said = b""
        for name in ("home", "tmp", "cache/firedamp", "state"):
            (top / name).mkdir(parents=True)
        for made in cache.glob("firedamp/*-*"):  # what other tests compiled
            shutil.copy2(made, top / "cache" / "firedamp")
        self.environment = os.environ | {
            "HOME": str(top / "home"), "TMPDIR": str(top / "tmp"), "XDG_CACHE_HOME": str(top / "cache"),
            "XDG_DATA_HOME": str(top / "state"), "XDG_STATE_HOME": str(top / "state"),
            "FIREDAMP_DB": str(top / "state" / "x.db"), "AWS_ENDPOINT_URL": aws.url, "AWS_ACCESS_KEY_ID": aws.admin.id,
            "AWS_SECRET_ACCESS_KEY": aws.admin.secret.reveal(),
        }  # fmt: skip

    def run(self, *commands: tuple[str, ...], given: bytes = b"") -> tuple[list[int], bytes]:
        """Run commands one after the other in a process of their own; what they printed counts as written."""
        program = "import json, sys; from firedamp.service import cli; kept = []\n"
        program += "for each in json.loads(sys.argv[1]): kept.append(cli.main(each))\n"
        program += "print(json.dumps(kept), file=sys.stderr)"
        done = subprocess.run(
            [sys.executable, "-c", program, json.dumps(commands)], env=self.environment, input=given,
            capture_output=True, check=False, cwd=self.top, timeout=200,
        )  # fmt: skip
        assert b"Traceback" not in done.stderr, done.stderr.decode()
        self.said += done.stdout + done.stderr
        return json.loads(done.stderr.splitlines()[-1]), done.stdout

    def written(self) -> bytes:
        """Return everything the program said and left on disk."""
        kept = b"".join(path.read_bytes() for path in self.top.rglob("*") if path.is_file())
        return self.said + kept


def forms(secret: str) -> dict[str, bytes]:
    """Return the ways in which a secret might be written by mistake."""
    raw = secret.encode()
    return {
        "raw": raw, "hex": raw.hex().encode(), "percent": quote(secret, safe="").encode(),
        "base64": base64.b64encode(raw).rstrip(b"="), "json": json.dumps(secret)[1:-1].replace("/", "\\/").encode(),
        "utf-16": secret.encode("utf-16-le"), "half": raw[: max(20, len(raw) // 2)],
    }  # fmt: skip


def test_no_secret_is_written_anywhere_by_any_command(
    aws: Loopback, tmp_path: Path, cache: Path, rng: random.Random
) -> None:
    house, planted = House(tmp_path / "house", aws, cache), list[str]()

    def key() -> tuple[str, str]:
        planted.append(make_secret(rng))
        return make_key_id(rng), planted[-1]

    def ini() -> str:
        return "[a]\naws_access_key_id={}\naws_secret_access_key={}\n".format(*key())

    scanned = tmp_path / "scanned"
    scanned.mkdir()
    (scanned / "plain").write_text(ini())
    (scanned / "base64").write_bytes(base64.b64encode(ini().encode()))
    (scanned / "utf-16").write_text(ini(), encoding="utf-16")
    id_, secret = key()
    (scanned / "url").write_text(f"s3://{id_}:{quote(secret, safe='')}@bucket/x\n")
    planted.append(make_token(rng))
    session = (make_key_id(rng, prefix="ASIA"), key()[1], planted[-1])
    (scanned / "session").write_text(
        "[s]\naws_access_key_id={}\naws_secret_access_key={}\naws_session_token={}\n".format(*session)
    )
    inside = io.BytesIO()
    with zipfile.ZipFile(inside, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("in", ini())
    (scanned / "a.zip").write_bytes(inside.getvalue())
    live = aws.add_user("deploy")
    planted.append(live.secret.reveal())
    repository = Repository(scanned / "repository")
    repository.commit("leak", {"k": f"aws_access_key_id={live.id}\naws_secret_access_key={live.secret.reveal()}\n"})
    repository.commit(f"message: {' '.join(key())}", {"k": "gone"}, GIT_AUTHOR_NAME=f"Ada {key()[1]}")
    repository.git("config", "remote.origin.url", "https://{}:{}@git.invalid/x.git".format(*key()))
    watched, _ = key()
    trails = tmp_path / "trails"
    trails.mkdir()
    token, one, two = make_token(rng), key()[1], key()[1]
    planted.append(token)
    answer = {"credentials": {"accessKeyId": make_key_id(rng, prefix="ASIA"), "sessionToken": token}}
    (trails / "1.json.gz").write_bytes(
        trail(
            record(user(watched), 0, "GetSessionToken", responseElements=answer),
            record(user(watched), 1, "CreateAccessKey", responseElements={"accessKey": {"secretAccessKey": one}}),
            record(user(watched), 2, "UpdateThing", requestParameters={"Password": two, "clientRequestToken": token}),
        )
    )
    channel = key()[1]
    config = tmp_path / "x.toml"
    config.write_text(
        '[[channel]]\nname = "bad"\nurl = "env:CHANNEL"\nsigning_key = "env:SIGNING"\n'
        '[[channel]]\nname = "odd"\nurl = "env:ODD"\n'
    )
    house.environment |= {
        "CHANNEL": f"webhook+http://127.0.0.1:9/{quote(channel, safe='')}", "SIGNING": key()[1],
        "ODD": f"json://user:{quote(key()[1], safe='')}@127.0.0.1:9/",
    }  # fmt: skip
    with_config = ("--config", str(config))
    everywhere = ("scan", str(scanned))
    statuses, _ = house.run(
        *(
            (*everywhere, "--offline", "--format", *more)
            for more in (("table", "--all"), ("jsonl", "--thorough"), ("csv",), ("sarif", "--output", "out"))
        ),
        (*everywhere, "--write-baseline", "baseline"),
    )
    assert statuses == [1] * 5
    assert house.run(("scan", "--offline", "-"), given=ini().encode())[0] == [1]
    repository.write("staged", ini())
    repository.git("add", "staged")
    statuses, _ = house.run(
        ("scan", "https://{}:{}@127.0.0.1:9/x.git".format(*(quote(each, safe="") for each in key()))),
        ("scan", "https://{}:a/{}@127.0.0.1:9/x.git".format(*key())),
        ("findings", "export"), ("verify", "--all"), ("verify", "--log", "--format", "json"), ("key", "show", live.id),
        ("key", "show", live.id, "--with-leaked-key"), ("scan", "--staged", str(repository.path)),
        ("canary", "adopt", watched),
        ("watch", "--once", "--feed", trails.as_uri(), "--format", "jsonl", *with_config),
        ("incidents", "show", "1", *with_config), ("incidents", "list", "--format", "json"),
        ("usage", watched, "--feed", trails.as_uri()), ("alert", "test", *with_config),
        ("alert", "deliver", *with_config), ("doctor", *with_config), ("status", *with_config),
        ("config", "check", *with_config), ("key", "disable", live.id, "--yes"),
    )  # fmt: skip
    assert statuses[:2] == [2, 2]
    assert statuses[7:10] == [1, 0, 1]

    everything = house.written()
    told = {
        (number, name)
        for number, secret in enumerate(planted)
        for name, form in forms(secret).items()
        if form in everything
    }
    assert told == set()
    # The one door: it opens when asked, and nothing of it stays.
    _, printed = house.run((*everywhere, "--offline", "--format", "jsonl", "--show-secrets"))
    assert live.secret.reveal().encode() in printed
    house.said = b""
    assert not [number for number, secret in enumerate(planted) if secret.encode() in house.written()]
    assert not list((house.top / "tmp").iterdir())
