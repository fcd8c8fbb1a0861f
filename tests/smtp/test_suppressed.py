"""RCPT for suppressed addresses: the refusal and its record, and that it costs nobody else anything."""

from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from accounts.models import Organization
from audit.changes import SYSTEM
from relay.models import Message, Recipient, Refusal, Suppression
from relay.smtp import suppressed
from relay.suppressions import add, import_text, remove
from tests.smtp.conftest import RunningDoor, Sender, content

WORDS = "550 5.1.1 The recipient is suppressed: "


def bounced(organization: Organization, address: str, reason: str = "550 5.1.1 User unknown") -> None:
    Suppression.objects.create(
        organization=organization, address=address, source="bounce", reason=reason, reference="K7Q2MX9TA4"
    )


def test_the_reply_says_why(door: RunningDoor, sender: Sender, alice_org: Organization, eventually: Any) -> None:
    """In any case and spelling: since when, the next hop's words and the message; recorded, the others are taken."""
    bounced(alice_org, "you@xn--bcher-kva.example")
    add(alice_org, address="Me@Example.NET", note="asked us\N{EN DASH}twice", actor=SYSTEM)
    client = door.signed_in(sender)
    client.say(f"MAIL FROM:<{sender.address}> SMTPUTF8")
    today = f"{timezone.now():%Y-%m-%d}"
    for spelling in (
        "you@xn--bcher-kva.example",
        "YOU@XN--BCHER-KVA.example",
        "you@bücher.example",
        '"You"@bücher.example',
    ):
        said = f"{WORDS}its mail bounced on {today} (550 5.1.1 User unknown, message K7Q2MX9TA4)"
        assert client.say(f"RCPT TO:<{spelling}>") == said
    assert client.say("RCPT TO:<me@example.net>") == f"{WORDS}added by hand on {today} (asked us?twice)"
    assert client.say("RCPT TO:<other@example.net>").startswith("250")
    assert client.say("DATA").startswith("354")
    client.send(content(sender.address))
    assert client.reply().startswith("250")
    assert [row.address for row in Recipient.objects.all()] == ["other@example.net"]
    eventually(lambda: Refusal.objects.count() == 5)
    row = Refusal.objects.get(reference=client.references[-1])
    assert (row.code, row.enhanced_code, row.about) == (550, "5.1.1", "me@example.net")


def test_only_the_organizations_own(
    door: RunningDoor, sender: Sender, alice_org: Organization, bob_org: Organization, sender_of: Callable[..., Sender]
) -> None:
    """What bob suppresses, alice may write to."""
    add(bob_org, address="you@example.net", actor=SYSTEM)
    bob = sender_of(bob_org, domain="bob.example")
    assert door.signed_in(sender).message(sender.address, "you@example.net", content=content()).startswith("250")
    client = door.signed_in(bob)
    client.say(f"MAIL FROM:<{bob.address}>")
    assert client.say("RCPT TO:<you@example.net>").startswith(WORDS)


def test_the_first_and_the_last_are_heard_of(
    door: RunningDoor, sender: Sender, alice_org: Organization, eventually: Any
) -> None:
    """A session that is open since before the first suppression obeys it within seconds; removed, mail is taken."""
    client = door.signed_in(sender)

    def refused() -> bool:
        client.say("RSET")
        client.say(f"MAIL FROM:<{sender.address}>")
        return client.say("RCPT TO:<you@example.net>").startswith("550")

    assert not refused()
    row = add(alice_org, address="you@example.net", actor=SYSTEM)
    eventually(refused)
    assert remove(alice_org, ids=[row.pk], actor=SYSTEM) == 1
    eventually(lambda: not refused())


def test_a_pipelined_list_is_one_look_up(
    door: RunningDoor, sender: Sender, alice_org: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    """200 recipients in one segment, every other suppressed among 20,000: each its answer, and one query for all."""
    text = "\n".join(f"u{number}@example.net" for number in range(0, 40_000, 2))
    assert import_text(alice_org, text=text, actor=SYSTEM).added == 20_000
    asked: list[int] = []
    fetch_all = suppressed.fetch_all

    async def counted(pool: Any, statement: str, columns: Any, *, timeout: float) -> Any:
        asked.append(len(columns[1]))
        return await fetch_all(pool, statement, columns, timeout=timeout)

    monkeypatch.setattr(suppressed, "fetch_all", counted)
    client = door.signed_in(sender)
    client.send(
        b"".join(
            [f"MAIL FROM:<{sender.address}>\r\n".encode()]
            + [f"rcpt to:<U{number}@example.net>\r\n".encode() for number in range(200)]
        )
    )
    answers = [client.reply()[:3] for _number in range(201)][1:]
    assert answers == ["550", "250"] * 100
    assert sum(asked) == 200 and len(asked) <= 2  # the segment may have come in two


def test_nothing_is_asked_without_suppressions(
    door: RunningDoor, sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An organization without any: not one look-up."""
    monkeypatch.setattr(suppressed, "fetch_all", None)  # a look-up would answer 451
    assert door.signed_in(sender).message(sender.address, "you@example.net", content=content()).startswith("250")
    assert Message.objects.count() == 1


def test_a_database_that_is_away(
    door: RunningDoor, sender: Sender, alice_org: Organization, postgres: Any, eventually: Any
) -> None:
    """What is suppressed must not slip through: 451, then as before."""
    bounced(alice_org, "you@example.net")
    client = door.signed_in(sender)
    client.say(f"MAIL FROM:<{sender.address}>")
    connection.close()
    postgres.stop()
    assert client.say("RCPT TO:<me@example.net>").startswith("451 4.3.0")
    postgres.start()
    eventually(lambda: client.say("RCPT TO:<me@example.net>").startswith("250"), 20)
