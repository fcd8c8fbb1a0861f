"""relay.credentials.verify: the verdict on a secret, whatever else is wrong."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from audit.models import Reason
from relay import app_passwords
from relay.credentials import PasswordState, UserState, Verdict, verify
from relay.proofs import Secret

NOW = datetime(2030, 1, 1, tzinfo=UTC)
SECRET, OTHER = app_passwords.make_app_secret(), app_passwords.make_app_secret()
INSIDE, OUTSIDE = (ip_network("192.0.2.0/24"),), (ip_network("198.51.100.0/24"),)


def password(secret: str = SECRET, id: int = 1, **fields: Any) -> PasswordState:
    values: dict[str, Any] = {"revoked": False, "expires_at": None}
    return PasswordState(id=id, digest=app_passwords.digests(secret)[0], **(values | fields))


def user(*passwords: PasswordState, **fields: Any) -> UserState:
    state = UserState(5, 6, "app.alice-works", "active", False, passwords or (password(),))
    return replace(state, **fields)


def verdict(state: UserState, secret: str = SECRET, ip: str = "192.0.2.1") -> Verdict:
    return verify(state, Secret(secret), ip=ip_address(ip), now=NOW)


def test_a_live_secret_is_accepted() -> None:
    """And the verdict names the password."""
    assert verdict(user()) == Verdict(Reason.OK, 1)
    assert verdict(user()).accepted
    assert verdict(user(password(OTHER, 1), password(SECRET, 2))) == Verdict(Reason.OK, 2)
    assert verdict(user(organization_state="pending")).accepted


@pytest.mark.parametrize("secret", ["", OTHER, SECRET.lower(), SECRET + "x", "\ud800"])
def test_a_wrong_secret_tells_nothing_else(secret: str) -> None:
    """Revoked, disabled, suspended, outside: who does not have the secret does not learn it."""
    state = user(password(revoked=True), disabled=True, organization_state="suspended", networks=OUTSIDE)
    assert verdict(state, secret) == Verdict(Reason.WRONG_PASSWORD)


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (user(password(revoked=True, expires_at=NOW)), Reason.REVOKED),
        (user(password(expires_at=NOW)), Reason.EXPIRED),
        (user(password(expires_at=NOW - timedelta(days=1))), Reason.EXPIRED),
        (user(password(expires_at=NOW + timedelta(microseconds=1))), Reason.OK),
        (user(disabled=True), Reason.USER_DISABLED),
        (user(organization_state="suspended"), Reason.ORGANIZATION_SUSPENDED),
        (user(disabled=True, organization_state="suspended"), Reason.USER_DISABLED),
        (user(networks=OUTSIDE), Reason.NETWORK),
        (user(organization_networks=OUTSIDE, networks=INSIDE), Reason.NETWORK),
        (user(password(networks=OUTSIDE), networks=INSIDE), Reason.NETWORK),
        (user(password(networks=INSIDE), networks=INSIDE, organization_networks=INSIDE), Reason.OK),
        (user(networks=()), Reason.NETWORK),
        (user(password(needs_allowlist=True)), Reason.NETWORK),
        (user(password(needs_allowlist=True), organization_networks=INSIDE), Reason.OK),
        (user(password(needs_allowlist=True, networks=INSIDE)), Reason.OK),
        (user(password(needs_allowlist=True), networks=()), Reason.NETWORK),
    ],
)
def test_the_reason_is_the_true_one(state: UserState, reason: Reason) -> None:
    """A list whose ranges have all ended holds nobody; a device secret works within some list only."""
    assert verdict(state) == Verdict(reason, 1)


def test_a_secret_of_an_older_pepper_is_accepted(settings: Any) -> None:
    """Rotation: listed second, it still verifies."""
    state = user()
    settings.GATEPOST_PEPPERS = [b"n" * 32, *settings.GATEPOST_PEPPERS]
    assert verdict(state).accepted
