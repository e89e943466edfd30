"""Everything in a blob: its own text, and what the containers in it hold."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from firedamp.scanner.budget import Member
from firedamp.scanner.candidates import Located
from firedamp.scanner.source import Blob
from firedamp.scanner.stub import tail_of
from firedamp.storage.records import KeyKind, Skipped

if TYPE_CHECKING:
    from firedamp.scanner.ownkeys import OwnKeys
    from firedamp.scanner.prefilter import Prefilter
    from firedamp.scanner.unpack import Unpacker
    from firedamp.scanner.walk import ContainerOf


# What finds keys and what knows containers takes longer to load than a scan in which nothing changed, so both are
# loaded with the first bytes that are read.
@functools.cache
def prefilter(cache: Path | None) -> Prefilter:
    """Return this process's prefilter; cache keeps its compiled form between runs."""
    from firedamp.scanner.prefilter import Prefilter

    return Prefilter(cache)


@functools.cache
def _must_open() -> ContainerOf:
    from firedamp.scanner.formats import must_open

    return must_open


def must_open(head: bytes, tail: bytes = b"") -> str | None:
    """Name the format of a container by its first and last bytes, if it must be opened whatever stands in them."""
    return _must_open()(head, tail)


@dataclass(frozen=True, slots=True)
class Sense:
    """Whether bytes are worth a look. Can be sent to another process, which then has a prefilter of its own."""

    cache: Path | None
    own: OwnKeys | None = None

    def __call__(self, data: bytes | memoryview) -> bool:
        """Return whether the prefilter sees anything in data, or one of the user's own keys stands there."""
        return prefilter(self.cache).any(data) or (self.own is not None and self.own.any(data))

    def hits(self, data: bytes | memoryview) -> list[int]:
        """Return the end offsets of everything worth a look, sorted, each once."""
        seen = prefilter(self.cache).hits(data)
        return seen if self.own is None else sorted({*seen, *(end for end, _ in self.own.hits(data))})


class Look:
    """Finds every credential in a blob and in its containers, and says what could not be opened.

    prefilter is called at the first blob.
    """

    def __init__(self, prefilter: Callable[[], Prefilter], unpacker: Unpacker, own: OwnKeys | None = None) -> None:
        self._prefilter = prefilter
        self._unpacker = unpacker
        self._own = own
        self._inside: dict[str, set[tuple[str | None, object]]] = {}

    def __call__(self, blob: Blob) -> Iterator[Located | Skipped]:
        """Yield what stands in blob. A Skipped names the file, or the blob, and the chain inside it."""
        from firedamp.scanner.formats import BY_NAME, HEAD, container_of

        head = blob.data[:HEAD]
        kind = None if blob.window or not blob.lines else container_of(head, blob.tail or tail_of(blob.data))
        # The windows of a large container come after it, each as a blob of its own.
        inside = self._inside.get(blob.id, set()) if blob.window else set()
        broken = False
        paired = set[tuple[str | None, KeyKind]]()
        if kind is not None:
            for each in self._members(blob):
                yield each
                match each:
                    case Located(credential=credential):
                        inside.add((credential.key_id, credential.secret or credential.token))
                        inside.add((credential.key_id, None))
                        if credential.key_id is not None and credential.secret is not None:
                            paired.add((credential.key_id, credential.kind))
                    case Skipped():
                        broken = True
            if inside:
                self._inside[blob.id] = inside
        if kind is None or broken or BY_NAME[kind].raw:
            # What the container gave already is not told a second time as raw bytes, nor another secret of its ids.
            for each in _named(self._text(blob.data, blob.first_line, blob.first_column), blob, ""):
                if isinstance(each, Located) and not blob.lines:
                    yield replace(each, line=None, column=None)
                elif isinstance(each, Skipped) or (
                    _told(each) not in inside and (each.credential.key_id, each.credential.kind) not in paired
                ):
                    yield each

    def _text(self, data: bytes, line: int, column: int) -> Iterator[Located | Skipped]:
        """Yield what stands in plain bytes that begin at line and column."""
        from firedamp.scanner.detect import detect
        from firedamp.scanner.marks import marked

        within = self._own.within if self._own else None
        found = detect(data, self._prefilter(), first_line=line, first_column=column, within=within)
        return marked([*found, *self._own.find(data, line, column, found)] if self._own else found, data, line)

    def _members(self, blob: Blob) -> Iterator[Located | Skipped]:
        given: set[tuple[str, tuple[str | None, object]]] = set()
        paired: set[tuple[str, str]] = set()
        for member in self._unpacker.members(blob.data if blob.path is None else Path(blob.path)):
            match member:
                case Skipped(what=chain):
                    yield from _named([member], blob, "" if not chain else f"!{chain}")
                case Member(container=chain, data=data, first_line=line, first_column=column):
                    found = self._text(data, line or 1, column or 1)
                    for each in _named(found, blob, f"!{chain}" if chain else ""):
                        if isinstance(each, Skipped):
                            yield each
                            continue
                        key_id, secret = each.credential.key_id, each.credential.secret
                        # A container's bytes come behind its parts, a document's behind the text put together from it.
                        given |= {(outer, told) for outer in _around(chain) for told in (_told(each), (key_id, None))}
                        if line is None:
                            given |= {(chain, _told(each)), (chain, (key_id, None))}
                            if key_id is not None and secret is not None:
                                paired.add((chain, key_id))
                            yield replace(each, container=chain, line=None, column=None)
                        elif (chain, _told(each)) not in given and (chain, key_id or "") not in paired:
                            yield replace(each, container=chain)


def _around(chain: str) -> list[str]:
    """Return the chains of the containers that a member stands in."""
    names = chain.split("!")
    return ["!".join(names[:depth]) for depth in range(1, len(names))]


def _told(located: Located) -> tuple[str | None, object]:
    return located.credential.key_id, located.credential.secret or located.credential.token


def _named(found: Iterable[Located | Skipped], blob: Blob, chain: str) -> Iterator[Located | Skipped]:
    """Yield found, with what was skipped named by the file or blob it stands in."""
    for each in found:
        if isinstance(each, Skipped):
            limit = "" if each.what == chain.removeprefix("!") else f": {each.what}"
            name = blob.id if blob.path is None or blob.spooled else blob.path
            yield replace(each, what=f"{name}{chain}", why=each.why + limit)
        else:
            yield each
