"""What an operator changes for a customer. Each is a page that says what will happen, and a button that does it.

Shapes  Change: the words of the page and what its button does. Every one asks for a recent second factor and is
        written to the customer's change log with the operator's name.
Errors  A ValidationError of the change is shown on the form, and nothing has happened.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django import forms
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import HttpResponse, QueryDict
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods

from accounts import organizations
from accounts.access import UserRequest, actor_of
from accounts.models import Organization
from accounts.plans import change_plan
from relay.domains import mark_verified, withdraw_verification
from relay.models import SendingDomain
from relay.ops.customers import customers
from relay.views.ops.access import operator_action
from relay.views.ops.forms import PlanForm, SureForm, SuspendForm

form_page = require_http_methods(["GET", "HEAD", "POST"])


@dataclass(frozen=True, slots=True)
class Change:
    title: str
    consequence: str
    button: str
    done: str
    act: Callable[[dict[str, Any]], object]
    is_danger: bool = False


def _ask(request: UserRequest, organization: Organization, change: Change, form: forms.Form) -> HttpResponse:
    """The page on GET; on POST the change, and back to the customer."""
    if request.method == "POST" and form.is_valid():
        try:
            change.act(form.cleaned_data)
        except ValidationError as refused:
            form.add_error(None, refused)
        else:
            messages.success(request, change.done)
            return redirect("relay:ops_customer", organization.pk)
    return render(request, "ops/change.html", {"customer": organization, "change": change, "form": form})


def _sent(request: UserRequest) -> QueryDict | None:
    """An empty form that was sent is sent all the same."""
    return request.POST if request.method == "POST" else None


def _customer(pk: int) -> Organization:
    return get_object_or_404(customers().select_related("subscription__plan"), pk=pk)


@form_page
@operator_action
def suspend(request: UserRequest, pk: int) -> HttpResponse:
    customer = _customer(pk)
    change = Change(
        title=_("Suspend %(customer)s") % {"customer": customer.name},
        consequence=_(
            "Open SMTP sessions end at once and every login is refused. Mail that was accepted already waits in the "
            "queue until the customer is activated again. The panel stays open to the customer."
        ),
        button=_("Suspend"),
        done=_("%(customer)s is suspended.") % {"customer": customer.name},
        act=lambda values: organizations.suspend(customer, reason=values["reason"], actor=actor_of(request)),
        is_danger=True,
    )
    return _ask(request, customer, change, SuspendForm(_sent(request)))


@form_page
@operator_action
def activate(request: UserRequest, pk: int) -> HttpResponse:
    customer = _customer(pk)
    change = Change(
        title=_("Activate %(customer)s") % {"customer": customer.name},
        consequence=_("Logins are accepted, and mail leaves by the installation's route instead of the sandbox."),
        button=_("Activate"),
        done=_("%(customer)s is active.") % {"customer": customer.name},
        act=lambda values: organizations.activate(customer, actor=actor_of(request)),
    )
    return _ask(request, customer, change, SureForm(_sent(request)))


@form_page
@operator_action
def plan(request: UserRequest, pk: int) -> HttpResponse:
    customer = _customer(pk)
    before = customer.subscription.plan
    change = Change(
        title=_("Change the plan of %(customer)s") % {"customer": customer.name},
        consequence=_("Now: %(plan)s, %(limit)s emails an hour.")
        % {"plan": before.name, "limit": f"{before.recipients_per_hour:,}"},
        button=_("Change plan"),
        done=_("The plan of %(customer)s is changed.") % {"customer": customer.name},
        act=lambda values: change_plan(customer, plan=values["plan"], when=values["when"], actor=actor_of(request)),
    )
    return _ask(request, customer, change, PlanForm(_sent(request), initial={"plan": before}))


@form_page
@operator_action
def domain_verify(request: UserRequest, pk: int, domain_pk: int) -> HttpResponse:
    customer = _customer(pk)
    domain = get_object_or_404(SendingDomain, pk=domain_pk, organization=customer)
    change = Change(
        title=_("Mark %(domain)s as verified") % {"domain": domain.name},
        consequence=_(
            "%(customer)s may then send from every address of %(domain)s, and nobody else may. The mark is recorded "
            "with your name. Make it only after the customer has proved that the domain is theirs."
        )
        % {"customer": customer.name, "domain": domain.name},
        button=_("Mark as verified"),
        done=_("%(domain)s is verified.") % {"domain": domain.name},
        act=lambda values: mark_verified(domain, actor=actor_of(request), verified_by=request.user),
    )
    return _ask(request, customer, change, SureForm(_sent(request)))


@form_page
@operator_action
def domain_withdraw(request: UserRequest, pk: int, domain_pk: int) -> HttpResponse:
    customer = _customer(pk)
    domain = get_object_or_404(SendingDomain, pk=domain_pk, organization=customer)
    change = Change(
        title=_("Withdraw the verification of %(domain)s") % {"domain": domain.name},
        consequence=_("Mail from addresses of %(domain)s is refused with 550 from the next message on.")
        % {"domain": domain.name},
        button=_("Withdraw"),
        done=_("%(domain)s is no longer verified.") % {"domain": domain.name},
        act=lambda values: withdraw_verification(domain, actor=actor_of(request)),
        is_danger=True,
    )
    return _ask(request, customer, change, SureForm(_sent(request)))
