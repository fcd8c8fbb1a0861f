"""A small load generator for the tests: many TLS connections in one event loop, each reply written down.

Shapes  Tally.accepted: message texts that got 250; Tally.refused: reply lines that did not.
"""

import asyncio
import base64
import contextlib
import os
import signal
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.smtp.conftest import Sender

CONTEXT = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
CONTEXT.check_hostname, CONTEXT.verify_mode = False, ssl.CERT_NONE


@dataclass
class Tally:
    accepted: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)  # sent to the final dot, and then the connection died


class Refused(Exception):
    pass


class Connection:
    def __init__(self, port: int, sender: Sender) -> None:
        self.port, self.sender = port, sender

    async def __aenter__(self) -> "Connection":
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=CONTEXT)
        await self.expect("220")
        await self.say("EHLO load.example", "250")
        token = base64.b64encode(f"\0{self.sender.username}\0{self.sender.secret}".encode()).decode()
        await self.say(f"AUTH PLAIN {token}", "235")
        return self

    async def __aexit__(self, *_error: object) -> None:
        self.writer.close()

    async def expect(self, code: str) -> str:
        while True:
            line = (await asyncio.wait_for(self.reader.readline(), 60)).decode()
            if not line:
                raise ConnectionResetError
            if line[3:4] != "-":
                break
        if not line.startswith(code):
            raise Refused(line.strip())
        return line.strip()

    async def say(self, line: str, code: str) -> str:
        self.writer.write(line.encode() + b"\r\n")
        return await self.expect(code)

    async def message(self, subject: str, recipients: int, tally: Tally) -> None:
        """One message; what happened goes into the tally. Raises ConnectionError when the connection is gone."""
        dotted = False
        try:
            await self.say(f"MAIL FROM:<{self.sender.address}>", "250")
            for number in range(recipients):
                await self.say(f"RCPT TO:<r{number}@dest.example>", "250")
            await self.say("DATA", "354")
            head = f"From: <{self.sender.address}>\r\nSubject: {subject}\r\n\r\n"
            self.writer.write(head.encode() + b"x" * 500 + b"\r\n.\r\n")
            dotted = True
            await self.expect("250")
            tally.accepted.append(subject)
        except Refused as refused:
            tally.refused.append(str(refused))
            await self.say("RSET", "250")
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            if dotted:
                tally.lost.append(subject)
            raise ConnectionResetError from None


async def run(
    port: int,
    senders: list[Sender],
    *,
    connections: int,
    messages: Iterator[str],
    recipients: int = 1,
    tally: Tally | None = None,
) -> Tally:
    """Sends the messages over so many connections, each with the next sender; a lost connection is opened again.

    tally: given by who looks at it meanwhile.
    """
    tally = tally or Tally()

    async def one(number: int) -> None:
        sender = senders[number % len(senders)]
        failures = 0
        while failures < 200:
            try:
                async with Connection(port, sender) as connection:
                    for subject in messages:
                        await connection.message(subject, recipients, tally)
                    return
            except (ConnectionError, ssl.SSLError, Refused, TimeoutError, asyncio.IncompleteReadError):
                failures += 1
                await asyncio.sleep(0.05)

    await asyncio.gather(*(one(number) for number in range(connections)))
    return tally


def kill_nine(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
