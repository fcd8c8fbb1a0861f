"""Suppressed addresses for the pages to show: of each source, long ones, and more than a page of them."""

from accounts.models import Organization
from audit.changes import SYSTEM
from relay.models import Suppression
from relay.suppressions import import_text

LONG = "donaudampfschifffahrtselektrizitaetenhauptbetriebswerkbauunterbe"


def suppressions(full: Organization) -> None:
    import_text(full, text="\n".join(f"u{n}@example.net" for n in range(55)), note="Old provider", actor=SYSTEM)
    Suppression.objects.create(
        organization=full, address=f"{LONG}@{LONG[:60]}.example", source="added", reason=LONG * 3,
        created_by="you@example.net",
    )  # fmt: skip
    Suppression.objects.create(
        organization=full, address="gone@example.org", source="bounce", reference="K7Q2MX9TA4",
        reason="550 5.1.1 <gone@example.org>: Recipient address rejected: User unknown in virtual mailbox table",
    )  # fmt: skip
