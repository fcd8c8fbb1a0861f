"""The Floor, and the part of it that a page that stays open fetches again and again."""

from django.http import HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_safe

from accounts.access import UserRequest
from relay.ops.asked import FLOOR_PERIODS
from relay.ops.floor import STALE_SECONDS, floor_of
from relay.ops.troubles import troubles_of
from relay.views.ops.access import operator_page


@require_safe
@operator_page
def floor(request: UserRequest) -> HttpResponse:
    return _page(request, "ops/floor.html")


@require_safe
@operator_page
def floor_live(request: UserRequest) -> HttpResponse:
    return _page(request, "ops/parts/floor.html")


def _page(request: UserRequest, template: str) -> HttpResponse:
    figures = floor_of(now=timezone.now())
    context = {
        "floor": figures,
        "troubles": troubles_of(figures),
        "periods": FLOOR_PERIODS,
        "stale_seconds": STALE_SECONDS,
        "paused": request.GET.get("paused") == "1",
    }
    return render(request, template, context)
