"""Forms of the pages about webhooks: they read and check text; relay.webhooks.endpoints makes the change."""

from typing import Any

from django import forms
from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy as _

from accounts.models import Organization
from relay.models import SmtpUser
from relay.webhooks.kinds import Event
from relay.webhooks.models import Endpoint

PLAIN = {"autocomplete": "off", "spellcheck": "false", "autocapitalize": "none"}


class EndpointForm(forms.Form):
    url = forms.CharField(
        label=_("Address"),
        max_length=1000,
        widget=forms.TextInput(
            attrs={"inputmode": "url", "placeholder": "https://example.com/hooks/gatepost", **PLAIN}
        ),
        help_text=_("https, at a public address. Redirects are not followed."),
    )
    description = forms.CharField(label=_("Description"), max_length=200, required=False)
    events = forms.MultipleChoiceField(
        label=_("Events"),
        choices=[(each.value, format_lazy("{}: {}", each.value, each.label)) for each in Event],
        widget=forms.CheckboxSelectMultiple,
        error_messages={"required": _("Choose at least one event.")},
    )
    smtp_user_ids = forms.MultipleChoiceField(
        label=_("Only these SMTP users"),
        required=False,
        widget=forms.SelectMultiple(attrs={"size": 6}),
        help_text=_("None chosen: all of them, and what concerns no SMTP user in particular."),
    )

    def __init__(self, organization: Organization, data: Any = None, *, endpoint: Endpoint | None = None) -> None:
        initial = None
        if endpoint is not None:
            names = ("url", "description", "events", "smtp_user_ids")
            initial = {name: getattr(endpoint, name) for name in names}
        super().__init__(data, initial=initial)
        users = SmtpUser.objects.filter(organization=organization).order_by("username")
        field = self.fields["smtp_user_ids"]
        assert isinstance(field, forms.MultipleChoiceField)
        field.choices = [(str(pk), username) for pk, username in users.values_list("pk", "username")]

    def clean_smtp_user_ids(self) -> list[int]:
        return [int(each) for each in self.cleaned_data["smtp_user_ids"]]


class ReplayForm(forms.Form):
    """The span as a word: who replays knows when the trouble began better than what the clock in UTC said."""

    HOURS = (
        ("1", _("the last hour")),
        ("6", _("the last 6 hours")),
        ("24", _("the last day")),
        ("72", _("three days")),
        ("720", _("30 days")),
    )
    hours = forms.ChoiceField(label=_("Failed within"), choices=HOURS, initial="24")
