"""What the world thinks of the relay's addresses, kept self-checks, and customers' tests of the way in."""

import django.db.models.deletion
import django.utils.timezone
from django.db import migrations, models

from relay.models.connection_tests import ConnectionTest
from relay.models.reputation import ReputationSpan


class Migration(migrations.Migration):
    dependencies = [("accounts", "0001_initial"), ("relay", "0020_route_trial")]
    operations = [
        migrations.CreateModel(
            name="ReputationSpan",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("check_kind", models.CharField(choices=ReputationSpan.Check.choices, max_length=9)),
                ("address", models.GenericIPAddressField()),
                ("zone", models.CharField(blank=True, max_length=253)),
                ("state", models.CharField(choices=ReputationSpan.State.choices, max_length=8)),
                ("detail", models.CharField(blank=True, max_length=500)),
                ("began_at", models.DateTimeField()),
                ("last_at", models.DateTimeField()),
                ("ended_at", models.DateTimeField(null=True)),
            ],
            options={
                "indexes": [models.Index(fields=["-began_at"], name="reputation_began")],
                "constraints": [
                    models.UniqueConstraint(
                        condition=models.Q(("ended_at", None)),
                        fields=("check_kind", "address", "zone"),
                        name="reputation_now",
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="SelfCheck",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("at", models.DateTimeField()),
                ("took_ms", models.IntegerField()),
                ("state", models.CharField(max_length=4)),
                ("findings", models.JSONField(default=list)),
                ("version", models.CharField(max_length=32)),
                ("asked_by", models.CharField(blank=True, max_length=320)),
            ],
            options={"indexes": [models.Index(fields=["-at"], name="self_check_at")]},
        ),
        migrations.CreateModel(
            name="ConnectionTest",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("ip", models.GenericIPAddressField()),
                ("started_at", models.DateTimeField(default=django.utils.timezone.now)),
                ("started_by", models.CharField(max_length=320)),
                ("outcome", models.CharField(blank=True, choices=ConnectionTest.Outcome.choices, max_length=9)),
                ("ended_at", models.DateTimeField(null=True)),
                (
                    "organization",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="connection_tests",
                        to="accounts.organization",
                    ),
                ),
                (
                    "smtp_user",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="connection_tests",
                        to="relay.smtpuser",
                    ),
                ),
            ],
            options={"indexes": [models.Index(fields=["organization", "-started_at"], name="connection_test_newest")]},
        ),
    ]
