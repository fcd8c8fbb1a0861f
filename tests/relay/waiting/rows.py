"""Recipients in every way of waiting."""

from datetime import timedelta
from typing import Any
from uuid import uuid4

from django.utils import timezone

from accounts.models import Organization
from relay.models import Hold, Recipient
from relay.models.messages import NEVER
from tests.relay.ops.builders import make_message, make_recipient

LATER = timedelta(minutes=30)


def waiting(organization: Organization, how: str, *, address: str = "to@example.net", **message: Any) -> Recipient:
    """how: due, later, leased, limit, parked, held by the customer or the operator (undebited), or a state's word."""
    row = make_message(organization, **{"route": "smarthost", **message})
    now = timezone.now()
    values: dict[str, dict[str, Any]] = {
        "due": {"due_at": now - LATER},
        "later": {"due_at": now + LATER, "attempts": 1, "reply": "451 4.7.1 Greylisted, ref 8812"},
        "leased": {"due_at": now, "lease": uuid4(), "leased_until": now + LATER},
        "limit": {"state": "held", "due_at": now},
        "parked": {"due_at": NEVER},
        "delivered": {"state": "delivered", "settled_at": now},
    }
    if how in values:
        return make_recipient(row, address, **values[how])
    recipient = make_recipient(row, address, state="held", due_at=NEVER)
    Hold.objects.create(recipient=recipient, by_operator="operator" in how, was_debited="undebited" not in how)
    return recipient
