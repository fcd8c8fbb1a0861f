"""Forms of the pages about OAuth: they read and check text; relay.oauth.clients and .issuers make the change."""

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from accounts.models import Organization
from relay.models import SmtpUser
from relay.oauth.clients import NATIVE, REDIRECTS_MAX, SERVICE, WEB
from relay.oauth.issuers import LIFE_MINUTES

PLAIN = {"autocomplete": "off", "spellcheck": "false", "autocapitalize": "none"}


class SmtpUserField(forms.ModelChoiceField):  # type: ignore[type-arg]  # not subscriptable at run time
    """One of the organization's SMTP users that are not disabled; the form gives it the organization."""

    def __init__(self, **options: Any) -> None:
        super().__init__(queryset=SmtpUser.objects.none(), empty_label=_("Choose"), **options)

    def offer(self, organization: Organization) -> None:
        self.queryset = SmtpUser.objects.filter(organization=organization, disabled_at=None).order_by("username")


class ClientForm(forms.Form):
    name = forms.CharField(
        label=_("Name"), max_length=64, help_text=_("Whoever is asked for consent reads it: “Newsletter tool”.")
    )
    kind = forms.ChoiceField(
        label=_("What kind of program is it?"),
        choices=[
            (SERVICE, _("A service without people: it fetches its tokens with its secret (client credentials).")),
            (WEB, _("A web application: a member gives consent in the browser (authorization code, with a secret).")),
            (NATIVE, _("An app on computers or phones: the same, without a secret (authorization code, PKCE alone).")),
        ],
        widget=forms.RadioSelect,
        error_messages={"required": _("Choose one: it decides how the program gets its tokens.")},
    )
    smtp_user = SmtpUserField(
        label=_("SMTP user that it sends as"),
        required=False,
        help_text=_("Only for a service. With the others it is chosen when somebody gives consent."),
    )
    redirect_uris = forms.CharField(
        label=_("Redirect addresses"),
        required=False,
        max_length=REDIRECTS_MAX * 600,
        widget=forms.Textarea(attrs={"rows": 3, **PLAIN}),
        help_text=_(
            "Not for a service. One on each line, whole, as the program sends them: https://…, or for apps"
            " http://127.0.0.1/… (its port may change)."
        ),
    )

    def __init__(self, organization: Organization, *args: Any) -> None:
        super().__init__(*args)
        _offer(self, organization)

    def clean_redirect_uris(self) -> list[str]:
        return list(dict.fromkeys(self.cleaned_data["redirect_uris"].split()))


class IssuerForm(forms.Form):
    name = forms.CharField(label=_("Name"), max_length=64, help_text=_("As your colleagues know it: “Company login”."))
    issuer = forms.CharField(
        label=_("Issuer"),
        max_length=512,
        widget=forms.TextInput(attrs={"inputmode": "url", **PLAIN}),
        help_text=_("Character by character as in the tokens' iss: https://login.example.com/."),
    )
    audience = forms.CharField(
        label=_("Audience"),
        max_length=255,
        widget=forms.TextInput(attrs=PLAIN),
        help_text=_(
            "What the tokens' aud holds. Use one that no other service accepts, or its tokens sign in here too."
        ),
    )
    claim = forms.CharField(
        label=_("Claim that names the SMTP user"),
        max_length=64,
        initial="sub",
        widget=forms.TextInput(attrs=PLAIN),
        help_text=_(
            "It holds the SMTP user's username, or a value that you list on the issuer's page. Take one that the"
            " token's holder cannot change."
        ),
    )
    jwks_url = forms.CharField(
        label=_("Address of the keys"),
        max_length=1000,
        required=False,
        widget=forms.TextInput(attrs={"inputmode": "url", **PLAIN}),
        help_text=_("Its JSON Web Key Set. Empty: as the issuer's metadata says (discovery)."),
    )
    life_minutes_max = forms.IntegerField(
        label=_("Longest life of a token, minutes"),
        min_value=LIFE_MINUTES[0],
        max_value=LIFE_MINUTES[-1],
        initial=60,
        help_text=_("From when it was issued, whatever its own end says."),
    )


class SubjectForm(forms.Form):
    value = forms.CharField(label=_("Value of the claim"), max_length=255, widget=forms.TextInput(attrs=PLAIN))
    smtp_user = SmtpUserField(label=_("SMTP user"))

    def __init__(self, organization: Organization, *args: Any) -> None:
        super().__init__(*args)
        _offer(self, organization)


def _offer(form: forms.Form, organization: Organization) -> None:
    field = form.fields["smtp_user"]
    assert isinstance(field, SmtpUserField)
    field.offer(organization)
