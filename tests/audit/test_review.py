"""audit/review.py: facets, and the stories of addresses and names."""

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from audit.queries import AuthFilters
from audit.review import FACETS, RangeTooLong, facets, story_of_ip, story_of_username
from tests.audit.conftest import NOON, MakeEvent

pytestmark = pytest.mark.django_db
LATER = NOON + timedelta(hours=12)


@pytest.fixture
def morning(make_event: MakeEvent) -> None:
    """An address guesses 40 names of two organizations, then gets in; alice sends from elsewhere."""
    for number in range(40):
        make_event(
            at=NOON + timedelta(seconds=number),
            ip="203.0.113.9",
            username_given=f"u{number:02}.bob",
            organization_id=2,
            smtp_user_id=None,
            reason="unknown_user",
            client_name="[evil]",
        )
    make_event(at=NOON + timedelta(minutes=2), ip="203.0.113.9", count=10)
    make_event(at=NOON + timedelta(minutes=5), ip="203.0.113.9", result="accepted", reason="ok", mechanism="LOGIN")
    make_event(at=NOON + timedelta(minutes=6), result="accepted", reason="ok", tls_version="TLSv1.2")
    make_event(at=NOON - timedelta(days=20), ip="203.0.113.9", count=1000)


def test_facets_count_attempts_by_each_column(morning: None) -> None:
    """Seven facets in one query; folded runs count whole; what lies before the stretch does not count."""
    with CaptureQueriesContext(connection) as queries:
        found = facets(since=NOON, until=LATER)
    assert len(queries) == 1
    assert tuple(found) == FACETS
    as_pairs = {name: [(each.value, each.count) for each in values] for name, values in found.items()}
    assert as_pairs["result"] == [("refused", 50), ("accepted", 2)]
    assert as_pairs["reason"] == [("unknown_user", 40), ("wrong_password", 10), ("ok", 2)]
    assert as_pairs["ip"] == [("203.0.113.9", 51), ("192.0.2.7", 1)]
    assert as_pairs["network"] == [("203.0.113.0/24", 51), ("192.0.2.0/24", 1)]
    assert as_pairs["username_given"][0] == ("app.alice", 12)
    assert len(as_pairs["username_given"]) == 20
    assert as_pairs["mechanism"] == [("PLAIN", 51), ("LOGIN", 1)]
    assert as_pairs["tls_version"] == [("TLSv1.3", 51), ("TLSv1.2", 1)]


def test_facets_follow_the_filters(morning: None) -> None:
    """What is filtered out is not counted, and a quote in a filter is a value."""
    found = facets(since=NOON, until=LATER, filters=AuthFilters(result="accepted"), top=1)
    assert [(each.value, each.count) for each in found["ip"]] == [("192.0.2.7", 1)]
    assert facets(since=NOON, until=LATER, filters=AuthFilters(username="%s' OR '1'='1"))["ip"] == []


def test_facets_of_one_customer(morning: None) -> None:
    """Narrowed to bob's organization, alice's attempts do not count."""
    found = facets(2, since=NOON, until=LATER)
    assert [(each.value, each.count) for each in found["reason"]] == [("unknown_user", 40)]


def test_facets_of_more_than_a_month_are_refused() -> None:
    """No click reads the whole log."""
    with pytest.raises(RangeTooLong):
        facets(since=NOON - timedelta(days=32), until=NOON)


def test_the_story_of_an_address(morning: None) -> None:
    """How much, when, whose names, and that it got in after being refused."""
    story = story_of_ip("::ffff:203.0.113.9", since=NOON, until=LATER)
    assert (story.subject, story.count, story.accepted, story.refused, story.error) == ("203.0.113.9", 51, 1, 50, 0)
    assert (story.first_at, story.last_at) == (NOON, NOON + timedelta(minutes=5))
    assert story.accepted_after_refusals
    assert (story.usernames_total, story.ips_total, story.organization_ids) == (41, 1, [1, 2])
    assert (story.usernames[0].value, story.usernames[0].count, story.usernames[0].accepted) == ("app.alice", 11, 1)
    assert len(story.usernames) == 20
    assert story.client_names[0].value == "[evil]"
    assert story.latest[0].reason == "ok"


def test_the_story_of_a_username(morning: None) -> None:
    """One name from two addresses, whatever its case."""
    story = story_of_username("App.Alice", since=NOON, until=LATER)
    assert [(share.value, share.count) for share in story.ips] == [("203.0.113.9", 11), ("192.0.2.7", 1)]
    assert [share.value for share in story.reasons] == ["wrong_password", "ok"]
    assert (story.count, story.ips_total, story.organization_ids) == (12, 2, [1])


def test_a_success_before_the_refusals_is_no_guessing(make_event: MakeEvent) -> None:
    """Only what came after a refusal counts as got in."""
    make_event(at=NOON, result="accepted", reason="ok")
    make_event(at=NOON + timedelta(minutes=1))
    assert not story_of_username("app.alice", since=NOON, until=LATER).accepted_after_refusals


def test_the_story_of_one_who_did_nothing_is_empty() -> None:
    """A name that was never tried has a story of zeros."""
    story = story_of_username("nobody", since=NOON, until=LATER)
    assert (story.count, story.first_at, story.latest, story.usernames) == (0, None, [], [])


def test_a_story_is_of_the_last_seven_days(make_event: MakeEvent) -> None:
    """Without a stretch given, older events are left out."""
    make_event(at=NOON - timedelta(days=8))
    make_event(at=NOON - timedelta(days=6))
    assert story_of_ip("192.0.2.7", until=NOON).count == 1


def test_a_story_of_no_address_is_refused() -> None:
    """Nonsense is an error for the view to show."""
    with pytest.raises(ValueError, match="does not appear"):
        story_of_ip("x")
