"""From the settle to the post, with the real delivery loop and a real sender thread."""

import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import OperationalError, connections
from django.utils import timezone

from accounts.models import Organization
from audit.changes import SYSTEM
from relay.models import Recipient, SmtpUser
from relay.webhooks import interest, outbox, queue
from relay.webhooks.endpoints import create_endpoint
from relay.webhooks.models import Delivery, Endpoint
from relay.webhooks.sender import Pace, Sender
from tests.relay.conftest import make_message
from tests.relay.delivery.running import ABC, all_attempted, amake_message, delivering, smarthost
from tests.relay.delivery.scripted_server import ScriptedServer
from tests.relay.outside_server import OutsideServer

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("async_orm")]


@pytest.fixture
async def async_orm() -> AsyncIterator[None]:
    """The asynchronous ORM works in a thread with a connection of its own, which nobody else closes."""
    yield
    await sync_to_async(connections.close_all)()


@sync_to_async
def hears(organization: Organization, *events: str, **values: Any) -> Endpoint:
    url = "https://hooks.alice.example/"
    row = create_endpoint(organization, url=url, events=events, actor=SYSTEM, **values).endpoint
    interest.forget()
    return row


async def test_what_becomes_of_recipients_is_written_with_it(
    alice_org: Organization, bob_org: Organization, shop: SmtpUser
) -> None:
    """One of three is taken, one put off, one refused: an event each, with code and words, as the state stands; no
    content; nothing for whom has not asked, and nothing of other customers' mail."""
    row = await hears(alice_org, "delivered", "deferred", "bounced")
    deaf = await hears(bob_org, "delivered", "deferred", "bounced")
    picky = await hears(alice_org, "bounced")
    message = await amake_message(alice_org, recipients=ABC, route="smarthost", smtp_user=shop)
    answers = ["250 2.1.5 Ok", "450 4.2.1 Later, gp_0123456789abcdef", "550 5.1.1 Nobody of this name"]
    async with ScriptedServer({"RCPT": answers}) as server, delivering():
        with smarthost(server):
            await all_attempted()
    written = {each.type: each async for each in Delivery.objects.filter(endpoint=row)}
    assert set(written) == {"delivered", "deferred", "bounced"}
    told = written["bounced"].data
    assert {name: told[name] for name in ("recipient", "state", "code", "enhanced_code", "words", "smtp_user")} == {
        "recipient": ABC[2], "state": "failed", "code": 550, "enhanced_code": "5.1.1",
        "words": "Nobody of this name", "smtp_user": "shop.alice-works",
    }  # fmt: skip
    assert (told["message_id"], told["reference"], told["attempt"]) == (str(message.id), message.reference, 1)
    assert (written["deferred"].data["state"], written["deferred"].data["code"]) == ("queued", 450)
    assert "0123456789" not in written["deferred"].data["words"]
    assert (written["delivered"].data["state"], written["delivered"].data["recipient"]) == ("delivered", ABC[0])
    assert not await Delivery.objects.filter(endpoint=deaf).aexists()
    picked = await Delivery.objects.aget(endpoint=picky)
    assert (picked.type, picked.event_id) == ("bounced", written["bounced"].event_id)
    assert "Hello" not in json.dumps([each.data for each in written.values()])


async def test_an_event_that_cannot_be_written_undoes_nothing(
    alice_org: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The settlement stands: what was taken is not sent again."""
    await hears(alice_org, "delivered")
    monkeypatch.setattr(outbox, "_OF_RECIPIENTS", "SELECT 1 / 0 WHERE %(event_id)s::uuid[] IS NOT NULL")
    await amake_message(alice_org, recipients=ABC)
    async with delivering():
        await all_attempted()
    assert await Recipient.objects.filter(state="delivered").acount() == 3
    assert not await Delivery.objects.aexists()


@contextmanager
def sending() -> Iterator[Sender]:
    """In a thread, as in a worker process, sweeps and all."""
    sender = Sender(pace=Pace(claim=0.05, accepted=0.05, limits=0.1, retry=0.1, finish=2), seconds=5)
    thread = threading.Thread(target=sender.run)
    thread.start()
    try:
        yield sender
    finally:
        sender.stop()
        thread.join(20)
        assert not thread.is_alive()


def eventually(holds: Callable[[], bool], seconds: float = 30) -> None:
    ends_at = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < ends_at
        time.sleep(0.02)


def test_an_accepted_message_is_posted_by_the_thread(
    hook: OutsideServer, endpoint: Callable[..., Endpoint], alice_org: Organization
) -> None:
    """Found, signed, posted and settled without anybody's wake-up; two senders at once post it once."""
    endpoint(events=["accepted"])
    with sending(), sending():
        message = make_message(alice_org)
        eventually(lambda: Delivery.objects.filter(state="delivered").exists())
        Delivery.objects.bulk_create(
            Delivery(endpoint=Endpoint.objects.get(), organization_id=alice_org.pk, type="webhook.test")
            for _number in range(100)
        )
        eventually(lambda: Delivery.objects.filter(state="delivered").count() == 101)
    told = [json.loads(body) for body in hook.bodies]
    assert told[0]["data"]["reference"] == message.reference
    assert len({each["id"] for each in told}) == len(told) == 101


def test_a_database_that_is_away_loses_nothing(
    hook: OutsideServer, endpoint: Callable[..., Endpoint], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A result that cannot be written is written with the next round; it was posted once."""
    row, settle = endpoint(), queue.settle
    failures: list[Any] = []

    def away_once(done: Any) -> None:
        if not failures:
            failures.append(done)
            raise OperationalError("away")
        settle(done)

    monkeypatch.setattr(queue, "settle", away_once)
    outbox.write_test(row)
    with sending():
        eventually(lambda: Delivery.objects.filter(state="delivered").exists())
    assert (len(failures), len(hook.bodies)) == (1, 1)
    settled_at = Delivery.objects.get().settled_at
    assert settled_at is not None
    assert settled_at <= timezone.now()
