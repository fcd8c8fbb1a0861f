"""The route mx in the delivery loop: from rows of the queue to the servers that the DNS names."""

from collections.abc import Callable
from typing import Any

import pytest

from accounts.models import Organization
from tests.dns_server import DnsServer
from tests.relay.delivery.running import all_attempted, all_settled, amake_message, attempts, delivering, recipients
from tests.relay.mx.offering import domain

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("async_orm")]
Servers = Callable[..., Any]


@pytest.fixture(autouse=True)
def _without_policies(settings: Any) -> None:
    settings.GATEPOST_DEFAULT_ROUTE = "mx"
    settings.GATEPOST_MX_MTA_STS = False


async def test_each_domain_has_its_own_server(
    alice_org: Organization, dns_server: DnsServer, mail_server: Servers
) -> None:
    """One message to three domains is three transactions; spelling divides no domain, and each has its own answer."""
    one, two = await mail_server("127.0.0.1"), await mail_server("127.0.0.2", {"RCPT": "550 5.1.1 Nobody"})
    domain(dns_server, "one.example")
    domain(dns_server, "two.example", servers=["127.0.0.2"])
    dns_server.put("null.example", "MX", "0 .")
    await amake_message(
        alice_org, route="mx", recipients=["a@one.example", "b@ONE.example", "c@two.example", "d@null.example"]
    )
    async with delivering():
        await all_settled()
    found = {address: (row.state, row.reply) for address, row in (await recipients()).items()}
    assert found == {
        "a@one.example": ("delivered", "250 2.0.0 Queued"),
        "b@ONE.example": ("delivered", "250 2.0.0 Queued"),
        "c@two.example": ("failed", "550 5.1.1 Nobody"),
        "d@null.example": ("failed", "556 5.1.10 null.example takes no mail (null MX)."),
    }
    assert [sorted(taken.recipients) for taken in one.taken] == [["a@one.example", "b@ONE.example"]] and not two.taken
    rows = {row.recipient_id: row for row in await attempts()}
    kept = rows[(await recipients())["a@one.example"].pk]
    assert (kept.route, kept.next_hop, kept.next_hop_ip) == ("mx", f"mx1.one.example:{one.port}", "127.0.0.1")
    assert "Connected to mx1.one.example" in kept.conversation


async def test_mail_waits_with_the_reason(alice_org: Organization, dns_server: DnsServer, mail_server: Servers) -> None:
    """A domain whose DNS says nothing keeps its mail in the queue, and does not hold up another domain."""
    await mail_server("127.0.0.1")
    domain(dns_server, "well.example")
    dns_server.trouble["ill.example"] = "servfail"
    await amake_message(alice_org, route="mx", recipients=["a@ill.example", "b@well.example"])
    async with delivering():
        await all_attempted()
    found = {address: (row.state, row.reply) for address, row in (await recipients()).items()}
    assert found["b@well.example"][0] == "delivered"
    assert found["a@ill.example"] == (
        "queued",
        "451 4.4.3 The DNS does not say now who takes the mail of ill.example.",
    )


async def test_requiretls_goes_through_the_queue(
    alice_org: Organization, dns_server: DnsServer, mail_server: Servers
) -> None:
    """What was accepted with it is refused where no server promises it, while other mail for the same server goes."""
    server = await mail_server("127.0.0.1")
    domain(dns_server)
    await amake_message(alice_org, route="mx", recipients=["a@example.net"], dsn_ret="hdrs")
    await amake_message(alice_org, route="mx", recipients=["b@example.net"], dsn_ret="HDRS")
    async with delivering():
        await all_attempted()
    found = {address: (row.state, row.reply) for address, row in (await recipients()).items()}
    assert found["a@example.net"][0] == "queued" and "does not offer STARTTLS" in found["a@example.net"][1]
    assert found["b@example.net"][0] == "delivered"
    assert [taken.recipients for taken in server.taken] == [["b@example.net"]]
