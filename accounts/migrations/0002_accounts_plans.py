"""The four tiers that are sold, the hidden plan of Gatepost's own mail, and the organization that owns that mail."""

from django.db import migrations

# code, name, price_cents, recipients_per_hour, is_visible
PLANS = (
    ("trial", "Trial", 5_000, 1_000, True),
    ("standard", "Standard", 14_500, 1_500, True),
    ("premium", "Premium", 18_500, 3_000, True),
    ("professional", "Professional", 22_500, 5_000, True),
    ("internal", "Internal", 0, 1_000_000_000, False),
)


def seed(apps, schema_editor):
    Plan = apps.get_model("accounts", "Plan")
    for position, (code, name, price_cents, recipients_per_hour, is_visible) in enumerate(PLANS, start=1):
        Plan.objects.get_or_create(
            code=code,
            defaults={
                "name": name,
                "price_cents": price_cents,
                "currency": "USD",
                "recipients_per_hour": recipients_per_hour,
                "is_visible": is_visible,
                "position": position,
            },
        )
    system, _ = apps.get_model("accounts", "Organization").objects.get_or_create(
        is_system=True, defaults={"name": "Gatepost", "slug": "gatepost", "state": "active"}
    )
    apps.get_model("accounts", "Subscription").objects.get_or_create(
        organization=system, defaults={"plan": Plan.objects.get(code="internal")}
    )


class Migration(migrations.Migration):
    dependencies = [("accounts", "0001_initial")]

    # Backwards nothing is deleted: subscriptions refer to the plans, and the system's mail to its organization.
    operations = [migrations.RunPython(seed, migrations.RunPython.noop)]
