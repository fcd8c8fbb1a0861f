"""API keys of the organization: list, make (shown once, and made once however often the form is sent), revoke."""

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import HttpResponse, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST

from accounts import once
from accounts.access import MemberRequest, actor_of, member_required, recent_mfa_required
from accounts.api_keys import NewApiKey, create_api_key, revoke_api_key
from accounts.forms import ApiKeyForm
from accounts.models import ApiKey
from accounts.roles import API_KEYS_CHANGE


@never_cache
@member_required(API_KEYS_CHANGE)
def api_keys(request: MemberRequest) -> HttpResponseBase:
    return _make(request) if request.method == "POST" else _page(request, _empty(request))


@recent_mfa_required
def _make(request: MemberRequest) -> HttpResponse:
    form = ApiKeyForm(request.POST, membership=request.membership)
    if not form.is_valid():
        return _page(request, form, status=400)
    if not once.spend(request, request.POST.get("token", "")):
        text = _("This form was sent already, so no further key was made. A lost key cannot be shown again: revoke it.")
        messages.warning(request, text)
        return redirect("accounts:api_keys")
    try:
        made = create_api_key(
            request.organization,
            name=form.cleaned_data["name"],
            scopes=form.cleaned_data["scopes"],
            expires_at=form.expires_at(),
            created_by=request.user,
            actor=actor_of(request),
        )
    except ValidationError as error:
        form.add_error(None, error)
        return _page(request, form, status=400)
    return _page(request, _empty(request), made=made)


def _empty(request: MemberRequest) -> ApiKeyForm:
    return ApiKeyForm(membership=request.membership)


@require_POST
@member_required(API_KEYS_CHANGE)
@recent_mfa_required
def revoke(request: MemberRequest, api_key_id: int) -> HttpResponse:
    api_key = get_object_or_404(ApiKey, pk=api_key_id, organization=request.organization)
    revoke_api_key(api_key, actor=actor_of(request))
    messages.success(request, _("The key is revoked. Whatever used it gets 401 from now on."))
    return redirect("accounts:api_keys")


def _page(request: MemberRequest, form: ApiKeyForm, made: NewApiKey | None = None, status: int = 200) -> HttpResponse:
    keys = ApiKey.objects.filter(organization=request.organization).select_related("created_by").order_by("-created_at")
    context = {"form": form, "keys": keys, "made": made, "now": timezone.now(), "token": once.issue(request)}
    return render(request, "accounts/api_keys.html", context, status=status)
