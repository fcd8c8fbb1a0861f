"""The operator's pages of named routes."""

from typing import Any

import pytest

from accounts.models import Organization, User
from relay.models import NamedRoute, RouteChoice, RouteTrial, SendingDomain

pytestmark = pytest.mark.django_db
ROUTES = "/ops/routes/"
FORM = {
    "name": "Partner <b>", "kind": "smarthost", "hosts": "smtp.example.net:587\n192.0.2.1", "tls": "starttls",
    "username": "relay", "password": "very secret", "ca_pem": "", "source_ipv4": "192.0.2.7", "source_ipv6": "",
}  # fmt: skip


def test_made_changed_shown(client_for: Any, carol: User) -> None:
    """The password is in no page, and stays when the form is saved without one."""
    client = client_for(carol)
    assert "No named route yet" in client.get(ROUTES).content.decode()
    place = client.post(f"{ROUTES}new/", FORM).headers["Location"]
    page = client.get(place).content.decode()
    for text in ("Partner &lt;b&gt;", "smtp.example.net:587", "192.0.2.1:587", "password sealed", "route.created"):
        assert text in page
    change = client.get(f"{place}change/").content.decode()
    assert "very secret" not in page + change + client.get(ROUTES).content.decode()
    sealed = NamedRoute.objects.get().password_sealed
    client.post(f"{place}change/", FORM | {"name": "Partner", "password": ""})
    row = NamedRoute.objects.get()
    assert (row.name, row.password_sealed) == ("Partner", sealed)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", ""), ("name", "\0"), ("kind", "x"), ("hosts", "no server"), ("hosts", "a.example:x"),
        ("ca_pem", "x"), ("password", ""), ("source_ipv4", "::1"), ("tls", "x"), ("username", "\0"),
    ],
)  # fmt: skip
def test_a_form_that_is_wrong(client_for: Any, carol: User, field: str, value: str) -> None:
    """It comes back with the error at the field, and nothing is made."""
    answer = client_for(carol).post(f"{ROUTES}new/", FORM | {field: value})
    assert answer.status_code == 422 and field in answer.context["form"].errors
    assert not NamedRoute.objects.exists()


def test_chosen_dropped_deleted(client_for: Any, carol: User, alice_org: Organization) -> None:
    """For a domain by name; in use it cannot be deleted, and the names are told."""
    SendingDomain.objects.create(organization=alice_org, name="alice.example")
    client = client_for(carol)
    row = NamedRoute.objects.create(name="Held", kind="hold")
    page = f"{ROUTES}{row.pk}/"
    for wrong in (
        {}, {"customer": "nobody"}, {"domain": "alice.example"}, {"customer": "alice-works", "domain": "x.example"},
        {"customer": "alice-works", "plan": "1"}, {"customer": "\0"},
    ):  # fmt: skip
        assert client.post(f"{page}choose/", wrong).status_code == 422
    chosen = {"customer": "Alice-Works", "domain": "Alice.Example"}
    assert client.post(f"{page}choose/", chosen).status_code == 302
    choice = RouteChoice.objects.get()
    refused = client.post(f"{page}delete/", follow=True).content.decode()
    assert "the domain alice.example of Alice Works use Held" in refused
    way = client.get(ROUTES, {"customer": "alice-works", "domain": "alice.example"}).content.decode()
    assert "this one counts" in way and "no choice" in way
    assert (
        "has not added the domain" in client.get(ROUTES, {"customer": "alice-works", "domain": "<x>"}).content.decode()
    )
    assert "no customer" in client.get(ROUTES, {"customer": "nobody"}).content.decode()
    client.post(f"{page}choices/{choice.pk}/drop/")
    assert not RouteChoice.objects.exists()
    assert client.post(f"{page}delete/").headers["Location"] == ROUTES and not NamedRoute.objects.exists()
    assert client.post(f"{page}choices/{choice.pk}/drop/").status_code == 404


def test_tried(client_for: Any, carol: User) -> None:
    """The page waits for the worker's result and then shows it as text; what has no server is not tried."""
    client = client_for(carol)
    row = NamedRoute.objects.create(name="Direct", kind="mx")
    page = f"{ROUTES}{row.pk}/"
    assert client.post(f"{page}try/", {"destination": "x"}).status_code == 422
    client.post(f"{page}try/", {"destination": "ann@Example.org"})
    trial = RouteTrial.objects.get()
    assert trial.destination == "example.org" and "hx-get" in client.get(f"{page}trial/").content.decode()
    found = {
        "server": "mx.example.org:25",
        "ok": False,
        "words": "<i>No</i>",
        "tls": "",
        "login": "",
        "conversation": "",
    }
    RouteTrial.objects.update(ended_at=trial.asked_at, found=[found])
    part = client.get(f"{page}trial/").content.decode()
    assert "&lt;i&gt;No" in part and "hx-get" not in part
    hold = NamedRoute.objects.create(name="Hold", kind="hold")
    assert client.post(f"{ROUTES}{hold.pk}/try/").status_code == 422
