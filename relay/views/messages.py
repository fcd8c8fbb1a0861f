"""Messages: the list with its search, and one message's page."""

from typing import Any

from django.core.exceptions import ValidationError
from django.http import Http404, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext_lazy as _

from accounts import roles
from accounts.access import MemberRequest, member_required
from relay import queries
from relay.content import parse
from relay.message_recipients import recipients_of
from relay.message_search import MessageSearch, parse_search
from relay.models.messages import Route
from relay.timeline import conversation_of
from relay.views.message_content import content_of, message_of
from relay.waiting.progress import VERBS, verbs_for

FILTERS = (
    ("", _("All")),
    ("queued", _("Queued")),
    ("held", _("Held")),
    ("delivered", _("Delivered")),
    ("failed", _("Failed")),
    ("cancelled", _("Cancelled")),
)


@member_required(roles.MESSAGES_SEE)
def index(request: MemberRequest) -> HttpResponse:
    line = request.GET.get("q", "").strip()
    cursor = request.GET.get("before", "")
    context: dict[str, Any] = {"q": line, "filters": _filters(line), "cursor": cursor}
    try:
        search = parse_search(line)
    except ValidationError as invalid:
        context |= {"error": invalid.messages[0], "page": queries.Page([], "")}
        return render(request, "relay/messages.html", context, status=422)
    context["page"] = queries.message_page(request.organization.pk, search, cursor=cursor)
    context["is_searched"] = search != MessageSearch()
    if roles.can(request.membership, roles.MESSAGES_CHANGE):
        context["verbs"] = VERBS
    return render(request, "relay/messages.html", context)


def _filters(line: str) -> list[tuple[str, Any, bool]]:
    """For each state the same search with it: what follows `q=`, the word, and whether it is the present one."""
    words = line.split()
    rest = [word for word in words if not word.startswith("status:")]
    found = []
    for state, label in FILTERS:
        own = [f"status:{state}"] if state else []
        now = own == [word for word in words if word.startswith("status:")]
        found.append((" ".join(rest + own), label, now))
    return found


@member_required(roles.MESSAGES_SEE)
def page(request: MemberRequest, message_id: Any) -> HttpResponse:
    """An htmx request gets the recipients alone: that is the live view."""
    message = message_of(request, message_id)
    may_change = roles.can(request.membership, roles.MESSAGES_CHANGE)
    context: dict[str, Any] = {
        "message": message,
        "page": recipients_of(message, request.GET),
        "verbs": verbs_for(message) if may_change else (),
    }
    if request.headers.get("HX-Request"):
        return render(request, "parts/recipients.html", context)
    content = content_of(message)
    context |= {
        "parts": parse(content) if content is not None else None,
        "is_captured": message.route == Route.SANDBOX,
    }
    return render(request, "relay/message.html", context)


@member_required(roles.MESSAGES_SEE)
def conversation(request: MemberRequest, message_id: Any, attempt_id: int) -> HttpResponse:
    """What was said in one attempt; an htmx request gets it alone, folded open in the timeline."""
    message = message_of(request, message_id)
    attempt = conversation_of(message, attempt_id)
    if attempt is None:
        raise Http404(_("There is no such conversation."))
    part = "parts/conversation.html" if request.headers.get("HX-Request") else "relay/conversation.html"
    return render(request, part, {"message": message, "attempt": attempt})
