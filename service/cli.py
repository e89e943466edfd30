"""Arguments -> frozen options -> one call -> exit status.

0 clean, 1 an open finding stands (or an incident was opened), 2 incomplete, failed or a usage error; 2 wins.
Commands are imported when they are called: `scan --staged` runs before every commit and must start at once.
"""

from __future__ import annotations

import argparse
import gc
import io
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from firedamp.service.options import (
    CanaryOptions,
    Common,
    FindingsOptions,
    Format,
    HookOptions,
    IncidentsOptions,
    KeyOptions,
    ScanOptions,
    UsageOptions,
    VerifyOptions,
    WatchOptions,
)
from firedamp.storage.errors import Failure, UsageFailure

CLEAN: Final = 0
INCOMPLETE: Final = 2
MOST_JOBS: Final = 64

Command = Callable[[argparse.Namespace, Common], int]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status. The one place where a Failure becomes words."""
    # What a command makes it keeps, or drops without rings: to look for rings after each 700 objects finds nothing, and
    # takes a twentieth of a scan.
    gc.set_threshold(100_000, 50, 100)
    # numpy's algebra, which nothing here needs, would start threads that wait by turning.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    if isinstance(sys.stdout, io.TextIOWrapper):  # what a terminal cannot show is written as \xNN and ends no command
        sys.stdout.reconfigure(errors="backslashreplace")
    parser = _parser()
    arguments = _parsed(parser, argv)
    command: Command = arguments.command
    try:
        status = command(arguments, _common(arguments))
        sys.stdout.flush()  # here, where a full disk or a reader that has gone is still told
    except Failure as failure:
        _complain(failure)
        return INCOMPLETE
    except BrokenPipeError:
        # The reader of our output has gone; without this, Python complains once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return INCOMPLETE
    except OSError as error:
        where = "" if error.filename is None else f"{error.filename}: "
        _complain(Failure(f"{where}{error.strerror or error}", "what was read before is kept"))
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return INCOMPLETE
    except KeyboardInterrupt:
        print("firedamp: interrupted; what was read is kept", file=sys.stderr)
        return INCOMPLETE
    except Exception as error:  # noqa: BLE001 - Python would end with 1: all was read, and something stands there
        sys.excepthook(type(error), error, error.__traceback__)
        return INCOMPLETE
    return status


def _complain(failure: Failure) -> None:
    """Say what went wrong. A name in it may be a stranger's: what follows a line end in one never looks like a line."""
    from firedamp.service.show import safe

    told = [*failure.what.split("\n"), *failure.hint.split("\n")]
    for start, line in zip(("firedamp: ", *["  "] * len(told)), filter(None, told), strict=False):
        print(start + safe(line.strip()), file=sys.stderr)


def _parsed(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse arguments, options and names in any order.

    argparse takes no names behind an option once a name or an action stood before it (`canary adopt --real KEYID`,
    `scan ONE --offline TWO`); it leaves them over, and they belong to the command's list of names.
    """
    arguments, rest = parser.parse_known_args(argv)
    if rest:
        names = {"scan": "targets", "verify": "ids", "canary": "names", "findings": "ids", "incidents": "ids"}.get(
            arguments.word
        )
        if names is None or any(each.startswith("-") and each != "-" for each in rest):
            parser.error(f"unrecognized arguments: {' '.join(rest)}")
        setattr(arguments, names, [*getattr(arguments, names), *rest])
    return arguments


def _common(arguments: argparse.Namespace) -> Common:
    """Read the common options. They are suppressed when not given, so that any depth of the tree may set them."""
    given = vars(arguments)
    return Common(
        db=given.get("db"), config=given.get("config"), format=Format(given.get("format", Format.TABLE)),
        output=given.get("output"), jobs=given.get("jobs"), offline=given.get("offline", False),
        quiet=given.get("quiet", False),
    )  # fmt: skip


def _scan(given: argparse.Namespace, common: Common) -> int:
    from firedamp.service import scanning

    options = ScanOptions(
        targets=tuple(given.targets), org=tuple(given.org), staged=given.staged, all_places=given.all,
        examples=given.examples, thorough=given.thorough, new=given.new, states=tuple(given.state),
        baseline=given.baseline, write_baseline=given.write_baseline, own_keys=given.own_keys,
        honour_marks=tuple(given.honour_allow),
        show_secrets=given.show_secrets, accept_incomplete=tuple(given.accept_incomplete), nice=given.nice,
        same_file_system=not given.cross_file_systems,
    )  # fmt: skip
    if options.staged:
        from firedamp.service import hooks

        return hooks.scan_staged(options, common)
    return scanning.scan(options, common)


def _findings(given: argparse.Namespace, common: Common) -> int:
    from firedamp.service import triage

    options = FindingsOptions(
        action=given.action,
        ids=tuple(given.ids),
        state=given.state,
        reason=given.reason,
        allowed=given.allowed,
        examples=given.examples,
        by=given.by,
    )
    return triage.findings(options, common)


def _verify(given: argparse.Namespace, common: Common) -> int:
    from firedamp.service import judging

    return judging.verify(VerifyOptions(ids=tuple(given.ids), all=given.all, log=given.log), common)


def _key(given: argparse.Namespace, common: Common) -> int:
    options = KeyOptions(
        action=given.action, key_id=given.key_id, with_leaked_key=given.with_leaked_key, yes=given.yes,
        profile=given.profile, leave=tuple(given.leave),
    )  # fmt: skip
    from firedamp.service import keys

    return keys.key(options, common)


def _usage(given: argparse.Namespace, common: Common) -> int:
    from firedamp.service import watching

    return watching.usage(UsageOptions(key_id=given.key_id, feeds=tuple(given.feed)), common)


def _canary(given: argparse.Namespace, common: Common) -> int:
    from firedamp.service import baiting

    options = CanaryOptions(
        action=given.action, names=tuple(given.names), count=given.count, name=given.name, note=given.note,
        tags=tuple(given.tag), arn=given.arn, real=given.real, force=given.force, place=given.at,
        format=getattr(given, "as"), dry_run=given.dry_run, secret_from=given.secret_from, profile=given.profile,
        budget=given.budget, yes=given.yes,
    )  # fmt: skip
    return baiting.canary(options, common)


def _watch(given: argparse.Namespace, common: Common) -> int:
    from firedamp.service import watching

    options = WatchOptions(feeds=tuple(given.feed), once=given.once, interval=given.interval)
    return watching.watch(options, common)


def _incidents(given: argparse.Namespace, common: Common) -> int:
    from firedamp.service import watching

    options = IncidentsOptions(action=given.action, ids=tuple(given.ids), reason=given.reason, all=given.all)
    return watching.incidents(options, common)


def _alert(given: argparse.Namespace, common: Common) -> int:
    from firedamp.service import alerting

    return alerting.alert(given.action, common)


def _status(given: argparse.Namespace, common: Common) -> int:
    from firedamp.service import serving

    return serving.status(common, given.prune)


def _serve(given: argparse.Namespace, common: Common) -> int:
    if given.word == "serve":
        from firedamp.service import serving

        return serving.serve(common)
    if given.word == "doctor":
        from firedamp.service import doctor

        return doctor.doctor(common)
    from firedamp.service import demo

    return demo.demo()


def _config(given: argparse.Namespace, common: Common) -> int:
    from firedamp.service import config

    if given.action == "example":
        print(config.example(), end="")
        return CLEAN
    if common.config is None:
        raise UsageFailure("config check needs --config FILE", "firedamp config example prints one")
    config.load(common.config, whole=True)
    print(f"{common.config} is sound")
    return CLEAN


def _hook(given: argparse.Namespace, common: Common) -> int:
    options = HookOptions(action=given.action, hook=given.hook, for_all=given.for_all, arguments=tuple(given.arguments))
    from firedamp.service import hooks

    return hooks.hook(options, common)


def _parser() -> argparse.ArgumentParser:
    common = _common_parser()
    parser = argparse.ArgumentParser(
        prog="firedamp", parents=[common],
        description="Find leaked AWS keys, ask AWS whether they live, and plant canaries that shout when touched.",
    )  # fmt: skip
    tree = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, text: str, command: Command) -> argparse.ArgumentParser:
        sub = tree.add_parser(name, help=text, description=text, parents=[common])
        sub.set_defaults(command=command, word=name)
        return sub

    scan = add("scan", "Find AWS keys in folders, repositories, organisations or standard input.", _scan)
    scan.add_argument("targets", nargs="*", metavar="TARGET", help="folder, repository, git URL, bundle or `-`")
    scan.add_argument("--org", action="append", default=[], metavar="WHERE", help="github:acme, gitlab:group, …")
    scan.add_argument("--staged", action="store_true", help="what is about to be committed")
    scan.add_argument("--all", action="store_true", help="skip no places")
    scan.add_argument("--examples", action="store_true", help="documentation keys and placeholders too")
    scan.add_argument("--thorough", action="store_true", help="look at all of every object")
    scan.add_argument("--new", action="store_true", help="only what no earlier scan knew")
    scan.add_argument(
        "--state", action="append", default=[], choices=["open", "accepted", "false-positive", "revoked"],
        help="findings of these states only",
    )  # fmt: skip
    scan.add_argument("--baseline", type=Path, metavar="FILE", help="leave out the findings that FILE lists")
    scan.add_argument("--write-baseline", type=Path, metavar="FILE", help="write the findings to FILE")
    scan.add_argument("--own-keys", action="store_true", help="the secrets of the local AWS profiles, by value")
    scan.add_argument("--honour-allow", action="append", default=[], metavar="MARK", help="other tools' marks too")
    scan.add_argument("--show-secrets", action="store_true", help="print secrets")
    scan.add_argument("--accept-incomplete", action="append", default=[], metavar="PATTERN", help="known failures")
    scan.add_argument("--nice", action="store_true", help="at low priority, paused on battery")
    scan.add_argument("--cross-file-systems", action="store_true", help="leave the file system of the target")

    findings = add("findings", "List, show, judge or export what was found.", _findings)
    findings.add_argument("action", nargs="?", default="list", choices=["list", "show", "set", "export"])
    findings.add_argument("ids", nargs="*", metavar="ID")
    findings.add_argument("--state", choices=["open", "accepted", "false-positive", "revoked"])
    findings.add_argument("--reason", default="")
    findings.add_argument("--examples", action="store_true", help="documentation keys and placeholders, too")
    findings.add_argument("--allowed", action="store_true", help="what a mark in its line allows")
    findings.add_argument("--by", choices=["repository", "team", "author"], help="who should act, and on how much")

    verify = add("verify", "Ask AWS whether found keys live.", _verify)
    verify.add_argument("ids", nargs="*", metavar="ID")
    verify.add_argument("--all", action="store_true")
    verify.add_argument("--log", action="store_true", help="list the requests that were made")

    key = add("key", "Show a key's story, or make it harmless.", _key)
    key.add_argument("action", choices=["show", "disable", "rotate", "revoke-sessions"])
    key.add_argument("key_id", metavar="KEYID")
    key.add_argument("--with-leaked-key", action="store_true", help="use the leaked key itself, read-only calls")
    key.add_argument("--yes", action="store_true", help="act; without it nothing changes")
    key.add_argument("--profile", help="the AWS profile to act with")
    key.add_argument("--leave", action="append", default=[], metavar="PLACE", help="places rotate leaves alone")

    usage = add("usage", "Who used this key since it leaked.", _usage)
    usage.add_argument("key_id", metavar="KEYID")
    usage.add_argument("--feed", action="append", default=[], metavar="URL")

    canary = add("canary", "Make, plant, check and retire canaries.", _canary)
    canary.add_argument(
        "action", choices=["mint", "adopt", "plant", "list", "check", "lint", "drill", "nets", "retire"]
    )
    canary.add_argument("names", nargs="*", metavar="NAME|KEYID")
    canary.add_argument("-n", dest="count", type=int, default=1, help="how many to mint")
    canary.add_argument("--name", help="the name, or the pattern of names")
    canary.add_argument("--note", default="")
    canary.add_argument("--tag", action="append", default=[], metavar="K=V")
    canary.add_argument("--arn", help="whose key it is")
    canary.add_argument("--real", action="store_true", help="a leaked real key, watched like a canary")
    canary.add_argument("--force", action="store_true")
    canary.add_argument("--at", metavar="PLACE", help="a path, s3://…, secretsmanager:…, ssm:…, git:…")
    canary.add_argument("--as", metavar="FORMAT", help="the form it is planted in")
    canary.add_argument("--secret-from", metavar="SOURCE", help="an adopted canary's: env:NAME, file:PATH or -")
    canary.add_argument("--dry-run", action="store_true", help="show what would be written")
    canary.add_argument("--profile", help="the AWS profile to act with")
    canary.add_argument("--budget", type=int, metavar="SECONDS", help="a drill slower than this is an alarm")
    canary.add_argument("--yes", action="store_true")

    watch = add("watch", "Read CloudTrail and raise an alarm for any use of a watched key.", _watch)
    watch.add_argument("--feed", action="append", default=[], metavar="URL")
    watch.add_argument("--once", action="store_true")
    watch.add_argument("--interval", type=_positive, default=60, metavar="SECONDS")

    incidents = add("incidents", "List, show or close incidents.", _incidents)
    incidents.add_argument("action", nargs="?", default="list", choices=["list", "show", "close"])
    incidents.add_argument("ids", nargs="*", metavar="ID")
    incidents.add_argument("--reason", default="")
    incidents.add_argument("--all", action="store_true", help="closed ones too")

    alert = add("alert", "Try the alert channels, or deliver what waits.", _alert)
    alert.add_argument("action", choices=["test", "deliver"])

    for name, text in (
        ("serve", "Run everything on a schedule."),
        ("doctor", "What is set up, what is missing, the next command."),
        ("demo", "The whole story against a loopback AWS."),
    ):
        add(name, text, _serve)
    status = add("status", "What the service does, in one screen.", _status)
    status.add_argument("--prune", action="store_true", help="forget old job history")
    config = add("config", "Check the configuration file, or print a commented one.", _config)
    config.add_argument("action", choices=["check", "example"])

    hook = add("hook", "Install, run or take away a git hook.", _hook)
    hook.add_argument("action", choices=["install", "run", "uninstall"])
    hook.add_argument("hook", choices=["pre-commit", "pre-push", "commit-msg", "pre-receive"])
    hook.add_argument("--global", dest="for_all", action="store_true", help="for every repository of this user")
    hook.add_argument("arguments", nargs="*", metavar="ARGUMENT")
    return parser


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


def _common_parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    group = common.add_argument_group("common options")
    group.add_argument("--db", type=Path, metavar="FILE", help="the database (FIREDAMP_DB)")
    group.add_argument("--config", type=Path, metavar="FILE")
    group.add_argument("--format", choices=[each.value for each in Format])
    group.add_argument("--output", type=Path, metavar="FILE", help="where results go instead of stdout")
    group.add_argument("--jobs", type=_jobs, metavar="N", help=f"processes that read at once, up to {MOST_JOBS}")
    group.add_argument("--offline", action="store_true", help="contact nobody")
    group.add_argument("--quiet", action="store_true", help="no progress, no remarks")
    return common


if __name__ == "__main__":
    sys.exit(main())
