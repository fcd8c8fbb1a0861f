"""What trying a route found."""

import django.db.models.deletion
import django.utils.timezone
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("relay", "0019_sending_domains")]
    operations = [
        migrations.CreateModel(
            name="RouteTrial",
            fields=[
                (
                    "route",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        primary_key=True,
                        related_name="trial",
                        serialize=False,
                        to="relay.namedroute",
                    ),
                ),
                ("destination", models.CharField(blank=True, max_length=253)),
                ("asked_at", models.DateTimeField(default=django.utils.timezone.now)),
                ("began_at", models.DateTimeField(null=True)),
                ("ended_at", models.DateTimeField(null=True)),
                ("found", models.JSONField(default=list)),
            ],
        ),
    ]
