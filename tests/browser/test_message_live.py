"""A message's page while its mail is on its way: it follows by itself, falls quiet when all is over, and unfolds."""

import json
from typing import Any

import pytest

from tests.browser.conftest import NewPage, sign_in
from tests.plugins.running import Running

pytestmark = pytest.mark.browser
PLANT = """
import json
from datetime import timedelta
from django.utils import timezone
from accounts.models import Organization
from relay.models import DeliveryAttempt
from tests.relay.conftest import make_message
organization = Organization.objects.get(memberships__user__email=json.loads({given!r}))
message = make_message(organization, route="hold", due_at=timezone.now() + timedelta(seconds=40))
recipient = message.recipients.get()
DeliveryAttempt.objects.create(recipient=recipient, number=1, started_at=timezone.now(), finished_at=timezone.now(),
    outcome="deferred", route="mx", next_hop="mx.example.net:25", code=450, enhanced_code="4.2.0", text="Greylisted",
    conversation="S: 220 mx.example.net <b>ESMTP</b>\\nC: EHLO mail.gatepost.example")
print(json.dumps([str(message.pk), recipient.pk]))
"""
DELIVERED = """
UPDATE relay_recipient SET state = 'delivered', settled_at = now(), lease = NULL WHERE id = %s
"""


def test_page_follows_its_mail(running: Running, new_page: NewPage, customer: dict[str, str]) -> None:
    """The conversation unfolds and stays while it is read; then the state changes without a reload, and asking ends."""
    message_id, recipient_id = running.python(PLANT.format(given=json.dumps(customer["email"])))
    watched = new_page()
    sign_in(watched, customer["email"], customer["password"])
    page, asked = watched.page, []
    page.wait_for_url("**/")
    watched.open(f"/messages/{message_id}/")
    page.on("request", lambda request: asked.append(request.headers.get("hx-request", "")))
    page.get_by_text("The conversation", exact=True).click()
    said = page.locator(".gp-conversation pre")
    said.wait_for()
    assert said.inner_text() == "S: 220 mx.example.net <b>ESMTP</b>\nC: EHLO mail.gatepost.example"
    page.locator("h1").click()  # nobody reads by keyboard any more
    page.evaluate("() => document.activeElement.blur()")
    running.sql(DELIVERED, recipient_id)
    page.locator("#message-state").get_by_text("Delivered").wait_for()
    page.locator("#recipients:not([hx-get])").wait_for()
    number = len(asked)
    page.wait_for_timeout(3500)  # longer than it asks when it asks: for what must not come there is nothing to wait for
    assert "true" in asked and len(asked) == number
    _is_quiet_from_the_start(watched, message_id)


def _is_quiet_from_the_start(watched: Any, message_id: str) -> None:
    watched.open(f"/messages/{message_id}/")
    assert watched.page.locator("[hx-trigger^=every]").count() == 0
