"""The log of changes: who did what to which thing, in a chain for each organization that shows every tampering.

Shapes  link = HMAC-SHA-256(GATEPOST_AUDIT_KEY; sequence as 8 octets, previous link, digest).
        digest = SHA-256(values_digest, canonical JSON of at, actor, actor_id, action, subject, subject_id).
        values_digest = SHA-256(salt, canonical JSON of values). values and salt can be erased: the two digests stay,
        so that who did what remains proved. The first link follows a link made from the organization's id.
        Chain 0 is the installation's own. ChangeChain holds the head, so that a cut end shows.
Errors  NotInTransaction: a change and its record are committed together or not at all.
Source  docs/data.md, ChangeEvent.
"""

import hmac
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Final

from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone

from audit.models import ChangeChain, ChangeEvent
from audit.record import printable

ERASED: Final = "change.values_erased"
_TEXT_MAX = 2000
_PROBLEMS_MAX = 20


class NotInTransaction(RuntimeError):  # a fact about the caller, read in a traceback
    """record_change() outside the transaction of the change it records."""


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts: a person's e-mail address and id, "api:<prefix>", or the system."""

    name: str
    id: int | None = None


SYSTEM: Final = Actor("system")


@dataclass(frozen=True, slots=True)
class ChainReport:
    """What verify_chain() found. `head_link` may be noted elsewhere: it proves a later chain to be this one's."""

    organization_id: int
    events: int
    erased: int
    head_sequence: int
    head_link: str
    problems: tuple[str, ...]

    @property
    def ok(self) -> bool:
        return not self.problems


def record_change(
    action: str,
    *,
    organization_id: int,
    actor: Actor,
    subject: str,
    subject_id: str | int = "",
    values: Mapping[str, Any] | None = None,
    now: datetime | None = None,
) -> ChangeEvent:
    """Append a change (noun.verb) to the organization's chain, within the change's own transaction and last in it.

    The head is locked to the end of the transaction, so lock and write everything else before. A change that is
    recorded in two chains goes to the organization's first, then to the installation's (0).
    """
    if not connection.in_atomic_block:
        raise NotInTransaction("record_change() belongs into the transaction.atomic() of the change")
    head = _locked_head(organization_id)
    event = ChangeEvent(
        organization_id=organization_id,
        sequence=head.sequence + 1,
        at=now or timezone.now(),  # read after the lock: times follow the sequence
        actor=printable(actor.name, 320),
        actor_id=actor.id,
        action=printable(action, 64),
        subject=printable(subject, 320),
        subject_id=printable(str(subject_id), 64),
        values=_plain(values or {}),
        salt=secrets.token_bytes(16),
        previous=bytes(head.link),
    )
    event.values_digest = _values_digest(event)
    event.digest = _digest(event)
    event.link = _link(event)
    event.save(force_insert=True)
    ChangeChain.objects.filter(pk=organization_id).update(sequence=event.sequence, link=event.link)
    return event


def erase_values(event: ChangeEvent, *, actor: Actor = SYSTEM) -> ChangeEvent:
    """Erase the values of a change for good, and record that. The chain stays whole; who did what stays proved."""
    with transaction.atomic():
        ChangeEvent.objects.filter(pk=event.pk).update(values=None, salt=None)
        event.values = event.salt = None
        return record_change(
            ERASED,
            organization_id=event.organization_id,
            actor=actor,
            subject=event.action,
            subject_id=event.sequence,
        )


def verify_chain(organization_id: int) -> ChainReport:
    """Read the whole chain and say what does not fit. Changes that are made meanwhile are no problem."""
    # The head is read before and after: what it told before must be there, and nothing beyond what it tells after.
    before = ChangeChain.objects.filter(pk=organization_id).first()
    check = _Check(organization_id, before)
    for event in ChangeEvent.objects.filter(organization_id=organization_id).order_by("sequence").iterator(2000):
        check.take(event)
    after = ChangeChain.objects.filter(pk=organization_id).first()
    return check.report(after)


class _Check:
    """The state of one reading of a chain."""

    def __init__(self, organization_id: int, head: ChangeChain | None) -> None:
        self.organization_id = organization_id
        self.head = head
        self.sequence = self.events = 0
        self.link = _first_link(organization_id)
        self.erased: set[int] = set()
        self.erasures: set[int] = set()
        self.problems: list[str] = []

    def take(self, event: ChangeEvent) -> None:
        self.events += 1
        number = event.sequence
        if number != self.sequence + 1:
            self.problems.append(f"{number}: follows {self.sequence}; what was between is missing")
        if bytes(event.previous) != self.link:
            self.problems.append(f"{number}: does not follow from the change before it")
        self._take_digests(event)
        if not hmac.compare_digest(bytes(event.link), _link(event)):
            self.problems.append(f"{number}: the link was not made with this installation's key")
        if self.head and number == self.head.sequence and bytes(event.link) != bytes(self.head.link):
            self.problems.append(f"{number}: is not the change that the head names")
        if event.action == ERASED:
            self.erasures.add(int(event.subject_id) if event.subject_id.isdecimal() else 0)
        self.sequence, self.link = number, bytes(event.link)

    def _take_digests(self, event: ChangeEvent) -> None:
        if event.values is None and event.salt is None:
            self.erased.add(event.sequence)
        elif event.values is None or event.salt is None or bytes(event.values_digest) != _values_digest(event):
            self.problems.append(f"{event.sequence}: the values were edited")
        if bytes(event.digest) != _digest(event):
            self.problems.append(f"{event.sequence}: time, actor, action or subject were edited")

    def report(self, after: ChangeChain | None) -> ChainReport:
        if self.head and self.sequence < self.head.sequence:
            self.problems.append(f"{self.sequence}: the end is missing up to {self.head.sequence}")
        if self.sequence > (after.sequence if after else 0):
            self.problems.append(f"{self.sequence}: lies beyond the head")
        for number in sorted(self.erased - self.erasures):
            self.problems.append(f"{number}: the values were erased without a record of it")
        return ChainReport(
            organization_id=self.organization_id,
            events=self.events,
            erased=len(self.erased),
            head_sequence=self.sequence,
            head_link=self.link.hex(),
            problems=tuple(self.problems[:_PROBLEMS_MAX]),
        )


def _locked_head(organization_id: int) -> ChangeChain:
    ChangeChain.objects.bulk_create(
        [ChangeChain(organization_id=organization_id, link=_first_link(organization_id))], ignore_conflicts=True
    )
    return ChangeChain.objects.select_for_update(no_key=True).get(pk=organization_id)


def _plain(value: Any) -> Any:
    """The value as jsonb gives it back unchanged: text, whole numbers, true, false, null, lists and objects of them."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, Mapping):
        return {printable(str(key), 255): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, set | frozenset):
        return sorted((_plain(each) for each in value), key=str)
    if isinstance(value, datetime):
        return value.isoformat()
    return printable(str(value), _TEXT_MAX)  # floats too: jsonb would give back 1e22 as a whole number


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def _values_digest(event: ChangeEvent) -> bytes:
    return sha256(bytes(event.salt or b"") + _canonical(event.values)).digest()


def _digest(event: ChangeEvent) -> bytes:
    facts = {
        "at": event.at.astimezone(UTC).isoformat(timespec="microseconds"),
        "actor": event.actor,
        "actor_id": event.actor_id,
        "action": event.action,
        "subject": event.subject,
        "subject_id": event.subject_id,
    }
    return sha256(bytes(event.values_digest) + _canonical(facts)).digest()


def _link(event: ChangeEvent) -> bytes:
    chained = event.sequence.to_bytes(8, "big", signed=True) + bytes(event.previous) + bytes(event.digest)
    return hmac.digest(settings.GATEPOST_AUDIT_KEY, chained, "sha256")


def _first_link(organization_id: int) -> bytes:
    """What the first change follows: other for each organization, so that chains cannot be exchanged."""
    return hmac.digest(settings.GATEPOST_AUDIT_KEY, f"chain of {organization_id}".encode(), "sha256")
