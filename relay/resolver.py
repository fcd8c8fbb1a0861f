"""The one DNS resolver of Gatepost: what records a name has, asked of the operator's resolvers.

Shapes  await query(name, type) -> Answer; threads without a loop ask all they want in one asyncio.run(). An Answer
        says how the question ended: records, no such name, no such record, a failure of the resolver, or silence.
Units   ttl: seconds for which the answer holds. SECONDS: for one question as a whole, every server and try included.
Errors  None. A name that cannot stand in the DNS has the outcome NXDOMAIN; what is no answer is not believed.
Source  RFC 1035, 2181, 2308 (negative answers), 6891 (EDNS), 7766 (TCP), 6840 5.7 (the AD bit); RFC 5452 (who answers).

Servers are GATEPOST_RESOLVERS, or the system's. They resolve recursively; Gatepost follows the CNAMEs of their answer.
The AD bit is believed only of servers that the setting names or that are on this machine: elsewhere anyone may set it.
"""

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache
from ipaddress import ip_address
from time import monotonic
from typing import Any
from weakref import WeakKeyDictionary

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdatatype
import dns.resolver
import dns.reversename
from django.conf import settings

from relay.logs import get_logger

SECONDS = 6.0
TRY_SECONDS = (1.5, 2.5)  # one try each; servers take turns, and the last one begins again from the first
PAYLOAD = 1232  # octets: what passes every path without fragments
CACHED = 20_000  # questions
AT_ONCE = 256  # questions of one event loop that wait for an answer
TTL_MAX, TTL_NEGATIVE_MAX, TTL_FAILURE = 3600, 900, 5

Server = tuple[str, int]

log = get_logger(__name__)


class Outcome(StrEnum):
    RECORDS = "records"
    NXDOMAIN = "nxdomain"  # there is no such name
    NO_DATA = "no data"  # the name is there, a record of this type is not
    SERVFAIL = "servfail"  # the resolver could not find out, or does not want to
    TIMEOUT = "timeout"  # no resolver answered


@dataclass(frozen=True, slots=True)
class Answer:
    """name: as asked. canonical: where its CNAMEs led, which is the name itself where there are none."""

    name: str
    type: str
    outcome: Outcome
    records: tuple[dns.rdata.Rdata, ...] = ()
    ttl: int = 0
    authenticated: bool = False
    canonical: str = ""
    aliases: tuple[str, ...] = ()

    @property
    def is_known(self) -> bool:
        """Whether the DNS said something, if only that there is nothing. Otherwise: ask again later."""
        return self.outcome in {Outcome.RECORDS, Outcome.NXDOMAIN, Outcome.NO_DATA}

    @property
    def texts(self) -> tuple[str, ...]:
        """TXT records with their strings put together, 8-bit octets as Latin-1 has them."""
        return tuple(
            b"".join(record.strings).decode("latin-1") for record in self.records if hasattr(record, "strings")
        )

    @property
    def targets(self) -> tuple[str, ...]:
        """Names that CNAME, PTR, NS or MX records point to, in lower case and without the final dot."""
        names = [getattr(record, "target", getattr(record, "exchange", None)) for record in self.records]
        return tuple(plain(name) for name in names if name is not None)

    @property
    def addresses(self) -> tuple[str, ...]:
        return tuple(str(record.address) for record in self.records if hasattr(record, "address"))


def plain(name: Any) -> str:
    """A name of the DNS as Gatepost writes names."""
    return str(name).rstrip(".").lower()


def reverse_name(address: str) -> str:
    """Where the PTR of an address stands. Raises ValueError."""
    return plain(dns.reversename.from_address(str(ip_address(address))))


async def query(name: str, record_type: str, *, fresh: bool = False) -> Answer:
    """fresh: asks the servers anew, whatever is remembered here; they may still answer from memories of their own."""
    return await _resolver(tuple(servers())).query(name, record_type, fresh=fresh)


def servers() -> list[Server]:
    """Those of the setting, else the system's, else this machine."""
    return list(settings.GATEPOST_RESOLVERS) or list(_system_servers())


def forget() -> None:
    """Empties the cache."""
    _resolver.cache_clear()


@lru_cache(maxsize=1)
def _system_servers() -> tuple[Server, ...]:
    try:
        found = dns.resolver.Resolver(configure=True)
    except dns.exception.DNSException:
        return (("127.0.0.1", 53),)
    return tuple((str(address), found.port) for address in found.nameservers) or (("127.0.0.1", 53),)


@lru_cache(maxsize=8)
def _resolver(asked: tuple[Server, ...]) -> "_Resolver":
    return _Resolver(asked, named=bool(settings.GATEPOST_RESOLVERS))


def _failed(name: str, record_type: str, outcome: Outcome) -> Answer:
    return Answer(name, record_type, outcome, ttl=TTL_FAILURE, canonical=name)


class _BadAnswer(Exception):
    """What came is not the answer to the question."""


class _Resolver:
    """One set of servers with its cache, shared by all threads; questions in flight are shared within a loop."""

    def __init__(self, asked: Sequence[Server], *, named: bool) -> None:
        self._servers = asked
        self._named = named
        self._cache: OrderedDict[tuple[str, str], tuple[float, Answer]] = OrderedDict()
        self._lock = threading.Lock()
        self._flights: dict[tuple[int, str, str], asyncio.Task[Answer]] = {}
        self._turns: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = WeakKeyDictionary()

    async def query(self, name: str, record_type: str, *, fresh: bool) -> Answer:
        key = (name.rstrip(".").lower(), record_type)
        if not fresh and (answer := self._remembered(key)):
            return answer
        flight = (id(asyncio.get_running_loop()), *key)
        task = self._flights.get(flight)
        if task is None or task.get_loop() is not asyncio.get_running_loop():
            task = asyncio.create_task(self._asked(*key))
            self._flights[flight] = task
            task.add_done_callback(lambda _done: self._flights.pop(flight, None))
        return await asyncio.shield(task)  # who no longer waits must not take the answer from the others

    def _remembered(self, key: tuple[str, str]) -> Answer | None:
        with self._lock:
            ends_at, answer = self._cache.get(key, (0.0, None))
        left = ends_at - monotonic()
        return replace(answer, ttl=int(left)) if answer and left > 0 else None

    async def _asked(self, name: str, record_type: str) -> Answer:
        try:
            _question(name, record_type)
        except (dns.exception.DNSException, UnicodeError, ValueError):
            return Answer(name, record_type, Outcome.NXDOMAIN, canonical=name)
        try:
            async with self._turn(), asyncio.timeout(SECONDS):  # the wait for a turn does not count
                answer = await self._from_any(name, record_type)
        except TimeoutError:
            answer = _failed(name, record_type, Outcome.TIMEOUT)
        if not answer.is_known:
            log.info("dns.failed", name=name[:253], type=record_type, outcome=answer.outcome)
        self._remember((name, record_type), answer)
        return answer

    def _turn(self) -> asyncio.Semaphore:
        """Each question has a socket, of which a process may have a thousand; queues ask for thousands of domains."""
        return self._turns.setdefault(asyncio.get_running_loop(), asyncio.Semaphore(AT_ONCE))

    def _remember(self, key: tuple[str, str], answer: Answer) -> None:
        with self._lock:
            self._cache[key] = (monotonic() + answer.ttl, answer)
            self._cache.move_to_end(key)
            while len(self._cache) > CACHED:
                self._cache.popitem(last=False)

    async def _from_any(self, name: str, record_type: str) -> Answer:
        """The first server that knows; if none does, the failure that was heard, else that nothing was."""
        failure: Answer | None = None
        for seconds in TRY_SECONDS:
            for server in self._servers:
                try:
                    async with asyncio.timeout(seconds):
                        response = await _exchange(_question(name, record_type), server)
                    answer = self._read(name, record_type, response, server)
                except (TimeoutError, OSError):
                    continue
                except (_BadAnswer, dns.exception.DNSException):
                    answer = _failed(name, record_type, Outcome.SERVFAIL)
                if answer.is_known:
                    return answer
                failure = answer
            if failure:
                return failure  # it was heard, and asking the same again at once changes nothing
        return _failed(name, record_type, Outcome.TIMEOUT)

    def _read(self, name: str, record_type: str, response: dns.message.Message, server: Server) -> Answer:
        rcode = response.rcode()
        if rcode not in {dns.rcode.NOERROR, dns.rcode.NXDOMAIN} or not isinstance(response, dns.message.QueryMessage):
            return _failed(name, record_type, Outcome.SERVFAIL)
        chain = response.resolve_chaining()  # raises where CNAMEs go round
        records = tuple(chain.answer) if chain.answer else ()
        if records:
            outcome, ttl = Outcome.RECORDS, min(chain.minimum_ttl, TTL_MAX)
        else:
            outcome = Outcome.NXDOMAIN if rcode == dns.rcode.NXDOMAIN else Outcome.NO_DATA
            # RFC 2308 5: without an SOA a negative answer is not kept.
            ttl = min(chain.minimum_ttl, TTL_NEGATIVE_MAX) if response.authority else 0
        return Answer(
            name,
            record_type,
            outcome,
            records,
            ttl,
            authenticated=bool(response.flags & dns.flags.AD) and self._believes(server),
            canonical=plain(chain.canonical_name),
            aliases=tuple(plain(link.name) for link in chain.cnames),
        )

    def _believes(self, server: Server) -> bool:
        return self._named or ip_address(server[0].partition("%")[0]).is_loopback


# --- One question to one server ---------------------------------------------------------------------------------------


def _question(name: str, record_type: str) -> dns.message.QueryMessage:
    """With an id of its own: each try is a question that only its own answer fits. Raises DNSException, ValueError."""
    flags = int(dns.flags.RD | dns.flags.AD)
    return dns.message.make_query(dns.name.from_text(name), record_type, use_edns=0, payload=PAYLOAD, flags=flags)


async def _exchange(asked: dns.message.QueryMessage, server: Server) -> dns.message.Message:
    """By UDP, by TCP where the answer does not fit. Raises OSError, _BadAnswer, DNSException."""
    response = await _by_udp(asked, server)
    return await _by_tcp(asked, server) if response.flags & dns.flags.TC else response


async def _by_udp(asked: dns.message.QueryMessage, server: Server) -> dns.message.Message:
    loop = asyncio.get_running_loop()
    # A connected socket with a port of its own: the system drops what comes from anywhere else, and tells of a refusal.
    transport, waiting = await loop.create_datagram_endpoint(lambda: _Datagrams(asked), remote_addr=server)
    try:
        transport.sendto(asked.to_wire())
        return await waiting.response
    finally:
        transport.close()


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, asked: dns.message.QueryMessage) -> None:
        self.response: asyncio.Future[dns.message.Message] = asyncio.get_running_loop().create_future()
        self._asked = asked

    def datagram_received(self, data: bytes, addr: Any) -> None:
        """What does not fit the question is passed over: the true answer may come behind it."""
        try:
            response = _parsed(data, self._asked)
        except (_BadAnswer, dns.exception.DNSException):
            return
        if not self.response.done():
            self.response.set_result(response)

    def error_received(self, exc: Exception) -> None:
        if not self.response.done():
            self.response.set_exception(exc if isinstance(exc, OSError) else OSError(str(exc)))

    def connection_lost(self, exc: Exception | None) -> None:
        self.response.cancel()


async def _by_tcp(asked: dns.message.QueryMessage, server: Server) -> dns.message.Message:
    reader, writer = await asyncio.open_connection(*server)
    try:
        wire = asked.to_wire()
        writer.write(len(wire).to_bytes(2, "big") + wire)
        length = int.from_bytes(await reader.readexactly(2), "big")
        return _parsed(await reader.readexactly(length), asked)
    except asyncio.IncompleteReadError as exc:
        raise _BadAnswer from exc
    finally:
        writer.close()


def _parsed(wire: bytes, asked: dns.message.QueryMessage) -> dns.message.Message:
    """Raises _BadAnswer for what does not answer this question."""
    try:
        response = dns.message.from_wire(wire, ignore_trailing=True)
    except dns.exception.DNSException:
        raise
    except Exception as exc:  # a parser at the mercy of the network: nothing it raises may end more than this answer
        raise _BadAnswer from exc
    if not asked.is_response(response):
        raise _BadAnswer
    return response
