"""Mails to the people of an organization about its credentials: what ends, what sleeps, what has leaked.

Shapes  write(): one mail for each person, into Gatepost's own queue, within the caller's transaction: what is undone
        was never written. Templates: relay/mail/<name>.txt, plain text; links from GATEPOST_WEB_URL.
        Owners and admins hear of everything, who made a password of that one, if they are still members.
Units   LISTED_MAX: app passwords that one mail names; the page has the rest. PEOPLE_MAX: mails of one notice.
Errors  Those of the database.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from django.conf import settings
from django.db.models import Q
from django.template.loader import render_to_string
from django.urls import reverse

from accounts.mail import automatic
from accounts.models import Membership, Organization, Role, User

LISTED_MAX: Final = 50
PEOPLE_MAX: Final = 50


def people_of(organization_id: int, *, also: Iterable[int | None] = ()) -> list[User]:
    """Owners first, then admins, then who is named, each once."""
    answer_for_it = Q(role__in=[Role.OWNER, Role.ADMIN]) | Q(user__in=[each for each in also if each is not None])
    members = Membership.objects.filter(answer_for_it, organization=organization_id, user__is_active=True)
    ranks = {Role.OWNER: 0, Role.ADMIN: 1}
    found = members.exclude(user__email_confirmed_at=None).select_related("user")
    return [each.user for each in sorted(found, key=lambda each: (ranks.get(Role(each.role), 2), each.pk))][:PEOPLE_MAX]


def write(
    organization: Organization,
    *,
    name: str,
    subject: str,
    context: Mapping[str, Any],
    also: Iterable[int | None] = (),
) -> int:
    """How many people were written to."""
    people = people_of(organization.pk, also=also)
    base = {"organization": organization, "web_url": settings.GATEPOST_WEB_URL}
    body = render_to_string(f"relay/mail/{name}.txt", {**base, **context})
    for person in people:
        automatic(to=person.email, subject=" ".join(subject.split())[:200], body=body).send()
    return len(people)


def link(view_name: str, *args: Any) -> str:
    return f"{settings.GATEPOST_WEB_URL}{reverse(view_name, args=args)}"
