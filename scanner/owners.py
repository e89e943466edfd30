"""Whose a path in a repository is, as its CODEOWNERS file says. Pure, but for `of`, which reads the file from HEAD.

GitHub: docs.github.com, "About code owners"; GitLab, which has sections and exclusions too: docs.gitlab.com,
"Code Owners syntax". The file is a stranger's: its size, lines and patterns have limits, and a pattern costs time in
proportion to the path, whatever stars stand in it.
"""

from __future__ import annotations

import fnmatch
import functools
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from firedamp.scanner.objects import Layout, ObjectAccess, resolve

_PLACES: Final = (".github/CODEOWNERS", "CODEOWNERS", "docs/CODEOWNERS", ".gitlab/CODEOWNERS")
"""The first that is there counts: GitHub's order, then what only GitLab knows."""
_LARGEST: Final = 3 << 20
"""Bytes: GitHub loads no larger one."""
_LINES: Final = 20_000
_LONGEST: Final = 1_000
_SECTION: Final = re.compile(r"\^?\[([^\]]{1,200})\](?:\[\d+\])?(.*)")
_WORD: Final = re.compile(r"(?:\\.|[^\s\\])+")
_OWNER: Final = re.compile(r"@[\w@./-]{1,200}|[^\s@]{1,200}@[^\s@]{1,200}")


@dataclass(frozen=True, slots=True)
class Rule:
    """One line. parts are the pattern's folders and last name; without owners nobody owns what fits.

    below: a folder that fits stands for all it holds. whole: what fits itself, too. never: nothing later owns it.
    """

    parts: tuple[str, ...]
    owners: tuple[str, ...]
    below: bool
    whole: bool
    never: bool = False

    def fits(self, path: Sequence[str]) -> bool:
        """Whether the rule is about a path, given as its folders and name."""
        at = _closed({0}, self.parts)
        for number, name in enumerate(path, 1):
            at = _closed(
                {step for state in at if state < len(self.parts) for step in _steps(state, name, self.parts)},
                self.parts,
            )
            if len(self.parts) in at and (self.whole if number == len(path) else self.below):
                return True
        return False


def _closed(states: set[int], parts: Sequence[str]) -> set[int]:
    """Add what is reached without a name: `**` stands for no folder, too."""
    return states | {state + 1 for state in states if state < len(parts) - 1 and parts[state] == "**"}


def _steps(state: int, name: str, parts: Sequence[str]) -> tuple[int, ...]:
    if parts[state] == "**":
        return (state, state + 1) if state == len(parts) - 1 else (state,)
    return (state + 1,) if _glob(parts[state])(name) else ()


@functools.lru_cache(maxsize=4096)
def _glob(pattern: str) -> Callable[[str], object]:
    # Brackets are plain characters here. What fnmatch makes of stars never goes back over what it took.
    return re.compile(fnmatch.translate(pattern.replace("[", "[[]"))).match


@dataclass(frozen=True, slots=True)
class Owners:
    """A CODEOWNERS file: the rules of each section, in their order. GitHub's has one section."""

    sections: tuple[tuple[Rule, ...], ...]

    def of(self, path: str) -> tuple[str, ...]:
        """Return the owners of a path, each once: in each section those of the last line that fits."""
        parts, found = path.split("/"), dict[str, None]()
        for rules in self.sections:
            if any(rule.never and rule.fits(parts) for rule in rules):
                continue
            last = next((rule for rule in reversed(rules) if not rule.never and rule.fits(parts)), None)
            found |= dict.fromkeys(() if last is None else last.owners)
        return tuple(found)


def parse(text: str) -> Owners:
    """Read a CODEOWNERS file; lines that are none are passed by, as the forges do."""
    sections: dict[str, list[Rule]] = {"": []}
    section, default = "", tuple[str, ...]()
    for line in text.splitlines()[:_LINES]:
        if len(line) > _LONGEST or not _WORD.search(line) or line.lstrip().startswith("#"):
            continue
        if (heading := _SECTION.fullmatch(line.strip())) is not None and not heading[2].startswith(("/", "*")):
            section, default = heading[1].strip().lower(), _named(heading[2].split())
            sections.setdefault(section, [])
            continue
        words = [word.replace("\\ ", " ").replace("\\#", "#") for word in _WORD.findall(line)]
        owners = words[1 : next((n for n, word in enumerate(words) if n and word.startswith("#")), None)]
        rule = _rule(words[0], _named(owners) or (default if not owners else ()))
        if rule is not None and (not owners or rule.owners):
            sections[section].append(rule)
    return Owners(tuple(tuple(rules) for rules in sections.values()))


def _named(words: Sequence[str]) -> tuple[str, ...]:
    return tuple(word for word in words if _OWNER.fullmatch(word))


def _rule(pattern: str, owners: tuple[str, ...]) -> Rule | None:
    never = pattern.startswith("!")
    pattern = pattern.removeprefix("!")
    parts = tuple(part for part in pattern.split("/") if part)
    if not parts:
        return Rule(("**",), owners, below=True, whole=True, never=never) if pattern == "/" else None
    if "/" not in pattern.rstrip("/"):
        parts = ("**", *parts)
    # `docs/*` is what stands in docs itself, and nothing deeper.
    return Rule(parts, owners, below=parts[-1] != "*", whole=not pattern.endswith("/"), never=never)


def of(layout: Layout) -> Owners | None:
    """Read the CODEOWNERS file of a repository's HEAD, None if it has none."""
    head = resolve(layout)
    if head is None:
        return None
    with ObjectAccess(layout) as git:
        for place in _PLACES:
            with (
                git.start("cat-file", "--batch", lines=[f"{head}:{place}\n".encode()]) as running,
                io.BufferedReader(running.stdout) as stdout,
            ):
                _, kind, size = (stdout.readline(_LONGEST).split() + [b""] * 3)[:3]
                if kind == b"blob" and int(size) <= _LARGEST:
                    return parse(stdout.read(int(size)).decode("utf-8", "replace"))
    return None
