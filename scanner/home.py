"""What is known about home directories: where AWS keys are left, in which format, and what to change there. Data.

Patterns are relative to the home directory, `*` stays within a name, `**/` is any number of folders. A pattern that
begins with `**/` names a place wherever it lies. The first row that fits a path names it, those of a fixed place first.
"""

# ruff: noqa: E501 - a table reads better with its rows unbroken

from __future__ import annotations

import functools
import glob
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from firedamp.scanner.walk import is_below
from firedamp.storage.records import TEMPORARY, KeyKind


@dataclass(frozen=True, slots=True)
class Place:
    """A known place. fix says what to change so that the key need not lie there.

    rewritable: `key rotate` may put a new key there. variable: the environment variable that moves the place, and the
    part of a pattern that it stands for.
    """

    name: str
    format: str
    patterns: tuple[str, ...]
    fix: str
    rewritable: bool = False
    variable: tuple[str, str] | None = None

    def fix_of(self, kind: KeyKind) -> str:
        """Return what to change for a credential of this kind: who has a temporary one needs no word on having one."""
        return _ENDS if kind in TEMPORARY and self.fix.startswith(_SSO) else self.fix


_ENDS: Final = "temporary: it ends by itself; delete it to be rid of it"
_SSO: Final = "use temporary credentials instead: `aws configure sso` and `aws sso login`, or `aws login`"
_HISTORY: Final = "delete the line, and set keys from a file or a prompt, never on a command line"
_DATABASE_HISTORY: Final = "delete the line; give the warehouse an IAM role instead of keys"
_AGENT: Final = "rotate the key, then delete the session: whatever is told to an agent stays in its transcript"
_AGENT_CONFIG: Final = "take the key out of the settings and let the tool inherit AWS_PROFILE"
_EDITOR: Final = "rotate the key, then delete the copy and switch the editor's history off for files with credentials"
_DOTENV: Final = "set AWS_PROFILE instead of keys, and read secrets from a secret store when the program starts"
_STATE: Final = "keep state in an encrypted remote backend, and do not create access keys with it"
_RC: Final = "take the export out; the SDKs read a profile by AWS_PROFILE"
_S3_CLIENT: Final = "let the client take the AWS environment or a profile instead of keys of its own"
_ROLE: Final = "give the program a role, or a profile that its host provides, instead of keys in its configuration"
_TRASH: Final = "the file was deleted and is still here: rotate the key, then empty the trash"
_IDENTITY: Final = "the tool keeps a way to new sessions here: sign out when it is not used, and keep the file private"
_MANIFEST: Final = "base64 is no protection: use a secret operator or a role for the service account"
_APP: Final = "rotate the key, then delete the entry and exclude credentials from what the program remembers"
_API_TOOL: Final = "keep keys in the tool's vault or in the environment, and rotate the key"

PLACES: Final[tuple[Place, ...]] = (
    # AWS's own files.
    Place("AWS config", "INI", (".aws/config", ".aws/config~", ".aws/config.*"), _SSO + ", then delete the keys",
          rewritable=True, variable=("AWS_CONFIG_FILE", ".aws/config")),
    Place("AWS shared credentials", "INI", (".aws/credentials", ".aws/credentials.*", ".aws/credentials~", ".aws/*.bak",
          ".aws/*.old"), _SSO + ", then delete the section", rewritable=True,
          variable=("AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials")),
    Place("AWS CLI cache", "JSON", (".aws/cli/cache/*.json",), _ENDS),
    Place("botocore cache", "JSON", (".aws/boto/cache/*.json",), _ENDS),
    Place("AWS login cache", "JSON", (".aws/login/cache/*.json",), _IDENTITY),
    Place("AWS SSO cache", "JSON", (".aws/sso/cache/*.json",), _IDENTITY),
    Place("AWS CLI history", "SQLite", (".aws/cli/history/history.db*",),
          "turn `cli_history` off and delete the database: it keeps whole replies, new keys included"),
    Place("SAML cache", "text", (".aws/saml_cache.txt", ".aws/saml2aws/*", ".saml2aws"), _IDENTITY),
    Place("boto configuration", "INI", (".boto", "**/boto.cfg"), _SSO + "; boto 2 is long retired", rewritable=True),
    Place("console download of an access key", "CSV", (
          "*/accessKeys*.csv", "*/*_accessKeys*.csv", "*/credentials*.csv", "*/new_user_credentials*.csv",
          "accessKeys*.csv", "*_accessKeys*.csv", "new_user_credentials*.csv", "credentials*.csv",
          "**/accessKeys*.csv", "**/*_accessKeys*.csv", "**/credentials*.csv", "**/*_credentials*.csv"),
          "delete the download; make no long-term key where a role or `aws login` does"),
    Place("root user's access key", "properties", ("*/rootkey*.csv", "rootkey*.csv", "**/rootkey*.csv"),
          "delete this key in the console today: a root key has every right there is"),
    Place("Limes configuration", "YAML", (".limes/config",), _SSO),
    Place("OneLogin configuration", "JSON", (".onelogin/*.json",), _IDENTITY),
    Place("Okta login configuration", "INI", (".okta_aws_login_config", ".okta/*"), _IDENTITY),
    # Clients of S3 and what speaks its language.
    Place("s3cmd", "INI", (".s3cfg", ".config/s3cfg"), "let s3cmd read the AWS environment: delete access_key and secret_key",
          rewritable=True),
    Place("s3fs", "colon", (".passwd-s3fs",), "mount with `iam_role` or with the AWS credentials file", rewritable=True),
    Place("rclone", "INI", (".config/rclone/rclone.conf", ".rclone.conf"),
          "set `env_auth = true` and delete the keys, or encrypt the configuration", rewritable=True,
          variable=("RCLONE_CONFIG", ".config/rclone/rclone.conf")),
    Place("MinIO client", "JSON", (".mc/config.json", ".mcli/config.json"), _S3_CLIENT, rewritable=True),
    Place("s3curl", "Perl", (".s3curl",), _S3_CLIENT),
    Place("awssecret", "lines", (".awssecret",), _S3_CLIENT),
    Place("fog", "YAML", (".fog",), _S3_CLIENT),
    Place("S3QL", "INI", (".s3ql/authinfo2",), _S3_CLIENT),
    Place("restic or duplicity", "env", (".config/restic/*", ".restic*", ".duplicity/*", ".config/duply/*/conf",
          ".duply/*/conf"), _S3_CLIENT),
    Place("Litestream", "YAML", (".config/litestream.yml", "litestream.yml"), _S3_CLIENT),
    Place("DVC", "INI", ("**/.dvc/config", "**/.dvc/config.local", ".config/dvc/config"), _S3_CLIENT),
    Place("Cyberduck bookmark", "plist", ("Library/Group Containers/*/Bookmarks/*.duck", ".duck/bookmarks/*.duck",
          "Library/Group Containers/*/Library/Application Support/duck/Bookmarks/*.duck",
          "Library/Application Support/Cyberduck/Bookmarks/*.duck", "AppData/Roaming/Cyberduck/Bookmarks/*.duck"),
          "the secret is in the keychain; delete the bookmark with the key"),
    # Shells.
    Place("bash history", "text", (".bash_history", ".bash_sessions/*"), _HISTORY),
    Place("zsh history", "zsh", (".zsh_history", ".zhistory", ".histfile", ".zsh_sessions/*", ".config/zsh/.zsh_history",
          ".config/zsh/.zhistory", ".config/zsh/.histfile", ".local/state/zsh/history"), _HISTORY),
    Place("fish history", "YAML", (".local/share/fish/fish_history",), _HISTORY),
    Place("PowerShell history", "text", (".local/share/powershell/PSReadLine/*_history.txt",
          "AppData/Roaming/Microsoft/Windows/PowerShell/PSReadLine/*_history.txt"), _HISTORY),
    Place("Atuin history", "SQLite", (".local/share/atuin/history.db*",), _HISTORY),
    Place("mcfly history", "SQLite", (".local/share/mcfly/history.db*", ".mcfly/history.db*",
          "Library/Application Support/McFly/history.db*"), _HISTORY),
    Place("Nushell history", "SQLite", (".config/nushell/history.*",), _HISTORY),
    Place("less history", "text", (".lesshst", ".local/state/lesshst"), _HISTORY),
    Place("shell start-up file", "shell", (".bashrc", ".bash_profile", ".bash_aliases", ".zshrc", ".zshenv", ".zprofile",
          ".profile", ".config/zsh/.zshrc", ".config/zsh/.zshenv", ".config/zsh/.zprofile",
          ".config/fish/config.fish", ".config/fish/conf.d/*", ".kshrc", ".cshrc", ".config/nushell/*.nu"), _RC),
    Place("terminal recording", "text", ("**/*.cast", "**/typescript"), "rotate the key, then delete the recording"),
    # Consoles of databases and languages.
    Place("psql history", "text", (".psql_history*",), _DATABASE_HISTORY + " (`IAM_ROLE`)"),
    Place("MySQL history", "text", (".mysql_history",), _DATABASE_HISTORY),
    Place("DuckDB history", "text", (".duckdb_history",), "use `CREDENTIAL_CHAIN` in `CREATE SECRET`, and delete the line"),
    Place("ClickHouse history", "text", (".clickhouse-client-history",), _DATABASE_HISTORY),
    Place("SnowSQL history", "text", (".snowsql/history",), "use a storage integration instead of keys, and delete the line"),
    Place("Python history", "text", (".python_history",), _HISTORY),
    Place("IPython history", "SQLite", (".ipython/profile_*/history.sqlite*",), _HISTORY),
    Place("Node history", "text", (".node_repl_history",), _HISTORY),
    Place("Ruby or R history", "text", (".irb_history", ".pry_history", ".local/share/pry/pry_history", ".Rhistory"),
          _HISTORY),
    # The environment.
    Place("direnv", "shell", ("**/.envrc", ".config/direnv/*"), _DOTENV, rewritable=True),
    Place("environment file", "dotenv", ("**/.env", "**/.env.*", "**/*.env"), _DOTENV, rewritable=True),
    Place("systemd environment", "dotenv", (".config/environment.d/*.conf", ".config/systemd/user/*"), _ROLE),
    # Terminals and editors.
    Place("tmux resurrect", "tar.gz", (".tmux/resurrect/*", ".local/share/tmux/resurrect/*"),
          "delete the saved panes, and switch `@resurrect-capture-pane-contents` off"),
    Place("iTerm2 or screen log", "text", ("iterm2-logs/*", "Documents/iterm2/*.log", "screenlog.*"),
          "rotate the key, then delete the log"),
    Place("Vim remains", "binary", (".viminfo", ".vim/undo/*", ".vim/undodir/*", ".vim/swap/*", "**/.*.sw?", "**/.*.un~",
          ".local/state/nvim/*/*", ".local/share/nvim/*/*"), _EDITOR),
    Place("Emacs remains", "text", (".emacs.d/auto-save-list/*", ".emacs.d/backups/*", "**/#*#", "**/*~"), _EDITOR),
    Place("Sublime Text session", "JSON", (".config/sublime-text*/Local/*.sublime_session",
          "Library/Application Support/Sublime Text*/Local/*.sublime_session"), _EDITOR),
    Place("Notepad++ backup", "text", ("AppData/Roaming/Notepad++/backup/*",), _EDITOR),
    Place("VS Code local history", "text", (".config/*/User/History/*/*", "Library/Application Support/*/User/History/*/*",
          "AppData/Roaming/*/User/History/*/*"), _EDITOR),
    Place("Cline task", "JSON", ("**/saoudrizwan.claude-dev/tasks/*/*.json", ".cline/data/**"), _AGENT),
    Place("VS Code chat", "JSONL", (".config/*/User/workspaceStorage/*/chatSessions/*",
          "Library/Application Support/*/User/workspaceStorage/*/chatSessions/*",
          "AppData/Roaming/*/User/workspaceStorage/*/chatSessions/*"), _AGENT),
    Place("VS Code state", "SQLite", (".config/*/User/globalStorage/state.vscdb*",
          ".config/*/User/workspaceStorage/*/state.vscdb*",
          "Library/Application Support/*/User/globalStorage/state.vscdb*",
          "Library/Application Support/*/User/workspaceStorage/*/state.vscdb*",
          "AppData/Roaming/*/User/globalStorage/state.vscdb*",
          "AppData/Roaming/*/User/workspaceStorage/*/state.vscdb*"), _EDITOR),
    Place("VS Code backup", "text", (".config/*/Backups/**", "Library/Application Support/*/Backups/**",
          "AppData/Roaming/*/Backups/**"), "rotate the key, then close the file in the editor without saving it"),
    Place("VS Code settings", "JSON", (".config/*/User/settings.json", "**/.vscode/*.json",
          "Library/Application Support/*/User/settings.json", "AppData/Roaming/*/User/settings.json"),
          "take the key out of `terminal.integrated.env`; set AWS_PROFILE"),
    Place("JetBrains project", "XML", ("**/.idea/workspace.xml", "**/.idea/runConfigurations/*.xml",
          "**/.idea/dataSources*.xml", "**/.idea/*.xml", "**/.run/*.run.xml"),
          "use the AWS connection of the AWS Toolkit in the run configuration, or AWS_PROFILE"),
    Place("JetBrains scratch or history", "text", (".config/JetBrains/*/scratches/*", ".cache/JetBrains/*/LocalHistory/*",
          "Library/Application Support/JetBrains/*/scratches/*"), _EDITOR),
    # Agents.
    Place("Claude Code settings", "JSON", (".claude/settings*.json", ".claude.json", "**/.claude/settings*.json"),
          "take the command out of the allow-list, and the key out of `env`",
          variable=("CLAUDE_CONFIG_DIR", ".claude")),
    Place("Claude Code transcript", "JSONL", (".claude/projects/**", ".claude/history.jsonl", ".claude/file-history/**",
          ".claude/paste-cache/**", ".claude/shell-snapshots/*", ".claude/debug/*", ".claude/todos/*"), _AGENT,
          variable=("CLAUDE_CONFIG_DIR", ".claude")),
    Place("Codex transcript", "JSONL", (".codex/sessions/**", ".codex/history.jsonl", ".codex/log/*"), _AGENT,
          variable=("CODEX_HOME", ".codex")),
    Place("Codex configuration", "TOML", (".codex/config.toml",), _AGENT_CONFIG, variable=("CODEX_HOME", ".codex")),
    Place("Copilot CLI session", "JSONL", (".copilot/session-state/**", ".copilot/history-session-state/**"), _AGENT),
    Place("Gemini session", "JSON", (".gemini/tmp/**", ".gemini/history/**"), _AGENT),
    Place("Aider history", "Markdown", ("**/.aider.*",), _AGENT),
    Place("MCP server settings", "JSON", ("**/.mcp.json", ".cursor/mcp.json", "**/.cursor/mcp.json",
          ".kiro/settings/mcp.json", ".codeium/mcp_config.json", ".codeium/windsurf/mcp_config.json",
          ".config/opencode/opencode.json", ".config/Claude/claude_desktop_config.json",
          "Library/Application Support/Claude/claude_desktop_config.json"), _AGENT_CONFIG),
    # Infrastructure as code.
    Place("Terraform backend", "JSON", ("**/.terraform/terraform.tfstate",),
          "take access_key and secret_key out of the backend block: the backend reads the AWS profile"),
    Place("Terraform state", "JSON", ("**/*.tfstate", "**/*.tfstate.*"), _STATE),
    Place("Terraform variables", "HCL", ("**/*.tfvars", "**/*.tfvars.json"),
          "take the provider's keys out: the provider reads the AWS profile"),
    Place("Terraform crash log", "text", ("**/crash.log", "**/crash.*.log"), "delete the log"),
    Place("Terraform CLI configuration", "HCL", (".terraform.d/credentials.tfrc.json", ".terraformrc", "**/*.tfrc"),
          "it is for tokens of registries: take the key out, the provider reads the AWS profile"),
    Place("Pulumi state", "JSON", (".pulumi/**",), _STATE),
    Place("Packer template", "HCL", ("**/*.pkr.hcl", "**/packer.json"), _ROLE),
    Place("Vagrantfile", "Ruby", ("**/Vagrantfile",), _ROLE),
    Place("Ansible variables", "YAML", ("**/group_vars/*", "**/group_vars/*/*", "**/host_vars/*"),
          "encrypt with `ansible-vault`, better: let the modules read the AWS profile"),
    Place("Chef", "Ruby", ("**/.chef/knife.rb", "**/.chef/config.rb"), _ROLE),
    Place("Serverless or SAM", "YAML", ("**/serverless.yml", "**/serverless.yaml", "**/samconfig.toml"), _ROLE),
    # Containers and CI.
    Place("Docker Compose", "YAML", ("**/docker-compose*.y*ml", "**/compose*.y*ml"),
          "mount ~/.aws read-only or pass AWS_PROFILE instead of keys"),
    Place("Dockerfile", "Dockerfile", ("**/Dockerfile*", "**/*.Dockerfile", "**/Containerfile"),
          "a build keeps ENV and ARG in the image: use `RUN --mount=type=secret`, and rotate the key"),
    Place("Docker configuration", "JSON", (".docker/config.json",), "use a credential helper (`credsStore`)"),
    Place("kubeconfig", "YAML", (".kube/config", ".kube/*.y*ml"), "let `aws eks get-token` read a profile"),
    Place("Velero credentials", "INI", ("**/credentials-velero",), "use a role for the service account"),
    Place("CI configuration", "YAML", ("**/.github/workflows/*", "**/.gitlab-ci.yml", "**/.circleci/*", "**/.travis.yml",
          "**/bitbucket-pipelines.yml"), "let the pipeline assume a role by OIDC"),
    Place("act secrets", "dotenv", ("**/.secrets", ".actrc", ".config/act/*"), _DOTENV),
    Place("Kubernetes secret or Helm values", "YAML", ("**/*secret*.y*ml", "**/values*.y*ml"), _MANIFEST),
    # Data and the Java world.
    Place("Hadoop", "XML", ("**/core-site.xml", "**/hdfs-site.xml", "**/hive-site.xml"),
          "use the profile or instance credential provider in `fs.s3a.aws.credentials.provider`"),
    Place("Spark", "properties", ("**/spark-defaults.conf",), _ROLE),
    Place("Maven settings", "XML", (".m2/settings.xml",), "encrypt it with a master password, or use CodeArtifact tokens"),
    Place("Gradle properties", "properties", (".gradle/gradle.properties", "**/gradle.properties"), _ROLE),
    Place("sbt credentials", "properties", (".sbt/**/*.sbt", ".sbt/.credentials", ".ivy2/.credentials"), _ROLE),
    Place("Jupyter checkpoint", "JSON", ("**/.ipynb_checkpoints/*",), "delete the checkpoint and clear the output"),
    Place("Jupyter notebook", "JSON", ("**/*.ipynb",), "read the key from a profile, and clear the output"),
    Place("R environment", "dotenv", ("**/.Renviron",), _DOTENV),
    Place("Airflow", "INI", ("airflow/airflow.cfg", "**/airflow.cfg"), "use the AWS connection with a role"),
    Place("Java crash log", "text", ("**/hs_err_pid*.log",), "delete the log: it holds the whole environment"),
    # Network and packages.
    Place("netrc", "netrc", (".netrc", "_netrc"), _ROLE),
    Place("git credentials", "URL", (".git-credentials", ".config/git/credentials"),
          "use `credential.helper` with a keychain, or the CodeCommit helper"),
    Place("git configuration", "INI", (".gitconfig", ".config/git/config"), "take the key out of the helper or the URL"),
    Place("npm configuration", "INI", (".npmrc", "**/.npmrc"), "use a short-lived CodeArtifact token"),
    Place("Python package index", "INI", (".pypirc", ".pip/pip.conf", ".config/pip/pip.conf"),
          "use a keyring or a short-lived CodeArtifact token"),
    # Tools for interfaces.
    Place("Postman", "JSON", ("**/*.postman_*.json", "Postman/**", ".config/Postman/**"), _API_TOOL),
    Place("Insomnia", "JSON", (".config/Insomnia/*", "**/insomnia*.json", "**/Insomnia_*.json"), _API_TOOL),
    Place("Bruno or HTTP file", "text", ("**/*.bru", "**/*.http", "**/*.rest"), _API_TOOL),
    Place("HAR recording", "JSON", ("**/*.har",), "delete the recording"),
    # Applications.
    Place("clipboard manager", "SQLite", (".config/copyq/*", ".local/share/klipper/*", ".local/share/clipit/*",
          "Library/Containers/org.p0deje.Maccy/**", "Library/Application Support/Alfred/Databases/*",
          ".cache/clipboard-indicator*/*", ".local/share/gpaste/**"), _APP),
    Place("chat cache", "LevelDB", (".config/Slack/**", "Library/Application Support/Slack/**",
          ".config/Microsoft/Microsoft Teams/**", ".config/discord/**"), _APP),
    Place("mail", "mbox", (".thunderbird/*/Mail/**", ".thunderbird/*/ImapMail/**", "Mail/**", "Maildir/**", "**/*.mbox",
          "**/*.eml", "Library/Mail/**", "Library/Thunderbird/**"), "whoever sent a key by mail should rotate it"),
    Place("notes", "Markdown", ("Obsidian/**", "**/.obsidian/**", "Notes/**", "Library/Group Containers/group.com.apple.notes/**"),
          "move keys to a password manager, better: have none"),
    Place("browser storage", "LevelDB", (".config/*/*/Local Storage/**", ".mozilla/firefox/*/storage/**",
          "Library/Application Support/*/*/Local Storage/**"), _APP),
    # Remains.
    Place("trash", "anything", (".local/share/Trash/**", ".Trash/**", ".Trash-*/**"), _TRASH),
    Place("database dump", "SQL", ("**/*.sql", "**/*.sql.gz"), "delete the dump, and rotate the key"),
    Place("memory dump", "binary", ("**/core", "**/core.[0-9]*", "**/*.hprof", "**/*.dmp"), "delete the dump"),
)  # fmt: skip


VARIABLES: Final = tuple(dict.fromkeys(place.variable[0] for place in PLACES if place.variable is not None))


def place_of(path: str, home: str, environment: Mapping[str, str]) -> Place | None:
    """Return the known place that an absolute path is, or None; environment may have moved the place."""
    for part, moved in _moved(environment):
        if path == moved or path.startswith(moved + "/"):
            path = f"{home.rstrip('/')}/{part}{path[len(moved) :]}"
    below = path.removeprefix(home.rstrip("/") + "/")
    outside, below = below == path, below.lstrip("/")
    for place, pattern, telling in _patterns():
        # Most patterns are ruled out by what stands in them as it is, and never compiled.
        if telling in below and not (outside and not pattern.startswith("**/")) and _compiled(pattern).fullmatch(below):
            return place
    return None


def _moved(environment: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield (the usual place, where the environment has it), by the name that it gives and without links."""
    for place in PLACES:
        if place.variable is not None and (moved := environment.get(place.variable[0])):
            named = os.path.abspath(os.path.expanduser(moved))  # noqa: PTH100, PTH111
            yield place.variable[1], named
            yield place.variable[1], os.path.realpath(named)


def known_files(home: str, environment: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield (a file or folder to scan, the path by which it is a known place), each once, without links.

    Those are the files in the known places of a home directory, folders that a link puts in their stead, and what the
    environment names. Only patterns of a fixed depth are looked for below the home: what may lie anywhere, the walk
    comes to. A link is followed to what is this user's or root's; the walk tells of the others.
    """
    seen: set[str] = set()
    for path, known, ours in _candidates(home, environment):
        real = os.path.realpath(path)
        if real in seen or not (ours or real == path or _own(real)):
            continue
        # A link to a folder that holds the home would have all of it read as a known place.
        outside = not is_below(real, home) and not is_below(home, real)
        if os.path.isfile(real) or (outside and os.path.isdir(real)):  # noqa: PTH112, PTH113
            seen.add(real)
            yield real, known


def _candidates(home: str, environment: Mapping[str, str]) -> Iterator[tuple[str, str, bool]]:
    """Yield (path, the path by which it is known, whether the environment names it); paths may be links."""
    for part, moved in _moved(environment):
        yield moved, os.path.join(home, part), True  # noqa: PTH118
        for place in PLACES:
            below = [each[len(part) + 1 :] for each in place.patterns if each.startswith(part + "/")]
            for pattern in (each for each in below if "**" not in each):
                for name in sorted(glob.glob(pattern, root_dir=moved, include_hidden=True)):  # noqa: PTH207
                    yield os.path.join(moved, name), os.path.join(home, part, name), True  # noqa: PTH118
    links = set[str]()
    for pattern in (pattern for place in PLACES for pattern in place.patterns):
        link = _link(home, pattern)
        if link is not None and link not in links:
            links.add(link)
            yield link, link, False
        if "**" not in pattern:
            for name in sorted(glob.glob(pattern, root_dir=home, include_hidden=True)):  # noqa: PTH207
                path = os.path.join(home, name)  # noqa: PTH118
                yield path, path, False


def _link(home: str, pattern: str) -> str | None:
    """Return the first folder that is a link on the way to a pattern, up to where it may be any of several."""
    path = home
    for part in pattern.split("/")[:-1]:
        if re.search(r"[*?\[]", part):
            return None
        path = f"{path}/{part}"
        if os.path.islink(path):  # noqa: PTH114
            return path
    return None


def _own(path: str) -> bool:
    """Whether what stands there is this user's or root's: a link into another user's files is not followed."""
    try:
        return os.lstat(path).st_uid in {os.geteuid(), 0}
    except OSError:
        return False


_WILD: Final = re.compile(r"(\*\*/|\*\*|\*|\?|\[[^]]*\])")


@functools.cache
def _patterns() -> tuple[tuple[Place, str, str], ...]:
    """Return every pattern with its place, and the longest part that a path must hold; what may lie anywhere last."""
    rows = [(place, each, max(_WILD.split(each)[::2], key=len)) for place in PLACES for each in place.patterns]
    return tuple(sorted(rows, key=lambda row: row[1].startswith("**/")))


@functools.cache
def _compiled(pattern: str) -> re.Pattern[str]:
    signs = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    parts = (signs.get(part) or (part if part.startswith("[") else re.escape(part)) for part in _WILD.split(pattern))
    return re.compile("".join(parts), re.DOTALL)
