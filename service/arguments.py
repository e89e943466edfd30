"""The command line: every command, action and option, and what `--help` says of them.

`cli` turns what was given into options and runs the command. Nothing heavy is imported here.
"""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Callable, Container, Iterable, Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

from firedamp.service.options import Common, Format
from firedamp.service.ourselves import version
from firedamp.storage.errors import UsageFailure

MOST_JOBS: Final = 64
_STATES: Final = ("open", "accepted", "false-positive", "revoked")
_FINDING: Final = "a key id, or a fingerprint or its beginning, as findings list shows it"
_FEED: Final = "file:///FOLDER, s3://BUCKET/PREFIX?region=R, {}lookup:// or lookup://R1,R2; each with ?profile=P"


class _Parser(argparse.ArgumentParser):
    """Reads a command, or one action of it. Fails as everything here fails: what is wrong and what to do next."""

    _tree: argparse._SubParsersAction[_Parser] | None = None
    _usual: str | None = None

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, allow_abbrev=False)  # what a script shortens means another option one day

    def add(self, name: str, text: str, status: str = "", *, usual: bool = False) -> _Parser:
        """Add an action: its name, what it does, its exit status. usual: it is meant where none is named."""
        if usual:
            self._usual, text = name, f"{text} (meant where no action is named)"
        return self.branch("action", name, text, status)

    def branch(self, kind: str, name: str, text: str, status: str) -> _Parser:
        """Add a command or an action."""
        if self._tree is None:
            self._tree = self.add_subparsers(dest=kind, required=True, metavar=kind.upper(), title=f"{kind}s")
        return self._tree.add_parser(
            name, help=text, description=text, parents=[_common()],
            epilog=f"exit status: {status}" if status else None,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )  # fmt: skip

    def takes_value(self, word: str) -> bool:
        """Whether a word is an option whose value is the next word."""
        action = self._option_string_actions.get(word)
        return action is not None and action.nargs != 0

    def error(self, message: str) -> NoReturn:
        raise UsageFailure(message, f"see {self.prog} --help")

    def parse_known_args(self, args: Iterable[str] | None = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """Put the action first, the usual one where none is named: options may stand before it, those of it too."""
        given = sys.argv[1:] if args is None else list(args)
        if self._tree is not None and self._tree.dest == "action" and (not given or given[0].startswith("-")):
            actions = self._tree.choices
            at = _place(given, actions, actions.values())
            if at is not None:
                given.insert(0, given.pop(at))
            elif self._usual is not None and not {"-h", "--help"} & {*given}:
                given.insert(0, self._usual)
        return super().parse_known_args(given, namespace)


def _place(given: Sequence[str], names: Container[str], readers: Iterable[_Parser]) -> int | None:
    """Return where the first of some names stands that is not the value of an option that a reader knows."""
    readers, value = [*readers], False
    for at, word in enumerate(given):
        if value:
            value = False
        elif word.startswith("-"):
            value = word != "--" and any(each.takes_value(word) for each in readers)
        elif word in names:
            return at
    return None


class _Version(argparse.Action):
    """Prints the version and ends."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        print(f"firedamp {version() or 'from a checkout'}")
        parser.exit()


def parsed(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse arguments, options and names in any order. Raises UsageFailure; leaves by SystemExit after `--help`.

    argparse takes no names behind an option once a name or an action stood before it (`canary adopt --real KEYID`,
    `scan ONE --offline TWO`); it leaves them over, and they belong to the list of names, where there is one.
    """
    given = sys.argv[1:] if argv is None else argv
    at = _place(given, _COMMANDS, [_common()])
    arguments, rest = parser("" if at is None else given[at]).parse_known_args(given)
    names = getattr(arguments, "rest", None)
    unknown = [each.partition("=")[0] for each in rest if each.startswith("-") and each != "-"]
    if names is None:
        unknown = unknown or rest
    if unknown:
        command = " ".join(filter(None, (arguments.command, getattr(arguments, "action", None))))
        raise UsageFailure(f"{command} takes no {' '.join(unknown)}", f"see firedamp {command} --help")
    if names is not None:
        setattr(arguments, names, [*getattr(arguments, names), *rest])
    return arguments


def common_of(arguments: argparse.Namespace) -> Common:
    """Read the common options. They are suppressed when not given, so that any depth of the tree may set them."""
    given = vars(arguments)
    return Common(
        db=given.get("db"), config=given.get("config"), format=Format(given.get("format", Format.TABLE)),
        output=given.get("output"), jobs=given.get("jobs"), offline=given.get("offline", False),
        quiet=given.get("quiet", False),
    )  # fmt: skip


def parser(command: str | None = None) -> argparse.ArgumentParser:
    """Make the parser of everything, or of one command among the names of all: each takes a millisecond.

    What it reads names its `command`, and where there are several its `action`.
    """
    made = _Parser(
        prog="firedamp", parents=[_common()], formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Find leaked AWS keys, ask AWS whether they live, and plant canaries that shout when touched.",
        epilog=(
            "exit status: 0 clean; 1 an open finding stands, or an alarm was raised; 2 incomplete, failed, or a wrong "
            "call.\nBegin with firedamp scan, or with firedamp demo. firedamp COMMAND --help says more."
        ),
    )  # fmt: skip
    made.add_argument("--version", action=_Version, nargs=0, help="print the version")
    for name, (text, status, fill) in _COMMANDS.items():
        reader = made.branch("command", name, text, status)
        if command in {None, name}:
            fill(reader)
    return made


def _names(reader: _Parser, into: str, metavar: str, text: str) -> None:
    """Let a command or action take a list of names; what argparse leaves over of it belongs to it."""
    reader.add_argument(into, nargs="*", default=[], metavar=metavar, help=text)
    reader.set_defaults(rest=into)


def _scan(scan: _Parser) -> None:
    _names(
        scan, "targets", "TARGET",
        "a folder, file, repository, git URL or bundle, or - for standard input (default: the home directory)",
    )  # fmt: skip
    scan.add_argument(
        "--org", action="append", default=[], metavar="WHERE",
        help="every repository of github:acme, gitlab:group, gitea:https://host/org, bitbucket:workspace, "
        "azure:org/project or codecommit:region, or of a file with one URL or folder a line",
    )  # fmt: skip
    scan.add_argument("--staged", action="store_true", help="only what is about to be committed in this repository")
    scan.add_argument(
        "--all", action="store_true", dest="all_places", help="the places too that are left out by default"
    )
    scan.add_argument("--examples", action="store_true", help="documentation keys and placeholders too")
    scan.add_argument(
        "--thorough", action="store_true",
        help="all of every git object, not only what is new in it, and the names in all trees of large packs",
    )  # fmt: skip
    scan.add_argument("--new", action="store_true", help="show and count only what no earlier scan told")
    scan.add_argument(
        "--state", action="append", default=[], dest="states", choices=_STATES,
        help="show findings of this state (default: open); the exit status is of open ones; may be repeated",
    )  # fmt: skip
    scan.add_argument("--baseline", type=Path, metavar="FILE", help="leave out the findings that FILE lists")
    scan.add_argument("--write-baseline", type=Path, metavar="FILE", help="write what was found to FILE")
    scan.add_argument("--own-keys", action="store_true", help="the secrets of the local AWS profiles, by value, too")
    scan.add_argument(
        "--honour-allow", action="append", default=[], dest="honour_marks", metavar="MARK",
        help="believe this mark of another tool too (gitleaks:allow, …); may be repeated",
    )  # fmt: skip
    scan.add_argument("--show-secrets", action="store_true", help="print the secrets themselves")
    scan.add_argument(
        "--accept-incomplete", action="append", default=[], metavar="PATTERN",
        help="what fails and matches PATTERN is left out, and not a failure; may be repeated",
    )  # fmt: skip
    scan.add_argument("--nice", action="store_true", help="at low priority, paused on battery")
    scan.add_argument(
        "--cross-file-systems", action="store_false", dest="same_file_system",
        help="follow a folder onto other file systems",
    )  # fmt: skip


def _findings(findings: _Parser) -> None:
    listing = findings.add("list", "what was found and stands, the worst first", usual=True)
    show = findings.add("show", "all of what is named, every place of it")
    judge = findings.add("set", "judge what is named")
    export = findings.add("export", "all for a program: JSON lines, or --format json, sarif or csv")
    judge.add_argument("--state", choices=_STATES, help="what it is from now on; needed")
    judge.add_argument("--reason", default="", help="why")
    for each in (listing, show, judge, export):
        _names(each, "ids", "ID", _FINDING)
    for each in (listing, show, export):
        each.add_argument("--state", choices=_STATES, help="only what is in this state")
        each.add_argument("--allowed", action="store_true", help="only what a mark in its line allows")
    for each in (listing, export):
        each.add_argument("--examples", action="store_true", help="documentation keys and placeholders too")
    listing.add_argument("--by", choices=["repository", "team", "author"], help="who should act, on how much")


def _verify(verify: _Parser) -> None:
    _names(verify, "ids", "ID", f"{_FINDING} (default: those whose answer has grown old)")
    verify.add_argument("--all", action="store_true", help="every key, however new its answer is")
    verify.add_argument("--log", action="store_true", help="ask nothing: list the requests that were made so far")


def _key(key: _Parser) -> None:
    status = "0 planned or done; 2 not, or not all of it."
    show = key.add("show", "whose it is, what it can do, when it was last used", "0 shown; 2 not.")
    disable = key.add("disable", "make it inactive, deny the sessions made from it, and prove both", status)
    rotate = key.add(
        "rotate", "make a new key, write it wherever this one stands, then disable this one", status
    )  # fmt: skip
    revoke = key.add("revoke-sessions", "deny the sessions made from it, and nothing else", status)
    for each in (show, disable, rotate, revoke):
        each.add_argument("key_id", metavar="KEYID", help="the access key id")
        each.add_argument("--profile", help="the AWS profile to act with (default: the configured one)")
        each.add_argument("--with-leaked-key", action="store_true", help="act with the leaked key itself")
        why = "nothing is asked of you: it only reads" if each is show else "act; without it nothing changes"
        each.add_argument("--yes", action="store_true", help=why)
    rotate.add_argument(
        "--leave", action="append", default=[], metavar="PATTERN",
        help="leave the places that match PATTERN alone; may be repeated",
    )  # fmt: skip


def _usage(usage: _Parser) -> None:
    usage.add_argument("key_id", metavar="KEYID", help="the access key id")
    usage.add_argument(
        "--feed", action="append", default=[], dest="feeds", metavar="URL",
        help=f"read this in the place of the configured feeds: {_FEED.format('')}; may be repeated",
    )  # fmt: skip


def _canary(canary: _Parser) -> None:
    done = "0 done; 2 not, or not all of it."
    mint = canary.add(
        "mint", "make canaries in IAM: a user each, with a key and no rights; prints the secrets, once", done
    )  # fmt: skip
    adopt = canary.add("adopt", "watch keys that were made elsewhere", done)
    plant = canary.add("plant", "write a canary where it is told, with a fresh key of its own", done)
    listing = canary.add("list", "what is watched, where it stands, what proves it")
    check = canary.add(
        "check", "look whether each stands as it was planted", "0 it does; 1 drift; 2 a place could not be read."
    )
    lint = canary.add(
        "lint", "try the tests by which attackers tell a canary", "0 none tells; 1 one does; 2 something is not known."
    )
    drill = canary.add(
        "drill", "use a canary ourselves, and time the alarm", "0 in time; 1 over budget; 2 it could not be done."
    )
    nets = canary.add(
        "nets", "look at what CloudTrail cannot tell: uses without a record, a watch that is blind",
        "0 well; 1 blind, or a use without a record; 2 something could not be looked at.",
    )  # fmt: skip
    retire = canary.add("retire", "take canaries out of their places; their keys stay alive and watched", done)

    _names(adopt, "names", "KEYID", "the access key id, as it stands in a log")
    _names(plant, "names", "NAME|KEYID", "which canary")
    _names(retire, "names", "NAME|KEYID", "which canaries")
    for each, otherwise in ((listing, "all"), (check, "all"), (lint, "all"), (drill, "one of every account")):
        _names(each, "names", "NAME|KEYID", f"which canaries (default: {otherwise})")
    for each in (mint, plant, check, lint, drill, nets, retire):
        each.add_argument("--profile", help="the AWS profile to act with (default: the configured one)")
    for each, though in (
        (mint, "though attackers would tell them"), (adopt, "though AWS says that it lives, or it is a real key"),
        (plant, "though its branch is checked out, which moves it"),
        (retire, "though its branch is checked out, which moves it; forget an unfinished one unasked"),
    ):  # fmt: skip
        each.add_argument("--force", action="store_true", help=though)
    mint.add_argument("--name", help="the name, or a pattern, as in '{service}-{task}-{env}-{alnum:4}'")
    mint.add_argument("-n", dest="count", type=int, default=1, help="how many (1); 0 takes back what is unfinished")
    adopt.add_argument("--name", help="what it is called here")
    adopt.add_argument("--arn", help="whose key it is, as in arn:aws:iam::123456789012:user/NAME")
    adopt.add_argument("--real", action="store_true", help="a leaked real key, watched like a canary")
    for each in (mint, adopt):
        each.add_argument("--note", default="", help="a word to yourself")
        each.add_argument("--tag", action="append", default=[], dest="tags", metavar="K=V", help="may be repeated")
    plant.add_argument(
        "--at", dest="place", metavar="PLACE",
        help="a path, git:REPOSITORY@BRANCH:PATH, or in AWS s3://BUCKET/KEY, secretsmanager:NAME, ssm:NAME, "
        "lambda:FUNCTION, ec2:INSTANCE, each with ?region=R&profile=P",
    )  # fmt: skip
    plant.add_argument(
        "--as", dest="form", metavar="FORMAT", help="the form it is written in; a wrong one is answered with all"
    )
    plant.add_argument("--secret-from", metavar="SOURCE", help="an adopted canary's: env:NAME, file:PATH or -")
    plant.add_argument("--dry-run", action="store_true", help="only show what would be written")
    drill.add_argument(
        "--budget", type=int, metavar="SECONDS", help="slower than this is an alarm (default: configured)"
    )


def _watch(watch: _Parser) -> None:
    watch.add_argument(
        "--feed", action="append", default=[], dest="feeds", metavar="URL",
        help=f"read this in the place of the configured feeds: {_FEED.format('sqs://REGION/ACCOUNT/QUEUE, ')}; "
        "may be repeated",
    )  # fmt: skip
    watch.add_argument("--once", action="store_true", help="read each feed once, then end")
    watch.add_argument("--interval", type=_positive, default=60, metavar="SECONDS", help="between two rounds (60)")


def _incidents(incidents: _Parser) -> None:
    listing = incidents.add("list", "the open ones, and whether the watch is proven", usual=True)
    show = incidents.add("show", "the calls of those that are named; of very many the first and the last")
    close = incidents.add("close", "end those that are named; what comes later opens another")
    for each in (listing, show, close):
        _names(each, "ids", "ID", "the number of an incident")
    listing.add_argument("--all", action="store_true", help="closed ones too")
    show.add_argument("--all", action="store_true", help="every call, however many; JSON always has all")
    close.add_argument("--reason", default="", help="why")


def _alert(alert: _Parser) -> None:
    alert.add("test", "send a test to every channel, now", "0 all was sent; 2 a channel failed.")
    alert.add("deliver", "send what waits and is due", "0 all was sent; 2 a channel failed.")


def _status(status: _Parser) -> None:
    status.add_argument("--prune", action="store_true", help="only forget old job history")


def _config(config: _Parser) -> None:
    config.add("check", "say all that is wrong in --config FILE", "0 sound; 2 not.")
    config.add("example", "print every option with its default")


def _nothing_more(reader: _Parser) -> None:
    """Leave it at the common options."""


def _hook(hook: _Parser) -> None:
    install = hook.add("install", "put it into this repository; one that stands there is kept, and still runs")
    run = hook.add(
        "run", "do what the installed hook does",
        "0 nothing new holds a key; 1 something does; 2 something could not be read.",
    )  # fmt: skip
    uninstall = hook.add("uninstall", "take it away, and put back what was there")
    for each in (install, run, uninstall):
        each.add_argument(
            "hook", choices=["pre-commit", "pre-push", "commit-msg", "pre-receive"], help="which hook of git's"
        )
    for each in (install, uninstall):
        each.add_argument("--global", dest="for_all", action="store_true", help="for every repository of this user")
    _names(run, "arguments", "ARGUMENT", "what git gives to the hook")


_COMMANDS: Final[dict[str, tuple[str, str, Callable[[_Parser], None]]]] = {
    "scan": (
        "Find AWS keys in folders, repositories, organisations or standard input.",
        "0 clean; 1 an open finding stands in the targets; 2 something could not be read.", _scan,
    ),
    "findings": ("List, show, judge or export what was found.", "", _findings),
    "verify": ("Ask AWS whether found keys live.", "0 none lives; 1 one lives; 2 of one nothing is known.", _verify),
    "key": ("Show a key's story, or make it harmless; nothing changes without --yes.", "", _key),
    "usage": ("Who used this key since it leaked.", "0 told; 2 a feed could not be read.", _usage),
    "canary": ("Make, plant, check and retire canaries.", "", _canary),
    "watch": (
        "Read CloudTrail and alarm for any use of a watched key: without end, by the channels of --config, or --once.",
        "with --once, 0 no alarm; 1 an incident was opened; 2 something could not be read.", _watch,
    ),
    "incidents": ("List, show or close incidents.", "", _incidents),
    "alert": ("Try the alert channels, or deliver what waits.", "", _alert),
    "serve": (
        "Run everything on a schedule: the jobs of --config FILE, until SIGTERM; SIGHUP reads it again.", "",
        _nothing_more,
    ),
    "doctor": (
        "What is set up, what is missing, the next command.",
        "0 all is well; 1 something is missing; 2 something fails.", _nothing_more,
    ),
    "demo": ("The whole story against a loopback AWS; needs no account.", "", _nothing_more),
    "status": (
        "What the service does, in one screen.",
        "0 it runs, and so do its jobs; 2 nobody serves, or a job's last run failed.", _status,
    ),
    "config": ("Check the configuration file, or print a commented one.", "", _config),
    "hook": ("Install, run or take away a git hook.", "", _hook),
}  # fmt: skip
"""Each command: what it does, its exit status, and what gives its parser options and actions."""


def _positive(text: str) -> int:
    """Read a number of at least 1; argparse words the error."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is less than 1")
    return number


def _jobs(text: str) -> int:
    """Read how many processes may work: each holds tens of megabytes, and more than a few wait for each other."""
    number = _positive(text)
    if number > MOST_JOBS:
        raise argparse.ArgumentTypeError(f"{number} is more than {MOST_JOBS}; 2 to 8 are sensible")
    return number


@functools.cache
def _common() -> _Parser:
    common = _Parser(add_help=False, argument_default=argparse.SUPPRESS)
    group = common.add_argument_group("common options")
    group.add_argument(
        "--db", type=Path, metavar="FILE",
        help="the database (default: that of --config, else FIREDAMP_DB, else firedamp.db in the user's data folder)",
    )  # fmt: skip
    group.add_argument("--config", type=Path, metavar="FILE", help="the configuration; config example prints one")
    group.add_argument(
        "--format", choices=[each.value for each in Format],
        help="how results are written (default: table); what a command cannot write it refuses",
    )  # fmt: skip
    group.add_argument("--output", type=Path, metavar="FILE", help="where results go instead of standard output")
    group.add_argument(
        "--jobs", type=_jobs, metavar="N",
        help=f"processes that read at once, 1 to {MOST_JOBS} (default: one for each processor, 2 to 8)",
    )  # fmt: skip
    group.add_argument("--offline", action="store_true", help="contact nobody")
    group.add_argument("--quiet", action="store_true", help="no progress, no remarks")
    return common
