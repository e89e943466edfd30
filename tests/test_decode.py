"""The decoders by themselves: what they undo, what they leave alone, and where each byte came from."""

from __future__ import annotations

import base64
import bz2
import gzip
import html
import io
import lzma
import quopri
import random
import time
import zipfile
import zlib
from collections.abc import Sequence

import pytest
from backports import zstd
from backports.zstd import zipfile as newer
from hypothesis import given
from hypothesis import strategies as st
from tests.builders import make_key_id, make_secret, make_token

from firedamp.scanner.decode import DECODERS
from firedamp.scanner.inflate import LIMIT
from firedamp.scanner.keys import shape
from firedamp.scanner.runs import RUN_LIMIT, Decoder, Mark, Run


def decoder(name: str) -> Decoder:
    return next(each for each in DECODERS if each.name == name)


def runs(name: str, text: bytes, *marks: Mark) -> list[Run]:
    return list(decoder(name).runs(text, marks))


def origin(run: Run, at: int) -> int:
    """Return where byte `at` of a run's output came from."""
    segment = [each for each in run.segments if each.at <= at][-1]
    return segment.source + (at - segment.at) * segment.numerator // segment.denominator


@given(st.binary(min_size=6, max_size=90), st.integers(0, 2), st.booleans())
def test_base64_is_decoded_in_the_rhythm_of_the_mark_whatever_stands_before(
    inner: bytes, glued: int, url: bool
) -> None:
    encoded = (base64.urlsafe_b64encode if url else base64.b64encode)(inner)
    text = b"= " + b"QUJD"[:glued] + encoded + b" "
    [run] = runs("base64", text, Mark(2 + glued + 4, 0))
    assert inner in run.out
    at = run.out.index(inner)
    assert abs(origin(run, at) - 2 - glued) <= 1


@pytest.mark.parametrize(
    "gap",
    [
        "\n",
        "\r\n",
        "\n      ",
        "\\n",
        "\\r\\n",
        "\\\n",
        '" +\n    "',
        "' . '",
        "\n// ",
        '",\n "',
        "%0A",
        "%0D%0A",
        "%5Cn",
        "%5Cr%5Cn",
    ],
)
def test_a_wrapped_block_is_one_run(gap: str) -> None:
    inner = bytes(range(256)) * 2
    lines = base64.encodebytes(inner).decode().split()
    text = ("x:\n  " + gap.join(lines) + "\n\nnext").encode()
    for line in (0, 3, len(lines) - 1):
        at = text.index(lines[line].encode())
        [run] = [each for each in runs("base64", text, Mark(at + 8, 0)) if each.end > at and len(each.out) > 57]
        assert run.out == inner
        # The first byte of each line comes from the first character of that line.
        for number, one in enumerate(lines):
            assert origin(run, number * 57) == text.index(one.encode())


@pytest.mark.parametrize("soft", [b"=\n", b"=\r\n", b"\n"])
def test_a_block_whose_first_line_begins_with_a_name_is_one_run(soft: bytes) -> None:
    inner = bytes(range(256)) * 2
    whole = b"userData: " + base64.b64encode(inner)
    text = b"next: 1\n" + soft.join(whole[at : at + 76] for at in range(0, len(whole), 76)) + b"\n\nnext: 2\n"
    for place in (b"userData: ", soft):
        at = text.index(place, 8) + len(place)
        digits = at if place != soft else at - 76 + len(b"userData: ")
        [run] = [each for each in runs("base64", text, Mark(at + 10, (at - digits + 10) % 4)) if len(each.out) > 60]
        assert run.out.endswith(inner[60:])
    assert run.out == inner


def test_words_in_lines_are_no_wrapped_block() -> None:
    text = b"a_short_word\n" + base64.b64encode(b"some text to decode here") + b"\nanother_word_of_code\n"
    run, *apart = runs("base64", text, Mark(20, (20 - 13) % 4))
    assert [each.out for each in apart] == [b"some text to decode here"]
    assert run.out.startswith(b"some text to decode here")


@pytest.mark.parametrize(("name", "pack"), [("gzip", gzip.compress), ("zlib", zlib.compress)])
def test_what_is_compressed_inside_base64_is_inflated(name: str, pack: object) -> None:
    inner = b"compressed text " * 20
    packed: bytes = pack(inner)  # type: ignore[operator]
    text = b"  " + base64.b64encode(packed) + b"\n"
    [run] = runs("base64", text, Mark(6, 0))
    assert run.out == inner
    assert not run.cut
    assert {each.via for each in run.segments} == {f"base64>{name}"}
    assert origin(run, 100) == 2


def zipped(*members: bytes, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with newer.ZipFile(file, "w", method) as archive:
        for number, member in enumerate(members):
            archive.writestr(f"{number}.txt", member)
    return file.getvalue()


def stored(*members: bytes) -> bytes:
    return zipped(*members, method=zipfile.ZIP_STORED)


def commented(comment: bytes, of_member: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        member = zipfile.ZipInfo("0.txt")
        member.comment, archive.comment = of_member, comment
        archive.writestr(member, b"inner")
    return file.getvalue()


PACKED: dict[str, bytes] = {
    "gzip": gzip.compress(b"first\n") + gzip.compress(b"second\n"),
    "gzip>gzip": gzip.compress(gzip.compress(b"first\nsecond\n")),
    "gzip>zlib": gzip.compress(zlib.compress(b"first\nsecond\n")),
    "bzip2": bz2.compress(b"first\n") + bz2.compress(b"second\n"),
    "xz": lzma.compress(b"first\n") + lzma.compress(b"second\n"),
    "zstd": zstd.compress(b"first\n") + zstd.compress(b"second\n"),
    "zip": zipped(b"first", b"second\n"),
    "gzip>zip": gzip.compress(zipped(b"first", b"second\n")),
}


@pytest.mark.parametrize("names", PACKED)
def test_all_that_is_compressed_is_unpacked(names: str) -> None:
    [run] = runs("base64", b"  " + base64.b64encode(PACKED[names]) + b"\n", Mark(6, 0))
    assert run.out == b"first\nsecond\n"
    assert {each.via for each in run.segments} == {f"base64>{names}"}


BESIDE: dict[str, bytes] = {
    "behind a gzip in a gzip": gzip.compress(gzip.compress(b"inner") + b"KEY"),
    "behind a zlib in a gzip": gzip.compress(zlib.compress(b"inner") + b"xKEY"),
    "behind a gzip": gzip.compress(b"inner") + b"KEY",
    "before a gzip": b"KEY " + gzip.compress(b"inner"),
    "in a stream that is none": gzip.compress(b"KEY \x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03K\x04\x00KEY"),
    "in a zip's comment": commented(b"KEY", b""),
    "in a member's comment": commented(b"", b"KEY"),
    "behind a zip": zipped(b"inner") + b"KEY",
    "in a member behind a gzip": zipped(gzip.compress(b"inner"), b"KEY"),
    "in a zip behind another member": zipped(b"inner", zipped(b"KEY")),
    "behind a stored gzip": stored(gzip.compress(b"inner"), b"KEY"),
}


@pytest.mark.parametrize("place", BESIDE)
def test_what_stands_beside_something_compressed_is_kept(place: str) -> None:
    [run] = runs("base64", b"  " + base64.b64encode(BESIDE[place]) + b"\n", Mark(6, 0))
    assert b"KEY" in run.out
    assert not run.cut
    assert origin(run, len(run.out) - 1) == 2


def test_each_piece_tells_the_formats_it_was_in() -> None:
    packed = zipped(b"first", gzip.compress(b"second")) + b"third"
    [run] = runs("base64", b"  " + base64.b64encode(packed) + b"\n", Mark(6, 0))
    assert run.out == b"first\nsecond\nthird"
    assert [each.via for each in run.segments] == ["base64>zip", "base64>zip>gzip", "base64"]


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA, newer.ZIP_ZSTANDARD])
def test_members_of_a_zip_are_unpacked_by_whatever_method(method: int) -> None:
    [run] = runs("base64", base64.b64encode(zipped(b"first", b"second", method=method)), Mark(4, 0))
    assert (run.out, run.cut) == (b"first\nsecond", False)


def test_what_needs_more_memory_than_is_given_is_told_as_cut() -> None:
    member = bytearray(zipped(b"first", method=zipfile.ZIP_LZMA))
    member[member.index(b"\x05\x00\x5d") + 6] = 0x7F
    window = zstd.ZstdCompressor(options={zstd.CompressionParameter.window_log: 27})
    dictionary = [{"id": lzma.FILTER_LZMA2, "dict_size": 100 << 20}]
    for packed in (
        bytes(member),
        window.compress(b"first") + window.flush(),
        lzma.compress(b"first", filters=dictionary),
    ):
        [run] = runs("base64", base64.b64encode(packed), Mark(4, 0))
        assert run.cut


def test_a_damaged_member_of_a_zip_costs_no_other() -> None:
    packed = stored(b"first first", b"second")
    [run] = runs("base64", base64.b64encode(packed.replace(b"first first", b"first worst")), Mark(4, 0))
    assert run.out == b"first worst\nsecond"


@pytest.mark.parametrize("hidden", ["method", "password", "version"])
def test_what_a_zip_hides_is_told_as_cut(hidden: str) -> None:
    packed = bytearray(zipped(b"first", b"second"))
    offset, value = {"method": (10, 98), "password": (8, 1), "version": (6, 99)}[hidden]
    packed[packed.index(b"PK\x01\x02") + offset] = value
    [run] = runs("base64", base64.b64encode(packed), Mark(4, 0))
    assert run.cut
    assert (run.out == b"second") is (hidden != "version")


def test_more_members_or_layers_than_the_limit_are_told_as_cut() -> None:
    deep = b"KEY"
    for _ in range(5):
        deep = gzip.compress(deep)
    for packed in (zipped(*[b"x"] * 1001), gzip.compress(b"x") * 1001, deep):
        [run] = runs("base64", base64.b64encode(packed), Mark(4, 0))
        assert run.cut


def test_a_thousand_members_are_unpacked_and_a_million_cost_no_more_than_a_large_text() -> None:
    [run] = runs("base64", base64.b64encode(zipped(*[b"x"] * 1000)), Mark(4, 0))
    assert (run.out.count(b"x"), run.cut) == (1000, False)
    for inner in (stored(*[b"x"] * 1000), gzip.compress(b"x") * 1000):
        packed = lzma.compress(stored(*[inner] * (LIMIT // len(inner) - 1)), preset=1)
        assert len(packed) < 5000
        began = time.process_time()
        [run] = runs("base64", base64.b64encode(packed), Mark(4, 0))
        assert time.process_time() - began < 1.5
        assert run.cut


def test_members_that_overlap_are_unpacked_once() -> None:
    packed = zipped(b"first", b"second")
    second = packed.rindex(b"PK\x01\x02")
    packed = packed[: second + 42] + bytes(4) + packed[second + 46 :]
    [run] = runs("base64", base64.b64encode(packed), Mark(4, 0))
    assert (run.out, run.cut) == (b"first", True)


def test_a_run_tells_the_bytes_of_all_its_layers() -> None:
    large = bytes(LIMIT - 100)
    layered = bz2.compress(gzip.compress(b"x") + large)
    [run] = runs("base64", base64.b64encode(layered), Mark(4, 0))
    assert run.spent > LIMIT - 100
    bombs = zipped(*[gzip.compress(large)] * 8)
    [run] = runs("base64", base64.b64encode(bombs), Mark(4, 0))
    assert run.cut
    assert LIMIT <= len(run.out) <= run.spent < 2 * LIMIT


@pytest.mark.parametrize("name", ["bzip2", "xz", "zstd", "zip"])
def test_every_format_stops_at_the_limit(name: str) -> None:
    large = b"\x00" * (LIMIT + 1)
    packed = {"bzip2": bz2.compress, "xz": lzma.compress, "zstd": zstd.compress, "zip": zipped}[name](large)
    [run] = runs("base64", base64.b64encode(packed), Mark(4, 0))
    assert (len(run.out), run.cut) == (LIMIT, True)


@pytest.mark.parametrize("names", PACKED)
def test_what_is_damaged_raises_nothing(names: str, rng: random.Random) -> None:
    for _ in range(30):
        packed = bytearray(PACKED[names])
        packed[rng.randrange(len(packed))] ^= 1 << rng.randrange(8)
        assert len(runs("base64", base64.b64encode(packed[: rng.randrange(9, len(packed))]), Mark(4, 0))) <= 2


def test_a_damaged_stream_gives_what_comes_before_the_damage() -> None:
    packed = bytearray(gzip.compress(b"".join(b"%d " % n for n in range(30_000))))
    packed[-3000] ^= 0xFF
    [run] = runs("base64", base64.b64encode(packed), Mark(4, 0))
    assert run.out.startswith(b"0 1 2 3 ")


def test_a_bomb_is_cut_at_the_limit() -> None:
    bomb = base64.b64encode(gzip.compress(b"\x00" * (LIMIT + 1)))
    [run] = runs("base64", bomb, Mark(4, 0))
    assert run.cut
    assert len(run.out) == LIMIT


def test_a_stream_that_a_limit_cuts_off_is_told_as_cut(rng: random.Random) -> None:
    packed = gzip.compress(b"head\n" + rng.randbytes(RUN_LIMIT // 2))
    [run] = runs("base64", base64.b64encode(packed), Mark(4, 0))
    assert run.out.startswith(b"head\n")
    assert run.cut


def test_a_run_is_decoded_around_the_mark_and_not_beyond_the_limit() -> None:
    text = b"QUJD" * RUN_LIMIT
    [run] = runs("base64", text, Mark(len(text) // 2, 0))
    assert len(run.out) == RUN_LIMIT * 3 // 4


def test_values_around_an_encoded_id_are_decoded_when_they_are_text() -> None:
    text = (
        b"id: " + base64.b64encode(b"the id that was marked") + b"\nbinary: " + base64.b64encode(bytes(range(128, 160)))
    )
    text += (
        b"\nvalue: "
        + base64.b64encode(b"a readable value")
        + b"\nfar: "
        + b" " * 5000
        + base64.b64encode(b"far away text")
    )
    assert [run.out for run in runs("base64", text, Mark(10, 2))] == [b"the id that was marked", b"a readable value"]


def test_a_mark_without_a_rhythm_asks_for_values_only() -> None:
    text = b"id: X\nvalue: " + base64.b64encode(b"a readable value") + b"\n"
    [run] = runs("base64", text, Mark(5, -1))
    assert run.out == b"a readable value"
    [run] = runs("hex", b"id: X\nvalue: " + b"a readable value".hex().encode(), Mark(5, -1))
    assert run.out == b"a readable value"


@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("shift", [0, 1])
def test_utf_16_is_read_at_either_parity(codec: str, shift: int) -> None:
    text = b"\x00" * shift + "über 中 ABC 中 DEF".encode(codec)
    at = text.index("ABC".encode(codec))
    mark = Mark(at + 6, 0 if codec == "utf-16-le" else 1)
    outs = [run.out for run in runs("utf-16", text, mark)]
    assert any("über ? ABC ? DEF".encode("latin-1") in out for out in outs)


def test_ascii_in_utf_16_is_read_once() -> None:
    text = "plain ABC text".encode("utf-16-le")
    [run] = runs("utf-16", text, Mark(18, 0), Mark(17, 1))
    assert run.out == b"plain ABC text"
    assert origin(run, 6) == 12


SPELLED = [
    ("escape", rb"a\x41\u0042\u{43}\x{44}\U00000045\106\x47", b"aABCDEFG"),
    ("escape", rb"\\u0041\\x42%u0043U+0044 U+0045", b"ABCDE"),
    ("escape", rb"\41 \42 \n\t\"\/\\", b'AB\n\t"/\\'),
    ("escape", rb"\u4e2d", b"?"),
    ("escape", rb"\\\\u0041\\\\x42\\\\\\\\u0043", b"ABC"),
    ("percent", b"a%41%2b%2F%zz%", b"aA+/%zz%"),
    ("entity", b"&#65;&#X42;&#0067;&quot;&amp;&nosuch;&#99999;", b'ABC"&&nosuch;?'),
    ("quoted-printable", b"=41=\r\nB=\nC=3d=3D", b"ABC=3d="),
    ("hex list", b"41 42 43 44", b"ABCD"),
    ("hex list", b"{0x41, 0x42,\n  0x43, 0x44};", b"{ABCD};"),
    ("hex list", b"hex:41,42,\\\r\n  43,44", b"hex:ABCD"),
    ("hex list", b"41 42 \\\n43 44", b"ABCD"),
    ("hex list", b"  0X41, 0X42,\n  0X43, 0X44", b"  ABCD"),
    ("decimal", b"[\n      65,\n      66,\n      67,\n      68\n]", b"[\n      ABCD\n]"),
    ("decimal", b"[65, 66,\n 67,68]", b"[ABCD]"),
    ("concatenation", b'"AB" + "CD"\n  "EF"', b'"ABCDEF"'),
    ("concatenation", b"'AB' . 'CD' & 'EF' || 'GH' ~ 'IJ' <> 'KL'", b"'ABCDEFGHIJKL'"),
    ("concatenation", b'"AB\\\n   CD", "EF"', b'"ABCD", "EF"'),
    ("concatenation", b'"U" + "AB"', b'"UAB"'),
    (
        "concatenation",
        b'"AB" & _\r\n  "CD" + // why\n  "EF" /* no */ + /* why */ "GH"',
        b'"ABCDEF" /* no */ + /* why */ "GH"',
    ),
]


@pytest.mark.parametrize(("name", "text", "plain"), SPELLED)
def test_notations_are_undone_in_place(name: str, text: bytes, plain: bytes) -> None:
    marks = [Mark(len(text), 0)] if "concat" not in name else [Mark(0, 0)]
    out, at = b"", 0
    for run in runs(name, text, *marks):
        out, at = out + text[at : run.start] + run.out, run.end
    assert out + text[at:] == plain


def test_a_comma_joins_literals_only_where_they_are_an_id_cut_in_two(rng: random.Random) -> None:
    key = make_key_id(rng)
    for at in (2, 4, 9):
        text = f'f("{key[:at]}", "{key[at:]}", "secret")'.encode()
        assert [run.out for run in runs("concatenation", text, Mark(9, 0))] == [f'f("{key}", "secret")'.encode()]


@pytest.mark.parametrize(
    "words", ["ASIA ASKS ATOM AUNT AURA AUTO", "ASIA EAST WEST NORTH SUN", "AS IA AFRICA OCEANIA EUR"]
)
@pytest.mark.parametrize("between", ['", "', "' '", '",\n  "'])
def test_words_of_a_list_are_not_joined(words: str, between: str) -> None:
    text = f"[{between[-1]}{words.replace(' ', between)}{between[0]}]".encode()
    assert runs("concatenation", text, Mark(8, 0)) == []


def test_a_blank_joins_the_two_halves_of_a_secret(rng: random.Random) -> None:
    secret = make_secret(rng)
    text = f'#define KEY "{secret[:7]}" "{secret[7:]}"\nf("{secret[:7]}", "{secret[7:]}")'.encode()
    [run] = runs("concatenation", text, Mark(9, 0))
    assert run.out == f'#define KEY "{secret}"\nf("{secret[:7]}", "{secret[7:]}")'.encode()


def test_the_end_of_a_line_joins_no_values_that_are_whole(rng: random.Random) -> None:
    for end, start in [(make_key_id(rng), "name"), ("name", make_key_id(rng)), (make_secret(rng), "name"), ("x", "")]:
        text = f'"a","{end}"\n"{start}","b"'.encode()
        assert runs("concatenation", text, Mark(9, 0)) == []


@pytest.mark.parametrize("width", [4, 9, 20, 39, 40, 41, 64])
def test_a_long_value_in_lines_is_joined_whatever_their_length(width: int, rng: random.Random) -> None:
    token = make_token(rng, 20 * width - 5)
    text = "\n  ".join(f"'{token[at : at + width]}'" for at in range(0, len(token), width)).encode()
    assert b"".join(run.out for run in runs("concatenation", text, Mark(9, 0))).startswith(f"'{token[:1000]}".encode())


def test_hex_is_read_in_pairs_as_the_mark_says() -> None:
    text = b"f" + b"some text".hex().encode() + b"a"
    assert runs("hex", text, Mark(5, 0))[0].out == b"some text"
    assert runs("hex", text, Mark(6, 1))[0].out == b"some text"


@given(st.text(st.characters(codec="latin-1", exclude_categories=["Cc"]), min_size=1, max_size=40))
def test_what_others_encode_is_decoded(text: str) -> None:
    raw = text.encode("latin-1")
    cases: Sequence[tuple[str, bytes]] = [
        ("percent", b"".join(b"%%%02x" % byte for byte in raw)),
        ("entity", html.escape(text).encode("latin-1")),
        ("quoted-printable", quopri.encodestring(raw)),
        ("escape", "".join(f"\\u{byte:04x}" for byte in raw).encode()),
    ]
    for name, encoded in cases:
        found = runs(name, encoded, Mark(len(encoded), 0))
        assert (found[0].out if found else encoded) == raw


@given(st.binary(max_size=200), st.lists(st.tuples(st.integers(1, 200), st.integers(-1, 3)), max_size=6))
def test_no_input_raises_and_every_offset_leads_into_the_text(text: bytes, places: list[tuple[int, int]]) -> None:
    marks = sorted((Mark(min(end, len(text)), phase) for end, phase in places), key=lambda mark: mark.end)
    for each in DECODERS:
        for run in each.runs(text, marks):
            assert 0 <= run.start <= run.end <= len(text)
            assert [s.at for s in run.segments] == sorted(s.at for s in run.segments)
            for at in range(len(run.out)):
                assert run.start <= origin(run, at) <= run.end


def test_a_shape_that_tells_nothing_in_base64_has_no_form() -> None:
    anything = bytes(range(256))
    assert not list(decoder("base64").shapes((anything, anything)))
    assert next(decoder("base64").shapes(shape(b"AKI"))).shape == shape(b"QUtJ")
