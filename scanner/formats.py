"""Which bytes are a container. Apart from what opens them, which only the worker loads.

To add a format: one row in FORMATS, and in `containers` the function that yields its parts.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import Final

from firedamp.scanner.stub import is_stub

HEAD: Final = 4096
"""How many first bytes `container_of` wants. Fewer do for everything but mail, notebooks and tar (512)."""


@dataclass(frozen=True, slots=True)
class Format:
    """A kind of container, and how it begins: a regular expression on bytes."""

    name: str
    start: bytes
    raw: bool = False
    """Whether a look at its bytes as stored may show what its parts do not: remains, free pages, comments."""
    plain: bool = False
    """Whether its text stands in it as it is: then it is opened only when a look at its bytes showed something."""


_BINARY: Final = rb"(?=[\t\n\r -~]{0,16}[^\t\n\r -~])"
"""What no text about a format has behind the marks that it begins with."""
_LINE: Final = rb"[^\n]*+\n(?:[ \t][^\n]*+\n)*+"
_HEADERS: Final = rb"(?:[!-9;-~]{1,200}+:%b)*?" % _LINE
"""Lines of a mail's header, as few as do: names are printable (RFC 5322, 3.6.8), longer lines are folded."""
_OF_MAIL: Final = (
    rb"(?=[AaDdFfMmRr])(?i:From:[^\n]*@"
    rb"|(?:Message-ID|MIME-Version|Received|Return-Path|Delivered-To|DKIM-Signature|ARC-Seal):)"
)
_OFTEN_IN_MAIL: Final = rb"(?i:From|To|Cc|Subject|Date|Content-Type|Content-Transfer-Encoding):"
"""What other texts have too: HTTP, forms, lists of settings."""
_FIELD: Final = _HEADERS + rb"(?:%b|%b)" % (_OF_MAIL, _OFTEN_IN_MAIL)
_MAIL: Final = rb"(?=%b%b)" % (_HEADERS, _OF_MAIL) + _FIELD + _LINE + _FIELD
"""A header of which one field is a mail's only, and one more is at home there. Any other may stand first."""
_DRAFT: Final = rb"(?=(?:%b){0,2}(?i:Subject):)(?=(?:%b){0,2}(?i:To|Cc):)%b" % (
    _LINE,
    _LINE,
    _LINE.join((_OFTEN_IN_MAIL,) * 3),
)
"""What was not sent yet has no field that is a mail's only: the first three are at home there, with Subject and To."""

_OFFICE: Final = (
    rb"(?:\xef\xbb\xbf)?\s*(?:<\?xml[^>]{0,200}>\s*)?(?:<!--[^>]{0,500}-->\s*)?"
    rb"<(?:w:(?:document|hdr|ftr|footnotes|endnotes|comments)|p:(?:sld|notes)"
    rb"|sst|worksheet|comments|office:document(?:-content|-styles)?)[\s>]"
)
"""How XML begins that is the text of a document, sheet or slides (OOXML or OpenDocument)."""

FORMATS: Final[tuple[Format, ...]] = (
    Format(
        "zip",
        rb"PK(?:\x03\x04%b|\x05\x06%b|\x07\x08PK\x03\x04|00PK\x03\x04)|Cr24[\x02\x03]\x00\x00\x00" % (_BINARY, _BINARY),
    ),
    Format("gzip", rb"\x1f\x8b\x08"),
    Format("bzip2", rb"BZh[1-9](?:\x31\x41\x59\x26\x53\x59%b|\x17\x72\x45\x38\x50\x90)" % _BINARY),
    Format("xz", rb"\xfd7zXZ\x00|\x5d\x00\x00[\x00-\xff]{2}(?:\xff{8}|[\x00-\xff]{5}\x00{3})"),
    Format("zstd", rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18"),
    Format("lz4", rb"\x04\x22\x4d\x18|\x02\x21\x4c\x18"),
    Format("7z", rb"7z\xbc\xaf\x27\x1c"),
    Format("ar", rb"!<arch>\n(?s:.{58}`\n)"),
    Format(
        "cpio",
        rb"07070[12][0-9A-Fa-f]{104}|070707[0-7]{70}"
        rb"|(?:\xc7\x71[\x00-\xff]{5}|\x71\xc7[\x00-\xff]{4})[\x11\x21\x41\x61\x81\xa1]",
    ),
    Format("rpm", rb"\xed\xab\xee\xdb"),
    Format("git", rb"# v[23] git bundle\n|PACK\x00{3}[\x02\x03]", raw=True),
    Format("reftable", rb"REFT[\x01\x02]", raw=True),
    Format("sqlite", rb"SQLite format 3\x00(?s:.{84})", raw=True),
    Format("plist", rb"bplist00", raw=True),
    Format("pdf", rb"%PDF-(?:\d\.\d[\r\n]|(?s:.*?)\d\s+obj\b)", raw=True),
    Format("pyc", rb"[\x00-\xff][\x0b-\x0e]\r\n|[\x00-\xff]\xf2\r\n|\x03\xf3\r\n", raw=True, plain=True),
    Format(
        "notebook",
        rb'\s{0,8}\{\s{0,20}(?:"cells"\s*:\s*\[|"nbformat"\s*:|"metadata"\s*:\s*\{(?s:.{0,3000}?)"(?:kernelspec|language_info|colab)")',
        raw=True,
        plain=True,
    ),
    Format("office", _OFFICE),
    Format("mbox", rb"From \S+ [^\n]{0,40}\d\d:\d\d[^\n]{0,60}\r?\n[!-9;-~]{1,200}:", raw=True),
    Format("mail", rb"%b|%b" % (_MAIL, _DRAFT), raw=True),
    # Last: anything may stand at the first 148 bytes of a tar, and the checksum has the last word.
    Format("tar", rb"(?s:.{148})[0-7 \x00]{8}(?s:.{101})(?:ustar|(?s:.{5}))"),
)

BY_NAME: Final = {each.name: each for each in FORMATS}
PLAIN: Final = frozenset(f.name for f in FORMATS if f.plain)
"""Formats that a source opens only when the prefilter saw something in their bytes."""

_STARTS: Final = re.compile(b"|".join(b"(?P<is_%b>%b)" % (f.name.encode(), f.start) for f in FORMATS))


def container_of(head: bytes, tail: bytes = b"") -> str | None:
    """Name the format of a file from its first bytes (HEAD of them, or all), or None when it is no container.

    tail, its last bytes (64 KiB), shows a zip behind an executable or a script.
    """
    match = _STARTS.match(head)
    name = None if match is None or match.lastgroup is None else match.lastgroup.removeprefix("is_")
    if name == "tar" and not _tar_header(head[:512]):
        name = None
    if tail and name is None and is_stub(head) and holds_zip_end(tail):
        return "zip"
    return name


def must_open(head: bytes, tail: bytes = b"") -> str | None:
    """Do as `container_of`, but pass over formats whose bytes tell by themselves whether to open them (`PLAIN`)."""
    name = container_of(head, tail)
    return None if name in PLAIN else name


_ZIP_END: Final = struct.Struct("<4sHHHHI")


def holds_zip_end(tail: bytes) -> bool:
    """Whether a zip's end record stands in tail (APPNOTE 4.3.16), not only its mark: unzip programs hold that too.

    One disk, as many entries here as in all, at least one, and a directory with room for them.
    """
    # One byte is found twenty times as fast as four, and a script has no such byte.
    at = tail.rfind(b"PK\x05\x06") if b"\x05" in tail else -1
    while at >= 0:
        if at + _ZIP_END.size <= len(tail):
            _, disk, first, here, all_of_them, size = _ZIP_END.unpack_from(tail, at)
            if disk == first == 0 and here == all_of_them > 0 and size >= 46 * here:
                return True
        at = tail.rfind(b"PK\x05\x06", 0, at)
    return False


def _tar_header(block: bytes) -> bool:
    """Whether the checksum of a tar header holds. All zeros is none."""
    import tarfile  # few files come so far

    try:
        tarfile.TarInfo.frombuf(block, "latin-1", "replace")
    except (tarfile.HeaderError, ValueError):
        return False
    return True
