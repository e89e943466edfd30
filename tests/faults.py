"""A server that fails as networks, proxies and AWS do, for the tests of everything that calls out. Without moto.

    with FaultServer(THROTTLED, THROTTLED, identity_answer(...)) as server:
        call(endpoint_url=server.url)
    assert [request.path for request in server.requests] == ["/", "/", "/"]

Each request takes the next fault; the last one stays. `dead_port()` holds a URL where nobody listens.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import json
import socket
import socketserver
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

Script = Callable[["Received"], "Fault"]
"""A fault that depends on the request."""


@dataclass(frozen=True)
class Received:
    """A request as it came in. headers have lower-case names."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        """Everything that was said, to search it for what must not be there."""
        heads = "\n".join(f"{name}: {value}" for name, value in self.headers.items())
        return f"{self.method} {self.path}\n{heads}\n\n{self.body.decode('utf-8', 'replace')}"


@dataclass(frozen=True)
class Fault:
    """One answer, or the lack of one. wait is in seconds and ends early when the server stops."""

    status: int = 200
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = (("Content-Type", "text/xml"),)
    wait: float = 0
    missing: int = 0
    """How many bytes of the body are promised by Content-Length and never sent."""
    clock: dt.timedelta = dt.timedelta(0)
    """How far the Date header is from our clock."""
    dated: bool = True
    reset: bool = False
    """Cut the connection instead of answering."""


def _error(code: str, message: str, status: int) -> Fault:
    body = (
        f"<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error>"
        "<RequestId>00000000-0000-4000-8000-000000000000</RequestId></ErrorResponse>"
    )
    return Fault(status=status, body=body.encode())


def aws_error(code: str, message: str = "", status: int = 403) -> Fault:
    """Return an error as STS and IAM answer it."""
    return _error(code, message, status)


def json_error(code: str, message: str = "", status: int = 400) -> Fault:
    """Return an error as the JSON services answer it."""
    headers = (("Content-Type", "application/x-amz-json-1.1"), ("x-amzn-ErrorType", code))
    return Fault(status=status, body=json.dumps({"__type": code, "message": message}).encode(), headers=headers)


def identity_answer(arn: str, account: str, user_id: str) -> Fault:
    """Return GetCallerIdentity's answer for a key that lives."""
    body = (
        "<GetCallerIdentityResponse><GetCallerIdentityResult>"
        f"<Arn>{arn}</Arn><UserId>{user_id}</UserId><Account>{account}</Account>"
        "</GetCallerIdentityResult></GetCallerIdentityResponse>"
    )
    return Fault(body=body.encode())


def skewed(fault: Fault, hours: float) -> Fault:
    """Return the same answer from a server whose clock is hours ahead of ours."""
    return replace(fault, clock=dt.timedelta(hours=hours))


def truncated(fault: Fault) -> Fault:
    """Return the first half of an answer, after which the connection ends."""
    half = len(fault.body) // 2
    return replace(fault, body=fault.body[:half], missing=len(fault.body) - half)


HANG = Fault(wait=3600)
RESET = Fault(reset=True)
PROXY_403 = Fault(
    status=403,
    body=b"<html><head><title>Forbidden</title></head><body>Your organisation blocks this page</body></html>",
    headers=(("Content-Type", "text/html"),),
)
LOGIN_PAGE = Fault(
    body=b"<html><body><form action='/login'>Sign in to the guest network</form></body></html>",
    headers=(("Content-Type", "text/html"),),
)
BAD_GATEWAY = Fault(status=502, body=b"Bad Gateway", headers=(("Content-Type", "text/plain"),))
INTERNAL_ERROR = aws_error("InternalFailure", "We encountered an internal error.", 500)
UNAVAILABLE = aws_error("ServiceUnavailable", "Service is unable to handle request.", 503)
THROTTLED = aws_error("Throttling", "Rate exceeded", 400)
REJECTED = aws_error("InvalidClientTokenId", "The security token included in the request is invalid.")
WRONG_SECRET = aws_error(
    "SignatureDoesNotMatch",
    "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key "
    "and signing method. Consult the service documentation for details.",
)
CLOCK = aws_error(
    "SignatureDoesNotMatch",
    "Signature expired: 20200101T000000Z is now earlier than 20200101T001500Z (20200101T003000Z - 15 min.)",
)
EXPIRED = aws_error("ExpiredToken", "The security token included in the request is expired")
TRUNCATED = truncated(identity_answer("arn:aws:iam::123456789012:user/u", "123456789012", "AIDAEXAMPLE"))
EMPTY = Fault()


class FaultServer:
    """An HTTP server on loopback that answers with faults, in order; the last one, or script, stays.

    certificate, a path to a PEM file with key and certificate, makes it HTTPS: with one that nobody trusts it stands in
    for a proxy that intercepts TLS.
    """

    def __init__(self, *faults: Fault | Script, certificate: Path | None = None) -> None:
        self.faults, self.certificate = faults or (EMPTY,), certificate
        self.requests: list[Received] = []
        self._lock = threading.Lock()
        self._stopping = threading.Event()

    def __enter__(self) -> Self:
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # head and body in one packet: apart, they wait for each other, 40 ms a call

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                """Say nothing."""

            def __getattr__(self, name: str) -> Any:
                if name.startswith("do_"):
                    return lambda: owner._answer(self)
                raise AttributeError(name)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # a client that gives up is what is tested
        if self.certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self.certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"{'https' if self.certificate else 'http'}://127.0.0.1:{self._server.server_port}"

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in handler.headers.items()}
        received = Received(handler.command, handler.path, headers, body)
        with self._lock:
            chosen = self.faults[min(len(self.requests), len(self.faults) - 1)]
            self.requests.append(received)
        fault = chosen if isinstance(chosen, Fault) else chosen(received)
        stopped = bool(fault.wait) and self._stopping.wait(fault.wait)
        if fault.reset or stopped:
            linger = struct.pack("ii", 1, 0)  # a close that sends a reset, not an end
            handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            handler.close_connection = True
            return
        handler.send_response_only(fault.status)
        for name, value in fault.headers:
            handler.send_header(name, value)
        if fault.dated:
            handler.send_header("Date", format_datetime(dt.datetime.now(dt.UTC) + fault.clock, usegmt=True))
        handler.send_header("Content-Length", str(len(fault.body) + fault.missing))
        handler.end_headers()
        handler.wfile.write(fault.body)
        handler.close_connection = bool(fault.missing)


@contextmanager
def trickling(said: bytes) -> Iterator[str]:
    """Answer every request with these bytes, as they are, and then with a letter at a time; yield the URL."""
    stopping = threading.Event()

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with suppress(OSError):
                self.request.recv(65_536)
                self.request.sendall(said)
                while not stopping.wait(0.05):
                    self.request.sendall(b"x")

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        stopping.set()
        server.shutdown()


@contextmanager
def dead_port() -> Iterator[str]:
    """Hold a port on loopback where nobody listens, that nobody else is given it; yield its URL."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{held.getsockname()[1]}"


def untrusted_certificate(folder: Path) -> Path:
    """Write a certificate and key for 127.0.0.1 that nobody trusts, as an intercepting proxy has; return the path."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Corporate Proxy CA")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.IPv4Address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = folder / "proxy.pem"
    path.write_bytes(private + certificate.public_bytes(pem))
    return path
