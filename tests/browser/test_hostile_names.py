"""Names that attackers choose: markup, escapes, NUL, surrogates and 10 KB, planted at the real doors and in the rows.

Shapes  They go in as EHLO name, username, sender and subject by SMTP, and straight into every text of an attempt, a
        refusal, a door failure and a change. Then every page that shows such names is opened, searched by them too.
        Nothing may run, no element may come of them, no page may grow wider; and every line of the logs is one JSON.
"""

import base64
import json
import socket
import ssl
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser.conftest import sign_in
from tests.browser.watch import NARROW, WIDE, Watched
from tests.plugins.running import Running

pytestmark = pytest.mark.browser

IP = "127.0.0.66"
MARKUP = '<img src=x onerror="window.planted=1"><b data-planted>x</b><script>window.planted=1</script>'
NAMES = (
    MARKUP,
    '" onfocus="window.planted=1" autofocus data-planted="',
    "</textarea></title></code><svg data-planted onload=window.planted=1>",
    "{{ 7|add:35 }}{% now 'Y' %}${7*6}",
    "javascript:window.planted=1",
    '\x1b[2J\x1b[31mred\r\n{"event": "forged", "level": "critical"}\n',
    "a\x00b\x7f\x85\u2028\u202egnp.exe",
    "\ud800\udfff",
    '=HYPERLINK("http://evil.example")',
    "<b data-planted>" + "x" * 10_000,
)
WINDOW = "() => [window.planted, document.querySelectorAll('[data-planted], img[src=x]').length]"
PLANT = """
import json, sys
from django.utils import timezone
from accounts.models import Organization, User
from audit.anomalies.cases import raise_alert
from audit.anomalies.models import Kind, Severity
from audit.changes import Actor, record_change
from audit.record import attempt, record_auth_event
from django.db import transaction
from relay.models import DoorFailure, Message, Refusal, SmtpUser
from audit.record import printable
names, email, ip = json.loads({given!r})
organization = Organization.objects.get(memberships__user__email=email)
smtp_user = SmtpUser.objects.filter(organization=organization).first()
now, references = timezone.now(), []
for number, name in enumerate(names):
    for whose, user in ((organization.pk, smtp_user.pk), (None, None)):
        row = record_auth_event(attempt(result="refused", reason="unknown_user", ip=ip, port=587, worker=name,
            username_given=name, mechanism=name, client_name=name, tls_version=name, tls_cipher=name,
            organization_id=whose, smtp_user_id=user, count=3, samples=[name, name]))
        references.append(row.reference)
    text = printable(name, 255)
    refusal = Refusal.objects.create(at=now, reference=f"REFVSED{{number:03d}}", organization_id=organization.pk,
        smtp_user_id=smtp_user.pk, ip=ip, client_name=text, code=550, enhanced_code="5.7.1", text=text, about=text,
        reverse_path=text, worker="w")
    DoorFailure.objects.create(reference=f"D00RFA1{{number:03d}}", place=ip, cause="tls_broken", port=465, count=1,
        first_at=now, last_at=now, detail=text, worker="w")
    for kind in (Kind.CLIENT, Kind.USERNAMES, Kind.NETWORK):
        facts = {{"ip": ip, "client": text, "username": text, "usernames": [text, text], "network": text, "count": 9}}
        for whose in (organization.pk, None):
            raise_alert(kind, organization_id=whose, key=f"{{kind}}:{{number}}", severity=Severity.WARNING,
                evidence=facts, smtp_user_ids=[smtp_user.pk] if whose else [])
    with transaction.atomic():
        record_change("thing.changed", organization_id=organization.pk, actor=Actor(name), subject=name,
            values={{name: {{"from": name, "to": name}}, "b": [name, name]}})
record_auth_event(attempt(result="accepted", reason="ok", ip=ip, port=587, worker="w", organization_id=organization.pk,
    smtp_user_id=smtp_user.pk, username_given=smtp_user.username))
print(json.dumps({{"references": references, "pk": organization.pk, "smtp_user": smtp_user.pk}}))
"""


class Door:
    """A client that says octets."""

    def __init__(self, running: Running, number: int) -> None:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        address = ("127.0.0.1", running.doors.smtps_port)
        raw = socket.create_connection(address, timeout=20, source_address=(f"127.0.0.{70 + number}", 0))
        self.file = context.wrap_socket(raw).makefile("rwb", buffering=0)
        self.reply()

    def reply(self) -> bytes:
        while (line := self.file.readline())[3:4] == b"-":
            pass
        return line

    def say(self, line: bytes) -> bytes:
        self.file.write(line + b"\r\n")
        return self.reply()


def octets(name: str) -> bytes:
    return name.encode("utf-8", "surrogatepass")


def plant_by_smtp(running: Running) -> None:
    """Each name as EHLO's, as a username, as a sender and in a subject."""
    given = running.credentials
    right = base64.b64encode(f"\0{given['smtp_user']}\0{given['app_password']}".encode())
    for number, name in enumerate(NAMES):
        door = Door(running, number)
        one_line = octets(name).replace(b"\r", b"").replace(b"\n", b"")
        door.say(b"EHLO " + one_line[:1500])
        door.say(b"EHLO client.example")
        door.say(b"AUTH LOGIN " + base64.b64encode(octets(name)[:6000]))
        door.say(base64.b64encode(octets(name)[:6000]))
        assert door.say(b"AUTH PLAIN " + right).startswith(b"235")
        door.say(b"MAIL FROM:<" + one_line[:1500] + b"@x.example>")
        door.say(b'MAIL FROM:<"' + one_line[:1500] + b'"@x.example>')
        sender = given["sender"].encode()
        assert door.say(b"MAIL FROM:<" + sender + b">").startswith(b"250")
        assert door.say(b"RCPT TO:<someone@recipient.example>").startswith(b"250")
        assert door.say(b"DATA").startswith(b"354")
        # Within what a header may hold at all: bare line ends and NUL are refused for the whole message.
        subject = one_line.replace(b"\x00", b"")[:900]
        door.say(b"From: <" + sender + b">\r\nSubject: " + subject + b"\r\n\r\nHello\r\n.")
        door.file.close()


@pytest.fixture(scope="module")
def planted(running: Running) -> dict[str, Any]:
    plant_by_smtp(running)
    words = json.dumps([NAMES, running.credentials["customer"]["email"], IP])
    made: dict[str, Any] = running.python(PLANT.format(given=words))
    return made


@pytest.fixture(scope="module")
def customer_page(running: Running, browser: Any) -> Iterator[Watched]:
    context = browser.new_context(base_url=running.web_url, viewport=WIDE, reduced_motion="reduce")
    watched = Watched(context)
    sign_in(watched, running.credentials["customer"]["email"], running.credentials["customer"]["password"])
    yield watched
    context.close()


def quoted(name: str) -> str:
    return urllib.parse.quote(octets(name)[:1500])


def customer_paths(running: Running, planted: dict[str, Any]) -> Iterator[str]:
    yield from ("/", "/auth-log/", "/why/", "/messages/", "/alerts/", "/change-log/", "/smtp-users/", f"/why/?ip={IP}")
    yield f"/smtp-users/{planted['smtp_user']}/"
    for reference in planted["references"][::2]:
        yield f"/auth-log/{reference}/"
    for number in range(len(NAMES)):
        yield f"/why/?q=REFVSED{number:03d}"
        yield f"/why/?q=D00RFA1{number:03d}"
    for (pk,) in running.sql("SELECT id FROM relay_message ORDER BY received_at DESC LIMIT 10"):
        yield f"/messages/{pk}/"
    for name in NAMES:
        yield f"/auth-log/?user={quoted(name)}"
        yield f"/why/?q={quoted('550 5.7.1 ' + name)}"
        yield f"/why/?ip={quoted(name)}"
        yield f"/messages/?q={quoted(name)}"
        yield f"/change-log/?who={quoted(name)}"


def operator_paths(running: Running, planted: dict[str, Any]) -> Iterator[str]:
    yield from ("/ops/", "/ops/auth/?period=24h", "/ops/messages/", "/ops/alerts/", "/ops/changes/", "/ops/customers/")
    yield f"/ops/auth/ip/?ip={IP}"
    yield f"/ops/customers/{planted['pk']}/"
    yield f"/ops/changes/?customer={planted['pk']}"
    for reference in planted["references"]:
        yield f"/ops/reference/{reference}/"
    for (pk,) in running.sql("SELECT id FROM relay_message ORDER BY received_at DESC LIMIT 10"):
        yield f"/ops/messages/{pk}/"
    for name in NAMES:
        yield f"/ops/auth/?username={quoted(name)}&mechanism={quoted(name)}"
        yield f"/ops/find/?q={quoted(name)}"
        if name != "\ud800\udfff":  # of which nothing is left to ask for
            yield f"/ops/auth/username/?name={quoted(name)}"


def look(watched: Watched, path: str) -> list[str]:
    """What is wrong with the page, on a telephone and on a desk."""
    watched.problems.clear()
    watched.page.set_viewport_size(NARROW)
    response = watched.page.goto(path)
    assert response is not None
    found = [] if response.status < 500 else [f"{path}: {response.status}"]
    if watched.page.evaluate(WINDOW) != [None, 0]:
        found.append(f"{path}: something ran, or became an element")
    for size in (NARROW, WIDE):
        watched.page.set_viewport_size(size)
        if wide := watched.too_wide():
            found.append(f"{path}: too wide at {size['width']}: {wide[:2]}")
    return found + [each for each in watched.problems if not each.endswith((": 404", ": 422", ": 400"))]


def test_no_name_does_anything_on_the_customers_pages(
    running: Running, planted: dict[str, Any], customer_page: Watched
) -> None:
    """Auth log, messages, why, alerts, change log, SMTP users: each shows them as text."""
    customer_page.look(scheme="light")
    assert [bad for path in customer_paths(running, planted) for bad in look(customer_page, path)] == []
    customer_page.page.goto("/auth-log/")
    assert "<img src=x onerror" in customer_page.page.locator("main").inner_text()


def test_no_name_does_anything_on_the_operators_pages(
    running: Running, planted: dict[str, Any], people: dict[str, Watched]
) -> None:
    """The Floor, the review, the stories, references, messages, alerts, changes."""
    watched = people["operator"]
    watched.look(scheme="dark")
    assert [bad for path in operator_paths(running, planted) for bad in look(watched, path)] == []


def test_no_name_breaks_a_line_of_the_logs(running: Running, planted: dict[str, Any]) -> None:
    """Each line of smtpd's log is one JSON object without a control character, and no event is forged."""
    logs = sorted((running.state / "log").glob("smtpd*"))
    assert logs
    lines = [line for log in logs for line in _lines(log)]
    assert [line for line in lines if "planted" in line]
    for line in lines:
        assert line.isprintable(), line[:200]
        assert len(line) < 20_000
        assert isinstance(json.loads(line), dict)
    assert not [line for line in lines if json.loads(line).get("event") == "forged"]


def _lines(log: Path) -> list[str]:
    """As they are separated: by newlines alone, whatever else breaks a line for a terminal."""
    return [line for line in log.read_bytes().decode("utf-8").split("\n") if line]
