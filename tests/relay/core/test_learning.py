"""relay/learning.py: record, propose, preview, edit, enforce, at all three levels."""

from collections.abc import Callable
from datetime import datetime, timedelta
from ipaddress import ip_network
from typing import Any

import pytest
from django.utils import timezone

from accounts.models import Organization
from audit.changes import SYSTEM, Actor, verify_chain
from audit.logins import roll_up_login_days
from audit.models import ChangeEvent, Reason, Result
from audit.record import attempt, record_auth_event
from audit.rollup import roll_up_auth_hours
from relay.credentials import create_app_password, create_smtp_user, revoke_app_password
from relay.learning import (
    Draft,
    DraftRange,
    days_most,
    draft_of,
    enforce,
    give_up,
    is_over,
    learnings_of,
    save_draft,
    shut_out,
    start,
    stop,
)
from relay.models import AppPassword, CredentialChange, Network, NetworkLearning, SmtpUser
from relay.networks import NETWORKS_MAX, Allowlist, NetworkRefused, add_network
from tests.relay.core.conftest import at_once

DAY, MINUTE = timedelta(days=1), timedelta(minutes=1)
ALICE = Actor("alice@alice.example", 1)
SignIn = Callable[..., datetime]


@pytest.fixture
def app(alice_org: Organization) -> SmtpUser:
    return create_smtp_user(alice_org, name="app", excess="hold", actor=SYSTEM)


@pytest.fixture
def password(app: SmtpUser) -> AppPassword:
    return create_app_password(app, name="web-1", actor=SYSTEM).app_password


@pytest.fixture
def sign_in(app: SmtpUser, password: AppPassword) -> SignIn:
    def record(ip: str, *, ago: timedelta = DAY, count: int = 1, reason: Reason = Reason.OK, **given: Any) -> datetime:
        at = timezone.now() - ago
        values = {"organization_id": app.organization_id, "smtp_user_id": app.pk, "app_password_id": password.pk}
        record_auth_event(
            attempt(
                result=Result.ACCEPTED if reason is Reason.OK else Result.REFUSED,
                reason=reason,
                ip=ip,
                port=587,
                worker="test",
                at=at,
                count=count,
                mechanism="PLAIN",
                tls_version="TLSv1.3",
                **{**values, **given},
            )
        )
        return at

    return record


def ranges(draft: Draft) -> list[str]:
    return [each.cidr for each in draft.ranges]


def cidrs(owner: Allowlist) -> list[str]:
    return [row.cidr for row in owner.rows]


def test_from_recording_to_enforcing(alice_org: Organization, app: SmtpUser, sign_in: SignIn) -> None:
    """What signed in is proposed with its evidence; one step makes it the list, tells smtpd and the change log."""
    owner = Allowlist(alice_org, app)
    learning = start(owner, days=7, history_days=7, actor=ALICE)
    for host, count in (("4", 40), ("5", 2), ("6", 1)):
        sign_in(f"192.0.2.{host}", count=count)
    last = sign_in("2001:db8::25", ago=MINUTE)
    sign_in("203.0.113.9", reason=Reason.WRONG_PASSWORD)
    roll_up_login_days()
    draft = draft_of(learning)
    assert ranges(draft) == ["192.0.2.4/30", "2001:db8::25/128"]
    assert [(each.evidence.logins, each.evidence.addresses) for each in draft.ranges if each.evidence] == [
        (43, 3),
        (1, 1),
    ]
    assert draft.ranges[1].evidence and draft.ranges[1].evidence.last_at == last
    assert (draft.preview.logins, draft.preview.refused, draft.edited) == (44, [], False)
    CredentialChange.objects.all().delete()
    assert enforce(learning, seen=draft.digest, actor=ALICE) == owner
    assert cidrs(owner) == ["192.0.2.4/30", "2001:db8::25/128"]
    assert set(CredentialChange.objects.values_list("smtp_user_id", flat=True)) == {app.pk}
    assert not NetworkLearning.objects.exists()
    enforced = ChangeEvent.objects.get(action="network_learning.enforced")
    assert (enforced.actor, enforced.subject, enforced.values["ranges"]) == (
        "alice@alice.example", "app.alice-works", ["192.0.2.4/30", "2001:db8::25/128"],
    )  # fmt: skip
    assert verify_chain(alice_org.pk).ok


def test_each_level_learns_from_its_own_sign_ins(
    alice_org: Organization, bob_org: Organization, app: SmtpUser, password: AppPassword, sign_in: SignIn
) -> None:
    """The organization's from all of it, an SMTP user's and an app password's from theirs; another's never."""
    other = create_smtp_user(alice_org, name="other", excess="hold", actor=SYSTEM)
    second = create_app_password(app, name="web-2", actor=SYSTEM).app_password
    foreign = create_smtp_user(bob_org, name="app", excess="hold", actor=SYSTEM)
    sign_in("192.0.2.1")
    sign_in("192.0.2.21", app_password_id=second.pk)
    sign_in("192.0.2.41", smtp_user_id=other.pk, app_password_id=None)
    sign_in("192.0.2.61", organization_id=bob_org.pk, smtp_user_id=foreign.pk, app_password_id=None)
    expected = {
        Allowlist(alice_org): ["192.0.2.1/32", "192.0.2.21/32", "192.0.2.41/32"],
        Allowlist(alice_org, app): ["192.0.2.1/32", "192.0.2.21/32"],
        Allowlist(alice_org, app, password): ["192.0.2.1/32"],
        Allowlist(alice_org, app, second): ["192.0.2.21/32"],
        Allowlist(bob_org): ["192.0.2.61/32"],
    }
    for owner, wanted in expected.items():
        learning = start(owner, days=1, history_days=7, actor=SYSTEM)
        assert ranges(draft_of(learning)) == wanted
        enforce(learning, seen=draft_of(learning).digest, actor=SYSTEM)
        assert cidrs(owner) == wanted


def test_only_the_time_of_learning_counts(alice_org: Organization, sign_in: SignIn) -> None:
    """Not what was before it, nor addresses that came after its end; the preview looks at thirty days all the same."""
    sign_in("192.0.2.1", ago=9 * DAY)
    sign_in("192.0.2.100", ago=4 * DAY)
    sign_in("192.0.2.200", ago=DAY)
    learning = start(Allowlist(alice_org), days=3, actor=SYSTEM, now=timezone.now() - 5 * DAY)
    assert is_over(learning)
    draft = draft_of(learning)
    assert ranges(draft) == ["192.0.2.100/32"]
    assert [(each.username, each.app_password, each.ip) for each in draft.preview.refused] == [
        ("app.alice-works", "web-1", "192.0.2.1"),
        ("app.alice-works", "web-1", "192.0.2.200"),
    ]
    assert (draft.preview.days, draft.preview.logins, draft.preview.refused_logins) == (30, 3, 2)


def test_an_edited_draft_is_what_is_enforced(alice_org: Organization, sign_in: SignIn) -> None:
    """With labels and ends; its preview names who is left out; going back to the proposal is possible."""
    sign_in("192.0.2.1", count=3)
    sign_in("198.51.100.7", count=2)
    learning = start(Allowlist(alice_org), days=0, history_days=7, actor=SYSTEM)
    ends_at = timezone.now() + DAY
    save_draft(learning, [DraftRange(ip_network("192.0.2.0/28"), "Office", ends_at)])
    draft = draft_of(learning)
    assert (ranges(draft), draft.edited, draft.preview.refused_logins) == (["192.0.2.0/28"], True, 2)
    save_draft(learning, None)
    assert len(ranges(draft_of(learning))) == 2
    save_draft(learning, [DraftRange(ip_network("192.0.2.0/28"), "Office", ends_at)])
    enforce(learning, seen=draft_of(learning).digest, actor=SYSTEM)
    row = Network.objects.get()
    assert (row.cidr, row.label, row.ends_at) == ("192.0.2.0/28", "Office", ends_at)


def test_what_nobody_has_seen_is_not_enforced(alice_org: Organization, sign_in: SignIn) -> None:
    """A new address between looking and enforcing stops it; nothing has changed then."""
    sign_in("192.0.2.1")
    learning = start(Allowlist(alice_org), days=7, history_days=7, actor=SYSTEM)
    seen = draft_of(learning).digest
    sign_in("198.51.100.7", ago=MINUTE)
    with pytest.raises(NetworkRefused, match="changed since you looked"):
        enforce(learning, seen=seen, actor=SYSTEM)
    assert not Network.objects.exists() and NetworkLearning.objects.exists()


def test_enforcing_replaces_the_list(alice_org: Organization, app: SmtpUser, sign_in: SignIn) -> None:
    """What is not in the draft goes, what stays is not touched, other lists are not looked at."""
    owner = Allowlist(alice_org, app)
    stays = add_network(alice_org, cidr="192.0.2.1/32", smtp_user=app, label="kept", actor=SYSTEM)
    add_network(alice_org, cidr="198.51.100.0/24", smtp_user=app, actor=SYSTEM)
    add_network(alice_org, cidr="203.0.113.0/24", actor=SYSTEM)
    learning = start(owner, days=7, actor=SYSTEM)
    save_draft(
        learning, [DraftRange(ip_network("192.0.2.1/32"), "kept"), DraftRange(ip_network("198.51.100.7"), "new")]
    )
    ChangeEvent.objects.all().delete()
    enforce(learning, seen=draft_of(learning).digest, actor=SYSTEM)
    assert cidrs(owner) == ["192.0.2.1/32", "198.51.100.7/32"] and owner.rows[0].pk == stays.pk
    assert cidrs(Allowlist(alice_org)) == ["203.0.113.0/24"]
    actions = ChangeEvent.objects.order_by("sequence").values_list("action", flat=True)
    assert list(actions) == ["network.removed", "network.added", "network_learning.enforced"]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([], "Keep one range at least"),
        ([DraftRange(ip_network("192.0.2.0/24")), DraftRange(ip_network("192.0.2.7/32"))], "overlap"),
        ([DraftRange(ip_network("192.0.2.7")), DraftRange(ip_network("192.0.2.7"))], "overlap"),
        ([DraftRange(ip_network("192.0.2.7"), "x" * 65)], "64 characters"),
        ([DraftRange(ip_network("192.0.2.7"), "", timezone.now() - DAY)], "in the past"),
        ([DraftRange(ip_network(f"10.0.{n}.0/24")) for n in range(NETWORKS_MAX + 1)], "200 ranges"),
    ],
)
def test_a_draft_that_could_not_be_enforced_is_refused(alice_org: Organization, given: Any, words: str) -> None:
    """When it is saved, in words; what was saved before stays."""
    learning = start(Allowlist(alice_org), days=7, actor=SYSTEM)
    with pytest.raises(NetworkRefused) as refused:
        save_draft(learning, given)
    assert words in refused.value.messages[0]
    assert NetworkLearning.objects.get().draft is None


def test_without_any_use_there_is_nothing_to_enforce(alice_org: Organization) -> None:
    """An empty list would allow everybody: it is not made by mistake."""
    learning = start(Allowlist(alice_org), days=7, actor=SYSTEM)
    draft = draft_of(learning)
    assert draft.ranges == ()
    with pytest.raises(NetworkRefused, match="Keep one range"):
        enforce(learning, seen=draft.digest, actor=SYSTEM)


@pytest.mark.parametrize(("days", "history"), [(0, 0), (31, 0), (0, 31), (20, 11), (-1, 5), (5, -1)])
def test_it_learns_no_longer_than_the_log_is_kept(alice_org: Organization, days: int, history: int) -> None:
    """A trial keeps thirty days; more could not be looked at, and nothing at all teaches nothing."""
    assert days_most(alice_org) == 30
    with pytest.raises(NetworkRefused, match="kept for 30 days"):
        start(Allowlist(alice_org), days=days, history_days=history, actor=SYSTEM)


def test_stopped_and_given_up(alice_org: Organization) -> None:
    """Stopping ends the recording and keeps the proposal; giving up deletes it; both are recorded."""
    learning = start(Allowlist(alice_org), days=7, actor=SYSTEM)
    stop(learning, actor=ALICE)
    assert is_over(learning)
    stop(learning, actor=ALICE)
    give_up(learning, actor=ALICE)
    assert not learnings_of(alice_org).exists()
    actions = ChangeEvent.objects.order_by("sequence").values_list("action", flat=True)
    assert [action for action in actions if action.startswith("network_learning")] == [
        "network_learning.started", "network_learning.stopped", "network_learning.given_up",
    ]  # fmt: skip
    with pytest.raises(NetworkRefused, match="has ended"):
        give_up(learning, actor=ALICE)


def test_a_revoked_app_password_is_not_learned(alice_org: Organization, app: SmtpUser, password: AppPassword) -> None:
    """Nothing will sign in with it."""
    revoke_app_password(password, actor=SYSTEM)
    with pytest.raises(NetworkRefused, match="revoked"):
        start(Allowlist(alice_org, app, password), days=7, actor=SYSTEM)


def test_of_two_starts_at_once_one_is_told(alice_org: Organization, transactional_db: None) -> None:
    """One learning for each list, whatever races."""
    owner = Allowlist(alice_org)
    results = at_once([lambda: start(owner, days=7, actor=SYSTEM)] * 2)
    assert sorted(type(result).__name__ for result in results) == ["NetworkLearning", "NetworkRefused"]
    assert NetworkLearning.objects.count() == 1


def test_of_two_enforcings_at_once_one_is_told(alice_org: Organization, transactional_db: None) -> None:
    """The list is made once, and whoever came second learns that the learning has ended."""
    learning = start(Allowlist(alice_org), days=7, actor=SYSTEM)
    save_draft(learning, [DraftRange(ip_network("192.0.2.0/24"))])
    seen = draft_of(learning).digest
    results = at_once([lambda: enforce(learning, seen=seen, actor=SYSTEM)] * 2)
    assert sorted(type(result).__name__ for result in results) == ["Allowlist", "NetworkRefused"]
    assert cidrs(Allowlist(alice_org)) == ["192.0.2.0/24"]


def test_who_was_shut_out_with_the_right_secret(
    alice_org: Organization, bob_org: Organization, app: SmtpUser, password: AppPassword, sign_in: SignIn
) -> None:
    """Refused by a list though the app password was right: named, most first, for the lists whose sums know it."""
    other = create_smtp_user(alice_org, name="other", excess="hold", actor=SYSTEM)
    sign_in("203.0.113.9", reason=Reason.NETWORK, count=3)
    sign_in("203.0.113.7", reason=Reason.NETWORK, count=5, smtp_user_id=other.pk)
    sign_in("203.0.113.8", reason=Reason.NETWORK, ago=9 * DAY)
    sign_in("203.0.113.6", reason=Reason.WRONG_PASSWORD)
    roll_up_auth_hours()
    expected = {
        Allowlist(alice_org): [("203.0.113.7", 5), ("203.0.113.9", 3)],
        Allowlist(alice_org, app): [("203.0.113.9", 3)],
        Allowlist(alice_org, app, password): [],
        Allowlist(bob_org): [],
    }
    for owner, wanted in expected.items():
        learning = start(owner, days=1, history_days=7, actor=SYSTEM)
        assert [(shut.ip, shut.count) for shut in shut_out(learning)] == wanted
