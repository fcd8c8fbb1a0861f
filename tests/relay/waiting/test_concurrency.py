"""Actions beside other workers and beside claims."""

import asyncio
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import connections

from accounts.models import Organization
from audit.changes import Actor
from relay import queue
from relay.database import connect
from relay.models import MessageEvent, Recipient
from relay.queue import Room
from relay.waiting import actions
from relay.waiting.filters import WaitingFilter
from tests.relay.delivery.conftest import async_orm
from tests.relay.ops.builders import make_message

__all__ = ["async_orm"]

pytestmark = pytest.mark.usefixtures("transactional_db", "async_orm")
NUMBER = 400


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(actions, "BATCH", 20)


def _fill(organization: Organization) -> None:
    message = make_message(organization, recipient_count=NUMBER, route="mx")
    Recipient.objects.bulk_create(
        Recipient(message=message, address=f"r{each}@d{each % 7}.example") for each in range(NUMBER)
    )


def _worker() -> None:
    try:
        actions.run_due(seconds=20)
    finally:
        connections.close_all()


async def _claims() -> int:
    taken = 0
    connection = await connect(application_name="test")
    try:
        for _ in range(8):
            claimed = await queue.claim(connection, limit=10, room=Room(("mx",)))
            taken += claimed.recipients
            await asyncio.sleep(0)
    finally:
        await connection.close()
    return taken


async def test_nobody_is_done_twice_or_taken_from_a_worker(alice_org: Organization, small_batches: Any) -> None:
    """Three workers cancel while another claims: each recipient is cancelled once or leased, and the sums fit."""
    await sync_to_async(_fill)(alice_org)
    action = await sync_to_async(actions.request_action)("cancel", WaitingFilter(), actor=Actor("carol"))
    await sync_to_async(actions._step)()  # collected, so that all three have something to do
    taken, *_done = await asyncio.gather(_claims(), *(asyncio.to_thread(_worker) for _ in range(3)))
    await action.arefresh_from_db()
    cancelled = await Recipient.objects.filter(state="cancelled").acount()
    leased = Recipient.objects.filter(state="queued", lease__isnull=False)
    assert cancelled + await leased.acount() == NUMBER and await leased.acount() == taken
    assert action.changed == cancelled == await MessageEvent.objects.acount()
    assert not await Recipient.objects.filter(state="cancelled", lease__isnull=False).aexists()
