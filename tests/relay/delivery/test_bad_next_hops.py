"""Next hops that misbehave, each with an organization whose mail goes there, all of them at once.

One loop delivers to all: what one of them does must not hold up the others.
"""

import asyncio
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.utils import timezone

from accounts.models import Organization, User
from relay.models import DeliveryAttempt, NamedRoute, Recipient, RouteChoice
from relay.models.next_hops import NextHopTrouble
from relay.smtp.opening import Timeouts
from tests.conftest import make_organization
from tests.relay.delivery.running import all_attempted, amake_message, delivering, due_now
from tests.relay.delivery.scripted_server import DROP, FEATURES, HANG, STARE, Drip, ScriptedServer

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("async_orm")]

PATIENCE = Timeouts(*([0.4] * 10))
LARGE = b"Subject: x\r\n\r\n" + b"0123456789abcdef" * 2**20 + b"\r\n"  # more than the kernel's buffers take


@dataclass(frozen=True)
class Bad:
    """script: what it does. said: of each recipient a, b, c after the first attempt, code and state; words are in each.

    again: the states after the second attempt. taken: how often it got a message to an end, in all.
    """

    script: dict[str, Any] = field(default_factory=dict)
    said: tuple[str, ...] = ("queued",) * 3
    words: str = ""
    again: tuple[str, ...] = ("queued",) * 3
    taken: int = 0
    possibly: bool = False
    features: tuple[str, ...] = FEATURES
    tls: NamedRoute.Tls = NamedRoute.Tls.NONE
    content: bytes = b"Subject: x\r\n\r\nHello\r\n"
    is_dead: bool = False
    username: str = ""


DONE, WAIT, GONE = "delivered", "queued", "failed"
LATER = ["450 4.2.0 Mailbox busy", "250 Ok"]
HOPS = {
    "healthy": Bad(said=(DONE,) * 3, words="Queued", again=(DONE,) * 3, taken=1),
    "dead": Bad(is_dead=True, words="Could not connect to 127.0.0.1:"),
    "slow": Bad({"RCPT": Drip("250 2.1.5 Ok")}, words="The server took longer than 0.4 s for answering."),
    "slow to greet": Bad({"GREETING": HANG}, words="took longer than 0.4 s for answering."),
    "slow to read": Bad({"DATA": STARE}, content=LARGE, words="took longer than 0.4 s for taking what we sent."),
    "drops before DATA": Bad({"DATA": [DROP, "354 Go on"]}, words="closed the connection.", again=(DONE,) * 3, taken=1),
    "drops after the dot": Bad(
        {"DOT": [DROP, "250 Ok"]}, words="closed the connection.", again=(DONE,) * 3, taken=2, possibly=True
    ),
    "421 in the middle": Bad(
        {"RCPT": ["250 Ok", "421 4.3.2 Closing", "250 Ok"]}, words="421 4.3.2 Closing", again=(DONE,) * 3, taken=1
    ),
    "421 at the dot": Bad(
        {"DOT": ["421 4.3.0 Shutting down", "250 Ok"]}, words="421 4.3.0 Shutting down", again=(DONE,) * 3, taken=2
    ),
    "450 then 250": Bad({"MAIL": LATER}, words="450 4.2.0 Mailbox busy", again=(DONE,) * 3, taken=1),
    "452 at the dot": Bad({"DOT": ["452 4.3.1 Full", "250 Ok"]}, words="452 4.3.1 Full", again=(DONE,) * 3, taken=2),
    "5xx for one of three": Bad(
        {"RCPT": ["250 Ok", "550 5.1.1 No such user", "250 Ok"]},
        said=(DONE, GONE, DONE),
        again=(DONE, GONE, DONE),
        taken=1,
    ),
    "greylists one": Bad(
        {"RCPT": ["250 Ok", "451 4.7.1 Greylisted", "250 Ok"]}, said=(DONE, WAIT, DONE), again=(DONE,) * 3, taken=2
    ),
    "5xx for the content": Bad(
        {"DOT": "554 5.7.1 Spam"}, said=(GONE,) * 3, words="554 5.7.1 Spam", again=(GONE,) * 3, taken=1
    ),
    "bad certificate": Bad(
        features=("STARTTLS", *FEATURES), tls=NamedRoute.Tls.VERIFIED, words="its certificate is not trusted"
    ),
    "no TLS": Bad(tls=NamedRoute.Tls.VERIFIED, words="does not offer STARTTLS"),
    "wants a login": Bad({"MAIL": "530 5.7.0 Authenticate first"}, words="530 5.7.0 Authenticate first"),
    "refuses our login": Bad(
        {"AUTH": "535 5.7.8 Wrong"}, features=("AUTH PLAIN",), username="u", words="refused (AUTH): 535 5.7.8 Wrong"
    ),
    "refuses us": Bad({"GREETING": "554 5.7.1 Listed"}, words="refused (greeting): 554 5.7.1 Listed"),
}


async def test_each_has_the_right_state_time_and_words(alice: User, certificate: Path) -> None:
    """After the first attempt and after the second; nothing goes twice, except where its answer never came."""
    servers: dict[str, ScriptedServer] = {}
    async with AsyncExitStack() as stack:
        for number, (name, bad) in enumerate(HOPS.items()):
            servers[name] = server = ScriptedServer(dict(bad.script), bad.features, certificate)
            async with ScriptedServer() as dead:
                pass
            if bad.is_dead:
                server.port = dead.port
            else:
                await stack.enter_async_context(server)
            await _mail(f"hop-{number}", name, bad, server.port, alice)
        async with delivering(timeouts=PATIENCE):
            await all_attempted()
            await _check(lambda bad: bad.said, servers)
            await _check_times()
            await NextHopTrouble.objects.all().adelete()
            await due_now()
            await _attempted_again()
    await _check(lambda bad: bad.again, servers)
    numbers = DeliveryAttempt.objects.order_by("recipient_id", "number").values_list("recipient__attempts", "number")
    assert Counter([pair async for pair in numbers]) == Counter(
        _numbers([row async for row in Recipient.objects.all()])
    )
    assert {name: len(server.taken) for name, server in servers.items()} == {
        name: bad.taken for name, bad in HOPS.items()
    }
    for name, server in servers.items():
        got = Counter(address for taken in server.taken for address in taken.recipients)
        refused_at_the_dot = name in {"421 at the dot", "452 at the dot"}
        assert all(times == 1 for times in got.values()) or HOPS[name].possibly or refused_at_the_dot, (name, got)
    assert not any(
        command.startswith("MAIL") for command in servers["bad certificate"].commands + servers["no TLS"].commands
    )


async def _mail(slug: str, name: str, bad: Bad, port: int, owner: User) -> None:
    organization: Organization = await sync_to_async(make_organization)(name, slug, owner)
    route = await NamedRoute.objects.acreate(
        name=name, kind="smarthost", hosts=[["127.0.0.1", port]], tls=bad.tls, username=bad.username
    )
    await RouteChoice.objects.acreate(route=route, organization=organization)
    to = [f"{letter}@{slug}.example" for letter in "abc"]
    await amake_message(organization, route="smarthost", recipients=to, content=bad.content, subject=name)


async def _check(expected: Any, servers: dict[str, ScriptedServer]) -> None:
    rows = [row async for row in Recipient.objects.select_related("message").order_by("id")]
    for name, bad in HOPS.items():
        own = [row for row in rows if row.message.subject == name]
        assert [row.state for row in own] == list(expected(bad)), (name, [row.reply for row in own])
        assert {row.possibly_delivered for row in own} == {bad.possibly}, name
        if expected(bad) == bad.said:
            assert all(bad.words in row.reply for row in own), (name, [row.reply for row in own])


async def _check_times() -> None:
    """What waits comes again after a minute, more or less; what is settled says when."""
    now = timezone.now()
    async for row in Recipient.objects.all():
        if row.state == WAIT:
            assert timedelta(seconds=45) < row.due_at - now < timedelta(seconds=75), row.reply
        else:
            assert row.settled_at is not None and row.settled_at <= now
    outcomes = Counter([row.outcome async for row in DeliveryAttempt.objects.all()])
    states = Counter([row.state async for row in Recipient.objects.all()])
    assert (outcomes["deferred"], outcomes["delivered"], outcomes["failed"]) == (
        states[WAIT],
        states[DONE],
        states[GONE],
    )


def _numbers(rows: list[Recipient]) -> list[tuple[int, int]]:
    return [(row.attempts, number) for row in rows for number in range(1, row.attempts + 1)]


async def _attempted_again() -> None:
    async with asyncio.timeout(20):
        while await Recipient.objects.filter(state=WAIT, attempts=1).aexists() or await _leased():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def _leased() -> bool:
    return await Recipient.objects.exclude(lease=None).aexists()
