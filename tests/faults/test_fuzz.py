"""Nonsense by the thousand: the worker says nothing of its own, keeps nothing, and lives."""

import asyncio
import base64
import contextlib
import os
import socket
import ssl
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import uvloop
from django.db import connection

from accounts.models import Organization
from relay.models import Message
from tests.faults.fuzz import CLEAR, SMUGGLED, STARTTLS, TLS, Conversation, allowed, conversation
from tests.faults.running import AWAY, events_of
from tests.smtp.conftest import Client, Processes, Sender, content
from tests.smtp.load import CONTEXT

pytestmark = pytest.mark.faults

AT_ONCE, AT_ONCE_SOAKING = 32, 256  # most of them wait for a server that has nothing more to say
QUIET_SECONDS = 0.5  # a server that says nothing for so long awaits more
ROUND = 5000  # sessions, after which the log is read and emptied
GROWTH = 1.05
GROWTH_WHILE_WARMING = 1.5  # small counts end before the allocator has found its level
WARM_UP = 20_000  # at most; by then the allocator has found its level
FILLED = 300_000  # sessions after which what is bounded is full: 100,000 names and addresses of guesses are 100 MiB


class Talker:
    def __init__(self, processes: Processes, token: bytes, seed: int, *, at_once: int) -> None:
        self.processes, self.token, self.seed, self.at_once = processes, token, seed, at_once
        self.wrong: list[str] = []
        self.replies = 0

    def run(self, numbers: range) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self.sessions(numbers))

    async def sessions(self, numbers: range) -> None:
        waiting = iter(numbers)

        async def one() -> None:
            for number in waiting:
                await self.session(conversation(self.seed, number, self.token))

        await asyncio.gather(*(one() for _ in range(self.at_once)))

    async def session(self, talk: Conversation) -> None:
        heard = bytearray()
        with contextlib.suppress(*AWAY):
            async with asyncio.timeout(30):
                await self.talk(talk, heard)
        for line in bytes(heard).split(b"\r\n")[:-1]:
            self.replies += 1
            if not allowed(line):
                self.wrong.append(f"{line!r} to {talk}")

    async def talk(self, talk: Conversation, heard: bytearray) -> None:
        reader, writer = await self.connect(talk)
        try:
            if talk.door == STARTTLS:
                await self.secure(reader, writer, talk, heard)
            listening = asyncio.create_task(listen(reader, heard)) if talk.kind != "deaf" else None
            try:
                for segment in talk.segments:
                    writer.write(segment)
                    async with asyncio.timeout(5):
                        await writer.drain()
                if talk.ending == "read" and listening:
                    await listening
            finally:
                if listening:
                    listening.cancel()
        finally:
            if talk.ending == "abort":
                writer.transport.abort()
            writer.close()

    async def connect(self, talk: Conversation) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        port = self.processes.tls_port if talk.door == TLS else self.processes.starttls_port
        peer = socket.socket()
        if talk.kind == "deaf":
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        peer.setblocking(False)
        await asyncio.get_running_loop().sock_connect(peer, ("127.0.0.1", port))
        words = {"ssl": CONTEXT, "server_hostname": "x"} if talk.door == TLS else {}
        return await asyncio.open_connection(sock=peer, **words)

    @staticmethod
    async def secure(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, talk: Conversation, heard: bytearray
    ) -> None:
        writer.write(talk.first + b"EHLO fuzz.example\r\nSTARTTLS\r\n")
        while line := await reader.readline():
            heard += line
            if line.startswith(b"220 2.0.0"):
                break
        await writer.start_tls(CONTEXT, server_hostname="x")


async def listen(reader: asyncio.StreamReader, heard: bytearray) -> None:
    with contextlib.suppress(*AWAY, ssl.SSLError):
        while True:
            async with asyncio.timeout(QUIET_SECONDS):
                part = await reader.read(65536)
            if not part:
                return
            heard += part


def open_files(pid: int) -> int:
    return sum(1 for _file in Path(f"/proc/{pid}/fd").iterdir())


def quiet(pid: int, *, files: int) -> int:
    """Octets of memory that the process has once its sessions are over, and it has no more open files than this."""
    end = time.monotonic() + 40  # a peer that does not answer the end of TLS is left after 30 s
    while (opened := open_files(pid)) > files:
        assert time.monotonic() < end, f"{opened} files are still open"
        time.sleep(0.1)
    return resident(pid)


def resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_fuzzed_sessions(
    smtpd: Callable[..., Processes],
    roomy: None,
    alice_org: Organization,
    sender_of: Callable[..., Sender],
    counted: Callable[[int, int], int],
    soaking: bool,
    seed: int,
) -> None:
    """No unexpected event, no text of ours in a reply, nothing smuggled, memory as before, and the worker lives."""
    sender = sender_of(alice_org)
    sessions = counted(300, 1_000_000)
    processes = smtpd(1, GATEPOST_AUTH_DELAY_MS="5")
    assert processes.process is not None
    pid = processes.process.pid
    talker = Talker(
        processes,
        base64.b64encode(f"\0{sender.username}\0{sender.secret}".encode()),
        seed,
        at_once=AT_ONCE_SOAKING if soaking else AT_ONCE,
    )
    files = open_files(pid) + 16  # connections to PostgreSQL and Valkey come and go
    talker.run(range(sessions, sessions + min(sessions, WARM_UP)))
    memory = [quiet(pid, files=files)]
    for start in range(0, sessions, ROUND):
        talker.run(range(start, min(start + ROUND, sessions)))
        assert talker.wrong == []
        assert list(events_of(processes.log)) == []
        os.truncate(processes.log, 0)
        memory.append(quiet(pid, files=files))
        print(f"{start + ROUND}: {memory[-1] >> 20} MiB", flush=True)
    assert processes.process.poll() is None
    warm = memory[FILLED // ROUND] if sessions > FILLED else memory[0]
    grown = memory[-1] / warm
    print(f"{sessions} sessions, {talker.replies} replies; memory {warm >> 20} MiB, then {grown:.3f} of it")
    assert grown < (GROWTH if sessions > FILLED else GROWTH_WHILE_WARMING)
    assert talker.replies > sessions
    client = Client(processes.tls_port, tls=True)
    client.say("EHLO good.example")
    assert client.say(f"AUTH PLAIN {sender.plain()}") == "235 2.7.0 Authentication succeeded"
    assert client.message(sender.address, "a@dest.example", content=content()).startswith("250 2.0.0 OK: queued as ")
    client.socket.close()
    assert not Message.objects.filter(reverse_path__startswith="smuggled").exists()
    connection.close()


def test_the_same_seed_makes_the_same_sessions() -> None:
    """Any session of a failed run can be had again; every kind and every door comes up."""
    first = [conversation(7, number, b"token") for number in range(400)]
    assert first == [conversation(7, number, b"token") for number in range(400)]
    assert first != [conversation(8, number, b"token") for number in range(400)]
    assert {talk.door for talk in first} == {CLEAR, STARTTLS, TLS}
    assert len({talk.kind for talk in first}) == 10
    assert any(SMUGGLED in b"".join(talk.segments) for talk in first)


@pytest.mark.parametrize(
    "line", [b"500 Error: (KeyError) 'x'", b"451 4.3.0 psycopg.OperationalError", b"250 ok\x1b[31m", b"501 5.5.4 {why}"]
)
def test_a_leak_would_be_seen(line: bytes) -> None:
    """What no reply may hold is told from what it may."""
    assert not allowed(line)
    assert allowed(b"501 5.5.4 Syntax: DATA [ref 0123456789]")
