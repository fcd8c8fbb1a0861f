"""The operator's plans: what is sold, its versions, and who bought which."""

from typing import Any

from django import forms
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.core.validators import RegexValidator
from django.db.models import Count
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods, require_safe

from accounts.access import UserRequest, actor_of
from accounts.models import Plan
from accounts.plans import add_plan, edit_plan
from relay.views.ops.access import operator_action, operator_page

form_page = require_http_methods(["GET", "HEAD", "POST"])


class EditPlanForm(forms.ModelForm):  # type: ignore[type-arg]  # not subscriptable at run time
    currency = forms.CharField(
        label=gettext_lazy("Currency"),
        max_length=3,
        initial="USD",
        validators=[RegexValidator(r"^[A-Z]{3}$", gettext_lazy("Three capital letters, like USD."))],
    )

    class Meta:
        model = Plan
        fields: tuple[str, ...] = (
            "name", "price_cents", "currency", "recipients_per_hour", "smtp_users_max", "app_passwords_max",
            "members_max", "domains_max", "retention_days", "is_visible", "position",
        )  # fmt: skip
        help_texts = {
            "smtp_users_max": gettext_lazy("Empty: as many as wanted."),
            "app_passwords_max": gettext_lazy("Empty: as many as wanted."),
            "members_max": gettext_lazy("Empty: as many as wanted."),
            "domains_max": gettext_lazy("Empty: as many as wanted."),
        }


class AddPlanForm(EditPlanForm):
    class Meta(EditPlanForm.Meta):
        fields = ("code", *EditPlanForm.Meta.fields)


@require_safe
@operator_page
def plans(request: UserRequest) -> HttpResponse:
    """The present versions, and the earlier ones that somebody still has."""
    counted = Plan.objects.annotate(bought=Count("subscription"))
    present = counted.filter(superseded_at=None).order_by("position", "code")
    earlier = counted.exclude(superseded_at=None).filter(bought__gt=0).order_by("position", "code", "-version")
    return render(request, "ops/plans.html", {"present": present, "earlier": earlier})


@form_page
@operator_action
def edit(request: UserRequest, code: str) -> HttpResponse:
    plan = get_object_or_404(Plan, code=code, superseded_at=None)
    form = EditPlanForm(request.POST or None, instance=get_object_or_404(Plan, pk=plan.pk))
    return _saved(request, form, plan) or _page(request, form, plan)


@form_page
@operator_action
def add(request: UserRequest) -> HttpResponse:
    form = AddPlanForm(request.POST or None, initial={"is_visible": False})
    return _saved(request, form, None) or _page(request, form, None)


def _saved(request: UserRequest, form: EditPlanForm, plan: Plan | None) -> HttpResponse | None:
    if request.method != "POST" or not form.is_valid():
        return None
    try:
        if plan is None:
            saved = add_plan(values=form.cleaned_data, actor=actor_of(request))
        else:
            saved = edit_plan(plan, values=form.cleaned_data, actor=actor_of(request))
    except ValidationError as refused:
        form.add_error(None, refused)
        return None
    words = _("%(name)s is saved, version %(version)d.")
    messages.success(request, words % {"name": saved.name, "version": saved.version})
    return redirect("relay:ops_plans")


def _page(request: UserRequest, form: EditPlanForm, plan: Plan | None) -> HttpResponse:
    context: dict[str, Any] = {"form": form, "plan": plan}
    if plan is not None:
        context["bought"] = plan.subscription_set.count()
    return render(request, "ops/plan.html", context)
