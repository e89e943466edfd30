"""`scan --org`: makes the forge that a target names, with its token, filters and address from the configuration."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from firedamp.scanner.fetch import is_url, without_user
from firedamp.scanner.forge import Forge, Repository, Wanted, Where, chosen, listed, where
from firedamp.scanner.forges import Gitea, GitHub, GitLab, Token
from firedamp.scanner.installation import InstallationToken
from firedamp.scanner.moreforges import Azure, Bitbucket, BitbucketServer, CodeCommit
from firedamp.scanner.organisation import Organisation, World
from firedamp.scanner.source import Nested
from firedamp.service.aws import Aws
from firedamp.service.config import ForgeConfig, Reference
from firedamp.storage.errors import AwsFailure, UsageFailure
from firedamp.storage.records import Skipped
from firedamp.storage.secret import Secret

_TOKENS: Final = {
    "github": ("GITHUB_TOKEN", "GH_TOKEN"),
    "gitlab": ("GITLAB_TOKEN",),
    "gitea": ("GITEA_TOKEN",),
    "forgejo": ("FORGEJO_TOKEN", "GITEA_TOKEN"),
    "bitbucket": ("BITBUCKET_TOKEN",),
    "azure": ("AZURE_DEVOPS_EXT_PAT",),
}
"""Where each forge's own tools look for a token; used where the configuration names none."""

Resolve = Callable[[Reference], Secret]


def organisation(target: str, world: World, configs: Sequence[ForgeConfig], aws: Aws, resolve: Resolve) -> Organisation:
    """Make the organisation that a target names. Raises UsageFailure for one that cannot be, or cannot be offline."""
    place = where(target)
    if isinstance(place, Path):
        addresses = _Addresses(place)
        return Organisation(str(place.absolute()), world, addresses, addresses.entries)
    config = next((each for each in configs if each.name == target), ForgeConfig(name=target))
    forge = _forge(place, world, config, aws, resolve)
    wanted = Wanted(
        archived=config.archived, forks=config.forks, include=config.include, exclude=config.exclude,
        topics=config.topics, max_bytes=config.max_bytes, parts=config.wikis,
    )  # fmt: skip

    def listing() -> Iterator[Repository | Skipped]:
        yield from made.remembered() if world.offline else chosen(forge, wanted)

    made = Organisation(target, world, forge, listing)
    if world.offline and not made.remembered():
        raise UsageFailure(f"{target} is elsewhere, and --offline contacts nobody", "scan it once without --offline")
    return made


def _forge(place: Where, world: World, config: ForgeConfig, aws: Aws, resolve: Resolve) -> Forge:
    api = config.api or place.host
    token = _token(place, config, resolve)
    match place.kind:
        case "github":
            if api is not None and config.api is None:
                api += "/api/v3"  # GitHub Enterprise Server
            api = api or "https://api.github.com"
            if config.app_id is not None and config.app_key is not None:
                key = resolve(config.app_key)
                token = InstallationToken(world.web, api, place.name, config.app_id, key)
            return GitHub(world.web, api, place.name, token)
        case "gitlab":
            return GitLab(
                world.web, _below(api or "https://gitlab.com", "/api/v4"), place.name, token, parts=config.wikis
            )
        case "gitea" | "forgejo":
            return Gitea(world.web, _below(api or "", "/api/v1"), place.name, token)
        case "bitbucket" if place.host is None and config.api is None:
            return Bitbucket(world.web, "https://api.bitbucket.org/2.0", place.name, token, parts=config.wikis)
        case "bitbucket" if config.api is not None and config.api.rstrip("/").endswith("/2.0"):
            return Bitbucket(world.web, config.api, place.name, token, parts=config.wikis)
        case "bitbucket":
            return BitbucketServer(world.web, api or "", place.name, token)
        case "azure":
            return Azure(world.web, api or "https://dev.azure.com", place.name, token)
        case "codecommit":
            return _codecommit(place.name, aws)
        case _:
            raise UsageFailure(f"{place.kind} is no forge that firedamp knows")


def _codecommit(name: str, aws: Aws) -> CodeCommit:
    """Make the repositories of an account: `codecommit:REGION`, or `codecommit:PROFILE@REGION`."""
    profile, _, region = name.rpartition("@")
    client = aws.client("codecommit", region=region, profile=profile or None)

    def sign(url: str) -> Secret:
        """Sign an address as the AWS CLI's credential helper does (awscli, customizations/codecommit.py)."""
        from botocore.auth import SigV4Auth
        from botocore.awsrequest import AWSRequest

        credentials = aws.session(profile or None).get_credentials()
        if credentials is None:
            raise AwsFailure("there are no credentials for CodeCommit", "set up a profile: aws configure")
        frozen, place = credentials.get_frozen_credentials(), urlsplit(url)
        request = AWSRequest(method="GIT", url=f"https://{place.netloc}{place.path}")
        request.context["timestamp"] = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
        signer = SigV4Auth(frozen, "codecommit", region)
        canonical = f"GIT\n{place.path}\n\nhost:{place.netloc}\n\nhost\n"
        signature = signer.signature(signer.string_to_sign(request, canonical), request)
        user = f"{frozen.access_key}%{frozen.token}" if frozen.token else f"{frozen.access_key}"
        return Secret(f"{user}:{request.context['timestamp']}Z{signature}")

    return CodeCommit(client, sign)


def _below(address: str, path: str) -> str:
    """Return the address of an API, whether the forge or its API was named."""
    address = address.rstrip("/")
    return address if address.endswith(path) else address + path


def _token(place: Where, config: ForgeConfig, resolve: Resolve) -> Token:
    """Return what gives the token: of the configuration, else of the environment."""
    found: Secret | None = None
    if config.token is not None:
        found = resolve(config.token)
    else:
        # A line end comes along where a shell read it from a file, and would be part of no token.
        values = (os.environ.get(name, "").strip() for name in _TOKENS.get(place.kind, ()))
        named = next(filter(None, values), None)
        # A token of the environment is meant for the public forge; one's own forge gets its token by configuration.
        public = config.api is None and place.host is None
        if named and (public or place.kind in {"gitea", "forgejo"}):
            found = Secret(named)
    return lambda: found


class _Addresses:
    """A file that lists URLs and folders, as a forge: an address that holds a password gives it to git alone."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._logins: dict[str, Secret] = {}

    def entries(self) -> Iterator[Repository | Skipped | Nested]:
        """Yield what the file lists."""
        for each in listed(self._path):
            if isinstance(each, Skipped):
                yield each
            elif is_url(each):
                yield self._repository(each)
            else:
                yield Nested(each)

    def _repository(self, url: str) -> Repository:
        shown = without_user(url)
        if url.startswith(("http://", "https://")) and shown != url:
            self._logins[shown] = Secret(unquote(urlsplit(url).netloc.rpartition("@")[0]))
            url = shown
        return Repository(name=shown, url=url, id=f"list:{shown}")

    def repositories(self) -> Iterator[Repository | Skipped]:
        """Yield the URLs of the file."""
        for each in self.entries():
            if not isinstance(each, Nested):
                yield each

    def login(self, url: str) -> Secret | None:
        """Return the user and password that the address held."""
        return self._logins.get(without_user(url))

    def origin(self, fork: Repository) -> str:
        """Return what the list told."""
        return fork.origin

    def lost(self, _repository: Repository) -> Iterator[str]:
        """Yield nothing: a list knows of no pushes."""
        yield from ()
