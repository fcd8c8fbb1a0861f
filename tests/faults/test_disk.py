"""The disk runs full: mail is refused before PostgreSQL is hurt, and taken again within 10 s of there being room."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.conf import settings

from accounts.models import Organization
from embedded import addresses
from embedded.postgres import Postgres
from relay.models import Message
from tests.faults.running import Load, until
from tests.smtp.conftest import Processes, RunningDoor, Sender

pytestmark = pytest.mark.faults

RECOVERY_SECONDS = 10.0
CONNECTIONS = 4
DISK_OCTETS = 256 * 1024 * 1024
RESERVE_OCTETS = 48 * 1024 * 1024
LOW = "452 4.3.1 The disk is nearly full here, try again later"


async def ten_more(answers: list[str], *, seconds: float) -> None:
    wanted = len(answers) + 10
    await until(lambda: len(answers) >= wanted, seconds=seconds)


def test_a_false_reserve(
    door: RunningDoor,
    roomy: None,
    alice_org: Organization,
    sender_of: Callable[..., Sender],
    settings: Any,
    counted: Callable[[int, int], int],
) -> None:
    """Under load: 452 within 10 s of the disk being low, nothing taken meanwhile, and taken again within 10 s."""
    sender = sender_of(alice_org)

    async def play() -> Load:
        async with Load(door.tls_port, [sender], connections=CONNECTIONS) as load:
            for _turn in range(counted(3, 20)):
                await ten_more(load.accepted, seconds=RECOVERY_SECONDS)
                settings.GATEPOST_DISK_RESERVE = 2**62
                await ten_more(load.refused, seconds=RECOVERY_SECONDS)
                taken = len(load.accepted)
                await ten_more(load.refused, seconds=RECOVERY_SECONDS)
                assert len(load.accepted) <= taken + CONNECTIONS  # each may end the message that it was in
                settings.GATEPOST_DISK_RESERVE = 1
            await ten_more(load.accepted, seconds=RECOVERY_SECONDS)
        return load

    load = asyncio.run(play())
    assert {line.partition(" [ref")[0] for line in load.refused} == {LOW}
    assert sorted(load.accepted) == sorted(Message.objects.values_list("subject", flat=True))


# --- A real disk ------------------------------------------------------------------------------------------------------

MAKE_SENDER = """
import json
from accounts.models import Organization, Plan, Subscription
from audit.changes import SYSTEM
from relay.credentials import create_app_password, create_smtp_user
from relay.domains import add_domain, add_sender, mark_verified
organization = Organization.objects.create(name="Full", slug="full", state=Organization.State.ACTIVE)
Subscription.objects.create(organization=organization, plan=Plan.objects.get(code="trial"))
Plan.objects.update(recipients_per_hour=1_000_000_000)
user = create_smtp_user(organization, name="app", excess="refuse", actor=SYSTEM)
mark_verified(add_domain(organization, name="full.example", actor=SYSTEM), actor=SYSTEM, verified_by=None)
add_sender(user, pattern="@full.example", actor=SYSTEM)
print(json.dumps([user.username, create_app_password(user, name="test", actor=SYSTEM).secret]))
"""


class Full:
    """A state directory on a small disk of its own, with its PostgreSQL and its one sender."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.postgres = Postgres(state)
        self.environment = {
            "GATEPOST_STATE_DIR": str(state),
            "DATABASE_URL": addresses.database_url(state),
            "GATEPOST_DISK_RESERVE": str(RESERVE_OCTETS),
        }
        self._filler = state / "filler"

    def start(self) -> Sender:
        self.postgres.start()
        self._manage("migrate", "-v", "0")
        username, secret = json.loads(self._manage("shell", "--no-imports", "-c", MAKE_SENDER).splitlines()[-1])
        return Named(username, secret)

    def _manage(self, *arguments: str) -> str:
        command = [sys.executable, "manage.py", *arguments]
        done = subprocess.run(
            command,
            check=False,
            cwd=settings.BASE_DIR,
            env=os.environ | self.environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def fill(self, *, free: int) -> None:
        """Leaves so much."""
        with suppress(OSError), self._filler.open("ab", buffering=0) as file:  # PostgreSQL was quicker
            while (left := shutil.disk_usage(self.state).free - free) > 0:
                file.write(bytes(min(left, 1024 * 1024)))

    def empty(self) -> None:
        self._filler.unlink()

    def subjects(self) -> set[str]:
        with psycopg.connect(addresses.database_url(self.state)) as conn:
            return {row[0] for row in conn.execute("SELECT subject FROM relay_message")}


class Named(Sender):
    """A sender of another database."""

    def __init__(self, username: str, secret: str) -> None:
        self._username, self.secret, self.address = username, secret, "news@full.example"

    @property
    def username(self) -> str:
        return self._username


@pytest.fixture
def full() -> Iterator[Full]:
    # Under /tmp and open to be entered: as root, PostgreSQL runs under another account.
    state = Path(tempfile.mkdtemp(prefix="gatepost-full-", dir="/tmp"))
    mount = shutil.which("mount")
    words = [mount or "mount", "-t", "tmpfs", "-o", f"size={DISK_OCTETS},mode=0755", "none", str(state)]
    if not mount or subprocess.run(words, check=False, capture_output=True).returncode != 0:
        state.rmdir()
        pytest.skip("a disk of its own cannot be mounted here")
    made = Full(state)
    try:
        yield made
    finally:
        made.postgres.stop()
        subprocess.run(["umount", "--lazy", str(state)], check=True)
        state.rmdir()
        shutil.rmtree(addresses.socket_dir(state), ignore_errors=True)


def test_a_real_small_disk(
    full: Full, smtpd: Callable[..., Processes], tmp_path: Path, counted: Callable[[int, int], int]
) -> None:
    """Below the reserve 452 and PostgreSQL lives; with not one octet left no false 250; each time it comes back."""
    sender = full.start()
    processes = smtpd(1, **full.environment)

    async def turn(load: Load, *, free: int) -> None:
        await ten_more(load.accepted, seconds=RECOVERY_SECONDS)
        await asyncio.to_thread(full.fill, free=free)
        await ten_more(load.refused, seconds=60)
        taken = len(load.accepted)
        await ten_more(load.refused, seconds=60)
        assert len(load.accepted) <= taken + CONNECTIONS  # each may end the message that it was in
        await asyncio.to_thread(full.empty)
        if not await asyncio.to_thread(full.postgres.running):
            await asyncio.to_thread(full.postgres.start)

    async def play() -> Load:
        async with Load(processes.tls_port, [sender], connections=CONNECTIONS) as load:
            for _turn in range(counted(1, 20)):
                await turn(load, free=RESERVE_OCTETS - 8 * 1024 * 1024)
            assert {line.partition(" [ref")[0] for line in load.refused} == {LOW}
            assert full.postgres.running()
            await turn(load, free=0)
            await ten_more(load.accepted, seconds=RECOVERY_SECONDS)
        return load

    load = asyncio.run(play())
    assert {line[:3] for line in load.refused} <= {"451", "452"}
    assert set(load.accepted) <= full.subjects()
