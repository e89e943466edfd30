"""Builds a home directory in which every known place holds a key of its own, in the format that place really has."""

# ruff: noqa: E501 - the formats are what they are

from __future__ import annotations

import base64
import io
import json
import plistlib
import random
import sqlite3
import tarfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.builders import make_key_id, make_secret, make_token


@dataclass(frozen=True)
class Planted:
    """A key that stands in a place; secret is None where the format holds ids only."""

    place: str
    path: Path
    key_id: str
    secret: str | None


INI = "[default]\naws_access_key_id = {id}\naws_secret_access_key = {secret}\nregion = eu-west-1\n"
ENV = "# deployment\nAWS_ACCESS_KEY_ID={id}\nAWS_SECRET_ACCESS_KEY={secret}\nDEBUG=1\n"
EXPORT = "alias ll='ls -l'\nexport AWS_ACCESS_KEY_ID={id}\nexport AWS_SECRET_ACCESS_KEY={secret}\n"
COMMAND = "ls\naws configure set aws_access_key_id {id}\naws configure set aws_secret_access_key {secret}\ngit status\n"
INLINE = "cd src\nAWS_ACCESS_KEY_ID={id} AWS_SECRET_ACCESS_KEY={secret} terraform plan\n"
COPY = "COPY events FROM 's3://lake/x' CREDENTIALS 'aws_access_key_id={id};aws_secret_access_key={secret}';\n"
TOOL_CALL = (
    '{"type":"assistant","message":{"content":[{"type":"text","text":"I ran:\\n```\\n'
    'export AWS_ACCESS_KEY_ID=\\"{id}\\"\\nexport AWS_SECRET_ACCESS_KEY=\\"{secret}\\"\\n```"}]}}\n'
)
MCP = '{"mcpServers":{"s3":{"command":"npx","env":{"AWS_ACCESS_KEY_ID":"{id}","AWS_SECRET_ACCESS_KEY":"{secret}"}}}}'
COMPOSE = "services:\n  api:\n    environment:\n      AWS_ACCESS_KEY_ID: {id}\n      AWS_SECRET_ACCESS_KEY: {secret}\n"
TEMPORARY = (
    '{"Credentials": {"AccessKeyId": "{id}", "SecretAccessKey": "{secret}", "SessionToken": "{token}", '
    '"Expiration": "2020-01-02T03:04:05Z"}, "ResponseMetadata": {"HTTPStatusCode": 200}}'
)
HCL = 'provider "aws" {\n  access_key = "{id}"\n  secret_key = "{secret}"\n}\n'
YAML = "aws_access_key_id: {id}\naws_secret_access_key: {secret}\n"
HADOOP = (
    "<configuration><property><name>fs.s3a.access.key</name><value>{id}</value></property>\n"
    "<property><name>fs.s3a.secret.key</name><value>{secret}</value></property></configuration>"
)
STATE = (
    '{"version": 4, "resources": [{"type": "aws_iam_access_key", "instances": [{"attributes": '
    '{"id": "{id}", "secret": "{secret}", "status": "Active", "user": "ci"}}]}]}'
)

TEXTS: tuple[tuple[str, str, str], ...] = (
    ("AWS shared credentials", ".aws/credentials", INI),
    ("AWS config", ".aws/config", INI.replace("[default]", "[profile work]")),
    ("AWS CLI cache", ".aws/cli/cache/0a1b.json", TEMPORARY),
    ("botocore cache", ".aws/boto/cache/0a1b.json", TEMPORARY),
    ("boto configuration", ".boto", INI.replace("default", "Credentials")),
    ("console download of an access key", "Downloads/deploy_accessKeys.csv",
     "\ufeffAccess key ID,Secret access key\r\n{id},{secret}\r\n"),
    ("root user's access key", "Downloads/rootkey.csv", "AWSAccessKeyId={id}\r\nAWSSecretKey={secret}\r\n"),
    ("Limes configuration", ".limes/config",
     "profiles:\n  default:\n    awsaccesskeyid: {id}\n    awssecretkey: {secret}\n    mfaserial: x\n"),
    ("s3cmd", ".s3cfg", "[default]\naccess_key = {id}\nbucket_location = US\nsecret_key = {secret}\n"),
    ("s3fs", ".passwd-s3fs", "bucket:{id}:{secret}\n"),
    ("rclone", ".config/rclone/rclone.conf",
     "[lake]\ntype = s3\nprovider = AWS\naccess_key_id = {id}\nsecret_access_key = {secret}\n"),
    ("MinIO client", ".mc/config.json",
     '{"version":"10","aliases":{"s3":{"url":"https://s3.amazonaws.com","accessKey":"{id}","secretKey":"{secret}"}}}'),
    ("s3curl", ".s3curl", "%awsSecretAccessKeys = (\n    work => {\n        id => '{id}',\n        key => '{secret}',\n    },\n);\n"),
    ("awssecret", ".awssecret", "{id}\n{secret}\n"),
    ("fog", ".fog", ":default:\n  :aws_access_key_id: {id}\n  :aws_secret_access_key: {secret}\n"),
    ("S3QL", ".s3ql/authinfo2", "[s3]\nstorage-url: s3://x/\nbackend-login: {id}\nbackend-password: {secret}\n"),
    ("restic or duplicity", ".config/restic/env", EXPORT),
    ("Litestream", ".config/litestream.yml", "access-key-id: {id}\nsecret-access-key: {secret}\ndbs: []\n"),
    ("DVC", "src/model/.dvc/config.local", "['remote \"s\"']\n    access_key_id = {id}\n    secret_access_key = {secret}\n"),
    ("bash history", ".bash_history", COMMAND),
    ("zsh history", ".zsh_history", ": 1700000000:0;export AWS_ACCESS_KEY_ID={id}\n: 1700000001:0;export AWS_SECRET_ACCESS_KEY={secret}\n"),
    ("fish history", ".local/share/fish/fish_history",
     "- cmd: set -x AWS_ACCESS_KEY_ID {id}\n  when: 1700000000\n- cmd: set -x AWS_SECRET_ACCESS_KEY {secret}\n  when: 1700000001\n"),
    ("PowerShell history", ".local/share/powershell/PSReadLine/ConsoleHost_history.txt",
     "$env:AWS_ACCESS_KEY_ID = '{id}'\r\n$env:AWS_SECRET_ACCESS_KEY = '{secret}'\r\n"),
    ("less history", ".lesshst", '.less-history-file:\n.search\n"{id}\n.shell\n"echo {secret}\n'),
    ("shell start-up file", ".zshrc", EXPORT),
    ("terminal recording", "demos/deploy.cast",
     ('{"version": 2, "width": 80, "height": 24}\n[1.5, "o", "$ export AWS_ACCESS_KEY_ID={id}\\r\\n"]\n'
     '[2.5, "o", "$ export AWS_SECRET_ACCESS_KEY={secret}\\r\\n"]\n')),
    ("psql history", ".psql_history", COPY),
    ("MySQL history", ".mysql_history",
     "LOAD\\040DATA\\040FROM\\040S3;\nSET\\040@aws_access_key_id='{id}',\\040@aws_secret_access_key='{secret}';\n"),
    ("DuckDB history", ".duckdb_history", "CREATE SECRET (TYPE S3, KEY_ID '{id}', SECRET '{secret}', REGION 'us-east-1');\n"),
    ("ClickHouse history", ".clickhouse-client-history",
     "### 2026-01-01 00:00:00.000\nSELECT * FROM s3('https://b.s3.amazonaws.com/x.csv', '{id}', '{secret}', 'CSV')\n"),
    ("SnowSQL history", ".snowsql/history",
     "CREATE STAGE s URL='s3://b' CREDENTIALS=(AWS_KEY_ID='{id}' AWS_SECRET_KEY='{secret}');\n"),
    ("Python history", ".python_history", "import boto3\nboto3.client('s3', aws_access_key_id='{id}', aws_secret_access_key='{secret}')\n"),
    ("Node history", ".node_repl_history", "new S3({accessKeyId: '{id}', secretAccessKey: '{secret}'})\n"),
    ("Ruby or R history", ".irb_history", "Aws::S3::Client.new(access_key_id: '{id}', secret_access_key: '{secret}')\n"),
    ("direnv", "src/app/.envrc", EXPORT),
    ("environment file", "src/app/.env", ENV),
    ("systemd environment", ".config/environment.d/50-aws.conf", ENV),
    ("iTerm2 or screen log", "screenlog.0", "\x1b[32mme@host\x1b[0m $ " + INLINE),
    ("Vim remains", ".viminfo", '# This viminfo file\n:set x\n""1\tLINE\t0\n\tAWS_ACCESS_KEY_ID={id}\n\tAWS_SECRET_ACCESS_KEY={secret}\n'),
    ("Emacs remains", "notes/#deploy.txt#", ENV),
    ("Sublime Text session", ".config/sublime-text/Local/Session.sublime_session",
     '{"windows":[{"buffers":[{"contents":"[default]\\naws_access_key_id = {id}\\naws_secret_access_key = {secret}\\n"}]}]}'),
    ("VS Code local history", ".config/Code/User/History/1a2b3c/x7Yz.env", ENV),
    ("Cline task", ".config/Code/User/globalStorage/saoudrizwan.claude-dev/tasks/17/api_conversation_history.json", TOOL_CALL),
    ("VS Code chat", ".config/Code/User/workspaceStorage/9f/chatSessions/a.jsonl", TOOL_CALL),
    ("VS Code settings", ".config/Code/User/settings.json",
     '{\n  "terminal.integrated.env.linux": {\n    "AWS_ACCESS_KEY_ID": "{id}",\n    "AWS_SECRET_ACCESS_KEY": "{secret}"\n  }\n}\n'),
    ("JetBrains project", "src/shop/.idea/workspace.xml",
     '<component><envs>\n<env name="AWS_ACCESS_KEY_ID" value="{id}" />\n<env name="AWS_SECRET_ACCESS_KEY" value="{secret}" />\n</envs></component>'),
    ("JetBrains scratch or history", ".config/JetBrains/IntelliJIdea2026.2/scratches/scratch.txt", ENV),
    ("Claude Code settings", ".claude/settings.local.json",
     '{"permissions":{"allow":["Bash(AWS_ACCESS_KEY_ID={id} AWS_SECRET_ACCESS_KEY={secret} aws s3 ls:*)"]}}'),
    ("Claude Code transcript", ".claude/projects/-src-app/0b1c.jsonl", TOOL_CALL),
    ("Codex transcript", ".codex/sessions/2026/11/20/rollout-1.jsonl", TOOL_CALL),
    ("Codex configuration", ".codex/config.toml",
     '[mcp_servers.s3.env]\nAWS_ACCESS_KEY_ID = "{id}"\nAWS_SECRET_ACCESS_KEY = "{secret}"\n'),
    ("Copilot CLI session", ".copilot/session-state/1/events.jsonl", TOOL_CALL),
    ("Gemini session", ".gemini/tmp/a1/chats/session-1.json", TOOL_CALL),
    ("Aider history", "src/app/.aider.chat.history.md", "#### deploy with\n\n    AWS_ACCESS_KEY_ID={id}\n    AWS_SECRET_ACCESS_KEY={secret}\n"),
    ("MCP server settings", ".cursor/mcp.json", MCP),
    ("Terraform backend", "src/infra/.terraform/terraform.tfstate",
     '{"version": 3, "backend": {"type": "s3", "config": {"access_key": "{id}", "bucket": "b", "secret_key": "{secret}"}}}'),
    ("Terraform state", "src/infra/terraform.tfstate", STATE),
    ("Terraform variables", "src/infra/prod.tfvars", 'aws_access_key = "{id}"\naws_secret_key = "{secret}"\n'),
    ("Pulumi state", ".pulumi/stacks/dev.json",
     '{"checkpoint":{"latest":{"resources":[{"inputs":{"accessKey":"{id}","secretKey":"{secret}"}}]}}}'),
    ("Packer template", "src/image/web.pkr.hcl", HCL.replace('provider "aws"', 'source "amazon-ebs" "web"')),
    ("Vagrantfile", "src/box/Vagrantfile", 'aws.access_key_id = "{id}"\naws.secret_access_key = "{secret}"\n'),
    ("Ansible variables", "src/play/group_vars/all.yml", YAML),
    ("Chef", "src/cook/.chef/knife.rb", 'knife[:aws_access_key_id] = "{id}"\nknife[:aws_secret_access_key] = "{secret}"\n'),
    ("Serverless or SAM", "src/fn/serverless.yml", COMPOSE.replace("services:\n  api:", "provider:\n  name: aws")),
    ("Docker Compose", "src/app/docker-compose.yml", COMPOSE),
    ("Dockerfile", "src/app/Dockerfile", "FROM x\nENV AWS_ACCESS_KEY_ID={id}\nENV AWS_SECRET_ACCESS_KEY={secret}\n"),
    ("kubeconfig", ".kube/config",
     ("users:\n- name: eks\n  user:\n    exec:\n      env:\n      - name: AWS_ACCESS_KEY_ID\n        value: {id}\n"
     "      - name: AWS_SECRET_ACCESS_KEY\n        value: {secret}\n")),
    ("Velero credentials", "src/k8s/credentials-velero", INI),
    ("CI configuration", "src/app/.gitlab-ci.yml", "variables:\n  AWS_ACCESS_KEY_ID: {id}\n  AWS_SECRET_ACCESS_KEY: {secret}\n"),
    ("act secrets", "src/app/.secrets", ENV),
    ("Hadoop", "conf/core-site.xml", HADOOP),
    ("Spark", "conf/spark-defaults.conf", "spark.hadoop.fs.s3a.access.key {id}\nspark.hadoop.fs.s3a.secret.key {secret}\n"),
    ("Maven settings", ".m2/settings.xml",
     "<settings><servers><server><id>s3</id><username>{id}</username><password>{secret}</password></server></servers></settings>"),
    ("Gradle properties", ".gradle/gradle.properties", "awsAccessKeyId={id}\nawsSecretAccessKey={secret}\n"),
    ("sbt credentials", ".sbt/.credentials", "realm=Amazon S3\nhost=b.s3.amazonaws.com\nuser={id}\npassword={secret}\n"),
    ("Jupyter notebook", "src/lab/explore.ipynb",
     ('{"cells": [{"cell_type": "code", "metadata": {}, "outputs": [], "source": ["key = \\"{id}\\"\\n", '
     '"secret = \\"{secret}\\"\\n"]}], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}')),
    ("R environment", ".Renviron", ENV),
    ("Airflow", "airflow/airflow.cfg", "[aws]\naws_access_key_id = {id}\naws_secret_access_key = {secret}\n"),
    ("Java crash log", "src/app/hs_err_pid7.log", "# A fatal error\nEnvironment Variables:\nAWS_ACCESS_KEY_ID={id}\nAWS_SECRET_ACCESS_KEY={secret}\n"),
    ("netrc", ".netrc", "machine s3.amazonaws.com login {id} password {secret}\n"),
    ("git configuration", ".gitconfig", '[remote "s3"]\n\turl = s3://{id}:{secret}@bucket/path\n'),
    ("Postman", "Postman/api.postman_environment.json",
     '{"values": [{"key": "accessKey", "value": "{id}"}, {"key": "secretKey", "value": "{secret}"}]}'),
    ("Bruno or HTTP file", "src/api/list.bru", "auth:awsv4 {\n  accessKeyId: {id}\n  secretAccessKey: {secret}\n  service: s3\n}\n"),
    ("trash", ".local/share/Trash/files/old/credentials", INI),
    ("database dump", "backup/app.sql", "INSERT INTO settings VALUES ('aws_access_key_id','{id}'),('aws_secret_access_key','{secret}');\n"),
    ("mail", "Mail/sent.mbox",
     ("From me@x.org Fri Nov 20 10:00:00 2026\nFrom: me@x.org\nSubject: keys\nDate: Fri, 20 Nov 2026 10:00:00 +0000\n"
     "Message-ID: <1@x>\n\nHere you are:\nAWS_ACCESS_KEY_ID={id}\nAWS_SECRET_ACCESS_KEY={secret}\n")),
    ("notes", "Obsidian/work/aws.md", "| id | secret |\n|---|---|\n| {id} | {secret} |\n"),
)  # fmt: skip

IDS_ONLY: tuple[tuple[str, str, str], ...] = (
    ("HAR recording", "Downloads/console.har",
     ('{"log":{"entries":[{"request":{"headers":[{"name":"Authorization","value":"AWS4-HMAC-SHA256 '
     'Credential={id}/20261120/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=00"}]}}]}}')),
)  # fmt: skip


def _sqlite(path: Path, table: str, *cells: str) -> None:
    with sqlite3.connect(path) as database:
        database.execute(table)
        marks = ", ".join("?" * len(cells))
        database.execute(f"INSERT INTO {table.split()[2]} VALUES ({marks})", cells)  # noqa: S608
    database.close()


def _history_db(path: Path, key_id: str, secret: str) -> None:
    reply = json.dumps({"AccessKey": {"UserName": "ci", "AccessKeyId": key_id, "SecretAccessKey": secret}})
    _sqlite(path, "CREATE TABLE records (id TEXT, source TEXT, payload TEXT)", "1", "BOTOCORE", reply)


def _atuin(path: Path, key_id: str, secret: str) -> None:
    command = f"AWS_ACCESS_KEY_ID={key_id} AWS_SECRET_ACCESS_KEY={secret} aws s3 ls"
    _sqlite(path, "CREATE TABLE history (id TEXT, command TEXT)", "1", command)


def _ipython(path: Path, key_id: str, secret: str) -> None:
    line = f"s3 = boto3.client('s3', aws_access_key_id='{key_id}', aws_secret_access_key='{secret}')"
    _sqlite(path, "CREATE TABLE history (session INTEGER, line INTEGER, source TEXT)", "1", "1", line)


def _vscdb(path: Path, key_id: str, secret: str) -> None:
    said = json.dumps({"text": f"[default]\naws_access_key_id = {key_id}\naws_secret_access_key = {secret}\n"})
    _sqlite(path, "CREATE TABLE cursorDiskKV (key TEXT, value BLOB)", "bubble", said)


def _tmux(path: Path, key_id: str, secret: str) -> None:
    pane = f"$ export AWS_ACCESS_KEY_ID={key_id}\n$ export AWS_SECRET_ACCESS_KEY={secret}\n".encode()
    with tarfile.open(path, "w:gz") as archive:
        member = tarfile.TarInfo("pane_contents/pane-0:1.2")
        member.size = len(pane)
        archive.addfile(member, io.BytesIO(pane))


def _duck(path: Path, key_id: str, secret: str) -> None:
    path.write_bytes(plistlib.dumps({"Protocol": "s3", "Username": key_id, "Note": secret}, fmt=plistlib.FMT_BINARY))


def _manifest(path: Path, key_id: str, secret: str) -> None:
    values = {"AWS_ACCESS_KEY_ID": key_id, "AWS_SECRET_ACCESS_KEY": secret}
    lines = "".join(f"  {name}: {base64.b64encode(value.encode()).decode()}\n" for name, value in values.items())
    path.write_text(f"apiVersion: v1\nkind: Secret\nmetadata:\n  name: aws\ndata:\n{lines}")


def _utf16(path: Path, key_id: str, secret: str) -> None:
    path.write_text(ENV.replace("{id}", key_id).replace("{secret}", secret), encoding="utf-16")


def _dump(path: Path, key_id: str, secret: str) -> None:
    path.write_bytes(
        b"\x7fELF\0\0" + f"AWS_ACCESS_KEY_ID={key_id}\0AWS_SECRET_ACCESS_KEY={secret}\0".encode() + bytes(99)
    )


def _clipboard(path: Path, key_id: str, secret: str) -> None:
    _sqlite(path, "CREATE TABLE clips (id TEXT, body TEXT)", "1", f"{key_id}\n{secret}")


BINARY: tuple[tuple[str, str, Callable[[Path, str, str], None]], ...] = (
    ("AWS CLI history", ".aws/cli/history/history.db", _history_db),
    ("Atuin history", ".local/share/atuin/history.db", _atuin),
    ("IPython history", ".ipython/profile_default/history.sqlite", _ipython),
    ("VS Code state", ".config/Cursor/User/globalStorage/state.vscdb", _vscdb),
    ("tmux resurrect", ".tmux/resurrect/pane_contents.tar.gz", _tmux),
    ("Cyberduck bookmark", ".duck/bookmarks/s3.duck", _duck),
    ("Kubernetes secret or Helm values", "src/k8s/aws-secret.yaml", _manifest),
    ("Notepad++ backup", "AppData/Roaming/Notepad++/backup/new 1@2026", _utf16),
    ("memory dump", "src/app/core.123", _dump),
    ("clipboard manager", "Library/Application Support/Alfred/Databases/clipboard.alfdb", _clipboard),
)


def build(home: Path, rng: random.Random) -> list[Planted]:
    """Fill a home directory and return what was planted."""
    planted: list[Planted] = []
    for place, name, text in (*TEXTS, *IDS_ONLY):
        prefix = "ASIA" if "{token}" in text else "AKIA"
        key_id, secret = make_key_id(rng, prefix=prefix), make_secret(rng)
        path = _made(home / name)
        filled = text.replace("{id}", key_id).replace("{secret}", secret).replace("{token}", make_token(rng))
        content = filled.encode()
        path.write_bytes(metafied(content) if place == "zsh history" else content)
        planted.append(Planted(place, path, key_id, secret if "{secret}" in text else None))
    for place, name, write in BINARY:
        key_id, secret = make_key_id(rng), make_secret(rng)
        path = _made(home / name)
        write(path, key_id, secret)
        planted.append(Planted(place, path, key_id, secret))
    _decoys(home, rng)
    return planted


def _made(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def metafied(text: bytes) -> bytes:
    """Write text as zsh writes its history: bytes from 0x83 to 0xA2 and NUL become 0x83 and the byte xor 32."""
    text = ": 1699999999:0;echo Grüße\n".encode() + text
    return b"".join(bytes([0x83, byte ^ 32]) if byte == 0 or 0x83 <= byte <= 0xA2 else bytes([byte]) for byte in text)


def _decoys(home: Path, rng: random.Random) -> None:
    """Write what only looks like a key: examples, placeholders, digests, identities, noise, and what is not to be read."""
    digest = "".join(rng.choices("0123456789abcdef", k=40))
    noise = base64.b64encode(rng.randbytes(60_000)).decode()
    outside = make_key_id(rng)
    decoys: dict[str, str | bytes] = {
        "src/docs/aws.md": "aws_access_key_id = AKIA" "IOSFODNN7EXAMPLE\naws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY\n",
        "src/app/.env.example": "AWS_ACCESS_KEY_ID=AKIAXXXXXXXXXXXXXXXX\nAWS_SECRET_ACCESS_KEY=your-secret-access-key-goes-here-40-chars\n",
        "src/app/template.yml": "aws_access_key_id: ${AWS_ACCESS_KEY_ID}\naws_secret_access_key: {{ secret }}\n",
        "src/app/SHA1SUMS": f"{digest}  release.tar\n",
        "src/app/roles.json": json.dumps({"RoleId": "AROA" + outside[4:], "UserId": "AIDA" + outside[4:]}),
        "src/app/bundle.min.js": f"var data='{noise}';",
        ".ssh/id_ed25519": f"{outside}\n",
        ".password-store/aws.gpg": f"{outside}\n",
        "node_modules/pkg/index.js": f"{outside}\n",
        ".cache/thing/blob": f"{outside}\n",
        "Pictures/photo.jpg": b"\xff\xd8\xff\xe0" + outside.encode(),
        "src/app/noise.bin": zlib.compress(rng.randbytes(50_000)),
    }  # fmt: skip
    for name, content in decoys.items():
        _made(home / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    (home / "linked").symlink_to(home / "node_modules")
