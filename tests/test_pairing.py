"""Pairing: every layout that people leave keys in, at a rate that is measured, and never a wrong secret for certain."""

from __future__ import annotations

import base64
import itertools
import json
import random
import time
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest
from bench.pairing import candidates, rate, rate_of_mixed
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.builders import make_key_id, make_secret, make_token
from tests.layouts import DISGUISES, LAYOUTS, Layout

from firedamp.scanner import shape, survey
from firedamp.scanner.candidates import Candidate, Credential, Role
from firedamp.scanner.pairing import MAX_RANKS, pair
from firedamp.scanner.shape import plausible
from firedamp.storage.records import KeyKind
from firedamp.storage.secret import Secret

EXAMPLE_ID = "AKIAIOSFODNN7EXAMPLE"
EXAMPLE_SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"


def paired(text: str) -> list[Credential]:
    return pair(text, candidates(text))


def best(text: str) -> dict[str | None, str | None]:
    """Return the top secret of each id."""
    return {c.key_id: c.secret.reveal() if c.secret else None for c in paired(text) if c.rank == 0}


def ranks(text: str) -> list[tuple[str | None, int]]:
    return [(c.secret.reveal() if c.secret else None, c.rank) for c in paired(text)]


@pytest.fixture
def rng() -> random.Random:
    return random.Random(20)


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
def test_the_top_ranked_secret_is_the_right_one_in(layout: Layout) -> None:
    right, planted = rate([layout], files=30)
    assert right >= 0.99 * planted


@pytest.mark.parametrize("disguise", DISGUISES)
def test_the_top_ranked_secret_is_the_right_one_of_any_layout(disguise: str) -> None:
    right, planted = rate(LAYOUTS, 2, DISGUISES[disguise])
    assert right >= 0.995 * planted


def test_several_layouts_in_one_file_keep_their_pairs() -> None:
    right, planted = rate_of_mixed(200)
    assert right >= 0.99 * planted


class TestShape:
    @pytest.mark.parametrize("count", [40_000, pytest.param(400_000, marks=pytest.mark.slow)])
    def test_no_filter_costs_a_random_secret(self, count: int, rng: random.Random) -> None:
        secrets = [base64.b64encode(rng.randbytes(30)).decode() for _ in range(count)]
        assert all(map(shape.plausible, secrets))
        assert sum(map(shape.is_placeholder, secrets)) <= 1 + count // 200_000
        assert sum(map(shape.wordlike, secrets)) < count * 0.0015

    @pytest.mark.parametrize(
        "value",
        [
            "da39a3ee5e6b4b0d3255bfef95601890afd80709",
            "DA39A3EE5E6B4B0D3255BFEF95601890AFD80709",
            "usr/lib/python3/dist/packages/boto3/data",
            "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567ABCDEFGH",
            "com/example/project/service/ClientFactory",
            "getelementsbytagnameandclassnamesANDidsZ",
            "DescribeOrderableDBInstanceOptionsOutput",
            "KMSWithContextEncryptionMaterialsExample",
            "ListTagsForVaultExample/ListTagsForVault",
            "/ChangeMessageVisibilityBatchResultEntry",
            "/123456789012/testQueue/SQSDefaultPolicy",
            "da39a3ee5e6b4b0d3255bfef95601890afd8NRAL",
            "v2/da39a3ee5e6b4b0d3255bfef95601890/Abcd",
        ],
    )
    def test_digests_paths_and_words_are_no_secrets(self, value: str) -> None:
        assert not shape.plausible(value[:40])

    @given(
        st.integers(0, 2**32), st.sampled_from(["%2F", "%2f", "%252F", "\\/", "\\\\/", "\\u002f", "&#47;", "&#x2F;"])
    )
    @settings(max_examples=60, deadline=None)
    def test_every_notation_of_a_slash_is_undone(self, seed: int, slash: str) -> None:
        secret = make_secret(random.Random(seed))
        text = f'"{secret.replace("/", slash)}"'
        (run,) = shape.runs(text, 0, len(text))
        assert (run.value, text[run.start : run.end]) == (secret, text[1:-1])

    @given(
        st.integers(0, 2**32), st.sampled_from(["%2B", "%2b", "%252B", "\\u002b", "\\x2b", "&#43;", "&#x2b;", "&plus;"])
    )
    @settings(max_examples=60, deadline=None)
    def test_every_notation_of_a_plus_is_undone(self, seed: int, plus: str) -> None:
        secret = make_secret(random.Random(seed))
        text = f"'{secret.replace('+', plus)}'"
        (run,) = shape.runs(text, 0, len(text))
        assert run.value == secret

    @pytest.mark.parametrize("sign", ["%2F", "%252F", "\\/", "\\\\/", "\\u002f", "&#47;", "&plus;"])
    def test_what_is_forty_characters_long_with_its_notation_only_is_no_secret(
        self, sign: str, rng: random.Random
    ) -> None:
        value = make_secret(rng).replace("/", "a").replace("+", "b")
        text = f'aws_secret_access_key = "{value[: 38 - len(sign)]}{sign}{value[-2:]}"'
        assert not [*shape.runs(text, 0, len(text))]
        assert pair(text, []) == []

    @pytest.mark.parametrize("before", ["\\n", "\\\\n", "%3D", "\\u0022", "\\x22", "\x1b[0m", "=", ":", "\\t", "%253A"])
    def test_an_escape_before_a_secret_is_not_part_of_it(self, before: str, rng: random.Random) -> None:
        secret = make_secret(rng)
        text = f"key {before}{secret}%26\\n"
        assert [run.value for run in shape.runs(text, 0, len(text))] == [secret]

    def test_a_run_of_megabytes_is_read_at_once(self) -> None:
        text = "aB3/" * 1_000_000
        (run,) = shape.runs(text, 0, len(text))
        assert len(run.value) == len(text)
        assert "aB3" not in repr(run)


class TestSeveralPairs:
    def test_two_ini_sections_give_each_id_its_own_secret_in_either_order(self, rng: random.Random) -> None:
        one, two = make_key_id(rng), make_key_id(rng)
        first, second = make_secret(rng), make_secret(rng)
        text = (
            f"[a]\naws_access_key_id = {one}\naws_secret_access_key = {first}\n\n"
            f"[b]\naws_secret_access_key = {second}\naws_access_key_id = {two}\n"
        )
        assert best(text) == {one: first, two: second}
        assert len(paired(text)) == 2

    def test_a_secret_bound_to_one_id_is_not_the_best_of_another(self, rng: random.Random) -> None:
        lone, key_id, secret = make_key_id(rng), make_key_id(rng), make_secret(rng)
        text = f"AWS_ACCESS_KEY_ID={lone}\nAWS_ACCESS_KEY_ID={key_id}\nAWS_SECRET_ACCESS_KEY={secret}\n"
        assert best(text) == {lone: None, key_id: secret}
        assert [c.rank for c in paired(text) if c.key_id == lone] == [0, 1]

    def test_two_adjacent_values_are_both_kept_in_order(self, rng: random.Random) -> None:
        key_id, one, two = make_key_id(rng), make_secret(rng), make_secret(rng)
        assert ranks(f"{key_id},{one},{two}") == [(one, 0), (two, 1)]

    def test_no_id_is_offered_more_than_the_cap(self, rng: random.Random) -> None:
        values = "\n".join(f"v{at} {make_secret(rng)}" for at in range(15))
        assert [rank for _, rank in ranks(f"{make_key_id(rng)}\n{values}\n")] == list(range(MAX_RANKS))

    def test_an_id_repeated_elsewhere_has_the_same_secret(self, rng: random.Random) -> None:
        key_id, secret = make_key_id(rng), make_secret(rng)
        text = f"{key_id} was used\n{'x ' * 9000}\n[a]\naws_access_key_id={key_id}\naws_secret_access_key={secret}\n"
        assert ranks(text) == [(secret, 0), (secret, 0)]
        assert {c.anchor for c in paired(text)} == {0, text.rfind(key_id)}

    def test_one_id_with_two_labelled_secrets_keeps_both(self, rng: random.Random) -> None:
        key_id, old, new = make_key_id(rng), make_secret(rng), make_secret(rng)
        text = f"[a]\naws_access_key_id={key_id}\naws_secret_access_key={new}\n#aws_secret_access_key={old}\n"
        assert ranks(text) == [(new, 0), (old, 1)]

    def test_two_long_lists_pair_in_order(self, rng: random.Random) -> None:
        pairs = [(make_key_id(rng), make_secret(rng)) for _ in range(40)]
        ids, secrets = ("\n".join(f"  '{pair[at]}'," for pair in pairs) for at in (0, 1))
        assert best(f"ids = [\n{ids}\n]\nsecret_keys = [\n{secrets}\n]\n") == dict(pairs)

    def test_more_ids_than_can_be_weighed_exactly_still_take_their_neighbours(self, rng: random.Random) -> None:
        pairs = [(make_key_id(rng), make_secret(rng)) for _ in range(40)]
        text = f"AWS_ACCESS_KEY_ID={make_key_id(rng)}\n" + "".join(
            f"\n\nAWS_ACCESS_KEY_ID={i}\nAWS_SECRET_ACCESS_KEY={s}\n" for i, s in pairs
        ).replace("\n\n", "\n")
        found = best(text)
        assert [found[i] for i, _ in pairs] == [s for _, s in pairs]

    @pytest.mark.parametrize("text", ["{id}/{secret}", "https://x.test/{id}/{secret}/y", "{secret}/{id}"])
    def test_a_slash_between_id_and_secret_is_no_part_of_either(self, text: str, rng: random.Random) -> None:
        key_id, secret = make_key_id(rng), make_secret(rng)
        assert best(text.format(id=key_id, secret=secret)) == {key_id: secret}

    @pytest.mark.parametrize(
        "label", ["AWS_SECRET_ACCESS_KEY=3D{}", "%26secret%20key%3D{}", "Secret&nbsp;Key:&nbsp;{}"]
    )
    def test_a_label_is_read_in_mail_urls_and_html(self, label: str, rng: random.Random) -> None:
        key_id, secret, decoy = make_key_id(rng), make_secret(rng), make_secret(rng)
        assert best(f"user {key_id}&amp;x\ncursor: {decoy}\n{label.format(secret)}\n")[key_id] == secret

    @pytest.mark.parametrize("columns", [*itertools.permutations(("name", "id", "secret"))])
    def test_rows_without_a_header_keep_to_themselves(self, columns: Sequence[str], rng: random.Random) -> None:
        rows = [{"name": f"user{at}", "id": make_key_id(rng), "secret": make_secret(rng)} for at in range(4)]
        text = "\n".join(",".join(row[column] for column in columns) for row in rows)
        assert best(text) == {row["id"]: row["secret"] for row in rows}

    def test_rows_behind_the_columns_of_a_copy_keep_to_themselves(self, rng: random.Random) -> None:
        rows = [(str(at), make_secret(rng), name, make_key_id(rng)) for at, name in enumerate(["ann", "bob", "eve"], 1)]
        text = "COPY keys (id, secret_key, name, access_key) FROM stdin;\n" + "\n".join("\t".join(row) for row in rows)
        assert best(text + "\n\\.\n") == {row[3]: row[1] for row in rows}

    @pytest.mark.parametrize("count", [1, 2, 3])
    @pytest.mark.parametrize(
        ("table", "row"),
        [
            ("INSERT INTO t (id,salt,awsKey,etag,awsSecret) VALUES _,_;", "({n},'{d}','{i}','{h}','{s}')"),
            ("INSERT INTO t (id,salt,awsKey,etag,awsSecret) VALUES\n_,\n_;\n", "({n},'{d}','{i}','{h}','{s}')"),
            ("REPLACE INTO t\n(`id`, `salt`, `awsKey`, `awsSecret`)\nVALUES\n_,\n_;", "({n},'{d}','{i}','{s}')"),
            ("insert into t (awsSecret, note, awsKey) values _, _", "('{s}', 'a, b (\\'; {d}', '{i}')"),
            ("INSERT [dbo].[t] ([Secret], [Etag], [AccessKey]) VALUES _, _\nGO\n", "(N'{s}', N'{d}', N'{i}')"),
            ("INSERT INTO t (awsKey, blob, awsSecret) VALUES _,_;", "('{i}', lower('{d}'), concat('{s}', ''))"),
            ('q("INSERT INTO t (awsKey, etag, awsSecret) VALUES " +\n"_, " + \n "_")', "('{i}', '{d}', '{s}')"),
            ('q("INSERT INTO t (awsKey, note, awsSecret) VALUES (?, ?, ?)", [_, _])', '("{i}", "{d}", "{s}")'),
            (r'{"sql": "INSERT INTO t (awsKey, note, awsSecret)\nVALUES\n_,\n_"}', r"(\"{i}\",\"{d}\",\"{s}\")"),
            ("COPY t (id, salt, awsKey, etag, awsSecret) FROM stdin;\n_\n_\n\\.\n", "{n}\t{d}\t{i}\t{h}\t{s}"),
            ("COPY t (awsKey, note, awsSecret) FROM stdin;\n_\n_\n\\.\n", "{i}\t{d}\t{s}"),
            ("COPY t (salt, awsKey, awsSecret) FROM stdin WITH (FORMAT csv);\n_\n_\n\\.\n", "{d},{i},{s}"),
            ("INSERT INTO t VALUES _,_;", "('{s}','{i}')"),
            ("INSERT INTO t VALUES _, _;", "({n}, '{i}', '{s}', NULL)"),
            ("[_,_]", '["{s}","{i}"]'),
            ('[["id","salt","secret"],_,_]', '["{i}","{d}","{s}"]'),
            ('[\n  ["salt", "id", "etag", "secret"],\n  _,\n  _\n]\n', '["{d}", "{i}", "{h}", "{s}"]'),
            ('{"columns": ["id", "note", "secret"], "index": [0, 1, 2], "data": [_, _]}', '["{i}", "{d}", "{s}"]'),
            (r'"[[\"id\",\"salt\",\"secret\"],_,_]"', r"[\"{i}\",\"{d}\",\"{s}\"]"),
            ("[_,_]", '{{"id":"{i}","salt":"{d}","secret":"{s}"}}'),
        ],
    )
    def test_the_columns_of_a_table_name_what_its_rows_hold(
        self, table: str, row: str, count: int, rng: random.Random
    ) -> None:
        keys = {make_key_id(rng): make_secret(rng) for _ in range(count)}
        rows = [
            row.format(n=n, i=i, s=s, d=make_secret(rng), h=rng.randbytes(20).hex())
            for n, (i, s) in enumerate(keys.items(), 1)
        ]
        before, between, after = table.split("_")
        assert best(before + between.join(rows) + after) == keys

    @pytest.mark.parametrize("remark", ["# {}", "// {}", "/* {} */", "-- {}"])
    def test_a_remark_behind_an_id_goes_behind_what_is_called_its_secret(self, remark: str, rng: random.Random) -> None:
        key_id, secret, other = make_key_id(rng), make_secret(rng), make_secret(rng)
        text = f'access_key = "{key_id}" {remark.format(other)}\nsecret_key = "{secret}"\n'
        assert ranks(text) == [(secret, 0)]
        assert best(f"{key_id} {remark.format(other)}\n") == {key_id: other}, "where nothing else is"


class TestDistance:
    @pytest.mark.parametrize(("gap", "secret_is_paired"), [(900, True), (1200, False)])
    def test_nameless_values_pair_within_a_kibibyte(self, gap: int, secret_is_paired: bool, rng: random.Random) -> None:
        key_id, secret = make_key_id(rng), make_secret(rng)
        assert (best(f"{key_id}\n\n{'x ' * (gap // 2)}\n\n{secret}\n")[key_id] == secret) is secret_is_paired

    @pytest.mark.parametrize(("gap", "secret_is_paired"), [(8_000, True), (12_000, False)])
    def test_labelled_lines_pair_within_ten(self, gap: int, secret_is_paired: bool, rng: random.Random) -> None:
        key_id, secret = make_key_id(rng), make_secret(rng)
        between = "X=1\n" * (gap // 4)
        text = f"AWS_ACCESS_KEY_ID={key_id}\n{between}AWS_SECRET_ACCESS_KEY={secret}\n"
        assert (best(text)[key_id] == secret) is secret_is_paired

    @pytest.mark.parametrize(("gap", "secret_is_paired"), [(60_000, True), (70_000, False)])
    def test_members_of_one_object_pair_within_sixty_four(
        self, gap: int, secret_is_paired: bool, rng: random.Random
    ) -> None:
        key_id, secret = make_key_id(rng), make_secret(rng)
        members = {f"k{at}": "v" * 90 for at in range(gap // 105)}
        text = json.dumps({"accessKeyId": key_id, **members, "secretAccessKey": secret})
        assert (best(text)[key_id] == secret) is secret_is_paired


class TestAlone:
    def test_a_lone_id_is_a_credential(self, rng: random.Random) -> None:
        key_id = make_key_id(rng)
        assert ranks(f"id {key_id}, sha {rng.randbytes(20).hex()}") == [(None, 0)]

    @pytest.mark.parametrize(
        "label", ["aws_secret_access_key = ", '"SecretAccessKey": "', "AWSSecretKey=", "s3.secret.key: ", "AWS_KEY='"]
    )
    def test_a_lone_secret_with_a_label_of_aws_is_a_credential(self, label: str, rng: random.Random) -> None:
        secret = make_secret(rng)
        (credential,) = paired(f"{label}{secret}\n")
        assert credential == Credential(KeyKind.SECRET_KEY, None, Secret(secret), anchor=len(label))

    @pytest.mark.parametrize(
        ("text", "note"),
        [
            ("<AccessKeyId>Y4RJU1RNFGK48LGO9I2S</AccessKeyId>\n<SecretAccessKey>{}</SecretAccessKey>",
             "non-AWS key id: Y4RJU1RNFGK48LGO9I2S"),
            ("AccessKeyID: 27YDRYEM0S9B44AJJX9X\nSecretAccessKey: {}", "non-AWS key id: 27YDRYEM0S9B44AJJX9X"),
            ('"secretAccessKey": "{}",\n"accessKeyId": "a8b5f1c2d3e4f5a6b7c8d9e0f1a2b3c4"',
             "non-AWS key id: a8b5f1c2d3e4f5a6b7c8d9e0f1a2b3c4"),
            ("access_key_id> U\nsecret_access_key> {}\nendpoint> http://192.168.1.106:9000",
             "non-AWS endpoint: 192.168.1.106"),
            ('endpoint := "play.minio.test:9000"\nsecretAccessKey := "{}"', "non-AWS endpoint: play.minio.test"),
            ("AccessKeyID: AKIAXXXXXXXXXXXXXXXX\nSecretAccessKey: {}", None),
            ("AccessKeyID: AKIA0189AKIA0189AKIA\nSecretAccessKey: {}", None),
            ("AccessKeyID: YOURACCESSKEYIDHERE\nSecretAccessKey: {}", None),
            ("AccessKeyID: 27YDRYEM0S9B44AJJX9X\n\nSecretAccessKey: {}", None),
            ("secret_access_key: 27YDRYEM0S9B44AJJX9X\nSecretAccessKey: {}", None),
        ],
    )  # fmt: skip
    def test_a_lone_secret_of_another_store_is_said_to_be_so(
        self, text: str, note: str | None, rng: random.Random
    ) -> None:
        secret = make_secret(rng)
        (credential,) = (c for c in paired(text.format(secret)) if c.key_id is None)
        assert (credential.secret, credential.notes) == (Secret(secret), () if note is None else (note,))

    def test_a_secret_key_is_awss_where_the_words_around_it_say_so(self, rng: random.Random) -> None:
        text = f"secret_key = {make_secret(rng)}\n"
        assert paired(text) == []
        assert len(paired(f"# for aws\n{text}")) == 1

    @pytest.mark.parametrize("label", ["aws_etag", "commit", "client_secret", "sha1", "x"])
    def test_what_says_that_it_is_something_else_is_none(self, label: str, rng: random.Random) -> None:
        assert paired(f"# aws\n{label} = {make_secret(rng)}\n") == []

    def test_a_digest_is_no_secret_even_under_its_name(self, rng: random.Random) -> None:
        assert paired(f"aws_secret_access_key = {rng.randbytes(20).hex()}\n") == []

    def test_template_values_are_no_secrets(self, rng: random.Random) -> None:
        key_id = make_key_id(rng)
        for value in ("${AWS_SECRET}", "<your-secret>", "your_secret_access_key_goes_here_40_chars", "xxxxxxxx"):
            assert best(f"aws_access_key_id={key_id}\naws_secret_access_key={value}\n") == {key_id: None}

    @pytest.mark.parametrize(
        "value", ["${SECRET}", '"{{ vault_secret }}"', "****************", "os.environ['X']", "!Ref Secret", "<secret>"]
    )
    def test_where_the_secret_is_a_reference_no_other_value_is_it(self, value: str, rng: random.Random) -> None:
        key_id, other, own = make_key_id(rng), make_secret(rng), make_secret(rng)
        text = f"AWS_ACCESS_KEY_ID={key_id}\nAWS_SECRET_ACCESS_KEY={value}\nDB_PASSWORD={other}\n"
        assert ranks(text) == [(None, 0)]
        assert ranks(f"{text}SECRET={own}\n") == [(own, 0)]
        assert ranks(f"{text}s3_secret_key = {own}\n")[0] == (own, 0)

    @pytest.mark.parametrize(
        ("id_name", "name"), [("AK", "SK"), ("USER", "PASSWORD"), ("KEY", "SECRET"), ("A", "B_KEY")]
    )
    def test_a_reference_may_name_the_secret(self, id_name: str, name: str, rng: random.Random) -> None:
        key_id, secret = make_key_id(rng), make_secret(rng)
        text = (
            f"{id_name}={key_id}\n{name}={secret}\n"
            f"export AWS_ACCESS_KEY_ID=${id_name}\nexport AWS_SECRET_ACCESS_KEY=${{{name}}}\n"
        )
        assert ranks(text) == [(secret, 0)]

    @pytest.mark.parametrize("value", ['os.environ.get("X", "{}")', "process.env.X || '{}'", "${{X:-{}}}", "${{X:{}}}"])
    def test_a_reference_may_carry_the_secret_itself(self, value: str, rng: random.Random) -> None:
        key_id, secret = make_key_id(rng), make_secret(rng)
        text = f"id = '{key_id}'\naws_secret = {value.format(secret)}\n"
        assert best(text) == {key_id: secret}

    def test_whole_credentials_pass_through(self) -> None:
        found = Candidate(Role.WHOLE, KeyKind.BEDROCK_LONG, 4, 12, Secret("ABSKabcd"))
        assert pair("key ABSKabcd", [found]) == [Credential(KeyKind.BEDROCK_LONG, None, Secret("ABSKabcd"), anchor=4)]

    def test_a_copy_of_a_paired_secret_is_not_alone(self, rng: random.Random) -> None:
        key_id, secret = make_key_id(rng), make_secret(rng)
        text = f"{key_id}:{secret}\n{'x ' * 9000}\naws_secret_access_key = {secret}\n"
        assert ranks(text) == [(secret, 0)]

    @pytest.mark.parametrize("name", ["AWS_SECRET_HASH", "aws_secret_version", "aws_secret_access_key_sha256"])
    def test_what_is_derived_from_a_secret_is_none(self, name: str, rng: random.Random) -> None:
        assert paired(f"{name}={make_secret(rng)}\n") == []

    def test_a_google_secret_in_the_same_file_is_none(self, rng: random.Random) -> None:
        assert paired(f"[Credentials]\n# aws\ngs_secret_access_key = {make_secret(rng)}\n") == []


class TestExamples:
    def test_documentation_pairs_are_marked(self) -> None:
        (credential,) = paired(f"aws_access_key_id={EXAMPLE_ID}\naws_secret_access_key={EXAMPLE_SECRET}\n")
        assert credential.example
        assert credential.secret == Secret(EXAMPLE_SECRET)

    def test_a_real_id_never_takes_an_examples_secret(self, rng: random.Random) -> None:
        key_id = make_key_id(rng)
        found = {(c.key_id, c.example) for c in paired(f"id={key_id}\naws_secret_access_key={EXAMPLE_SECRET}\n")}
        assert found == {(key_id, False), (None, True)}

    def test_a_real_secret_beside_a_masked_id_is_not_hidden(self, rng: random.Random) -> None:
        secret = make_secret(rng)
        found = paired(f"aws_access_key_id={EXAMPLE_ID}\naws_secret_access_key={secret}\n")
        assert {(c.key_id, c.example) for c in found} == {(EXAMPLE_ID, True), (None, False)}

    def test_an_example_above_a_real_pair_does_not_shift_it(self, rng: random.Random) -> None:
        key_id, secret = make_key_id(rng), make_secret(rng)
        text = (
            f"# aws_secret_access_key = {EXAMPLE_SECRET}\naws_access_key_id = {key_id}\n"
            f"aws_secret_access_key = {secret}\n# aws_access_key_id = {EXAMPLE_ID}\n"
        )
        assert best(text) == {key_id: secret, EXAMPLE_ID: EXAMPLE_SECRET}


class TestNames:
    def test_an_account_key_beside_an_id_is_its_secret(self, rng: random.Random) -> None:
        key_id, secret = make_key_id(rng), make_secret(rng)
        text = f"Conn.AccountName := '{key_id}';\n  Conn.AccountKey := '{secret}';\n"
        assert best(text) == {key_id: secret}

    @pytest.mark.parametrize(
        ("of_id", "of_secret"),
        [
            ("client_id", "client_secret"),
            ("GITHUB_BACKUP_KEY", "GITHUB_BACKUP_SECRET"),
            ("TOKEN_STORE_KEY_ID", "TOKEN_STORE_KEY_SECRET"),
            ("sessionBucketId", "sessionBucketSecret"),
            ("cookie.store.key", "cookie.store.secret"),
            ("gcs_mirror_access_key", "gcs_mirror_secret_key"),
        ],
    )
    def test_a_word_that_both_names_have_does_not_make_the_secret_anothers(
        self, of_id: str, of_secret: str, rng: random.Random
    ) -> None:
        key_id, secret = make_key_id(rng), make_secret(rng)
        assert best(f"{of_id} = {key_id}\n{of_secret} = {secret}\n") == {key_id: secret}
        assert best(f"[{{{of_secret!r}: {secret!r}, {of_id!r}: {key_id!r}}}]") == {key_id: secret}

    @pytest.mark.parametrize(
        "other", ["GITHUB_TOKEN", "GITHUB_BACKUP_SHA", "CLIENT_SECRET", "GITHUB_BACKUP_SECRET_HASH"]
    )
    def test_a_word_that_one_name_has_does(self, other: str, rng: random.Random) -> None:
        key_id = make_key_id(rng)
        assert best(f"GITHUB_BACKUP_KEY={key_id}\n{other}={make_secret(rng)}\n") == {key_id: None}

    @pytest.mark.parametrize("quote", ['"', '\\"'])
    @pytest.mark.parametrize(
        ("value", "name"), [("value", "name"), ("Value", "Key"), ("ParameterValue", "ParameterKey")]
    )
    def test_a_name_may_stand_behind_its_value(self, quote: str, value: str, name: str, rng: random.Random) -> None:
        key_id, secret = make_key_id(rng), make_secret(rng)
        members = {"AWS_ACCESS_KEY_ID": key_id, "GIT_SHA": make_secret(rng), "AWS_SECRET_ACCESS_KEY": secret}
        text = json.dumps([{value: v, name: n} for n, v in members.items()]).replace('"', quote)
        assert ranks(text) == [(secret, 0)]


class TestPieces:
    """A slash parts folders and values, and is a character of base64 too."""

    @pytest.mark.parametrize("name", ["signature", "sha256", "etag", "x-amz-id-2", "session_token"])
    def test_a_piece_of_a_blob_goes_by_the_blobs_name(self, name: str, rng: random.Random) -> None:
        key_id, blob = make_key_id(rng), "/".join(["aB3x" * 4, *(make_secret(rng) for _ in range(2))])
        assert ranks(f'{{"accessKeyId":"{key_id}","{name}":"{blob[:-41]}"}}') == [(None, 0)]
        assert ranks(f'{{"accessKeyId":"{key_id}","{name}":"{blob}"}}') == [(None, 0)]

    @pytest.mark.parametrize("between", ["\n", ",", " "])
    def test_folders_are_no_secret(self, between: str, rng: random.Random) -> None:
        key_id = make_key_id(rng)
        assert ranks(f"{key_id}{between}/Users/JohnSmith1/Work2/Aws3/Repo4/Main5/App/X\n") == [(None, 0)]

    def test_a_piece_of_a_path_does_not_touch_an_id(self, rng: random.Random) -> None:
        key_id, piece = make_key_id(rng), "x" + make_secret(rng).replace("/", "a")[1:]
        assert ranks(f"{key_id}\n/srv/{piece}/x\n")[0] == (None, 0)

    def test_a_secret_in_the_same_path_as_its_id_is_firm(self, rng: random.Random) -> None:
        key_id, secret = make_key_id(rng), make_secret(rng)
        assert ranks(f"s3/{key_id}/{secret}\n") == [(secret, 0)]

    def test_the_namespaces_of_a_document_are_no_secrets(self, rng: random.Random) -> None:
        names = "".join(
            f' xmlns:a{n}="http://schemas.microsoft.com/office/word/{year}/wordprocessing{what}"'
            for n, (year, what) in enumerate([(2010, "Shape"), (2010, "Group"), (2006, "Group"), (2012, "Shape")])
        )
        assert ranks(f"<w{names}>{make_key_id(rng)}</w>") == [(None, 0)]

    @pytest.mark.parametrize("newline", ["\n", "\r\n", "\\n", "\n    "])
    @pytest.mark.parametrize("width", [64, 76])
    def test_the_last_line_of_a_certificate_is_none(self, width: int, newline: str, rng: random.Random) -> None:
        lines = [base64.b64encode(rng.randbytes(width * 3 // 4)).decode() for _ in range(4)]
        text = newline.join([f"id {make_key_id(rng)}", *lines, make_secret(rng), "-----END CERTIFICATE-----"])
        assert ranks(text) == [(None, 0)]

    @pytest.mark.parametrize("before", ["eyJhbGciOiJIUzI1NiJ9.", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIi-Ox_Ix."])
    def test_a_part_of_a_web_token_is_none(self, before: str, rng: random.Random) -> None:
        text = f"id {make_key_id(rng)}\nAuthorization: Bearer {before}{make_secret(rng)}.{make_secret(rng)}abc\n"
        assert ranks(text) == [(None, 0)]


class TestTokens:
    def test_a_session_token_joins_its_pair_with_its_expiry(self, rng: random.Random) -> None:
        key_id, secret, token = make_key_id(rng, prefix="ASIA"), make_secret(rng), make_token(rng)
        text = (
            f"[a]\naws_access_key_id = {key_id}\naws_secret_access_key = {secret}\naws_session_token = {token}==\n"
            "x_security_token_expires = 2026-03-09T19:39:23+01:00\nregion = us-gov-west-1\n"
            f"[b]\naws_access_key_id = {make_key_id(rng)}\n"
        )
        credential = paired(text)[0]
        assert credential.kind is KeyKind.TEMPORARY_KEY
        assert credential.token == Secret(token + "==")
        assert credential.expires == datetime(2026, 3, 9, 18, 39, 23, tzinfo=UTC)
        assert credential.hint == "us-gov-west-1"

    def test_two_roles_in_one_file_keep_their_own_tokens(self, rng: random.Random) -> None:
        roles = [(make_key_id(rng, prefix="ASIA"), make_secret(rng), make_token(rng, 700)) for _ in range(3)]
        text = json.dumps(
            [{"SessionToken": t, "SecretAccessKey": s, "AccessKeyId": i, "Expiration": 1773081563} for i, s, t in roles]
        )
        found = paired(text)
        assert [(c.key_id, c.secret, c.token) for c in found] == [(i, Secret(s), Secret(t)) for i, s, t in roles]
        assert {c.expires for c in found} == {datetime(2026, 3, 9, 18, 39, 23, tzinfo=UTC)}

    def test_an_id_repeated_elsewhere_keeps_its_token(self, rng: random.Random) -> None:
        key_id, secret, token = make_key_id(rng, prefix="ASIA"), make_secret(rng), make_token(rng)
        text = f"{key_id} was used\n{'x ' * 9000}\n" + json.dumps(
            {"AccessKeyId": key_id, "SecretAccessKey": secret, "SessionToken": token}
        )
        assert [(c.secret, c.token) for c in paired(text)] == [(Secret(secret), Secret(token))] * 2

    def test_a_token_of_unknown_make_is_known_by_its_label(self, rng: random.Random) -> None:
        for length in (356, 480, 500, 700, 1990):
            token = "Zz" + make_token(rng, length)
            (credential,) = paired(f"AWS_SESSION_TOKEN={token}\nETAG={token[::-1]}\n")
            assert (credential.kind, credential.secret) == (KeyKind.SESSION_TOKEN, Secret(token))
        assert not paired(f"AWS_SESSION_TOKEN=Zz{make_token(rng, 5000)}\nETAG={token[::-1]}\n")

    def test_a_token_that_is_encoded_once_more_is_not_told_as_it_stands(self, rng: random.Random) -> None:
        encoded = base64.b64encode(make_token(rng, 240).encode()).decode()
        assert paired(f"aws_session_token: {encoded}\n") == []

    @pytest.mark.parametrize("inside", ["Mv" + "/" * 10 + "wEaCXVzLWVhc3QtMSJH", "AYourKeySampleSecret", "A" * 12])
    def test_what_chance_and_the_protocol_write_into_a_token_makes_it_no_example(
        self, inside: str, rng: random.Random
    ) -> None:
        token = make_token(rng)[:16] + inside + make_token(rng)[16:]
        (credential,) = paired(f"X-Amz-Security-Token={token}")
        assert (credential.secret, credential.example) == (Secret(token), False)

    def test_a_token_that_says_so_is_an_example(self, rng: random.Random) -> None:
        (credential,) = paired(f"AWS_SESSION_TOKEN={make_token(rng, 200)}EXAMPLE{make_token(rng, 200)}")
        assert credential.example

    @pytest.mark.parametrize("first", ["aws_session_token", "aws_security_token"])
    def test_a_copy_of_a_paired_token_is_not_alone(self, first: str, rng: random.Random) -> None:
        key_id, secret, token = make_key_id(rng, prefix="ASIA"), make_secret(rng), make_token(rng)
        second = {"aws_session_token": "aws_security_token"}.get(first, "aws_session_token")
        text = (
            f"[a]\naws_access_key_id = {key_id}\naws_secret_access_key = {secret}\n"
            f"{first} = {token}\n{second} = {token}\n"
        )
        (credential,) = paired(text)
        assert (credential.key_id, credential.token) == (key_id, Secret(token))

    def test_a_token_that_detection_found_is_not_found_twice(self, rng: random.Random) -> None:
        key_id, token = make_key_id(rng, prefix="ASIA"), make_token(rng)
        text = f"id={key_id}\nsession_token={token}\n"
        at = text.index(token)
        given_token = Candidate(Role.TOKEN, KeyKind.SESSION_TOKEN, at, at + len(token), Secret(token))
        (credential,) = pair(text, [*candidates(text), given_token])
        assert credential.token == Secret(token)

    @pytest.mark.parametrize(
        ("said", "moment"),
        [
            ("aws_expiration = 2026-03-09T18:39:23Z", datetime(2026, 3, 9, 18, 39, 23, tzinfo=UTC)),
            ("expiration = 2026-03-09 18:39:23", datetime(2026, 3, 9, 18, 39, 23, tzinfo=UTC)),
            ('"Expiration": "2026-03-09T18:39:23.000000+00:00"', datetime(2026, 3, 9, 18, 39, 23, tzinfo=UTC)),
            ("<Expiration>2026-03-09T18:39:23Z</Expiration>", datetime(2026, 3, 9, 18, 39, 23, tzinfo=UTC)),
            ("expires_at: 1773081563000", datetime(2026, 3, 9, 18, 39, 23, tzinfo=UTC)),
            ("Expires: Mon, 09 Mar 2026 18:39:23 GMT", datetime(2026, 3, 9, 18, 39, 23, tzinfo=UTC)),
            ("x_principal_expires = 2026-03-09T18:39:23Z", datetime(2026, 3, 9, 18, 39, 23, tzinfo=UTC)),
            ("AWSUME_EXPIRATION=2026-03-09T18:39:23", datetime(2026, 3, 9, 18, 39, 23, tzinfo=UTC)),
            ("sessionTokenExpiresAt: 1773081563", datetime(2026, 3, 9, 18, 39, 23, tzinfo=UTC)),
            ('"text": "x\\nexpiration = 2026-03-09 18:39:23"', datetime(2026, 3, 9, 18, 39, 23, tzinfo=UTC)),
            ("LICENSE_EXPIRES=2020-01-01T00:00:00Z\naws_expiration = 2026-03-09T18:39:23Z",
             datetime(2026, 3, 9, 18, 39, 23, tzinfo=UTC)),
            ("LICENSE_EXPIRES=2020-01-01T00:00:00Z", None),
            ("SSL_CERT_EXPIRY=2020-01-01 00:00:00", None),
            ("PASSWORD_EXPIRES_AT=2020-01-01T00:00:00Z", None),
            ("Set-Cookie: a=b; Expires=Wed, 01 Jan 2020 00:00:00 GMT", None),
            ("Cookie expires: 2020-01-01T00:00:00Z", None),
            ("expiration = 2026-13-09T18:39:23Z", None),
            ("expiration = soon", None),
        ],
    )  # fmt: skip
    def test_expiry_is_read_in_the_common_forms(self, said: str, moment: datetime | None, rng: random.Random) -> None:
        key_id = make_key_id(rng, prefix="ASIA")
        (credential,) = paired(f"AccessKeyId = {key_id}\nSecretAccessKey = {make_secret(rng)}\n{said}\n")
        assert credential.expires == moment


class TestSmtp:
    def test_a_password_of_ses_joins_its_user_name(self, rng: random.Random) -> None:
        key_id, password = make_key_id(rng), "BC" + make_secret(rng) + "x/"
        (credential,) = paired(
            f"SMTP_USERNAME={key_id}\nSMTP_PASSWORD={password}\nSMTP_HOST=email-smtp.eu-west-1.amazonaws.com\n"
        )
        assert (credential.kind, credential.key_id) == (KeyKind.SES_SMTP, key_id)
        assert credential.secret == Secret(password)

    def test_an_id_has_a_secret_and_a_password(self, rng: random.Random) -> None:
        key_id, secret, password = make_key_id(rng), make_secret(rng), "BP" + make_secret(rng) + "x/"
        text = json.dumps({"id": key_id, "secret": secret, "ses_smtp_password_v4": password})
        assert {(c.kind, c.secret) for c in paired(text)} == {
            (KeyKind.ACCESS_KEY, Secret(secret)),
            (KeyKind.SES_SMTP, Secret(password)),
        }

    def test_a_password_without_its_user_is_a_credential_near_the_word(self, rng: random.Random) -> None:
        password = "BC" + make_secret(rng) + "x/"
        (credential,) = paired(f"smtp:\n  password: {password}\n")
        assert (credential.kind, credential.key_id) == (KeyKind.SES_SMTP, None)
        assert paired(f"token:\n  password: {password}\n") == []


class TestSurroundings:
    @pytest.mark.parametrize(
        ("beside", "hint", "notes"),
        [
            ("region = cn-north-1", "cn-north-1", ()),
            ("endpoint_url = https://minio.test:9000", "https://minio.test:9000", ("non-AWS endpoint: minio.test",)),
            ("endpoint = s3.eu-central-1.wasabisys.com", "s3.eu-central-1.wasabisys.com",
             ("non-AWS endpoint: s3.eu-central-1.wasabisys.com",)),
            ("host_base = nyc3.digitaloceanspaces.com", "nyc3.digitaloceanspaces.com",
             ("non-AWS endpoint: nyc3.digitaloceanspaces.com",)),
            ("url = https://abc.r2.cloudflarestorage.com", "https://abc.r2.cloudflarestorage.com",
             ("non-AWS endpoint: abc.r2.cloudflarestorage.com",)),
            ("host = http://localhost:9000", "http://localhost:9000", ("non-AWS endpoint: localhost",)),
            ("endpoint = https://s3.amazonaws.com", "s3.amazonaws.com", ()),
            ("endpoint = https://s3.us-west-2.amazonaws.com", "us-west-2", ()),
            ("role_arn = arn:aws-cn:iam::123456789012:role/x", "arn:aws-cn:iam::123456789012:role/x", ()),
            ("url = https://github.com/x/y", "", ()),
        ],
    )  # fmt: skip
    def test_region_and_endpoint_beside_a_pair_are_read(
        self, beside: str, hint: str, notes: tuple[str, ...], rng: random.Random
    ) -> None:
        text = (
            f"[other]\nregion = sa-east-1\n[mine]\naccess_key_id = {make_key_id(rng)}\n"
            f"secret_access_key = {make_secret(rng)}\n{beside}\n[third]\nendpoint = https://third.test\n"
        )
        (credential,) = paired(text)
        assert (credential.hint, credential.notes) == (hint, notes)

    @pytest.mark.parametrize(
        "said",
        [
            "endpoint_url=endpoint_url).sts.assume_role(",
            "endpoint: process.env.S3_ENDPOINT,",
            "endpoint: process.env.ENDPOINT",
            'endpoint_url=os.environ["ENDPOINT"],',
            'endpoint_url = os.environ.get("ENDPOINT")',
            "endpoint = settings.AWS_S3_ENDPOINT_URL",
            'endpoint: config.get("endpoint"),',
            'endpoint: config.get("minio.endpoint"),',
            "endpoint: config.store.url,",
            "endpoint_url=self.config.endpoint_url,",
            "endpoint = var.endpoint",
            "endpoint: import.meta.env.VITE_S3_ENDPOINT,",
            "Endpoint: aws.String(endpoint),",
            "endpoint_url=settings.S3.url or None",
            "s3_url = s3.generate_presigned_url(",
        ],
    )
    def test_a_name_in_source_code_is_no_endpoint(self, said: str, rng: random.Random) -> None:
        (credential,) = paired(f"access_key = '{make_key_id(rng)}'\nsecret_key = '{make_secret(rng)}'\n{said}\n")
        assert (credential.hint, credential.notes) == ("", ())

    @pytest.mark.parametrize(
        "said",
        [
            'Endpoint: aws.String("http://minio.test:9000"),',
            "endpoint: new AWS.Endpoint('minio.test'),",
            "endpoint: minio.test;",
            "endpoint_url=minio.test,secure=no",
        ],
    )
    def test_a_host_in_source_code_is_one(self, said: str, rng: random.Random) -> None:
        (credential,) = paired(f"access_key = '{make_key_id(rng)}'\nsecret_key = '{make_secret(rng)}'\n{said}\n")
        assert credential.notes == ("non-AWS endpoint: minio.test",)

    @pytest.mark.parametrize(
        "around",
        [
            "APP_URL=http://localhost\n{}",
            "{}APP_URL=http://localhost:3000\n",
            "{}APP_URL=http://localhost:9000\n",
            "BASE_URL=http://127.0.0.1:8000\n{}",
            'SITE_URL = "http://localhost:8000"\n{}',
            "{}\nMINIO_ENDPOINT=http://localhost:9000\nMINIO_ROOT_USER=minio\n",
            "{}MINIO_ENDPOINT=http://localhost:9000\n",
            r'{}\n\nMINIO_ENDPOINT=http://localhost:9000\nMINIO_ROOT_USER=minio"',
            r'{}\r\n\r\nS3_ENDPOINT=https://s3.wasabisys.com\r\n"',
            "{}\nS3_ENDPOINT=https://s3.wasabisys.com\n",
            "{}\nurl = http://localhost:9000\n",
            "{}AWS_SQS_ENDPOINT=http://localhost:9324\n",
            "{}SERVICE_URL=https://api.example.test\n",
            "{}MAIL_HOST=ssl0.ovh.net\n",
            "{}ASSET_URL=https://storage.googleapis.com/assets\n",
            "{}aws s3 ls\naws --endpoint-url http://localhost:4566 s3 ls\n",
        ],
    )
    def test_what_runs_on_this_machine_beside_a_key_of_aws_does_not_make_it_anothers(
        self, around: str, rng: random.Random
    ) -> None:
        pair = f"AWS_ACCESS_KEY_ID={make_key_id(rng)}\nAWS_SECRET_ACCESS_KEY={make_secret(rng)}\n"
        (credential,) = paired(around.format(pair))
        assert (credential.hint, credential.notes) == ("", ())

    @pytest.mark.parametrize(
        ("around", "host"),
        [
            ("AWS_ENDPOINT_URL=http://localhost:4566\n{}", "localhost"),
            ("{}AWS_ENDPOINT=http://127.0.0.1:9000\n", "127.0.0.1"),
            ("{}S3_ENDPOINT=http://localhost:8080\n", "localhost"),
            ("{}MLFLOW_S3_ENDPOINT_URL=http://minio:9000\n", "minio"),
            ("{}AWS_URL=http://localhost:9000/local\n", "localhost"),
            ('{}"url": "http://minio:9000"\n', "minio"),
            ('{}"url": "https://minio.example.org:9000"\n', "minio.example.org"),
            ("{}S3_ENDPOINT=https://s3.gra.io.cloud.ovh.net\n", "s3.gra.io.cloud.ovh.net"),
            ("{}aws_profile=x; aws --endpoint-url http://localhost:4566 s3 ls\n", "localhost"),
        ],
    )
    def test_a_store_on_this_machine_is_known_by_its_label_or_its_name_and_port(
        self, around: str, host: str, rng: random.Random
    ) -> None:
        end = "; " if "aws_profile" in around else "\n"
        pair = f"AWS_ACCESS_KEY_ID={make_key_id(rng)} AWS_SECRET_ACCESS_KEY={make_secret(rng)}{end}"
        (credential,) = paired(around.format(pair))
        assert credential.notes == (f"non-AWS endpoint: {host}",)

    @pytest.mark.parametrize(
        ("provider", "notes"), [("Wasabi", ("non-AWS endpoint: Wasabi",)), ("AWS", ()), ("Other", ())]
    )
    def test_a_provider_of_rclone_says_whose_key_it_is(
        self, provider: str, notes: tuple[str, ...], rng: random.Random
    ) -> None:
        text = (
            f"[remote]\ntype = s3\nprovider = {provider}\naccess_key_id = {make_key_id(rng)}\n"
            f"secret_access_key = {make_secret(rng)}\n"
        )
        assert [c.notes for c in paired(text)] == [notes]

    def test_a_long_term_profile_of_aws_mfa_is_noted(self, rng: random.Random) -> None:
        text = f"[x-long-term]\naws_access_key_id = {make_key_id(rng)}\naws_secret_access_key = {make_secret(rng)}\n"
        assert [c.notes for c in paired(text)] == [("long-term profile of aws-mfa",)]

    def test_each_of_two_flat_pairs_has_its_own_region(self, rng: random.Random) -> None:
        text = "".join(
            f"{name}_ACCESS_KEY_ID={make_key_id(rng)}\n{name}_SECRET_ACCESS_KEY={make_secret(rng)}\n{name}_REGION={region}\n"
            for name, region in (("A", "eu-west-1"), ("B", "cn-north-1"))
        )
        assert [c.hint for c in paired(text)] == ["eu-west-1", "cn-north-1"]


class TestHostileText:
    @given(st.text(alphabet="{}[]()<>/\\\"'=:,\n aAK9%&;#-|", max_size=400), st.integers(0, 2**32))
    @settings(max_examples=150, deadline=None)
    def test_no_text_around_a_labelled_pair_loses_the_id(self, noise: str, seed: int) -> None:
        rng = random.Random(seed)
        key_id, secret = make_key_id(rng), make_secret(rng)
        text = f"{noise}\naws_access_key_id = {key_id}\naws_secret_access_key = {secret}\n{noise}"
        assert best(text)[key_id] == secret

    @pytest.mark.parametrize(
        "unit",
        ["{id}\n", '{{"a":"{id}","secret_key":"{secret}"}},', "{id} ", "{id},{secret},", "[[[[[[{id}", "<a>{id}"],
    )
    def test_time_is_linear_in_the_ids(self, unit: str, rng: random.Random) -> None:
        def seconds(count: int, tries: int) -> float:
            text = "".join(unit.format(id=make_key_id(rng), secret=make_secret(rng)) for _ in range(count))
            found = candidates(text)
            times = []
            for _ in range(tries):
                began = time.process_time()
                pair(text, found)
                times.append(time.process_time() - began)
            return min(times)

        # Sixteen times the ids: sixteen times the work, 256 times if it were quadratic. Either is far from the limit:
        # on a busy machine the same work takes twice the time.
        assert seconds(2400, 2) < 64 * seconds(150, 5)

    def test_nesting_deeper_than_the_limit_ties_nothing_but_loses_nothing(self, rng: random.Random) -> None:
        key_id, secret = make_key_id(rng), make_secret(rng)
        text = "[" * 500 + f'{{"accessKeyId": "{key_id}", "secretAccessKey": "{secret}"}}' + "]" * 500
        assert best(text) == {key_id: secret}

    def test_secrets_never_show_in_a_repr(self, rng: random.Random) -> None:
        secret = make_secret(rng)
        assert secret not in repr(paired(f"{make_key_id(rng)}:{secret}"))


_WORD_PARTS = [*"secret smtp session security se token _ . - aws key pass a".split(), " ", "\n"]


@given(parts=st.lists(st.sampled_from(_WORD_PARTS), max_size=14))
def test_context_words_are_found_where_their_expression_finds_them(parts: list[str]) -> None:
    text = "".join(parts)
    assert [*survey._context_words(text)] == [word.start() for word in survey._CONTEXT.finditer(text)]


def test_letters_that_could_be_parted_into_words_in_many_ways_are_judged_at_once(rng: random.Random) -> None:
    for _ in range(300):
        words = ("".join(rng.choices("abcdefghij", k=20)).capitalize() for _ in range(2))
        assert not plausible(f"{'/'.join(words)[:38]}/+")
