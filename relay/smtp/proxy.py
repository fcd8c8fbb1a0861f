"""The PROXY protocol: who a balancer says is calling, read from the raw socket before anything else.

Shapes  read_header(loop, socket) -> the client's address, or None where the balancer speaks for
        itself (LOCAL, UNKNOWN).
        Exactly the header's octets are taken: what follows belongs to TLS or SMTP.
Units   octets; TIMEOUT_SECONDS for the whole header.
Errors  NoHeader: the peer sent none, or nonsense, or was too slow; it is closed.
Source  HAProxy's PROXY protocol specification, versions 1 and 2.
"""

import asyncio
import ipaddress
import socket

TIMEOUT_SECONDS = 3.0
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
VERSION_1_MAX = 107
ADDRESS_OCTETS = {0x1: (4, 12), 0x2: (16, 36)}  # family: octets of an address, least length of the block


class NoHeader(Exception):
    """No PROXY header came from a peer that must send one."""


async def read_header(loop: asyncio.AbstractEventLoop, peer: socket.socket) -> str | None:
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            start = await _exactly(loop, peer, 12)
            if start == SIGNATURE:
                return await _version_2(loop, peer)
            if start.startswith(b"PROXY "):
                return _version_1(start + await _line(loop, peer, VERSION_1_MAX - len(start)))
    except (TimeoutError, OSError, ValueError) as error:
        raise NoHeader(str(error)) from error
    raise NoHeader("no PROXY header")


async def _exactly(loop: asyncio.AbstractEventLoop, peer: socket.socket, octets: int) -> bytes:
    found = b""
    while len(found) < octets:
        part = await loop.sock_recv(peer, octets - len(found))
        if not part:
            raise NoHeader("closed")
        found += part
    return found


async def _line(loop: asyncio.AbstractEventLoop, peer: socket.socket, most: int) -> bytes:
    """Octet by octet, so that nothing behind the line is taken; a version 1 header has 107 at most."""
    found = b""
    while not found.endswith(b"\r\n"):
        if len(found) >= most:
            raise NoHeader("the line is too long")
        found += await _exactly(loop, peer, 1)
    return found


def _version_1(line: bytes) -> str | None:
    words = line.decode("ascii").split()
    if words[1:2] == ["UNKNOWN"]:
        return None
    if len(words) != 6 or words[1] not in {"TCP4", "TCP6"}:
        raise NoHeader("malformed")
    address = ipaddress.ip_address(words[2])
    if address.version != int(words[1][3]):
        raise NoHeader("the family does not fit the address")
    return str(address)


async def _version_2(loop: asyncio.AbstractEventLoop, peer: socket.socket) -> str | None:
    version, family, high, low = await _exactly(loop, peer, 4)
    block = await _exactly(loop, peer, high << 8 | low)
    if version >> 4 != 2 or version & 0xF > 1:
        raise NoHeader("unknown version or command")
    if version & 0xF == 0 or family >> 4 not in ADDRESS_OCTETS:
        return None  # LOCAL: the balancer itself, looking whether we live
    octets, least = ADDRESS_OCTETS[family >> 4]
    if len(block) < least or family & 0xF != 1:
        raise NoHeader("malformed")
    return str(ipaddress.ip_address(block[:octets]))
