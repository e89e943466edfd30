"""The scan as a user runs it: what stands is told, decisions are kept, and nothing is lost when it is killed."""

from __future__ import annotations

import base64
import csv
import gzip
import io
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

import pytest
from tests.builders import make_key_id, make_secret
from tests.repositories import Repository, leak

from firedamp.scanner import files as walked
from firedamp.scanner.walk import Step, Task, World
from firedamp.service import cli
from firedamp.service.options import default_db, usual_db
from firedamp.storage.records import Sight
from firedamp.storage.rows import Row, Rows, Value
from firedamp.storage.secret import Fingerprint
from firedamp.storage.store import Store

Line = dict[str, object]


def pair(rng: random.Random) -> tuple[str, str]:
    return make_key_id(rng), make_secret(rng)


def ini(key_id: str, secret: str, mark: str = "") -> str:
    return f"[default]\naws_access_key_id = {key_id}{mark}\naws_secret_access_key = {secret}\n"


def scan(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, list[Line], Line]:
    capsys.readouterr()
    status = cli.main(["scan", "--offline", "--format", "jsonl", *map(str, arguments)])
    *found, last = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    return status, found, last["summary"]


def ids(found: list[Line]) -> set[object]:
    return {each["access_key_id"] for each in found}


def test_a_key_in_an_archive_is_told_with_the_way_to_it(
    tmp_path: Path, rng: random.Random, capsys: pytest.CaptureFixture[str]
) -> None:
    key_id, secret = pair(rng)
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("conf/aws.ini", "# comment\n" + ini(key_id, secret))
    with zipfile.ZipFile(tmp_path / "outer.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inner.zip", inner.getvalue())
    status, (found,), _ = scan(capsys, tmp_path)
    assert status == 1
    match = found["matches"][0]  # type: ignore[index]
    assert (match["path"], match["container"], match["line"]) == (
        str(tmp_path / "outer.zip"), "inner.zip!conf/aws.ini", 3,
    )  # fmt: skip
    cli.main(["scan", str(tmp_path), "--offline"])
    assert f"{tmp_path}/outer.zip!inner.zip!conf/aws.ini:3" in capsys.readouterr().out


def smtp(key_id: str, secret: str) -> str:
    return f"SMTP_USERNAME={key_id}\nSMTP_PASSWORD=BM{secret}xx\n"


@pytest.mark.parametrize("write", [ini, smtp])
def test_a_pair_across_the_border_of_two_windows_is_told_once(
    write: Callable[[str, str], str], tmp_path: Path, rng: random.Random, capsys: pytest.CaptureFixture[str]
) -> None:
    filler = b"".join(b"line %07d of a log\n" % n for n in range(9 << 16))
    keys = [pair(rng) for _ in range(3)]
    data = bytearray(filler)
    # Ids just before the end of the first window and around the beginning of the second, their secrets behind it.
    for (key_id, secret), at in zip(keys, [(8 << 20) - 30, (8 << 20) - (128 << 10) - 40, 1 << 20], strict=True):
        start = data.index(b"\n", at) + 1
        text = write(key_id, secret).encode()
        data[start : start + len(text)] = text
    (tmp_path / "app.log").write_bytes(data)
    _, found, _ = scan(capsys, tmp_path)
    assert {(each["access_key_id"], each["has_secret"]) for each in found} == {(key_id, True) for key_id, _ in keys}
    assert [len(each["matches"]) for each in found] == [1, 1, 1]  # type: ignore[arg-type]


def test_what_could_not_be_opened_fails_every_time_until_it_is_accepted(
    tmp_path: Path, rng: random.Random, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = gzip.compress(ini(*pair(rng)).encode() * 50)
    (tmp_path / "broken.gz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "fine").write_text("fine")
    time.sleep(0.15)
    for _ in range(2):
        status, _, summary = scan(capsys, tmp_path)
        assert status == 2
        (item,) = summary["failed"]["items"]  # type: ignore[index]
        assert item["what"].startswith(str(tmp_path / "broken.gz"))
    status, found, summary = scan(capsys, tmp_path, "--accept-incomplete", f"{tmp_path}/*")
    assert summary["complete"] is True
    assert status == int(bool(found))


def test_decisions_are_kept_and_a_new_place_of_an_accepted_key_is_shown(
    tmp_path: Path, rng: random.Random, capsys: pytest.CaptureFixture[str]
) -> None:
    kept, wrong = pair(rng), pair(rng)
    (tmp_path / "a").write_text(ini(*kept))
    (tmp_path / "b").write_text(ini(*wrong))
    assert scan(capsys, tmp_path)[0] == 1
    assert cli.main(["findings", "set", kept[0], "--state", "accepted", "--reason", "test account"]) == 0
    assert cli.main(["findings", "set", wrong[0], "--state", "false-positive"]) == 0
    status, found, summary = scan(capsys, tmp_path)
    assert (status, found) == (0, [])
    assert summary["findings"] == 2, "decided findings still count"
    (tmp_path / "c").write_text("# copied\n" + ini(*kept))
    (tmp_path / "d").write_text("# copied\n" + ini(*wrong))
    status, found, _ = scan(capsys, tmp_path)
    assert ids(found) == {kept[0]}
    assert status == 0, "it is shown, and still accepted"
    assert ids(scan(capsys, tmp_path, "--state", "false-positive")[1]) == {wrong[0]}
    (tmp_path / "e").write_text(ini(*pair(rng)))
    assert scan(capsys, tmp_path, "--state", "accepted")[0] == 1, "an open one stands there, though it is not shown"
    cli.main(["findings", "list", "--state", "accepted", "--format", "json"])
    (told,) = json.loads(capsys.readouterr().out)["findings"]
    assert (told["access_key_id"], told["state"]) == (kept[0], "accepted")


def test_an_id_alone_is_listed_with_its_pair_unless_it_was_judged_otherwise(
    tmp_path: Path, rng: random.Random, capsys: pytest.CaptureFixture[str]
) -> None:
    key_id, secret = pair(rng)
    other = make_secret(rng)
    (tmp_path / "a").write_text(ini(key_id, secret))
    (tmp_path / "b").write_text(f"{key_id}\n")
    (tmp_path / "c").write_text(f"aws_secret_access_key = {other}\n")
    (_, lone) = sorted(scan(capsys, tmp_path)[1], key=lambda each: each["access_key_id"] is None)
    assert lone["access_key_id"] is None

    def listed(*arguments: str) -> list[tuple[str | None, bool, int]]:
        assert cli.main(["findings", *arguments, "--format", "jsonl"]) == 0
        told = map(json.loads, capsys.readouterr().out.splitlines())
        return sorted((each["access_key_id"] or "", each["has_secret"], len(each["matches"])) for each in told)

    for action in ("list", "export"):
        assert listed(action) == [("", True, 1), (key_id, True, 2)]
    assert listed("show", key_id) == [(key_id, False, 1), (key_id, True, 1)], "each can be judged"
    with Store(Path(os.environ["FIREDAMP_DB"])) as store:
        (alone,) = [each.fingerprint for each in store.findings() if not each.has_secret]
    assert cli.main(["findings", "set", alone, "--state", "accepted"]) == 0
    assert listed("list") == [("", True, 1), (key_id, False, 1), (key_id, True, 1)]


def test_a_finding_whose_places_are_gone_is_listed_without_one(
    tmp_path: Path, rng: random.Random, capsys: pytest.CaptureFixture[str]
) -> None:
    key_id, secret = pair(rng)
    (tmp_path / "a").write_text(ini(key_id, secret))
    scan(capsys, tmp_path)
    (tmp_path / "a").write_text("clean")
    assert scan(capsys, tmp_path)[:2] == (0, [])
    told = dict[str, str]()
    for form in ("table", "jsonl", "csv", "sarif"):
        assert cli.main(["findings", "list", "--format", form]) == 0
        told[form] = capsys.readouterr().out
    assert "no longer where it was found" in told["table"]
    assert json.loads(told["jsonl"])["matches"] == []
    (row,) = csv.DictReader(io.StringIO(told["csv"]))
    assert (row["access_key_id"], row["path"], row["line"]) == (key_id, "", "")
    assert json.loads(told["sarif"])["runs"][0]["results"] == []
    assert cli.main(["findings", "list", "--by", "author"]) == 0
    assert "nobody" in capsys.readouterr().out


def test_keys_in_a_place_that_is_left_out_again_are_reported_while_they_stand_there(
    tmp_path: Path, rng: random.Random, capsys: pytest.CaptureFixture[str]
) -> None:
    kept, cleaned, moved = pair(rng), pair(rng), pair(rng)
    modules = tmp_path / "tree" / "node_modules"
    (modules / "sub").mkdir(parents=True)
    (tmp_path / "tree" / "readme").write_text("nothing")
    for name, each in (("kept.js", kept), ("cleaned.js", cleaned), ("sub/moved.js", moved)):
        (modules / name).write_text(ini(*each))
    time.sleep(0.2)
    assert ids(scan(capsys, tmp_path / "tree", "--all")[1]) == {kept[0], cleaned[0], moved[0]}
    (modules / "cleaned.js").write_text("clean")
    (modules / "sub").rename(tmp_path / "elsewhere")
    (modules / "sub").symlink_to(tmp_path / "elsewhere")
    time.sleep(0.2)
    for files in (1, 0, 0):
        status, found, summary = scan(capsys, tmp_path / "tree")
        assert (status, ids(found)) == (1, {kept[0]})
        assert summary["read"]["files"] == files, "an unchanged file is not opened again"  # type: ignore[index]
    (modules / "kept.js").unlink()
    assert scan(capsys, tmp_path / "tree")[:2] == (0, [])


def test_a_folder_that_another_scan_took_for_gone_is_read_again_when_it_is_back(
    tmp_path: Path, rng: random.Random, capsys: pytest.CaptureFixture[str]
) -> None:
    (key_id, secret), root, disk = pair(rng), tmp_path / "root", tmp_path / "root" / "disk"
    disk.mkdir(parents=True)
    (disk / "leak").write_text(ini(key_id, secret))
    (root / "clean").write_text("nothing")
    time.sleep(0.15)
    assert ids(scan(capsys, disk)[1]) == {key_id}
    disk.rename(tmp_path / "unplugged")
    assert scan(capsys, root)[0] == 0
    (tmp_path / "unplugged").rename(disk)
    assert scan(capsys, disk)[0] == 1, "nothing of the file has changed, but its place was taken for gone"
    assert scan(capsys, disk)[2]["read"] == {"objects": 0, "files": 0, "bytes": 0, "known": 1, "ruled_out": 0}


def test_of_two_folders_that_were_swapped_and_swapped_back_each_holds_what_is_its_own(
    tmp_path: Path, rng: random.Random, capsys: pytest.CaptureFixture[str]
) -> None:
    (key_id, secret), one, two = pair(rng), tmp_path / "in" / "one", tmp_path / "in" / "two"

    def swap() -> None:
        one.rename(tmp_path / "between")
        two.rename(one)
        (tmp_path / "between").rename(two)

    for folder, text in ((one, ini(key_id, secret)), (two, "nothing")):
        folder.mkdir(parents=True)
        (folder / "file").write_text(text)
    time.sleep(0.15)
    for target, place in ((tmp_path / "in", one), (tmp_path, two), (tmp_path / "in", one)):
        _, (found,), _ = scan(capsys, target)
        assert [each["path"] for each in found["matches"]] == [str(place / "file")]  # type: ignore[attr-defined]
        swap()


def test_empty_files_alone_are_nothing_that_was_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "empty").touch()
    time.sleep(0.2)
    for _ in ("first", "again"):
        for target in (tmp_path / "tree" / "empty", tmp_path / "tree"):
            assert scan(capsys, target)[0] == 2
    (tmp_path / "tree" / "full").write_text("x")
    time.sleep(0.2)
    for _ in ("first", "again"):
        assert scan(capsys, tmp_path / "tree")[0] == 0
    for lose in (Path.unlink, lambda path: path.write_text("")):
        (tmp_path / "tree" / "full").write_text("x")
        scan(capsys, tmp_path / "tree")
        time.sleep(0.2)
        scan(capsys, tmp_path / "tree")
        lose(tmp_path / "tree" / "full")
        time.sleep(0.2)
        for _ in ("first", "again"):
            assert scan(capsys, tmp_path / "tree")[0] == 2, "what was known is no more"


def test_only_new_findings_on_request(tmp_path: Path, rng: random.Random, capsys: pytest.CaptureFixture[str]) -> None:
    old, new = pair(rng), pair(rng)
    (tmp_path / "a").write_text(ini(*old))
    scan(capsys, tmp_path)
    (tmp_path / "b").write_text(ini(*new))
    assert ids(scan(capsys, tmp_path)[1]) == {old[0], new[0]}
    (tmp_path / "c").write_text(ini(*(third := pair(rng))))
    assert ids(scan(capsys, tmp_path, "--new")[1]) == {third[0]}


def test_what_a_killed_scan_recorded_and_never_told_is_new(
    tmp_path: Path, rng: random.Random, capsys: pytest.CaptureFixture[str]
) -> None:
    first, kept = pair(rng), pair(rng)
    (tmp_path / "first").write_text(ini(*first))
    (tmp_path / "kept").write_text(ini(*kept))

    def killed() -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Store, "add_scan_run", _killed)
            with pytest.raises(SystemExit):
                cli.main(["scan", "--offline", str(tmp_path)])

    killed()
    status, found, _ = scan(capsys, tmp_path, "--new")
    assert (status, ids(found)) == (1, {first[0], kept[0]})
    assert scan(capsys, tmp_path, "--new")[:2] == (0, [])
    cli.main(["findings", "set", kept[0], "--state", "accepted", "--reason", "a test account"])
    (tmp_path / "copy").write_text("# copied\n" + ini(*kept))
    killed()
    assert ids(scan(capsys, tmp_path)[1]) == {first[0], kept[0]}, "a new place of what was accepted"
    assert ids(scan(capsys, tmp_path)[1]) == {first[0]}


def _killed(*_: object) -> None:
    raise SystemExit


def test_a_baseline_leaves_out_what_it_lists_wherever_it_moves(
    tmp_path: Path, rng: random.Random, capsys: pytest.CaptureFixture[str]
) -> None:
    root, baseline = tmp_path / "root", tmp_path / "baseline.json"
    root.mkdir()
    old, new = pair(rng), pair(rng)
    (root / "a").write_text(ini(*old))
    assert scan(capsys, root, "--write-baseline", baseline)[0] == 1
    (root / "a").write_text("\n\n\n# moved down\n" + ini(*old))
    assert scan(capsys, root, "--baseline", baseline)[:2] == (0, [])
    (root / "b").write_text(ini(*new))
    status, found, _ = scan(capsys, root, "--baseline", baseline)
    assert (status, ids(found)) == (1, {new[0]})
    assert old[1] not in baseline.read_text()


def test_a_mark_in_the_line_allows_a_key_and_is_counted_and_listed(
    tmp_path: Path, rng: random.Random, capsys: pytest.CaptureFixture[str]
) -> None:
    ours, theirs = pair(rng), pair(rng)
    (tmp_path / "a").write_text(ini(*ours, mark="  # firedamp:allow"))
    (tmp_path / "b").write_text(ini(*theirs, mark="  # gitleaks:allow"))
    status, found, summary = scan(capsys, tmp_path)
    assert (status, ids(found), summary["allowed"]) == (1, {theirs[0]}, 1)
    status, found, summary = scan(capsys, tmp_path, "--honour-allow", "gitleaks:allow")
    assert (status, found, summary["allowed"]) == (0, [], 2), "and nothing had to be read again"
    cli.main(["findings", "--allowed", "--format", "json"])
    told = json.loads(capsys.readouterr().out)["findings"]
    assert {match["allowed"] for each in told for match in each["matches"]} == {"firedamp:allow", "gitleaks:allow"}
    (tmp_path / "c").write_text(ini(*ours))
    status, (_, again), _ = scan(capsys, tmp_path)
    assert status == 1
    assert [match["path"] for match in again["matches"]] == [str(tmp_path / "c")]  # type: ignore[attr-defined]
    assert cli.main(["scan", str(tmp_path), "--offline", "--honour-allow", "nonsense"]) == 2


def test_what_our_mark_allows_is_listed_on_request_and_exported_as_suppressed(
    tmp_path: Path, rng: random.Random, capsys: pytest.CaptureFixture[str]
) -> None:
    ours, theirs = pair(rng), pair(rng)
    (tmp_path / "a").write_text(ini(*ours, mark="  # firedamp:allow"))
    (tmp_path / "b").write_text(ini(*theirs, mark="  # gitleaks:allow"))
    scan(capsys, tmp_path)

    def listed(*arguments: str) -> str:
        assert cli.main(["findings", *arguments]) == 0
        return capsys.readouterr().out

    assert ours[0] not in listed()
    assert "marked gitleaks:allow" in listed()
    assert "marked firedamp:allow" in listed("--allowed")
    assert ours[0] in listed("show", ours[0])
    results = json.loads(listed("export", "--format", "sarif"))["runs"][0]["results"]
    suppressed = {each["properties"]["accessKeyId"]: each.get("suppressions") for each in results}
    assert suppressed == {ours[0]: [{"kind": "inSource"}], theirs[0]: None}
    (tmp_path / "c").write_text(ini(*ours))
    scan(capsys, tmp_path)
    assert str(tmp_path / "c") in listed()
    assert str(tmp_path / "a") not in listed()


@pytest.mark.parametrize(
    ("mark", "options", "allowed"),
    [
        ("gitleaks:allow firedamp:allow", (), True),
        ("firedamp:allow gitleaks:allow", (), True),
        ("trufflehog:ignore, pragma: allowlist secret", ("--honour-allow", "pragma: allowlist secret"), True),
        ("notfiredamp:allowance", (), False),
        ("firedamp:allow-list", (), False),
        ("xggignored", ("--honour-allow", "ggignore"), False),
        ('"firedamp:allow"', (), True),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_every_mark_in_a_line_counts_as_a_word_of_its_own(  # noqa: PLR0917 - what is parametrised, and three fixtures
    mark: str,
    options: tuple[str, ...],
    allowed: bool,
    encoding: str,
    tmp_path: Path,
    rng: random.Random,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "a").write_bytes(ini(*pair(rng), mark=f"  # {mark}").encode(encoding))
    status, _, summary = scan(capsys, tmp_path, *options)
    assert (status, summary["allowed"]) == ((0, 1) if allowed else (1, 0))


def test_a_mark_counts_in_its_own_line_of_utf_16(
    tmp_path: Path, rng: random.Random, capsys: pytest.CaptureFixture[str]
) -> None:
    """Characters such as U+4E0A have a byte that is a line feed's."""
    text = "# \u4ee5\u4e0a\u306f\u4f8b\n# x firedamp:allow\nkey {} {}\n".format(*pair(rng))
    (tmp_path / "a").write_bytes(text.encode("utf-16"))
    status, _, summary = scan(capsys, tmp_path)
    assert (status, summary["allowed"]) == (1, 0)


MARK = "  # firedamp:allow"


@pytest.mark.parametrize(
    ("text", "before", "behind", "allowed"),
    [
        ("{marked}", "x: ", "", True),
        ("{marked}", "\0x: ", "", True),
        ("{marked}", "x: ", "  # ggignore", True),
        ("{plain}", "x: ", MARK, True),
        ("x: {encoded}", "x: ", "", True),
        ("{plain}" + MARK, "x: ", "", False),
        ("{plain}", "x: ", "\n" + MARK, False),
    ],
)
def test_a_mark_beside_a_key_counts_in_base64_too(  # noqa: PLR0917 - what is parametrised, and three fixtures
    text: str, before: str, behind: str, allowed: bool,
    tmp_path: Path, rng: random.Random, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Before and behind stand in the line of the file; the marked text has its mark in the line of the id."""
    keys = pair(rng)
    marked = ini(*keys, mark=MARK)
    inner = text.format(marked=marked, plain=ini(*keys), encoded=base64.b64encode(marked.encode()).decode())
    (tmp_path / "a").write_text(before + base64.b64encode(inner.encode()).decode() + behind + "\n")
    status, _, summary = scan(capsys, tmp_path)
    assert (status, summary["allowed"]) == ((0, 1) if allowed else (1, 0))


def test_ones_own_keys_are_found_by_value_in_any_encoding_and_container(
    tmp_path: Path, rng: random.Random, capsys: pytest.CaptureFixture[str]
) -> None:
    (key_id, secret), other = pair(rng), make_secret(rng)
    profiles = Path.home() / ".aws"
    profiles.mkdir()
    (profiles / "credentials").write_text(ini(key_id, secret).replace("default", "work"))
    (profiles / "config").write_text("[default]\nregion = eu-west-1\n[profile bare]\naws_access_key_id = x\n")
    code = base64.b64encode(secret.encode()).decode()
    forms = {
        "plain": f"first\nélan {secret}",
        "base64": f"x{code}",
        "hex": secret.encode().hex(),
        "utf16": secret.encode("utf-16-le"),
        "twice": base64.b64encode(code.encode()).decode(),
        "other": other,
    }
    for name, text in forms.items():
        (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with zipfile.ZipFile(tmp_path / "z.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("member", f"only {secret}")
    assert scan(capsys, tmp_path)[0] == 0, "alone, a value tells nothing"
    status, (found,), _ = scan(capsys, tmp_path, "--own-keys")
    assert status == 1
    assert found["access_key_id"] == key_id
    assert found["notes"] == ["the secret of the AWS profile work, found by its value"]
    where = {Path(match["path"]).name: match for match in found["matches"]}  # type: ignore[attr-defined]
    assert set(where) == {*forms, "z.zip"} - {"other"}
    assert (where["plain"]["line"], where["plain"]["column"]) == (2, 6)
    assert where["utf16"]["line"] == 1
    assert where["base64"]["decoder"] == "base64"
    assert where["z.zip"]["container"] == "member"
    for _ in range(2):
        status, (again,), _ = scan(capsys, tmp_path)
        assert (status, again["matches"]) == (1, found["matches"]), "they are there, though this scan sees less"
    database = (Path.home() / "firedamp.db").read_bytes()
    assert secret.encode() not in database


def test_own_keys_need_a_profile_with_a_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["scan", str(tmp_path), "--offline", "--own-keys"]) == 2
    assert "no AWS profile holds a key" in capsys.readouterr().err
    (Path.home() / ".aws").mkdir()
    (Path.home() / ".aws" / "credentials").write_text("no section = x\n")
    assert cli.main(["scan", str(tmp_path), "--offline", "--own-keys"]) == 2


def test_examples_are_counted_and_shown_on_request(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "doc.md").write_text("AKIAIOSFODNN7EXAMPLE and nothing else\n")
    status, found, summary = scan(capsys, tmp_path)
    assert (status, found, summary["examples"]) == (0, [], 1)
    status, (example,), _ = scan(capsys, tmp_path, "--examples")
    assert example["example"] is True


def test_secrets_are_printed_only_on_request_and_written_nowhere(
    tmp_path: Path, rng: random.Random, capsys: pytest.CaptureFixture[str]
) -> None:
    key_id, secret = pair(rng)
    root, output = tmp_path / "root", tmp_path / "out.jsonl"
    root.mkdir()
    (root / "a").write_text(ini(key_id, secret))
    _, (found,), _ = scan(capsys, root, "--show-secrets")
    assert found["secret"] == secret
    for form in ("table", "json", "jsonl", "sarif", "csv"):
        cli.main(["scan", str(root), "--offline", "--format", form, "--output", str(output)])
        assert output.read_text()
        assert secret not in output.read_text()
    written = [path for path in Path.home().rglob("*") if path.is_file()]
    assert written
    assert not [path for path in written if secret.encode() in path.read_bytes()]
    assert secret not in str(capsys.readouterr())


@pytest.mark.parametrize("form", ["table", "json", "jsonl", "sarif", "csv"])
def test_findings_are_exported_in_every_form(
    form: str, tmp_path: Path, rng: random.Random, capsys: pytest.CaptureFixture[str]
) -> None:
    key_id, secret = pair(rng)
    (tmp_path / "a").write_text(ini(key_id, secret))
    scan(capsys, tmp_path)
    assert cli.main(["findings", "export", "--format", form]) == 0
    assert key_id in capsys.readouterr().out
    assert cli.main(["findings", "show", key_id, "--format", form, "--output", str(tmp_path / "o")]) == 0
    assert key_id in (tmp_path / "o").read_text()


def test_findings_says_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["set", "x"], ["set"], ["show"], ["show", "nothing"], ["set", "nothing", "--state", "open"]):
        assert cli.main(["findings", *arguments]) == 2
        assert "firedamp: " in capsys.readouterr().err


def test_an_id_that_is_empty_or_may_be_several_findings_names_none(
    tmp_path: Path, rng: random.Random, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(17):  # two fingerprints at least begin with the same digit
        (tmp_path / f"f{number}").write_text(ini(*pair(rng)))
    found = scan(capsys, tmp_path)[1]
    (digit, _), *_ = Counter(str(line["fingerprint"])[0] for line in found).most_common(1)
    for name, why in (("", "an empty ID"), (digit, "may be any of")):
        for command in (
            ["findings", "set", name, "--state", "accepted"],
            ["verify", str(found[0]["fingerprint"]), name],
        ):
            assert cli.main(command) == 2
            assert why in capsys.readouterr().err
    assert len(scan(capsys, tmp_path)[1]) == 17, "nothing was accepted"


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "firedamp.service.cli", *map(str, arguments)]


def test_two_scans_at_once_share_one_database(
    tmp_path: Path, rng: random.Random, capsys: pytest.CaptureFixture[str]
) -> None:
    planted = set()
    for number in range(40):
        key_id, secret = pair(rng)
        planted.add(key_id)
        path = tmp_path / ("a" if number % 2 else "b") / str(number)
        path.parent.mkdir(exist_ok=True)
        path.write_text(ini(key_id, secret))
    (Path.home() / "firedamp.db").unlink(missing_ok=True)
    running = [
        subprocess.Popen(command("scan", target, "--offline", "--quiet"), stdout=subprocess.DEVNULL)
        for target in (tmp_path / "a", tmp_path / "b", tmp_path)
    ]
    assert [each.wait(300) for each in running] == [1, 1, 1]
    cli.main(["findings", "--format", "jsonl"])
    assert ids([json.loads(line) for line in capsys.readouterr().out.splitlines()]) == planted
    modes = {path.name: path.stat().st_mode & 0o777 for path in Path.home().glob("firedamp.db*")}
    assert set(modes.values()) == {0o600}


def test_a_scan_that_is_killed_loses_nothing_and_the_next_one_completes(
    tmp_path: Path, rng: random.Random, capsys: pytest.CaptureFixture[str]
) -> None:
    planted = set()
    for number in range(300):
        key_id, secret = pair(rng)
        planted.add(key_id)
        (tmp_path / str(number)).write_text(ini(key_id, secret))
    time.sleep(0.15)
    database = Path.home() / "firedamp.db"
    for delay in (0.3, 0.5, 0.7, 0.9, 1.1):
        process = subprocess.Popen(command("scan", tmp_path, "--offline", "--quiet"), stdout=subprocess.DEVNULL)
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.wait()
        if database.exists():
            before = _findings(database)
            assert before <= planted
    status, found, summary = scan(capsys, tmp_path)
    assert (status, summary["complete"]) == (1, True)
    assert ids(found) == planted
    assert all(each["matches"] for each in found)


def _findings(database: Path) -> set[str]:
    connection = sqlite3.connect(database)
    try:
        return {row[0] for row in connection.execute("SELECT access_key_id FROM finding")}
    except sqlite3.OperationalError:  # killed before the schema was there
        return set()
    finally:
        connection.close()


def test_the_usual_database_is_no_place_where_a_key_stands_though_another_one_is_named(
    tmp_path: Path, rng: random.Random, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "found").mkdir()
    (tmp_path / "found" / "a").write_text(ini(*pair(rng)))
    with monkeypatch.context() as patch:
        patch.delenv("FIREDAMP_DB")
        scan(capsys, tmp_path / "found")
    assert default_db() != usual_db()
    status, found, _ = scan(capsys, "--all", usual_db().parent)
    assert (status, found) == (2, []), "nothing is left there to be read"


def test_a_nice_scan_finds_as_much(tmp_path: Path, rng: random.Random) -> None:
    (tmp_path / "a").write_text(ini(*pair(rng)))
    done = subprocess.run(command("scan", tmp_path, "--offline", "--nice"), capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert done.stderr == ""


def test_examples_are_listed_only_on_request(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    example = "AKIAIOSFODNN7" + "EXAMPLE"
    (tmp_path / "readme").write_text(f"aws_access_key_id = {example}\n")
    assert cli.main(["scan", str(tmp_path), "--offline", "--quiet"]) == 0
    for arguments, names in ((("list",), []), (("--examples",), [example]), (("show", example), [example])):
        capsys.readouterr()
        assert cli.main(["findings", *arguments, "--format", "json"]) == 0
        assert [each["access_key_id"] for each in json.loads(capsys.readouterr().out)["findings"]] == names


def test_a_scan_of_little_does_not_read_all_that_was_ever_found(
    tmp_path: Path, rng: random.Random, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    known, repository = tmp_path / "known", Repository(tmp_path / "small")
    known.mkdir()
    for number in range(300):
        (known / str(number)).write_text(ini(*pair(rng)))
    key_id, text = leak(rng)
    repository.commit("leak", {"settings.ini": text})
    assert len(ids(scan(capsys, known)[1])) == 300
    ask, rows = Rows._all, list[Row]()

    def counted(self: Rows, sql: str, parameters: Sequence[Value] = ()) -> list[Row]:
        rows.extend(found := ask(self, sql, parameters))
        return found

    monkeypatch.setattr(Rows, "_all", counted)
    _, found, _ = scan(capsys, repository.path)
    assert ids(found) == {key_id}
    assert sum(len(row) > 1 for row in rows) < 20
    assert len(rows) < 300 + 50, "besides the names of the findings"


@pytest.mark.parametrize("form", ["json", "jsonl", "sarif", "csv"])
def test_an_export_holds_the_places_of_some_findings_at_a_time(
    form: str, tmp_path: Path, rng: random.Random, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(450):
        (tmp_path / str(number)).write_text(ini(*pair(rng)))
    _, found, _ = scan(capsys, tmp_path)
    sights, asked = Store.sights, list[int]()

    def counted(self: Store, fingerprints: Collection[str], *, gone: bool = False) -> dict[Fingerprint, list[Sight]]:
        asked.append(len(fingerprints))
        return sights(self, fingerprints, gone=gone)

    monkeypatch.setattr(Store, "sights", counted)
    assert cli.main(["findings", "export", "--format", form]) == 0
    text = capsys.readouterr().out
    assert all(str(name) in text for name in ids(found))
    assert sum(asked) == 450
    assert max(asked) <= 200


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="only Linux tells which processors are ours")
def test_one_process_reads_for_each_processor(
    tmp_path: Path, rng: random.Random, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, (key_id, text) = list[int](), leak(rng)
    (tmp_path / "a.ini").write_text(text)
    steps = walked.steps

    def noted(world: World, tasks: Task, jobs: int) -> Iterator[Step]:
        asked.append(jobs)
        return steps(world, tasks, jobs)

    monkeypatch.setattr(walked, "steps", noted)
    for processors, given, readers in ((1, (), 2), (3, (), 3), (64, (), 8), (64, ("--jobs", "1"), 1)):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, count=processors: set(range(count)))
        _, found, _ = scan(capsys, tmp_path, *given)
        assert ids(found) == {key_id}
        assert {*asked} == {readers}
        asked.clear()
