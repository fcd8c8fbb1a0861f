"""relay.loop and relay.delivery: from a row in the queue to a message at the next hop."""

import asyncio
import base64
import os
from pathlib import Path
from typing import Any

import pytest

from accounts.models import Organization
from relay.loop import Pace
from relay.models import MessageData, NamedRoute, Recipient, RouteChoice
from relay.smtp.client import Timeouts
from tests.relay.delivery.running import (
    ABC,
    all_attempted,
    all_settled,
    amake_message,
    attempts,
    delivering,
    due_now,
    eventually,
    recipients,
    smarthost,
)
from tests.relay.delivery.scripted_server import DROP, FEATURES, HANG, ScriptedServer

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("async_orm")]

# --- Routes -----------------------------------------------------------------------------------------------------------


async def test_the_sandbox_keeps_mail(alice_org: Organization) -> None:
    """Each recipient is delivered without a connection, and the page's words are in its reply."""
    await amake_message(alice_org, recipients=ABC)
    async with delivering():
        await all_settled()
    for recipient in (await recipients()).values():
        assert (recipient.state, recipient.reply) == ("delivered", "250 2.0.0 Captured. Nothing left Gatepost.")
    assert [(row.outcome, row.next_hop, row.reached_final_dot) for row in await attempts()] == [
        ("delivered", "sandbox", False)
    ] * 3


async def test_the_smarthost_gets_the_mail_to_the_byte(alice_org: Organization) -> None:
    """Envelope and a content of 10 MB with dots and 8-bit octets arrive as stored, in one transaction."""
    content = b"Subject: x\r\n\r\n.\r\n..\xe4\r\n" + base64.encodebytes(os.urandom(7_500_000)).replace(b"\n", b"\r\n")
    message = await amake_message(alice_org, recipients=ABC, route="smarthost", content=content)
    async with ScriptedServer() as server, delivering():
        with smarthost(server):
            await all_settled()
    (taken,) = server.taken
    assert taken.content == content == bytes((await MessageData.objects.aget(message=message)).content)
    assert taken.recipients == list(ABC) and taken.mail.startswith("MAIL FROM:<app@alice.example>")
    row = (await attempts())[0]
    assert (row.outcome, row.code, row.enhanced_code, row.text) == ("delivered", 250, "2.0.0", "Queued")
    assert (row.next_hop, row.next_hop_ip, row.reached_final_dot) == (f"127.0.0.1:{server.port}", "127.0.0.1", True)
    assert row.worker == "delivery@test:1"


async def test_an_organizations_own_smarthost(alice_org: Organization) -> None:
    """It gets that organization's mail, and never the installation's login."""
    async with ScriptedServer(features=("AUTH PLAIN",)) as server, ScriptedServer() as other, delivering():
        with smarthost(other, GATEPOST_SMARTHOST_USERNAME="u", GATEPOST_SMARTHOST_PASSWORD="p"):
            named = await NamedRoute.objects.acreate(
                name="Own", kind="smarthost", hosts=[["127.0.0.1", server.port]], tls="none"
            )
            await RouteChoice.objects.acreate(route=named, organization=alice_org)
            await amake_message(alice_org, route="smarthost")
            await all_settled()
    assert len(server.taken) == 1 and not other.commands
    assert not any(command.startswith("AUTH") for command in server.commands)


async def test_a_route_that_is_not_configured(alice_org: Organization) -> None:
    """Mail for a smarthost that nobody has named waits, and says why."""
    await amake_message(alice_org, route="smarthost")
    async with delivering():
        await all_attempted()
    (recipient,) = (await recipients()).values()
    assert recipient.state == "queued"
    assert recipient.reply == "The route is smarthost, but GATEPOST_SMARTHOST is not set."


# --- Refusals ---------------------------------------------------------------------------------------------------------


async def test_later_and_then_yes(alice_org: Organization) -> None:
    """A 4xx waits for its time; the next attempt delivers, and both are written down."""
    await amake_message(alice_org, route="smarthost")
    async with ScriptedServer({"RCPT": ["451 4.2.0 Greylisted", "250 Ok"]}) as server, delivering():
        with smarthost(server):
            await all_attempted()
            assert (await recipients())["you@example.net"].reply == "451 4.2.0 Greylisted"
            await due_now()
            await all_settled()
    assert [(row.number, row.outcome, row.code) for row in await attempts()] == [
        (1, "deferred", 451),
        (2, "delivered", 250),
    ]
    assert (await recipients())["you@example.net"].state == "delivered"


async def test_one_of_three_is_refused_for_good(alice_org: Organization) -> None:
    """That one fails at once with the next hop's words; the other two are delivered."""
    await amake_message(alice_org, recipients=ABC, route="smarthost")
    async with ScriptedServer({"RCPT": ["250 Ok", "550 5.1.1 No such user", "250 Ok"]}) as server, delivering():
        with smarthost(server):
            await all_settled()
    found = {address: (row.state, row.reply) for address, row in (await recipients()).items()}
    assert found["b@example.net"] == ("failed", "550 5.1.1 No such user")
    assert [found[address][0] for address in (ABC[0], ABC[2])] == ["delivered", "delivered"]
    assert server.taken[0].recipients == [ABC[0], ABC[2]]


async def test_too_many_recipients_at_once(alice_org: Organization) -> None:
    """452 after some were accepted: the rest goes at once, in the same session (RFC 5321 4.5.3.1.10)."""
    await amake_message(alice_org, recipients=ABC, route="smarthost")
    script = {"RCPT": ["250 Ok", "452 4.5.3 Too many", "452 4.5.3 Too many", "250 Ok"]}
    async with ScriptedServer(script) as server, delivering():
        with smarthost(server):
            await all_settled()
    assert [taken.recipients for taken in server.taken] == [[ABC[0]], [ABC[1], ABC[2]]]
    assert server.sessions == 1


@pytest.mark.parametrize(
    ("script", "features", "words"),
    [
        ({"RCPT": ["250 Ok", "421 4.3.2 Closing"]}, FEATURES, "421 4.3.2 Closing"),
        ({"AUTH": "535 5.7.8 Wrong password"}, ("AUTH PLAIN",), "refused (AUTH): 535 5.7.8 Wrong password"),
        ({"MAIL": "530 5.7.0 Authenticate first"}, (), "530 5.7.0 Authenticate first"),
        ({"GREETING": "554 5.7.1 Listed"}, (), "refused (greeting): 554 5.7.1 Listed"),
        ({"DATA": DROP}, FEATURES, "The server closed the connection."),
        ({"RCPT": HANG}, FEATURES, "The server took longer than 0.3 s for answering."),
    ],
)
async def test_what_is_tried_again(
    alice_org: Organization, script: dict[str, Any], features: tuple[str, ...], words: str
) -> None:
    """Sessions that end, time that passes and refusals of us, not of the mail, defer every recipient with the words."""
    await amake_message(alice_org, recipients=ABC, route="smarthost")
    login = {"GATEPOST_SMARTHOST_USERNAME": "u", "GATEPOST_SMARTHOST_PASSWORD": "p"} if "AUTH" in script else {}
    async with ScriptedServer(script, features) as server, delivering(timeouts=Timeouts(*([0.3] * 10))):
        with smarthost(server, **login):
            await all_attempted()
    for recipient in (await recipients()).values():
        assert recipient.state == "queued" and words in recipient.reply
        assert not recipient.possibly_delivered
    assert {row.outcome for row in await attempts()} == {"deferred"}


async def test_a_dead_port(alice_org: Organization) -> None:
    """The mail waits, and its reply names the address that refused."""
    await amake_message(alice_org, route="smarthost")
    async with ScriptedServer() as server:
        pass
    async with delivering():
        with smarthost(server):
            await all_attempted()
    assert f"Could not connect to 127.0.0.1:{server.port}" in (await recipients())["you@example.net"].reply


async def test_a_certificate_nobody_trusts(alice_org: Organization, certificate: Path) -> None:
    """No mail leaves: it waits, and the words say what is wrong."""
    await amake_message(alice_org, route="smarthost")
    async with ScriptedServer(features=("STARTTLS",), certificate=certificate) as server, delivering():
        with smarthost(server, GATEPOST_SMARTHOST_TLS="starttls"):
            await all_attempted()
        assert not server.taken
    assert "its certificate is not trusted" in (await recipients())["you@example.net"].reply


async def test_a_connection_lost_after_the_final_dot(alice_org: Organization) -> None:
    """Nobody knows: it is tried again, and marked as possibly delivered."""
    await amake_message(alice_org, route="smarthost")
    async with ScriptedServer({"DOT": [DROP, "250 Ok"]}) as server, delivering():
        with smarthost(server):
            await all_attempted()
            (row,) = await attempts()
            assert (row.outcome, row.reached_final_dot) == ("deferred", True)
            await due_now()
            await all_settled()
    recipient = (await recipients())["you@example.net"]
    assert (recipient.state, recipient.possibly_delivered) == ("delivered", True)
    assert len(server.taken) == 2


async def test_the_content_is_gone(alice_org: Organization) -> None:
    """Nothing can be sent: the recipient fails, with the reason."""
    await amake_message(alice_org, route="smarthost")
    await MessageData.objects.all().adelete()
    async with ScriptedServer() as server, delivering():
        with smarthost(server):
            await all_settled()
    assert (await recipients())["you@example.net"].reply == "The content is no longer there."


# --- Sessions ---------------------------------------------------------------------------------------------------------


async def test_sessions_are_used_again(alice_org: Organization) -> None:
    """Five messages one after the other go through one session, closed with QUIT at the end."""
    async with ScriptedServer() as server:
        with smarthost(server):
            async with delivering():
                for _ in range(5):
                    await amake_message(alice_org, route="smarthost")
                    await all_settled()
        assert (server.sessions, len(server.taken)) == (1, 5)
        assert server.commands[-1] == "QUIT"


async def test_a_session_that_died_idle_is_replaced(alice_org: Organization) -> None:
    """The next message goes through a new session, in the same attempt."""
    async with ScriptedServer({"RSET": DROP}) as server, delivering():
        with smarthost(server):
            for _ in range(2):
                await amake_message(alice_org, route="smarthost")
                await all_settled()
    assert server.sessions == 2
    assert [row.outcome for row in await attempts()] == ["delivered", "delivered"]


async def test_no_more_than_ten_sessions_with_one_next_hop(alice_org: Organization) -> None:
    """Forty messages at once open ten, and all are delivered."""
    for _ in range(40):
        await amake_message(alice_org, route="smarthost")
    full = asyncio.Event()

    async def when_ten_wait() -> str:
        if server.open_now == 10:
            full.set()
        await full.wait()
        return "250 Ok"

    async with ScriptedServer({"DOT": when_ten_wait}) as server:
        with smarthost(server):
            async with delivering():
                await all_settled()
    assert (server.most_at_once, len(server.taken)) == (10, 40)


async def test_a_slow_smarthost_does_not_stop_the_sandbox(alice_org: Organization) -> None:
    """With 500 recipients waiting for a next hop that says nothing, sandbox mail is kept at once."""
    for _ in range(5):
        await amake_message(alice_org, route="smarthost", recipients=[f"{n}@example.net" for n in range(100)])
    async with ScriptedServer({"GREETING": HANG}) as server, delivering(Pace(finish=0.1)):
        with smarthost(server):
            await amake_message(alice_org, recipients=["sandbox@example.net"])

            async def kept() -> bool:
                return await Recipient.objects.filter(address="sandbox@example.net", state="delivered").aexists()

            await eventually(kept, seconds=5)
