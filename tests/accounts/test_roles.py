"""The table of roles and permissions."""

import pytest

from accounts import roles
from accounts.models import Membership, Role


def may(role: str) -> set[str]:
    return set(roles.TABLE[role])


def test_every_role_has_a_row() -> None:
    """A role that is added without permissions would be a puzzle."""
    assert set(roles.TABLE) == set(Role.values)


def test_the_ladder() -> None:
    """Viewer sees; developer also sends; admin also manages; owner also rules."""
    assert may(Role.VIEWER) < may(Role.DEVELOPER) < may(Role.ADMIN) < may(Role.OWNER)


@pytest.mark.parametrize("permission", [roles.SMTP_USERS_CHANGE, roles.API_KEYS_CHANGE, roles.TEAM_CHANGE])
def test_viewer_and_billing_change_nothing_that_sends(permission: str) -> None:
    """Nor let others do."""
    assert permission not in may(Role.VIEWER) | may(Role.BILLING)


def test_billing_does_not_see_messages() -> None:
    """Who pays need not read."""
    assert not may(Role.BILLING) & {roles.MESSAGES_SEE, roles.AUTH_LOG_SEE, roles.SMTP_USERS_SEE}


def test_nobody_and_an_unknown_role_may_nothing() -> None:
    """Missing means no."""
    assert not roles.can(None, roles.PLAN_SEE)
    assert not roles.can(Membership(role="emperor"), roles.PLAN_SEE)
