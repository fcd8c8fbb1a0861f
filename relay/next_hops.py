"""Sessions with next hops, kept and used again, and never too many at once.

Shapes  A slot is the right to one session with one next hop. Idle sessions lie last-in first-out, so that those not
        needed grow old and are closed.
Units   per_hop, in_all: sessions at a time of this process.
Errors  NotConnectedError, from the client.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic

from django.conf import settings

from relay.smtp.client import BeforeFinalDot, Client, Envelope, Result, Timeouts
from relay.smtp.next_hop import NextHop

PER_HOP = 10
IN_ALL = 50
IDLE_SECONDS = 25.0
MESSAGES_A_SESSION = 100


class NextHops:
    """All sessions of one delivery loop."""

    def __init__(self, *, per_hop: int = PER_HOP, in_all: int = IN_ALL, timeouts: Timeouts | None = None) -> None:
        self._timeouts = timeouts
        self._slots: dict[NextHop, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(per_hop))
        self._all_slots = asyncio.Semaphore(in_all)
        self._idle: dict[NextHop, list[tuple[float, Client]]] = defaultdict(list)
        self.open_sessions = 0

    @asynccontextmanager
    async def slot(self, next_hop: NextHop) -> AsyncIterator[None]:
        """Waits for the right to a session. The hop's own bound comes first: a slow hop must not hold the others'."""
        async with self._slots[next_hop], self._all_slots:
            yield

    async def send(
        self, next_hop: NextHop, envelope: Envelope, content: bytes, *, before_final_dot: BeforeFinalDot
    ) -> tuple[Result, Client]:
        """One transaction in a session, an idle one if there is any; call it within a slot."""
        client, was_idle = await self._session(next_hop)
        result = await self._transaction(client, next_hop, envelope, content, before_final_dot)
        if was_idle and result.failure and not result.was_heard:
            # The server had closed the session while it lay idle, and has not read this message.
            client = await self._connect(next_hop)
            result = await self._transaction(client, next_hop, envelope, content, before_final_dot)
        return result, client

    async def _transaction(
        self, client: Client, next_hop: NextHop, envelope: Envelope, content: bytes, before_final_dot: BeforeFinalDot
    ) -> Result:
        try:
            result = await client.send(envelope, content, before_final_dot=before_final_dot)
        except BaseException:
            self._forget(client)
            raise
        if not client.is_usable:
            self._forget(client)
        elif client.messages >= MESSAGES_A_SESSION:
            await self._retire(client)
        else:
            self._idle[next_hop].append((monotonic(), client))
        return result

    async def _session(self, next_hop: NextHop) -> tuple[Client, bool]:
        idle = self._idle[next_hop]
        while idle:
            since, client = idle.pop()
            if client.is_usable and monotonic() - since < IDLE_SECONDS:
                return client, True
            self._forget(client)
        return await self._connect(next_hop), False

    async def _connect(self, next_hop: NextHop) -> Client:
        client = await Client.connect(next_hop, local_name=settings.GATEPOST_HOSTNAME, timeouts=self._timeouts)
        self.open_sessions += 1
        return client

    def _forget(self, client: Client) -> None:
        client.abort()
        self.open_sessions -= 1

    async def _retire(self, client: Client) -> None:
        self.open_sessions -= 1
        await client.quit()

    async def close_idle(self, *, older_than: float = IDLE_SECONDS) -> None:
        """Takes leave of sessions that have not been needed for so many seconds."""
        now = monotonic()
        old: list[Client] = []
        for next_hop, idle in list(self._idle.items()):
            old += [client for since, client in idle if now - since >= older_than]
            idle[:] = [(since, client) for since, client in idle if now - since < older_than]
            if not idle:
                del self._idle[next_hop]
        await asyncio.gather(*(self._retire(client) for client in old))
