"""Bytes to credentials: what stands there, what stands there encoded, and which id goes with which secret. Pure.

The blob is layer nought. Where a decoder was seen at work, its text is decoded *in place*, which gives a further
layer: the surroundings stay, so that a name beside an encoded value still stands beside it. Every layer is prefiltered,
paired and, down to a depth, decoded in its turn; every offset leads back to the bytes as stored.
"""

from __future__ import annotations

import bisect
import re
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from firedamp.scanner import keys, pairing
from firedamp.scanner.candidates import Candidate, Credential, Located, Role
from firedamp.scanner.decode import DECODERS
from firedamp.scanner.marks import beside
from firedamp.scanner.prefilter import Hit, Prefilter
from firedamp.scanner.runs import GAP, RUN_LIMIT, Mark, Run, Segment, source
from firedamp.storage.records import Outcome, Skipped
from firedamp.storage.secret import Secret


@dataclass(frozen=True, slots=True)
class Limits:
    """How much work one blob may cause. What a limit cuts off is told as `Skipped`, never dropped in silence.

    depth: encodings within each other. decoded: bytes of all layers together. tracks: readings of one stretch of text
    by one decoder. hits: places worth a look, in all layers. credentials: how many one blob may give. same: how often
    it may give the same one: more places of it are left out, as in a log that names one key in every line.
    """

    depth: int = 5
    decoded: int = 48 << 20
    tracks: int = 8
    hits: int = 250_000
    credentials: int = 20_000
    same: int = 1_000


DEFAULT_LIMITS: Final = Limits()

_TOO_DEEP: Final = "encodings nested too deep"
# A text about encodings is full of heads that lead nowhere: what a rule stops there does not make a scan incomplete.
_OUTCOMES: Final = {_TOO_DEEP: Outcome.LEFT_OUT}
_MARGIN: Final = 64 << 10
"""Bytes around a hit that are looked at together: well over the 10 KiB beyond which nothing is paired by distance."""
_WHOLE: Final = 1 << 20
"""A blob up to this size is looked at in one piece, so that structure is seen whole."""
_PIECE: Final = 4 << 20
_RUN: Final = re.compile(rb"[A-Za-z0-9+/_=%\\-]+(?:" + GAP + rb"[A-Za-z0-9+/_=%\\-]{20,})*")
"""The rest of an encoded run, in one line or several; compressed ones are of use whole only."""
_SIGN_REACH: Final = 2048
_ROW_REACH: Final = 128
_HIDING: Final = tuple(decoder.name for decoder in DECODERS if decoder.hides is not None)
_LAYER_MARGIN: Final = 16 << 10


Within = Callable[[bytes], Iterable[tuple[int, Credential]]]
"""What finds credentials in a text by other means, each with the offset at which it stands."""


@dataclass(slots=True)
class _Work:
    """What is left of the limits for one blob, and what they cut off."""

    limits: Limits
    decoded: int
    hits: int
    ids: set[str] = field(default_factory=set)
    """The key ids seen: each is a credential at least, so that there are never more of them than of those."""
    cut: dict[str, int] = field(default_factory=lambda: defaultdict(int))


@dataclass(frozen=True, slots=True)
class _Layer:
    """A text, and how its offsets lead to the layer it was decoded from. fresh: where it was decoded just now."""

    text: bytes
    segments: tuple[Segment, ...]
    fresh: tuple[tuple[int, int], ...]
    parent: _Layer | None
    depth: int
    chain: str = ""
    """How a pair is told whose id stood readable beside an encoded secret."""
    guess: int | None = None
    """The decoder whose signs alone made it: then only its own are followed again, as in a URL in a URL, or each layer
    would make five more."""

    def origin(self, offset: int) -> tuple[int, str]:
        """Return the offset in the stored bytes that offset comes from, and the encodings undone on the way."""
        there, via = source(self.segments, offset)
        if self.parent is None:
            return there, via
        stored, outer = self.parent.origin(there)
        return stored, ">".join(filter(None, (outer, via)))

    def is_fresh(self, start: int, end: int) -> bool:
        """Whether any of the bytes from start to end were decoded in this layer."""
        at = bisect.bisect_left(self.fresh, (end, 0)) - 1
        return at >= 0 and start < self.fresh[at][1]


def detect(
    data: bytes,
    prefilter: Prefilter,
    *,
    first_line: int = 1,
    first_column: int = 1,
    limits: Limits = DEFAULT_LIMITS,
    within: Within | None = None,
) -> list[Located | Skipped]:
    """Return the credentials in data in text order, each with its place in the bytes as stored.

    first_line and first_column say where a window of a larger blob begins. Lines and columns (in code points) are None
    for data that has no lines. within yields further credentials of a decoded text, and where in it they stand. What a
    limit cut off follows as Skipped. Work is linear in the size of data and of what
    is decoded from it, which limits bound; no input raises.
    """
    work = _Work(limits, limits.decoded, limits.hits)
    found: list[tuple[int, Credential]] = []
    for span in _pieces(data, prefilter.hits(data)):
        found += _in_piece(data, span, prefilter, work, within)
    best, same = _thinned(sorted(_merged(found), key=lambda one: (one[0], one[1].rank)), limits.same)
    if len(best) > limits.credentials:
        work.cut["credentials"] += len(best) - limits.credentials
        del best[limits.credentials :]
    told = [
        Skipped(outcome=_OUTCOMES.get(what, Outcome.FAILED), what=what, why="over the limit for one blob", count=count)
        for what, count in work.cut.items()
    ]
    if same:
        why = f"the same credential more than {limits.same} times in one blob"
        told.append(Skipped(outcome=Outcome.LEFT_OUT, what="matches", why=why, count=same))
    return [*_located(data, best, first_line, first_column), *told]


def _pieces(data: bytes, ends: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield the parts of the data that are looked at: the surroundings of the hits, joined up to a size.

    What is encoded and begins in one of them does not end with it.
    """
    if not ends:
        return
    if len(data) <= _WHOLE:
        yield 0, len(data)
        return
    first = last = ends[0]
    high = 0
    for end in ends[1:]:
        if end - last > 2 * _MARGIN or end - first > _PIECE:
            high = high if high > last + _MARGIN else _behind(data, last)
            if end - _MARGIN > high or end - first > _PIECE:
                yield max(0, first - _MARGIN), high
                first = end
        last = end
    yield max(0, first - _MARGIN), max(high, _behind(data, last))


def _behind(data: bytes, end: int) -> int:
    """Return where what must be looked at with a hit ends: some way behind it, or with the encoded run there."""
    border = min(len(data), end + _MARGIN)
    run = _RUN.match(data, border, border + RUN_LIMIT // 2)
    return border if run is None else run.end()


def _in_piece(
    data: bytes, span: tuple[int, int], prefilter: Prefilter, work: _Work, within: Within | None
) -> Iterator[tuple[int, Credential]]:
    low, high = span
    text = data if high - low == len(data) else data[low:high]
    queue = deque([_Layer(text, (Segment(0, low),), ((0, len(text)),), None, 0)])
    while queue:
        layer = queue.popleft()
        own = within(layer.text) if within is not None and layer.parent is not None else ()
        for offset, one in beside(layer.text, own):
            stored, chain = layer.origin(offset)
            yield stored, replace(one, decoder=">".join(filter(None, (chain or layer.chain, one.decoder))))
        hits = prefilter.find(layer.text)
        if len(hits) > work.hits:
            work.cut["places worth a look"] += len(hits) - work.hits
            del hits[work.hits :]
        work.hits -= len(hits)
        if not hits:
            continue
        candidates = _candidates(layer.text, hits, work)
        credentials = pairing.pair(layer.text.decode("latin-1"), candidates)
        found = ((one.anchor, one) for one in credentials)
        # The marks of the file itself are looked for when its lines are known.
        for offset, one in found if layer.parent is None else beside(layer.text, found):
            stored, chain = layer.origin(offset)
            yield stored, replace(one, decoder=chain or layer.chain, example=_is_example(one))
        if layer.depth < work.limits.depth:
            queue += _decoded(layer, hits, credentials, work)
        elif any(_nests(hit.form.decoder) and layer.is_fresh(hit.start, hit.end) for hit in hits):
            work.cut[_TOO_DEEP] += 1


def _nests(decoder: int | None) -> bool:
    """Whether a decoder's hit is an encoding inside the text: what only takes joints out can go on for ever."""
    return decoder is not None and not DECODERS[decoder].joint


def _candidates(text: bytes, hits: Sequence[Hit], work: _Work) -> list[Candidate]:
    """Return what stands at the hits, up to the key id that is one too many."""
    found: dict[tuple[int, int], Candidate] = {}
    for at, hit in enumerate(hits):
        if hit.form.kind is not None and hit.form.size:
            one = keys.candidate(keys.KINDS[hit.form.kind], text, hit.end - hit.form.size)
            if one is None:
                continue
            if one.role is Role.KEY_ID and one.value.reveal() not in work.ids:
                if len(work.ids) == work.limits.credentials:
                    work.cut["places worth a look"] += len(hits) - at
                    break
                work.ids.add(one.value.reveal())
            found[one.start, one.end] = one
    return [found[span] for span in sorted(found)]


def _is_example(one: Credential) -> bool:
    if one.key_id is not None:
        return keys.is_example(one.key_id)
    value = one.secret or one.token
    return one.example or (value is not None and keys.is_example_value(value.reveal()))


# Decoding in place.


def _decoded(layer: _Layer, hits: Sequence[Hit], credentials: Sequence[Credential], work: _Work) -> Iterator[_Layer]:
    """Yield the layers that the decoders seen in layer make of it."""
    marks: dict[int, list[Mark]] = defaultdict(list)
    for hit in hits:
        if hit.form.decoder is not None and layer.is_fresh(hit.start, hit.end):
            marks[hit.form.decoder].append(Mark(hit.end, hit.form.phase))
    sure = set(marks)
    for number, offset in _signed(layer, hits, credentials):
        if layer.guess in {None, number}:
            marks[number].append(Mark(offset, -1))
    for number, places in sorted(marks.items()):
        places.sort(key=lambda mark: mark.end)
        for track in _tracks(DECODERS[number].runs(layer.text, places), work):
            for group in _groups(track):
                made = _spliced(layer, group, None if number in sure else number)
                if len(made.text) > work.decoded:
                    work.cut["decoded text"] += 1
                    return
                work.decoded -= len(made.text)
                yield made


def _signed(layer: _Layer, hits: Sequence[Hit], credentials: Sequence[Credential]) -> Iterator[tuple[int, int]]:
    """Yield (decoder, offset) where something is missing beside signs of an encoding that leaves most readable.

    What is missing is the secret of an id, the value after a secret's name, or an id that hangs on what stands before.
    Beside an id that has one it is the ends of rows, where there are several: the secret may be the next row's.
    """
    paired = sorted({one.anchor for one in credentials if one.key_id and one.secret is not None and not one.rank})
    for place in paired if len(paired) > 1 else ():
        near = layer.text[max(0, place - _ROW_REACH) : place + _ROW_REACH] if layer.is_fresh(place, place + 1) else b""
        for number, decoder in enumerate(DECODERS):
            if decoder.hides is not None and decoder.hides.search(near) is not None:
                yield number, place
    told = sorted(one.anchor for one in credentials if one.secret is not None)
    places = [one.anchor for one in credentials if one.key_id and one.secret is None and not one.example]
    anchors = {one.anchor for one in credentials}
    for hit in hits:
        if hit.form.kind is None:
            continue
        if keys.KINDS[hit.form.kind].role is Role.KEY_ID and hit.end - hit.form.size not in anchors:
            places.append(hit.end - 1)
        if not hit.form.size:
            after = bisect.bisect_left(told, hit.end - _SIGN_REACH)
            if after == len(told) or told[after] > hit.end + _SIGN_REACH:
                places.append(hit.end - 1)
    last = -_SIGN_REACH
    for place in sorted(places):
        if place - last < _SIGN_REACH or not layer.is_fresh(place, place + 1):
            continue
        last = place
        for number, decoder in enumerate(DECODERS):
            if decoder.signs is not None and decoder.signs.search(
                layer.text, max(0, place - _SIGN_REACH), place + _SIGN_REACH
            ):
                yield number, place


def _tracks(runs: Iterable[Run], work: _Work) -> list[list[Run]]:
    """Lay runs out so that none overlaps another of its track: a stretch read in two ways gives two layers.

    The longest reading comes first, beside what stands around it.
    """
    tracks: list[list[Run]] = []
    for run in sorted(_afforded(runs, work), key=lambda run: (run.start, -run.end)):
        for track in tracks:
            if track[-1].end <= run.start:
                track.append(run)
                break
        else:
            if len(tracks) == work.limits.tracks:
                work.cut["readings of one text"] += 1
                continue
            tracks.append([run])
    return tracks


def _afforded(runs: Iterable[Run], work: _Work) -> Iterator[Run]:
    """Yield runs as they are decoded, until the limit: a small bomb in each of a thousand runs is a large one."""
    for run in runs:
        cost = max(len(run.out), run.spent)
        if run.cut or cost > work.decoded:
            work.cut["decoded text"] += 1
        if cost > work.decoded:
            return
        work.decoded -= cost
        yield run


def _groups(track: Sequence[Run]) -> Iterator[list[Run]]:
    """Yield runs that stand close enough to belong together."""
    group: list[Run] = []
    for run in track:
        if group and run.start - group[-1].end > 2 * _LAYER_MARGIN:
            yield group
            group = []
        group.append(run)
    if group:
        yield group


def _spliced(layer: _Layer, runs: Sequence[Run], guess: int | None) -> _Layer:
    """Put the decoded runs in the place of what they were decoded from, with some of what stands around them."""
    low, high = max(0, runs[0].start - _LAYER_MARGIN), min(len(layer.text), runs[-1].end + _LAYER_MARGIN)
    parts: list[bytes] = []
    segments: list[Segment] = []
    fresh: list[tuple[int, int]] = []
    at, done = 0, low
    for run in runs:
        segments.append(Segment(at, done))
        parts += [layer.text[done : run.start], run.out]
        at += run.start - done
        segments += [Segment(s.at + at, s.source, s.numerator, s.denominator, s.via) for s in run.segments]
        fresh += [(at + a, at + b) for a, b in (((0, len(run.out)),) if run.changed is None else run.changed)]
        at, done = at + len(run.out), run.end
    parts.append(layer.text[done:high])
    segments.append(Segment(at, done))
    chain = ">".join(filter(None, (layer.chain, runs[0].segments[0].via)))
    return _Layer(b"".join(parts), tuple(segments), tuple(fresh), layer, layer.depth + 1, chain, guess)


# One credential for each key in each place.


@dataclass(slots=True)
class _Reading:
    """What one chain of decoders made of a text: its ids, its secrets, and whose each secret is."""

    ids: set[str | None] = field(default_factory=set)
    secrets: set[Secret | None] = field(default_factory=set)
    owners: dict[Secret | None, str | None] = field(default_factory=dict)

    def add(self, one: Credential) -> None:
        self.ids.add(one.key_id)
        self.secrets.add(one.secret)
        if one.key_id and one.secret and not one.rank:
            self.owners[one.secret] = one.key_id

    def keeps(self, other: _Reading) -> bool:
        """Whether it shows every secret of its ids that the other does.

        If not, it undid what only looks like a notation: `KEY=5B…` is no quoted bracket.
        """
        return all(secret in self.secrets or key_id not in self.ids for secret, key_id in other.owners.items())


def _merged(found: Iterable[tuple[int, Credential]]) -> Iterator[tuple[int, Credential]]:
    """Yield each credential once: of the readings of one place, the least decoded that has a secret, else the first.

    Not where nothing was decoded, or not what hides the ends of rows, and that secret is another id's in a reading that
    knows one for both: what a notation cuts is not seen as it stands, and its neighbour's was taken.
    """
    found = list(found)
    readings: defaultdict[str, _Reading] = defaultdict(_Reading)
    for _, one in found:
        readings[one.decoder].add(one)
    keeps: dict[tuple[str, str], bool] = {}
    places: dict[tuple[int, str | None], list[Credential]] = {}
    for place, one in found:
        known = places.setdefault((place, one.key_id), [])
        same_reading = bool(known) and known[0].decoder == one.decoder
        if known and known[0].secret is not None and one.secret is None:
            continue
        is_other = (
            bool(known)
            and (not known[0].decoder or one.decoder in {f"{known[0].decoder}>{name}" for name in _HIDING})
            and readings[one.decoder].owners.get(known[0].secret, one.key_id) != one.key_id
        )
        if is_other:
            both = (one.decoder, known[0].decoder)
            if both not in keeps:
                keeps[both] = readings[one.decoder].keeps(readings[known[0].decoder])
            is_other = keeps[both]
        if known and one.secret is not None and (known[0].secret is None or (is_other and not one.rank)):
            known[:] = [one]
        elif (same_reading and all(_told(one) != _told(other) for other in known)) or not known:
            known.append(one)
    paired: dict[tuple[Secret, bool], list[int]] = defaultdict(list)
    for (place, key_id), some in places.items():
        for one in some:
            if key_id is not None and one.secret is not None:
                # A pair that is an example hides no real secret: its id is masked.
                for example in {True, one.example}:
                    paired[one.secret, example].append(place)
    for (place, _), some in places.items():
        for one in some:
            near = paired.get((one.secret, one.example), []) if one.key_id is None and one.secret else []
            if not any(abs(place - other) < _MARGIN for other in near[:64]):
                yield place, one


def _thinned(found: Iterable[tuple[int, Credential]], most: int) -> tuple[list[tuple[int, Credential]], int]:
    """Return found with at most so many places of one credential, and how many were left out."""
    kept: list[tuple[int, Credential]] = []
    count: Counter[tuple[str | None, str, Secret | None, Secret | None]] = Counter()
    for place, one in found:
        count[one.key_id, *_told(one)] += 1
        if count[one.key_id, *_told(one)] <= most:
            kept.append((place, one))
    return kept, count.total() - len(kept)


def _told(one: Credential) -> tuple[str, Secret | None, Secret | None]:
    return one.kind, one.secret, one.token


# Lines and columns.


def _located(data: bytes, found: Sequence[tuple[int, Credential]], line: int, column: int) -> Iterator[Located]:
    """Yield found (sorted by place) with lines and columns, in one pass over data however many there are."""
    encoding = encoding_of(data)
    newline = {"utf-16-le": b"\n\x00", "utf-16-be": b"\x00\n"}.get(encoding or "", b"\n")
    # A byte order mark is no character of its line.
    at = next((len(mark) for mark in (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff") if data.startswith(mark)), 0)
    for found_at, one in found:
        if encoding is None:
            yield Located(one, None, None)
            continue
        place = max(at, found_at - found_at % len(newline))
        line += data.count(newline, at, place)
        last = data.rfind(newline, at, place)
        if last >= 0:
            at, column = last + len(newline), 1
        column += len(data[at:place].decode(encoding, "replace"))
        at = place
        yield Located(one, line, column)


def encoding_of(data: bytes) -> str | None:
    """Return how lines and columns are counted, or None for data that has no lines: a NUL near its beginning."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16-le" if data[0] == 0xFF else "utf-16-be"
    head = data[:8192]
    if b"\x00" not in head:
        return "utf-8"
    half = len(head) // 2
    if half and not head[1::2].strip(b"\x00") and head[0::2].count(0) == 0:
        return "utf-16-le"
    return "utf-16-be" if half and not head[0::2].strip(b"\x00") and head[1::2].count(0) == 0 else None
