"""Networks of an organization, an SMTP user or an app password: added, after a warning if real sign-ins would be
refused; removed, after a question. What opens a list to everybody or to very many asks for recent identification."""

from collections.abc import Callable
from functools import partial

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from accounts import roles
from accounts.access import MemberRequest, actor_of, is_recent, member_required, send_to
from relay import queries
from relay.forms import NetworkForm
from relay.models import AppPassword, Network
from relay.networks import (
    Allowlist,
    RefusedLogin,
    add_network,
    is_wide,
    list_of,
    live,
    remove_network,
    would_refuse,
)
from relay.views.confirm import Question, ask
from relay.views.smtp_user import page_of, show, smtp_user_of

LIST = "list"  # ?back=list: the form stands on the list's own page


def list_page(owner: Allowlist) -> str:
    """Where one list is shown by itself, with its learning."""
    if owner.app_password:
        return reverse("relay:network_list_app_password", args=[owner.app_password.pk])
    if owner.smtp_user:
        return reverse("relay:network_list_smtp_user", args=[owner.smtp_user.pk])
    return reverse("relay:network_list")


def app_password_of(request: MemberRequest, app_password_id: int) -> AppPassword:
    mine = AppPassword.objects.select_related("smtp_user")
    return get_object_or_404(mine, pk=app_password_id, smtp_user__organization=request.organization)


@require_POST
@member_required(roles.SMTP_USERS_CHANGE)
def add_for_organization(request: MemberRequest) -> HttpResponse:
    return _add(request, Allowlist(request.organization), lambda form: _organization_page(request, form))


@require_POST
@member_required(roles.SMTP_USERS_CHANGE)
def add_for_smtp_user(request: MemberRequest, smtp_user_id: int) -> HttpResponse:
    smtp_user = smtp_user_of(request, smtp_user_id)
    owner = Allowlist(request.organization, smtp_user)
    return _add(request, owner, lambda form: show(request, smtp_user, status=422, network_form=form))


@require_POST
@member_required(roles.SMTP_USERS_CHANGE)
def add_for_app_password(request: MemberRequest, app_password_id: int) -> HttpResponse:
    app_password = app_password_of(request, app_password_id)
    owner = Allowlist(request.organization, app_password.smtp_user, app_password)
    return _add(request, owner, lambda form: _list_again(request, owner, form))


def _list_again(request: MemberRequest, owner: Allowlist, form: NetworkForm) -> HttpResponse:
    from relay.views.network_lists import show as show_list  # it shows this module's forms

    return show_list(request, owner, status=422, network_form=form)


def _organization_page(request: MemberRequest, form: NetworkForm) -> HttpResponse:
    context = {
        "rows": queries.smtp_user_rows(request.organization.pk),
        "networks": list_of(request.organization),
        "network_form": form,
        "may_change": True,
    }
    return render(request, "relay/smtp_users.html", context, status=422)


def _add(request: MemberRequest, owner: Allowlist, again: Callable[[NetworkForm], HttpResponse]) -> HttpResponse:
    form = NetworkForm(request.POST)
    if request.POST.get("back") == LIST:
        again = partial(_list_again, request, owner)
    if not form.is_valid():
        return again(form)
    cidr = form.cleaned_data["cidr"]
    if is_wide(cidr) and not is_recent(request):
        return send_to(request, "accounts:confirm_identity")
    if request.POST.get("confirmed") != "yes":
        refused = _refused(owner, adding=cidr)
        if refused:
            return ask(request, _warning(request, owner, form, refused))
    try:
        add_network(
            request.organization,
            cidr=cidr,
            label=form.cleaned_data["label"],
            ends_at=form.ends_at(),
            smtp_user=owner.smtp_user,
            app_password=owner.app_password,
            actor=actor_of(request),
        )
    except ValidationError as refusal:
        form.add_error("cidr", refusal)
        return again(form)
    messages.success(request, _("%(network)s is allowed.") % {"network": cidr})
    return redirect(_place(request, owner))


def _place(request: MemberRequest, owner: Allowlist) -> str:
    """Back to where the form stood."""
    asked = request.POST.get("back") or request.GET.get("back")
    if asked == LIST or owner.app_password:
        return list_page(owner)
    return (page_of(owner.smtp_user) if owner.smtp_user else reverse("relay:smtp_users")) + "#networks"


def _refused(owner: Allowlist, *, adding: str = "", removing: Network | None = None) -> list[RefusedLogin]:
    """What the list would have refused after the change. An empty list refuses nothing."""
    rows = owner.rows.filter(live(timezone.now()))
    if removing is not None:
        rows = rows.exclude(pk=removing.pk)
    ranges = [row.cidr for row in rows] + ([adding] if adding else [])
    if not ranges:
        return []
    return would_refuse(owner.organization, smtp_user=owner.smtp_user, app_password=owner.app_password, networks=ranges)


def _warning(request: MemberRequest, owner: Allowlist, form: NetworkForm, refused: list[RefusedLogin]) -> Question:
    ends_on = form.cleaned_data["ends_on"]
    return Question(
        title=_("Allow only the list with %(network)s?") % {"network": form.cleaned_data["cidr"]},
        text=_("These sign-ins of the last 7 days came from addresses outside the list. They would have been refused:"),
        action=_("Add it anyway"),
        back=_place(request, owner),
        refused=refused,
        values=(
            ("cidr", form.cleaned_data["cidr"]),
            ("label", form.cleaned_data["label"]),
            ("ends_on", ends_on.isoformat() if ends_on else ""),
            ("back", request.POST.get("back", "")),
            ("confirmed", "yes"),
        ),
    )


@member_required(roles.SMTP_USERS_CHANGE)
def remove(request: MemberRequest, network_id: int) -> HttpResponse:
    network = get_object_or_404(
        Network.objects.select_related("smtp_user", "app_password__smtp_user"),
        pk=network_id,
        organization=request.organization,
    )
    owner = Allowlist(request.organization, network.smtp_user, network.app_password)
    place = _place(request, owner)
    if _is_last(owner, network) and not is_recent(request):
        return send_to(request, "accounts:confirm_identity")
    if request.method != "POST":
        return ask(request, _removal(owner, network, place))
    remove_network(network, actor=actor_of(request))
    messages.success(request, _("%(network)s is removed.") % {"network": network.cidr})
    return redirect(place)


def _is_last(owner: Allowlist, network: Network) -> bool:
    """Without it the list is open to everybody."""
    return not owner.rows.filter(live(timezone.now())).exclude(pk=network.pk).exists()


def _removal(owner: Allowlist, network: Network, place: str) -> Question:
    refused = _refused(owner, removing=network)
    if not _is_last(owner, network):
        text = _("Sign-ins from it are refused from then on, unless another range of the list holds the address.")
    else:
        text = _("It is the last one of its list: any address may sign in then.")
    if refused:
        text += " " + _("These sign-ins of the last 7 days would have been refused:")
    title = _("Remove %(network)s?") % {"network": network.cidr}
    return Question(title, text, _("Remove"), place, refused=refused)
