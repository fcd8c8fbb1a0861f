"""An allowlist learned from real logins, enforced at each of the three levels, at the real door."""

from collections.abc import Callable

import pytest

from accounts.models import Organization
from audit.changes import SYSTEM
from audit.models import AuthEvent, Reason
from embedded.program import wait_for
from relay.credentials import create_app_password
from relay.learning import draft_of, enforce, start
from relay.networks import Allowlist
from tests.smtp.conftest import RunningDoor, Sender, plain
from tests.smtp.test_auth import INVALID, OK, event_of

LEVELS: dict[str, Callable[[Organization, Sender], Allowlist]] = {
    "organization": lambda organization, sender: Allowlist(organization),
    "smtp_user": lambda organization, sender: Allowlist(organization, sender.smtp_user),
    "app_password": lambda organization, sender: Allowlist(organization, sender.smtp_user, sender.app_password),
}


@pytest.mark.parametrize("level", LEVELS)
def test_learned_and_enforced(door: RunningDoor, sender: Sender, alice_org: Organization, level: str) -> None:
    """The address that was in use goes on, another one gets 535; another app password is bound by the wider lists."""
    other = create_app_password(sender.smtp_user, name="other", actor=SYSTEM)
    door.signed_in(sender)
    assert wait_for(AuthEvent.objects.filter(reason=Reason.OK).exists, seconds=5)
    owner = LEVELS[level](alice_org, sender)
    assert owner.level == level
    learning = start(owner, days=1, history_days=1, actor=SYSTEM)
    draft = draft_of(learning)
    assert [each.cidr for each in draft.ranges] == ["127.0.0.1/32"]
    enforce(learning, seen=draft.digest, actor=SYSTEM)

    def is_refused() -> bool:  # told at once; asked for every two seconds in any case
        return door.client(source="127.0.0.2").say(f"AUTH PLAIN {sender.plain()}") == INVALID

    assert wait_for(is_refused, seconds=5)
    stranger = door.client(source="127.0.0.2")
    assert stranger.say(f"AUTH PLAIN {sender.plain()}") == INVALID
    assert event_of(stranger).reason == Reason.NETWORK
    assert door.client().say(f"AUTH PLAIN {sender.plain()}") == OK
    with_other = door.client(source="127.0.0.2").say(f"AUTH PLAIN {plain(sender.username, other.secret)}")
    assert with_other == (OK if level == "app_password" else INVALID)
