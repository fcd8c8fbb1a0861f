"""Domains that an organization sends from: the list, and each one's page with its records, keys and history."""

from django.contrib import messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from accounts import roles
from accounts.access import MemberRequest, actor_of, member_required, recent_mfa_required
from relay import dkim_keys
from relay.dns_records import keep, shown, words
from relay.dns_records.standing import standing, standings
from relay.domains import add_domain, is_held_elsewhere, remove_domain
from relay.forms import DomainForm
from relay.models import SendingDomain
from relay.views.confirm import Question, ask


@member_required(roles.SMTP_USERS_SEE)
def page(request: MemberRequest) -> HttpResponse:
    may_change = roles.can(request.membership, roles.DOMAINS_CHANGE)
    form = DomainForm(request.POST or None)
    if request.method == "POST":
        if not may_change:
            raise PermissionDenied
        if form.is_valid() and (domain := _added(request, form)):
            return redirect("relay:domain", domain.pk)
    context = {"standings": standings(request.organization.pk), "form": form, "may_change": may_change}
    return render(request, "relay/domains.html", context, status=422 if form.errors else 200)


def _added(request: MemberRequest, form: DomainForm) -> SendingDomain | None:
    try:
        domain = add_domain(request.organization, name=form.cleaned_data["name"], actor=actor_of(request))
    except ValidationError as refused:
        form.add_error("name", refused)
        return None
    dkim_keys.ensure_keys(domain)
    messages.success(request, _("%(domain)s is added. Now publish its records.") % {"domain": domain.name})
    return domain


@member_required(roles.SMTP_USERS_SEE)
def domain_page(request: MemberRequest, domain_id: int) -> HttpResponse:
    domain = _own(request, domain_id)
    now = timezone.now()
    keys = list(domain.dkim_keys.filter(retired_at=None))
    signing = [key for key in keys if key.active_at]
    context = {
        "domain": domain,
        "standing": standing(domain),
        "rows": shown.rows_of(domain),
        "history": shown.history_of(domain),
        "held": words.held_elsewhere() if not domain.verified_at and is_held_elsewhere(domain) else "",
        "lost_until": domain.proof_lost_at + keep.GRACE if domain.proof_lost_at else None,
        "signing": signing,
        "waiting": [key for key in keys if not key.active_at],
        "is_old": any(key.active_at and now - key.active_at > dkim_keys.OLD for key in signing),
        "is_live": not domain.verified_at or len(signing) < len(keys),
        "may_change": roles.can(request.membership, roles.DOMAINS_CHANGE),
    }
    name = "relay/domain_records.html" if request.htmx else "relay/domain.html"  # type: ignore[attr-defined]
    return render(request, name, context)


def _own(request: MemberRequest, domain_id: int) -> SendingDomain:
    return get_object_or_404(SendingDomain, pk=domain_id, organization=request.organization)


@member_required(roles.DOMAINS_CHANGE)
@require_POST
def check(request: MemberRequest, domain_id: int) -> HttpResponse:
    """Asks the DNS now. It takes as long as the DNS does, some seconds at most."""
    domain = _own(request, domain_id)
    was_verified = domain.verified_at
    try:
        after = keep.check(domain, actor=actor_of(request))
    except keep.Busy:
        messages.info(request, _("It was checked a moment ago. This is what the DNS said."))
    else:
        if after and after.verified_at and not was_verified:
            messages.success(request, _("%(domain)s is verified.") % {"domain": domain.name})
    return redirect("relay:domain", domain.pk)


@member_required(roles.DOMAINS_CHANGE)
@recent_mfa_required
def rotate(request: MemberRequest, domain_id: int) -> HttpResponse:
    domain = _own(request, domain_id)
    back = reverse("relay:domain", args=[domain.pk])
    if request.method != "POST":
        title = _("Replace the DKIM keys of %(domain)s?") % {"domain": domain.name}
        text = _(
            "Two new keys are made, with records of their own to publish beside the old ones. The old keys go on"
            " signing until the new records are seen; then the new ones take over, and a week later the old records may"
            " go."
        )
        return ask(request, Question(title, text, _("Make new keys"), back, dangerous=False))
    try:
        dkim_keys.rotate(domain, actor=actor_of(request))
    except dkim_keys.RotationRefused as refused:
        messages.error(request, refused.messages[0])
    else:
        messages.success(request, _("New keys are made. Publish their records; the old keys sign until then."))
    return redirect(back)


@member_required(roles.DOMAINS_CHANGE)
@recent_mfa_required
@require_POST
def abandon(request: MemberRequest, domain_id: int) -> HttpResponse:
    domain = _own(request, domain_id)
    try:
        dkim_keys.abandon(domain, actor=actor_of(request))
    except dkim_keys.RotationRefused as refused:
        messages.error(request, refused.messages[0])
    else:
        messages.success(request, _("The new keys are gone. The old ones go on signing."))
    return redirect("relay:domain", domain.pk)


@member_required(roles.DOMAINS_CHANGE)
@recent_mfa_required
def remove(request: MemberRequest, domain_id: int) -> HttpResponse:
    domain = _own(request, domain_id)
    if request.method != "POST":
        text = _(
            "Mail from this domain is refused from then on, and its DKIM keys are deleted. If you add it again, it must"
            " be verified again, with new records."
        )
        title = _("Remove %(domain)s?") % {"domain": domain.name}
        return ask(request, Question(title, text, _("Remove"), reverse("relay:domains")))
    remove_domain(domain, actor=actor_of(request))
    messages.success(request, _("%(domain)s is removed.") % {"domain": domain.name})
    return redirect("relay:domains")
