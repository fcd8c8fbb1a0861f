"""Alerts of all customers, and those of no customer in particular, which operators answer themselves.

Shapes  /ops/alerts/: filters state, kind, customer (an id, or 0 for the installation's own). A customer's alert is
        answered by the customer; here it is seen, with the ways to whom and what it is about.
Errors  404 to who is no operator.
"""

from urllib.parse import urlencode

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts.access import UserRequest, actor_of
from audit.anomalies.models import Anomaly
from relay import alerts
from relay.alert_mail import OPERATORS, preference_of
from relay.alert_preferences import AlertPreferenceForm, change_preference
from relay.views.alerts import Link, listed
from relay.views.ops.access import operator_action, operator_page


@require_safe
@operator_page
def index(request: UserRequest) -> HttpResponse:
    found = alerts.alerts_of(None, everywhere=True)
    customer = request.GET.get("customer", "")
    if customer.isascii() and customer.isdecimal() and len(customer) < 19:
        found = found.filter(organization_id=int(customer) or None)
    context = listed(found, request.GET.get("state", ""), request.GET.get("kind", ""), request.GET.get("page", ""))
    return render(request, "ops/alerts.html", context)


@require_safe
@operator_page
def page(request: UserRequest, pk: int) -> HttpResponse:
    anomaly = get_object_or_404(Anomaly, pk=pk)
    row = alerts.rows_of([anomaly])[0]
    context = {"row": row, "links": _links(anomaly, row), "may_change": anomaly.organization_id is None}
    return render(request, "ops/alert.html", context)


@require_POST
@operator_action
def dismiss(request: UserRequest, pk: int) -> HttpResponse:
    """Only the installation's own: a customer's are the customer's to answer."""
    anomaly = get_object_or_404(Anomaly, pk=pk, organization_id=None)
    try:
        alerts.this_was_me(anomaly, actor=actor_of(request))
    except ValidationError as refused:
        messages.warning(request, " ".join(refused.messages))
    else:
        messages.success(request, _("Closed. While it goes on it is not told again."))
    return redirect("relay:ops_alert", anomaly.pk)


@require_http_methods(["GET", "HEAD", "POST"])
@operator_action
def settings(request: UserRequest) -> HttpResponse:
    form = AlertPreferenceForm(request.POST if request.method == "POST" else None, preference=preference_of(OPERATORS))
    if request.method == "POST" and form.is_valid():
        change_preference(OPERATORS, actor=actor_of(request), **form.chosen())
        messages.success(request, _("Saved."))
        return redirect("relay:ops_alerts")
    return render(request, "ops/alert_settings.html", {"form": form}, status=422 if form.is_bound else 200)


def _links(anomaly: Anomaly, row: alerts.AlertRow) -> list[Link]:
    links = []
    addresses = [anomaly.evidence.get("ip"), *anomaly.evidence.get("ips", ())[:5]]
    for ip in dict.fromkeys(filter(None, addresses)):
        links.append(Link(_("The story of %(ip)s") % {"ip": ip}, f"{reverse('relay:ops_ip')}?{urlencode({'ip': ip})}"))
    for user in row.smtp_users[:5]:
        asked = urlencode({"name": user.username})
        text = _("The story of %(name)s") % {"name": user.username}
        links.append(Link(text, f"{reverse('relay:ops_username')}?{asked}"))
    if row.organization is not None:
        links.append(Link(_("The customer's page"), reverse("relay:ops_customer", args=[row.organization.pk])))
    return links
