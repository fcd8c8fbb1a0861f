"""What shares a row in a flood, how many rows there are at most, and that no attempt is lost or counted twice."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from django.db import connection
from django.db.models import Count, Sum
from hypothesis import given
from hypothesis import strategies as st

from audit.folded import Run, RunKey
from audit.models import AuthEvent
from audit.record import AuthAttempt, attempt
from audit.rollup import roll_up_auth_hours
from relay.smtp import folding
from relay.smtp.folding import Folder
from relay.smtp.recorder import Recorder

MINUTE = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


def failure(ip: str = "203.0.113.7", *, at: datetime = MINUTE, user: int | None = 1, **values: Any) -> AuthAttempt:
    given = {"result": "refused", "reason": "wrong_password", "port": 465, "worker": "test", "username_given": "app.a"}
    organization = {"organization_id": 1 if user else None}
    return attempt(ip=ip, at=at, smtp_user_id=user, **(given | organization | values))  # type: ignore[arg-type]


def prefix(number: int) -> str:
    """An address in the numberth /24."""
    return f"{1 + number // 65536 % 200}.{number // 256 % 256}.{number % 256}.9"


def test_the_first_of_a_key_stay_single() -> None:
    """Ordinary failures keep their own row and reference; the sixth of a minute shares one."""
    folder = Folder()
    placed = [folder.place(failure(at=MINUTE + timedelta(seconds=number))) for number in range(8)]
    assert placed[:5] == [None] * 5
    assert placed[5] is not None and placed[5] is placed[6] is placed[7]
    assert placed[5].count == 3
    assert folder.place(failure(at=MINUTE + timedelta(seconds=61))) is None  # a new minute


def test_an_accepted_login_is_never_folded() -> None:
    """However many there are in a second."""
    folder = Folder()
    assert all(folder.place(failure(result="accepted", reason="ok")) is None for _number in range(100))


@pytest.mark.parametrize(
    "other",
    [
        {"reason": "revoked"},
        {"ip": "203.0.114.7"},
        {"user": 2},
        {"user": None, "reason": "unknown_user"},
        {"organization_id": 2},
    ],
)
def test_what_a_key_is_made_of(other: dict[str, Any]) -> None:
    """Another reason, range, SMTP user or customer is another run; another address of the range is not."""
    folder = Folder()
    for _number in range(10):
        folder.place(failure())
    run = folder.place(failure("203.0.113.200"))
    assert run is not None and run.count == 6
    assert folder.place(failure(**other)) is None


def test_above_a_thousand_keys_they_widen() -> None:
    """New keys of a minute: a thousand of their own, then by range alone, then one for each reason."""
    folder = Folder()
    for number in range(folding.KEYS_MAX):
        assert folder.place(failure(user=number + 1)) is None
    run = folder.place(failure(user=5000))
    assert run is not None and folder.place(failure(user=5001, organization_id=9)) is run
    assert run.take()["organization_id"] is None  # of two customers: of none
    for number in range(folding.WIDE_MAX + 50):
        last = folder.place(failure(prefix(number), user=6000 + number))
    assert last is not None and last.count >= 50
    assert last.take()["network"] == ""


def test_a_flood_leaves_room_for_those_who_sign_in() -> None:
    """With the budget spent, failures from addresses with a recent success still have rows of their own."""
    folder = Folder()
    for number in range(20_000):
        at = MINUTE + timedelta(milliseconds=50 * number)
        folder.place(failure(prefix(number), at=at))
    assert folder.place(failure("198.51.100.7", at=at)) is not None
    assert folder.place(failure("192.0.2.7", at=at), trusted=True) is None


@given(
    st.lists(
        st.tuples(st.integers(0, 30), st.integers(0, 4), st.integers(0, 90), st.booleans()), min_size=1, max_size=300
    )
)
def test_no_attempt_is_lost(given: list[tuple[int, int, int, bool]]) -> None:
    """Singles and the counts of all runs are as many as there were attempts, whenever the runs are taken."""
    folder, at, singles, counted = Folder(), MINUTE, 0, 0
    for source, user, pause, taken in given:
        at += timedelta(seconds=pause)
        singles += folder.place(failure(prefix(source), at=at, user=user or None)) is None
        if taken:
            counted += sum(run.take()["count"] for run in folder.take())
    counted += sum(run.take()["count"] for run in folder.take())
    assert singles + counted == len(given)
    assert folder.waiting == 0


def test_rows_are_bounded_whatever_keys_a_flood_makes() -> None:
    """Each attempt from another range at another name: one of twenty processes, its twentieth of 10,000,000."""
    share, attempts, rate = 20, 40_000, 500 / 20
    folder, rows = Folder(share=share), set()
    singles = 0
    for number in range(attempts):
        at = MINUTE + timedelta(seconds=number / rate)
        run = folder.place(failure(prefix(number), at=at, user=number + 1))
        singles += run is None
        if run is not None:
            rows.add(run.id)
        if number % 1000 == 0:
            for each in folder.take():
                each.take()
    minutes = attempts / rate / 60
    budget = folding.BUDGET / share + folding.BUDGET_PER_MINUTE / share * minutes
    assert singles + len(rows) <= budget + folding.BUDGET_PER_FAILURE * attempts + minutes + 2
    whole = folding.BUDGET + folding.BUDGET_PER_MINUTE * 10_000_000 / 500 / 60 + folding.BUDGET_PER_FAILURE * 10_000_000
    assert whole + 10_000_000 / 500 / 60 < 100_000


def test_a_run_is_found_again_by_every_process() -> None:
    """Key and minute give id, time and reference; another minute gives others."""
    key = RunKey(MINUTE.timestamp() // 60, "wrong_password", "203.0.113.0/24", 1, 1)  # type: ignore[arg-type]
    one, two = Run(key, failure()), Run(key, failure("203.0.113.99"))
    assert (one.id, one.at, one.reference) == (two.id, two.at, two.reference)
    other = Run(RunKey(key.minute + 1, key.reason, key.network, 1, 1), failure())
    assert other.id != one.id and other.reference != one.reference
    assert len(one.reference) == 10


def stored(*recorders: Recorder) -> None:
    async def run() -> None:
        for recorder in recorders:
            await recorder._flush()
            if recorder._conn is not None:
                await recorder._conn.close()

    asyncio.run(run())


def test_processes_add_to_one_row(transactional_db: None) -> None:
    """Two recorders, three times each: one row with all of it, and sums that hold it once."""
    recorders = Recorder(share=2), Recorder(share=2)
    for round_ in range(3):
        for number, recorder in enumerate(recorders):
            for _attempt in range(20):
                recorder.auth(failure(at=MINUTE + timedelta(seconds=round_ * 10 + number), username_given=f"u{number}"))
        stored(*recorders)
    run = AuthEvent.objects.get(count__gt=1)
    assert AuthEvent.objects.aggregate(all=Sum("count"), rows=Count("id")) == {"all": 120, "rows": 11}
    assert run.count == 110 and sorted(run.samples) == ["u0", "u1"]
    assert (run.at, run.first_at, run.last_at) == (MINUTE, MINUTE, MINUTE + timedelta(seconds=21))
    roll_up_auth_hours()
    with connection.cursor() as cursor:
        cursor.execute("SELECT sum(count) FROM audit_authhour")
        assert cursor.fetchone() == (120,)


def test_a_row_of_two_customers_belongs_to_none(transactional_db: None) -> None:
    """What two processes counted for different customers in one widened row is shown to operators alone."""
    recorders = Recorder(), Recorder()
    for number, recorder in enumerate(recorders):
        recorder._folder._keys_max = 0
        for _attempt in range(5):
            recorder.auth(failure(organization_id=number + 1))
    stored(*recorders)
    row = AuthEvent.objects.get()
    assert (row.count, row.organization_id, row.smtp_user_id) == (10, None, None)


def test_at_most_twenty_samples(transactional_db: None) -> None:
    """However many names there were, and however often the row grew."""
    recorder = Recorder()
    for _round in range(3):
        for number in range(40):
            recorder.auth(failure(user=None, reason="unknown_user", username_given=f"n{_round}-{number}"))
        stored(recorder)
    assert len(AuthEvent.objects.get(count__gt=1).samples) == 20


class Cut:
    """A connection whose COMMIT is carried out, and whose answer is lost."""

    def __init__(self, store: Callable[..., Any]) -> None:
        self.store, self.cut = store, True

    async def __call__(self, batch: Any) -> None:
        await self.store(batch)
        if self.cut:
            self.cut = False
            raise psycopg.OperationalError("server closed the connection unexpectedly")


def test_a_commit_without_an_answer_counts_once(transactional_db: None) -> None:
    """The batch is not stored again if PostgreSQL had committed it: neither singles nor counts are doubled."""
    recorder = Recorder()
    recorder._store = Cut(recorder._store)  # type: ignore[method-assign]
    for _attempt in range(20):
        recorder.auth(failure())
    stored(recorder)
    assert recorder.waiting == 6
    stored(recorder)
    assert recorder.waiting == 0
    assert AuthEvent.objects.aggregate(all=Sum("count"), rows=Count("id")) == {"all": 20, "rows": 6}


def test_a_transaction_that_failed_is_stored_again(transactional_db: None) -> None:
    """Ended before its commit, it has left nothing, and the next flush stores it whole."""
    recorder = Recorder()
    for _attempt in range(20):
        recorder.auth(failure())
    recorder._take()
    batch = recorder._batch
    assert batch is not None

    async def broken() -> None:
        conn = await psycopg.AsyncConnection.connect(**connect_words(), autocommit=True)
        await conn.execute("BEGIN")
        row = await (await conn.execute("SELECT pg_current_xact_id()::text")).fetchone()
        assert row is not None
        batch.transaction = row[0]
        await conn.execute("ROLLBACK")
        await conn.close()

    asyncio.run(broken())
    stored(recorder)
    assert AuthEvent.objects.aggregate(all=Sum("count"))["all"] == 20


def connect_words() -> dict[str, Any]:
    words = connection.settings_dict
    return {"dbname": words["NAME"], "user": words["USER"], "host": words["HOST"], "port": words["PORT"] or None}
