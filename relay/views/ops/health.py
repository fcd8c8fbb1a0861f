"""Health: the kept self-check, the relay's own addresses as the world sees them, and what the installation runs on."""

from django.conf import settings
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST, require_safe

from accounts.access import UserRequest
from relay import versions
from relay.models import SelfCheck
from relay.reputation import checks
from relay.self_checks import is_late, latest, run_self_check
from relay.views.ops.access import operator_page

RUNS_SHOWN = 14


@require_safe
@operator_page
def page(request: UserRequest) -> HttpResponse:
    last = latest()
    context = {
        "last": last,
        "is_late": is_late(last),
        "runs": SelfCheck.objects.order_by("-at")[:RUNS_SHOWN],
        "spans": list(checks.now()),
        "changes": checks.history(),
        "reputation_is_on": checks.is_on(),
        "blocklists": settings.GATEPOST_BLOCKLISTS,
        "versions": versions.judged(versions.parts()),
        "libraries": versions.other_libraries(),
        "table_of": versions.AS_OF,
    }
    return render(request, "ops/health.html", context)


@require_POST
@operator_page
def check(request: UserRequest) -> HttpResponse:
    """Both at once, here and now: some seconds, more where a resolver does not answer."""
    checks.check_reputation()
    run = run_self_check(asked_by=request.user.email)
    messages.success(request, _("Checked in %.1f seconds.") % (run.took_ms / 1000))
    return redirect("relay:ops_health")
