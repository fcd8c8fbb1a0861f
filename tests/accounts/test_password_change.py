"""Changing one's own password, freely or because its time is over."""

from datetime import timedelta
from typing import Any

from django.urls import reverse
from django.utils import timezone

from accounts import passwords
from accounts.models import Organization, PasswordHistory, User
from audit.changes import SYSTEM
from audit.models import ChangeEvent
from tests.conftest import PASSWORD, make_organization

URL = "/account/password/"
NEW = "tundra-Violin-83-mosaic"


def test_changes_it_and_signs_out_the_others(alice: User, alice_org: Any, client_for: Any) -> None:
    """This session goes on, the other one ends, the old hash is kept, the change is recorded."""
    here, elsewhere = client_for(alice), client_for(alice)
    response = here.post(URL, {"old_password": PASSWORD, "password": NEW})
    assert response.headers["Location"] == reverse("accounts:security")
    alice.refresh_from_db()
    assert alice.check_password(NEW)
    assert here.get(reverse("accounts:security")).status_code == 200
    assert elsewhere.get(reverse("accounts:security")).status_code == 302
    assert PasswordHistory.objects.filter(user=alice).count() == 1
    recorded = ChangeEvent.objects.get(organization_id=alice_org.pk, action="password.changed")
    assert NEW not in str(recorded.values)


def test_the_present_password_is_asked_for(alice: User, client_for: Any) -> None:
    """Wrong ones count like wrong sign-ins."""
    client = client_for(alice)
    answers = [client.post(URL, {"old_password": "wrong-Password-99", "password": NEW}).status_code for _ in range(5)]
    assert answers == [200, 200, 200, 200, 429]
    alice.refresh_from_db()
    assert alice.check_password(PASSWORD)


def test_the_same_one_is_no_change(alice: User, client_for: Any) -> None:
    """Else a forced change would force nothing."""
    page = client_for(alice).post(URL, {"old_password": PASSWORD, "password": PASSWORD}).content.decode()
    assert "another password" in page


def test_an_old_password_must_be_changed_first(alice: User, alice_org: Organization, client_for: Any) -> None:
    """Every page leads here until it is done; then the page opens that was asked for."""
    Organization.objects.filter(pk=alice_org.pk).update(password_max_age_days=90)
    client = client_for(alice)
    assert client.get(reverse("accounts:security")).status_code == 200
    User.objects.filter(pk=alice.pk).update(password_changed_at=timezone.now() - timedelta(days=90, minutes=1))
    asked = client.get(reverse("accounts:security")).headers["Location"]
    assert asked == f"{URL}?next=/account/security/"
    assert "every 90 days" in client.get(asked).content.decode()
    done = client.post(URL, {"old_password": PASSWORD, "password": NEW, "next": "/account/security/"})
    assert done.headers["Location"] == "/account/security/"
    assert client.get(reverse("accounts:security")).status_code == 200


def test_the_strictest_of_several_organizations_counts(alice: User, alice_org: Organization, client_for: Any) -> None:
    """Whichever organization is shown at the moment."""
    second = make_organization("Second", "second", alice)
    Organization.objects.filter(pk=alice_org.pk).update(password_max_age_days=365)
    Organization.objects.filter(pk=second.pk).update(password_max_age_days=10)
    User.objects.filter(pk=alice.pk).update(password_changed_at=timezone.now() - timedelta(days=11))
    assert client_for(alice).get(reverse("accounts:security")).headers["Location"].startswith(URL)


def test_no_more_than_24_old_hashes_are_kept(alice: User) -> None:
    """The oldest go."""
    for number in range(passwords.KEPT + 3):
        passwords.change_password(alice, password=f"{NEW}-{number}", actor=SYSTEM)
    assert PasswordHistory.objects.filter(user=alice).count() == passwords.KEPT
