"""Attackers and honest people against the model, in simulated time; nothing here waits."""

import hashlib
from collections import Counter
from dataclasses import dataclass, field

from relay.guessing.addresses import Protected, host_range, neighbourhood
from relay.guessing.model import Counted, Culprit, Model, Try

START = 1_800_000_000.0


def tried(ip: str, name: str, secret: str | None) -> Try:
    """A login as smtpd tells it; secret None: the mechanism does not show it."""
    digest = None if secret is None else hashlib.blake2b(f"{ip}|{name}|{secret}".encode(), digest_size=8).digest()
    return Try(ip, name, lambda: digest)


@dataclass
class World:
    """The model with a clock, the right passwords, and bans that last as long as they are told."""

    secrets: dict[str, str] = field(default_factory=dict)
    model: Model = field(default_factory=lambda: Model(protected=Protected()))
    now: float = START
    ban_seconds: float = 900.0
    judged: Counter[str] = field(default_factory=Counter)  # by name
    guessed: set[tuple[str, str | None]] = field(default_factory=set)  # names and secrets that were judged
    put_off: Counter[str] = field(default_factory=Counter)  # by address
    bans: list[Culprit] = field(default_factory=list)
    banned_until: dict[str, float] = field(default_factory=dict)

    def login(self, ip: str, name: str, secret: str | None, *, right: bool | None = None) -> str:
        """banned, wait, ok or no."""
        if self.banned_until.get(host_range(ip), 0) > self.now:
            return "banned"
        if self.banned_until.get(neighbourhood(ip), 0) > self.now and not self.model.trust.address(ip, self.now):
            return "banned"
        each = tried(ip, name, secret)
        if self.model.wait(each, self.now):
            self.put_off[ip] += 1
            self._ban(self.model.put_off(each, self.now))
            return "wait"
        self.judged[name] += 1
        self.guessed.add((name, secret))
        if right if right is not None else self.secrets.get(name) == secret:
            self.model.succeeded(each, self.now)
            return "ok"
        self._ban(self.model.failed(each, self.now))
        return "no"

    def _ban(self, counted: Counted) -> None:
        for culprit in counted.culprits:
            self.bans.append(culprit)
            self.banned_until[culprit.cidr] = self.now + self.ban_seconds
