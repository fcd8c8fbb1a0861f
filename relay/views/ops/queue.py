"""The Queue: what waits, by next hop, cause and customer; and what is done to much of it at once."""

from datetime import datetime
from urllib.parse import urlencode

from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts.access import UserRequest, actor_of
from accounts.models import Organization
from relay.models import QueueAction, Recipient
from relay.views.ops.access import operator_action, operator_page
from relay.waiting.actions import count, request_action, sample, stop_action
from relay.waiting.causes import words_of_cause
from relay.waiting.filters import STATES, WaitingFilter
from relay.waiting.progress import VERBS, Progress, verb_of
from relay.waiting.summary import Group, Summary, hop_words, summary

ACTIONS_SHOWN = 10
NOTE_MAX = 255
form_page = require_http_methods(["GET", "HEAD", "POST"])


@require_safe
@operator_page
def queue(request: UserRequest) -> HttpResponse:
    now = timezone.now()
    asked = WaitingFilter.from_query(request.GET)
    found = summary(now=now)
    operators = QueueAction.objects.filter(organization__isnull=True).exclude(verb=QueueAction.Verb.WAKE)
    context = {
        "summary": found,
        "facets": _facets(found, asked),
        "states": [
            (label, asked.state == value, _address(_query(asked) | {"state": value}))
            for value, label in [("", _("Everything")), *((state.value, state.label) for state in STATES)]
        ],
        "asked": _asked(asked),
        "counted": count(asked, is_customers=False, as_of=now) if not asked.is_everything else None,
        "rows": _rows(asked, as_of=now),
        "verbs": [(verb, label, _preview_address(verb, asked)) for verb, label in VERBS],
        "actions": [Progress(action) for action in operators.order_by("-pk")[:ACTIONS_SHOWN]],
    }
    return render(request, "ops/queue.html", context)


@form_page
@operator_action
def act(request: UserRequest, verb: str) -> HttpResponse:
    """What would be done to how many and which; then it is done beside the page, to those that waited at the look."""
    chosen = verb_of(verb)
    if chosen is None:
        raise Http404
    asked = WaitingFilter.from_query(request.GET)
    if request.method == "POST":
        action = request_action(
            chosen,
            asked,
            actor=actor_of(request),
            as_of=_as_of(request.POST.get("as_of", "")),
            note=request.POST.get("note", "").replace("\0", "").strip()[:NOTE_MAX],
        )
        return redirect("relay:ops_queue_action", action.pk)
    now = timezone.now()
    context = {
        "verb": chosen,
        "label": chosen.label,
        "is_danger": chosen == QueueAction.Verb.CANCEL,
        "counted": count(asked, is_customers=False, as_of=now),
        "rows": _rows(asked, as_of=now),
        "asked": _asked(asked),
        "as_of": now.isoformat(),
        "back": _address(_query(asked)),
        "note_max": NOTE_MAX,
    }
    return render(request, "ops/queue_act.html", context)


def _as_of(text: str) -> datetime:
    """The look's moment, never a later one than now."""
    now = timezone.now()
    try:
        moment = parse_datetime(text[:40])
    except ValueError:
        moment = None
    return min(moment, now) if moment is not None and timezone.is_aware(moment) else now


@require_safe
@operator_page
def action(request: UserRequest, pk: int) -> HttpResponse:
    row = get_object_or_404(QueueAction, pk=pk, organization__isnull=True)
    asked = WaitingFilter(**row.filters)
    live = request.headers.get("HX-Request") == "true"
    template = "parts/queue_progress.html" if live else "ops/queue_action.html"
    context = {"progress": Progress(row), "asked": _asked(asked), "url": reverse("relay:ops_queue_action", args=[pk])}
    return render(request, template, context)


@require_POST
@operator_action
def stop(request: UserRequest, pk: int) -> HttpResponse:
    row = get_object_or_404(QueueAction, pk=pk, organization__isnull=True)
    stop_action(row, actor=actor_of(request))
    messages.success(request, _("Stopped. What was done stays done."))
    return redirect("relay:ops_queue_action", pk)


# --- Parts of the page ------------------------------------------------------------------------------------------------


def _rows(asked: WaitingFilter, *, as_of: datetime) -> list[Recipient]:
    ids = sample(asked, is_customers=False, as_of=as_of)
    return list(Recipient.objects.filter(pk__in=ids).select_related("message__organization").order_by("pk"))


def _query(asked: WaitingFilter) -> dict[str, str]:
    customer = str(asked.organization_id) if asked.organization_id is not None else ""
    return {"state": asked.state, "hop": asked.hop, "cause": asked.cause, "customer": customer}


def _encoded(query: dict[str, str]) -> str:
    return urlencode({name: value for name, value in query.items() if value})


def _address(query: dict[str, str]) -> str:
    return f"{reverse('relay:ops_queue')}?{_encoded(query)}"


def _preview_address(verb: str, asked: WaitingFilter) -> str:
    return f"{reverse('relay:ops_queue_act', args=[verb])}?{_encoded(_query(asked))}"


def _facets(found: Summary, asked: WaitingFilter) -> list[tuple[str, list[tuple[Group, str, bool]], int]]:
    """Title, groups with their addresses and whether they are chosen, and how many are not listed."""
    parts = (
        (_("Next hop"), "hop", "hops", found.hops),
        (_("Cause"), "cause", "causes", found.causes),
        (_("Customer"), "customer", "organizations", found.organizations),
    )
    query = _query(asked)
    return [
        (
            title,
            [(group, _address(query | {name: group.key}), query[name] == group.key) for group in groups],
            found.more.get(key, 0),
        )
        for title, name, key, groups in parts
    ]


def _asked(asked: WaitingFilter) -> list[tuple[str, str, str]]:
    query = _query(asked)
    customer = Organization.objects.filter(pk=asked.organization_id).first() if asked.organization_id else None
    words = {
        "hop": (_("Next hop"), hop_words(asked.hop) if asked.hop else ""),
        "cause": (_("Cause"), words_of_cause(asked.cause) if asked.cause else ""),
        "customer": (_("Customer"), customer.name if customer else query["customer"]),
        "state": (_("State"), str(dict(Recipient.State.choices).get(asked.state, ""))),
    }
    return [(label, value, _address(query | {name: ""})) for name, (label, value) in words.items() if query[name]]
