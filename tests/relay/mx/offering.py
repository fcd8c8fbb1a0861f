"""One attempt of the route mx, without a database: the job is made up, what came of it is handed back.

Shapes  offer(route, destination, …) -> Settlements, as the delivery loop would store them. domain(dns_server, name,
        servers) puts MX records and addresses. tlsa_of(pem, …) -> a TLSA record of a certificate as zones have it.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from django.utils import timezone

from relay.delivery import Tools, attempt
from relay.models.messages import Route
from relay.mx.route import MxRoute
from relay.next_hops import NextHops
from relay.queue import ClaimedRecipient, Job, Settlement
from relay.smtp.client import Timeouts
from tests.dns_server import DnsServer
from tests.relay.delivery.conversing import BODY

PATIENT = Timeouts(*([20.0] * 9), quit=1.0)


async def offer(
    route: MxRoute,
    destination: str = "example.net",
    *,
    names: Sequence[str] = ("you",),
    content: bytes = BODY,
    timeouts: Timeouts = PATIENT,
    reverse_path: str = "app@alice.example",
    **job: Any,
) -> list[Settlement]:
    recipients = tuple(
        ClaimedRecipient(id=n, address=f"{name}@{destination}", attempts=1) for n, name in enumerate(names)
    )
    made = Job(
        lease=uuid4(), message_id=uuid4(), route=Route.MX, reverse_path=reverse_path, smtputf8=False,
        size_octets=len(content), recipients=recipients, destination=destination, received_at=timezone.now(), **job,
    )  # fmt: skip

    async def load(_message_id: UUID) -> bytes:
        return content

    async def yes(_job: Job, _recipients: Sequence[ClaimedRecipient]) -> None:
        pass

    hops = NextHops(timeouts=timeouts)
    try:
        return await attempt(made, Tools(hops=hops, mx=route, load=load, before_final_dot=yes))
    finally:
        await hops.close_idle(older_than=0)


def domain(dns_server: DnsServer, name: str = "example.net", *, servers: Sequence[str] = ("127.0.0.1",)) -> None:
    """mx1, mx2, … of this domain at these addresses, in this order."""
    dns_server.put(name, "MX", *(f"{n} mx{n}.{name}." for n in range(1, len(servers) + 1)))
    for n, address in enumerate(servers, start=1):
        dns_server.put(f"mx{n}.{name}", "AAAA" if ":" in address else "A", address)


def tlsa_of(pem: Path, *, usage: int = 3, selector: int = 1, matching: int = 1) -> str:
    certificate = x509.load_pem_x509_certificate(pem.read_bytes())
    data = certificate.public_bytes(Encoding.DER)
    if selector:
        data = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    digest = {0: lambda octets: octets, 1: lambda octets: hashlib.sha256(octets).digest(),
              2: lambda octets: hashlib.sha512(octets).digest()}[matching]  # fmt: skip
    return f"{usage} {selector} {matching} {digest(data).hex()}"
