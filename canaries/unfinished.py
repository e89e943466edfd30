"""Whether a text ends in the middle of something: what is added behind it would become a part of that. Pure.

A quote or bracket that stays open, a heredoc without its end, a last line that goes on. Each reader knows as much of
its language as that takes, and no more.
"""

from __future__ import annotations

import re
from typing import Final

_QUOTED: Final = r"""'[^']*'|"(?:[^"\\]|\\[\s\S])*\""""
_HEREDOC: Final = r"""<<(?P<dash>[-~]?)[ \t]*(?P<quote>["']?)\\?(?P<word>[A-Za-z_]\w*)(?P=quote)"""
_C_QUOTED: Final = r"""\$'(?:[^'\\]|\\[\s\S])*'"""
_ARITHMETIC: Final = r"""\(\((?:[^()\n]|\([^()\n]*\))*\)\)"""
"""A `<<` in it begins no heredoc."""
_SHELL: Final = re.compile(
    rf"""\\[\s\S]|{_C_QUOTED}|{_QUOTED}|(?<![^\s;&|()])#[^\n]*|{_ARITHMETIC}|<<<|{_HEREDOC}|"""
    r"""\$(?!')|[^\\'"#<$]|[#<]"""
)
_HCL: Final = re.compile(
    r"""(?P<open>[\[{(])|(?P<close>[\]})])|"(?:[^"\\\n]|\\.)*"|(?:\#|//)[^\n]*|/\*[\s\S]*?\*/|"""
    rf"""{_HEREDOC}|[^"/<]|/(?!\*)|<"""
)
_FLOW: Final = re.compile(rf"""(?P<open>[\[{{])|(?P<close>[\]}}])|(?<=\w)['"]|{_QUOTED}|(?<!\S)\#[^\n]*|[^'"]""")
_QUOTE: Final = re.compile(r"""'(?:[^']|'')*+'|"(?:[^"\\]|\\[\s\S])*\"""")
_ASSIGNED: Final = re.compile(
    r"""^[ \t]*(?:export[ \t]+)?[\w.-]+[ \t]*=[ \t]*"""
    r"""(?:'[^']*'|"(?:[^"\\]|\\[\s\S])*"|`[^`]*`|(?P<begun>["'`])|)""",
    re.MULTILINE,
)
_VALUE: Final = re.compile(
    r"""(?P<indent>[ ]*)(?:-[ ]+)*(?:(?:"[^"\n]*"|'[^'\n]*'|[^\s"'#\[{][^\n]*?)[ ]*:(?:[ ]+|$))?""", re.MULTILINE
)
_TAG: Final = re.compile(r"(?:[&!]\S*[ ]+)*")


def shell(text: str) -> bool:
    """Whether a script ends inside a quote, a heredoc or a line that goes on."""
    return _ends_within(text, _SHELL)


def hcl(text: str) -> bool:
    """Whether Terraform's language ends inside a bracket, a text, a comment or a heredoc."""
    return _ends_within(text, _HCL)


def dotenv(text: str) -> bool:
    """Whether a .env file ends inside a quoted value, a heredoc or a line that goes on.

    A quote counts at the beginning of a value only: `MOTD=don't` is finished.
    """
    at = 0
    while found := _ASSIGNED.search(text, at):
        if found["begun"]:
            return True
        at = max(found.end(), at + 1)
    heredocs = re.finditer(_HEREDOC, text)
    return continued(text) or any(_end(text, each, each.end()) is None for each in heredocs)


def continued(text: str) -> bool:
    """Whether the last line ends with a backslash, and is no comment: the next one is a part of it."""
    last = text.removesuffix("\n").removesuffix("\r").rpartition("\n")[2]
    slashes = len(last) - len(last.rstrip("\\"))
    return slashes % 2 == 1 and not last.lstrip().startswith(("#", "!"))


def yaml(text: str) -> bool:
    """Whether a map ends inside a quoted or bracketed value."""
    at = 0
    while at < len(text):
        found = _VALUE.match(text, at)
        begin = at if found is None else found.end()
        tagged = _TAG.match(text, begin)
        begin = begin if tagged is None else tagged.end()
        match text[begin : begin + 1]:
            case "'" | '"':
                quote = _QUOTE.match(text, begin)
                if quote is None:
                    return True
                begin = quote.end()
            case "[" | "{":
                end = _bracketed(text, begin)
                if end is None:
                    return True
                begin = end
            case "|" | ">":
                deep = "" if found is None else found["indent"]
                block = re.compile(rf"[^\n]*\n(?:{deep}[ ]+[^\n]*\n?|[ \t]*\n)*").match(text, begin)
                begin = (len(text) if block is None else block.end()) - 1
            case _:
                pass
        line = text.find("\n", begin)
        at = len(text) if line < 0 else line + 1
    return False


def _bracketed(text: str, at: int) -> int | None:
    depth = 0
    while token := _FLOW.match(text, at):
        at = token.end()
        depth += bool(token["open"]) - bool(token["close"])
        if depth <= 0:
            return at
    return None


def _ends_within(text: str, tokens: re.Pattern[str]) -> bool:
    at = depth = 0
    waiting: re.Match[str] | None = None
    while at < len(text):
        token = tokens.match(text, at)
        if token is None:
            return True
        at, word = token.end(), token.group()
        groups = token.groupdict()
        depth += bool(groups.get("open")) - bool(groups.get("close"))
        waiting = token if groups["word"] else waiting
        if word == "\n" and waiting is not None:
            end = _end(text, waiting, at)
            if end is None:
                return True
            at, waiting = end, None
        elif word in {"\\\n", "\\\r"} and not text[at:].strip("\r\n"):
            return True
    return depth > 0 or waiting is not None


def _end(text: str, heredoc: re.Match[str], at: int) -> int | None:
    """Return where the line stands that ends a heredoc."""
    indent = r"[ \t]*" if heredoc["dash"] else ""
    found = re.compile(rf"^{indent}{heredoc['word']}\r?$", re.MULTILINE).search(text, at)
    return None if found is None else found.end()
