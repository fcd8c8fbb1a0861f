"""The scorecard of the whole installation, for operators."""

from django.http import HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from accounts.access import UserRequest
from relay.scorecard.card import counted
from relay.scorecard.installation import installation_scorecard
from relay.views.ops.access import operator_page


@require_safe
@operator_page
def scorecard(request: UserRequest) -> HttpResponse:
    rows = installation_scorecard()
    return render(request, "ops/scorecard.html", {"rows": rows, "counts": counted(rows)})
