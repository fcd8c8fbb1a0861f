"""Sessions with next hops, kept and used again, and never too many at once.

Shapes  A slot is the right to one session with one next hop. Idle sessions lie last-in first-out, so that those not
        needed grow old and are closed; the oldest of them is, where a new one would be too many.
Units   per_hop, in_all: sessions at a time of this process, the idle ones included.
Errors  NotConnectedError, from the client. CrowdedError: enough mail waits for this next hop already.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic

from django.conf import settings

from relay.smtp.client import BeforeFinalDot, Client, Envelope, Result, Timeouts
from relay.smtp.next_hop import NextHop

PER_HOP = 20
IN_ALL = 200
CROWD = 200  # waiting for one next hop, which may be the server of many domains
CROWD_SECONDS = 5.0  # more may wait for it only where they need not wait for longer
PATIENCE_SECONDS = 30.0  # after which a place in the line is given up
IDLE_SECONDS = 25.0
MESSAGES_A_SESSION = 100


class CrowdedError(Exception):
    """So many wait for this next hop that more would only take the room of others."""


class _Line:
    """Those that have a session with one next hop, and those that wait for one, in their order."""

    def __init__(self, per_hop: int) -> None:
        self._slots = asyncio.Semaphore(per_hop)
        self._waiting = self._using = 0
        self._freed_at, self._interval = monotonic(), 0.0  # a moving mean of the time between two that left

    @property
    def is_empty(self) -> bool:
        return not self._waiting and not self._using

    def _is_crowded(self) -> bool:
        each = max(self._interval, monotonic() - self._freed_at)
        return self._waiting >= CROWD and self._waiting * each > CROWD_SECONDS

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        if self._slots.locked() and self._is_crowded():
            raise CrowdedError
        self._waiting += 1
        try:
            async with asyncio.timeout(PATIENCE_SECONDS if self._slots.locked() else None):
                await self._slots.acquire()
        except TimeoutError:
            raise CrowdedError from None
        finally:
            self._waiting -= 1
        self._using += 1
        try:
            yield
        finally:
            self._using -= 1
            self._slots.release()
            now = monotonic()
            self._interval += 0.1 * (now - self._freed_at - self._interval)
            self._freed_at = now


class NextHops:
    """All sessions of one delivery loop."""

    def __init__(self, *, per_hop: int = PER_HOP, in_all: int = IN_ALL, timeouts: Timeouts | None = None) -> None:
        self._timeouts = timeouts
        self._lines: dict[NextHop, _Line] = {}
        self._per_hop = per_hop
        self._all_slots = asyncio.Semaphore(in_all)
        self._in_all = in_all
        self._idle: dict[NextHop, list[tuple[float, Client]]] = defaultdict(list)
        self.open_sessions = 0

    @asynccontextmanager
    async def slot(self, next_hop: NextHop) -> AsyncIterator[None]:
        """Waits for the right to a session. The hop's own bound comes first: a slow hop must not hold the others'."""
        line = self._lines.get(next_hop)
        if line is None:
            line = self._lines[next_hop] = _Line(self._per_hop)
        try:
            async with line.place(), self._all_slots:
                yield
        finally:
            if line.is_empty:
                self._lines.pop(next_hop, None)

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
        if self.open_sessions >= self._in_all:
            await self._close_oldest()
        client = await Client.connect(next_hop, local_name=settings.GATEPOST_HOSTNAME, timeouts=self._timeouts)
        self.open_sessions += 1
        return client

    def _forget(self, client: Client) -> None:
        client.abort()
        self.open_sessions -= 1

    async def _retire(self, client: Client) -> None:
        self.open_sessions -= 1
        await client.quit()

    async def _close_oldest(self) -> None:
        """Slots bound what is busy; so among so many open sessions one is idle, unless it is just being closed."""
        idle = [(clients[0][0], next_hop) for next_hop, clients in self._idle.items() if clients]
        if idle:
            _since, next_hop = min(idle, key=lambda each: each[0])
            await self._retire(self._idle[next_hop].pop(0)[1])

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
