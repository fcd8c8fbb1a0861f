"""Messages as an operator sees them: envelope, recipients and attempts. Subject and content stay the customer's."""

from dataclasses import asdict
from urllib.parse import urlencode
from uuid import UUID

from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from accounts.access import UserRequest
from accounts.models import Organization
from relay.message_recipients import recipients_of
from relay.models import DeliveryAttempt, Message, Recipient
from relay.ops.asked import PERIODS, number_asked
from relay.ops.recipients import RecipientFilters, page_of, recipients
from relay.timeline import conversation_of
from relay.views.ops.access import operator_page


@require_safe
@operator_page
def messages(request: UserRequest) -> HttpResponse:
    filters = RecipientFilters.from_query(request.GET)
    rows, more = page_of(recipients(filters, now=timezone.now()), before=number_asked(request.GET, "before"))
    query = _query(filters)
    states = [("", _("All")), *Recipient.State.choices]
    context = {
        "filters": filters,
        "rows": rows,
        "states": [(label, value == filters.state, _address({**query, "state": value})) for value, label in states],
        "periods": [
            (label, filters.period == period, _address({**query, "period": period.key if period else ""}))
            for period, label in [(None, _("Any age")), *((each, each.label) for each in PERIODS.values())]
        ],
        "asked": _asked(filters, query),
        "newer": _address(query) if "before" in request.GET else "",
        "older": _address({**query, "before": str(rows[-1].pk)}) if more else "",
    }
    return render(request, "ops/messages.html", context)


@require_safe
@operator_page
def message(request: UserRequest, pk: UUID) -> HttpResponse:
    found = get_object_or_404(
        Message.objects.select_related("organization", "smtp_user", "app_password").defer("subject"), pk=pk
    )
    context = {"message": found, "page": recipients_of(found, request.GET), "is_operator": True}
    if request.headers.get("HX-Request"):
        return render(request, "parts/recipients.html", context)
    return render(request, "ops/message.html", context)


@require_safe
@operator_page
def conversation(request: UserRequest, pk: UUID, attempt_id: int) -> HttpResponse:
    found = get_object_or_404(Message.objects.defer("subject"), pk=pk)
    attempt = conversation_of(found, attempt_id)
    if attempt is None:
        raise Http404(_("There is no such conversation."))
    part = "parts/conversation.html" if request.headers.get("HX-Request") else "ops/conversation.html"
    return render(request, part, {"message": found, "attempt": attempt})


def _query(filters: RecipientFilters) -> dict[str, str]:
    """The filters as they stand in an address."""
    values = asdict(filters)
    period, customer = filters.period, values.pop("organization_id")
    query = {name: value for name, value in values.items() if isinstance(value, str) and value}
    query |= {name: "1" for name in ("settled", "due") if values[name]}
    query |= {"period": period.key} if period else {}
    return query | ({"customer": str(customer)} if customer is not None else {})


def _address(query: dict[str, str]) -> str:
    return f"{reverse('relay:ops_messages')}?{urlencode({name: value for name, value in query.items() if value})}"


def _asked(filters: RecipientFilters, query: dict[str, str]) -> list[tuple[str, str, str]]:
    """What the list is narrowed by beside state and period: label, value, the address without it."""
    words = {
        "due": (_("Only"), _("due by now")),
        "settled": (_("Period"), _("counts from the end of delivery")),
        "next_hop": (_("Next hop"), filters.next_hop),
        "outcome": (_("An attempt was"), dict(DeliveryAttempt.Outcome.choices).get(filters.outcome, "")),
        "username": (_("SMTP user"), filters.username),
        "address": (_("Recipient"), filters.address),
        "customer": (_("Customer"), _customer_name(filters)),
    }
    return [
        (label, str(value), _address({**query, name: ""})) for name, (label, value) in words.items() if name in query
    ]


def _customer_name(filters: RecipientFilters) -> str:
    customer = Organization.objects.filter(pk=filters.organization_id).first() if filters.organization_id else None
    return customer.name if customer else str(filters.organization_id or "")
