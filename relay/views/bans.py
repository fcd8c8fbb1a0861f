"""Bans that hit an organization's own addresses, as its auth log proves them; lifted by who may change SMTP users."""

from typing import Any

from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_http_methods, require_safe

from accounts import roles
from accounts.access import MemberRequest, actor_of, member_required
from relay.guessing.bans import LiftedLately, NotYours, OwnBan, lift_own_ban, may_lift_again_at, own_bans
from relay.views.confirm import Question, ask


@require_safe
@member_required(roles.AUTH_LOG_SEE)
def page(request: MemberRequest) -> HttpResponse:
    organization = request.organization
    rows = [
        (own, _names(request, own), may_lift_again_at(own.ban, organization=organization))
        for own in own_bans(organization)
    ]
    may_change = roles.can(request.membership, roles.SMTP_USERS_CHANGE)
    return render(request, "relay/bans.html", {"rows": rows, "may_change": may_change})


def _names(request: MemberRequest, own: OwnBan) -> list[str]:
    """Of what was tried, the organization's own usernames: others' are none of its business."""
    ending = f".{request.organization.slug}"
    return [name for name in own.ban.evidence.get("names", ()) if name.endswith(ending)]


@require_http_methods(["GET", "HEAD", "POST"])
@member_required(roles.SMTP_USERS_CHANGE)
def lift(request: MemberRequest, ban_id: int) -> HttpResponse:
    own = next((each for each in own_bans(request.organization) if each.ban.pk == ban_id), None)
    if own is None:
        raise Http404(_("There is no such ban of an address of yours."))
    if request.method != "POST":
        return ask(request, _question(own))
    try:
        lift_own_ban(own.ban, organization=request.organization, actor=actor_of(request))
    except (NotYours, LiftedLately) as refused:  # it ended meanwhile, or is lifted too often
        messages.error(request, refused.messages[0])
    else:
        messages.success(request, _("%(addresses)s may connect again.") % {"addresses": ", ".join(own.addresses)})
    return redirect("relay:bans")


def _question(own: OwnBan) -> Question:
    addresses: dict[str, Any] = {"addresses": ", ".join(own.addresses)}
    text = ngettext(
        "%(addresses)s may connect again within a second. If what failed there goes on guessing, it is banned again:"
        " correct it first.",
        "%(addresses)s may connect again within a second. If what failed there goes on guessing, they are banned again:"
        " correct it first.",
        len(own.addresses),
    )
    text += " " + _("The same range can be lifted once a day.")
    title = _("Lift the ban of %(range)s?") % {"range": own.ban.cidr}
    return Question(title, text % addresses, _("Lift the ban"), reverse("relay:bans"), dangerous=False)
