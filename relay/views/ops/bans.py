"""The operator's bans: each with its evidence, who is hit, and its end; and the ranges that are never banned."""

from django.conf import settings
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_safe

from accounts.access import UserRequest, actor_of
from relay.guessing.bans import active_bans, customers_hit, lift_ban, past_bans, protect_range, unprotect_range
from relay.models import Ban, ProtectedRange
from relay.views.confirm import Question, ask
from relay.views.ops.access import operator_action, operator_page
from relay.views.ops.forms import ProtectForm

ACTIVE_MAX, PAST_MAX = 200, 50
form_page = require_http_methods(["GET", "HEAD", "POST"])


@require_safe
@operator_page
def bans(request: UserRequest) -> HttpResponse:
    now = timezone.now()
    active = list(active_bans(now).order_by("-began_at", "-pk")[:ACTIVE_MAX])
    hit = customers_hit(active, now=now)
    context = {
        "active": [(ban, hit.get(ban.pk, [])) for ban in active],
        "active_total": active_bans(now).count(),
        "past": past_bans(now).order_by("-began_at", "-pk")[:PAST_MAX],
        "ranges": ProtectedRange.objects.order_by("cidr"),
        "configured": [*settings.GATEPOST_PROXY_PEERS, *settings.GATEPOST_PROTECTED_NETWORKS],
        "switched_off": not settings.GATEPOST_BANS,
    }
    return render(request, "ops/bans.html", context)


@form_page
@operator_action
def lift(request: UserRequest, ban_id: int) -> HttpResponse:
    ban = get_object_or_404(Ban, pk=ban_id)
    place = reverse("relay:ops_bans")
    if request.method != "POST":
        title = _("Lift the ban of %(range)s?") % {"range": ban.cidr}
        text = _("Its connections are greeted again within a second, and nothing is held against it any more.")
        return ask(request, Question(title, text, _("Lift the ban"), place, dangerous=False))
    lift_ban(ban, actor=actor_of(request))
    messages.success(request, _("The ban of %(range)s is lifted.") % {"range": ban.cidr})
    return redirect(place)


@form_page
@operator_action
def protect(request: UserRequest) -> HttpResponse:
    form = ProtectForm(
        request.POST if request.method == "POST" else None, initial={"cidr": request.GET.get("range", "")}
    )
    if request.method == "POST" and form.is_valid():
        values = form.cleaned_data
        try:
            row = protect_range(cidr=values["cidr"], label=values["label"], actor=actor_of(request))
        except ValidationError as refused:
            form.add_error("cidr", refused)
        else:
            messages.success(request, _("%(range)s is protected: nothing inside is banned.") % {"range": row.cidr})
            return redirect("relay:ops_bans")
    return render(request, "ops/protect.html", {"form": form}, status=422 if form.errors else 200)


@form_page
@operator_action
def unprotect(request: UserRequest, range_id: int) -> HttpResponse:
    row = get_object_or_404(ProtectedRange, pk=range_id)
    place = reverse("relay:ops_bans")
    if request.method != "POST":
        title = _("Stop protecting %(range)s?") % {"range": row.cidr}
        text = _("Addresses inside it are put off and banned like others from then on, if they guess.")
        return ask(request, Question(title, text, _("Stop protecting"), place))
    unprotect_range(row, actor=actor_of(request))
    messages.success(request, _("%(range)s is no longer protected.") % {"range": row.cidr})
    return redirect(place)
