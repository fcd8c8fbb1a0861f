"""The operator's forms."""

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from accounts.models import Plan


class SuspendForm(forms.Form):
    reason = forms.CharField(
        label=_("Reason"),
        max_length=255,
        help_text=_("The customer sees it, in the panel and in the auth log."),
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )


class PlanForm(forms.Form):
    """Hidden plans too: an operator may give what is not sold."""

    plan = forms.ModelChoiceField(
        label=_("Plan"),
        queryset=Plan.objects.filter(superseded_at=None).order_by("position"),
        empty_label=None,
        widget=forms.RadioSelect,
        help_text=_("What was used of this hour stays used. What does not fit goes on working, and none can be added."),
    )
    when = forms.ChoiceField(
        label=_("When"),
        choices=[
            ("by the rule", _("As for the customer: more at once, less at the end of the month")),
            ("now", _("At once, with the next message; the rest of the month is charged or credited")),
            ("at the period's end", _("At the end of the month")),
        ],
        initial="by the rule",
        required=False,
    )

    def clean_when(self) -> str:
        return self.cleaned_data["when"] or "by the rule"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["plan"]
        assert isinstance(field, forms.ModelChoiceField)
        field.label_from_instance = plan_label  # type: ignore[method-assign,assignment]


def plan_label(plan: Plan) -> str:
    price = f"{plan.price_cents / 100:,.2f}".removesuffix(".00")
    text = _("%(name)s: %(limit)s emails an hour, %(price)s %(currency)s a month")
    return str(text) % {
        "name": plan.name,
        "limit": f"{plan.recipients_per_hour:,}",
        "price": price,
        "currency": plan.currency,
    }


class InviteForm(forms.Form):
    email = forms.EmailField(
        label=_("E-mail address"),
        help_text=_("Whoever opens the link in the mail can found one new organization."),
        widget=forms.EmailInput(attrs={"autocomplete": "off"}),
    )


class ProtectForm(forms.Form):
    cidr = forms.CharField(
        label=_("Address or range"),
        max_length=64,
        help_text=_("Like 192.0.2.7, 192.0.2.0/24 or 2001:db8::/48. Bans inside it end at once."),
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
    )
    label = forms.CharField(label=_("Label"), max_length=64, required=False, help_text=_("Whose it is, and why."))


class SureForm(forms.Form):
    """Nothing to fill in: the page itself is the question."""
