"""What a customer does to its own mail that waits: one message, or what a search means; and what the limit holds."""

from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts import roles
from accounts.access import MemberRequest, actor_of, is_recent, member_required, send_to
from relay.message_search import LENGTH_MAX
from relay.models import Message, QueueAction, Recipient
from relay.views.confirm import Question, ask
from relay.views.message_content import message_of
from relay.waiting import actions
from relay.waiting.filters import STATES, FilterInvalid, WaitingFilter
from relay.waiting.forecast import forecast
from relay.waiting.progress import Progress, Verb, verb_of
from relay.waiting.verbs import WHY_NOT, By

AT_ONCE = 500  # recipients: as many are done before the page is answered
AT_ONCE_SECONDS = 2.0
form_page = require_http_methods(["GET", "HEAD", "POST"])
_TITLES: dict[Verb, Any] = {
    Verb.RETRY: gettext_lazy("Try again now"),
    Verb.HOLD: gettext_lazy("Hold"),
    Verb.RELEASE: gettext_lazy("Release"),
    Verb.CANCEL: gettext_lazy("Cancel"),
}


def _verb(text: str) -> Verb:
    found = verb_of(text)
    if found is None:
        raise Http404
    return found


def _must_identify(request: MemberRequest, verb: Verb) -> bool:
    """What cannot be undone is asked for by whoever is really there."""
    return verb == Verb.CANCEL and not is_recent(request)


# --- One message ------------------------------------------------------------------------------------------------------


@form_page
@member_required(roles.MESSAGES_CHANGE)
def act(request: MemberRequest, message_id: Any, verb: str) -> HttpResponse:
    """Of one message, or with ?recipient= of one of its recipients."""
    chosen, message = _verb(verb), message_of(request, message_id)
    ids = _waiting_of(message, request.GET.get("recipient", ""))
    place = reverse("relay:message", args=[message.pk])
    if request.method != "POST":
        return ask(request, _question(chosen, message, len(ids), place))
    changed, skipped = actions.act_on_recipients(
        chosen,
        ids,
        by=By(actor_of(request), is_operator=False),
        organization_id=request.organization.pk,
        subject=message.reference,
        subject_id=str(message.pk),
    )
    if changed:
        messages.success(request, _done(chosen, changed))
    for why, number in skipped.items():
        words = ngettext("%(number)d recipient was left: %(why)s.", "%(number)d recipients were left: %(why)s.", number)
        messages.warning(request, words % {"number": number, "why": WHY_NOT[why]})
    if not changed and not skipped:
        messages.info(request, _("Nothing of it waits any more."))
    return redirect(place)


def _waiting_of(message: Message, recipient: str) -> list[int]:
    waiting = message.recipients.filter(state__in=STATES)
    if recipient:
        if not recipient.isdecimal() or len(recipient) > 18:
            raise Http404
        waiting = waiting.filter(pk=int(recipient))
    return list(waiting.values_list("pk", flat=True))


def _question(verb: Verb, message: Message, number: int, back: str) -> Question:
    words = ngettext("%(number)d recipient waits.", "%(number)d recipients wait.", number) % {"number": number}
    consequence = {
        Verb.CANCEL: _("What is cancelled is never delivered."),
        Verb.HOLD: _("What is held stays until you release it."),
        Verb.RELEASE: _("What you held is due at once. What waits for the hourly limit goes on waiting for it."),
        Verb.RETRY: _("The next attempt is made at once instead of at its time."),
    }[verb]
    title = f"{_TITLES[verb]}: {message.subject or message.reference}"[:200]
    return Question(title, f"{words} {consequence}", str(verb.label), back, dangerous=verb == Verb.CANCEL)


def _done(verb: Verb, number: int) -> str:
    words = {
        Verb.CANCEL: ngettext("%(number)d recipient is cancelled.", "%(number)d recipients are cancelled.", number),
        Verb.HOLD: ngettext("%(number)d recipient is held.", "%(number)d recipients are held.", number),
        Verb.RELEASE: ngettext("%(number)d recipient is released.", "%(number)d recipients are released.", number),
        Verb.RETRY: ngettext("%(number)d recipient is due now.", "%(number)d recipients are due now.", number),
    }[verb]
    return words % {"number": number}


# --- What a search means ----------------------------------------------------------------------------------------------


@form_page
@member_required(roles.MESSAGES_CHANGE)
def bulk(request: MemberRequest, verb: str) -> HttpResponse:
    """How many and which; then it is done, at once if they are few, else beside the page."""
    chosen = _verb(verb)
    if _must_identify(request, chosen):
        return send_to(request, "accounts:confirm_identity")
    line = request.GET.get("q", "").strip()
    asked = WaitingFilter(organization_id=request.organization.pk, search=line[: LENGTH_MAX + 1])
    now = timezone.now()
    try:
        counted = actions.count(asked, is_customers=True, as_of=now)
        if request.method == "POST":
            return _start(request, chosen, asked, few=counted.in_time and counted.number <= AT_ONCE)
    except FilterInvalid as invalid:
        messages.error(request, invalid.messages[0])
        return redirect(_list(line))
    ids = actions.sample(asked, is_customers=True, as_of=now)
    context = {
        "verb": chosen,
        "label": chosen.label,
        "is_danger": chosen == Verb.CANCEL,
        "counted": counted,
        "rows": Recipient.objects.filter(pk__in=ids).select_related("message").order_by("pk"),
        "q": line,
        "as_of": now.isoformat(),
        "back": _list(line),
    }
    return render(request, "relay/message_bulk.html", context)


def _start(request: MemberRequest, verb: Verb, asked: WaitingFilter, *, few: bool) -> HttpResponse:
    action = actions.request_action(
        verb,
        asked,
        actor=actor_of(request),
        organization=request.organization,
        as_of=as_of_asked(request.POST.get("as_of", "")),
    )
    if few:
        actions.run(action, seconds=AT_ONCE_SECONDS)
    return redirect("relay:message_bulk_progress", action.pk)


def as_of_asked(text: str) -> datetime:
    """The moment of the look at it, never a later one than now."""
    now = timezone.now()
    try:
        moment = parse_datetime(text[:40])
    except ValueError:
        moment = None
    return min(moment, now) if moment is not None and timezone.is_aware(moment) else now


def _list(line: str) -> str:
    return f"{reverse('relay:messages')}?{urlencode({'q': line})}" if line else reverse("relay:messages")


@require_safe
@member_required(roles.MESSAGES_SEE)
def progress(request: MemberRequest, action_id: int) -> HttpResponse:
    row = get_object_or_404(QueueAction, pk=action_id, organization=request.organization)
    live = request.headers.get("HX-Request") == "true"
    url = reverse("relay:message_bulk_progress", args=[row.pk])
    context = {
        "progress": Progress(row),
        "url": url,
        "q": row.filters.get("search", ""),
        "may_change": roles.can(request.membership, roles.MESSAGES_CHANGE),
    }
    return render(request, "parts/queue_progress.html" if live else "relay/message_bulk_progress.html", context)


@require_POST
@member_required(roles.MESSAGES_CHANGE)
def stop(request: MemberRequest, action_id: int) -> HttpResponse:
    row = get_object_or_404(QueueAction, pk=action_id, organization=request.organization)
    actions.stop_action(row, actor=actor_of(request))
    messages.success(request, _("Stopped. What was done stays done."))
    return redirect("relay:message_bulk_progress", row.pk)


@require_safe
@member_required(roles.MESSAGES_SEE)
def held(request: MemberRequest) -> HttpResponse:
    """What waits for the hourly limit, and when each is released."""
    return render(request, "relay/messages_held.html", {"forecast": forecast(request.organization)})
