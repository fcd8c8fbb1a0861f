"""relay.named_routes: made, changed, chosen, explained, deleted."""

from dataclasses import replace
from typing import Any

import pytest
from django.db import transaction
from django.db.models import ProtectedError
from django.utils import timezone

from accounts.models import Organization, Plan
from audit.changes import Actor, verify_chain
from audit.models import ChangeEvent
from relay import named_routes
from relay.models import CredentialChange, NamedRoute, QueueAction, RouteChoice, SendingDomain
from relay.named_routes import RouteFacts, RouteInUse, RouteRefused, explain
from relay.sealed import opened

pytestmark = pytest.mark.django_db

CAROL = Actor("carol@gatepost.example", 3)
FACTS = RouteFacts(
    name="Partner",
    kind="smarthost",
    hosts=(("a.example.net", 587), ("192.0.2.25", 25)),
    username="relay",
    password="very secret",
    source_ipv4="192.0.2.7",
)


def events(action: str) -> list[ChangeEvent]:
    return list(ChangeEvent.objects.filter(organization_id=0, action=action).order_by("sequence"))


def test_made_and_changed() -> None:
    """The password is sealed, kept where none is given, and never in the log; each change is recorded."""
    route = named_routes.create_route(FACTS, actor=CAROL)
    assert route.hosts == [["a.example.net", 587], ["192.0.2.25", 25]]
    assert opened(route.password_sealed.encode()) == "very secret"
    route = named_routes.change_route(route, replace(FACTS, name="Renamed", password=None), actor=CAROL)
    assert opened(route.password_sealed.encode()) == "very secret"
    named_routes.change_route(route, RouteFacts(name="Renamed", kind="mx"), actor=CAROL)
    route.refresh_from_db()
    assert (route.hosts, route.username, route.password_sealed, route.source_ipv4) == ([], "", "", None)
    created, (renamed, changed) = events("route.created")[0], events("route.changed")
    assert created.values["password"] == "set" and created.values["kind"] == {"from": "", "to": "smarthost"}
    assert renamed.values == {"name": {"from": "Partner", "to": "Renamed"}}
    assert changed.values["kind"] == {"from": "smarthost", "to": "mx"}
    assert "secret" not in str([event.values for event in ChangeEvent.objects.all()])
    assert QueueAction.objects.filter(verb="wake").count() == 2 and verify_chain(0).ok


def test_a_kept_password_goes_to_no_other_server() -> None:
    """Nobody can read it by pointing the route at a server of his own: whoever names another one must know it."""
    route = named_routes.create_route(FACTS, actor=CAROL)
    kept = replace(FACTS, password=None)
    with pytest.raises(RouteRefused) as refused:
        named_routes.change_route(route, replace(kept, hosts=(("mine.example.org", 587),)), actor=CAROL)
    assert list(refused.value.message_dict) == ["password"]
    fewer = named_routes.change_route(route, replace(kept, hosts=FACTS.hosts[:1]), actor=CAROL)
    assert opened(fewer.password_sealed.encode()) == "very secret"
    named_routes.change_route(route, replace(FACTS, hosts=(("b.example.net", 587),)), actor=CAROL)


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("name", {"name": " "}),
        ("name", {"name": "a\u202eb"}),
        ("name", {"name": "x" * 65}),
        ("kind", {"kind": "pigeon"}),
        ("hosts", {"hosts": (), "username": ""}),
        ("hosts", {"hosts": (("a.example", 25),) * 9}),
        ("tls", {"tls": "perhaps"}),
        ("tls", {"tls": "none"}),  # the login would go in clear
        ("ca_pem", {"ca_pem": "-----BEGIN CERTIFICATE-----\nnone\n-----END CERTIFICATE-----"}),
        ("ca_pem", {"ca_pem": "/etc/passwd"}),
        ("ca_pem", {"tls": "encrypted", "ca_pem": "-----BEGIN CERTIFICATE-----"}),
        ("password", {"password": None}),
        ("username", {"username": "a\0b"}),
        ("source_ipv4", {"source_ipv4": "::1"}),
        ("source_ipv6", {"source_ipv6": "fe80::%25eth0/64"}),
    ],
)
def test_what_is_no_route(settings: Any, field: str, changes: dict[str, Any]) -> None:
    """It is refused with words at the value that is wrong, and nothing is kept."""
    settings.GATEPOST_SMARTHOST = ""
    with pytest.raises(RouteRefused) as refused:
        named_routes.create_route(replace(FACTS, **changes), actor=CAROL)
    assert field in refused.value.message_dict and not NamedRoute.objects.exists()


def test_a_name_is_one_routes() -> None:
    """The second one of a name is refused."""
    named_routes.create_route(FACTS, actor=CAROL)
    with pytest.raises(RouteRefused, match="Another route"):
        named_routes.create_route(FACTS, actor=CAROL)


def test_the_demo_lets_no_mail_out(settings: Any) -> None:
    """There a route leads to this machine or nowhere."""
    settings.GATEPOST_DEMO = True
    for facts in (FACTS, RouteFacts(name="Out", kind="mx")):
        with pytest.raises(RouteRefused, match="demo"):
            named_routes.create_route(facts, actor=CAROL)
    named_routes.create_route(replace(FACTS, hosts=(("127.0.0.1", 2525),)), actor=CAROL)


@pytest.mark.parametrize(
    ("text", "hosts"),
    [
        ("smtp.example.net\n 192.0.2.1:25 \n\n", (("smtp.example.net", 587), ("192.0.2.1", 25))),
        ("[2001:db8::1]:2525", (("2001:db8::1", 2525),)),
        ("2001:db8::1\nlocalhost:25", (("2001:db8::1", 587), ("localhost", 25))),
        ("Bücher.example", (("xn--bcher-kva.example", 587),)),
        ("a.example:587\nA.example", (("a.example", 587),)),
        ("a.example:0", None), ("a.example:x", None), ("a.example:99999", None), ("no dots", None), ("<b>", None),
        ("a.example:²", None), ("http://a.example", None), ("a\0.example", None),
    ],
)  # fmt: skip
def test_servers_as_people_write_them(text: str, hosts: Any) -> None:
    """One a line, names and addresses, with a port or without."""
    if hosts is None:
        with pytest.raises(RouteRefused, match="is not a server"):
            named_routes.parse_hosts(text, default_port=587)
    else:
        assert named_routes.parse_hosts(text, default_port=587) == hosts


def test_which_way_and_why(alice_org: Organization, bob_org: Organization, settings: Any) -> None:
    """The domain's route counts first, then the organization's, then the plan's, then the settings'."""
    settings.GATEPOST_DEFAULT_ROUTE = "mx"
    domain = SendingDomain.objects.create(organization=alice_org, name="alice.example", verified_at=timezone.now())
    for_plan, for_alice, for_domain = (
        named_routes.create_route(RouteFacts(name=name, kind="mx"), actor=CAROL) for name in ("plan", "alice", "domain")
    )
    assert (explain(alice_org, domain).route, explain(alice_org).kind) == (None, "mx")
    things = (
        (for_plan, Plan.objects.get(code="trial")), (for_alice, alice_org), (for_domain, domain),
    )  # fmt: skip
    for route, of in things:
        choice = named_routes.choose_route(route, of, actor=CAROL)
        assert named_routes.choose_route(route, of, actor=CAROL) == choice  # nothing is recorded twice
        way = explain(alice_org, domain)
        assert way.route == route and [step.route for step in way.steps if step.counts] == [route]
    assert (explain(alice_org).route, explain(bob_org).route) == (for_alice, for_plan)
    recorded = ChangeEvent.objects.filter(organization_id=alice_org.pk, action="route.chosen")
    assert [event.values for event in recorded.order_by("sequence")] == [
        {"route": {"from": "", "to": "alice"}}, {"route": {"from": "", "to": "domain"}},
    ]  # fmt: skip
    assert len(events("route.chosen")) == 3 and CredentialChange.objects.filter(organization_id=alice_org.pk).exists()
    named_routes.drop_choice(RouteChoice.objects.get(domain=domain), actor=CAROL)
    assert explain(alice_org, domain).route == for_alice
    Organization.objects.filter(pk=alice_org.pk).update(state="pending")
    alice_org.refresh_from_db()
    way = explain(alice_org, domain)
    assert (way.kind, way.route) == ("sandbox", None) and "not activated" in way.why


def test_a_route_in_use_stays(alice_org: Organization) -> None:
    """Deleting it is refused with the names of who uses it; unused it goes, recorded."""
    route = named_routes.create_route(FACTS, actor=CAROL)
    named_routes.choose_route(route, Plan.objects.get(code="trial"), actor=CAROL)
    choice = named_routes.choose_route(route, alice_org, actor=CAROL)
    with pytest.raises(RouteInUse, match="Alice Works, the plan Trial use Partner"):
        named_routes.delete_route(route, actor=CAROL)
    with pytest.raises(ProtectedError), transaction.atomic():
        route.delete()
    for each in (choice, RouteChoice.objects.get(plan__code="trial")):
        named_routes.drop_choice(each, actor=CAROL)
    named_routes.delete_route(route, actor=CAROL)
    assert not NamedRoute.objects.exists() and len(events("route.deleted")) == 1
