"""Mail and mailboxes as the standard library and careless programs write them."""

from __future__ import annotations

import base64
import time
from email.message import EmailMessage

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.builders import noise

from firedamp.scanner.budget import Budget, Limits, in_memory
from firedamp.scanner.containers import Member, opened, walk
from firedamp.scanner.formats import container_of
from firedamp.storage.records import Skipped

FROM = b"From a@example.com Sat Nov 21 10:00:00 2026\n"


def walked(data: bytes) -> list[Member | Skipped]:
    kind = container_of(data[:4096])
    assert kind is not None
    budget = Budget(Limits(), len(data), time.monotonic)
    return list(walk(kind, opened(kind, in_memory(data), budget), budget, lambda _: True))


def members(data: bytes) -> dict[str, bytes]:
    items = walked(data)
    assert not [item for item in items if isinstance(item, Skipped)]
    found: dict[str, bytes] = {}
    for item in items:
        assert isinstance(item, Member)
        found[item.container] = found.get(item.container, b"") + item.data
    return found


def mail(*attachments: tuple[str, bytes]) -> EmailMessage:
    message = EmailMessage()
    message["From"] = "a@example.com"
    message["Message-ID"] = "<1@example.com>"
    message.set_content("the text\n")
    for name, data in attachments:
        message.add_attachment(data, maintype="application", subtype="octet-stream", filename=name)
    return message


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.binary(max_size=3000) | st.integers(200_000, 300_000).map(noise), max_size=4),
    st.booleans(),
    st.sampled_from(["\n", "\r\n"]),
)
def test_attachments_of_every_size_come_back(contents: list[bytes], mailbox: bool, ending: str) -> None:
    message = mail(*((f"{number}.bin", data) for number, data in enumerate(contents)))
    data = message.as_bytes(policy=message.policy.clone(linesep=ending))
    prefix = "message 1/" if mailbox else ""
    found = members(FROM + data + b"\n" if mailbox else data)
    assert found.pop(f"{prefix}part 1").strip() == b"the text"
    for number, content in enumerate(contents):
        assert found.get(f"{prefix}{number}.bin", b"") == content or container_of(content[:4096])


@settings(deadline=None, max_examples=30)
@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=300))
def test_quoted_printable_comes_back(text: str) -> None:
    message = EmailMessage()
    message["Message-ID"] = "<1@example.com>"
    message["From"] = "a@example.com"
    message.set_content("here: " + text, cte="quoted-printable")
    body = members(b"From: a@example.com\n" + message.as_bytes())["part 1"]
    assert body.decode().rstrip("\n") == "here: " + text


def test_mails_inside_mails_are_read_down_to_their_parts() -> None:
    inner = mail(("key.env", b"the key"))
    outer = mail(("outer.bin", b"outer"))
    outer.add_attachment(inner)
    found = members(outer.as_bytes())
    assert found["key.env"] == b"the key"
    assert found["outer.bin"] == b"outer"


def test_alternatives_inside_a_mixture_are_read() -> None:
    message = mail()
    message.add_alternative("<p>markup</p>", subtype="html")
    message.add_attachment(b"the key", maintype="application", subtype="octet-stream", filename="key.env")
    found = members(message.as_bytes())
    assert [text.strip() for text in found.values()] == [b"the text", b"<p>markup</p>", b"the key"]


def test_every_message_of_a_mailbox_is_read_and_told_apart() -> None:
    one = FROM + mail(("key.env", b"the key")).as_bytes() + b"\n"
    two = FROM + b"From: b@example.com\nMessage-ID: <2>\n\nFrom me to you\n\nFrom here on\n\n"
    found = members(one + two + one)
    assert found["message 2/part 1"].strip() == b"From me to you\n\nFrom here on"
    assert found["message 1/key.env"] == found["message 3/key.env"] == b"the key"


HEAD = b"From: a@example.com\nMessage-ID: <1@example.com>\n"


@pytest.mark.parametrize(
    ("body", "parts"),
    [
        (b"", []),
        (b"\n", []),
        (b"\nplain", [b"plain"]),
        (
            b'Content-Type: multipart/mixed; boundary="b"\n\npreamble\n--b\n\none\n--b\n\ntwo\n--b--\nepilogue',
            [b"one", b"two"],
        ),
        (b'Content-Type: multipart/mixed; boundary="b"\n\n--b\n\none\n--b\n\ncut off', [b"one", b"cut off"]),
        (b'Content-Type: multipart/mixed; boundary="b"\n\n--b\nX-A: b\n--b\n\ntwo\n--b--', [b"two"]),
        (b'Content-Type: multipart/mixed; boundary="b"\n\nno parts', []),
        (b"Content-Type: multipart/mixed\n\nno boundary", [b"no boundary"]),
        (b'Content-Type: multipart/mixed; boundary="b"\n\n--b\n\n--b in a line\n--bb\n--b--', [b"--b in a line\n--bb"]),
        (b"Content-Transfer-Encoding: base64\n\nb25l\nIHR3\nbw", [b"one two"]),
        (b"Content-Transfer-Encoding: 8bit\nContent-Disposition: attachment; filename*=bad''%ff%zz\n\none", [b"one"]),
    ],
)
def test_odd_messages_are_read_as_far_as_they_go(body: bytes, parts: list[bytes]) -> None:
    assert list(members(HEAD + body).values()) == parts


@pytest.mark.parametrize("more", ["Q", "-- \nfooter of a list", "=\nfooter", "="])
@pytest.mark.parametrize("content", [b"four", b"fives", b"sixsix"])
def test_what_is_whole_of_base64_is_decoded(content: bytes, more: str) -> None:
    encoded = base64.b64encode(content) + b"\n" + more.encode()
    (found,) = members(HEAD + b"Content-Transfer-Encoding: base64\n\n" + encoded).values()
    assert found == content if len(content) % 3 else found.startswith(content)
    assert members(HEAD + b"Content-Transfer-Encoding: base64\n\nQ") == {}


def test_a_mailbox_may_begin_with_any_header() -> None:
    first = FROM + b"X-%b: x\n" % (b"long-" * 20)
    assert members(first + HEAD + b"\nthe text")["message 1/part 1"] == b"the text"


def test_nests_of_multiparts_and_messages_end() -> None:
    deep = b"".join(b'Content-Type: multipart/mixed; boundary="%d"\n\n--%d\n' % (n, n) for n in range(100))
    assert walked(HEAD + deep + b"\nend")
    assert walked(HEAD + b"Content-Type: message/rfc822\n\n" * 2000 + b"\nend")


def test_a_header_without_end_is_no_trouble() -> None:
    found = members(HEAD + b"X: " + b"x" * 3_000_000)
    assert sum(map(len, found.values())) <= 3_000_000


@pytest.mark.parametrize(
    "head",
    [
        b'Content-Type: multipart/mixed; boundary="b"\nMIME-Version: 1.0\nSubject: s\nFrom: a@example.com\n',
        b"ARC-Seal: i=1; a=rsa;\n b=none\nSubject: s\nTo: b@example.com\nFrom: a@example.com\n",
        b"Organization: x\r\nfrom: A <a@example.com>\r\ndate: now\r\n",
        b"X-%b: x\nFrom: a@example.com\nTo: b@example.com\n" % (b"long-" * 20),
        b"From: Alice\nMessage-ID: <1@example.com>\n",
        b"To: b@example.com,\n c@example.com\nSubject: s\nDate: now\n",
        b"Subject: s\r\nCc: b@example.com\r\nContent-Type: text/plain\r\n",
        b"From: Alice\nTo: Bob\nSubject: s\n",
        b"Reply-To: a\nReceived: from a\n\tby b\n\tfor c\nX-Any: thing\nReceived: x\n",
    ],
)
def test_a_mail_may_begin_with_any_header(head: bytes) -> None:
    assert container_of(head + b"\ntext") == "mail"


@pytest.mark.parametrize(
    "text",
    [
        b"From: Amsterdam\nTo: Berlin\nDate: 2026-11-22\n",
        b"Date: Sun, 22 Nov 2026 09:00:00 GMT\nContent-Type: text/html\nServer: nginx\n\n",
        b"HTTP/1.1 200 OK\nDate: now\nFrom: a@example.com\n",
        b"name: build\non: push\nsubject: x\nto: a@example.com\ndate: now\n",
        b"author: x\n\nFrom: a@example.com\nTo: b@example.com\n",
        b"From: a@example.com\nhello: there\n",
        b"Subject: x\nTo: b\nhello: there\n",
        b"Subject: x\nSubject: y\nDate: now\n",
        b"Subject: x\n" * 400,
        b"import re\nReceived: x\nMessage-ID: x\n",
        b"// http://example.com\nReceived: x\nMessage-ID: x\n",
        b"key: value\n" * 400,
        b"To:\n" * 1000,
        b"x:\n " * 1000,
        b"To:\n To:\n" * 500,
    ],
)
def test_what_only_looks_like_headers_is_no_mail_and_that_is_told_fast(text: bytes) -> None:
    began = time.process_time()
    for _ in range(100):
        assert container_of(text[:4096]) is None
    assert time.process_time() - began < 1
