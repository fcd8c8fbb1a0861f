"""Named routes as operators keep them: make, change, delete, choose; and which one a given mail would take, and why.

Shapes  RouteFacts: what a form gives. password None keeps the sealed one. explain() -> Way: what mail takes and the
        steps that led there.
Errors  RouteRefused: facts that make no route, by field. RouteInUse: who uses it, with names. Both ValidationErrors.
Source  docs/delivery.md, Routes. Which row counts for a mail is said once, in relay.chosen_routes.

Every change is recorded in the installation's log, and a choice for one customer in that customer's too. Mail that
waited on a route that held it is woken after each change.
"""

import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, Final

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.models import Organization, Plan
from audit.changes import Actor, changed, record_change
from relay.changes import announce
from relay.domains import DomainRefused, canonical_domain
from relay.models import NamedRoute, RouteChoice, SendingDomain
from relay.models.messages import Route
from relay.sealed import sealed
from relay.smtp.next_hop import NextHop
from relay.waiting.actions import wake_parked

INSTALLATION: Final = 0
HOSTS_MAX: Final = 8
NAMES_SHOWN: Final = 5
PEM_MAX: Final = 64 * 1024
BUILT_IN: Final = 0  # as an id


class RouteRefused(ValidationError):
    """Facts that make no route: words by field."""


class RouteInUse(ValidationError):
    """Somebody's mail takes it."""


@dataclass(frozen=True, slots=True)
class RouteFacts:
    name: str
    kind: str
    hosts: tuple[tuple[str, int], ...] = ()
    tls: str = NamedRoute.Tls.VERIFIED
    ca_pem: str = ""
    username: str = ""
    password: str | None = field(default=None, repr=False)
    source_ipv4: str = ""
    source_ipv6: str = ""


# --- Keeping them -----------------------------------------------------------------------------------------------------


def create_route(facts: RouteFacts, *, actor: Actor) -> NamedRoute:
    """Raises RouteRefused."""
    return _save(NamedRoute(), facts, actor)


def change_route(route: NamedRoute, facts: RouteFacts, *, actor: Actor) -> NamedRoute:
    """Mail that waits follows at its next attempt. Raises RouteRefused."""
    with transaction.atomic():
        return _save(NamedRoute.objects.select_for_update(no_key=True).get(pk=route.pk), facts, actor)


def _save(route: NamedRoute, facts: RouteFacts, actor: Actor) -> NamedRoute:
    known = {(str(host), int(port)) for host, port in route.hosts} if route.password_sealed else set()
    _refuse_bad(facts, had_login=route.username if route.password_sealed else "", known=known)
    made = route.pk is None
    before = dict.fromkeys(_RECORDED, "") if made else _recorded(route)
    is_smarthost = facts.kind == Route.SMARTHOST
    route.name, route.kind, route.changed_at = facts.name, facts.kind, timezone.now()
    route.hosts = [list(host) for host in facts.hosts] if is_smarthost else []
    route.tls = facts.tls if is_smarthost else NamedRoute.Tls.VERIFIED
    route.ca_pem = facts.ca_pem if is_smarthost else ""
    route.username = facts.username if is_smarthost else ""
    sources = is_smarthost or facts.kind == Route.MX
    route.source_ipv4 = (facts.source_ipv4 or None) if sources else None
    route.source_ipv6 = (facts.source_ipv6 or None) if sources else None
    if not route.username:
        route.password_sealed = ""
    elif facts.password is not None:
        route.password_sealed = sealed(facts.password).decode()
    values: dict[str, Any] = changed(before, _recorded(route))
    if route.username and facts.password is not None:
        values["password"] = "set"  # noqa: S105 - a word of the log
    try:
        with transaction.atomic():
            route.save()
            if not made:
                wake_parked(actor)
            record_change(
                "route.created" if made else "route.changed",
                organization_id=INSTALLATION,
                actor=actor,
                subject=route.name,
                subject_id=route.pk,
                values=values,
            )
    except IntegrityError:
        raise RouteRefused({"name": _("Another route has this name.")}) from None
    return route


_RECORDED = ("name", "kind", "hosts", "tls", "username", "source_ipv4", "source_ipv6", "own_authorities")


def _recorded(route: NamedRoute) -> dict[str, Any]:
    own_authorities = _("yes") if route.ca_pem else ""
    return {name: getattr(route, name, None) or "" for name in _RECORDED} | {"own_authorities": own_authorities}


def delete_route(route: NamedRoute, *, actor: Actor) -> None:
    """Raises RouteInUse, which names who uses it."""
    with transaction.atomic():
        route = NamedRoute.objects.select_for_update().get(pk=route.pk)  # nobody chooses it meanwhile
        if names := names_of(choices_of(route)):
            raise RouteInUse(
                _("%(names)s use %(route)s. Choose another route for them first."),
                code="in_use",
                params={"names": names, "route": route.name},
            )
        pk, values = route.pk, _recorded(route)
        route.delete()
        record_change(
            "route.deleted", organization_id=INSTALLATION, actor=actor, subject=route.name, subject_id=pk, values=values
        )


def choices_of(route: NamedRoute) -> list[RouteChoice]:
    """Who uses it: domains, then organizations, then plans."""
    rows = route.choices.select_related("domain__organization", "organization", "plan")
    return sorted(rows, key=lambda row: (row.plan_id is not None, row.organization_id is not None, thing_of(row)))


def thing_of(choice: RouteChoice) -> str:
    """Whose choice it is, in words."""
    if choice.domain is not None:
        return _("the domain %(domain)s of %(customer)s") % {
            "domain": choice.domain.name,
            "customer": choice.domain.organization.name,
        }
    if choice.organization is not None:
        return choice.organization.name
    assert choice.plan is not None
    return _("the plan %(plan)s") % {"plan": choice.plan.name}


def names_of(choices: Sequence[RouteChoice]) -> str:
    names = [thing_of(choice) for choice in choices[:NAMES_SHOWN]]
    if len(choices) > NAMES_SHOWN:
        names.append(_("%(number)d others") % {"number": len(choices) - NAMES_SHOWN})
    return ", ".join(names)


# --- Refusing ---------------------------------------------------------------------------------------------------------


def _refuse_bad(facts: RouteFacts, *, had_login: str, known: set[tuple[str, int]]) -> None:
    """Raises RouteRefused with everything that is wrong at once."""
    wrong: dict[str, str] = {}
    if not facts.name.strip() or not facts.name.isprintable() or len(facts.name) > 64:
        wrong["name"] = _("Give it a name of up to 64 characters.")
    if facts.kind not in Route.values:
        wrong["kind"] = _("Choose what it does.")
    elif facts.kind == Route.SMARTHOST:
        wrong |= _wrong_smarthost(facts, had_login=had_login, known=known)
    elif facts.kind == Route.MX and settings.GATEPOST_DEMO:
        wrong["kind"] = _("This is the demo: no mail leaves this machine.")
    for name, kind in (("source_ipv4", IPv4Address), ("source_ipv6", IPv6Address)):
        if (text := getattr(facts, name)) and not _is_address(text, kind):
            wrong[name] = _("This is not an address of its kind.")
    if wrong:
        raise RouteRefused(wrong)


def _wrong_smarthost(facts: RouteFacts, *, had_login: str, known: set[tuple[str, int]]) -> dict[str, str]:
    """known: servers that have the sealed password already; whoever names another one must know it."""
    wrong: dict[str, str] = {}
    hops = [NextHop(host, port) for host, port in facts.hosts]
    if not hops and not settings.GATEPOST_SMARTHOST:
        wrong["hosts"] = _("Name at least one server: GATEPOST_SMARTHOST is not set either.")
    elif len(hops) > HOSTS_MAX:
        wrong["hosts"] = _("%(max)d servers at most.") % {"max": HOSTS_MAX}
    elif settings.GATEPOST_DEMO and not all(hop.is_loopback for hop in hops):
        wrong["hosts"] = _("This is the demo: no mail leaves this machine.")
    if facts.tls not in NamedRoute.Tls.values:
        wrong["tls"] = _("Choose what the server must offer.")
    if facts.ca_pem and (why := _wrong_pem(facts)):
        wrong["ca_pem"] = why
    if facts.username and not hops:
        wrong["username"] = _("A login belongs to servers that are named here.")
    elif facts.username and facts.password is None and facts.username != had_login:
        wrong["password"] = _("Give the password of this login.")
    elif facts.username and facts.password is None and not set(facts.hosts) <= known:
        wrong["password"] = _("Give the password again: it would go to another server.")
    elif facts.username and facts.tls == NamedRoute.Tls.NONE and not all(hop.is_loopback for hop in hops):
        wrong["tls"] = _("A password is not sent without TLS.")
    if any("\0" in text or len(text.encode(errors="replace")) > 255 for text in (facts.username, facts.password or "")):
        wrong["username"] = _("User name and password have up to 255 characters.")
    return wrong


def _wrong_pem(facts: RouteFacts) -> str:
    if facts.tls not in (NamedRoute.Tls.VERIFIED, NamedRoute.Tls.IMPLICIT):
        return _("Authorities count only where the certificate is verified.")
    try:
        if len(facts.ca_pem) > PEM_MAX or not facts.ca_pem.startswith("-----BEGIN CERTIFICATE-----"):
            raise ValueError
        ssl.create_default_context(cadata=facts.ca_pem)
    except (ssl.SSLError, ValueError):
        return _("Paste certificates in PEM form: from -----BEGIN CERTIFICATE----- on.")
    return ""


def _is_address(text: str, kind: type[IPv4Address] | type[IPv6Address]) -> bool:
    try:
        return isinstance(ip_address(text), kind)
    except ValueError:
        return False


def parse_hosts(text: str, *, default_port: int) -> tuple[tuple[str, int], ...]:
    """One server a line: host, host:port, [::1]:port. Raises RouteRefused."""
    found = []
    for line in filter(None, (each.strip() for each in text.splitlines())):
        host, colon, digits = line.rpartition(":") if line.count(":") == 1 or "]:" in line else (line, "", "")
        port = default_port if not colon else int(digits) if digits.isdecimal() and len(digits) <= 5 else 0
        name = _host(host.strip("[]"))
        if not name or not 0 < port < 65536:
            raise RouteRefused(
                {"hosts": _("“%(line)s” is not a server. Write it like smtp.example.net:587.") % {"line": line[:64]}}
            )
        if (name, port) not in found:
            found.append((name, port))
    return tuple(found)


def _host(text: str) -> str:
    """An address or a name; empty: neither."""
    try:
        return str(ip_address(text))
    except ValueError:
        pass
    if text == "localhost":
        return text
    try:
        return canonical_domain(text)
    except DomainRefused:
        return ""


# --- Choosing ---------------------------------------------------------------------------------------------------------


def choose_route(route: NamedRoute, of: SendingDomain | Organization | Plan, *, actor: Actor) -> RouteChoice:
    """In place of the choice that it had."""
    with transaction.atomic():
        route = NamedRoute.objects.select_for_update(no_key=True).get(pk=route.pk)
        which: dict[str, Any] = {_column(of): of}
        before = RouteChoice.objects.select_related("route").filter(**which).first()
        if before is not None and before.route_id == route.pk:
            return before
        choice, _made = RouteChoice.objects.update_or_create(
            **which, defaults={"route": route, "created_at": timezone.now()}
        )
        wake_parked(actor)
        _tell(choice, actor, {"from": before.route.name if before else "", "to": route.name})
    return choice


def drop_choice(choice: RouteChoice, *, actor: Actor) -> None:
    """From then on the next wider choice counts, in the end the built-in route."""
    with transaction.atomic():
        wake_parked(actor)
        _tell(choice, actor, {"from": choice.route.name, "to": ""})
        choice.delete()


def _column(of: SendingDomain | Organization | Plan) -> str:
    return {SendingDomain: "domain", Organization: "organization", Plan: "plan"}[type(of)]


def _tell(choice: RouteChoice, actor: Actor, values: dict[str, str]) -> None:
    """To smtpd, and into the logs: the customer's first."""
    owner = choice.domain.organization_id if choice.domain else choice.organization_id
    if owner is not None:
        announce(owner)
    for chain in [owner, INSTALLATION] if owner is not None else [INSTALLATION]:
        record_change(
            "route.chosen" if values["to"] else "route.choice_dropped",
            organization_id=chain,
            actor=actor,
            subject=thing_of(choice),
            subject_id=choice.pk,
            values={"route": values},
        )


# --- Which way, and why -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Step:
    """One place where a route can be chosen, the narrowest first."""

    where: str
    route: NamedRoute | None
    counts: bool  # it is this one that is taken


@dataclass(frozen=True, slots=True)
class Way:
    """kind: where mail that is accepted now goes. built_in: by the settings. why: what overrules all choices."""

    kind: str
    route: NamedRoute | None
    steps: tuple[Step, ...]
    why: str = ""

    @property
    def label(self) -> str:
        return self.route.name if self.route else built_in_words()


def built_in_words() -> str:
    """The route of the settings, in words."""
    kind = settings.GATEPOST_DEFAULT_ROUTE
    if kind == Route.SMARTHOST:
        return _("Smarthost %(host)s:%(port)d, built in") % {
            "host": settings.GATEPOST_SMARTHOST,
            "port": settings.GATEPOST_SMARTHOST_PORT,
        }
    return _("%(kind)s, built in") % {"kind": Route(kind).label}


def explain(organization: Organization, domain: SendingDomain | None = None) -> Way:
    """Which route mail of this organization, sent as this domain, takes; and every choice on the way."""
    plan = getattr(organization, "subscription", None) and organization.subscription.plan
    places: list[tuple[str, dict[str, Any]]] = [
        (_("the organization %(name)s") % {"name": organization.name}, {"organization": organization}),
    ]
    if domain is not None:
        places.insert(0, (_("the domain %(name)s") % {"name": domain.name}, {"domain": domain}))
    if plan is not None:
        places.append((_("the plan %(name)s") % {"name": plan.name}, {"plan": plan}))
    found = [(where, RouteChoice.objects.select_related("route").filter(**of).first()) for where, of in places]
    taken = next((choice for _where, choice in found if choice is not None), None)
    steps = [
        Step(where, choice.route if choice else None, choice is not None and choice is taken) for where, choice in found
    ]
    steps.append(Step(_("the settings"), None, taken is None))
    if organization.state == Organization.State.PENDING:
        words = _("The organization is not activated yet: its mail stays in the sandbox.")
        return Way(Route.SANDBOX, None, tuple(steps), words)
    kind = taken.route.kind if taken else settings.GATEPOST_DEFAULT_ROUTE
    return Way(kind, taken.route if taken else None, tuple(steps))
