"""The page after a form that sends a mail: the same words whether the address is known or not.

Shapes  What it may say is kept in the session: the address that was typed and, in the demo alone, the mail to open.
"""

from dataclasses import dataclass
from typing import Final

from django.conf import settings
from django.http import HttpRequest
from django.urls import reverse

_KEY: Final = "mail_sent"


@dataclass(frozen=True, slots=True)
class CheckMail:
    address: str
    demo_url: str


def remember(request: HttpRequest, *, address: str, message_id: str | None) -> None:
    request.session[_KEY] = {"address": address, "message": message_id if settings.GATEPOST_DEMO else None}


def recalled(request: HttpRequest) -> CheckMail:
    found = request.session.get(_KEY) or {}
    message_id = found.get("message")
    demo_url = reverse("relay:demo_mail", args=[message_id]) if message_id and settings.GATEPOST_DEMO else ""
    return CheckMail(address=found.get("address", ""), demo_url=demo_url)
