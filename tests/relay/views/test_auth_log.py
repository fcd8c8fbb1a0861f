"""relay.views.auth_log: the list, its filters and live rows, one attempt in words, the export."""

import csv
import io
from collections.abc import Callable
from datetime import timedelta
from typing import cast

import pytest
from django.http import StreamingHttpResponse
from django.test import Client
from django.utils import timezone

from accounts.models import Organization
from audit.models import AuthEvent, Reason
from audit.queries import Cursor
from relay.models import SmtpUser
from relay.views import auth_log

Attempts = Callable[..., AuthEvent]


def test_newest_first_with_the_true_reason(alice_client: Client, attempted: Attempts) -> None:
    """The customer reads what the client was not told."""
    attempted(reason=Reason.OK, at=timezone.now() - timedelta(minutes=5))
    attempted(reason=Reason.NETWORK)
    response = alice_client.get("/auth-log/")
    assert [event.reason for event in response.context["events"]] == ["network", "ok"]
    assert "The address is outside the allowlist" in response.content.decode()


def test_another_organization_sees_nothing(bob_client: Client, attempted: Attempts) -> None:
    """Neither in the list, nor by reference, nor in the export."""
    event = attempted(reason=Reason.REVOKED)
    assert "Nobody has tried to sign in yet" in bob_client.get("/auth-log/").content.decode()
    assert bob_client.get(f"/auth-log/{event.reference}/").status_code == 404
    assert event.reference not in _text(bob_client.get("/auth-log/export.csv"))


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"result": "refused"}, {"wrong_password", "network"}),
        ({"reason": "network"}, {"network"}),
        ({"ip": "198.51.100.7"}, {"network"}),
        ({"ip": "198.51.100.0/24"}, {"network"}),
        ({"user": "ghost.alice-works"}, {"wrong_password"}),
        ({"since": "24h"}, {"ok", "wrong_password"}),
    ],
)
def test_filters_narrow(alice_client: Client, attempted: Attempts, query: dict[str, str], found: set[str]) -> None:
    """Each of them by itself."""
    attempted(reason=Reason.OK)
    attempted(reason=Reason.WRONG_PASSWORD, username="ghost.alice-works")
    attempted(reason=Reason.NETWORK, ip="198.51.100.7", at=timezone.now() - timedelta(days=2))
    assert {event.reason for event in alice_client.get("/auth-log/", query).context["events"]} == found


@pytest.mark.parametrize("query", [{"result": "maybe"}, {"ip": "nonsense"}, {"since": "1y"}, {"before": "x"}])
def test_nonsense_filter_is_an_error_above_an_empty_list(alice_client: Client, query: dict[str, str]) -> None:
    """It is said, and nothing breaks."""
    response = alice_client.get("/auth-log/", query)
    assert response.status_code == 422
    assert 'role="alert"' in response.content.decode()


def test_older_page_goes_on_where_the_first_ended(alice_client: Client, attempted: Attempts) -> None:
    """The cursor of a page is the key of its last row."""
    newer = attempted(reason=Reason.OK)
    older = attempted(reason=Reason.NETWORK, at=timezone.now() - timedelta(hours=1))
    response = alice_client.get("/auth-log/", {"before": str(Cursor.of(newer))})
    assert [event.reference for event in response.context["events"]] == [older.reference]
    assert "hx-get" not in response.content.decode()


def test_first_page_is_live_and_gets_rows_alone(alice_client: Client, attempted: Attempts) -> None:
    """The page asks for its rows again and again; the answer is no whole page."""
    attempted(reason=Reason.OK)
    assert 'hx-trigger="every 4s"' in alice_client.get("/auth-log/").content.decode()
    rows = alice_client.get("/auth-log/", headers={"HX-Request": "true"}).content.decode()
    assert "<table>" in rows
    assert "<html" not in rows


def test_attempt_has_a_page_with_cause_and_fix(alice_client: Client, shop: SmtpUser, attempted: Attempts) -> None:
    """The reference of a reply leads to words, and to the SMTP user it is about."""
    event = attempted(reason=Reason.EXPIRED, smtp_user=shop)
    page = alice_client.get(f"/auth-log/{event.reference}/").content.decode()
    assert "after its expiry date" in page
    assert "Make a new app password" in page
    assert f"/smtp-users/{shop.pk}/" in page


def test_unknown_reference_is_404(alice_client: Client) -> None:
    """As is one that is no reference."""
    assert alice_client.get("/auth-log/AAAAAAAAAA/").status_code == 404
    assert alice_client.get("/auth-log/'%20or%201/").status_code == 404


pytestmark = pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume asynchronous")  # the test's client


def _text(response: object) -> str:
    return b"".join(cast(StreamingHttpResponse, response)).decode()


def test_export_holds_the_filtered_rows(alice_client: Client, attempted: Attempts, alice_org: Organization) -> None:
    """One line for each attempt, under the columns' names."""
    attempted(reason=Reason.OK)
    refused = attempted(reason=Reason.NETWORK)
    response = alice_client.get("/auth-log/export.csv", {"result": "refused"})
    assert response["Content-Disposition"].startswith("attachment;")
    (row,) = csv.DictReader(io.StringIO(_text(response)))
    assert (row["reference"], row["reason"], row["ip"]) == (refused.reference, "network", "192.0.2.10")


def test_export_goes_through_its_pages(
    alice_client: Client, attempted: Attempts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every attempt once, also across the borders of the pages that it reads."""
    monkeypatch.setattr(auth_log, "EXPORT_PAGE", 2)
    made = [attempted(reason=Reason.OK).reference for _number in range(5)]
    rows = list(csv.DictReader(io.StringIO(_text(alice_client.get("/auth-log/export.csv")))))
    assert [row["reference"] for row in rows] == made[::-1]


def test_export_with_a_nonsense_filter_is_refused(alice_client: Client) -> None:
    """Before the first octet of the file."""
    assert alice_client.get("/auth-log/export.csv", {"ip": "nonsense"}).status_code == 400


@pytest.mark.parametrize("name", ['=HYPERLINK("http://evil.example")', "+1", "-1", "@SUM(A1)"])
def test_export_cannot_carry_a_formula(alice_client: Client, attempted: Attempts, name: str) -> None:
    """A username is whatever a stranger typed: no spreadsheet may calculate it."""
    attempted(reason=Reason.UNKNOWN_USER, username=name)
    (row,) = csv.DictReader(io.StringIO(_text(alice_client.get("/auth-log/export.csv"))))
    assert row["username_given"] == f"'{name}"
