"""Networks of an organization or an SMTP user: added, after a warning if real sign-ins would be refused; removed."""

from collections.abc import Callable

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.db.models import Q
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from accounts import roles
from accounts.access import MemberRequest, actor_of, member_required
from relay import queries
from relay.forms import NetworkForm
from relay.models import Network, SmtpUser
from relay.networks import RefusedLogin, add_network, list_of, live, remove_network, would_refuse
from relay.views.confirm import Question, ask
from relay.views.smtp_user import page_of, show, smtp_user_of


@require_POST
@member_required(roles.SMTP_USERS_CHANGE)
def add_for_organization(request: MemberRequest) -> HttpResponse:
    return _add(request, None, lambda form: _organization_page(request, form))


@require_POST
@member_required(roles.SMTP_USERS_CHANGE)
def add_for_smtp_user(request: MemberRequest, smtp_user_id: int) -> HttpResponse:
    smtp_user = smtp_user_of(request, smtp_user_id)
    return _add(request, smtp_user, lambda form: show(request, smtp_user, status=422, network_form=form))


def _organization_page(request: MemberRequest, form: NetworkForm) -> HttpResponse:
    context = {
        "rows": queries.smtp_user_rows(request.organization.pk),
        "networks": list_of(request.organization),
        "network_form": form,
        "may_change": True,
    }
    return render(request, "relay/smtp_users.html", context, status=422)


def _add(
    request: MemberRequest, smtp_user: SmtpUser | None, again: Callable[[NetworkForm], HttpResponse]
) -> HttpResponse:
    form = NetworkForm(request.POST)
    if not form.is_valid():
        return again(form)
    cidr = form.cleaned_data["cidr"]
    if request.POST.get("confirmed") != "yes":
        refused = _refused(request, smtp_user, adding=cidr)
        if refused:
            return ask(request, _warning(smtp_user, form, refused))
    try:
        add_network(
            request.organization,
            cidr=cidr,
            label=form.cleaned_data["label"],
            ends_at=form.ends_at(),
            smtp_user=smtp_user,
            actor=actor_of(request),
        )
    except ValidationError as refusal:
        form.add_error("cidr", refusal)
        return again(form)
    messages.success(request, _("%(network)s is allowed.") % {"network": cidr})
    return redirect(_place(smtp_user))


def _place(smtp_user: SmtpUser | None) -> str:
    return (page_of(smtp_user) if smtp_user else reverse("relay:smtp_users")) + "#networks"


def _refused(
    request: MemberRequest, smtp_user: SmtpUser | None, *, adding: str = "", removing: Network | None = None
) -> list[RefusedLogin]:
    """What the list would have refused after the change. An empty list refuses nothing."""
    rows = list_of(request.organization, smtp_user=smtp_user).filter(live(timezone.now()))
    if removing is not None:
        rows = rows.filter(~Q(pk=removing.pk))
    ranges = [row.cidr for row in rows] + ([adding] if adding else [])
    return would_refuse(request.organization, smtp_user=smtp_user, networks=ranges) if ranges else []


def _warning(smtp_user: SmtpUser | None, form: NetworkForm, refused: list[RefusedLogin]) -> Question:
    ends_on = form.cleaned_data["ends_on"]
    return Question(
        title=_("Allow only the list with %(network)s?") % {"network": form.cleaned_data["cidr"]},
        text=_("These sign-ins of the last 7 days came from addresses outside the list. They would have been refused:"),
        action=_("Add it anyway"),
        back=_place(smtp_user),
        refused=refused,
        values=(
            ("cidr", form.cleaned_data["cidr"]),
            ("label", form.cleaned_data["label"]),
            ("ends_on", ends_on.isoformat() if ends_on else ""),
            ("confirmed", "yes"),
        ),
    )


@member_required(roles.SMTP_USERS_CHANGE)
def remove(request: MemberRequest, network_id: int) -> HttpResponse:
    network = get_object_or_404(
        Network.objects.select_related("smtp_user"), pk=network_id, organization=request.organization
    )
    place = _place(network.smtp_user)
    if request.method != "POST":
        return ask(request, _removal(request, network, place))
    remove_network(network, actor=actor_of(request))
    messages.success(request, _("%(network)s is removed.") % {"network": network.cidr})
    return redirect(place)


def _removal(request: MemberRequest, network: Network, place: str) -> Question:
    rest = list_of(request.organization, smtp_user=network.smtp_user, app_password=network.app_password)
    refused = _refused(request, network.smtp_user, removing=network) if network.app_password is None else []
    if rest.filter(live(timezone.now())).exclude(pk=network.pk).exists():
        text = _("Sign-ins from it are refused from then on, unless another range of the list holds the address.")
    else:
        text = _("It is the last one of its list: any address may sign in then.")
    if refused:
        text += " " + _("These sign-ins of the last 7 days would have been refused:")
    title = _("Remove %(network)s?") % {"network": network.cidr}
    return Question(title, text, _("Remove"), place, refused=refused)
