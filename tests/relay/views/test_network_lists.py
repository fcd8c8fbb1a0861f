"""relay.views.network_lists: all lists in one place, and one list learned, edited, previewed and enforced."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from accounts.models import Organization, User
from audit.changes import SYSTEM
from audit.models import ChangeEvent
from relay.credentials import create_app_password, create_smtp_user, revoke_app_password
from relay.learning import start, stop
from relay.models import AppPassword, Network, NetworkLearning, SmtpUser
from relay.networks import Allowlist, add_network

ATTEMPTED = Callable[..., object]
DAY = timedelta(days=1)


@pytest.fixture
def password(shop: SmtpUser) -> AppPassword:
    return create_app_password(shop, name="web-1", actor=SYSTEM).app_password


@pytest.fixture
def in_use(shop: SmtpUser, password: AppPassword, attempted: ATTEMPTED) -> None:
    """Three addresses that make a range, one by itself, and one of three weeks ago."""
    now = timezone.now()
    for ip, count in (("192.0.2.4", 4000), ("192.0.2.5", 90), ("192.0.2.6", 9), ("198.51.100.7", 1)):
        attempted(ip=ip, smtp_user=shop, app_password_id=password.pk, count=count, at=now - DAY)
    attempted(ip="203.0.113.9", smtp_user=shop, app_password_id=password.pk, count=2, at=now - 20 * DAY)


def rows_of(*ranges: tuple[str, str]) -> dict[str, str]:
    """A formset as the page sends it, with one row more that is empty."""
    sent = {"range-TOTAL_FORMS": str(len(ranges) + 1), "range-INITIAL_FORMS": str(len(ranges)), "do": "save"}
    for number, (cidr, label) in enumerate([*ranges, ("", "")]):
        sent |= {f"range-{number}-keep": "on", f"range-{number}-cidr": cidr, f"range-{number}-label": label}
    return sent


def text(response: Any) -> str:
    return " ".join(response.content.decode().split())


def test_all_three_levels_are_in_one_place(
    alice_client: Client, alice_org: Organization, shop: SmtpUser, password: AppPassword
) -> None:
    """The organization's, each SMTP user's and each live app password's, in this order, with what each allows."""
    add_network(alice_org, cidr="192.0.2.0/24", label="Office", actor=SYSTEM)
    add_network(alice_org, cidr="192.0.2.7", smtp_user=shop, app_password=password, actor=SYSTEM)
    revoke_app_password(create_app_password(shop, name="gone", actor=SYSTEM).app_password, actor=SYSTEM)
    start(Allowlist(alice_org, shop), days=7, actor=SYSTEM)
    rows = alice_client.get("/networks/").context["rows"]
    assert [(str(row.owner), [network.cidr for network in row.networks]) for row in rows] == [
        ("Alice Works", ["192.0.2.0/24"]),
        ("shop.alice-works", []),
        ("shop.alice-works: web-1", ["192.0.2.7/32"]),
    ]
    assert [bool(row.learning) for row in rows] == [False, True, False]
    for row in rows:
        assert alice_client.get(row.url).status_code == 200


def test_learned_previewed_and_enforced(alice_client: Client, shop: SmtpUser, in_use: None) -> None:
    """From the first form to the enforced list, with the words that a customer reads on the way."""
    url = f"/networks/smtp-users/{shop.pk}/"
    alice_client.post(url, {"do": "start", "days": "7", "history_days": "7"})
    page = text(alice_client.get(url))
    assert "4,100 sign-ins from 4 addresses: 2 ranges are proposed." in page
    assert "3 of 4 addresses in use, 75 %" in page and "one address" in page
    assert "Of the last 30 days' 4,102 sign-ins, these <b>2</b> would have been refused:" in page
    assert "203.0.113.9" in page
    assert not Network.objects.exists()
    seen = alice_client.get(url).context["learning"].draft.digest
    alice_client.post(f"{url}enforce/", {"seen": seen})
    assert set(Network.objects.values_list("cidr", "smtp_user")) == {
        ("192.0.2.4/30", shop.pk), ("198.51.100.7/32", shop.pk),
    }  # fmt: skip
    assert ChangeEvent.objects.get(action="network_learning.enforced").actor == "alice@alice.example"


def test_edited_ranges_are_kept_and_previewed(alice_client: Client, shop: SmtpUser, in_use: None) -> None:
    """A row taken out, one widened, one added: the preview is of these, and so is what is enforced."""
    url = f"/networks/smtp-users/{shop.pk}/"
    alice_client.post(url, {"do": "start", "days": "7", "history_days": "7"})
    sent = rows_of(("192.0.2.0/28", "Office"), ("198.51.100.7/32", ""), ("203.0.113.0/24", "Old"))
    del sent["range-1-keep"]
    alice_client.post(url, sent)
    response = alice_client.get(url)
    draft = response.context["learning"].draft
    assert [(each.cidr, each.label) for each in draft.ranges] == [("192.0.2.0/28", "Office"), ("203.0.113.0/24", "Old")]
    assert "these <b>1</b> would have been refused" in text(response)
    alice_client.post(f"{url}enforce/", {"seen": draft.digest})
    assert set(Network.objects.values_list("cidr", "label")) == {("192.0.2.0/28", "Office"), ("203.0.113.0/24", "Old")}


@pytest.mark.parametrize(
    ("ranges", "words"),
    [
        ([("nonsense", "")], "is not an address or range"),
        ([("192.0.2.7/24", "")], "Did you mean 192.0.2.0/24?"),
        ([("0.0.0.0/0", "")], "allows every address"),
        ([("192.0.2.0/24", ""), ("192.0.2.7", "")], "overlap"),
        ([("192.0.2.7", "x" * 65)], "at most 64 characters"),
        ([("", "")], "Keep one range at least"),
        ([("192.0.2.7\0", "")], "Null characters are not allowed"),
        ([('<script>alert("x")</script>', "")], "&lt;script&gt;"),
    ],
)
def test_what_cannot_be_is_told_beside_what_was_typed(
    alice_client: Client, shop: SmtpUser, in_use: None, ranges: list[tuple[str, str]], words: str
) -> None:
    """422, with everything that was typed still there; nothing is saved."""
    url = f"/networks/smtp-users/{shop.pk}/"
    alice_client.post(url, {"do": "start", "days": "7", "history_days": "7"})
    response = alice_client.post(url, rows_of(*ranges))
    assert response.status_code == 422
    assert words in text(response) and "<script>alert" not in text(response)
    assert NetworkLearning.objects.get().draft is None


@pytest.mark.parametrize("total", ["1000000000", "-1", "", "x"])
def test_a_forged_number_of_rows_costs_nothing(alice_client: Client, shop: SmtpUser, in_use: None, total: str) -> None:
    """The page says so, and does not make a thousand million rows."""
    url = f"/networks/smtp-users/{shop.pk}/"
    alice_client.post(url, {"do": "start", "days": "7", "history_days": "7"})
    response = alice_client.post(url, rows_of(("192.0.2.7", "")) | {"range-TOTAL_FORMS": total})
    assert response.status_code == 422
    assert len(response.context["learning"].rows) <= 202


def test_enforcing_asks_who_is_there(
    alice: User, alice_org: Organization, shop: SmtpUser, in_use: None, client_for: Callable[..., Client]
) -> None:
    """Without a recent check it is not done; the edited ranges wait, and the way leads back to them."""
    client = client_for(alice, recent=False)
    url = f"/networks/smtp-users/{shop.pk}/"
    client.post(url, {"do": "start", "days": "7", "history_days": "7"})
    client.post(url, rows_of(("192.0.2.0/28", "Office")))
    seen = client.get(url).context["learning"].draft.digest
    response = client.post(f"{url}enforce/", {"seen": seen}, headers={"Referer": f"http://testserver{url}"})
    assert response.status_code == 302
    assert response.headers["Location"] == f"/account/confirm-identity/?next=http%3A//testserver{url}"
    assert not Network.objects.exists()
    assert [each.cidr for each in client.get(url).context["learning"].draft.ranges] == ["192.0.2.0/28"]


@pytest.mark.parametrize("seen", ["", "0" * 32, "\0"])
def test_what_was_not_seen_is_not_enforced(alice_client: Client, shop: SmtpUser, in_use: None, seen: str) -> None:
    """Of two people, the second one's edit is not enforced by the first one's click."""
    url = f"/networks/smtp-users/{shop.pk}/"
    alice_client.post(url, {"do": "start", "days": "7", "history_days": "7"})
    response = alice_client.post(f"{url}enforce/", {"seen": seen}, follow=True)
    assert "have changed since you looked" in text(response)
    assert not Network.objects.exists()


def test_ended_and_given_up(alice_client: Client, alice_org: Organization, shop: SmtpUser) -> None:
    """Ending keeps the proposal; giving up leaves the list as it was; without a learning both say so."""
    url = "/networks/organization/"
    alice_client.post(url, {"do": "start", "days": "7", "history_days": "0"})
    alice_client.post(url, {"do": "stop"})
    page = alice_client.get(url)
    assert page.context["learning"].over and "Nobody has signed in within this time yet" in text(page)
    alice_client.post(url, {"do": "give_up"})
    assert not NetworkLearning.objects.exists()
    for step in ("stop", "give_up", "save", "reset"):
        assert "This learning has ended." in text(alice_client.post(url, {"do": step}, follow=True))
    assert alice_client.post(url, {"do": "nonsense"}).status_code == 302


@pytest.mark.parametrize(
    ("sent", "status"),
    [({"days": "0", "history_days": "0"}, 422), ({"days": "30", "history_days": "30"}, 422),
     ({"days": "9", "history_days": "0"}, 422), ({}, 422), ({"days": "0", "history_days": "30"}, 302)],
)  # fmt: skip
def test_how_long_it_learns(alice_client: Client, sent: dict[str, str], status: int) -> None:
    """Not longer than the log is kept, and not from nothing."""
    assert alice_client.post("/networks/organization/", {"do": "start", **sent}).status_code == status
    assert NetworkLearning.objects.exists() == (status == 302)


def test_a_viewer_sees_and_changes_nothing(vera_client: Client, alice_org: Organization, shop: SmtpUser) -> None:
    """No form on the page, and 403 for who sends one all the same."""
    learning = start(Allowlist(alice_org), days=7, actor=SYSTEM)
    page = text(vera_client.get("/networks/organization/"))
    assert 'name="do"' not in page and "Enforce" not in page
    assert vera_client.post("/networks/organization/", {"do": "give_up"}).status_code == 403
    assert NetworkLearning.objects.filter(pk=learning.pk).exists()


def test_another_organization_finds_nothing(bob_client: Client, shop: SmtpUser, password: AppPassword) -> None:
    """404 for the lists of alice's SMTP user and app password, and none of them on bob's page."""
    for path in (f"smtp-users/{shop.pk}/", f"app-passwords/{password.pk}/"):
        assert bob_client.get(f"/networks/{path}").status_code == 404
        assert bob_client.post(f"/networks/{path}", {"do": "start"}).status_code == 404
        assert bob_client.post(f"/networks/{path}enforce/").status_code == 404
    assert bob_client.post(f"/networks/app-passwords/{password.pk}/add/", {"cidr": "192.0.2.7"}).status_code == 404
    assert "alice" not in bob_client.get("/networks/").content.decode()


def test_an_app_passwords_own_list(alice_client: Client, shop: SmtpUser, password: AppPassword, in_use: None) -> None:
    """Allowed by hand with the same warning, shown on its page, removed with the way back to it."""
    url = f"/networks/app-passwords/{password.pk}/"
    warned = alice_client.post(f"{url}add/", {"cidr": "192.0.2.0/24"})
    assert "198.51.100.7" in text(warned) and not Network.objects.exists()
    done = alice_client.post(f"{url}add/", dict(warned.context["question"].values))
    row = Network.objects.get()
    assert done.headers["Location"] == url
    assert (row.cidr, row.smtp_user, row.app_password) == ("192.0.2.0/24", shop, password)
    assert alice_client.post(f"{url}add/", {"cidr": "nonsense"}).status_code == 422
    assert alice_client.post(f"/networks/{row.pk}/remove/").headers["Location"] == url


def test_the_way_back_is_to_where_the_form_stood(alice_client: Client, shop: SmtpUser) -> None:
    """The list's own page, or the SMTP user's; nothing else that `back` may say."""
    sent = {"cidr": "192.0.2.7", "back": "list"}
    where = alice_client.post(f"/smtp-users/{shop.pk}/networks/add/", sent).headers["Location"]
    assert where == f"/networks/smtp-users/{shop.pk}/"
    sent = {"cidr": "192.0.2.8", "back": "https://evil.example/"}
    where = alice_client.post(f"/smtp-users/{shop.pk}/networks/add/", sent).headers["Location"]
    assert where == f"/smtp-users/{shop.pk}/#networks"


@pytest.mark.parametrize("level", ["organization", "smtp_user", "app_password"])
def test_a_mistake_is_shown_where_the_form_stood(
    alice_client: Client, shop: SmtpUser, password: AppPassword, level: str
) -> None:
    """On the list's own page, with what was typed."""
    url = {
        "organization": "/networks/add/",
        "smtp_user": f"/smtp-users/{shop.pk}/networks/add/",
        "app_password": f"/networks/app-passwords/{password.pk}/add/",
    }[level]
    response = alice_client.post(url, {"cidr": "192.0.2.7/24", "back": "list"})
    assert response.status_code == 422
    assert response.context["owner"].level == level
    assert "Did you mean 192.0.2.0/24?" in text(response) and "192.0.2.7/24" in text(response)


def test_a_learning_that_is_over_is_told(alice_client: Client, alice_org: Organization) -> None:
    """On the list of lists and on the Overview; not while it records."""
    learning = start(Allowlist(alice_org), days=7, actor=SYSTEM)
    assert "look at the proposal" not in text(alice_client.get("/"))
    stop(learning, actor=SYSTEM)
    assert "Proposal ready" in text(alice_client.get("/networks/"))
    overview = text(alice_client.get("/"))
    assert "The networks of Alice Works are learned: look at the proposal." in overview
    assert 'href="/networks/organization/#learning"' in overview


def test_many_lists_are_few_queries(
    alice_client: Client, alice_org: Organization, django_assert_max_num_queries: Any
) -> None:
    """However many SMTP users and app passwords there are."""
    for number in range(12):
        user = create_smtp_user(alice_org, name=f"app-{number}", excess="hold", actor=SYSTEM)
        create_app_password(user, name="x", actor=SYSTEM)
    with django_assert_max_num_queries(20):
        assert len(alice_client.get("/networks/").context["rows"]) == 25
