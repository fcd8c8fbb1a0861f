"""The log of changes: who did what to which thing, in a chain for each organization that shows every tampering.

Shapes  link = HMAC-SHA-256(GATEPOST_AUDIT_KEY; sequence as 8 octets, previous link, digest).
        digest = SHA-256(values_digest, canonical JSON of at, actor, actor_id, action, subject, subject_id).
        values_digest = SHA-256(salt, [NUL, ip, NUL,] canonical JSON of values). values, ip and salt can be erased: the
        two digests stay, so that who did what remains proved. The first link follows one made from the organization's
        id. Chain 0 is the installation's own. ChangeChain holds the head, so that a cut end shows; whoever can cut the
        head as well is found by an anchor (audit/anchors.py).
        values: what was set; of a value that was another before, {"from": old, "to": new} (changed()).
        From where: the actor's ip, else that of the web request which this is part of (came_from).
Errors  NotInTransaction: a change and its record are committed together or not at all.
Source  docs/data.md, ChangeEvent.
"""

import hmac
import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Final

from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone

from audit.models import ChangeChain, ChangeEvent
from audit.record import printable, read_ip

ERASED: Final = "change.values_erased"
_TEXT_MAX = 2000
_PROBLEMS_MAX = 20


class NotInTransaction(RuntimeError):  # a fact about the caller, read in a traceback
    """record_change() outside the transaction of the change it records."""


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts: a person's e-mail address and id, "api:<prefix>", or the system; and from which address, if known."""

    name: str
    id: int | None = None
    ip: str | None = None


SYSTEM: Final = Actor("system")
_ORIGIN: ContextVar[str | None] = ContextVar("origin of changes", default=None)


@contextmanager
def came_from(ip: str | None) -> Iterator[None]:
    """What is recorded within, by actors without an address of their own, came from this one."""
    token = _ORIGIN.set(ip)
    try:
        yield
    finally:
        _ORIGIN.reset(token)


def changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """For record_change(): of each value that is another now, the old and the new one."""
    return {name: {"from": before.get(name), "to": new} for name, new in after.items() if before.get(name) != new}


@dataclass(frozen=True, slots=True)
class Anchor:
    """What a chain's head was, noted outside the database; str() is what mails and logs carry."""

    organization_id: int
    sequence: int
    link: str  # hexadecimal

    def __str__(self) -> str:
        return f"gatepost-anchor:{self.organization_id}:{self.sequence}:{self.link}"


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
        ip=_address(actor.ip or _ORIGIN.get()),
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
    """Erase values and address of a change for good, and record that. The chain stays whole, who did what proved."""
    with transaction.atomic():
        ChangeEvent.objects.filter(pk=event.pk).update(values=None, salt=None, ip=None)
        event.values = event.salt = event.ip = None
        return record_change(
            ERASED,
            organization_id=event.organization_id,
            actor=actor,
            subject=event.action,
            subject_id=event.sequence,
        )


def verify_chain(organization_id: int, *, anchors: Sequence[Anchor] = ()) -> ChainReport:
    """Read the whole chain and say what does not fit, to the anchors neither. Changes made meanwhile are no problem."""
    # The head is read before and after: what it told before must be there, and nothing beyond what it tells after.
    before = ChangeChain.objects.filter(pk=organization_id).first()
    check = _Check(organization_id, before, [each for each in anchors if each.organization_id == organization_id])
    for event in ChangeEvent.objects.filter(organization_id=organization_id).order_by("sequence").iterator(2000):
        check.take(event)
    after = ChangeChain.objects.filter(pk=organization_id).first()
    return check.report(after)


class _Check:
    """The state of one reading of a chain."""

    def __init__(self, organization_id: int, head: ChangeChain | None, anchors: Sequence[Anchor]) -> None:
        self.organization_id = organization_id
        self.anchors = {(each.sequence, each.link) for each in anchors}
        self.head = head
        self.sequence = self.events = 0
        self.link = _first_link(organization_id)
        self.nothing = self.link.hex()  # the anchor of an empty chain
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
        self.anchors.discard((number, bytes(event.link).hex()))
        if event.action == ERASED:
            self.erasures.add(int(event.subject_id) if event.subject_id.isdecimal() else 0)
        self.sequence, self.link = number, bytes(event.link)

    def _take_digests(self, event: ChangeEvent) -> None:
        if event.values is None and event.salt is None and event.ip is None:
            self.erased.add(event.sequence)
        elif event.values is None or event.salt is None or bytes(event.values_digest) != _values_digest(event):
            self.problems.append(f"{event.sequence}: the values were edited, or the address")
        if bytes(event.digest) != _digest(event):
            self.problems.append(f"{event.sequence}: time, actor, action or subject were edited")

    def report(self, after: ChangeChain | None) -> ChainReport:
        if self.head and self.sequence < self.head.sequence:
            self.problems.append(f"{self.sequence}: the end is missing up to {self.head.sequence}")
        if self.sequence > (after.sequence if after else 0):
            self.problems.append(f"{self.sequence}: lies beyond the head")
        for number in sorted(self.erased - self.erasures):
            self.problems.append(f"{number}: the values were erased without a record of it")
        for number, _link_then in sorted(self.anchors - {(0, self.nothing)}):
            gone = f"is missing, and the chain ends at {self.sequence}" if number > self.sequence else "is another"
            self.problems.append(f"{number}: the change that an anchor names {gone}")
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


def _address(ip: str | None) -> str | None:
    """In its one written form; what is none is unknown."""
    try:
        return str(read_ip(ip)) if ip else None
    except ValueError:
        return None


def _values_digest(event: ChangeEvent) -> bytes:
    ip = b"\0%s\0" % str(event.ip).encode() if event.ip else b""  # canonical JSON has no NUL
    return sha256(bytes(event.salt or b"") + ip + _canonical(event.values)).digest()


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
