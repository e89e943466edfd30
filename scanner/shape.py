"""What a secret looks like: 40 characters of base64 between hand-checked borders, in any notation. Pure.

No filter here may cost a real secret. The odds of each are given for 40 characters drawn evenly from the 64 that AWS
uses; together they lose fewer than one random secret in 10^6 (tests/test_pairing.py draws 200,000).
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

SECRET_LENGTH: Final = 40
SMTP_LENGTH: Final = 44
TOKEN_LENGTHS: Final = range(100, 2001)

# `+` and `/` as they stand in URLs, in JSON (in JSON, in JSON …) and in XML.
_SIGN: Final = r"%(?:25)*2[BbFf]|\\{1,8}(?:/|u002[bBfF]|x2[bBfF])|&(?:amp;)?(?:#0?4[37]|#[xX]0?2[bBfF]|plus|sol);"
_TERMINAL: Final = r"(?:\x1b|\\{1,8}(?:u001[bB]|u\{1[bB]\}|x1[bB]|033|e)|#033|\^\[)"
COLOUR: Final = _TERMINAL + r"\[[0-9;?]{0,20}[A-Za-z]"
"""What colours a terminal, clears a part of it (grep does both) or moves there: as it is, in strings, in syslog."""
# An escape that ends in letters or digits would otherwise be read as the first characters of what follows it. So
# would what ends a link in a terminal, and what `cat -A` makes of tabs.
_ESCAPE: Final = (
    rf"{COLOUR}|{_TERMINAL}\\{{1,8}}|\^[IJM]|\\{{1,8}}(?:u[0-9a-fA-F]{{4}}|x[0-9a-fA-F]{{2}}|[nrtbfv0])"
    r"|%(?:25)*[0-9a-fA-F]{2}"
)
_RUNS: Final = re.compile(
    rf"(?=[A-Za-z0-9+/%\\&#;]{{40}})((?:[A-Za-z0-9+/]++|{_SIGN})++)|{_ESCAPE}",
)
_ENCODED: Final = re.compile(_SIGN)
_INSIDE: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/%\\&#;[]{}?^\x1b")
_MARKED: Final = bytes(ord("x") if code in _INSIDE else 0 for code in range(256))
"""x for what can stand in a run, sign or escape, nought for every border between them."""
_LONG: Final = b"x" * SECRET_LENGTH
_DIGEST: Final = re.compile(r"[0-9a-f]{20}|[0-9A-F]{20}")
_LOWER_RUN: Final = re.compile(r"[a-z]{22}|[A-Z]{22}")
_PLACEHOLDERS: Final = (
    "example secret sample changeme placeholder replaceme redacted insertyour yourkey dummykey fakekey"
    " abcdefgh 12345678 98765432 wjalrxutnfemi"
).split()
_REPEATED: Final = re.compile(r"(.)\1{5}")
_UPPER: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
_LOWER: Final = frozenset("abcdefghijklmnopqrstuvwxyz")
_TURNS: Final = re.compile(r"[A-Z]+|[a-z]+|[0-9]+|[+/]+")
# A model of names and paths: how often a character of one sort follows another, and how often each stands for its
# sort. Letters of words come by their share of English text, in percent; a name may begin with any letter.
_ENGLISH: Final = dict(
    zip(
        "etaoinshrdlcumwfgypbvkjxqz",
        (12.7, 9.1, 8.2, 7.5, 7, 6.7, 6.3, 6.1, 6, 4.3, 4, 2.8, 2.8, 2.4, 2.4, 2.2, 2, 2, 1.9, 1.5, 1, 0.8, 0.15, 0.15,
         0.1, 0.05),
        strict=True,
    )
)  # fmt: skip
_SHARES: Final = (
    dict.fromkeys(_UPPER, 1 / len(_UPPER)),
    {c: share / sum(_ENGLISH.values()) for c, share in _ENGLISH.items()},
    dict.fromkeys("0123456789", 1 / 10),
    {"/": 0.95, "+": 0.05},
)
# Each row: what follows upper case, lower case, a digit, a sign. The first character is as one behind a sign.
_FOLLOWS: Final = (
    (0.25, 0.65, 0.03, 0.07),
    (0.13, 0.75, 0.02, 0.10),
    (0.15, 0.10, 0.60, 0.15),
    (0.40, 0.45, 0.13, 0.02),
)
_BITS: Final = {
    before + c: math.log2(64 * chance * share)
    for befores, row in zip(_SHARES, _FOLLOWS, strict=True)
    for before in befores
    for shares, chance in zip(_SHARES, row, strict=True)
    for c, share in shares.items()
}
_BITS_OF_WORDS: Final = 24


@dataclass(frozen=True, slots=True)
class Run:
    """A run of base64 characters: its span in the text, and the characters with their notation undone."""

    start: int
    end: int
    value: str = field(repr=False)


def runs(text: str, low: int, high: int) -> Iterator[Run]:
    """Yield every longest run of 40 or more base64 characters in text[low:high], in order.

    `=` and every other character is a border. A run that a window border cuts is not longest: callers widen their
    windows to white space or take more than they need.
    """
    for start, end in _stretches(text, low, high):
        for found in _RUNS.finditer(text, start, end):
            if found[1] is None:
                continue
            value = undo(found[1])
            if len(value) >= SECRET_LENGTH:
                yield Run(found.start(), found.end(), value)


def _stretches(text: str, low: int, high: int) -> Iterator[tuple[int, int]]:
    """Yield the parts of text[low:high] that can hold runs: found by looking for 40 marks, as the expression is slow.

    No character beside a part can belong to a run, its signs or an escape.
    """
    marked, end = text[low:high].encode("latin-1", "replace").translate(_MARKED), 0
    while (start := marked.find(_LONG, end)) >= 0:
        end = marked.find(b"\0", start)
        end = len(marked) if end < 0 else end
        yield low + start, low + end


def undo(raw: str) -> str:
    """Write `+` and `/` plainly where they stand in another notation."""
    if "%" not in raw and "\\" not in raw and "&" not in raw:
        return raw
    return _ENCODED.sub(lambda sign: "+" if _is_plus(sign[0]) else "/", raw)


def _is_plus(sign: str) -> bool:
    return sign[-1] in "bB" or sign.rstrip(";").lower().endswith(("43", "2b", "plus"))


def plausible(value: str) -> bool:
    """Whether AWS can have issued this secret, but for odds below 10^-6.

    Ruled out: what holds 20 characters in a row of a digest in hexadecimal (2 * 21 * (16/64)^20 = 4 * 10^-11), also
    with a vendor's letters beside it; no upper case or no lower case letter (each (38/64)^40 = 10^-9); 34 or more
    letters of one case (2 * 10^-8), or 22 of them in a row (6 * 10^-8); 7 or fewer changes between upper case, lower
    case, digits and signs (39 borders, each a change with odds 0.645: 3 * 10^-8); names and paths made of words.
    """
    if _DIGEST.search(value) is not None or _LOWER_RUN.search(value) is not None:
        return False
    upper, lower = sum(map(_UPPER.__contains__, value)), sum(map(_LOWER.__contains__, value))
    return 0 < upper < 34 and 0 < lower < 34 and changes(value) > 7 and not _is_of_words(value)


def _is_of_words(value: str) -> bool:
    """Whether a value is 2^24 times as likely as a name or path, as in `DescribeDBInstances/Output`, as by chance.

    Whatever the model, at most one of 2^24 random secrets reaches that (Markov's inequality): 6 * 10^-8.
    """
    return sum(map(_BITS.__getitem__, map(operator.add, "/" + value, value))) >= _BITS_OF_WORDS


def changes(value: str) -> int:
    """Count how often upper case, lower case, digits and signs take turns: about 25 in a random secret."""
    return len(_TURNS.findall(value)) - 1


def wordlike(value: str) -> bool:
    """Whether a run reads like names or paths: true of 1 random secret in 2,000, so it may rank but never rule out."""
    return changes(value) < 15


def is_placeholder(value: str) -> bool:
    """Whether a secret or key id is written to be replaced: EXAMPLE, six equal characters, a counting row.

    Case-blind words of six letters meet a random secret with odds of 35 * (1/32)^6 = 3 * 10^-8 each.
    """
    lowered = value.lower()
    return any(map(lowered.__contains__, _PLACEHOLDERS)) or _REPEATED.search(value) is not None
