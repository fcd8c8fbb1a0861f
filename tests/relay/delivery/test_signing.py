"""relay.signing: what leaves is signed by its own organization's keys, verified here by dkimpy."""

from typing import Any

import dkim
import pytest
from asgiref.sync import sync_to_async
from cryptography.fernet import Fernet
from django.utils import timezone

from accounts.models import Organization
from audit.changes import SYSTEM
from relay import dkim_keys
from relay.domains import add_domain, mark_verified
from relay.models import DkimKey, DomainRecord, Recipient, SendingDomain
from tests.relay.delivery.running import (
    all_attempted,
    all_settled,
    amake_message,
    delivering,
    due_now,
    smarthost,
)
from tests.relay.delivery.scripted_server import ScriptedServer

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("async_orm")]


@sync_to_async
def signing_domain(organization: Organization, name: str = "alice.example", *, verified: bool = True) -> dict[str, str]:
    """With both keys switched on; their records, as dkimpy asks for them."""
    domain = add_domain(organization, name=name, actor=SYSTEM)
    dkim_keys.ensure_keys(domain)
    if verified:
        mark_verified(domain, actor=SYSTEM, verified_by=None)
    domain.dkim_keys.update(active_at=timezone.now())
    keys = domain.dkim_keys.all()
    return {f"{key.selector}._domainkey.{name}.": f"v=DKIM1; k={key.algorithm}; p={key.public}" for key in keys}


def verdicts(content: bytes, records: dict[str, str]) -> list[bool]:
    def ask(name: bytes, timeout: int = 5) -> bytes | None:
        found = records.get(name.decode())
        return found.encode() if found else None

    number = content.lower().partition(b"\r\n\r\n")[0].count(b"dkim-signature:")
    return [bool(dkim.DKIM(content).verify(idx=which, dnsfunc=ask)) for which in range(number)]


async def test_signed_by_its_own_organization_alone(alice_org: Organization, bob_org: Organization) -> None:
    """Small and large mail gets both signatures; of an unverified domain, another organization or none it gets none."""
    records = await signing_domain(alice_org)
    await signing_domain(bob_org, "bob.example", verified=False)
    large = b"From: app@alice.example\r\nSubject: Large\r\n\r\n" + b"a  line \t of text \r\n" * 100_000
    mails = [
        (alice_org, "app@ALICE.example", b"From: app@ALICE.example\r\nSubject: Small\r\n\r\nHello.\r\n", 2),
        (alice_org, "app@alice.example", large, 2),
        (bob_org, "x@bob.example", b"From: x@bob.example\r\nSubject: Unverified\r\n\r\nx\r\n", 0),
        (bob_org, "x@alice.example", b"From: x@alice.example\r\nSubject: Not his\r\n\r\nx\r\n", 0),
        (alice_org, "x@sub.alice.example", b"From: x@sub.alice.example\r\nSubject: Below\r\n\r\nx\r\n", 0),
        (alice_org, "x@[192.0.2.1]", b"From: x@[192.0.2.1]\r\nSubject: Literal\r\n\r\nx\r\n", 0),
    ]
    for organization, header_from, content, _number in mails:
        await amake_message(organization, route="smarthost", header_from=header_from, content=content)
    async with ScriptedServer() as server, delivering():
        with smarthost(server):
            await all_settled()
    taken = {mail.content.partition(b"Subject: ")[2].split(b"\r\n")[0]: mail.content for mail in server.taken}
    for _organization, _from, content, number in mails:
        subject = content.partition(b"Subject: ")[2].split(b"\r\n")[0]
        assert verdicts(taken[subject], records) == [True] * number, subject
        assert taken[subject].endswith(content)
        assert number or taken[subject] == content


async def test_a_key_that_cannot_be_opened_delays(alice_org: Organization, settings: Any) -> None:
    """With its encryption key gone the mail waits, since many refuse unsigned mail; with it back it goes, signed."""
    before = settings.GATEPOST_ENCRYPTION_KEYS
    records = await signing_domain(alice_org)
    await amake_message(alice_org, route="smarthost")
    settings.GATEPOST_ENCRYPTION_KEYS = [Fernet.generate_key().decode()]
    async with ScriptedServer() as server, delivering():
        with smarthost(server):
            await all_attempted()
            row = await Recipient.objects.aget()
            assert (row.state, server.taken) == ("queued", [])
            settings.GATEPOST_ENCRYPTION_KEYS = before
            await due_now()
            await all_settled()
    assert verdicts(server.taken[0].content, records) == [True, True]


async def test_the_return_path_is_the_domains_own(alice_org: Organization, settings: Any) -> None:
    """Where its DNS has the alias of the bounce domain; else it is the relay's."""
    settings.GATEPOST_BOUNCE_DOMAIN = "bounces.gatepost.example"
    await signing_domain(alice_org)
    await signing_domain(alice_org, "plain.example")
    domain = await SendingDomain.objects.aget(name="alice.example")
    now = timezone.now()
    await DomainRecord.objects.acreate(
        domain=domain, kind="return_path", name="gpbounce.alice.example", state="ok", began_at=now, last_at=now
    )
    for name in ("alice.example", "plain.example"):
        await amake_message(alice_org, route="smarthost", header_from=f"app@{name}")
    async with ScriptedServer() as server, delivering():
        with smarthost(server):
            await all_settled()
    paths = sorted(mail.mail.partition("@")[2].partition(">")[0] for mail in server.taken)
    assert paths == ["bounces.gatepost.example", "gpbounce.alice.example"]


async def test_a_retired_key_signs_no_more(alice_org: Organization) -> None:
    """One algorithm is enough: a domain whose Ed25519 key is retired signs with RSA alone."""
    records = await signing_domain(alice_org)
    await DkimKey.objects.filter(algorithm="ed25519").aupdate(retired_at=timezone.now())
    await amake_message(alice_org, route="smarthost")
    async with ScriptedServer() as server, delivering():
        with smarthost(server):
            await all_settled()
    assert verdicts(server.taken[0].content, records) == [True]
    assert b"a=rsa-sha256" in server.taken[0].content
