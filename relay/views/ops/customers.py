"""Customers: the list with its search, and the page of one."""

from urllib.parse import urlencode

from django.http import HttpResponse
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_safe

from accounts.access import UserRequest
from accounts.models import Organization, Plan
from relay.ops.asked import choice_asked, number_asked, text_asked
from relay.ops.customers import customers as all_customers
from relay.ops.customers import facts_of, page_of, search
from relay.ops.usage import hours_of
from relay.views.ops.access import operator_page


@require_safe
@operator_page
def customers(request: UserRequest) -> HttpResponse:
    asked = {
        "q": text_asked(request.GET, "q", 120),
        "state": choice_asked(request.GET, "state", Organization.State.values),
        "plan": text_asked(request.GET, "plan", 32),
    }
    rows, more = page_of(
        search(asked["q"], state=asked["state"], plan=asked["plan"]), after=number_asked(request.GET, "after")
    )
    hours = hours_of([row.pk for row in rows], now=timezone.now())
    kept = {name: value for name, value in asked.items() if value}
    context = {
        **asked,
        "rows": [(row, hours[row.pk]) for row in rows],
        "states": Organization.State.choices,
        "plans": Plan.objects.filter(superseded_at=None).order_by("position"),
        "newer": _address(kept) if "after" in request.GET else "",
        "older": _address({**kept, "after": str(rows[-1].pk)}) if more else "",
    }
    return render(request, "ops/customers.html", context)


def _address(query: dict[str, str]) -> str:
    return f"{reverse('relay:ops_customers')}?{urlencode(query)}"


@require_safe
@operator_page
def customer(request: UserRequest, pk: int) -> HttpResponse:
    organization = get_object_or_404(all_customers().select_related("subscription__plan"), pk=pk)
    facts = facts_of(organization, now=timezone.now())
    attempts = [(event, organization) for event in facts.attempts]
    return render(request, "ops/customer.html", {"customer": organization, "facts": facts, "attempts": attempts})
