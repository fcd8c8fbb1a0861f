"""What a member may do: the one table of roles and permissions.

Shapes  Permission: a name that a view asks for. TABLE: role -> permissions. Views ask `can(membership, X)`.
Source  docs/data.md.
"""

from collections.abc import Mapping
from typing import Final

from accounts.models import ApiKey, Membership, Role

SMTP_USERS_SEE: Final = "smtp_users.see"
SMTP_USERS_CHANGE: Final = "smtp_users.change"
MESSAGES_SEE: Final = "messages.see"
MESSAGES_CHANGE: Final = "messages.change"
AUTH_LOG_SEE: Final = "auth_log.see"
DOMAINS_CHANGE: Final = "domains.change"
PLAN_SEE: Final = "plan.see"
PLAN_CHANGE: Final = "plan.change"
TEAM_SEE: Final = "team.see"
TEAM_CHANGE: Final = "team.change"
API_KEYS_CHANGE: Final = "api_keys.change"
ORGANIZATION_CHANGE: Final = "organization.change"
CHANGE_LOG_SEE: Final = "change_log.see"
ALERTS_SEE: Final = "alerts.see"
ALERTS_CHANGE: Final = "alerts.change"  # to answer them; who may is told of them by mail

_SEES: Final = frozenset({SMTP_USERS_SEE, MESSAGES_SEE, AUTH_LOG_SEE, PLAN_SEE, TEAM_SEE, ALERTS_SEE, CHANGE_LOG_SEE})
_SENDS: Final = _SEES | {SMTP_USERS_CHANGE, MESSAGES_CHANGE, DOMAINS_CHANGE, API_KEYS_CHANGE, ALERTS_CHANGE}

TABLE: Final[Mapping[str, frozenset[str]]] = {
    Role.OWNER: _SENDS | {PLAN_CHANGE, TEAM_CHANGE, ORGANIZATION_CHANGE},
    Role.ADMIN: _SENDS | {PLAN_CHANGE, TEAM_CHANGE},
    Role.DEVELOPER: _SENDS,
    Role.BILLING: frozenset({PLAN_SEE, PLAN_CHANGE, TEAM_SEE}),
    Role.VIEWER: _SEES,
}


def can(membership: Membership | None, permission: str) -> bool:
    return membership is not None and permission in TABLE.get(membership.role, frozenset())


# What a key with this scope may do asks for this permission in the panel; every other scope is within API_KEYS_CHANGE.
_SCOPES: Final[Mapping[str, str]] = {ApiKey.Scope.POLICIES_WRITE: ORGANIZATION_CHANGE}


def may_give_scope(membership: Membership | None, scope: str) -> bool:
    """Nobody makes a key that may do more than its maker."""
    return can(membership, API_KEYS_CHANGE) and can(membership, _SCOPES.get(scope, API_KEYS_CHANGE))


def roles_with(permission: str) -> list[str]:
    return [role for role, permissions in TABLE.items() if permission in permissions]


def may_give(membership: Membership, role: str) -> bool:
    """Only an owner makes owners, or touches one: an admin must not be able to raise itself."""
    return can(membership, TEAM_CHANGE) and (role != Role.OWNER or membership.role == Role.OWNER)
