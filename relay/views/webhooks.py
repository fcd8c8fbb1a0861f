"""Webhooks: endpoints of the organization, their secrets (shown once), what was posted to them and what came back.

Shapes  Who may change API keys sees and changes them. What shows a secret, or ends one, asks for recent identification.
Errors  Another's ids, and those of deleted endpoints: 404. What the endpoints refuse is said beside the field.
"""

import json
from datetime import datetime, timedelta
from typing import Any

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST

from accounts import once, roles
from accounts.access import MemberRequest, actor_of, member_required, recent_mfa_required
from relay.models import SmtpUser
from relay.ops.asked import number_asked
from relay.views.confirm import Question, ask
from relay.webhooks import endpoints, log, outbox, replay
from relay.webhooks.forms import EndpointForm, ReplayForm
from relay.webhooks.kinds import Event
from relay.webhooks.models import Delivery, Endpoint
from relay.webhooks.posting import body_of, event_name


@member_required(roles.API_KEYS_CHANGE)
def page(request: MemberRequest) -> HttpResponse:
    return render(request, "relay/webhooks.html", {"rows": endpoints.endpoints_of(request.organization.pk)})


@never_cache
@member_required(roles.API_KEYS_CHANGE)
@recent_mfa_required
def create(request: MemberRequest) -> HttpResponse:
    """The answer to the form is the only page that ever shows the secret."""
    if request.method != "POST":
        return _form(request, EndpointForm(request.organization))
    form = EndpointForm(request.organization, request.POST)
    if not form.is_valid():
        return _form(request, form, status=422)
    if not once.spend(request, request.POST.get("token", "")):
        messages.warning(request, _("This form was sent already, so no further endpoint was made."))
        return redirect("relay:webhooks")
    try:
        made = endpoints.create_endpoint(
            request.organization, **form.cleaned_data, actor=actor_of(request), created_by=request.user
        )
    except ValidationError as refused:
        form.add_error(refused.code if refused.code in form.fields else None, refused)
        return _form(request, form, status=422)
    return render(request, "relay/webhook_made.html", {"made": made, "is_new": True})


@member_required(roles.API_KEYS_CHANGE)
def endpoint(request: MemberRequest, endpoint_id: int) -> HttpResponse:
    row = _endpoint_of(request, endpoint_id)
    state = request.GET.get("state", "")
    state = state if state in Delivery.State.values else ""
    before = number_asked(request.GET, "before")
    found = log.page_of(row, state=state, before=before)
    kept = f"state={state}&" if state else ""
    context: dict[str, Any] = {
        "endpoint": row,
        "events": [Event(each) for each in row.events],
        "smtp_users": SmtpUser.objects.filter(organization=request.organization, pk__in=row.smtp_user_ids),
        "has_overlap": row.previous_secret_until is not None and row.previous_secret_until > timezone.now(),
        "deliveries": found.rows,
        "state": state,
        "states": [("", _("All")), *Delivery.State.choices],
        "newer": f"?{kept}" if before is not None else "",
        "older": f"?{kept}before={found.older}" if found.older is not None else "",
        "replay_form": ReplayForm(),
    }
    return render(request, "relay/webhook.html", context)


@member_required(roles.API_KEYS_CHANGE)
@recent_mfa_required
def change(request: MemberRequest, endpoint_id: int) -> HttpResponse:
    row = _endpoint_of(request, endpoint_id)
    form = EndpointForm(request.organization, request.POST or None, endpoint=row)
    if request.method == "POST" and form.is_valid():
        try:
            endpoints.change_endpoint(row, **form.cleaned_data, actor=actor_of(request))
        except ValidationError as refused:
            form.add_error(refused.code if refused.code in form.fields else None, refused)
        else:
            messages.success(request, _("Saved."))
            return redirect("relay:webhook", row.pk)
    status = 422 if request.method == "POST" else 200
    return render(request, "relay/webhook_change.html", {"form": form, "endpoint": row}, status=status)


@never_cache
@member_required(roles.API_KEYS_CHANGE)
@recent_mfa_required
def rotate(request: MemberRequest, endpoint_id: int) -> HttpResponse:
    row = _endpoint_of(request, endpoint_id)
    back = reverse("relay:webhook", args=[row.pk])
    if request.method != "POST":
        text = _(
            "A new secret is made and shown once. For 24 hours each post has two signatures, by the new and by the old"
            " secret, so that receivers can change over one after the other."
        )
        values = (("token", once.issue(request)),)
        question = Question(_("Rotate the secret?"), text, _("Rotate"), back, dangerous=False, values=values)
        return ask(request, question)
    if not once.spend(request, request.POST.get("token", "")):
        messages.warning(request, _("This form was sent already. A lost secret cannot be shown again: rotate it."))
        return redirect(back)
    made = endpoints.rotate_secret(row, actor=actor_of(request))
    return render(request, "relay/webhook_made.html", {"made": made, "is_new": False})


@require_POST
@member_required(roles.API_KEYS_CHANGE)
@recent_mfa_required
def overlap_end(request: MemberRequest, endpoint_id: int) -> HttpResponse:
    row = _endpoint_of(request, endpoint_id)
    endpoints.end_overlap(row, actor=actor_of(request))
    messages.success(request, _("The old secret signs no more."))
    return redirect("relay:webhook", row.pk)


@require_POST
@member_required(roles.API_KEYS_CHANGE)
def disable(request: MemberRequest, endpoint_id: int) -> HttpResponse:
    row = _endpoint_of(request, endpoint_id)
    endpoints.disable_endpoint(row, actor=actor_of(request))
    messages.success(request, _("Disabled. What waits goes on waiting; what happens now is not written for it."))
    return redirect("relay:webhook", row.pk)


@require_POST
@member_required(roles.API_KEYS_CHANGE)
def enable(request: MemberRequest, endpoint_id: int) -> HttpResponse:
    row = _endpoint_of(request, endpoint_id)
    endpoints.enable_endpoint(row, actor=actor_of(request))
    messages.success(request, _("Enabled. What failed can be replayed below."))
    return redirect("relay:webhook", row.pk)


@member_required(roles.API_KEYS_CHANGE)
@recent_mfa_required
def delete(request: MemberRequest, endpoint_id: int) -> HttpResponse:
    row = _endpoint_of(request, endpoint_id)
    if request.method != "POST":
        text = _("Nothing is posted to it from now on, and its log is cleared away: %(url)s") % {"url": row.url}
        back = reverse("relay:webhook", args=[row.pk])
        return ask(request, Question(_("Delete this endpoint?"), text, _("Delete"), back))
    endpoints.delete_endpoint(row, actor=actor_of(request))
    messages.success(request, _("The endpoint is deleted."))
    return redirect("relay:webhooks")


@require_POST
@member_required(roles.API_KEYS_CHANGE)
def test(request: MemberRequest, endpoint_id: int) -> HttpResponse:
    """Written for the sender, since no page waits for a stranger's server."""
    row = _endpoint_of(request, endpoint_id)
    if row.disabled_at is not None:
        messages.warning(request, _("The endpoint is disabled. Enable it first."))
        return redirect("relay:webhook", row.pk)
    written = outbox.write_test(row)
    messages.success(request, _("A test is on its way. Reload this page in a moment to see the answer."))
    return redirect("relay:webhook_delivery", row.pk, written.pk)


@require_POST
@member_required(roles.API_KEYS_CHANGE)
def replay_failed(request: MemberRequest, endpoint_id: int) -> HttpResponse:
    row = _endpoint_of(request, endpoint_id)
    form = ReplayForm(request.POST)
    if not form.is_valid():
        messages.warning(request, _("Choose since when."))
        return redirect("relay:webhook", row.pk)
    since = timezone.now() - timedelta(hours=int(form.cleaned_data["hours"]))
    try:
        count = replay.replay_failed(row, since=since, actor=actor_of(request))
    except replay.ReplayRefused as refused:
        messages.warning(request, " ".join(refused.messages))
    else:
        text = ngettext("%(count)d event is posted again.", "%(count)d events are posted again.", count)
        messages.success(request, text % {"count": count} if count else _("Nothing failed within that time."))
    return redirect("relay:webhook", row.pk)


@member_required(roles.API_KEYS_CHANGE)
def delivery(request: MemberRequest, endpoint_id: int, delivery_id: int) -> HttpResponse:
    row = _delivery_of(request, endpoint_id, delivery_id)
    body = body_of(event_id=row.event_id, type=row.type, occurred_at=row.occurred_at, data=json.dumps(row.data))
    context = {
        "delivery": row,
        "endpoint": row.endpoint,
        "event": event_name(row.event_id),
        "payload": json.dumps(json.loads(body), indent=2, ensure_ascii=False),
        "tries": [_shown(each) for each in reversed(row.tries)],
    }
    return render(request, "relay/webhook_delivery.html", context)


@require_POST
@member_required(roles.API_KEYS_CHANGE)
def delivery_replay(request: MemberRequest, endpoint_id: int, delivery_id: int) -> HttpResponse:
    row = _delivery_of(request, endpoint_id, delivery_id)
    try:
        replay.replay(row, actor=actor_of(request))
    except replay.ReplayRefused as refused:
        messages.warning(request, " ".join(refused.messages))
    else:
        messages.success(request, _("It is posted again. Reload this page in a moment to see the answer."))
    return redirect("relay:webhook_delivery", row.endpoint_id, row.pk)


def _shown(kept: dict[str, Any]) -> dict[str, Any]:
    return {**kept, "at": datetime.fromisoformat(kept["at"])}


def _endpoint_of(request: MemberRequest, endpoint_id: int) -> Endpoint:
    return get_object_or_404(Endpoint, pk=endpoint_id, organization=request.organization, deleted_at=None)


def _delivery_of(request: MemberRequest, endpoint_id: int, delivery_id: int) -> Delivery:
    mine = Delivery.objects.select_related("endpoint")
    return get_object_or_404(mine, pk=delivery_id, endpoint=_endpoint_of(request, endpoint_id))


def _form(request: MemberRequest, form: EndpointForm, *, status: int = 200) -> HttpResponse:
    context = {"form": form, "token": once.issue(request)}
    return render(request, "relay/webhook_create.html", context, status=status)
