"""An AWS on loopback, for the demo and the tests (extra `demo`).

moto holds the state; in front of it stands what moto lacks, over real HTTP and for every service:

    request -> name the operation -> authenticate -> authorise -> answer (here or moto) -> record in CloudTrail

Signatures, key status, session tokens, MFA and policies decide as in AWS; a call that fails authentication is recorded
nowhere. There is one loopback AWS a process, as moto's state is global, and it listens on 127.0.0.1 only. Not done:
service control policies, resource policies other than trust policies, throttling other than LookupEvents'.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from email.utils import format_datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Self, cast

import boto3
from botocore.config import Config

from firedamp.service import loopback_moto as moto
from firedamp.service.clock import now
from firedamp.service.loopback_iam import Iam
from firedamp.service.loopback_identity import Directory, Identity
from firedamp.service.loopback_policy import UnknownConditionError
from firedamp.service.loopback_trail import CloudTrail
from firedamp.service.loopback_wire import (
    UNKNOWN,
    Call,
    Refusal,
    Reply,
    answer,
    error_code,
    identify,
    read_request,
    refuse,
)
from firedamp.storage.secret import Secret

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

ACCOUNT: Final = "123456789012"
_HOST: Final = "127.0.0.1"
_DROPPED: Final = frozenset({"content-length", "connection", "transfer-encoding", "date", "server"})


@dataclass(frozen=True, slots=True)
class LoopbackKey:
    """An access key of the loopback AWS, to call it with."""

    id: str
    secret: Secret
    token: Secret | None = None


@dataclass(slots=True)
class _Planned:
    """A refusal that waits for the next calls of an operation."""

    refusal: Refusal
    times: int


class Loopback:
    """A simulated AWS. Use it as a context manager, or `start` and `stop` it.

    clock is the time that sessions, records and trails see. wall is the time that signatures and the Date header see:
    the real one, unless a test wants a server whose clock is wrong. Both may be replaced at any time.
    flush_every writes the trails' files every so many seconds; lookup_rate limits LookupEvents a second and region.
    """

    def __init__(
        self,
        clock: Callable[[], datetime] = now,
        *,
        port: int = 0,
        account: str = ACCOUNT,
        flush_every: float | None = None,
        lookup_rate: int | None = None,
    ) -> None:
        moto.install()
        self._first_clock = clock
        self.account = account
        self.flush_every = flush_every
        self.lookup_rate = lookup_rate
        self._port = port
        self._application = moto.Application()
        self._server: moto.BaseWSGIServer | None = None
        self._stopping = threading.Event()
        self.reset()

    def reset(self) -> None:
        """Forget everything and make a new administrator key: a fresh AWS in milliseconds."""
        moto.reset(self.account)
        self.clock, self.wall = self._first_clock, now
        self.directory = Directory(self._time, self._wall_time)
        self.trail = CloudTrail(self._time, self._wall_time, self.lookup_rate)
        self._iam = Iam(self.trail.entries, self._time)
        self._planned: dict[str, _Planned] = {}
        self._clients: dict[tuple[str, LoopbackKey, str, str | None], Any] = {}
        """To make one takes longer than most calls."""
        self.admin = self.add_account(self.account)

    def _time(self) -> datetime:
        return self.clock()

    def _wall_time(self) -> datetime:
        return self.wall()

    # Starting and stopping.

    @property
    def url(self) -> str:
        """Where it listens, once it is started: the value for AWS_ENDPOINT_URL."""
        return f"http://{_HOST}:{self._port}"

    def start(self) -> Self:
        """Listen, and flush the trails if that was asked for."""
        self._server = moto.make_server(
            _HOST, self._port, cast("Any", self._respond), threaded=True, request_handler=_Handler
        )
        self._port = self._server.server_port
        cast("Any", self._server).daemon_threads = True
        self._stopping.clear()
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        if self.flush_every:
            threading.Thread(target=self._flush_on_time, args=(self.flush_every,), daemon=True).start()
        return self

    def stop(self) -> None:
        """Stop listening. The state stays until the next reset."""
        self._stopping.set()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _flush_on_time(self, seconds: float) -> None:
        while not self._stopping.wait(seconds):
            self.trail.flush()

    # Setting the scene.

    def add_account(self, account: str) -> LoopbackKey:
        """Make another account and return a key of its administrator, a user called `admin`."""
        return self.add_user("admin", account=account, inline={"AdministratorAccess": moto.ALLOW_ALL})

    def add_user(
        self,
        name: str,
        *,
        account: str | None = None,
        path: str = "/",
        inline: Mapping[str, str] | None = None,
        managed: Iterable[str] = (),
    ) -> LoopbackKey:
        """Make a user and return a key of it. inline is policy name to document, managed are policy ARNs."""
        moto.add_user(account or self.account, name, path, inline or {}, managed)
        return self.add_key(name, account=account)

    def add_key(self, user: str, *, account: str | None = None) -> LoopbackKey:
        """Make another key of a user."""
        return LoopbackKey(*moto.add_key(account or self.account, user))

    def add_root_key(self, account: str | None = None) -> LoopbackKey:
        """Make an access key of an account's root user."""
        root = self.directory.add_root_key(account or self.account)
        return LoopbackKey(root.key_id, root.secret)

    def refuse_next(self, call: str, code: str, message: str = "", *, status: int = 400, times: int = 1) -> None:
        """Let the next calls of an operation (`iam:CreateUser`) fail with an error of AWS's, and not be recorded."""
        self._planned[call] = _Planned(Refusal(code, message or code, status), times)

    def sent_mail(self, region: str = "us-east-1") -> tuple[tuple[str, str, str], ...]:
        """Return (source, subject, body) of every mail that SES took in a region, oldest first."""
        return moto.sent_mail(self.account, region)

    def client(
        self, service: str, key: LoopbackKey | None = None, region: str = "us-east-1", *, source_ip: str | None = None
    ) -> Any:
        """Return a boto3 client that calls this AWS with key (or the administrator's) from source_ip; no retries."""
        asked = service, key or self.admin, region, source_ip
        if asked not in self._clients:
            self._clients[asked] = self._new_client(*asked)
        return self._clients[asked]

    def _new_client(self, service: str, key: LoopbackKey, region: str, source_ip: str | None) -> Any:
        client = self._session.client(
            cast("Any", service),
            endpoint_url=self.url,
            region_name=region,
            aws_access_key_id=key.id,
            aws_secret_access_key=key.secret.reveal(),
            aws_session_token=None if key.token is None else key.token.reveal(),
            config=Config(retries={"total_max_attempts": 1}),
        )
        if source_ip is not None:

            def name_source(request: Any, **_: object) -> None:
                request.headers["X-Sim-Source-Ip"] = source_ip

            client.meta.events.register("before-send", name_source)
        return client

    @cached_property
    def _session(self) -> boto3.Session:
        return boto3.Session()

    # The main path.

    def _respond(self, environ: WSGIEnvironment) -> Reply:
        reply = self._reply(environ)
        headers = [(name, value) for name, value in reply.headers if name.lower() not in _DROPPED]
        length = str(len(reply.body))
        if environ["REQUEST_METHOD"] == "HEAD":  # tells the length of what it does not send
            length = dict(reply.headers).get("Content-Length", length)
            reply = replace(reply, body=b"")
        headers += [("Content-Length", length), ("Date", format_datetime(self.wall(), usegmt=True))]
        return replace(reply, headers=headers)

    def _reply(self, environ: WSGIEnvironment) -> Reply:
        request = read_request(environ)
        if request.path.startswith("/_loopback/"):
            return self._control(request.path.removeprefix("/_loopback/"))
        try:
            call = identify(request, moto.new_id())
        except Refusal as refusal:
            return Reply(refusal.status, [("Content-Type", "text/plain")], f"{refusal.code}: {refusal}".encode())
        try:
            identity = self._authenticate(call)
        except Refusal as refusal:
            return refuse(call, refusal)
        before = self.trail.listeners()
        try:
            self.directory.authorise(call, identity)
            reply, refused = self._answer(call, identity, environ), None
        except Refusal as refusal:
            reply, refused = refuse(call, refusal), (error_code(call, refusal.code), refusal.message)
        except NotImplementedError as error:
            return _not_implemented(call, error)
        now, region = self.clock(), call.region
        moto.touch(identity.account, identity.key_id, now, call.prefix, region)
        self.trail.record(call, identity, reply, refused, before)
        return reply

    def _authenticate(self, call: Call) -> Identity:
        identity = self.directory.authenticate(call)
        planned = self._planned.get(f"{call.prefix}:{call.operation}")
        if planned is not None and planned.times > 0:
            planned.times -= 1
            raise planned.refusal
        if call.operation == UNKNOWN:
            raise Refusal("InvalidAction", "The action or operation requested is invalid.", 400)
        return identity

    def _answer(self, call: Call, identity: Identity, environ: WSGIEnvironment) -> Reply:
        for desk in (self.directory, self._iam, self.trail):
            fields = desk.answer(call, identity)
            if fields is not None:
                return answer(call, fields)
        self._iam.prepare(call, identity)
        reply = Reply(*self._application(environ, self._iam.body(call, identity), identity.account))
        if (call.service, call.operation) == ("organizations", "CreateAccount") and reply.status == 200:
            moto.trust_new_members(identity.account)
        return self._iam.finish(call, identity, reply)

    def _control(self, word: str) -> Reply:
        """Do what a test in another process asks for: write log or digest files now."""
        deeds = {"flush": self.trail.flush, "digest": self.trail.digest}
        if word not in deeds:
            return Reply(404, [("Content-Type", "text/plain")], b"flush or digest")
        return Reply(200, [("Content-Type", "application/json")], json.dumps(deeds[word]()).encode())


class _Handler(moto.MotoRequestHandler):
    """HTTP/1.1 with kept connections, quiet. An answer bears the Date that the server believes."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def run_wsgi(self) -> None:
        """Answer one request, or hang up on a connection that outlived the server."""
        if self.server.socket.fileno() == -1:
            self.close_connection = True
            return
        if self.headers.get("Expect", "").lower() == "100-continue":
            self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        respond = cast("Callable[[WSGIEnvironment], Reply]", self.server.app)
        reply = respond(self.make_environ())
        self.send_response_only(reply.status)
        for name, value in reply.headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(reply.body)


def _not_implemented(call: Call, error: NotImplementedError) -> Reply:
    """Say loudly what is missing, so that no test passes by accident."""
    kind = "a policy" if isinstance(error, UnknownConditionError) else "a call"
    message = f"the loopback AWS has {kind} that it cannot do: {call.service} {call.operation}: {error}"
    return refuse(call, Refusal("NotImplemented", message, 501))


def main(arguments: Sequence[str] | None = None, wait: Callable[[], object] | None = None) -> int:
    """Run a loopback AWS until interrupted; print where it is and its administrator's key as one line of JSON."""
    parser = argparse.ArgumentParser(prog="firedamp.service.loopback", description=main.__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--flush-every", type=float, metavar="SECONDS", help="write the trails' files this often")
    options = parser.parse_args(arguments)
    with Loopback(port=options.port, flush_every=options.flush_every) as aws:
        admin = {"access_key_id": aws.admin.id, "secret_access_key": aws.admin.secret.reveal()}
        print(json.dumps({"url": aws.url, "account": aws.account, **admin}), flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            (wait or threading.Event().wait)()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
