"""How an organization, or the operators, want to be told of alerts.

Shapes  AlertPreferenceForm(preference=…) and change_preference(), which records the change. organization_id 0: the
        operators', who have no roles.
Errors  Those of the form.
"""

from collections.abc import Sequence
from typing import Any

from django import forms
from django.db import transaction
from django.utils.translation import gettext_lazy as _

from accounts.models import Role
from accounts.roles import ALERTS_CHANGE, roles_with
from audit.anomalies.models import AlertPreference, Severity
from audit.changes import Actor, record_change
from relay.alert_mail import OPERATORS, preference_of


class AlertPreferenceForm(forms.Form):
    mail = forms.ChoiceField(
        label=_("Mail about new alerts"), choices=AlertPreference.Mail.choices, widget=forms.RadioSelect
    )
    least = forms.ChoiceField(label=_("From which severity on"), choices=Severity.choices)
    roles = forms.MultipleChoiceField(
        label=_("To members with these roles"),
        required=False,
        widget=forms.CheckboxSelectMultiple,
        help_text=_("None chosen: to everybody who may answer alerts."),
    )

    def __init__(self, data: Any = None, *, preference: AlertPreference) -> None:
        initial = {"mail": preference.mail, "least": preference.least, "roles": preference.roles}
        super().__init__(data, initial=initial)
        if preference.pk == OPERATORS:
            del self.fields["roles"]
        else:
            able = roles_with(ALERTS_CHANGE)
            self.fields["roles"].choices = [each for each in Role.choices if each[0] in able]  # type: ignore[attr-defined]

    def chosen(self) -> dict[str, Any]:
        return {"roles": [], **self.cleaned_data}


@transaction.atomic
def change_preference(organization_id: int, *, mail: str, least: str, roles: Sequence[str], actor: Actor) -> None:
    before = preference_of(organization_id)
    values = {"mail": mail, "least": least, "roles": sorted(roles)}
    changes = {name: [getattr(before, name), value] for name, value in values.items() if getattr(before, name) != value}
    if not changes:
        return
    AlertPreference.objects.update_or_create(pk=organization_id, defaults=values)
    record_change(
        "alert_preference.changed",
        organization_id=organization_id,
        actor=actor,
        subject="Alerts",
        values=changes,
    )
