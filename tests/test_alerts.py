"""The outbox over real HTTP, SMTP and UDP: every channel on its own, nothing lost, repeats marked."""

from __future__ import annotations

import hashlib
import hmac
import io
import json
import socket
import threading
import unicodedata
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from tests import faults
from tests.mailbox import Mailbox

from firedamp.service import alerts, wording
from firedamp.service.alerting import make_channels
from firedamp.service.alerts import Channel, World
from firedamp.service.cli import main
from firedamp.service.config import ChannelConfig, Reference, load
from firedamp.storage.errors import Failure, UsageFailure
from firedamp.storage.records import Alert, AlertKind, Severity
from firedamp.storage.secret import Secret
from firedamp.storage.store import Store

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
USED = Alert(
    key="use/EXAMPLE/e1", kind=AlertKind.CANARY_USED, severity=Severity.CRITICAL, at=NOW, key_id="AKIAEXAMPLEEXAMPLE22",
    facts=(
        ("name", "backup-writer"), ("placed", "file /srv/ci/.env (env)"), ("call", "sts:GetCallerIdentity"),
        ("address", "203.0.113.7 (public)"), ("user agent", "aws-cli/2.9\x1b[2J evil\nname  forged"),
    ),
)  # fmt: skip


class Clock:
    def __init__(self) -> None:
        self.time = NOW

    def __call__(self) -> datetime:
        return self.time


class Hook:
    """A webhook on loopback that answers as told and remembers what it got."""

    def __init__(self) -> None:
        self.status, self.retry_after = 200, ""
        self.got: list[tuple[dict[str, str], bytes]] = []
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                hook.got.append((dict(self.headers), body))
                self.send_response(hook.status)
                self.send_header("Location", "/elsewhere")
                if hook.retry_after:
                    self.send_header("Retry-After", hook.retry_after)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/in?token=EXAMPLETOKEN"
        self.chat = self.url.replace("http://", "json://") + "&rto=60"  # else apprise waits four seconds
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def hook() -> Iterator[Hook]:
    hook = Hook()
    yield hook
    hook.server.shutdown()
    hook.server.server_close()


class NoClients:
    def sns(self, region: str) -> Any:
        raise AssertionError(region)

    def sqs(self, region: str) -> Any:
        raise AssertionError(region)


def make(url: str, key: str | None = None, minimum: str = "low", out: io.StringIO | None = None) -> Channel:
    secrets = {"env:URL": url, "env:KEY": key or ""}
    world = World(NoClients(), out or io.StringIO(), lambda: NOW, lambda reference: Secret(secrets[reference.text]))
    return alerts.make_channel(
        ChannelConfig(
            name="it", url=Reference("env:URL"), minimum=minimum, signing_key=Reference("env:KEY") if key else None
        ),
        world,
    )  # fmt: skip


def test_the_words_are_these() -> None:
    golden = Path(__file__).parent / "golden"
    assert wording.word(USED).body == (golden / "alert.txt").read_text(encoding="utf-8").rstrip("\n")
    letter = wording.mail(USED, repeat=True)
    assert f"{letter.title}\n\n{letter.body}" == (golden / "alert.mail").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("agent", "markup"),
    [
        ("<script>x", "<>"),
        ("<!-- x", "<"),
        ("<https://evil.example|mend it here>", "<>"),
        ("[mend it here](https://evil.example)", "]("),
        ("@everyone @here <@U1> a@b.example", "<>"),
        ("||hidden|| ~~struck~~ ```code *bold*", "|~`*"),
    ],
)
def test_nothing_that_a_stranger_chose_is_markup_in_a_chat(agent: str, markup: str, hook: Hook) -> None:
    alert = replace(USED, facts=(("user agent", agent), ("call", "sts:GetCallerIdentity")))
    make(hook.chat).send(alert, False)
    line, after = json.loads(hook.got[0][1])["message"].splitlines()[:2]
    assert (unicodedata.normalize("NFKC", line), after) == (f"user agent  {agent}", "call        sts:GetCallerIdentity")
    assert (set(markup) & set(line), " @" in line) == (set(), False)


def test_ordinary_text_is_the_same_in_a_chat() -> None:
    alert = replace(USED, facts=(("agent", "aws-cli/2.15 md/command#s3.ls [Boto3]"), ("place", "~/x_y (env) a@b.com")))
    assert wording.chat(alert) == wording.word(alert)


def test_an_alert_that_is_longer_than_a_service_takes_comes_in_parts(hook: Hook) -> None:
    facts = tuple((f"fact{number:02}", f"{number:02} " * 300) for number in range(12))
    url = hook.url.replace("http://", "mmost://").partition("/in?")[0]
    make(f"{url}/EXAMPLETOKEN").send(replace(USED, facts=facts), False)
    parts = [json.loads(body)["text"] for _, body in hook.got]
    assert max(len(part) for part in parts) <= 4000, "what Mattermost takes (apprise knows it of each service)"
    assert all(any(f"{name}  " in part for part in parts) for name, _ in facts)
    hook.got.clear()
    make(f"{url}/EXAMPLETOKEN?overflow=truncate").send(replace(USED, facts=facts), False)
    assert len(hook.got) == 1, "as the URL says"


def test_syslog_takes_an_alert_of_any_length() -> None:
    facts = tuple((f"fact{number:02}", "\U0001f600" * 1000) for number in range(12))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(60)
        make(f"syslog://127.0.0.1:{server.getsockname()[1]}").send(replace(USED, facts=facts), False)
        assert b"was used: fact00=" in server.recv(65536)


@pytest.mark.parametrize("kind", AlertKind)
def test_every_kind_of_alert_has_words(kind: AlertKind) -> None:
    worded = wording.word(Alert(key="x", kind=kind, severity=Severity.INFO, at=NOW))
    assert worded.title
    assert "What to do now:" in worded.body


def test_a_signed_webhook_proves_who_sent_it_and_when(hook: Hook) -> None:
    make(f"webhook+{hook.url}", key="EXAMPLEKEY").send(USED, False)
    headers, body = hook.got[0]
    expected = hmac.new(b"EXAMPLEKEY", headers["X-Firedamp-Timestamp"].encode() + b"." + body, hashlib.sha256)
    assert headers["X-Firedamp-Signature"] == f"sha256={expected.hexdigest()}"
    told = json.loads(body)
    assert (told["key"], told["kind"], told["repeat"]) == (USED.key_id, "canary used", False)


def test_a_webhook_that_fails_says_why_and_never_its_url(hook: Hook) -> None:
    for status in (302, 403, 500):
        hook.status = status
        with pytest.raises(Failure, match=str(status)) as caught:
            make(f"webhook+{hook.url}").send(USED, False)
        assert "EXAMPLETOKEN" not in str(caught.value)
    assert len(hook.got) == 3, "a redirect is not followed"
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # and does not listen: bound, it is given to nobody else
        port = closed.getsockname()[1]
        with pytest.raises(Failure, match="cannot be reached") as caught:
            make(f"webhook+http://127.0.0.1:{port}/?token=EXAMPLETOKEN").send(USED, False)
    assert "EXAMPLETOKEN" not in str(caught.value)


def test_a_chat_and_a_mail_arrive_through_apprise(hook: Hook) -> None:
    make(hook.chat).send(USED, False)
    assert "backup-writer" in json.loads(hook.got[0][1])["title"]
    got: list[bytes] = []

    class Box:
        async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
            got.append(envelope.content)
            return "250 OK"

    controller = Mailbox(Box())
    controller.start()
    try:
        place = f"127.0.0.1:{controller.port}"
        make(f"mailto://{place}?from=firedamp@example.com&to=team@example.com&mode=insecure").send(USED, False)
    finally:
        controller.stop()
    assert b"firedamp:" in got[0]
    hook.status = 500
    with pytest.raises(Failure, match="did not take"):
        make(hook.chat).send(USED, False)
    with pytest.raises(UsageFailure, match="no known kind"):
        make("carrier-pigeon://x")


def test_syslog_and_standard_output_take_alerts() -> None:
    out = io.StringIO()
    make("stdout://", out=out).send(USED, True)
    assert "may be a repeat" in out.getvalue()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(60)
        make(f"syslog://127.0.0.1:{server.getsockname()[1]}").send(USED, False)
        line = server.recv(65536)
    assert b"backup-writer" in line
    assert b"\n" not in line.rstrip(b"\0")


def test_one_failing_channel_silences_no_other_and_is_never_switched_off() -> None:
    sent: list[str] = []

    def fail(alert: Alert, repeat: bool) -> None:
        raise Failure("refused")

    clock = Clock()
    channels = [
        Channel("bad", Severity.INFO, fail),
        Channel("good", Severity.INFO, lambda alert, repeat: sent.append(alert.key)),
    ]
    with Store(None) as store:
        store.add_alert(USED)
        for _ in range(200):  # more than a week of tries
            alerts.deliver(store, channels, clock)
            clock.time += timedelta(hours=1)
        assert sent[0] == USED.key
        assert [key for key in sent if key == USED.key] == [USED.key], "delivered once where it works"
        assert f"channel/bad/{USED.key}" in sent, "its failing is itself an alarm on the others"
        assert not any(key.startswith("channel/bad/channel") for key in sent)
        channels[0] = replace(channels[0], send=lambda alert, repeat: sent.append(f"late {alert.key} {repeat}"))
        alerts.deliver(store, channels, clock)
        assert f"late {USED.key} True" in sent, "what waited arrives, marked as a possible repeat"


@pytest.mark.parametrize(
    ("status", "asked", "minutes"),
    [
        (429, "300", 5),
        (503, "Sat, 21 Nov 2026 12:05:00 GMT", 5),
        (429, "864000", 60),
        (503, "Fri, 21 Nov 2036 12:00:00 GMT", 60),
        (429, "0", 0.25),
        (429, "Sat, 21 Nov 2026 11:00:00 GMT", 0.25),
        (429, "soon", 0.25),
        (400, "300", 0.25),
    ],
)
def test_a_channel_that_asks_for_a_pause_is_given_one_of_an_hour_at_most(
    hook: Hook, status: int, asked: str, minutes: float
) -> None:
    clock, pause = Clock(), timedelta(minutes=minutes)
    hook.status, hook.retry_after = status, asked
    out = io.StringIO()
    channels = [replace(make(f"webhook+{hook.url}"), name="busy"), make("stdout://", out=out)]
    with Store(None) as store:
        for number in range(2):
            store.add_alert(replace(USED, key=str(number)))
        alerts.deliver(store, channels, clock)
        assert len(hook.got) == (2 if status == 400 or asked == "soon" else 1), "the pause is for the whole channel"
        told = [alert for _, alert in store.alerts() if alert.kind is AlertKind.CHANNEL]
        assert bool(told) is (minutes > 1), "the others are told at once of a pause longer than our own tries take"
        hook.status = 200
        clock.time += pause - timedelta(seconds=1)
        assert len(alerts.deliver(store, channels, clock).sent) == 2 * len(told), "only what came since"
        clock.time += timedelta(seconds=1)
        assert alerts.deliver(store, channels, clock).sent == ("busy",) * 2


@pytest.mark.parametrize("asked", ["15", "60", "119"])
def test_a_channel_that_asks_for_one_pause_after_the_other_is_told_in_minutes_however_much_waits_for_it(
    hook: Hook, asked: str
) -> None:
    clock, out = Clock(), io.StringIO()
    hook.status, hook.retry_after = 503, asked
    channels = [replace(make(f"webhook+{hook.url}"), name="busy"), make("stdout://", out=out)]
    with Store(None) as store:
        for number in range(5):
            store.add_alert(replace(USED, key=f"before/{number}"))
            alerts.deliver(store, channels, clock)
            clock.time += timedelta(minutes=1)
    assert "An alert channel fails" in out.getvalue()


def test_an_alarm_that_comes_while_a_channel_pauses_is_tried_at_once(hook: Hook) -> None:
    clock, channel = Clock(), make(f"webhook+{hook.url}")
    hook.status, hook.retry_after = 429, "3600"
    with Store(None) as store:
        store.add_alert(USED)
        alerts.deliver(store, [channel], clock)
        hook.status = 200
        store.add_alert(replace(USED, key="another"))
        assert alerts.deliver(store, [channel], clock).sent[0] == "it"


def test_a_channel_that_breaks_ends_no_round_and_its_words_are_not_told() -> None:
    sent: list[str] = []

    def broken(alert: Alert, repeat: bool) -> None:
        raise KeyError("https://chat.example.com/in?token=EXAMPLETOKEN")

    clock = Clock()
    channels = [
        Channel("broken", Severity.INFO, broken),
        Channel("good", Severity.INFO, lambda alert, repeat: sent.append(alert.key)),
    ]
    with Store(None) as store:
        store.add_alert(USED)
        for _ in range(5):
            told = alerts.deliver(store, channels, clock)
            clock.time += timedelta(hours=2)
        assert told.failed[0] == ("broken", "the channel broke: KeyError")
        assert sent == [USED.key, f"channel/broken/{USED.key}"]
        [standing] = [each for each in store.channel_standings() if each.channel == "broken"]
        assert standing.error == "the channel broke: KeyError"


def test_a_crash_after_the_send_makes_a_marked_repeat_not_a_silent_one() -> None:
    repeats: list[bool] = []

    class Crash(BaseException):
        """As kill -9 between the send and the next line."""

    def crash(alert: Alert, repeat: bool) -> None:
        repeats.append(repeat)
        raise Crash

    clock = Clock()
    with Store(None) as store:
        store.add_alert(USED)
        with pytest.raises(Crash):
            alerts.deliver(store, [Channel("it", Severity.INFO, crash)], clock)
        clock.time += timedelta(minutes=1)
        alerts.deliver(store, [Channel("it", Severity.INFO, lambda alert, repeat: repeats.append(repeat))], clock)
    assert repeats == [False, True]


def test_a_channel_hears_what_is_severe_enough_and_an_unknown_one_waits() -> None:
    heard: list[str] = []
    clock = Clock()
    channel = Channel("it", Severity.HIGH, lambda alert, repeat: heard.append(alert.key))
    with Store(None) as store:
        store.add_alert(replace(USED, key="small", severity=Severity.LOW))
        store.add_alert(USED)
        alerts.deliver(store, [channel], clock)
        alerts.deliver(store, [], clock)
        assert heard == [USED.key]
        store.route(["gone"], clock())
        assert alerts.deliver(store, [channel], clock).sent == ()
    assert alerts.test_alert(NOW).kind is AlertKind.TEST


def test_two_processes_that_deliver_at_once_send_an_alert_once(tmp_path: Path) -> None:
    heard: list[str] = []
    with Store(tmp_path / "x.db") as one, Store(tmp_path / "x.db") as other:
        one.add_alert(USED)
        inner = Channel("it", Severity.INFO, lambda alert, repeat: heard.append("the second"))

        def send(alert: Alert, repeat: bool) -> None:
            heard.append("the first")
            alerts.deliver(other, [inner], Clock())

        alerts.deliver(one, [replace(inner, send=send)], Clock())
        one.add_alert(replace(USED, key="next"))
        one.route(["it"], NOW)
        stale = one.due("it", NOW, NOW + timedelta(days=1))
        alerts.deliver(other, [inner], Clock())
        assert not one.begin_delivery(replace(stale[0][0], attempts=1)), "the other took it meanwhile"
    assert heard == ["the first", "the second"]


def test_alerts_that_wait_for_a_dead_channel_hold_up_neither_the_others_nor_one_that_it_takes() -> None:
    heard: list[str] = []
    tried: list[str] = []

    def picky(alert: Alert, repeat: bool) -> None:
        tried.append(alert.key)
        if alert.key != "199":
            raise Failure("it hangs for 20 seconds")

    clock = Clock()
    channels = [
        Channel("bad", Severity.INFO, picky),
        Channel("good", Severity.INFO, lambda alert, repeat: heard.append(alert.key)),
    ]
    with Store(None) as store:
        for number in range(200):
            store.add_alert(replace(USED, key=str(number)))
        store.route(["no longer configured"], NOW)
        alerts.deliver(store, channels, clock)
        assert len(tried) == 3
        assert len(heard) == 100
        for _ in range(100):
            clock.time += timedelta(seconds=30)
            alerts.deliver(store, channels, clock)
        assert "199" in tried


def test_new_alerts_in_every_round_starve_neither_an_old_one_nor_the_alarm_that_its_channel_fails() -> None:
    taken: list[str] = []
    clock, out = Clock(), io.StringIO()

    def send(alert: Alert, repeat: bool) -> None:
        if not (repeat and alert.key == "first"):
            raise Failure("refused at once")
        taken.append(alert.key)

    channels = [Channel("picky", Severity.INFO, send), make("stdout://", out=out)]
    with Store(None) as store:
        store.add_alert(replace(USED, key="first", severity=Severity.LOW))
        alerts.deliver(store, channels, clock)
        for number in range(10):
            clock.time += timedelta(seconds=30)
            for each in range(120):
                store.add_alert(replace(USED, key=f"{number}/{each}", severity=Severity.LOW))
            alerts.deliver(store, channels, clock)
            if number == 4:
                assert "An alert channel fails" in out.getvalue(), "after minutes, though no alert was tried four times"
    assert taken == ["first"]
    assert out.getvalue().count("An alert channel fails") < 10


def test_a_channel_that_takes_each_alert_slowly_makes_no_other_late() -> None:
    clock, times = Clock(), list[datetime]()

    def slow(alert: Alert, repeat: bool) -> None:
        clock.time += timedelta(seconds=25)

    channels = [
        Channel("slow", Severity.INFO, slow),
        Channel("good", Severity.INFO, lambda alert, repeat: times.append(clock.time)),
    ]
    with Store(None) as store:
        for number in range(20):
            store.add_alert(replace(USED, key=str(number)))
        assert alerts.deliver(store, channels, clock).sent == ("slow",) * 3 + ("good",) * 20
        assert times[-1] - NOW < timedelta(seconds=90)
        while alerts.deliver(store, channels, clock).sent:
            pass
        assert store.counts(clock.time).waiting == 0, "the rest comes with the next rounds"


def test_an_alarm_does_not_wait_for_the_time_out_of_a_channel_that_failed_before() -> None:
    clock, times = Clock(), list[datetime]()

    def fail(alert: Alert, repeat: bool) -> None:
        clock.time += timedelta(seconds=30)
        raise Failure("no answer")

    channels = [
        Channel("bad", Severity.INFO, fail),
        Channel("good", Severity.INFO, lambda alert, repeat: times.append(clock.time)),
    ]
    with Store(None) as store:
        store.add_alert(USED)
        alerts.deliver(store, channels, clock)
        store.add_alert(replace(USED, key="next"))
        began = clock.time
        alerts.deliver(store, channels, clock)
    assert times[-1] == began


def test_an_alarm_goes_before_a_flood_of_notes() -> None:
    heard: list[str] = []
    channel = Channel("it", Severity.LOW, lambda alert, repeat: heard.append(alert.key))
    with Store(None) as store:
        for number in range(500):
            store.add_alert(replace(USED, key=str(number), severity=Severity.INFO))
        store.add_alert(USED)
        alerts.deliver(store, [channel], Clock())
    assert heard == [USED.key]


def test_a_clock_that_was_ahead_puts_nothing_off_and_a_crash_does_not_hide_that_a_channel_fails() -> None:
    heard: list[str] = []
    clock = Clock()
    clock.time += timedelta(days=400)

    def fail(alert: Alert, repeat: bool) -> None:
        heard.append(alert.key)
        raise Failure("refused")

    channel = Channel("it", Severity.INFO, fail)
    with Store(None) as store:
        store.add_alert(USED)
        alerts.deliver(store, [channel], clock)
        clock.time = NOW
        alerts.deliver(store, [channel], clock)
        assert heard == [USED.key] * 2
        begun = store.due("it", NOW + timedelta(hours=2), NOW + timedelta(days=1))[0][0]
        # The fourth try began, and the process was killed in it.
        store.set_delivery(replace(begun, attempts=4))
        clock.time += timedelta(hours=2)
        alerts.deliver(store, [channel], clock)
        assert f"channel/it/{USED.key}" in [alert.key for _, alert in store.alerts()]


def test_a_webhook_that_answers_nonsense_fails_alone() -> None:
    with faults.trickling(b"this is no HTTP\r\n\r\n") as url:
        bad = make(f"webhook+{url}/in?token=EXAMPLETOKEN")
        with pytest.raises(Failure, match="cannot be reached") as caught:
            bad.send(USED, False)
        assert "EXAMPLETOKEN" not in str(caught.value)


def test_a_webhook_that_answers_a_letter_at_a_time_holds_up_no_other_channel() -> None:
    out = io.StringIO()
    with faults.trickling(b"HTTP/1.1 200 OK\r\nX-Slow: ") as url, Store(None) as store:
        slow = replace(make(f"webhook+{url}/in"), name="slow")
        for number in range(3):
            store.add_alert(replace(USED, key=str(number)))
        done = alerts.deliver(store, [slow, make("stdout://", out=out)], Clock(), limit=0.5)
    assert done.sent == ("it",) * 3
    assert [name for name, _ in done.failed] == ["slow"], "what hangs is not tried again in the same round"
    assert "backup-writer" in out.getvalue()


def test_a_channel_whose_secret_is_gone_fails_like_any_other_and_is_alarmed_on_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config, database = tmp_path / "firedamp.toml", tmp_path / "x.db"
    names = {"out": "env:OUT", "chat": "env:GONE", "odd": "env:ODD"}
    config.write_text("".join(f'[[channel]]\nname = "{name}"\nurl = "{url}"\n' for name, url in names.items()))
    monkeypatch.setenv("OUT", "stdout://")
    monkeypatch.setenv("ODD", "http://[EXAMPLETOKEN")
    with Store(database) as store:
        store.add_alert(USED)
        clock = Clock()
        for _ in range(5):
            channels, broken = make_channels(load(config), store)
            alerts.deliver(store, channels, clock)
            clock.time += timedelta(hours=2)
        assert [name for name, _ in broken] == ["chat", "odd"]
        assert {alert.key for _, alert in store.alerts()} == {
            USED.key, f"channel/chat/{USED.key}", f"channel/odd/{USED.key}"
        }  # fmt: skip
    printed = capsys.readouterr().out
    assert ("An alert channel fails" in printed, "EXAMPLETOKEN" in printed) == (True, False)
    for action, told in (("test", "1 sent, 2 failed"), ("deliver", "failed")):
        assert main(["alert", action, "--config", str(config), "--db", str(database)]) == 2
        errors = capsys.readouterr().err
        assert told in errors
        assert errors.count("channel chat:") == 1
