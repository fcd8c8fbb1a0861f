"""The change log: who changed what, from where, old and new value; and whether somebody edited the log.

Shapes  Addresses narrow it: who (an actor), what (a noun or an action), before (a sequence).
        Verifying is a POST that changes nothing: it reads the whole chain, against the anchors that the database
        remembers and those that are pasted.
Errors  Pasted text without an anchor is said to have none, and nothing is verified.
"""

from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.http import urlencode
from django.views.decorators.http import require_http_methods

from accounts import roles
from accounts.access import MemberRequest, member_required
from audit.anchors import anchors_in, anchors_of, verify
from audit.change_log import changes_of
from audit.changes import ChainReport
from relay.ops.asked import number_asked, text_asked

PASTED_MAX = 20_000
ANCHORS_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Verification:
    """report None: what was pasted holds no anchor of this chain."""

    report: ChainReport | None
    given: int
    remembered: int


@require_http_methods(["GET", "HEAD", "POST"])
@member_required(roles.CHANGE_LOG_SEE)
def page(request: MemberRequest) -> HttpResponse:
    return render(request, "relay/change_log.html", context_of(request, request.organization.pk))


def context_of(request: HttpRequest, organization_id: int, **more: str) -> dict[str, Any]:
    """more: what else stands in the page's addresses."""
    asked = {"who": text_asked(request.GET, "who"), "what": text_asked(request.GET, "what", 64)}
    before = number_asked(request.GET, "before")
    found = changes_of(organization_id, actor=asked["who"], action=asked["what"], before=before)
    kept = {name: value for name, value in {**more, **asked}.items() if value}
    return {
        "changes": found.rows,
        "asked": [(value, _url({**kept, name: ""})) for name, value in asked.items() if value],
        "kept": urlencode(more) + "&" if more else "",
        "newer": _url(kept) if before is not None else "",
        "older": _url({**kept, "before": str(found.older)}) if found.older is not None else "",
        "anchors": anchors_of(organization_id)[:ANCHORS_SHOWN],
        "verification": _verified(request, organization_id) if request.method == "POST" else None,
        "pasted": request.POST.get("anchors", "")[:PASTED_MAX],
    }


def _verified(request: HttpRequest, organization_id: int) -> Verification:
    pasted = request.POST.get("anchors", "")[:PASTED_MAX]
    given = [each for each in anchors_in(pasted) if each.organization_id == organization_id]
    if pasted.strip() and not given:
        return Verification(None, 0, 0)
    remembered = len(anchors_of(organization_id))
    return Verification(verify(organization_id, given=given), len(given), remembered)


def _url(query: dict[str, str]) -> str:
    return "?" + urlencode({name: value for name, value in query.items() if value})
