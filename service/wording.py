"""An alert's facts -> words. Pure: the same alert reads the same in every channel, now and in a year."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from firedamp.canaries.facts import LONGEST
from firedamp.service.show import safe
from firedamp.storage.records import Alert, AlertKind, Severity
from firedamp.storage.times import rfc3339


@dataclass(frozen=True, slots=True)
class Worded:
    """An alert as a person reads it: a line, and the whole of it."""

    title: str
    body: str


_MARKUP: Final = re.compile(r"[<>`*]|\]\(|\|\||~~|(?<!\w)@")
"""What chats take for markup: tags and links, code, emphasis, text that is hidden or struck out, mentions."""

_TITLES: Final = {
    AlertKind.CANARY_USED: "{what} was used",
    AlertKind.ESCALATION: "{what}: the intruder goes on",
    AlertKind.MENTIONED: "Somebody looked at {what}, or touched it",
    AlertKind.LEAK: "A live AWS key leaked: {what}",
    AlertKind.DRIFT: "The bait {what} is not as it was planted",
    AlertKind.TAMPER: "The watch itself is being touched",
    AlertKind.BLIND: "The watch is blind",
    AlertKind.UNLOGGED: "{what} was used, and CloudTrail has no record of it",
    AlertKind.OVERDUE: "A drill of {what} took longer than it may",
    AlertKind.CHANNEL: "An alert channel fails",
    AlertKind.MASQUERADE: "Somebody passes for firedamp",
    AlertKind.JOB: "A scheduled job fails",
    AlertKind.TEST: "This is a test of firedamp's alerts",
}

_ADVICE: Final = {
    AlertKind.CANARY_USED: (
        "Whoever reads the place where it was planted has this key: treat that place as read by an intruder.",
        "Do not deactivate the canary: it would be blind to what they do next.",
        "firedamp incidents show {incident} tells every call.",
    ),
    AlertKind.ESCALATION: (
        "The same intruder does something new.",
        "firedamp incidents show {incident} tells every call, in order.",
    ),
    AlertKind.MENTIONED: (
        "If nobody of yours did this, an intruder with rights knows the key: find out who made the call.",
        "A canary that was deactivated or deleted is blind: make another.",
    ),
    AlertKind.LEAK: (
        "firedamp key show {key} tells what it can do; firedamp key disable {key} shows what would break, then --yes.",
        "Deleting the file does not help: whoever read it still has the key.",
    ),
    AlertKind.DRIFT: ("firedamp canary check shows what is there now.",),
    AlertKind.TAMPER: (
        "If nobody of yours changed the trail, its bucket or the rule just now, an intruder with rights is hiding.",
        "Put it back first; then look for who did it.",
    ),
    AlertKind.BLIND: ("Until it is mended, silence proves nothing. firedamp doctor says what is missing.",),
    AlertKind.UNLOGGED: (
        "AWS says the key was used; the record may be late, or the call is of a kind that is not logged.",
        "Take it for a use.",
    ),
    AlertKind.OVERDUE: ("Alarms would come as late as this drill did. firedamp doctor says where the time goes.",),
    AlertKind.CHANNEL: ("Alerts for it wait and are tried again; none is lost. firedamp alert test tries it now.",),
    AlertKind.MASQUERADE: (
        "A record carries a mark of ours that we did not make it with: somebody has read our logs or our database.",
    ),
    AlertKind.JOB: ("firedamp status shows its history.",),
    AlertKind.TEST: ("Nothing to do.",),
}


def word(alert: Alert, repeat: bool = False) -> Worded:
    """Word an alert. repeat says that an earlier try may have arrived: at least once, and marked."""
    facts = dict(alert.facts)
    what = _clean(facts.get("name") or alert.key_id or "a key")
    if alert.key_id is not None and what != alert.key_id:
        what = f"{what} ({alert.key_id})"
    values = {"what": what, "key": alert.key_id or "KEYID", "incident": alert.incident or "ID"}
    title = _TITLES[alert.kind].format(**values)
    if alert.severity is not Severity.INFO:
        title = f"[{alert.severity.name}] {title}"
    if repeat:
        title = f"{title} (may be a repeat)"
    width = max((len(name) for name, _ in alert.facts), default=0)
    lines = [f"{name.ljust(width)}  {_clean(value)}" for name, value in alert.facts]
    advice = [f"- {line.format(**values)}" for line in _ADVICE[alert.kind]]
    body = [*lines, "", "What to do now:", *advice, "", f"firedamp, {rfc3339(alert.at)}, alert {_clean(alert.key)}"]
    return Worded(title, "\n".join(body).lstrip("\n"))


def chat(alert: Alert, repeat: bool = False) -> Worded:
    """Word an alert for a chat: what a stranger chose stays text, whatever markup a service takes text for.

    A tag would hide all that stands behind it (Telegram), `[…](…)` show another address than it leads to, `@` wake
    everybody (Discord, Mattermost).
    """
    worded = word(alert, repeat)
    return Worded(_MARKUP.sub(_inert, worded.title), _MARKUP.sub(_inert, worded.body))


def _inert(found: re.Match[str]) -> str:
    """Return characters that look alike and command nothing: the full-width ones of Unicode."""
    return "".join(chr(ord(each) + 0xFEE0) for each in found.group())


def mail(alert: Alert, repeat: bool = False) -> Worded:
    """Word an alert for mail: the subject says firedamp, so that it can be filtered."""
    worded = word(alert, repeat)
    return Worded(f"firedamp: {worded.title}", f"{worded.title}\n\n{worded.body}\n")


def _clean(text: str) -> str:
    """Show what an attacker chose without letting it end the line, hide text, or grow without end."""
    shown = safe(text[:LONGEST])
    return shown + ("…" if len(text) > LONGEST else "")
