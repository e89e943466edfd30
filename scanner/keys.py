"""The table of key kinds: how each looks, where it ends, what is an example of it, and what only resembles it. Pure.

A *shape* is a value's beginning as the prefilter looks for it: one set of possible bytes for each position. `decode`
turns shapes into what they look like encoded, so a new row is found in every encoding without another line.

Sources: IAM guide, "Unique identifiers"; Bedrock guide, "API keys"; AppSync guide, "API_KEY authorization"; MWS guide,
"Authorization tokens"; SES guide, "Obtaining SMTP credentials". Session token beginnings are the protocol's own
(`origin_ec` and `…er/aws` in base64), as seen in AWS's published examples.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from typing import Final

from firedamp.scanner.candidates import Candidate, Role
from firedamp.storage import keyid
from firedamp.storage.records import KeyKind
from firedamp.storage.secret import Secret

Shape = tuple[bytes, ...]
"""The bytes that may stand at each position, each set sorted."""

_UPPER: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_LOWER: Final = b"abcdefghijklmnopqrstuvwxyz"
_DIGITS: Final = b"0123456789"
BASE32: Final = b"234567" + _UPPER
BASE64: Final = b"+/" + _DIGITS + _UPPER + _LOWER


def shape(head: bytes, *tail: bytes) -> Shape:
    """Return the shape of literal bytes followed by one set for each further position."""
    return tuple(head[i : i + 1] for i in range(len(head))) + tail


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of credential, or of a part of one.

    shapes: what the prefilter looks for as it stands; enough: how many positions of a shape an encoded form carries.
    heads: the literal beginnings, bare. words: names beside a value that
    has no head of its own; they are looked for encoded, and unencoded inside expressions (Hyperscan syntax) that ask
    for a value near them. exact: the whole value, matched at its first byte; None where only the pairing can tell.
    """

    kind: KeyKind
    role: Role
    shapes: tuple[Shape, ...] = ()
    enough: int = 0
    heads: tuple[bytes, ...] = ()
    words: tuple[bytes, ...] = ()
    expressions: tuple[bytes, ...] = ()
    exact: re.Pattern[bytes] | None = None
    longest: int = 0
    """A value longer than this is noise."""
    examples: tuple[str, ...] = ()
    near_misses: tuple[str, ...] = ()


def _made(head: str, alphabet: bytes, length: int) -> str:
    """Return a fixed value of the right form that nobody was ever given: examples are computed, never written down."""
    return head + "".join(chr(alphabet[(i * i * 7 + i * 3 + 11) % len(alphabet)]) for i in range(length))


def _made_id(head: str) -> str:
    """Return an id whose account is small: Q opens the generation that carries one, and A is zero."""
    return _made(head + "QA", BASE32, 14)


def _key_id(*heads: bytes) -> re.Pattern[bytes]:
    """Return the pattern of key ids: base32 behind the head, or one of the documentation's, which are not."""
    return re.compile(rb"(?:" + b"|".join(heads) + rb")(?:[A-Z2-7]{16}|[A-Z0-9]{9}EXAMPLE)")


# In a token or key, a sign may stand in the notation of the text around it: percent-encoded or escaped for JSON.
_SIGN: Final = rb"(?:%2[BbFf]|%3[Dd]|\\/|\\u002[BbFf]|\\u003[Dd])"
_BODY: Final = rb"(?:[A-Za-z0-9+/_-]|" + _SIGN + rb")"
_PAD: Final = rb"(?:=|%3[Dd]|\\u003[Dd]){0,2}"

_SECRET_WORDS: Final = (
    b"secret_access_key",
    b"SECRET_ACCESS_KEY",
    b"SecretAccessKey",
    b"secretAccessKey",
    b"aws_secret",
    b"AWS_SECRET",
)
# A value is 40 characters of base64, perhaps escaped; what stands between name and value is punctuation, or a field
# name (`value`, `string`). Its exact borders are the pairing's business.
_LONE_SECRET: Final = (
    rb"(?is)(?:secret[_. -]?access[_. -]?key|aws[a-z_. -]{0,16}secret)[a-z_. -]{0,12}"
    rb"[^A-Za-z0-9+/]{1,12}(?:[a-z]{1,8}[^A-Za-z0-9+/]{1,12})?[A-Za-z0-9+/\\%]{40}"
)
_LONE_SMTP: Final = rb"(?is)(?:ses|smtp)[a-z_. -]{0,16}pass[a-z_. -]{0,8}[^A-Za-z0-9+/]{1,12}B[A-P][A-Za-z0-9+/\\%]{42}"

_HEX: Final = b"0123456789ABCDEFabcdef"
_LOWER_DIGITS: Final = _DIGITS + _LOWER
_TOKEN_HEADS: Final = (b"IQoJb3JpZ2lu", b"AgoJb3JpZ2lu", b"FwoGZXIvYXdz", b"FQoGZXIvYXdz", b"AQoDYXdz", b"AQoEXAMPLE")
_BEDROCK_HOST: Final = b"bedrock-api-key-YmVkcm9jay5hbWF6b25hd3MuY29t"

KINDS: Final[tuple[Kind, ...]] = (
    Kind(
        kind=KeyKind.ACCESS_KEY,
        role=Role.KEY_ID,
        shapes=(
            *(shape(head, *[BASE32] * 16) for head in (b"AKIA", b"ABIA", b"ACCA")),
            shape(b"AKIA", *[_DIGITS + _UPPER] * 9, *shape(b"EXAMPLE")),
        ),
        enough=6,
        heads=(b"AKIA", b"ABIA", b"ACCA"),
        exact=_key_id(b"AKIA", b"ABIA", b"ACCA"),
        longest=20,
        examples=(_made_id("AKIA"), _made_id("ABIA"), _made_id("ACCA"), "AKIA" + "IOSFODNN7EXAMPLE"),
        near_misses=(
            _made_id("AROA"),
            _made_id("AIDA"),
            _made_id("AGPA"),
            _made_id("AKIA").lower(),
            _made_id("AKIA")[:-1],
            _made_id("AKIA")[:-1] + "8",
            _made_id("AKIA") + "A",
            "x" + _made_id("AKIA"),
            "AKIA" + "7" * 16,  # decodes to an account of thirteen digits
        ),
    ),
    Kind(
        kind=KeyKind.TEMPORARY_KEY,
        role=Role.KEY_ID,
        shapes=(
            shape(b"ASIA", *[BASE32] * 16),
            shape(b"ASIA", *[_DIGITS + _UPPER] * 9, *shape(b"EXAMPLE")),
        ),
        enough=6,
        heads=(b"ASIA",),
        exact=_key_id(b"ASIA"),
        longest=20,
        examples=(_made_id("ASIA"), "ASIA" + "IOSFODNN7EXAMPLE"),
        near_misses=(_made_id("ASIA") + "2", "ASIA PACIFIC REGIONAL OFFICE", "ASIA_" + _made_id("ASIA")[5:]),
    ),
    Kind(
        kind=KeyKind.SECRET_KEY,
        role=Role.SECRET,
        words=_SECRET_WORDS,
        expressions=(_LONE_SECRET,),
        examples=("aws_secret_access_key = " + _made("", BASE64, 40),),
        near_misses=("aws_secret_access_key = ${SECRET}", "sha1: " + _made("", b"0123456789abcdef", 40)),
    ),
    Kind(
        kind=KeyKind.SESSION_TOKEN,
        role=Role.TOKEN,
        shapes=tuple(shape(head) for head in _TOKEN_HEADS),
        enough=10,
        heads=_TOKEN_HEADS,
        exact=re.compile(rb"(?:" + b"|".join(_TOKEN_HEADS) + rb")" + _BODY + rb"{84,2060}+" + _PAD),
        longest=2048,
        examples=(_made("IQoJb3JpZ2luX2Vj", BASE64, 340), _made("FwoGZXIvYXdzE", BASE64, 200)),
        near_misses=(_made("IQoJb3JpZ2luX2Vj", BASE64, 20), _made("IQoJb3JpZ2luX2Vj", BASE64, 4000)),
    ),
    Kind(
        kind=KeyKind.BEDROCK_LONG,
        role=Role.WHOLE,
        shapes=(shape(b"ABSK", *[BASE64] * 109),),
        enough=6,
        heads=(b"ABSK",),
        exact=re.compile(rb"ABSK[A-Za-z0-9+/]{109,269}+={0,2}"),
        longest=275,
        examples=(_made("ABSKQmVkcm9ja0FQSUtleS", BASE64, 110),),
        near_misses=(_made("ABSK", BASE64, 60), _made("ABSK", BASE64, 400), _made("xABSK", BASE64, 128)),
    ),
    Kind(
        kind=KeyKind.BEDROCK_SHORT,
        role=Role.WHOLE,
        shapes=(shape(_BEDROCK_HOST),),
        enough=16,
        heads=(b"bedrock-api-key-",),
        exact=re.compile(_BEDROCK_HOST + _BODY + rb"{20,4000}+" + _PAD),
        longest=4096,
        examples=(_made(_BEDROCK_HOST.decode(), BASE64, 300),),
        near_misses=("bedrock-api-key-rotation-policy", _BEDROCK_HOST.decode()),
    ),
    Kind(
        kind=KeyKind.MWS_TOKEN,
        role=Role.WHOLE,
        shapes=(shape(b"amzn.mws.", *[_HEX] * 8, b"-"),),
        enough=9,
        heads=(b"amzn.mws.",),
        exact=re.compile(rb"amzn\.mws\.[0-9A-Fa-f]{8}-(?:[0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12}"),
        longest=45,
        examples=("amzn.mws.4ea38b7b-f563-7709-4bae-" + _made("", b"0123456789abcdef", 12),),
        near_misses=("amzn.mws.marketplace", "amzn.mws.4ea38b7b-f563-7709-4bae"),
    ),
    Kind(
        kind=KeyKind.SES_SMTP,
        role=Role.SECRET,
        words=(b"smtp_password", b"SMTP_PASSWORD"),
        expressions=(_LONE_SMTP,),
        examples=("ses_smtp_password = " + _made("BA", BASE64, 42),),
        near_misses=("ses_smtp_password = changeit",),
    ),
    Kind(
        kind=KeyKind.APPSYNC_KEY,
        role=Role.WHOLE,
        shapes=(shape(b"da2-", *[_LOWER_DIGITS] * 26),),
        enough=11,
        heads=(b"da2-",),
        exact=re.compile(rb"da2-[a-z0-9]{26}"),
        longest=30,
        examples=(_made("da2-", _LOWER_DIGITS, 26),),
        near_misses=(_made("da2-", _LOWER_DIGITS, 25), _made("da2-", _LOWER_DIGITS, 27), "7b1fdda2-4c1e-4b7e"),
    ),
)

# What may stand right before a value although its last byte is a letter or digit: the end of an escape. One for each
# notation: backslash and a letter, \xHH and \uHHHH (also with the backslash lost), octal, percent, quoted-printable, a
# terminal's colour or another of its sequences behind the last byte of what begins one, tabs as `cat -A` shows them.
_ESCAPE_END: Final = re.compile(
    rb"(?:\\[abefnrtv]|\\?[xX][0-9A-Fa-f]{2}|%?[uU][0-9A-Fa-f]{4}|\\[0-7]{1,3}|[%=][0-9A-Fa-f]{2}|\^[IJM]"
    rb"|\[[0-9;]{0,20}[mK]|[\x1b\[}3ebB]\[[0-9;?]{0,20}[A-Za-z])\Z"
)
_LONGEST_ESCAPE: Final = 24
_BENCODED: Final = (*(b"%d" % digit for digit in range(1, 10)), b"d", b"e", b"i", b"l")
"""What follows a value in bencode, which tells the length of each before it: the next one, or the end of the list."""
_ALNUM: Final = frozenset(_UPPER + _LOWER + _DIGITS)
_BESIDE: Final = 100
"""Characters on each side of an id that tell whether it stands in a blob."""
_BLOB: Final = re.compile(rb"[A-Za-z0-9+/]{%d}" % _BESIDE)
_TURN: Final = re.compile(rb"[A-Z]+|[a-z]+|[0-9]+|[+/]+")
_TURNS_OF_CHANCE: Final = 45
_SLASHES_OF_A_PATH: Final = 8
_TOKEN_BEHIND: Final = re.compile(rb"/(?:" + b"|".join(_TOKEN_HEADS) + rb")")


def candidate(row: Kind, text: bytes, start: int) -> Candidate | None:
    """Return what stands at start as a candidate of row, or None when it is noise.

    Noise is what has no end where one must be, lies inside a longer run of letters and digits, or names an account
    that cannot exist. An escape before the value is a border, not a part of a run.
    """
    if row.exact is None or not _begins(text, start):
        return None
    found = row.exact.match(text, start)
    if found is None or found.end() - start > row.longest or not _ends(row, text, start, found.end()):
        return None
    value = found.group().decode("latin-1")
    if row.role is Role.KEY_ID and "EXAMPLE" not in value and keyid.parse(value) is None:
        return None
    return Candidate(row.role, row.kind, start, found.end(), Secret(_plain(value)))


def _begins(text: bytes, start: int) -> bool:
    """Whether a value can begin at start: behind no letter or digit, but for the end of an escape."""
    before = text[max(0, start - _LONGEST_ESCAPE) : start]
    return not before or before[-1] not in _ALNUM or _ESCAPE_END.search(before) is not None


def _ends(row: Kind, text: bytes, start: int, end: int) -> bool:
    after = text[end : end + 1]
    if row.role is not Role.KEY_ID:
        return not after.isalnum() and after not in {b"+", b"/"}
    if after.isalnum() and not (after in _BENCODED and text[max(0, start - 3) : start] == b"20:"):
        return False
    # Between `+` and `/` in a blob of base64 an id is chance, not a key.
    return not _is_blob(text[max(0, start - _BESIDE) : start]) and not _is_blob(text[end : end + _BESIDE])


def _is_blob(beside: bytes) -> bool:
    """Whether what stands beside an id is a blob of base64: not a path, nor a secret and a token between slashes.

    Of 100 random characters, 65 (4.8) begin a turn of upper case, lower case, digits or signs, and 1.6 are slashes.
    """
    if _BLOB.fullmatch(beside) is None or beside.count(b"/") >= _SLASHES_OF_A_PATH:
        return False
    return len(_TURN.findall(beside)) >= _TURNS_OF_CHANCE and _TOKEN_BEHIND.search(beside) is None


def _plain(value: str) -> str:
    """Undo the notations that `_SIGN` allows inside a value."""
    if "%" not in value and "\\" not in value:
        return value
    value = value.replace("\\/", "/")
    return re.sub(r"(?:%|\\u00)(2[BbFf]|3[Dd])", lambda m: chr(int(m[1], 16)), value)


# Placeholders. Each rule is of a kind that a random id meets with a probability below 10^-8; the sum is asserted in the
# tests. There is no list of short English words: those eat real ids.
_PLACEHOLDER_WORDS: Final = (
    "EXAMPLE",
    "PLACEHOLDER",
    "ACCESSKEY",
    "CHANGEME",
    "REDACTED",
    "NOTAREALKEY",
    "YOURKEYID",
    "YOURAWSKEY",
    "DUMMYKEY",
    "FAKEKEYID",
    "SAMPLEKEY",
    "TESTTEST",
)
_RUN: Final = 8
_ORDERS: Final = (
    "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567ABCDEFGH",
    "234567ABCDEFGHIJKLMNOPQRSTUVWXYZ",
    "QWERTYUIOPASDFGHJKLZXCVBNM",
)
_SEQUENCES: Final = frozenset(
    order[i : i + _RUN] for line in _ORDERS for order in (line, line[::-1]) for i in range(len(order) - _RUN + 1)
)


@functools.lru_cache(maxsize=1 << 15)  # a log names one id in every line
def is_example(key_id: str) -> bool:
    """Whether a key id is a documentation example or a placeholder: never true of a random real id.

    True of ids that hold a published placeholder word, use at most four different characters after the head, repeat
    one character or a sequence eight times or more, or repeat a pattern of up to six characters.
    """
    body = key_id[4:]
    if any(word in body for word in _PLACEHOLDER_WORDS) or len(set(body)) <= 4:
        return True
    if any(body[i : i + _RUN] in _SEQUENCES or len(set(body[i : i + _RUN])) == 1 for i in range(len(body) - _RUN + 1)):
        return True
    return any(body[period:] == body[:-period] for period in range(1, 7))


def is_example_value(value: str) -> bool:
    """Whether a secret, token or whole credential is one that AWS publishes, or a placeholder."""
    return "EXAMPLE" in value or len(set(value)) <= 4
