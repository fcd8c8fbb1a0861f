"""Webhooks for the pages to show: an endpoint that fails with all kinds of posts, one that was disabled, a good one."""

from datetime import timedelta
from typing import Any

from django.utils import timezone

from accounts.models import Organization
from audit.changes import SYSTEM
from relay.models import Message, SmtpUser
from relay.webhooks.endpoints import create_endpoint, rotate_secret
from relay.webhooks.kinds import Event
from relay.webhooks.models import Delivery, Endpoint

LONG = "donaudampfschifffahrtselektrizitaetenhauptbetriebswerkbauunterbe"
URL = f"https://{LONG[:50]}.example/a/long/way/in/{LONG}?token={LONG}"


def webhooks(full: Organization, smtp_user: SmtpUser) -> dict[str, Any]:
    """Nothing of it is due, so the running senders leave it alone."""
    now = timezone.now()
    values: dict[str, Any] = {"events": Event.values, "actor": SYSTEM}
    failing = create_endpoint(
        full, url=URL, description=f"Shop {LONG}{LONG}", smtp_user_ids=[smtp_user.pk], **values
    ).endpoint
    rotate_secret(failing, actor=SYSTEM)
    good = create_endpoint(full, url="https://hooks.full.example/in", events=["bounced"], actor=SYSTEM).endpoint
    ended = create_endpoint(full, url=f"{URL}&old", description="Old", **values).endpoint
    Endpoint.objects.filter(pk=failing.pk).update(
        failures=7, failing_since=now - timedelta(hours=5), paused_until=now + timedelta(days=1),
        last_problem="The certificate is not valid: self-signed certificate.", last_success_at=now - timedelta(days=2),
    )  # fmt: skip
    Endpoint.objects.filter(pk=good.pk).update(last_success_at=now)
    Endpoint.objects.filter(pk=ended.pk).update(disabled_at=now, disabled_why="failing", failing_since=now)
    answered = {
        "at": now.isoformat(),
        "seconds": 0.123,
        "status": 500,
        "words": "It answered 500.",
        "response": f"<p>{LONG * 9}</p>\n  <b>x",
    }
    silent = {
        "at": now.isoformat(),
        "seconds": 15.0,
        "status": None,
        "words": "The server took too long.",
        "response": "",
    }
    message = Message.objects.filter(organization=full).first()
    data = {
        "recipient": f"{LONG}@{LONG[:50]}.example",
        "code": 550,
        "words": f"<b>No</b> {LONG}",
        "smtp_user": smtp_user.username,
    }
    if message is not None:
        data |= {"message_id": str(message.pk), "reference": message.reference}
    soon = now + timedelta(days=1)
    common: dict[str, Any] = {"endpoint": failing, "organization_id": full.pk, "data": data, "due_at": soon}
    Delivery.objects.create(**common, type="delivered", state="delivered", attempts=1, last_status=200, settled_at=now)
    Delivery.objects.create(**common, type="auth.failed")
    Delivery.objects.create(
        **common, type="limit.reached", state="failed", attempts=10, last_status=None, tries=[silent]
    )
    waiting = Delivery.objects.create(**common, type="bounced", attempts=2, last_status=500, tries=[silent, answered])
    return {"endpoint_id": failing.pk, "delivery_id": waiting.pk, "ended_endpoint_id": ended.pk}
