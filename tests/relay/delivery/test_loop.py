"""relay.loop and relay.delivery: from a row in the queue to a message at the next hop."""

import asyncio
import base64
import os

import pytest

from accounts.models import Organization
from relay.loop import Pace
from relay.models import MessageData, NamedRoute, Recipient, RouteChoice
from tests.relay.delivery.running import (
    ABC,
    all_attempted,
    all_settled,
    amake_message,
    attempts,
    delivering,
    eventually,
    recipients,
    smarthost,
)
from tests.relay.delivery.scripted_server import DROP, HANG, ScriptedServer

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


async def test_too_many_recipients_at_once(alice_org: Organization) -> None:
    """452 after some were accepted: the rest goes at once, in the same session (RFC 5321 4.5.3.1.10)."""
    await amake_message(alice_org, recipients=ABC, route="smarthost")
    script = {"RCPT": ["250 Ok", "452 4.5.3 Too many", "452 4.5.3 Too many", "250 Ok"]}
    async with ScriptedServer(script) as server, delivering():
        with smarthost(server):
            await all_settled()
    assert [taken.recipients for taken in server.taken] == [[ABC[0]], [ABC[1], ABC[2]]]
    assert server.sessions == 1


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
