"""`manage.py mx`: what an operator sees of a domain's mail servers."""

from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.core.management import CommandError, call_command

from tests.dns_server import DnsServer
from tests.relay.delivery.scripted_server import FEATURES, make_certificate
from tests.relay.mx.offering import domain, tlsa_of

Servers = Callable[..., Any]
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("async_orm")]


async def run(*arguments: str) -> str:
    out = StringIO()
    await sync_to_async(call_command)("mx", *arguments, stdout=out)
    return out.getvalue()


async def test_it_tells_and_tries(dns_server: DnsServer, mail_server: Servers, tmp_path: Path) -> None:
    """Each server with the TLS it must have, and the session up to EHLO; nothing is sent."""
    certificate = make_certificate(tmp_path, "mx1.example.net")
    one = await mail_server("127.0.0.1", features=(*FEATURES, "STARTTLS"), certificate=certificate)
    await mail_server("127.0.0.2", {"GREETING": "554 5.7.1 Not\x1b[2Jyou"})
    domain(dns_server, servers=["127.0.0.1", "127.0.0.2"])
    dns_server.signed = {"mx1.example.net", "example.net"}
    dns_server.put(f"_{one.port}._tcp.mx1.example.net", "TLSA", tlsa_of(certificate))
    assert (await run("You@Example.NET")).splitlines() == [
        "DNSSEC: validated",
        "MTA-STS: none",
        f"mx1.example.net:{one.port} [127.0.0.1]: TLS, certificate verified by DANE",
        f"mx2.example.net:{one.port} [127.0.0.2]: TLS if it offers it, any certificate (opportunistic)",
    ]
    tried = await run("example.net", "--connect")
    assert "    * TLSv1.3, the certificate is verified by DANE" in tried
    assert r"    < 554 5.7.1 Not\x1b[2Jyou" in tried and "\x1b" not in tried
    assert [command.split()[0] for command in one.commands] == ["EHLO", "STARTTLS", "EHLO", "QUIT"]
    assert "certificate verified by authorities" in await run("example.net", "--requiretls")


async def test_it_tells_why_there_is_nobody(dns_server: DnsServer) -> None:
    """In the words that the mail's sender would read."""
    with pytest.raises(CommandError, match=r"550 5\.1\.2 There is no domain no\.example\."):
        await run("no.example")
