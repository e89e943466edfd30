"""Asking a forge over HTTPS: pages, limits and waits, in one place for all of them.

One small client rather than a library for each forge: the limits on size, time and waiting, the rule that a token goes
to its own host only, and the words of a refusal are then the same everywhere, and four of the seven have no library.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.cookiejar import DefaultCookiePolicy
from typing import TYPE_CHECKING, Final, TypeVar
from urllib.parse import urljoin, urlsplit

import msgspec

from firedamp.storage.deadline import within
from firedamp.storage.errors import SourceFailure
from firedamp.storage.times import retry_after

if TYPE_CHECKING:
    import requests

T = TypeVar("T")

LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_LARGEST: Final = 32 << 20
_TIMEOUT: Final = (10.0, 60.0)
_TRIES: Final = 6
_TRIES_UNHEARD: Final = 4
_LONGEST: Final = 300.0
"""Seconds that one answer may take to arrive whole."""
_PATIENCE: Final = 4000.0
"""Seconds waited for one answer at most: GitHub's and GitLab's limits are by the hour."""
_PAGES: Final = 10_000
_REDIRECTS: Final = 5
_NEXT: Final = re.compile(r'<([^>]*)>\s*;[^,]*rel="?next"?')
_LIMIT_WORDS: Final = re.compile(rb"rate limit|abuse|too many requests", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a host said: status, headers with lower-case names, the body, and the address that said it."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    url: str = ""

    @property
    def next(self) -> str | None:
        """The next page, as the Link header names it (RFC 8288)."""
        found = _NEXT.search(self.headers.get("link", ""))
        return None if found is None else found[1]


@dataclass(frozen=True, slots=True)
class Web:
    """A client that waits as it is told to. now is in seconds since 1970; sleep may be cut short by nobody."""

    now: Callable[[], float]
    sleep: Callable[[float], None]
    user_agent: str = "firedamp"
    _local: threading.local = field(default_factory=threading.local)

    def ask(
        self, url: str, headers: Mapping[str, str], *, method: str = "GET", body: bytes | None = None,
        largest: int = _LARGEST,
    ) -> Answer:  # fmt: skip
        """Return the answer to one request, whatever it is, once limits are waited for and hiccups are over.

        Redirects are followed on the same host only, so that no token leaves it. Raises SourceFailure when the host
        cannot be reached, says too much, or wants to be waited for longer than an hour.
        """
        waited, at = 0.0, url
        tried = redirected = 0
        while True:
            answer = self._once(at, headers, method, body, largest)
            tried += 1
            if isinstance(answer, Answer) and answer.status in {301, 302, 307, 308} and redirected < _REDIRECTS:
                onward = _joined(at, answer.headers.get("location", ""))
                if _origin(onward) == _origin(at):
                    at, tried, redirected = onward, 0, redirected + 1
                    continue
            wait = self._wait(answer, tried)
            if isinstance(answer, Answer) and wait is None:
                return answer
            waited += wait or 0.0
            if isinstance(answer, str) and tried >= _TRIES_UNHEARD:
                raise SourceFailure(f"{shown(url)}: {answer}", "is the address right, and the network there?")
            if tried >= _TRIES or waited > _PATIENCE:
                said = f"status {answer.status}" if isinstance(answer, Answer) else answer
                why = f"{said}; it asks to wait {wait:.0f} s more" if waited > _PATIENCE else said
                raise SourceFailure(f"{shown(url)}: still refused after {tried} requests: {why}", "try again later")
            self.sleep(wait or 0.0)

    def _once(
        self, url: str, headers: Mapping[str, str], method: str, body: bytes | None, largest: int
    ) -> Answer | str:
        """Make one request; a text says why there was no answer."""
        import requests
        from urllib3.exceptions import HTTPError

        parts = urlsplit(url)
        if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in LOOPBACK):
            raise SourceFailure(f"{shown(url)} is not https", "a token is never sent in the clear")
        session = self._session()

        def exchange() -> Answer:
            with session.request(
                method, url, headers={"User-Agent": self.user_agent, **headers}, data=body, timeout=_TIMEOUT,
                stream=True, allow_redirects=False, auth=_as_it_is,
            ) as response:  # fmt: skip
                content = bytearray()
                while piece := response.raw.read1(1 << 16, decode_content=True):
                    content += piece
                    if len(content) > largest:
                        raise SourceFailure(f"{shown(url)}: the answer is larger than {largest:,} bytes")
                lowered = {name.lower(): value for name, value in response.headers.items()}
                return Answer(response.status_code, lowered, bytes(content), url)

        try:
            return within(_LONGEST, exchange)
        except TimeoutError:
            del self._local.session  # one that may still be in use
            return "the answer does not come to its end"
        except (requests.RequestException, HTTPError) as error:
            return f"no answer ({type(error).__name__})"

    def _session(self) -> requests.Session:
        """Return this thread's connections; they are kept open between requests."""
        if not hasattr(self._local, "session"):
            import requests

            self._local.session = requests.Session()
            self._local.session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        session: requests.Session = self._local.session
        return session

    def _wait(self, answer: Answer | str, tried: int) -> float | None:
        """Return how long to wait before asking again; None when the answer stands.

        GitHub, "Best practices for using the REST API": Retry-After first, then the reset of a limit that is used up,
        else a minute, doubled each time. GitLab names its reset without the X.
        """
        if isinstance(answer, str) or answer.status in {500, 502, 503, 504}:
            after = None if isinstance(answer, str) else self._after(answer)
            return after or 2.0 * float(1 << (tried - 1))
        headers = answer.headers
        left = headers.get("x-ratelimit-remaining", headers.get("ratelimit-remaining"))
        limited = answer.status == 429 or (
            answer.status == 403
            and ("retry-after" in headers or left == "0" or _LIMIT_WORDS.search(answer.body) is not None)
        )
        if not limited:
            return None
        if (after := self._after(answer)) is not None:
            return after
        reset = headers.get("x-ratelimit-reset", headers.get("ratelimit-reset", ""))
        if left == "0" and reset.isdecimal():
            return max(1.0, int(reset[:12]) - self.now() + 1)
        return 60.0 * float(1 << (tried - 1))

    def _after(self, answer: Answer) -> float | None:
        """Return the seconds that Retry-After asks for, one at least."""
        after = retry_after(answer.headers.get("retry-after", ""), datetime.fromtimestamp(self.now(), UTC))
        return None if after is None else max(1.0, after.total_seconds())


def _as_it_is(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Leave a request alone: with an `auth` of its own, requests does not put a password of ~/.netrc over our token."""
    return request


def _joined(at: str, there: str) -> str:
    """Return an address that a page names, empty when it is none."""
    try:
        return urlsplit(urljoin(at, there)).geturl()
    except ValueError:
        return ""


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc


def shown(url: str) -> str:
    """Return a URL as it may be shown: no user-info, no query."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def read(answer: Answer, kind: type[T], url: str) -> T:
    """Read a body as kind. Raises SourceFailure when the host said no, or says something else."""
    if answer.status not in {200, 201}:
        raise refusal(answer, url)
    try:
        return msgspec.json.decode(answer.body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise SourceFailure(
            f"{shown(url)}: not the answer of this kind of forge: {error}", "see api in [[forge]]"
        ) from None


def refusal(answer: Answer, url: str) -> SourceFailure:
    """Word a refusal: what, where, and what to do next."""
    hints = {
        401: "is the token right, and not expired?",
        403: "may this token read it? single sign-on may have to be allowed for it",
        404: "is the name right? a token that may not see it gets this answer too",
        203: "is the token right, and not expired?",
        302: "is the token right, and not expired?",
    }
    return SourceFailure(
        f"{shown(url)} answers {answer.status}", hints.get(answer.status, "see the forge's status page")
    )


def linked(web: Web, url: str, headers: Callable[[], Mapping[str, str]], kind: type[T]) -> Iterator[T]:
    """Yield the pages of a list that names its next page in the Link header; headers are asked for at each of them."""
    at: str | None = url
    met = set[str]()
    while at is not None:
        answer = web.ask(first(at, met), headers())
        yield read(answer, kind, at)
        at = onward(at, answer.next)


def first(page: str, met: set[str]) -> str:
    """Return a page's address, and note it in met. Raises SourceFailure when it was met before, or after very many."""
    if page in met or len(met) >= _PAGES:
        raise SourceFailure(f"{shown(page)}: the list of pages has no end")
    met.add(page)
    return page


def onward(at: str, following: str | None) -> str | None:
    """Return the next page's address, None after the last. Raises SourceFailure when it is on another host."""
    if not following:
        return None
    following = _joined(at, following)
    if _origin(following) != _origin(at):
        raise SourceFailure(
            f"{shown(at)} names a next page on another host: {shown(following)}", "see api in [[forge]]"
        )
    return following
