"""The delta filter loses no key that stands in at most two pieces, and trusts nothing in a pack."""

from __future__ import annotations

import base64
import bz2
import dataclasses
import gzip
import hashlib
import io
import lzma
import os
import random
import sqlite3
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.builders import make_key_id, make_secret
from tests.packwriter import Copy, Delta, Whole, Written, instructions, write_pack

from firedamp.scanner import jit, kernels, packindex, packs
from firedamp.scanner.containers import MAGICS, PLAIN
from firedamp.scanner.decode import DECODERS
from firedamp.scanner.keys import KINDS, shape
from firedamp.scanner.packindex import Kind, PackListing, Unfilterable, list_pack
from firedamp.scanner.packs import Filtered, suspects
from firedamp.scanner.prefilter import Prefilter
from firedamp.scanner.seeds import CONTAINERS, Seeds


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


def filtered(listing: PackListing, cache: Path, using: Seeds | None = None, processes: int = 1) -> Filtered:
    result = suspects(listing, cache_folder=cache, processes=processes, seeds=using)
    assert isinstance(result, Filtered)
    return result


def suspect_ids(listing: PackListing, cache: Path, using: Seeds | None = None) -> set[str]:
    return {row.tobytes().hex() for row in listing.ids(filtered(listing, cache, using).suspects)}


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
def test_a_key_joined_by_copies_alone_is_a_suspect(case: str, tmp_path: Path, kernel_cache: Path) -> None:
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
    assert held <= suspect_ids(listing, kernel_cache)


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
def test_other_forms_of_packs_are_listed_and_filtered(form: str, tmp_path: Path, kernel_cache: Path) -> None:
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
    assert held <= suspect_ids(listing, kernel_cache)
    assert filtered(listing, kernel_cache).ruled_out.size > 0


def test_a_lone_secret_needs_a_context_word_in_what_it_was_derived_from(tmp_path: Path, kernel_cache: Path) -> None:
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
    assert filtered(listed(written), kernel_cache).suspects.tolist() == [1]


def test_the_result_does_not_depend_on_how_many_processes_share_the_work(tmp_path: Path, kernel_cache: Path) -> None:
    rng = random.Random(3)
    entries: list[Whole | Delta] = []
    for i in range(60):
        key = make_key_id(rng).encode() if i % 7 == 0 else b""
        entries.append(Whole(filler(rng).encode() + key))
        entries.append(Delta(2 * i, (Copy(0, 50), b"more", Copy(100, 30))))
    listing = listed(write_pack(tmp_path, entries))
    one, three = (filtered(listing, kernel_cache, processes=n) for n in (1, 3))
    assert one.suspects.tolist() == three.suspects.tolist()
    assert one.ruled_out.tolist() == three.ruled_out.tolist()
    assert (one.inflated, one.damaged) == (three.inflated, three.damaged)
    assert one.damaged == 0
    assert one.suspects.size == 18


def test_only_what_is_asked_for_is_judged_but_what_it_derives_from_is_read(tmp_path: Path, kernel_cache: Path) -> None:
    key = make_key_id(random.Random(4)).encode()
    entries = [Whole(b"x" * 90 + key), Delta(0, (Copy(0, 110), b"!")), Whole(key), Whole(b"y" * 50)]
    listing = listed(write_pack(tmp_path, entries))
    wanted = np.array([False, True, False, True])
    result = suspects(listing, cache_folder=kernel_cache, wanted=wanted)
    assert isinstance(result, Filtered)
    assert result.suspects.tolist() == [1]
    assert result.ruled_out.size == 1


def test_a_real_marker_byte_only_adds_suspects(tmp_path: Path, kernel_cache: Path) -> None:
    key = make_key_id(random.Random(5)).encode()
    entries = [Whole(b"\xff\xff" + key + b"\xff"), Whole(b"\xff" * 64), Delta(1, (Copy(0, 9), key, Copy(2, 9)))]
    listing = listed(write_pack(tmp_path, entries))
    assert filtered(listing, kernel_cache).suspects.tolist() == [0, 2]


# The guarantee: no value that stands in at most two pieces is lost.

EXAMPLES = [(row.kind.value, text) for row in KINDS for text in row.examples]
# Where a head of four characters is cut in a notation whose numbers differ in length, nothing is left to find.
_NOT_COVERED = {(kind, name) for kind in ("aws-bedrock-key", "aws-appsync-key") for name in ("decimal", "entity")}


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


def cut_everywhere(value: bytes) -> tuple[list[Whole | Delta], list[tuple[int, int, str]]]:
    """Return a pack in which each delta joins value from two pieces, and (position, cut, sort of border) of each."""
    entries: list[Whole | Delta] = []
    joined: list[tuple[int, int, str]] = []
    salt = 0
    for cut in cuts(len(value)):
        first, second = value[:cut], value[cut:]
        lead, gap = b"# %d\nname = '" % (salt := salt + 1), b"' + '"
        for sort in ("insert|copy", "copy|insert", "copy|copy"):
            base = len(entries)
            head, tail = (b"" if sort == "insert|copy" else first), (b"" if sort == "copy|insert" else second)
            entries.append(Whole(sort.encode() + lead + head + gap + tail + b"'\n"))
            at = len(sort) + len(lead)
            one = first if sort == "insert|copy" else Copy(at, len(first))
            two = second if sort == "copy|insert" else Copy(at + len(head) + len(gap), len(second))
            joined.append((len(entries), cut, sort))
            entries.append(Delta(base, (Copy(0, at), one, two, b"'\n")))
    return entries, joined


@pytest.mark.parametrize(("kind", "text"), EXAMPLES, ids=[f"{kind}-{i}" for i, (kind, _) in enumerate(EXAMPLES)])
def test_no_cut_loses_a_value(kind: str, text: str, tmp_path: Path, kernel_cache: Path) -> None:
    lost = []
    entries: list[Whole | Delta] = []
    expected: list[tuple[int, str]] = []
    # What follows in a long value is more of the same.
    for name, value in encoded(text[:160], twice=kind in {"aws-access-key", "aws-temporary-key"}):
        if (kind, name) in _NOT_COVERED:
            continue
        made, joined = cut_everywhere(value)
        begin = len(entries)
        entries += [Delta(one.base + begin, one.steps) if isinstance(one, Delta) else one for one in made]
        expected += [(begin + position, f"{name} {sort} at {cut}") for position, cut, sort in joined]
    listing = listed(write_pack(tmp_path, entries))
    found = set(filtered(listing, kernel_cache).suspects.tolist())
    lost = [what for position, what in expected if position not in found]
    assert not lost


def test_a_container_and_what_derives_from_it_are_read_in_full(tmp_path: Path, kernel_cache: Path) -> None:
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
    samples += [lzma.compress(b"x", lzma.FORMAT_ALONE), database.read_bytes(), mail, "key".encode("utf-16")]
    entries: list[Whole | Delta] = []
    for sample in samples:
        entries += [Whole(sample), Delta(len(entries), (Copy(0, len(sample) - 2), b"other"))]
    entries.append(Whole(b"plain text, From: nobody"))
    listing = listed(write_pack(tmp_path, entries))
    assert filtered(listing, kernel_cache).suspects.tolist() == list(range(2 * len(samples)))


def test_every_format_that_must_be_opened_has_a_seed() -> None:
    assert {name for name, _ in MAGICS} - PLAIN <= set(CONTAINERS)


def test_ordinary_text_is_ruled_out(tmp_path: Path, kernel_cache: Path) -> None:
    lines = "class AmazonCloudWatchLogsConfiguration: pass\n/usr/share/doc/packages/readme\npassword = changeme\n" * 9
    listing = listed(
        write_pack(tmp_path, [Whole(lines.encode()), Whole(hashlib.sha256(b"x").hexdigest().encode() * 9)])
    )
    assert filtered(listing, kernel_cache).ruled_out.size == 2


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
def test_what_a_full_read_finds_in_a_generated_history_is_a_suspect(
    packing: str, tmp_path: Path, kernel_cache: Path
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
    prefilter = Prefilter()
    held = {name for name, content in contents(folder).items() if prefilter.any(content)}
    found: set[str] = set()
    ruled_out = 0
    packs_met = list(folder.glob(".git/objects/pack/*.idx"))
    for index in packs_met:
        listing = list_pack(index.with_suffix(".pack"), index, width=20)
        assert isinstance(listing, PackListing)
        found |= suspect_ids(listing, kernel_cache)
        ruled_out += filtered(listing, kernel_cache).ruled_out.size
    assert (len(packs_met) > 1) == (packing == "several packs")
    assert len(held) > 30
    assert held <= found
    assert ruled_out > 20


# What is damaged.


def test_a_damaged_entry_and_all_that_derives_from_it_are_read_by_git(tmp_path: Path, kernel_cache: Path) -> None:
    entries = [
        Whole(b"plain " * 40),
        Delta(0, (Copy(0, 60), b"1", Copy(70, 9))),
        Delta(1, (Copy(0, 60), b"2")),
        Whole(b"z" * 80),
    ]
    written = write_pack(tmp_path, entries)
    stored = bytearray(written.pack.read_bytes())
    stored[written.offsets[1] - 3] ^= 0x10
    written.pack.write_bytes(stored)
    result = filtered(listed(written), kernel_cache)
    assert result.suspects.tolist() == [0, 1, 2]
    assert result.damaged == 3


def test_a_base_in_another_pack_is_left_to_git(tmp_path: Path, kernel_cache: Path) -> None:
    whole = write_pack(tmp_path, [Whole(b"base " * 30), Delta(0, (Copy(0, 60), b"1"), by_name=True)], name="whole")
    stored = bytearray(whole.pack.read_bytes())
    at = stored.index(whole.ids[0])
    stored[at] ^= 1
    whole.pack.write_bytes(stored)
    listing = listed(whole)
    assert listing.kinds.tolist() == [Kind.BLOB, Kind.UNKNOWN]
    assert filtered(listing, kernel_cache).suspects.tolist() == [1]


def test_a_ring_of_deltas_is_left_to_git(tmp_path: Path, kernel_cache: Path) -> None:
    entries = [Whole(b"base " * 30), Delta(0, (Copy(0, 60), b"1"), by_name=True), Delta(1, (Copy(0, 9),), by_name=True)]
    written = write_pack(tmp_path, entries)
    stored = written.pack.read_bytes()
    written.pack.unlink()
    written.pack.write_bytes(
        stored[: written.offsets[1]] + stored[written.offsets[1] :].replace(written.ids[0], written.ids[2])
    )
    listing = listed(written)
    assert listing.kinds.tolist() == [Kind.BLOB, Kind.UNKNOWN, Kind.UNKNOWN]
    assert filtered(listing, kernel_cache).suspects.tolist() == [1, 2]


def test_what_is_too_large_to_inflate_here_is_read_by_git(tmp_path: Path, kernel_cache: Path) -> None:
    large = b"\0" * (packs.LARGEST + 1)
    written = write_pack(tmp_path, [Whole(large), Delta(0, (Copy(0, 9), b"x")), Whole(b"small")])
    result = filtered(listed(written), kernel_cache)
    assert result.suspects.tolist() == [0, 1]
    assert result.inflated < packs.LARGEST


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


def test_a_pack_of_no_objects_has_no_suspects(tmp_path: Path, kernel_cache: Path) -> None:
    listing = listed(write_pack(tmp_path, []))
    assert filtered(listing, kernel_cache, processes=2).suspects.size == 0


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(flips=st.lists(st.tuples(st.booleans(), st.integers(0, 1 << 20), st.integers(1, 255)), min_size=1, max_size=6))
def test_no_flipped_byte_makes_it_crash(flips: list[tuple[bool, int, int]], tmp_path: Path, kernel_cache: Path) -> None:
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
        result = filtered(listing, kernel_cache)
        assert result.ruled_out.size + result.suspects.size == listing.besides_trees().size


def _delta_batch(deltas: Sequence[bytes]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    sizes = np.array([len(one) for one in deltas], np.int64)
    ends = np.cumsum(sizes)
    return np.frombuffer(b"".join(deltas) + bytes(8), np.uint8), ends - sizes, ends


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(deltas=st.lists(st.binary(max_size=40), min_size=1, max_size=5), data=st.data())
def test_compiled_and_plain_kernels_agree_on_any_bytes(
    deltas: list[bytes], data: st.DataObject, kernel_cache: Path
) -> None:
    source, starts, ends = _delta_batch(deltas)
    is_delta = np.array(data.draw(st.lists(st.booleans(), min_size=len(deltas), max_size=len(deltas)))).view(np.uint8)
    compiled = kernels.compiled(kernel_cache)
    outcomes = []
    for kernel, runs in ((compiled.inserted, compiled.runs), (kernels.inserted, kernels.runs)):
        text = np.zeros(source.size + 2 * len(deltas), np.uint8)
        at, flags = np.zeros(len(deltas), np.int64), np.zeros(len(deltas), np.uint8)
        size = kernel(source, starts, ends, is_delta, starts.size, text, at, kernels.tables()[1], flags)
        assert size <= text.size
        runs(text, size, at, starts.size, *kernels.tables(), flags)
        outcomes.append((size, text.tobytes(), at.tolist(), flags.tolist()))
    assert outcomes[0] == outcomes[1]


def test_compiled_and_plain_kernels_agree_on_text(kernel_cache: Path, rng: random.Random) -> None:
    base = filler(rng).encode()
    key, secret = make_key_id(rng).encode(), make_secret(rng).encode()
    inserts = [key, key[4:], secret, key.hex().encode(), base64.b64encode(key), b"", b"da2-" + b"a1" * 13, base[:300]]
    inserts += [base64.b64encode(base[:90]), base64.b64encode(rng.randbytes(120)), b"CamelCaseName/with/a/path" * 3]
    deltas = [instructions((Copy(0, 30), one, Copy(70000 % 90, 9), one, Copy(5, 70)), base)[0] for one in inserts]
    source, starts, ends = _delta_batch([base, *deltas, b"".join(inserts), base + key])
    is_delta = np.array([False, *[True] * len(deltas), False, False]).view(np.uint8)
    compiled = kernels.compiled(kernel_cache)
    outcomes = []
    for kernel, runs in ((compiled.inserted, compiled.runs), (kernels.inserted, kernels.runs)):
        text = np.zeros(source.size + 2 * starts.size, np.uint8)
        at, flags = np.zeros(starts.size, np.int64), np.zeros(starts.size, np.uint8)
        size = kernel(source, starts, ends, is_delta, starts.size, text, at, kernels.tables()[1], flags)
        runs(text, size, at, starts.size, *kernels.tables(), flags)
        outcomes.append((size, text.tobytes(), at.tolist(), flags.tolist()))
    assert outcomes[0] == outcomes[1]
    assert len(set(outcomes[0][3])) > 2


def test_what_a_process_that_ends_early_leaves_is_read_in_full(tmp_path: Path, kernel_cache: Path) -> None:
    listing = listed(write_pack(tmp_path, [Whole(b"%d" % i) for i in range(8)]))
    compiled = kernels.compiled(kernel_cache)
    parent = os.getpid()

    def dying(*arguments: object) -> int:
        if os.getpid() != parent:
            os._exit(1)
        return compiled.inserted(*arguments)

    asked = [(listing, listing.besides_trees())]
    changed = dataclasses.replace(compiled, inserted=dying)
    work = packs._Work(asked, packs._database(kernel_cache, None), changed)
    with packs._working(work, [*packs._shares(0, *asked[0])], 2) as parts:
        assert [part.suspects.tolist() for part in parts] == [[*range(8)]]


@pytest.mark.parametrize("processes", [1, 2])
def test_what_stands_in_a_pack_that_vanishes_is_left_to_git(processes: int, tmp_path: Path, kernel_cache: Path) -> None:
    listing = listed(write_pack(tmp_path, [Whole(b"%d" % i) for i in range(8)]))
    listing.pack.unlink()
    result = filtered(listing, kernel_cache, processes=processes)
    assert (result.suspects.tolist(), result.damaged) == ([*range(8)], 8)


def test_an_entry_that_claims_less_than_it_holds_is_damaged(tmp_path: Path, kernel_cache: Path) -> None:
    noise = random.Random(9).randbytes(40000)
    written = write_pack(tmp_path, [Whole(noise), Whole(b"fine")])
    good = filtered(listed(written), kernel_cache)
    assert good.damaged == 0
    listing = listed(written)
    lying = dataclasses.replace(listing, lengths=listing.lengths - np.array([9, 0], np.uint32))
    assert filtered(lying, kernel_cache).damaged == 1


def test_without_numba_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jit.compiled.cache_clear()
    monkeypatch.setitem(sys.modules, "numba", None)
    listing = listed(write_pack(tmp_path, [Whole(b"text")]))
    assert suspects(listing, cache_folder=tmp_path / "k") == Unfilterable("numba is missing")
