"""The story of a username and of an IP address."""

import csv
import io
from datetime import timedelta

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.models import Organization
from relay.ops.stories import HEIGHT, Hour, chart_of
from tests.relay.ops.builders import make_event, make_smtp_user

USERNAME, IP = "/ops/auth/username/", "/ops/auth/ip/"


def test_story_of_a_username(alice_org: Organization, operator: Client) -> None:
    """First and last seen, results by reason, the addresses, the customer, and whose SMTP user it is."""
    user = make_smtp_user(alice_org)
    mine = {"username_given": user.username, "organization_id": alice_org.pk}
    first = make_event(ago=timedelta(days=2), ip="198.51.100.4", reason="wrong_password", count=3, **mine)
    last = make_event(ago=timedelta(hours=1), ip="203.0.113.5", result="accepted", reason="ok", **mine)
    make_event(username_given="another.name")
    response = operator.get(reverse("relay:ops_username"), {"name": user.username})
    story = response.context["story"]
    assert (story.first_at, story.last_at) == (first.at, last.at)
    assert (story.count, story.accepted, story.refused) == (4, 1, 3)
    assert {value.value for value in story.ips} == {"198.51.100.4", "203.0.113.5"}
    assert response.context["organizations"] == [alice_org]
    assert response.context["smtp_user"] == user
    assert "somebody guessed, or corrected the settings" in response.content.decode()
    assert len(response.context["chart"].bars) == 2


def test_reasons_lead_to_their_rows(alice_org: Organization, operator: Client) -> None:
    """Each reason's number is the number of attempts in the list that it links to."""
    make_event(reason="wrong_password", count=3)
    make_event(reason="throttled")
    response = operator.get(USERNAME, {"name": "guess.nobody"})
    found = {str(label): (count, address) for label, count, address in response.context["reasons"]}
    count, address = found["The app password is wrong"]
    assert count == operator.get(address).context["total"] == 3


def test_story_of_an_ip(alice_org: Organization, bob_org: Organization, operator: Client) -> None:
    """Every username that an address tried, every customer that it touched, and its neighbourhood."""
    make_event(username_given="app.alice-works", organization_id=alice_org.pk)
    make_event(username_given="app.bob", organization_id=bob_org.pk)
    make_event(username_given="admin")
    make_event(ip="198.51.100.1")
    response = operator.get(reverse("relay:ops_ip"), {"ip": "::ffff:203.0.113.9"})
    assert {value.value for value in response.context["story"].usernames} == {"app.alice-works", "app.bob", "admin"}
    assert [each.name for each in response.context["organizations"]] == ["Alice Works", "Bob Ltd"]
    assert response.context["network"] == "203.0.113.0/24"


def test_period_bounds_the_story(db: None, operator: Client) -> None:
    """Without a period the last 7 days are told; a longer one tells more."""
    make_event(ago=timedelta(days=10))
    assert operator.get(IP, {"ip": "203.0.113.9"}).context["story"].count == 0
    assert b"Nothing in this period" in operator.get(IP, {"ip": "203.0.113.9"}).content
    assert operator.get(IP, {"ip": "203.0.113.9", "period": "30d"}).context["story"].count == 1


@pytest.mark.parametrize("address", [IP, f"{IP}?ip=nonsense", f"{IP}?ip=10.0.0.0/8", USERNAME, f"{USERNAME}?name=%00"])
def test_story_of_nothing_is_404(address: str, operator: Client) -> None:
    """Without a name, or with an address that is none, there is no story."""
    assert operator.get(address).status_code == 404


def test_name_that_nobody_has(db: None, operator: Client) -> None:
    """A guessed name has a story too, which says that it belongs to nobody."""
    make_event(username_given="root")
    assert b"No SMTP user has this name" in operator.get(USERNAME, {"name": "root"}).content


@pytest.mark.parametrize(("address", "query"), [(USERNAME, {"name": "root"}), (IP, {"ip": "203.0.113.9"})])
def test_csv(address: str, query: dict[str, str], db: None, operator: Client) -> None:
    """The CSV has the story's rows and no others."""
    made = make_event(username_given="root")
    make_event(username_given="other", ip="198.51.100.1")
    response = operator.get(address, {**query, "format": "csv"})
    assert [row["reference"] for row in csv.DictReader(io.StringIO(response.content.decode()))] == [made.reference]


def test_bars_stand_at_their_hours() -> None:
    """The bars of a chart start at the period's first hour, fill the height at most, and never vanish beside a peak."""
    now = timezone.now().replace(minute=30, second=0, microsecond=0)
    hour = now.replace(minute=0)
    hours = [Hour(hour - timedelta(hours=2), 0, 1), Hour(hour, 1, 1000)]
    chart = chart_of(hours, since=now - timedelta(hours=24), now=now)
    assert [bar.x for bar in chart.bars] == [22 * 6, 24 * 6]
    assert chart.width == 25 * 6
    assert chart.peak == 1001
    for bar in chart.bars:
        assert bar.refused_y >= 0
        assert bar.refused_y + bar.refused_height == bar.accepted_y
        assert bar.accepted_y + bar.accepted_height == HEIGHT
        assert bar.refused_height >= 2
