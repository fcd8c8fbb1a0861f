"""Every address for every kind of person, against the table in tests/permissions.py."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db import transaction
from django.http import HttpResponseBase
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.api_keys import create_api_key
from accounts.billing.invoices import Line, issue
from accounts.invitations import invite
from accounts.models import ApiKey, Invitation, Membership, Organization, Plan, User
from accounts.passwords import send_reset_link
from accounts.registration import send_confirmation
from audit.anomalies.cases import raise_alert
from audit.anomalies.models import Kind, Severity
from audit.changes import SYSTEM
from audit.models import Reason, Result
from audit.record import attempt, record_auth_event
from relay.connection_tests import begin
from relay.credentials import create_app_password, create_smtp_user
from relay.domains import add_domain, add_sender
from relay.learning import start
from relay.models import (
    Ban,
    DeliveryAttempt,
    NamedRoute,
    ProtectedRange,
    QueueAction,
    RouteChoice,
    RouteTrial,
    SmtpUser,
)
from relay.networks import Allowlist, add_network
from relay.oauth.clients import create_client
from relay.oauth.issuers import add_subject, configure_issuer
from relay.suppressions import add as add_suppression
from relay.webhooks.endpoints import create_endpoint
from relay.webhooks.outbox import write_test
from tests.accounts.pages import last_link
from tests.conftest import make_user
from tests.permissions import BODIES, FLOOR, IN, MOVED, PEOPLE, TABLE, UNKNOWN, routes
from tests.relay.conftest import make_message

CONTENT = (
    b'From: app@alice.example\r\nSubject: Alice\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="b"\r\n'
    b"\r\n--b\r\nContent-Type: text/html\r\n\r\n<p>Hello</p>\r\n--b\r\nContent-Type: text/plain\r\n"
    b'Content-Disposition: attachment; filename="a.txt"\r\n\r\nattached\r\n--b--\r\n'
)
HERS = ("alice-works", "alice.example", "Alice Works")
LEARNING = (
    "api:get_network_learning", "api:edit_network_learning", "api:stop_network_learning",
    "api:enforce_network_learning", "api:give_up_network_learning",
)  # fmt: skip
ROUTE_PAGES = [f"relay:ops_route{page}" for page in ("", "_change", "_delete", "_choose", "_drop", "_try", "_trial")]
BY_TOKEN = {"accounts:accept_invitation", "accounts:confirm_email", "accounts:password_reset_confirm"}

Ask = Callable[..., HttpResponseBase]


@dataclass(frozen=True)
class Hers:
    """Addresses and bodies with the ids of what alice has."""

    values: dict[str, Any]
    links: dict[str, str]
    of_one: dict[str, Any]  # what `pk` and `id` mean to one URL name

    def url(self, name: str) -> str:
        if name in self.links:
            return self.links[name]
        return reverse(name, kwargs={argument: self._value(name, argument) for argument in routes()[name]})

    def _value(self, name: str, argument: str) -> Any:
        if argument in {"pk", "id"} and name in self.of_one:
            return self.of_one[name]
        return self.values[argument]

    def body(self, name: str) -> dict[str, Any]:
        return {
            field: value.format_map(self.values) if isinstance(value, str) else value
            for field, value in BODIES.get(name, {}).items()
        }


def test_every_address_has_a_row() -> None:
    """A new page without a row fails, and so does a row whose page is gone."""
    assert {row[1] for row in TABLE} == set(routes())


@pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume")  # the test client is no ASGI server
@pytest.mark.parametrize(
    ("method", "name", "expected"), [pytest.param(*row[:2], row[2:], id=f"{row[0]} {row[1]}") for row in TABLE]
)
def test_who_may(hers: Hers, ask: Ask, method: str, name: str, expected: tuple[Any, ...]) -> None:
    """Each of the five, one after the other, none seeing what the others changed."""
    url, got = hers.url(name), {}
    for person in PEOPLE:
        with transaction.atomic():
            response = ask(person, method, url, hers.body(name))
            got[person] = _outcome(response)
            if person == "bob" and name not in BY_TOKEN:
                text = b"".join(response)
                assert not [word for word in HERS if word.encode() in text.replace(url.encode(), b"")]
            transaction.set_rollback(True)
    assert got == dict(zip(PEOPLE, expected, strict=True)), (method, name)


def _outcome(response: HttpResponseBase) -> int | str:
    if response.status_code != 302:
        return response.status_code
    location = response.headers["Location"]
    if location.startswith(reverse("accounts:sign_in")):
        return IN
    return FLOOR if location == reverse("relay:ops_floor") else MOVED


@pytest.fixture
def ask(
    alice: User, alice_org: Organization, bob: User, bob_org: Organization, vera: User, carol: User, client_for: Any
) -> Ask:
    """ask(person, method, url, body): pages take forms, the API takes JSON and, of alice and bob, their keys."""
    people = {"alice": alice, "bob": bob, "vera": vera, "carol": carol}
    keys = {
        name: create_api_key(organization, name="Key", scopes=ApiKey.Scope.values, actor=SYSTEM).secret
        for name, organization in (("alice", alice_org), ("bob", bob_org))
    }

    def send(person: str, method: str, url: str, body: dict[str, Any]) -> HttpResponseBase:
        if not url.startswith("/api/"):
            client = client_for(people[person]) if person in people else Client()
            if method != "POST":
                return client.generic(method, url)
            form = client.get(url).context  # what may be sent once only holds a token
            return client.post(url, body | {"token": form.get("token", "")} if form else body)
        client = client_for(people[person]) if person in people and person not in keys else Client()
        headers = {"Authorization": f"Bearer {keys[person]}"} if person in keys else {}
        answer: HttpResponseBase = getattr(client, method.lower())(
            url, body, content_type="application/json", headers=headers
        )
        return answer

    return send


@pytest.fixture
def hers(alice: User, alice_org: Organization, vera: User) -> Hers:
    smtp_user = create_smtp_user(alice_org, name="shop", excess="refuse", actor=SYSTEM)
    password = create_app_password(smtp_user, name="web-1", actor=SYSTEM).app_password
    domain = add_domain(alice_org, name="alice.example", actor=SYSTEM)
    network = add_network(alice_org, cidr="192.0.2.0/24", smtp_user=smtp_user, actor=SYSTEM)
    sender = add_sender(smtp_user, pattern="@alice.example", actor=SYSTEM)
    message = make_message(alice_org, content=CONTENT, state="delivered")
    attempt = DeliveryAttempt.objects.create(
        recipient=message.recipients.get(), number=1, started_at=timezone.now(), route="mx", conversation="220 Hello"
    )
    route = NamedRoute.objects.create(name="Own", kind="smarthost", hosts=[["127.0.0.1", 25]])
    choice = RouteChoice.objects.create(route=route, organization=alice_org)
    RouteTrial.objects.create(route=route)
    action = QueueAction.objects.create(verb="hold", actor="carol")
    own_action = QueueAction.objects.create(verb="hold", actor="alice", organization=alice_org)
    key = create_api_key(alice_org, name="Old", scopes=ApiKey.Scope.values, actor=SYSTEM).api_key
    reference = _attempt(alice_org, smtp_user.username)
    links = _links(alice_org, alice)
    links["relay:ops_invoices_csv"] = f"{reverse('relay:ops_invoices_csv')}?since=2026-01-01&until=2026-02-01"
    invoice = issue(alice_org, lines=[Line("A month", 5_000)], currency="USD", actor=SYSTEM)
    links["relay:ops_username"] = f"{reverse('relay:ops_username')}?name={smtp_user.username}"
    links["relay:ops_message_conversation"] = reverse("relay:ops_message_conversation", args=[message.pk, attempt.pk])
    test = begin(smtp_user, ip="192.0.2.7", actor=SYSTEM)
    values = {
        "test_id": test.pk,
        "attempt_id": attempt.pk, "verb": "cancel", "choice_pk": choice.pk, "action_id": own_action.pk,
        "smtp_user_id": smtp_user.pk, "app_password_id": password.pk, "sender_id": sender.pk,
        "network_id": network.pk, "domain_id": domain.pk, "domain_pk": domain.pk, "message_id": message.pk,
        "number": 2, "key": "login", "reference": reference, "text": reference, "code": "premium", "part": "rows",
        "pk": alice_org.pk,
        "invitation_id": Invitation.objects.get().pk, "membership_id": Membership.objects.get(user=vera).pk,
        "api_key_id": key.pk, "id": smtp_user.pk, "plan": Plan.objects.get(code="premium").pk,
        "invoice_id": invoice.pk,
        "soon": (timezone.now() + timedelta(days=7)).isoformat(),
    }  # fmt: skip
    suppression = add_suppression(alice_org, address="you@example.net", actor=SYSTEM)
    values["suppression_id"] = suppression.pk
    values |= _oauth(alice_org, smtp_user) | _bans(alice_org) | _alerts(alice_org, smtp_user) | _webhook(alice_org)
    of_one = {
        "relay:ops_message": message.pk,
        "relay:ops_alert": values["alert_id"],
        "relay:ops_alert_dismiss": values["installations_alert_id"],
        "api:get_alert": values["alert_id"],
        "api:get_domain": domain.pk,
        "api:check_domain": domain.pk,
        "api:list_domain_history": domain.pk,
        "api:rotate_dkim_keys": domain.pk,
        "api:abandon_dkim_keys": domain.pk,
        "api:remove_domain": domain.pk,
        "api:dismiss_alert": values["alert_id"],
        "api:revoke_app_password": password.pk,
        "api:rotate_app_password": password.pk,
        "api:list_uses": password.pk,
        "api:remove_network": network.pk,
        **dict.fromkeys(LEARNING, start(Allowlist(alice_org, smtp_user, password), days=7, actor=SYSTEM).pk),
        "api:delete_oauth_client": values["client_id"],
        "api:remove_outside_issuer": values["issuer_id"],
        **{name: values["endpoint_id"] for name in routes() if name.startswith("api:") and "webhook" in name},
        "api:lift_ban": values["ban_id"],
        "api:remove_sender": sender.pk,
        "api:get_suppression": suppression.pk,
        "api:remove_suppression": suppression.pk,
        "api:get_message": message.pk,
        **dict.fromkeys(ROUTE_PAGES, route.pk),
        "relay:ops_queue_action": action.pk,
        "relay:ops_queue_stop": action.pk,
        **{f"api:{verb}_message": message.pk for verb in ("hold", "release", "retry", "cancel")},
        "api:get_message_action": own_action.pk,
        "api:stop_message_action": own_action.pk,
        "api:get_content": message.pk,
    }
    return Hers(values, links, of_one)


def _links(organization: Organization, alice: User) -> dict[str, str]:
    """What is not reached by ids: links of mails, searches, and what is not there at all."""
    links = {UNKNOWN: "/api/v1/nothing/of/this/name", "relay:ops_ip": f"{reverse('relay:ops_ip')}?ip=192.0.2.7"}
    invite(email="erin@erin.example", organization=organization, actor=SYSTEM, invited_by=alice)
    links["accounts:accept_invitation"] = last_link()
    send_confirmation(make_user("new@alice.example", email_confirmed_at=None))
    links["accounts:confirm_email"] = last_link()
    send_reset_link(alice.email)
    links["accounts:password_reset_confirm"] = last_link()
    return links


def _oauth(organization: Organization, smtp_user: SmtpUser) -> dict[str, Any]:
    client = create_client(organization, name="Billing", kind="service", smtp_user=smtp_user, actor=SYSTEM).client
    issuer = configure_issuer(
        organization, name="Login", issuer="https://login.example", audience="x", claim="sub", actor=SYSTEM
    )
    subject = add_subject(issuer, value="5f0e", smtp_user=smtp_user, actor=SYSTEM)
    return {"client_id": client.pk, "issuer_id": issuer.pk, "subject_id": subject.pk, "family": uuid4()}


def _webhook(organization: Organization) -> dict[str, Any]:
    endpoint = create_endpoint(
        organization, url="https://hooks.alice.example/", events=["bounced"], actor=SYSTEM
    ).endpoint
    return {"endpoint_id": endpoint.pk, "delivery_id": write_test(endpoint).pk}


def _bans(organization: Organization) -> dict[str, Any]:
    """A ban of an address from which an SMTP user of hers has signed in, and a range that no ban may hit."""
    used = attempt(
        result=Result.ACCEPTED, reason=Reason.OK, ip="203.0.113.7", port=465, worker="test",
        organization_id=organization.pk,
    )  # fmt: skip
    record_auth_event(used)
    ban = Ban.objects.create(cidr="203.0.113.7/32", ends_at=timezone.now() + timedelta(hours=1), worker="test")
    protected = ProtectedRange.objects.create(cidr="192.0.2.192/26", created_by="carol")
    return {"ban_id": ban.pk, "range_id": protected.pk}


def _alerts(organization: Organization, smtp_user: SmtpUser) -> dict[str, Any]:
    hers = raise_alert(
        Kind.NETWORK, organization_id=organization.pk, key="network:192.0.0.0/16", severity=Severity.WARNING,
        evidence={"ip": "192.0.2.7"}, smtp_user_ids=[smtp_user.pk],
    )  # fmt: skip
    installations = raise_alert(
        Kind.USERNAMES, organization_id=None, key="usernames:192.0.2.7", severity=Severity.WARNING,
        evidence={"ip": "192.0.2.7"},
    )  # fmt: skip
    return {"alert_id": hers.pk, "installations_alert_id": installations.pk}


def _attempt(organization: Organization, username: str) -> str:
    refused = attempt(
        result=Result.REFUSED,
        reason=Reason.REVOKED,
        ip="192.0.2.7",
        port=587,
        worker="test",
        username_given=username,
        organization_id=organization.pk,
    )
    return record_auth_event(refused).reference
