"""Forms of the account pages. They check and say what is wrong; the subject modules change things.

Units   Passwords and codes are cut off by max_length before anything costly looks at them.
"""

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from django import forms
from django.contrib.auth import authenticate
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.models import ApiKey, Membership, Organization, Role, User
from accounts.password_policy import LONGEST, check_classes, policy_for
from accounts.roles import may_give, may_give_scope

_LINK = re.compile(r"://|\bwww\.", re.IGNORECASE)


class EmailField(forms.EmailField):
    """Addresses are compared case-blind, so they are kept in lower case."""

    def __init__(self, *, autocomplete: str = "email", **kwargs: Any) -> None:
        kwargs.setdefault("label", _("E-mail address"))
        super().__init__(max_length=254, widget=forms.EmailInput(attrs={"autocomplete": autocomplete}), **kwargs)

    def clean(self, value: Any) -> Any:
        return super().clean(value).lower()


class PasswordField(forms.CharField):
    def __init__(self, *, autocomplete: str = "current-password", **kwargs: Any) -> None:
        kwargs.setdefault("label", _("Password"))
        super().__init__(
            strip=False, max_length=LONGEST, widget=forms.PasswordInput(attrs={"autocomplete": autocomplete}), **kwargs
        )


class NewPasswordField(PasswordField):
    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("help_text", _("At least 12 characters. Four or five unrelated words are strong and easy."))
        super().__init__(autocomplete="new-password", **kwargs)


class NameField(forms.CharField):
    """A name that is printed in mails and pages: one line, and no link that a mail client would make clickable."""

    def clean(self, value: Any) -> Any:
        name = super().clean(value)
        if any(not character.isprintable() for character in name):
            raise ValidationError(_("Use one line of ordinary characters."), code="control")
        if _LINK.search(name):
            raise ValidationError(_("A name cannot contain a link."), code="link")
        return name


class SignInForm(forms.Form):
    """`username` is the field's name that password managers and django-axes know; it is the e-mail address."""

    username = EmailField(autocomplete="username")
    password = PasswordField()

    def __init__(self, request: HttpRequest, data: Mapping[str, Any] | None = None) -> None:
        super().__init__(data)
        self.fields["username"].widget.attrs["autofocus"] = True
        self.request = request
        self.user: User | None = None

    def clean(self) -> dict[str, Any]:
        found = self.cleaned_data
        if "username" in found and "password" in found:
            user = authenticate(self.request, username=found["username"], password=found["password"])
            if not isinstance(user, User):
                raise ValidationError(_("The e-mail address or the password is wrong."), code="wrong")
            self.user = user
        return found


class PasswordCheckForm(forms.Form):
    """The password of who is signed in, once more; wrong ones count like wrong sign-ins."""

    password = PasswordField()

    def __init__(self, request: HttpRequest, data: Mapping[str, Any] | None = None) -> None:
        super().__init__(data)
        self.request = request

    def clean_password(self) -> str:
        return _checked_password(self.request, self.cleaned_data["password"])


class CodeForm(forms.Form):
    code = forms.CharField(
        label=_("Code"),
        max_length=32,
        widget=forms.TextInput(attrs={"autocomplete": "one-time-code", "autocapitalize": "none", "autofocus": True}),
    )


class SignUpForm(forms.Form):
    organization_name = NameField(
        label=_("Organization"),
        max_length=120,
        help_text=_("Your company, team or project."),
        widget=forms.TextInput(attrs={"autocomplete": "organization"}),
    )
    email = EmailField()
    password = NewPasswordField()

    def clean(self) -> dict[str, Any]:
        found = self.cleaned_data
        if "email" in found and "password" in found:
            _validate_new(self, "password", User(email=found["email"]))
        return found


class AskForMailForm(forms.Form):
    email = EmailField()


class SetPasswordForm(forms.Form):
    """A new password for a known person, without the old one: behind the link of a reset mail."""

    password = NewPasswordField(label=_("New password"))

    def __init__(self, user: User, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.user = user

    def clean(self) -> dict[str, Any]:
        if "password" in self.cleaned_data:
            _validate_new(self, "password", self.user)
        return self.cleaned_data


class ChangePasswordForm(forms.Form):
    old_password = PasswordField(label=_("Present password"))
    password = NewPasswordField(label=_("New password"))

    def __init__(self, request: HttpRequest, user: User, data: Mapping[str, Any] | None = None) -> None:
        super().__init__(data)
        self.request, self.user = request, user

    def clean_old_password(self) -> str:
        return _checked_password(self.request, self.cleaned_data["old_password"])

    def clean(self) -> dict[str, Any]:
        found = self.cleaned_data
        if found.get("password") and found.get("password") == found.get("old_password"):
            self.add_error("password", ValidationError(_("Choose another password than the present one."), code="same"))
        elif "password" in found:
            _validate_new(self, "password", self.user)
        return found


class JoinForm(forms.Form):
    """Who accepts an invitation without an account; one to found also asks for the organization's name."""

    name = NameField(
        label=_("Your name"), max_length=120, required=False, widget=forms.TextInput(attrs={"autocomplete": "name"})
    )
    organization_name = NameField(label=_("Organization"), max_length=120)
    password = NewPasswordField()

    def __init__(self, email: str, organization: Organization | None, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.email, self.organization = email, organization
        if organization is not None:
            del self.fields["organization_name"]

    def clean(self) -> dict[str, Any]:
        found = self.cleaned_data
        if "password" in found:
            _validate_new(self, "password", User(email=self.email, name=found.get("name", "")))
        if "password" in found and self.organization is not None:
            try:
                check_classes(found["password"], policy_for([self.organization]))
            except ValidationError as error:
                self.add_error("password", error)
        return found


class FoundForm(forms.Form):
    organization_name = NameField(label=_("Organization"), max_length=120)


class InviteForm(forms.Form):
    email = EmailField(autocomplete="off")
    role = forms.ChoiceField(label=_("Role"), choices=(), widget=forms.Select)

    def __init__(self, membership: Membership, data: Mapping[str, Any] | None = None) -> None:
        super().__init__(data)
        field = self.fields["role"]
        assert isinstance(field, forms.ChoiceField)
        field.choices = roles_to_give(membership)
        field.initial = Role.DEVELOPER


class OrganizationForm(forms.Form):
    name = NameField(label=_("Name"), max_length=120)
    mfa_required = forms.BooleanField(
        label=_("Members need a second factor"),
        help_text=_("Who has none is asked to set it up at the next page."),
        required=False,
    )
    password_classes = forms.TypedChoiceField(
        label=_("Character classes a password needs"),
        coerce=int,
        choices=[(0, _("No rule")), (2, _("Two of four")), (3, _("Three of four")), (4, _("All four"))],
        help_text=_(
            "Of lower-case, upper-case, digits and others. Length helps more; every password is checked for it."
        ),
    )
    password_max_age_days = forms.IntegerField(
        label=_("Days until a password must change"), required=False, min_value=1, max_value=3650
    )
    password_history_length = forms.IntegerField(
        label=_("Earlier passwords that may not return"), min_value=0, max_value=24
    )


class ApiKeyForm(forms.Form):
    ENDS = (("", _("Never")), ("30", _("In 30 days")), ("90", _("In 90 days")), ("365", _("In a year")))

    name = NameField(label=_("Name"), max_length=64, help_text=_("What will use it, for example “billing export”."))
    scopes = forms.MultipleChoiceField(
        label=_("It may"), choices=ApiKey.Scope.choices, widget=forms.CheckboxSelectMultiple
    )
    ends = forms.ChoiceField(label=_("Ends"), choices=ENDS, required=False)

    def expires_at(self) -> Any:
        days = self.cleaned_data["ends"]
        return timezone.now() + timedelta(days=int(days)) if days else None

    def __init__(self, data: Any = None, *, membership: Membership) -> None:
        super().__init__(data)
        offered = [(value, label) for value, label in ApiKey.Scope.choices if may_give_scope(membership, value)]
        self.fields["scopes"].choices = offered  # type: ignore[attr-defined]  # a MultipleChoiceField


def roles_to_give(membership: Membership) -> list[tuple[str, Any]]:
    return [(role.value, role.label) for role in Role if may_give(membership, role)]


def _checked_password(request: HttpRequest, password: str) -> str:
    assert isinstance(request.user.pk, int)
    if authenticate(request, username=request.user.get_username(), password=password) is None:
        raise ValidationError(_("The password is wrong."), code="wrong")
    return password


def _validate_new(form: forms.Form, field: str, user: User) -> None:
    try:
        validate_password(form.cleaned_data[field], user)
    except ValidationError as error:
        form.add_error(field, error)
