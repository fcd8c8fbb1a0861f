"""Alerts about the relay's own addresses."""

from django.db import migrations, models

from audit.anomalies.models import Kind


class Migration(migrations.Migration):
    dependencies = [("audit", "0008_addresses")]
    operations = [migrations.AlterField("anomaly", "kind", models.CharField(choices=Kind.choices, max_length=16))]
