"""audit/changes.py: a chain that shows every tampering."""

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from threading import Barrier, Thread
from typing import Any

import pytest
from django.db import connection, transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from audit.changes import ERASED, SYSTEM, Actor, NotInTransaction, erase_values, record_change, verify_chain
from audit.models import ChangeChain, ChangeEvent
from tests.audit.conftest import NOON
from tests.audit.test_record import SECRET

ALICE = Actor("alice@customer.example", 7)
ORGANIZATION = 5


def change(number: int = 0, **given_: Any) -> ChangeEvent:
    values = {"organization_id": ORGANIZATION, "actor": ALICE, "subject": "app.alice", "values": {"number": number}}
    return record_change("smtp_user.created", **{**values, **given_})


@pytest.fixture
def chain(db: None) -> list[ChangeEvent]:
    """Five changes of one organization."""
    return [change(number) for number in range(5)]


def test_a_chain_that_nobody_touched_verifies(chain: list[ChangeEvent]) -> None:
    """Five changes, no gap, no problem, and the head is the last link."""
    report = verify_chain(ORGANIZATION)
    assert report.ok
    assert (report.events, report.head_sequence, report.head_link) == (5, 5, chain[-1].link.hex())
    assert [event.sequence for event in chain] == [1, 2, 3, 4, 5]


@pytest.mark.django_db
def test_an_organization_without_changes_verifies() -> None:
    """No change is no problem."""
    assert verify_chain(12345).ok


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        ({"values": {"number": 99}}, "3: the values were edited"),
        ({"values": None}, "3: the values were edited"),
        ({"salt": b"x" * 16}, "3: the values were edited"),
        ({"actor": "mallory"}, "3: time, actor"),
        ({"actor_id": 8}, "3: time, actor"),
        ({"at": NOON}, "3: time, actor"),
        ({"action": "smtp_user.deleted"}, "3: time, actor"),
        ({"subject": "app.bob"}, "3: time, actor"),
        ({"subject_id": "4"}, "3: time, actor"),
        ({"digest": b"x" * 32}, "3: the link was not made"),
        ({"previous": b"x" * 32}, "3: does not follow"),
        ({"link": b"x" * 32}, "3: the link was not made"),
        ({"values": None, "salt": None}, "3: the values were erased without a record"),
    ],
)
def test_every_edit_shows(chain: list[ChangeEvent], edit: dict[str, Any], says: str) -> None:
    """Whatever column of a change is edited, the report names the change."""
    ChangeEvent.objects.filter(pk=chain[2].pk).update(**edit)
    report = verify_chain(ORGANIZATION)
    assert not report.ok
    assert any(problem.startswith(says) for problem in report.problems), report.problems


def test_a_deletion_in_the_middle_shows(chain: list[ChangeEvent]) -> None:
    """What is missing between two changes is named."""
    chain[2].delete()
    assert any("4: follows 2" in problem for problem in verify_chain(ORGANIZATION).problems)


@pytest.mark.parametrize("kept", [0, 3, 4])
def test_a_cut_end_shows(chain: list[ChangeEvent], kept: int) -> None:
    """The head knows how many changes there were, even if all of them are gone."""
    ChangeEvent.objects.filter(organization_id=ORGANIZATION, sequence__gt=kept).delete()
    assert verify_chain(ORGANIZATION).problems == (f"{kept}: the end is missing up to 5",)


def test_a_missing_beginning_shows(chain: list[ChangeEvent]) -> None:
    """The first change must be number one."""
    chain[0].delete()
    assert any("2: follows 0" in problem for problem in verify_chain(ORGANIZATION).problems)


def test_a_lost_head_shows(chain: list[ChangeEvent]) -> None:
    """Without its head the chain could be cut unseen, so that is a problem of its own."""
    ChangeChain.objects.filter(pk=ORGANIZATION).delete()
    assert verify_chain(ORGANIZATION).problems == ("5: lies beyond the head",)


def test_a_head_of_another_end_shows(chain: list[ChangeEvent]) -> None:
    """A head with another link than the last change's is found out."""
    ChangeChain.objects.filter(pk=ORGANIZATION).update(link=b"x" * 32)
    assert verify_chain(ORGANIZATION).problems == ("5: is not the change that the head names",)


def test_a_new_order_shows(chain: list[ChangeEvent]) -> None:
    """Two changes that swap their numbers are both found."""
    for pk, sequence in ((chain[1].pk, 900), (chain[2].pk, 2), (chain[1].pk, 3)):
        ChangeEvent.objects.filter(pk=pk).update(sequence=sequence)
    report = verify_chain(ORGANIZATION)
    assert any(problem.startswith("2: the link") for problem in report.problems)
    assert any(problem.startswith("3: the link") for problem in report.problems)


def test_a_chain_made_with_another_key_shows(chain: list[ChangeEvent], settings: Any) -> None:
    """Whoever rewrites all rows and digests still lacks the key."""
    settings.GATEPOST_AUDIT_KEY = b"another"
    assert any("key" in problem for problem in verify_chain(ORGANIZATION).problems)


def test_chains_cannot_be_exchanged(chain: list[ChangeEvent]) -> None:
    """A chain given to another organization does not verify there: the first link depends on the organization."""
    ChangeEvent.objects.filter(organization_id=ORGANIZATION).update(organization_id=6)
    ChangeChain.objects.filter(pk=ORGANIZATION).update(organization_id=6)
    assert any(problem.startswith("1: does not follow") for problem in verify_chain(6).problems)


def test_erased_values_leave_the_chain_whole(chain: list[ChangeEvent]) -> None:
    """After an erasure the values are gone, the erasure is recorded, and the chain verifies."""
    erasure = erase_values(chain[2], actor=ALICE)
    erased = ChangeEvent.objects.get(pk=chain[2].pk)
    report = verify_chain(ORGANIZATION)
    assert (erased.values, erased.salt) == (None, None)
    assert (erasure.action, erasure.subject_id, erasure.actor) == (ERASED, "3", ALICE.name)
    assert report.ok, report.problems
    assert (report.events, report.erased) == (6, 1)


def test_an_edit_after_an_erasure_shows(chain: list[ChangeEvent]) -> None:
    """Who did what stays proved when the values are gone."""
    erase_values(chain[2])
    ChangeEvent.objects.filter(pk=chain[2].pk).update(actor="mallory")
    assert any(problem.startswith("3: time, actor") for problem in verify_chain(ORGANIZATION).problems)


def test_equal_values_have_different_digests(chain: list[ChangeEvent]) -> None:
    """The salt keeps an erased value from being guessed."""
    first, second = change(1), change(1)
    assert first.values_digest != second.values_digest


def test_a_change_outside_a_transaction_is_refused(committed: int) -> None:
    """A change without its record, or a record without its change, cannot be."""
    with pytest.raises(NotInTransaction):
        change(organization_id=committed)


def test_a_change_that_is_rolled_back_leaves_no_gap(chain: list[ChangeEvent]) -> None:
    """The number goes back with the transaction."""
    with pytest.raises(RuntimeError), transaction.atomic():
        change()
        raise RuntimeError
    assert change().sequence == 6
    assert verify_chain(ORGANIZATION).ok


@pytest.mark.django_db
def test_secrets_are_not_recorded() -> None:
    """A secret in a value, a key, the subject or the actor's name is redacted, and the chain still verifies."""
    change(values={"secret": SECRET, SECRET: [SECRET, {"deep": SECRET}]}, subject=SECRET, actor=Actor(SECRET))
    row = str(ChangeEvent.objects.filter(organization_id=ORGANIZATION).values().get())
    assert SECRET[3:] not in row
    assert row.count("gp_…[redacted]") == 6
    assert verify_chain(ORGANIZATION).ok


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=40)
    | st.decimals()
    | st.datetimes()
    | st.frozensets(st.text(max_size=5)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.django_db
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=st.dictionaries(st.text(max_size=9), JSON, max_size=5), subject=st.text(max_size=400))
def test_every_value_verifies_after_its_way_through_the_database(values: dict[str, Any], subject: str) -> None:
    """What jsonb writes in another way (1e22, NaN, NUL, key order) is brought into one form first."""
    with transaction.atomic():
        change(values=values, subject=subject)
        assert verify_chain(ORGANIZATION).ok, values
        transaction.set_rollback(True)


@pytest.mark.django_db
def test_values_keep_their_meaning() -> None:
    """Whole numbers, truth and text stay; decimals and times become text."""
    given_ = {
        "limit": 1500,
        "on": True,
        "price": Decimal("1.50"),
        "at": NOON,
        "networks": ("192.0.2.0/24",),
        "none": None,
    }
    event = change(values=given_)
    event.refresh_from_db()
    assert event.values == {
        "limit": 1500,
        "on": True,
        "price": "1.50",
        "at": "2026-03-10T12:00:00+00:00",
        "networks": ["192.0.2.0/24"],
        "none": None,
    }


@pytest.mark.django_db
def test_the_time_can_be_given() -> None:
    """now= is the time of the change, in whatever zone."""
    assert change(now=NOON - timedelta(days=1), actor=SYSTEM).at == NOON - timedelta(days=1)
    assert verify_chain(ORGANIZATION).ok


def in_threads(count: int, work: Callable[[int], None]) -> None:
    """Runs work(0) … work(count - 1) at once, each with a connection of its own."""
    barrier, failures = Barrier(count), []

    def run(number: int) -> None:
        try:
            barrier.wait(30)
            work(number)
        except Exception as failure:
            failures.append(failure)
        finally:
            connection.close()

    threads = [Thread(target=run, args=[number]) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []


def test_eight_threads_make_one_chain_without_a_gap(committed: int) -> None:
    """200 changes of eight connections at once are numbered 1 to 200, each following from the one before."""

    def work(number: int) -> None:
        for each in range(25):
            with transaction.atomic():
                change(each, organization_id=committed, actor=Actor(f"thread {number}"))

    in_threads(8, work)
    report = verify_chain(committed)
    assert report.ok, report.problems
    assert (report.events, report.head_sequence) == (200, 200)


def test_a_chain_can_be_verified_while_it_grows(committed: int) -> None:
    """Changes made during the reading are never taken for tampering."""
    reports = []

    def work(number: int) -> None:
        for _ in range(40):
            if number:
                reports.append(verify_chain(committed))
            else:
                with transaction.atomic():
                    change(organization_id=committed)

    in_threads(3, work)
    assert [report.problems for report in reports if not report.ok] == []
