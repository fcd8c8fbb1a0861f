"""Domains that an organization sends from. For now an operator verifies them."""

from django.contrib import messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _

from accounts import roles
from accounts.access import MemberRequest, actor_of, member_required
from relay.domains import add_domain, remove_domain
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
        if form.is_valid() and _added(request, form):
            return redirect("relay:domains")
    context = {"domains": request.organization.domains.order_by("name"), "form": form, "may_change": may_change}
    return render(request, "relay/domains.html", context, status=422 if form.errors else 200)


def _added(request: MemberRequest, form: DomainForm) -> bool:
    try:
        domain = add_domain(request.organization, name=form.cleaned_data["name"], actor=actor_of(request))
    except ValidationError as refused:
        form.add_error("name", refused)
        return False
    messages.success(request, _("%(domain)s is added. An operator verifies it.") % {"domain": domain.name})
    return True


@member_required(roles.DOMAINS_CHANGE)
def remove(request: MemberRequest, domain_id: int) -> HttpResponse:
    domain = get_object_or_404(SendingDomain, pk=domain_id, organization=request.organization)
    if request.method != "POST":
        text = _("Mail from this domain is refused from then on. If you add it again, it must be verified again.")
        title = _("Remove %(domain)s?") % {"domain": domain.name}
        return ask(request, Question(title, text, _("Remove"), reverse("relay:domains")))
    remove_domain(domain, actor=actor_of(request))
    messages.success(request, _("%(domain)s is removed.") % {"domain": domain.name})
    return redirect("relay:domains")
