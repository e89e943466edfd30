"""The command line: every command, action and option, and what `--help` says of them.

`cli` turns what was given into options and runs the command. Nothing heavy is imported here.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, NoReturn

from firedamp.service.options import Common, Format
from firedamp.storage.errors import UsageFailure

MOST_JOBS: Final = 64
_NAMES: Final = {"scan": "targets", "verify": "ids", "canary": "names", "findings": "ids", "incidents": "ids"}
"""The commands that take a list of names, and what it is called."""
_STATES: Final = ("open", "accepted", "false-positive", "revoked")
_FINDING: Final = "a key id, or a fingerprint or its beginning, as findings list shows it"
_FEED: Final = "file:///FOLDER, s3://BUCKET/PREFIX?region=R, {}lookup:// or lookup://R1,R2; each with ?profile=P"


class _Parser(argparse.ArgumentParser):
    """Fails as everything here fails: what is wrong and what to do next, without pages of usage before it."""

    def error(self, message: str) -> NoReturn:
        raise UsageFailure(message, f"see {self.prog} --help")


def parsed(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse arguments, options and names in any order. Raises UsageFailure; leaves by SystemExit after `--help`.

    argparse takes no names behind an option once a name or an action stood before it (`canary adopt --real KEYID`,
    `scan ONE --offline TWO`); it leaves them over, and they belong to the command's list of names.
    """
    arguments, rest = parser().parse_known_args(argv)
    names = _NAMES.get(arguments.word)
    unknown = [each for each in rest if names is None or (each.startswith("-") and each != "-")]
    if unknown:
        raise UsageFailure(f"unrecognized arguments: {' '.join(unknown)}", f"see firedamp {arguments.word} --help")
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


def parser() -> argparse.ArgumentParser:
    """Make the parser of everything. What it reads names its command in `word`."""
    common = _common()
    made = _Parser(
        prog="firedamp", parents=[common], formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Find leaked AWS keys, ask AWS whether they live, and plant canaries that shout when touched.",
        epilog=(
            "exit status: 0 clean; 1 an open finding stands, or an alarm was raised; 2 incomplete, failed, or a wrong "
            "call.\nBegin with firedamp scan, or with firedamp demo. firedamp COMMAND --help says more."
        ),
    )  # fmt: skip
    tree = made.add_subparsers(required=True, metavar="COMMAND")

    def add(
        name: str, text: str, status: str = "", actions: Mapping[str, str] | None = None
    ) -> argparse.ArgumentParser:
        width = max(map(len, actions or ()), default=0)
        lines = [text, "", *(f"  {action.ljust(width)}  {what}" for action, what in (actions or {}).items())]
        sub = tree.add_parser(
            name, help=text, description="\n".join(lines).strip(), parents=[common],
            epilog=f"exit status: {status}" if status else None,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )  # fmt: skip
        sub.set_defaults(word=name)
        return sub

    for each in (_scan, _findings, _verify, _key, _usage, _canary, _watch, _incidents, _alert, _service, _hook):
        each(add)
    return made


_Add = Callable[..., argparse.ArgumentParser]
"""Adds a command: its name, what it does, its exit status, its actions."""


def _scan(add: _Add) -> None:
    scan = add(
        "scan", "Find AWS keys in folders, repositories, organisations or standard input.",
        "0 clean; 1 an open finding stands in the targets; 2 something could not be read.",
    )  # fmt: skip
    scan.add_argument(
        "targets", nargs="*", metavar="TARGET",
        help="a folder, file, repository, git URL or bundle, or - for standard input (default: the home directory)",
    )  # fmt: skip
    scan.add_argument(
        "--org", action="append", default=[], metavar="WHERE",
        help="every repository of github:acme, gitlab:group, gitea:https://host/org, bitbucket:workspace, "
        "azure:org/project or codecommit:region, or of a file with one URL or folder a line",
    )  # fmt: skip
    scan.add_argument("--staged", action="store_true", help="only what is about to be committed in this repository")
    scan.add_argument("--all", action="store_true", help="the places too that are left out by default")
    scan.add_argument("--examples", action="store_true", help="documentation keys and placeholders too")
    scan.add_argument("--thorough", action="store_true", help="all of every git object, not only what is new in it")
    scan.add_argument("--new", action="store_true", help="show only what no earlier scan knew")
    scan.add_argument(
        "--state", action="append", default=[], choices=_STATES,
        help="show findings of this state (default: open); may be repeated",
    )  # fmt: skip
    scan.add_argument("--baseline", type=Path, metavar="FILE", help="leave out the findings that FILE lists")
    scan.add_argument("--write-baseline", type=Path, metavar="FILE", help="write what was found to FILE")
    scan.add_argument("--own-keys", action="store_true", help="the secrets of the local AWS profiles, by value, too")
    scan.add_argument(
        "--honour-allow", action="append", default=[], metavar="MARK",
        help="believe this mark of another tool too (gitleaks:allow, …); may be repeated",
    )  # fmt: skip
    scan.add_argument("--show-secrets", action="store_true", help="print the secrets themselves")
    scan.add_argument(
        "--accept-incomplete", action="append", default=[], metavar="PATTERN",
        help="what fails and matches PATTERN is left out, and not a failure; may be repeated",
    )  # fmt: skip
    scan.add_argument("--nice", action="store_true", help="at low priority, paused on battery")
    scan.add_argument("--cross-file-systems", action="store_true", help="follow a folder onto other file systems")


def _findings(add: _Add) -> None:
    actions = {
        "list": "what was found and stands, the worst first (default)",
        "show": "all of what is named, every place of it",
        "set": "judge what is named: --state, and --reason",
        "export": "all for a program, JSON lines unless --format says otherwise",
    }
    findings = add("findings", "List, show, judge or export what was found.", actions=actions)
    findings.add_argument("action", nargs="?", default="list", choices=[*actions], help="see above")
    findings.add_argument("ids", nargs="*", metavar="ID", help=_FINDING)
    findings.add_argument("--state", choices=_STATES, help="set: what it is from now on; else: only these")
    findings.add_argument("--reason", default="", help="set: why")
    findings.add_argument("--examples", action="store_true", help="documentation keys and placeholders too")
    findings.add_argument("--allowed", action="store_true", help="only what a mark in its line allows")
    findings.add_argument("--by", choices=["repository", "team", "author"], help="list: who should act, on how much")


def _verify(add: _Add) -> None:
    verify = add(
        "verify", "Ask AWS whether found keys live.",
        "0 none lives; 1 one lives; 2 of one nothing is known.",
    )  # fmt: skip
    verify.add_argument("ids", nargs="*", metavar="ID", help=f"{_FINDING} (default: those whose answer has grown old)")
    verify.add_argument("--all", action="store_true", help="every key, however new its answer is")
    verify.add_argument("--log", action="store_true", help="ask nothing: list the requests that were made so far")


def _key(add: _Add) -> None:
    actions = {
        "show": "whose it is, what it can do, when it was last used",
        "disable": "make it inactive, deny the sessions made from it, and prove both",
        "rotate": "make a new key, write it wherever this one stands, then disable this one",
        "revoke-sessions": "deny the sessions made from it, and nothing else",
    }
    key = add(
        "key", "Show a key's story, or make it harmless.", "0 shown, planned or done; 2 not, or not all of it.",
        actions=actions,
    )  # fmt: skip
    key.add_argument("action", choices=[*actions], help="see above; all but show only plan, unless --yes")
    key.add_argument("key_id", metavar="KEYID", help="the access key id")
    key.add_argument("--yes", action="store_true", help="act; without it nothing changes")
    key.add_argument("--profile", help="the AWS profile to act with (default: the configured one)")
    key.add_argument(
        "--with-leaked-key", action="store_true", help="act with the leaked key itself; show: it only reads"
    )
    key.add_argument(
        "--leave", action="append", default=[], metavar="PATTERN",
        help="rotate: leave the places that match PATTERN alone; may be repeated",
    )  # fmt: skip


def _usage(add: _Add) -> None:
    usage = add("usage", "Who used this key since it leaked.", "0 told; 2 a feed could not be read.")
    usage.add_argument("key_id", metavar="KEYID", help="the access key id")
    usage.add_argument(
        "--feed", action="append", default=[], metavar="URL",
        help=f"read this in the place of the configured feeds: {_FEED.format('')}; may be repeated",
    )  # fmt: skip


def _canary(add: _Add) -> None:
    actions = {
        "mint": "make canaries in IAM: a user each, with a key and no rights; prints the secrets, once",
        "adopt": "watch keys that were made elsewhere",
        "plant": "write a canary where it is told, with a fresh key of its own",
        "list": "what is watched, where it stands, what proves it",
        "check": "look whether each stands as it was planted",
        "lint": "try the tests by which attackers tell a canary",
        "drill": "use a canary ourselves, and time the alarm",
        "nets": "look at what CloudTrail cannot tell: uses without a record, a watch that is blind",
        "retire": "take canaries out of their places; their keys stay alive and watched",
    }
    canary = add(
        "canary", "Make, plant, check and retire canaries.",
        "0 well; 1 drift (check), one that tells (lint), over budget (drill), blind (nets);\n"
        "2 not done, or something could not be looked at.",
        actions=actions,
    )  # fmt: skip
    canary.add_argument("action", choices=[*actions], help="see above")
    canary.add_argument(
        "names", nargs="*", default=[], metavar="NAME|KEYID",
        help="which canaries; without one, check, lint and list take all, drill one of every account",
    )  # fmt: skip
    canary.add_argument("--profile", help="the AWS profile to act with (default: the configured one)")
    canary.add_argument(
        "--force", action="store_true",
        help="mint: though attackers would tell them; adopt: though AWS says that it lives; "
        "plant, retire: move a branch that is checked out; retire: forget an unfinished one unasked",
    )  # fmt: skip
    making = canary.add_argument_group("mint and adopt")
    making.add_argument("--name", help="the name; mint: or a pattern, as in '{service}-{task}-{env}-{alnum:4}'")
    making.add_argument("--note", default="", help="a word to yourself")
    making.add_argument("--tag", action="append", default=[], metavar="K=V", help="a tag; may be repeated")
    making.add_argument(
        "-n", dest="count", type=int, default=1, help="mint: how many (1); 0 takes back what is unfinished"
    )
    making.add_argument("--arn", help="adopt: whose key it is, as in arn:aws:iam::123456789012:user/NAME")
    making.add_argument("--real", action="store_true", help="adopt: a leaked real key, watched like a canary")
    planting = canary.add_argument_group("plant")
    planting.add_argument(
        "--at", metavar="PLACE",
        help="a path, git:REPOSITORY@BRANCH:PATH, or in AWS s3://BUCKET/KEY, secretsmanager:NAME, ssm:NAME, "
        "lambda:FUNCTION, ec2:INSTANCE, each with ?region=R&profile=P",
    )  # fmt: skip
    planting.add_argument("--as", metavar="FORMAT", help="the form it is written in; a wrong one is answered with all")
    planting.add_argument("--secret-from", metavar="SOURCE", help="an adopted canary's: env:NAME, file:PATH or -")
    planting.add_argument("--dry-run", action="store_true", help="only show what would be written")
    drilling = canary.add_argument_group("drill")
    drilling.add_argument(
        "--budget", type=int, metavar="SECONDS", help="slower than this is an alarm (default: configured)"
    )


def _watch(add: _Add) -> None:
    watch = add(
        "watch", "Read CloudTrail and raise an alarm for any use of a watched key.",
        "with --once, 0 no alarm; 1 an incident was opened; 2 something could not be read.",
    )  # fmt: skip
    watch.add_argument(
        "--feed", action="append", default=[], metavar="URL",
        help=f"read this in the place of the configured feeds: {_FEED.format('sqs://REGION/ACCOUNT/QUEUE, ')}; "
        "may be repeated",
    )  # fmt: skip
    watch.add_argument("--once", action="store_true", help="read each feed once, then end")
    watch.add_argument("--interval", type=_positive, default=60, metavar="SECONDS", help="between two rounds (60)")


def _incidents(add: _Add) -> None:
    actions = {
        "list": "the open ones, and whether the watch is proven (default)",
        "show": "every call of those that are named",
        "close": "end those that are named; what comes later opens another",
    }
    incidents = add("incidents", "List, show or close incidents.", actions=actions)
    incidents.add_argument("action", nargs="?", default="list", choices=[*actions], help="see above")
    incidents.add_argument("ids", nargs="*", metavar="ID", help="the number of an incident")
    incidents.add_argument("--all", action="store_true", help="list: closed ones too")
    incidents.add_argument("--reason", default="", help="close: why")


def _alert(add: _Add) -> None:
    actions = {"test": "send a test to every channel, now", "deliver": "send what waits and is due"}
    alert = add(
        "alert", "Try the alert channels, or deliver what waits.", "0 all was sent; 2 a channel failed.",
        actions=actions,
    )  # fmt: skip
    alert.add_argument("action", choices=[*actions], help="see above")


def _service(add: _Add) -> None:
    add("serve", "Run everything on a schedule: the jobs of --config FILE, until SIGTERM; SIGHUP reads it again.")
    add(
        "doctor", "What is set up, what is missing, the next command.",
        "0 all is well; 1 something is missing; 2 something fails.",
    )  # fmt: skip
    add("demo", "The whole story against a loopback AWS; needs no account.")
    status = add(
        "status", "What the service does, in one screen.",
        "0 it runs, and so do its jobs; 2 nobody serves, or a job's last run failed.",
    )  # fmt: skip
    status.add_argument("--prune", action="store_true", help="only forget old job history")
    actions = {"check": "say all that is wrong in --config FILE", "example": "print every option with its default"}
    config = add(
        "config", "Check the configuration file, or print a commented one.", "0 sound; 2 not.", actions=actions
    )
    config.add_argument("action", choices=[*actions], help="see above")


def _hook(add: _Add) -> None:
    actions = {
        "install": "put it into this repository; one that stands there is kept, and still runs",
        "run": "do what the installed hook does: 1 and a report where a key would leave",
        "uninstall": "take it away, and put back what was there",
    }
    hook = add(
        "hook", "Install, run or take away a git hook.",
        "run: 0 nothing new holds a key; 1 something does; 2 something could not be read.",
        actions=actions,
    )  # fmt: skip
    hook.add_argument("action", choices=[*actions], help="see above")
    hook.add_argument(
        "hook", choices=["pre-commit", "pre-push", "commit-msg", "pre-receive"], help="which hook of git's"
    )
    hook.add_argument("arguments", nargs="*", default=[], metavar="ARGUMENT", help="run: what git gives to the hook")
    hook.add_argument("--global", dest="for_all", action="store_true", help="for every repository of this user")


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


def _common() -> _Parser:
    common = _Parser(add_help=False, argument_default=argparse.SUPPRESS)
    group = common.add_argument_group("common options")
    group.add_argument(
        "--db", type=Path, metavar="FILE",
        help="the database (default: FIREDAMP_DB, else firedamp.db in the user's data folder)",
    )  # fmt: skip
    group.add_argument("--config", type=Path, metavar="FILE", help="the configuration; config example prints one")
    group.add_argument(
        "--format", choices=[each.value for each in Format],
        help="how results are written (default: table); what a command cannot write it refuses",
    )  # fmt: skip
    group.add_argument("--output", type=Path, metavar="FILE", help="where results go instead of standard output")
    group.add_argument("--jobs", type=_jobs, metavar="N", help=f"processes that read at once, 1 to {MOST_JOBS} (2)")
    group.add_argument("--offline", action="store_true", help="contact nobody")
    group.add_argument("--quiet", action="store_true", help="no progress, no remarks")
    return common
