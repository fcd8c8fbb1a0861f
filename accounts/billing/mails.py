"""Mails of billing: a new invoice, and each step of dunning.

Shapes  To the address of the billing profile, else to owners and those who do the billing. Templates:
        accounts/mail/invoice.txt and dunning.txt, plain text.
        Within the caller's transaction, into Gatepost's own queue: what is undone was never written.
Errors  Those of the database.
"""

from django.conf import settings
from django.template.loader import render_to_string
from django.utils.translation import gettext as _

from accounts.billing.models import BillingProfile, Invoice
from accounts.mail import automatic, link
from accounts.models import Membership, Role

PEOPLE_MAX = 20


def people_of(organization_id: int) -> list[str]:
    profile = BillingProfile.objects.filter(organization_id=organization_id).first()
    if profile is not None and profile.email:
        return [profile.email]
    members = Membership.objects.filter(
        organization_id=organization_id, role__in=[Role.OWNER, Role.BILLING], user__is_active=True
    ).exclude(user__email_confirmed_at=None)
    return list(members.order_by("pk").values_list("user__email", flat=True)[:PEOPLE_MAX])


def tell_of_invoice(invoice: Invoice) -> None:
    from accounts.billing.pdf import document  # a second of imports that web processes do not need at their start

    subject = _("Invoice %(number)s") % {"number": invoice}
    _send("invoice", invoice, subject, pdf=document(invoice))


def tell_of_dunning(invoice: Invoice, step: str) -> None:
    subjects = {
        "hold": _("Sending is held: invoice %(number)s is overdue"),
        "suspend": _("The account is suspended: invoice %(number)s is overdue"),
    }
    subject = subjects.get(step, _("Invoice %(number)s is overdue")) % {"number": invoice}
    _send("dunning", invoice, subject, step=step)


def _send(name: str, invoice: Invoice, subject: str, *, pdf: bytes = b"", **context: str) -> None:
    words = {"invoice": invoice, "link": link("relay:invoice", invoice.pk), "web_url": settings.GATEPOST_WEB_URL}
    body = render_to_string(f"accounts/mail/{name}.txt", words | context)
    for address in people_of(invoice.organization_id):
        mail = automatic(to=address, subject=subject, body=body)
        if pdf:
            mail.attach(f"{invoice}.pdf", pdf, "application/pdf")
        mail.send()
