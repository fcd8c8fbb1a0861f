"""Pages of one app password: replaced, ended early, woken; the policy; and where found secrets are reported."""

import re
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.core.cache import cache
from django.test import Client
from django.utils import timezone

from accounts.models import Membership, Organization, Role, User
from audit.changes import SYSTEM
from audit.models import AuthEvent
from relay import leaks
from relay.credentials import create_app_password, create_smtp_user
from relay.models import AppPassword, LeakReport, SmtpUser
from relay.password_life import rotate_app_password
from relay.password_policy import Policy, policy_of, set_policy
from tests.relay.views.conftest import Attempts

SECRET = re.compile(r"gp_[0-9A-Za-z]{28}")
DAY = timedelta(days=1)


@pytest.fixture
def old(shop: SmtpUser) -> AppPassword:
    return create_app_password(shop, name="web-1", actor=SYSTEM).app_password


def url_of(password: AppPassword, what: str = "") -> str:
    return f"/smtp-users/{password.smtp_user_id}/app-passwords/{password.pk}/{what}"


def replaced(client: Client, old: AppPassword, **fields: str) -> str:
    """The page that answers the form."""
    url = url_of(old, "replace/")
    token = client.get(url).context["token"]
    return client.post(url, {"name": "web-2", "overlap": "7", "token": token} | fields).content.decode()


def test_replacing_shows_the_new_secret_once(alice_client: Client, old: AppPassword) -> None:
    """With the day on which the old one ends; sent again, the form makes nothing more."""
    url = url_of(old, "replace/")
    fields = {"name": "web-2", "overlap": "7", "token": alice_client.get(url).context["token"]}
    answer = alice_client.post(url, fields)
    page = answer.content.decode()
    old.refresh_from_db()
    assert old.expires_at is not None
    assert SECRET.search(page) and f"{old.expires_at:%Y-%m-%d}" in page
    assert answer["Cache-Control"] == "no-store"
    assert alice_client.post(url, fields).status_code == 302
    assert AppPassword.objects.count() == 2


def test_an_end_of_ones_own(alice_client: Client, old: AppPassword) -> None:
    """To the minute; without one, or with one in the past, the form says so and nothing is made."""
    moment = (timezone.now() + 3 * DAY).replace(second=0, microsecond=0)
    assert "Say when" in replaced(alice_client, old, overlap="other")
    assert "in the past" in replaced(alice_client, old, overlap="other", ends_at="2020-01-01T00:00")
    assert AppPassword.objects.count() == 1
    replaced(alice_client, old, overlap="other", ends_at=f"{moment:%Y-%m-%dT%H:%M}")
    old.refresh_from_db()
    assert old.expires_at == moment


def test_the_page_shows_who_still_uses_the_old_one(
    alice_client: Client, old: AppPassword, shop: SmtpUser, attempted: Attempts
) -> None:
    """Addresses and clients since the rotation, with a link to their sign-ins; what was before does not count."""
    attempted(ip="192.0.2.66", smtp_user=shop, app_password_id=old.pk, at=timezone.now() - DAY)
    rotate_app_password(old, name="web-2", ends_at=timezone.now() + 7 * DAY, actor=SYSTEM)
    attempted(ip="192.0.2.77", smtp_user=shop, app_password_id=old.pk)
    AuthEvent.objects.update(client_name="<b>still</b>.example")
    page = alice_client.get(url_of(old)).content.decode()
    assert "192.0.2.77" in page and "&lt;b&gt;still&lt;/b&gt;.example" in page
    assert "192.0.2.66" not in page and "<b>still" not in page
    assert "“web-2” takes over" in page


def test_one_click_ends_the_old_one(alice_client: Client, old: AppPassword) -> None:
    """A POST beside the list of who uses it, without a further question."""
    rotate_app_password(old, name="web-2", ends_at=timezone.now() + 7 * DAY, actor=SYSTEM)
    answer = alice_client.post(url_of(old, "end/"), follow=True)
    old.refresh_from_db()
    assert old.revoked_because == "replaced"
    assert "has ended" in answer.content.decode()
    assert alice_client.get(url_of(old, "end/")).status_code == 405


def test_what_nothing_takes_over_from_is_not_ended_by_a_click(alice_client: Client, old: AppPassword) -> None:
    """A forged or stale form revokes no working password."""
    answer = alice_client.post(url_of(old, "end/"), follow=True)
    old.refresh_from_db()
    assert old.revoked_at is None and "Nothing takes over" in answer.content.decode()


def test_waking_asks_for_the_second_factor(alice: User, old: AppPassword, client_for: Callable[..., Client]) -> None:
    """Without a recent one it leads to the check; with it, the same secret works again."""
    AppPassword.objects.update(slept_at=timezone.now())
    stale = client_for(alice, recent=False)
    assert "confirm-identity" in stale.post(url_of(old, "wake/"))["Location"]
    old.refresh_from_db()
    assert old.slept_at is not None
    fresh = client_for(alice)
    assert "Wake it" in fresh.get(url_of(old, "wake/")).content.decode()
    fresh.post(url_of(old, "wake/"))
    old.refresh_from_db()
    assert old.slept_at is None and old.woken_at is not None


@pytest.mark.parametrize("what", ["replace/", "end/", "wake/"])
def test_a_viewer_changes_nothing(vera_client: Client, old: AppPassword, what: str) -> None:
    """She sees the page without its buttons."""
    assert vera_client.post(url_of(old, what)).status_code == 403
    page = vera_client.get(url_of(old)).content.decode()
    assert "/replace/" not in page and "/revoke/" not in page


@pytest.mark.parametrize("what", ["", "replace/", "end/", "wake/"])
def test_of_another_organization_it_is_404(bob_client: Client, old: AppPassword, what: str) -> None:
    """As if it were not there."""
    assert bob_client.post(url_of(old, what)).status_code == 404


def test_of_another_smtp_user_it_is_404(alice_client: Client, old: AppPassword, alice_org: Organization) -> None:
    """Both ids in the address must belong together."""
    other = create_smtp_user(alice_org, name="other", excess="refuse", actor=SYSTEM)
    assert alice_client.get(f"/smtp-users/{other.pk}/app-passwords/{old.pk}/").status_code == 404


def test_states_are_told_apart(alice_client: Client, shop: SmtpUser) -> None:
    """Asleep, a canary, ending, revoked as leaked: each in its own word."""
    for name in ("sleeper", "found", "turned"):
        create_app_password(shop, name=name, actor=SYSTEM)
    create_app_password(shop, name="wiki", kind="canary", actor=SYSTEM)
    AppPassword.objects.filter(name="sleeper").update(slept_at=timezone.now())
    AppPassword.objects.filter(name="found").update(revoked_at=timezone.now(), revoked_because="leaked")
    rotate_app_password(AppPassword.objects.get(name="turned"), ends_at=timezone.now() + DAY, actor=SYSTEM)
    page = alice_client.get(f"/smtp-users/{shop.pk}/").content.decode()
    for word in ("Asleep", "Canary", "Ending", "leaked"):
        assert word in page, word
    for password in AppPassword.objects.all():
        assert alice_client.get(url_of(password)).status_code == 200


def test_the_form_offers_what_the_policy_allows(alice_client: Client, shop: SmtpUser) -> None:
    """No "never", nothing longer, its most as the default, and the rule in words; more is refused by the form."""
    set_policy(shop.organization, policy=Policy(max_days=120), actor=SYSTEM)
    url = f"/smtp-users/{shop.pk}/app-passwords/new/"
    answer = alice_client.get(url)
    choices = [value for value, _words in answer.context["form"].fields["expires_in"].choices]
    assert choices == ["30", "90", "120"]
    assert "at most" in answer.content.decode()
    fields = {"name": "x", "kind": "app", "expires_in": "365", "token": answer.context["token"]}
    assert "error" in alice_client.post(url, fields).content.decode()
    assert not AppPassword.objects.exists()


def test_a_policy_is_previewed_and_then_set(alice_client: Client, old: AppPassword) -> None:
    """Which would get an end, and when; only the same number sent again sets it."""
    page = alice_client.post("/smtp-users/policy/", {"max_days": "90"}).content.decode()
    assert "web-1" in page and "1 app password would get an end" in page
    old.refresh_from_db()
    assert old.expires_at is None and policy_of(old.smtp_user.organization_id).max_days is None
    alice_client.post("/smtp-users/policy/", {"max_days": "60", "confirmed": "90"})
    assert policy_of(old.smtp_user.organization_id).max_days is None
    alice_client.post("/smtp-users/policy/", {"max_days": "90", "confirmed": "90"})
    old.refresh_from_db()
    assert old.expires_at is not None and policy_of(old.smtp_user.organization_id).max_days == 90


def test_a_policy_that_makes_no_sense_is_shown_again(alice_client: Client, alice_org: Organization) -> None:
    """In the core's own words."""
    page = alice_client.post("/smtp-users/policy/", {"unused_notice_days": "60", "sleep_days": "30"}).content.decode()
    assert "The notice comes before the sleep" in page


def test_owners_alone_set_the_policy(alice_org: Organization, client_for: Callable[..., Client]) -> None:
    """A developer reads it on the page of SMTP users."""
    dora = User.objects.create_user("dora@alice.example", email_confirmed_at=timezone.now())
    Membership.objects.create(user=dora, organization=alice_org, role=Role.DEVELOPER)
    client = client_for(dora)
    assert client.get("/smtp-users/policy/").status_code == 403
    assert "Life of app passwords" in client.get("/smtp-users/").content.decode()


def test_a_stranger_pastes_a_found_secret(client: Client, shop: SmtpUser) -> None:
    """The answer is that of any text; the sweep ends it."""
    secret = create_app_password(shop, name="web-1", actor=SYSTEM).secret
    pages = []
    for text in (f"PASSWORD='{secret}'", "PASSWORD='hello'"):
        page = client.post("/leaks/", {"text": text, "found_at": "a wiki"}).content.decode()
        pages.append(re.sub(r'name="csrfmiddlewaretoken" value="[^"]*"', "", page))
        assert secret not in page
    assert pages[0] == pages[1] and "Received" in pages[0]
    leaks.handle_waiting()
    assert AppPassword.objects.get().revoked_because == "leaked"
    assert LeakReport.objects.order_by("pk")[0].found_at == "a wiki"


def test_a_member_is_told_at_once(alice_client: Client, vera_client: Client, shop: SmtpUser) -> None:
    """Who may change SMTP users hears that it is revoked; a viewer no more than a stranger."""
    first, second = (create_app_password(shop, name=name, actor=SYSTEM).secret for name in ("a", "b"))
    assert "It was yours, and it is revoked" in alice_client.post("/leaks/", {"text": first}).content.decode()
    page = vera_client.post("/leaks/", {"text": second}).content.decode()
    assert "Received" in page and "yours" not in page


def test_the_page_is_for_everybody_within_bounds(client: Client, db: None) -> None:
    """Nothing, NUL, and too much are told in words; one address sends sixty forms an hour."""
    cache.clear()
    assert client.get("/leaks/").status_code == 200
    for text in ("", " \n ", "\0", "x" * 20_001):
        assert "Received" not in client.post("/leaks/", {"text": text}).content.decode()
    assert not LeakReport.objects.exists()
    codes = {client.post("/leaks/", {"text": "x"}).status_code for _each in range(leaks.REPORTS_AN_HOUR)}
    assert codes == {200, 429}
