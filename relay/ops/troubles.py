"""What is wrong now, in words: the Floor's judgement of its own figures.

Shapes  troubles_of(floor) -> list[Trouble], the gravest first; an empty list means that nothing is wrong.
Units   The thresholds below: seconds, attempts, shares.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlencode

from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from audit.models import Reason
from relay.ops.floor import KINDS, Floor

GRAVE, NOTABLE = "grave", "notable"
LATE_SECONDS, VERY_LATE_SECONDS = 60, 300
GUESSING_ATTEMPTS = 50  # refused logins in 5 minutes, more of them than accepted ones


@dataclass(frozen=True, slots=True)
class Trouble:
    level: str
    text: str
    url: str = ""


def troubles_of(floor: Floor) -> list[Trouble]:
    checks = (_workers, _queue, _next_hops, _logins, _alerts, _limits)
    found = [trouble for check in checks for trouble in check(floor)]
    return sorted(found, key=lambda trouble: trouble.level != GRAVE)


def _workers(floor: Floor) -> Iterator[Trouble]:
    consequence = {
        "smtpd": _("No smtpd process reports: nobody can send mail in."),
        "delivery": _("No delivery worker reports: mail is accepted, but it stays in the queue."),
    }
    for kind in KINDS:
        if not floor.alive(kind):
            yield Trouble(GRAVE, consequence[kind], "#workers")
    for worker in floor.workers:
        if not worker.is_alive and floor.alive(worker.kind):
            text = _("%(name)s has not reported for %(seconds)d seconds.")
            yield Trouble(NOTABLE, text % {"name": worker.name, "seconds": worker.silent_seconds}, "#workers")


def _queue(floor: Floor) -> Iterator[Trouble]:
    age = floor.queue.oldest_due_seconds
    if age is None or age < LATE_SECONDS:
        return
    text = ngettext(
        "Mail waits: %(due)d recipient is due, for %(minutes)d minutes.",
        "Mail waits: %(due)d recipients are due, the oldest for %(minutes)d minutes.",
        floor.queue.due,
    )
    level = GRAVE if age >= VERY_LATE_SECONDS else NOTABLE
    yield Trouble(level, text % {"due": floor.queue.due, "minutes": age // 60}, _messages(due="1"))


def _next_hops(floor: Floor) -> Iterator[Trouble]:
    for hop in floor.next_hops:
        values = {"hop": hop.name or _("a next hop without a name"), "bad": hop.bad}
        if hop.takes_nothing:
            text = _("%(hop)s took nothing in the last hour: %(bad)d attempts did not succeed.")
        else:
            text = _("%(hop)s did not take %(bad)d of the last hour's attempts.")
        level = GRAVE if hop.takes_nothing and hop.deferred else NOTABLE
        yield Trouble(level, text % values, _messages(next_hop=hop.name, period="1h") if hop.name else "#next-hops")


def _logins(floor: Floor) -> Iterator[Trouble]:
    unchecked = next((each.counts[0] for each in floor.refused if each.reason == Reason.UNAVAILABLE), 0)
    if unchecked:
        text = _("%(count)d logins could not be checked in the last 5 minutes: the database was out of reach.")
        yield Trouble(GRAVE, text % {"count": unchecked}, _attempts(period="5m", reason=Reason.UNAVAILABLE))
    refused, accepted = floor.flow("refused").counts[0], floor.flow("logins").counts[0]
    if refused >= GUESSING_ATTEMPTS and refused > accepted:
        text = _("More logins are refused than accepted: %(refused)d against %(accepted)d in the last 5 minutes.")
        yield Trouble(
            NOTABLE, text % {"refused": refused, "accepted": accepted}, _attempts(period="5m", result="refused")
        )


def _alerts(floor: Floor) -> Iterator[Trouble]:
    if floor.critical_alerts:
        text = ngettext(
            "%(count)d critical alert is open.", "%(count)d critical alerts are open.", floor.critical_alerts
        )
        yield Trouble(NOTABLE, text % {"count": floor.critical_alerts}, reverse("relay:ops_alerts"))


def _limits(floor: Floor) -> Iterator[Trouble]:
    for near in floor.near_limit:
        if near.hour.is_full:
            text = _("%(customer)s has used all of its hour: %(used)d of %(limit)d emails.")
            values = {"customer": near.organization.name, "used": near.hour.used, "limit": near.hour.limit}
            yield Trouble(NOTABLE, text % values, reverse("relay:ops_customer", args=[near.organization.pk]))


def _messages(**query: str) -> str:
    return f"{reverse('relay:ops_messages')}?{urlencode(query)}"


def _attempts(**query: str) -> str:
    return f"{reverse('relay:ops_auth_review')}?{urlencode(query)}"
