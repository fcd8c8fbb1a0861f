"""The change log's page, and the operator's: what was changed, by whom, from where; and the button that verifies."""

from typing import Any

import pytest
from django.urls import reverse

from accounts.models import Organization, User
from audit.anchors import take_anchors
from audit.changes import Actor, came_from, record_change
from audit.models import ChangeAnchor, ChangeChain, ChangeEvent

pytestmark = pytest.mark.django_db
URL = "/change-log/"


@pytest.fixture
def changes(alice_org: Organization, bob_org: Organization) -> None:
    with came_from("203.0.113.7"):
        for number in range(3):
            record_change(
                "smtp_user.changed",
                organization_id=alice_org.pk,
                actor=Actor("alice@alice.example"),
                subject=f"shop{number}.alice-works",
                values={"recipients_per_hour": {"from": 100, "to": 200 + number}},
            )
        record_change("plan.changed", organization_id=bob_org.pk, actor=Actor("bob@bob.example"), subject="of bob")
        record_change("plan.made", organization_id=0, actor=Actor("carol@gatepost.example"), subject="of all")


def test_a_row_tells_who_what_from_where_and_both_values(changes: None, alice: User, client_for: Any) -> None:
    """Newest first; nothing of another organization, nor of the installation."""
    page = client_for(alice).get(URL).content.decode()
    assert page.index("shop2.alice-works") < page.index("shop0.alice-works")
    assert "alice@alice.example" in page
    assert "<code>203.0.113.7</code>" in page
    assert "100</del>" in page
    assert "202" in page
    assert "of bob" not in page
    assert "of all" not in page


def test_a_change_made_on_a_page_has_the_address_of_the_browser(
    alice: User, alice_org: Organization, client_for: Any
) -> None:
    """Whatever view makes it."""
    rules = {"name": "Renamed", "password_classes": "3", "password_history_length": "5"}
    client_for(alice).post(reverse("accounts:organization_settings"), rules, REMOTE_ADDR="198.51.100.9")
    event = ChangeEvent.objects.get(organization_id=alice_org.pk, action="organization.updated")
    assert event.ip == "198.51.100.9"
    assert event.values is not None
    assert event.values["name"] == {"from": "Alice Works", "to": "Renamed"}


def test_verify_says_that_all_is_whole(changes: None, alice: User, client_for: Any) -> None:
    """With how many changes, and which anchors were fitted."""
    take_anchors()
    page = client_for(alice).post(URL).content.decode()
    assert "the chain of all 3 changes is whole" in page
    assert "0 pasted and 1 remembered" in page


def test_verify_names_what_was_edited(changes: None, alice: User, alice_org: Organization, client_for: Any) -> None:
    """An edit behind the log's back is named by its number."""
    ChangeEvent.objects.filter(organization_id=alice_org.pk, sequence=2).update(subject="another")
    page = client_for(alice).post(URL).content.decode()
    assert "edited outside Gatepost" in page
    assert "2: time, actor, action or subject were edited" in page


def test_a_pasted_anchor_finds_what_the_database_hides(
    changes: None, alice: User, alice_org: Organization, client_for: Any
) -> None:
    """The end was cut, the head set back and the remembered anchor removed: only the mail knows."""
    (anchor,) = (each for each in take_anchors() if each.organization_id == alice_org.pk)
    last = ChangeEvent.objects.get(organization_id=alice_org.pk, sequence=2)
    ChangeEvent.objects.filter(organization_id=alice_org.pk, sequence=3).delete()
    ChangeChain.objects.filter(pk=alice_org.pk).update(sequence=2, link=last.link)
    ChangeAnchor.objects.all().delete()
    client = client_for(alice)
    assert "is whole" in client.post(URL).content.decode()
    page = client.post(URL, {"anchors": f"Dear owner, here: {anchor}"}).content.decode()
    assert "3: the change that an anchor names is missing" in page


def test_anothers_anchor_is_none(changes: None, alice: User, bob_org: Organization, client_for: Any) -> None:
    """What is pasted must be of this log, and nothing is said of another."""
    (anchor,) = (each for each in take_anchors() if each.organization_id == bob_org.pk)
    for text in (str(anchor), "nonsense", "<script>alert(1)</script>"):
        page = client_for(alice).post(URL, {"anchors": text}).content.decode()
        assert "holds no anchor of this log" in page
        assert "<script>alert" not in page


def test_it_is_narrowed_by_who_and_what(changes: None, alice: User, client_for: Any) -> None:
    """The address says by what; hostile words find nothing and break nothing."""
    client = client_for(alice)
    assert "shop1" in client.get(URL + "?what=smtp_user&who=alice@alice.example").content.decode()
    for query in ("?what=plan", "?who=nobody", "?who=%00%ff<b>", "?what=" + "x" * 10_000, "?before=1"):
        page = client.get(URL + query).content.decode()
        assert "No change fits" in page
        assert "<b>" not in page


def test_the_operator_sees_the_installations_and_each_customers(
    changes: None, carol: User, bob_org: Organization, client_for: Any
) -> None:
    """And verifies them."""
    client = client_for(carol)
    page = client.get("/ops/changes/").content.decode()
    assert "of all" in page
    assert "of bob" not in page
    assert "the chain of 1 change is whole" in client.post("/ops/changes/").content.decode()
    page = client.get(f"/ops/changes/?customer={bob_org.pk}").content.decode()
    assert "of bob" in page
    assert client.get("/ops/changes/?customer=999999999").status_code == 404
