"""Actions on much waiting mail at once: asked for in a page or by the API, done in batches by whichever worker is free.

Shapes  request_action() -> QueueAction; run_due() does the open ones. First an action collects whom it means, once;
        then each batch is one transaction that does its recipients and takes them off the list. So it can be killed at
        any point and be gone on with, and nobody is done twice.
Units   seconds.
Errors  None of a batch's end the action: the next run goes on where it stopped.
Source  docs/delivery.md, The queue.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from time import monotonic
from typing import Any, Final

from django.db import DatabaseError, connection, transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.models import Organization
from audit.changes import Actor, record_change
from relay.logs import get_logger
from relay.models import QueueAction, QueueActionItem
from relay.waiting.filters import FilterInvalid, WaitingFilter, customers_recipients, statement_of
from relay.waiting.verbs import RUNNING, By, act

log = get_logger(__name__)

BATCH: Final = 1000
RUN_SECONDS: Final = 50.0  # of one run; beat sends the next
PASSES_MAX: Final = 8
PAUSE: Final = timedelta(seconds=15)  # until recipients that were being delivered are tried again
KEPT: Final = timedelta(days=90)
INSTALLATION: Final = 0
OPEN_MAX: Final = 5  # of one customer: each has a row for every recipient, and takes turns with those of others
COUNTED_MAX: Final = 10_000
COUNT_MS: Final = 1500
SAMPLE: Final = 20


@dataclass(frozen=True, slots=True)
class Counted:
    """How many a filter means. is_least: there are more, or it could not be counted in the time for it."""

    number: int
    is_least: bool = False
    in_time: bool = True

    def __str__(self) -> str:
        return f"{self.number:,}{'+' if self.is_least else ''}"


def request_action(
    verb: str,
    asked: WaitingFilter,
    *,
    actor: Actor,
    organization: Organization | None = None,
    as_of: datetime | None = None,
    note: str = "",
) -> QueueAction:
    """organization: a customer's own action, on its own mail only. Without it, an operator's. Recorded here.

    Raises FilterInvalid for a customer that has many under way.
    """
    assert organization is None or asked.organization_id == organization.pk
    with transaction.atomic():
        _refuse_many(organization)
        action = QueueAction.objects.create(
            verb=verb,
            organization=organization,
            filters=asked.as_json(),
            as_of=as_of or timezone.now(),
            note=note,
            actor=actor.name,
            actor_id=actor.id,
        )
        for chain in _chains(action):
            record_change(
                f"mail.{verb}_asked",
                organization_id=chain,
                actor=actor,
                subject=str(QueueAction.Verb(verb).label),
                subject_id=action.pk,
                values={"filters": action.filters, "note": note},
            )
    return action


def _refuse_many(organization: Organization | None) -> None:
    if organization is None:
        return
    Organization.objects.select_for_update(no_key=True).get(pk=organization.pk)  # one at a time against OPEN_MAX
    if QueueAction.objects.filter(organization=organization, finished_at=None).count() >= OPEN_MAX:
        words = _("%(most)d actions are under way. Wait until one is done, or stop one.")
        raise FilterInvalid(words, code="many", params={"most": OPEN_MAX})


def wake_parked(actor: Actor) -> QueueAction:
    """Routes changed: what waits on one that held it follows, where it need not wait any more."""
    filters = WaitingFilter(parked_only=True).as_json()
    return QueueAction.objects.create(verb=QueueAction.Verb.WAKE, filters=filters, actor=actor.name, actor_id=actor.id)


def stop_action(action: QueueAction, *, actor: Actor) -> QueueAction:
    """What is done stays done; the rest is left as it is. One that has ended already stays ended."""
    with transaction.atomic():
        action = QueueAction.objects.select_for_update(no_key=True).get(pk=action.pk)
        if action.finished_at is None:
            _finish(action, QueueAction.State.STOPPED, actor=actor)
    return action


def _chains(action: QueueAction) -> list[int]:
    """Whose change logs tell of it: a customer's own, the installation's for an operator's; of one customer, both."""
    if action.organization_id is not None:
        return [action.organization_id]
    of_one = action.filters.get("organization_id")
    return [of_one, INSTALLATION] if of_one else [INSTALLATION]


# --- Counting ---------------------------------------------------------------------------------------------------------


def ids_statement(
    asked: WaitingFilter, *, is_customers: bool, as_of: datetime, columns: str = "own.id"
) -> tuple[str, Any]:
    """Raises FilterInvalid."""
    if not is_customers:
        return statement_of(asked, as_of=as_of, columns=columns)
    return customers_recipients(asked, as_of=as_of).values_list("pk").query.sql_with_params()


def count(asked: WaitingFilter, *, is_customers: bool, as_of: datetime) -> Counted:
    """Up to 10,000, and no longer than 1.5 s. Raises FilterInvalid."""
    statement, words = ids_statement(asked, is_customers=is_customers, as_of=as_of)
    rows = _within_time(
        f"SELECT count(*) FROM ({statement} LIMIT {COUNTED_MAX + 1}) AS found",  # noqa: S608 - values are parameters
        words,
    )
    if rows is None:
        return Counted(0, is_least=True, in_time=False)
    number = rows[0][0]
    return Counted(min(number, COUNTED_MAX), is_least=number > COUNTED_MAX)


def sample(asked: WaitingFilter, *, is_customers: bool, as_of: datetime) -> list[int]:
    """Some recipients' ids that the filter means. Raises FilterInvalid."""
    statement, words = ids_statement(asked, is_customers=is_customers, as_of=as_of)
    return [row[0] for row in _within_time(f"{statement} LIMIT {SAMPLE}", words) or ()]


def _within_time(statement: str, words: Any) -> list[tuple[Any, ...]] | None:
    """None: it took too long."""
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SELECT set_config('statement_timeout', %s, true)", [str(COUNT_MS)])
            cursor.execute(statement, words)
            rows: list[tuple[Any, ...]] = cursor.fetchall()
            cursor.execute("SELECT set_config('statement_timeout', '0', true)")
            return rows
    except DatabaseError as error:
        if getattr(error.__cause__, "sqlstate", "") == "57014":
            return None
        raise


# --- Doing ------------------------------------------------------------------------------------------------------------


def run_due(*, seconds: float = RUN_SECONDS) -> int:
    """Works on open actions, the oldest first, for so long. Returns recipients changed."""
    until, changed = monotonic() + seconds, 0
    while monotonic() < until:
        step = _step()
        if step is None:
            break
        changed += step
    return changed


def run(action: QueueAction, *, seconds: float) -> QueueAction:
    """One action, as far as it comes in this time: small ones are done before the page is answered."""
    until = monotonic() + seconds
    while monotonic() < until and _step(action.pk) is not None:
        pass
    return QueueAction.objects.get(pk=action.pk)


def _step(only: int | None = None) -> int | None:
    """One batch of one action; None: there is nothing to do now."""
    with transaction.atomic():
        open_now = QueueAction.objects.filter(finished_at__isnull=True, next_at__lte=timezone.now())
        open_now = open_now.filter(pk=only) if only else open_now
        action = (
            open_now.select_for_update(no_key=True, skip_locked=True, of=("self",)).order_by("next_at", "pk").first()
        )
        if action is None:
            return None
        if action.total is None:
            _collect(action)
            return 0
        return _batch(action)


def _collect(action: QueueAction) -> None:
    """Whom it means, as things stand now, among what was accepted before it was asked for."""
    asked = WaitingFilter(**action.filters)
    statement, words = ids_statement(asked, is_customers=action.organization_id is not None, as_of=action.as_of)
    named = isinstance(words, dict)
    number = "%(action)s" if named else "%s"
    insert = (
        f"INSERT INTO relay_queueactionitem (action_id, recipient_id) SELECT {number}::bigint, meant.*"  # noqa: S608
        f" FROM ({statement}) AS meant ON CONFLICT DO NOTHING"
    )
    with connection.cursor() as cursor:
        cursor.execute(insert, words | {"action": action.pk} if named else (action.pk, *words))
        action.total = cursor.rowcount
    action.state = QueueAction.State.RUNNING
    action.save(update_fields=["total", "state"])


def _batch(action: QueueAction) -> int:
    items = list(
        QueueActionItem.objects.filter(action=action, pk__gt=action.cursor)
        .order_by("pk")
        .values_list("pk", "recipient_id")[:BATCH]
    )
    if not items:
        _end_pass(action)
        return 0
    done = act(action.verb, [recipient_id for _pk, recipient_id in items], by=_by(action))
    looked_at = QueueActionItem.objects.filter(action=action, pk__gt=action.cursor, pk__lte=items[-1][0])
    looked_at.exclude(recipient_id__in=done.again).delete()
    action.changed += done.changed
    action.skipped = dict(Counter(action.skipped) + done.skipped)
    action.cursor, action.next_at = items[-1][0], timezone.now()  # behind the other open ones: they take turns
    action.save(update_fields=["changed", "skipped", "cursor", "next_at"])
    return done.changed


def _end_pass(action: QueueAction) -> None:
    left = QueueActionItem.objects.filter(action=action).count()
    if left and action.passes < PASSES_MAX:
        action.passes, action.cursor, action.next_at = action.passes + 1, 0, timezone.now() + PAUSE
        action.save(update_fields=["passes", "cursor", "next_at"])
        return
    if left:
        action.skipped = dict(Counter(action.skipped) + Counter({RUNNING: left}))
    _finish(action, QueueAction.State.DONE, actor=Actor(action.actor, action.actor_id))


def _by(action: QueueAction) -> By:
    return By(Actor(action.actor, action.actor_id), is_operator=action.organization_id is None, note=action.note)


def _finish(action: QueueAction, state: str, *, actor: Actor) -> None:
    QueueActionItem.objects.filter(action=action).delete()
    action.state, action.finished_at = state, timezone.now()
    action.save(update_fields=["state", "finished_at", "skipped"])
    log.info("queue.action_ended", action=action.pk, verb=action.verb, state=str(state), changed=action.changed)
    if action.verb == QueueAction.Verb.WAKE:
        return  # the change of the route is recorded
    for chain in _chains(action):
        record_change(
            f"mail.{action.verb}_{'stopped' if state == QueueAction.State.STOPPED else 'done'}",
            organization_id=chain,
            actor=actor,
            subject=str(action.get_verb_display()),
            subject_id=action.pk,
            values={"changed": action.changed, "left": action.skipped},
        )


def delete_old_actions(*, now: datetime | None = None) -> int:
    """What ended long ago: the change log keeps what was done."""
    ended = QueueAction.objects.filter(finished_at__lt=(now or timezone.now()) - KEPT)
    return ended.delete()[0]


# --- One message ------------------------------------------------------------------------------------------------------


def act_on_recipients(
    verb: str, ids: Sequence[int], *, by: By, organization_id: int, subject: str, subject_id: str
) -> "tuple[int, Counter[str]]":
    """At once, within the request: one message's recipients. Returns how many are changed, and why others are not."""
    with transaction.atomic():
        done = act(verb, ids, by=by)
        if done.changed:
            record_change(
                f"message.{verb}",
                organization_id=organization_id,
                actor=by.actor,
                subject=subject,
                subject_id=subject_id,
                values={"recipients": done.changed, "note": by.note},
            )
    skipped = done.skipped + Counter({RUNNING: len(done.again)})
    return done.changed, +skipped
