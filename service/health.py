"""What the service tells of itself: /healthz, /readyz and /metrics, and the numbers behind `firedamp status`."""

from __future__ import annotations

import ipaddress
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from firedamp.storage.errors import Failure, StoreFailure
from firedamp.storage.records import Counts, FeedTrouble, Heard, Instance, JobRun, ScanRun, Watermark
from firedamp.storage.store import Store

_PATIENCE: Final = 10
"""Seconds for which a connection may say nothing."""
STALE: Final = timedelta(seconds=60)
"""A heartbeat older than this is an instance that is gone."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state of the service at one moment, read in one go."""

    at: datetime
    instance: Instance | None
    counts: Counts
    runs: tuple[JobRun, ...]
    feeds: tuple[Watermark, ...]
    heard: tuple[Heard, ...]
    troubles: tuple[FeedTrouble, ...]
    scans: tuple[ScanRun, ...]

    @property
    def alive(self) -> bool:
        """Whether an instance serves the database now."""
        return self.instance is not None and abs(self.at - self.instance.heartbeat) < STALE


def snapshot(store: Store, now: datetime) -> Snapshot:
    """Read the state of the service."""
    return Snapshot(
        at=now, instance=store.instance(), counts=store.counts(now), runs=tuple(store.last_runs()),
        feeds=tuple(store.watermarks()), heard=tuple(store.heard()),
        troubles=tuple(store.troubles()), scans=tuple(store.scan_runs(limit=20)),
    )  # fmt: skip


class _Metrics(Collector):
    def __init__(self, read: Callable[[], Snapshot]) -> None:
        self._read = read

    def collect(self) -> Iterator[GaugeMetricFamily]:
        return metrics(self._read())


def metrics(state: Snapshot) -> Iterator[GaugeMetricFamily]:
    """Yield the metrics of a snapshot. Ages are in seconds."""
    findings = GaugeMetricFamily("firedamp_findings", "Findings.", labels=["state", "verification", "severity"])
    for triage, status, severity, count in state.counts.findings:
        findings.add_metric([triage, status, severity], count)
    yield findings
    incidents = GaugeMetricFamily("firedamp_incidents", "Incidents.", labels=["state"])
    for name, count in state.counts.incidents:
        incidents.add_metric([name], count)
    yield incidents
    watched = GaugeMetricFamily("firedamp_watched_keys", "Canaries by state, and real keys.", labels=["state"])
    for name, count in state.counts.watched:
        watched.add_metric([name], count)
    yield watched
    newest = GaugeMetricFamily("firedamp_feed_newest_record_age_seconds", "Age of the newest record.", labels=["feed"])
    polled = GaugeMetricFamily(
        "firedamp_feed_poll_age_seconds", "Age of the last poll that ended well.", labels=["feed"]
    )
    for mark in state.feeds:
        if mark.newest is not None:
            newest.add_metric([mark.feed], (state.at - mark.newest).total_seconds())
        if mark.polled is not None:
            polled.add_metric([mark.feed], (state.at - mark.polled).total_seconds())
    yield newest
    regions = GaugeMetricFamily(
        "firedamp_feed_region_newest_record_age_seconds", "Age of the newest record of a region.",
        labels=["feed", "region"],
    )  # fmt: skip
    for each in state.heard:
        regions.add_metric([each.feed, each.region], (state.at - each.newest).total_seconds())
    yield regions
    unread = GaugeMetricFamily(
        "firedamp_feed_not_read", "What a feed brought and was not read, so far.", labels=["feed", "outcome"]
    )
    counted = Counter[tuple[str, str]]()
    for trouble in state.troubles:
        counted[trouble.feed, trouble.outcome] += trouble.count
    for (feed, how), count in counted.items():
        unread.add_metric([feed, how], count)
    yield unread
    yield polled
    yield GaugeMetricFamily("firedamp_deliveries_waiting", "Deliveries not made yet.", value=state.counts.waiting)
    lag = state.counts.lag.total_seconds()
    yield GaugeMetricFamily("firedamp_delivery_lag_seconds", "Age of the oldest alert that waits.", value=lag)
    outcome = GaugeMetricFamily("firedamp_job_last_run", "The last run's outcome.", labels=["job", "outcome"])
    seconds = GaugeMetricFamily("firedamp_job_last_duration_seconds", "Duration of the last run.", labels=["job"])
    for run in state.runs:
        outcome.add_metric([run.job, run.outcome], 1)
        if run.ended is not None:
            seconds.add_metric([run.job], (run.ended - run.started).total_seconds())
    yield outcome
    yield seconds
    rate = GaugeMetricFamily("firedamp_scan_bytes_per_second", "Rate of the last scan.", labels=["target"])
    for scan in {run.target: run for run in reversed(state.scans)}.values():
        if scan.ended is not None and scan.ended > scan.started:
            rate.add_metric([scan.target], scan.tally.bytes / (scan.ended - scan.started).total_seconds())
    yield rate


class Health:
    """The HTTP side: on loopback by default, read-only, three paths."""

    def __init__(self, listen: str, read: Callable[[], Snapshot]) -> None:
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Metrics(read))

        host, _, port = listen.rpartition(":")
        host = host.strip("[]")
        local = host == "localhost" or host.startswith("127.") or host == "::1"

        class Server(ThreadingHTTPServer):
            address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

        class Handler(BaseHTTPRequestHandler):
            timeout = _PATIENCE

            def do_GET(self) -> None:
                try:
                    if local and _is_foreign(self.headers.get("Host", "")):
                        status, body = 403, b"this page answers to localhost only\n"
                    else:
                        status, body = _answer(self.path, read, registry)
                except StoreFailure as failure:
                    status, body = 503, f"{failure}\n".encode()
                self.send_response(status)
                self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                """Scrapes are no news."""

        try:
            self._server = Server((host, int(port)), Handler)
        except OSError as error:
            raise Failure(f"{listen} cannot be listened on: {error.strerror}", "listen under [serve]") from error
        self.port: int = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, name="health", daemon=True)

    def start(self) -> None:
        """Answer from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Stop answering."""
        self._server.shutdown()
        self._server.server_close()


def _is_foreign(host: str) -> bool:
    """Whether a request was meant for another host: a web page's, whose name was made to lead to this machine.

    Names of this machine and addresses are not: no page is served under them but our own.
    """
    name = host.strip().rpartition("]")[0].lstrip("[") or host.partition(":")[0]
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return name not in {"", "localhost"}
    return False


def _answer(path: str, read: Callable[[], Snapshot], registry: CollectorRegistry) -> tuple[int, bytes]:
    match path.partition("?")[0]:
        case "/healthz":
            return 200, b"alive\n"
        case "/readyz":
            state = read()
            return (200, b"ready\n") if state.alive else (503, b"the heartbeat is old\n")
        case "/metrics":
            return 200, generate_latest(registry)
        case _:
            return 404, b"/healthz, /readyz or /metrics\n"
