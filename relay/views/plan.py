"""Plan: the tiers, the present one, the hours behind it, and the change from one to another."""

from datetime import datetime, timedelta
from typing import Any

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts import roles
from accounts.access import MemberRequest, actor_of, member_required
from accounts.billing.advice import advise
from accounts.billing.models import Invoice, UsageAdvice
from accounts.billing.money import money
from accounts.models import Organization, Plan, Subscription
from accounts.plans import Change, Excess, change_plan, plans_on_sale, preview
from relay import queries
from relay.limits import usage_of
from relay.templatetags.panel import price
from relay.views.confirm import Question, ask
from relay.views.overview import chart

HOURS = 7 * 24
SHOWN = 24  # invoices
DAYS = 30


@member_required(roles.PLAN_SEE)
def page(request: MemberRequest) -> HttpResponse:
    subscription = Subscription.objects.select_related("plan", "next_plan").get(organization=request.organization)
    plans = plans_on_sale()
    context: dict[str, Any] = {
        "subscription": subscription,
        "plan": subscription.plan,
        "plans": plans if subscription.plan in plans else [*plans, subscription.plan],
        "usage": usage_of(request.organization.pk),
        "chart": chart(request.organization.pk, hours=HOURS),
        "days": _days(request.organization.pk),
        "may_change": roles.can(request.membership, roles.PLAN_CHANGE),
        "invoices": Invoice.objects.filter(organization=request.organization).order_by("-issued_at", "-pk")[:SHOWN],
        "now": timezone.now(),
        **_advice(request.organization, plans),
    }
    return render(request, "relay/plan.html", context)


def _advice(organization: Organization, plans: list[Plan]) -> dict[str, Any]:
    made = UsageAdvice.objects.filter(organization=organization).first()
    return {"usage_advice": made, "advice": advise(plans, made.refused) if made else []}


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
    plan = _on_sale_or_mine(request, code)
    try:
        if request.method != "POST":
            return ask(request, _question(preview(request.organization, plan=plan)))
        change = change_plan(request.organization, plan=plan, actor=actor_of(request))
    except ValidationError as refused:
        messages.error(request, refused.messages[0])
        return redirect("relay:plan")
    messages.success(request, _done(change))
    return redirect("relay:plan")


def _on_sale_or_mine(request: MemberRequest, code: str) -> Plan:
    """What is bought can be chosen again, to take back a change that was planned, though it is sold no longer."""
    mine = Subscription.objects.select_related("plan").get(organization=request.organization).plan
    if mine.code == code:
        return mine
    return get_object_or_404(Plan, code=code, is_visible=True, superseded_at=None)


def _done(change: Change) -> str:
    if change.before == change.after:
        return _("Your plan stays %(plan)s.") % {"plan": change.after.name}
    if change.at_once:
        return _("Your plan is %(plan)s now.") % {"plan": change.after.name}
    words = _("Your plan will be %(plan)s from %(day)s on.")
    return words % {"plan": change.after.name, "day": f"{change.takes_effect_at:%Y-%m-%d}"}


def _question(change: Change) -> Question:
    if change.before == change.after:
        title = _("Stay with %(plan)s?") % {"plan": change.after.name}
        text = _("A change that was planned for the end of the month is taken back.")
        return Question(title, text, _("Stay"), reverse("relay:plan"), dangerous=False)
    texts = [_what_changes(change), _when_it_changes(change), *(_too_much(each) for each in change.excess)]
    title = _("Change to %(plan)s?") % {"plan": change.after.name}
    return Question(title, " ".join(texts), _("Change plan"), reverse("relay:plan"), dangerous=False)


def _what_changes(change: Change) -> str:
    words = _(
        "From %(before)s (%(before_limit)s emails an hour, %(before_price)s a month) to %(plan)s"
        " (%(limit)s emails an hour, %(price)s a month)."
    )
    return words % {
        "before": change.before.name,
        "before_limit": f"{change.before.recipients_per_hour:,}",
        "before_price": price(change.before),
        "plan": change.after.name,
        "limit": f"{change.after.recipients_per_hour:,}",
        "price": price(change.after),
    }


def _when_it_changes(change: Change) -> str:
    if not change.at_once:
        words = _("It takes effect at the end of the month that is paid, on %(day)s; until then all stays as it is.")
        return words % {"day": f"{change.takes_effect_at:%Y-%m-%d}"}
    now = _(
        "The new limit holds from the next mail on; what was sent in the last 60 minutes counts against it. The change"
        " is recorded."
    )
    if not change.shares:
        return now
    cost = _("For the rest of the month the next invoice has %(amount)s more.")
    if change.due_cents < 0:
        cost = _("For the rest of the month the next invoice has %(amount)s less.")
    return f"{now} {cost % {'amount': money(abs(change.due_cents), change.after.currency)}}"


def _too_much(excess: Excess) -> str:
    names = {
        "smtp_users": _("SMTP users"),
        "app_passwords": _("app passwords"),
        "members": _("members and invitations"),
        "domains": _("sending domains"),
    }
    words = _("You have %(used)d %(names)s; the plan has room for %(most)d: all go on working, none can be added.")
    return words % {"used": excess.used, "names": names[excess.name], "most": excess.most}
