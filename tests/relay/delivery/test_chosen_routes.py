"""Which route the claim gives to a mail, and the door to a session."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from accounts.models import Organization, Plan
from relay.connections import Connection
from relay.database import connect
from relay.models import NamedRoute, Recipient, RouteChoice, SendingDomain
from tests.relay.delivery.test_queue import amake_message, claim

pytestmark = pytest.mark.usefixtures("transactional_db")


@pytest.fixture
async def conn(async_orm: None) -> AsyncIterator[Connection]:
    async with await connect(application_name="test") as connection:
        yield connection


async def taken(conn: Connection) -> dict[str, str]:
    """The route that each message's recipients were given, by their address."""
    claimed = await claim(conn)
    return {recipient.address: job.route for job in claimed.jobs for recipient in job.recipients}


async def choose(kind: str, **of: Any) -> None:
    await RouteChoice.objects.acreate(route=await NamedRoute.objects.acreate(name=f"{kind} {of}"[:64], kind=kind), **of)


async def test_the_narrowest_choice_counts(alice_org: Organization, bob_org: Organization, conn: Connection) -> None:
    """Mail that was accepted before takes the route that is chosen now: domain, then organization, then plan."""
    domain = await SendingDomain.objects.acreate(organization=alice_org, name="news.example")
    await choose("smarthost", plan=await Plan.objects.aget(code="trial"))
    await choose("mx", organization=alice_org)
    await choose("smarthost", domain=domain)
    for organization, sender, to in (
        (alice_org, "a@News.Example", "domain@x.example"),
        (alice_org, "a@other.example", "organization@x.example"),
        (bob_org, "a@news.example", "plan@x.example"),
    ):
        await amake_message(organization, route="mx", header_from=sender, recipients=[to])
    assert await taken(conn) == {
        "domain@x.example": "smarthost", "organization@x.example": "mx", "plan@x.example": "smarthost",
    }  # fmt: skip


async def test_the_sandbox_neither_leaks_nor_swallows(
    alice_org: Organization, bob_org: Organization, conn: Connection
) -> None:
    """What it took stays in it; what was accepted for the outside waits while the route is the sandbox."""
    await choose("mx", organization=alice_org)
    await choose("sandbox", organization=bob_org)
    await amake_message(alice_org, route="sandbox", recipients=["kept@x.example"])
    await amake_message(bob_org, route="mx", recipients=["waits@x.example"])
    assert await taken(conn) == {"kept@x.example": "sandbox"}
    assert (await Recipient.objects.aget(address="waits@x.example")).due_at.year == 9999
