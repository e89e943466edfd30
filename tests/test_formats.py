"""The forms a canary is planted in: each is written, read back, and found by our own scanner as a canary."""

from __future__ import annotations

import configparser
import json
import random
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.builders import make_key_id, make_secret
from tests.scans import scanner

from firedamp.canaries import formats
from firedamp.canaries.formats import FORMATS, NameTaken, Pair
from firedamp.canaries.scenery import BYTES, Surroundings, surroundings
from firedamp.storage.errors import Failure, UsageFailure
from firedamp.storage.records import Canary
from firedamp.storage.secret import Secret
from firedamp.storage.store import Store

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def make_pair(rng: random.Random) -> Pair:
    return Pair(make_key_id(rng), Secret(make_secret(rng)))


def around(rng: random.Random, label: str | None = None) -> Surroundings:
    return surroundings(rng.randbytes(BYTES), user="svc-orders", account="123456789012", at=NOW, label=label)


@pytest.mark.parametrize("label", [None, "nightly-run"])
@pytest.mark.parametrize("name", FORMATS)
def test_each_format_is_read_back_as_it_was_written(name: str, label: str | None, rng: random.Random) -> None:
    form, pair = FORMATS[name], make_pair(rng)
    text = form.start(pair, around(rng, label))
    assert form.read(text) == [pair]
    assert form.find(text, pair.key_id) == pair
    assert form.find(text, make_key_id(rng)) is None
    assert text.count("\n") < 60


@pytest.mark.parametrize("name", FORMATS)
def test_no_format_says_what_it_is(name: str, rng: random.Random) -> None:
    form = FORMATS[name]
    for _ in range(48):
        text = form.start(Pair("ID", Secret("SECRET")), around(rng)).lower()
        assert re.search(r"canar|honey|firedamp|\btests?\b|example|decoy|bait|dummy|fake", text) is None


@pytest.mark.parametrize(
    ("partition", "here"),
    [("aws-cn", r"cn-\w+-1|amazonaws\.com\.cn|signin\.amazonaws\.cn"), ("aws-us-gov", r"us-gov-\w+-1|-us-gov\.com")],
)
@pytest.mark.parametrize("name", FORMATS)
def test_a_key_stands_beside_regions_and_hosts_of_its_own_partition(
    name: str, partition: str, here: str, rng: random.Random
) -> None:
    there = surroundings(rng.randbytes(BYTES), user="u", account="123456789012", at=NOW, partition=partition)
    text = FORMATS[name].start(Pair("ID", Secret("SECRET")), there)
    left = re.sub(here, "", text)
    # Whoever tries a key in another partition gets no answer that anybody records.
    assert re.search(r"(us|eu|ap)-[a-z]+-[0-9]|amazon\.com", left) is None
    assert partition == "aws-us-gov" or "amazonaws.com" not in left


def test_what_is_planted_is_found_by_our_own_scanner_as_a_canary_and_nobody_is_called(
    tmp_path: Path, rng: random.Random, capsys: pytest.CaptureFixture[str]
) -> None:
    planted: dict[str, str] = {}
    with Store(Path.home() / "firedamp.db") as store:
        for name, form in FORMATS.items():
            pair = make_pair(rng)
            store.watch(Canary(key_id=pair.key_id, name=name, since=NOW))
            path = tmp_path / name / form.file
            path.parent.mkdir(parents=True)
            path.write_bytes(form.start(pair, around(rng)).encode())
            planted[name] = pair.key_id
    scan = scanner(capsys)
    # The second time without --offline: the guard of these tests fails whatever leaves this machine.
    for options in (("--offline", "--all"), ("--all",)):
        scanned = scan(tmp_path, options=options)
        assert set(scanned.findings) == set(planted.values())
        for name, key_id in planted.items():
            finding = scanned.findings[key_id]
            assert (finding["canary"], finding["has_secret"]) == (True, True), name
            assert finding["verification"]["status"] == "CANARY", name
    with Store(Path.home() / "firedamp.db") as store:
        assert store.own_calls() == []


@pytest.mark.parametrize("name", [name for name, form in FORMATS.items() if form.names is not None])
def test_an_addition_leaves_what_was_there_and_refuses_a_name_that_is_taken(name: str, rng: random.Random) -> None:
    form, first, second = FORMATS[name], make_pair(rng), make_pair(rng)
    old = form.start(first, around(rng, "one"))
    for text in (old, old.rstrip("\n"), old.replace("\n", "\r\n")):
        new = text + form.add(text, second, around(rng, "two"))
        assert form.find(new, first.key_id) == first
        assert form.find(new, second.key_id) == second
        if "\r" in text:
            assert "\n" not in new.replace("\r\n", "")
    if form.names(old):  # type: ignore[misc]
        with pytest.raises(NameTaken, match="never overwritten"):
            form.add(old, second, around(rng, "one"))


@pytest.mark.parametrize("name", [name for name, form in FORMATS.items() if form.names is None])
def test_a_format_that_fills_its_file_is_not_added_to_one(name: str, rng: random.Random) -> None:
    with pytest.raises(UsageFailure, match="only written where nothing is"):
        FORMATS[name].add("something\n", make_pair(rng), around(rng))


def test_a_file_that_cannot_be_understood_is_not_added_to(rng: random.Random) -> None:
    with pytest.raises(Failure, match="cannot be understood"):
        FORMATS["aws-profile"].add("no section = here\n", make_pair(rng), around(rng))


def test_programs_read_what_is_written_for_them(rng: random.Random) -> None:
    pair = make_pair(rng)
    text = {name: form.start(pair, around(rng)) for name, form in FORMATS.items()}
    for name in ("json", "tfstate", "notebook"):
        json.loads(text[name])
    for name in ("aws-profile", "aws-config", "s3cfg", "rclone", "boto"):
        configparser.RawConfigParser().read_string(text[name])
    yaml = pytest.importorskip("yaml")
    for name in ("yaml", "docker-compose", "kubernetes-secret", "kubeconfig", "github-actions", "gitlab-ci", "ansible"):
        assert isinstance(yaml.safe_load(text[name]), dict), name


@given(
    text=st.text(max_size=80), name=st.sampled_from(sorted(FORMATS)), parts=st.lists(st.integers(0, 200), max_size=2)
)
@settings(max_examples=120, deadline=None)
def test_a_reader_survives_whatever_became_of_the_file(text: str, name: str, parts: list[int]) -> None:
    whole = FORMATS[name].start(Pair("A" * 20, Secret("b" * 40)), around(random.Random(1)))
    for at in parts:
        whole = whole[:at] + text + whole[at:]
    for changed in (text, whole, whole[: len(whole) // 2]):
        assert all(isinstance(each, Pair) for each in FORMATS[name].read(changed))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("json", "[" * 100_000),
        ("json", "[" * 60 + "]" * 60),
        ("kubernetes-secret", "  AWS_ACCESS_KEY_ID: AAAAAAAAAAAAAAAAA\n"),
        ("kubernetes-secret", "  AWS_ACCESS_KEY_ID: QUtJQUFBQUFBQUFB\n"),
        ("aws-profile", "[a]\naws_access_key_id = X\n"),
        ("env", "AWS_ACCESS_KEY_ID=AAAAAAAAAAAAAAAAAAAA\n"),
    ],
)
def test_nonsense_holds_no_pair(name: str, text: str) -> None:
    assert FORMATS[name].read(text) == []


def test_what_would_not_stand_in_a_file_as_it_is_is_refused(rng: random.Random) -> None:
    pair = make_pair(rng)
    formats.check(pair)
    with pytest.raises(Failure, match="cannot be planted"):
        formats.check(Pair("not an id", pair.secret))
    with pytest.raises(Failure, match="secret cannot be planted") as raised:
        formats.check(Pair(pair.key_id, Secret("quo'te" * 5)))
    assert "quo" not in str(raised.value)
    with pytest.raises(UsageFailure, match="no name"):
        around(rng, "no name]")


def test_a_format_is_chosen_by_its_name_and_may_name_the_key() -> None:
    assert formats.choose("env") == (FORMATS["env"], None)
    assert formats.choose("aws-profile:prod") == (FORMATS["aws-profile"], "prod")
    with pytest.raises(UsageFailure, match="docker-compose"):
        formats.choose("papyrus")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("ansible", "$ANSIBLE_VAULT;1.1;AES256\n6162\n"), ("ansible", "a: 1\n...\n"), ("ansible", "- a\n"),
        ("ansible", "{a: 1}\n"), ("ansible", "---\na: 1\n---\nb: 2\n"),
        ("env", "DEBUG=0\n".encode("utf-16").decode("utf-8", "surrogateescape")),
    ],
)  # fmt: skip
def test_nothing_is_added_to_what_a_line_more_would_break(name: str, text: str, rng: random.Random) -> None:
    with pytest.raises(Failure, match="nothing is added"):
        FORMATS[name].add(text, make_pair(rng), around(rng))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("env", 'A="x\n'), ("env", "A=1\nexport B = 'x\ny\n"), ("env", 'A="x\\"\n'), ("env", "A=`x"),
        ("env", "A=x \\\n"),
        ("env", "A=$(cat <<EOF\nx\n"), ("env", "A=x\\"),
        ("shell", "echo 'x\n"), ("shell", 'echo "$(date\n'), ("shell", "echo x \\\n"), ("shell", "echo x \\"),
        ("shell", "cat <<'EOF' > x\ny\n EOF\n"), ("shell", "cat <<-END\nx\n"), ("shell", "echo it\\'s 'x\n"),
        ("shell", "echo $'it\\'s\n"), ("shell", "((cat <<n\nx\n"),
        ("shell", "cat <<EOF"),
        ("zsh-history", ": 1:0;echo x\\\n"),
        ("tfvars", "a = {\n  b = 1\n"), ("tfvars", 'a = "x\n'), ("tfvars", "a = <<EOT\nx\n"), ("tfvars", "/* a\n"),
        ("tfvars", 'a = ["]"\n'),
        ("gradle", "a=b\\\n"), ("properties", "a=b,\\"),
        ("ansible", 'a: "x\n'), ("ansible", "a: 'it''s\n"), ("ansible", "a: [1,\n  2\n"),
        ("ansible", "a:\n  - {b: '}'\n"),
        ("ansible", 'a: 1\nb: !vault "x\n  y\n'),
    ],
)  # fmt: skip
def test_nothing_is_added_to_a_text_that_ends_in_the_middle_of_something(
    name: str, text: str, rng: random.Random
) -> None:
    with pytest.raises(Failure, match="in the middle of something"):
        FORMATS[name].add(text, make_pair(rng), around(rng))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("env", "MOTD=don't\n# it's\nA='x\ny'\nB=\"a\\\"b\" # isn't\nC=\n\nD='it'\\''s'\n# end \\\n"),
        ("env", "A=$(cat <<EOF\nit's\nEOF\n)\nB=x\\\\\n"),
        ("shell", "# don't\necho it\\'s \"it's\" 'x\ny' # isn't\n"),
        ("shell", "cat <<-EOF | sed \"s/x/'/\"\n\tdon't\n\tEOF\nx=$((1 << 2))\n"),
        ("shell", "x=$'it\\'s'\n"), ("shell", "echo $((1 << n)) $((1<<(n+1)))\n(( n <<= m ))\n"),
        ("shell", "(( n > 0 )) && (cat <<EOF\nit's ((\nEOF\n)\n"),
        ("shell", "cat <<< \"x\"\necho ${#x} x#'y'\n"), ("history", "echo 'x\n"), ("zsh-history", ": 1:0;x\\\ny\n"),
        ("tfvars", 'a = {\n  b = ["}"] # {\n}\n// "\n/* { */\nc = <<-EOT\n  { "\n  EOT\nd = 4 / 2\n'),
        ("gradle", "a=b\\\n  c\n# d\\\n"), ("properties", "a=c:\\\\\n"),
        ("ansible", "a: don't\nb: \"x\n  y\"\nc: |\n  it's \"[\n\n  {\n"),
        ("ansible", "d: [1,\n  'it''s', don't, # ]\n  ]\n'e': {f: 1}\n"),
        ("ansible", "a: x\n# it's [\nb:\n  - 'x'\n  - >-\n    \"\n  - y: \"z: [\"\n"), ("ansible", "a: |"),
    ],
)  # fmt: skip
def test_a_text_that_is_finished_is_added_to(name: str, text: str, rng: random.Random) -> None:
    pair = make_pair(rng)
    new = text + FORMATS[name].add(text, pair, around(rng))
    assert FORMATS[name].find(new, pair.key_id) == pair


def test_a_plain_map_of_yaml_gets_its_lines(rng: random.Random) -> None:
    pair = make_pair(rng)
    text = "---\n# all hosts\nmotd: |\n  x\n'users':\n- a\n-\n  b\n"
    assert FORMATS["ansible"].find(text + FORMATS["ansible"].add(text, pair, around(rng)), pair.key_id) == pair


def test_a_byte_order_mark_hides_no_name(rng: random.Random) -> None:
    with pytest.raises(NameTaken):
        FORMATS["env"].add("\ufeffAWS_ACCESS_KEY_ID=x\n", make_pair(rng), around(rng))
