"""To whom invoices are made out, and where they go.

Shapes  save_profile() records which of the values changed. Invoices that were issued stay as they are.
Errors  Those of the database; values come from a form that has judged them.
"""

from collections.abc import Mapping
from typing import Any

from django.db import transaction

from accounts.billing.models import BillingProfile
from accounts.models import Organization
from audit.changes import Actor, changed, record_change


def save_profile(organization: Organization, *, values: Mapping[str, Any], actor: Actor) -> BillingProfile:
    with transaction.atomic():
        Organization.objects.select_for_update(no_key=True).get(pk=organization.pk)
        before = BillingProfile.objects.filter(organization=organization).first() or BillingProfile()
        difference = changed({name: getattr(before, name) for name in values}, values)
        saved, _made = BillingProfile.objects.update_or_create(organization=organization, defaults=dict(values))
        if difference:
            record_change(
                "billing_profile.changed",
                organization_id=organization.pk,
                actor=actor,
                subject=saved.name or organization.name,
                values=difference,
            )
    return saved
