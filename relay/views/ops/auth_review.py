"""Auth review: every login attempt of every customer, by facets, live; and the same rows as CSV."""

from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from django.http import Http404, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from accounts.access import UserRequest
from accounts.models import Organization
from audit.pages import SearchTooLong
from relay.ops.asked import PERIODS, text_asked
from relay.ops.attempts import COLUMNS, AttemptFilters, Facet, attempts, facets_of, organizations_of, page_of
from relay.ops.export import attempts_csv
from relay.views.ops.access import operator_page


@require_safe
@operator_page
def auth_review(request: UserRequest) -> HttpResponse:
    filters, now = AttemptFilters.from_query(request.GET), timezone.now()
    query, paused = filters.query(), request.GET.get("paused") == "1"
    context = {
        **_rows(request, filters, now=now),
        **_facets(filters, now=now),
        "filters": filters,
        "encoded": urlencode(query),
        "asked": _asked(filters, query),
        "periods": [
            (period.label, period == filters.period, _address({**query, "period": period.key}))
            for period in PERIODS.values()
        ],
        "pause": (_("Go live"), _address(query)) if paused else (_("Pause"), _address({**query, "paused": "1"})),
    }
    return render(request, "ops/auth_review.html", context)


@require_safe
@operator_page
def auth_review_live(request: UserRequest, part: str) -> HttpResponse:
    """The rows, or the facets: counting a month again every few seconds would cost more than it tells."""
    filters, now = AttemptFilters.from_query(request.GET), timezone.now()
    if part == "rows":
        return render(request, "ops/parts/auth_rows.html", _rows(request, filters, now=now))
    if part == "facets":
        return render(request, "ops/parts/auth_facets.html", _facets(filters, now=now))
    raise Http404


@require_safe
@operator_page
def auth_review_csv(request: UserRequest) -> HttpResponse:
    return attempts_csv(attempts(AttemptFilters.from_query(request.GET), now=timezone.now()), name="auth-review")


def _rows(request: UserRequest, filters: AttemptFilters, *, now: datetime) -> dict[str, Any]:
    before, query = text_asked(request.GET, "before", 80), filters.query()
    try:
        (rows, following), too_long = page_of(filters, now=now, before=before), False
    except SearchTooLong:
        rows, following, too_long = [], "", True
    organizations = organizations_of(rows)
    return {
        "rows": [(row, organizations.get(row.organization_id or 0)) for row in rows],
        "newer": _address(query) if before else "",
        "older": _address({**query, "before": following}) if following else "",
        "too_long": too_long,
        "is_live": not too_long and not before and request.GET.get("paused") != "1",
    }


def _facets(filters: AttemptFilters, *, now: datetime) -> dict[str, Any]:
    total, facets = facets_of(filters, now=now)
    return {"total": total, "facets": [(facet.column.label, _lines(facet, filters.query())) for facet in facets]}


def _address(query: dict[str, str]) -> str:
    return f"{reverse('relay:ops_auth_review')}?{urlencode(query)}"


def _without(query: dict[str, str], name: str) -> str:
    return _address({key: value for key, value in query.items() if key != name})


def _lines(facet: Facet, query: dict[str, str]) -> list[tuple[str, int, bool, str]]:
    """Label, count, whether it is chosen, and the address that narrows to it or takes the narrowing away again."""
    name = facet.column.parameter
    return [
        (
            line.label,
            line.count,
            line.chosen,
            _without(query, name) if line.chosen else _address({**query, name: line.value}) if line.value else "",
        )
        for line in facet.lines
    ]


def _asked(filters: AttemptFilters, query: dict[str, str]) -> list[tuple[str, str, str]]:
    """What the list is narrowed by: label, value, the address without it."""
    found = [
        (str(column.label), query[column.parameter], _without(query, column.parameter))
        for column in COLUMNS
        if column.parameter in query
    ]
    if filters.organization_id is not None:
        customer = Organization.objects.filter(pk=filters.organization_id).first()
        name = customer.name if customer else str(filters.organization_id)
        found.append((_("Customer"), name, _without(query, "customer")))
    return found
