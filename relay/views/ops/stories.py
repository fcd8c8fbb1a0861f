"""The story of a username and of an IP address, each on one page and as CSV."""

from dataclasses import dataclass, replace
from urllib.parse import urlencode

from django.http import Http404, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_safe

from accounts.access import UserRequest
from accounts.models import Organization
from audit.models import Reason
from audit.queries import AuthFilters, filtered_events
from audit.record import network_around
from audit.review import Story, story_of_ip, story_of_username
from relay.door_failures import failures_at
from relay.models import SmtpUser
from relay.ops.asked import PERIODS, Period, address_of, period_asked, text_asked
from relay.ops.export import attempts_csv
from relay.ops.stories import chart_of, hours_of
from relay.views.ops.access import operator_page

LATEST = 20


@dataclass(frozen=True, slots=True)
class Subject:
    """Whose story: its place in addresses of its own page (`parameter`) and of the auth review (`column`)."""

    value: str
    path: str
    parameter: str
    column: str
    filters: AuthFilters

    def address(self, period: Period, **query: str) -> str:
        return f"{self.path}?{urlencode({self.parameter: self.value, 'period': period.key, **query})}"

    def review(self, period: Period, **query: str) -> str:
        asked = {"period": period.key, self.column: self.value, **query}
        return f"{reverse('relay:ops_auth_review')}?{urlencode(asked)}"


@require_safe
@operator_page
def username(request: UserRequest) -> HttpResponse:
    name = text_asked(request.GET, "name", 255)
    if not name:
        raise Http404
    smtp_user = SmtpUser.objects.select_related("organization").filter(username=name.lower()).first()
    subject = Subject(name, reverse("relay:ops_username"), "name", "username", AuthFilters(username=name))
    return _page(request, subject, "ops/username.html", {"smtp_user": smtp_user})


@require_safe
@operator_page
def ip(request: UserRequest) -> HttpResponse:
    address = address_of(text_asked(request.GET, "ip", 64))
    if address is None:
        raise Http404
    subject = Subject(address, reverse("relay:ops_ip"), "ip", "ip", AuthFilters(ip=address))
    more: dict[str, object] = {"network": network_around(address), "failures": failures_at(address)}
    return _page(request, subject, "ops/ip.html", more)


def _page(request: UserRequest, subject: Subject, template: str, extra: dict[str, object]) -> HttpResponse:
    now = timezone.now()
    period = period_asked(request.GET, "7d")
    filters = replace(subject.filters, since=period.since(now))
    if request.GET.get("format") == "csv":
        return attempts_csv(filtered_events(None, filters=filters), name=f"auth-{subject.column}")
    tell = story_of_username if subject.column == "username" else story_of_ip
    story = tell(subject.value, since=filters.since)
    organizations = Organization.objects.in_bulk(story.organization_ids)
    context = {
        "subject": subject,
        "story": story,
        "chart": chart_of(hours_of(filters), since=period.since(now), now=now),
        "period": period,
        "periods": [
            (each.label, each == period, subject.address(each)) for each in PERIODS.values() if each.key != "5m"
        ],
        "csv": subject.address(period, format="csv"),
        "review": subject.review(period),
        "reasons": _reasons(story, subject, period),
        "organizations": sorted(organizations.values(), key=lambda each: each.name),
        "rows": [(row, organizations.get(row.organization_id or 0)) for row in story.latest[:LATEST]],
        **extra,
    }
    return render(request, template, context)


def _reasons(story: Story, subject: Subject, period: Period) -> list[tuple[str, int, str]]:
    """Words, attempts, and the address of the rows."""
    labels = dict(Reason.choices)
    return [
        (str(labels.get(each.value, each.value)), each.count, subject.review(period, reason=each.value))
        for each in story.reasons
    ]
