"""A message's content as responses of their own: its HTML in a cage, its source, its attachments, and the demo's mail.

Shapes  html: the one page of the panel that may style itself; it can run nothing, fetch nothing and send nothing.
Errors  404 for another organization's message, for content that is gone, and for the demo's mail outside the demo.
"""

from typing import Any

from csp.decorators import csp_replace
from django.conf import settings
from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.utils.http import content_disposition_header
from django.utils.translation import gettext as _
from django.views.decorators.clickjacking import xframe_options_sameorigin

from accounts import roles
from accounts.access import MemberRequest, member_required
from relay import content as stored
from relay.mail_html import page_of
from relay.models import Message

# django-csp replaces by directive: what is not named here would stay as in the panel's own policy.
CAGE: dict[str, Any] = dict.fromkeys(settings.CONTENT_SECURITY_POLICY["DIRECTIVES"]) | {
    "sandbox": True,
    "default-src": ["'none'"],
    "style-src": ["'unsafe-inline'"],
    "img-src": ["data:"],
    "frame-ancestors": ["'self'"],
}


def message_of(request: MemberRequest, message_id: Any) -> Message:
    messages = Message.objects.select_related("organization", "smtp_user", "app_password")
    return get_object_or_404(messages, pk=message_id, organization=request.organization)


def content_of(message: Message) -> bytes | None:
    """The stored mail, or None once its retention is over."""
    try:
        return stored.load(message.pk)
    except stored.ContentGoneError:
        return None


def _content(request: MemberRequest, message_id: Any) -> bytes:
    content = content_of(message_of(request, message_id))
    if content is None:
        raise Http404(_("The content is gone."))
    return content


@xframe_options_sameorigin
@csp_replace(CAGE)
@member_required(roles.MESSAGES_SEE)
def html(request: MemberRequest, message_id: Any) -> HttpResponse:
    """Several HTML parts stand one after the other, as mail programs show them."""
    return _private(HttpResponse(page_of(_content(request, message_id))))


@member_required(roles.MESSAGES_SEE)
def source(request: MemberRequest, message_id: Any) -> HttpResponse:
    """The mail octet for octet, as a file."""
    response = HttpResponse(_content(request, message_id), content_type="message/rfc822")
    response["Content-Disposition"] = f'attachment; filename="{message_id}.eml"'
    return _private(response)


@member_required(roles.MESSAGES_SEE)
def attachment(request: MemberRequest, message_id: Any, number: int) -> HttpResponse:
    found = stored.attachment_of(_content(request, message_id), number)
    if found is None:
        raise Http404(_("There is no such attachment."))
    described, octets = found
    # The mail's own type is not believed: a browser must save it, never show or run it.
    response = HttpResponse(octets, content_type="application/octet-stream")
    response.headers["Content-Disposition"] = _as_file(described.name)
    return _private(response)


def _as_file(filename: str) -> str:
    return content_disposition_header(as_attachment=True, filename=filename) or "attachment"


def _private(response: HttpResponse) -> HttpResponse:
    response["X-Content-Type-Options"] = "nosniff"
    response["Cache-Control"] = "private, no-store"
    return response


def demo_mail(request: Any, message_id: Any) -> HttpResponse:
    """Gatepost's own mail to somebody who just signed up, in the demo only, where no mail leaves the machine.

    The address holds a random id that only the page after sign-up or reset shows.
    """
    if not settings.GATEPOST_DEMO:
        raise Http404
    message = get_object_or_404(Message, pk=message_id, organization__is_system=True)
    content = content_of(message)
    if content is None:
        raise Http404
    parts = stored.parse(content)
    return _private(render(request, "relay/demo_mail.html", {"message": message, "lines": _lines(parts.text)}))


def _lines(text: str) -> list[tuple[str, str]]:
    """The text by lines: each with the address to link to, if it is one of ours and nothing else."""
    found = []
    for line in text.splitlines():
        url = line.strip()
        ours = url.startswith(f"{settings.GATEPOST_WEB_URL}/") and " " not in url
        found.append((line, url if ours else ""))
    return found
