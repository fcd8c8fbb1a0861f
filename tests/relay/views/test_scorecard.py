"""relay.views.scorecard: thirteen rows with state, evidence and a link, for customers and for operators; quickly."""

import time
from collections.abc import Callable
from datetime import timedelta

from django.test import Client
from django.utils import timezone

from accounts.models import Organization, User
from audit.changes import SYSTEM
from audit.models import LoginDay
from relay.credentials import create_app_password, create_smtp_user
from relay.models import SmtpUser
from relay.scorecard.customers import customer_scorecard
from relay.scorecard.installation import installation_scorecard
from tests.relay.views.test_network_lists import text


def test_thirteen_rows_each_with_its_state(alice_client: Client, shop: SmtpUser) -> None:
    """None is shown as fulfilled without evidence, and the sums at the head are those of the rows."""
    response = alice_client.get("/scorecard/")
    rows, counts = response.context["rows"], response.context["counts"]
    assert len(rows) == counts.fulfilled + counts.missed + counts.unmeasured == 13
    page = text(response)
    assert page.count("Not measured</span>") == counts.unmeasured > 3
    assert page.count(">Fulfilled</span>") == counts.fulfilled
    assert "Members without a second factor: 1 of 1 (alice@alice.example)." in page
    assert all(row.evidence for row in rows)


def test_every_fix_leads_to_a_page(alice_client: Client, shop: SmtpUser) -> None:
    """The links of all rows open."""
    for row in alice_client.get("/scorecard/").context["rows"]:
        if row.fix:
            from django.urls import reverse

            assert alice_client.get(reverse(row.fix.url_name)).status_code == 200


def test_the_operators_card(carol: User, client_for: Callable[..., Client], shop: SmtpUser) -> None:
    """Of the whole installation, with links of the operator's own half."""
    response = client_for(carol).get("/ops/scorecard/")
    assert len(response.context["rows"]) == 13
    assert "Operators with a second factor: 1 of 1." in text(response)
    assert 'href="/ops/customers/"' in text(response)


def test_a_card_takes_less_than_a_tenth_of_a_second(alice_org: Organization) -> None:
    """With a month of sums of fifty SMTP users from four addresses each; of our own processor, whatever runs beside."""
    today = timezone.now()
    for number in range(50):
        user = create_smtp_user(alice_org, name=f"app-{number}", excess="hold", actor=SYSTEM)
        password = create_app_password(user, name="x", actor=SYSTEM).app_password
        LoginDay.objects.bulk_create(
            LoginDay(
                day=(today - timedelta(days=day)).date(), organization_id=alice_org.pk, smtp_user_id=user.pk,
                app_password_id=password.pk, ip=f"192.0.2.{host}", mechanism="PLAIN", tls_version="TLSv1.3", count=9,
                first_at=today, last_at=today,
            )
            for day in range(30) for host in range(4)
        )  # fmt: skip
    for card in (lambda: customer_scorecard(alice_org), installation_scorecard):
        took = []
        for _turn in range(5):
            started = time.process_time()
            card()
            took.append(time.process_time() - started)
        assert min(took) < 0.1, took
