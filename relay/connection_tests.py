"""Test my connection: what came in for one SMTP user since the test began, step by step, each failure in words.

Shapes  begin() -> ConnectionTest. watch(test, own=...) -> Watch: four Steps in their order, what stands in the way
        before anything comes (obstacles), and whether there is anything left to wait for.
Units   WATCHED: how long a page looks by itself. SILENT: after so long without anything, a blocked port is likely.
Errors  TooManyTests (a ValidationError). Nothing is told of an address that is not theirs (relay.door_failures.theirs).
Source  docs/operations.md, Test my connection. The words are those of the auth log, the refusals and the door.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from django.core.exceptions import ValidationError
from django.db.models import Q
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.models import Organization
from audit.changes import Actor
from audit.models import AuthEvent, Reason, Result
from audit.queries import AuthFilters, auth_events
from audit.reasons import explain as explain_reason
from relay.door_failures import Failure, failures_at, theirs
from relay.guessing.bans import active_bans
from relay.models import AppPassword, ConnectionTest, DoorFailure, Message, Network, Refusal, SmtpUser
from relay.networks import parse_address, parse_network
from relay.password_life import live
from relay.refusal_reasons import explain as explain_reply
from relay.refusals import reply_of

WATCHED: Final = timedelta(minutes=15)
SILENT: Final = timedelta(seconds=20)
KEPT: Final = timedelta(days=400)
DAILY: Final = 100  # of one organization
EVENTS: Final = 20
EARLY: Final = timedelta(seconds=2)  # clocks of smtpd and of the database differ a little
Outcome, Cause = ConnectionTest.Outcome, DoorFailure.Cause
# What fails before a name is known, by the step that it ends. All else is trouble with TLS.
TURNED_AWAY: Final = frozenset(
    {Cause.CONNECTIONS, Cause.HANDSHAKES, Cause.NO_PROXY_HEADER, Reason.BANNED, Reason.THROTTLED}
)
UNFINISHED: Final = frozenset({Reason.MALFORMED, Reason.ABORTED})


class TooManyTests(ValidationError):
    """More in a day than anybody needs."""


class State(StrEnum):
    WAITING = "waiting"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Step:
    """fix: what to do, where it failed or nothing comes. url: where more of it is told."""

    title: str
    state: State = State.WAITING
    text: Any = ""
    fix: Any = ""
    url: str = ""
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Obstacle:
    text: str
    url: str


@dataclass(frozen=True, slots=True)
class Watch:
    steps: tuple[Step, ...]
    obstacles: tuple[Obstacle, ...]
    is_theirs: bool  # else what fails before a name is known cannot be shown
    is_over: bool

    @property
    def has_worked(self) -> bool:
        return all(step.state == State.DONE for step in self.steps)


def begin(smtp_user: SmtpUser, *, ip: str, actor: Actor, now: datetime | None = None) -> ConnectionTest:
    """A new test, or the one that the same person has under way for the same."""
    now, address = now or timezone.now(), str(parse_address(ip))
    same = ConnectionTest.objects.filter(
        smtp_user=smtp_user, ip=address, started_by=actor.name, started_at__gte=now - WATCHED, outcome=""
    )
    if running := same.order_by("-started_at").first():
        return running
    mine = ConnectionTest.objects.filter(organization=smtp_user.organization)
    if mine.filter(started_at__gte=now - timedelta(days=1)).count() >= DAILY:
        raise TooManyTests(_("There were %d tests within a day. Go on with one of them.") % DAILY, code="many")
    return ConnectionTest.objects.create(
        organization=smtp_user.organization, smtp_user=smtp_user, ip=address, started_by=actor.name, started_at=now
    )


def watch(test: ConnectionTest, *, own: str | None, now: datetime | None = None) -> Watch:
    """own: the address from which the page is looked at."""
    now = now or timezone.now()
    is_theirs = theirs(test.organization_id, test.ip, own=own)
    seen = _Seen(test, is_theirs=is_theirs, now=now)
    steps = (_reached(seen), _encrypted(seen), _signed_in(seen), _accepted(seen))
    _keep(test, seen, now)
    is_over = steps[-1].state == State.DONE or now > test.started_at + WATCHED
    return Watch(steps, tuple(_obstacles(test, is_theirs, now)), is_theirs, is_over)


def forget_old_tests(*, now: datetime | None = None) -> int:
    deleted, _tables = ConnectionTest.objects.filter(started_at__lt=(now or timezone.now()) - KEPT).delete()
    return deleted


# --- What came in -----------------------------------------------------------------------------------------------------


class _Seen:
    """Everything since the test began, the newest of each kind first."""

    def __init__(self, test: ConnectionTest, *, is_theirs: bool, now: datetime) -> None:
        since = test.started_at - EARLY
        mine = {"organization_id": test.organization_id, "smtp_user_id": test.smtp_user_id}
        self.test, self.is_theirs, self.waited = test, is_theirs, now - test.started_at
        self.events = _events(test, since)
        found = failures_at(test.ip, now=now) if is_theirs else []
        self.failures = [failure for failure in found if failure.last_at >= since]
        self.refusal = Refusal.objects.filter(**mine, at__gte=since).order_by("-at").first()
        self.message = Message.objects.filter(**mine, received_at__gte=since).order_by("-received_at").first()

    @property
    def is_silent(self) -> bool:
        return not (self.events or self.failures or self.refusal or self.message)

    def sent_after(self, at: datetime) -> bool:
        """Mail was offered, which needs a sign-in."""
        times = [self.message.received_at if self.message else None, self.refusal.at if self.refusal else None]
        return any(time > at for time in times if time)

    def went_on_after(self, failure: Failure) -> bool:
        """A later connection got as far as a name, so that the failure is history."""
        later = (event.last_at > failure.last_at for event in self.events if event.username_given)
        return self.message is not None or any(later)

    @property
    def accepted(self) -> AuthEvent | None:
        mine = (each for each in self.events if each.smtp_user_id == self.test.smtp_user_id)
        return next((each for each in mine if each.result == Result.ACCEPTED), None)


def _events(test: ConnectionTest, since: datetime) -> list[AuthEvent]:
    """As this SMTP user from anywhere, and from the address as whatever the client called itself."""
    by_name = AuthFilters(smtp_user_id=test.smtp_user_id, since=since)
    by_address = AuthFilters(ip=test.ip, since=since)
    found = {
        event.id: event
        for filters in (by_name, by_address)
        for event in auth_events(test.organization_id, filters=filters, limit=EVENTS)
    }
    return sorted(found.values(), key=lambda event: event.last_at, reverse=True)


def _keep(test: ConnectionTest, seen: _Seen, now: datetime) -> None:
    """The best that was seen, with its time: the scorecard counts it."""
    outcome = Outcome.ACCEPTED if seen.message else Outcome.SIGNED_IN if seen.accepted else ""
    if outcome and test.outcome not in {outcome, Outcome.ACCEPTED}:
        ConnectionTest.objects.filter(pk=test.pk).update(outcome=outcome, ended_at=now)


# --- The steps --------------------------------------------------------------------------------------------------------


def _reached(seen: _Seen) -> Step:
    title = _("The connection reaches Gatepost")
    failed = next(iter(seen.failures), None)
    if failed and failed.cause in TURNED_AWAY and not seen.went_on_after(failed):
        return _of_failure(title, failed)
    if not seen.is_silent:
        return Step(title, State.DONE, _("Something came in."))
    if seen.waited < SILENT:
        return Step(title, text=_("Nothing has come in yet."))
    fix = _(
        "If your client reports “connection timed out” or “refused”, a firewall between it and Gatepost blocks the"
        " port: many networks block outgoing mail. Try the other port, and the first command from the same machine."
    )
    if not seen.is_theirs:
        fix += " " + _("What breaks off before a username is sent can be shown only for an address of yours.")
    return Step(title, text=_("Nothing has come in yet, though some time has passed."), fix=fix)


def _encrypted(seen: _Seen) -> Step:
    title = _("TLS begins")
    secure = next((each for each in seen.events if each.tls_version), None)
    trouble = next((each for each in seen.failures if each.cause not in TURNED_AWAY | UNFINISHED), None)
    if trouble and not seen.went_on_after(trouble):
        return _of_failure(title, trouble)
    if secure is not None:
        return Step(title, State.DONE, f"{secure.tls_version} {secure.tls_cipher}".strip(), at=secure.last_at)
    return Step(title, State.DONE if seen.accepted or seen.message or seen.refusal else State.WAITING)


def _signed_in(seen: _Seen) -> Step:
    title = _("The sign-in is accepted")
    if event := seen.accepted:
        text = _("%(user)s with %(mechanism)s from %(ip)s") % {
            "user": event.username_given,
            "mechanism": event.mechanism,
            "ip": event.ip,
        }
        return Step(title, State.DONE, text, at=event.last_at, url=_event_url(event))
    event = next(iter(seen.events), None)
    if event and not seen.sent_after(event.last_at):  # events are stored up to a second later than mail
        words = explain_reason(event.reason)
        return Step(title, State.FAILED, words.cause, words.fix, _event_url(event), event.last_at)
    if trouble := next((each for each in seen.failures if each.cause in UNFINISHED), None):
        return _of_failure(title, trouble)
    return Step(title, State.DONE if seen.message or seen.refusal else State.WAITING)


def _event_url(event: AuthEvent) -> str:
    return reverse("relay:auth_event", args=[event.reference])


def _accepted(seen: _Seen) -> Step:
    title = _("A message is accepted")
    if message := seen.message:
        url = reverse("relay:message", args=[message.pk])
        return Step(title, State.DONE, message.reference, url=url, at=message.received_at)
    if refusal := seen.refusal:
        words = explain_reply(reply_of(refusal), from_door=True)
        url = f"{reverse('relay:why')}?q={refusal.reference}"
        return Step(title, State.FAILED, words.cause, words.fix, url, refusal.at)
    return Step(title)


def _of_failure(title: str, failure: Failure) -> Step:
    url = f"{reverse('relay:why')}?q={failure.reference}"
    return Step(title, State.FAILED, failure.explained.cause, failure.explained.fix, url, failure.last_at)


# --- What stands in the way -------------------------------------------------------------------------------------------


def _obstacles(test: ConnectionTest, is_theirs: bool, now: datetime) -> Iterator[Obstacle]:
    """Known before anything comes: each of these refuses every sign-in."""
    user, organization = test.smtp_user, test.organization
    page = reverse("relay:smtp_user", args=[user.pk])
    if organization.state == Organization.State.SUSPENDED:
        yield Obstacle(_("Your organization is suspended: nobody of it may send."), reverse("relay:plan"))
    if user.disabled_at:
        yield Obstacle(_("%s is disabled.") % user, page)
    passwords = AppPassword.objects.filter(live(now), smtp_user=user, slept_at=None)
    if not passwords.exclude(kind=AppPassword.Kind.CANARY).exists():
        yield Obstacle(_("%s has no app password that works: make one.") % user, page)
    for whose, url in _lists_that_refuse(test, now):
        text = _("The allowlist of %(whose)s does not hold %(ip)s.") % {"whose": whose, "ip": test.ip}
        yield Obstacle(text, url)
    if is_theirs and any(parse_address(test.ip) in parse_network(str(ban.cidr)) for ban in _bans(test.ip, now)):
        yield Obstacle(_("%s is banned: too many sign-ins failed from there.") % test.ip, reverse("relay:bans"))


def _bans(ip: str, now: datetime) -> list[Any]:
    return list(active_bans(now).extra(where=["cidr >>= %s::inet"], params=[ip]).exclude(exempt__contains=[ip]))


def _lists_that_refuse(test: ConnectionTest, now: datetime) -> Iterator[tuple[str, str]]:
    """The organization's and the SMTP user's; those of single app passwords tell themselves in the auth log."""
    address = parse_address(test.ip)
    rows = Network.objects.filter(organization=test.organization, app_password=None)
    for user, whose, url in (
        (None, test.organization.name, reverse("relay:network_list")),
        (test.smtp_user, str(test.smtp_user), reverse("relay:network_list_smtp_user", args=[test.smtp_user_id])),
    ):
        own = rows.filter(smtp_user=user)
        ranges = own.filter(Q(ends_at=None) | Q(ends_at__gt=now)).values_list("cidr", flat=True)
        if own.exists() and not any(address in parse_network(str(each)) for each in ranges):
            yield whose, url
