"""Rows of processes that were killed."""

import asyncio
import os
import socket
import subprocess
import sys

import pytest
from django.utils import timezone

from relay.database import connect
from relay.models import Worker
from relay.presence import forget_dead


async def forget() -> None:
    async with await connect(application_name="test") as conn:
        await forget_dead(conn)


@pytest.mark.django_db(transaction=True)
def test_only_the_dead_of_this_machine_are_forgotten() -> None:
    """The living, those of other hosts, and names that tell no process stay."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    host, now = socket.gethostname()[:40], timezone.now()
    dead, alive = f"smtpd@{host}:{ended.pid}", f"delivery@{host}:{os.getpid()}"
    elsewhere, odd = f"smtpd@other.example:{ended.pid}", "by hand"
    for name in (dead, alive, elsewhere, odd):
        Worker.objects.create(name=name, kind="smtpd", started_at=now, seen_at=now)
    asyncio.run(forget())
    assert set(Worker.objects.values_list("name", flat=True)) == {alive, elsewhere, odd}
