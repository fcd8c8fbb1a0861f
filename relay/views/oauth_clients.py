"""OAuth clients of the organization: listed, made (shown once, and once however often the form is sent), deleted."""

from uuid import UUID

from django.conf import settings
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST

from accounts import once, roles
from accounts.access import MemberRequest, actor_of, member_required, recent_mfa_required
from relay.oauth import clients
from relay.oauth.forms import ClientForm
from relay.oauth.models import OAuthClient
from relay.views.confirm import Question, ask


@never_cache
@member_required(roles.API_KEYS_CHANGE)
def page(request: MemberRequest) -> HttpResponse:
    found = OAuthClient.objects.filter(organization=request.organization).select_related("smtp_user", "created_by")
    rows = [(client, clients.kind_of(client)) for client in found.order_by("-created", "-pk")]
    context = {"rows": rows, "metadata_url": settings.GATEPOST_WEB_URL + reverse("relay:oauth_metadata")}
    return render(request, "relay/oauth_clients.html", context)


@never_cache
@member_required(roles.API_KEYS_CHANGE)
@recent_mfa_required
def create(request: MemberRequest) -> HttpResponse:
    """The answer to the form is the only page that ever shows the secret."""
    if request.method != "POST":
        return _form(request, ClientForm(request.organization))
    form = ClientForm(request.organization, request.POST)
    if not form.is_valid():
        return _form(request, form, status=422)
    if not once.spend(request, request.POST.get("token", "")):
        text = _("This form was sent already, so no further client was made. A lost secret cannot be shown again.")
        messages.warning(request, text)
        return redirect("relay:oauth_clients")
    try:
        made = clients.create_client(
            request.organization, **form.cleaned_data, actor=actor_of(request), created_by=request.user
        )
    except ValidationError as refused:
        form.add_error(refused.code if refused.code in form.fields else None, refused)
        return _form(request, form, status=422)
    return render(request, "relay/oauth_client_made.html", _made(made))


@never_cache
@member_required(roles.API_KEYS_CHANGE)
def client(request: MemberRequest, client_id: int) -> HttpResponse:
    found = _client_of(request, client_id)
    context = {"client": found, "kind": clients.kind_of(found), "consents": clients.consents_of(found)}
    return render(request, "relay/oauth_client.html", context)


@require_POST
@member_required(roles.API_KEYS_CHANGE)
def consent_end(request: MemberRequest, client_id: int, family: UUID) -> HttpResponse:
    """Of a consent that has ended already the page shows nothing any more, which is what was asked for."""
    found = _client_of(request, client_id)
    clients.end_consent(found, family, actor=actor_of(request))
    messages.success(request, _("The consent has ended. Its tokens are refused."))
    return redirect("relay:oauth_client", found.pk)


@member_required(roles.API_KEYS_CHANGE)
@recent_mfa_required
def delete(request: MemberRequest, client_id: int) -> HttpResponse:
    client = _client_of(request, client_id)
    back = reverse("relay:oauth_client", args=[client.pk])
    if request.method != "POST":
        text = _("Its tokens are refused at once, their open SMTP sessions end, and it gets no further ones.")
        title = _("Delete “%(name)s”?") % {"name": client.name}
        return ask(request, Question(title, text, _("Delete"), back))
    clients.delete_client(client, actor=actor_of(request))
    messages.success(request, _("“%(name)s” is deleted.") % {"name": client.name})
    return redirect("relay:oauth_clients")


def _client_of(request: MemberRequest, client_id: int) -> OAuthClient:
    mine = OAuthClient.objects.filter(organization=request.organization).select_related("smtp_user", "created_by")
    found: OAuthClient = get_object_or_404(mine, pk=client_id)
    return found


def _form(request: MemberRequest, form: ClientForm, *, status: int = 200) -> HttpResponse:
    context = {"form": form, "token": once.issue(request)}
    return render(request, "relay/oauth_client_create.html", context, status=status)


def _made(made: clients.NewClient) -> dict[str, object]:
    here = settings.GATEPOST_WEB_URL
    token_url = here + reverse("relay:oauth_token")
    return {
        "made": made,
        "kind": clients.kind_of(made.client),
        "token_url": token_url,
        "authorize_url": here + reverse("relay:oauth_authorize"),
        "metadata_url": here + reverse("relay:oauth_metadata"),
        "command": (
            f'curl --user "{made.client.client_id}:$GATEPOST_CLIENT_SECRET" \\\n'
            f"     --data grant_type=client_credentials \\\n     {token_url}"
        ),
    }
