"""Routes: where mail goes next, who uses which, and which one a given mail would take."""

from typing import Any

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts.access import UserRequest, actor_of
from audit.models import ChangeEvent
from relay.models import NamedRoute, RouteChoice, RouteTrial
from relay.models.messages import Route
from relay.named_routes import (
    INSTALLATION,
    RouteInUse,
    RouteRefused,
    built_in_words,
    change_route,
    choices_of,
    choose_route,
    create_route,
    delete_route,
    drop_choice,
    explain,
    names_of,
    thing_of,
)
from relay.route_trials import TrialRefused, request_trial
from relay.views.confirm import Question, ask
from relay.views.ops.access import operator_action, operator_page
from relay.views.ops.route_forms import ChoiceForm, DestinationForm, RouteForm, customer_of, domain_of, hosts_text

CHANGES_SHOWN = 20
form_page = require_http_methods(["GET", "HEAD", "POST"])


@require_safe
@operator_page
def routes(request: UserRequest) -> HttpResponse:
    rows = NamedRoute.objects.prefetch_related(
        "choices__domain__organization", "choices__organization", "choices__plan"
    ).order_by("name")
    context: dict[str, Any] = {
        "rows": [(route, hosts_text(route).splitlines(), names_of(choices_of(route))) for route in rows],
        "built_in": built_in_words(),
        "customer": request.GET.get("customer", "")[:64].replace("\0", ""),
        "domain": request.GET.get("domain", "")[:253].replace("\0", ""),
    }
    return render(request, "ops/routes.html", context | _way(context["customer"], context["domain"]))


def _way(customer: str, name: str) -> dict[str, Any]:
    """Which route the named customer's mail takes; nothing if none is named."""
    if not customer.strip():
        return {}
    organization = customer_of(customer)
    if organization is None:
        return {"unknown": _("There is no customer “%(name)s”.") % {"name": customer}}
    domain = domain_of(organization, name) if name.strip() else None
    if name.strip() and domain is None:
        words = _("%(customer)s has not added the domain “%(name)s”: mail from it is refused.")
        return {"unknown": words % {"customer": organization.name, "name": name}}
    way = explain(organization, domain)
    return {"way": way, "kind": Route(way.kind).label, "of": organization}


@form_page
@operator_action
def create(request: UserRequest) -> HttpResponse:
    form = RouteForm(request.POST or None, initial={"kind": Route.SMARTHOST})
    if request.method == "POST" and form.is_valid():
        try:
            route = create_route(form.facts(), actor=actor_of(request))
        except RouteRefused as refused:
            form.take(refused)
        else:
            messages.success(request, _("“%(name)s” is made. Try it, then choose who uses it.") % {"name": route.name})
            return redirect("relay:ops_route", route.pk)
    return render(request, "ops/route_form.html", {"form": form}, status=422 if form.errors else 200)


@form_page
@operator_action
def change(request: UserRequest, pk: int) -> HttpResponse:
    route = get_object_or_404(NamedRoute, pk=pk)
    form = RouteForm(request.POST or None, initial=RouteForm.initial_of(route))
    if request.method == "POST" and form.is_valid():
        try:
            route = change_route(route, form.facts(), actor=actor_of(request))
        except RouteRefused as refused:
            form.take(refused)
        else:
            messages.success(request, _("“%(name)s” is changed. Mail that waits follows.") % {"name": route.name})
            return redirect("relay:ops_route", route.pk)
    context = {"form": form, "route": route, "users": names_of(choices_of(route))}
    return render(request, "ops/route_form.html", context, status=422 if form.errors else 200)


@require_safe
@operator_page
def route(request: UserRequest, pk: int) -> HttpResponse:
    return _page(request, get_object_or_404(NamedRoute, pk=pk))


def _page(request: UserRequest, row: NamedRoute, *, status: int = 200, **forms: Any) -> HttpResponse:
    context = {
        "route": row,
        "hosts": hosts_text(row).splitlines(),
        "choices": [(choice, thing_of(choice)) for choice in choices_of(row)],
        "choice_form": forms.get("choice_form") or ChoiceForm(),
        "destination_form": forms.get("destination_form") or DestinationForm(),
        "trial": RouteTrial.objects.filter(route=row).first(),
        "can_be_tried": row.kind in (Route.SMARTHOST, Route.MX),
        "needs_destination": row.kind == Route.MX,
        "changes": ChangeEvent.objects.filter(
            organization_id=INSTALLATION, subject_id=str(row.pk), action__in=("route.created", "route.changed")
        ).order_by("-sequence")[:CHANGES_SHOWN],
    }
    return render(request, "ops/route.html", context, status=status)


@form_page
@operator_action
def delete(request: UserRequest, pk: int) -> HttpResponse:
    row = get_object_or_404(NamedRoute, pk=pk)
    place = reverse("relay:ops_route", args=[pk])
    if request.method != "POST":
        title = _("Delete the route “%(name)s”?") % {"name": row.name}
        text = _("Nobody's mail may take it any more. Its login is forgotten.")
        return ask(request, Question(title, text, _("Delete the route"), place))
    try:
        delete_route(row, actor=actor_of(request))
    except RouteInUse as refused:
        messages.error(request, refused.messages[0])
        return redirect(place)
    messages.success(request, _("“%(name)s” is deleted.") % {"name": row.name})
    return redirect("relay:ops_routes")


@form_page
@operator_action
def choose(request: UserRequest, pk: int) -> HttpResponse:
    row = get_object_or_404(NamedRoute, pk=pk)
    form = ChoiceForm(
        request.POST if request.method == "POST" else None, initial={"customer": request.GET.get("customer", "")}
    )
    if request.method == "POST" and form.is_valid():
        choice = choose_route(row, form.cleaned_data["of"], actor=actor_of(request))
        messages.success(
            request, _("%(what)s: mail goes by “%(name)s” from now on.") % {"what": thing_of(choice), "name": row.name}
        )
        return redirect("relay:ops_route", pk)
    return render(request, "ops/route_choose.html", {"form": form, "route": row}, status=422 if form.errors else 200)


@form_page
@operator_action
def drop(request: UserRequest, pk: int, choice_pk: int) -> HttpResponse:
    choice = get_object_or_404(RouteChoice.objects.select_related("route"), pk=choice_pk, route=pk)
    place = reverse("relay:ops_route", args=[pk])
    if request.method != "POST":
        title = _("Take “%(name)s” from %(what)s?") % {"name": choice.route.name, "what": thing_of(choice)}
        text = _("Its mail then goes by the next wider choice, in the end by the built-in route: %(route)s.")
        return ask(request, Question(title, text % {"route": built_in_words()}, _("Take it away"), place))
    words = _("%(what)s no longer uses “%(name)s”.") % {"what": thing_of(choice), "name": choice.route.name}
    drop_choice(choice, actor=actor_of(request))
    messages.success(request, words)
    return redirect(place)


@require_POST
@operator_action
def try_it(request: UserRequest, pk: int) -> HttpResponse:
    row = get_object_or_404(NamedRoute, pk=pk)
    form = DestinationForm(request.POST if row.kind == Route.MX else {"destination": "none"})
    if not form.is_valid():
        return _page(request, row, status=422, destination_form=form)
    try:
        request_trial(row, destination=form.cleaned_data["destination"])
    except TrialRefused as refused:
        form.add_error("destination", ValidationError(refused.messages[0]))
        return _page(request, row, status=422, destination_form=form)
    return redirect(f"{reverse('relay:ops_route', args=[pk])}#trial")


@require_safe
@operator_page
def trial(request: UserRequest, pk: int) -> HttpResponse:
    """The part of the page that waits for the result."""
    row = get_object_or_404(RouteTrial.objects.select_related("route"), route=pk)
    return render(request, "ops/parts/route_trial.html", {"trial": row, "route": row.route})
