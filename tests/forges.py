"""Forges on loopback: each speaks its API as its reference tells, and serves real git over smart HTTP."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

Json = Any


@dataclass(frozen=True)
class Reply:
    """What a loopback forge answers."""

    body: Json
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Request:
    """What a loopback forge was asked."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]


Answer = Callable[[Request], Reply | None]


class Server:
    """One host: an API, and the bare repositories below a folder. Everything asked is written down."""

    def __init__(self, folder: Path, api: Answer) -> None:
        self.folder, self.api = folder, api
        self.asked: list[Request] = []
        self.password: str | None = None
        """What git must show as its password, when anything."""
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                """Say nothing."""

            def do_GET(self) -> None:
                outer.answer(self)

            def do_POST(self) -> None:
                outer.answer(self)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    @contextmanager
    def running(self) -> Iterator[Server]:
        thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()
            thread.join()

    def paths(self, beginning: str = "") -> list[str]:
        return [each.path for each in self.asked if each.path.startswith(beginning)]

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        parts = urlsplit(handler.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        request = Request(
            handler.command, unquote(parts.path), query, {k.lower(): v for k, v in handler.headers.items()}
        )
        self.asked.append(request)
        size = int(handler.headers.get("Content-Length") or 0)
        given = handler.rfile.read(size) if size else _chunks(handler)
        if parts.path.endswith(("/info/refs", "/git-upload-pack")):
            self._git(handler, request, parts.query, given)
            return
        reply = self.api(request)
        reply = Reply({"message": "Not Found"}, 404) if reply is None else reply
        body = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
        _send(handler, reply.status, {"Content-Type": "application/json", **reply.headers}, body)

    def _git(self, handler: BaseHTTPRequestHandler, request: Request, query: str, given: bytes) -> None:
        """Hand a request to git's own server (git-http-backend(1))."""
        if self.password is not None:
            shown = base64.b64decode(request.headers.get("authorization", "").removeprefix("Basic ")).decode()
            if shown.partition(":")[2] != self.password:
                _send(handler, 401, {"WWW-Authenticate": 'Basic realm="git"'}, b"")
                return
        folder = self.folder / request.path.lstrip("/").removesuffix("/info/refs").removesuffix("/git-upload-pack")
        if not folder.is_dir():
            _send(handler, 404, {}, b"no such repository")
            return
        environment = {
            "PATH": os.environ["PATH"], "GIT_PROJECT_ROOT": str(self.folder), "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": request.path, "QUERY_STRING": query, "REQUEST_METHOD": handler.command,
            "CONTENT_TYPE": request.headers.get("content-type", ""), "CONTENT_LENGTH": str(len(given)),
            "HTTP_CONTENT_ENCODING": request.headers.get("content-encoding", ""),
            "GIT_PROTOCOL": request.headers.get("git-protocol", ""), "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_COUNT": "2", "GIT_CONFIG_KEY_0": "uploadpack.allowAnySHA1InWant", "GIT_CONFIG_VALUE_0": "true",
            "GIT_CONFIG_KEY_1": "safe.directory", "GIT_CONFIG_VALUE_1": "*",
        }  # fmt: skip
        done = subprocess.run(["git", "http-backend"], input=given, capture_output=True, env=environment, check=False)
        head, _, body = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if ": " in line)
        status = int(headers.pop("Status", "200 OK").split()[0])
        _send(handler, status, headers, body)


def _chunks(handler: BaseHTTPRequestHandler) -> bytes:
    if handler.headers.get("Transfer-Encoding", "").lower() != "chunked":
        return b""
    body = b""
    while size := int(handler.rfile.readline().strip() or b"0", 16):
        body += handler.rfile.read(size)
        handler.rfile.readline()
    handler.rfile.readline()
    return body


def _send(handler: BaseHTTPRequestHandler, status: int, headers: Mapping[str, str], body: bytes) -> None:
    handler.send_response(status)
    for name, value in headers.items():
        if name.lower() != "content-length":
            handler.send_header(name, value)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def paged(request: Request, host: str, items: Sequence[Json], size: int = 2) -> Reply:
    """Return a page of items with the Link header that GitHub, GitLab and Gitea send."""
    page = int(request.query.get("page", "1"))
    shown = items[(page - 1) * size : page * size]
    more = page * size < len(items)
    query = "&".join(f"{name}={value}" for name, value in request.query.items() if name != "page")
    link = f'<{host}{request.path.replace("acme/sub", "acme%2Fsub")}?{query}&page={page + 1}>; rel="next"'
    return Reply(shown, headers={"Link": f'<{host}/>; rel="first", {link}'} if more else {})
