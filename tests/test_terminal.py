"""What strangers choose (names of files, members, authors, records) never reaches a terminal or a sheet raw."""

from __future__ import annotations

import csv
import io
import json
import os
import random
import tarfile
import unicodedata
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.builders import make_key_id, make_secret
from tests.repositories import Repository
from tests.trails import ARN, record, trail, user

from firedamp.service import cli

KEY = "AKIAEXAMPLEEXAMPLE44"
WATCHED = "AKIAEXAMPLEEXAMPLE55"
NAMES = (
    b"colour\x1b[31m", b"new\nline", b"cut\xff\xfe", "bidi\u202e".encode(), b"link\x1b]8;;http://x\x07", b"=1+cmd|x",
    b"@sum\r", b"below\xff\x1b/file", "line\u2028".encode(), b"[red]markup[/red]", b"c1\xc2\x9b31m", b"tab\t=1+1",
)  # fmt: skip
MEMBERS = ("in\x1b[31m\nside", "\u202etxt", "=1+1", "\x1b]52;c;QQ==\x07")


def pair(rng: random.Random) -> tuple[str, bytes]:
    key_id = make_key_id(rng)
    return key_id, f"[a]\naws_access_key_id={key_id}\naws_secret_access_key={make_secret(rng)}\n".encode()


def zipped(name: str, data: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        file.writestr(name, data)
    return out.getvalue()


def tarred(name: str, data: bytes) -> bytes:
    out, info = io.BytesIO(), tarfile.TarInfo(name)
    info.size = len(data)
    with tarfile.open(fileobj=out, mode="w") as file:
        file.addfile(info, io.BytesIO(data))
    return out.getvalue()


@pytest.fixture
def planted(tmp_path: Path, rng: random.Random) -> tuple[Path, set[str]]:
    """Make a folder in which every name was chosen by somebody who means harm; return the keys in it, too."""
    top, keys = tmp_path / "top", set[str]()

    def put(name: bytes, wrap: Callable[[bytes], bytes] = bytes) -> None:
        key_id, text = pair(rng)
        keys.add(key_id)
        path = top / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(wrap(text))

    for name in NAMES:
        put(name)
    for number, member in enumerate(MEMBERS):
        put(b"%d.zip" % number, lambda data, member=member: zipped(member, data))  # type: ignore[misc]
        put(b"%d.tar" % number, lambda data, member=member: tarred(member, data))  # type: ignore[misc]
    put(b"cut.tar", lambda data: tarred("cut\udcff", data))
    repository = Repository(top / "re\x1b[32m\udcffpository")
    key_id, text = pair(rng)
    (repository.path / "fi\x1b[31m\nle\udcff").write_bytes(text)
    said = make_key_id(rng)
    names = {
        "GIT_AUTHOR_NAME": "ev\x1b[31mil\u202e",
        "GIT_AUTHOR_EMAIL": "a@\x07b",
        "GIT_COMMITTER_NAME": "\x1b]52;c;Q",
    }
    repository.commit(f"\x1b[31m {said} {make_secret(rng)}", **names)
    return top, keys | {key_id, said}


def raw(text: str) -> list[str]:
    """Return what a terminal would obey, or a reader would not see."""
    return [c for c in text if c not in "\n\r" and unicodedata.category(c) in {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}]


@pytest.mark.parametrize("form", ["table", "json", "jsonl", "csv", "sarif"])
def test_names_of_files_members_and_authors_are_escaped_and_every_key_is_found(
    planted: tuple[Path, set[str]], form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    top, keys = planted
    assert cli.main(["scan", str(top), "--offline", "--format", form]) == 1
    out, told = capsys.readouterr()
    assert not raw(out + told)
    assert {key for key in keys if key not in out} == set()
    match form:
        case "csv":
            cells = [cell for row in csv.reader(io.StringIO(out, newline="")) for cell in row]
            assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]
        case "jsonl":
            assert all(json.loads(line) for line in out.splitlines())
        case "json" | "sarif":
            assert json.loads(out)
    # Whatever the database gives back is as harmless.
    assert cli.main(["findings", "list", "--format", form]) == 0
    assert not raw("".join(capsys.readouterr()))


def test_a_second_scan_knows_names_that_are_no_text(
    planted: tuple[Path, set[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    top, keys = planted
    for options in ([], ["--show-secrets"]):
        assert cli.main(["scan", str(top), "--offline", "--format", "jsonl", *options]) == 1
        *lines, _ = map(json.loads, capsys.readouterr().out.splitlines())
        assert {line["access_key_id"] for line in lines} == keys
    assert all(line["secret"] for line in lines)  # read again from where it stands, whatever the name


def test_fields_of_records_are_escaped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evil = "\x1b]52;c;QQ==\x07\n\u202e"
    fields = dict.fromkeys(
        ("userAgent", "sourceIPAddress", "awsRegion", "eventName", "errorCode", "errorMessage"), evil
    )
    (tmp_path / "1.json.gz").write_bytes(trail(record(user(KEY), 0, **fields), record(user(KEY), 1)))
    assert cli.main(["canary", "adopt", KEY]) == 0
    for arguments in (
        ["watch", "--once", "--feed", tmp_path.as_uri()], ["incidents", "show", "1"], ["incidents", "list"],
        ["usage", KEY, "--feed", tmp_path.as_uri()], ["incidents", "list", "--format", "jsonl"], ["status"], ["doctor"],
        ["canary", "list"],
    ):  # fmt: skip
        cli.main(arguments)
        assert not raw("".join(capsys.readouterr())), arguments


@pytest.mark.parametrize("field", ["userAgent", "sourceIPAddress", "awsRegion", "eventName", "eventID", "errorCode"])
def test_half_a_character_in_a_record_does_not_blind_the_watch(
    tmp_path: Path, field: str, capsys: pytest.CaptureFixture[str]
) -> None:
    # CloudTrail cuts long fields: a pair of surrogates may lose its second half, and an intruder may see to it.
    assert cli.main(["canary", "adopt", WATCHED, "--arn", ARN]) == 0
    capsys.readouterr()
    odd = record(user(WATCHED), 0, requestParameters={"cut\ud83d": "\ud83d"}, **{field: "cut\ud83d"})
    (tmp_path / "1.json.gz").write_bytes(trail(odd, record(user(WATCHED), 1)))
    assert cli.main(["watch", "--once", "--feed", tmp_path.as_uri(), "--format", "jsonl"]) == 1
    (line,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert line["sightings"]["use"] == 2


def test_what_a_user_typed_is_escaped_in_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evil = "x\x1b]52;c;QQ==\x07"
    (tmp_path / "odd.toml").write_text('[scan]\n"a\\u001b[31m" = 1\n')
    for arguments in (
        ["scan", str(tmp_path / evil), "--offline"], ["scan", str(tmp_path), "--baseline", evil],
        ["findings", "show", evil],
        ["canary", "adopt", evil + " "], ["watch", "--once", "--feed", f"file:///{evil}"],
        ["key", "show", evil, "--offline"],
        ["scan", str(tmp_path), "--config", str(tmp_path / "odd.toml")],
        ["scan", str(tmp_path), "--db", "/dev/null/" + evil],
        ["scan", "https://" + evil + ".example/x.git", "--offline"], ["canary", "retire", evil], ["verify", evil],
    ):  # fmt: skip
        cli.main(arguments)
        assert not raw("".join(capsys.readouterr())), arguments
