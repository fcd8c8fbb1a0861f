"""Money of the seeded customer: months paid, overdue and open, a credit note, and a smaller plan from the next one.

Shapes  billing(organization) -> invoice_id (an overdue one) and credit_id.
"""

from datetime import timedelta

from django.utils import timezone

from accounts import plans
from accounts.billing import subscriptions
from accounts.billing.invoices import credit, open_cents
from accounts.billing.models import Invoice
from accounts.billing.payments import record_payment
from accounts.billing.profiles import save_profile
from accounts.models import Organization
from audit.changes import SYSTEM
from relay.usage_advice import make_advice


def billing(organization: Organization) -> dict[str, int]:
    now = timezone.now()
    name = f"Frieda & <b>Söhne</b> {'unbroken' * 18}"
    values = {"name": name[:200], "address": "1 Mill Lane\nGateshead", "tax_id": "GB 999 9999 73"}
    save_profile(organization, values=values, actor=SYSTEM)
    subscriptions.begin(organization, now=now - timedelta(days=70))
    middle = now - timedelta(days=55)
    plans.change_plan(organization, plan=plans.present_plan("premium"), actor=SYSTEM, now=middle)
    subscriptions.renew_due(now)
    first, second, third = Invoice.objects.filter(organization=organization).order_by("number")
    record_payment(first, amount_cents=open_cents(first), reference="bank 2026-17", actor=SYSTEM)
    note = credit(third, reason="an outage of ours", net_cents=3_000, actor=SYSTEM)
    plans.change_plan(organization, plan=plans.present_plan("trial"), actor=SYSTEM)
    make_advice()
    return {"invoice_id": second.pk, "credit_id": note.pk}
