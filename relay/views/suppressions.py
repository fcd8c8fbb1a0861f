"""Suppressions: addresses that get no mail of the organization; listed, searched, added, removed, imported, exported.

Shapes  Addresses narrow the list: q (an address, @domain, or a part), source, before (a row's number).
        Removing many begins with a form of `id` fields; without `confirmed` it asks.
Units   REMOVE_MAX addresses of one removal; imports are bounded by relay.suppressions.
Errors  Form errors with the core's words. Ids of other organizations are left out, and none left is 404.
"""

import csv
import io
from collections.abc import AsyncIterator, Sequence
from typing import Any

from asgiref.sync import sync_to_async
from django.contrib import messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import Http404, HttpResponse, StreamingHttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.http import urlencode
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_http_methods, require_safe

from accounts import roles
from accounts.access import MemberRequest, actor_of, member_required
from relay import suppressions
from relay.forms import SuppressionForm, SuppressionImportForm
from relay.models import Suppression
from relay.ops.asked import PAGE, choice_asked, number_asked, text_asked
from relay.views.auth_log import csv_cell
from relay.views.confirm import Question, ask

REMOVE_MAX = 500
COLUMNS = ("address", "source", "reason", "reference", "created_at", "created_by")


@require_http_methods(["GET", "HEAD", "POST"])
@member_required(roles.MESSAGES_SEE)
def page(request: MemberRequest) -> HttpResponse:
    may_change = roles.can(request.membership, roles.MESSAGES_CHANGE)
    form = SuppressionForm(request.POST or None)
    if request.method == "POST":
        if not may_change:
            raise PermissionDenied
        if form.is_valid() and _added(request, form):
            return redirect("relay:suppressions")
    context = {"form": form, "may_change": may_change, **_list(request)}
    return render(request, "relay/suppressions.html", context, status=422 if form.errors else 200)


def _list(request: MemberRequest) -> dict[str, Any]:
    asked = {
        "q": text_asked(request.GET, "q"),
        "source": choice_asked(request.GET, "source", Suppression.Source.values),
    }
    before = number_asked(request.GET, "before")
    found = suppressions.search(request.organization.pk, text=asked["q"], source=asked["source"])
    rows = list((found if before is None else found.filter(pk__lt=before))[: PAGE + 1])
    older = str(rows[PAGE - 1].pk) if len(rows) > PAGE else ""
    counts = suppressions.counts(request.organization.pk)
    sources = [
        ("", _("All"), sum(counts.values())),
        *((key, label, counts.get(key, 0)) for key, label in Suppression.Source.choices),
    ]
    return {
        "rows": rows[:PAGE],
        "asked": asked,
        "is_searched": any(asked.values()),
        "sources": [
            (_url({**asked, "source": key}), label, number, asked["source"] == key) for key, label, number in sources
        ],
        "newer": _url(asked) if before is not None else "",
        "older": _url({**asked, "before": older}) if older else "",
    }


def _url(query: dict[str, str]) -> str:
    return "?" + urlencode({name: value for name, value in query.items() if value})


def _added(request: MemberRequest, form: SuppressionForm) -> bool:
    try:
        row = suppressions.add(
            request.organization,
            address=form.cleaned_data["address"],
            note=form.cleaned_data["note"],
            actor=actor_of(request),
        )
    except ValidationError as refused:
        form.add_error("address", refused)
        return False
    messages.success(request, _("%(address)s is suppressed: mail to it is refused.") % {"address": row.address})
    return True


@require_http_methods(["POST"])
@member_required(roles.MESSAGES_CHANGE)
def remove(request: MemberRequest) -> HttpResponse:
    ids = [int(each) for each in request.POST.getlist("id")[:REMOVE_MAX] if each.isascii() and each.isdigit()]
    ids = [each for each in ids if each < 2**63]
    rows = list(suppressions.search(request.organization.pk).filter(pk__in=ids))
    if not ids:
        messages.error(request, _("Choose the addresses first."))
        return redirect("relay:suppressions")
    if not rows:
        raise Http404(_("These addresses are not suppressed."))
    if "confirmed" not in request.POST:
        return ask(request, _question(rows))
    number = suppressions.remove(request.organization, ids=[row.pk for row in rows], actor=actor_of(request))
    words = ngettext("%(number)s address gets mail again.", "%(number)s addresses get mail again.", number)
    messages.success(request, words % {"number": number})
    return redirect("relay:suppressions")


def _question(rows: Sequence[Suppression]) -> Question:
    number = len(rows)
    title = (
        _("Remove %(address)s from the list?") % {"address": rows[0].address}
        if number == 1
        else _("Remove %(number)s addresses from the list?") % {"number": number}
    )
    text = _(
        "Mail to it is taken again at once. An address that does not exist bounces again, and much mail to such"
        " addresses harms how receivers judge your domain."
    )
    values = [("confirmed", "yes"), *(("id", str(row.pk)) for row in rows)]
    return Question(title, text, _("Remove"), reverse("relay:suppressions"), values=values)


@require_http_methods(["GET", "HEAD", "POST"])
@member_required(roles.MESSAGES_CHANGE)
def import_list(request: MemberRequest) -> HttpResponse:
    form = SuppressionImportForm(request.POST or None, request.FILES or None)
    done: suppressions.Imported | None = None
    if request.method == "POST" and form.is_valid():
        try:
            done = suppressions.import_text(
                request.organization,
                text=form.cleaned_data["text"],
                note=form.cleaned_data["note"],
                actor=actor_of(request),
            )
        except ValidationError as refused:
            form.add_error(None, refused)
    context = {"form": SuppressionImportForm() if done else form, "done": done}
    return render(request, "relay/suppression_import.html", context, status=422 if form.errors else 200)


@require_safe
@member_required(roles.MESSAGES_SEE)
def export(request: MemberRequest) -> StreamingHttpResponse:
    response = StreamingHttpResponse(_csv(request.organization.pk), content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="suppressions-{timezone.now():%Y%m%dT%H%M%SZ}.csv"'
    return response


async def _csv(organization_id: int) -> AsyncIterator[str]:
    """Page by page, asynchronous, or the ASGI server would collect the whole first."""
    yield _lines([COLUMNS])
    pages = suppressions.addresses_of(organization_id)
    while rows := await sync_to_async(lambda: next(pages, None))():
        yield _lines([[csv_cell(getattr(row, name)) for name in COLUMNS] for row in rows])


def _lines(rows: Sequence[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue()
