"""The consent page of the authorization code flow: a member says whom a program may send for.

Shapes  The request is in the address's query, and is judged anew when the form comes back to the same address.
        Form fields: smtp_user, decision (allow or deny).
Errors  A request that names no client of ours, or no address of it, is a page; every other error goes back to the
        client (RFC 6749 4.1.2.1). Where one may not change SMTP users it is 403.
Source  RFC 6749 4.1, RFC 7636, RFC 9207 (iss), RFC 9700; docs/flow.md.
"""

from typing import Any
from urllib.parse import urlencode, urlsplit

from django import forms
from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import HttpResponse, HttpResponseBase
from django.shortcuts import get_object_or_404, render
from django.utils.translation import gettext_lazy as _
from django.views.decorators.cache import never_cache
from oauth2_provider.exceptions import FatalClientError, OAuthToolkitError
from oauth2_provider.http import OAuth2ResponseRedirect
from oauth2_provider.oauth2_backends import get_oauthlib_core
from oauthlib.oauth2 import OAuth2Error

from accounts import roles
from accounts.access import UserRequest, actor_of, recent_mfa_required, signed_in_required
from accounts.models import Membership, Organization
from audit.changes import record_change
from relay.models import SmtpUser
from relay.oauth.clients import kind_of
from relay.oauth.models import OAuthClient
from relay.oauth.validator import SMTP_USER

PARAMETER_LENGTH_MAX = 2048
SCHEMES = ["https", "http"]  # of redirect addresses; which of them are registered, OAuthClient knows


class ConsentForm(forms.Form):
    smtp_user = forms.ModelChoiceField(
        queryset=SmtpUser.objects.none(),
        label=_("SMTP user that it sends as"),
        empty_label=_("Choose"),
        error_messages={"required": _("Choose the SMTP user that it sends as.")},
    )

    def __init__(self, organization: Organization, *args: Any) -> None:
        super().__init__(*args)
        field = self.fields["smtp_user"]
        assert isinstance(field, forms.ModelChoiceField)
        field.queryset = SmtpUser.objects.filter(organization=organization, disabled_at=None).order_by("username")


@never_cache
@signed_in_required
@recent_mfa_required
def authorize(request: UserRequest) -> HttpResponseBase:
    if not _is_plain(request):
        return render(request, "relay/oauth_refused.html", {"why": _("The request cannot be read.")}, status=400)
    try:
        scopes, credentials = get_oauthlib_core().validate_authorization_request(request)
    except OAuthToolkitError as refused:
        return _refused(request, refused)
    client = get_object_or_404(OAuthClient.objects.select_related("organization"), client_id=credentials["client_id"])
    _refuse_strangers(request, client.organization)
    if credentials.get("code_challenge_method") != "S256":
        return _back(client, credentials, error="invalid_request", error_description="PKCE with S256 is needed.")
    form = ConsentForm(client.organization, request.POST if request.method == "POST" else None)
    if request.POST.get("decision") == "deny":
        return _back(client, credentials, error="access_denied")
    if request.method == "POST" and form.is_valid():
        return _allow(request, client, form.cleaned_data["smtp_user"], scopes, credentials)
    return _page(request, client, form, credentials["redirect_uri"])


def _allow(
    request: UserRequest, client: OAuthClient, smtp_user: SmtpUser, scopes: list[str], credentials: dict[str, Any]
) -> HttpResponseBase:
    try:
        with transaction.atomic():
            uri, *_rest = get_oauthlib_core().create_authorization_response(
                request, scopes=scopes, credentials=credentials | {SMTP_USER: smtp_user.pk}, allow=True
            )
            record_change(
                "oauth_client.allowed",
                organization_id=client.organization_id,
                actor=actor_of(request),
                subject=client.name,
                subject_id=str(client.pk),
                values={"smtp_user": smtp_user.username, "client_id": client.client_id},
            )
    except OAuthToolkitError as refused:
        return _refused(request, refused)
    return OAuth2ResponseRedirect(uri, SCHEMES)


def _refuse_strangers(request: UserRequest, organization: Organization) -> None:
    """Whichever organization is shown: the client's own decides."""
    membership = Membership.objects.filter(user=request.user, organization=organization).first()
    if not roles.can(membership, roles.SMTP_USERS_CHANGE) or organization.state == Organization.State.SUSPENDED:
        raise PermissionDenied


def _page(request: UserRequest, client: OAuthClient, form: ConsentForm, redirect_uri: str) -> HttpResponse:
    parts = urlsplit(redirect_uri)
    context = {
        "client": client,
        "kind": kind_of(client),
        "form": form,
        "host": parts.netloc,
        "has_users": form.fields["smtp_user"].queryset.exists(),  # type: ignore[attr-defined]
    }
    response = render(request, "relay/oauth_consent.html", context, status=422 if form.is_bound else 200)
    # Browsers hold the redirect that answers a form against form-action as well (CSP 3, 4.1.1).
    response._csp_update = {"form-action": f"{parts.scheme}://{parts.netloc}"}  # type: ignore[attr-defined]  # django-csp
    return response


def _refused(request: UserRequest, refused: OAuthToolkitError) -> HttpResponseBase:
    """Strangers are sent nowhere: else anybody's client would turn links to us into links to it (RFC 9700 4.11)."""
    error: OAuth2Error = refused.oauthlib_error
    if isinstance(refused, FatalClientError) or not error.redirect_uri:
        context = {"why": error.description or error.error}
        return render(request, "relay/oauth_refused.html", context, status=400)
    client = get_object_or_404(OAuthClient.objects.select_related("organization"), client_id=error.client_id)
    _refuse_strangers(request, client.organization)
    return _redirect(error.redirect_uri, dict(error.twotuples))


def _back(client: OAuthClient, credentials: dict[str, Any], **words: str) -> HttpResponseBase:
    given = words | ({"state": credentials["state"]} if credentials.get("state") else {})
    return _redirect(credentials["redirect_uri"], given)


def _redirect(uri: str, words: dict[str, str]) -> HttpResponseBase:
    """With iss, so that a client of several servers knows whose answer it is."""
    query = urlencode(words | {"iss": settings.GATEPOST_WEB_URL})
    return OAuth2ResponseRedirect(f"{uri}{'&' if '?' in uri else '?'}{query}", SCHEMES)


def _is_plain(request: UserRequest) -> bool:
    """RFC 6749 3.1: each parameter once. The form's own fields must not come by the address."""
    return not {"smtp_user", "decision"} & set(request.GET) and all(
        len(values) == 1 and values[0].isprintable() and len(values[0]) <= PARAMETER_LENGTH_MAX
        for _name, values in request.GET.lists()
    )
