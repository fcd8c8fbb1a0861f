"""Who is told 354 next: only a few at once, so that little time lies between the end of the data and the 250.

Shapes  enter(session) returns once the session may say 354; received(session) when its content is there; leave(session)
        when it is answered.
Units   seconds on the event loop's clock; places.
Errors  None. Nobody waits long for somebody else: who is slow to send, or whose commit is slow, gives its place up.
Source  RFC 1047: a client whose connection breaks between the final dot and the 250 sends the message again, so a wait
        belongs in front of the content. RFC 5321 4.5.3.2.4 gives it two minutes there.

All of them together take the same time either way: what a busy process does not read yet waits in front of it.
"""

import asyncio
from collections import deque

PLACES_MIN, PLACES_MAX = 24, 40  # fewer make transactions small, and dear; more only make the wait longer
SHORT_SECONDS, LONG_SECONDS = 0.005, 0.007  # from the end of the data to the answer: there is room for more; enough
PATIENCE_SECONDS = 0.025  # for one stage: the client's sending, or ours from there to the answer
CHECK_SECONDS = 0.005


class Turnstile:
    """One for each smtpd process."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.places = PLACES_MIN
        self._took = 0.0  # seconds from the end of the data to the answer, lately
        self._loop = loop
        self._inside: dict[object, float] = {}  # since when it is in its stage
        self._waiting: deque[tuple[object, asyncio.Future[None]]] = deque()
        self._checking = False

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    async def enter(self, session: object) -> None:
        if not self._waiting and len(self._inside) < self.places:
            self._inside[session] = self._loop.time()
            return
        turn: asyncio.Future[None] = self._loop.create_future()
        self._waiting.append((session, turn))
        if not self._checking:
            self._check()
        await turn

    def received(self, session: object) -> None:
        if session in self._inside:
            self._inside[session] = self._loop.time()

    def leave(self, session: object) -> None:
        since = self._inside.pop(session, None)
        if self._waiting:
            if since is not None:
                self._learn(self._loop.time() - since)
            self._admit()

    def _learn(self, seconds: float) -> None:
        """Small messages are soon stored: then there may be more of them at once."""
        self._took += (seconds - self._took) / 16
        if self._took < SHORT_SECONDS:
            self.places = min(PLACES_MAX, self.places + 1)
        elif self._took > LONG_SECONDS:
            self.places = max(PLACES_MIN, self.places - 2)

    def _admit(self) -> None:
        """As many as there are places for. Whose task was cancelled meanwhile is passed over."""
        while self._waiting and len(self._inside) < self.places:
            session, turn = self._waiting.popleft()
            if not turn.done():
                self._inside[session] = self._loop.time()
                turn.set_result(None)

    def _check(self) -> None:
        """While somebody waits, those who take long are counted no more."""
        late = self._loop.time() - PATIENCE_SECONDS
        for session in [session for session, since in self._inside.items() if since < late]:
            del self._inside[session]
        self._admit()
        self._checking = bool(self._waiting)
        if self._checking:
            self._loop.call_later(CHECK_SECONDS, self._check)
