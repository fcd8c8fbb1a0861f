"""Why was I refused, before a name was known: by address, and only to those whose address it is."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from accounts.models import Organization, User
from audit.models import AuthEvent
from audit.record import attempt, record_auth_event
from audit.rollup import roll_up_auth_hours
from relay.models import DoorFailure
from relay.retention import delete_old_door_failures

pytestmark = pytest.mark.django_db
URL = "/why/"
HERS, HIS = "203.0.113.7", "198.51.100.9"


@pytest.fixture(autouse=True)
def _signed_in(alice_org: Organization, bob_org: Organization) -> None:
    for organization, ip in ((alice_org, HERS), (bob_org, HIS)):
        record_auth_event(
            attempt(result="accepted", reason="ok", ip=ip, port=587, worker="w", organization_id=organization.pk)
        )


def failure(place: str = HERS, cause: str = "tls_version", **given: Any) -> DoorFailure:
    now = timezone.now()
    values = {"port": 465, "count": 3, "first_at": now, "last_at": now, "worker": "w", "detail": "UNSUPPORTED_PROTOCOL"}
    reference = f"{DoorFailure.objects.count():010d}"
    return DoorFailure.objects.create(reference=reference, place=place, cause=cause, **{**values, **given})


@pytest.mark.parametrize("rolled_up", [True, False])
def test_an_address_from_which_they_signed_in(alice: User, client_for: Any, rolled_up: bool) -> None:
    """Its failures with cause and fix; a sign-in counts at once, not only after the next rollup."""
    failure()
    if rolled_up:
        roll_up_auth_hours()
    page = client_for(alice).get(URL, {"ip": HERS}).content.decode()
    assert "TLS 1.2 is the least" in page
    assert "newer firmware" in page
    assert "UNSUPPORTED_PROTOCOL" in page


def test_anothers_address_is_not_told_of(alice: User, client_for: Any) -> None:
    """Nor whether anything failed there."""
    failure(HIS)
    roll_up_auth_hours()
    for way in ({"ip": HIS}, {"q": HIS}):
        page = client_for(alice).get(URL, way).content.decode()
        assert "is not shown to you" in page
        assert "UNSUPPORTED_PROTOCOL" not in page


def test_their_own_browsers_address(alice: User, client_for: Any) -> None:
    """Whoever looks from it sees it, without a sign-in by SMTP."""
    failure("192.0.2.55")
    client = client_for(alice)
    assert "UNSUPPORTED_PROTOCOL" in client.get(URL, {"ip": "192.0.2.55"}, REMOTE_ADDR="192.0.2.55").content.decode()
    assert "is not shown to you" in client.get(URL, {"ip": "192.0.2.55"}).content.decode()


def test_a_sign_in_long_ago_gives_no_right(alice: User, alice_org: Organization, client_for: Any) -> None:
    """After 30 days an address may be anybody's."""
    long_ago = timezone.now() - timedelta(days=32)
    record_auth_event(
        attempt(
            result="accepted",
            reason="ok",
            ip="192.0.2.9",
            port=587,
            worker="w",
            organization_id=alice_org.pk,
            at=long_ago,
        )
    )
    roll_up_auth_hours()
    failure("192.0.2.9")
    assert "is not shown to you" in client_for(alice).get(URL, {"ip": "192.0.2.9"}).content.decode()


def test_a_refused_sign_in_gives_no_right(alice: User, alice_org: Organization, client_for: Any) -> None:
    """Somebody guessing alice's names does not make the guesser's address hers."""
    guess = {"result": "refused", "reason": "wrong_password", "organization_id": alice_org.pk}
    record_auth_event(attempt(ip="192.0.2.9", port=587, worker="w", **guess))
    roll_up_auth_hours()
    failure("192.0.2.9")
    assert "is not shown to you" in client_for(alice).get(URL, {"ip": "192.0.2.9"}).content.decode()


def test_attempts_that_named_nobody_are_found_too(alice: User, client_for: Any) -> None:
    """A password in clear is in the auth log of nobody, and found by its address."""
    clear = attempt(result="refused", reason="clear_text", ip=HERS, port=587, worker="w", mechanism="PLAIN")
    record_auth_event(clear)
    named = attempt(
        result="refused", reason="unknown_user", ip=HERS, port=587, worker="w", username_given="secret-name"
    )
    record_auth_event(named)
    roll_up_auth_hours()
    page = client_for(alice).get(URL, {"ip": HERS}).content.decode()
    assert "before the connection was encrypted" in page
    assert "secret-name" not in page


@pytest.mark.parametrize("way", ["{reference}", "421 4.7.0 Too many connections, try again later [ref {reference}]"])
def test_a_reference_is_explained_to_whose_address_it_is(alice: User, bob: User, client_for: Any, way: str) -> None:
    """By itself or in its reply; to another it is as unknown as a made-up one."""
    row = failure(cause="connections", detail="only here")
    roll_up_auth_hours()
    query = {"q": way.format(reference=row.reference)}
    assert "only here" in client_for(alice).get(URL, query).content.decode()
    page = client_for(bob).get(URL, query).content.decode()
    assert "only here" not in page
    assert "Nothing of your organization has the reference" in page


def test_a_folded_neighbourhood(alice: User, bob: User, client_for: Any) -> None:
    """In a flood the /24 stands for its addresses: whoever has one of them sees it."""
    row = failure("203.0.113.0/24", detail="the neighbourhood")
    roll_up_auth_hours()
    assert "the neighbourhood" in client_for(alice).get(URL, {"ip": HERS}).content.decode()
    assert "the neighbourhood" in client_for(alice).get(URL, {"q": row.reference}).content.decode()
    assert "the neighbourhood" not in client_for(bob).get(URL, {"q": row.reference}).content.decode()


def test_a_run_of_the_neighbourhood_names_no_neighbour(alice: User, client_for: Any) -> None:
    """What failed around her is counted; the name that another's machine gave itself is not hers to read."""
    first = attempt(
        result="refused", reason="malformed", ip="203.0.113.200", port=587, worker="w", client_name="theirs"
    )
    record_auth_event(first)
    AuthEvent.objects.filter(reference=first.reference).update(first_at=first.at)
    roll_up_auth_hours()
    page = client_for(alice).get(URL, {"ip": HERS}).content.decode()
    assert "203.0.113.0/24" in page and first.reference in page
    assert "theirs" not in page


@pytest.mark.parametrize(
    "typed", ["nonsense", "1.2.3", "<script>alert(1)</script>", "\x00", "9" * 5000, "192.0.2.0/24"]
)
def test_what_is_no_address(alice: User, client_for: Any, typed: str) -> None:
    """Is said to be none, and never run."""
    response = client_for(alice).get(URL, {"ip": typed})
    assert response.status_code == 200
    page = response.content.decode()
    assert "That is not an address" in page
    assert "<script>alert" not in page


def test_an_address_at_which_nothing_failed(alice: User, client_for: Any) -> None:
    """Says so, and where to look next."""
    roll_up_auth_hours()
    assert f"Nothing failed at {HERS}" in client_for(alice).get(URL, {"q": f" {HERS} "}).content.decode()


def test_the_operator_sees_every_address_and_reference(carol: User, client_for: Any) -> None:
    """On the address's page, and by the reference."""
    row = failure(HIS, detail="any address")
    client = client_for(carol)
    assert "any address" in client.get("/ops/auth/ip/", {"ip": HIS}).content.decode()
    assert "any address" in client.get(f"/ops/reference/{row.reference}/").content.decode()


def test_they_are_forgotten_after_a_week() -> None:
    """By the end of their hour."""
    now = timezone.now()
    failure(last_at=now - timedelta(days=8))
    failure(last_at=now - timedelta(days=6))
    assert delete_old_door_failures() == 1
