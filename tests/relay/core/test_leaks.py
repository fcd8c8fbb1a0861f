"""Found secrets: taken in alike, looked up later, ended, and told to their owner."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.core import mail
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts import checksum
from accounts.api_keys import create_api_key, find_api_key
from accounts.models import Organization
from audit.anomalies.models import Anomaly
from audit.changes import SYSTEM, verify_chain
from audit.models import ChangeEvent, Reason
from relay import leaks
from relay.app_passwords import make_app_secret
from relay.credentials import create_app_password, revoke_app_password
from relay.models import AppPassword, LeakReport
from relay.networks import add_network
from relay.submission import Ended
from tests.relay.core.conftest import Sender, accepted, at_once

FOUND = "https://git.example/alice/shop/settings.py"


def reported(*tokens: str) -> list[str]:
    """What the sweep made of each."""
    rows = leaks.report([leaks.Found(token, FOUND) for token in tokens], reporter="192.0.2.1")
    leaks.handle_waiting()
    outcomes = dict(LeakReport.objects.values_list("pk", "outcome"))
    return [outcomes[row.pk] for row in rows]


def test_a_reported_app_password_is_revoked(sender: Sender) -> None:
    """It accepts nothing more, and says why it ended."""
    assert reported(sender.secret) == ["revoked"]
    sender.app_password.refresh_from_db()
    assert (sender.app_password.revoked_at is not None, sender.app_password.revoked_because) == (True, "leaked")
    assert accepted([sender.submission()]) == [Ended(Reason.REVOKED)]


def test_its_owner_is_told_and_it_is_recorded(sender: Sender) -> None:
    """A mail with where it was found, and the change log with who reported; the secret is in neither."""
    reported(sender.secret)
    (written,) = mail.outbox
    content = f"{written.subject}\n{written.body}"
    assert FOUND in content and sender.smtp_user.username in content
    change = ChangeEvent.objects.get(action="app_password.revoked")
    assert change.actor == "leak report"
    assert change.values == {"name": "test", "because": "leaked", "found_at": FOUND, "reporter": "192.0.2.1"}
    assert sender.secret not in content + str(change.values)
    assert verify_chain(sender.smtp_user.organization_id).ok


def test_a_reported_api_key_is_revoked(alice_org: Organization) -> None:
    """Keys too, with a mail and a record."""
    key = create_api_key(alice_org, name="Export", scopes=["messages:read"], actor=SYSTEM)
    assert reported(key.secret) == ["revoked"]
    assert find_api_key(key.secret) is None
    assert ChangeEvent.objects.get(action="api_key.revoked").values["because"] == "leaked"  # type: ignore[index]
    assert len(mail.outbox) == 1


def test_a_device_password_is_found_however_it_is_written(sender: Sender) -> None:
    """It has no mark: with dashes, without, or in capitals."""
    user = sender.smtp_user
    add_network(user.organization, cidr="192.0.2.0/24", smtp_user=user, actor=SYSTEM)
    secret = create_app_password(user, name="Camera", kind="device", actor=SYSTEM).secret
    assert reported(secret.replace("-", "").upper()) == ["revoked"]


def test_what_had_ended_is_told_nobody_again(sender: Sender) -> None:
    """A second report of the same, and one of what was revoked long ago, change nothing and write no mail."""
    assert reported(sender.secret, sender.secret) == ["revoked", "ended"]
    assert len(mail.outbox) == 1


def test_an_expired_one_is_revoked_all_the_same(sender: Sender) -> None:
    """Somebody might give it a new end."""
    AppPassword.objects.update(expires_at=timezone.now() - timedelta(days=1))
    assert reported(sender.secret) == ["revoked"]


def test_a_reported_canary_raises_the_alert(sender: Sender) -> None:
    """It was found where it was put; it stays, to be tried."""
    canary = create_app_password(sender.smtp_user, name="wiki", kind="canary", actor=SYSTEM)
    assert reported(canary.secret) == ["canary"]
    assert Anomaly.objects.get().kind == "canary"
    canary.app_password.refresh_from_db()
    assert canary.app_password.revoked_at is None


@pytest.mark.parametrize("token", ["x", "\0", "\udcff", "gp_" + "A" * 28, "a" * 300, "<script>", "' OR 1=1 --"])
def test_what_is_none_of_ours_changes_nothing(sender: Sender, token: str) -> None:
    """Whatever it is: unknown, and nothing of it is kept but digests."""
    assert reported(token) == ["unknown"]
    assert LeakReport.objects.get().hint in ("", f"{token[:8]}…")
    assert AppPassword.objects.get().revoked_at is None


def test_the_same_work_for_every_text(sender: Sender) -> None:
    """Reporting makes the same statements, with as many digests, whether the text is a live secret or not."""
    made = []
    for token in (sender.secret, make_app_secret(), "nothing"):
        with CaptureQueriesContext(
            connection,
        ) as queries:
            leaks.report([leaks.Found(token)], reporter="192.0.2.1")
        made.append([query["sql"][:30] for query in queries])
    assert made[0] == made[1] == made[2]
    assert len({len(digests) for digests in LeakReport.objects.values_list("digests", flat=True)}) == 1


def test_only_their_own_is_told(sender: Sender, bob_org: Organization, sender_of: Callable[..., Sender]) -> None:
    """Another's secret is "received" like nonsense; it is ended by the sweep nevertheless."""
    bobs = sender_of(bob_org)
    rows = leaks.report([leaks.Found(token) for token in (bobs.secret, "x", sender.secret)], reporter="api:gpk_x")
    assert leaks.told(rows, sender.smtp_user.organization) == ["received", "received", "revoked"]
    bobs.app_password.refresh_from_db()
    assert bobs.app_password.revoked_at is None
    leaks.handle_waiting()
    bobs.app_password.refresh_from_db()
    assert bobs.app_password.revoked_because == "leaked"


def test_sweeps_at_once_do_each_once(sender: Sender) -> None:
    """Four at the same reports: one revocation, one mail."""
    leaks.report([leaks.Found(sender.secret) for _ in range(4)], reporter="192.0.2.1")
    done = at_once([leaks.handle_waiting] * 4)
    leaks.handle_waiting()
    assert all(isinstance(each, int) for each in done), done
    assert sorted(LeakReport.objects.values_list("outcome", flat=True)) == ["ended", "ended", "ended", "revoked"]
    assert len(mail.outbox) == 1


def test_a_revocation_beside_a_report_does_not_deadlock(sender: Sender) -> None:
    """Both take the same locks in the same order."""
    leaks.report([leaks.Found(sender.secret)], reporter="192.0.2.1")
    done = at_once([leaks.handle_waiting, lambda: revoke_app_password(sender.app_password, actor=SYSTEM)])
    assert not [each for each in done if isinstance(each, Exception)]


def test_secrets_are_found_in_what_surrounds_them() -> None:
    """Lines of code and logs; each once; without a mark the whole text."""
    secret, key = make_app_secret(), checksum.with_checksum("gpk_" + "a" * 30)
    text = f'PASSWORD="{secret}"\ncurl -H "Authorization: Bearer {key}"\n{secret}'
    assert leaks.tokens_in(text) == [secret, key]
    assert leaks.tokens_in("  'abcd-efgh-jkmn-pqrs' ") == ["abcd-efgh-jkmn-pqrs"]
    assert leaks.tokens_in(" \n ") == []


def test_old_reports_are_deleted(sender: Sender) -> None:
    """Those of others after a month, ours after a year; what waits stays."""
    reported("nothing", sender.secret)
    leaks.report([leaks.Found("waits")], reporter="192.0.2.1")
    now = timezone.now()
    assert leaks.delete_old(now=now + timedelta(days=29)) == 0
    assert leaks.delete_old(now=now + timedelta(days=31)) == 1
    assert leaks.delete_old(now=now + timedelta(days=366)) == 1
    assert LeakReport.objects.get().handled_at is None
