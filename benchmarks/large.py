"""Two hundred large messages at once: how much memory smtpd takes for them, and that each of them gets through.

Usage   python -m benchmarks large [--messages 200] [--octets 25000000]
Shapes  One JSON line. Each message comes on a connection of its own, all at the same time; every second one says its
        SIZE at MAIL. Who is answered 452 4.3.1, because the memory for content in flight is taken, tries again.
Units   MiB that belong to the smtpd process alone, read every 20 ms; seconds.
Errors  Another refusal, a message that is not stored in the end, or memory beyond the budget make the status 1.
Source  RFC 1870 (SIZE); GATEPOST_MESSAGE_MEMORY in docs/settings.md.
"""

import argparse
import json
import tempfile
import threading
from collections import Counter, deque
from collections.abc import Sequence
from pathlib import Path

from benchmarks import cores
from benchmarks.conversation import EHLO, Conversation, Loop, Target, clock
from benchmarks.gatepost import Gatepost
from benchmarks.load import RECIPIENT, Login, logins_from

BUDGET_MIB = 1024  # GATEPOST_MESSAGE_MEMORY as shipped
FULL = "452"
AGAIN_SECONDS = 2.0
SAMPLE_SECONDS = 0.02


class Queue:
    """Messages that wait for their next try, and what was said to the others."""

    def __init__(self, logins: Sequence[Login], count: int) -> None:
        self.waiting = deque((0.0, number, logins[number % len(logins)]) for number in range(count))
        self.stored = 0
        self.refused: Counter[str] = Counter()


class Large(Conversation):
    """Signs in, sends one message, leaves; or comes back later."""

    __slots__ = ("login", "number", "queue")

    def __init__(self, loop: Loop, queue: Queue, number: int, login: Login) -> None:
        super().__init__(loop)
        self.queue, self.number, self.login = queue, number, login

    def secured(self) -> None:
        self.expect("greeting", (b"220",), self._ehlo)

    def _ehlo(self) -> None:
        self.ask("ehlo", EHLO, (b"250",), self._auth)

    def _auth(self) -> None:
        self.ask("auth", self.login.auth, (b"235",), self._mail)

    def _mail(self) -> None:
        mail = self.login.envelope.partition(RECIPIENT)[0]
        if self.number % 2:
            mail = mail.removesuffix(b"\r\n") + b" SIZE=%d\r\n" % len(self.login.after_id)
        self.ask("mail", mail, (b"250",), self._recipient)

    def _recipient(self) -> None:
        self.ask("recipient", RECIPIENT + b"DATA\r\n", (b"250", b"354"), self._content)

    def _content(self) -> None:
        content = b"%s%d%s" % (self.login.before_id, self.number, self.login.after_id)
        self.ask("content", content, (b"250",), self._stored)

    def _stored(self) -> None:
        self.queue.stored += 1
        self.ask("quit", b"QUIT\r\n", (b"221",), self.close)

    def failed(self, stage: str, what: str) -> None:
        self.queue.refused[f"{stage}:{what}"] += 1
        if what == FULL:
            self.queue.waiting.append((clock() + AGAIN_SECONDS, self.number, self.login))


class Peak(threading.Thread):
    """The most memory that a process had."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.pid, self.octets, self.ended = pid, 0, threading.Event()

    def run(self) -> None:
        while not self.ended.wait(SAMPLE_SECONDS):
            self.octets = max(self.octets, cores.private_octets(self.pid))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks large", description="Large messages at once.")
    parser.add_argument("--messages", type=int, default=200)
    parser.add_argument("--octets", type=int, default=25_000_000)
    given = parser.parse_args(arguments)
    chosen = cores.choose()
    with tempfile.TemporaryDirectory(prefix="gatepost-bench-") as name:
        state = Path(name)
        state.chmod(0o711)
        cores.stay_on(chosen.server)
        with Gatepost(state / "gatepost", smtp_users=1) as server:
            cores.stay_on(chosen.client)
            return sent(server, count=given.messages, octets=given.octets)


def sent(server: Gatepost, *, count: int, octets: int) -> int:
    server.empty()
    assert server.smtpd.pid is not None
    pid = server.smtpd.pid
    queue = Queue(logins_from(server.logins, size=octets, kind="lines"), count)
    loop, target, began = Loop(), Target("127.0.0.1", server.port), clock()
    before, peak = cores.private_octets(pid), Peak(pid)
    peak.start()
    while (queue.waiting or loop.by_descriptor) and clock() < began + 600:
        while queue.waiting and queue.waiting[0][0] <= clock():
            _due, number, login = queue.waiting.popleft()
            Large(loop, queue, number, login).open(target)
        loop.turn(0.02)
    peak.ended.set()
    peak.join()
    others = {what: times for what, times in queue.refused.items() if not what.endswith(FULL)}
    within = (peak.octets - before) / 2**20 <= BUDGET_MIB
    values = {
        "messages": count,
        "octets": octets,
        "seconds": round(clock() - began, 1),
        "stored": server.stored(),
        "tried_again": queue.refused.total() - sum(others.values()),
        "errors": others,
        "memory_before_mib": round(before / 2**20),
        "memory_most_mib": round(peak.octets / 2**20),
        "budget_mib": BUDGET_MIB,
    }
    print(json.dumps({"benchmark": "large", **values}), flush=True)
    return 0 if within and not others and queue.stored == values["stored"] == count else 1
