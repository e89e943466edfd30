"""Forges: what they list, how limits are waited for, and what is said of a refusal."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from tests import faults
from tests.forges import Reply, Request, Server, paged

from firedamp.scanner import web as waiting
from firedamp.scanner.forge import Repository, Wanted, chosen, listed, own_host, where
from firedamp.scanner.forges import Gitea, GitHub, GitLab
from firedamp.scanner.installation import InstallationToken
from firedamp.scanner.moreforges import Azure, Bitbucket, BitbucketServer, CodeCommit
from firedamp.scanner.web import Web
from firedamp.storage.errors import SourceFailure, UsageFailure
from firedamp.storage.records import Outcome, Skipped
from firedamp.storage.secret import Secret


class Clock:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.at = 1_000_000.0
        self.slept: list[float] = []

    def now(self) -> float:
        return self.at

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.at += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def web(clock: Clock) -> Web:
    return Web(clock.now, clock.sleep)


class Api:
    """A server whose replies a test writes: path -> reply, or a list that is paged."""

    def __init__(self, tmp_path: Path) -> None:
        self.replies: dict[str, Any] = {}
        self.server = Server(tmp_path, self.answer)
        self.url = self.server.url

    def answer(self, request: Request) -> Reply | None:
        reply = self.replies.get(request.path)
        if callable(reply):
            reply = reply(request)
        if isinstance(reply, list):
            return paged(request, self.url, reply)
        return reply if reply is None or isinstance(reply, Reply) else Reply(reply)


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    made = Api(tmp_path)
    with made.server.running():
        yield made


def token() -> Secret | None:
    return Secret("token-of-the-test")


def nobody() -> Secret | None:
    return None


def github(url: str, number: int, **more: object) -> dict[str, object]:
    return {"id": number, "full_name": f"acme/r{number}", "clone_url": f"{url}/acme/r{number}.git", "size": 3} | more


def repositories(found: Iterator[Repository | Skipped]) -> list[Repository]:
    return [each for each in found if isinstance(each, Repository)]


def names(found: Iterator[Repository | Skipped]) -> list[str]:
    return [each.name for each in repositories(found)]


def test_an_organisation_of_github_is_read_page_by_page(api: Api, web: Web) -> None:
    api.replies["/api/v3/users/acme"] = {"login": "acme", "type": "Organization"}
    many = [github(api.url, number, topics=["x"], has_wiki=number == 2, license=None) for number in range(5)]
    api.replies["/api/v3/orgs/acme/repos"] = many
    found = repositories(GitHub(web, f"{api.url}/api/v3", "acme", token).repositories())
    assert [each.name for each in found] == ["acme/r0", "acme/r1", "acme/r2", "acme/r2.wiki", "acme/r3", "acme/r4"]
    assert found[0] == Repository(
        name="acme/r0", url=f"{api.url}/acme/r0.git", id="github:0", size=3072, topics=("x",), ref="acme/r0"
    )
    assert found[3].url == f"{api.url}/acme/r2.wiki.git"
    assert {each.headers["authorization"] for each in api.server.asked} == {"Bearer token-of-the-test"}


def test_a_user_of_github_has_gists_and_sees_the_private_ones_with_an_own_token(api: Api, web: Web) -> None:
    api.replies |= {
        "/users/ada": {"login": "ada", "type": "User"},
        "/users/ada/repos": [github(api.url, 1)],
        "/user/repos": [github(api.url, 1), github(api.url, 2, private=True)],
        "/user": {"login": "ada"},
        "/users/ada/gists": [{"id": "f00", "git_pull_url": f"{api.url}/f00.git"}],
    }
    assert names(GitHub(web, api.url, "ada", nobody).repositories()) == ["acme/r1", "ada/gist/f00"]
    assert names(GitHub(web, api.url, "ada", token).repositories()) == ["acme/r1", "acme/r2", "ada/gist/f00"]
    api.replies["/user"] = Reply({"message": "Resource not accessible by integration"}, 403)
    assert names(GitHub(web, api.url, "ada", token).repositories()) == ["acme/r1", "ada/gist/f00"]


def test_commits_that_pushes_replaced_are_told_by_github_and_gitlab(api: Api, web: Web) -> None:
    old, older = "a" * 40, "b" * 40
    api.replies["/repos/acme/r1/events"] = [
        {"type": "PushEvent", "payload": {"before": old, "head": "c" * 40}},
        {"type": "WatchEvent", "payload": {"action": "started"}},
        {"type": "PushEvent", "payload": {"before": "0" * 40}},
        {"type": "PushEvent", "payload": {"before": older}},
        {"type": "PushEvent", "payload": {"before": old}},
        {"type": "PushEvent", "payload": {"before": "no; commit"}},
    ]
    api.replies["/projects/7/events"] = [{"push_data": {"commit_from": old}}, {"push_data": None}, {}]
    repository = Repository(name="acme/r1", url="", id="", ref="acme/r1")
    assert list(GitHub(web, api.url, "acme", nobody).lost(repository)) == [old, older]
    assert list(GitLab(web, api.url, "acme", nobody).lost(Repository(name="", url="", id="", ref="7"))) == [old]
    assert list(GitHub(web, api.url, "acme", nobody).lost(Repository(name="gist", url="", id=""))) == []
    assert list(Gitea(web, api.url, "acme", nobody).lost(repository)) == []


def test_the_root_of_a_forks_network_is_asked_of_github(api: Api, web: Web) -> None:
    forge = GitHub(web, api.url, "acme", token)
    fork = Repository(name="acme/r1", url=f"{api.url}/acme/r1.git", id="github:1", fork=True, ref="acme/r1")
    api.replies["/repos/acme/r1"] = github(api.url, 1, parent={"id": 5}, source={"id": 7})
    assert forge.origin(fork) == "github:7"
    api.replies["/repos/acme/r1"] = github(api.url, 1)
    assert forge.origin(fork) == ""


def gitlab(url: str, number: int, **more: object) -> dict[str, object]:
    path = f"acme/sub/r{number}"
    return {"id": number, "path_with_namespace": path, "http_url_to_repo": f"{url}/{path}.git"} | more


def test_a_group_of_gitlab_is_read_with_its_subgroups_wikis_and_snippets(api: Api, web: Web) -> None:
    api.replies["/api/v4/groups/acme/sub"] = {"id": 1}
    api.replies["/api/v4/groups/acme/sub/projects"] = [
        gitlab(api.url, 1, wiki_enabled=True, snippets_enabled=True, statistics={"repository_size": 10}),
        gitlab(api.url, 2, forked_from_project={"id": 1}, archived=True),
        gitlab(api.url, 3, forked_from_project=None, snippets_enabled=True),
    ]
    api.replies["/api/v4/projects/1/snippets"] = [
        {"id": 5, "http_url_to_repo": f"{api.url}/acme/sub/r1/snippets/5.git"},
        {"id": 6},
    ]
    found = list(GitLab(web, f"{api.url}/api/v4", "acme/sub", token).repositories())
    assert names(iter(found)) == [
        "acme/sub/r1", "acme/sub/r1.wiki", "acme/sub/r1/snippet/5.git", "acme/sub/r2", "acme/sub/r3"
    ]  # fmt: skip
    (failed,) = [each for each in found if isinstance(each, Skipped)]
    assert failed.outcome is Outcome.FAILED
    assert failed.what.endswith("r3.git snippets")
    first, fork = repositories(iter(found))[0], repositories(iter(found))[3]
    assert (first.size, first.fork, fork.fork, fork.archived) == (10, False, True, True)
    assert (first.origin, fork.origin) == ("", "gitlab:1")
    (asked,) = [each for each in api.server.asked if each.path.endswith("/projects") and "page" not in each.query]
    assert asked.query["include_subgroups"] == "true"
    assert asked.query["statistics"] == "true"


def test_a_user_of_gitlab_is_found_where_no_group_has_the_name(api: Api, web: Web) -> None:
    api.replies["/users/ada/projects"] = [gitlab(api.url, 1)]
    assert names(GitLab(web, api.url, "ada", nobody).repositories()) == ["acme/sub/r1"]
    api.replies["/groups/ada"] = Reply({}, 401)
    with pytest.raises(SourceFailure, match=r"answers 401 .is the token right"):
        list(GitLab(web, api.url, "ada", nobody).repositories())


def test_gitea_lists_organisations_and_users(api: Api, web: Web) -> None:
    one = {"id": 1, "full_name": "acme/r", "clone_url": f"{api.url}/acme/r.git", "size": 2, "has_wiki": True}
    api.replies |= {
        "/orgs/acme": {"id": 9},
        "/orgs/acme/repos": [one] * 3,
        "/users/ada/repos": [one | {"topics": None}],
    }
    found = repositories(chosen(Gitea(web, api.url, "acme", token), Wanted()))
    assert [each.name for each in found] == ["acme/r", "acme/r.wiki"]
    api.replies["/users/bo/repos"] = [one | {"fork": True, "parent": {"id": 7, "full_name": "x/r"}}]
    forge = Gitea(web, api.url, "bo", nobody)
    assert forge.origin(repositories(forge.repositories())[0]) == "gitea:7"
    assert found[0].size == 2048
    assert api.server.asked[0].headers["authorization"] == "token token-of-the-test"
    assert names(Gitea(web, api.url, "ada", nobody).repositories()) == ["acme/r", "acme/r.wiki"]
    api.replies["/orgs/acme"] = Reply({}, 403)
    with pytest.raises(SourceFailure, match="answers 403"):
        list(Gitea(web, api.url, "acme", nobody).repositories())


# Filters.


class Fixed:
    """A forge that lists what a test says."""

    def __init__(self, *found: Repository | Skipped) -> None:
        self.found = found

    def repositories(self) -> Iterator[Repository | Skipped]:
        yield from self.found

    def login(self, url: str) -> Secret | None:
        return None

    def origin(self, fork: Repository) -> str:
        return fork.origin

    def lost(self, repository: Repository) -> Iterator[str]:
        yield from ()


def repository(name: str, **more: Any) -> Repository:
    return Repository(name=f"acme/{name}", url=f"https://h.example/{name}.git", id=name, **more)


def test_each_filter_leaves_out_and_says_why() -> None:
    forge = Fixed(
        repository("kept", topics=("prod",), size=10), repository("old", archived=True), repository("copy", fork=True),
        repository("other"), repository("kept-not", topics=("prod",)), repository("no-topic", topics=("dev",)),
        repository("big", topics=("prod",), size=11), repository("wiki", part="wiki"), repository("kept"),
    )  # fmt: skip
    wanted = Wanted(
        archived=False, forks=False, include=("KEPT*", "acme/[bno]*", "acme/wiki"), exclude=("*-not", "other"),
        topics=("prod",), max_bytes=10, parts=False,
    )  # fmt: skip
    found = list(chosen(forge, wanted))
    assert names(iter(found)) == ["acme/kept"]
    assert [each.why for each in found if isinstance(each, Skipped)] == [
        "archived", "a fork", "its name fits an exclude pattern", "its name fits an exclude pattern",
        "it has none of the topics", "larger than max_bytes", "a wiki, and wikis is off",
    ]  # fmt: skip
    assert next(iter(chosen(Fixed(repository("x")), Wanted(include=("y",))))) == Skipped(
        outcome=Outcome.LEFT_OUT, what="https://h.example/x.git", why="its name fits no include pattern"
    )


@pytest.mark.parametrize(
    "url", ["file:///etc", "ext::sh -c id", "http://h.example/x", "ssh://h/x", "", "http://[x", "https://h:x/"]
)
def test_an_address_that_is_not_https_is_never_fetched_for_a_forge(url: str) -> None:
    (found,) = chosen(Fixed(Repository(name="acme/x", url=url, id="1")), Wanted())
    assert isinstance(found, Skipped)
    assert found.outcome is Outcome.FAILED


def test_a_token_goes_to_the_forges_own_host_only(web: Web) -> None:
    forge = GitHub(web, "https://api.github.com", "acme", token)
    for url in ("https://github.com/acme/x.git", "https://gist.github.com/1.git"):
        login = forge.login(url)
        assert login is not None
        assert login.reveal() == "x-access-token:token-of-the-test"
    assert forge.login("https://github.com.evil.example/acme/x.git") is None
    assert forge.login("https://evilgithub.com/acme/x.git") is None
    assert GitLab(web, "https://gitlab.com/api/v4", "a", nobody).login("https://gitlab.com/a/b.git") is None
    pair = Gitea(web, "https://g.example/api/v1", "a", lambda: Secret("u:p")).login("https://g.example/a/b.git")
    assert pair is not None
    assert pair.reveal() == "u:p"
    assert own_host("https://ghe.example:8443/a/b.git", "https://ghe.example:8443/api/v3")


# Limits, refusals and hostile answers.


def test_limits_are_waited_for_as_the_host_asks(api: Api, web: Web, clock: Clock) -> None:
    replies = [
        Reply({}, 429, {"Retry-After": "7"}),
        Reply({"message": "API rate limit exceeded"}, 403,
              {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(int(clock.at) + 100)}),
        Reply({"message": "You have exceeded a secondary rate limit"}, 403),
        Reply({}, 429, {"Retry-After": "Mon, 12 Jan 1970 13:46:40 GMT"}),
        Reply({}, 502),
        Reply({"id": 9}),
    ]  # fmt: skip
    api.replies["/orgs/acme"] = lambda _: replies.pop(0)
    api.replies["/orgs/acme/repos"] = Reply([])
    assert names(Gitea(web, api.url, "acme", nobody).repositories()) == []
    assert clock.slept == [7.0, 94.0, 240.0, 1.0, 32.0]


def test_a_wait_is_bounded_and_said(api: Api, web: Web, clock: Clock) -> None:
    api.replies["/orgs/acme"] = Reply({}, 429, {"Retry-After": "86400"})
    with pytest.raises(SourceFailure, match=r"status 429; it asks to wait 86400 s more .try again later"):
        list(Gitea(web, api.url, "acme", nobody).repositories())
    assert clock.slept == []
    api.replies["/orgs/acme"] = Reply({}, 503)
    with pytest.raises(SourceFailure, match="after 6 requests: status 503"):
        list(Gitea(web, api.url, "acme", nobody).repositories())
    web = Web(clock.now, clock.sleep)
    with pytest.raises(SourceFailure, match=r"no answer \(ConnectionError\)"):
        list(Gitea(web, "http://127.0.0.1:1", "acme", nobody).repositories())


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (Reply({}, 404), "answers 404 .is the name right"),
        (Reply({}, 418), "answers 418"),
        (Reply(b"<html>"), "not the answer of this kind of forge"),
        (Reply(b"[" * 100_000), "not the answer of this kind of forge"),
        (Reply([{"id": "x"}]), "not the answer of this kind of forge"),
        (Reply(b" " * (33 << 20)), "larger than"),
        (Reply([], headers={"Link": '<http://127.0.0.2/x>; rel="next"'}), "a next page on another host"),
        (Reply([], headers={"Link": '<http://[x>; rel="next"'}), "a next page on another host"),
        (Reply([], headers={"Link": '<?per_page=100&type=all>; rel="next"'}), "has no end"),
        (Reply({}, 302, {"Location": "http://127.0.0.2/"}), "answers 302"),
    ],
)
def test_a_refusal_or_a_hostile_answer_is_said_with_its_place(api: Api, web: Web, reply: Reply, said: str) -> None:
    api.replies["/users/acme"] = {"login": "acme", "type": "Organization"}
    api.replies["/orgs/acme/repos"] = reply
    with pytest.raises(SourceFailure, match=said) as failure:
        list(GitHub(web, api.url, "acme", token).repositories())
    assert "token-of-the-test" not in str(failure.value)


def test_a_renamed_organisation_is_followed_on_the_same_host(api: Api, web: Web) -> None:
    api.replies["/users/old"] = Reply({}, 301, {"Location": "/users/new"})
    api.replies["/users/new"] = {"login": "new", "type": "Organization"}
    api.replies["/orgs/old/repos"] = Reply({}, 307, {"Location": f"{api.url}/orgs/new/repos"})
    api.replies["/orgs/new/repos"] = [github(api.url, 1)]
    assert names(GitHub(web, api.url, "old", token).repositories()) == ["acme/r1"]


def test_plain_http_is_for_this_machine_only(web: Web) -> None:
    with pytest.raises(SourceFailure, match=r"is not https .a token is never sent in the clear"):
        web.ask("http://forge.example/api", {})


def test_a_password_of_netrc_never_replaces_the_token(api: Api, web: Web) -> None:
    (Path.home() / ".netrc").write_text("machine 127.0.0.1 login a password b\n")
    (Path.home() / ".netrc").chmod(0o600)
    api.replies["/users/x"] = {"login": "x", "type": "Organization"}
    api.replies["/orgs/x/repos"] = []
    assert names(GitHub(web, api.url, "x", token).repositories()) == []
    assert {each.headers["authorization"] for each in api.server.asked} == {"Bearer token-of-the-test"}


# Targets and lists.


@pytest.mark.parametrize(
    ("target", "kind", "name", "host"),
    [
        ("github:acme", "github", "acme", None),
        ("github:https://ghe.example/acme", "github", "acme", "https://ghe.example"),
        ("gitlab:group/sub", "gitlab", "group/sub", None),
        ("gitlab:https://git.example/group/sub", "gitlab", "group/sub", "https://git.example"),
        ("gitea:https://u:p@git.example:3000/forge/acme/", "gitea", "acme", "https://git.example:3000/forge"),
        ("azure:org/project", "azure", "org/project", None),
    ],
)
def test_a_target_names_a_forge_and_an_organisation(target: str, kind: str, name: str, host: str | None) -> None:
    place = where(target)
    assert not isinstance(place, Path)
    assert (place.kind, place.name, place.host) == (kind, name, host)


@pytest.mark.parametrize(
    "target", ["github:", "gitea:acme", "nowhere:acme", "missing.txt", "gitlab:https://h.example/"]
)
def test_what_is_no_target_is_a_usage_error(target: str) -> None:
    with pytest.raises(UsageFailure) as failure:
        where(target)
    assert failure.value.hint


def test_a_file_lists_urls_and_folders(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    path = tmp_path / "list.txt"
    path.write_text(
        "# ours\n\nhttps://h.example/a.git  # why\nhttps://u:p@h.example/a.git\n"
        "  folder\ngit@h.example:b.git\nmissing\n"
        "https://[x/\n"
    )
    assert where(str(path)) == path
    found = list(listed(path))
    assert found[:3] == ["https://h.example/a.git", str(tmp_path / "folder"), "git@h.example:b.git"]
    assert isinstance(found[3], Skipped)
    assert found[3].why == f"no such folder (line 7 of {path})"
    assert found[4] == Skipped(outcome=Outcome.FAILED, what=f"line 8 of {path}", why="no address")
    with pytest.raises(SourceFailure, match="cannot be read"):
        list(listed(tmp_path / "none"))
    with path.open("r+b") as file:
        file.truncate(17 << 20)
    with pytest.raises(SourceFailure, match="is it a list"):
        list(listed(path))


# Bitbucket, Azure DevOps, CodeCommit, and the tokens of GitHub Apps.


def clone_links(url: str) -> dict[str, object]:
    return {"clone": [{"name": "ssh", "href": "git@h:x.git"}, {"name": "https", "href": url}]}


def test_a_workspace_of_bitbucket_is_read_with_wikis_and_snippets(api: Api, web: Web) -> None:
    one = {"uuid": "{1}", "full_name": "ws/one", "size": 5, "has_wiki": True,
           "links": clone_links("https://ada@bitbucket.org/ws/one.git")}  # fmt: skip
    two = {"uuid": "{2}", "full_name": "ws/two", "parent": {"uuid": "{1}"}, "links": clone_links("https://h/two.git")}
    pages = {"1": {"values": [one], "next": f"{api.url}/repositories/ws?page=2"}, "2": {"values": [two]}}
    api.replies["/repositories/ws"] = lambda request: Reply(pages[request.query.get("page", "1")])
    api.replies["/snippets/ws"] = {"values": [{"id": "s1", "links": clone_links("https://h/s1.git")}]}
    found = repositories(Bitbucket(web, api.url, "ws", token).repositories())
    assert [(each.name, each.part, each.fork) for each in found] == [
        ("ws/one", "", False), ("ws/one.wiki", "wiki", False), ("ws/two", "", True), ("ws/snippet/s1", "snippet", False)
    ]  # fmt: skip
    assert found[0].url == "https://bitbucket.org/ws/one.git"
    assert found[1].url == "https://bitbucket.org/ws/one.git/wiki"
    assert api.server.asked[0].headers["authorization"] == "Bearer token-of-the-test"
    assert names(Bitbucket(web, api.url, "ws", token, parts=False).repositories())[-1] == "ws/two"
    cloud = Bitbucket(web, "https://api.bitbucket.org/2.0", "ws", lambda: Secret("ada@h.example:t"))
    login = cloud.login("https://bitbucket.org/ws/one.git")
    assert login is not None
    assert login.reveal() == "x-bitbucket-api-token-auth:t"
    assert cloud.login("https://elsewhere.example/x.git") is None
    assert list(cloud.lost(found[0])) == []
    assert cloud.origin(found[2]) == "bitbucket:{1}"


def test_a_project_of_bitbucket_data_center_is_read_page_by_page(api: Api, web: Web) -> None:
    def page(request: Request) -> Reply:
        start = int(request.query["start"])
        one = {"id": start, "slug": f"r{start}", "project": {"key": "P"},
               "links": {"clone": [{"name": "http", "href": f"{api.url}/scm/p/r{start}.git"}]}}  # fmt: skip
        last = {"isLastPage": True} if start == 2 else {"isLastPage": False, "nextPageStart": start + 1}
        return Reply({"values": [one | ({"origin": {"id": 1}, "archived": True} if start else {})]} | last)

    api.replies["/rest/api/1.0/projects/P/repos"] = api.replies["/rest/api/1.0/repos"] = page
    forge = BitbucketServer(web, api.url, "P", lambda: Secret("u:p"))
    found = repositories(forge.repositories())
    assert [(each.name, each.fork, each.archived) for each in found] == [
        ("P/r0", False, False), ("P/r1", True, True), ("P/r2", True, True)
    ]  # fmt: skip
    assert api.server.asked[0].headers["authorization"].startswith("Basic ")
    assert forge.login(found[0].url) == Secret("u:p")
    assert list(forge.lost(found[0])) == []
    assert [forge.origin(each) for each in found] == ["", "bitbucket:1", "bitbucket:1"]
    assert names(BitbucketServer(web, api.url, "", nobody).repositories()) == ["P/r0", "P/r1", "P/r2"]


def test_a_project_of_azure_devops_is_read_with_its_wiki(api: Api, web: Web) -> None:
    one = {"id": "1", "name": "one", "remoteUrl": "https://org@dev.azure.com/org/p/_git/one", "project": {"name": "p"}}
    api.replies["/org/p/_apis/git/repositories"] = {"value": [one, one | {"id": "2", "isDisabled": True}]}
    api.replies["/org/_apis/git/repositories"] = {"value": [one]}
    api.replies["/org/p/_apis/wiki/wikis"] = {
        "value": [{"id": "w", "name": "p.wiki", "type": "projectWiki"}, {"id": "c", "name": "c", "type": "codeWiki"}]
    }
    forge = Azure(web, api.url, "org/p", token)
    found = list(forge.repositories())
    assert names(iter(found)) == ["p/one", "p.wiki"]
    assert repositories(iter(found))[0].url == "https://dev.azure.com/org/p/_git/one"
    assert repositories(iter(found))[1].url == f"{api.url}/org/p/_git/p.wiki"
    assert [each.why for each in found if isinstance(each, Skipped)] == ["disabled on the forge"]
    assert names(Azure(web, api.url, "org", nobody).repositories()) == ["p/one"]
    login = forge.login(f"{api.url}/org/p/_git/one")
    assert login is not None
    assert login.reveal() == "firedamp:token-of-the-test"
    assert list(forge.lost(repositories(iter(found))[0])) == []
    api.replies["/org/p/_apis/git/repositories/1"] = one | {"isFork": True, "parentRepository": {"id": "0"}}
    assert forge.origin(repositories(iter(found))[0]) == "azure:0"
    api.replies["/org/p/_apis/git/repositories/1"] = one
    assert forge.origin(repositories(iter(found))[0]) == ""
    api.replies["/org/p/_apis/git/repositories"] = Reply(b"<html>sign in", 203)
    with pytest.raises(SourceFailure, match=r"answers 203 .is the token right"):
        list(forge.repositories())


class CodeCommitStub:
    """CodeCommit's two calls over their own pages; moto has them not behind one endpoint with git."""

    def list_repositories(self, **options: str) -> dict[str, Any]:
        first = not options
        listed = [{"repositoryName": "one" if first else "two", "repositoryId": "x"}]
        return {"repositories": listed} | ({"nextToken": "more"} if first else {})

    def batch_get_repositories(self, *, repositoryNames: list[str]) -> dict[str, Any]:  # noqa: N803
        url = "https://git-codecommit.eu-west-1.amazonaws.com/v1/repos/"
        return {"repositories": [{"repositoryName": n, "repositoryId": n, "cloneUrlHttp": url + n}
                                 for n in repositoryNames]}  # fmt: skip


class Refusing(CodeCommitStub):
    def list_repositories(self, **options: str) -> dict[str, Any]:
        from botocore.exceptions import ClientError

        raise ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, "ListRepositories")


def test_the_repositories_of_codecommit_are_listed_through_a_client() -> None:
    forge = CodeCommit(CodeCommitStub(), lambda url: Secret(f"u:{url}"))
    found = repositories(forge.repositories())
    assert [each.name for each in found] == ["one", "two"]
    assert forge.login("x") == Secret("u:x")
    assert list(forge.lost(found[0])) == []
    with pytest.raises(SourceFailure, match="AccessDenied"):
        list(CodeCommit(Refusing(), lambda _: Secret("")).repositories())


def test_the_token_of_a_github_app_is_made_anew_before_it_ends(api: Api, web: Web, clock: Clock) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    made: list[str] = []

    def mint(request: Request) -> Reply:
        assert request.method == "POST"
        shown = jwt.decode(
            request.headers["authorization"].removeprefix("Bearer "), key.public_key(), algorithms=["RS256"],
            options={"verify_exp": False, "verify_iat": False},
        )  # fmt: skip
        assert shown["iss"] == "77"
        assert shown["exp"] - shown["iat"] <= 600
        made.append(f"t{len(made)}")
        ends = datetime.fromtimestamp(clock.at + 3600, UTC).isoformat()
        return Reply({"token": made[-1], "expires_at": ends}, 201)

    api.replies |= {"/orgs/acme/installation": {"id": 5}, "/app/installations/5/access_tokens": mint}
    give = InstallationToken(web, api.url, "acme", "77", Secret(pem))
    assert [give().reveal(), give().reveal()] == ["t0", "t0"]
    clock.at += 3100
    forge = GitHub(web, api.url, "acme", give)
    login = forge.login(f"{api.url}/acme/x.git")
    assert login is not None
    assert login.reveal() == "x-access-token:t1"
    with pytest.raises(SourceFailure, match="private key of GitHub App 77 cannot be used"):
        InstallationToken(web, api.url, "acme", "77", Secret("no key"))()
    api.replies["/orgs/acme/installation"] = Reply({}, 401)
    with pytest.raises(SourceFailure, match="answers 401"):
        InstallationToken(web, api.url, "acme", "77", Secret(pem))()


def test_pages_that_name_themselves_end_at_once_and_are_a_failure(api: Api, web: Web) -> None:
    page = {"values": [], "next": f"{api.url}/2.0/repositories/ws?pagelen=100"}
    api.replies["/2.0/repositories/ws"] = page
    with pytest.raises(SourceFailure, match="has no end"):
        list(Bitbucket(web, f"{api.url}/2.0", "ws", token).repositories())
    api.replies["/rest/api/1.0/projects/P/repos"] = {"values": [], "isLastPage": False, "nextPageStart": 0}
    with pytest.raises(SourceFailure, match="has no end"):
        list(BitbucketServer(web, api.url, "P", token).repositories())
    assert len(api.server.asked) < 9

    class Loops:
        def list_repositories(self, **_: str) -> dict[str, Any]:
            return {"repositories": [], "nextToken": "again"}

        def batch_get_repositories(self, *, repositoryNames: list[str]) -> dict[str, Any]:  # noqa: N803
            return {"repositories": repositoryNames}

    with pytest.raises(SourceFailure, match="has no end"):
        list(CodeCommit(Loops(), lambda _: Secret("")).repositories())


@pytest.mark.parametrize("said", [b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", b"HTTP/1.1 200 OK\r\nX-Slow: "])
def test_an_answer_that_trickles_is_given_up(monkeypatch: pytest.MonkeyPatch, said: bytes) -> None:
    monkeypatch.setattr(waiting, "_LONGEST", 0.5)
    begun = time.monotonic()
    with faults.trickling(said) as url, pytest.raises(SourceFailure, match="does not come to its end"):
        Web(time.time, lambda _: None).ask(url, {})
    assert time.monotonic() - begun < 20, "it would go on for ever"
