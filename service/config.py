"""The configuration file: TOML -> frozen Config. All errors at once, each with its path and a hint.

The tables below are the schema, the defaults and the documentation in one: `example` writes the commented file from
them, and `load` reads it back. No file is needed for any single command; `serve` needs one.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import re
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from firedamp.storage.errors import Failure, UsageFailure
from firedamp.storage.secret import Secret

_DURATION: Final = re.compile(r"(\d+)\s*(s|m|h|d)")
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@dataclass(frozen=True, slots=True)
class Reference:
    """Where a secret is kept: `env:NAME`, `file:/PATH`, `keyring:SERVICE/USER` or `aws:SECRET-ID`. Never the secret."""

    text: str

    def resolve(self, fetch: typing.Callable[[str], str] | None = None) -> Secret:
        """Read the secret. fetch asks AWS Secrets Manager. Raises Failure that names the reference, not the value."""
        kind, _, rest = self.text.partition(":")
        try:
            match kind:
                case "env":
                    return Secret(os.environ[rest])
                case "file":
                    return Secret(Path(rest).read_text(encoding="utf-8").strip())
                case "keyring":
                    return Secret(_from_keyring(rest))
                case _:
                    if fetch is None:
                        raise Failure(f"{self.text} needs AWS, which is not set up here")
                    return Secret(fetch(rest))
        except KeyError:
            raise Failure(f"{self.text}: the variable is not set") from None
        except OSError as error:
            raise Failure(f"{self.text} cannot be read: {error.strerror}") from None


def _from_keyring(rest: str) -> str:
    try:
        import keyring
    except ImportError:
        raise Failure(f"keyring:{rest} needs the keyring library", "pip install keyring") from None
    service, _, user = rest.partition("/")
    found: str | None = keyring.get_password(service, user)
    if found is None:
        raise Failure(f"keyring:{rest}: nothing is kept under that name")
    return found


def _doc(text: str, default: Any = dataclasses.MISSING) -> Any:
    """Give a field its comment in the example, and its default."""
    if default is dataclasses.MISSING:
        return field(metadata={"doc": text})
    return field(default=default, metadata={"doc": text})


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanConfig:
    """What is read, and what may be missing."""

    accept_incomplete: tuple[str, ...] = _doc("Known failures (glob patterns) that do not make a scan incomplete.", ())
    canary_accounts: tuple[str, ...] = _doc("More accounts whose keys are honeytokens and are never sent to AWS.", ())
    all_places: bool = _doc("Read places that are skipped by default too.", default=False)
    thorough: bool = _doc(
        "Look at all of every object of a repository, not only at what is new in it, and at the names in all trees.",
        default=False,
    )
    honour_marks: tuple[str, ...] = _doc("Inline marks of other tools that allow a line, as in 'gitleaks:allow'.", ())
    unpack_depth: int = _doc("How deep containers are opened inside containers.", 8)
    unpack_members: int = _doc("How many members of one container are read.", 10_000)
    unpack_bytes: int = _doc("Bytes that one top-level file may unpack to.", 1 << 30)
    unpack_ratio: int = _doc("How many times its size a container may unpack to.", 200)
    unpack_time: timedelta = _doc("How long one container may take.", timedelta(seconds=60))


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyConfig:
    """How AWS is asked whether a key lives."""

    enabled: bool = _doc("Ask at all; --offline never asks.", default=True)
    partitions: tuple[str, ...] = _doc("Partitions asked where the surroundings name none.", ("aws",))
    concurrency: int = _doc("Keys asked about at the same time.", 8)
    rate: float = _doc("Requests a second at most, evenly spread.", 400.0)
    timeout: timedelta = _doc("How long one answer may take.", timedelta(seconds=10))
    user_agent: str = _doc("How we name ourselves to AWS; a nonce is added to every call.", "firedamp")
    active_again: timedelta = _doc("When a live key is asked about again.", timedelta(days=1))
    rejected_again: timedelta = _doc("When a rejected key is asked about again.", timedelta(days=30))
    unknown_again: timedelta = _doc("When an answer that decided nothing is asked for again.", timedelta(hours=1))


@dataclass(frozen=True, slots=True, kw_only=True)
class AwsConfig:
    """Our own access to AWS: profiles of the user's AWS configuration."""

    profile: str | None = _doc("The profile for everything not named below; none is the SDK's own choice.", None)
    audit_profile: str | None = _doc("Reads the story of a key: IAM and CloudTrail, read-only.", None)
    canary_profile: str | None = _doc("Makes and retires canaries.", None)
    watch_profile: str | None = _doc("Reads the feeds.", None)


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchConfig:
    """What the watch reads, and when an incident ends."""

    feeds: tuple[str, ...] = _doc("Feed URLs: sqs://…, s3://…, lookup://…, file:///….", ())
    quiet: timedelta = _doc("An incident ends when its key was not seen for so long.", timedelta(hours=24))
    tamper_accounts: tuple[str, ...] = _doc(
        "Accounts whose trail, bucket, rule and queue are watched themselves; empty: those of our canaries.", ()
    )
    tamper_names: tuple[str, ...] = _doc("Words in the names of these, as that of their stack.", ())
    tamper_keys: tuple[str, ...] = _doc("KMS keys that these are encrypted with, as ids or ARNs; empty: any there.", ())
    city_database: Path | None = _doc("A MaxMind city database, to name the place of an address.", None)
    network_database: Path | None = _doc("A MaxMind ASN database, to name the network of an address.", None)
    blind_after: timedelta = _doc("No record from a feed for so long is an alarm.", timedelta(hours=2))
    drill_budget: timedelta = _doc("A drill that takes longer from call to channel is an alarm.", timedelta(minutes=15))
    heartbeat: Reference | None = _doc(
        "Called after every round in which each feed was read well: a URL, or cloudwatch://REGION/NAMESPACE/METRIC.",
        None,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelConfig:
    """One way to reach a person. The URL holds credentials, so it is a reference."""

    name: str = _doc("Said in the outbox and in the log.")
    url: Reference = _doc("An apprise URL, or sns://, sqs://, webhook+https://, syslog://, stdout://.")
    minimum: str = _doc("The least severity it is told of: info, low, medium, high or critical.", "low")
    signing_key: Reference | None = _doc("Signs a webhook's body (HMAC-SHA256).", None)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobConfig:
    """One thing done again and again by `serve`."""

    name: str = _doc("Said in the history; each name once.")
    kind: str = _doc("scan, verify, watch, nets, check, drill, deliver or prune.")
    every: timedelta | None = _doc("How often: '5m', '1h', '1d'. Either this or cron.", None)
    cron: str | None = _doc("When: five fields, as in '0 3 * * *'.", None)
    jitter: timedelta = _doc("Started later by a random time up to this.", timedelta())
    timeout: timedelta = _doc("Stopped after so long.", timedelta(hours=1))
    targets: tuple[str, ...] = _doc("Of a scan: folders, repositories, git URLs.", ())
    orgs: tuple[str, ...] = _doc("Of a scan: organisations, as in 'github:acme'.", ())
    feeds: tuple[str, ...] = _doc("Of a watch: these feeds only; none is all of [watch].", ())


@dataclass(frozen=True, slots=True, kw_only=True)
class TeamConfig:
    """Who answers for what, for `findings list --by team`: the last that fits, and where none does, CODEOWNERS."""

    name: str = _doc("The team, as it is called.")
    repositories: tuple[str, ...] = _doc("Globs of repositories; none is all of them, and files too.", ())
    paths: tuple[str, ...] = _doc("Globs of paths in them; none is all.", ())


@dataclass(frozen=True, slots=True, kw_only=True)
class ForgeConfig:
    """How one forge is asked which repositories an organisation has."""

    name: str = _doc("The organisation as written in a target: 'github:acme'.")
    token: Reference | None = _doc("The token that reads it.", None)
    app_id: str | None = _doc("A GitHub App; its installation token is made anew as needed.", None)
    app_key: Reference | None = _doc("The GitHub App's private key.", None)
    api: str | None = _doc("The API's address, for an Enterprise or self-hosted forge.", None)
    archived: bool = _doc("Archived repositories too.", default=True)
    forks: bool = _doc("Forks too.", default=True)
    include: tuple[str, ...] = _doc("Only repositories whose name fits one of these globs.", ())
    exclude: tuple[str, ...] = _doc("No repositories whose name fits one of these globs.", ())
    topics: tuple[str, ...] = _doc("Only repositories with one of these topics.", ())
    max_bytes: int | None = _doc("No repositories larger than this.", None)
    wikis: bool = _doc("Wikis, snippets and gists too, where the forge has them.", default=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeConfig:
    """The service itself."""

    listen: str = _doc("Where /healthz, /readyz and /metrics answer.", "127.0.0.1:9187")
    log: str = _doc("json or human.", "human")
    workers: int = _doc("Jobs that run at the same time, besides those that an alarm waits for.", 2)
    cache: Path | None = _doc("Where mirrors live; none is the user cache folder.", None)
    clone_time: timedelta = _doc("How long the clone or fetch of one repository may take.", timedelta(hours=2))
    cache_bytes: int = _doc("How much disk the mirrors may take.", 50 << 30)
    keep: timedelta = _doc("How long the history of jobs, and why feeds were not read, is kept. Findings, incidents "
                           "and records are never pruned (records of our nets' own calls are, after a week).",
                           timedelta(days=90))  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Everything a configuration file can say."""

    db: Path | None = _doc("The database of every command; none is FIREDAMP_DB or the user data folder.", None)
    scan: ScanConfig = _doc("", ScanConfig())
    verify: VerifyConfig = _doc("", VerifyConfig())
    aws: AwsConfig = _doc("", AwsConfig())
    watch: WatchConfig = _doc("", WatchConfig())
    serve: ServeConfig = _doc("", ServeConfig())
    channel: tuple[ChannelConfig, ...] = _doc("", ())
    job: tuple[JobConfig, ...] = _doc("", ())
    forge: tuple[ForgeConfig, ...] = _doc("", ())
    team: tuple[TeamConfig, ...] = _doc("", ())


def load(path: Path, *, whole: bool = False) -> Config:
    """Read and check a file. Raises UsageFailure with every error of it, one a line.

    whole: what only the service uses is checked too; that takes a while, and a hook has none.
    """
    import tomllib  # there is a file more seldom than none

    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageFailure(f"{path} cannot be read: {error.strerror}", "see firedamp config example") from error
    except ValueError as error:  # TOML's own error, and text that is not UTF-8
        raise UsageFailure(f"{path} is not TOML: {error}") from error
    errors: list[str] = []
    config = _table(document, Config, "", errors)
    if not errors:
        errors += _sense(config)
    if whole and not errors:
        errors += _service_sense(config)
    if errors:
        raise UsageFailure("\n  ".join([f"{path}: {len(errors)} to mend", *errors]), "see firedamp config example")
    assert isinstance(config, Config)  # noqa: S101 - without errors, the table was built
    return config


def _table(document: Mapping[str, object], kind: type, where: str, errors: list[str]) -> Any:
    hints = typing.get_type_hints(kind)
    fields = {each.name: each for each in dataclasses.fields(kind)}
    values: dict[str, object] = {}
    for name, value in document.items():
        path = f"{where}.{name}" if where else name
        if name not in fields:
            near = difflib.get_close_matches(name, fields, 1)
            errors.append(f"{path}: no such option" + (f"; {near[0]} is meant?" if near else ""))
            continue
        before = len(errors)
        read = _value(value, hints[name], path, errors)
        if len(errors) == before:
            values[name] = read
    for name, each in fields.items():
        if each.default is dataclasses.MISSING and name not in document:
            errors.append(f"{where}.{name}: is missing; {each.metadata['doc']}")
    return kind(**values) if not errors else None


def _value(value: object, hint: Any, path: str, errors: list[str]) -> object:
    if isinstance(hint, types.UnionType):
        hint = next(each for each in typing.get_args(hint) if each is not type(None))
    if typing.get_origin(hint) is tuple:
        inner = typing.get_args(hint)[0]
        if not isinstance(value, list):
            errors.append(f"{path}: a list is expected")
            return ()
        return tuple(_value(each, inner, f"{path}[{n}]", errors) for n, each in enumerate(value))
    if dataclasses.is_dataclass(hint) and hint is not Reference:
        if not isinstance(value, dict):
            errors.append(f"{path}: a table is expected")
            return None
        return _table(value, typing.cast("type", hint), path, errors)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if hint in {bool, int, float, str}:
        if type(value) is hint:
            if isinstance(value, int | float) and not value >= 0:
                errors.append(f"{path}: {value} is less than 0")
            return value
        errors.append(f"{path}: {hint.__name__} is expected, not {value!r}")
        return None
    if not isinstance(value, str):
        errors.append(f"{path}: text is expected, not {value!r}")
        return None
    return _from_text(value, hint, path, errors)


def _from_text(value: str, hint: Any, path: str, errors: list[str]) -> object:
    if hint is Path:
        return Path(value).expanduser()
    if hint is Reference:
        if value.partition(":")[0] not in {"env", "file", "keyring", "aws"}:
            # The value is not repeated: it may be the secret itself.
            errors.append(f"{path}: a secret is given by reference: env:NAME, file:/PATH, keyring:SERVICE/USER, aws:ID")
        return Reference(value)
    found = _DURATION.fullmatch(value.strip())
    if found is None:
        errors.append(f"{path}: a time is expected, as in '30s', '5m', '2h' or '1d', not {value!r}")
        return timedelta()
    return timedelta(seconds=int(found[1]) * _UNITS[found[2]])


KINDS: Final = ("scan", "verify", "watch", "nets", "check", "drill", "deliver", "prune")
PARTITIONS: Final = ("aws", "aws-us-gov", "aws-cn")
SEVERITIES: Final = ("info", "low", "medium", "high", "critical")


def _sense(config: Config) -> list[str]:
    """Return what is well-formed and still makes no sense."""
    errors: list[str] = []
    for n, job in enumerate(config.job):
        if job.kind not in KINDS:
            errors.append(f"job[{n}].kind: {job.kind!r} is none of {', '.join(KINDS)}")
        if (job.every is None) == (job.cron is None):
            errors.append(f"job[{n}]: either every or cron says when {job.name!r} runs")
        if job.cron is not None and len(job.cron.split()) != 5:
            errors.append(f"job[{n}].cron: five fields are expected, as in '0 3 * * *'")
        if job.every is not None and job.every < timedelta(seconds=1):
            errors.append(f"job[{n}].every: at least a second")
        if job.name in KINDS and job.name != job.kind:
            errors.append(f"job[{n}].name: {job.name!r} is what the job of that kind is called")
        if job.kind == "verify" and not config.verify.enabled:
            errors.append(f"job[{n}].kind: enabled under [verify] forbids it")
        if job.kind == "watch" and not job.feeds and not config.watch.feeds:
            errors.append(f"job[{n}].feeds: none, and [watch] names none either")
    errors += [
        f"verify.partitions[{n}]: {each!r} is none of {', '.join(PARTITIONS)}"
        for n, each in enumerate(config.verify.partitions)
        if each not in PARTITIONS
    ]
    more_than_none: list[tuple[str, float | timedelta]] = [
        ("serve.workers", config.serve.workers), ("verify.concurrency", config.verify.concurrency),
        ("verify.rate", config.verify.rate), ("verify.timeout", config.verify.timeout),
        ("watch.quiet", config.watch.quiet), ("watch.blind_after", config.watch.blind_after),
        ("serve.clone_time", config.serve.clone_time),
        *((f"job[{n}].timeout", job.timeout) for n, job in enumerate(config.job)),
    ]  # fmt: skip
    errors += [f"{path}: more than 0 is expected" for path, value in more_than_none if not value]
    for kind, names in (("job", [job.name for job in config.job]), ("channel", [c.name for c in config.channel])):
        errors += [
            f"{kind}: the name {name!r} stands twice" for name in sorted({n for n in names if names.count(n) > 1})
        ]
    for n, channel in enumerate(config.channel):
        if channel.minimum not in SEVERITIES:
            errors.append(f"channel[{n}].minimum: {channel.minimum!r} is none of {', '.join(SEVERITIES)}")
    host, _, port = config.serve.listen.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        errors.append(f"serve.listen: HOST:PORT is expected, not {config.serve.listen!r}")
    if config.serve.log not in {"json", "human"}:
        errors.append(f"serve.log: json or human, not {config.serve.log!r}")
    return errors


def _service_sense(config: Config) -> list[str]:
    """Return what those parts say of it that read it later: the clock of the jobs, and the feeds. Nothing is opened."""
    from firedamp.canaries.feeds import World
    from firedamp.canaries.opening import open_feed
    from firedamp.service.schedule import trigger

    def nothing(*_: object) -> Any:
        raise AssertionError(config)

    errors: list[str] = []
    feeds = [("watch", config.watch.feeds)]
    for n, job in enumerate(config.job):
        feeds.append((f"job[{n}]", job.feeds))
        try:
            trigger(job)
        except ValueError as error:
            errors.append(f"job[{n}].cron: {error}")
    for path, urls in feeds:
        for n, url in enumerate(urls):
            try:
                open_feed(url, World(clients=nothing, watched=nothing, clock=nothing, sleep=nothing))
            except UsageFailure as failure:
                errors.append(f"{path}.feeds[{n}]: {failure}")
    return errors


def example() -> str:
    """Return a commented file with every option and its default."""
    lines = ["# firedamp.toml: every option with its default. Times are '30s', '5m', '2h' or '1d'.", ""]
    tables: list[tuple[str, type]] = []
    for each in dataclasses.fields(Config):
        default = each.default
        if isinstance(default, tuple):
            inner = typing.get_args(typing.get_type_hints(Config)[each.name])[0]
            tables.append((f"[[{each.name}]]", inner))
        elif dataclasses.is_dataclass(default):
            tables.append((f"[{each.name}]", type(default)))
        else:
            lines += _option(each)
    for title, kind in tables:
        many = title.startswith("[[")
        lines += ["", f"# {kind.__doc__}", f"# {title}" if many else title]
        for each in dataclasses.fields(kind):
            lines += _option(each)
    return "\n".join(lines) + "\n"


def _option(each: dataclasses.Field[Any]) -> list[str]:
    default = each.default
    if default is dataclasses.MISSING or default is None:
        shown = '""'
    elif isinstance(default, timedelta):
        seconds = int(default.total_seconds())
        unit = next(unit for unit in ("d", "h", "m", "s") if seconds % _UNITS[unit] == 0)
        shown = f'"{seconds // _UNITS[unit]}{unit}"'
    elif isinstance(default, bool):
        shown = str(default).lower()
    elif isinstance(default, tuple):
        shown = "[" + ", ".join(f'"{item}"' for item in default) + "]"
    else:
        shown = f'"{default}"' if isinstance(default, str) else str(default)
    return [f"# {each.metadata['doc']}", f"#{each.name} = {shown}"]
