"""Networks in one place: every list of the organization, and one list with its ranges, its learning and its preview.

Shapes  index: all three levels. page: one list. A learning's form goes back to the page with what was typed; only
        enforce changes who may sign in, and asks who is there.
Errors  What the core refuses stands above the form; another organization's ids are not found.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.forms import BaseFormSet
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST, require_safe

from accounts import roles
from accounts.access import MemberRequest, actor_of, member_required, recent_mfa_required
from relay import learning
from relay.forms import NetworkForm
from relay.learning import Draft, Shut
from relay.models import AppPassword, Network, NetworkLearning, SmtpUser
from relay.network_forms import LearningForm, RangeForm, ranges_of
from relay.networks import Allowlist
from relay.password_life import live as live_passwords
from relay.proposal import Proposed
from relay.views.networks import app_password_of, list_page
from relay.views.smtp_user import smtp_user_of

SHOWN = 20  # rows of a preview


@dataclass(frozen=True, slots=True)
class ListRow:
    """One list as the index shows it."""

    owner: Allowlist
    url: str
    networks: list[Network]
    learning: NetworkLearning | None


@dataclass(frozen=True, slots=True)
class LearningView:
    """What the page shows of a learning."""

    learning: NetworkLearning
    over: bool
    draft: Draft
    rows: list[tuple[RangeForm, str]]  # each range's form, and the words of its evidence
    formset: "BaseFormSet[RangeForm]"
    shut_out: list[Shut]


@require_safe
@member_required(roles.SMTP_USERS_SEE)
def index(request: MemberRequest) -> HttpResponse:
    return render(request, "relay/network_lists.html", {"rows": _all_lists(request), "now": timezone.now()})


def _all_lists(request: MemberRequest) -> list[ListRow]:
    """The organization's, then each SMTP user's with those of its live app passwords."""
    organization = request.organization
    by_list: dict[tuple[int | None, int | None], list[Network]] = {}
    for network in Network.objects.filter(organization=organization).order_by("cidr"):
        by_list.setdefault((network.smtp_user_id, network.app_password_id), []).append(network)
    learnings = {(each.smtp_user_id, each.app_password_id): each for each in learning.learnings_of(organization)}
    owners = [Allowlist(organization)]
    passwords = AppPassword.objects.filter(live_passwords(timezone.now()), smtp_user__organization=organization)
    by_user: dict[int, list[AppPassword]] = {}
    for password in passwords.exclude(kind=AppPassword.Kind.CANARY).select_related("smtp_user").order_by("name"):
        by_user.setdefault(password.smtp_user_id, []).append(password)
    for user in SmtpUser.objects.filter(organization=organization).order_by("username"):
        owners.append(Allowlist(organization, user))
        owners += [Allowlist(organization, user, password) for password in by_user.get(user.pk, [])]
    return [ListRow(owner, list_page(owner), by_list.get(owner.key, []), learnings.get(owner.key)) for owner in owners]


@member_required(roles.SMTP_USERS_SEE)
def for_organization(request: MemberRequest) -> HttpResponse:
    return _page(request, Allowlist(request.organization))


@member_required(roles.SMTP_USERS_SEE)
def for_smtp_user(request: MemberRequest, smtp_user_id: int) -> HttpResponse:
    return _page(request, _of_smtp_user(request, smtp_user_id))


@member_required(roles.SMTP_USERS_SEE)
def for_app_password(request: MemberRequest, app_password_id: int) -> HttpResponse:
    return _page(request, _of_app_password(request, app_password_id))


@require_POST
@member_required(roles.SMTP_USERS_CHANGE)
@recent_mfa_required
def enforce_for_organization(request: MemberRequest) -> HttpResponse:
    return _enforce(request, Allowlist(request.organization))


@require_POST
@member_required(roles.SMTP_USERS_CHANGE)
@recent_mfa_required
def enforce_for_smtp_user(request: MemberRequest, smtp_user_id: int) -> HttpResponse:
    return _enforce(request, _of_smtp_user(request, smtp_user_id))


@require_POST
@member_required(roles.SMTP_USERS_CHANGE)
@recent_mfa_required
def enforce_for_app_password(request: MemberRequest, app_password_id: int) -> HttpResponse:
    return _enforce(request, _of_app_password(request, app_password_id))


def _of_smtp_user(request: MemberRequest, smtp_user_id: int) -> Allowlist:
    return Allowlist(request.organization, smtp_user_of(request, smtp_user_id))


def _of_app_password(request: MemberRequest, app_password_id: int) -> Allowlist:
    app_password = app_password_of(request, app_password_id)
    return Allowlist(request.organization, app_password.smtp_user, app_password)


def _page(request: MemberRequest, owner: Allowlist) -> HttpResponse:
    if request.method != "POST":
        return show(request, owner)
    if not roles.can(request.membership, roles.SMTP_USERS_CHANGE):
        raise PermissionDenied
    step = STEPS.get(request.POST.get("do", ""))
    if step is None:
        return redirect(list_page(owner))
    try:
        return step(request, owner)
    except ValidationError as refused:
        messages.error(request, " ".join(refused.messages))
        return redirect(list_page(owner) + "#learning")


def _start(request: MemberRequest, owner: Allowlist) -> HttpResponse:
    form = LearningForm(request.POST, most=learning.days_most(owner.organization))
    if not form.is_valid():
        return show(request, owner, status=422, learning_form=form)
    days, history = int(form.cleaned_data["days"]), int(form.cleaned_data["history_days"])
    learning.start(owner, days=days, history_days=history, actor=actor_of(request))
    return redirect(list_page(owner) + "#learning")


def _save(request: MemberRequest, owner: Allowlist) -> HttpResponse:
    """The edited ranges; what cannot be read is shown again with its errors, and what was saved stays."""
    found = _learning_of(owner)
    formset = ranges_of(request.POST)
    if not formset.is_valid():
        return show(request, owner, status=422, formset=formset)
    kept = [form.draft_range() for form in formset if form.is_kept()]
    try:
        learning.save_draft(found, kept)
    except ValidationError as refused:
        messages.error(request, " ".join(refused.messages))
        return show(request, owner, status=422, formset=formset)
    messages.success(request, _("Saved. Below is what it would have done; nothing is enforced yet."))
    return redirect(list_page(owner) + "#preview")


def _reset(request: MemberRequest, owner: Allowlist) -> HttpResponse:
    learning.save_draft(_learning_of(owner), None)
    return redirect(list_page(owner) + "#learning")


def _stop(request: MemberRequest, owner: Allowlist) -> HttpResponse:
    learning.stop(_learning_of(owner), actor=actor_of(request))
    return redirect(list_page(owner) + "#learning")


def _give_up(request: MemberRequest, owner: Allowlist) -> HttpResponse:
    learning.give_up(_learning_of(owner), actor=actor_of(request))
    messages.success(request, _("The learning is given up. The list is as it was."))
    return redirect(list_page(owner))


STEPS: dict[str, Callable[[MemberRequest, Allowlist], HttpResponse]] = {
    "start": _start,
    "save": _save,
    "reset": _reset,
    "stop": _stop,
    "give_up": _give_up,
}


def _enforce(request: MemberRequest, owner: Allowlist) -> HttpResponse:
    try:
        learning.enforce(_learning_of(owner), seen=request.POST.get("seen", ""), actor=actor_of(request))
    except ValidationError as refused:
        messages.error(request, " ".join(refused.messages))
        return redirect(list_page(owner) + "#learning")
    messages.success(request, _("Enforced: from now on only these networks may sign in."))
    return redirect(list_page(owner))


def _find_learning(owner: Allowlist) -> NetworkLearning | None:
    found = learning.learnings_of(owner.organization)
    return found.filter(smtp_user=owner.smtp_user, app_password=owner.app_password).first()


def _learning_of(owner: Allowlist) -> NetworkLearning:
    found = _find_learning(owner)
    if found is None:
        raise ValidationError(_("This learning has ended."))
    return found


def show(request: MemberRequest, owner: Allowlist, *, status: int = 200, **sent: Any) -> HttpResponse:
    """The list's page; forms that were sent with a mistake are shown again in their place."""
    found = _find_learning(owner)
    context = {
        "owner": owner,
        "networks": owner.rows,
        "network_form": NetworkForm(),
        "learning_form": LearningForm(most=learning.days_most(owner.organization)),
        "may_change": roles.can(request.membership, roles.SMTP_USERS_CHANGE),
        "learning": _shown(found, sent.pop("formset", None)) if found else None,
        "shown": SHOWN,
        **_addresses(owner),
        **sent,
    }
    return render(request, "relay/network_list.html", context, status=status)


def _addresses(owner: Allowlist) -> dict[str, str]:
    if owner.app_password:
        names, pk = ("app_password_network_add", "network_enforce_app_password"), owner.app_password.pk
        found = [reverse(f"relay:{name}", args=[pk]) for name in names]
    elif owner.smtp_user:
        names, pk = ("smtp_user_network_add", "network_enforce_smtp_user"), owner.smtp_user.pk
        found = [reverse(f"relay:{name}", args=[pk]) for name in names]
    else:
        found = [reverse("relay:network_add"), reverse("relay:network_enforce")]
    return {"add_url": found[0], "enforce_url": found[1], "list_url": list_page(owner)}


def _shown(found: NetworkLearning, sent: "BaseFormSet[RangeForm] | None") -> LearningView:
    draft = learning.draft_of(found)
    formset = sent if sent is not None else ranges_of(None, draft.ranges)
    words = {str(each.network): evidence_words(each) for each in draft.proposal.ranges}
    rows = [(form, words.get(str(form["cidr"].value() or ""), "")) for form in formset]
    over = learning.is_over(found, timezone.now())
    return LearningView(found, over, draft, rows, formset, learning.shut_out(found))


def evidence_words(each: Proposed) -> str:
    """Why the range is proposed, in words and figures."""
    if not each.joined:
        return _("one address")
    figures = {"addresses": each.addresses, "size": each.size, "percent": round(100 * each.share)}
    if each.network.version == 6 and each.size > 2**16:
        return _("%(addresses)d addresses of one /64, which a host changes by itself") % figures
    return _("%(addresses)d of %(size)d addresses in use, %(percent)d %%") % figures
