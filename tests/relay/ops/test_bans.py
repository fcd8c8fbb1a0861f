"""relay.views.ops.bans: every ban with its evidence, who is hit and its end; lifted; ranges protected."""

from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from accounts.models import Organization
from audit.record import attempt, record_auth_event
from relay.models import Ban, ProtectedRange


@pytest.fixture
def ban(db: None) -> Ban:
    evidence = {
        "failures": 300,
        "names": ["<script>alert(1)</script>", *(f"user{n}.x" for n in range(9))],
        "addresses": 12,
    }
    return Ban.objects.create(
        cidr="203.0.113.0/24", ends_at=timezone.now() + timedelta(hours=1), turn=2, evidence=evidence, worker="test"
    )


def test_evidence_customers_and_end(operator: Client, ban: Ban, alice_org: Organization) -> None:
    """Failures, addresses, names (escaped), the customers inside, how often, and a link to the attempts."""
    record_auth_event(
        attempt(result="accepted", reason="ok", ip="203.0.113.9", port=465, worker="t", organization_id=alice_org.pk)
    )
    page = operator.get("/ops/bans/").content.decode()
    assert "300 different failed logins" in page and "from 12 addresses" in page and "ban 2 in 30 days" in page
    assert "&lt;script&gt;" in page and "<script>alert" not in page
    assert alice_org.name in page and "/ops/auth/?network=203.0.113.0%2F24" in page


def test_empty(operator: Client) -> None:
    """The page says what would be here."""
    assert "Nobody is banned" in operator.get("/ops/bans/").content.decode()


def test_lift(operator: Client, ban: Ban) -> None:
    """It asks, it lifts, and the ban stands among those that ended, with who lifted it."""
    assert "greeted again" in operator.get(f"/ops/bans/{ban.pk}/lift/").content.decode()
    page = operator.post(f"/ops/bans/{ban.pk}/lift/", follow=True).content.decode()
    assert "Nobody is banned" in page and "lifted by carol" in page
    assert operator.get("/ops/bans/999999/lift/").status_code == 404


def test_protect_and_give_up(operator: Client, ban: Ban) -> None:
    """A range is named, bans inside end; what is no range is an error at the field; it can be removed again."""
    form = operator.get("/ops/bans/protect/?range=203.0.113.0/24").content.decode()
    assert 'value="203.0.113.0/24"' in form
    assert operator.post("/ops/bans/protect/", {"cidr": "nonsense"}).status_code == 422
    page = operator.post(
        "/ops/bans/protect/", {"cidr": "203.0.112.0/22", "label": "Hall"}, follow=True
    ).content.decode()
    assert "203.0.112.0/22" in page and "Hall" in page and "Nobody is banned" in page
    row = ProtectedRange.objects.get()
    operator.post(f"/ops/bans/protected/{row.pk}/remove/")
    assert not ProtectedRange.objects.exists()
