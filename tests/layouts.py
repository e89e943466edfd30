"""The ways in which people leave key pairs in files, generated with decoys beside them.

Each layout writes one file and returns it; the pairs in it are `Plant.truth`. Used by test_pairing.py (30 files a
layout) and bench/pairing.py (400). The first 25 are those of the research page (scanner-peers, d.3).
"""

from __future__ import annotations

import base64
import html
import json
import random
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote

from tests.builders import make_key_id, make_secret, make_token

# Names that files give to other runs of 40 base64 characters; half of them no rule of the pairing knows.
_DECOY_NAMES: Final = (
    "etag nonce cursor payload digest checksum csrf_token continuation blob thumb x_amz_id_2 cache_tag signature"
    " next_page data trace revision build_hash"
).split()
_NAMES: Final = "prod dev staging backup ci media reports alice bob data-lake".split()
_REGIONS: Final = "eu-west-1 us-east-1 ap-southeast-2 us-gov-west-1 cn-north-1".split()


@dataclass
class Plant:
    """Makes keys and decoys, and remembers which secret belongs to which id."""

    rng: random.Random
    truth: dict[str, str] = field(default_factory=dict)

    def pair(self, prefix: str = "AKIA") -> tuple[str, str]:
        key_id, secret = make_key_id(self.rng, prefix=prefix), make_secret(self.rng)
        self.truth[key_id] = secret
        return key_id, secret

    def lone(self) -> str:
        return make_key_id(self.rng)

    def pick(self, *choices: str) -> str:
        return self.rng.choice(choices)

    def chance(self, odds: float = 0.5) -> bool:
        return self.rng.random() < odds

    def name(self) -> str:
        return self.rng.choice(_NAMES)

    def names(self, count: int) -> list[str]:
        return self.rng.sample(_NAMES, count)

    def region(self) -> str:
        return self.rng.choice(_REGIONS)

    def sha(self) -> str:
        return self.rng.randbytes(20).hex()

    def noise(self) -> tuple[str, str]:
        """Return the name and value of something that is no key: digests, ids, or 40 characters of base64."""
        return self.rng.choice(
            [
                ("commit", self.sha()),
                ("sha256", self.rng.randbytes(32).hex()),
                ("request_id", str(uuid.UUID(bytes=self.rng.randbytes(16)))),
                ("integrity", "sha512-" + base64.b64encode(self.rng.randbytes(64)).decode()),
                ("md5", base64.b64encode(self.rng.randbytes(16)).decode()),
                ("bucket", self.name() + "-bucket"),
                ("timeout", str(self.rng.randrange(1, 90))),
                (self.rng.choice(_DECOY_NAMES), make_secret(self.rng)),
                (self.rng.choice(_DECOY_NAMES), make_secret(self.rng)),
            ]
        )

    def fill(self, write: Callable[[str, str], str], most: int = 3) -> str:
        """Return up to most noise entries, each worded by write(name, value)."""
        return "".join(write(*self.noise()) for _ in range(self.rng.randrange(most + 1)))

    def shuffled(self, entries: list[str]) -> list[str]:
        self.rng.shuffle(entries)
        return entries


Layout = Callable[[Plant], str]


def _equals(name: str, value: str) -> str:
    return f"{name} = {value}\n"


def _env(name: str, value: str) -> str:
    return f"{name.upper()}={value}\n"


def _colon(name: str, value: str) -> str:
    return f"{name}: {value}\n"


def _comment(name: str, value: str) -> str:
    return f"# {name} {value}\n"


# The layouts of the research page.


def console_csv(p: Plant) -> str:
    key_id, secret = p.pair()
    return p.pick("", "\xef\xbb\xbf") + f"Access key ID,Secret access key\r\n{key_id},{secret}\r\n"


def old_iam_csv(p: Plant) -> str:
    rows = ""
    for name in p.names(p.rng.randrange(1, 4)):
        key_id, secret = p.pair()
        rows += f'"{name}",{key_id},{secret}\r\n'
    return p.pick("", "\xef\xbb\xbf") + f"User Name,Access Key Id,Secret Access Key\r\n{rows}"


def secrets_csv(p: Plant) -> str:
    rows = ""
    for name in p.names(3):
        key_id, secret = p.pair()
        rows += f"{name},{key_id},{p.noise()[1]},{secret},{p.region()}\n"
    return f"account,access_key,{p.pick('etag', 'digest', 'note')},secret_key,region\n{rows}"


def json_object(p: Plant) -> str:
    objects = []
    for name in p.names(p.rng.randrange(1, 4)):
        key_id, secret = p.pair()
        entries = [("AccessKeyId", key_id), ("SecretAccessKey", secret), ("UserName", name), p.noise(), p.noise()]
        p.rng.shuffle(entries)
        objects.append(dict(entries))
    return json.dumps({"version": 1, "keys": objects}, indent=p.rng.choice([None, 2, 4]))


def json_flat(p: Plant) -> str:
    key_id, secret = p.pair()
    entries = [("accessKeyId", key_id), ("secretAccessKey", secret), ("region", p.region()), p.noise(), p.noise()]
    p.rng.shuffle(entries)
    return json.dumps(dict(entries), indent=p.rng.choice([None, 2]))


def json_in_json(p: Plant) -> str:
    inner = json_flat(p)
    return json.dumps({"SecretString": inner, "ARN": "arn:aws:secretsmanager:x", "Sha": p.sha(), "VersionId": "v1"})


def yaml_near(p: Plant) -> str:
    text = "services:\n"
    for name in p.names(p.rng.randrange(1, 4)):
        key_id, secret = p.pair()
        entries = [f"    access_key_id: {key_id}\n", f'    secret_access_key: "{secret}"\n']
        entries += [f"    {n}: {v}\n" for n, v in (p.noise(), p.noise())]
        text += f"  {name}:\n" + "".join(p.shuffled(entries))
    return text


def yaml_apart(p: Plant) -> str:
    """Eight other lines stand between the id and its secret."""
    key_id, secret = p.pair()
    other_id, other = p.pair()
    between = "".join(f"  {n}_{at}: {v}\n" for at, (n, v) in enumerate(p.noise() for _ in range(8)))
    return (
        f"{p.name()}:\n  aws_access_key_id: {key_id}\n{between}  aws_secret_access_key: {secret}\n"
        f"other:\n  aws_access_key_id: {other_id}\n  aws_secret_access_key: {other}\n"
    )


def env_lines(p: Plant) -> str:
    key_id, secret = p.pair()
    quoted = p.pick("", '"', "'")
    entries = [
        f"AWS_ACCESS_KEY_ID={quoted}{key_id}{quoted}\n",
        f"AWS_SECRET_ACCESS_KEY={quoted}{secret}{quoted}\n",
        f"AWS_DEFAULT_REGION={p.region()}\n",
        p.fill(_env),
        p.fill(_env),
    ]
    return "".join(p.shuffled(entries))


def shell_export(p: Plant) -> str:
    text = "#!/bin/sh\n"
    for name in p.names(2):
        key_id, secret = p.pair()
        text += f"use_{name.replace('-', '_')}() {{\n" if p.chance() else f"# {name}\n"
        text += f"export AWS_ACCESS_KEY_ID={key_id}\n{p.fill(_comment, 1)}export AWS_SECRET_ACCESS_KEY={secret}\n"
        text += "}\n" if "() {" in text.rsplit("export AWS_ACCESS", 1)[0].rsplit("\n", 2)[-2] else ""
    return text


def ini_sections(p: Plant) -> str:
    text = ""
    for name in p.names(p.rng.randrange(1, 5)):
        key_id, secret = p.pair()
        entries = [_equals("aws_access_key_id", key_id), _equals("aws_secret_access_key", secret)]
        entries += [_equals(*p.noise()) for _ in range(p.rng.randrange(3))]
        text += f"[{name}]\n" + "".join(p.shuffled(entries)) + p.pick("", "\n")
    return text


def positional_call(p: Plant) -> str:
    key_id, secret = p.pair()
    q = p.pick('"', "'")
    call = p.pick("S3Connection", "new BasicAWSCredentials", "credentials.NewStaticCredentials", "boto.connect_s3")
    other = f"etag = {q}{make_secret(p.rng)}{q}\n" if p.chance() else ""
    return f"{other}conn = {call}({q}{key_id}{q}, {q}{secret}{q})\nsend(conn, {q}{make_secret(p.rng)}{q})\n"


def id_colon_secret(p: Plant) -> str:
    lines = []
    for name in p.names(p.rng.randrange(1, 4)):
        key_id, secret = p.pair()
        lines.append(p.pick("", f"{name}-bucket:") + f"{key_id}:{secret}\n")
    return "".join(lines)


def s3_url(p: Plant) -> str:
    key_id, secret = p.pair()
    return f"backup_target: s3://{key_id}:{secret}@{p.name()}-bucket/path\n" + p.fill(_colon)


def s3_url_percent(p: Plant) -> str:
    key_id, secret = p.pair()
    escaped = quote(secret, safe="")
    if p.chance():
        escaped = escaped.replace("%2F", "%2f").replace("%2B", "%2b")
    return p.fill(_env) + f"DATABASE_URL=s3://{key_id}:{escaped}@{p.name()}.s3.amazonaws.com/x\n" + p.fill(_env)


def query_percent(p: Plant) -> str:
    key_id, secret = p.pair()
    return f"curl 'https://api.test/hook?key={key_id}&secret={quote(secret, safe='')}&state={p.sha()}'\n"


def xml_elements(p: Plant) -> str:
    text = "<Accounts>\n"
    for name in p.names(2):
        key_id, secret = p.pair()
        entries = [f"    <AccessKeyId>{key_id}</AccessKeyId>\n", f"    <SecretAccessKey>{secret}</SecretAccessKey>\n"]
        entries += [f"    <{n}>{v}</{n}>\n" for n, v in [p.noise()]]
        text += f'  <Account name="{name}">\n' + "".join(p.shuffled(entries)) + "  </Account>\n"
    return text + "</Accounts>\n"


def markdown_table(p: Plant) -> str:
    rows = ""
    for name in p.names(3):
        key_id, secret = p.pair()
        rows += f"| {name} | `{key_id}` | `{secret}` | {p.sha()[:7]} |\n"
    return f"# Access\n\n| Account | Access key | Secret | Commit |\n|---|---|---|---|\n{rows}\nLast change {p.sha()}\n"


def nameless_properties(p: Plant) -> str:
    key_id, secret = p.pair()
    one, other = p.pick("user/pin", "a/b", "login/word", "first/second").split("/")
    return (
        f"store.url=https://files.test\nstore.{one}={key_id}\n"
        f"store.{other}={secret}\nstore.commit={p.sha()}\nstore.etag={make_secret(p.rng)}\n"
    )


def notebook(p: Plant) -> str:
    key_id, secret = p.pair()
    source = [
        "import boto3\n",
        f"s3 = boto3.client('s3', aws_access_key_id='{key_id}',\n",
        f"                  aws_secret_access_key='{secret}')\n",
    ]
    image = base64.b64encode(p.rng.randbytes(300)).decode()
    output = {"data": {"image/png": image}, "metadata": {p.noise()[0]: make_secret(p.rng)}}
    cell = {"cell_type": "code", "id": p.sha()[:8], "source": source, "outputs": [output]}
    return json.dumps({"cells": [cell], "nbformat": 4}, indent=1)


def adjacent_values(p: Plant) -> str:
    """Two values after the id; the first is the secret."""
    key_id, secret = p.pair()
    return f"{key_id},{secret},{make_secret(p.rng)}\n"


def create_access_key_json(p: Plant) -> str:
    key_id, secret = p.pair()
    created = {
        "UserName": p.name(),
        "AccessKeyId": key_id,
        "Status": "Active",
        "SecretAccessKey": secret,
        "CreateDate": "2026-03-09T18:39:23+00:00",
    }
    command = f"$ aws iam create-access-key --user-name {p.name()}\n"
    return command + json.dumps({"AccessKey": created}, indent=4) + "\n"


def hcl_provider(p: Plant) -> str:
    text = ""
    for name in p.names(2):
        key_id, secret = p.pair()
        text += (
            f'provider "aws" {{\n  alias      = "{name}"\n  access_key = "{key_id}"\n'
            f'  secret_key = "{secret}"\n  region     = "{p.region()}"\n}}\n\n'
        )
    return text + f'resource "x" "y" {{\n  etag = "{make_secret(p.rng)}"\n}}\n'


def php_array(p: Plant) -> str:
    key_id, secret = p.pair()
    return (
        "<?php\nreturn [\n  's3' => [\n    'credentials' => [\n"
        f"      'key'    => '{key_id}',\n      'secret' => '{secret}',\n    ],\n    'region' => '{p.region()}',\n  ],\n"
        f"  'nonce' => '{make_secret(p.rng)}',\n];\n"
    )


def ruby_hash(p: Plant) -> str:
    key_id, secret = p.pair()
    return (
        f"CarrierWave.configure do |config|\n  config.fog_credentials = {{\n    :provider => 'AWS',\n"
        f"    :aws_access_key_id     => '{key_id}',\n    :aws_secret_access_key => '{secret}',\n  }}\n"
        f"  config.cache_tag = '{make_secret(p.rng)}'\nend\n"
    )


def java_fields(p: Plant) -> str:
    key_id, secret = p.pair()
    return (
        f'class Store {{\n  static final String DIGEST = "{make_secret(p.rng)}";\n'
        f'  private static final String ACCESS_KEY = "{key_id}";\n'
        f'  private static final String SECRET_KEY = "{secret}";\n  // {p.sha()}\n}}\n'
    )


def js_object(p: Plant) -> str:
    key_id, secret = p.pair()
    return (
        f"const build = '{p.sha()}';\nAWS.config.update({{\n  accessKeyId: '{key_id}',\n"
        f"  secretAccessKey: '{secret}',\n  region: '{p.region()}',\n}});\n"
        f"export const cursor = '{make_secret(p.rng)}';\n"
    )


def compose_list(p: Plant) -> str:
    text = "services:\n"
    for name in p.names(2):
        key_id, secret = p.pair()
        entries = [f"      - AWS_ACCESS_KEY_ID={key_id}\n", f"      - AWS_SECRET_ACCESS_KEY={secret}\n"]
        entries += [f"      - {n.upper()}={v}\n" for n, v in [p.noise()]]
        text += f"  {name}:\n    image: x@sha256:{p.rng.randbytes(32).hex()}\n    environment:\n"
        text += "".join(p.shuffled(entries))
    return text


# Our own.


def rootkey_csv(p: Plant) -> str:
    key_id, secret = p.pair()
    return f"AWSAccessKeyId={key_id}\r\nAWSSecretKey={secret}\r\n"


def console_csv_five(p: Plant) -> str:
    key_id, secret = p.pair()
    password = p.pick("", "Xy7!kd9$Zp", make_secret(p.rng)[:20])
    return (
        f"User name,Password,Access key ID,Secret access key,Console login link\n"
        f"{p.name()},{password},{key_id},{secret},https://123456789012.signin.aws.amazon.com/console\n"
    )


def s3cfg(p: Plant) -> str:
    key_id, secret = p.pair()
    return (
        f"[default]\naccess_key = {key_id}\naccess_token = \nbucket_location = {p.region()}\n"
        f"check_ssl_certificate = True\nencrypt = False\ngpg_passphrase = \nhost_base = s3.amazonaws.com\n"
        f"{p.fill(_equals)}secret_key = {secret}\n"
        "use_https = True\n"
    )


def rclone(p: Plant) -> str:
    text = ""
    for name in p.names(3):
        key_id, secret = p.pair()
        text += (
            f"[{name}]\ntype = s3\nprovider = AWS\naccess_key_id = {key_id}\nsecret_access_key = {secret}\n"
            f"region = {p.region()}\n\n"
        )
    return text


def mc_config(p: Plant) -> str:
    aliases = {}
    for name in p.names(2):
        key_id, secret = p.pair()
        aliases[name] = {"url": "https://s3.amazonaws.com", "accessKey": key_id, "secretKey": secret, "api": "S3v4"}
    return json.dumps({"version": "10", "aliases": aliases}, indent="\t")


def psql_history(p: Plant) -> str:
    lines = []
    for name in p.names(3):
        key_id, secret = p.pair()
        lines.append(
            f"COPY {name.replace('-', '_')} FROM 's3://x/y' CREDENTIALS "
            f"'aws_access_key_id={key_id};aws_secret_access_key={secret}' CSV;\n"
        )
    return "".join(lines)


def zsh_history(p: Plant) -> str:
    lines = []
    for at in range(3):
        key_id, secret = p.pair()
        form = p.pick(
            f"AWS_ACCESS_KEY_ID={key_id} AWS_SECRET_ACCESS_KEY={secret} aws s3 ls",
            f"export AWS_SECRET_ACCESS_KEY={secret} AWS_ACCESS_KEY_ID={key_id}",
            f"terraform init -backend-config=access_key={key_id} -backend-config=secret_key={secret}",
            f"rclone copy --s3-access-key-id {key_id} --s3-secret-access-key {secret} a b",
            f"docker run -e AWS_ACCESS_KEY_ID={key_id} -e AWS_SECRET_ACCESS_KEY={secret} img",
        )
        lines.append(f": 17000000{at}:0;{form}\n: 17000000{at}:0;git show {p.sha()}\n")
    return "".join(lines)


def fish_history(p: Plant) -> str:
    lines = []
    for at in range(2):
        key_id, secret = p.pair()
        lines.append(f"- cmd: set -x AWS_ACCESS_KEY_ID {key_id}\n  when: 170000000{at}\n")
        lines.append(f"- cmd: set -x AWS_SECRET_ACCESS_KEY {secret}\n  when: 170000000{at}\n")
    return "".join(lines)


def configure_set(p: Plant) -> str:
    text = ""
    for name in p.names(2):
        key_id, secret = p.pair()
        text += f"aws configure set aws_access_key_id {key_id} --profile {name}\n"
        text += f"aws configure set aws_secret_access_key {secret} --profile {name}\n"
    return text


def configure_prompts(p: Plant) -> str:
    key_id, secret = p.pair()
    old = p.pick("None", "****************ABCD")
    return (
        f"$ git rev-parse HEAD\n{p.sha()}\n$ aws configure\nAWS Access Key ID [{old}]: {key_id}\n"
        f"AWS Secret Access Key [{old}]: {secret}\nDefault region name [None]: {p.region()}\n"
    )


def powershell(p: Plant) -> str:
    key_id, secret = p.pair()
    return p.pick(
        f'$env:AWS_ACCESS_KEY_ID = "{key_id}"\n$env:AWS_SECRET_ACCESS_KEY = "{secret}"\n',
        f'setx AWS_ACCESS_KEY_ID "{key_id}"\r\nsetx AWS_SECRET_ACCESS_KEY "{secret}"\r\n',
        f"set AWS_ACCESS_KEY_ID={key_id}\r\nset AWS_SECRET_ACCESS_KEY={secret}\r\n",
        f"Set-AWSCredential -AccessKey {key_id} -SecretKey {secret} -StoreAs {p.name()}\n",
        f'[Environment]::SetEnvironmentVariable("AWS_ACCESS_KEY_ID", "{key_id}", "User")\n'
        f'[Environment]::SetEnvironmentVariable("AWS_SECRET_ACCESS_KEY", "{secret}", "User")\n',
    )


def jetbrains_xml(p: Plant) -> str:
    key_id, secret = p.pair()
    return (
        f'<configuration name="run">\n  <option name="etag" value="{make_secret(p.rng)}" />\n  <envs>\n'
        f'    <env name="AWS_ACCESS_KEY_ID" value="{key_id}" />\n'
        f'    <env name="AWS_SECRET_ACCESS_KEY" value="{html.escape(secret)}" />\n  </envs>\n</configuration>\n'
    )


def hadoop_xml(p: Plant) -> str:
    key_id, secret = p.pair()
    entries = [("fs.s3a.access.key", key_id), ("fs.s3a.secret.key", secret), p.noise(), p.noise()]
    p.rng.shuffle(entries)
    gap = p.pick("\n    ", "")
    properties = "".join(
        f"  <property>{gap}<name>{n}</name>{gap}<value>{v}</value>{gap[:3]}</property>\n" for n, v in entries
    )
    return f"<configuration>\n{properties}</configuration>\n"


def xml_entities(p: Plant) -> str:
    key_id, secret = p.pair()
    escaped = secret.replace("/", p.pick("&#47;", "&#x2F;")).replace("+", p.pick("&#43;", "&#x2b;"))
    return f'<server id="s3"><username>{key_id}</username><password>{escaped}</password></server>\n'


def maven_settings(p: Plant) -> str:
    text = "<settings><servers>\n"
    for name in p.names(2):
        key_id, secret = p.pair()
        text += (
            f"  <server>\n    <id>{name}</id>\n    <username>{key_id}</username>\n    <password>{secret}</password>\n"
        )
        text += "  </server>\n"
    return text + "</servers></settings>\n"


def plist(p: Plant) -> str:
    key_id, secret = p.pair()
    return (
        f"<plist><dict>\n\t<key>AccessKey</key>\n\t<string>{key_id}</string>\n\t<key>Digest</key>\n"
        f"\t<string>{make_secret(p.rng)}</string>\n\t<key>SecretKey</key>\n\t<string>{secret}</string>\n</dict></plist>\n"
    )


def terraform_state(p: Plant) -> str:
    resources = []
    for name in p.names(2):
        key_id, secret = p.pair()
        attributes = {
            "create_date": "2026-01-01T00:00:00Z",
            "id": key_id,
            "encrypted_secret": None,
            "pgp_key": None,
            "secret": secret,
            "ses_smtp_password_v4": "B" + p.pick("A", "I", "P") + make_secret(p.rng) + "xx",
            "status": "Active",
            "user": name,
        }
        instance = {"schema_version": 0, "attributes": attributes, "private": make_secret(p.rng)}
        resources.append({"type": "aws_iam_access_key", "name": name, "instances": [instance]})
    lineage = str(uuid.UUID(bytes=p.rng.randbytes(16)))
    return json.dumps({"version": 4, "lineage": lineage, "resources": resources}, indent=2)


def terraform_backend(p: Plant) -> str:
    key_id, secret = p.pair()
    config: dict[str, str | None] = dict.fromkeys(
        ["acl", "assume_role", "dynamodb_table", "endpoint", "kms_key_id", "profile"]
    )
    config |= {"access_key": key_id, "bucket": "state", "region": p.region(), "secret_key": secret}
    return json.dumps({"backend": {"type": "s3", "config": dict(sorted(config.items())), "hash": 1234567}}, indent=4)


def tfvars(p: Plant) -> str:
    text = ""
    for name in p.names(2):
        key_id, secret = p.pair()
        under = name.replace("-", "_")
        text += f'{under}_access_key = "{key_id}"\n{under}_secret_key = "{secret}"\n'
    return text + f'ami_digest = "{make_secret(p.rng)}"\n'


def hcl_variables(p: Plant) -> str:
    key_id, secret = p.pair()
    return (
        f'variable "aws_access_key" {{\n  type    = string\n  default = "{key_id}"\n}}\n\n'
        f'variable "build_tag" {{\n  default = "{make_secret(p.rng)}"\n}}\n\n'
        f'variable "aws_secret_key" {{\n  type    = string\n  default = "{secret}"\n}}\n'
    )


def gradle_properties(p: Plant) -> str:
    key_id, secret = p.pair()
    entries = [f"s3AccessKey={key_id}\n", f"s3SecretKey={secret}\n", p.fill(_env), "org.gradle.jvmargs=-Xmx2g\n"]
    return "".join(p.shuffled(entries))


def spring_yaml(p: Plant) -> str:
    key_id, secret = p.pair()
    return (
        f"cloud:\n  aws:\n    credentials:\n      access-key: {key_id}\n      secret-key: {secret}\n"
        f"    region:\n      static: {p.region()}\n  etag: {make_secret(p.rng)}\n"
    )


def kubernetes_env(p: Plant) -> str:
    key_id, secret = p.pair()
    return (
        f"containers:\n- name: app\n  env:\n  - name: BUILD\n    value: {make_secret(p.rng)}\n"
        f"  - name: AWS_ACCESS_KEY_ID\n    value: {key_id}\n  - name: AWS_SECRET_ACCESS_KEY\n    value: {secret}\n"
    )


def ecs_environment(p: Plant) -> str:
    key_id, secret = p.pair()
    entries = [
        {"name": "AWS_ACCESS_KEY_ID", "value": key_id},
        {"name": "AWS_SECRET_ACCESS_KEY", "value": secret},
        {"name": "CACHE_TAG", "value": make_secret(p.rng)},
    ]
    p.rng.shuffle(entries)
    return json.dumps({"containerDefinitions": [{"environment": entries}]}, indent=p.rng.choice([None, 2]))


def transcript_jsonl(p: Plant) -> str:
    lines = []
    for name in p.names(2):
        key_id, secret = p.pair()
        said = (
            f"[{name}]\naws_access_key_id = {key_id}\naws_secret_access_key = {secret}\n"
            if p.chance()
            else f'{{"accessKeyId": "{key_id}",\n "secretAccessKey": "{secret}"}}'
        )
        message = {"role": "user", "content": [{"type": "text", "text": f"here are my keys\n{said}\nplease use them"}]}
        lines.append(json.dumps({"uuid": p.sha(), "message": message, "signature": make_secret(p.rng)}) + "\n")
    return "".join(lines)


def json_slashes(p: Plant) -> str:
    key_id, secret = p.pair()
    escaped = secret.replace("/", p.pick("\\/", "\\u002f", "\\u002F")).replace("+", p.pick("+", "\\u002b"))
    return f'{{"aws":{{"key":"{key_id}","etag":"{make_secret(p.rng)}","secret":"{escaped}"}}}}'


def create_access_key_text(p: Plant) -> str:
    key_id, secret = p.pair()
    return f"ACCESSKEY\t{key_id}\t2026-03-09T18:39:23+00:00\t{secret}\tActive\t{p.name()}\n"


def create_access_key_table(p: Plant) -> str:
    key_id, secret = p.pair()
    rows = {
        "AccessKeyId": key_id,
        "CreateDate": "2026-03-09T18:39:23+00:00",
        "SecretAccessKey": secret,
        "Status": "Active",
        "UserName": p.name(),
    }
    line = "+-----------------+------------------------------------------+\n"
    body = "".join(f"|  {n:<15}|  {v:<40}|\n" for n, v in rows.items())
    return f"|                      CreateAccessKey                      |\n{line}{body}{line}"


def assume_role_json(p: Plant) -> str:
    key_id, secret = p.pair("ASIA")
    credentials = {
        "AccessKeyId": key_id,
        "SecretAccessKey": secret,
        "SessionToken": make_token(p.rng, p.rng.randrange(300, 1200)),
        "Expiration": "2026-03-09T18:39:23+00:00",
    }
    entries = list(credentials.items())
    p.rng.shuffle(entries)
    role = {"AssumedRoleId": "AROAEXAMPLE:x", "Arn": "arn:aws:sts::123456789012:assumed-role/x/y"}
    return json.dumps({"Credentials": dict(entries), "AssumedRoleUser": role}, indent=p.rng.choice([None, 4]))


def session_env(p: Plant) -> str:
    key_id, secret = p.pair("ASIA")
    entries = [
        f'export AWS_ACCESS_KEY_ID="{key_id}"\n',
        f'export AWS_SECRET_ACCESS_KEY="{secret}"\n',
        f'export AWS_SESSION_TOKEN="{make_token(p.rng)}"\n',
        p.fill(lambda n, v: f'export {n.upper()}="{v}"\n'),
    ]
    return "".join(p.shuffled(entries))


def csharp(p: Plant) -> str:
    key_id, secret = p.pair()
    return p.pick(
        f'<appSettings>\n  <add key="AWSAccessKey" value="{key_id}" />\n'
        f'  <add key="ETag" value="{make_secret(p.rng)}" />\n'
        f'  <add key="AWSSecretKey" value="{secret}" />\n</appSettings>\n',
        f'var c = new AmazonS3Client("{key_id}",\n    "{secret}", RegionEndpoint.EUWest1); // {p.sha()}\n',
    )


def go_call(p: Plant) -> str:
    key_id, secret = p.pair()
    return (
        f'const etag = "{make_secret(p.rng)}"\ncfg := aws.Config{{Credentials: aws.Credentials{{\n'
        f'\tAccessKeyID:     "{key_id}",\n\tSecretAccessKey: "{secret}",\n}}}}\n'
    )


def python_keywords(p: Plant) -> str:
    text = "import boto3\n"
    for name in p.names(2):
        key_id, secret = p.pair()
        text += f"{name.replace('-', '_')} = boto3.client(\n    's3',\n    aws_access_key_id='{key_id}',\n"
        text += f"    aws_secret_access_key='{secret}',\n)\n" + f"etag = '{make_secret(p.rng)}'\n"
    return text


def python_environ(p: Plant) -> str:
    key_id, secret = p.pair()
    return (
        f'os.environ["AWS_ACCESS_KEY_ID"] = "{key_id}"\nos.environ["TAG"] = "{make_secret(p.rng)}"\n'
        f'os.environ["AWS_SECRET_ACCESS_KEY"] = "{secret}"\n'
    )


def java_setters(p: Plant) -> str:
    key_id, secret = p.pair()
    return (
        f'conf.set("fs.s3a.access.key", "{key_id}");\nconf.set("etag", "{make_secret(p.rng)}");\n'
        f'conf.set("fs.s3a.secret.key", "{secret}");\nbuilder.withTag("{make_secret(p.rng)}");\n'
        if p.chance()
        else f'c.setAccessKey("{key_id}");\nc.setTag("{make_secret(p.rng)}");\nc.setSecretKey("{secret}");\n'
    )


def netrc(p: Plant) -> str:
    lines = []
    for name in p.names(2):
        key_id, secret = p.pair()
        lines.append(f"machine {name}.test\n  login {key_id}\n  password {secret}\n")
    return "".join(lines)


def lists_apart(p: Plant) -> str:
    pairs = [p.pair() for _ in range(p.rng.randrange(2, 6))]
    ids, secrets = [i for i, _ in pairs], [s for _, s in pairs]
    q, sep = p.pick('"', "'"), p.pick(", ", ",\n  ")
    return (
        f"KEY_IDS = [{sep.join(f'{q}{i}{q}' for i in ids)}]\nSECRETS = [{sep.join(f'{q}{s}{q}' for s in secrets)}]\n"
        f"ETAG = '{make_secret(p.rng)}'\n"
    )


def numbered(p: Plant) -> str:
    pairs = [p.pair() for _ in range(3)]
    lines = [f"AWS_ACCESS_KEY_ID_{at}={i}\n" for at, (i, _) in enumerate(pairs)]
    lines += [f"AWS_SECRET_ACCESS_KEY_{at}={s}\n" for at, (_, s) in enumerate(pairs)]
    return "".join(p.shuffled(lines)) + p.fill(_env)


def prefixed_env(p: Plant) -> str:
    lines = []
    for name in p.names(3):
        key_id, secret = p.pair()
        upper = name.upper().replace("-", "_")
        lines += [f"{upper}_AWS_ACCESS_KEY_ID={key_id}\n", f"{upper}_AWS_SECRET_ACCESS_KEY={secret}\n"]
    return "".join(p.shuffled(lines))


def json_columns(p: Plant) -> str:
    pairs = [p.pair() for _ in range(4)]
    return json.dumps({"access_keys": [i for i, _ in pairs], "etag": "x", "secret_keys": [s for _, s in pairs]})


def value_rows(p: Plant) -> str:
    rows = []
    for at in range(4):
        key_id, secret = p.pair()
        rows.append(f"({at}, '{p.name()}', '{key_id}', '{secret}', '{p.sha()}')")
    return "INSERT INTO accounts (id, name, access_key, secret_key, hash) VALUES\n" + ",\n".join(rows) + ";\n"


def lone_id_first(p: Plant) -> str:
    """Write an id without a secret beside a whole pair."""
    lone = p.lone()
    key_id, secret = p.pair()
    return p.pick(
        f"# old key: {lone}\naws_access_key_id = {key_id}\naws_secret_access_key = {secret}\n",
        f"[a]\naws_access_key_id = {lone}\n[b]\naws_access_key_id = {key_id}\naws_secret_access_key = {secret}\n",
        json.dumps({"old": {"accessKeyId": lone}, "new": {"accessKeyId": key_id, "secretAccessKey": secret}}),
        f"AWS_ACCESS_KEY_ID={key_id}\nAWS_SECRET_ACCESS_KEY={secret}\nOTHER_KEY_ID={lone}\n",
    )


def prose(p: Plant) -> str:
    key_id, secret = p.pair()
    return p.pick(
        f"Hi,\n\nthe access key is {key_id} and the secret key is {secret}.\nCommit {p.sha()}.\n",
        f"Access Key ID:\n{key_id}\nSecret Access Key:\n{secret}\n\nbuild {make_secret(p.rng)}\n",
        f"* Access key: `{key_id}`\n* Secret: `{secret}`\n* etag: `{make_secret(p.rng)}`\n",
        f"key {key_id} / {secret}\nsha {p.sha()}\n",
    )


def html_table(p: Plant) -> str:
    rows = ""
    for name in p.names(2):
        key_id, secret = p.pair()
        rows += f"<tr><td>{name}</td><td>{key_id}</td><td><code>{secret}</code></td></tr>\n"
    return f"<table><tr><th>User</th><th>Access key</th><th>Secret</th></tr>\n{rows}</table><!-- {p.sha()} -->\n"


def dockerfile(p: Plant) -> str:
    key_id, secret = p.pair()
    sign = p.pick(" ", "=")
    return (
        f"FROM x@sha256:{p.rng.randbytes(32).hex()}\nENV AWS_ACCESS_KEY_ID{sign}{key_id}\n"
        f"ARG TAG={make_secret(p.rng)}\nENV AWS_SECRET_ACCESS_KEY{sign}{secret}\nRUN make\n"
    )


def toml_tables(p: Plant) -> str:
    text = ""
    for name in p.names(2):
        key_id, secret = p.pair()
        text += f'[profile.{name}]\nkey = "{key_id}"\netag = "{make_secret(p.rng)}"\nsecret = "{secret}"\n\n'
    return text


def secret_first_json(p: Plant) -> str:
    objects = []
    for _ in range(3):
        key_id, secret = p.pair()
        objects.append({"secret": secret, "tag": p.noise()[1], "key": key_id})
    return json.dumps(objects)


def minified_far(p: Plant) -> str:
    """Two kilobytes of other members stand between the id and its secret in one object."""
    key_id, secret = p.pair()
    other = {f"option{at}": p.noise()[1] for at in range(60)}
    return json.dumps({"accessKeyId": key_id, **other, "secretAccessKey": secret})


def diff_lines(p: Plant) -> str:
    old_id, old = p.pair()
    key_id, secret = p.pair()
    return (
        f"index {p.sha()[:7]}..{p.sha()[:7]} 100644\n-aws_access_key_id = {old_id}\n-aws_secret_access_key = {old}\n"
        f"+aws_access_key_id = {key_id}\n+aws_secret_access_key = {secret}\n"
    )


def litestream_yaml(p: Plant) -> str:
    text = "dbs:\n"
    for name in p.names(2):
        key_id, secret = p.pair()
        text += (
            f"  - path: /var/{name}.db\n    replicas:\n      - url: s3://{name}/db\n        access-key-id: {key_id}\n"
        )
        text += f"        secret-access-key: {secret}\n"
    return text


def knife_rb(p: Plant) -> str:
    key_id, secret = p.pair()
    return (
        f'current_dir = File.dirname(__FILE__)\nknife[:aws_access_key_id] = "{key_id}"\n'
        f"validation_token '{make_secret(p.rng)}'\nknife[:aws_secret_access_key] = \"{secret}\"\n"
    )


def vagrantfile(p: Plant) -> str:
    key_id, secret = p.pair()
    return (
        f'config.vm.provider :aws do |aws, override|\n  aws.access_key_id = "{key_id}"\n'
        f'  aws.user_data = "{make_secret(p.rng)}"\n  aws.secret_access_key = "{secret}"\nend\n'
    )


def boto_config(p: Plant) -> str:
    key_id, secret = p.pair()
    gs_id, gs = "GOOG" + make_key_id(p.rng)[4:], make_secret(p.rng)
    return (
        f"[Credentials]\naws_access_key_id={key_id}\naws_secret_access_key={secret}\n"
        f"gs_access_key_id={gs_id}\ngs_secret_access_key={gs}\n[Boto]\nhttps_validate_certificates=True\n"
    )


def fog_yaml(p: Plant) -> str:
    text = ""
    for name in p.names(2):
        key_id, secret = p.pair()
        text += f":{name}:\n  :aws_access_key_id: {key_id}\n  :aws_secret_access_key: {secret}\n"
    return text


def s3curl_perl(p: Plant) -> str:
    text = "%awsSecretAccessKeys = (\n"
    for name in p.names(3):
        key_id, secret = p.pair()
        text += f"    {name.replace('-', '_')} => {{\n        id => '{key_id}',\n        key => '{secret}',\n    }},\n"
    return text + ");\n"


def postman(p: Plant) -> str:
    key_id, secret = p.pair()
    entries = [("accessKey", key_id), ("secretKey", secret), p.noise(), ("sessionToken", ""), p.noise()]
    p.rng.shuffle(entries)
    values = [{"key": n, "value": v, "type": "secret", "enabled": True} for n, v in entries]
    return json.dumps({"id": p.sha(), "name": "aws", "values": values}, indent=p.rng.choice([None, "\t"]))


def mcp_env(p: Plant) -> str:
    servers = {}
    for name in p.names(2):
        key_id, secret = p.pair()
        env = {"AWS_ACCESS_KEY_ID": key_id, "AWS_SECRET_ACCESS_KEY": secret, "AWS_REGION": p.region()}
        servers[name] = {"command": "uvx", "args": ["mcp@" + p.sha()], "env": env}
    return json.dumps({"mcpServers": servers}, indent=2)


def github_workflow(p: Plant) -> str:
    key_id, secret = p.pair()
    return (
        f"jobs:\n  deploy:\n    steps:\n      - uses: actions/checkout@{p.sha()}\n"
        f"      - uses: aws-actions/configure-aws-credentials@{p.sha()}\n        with:\n"
        f"          aws-access-key-id: {key_id}\n          aws-secret-access-key: {secret}\n"
        f"          aws-region: {p.region()}\n      - run: echo {make_secret(p.rng)}\n"
    )


def circleci_log(p: Plant) -> str:
    key_id, secret = p.pair()
    entries = [("AWS_ACCESS_KEY_ID", key_id), ("AWS_SECRET_ACCESS_KEY", secret), p.noise(), p.noise(), p.noise()]
    p.rng.shuffle(entries)
    return "".join(f"2026-02-01T10:11:12.{at:07d}Z   {n.upper()}: {v}\n" for at, (n, v) in enumerate(entries))


def stack_outputs(p: Plant) -> str:
    key_id, secret = p.pair()
    outputs = [
        {"OutputKey": "CIAccessKey", "OutputValue": key_id, "Description": "access key"},
        {"OutputKey": "CISecretKey", "OutputValue": secret, "Description": "secret key"},
        {"OutputKey": "Digest", "OutputValue": make_secret(p.rng)},
    ]
    p.rng.shuffle(outputs)
    return json.dumps({"Stacks": [{"Outputs": outputs}]}, indent=4)


def pulumi_yaml(p: Plant) -> str:
    key_id, secret = p.pair()
    return f"config:\n  aws:accessKey: {key_id}\n  aws:secretKey: {secret}\n  app:seed: {make_secret(p.rng)}\n"


def r_setenv(p: Plant) -> str:
    key_id, secret = p.pair()
    return (
        f'Sys.setenv("AWS_ACCESS_KEY_ID" = "{key_id}",\n           "AWS_SECRET_ACCESS_KEY" = "{secret}",\n'
        f'           "AWS_DEFAULT_REGION" = "{p.region()}")\n'
    )


def redshift_sql(p: Plant) -> str:
    text = ""
    for name in p.names(3):
        key_id, secret = p.pair()
        text += f"UNLOAD ('select 1') TO 's3://{name}/' ACCESS_KEY_ID '{key_id}' SECRET_ACCESS_KEY '{secret}';\n"
    return text


def snowflake_sql(p: Plant) -> str:
    key_id, secret = p.pair()
    return (
        f"CREATE STAGE s URL='s3://{p.name()}/x/' CREDENTIALS=(AWS_KEY_ID='{key_id}' AWS_SECRET_KEY='{secret}')\n"
        f"  ENCRYPTION=(MASTER_KEY='{make_secret(p.rng)}');\n"
    )


def clickhouse_sql(p: Plant) -> str:
    key_id, secret = p.pair()
    return f"CREATE TABLE t ENGINE = S3('https://{p.name()}.s3.amazonaws.com/a.csv', '{key_id}', '{secret}', 'CSV');\n"


def duckdb_sql(p: Plant) -> str:
    key_id, secret = p.pair()
    return p.pick(
        f"SET s3_region='{p.region()}';\nSET s3_access_key_id='{key_id}';\nSET s3_secret_access_key='{secret}';\n",
        f"CREATE SECRET s (TYPE S3, KEY_ID '{key_id}', SECRET '{secret}', REGION '{p.region()}');\n",
    )


def spark_conf(p: Plant) -> str:
    key_id, secret = p.pair()
    return (
        f"spark.hadoop.fs.s3a.access.key  {key_id}\nspark.app.hash {p.sha()}\nspark.io.key {make_secret(p.rng)[:32]}\n"
        f"spark.hadoop.fs.s3a.secret.key  {secret}\n"
    )


def curl_user(p: Plant) -> str:
    key_id, secret = p.pair()
    return f"curl --aws-sigv4 'aws:amz:eu-west-1:s3' --user \"{key_id}:{secret}\" https://x.test/{p.sha()}\n"


def rust_new(p: Plant) -> str:
    key_id, secret = p.pair()
    return (
        f'let c = Credentials::new(\n    "{key_id}",\n    "{secret}",\n    None,\n    None,\n    "static",\n);\n'
        f'const DIGEST: &str = "{make_secret(p.rng)}";\n'
    )


def elixir_config(p: Plant) -> str:
    key_id, secret = p.pair()
    return (
        f'config :ex_aws,\n  access_key_id: "{key_id}",\n  secret_access_key: "{secret}"\n\n'
        f'config :app, Endpoint,\n  signing_salt: "{make_secret(p.rng)}"\n'
    )


def clojure_map(p: Plant) -> str:
    key_id, secret = p.pair()
    keys = f':access-key "{key_id}"\n           :secret-key "{secret}"'
    return f'(def cred {{{keys}\n           :endpoint "{p.region()}"}})\n'


def kotlin(p: Plant) -> str:
    key_id, secret = p.pair()
    return (
        f'val creds = StaticCredentialsProvider {{\n    accessKeyId = "{key_id}"\n    secretAccessKey = "{secret}"\n'
        f"}}\n"
        f'val tag = "{make_secret(p.rng)}"\n'
    )


def objective_c(p: Plant) -> str:
    key_id, secret = p.pair()
    return (
        f'#define ACCESS_KEY_ID          @"{key_id}"\n#define SECRET_KEY             @"{secret}"\n'
        f'#define CACHE                  @"{make_secret(p.rng)}"\n'
    )


def systemd_unit(p: Plant) -> str:
    key_id, secret = p.pair()
    return p.pick(
        f'[Service]\nEnvironment="AWS_ACCESS_KEY_ID={key_id}"\nEnvironment="AWS_SECRET_ACCESS_KEY={secret}"\n',
        f"[Service]\nEnvironment=AWS_ACCESS_KEY_ID={key_id} AWS_SECRET_ACCESS_KEY={secret}\nExecStart=/bin/x\n",
    )


def helm_values(p: Plant) -> str:
    key_id, secret = p.pair()
    return (
        f"minio:\n  image:\n    digest: {p.sha()}\n  auth:\n    rootUser: {key_id}\n    rootPassword: {secret}\n"
        f"session:\n  cookie: {make_secret(p.rng)}\n"
    )


def helm_set(p: Plant) -> str:
    key_id, secret = p.pair()
    return (
        f"helm install x --set s3.accessKey={key_id} --set s3.secretKey={secret} \\\n"
        f"  --set image.tag={p.sha()} --set cookie={make_secret(p.rng)}\n"
    )


def kubectl_secret(p: Plant) -> str:
    key_id, secret = p.pair()
    return (
        f"kubectl create secret generic aws --from-literal=access={key_id} \\\n  --from-literal=secret={secret} \\\n"
        f"  --from-literal=cookie={make_secret(p.rng)}\n"
    )


def string_data(p: Plant) -> str:
    key_id, secret = p.pair()
    return (
        f"apiVersion: v1\nkind: Secret\nmetadata:\n  name: aws\nstringData:\n  cloud: |\n    [default]\n"
        f"    aws_access_key_id={key_id}\n    aws_secret_access_key={secret}\n  cookie: {make_secret(p.rng)}\n"
    )


def python_dict_log(p: Plant) -> str:
    lines = ""
    for name in p.names(3):
        key_id, secret = p.pair()
        entry = {"id": p.sha(), "key": key_id, "secret": secret, "etag": make_secret(p.rng)}
        lines += f"DEBUG {name} {entry}\n"
    return lines


def chat_messages(p: Plant) -> str:
    key_id, secret = p.pair()
    messages = [
        {"user": "U1", "ts": "1700000000.1", "text": f"the key is {key_id}"},
        {"user": "U2", "ts": "1700000001.1", "text": "thanks, and the secret?", "client_msg_id": p.sha()},
        {"user": "U1", "ts": "1700000002.1", "text": secret},
    ]
    return json.dumps(messages, indent=p.rng.choice([None, 2]))


def note(p: Plant) -> str:
    text = "Accounts\n========\n\n"
    for name in p.names(2):
        key_id, secret = p.pair()
        text += p.pick(
            f"{name}\n{key_id}\n{secret}\n\n",
            f"{name}: {key_id}\n         {secret}\n\n",
            f"## {name}\n\n- id: {key_id}\n- pw: {secret}\n\n",
        )
    return text


def secret_then_id_rows(p: Plant) -> str:
    rows = ""
    for name in p.names(3):
        key_id, secret = p.pair()
        rows += f"{secret};{key_id};{name}\n"
    return "secret_key;access_key;account\n" * p.rng.randrange(2) + rows


def two_users_yaml(p: Plant) -> str:
    text = "users:\n"
    for name in p.names(3):
        key_id, secret = p.pair()
        entries = [f"user: {name}", f"secret: {secret}", f"key: {key_id}", f"etag: {make_secret(p.rng)}"]
        p.rng.shuffle(entries)
        text += "".join(("- " if at == 0 else "  ") + line + "\n" for at, line in enumerate(entries))
    return text


def rotated(p: Plant) -> str:
    """Comment out the old pair above the new one."""
    old_id, old = p.pair()
    key_id, secret = p.pair()
    mark = p.pick("#", "# ", "; ", "//")
    return (
        f"[default]\n{mark}aws_access_key_id = {old_id}\n{mark}aws_secret_access_key = {old}\n"
        f"aws_access_key_id = {key_id}\naws_secret_access_key = {secret}\n"
    )


def interleaved_by_kind(p: Plant) -> str:
    pairs = [p.pair() for _ in range(3)]
    names = p.names(3)
    lines = [f"{n}.access={i}\n" for n, (i, _) in zip(names, pairs, strict=True)]
    lines += [f"{n}.secret={s}\n" for n, (_, s) in zip(names, pairs, strict=True)]
    return "".join(lines) + f"etag={make_secret(p.rng)}\n"


def typescript_env(p: Plant) -> str:
    key_id, secret = p.pair()
    return (
        f"export const environment = {{\n  production: true,\n  build: '{p.sha()}',\n  s3: {{\n    bucket: 'x',\n"
        f"    accessKeyId: '{key_id}',\n    secretAccessKey: '{secret}'\n  }},\n  sentry: '{make_secret(p.rng)}'\n}};\n"
    )


def dynamo_item(p: Plant) -> str:
    items = []
    for name in p.names(2):
        key_id, secret = p.pair()
        items.append(
            {
                "name": {"S": name},
                "access_key": {"S": key_id},
                "secret_key": {"S": secret},
                "etag": {"S": make_secret(p.rng)},
            }
        )
    return json.dumps({"Items": items}, indent=p.rng.choice([None, 4]))


def batch_call(p: Plant) -> str:
    key_id, secret = p.pair()
    return f"call deploy.cmd {key_id} {secret} {p.region()} {p.sha()}\r\n"


def java_builder(p: Plant) -> str:
    key_id, secret = p.pair()
    return (
        f'AwsBasicCredentials.builder()\n    .accessKeyId("{key_id}")\n    .secretAccessKey("{secret}")\n'
        f"    .build();\n"
        f'String etag = "{make_secret(p.rng)}";\n'
    )


def hcl_locals(p: Plant) -> str:
    text = "locals {\n"
    for name in p.names(2):
        key_id, secret = p.pair()
        text += f'  {name} = {{ id = "{key_id}", etag = "{make_secret(p.rng)}", secret = "{secret}" }}\n'
    return text + "}\n"


def smtp_and_keys(p: Plant) -> str:
    """Put an SES user beside an ordinary pair."""
    key_id, secret = p.pair()
    return (
        f"SMTP_USERNAME={p.lone()}\nSMTP_PASSWORD=BM{make_secret(p.rng)}xx\nSMTP_HOST=email-smtp.eu-west-1.amazonaws.com\n"
        f"AWS_ACCESS_KEY_ID={key_id}\nAWS_SECRET_ACCESS_KEY={secret}\n"
    )


def insert_columns(p: Plant) -> str:
    rows = []
    for _ in range(p.rng.randrange(1, 4)):
        key_id, secret = p.pair()
        rows.append(f"('{key_id}', '{make_secret(p.rng)}', '{secret}', {p.rng.randrange(9)})")
    return "INSERT INTO keys (access_key, etag, secret_key, state) VALUES\n" + ",\n".join(rows) + ";\n"


def markdown_columns(p: Plant) -> str:
    rows = ""
    for name in p.names(2):
        key_id, secret = p.pair()
        rows += f"| {key_id} | {make_secret(p.rng)} | {name} | {secret} |\n"
    return f"| Access key | Cursor | Account | Secret |\n|---|---|---|---|\n{rows}"


def passwords_beside(p: Plant) -> str:
    """Put other passwords and keys of the same length beside the pair."""
    key_id, secret = p.pair()
    names = p.pick("key secret", "access_key secret", "user secret", "accessKeyId secretAccessKey", "id secret").split()
    entries = list(zip(names, (key_id, secret), strict=True))
    entries += [(n, make_secret(p.rng)) for n in p.rng.sample(["password", "api_key", "db_password", "private_key"], 2)]
    p.rng.shuffle(entries)
    yaml = "store:\n" + "".join(f"  {n}: {v}\n" for n, v in entries)
    env = "".join(f"{n.upper()}={v}\n" for n, v in entries)
    return p.pick(json.dumps(dict(entries)), json.dumps(dict(entries), indent=2), yaml, env)


def tuples(p: Plant) -> str:
    rows = ""
    for name in p.names(3):
        key_id, secret = p.pair()
        rows += f"    ('{name}', '{key_id}', '{secret}', '{p.sha()}'),\n"
    return f"ACCOUNTS = [\n{rows}]\nNONCE = '{make_secret(p.rng)}'\n"


def php_define(p: Plant) -> str:
    key_id, secret = p.pair()
    return (
        f"define('AWS_KEY', '{key_id}');\ndefine('AUTH_SALT', '{make_secret(p.rng)}');\n"
        f"define('AWS_SECRET', '{secret}');\n"
    )


def env_comments(p: Plant) -> str:
    key_id, secret = p.pair()
    return (
        f"AWS_ACCESS_KEY_ID={key_id} # {p.name()} {p.sha()}\nDB_PASSWORD={make_secret(p.rng)}\n"
        f"AWS_SECRET_ACCESS_KEY={secret} # rotated {p.rng.randrange(9)} days ago\n"
    )


def crontab(p: Plant) -> str:
    key_id, secret = p.pair()
    line = f"0 3 * * * /opt/b --id {p.sha()} {make_secret(p.rng)}\n"
    return f"AWS_ACCESS_KEY_ID={key_id}\nAWS_SECRET_ACCESS_KEY={secret}\n{line}"


def _each_line(prefix: Callable[[int], str]) -> Callable[[str], str]:
    return lambda text: "".join(prefix(at) + line for at, line in enumerate(text.splitlines(keepends=True), 1))


DISGUISES: Final[dict[str, Callable[[str], str]]] = {
    "windows lines": lambda text: text.replace("\r\n", "\n").replace("\n", "\r\n"),
    "in JSON": lambda text: json.dumps({"type": "text", "text": text}),
    "in JSON in JSON": lambda text: json.dumps({"message": json.dumps({"text": text})}),
    "in HTML": html.escape,
    "indented": _each_line(lambda _: "    "),
    "in a diff": _each_line(lambda _: "+"),
    "quoted": _each_line(lambda _: "> "),
    "in a comment": _each_line(lambda _: "# "),
    "with line numbers": _each_line(lambda at: f"{at:6d}\t"),
    "in a log": _each_line(lambda at: f"2026-03-01T10:00:{at % 60:02d}Z INFO "),
}
"""How a whole file comes to stand inside another."""

LAYOUTS: Final[tuple[Layout, ...]] = (
    console_csv,
    old_iam_csv,
    secrets_csv,
    json_object,
    json_flat,
    json_in_json,
    yaml_near,
    yaml_apart,
    env_lines,
    shell_export,
    ini_sections,
    positional_call,
    id_colon_secret,
    s3_url,
    s3_url_percent,
    query_percent,
    xml_elements,
    markdown_table,
    nameless_properties,
    notebook,
    adjacent_values,
    create_access_key_json,
    hcl_provider,
    php_array,
    ruby_hash,
    java_fields,
    js_object,
    compose_list,
    rootkey_csv,
    console_csv_five,
    s3cfg,
    rclone,
    mc_config,
    psql_history,
    zsh_history,
    fish_history,
    configure_set,
    configure_prompts,
    powershell,
    jetbrains_xml,
    hadoop_xml,
    xml_entities,
    maven_settings,
    plist,
    terraform_state,
    terraform_backend,
    tfvars,
    hcl_variables,
    gradle_properties,
    spring_yaml,
    kubernetes_env,
    ecs_environment,
    transcript_jsonl,
    json_slashes,
    create_access_key_text,
    create_access_key_table,
    assume_role_json,
    session_env,
    csharp,
    go_call,
    python_keywords,
    python_environ,
    java_setters,
    netrc,
    lists_apart,
    numbered,
    prefixed_env,
    json_columns,
    value_rows,
    lone_id_first,
    prose,
    html_table,
    dockerfile,
    toml_tables,
    secret_first_json,
    minified_far,
    diff_lines,
    litestream_yaml,
    knife_rb,
    vagrantfile,
    boto_config,
    fog_yaml,
    s3curl_perl,
    postman,
    mcp_env,
    github_workflow,
    circleci_log,
    stack_outputs,
    pulumi_yaml,
    r_setenv,
    redshift_sql,
    snowflake_sql,
    clickhouse_sql,
    duckdb_sql,
    spark_conf,
    curl_user,
    rust_new,
    elixir_config,
    clojure_map,
    kotlin,
    objective_c,
    systemd_unit,
    helm_values,
    helm_set,
    kubectl_secret,
    string_data,
    python_dict_log,
    chat_messages,
    note,
    secret_then_id_rows,
    two_users_yaml,
    rotated,
    interleaved_by_kind,
    typescript_env,
    dynamo_item,
    batch_call,
    java_builder,
    hcl_locals,
    smtp_and_keys,
    insert_columns,
    markdown_columns,
    passwords_beside,
    tuples,
    php_define,
    env_comments,
    crontab,
)
