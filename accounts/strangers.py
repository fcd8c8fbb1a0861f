"""Forms that anybody may send and that write mails: how often from one address, and how long the answer takes.

Shapes  @for_strangers on such a view.
Units   POSTS_AN_HOUR from one address (accounts.client_address) and web process. settings.MAIL_FORM_SECONDS: an answer
        takes this long or a multiple of it, so that its time does not tell whether a mail was written.
Errors  429 with Retry-After for who asks too often.
"""

import math
import time
from functools import wraps
from typing import Any, Final

import structlog
from django.conf import settings
from django.core.cache import cache
from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import render

from accounts.access import View
from accounts.client_address import client_address

POSTS_AN_HOUR: Final = 30
HOUR: Final = 3600

log = structlog.get_logger("accounts.strangers")


def for_strangers(view: View) -> View:
    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if request.method != "POST":
            return view(request, *args, **kwargs)
        if not may_ask(client_address(request)):
            log.warning("form_sent_too_often", ip=client_address(request), path=request.path)
            page = render(request, "accounts/asked_too_often.html", status=429)
            page["Retry-After"] = str(HOUR)
            return page
        began = time.monotonic()
        response = view(request, *args, **kwargs)
        time.sleep(_seconds_left(time.monotonic() - began, unit=settings.MAIL_FORM_SECONDS))
        return response

    return guarded


def may_ask(address: str, *, what: str = "stranger", most: int = POSTS_AN_HOUR) -> bool:
    """Counts it. `what` has a count of its own."""
    key = f"{what}:{address}"
    cache.add(key, 0, timeout=HOUR)
    try:
        return int(cache.incr(key)) <= most
    except ValueError:  # it expired between the two calls
        return True


def _seconds_left(spent: float, *, unit: float) -> float:
    return max(1, math.ceil(spent / unit)) * unit - spent if unit else 0.0
