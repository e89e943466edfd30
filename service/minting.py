"""`canary mint`, `canary lint`, and the end of `canary retire`: whatever asks IAM to make or remove a canary."""

from __future__ import annotations

import contextlib
import csv
import itertools
import os
import stat
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, TextIO

from firedamp.canaries import mint as minter
from firedamp.canaries import naming, stealth
from firedamp.canaries.mint import Mint, Minted, Order
from firedamp.canaries.pace import Pace
from firedamp.canaries.stealth import Account, Subject, Tell
from firedamp.service import clock, ledger, show
from firedamp.service.aws import Aws
from firedamp.service.config import Config
from firedamp.service.options import CanaryOptions, Common, Format, must_be_writable
from firedamp.storage.errors import AwsFailure, Failure, UsageFailure
from firedamp.storage.keyid import account_of
from firedamp.storage.records import Canary, Minting, MintPurpose
from firedamp.storage.refusals import failures
from firedamp.storage.store import Store

_COLUMNS: Final = ("name", "access_key_id", "secret_access_key", "arn", "account_id", "profile", "replaces")


def profile_of(options: CanaryOptions, config: Config) -> str | None:
    """Return the profile that makes and asks about canaries."""
    return options.profile or config.aws.canary_profile or config.aws.profile


def our_aws(store: Store, common: Common) -> Aws:
    """Return our own access to AWS; every call about a canary is written down. Raises UsageFailure when offline."""
    if common.offline:
        raise UsageFailure("this asks AWS, and --offline contacts nobody")
    return Aws(now=clock.now, random=os.urandom, write_down=store.add_own_call)


def make_mint(aws: Aws, store: Store, profile: str | None, purpose: str = "mint") -> Mint:
    """Return what minting needs, for the account of a profile."""
    return Mint(
        iam=aws.iam(profile, purpose), store=store, pace=Pace(time.sleep, os.urandom), now=clock.now, random=os.urandom,
        about=aws.about,
    )  # fmt: skip


def mint(options: CanaryOptions, common: Common, store: Store) -> int:
    """Make canaries and hand their secrets over, once. What an earlier run left unfinished comes first, and alone.

    Return 2 when one could not be made; the next run goes on there. `-n 0` takes back what is unfinished.
    """
    common.must_be(Format.TABLE, Format.JSONL, Format.CSV)
    must_be_writable(common.output)  # before users are asked for
    aws = our_aws(store, common)
    profile = profile_of(options, common.settings())
    account = account_of_profile(aws, profile)
    making = make_mint(aws, store, profile)
    with alone(common), failures(f"IAM does not let a canary be {'made' if options.count else 'taken back'}"):
        todo = list(minter.pending(store.mintings(), account, MintPurpose.CANARY))
        if options.count == 0:
            return _told(_each(todo, making.take_back, common), "taken back", common)
        if todo:
            common.say(f"an earlier run left {len(todo)} unfinished: they are finished now, and no others made")
        else:
            order = Order(
                account_id=account, profile=profile, pattern=options.name or naming.DEFAULT, count=options.count,
                note=options.note, tags=ledger.parse_tags(options.tags),
            )  # fmt: skip
            todo = making.plan(order)
            _refuse_telling(todo, making, store, common, force=options.force)
            store.ask(todo)
        with _handing_over(common) as hand_over:
            return _told(_each(todo, lambda each: making.make(each, hand_over), common), "minted", common)


def _each(todo: Sequence[Minting], act: Callable[[Minting], object], common: Common) -> Counter[bool]:
    """Do one after the other; a user that may be a stranger's stops itself only. Count what worked and what did not."""
    counted = Counter[bool]()
    for each in todo:
        try:
            act(each)
        except Failure as failure:  # one user that may be a stranger's; what botocore raises ends the run
            print(f"firedamp: {show.safe(str(failure))}", file=sys.stderr)
            counted[False] += 1
        except Exception:
            left = len(todo) - counted.total()
            common.say(f"{left} are not done: the same command goes on there, canary mint -n 0 takes them back")
            raise
        else:
            counted[True] += 1
    return counted


def _told(counted: Counter[bool], what: str, common: Common) -> int:
    common.say(f"{counted[True]} {what}" + (f", {counted[False]} not" if counted[False] else ""))
    return 2 if counted[False] else 0


def account_of_profile(aws: Aws, profile: str | None) -> str:
    """Return the account that a profile acts in."""
    return aws.identity(profile).split(":")[4]


def _refuse_telling(planned: Sequence[Minting], making: Mint, store: Store, common: Common, *, force: bool) -> None:
    """Refuse canaries that an attacker's own test would recognise, unless forced; what is less is said."""
    account_id = planned[0].account_id
    unread: list[str] = []
    account = stealth.read_account(making.iam, unread)
    ours = _canaries_in(store, account_id)
    telling = Counter[Tell]()
    worst = 0
    for each in planned:
        policies = (f"{each.name}-policy",)
        subject = Subject(name=each.name, account_id=account_id, tags=each.tags, policies=policies)
        found = list(stealth.tells(subject, account, ours, clock.now()))
        telling.update(found)
        worst = max(worst, stealth.score(found))
    for tell in list(telling)[:10]:
        common.say(f"{tell.test}: {show.safe(tell.why)}")
    for what in unread:
        common.say(f"not known: {show.safe(what)}")
    if worst >= stealth.REFUSED and not force:
        raise UsageFailure(
            f"an attacker's own tests would recognise these canaries (score {worst} of 100)",
            "choose another --name, --tag or account; --force makes them all the same",
        )


def _canaries_in(store: Store, account_id: str) -> int:
    """Count our canaries' users: one has two keys when it is planted."""
    keys = (key for key in store.watched() if isinstance(key, Canary))
    ours = (key for key in keys if (key.owner.account_id or account_of(key.key_id)) == account_id)
    return len({key.owner.user_name or key.key_id for key in ours})


@contextlib.contextmanager
def alone(common: Common, what: str = "mint") -> Iterator[None]:
    """Hold the one lock for making canaries (or drills): two runs would finish each other's. It ends with us."""
    database = common.database()
    path = database.with_name(f"{database.name}.{what}")
    handle = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o600)
    try:
        if hasattr(os, "geteuid") and os.geteuid() == 0 and database.exists():
            # As SQLite does with its files: root's must not lock out the service whose database it is.
            owner = database.stat()
            os.fchown(handle, owner.st_uid, owner.st_gid)
        if not _locked(handle):
            raise UsageFailure(f"another run is at it right now ({what})", f"wait for it; {path} is its lock")
        yield
    finally:
        os.close(handle)


def _locked(handle: int) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


@contextlib.contextmanager
def _handing_over(common: Common) -> Iterator[Callable[[Minted], None]]:
    """Open where secrets go: standard output, or the file of `--output`, for its owner alone.

    A file is added to: a run that goes on after a crash must not lose what the first one wrote. Each line is on the
    disk before the canary counts as handed over.
    """
    if common.output is None:
        count = itertools.count()
        yield lambda minted: _write(minted, common.format, sys.stdout, first=next(count) == 0)
        return
    with _private(common.output) as out:

        def hand_over(minted: Minted) -> None:
            _write(minted, common.format, out, first=out.tell() == 0)
            os.fsync(out.fileno())

        yield hand_over


def _private(path: Path) -> TextIO:
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0)
    try:
        handle = os.open(path, flags, 0o600)
    except OSError as error:
        raise UsageFailure(f"{path} cannot be written: {error.strerror}", "--output FILE, no link") from error
    if not stat.S_ISREG(os.fstat(handle).st_mode):  # root's fchmod would take /dev/null from everybody
        os.close(handle)
        raise UsageFailure(f"{path} cannot be written: no regular file", "--output FILE keeps secrets")
    if hasattr(os, "fchmod"):
        os.fchmod(handle, 0o600)
    out = os.fdopen(handle, "a", encoding="utf-8", newline="")
    out.seek(0, os.SEEK_END)
    return out


def _write(minted: Minted, form: Format, out: TextIO, *, first: bool) -> None:
    """Write one canary with its secret: the one moment that it is shown."""
    canary = minted.canary
    values = (
        canary.name, canary.key_id, minted.secret.reveal(), canary.owner.arn, canary.owner.account_id, canary.profile,
        minted.replaces,
    )  # fmt: skip
    match form:
        case Format.JSONL:
            line: dict[str, show.Json] = dict(zip(_COLUMNS, values, strict=True))
            line |= {"key": canary.key_id, "note": canary.note, "tags": dict(canary.tags)}  # key: as in all other lines
            show.json_lines([line], out.write)
        case Format.CSV:
            writer = csv.writer(out)
            if first:
                writer.writerow(_COLUMNS)
            writer.writerow(values)
        case _:
            out.write("  ".join(filter(None, (canary.key_id, minted.secret.reveal(), canary.name))) + "\n")
    out.flush()


def lint(options: CanaryOptions, common: Common, store: Store) -> int:
    """Try the tests that attackers use on our canaries; return 1 when one tells, 2 when something is not known."""
    common.must_be(Format.TABLE, Format.JSON, Format.JSONL)
    canaries = ledger.chosen(options.names, store) if options.names else _all(store)
    if not canaries:
        common.say("there is no canary: firedamp canary mint or canary adopt KEYID")
    aws = None if common.offline else our_aws(store, common)
    fallback = profile_of(options, common.settings())
    told = unknown = False
    lines: list[dict[str, show.Json]] = []
    with common.out() as out:
        for canary in canaries:
            subject = Subject(
                name=canary.owner.user_name or canary.name, key_id=canary.key_id, tags=canary.tags,
                account_id=canary.owner.account_id, path=_path(canary.owner.arn),
            )  # fmt: skip
            read = _read(subject, canary, aws, options.profile or canary.profile or fallback)
            ours = _canaries_in(store, canary.owner.account_id or account_of(canary.key_id) or "")
            found = list(stealth.tells(read.subject, read.account, ours, clock.now()))
            told |= any(tell.score for tell in found)
            unknown |= bool(read.unread)
            lines.append(_line(canary, found, read.unread))
            if common.format is Format.TABLE:
                _show(canary, found, read.unread, out)
        if common.format is not Format.TABLE:
            show.json_lines(lines, out.write, whole=common.format is Format.JSON)
    return 2 if unknown else int(told)


def _all(store: Store) -> list[Canary]:
    return [key for key in store.watched() if isinstance(key, Canary)]


def _read(subject: Subject, canary: Canary, aws: Aws | None, profile: str | None) -> stealth.Read:
    """Ask IAM about a canary, where it may be asked and has one to ask about."""
    if aws is None:
        return stealth.Read(subject, Account())
    if canary.owner.user_name is None:
        return stealth.Read(subject, Account(), ("the user: nobody said whose key it is (adopt --arn)",))
    try:
        account = account_of_profile(aws, profile)
    except AwsFailure as failure:
        return stealth.Read(subject, Account(), (str(failure),))
    if account != (canary.owner.account_id or account_of(canary.key_id)):
        return stealth.Read(subject, Account(), (f"the user: the profile acts in account {account}",))
    with aws.about(canary.key_id):
        return stealth.read(aws.iam(profile, "lint"), subject)


def _path(arn: str | None) -> str:
    """Return the path in a user's ARN: `arn:aws:iam::123456789012:user/path/name`."""
    return "/" if arn is None or ":user/" not in arn else "/" + arn.partition(":user/")[2].rpartition("/")[0].strip("/")


def _show(canary: Canary, found: Sequence[Tell], unread: Sequence[str], out: TextIO) -> None:
    out.write(f"{canary.key_id}  {show.safe(canary.name)}  score {stealth.score(found)}\n")
    out.writelines(f"  {tell.score:3}  {tell.test}: {show.safe(tell.why)}\n" for tell in found)
    out.writelines(f"    ?  {show.safe(each)}\n" for each in unread)
    if canary.owner.arn:
        out.write(f"       a denied call says: {show.safe(stealth.error_text(canary.owner.arn))}\n")


def _line(canary: Canary, found: Sequence[Tell], unread: Sequence[str]) -> dict[str, show.Json]:
    total = stealth.score(found)
    return {
        "key": canary.key_id, "name": canary.name, "score": total, "refused": total >= stealth.REFUSED,
        "tells": [{"test": tell.test, "why": tell.why, "score": tell.score} for tell in found],
        "unknown": list(unread),
        "denied_call_says": stealth.error_text(canary.owner.arn) if canary.owner.arn else None,
    }  # fmt: skip


def retire(options: CanaryOptions, common: Common, store: Store) -> int:
    """Retire canaries. One that is not handed over yet is taken back from IAM; any other stays alive and watched.

    What was planted is taken out of its place; return 2 when some of it could not be.
    """
    from firedamp.service import planting

    if not options.names:
        raise UsageFailure("canary retire needs a name or key id", "see firedamp canary list")
    unfinished = {each.name: each for each in store.mintings()}
    for name in options.names:
        if name in unfinished:
            _take_back(unfinished[name], options, common, store)
    rest = tuple(name for name in options.names if name not in unfinished)
    status = 0
    for canary in ledger.retire(rest, common, store):
        try:
            there = planting.take_back(canary, options, common, store)
        except Failure as failure:
            common.say(f"{show.safe(canary.name)} is planted still: {show.safe(str(failure))}")
            status = 2
        else:
            common.say(f"{show.safe(canary.name)} {'is taken out of' if there else 'was gone from'} its place")
    return status


def _take_back(minting: Minting, options: CanaryOptions, common: Common, store: Store) -> None:
    if options.force:
        store.taken_back(minting)
        common.say(f"{show.safe(minting.name)} is forgotten; IAM was not asked to remove it")
        return
    aws = our_aws(store, common)
    with alone(common), failures(f"{minting.name} cannot be taken back"):
        make_mint(aws, store, options.profile or minting.profile).take_back(minting)
    common.say(f"{show.safe(minting.name)} is taken back")
