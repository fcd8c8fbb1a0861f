"""Realistic customers for the simulation of anomalies: who signs in from where, when, with what, and sends how much.

Shapes  Customer 1-n Credential (an SMTP user). Each hour a credential gives uses, failures and a volume: Hour.
        Ordinary trouble is part of it: moves of network, new servers, TLS upgrades, rotations with a forgotten device,
        typing errors, campaigns, holidays, daylight saving, roaming phones, containers, failovers.
Units   Times are UTC; a customer lives in its own time zone. rates: of an hour, or of a day where named so.
Errors  None. The same seed gives the same lives.
"""

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

START = datetime(2026, 1, 5, tzinfo=UTC)  # a Monday
SPRING_FORWARD = datetime(2026, 3, 29, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
POD_LETTERS = "bcdfghjklmnpqrstvwxz2456789"  # of Kubernetes' names
HOLIDAYS = {(1, 6), (4, 3), (4, 6), (5, 1), (5, 25)}


@dataclass(frozen=True, slots=True)
class Login:
    smtp_user: int
    password: int
    ip: str
    client: str
    tls: str
    count: int
    at: datetime


@dataclass(frozen=True, slots=True)
class Failed:
    """Attempts with one wrong username or password; names: what was tried, if not the SMTP user's own name."""

    smtp_user: int | None
    ip: str
    count: int
    at: datetime
    names: tuple[str, ...] = ()
    organization: bool = True  # the name carries the organization's slug, or is an SMTP user's


@dataclass(slots=True)
class Hour:
    at: datetime
    logins: list[Login] = field(default_factory=list)
    failed: list[Failed] = field(default_factory=list)
    sent: dict[int, int] = field(default_factory=dict)  # SMTP user -> recipients


class Addresses:
    """Addresses that do not collide by chance more than the real ones do."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance

    def any(self) -> str:
        if self.chance.random() < 0.15:
            one, two, three = (self._sixteen_bits() for _ in range(3))
            return f"2a{self.chance.randrange(256):02x}:{one}:{two}::{three}"
        first = self.chance.choice([n for n in range(11, 223) if n not in {127, 169, 172, 192, 198, 203}])
        return f"{first}.{self.chance.randrange(256)}.{self.chance.randrange(256)}.{self.chance.randrange(1, 255)}"

    def _sixteen_bits(self) -> str:
        return f"{self.chance.randrange(1, 65536):x}"

    def beside(self, ip: str) -> str:
        """Another address of the same provider: same /16 or /32."""
        if ":" in ip:
            head = ":".join(ip.split(":")[:2])
            return f"{head}:{self._sixteen_bits()}::{self._sixteen_bits()}"
        one, two, *_rest = ip.split(".")
        return f"{one}.{two}.{self.chance.randrange(256)}.{self.chance.randrange(1, 255)}"


@dataclass(slots=True)
class Credential:
    smtp_user: int
    kind: str
    password: int
    places: list[str]
    clients: list[str]
    tls: list[str]
    logins_per_hour: float  # in its busy hours
    recipients: float  # an hour, in its busy hours
    old_password: int | None = None  # a forgotten one, unused since old_until
    old_until: datetime | None = None
    period_days: float = 0.0  # of rare jobs
    campaigns_per_month: float = 0.0
    born_at: datetime = START
    next_job: datetime | None = None
    busy_retry: tuple[datetime, datetime, str] | None = None  # a misconfigured device: from, until, address


class Customer:
    """One organization and its ordinary life."""

    def __init__(self, organization: int, *, seed: int, first_user: int, days: int) -> None:
        self.organization = organization
        self.chance = random.Random(f"{seed}:{organization}")
        self.addresses = Addresses(self.chance)
        self.zone = self.chance.choice([-8, -5, 0, 1, 1, 2, 5.5, 8])
        self.days = days
        self.office = self.addresses.any()
        self.server = self.addresses.any()
        self.backup = self.addresses.any()
        self.name = f"customer{organization}"
        self.plan = self.chance.choice([1000, 1500, 3000, 5000])
        self.growth = self.chance.uniform(-0.001, 0.004)  # a day
        kinds = self.chance.choices(
            ["shop", "office", "cron", "newsletter", "printer", "phone", "containers", "rare", "serverless", "monitor"],
            [5, 4, 3, 2, 2, 2, 2, 1, 1, 1],
            k=self.chance.randint(2, 6),
        )
        self._next_password = first_user * 10
        self.credentials = [self._credential(first_user + place, kind) for place, kind in enumerate(kinds)]
        self.holiday = START + DAY * self.chance.uniform(20, max(21, days - 12))  # ten days away

    def hours(self) -> Iterator[Hour]:
        for number in range(self.days * 24):
            yield self._hour(START + HOUR * number)

    # --- The cast ---------------------------------------------------------------------------------------------------

    def _credential(self, smtp_user: int, kind: str) -> Credential:
        chance = self.chance
        domain = f"{self.name}.example"
        place = chance.choice([self.server, self.office])
        tls = [chance.choices(["TLSv1.3", "TLSv1.2"], [4, 1])[0]]
        made = {
            "shop": ([self.server], [f"web{n}.{domain}" for n in range(1, 4)], 40, chance.uniform(20, 0.4 * self.plan)),
            "office": ([self.office], [f"DESKTOP-{chance.randrange(10**6)}", "[192.168.1.20]"], 4, 5),
            "cron": ([self.server], [f"jobs.{domain}"], 2, chance.uniform(150, 0.8 * self.plan)),
            "newsletter": ([place], [f"news.{domain}"], 10, chance.uniform(0.3, 0.95) * self.plan),
            "printer": ([self.office], ["MFP-3550"], 1, 2),
            "phone": ([self.office], ["[10.0.0.7]", "localhost"], 3, 4),
            "containers": ([self.server], ["mailer-7d9f8b6c5-x2k8p"], 60, chance.uniform(10, 0.2 * self.plan)),
            "rare": ([self.server], [f"erp.{domain}"], 1, chance.uniform(20, 0.3 * self.plan)),
            "serverless": ([self.server], ["[169.254.76.1]"], 30, chance.uniform(5, 100)),
            "monitor": ([self.backup], [f"probe.{domain}"], 4, 1),
        }
        places, clients, logins, recipients = made[kind]
        credential = Credential(
            smtp_user, kind, self._password(), list(places), list(clients), tls, logins, float(recipients)
        )
        if kind == "phone":
            credential.places += [self.addresses.any() for _ in range(chance.randint(2, 6))]  # home and carriers
        if kind == "serverless":
            credential.places = [self.addresses.any() for _ in range(8)]
        if kind == "rare":
            credential.period_days = chance.choice([7, 14, 30.4, 30.4])
        if kind == "newsletter":
            credential.campaigns_per_month = chance.choice([0, 0.3, 2, 4])
        if chance.random() < 0.3:
            credential.old_password, credential.old_until = self._password(), START + DAY * chance.uniform(6, 12)
        if chance.random() < 0.12:
            credential.born_at = START + DAY * chance.uniform(5, self.days * 0.7)
        return credential

    def _password(self) -> int:
        self._next_password += 1
        return self._next_password

    # --- An hour ----------------------------------------------------------------------------------------------------

    def _hour(self, at: datetime) -> Hour:
        hour = Hour(at)
        local = at + HOUR * self.zone + (HOUR if at >= SPRING_FORWARD and self.zone in {0, 1, 2} else timedelta(0))
        for credential in self.credentials:
            if at >= credential.born_at:
                self._changes(credential, at)
                self._live(credential, hour, local)
        self._noise(hour)
        return hour

    def _live(self, credential: Credential, hour: Hour, local: datetime) -> None:
        share = self._share(credential, hour.at, local)
        grown = (1 + self.growth) ** ((hour.at - START) / DAY)
        recipients = self._about(credential.recipients * share * grown)
        logins = self._about(credential.logins_per_hour * min(1.0, share))
        if recipients and not logins:
            logins = 1
        if recipients:
            hour.sent[credential.smtp_user] = min(recipients, self.plan)
        if logins:
            self._sign_in(credential, hour, logins)

    def _share(self, credential: Credential, at: datetime, local: datetime) -> float:
        """How busy, 0 to 1 and a little more; campaigns and sales on top."""
        chance, weekend = self.chance, local.weekday() >= 5
        away = (local.month, local.day) in HOLIDAYS or self.holiday <= at < self.holiday + 10 * DAY
        match credential.kind:
            case "shop":
                day = (
                    0.15 + 0.85 * max(0.0, math.sin(math.pi * (local.hour - 6) / 17)) if 6 <= local.hour <= 23 else 0.1
                )
                sale = 2.5 if local.day == 20 and local.month in {2, 4} else 1.0
                return day * sale * chance.uniform(0.7, 1.3) * (0.8 if weekend else 1.0)
            case "office" | "printer":
                busy = 8 <= local.hour < 18 and not weekend and not away
                return chance.uniform(0.3, 1.5) if busy and chance.random() < 0.8 else 0.0
            case "phone":
                busy = 7 <= local.hour < 22 and not (away and chance.random() < 0.5)
                return chance.uniform(0.2, 1.0) if busy and chance.random() < (0.2 if weekend else 0.5) else 0.0
            case "cron":
                late = chance.random() < 0.03  # the queue was long: it ran an hour later
                return chance.uniform(0.8, 1.2) if local.hour == (3 if late else 2) else 0.0
            case "newsletter":
                return self._newsletter(credential, local)
            case "rare":
                return self._rare(credential, at, local)
            case "monitor":
                return 1.0
            case _:
                return chance.uniform(0.5, 1.3) * (0.4 if local.hour < 7 else 1.0)

    def _newsletter(self, credential: Credential, local: datetime) -> float:
        chance = self.chance
        week_day = 1 + credential.smtp_user % 3
        moved = (local.month, local.day - 1) in HOLIDAYS
        if local.hour in {10, 11} and (local.weekday() == week_day or moved):
            return chance.uniform(0.6, 1.0)
        hours_of_work = 22 * 9
        if (
            9 <= local.hour < 18
            and local.weekday() < 5
            and chance.random() < credential.campaigns_per_month / hours_of_work
        ):
            return chance.uniform(0.4, 1.0)
        return 0.02 if 8 <= local.hour < 20 and chance.random() < 0.3 else 0.0

    def _rare(self, credential: Credential, at: datetime, local: datetime) -> float:
        chance = self.chance
        if credential.next_job is None:
            credential.next_job = credential.born_at + DAY * chance.uniform(0, credential.period_days)
        if at < credential.next_job or local.hour != 6:
            return 0.0
        credential.next_job = at + DAY * (credential.period_days + chance.choice([-1, 0, 0, 0, 0, 0.9]))
        return chance.uniform(0.8, 1.2)

    def _sign_in(self, credential: Credential, hour: Hour, logins: int) -> None:
        chance = self.chance
        spots = min(len(credential.clients), logins, 3)
        for usual in chance.sample(credential.clients, spots):
            client = usual
            ip = chance.choice(credential.places) if credential.kind != "phone" else self._phone_place(credential)
            if credential.kind == "containers":
                client = f"mailer-{chance.getrandbits(40):010x}-{''.join(chance.choices(POD_LETTERS, k=5))}"
            password = credential.password
            if credential.old_password and credential.old_until and hour.at < credential.old_until:
                password = chance.choice([password, credential.old_password])
            tls = chance.choice(credential.tls)
            at = hour.at + HOUR * chance.random()
            hour.logins.append(Login(credential.smtp_user, password, ip, client, tls, max(1, logins // spots), at))

    def _phone_place(self, credential: Credential) -> str:
        """Mostly home or office; a carrier hands out any address of its prefixes; now and then a hotel."""
        roll = self.chance.random()
        if roll < 0.004:
            return self.addresses.any()
        place = self.chance.choice(credential.places)
        return self.addresses.beside(place) if roll < 0.4 and place != self.office else place

    # --- What changes, and what goes wrong without anybody's ill will -------------------------------------------------

    def _changes(self, credential: Credential, at: datetime) -> None:
        chance = self.chance
        if chance.random() < 1 / (24 * 240) and credential.kind not in {"phone", "serverless"}:
            credential.places = [self.addresses.beside(credential.places[0])]  # the provider's next address
        if chance.random() < 1 / (24 * 150):
            credential.tls = ["TLSv1.3"]
        if chance.random() < 1 / (24 * 300):
            credential.clients = [f"new{chance.randrange(100)}.host{chance.randrange(1000)}.example"]
        if chance.random() < 1 / (24 * 120):
            credential.password = self._password()
            until = at + DAY * chance.uniform(0.1, 3)
            if chance.random() < 0.3:  # a device that nobody told
                credential.busy_retry = (at, until, credential.places[0])
        if chance.random() < 1 / (24 * 365) and credential is self.credentials[0]:
            self._move()

    def _move(self) -> None:
        """The office gets another line: everything in it comes from a new network."""
        old, self.office = self.office, self.addresses.any()
        for credential in self.credentials:
            credential.places = [self.office if place == old else place for place in credential.places]

    def _noise(self, hour: Hour) -> None:
        chance = self.chance
        for credential in self.credentials:
            if credential.busy_retry and credential.busy_retry[0] <= hour.at < credential.busy_retry[1]:
                hour.failed.append(Failed(credential.smtp_user, credential.busy_retry[2], 60, hour.at))
            if chance.random() < 1 / (24 * 20):  # a person types it wrong, from where it works otherwise
                place = chance.choice(credential.places)
                hour.failed.append(Failed(credential.smtp_user, place, chance.randint(1, 6), hour.at))
            if chance.random() < 1 / (24 * 200):  # a new server is set up, and its password was not pasted whole
                hour.failed.append(Failed(credential.smtp_user, self.addresses.any(), chance.randint(1, 12), hour.at))
        if chance.random() < 0.05:  # the internet's own noise: names that exist nowhere
            names = tuple(
                chance.sample(["admin", "info", "test", "sales", "office", "root", "scan"], chance.randint(1, 4))
            )
            hour.failed.append(Failed(None, self.addresses.any(), len(names) * 2, hour.at, names, organization=False))
        if chance.random() < 1 / 72:  # and somebody who read the organization's short name somewhere
            hour.failed.append(
                Failed(None, self.addresses.any(), chance.randint(1, 5), hour.at, (f"info.{self.name}",))
            )

    def _about(self, expected: float) -> int:
        if expected <= 0:
            return 0
        if expected < 30:
            limit, product, count = math.exp(-expected), self.chance.random(), 0
            while product > limit:
                product *= self.chance.random()
                count += 1
            return count
        return max(0, round(self.chance.gauss(expected, math.sqrt(expected))))
