"""Who sees the operator's pages: operators past their second factor. For other people they do not exist.

Errors  Not signed in: to sign-in, with `next`. Signed in, but no operator: 404, so that no address is told to exist.
        An operator without a second factor: to its enrolment.
"""

from functools import wraps
from typing import Any

from django.http import Http404, HttpResponseBase
from django.views.decorators.cache import never_cache

from accounts.access import UserRequest, View, operator_required, recent_mfa_required


def operator_page(view: View) -> View:
    guarded = operator_required(view)

    @wraps(view)
    @never_cache
    def page(request: UserRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if request.user.is_authenticated and not request.user.is_operator:
            raise Http404
        return guarded(request, *args, **kwargs)

    return page


def operator_action(view: View) -> View:
    """A page that changes something: it also asks who is there, if that was not asked within the last minutes."""
    return operator_page(recent_mfa_required(view))
