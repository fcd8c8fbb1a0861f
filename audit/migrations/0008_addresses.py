"""Addresses found at once: of the whole installation in the events, and of a day in the sums."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("audit", "0007_change_anchors")]
    operations = [
        migrations.RemoveIndex("authday", "auth_day_ip"),
        migrations.AddIndex(
            "authday",
            models.Index(fields=["day", "ip", "organization_id", "result", "reason"], name="auth_day_address"),
        ),
        migrations.AddIndex("authevent", models.Index(fields=["ip", "kind", "-at"], name="auth_event_address_kind")),
    ]
