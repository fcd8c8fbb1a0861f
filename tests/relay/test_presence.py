"""Rows of processes that were killed."""

import asyncio
import os
import socket
import sys

import psycopg
import pytest
from django.utils import timezone

from relay.database import conninfo
from relay.models import Worker
from relay.presence import forget_dead


@pytest.mark.django_db(transaction=True)
async def test_only_the_dead_of_this_machine_are_forgotten() -> None:
    """The living, those of other hosts, and names that tell no process stay."""
    ended = await asyncio.create_subprocess_exec(sys.executable, "-c", "")
    await ended.wait()
    host, now = socket.gethostname()[:40], timezone.now()
    dead, alive = f"smtpd@{host}:{ended.pid}", f"delivery@{host}:{os.getpid()}"
    elsewhere, odd = f"smtpd@other.example:{ended.pid}", "by hand"
    for name in (dead, alive, elsewhere, odd):
        await Worker.objects.acreate(name=name, kind="smtpd", started_at=now, seen_at=now)
    async with await psycopg.AsyncConnection.connect(conninfo(application_name="test"), autocommit=True) as conn:
        await forget_dead(conn)
    assert {row.name async for row in Worker.objects.all()} == {alive, elsewhere, odd}
