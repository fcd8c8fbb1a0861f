"""Addresses to which an organization sends no more mail: kept by bounces, by hand, and by import.

Shapes  suppression_key(address) -> the address as it is compared: local part in NFC and case-folded, without needless
        quotes; domain in lower-case A-labels. add() one, import_text() many, remove() some, search() a page of them.
Units   IMPORT_CHARACTERS and IMPORT_ADDRESSES of one import; SUPPRESSIONS_MAX of one organization.
Errors  SuppressionRefused (a ValidationError) with words for a form. Import takes what is good, and says what is not.
Source  RFC 5321 2.4 (local parts are the receiver's business; in life none tells A from a), RFC 5890.
"""

import csv
import io
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from django.core.exceptions import ValidationError
from django.db import connection, transaction
from django.db.models import Count, QuerySet
from django.utils.translation import gettext as _

from accounts.models import Organization
from audit.changes import Actor, record_change
from audit.record import printable
from relay.changes import announce
from relay.models import Suppression
from relay.webhooks import outbox

IMPORT_CHARACTERS = 1_000_000
IMPORT_ADDRESSES = 50_000
SUPPRESSIONS_MAX = 1_000_000
ADDRESS_MAX = 320
NOTE_MAX = 200
BATCH = 5_000
BAD_SHOWN = 10

_DOT_ATOM = re.compile(r"[^\s\"(),:;<>@\[\]\\\x00-\x1f\x7f]+")
_DOMAIN = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*")
_LITERAL = re.compile(r"\[[0-9a-f:.]{2,60}\]|\[ipv6:[0-9a-f:.]{2,60}\]")


class SuppressionRefused(ValidationError):
    """An address or import that cannot be taken, and why."""


@lru_cache(maxsize=20_000)
def suppression_key(address: str) -> str:
    """How this address is compared. Of what is no address, its lower case: RCPT takes more than we would import."""
    local, at, domain = unicodedata.normalize("NFC", address.strip()).rpartition("@")
    if len(local) > 2 and local[0] == local[-1] == '"' and _DOT_ATOM.fullmatch(local[1:-1]):
        local = local[1:-1]
    return f"{local.casefold()}{at}{_a_labels(domain.rstrip('.').lower())}"[:ADDRESS_MAX]


def _a_labels(domain: str) -> str:
    if domain.isascii():
        return domain
    try:
        return domain.encode("idna").decode("ascii")
    except UnicodeError:
        return domain


def canonical_recipient(text: str) -> str:
    """The key of an address that a person gives, in any of the ways people write it. Raises SuppressionRefused."""
    text = text.strip().removeprefix("mailto:")
    if text.endswith(">") and "<" in text:
        text = text[text.rindex("<") + 1 : -1]
    key = suppression_key(text) if len(text) <= ADDRESS_MAX else ""
    local, _at, domain = key.rpartition("@")
    is_local = bool(_DOT_ATOM.fullmatch(local)) or (len(local) > 1 and local[0] == local[-1] == '"')
    if not (is_local and local.isprintable() and (_DOMAIN.fullmatch(domain) or _LITERAL.fullmatch(domain))):
        raise SuppressionRefused(
            _("“%(text)s” is not an address."), code="malformed", params={"text": printable(text, 64)}
        )
    return key


# --- Changing --------------------------------------------------------------------------------------------------------


@transaction.atomic
def add(organization: Organization, *, address: str, note: str = "", actor: Actor) -> Suppression:
    """One address. Raises SuppressionRefused: malformed, duplicate, full."""
    key = canonical_recipient(address)
    _demand_room(organization, 1)
    row, made = Suppression.objects.get_or_create(
        organization=organization,
        address=key,
        defaults={
            "source": Suppression.Source.ADDED,
            "reason": printable(note, NOTE_MAX),
            "created_by": printable(actor.name, ADDRESS_MAX),
        },
    )
    if not made:
        raise SuppressionRefused(_("%(address)s is suppressed already."), code="duplicate", params={"address": key})
    announce(organization.pk)
    outbox.suppressed([outbox.Suppressed(organization.pk, key, row.source, row.reason)])
    record_change(
        "suppression.added", organization_id=organization.pk, actor=actor, subject=key, values={"note": row.reason}
    )
    return row


@transaction.atomic
def remove(organization: Organization, *, ids: Sequence[int], actor: Actor) -> int:
    """Mail to them is taken again, at once. Returns how many there were; others' ids are none."""
    rows = Suppression.objects.filter(organization=organization, pk__in=ids)
    addresses = list(rows.order_by("pk").values_list("address", flat=True))
    if not addresses:
        return 0
    rows.delete()
    announce(organization.pk)
    record_change(
        "suppression.removed",
        organization_id=organization.pk,
        actor=actor,
        subject=addresses[0] if len(addresses) == 1 else f"{len(addresses)} addresses",
        values={"addresses": addresses[:100]},
    )
    return len(addresses)


@dataclass(frozen=True, slots=True)
class Imported:
    """bad: the first lines that hold no address, with their numbers."""

    added: int
    known: int
    malformed: int
    bad: tuple[tuple[int, str], ...]


def import_text(organization: Organization, *, text: str, note: str = "", actor: Actor) -> Imported:
    """A paste or a CSV: one address a line, or in the column whose head names it, or the first cell that has an @."""
    if len(text) > IMPORT_CHARACTERS:
        raise SuppressionRefused(_("The list is too long. Import it in parts."), code="long")
    return import_cells(organization, _cells(text), note=note, actor=actor)


def import_cells(
    organization: Organization, cells: Iterable[tuple[int, str]], *, note: str = "", actor: Actor
) -> Imported:
    """The same of addresses that stand alone, each with the number of its line."""
    keys: dict[str, None] = {}
    bad: list[tuple[int, str]] = []
    malformed = repeated = 0
    for number, cell in cells:
        try:
            key = canonical_recipient(cell)
        except SuppressionRefused:
            malformed += 1
            if len(bad) < BAD_SHOWN:
                bad.append((number, printable(cell, 64)))
            continue
        repeated += key in keys
        keys[key] = None
        if len(keys) > IMPORT_ADDRESSES:
            raise SuppressionRefused(
                _("More than %(most)s addresses. Import them in parts."), code="long", params={"most": IMPORT_ADDRESSES}
            )
    added = _store(organization, list(keys), note=note, actor=actor) if keys else 0
    return Imported(added, len(keys) - added + repeated, malformed, tuple(bad))


def _cells(text: str) -> Iterator[tuple[int, str]]:
    """With the number of its line, the cell of each line that should be an address; empty lines and heads are none."""
    text = text.lstrip("\ufeff").replace("\0", "")
    lines = io.StringIO(text.replace("\r\n", "\n").replace("\r", "\n"))
    first = lines.readline()
    lines.seek(0)
    delimiter = ";" if first.count(";") > first.count(",") else "\t" if "\t" in first else ","
    column: int | None = None
    for number, line in enumerate(lines, 1):
        row = _row(line, delimiter)
        if number == 1 and "@" not in line:
            heads = [cell.strip().strip('"').lower() for cell in row]
            named = [index for index, head in enumerate(heads) if head in HEADS]
            column = named[0] if named else None
            if column is not None:
                continue
        filled = [cell.strip().lstrip("'") for cell in row if cell.strip()]
        if not filled:
            continue
        if column is not None and column < len(row) and row[column].strip():
            yield number, row[column].strip().lstrip("'")
        else:
            yield number, next((cell for cell in filled if "@" in cell), filled[0])


HEADS = frozenset({"address", "email", "e-mail", "email address", "email_address", "recipient", "mail"})


def _row(line: str, delimiter: str) -> list[str]:
    """Each line by itself: an opening quote that nobody closes must not swallow the rest of a list."""
    if '"' not in line:
        return line.rstrip("\n").split(delimiter)
    try:
        return next(csv.reader([line], delimiter=delimiter), [])
    except csv.Error:
        return line.rstrip("\n").split(delimiter)


@transaction.atomic
def _store(organization: Organization, keys: list[str], *, note: str, actor: Actor) -> int:
    _demand_room(organization, len(keys))
    said, by = printable(note, NOTE_MAX), printable(actor.name, ADDRESS_MAX)
    added = 0
    with connection.cursor() as cursor:
        for start in range(0, len(keys), BATCH):
            cursor.execute(
                "INSERT INTO relay_suppression (organization_id, address, source, reason, reference, created_at,"
                " created_by) SELECT %s, key, %s, %s, '', now(), %s FROM unnest(%s::text[]) AS key"
                " ON CONFLICT DO NOTHING RETURNING address",
                [organization.pk, Suppression.Source.IMPORTED, said, by, sorted(keys[start : start + BATCH])],
            )
            new = [row[0] for row in cursor.fetchall()]
            outbox.suppressed([outbox.Suppressed(organization.pk, key, "imported", said) for key in new])
            added += len(new)
    if added:
        announce(organization.pk)
        record_change(
            "suppression.imported",
            organization_id=organization.pk,
            actor=actor,
            subject=f"{added} addresses",
            values={"added": added, "known": len(keys) - added, "note": said},
        )
    return added


def _demand_room(organization: Organization, wanted: int) -> None:
    if Suppression.objects.filter(organization=organization).count() + wanted > SUPPRESSIONS_MAX:
        raise SuppressionRefused(
            _("An organization can suppress %(most)s addresses at most."),
            code="full",
            params={"most": SUPPRESSIONS_MAX},
        )


# --- Looking ---------------------------------------------------------------------------------------------------------


def search(organization_id: int, *, text: str = "", source: str = "") -> QuerySet[Suppression]:
    """Newest first. text: an address, @domain, or a part of one."""
    found = Suppression.objects.filter(organization_id=organization_id)
    if source:
        found = found.filter(source=source)
    if text:
        key = suppression_key(text)
        found = found.filter(address__endswith=key) if key.startswith("@") else found.filter(address__contains=key)
    return found.order_by("-pk")


def addresses_of(organization_id: int, *, page: int = 1000) -> Iterator[list[Suppression]]:
    """All of them in short pages, for an export."""
    before: int | None = None
    while True:
        rows = Suppression.objects.filter(organization_id=organization_id).order_by("-pk")
        found = list((rows if before is None else rows.filter(pk__lt=before))[:page])
        if not found:
            return
        yield found
        before = found[-1].pk


def counts(organization_id: int) -> dict[str, int]:
    """How many by source."""
    mine = Suppression.objects.filter(organization_id=organization_id)
    return dict(mine.order_by().values_list("source").annotate(number=Count("pk")))
