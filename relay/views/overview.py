"""Overview: this hour, what became of the last mails, what needs doing, and the way to the first delivered mail."""

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from django.http import HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from accounts import roles
from accounts.access import MemberRequest, member_required
from accounts.models import Organization
from audit.queries import auth_counts
from relay import queries
from relay.alerts import open_alerts
from relay.learning import is_over, learnings_of, owner_of
from relay.limits import usage_of
from relay.refusals import refusal_counts
from relay.views.networks import list_page

HOURS = 48


@dataclass(frozen=True, slots=True)
class Step:
    """One line of the first-run checklist."""

    done: bool
    text: str
    url: str


@dataclass(frozen=True, slots=True)
class Duty:
    """One thing that needs doing."""

    text: str
    url: str
    action: str


@member_required(roles.PLAN_SEE)
def page(request: MemberRequest) -> HttpResponse:
    organization = request.organization
    usage = usage_of(organization.pk)
    context: dict[str, Any] = {
        "usage": usage,
        "full_at": queries.full_at(usage),
        "room_at": timezone.now() + timedelta(seconds=usage.seconds_until_room) if not usage.room else None,
        "chart": chart(organization.pk, hours=HOURS),
        "hours": HOURS,
    }
    if roles.can(request.membership, roles.MESSAGES_SEE):
        setup = queries.setup_of(organization.pk)
        context |= {
            "outcomes": _outcomes(organization.pk),
            "steps": [] if setup.delivered else steps(setup),
            "duties": duties(organization, setup),
        }
    return render(request, "relay/overview.html", context)


def _outcomes(organization_id: int) -> list[queries.Outcome]:
    """Emails from the queue, refusals from their table, refused sign-ins from the audit's sums."""
    now = timezone.now()
    ages = [age for _name, age in queries.PERIODS]
    outcomes, at_door = queries.outcomes(organization_id, now=now), refusal_counts(organization_id, ages=ages, now=now)
    found = []
    for outcome, age, refusals in zip(outcomes, ages, at_door, strict=True):
        counts = auth_counts(organization_id, since=now - age)
        found.append(replace(outcome, refused_at_door=refusals, refused=counts.refused))
    return found


def chart(organization_id: int, *, hours: int) -> dict[str, Any]:
    """What the chart's figure carries as data, and its table."""
    rows = queries.accepted_by_hour(organization_id, hours=hours)
    return {
        "x": [int(hour.timestamp()) for hour, _number in rows],
        "y": [number for _hour, number in rows],
        "rows": [(hour, hour + timedelta(hours=1), number) for hour, number in reversed(rows) if number],
        "total": sum(number for _hour, number in rows),
    }


def steps(setup: queries.Setup) -> list[Step]:
    users = reverse("relay:smtp_users")
    return [
        Step(setup.smtp_users > 0, _("Make an SMTP user for what sends"), reverse("relay:smtp_user_create")),
        Step(setup.app_passwords > 0, _("Make an app password on its page"), users),
        Step(setup.domains > 0, _("Add the domain you send from"), reverse("relay:domains")),
        Step(setup.senders > 0, _("Say which addresses the SMTP user may send as"), users),
        Step(setup.messages > 0, _("Send a test with one of the snippets on its page"), users),
        Step(setup.delivered, _("See it delivered"), reverse("relay:messages")),
    ]


def duties(organization: Organization, setup: queries.Setup) -> list[Duty]:
    found = []
    if organization.state == Organization.State.PENDING:
        text = _("Your organization waits for the operator. Until then mail is captured in the sandbox.")
        found.append(Duty(text, reverse("relay:messages"), _("See captured mail")))
    if alerts := open_alerts(organization.pk):
        text = ngettext("%(count)d alert is open.", "%(count)d alerts are open.", alerts) % {"count": alerts}
        found.append(Duty(text, reverse("relay:alerts"), _("See alerts")))
    for each in learnings_of(organization):
        if is_over(each):
            owner = owner_of(each)
            text = _("The networks of %(name)s are learned: look at the proposal.") % {"name": owner}
            found.append(Duty(text, list_page(owner) + "#learning", _("See the proposal")))
    for password in setup.expiring:
        text = _("The app password “%(name)s” of %(user)s expires on %(day)s.") % {
            "name": password.name,
            "user": password.smtp_user.username,
            "day": f"{password.expires_at:%Y-%m-%d}",
        }
        found.append(Duty(text, reverse("relay:smtp_user", args=[password.smtp_user_id]), _("Make a new one")))
    for domain in setup.unverified:
        text = _("%(domain)s is not verified: mail from it stays in the sandbox.") % {"domain": domain.name}
        found.append(Duty(text, reverse("relay:domain", args=[domain.pk]), _("See its records")))
    if users := setup.without_network:
        text = ngettext(
            "%(names)s may sign in from any address.", "%(names)s may sign in from any address.", len(users)
        ) % {"names": ", ".join(user.username for user in users)}
        found.append(Duty(text, reverse("relay:smtp_user", args=[users[0].pk]) + "#networks", _("Add a network")))
    return found
