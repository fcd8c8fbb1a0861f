"""A quiet server: how soon it greets a new TLS connection, and what thousands of idle ones cost in memory.

Usage   python -m benchmarks idle [--connections 10000]
Shapes  Two JSON lines. Connections come from 127.0.0.2 and up, 250 from each address, and stop after EHLO.
Units   milliseconds from connect() to the greeting, both TLS handshake and processor of the client included; MiB of
        memory that belongs to the smtpd process alone.
Errors  Fewer connections than asked for are reported as what they are; a failed one makes the status 1.
Source  RFC 8314; proc(5), smaps_rollup.
"""

import argparse
import json
import resource
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from benchmarks import cores
from benchmarks.conversation import EHLO, Conversation, Loop, Target, clock
from benchmarks.gatepost import Gatepost
from benchmarks.load import percentiles

PER_ADDRESS = 250
AT_ONCE = 32
SPARE_DESCRIPTORS = 300


class Idlers:
    """Connections that are opened a few at a time and then stay."""

    def __init__(self, target: Target, count: int) -> None:
        self.target, self.left, self.opened = target, count, 0
        self.greeted = 0
        self.errors: Counter[str] = Counter()

    def next_source(self) -> str:
        self.opened += 1
        return f"127.0.0.{2 + self.opened // PER_ADDRESS}"


class Idler(Conversation):
    __slots__ = ("idlers",)

    def __init__(self, loop: Loop, idlers: Idlers) -> None:
        super().__init__(loop)
        self.idlers = idlers

    def begin(self) -> None:
        self.idlers.left -= 1
        self.open(self.idlers.target, source=self.idlers.next_source())

    def secured(self) -> None:
        self.expect("greeting", (b"220",), self._ehlo)

    def _ehlo(self) -> None:
        self.ask("ehlo", EHLO, (b"250",), self._stay)

    def _stay(self) -> None:
        self.idlers.greeted += 1
        self._another()

    def failed(self, stage: str, what: str) -> None:
        self.idlers.errors[f"{stage}:{what}"] += 1
        self._another()

    def _another(self) -> None:
        if self.idlers.left > 0:
            Idler(self.loop, self.idlers).begin()


class Visitor(Conversation):
    """Comes, is greeted, says goodbye."""

    __slots__ = ("seconds",)

    def __init__(self, loop: Loop, seconds: list[float]) -> None:
        super().__init__(loop)
        self.seconds = seconds

    def secured(self) -> None:
        self.expect("greeting", (b"220",), self._greeted)

    def _greeted(self) -> None:
        self.seconds.append(clock() - self.opened_at)
        self.ask("quit", b"QUIT\r\n", (b"221",), self.close)

    def failed(self, stage: str, what: str) -> None:
        raise RuntimeError(f"a quiet server answered {what} to {stage}")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks idle", description="A quiet server.")
    parser.add_argument("--connections", type=int, default=10_000)
    parser.add_argument("--visits", type=int, default=200)
    given = parser.parse_args(arguments)
    chosen = cores.choose()
    count = min(given.connections, raised_descriptors() - SPARE_DESCRIPTORS)
    with tempfile.TemporaryDirectory(prefix="gatepost-bench-") as name:
        state = Path(name)
        state.chmod(0o711)
        cores.stay_on(chosen.server)
        with Gatepost(state / "gatepost", smtp_users=1) as server:
            cores.stay_on(chosen.client)  # the servers stay where they were started
            target = Target("127.0.0.1", server.port)
            print(json.dumps({"benchmark": "first_reply", "visits": given.visits, "ms": visited(target, given.visits)}))
            return idled(server, target, count)


def raised_descriptors() -> int:
    """The hard limit, for this process and those it starts."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def visited(target: Target, visits: int) -> dict[str, float | None]:
    """One after the other; the first few are not counted."""
    loop = Loop()
    seconds: list[float] = []
    for _ in range(visits + 5):
        Visitor(loop, seconds).open(target)
        loop.run(until=clock() + 10)
    return percentiles(seconds[5:])


def idled(server: Gatepost, target: Target, count: int) -> int:
    assert server.smtpd.pid is not None
    loop, idlers = Loop(), Idlers(target, count)
    before = cores.private_octets(server.smtpd.pid)
    for _ in range(min(AT_ONCE, count)):
        Idler(loop, idlers).begin()
    until = clock() + 60 + count / 100
    while idlers.greeted + idlers.errors.total() < count and clock() < until:
        loop.turn(0.25)
    after = cores.private_octets(server.smtpd.pid)
    values = {
        "connections": idlers.greeted,
        "errors": dict(idlers.errors),
        "memory_mib": round(after / 2**20, 1),
        "memory_before_mib": round(before / 2**20, 1),
        "kib_per_connection": round((after - before) / 1024 / max(1, idlers.greeted), 1),
    }
    print(json.dumps({"benchmark": "idle", **values}), flush=True)
    for conversation in list(loop.by_descriptor.values()):
        conversation.close()
    return 0 if idlers.greeted == count else 1
