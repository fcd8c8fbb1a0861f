"""Auth review: facets, filters, keyset pages, live part and CSV, over all customers."""

import csv
import io
from datetime import timedelta

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.models import Organization
from tests.relay.ops.builders import make_event

URL = "/ops/auth/"


def references(client: Client, **query: str) -> set[str]:
    return {event.reference for event, _organization in client.get(URL, query).context["rows"]}


def test_attempts_of_all_customers(alice_org: Organization, bob_org: Organization, operator: Client) -> None:
    """Attempts of every customer, and of none, are in one list, each with its customer's name."""
    events = [make_event(organization_id=pk) for pk in (alice_org.pk, bob_org.pk, None)]
    response = operator.get(reverse("relay:ops_auth_review"))
    assert {event.reference for event, _each in response.context["rows"]} == {event.reference for event in events}
    assert [each and each.name for _event, each in response.context["rows"]].count("Bob Ltd") == 1


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ({"result": "accepted"}, {"good"}),
        ({"reason": "wrong_password"}, {"wrong"}),
        ({"ip": "203.0.113.77"}, {"wrong"}),
        ({"ip": "::ffff:203.0.113.77"}, {"wrong"}),
        ({"network": "203.0.113.0/24"}, {"wrong", "plain"}),
        ({"network": "2001:db8::/32"}, {"good"}),
        ({"username": "app.alice-works"}, {"good", "wrong"}),
        ({"mechanism": "LOGIN"}, {"wrong"}),
        ({"tls": "-"}, {"plain"}),
        ({"result": "refused", "mechanism": "LOGIN"}, {"wrong"}),
        ({"result": "nonsense"}, {"good", "wrong", "plain"}),
    ],
)
def test_filters(query: dict[str, str], wanted: set[str], db: None, operator: Client) -> None:
    """Each column narrows the list; an address written as IPv6 finds its IPv4; nonsense narrows nothing."""
    app = {"username_given": "app.alice-works"}
    made = {
        "good": make_event(result="accepted", reason="ok", ip="2001:db8::5", **app),
        "wrong": make_event(reason="wrong_password", ip="203.0.113.77", mechanism="LOGIN", **app),
        "plain": make_event(reason="clear_text", tls_version=""),
    }
    assert references(operator, **query) == {made[name].reference for name in wanted}


def test_customer_filter(alice_org: Organization, bob_org: Organization, operator: Client) -> None:
    """One customer's attempts alone, in the list and in the facets, with a way back to all."""
    mine = make_event(organization_id=alice_org.pk)
    make_event(organization_id=bob_org.pk, ip="198.51.100.1")
    response = operator.get(URL, {"customer": str(alice_org.pk)})
    assert references(operator, customer=str(alice_org.pk)) == {mine.reference}
    assert response.context["total"] == 1
    assert [(label, value) for label, value, _address in response.context["asked"]] == [("Customer", "Alice Works")]


def test_facets_count_attempts_and_lead_to_them(db: None, operator: Client) -> None:
    """A facet counts attempts, a folded row with all of its own, and its link leaves exactly them."""
    make_event(ip="203.0.113.1", count=40)
    make_event(ip="203.0.113.2", count=2)
    facets = {str(label): lines for label, lines in operator.get(URL).context["facets"]}
    assert [(line, count) for line, count, _chosen, _address in facets["IP address"]] == [
        ("203.0.113.1", 40),
        ("203.0.113.2", 2),
    ]
    narrowed = operator.get(facets["IP address"][1][3])
    assert narrowed.context["total"] == 2
    chosen = {str(label): lines for label, lines in narrowed.context["facets"]}["IP address"][0]
    assert chosen[2]
    assert operator.get(chosen[3]).context["total"] == 42


@pytest.mark.parametrize(("period", "count"), [("5m", 1), ("1h", 2), ("24h", 3), ("7d", 4), ("30d", 5), ("x", 3)])
def test_periods(period: str, count: int, db: None, operator: Client) -> None:
    """The period bounds list and counts; what is none means 24 hours."""
    for ago in (timedelta(minutes=1), timedelta(minutes=30), timedelta(hours=9), timedelta(days=3), timedelta(days=20)):
        make_event(ago=ago)
    assert len(references(operator, period=period)) == count
    assert operator.get(URL, {"period": period}).context["total"] == count


def test_pages_by_key(db: None, operator: Client) -> None:
    """Sixty attempts at one moment are two pages, and each is listed once; an older or paused page is not live."""
    at = timezone.now() - timedelta(minutes=1)
    for _number in range(60):
        make_event(at=at)
    first = operator.get(URL)
    second = operator.get(first.context["older"])
    listed = [event.reference for page in (first, second) for event, _each in page.context["rows"]]
    assert len(first.context["rows"]) == 50
    assert len(listed) == len(set(listed)) == 60
    assert b"hx-get" in first.content
    assert b"hx-get" not in second.content
    assert b"hx-get" not in operator.get(first.context["pause"][1]).content


@pytest.mark.parametrize("query", [{"ip": "1.2.3"}, {"network": "10.0.0.0/99"}])
def test_bad_address_is_named(query: dict[str, str], db: None, operator: Client) -> None:
    """An address that is none gets a clear error and an empty list, not everything."""
    make_event()
    response = operator.get(URL, query)
    assert response.context["rows"] == []
    assert "is no IP address or network" in response.content.decode()


@pytest.mark.parametrize(
    "query", [{"before": "x|y"}, {"customer": "9" * 30}, {"username": "a\x00b"}, {"before": "99999999T000000.0-00"}]
)
def test_nonsense_is_no_error(query: dict[str, str], db: None, operator: Client) -> None:
    """A broken key, a number out of range or a NUL answers a page."""
    assert operator.get(URL, query).status_code == 200


def test_live_part_is_a_fragment(db: None, operator: Client) -> None:
    """The parts that are fetched again keep the filters and are no whole pages."""
    made = make_event(reason="wrong_password")
    make_event()
    query = {"reason": "wrong_password"}
    rows = operator.get(reverse("relay:ops_auth_review_live", args=["rows"]), query)
    assert [event.reference for event, _each in rows.context["rows"]] == [made.reference]
    facets = operator.get(reverse("relay:ops_auth_review_live", args=["facets"]), query)
    assert facets.context["total"] == 1
    assert b"<html" not in rows.content + facets.content
    assert operator.get(reverse("relay:ops_auth_review_live", args=["other"])).status_code == 404


@pytest.mark.parametrize(("period", "is_counted"), [("5m", True), ("1h", True), ("24h", False), ("30d", False)])
def test_long_periods_are_counted_once(period: str, is_counted: bool, db: None, operator: Client) -> None:
    """The rows are always live; the facets only where counting them again is cheap."""
    page = operator.get(URL, {"period": period}).content.decode()
    assert reverse("relay:ops_auth_review_live", args=["rows"]) in page
    assert (reverse("relay:ops_auth_review_live", args=["facets"]) in page) is is_counted


def test_names_of_attackers_are_text(db: None, operator: Client) -> None:
    """A username with markup or quotes is shown and linked as text."""
    make_event(username_given='"><script>alert(1)</script>&x=1')
    page = operator.get(URL).content.decode()
    assert "<script>alert" not in page
    assert "name=%22%3E%3Cscript%3Ealert%281%29%3C%2Fscript%3E%26x%3D1" in page


def test_csv(alice_org: Organization, operator: Client) -> None:
    """The CSV has the filtered rows with the true reason, and no cell that a spreadsheet would run."""
    made = make_event(username_given="=cmd()", reason="wrong_password", organization_id=alice_org.pk)
    make_event()
    response = operator.get(reverse("relay:ops_auth_review_csv"), {"reason": "wrong_password"})
    rows = list(csv.DictReader(io.StringIO(response.content.decode())))
    assert [row["reference"] for row in rows] == [made.reference]
    assert rows[0]["username_given"] == "'=cmd()"
    assert rows[0]["organization_id"] == str(alice_org.pk)
    assert response.headers["Content-Disposition"] == 'attachment; filename="auth-review.csv"'
