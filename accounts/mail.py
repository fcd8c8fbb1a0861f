"""Mails about accounts. They leave through Django's EMAIL_BACKEND, which is Gatepost's own queue.

Shapes  send_mail returns the message's id in the queue (the demo links to it), or None if it was held back.
        Templates: accounts/mail/<name>.txt, plain text. Links are made from GATEPOST_WEB_URL, never from a Host header.
Units   One address gets at most 5 mails of one kind an hour from each web process: no form floods a mailbox.
"""

from typing import Any, Final

import structlog
from django.conf import settings
from django.core.cache import cache
from django.core.mail import EmailMessage
from django.template.loader import render_to_string
from django.urls import reverse

AN_HOUR: Final = 5

log = structlog.get_logger("accounts.mail")


def automatic(*, to: str, subject: str, body: str) -> EmailMessage:
    """A mail that no person wrote, not sent yet. A name in its subject may hold line ends: they become spaces."""
    headers = {"Auto-Submitted": "auto-generated"}  # RFC 3834 5: no out-of-office answers
    return EmailMessage(subject=" ".join(subject.split()), body=body, to=[to], headers=headers)


def send_mail(name: str, *, to: str, subject: str, context: dict[str, Any]) -> str | None:
    """Within the caller's transaction: if the change is undone, its mail was never written."""
    if not _may_send(name, to):
        log.warning("account_mail_held_back", mail=name)
        return None
    body = render_to_string(f"accounts/mail/{name}.txt", {"to": to, "web_url": settings.GATEPOST_WEB_URL, **context})
    message = automatic(to=to, subject=subject, body=body)
    message.send()
    found = getattr(message, "gatepost_message_id", None)
    return str(found) if found else None


def link(view_name: str, *args: Any) -> str:
    return f"{settings.GATEPOST_WEB_URL}{reverse(view_name, args=args)}"


def _may_send(name: str, to: str) -> bool:
    key = f"account-mail:{name}:{to.lower()}"
    cache.add(key, 0, timeout=3600)
    try:
        return int(cache.incr(key)) <= AN_HOUR
    except ValueError:  # it expired between the two calls
        return True
