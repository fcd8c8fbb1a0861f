"""From where a change was made, and heads of the chains as they were told outside."""

import django.utils.timezone
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("audit", "0006_sums_at_once")]
    operations = [
        migrations.AddField("changeevent", "ip", models.GenericIPAddressField(null=True)),
        migrations.CreateModel(
            name="ChangeAnchor",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("organization_id", models.BigIntegerField()),
                ("sequence", models.BigIntegerField()),
                ("link", models.BinaryField(max_length=32)),
                ("at", models.DateTimeField(default=django.utils.timezone.now)),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(fields=("organization_id", "sequence"), name="change_anchor_sequence")
                ],
            },
        ),
    ]
