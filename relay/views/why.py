"""Why was I refused? A pasted reply, or its reference, gets the cause and the fix; below, the last refusals.

Shapes  Everything is in the address: q is what was pasted, since the age of the list (24h, 7d, 30d), before its cursor.
        ip asks what failed at an address before anybody's name was known; so does an address in q.
Units   PASTED_MAX: characters that are read.
Errors  None: another organization's reference gets the same page as one that was never given.
"""

from dataclasses import dataclass, replace
from typing import Any

from django.http import HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from accounts import roles
from accounts.access import MemberRequest, member_required
from accounts.client_address import peer_address
from audit.reasons import explain as explain_reason
from relay.door_failures import Failure, addresses_of, failure_of, failures_at, is_theirs_at, theirs
from relay.models import SmtpUser
from relay.ops.asked import address_of
from relay.pasted import reference_in, reply_in
from relay.queue import message_state
from relay.refusal_reasons import Explanation, Place, explain
from relay.refusals import Told, refusal_page, reply_of, told_by
from relay.reply_words import words_of
from relay.views.auth_log import PERIOD_WORDS, PERIODS

PASTED_MAX = 2000
PAGE_ROWS = 50


@dataclass(frozen=True, slots=True)
class Link:
    url: str
    words: str


@dataclass(frozen=True, slots=True)
class Door:
    """What failed at an address. address "": what was typed is none; is_theirs False: nothing is said of it."""

    address: str
    is_theirs: bool
    failures: list[Failure]


@require_safe
@member_required(roles.AUTH_LOG_SEE)
def page(request: MemberRequest) -> HttpResponse:
    pasted = request.GET.get("q", "").replace("\x00", "")[:PASTED_MAX].strip()
    typed = request.GET.get("ip", "")[:PASTED_MAX].strip() or (pasted if address_of(pasted) else "")
    if typed:
        pasted, context = "", {"door": _door(request, typed), "typed": typed}
    else:
        context = _answer(request, pasted) if pasted else _list(request)
    own = peer_address(request) or ""
    context |= {"q": pasted, "own": own, "addresses": [] if pasted else addresses_of(request.organization.pk)}
    return render(request, "relay/why.html", context)


def _door(request: MemberRequest, typed: str) -> Door:
    address = address_of(typed) or ""
    if not address or not theirs(request.organization.pk, address, own=peer_address(request)):
        return Door(address, False, [])
    return Door(address, True, failures_at(address))


def _answer(request: MemberRequest, pasted: str) -> dict[str, Any]:
    """The record of the reference if it is theirs, else what the reply says by itself."""
    reference, reply = reference_in(pasted), reply_in(pasted)
    told = told_by(request.organization.pk, reference) if reference else Told()
    if told.message and not roles.can(request.membership, roles.MESSAGES_SEE):
        told = Told()
    context: dict[str, Any] = {"reference": reference, "reply": reply, "told": told}
    failure = failure_of(reference) if reference and not told else None
    if failure and is_theirs_at(request.organization.pk, failure.place, own=peer_address(request)):
        return context | {"failure": failure}
    if told.attempt:
        return context | {"explanation": explain_reason(told.attempt.reason)}
    if told.message:
        states = (each.state for each in told.message.recipients.all())
        return context | {"state": message_state(states)}
    if told.refusal:
        reply = reply_of(told.refusal.refusal)
    if reply is None:
        return context
    explanation = explain(reply, from_door=bool(reference))
    words = None if explanation.ours else words_of(reply.code, reply.enhanced, reply.text)
    if words:  # another server's answer, which the pages of messages tell with the same words
        explanation = replace(explanation, cause=words.cause, fix=words.fix)
    smtp_user = told.refusal.smtp_user if told.refusal else None
    return context | {"reply": reply, "explanation": explanation, "link": _link(explanation, smtp_user)}


def _link(explanation: Explanation, smtp_user: SmtpUser | None) -> Link | None:
    """To where the fix is made: the SMTP user itself where the record says which."""
    if explanation.place in {Place.SENDERS, Place.SMTP_USER} and smtp_user:
        anchor = "#senders" if explanation.place is Place.SENDERS else ""
        words = _("Senders of %(user)s") if anchor else _("To %(user)s")
        return Link(reverse("relay:smtp_user", args=[smtp_user.pk]) + anchor, words % {"user": smtp_user.username})
    links = {
        Place.SENDERS: Link(reverse("relay:smtp_users"), _("To the SMTP users")),
        Place.SMTP_USER: Link(reverse("relay:smtp_users"), _("To the SMTP users")),
        Place.DOMAINS: Link(reverse("relay:domains"), _("To the domains")),
        Place.PLAN: Link(reverse("relay:plan"), _("To the plan")),
        Place.AUTH_LOG: Link(reverse("relay:auth_log") + "?result=refused", _("To the auth log")),
        Place.MESSAGES: Link(reverse("relay:messages"), _("To the messages")),
        Place.BANS: Link(reverse("relay:bans"), _("To the bans")),
        Place.SUPPRESSIONS: Link(reverse("relay:suppressions"), _("To the suppressed addresses")),
    }
    return links[explanation.place] if explanation.place else None


def _list(request: MemberRequest) -> dict[str, Any]:
    since, before = request.GET.get("since", ""), request.GET.get("before", "")
    since = since if since in PERIODS else ""
    start = timezone.now() - PERIODS[since] if since else None
    found = refusal_page(request.organization.pk, since=start, cursor=before, limit=PAGE_ROWS)
    query = f"since={since}&" if since else ""
    return {
        "rows": found.rows,
        "since": since,
        "periods": [(f"?since={value}" if value else "?", label, value == since) for value, label in PERIOD_WORDS],
        "newer": f"?since={since}" if before else "",
        "older": f"?{query}before={found.older}" if found.older else "",
    }
