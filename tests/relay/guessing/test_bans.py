"""Bans as rows: whose addresses they hit, who may lift what, and what is never banned."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.core.exceptions import ValidationError
from django.utils import timezone

from accounts.models import Organization
from audit.anomalies.models import Anomaly, Kind
from audit.changes import SYSTEM, Actor
from audit.models import ChangeEvent
from audit.record import attempt, record_auth_event
from audit.rollup import roll_up_auth_hours
from relay.guessing import bans
from relay.guessing.notices import tell_customers
from relay.models import Ban, ProtectedRange

pytestmark = pytest.mark.django_db
CAROL = Actor("carol@gatepost.example", 7)


@pytest.fixture
def ban() -> Callable[..., Ban]:
    def make(cidr: str, *, hours: float = 1, **fields: Any) -> Ban:
        return Ban.objects.create(cidr=cidr, ends_at=timezone.now() + timedelta(hours=hours), worker="test", **fields)

    return make


def signed_in(organization: Organization, ip: str, *, days_ago: float = 0) -> None:
    record_auth_event(
        attempt(
            result="accepted", reason="ok", ip=ip, port=465, worker="test", organization_id=organization.pk,
            at=timezone.now() - timedelta(days=days_ago),
        )
    )  # fmt: skip


def test_own_bans_are_proved_by_the_auth_log(
    alice_org: Organization, bob_org: Organization, ban: Callable[..., Ban]
) -> None:
    """Of an address, a /24 and a /64 around addresses from which her users signed in; not of others', not ended."""
    hers = [ban("203.0.113.7/32"), ban("198.51.100.0/24"), ban("2001:db8:1:2::/64")]
    ban("203.0.113.8/32")
    ban("203.0.113.9/32", hours=-1)
    for ip in ("203.0.113.7", "198.51.100.200", "198.51.100.3", "2001:db8:1:2::99", "203.0.113.9"):
        signed_in(alice_org, ip, days_ago=0.01)
    signed_in(bob_org, "203.0.113.8")
    found = {own.ban.pk: own.addresses for own in bans.own_bans(alice_org)}
    assert found == {
        hers[0].pk: ("203.0.113.7",),
        hers[1].pk: ("198.51.100.200", "198.51.100.3"),
        hers[2].pk: ("2001:db8:1:2::99",),
    }
    [theirs] = bans.own_bans(bob_org)
    assert theirs.addresses == ("203.0.113.8",)
    assert bans.customers_hit([hers[1], theirs.ban]) == {hers[1].pk: [alice_org], theirs.ban.pk: [bob_org]}


def test_a_month_counts_and_no_more(alice_org: Organization, ban: Callable[..., Ban]) -> None:
    """Older days are in the sums alone; what is older than thirty days proves nothing."""
    ban("203.0.113.7/32")
    signed_in(alice_org, "203.0.113.7", days_ago=40)
    roll_up_auth_hours()
    assert bans.own_bans(alice_org) == []
    signed_in(alice_org, "203.0.113.7", days_ago=20)
    roll_up_auth_hours()
    assert [own.addresses for own in bans.own_bans(alice_org)] == [("203.0.113.7",)]


def test_a_customer_lifts_the_ban_of_its_address(alice_org: Organization, ban: Callable[..., Ban]) -> None:
    """It ends at once, and her change log says who lifted it."""
    row = ban("203.0.113.7/32")
    signed_in(alice_org, "203.0.113.7")
    bans.lift_own_ban(row, organization=alice_org, actor=SYSTEM)
    assert not bans.active_bans().exists() and bans.own_bans(alice_org) == []
    event = ChangeEvent.objects.get(organization_id=alice_org.pk, action="ban.lifted")
    assert event.values is not None and event.values["addresses"] == ["203.0.113.7"]


def test_of_a_range_only_her_own_addresses_are_taken_out(alice_org: Organization, ban: Callable[..., Ban]) -> None:
    """The /24 stays banned for the others; hers are exempt, and it is no ban of hers any more."""
    row = ban("203.0.113.0/24")
    signed_in(alice_org, "203.0.113.7")
    bans.lift_own_ban(row, organization=alice_org, actor=SYSTEM)
    row.refresh_from_db()
    assert row.exempt == ["203.0.113.7"] and row.lifted_at is None
    assert bans.own_bans(alice_org) == []


def test_nobody_lifts_anothers(alice_org: Organization, bob_org: Organization, ban: Callable[..., Ban]) -> None:
    """Without a sign-in from it, a ban is none of a customer's business; nothing changes."""
    row = ban("203.0.113.7/32")
    signed_in(alice_org, "203.0.113.7")
    with pytest.raises(bans.NotYours):
        bans.lift_own_ban(row, organization=bob_org, actor=SYSTEM)
    assert bans.active_bans().exists()


def test_a_customer_lifts_a_range_once_a_day(alice_org: Organization, ban: Callable[..., Ban]) -> None:
    """The next ban of it stays, until a day has passed; another range is free, and so is an operator."""
    signed_in(alice_org, "203.0.113.7")
    signed_in(alice_org, "203.0.113.8")
    bans.lift_own_ban(ban("203.0.113.7/32"), organization=alice_org, actor=SYSTEM)
    again = ban("203.0.113.7/32", hours=100)
    with pytest.raises(bans.LiftedLately, match="lifted a ban of this range already"):
        bans.lift_own_ban(again, organization=alice_org, actor=SYSTEM)
    again.refresh_from_db()
    assert again.lifted_at is None
    bans.lift_own_ban(ban("203.0.113.8/32"), organization=alice_org, actor=SYSTEM)
    with time_machine.travel(timezone.now() + timedelta(days=1, seconds=1), tick=False):
        signed_in(alice_org, "203.0.113.7")
        bans.lift_own_ban(again, organization=alice_org, actor=SYSTEM)
        third = ban("203.0.113.7/32")
        bans.lift_ban(third, actor=CAROL)
    for row in (again, third):
        row.refresh_from_db()
        assert row.lifted_at is not None


def test_an_operator_lifts_any(ban: Callable[..., Ban]) -> None:
    """Whatever it hits, once; the installation's change log names the operator."""
    row = ban("203.0.113.0/24")
    bans.lift_ban(row, actor=CAROL)
    bans.lift_ban(row, actor=SYSTEM)
    row.refresh_from_db()
    assert row.lifted_by == CAROL.name
    assert ChangeEvent.objects.filter(organization_id=0, action="ban.lifted").count() == 1


def test_protecting_a_range_ends_the_bans_inside(ban: Callable[..., Ban]) -> None:
    """Of addresses and ranges within it, and of no other; in the change log."""
    inside, outside = ban("203.0.113.7/32"), ban("203.0.114.7/32")
    ban("2001:db8::/64")
    bans.protect_range(cidr="203.0.113.0/24", label="Office", actor=CAROL)
    inside.refresh_from_db()
    outside.refresh_from_db()
    assert inside.lifted_by == CAROL.name and outside.lifted_at is None
    assert bans.active_bans().count() == 2
    assert ChangeEvent.objects.filter(organization_id=0, action="range.protected").exists()


@pytest.mark.parametrize("text", ["nonsense", "203.0.113.7/24", "0.0.0.0/0", "", "203.0.113.0/24\0"])
def test_what_is_no_range_is_refused(text: str) -> None:
    """With words for the form, and no row."""
    with pytest.raises(ValidationError):
        bans.protect_range(cidr=text, actor=CAROL)
    assert not ProtectedRange.objects.exists()


def test_a_range_is_protected_once_and_given_up() -> None:
    """The second time is refused; removing it is recorded."""
    row = bans.protect_range(cidr="203.0.113.0/24", actor=CAROL)
    with pytest.raises(bans.RangeRefused):
        bans.protect_range(cidr="203.0.113.0/24", actor=CAROL)
    with pytest.raises(bans.RangeRefused):
        bans.protect_range(cidr="203.0.114.0/24", label="x" * 65, actor=CAROL)
    bans.unprotect_range(row, actor=CAROL)
    assert ChangeEvent.objects.filter(organization_id=0, action="range.unprotected").exists()


def test_old_bans_are_deleted(ban: Callable[..., Ban]) -> None:
    """Ninety days after their end; younger ones stay as history."""
    ban("203.0.113.7/32", hours=-24 * 91)
    young = ban("203.0.113.8/32", hours=-24 * 89)
    assert bans.delete_old_bans() == 1
    assert list(bans.past_bans()) == [young]


def test_a_customer_is_told_of_a_ban_of_its_own_address(
    alice_org: Organization, bob_org: Organization, ban: Callable[..., Ban]
) -> None:
    """One alert for each customer that it hits, however often the sweep runs; none for others or for old bans."""
    row = ban("203.0.113.7/32", evidence={"failures": 61})
    ban("198.51.100.7/32", began_at=timezone.now() - timedelta(hours=2))
    signed_in(alice_org, "203.0.113.7")
    signed_in(alice_org, "198.51.100.7")
    assert tell_customers() == 1
    assert tell_customers() == 1
    alert = Anomaly.objects.get()
    assert (alert.kind, alert.organization_id, alert.key) == (Kind.BANNED, alice_org.pk, f"ban:{row.pk}")
    assert alert.evidence["ip"] == "203.0.113.7" and alert.evidence["count"] == 61
