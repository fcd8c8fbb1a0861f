"""Changes to a person's own account, told to each organization that the person belongs to.

Shapes  One ChangeEvent in the chain of every organization, in the installation's (0) if there is none: an owner sees
        when a member's second factor goes, and nobody's change is lost.
        Chains are taken by ascending id, so that two such changes cannot wait for each other.
"""

from typing import Any

from accounts.models import Membership, User
from audit.changes import Actor, record_change


def record_own_change(action: str, *, user: User, actor: Actor, values: dict[str, Any] | None = None) -> None:
    found = Membership.objects.filter(user=user).order_by("organization_id").values_list("organization_id", flat=True)
    for organization_id in list(found) or [0]:
        record_change(
            action,
            organization_id=organization_id,
            actor=actor,
            subject=user.email,
            subject_id=str(user.pk),
            values=values,
        )
