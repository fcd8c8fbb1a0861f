"""The Floor: its counts, its judgement in words, and the rows behind each number."""

from datetime import timedelta
from html import unescape

from django.core.cache import cache
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.models import Organization
from relay.models import Recipient
from relay.ops.floor import floor_of
from relay.ops.troubles import GRAVE, NOTABLE, troubles_of
from tests.relay.ops.builders import (
    make_attempt,
    make_event,
    make_message,
    make_recipient,
    make_worker,
    use_hour,
)


def workers() -> None:
    make_worker("smtpd")
    make_worker("delivery")


def words() -> list[tuple[str, str]]:
    return [(trouble.level, trouble.text) for trouble in troubles_of(floor_of(now=timezone.now()))]


def test_nothing_is_wrong(db: None, operator: Client) -> None:
    """With both kinds of process alive and nothing waiting, the page says that nothing is wrong."""
    workers()
    assert words() == []
    assert b"Nothing is wrong." in operator.get(reverse("relay:ops_floor")).content


def test_no_process_reports(db: None) -> None:
    """Without smtpd and without delivery there are two grave troubles, each with its consequence."""
    assert [level for level, _text in words()] == [GRAVE, GRAVE]
    assert {text.partition(":")[0] for _level, text in words()} == {
        "No smtpd process reports",
        "No delivery worker reports",
    }


def test_worker_is_silent_after_15_seconds(db: None) -> None:
    """A process counts as alive for 15 seconds after its last heartbeat, and not for 17."""
    workers()
    make_worker("smtpd", silent=timedelta(seconds=14), name="smtpd@test:2")
    assert words() == []
    make_worker("smtpd", silent=timedelta(seconds=17), name="smtpd@test:3")
    assert [(level, text[:12]) for level, text in words()] == [(NOTABLE, "smtpd@test:3")]


def test_replaced_worker_is_forgotten(db: None) -> None:
    """A process that has been silent for longer than ten minutes is neither shown nor a trouble."""
    workers()
    make_worker("delivery", silent=timedelta(minutes=11), name="delivery@test:9")
    assert words() == []
    assert "delivery@test:9" not in {worker.name for worker in floor_of(now=timezone.now()).workers}


def test_counts_by_period(alice_org: Organization) -> None:
    """Accepted, delivered and failed recipients and refused logins are counted over 5 minutes, 1 and 24 hours."""
    now = timezone.now()
    for ago, count in (
        (timedelta(minutes=2), 3),
        (timedelta(minutes=30), 5),
        (timedelta(hours=5), 7),
        (timedelta(days=2), 11),
    ):
        message = make_message(alice_org, ago=ago, recipient_count=count)
        make_recipient(message, state=Recipient.State.DELIVERED, settled_at=now - ago)
        make_event(ago=ago, count=count)
    make_recipient(message, state=Recipient.State.FAILED, settled_at=now - timedelta(minutes=20))
    floor = floor_of(now=now)
    assert floor.flow("accepted").counts == (3, 8, 15)
    assert floor.flow("delivered").counts == (1, 2, 3)
    assert floor.flow("failed").counts == (0, 1, 1)
    assert floor.flow("refused").counts == (3, 8, 15)
    assert floor.flow("logins").counts == (0, 0, 0)
    assert [(each.reason, each.counts) for each in floor.refused] == [("unknown_user", (3, 8, 15))]


def test_day_is_counted_again_after_a_while(alice_org: Organization) -> None:
    """The day's count may be half a minute old, but is never less than the hour's, which is always counted anew."""
    make_message(alice_org, ago=timedelta(hours=5), recipient_count=7)
    assert floor_of(now=timezone.now()).flow("accepted").counts == (0, 0, 7)
    make_message(alice_org, ago=timedelta(hours=6), recipient_count=1)
    make_message(alice_org, recipient_count=9)
    assert floor_of(now=timezone.now()).flow("accepted").counts == (9, 9, 9)
    cache.clear()
    assert floor_of(now=timezone.now()).flow("accepted").counts == (9, 9, 17)


def test_queue_depth_and_age(alice_org: Organization) -> None:
    """The queue counts what is queued, due, leased and held, and how long the oldest due one has waited."""
    now = timezone.now()
    message = make_message(alice_org, ago=timedelta(seconds=400))
    make_recipient(message, due_at=now - timedelta(hours=1))  # a head start is no delay
    make_recipient(message, due_at=now - timedelta(seconds=5), leased_until=now + timedelta(seconds=60))
    make_recipient(message, due_at=now + timedelta(hours=1))
    make_recipient(message, state=Recipient.State.HELD)
    make_recipient(message, state=Recipient.State.DELIVERED, settled_at=now, due_at=now - timedelta(hours=9))
    queue = floor_of(now=now).queue
    oldest = round(queue.oldest_due_seconds or 0, -1)
    assert (queue.queued, queue.due, queue.leased, queue.held, oldest) == (3, 2, 1, 1, 400)
    workers()
    assert words() == [(GRAVE, "Mail waits: 2 recipients are due, the oldest for 6 minutes.")]


def test_failing_next_hop(alice_org: Organization) -> None:
    """A next hop that defers everything is grave and shows its last reply; one that also takes mail is notable."""
    workers()
    recipient = make_recipient(make_message(alice_org), state=Recipient.State.CANCELLED)
    for hop in ("mx.example.net", "mx.example.org", "mx.example.com"):
        make_attempt(
            recipient, "delivered" if hop == "mx.example.com" else "deferred", next_hop=hop, code=421, text="busy"
        )
    make_attempt(recipient, "delivered", next_hop="mx.example.org", ago=timedelta(minutes=2))
    make_attempt(recipient, "failed", next_hop="mx.example.com", ago=timedelta(hours=2))
    floor = floor_of(now=timezone.now())
    assert [(hop.name, hop.delivered, hop.deferred, hop.failed) for hop in floor.next_hops] == [
        ("mx.example.net", 0, 1, 0),
        ("mx.example.org", 1, 1, 0),
    ]
    assert floor.next_hops[0].last_reply == "421 busy"
    assert [(level, text.split()[0]) for level, text in words()] == [
        (GRAVE, "mx.example.net"),
        (NOTABLE, "mx.example.org"),
    ]


def test_customers_near_and_at_their_limit(alice_org: Organization, bob_org: Organization) -> None:
    """From 80 % on a customer is listed, the fullest first; at 100 % it is a trouble."""
    workers()
    use_hour(alice_org, 799)
    assert floor_of(now=timezone.now()).near_limit == []
    use_hour(bob_org, 1000)
    near = floor_of(now=timezone.now()).near_limit
    assert [(each.organization, each.hour.used, each.hour.limit) for each in near] == [(bob_org, 1000, 1000)]
    assert words() == [(NOTABLE, "Bob Ltd has used all of its hour: 1000 of 1000 emails.")]


def test_used_hour_passes(alice_org: Organization) -> None:
    """What was accepted 61 minutes ago is not counted against the hour any more."""
    now = timezone.now()
    use_hour(alice_org, 1000, now=now - timedelta(minutes=61))
    assert floor_of(now=now).near_limit == []


def test_pending_customer_is_listed(alice_org: Organization, operator: Client) -> None:
    """A customer who waits to be activated is named with a link, and is no trouble."""
    workers()
    Organization.objects.filter(pk=alice_org.pk).update(state=Organization.State.PENDING)
    page = operator.get(reverse("relay:ops_floor")).content.decode()
    assert f'href="{reverse("relay:ops_customer", args=[alice_org.pk])}">Alice Works' in page
    assert words() == []


def test_guessing_and_unchecked_logins(db: None) -> None:
    """Fifty refused logins in 5 minutes with none accepted are notable; one that could not be checked is grave."""
    workers()
    make_event(count=50)
    make_event(result="error", reason="unavailable")
    assert [level for level, _text in words()] == [GRAVE, NOTABLE]


def test_every_number_leads_to_its_rows(alice_org: Organization, operator: Client) -> None:
    """The addresses behind the Floor's numbers list exactly the rows that were counted."""
    now = timezone.now()
    message = make_message(alice_org)
    make_recipient(message, "late@example.net", due_at=now - timedelta(minutes=9))
    make_recipient(message, "gone@example.net", state=Recipient.State.DELIVERED, settled_at=now - timedelta(minutes=2))
    make_recipient(message, "before@example.net", state=Recipient.State.DELIVERED, settled_at=now - timedelta(hours=3))
    page = unescape(operator.get(reverse("relay:ops_floor")).content.decode())
    for query, shown in (("due=1", {"late"}), ("state=delivered&settled=1&period=5m", {"gone"})):
        address = f"{reverse('relay:ops_messages')}?{query}"
        assert f'href="{address}"' in page
        listed = operator.get(address).content.decode()
        assert {name for name in ("late", "gone", "before") if f"{name}@example.net" in listed} == shown


def test_live_part_is_a_fragment(db: None, operator: Client) -> None:
    """The page fetches its part again by itself unless paused; the part is no whole page."""
    page = operator.get(reverse("relay:ops_floor")).content.decode()
    assert f'hx-get="{reverse("relay:ops_floor_live")}"' in page
    assert "hx-get" not in operator.get(reverse("relay:ops_floor"), {"paused": "1"}).content.decode()
    part = operator.get(reverse("relay:ops_floor_live")).content.decode()
    assert "What is wrong now" in part
    assert "<html" not in part
