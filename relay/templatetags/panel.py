"""Small pieces of the pages: icons, state badges, times, prices, form controls.

Shapes  Tags icon NAME, badge STATE, severity_badge and alert_badge ALERT, check_badge STATE, span_badge SPAN,
        when TIME (relative), moment TIME (exact),
        price PLAN, control FIELD, choice_control CHOICE (one of a fieldset).
        Filters alert_kind, is_checkbox, search_time (a time as a search word), fill (ok, near or full of a Usage).
Units   Times are shown in UTC. NEAR: the part of a limit from which on it is worth a look.
Errors  An unknown icon is a KeyError: a template's mistake should fail its test.
"""

from datetime import datetime
from typing import Any

from django import forms, template
from django.contrib.humanize.templatetags.humanize import naturaltime
from django.forms import BoundField
from django.forms.boundfield import BoundWidget
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from accounts.billing.money import money
from accounts.models import Plan
from audit.anomalies.models import Anomaly, Severity, State
from relay.limits import Usage
from relay.models import RecordState, ReputationSpan

register = template.Library()
NEAR = 0.8

# Drawn for Gatepost on a grid of 24, strokes only.
ICONS = {
    "gatepost": "M4 21V4M20 21V4M4 8h16M4 8l8 7 8-7M4 17h16",
    "overview": "M4 13h6V4H4zM14 20h6V11h-6zM4 20h6v-3H4zM14 7h6V4h-6z",
    "key": "M9 15a4.5 4.5 0 1 1 3-3l8 8v0M16 16l2-2M12 12l-1 1",
    "mail": "M3 6h18v12H3zM3 7l9 6 9-6",
    "log": "M5 4h14v16H5zM9 9h6M9 13h6M9 17h3",
    "domain": "M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18M3 12h18M12 3c4 5 4 13 0 18M12 3c-4 5-4 13 0 18",
    "people": "M9 5a3 3 0 1 0 0 6 3 3 0 0 0 0-6M3 20c0-4 3-6 6-6s6 2 6 6M16 5a3 3 0 0 1 0 6M18 14c2 1 3 3 3 6",
    "person": "M12 4a4 4 0 1 0 0 8 4 4 0 0 0 0-8M4 21c0-5 4-7 8-7s8 2 8 7",
    "shield": "M12 3l8 3v5c0 5-3 8-8 10-5-2-8-5-8-10V6z",
    "plan": "M4 20V10M10 20V4M16 20v-8M21 20H3",
    "code": "M8 8l-5 4 5 4M16 8l5 4-5 4M14 5l-4 14",
    "consent": "M8 7V3M16 7V3M6 7h12v5a6 6 0 0 1-12 0zM12 18v3",
    "issuer": "M3 20h18M5 17v-7M10 17v-7M14 17v-7M19 17v-7M12 3l9 5H3z",
    "ban": "M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18M5.6 5.6l12.8 12.8",
    "floor": "M3 12h4l3-8 4 16 3-8h4",
    "search": "M10 4a6 6 0 1 0 0 12 6 6 0 0 0 0-12M15 15l5 5",
    "why": "M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18M9.5 9.5a2.5 2.5 0 1 1 3.6 2.2c-.7.4-1.1 1-1.1 1.8M12 16.5v.5",
    "copy": "M9 9h11v11H9zM15 9V4H4v11h5",
    "check": "M5 13l4 4L19 7",
    "cross": "M6 6l12 12M18 6L6 18",
    "warning": "M12 4L3 20h18zM12 10v4M12 17v.5",
    "clip": "M19 11l-7 7a4.5 4.5 0 0 1-6-6l8-8a3 3 0 0 1 4 4l-8 8a1 1 0 0 1-2-2l6-6",
    "changes": "M10 14a4 4 0 0 0 5.7.3l3-3a4 4 0 0 0-5.7-5.7l-1 1M14 10a4 4 0 0 0-5.7-.3l-3 3a4 4 0 0 0 5.7 5.7l1-1",
    "network": "M12 3v6M5 15V12h14v3M12 9v3M3 15h4v5H3zM10 15h4v5h-4zM17 15h4v5h-4z",
    "billing": "M6 3h12v18l-3-2-3 2-3-2-3 2zM9 8h6M9 12h6",
    "score": "M4 6l1.5 1.5L8 5M11 6h9M4 12l1.5 1.5L8 11M11 12h9M4 18l1.5 1.5L8 17M11 18h9",
    "queue": "M4 6h16M4 12h16M4 18h10",
    "route": "M6 4a2 2 0 1 0 0 4 2 2 0 0 0 0-4M18 16a2 2 0 1 0 0 4 2 2 0 0 0 0-4M6 8v6a4 4 0 0 0 4 4h6M8 6h6",
    "hook": "M4 5h7v14H4zM11 12h9M16 8l4 4-4 4",
    "plug": "M9 3v5M15 3v5M6 8h12v3a6 6 0 0 1-12 0zM12 17v4M9 21h6",
    "bell": "M6 16v-5a6 6 0 0 1 12 0v5l2 2H4zM10 20a2 2 0 0 0 4 0",
}

GOOD, BAD, BUSY, CALM = "good", "bad", "busy", "calm"
CHECK_BADGES = {
    "ok": (GOOD, gettext_lazy("Well")),
    "warn": (BUSY, gettext_lazy("Look at it")),
    "fail": (BAD, gettext_lazy("Failed")),
}
BADGES: dict[str, tuple[str, Any]] = {
    "queued": (BUSY, gettext_lazy("Queued")),
    "held": (BUSY, gettext_lazy("Held")),
    "delivered": (GOOD, gettext_lazy("Delivered")),
    "partly delivered": (BUSY, gettext_lazy("Partly delivered")),
    "failed": (BAD, gettext_lazy("Failed")),
    "cancelled": (CALM, gettext_lazy("Cancelled")),
    "deferred": (BUSY, gettext_lazy("Deferred")),
    "lost": (BAD, gettext_lazy("Lost")),
    "accepted": (GOOD, gettext_lazy("Accepted")),
    "refused": (BAD, gettext_lazy("Refused")),
    "error": (BAD, gettext_lazy("Could not be checked")),
    "pending": (BUSY, gettext_lazy("Pending")),
    "active": (GOOD, gettext_lazy("Active")),
    "suspended": (BAD, gettext_lazy("Suspended")),
    "overdue": (BAD, gettext_lazy("Overdue")),
    "disabled": (CALM, gettext_lazy("Disabled")),
    "verified": (GOOD, gettext_lazy("Verified")),
    "unverified": (BUSY, gettext_lazy("Not verified")),
    "revoked": (CALM, gettext_lazy("Revoked")),
    "expired": (BAD, gettext_lazy("Expired")),
    "asleep": (CALM, gettext_lazy("Asleep")),
    "ending": (BUSY, gettext_lazy("Ending")),
    "canary": (BUSY, gettext_lazy("Canary")),
    "waiting": (BUSY, gettext_lazy("Waiting")),
    "failing": (BAD, gettext_lazy("Failing")),
    "alive": (GOOD, gettext_lazy("Alive")),
    "silent": (BAD, gettext_lazy("Silent")),
}


@register.simple_tag
def icon(name: str) -> SafeString:
    """A decoration: the word beside it says the same, so screen readers skip it."""
    shape = (
        f'<svg class="gp-icon" viewBox="0 0 24 24" aria-hidden="true" focusable="false"><path d="{ICONS[name]}"/></svg>'
    )
    return mark_safe(shape)  # noqa: S308 - constants of this module


@register.simple_tag
def badge(state: str, label: str = "") -> SafeString:
    """A state as a word in a colour; unknown states are shown plainly."""
    kind, word = BADGES.get(state, (CALM, state))
    return format_html('<span class="gp-badge gp-badge-{}">{}</span>', kind, label or word)


@register.simple_tag
def record_badge(state: str) -> SafeString:
    """What the DNS says of a record of a sending domain."""
    kinds = {RecordState.OK: GOOD, RecordState.WEAK: BUSY, RecordState.UNKNOWN: CALM}
    return badge_of(kinds.get(RecordState(state), BAD), str(RecordState(state).label))


@register.simple_tag
def severity_badge(anomaly: Anomaly) -> SafeString:
    kind = {Severity.NOTICE: CALM, Severity.WARNING: BUSY}.get(Severity(anomaly.severity), BAD)
    return badge_of(kind, anomaly.get_severity_display())


@register.simple_tag
def alert_badge(anomaly: Anomaly) -> SafeString:
    kind = {State.OPEN: BUSY, State.DISMISSED: GOOD}.get(State(anomaly.state), CALM)
    return badge_of(kind, anomaly.get_state_display())


@register.simple_tag
def check_badge(state: str, label: str = "") -> SafeString:
    """Of the self-check: ok, warn, fail."""
    kind, word = CHECK_BADGES.get(state, (CALM, state))
    return badge_of(kind, label or str(word))


@register.simple_tag
def span_badge(span: ReputationSpan) -> SafeString:
    kinds = {ReputationSpan.State.GOOD: GOOD, ReputationSpan.State.LISTED: BAD, ReputationSpan.State.BAD: BAD}
    return badge_of(kinds.get(ReputationSpan.State(span.state), BUSY), span.get_state_display())


def badge_of(kind: str, word: str) -> SafeString:
    return format_html('<span class="gp-badge gp-badge-{}">{}</span>', kind, word)


@register.simple_tag
def moment(value: datetime | None, empty: str = "–") -> str:
    """The exact time, to the second, in UTC."""
    if value is None:
        return empty
    utc = timezone.localtime(value)
    return format_html('<time datetime="{}" data-moment>{}</time>', utc.isoformat(), date_format(utc, "Y-m-d H:i:s"))


@register.simple_tag
def when(value: datetime | None, empty: str = "") -> str:
    """How long ago or how soon, with the exact time as title."""
    if value is None:
        return empty or _("never")
    utc = timezone.localtime(value)
    exact = date_format(utc, "Y-m-d H:i:s")
    return format_html('<time datetime="{}" title="{} UTC">{}</time>', utc.isoformat(), exact, naturaltime(value))


@register.simple_tag
def price(plan: Plan) -> str:
    """$145, or 12.50 EUR: whole amounts without their hundredths."""
    amount = f"{plan.price_cents / 100:,.2f}".removesuffix(".00")
    return f"${amount}" if plan.currency == "USD" else f"{amount} {plan.currency}"


register.simple_tag(money)


@register.filter
def search_time(value: datetime) -> str:
    """A time as the message search reads it."""
    return f"{timezone.localtime(value):%Y-%m-%dT%H:%M}"


@register.filter
def fill(usage: Usage) -> str:
    """How an hour stands against its limit; the meters' colour goes by it, their words tell the same."""
    if usage.used >= usage.limit:
        return "full"
    return "near" if usage.used >= NEAR * usage.limit else "ok"


@register.filter
def alert_kind(level: str) -> str:
    """Django's message level as Tabler's alert."""
    return {"error": "danger", "debug": "secondary"}.get(level, level or "info")


@register.filter
def is_checkbox(field: BoundField) -> bool:
    return isinstance(field.field.widget, forms.CheckboxInput)


def _control_class(widget: forms.Widget) -> str:
    if isinstance(widget, forms.CheckboxInput | forms.RadioSelect):
        return "form-check-input"
    return "form-select" if isinstance(widget, forms.Select) else "form-control"


@register.simple_tag
def choice_control(choice: BoundWidget) -> SafeString:
    """One of a field's radio buttons or check boxes, with Tabler's class as single ones have it."""
    choice.data["attrs"]["class"] = "form-check-input"
    return choice.tag()


@register.simple_tag
def control(field: BoundField) -> SafeString:
    """The widget of a field with Tabler's class, marked when its value was refused."""
    names = [_control_class(field.field.widget), field.field.widget.attrs.get("class", "")]
    if field.errors:
        names.append("is-invalid")
    return field.as_widget(attrs={"class": " ".join(filter(None, names))})
