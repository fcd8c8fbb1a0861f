"""The scorecard of the organization: thirteen practices, each with its evidence and the way to the fix."""

from django.http import HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from accounts import roles
from accounts.access import MemberRequest, member_required
from relay.scorecard.card import counted
from relay.scorecard.customers import customer_scorecard


@require_safe
@member_required(roles.SMTP_USERS_SEE)
def page(request: MemberRequest) -> HttpResponse:
    rows = customer_scorecard(request.organization)
    return render(request, "relay/scorecard.html", {"rows": rows, "counts": counted(rows)})
