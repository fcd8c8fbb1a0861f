"""/changes: the change log for programs, and its verification."""

from typing import Any

import pytest

from accounts.models import Organization
from audit.anchors import take_anchors
from audit.changes import Actor, came_from, record_change
from audit.models import ChangeEvent

pytestmark = pytest.mark.django_db


@pytest.fixture
def changes(alice_org: Organization, bob_org: Organization) -> None:
    with came_from("203.0.113.7"):
        for organization in (alice_org, alice_org, alice_org, bob_org):
            record_change(
                "thing.changed",
                organization_id=organization.pk,
                actor=Actor("somebody@example.net"),
                subject=organization.slug,
                values={"a": {"from": 1, "to": 2}},
            )


def test_pages_of_it(call: Any, changes: None) -> None:
    """The newest first, with a cursor; of the key's organization alone."""
    page = call("GET", "/changes", limit=2, action="thing").json()
    assert {each["subject"] for each in page["items"]} == {"alice-works"}
    assert page["items"][0]["ip"] == "203.0.113.7"
    assert page["items"][0]["values"] == {"a": {"from": 1, "to": 2}}
    rest = call("GET", "/changes", limit=200, action="thing.changed", cursor=page["next_cursor"]).json()
    sequences = [each["sequence"] for each in page["items"] + rest["items"]]
    assert sequences == sorted(sequences, reverse=True)
    assert rest["next_cursor"] is None
    assert len(sequences) == 3
    assert call("GET", "/changes", cursor="nonsense").status_code == 422
    assert call("GET", "/changes", action="nothing").json()["items"] == []


def test_verification(call: Any, changes: None, alice_org: Organization, bob_org: Organization) -> None:
    """Whole; fitted to given anchors; and not, once a row was edited."""
    anchors = {each.organization_id: str(each) for each in take_anchors()}
    assert call("GET", "/changes/verification").json()["ok"]
    assert call("GET", "/changes/verification", anchor=anchors[alice_org.pk]).json()["ok"]
    assert call("GET", "/changes/verification", anchor=anchors[bob_org.pk]).status_code == 422
    assert call("GET", "/changes/verification", anchor="nonsense").status_code == 422
    latest = ChangeEvent.objects.filter(organization_id=alice_org.pk).latest("sequence")
    ChangeEvent.objects.filter(pk=latest.pk).update(subject="another")
    told = call("GET", "/changes/verification").json()
    assert not told["ok"]
    assert told["problems"] == [f"{latest.sequence}: time, actor, action or subject were edited"]
