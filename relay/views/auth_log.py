"""The auth log: every attempt, newest first, each with its cause and the fix; live while page 1 is open; as CSV.

Shapes  The filters are the address's own parameters: result, reason, ip, user, since (an age: 24h, 7d, 30d).
Units   EXPORT_ROWS: the newest attempts that one export holds.
Errors  A filter that is nonsense is shown as an error above an empty list.
"""

import csv
import io
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from asgiref.sync import sync_to_async
from django.core.exceptions import BadRequest
from django.http import Http404, HttpResponse, StreamingHttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.utils.http import urlencode
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from accounts import roles
from accounts.access import MemberRequest, member_required
from audit.models import AuthEvent, Reason, Result
from audit.pages import SearchTooLong
from audit.queries import AuthFilters, Cursor, auth_events, filtered_events
from audit.reasons import explain
from relay.models import AppPassword, SmtpUser

PAGE_ROWS = 50
ASKED_MAX = 255  # characters of a filter: what a row can hold
EXPORT_ROWS = 100_000
EXPORT_PAGE = 2_000
PERIODS = {"24h": timedelta(hours=24), "7d": timedelta(days=7), "30d": timedelta(days=30)}
PERIOD_WORDS = (("", gettext_lazy("All")), ("24h", "24 h"), ("7d", "7 d"), ("30d", "30 d"))
RESULT_WORDS = (("", gettext_lazy("All")), *Result.choices)
NAMES = ("result", "reason", "ip", "user", "since")
COLUMNS = (
    "at", "reference", "username_given", "result", "reason", "count", "last_at",
    "ip", "network", "mechanism", "tls_version", "tls_cipher", "client_name", "port",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Choice:
    label: Any
    url: str
    current: bool


def _asked(request: MemberRequest) -> dict[str, str]:
    return {name: value for name in NAMES if (value := request.GET.get(name, "").strip()[:ASKED_MAX])}


def _filters(asked: dict[str, str]) -> AuthFilters:
    """Raises BadRequest for a filter that is none."""
    result, reason, since = asked.get("result", ""), asked.get("reason", ""), asked.get("since", "")
    if (result and result not in Result.values) or (reason and reason not in Reason.values):
        raise BadRequest(_("There is no such result or reason."))
    if since and since not in PERIODS:
        raise BadRequest(_("The period is 24h, 7d or 30d."))
    filters = AuthFilters(result=result, reason=reason, username=asked.get("user", ""))
    if since:
        filters = replace(filters, since=timezone.now() - PERIODS[since])
    address = asked.get("ip", "")
    return replace(filters, cidr=address) if "/" in address else replace(filters, ip=address)


def _events(request: MemberRequest, asked: dict[str, str], *, before: str) -> list[AuthEvent]:
    """One more than a page, to know whether there is a next one."""
    filters = _filters(asked)
    try:
        cursor = Cursor.parse(before) if before else None
        return auth_events(request.organization.pk, filters=filters, before=cursor, limit=PAGE_ROWS + 1)
    except ValueError:
        raise BadRequest(_("That is not an address or range: write 192.0.2.7 or 192.0.2.0/24.")) from None
    except SearchTooLong:
        words = _("Too much lies between what fits. Look over a shorter time, or take a filter away.")
        raise BadRequest(words) from None


@member_required(roles.AUTH_LOG_SEE)
def page(request: MemberRequest) -> HttpResponse:
    """An htmx request gets the rows alone: that is the live view."""
    asked, before = _asked(request), request.GET.get("before", "")
    context: dict[str, Any] = {"asked": asked, "query": urlencode(asked), "is_first": not before}
    try:
        events = _events(request, asked, before=before)
    except BadRequest as invalid:
        context |= {"error": str(invalid), "events": [], "older": ""}
    else:
        older = str(Cursor.of(events[PAGE_ROWS - 1])) if len(events) > PAGE_ROWS else ""
        context |= {"events": events[:PAGE_ROWS], "older": older}
    if request.headers.get("HX-Request"):
        return render(request, "relay/auth_log_rows.html", context)
    context |= {
        "results": _choices(asked, "result", RESULT_WORDS),
        "periods": _choices(asked, "since", PERIOD_WORDS),
        "narrowed": [(name, asked[name], _url({**asked, name: ""})) for name in NAMES[1:4] if name in asked],
        "reasons": Reason.choices,
    }
    return render(request, "relay/auth_log.html", context, status=422 if "error" in context else 200)


def _choices(asked: dict[str, str], name: str, words: Any) -> list[Choice]:
    return [Choice(label, _url({**asked, name: value}), asked.get(name, "") == value) for value, label in words]


def _url(asked: dict[str, str]) -> str:
    return "?" + urlencode({name: value for name, value in asked.items() if value})


@member_required(roles.AUTH_LOG_SEE)
def event(request: MemberRequest, reference: str) -> HttpResponse:
    """One attempt in words. References are of this organization only; another's is as unknown as a made-up one."""
    found = auth_events(request.organization.pk, filters=AuthFilters(reference=reference), limit=1)
    if not found:
        raise Http404(_("There is no attempt with this reference."))
    attempt = found[0]
    context = {
        "event": attempt,
        "explanation": explain(attempt.reason),
        "smtp_user": SmtpUser.objects.filter(pk=attempt.smtp_user_id or 0, organization=request.organization).first(),
        "app_password": AppPassword.objects.filter(
            pk=attempt.app_password_id or 0, smtp_user__organization=request.organization
        ).first(),
    }
    return render(request, "relay/auth_event.html", context)


@member_required(roles.AUTH_LOG_SEE)
def export(request: MemberRequest) -> StreamingHttpResponse:
    filters, organization_id = _filters(_asked(request)), request.organization.pk
    try:
        filtered_events(organization_id, filters=filters)  # reads nothing yet, but knows a bad address
    except ValueError:
        raise BadRequest(_("That is not an address or range.")) from None
    response = StreamingHttpResponse(_csv(organization_id, filters), content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="auth-log-{timezone.now():%Y%m%dT%H%M%SZ}.csv"'
    return response


async def _csv(organization_id: int, filters: AuthFilters) -> AsyncIterator[str]:
    """Page by page, none held longer than it takes. Asynchronous, or the ASGI server would collect the whole first."""
    yield _lines([COLUMNS])
    before: Cursor | None = None
    for _page in range(EXPORT_ROWS // EXPORT_PAGE):
        try:
            events = await sync_to_async(auth_events)(
                organization_id, filters=filters, before=before, limit=EXPORT_PAGE
            )
        except SearchTooLong:
            yield _lines([[_("More rows were left out: narrow the filters.")]])
            return
        yield _lines([csv_cell(getattr(each, name)) for name in COLUMNS] for each in events)
        if len(events) < EXPORT_PAGE:
            return
        before = Cursor.of(events[-1])


def _lines(rows: Iterable[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue()


def csv_cell(value: Any) -> str:
    """Clients choose their own usernames and names: what a spreadsheet would calculate is marked as text."""
    text = value.isoformat() if hasattr(value, "isoformat") else str(value)
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text
