"""Test my connection: each failure in words, what stands in the way beforehand, and who sees what."""

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from accounts.models import Organization
from audit.changes import SYSTEM
from audit.models import Reason
from audit.record import attempt, record_auth_event
from relay import connection_tests
from relay.connection_commands import commands_for
from relay.connection_tests import SILENT, WATCHED, State, TooManyTests, begin, watch
from relay.credentials import create_app_password, create_smtp_user, disable_smtp_user
from relay.models import Ban, ConnectionTest, DoorFailure, SmtpUser
from relay.networks import add_network
from relay.snippets import Door
from tests.relay.conftest import make_message, make_refusal

pytestmark = pytest.mark.django_db
IP, OWN = "203.0.113.7", "127.0.0.1"


@pytest.fixture
def test(shop: SmtpUser) -> ConnectionTest:
    create_app_password(shop, name="web", actor=SYSTEM)
    return begin(shop, ip=IP, actor=SYSTEM)


def tried(test: ConnectionTest, reason: str = "wrong_password", **given: Any) -> None:
    result = "accepted" if reason == Reason.OK else "refused"
    values = {"ip": IP, "port": 587, "worker": "w", "mechanism": "PLAIN", "tls_version": "TLSv1.3",
              "username_given": test.smtp_user.username, "organization_id": test.organization_id,
              "smtp_user_id": test.smtp_user_id}  # fmt: skip
    record_auth_event(attempt(result=result, reason=reason, **{**values, **given}))


def failed(cause: str, **given: Any) -> None:
    now = timezone.now()
    values = {"place": IP, "port": 465, "count": 1, "first_at": now, "last_at": now, "worker": "w", **given}
    DoorFailure.objects.create(reference=f"{DoorFailure.objects.count():010d}", cause=cause, **values)


def states(test: ConnectionTest, *, own: str = IP) -> list[str]:
    return [step.state.value for step in watch(test, own=own).steps]


def words(test: ConnectionTest, step: int) -> str:
    found = watch(test, own=IP).steps[step]
    assert found.state == State.FAILED
    return f"{found.text} {found.fix}"


def test_silence_becomes_a_blocked_port(test: ConnectionTest) -> None:
    """At first it is only waited; after a while the page says what silence means."""
    assert states(test) == ["waiting"] * 4
    assert not watch(test, own=IP).steps[0].fix
    late = watch(test, own=IP, now=test.started_at + SILENT + timedelta(seconds=1))
    assert "firewall" in str(late.steps[0].fix)
    assert watch(test, own=IP, now=test.started_at + WATCHED + timedelta(seconds=1)).is_over


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        (Reason.WRONG_PASSWORD, "none of its app passwords is the one"),
        (Reason.UNKNOWN_USER, "No SMTP user has the username"),
        (Reason.NETWORK, "outside the allowed networks"),
        (Reason.REVOKED, "has been revoked"),
    ],
)
def test_refused_sign_in_is_told_with_its_true_reason(test: ConnectionTest, reason: str, told: str) -> None:
    """What the public answer hides, its owner sees; a wrong name from the address counts as well."""
    unknown = {"smtp_user_id": None, "username_given": "shp.alice-works"} if reason == Reason.UNKNOWN_USER else {}
    tried(test, reason, **unknown)
    assert states(test) == ["done", "done", "failed", "waiting"]
    assert told in words(test, 2)


@pytest.mark.parametrize(
    ("cause", "step", "told"),
    [
        ("tls_version", 1, "TLS 1.2 is the least"),
        ("certificate", 1, "did not trust the certificate"),
        ("plain_on_tls", 1, "implicit TLS"),
        ("tls_on_plain", 1, "STARTTLS"),
        ("connections", 0, "too many connections"),
    ],
)
def test_what_breaks_off_before_a_name(test: ConnectionTest, cause: str, step: int, told: str) -> None:
    """Of an address of theirs; a later connection that gets on makes it history."""
    failed(cause)
    assert told in words(test, step)
    tried(test, Reason.OK)
    assert states(test) == ["done", "done", "done", "waiting"]


def test_cut_off_at_the_greeting_is_a_ban(test: ConnectionTest) -> None:
    """421 to a banned address names nobody, and is the first step's."""
    tried(test, Reason.BANNED, organization_id=None, smtp_user_id=None, username_given="", tls_version="")
    assert "banned" in words(test, 0).lower()


def test_anothers_address_is_not_told_of(test: ConnectionTest) -> None:
    """Somebody who types a stranger's address learns nothing of what fails there."""
    failed("tls_version")
    seen = watch(test, own="198.51.100.1")
    assert [step.state for step in seen.steps] == [State.WAITING] * 4
    assert not seen.is_theirs


def test_what_was_before_the_test_does_not_count(test: ConnectionTest) -> None:
    """Yesterday's sign-in proves nothing about today."""
    tried(test, Reason.OK, at=test.started_at - timedelta(minutes=1))
    make_message(test.organization, smtp_user=test.smtp_user, received_at=test.started_at - timedelta(minutes=1))
    assert states(test) == ["waiting"] * 4
    assert ConnectionTest.objects.get().outcome == ""


def test_the_whole_way(test: ConnectionTest) -> None:
    """Signed in, refused at a sender, accepted: each step as it comes; the best stays for the scorecard."""
    tried(test, Reason.OK)
    assert states(test) == ["done", "done", "done", "waiting"]
    assert ConnectionTest.objects.get().outcome == "signed_in"
    make_refusal(test.smtp_user)
    assert "may not send as this address" in words(test, 3)
    make_message(test.organization, smtp_user=test.smtp_user)
    seen = watch(test, own=IP)
    assert seen.has_worked and seen.is_over
    assert ConnectionTest.objects.get().outcome == "accepted"


def test_obstacles_are_told_before_anything_comes(test: ConnectionTest, shop: SmtpUser) -> None:
    """Lists that do not hold the address, no app password, a disabled user, a ban, a suspended organization."""
    assert watch(test, own=IP).obstacles == ()
    add_network(shop.organization, cidr="192.0.2.0/24", actor=SYSTEM)
    add_network(shop.organization, cidr="203.0.113.0/24", smtp_user=shop, actor=SYSTEM)
    Ban.objects.create(cidr="203.0.113.0/24", ends_at=timezone.now() + timedelta(hours=1), worker="w")
    shop.app_passwords.update(revoked_at=timezone.now())
    disable_smtp_user(shop, actor=SYSTEM)
    Organization.objects.update(state="suspended")
    fresh = ConnectionTest.objects.select_related("organization", "smtp_user").get()
    told = " ".join(each.text for each in watch(fresh, own=IP).obstacles)
    for part in ("suspended", "disabled", "no app password", "allowlist of Alice Works", "banned"):
        assert part in told
    assert "allowlist of shop" not in told
    assert "banned" not in " ".join(each.text for each in watch(fresh, own="198.51.100.1").obstacles)


def test_page_begins_and_watches(alice_client: Client, vera_client: Client, shop: SmtpUser) -> None:
    """Form with one's own address, commands without the secret, the live part for htmx, its end when all is well."""
    stopped = create_smtp_user(shop.organization, name="a-printer", excess="hold", actor=SYSTEM)
    disable_smtp_user(stopped, actor=SYSTEM)
    form = alice_client.get("/test-connection/")
    assert f'value="{OWN}"' in form.content.decode()
    assert list(form.context["users"]) == [shop, stopped]  # those that can sign in come first
    made = alice_client.post("/test-connection/", {"user": shop.pk, "ip": "::ffff:203.0.113.7"})
    test = ConnectionTest.objects.get()
    assert (test.ip, test.started_by, made["Location"]) == (IP, "alice@alice.example", f"/test-connection/{test.pk}/")
    page = alice_client.get(made["Location"]).content.decode()
    assert "openssl s_client" in page and "$GATEPOST_PASSWORD" in page and "gp_" not in page
    part = vera_client.get(made["Location"], headers={"HX-Request": "true"}).content.decode()
    assert "hx-get" in part and "<html" not in part and "openssl" not in part
    tried(test, Reason.OK)
    make_message(test.organization, smtp_user=shop)
    part = vera_client.get(made["Location"], headers={"HX-Request": "true"}).content.decode()
    assert "hx-get" not in part and "It works" in part
    assert "A message was accepted" in alice_client.get("/test-connection/").content.decode()


@pytest.mark.parametrize(
    "sent",
    [
        {"user": "", "ip": IP},
        {"user": "0", "ip": IP},
        {"user": "99999999999999999999", "ip": IP},
        {"user": "%d", "ip": "<script>"},
        {"user": "%d", "ip": "203.0.113.0/24"},
        {"user": "%d", "ip": "x" * 10_000},
    ],
)
def test_hostile_form_makes_nothing(alice_client: Client, shop: SmtpUser, sent: dict[str, str]) -> None:
    """What is no user of theirs or no address is said to be none."""
    form = {name: value.replace("%d", str(shop.pk)) for name, value in sent.items()}
    response = alice_client.post("/test-connection/", form)
    assert response.status_code == 422
    assert b"<script>" not in response.content.replace(b'<script src="', b"")
    assert not ConnectionTest.objects.exists()


def test_the_same_test_is_not_begun_twice(shop: SmtpUser, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reload finds the one that runs; there are so many a day."""
    assert begin(shop, ip=IP, actor=SYSTEM) == begin(shop, ip=IP, actor=SYSTEM)
    monkeypatch.setattr(connection_tests, "DAILY", 1)
    with pytest.raises(TooManyTests):
        begin(shop, ip="192.0.2.1", actor=SYSTEM)


def test_anothers_test_is_unknown(bob_client: Client, test: ConnectionTest) -> None:
    """Nor may bob begin one for alice's SMTP user."""
    assert bob_client.get(f"/test-connection/{test.pk}/").status_code == 404
    assert bob_client.post("/test-connection/", {"user": test.smtp_user_id, "ip": IP}).status_code == 422


def test_commands_are_quoted_for_the_shell() -> None:
    """A sender may hold what a shell would run."""
    door = Door("mail.example", 587, 465, "shop.alice", "it's$(reboot)@alice.example")
    text = "\n".join(command.text for command in commands_for(door, ca_file="/a b/ca.pem"))
    assert "$(reboot)" in text and "'it'\"'\"'s$(reboot)@alice.example'" in text
    assert "--cacert '/a b/ca.pem'" in text
