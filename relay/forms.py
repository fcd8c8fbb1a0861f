"""Forms of the customer's pages: they read and check text; the change itself is made by the core.

Shapes  expires_in, on AppPasswordForm: days from now, empty for never.
Errors  Form errors. What only the core can know (taken names, full plans) the views add to the form afterwards.
"""

from datetime import datetime, time, timedelta
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from relay.models import AppPassword, SmtpUser
from relay.networks import parse_network

LIMIT_MAX = 1_000_000_000


class SmtpUserForm(forms.Form):
    name = forms.CharField(
        label=_("Name"),
        max_length=32,
        help_text=_("What sends with it, like shop or printer-2. It cannot be changed later."),
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false", "autocapitalize": "none"}),
    )
    description = forms.CharField(label=_("What it is for"), max_length=120, required=False)
    excess = forms.ChoiceField(
        label=_("What sends here?"),
        choices=[
            (
                SmtpUser.Excess.REFUSE,
                _("A mail server, or a library with its own queue. Beyond the limit it is told to wait (451)."),
            ),
            (
                SmtpUser.Excess.HOLD,
                _("An application or a device that does not try again. Beyond the limit Gatepost holds its mail."),
            ),
        ],
        widget=forms.RadioSelect,
        error_messages={"required": _("Choose one: it decides what happens to mail beyond the limit.")},
    )


class SmtpUserSettingsForm(SmtpUserForm):
    name = None  # type: ignore[assignment]  # Django's way to leave out an inherited field
    recipients_per_hour = forms.IntegerField(
        label=_("Own limit, emails an hour"),
        min_value=1,
        max_value=LIMIT_MAX,
        required=False,
        help_text=_("Empty: only the plan's limit."),
    )
    recipients_per_hour_per_ip = forms.IntegerField(
        label=_("Limit for each client address, emails an hour"), min_value=1, max_value=LIMIT_MAX, required=False
    )


class AppPasswordForm(forms.Form):
    EXPIRIES = (
        ("", _("Never")),
        ("30", _("In 30 days")),
        ("90", _("In 90 days")),
        ("180", _("In 180 days")),
        ("365", _("In a year")),
    )
    name = forms.CharField(
        label=_("Name"), max_length=64, help_text=_("Where it will be used, like web-1 or backup job.")
    )
    kind = forms.ChoiceField(
        label=_("Kind"),
        choices=[
            (AppPassword.Kind.APP, _("App: 31 characters")),
            (AppPassword.Kind.DEVICE, _("Device: 16 characters, for printers and cameras; needs an allowed network")),
        ],
        initial=AppPassword.Kind.APP,
        widget=forms.RadioSelect,
    )
    expires_in = forms.ChoiceField(label=_("Expires"), choices=EXPIRIES, required=False)

    def expires_at(self) -> datetime | None:
        days = self.cleaned_data["expires_in"]
        return timezone.now() + timedelta(days=int(days)) if days else None


class NetworkForm(forms.Form):
    cidr = forms.CharField(
        label=_("Address or range"),
        max_length=64,
        help_text=_("Like 192.0.2.7, 192.0.2.0/24 or 2001:db8::/48."),
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
    )
    label = forms.CharField(label=_("Label"), max_length=64, required=False)
    ends_on = forms.DateField(
        label=_("Last day"), required=False, widget=forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d")
    )

    def clean_cidr(self) -> str:
        return str(parse_network(self.cleaned_data["cidr"]))

    def clean_ends_on(self) -> Any:
        day = self.cleaned_data["ends_on"]
        if day and day < timezone.localdate():
            raise ValidationError(_("That day is over."))
        return day

    def ends_at(self) -> datetime | None:
        """The end of the last day, UTC."""
        day = self.cleaned_data["ends_on"]
        return timezone.make_aware(datetime.combine(day + timedelta(days=1), time.min)) if day else None


class SenderForm(forms.Form):
    pattern = forms.CharField(
        label=_("Address or @domain"),
        max_length=320,
        help_text=_("news@example.com, or @example.com for every address of that domain."),
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false", "autocapitalize": "none"}),
    )


class DomainForm(forms.Form):
    name = forms.CharField(
        label=_("Domain"),
        max_length=253,
        help_text=_("The part after the @ of your senders, like example.com. Subdomains are added by themselves."),
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false", "autocapitalize": "none"}),
    )
