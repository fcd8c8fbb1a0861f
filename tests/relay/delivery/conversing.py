"""Conversations of relay.smtp.client with a scripted server."""

from collections.abc import Sequence
from typing import Any

import pytest

from relay.routes import NextHop
from relay.smtp.client import Client, Envelope, NotConnectedError, Result, Timeouts
from tests.relay.delivery.scripted_server import ScriptedServer

BODY = b"Subject: x\r\n\r\nHello.\r\n"
ONE = Envelope("app@alice.example", ("you@example.net",))
THREE = Envelope("app@alice.example", ("a@example.net", "b@example.net", "c@example.net"))
SHORT = Timeouts(*([0.2] * 10))


async def yes(_offered: Sequence[int]) -> None:
    """Leave to send the final dot."""


async def connect(server: ScriptedServer, *, timeouts: Timeouts | None = None, **hop: Any) -> Client:
    next_hop = NextHop("127.0.0.1", server.port, **{"tls": "none", **hop})
    return await Client.connect(next_hop, local_name="mail.gatepost.example", timeouts=timeouts)


async def deliver(server: ScriptedServer, envelope: Envelope = ONE, content: bytes = BODY, **hop: Any) -> Result:
    client = await connect(server, **hop)
    result = await client.send(envelope, content, before_final_dot=yes)
    client.abort()
    return result


def codes(result: Result) -> list[int | None]:
    return [reply.code if reply else None for reply in result.replies]


async def refusal(server: ScriptedServer, **hop: Any) -> str:
    """Why there is no session."""
    with pytest.raises(NotConnectedError) as caught:
        await connect(server, **hop)
    return str(caught.value)
