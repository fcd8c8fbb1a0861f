"""Several writers at once: never more than the limit, never a deadlock, nothing after an end."""

import asyncio
import itertools
import random
import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection

from accounts.models import Organization
from accounts.organizations import suspend
from audit.changes import SYSTEM
from audit.models import Reason
from relay.accept import Acceptor
from relay.credentials import disable_smtp_user, revoke_app_password
from relay.database import connect
from relay.limits import IP, ORGANIZATION, SMTP_USER, OverLimit
from relay.models import LimitWindow, Message, Recipient
from relay.submission import Accepted, Ended, Outcome, Submission
from tests.relay.core.conftest import Sender, set_plan, used

Batches = list[list[Submission]]


def raced(writers: list[Batches]) -> list[Outcome]:
    """Each writer commits its batches one after the other, all writers at once, each over its own connection."""

    async def write(batches: Batches) -> list[Outcome]:
        acceptor, found = Acceptor(), []
        async with await connect(application_name="test") as conn:
            for batch in batches:
                found += await acceptor.accept(conn, batch)
        return found

    async def run() -> list[list[Outcome]]:
        return await asyncio.gather(*(write(batches) for batches in writers))

    return list(itertools.chain.from_iterable(asyncio.run(run())))


@pytest.mark.parametrize("recipients", [1, 7])
def test_many_writers_get_exactly_the_limit(sender: Sender, alice_org: Organization, recipients: int) -> None:
    """Eight writers ask for far more than there is: what fits in is taken to the last message."""
    set_plan(alice_org, 100)
    writers = [[[sender.submission(recipients=recipients)] * 1 for _batch in range(20)] for _writer in range(8)]
    outcomes = raced(writers)
    taken = [outcome for outcome in outcomes if outcome == Accepted()]
    assert len(taken) == 100 // recipients
    assert all(isinstance(outcome, OverLimit) for outcome in outcomes if outcome != Accepted())
    assert Recipient.objects.count() == used(ORGANIZATION, alice_org.pk) == len(taken) * recipients


def test_limits_in_crossing_orders_do_not_deadlock(
    alice_org: Organization, bob_org: Organization, sender_of: Callable[..., Sender]
) -> None:
    """Batches over two organizations, four SMTP users and many addresses, each in an order of its own."""
    senders = [
        sender_of(organization, name=f"s{number}", recipients_per_hour=50, recipients_per_hour_per_ip=15)
        for organization in (alice_org, bob_org)
        for number in range(2)
    ]
    chance = random.Random(7)
    writers = []
    for _writer in range(6):
        batches = []
        for _batch in range(8):
            batch = [each.submission(client_ip=f"192.0.2.{chance.randrange(5)}") for each in senders * 2]
            chance.shuffle(batch)
            batches.append(batch)
        writers.append(batches)
    outcomes = raced(writers)  # a deadlock would be raised: no attempt is repeated here
    assert all(isinstance(outcome, Accepted | OverLimit) for outcome in outcomes)
    assert [used(SMTP_USER, each.smtp_user.pk) for each in senders] == [50] * 4
    for row in LimitWindow.objects.filter(scope=IP):
        stored = Recipient.objects.filter(message__smtp_user_id=row.owner_id, message__client_ip=row.ip).count()
        assert sum(row.buckets) == stored <= 15
    assert used(ORGANIZATION, alice_org.pk) + used(ORGANIZATION, bob_org.pk) == Recipient.objects.count() == 200


ENDS: list[Any] = [
    pytest.param(lambda each, _org: revoke_app_password(each.app_password, actor=SYSTEM), Reason.REVOKED, id="revoked"),
    pytest.param(lambda each, _org: disable_smtp_user(each.smtp_user, actor=SYSTEM), Reason.USER_DISABLED, id="user"),
    pytest.param(
        lambda _each, org: suspend(org, reason="test", actor=SYSTEM), Reason.ORGANIZATION_SUSPENDED, id="organization"
    ),
]


@pytest.mark.parametrize(("end", "reason"), ENDS)
def test_nothing_is_accepted_after_an_end_was_answered(
    sender: Sender, alice_org: Organization, end: Callable[[Sender, Organization], None], reason: Reason
) -> None:
    """While writers never stop sending, the count of messages is final from the moment the change returns."""
    running, stop = threading.Event(), threading.Event()
    outcomes: list[Outcome] = []

    async def write() -> None:
        acceptor = Acceptor()
        async with await connect(application_name="test") as conn:
            while not stop.is_set():
                found = await acceptor.accept(conn, [sender.submission(), sender.submission()])
                outcomes.extend(found)
                if len(outcomes) > 20:
                    running.set()
                if outcomes.count(Ended(reason)) > 20:
                    return

    async def run() -> None:
        await asyncio.gather(*(write() for _writer in range(3)))

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    assert running.wait(30)
    end(sender, alice_org)
    final = Message.objects.count()
    thread.join(30)
    stop.set()
    assert not thread.is_alive()
    assert final > 0
    assert Message.objects.count() == final == outcomes.count(Accepted())
    assert outcomes.count(Ended(reason)) > 20
    connection.close()
