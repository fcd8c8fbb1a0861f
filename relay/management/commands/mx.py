"""Tells where the route mx would take a domain's mail, and tries it: `manage.py mx example.com --connect`.

Source  docs/delivery.md.
"""

import asyncio
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from relay.connections import make_pool
from relay.mx.errors import NoNextHopError
from relay.mx.route import MxRoute
from relay.smtp.client import Client, NotConnectedError, Timeouts
from relay.smtp.next_hop import DANE, ENCRYPTED, OPPORTUNISTIC, STARTTLS, NextHop

DEMANDED = {
    OPPORTUNISTIC: "TLS if it offers it, any certificate (opportunistic)",
    ENCRYPTED: "TLS, any certificate (DANE, no record that can be used)",
    STARTTLS: "TLS, certificate verified by authorities (MTA-STS or REQUIRETLS)",
    DANE: "TLS, certificate verified by DANE",
}
PATIENCE = Timeouts(connect=10, handshake=10, greeting=30, command=30)


class Command(BaseCommand):
    help = "Tells which servers get a domain's mail by the route mx, and what TLS each must have."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("domain", help="the part behind the @ of a recipient")
        parser.add_argument("--connect", action="store_true", help="open a session with each, send nothing")
        parser.add_argument("--requiretls", action="store_true", help="as for a message with REQUIRETLS")

    def handle(self, *args: Any, **options: Any) -> None:
        domain = options["domain"].rpartition("@")[2].lower()
        try:
            asyncio.run(self._tell(domain, connect=options["connect"], requires_tls=options["requiretls"]))
        except NoNextHopError as exc:
            raise CommandError(f"{exc.code} {exc.enhanced_code} {exc}") from None

    async def _tell(self, domain: str, *, connect: bool, requires_tls: bool) -> None:
        async with make_pool(name="mx") as pool:
            route = MxRoute(pool)
            try:
                hops = await route.next_hops(domain, requires_tls=requires_tls)
                demands = await route.demands(domain)
            finally:
                await route.close()
        self.stdout.write(f"DNSSEC: {'validated' if demands.validated else 'not validated'}")
        self.stdout.write(f"MTA-STS: {demands.policy or 'none'}")
        for hop in hops:
            self.stdout.write(f"{hop} [{hop.address}]: {DEMANDED[hop.tls]}")
            if connect:
                self.stdout.write(await _conversation(hop))


async def _conversation(hop: NextHop) -> str:
    """As relay.smtp.transcript keeps it: what a server says is escaped and bounded."""
    try:
        client = await Client.connect(hop, local_name=settings.GATEPOST_HOSTNAME, timeouts=PATIENCE)
    except NotConnectedError as exc:
        said = exc.conversation
    else:
        said = client.conversation
        await client.quit()
    return "".join(f"    {line}\n" for line in said.split("\n"))
