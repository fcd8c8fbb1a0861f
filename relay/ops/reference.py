"""From what somebody was told or has at hand to the page that explains it.

Shapes  find(text) -> Hits, each with the address of its page. told_by(reference) -> Told: the logins, the refusal and
        the message that carry it, of whatever organization.
Errors  None: what is nothing known finds nothing.
"""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import urlencode
from uuid import UUID

from django.db.models import Exists, OuterRef
from django.urls import reverse
from django.utils.translation import gettext as _

from accounts.models import Organization, User
from audit.models import AuthEvent
from relay.door_failures import Failure, failure_of
from relay.models import Message, Recipient, Refusal, SendingDomain, SmtpUser
from relay.ops.asked import address_of, network_of
from relay.pasted import reference_in
from relay.refusals import RefusalRow, refusal_rows

_MESSAGE_ID = re.compile(r"<?([^<>\s]+@[^<>\s]+)>?")
HITS = 10
MESSAGE_ID_DAYS = 7  # Message-ID has no index: the time range bounds the search


@dataclass(frozen=True, slots=True)
class Told:
    reference: str
    attempts: list[AuthEvent]
    refusals: list[RefusalRow]
    message: Message | None
    failure: Failure | None  # at the door, before a name was known

    def __bool__(self) -> bool:
        return bool(self.attempts or self.refusals or self.message or self.failure)


def told_by(reference: str) -> Told:
    messages = Message.objects.select_related("organization", "smtp_user").prefetch_related("recipients")
    attempts = list(AuthEvent.objects.filter(reference=reference).order_by("-at")[:HITS])
    return Told(
        reference=reference,
        attempts=attempts,
        refusals=refusal_rows(Refusal.objects.filter(reference=reference).order_by("-at")[:HITS]),
        message=messages.filter(reference=reference).first(),
        failure=None if attempts else failure_of(reference),
    )


@dataclass(frozen=True, slots=True)
class Hit:
    kind: str
    label: str
    url: str


def find(text: str, *, now: datetime) -> list[Hit]:
    """Every page that this text may mean, the surest first. One hit alone is where to go."""
    text = text.strip()
    if (reference := reference_in(text)) and told_by(reference):
        return [Hit(_("Reference"), reference, reverse("relay:ops_reference_page", args=[reference]))]
    if hits := _message_hits(text):
        return hits
    if ip := address_of(text):
        return [Hit(_("IP address"), ip, _address("relay:ops_ip", ip=ip))]
    if "/" in text and (network := network_of(text)):
        return [Hit(_("Network"), network, _address("relay:ops_auth_review", network=network, period="7d"))]
    return [*_username_hits(text), *_people_hits(text), *_mail_hits(text, now=now), *_customer_hits(text)]


def _address(view: str, /, **query: str) -> str:
    return f"{reverse(view)}?{urlencode(query)}"


def _message_hits(text: str) -> list[Hit]:
    try:
        key = UUID(text)
    except ValueError:
        return []
    found = Message.objects.filter(pk=key).exists()
    return [Hit(_("Message"), str(key), reverse("relay:ops_message", args=[key]))] if found else []


def _username_hits(text: str) -> list[Hit]:
    """An SMTP username, or any name that somebody has tried to sign in with."""
    hits = [
        Hit(_("SMTP user"), username, _address("relay:ops_username", name=username))
        for username in SmtpUser.objects.filter(username=text.lower()).values_list("username", flat=True)
    ]
    if not hits and AuthEvent.objects.filter(username_given=text).exists():
        hits = [Hit(_("Tried as username"), text, _address("relay:ops_username", name=text))]
    return hits


def _people_hits(text: str) -> list[Hit]:
    if "@" not in text:
        return []
    people = User.objects.filter(email=text.lower())
    joined = Organization.objects.filter(is_system=False, memberships__user__in=people)[:HITS]
    return [Hit(_("Member of"), each.name, reverse("relay:ops_customer", args=[each.pk])) for each in joined]


def _mail_hits(text: str, *, now: datetime) -> list[Hit]:
    """An address that received mail, or the Message-ID of a recent message."""
    if "@" not in text:
        return []
    hits = []
    if Recipient.objects.filter(address__in={text, text.lower()}).exists():
        hits.append(Hit(_("Mail to"), text, _address("relay:ops_messages", address=text)))
    if identifier := _MESSAGE_ID.fullmatch(text):
        recent = Message.objects.filter(received_at__gte=now - timedelta(days=MESSAGE_ID_DAYS))
        with_id = recent.filter(header_message_id__in={identifier[1], f"<{identifier[1]}>"})[:HITS]
        hits += [Hit(_("Message"), str(each.pk), reverse("relay:ops_message", args=[each.pk])) for each in with_id]
    return hits


def _customer_hits(text: str) -> list[Hit]:
    """By name, slug or domain. An address also finds who has added its domain."""
    domain = text.rpartition("@")[2].lower()
    added = Exists(SendingDomain.objects.filter(organization=OuterRef("pk"), name=domain))
    rows = Organization.objects.filter(is_system=False)
    by_domain = [(_("Customer with the domain"), each) for each in rows.filter(added)[:HITS]]
    by_name = [(_("Customer"), each) for each in rows.filter(name__icontains=text)[:HITS]] if "@" not in text else []
    by_slug = [(_("Customer"), each) for each in rows.filter(slug=text.lower())]
    found = {each.pk: (kind, each) for kind, each in (*by_name, *by_slug, *by_domain)}
    return [Hit(kind, each.name, reverse("relay:ops_customer", args=[pk])) for pk, (kind, each) in found.items()]
