"""Who may open the operator's pages: every URL of relay.ops_urls."""

from collections.abc import Callable
from datetime import timedelta
from uuid import uuid4

import pytest
from django.test import Client
from django.urls import URLPattern, reverse
from django.utils import timezone

from accounts.billing.invoices import Line, issue
from accounts.models import Organization, User
from audit.anomalies.cases import raise_alert
from audit.anomalies.models import Kind, Severity
from audit.changes import SYSTEM
from relay.models import Ban, NamedRoute, ProtectedRange, QueueAction, RouteChoice, RouteTrial, SendingDomain
from relay.ops_urls import urlpatterns
from tests.relay.ops.builders import make_event, make_message, make_recipient

PAGES = ("change", "delete", "choose", "try", "trial")  # of a route
NAMES = [pattern.name or "" for pattern in urlpatterns if isinstance(pattern, URLPattern)]
ACTIONS = ["ops_activate", "ops_suspend", "ops_plan", "ops_domain_verify", "ops_domain_withdraw", "ops_invite"]
ACTIONS += ["ops_alert_settings", "ops_alert_dismiss", "ops_ban_lift", "ops_range_protect", "ops_range_unprotect"]
ACTIONS += ["ops_queue_act", "ops_queue_stop"]
ACTIONS += ["ops_plan_add", "ops_plan_edit", "ops_invoice_pay", "ops_invoice_credit"]
ACTIONS += [f"ops_route_{page}" for page in ("create", "change", "delete", "choose", "drop", "try")]
INVOICES = ("ops_invoice", "ops_invoice_pdf", "ops_invoice_pay", "ops_invoice_credit")
QUERIES = {
    "ops_username": "?name=guess.nobody",
    "ops_ip": "?ip=203.0.113.9",
    "ops_invoices_csv": "?since=2026-01-01&until=2026-02-01",
}
FORMS = {
    "ops_alert_dismiss",
    "ops_queue_stop",
    "ops_route_try",
    "ops_health_check",
}  # no page of its own: it takes a form and leads on


@pytest.fixture
def address(alice_org: Organization) -> Callable[[str], str]:
    """The address of each page, of things that exist."""
    domain = SendingDomain.objects.create(organization=alice_org, name="alice.example")
    message = make_message(alice_org)
    attempt = make_recipient(message).attempt_rows.create(
        number=1, started_at=timezone.now(), route="smarthost", conversation="EHLO"
    )
    event = make_event(organization_id=alice_org.pk)
    alert = raise_alert(
        Kind.USERNAMES,
        organization_id=None,
        key="usernames:192.0.2.7",
        severity=Severity.WARNING,
        evidence={"ip": "192.0.2.7"},
    )
    ban = Ban.objects.create(cidr="203.0.113.7/32", ends_at=timezone.now() + timedelta(hours=1), worker="test")
    route = NamedRoute.objects.create(name="Own", kind="hold")
    choice = RouteChoice.objects.create(route=route, organization=alice_org)
    RouteTrial.objects.create(route=route)
    action = QueueAction.objects.create(verb="hold", actor="carol")
    invoice = issue(alice_org, lines=[Line("A month", 5_000)], currency="USD", actor=SYSTEM)
    protected = ProtectedRange.objects.create(cidr="192.0.2.192/26", created_by="carol")

    def of(name: str) -> str:
        customer = {"pk": alice_org.pk}
        arguments = {
            "ops_customer": customer,
            "ops_activate": customer,
            "ops_suspend": customer,
            "ops_plan": customer,
            "ops_domain_verify": {**customer, "domain_pk": domain.pk},
            "ops_domain_withdraw": {**customer, "domain_pk": domain.pk},
            "ops_reference_page": {"text": event.reference},
            "ops_message": {"pk": message.pk},
            "ops_auth_review_live": {"part": "rows"},
            "ops_alert": {"pk": alert.pk},
            "ops_alert_dismiss": {"pk": alert.pk},
            **{name: {"pk": route.pk} for name in ("ops_route", *(f"ops_route_{page}" for page in PAGES))},
            "ops_route_drop": {"pk": route.pk, "choice_pk": choice.pk},
            "ops_queue_act": {"verb": "hold"},
            "ops_queue_action": {"pk": action.pk},
            "ops_queue_stop": {"pk": action.pk},
            "ops_message_conversation": {"pk": message.pk, "attempt_id": attempt.pk},
            "ops_plan_edit": {"code": "premium"},
            **{name: {"invoice_id": invoice.pk} for name in INVOICES},
            "ops_ban_lift": {"ban_id": ban.pk},
            "ops_range_unprotect": {"range_id": protected.pk},
        }
        query = QUERIES.get(name, "")
        return reverse(f"relay:{name}", kwargs=arguments.get(name)) + query

    return of


@pytest.mark.parametrize("name", [name for name in NAMES if name not in FORMS])
def test_operator_sees_every_page(name: str, address: Callable[[str], str], operator: Client) -> None:
    """Each operator page answers 200 to an operator past the second factor."""
    assert operator.get(address(name)).status_code == 200


@pytest.mark.parametrize("method", ["get", "post"])
@pytest.mark.parametrize("name", NAMES)
def test_customer_learns_nothing(
    name: str, method: str, address: Callable[[str], str], alice: User, client_for: Callable[..., Client]
) -> None:
    """To a customer no operator page exists: 404, whatever the method."""
    client = client_for(alice)
    response = getattr(client, method)(address(name))
    assert response.status_code in ({404} if method == "get" and name not in FORMS else {404, 405})
    assert response.status_code == 404 or name not in ACTIONS or (name in FORMS and method == "get")


@pytest.mark.parametrize("name", NAMES)
def test_nobody_is_asked_to_sign_in(name: str, address: Callable[[str], str], client: Client) -> None:
    """Without a session every operator page leads to sign-in and back."""
    response = (client.post if name in FORMS else client.get)(address(name))
    assert response.status_code == 302
    back = "" if name in FORMS else "?next=/ops/"
    assert response.headers["Location"].startswith(reverse("accounts:sign_in") + back)


@pytest.mark.parametrize("name", NAMES)
def test_second_factor_is_asked_for(
    name: str, address: Callable[[str], str], carol: User, client_for: Callable[..., Client]
) -> None:
    """An operator who has not shown the second factor yet is sent to it."""
    client = client_for(carol, verified=False)
    response = (client.post if name in FORMS else client.get)(address(name))
    assert response.status_code == 302
    assert response.headers["Location"].startswith(reverse("accounts:second_factor"))


@pytest.mark.parametrize("name", ["ops_floor", "ops_customers"])
def test_operator_without_factor_must_enrol(
    name: str, address: Callable[[str], str], client_for: Callable[..., Client]
) -> None:
    """An operator without any second factor is sent to enrol one."""
    user = User.objects.create_user("new@gatepost.example", is_operator=True, email_confirmed_at="2026-01-01T00:00:00Z")
    response = client_for(user).get(address(name))
    assert response.status_code == 302
    assert response.headers["Location"].startswith(reverse("accounts:totp_enrol"))


@pytest.mark.parametrize("name", ACTIONS)
def test_actions_ask_who_is_there(
    name: str, address: Callable[[str], str], carol: User, client_for: Callable[..., Client]
) -> None:
    """What changes something needs a recent second factor, and leads back after it."""
    response = client_for(carol, recent=False).post(address(name), {"reason": "spam", "email": "x@example.net"})
    assert response.status_code == 302
    assert response.headers["Location"].startswith(reverse("accounts:confirm_identity"))


@pytest.mark.parametrize("name", ["ops_customer", "ops_suspend", "ops_plan"])
def test_unknown_customer_is_404(name: str, operator: Client) -> None:
    """A number that no customer has is not found."""
    assert operator.get(reverse(f"relay:{name}", args=[10**9])).status_code == 404


def test_unknown_message_is_404(operator: Client) -> None:
    """A message that does not exist is not found."""
    assert operator.get(reverse("relay:ops_message", args=[uuid4()])).status_code == 404


def test_pages_are_not_stored(operator: Client) -> None:
    """No cache keeps an operator page."""
    assert "no-store" in operator.get(reverse("relay:ops_floor")).headers["Cache-Control"]
