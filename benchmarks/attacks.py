"""Attacks with labels, laid into the lives of `benchmarks.customers`.

Shapes  plan_attacks(customer, ...) -> [Attack]; each adds its logins, failures and mail to the hours it lasts, and says
        which kinds of alert would have found it, whom it concerns, and from when to when.
Units   Attacks begin after QUIET days: before, nothing can be known of what is usual.
Errors  None. A kind that a customer cannot suffer (a sleeping password without one) is not planned for it.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from audit.anomalies.models import Kind
from audit.anomalies.rows import client_family
from benchmarks.customers import DAY, HOUR, START, Addresses, Credential, Customer, Failed, Hour, Login

QUIET_DAYS = 35
STRANGE = ["WIN-8KJ2L1", "[10.0.2.15]", "ylmf-pc", "User", "kali", "vps.cheap-host.example", "mail.sender.example"]


@dataclass(slots=True)
class Attack:
    kind: Kind
    found_by: frozenset[Kind]
    organization: int
    smtp_users: frozenset[int]
    starts_at: datetime
    ends_at: datetime
    ips: frozenset[str]
    strike: Callable[[Hour], None] = field(repr=False)

    def add_to(self, hour: Hour) -> None:
        if self.starts_at <= hour.at < self.ends_at:
            self.strike(hour)


class Attacker:
    """Against one customer."""

    def __init__(self, customer: Customer, *, seed: int) -> None:
        self.customer = customer
        self.chance = random.Random(f"attack:{seed}:{customer.organization}")
        self.addresses = Addresses(self.chance)
        self.woken: set[int] = set()

    def plan(self, count: int) -> list[Attack]:
        """`count` attacks of random kinds, days apart, so that each is found for what it is."""
        room = self.customer.days - QUIET_DAYS - 4
        days = sorted(self.chance.sample(range(0, max(1, room), 5), min(count, max(1, room // 5))))
        kinds = list(_WAYS)
        planned = []
        for day in days:
            starts_at = START + DAY * (QUIET_DAYS + day) + HOUR * self.chance.randrange(24)
            way = _WAYS[self.chance.choice(kinds)]
            attack = way(self, starts_at)
            if attack is not None:
                planned.append(attack)
        return planned

    # --- Guessing ---------------------------------------------------------------------------------------------------

    def failures(self, starts_at: datetime) -> Attack | None:
        """Fast from one address, from many, or slowly for a day and a half."""
        credential = self._settled(starts_at)
        style = self.chance.choice(["fast", "many", "slow"])
        ips = [self.addresses.any() for _ in range(self.chance.randint(10, 60) if style == "many" else 1)]
        hours, each = (36, self.chance.randint(9, 20)) if style == "slow" else (self.chance.randint(1, 6), 0)
        total = each or self.chance.randint(40, 3000)

        def strike(hour: Hour) -> None:
            for ip in ips:
                count = max(1, total // len(ips))
                hour.failed.append(Failed(credential.smtp_user, ip, count, hour.at))

        return self._attack(Kind.FAILURES, {Kind.USERNAMES}, credential, starts_at, hours, ips, strike)

    def usernames(self, starts_at: datetime) -> Attack | None:
        """A list of names, some of which exist, from one address."""
        ip = self.addresses.any()
        hours, names = self.chance.randint(1, 10), self.chance.randint(15, 300)
        users = [each.smtp_user for each in self.customer.credentials]

        def strike(hour: Hour) -> None:
            for user in users:
                hour.failed.append(Failed(user, ip, self.chance.randint(1, 2), hour.at))
            part = max(1, names // hours)
            guesses = tuple(f"user{self.chance.randrange(10**6)}.{self.customer.name}" for _ in range(part))
            hour.failed.append(Failed(None, ip, part, hour.at, guesses))

        return self._attack(Kind.USERNAMES, set(), None, starts_at, hours, [ip], strike)

    def guessed(self, starts_at: datetime) -> Attack | None:
        """An hour or two of guesses, then in; from the same address, its neighbour, or another one."""
        credential = self._settled(starts_at)
        if credential.kind in {"serverless"}:
            return None
        ip = self.addresses.any()
        success = self.chance.choice([ip, ip, self.addresses.any()])
        guesses, last = self.chance.randint(40, 600), starts_at + 2 * HOUR

        def strike(hour: Hour) -> None:
            if hour.at < last:
                hour.failed.append(Failed(credential.smtp_user, ip, guesses // 2, hour.at))
            else:
                self._sign_in(hour, credential, success, self.chance.choice(STRANGE))

        return self._attack(Kind.GUESSED, set(), credential, starts_at, 5, [ip, success], strike)

    # --- A stolen password --------------------------------------------------------------------------------------------

    def network(self, starts_at: datetime) -> Attack | None:
        credential = self._settled(starts_at)
        ip = self.addresses.any()
        roams = credential.kind in {"phone", "serverless"}
        client = self.chance.choice(STRANGE if roams or self.chance.random() < 0.7 else credential.clients)

        def strike(hour: Hour) -> None:
            self._sign_in(hour, credential, ip, client)

        return self._attack(Kind.NETWORK, {Kind.GUESSED}, credential, starts_at, 6, [ip], strike)

    def woke(self, starts_at: datetime) -> Attack | None:
        """An app password that was replaced long ago, and never revoked, is used again."""
        old = [
            each
            for each in self.customer.credentials
            if each.old_until
            and each.born_at < each.old_until < starts_at - 40 * DAY
            and each.kind not in {"rare", "printer"}
            and each.smtp_user not in self.woken
        ]
        if not old:
            return None
        credential = self.chance.choice(old)
        assert credential.old_password is not None
        self.woken.add(credential.smtp_user)
        password = credential.old_password
        ip = self.chance.choice([self.addresses.any(), credential.places[0]])

        def strike(hour: Hour) -> None:
            client = credential.clients[0]
            hour.logins.append(Login(credential.smtp_user, password, ip, client, credential.tls[0], 2, hour.at))

        return self._attack(Kind.WOKE, set(), credential, starts_at, 4, [ip], strike)

    def volume(self, starts_at: datetime) -> Attack | None:
        """The application itself was taken over: everything as always, but for the amount."""
        credential = self._settled(starts_at)
        busy = credential.recipients if credential.kind in {"shop", "newsletter", "cron", "rare"} else 60
        amount = int(min(self.customer.plan, self.chance.uniform(0.7, 1.0) * self.customer.plan))
        if amount < 5 * busy or credential.campaigns_per_month:
            return None

        def strike(hour: Hour) -> None:
            hour.sent[credential.smtp_user] = max(amount, hour.sent.get(credential.smtp_user, 0))

        return self._attack(Kind.VOLUME, set(), credential, starts_at, self.chance.randint(1, 8), [], strike)

    def client(self, starts_at: datetime) -> Attack | None:
        """Another program on a machine of the same network."""
        credential = self._settled(starts_at)
        own = {client_family(each) for each in credential.clients}
        name = self.chance.choice([each for each in STRANGE if client_family(each) not in own])

        def strike(hour: Hour) -> None:
            self._sign_in(hour, credential, credential.places[0], name)

        return self._attack(Kind.CLIENT, {Kind.NETWORK}, credential, starts_at, 6, [credential.places[0]], strike)

    def tls(self, starts_at: datetime) -> Attack | None:
        """Somebody in between, or an old library: the same client at a lower level."""
        credential = self._settled(starts_at)
        if credential.tls != ["TLSv1.3"]:
            return None

        def strike(hour: Hour) -> None:
            place, client = credential.places[0], credential.clients[0]
            hour.logins.append(Login(credential.smtp_user, credential.password, place, client, "TLSv1.2", 3, hour.at))

        return self._attack(
            Kind.TLS, {Kind.CLIENT, Kind.NETWORK}, credential, starts_at, 6, [credential.places[0]], strike
        )

    # --- Common -------------------------------------------------------------------------------------------------------

    def _settled(self, starts_at: datetime) -> Credential:
        """One that has been in use for long enough to be known, if there is one."""
        old = [
            each
            for each in self.customer.credentials
            if each.born_at <= starts_at - 30 * DAY and (each.kind != "rare" or each.period_days < 10)
        ]
        return self.chance.choice(old or self.customer.credentials)

    def _sign_in(self, hour: Hour, credential: Credential, ip: str, client: str) -> None:
        at = hour.at + timedelta(minutes=self.chance.uniform(1, 59))
        hour.logins.append(Login(credential.smtp_user, credential.password, ip, client, "TLSv1.3", 3, at))

    def _attack(
        self,
        kind: Kind,
        also: set[Kind],
        credential: Credential | None,
        starts_at: datetime,
        hours: int,
        ips: list[str],
        strike: Callable[[Hour], None],
    ) -> Attack:
        users = frozenset({credential.smtp_user} if credential else ())
        return Attack(
            kind,
            frozenset({kind, *also}),
            self.customer.organization,
            users,
            starts_at,
            starts_at + HOUR * hours,
            frozenset(ips),
            strike,
        )


_WAYS: dict[Kind, Callable[[Attacker, datetime], Attack | None]] = {
    Kind.FAILURES: Attacker.failures,
    Kind.USERNAMES: Attacker.usernames,
    Kind.GUESSED: Attacker.guessed,
    Kind.NETWORK: Attacker.network,
    Kind.WOKE: Attacker.woke,
    Kind.VOLUME: Attacker.volume,
    Kind.CLIENT: Attacker.client,
    Kind.TLS: Attacker.tls,
}
