"""The pages and the API: what is shown once, what is refused, what a replay does, and what age deletes."""

import json
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from accounts.models import ApiKey, Organization, User
from audit.changes import SYSTEM
from audit.models import ChangeEvent
from relay.models import SmtpUser
from relay.sealed import opened
from relay.webhooks import endpoints, outbox, replay, retention
from relay.webhooks.endpoints import ENDPOINTS_MAX
from relay.webhooks.models import Delivery, Endpoint
from tests.relay.api.conftest import caller
from tests.relay.outside_server import OutsideServer
from tests.relay.webhooks.running import post_all

pytestmark = pytest.mark.django_db
NEW = "/webhooks/new/"
URL = "https://hooks.alice.example/in?token=s3cret"


@pytest.fixture
def browser(alice: User, alice_org: Organization, client_for: Any) -> Client:
    found: Client = client_for(alice)
    return found


def make(browser: Client, **fields: Any) -> Any:
    token = browser.get(NEW).context["token"]
    return browser.post(NEW, {"url": URL, "events": ["bounced", "delivered"], "token": token, **fields})


def previous(row: Endpoint) -> str:
    assert row.previous_secret is not None
    return opened(bytes(row.previous_secret))


def test_the_secret_is_shown_once(browser: Client, alice_org: Organization) -> None:
    """On the page that answers the form, kept by nobody; sealed at rest; a second sending makes nothing."""
    token = browser.get(NEW).context["token"]
    made = browser.post(NEW, {"url": URL, "events": ["bounced"], "token": token})
    (secret,) = set(re.findall(r"whsec_[0-9A-Za-z+/=]{44}", made.content.decode()))
    assert "no-store" in made.headers["Cache-Control"]
    row = Endpoint.objects.get()
    assert opened(bytes(row.secret)) == secret
    assert secret.encode() not in bytes(row.secret)
    page = browser.get(f"/webhooks/{row.pk}/").content.decode()
    assert secret not in page
    assert secret not in browser.get("/webhooks/").content.decode()
    assert browser.post(NEW, {"url": URL, "events": ["bounced"], "token": token}).status_code == 302
    assert Endpoint.objects.count() == 1
    event = ChangeEvent.objects.get(action="webhook.created")
    assert secret not in str(event.values)
    assert "s3cret" not in event.subject + str(event.values)  # the change log is for good, and for more people


def test_a_rotation_shows_the_new_one_once(browser: Client, alice_org: Organization) -> None:
    """A form that was sent twice rotates once: else the secret that receivers know would be lost."""
    make(browser)
    row = Endpoint.objects.get()
    first = opened(bytes(row.secret))
    values = dict(browser.get(f"/webhooks/{row.pk}/rotate/").context["question"].values)
    made = browser.post(f"/webhooks/{row.pk}/rotate/", values)
    row.refresh_from_db()
    assert opened(bytes(row.secret)) in made.content.decode()
    assert previous(row) == first
    assert browser.post(f"/webhooks/{row.pk}/rotate/", values).status_code == 302
    row.refresh_from_db()
    assert previous(row) == first
    assert "End the old secret" in browser.get(f"/webhooks/{row.pk}/").content.decode()
    browser.post(f"/webhooks/{row.pk}/end-overlap/")
    row.refresh_from_db()
    assert row.previous_secret is None


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"url": "http://hooks.alice.example/"}, "must begin with https"),
        ({"url": "https://user:pw@hooks.alice.example/"}, "username or a password"),
        ({"url": "https://hooks.alice.example:25/"}, "port must be 443"),
        ({"url": "https://127.0.0.1/"}, "inside a network"),
        ({"url": "https://169.254.169.254/latest/meta-data/"}, "inside a network"),
        ({"url": "https://[::1]/"}, "inside a network"),
        ({"url": "https://[::ffff:10.0.0.1]/"}, "inside a network"),
        ({"url": "https://localhost/"}, "inside a network"),
        ({"url": "https://x.example/" + "a" * 1000}, "at most 1000"),
        ({"events": []}, "at least one event"),
        ({"events": ["everything"]}, "not one of the available"),
        ({"smtp_user_ids": ["999999"]}, "not one of the available"),
        ({"description": "a\x00b"}, "Null characters"),
    ],
)
def test_what_is_refused_in_words(browser: Client, fields: dict[str, Any], words: str) -> None:
    """Beside the field, and nothing is made."""
    answer = make(browser, **fields)
    assert answer.status_code == 422
    assert words in answer.content.decode()
    assert not Endpoint.objects.exists()


def test_an_organization_has_so_many_at_most(browser: Client, alice_org: Organization) -> None:
    """The next one is refused, until one is deleted."""
    for number in range(ENDPOINTS_MAX):
        url = f"https://hooks.alice.example/{number}"
        endpoints.create_endpoint(alice_org, url=url, events=["bounced"], actor=SYSTEM)
    assert "endpoints at most" in make(browser).content.decode()
    endpoints.delete_endpoint(Endpoint.objects.first(), actor=SYSTEM)  # type: ignore[arg-type]
    assert make(browser).status_code == 200


def test_the_log_shows_payload_tries_and_answers(
    browser: Client, hook: OutsideServer, endpoint: Callable[..., Endpoint]
) -> None:
    """The test button's event with what came back, escaped; it is posted again from its page."""
    row = endpoint()
    hook.answers["/hook"] = (500, {}, b"<script>alert(1)</script>")
    shown = browser.post(f"/webhooks/{row.pk}/test/", follow=True).content.decode()
    assert "not posted yet" in shown
    post_all()
    delivery = Delivery.objects.get()
    page = browser.get(f"/webhooks/{row.pk}/deliveries/{delivery.pk}/").content.decode()
    assert "webhook.test" in page
    assert "&lt;script&gt;alert(1)" in page
    assert "It answered 500." in page
    listed = browser.get(f"/webhooks/{row.pk}/").content.decode()
    assert "Failing" in listed
    assert "It answered 500." in listed
    hook.answers["/hook"] = (200, {}, b"")
    browser.post(f"/webhooks/{row.pk}/deliveries/{delivery.pk}/replay/")
    post_all()
    delivery.refresh_from_db()
    assert (delivery.state, len(delivery.tries), len(set(hook.bodies))) == ("delivered", 2, 1)


def test_all_that_failed_is_replayed_since_a_time(
    browser: Client, hook: OutsideServer, endpoint: Callable[..., Endpoint]
) -> None:
    """Older failures, successes and what is posted at this moment stay; a disabled endpoint replays nothing."""
    row = endpoint()
    now = timezone.now()
    for state, hours in (("failed", 1), ("failed", 2), ("failed", 30), ("delivered", 1)):
        written = outbox.write_test(row)
        Delivery.objects.filter(pk=written.pk).update(state=state, created_at=now - timedelta(hours=hours), attempts=10)
    shown = browser.post(f"/webhooks/{row.pk}/replay/", {"hours": "24"}, follow=True).content.decode()
    assert "2 events are posted again" in shown
    post_all()
    assert len(hook.bodies) == 2
    assert Delivery.objects.filter(state="failed").count() == 1
    assert (ChangeEvent.objects.get(action="webhook.replayed").values or {})["count"] == 2
    browser.post(f"/webhooks/{row.pk}/disable/")
    row.refresh_from_db()
    with pytest.raises(replay.ReplayRefused):
        replay.replay_failed(row, since=now - timedelta(days=90), actor=SYSTEM)


def test_pages_of_the_log(browser: Client, endpoint: Callable[..., Endpoint]) -> None:
    """Fifty to a page, newest first, by state; nonsense in the address is no error."""
    row = endpoint()
    Delivery.objects.bulk_create(
        Delivery(endpoint=row, organization_id=row.organization_id, type="webhook.test") for _number in range(120)
    )
    seen, address = 0, f"/webhooks/{row.pk}/"
    for _page in range(3):
        context = browser.get(address).context
        seen += len(context["deliveries"])
        address = f"/webhooks/{row.pk}/{context['older']}"
    assert seen == 120
    for query in ("state=failed", "state=x&before=y", f"before={2**70}", "before=-1"):
        assert browser.get(f"/webhooks/{row.pk}/?{query}").status_code == 200


def test_bob_sees_nothing_of_it(
    endpoint: Callable[..., Endpoint], bob: User, bob_org: Organization, client_for: Any
) -> None:
    """Nor can his endpoint name alice's SMTP users."""
    row = endpoint()
    bobs = client_for(bob)
    for path in ("", "rotate/", "delete/", "change/"):
        assert bobs.get(f"/webhooks/{row.pk}/{path}").status_code == 404


# --- API -------------------------------------------------------------------------------------------------------------


def test_the_api_makes_changes_replays_and_deletes(
    alice_org: Organization, shop: SmtpUser, hook: OutsideServer, key_with: Callable[..., str]
) -> None:
    """The secret is in the answers that make it alone; deliveries come a page at a time with payload and tries."""
    call: Any = caller(key_with(ApiKey.Scope.WEBHOOKS_READ, ApiKey.Scope.WEBHOOKS_WRITE))
    body = {"url": hook.url("/hook", host="hooks.alice.example"), "events": ["bounced"], "smtp_user_ids": [shop.pk]}
    made = call("POST", "/webhooks", body)
    assert made.status_code == 201
    path = f"/webhooks/{made.json()['id']}"
    assert made.json()["secret"].startswith("whsec_")
    assert "secret" not in call("GET", path).json()
    changed = call("PATCH", path, {"events": ["accepted", "limit.near"]}).json()
    assert (changed["events"], changed["smtp_user_ids"]) == (["accepted", "limit.near"], [shop.pk])
    rotated = call("POST", f"{path}/rotate-secret").json()
    assert rotated["secret"] != made.json()["secret"]
    assert rotated["previous_secret_until"]
    assert call("POST", f"{path}/end-overlap").json()["previous_secret_until"] is None
    delivery = call("POST", f"{path}/test").json()
    assert (delivery["state"], delivery["payload"]["id"]) == ("waiting", delivery["event_id"])
    call("POST", f"{path}/test")
    post_all()
    first = call("GET", f"{path}/deliveries", limit=1).json()
    second = call("GET", f"{path}/deliveries", limit=1, cursor=first["next_cursor"]).json()
    assert [each["items"][0]["state"] for each in (first, second)] == ["delivered", "delivered"]
    assert (second["next_cursor"], second["items"][0]["id"]) == (None, delivery["id"])
    assert second["items"][0]["tries"][0]["status"] == 200
    assert call("POST", f"{path}/deliveries/{delivery['id']}/replay").status_code == 202
    assert call("POST", f"{path}/replay", {"since": "2026-01-01T00:00:00Z"}).json() == {"count": 0}
    assert call("POST", f"{path}/disable").json()["disabled_why"] == "member"
    assert call("POST", f"{path}/test").status_code == 409
    assert call("POST", f"{path}/enable").json()["state"] == "active"
    assert call("DELETE", path).status_code == 204
    assert call("GET", path).status_code == 404
    assert call("GET", f"{path}/deliveries").status_code == 404


@pytest.mark.parametrize(
    "body",
    [
        {"url": "https://127.0.0.1/", "events": ["bounced"]},
        {"url": "https://h.example/", "events": []},
        {"url": "https://h.example/", "events": ["nonsense"]},
        {"url": "https://h.example/", "events": ["bounced"], "smtp_user_ids": [2**70]},
        {"url": "https://h.example/", "events": ["bounced"], "smtp_user_ids": [0]},
        {"url": "https://h.example/\u0000", "events": ["bounced"]},
        {"url": "https://h.example/", "events": ["bounced"], "secret": "whsec_mine"},
        {"url": "https://h.example/", "events": ["bounced"], "description": "x" * 201},
    ],
)
def test_the_api_refuses_with_a_problem(alice_org: Organization, key_with: Callable[..., str], body: Any) -> None:
    """422 for every value that is none."""
    answer = caller(key_with())("POST", "/webhooks", body)
    assert answer.status_code == 422, answer.content
    assert json.loads(answer.content)["status"] == 422
    assert json.loads(caller(key_with())("GET", "/webhooks").content)["items"] == []


# --- Retention -------------------------------------------------------------------------------------------------------


def test_the_log_goes_by_age_and_a_deleted_endpoint_with_all_of_it(endpoint: Callable[..., Endpoint]) -> None:
    """Successes after 7 days, others after 30, each not a day earlier."""
    row, gone = endpoint(), endpoint()
    now = timezone.now()
    for state, days in (("delivered", 6.9), ("delivered", 7.1), ("failed", 29.9), ("failed", 30.1), ("waiting", 30.1)):
        written = outbox.write_test(row)
        Delivery.objects.filter(pk=written.pk).update(state=state, created_at=now - timedelta(days=days))
    outbox.write_test(gone)
    endpoints.delete_endpoint(gone, actor=SYSTEM)
    assert bytes(Endpoint.objects.get(pk=gone.pk).secret) == b""
    assert retention.delete_old(now) == 4
    assert sorted(Delivery.objects.values_list("state", flat=True)) == ["delivered", "failed"]
    assert list(Endpoint.objects.all()) == [row]
