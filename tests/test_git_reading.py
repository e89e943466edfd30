"""The reader of git's object stream, on small windows: pieces, liars, containers, and errors on the way."""

from __future__ import annotations

import random
import re
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.repositories import Repository

from firedamp.scanner.fetch import without_user
from firedamp.scanner.gitfiles import Content, pieces, read
from firedamp.scanner.idset import IdSet, empty, from_hex
from firedamp.scanner.objects import ObjectAccess, find, unquote
from firedamp.scanner.reading import Hits, Part, Reader, Share, Unread
from firedamp.scanner.source import Blob
from firedamp.storage.errors import UsageFailure
from firedamp.storage.records import Outcome, Skipped


def hits(window: memoryview) -> Sequence[int]:
    return [found.end() for found in re.finditer(rb"KEY\d+", window)]


def no_container(_head: bytes, _tail: bytes) -> bool:
    return False


class Shelf:
    """A bare repository that takes loose objects, honest or not. loose: they are read without git."""

    def __init__(self, path: Path, *, loose: bool = False) -> None:
        self.repository = Repository(path, bare=True)
        self.loose = loose

    def add(self, content: bytes, kind: str = "blob") -> str:
        return self.repository.git("hash-object", "-w", "-t", kind, "--literally", "--stdin", given=content)

    def lie(self, name: str, raw: bytes) -> str:
        folder = self.repository.path / "objects" / name[:2]
        folder.mkdir(exist_ok=True)
        (folder / name[2:]).write_bytes(zlib.compress(raw))
        return name

    def read(self, names: Sequence[str], *, window: int = 4096, overlap: int = 64, **more: object) -> list[object]:
        with ObjectAccess(find(self.repository.path)) as git:
            reader = Reader(
                git=git, hits=more.get("hits", hits), container=more.get("container", no_container),  # type: ignore[arg-type]
                jobs=1, window=window, overlap=overlap,
            )  # fmt: skip
            return [
                (item, Path(item.path).read_bytes()) if isinstance(item, Blob) and item.path else item
                for item in reader.read([Part(from_hex(list(names), 20), loose=self.loose)])
            ]


@pytest.fixture(name="shelf", params=["git", "own"])
def shelf_(tmp_path: Path, request: pytest.FixtureRequest) -> Shelf:
    return Shelf(tmp_path / "r", loose=request.param == "own")


def test_only_objects_with_a_hit_come_out_and_each_is_whole(shelf: Shelf) -> None:
    contents = [b"nothing", b"KEY1", b"", b"x" * 3000 + b"KEY2", b"a KEY3 b KEY4"]
    names = [shelf.add(content) for content in contents]
    *blobs, share = shelf.read(names)
    assert blobs == [Blob(names[at], contents[at]) for at in (1, 3, 4)]
    assert isinstance(share, Share)
    assert (share.tally.objects, share.tally.bytes) == (5, sum(map(len, contents)))


def test_an_object_that_overruns_the_window_comes_in_pieces_with_their_places(shelf: Shelf) -> None:
    content = b"".join(b"\xc3\xa9 line %d\n" % number for number in range(2000)) + b"\xc3\xa9KEY77"
    name, after = shelf.add(content), shelf.add(b"KEY5 after")
    tree = shelf.add(b"".join(b"100644 KEY%d\0" % number + bytes(20) for number in range(600)), "tree")
    large, small, share = shelf.read([name, tree, after])
    assert isinstance(large, Blob)
    assert large.window
    assert content.endswith(large.data)
    passed = content[: -len(large.data)].decode()
    assert large.first_line == passed.count("\n") + 1
    assert large.first_column == len(passed.rpartition("\n")[2]) + 1
    assert isinstance(small, Blob)
    assert isinstance(share, Share)
    assert share.tally.objects == 2, "a tree is no text"


def test_a_large_container_is_put_in_a_file(shelf: Shelf) -> None:
    content = b"PK" + bytes(50_000) + b"end"
    name = shelf.add(content)
    container, share = shelf.read([name], container=lambda head, _: head.startswith(b"PK"))
    assert isinstance(container, tuple)
    assert container[0].id == name
    assert container[1] == content
    assert isinstance(share, Share)
    small = shelf.add(b"PK small")
    blob, _ = shelf.read([small], container=lambda head, _: head.startswith(b"PK"))
    assert blob == Blob(small, b"PK small")


def test_what_git_gives_of_a_damaged_container_is_read_to_its_last_byte(shelf: Shelf, rng: random.Random) -> None:
    content = b"PK" + rng.randbytes(90_000)
    name = shelf.lie("ab" * 20, b"")
    path = shelf.repository.path / "objects" / name[:2] / name[2:]
    path.write_bytes(zlib.compress(b"blob %d\0" % len(content) + content)[:-20_000])
    seen: list[bytes] = []

    def hits(window: memoryview) -> Sequence[int]:
        seen.append(bytes(window))
        return [len(window)]

    items = shelf.read([name], container=lambda head, _: head.startswith(b"PK"), hits=hits)
    told = [item.data for item in items if isinstance(item, Blob)]
    assert len(told) > 2
    assert told == seen


def test_a_large_program_is_put_in_a_file_only_if_its_end_is_a_zip(shelf: Shelf) -> None:
    def container(head: bytes, tail: bytes) -> bool:
        return head.startswith(b"MZ") and tail.endswith(b"end")

    program = b"MZ" + b"\n" * 25_000 + b"KEY1" + bytes(25_000)
    name, other = shelf.add(program + b"end"), shelf.add(program)
    (whole, content), window, *rest = shelf.read([name, other], container=container)  # type: ignore[misc]
    assert (whole.id, whole.tail[-3:], content) == (name, b"end", program + b"end")
    assert (window.id, window.window, b"KEY1" in window.data) == (name, True, True)
    assert whole.path is not None
    passed = content[: content.index(window.data)]
    assert window.first_line == passed.count(b"\n") + 1
    assert [item.id for item in rest if isinstance(item, Blob)] == [other]


def test_an_object_that_lies_about_its_size_hides_nothing(shelf: Shelf) -> None:
    honest = [shelf.add(b"KEY%d" % number) for number in range(6)]
    forged = f"\n{honest[3]} blob 5\nclean".encode()
    liars = [
        shelf.lie("1" * 40, b"blob 400\0short"),
        shelf.lie("2" * 40, b"blob 5\0right" + forged),
        shelf.lie("3" * 40, b"blob 900000\0" + b"x" * 9000),
        shelf.lie("4" * 40, b"blob 90\0" + b"x" * 60),
    ]
    names = [*honest[:3], liars[0], liars[1], *honest[3:5], liars[2], honest[5], liars[3]]
    items = shelf.read(names)
    assert {item.id for item in items if isinstance(item, Blob)} >= set(honest)
    assert {item.id for item in items if isinstance(item, Unread)} <= set(liars)
    assert {item.id for item in items if isinstance(item, Unread)} >= {liars[0], liars[2], liars[3]}
    done = np.concatenate([item.ids for item in items if isinstance(item, Share)])
    assert {bytes(row).hex() for row in done} >= set(honest)


def test_an_object_that_is_not_there_is_told_as_absent(shelf: Shelf) -> None:
    name = shelf.add(b"KEY1")
    blob, unread, *shares = shelf.read(["5" * 40, name])
    assert blob == Blob(name, b"KEY1")
    assert isinstance(unread, Unread)
    assert (unread.id, unread.absent) == ("5" * 40, True)
    assert [len(share.ids) for share in shares if isinstance(share, Share)][-1] == 1
    assert shelf.read([]) == []


def test_readers_side_by_side_stop_when_told_and_pass_errors_on(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "r")
    feed = b"".join(b"blob\ndata 5\nKEY%02d\n" % (number % 100) for number in range(200))
    more = b"".join(b"blob\ndata 8\nno%06d\n" % number for number in range(5000))
    shelf.repository.git("fast-import", "--quiet", given=feed + more)
    listed = shelf.repository.git("cat-file", "--batch-all-objects", "--batch-check=%(objectname)").split()
    with ObjectAccess(find(shelf.repository.path)) as git:

        def reading(how: Hits) -> Iterator[object]:
            return Reader(git=git, hits=how, container=no_container, window=4096).read([Part(from_hex(listed, 20))])

        assert sum(isinstance(item, Blob) for item in reading(hits)) == 100
        begun = reading(hits)
        next(begun)
        begun.close()  # type: ignore[attr-defined]

        def broken(_window: memoryview) -> Sequence[int]:
            raise ValueError("no prefilter")

        with pytest.raises(ValueError, match="no prefilter"):
            list(reading(broken))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.binary(min_size=20, max_size=20), max_size=40), max_size=6), st.data())
def test_a_set_of_ids_holds_what_was_added_and_nothing_else(groups: list[list[bytes]], data: st.DataObject) -> None:
    ids = IdSet()
    for group in groups:
        ids.add(np.frombuffer(b"".join(group), np.uint8).reshape(-1, 20))
    known = [one for group in groups for one in group]
    other = data.draw(st.lists(st.binary(min_size=20, max_size=20), max_size=10))
    asked = [*known, *other]
    held = ids.holds(np.frombuffer(b"".join(asked), np.uint8).reshape(-1, 20))
    assert held.tolist() == [one in set(known) for one in asked]
    assert len(empty(20)) == 0


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=40))
def test_unquoting_undoes_gits_quoting(raw: bytes) -> None:
    quoted = '"' + "".join(f"\\{byte:03o}" for byte in raw) + '"'
    assert unquote(quoted).encode("utf-8", "surrogateescape") == raw
    assert unquote("plain") == "plain"
    assert unquote('"a\\tb\\"c\\\\"') == 'a\tb"c\\'


def test_a_file_beside_the_objects_is_named_as_git_would_and_read_in_pieces(tmp_path: Path, rng: random.Random) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * (5 << 20) + b"\nKEY1")
    content = read(path, hits, 20)
    assert isinstance(content, Content)
    assert content.interesting
    repository = Repository(tmp_path / "r")
    assert content.blob == repository.git("hash-object", str(path))
    head, *windows = pieces(path, content.blob, hits)
    assert (head.path, head.window) == (str(path), False)
    assert [(one.first_line, one.window, one.data[-4:]) for one in windows] == [(1, True, b"KEY1")]
    gone = read(tmp_path / "missing", hits, 20)
    assert isinstance(gone, Skipped)
    assert gone.outcome is Outcome.GONE
    folder = read(tmp_path, hits, 20)
    assert isinstance(folder, Skipped)
    assert folder.outcome is Outcome.FAILED


@pytest.mark.parametrize("url", ["https://key:EXAMPLE/PASSWORD@host.example/x.git", "https://key:EXAMPLE]@[host/x.git"])
def test_a_url_whose_password_cannot_be_told_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(UsageFailure) as caught:
        without_user(url)
    assert "EXAMPLE" not in str(caught.value)


@pytest.mark.parametrize("end", [b"", b"\xff" * 100])
def test_damaged_loose_objects_are_told_and_those_that_are_packed_meanwhile_are_read(
    shelf: Shelf, rng: random.Random, end: bytes
) -> None:
    names = [
        shelf.add(rng.randbytes(3 << 20)),
        shelf.add(b"KEY1"),
        shelf.add(b""),
        shelf.add(b"KEY2"),
        shelf.add(b"KEY3"),
    ]
    paths = [shelf.repository.path / "objects" / name[:2] / name[2:] for name in names]
    paths[0].chmod(0o644)
    paths[0].write_bytes(paths[0].read_bytes()[:-100] + end)
    for path in paths[2:4]:
        path.unlink()
    paths[2].write_bytes(b"")
    paths[3].mkdir()
    items = shelf.read(names)
    assert {item.id for item in items if isinstance(item, Blob)} == {names[1], names[4]}
    assert {item.id for item in items if isinstance(item, Unread)} == {names[0], names[2], names[3]}
    packed = shelf.add(b"KEY6")
    shelf.repository.git("pack-objects", "objects/pack/pack", given=packed.encode())
    shelf.repository.git("prune-packed")
    assert [item for item in shelf.read([packed]) if isinstance(item, Blob)] == [Blob(packed, b"KEY6")]
