"""relay.oauth.verify: access tokens that Gatepost issued."""

from datetime import timedelta

from django.conf import settings
from django.db import connection, transaction

from accounts.models import Organization
from audit.changes import SYSTEM
from audit.models import Reason
from relay.credentials import create_smtp_user, disable_smtp_user
from relay.models import SmtpUser
from relay.networks import add_network
from relay.oauth.models import OAuthAccessToken
from relay.oauth.verify import Refused, Verified
from tests.relay.oauth.conftest import make_token, verdict


def test_a_token_signs_in_its_smtp_user(mail_user: SmtpUser) -> None:
    """With its username in any case, with @hostname, and without one."""
    token = make_token(mail_user)
    long = f"mail.alice-works@{settings.GATEPOST_HOSTNAME}"
    for username in (None, "", "mail.alice-works", "Mail.ALICE-works", long):
        found = verdict(token, username=username)
        assert isinstance(found, Verified), found
        assert (found.smtp_user_id, found.organization_id) == (mail_user.pk, mail_user.organization_id)
        assert found.by.startswith("client:")


def test_nothing_at_rest_gives_the_token_back(mail_user: SmtpUser) -> None:
    """Its text is in no column of any table of ours."""
    token = make_token(mail_user)
    row = OAuthAccessToken.objects.get()
    assert row.token == ""
    with connection.cursor() as cursor:
        cursor.execute("SELECT oauth_access_token::text FROM oauth_access_token")
        assert token[4:] not in str(cursor.fetchall())


def test_it_is_found_by_one_indexed_read(mail_user: SmtpUser) -> None:
    """However many tokens there are."""
    from relay.oauth.verify import READ_OWN

    make_token(mail_user)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute("EXPLAIN " + READ_OWN, ["x"])
        plan = str(cursor.fetchall())
    assert "oauth_access_token_token_checksum" in plan
    assert "Seq Scan on oauth_access_token" not in plan


def test_an_unknown_token_is_refused(mail_user: SmtpUser) -> None:
    """One letter off, empty, or from somewhere else."""
    token = make_token(mail_user)
    other = token[:-1] + ("a" if token[-1] != "a" else "b")
    for wrong in (other, "gpo_", "", "x", "gp_" + token[4:], "a.b.c", token + "\0", "gpo_\udcff"):
        found = verdict(wrong)
        assert isinstance(found, Refused)
        assert found.reason is Reason.BAD_TOKEN


def test_an_expired_token_is_refused(mail_user: SmtpUser) -> None:
    """Its hour is over; whose it was is recorded."""
    found = verdict(make_token(mail_user, life=timedelta(seconds=-1)))
    assert found == Refused(Reason.TOKEN_EXPIRED, mail_user.organization_id, mail_user.pk)


def test_a_token_without_the_scope_is_refused(mail_user: SmtpUser) -> None:
    """Whatever else it may."""
    found = verdict(make_token(mail_user, scope="smtp.sender other"))
    assert isinstance(found, Refused)
    assert found.reason is Reason.BAD_TOKEN


def test_a_token_is_nobody_elses(mail_user: SmtpUser, alice_org: Organization, bob_org: Organization) -> None:
    """Named with another SMTP user of the same organization or another one, it is refused."""
    token = make_token(mail_user)
    for organization in (alice_org, bob_org):
        other = create_smtp_user(organization, name="other", excess="refuse", actor=SYSTEM)
        found = verdict(token, username=other.username)
        assert isinstance(found, Refused)
        assert (found.reason, found.smtp_user_id) == (Reason.TOKEN_OF_ANOTHER, other.pk)


def test_a_name_that_nobody_has_is_recorded_as_such(mail_user: SmtpUser, alice_org: Organization) -> None:
    """An unknown SMTP user, and a person."""
    token = make_token(mail_user)
    assert verdict(token, username="none.alice-works") == Refused(Reason.UNKNOWN_USER, alice_org.pk)
    assert verdict(token, username="alice@alice.example") == Refused(Reason.PANEL_PASSWORD)


def test_a_token_ends_with_its_smtp_user(mail_user: SmtpUser, alice_org: Organization) -> None:
    """Disabled, or the organization suspended."""
    token = make_token(mail_user)
    alice_org.state = Organization.State.SUSPENDED
    alice_org.save()
    found = verdict(token)
    assert isinstance(found, Refused)
    assert found.reason is Reason.ORGANIZATION_SUSPENDED
    disable_smtp_user(mail_user, actor=SYSTEM)
    found = verdict(token)
    assert isinstance(found, Refused)
    assert found.reason is Reason.USER_DISABLED


def test_the_networks_hold_for_tokens_too(mail_user: SmtpUser, alice_org: Organization) -> None:
    """Of the organization and of the SMTP user."""
    token = make_token(mail_user)
    add_network(alice_org, cidr="192.0.2.0/24", actor=SYSTEM, smtp_user=mail_user)
    assert isinstance(verdict(token, ip="192.0.2.9"), Verified)
    found = verdict(token, ip="198.51.100.1")
    assert isinstance(found, Refused)
    assert found.reason is Reason.NETWORK
