"""Alerts: what was unusual, with the evidence; "this was me" teaches it, "revoke" ends the app password.

Shapes  The list's filters are the address's own parameters: state (open, closed, all), kind, page. Both
        answers, and who is told, need a recent second factor: whoever has only the session cannot silence an alert.
        Both answers stand in the change log.
Errors  Another organization's alert is 404. One that was closed meanwhile is told so.
"""

from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from django.views.decorators.http import require_POST

from accounts import roles
from accounts.access import MemberRequest, actor_of, member_required, recent_mfa_required
from audit.anomalies.models import AlertPreference, Anomaly, Kind, State
from relay import alerts
from relay.alert_mail import preference_of
from relay.alert_preferences import AlertPreferenceForm, change_preference

PAGE_ROWS: Final = 25
STATES: Final = (("open", gettext_lazy("Open")), ("closed", gettext_lazy("Closed")), ("all", gettext_lazy("All")))


@dataclass(frozen=True, slots=True)
class Link:
    label: Any
    url: str
    current: bool = False


@member_required(roles.ALERTS_SEE)
def index(request: MemberRequest) -> HttpResponse:
    mine = alerts.alerts_of(request.organization.pk)
    context = listed(mine, request.GET.get("state", ""), request.GET.get("kind", ""), request.GET.get("page", ""))
    context["is_told"] = preference_of(request.organization.pk).mail != AlertPreference.Mail.NEVER
    context["may_change"] = roles.can(request.membership, roles.ALERTS_CHANGE)
    return render(request, "relay/alerts.html", context)


def listed(mine: QuerySet[Anomaly], state: str, kind: str, page: str) -> dict[str, Any]:
    """What a list of alerts shows, the customer's or the operator's."""
    state = state if state in dict(STATES) else "open"
    kind = kind if kind in Kind.values else ""
    found = mine.filter(kind=kind) if kind else mine
    if state == "open":
        found = alerts.gravest_first(found.filter(state=State.OPEN))
    elif state == "closed":
        found = found.exclude(state=State.OPEN)
    shown = Paginator(found, PAGE_ROWS).get_page(page)
    asked = {"state": state, "kind": kind}
    return {
        "rows": alerts.rows_of(shown.object_list),
        "page": shown,
        "states": [Link(label, _url({**asked, "state": value}), value == state) for value, label in STATES],
        "kinds": Kind.choices,
        "asked": asked,
        "older": _url({**asked, "page": shown.next_page_number()}) if shown.has_next() else "",
        "newer": _url(asked) if shown.has_previous() else "",
    }


@member_required(roles.ALERTS_SEE)
def page(request: MemberRequest, alert_id: int) -> HttpResponse:
    anomaly = _own(request, alert_id)
    may_change = roles.can(request.membership, roles.ALERTS_CHANGE)
    context = {
        "row": alerts.rows_of([anomaly])[0],
        "links": evidence_links(anomaly, alerts.rows_of([anomaly])[0]),
        "revocable": alerts.revocable(anomaly) if may_change and anomaly.is_open else [],
        "named": set(anomaly.app_password_ids),
        "may_change": may_change,
    }
    return render(request, "relay/alert.html", context)


def evidence_links(anomaly: Anomaly, row: alerts.AlertRow) -> list[Link]:
    """To the rows of the auth log, and for volume to the messages, that show it."""
    links = []
    for each in anomaly.evidence.get("filters", ()):
        asked = {name: str(value) for name, value in each.items() if name in {"ip", "result", "since", "reason"}}
        if len(row.smtp_users) == 1 and "ip" not in asked:
            asked["user"] = row.smtp_users[0].username
        links.append(Link(_("Show it in the auth log"), f"{reverse('relay:auth_log')}?{urlencode(asked)}"))
    if anomaly.kind in {Kind.VOLUME, Kind.GUESSED, Kind.NETWORK} and len(row.smtp_users) == 1:
        asked = {"q": f"user:{row.smtp_users[0].username}"}
        links.append(Link(_("Messages of this SMTP user"), f"{reverse('relay:messages')}?{urlencode(asked)}"))
    return links


@require_POST
@member_required(roles.ALERTS_CHANGE)
@recent_mfa_required
def dismiss(request: MemberRequest, alert_id: int) -> HttpResponse:
    anomaly = _own(request, alert_id)
    try:
        alerts.this_was_me(anomaly, actor=actor_of(request))
    except ValidationError as refused:
        messages.warning(request, " ".join(refused.messages))
    else:
        messages.success(request, _("Noted: this is known from now on, and the same will not be told again."))
    return redirect("relay:alert", anomaly.pk)


@require_POST
@member_required(roles.ALERTS_CHANGE)
@recent_mfa_required
def revoke(request: MemberRequest, alert_id: int) -> HttpResponse:
    anomaly = _own(request, alert_id)
    chosen = [int(each) for each in request.POST.getlist("app_password") if each.isascii() and each.isdecimal()]
    try:
        ended = alerts.revoke(anomaly, app_password_ids=chosen, actor=actor_of(request))
    except ValidationError as refused:
        messages.error(request, " ".join(refused.messages))
        return redirect("relay:alert", anomaly.pk)
    text = ngettext(
        "%(count)d app password was revoked; its sessions are closed.",
        "%(count)d app passwords were revoked; their sessions are closed.",
        len(ended),
    )
    messages.success(request, text % {"count": len(ended)})
    return redirect("relay:alert", anomaly.pk)


@member_required(roles.ALERTS_CHANGE)
@recent_mfa_required
def settings(request: MemberRequest) -> HttpResponse:
    preference = preference_of(request.organization.pk)
    form = AlertPreferenceForm(request.POST if request.method == "POST" else None, preference=preference)
    if request.method == "POST" and form.is_valid():
        change_preference(request.organization.pk, actor=actor_of(request), **form.chosen())
        messages.success(request, _("Saved."))
        return redirect("relay:alerts")
    status = 422 if form.is_bound else 200
    return render(request, "relay/alert_settings.html", {"form": form}, status=status)


def _own(request: MemberRequest, alert_id: int) -> Anomaly:
    return get_object_or_404(Anomaly, organization_id=request.organization.pk, pk=alert_id)


def _url(asked: dict[str, Any]) -> str:
    return "?" + urlencode({name: value for name, value in asked.items() if value})
