"""The plan's limit: exact over processes and connections, refused with the wait, held where that was chosen."""

import asyncio
import re
from collections.abc import Callable

import pytest

from accounts.models import Organization
from relay.models import LimitWindow, Message, Recipient
from tests.smtp import load
from tests.smtp.conftest import Processes, RunningDoor, Sender, content

OVER = re.compile(
    r"451 4\.7\.1 The limit of 1000 emails an hour of your plan is reached; room in (\d+) seconds \[ref \w{10}\]"
)


def subjects(count: int) -> "load.Iterator[str]":
    return iter([f"message {number}" for number in range(count)])


@pytest.mark.parametrize("recipients", [1, 50])
def test_sixty_four_connections_get_exactly_the_plan(
    smtpd: Callable[[int], Processes],
    alice_org: Organization,
    sender_of: Callable[..., Sender],
    recipients: int,
) -> None:
    """64 connections over 4 processes try 3,000 recipients on a plan of 1,000: exactly 1,000 get in."""
    senders = [sender_of(alice_org, name=f"app{number}") for number in range(4)]
    processes = smtpd(4)
    tally = asyncio.run(
        load.run(
            processes.tls_port,
            senders,
            connections=64,
            messages=subjects(3000 // recipients),
            recipients=recipients,
        )
    )
    assert len(tally.accepted) * recipients == 1000
    assert Recipient.objects.count() == 1000
    assert sum(LimitWindow.objects.get(scope=1).buckets) == 1000
    assert len(tally.refused) == 2000 // recipients
    assert not tally.lost
    waits = [OVER.fullmatch(line) for line in tally.refused if line.startswith("451")]
    splits = [line for line in tally.refused if line.startswith("452 4.5.3 ")]
    assert all(waits)
    assert len(waits) + len(splits) == len(tally.refused)
    assert all(3500 < int(match[1]) <= 3660 for match in waits if match)


def test_no_room_is_said_at_mail(door: RunningDoor, alice_org: Organization, sender: Sender) -> None:
    """With the hour used up, MAIL is refused before any content travels."""
    alice_org.subscription.plan.recipients_per_hour = 2
    alice_org.subscription.plan.save()
    client = door.signed_in(sender)
    client.message(sender.address, "a@dest.example", "b@dest.example", content=content())
    second = door.signed_in(sender)
    door.server.glance._seen.clear()
    reply = second.say(f"MAIL FROM:<{sender.address}>")
    assert re.fullmatch(
        r"451 4\.7\.1 The limit of 2 emails an hour of your plan is reached; room in \d+ seconds", reply
    )


def test_recipients_beyond_the_room_are_refused_one_by_one(
    door: RunningDoor, alice_org: Organization, sender: Sender
) -> None:
    """RCPT says 452 from the first recipient too many; those accepted stay, so that the client splits."""
    alice_org.subscription.plan.recipients_per_hour = 2
    alice_org.subscription.plan.save()
    client = door.signed_in(sender)
    client.say(f"MAIL FROM:<{sender.address}>")
    assert client.say("RCPT TO:<a@dest.example>") == "250 2.1.5 Recipient OK"
    assert client.say("RCPT TO:<b@dest.example>") == "250 2.1.5 Recipient OK"
    expected = "452 4.5.3 Room for 2 more emails this hour; send the other recipients later"
    assert client.say("RCPT TO:<c@dest.example>") == expected
    client.say("DATA")
    client.send(content())
    assert client.reply().startswith("250 2.0.0 OK: queued as ")
    assert Message.objects.get().recipient_count == 2


def test_the_limit_of_an_smtp_user_names_itself(
    door: RunningDoor, alice_org: Organization, sender_of: Callable[..., Sender]
) -> None:
    """An SMTP user's own limit binds before the plan's, and the reply says which it was."""
    limited = sender_of(alice_org, recipients_per_hour=1)
    client = door.signed_in(limited)
    client.message(limited.address, "a@dest.example", content=content())
    door.server.glance._seen.clear()
    assert client.say(f"MAIL FROM:<{limited.address}>").startswith(
        "451 4.7.1 The limit of 1 emails an hour of this SMTP user is reached; room in "
    )


def test_the_limit_of_an_address_binds_that_address_alone(
    door: RunningDoor, alice_org: Organization, sender_of: Callable[..., Sender]
) -> None:
    """With one email an hour for each address, another address still sends."""
    limited = sender_of(alice_org, recipients_per_hour_per_ip=1)
    first = door.signed_in(limited)
    first.message(limited.address, "a@dest.example", content=content())
    door.server.glance._seen.clear()
    assert "of your address is reached" in first.say(f"MAIL FROM:<{limited.address}>")
    other = door.signed_in(limited, source="127.0.0.2")
    assert other.message(limited.address, "a@dest.example", content=content()).startswith("250")


def test_excess_is_held_where_that_was_chosen(
    door: RunningDoor, alice_org: Organization, sender_of: Callable[..., Sender]
) -> None:
    """Beyond the limit a message is accepted undebited and waits; beyond 24 hours' worth it is refused."""
    alice_org.subscription.plan.recipients_per_hour = 1
    alice_org.subscription.plan.save()
    holding = sender_of(alice_org, excess="hold")
    client = door.signed_in(holding)
    assert client.message(holding.address, "a@dest.example", content=content()).startswith("250 2.0.0 OK: queued as ")
    for _number in range(24):
        held = client.message(holding.address, "b@dest.example", content=content())
        assert re.fullmatch(r"250 2\.0\.0 OK: held as \w{10} until the hourly limit has room", held)
    assert Recipient.objects.filter(state="held").count() == 24
    assert sum(LimitWindow.objects.get(scope=1).buckets) == 1
    assert client.message(holding.address, "c@dest.example", content=content()).startswith("451 4.7.1 ")
