"""What a path, a chain of containers or a message is kept and shown as: a secret that stands in it is masked. Pure.

A mark takes the secret's place: nothing of it, not its length, is left. Folder names of forty characters are ordinary
(git's objects, Nix, pnpm, Docker), so a run of characters is masked only beside a key id or a secret's own name. What
is ordinary and looks like a secret there is masked too: the file is found again all the same (`scanner.walk`).
"""

from __future__ import annotations

import re
from typing import Final

from firedamp.storage.keyid import KEY_PREFIXES

MARK: Final = "[secret]"

KEY_ID: Final = re.compile(f"((?:{'|'.join(KEY_PREFIXES)})[A-Z0-9]{{16}})")
_TELLING: Final = (
    *KEY_PREFIXES, "IQoJ", "AgoJ", "FwoG", "FQoG", "AQoD", "ABSK", "bedrock-api", "amzn.mws", "da2-", ":/", "ecret",
    "ECRET",
)  # fmt: skip
"""Some of these stands in every text in which something is masked: to look for them takes a microsecond."""
_RUN: Final = re.compile(r"[A-Za-z0-9+=_%-]{40,}")
_ACROSS: Final = re.compile(r"(?<![A-Za-z0-9+])(?=([A-Za-z0-9+/]{40})(?![A-Za-z0-9+]))")
_TURNS: Final = re.compile(r"[A-Z]+|[a-z]+|[0-9]+|[+/]+")
_FEWEST_TURNS: Final = 12
"""A random secret has 26 turns of upper case, lower case, digits and signs, give or take 3; a path of words fewer."""
_WHOLE: Final = re.compile(
    r"(?:IQoJb3JpZ2lu|AgoJb3JpZ2lu|F[wQ]oGZXIvYXdz|AQoDYXdz)[A-Za-z0-9+=_%-]{16,}|ABSK[A-Za-z0-9+=_%-]{60,}"
    r"|bedrock-api-key-[A-Za-z0-9+=_%-]{40,}|amzn\.mws\.[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}"
    r"|(?<![A-Za-z0-9])da2-[a-z0-9]{26}(?![A-Za-z0-9])"
)
"""Credentials that are told by how they begin (`scanner.keys`), whatever stands beside them."""
_LOGIN: Final = re.compile(r"""(?<=:/)(/?)[^/@\s"':]*:[^/@\s"']*(?=@)""")
"""User and password of a URL, also of one whose two slashes became one, as in the name of a folder."""
_NAMED: Final = re.compile(
    r"(?i:secret[_. -]?access[_. -]?key|aws[a-z_. -]{0,16}secret)[A-Za-z_. -]{0,12}[^A-Za-z0-9+/]{1,12}"
    r"([A-Za-z0-9+]{40})(?![A-Za-z0-9+])"
)


def masked(text: str, *, across: bool = False) -> str:
    """Return text with a mark for each secret in it, or for what may be one beside a key id. A mark stays as it is.

    A name goes with the key ids in it and in the folders above it, so that a folder is called the same in the paths of
    all that is in it. across: with those below it as well, and a secret may be parted into folders by its slashes.
    """
    if not any(map(text.__contains__, _TELLING)):
        return text
    text = _LOGIN.sub(rf"\1{MARK}", _WHOLE.sub(MARK, text))
    text = _NAMED.sub(lambda found: found[0].replace(found[1], _unless_plain(found[1])), text)
    first = KEY_ID.search(text)
    if first is None:
        return text
    start = 0 if across else text.rfind("/", 0, first.start()) + 1
    pieces = KEY_ID.split(text[start:])
    pieces[::2] = [_RUN.sub(lambda found: _unless_plain(found[0]), piece) for piece in pieces[::2]]
    if across:
        pieces[::2] = map(_without_parted, pieces[::2])
    return text[:start] + "".join(pieces)


def _unless_plain(run: str) -> str:
    """Return a mark for a run, unless it is of one case, as names and digests are: one random secret in 10^9 is."""
    return run if run in {run.lower(), run.upper()} else MARK


def _without_parted(text: str) -> str:
    """Mask what is as long as a secret between two borders, slash by slash."""
    parts, done, until = list[str](), 0, 0
    for found in _ACROSS.finditer(text):
        run, start = found[1], max(found.start(), until)
        if "/" in run and len(_TURNS.findall(run)) > _FEWEST_TURNS:
            until = found.end(1)
            parts += [text[done:start], re.sub("[^/]+", MARK, text[start:until])]
            done = until
    return "".join([*parts, text[done:]])
