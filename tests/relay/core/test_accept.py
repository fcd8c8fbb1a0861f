"""relay.accept: the transaction, its outcomes in order, and what it leaves behind."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from django.utils import timezone
from hypothesis import given, settings, strategies

from accounts.models import Organization
from accounts.organizations import suspend
from audit.changes import SYSTEM
from audit.models import Reason
from relay import limits
from relay.accept import Acceptor
from relay.credentials import disable_smtp_user, revoke_app_password, update_smtp_user
from relay.database import connect
from relay.limits import IP, ORGANIZATION, SMTP_USER, OverLimit
from relay.models import AppPassword, LimitWindow, Message, MessageData, Recipient, SmtpUser
from relay.smtp.content import ContentRefused, inspect
from relay.submission import Accepted, Ended, Envelope, TokenHold
from tests.relay.core.conftest import Sender, accepted, at_once, set_plan, used


def test_everything_of_a_message_is_stored(sender: Sender, alice_org: Organization) -> None:
    """Message, content to the byte, recipients with their DSN words, and the debit."""
    envelopes = (Envelope("ü@dest.example", "SUCCESS,FAILURE", "rfc822;a"), Envelope("b@dest.example"))
    submission = replace(
        sender.submission(subject="Grüße ☃", dsn_envid="QQ+3D", dsn_ret="HDRS", content=bytes(range(1, 256)) * 3),
        recipients=envelopes,
    )
    assert accepted([submission]) == [Accepted()]
    message = Message.objects.get()
    assert (message.pk, message.subject, message.dsn_envid, message.dsn_ret) == (
        submission.id,
        "Grüße ☃",
        "QQ+3D",
        "HDRS",
    )
    assert (message.recipient_count, message.size_octets) == (2, len(submission.content))
    assert bytes(MessageData.objects.get().content) == submission.content
    rows = Recipient.objects.order_by("pk").values_list("address", "state", "dsn_notify", "dsn_orcpt")
    assert list(rows) == [
        ("ü@dest.example", "queued", "SUCCESS,FAILURE", "rfc822;a"),
        ("b@dest.example", "queued", "", ""),
    ]
    assert used(ORGANIZATION, alice_org.pk) == 2


def test_outcomes_of_a_batch_stand_in_order(
    sender: Sender, alice_org: Organization, sender_of: Callable[..., Sender]
) -> None:
    """What one message debits is gone for those after it; a smaller one behind a refused one still fits."""
    set_plan(alice_org, 5)
    holding = sender_of(alice_org, name="holding", excess="hold")
    batch = [
        sender.submission(recipients=3),
        sender.submission(recipients=3),
        holding.submission(recipients=4),
        sender.submission(recipients=2),
        holding.submission(recipients=1),
        sender.submission(recipients=6),
    ]
    first, over, held, second, held_too, never = accepted(batch)
    assert (first, second, held, held_too) == (Accepted(), Accepted(), Accepted(held=True), Accepted(held=True))
    assert isinstance(over, OverLimit) and isinstance(never, OverLimit)
    assert (over.limit, over.used, over.room, never.seconds) == (5, 3, 2, None)
    assert over.seconds is not None and 3600 < over.seconds <= 3660
    stored = {batch[0].id: 3, batch[2].id: 4, batch[3].id: 2, batch[4].id: 1}
    assert dict(Message.objects.values_list("pk", "recipient_count")) == stored
    assert Recipient.objects.count() == sum(stored.values())
    assert Recipient.objects.filter(state="held").count() == 5
    assert used(ORGANIZATION, alice_org.pk) == 5


def test_whatever_ended_is_told_apart_in_one_batch(
    sender: Sender, alice_org: Organization, bob_org: Organization, sender_of: Callable[..., Sender]
) -> None:
    """Revoked, expired, disabled and suspended each get their reason; their neighbours are accepted."""
    revoked, expired, disabled = (sender_of(alice_org, name=name) for name in ("revoked", "expired", "disabled"))
    suspended = sender_of(bob_org)
    revoke_app_password(revoked.app_password, actor=SYSTEM)
    AppPassword.objects.filter(pk=expired.app_password.pk).update(expires_at=timezone.now() - timedelta(seconds=1))
    disable_smtp_user(disabled.smtp_user, actor=SYSTEM)
    suspend(bob_org, reason="test", actor=SYSTEM)
    who = [sender, revoked, expired, disabled, suspended, sender]
    assert accepted([each.submission() for each in who]) == [
        Accepted(),
        Ended(Reason.REVOKED),
        Ended(Reason.EXPIRED),
        Ended(Reason.USER_DISABLED),
        Ended(Reason.ORGANIZATION_SUSPENDED),
        Accepted(),
    ]
    assert Message.objects.count() == 2
    assert used(ORGANIZATION, alice_org.pk) == 2
    assert used(ORGANIZATION, bob_org.pk) == 0


def test_an_unknown_smtp_user_is_ended(sender: Sender) -> None:
    """Its row is gone or never was: nothing is stored."""
    assert accepted([sender.submission(smtp_user_id=999_999_999)]) == [Ended(Reason.USER_DISABLED)]
    assert not Message.objects.exists()


def test_a_token_is_judged_in_the_same_batch(sender: Sender) -> None:
    """By its epoch and by PostgreSQL's clock; a submission without app password and token stands on nothing."""
    SmtpUser.objects.filter(pk=sender.smtp_user.pk).update(token_epoch=3)
    now = time.time()
    holds = [TokenHold(3, now + 60), TokenHold(2, now + 60), TokenHold(3, now - 1), None]
    batch = [sender.submission(app_password_id=None, token=hold) for hold in holds]
    assert accepted([*batch, sender.submission()]) == [
        Accepted(),
        Ended(Reason.REVOKED),
        Ended(Reason.TOKEN_EXPIRED),
        Ended(Reason.REVOKED),
        Accepted(),
    ]
    assert sorted(Message.objects.values_list("app_password_id", flat=True), key=str) == [sender.app_password.pk, None]
    assert used(ORGANIZATION, sender.smtp_user.organization_id) == 2


def test_every_limit_binds_and_none_is_debited_on_refusal(
    alice_org: Organization, sender_of: Callable[..., Sender]
) -> None:
    """The first window that is full refuses the message for all of them."""
    limited = sender_of(alice_org, recipients_per_hour=5, recipients_per_hour_per_ip=3)
    windows = [(ORGANIZATION, alice_org.pk, None), (SMTP_USER, limited.smtp_user.pk, None)]
    outcomes = accepted(
        [
            limited.submission(recipients=3),
            limited.submission(recipients=1),
            limited.submission(recipients=3, client_ip="2001:db8::1"),
            limited.submission(recipients=2, client_ip="2001:db8::1"),
            limited.submission(recipients=1, client_ip="2001:db8::2"),
        ]
    )
    scopes = [outcome.scope if isinstance(outcome, OverLimit) else None for outcome in outcomes]
    assert scopes == [None, IP, SMTP_USER, None, SMTP_USER]
    assert [used(*window) for window in windows] == [5, 5]
    ips = ["192.0.2.1", "2001:db8::1", "2001:db8::2"]
    assert [used(IP, limited.smtp_user.pk, ip) for ip in ips] == [3, 2, 0]


def test_the_longest_wait_is_told(alice_org: Organization, sender_of: Callable[..., Sender]) -> None:
    """Where two limits are in the way, the seconds are those after which the message fits."""
    set_plan(alice_org, 2)
    limited = sender_of(alice_org, recipients_per_hour=1)
    other = sender_of(alice_org, name="other")
    accepted([limited.submission(), other.submission()])
    row = LimitWindow.objects.get(scope=ORGANIZATION)
    shift(row, minutes=30)
    (over,) = accepted([limited.submission()])
    assert isinstance(over, OverLimit)
    assert over.scope == SMTP_USER
    assert over.seconds is not None and over.seconds > 3500


def test_a_limit_set_later_binds_at_once(sender: Sender) -> None:
    """An acceptor that knew the SMTP user without limits makes the missing windows and goes on."""

    def limit() -> None:
        update_smtp_user(sender.smtp_user, actor=SYSTEM, recipients_per_hour=1, recipients_per_hour_per_ip=1)

    async def run() -> list[Any]:
        acceptor = Acceptor()
        async with await connect(application_name="test") as conn:
            found = await acceptor.accept(conn, [sender.submission()])
            await asyncio.to_thread(at_once, [limit])
            found += await acceptor.accept(conn, [sender.submission()])
            return found + await acceptor.accept(conn, [sender.submission()])

    first, second, third = asyncio.run(run())
    assert (first, second) == (Accepted(), Accepted())
    assert isinstance(third, OverLimit)
    assert third.scope == SMTP_USER


def test_the_plan_is_read_by_the_transaction_itself(sender: Sender, alice_org: Organization) -> None:
    """A changed number counts with the next accept; what was used this hour stays used."""
    accepted([sender.submission(recipients=10)])
    set_plan(alice_org, 10)
    (over,) = accepted([sender.submission()])
    assert isinstance(over, OverLimit)
    set_plan(alice_org, 11)
    assert accepted([sender.submission()]) == [Accepted()]


def test_what_is_held_is_bounded(alice_org: Organization, sender_of: Callable[..., Sender]) -> None:
    """24 hours' worth over all SMTP users of an organization, also within one batch; then 451."""
    set_plan(alice_org, 2)
    holding = [sender_of(alice_org, name=f"h{number}", excess="hold") for number in range(2)]
    accepted([holding[0].submission(recipients=2)])
    batch = [holding[number % 2].submission(recipients=2) for number in range(30)]
    outcomes = accepted(batch[:10]) + accepted(batch[10:])
    assert outcomes[:24] == [Accepted(held=True)] * 24
    assert all(isinstance(outcome, OverLimit) for outcome in outcomes[24:])
    assert Recipient.objects.filter(state="held").count() == 48


@pytest.mark.parametrize("limit", ["recipients_per_hour", "recipients_per_hour_per_ip"])
def test_what_never_fits_is_not_held(alice_org: Organization, sender_of: Callable[..., Sender], limit: str) -> None:
    """A message larger than any of its limits would be held for ever, also while another limit is in the way."""
    set_plan(alice_org, 3)
    holding = sender_of(alice_org, excess="hold", **{limit: 2})
    other = sender_of(alice_org, name="other")
    accepted([other.submission(recipients=3)])
    (over,) = accepted([holding.submission(recipients=3)])
    assert isinstance(over, OverLimit)
    assert over.seconds is None
    assert Message.objects.count() == 1


def test_a_failed_batch_leaves_nothing(sender: Sender, alice_org: Organization) -> None:
    """One value that PostgreSQL refuses, and neither rows nor debits of its neighbours stay."""
    with pytest.raises(psycopg.errors.StringDataRightTruncation):
        accepted([sender.submission(), sender.submission(dsn_envid="x" * 101)])
    assert not Message.objects.exists()
    assert used(ORGANIZATION, alice_org.pk) == 0


def test_an_address_in_another_spelling_does_not_hang(
    alice_org: Organization, sender_of: Callable[..., Sender]
) -> None:
    """A window that is not found under its key ends the accept instead of asking for ever."""
    limited = sender_of(alice_org, recipients_per_hour_per_ip=3)
    with pytest.raises(RuntimeError):
        accepted([limited.submission(client_ip="2001:DB8:0::1")])


COLUMNS = {"header_from": 320, "header_message_id": 255, "subject": 255}
HOSTILE = strategies.one_of(
    strategies.binary(max_size=400), strategies.text(max_size=400).map(lambda text: text.encode("utf-8", "replace"))
)


@settings(max_examples=300, deadline=None)
@given(values=strategies.tuples(HOSTILE, HOSTILE), local=HOSTILE)
def test_no_header_can_fail_a_batch(values: tuple[bytes, bytes], local: bytes) -> None:
    """Whatever stands in From, Subject and Message-ID: refused, or text that its column and UTF-8 take."""
    fields = b"Subject: %b\r\nMessage-ID: %b\r\n" % values
    for sender in (b"news@alice.example", local + b"@alice.example", b'(x) "' + local + b'" <a@alice.example>'):
        try:
            headers = inspect(b"From: %b\r\n%b\r\n" % (sender, fields), long_lines="accept")
        except ContentRefused:
            continue
        found = {"header_from": headers.header_from[:320], "subject": headers.subject}
        found["header_message_id"] = headers.message_id
        for name, most in COLUMNS.items():
            assert "\0" not in found[name]
            assert len(found[name].encode()) >= len(found[name]) <= most


def shift(row: LimitWindow, *, minutes: int) -> None:
    """Makes a window that much older: every count moves with its minute."""
    row.minute -= minutes
    row.buckets = [row.buckets[(place + minutes) % 61] for place in range(61)]
    row.save()


def test_usage_tells_the_hour(sender: Sender, alice_org: Organization, bob_org: Organization) -> None:
    """Use, room and the wait of one organization, as the pages show them; an idle one has all its room."""
    set_plan(alice_org, 5)
    accepted([sender.submission(recipients=4)])
    usage = limits.usage_of(alice_org.pk)
    assert (usage.limit, usage.used, usage.room, usage.seconds_until_room, sum(usage.per_minute)) == (5, 4, 1, 0, 4)
    accepted([sender.submission()])
    full = limits.usage_of(alice_org.pk)
    assert full.room == 0
    assert 3600 < full.seconds_until_room <= 3660
    idle = limits.usage_of(bob_org.pk)
    assert (idle.used, idle.room, idle.per_minute) == (0, idle.limit, [0] * 61)
    assert limits.usage_of(0).limit == 0
