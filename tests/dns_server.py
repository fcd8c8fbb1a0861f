"""An authoritative DNS server on a loopback address, by UDP and TCP, with zones as data.

Shapes  DnsServer() as a context manager; address is what GATEPOST_RESOLVERS takes: (ip, port).
        put(name, type, *records, ttl=60): records as in a zone file; without records the type is taken away.
        trouble[name] = "timeout" | "servfail" | "refused" | "truncate" (UDP only) | "garbage" | "wrong id" |
        "wrong question" | a function(query message) -> bytes or None.
        signed: the names (with those below them) that are answered with the AD bit, as a validating resolver does.
        asked: (name, type, "udp" or "tcp") of every question, in their order.
Source  RFC 1034 4.3.2: CNAMEs are followed within the data; NXDOMAIN only where nothing is at or below the name.
        *.name stands for the names below it that are not there (RFC 4592, one level is enough here).
"""

import contextlib
import socket
import socketserver
import threading
from collections.abc import Callable
from typing import Any, Self

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset

Trouble = str | Callable[[dns.message.Message], bytes | None]
NEGATIVE_TTL = 30


class DnsServer:
    def __init__(self, address: str = "127.0.0.1") -> None:
        self.records: dict[str, dict[str, tuple[int, tuple[str, ...]]]] = {}
        self.trouble: dict[str, Trouble] = {}
        self.signed: set[str] = set()
        self.asked: list[tuple[str, str, str]] = []
        self._servers = _bound(address, self)
        self.address: tuple[str, int] = (address, self._servers[0].server_address[1])

    def put(self, name: str, record_type: str, *records: str, ttl: int = 60) -> None:
        here = self.records.setdefault(_plain(name), {})
        here[record_type.upper()] = (ttl, records)
        if not records:
            del here[record_type.upper()]

    def put_text(self, name: str, text: str, *, ttl: int = 60) -> None:
        """One TXT record of any length, cut into strings as it must be."""
        pieces = [text[at : at + 255] for at in range(0, len(text), 255)] or [""]
        quoted = " ".join('"' + piece.replace("\\", "\\\\").replace('"', '\\"') + '"' for piece in pieces)
        self.put(name, "TXT", quoted, ttl=ttl)

    def remove(self, name: str) -> None:
        self.records.pop(_plain(name), None)

    def __enter__(self) -> Self:
        for server in self._servers:
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_error: object) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()

    # --- Answers ---

    def respond(self, wire: bytes, protocol: str) -> bytes | None:
        query = dns.message.from_wire(wire)
        asked = query.question[0]
        name = _plain(asked.name)
        self.asked.append((name, dns.rdatatype.to_text(asked.rdtype), protocol))
        trouble = self.trouble.get(name, "")
        if callable(trouble):
            return trouble(query)
        if trouble == "timeout":
            return None
        if trouble == "garbage":
            return b"\xff" * 40
        response = self._response(query, trouble)
        if trouble == "wrong id":
            response.id = (query.id + 1) % 65536
        if trouble == "wrong question":
            response.question = [dns.rrset.RRset(dns.name.from_text("other.example."), asked.rdclass, asked.rdtype)]
        if protocol == "udp":
            fits = len(response.to_wire(max_size=65535)) <= (query.payload or 512)
            if trouble == "truncate" or not fits:
                response.answer, response.flags = [], response.flags | dns.flags.TC
        return response.to_wire(max_size=65535)

    def _response(self, query: dns.message.Message, trouble: str) -> dns.message.Message:
        response = dns.message.make_response(query)
        response.flags |= dns.flags.AA | dns.flags.RA
        if trouble in {"servfail", "refused"}:
            response.set_rcode(dns.rcode.SERVFAIL if trouble == "servfail" else dns.rcode.REFUSED)
            return response
        name = query.question[0].name
        wanted = dns.rdatatype.to_text(query.question[0].rdtype)
        for _step in range(20):
            here = self._at(_plain(name))
            if wanted in here:
                response.answer.append(_rrset(name, wanted, here[wanted]))
                break
            if "CNAME" not in here:
                if not self._exists(_plain(name)):
                    response.set_rcode(dns.rcode.NXDOMAIN)
                response.authority.append(_soa(name))
                break
            alias = _rrset(name, "CNAME", here["CNAME"])
            response.answer.append(alias)
            name = alias[0].target
        if any(_plain(name) == zone or _plain(name).endswith(f".{zone}") for zone in self.signed):
            response.flags |= dns.flags.AD
        return response

    def _at(self, name: str) -> dict[str, tuple[int, tuple[str, ...]]]:
        if name in self.records:
            return self.records[name]
        return self.records.get("*." + name.partition(".")[2], {})

    def _exists(self, name: str) -> bool:
        return any(each == name or each.endswith(f".{name}") for each in self.records) or bool(self._at(name))


def _plain(name: Any) -> str:
    return str(name).rstrip(".").lower()


def _rrset(name: dns.name.Name, record_type: str, found: tuple[int, tuple[str, ...]]) -> dns.rrset.RRset:
    ttl, records = found
    return dns.rrset.from_text_list(name, ttl, dns.rdataclass.IN, record_type, list(records))


def _soa(name: dns.name.Name) -> dns.rrset.RRset:
    zone = dns.name.from_text(".".join(_plain(name).split(".")[-2:]))
    text = f"ns.invalid. hostmaster.invalid. 1 3600 600 86400 {NEGATIVE_TTL}"
    return dns.rrset.from_text(zone, NEGATIVE_TTL, dns.rdataclass.IN, "SOA", text)


# --- Sockets ----------------------------------------------------------------------------------------------------------


def _bound(address: str, outer: DnsServer) -> tuple[socketserver.BaseServer, socketserver.BaseServer]:
    """Both protocols on one port that the system chose: what is free for UDP may be taken for TCP."""

    class Datagram(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            data, endpoint = self.request
            if answer := outer.respond(data, "udp"):
                with contextlib.suppress(OSError):
                    endpoint.sendto(answer, self.client_address)

    class Stream(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while length := int.from_bytes(self.rfile.read(2), "big"):
                answer = outer.respond(self.rfile.read(length), "tcp")
                if answer is None:
                    return
                self.wfile.write(len(answer).to_bytes(2, "big") + answer)

    family = {
        "address_family": socket.AF_INET6 if ":" in address else socket.AF_INET,
        "allow_reuse_address": True,
        "daemon_threads": True,
    }
    udp_class = type("Udp", (socketserver.ThreadingUDPServer,), {**family, "handle_error": _quiet})
    tcp_class = type("Tcp", (socketserver.ThreadingTCPServer,), {**family, "handle_error": _quiet})
    while True:
        udp = udp_class((address, 0), Datagram)
        try:
            return udp, tcp_class((address, udp.server_address[1]), Stream)
        except OSError:
            udp.server_close()


def _quiet(*_error: object) -> None:
    """A client that has gone away is no news."""
