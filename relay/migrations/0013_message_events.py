"""What was done to accepted mail while it waited."""

import django.db.models.deletion
import django.utils.timezone
from django.db import migrations, models

from relay.models.message_events import MessageEvent


class Migration(migrations.Migration):
    dependencies = [("relay", "0012_door_failures")]
    operations = [
        migrations.CreateModel(
            name="MessageEvent",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("at", models.DateTimeField(default=django.utils.timezone.now)),
                ("kind", models.CharField(choices=MessageEvent.Kind.choices, max_length=9)),
                ("actor", models.CharField(blank=True, max_length=320)),
                ("note", models.CharField(blank=True, max_length=512)),
                (
                    "message",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="events", to="relay.message"
                    ),
                ),
                (
                    "recipient",
                    models.ForeignKey(
                        null=True, on_delete=django.db.models.deletion.CASCADE, related_name="+", to="relay.recipient"
                    ),
                ),
            ],
        ),
    ]
