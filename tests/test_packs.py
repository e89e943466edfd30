"""The delta filter sees what a full read sees, whatever pieces it stands in, and trusts nothing in a pack."""

from __future__ import annotations

import base64
import bz2
import dataclasses
import gzip
import hashlib
import io
import lzma
import multiprocessing
import os
import random
import re._parser as sre_parser
import sqlite3
import subprocess
import sys
import tarfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.builders import make_key_id, make_secret
from tests.packwriter import Copy, Delta, Whole, Written, instructions, write_pack

from firedamp.scanner import jit, kernels, packindex, packs
from firedamp.scanner.decode import DECODERS
from firedamp.scanner.formats import must_open
from firedamp.scanner.forms import forms
from firedamp.scanner.jit import NoCompilerError
from firedamp.scanner.keys import KINDS, shape
from firedamp.scanner.ownkeys import TELLING
from firedamp.scanner.packindex import Kind, PackListing, Unfilterable, list_pack
from firedamp.scanner.packs import Filtered, Judge, filtering
from firedamp.scanner.prefilter import Prefilter

WHENEVER = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
"""The fixtures do not change; how long an example takes to be made is the machine's affair."""


@pytest.fixture(scope="session")
def kernel_cache(cache: Path) -> Path:
    """Return the folder in which scans keep compiled kernels too."""
    return cache / "firedamp"


def git(repository: Path, *arguments: str, stdin: bytes = b"") -> bytes:
    identity = ["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "gc.auto=0"]
    command = ["git", "-C", str(repository), *identity, *arguments]
    return subprocess.run(command, input=stdin, check=True, capture_output=True).stdout


def history(folder: Path, versions: Sequence[str | bytes], *, gc: Sequence[str] = ("gc", "-q", "--aggressive")) -> Path:
    """Commit the versions of one file after each other and pack them."""
    folder.mkdir()
    git(folder, "init", "-q")
    for version in versions:
        (folder / "config.py").write_bytes(version if isinstance(version, bytes) else version.encode())
        git(folder, "add", ".")
        git(folder, "commit", "-q", "--allow-empty", "-m", "change")
    git(folder, *gc)
    return folder


def only_pack(repository: Path, width: int = 20) -> PackListing:
    (index,) = repository.glob(".git/objects/pack/*.idx")
    listing = list_pack(index.with_suffix(".pack"), index, width=width)
    assert isinstance(listing, PackListing)
    return listing


def listed(written: Written, width: int = 20) -> PackListing:
    listing = list_pack(written.pack, written.index, width=width)
    assert isinstance(listing, PackListing)
    return listing


@dataclasses.dataclass(frozen=True)
class Judged:
    """What the filter says of the objects asked for, by position in the pack, ascending."""

    hits: list[int]
    ruled_out: list[int]
    unread: list[int]
    texts: dict[int, bytes]
    size: int


@pytest.fixture(scope="session")
def prefilter(kernel_cache: Path) -> Prefilter:
    return Prefilter(kernel_cache)


Filtering = Callable[..., Judged]


@pytest.fixture
def filtered(kernel_cache: Path, prefilter: Prefilter) -> Filtering:
    """Return what filters one pack: all of it but trees, unless positions are asked for."""
    ordinary = Judge(prefilter.hits, lambda head, tail: must_open(head, tail) is not None)

    def judged(
        listing: PackListing, *, processes: int = 1, asked: Sequence[int] | None = None, judge: Judge = ordinary
    ) -> Judged:
        positions = listing.besides_trees() if asked is None else np.array(asked, np.int32)
        with filtering([(listing, positions)], judge, kernel_cache, processes=processes) as pieces:
            return gathered([*pieces])

    return judged


def gathered(pieces: Sequence[Filtered]) -> Judged:
    texts = {position: text for each in pieces for position, text in zip(each.hits.tolist(), each.texts, strict=True)}
    return Judged(
        sorted(texts), sorted(position for each in pieces for position in each.ruled_out.tolist()),
        sorted(position for each in pieces for position in each.unread.tolist()), texts,
        sum(each.size for each in pieces),
    )  # fmt: skip


def hit_ids(listing: PackListing, judged: Judged) -> set[str]:
    return {row.tobytes().hex() for row in listing.ids(np.array(judged.hits, np.int32))}


def contents(repository: Path) -> dict[str, bytes]:
    """Return every object but trees, by id, read in full."""
    told = git(repository, "cat-file", "--batch-all-objects", "--batch")
    found, at = {}, 0
    while at < len(told):
        end = told.index(b"\n", at)
        name, kind, size = told[at:end].decode().split()
        at = end + 1 + int(size) + 1
        if kind != "tree":
            found[name] = told[end + 1 : at - 1]
    return found


def holders(repository: Path, value: bytes) -> set[str]:
    """Return the ids of the objects that hold value, by reading every one in full."""
    return {name for name, content in contents(repository).items() if value in content}


def filler(rng: random.Random, lines: int = 60) -> str:
    words = "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu".split()
    return "".join(f"{rng.choice(words)}_{rng.randrange(1000)} = {rng.choice(words)!r}\n" for _ in range(lines))


JOINS = {
    "head and body joined": lambda key: (f'key = "{key[:4]}" + "{key[4:]}"', f'key = "{key}"'),
    "cut head joined": lambda key: (f'key = "{key[:2]}" + "{key[2:]}"', f'key = "{key}"'),
    "typo in the head corrected": lambda key: (f'key = "{key[:1]}-{key[1:]}"', f'key = "{key}"'),
}


@pytest.mark.parametrize("case", JOINS)
def test_a_key_joined_by_copies_alone_is_seen(case: str, tmp_path: Path, filtered: Filtering) -> None:
    rng = random.Random(case)
    key = make_key_id(rng)
    before, after = JOINS[case](key)
    top, bottom = filler(rng), filler(rng)
    # Newest first is how git packs: the joined version is the smaller, so it is the delta.
    repository = history(tmp_path / "r", [top + line + "\n" + bottom for line in (before, after)])
    listing = only_pack(repository)
    assert (listing.bases >= 0).any()
    held = holders(repository, key.encode())
    assert held
    assert held <= hit_ids(listing, filtered(listing))


def test_git_and_we_list_the_same(tmp_path: Path) -> None:
    repository = history(tmp_path / "r", [filler(random.Random(i)) for i in range(8)])
    git(repository, "tag", "-a", "-m", "text", "v1")
    git(repository, "repack", "-adq")
    listing = only_pack(repository)
    told = git(repository, "cat-file", "--batch-all-objects", "--batch-check=%(objectname) %(objecttype)").decode()
    everything = np.arange(len(listing), dtype=np.int32)
    names = [row.tobytes().hex() for row in listing.ids(everything)]
    ours = {f"{name} {Kind(kind).name.lower()}" for name, kind in zip(names, listing.kinds.tolist(), strict=True)}
    assert ours == set(told.splitlines())
    assert (np.diff(listing.offsets) > 0).all()
    texts = listing.besides_trees()
    assert set(listing.kinds[texts].tolist()) == {Kind.COMMIT, Kind.BLOB, Kind.TAG}


@pytest.mark.parametrize("form", ["sha256", "reference deltas"])
def test_other_forms_of_packs_are_listed_and_filtered(form: str, tmp_path: Path, filtered: Filtering) -> None:
    rng = random.Random(form)
    key = make_key_id(rng)
    folder = tmp_path / "r"
    folder.mkdir()
    width = 32 if form == "sha256" else 20
    git(folder, "init", "-q", "--object-format", "sha256" if width == 32 else "sha1")
    top = filler(rng)
    for line in ("none", f"key = '{key}'", "gone again"):
        (folder / "f").write_text(top + line + "\n" + filler(random.Random(1)))
        git(folder, "add", ".")
        git(folder, "commit", "-q", "-m", line[:4])
    git(folder, "-c", "repack.useDeltaBaseOffset=false", "repack", "-adfq")
    listing = only_pack(folder, width)
    assert (listing.bases >= 0).any()
    held = holders(folder, key.encode())
    judged = filtered(listing)
    assert held <= hit_ids(listing, judged)
    assert judged.ruled_out
    assert not judged.unread


def test_a_secret_is_seen_where_its_name_is_copied_and_not_without_one(tmp_path: Path, filtered: Filtering) -> None:
    secret = make_secret(random.Random(1)).encode()
    base = b"aws_secret_access_key = changeme\n" + b"# nothing\n" * 9
    other = b"something = changeme\n" + b"# nothing\n" * 9
    written = write_pack(
        tmp_path,
        [
            Whole(base),
            Delta(0, (Copy(0, 24), secret, Copy(32, 20))),
            Whole(other),
            Delta(2, (Copy(0, 12), secret, Copy(20, 20))),
        ],
    )
    judged = filtered(listed(written))
    assert judged.hits == [1]
    assert judged.texts == {1: written.contents[1]}


def keyed(rng: random.Random, number: int) -> list[Whole | Delta]:
    """Return families of an object and what is derived from it; every seventh object holds a key."""
    entries: list[Whole | Delta] = []
    for i in range(number):
        key = make_key_id(rng).encode() if i % 7 == 0 else b""
        entries.append(Whole(key + filler(rng).encode()))
        entries.append(Delta(2 * i, (Copy(0, 50), b"more", Copy(100, 30))))
    return entries


def test_the_result_does_not_depend_on_how_many_processes_share_the_work(
    tmp_path: Path, filtered: Filtering, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packs, "_SHARE", 2000)
    monkeypatch.setattr(packs, "_PIECE", 100)
    written = write_pack(tmp_path, keyed(random.Random(3), 60))
    one, three = (filtered(listed(written), processes=n) for n in (1, 3))
    assert one == three
    assert not one.unread
    assert len(one.hits) == 18
    assert one.texts == {position: written.contents[position] for position in one.hits}
    assert one.size == sum(len(written.contents[position]) for position in one.ruled_out)


def test_only_what_is_asked_for_is_judged_but_what_it_derives_from_is_looked_at(
    tmp_path: Path, filtered: Filtering
) -> None:
    key = make_key_id(random.Random(4)).encode()
    entries = [Whole(b"x" * 90 + key), Delta(0, (Copy(0, 110), b"!")), Whole(key), Whole(b"y" * 50)]
    judged = filtered(listed(write_pack(tmp_path, entries)), asked=[1, 3])
    assert judged.hits == [1]
    assert judged.ruled_out == [3]


def test_a_key_that_is_taken_out_is_not_seen_where_it_is_gone(tmp_path: Path, filtered: Filtering) -> None:
    key = make_key_id(random.Random(5)).encode()
    base = b"first line\n" * 40 + key + b"\nlast line" * 40
    entries = [
        Whole(base),
        Delta(0, (Copy(0, 440), Copy(460, 400))),
        Delta(1, (Copy(0, 300),)),
        Delta(2, (Copy(9, 90),)),
    ]
    judged = filtered(listed(write_pack(tmp_path, entries)))
    assert judged.hits == [0]
    assert judged.ruled_out == [1, 2, 3]


# The guarantee: what a full read sees in an object is seen, whatever pieces it is made of.

EXAMPLES = [(row.kind.value, text) for row in KINDS for text in row.examples]


def encoded(text: str, *, twice: bool) -> Iterator[tuple[str, bytes]]:
    """Yield what a value looks like, plain and in each encoding and alignment of the decoders, or of two of them."""
    plain = text.encode()
    yield "plain", plain
    for decoder in DECODERS:
        for one in decoder.shapes(shape(plain)):
            yield decoder.name, b"".join(values[:1] for values in one.shape)
    for before in (b"", b" ", b'="') if twice else ():
        once = base64.b64encode(before + plain + b'"\n').rstrip(b"=")
        yield "base64>base64", base64.b64encode(before + once)
        yield "base64>utf-16", once.decode().encode("utf-16-le")
        yield "base64>hex", once.hex().encode()
        yield "utf-16>base64", base64.b64encode(before + text.encode("utf-16-le"))
        yield "utf-16>hex", text.encode("utf-16-le").hex().encode()
        yield "hex>base64", base64.b64encode(before + plain.hex().encode())
        yield "percent>base64", base64.b64encode(before + b"".join(b"%%%02X" % byte for byte in plain))


def cuts(size: int) -> list[int]:
    """Return where to cut size bytes: everywhere in the head and the end of it, here and there in a long body."""
    return sorted({*range(1, min(size, 64)), *range(64, size, 1 + size // 6), size - 1} - {size})


SORTS = ("insert|copy", "copy|insert", "copy|copy")


def cut_everywhere(value: bytes, only: int | None) -> Iterator[Whole | Delta]:
    """Yield pairs of a base and a delta that joins value from two pieces: at each cut, at borders of every sort.

    With only, each cut has a border of one sort: the next has the next, and the first has that of this number.
    """
    for salt, cut in enumerate(cuts(len(value))):
        first, second = value[:cut], value[cut:]
        lead, gap = b"# %d\nname = '" % salt, b"' + '"
        for sort in SORTS if only is None else (SORTS[(only + salt) % 3],):
            head, tail = (b"" if sort == "insert|copy" else first), (b"" if sort == "copy|insert" else second)
            yield Whole(sort.encode() + lead + head + gap + tail + b"'\n")
            at = len(sort) + len(lead)
            one = first if sort == "insert|copy" else Copy(at, len(first))
            two = second if sort == "copy|insert" else Copy(at + len(head) + len(gap), len(second))
            yield Delta(-1, (Copy(0, at), one, two, b"'\n"))


def in_crumbs(value: bytes) -> Iterator[Whole | Delta]:
    """Yield bases and deltas that make value of single bytes: each inserted, each copied, and both in turn."""
    alphabet = bytes(sorted(set(value), key=lambda byte: byte * 101 % 257))
    for salt, steps in enumerate((
        [value[at : at + 1] for at in range(len(value))],
        [Copy(9 + alphabet.index(byte), 1) for byte in value],
        [Copy(9 + alphabet.index(byte), 1) if at % 3 else bytes([byte]) for at, byte in enumerate(value)],
    )):  # fmt: skip
        yield Whole(b"# %6d\n" % salt + alphabet + b"\n")
        yield Delta(-1, (Copy(0, 9), *steps, b"\n"))


def chained(made: Iterable[Whole | Delta], entries: list[Whole | Delta]) -> None:
    """Add to entries; a base of -1 is the entry before."""
    for one in made:
        entries.append(Delta(len(entries) - 1, one.steps) if isinstance(one, Delta) else one)


def seen_whole(contents: Sequence[bytes], prefilter: Prefilter) -> list[int]:
    """Return where a full read sees something."""
    return [position for position, content in enumerate(contents) if prefilter.any(content) or must_open(content[:512])]


@pytest.mark.parametrize("every_sort", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("kind", "text"), EXAMPLES, ids=[f"{kind}-{i}" for i, (kind, _) in enumerate(EXAMPLES)])
def test_no_cut_loses_a_value(
    kind: str, text: str, *, every_sort: bool, tmp_path: Path, filtered: Filtering, prefilter: Prefilter
) -> None:
    entries: list[Whole | Delta] = []
    # What follows in a long value is more of the same.
    for number, (_, value) in enumerate(encoded(text[:160], twice=kind in {"aws-access-key", "aws-temporary-key"})):
        chained(cut_everywhere(value, None if every_sort else number), entries)
        chained(in_crumbs(value), entries)
    written = write_pack(tmp_path, entries)
    judged = filtered(listed(written))
    assert not judged.unread
    assert judged.hits == seen_whole(written.contents, prefilter)
    assert len(judged.hits) > len(entries) // 4


_STEP = st.one_of(
    st.binary(min_size=1, max_size=30),
    st.sampled_from([b"AKIA", b"AK", b"IA", b"Z2345672345", b"QWERTYUIOPASDFGH", b" ", b"\n"]),
    st.tuples(st.integers(0, 400), st.integers(1, 300)),
)


@settings(max_examples=150, deadline=None, suppress_health_check=WHENEVER)
@given(families=st.lists(st.lists(st.tuples(st.integers(0, 9), st.lists(_STEP, max_size=9)), max_size=9), max_size=4))
def test_any_chain_of_deltas_gives_what_a_full_read_gives(
    families: list[list[tuple[int, list[bytes | tuple[int, int]]]]], tmp_path: Path, filtered: Filtering,
    prefilter: Prefilter,
) -> None:  # fmt: skip
    key = make_key_id(random.Random(7)).encode()
    entries: list[Whole | Delta] = []
    sizes: list[int] = []
    for family in families:
        root = len(entries)
        entries.append(Whole(b"text %d of a file\n" % root * 15 + key + b" and more of it" * 9))
        sizes.append(len(entries[-1].content) if isinstance(entries[-1], Whole) else 0)
        for back, steps in family:
            base = max(root, len(entries) - 1 - back)
            taken = [
                step if isinstance(step, bytes) else Copy(min(step[0], sizes[base] - 1), step[1])
                for step in steps
                if isinstance(step, bytes) or sizes[base]
            ]
            fits = [
                Copy(one.offset, min(one.size, sizes[base] - one.offset)) if isinstance(one, Copy) else one
                for one in taken
            ]
            entries.append(Delta(base, tuple(fits)))
            sizes.append(sum(one.size if isinstance(one, Copy) else len(one) for one in fits))
    written = write_pack(tmp_path, entries)
    for whole in (False, True):
        judged = filtered(listed(written), judge=Judge(prefilter.hits, lambda *_: False, whole))
        assert not judged.unread
        # A hit may go beyond an object, into the NUL behind it: then the look at the object finds nothing.
        assert set(judged.hits) >= {n for n, content in enumerate(written.contents) if prefilter.any(content)}
        assert judged.texts == {n: written.contents[n] for n in judged.hits}


def test_no_form_is_longer_than_what_is_looked_at_around_what_is_new() -> None:
    longest = max(sre_parser.parse(form.expression).getwidth()[1] for form in forms())
    assert max(longest, TELLING) <= packs.REACH


def test_a_container_and_what_derives_from_it_are_handed_on(tmp_path: Path, filtered: Filtering) -> None:
    packed, tar, database = io.BytesIO(), io.BytesIO(), tmp_path / "db"
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("member", "text")
    with tarfile.open(fileobj=tar, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("member"))
    connection = sqlite3.connect(database)
    connection.execute("CREATE TABLE t (a)")
    connection.close()
    mail = b"From: a@example.org\nTo: b@example.org\nDate: now\n\ntext"
    samples = [packed.getvalue(), gzip.compress(b"x"), bz2.compress(b"x"), lzma.compress(b"x"), tar.getvalue()]
    samples += [lzma.compress(b"x", lzma.FORMAT_ALONE), database.read_bytes(), mail]
    entries: list[Whole | Delta] = []
    for sample in samples:
        keep = max(len(sample) - 2, min(len(sample), 600))
        entries += [Whole(sample), Delta(len(entries), (Copy(0, keep), b"other"))]
        entries.append(Delta(len(entries) - 1, (b"now it is text", Copy(1, 4))))
    entries.append(Whole(b"plain text, From: nobody"))
    entries.append(Delta(len(entries) - 1, (samples[1], Copy(0, 5))))
    written = write_pack(tmp_path, entries)
    judged = filtered(listed(written))
    assert judged.hits == [n for n, content in enumerate(written.contents) if must_open(content[:512])]
    assert set(judged.hits) >= {*range(0, 3 * len(samples), 3), *range(1, 3 * len(samples), 3)}


def test_a_zip_behind_a_program_is_handed_on_though_the_program_is_its_bases(
    tmp_path: Path, filtered: Filtering
) -> None:
    program, packed = b"#!/bin/sh\n" + b"# nothing to be found\n" * 90, io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("member", "text")
    entries: list[Whole | Delta] = [Whole(program), Whole(program + b"#\n" + packed.getvalue()), Whole(b"")]
    entries.append(Delta(0, (Copy(0, len(program)), packed.getvalue()[:100], packed.getvalue()[100:])))
    assert filtered(listed(write_pack(tmp_path, entries))).hits == [1, 3]


def test_ordinary_text_is_ruled_out(tmp_path: Path, filtered: Filtering) -> None:
    lines = "class AmazonCloudWatchLogsConfiguration: pass\n/usr/share/doc/packages/readme\npassword = changeme\n" * 9
    listing = listed(
        write_pack(tmp_path, [Whole(lines.encode()), Whole(hashlib.sha256(b"x").hexdigest().encode() * 9)])
    )
    assert filtered(listing).ruled_out == [0, 1]


# The same on histories that git packs.


def rotated(rng: random.Random) -> list[bytes]:
    """Return versions of one file in which keys come, go, are replaced, cut, joined, encoded and moved."""
    top, bottom = filler(rng), filler(rng)
    keys = [make_key_id(rng, prefix=prefix) for prefix in ("AKIA", "ASIA", "AKIA", "ABIA", "ACCA", "AKIA")]
    secrets = [make_secret(rng) for _ in range(4)]
    forms = [one for _, one in encoded(keys[5], twice=True)]
    lines = [
        "nothing",
        *(f"key = '{key}'" for key in keys[:3]),
        f"key = '{keys[3][:4]}' + '{keys[3][4:]}'",
        f"key = '{keys[3]}'",
        f"key = '{keys[4][:1]}-{keys[4][1:]}'",
        f"key = '{keys[4]}'",
        f"note = '{secrets[0]}'\naws_secret_access_key = ''",
        f"note = ''\naws_secret_access_key = '{secrets[0]}'",
        *(f"aws_secret_access_key = '{secret}'" for secret in secrets[1:]),
        f"aws_secret_access_key = '{secrets[1][:20]}' + '{secrets[1][20:]}'",
        *(form.decode("latin-1") for form in forms[:: max(1, len(forms) // 25)]),
    ]
    return [f"{top}{line}\n{bottom}".encode("latin-1") for line in lines]


@pytest.mark.parametrize("packing", ["aggressive", "reference deltas", "several packs", "shallow chains"])
def test_what_a_full_read_sees_in_a_generated_history_is_seen(
    packing: str, tmp_path: Path, filtered: Filtering, prefilter: Prefilter
) -> None:
    folder = tmp_path / "r"
    folder.mkdir()
    git(folder, "init", "-q")
    for number, content in enumerate(rotated(random.Random(packing))):
        (folder / "config.py").write_bytes(content)
        (folder / f"copy{number % 3}.py").write_bytes(content[: len(content) - number])
        git(folder, "add", ".")
        git(folder, "commit", "-q", "-m", "change")
        if packing == "several packs" and number % 9 == 8:
            git(folder, "repack", "-dq")
    match packing:
        case "aggressive":
            git(folder, "gc", "-q", "--aggressive")
        case "reference deltas":
            git(folder, "-c", "repack.useDeltaBaseOffset=false", "repack", "-adfq")
        case "several packs":
            git(folder, "repack", "-dq")
        case _:
            git(folder, "repack", "-adfq", "--depth=2", "--window=50")
    held = {name for name, content in contents(folder).items() if prefilter.any(content)}
    found: set[str] = set()
    ruled_out = 0
    packs_met = list(folder.glob(".git/objects/pack/*.idx"))
    for index in packs_met:
        listing = list_pack(index.with_suffix(".pack"), index, width=20)
        assert isinstance(listing, PackListing)
        judged = filtered(listing)
        assert not judged.unread
        found |= hit_ids(listing, judged)
        ruled_out += len(judged.ruled_out)
    assert (len(packs_met) > 1) == (packing == "several packs")
    assert len(held) > 30
    assert held == found
    assert ruled_out > 20


# What is damaged.


def test_a_damaged_entry_and_all_that_derives_from_it_are_left_to_git(tmp_path: Path, filtered: Filtering) -> None:
    entries = [
        Whole(b"plain " * 40),
        Delta(0, (Copy(0, 60), b"1", Copy(70, 9))),
        Delta(1, (Copy(0, 60), b"2")),
        Whole(b"z" * 80),
        Delta(0, (Copy(60, 90), b"3")),
    ]
    written = write_pack(tmp_path, entries)
    stored = bytearray(written.pack.read_bytes())
    stored[written.offsets[1] - 3] ^= 0x10
    written.pack.write_bytes(stored)
    for whole in (False, True):
        judged = filtered(listed(written), judge=Judge(lambda data: [len(data)], lambda head, _: bool(head), whole))
        assert judged.unread == [0, 1, 2, 4]
        assert judged.texts == {3: b"z" * 80}


def test_a_base_in_another_pack_is_left_to_git(tmp_path: Path, filtered: Filtering) -> None:
    whole = write_pack(tmp_path, [Whole(b"base " * 30), Delta(0, (Copy(0, 60), b"1"), by_name=True)], name="whole")
    stored = bytearray(whole.pack.read_bytes())
    at = stored.index(whole.ids[0])
    stored[at] ^= 1
    whole.pack.write_bytes(stored)
    listing = listed(whole)
    assert listing.kinds.tolist() == [Kind.BLOB, Kind.UNKNOWN]
    assert filtered(listing).unread == [1]


def test_a_ring_of_deltas_is_left_to_git(tmp_path: Path, filtered: Filtering) -> None:
    entries = [Whole(b"base " * 30), Delta(0, (Copy(0, 60), b"1"), by_name=True), Delta(1, (Copy(0, 9),), by_name=True)]
    written = write_pack(tmp_path, entries)
    stored = written.pack.read_bytes()
    written.pack.unlink()
    written.pack.write_bytes(
        stored[: written.offsets[1]] + stored[written.offsets[1] :].replace(written.ids[0], written.ids[2])
    )
    listing = listed(written)
    assert listing.kinds.tolist() == [Kind.BLOB, Kind.UNKNOWN, Kind.UNKNOWN]
    assert filtered(listing).unread == [1, 2]


def test_what_is_too_large_is_left_to_git_with_what_derives_from_it(tmp_path: Path, filtered: Filtering) -> None:
    large = b"\0" * (kernels.LARGEST + 1)
    grown = tuple(Copy(0, 60_000) for _ in range(kernels.LARGEST // 60_000 + 1))
    entries = [Whole(large), Delta(0, (Copy(0, 9), b"x")), Whole(b"small"), Whole(b"." * 60_000), Delta(3, grown)]
    judged = filtered(listed(write_pack(tmp_path, entries)))
    assert judged.unread == [0, 1, 4]
    assert judged.ruled_out == [2, 3]


@pytest.mark.parametrize("whole", [False, True])
def test_what_is_still_a_base_stays_and_what_finds_no_room_is_left_to_git(
    whole: bool, tmp_path: Path, filtered: Filtering, prefilter: Prefilter, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(8)
    monkeypatch.setattr(packs, "_ARENA", 40_000)
    monkeypatch.setattr(packs, "_BATCH", 10_000)
    entries: list[Whole | Delta] = []
    for family in range(12):
        root = len(entries)
        key = make_key_id(rng).encode() if family % 3 == 0 else b"no key at all"
        entries.append(Whole(rng.randbytes(2_000) + key + rng.randbytes(2_000)))
        entries += [Delta(root + rng.randrange(len(entries) - root), (Copy(0, 4_000),)) for _ in range(9)]
    entries += [Whole(rng.randbytes(9_000)), Whole(rng.randbytes(39_000)), Whole(rng.randbytes(39_999)), Whole(b"end")]
    written = write_pack(tmp_path, entries)
    judged = filtered(listed(written), judge=Judge(prefilter.hits, lambda *_: False, whole))
    assert judged.unread == ([len(entries) - 2] if whole else [len(entries) - 3, len(entries) - 2])
    assert judged.texts == {n: text for n, text in enumerate(written.contents) if n in judged.hits}
    seen = {n for n, text in enumerate(written.contents) if prefilter.any(text)} - {*judged.unread}
    assert set(judged.hits) >= seen


def test_an_offset_beyond_two_gigabytes_stands_in_the_second_table() -> None:
    near = np.array([12, (1 << 31) | 1, 1 << 31], ">u4")
    far = np.array([5 << 30, 6 << 30], ">u8").view(np.uint8)
    offsets = packindex._offsets(near, far)
    assert offsets is not None
    assert offsets.tolist() == [12, 6 << 30, 5 << 30]
    assert packindex._offsets(near, far[:8]) is None


@pytest.mark.parametrize("what", ["empty pack", "cut pack", "version 1", "cut index", "other pack", "no file"])
def test_what_is_no_pack_and_index_is_said(what: str, tmp_path: Path) -> None:
    written = write_pack(tmp_path, [Whole(b"a")])
    match what:
        case "empty pack":
            written.pack.write_bytes(b"")
        case "cut pack":
            written.pack.write_bytes(written.pack.read_bytes()[:-25])
        case "version 1":
            written.index.write_bytes(written.index.read_bytes()[8:])
        case "cut index":
            written.index.write_bytes(written.index.read_bytes()[:1050])
        case "other pack":
            write_pack(tmp_path, [Whole(b"b")], name="other").pack.rename(written.pack)
        case _:
            written.pack.unlink()
    assert isinstance(list_pack(written.pack, written.index, width=20), Unfilterable)


def test_a_pack_of_no_objects_has_no_hits(tmp_path: Path, filtered: Filtering) -> None:
    listing = listed(write_pack(tmp_path, []))
    assert filtered(listing, processes=2).hits == []


@settings(max_examples=150, deadline=None, suppress_health_check=WHENEVER)
@given(flips=st.lists(st.tuples(st.booleans(), st.integers(0, 1 << 20), st.integers(1, 255)), min_size=1, max_size=6))
def test_no_flipped_byte_makes_it_crash(
    flips: list[tuple[bool, int, int]], tmp_path: Path, filtered: Filtering
) -> None:
    key = make_key_id(random.Random(6)).encode()
    base = b"some text that is long enough to be copied from " * 3
    entries = [
        Whole(base),
        Delta(0, (Copy(0, 60), key, Copy(70, 9))),
        Delta(1, (Copy(0, 60), b"2", Copy(61, 25)), by_name=True),
        Whole(b"tree", 2),
        Whole(b"z" * 3000),
        Delta(4, (Copy(0, 2900), b"AKIA", Copy(2, 19))),
    ]
    written = write_pack(tmp_path, entries)
    stored, table = bytearray(written.pack.read_bytes()), bytearray(written.index.read_bytes())
    for in_index, where, change in flips:
        target = table if in_index else stored
        target[where % len(target)] ^= change
    written.pack.write_bytes(stored)
    written.index.write_bytes(table)
    listing = list_pack(written.pack, written.index, width=20)
    if isinstance(listing, PackListing):
        judged = filtered(listing)
        assert sorted(judged.ruled_out + judged.hits + judged.unread) == listing.besides_trees().tolist()


class Kernel:
    """One way to run the kernel, on arrays of its own."""

    def __init__(self, rebuild: Callable[..., int], bases: Sequence[int], reach: int) -> None:
        self.rebuild, self.reach = rebuild, reach
        self.bases = np.array(bases, np.int32)
        self.left = np.bincount(self.bases[self.bases >= 0], minlength=len(bases)).astype(np.int32)
        self.where, self.sizes = np.zeros(len(bases), np.int64), np.zeros(len(bases), np.int64)
        self.arena, self.text = np.zeros(4_000, np.uint8), np.zeros(4_000, np.uint8)
        self.at, self.flags, self.ends = (
            np.zeros(len(bases), np.int64),
            np.zeros(len(bases), np.uint8),
            np.zeros(2, np.int64),
        )

    def run(self, entries: Sequence[bytes]) -> tuple[object, ...]:
        """Return all that the kernel says of entries."""
        sizes = np.array([len(one) for one in entries], np.int64)
        ends = np.cumsum(sizes)
        source = np.frombuffer(b"".join(entries) + bytes(kernels.SLACK), np.uint8)
        done = self.rebuild(
            source, ends - sizes, ends, 0, ends.size, self.bases, self.left, self.where, self.sizes, self.arena,
            self.arena.size, self.reach, self.text, self.text.size, self.at, self.flags, self.ends,
        )  # fmt: skip
        written, told = self.ends.tolist()
        assert 0 <= written <= self.arena.size
        assert 0 <= told <= self.text.size
        return (
            done, self.arena[:written].tobytes(), self.text[:told].tobytes(), self.at[:done].tolist(),
            self.flags.tolist(), self.left.tolist(), self.where.tolist(), self.sizes.tolist(),
        )  # fmt: skip


@settings(max_examples=200, deadline=None, suppress_health_check=WHENEVER)
@given(data=st.data(), reach=st.sampled_from([-1, 0, 3, 192]))
def test_compiled_and_plain_kernels_agree_on_any_bytes(data: st.DataObject, reach: int, kernel_cache: Path) -> None:
    base = bytes(range(60))
    sound = st.lists(
        st.one_of(
            st.binary(min_size=1, max_size=9),
            st.tuples(st.integers(0, 59), st.integers(1, 60)).map(lambda one: Copy(one[0], min(one[1], 60 - one[0]))),
        ),
        max_size=5,
    ).map(lambda steps: instructions(steps, base)[0])
    entries = [base, *data.draw(st.lists(sound | st.binary(max_size=40), min_size=1, max_size=5))]
    bases = [-1, *(data.draw(st.integers(-1, place)) for place in range(len(entries) - 1))]
    outcomes = [
        Kernel(rebuild, bases, reach).run(entries)
        for rebuild in (kernels.compiled(kernel_cache).rebuild, kernels.rebuild)
    ]
    assert outcomes[0] == outcomes[1]


class Entries:
    """Some entries of a pack, as the kernel that inflates them is given them."""

    def __init__(self, *texts: bytes, behind: Mapping[int, bytes] | None = None) -> None:
        more = behind or {}
        entries = [bytes(at) + zlib.compress(text) + more.get(at, b"") for at, text in enumerate(texts)]
        self.pack = np.frombuffer(bytearray(b"".join(entries)), np.uint8)
        sizes = np.array([len(one) for one in entries], np.int64)
        self.ends = np.cumsum(sizes)
        self.begins, self.skips = self.ends - sizes, np.arange(len(entries), dtype=np.uint8)
        self.lengths = np.array([len(text) for text in texts], np.int64)
        self.held = self.pack.size
        self.behind: list[int] = []

    def checks(self) -> Sequence[int]:
        """Return the checksums that an index of these bytes has."""
        return [zlib.crc32(self.pack[low:high]) for low, high in zip(self.begins, self.ends, strict=True)]

    def inflated(self, kernel: Callable[..., int], checks: Sequence[int]) -> tuple[list[bytes], list[int]]:
        """Return what each entry inflates to, and which are left to git."""
        count = len(checks)
        into, used = np.zeros(20_000, np.uint8), np.zeros(1, np.int64)
        starts, stops, flags = np.zeros(count, np.int64), np.zeros(count, np.int64), np.zeros(count, np.uint8)
        size = kernel(
            self.pack.ctypes.data, self.held, self.begins, self.ends, self.skips, self.lengths,
            np.array(checks, np.int64), count, into.ctypes.data, starts, stops, flags, used, used.ctypes.data,
        )  # fmt: skip
        assert size == stops[-1]
        self.behind = np.flatnonzero(flags & kernels.BEHIND).tolist()
        places = zip(starts.tolist(), stops.tolist(), strict=True)
        return [into[low:high].tobytes() for low, high in places], np.flatnonzero(flags & kernels.UNREAD).tolist()


def test_compiled_and_plain_kernels_inflate_what_is_sound_and_leave_the_rest_to_git(kernel_cache: Path) -> None:
    texts = [b"", b"a", b"text " * 500, random.Random(3).randbytes(3000), b"", b"last"]

    def damaged(at: int) -> Entries:
        entries = Entries(*texts)
        entries.pack[entries.ends[at] - 9] ^= 1
        return entries

    def claiming(at: int, length: int) -> Entries:
        entries = Entries(*texts)
        entries.lengths[at] = length
        return entries

    short, headed = Entries(*texts), Entries(*texts)
    short.held -= 1
    headed.skips[1] = 200
    sound = Entries(*texts).checks()
    for kernel in (kernels.compiled(kernel_cache).inflate, kernels.inflate):
        assert Entries(*texts).inflated(kernel, sound) == (texts, [])
        assert damaged(3).inflated(kernel, sound)[1] == [3], "not what the index has a checksum of"
        assert damaged(3).inflated(kernel, damaged(3).checks())[1] == [3], "stored as it is, but no sound stream"
        assert short.inflated(kernel, sound)[1] == [5], "the pack is shorter than it was"
        assert headed.inflated(kernel, sound)[1] == [1], "a header longer than its entry"
        for length in (len(texts[2]) - 1, len(texts[2]) + 1, kernels.LARGEST + 1, (1 << 32) - 1):
            without = [*texts[:2], b"", *texts[3:]]
            assert claiming(2, length).inflated(kernel, sound) == (without, [2])
        gaps = Entries(*texts, behind={1: b"\0", 5: b"more"})
        for checks in (gaps.checks(), sound):
            assert gaps.inflated(kernel, checks) == ([texts[0], b"", *texts[2:5], b""], [1, 5])
            assert gaps.behind == [1, 5], "whichever bytes the index has a checksum of"


@settings(max_examples=200, deadline=None, suppress_health_check=WHENEVER)
@given(draws=st.lists(st.integers(0, 1 << 20), max_size=40), shuffle=st.randoms(use_true_random=False))
def test_every_object_stands_behind_its_base_and_families_together(
    draws: list[int], shuffle: random.Random, kernel_cache: Path
) -> None:
    forest = [min(draw % (place + 2) - 1, place - 1) if draw % 5 else -1 for place, draw in enumerate(draws)]
    # A base may stand anywhere in a pack.
    places = list(range(len(draws)))
    shuffle.shuffle(places)
    bases = np.full(len(draws), -1, np.int32)
    for place, base in enumerate(forest):
        bases[places[place]] = -1 if base < 0 else places[base]
    outcomes = []
    for order in (kernels.compiled(kernel_cache).order, kernels.order):
        ordered = np.zeros(len(draws), np.int32)
        assert order(bases, len(draws), np.zeros(4 * len(draws), np.int32), ordered) == len(draws)
        outcomes.append(ordered.tolist())
    assert outcomes[0] == outcomes[1]
    place = {position: number for number, position in enumerate(outcomes[0])}
    assert len(place) == len(draws)
    roots = [position for position in outcomes[0] if bases[position] < 0]
    assert roots == sorted(roots)
    # How many texts are needed at once: the largest family last, so that it is the logarithm of a family's size.
    waiting: dict[int, int] = {}
    most = 0
    for position in outcomes[0]:
        base = int(bases[position])
        if base >= 0:
            assert place[base] < place[position]
            waiting[base] -= 1
            if not waiting[base]:
                del waiting[base]
        if children := int((bases == position).sum()):
            waiting[position] = children
        most = max(most, len(waiting))
    assert most <= max(1, len(draws)).bit_length()


def test_what_a_process_that_ends_early_leaves_is_left_to_git(
    tmp_path: Path, kernel_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packs, "_SHARE", 200)
    monkeypatch.setattr(packs, "_PIECE", 1)
    monkeypatch.setattr(packs, "_BATCH", 100)
    listing = listed(write_pack(tmp_path, [Whole(b"%090d" % i) for i in range(60)]))
    parent, calls = os.getpid(), 0

    def dying(data: memoryview) -> list[int]:
        nonlocal calls
        calls += 1
        if os.getpid() != parent and calls == 12:
            os._exit(1)
        return [len(data)]

    asked = [(listing, listing.besides_trees())]
    with filtering(asked, Judge(dying, lambda *_: False), kernel_cache, processes=2) as pieces:
        judged = gathered([*pieces])
    assert sorted(judged.hits + judged.ruled_out + judged.unread) == [*range(60)]
    assert judged.hits
    assert judged.unread


def everything(data: memoryview) -> list[int]:
    return [len(data)] if len(data) else []


def noisy(folder: Path) -> PackListing:
    rng = random.Random(1)
    return listed(write_pack(folder, [Whole(rng.randbytes(3_000_000)) for _ in range(4)]))


def test_what_a_process_that_ends_in_the_middle_of_a_message_leaves_is_left_to_git(
    tmp_path: Path, kernel_cache: Path
) -> None:
    listing = noisy(tmp_path)
    judge = Judge(everything, lambda *_: False)
    with filtering([(listing, listing.besides_trees())], judge, kernel_cache, processes=2) as pieces:
        time.sleep(1)  # they fill their pipes, and wait
        for process in multiprocessing.active_children():
            process.kill()
            process.join()
        judged = gathered([*pieces])
    assert judged.unread == [0, 1, 2, 3]


_KILLED = """
import multiprocessing, os, signal, sys, time
from pathlib import Path
from tests.test_packs import Judge, everything, filtering, noisy
listing = noisy(Path(sys.argv[1]))
with filtering([(listing, listing.besides_trees())], Judge(everything, max), Path(sys.argv[2]), processes=2):
    time.sleep(1)
    print(*[process.pid for process in multiprocessing.active_children()], flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_processes_end_with_the_one_that_began_them(tmp_path: Path, kernel_cache: Path) -> None:
    command = [sys.executable, "-c", _KILLED, str(tmp_path), str(kernel_cache)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[1]) as process:
        assert process.stdout is not None
        left = [Path("/proc", pid) for pid in process.stdout.readline().decode().split()]
    assert len(left) == 2
    until = time.monotonic() + 120
    while any(each.exists() for each in left) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(each.exists() for each in left)


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("emptied", [False, True])
def test_what_stands_in_a_pack_that_vanishes_is_left_to_git(
    processes: int, emptied: bool, tmp_path: Path, filtered: Filtering
) -> None:
    listing = listed(write_pack(tmp_path, [Whole(b"%d" % i) for i in range(8)]))
    listing.pack.rename(tmp_path / "away")
    if emptied:
        listing.pack.touch()
    assert filtered(listing, processes=processes).unread == [*range(8)]


def test_an_entry_that_claims_less_than_it_holds_is_left_to_git(tmp_path: Path, filtered: Filtering) -> None:
    noise = random.Random(9).randbytes(90_000)
    written = write_pack(tmp_path, [Whole(noise), Whole(b"fine")])
    assert not filtered(listed(written)).unread
    listing = listed(written)
    lying = dataclasses.replace(listing, lengths=listing.lengths - np.array([9, 0], np.uint32))
    assert filtered(lying).unread == [0]


def test_without_numba_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jit.compiled.cache_clear()
    monkeypatch.setitem(sys.modules, "numba", None)
    listing = listed(write_pack(tmp_path, [Whole(b"text")]))
    asked = [(listing, listing.besides_trees())]
    with (
        pytest.raises(NoCompilerError, match="numba is missing"),
        filtering(asked, Judge(lambda _: [], lambda *_: False), tmp_path / "k"),
    ):
        pass
