"""Plans: the one way from one to another.

Shapes  usage_counters: name -> count for an organization id; relay fills it at start, as accounts must not know relay.
        A plan's column `<name>_max` bounds the counter `<name>` (smtp_users -> smtp_users_max); None is without bound.
Errors  PlanTooSmall: what is in use would not fit.
Source  docs/flow.md: nothing is pushed; the next accept reads the new number, and what was used this hour stays used.
"""

from collections.abc import Callable

from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils.translation import gettext_lazy as _

from accounts.models import Organization, Plan, Subscription
from audit.changes import Actor, record_change

usage_counters: dict[str, Callable[[int], int]] = {}


class PlanTooSmall(ValidationError):
    """More is in use than the new plan has room for."""


def plans_on_sale() -> list[Plan]:
    return list(Plan.objects.filter(is_visible=True).order_by("position"))


def change_plan(organization: Organization, *, plan: Plan, actor: Actor) -> Subscription:
    """To the same plan: nothing happens, nothing is recorded."""
    with transaction.atomic():
        subscription = (
            Subscription.objects.select_for_update(no_key=True, of=("self",))
            .select_related("plan")
            .get(organization=organization)
        )
        before = subscription.plan
        if before.pk == plan.pk:
            return subscription
        _refuse_if_too_small(organization, plan)
        subscription.plan = plan
        subscription.save(update_fields=["plan"])
        record_change(
            "plan.changed",
            organization_id=organization.pk,
            actor=actor,
            subject=plan.name,
            subject_id=plan.code,
            values={"from": before.code, "to": plan.code, "recipients_per_hour": plan.recipients_per_hour},
        )
    return subscription


def _refuse_if_too_small(organization: Organization, plan: Plan) -> None:
    for name, count in usage_counters.items():
        most = getattr(plan, f"{name}_max", None)
        if most is not None and (used := count(organization.pk)) > most:
            raise PlanTooSmall(
                _("%(plan)s has room for %(most)d, and %(used)d are in use. Disable some first."),
                code=name,
                params={"plan": plan.name, "most": most, "used": used},
            )
