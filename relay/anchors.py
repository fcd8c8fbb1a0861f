"""Tells the heads of the chains of changes to the world: a line of the log, and mail to those whom the chain is about.

Shapes  send_anchors() -> the anchors that were told. One mail for each person, with every chain that is theirs: owners
        get their organizations', operators the installation's (0).
Errors  Those of the mail: the rows of the anchors are written with it or not at all, and the next run tells them.
Source  audit/anchors.py; docs/security.md.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from django.db import transaction
from django.utils.translation import gettext as _

from accounts.mail import link, send_mail
from accounts.models import Membership, Organization, Role, User
from audit.anchors import take_anchors
from audit.changes import Anchor
from relay.logs import get_logger

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Told:
    """An anchor, and whose chain it is of ("" for the installation's)."""

    anchor: Anchor
    name: str
    url: str


def send_anchors(now: datetime | None = None) -> list[Anchor]:
    """Of every chain that has grown since it was told last."""
    with transaction.atomic():
        anchors = take_anchors(now)
        for email, told in _by_person(anchors).items():
            send_mail("change_anchor", to=email, subject=_("Anchor of your change log"), context={"told": told})
        transaction.on_commit(lambda: _log(anchors))
    return anchors


def _log(anchors: Iterable[Anchor]) -> None:
    for each in anchors:
        log.info(
            "audit.anchor",
            organization=each.organization_id,
            sequence=each.sequence,
            link=each.link,
            anchor=str(each),
        )


def _by_person(anchors: Iterable[Anchor]) -> dict[str, list[Told]]:
    """E-mail address -> what its owner is told."""
    of = {each.organization_id: each for each in anchors}
    found: dict[str, list[Told]] = defaultdict(list)
    owners = Membership.objects.filter(role=Role.OWNER, organization__in=of, user__is_active=True)
    for owner in owners.select_related("user", "organization").order_by("organization__name"):
        found[owner.user.email].append(_told(of[owner.organization_id], owner.organization))
    if 0 in of:
        for operator in User.objects.filter(is_operator=True, is_active=True):
            found[operator.email].append(Told(of[0], "", link("relay:ops_changes")))
    return found


def _told(anchor: Anchor, organization: Organization) -> Told:
    return Told(anchor, organization.name, link("relay:change_log"))
