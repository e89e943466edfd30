"""The forms a key is planted in: one row each, with a template to write it and a reader to find it again. Pure.

To add one: a template in `templates`, a row in FORMATS, and the tests come by themselves (DESIGN, section 5).
"""

from __future__ import annotations

import base64
import configparser
import csv
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC
from string import Template
from typing import Any, Final

from configupdater import ConfigUpdater

from firedamp.canaries import templates, unfinished
from firedamp.canaries.scenery import Surroundings
from firedamp.storage.errors import Failure, UsageFailure
from firedamp.storage.secret import Secret

_ID: Final = r"[A-Z0-9]{16,128}"
_SECRET: Final = r"[A-Za-z0-9/+=]{16,256}"  # noqa: S105 - a pattern
_NAME: Final = re.compile(r"^[ \t]*(?:export[ \t]+)?([A-Za-z_][\w.-]*)[ \t]*[=:]", re.MULTILINE)
_TOP: Final = re.compile(r"""[ \t#]|(?:[\w.-]+|"[^"]*"|'[^']*')[ \t]*:|-(?!-)|$""")
"""How a line of a plain YAML map begins."""
_WIDE: Final = ("\udcff\udcfe", "\udcfe\udcff")
"""UTF-16's byte order marks, as they are read."""
_DEEPEST: Final = 40


@dataclass(frozen=True, slots=True)
class Pair:
    """A key id with its secret, as it is planted or was read back."""

    key_id: str
    secret: Secret


def _never(_: str) -> bool:
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """One form. names: what a text defines already, so that nothing is defined twice; None: only a new file is made."""

    name: str
    file: str
    """The file that usually holds it."""
    template: Template
    read: Callable[[str], list[Pair]]
    names: Callable[[str], frozenset[str]] | None = None
    unfinished: Callable[[str], bool] = _never
    """Whether a text ends in the middle of something, so that nothing can be added to it."""
    mark: str = ""
    """What a new file begins with and an addition to an old one does not."""
    apart: bool = True
    """Whether an empty line parts an addition from what stands above it."""

    def start(self, pair: Pair, around: Surroundings) -> str:
        """Write a new file."""
        return self.mark + self.render(pair, around)

    def render(self, pair: Pair, around: Surroundings) -> str:
        """Write a pair with its surroundings, as it stands in a file. The secret leaves its type here."""
        secret = pair.secret.reveal()
        return self.template.substitute(
            id=pair.key_id, secret=secret, id64=_base64(pair.key_id), secret64=_base64(secret),
            label=around.label, prefix=around.prefix, label_=around.prefix.lower(),
            dotted=around.dotted, region=around.region, bucket=around.bucket,
            project=around.project, stage=around.stage, user=around.user,
            console=around.console, domain=around.domain, s3=around.s3,
            serial=around.serial, uuid=_uuid(around.serial), seconds=int(around.at.timestamp()),
            date=around.at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        )  # fmt: skip

    def add(self, text: str, pair: Pair, around: Surroundings) -> str:
        """Return what is added at the end of an existing text. Raises UsageFailure where it cannot be.

        Nothing that stands there is changed: a name that is taken is refused.
        """
        if self.names is None:
            raise UsageFailure(f"there is something already, and {self.name} is only written where nothing is")
        if text.startswith(_WIDE):
            raise UsageFailure("the file is UTF-16, so nothing is added to it", "choose another")
        if self.unfinished(text):
            raise UsageFailure("the file ends in the middle of something, so nothing is added to it", "choose another")
        block = self.render(pair, around)
        taken = self.names(text) & self.names(block)
        if taken:
            raise NameTaken(f"{min(taken)} is there already, and is never overwritten", f"--as {self.name}:OTHER-NAME")
        end = "\r\n" if text.count("\r\n") * 2 > text.count("\n") else "\n"
        gap = "" if not text or text.endswith("\n") else "\n"
        if text.strip() and self.apart and not (gap or text).endswith("\n\n"):
            gap += "\n"
        return (gap + block).replace("\n", end)

    def find(self, text: str, key_id: str) -> Pair | None:
        """Return the pair of a key id in a text, or None when it does not stand there in this form."""
        return next((pair for pair in self.read(text) if pair.key_id == key_id), None)


class NameTaken(UsageFailure):
    """A name that the planted key would bear is used by something else; another may be free."""


def check(pair: Pair) -> None:
    """Raise Failure for a pair that cannot stand in every format as it is."""
    if re.fullmatch(_ID, pair.key_id) is None:
        raise Failure(f"{pair.key_id!r} cannot be planted", "a key id has 16 to 128 capitals and digits")
    if re.fullmatch(_SECRET, pair.secret.reveal()) is None:
        raise Failure("the secret cannot be planted", "it has 16 to 256 letters, digits, /, + and =")


def choose(text: str) -> tuple[Format, str | None]:
    """Read `--as FORMAT[:NAME]`: the format, and what the key shall be called there. Raises UsageFailure."""
    name, _, label = text.partition(":")
    if name not in FORMATS:
        raise UsageFailure(f"{name} is no format to plant in", "one of " + ", ".join(FORMATS))
    return FORMATS[name], label or None


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _uuid(serial: str) -> str:
    """Write 32 hexadecimal digits as a random UUID (RFC 9562, version 4)."""
    return f"{serial[:8]}-{serial[8:12]}-4{serial[13:16]}-a{serial[17:20]}-{serial[20:32]}"


# Readers: a text -> the pairs in it. What they read may have been changed by anybody; nonsense holds no pair.


def _sections(id_name: str, secret_name: str) -> Callable[[str], list[Pair]]:
    def read(text: str) -> list[Pair]:
        parser = configparser.RawConfigParser(strict=False, allow_no_value=True, comment_prefixes=("#", ";"))
        try:
            parser.read_string(text)
        except configparser.Error:
            return []
        pairs = []
        for section in parser.sections():
            key_id = parser.get(section, id_name, fallback=None)
            secret = parser.get(section, secret_name, fallback=None)
            if key_id and secret:
                pairs.append(Pair(key_id.strip(), Secret(secret.strip())))
        return pairs

    return read


def _assigned(id_name: str, secret_name: str) -> Callable[[str], list[Pair]]:
    """Read `NAME = value` and its kin: quoted or not, with `=`, `:`, `=>` or a comma. Names are patterns."""
    between = r"[\"']?\]?[ \t]*(?:=>|[:=,])[ \t]*[\"']?"
    ids = re.compile(rf"(?<![A-Za-z])(?:{id_name}){between}({_ID})(?![A-Za-z0-9/+=])")
    secrets = re.compile(rf"(?<![A-Za-z])(?:{secret_name}){between}({_SECRET})")
    return lambda text: _joined(text, ids, secrets)


def _joined(text: str, ids: re.Pattern[str], secrets: re.Pattern[str]) -> list[Pair]:
    """Pair each id with the first secret behind it."""
    pairs = []
    for found in ids.finditer(text):
        secret = secrets.search(text, found.end())
        if secret is not None:
            pairs.append(Pair(found[1], Secret(secret[1])))
    return pairs


def _encoded(text: str) -> list[Pair]:
    """Read a Kubernetes Secret, whose values are base64."""
    found = re.compile(
        r"^\s*(AWS_ACCESS_KEY_ID|AWS_SECRET_ACCESS_KEY):\s*([A-Za-z0-9+/]{16,400}={0,2})\s*$", re.MULTILINE
    )
    values: dict[str, str] = {}
    for name, value in found.findall(text):
        try:
            values[name] = base64.b64decode(value, validate=True).decode("ascii")
        except ValueError:
            return []
    if len(values) < 2:
        return []
    return [Pair(values["AWS_ACCESS_KEY_ID"], Secret(values["AWS_SECRET_ACCESS_KEY"]))]


def _objects(id_name: str, secret_name: str) -> Callable[[str], list[Pair]]:
    def read(text: str) -> list[Pair]:
        return [
            Pair(each[id_name], Secret(each[secret_name]))
            for each in _dicts(_json(text))
            if isinstance(each.get(id_name), str) and isinstance(each.get(secret_name), str)
        ]

    return read


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _dicts(value: Any, depth: int = 0) -> Iterator[dict[str, Any]]:
    if depth > _DEEPEST:
        return
    if isinstance(value, dict):
        yield value
    for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _dicts(each, depth + 1)


def _cells(text: str) -> list[Pair]:
    """Read a notebook: assignments in its cells."""
    lines = (line for each in _dicts(_json(text)) for line in each.get("source", ()) if isinstance(line, str))
    return _variables("".join(lines))


def _table(text: str) -> list[Pair]:
    try:
        rows = list(csv.DictReader(text.removeprefix("\ufeff").splitlines()))
    except csv.Error:
        return []
    columns = "Access key ID", "Secret access key"
    return [
        Pair(row[columns[0]], Secret(row[columns[1]])) for row in rows if row.get(columns[0]) and row.get(columns[1])
    ]


def _servers(text: str) -> list[Pair]:
    found = re.findall(rf"<username>({_ID})</username>\s*<password>({_SECRET})</password>", text)
    return [Pair(key_id, Secret(secret)) for key_id, secret in found]


def _names(text: str) -> frozenset[str]:
    return frozenset(_NAME.findall(text.removeprefix("\ufeff")))


def _yaml_names(text: str) -> frozenset[str]:
    """Return the names of a YAML map. Raises Failure for a vault, a list, two documents: a line more breaks them."""
    lines = [line for line in text.removeprefix("\ufeff").splitlines() if line.strip() and not line.startswith("#")]
    if lines and lines[0].rstrip() == "---":
        del lines[0]
    if any(_TOP.match(line) is None for line in lines) or (lines and lines[0][0] in " \t-"):
        raise Failure("the file is no plain map of YAML, so nothing is added to it", "choose another")
    return _names(text)


def _section_names(text: str) -> frozenset[str]:
    """Return the sections of an INI file. Raises Failure for one that is none: it is not added to blindly."""
    updater = ConfigUpdater(strict=False, allow_no_value=True)
    try:
        updater.read_string(text)
    except configparser.Error as error:
        raise Failure("the file cannot be understood, so nothing is added to it", str(error).partition("\n")[0]) from (
            error
        )
    return frozenset(updater.sections())


def _none(_: str) -> frozenset[str]:
    return frozenset()


_NAMES: Final = r"(?:\w+_)?AWS_ACCESS_KEY_ID", r"(?:\w+_)?AWS_SECRET_ACCESS_KEY"
_variables: Final = _assigned(*_NAMES)
_lower: Final = _assigned(r"(?:\w+_)?(?:aws_)?access_key(?:_id)?", r"(?:\w+_)?(?:aws_)?secret(?:_access)?_key")
_camel: Final = _assigned(r"[\w.-]*[aA]ccess-?[kK]ey(?:Id)?", r"[\w.-]*[sS]ecret-?[kK]ey")


_ROWS: Final = (
    Format(name="aws-profile", file=".aws/credentials", template=templates.PROFILE, names=_section_names,
           read=_sections("aws_access_key_id", "aws_secret_access_key")),
    Format(name="aws-config", file=".aws/config", template=templates.CONFIG, names=_section_names,
           read=_sections("aws_access_key_id", "aws_secret_access_key")),
    Format(name="env", file=".env", template=templates.ENV, names=_names,
           unfinished=unfinished.dotenv, read=_variables),
    Format(name="shell", file="setup.sh", template=templates.SHELL, names=_names,
           unfinished=unfinished.shell, read=_variables, mark="#!/bin/bash\nset -e\n"),
    Format(name="history", file=".bash_history", template=templates.HISTORY, names=_none, read=_variables,
           apart=False),
    Format(name="zsh-history", file=".zsh_history", template=templates.ZSH_HISTORY, names=_none,
           unfinished=unfinished.continued, read=_variables, apart=False),
    Format(name="csv", file="accessKeys.csv", template=templates.CSV, read=_table),
    Format(name="csv-2019", file="credentials.csv", template=templates.CSV_2019, read=_table),
    Format(name="json", file="config.json", template=templates.JSON, read=_objects("accessKeyId", "secretAccessKey")),
    Format(name="yaml", file="config.yml", template=templates.YAML, read=_lower),
    Format(name="docker-compose", file="docker-compose.yml", template=templates.COMPOSE, read=_variables),
    Format(name="tfvars", file="terraform.tfvars", template=templates.TFVARS, names=_names,
           unfinished=unfinished.hcl, read=_lower),
    Format(name="tfstate", file="terraform.tfstate", template=templates.TFSTATE, read=_objects("id", "secret")),
    Format(name="tf-backend", file="backend.tf", template=templates.BACKEND, read=_lower),
    Format(name="kubernetes-secret", file="secret.yaml", template=templates.KUBERNETES, read=_encoded),
    Format(name="kubeconfig", file=".kube/config", template=templates.KUBECONFIG,
           read=_assigned(r"name: AWS_ACCESS_KEY_ID\s+value", r"name: AWS_SECRET_ACCESS_KEY\s+value")),
    Format(name="s3cfg", file=".s3cfg", template=templates.S3CFG, read=_sections("access_key", "secret_key")),
    Format(name="rclone", file=".config/rclone/rclone.conf", template=templates.RCLONE, names=_section_names,
           read=_sections("access_key_id", "secret_access_key")),
    Format(name="boto", file=".boto", template=templates.BOTO,
           read=_sections("aws_access_key_id", "aws_secret_access_key")),
    Format(name="maven", file=".m2/settings.xml", template=templates.MAVEN, read=_servers),
    Format(name="gradle", file=".gradle/gradle.properties", template=templates.GRADLE, names=_names,
           unfinished=unfinished.continued, read=_camel),
    Format(name="properties", file="application.properties", template=templates.PROPERTIES, names=_names,
           unfinished=unfinished.continued, read=_camel),
    Format(name="jenkins", file="Jenkinsfile", template=templates.JENKINS, read=_variables),
    Format(name="github-actions", file=".github/workflows/deploy.yml", template=templates.ACTIONS, read=_variables),
    Format(name="gitlab-ci", file=".gitlab-ci.yml", template=templates.GITLAB, read=_variables),
    Format(name="notebook", file="export.ipynb", template=templates.NOTEBOOK, read=_cells),
    Format(name="wp-config", file="wp-config.php", template=templates.WORDPRESS,
           read=_assigned("access-key-id", "secret-access-key")),
    Format(name="ansible", file="group_vars/all.yml", template=templates.ANSIBLE, names=_yaml_names,
           unfinished=unfinished.yaml, read=_lower),
)  # fmt: skip

FORMATS: Final[dict[str, Format]] = {row.name: row for row in _ROWS}
