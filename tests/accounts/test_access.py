"""Decorators and middleware: who may open a page, and what is asked of them first."""

from typing import Any

import pytest
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.test import Client, RequestFactory
from django.urls import reverse

from accounts.access import operator_required
from accounts.models import Organization, User
from accounts.organizations import suspend
from audit.changes import SYSTEM
from tests.conftest import make_user

MEMBERS_PAGES = ("accounts:team", "accounts:api_keys", "accounts:organization_settings")
OWN_PAGES = ("accounts:security", "accounts:password_change", "accounts:totp_enrol", "accounts:recovery_codes")
OPEN_PAGES = ("accounts:sign_in", "accounts:sign_up", "accounts:sign_up_done", "accounts:password_reset")


@pytest.mark.django_db
@pytest.mark.parametrize("name", [*MEMBERS_PAGES, *OWN_PAGES, "accounts:second_factor", "accounts:confirm_identity"])
def test_nobody_is_sent_to_sign_in_with_the_way_back(name: str) -> None:
    """Every page that is somebody's."""
    response = Client().get(reverse(name))
    assert response.headers["Location"] == f"{reverse('accounts:sign_in')}?next={reverse(name)}"


@pytest.mark.django_db
@pytest.mark.parametrize("name", OPEN_PAGES)
def test_the_ways_in_are_open(name: str) -> None:
    """To everybody, and never cached."""
    response = Client().get(reverse(name))
    assert response.status_code == 200
    assert "no-store" in response.headers["Cache-Control"]


@pytest.mark.parametrize("name", MEMBERS_PAGES)
def test_an_operator_without_organization_is_led_to_the_floor(carol: User, client_for: Any, name: str) -> None:
    """Customers' pages have nothing to show to carol."""
    assert client_for(carol).get(reverse(name)).headers["Location"] == reverse("relay:ops_floor")


@pytest.mark.django_db
def test_a_person_without_organization_is_told_so(client_for: Any) -> None:
    """Removed from the last one, one's own security stays open."""
    client = client_for(make_user("lone@lone.example"))
    assert client.get(reverse("accounts:team")).status_code == 403
    assert client.get(reverse("accounts:security")).status_code == 200


def request_of(user: User, *, verified: bool) -> HttpRequest:
    request = RequestFactory().get("/ops/")
    user.is_verified = lambda: verified  # type: ignore[attr-defined]  # as django-otp's middleware does
    request.user = user
    return request


@operator_required
def floor(request: HttpRequest) -> HttpResponse:
    return HttpResponse("the floor")


def test_the_floor_is_for_verified_operators(carol: User) -> None:
    """With the second factor proved."""
    assert floor(request_of(carol, verified=True)).status_code == 200


def test_an_unverified_operator_is_stopped_without_the_middleware_too(carol: User) -> None:
    """The decorator asks for itself: a view is safe wherever it is mounted."""
    response = floor(request_of(carol, verified=False))
    assert response.headers["Location"].startswith(reverse("accounts:second_factor"))


def test_a_member_is_no_operator(alice: User) -> None:
    """Even with a second factor."""
    with pytest.raises(PermissionDenied):
        floor(request_of(alice, verified=True))


@pytest.mark.parametrize("path", ["/healthz/live", "/api/v1/messages", "/static/panel.css"])
def test_programs_doors_are_left_alone(carol: User, client_for: Any, path: str) -> None:
    """A half-signed-in browser does not change what a probe or a script gets."""
    location = client_for(carol, verified=False).get(path).headers.get("Location", "")
    assert not location.startswith("/account/")


def test_no_page_needs_inline_code(alice: User, alice_org: Any, vera: User, carol: User, client_for: Any) -> None:
    """The content policy forbids it: no style attributes, no handlers, no inline scripts on any account page."""
    import re

    owner, operator = client_for(alice), client_for(carol)
    pages = [owner.get(reverse(name)) for name in (*MEMBERS_PAGES, *OWN_PAGES, "accounts:confirm_identity")]
    pages += [operator.get(reverse(name)) for name in OWN_PAGES] + [Client().get(reverse(name)) for name in OPEN_PAGES]
    for page in pages:
        text = page.content.decode()
        assert not re.search(r"<[^>]+\s(style|on[a-z]+)=", text), page.wsgi_request.path
        assert not re.search(r"<style|<script(?![^>]*\ssrc=)", text), page.wsgi_request.path


@pytest.mark.parametrize(
    "target", ["nan_x", "accounts:sign_out", "-1", "//evil.example/", "https://evil.example/", "\\evil"]
)
def test_next_is_a_path_of_this_site(alice: User, client_for: Any, target: str) -> None:
    """Anything else leads to the start page: a bare word would be taken for a view's name, and fail."""
    response = client_for(alice).get(reverse("accounts:sign_in"), {"next": target})
    assert response.headers["Location"] == reverse("relay:overview")


def test_a_suspended_organization_reads_and_changes_nothing(
    alice: User, alice_org: Organization, client_for: Any
) -> None:
    """Suspended for abuse, nobody of it makes SMTP users or keys, invites people or buys a larger plan."""
    suspend(alice_org, reason="Sent to bought lists", actor=SYSTEM)
    client = client_for(alice)
    assert client.get(reverse("accounts:team")).status_code == 200
    for name, data in (
        ("accounts:invite_member", {"email": "new@x.example", "role": "viewer"}),
        ("accounts:api_keys", {"name": "k", "scopes": ["messages:read"]}),
        ("relay:smtp_user_create", {"name": "web", "excess": "hold"}),
        ("relay:domains", {"name": "alice.example"}),
    ):
        refused = client.post(reverse(name), data)
        assert (refused.status_code, b"Sent to bought lists" in refused.content) == (403, True), name
    assert client.post(reverse("relay:plan_change", args=["premium"])).status_code == 403
    assert alice_org.subscription.plan.code == "trial"
    assert not alice_org.smtp_users.exists()
