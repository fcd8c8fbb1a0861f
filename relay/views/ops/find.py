"""Find: one box for whatever somebody has at hand, a pasted reply too; and the page of a reference."""

from typing import Any
from urllib.parse import urlencode

from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_safe

from accounts.access import UserRequest
from accounts.models import Organization
from audit.reasons import explain
from relay.ops.asked import text_asked
from relay.ops.reference import find as find_pages
from relay.ops.reference import told_by
from relay.pasted import reference_in, reply_in
from relay.queue import message_state
from relay.refusal_reasons import explain as explain_reply
from relay.refusals import reply_of
from relay.views.ops.access import operator_page


@require_safe
@operator_page
def find(request: UserRequest) -> HttpResponse:
    text = text_asked(request.GET, "q", 500)
    hits = find_pages(text, now=timezone.now()) if text else []
    if len(hits) == 1:
        return redirect(hits[0].url)
    search = f"{reverse('relay:ops_customers')}?{urlencode({'q': text[:120]})}"
    context: dict[str, Any] = {"q": text, "hits": hits, "reference": reference_in(text), "search": search}
    if not hits and (reply := reply_in(text)):
        context |= {"reply": reply, "explanation": explain_reply(reply, from_door=bool(context["reference"]))}
    return render(request, "ops/find.html", context)


@require_safe
@operator_page
def reference(request: UserRequest, text: str) -> HttpResponse:
    wanted = reference_in(text)
    told = told_by(wanted) if wanted else None
    if not told:
        raise Http404
    organizations = Organization.objects.in_bulk(
        {event.organization_id for event in told.attempts if event.organization_id}
        | {row.refusal.organization_id for row in told.refusals}
    )
    context = {
        "reference": told.reference,
        "message": told.message,
        "failure": told.failure,
        "state": message_state(each.state for each in told.message.recipients.all()) if told.message else "",
        "attempts": [
            (event, organizations.get(event.organization_id or 0), explain(event.reason)) for event in told.attempts
        ],
        "refusals": [
            (row, organizations.get(row.refusal.organization_id), explain_reply(reply_of(row.refusal), from_door=True))
            for row in told.refusals
        ],
    }
    return render(request, "ops/reference.html", context)
