"""Which events are written, when, for whom; and that nobody else pays for them."""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.models import Organization
from audit.anomalies.cases import raise_alert
from audit.anomalies.models import Anomaly, Kind, Severity
from audit.changes import SYSTEM
from audit.marks import mark_of, set_mark
from audit.models import AuthEvent, Reason, Result
from audit.record import attempt, record_auth_event
from relay import alerts
from relay.credentials import create_smtp_user
from relay.models import LimitWindow, SmtpUser
from relay.smtp import replies
from relay.webhooks import interest, limits, outbox, sweeps
from relay.webhooks.endpoints import create_endpoint, disable_endpoint
from relay.webhooks.kinds import Event
from relay.webhooks.models import Delivery, Endpoint
from relay.webhooks.sweeps import MOST
from tests.relay.conftest import make_message, make_refusal

pytestmark = pytest.mark.django_db


def hears(organization: Organization, *events: str, **values: Any) -> Endpoint:
    """An endpoint from before the test's events."""
    url = "https://hooks.alice.example/"
    row = create_endpoint(organization, url=url, events=events or Event.values, actor=SYSTEM, **values).endpoint
    Endpoint.objects.filter(pk=row.pk).update(enabled_at=timezone.now() - timedelta(hours=2))
    interest.forget()
    return row


def told(event: str, endpoint: Endpoint | None = None) -> list[dict[str, Any]]:
    found = Delivery.objects.filter(type=event).order_by("pk")
    return [each.data for each in (found.filter(endpoint=endpoint) if endpoint else found)]


# --- accepted --------------------------------------------------------------------------------------------------------


def test_accepted_is_told_once_of_each_message(alice_org: Organization, bob_org: Organization, shop: SmtpUser) -> None:
    """Within the next look; what was committed late by the look that stays behind; bob hears nothing of it."""
    row = hears(alice_org, "accepted")
    hears(bob_org, "delivered")
    now = timezone.now()
    first = make_message(alice_org, smtp_user=shop, recipients=("a@example.net", "b@example.net"), received_at=now)
    assert sweeps.find_accepted(now + timedelta(seconds=1)) == 1
    assert sweeps.find_accepted(now + timedelta(seconds=2)) == 0
    (data,) = told("accepted", row)
    assert data == {
        "message_id": str(first.id), "reference": first.reference, "header_message_id": "<1@alice.example>",
        "smtp_user": "shop.alice-works", "sender": "app@alice.example", "size_octets": first.size_octets,
        "recipient_count": 2, "recipients": ["a@example.net", "b@example.net"], "state": "queued",
    }  # fmt: skip
    late = make_message(alice_org, received_at=now - timedelta(minutes=5), state="held")
    assert sweeps.find_accepted(now + timedelta(seconds=3)) == 0  # the sure look is not due again
    assert mark_of(sweeps.MARK_SURE) is not None
    make_message(bob_org)
    set_mark(sweeps.MARK_SURE, now - timedelta(minutes=10))  # as if the sure look had not come so far yet
    assert sweeps.find_accepted(now + timedelta(seconds=4)) == 1
    assert told("accepted", row)[-1]["reference"] == late.reference
    assert told("accepted", row)[-1]["state"] == "held"
    assert Delivery.objects.count() == 2


def test_the_sure_look_stays_behind_every_accept(alice_org: Organization) -> None:
    """Three minutes, which no accept takes; what an endpoint did not live to see is not told."""
    row = hears(alice_org, "accepted")
    now = timezone.now()
    sweeps.find_accepted(now)
    mark = mark_of(sweeps.MARK_SURE)
    assert mark is not None
    assert mark <= now - timedelta(minutes=2, seconds=50)
    Endpoint.objects.filter(pk=row.pk).update(enabled_at=now)
    make_message(alice_org, received_at=now - timedelta(seconds=1))
    assert sweeps.find_accepted(now + timedelta(seconds=1)) == 0


def test_only_some_smtp_users(alice_org: Organization, shop: SmtpUser) -> None:
    """An endpoint that names SMTP users hears of their mail alone."""
    other = create_smtp_user(alice_org, name="crm", excess="refuse", actor=SYSTEM)
    row = hears(alice_org, "accepted", smtp_user_ids=[other.pk])
    everything = hears(alice_org, "accepted")
    for user in (shop, other, None):
        make_message(alice_org, smtp_user=user)
    sweeps.find_accepted(timezone.now() + timedelta(seconds=1))
    assert [each["smtp_user"] for each in told("accepted", row)] == ["crm.alice-works"]
    assert len(told("accepted", everything)) == 3
    assert Delivery.objects.values("event_id").distinct().count() == 3  # the same event has the same id everywhere


# --- auth.failed -----------------------------------------------------------------------------------------------------


def refuse(organization: Organization, user: SmtpUser | None, ip: str = "192.0.2.7", **values: Any) -> None:
    words = {"result": Result.REFUSED, "reason": Reason.WRONG_PASSWORD, "port": 587, "worker": "test", "count": 1}
    words |= {"username_given": user.username if user else "typo.alice-works", "mechanism": "PLAIN", "ip": ip}
    record_auth_event(
        attempt(**{**words, "organization_id": organization.pk, "smtp_user_id": user.pk if user else None, **values})
    )


def test_a_flood_of_failures_is_one_event(alice_org: Organization, bob_org: Organization, shop: SmtpUser) -> None:
    """Of an SMTP user, an address and a minute, with the count; a million in a folded row too; successes are none."""
    row = hears(alice_org, "auth.failed")
    for _number in range(50):
        refuse(alice_org, shop)
    refuse(alice_org, shop, reason=Reason.NETWORK, count=1_000_000)
    refuse(alice_org, shop, ip="2001:db8::7")
    refuse(alice_org, None)
    refuse(alice_org, shop, result=Result.ACCEPTED, reason=Reason.OK)
    refuse(bob_org, None)
    stored = timezone.now().replace(second=0, microsecond=0) - timedelta(minutes=5)
    AuthEvent.objects.update(stored_at=stored + timedelta(seconds=10))
    assert sweeps.find_failed_sign_ins() == 3
    assert sweeps.find_failed_sign_ins() == 0
    most, *others = sorted(told("auth.failed", row), key=lambda each: -each["count"])
    assert (most["count"], most["smtp_user"], most["ip"]) == (1_000_050, "shop.alice-works", "192.0.2.7")
    assert most["reasons"] == ["network", "wrong_password"]
    assert {each["smtp_user"] for each in others} == {"shop.alice-works", "typo.alice-works"}


def test_failures_from_everywhere_are_few_events(alice_org: Organization, shop: SmtpUser) -> None:
    """Beyond the addresses with the most, one event for all the others of the minute together."""
    row = hears(alice_org, "auth.failed")
    for number in range(MOST + 30):
        refuse(alice_org, shop, ip=f"198.51.100.{number}", count=2)
    AuthEvent.objects.update(stored_at=timezone.now() - timedelta(minutes=5))
    assert sweeps.find_failed_sign_ins() == MOST + 1
    (rest,) = [each for each in told("auth.failed", row) if each["ip"] is None]
    assert (rest["addresses"], rest["count"]) == (30, 60)


# --- limits ----------------------------------------------------------------------------------------------------------


def use(owner: int, used: int, *, scope: int = 1) -> None:
    minute = int(timezone.now().timestamp() // 60)
    buckets = [0] * 61
    buckets[minute % 61] = used
    values = {"minute": minute, "buckets": buckets}
    LimitWindow.objects.update_or_create(scope=scope, owner_id=owner, ip=None, defaults=values)


def test_a_limit_is_told_at_80_90_and_100_once_a_window(alice_org: Organization, shop: SmtpUser) -> None:
    """Each level once in 60 minutes, a jump only by its highest; the words have limit, use and when there is room."""
    hears(alice_org, "limit.near", "limit.reached")
    limit = alice_org.subscription.plan.recipients_per_hour
    use(alice_org.pk, limit * 79 // 100)
    assert limits.look() == 0
    use(alice_org.pk, limit * 80 // 100)
    assert (limits.look(), limits.look()) == (1, 0)
    use(alice_org.pk, limit * 10 // 100)
    limits.look()
    use(alice_org.pk, limit * 85 // 100)
    assert limits.look() == 0
    use(alice_org.pk, limit * 90 // 100)
    assert limits.look() == 1
    use(alice_org.pk, limit)
    assert (limits.look(), limits.look()) == (1, 0)
    near = told("limit.near")
    assert [each["percent"] for each in near] == [80, 90]
    (reached,) = told("limit.reached")
    assert (reached["scope"], reached["limit"], reached["used"], reached["percent"]) == (
        "organization",
        limit,
        limit,
        100,
    )
    assert 3500 < reached["seconds_until_room"] <= 3660
    assert limits.look(timezone.now() + timedelta(minutes=59)) == 0
    use(alice_org.pk, limit)
    later = timezone.now() + timedelta(minutes=61)
    LimitWindow.objects.update(minute=int(later.timestamp() // 60))
    assert limits.look(later) == 1


def test_an_smtp_users_own_limit_and_a_refusal_that_says_full(alice_org: Organization, shop: SmtpUser) -> None:
    """Nine of ten used and a message of two was turned away: that is reached, for this SMTP user alone."""
    row = hears(alice_org, "limit.near", "limit.reached", smtp_user_ids=[shop.pk])
    SmtpUser.objects.filter(pk=shop.pk).update(recipients_per_hour=10)
    use(shop.pk, 9, scope=2)
    use(alice_org.pk, 1)
    assert limits.look() == 1
    make_refusal(shop, replies.OVER_LIMIT.filled(limit=10, whose=replies.whose(2), seconds=600))
    assert limits.look() == 1
    assert [each["smtp_user"] for each in told("limit.near", row)] == ["shop.alice-works"]
    assert [each["scope"] for each in told("limit.reached", row)] == ["smtp_user"]


# --- anomaly, suppressed ---------------------------------------------------------------------------------------------


def test_alerts_are_told_in_their_own_transaction(
    alice_org: Organization, bob_org: Organization, shop: SmtpUser
) -> None:
    """Opened and closed, with words; an operators' alert and another customer's are not."""
    row = hears(alice_org, "anomaly")
    values: Any = {"key": "network:x", "severity": Severity.WARNING, "evidence": {"ip": "192.0.2.7"}}
    for organization_id in (alice_org.pk, bob_org.pk, None):
        raise_alert(Kind.NETWORK, organization_id=organization_id, smtp_user_ids=[shop.pk], **values)
    alerts.this_was_me(Anomaly.objects.get(organization_id=alice_org.pk), actor=SYSTEM)
    opened, closed = told("anomaly", row)
    assert (opened["what"], opened["kind"], opened["severity"]) == ("opened", "network", "warning")
    assert opened["smtp_users"] == ["shop.alice-works"]
    assert opened["title"]
    assert opened["words"]
    assert (closed["what"], closed["alert_id"]) == ("closed", opened["alert_id"])
    assert Delivery.objects.count() == 2


def test_a_suppressed_address_is_told(alice_org: Organization, shop: SmtpUser) -> None:
    """With the message that bounced, and the words of who refused it, secrets taken out."""
    row = hears(alice_org, "suppressed", smtp_user_ids=[shop.pk])
    everything = hears(alice_org, "suppressed")
    message = make_message(alice_org, smtp_user=shop)
    outbox.suppressed(
        [
            outbox.Suppressed(alice_org.pk, "a@example.net", "bounce", "gp_0123456789 unknown", message.reference),
            outbox.Suppressed(alice_org.pk, "b@example.net", "added"),
        ]
    )
    (data,) = told("suppressed", row)
    assert (data["recipient"], data["source"], data["reference"]) == ("a@example.net", "bounce", message.reference)
    assert "0123456789" not in data["words"]
    assert len(told("suppressed", everything)) == 2


# --- who pays --------------------------------------------------------------------------------------------------------


def test_where_nobody_listens_nothing_is_asked(alice_org: Organization, shop: SmtpUser) -> None:
    """One look at who wants what, and then no statement; neither when what is listened to is something else, or was."""
    hears(alice_org, "suppressed")
    gone = hears(alice_org)
    disable_endpoint(gone, actor=SYSTEM)
    interest.forget()
    interest.current()
    make_message(alice_org)
    works: list[Callable[[], Any]] = [sweeps.find_accepted, sweeps.find_failed_sign_ins, limits.look]
    with CaptureQueriesContext(
        connection,
    ) as asked:
        for work in works:
            assert work() == 0
        raise_alert(
            Kind.NETWORK, organization_id=alice_org.pk, key="x", severity=Severity.NOTICE, evidence={"ip": "::1"}
        )
    assert not [each for each in asked.captured_queries if "webhook" in each["sql"]]
    assert not Delivery.objects.exists()


def test_hostile_words_stay_words(alice_org: Organization) -> None:
    """Markup, quotes and other scripts come through as they are."""
    hears(alice_org, "suppressed")
    nasty = "\"><script>alert(1)</script> \\ ' ü 日本 \u202e"
    outbox.suppressed([outbox.Suppressed(alice_org.pk, "x@example.net", "added", nasty)])
    assert told("suppressed")[0]["words"] == nasty
    assert json.loads(json.dumps(told("suppressed")[0]))["words"] == nasty
