"""An SMTP server on a loopback address that does what a test tells it to.

Shapes  script: verb -> what to answer, one entry each time the verb comes; the last entry stays. An entry is a reply
        (several lines by \\n), octets as they are, or DROP (close), HANG (say nothing), or an
        asynchronous function that returns one of them.
        Verbs: GREETING, EHLO, STARTTLS, AUTH, MAIL, RCPT, DATA, DOT, RSET, QUIT.
"""

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

DROP, HANG, STARE = "\0drop", "\0hang", "354 Go on, I only look"
DRIP_SECONDS = 0.1
FEATURES = ("PIPELINING", "8BITMIME", "SMTPUTF8", "SIZE 52428800")
DEFAULTS = {
    "GREETING": "220 scripted ESMTP",
    "HELO": "250 scripted",
    "STARTTLS": "220 2.0.0 Ready",
    "AUTH": "235 2.7.0 Welcome",
    "MAIL": "250 2.1.0 Ok",
    "RCPT": "250 2.1.5 Ok",
    "DATA": "354 Go on",
    "DOT": "250 2.0.0 Queued",
    "RSET": "250 2.0.0 Ok",
    "QUIT": "221 2.0.0 Bye",
}


class Drip(str):
    """A reply that takes its time."""


class _Dropped(Exception):
    pass


@dataclass
class Taken:
    """A message whose final dot came. content: with the dots taken out again."""

    mail: str
    recipients: list[str]
    content: bytes


@dataclass
class ScriptedServer:
    script: Mapping[str, Any] = field(default_factory=dict)
    features: tuple[str, ...] = FEATURES
    certificate: Path | None = None
    implicit: bool = False
    commands: list[str] = field(default_factory=list)
    taken: list[Taken] = field(default_factory=list)
    sessions: int = 0
    open_now: int = 0
    most_at_once: int = 0
    ahead: list[bytes] = field(default_factory=list)  # what lay unread when MAIL was answered
    started_data: asyncio.Event = field(default_factory=asyncio.Event)
    asked_data: asyncio.Event = field(default_factory=asyncio.Event)
    dotted: asyncio.Event = field(default_factory=asyncio.Event)
    port: int = 0
    address: str = "127.0.0.1"

    async def __aenter__(self) -> "ScriptedServer":
        self._left = {verb: list(words) if isinstance(words, list) else [words] for verb, words in self.script.items()}
        self._tasks: set[asyncio.Task[None]] = set()
        context = self._context() if self.implicit else None
        self._server = await asyncio.start_server(self._serve, self.address, self.port, ssl=context, limit=2**26)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _context(self) -> ssl.SSLContext:
        assert self.certificate
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate)
        return context

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._tasks.add(task)
        self.sessions += 1
        self.open_now += 1
        self.most_at_once = max(self.most_at_once, self.open_now)
        try:
            await self._session(reader, writer)
        except (_Dropped, ConnectionError, ssl.SSLError, asyncio.IncompleteReadError, asyncio.CancelledError):
            writer.transport.abort()  # cancelled at the test's end: asyncio's streams would log it as an error
        finally:
            self.open_now -= 1
            self._tasks.discard(task)
            writer.close()

    async def _say(self, writer: asyncio.StreamWriter, verb: str) -> str:
        entries = self._left.get(verb) or [DEFAULTS[verb]]
        words: Any = entries.pop(0) if len(entries) > 1 else entries[0]
        if callable(words):
            words = await words()
        if isinstance(words, bytes):
            writer.write(words)
            await writer.drain()
            return words.decode("latin-1")
        if words == DROP:
            raise _Dropped
        if words == HANG:
            await asyncio.Event().wait()
        if isinstance(words, Drip):
            for octet in f"{words}\r\n".encode():
                writer.write(bytes([octet]))
                await asyncio.sleep(DRIP_SECONDS)
            return words
        lines = words.split("\n")
        code = lines[0][:3]
        parts = [line if n == len(lines) - 1 else f"{code}-{line[4:]}" for n, line in enumerate(lines)]
        writer.write("".join(f"{part}\r\n" for part in parts).encode())
        await writer.drain()
        return str(words)

    async def _ehlo(self, writer: asyncio.StreamWriter) -> None:
        if "EHLO" in self._left:
            await self._say(writer, "EHLO")
            return
        lines = ["scripted", *self.features]
        writer.write(
            "".join(f"250{'-' if n < len(lines) - 1 else ' '}{line}\r\n" for n, line in enumerate(lines)).encode()
        )
        await writer.drain()

    async def _session(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        mail, recipients = "", list[str]()
        await self._say(writer, "GREETING")
        while line := await reader.readline():
            command = line.decode().rstrip("\r\n")
            self.commands.append(command)
            verb = command.partition(" ")[0].upper()
            if verb == "EHLO":
                await self._ehlo(writer)
            elif verb == "HELO":
                await self._say(writer, verb)
            elif verb == "STARTTLS":
                await self._say(writer, verb)
                await writer.start_tls(self._context())
            elif verb == "AUTH":
                await self._auth(command, reader, writer)
            elif verb == "MAIL":
                self.ahead.append(bytes(reader._buffer))  # type: ignore[attr-defined]
                mail, recipients = command, []
                await self._say(writer, verb)
            elif verb == "RCPT":
                if (await self._say(writer, verb)).startswith("2"):
                    recipients.append(command.partition("<")[2].rstrip(">"))
            elif verb == "DATA":
                self.asked_data.set()
                said = await self._say(writer, verb)
                if said == STARE:
                    writer.transport.pause_reading()  # type: ignore[attr-defined]
                    await asyncio.Event().wait()
                if said.startswith("3"):
                    await self._data(mail, recipients, reader, writer)
            else:
                await self._say(writer, verb)
                if verb == "QUIT":
                    return

    async def _auth(self, command: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if command == "AUTH LOGIN":
            for prompt in (b"334 VXNlcm5hbWU6\r\n", b"334 UGFzc3dvcmQ6\r\n"):
                writer.write(prompt)
                self.commands.append((await reader.readline()).decode().strip())
        await self._say(writer, "AUTH")

    async def _data(
        self, mail: str, recipients: list[str], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.started_data.set()
        lines = []
        while (line := await reader.readuntil(b"\n")) != b".\r\n":
            lines.append(line[1:] if line.startswith(b".") else line)
        self.taken.append(Taken(mail, recipients, b"".join(lines)))
        self.dotted.set()
        await self._say(writer, "DOT")


def make_certificate(folder: Path, name: str = "127.0.0.1") -> Path:
    """A certificate that is its own authority, with its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "scripted")])
    try:
        names: list[x509.GeneralName] = [x509.IPAddress(ip_address(name))]
    except ValueError:
        names = [x509.DNSName(name)]
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = folder / f"{name}.pem"
    file.write_bytes(
        made.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return file
