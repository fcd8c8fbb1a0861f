"""The records of a domain as its page and the API show them: what belongs there, and what is there.

Shapes  rows_of(domain) -> a Row for each record that it needs, in the order in which one would publish them.
        history_of(domain) -> its episodes, newest first.
Errors  Those of the database. No DNS is asked here.
"""

from dataclasses import dataclass, replace
from datetime import datetime

from django.utils.translation import gettext as _

from relay.dkim_keys import OVERLAP
from relay.dns_records import wanted, words
from relay.dns_records.wanted import Plan, Wanted
from relay.models import DkimKey, DomainRecord, Proof, RecordKind, RecordState, SendingDomain

HISTORY_MAX = 50


@dataclass(frozen=True, slots=True)
class Row:
    """value: what to publish; empty where what is there is right, or nothing can be proposed."""

    wanted: Wanted
    title: str
    purpose: str
    value: str
    state: str
    problems: tuple[str, ...] = ()
    found: tuple[str, ...] = ()
    since: datetime | None = None
    last_at: datetime | None = None
    unanswered_at: datetime | None = None
    note: str = ""

    @property
    def is_done(self) -> bool:
        return self.state in {RecordState.OK, RecordState.WEAK}

    @property
    def is_quiet(self) -> bool:
        """Nothing need be done about it."""
        return not self.problems and (self.is_done or not self.wanted.is_required)


def rows_of(domain: SendingDomain) -> list[Row]:
    plan = wanted.plan_of(domain)
    current = {(row.kind, row.name): row for row in domain.records.filter(ended_at=None)}
    keys = {key.pk: key for key in domain.dkim_keys.filter(erased_at=None)}
    rows = [_row(plan, each, current.get((each.kind, each.name)), keys) for each in wanted.wanted(plan)]
    return [_vouched_for(row) if domain.proof == Proof.OPERATOR else row for row in rows]


def _vouched_for(row: Row) -> Row:
    """An operator's word stands for the proof, which then is nobody's fault to lack."""
    if row.wanted.kind != RecordKind.OWNERSHIP or row.is_done:
        return row
    note = _("An operator has said that the domain is yours, so it is not needed.")
    return replace(
        row, wanted=replace(row.wanted, is_required=False), note=note, problems=(), state=RecordState.UNKNOWN
    )


def _row(plan: Plan, asked: Wanted, record: DomainRecord | None, keys: dict[int, DkimKey]) -> Row:
    key = keys.get(asked.key.id) if asked.key else None
    title = str(RecordKind(asked.kind).label)
    if key:
        title = f"{title}, {key.get_algorithm_display()}"
    found = tuple(map(str, record.found)) if record else ()
    return Row(
        asked,
        title,
        str(words.PURPOSES[asked.kind]),
        _value(plan, asked, record),
        record.state if record else str(RecordState.UNKNOWN),
        tuple(words.told(problem) for problem in record.problems) if record else (),
        found,
        record.began_at if record else None,
        record.last_at if record else None,
        record.unanswered_at if record else None,
        _note(key) if key else "",
    )


def _value(plan: Plan, asked: Wanted, record: DomainRecord | None) -> str:
    """Of what several have a say in, only what is missing is proposed: nobody should paste away a stricter policy."""
    if record and asked.kind == RecordKind.SPF:
        if record.state == RecordState.OK:
            return ""
        present = str(record.found[0]) if len(record.found) == 1 and not str(record.found[0]).endswith("…") else ""
        value = wanted.spf(plan, present=present).value
        return "" if value == " ".join(present.split()) else value
    if record and record.is_good and asked.kind == RecordKind.DMARC:
        return ""
    return asked.value


def _note(key: DkimKey) -> str:
    if key.retired_at:
        day = f"{key.retired_at + OVERLAP:%Y-%m-%d}"
        return _("Retired. Leave the record there until %(day)s, for mail that it signed is still under way.") % {
            "day": day
        }
    if key.active_at:
        return _("Signs since %(day)s.") % {"day": f"{key.active_at:%Y-%m-%d}"}
    if not key.seen_at:
        return _("It signs as soon as it is seen there.")
    return _("Seen. It takes over when all servers of the zone have it, in about a quarter of an hour.")


def history_of(domain: SendingDomain) -> list[tuple[DomainRecord, list[str]]]:
    rows = domain.records.order_by("-began_at", "-pk")[:HISTORY_MAX]
    return [(row, [words.told(problem) for problem in row.problems]) for row in rows]
