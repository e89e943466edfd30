"""What a walk leaves out, as data: places full of other people's files, and places that are nobody's business.

A rule of `LEFT_OUT` is off with `--all`; `NEVER` always holds. Names that hold credentials wherever they lie
(`ALWAYS`) are read even in a place that is left out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import translate
from typing import Final


@dataclass(frozen=True, slots=True)
class Rule:
    """Places of one sort. folders are trailing parts of a path (`go/pkg`), files are patterns of a name."""

    name: str
    folders: tuple[str, ...] = ()
    files: tuple[str, ...] = ()


LEFT_OUT: Final = (
    Rule("installed packages", folders=(
        "node_modules", "bower_components", "site-packages", "dist-packages", ".npm/_cacache", ".npm/_npx",
        ".yarn/cache", ".yarn/berry", ".pnpm-store", "pnpm/store", ".cargo/registry", ".cargo/git",
        ".rustup/toolchains", "go/pkg", ".gradle/caches", ".gradle/wrapper", ".m2/repository", ".ivy2/cache",
        ".sbt/boot", ".nuget/packages",
        ".gem", "vendor/bundle", ".bundle/cache", "conda/pkgs", "anaconda3/pkgs", "miniconda3/pkgs", "mambaforge/pkgs",
        "homebrew/Cellar", "Homebrew/Cellar", "linuxbrew/Cellar", ".pyenv/versions", ".rbenv/versions", ".nvm/versions",
        ".asdf/installs", ".local/share/mise/installs", ".vscode/extensions", ".cursor/extensions", ".pub-cache",
        ".cpan/build", ".opam", ".stack", ".cabal/packages", ".hex/packages", ".tox", ".nox",
    )),
    Rule("caches", folders=(
        ".cache", "Library/Caches", "AppData/Local/Temp", "__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache",
        "Xcode/DerivedData", ".terraform/providers", ".terraform.d/plugin-cache", "CachedData", "CachedExtensionVSIXs",
        "Code Cache", "GPUCache", "Service Worker/CacheStorage",
    )),
    Rule("sources of AWS's own libraries, full of documentation keys", folders=(
        "botocore", "aws-sdk-cpp", "aws-sdk-go", "aws-sdk-go-v2", "aws-sdk-java", "aws-sdk-java-v2", "aws-sdk-js",
        "aws-sdk-js-v3", "aws-sdk-net", "aws-sdk-php", "aws-sdk-ruby", "aws-sdk-rust",
    )),
    Rule("virtual disks, models and games",
        folders=(
            ".ollama/models", ".lmstudio/models", "huggingface/hub", ".local/share/Steam", "Steam/steamapps",
            ".local/share/containers/storage", ".lima/_cache",
        ),
        files=(
            "Docker.raw", "*.qcow2", "*.vmdk", "*.vdi", "*.vhd", "*.vhdx", "*.hdd", "*.gguf", "*.safetensors", "*.iso",
            "*.dmg", "*.sparsebundle", "*.ckpt", "*.onnx",
        ),
    ),
)  # fmt: skip
"""Left out unless `--all`: a walk of a home directory would spend its time there."""

MEDIA: Final = Rule("pictures, sound, video and fonts")
"""Told by the first bytes, not by the name; off with `--all`."""

NEVER: Final = (
    Rule("keychains, password stores and private keys",
        folders=(
            "Library/Keychains", ".local/share/keyrings", ".gnome2/keyrings", ".local/share/kwalletd",
            ".kde/share/apps/kwallet",
            ".password-store", ".gnupg", ".awsvault/keys", ".config/op", "Microsoft/Credentials", "Microsoft/Protect",
            "Microsoft/Vault", ".config/Bitwarden", "1Password/Data",
        ),
        files=(
            "*.kdbx", "*.kdb", "*.keychain", "*.keychain-db", "*.1pux", "*.agilekeychain", "*.psafe3",
            "login.keychain*", "Login Data", "Login Data For Account", "logins.json", "key3.db", "key4.db", "cert9.db",
            "Cookies", "cookies.sqlite", "id_rsa", "id_dsa", "id_ecdsa", "id_ecdsa_sk", "id_ed25519", "id_ed25519_sk",
            "id_xmss",
            "*.ppk",
        ),
    ),
    Rule("the system's own views of itself"),
)  # fmt: skip
"""Never read: reading them is what thieves do, and they hold no AWS key of the kind that is found here."""

SYSTEM: Final = NEVER[1]
SYSTEM_FOLDERS: Final = frozenset({"/proc", "/sys", "/dev", "/run"})

ALWAYS: Final = (
    ".env",
    ".env.*",
    "*.env",
    ".envrc",
    "credentials",
    "credentials.*",
    "*.tfstate",
    "*.tfstate.*",
    "settings.local.json",
)
"""Read wherever they lie, `NEVER` excepted: packages have been published with these inside."""

_ALWAYS: Final = re.compile("|".join(translate(pattern) for pattern in ALWAYS), re.IGNORECASE)

_MEDIA: Final = re.compile(
    rb"""(?sx)
    \x89PNG\r\n | \xff\xd8\xff | GIF8[79]a | RIFF....(?:WEBP|WAVE|AVI[ ]) | II\*\0 | MM\0\*
    | \x00\x00\x01\x00[\x01-\x20]\x00
    | 8BPS\0 | ....ftyp | \x1aE\xdf\xa3 | OggS\0 | fLaC | ID3[\x02-\x04] | \xff[\xfb\xf3\xf2][\x10-\xef] | FLV\x01
    | MThd\0\0\0\x06 | wOF[F2]\0 | \x00\x01\x00\x00\x00[\x01-\x40]..[\x00-\x09] | OTTO\0 | ttcf\0
    """
)


MEDIA_BEGINS: Final = frozenset(bytes([byte]) for byte in b"\x89\xffGRIM\x008\x1aOfFwt")
"""The first bytes that media can have: asked first, because nearly no file has one."""


def is_media(head: bytes) -> bool:
    """Whether a file that begins so is a picture, sound, a film or a font."""
    return _MEDIA.match(head) is not None


def always(name: str) -> bool:
    """Whether a file of this name is read wherever it lies."""
    return _ALWAYS.match(name) is not None


class Names:
    """Finds the rule for a folder or a file, at a dictionary's speed where nothing fits."""

    def __init__(self, rules: tuple[Rule, ...]) -> None:
        self._folders: dict[str, list[tuple[str, str]]] = {}
        for rule in rules:
            for folder in rule.folders:
                self._folders.setdefault(folder.rpartition("/")[2], []).append(("/" + folder, rule.name))
        self._files = re.compile(
            "|".join(f"(?P<r{n}>{'|'.join(map(translate, rule.files))})" for n, rule in enumerate(rules) if rule.files)
            or r"(?!)"
        )
        self._names = [rule.name for rule in rules]

    def of_folder(self, name: str, path: str) -> str | None:
        """Return the name of the rule that fits this folder, or None. path is absolute, with `/`."""
        for suffix, rule in self._folders.get(name, ()):
            if path.endswith(suffix):
                return rule
        return None

    def of_file(self, name: str) -> str | None:
        """Return the name of the rule that fits a file of this name, or None."""
        match = self._files.match(name)
        return None if match is None or match.lastgroup is None else self._names[int(match.lastgroup[1:])]
