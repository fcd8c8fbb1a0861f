"""relay.webhooks.sender: what is posted, what counts as taken, and what becomes of what is not."""

import json
import socket
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest
from django.core import mail
from django.utils import timezone
from standardwebhooks import Webhook, WebhookVerificationError

from accounts.models import Organization
from audit.changes import SYSTEM
from audit.models import ChangeEvent
from relay.webhooks import endpoints, outbox, queue
from relay.webhooks.models import Delivery, Endpoint
from relay.webhooks.posting import Poster, event_name
from relay.webhooks.queue import RETRY_SECONDS
from tests.relay.outside_server import OutsideServer
from tests.relay.webhooks.conftest import HOST, Names
from tests.relay.webhooks.running import Quiet, make_due, post_all, queue_room

pytestmark = pytest.mark.django_db
Make = Callable[..., Endpoint]


def only() -> Delivery:
    return Delivery.objects.get()


def test_an_event_is_posted_signed_and_kept_in_the_log(hook: OutsideServer, endpoint: Make) -> None:
    """Standard Webhooks' headers verify with its library; the body has id, type, timestamp and data, nothing else."""
    row = endpoint()
    written = outbox.write_test(row)
    post_all()
    (body,), (headers,) = hook.bodies, hook.headers
    told = Webhook(row.text).verify(body, headers)  # type: ignore[attr-defined]
    assert list(told) == ["id", "type", "timestamp", "data"]
    assert (told["type"], told["id"], headers["webhook-id"]) == ("webhook.test", *[event_name(written.event_id)] * 2)
    assert datetime.fromisoformat(told["timestamp"]).tzinfo == UTC
    assert (headers["content-type"], headers["user-agent"]) == ("application/json", "Gatepost")
    with pytest.raises(WebhookVerificationError):
        Webhook(endpoints._new_secret()).verify(body, headers)
    done = only()
    assert (done.state, done.attempts, done.last_status, done.lease) == ("delivered", 1, 200, None)
    (kept,) = done.tries
    assert (kept["status"], kept["words"], kept["response"]) == (200, "", "thanks")
    row.refresh_from_db()
    assert row.last_success_at is not None


def test_after_a_rotation_both_secrets_verify_until_the_overlap_ends(hook: OutsideServer, endpoint: Make) -> None:
    """Two signatures, separated by a space; one when the overlap is over or was ended."""
    row = endpoint()
    new = endpoints.rotate_secret(row, actor=SYSTEM).secret
    outbox.write_test(row)
    post_all()
    for secret in (row.text, new):  # type: ignore[attr-defined]
        Webhook(secret).verify(hook.bodies[0], hook.headers[0])
    Endpoint.objects.update(previous_secret_until=timezone.now() - timedelta(seconds=1))
    outbox.write_test(row)
    post_all()
    assert len(hook.headers[0]["webhook-signature"].split()) == 2
    assert len(hook.headers[1]["webhook-signature"].split()) == 1
    Webhook(new).verify(hook.bodies[1], hook.headers[1])
    with pytest.raises(WebhookVerificationError):
        Webhook(row.text).verify(hook.bodies[1], hook.headers[1])  # type: ignore[attr-defined]
    newest = endpoints.rotate_secret(row, actor=SYSTEM)
    endpoints.end_overlap(row, actor=SYSTEM)
    outbox.write_test(row)
    post_all()
    assert len(hook.headers[2]["webhook-signature"].split()) == 1
    Webhook(newest.secret).verify(hook.bodies[2], hook.headers[2])


def test_500_then_200_is_two_tries_of_one_event(hook: OutsideServer, endpoint: Make) -> None:
    """The second under the same id with the same body; the wait before it is the schedule's first."""
    row = endpoint()
    outbox.write_test(row)
    hook.answers["/hook"] = (500, {}, b"no")
    post_all()
    first = only()
    assert (first.state, first.attempts, first.last_status) == ("waiting", 1, 500)
    assert 4 < (first.due_at - timezone.now()).total_seconds() < 6
    row.refresh_from_db()
    assert (row.state, row.failures, row.last_problem) == ("failing", 1, "It answered 500.")
    hook.answers["/hook"] = (204, {}, b"")
    make_due()
    post_all()
    assert (only().state, [each["status"] for each in only().tries]) == ("delivered", [500, 204])
    assert hook.bodies[0] == hook.bodies[1]
    assert hook.headers[0]["webhook-id"] == hook.headers[1]["webhook-id"]
    row.refresh_from_db()
    assert (row.state, row.failures, row.failing_since) == ("active", 0, None)


def test_it_is_given_up_after_three_days_of_tries(hook: OutsideServer, endpoint: Make) -> None:
    """Ten tries, each later than the one before; an old one that hardly had a turn is given up too."""
    hook.answers["/hook"] = (500, {}, b"")
    row = endpoint()
    outbox.write_test(row)
    waits = []
    for _number in range(len(RETRY_SECONDS)):
        make_due()
        post_all()
        waits.append((only().due_at - timezone.now()).total_seconds())
    assert only().state == "waiting"
    assert waits == sorted(waits)
    assert timedelta(days=3) < timedelta(seconds=sum(RETRY_SECONDS)) < timedelta(days=3, hours=6)
    make_due()
    post_all()
    assert (only().state, only().attempts, len(hook.bodies)) == ("failed", 10, 10)
    Delivery.objects.all().delete()
    outbox.write_test(row)
    Delivery.objects.update(created_at=timezone.now() - queue.AGE_MAX - timedelta(seconds=1))
    make_due()
    post_all()
    assert (only().state, only().attempts) == ("failed", 1)


def test_410_disables_the_endpoint_at_once(hook: OutsideServer, endpoint: Make) -> None:
    """With a mail to who answers for it, a row in the change log, and no further post."""
    row = endpoint()
    hook.answers["/hook"] = (410, {}, b"")
    outbox.write_test(row)
    post_all()
    row.refresh_from_db()
    assert (row.state, row.disabled_why) == ("disabled", "gone")
    assert only().state == "failed"
    assert ChangeEvent.objects.get(action="webhook.disabled").actor == "system"
    (told,) = mail.outbox
    assert told.to == ["alice@alice.example"]
    assert "Webhook endpoint disabled" in told.subject
    assert "410 Gone" in told.body
    outbox.write_test(row)
    post_all()
    assert len(hook.bodies) == 1


def test_three_days_without_a_success_disable_it(hook: OutsideServer, endpoint: Make) -> None:
    """Not earlier, and not after a few tries alone; who enables it again gets what waited."""
    row = endpoint()
    hook.answers["/hook"] = (503, {}, b"")
    for _number in range(9):
        outbox.write_test(row)
    make_due()
    post_all()
    Endpoint.objects.update(failing_since=timezone.now() - queue.FAILING + timedelta(minutes=1), failures=20)
    make_due()
    post_all()
    row.refresh_from_db()
    assert row.state == "failing"
    Endpoint.objects.update(failing_since=timezone.now() - queue.FAILING - timedelta(minutes=1))
    make_due()
    post_all()
    row.refresh_from_db()
    assert (row.state, row.disabled_why) == ("disabled", "failing")
    (told,) = mail.outbox
    assert "It answered 503." in told.body
    hook.answers["/hook"] = (200, {}, b"")
    endpoints.enable_endpoint(row, actor=SYSTEM)
    make_due()
    post_all()
    assert not Delivery.objects.exclude(state="delivered").exists()


def test_a_failing_endpoint_is_left_alone_for_longer_and_longer(hook: OutsideServer, endpoint: Make) -> None:
    """A pause after three failures, up to five minutes; Retry-After is heard; a thousand that wait cost one try."""
    row = endpoint()
    hook.answers["/hook"] = (500, {}, b"")
    Delivery.objects.bulk_create(
        Delivery(endpoint=row, organization_id=row.organization_id, type="webhook.test") for _number in range(500)
    )
    post_all()
    assert len(hook.asked) <= 8  # of 500 that are due
    row.refresh_from_db()
    assert row.paused_until is not None
    assert 3 < (row.paused_until - timezone.now()).total_seconds() < 100
    Endpoint.objects.update(failures=100, paused_until=None)
    post_all()
    row.refresh_from_db()
    assert 200 < (row.paused_until - timezone.now()).total_seconds() < 340
    Endpoint.objects.update(failures=0, paused_until=None)
    hook.answers["/hook"] = (429, {"Retry-After": "1200"}, b"")
    post_all()
    row.refresh_from_db()
    assert 1100 < (row.paused_until - timezone.now()).total_seconds() < 1201


def test_what_an_endpoint_answers_is_kept_in_part_and_without_secrets(hook: OutsideServer, endpoint: Make) -> None:
    """1 KiB of it; app passwords, keys and webhook secrets masked; no markup, NUL or bad UTF-8 hurts."""
    row = endpoint()
    hook.answers["/hook"] = (
        400,
        {},
        b"gp_0123456789012345678901 gpk_abcdefgh whsec_C2FVsBQIhrscChlQIMV+b5sSYob7oD8w\n<script>\0\xff</script>\n"
        + b"x" * 100_000,
    )
    outbox.write_test(row)
    post_all()
    text = only().tries[0]["response"]
    assert "0123456789" not in text
    assert "abcdefgh" not in text
    assert "C2FV" not in text
    assert len(text) <= 1024
    assert "<script>" in text  # the page escapes it
    assert "\0" not in text


def slow(handler: BaseHTTPRequestHandler) -> None:
    """One octet now and then, never whole headers."""
    for _drop in range(100):
        handler.wfile.write(b"H")
        time.sleep(0.1)


def test_redirects_are_no_success_and_lead_nowhere(
    hook: OutsideServer, endpoint: Make, tmp_path: Any, settings: Any
) -> None:
    """To the metadata address, to loopback, to a good path: nobody is asked there."""
    below = tmp_path / "inside"
    below.mkdir()
    inside = OutsideServer(below, "127.0.0.1", address="127.0.0.1")
    row = endpoint()
    for location in (
        "http://169.254.169.254/latest/meta-data/",
        inside.url(host="127.0.0.1"),
        hook.url("/elsewhere", host=HOST),
    ):
        hook.answers["/hook"] = (307, {"Location": location}, b"")
        Delivery.objects.all().delete()
        outbox.write_test(row)
        post_all()
        (kept,) = only().tries
        assert (only().state, kept["status"]) == ("waiting", 307)
        assert "Redirects are not followed" in kept["words"]
    assert set(hook.asked) == {"/hook"}
    assert inside.asked == []
    inside.stop()


def test_a_name_that_leads_inside_is_not_gone_to(hook: OutsideServer, endpoint: Make, names: Names) -> None:
    """First public, then private: what was saved is judged again at each connection, and the address that was judged
    is the one that is connected to."""
    names({"meta.example": [["169.254.169.254"]], "rebind.example": [["127.0.0.2"], ["127.0.0.2"], ["127.0.0.1"]]})
    with pytest.raises(endpoints.EndpointRefused, match="inside a network"):
        endpoint(host="meta.example")
    names({"meta.example": [["127.0.0.2"], ["169.254.169.254"]]})
    rebinding, meta = endpoint(host="rebind.example"), endpoint(host="meta.example")
    for row in (rebinding, meta):
        outbox.write_test(row)
    post_all()  # the certificate is another's, but nobody inside is asked either
    make_due()
    post_all()
    first, second = Delivery.objects.get(endpoint=rebinding).tries
    assert "certificate" in first["words"]
    assert "inside a network" in second["words"]
    assert {each["words"] for each in Delivery.objects.get(endpoint=meta).tries} == {second["words"]}
    assert hook.asked == []


def test_dead_slow_and_false_servers_fail_in_words(hook: OutsideServer, endpoint: Make, names: Names) -> None:
    """Nobody listens, one octet a second, a certificate of another name, a name that is not there: nothing of the
    network is told."""
    names({"other.example": [["127.0.0.2"]], "nowhere.example": [["127.0.0.2"]]})
    hook.answers["/slow"] = slow
    with socket.create_server(("127.0.0.2", 0)) as plain:
        port = plain.getsockname()[1]
    dead = endpoints.create_endpoint(
        Organization.objects.get(slug="alice-works"), url=f"https://{HOST}:{port}/", events=["accepted"], actor=SYSTEM
    ).endpoint
    for row in (dead, endpoint("/slow"), endpoint(host="other.example")):
        outbox.write_test(row)
    began = time.monotonic()
    post_all(seconds=0.5)
    assert time.monotonic() - began < 5
    words = {each.tries[0]["words"] for each in Delivery.objects.all()}
    assert any("could not be reached" in each for each in words)
    assert any("took too long" in each for each in words)
    assert any("certificate is not valid" in each for each in words)
    assert not Delivery.objects.exclude(state="waiting").exists()


def test_a_slow_endpoint_does_not_hold_up_the_others(
    hook: OutsideServer, endpoint: Make, bob_org: Organization
) -> None:
    """Fifty events of a good one are taken while five others hold on to what they were given; two each, not more."""
    released = threading.Event()

    def hold(handler: BaseHTTPRequestHandler) -> None:
        released.wait(10)

    hook.answers["/slow"] = hold
    slow_ones = [endpoint("/slow") for _number in range(5)]
    good = endpoint(organization=bob_org)
    for row, count in (*((each, 20) for each in slow_ones), (good, 50)):
        Delivery.objects.bulk_create(
            Delivery(endpoint=row, organization_id=row.organization_id, type="webhook.test") for _number in range(count)
        )
    sender, began = Quiet(seconds=10.0), time.monotonic()
    while Delivery.objects.filter(endpoint=good, state="delivered").count() < 50:
        assert time.monotonic() - began < 9
        sender._round()
    assert hook.asked.count("/slow") <= 2 * len(slow_ones)
    assert not Delivery.objects.filter(endpoint__in=slow_ones, attempts__gt=0).exists()
    released.set()
    sender._finish()
    assert not Delivery.objects.exclude(lease=None).exists()


def test_a_long_answer_of_a_success_is_a_success(hook: OutsideServer, endpoint: Make) -> None:
    """What comes after the status is not waited for: endless, or dripping."""

    def endless(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.0 200 OK\r\n\r\n")
        for _piece in range(1000):
            handler.wfile.write(b"x" * 1000)

    hook.answers["/hook"] = endless
    outbox.write_test(endpoint())
    post_all()
    assert (only().state, len(only().tries[0]["response"])) == ("delivered", 1024)


def test_a_lease_that_lapsed_is_taken_back_and_a_late_result_left_out(hook: OutsideServer, endpoint: Make) -> None:
    """A dead worker's delivery is posted by another, under the same id; what the dead one says later counts no more."""
    row = endpoint()
    outbox.write_test(row)
    lease, (job,) = queue.claim(queue_room())
    assert queue.claim(queue_room())[1] == []
    assert queue.recover() == 0
    Delivery.objects.update(leased_until=timezone.now() - timedelta(seconds=1))
    assert queue.recover() == 1
    post_all()
    late = Poster().post(job)
    queue.settle([queue.Done(job, lease, late)])
    assert (only().attempts, len(only().tries)) == (1, 1)
    assert hook.headers[0]["webhook-id"] == hook.headers[1]["webhook-id"]


def test_of_a_suspended_organization_nothing_is_posted(
    hook: OutsideServer, endpoint: Make, alice_org: Organization
) -> None:
    """It waits, and goes when the organization is active again."""
    row = endpoint()
    outbox.write_test(row)
    Organization.objects.filter(pk=alice_org.pk).update(state="suspended")
    assert queue.claim(queue_room())[1] == []
    Organization.objects.filter(pk=alice_org.pk).update(state="active")
    post_all()
    assert json.loads(hook.bodies[0])["type"] == "webhook.test"
    assert mail.outbox == []
