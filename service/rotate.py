"""`key rotate`: a new key into the places that may be rewritten, proven, and only then the old one out.

    plan the places -> make the new key -> write it into each -> read each back -> prove it through the real provider
    chain -> make the old key inactive

If any step fails, the files are put back as they were and the new key is deleted: nothing is half rotated.
"""

from __future__ import annotations

import configparser
import fnmatch
import os
import shlex
import stat
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from firedamp.scanner.candidates import Credential, Located
from firedamp.scanner.objects import environment
from firedamp.scanner.source import Blob
from firedamp.scanner.walk import finder
from firedamp.service import scanning, show
from firedamp.service.aws import IAM_HOMES
from firedamp.service.backups import back_up
from firedamp.service.ending import ending_in_order
from firedamp.service.surroundings import place_of
from firedamp.storage import careful
from firedamp.storage.careful import Contents
from firedamp.storage.errors import AwsFailure, Failure
from firedamp.storage.records import FileProvenance, KeyKind, Sight, Status
from firedamp.storage.refusals import failures
from firedamp.storage.secret import Secret

if TYPE_CHECKING:
    from types_boto3_iam import IAMClient

    from firedamp.service.keys import Desk
    from firedamp.service.story import Story

_SYNCED: Final = ("Dropbox", "OneDrive", "Google Drive", "iCloud", "Nextcloud", "Library/Mobile Documents")
_TRIES: Final = 8
_MADE: Final = "the new key"
"""The step whose detail is the id of the key that was made: what a cut-off rotation left can be told by it."""

_ENDS: Final = frozenset({"iam:UpdateAccessKey", "iam:DeleteAccessKey"})
"""Steps of which one is the last of a rotation: the old key is inactive, or the new one taken back."""


@dataclass(frozen=True, slots=True)
class Copy:
    """One copy of the old key, and why it cannot be rewritten, if it cannot."""

    where: str
    path: Path | None
    fix: str
    why_not: str | None


@dataclass(slots=True)
class _Written:
    path: Path
    old: Credential
    before: Contents
    backup: Path


def rotate(desk: Desk) -> int:
    """Rotate a key, or show how. Copies that cannot be rewritten block it unless `--leave` names them."""
    old = desk.credential()
    if old is None or old.secret is None or old.kind is not KeyKind.ACCESS_KEY:
        raise Failure(f"{desk.key_id} cannot be rotated: no long-term secret of it can be read back", _cut_off(desk))
    copies = list(_copies(desk.sights, old))
    for each in copies:
        told = f"stays, {each.why_not}: {each.fix}" if each.why_not else "gets the new key"
        print(f"{show.safe(each.where)}: {show.safe(told)}", file=sys.stderr)
    writable = [each.path for each in copies if each.path is not None and each.why_not is None]
    story = desk.plan(("iam:CreateAccessKey", "iam:UpdateAccessKey (the old one, Inactive)"))
    if not desk.go(_obstacle(desk, story, copies)):
        return 0
    assert story.user is not None  # noqa: S101 - a plan stops without one
    with ending_in_order():
        _carry_out(desk, story.user, old, writable)
    return 0


def _cut_off(desk: Desk) -> str:
    """Return what to do where the last rotation was cut off once files had been written, as far as is known."""
    made = ""
    for each in desk.store.key_actions(desk.key_id):
        if each.step == _MADE:
            made = each.detail
        elif each.step in _ENDS and each.outcome == "done":
            made = ""
    if not made:
        return ""
    how = f"firedamp key disable {desk.key_id} ends it"
    return f"a rotation that was cut off made {made}: if files hold it, and it works, {how}"


def _obstacle(desk: Desk, story: Story, copies: Sequence[Copy]) -> Failure | None:
    """Return why a rotation would fail or do harm, as far as that can be known before it begins."""
    blocking = [each for each in copies if each.why_not and not _left(each, desk.options.leave)]
    if blocking:
        return Failure(
            f"{len(blocking)} copies cannot be rewritten and would hold a dead key",
            "fix them, or name them with --leave PATTERN",
        )
    if all(each.why_not for each in copies):
        return Failure("no place may be rewritten", "firedamp key disable makes the key harmless")
    if story.other_keys:
        ours = {each.detail for each in desk.store.key_actions(desk.key_id) if each.step == _MADE}
        left = [each for each in story.other_keys if each.partition(" ")[0] in ours]
        hint = "delete the one that nobody needs: a user has two at most"
        if left:
            hint = f"{left[0]} is of a rotation that was cut off: see which files hold it, delete it where none does"
        return Failure(f"{story.user} has two keys already: {', '.join(story.other_keys)}", hint)
    return None


def _carry_out(desk: Desk, user: str, old: Credential, paths: Sequence[Path]) -> None:
    iam = desk.iam()
    try:
        made = desk.step("rotate", "iam:CreateAccessKey", lambda: iam.create_access_key(UserName=user))["AccessKey"]
    except BaseException:
        _tell_lost(desk, iam, user)
        raise
    new = Credential(kind=KeyKind.ACCESS_KEY, key_id=made["AccessKeyId"], secret=Secret(made["SecretAccessKey"]))
    written: list[_Written] = []
    retiring = False
    try:
        desk.wrote("rotate", _MADE, "done", made["AccessKeyId"])
        for path in dict.fromkeys(paths):
            written.append(_kept(path, old))  # before it is written: what is cut off behind that is taken back, too
            _write(written[-1], new)
        _prove(desk, new, written)
        retiring = True
        desk.step("rotate", "iam:UpdateAccessKey", lambda: iam.update_access_key(
            UserName=user, AccessKeyId=desk.key_id, Status="Inactive"))  # fmt: skip
    except BaseException:
        # An answer that was lost may have been a yes: nobody gets back a key that is dead.
        status = _status(iam, user, desk.key_id) if retiring else "Active"
        if status == "Active":
            _take_back(desk, iam, user, new, written)
        else:
            _forget(written)
            print(f"{old.key_id} is {status}: the new key {new.key_id} stays in {len(written)} files", file=sys.stderr)
        raise
    _forget(written)
    print(f"{new.key_id} stands in {len(written)} files and works; {old.key_id} is inactive", file=sys.stderr)
    print(f"sessions made from it live on: firedamp key revoke-sessions {old.key_id} denies them", file=sys.stderr)


def _tell_lost(desk: Desk, iam: IAMClient, user: str) -> None:
    """Name a key that was made though its answer was lost, on its way or with us. It is not known to be ours."""
    try:
        with failures("whether a key was made is not known: the keys of the user cannot be listed"):
            keys = iam.list_access_keys(UserName=user)["AccessKeyMetadata"]
    except AwsFailure as failure:
        print(f"firedamp: {failure}", file=sys.stderr)
        return
    for each in keys:  # the user had none but the old one when the rotation was planned
        if each["AccessKeyId"] != desk.key_id:
            desk.wrote("rotate", _MADE, "lost", each["AccessKeyId"])
            told = f"{each['AccessKeyId']} ({each['Status']}) was made meanwhile, and nobody has its secret"
            print(f"firedamp: {told} if it was made for this rotation: delete it then", file=sys.stderr)


def _status(iam: IAMClient, user: str, key_id: str) -> str:
    try:
        with failures("the keys of the user cannot be listed"):
            keys = iam.list_access_keys(UserName=user)["AccessKeyMetadata"]
    except AwsFailure:
        return "perhaps inactive"
    return next((each["Status"] for each in keys if each["AccessKeyId"] == key_id), "deleted")


def _forget(written: Sequence[_Written]) -> None:
    for each in written:
        each.backup.unlink(missing_ok=True)


def _copies(sights: Sequence[Sight], old: Credential) -> Iterator[Copy]:
    """Yield every copy once, with the reason why it is not rewritten, if there is one."""
    seen: set[str] = set()
    for sight in sights:
        where = show.place_line(sight)
        place = sight.provenance
        if where in seen:
            continue
        seen.add(where)
        if not isinstance(place, FileProvenance):
            yield Copy(where, None, "git keeps it for ever: the key must die", "it is in a repository's history")
            continue
        known = place_of(place.path)
        fix = "take the key out by hand" if known is None else known.fix
        for path in map(Path, finder()(place.path) or [place.path]):
            why_not = _why_not(path, sight, old, rewritable=known is not None and known.rewritable)
            yield Copy(where, path, fix, why_not)


def _why_not(path: Path, sight: Sight, old: Credential, *, rewritable: bool) -> str | None:
    if not rewritable:
        return "its format is not one that is rewritten"
    if sight.match.container or sight.match.decoder:
        return "it is packed or encoded"
    try:
        status = path.lstat()
    except OSError as error:
        return f"it cannot be read: {error.strerror}"
    if hasattr(os, "geteuid") and status.st_uid != os.geteuid():
        return "it belongs to somebody else"
    if stat.S_ISREG(status.st_mode) and status.st_mode & 0o022:
        return "others may write it"
    if stat.S_ISREG(status.st_mode) and status.st_nlink > 1:
        return "it has other names, which would keep the old key"
    if any(part in str(path) for part in _SYNCED):
        return "it is synced to other machines"
    if _tracked(path):
        return "git tracks it"
    if not os.access(path.parent, os.W_OK):
        return "its folder cannot be written"
    try:
        _whole(path, old)
    except Failure as failure:
        return str(failure)
    return None


def _whole(path: Path, old: Credential) -> Contents:
    """Return what a file holds. Raises Failure where it cannot be read safely, or not all of the old key is there."""
    contents = careful.read(path)
    if contents is None:
        raise Failure(f"{path} vanished", "scan again")
    if any(part not in contents.data for part in _parts(old)):
        raise Failure(f"{path} does not hold the old key as it stands", "scan again")
    return contents


def _tracked(path: Path) -> bool:
    """Whether a repository has the file in its index."""
    done = subprocess.run(
        ["git", "-c", "core.fsmonitor=", "-C", str(path.parent), "ls-files", "--error-unmatch", "--", path.name],
        capture_output=True, env=environment(), check=False,
    )  # fmt: skip
    return done.returncode == 0


def _left(copy: Copy, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatch(copy.where, pattern) or copy.where.startswith(pattern) for pattern in patterns)


def _parts(key: Credential) -> tuple[bytes, bytes]:
    assert key.key_id is not None  # noqa: S101 - a rotation stops without them
    assert key.secret is not None  # noqa: S101
    return key.key_id.encode(), key.secret.reveal().encode()


def _kept(path: Path, old: Credential) -> _Written:
    """Read a file that is about to be written, and keep what it holds."""
    before = _whole(path, old)
    return _Written(path, old, before, back_up(path.name, before.data))


def _write(file: _Written, new: Credential) -> None:
    """Put the new key where the old one stands, byte for byte: comments, order and everything else stay."""
    careful.replace(file.path, _exchanged(file.before.data, file.old, new), file.before)


def _exchanged(data: bytes, out: Credential, into: Credential) -> bytes:
    for old, new in zip(_parts(out), _parts(into), strict=True):
        data = data.replace(old, new)
    return data


def _prove(desk: Desk, new: Credential, written: Sequence[_Written]) -> None:
    """Read every file back as a scan does, and use the new key as programs will."""
    for each in written:
        contents = careful.read(each.path)
        found = [] if contents is None else list(scanning.detect_blob(Blob(str(each.path), contents.data)))
        if not any(
            isinstance(located, Located)
            and (located.credential.key_id, located.credential.secret) == (new.key_id, new.secret)
            for located in found
        ):
            raise Failure(f"{each.path} does not read back as the new key")
    for attempt in range(_TRIES):
        said = desk.ask(new)
        if said.status is Status.ACTIVE:
            break
        time.sleep(min(0.25 * 2**attempt, 5))
    else:
        raise Failure(f"the new key does not work: {said.status} {said.detail}")
    home = IAM_HOMES.get(desk.partition(new))
    for path, profile in _profiles([each.path for each in written], new):
        _through_the_chain(path, profile, new, home)


def _profiles(paths: Sequence[Path], new: Credential) -> Iterator[tuple[Path, str]]:
    """Yield the profiles of the AWS files that hold the new key now. Raises Failure for a file that no SDK reads."""
    shared = Path(os.environ.get("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials")).expanduser().resolve()
    config = Path(os.environ.get("AWS_CONFIG_FILE", "~/.aws/config")).expanduser().resolve()
    for path in paths:
        if path.resolve() not in {shared, config}:
            continue
        parser = configparser.RawConfigParser()
        try:
            parser.read(path, encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError) as error:
            # Its own words may quote a line, and so a secret.
            line = getattr(error, "lineno", None) or next(iter(getattr(error, "errors", ())), (None,))[0]
            at = "" if line is None else f":{line}"
            raise Failure(f"{path}{at} cannot be read by any AWS program: {type(error).__name__}") from None
        for section in parser.sections():
            name = _profile(section) if path.resolve() == config else section
            if name is not None and parser.get(section, "aws_access_key_id", fallback=None) == new.key_id:
                yield path, name


def _profile(section: str) -> str | None:
    """Return the profile that a section of the config file is: `default`, `profile NAME`, `profile "A NAME"`.

    None for any other, which no SDK reads (botocore: configloader, `build_profile_map`).
    """
    try:
        words = shlex.split(section)
    except ValueError:
        return None
    if section == "default":
        return section
    return words[1] if len(words) == 2 and words[0] == "profile" else None


def _through_the_chain(path: Path, profile: str, new: Credential, home: str | None) -> None:
    """Resolve a profile as every SDK does: something that outranks the file would make the rotation worthless.

    home is a region of the key's partition, for a profile that names none.
    """
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        session = boto3.Session(profile_name=profile)
        credentials = session.get_credentials()
        if credentials is None or credentials.access_key != new.key_id:
            raise Failure(f"profile {profile} of {path} resolves to another key", "is an AWS_… variable set?")
        session.client("sts", region_name=session.region_name or home or "us-east-1").get_caller_identity()
    except (BotoCoreError, ClientError) as error:
        raise Failure(f"profile {profile} does not work with the new key: {error}") from error


def _take_back(desk: Desk, iam: IAMClient, user: str, new: Credential, written: Sequence[_Written]) -> None:
    """Put the files back and delete the new key; say what could not be undone. A key that a file holds stays."""
    held = False
    for each in written:
        try:
            _put_back(each, new)
            each.backup.unlink(missing_ok=True)
        except (Failure, OSError) as failure:
            held = True
            print(f"firedamp: {failure}; its old content is kept in {each.backup}", file=sys.stderr)
    if held:
        print(f"the new key {new.key_id} is kept: that file may hold it, and both keys work", file=sys.stderr)
        return
    try:
        desk.step("rotate", "iam:DeleteAccessKey", lambda: iam.delete_access_key(
            UserName=user, AccessKeyId=new.key_id or ""))  # fmt: skip
    except AwsFailure as failure:
        print(f"firedamp: the new key {new.key_id} could not be deleted: {failure}", file=sys.stderr)
    else:
        print(f"the files are as they were, and the new key {new.key_id} is deleted", file=sys.stderr)


def _put_back(file: _Written, new: Credential) -> None:
    """Put the old key where the new one stands: what somebody else wrote there meanwhile stays."""
    held = careful.read(file.path)
    data = file.before.data if held is None else _exchanged(held.data, new, file.old)
    if held is None or held.data != data:
        careful.replace(file.path, data, held)
