"""Customers for a load test: many SMTP users that may send as much as they like.

Shapes  Up to 100 organizations load-000 ... on a hidden plan of 1,000,000,000 recipients an hour, so that the same
        locks and buckets run as for anybody else. Each has a verified domain <slug>.example that its users send as.
Units   smtp_users: how many in all, spread evenly.
Errors  RouteUnknown: not hold, sandbox, mx or smarthost:HOST:PORT.
Source  benchmarks/.

Rows are written in bulk and leave no trace in the change log: they are nobody's customers.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from accounts.models import Organization, Plan, Subscription
from relay import app_passwords
from relay.changes import announce
from relay.models import AppPassword, Proof, SenderAddress, SendingDomain, SmtpUser
from relay.models.messages import Route
from relay.models.routes import NamedRoute, RouteChoice

ORGANIZATIONS = 100
PER_HOUR = 1_000_000_000
NAME = "Load"


class RouteUnknown(ValueError):  # what was typed is not a route
    pass


@dataclass(frozen=True, slots=True)
class LoadRoute:
    route: str
    smarthost: str = ""
    smarthost_port: int | None = None


@dataclass(frozen=True, slots=True)
class Login:
    """One line of the file."""

    username: str
    password: str
    sender: str


def parse_route(text: str) -> LoadRoute:
    name, *rest = text.split(":", 1)
    if not rest and name in {Route.HOLD, Route.SANDBOX, Route.MX}:
        return LoadRoute(name)
    host, _colon, port = rest[0].rpartition(":") if rest else ("", "", "")
    if name == Route.SMARTHOST and host and port.isdecimal() and 0 < int(port) < 65536:
        return LoadRoute(name, host.strip("[]"), int(port))
    raise RouteUnknown(f"{text!r} is no route: write hold, sandbox, mx or smarthost:HOST:PORT.")


def seed(*, smtp_users: int, route: LoadRoute) -> Iterator[Login]:
    """Makes what is missing, and a new app password for each; earlier ones are revoked."""
    plan, _made = Plan.objects.get_or_create(
        code="load",
        defaults={"name": NAME, "price_cents": 0, "recipients_per_hour": PER_HOUR, "is_visible": False},
    )
    count = min(ORGANIZATIONS, smtp_users)
    for number in range(count):
        with transaction.atomic():
            organization = _organization(f"load-{number:03d}", plan, route)
            names = [f"u{each:06d}.{organization.slug}" for each in range(number, smtp_users, count)]
            logins = list(_logins(organization, names))
            announce(organization.pk)
        yield from logins


def _organization(slug: str, plan: Plan, route: LoadRoute) -> Organization:
    active = {"name": f"{NAME} {slug[-3:]}", "state": Organization.State.ACTIVE}
    organization, _made = Organization.objects.update_or_create(slug=slug, defaults=active)
    Subscription.objects.update_or_create(organization=organization, defaults={"plan": plan})
    RouteChoice.objects.update_or_create(organization=organization, defaults={"route": _named(route)})
    never = timezone.now() + timedelta(days=3650)  # names of .example need no look at the DNS
    verified = {"verified_at": timezone.now(), "proof": Proof.OPERATOR, "next_check_at": never}
    SendingDomain.objects.update_or_create(organization=organization, name=f"{slug}.example", defaults=verified)
    return organization


def _named(route: LoadRoute) -> NamedRoute:
    """TLS as the installation's smarthost has it, its login never: that is a secret between it and the operator."""
    hosts = [[route.smarthost, route.smarthost_port]] if route.smarthost else []
    name = f"{NAME} {route.route} {route.smarthost}"[:58] + (f":{route.smarthost_port}" if hosts else "")
    file = settings.GATEPOST_SMARTHOST_CA_FILE
    values = {
        "kind": route.route,
        "hosts": hosts,
        "tls": settings.GATEPOST_SMARTHOST_TLS,
        "ca_pem": Path(file).read_text() if hosts and file else "",
    }
    return NamedRoute.objects.update_or_create(name=name, defaults=values)[0]


def _logins(organization: Organization, names: list[str]) -> Iterator[Login]:
    wanted = [
        SmtpUser(
            organization=organization,
            username=name,
            excess=SmtpUser.Excess.REFUSE,
            scram_salt=app_passwords.scram_salt(name),
        )
        for name in names
    ]
    SmtpUser.objects.bulk_create(wanted, ignore_conflicts=True)
    users = list(SmtpUser.objects.filter(organization=organization, username__in=names).order_by("username"))
    pattern = f"@{organization.slug}.example"
    SenderAddress.objects.bulk_create(
        [SenderAddress(smtp_user=user, pattern=pattern) for user in users], ignore_conflicts=True
    )
    AppPassword.objects.filter(smtp_user__in=users, revoked_at=None).update(revoked_at=timezone.now())
    made = [(user, app_passwords.make_app_secret()) for user in users]
    AppPassword.objects.bulk_create([_app_password(user, secret) for user, secret in made])
    for user, secret in made:
        yield Login(user.username, secret, f"{user.username.partition('.')[0]}{pattern}")


def _app_password(user: SmtpUser, secret: str) -> AppPassword:
    forms = app_passwords.stored_forms(secret, salt=bytes(user.scram_salt), iterations=user.scram_iterations)
    return AppPassword(
        smtp_user=user,
        name=NAME,
        hint=forms.hint,
        digest=forms.digest,
        scram_stored_key=forms.scram_stored_key,
        scram_server_key=forms.scram_server_key,
    )
