"""Test my connection: exact commands for one SMTP user, and what comes in from them, live and in words."""

from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db.models import F
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_safe

from accounts import roles
from accounts.access import MemberRequest, actor_of, member_required
from accounts.client_address import peer_address
from relay.connection_commands import commands_for
from relay.connection_tests import WATCHED, begin, watch
from relay.models import ConnectionTest, SmtpUser
from relay.networks import parse_address
from relay.views.smtp_user import door_of

RECENT = 10
ADDRESS_MAX = 64
SECONDS = 2  # between two looks


@require_http_methods(["GET", "HEAD", "POST"])
@member_required(roles.AUTH_LOG_SEE)
def index(request: MemberRequest) -> HttpResponse:
    mine = SmtpUser.objects.filter(organization=request.organization)
    users = mine.order_by(F("disabled_at").asc(nulls_first=True), "username")
    context: dict[str, Any] = {
        "users": users,
        "own": peer_address(request) or "",
        "chosen": request.GET.get("user", ""),
        "recent": _recent(request),
    }
    if request.method != "POST":
        return render(request, "relay/connection_tests.html", context)
    chosen, typed = request.POST.get("user", "")[:20], request.POST.get("ip", "").strip()[:ADDRESS_MAX]
    context |= {"chosen": chosen, "own": typed}
    user = users.filter(pk=int(chosen)).first() if chosen.isascii() and chosen.isdigit() else None
    try:
        if user is None:
            raise ValidationError(_("Choose one of your SMTP users."))
        parse_address(typed)
        test = begin(user, ip=typed, actor=actor_of(request))
    except ValidationError as refused:
        return render(request, "relay/connection_tests.html", context | {"error": refused.messages[0]}, status=422)
    except ValueError:
        error = _("That is not an address: write 192.0.2.7 or 2001:db8::7.")
        return render(request, "relay/connection_tests.html", context | {"error": error}, status=422)
    return redirect("relay:connection_test", test.pk)


def _recent(request: MemberRequest) -> Any:
    mine = ConnectionTest.objects.filter(organization=request.organization).select_related("smtp_user")
    return mine.order_by("-started_at")[:RECENT]


@require_safe
@member_required(roles.AUTH_LOG_SEE)
def page(request: MemberRequest, test_id: int) -> HttpResponse:
    """An htmx request gets the steps alone: that is the live view, which ends when all is well or time is over."""
    tests = ConnectionTest.objects.select_related("smtp_user", "organization")
    test = get_object_or_404(tests, pk=test_id, organization=request.organization)
    seen = watch(test, own=peer_address(request))
    context = {"test": test, "watch": seen, "seconds": SECONDS, "minutes": int(WATCHED.total_seconds()) // 60}
    if request.headers.get("HX-Request"):
        return render(request, "relay/connection_test_steps.html", context)
    door = door_of(test.smtp_user)
    context |= {"commands": commands_for(door, ca_file=_ca_file()), "door": door}
    return render(request, "relay/connection_test.html", context)


def _ca_file() -> str:
    """Of the authority that Gatepost made itself; nothing where the operator has a certificate that others trust."""
    own = settings.GATEPOST_STATE_DIR / "tls" / "ca.pem"
    return str(own) if settings.GATEPOST_DEMO and not settings.GATEPOST_TLS_CERTIFICATE and own.exists() else ""
