"""Forms of the customer's pages: they read and check text; the change itself is made by the core.

Shapes  expires_in, on AppPasswordForm: days from now, empty for never.
Errors  Form errors. What only the core can know (taken names, full plans) the views add to the form afterwards.
"""

from datetime import datetime, time, timedelta
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils import timezone
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from relay.models import AppPassword, SmtpUser
from relay.networks import parse_network
from relay.password_policy import DAYS_MAX, Policy

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


class ExpiryField(forms.ChoiceField):
    """Days that the new password lives; only those that the organization's policy allows, its most is the default."""

    DAYS = (30, 90, 180, 365)

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(label=_("Expires"), required=False, **kwargs)

    def bind_policy(self, policy: Policy) -> None:
        most = policy.max_days
        days = [each for each in self.DAYS if most is None or each < most] + ([most] if most is not None else [])
        never: list[tuple[str, Any]] = [("", _("Never"))] if most is None else []
        self.choices = never + [(str(each), _words(each)) for each in days]
        self.initial = str(most) if most is not None else ""
        if most is not None:
            self.help_text = ngettext(
                "Your organization lets an app password live %(days)d day at most.",
                "Your organization lets an app password live %(days)d days at most.",
                most,
            ) % {"days": most}


def _words(days: int) -> str:
    if days == 365:
        return gettext("In a year")
    return ngettext("In %(days)d day", "In %(days)d days", days) % {"days": days}


class ExpiringForm(forms.Form):
    expires_in = ExpiryField()

    def __init__(self, *args: Any, policy: Policy | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["expires_in"]
        assert isinstance(field, ExpiryField)
        field.bind_policy(policy or Policy())

    def expires_at(self) -> datetime | None:
        """None: never, or with a policy as long as that allows."""
        days = self.cleaned_data["expires_in"]
        return timezone.now() + timedelta(days=int(days)) if days else None


class AppPasswordForm(ExpiringForm):
    field_order = ("name", "kind", "expires_in")
    name = forms.CharField(
        label=_("Name"), max_length=64, help_text=_("Where it will be used, like web-1 or backup job.")
    )
    kind = forms.ChoiceField(
        label=_("Kind"),
        choices=[
            (AppPassword.Kind.APP, _("App: 31 characters")),
            (AppPassword.Kind.DEVICE, _("Device: 16 characters, for printers and cameras; needs an allowed network")),
            (
                AppPassword.Kind.CANARY,
                _("Canary: works nowhere. Put it where only an intruder would find it; you hear when it is tried"),
            ),
        ],
        initial=AppPassword.Kind.APP,
        widget=forms.RadioSelect,
    )


class RotationForm(ExpiringForm):
    """The old one's end: a number of days, or a moment of one's own."""

    OTHER = "other"
    field_order = ("name", "overlap", "ends_at", "expires_in")
    name = forms.CharField(label=_("Name of the new one"), max_length=64)
    overlap = forms.ChoiceField(
        label=_("The old one ends"),
        choices=[
            ("1", _("In a day")),
            ("7", _("In a week")),
            ("14", _("In two weeks")),
            ("30", _("In 30 days")),
            (OTHER, _("At the time below")),
        ],
        initial="7",
        help_text=_("Until then both work, and the page of the old one shows who still uses it."),
    )
    ends_at = forms.DateTimeField(
        label=_("A time of your own (UTC)"),
        required=False,
        widget=forms.DateTimeInput(attrs={"type": "datetime-local"}, format="%Y-%m-%dT%H:%M"),
        input_formats=["%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M"],
    )

    def clean(self) -> dict[str, Any]:
        values = super().clean() or self.cleaned_data
        if values.get("overlap") == self.OTHER and "ends_at" in values and values["ends_at"] is None:
            self.add_error("ends_at", _("Say when."))
        return values

    def old_ends_at(self) -> datetime:
        overlap, moment = self.cleaned_data["overlap"], self.cleaned_data["ends_at"]
        if overlap == self.OTHER:
            assert isinstance(moment, datetime)
            return moment
        return timezone.now() + timedelta(days=int(overlap))


class PasswordPolicyForm(forms.Form):
    max_days = forms.IntegerField(
        label=_("Days an app password may live"),
        min_value=1,
        max_value=DAYS_MAX,
        required=False,
        help_text=_(
            "Empty: as long as whoever makes it says. It binds new ones at once; others get an end with notice."
        ),
    )
    unused_notice_days = forms.IntegerField(
        label=_("Days without a sign-in until a mail says so"),
        min_value=1,
        max_value=DAYS_MAX,
        required=False,
        help_text=_("Empty: no such mail."),
    )
    sleep_days = forms.IntegerField(
        label=_("Days without a sign-in until it goes to sleep"),
        min_value=1,
        max_value=DAYS_MAX,
        required=False,
        help_text=_(
            "Empty: none sleeps. One that sleeps signs in nowhere until a member wakes it. A mail announces it a week"
            " before."
        ),
    )

    def policy(self) -> Policy:
        return Policy(**{name: self.cleaned_data[name] for name in self.base_fields})


class LeakForm(forms.Form):
    text = forms.CharField(
        label=_("What you found"),
        max_length=20_000,
        strip=False,
        widget=forms.Textarea(
            attrs={"rows": 4, "autocomplete": "off", "spellcheck": "false", "autocapitalize": "none"}
        ),
        help_text=_("The secret itself, or the lines around it: everything that begins with gp_ or gpk_ is taken."),
    )
    found_at = forms.CharField(
        label=_("Where it was"),
        max_length=500,
        required=False,
        help_text=_("An address, a file, a log: what you know."),
    )


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


class SuppressionForm(forms.Form):
    address = forms.CharField(
        label=_("Address"),
        max_length=320,
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false", "autocapitalize": "none"}),
    )
    note = forms.CharField(label=_("Why"), max_length=200, required=False)


class SuppressionImportForm(forms.Form):
    """Pasted, or a file; what it holds is cleaned_data["text"] either way."""

    pasted = forms.CharField(
        label=_("Addresses"),
        required=False,
        help_text=_("One in each line, or CSV with a column “address” or “email”."),
        widget=forms.Textarea(attrs={"rows": 8, "spellcheck": "false", "autocapitalize": "none"}),
    )
    file = forms.FileField(label=_("Or a file"), required=False, help_text=_("Text or CSV, up to a megabyte."))
    note = forms.CharField(label=_("Where the list comes from"), max_length=200, required=False)

    def clean(self) -> dict[str, Any]:
        values = super().clean() or {}
        file = values.get("file")
        octets = file.read() if file else b""
        encoding = "utf-16" if octets[:2] in {b"\xff\xfe", b"\xfe\xff"} else "utf-8"  # spreadsheets on Windows
        values["text"] = octets.decode(encoding, "replace") if octets else values.get("pasted", "")
        if not values["text"].strip():
            raise ValidationError(_("Paste addresses, or choose a file."))
        return values
