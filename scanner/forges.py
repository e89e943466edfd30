"""GitHub, GitLab and Gitea: how each is asked which repositories an organisation has.

Each class reads the fields it needs into records of its own (msgspec: other fields are passed by, a wrong type is an
error) and yields the same `Repository`. Sources: the REST reference of each forge, named at its class.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final
from urllib.parse import quote

import msgspec

from firedamp.scanner.forge import Repository, commits, own_host
from firedamp.scanner.web import Web, linked, read, refusal
from firedamp.storage.errors import SourceFailure
from firedamp.storage.records import Outcome, Skipped
from firedamp.storage.secret import Secret

Token = Callable[[], Secret | None]
"""Gives the token for the next request: made anew where it expires, None without one."""

_EVENT_PAGES: Final = 3
"""Pages of events that are read: GitHub keeps no more than 300 events."""


class _GitHubRepository(msgspec.Struct):
    id: int
    full_name: str
    clone_url: str
    size: int = 0
    archived: bool = False
    fork: bool = False
    topics: list[str] = []
    has_wiki: bool = False
    pushed_at: str | None = None


class _Root(msgspec.Struct):
    id: int


class _GitHubFork(msgspec.Struct):
    source: _Root | None = None


class _Gist(msgspec.Struct):
    id: str
    git_pull_url: str


class _Account(msgspec.Struct):
    login: str
    type: str = "User"


class _Push(msgspec.Struct):
    before: str | None = None


class _Event(msgspec.Struct):
    type: str
    payload: _Push


class GitHub:
    """Organisations and users of GitHub and GitHub Enterprise. docs.github.com/rest: repos, gists, activity/events."""

    def __init__(self, web: Web, api: str, name: str, token: Token) -> None:
        self._web, self._api, self._name, self._token = web, api.rstrip("/"), name, token

    def _headers(self) -> dict[str, str]:
        headers = {"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28"}
        token = self._token()
        return headers if token is None else headers | {"Authorization": f"Bearer {token.reveal()}"}

    def repositories(self) -> Iterator[Repository | Skipped]:
        """Yield an organisation's repositories, or a user's and the gists; each with its wiki."""
        name = quote(self._name, safe="")
        url = f"{self._api}/users/{name}"
        account = read(self._web.ask(url, self._headers()), _Account, url)
        person = account.type != "Organization"
        if not person:
            url = f"{self._api}/orgs/{name}/repos?per_page=100&type=all"
        elif self._is_me(account.login):
            url = f"{self._api}/user/repos?per_page=100&affiliation=owner"
        else:
            url = f"{self._api}/users/{name}/repos?per_page=100&type=owner"
        for page in linked(self._web, url, self._headers, list[_GitHubRepository]):
            for each in page:
                found = Repository(
                    name=each.full_name, url=each.clone_url, id=f"github:{each.id}", size=each.size * 1024,
                    archived=each.archived, fork=each.fork, topics=tuple(each.topics), ref=each.full_name,
                    pushed=each.pushed_at or "",
                )  # fmt: skip
                yield found
                if each.has_wiki:
                    yield part_of(found, "wiki", each.clone_url.removesuffix(".git") + ".wiki.git")
        if person:
            url = f"{self._api}/users/{name}/gists?per_page=100"
            for gists in linked(self._web, url, self._headers, list[_Gist]):
                for gist in gists:
                    yield Repository(
                        name=f"{self._name}/gist/{gist.id}", url=gist.git_pull_url, id=f"gist:{gist.id}", part="gist"
                    )

    def _is_me(self, login: str) -> bool:
        if self._token() is None:
            return False
        answer = self._web.ask(f"{self._api}/user", self._headers())
        # An installation token has no user: 403.
        return answer.status == 200 and read(answer, _Account, self._api).login == login

    def login(self, url: str) -> Secret | None:
        """Return the token as git's password."""
        return git_login("x-access-token", self._token, url, self._api)

    def origin(self, fork: Repository) -> str:
        """Ask for the repository at the root of the fork's network: the list does not tell it."""
        url = f"{self._api}/repos/{quote(fork.ref)}"
        whole = read(self._web.ask(url, self._headers()), _GitHubFork, url)
        return "" if whole.source is None else f"github:{whole.source.id}"

    def lost(self, repository: Repository) -> Iterator[str]:
        """Yield what pushes of the last days replaced: events hold `before`, and are kept for 30 days."""
        if repository.ref:
            url = f"{self._api}/repos/{quote(repository.ref)}/events?per_page=100"
            pages = linked(self._web, url, self._headers, list[_Event])
            events = (event for _, page in zip(range(_EVENT_PAGES), pages, strict=False) for event in page)
            yield from commits(event.payload.before for event in events if event.type == "PushEvent")


class _Statistics(msgspec.Struct):
    repository_size: int = 0


class _GitLabProject(msgspec.Struct):
    id: int
    path_with_namespace: str
    http_url_to_repo: str
    archived: bool = False
    forked_from_project: _Root | None = None
    topics: list[str] = []
    wiki_enabled: bool = False
    snippets_enabled: bool = False
    statistics: _Statistics | None = None
    last_activity_at: str | None = None


class _GitLabSnippet(msgspec.Struct):
    id: int
    http_url_to_repo: str | None = None


class _GitLabPush(msgspec.Struct):
    commit_from: str | None = None


class _GitLabEvent(msgspec.Struct):
    push_data: _GitLabPush | None = None


class GitLab:
    """Groups with their subgroups, and users, of GitLab. docs.gitlab.com/api: groups, projects, snippets, events."""

    def __init__(self, web: Web, api: str, name: str, token: Token, *, parts: bool = True) -> None:
        self._web, self._api, self._name, self._token, self._parts = web, api.rstrip("/"), name, token, parts

    def _headers(self) -> dict[str, str]:
        token = self._token()
        return {} if token is None else {"Authorization": f"Bearer {token.reveal()}"}

    def repositories(self) -> Iterator[Repository | Skipped]:
        """Yield the projects of a group and of the groups below it, each with its wiki and snippets."""
        name = quote(self._name, safe="")
        query = "per_page=100&order_by=id&sort=asc" + ("&statistics=true" if self._token() is not None else "")
        url = f"{self._api}/groups/{name}"
        answer = self._web.ask(f"{url}?with_projects=false", self._headers())
        if answer.status == 404:
            url = f"{self._api}/users/{name}/projects?{query}"
        elif answer.status != 200:
            raise refusal(answer, url)
        else:
            url = f"{url}/projects?include_subgroups=true&with_shared=false&{query}"
        for page in linked(self._web, url, self._headers, list[_GitLabProject]):
            for each in page:
                yield from self._whole(each)

    def _whole(self, each: _GitLabProject) -> Iterator[Repository | Skipped]:
        found = Repository(
            name=each.path_with_namespace, url=each.http_url_to_repo, id=f"gitlab:{each.id}",
            size=None if each.statistics is None else each.statistics.repository_size, archived=each.archived,
            fork=each.forked_from_project is not None,
            topics=tuple(each.topics), ref=str(each.id),
            origin="" if each.forked_from_project is None else f"gitlab:{each.forked_from_project.id}",
            pushed=each.last_activity_at or "",
        )  # fmt: skip
        yield found
        if each.wiki_enabled:
            yield part_of(found, "wiki", each.http_url_to_repo.removesuffix(".git") + ".wiki.git")
        if not (each.snippets_enabled and self._parts):
            return
        url = f"{self._api}/projects/{each.id}/snippets?per_page=100"
        try:
            for page in linked(self._web, url, self._headers, list[_GitLabSnippet]):
                for snippet in page:
                    if snippet.http_url_to_repo is not None:
                        yield part_of(found, "snippet", snippet.http_url_to_repo)
        except SourceFailure as failure:
            yield Skipped(outcome=Outcome.FAILED, what=f"{found.url} snippets", why=str(failure))

    def login(self, url: str) -> Secret | None:
        """Return the token as git's password."""
        return git_login("oauth2", self._token, url, self._api)

    def origin(self, fork: Repository) -> str:
        """Return what the list told."""
        return fork.origin

    def lost(self, repository: Repository) -> Iterator[str]:
        """Yield what pushes replaced: push events hold `commit_from`."""
        if repository.ref:
            url = f"{self._api}/projects/{repository.ref}/events?action=pushed&per_page=100"
            pages = linked(self._web, url, self._headers, list[_GitLabEvent])
            events = (event for _, page in zip(range(_EVENT_PAGES), pages, strict=False) for event in page)
            yield from commits(event.push_data.commit_from for event in events if event.push_data is not None)


class _GiteaRepository(msgspec.Struct):
    id: int
    full_name: str
    clone_url: str
    size: int = 0
    archived: bool = False
    fork: bool = False
    topics: list[str] | None = None
    has_wiki: bool = False
    parent: _Root | None = None


class Gitea:
    """Organisations and users of Gitea and Forgejo. docs.gitea.com/api: orgs, users."""

    def __init__(self, web: Web, api: str, name: str, token: Token) -> None:
        self._web, self._api, self._name, self._token = web, api.rstrip("/"), name, token

    def _headers(self) -> dict[str, str]:
        token = self._token()
        return {} if token is None else {"Authorization": f"token {token.reveal()}"}

    def repositories(self) -> Iterator[Repository | Skipped]:
        """Yield an organisation's repositories, or a user's; each with its wiki."""
        name = quote(self._name, safe="")
        url = f"{self._api}/orgs/{name}"
        answer = self._web.ask(url, self._headers())
        if answer.status not in {200, 404}:
            raise refusal(answer, url)
        url = f"{self._api}/{'orgs' if answer.status == 200 else 'users'}/{name}/repos?limit=50"
        for page in linked(self._web, url, self._headers, list[_GiteaRepository]):
            for each in page:
                found = Repository(
                    name=each.full_name, url=each.clone_url, id=f"gitea:{each.id}", size=each.size * 1024,
                    archived=each.archived, fork=each.fork, topics=tuple(each.topics or ()),
                    origin="" if each.parent is None else f"gitea:{each.parent.id}",
                )  # fmt: skip
                yield found
                if each.has_wiki:
                    yield part_of(found, "wiki", each.clone_url.removesuffix(".git") + ".wiki.git")

    def login(self, url: str) -> Secret | None:
        """Return the token as git's password."""
        return git_login("oauth2", self._token, url, self._api)

    def origin(self, fork: Repository) -> str:
        """Return what the list told."""
        return fork.origin

    def lost(self, _repository: Repository) -> Iterator[str]:
        """Yield nothing: Gitea's activities name no commit that a push replaced."""
        yield from ()


def part_of(whole: Repository, part: str, url: str) -> Repository:
    """Return a wiki or snippet, which has the properties of its repository but not the size."""
    name = f"{whole.name}.{part}" if part == "wiki" else f"{whole.name}/{part}/{url.rpartition('/')[2]}"
    identity = f"{whole.id}.{name.rpartition('/')[2]}" if part != "wiki" else f"{whole.id}.wiki"
    return Repository(
        name=name, url=url, id=identity, archived=whole.archived, fork=whole.fork, topics=whole.topics, part=part
    )


def git_login(user: str, token: Token, url: str, api: str) -> Secret | None:
    """Return `user:token` for an address on the forge's own host. A token that is a pair already stays one."""
    secret = token() if own_host(url, api) else None
    if secret is None:
        return None
    text = secret.reveal()
    return secret if ":" in text else Secret(f"{user}:{text}")
