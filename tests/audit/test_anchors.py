"""audit/anchors.py: what only a note outside the database finds; and from where and what changes tell."""

from typing import Any

import pytest
from django.db import connection, transaction

from audit.anchors import anchors_in, anchors_of, take_anchors, verify, verify_all
from audit.change_log import change_of, changes_of
from audit.changes import Actor, Anchor, came_from, changed, erase_values, record_change, verify_chain
from audit.models import ChangeAnchor, ChangeChain, ChangeEvent
from tests.audit.test_changes import ORGANIZATION, change

pytestmark = pytest.mark.django_db
FOREVER = "0" * 64


@pytest.fixture
def chain() -> list[ChangeEvent]:
    return [change(subject=f"thing {number}", values={"n": number}) for number in range(6)]


def cut_with_its_head(to: int) -> None:
    """The end of the chain goes, and the head is set back so that the rest looks whole."""
    ChangeEvent.objects.filter(organization_id=ORGANIZATION, sequence__gt=to).delete()
    last = ChangeEvent.objects.get(organization_id=ORGANIZATION, sequence=to)
    ChangeChain.objects.filter(pk=ORGANIZATION).update(sequence=to, link=last.link)


def test_a_chain_is_told_once_until_it_grows(chain: list[ChangeEvent]) -> None:
    """A day without a change has no anchor, and the next change makes a new one."""
    (first,) = take_anchors()
    assert (first.organization_id, first.sequence) == (ORGANIZATION, 6)
    assert first.link == bytes(chain[-1].link).hex()
    assert take_anchors() == []
    change()
    assert [each.sequence for each in take_anchors()] == [7]
    assert [each.sequence for each in anchors_of(ORGANIZATION)] == [7, 6]


def test_a_cut_end_with_its_head_is_found_by_the_remembered_anchor(chain: list[ChangeEvent]) -> None:
    """Without an anchor the shortened chain is whole by itself; the anchor says what is missing."""
    take_anchors()
    cut_with_its_head(to=4)
    assert verify_chain(ORGANIZATION).ok
    report = verify(ORGANIZATION)
    assert report.problems == ("6: the change that an anchor names is missing, and the chain ends at 4",)


def test_who_removes_the_remembered_anchor_as_well_is_found_by_the_one_in_a_mail(chain: list[ChangeEvent]) -> None:
    """The database can be made consistent, the mail cannot."""
    (anchor,) = take_anchors()
    mail = f"Hello,\n\nAnchor:\n{anchor}\nhttp://testserver/change-log/"
    cut_with_its_head(to=4)
    ChangeAnchor.objects.all().delete()
    assert verify(ORGANIZATION).ok
    assert not verify(ORGANIZATION, given=anchors_in(mail)).ok


def test_a_chain_that_is_gone_altogether_is_missed(chain: list[ChangeEvent]) -> None:
    """Events, head and remembered anchors deleted: whoever has an anchor sees it, and verify_all takes it up."""
    (anchor,) = take_anchors()
    for model in (ChangeEvent, ChangeChain, ChangeAnchor):
        model._default_manager.all().delete()
    assert list(verify_all()) == []
    (report,) = verify_all(given=[anchor])
    assert report.problems == ("6: the change that an anchor names is missing, and the chain ends at 0",)


def test_a_chain_written_anew_with_the_key_is_another(chain: list[ChangeEvent]) -> None:
    """Whoever has the key too makes a whole chain, but not the one that was told."""
    (anchor,) = take_anchors()
    ChangeEvent.objects.filter(organization_id=ORGANIZATION).delete()
    ChangeChain.objects.filter(pk=ORGANIZATION).delete()
    for number in range(8):
        change(subject=f"forged {number}")
    assert verify_chain(ORGANIZATION).ok
    assert verify(ORGANIZATION).problems == ("6: the change that an anchor names is another",)
    assert not verify(ORGANIZATION, given=[anchor]).ok


def test_what_grows_on_still_fits_its_old_anchors(chain: list[ChangeEvent]) -> None:
    """Anchors of all days are kept, and every one of them is checked; erasing values breaks none."""
    take_anchors()
    change()
    take_anchors()
    erase_values(chain[2])
    change()
    report = verify(ORGANIZATION)
    assert report.ok
    assert (report.events, report.erased) == (9, 1)


@pytest.mark.parametrize(
    "edit",
    [
        {"actor": "mallory"},
        {"actor_id": 99},
        {"action": "thing.removed"},
        {"subject": "another"},
        {"subject_id": "99"},
        {"values": {"n": 99}},
        {"values": None},
        {"ip": "203.0.113.1"},
        {"ip": None},
        {"salt": b"x" * 16},
        {"at": "2020-01-01T00:00:00Z"},
        {"sequence": 99},
        {"organization_id": ORGANIZATION + 1},
        {"digest": b"x" * 32},
        {"values_digest": b"x" * 32},
        {"previous": b"x" * 32},
        {"link": b"x" * 32},
    ],
    ids="-".join,
)
def test_every_column_is_proved(edit: dict[str, Any]) -> None:
    """Whichever column of a change somebody edits behind the log's back, the report says so."""
    with came_from("192.0.2.7"):
        events = [change(values={"n": number}) for number in range(3)]
    assert verify(ORGANIZATION).ok
    assert ChangeEvent.objects.filter(pk=events[1].pk).update(**edit) == 1
    assert not verify(ORGANIZATION).ok


def test_exchanged_changes_show(chain: list[ChangeEvent]) -> None:
    """Two changes that trade places, with their numbers, no longer follow from what stands before them."""
    second, fourth = chain[1], chain[3]
    ChangeEvent.objects.filter(pk=second.pk).update(sequence=1000)
    ChangeEvent.objects.filter(pk=fourth.pk).update(sequence=2)
    ChangeEvent.objects.filter(pk=second.pk).update(sequence=4)
    assert not verify(ORGANIZATION).ok


@pytest.mark.parametrize("number", [1, 3, 6])
def test_a_removed_change_shows(chain: list[ChangeEvent], number: int) -> None:
    """The first, one within, and the last."""
    ChangeEvent.objects.filter(organization_id=ORGANIZATION, sequence=number).delete()
    assert not verify(ORGANIZATION).ok


def test_an_inserted_change_shows(chain: list[ChangeEvent]) -> None:
    """A copy behind the end, with the next number."""
    copy = ChangeEvent.objects.get(pk=chain[-1].pk)
    copy.pk, copy.sequence = None, 7
    copy.save(force_insert=True)
    assert not verify(ORGANIZATION).ok


def test_the_key_must_be_the_installations(chain: list[ChangeEvent], settings: Any) -> None:
    """A chain made with another key does not verify."""
    settings.GATEPOST_AUDIT_KEY = b"another key, of the same length or not"
    assert not verify(ORGANIZATION).ok


def test_anchors_are_found_in_whatever_was_pasted() -> None:
    """In the mail, in a log line, broken over lines, twice; and nowhere else."""
    anchor = Anchor(7, 12, "ab" * 32)
    text = f'{{"event": "audit.anchor", "anchor": "{anchor}"}}\n> {str(anchor)[:40]}\n{str(anchor)[40:]}\n'
    assert anchors_in(text) == [anchor, anchor]
    assert anchors_in(f"gatepost-anchor:7:12:{'AB' * 32}") == [anchor]
    for none in ("", "gatepost-anchor:", "gatepost-anchor:x:1:" + FOREVER, "gatepost-anchor:7:12:abcd", "\x00\ud800"):
        assert anchors_in(none) == []


def test_the_address_of_a_change() -> None:
    """The actor's own, else that of the request around; in its one written form; none if there is none."""
    assert change().ip is None
    with came_from("::ffff:192.0.2.7"):
        assert change().ip == "192.0.2.7"
        assert change(actor=Actor("alice@customer.example", 7, "2001:DB8::1")).ip == "2001:db8::1"
        assert change(actor=Actor("alice@customer.example", 7, "nonsense")).ip is None
    assert change().ip is None
    assert verify(ORGANIZATION).ok


def test_changes_from_before_addresses_still_verify() -> None:
    """The digest of a change without an address is what it always was."""
    event = change(values={"a": 1})
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT values_digest = sha256(salt || convert_to('{"a":1}', 'UTF8')) FROM audit_changeevent
               WHERE id = %s""",
            [event.pk],
        )
        assert cursor.fetchone() == (True,)


def test_an_address_cannot_be_moved_into_the_values() -> None:
    """What is digested tells an address from values that look like it."""
    with came_from("192.0.2.7"):
        event = change(values={"a": 1})
    ChangeEvent.objects.filter(pk=event.pk).update(ip=None, values={"ip": "192.0.2.7", "a": 1})
    assert not verify(ORGANIZATION).ok


def test_erasing_takes_the_address_too() -> None:
    """Values, address and salt go together, and the chain stays whole."""
    with came_from("192.0.2.7"):
        event = change(values={"email": "gone@example.net"})
    erase_values(event)
    stored = ChangeEvent.objects.get(pk=event.pk)
    assert (stored.values, stored.ip, stored.salt) == (None, None, None)
    assert verify(ORGANIZATION).ok


def test_old_and_new_values_are_told_side_by_side() -> None:
    """Of what changed alone; a whole change from one to another, lists and empty values too."""
    values = changed({"name": "a", "limit": 5, "same": 1}, {"name": "b", "limit": None, "same": 1})
    assert values == {"name": {"from": "a", "to": "b"}, "limit": {"from": 5, "to": None}}
    told = {(v.name, v.before, v.text) for v in change_of(change(values=values)).values}
    assert told == {("name", "a", "b"), ("limit", "5", "–")}
    plan = change_of(change(values={"from": "trial", "to": "standard", "recipients_per_hour": 1500}))
    assert {(v.name, v.before, v.text) for v in plan.values} == {
        ("", "trial", "standard"),
        ("recipients per hour", None, "1500"),
    }


def test_pages_of_changes() -> None:
    """Newest first, below a number, by actor, by noun and by whole action."""
    with transaction.atomic():
        for number in range(5):
            record_change(
                "app_password.created" if number % 2 else "app_password.revoked",
                organization_id=ORGANIZATION,
                actor=Actor(f"person{number}@customer.example"),
                subject="s",
            )
    change()
    page = changes_of(ORGANIZATION, limit=4)
    assert [row.event.sequence for row in page.rows] == [6, 5, 4, 3]
    rest = changes_of(ORGANIZATION, before=page.older, limit=4)
    assert [row.event.sequence for row in rest.rows] == [2, 1]
    assert rest.older is None
    assert len(changes_of(ORGANIZATION, action="app_password").rows) == 5
    assert len(changes_of(ORGANIZATION, action="app_password.created").rows) == 2
    assert len(changes_of(ORGANIZATION, actor="person3@customer.example").rows) == 1
    assert changes_of(ORGANIZATION, action="app%", actor="\x00").rows == []
    assert changes_of(ORGANIZATION + 1).rows == []
