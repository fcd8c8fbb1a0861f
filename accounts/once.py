"""Forms that may be sent only once: a token in the session, spent under a lock, so that a double click makes one thing.

Shapes  issue() on the page with the form, spend() when it comes back. TOKENS_MAX: open forms of one session.
Errors  spend() is False for a token that was spent, is of another session, or is too old.
"""

import secrets

from django.contrib.sessions.models import Session
from django.db import transaction
from django.http import HttpRequest

KEY = "form_tokens"
TOKENS_MAX = 30


def issue(request: HttpRequest) -> str:
    token = secrets.token_urlsafe(16)
    request.session[KEY] = [*request.session.get(KEY, []), token][-TOKENS_MAX:]
    return token


@transaction.atomic
def spend(request: HttpRequest, token: str) -> bool:
    """Two requests with the same token stand in line at the session's row; the second finds it gone."""
    row = Session.objects.select_for_update(no_key=True).filter(session_key=request.session.session_key).first()
    tokens = row.get_decoded().get(KEY, []) if row else []
    if not token or token not in tokens:
        return False
    tokens.remove(token)
    request.session[KEY] = tokens
    request.session.save()
    return True
