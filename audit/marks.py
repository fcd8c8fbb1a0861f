"""How far each rollup has read: its mark, and how far the next one may stand.

Shapes  mark_of(name) -> datetime, None before the first run; next_mark(now) is asked before the rows are read, and
        set_mark(name, until) in the transaction that stored what was made of them.
Units   Aware UTC, by PostgreSQL's clock. now: only to hold the mark back.
Errors  Those of the database.
Source  docs/data.md, RollupMark.
"""

from datetime import datetime
from typing import Final

from django.db import connection

from audit.models import RollupMark

# A row is stamped when its statement starts, and seen when its transaction ends. The mark stays behind the start of
# every transaction that writes, and 2 minutes behind in any case, so that no row can appear behind it.
NEXT_MARK: Final = """
    SELECT least(
        least(%s, clock_timestamp()) - interval '2 minutes',
        (SELECT min(xact_start) FROM pg_stat_activity WHERE backend_xid IS NOT NULL AND datname = current_database()
         AND pid <> pg_backend_pid())
    )
"""


def mark_of(name: str) -> datetime | None:
    """Everything stored before is in what the rollup makes."""
    return RollupMark.objects.filter(name=name).values_list("done_until", flat=True).first()


def next_mark(now: datetime | None) -> datetime:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_clear_snapshot()")  # else a transaction sees the same activity to its end
        cursor.execute(NEXT_MARK, [now])
        mark: datetime = cursor.fetchone()[0]
        return mark


def set_mark(name: str, until: datetime) -> None:
    RollupMark.objects.update_or_create(name=name, defaults={"done_until": until})
