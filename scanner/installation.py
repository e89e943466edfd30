"""The token of a GitHub App's installation: made when it is first asked for, and anew before it ends."""

from __future__ import annotations

import threading
from datetime import datetime
from typing import Final
from urllib.parse import quote

import msgspec

from firedamp.scanner.web import Web, read
from firedamp.storage.errors import SourceFailure
from firedamp.storage.secret import Secret

_MARGIN: Final = 600.0
"""Seconds a token must still live when it is handed out: a long clone begins with it. They live an hour."""


class _Installation(msgspec.Struct):
    id: int


class _Minted(msgspec.Struct):
    token: str
    expires_at: datetime


class InstallationToken:
    """Gives the token of the installation that a GitHub App has in an organisation or with a user. Safe for threads.

    key is the App's private key (PEM). docs.github.com, "Generating an installation access token for a GitHub App".
    """

    def __init__(self, web: Web, api: str, name: str, app_id: str, key: Secret) -> None:
        self._web, self._api, self._name, self._app_id, self._key = web, api.rstrip("/"), name, app_id, key
        self._lock = threading.Lock()
        self._token: Secret | None = None
        self._ends = 0.0

    def __call__(self) -> Secret:
        """Return a token that lives for ten minutes at least. Raises SourceFailure when none is given."""
        with self._lock:
            if self._token is None or self._ends - self._web.now() < _MARGIN:
                self._mint()
            assert self._token is not None  # noqa: S101 - _mint sets it or raises
            return self._token

    def _mint(self) -> None:
        headers = {"Accept": "application/vnd.github+json", "Authorization": f"Bearer {self._signed()}"}
        url = f"{self._api}/users/{quote(self._name, safe='')}/installation"
        answer = self._web.ask(url, headers)
        if answer.status == 404:
            url = f"{self._api}/orgs/{quote(self._name, safe='')}/installation"
            answer = self._web.ask(url, headers)
        installation = read(answer, _Installation, url)
        url = f"{self._api}/app/installations/{installation.id}/access_tokens"
        minted = read(self._web.ask(url, headers, method="POST", body=b"{}"), _Minted, url)
        self._token, self._ends = Secret(minted.token), minted.expires_at.timestamp()

    def _signed(self) -> str:
        """Sign who we are: for ten minutes at most, a minute of it in the past for clocks that differ."""
        try:
            import jwt

            now = int(self._web.now())
            return jwt.encode(
                {"iat": now - 60, "exp": now + 540, "iss": self._app_id}, self._key.reveal(), algorithm="RS256"
            )
        except ImportError:
            raise SourceFailure("a GitHub App's token needs PyJWT", "pip install 'pyjwt[crypto]'") from None
        except (ValueError, TypeError, jwt.PyJWTError):
            why = f"the private key of GitHub App {self._app_id} cannot be used"
            raise SourceFailure(why, "app_key names the PEM file that GitHub gave") from None
