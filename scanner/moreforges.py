"""Bitbucket, Azure DevOps and AWS CodeCommit: how each is asked which repositories there are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol, TypeVar
from urllib.parse import quote

import msgspec

from firedamp.scanner.fetch import basic, without_user
from firedamp.scanner.forge import Repository, first_https, own_host
from firedamp.scanner.forges import Token, git_login, part_of
from firedamp.scanner.web import Web, first, onward, read
from firedamp.storage.errors import SourceFailure
from firedamp.storage.records import Outcome, Skipped
from firedamp.storage.secret import Secret


class _Link(msgspec.Struct):
    href: str
    name: str = ""


class _Links(msgspec.Struct):
    clone: list[_Link] = []

    def https(self) -> str:
        return first_https([(link.name, link.href) for link in self.clone])


class _CloudOrigin(msgspec.Struct):
    uuid: str


class _CloudRepository(msgspec.Struct):
    uuid: str
    full_name: str
    links: _Links
    size: int = 0
    parent: _CloudOrigin | None = None
    has_wiki: bool = False


class _CloudPage(msgspec.Struct):
    values: list[_CloudRepository]
    next: str | None = None


class _Snippet(msgspec.Struct):
    id: str
    links: _Links


class _SnippetPage(msgspec.Struct):
    values: list[_Snippet]
    next: str | None = None


P = TypeVar("P", _CloudPage, _SnippetPage)


class Bitbucket:
    """Workspaces of Bitbucket Cloud. developer.atlassian.com/cloud/bitbucket/rest: repositories, snippets."""

    def __init__(self, web: Web, api: str, name: str, token: Token, *, parts: bool = True) -> None:
        self._web, self._api, self._name, self._token, self._parts = web, api.rstrip("/"), name, token, parts

    def _headers(self) -> dict[str, str]:
        return _bearer_or_pair(self._token())

    def repositories(self) -> Iterator[Repository | Skipped]:
        """Yield a workspace's repositories, each with its wiki, then its snippets."""
        name = quote(self._name, safe="")
        for page in self._pages(f"{self._api}/repositories/{name}?pagelen=100", _CloudPage):
            for each in page.values:
                found = Repository(
                    name=each.full_name, url=each.links.https(), id=f"bitbucket:{each.uuid}", size=each.size,
                    fork=each.parent is not None,
                    origin="" if each.parent is None else f"bitbucket:{each.parent.uuid}",
                )  # fmt: skip
                yield found
                if each.has_wiki:
                    yield part_of(found, "wiki", found.url.removesuffix(".git") + ".git/wiki")
        if not self._parts:
            return
        for snippets in self._pages(f"{self._api}/snippets/{name}?pagelen=100", _SnippetPage):
            for snippet in snippets.values:
                yield Repository(
                    name=f"{self._name}/snippet/{snippet.id}", url=snippet.links.https(),
                    id=f"bitbucket:snippet:{snippet.id}", part="snippet",
                )  # fmt: skip

    def _pages(self, url: str, kind: type[P]) -> Iterator[P]:
        """Yield pages that name the next one in their body."""
        at: str | None = url
        met = set[str]()
        while at is not None:
            page = read(self._web.ask(first(at, met), self._headers()), kind, at)
            yield page
            at = onward(at, page.next)

    def login(self, url: str) -> Secret | None:
        """Return the token as git's password; of a pair (mail and API token) git takes the token alone."""
        secret = self._token()
        if secret is not None and ":" in secret.reveal() and own_host(url, self._api):
            return Secret("x-bitbucket-api-token-auth:" + secret.reveal().partition(":")[2])
        return git_login("x-token-auth", self._token, url, self._api)

    def origin(self, fork: Repository) -> str:
        """Return what the list told."""
        return fork.origin

    def lost(self, _repository: Repository) -> Iterator[str]:
        """Yield nothing: Bitbucket tells of no pushes."""
        yield from ()


class _Project(msgspec.Struct):
    key: str


class _ServerOrigin(msgspec.Struct):
    id: int


class _ServerRepository(msgspec.Struct):
    id: int
    slug: str
    project: _Project
    links: _Links
    archived: bool = False
    origin: _ServerOrigin | None = None


class _ServerPage(msgspec.Struct):
    values: list[_ServerRepository]
    isLastPage: bool = True  # noqa: N815 - as the API names it
    nextPageStart: int | None = None  # noqa: N815


class BitbucketServer:
    """Projects of Bitbucket Data Center, or all of them. developer.atlassian.com/server/bitbucket/rest: project."""

    def __init__(self, web: Web, api: str, name: str, token: Token) -> None:
        self._web, self._api, self._name, self._token = web, api.rstrip("/"), name, token

    def repositories(self) -> Iterator[Repository | Skipped]:
        """Yield the repositories of a project, of a person (`~name`), or of the whole host without a name."""
        below = f"/projects/{quote(self._name, safe='~')}/repos" if self._name else "/repos"
        start: int | None = 0
        met = set[str]()
        while start is not None:
            url = f"{self._api}/rest/api/1.0{below}?limit=100&start={start}"
            page = read(self._web.ask(first(url, met), _bearer_or_pair(self._token())), _ServerPage, url)
            for each in page.values:
                yield Repository(
                    name=f"{each.project.key}/{each.slug}", url=each.links.https(), id=f"bitbucket:{each.id}",
                    archived=each.archived, fork=each.origin is not None,
                    origin="" if each.origin is None else f"bitbucket:{each.origin.id}",
                )  # fmt: skip
            start = None if page.isLastPage else page.nextPageStart

    def login(self, url: str) -> Secret | None:
        """Return the token as git's password."""
        return git_login("x-token-auth", self._token, url, self._api)

    def origin(self, fork: Repository) -> str:
        """Return what the list told."""
        return fork.origin

    def lost(self, _repository: Repository) -> Iterator[str]:
        """Yield nothing: the host's events go to those who subscribed only."""
        yield from ()


class _AzureProject(msgspec.Struct):
    name: str


class _AzureRepository(msgspec.Struct):
    id: str
    name: str
    remoteUrl: str  # noqa: N815
    project: _AzureProject
    size: int = 0
    isDisabled: bool = False  # noqa: N815
    isFork: bool = False  # noqa: N815


class _AzureParent(msgspec.Struct):
    id: str


class _AzureFork(msgspec.Struct):
    parentRepository: _AzureParent | None = None  # noqa: N815


class _AzureList(msgspec.Struct):
    value: list[_AzureRepository]


class _AzureWiki(msgspec.Struct):
    id: str
    name: str
    type: str = ""


class _AzureWikis(msgspec.Struct):
    value: list[_AzureWiki]


class Azure:
    """Projects of Azure DevOps, or a whole organisation. learn.microsoft.com/rest/api/azure/devops: git, wiki 7.1."""

    def __init__(self, web: Web, api: str, name: str, token: Token) -> None:
        self._web, self._api, self._name, self._token = web, api.rstrip("/"), name, token

    def _read(self, path: str, kind: type[Any]) -> Any:
        secret = self._token()
        headers = {} if secret is None else {"Authorization": basic(b":" + secret.reveal().encode())}
        url = f"{self._api}/{quote(self._name)}/_apis/{path}?api-version=7.1"
        # Without a right token it answers 203, or 302, with a page to sign in.
        return read(self._web.ask(url, headers), kind, url)

    def repositories(self) -> Iterator[Repository | Skipped]:
        """Yield the repositories, then the wikis that are repositories of their own."""
        found: _AzureList = self._read("git/repositories", _AzureList)
        for each in found.value:
            url = without_user(each.remoteUrl)
            if each.isDisabled:
                yield Skipped(outcome=Outcome.LEFT_OUT, what=url, why="disabled on the forge")
                continue
            yield Repository(
                name=f"{each.project.name}/{each.name}", url=url, id=f"azure:{each.id}", size=each.size,
                fork=each.isFork,
            )  # fmt: skip
        if "/" not in self._name:
            where = f"{self._api}/{quote(self._name)} wikis"
            why = f"wikis of Azure DevOps are listed by project: azure:{self._name}/PROJECT"
            yield Skipped(outcome=Outcome.LEFT_OUT, what=where, why=why)
            return
        wikis: _AzureWikis = self._read("wiki/wikis", _AzureWikis)
        for wiki in wikis.value:
            if wiki.type == "projectWiki":
                url = f"{self._api}/{quote(self._name)}/_git/{quote(wiki.name)}"
                yield Repository(name=wiki.name, url=url, id=f"azure:{wiki.id}", part="wiki")

    def login(self, url: str) -> Secret | None:
        """Return the token as git's password; the user does not matter."""
        return git_login("firedamp", self._token, url, self._api)

    def origin(self, fork: Repository) -> str:
        """Ask for the repository it was forked from: the list does not tell it."""
        one: _AzureFork = self._read(f"git/repositories/{quote(fork.id.removeprefix('azure:'))}", _AzureFork)
        return "" if one.parentRepository is None else f"azure:{one.parentRepository.id}"

    def lost(self, _repository: Repository) -> Iterator[str]:
        """Yield nothing: pushes are told a repository at a time and without what they replaced."""
        yield from ()


class CodeCommitClient(Protocol):
    """The two calls that are made, as boto3's `codecommit` client has them."""

    def list_repositories(self, **options: str) -> dict[str, Any]:
        """Return `repositories` (name, id) and, if there are more, `nextToken`."""
        ...

    def batch_get_repositories(self, *, repositoryNames: list[str]) -> dict[str, Any]:  # noqa: N803 - boto3's names
        """Return `repositories` with `cloneUrlHttp`, up to 100."""
        ...


class CodeCommit:
    """The repositories of an account in one region. sign makes git's user and password for an address (SigV4)."""

    def __init__(self, client: CodeCommitClient, sign: Callable[[str], Secret]) -> None:
        self._client, self._sign = client, sign

    def repositories(self) -> Iterator[Repository | Skipped]:
        """Yield them, as ListRepositories pages them. Raises SourceFailure with AWS's own words."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield from self._listed()
        except (BotoCoreError, ClientError) as error:
            why = f"CodeCommit cannot be listed: {error}"
            raise SourceFailure(why, "codecommit:ListRepositories and BatchGetRepositories are needed") from error

    def _listed(self) -> Iterator[Repository]:
        options = dict[str, str]()
        met = set[str]()
        while True:
            first(f"CodeCommit {options.get('nextToken', '')}", met)
            page = self._client.list_repositories(**options)
            names = [each["repositoryName"] for each in page["repositories"]]
            for at in range(0, len(names), 100):
                told = self._client.batch_get_repositories(repositoryNames=names[at : at + 100])
                for each in told["repositories"]:
                    yield Repository(
                        name=each["repositoryName"], url=each["cloneUrlHttp"], id=f"codecommit:{each['repositoryId']}"
                    )
            if not page.get("nextToken"):
                break
            options = {"nextToken": page["nextToken"]}

    def login(self, url: str) -> Secret | None:
        """Return a signature as git's password: good for 15 minutes, so made for each fetch."""
        return self._sign(url)

    def origin(self, fork: Repository) -> str:
        """Return what the list told."""
        return fork.origin

    def lost(self, _repository: Repository) -> Iterator[str]:
        """Yield nothing: CodeCommit's events go to EventBridge only."""
        yield from ()


def _bearer_or_pair(secret: Secret | None) -> dict[str, str]:
    """Return the header for a token, or for `user:password` where that is what was given."""
    if secret is None:
        return {}
    text = secret.reveal()
    return {"Authorization": basic(text.encode()) if ":" in text else f"Bearer {text}"}
