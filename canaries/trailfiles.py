"""The bytes of a trail file -> the records in it that may concern a watched key. Pure.

A file of CloudTrail's own is gzip of `{"Records":[…]}` (CloudTrail guide, "Finding your CloudTrail log files"). People
keep records in other shapes too, and every one of them is read here: a list, a record, a record a line, values one
after the other, the answer of LookupEvents, the envelopes of EventBridge, SNS and CloudWatch Logs.

Records in `{"Records":[…]}` are parsed only when a watched id or owner stands in them; of the others it is only seen
that they are objects with an eventID and an eventTime. A large file with CloudTrail's own beginning and end, nothing
watched in it and one region is not even taken apart: its eventIDs are counted, and nothing in it is checked. What holds
no record at all is left out, counted; what holds records and breaks off has failed.
"""

from __future__ import annotations

import base64
import bisect
import contextlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, cast

import msgspec
from isal import isal_zlib

from firedamp.canaries import cloudtrail
from firedamp.canaries.watchlist import Watchlist
from firedamp.storage.records import Outcome, Rejected, Skipped

INFLATED: Final = 1 << 29
"""A file that inflates to more bytes than this is not read: CloudTrail's own hold up to 50 MB."""

_GZIP: Final = b"\x1f\x8b"
_SPOILT: Final = cast("type[Exception]", isal_zlib.error)
_STEP: Final = 1 << 14
"""Bytes of a spoilt file that are inflated at a time: what stands before the break is known to about so many."""
_OPENING: Final = re.compile(rb"\s*\{\s*\"Records\"\s*:\s*\[")
_HEAD: Final = re.compile(rb"\s*\{\s*\"Records\"\s*:\s*\[\{\"eventVersion\":\"")
_TAIL: Final = re.compile(rb"\}\s*\]\s*\}\s*\Z")
_ID: Final = b'"eventID":"'
_TIME: Final = b'"eventTime":"'
_REGION: Final = b'"awsRegion":"'
_LARGE: Final = 1 << 18
"""Bytes from which a file is worth not taking apart."""
_BRACE: Final = ord("{")
_FIELDS: Final = frozenset({"eventName", "eventSource", "userIdentity"})
"""What tells a record that lacks its eventID or eventTime from JSON of another kind."""
_SPACE: Final = re.compile(r"[\s,]*")
_NESTED: Final = 6
"""How many envelopes stand around a record at most: SQS, SNS, EventBridge, CloudWatch Logs, and a list or two."""
_DEEPEST: Final = 200
"""Levels of JSON that are read: Python's parser gives up near a thousand, and AWS writes fewer than twenty."""
_TRIES: Final = 10_000
"""Places in a broken file where reading is tried again."""


@dataclass(frozen=True, slots=True)
class Document:
    """Some bytes that a feed brought: a whole file, or one record. where says whence, for a person."""

    where: str
    data: bytes


@dataclass(slots=True)
class Contents:
    """What a document holds. kept are the records that may concern a watched key; total counts all."""

    kept: list[tuple[str, object]] = field(default_factory=list)
    """(where, record), a record as a msgspec.Raw where it stands in the document: `records` yields them parsed."""
    total: int = 0
    times: dict[str, list[str]] = field(default_factory=dict)
    """The eventTimes of each awsRegion as they are written; of a large file that is not taken apart, two."""
    rejected: list[Rejected] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)

    def records(self) -> Iterator[tuple[str, object]]:
        """Yield (where, record) of each that may concern a watched key.

        Parsed one after the other: a record takes five times the room of its text, and a file may hold 300,000.
        """
        for where, kept in self.kept:
            yield where, json.loads(bytes(kept)) if isinstance(kept, msgspec.Raw) else kept


class _Stamp(msgspec.Struct, gc=False):
    """What every record must have, and its region; the rest is passed over without being built."""

    id: str = msgspec.field(name="eventID", default="")
    time: str = msgspec.field(name="eventTime", default="")
    region: str = msgspec.field(name="awsRegion", default="")


class _Stamps(msgspec.Struct, gc=False):
    records: list[_Stamp] = msgspec.field(name="Records")


class _Raws(msgspec.Struct, gc=False):
    records: list[msgspec.Raw] = msgspec.field(name="Records")


_STAMPS: Final = msgspec.json.Decoder(_Stamps)
_RAWS: Final = msgspec.json.Decoder(_Raws)


def read(document: Document, watchlist: Watchlist, limit: int = INFLATED) -> Contents:
    """Read one document. limit is in bytes after inflating."""
    contents = Contents()
    data, why = _inflated(document.data, limit)
    if _OPENING.match(data) is None or not _read_fast(document.where, data, watchlist, contents):
        _Reader(document.where, watchlist, contents, limit).read(data)
    if why:
        # Whatever else is wrong with what stands before the break comes of it.
        told = Skipped(outcome=Outcome.FAILED, what=document.where, why=f"gzip cannot be read: {why}")
        contents.skipped = [told]
    return contents


def _inflated(data: bytes, limit: int) -> tuple[bytes, str]:
    """Inflate every member of a gzip file; other bytes are returned as they are.

    Returns with it why it is not all: then it is what stands before the break, nothing if there is too much of it.
    """
    parts: list[bytes] = []
    room, why = limit, ""
    while data.startswith(_GZIP) and not why:
        member = isal_zlib.decompressobj(wbits=31)
        try:
            part = member.decompress(data, room + 1)
        except _SPOILT as error:
            part, why = _before_break(data, room + 1), str(error)
        else:
            why = "" if member.eof else "it ends early"
        parts.append(part)
        room -= len(part)
        if room < 0:
            return b"", f"it inflates to more than {limit} bytes"
        data = member.unused_data.lstrip(b"\0")
        if data and not data.startswith(_GZIP):
            why = why or "something else stands behind it"
    if not parts and len(data) > limit:
        return b"", f"it has more than {limit} bytes"
    return data if not parts else parts[0] if len(parts) == 1 else b"".join(parts), why


def _before_break(data: bytes, most: int) -> bytes:
    """Inflate what stands before the place where a member is spoilt, to some bytes."""
    member = isal_zlib.decompressobj(wbits=31)
    parts: list[bytes] = []
    with contextlib.suppress(_SPOILT):
        for at in range(0, len(data), _STEP):
            parts.append(member.decompress(data[at : at + _STEP], most))
            most -= len(parts[-1])
            if most <= 0:
                break
    return b"".join(parts)


def _read_fast(where: str, data: bytes, watchlist: Watchlist, contents: Contents) -> bool:
    """Read a file of CloudTrail's own shape; return whether that is what it is."""
    ends = watchlist.ends(data)
    if not ends and len(data) >= _LARGE and _HEAD.match(data) and _TAIL.search(data, len(data) - 16):
        first, middle, last = (_edge(data, at) for at in (0, len(data) // 2, None))
        if first.region == middle.region == last.region:
            contents.total = data.count(_ID)
            contents.times = {last.region: [first.time, last.time]}
            return True
    try:
        stamps = _STAMPS.decode(data).records
        raws = _RAWS.decode(data).records if ends else []
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    if not all(stamp.id and stamp.time for stamp in stamps):
        return False
    found: list[tuple[str, object]] = []
    skipped: list[Skipped] = []
    for number in _holding(raws, ends, data):
        try:
            insight = cloudtrail.is_insight(json.loads(bytes(raws[number])))
        except (ValueError, RecursionError):
            return False
        place = f"{where}#{number}"
        if insight:
            skipped.append(_an_insight(place))
        else:
            found.append((place, raws[number]))
    contents.total = len(stamps)
    for stamp in stamps:
        contents.times.setdefault(stamp.region, []).append(stamp.time)
    contents.kept += found
    contents.skipped += skipped
    return True


def _edge(data: bytes, at: int | None) -> _Stamp:
    """Return the time and region of the first record behind a place, or of the last one (None)."""
    values = []
    for name in (_TIME, _REGION):
        found = data.rfind(name) if at is None else data.find(name, at)
        start = found + len(name)
        values.append("" if found < 0 else data[start : data.find(b'"', start)].decode("ascii", "replace"))
    return _Stamp(time=values[0], region=values[1])


def _holding(raws: list[msgspec.Raw], ends: list[int], data: bytes) -> list[int]:
    """Return the numbers of the records that something ends in.

    Between records stand a comma and spaces, so where each begins follows from where the one before it ended.
    """
    opening = _OPENING.match(data)
    at = 0 if opening is None else opening.end()
    stops: list[int] = []
    for raw in raws:
        size = memoryview(raw).nbytes
        while data[at] != _BRACE:
            at += 1
        at += size
        stops.append(at)
    return sorted({bisect.bisect_left(stops, end) for end in ends if stops and end <= stops[-1]})


def _an_insight(where: str) -> Skipped:
    return Skipped(outcome=Outcome.LEFT_OUT, what=where, why="an Insight record")


class _Reader:
    """Reads a document of any shape, value by value, envelope by envelope."""

    def __init__(self, where: str, watchlist: Watchlist, contents: Contents, limit: int) -> None:
        self._where = where
        self._watchlist = watchlist
        self._contents = contents
        self._limit = limit
        self._number = 0
        self._recorded = False
        """Whether something was rejected that has the fields of a record."""

    def read(self, data: bytes) -> None:
        text = _text(data)
        inner = _unwrapped(text, self._limit)
        if inner is not None:
            text = inner
        contents, values = self._contents, 0
        broken: list[_Broken] = []
        for value in _values(text):
            if isinstance(value, _Broken):
                broken.append(value)
            else:
                values += 1
                self._take(value, 0)
        lost = [Rejected(where=self._where, why="no JSON", keys=self._watched_in([each.text])) for each in broken]
        if broken and _OPENING.match(data):
            why = "its JSON is broken: records may be missing"
            contents.skipped.append(Skipped(outcome=Outcome.FAILED, what=self._where, why=why))
            contents.rejected += [each for each in lost if each.keys]
        elif contents.total or contents.skipped or self._recorded or _OPENING.match(data):
            contents.rejected += lost
        elif values:
            contents.rejected.clear()
            self._leave("no CloudTrail: JSON without records", told=True)
        else:
            self._leave("no CloudTrail: no JSON", told=bool(text.strip()))

    def _watched_in(self, texts: Iterable[str]) -> tuple[str, ...]:
        found = self._watchlist.mentioned(texts)
        return tuple(dict.fromkeys((*found.ids, *found.owners)))

    def _leave(self, why: str, told: bool) -> None:
        if told:
            self._contents.skipped.append(Skipped(outcome=Outcome.LEFT_OUT, what=self._where, why=why))

    def _take(self, value: object, depth: int) -> None:
        """Sort one JSON value: an envelope is opened, anything else is a record or rejected."""
        inner = _opened(value, self._limit) if depth < _NESTED else None
        match inner:
            case None:
                self._record(value)
            case str() as why:
                self._leave(why, told=True)
            case list():
                for each in inner:
                    self._take(each, depth + 1)

    def _record(self, record: object) -> None:
        where = f"{self._where}#{self._number}"
        self._number += 1
        why = cloudtrail.refusal(record)
        if why or not isinstance(record, dict):
            self._recorded = self._recorded or (isinstance(record, dict) and not _FIELDS.isdisjoint(record))
            keys = self._watched_in(cloudtrail.texts(record))
            self._contents.rejected.append(Rejected(where=where, why=why, keys=keys))
            return
        self._contents.total += 1
        region = record.get("awsRegion")
        self._contents.times.setdefault(region if isinstance(region, str) else "", []).append(str(record["eventTime"]))
        if not self._may_concern(record):
            return
        if cloudtrail.is_insight(record):
            self._contents.skipped.append(_an_insight(where))
        else:
            self._contents.kept.append((where, record))

    def _may_concern(self, record: object) -> bool:
        try:
            text = json.dumps(record, ensure_ascii=False)
        except RecursionError:  # read with the last level that Python has, and not written
            return True
        return self._watchlist.hit(text.encode("utf-8", "replace"))


def _integer(digits: str) -> int | str:
    """Read an integer; one of thousands of digits, which Python refuses, stays text: it must not hide a record."""
    try:
        return int(digits)
    except ValueError:
        return digits


@dataclass(frozen=True, slots=True)
class _Broken:
    """Text that is no JSON, to the end of its line."""

    text: str


def _text(data: bytes) -> str:
    encoding = json.detect_encoding(data)
    return data.decode(encoding, "replace")


def _values(text: str) -> Iterator[object]:
    """Yield JSON values that stand one after the other, lines or not; a _Broken for each run that is no JSON.

    Behind a break, reading goes on at the next line; a `{"Records":[` whose end is missing is read from inside.
    """
    decoder = json.JSONDecoder(strict=False, parse_int=_integer)
    at, tries, flat = 0, 0, False
    opening = _OPENING.match(text[:4096].encode("utf-8", "replace"))
    while True:
        space = _SPACE.match(text, at)
        at = at if space is None else space.end()
        if at == len(text):
            return
        try:
            value, at = decoder.raw_decode(text, at)
        except RecursionError:
            if flat:
                yield _Broken(text[at:])
                return
            text, at, flat = _shallow(text[at:]), 0, True
        except ValueError:
            if tries == 0 and opening is not None and at < opening.end():
                at, tries = opening.end(), 1
                yield _Broken("")
                continue
            tries += 1
            line = text.find("\n", at)
            yield _Broken(text[at:] if line == -1 or tries > _TRIES else text[at:line])
            if line == -1 or tries > _TRIES:
                return
            at = line + 1
        else:
            yield value


_TOKEN: Final = re.compile(r'"(?:[^"\\]|\\.)*+"?|[\[{]|[\]}]|[^"\[\]{}]++', re.DOTALL)


def _shallow(text: str) -> str:
    """Put null in the place of what is nested too deep for a parser."""
    depth, kept = 0, list[str]()
    for token in _TOKEN.finditer(text):
        piece = token[0]
        if piece in "[{":
            depth += 1
            kept.append(piece if depth <= _DEEPEST else "null" if depth == _DEEPEST + 1 else "")
        elif piece in "]}":
            kept.append(piece if depth <= _DEEPEST else "")
            depth -= 1
        elif depth <= _DEEPEST:
            kept.append(piece)
    return "".join(kept)


def _opened(value: object, limit: int) -> list[object] | str | None:
    """Return what stands inside an envelope, why there is nothing in it, or None when this is no envelope."""
    if isinstance(value, list):
        return value
    if not isinstance(value, dict) or "eventID" in value:
        return None
    for name in ("Records", "Events", "records", "logEvents", "Messages"):
        inside = value.get(name)
        if isinstance(inside, list):
            return inside
    if value.get("messageType") == "CONTROL_MESSAGE":
        return "a control message of CloudWatch Logs"
    if "digestStartTime" in value and "logFiles" in value:
        return "a digest file"
    if "detail-type" in value and isinstance(value.get("detail"), dict):
        return [value["detail"]]
    for name in ("CloudTrailEvent", "message", "Message", "Body", "body", "awslogs", "kinesis"):
        inside = value.get(name)
        if isinstance(inside, dict):
            return [inside]
        if isinstance(inside, str):
            return _whole(inside) or None
    data = value.get("data")
    packed = _unwrapped(data, limit) if isinstance(data, str) else None
    return None if packed is None else _whole(packed)


def _whole(text: str) -> list[object]:
    return [value for value in _values(text) if not isinstance(value, _Broken)]


def _unwrapped(text: str, limit: int) -> str | None:
    """Return what stands in base64 of gzip, the form of a CloudWatch Logs subscription; None for other text."""
    text = text.strip()
    if not text.startswith("H4sI"):  # base64 of gzip's first three bytes
        return None
    try:
        data, why = _inflated(base64.b64decode(text, validate=True), limit)
    except ValueError:
        return None
    return None if why else _text(data)
