"""`python -m bench.verify`: credentials (300, or BENCH_KEYS) verified, against a bare boto3 loop as concurrent as we.

Both ask the same server on loopback, a process of its own that answers at once: what is measured is our own work.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.builders import make_key_id, make_secret

KEYS = int(os.environ.get("BENCH_KEYS", "300"))
CONCURRENCY = 8
_BODY = (
    b"<ErrorResponse><Error><Code>InvalidClientTokenId</Code><Message>x</Message></Error>"
    b"<RequestId>x</RequestId></ErrorResponse>"
)


class _Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        time.sleep(0.02)  # as a near region answers
        self.send_response(403)
        self.send_header("Content-Length", str(len(_BODY)))
        self.end_headers()
        self.wfile.write(_BODY)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing."""


def _serve() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Answer)
    print(server.server_port, flush=True)
    server.serve_forever()


def _bare(keys: list[tuple[str, str]], url: str) -> float:
    import boto3
    from botocore.exceptions import ClientError

    def ask(key: tuple[str, str]) -> None:
        session = boto3.Session(*key, region_name="us-east-1")
        try:
            session.client("sts", endpoint_url=url).get_caller_identity()
        except ClientError:
            return

    begun = time.perf_counter()
    with ThreadPoolExecutor(CONCURRENCY) as pool:
        list(pool.map(ask, keys))
    return time.perf_counter() - begun


def _ours(keys: list[tuple[str, str]], url: str, folder: Path) -> float:
    text = "".join(f"[{n}]\naws_access_key_id={i}\naws_secret_access_key={s}\n" for n, (i, s) in enumerate(keys))
    (folder / "keys").write_text(text)
    environ = os.environ | {"AWS_ENDPOINT_URL": url, "FIREDAMP_DB": str(folder / "x.db")}
    command = [sys.executable, "-m", "firedamp.service.cli"]
    subprocess.run(
        [*command, "scan", str(folder / "keys"), "--offline", "--quiet"], env=environ, stdout=subprocess.DEVNULL,
        check=False,
    )  # fmt: skip
    begun = time.perf_counter()
    subprocess.run([*command, "verify", "--quiet"], env=environ, stdout=subprocess.DEVNULL, check=False)
    return time.perf_counter() - begun


def show() -> None:
    """Measure and print."""
    rng = random.Random(1)  # noqa: S311 - keys for a benchmark
    keys = [(make_key_id(rng), make_secret(rng)) for _ in range(KEYS)]
    server = subprocess.Popen([sys.executable, "-m", "bench.verify", "serve"], stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None  # noqa: S101 - it was asked for
    url = f"http://127.0.0.1:{server.stdout.readline().strip()}"
    try:
        with tempfile.TemporaryDirectory() as folder:
            ours, bare = _ours(keys, url, Path(folder)), _bare(keys, url)
    finally:
        server.kill()
        server.wait()
    print(f"{KEYS} credentials: verify {ours:.1f} s, a bare boto3 loop {bare:.1f} s: {ours / bare:.2f} x")


if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        _serve()
    else:
        show()
