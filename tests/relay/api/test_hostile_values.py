"""Values that PostgreSQL or its driver cannot take are the client's mistake (422), never a fault of the service."""

import pytest

from relay.api.shapes import cursor_of

pytestmark = pytest.mark.django_db
YEAR_0 = "0001-01-01T00:00:00+23:59"
YEAR_10000 = "9999-12-31T23:59:59-23:59"
SOME_ID = "00000000-0000-0000-0000-000000000000"


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("/messages", {"after": YEAR_0}),
        ("/messages", {"before": YEAR_10000}),
        ("/messages", {"cursor": cursor_of(YEAR_0, SOME_ID)}),
        ("/auth-events", {"before": YEAR_0}),
        ("/refusals", {"after": YEAR_10000}),
        ("/smtp-users", {"cursor": cursor_of("\0")}),
        ("/smtp-users", {"cursor": cursor_of("\ud800")}),
    ],
)
def test_hostile_queries(call, path: str, query: dict[str, str]) -> None:
    """Years outside of ours, NUL, half a surrogate."""
    assert call("GET", path, **query).status_code == 422


def test_an_end_in_the_year_10000(call, shop) -> None:
    """It could be stored and never be read again: every later list of the customer would fail."""
    body = {"name": "web", "expires_at": YEAR_10000}
    assert call("POST", f"/smtp-users/{shop.pk}/app-passwords", body).status_code == 422
    assert call("POST", "/networks", {"cidr": "192.0.2.7", "ends_at": YEAR_10000}).status_code == 422
    assert call("GET", f"/smtp-users/{shop.pk}/app-passwords").status_code == 200
