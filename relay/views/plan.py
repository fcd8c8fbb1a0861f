"""Plan: the tiers, the present one, the hours behind it, and the change from one to another."""

from datetime import datetime, timedelta
from typing import Any

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _

from accounts import roles
from accounts.access import MemberRequest, actor_of, member_required
from accounts.models import Plan, Subscription
from accounts.plans import change_plan, plans_on_sale
from relay import queries
from relay.limits import usage_of
from relay.templatetags.panel import price
from relay.views.confirm import Question, ask
from relay.views.overview import chart

HOURS = 7 * 24
DAYS = 30


@member_required(roles.PLAN_SEE)
def page(request: MemberRequest) -> HttpResponse:
    subscription = Subscription.objects.select_related("plan").get(organization=request.organization)
    plans = plans_on_sale()
    context: dict[str, Any] = {
        "subscription": subscription,
        "plan": subscription.plan,
        "plans": plans if subscription.plan in plans else [*plans, subscription.plan],
        "usage": usage_of(request.organization.pk),
        "chart": chart(request.organization.pk, hours=HOURS),
        "days": _days(request.organization.pk),
        "may_change": roles.can(request.membership, roles.PLAN_CHANGE),
    }
    return render(request, "relay/plan.html", context)


def _days(organization_id: int) -> list[tuple[datetime, datetime, int, int]]:
    """The last days (UTC) on which something was sent: start and end, emails, and emails of the fullest clock hour."""
    days: dict[datetime, list[int]] = {}
    for hour, number in queries.accepted_by_hour(organization_id, hours=DAYS * 24):
        days.setdefault(hour.replace(hour=0), []).append(number)
    return [
        (day, day + timedelta(days=1), sum(numbers), max(numbers))
        for day, numbers in reversed(days.items())
        if sum(numbers)
    ]


@member_required(roles.PLAN_CHANGE)
def change(request: MemberRequest, code: str) -> HttpResponse:
    plan = get_object_or_404(Plan, code=code, is_visible=True)
    if request.method != "POST":
        return ask(request, _question(request, plan))
    try:
        change_plan(request.organization, plan=plan, actor=actor_of(request))
    except ValidationError as refused:
        messages.error(request, refused.messages[0])
    else:
        messages.success(request, _("Your plan is %(plan)s now.") % {"plan": plan.name})
    return redirect("relay:plan")


def _question(request: MemberRequest, plan: Plan) -> Question:
    before = Subscription.objects.select_related("plan").get(organization=request.organization).plan
    text = _(
        "From %(before)s (%(before_limit)s emails an hour, %(before_price)s a month) to %(plan)s"
        " (%(limit)s emails an hour, %(price)s a month). The new limit holds from the next mail on; what was sent in"
        " the last 60 minutes counts against it. The change is recorded."
    ) % {
        "before": before.name,
        "before_limit": f"{before.recipients_per_hour:,}",
        "before_price": price(before),
        "plan": plan.name,
        "limit": f"{plan.recipients_per_hour:,}",
        "price": price(plan),
    }
    title = _("Change to %(plan)s?") % {"plan": plan.name}
    return Question(title, text, _("Change plan"), reverse("relay:plan"), dangerous=False)
