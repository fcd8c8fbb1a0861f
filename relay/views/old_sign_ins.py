"""Old ways to sign in: who still uses them, and the switches, each after a look at what it would have refused."""

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST, require_safe

from accounts import roles
from accounts.access import MemberRequest, actor_of, member_required, recent_mfa_required
from relay.deprecations import WAYS, Standing, Way, radar, switch_off, switch_on

SHOWN = 3  # uses of each way in the overview


@require_safe
@member_required(roles.SMTP_USERS_SEE)
def page(request: MemberRequest) -> HttpResponse:
    return render(request, "relay/old_sign_ins.html", {"standings": radar(request.organization), "shown": SHOWN})


@require_safe
@member_required(roles.SMTP_USERS_SEE)
def way(request: MemberRequest, key: str) -> HttpResponse:
    """Who uses it, all of them, and the switch."""
    context = {
        "standing": _standing(request, key),
        "may_change": roles.can(request.membership, roles.SMTP_USERS_CHANGE),
    }
    return render(request, "relay/old_sign_in.html", context)


@require_POST
@member_required(roles.SMTP_USERS_CHANGE)
@recent_mfa_required
def switch(request: MemberRequest, key: str) -> HttpResponse:
    """`to` is off or on."""
    old_way = _way(key)
    if not old_way.has_switch:
        raise Http404
    off = request.POST.get("to") == "off"
    try:
        (switch_off if off else switch_on)(request.organization, key, actor=actor_of(request))
    except ValidationError as refused:
        messages.error(request, " ".join(refused.messages))
    else:
        words = _("%(way)s is switched off.") if off else _("%(way)s is switched on again.")
        messages.success(request, words % {"way": old_way.title})
    return redirect("relay:old_sign_in", key)


def _way(key: str) -> Way:
    if key not in WAYS:
        raise Http404
    return WAYS[key]


def _standing(request: MemberRequest, key: str) -> Standing:
    _way(key)
    return next(standing for standing in radar(request.organization) if standing.way.key == key)
