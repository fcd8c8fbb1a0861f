"""Plans: what is sold, its versions, and the one way from one plan to another.

Shapes  A Plan row is one version; versions of a code share nothing but the code. edit_plan() makes the next version
        once the present one was bought, so that what was bought stays as it was.
        change_plan() -> Change: at once, or noted for the period's end. It is all that customers, operators and
        payment webhooks call.
        usage_counters: name -> count for an organization id; relay fills it at start, as accounts must not know relay.
        A plan's column `<name>_max` bounds the counter `<name>` (smtp_users -> smtp_users_max); None is without bound.
Errors  PlanRefused, PlanFull (ValidationErrors), with words for a form.
Source  docs/flow.md: nothing is pushed; the next accept reads the new number, and what was used this hour stays used.
        docs/billing.md for the money.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

from django.core.exceptions import ValidationError
from django.db import models, transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.billing.charges import Share, charge_shares, shares_of
from accounts.models import Organization, Plan, Subscription
from audit.changes import Actor, changed, record_change

usage_counters: dict[str, Callable[[int], int]] = {}
INSTALLATION: Final = 0  # the chain of changes that are nobody's in particular
# What a customer buys. The others (place in the list, whether it is sold) may change under what was bought.
BOUGHT: Final = (
    "name", "price_cents", "currency", "recipients_per_hour", "smtp_users_max", "app_passwords_max", "members_max",
    "domains_max", "retention_days",
)  # fmt: skip
When = Literal["by the rule", "now", "at the period's end"]


class PlanRefused(ValidationError):
    """Why a plan cannot be taken, or cannot be so."""


class PlanFull(ValidationError):
    """The plan has room for no more of these."""


@dataclass(frozen=True, slots=True)
class Excess:
    """More is in use than a plan has room for. Nothing of it is taken away; there will be no more."""

    name: str  # of the counter
    used: int
    most: int


@dataclass(frozen=True, slots=True)
class Change:
    """What a change of plan does, or would do."""

    before: Plan
    after: Plan
    at_once: bool
    takes_effect_at: datetime
    shares: Sequence[Share]  # of the running period's price: what is credited, and what is charged
    excess: Sequence[Excess]

    @property
    def due_cents(self) -> int:
        """On the next invoice, besides the plan."""
        return sum(share.amount_cents for share in self.shares)


def plans_on_sale() -> list[Plan]:
    return list(present_plans().filter(is_visible=True))


def present_plans() -> models.QuerySet[Plan]:
    return Plan.objects.filter(superseded_at__isnull=True).order_by("position", "code")


def present_plan(code: str) -> Plan:
    """Raises Plan.DoesNotExist."""
    return Plan.objects.get(code=code, superseded_at__isnull=True)


def excess_under(organization: Organization, plan: Plan) -> list[Excess]:
    """What the organization has too much of for this plan."""
    found = []
    for name, count in usage_counters.items():
        most = getattr(plan, f"{name}_max", None)
        if most is not None and (used := count(organization.pk)) > most:
            found.append(Excess(name, used, most))
    return found


def refuse_if_full(organization: Organization, name: str) -> None:
    """Raises PlanFull. The caller has locked the organization's row, so that two at once do not both take the last."""
    plan = Subscription.objects.select_related("plan").get(organization=organization).plan
    most = getattr(plan, f"{name}_max")
    if most is not None and usage_counters[name](organization.pk) >= most:
        words = {
            "smtp_users": _("The plan %(plan)s has room for %(most)d SMTP users. Disable one, or take a larger one."),
            "app_passwords": _("The plan %(plan)s has room for %(most)d app passwords. End one, or take a larger one."),
            "members": _("The plan %(plan)s has room for %(most)d members. Remove one, or take a larger one."),
            "domains": _("The plan %(plan)s has room for %(most)d sending domains. Remove one, or take a larger one."),
        }
        raise PlanFull(words[name], code=name, params={"plan": plan.name, "most": most})


# --- From one plan to another -----------------------------------------------------------------------------------------


def preview(
    organization: Organization, *, plan: Plan, when: When = "by the rule", now: datetime | None = None
) -> Change:
    """What change_plan() would do now."""
    subscription = Subscription.objects.select_related("plan").get(organization=organization)
    return _change(organization, subscription, plan, when, now or timezone.now())


def change_plan(
    organization: Organization, *, plan: Plan, actor: Actor, when: When = "by the rule", now: datetime | None = None
) -> Change:
    """To more at once, to less at the period's end; `when` is for operators and payment providers.

    To the same plan: nothing is recorded, but a change that was noted for the period's end is taken back.
    """
    now = now or timezone.now()
    with transaction.atomic():
        subscription = (
            Subscription.objects.select_for_update(no_key=True, of=("self",))
            .select_related("plan", "next_plan")
            .get(organization=organization)
        )
        change = _change(organization, subscription, plan, when, now)
        if change.before.pk == plan.pk:
            _take_back(organization, subscription, actor)
        elif change.at_once:
            _put(organization, subscription, change, actor)
        elif subscription.next_plan_id != plan.pk:
            subscription.next_plan = plan
            subscription.save(update_fields=["next_plan"])
            _record("plan.change_planned", organization, change, actor)
    return change


def apply_planned(organization: Organization, subscription: Subscription, *, actor: Actor, now: datetime) -> None:
    """At the period's end, within its transaction: the plan that was chosen before, if any."""
    if subscription.next_plan is not None:
        change = _change(organization, subscription, subscription.next_plan, "at the period's end", now)
        _put(organization, subscription, change, actor)


def is_more(before: Plan, after: Plan) -> bool:
    """Whether a change is one to more, which holds at once: dearer, or more emails for the same money."""
    return (after.price_cents, after.recipients_per_hour) > (before.price_cents, before.recipients_per_hour)


def _change(organization: Organization, subscription: Subscription, plan: Plan, when: When, now: datetime) -> Change:
    before = subscription.plan
    end = subscription.period_end
    if plan.currency != before.currency and before.price_cents and plan.price_cents:
        raise PlanRefused(_("A plan in another currency needs a new subscription."), code="currency")
    at_once = end is None or when == "now" or (when == "by the rule" and is_more(before, plan))
    if when == "at the period's end" and end is not None and end <= now:
        at_once = True  # it is the end
    shares = shares_of(subscription, plan, now=now) if at_once and before.pk != plan.pk else []
    takes_effect_at = now if at_once or end is None else end
    return Change(before, plan, at_once, takes_effect_at, shares, excess_under(organization, plan))


def _put(organization: Organization, subscription: Subscription, change: Change, actor: Actor) -> None:
    charge_shares(organization, change.shares)
    subscription.plan, subscription.next_plan = change.after, None
    subscription.save(update_fields=["plan", "next_plan"])
    _record("plan.changed", organization, change, actor)


def _take_back(organization: Organization, subscription: Subscription, actor: Actor) -> None:
    if subscription.next_plan is None:
        return
    taken_back = subscription.next_plan
    subscription.next_plan = None
    subscription.save(update_fields=["next_plan"])
    record_change(
        "plan.change_taken_back",
        organization_id=organization.pk,
        actor=actor,
        subject=taken_back.name,
        subject_id=taken_back.code,
    )


def _record(action: str, organization: Organization, change: Change, actor: Actor) -> None:
    record_change(
        action,
        organization_id=organization.pk,
        actor=actor,
        subject=change.after.name,
        subject_id=change.after.code,
        values={
            "from": change.before.code,
            "to": change.after.code,
            "version": change.after.version,
            "recipients_per_hour": change.after.recipients_per_hour,
            "takes_effect_at": change.takes_effect_at.isoformat(),
        },
    )


# --- What is sold -----------------------------------------------------------------------------------------------------


def add_plan(*, values: Mapping[str, Any], actor: Actor) -> Plan:
    """A new tier. Raises PlanRefused where the code is taken."""
    with transaction.atomic():
        if Plan.objects.filter(code=values["code"]).exists():
            raise PlanRefused(
                _("There is a plan with the code %(code)s."), code="taken", params={"code": values["code"]}
            )
        plan = Plan.objects.create(**values)
        _record_plan("plan.added", plan, actor, dict(values))
    return plan


def edit_plan(plan: Plan, *, values: Mapping[str, Any], actor: Actor, now: datetime | None = None) -> Plan:
    """The plan with these values: a next version if the present one was bought and what is bought changes."""
    with transaction.atomic():
        locked = Plan.objects.select_for_update(no_key=True).get(pk=plan.pk)
        if locked.superseded_at is not None:
            raise PlanRefused(_("This version is no longer sold: edit the present one."), code="superseded")
        difference = changed({name: getattr(locked, name) for name in values}, values)
        if not difference:
            return locked
        if any(name in BOUGHT for name in difference) and _was_bought(locked):
            locked = _next_version(locked, now or timezone.now())
        for name in difference:
            setattr(locked, name, values[name])
        locked.save()
        _record_plan("plan.edited", locked, actor, difference)
    return locked


def _was_bought(plan: Plan) -> bool:
    return Subscription.objects.filter(models.Q(plan=plan) | models.Q(next_plan=plan)).exists()


def _next_version(plan: Plan, now: datetime) -> Plan:
    Plan.objects.filter(pk=plan.pk).update(superseded_at=now)
    plan.pk, plan.version, plan.superseded_at = None, plan.version + 1, None
    plan._state.adding = True
    return plan


def _record_plan(action: str, plan: Plan, actor: Actor, values: Mapping[str, Any]) -> None:
    record_change(
        action,
        organization_id=INSTALLATION,
        actor=actor,
        subject=plan.name,
        subject_id=plan.code,
        values={"version": plan.version, **values},
    )
